{#-- Exact sums where numbers of any length can be added up (PostgreSQL's numeric): no halves, no parts and no ranges. Integers and
     decimals are summed as they are, doubles in units of 2^-70 (see _units), and spreads are made from exact sums of squares. NaN and
     the infinities have no units: they are counted, and a window that holds one is what they make of it.

     These take the place of the macros of the same names in _window_amounts.sql and _window_strays.sql. --#}


{#-- {column: SQL on `source`} that `_fs_events` gets beside the values. --#}
{% macro postgres___amount_columns(spec) %}
    {%- set types = feature_store._types() -%}
    {%- set columns = {} -%}
    {%- for aggregate in spec.aggregates -%}
        {%- set of = aggregate.of -%}
        {%- set value = 'source.' ~ aggregate.value -%}
        {%- if aggregate.kind == 'double' and aggregate.function in ('min', 'max') -%}
            {%- do columns.update({'_fs_zero' ~ of: feature_store._zero(value)}) -%}
        {%- elif aggregate.kind == 'double' and aggregate.subtracts and aggregate.function not in ('count', 'count_distinct') -%}
            {%- set double = value if aggregate.type | lower == types.double else 'cast(' ~ value ~ ' as ' ~ types.double ~ ')' -%}
            {%- do columns.update({
                '_fs_units' ~ of: feature_store.postgres___units(double),
                '_fs_nan' ~ of: 'case when ' ~ double ~ " = 'NaN' then 1 else 0 end",
                '_fs_up' ~ of: 'case when ' ~ double ~ " = 'Infinity' then 1 else 0 end",
                '_fs_down' ~ of: 'case when ' ~ double ~ " = '-Infinity' then 1 else 0 end",
            }) -%}
        {%- elif aggregate.spread -%}
            {%- do columns.update({'_fs_units' ~ of: 'cast(' ~ value ~ ' as ' ~ types.numeric ~ ')'}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}


{#-- {total: what an event adds to it} for what the outputs of a part are computed from. --#}
{% macro postgres___amounts(outputs) %}
    {%- set types = feature_store._types() -%}
    {%- set amounts = {} -%}
    {%- for aggregate in outputs | map(attribute='aggregate') | unique(attribute='name') -%}
        {%- set of = aggregate.of -%}
        {%- do amounts.update({'_fs_count' ~ of: 'case when ' ~ aggregate.value ~ ' is null then 0 else 1 end'}) -%}
        {%- if aggregate.function in ('count', 'count_distinct') -%}
        {%- elif aggregate.kind != 'double' and not aggregate.spread -%}
            {%- do amounts.update({'_fs_sum' ~ of: 'cast(' ~ aggregate.value ~ ' as ' ~ types.numeric ~ ')'}) -%}
        {%- else -%}
            {%- set units = '_fs_units' ~ of -%}
            {%- do amounts.update({units: units}) -%}
            {%- if aggregate.spread -%}
                {%- do amounts.update({'_fs_squares' ~ of: units ~ ' * ' ~ units}) -%}
            {%- endif -%}
            {%- for endless in ('_fs_nan', '_fs_up', '_fs_down') if aggregate.kind == 'double' -%}
                {%- do amounts.update({endless ~ of: endless ~ of}) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(amounts) -%}
{% endmacro %}


{#-- The CTE `name`: `relation` and the variances, exact but for one division. --#}
{% macro postgres___spreads(name, relation, aggregates) -%}
-- the variances, exact but for one division
{{ name }} as (
    select
        *,
        {% for aggregate in aggregates -%}
        {%- set n, of = '_fs_count' ~ aggregate.of, aggregate.of -%}
        ({{ n }} * _fs_squares{{ of }} - _fs_units{{ of }} * _fs_units{{ of }})
            / nullif({{ n }} * ({{ n }} - 1), 0){{ ' / power(4.0, 70)' if aggregate.kind == 'double' }} as _fs_variance{{ of }}
            {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
)
{%- endmacro %}


{#-- An aggregate from the exact totals of its window. --#}
{% macro postgres___finished(aggregate, of) -%}
    {%- set types = feature_store._types() -%}
    {%- set count = '_fs_count' ~ of -%}
    {%- if aggregate.function in ('count', 'count_distinct') -%}
        cast({{ count }} as {{ types.bigint }})
    {%- elif aggregate.spread -%}
        case
            when {{ count }} < 2 then null
            {%- if aggregate.kind == 'double' %}
            when _fs_nan{{ of }} + _fs_up{{ of }} + _fs_down{{ of }} > 0 then 'NaN'
            {%- endif %}
            when _fs_variance{{ of }} > 1.797e308 then 'Infinity'
            else {{ 'sqrt(' if aggregate.function == 'stddev' -}}
                cast(round(_fs_variance{{ of }}, 323) as {{ types.double }}){{ ')' if aggregate.function == 'stddev' }}
        end
    {%- elif aggregate.kind == 'double' -%}
        {{ feature_store._double_of_units(
            aggregate.function, '_fs_units' ~ of, count, '_fs_nan' ~ of, '_fs_up' ~ of, '_fs_down' ~ of
        ) }}
    {%- else -%}
        case when {{ count }} > 0 then {{ feature_store._stated_sum(aggregate, '_fs_sum' ~ of, count) }} end
    {%- endif -%}
{%- endmacro %}

{#-- A sum or average of doubles from its units; beyond a double it is infinite. --#}
{% macro _double_of_units(function, units, count, nan, up, down) -%}
    {%- set types = feature_store._types() -%}
    case
            when {{ count }} = 0 then null
            when {{ nan }} > 0 or {{ up }} > 0 and {{ down }} > 0 then 'NaN'
            when {{ up }} > 0 then 'Infinity'
            when {{ down }} > 0 then '-Infinity'
            when abs({{ units }}) < 1e300 and abs({{ units }}) > 1e-280 or {{ units }} = 0
                then cast({{ units }} as {{ types.double }}) / pow(2, 70)
            when abs({{ units }}) > 2.1e329 then sign({{ units }}) * cast('Infinity' as {{ types.double }})
            else cast(round({{ units }} / 1180591620717411303424, 323) as {{ types.double }})
        end{{ ' / ' ~ count if function == 'avg' }}
{%- endmacro %}


{#-- An aggregate over the events of a window: `of_window` says which, as ` filter (where ...)` or ` over ...`. Not for spreads. --#}
{% macro postgres___aggregate(aggregate, prefix, of_window) -%}
    {%- set types = feature_store._types() -%}
    {%- set value = prefix ~ aggregate.value -%}
    {%- set of = aggregate.of -%}
    {%- set count = 'count(' ~ value ~ ')' ~ of_window -%}
    {%- if aggregate.function == 'count_distinct' -%}
        count(distinct {{ value }}){{ of_window }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind == 'double' -%}
        {#- The aggregates are of the query around: a query of one row gives them their names. -#}
        (
            select
                {{ feature_store._double_of_units(aggregate.function, 'units', 'rows', 'nan', 'up', 'down') | indent(8) }}
            from (
                select
                    {{ count }} as rows,
                    {%- for total in ('units', 'nan', 'up', 'down') %}
                    sum({{ prefix }}_fs_{{ total }}{{ of }}){{ of_window }} as {{ total }}{{ ',' if not loop.last }}
                    {%- endfor %}
            ) as sums
        )
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.subtracts -%}
        {#- A sum of integers never overflows here. -#}
        {%- set summand = value if aggregate.kind == 'integer' else 'cast(' ~ value ~ ' as ' ~ types.numeric ~ ')' -%}
        {{ feature_store._stated_sum(aggregate, 'sum(' ~ summand ~ ')' ~ of_window, count) }}
    {%- elif aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
        {{ feature_store._signed_zero(aggregate.function, value, prefix ~ '_fs_zero' ~ of, of_window) }}
    {%- else -%}
        {{ aggregate.function }}({{ value }}){{ of_window }}
    {%- endif -%}
{%- endmacro %}


{% macro postgres___has_strays(spec) %}
    {%- do return(false) -%}
{% endmacro %}
