{% test feature_view(model, longest_window=none, events=none, events_timestamp=none) %}
    {%- set view = feature_store._tested_view('feature_view') -%}
    {%- if view -%}
        {%- set sql = feature_store._test_feature_view(model, view, longest_window, events, events_timestamp) -%}
        {%- do feature_store._name_broken_rules(view, sql) -%}
        {{- sql -}}
    {%- endif -%}
{% endtest %}


{#-- dbt itself prints only how many rows a test found: while a test runs, the rules that they break are said as a warning before it. --#}
{% macro _name_broken_rules(view, sql) %}
    {%- if execute and flags.WHICH in ('test', 'build') -%}
        {%- set counted -%}
            select broken_rule, sum(row_count) as row_count from (
            {{ sql }}
            ) as problems group by broken_rule order by broken_rule asc nulls last
        {%- endset -%}
        {%- for row in run_query(counted) or [] -%}
            {%- do exceptions.warn("Feature view '" ~ view.reference ~ "': " ~ row[0] ~ ' (rows: ' ~ row[1] ~ ')') -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro _test_feature_view(relation, view, longest_window, events, events_timestamp) -%}
    {%- set what = "The test 'feature_view' on '" ~ view.reference ~ "': longest_window" -%}
    {%- set window = feature_store._duration(longest_window, what) if longest_window is not none
        else feature_store._longest_ahead(model.attached_node) -%}
    {%- if events is not none and window is none -%}
        {%- do exceptions.raise_compiler_error(
            "The test 'feature_view' on '" ~ view.reference ~ "' has `events` but no `longest_window`:"
            ~ ' only rows that wait for a window to pass may lie in the future.'
        ) -%}
    {%- endif -%}
    {%- set created = view.created_timestamp -%}
    {%- set keys = feature_store._names(view.entities) -%}
    {%- set event_column = feature_store._quoted(view.timestamp.name) -%}
    {%- set created_column = feature_store._quoted(created.name) if created else none -%}
    {%- set names = keys ~ ', ' ~ event_column ~ (', ' ~ created_column if created else '') -%}
with

feature_view as (
    select {{ feature_store._exact_keys(view.entities) }},
        {{ feature_store._instant(event_column, view.timestamp.type) }} as {{ event_column }}
        {%- if created %},
        {{ feature_store._instant(created_column, created.type) }} as {{ created_column }}
        {%- endif %}
    from {{ relation }}
),

{% if events is not none -%}
{%- set events_column = events_timestamp or view.timestamp.name -%}
{%- set found = feature_store._column(feature_store._columns(events), events_column) or {} -%}
{%- set event = feature_store._instant(feature_store._quoted(events_column), found.type) -%}
-- a window ends its length after the newest event that it holds
limits as (
    select
        {{ feature_store._now() }} as present_moment,
        max({{ event }}) + {{ feature_store._interval(window) }} as last_moment
    from {{ events }}
    where {{ event }} <= {{ feature_store._now() }}
),
{%- else -%}
limits as (
    select
        {{ feature_store._now() }} as present_moment,
        {{ feature_store._now() }}{{ ' + ' ~ feature_store._interval(window) if window }} as last_moment
),
{%- endif %}

problems as (
    {% for request in feature_store._wrong_requests(view) -%}
    select
        {{ feature_store._literal(request) }} as broken_rule,
        {{ names }},
        1 as row_count
    from (select 1 as no_row) as request
    left join feature_view on 1 = 0

    union all

    {% endfor -%}
    {% for column in view.entities -%}
    select
        {{ feature_store._literal("join key '" ~ column.name ~ "' is NULL") }} as broken_rule,
        {{ names }},
        1 as row_count
    from feature_view
    where {{ feature_store._quoted(column.name) }} is null

    union all

    {% endfor -%}
    select
        {{ feature_store._literal("event timestamp '" ~ view.timestamp.name ~ "' is NULL") }} as broken_rule,
        {{ names }},
        1 as row_count
    from feature_view
    where {{ event_column }} is null

    union all

    {% if created -%}
    select
        {{ feature_store._literal("created timestamp '" ~ created.name ~ "' is NULL") }} as broken_rule,
        {{ names }},
        1 as row_count
    from feature_view
    where {{ created_column }} is null

    union all

    select
        {{ feature_store._literal("created timestamp '" ~ created.name ~ "' lies in the future") }} as broken_rule,
        {{ names }},
        1 as row_count
    from feature_view
    cross join limits
    where {{ created_column }} > limits.present_moment

    union all

    {% endif -%}
    select
        {{ feature_store._literal(
            "event timestamp '" ~ view.timestamp.name ~ "' lies "
            ~ ('in the future' if window is none else 'beyond the newest event and ' ~ window.text)
        ) }} as broken_rule,
        {{ names }},
        1 as row_count
    from feature_view
    cross join limits
    where {{ event_column }} > {{ 'coalesce(limits.last_moment, limits.present_moment)' if events is not none else 'limits.last_moment' }}

    union all

    select
        {{ feature_store._literal('several rows have the same keys and timestamps') }} as broken_rule,
        {{ names }},
        count(*) as row_count
    from feature_view
    group by {{ names }}
    having count(*) > 1
)

select * from problems
{%- endmacro %}
