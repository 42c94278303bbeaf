{#-- A whole feature model: `entities..., event_timestamp, <name>_<window>, ...`, with a row at each moment of the grain. --#}
{% macro window_aggregates(relation, entities, timestamp, aggregates, windows, grain='change', created_timestamp=none, shape=none) %}
    {{- return(adapter.dispatch('window_aggregates', 'feature_store')(relation, entities, timestamp, aggregates, windows, grain, created_timestamp, shape)) -}}
{% endmacro %}

{% macro default__window_aggregates(relation, entities, timestamp, aggregates, windows, grain, created_timestamp, shape) -%}
    {%- set spec = feature_store._window_spec('window_aggregates', relation, entities, timestamp, aggregates, windows, created_timestamp) -%}
    {%- set grain = feature_store._grain(grain, spec) -%}
    {%- set timeline = grain.name != 'every' and not spec.known and adapter.dispatch('_without_subtraction', 'feature_store')() == '_fs_by_frames' -%}
    {%- set plan = feature_store._window_plan('window_aggregates', spec, shape, timeline) -%}
-- shape `{{ plan.shape }}`: {{ plan.reason }}
with

{{ feature_store._window_events(spec) }},

{% if timeline and plan.shape == 'dense' -%}
{{ feature_store._windows_by_frames(spec, spec.outputs, exits=spec.windows if grain.name == 'change' else []) }}

select
    {{ spec.entities | join(', ') }},
    {{ feature_store._window_timestamp(spec, '_fs_at') }} as event_timestamp,
    {{ feature_store._window_columns(spec, plan) }}
from _fs_by_frames
{%- else -%}
{{ feature_store._window_moments(spec, grain) }},

{{ feature_store._window_parts(spec, plan) }}

select
    {% for key in spec.entities -%}
    _fs_moments.{{ key }},
    {% endfor -%}
    {{ feature_store._window_timestamp(spec, '_fs_moments._fs_at') }} as event_timestamp,
    {{ feature_store._window_columns(spec, plan) }}
from _fs_moments
{%- for part in plan.parts %}
join {{ part.cte }} on {{ part.cte }}._fs_row = _fs_moments._fs_row
{%- endfor %}
{%- endif %}
{%- endmacro %}
