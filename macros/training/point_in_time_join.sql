{% macro point_in_time_join(
    spine, features, timestamp='event_timestamp', full_feature_names=false, allow_exact_matches=true, filter_by_created_timestamp=true
) %}
    {#-- The plan reads the views with ref(), also while dbt parses: that is what draws the edges of the DAG. --#}
    {%- set plan = feature_store._training_plan(spine, features, timestamp, full_feature_names) -%}
    {%- if execute -%}
        {{- adapter.dispatch('_fs_point_in_time_join', 'feature_store')(plan, not allow_exact_matches, filter_by_created_timestamp) -}}
    {%- endif -%}
{% endmacro %}


{% macro default___fs_point_in_time_join(plan, strictly_before, filter_by_created_timestamp) -%}
    {%- set own = ['_fs_row', '_fs_moment'] + plan.casts.values() | list -%}
    {%- set asked = plan.views | map(attribute='asked') | sum(start=[]) + [plan.moment] -%}
    {%- set unknown = feature_store._unknown_spine(plan.spine, own) if not plan.spine_columns else none -%}
with

-- the labels, each with its place (so that every row comes back once, in order) and its moment in UTC
_fs_spine as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select
        *,
        {{ unknown.row if unknown }}{{ feature_store._row_number(asked) }} as _fs_row,
        {{ plan.moment }} as _fs_moment
        {%- for sql, name in plan.casts.items() %},
        {{ '-- keys in the types that the views have them in; what does not fit exactly is NULL' if loop.first }}
        {{- '\n        ' if loop.first }}
        {{- sql }} as {{ name }}
        {%- endfor %}
    from {{ unknown.relation if unknown else plan.spine }}
)
{%- for view in plan.views -%}
    {%- set knowledge = view.created_timestamp is not none and filter_by_created_timestamp -%}
    {%- do view.update({'hit': feature_store._hit_columns(view, knowledge)}) %},

{{ adapter.dispatch('_rows_in_force', 'feature_store')(view, knowledge, strictly_before) }},

-- {{ view.reference }}: the rows to fetch, each once
_fs_hits_{{ view.slug }} as (
    select distinct {{ feature_store._listed(view.hit) }}
    from _fs_in_force_{{ view.slug }}
),

{{ feature_store._payload(view, knowledge, outer_joined=true) }}
{%- endfor %}

select
    {% for column in plan.spine_columns -%}
    _fs_spine.{{ feature_store._quoted(column.name) }},
    {% else -%}
    {{ unknown.columns }},
    {% endfor -%}
    {%- for pick in plan.picks -%}
    {{ pick.sql }} as {{ feature_store._quoted(pick.output) }}{{ ',\n    ' if not loop.last }}
    {%- endfor %}
from _fs_spine
{%- set join = adapter.dispatch('_outer_join', 'feature_store')() -%}
{%- for view in plan.views %}
{{ join }} _fs_in_force_{{ view.slug }}
    on _fs_in_force_{{ view.slug }}._fs_row = _fs_spine._fs_row
{{ join }} _fs_rows_{{ view.slug }}
    on {{ feature_store._agree('_fs_rows_' ~ view.slug, '_fs_in_force_' ~ view.slug, view.hit, 4) }}
{%- endfor %}
order by _fs_spine._fs_row asc nulls last
{%- endmacro %}
