{#-- Exact sums. The bytes that come out must depend on the values of the window alone: not on their order, on threads, on other
     entities, or on how the SQL is cut. Sums of integers do that, and they subtract; so every number is added up as whole units:

     integer, decimal     as they are; a decimal's spread in its last digit
     wide integer/decimal  in two halves of 64 bits, as a running total of them would not fit (beyond 64 bits, or 28 digits)
     double               in units of 2^-70, where its magnitude lies from 2^-20 to 2^29 (1e-6 to 5e8). Others are strays, each with
                          its `_fs_stray`: the range of 46 powers of two that it lies in, which has units of its own. See _window_strays.sql

     stddev and variance need sums of squares too. A unit of up to 99 bits is cut into `high` * 2^50 + `low`, so that the sums of
     `high`^2, `high` * `low` and `low`^2 fit into 128 bits for a hundred million rows.

     Columns are called after what they hold and the value they are of (`_of_amount`): `_fs_count_of_amount`, `_fs_sum_of_amount`. --#}


{#-- {column: SQL on `source`} that `_fs_events` gets beside the values. --#}
{% macro _amount_columns(spec) %}
    {%- do return(adapter.dispatch('_amount_columns', 'feature_store')(spec)) -%}
{% endmacro %}

{% macro default___amount_columns(spec) %}
    {%- set types = feature_store._types() -%}
    {%- set columns = {} -%}
    {%- for aggregate in spec.aggregates -%}
        {%- set of = aggregate.of -%}
        {%- set value = 'source.' ~ aggregate.value -%}
        {%- set double = 'cast(' ~ value ~ ' as ' ~ types.double ~ ')' if aggregate.type | upper != 'DOUBLE' else value -%}
        {%- set units = feature_store._whole_number(value, aggregate) -%}
        {%- if aggregate.scaled -%}
            {%- set scaled = double ~ ' * pow(2, 20)' -%}
            {%- do columns.update({'_fs_stray' ~ of: feature_store._stray(double)}) -%}
            {%- if aggregate.spread -%}
                {#- `low` is what is left of a double after its high part: both are exact. -#}
                {%- set rest = '(' ~ scaled ~ ' - trunc(' ~ scaled ~ ')) * pow(2, 50)' -%}
                {%- do columns.update({
                    '_fs_high' ~ of: feature_store._no_stray(of, 'cast(trunc(' ~ scaled ~ ') as ' ~ types.bigint ~ ')'),
                    '_fs_low' ~ of: feature_store._no_stray(of, 'cast(' ~ rest ~ ' as ' ~ types.bigint ~ ')'),
                }) -%}
            {%- else -%}
                {%- set units = 'cast(' ~ double ~ ' * pow(2, 70) as ' ~ types.whole ~ ')' -%}
                {%- do columns.update({'_fs_units' ~ of: feature_store._no_stray(of, units)}) -%}
            {%- endif -%}
        {%- elif aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
            {%- do columns.update({'_fs_zero' ~ of: feature_store._zero(value)}) -%}
        {%- elif aggregate.spread -%}
            {%- do columns.update({
                '_fs_high' ~ of: 'cast(\n            ' ~ units ~ ' // 1125899906842624 as ' ~ types.bigint ~ '\n        )',
                '_fs_low' ~ of: 'cast(\n            ' ~ units ~ ' % 1125899906842624 as ' ~ types.bigint ~ '\n        )',
            }) -%}
        {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
            {%- set half = 'cast(18446744073709551616 as ' ~ (aggregate.type if aggregate.kind == 'wide integer' else types.whole) ~ ')' -%}
            {%- do columns.update({
                '_fs_upper' ~ of: 'cast(\n            ' ~ units ~ ' // ' ~ half ~ ' as ' ~ types.whole ~ '\n        )',
                '_fs_lower' ~ of: 'cast(\n            ' ~ units ~ ' % ' ~ half ~ ' as ' ~ types.whole ~ '\n        )',
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}

{#-- NULL where a double is no stray; 1000 for infinity, 1001 for minus infinity, 1002 for NaN. --#}
{% macro _stray(double) -%}
    {%- set types = feature_store._types() -%}
    case
            when {{ double }} is null or {{ double }} = 0 then null
            when abs({{ double }}) >= pow(2, -20) and abs({{ double }}) < pow(2, 29) then null
            when isnan({{ double }}) then 1002
            when isinf({{ double }}) then case when {{ double }} > 0 then 1000 else 1001 end
            else cast(floor((log2(abs({{ double }})) + 17) / 46) as {{ types.integer }})
        end
{%- endmacro %}

{#-- `_fs_stray...` is a column of the same SELECT; the CASE keeps what would overflow from being computed. --#}
{% macro _no_stray(of, sql) -%}
    case
            when _fs_stray{{ of }} is null
                then {{ sql }}
        end
{%- endmacro %}

{#-- A decimal in units of its last digit. --#}
{% macro _whole_number(value, aggregate) -%}
    {%- set types = feature_store._types() -%}
    {%- if 'decimal' in aggregate.kind -%}
        cast(replace(cast({{ value }} as {{ types.text }}), '.', '') as {{ types.whole }})
    {%- elif aggregate.kind == 'integer' -%}
        cast({{ value }} as {{ types.whole }})
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}

{#-- 0 for -0.0 and 1 for 0.0, which engines take for equal; NULL for every other double. --#}
{% macro _zero(value) %}
    {%- set zero = '\n            when ' ~ value ~ ' = 0' -%}
    {%- set negative = adapter.dispatch('_is_negative', 'feature_store')(value) -%}
    {%- do return('case' ~ zero ~ ' and ' ~ negative ~ ' then 0' ~ zero ~ ' then 1\n        end') -%}
{% endmacro %}

{% macro default___is_negative(value) -%}
    {%- set types = feature_store._types() -%}
    cast({{ value }} as {{ types.text }}) like '-%'
{%- endmacro %}

{% macro duckdb___is_negative(value) -%}
    signbit({{ value }})
{%- endmacro %}


{#-- {total: what an event adds to it} for what the outputs of a part are computed from. --#}
{% macro _amounts(outputs) %}
    {%- do return(adapter.dispatch('_amounts', 'feature_store')(outputs)) -%}
{% endmacro %}

{% macro default___amounts(outputs) %}
    {%- set amounts = {} -%}
    {%- for aggregate in outputs | map(attribute='aggregate') | unique(attribute='name') -%}
        {%- set of = aggregate.of -%}
        {%- if aggregate.spread -%}
            {%- do amounts.update({'_fs_numbers' ~ of: 'case when _fs_high' ~ of ~ ' is null then 0 else 1 end'}) -%}
            {%- do amounts.update(feature_store._cut_amounts(of)) -%}
        {%- elif aggregate.scaled -%}
            {%- do amounts.update({
                '_fs_evens' ~ of: 'case when _fs_units' ~ of ~ ' is null then 0 else 1 end',
                '_fs_units' ~ of: '_fs_units' ~ of,
            }) -%}
        {%- else -%}
            {%- do amounts.update({'_fs_count' ~ of: 'case when ' ~ aggregate.value ~ ' is null then 0 else 1 end'}) -%}
            {%- if aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
                {%- do amounts.update({'_fs_upper' ~ of: '_fs_upper' ~ of, '_fs_lower' ~ of: '_fs_lower' ~ of}) -%}
            {%- elif aggregate.function in ('sum', 'avg') -%}
                {%- do amounts.update({'_fs_sum' ~ of: feature_store._summand(aggregate, aggregate.value)}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(amounts) -%}
{% endmacro %}

{#-- The same for what a spread is computed from: the two parts of a number, their squares and their product. --#}
{% macro _cut_amounts(of) %}
    {%- set types = feature_store._types() -%}
    {%- set high, low = '_fs_high' ~ of, '_fs_low' ~ of -%}
    {%- do return({
        high: high,
        low: low,
        '_fs_high_squares' ~ of: 'cast(' ~ high ~ ' as ' ~ types.whole ~ ') * ' ~ high,
        '_fs_products' ~ of: 'cast(' ~ high ~ ' as ' ~ types.whole ~ ') * ' ~ low,
        '_fs_low_squares' ~ of: 'cast(' ~ low ~ ' as ' ~ types.whole ~ ') * ' ~ low,
    }) -%}
{% endmacro %}

{% macro _summand(aggregate, value) -%}
    {{- return(adapter.dispatch('_summand', 'feature_store')(aggregate, value)) -}}
{%- endmacro %}

{% macro default___summand(aggregate, value) -%}
    {%- if aggregate.kind == 'integer' -%}
        cast({{ value }} as {{ feature_store._types().whole }})
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}

{#-- The CTE `_fs_by_<name>`, a row for each `_fs_row`, from `_fs_<name>_windows`, which has a row for each `_fs_row` and `_fs_window` with
     the totals of that window. Also what is between: spreads take two steps. --#}
{% macro _finish_windows(name, outputs) -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='name') | list -%}
    {%- set spreads = aggregates | selectattr('spread') | unique(attribute='of') | list -%}
    {%- if spreads -%}
{{ adapter.dispatch('_spreads', 'feature_store')('_fs_' ~ name ~ '_spreads', '_fs_' ~ name ~ '_windows', spreads) }},

{% endif -%}
-- the aggregates of each window
_fs_{{ name }}_values as (
    select
        _fs_row,
        _fs_window,
        {% for aggregate in aggregates -%}
        {{ adapter.dispatch('_finished', 'feature_store')(aggregate, aggregate.of) }}
        {{- ' as ' ~ feature_store._quoted(aggregate.name) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_{{ name }}_{{ 'spreads' if spreads else 'windows' }}
),

{{ feature_store._side_by_side(name, outputs) }}
{%- endmacro %}


{#-- The CTE `_fs_by_<name>` from `_fs_<name>_values`: a row a window becomes a column a window. --#}
{% macro _side_by_side(name, outputs) -%}
-- the windows of a moment beside each other
_fs_by_{{ name }} as (
    select
        _fs_row,
        {% for output in outputs -%}
{%- set value = feature_store._quoted(output.aggregate.name) -%}
        {{ feature_store._any_value(value, "_fs_window = '" ~ output.window.slug ~ "'") }} as {{ feature_store._quoted(output.column) }}
        {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_{{ name }}_values
    group by _fs_row
)
{%- endmacro %}


{#-- The CTE `name`: `relation` and what the spreads of `aggregates` are finished from. --#}
{% macro default___spreads(name, relation, aggregates) -%}
    {{ feature_store._centre(name, relation, aggregates | map(attribute='of') | list) }}
{%- endmacro %}


{#-- The CTE `name`: `relation` and, for each value, what the sum of squares about its mean is made from, in units. With the mean as a
     whole number of units, `mean_high` * 2^50 + `mean_low` and a remainder, every term is exact until they are added up, and nothing
     cancels. --#}
{% macro _centre(name, relation, values) -%}
-- the mean of each spread in whole units, and what is left over
{{ name }} as (
    select
        *,
        {% for of in values -%}
        {%- set high, low, n = '_fs_mean_high' ~ of, '_fs_mean_low' ~ of, '_fs_numbers' ~ of -%}
        -- sums of squares and products of the distances from the mean
        _fs_high_squares{{ of }}
            - 2 * {{ high }} * _fs_high{{ of }}
            + {{ n }} * {{ high }} * {{ high }} as _fs_high_distances{{ of }},
        _fs_products{{ of }}
            - {{ low }} * _fs_high{{ of }}
            - {{ high }} * _fs_low{{ of }}
            + {{ n }} * {{ high }} * {{ low }} as _fs_mixed_distances{{ of }},
        _fs_low_squares{{ of }}
            - 2 * {{ low }} * _fs_low{{ of }}
            + {{ n }} * {{ low }} * {{ low }} as _fs_low_distances{{ of }},
        _fs_remainder{{ of }} - {{ low }} * {{ n }} as _fs_rest{{ of }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (
        select
            *,
            {% for of in values -%}
            {%- set remainder, n = '_fs_remainder' ~ of, '_fs_numbers' ~ of -%}
            -- rounded to the nearest
            (2 * {{ remainder }} + sign({{ remainder }}) * {{ n }})
                // nullif(2 * {{ n }}, 0) as _fs_mean_low{{ of }}
            {{- ',\n            ' if not loop.last }}
            {%- endfor %}
        from (
            select
                *,
                {% for of in values -%}
                {%- set n = 'nullif(_fs_numbers' ~ of ~ ', 0)' -%}
                _fs_high{{ of }} // {{ n }} as _fs_mean_high{{ of }},
                (_fs_high{{ of }} % {{ n }}) * 1125899906842624
                    + _fs_low{{ of }} as _fs_remainder{{ of }}{{ ',\n                ' if not loop.last }}
                {%- endfor %}
            from {{ relation }}
        ) as high_parts
    ) as means
)
{%- endmacro %}

{#-- The sum of squares about the mean, in units, from the columns of `_centre`: in whole numbers while these fit, so that nothing
     cancels. --#}
{% macro _squares(of) -%}
    {%- set types = feature_store._types() -%}
    {%- set high, mixed, low = '_fs_high_distances' ~ of, '_fs_mixed_distances' ~ of, '_fs_low_distances' ~ of -%}
    greatest(
                case
                    when {{ high }} < 67108864
                        and abs({{ mixed }}) < pow(2, 74)
                        and {{ low }} < pow(2, 124)
                        then cast(
                            {{ high }} * 1267650600228229401496703205376
                            + {{ mixed }} * 2251799813685248
                            + {{ low }} as {{ types.double }}
                        )
                    else cast({{ high }} as {{ types.double }}) * pow(2, 100)
                        + cast({{ mixed }} as {{ types.double }}) * pow(2, 51)
                        + cast({{ low }} as {{ types.double }})
                end - cast(_fs_rest{{ of }} as {{ types.double }}) * _fs_rest{{ of }} / _fs_numbers{{ of }},
                0
            )
{%- endmacro %}


{#-- An aggregate from the exact totals of its window. --#}
{% macro default___finished(aggregate, of) -%}
    {%- set types = feature_store._types() -%}
    {%- if aggregate.function in ('count', 'count_distinct') -%}
        cast(_fs_count{{ of }} as {{ types.bigint }})
    {%- elif aggregate.spread -%}
        {%- set variance = feature_store._squares(of) ~ ' / (_fs_numbers' ~ of ~ ' - 1)' -%}
        {%- if aggregate.function == 'stddev' -%}
            {%- set variance = 'sqrt(' ~ variance ~ ')' -%}
        {%- endif -%}
        {%- set places = feature_store._decimal_places(aggregate.type) -%}
        {%- set unit = ' / pow(2, 70)' if aggregate.scaled else ' / pow(10, ' ~ places ~ ')' if aggregate.kind == 'decimal' else '' -%}
        case
            when _fs_numbers{{ of }} > 1
                then {{ variance }}{{ unit * (2 if aggregate.function == 'variance' else 1) }}
        end
    {%- elif aggregate.scaled -%}
        {%- set evens = '_fs_evens' ~ of -%}
        case when {{ evens }} > 0 then _fs_units{{ of }} / pow(2, 70){{ ' / ' ~ evens if aggregate.function == 'avg' }} end
    {%- elif aggregate.kind.startswith('wide') -%}
        case
            when _fs_count{{ of }} > 0
                then {{ feature_store._wide_sum(aggregate, '_fs_upper' ~ of, '_fs_lower' ~ of, '_fs_count' ~ of) }}
        end
    {%- else -%}
        case when _fs_count{{ of }} > 0 then {{ feature_store._stated_sum(aggregate, '_fs_sum' ~ of, '_fs_count' ~ of) }} end
    {%- endif -%}
{%- endmacro %}


{#-- The sum or average of integers or decimals from an exact sum: a sum of integers is a bigint, and one that does not fit is an error;
     a sum of decimals keeps its scale; an average is a double. --#}
{% macro _stated_sum(aggregate, sum, count) -%}
    {%- set types = feature_store._types() -%}
    {%- if aggregate.function == 'avg' -%}
        cast(
            {{ sum }}
            as {{ types.double }}
        ) / {{ count }}
    {%- elif aggregate.kind == 'integer' -%}
        cast(
            {{ sum }} as {{ types.bigint }}
        )
    {%- else -%}
        {{ feature_store._stated_decimal(sum, aggregate.type) }}
    {%- endif -%}
{%- endmacro %}

{#-- The same from two halves; what has gathered in the lower one goes to the upper one first. --#}
{% macro _wide_sum(aggregate, upper, lower, count) -%}
    {%- set types = feature_store._types() -%}
    {%- set half = '18446744073709551616' -%}
    {%- set places = feature_store._decimal_places(aggregate.type) -%}
    {%- set line = '\n            ' -%}
    {%- set carried = '(' ~ line ~ upper ~ line ~ '+ ' ~ lower ~ ' // ' ~ half ~ line ~ ')' -%}
    {%- set whole = carried ~ ' * ' ~ half ~ line ~ '+ ' ~ lower ~ ' % ' ~ half -%}
    {%- if aggregate.function == 'avg' -%}
        case
            when abs({{ carried }}) < 4611686018427387904 then cast({{ whole }} as {{ types.double }})
            else cast({{ carried }} as {{ types.double }}) * {{ half }}
                + cast({{ lower }} % {{ half }} as {{ types.double }})
        end / {{ count }}{{ ' / pow(10, ' ~ places ~ ')' if places }}
    {%- elif aggregate.kind == 'wide integer' -%}
        cast({{ whole }}{{ line }}as {{ types.bigint }})
    {%- elif places -%}
        {%- set last = '0.' ~ '0' * (places - 1) ~ '1' -%}
        cast({{ whole }} as {{ types.decimal }}(38, 0)) * cast('{{ last }}' as {{ types.decimal }}({{ places }}, {{ places }}))
    {%- else -%}
        cast({{ whole }} as {{ types.decimal }}(38, 0))
    {%- endif -%}
{%- endmacro %}


{#-- An aggregate over the events of a window: `of_window` says which, as ` filter (where ...)` or ` over ...`. Not for spreads. --#}
{% macro _aggregate(aggregate, prefix, of_window) -%}
    {{- return(adapter.dispatch('_aggregate', 'feature_store')(aggregate, prefix, of_window)) -}}
{%- endmacro %}

{% macro default___aggregate(aggregate, prefix, of_window) -%}
    {%- set value = prefix ~ aggregate.value -%}
    {%- set of = aggregate.of -%}
    {%- set count = 'count(' ~ value ~ ')' ~ of_window -%}
    {%- set functions = {'stddev': 'stddev_samp', 'variance': 'var_samp'} -%}
    {%- if aggregate.scaled -%}
        {%- set units = prefix ~ '_fs_units' ~ of -%}
        sum({{ units }}){{ of_window }} / pow(2, 70){{ ' / count(' ~ units ~ ')' ~ of_window if aggregate.function == 'avg' }}
    {%- elif aggregate.function == 'count_distinct' -%}
        count(distinct {{ value }}){{ of_window }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
        {%- set upper = 'sum(' ~ prefix ~ '_fs_upper' ~ of ~ ')' ~ of_window -%}
        {%- set lower = 'sum(' ~ prefix ~ '_fs_lower' ~ of ~ ')' ~ of_window -%}
        {{ feature_store._wide_sum(aggregate, upper, lower, count) }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.subtracts -%}
        {{ feature_store._stated_sum(aggregate, 'sum(' ~ feature_store._summand(aggregate, value) ~ ')' ~ of_window, count) }}
    {%- elif aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
        {{ feature_store._signed_zero(aggregate.function, value, prefix ~ '_fs_zero' ~ of, of_window) }}
    {%- else -%}
        {{ functions.get(aggregate.function, aggregate.function) }}({{ value }}){{ of_window }}
    {%- endif -%}
{%- endmacro %}


{#-- min or max of doubles: 0.0 is greater than -0.0, which the engine takes for equal. --#}
{% macro _signed_zero(function, value, zero, of) -%}
    {%- set extreme = function ~ '(' ~ value ~ ')' ~ of -%}
    case
            when {{ extreme }} <> 0
                then {{ extreme }}
            when {{ function }}({{ zero }}){{ of }} = 1
                then abs({{ extreme }})
            else -abs({{ extreme }})
        end
{%- endmacro %}
