{#-- Exact sums. The bytes that come out must depend on the values of the window alone: not on their order, on threads, on other
     entities, or on how the SQL is cut. Sums of integers do that, and they subtract; so every number is added up as whole units:

     integer, decimal     as they are; a decimal's spread in its last digit
     wide integer/decimal  in two halves of 64 bits, as a running total of them would not fit (beyond 64 bits, or 28 digits)
     double               in units of 2^-70, where its magnitude lies from 2^-20 to 2^29 (1e-6 to 5e8). Others are strays, each with
                          its `_stray`: the range of 46 powers of two that it lies in, which has units of its own. See _window_strays.sql

     stddev and variance need sums of squares too. A unit of up to 99 bits is cut into `_high` * 2^50 + `_low`, so that the sums of
     `_high`^2, `_high` * `_low` and `_low`^2 fit into 128 bits for a hundred million rows. --#}


{#-- {column: SQL on `source`} that `_fs_events` gets beside the values. --#}
{% macro _amount_columns(spec) %}
    {%- set columns = {} -%}
    {%- for aggregate in spec.aggregates -%}
        {%- set value = 'source.' ~ aggregate.value -%}
        {%- set double = 'cast(' ~ value ~ ' as double)' if aggregate.type | upper != 'DOUBLE' else value -%}
        {%- set even = 'case\n            when ' ~ feature_store._is_even(double) ~ '\n                then ' -%}
        {%- if aggregate.scaled -%}
            {%- do columns.update({aggregate.value ~ '_stray': feature_store._stray(double)}) -%}
        {%- endif -%}
        {%- if aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
            {%- do columns.update({aggregate.value ~ '_zero': 'case when ' ~ value ~ ' = 0 then case when ' ~ adapter.dispatch('_is_negative', 'feature_store')(value) ~ ' then 0 else 1 end end'}) -%}
        {%- elif aggregate.spread and aggregate.scaled -%}
            {#- `low` is what is left of a double after its high part: both are exact. -#}
            {%- do columns.update({
                aggregate.value ~ '_high': even ~ 'cast(trunc(' ~ double ~ ' * pow(2, 20)) as bigint)\n        end',
                aggregate.value ~ '_low': even ~ 'cast((' ~ double ~ ' * pow(2, 20) - trunc(' ~ double ~ ' * pow(2, 20))) * pow(2, 50) as bigint)\n        end',
            }) -%}
        {%- elif aggregate.spread -%}
            {%- set units = feature_store._whole_number(value, aggregate) -%}
            {%- do columns.update({
                aggregate.value ~ '_high': 'cast(' ~ units ~ ' // 1125899906842624 as bigint)',
                aggregate.value ~ '_low': 'cast(' ~ units ~ ' % 1125899906842624 as bigint)',
            }) -%}
        {%- elif aggregate.scaled -%}
            {%- do columns.update({aggregate.value ~ '_units': even ~ 'cast(' ~ double ~ ' * pow(2, 70) as hugeint)\n        end'}) -%}
        {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
            {%- set units = feature_store._whole_number(value, aggregate) -%}
            {%- set half = 'cast(18446744073709551616 as ' ~ (aggregate.type if aggregate.kind == 'wide integer' else 'hugeint') ~ ')' -%}
            {%- do columns.update({
                aggregate.value ~ '_upper': 'cast(' ~ units ~ ' // ' ~ half ~ ' as hugeint)',
                aggregate.value ~ '_lower': 'cast(' ~ units ~ ' % ' ~ half ~ ' as hugeint)',
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}

{% macro _is_even(double) -%}
    {{ double }} = 0 or abs({{ double }}) >= pow(2, -20) and abs({{ double }}) < pow(2, 29)
{%- endmacro %}

{#-- NULL where a double is no stray; 1000 for infinity, 1001 for minus infinity, 1002 for NaN. --#}
{% macro _stray(double) -%}
    case
            when {{ double }} is null or {{ feature_store._is_even(double) }} then null
            when isnan({{ double }}) then 1002
            when isinf({{ double }}) then case when {{ double }} > 0 then 1000 else 1001 end
            else cast(floor((log2(abs({{ double }})) + 17) / 46) as integer)
        end
{%- endmacro %}

{#-- A decimal in units of its last digit. --#}
{% macro _whole_number(value, aggregate) -%}
    {%- if 'decimal' in aggregate.kind -%}
        cast(replace(cast({{ value }} as varchar), '.', '') as hugeint)
    {%- elif aggregate.kind == 'integer' -%}
        cast({{ value }} as hugeint)
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}

{% macro default___is_negative(value) -%}
    cast({{ value }} as varchar) like '-%'
{%- endmacro %}

{% macro duckdb___is_negative(value) -%}
    signbit({{ value }})
{%- endmacro %}


{#-- {total: what an event adds to it} for what the outputs of a part are computed from. --#}
{% macro _amounts(outputs) %}
    {%- set amounts = {} -%}
    {%- for aggregate in outputs | map(attribute='aggregate') | unique(attribute='name') -%}
        {%- set value = aggregate.value -%}
        {%- if aggregate.spread -%}
            {%- set high, low = value ~ '_high', value ~ '_low' -%}
            {%- do amounts.update({
                value ~ '_cuts': 'case when ' ~ high ~ ' is null then 0 else 1 end',
                high: high,
                low: low,
                value ~ '_high_high': 'cast(' ~ high ~ ' as hugeint) * ' ~ high,
                value ~ '_high_low': 'cast(' ~ high ~ ' as hugeint) * ' ~ low,
                value ~ '_low_low': 'cast(' ~ low ~ ' as hugeint) * ' ~ low,
            }) -%}
        {%- elif aggregate.scaled -%}
            {%- do amounts.update({
                value ~ '_evens': 'case when ' ~ value ~ '_units is null then 0 else 1 end',
                value ~ '_units': value ~ '_units',
            }) -%}
        {%- else -%}
            {%- do amounts.update({value ~ '_count': 'case when ' ~ value ~ ' is null then 0 else 1 end'}) -%}
            {%- if aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
                {%- do amounts.update({value ~ '_upper': value ~ '_upper', value ~ '_lower': value ~ '_lower'}) -%}
            {%- elif aggregate.function in ('sum', 'avg') -%}
                {%- do amounts.update({value ~ '_sum': feature_store._summand(aggregate, value)}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(amounts) -%}
{% endmacro %}

{% macro _summand(aggregate, value) -%}
    {%- if aggregate.kind == 'integer' -%}
        cast({{ value }} as {{ adapter.dispatch('_wide_integer', 'feature_store')() }})
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}

{% macro default___wide_integer() -%}
    decimal(38, 0)
{%- endmacro %}

{% macro duckdb___wide_integer() -%}
    hugeint
{%- endmacro %}


{#-- The CTE `_fs_by_<name>`, a row for each `_fs_row`, from `_fs_<name>_windows`, which has a row for each `_fs_row` and `_fs_window` with the
     totals of that window. Also what is between: spreads take two steps. --#}
{% macro _finish_windows(name, outputs) -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='name') | list -%}
    {%- set spreads = aggregates | selectattr('spread') | map(attribute='value') | unique | list -%}
    {%- set relation = '_fs_' ~ name ~ '_windows' -%}
    {%- if spreads -%}
{{ feature_store._centre('_fs_' ~ name ~ '_centres', relation, spreads) }},

{% set relation = '_fs_' ~ name ~ '_centres' -%}
    {%- endif -%}
-- the aggregates of each window
_fs_{{ name }}_values as (
    select
        _fs_row,
        _fs_window,
        {% for aggregate in aggregates -%}
        {{ feature_store._finished(aggregate) }} as {{ feature_store._quoted(aggregate.name) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ relation if not spreads else '_fs_' ~ name ~ '_centres' }}
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
        any_value({{ feature_store._quoted(output.aggregate.name) }}) filter (where _fs_window = '{{ output.window.slug }}') as {{ feature_store._quoted(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_{{ name }}_values
    group by _fs_row
)
{%- endmacro %}


{#-- The CTE `name`: `relation` and, for each value, the sum of squares about the mean, `_about`, in units. With the mean as a whole number of
     units, `_mean_high` * 2^50 + `_mean_low` and a remainder, every term is exact until they are added up, and nothing cancels. --#}
{% macro _centre(name, relation, values) -%}
-- the mean of each spread in whole units, and what is left over
{{ name }} as (
    select
        *,
        {% for v in values -%}
        {%- set high, low, n = v ~ '_mean_high', v ~ '_mean_low', v ~ '_cuts' -%}
        -- sums of squares and products of the distances from the mean
        {{ v }}_high_high - 2 * {{ high }} * {{ v }}_high + {{ n }} * {{ high }} * {{ high }} as {{ v }}_a,
        {{ v }}_high_low - {{ low }} * {{ v }}_high - {{ high }} * {{ v }}_low + {{ n }} * {{ high }} * {{ low }} as {{ v }}_b,
        {{ v }}_low_low - 2 * {{ low }} * {{ v }}_low + {{ n }} * {{ low }} * {{ low }} as {{ v }}_c,
        {{ v }}_left - {{ low }} * {{ n }} as {{ v }}_rest{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (
        select
            *,
            {% for v in values -%}
            -- rounded to the nearest
            (2 * {{ v }}_left + sign({{ v }}_left) * {{ v }}_cuts) // nullif(2 * {{ v }}_cuts, 0) as {{ v }}_mean_low{{ ',\n            ' if not loop.last }}
            {%- endfor %}
        from (
            select
                *,
                {% for v in values -%}
                {{ v }}_high // nullif({{ v }}_cuts, 0) as {{ v }}_mean_high,
                ({{ v }}_high % nullif({{ v }}_cuts, 0)) * 1125899906842624 + {{ v }}_low as {{ v }}_left{{ ',\n                ' if not loop.last }}
                {%- endfor %}
            from {{ relation }}
        ) as high_parts
    ) as means
)
{%- endmacro %}

{#-- The sum of squares about the mean, in units, from the columns of `_centre`: in whole numbers while these fit, so that nothing cancels. --#}
{% macro _squares(v) -%}
    greatest(
            case
                when {{ v }}_a < 67108864 and abs({{ v }}_b) < pow(2, 74) and {{ v }}_c < pow(2, 124)
                    then cast({{ v }}_a * 1267650600228229401496703205376 + {{ v }}_b * 2251799813685248 + {{ v }}_c as double)
                else cast({{ v }}_a as double) * pow(2, 100) + cast({{ v }}_b as double) * pow(2, 51) + cast({{ v }}_c as double)
            end - cast({{ v }}_rest as double) * {{ v }}_rest / {{ v }}_cuts, 0)
{%- endmacro %}


{#-- An aggregate from the exact totals of its window. --#}
{% macro _finished(aggregate) -%}
    {%- set value = aggregate.value -%}
    {%- if aggregate.function in ('count', 'count_distinct') -%}
        cast({{ value }}_count as bigint)
    {%- elif aggregate.spread -%}
        {%- set variance = feature_store._squares(value) ~ ' / (' ~ value ~ '_cuts - 1)' -%}
        {%- if aggregate.function == 'stddev' -%}
            {%- set variance = 'sqrt(' ~ variance ~ ')' -%}
        {%- endif -%}
        {%- set unit = 'pow(2, 70)' if aggregate.scaled else 'pow(10, ' ~ feature_store._decimal_places(aggregate.type) ~ ')' if aggregate.kind == 'decimal' else none -%}
        {%- if unit -%}
            {%- set variance = variance ~ ' / ' ~ unit ~ (' / ' ~ unit if aggregate.function == 'variance' else '') -%}
        {%- endif -%}
        case when {{ value }}_cuts > 1 then {{ variance }} end
    {%- elif aggregate.scaled -%}
        case when {{ value }}_evens > 0 then {{ value }}_units / pow(2, 70){{ ' / ' ~ value ~ '_evens' if aggregate.function == 'avg' }} end
    {%- elif aggregate.kind.startswith('wide') -%}
        case when {{ value }}_count > 0 then {{ feature_store._wide_sum(aggregate, value ~ '_upper', value ~ '_lower', value ~ '_count') }} end
    {%- else -%}
        case when {{ value }}_count > 0 then {{ feature_store._stated_sum(aggregate, value ~ '_sum', value ~ '_count') }} end
    {%- endif -%}
{%- endmacro %}


{#-- The sum or average of integers or decimals from an exact sum: a sum of integers is a bigint, and one that does not fit is an error;
     a sum of decimals keeps its scale; an average is a double. --#}
{% macro _stated_sum(aggregate, sum, count) -%}
    {%- if aggregate.function == 'avg' -%}
        cast({{ sum }} as double precision) / {{ count }}
    {%- elif aggregate.kind == 'integer' -%}
        cast({{ sum }} as bigint)
    {%- else -%}
        {{ sum }}
    {%- endif -%}
{%- endmacro %}

{#-- The same from two halves; what has gathered in the lower one goes to the upper one first. --#}
{% macro _wide_sum(aggregate, upper, lower, count) -%}
    {%- set half = '18446744073709551616' -%}
    {%- set places = feature_store._decimal_places(aggregate.type) -%}
    {%- set carried = '(' ~ upper ~ ' + ' ~ lower ~ ' // ' ~ half ~ ')' -%}
    {%- set whole = carried ~ ' * ' ~ half ~ ' + ' ~ lower ~ ' % ' ~ half -%}
    {%- if aggregate.function == 'avg' -%}
        case
            when abs({{ carried }}) < 4611686018427387904 then cast({{ whole }} as double)
            else cast({{ carried }} as double) * {{ half }} + cast({{ lower }} % {{ half }} as double)
        end / {{ count }}{{ ' / pow(10, ' ~ places ~ ')' if places }}
    {%- elif aggregate.kind == 'wide integer' -%}
        cast({{ whole }} as bigint)
    {%- elif places -%}
        cast({{ whole }} as decimal(38, 0)) * cast('{{ '0.' ~ '0' * (places - 1) ~ '1' }}' as decimal({{ places }}, {{ places }}))
    {%- else -%}
        cast({{ whole }} as decimal(38, 0))
    {%- endif -%}
{%- endmacro %}


{#-- An aggregate over the events of a window: `of` says which, as ` filter (where ...)` or ` over ...`. Not for spreads. --#}
{% macro _aggregate(aggregate, prefix, of) -%}
    {%- set value = prefix ~ aggregate.value -%}
    {%- set functions = {'stddev': 'stddev_samp', 'variance': 'var_samp'} -%}
    {%- if aggregate.scaled -%}
        sum({{ value }}_units){{ of }} / pow(2, 70){{ ' / count(' ~ value ~ '_units)' ~ of if aggregate.function == 'avg' }}
    {%- elif aggregate.function == 'count_distinct' -%}
        count(distinct {{ value }}){{ of }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
        {{ feature_store._wide_sum(aggregate, 'sum(' ~ value ~ '_upper)' ~ of, 'sum(' ~ value ~ '_lower)' ~ of, 'count(' ~ value ~ ')' ~ of) }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.subtracts -%}
        {{ feature_store._stated_sum(aggregate, 'sum(' ~ feature_store._summand(aggregate, value) ~ ')' ~ of, 'count(' ~ value ~ ')' ~ of) }}
    {%- elif aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
        {{ feature_store._signed_zero(aggregate.function, value, value ~ '_zero', of) }}
    {%- else -%}
        {{ functions.get(aggregate.function, aggregate.function) }}({{ value }}){{ of }}
    {%- endif -%}
{%- endmacro %}


{#-- min or max of doubles: 0.0 is greater than -0.0, which the engine takes for equal. --#}
{% macro _signed_zero(function, value, zero, of) -%}
    {%- set extreme = function ~ '(' ~ value ~ ')' ~ of -%}
    case
            when {{ extreme }} <> 0 then {{ extreme }}
            when {{ function }}({{ zero }}){{ of }} = 1 then abs({{ extreme }})
            else -abs({{ extreme }})
        end
{%- endmacro %}
