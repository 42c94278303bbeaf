{#-- A whole feature model: `entities..., event_timestamp, <name>_<window>, ...`, with a row at each moment of the grain. --#}
{% macro window_aggregates(relation, entities, timestamp, aggregates, windows, grain='change', created_timestamp=none, shape=none) %}
    {%- do feature_store._state_windows(windows, grain) -%}
    {{- return(adapter.dispatch('_fs_window_aggregates', 'feature_store')(
        relation, entities, timestamp, aggregates, windows, grain, created_timestamp, shape
    )) -}}
{% endmacro %}

{% macro default___fs_window_aggregates(
    relation, entities, timestamp, aggregates, windows, grain, created_timestamp, shape
) -%}
    {%- set spec = feature_store._window_spec(
        'window_aggregates', relation, entities, timestamp, aggregates, windows, created_timestamp
    ) -%}
    {%- set grain = feature_store._grain(grain, spec) -%}
    {%- set shape = feature_store._window_shape('window_aggregates', shape) -%}
    {%- set scope = feature_store._window_scope(spec, grain) -%}
    {%- set body = feature_store._window_body(spec, grain, shape, scope) -%}
{{ feature_store._shape_line(shape) }}
with

{% if scope and scope.name == 'touched' -%}
{{ feature_store._window_touched(spec, grain, shape, scope) }},

{% endif -%}
{{ feature_store._window_events(spec, scope) }},

{{ body.ctes }}

select
    {% for key in spec.entities -%}
    {{ body.table }}.{{ key }},
    {% endfor -%}
    {{ feature_store._window_timestamp(spec, body.table ~ '._fs_at') }} as event_timestamp {{ feature_store._grain_meaning(grain) }},
    {{ feature_store._window_columns(spec, body.parts) }}
{{ body.source }}
{%- if scope and body.parts[0].timeline %}
{{ feature_store._in_scope(spec, scope, body.table) }}
{%- endif %}
{%- endmacro %}


{#-- Says in the model's own `meta`, while dbt parses, how far its rows may lie ahead of its newest event:
     `feature_store_windows_30d: {grain: change, ahead: 30 days}`. The test `feature_view` reads it, on this model and on those made
     from it. --#}
{% macro _state_windows(windows, grain) %}
    {%- if not execute and config is defined and grain != 'event' -%}
        {%- set durations = feature_store._window_durations('window_aggregates', windows) | sort(attribute='seconds') -%}
        {#- A row of grain `every` comes up to a step late, and no step is longer than the shortest window. -#}
        {%- set seconds = durations[-1].seconds + (0 if grain == 'change' else durations[0].seconds) -%}
        {%- do config(meta={'feature_store_windows_' ~ durations[-1].slug: {
            'grain': 'change' if grain == 'change' else 'every',
            'ahead': durations[-1].text if grain == 'change' else seconds ~ ' seconds',
        }}) -%}
    {%- endif -%}
{% endmacro %}


{#-- From the events to the values at the moments of the grain: {ctes, parts, table, columns, source}; `table` has keys and `_fs_at`,
     `source` is the FROM clause that joins it with the parts. Moments outside of `scope` are left out before anything is computed at
     them; on a time line they are left out by whoever reads it. --#}
{% macro _window_body(spec, grain, shape, scope=none) %}
    {%- set parts = feature_store._window_parts(spec, shape, grain) -%}
    {%- if parts[0].timeline -%}
        {%- set ctes = feature_store._windows_by_frames(spec, spec.outputs, exits=spec.windows if grain.name == 'change' else []) -%}
        {%- if feature_store._has_strays(spec) -%}
            {%- set ctes = ctes ~ ',\n\n' ~ feature_store._window_strays(spec, '_fs_timeline') -%}
        {%- endif -%}
        {%- set table = '_fs_by_frames' -%}
    {%- else -%}
        {%- set ctes = feature_store._window_moments(spec, grain, scope) ~ ',\n\n' ~ feature_store._window_part_ctes(spec, parts) -%}
        {%- set table = '_fs_moments' -%}
    {%- endif -%}
    {%- set columns = [] -%}
    {%- for column in spec.entities + ['_fs_at'] -%}
        {%- do columns.append(table ~ '.' ~ column) -%}
    {%- endfor -%}
    {%- do return({
        'ctes': ctes,
        'parts': parts,
        'table': table,
        'columns': columns,
        'source': 'from ' ~ table ~ feature_store._window_joins(spec, parts, table, table),
    }) -%}
{% endmacro %}
