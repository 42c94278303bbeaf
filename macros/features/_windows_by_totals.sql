{#-- A window as the difference of two running totals, at the moment and a window earlier. Far cheaper than frames, but only for what
     subtracts exactly, counts and sums of integers and decimals, and for events that count from their own time on. --#}
{% macro _windows_by_totals(spec, outputs, strictly_before=false) -%}
    {%- set entities = spec.entities | join(', ') -%}
    {%- set totals = feature_store._totals(outputs) -%}
-- the events, and after them the moments asked for and the moments a window earlier
_fs_borders as (
    select
        {{ entities }}, _fs_event as _fs_at, 0 as _fs_asked, cast(null as bigint) as _fs_row, cast(null as varchar(9)) as _fs_border,
        {{ totals.values() | join(', ') }}
    from _fs_events
    union all
    select {{ entities }}, _fs_at{{ " - interval '1 microsecond'" if strictly_before }}, 1, _fs_row, 'now'{{ ', 0' * totals | length }}
    from _fs_moments
    {%- for window in outputs | map(attribute='window') | unique(attribute='slug') %}
    union all
    select {{ entities }}, _fs_at - {{ feature_store._interval(window) }}, 1, _fs_row, '{{ window.slug }}'{{ ', 0' * totals | length }}
    from _fs_moments
    {%- endfor %}
),

-- what has happened by each of these
_fs_totals as (
    {{ feature_store._running_totals(spec, totals.keys() | list, ['_fs_row', '_fs_border'], '_fs_borders') }}
),

-- a window is the difference between now and a window earlier
_fs_by_totals as (
    select
        _fs_row,
        {% for output in outputs -%}
        {%- set inside = {} -%}
        {%- for kind in ('count', 'sum') -%}
            {%- set total = output.aggregate.value ~ '_' ~ kind -%}
            {%- do inside.update({kind: 'max(' ~ total ~ ") filter (where _fs_border = 'now') - max(" ~ total ~ ") filter (where _fs_border = '" ~ output.window.slug ~ "')"}) -%}
        {%- endfor -%}
        {{ feature_store._difference(output.aggregate, inside.count, inside.sum) }} as {{ feature_store._quoted(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_totals
    where _fs_asked = 1
    group by _fs_row
)
{%- endmacro %}


{#-- {column of a running total: what an event adds to it} for the outputs of a part. --#}
{% macro _totals(outputs) %}
    {%- set totals = {} -%}
    {%- for output in outputs -%}
        {%- set value = output.aggregate.value -%}
        {%- do totals.update({value ~ '_count': 'case when ' ~ value ~ ' is null then 0 else 1 end as ' ~ value ~ '_count'}) -%}
        {%- if output.aggregate.function in ('sum', 'avg') -%}
            {%- do totals.update({value ~ '_sum': feature_store._summand(output.aggregate) ~ ' as ' ~ value ~ '_sum'}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(totals) -%}
{% endmacro %}


{% macro _summand(aggregate) -%}
    {%- if aggregate.kind == 'integer' -%}
        cast({{ aggregate.value }} as {{ adapter.dispatch('_wide_integer', 'feature_store')() }})
    {%- else -%}
        {{ aggregate.value }}
    {%- endif -%}
{%- endmacro %}


{#-- An aggregate from the exact count and sum of its window. --#}
{% macro _difference(aggregate, count, sum) -%}
    {%- if aggregate.function in ('count', 'count_distinct') -%}
        cast({{ count }} as bigint)
    {%- else -%}
        case when {{ count }} > 0 then {{ feature_store._stated_sum(aggregate, '(' ~ sum ~ ')', '(' ~ count ~ ')') }} end
    {%- endif -%}
{%- endmacro %}


{#-- `keep`, `_fs_asked` and the running totals of the rows of `relation` in the order of key, `_fs_at` and `_fs_asked`. --#}
{% macro _running_totals(spec, totals, keep, relation) -%}
    {{- adapter.dispatch('_running_totals', 'feature_store')(spec, totals, keep, relation) -}}
{%- endmacro %}

{% macro default___running_totals(spec, totals, keep, relation) -%}
select
        {{ keep | join(', ') }}, _fs_asked,
        {% for total in totals -%}
        sum({{ total }}) over in_order as {{ total }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
    window in_order as (partition by {{ spec.entities | join(', ') }} order by _fs_at asc nulls last, _fs_asked asc nulls last rows between unbounded preceding and current row)
{%- endmacro %}

{#-- Totals that run on from one entity to the next: their differences within an entity are the same, and DuckDB computes a window
     without an ORDER BY in one stream over its sorted input, five times as fast as one with partitions. That stream is in order
     only as long as DuckDB preserves it, as it does unless someone set it not to. --#}
{% macro duckdb___running_totals(spec, totals, keep, relation) -%}
    {%- set rows = run_query("select current_setting('preserve_insertion_order')") if execute else none -%}
    {%- if rows is not none and not (rows | list)[0][0] -%}
        {%- do return(feature_store.default___running_totals(spec, totals, keep, relation)) -%}
    {%- endif -%}
select
        {{ keep | join(', ') }}, _fs_asked,
        {% for total in totals -%}
        sum({{ total }}) over (rows between unbounded preceding and current row) as {{ total }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (
        select *
        from {{ relation }}
        order by {{ spec.entities | join(' asc nulls last, ') }} asc nulls last, _fs_at asc nulls last, _fs_asked asc nulls last
    ) as in_order
{%- endmacro %}
