{% test feature_drift(model, column_name, maximum=0.2, period='7 days', minimum_rows=100) %}
    {%- set view = feature_store._tested_view('feature_drift') -%}
    {%- if view -%}
        {{- feature_store._test_feature_drift(model, view, column_name, maximum, period, minimum_rows) -}}
    {%- endif -%}
{% endtest %}


{% macro _test_feature_drift(relation, view, column_name, maximum, period, minimum_rows) -%}
    {%- do feature_store._check_number('feature_drift', 'maximum', maximum) -%}
    {%- do feature_store._check_number('feature_drift', 'minimum_rows', minimum_rows) -%}
    {%- set period = feature_store._duration(period, "The test 'feature_drift' on '" ~ view.reference ~ "': period") -%}
    {%- set event = feature_store._instant(adapter.quote(view.timestamp.name), view.timestamp.type) -%}
    {%- set numeric = feature_store._drift_is_numeric(view, column_name) -%}
with

newest as (
    select max({{ event }}) as newest_event
    from {{ relation }}
    where {{ event }} <= {{ feature_store._now() }}
),

-- the newest period, and the one before it to compare with
compared as (
    select
        case
            when {{ event }} > newest.newest_event - {{ feature_store._interval(period) }} then 1
            else 0
        end as is_current,
        {{ column_name if numeric else 'cast(' ~ column_name ~ ' as ' ~ dbt.type_string() ~ ')' }} as feature_value
    from {{ relation }}
    cross join newest
    where
        {{ event }} <= newest.newest_event
        and {{ event }} > newest.newest_event - {{ feature_store._interval(period) }} - {{ feature_store._interval(period) }}
),

counted as (
    select is_current, feature_value, count(*) as row_count
    from compared
    group by is_current, feature_value
),

{% if numeric -%}
-- ten buckets with as many rows of the earlier period each; a value that fills several of them is one bucket
edges as (
    select distinct max(feature_value) as upper_edge
    from (
        select feature_value, ntile(10) over (order by feature_value) as tenth
        from compared
        where is_current = 0 and feature_value is not null
    ) as ranked
    group by tenth
),

lowest as (
    select min(feature_value) as lower_edge
    from compared
    where is_current = 0
),

-- NULL, and values outside all that was seen before, are buckets of their own
placed as (
    select
        counted.is_current,
        counted.row_count,
        case
            when counted.feature_value is null then -2
            when counted.feature_value < lowest.lower_edge then -1
            else count(edges.upper_edge)
        end as bucket
    from counted
    cross join lowest
    left join edges
        on edges.upper_edge < counted.feature_value
    group by counted.is_current, counted.feature_value, counted.row_count, lowest.lower_edge
),
{%- else -%}
-- each value is a bucket, and NULL is one more
placed as (
    select is_current, row_count, coalesce({{ feature_store._text('=') }} || feature_value, {{ feature_store._text('NULL') }}) as bucket
    from counted
),
{%- endif %}

buckets as (
    select
        bucket,
        sum(case when is_current = 0 then row_count else 0 end) as rows_before,
        sum(case when is_current = 1 then row_count else 0 end) as rows_now
    from placed
    group by bucket
),

totals as (
    select sum(rows_before) as all_before, sum(rows_now) as all_now
    from buckets
),

-- an empty bucket counts as one row in ten thousand: its logarithm would be infinite
shares as (
    select
        greatest(rows_before * 1.0 / all_before, 0.0001) as share_before,
        greatest(rows_now * 1.0 / all_now, 0.0001) as share_now
    from buckets
    cross join totals
    where all_before > 0 and all_now > 0
),

measured as (
    select sum((share_now - share_before) * ln(share_now / share_before)) as population_stability_index
    from shares
)

select
    {{ feature_store._text('the values of the last ' ~ period.text ~ ' differ from those before by more than ' ~ maximum) }} as broken_rule,
    measured.population_stability_index,
    totals.all_before as rows_before,
    totals.all_now as rows_now
from measured
cross join totals
where
    measured.population_stability_index > {{ maximum }}
    and totals.all_before >= {{ minimum_rows }}
    and totals.all_now >= {{ minimum_rows }}
{%- endmacro %}


{#-- Whether a feature is compared by ranges (numbers) or value by value (text and booleans). --#}
{% macro _drift_is_numeric(view, column_name) %}
    {%- set column = feature_store._column(view.features, column_name | replace('"', '') | replace('`', '')) -%}
    {%- if column is none -%}
        {%- do exceptions.raise_compiler_error(
            "The test 'feature_drift': '" ~ column_name ~ "' is no feature of '" ~ view.reference ~ "'; it has: "
            ~ view.features | map(attribute='name') | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set word = (column.type or '') | lower | replace('(', ' ') | trim -%}
    {%- set word = (word.split() or [''])[0] -%}
    {%- if word in ('varchar', 'text', 'string', 'char', 'character', 'bool', 'boolean', 'enum') -%}
        {%- do return(false) -%}
    {%- endif -%}
    {%- set numbers = [
        'tinyint', 'smallint', 'int', 'integer', 'bigint', 'hugeint', 'utinyint', 'usmallint', 'uinteger', 'ubigint', 'uhugeint',
        'byteint', 'int2', 'int4', 'int8', 'int64', 'decimal', 'numeric', 'number', 'bignumeric', 'real', 'float', 'float4',
        'float8', 'float64', 'double'
    ] -%}
    {%- if word not in numbers or column.type.endswith(']') -%}
        {%- do exceptions.raise_compiler_error(
            "The test 'feature_drift' compares numbers, text and booleans; '" ~ column_name ~ "' of '" ~ view.reference
            ~ "' is " ~ column.type ~ '.'
        ) -%}
    {%- endif -%}
    {%- do return(true) -%}
{% endmacro %}
