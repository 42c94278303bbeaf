{#-- 'change', 'event', {'every': '1 day'} or the same as text -> {name, step}. --#}
{% macro _grain(grain, spec) %}
    {%- if grain == 'change' -%}
        {%- do feature_store._check_ttl(spec) -%}
    {%- endif -%}
    {%- if grain in ('change', 'event') -%}
        {%- do return({'name': grain}) -%}
    {%- endif -%}
    {%- set text = none -%}
    {%- if grain is mapping and grain.keys() | list == ['every'] -%}
        {%- set text = grain.every -%}
    {%- elif grain is string and grain.strip().startswith('every') -%}
        {%- set text = grain.strip()[5:].replace(':', ' ', 1).replace("'", ' ').replace('"', ' ').strip() -%}
    {%- endif -%}
    {%- if text is none -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: grain is '" ~ grain ~ "'; it is 'change', 'event' or \"every: '1 day'\" (any duration)."
        ) -%}
    {%- endif -%}
    {%- set step = feature_store._duration(text, "window_aggregates: the step of grain 'every'") -%}
    {%- for window in spec.windows if window.seconds < step.seconds -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: the window '" ~ window.text ~ "' is shorter than the step '" ~ step.text
            ~ "', so events between two steps would be lost; take a step no longer than the shortest window."
        ) -%}
    {%- endfor -%}
    {%- do return({'name': 'every', 'step': step}) -%}
{% endmacro %}


{#-- The last row of an entity says that its windows are empty, and stands for ever; but before that, the newest row may be as old as
     the longest window, and a shorter ttl of the view would hide it. --#}
{% macro _check_ttl(spec) %}
    {%- set meta = (config.get('meta') or {}) if execute and (model | default({})).get('resource_type') else {} -%}
    {%- set ttl = (meta.get('feature_view') or {}).get('ttl') -%}
    {%- if ttl and feature_store._duration(ttl, 'meta.feature_view.ttl').seconds < spec.longest.seconds -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: the ttl '" ~ ttl ~ "' is shorter than the longest window '" ~ spec.longest.text
            ~ "', so true values would be hidden; make it at least as long, or leave it out."
        ) -%}
    {%- endif -%}
{% endmacro %}


{#-- The CTE `_fs_moments`: the moments at which the view has a row, each once an entity. --#}
{% macro _window_moments(spec, grain, scope=none) -%}
    {%- set entities = feature_store._listed(spec.entities, 12) -%}
    {%- set from = '_fs_from' if spec.known else '_fs_event' -%}
    {%- if grain.name == 'every' -%}
{{ feature_store._window_steps(spec, grain.step) }},

-- a moment for each step
    {%- else -%}
-- the moments at which events come in{{ ', and at which they fall out of a window' if grain.name == 'change' }}
        {{- '\n-- (one that is loaded after it has left never comes in)' if spec.known and grain.name != 'event' }}
    {%- endif %}
_fs_moments as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select *, {{ feature_store._row_number(spec.entities + ['_fs_at']) }} as _fs_row
    from (
        {% if grain.name == 'every' -%}
        select {{ entities }}, _fs_at
        from _fs_steps
        {%- else -%}
        select distinct {{ entities }}, {{ from }} as _fs_at
        from _fs_events
        {%- if spec.known and grain.name != 'event' %}
        where _fs_from < _fs_event + {{ feature_store._interval(spec.longest) }}
        {%- endif %}
        {%- for window in spec.windows if grain.name == 'change' %}
        {{ feature_store._union() }}
        select {{ entities }}, _fs_event + {{ feature_store._interval(window) }}
        from _fs_events
        {%- if spec.known %}
        where _fs_from < _fs_event + {{ feature_store._interval(window) }}
        {%- endif %}
        {%- endfor %}
        {%- endif %}
    ) as moments
    {%- if scope %}
    {{ feature_store._in_scope(spec, scope, 'moments') | indent(4) }}
    {%- endif %}
)
{%- endmacro %}


{#-- Grain `every`: multiples of the step since Monday 1970-01-05, from the first one at or after an event comes in to the first one at
     or after it has left its longest window. Each event only fills the steps up to the next event's first, so that none comes twice. --#}
{% macro _window_steps(spec, step) -%}
    {%- set entities = feature_store._listed(spec.entities) -%}
    {%- set length = feature_store._interval(step) -%}
    {%- set first = feature_store._next_step('_fs_from' if spec.known else '_fs_event', step) -%}
{%- set steps = feature_store._steps('_fs_first', 'least(_fs_until, coalesce(_fs_next - ' ~ length ~ ', _fs_until))', step) -%}
{%- set in_order = 'partition by ' ~ feature_store._listed(spec.entities, 16) ~ ' order by _fs_first asc nulls first' -%}
-- the steps from an event's coming in to its leaving the longest window, both rounded up
_fs_stays as (
    select
        {{ entities }},
        {{ first }} as _fs_first,
        max(
            {{ feature_store._next_step('_fs_event + ' ~ feature_store._interval(spec.longest), step) }}
        ) as _fs_last
    from _fs_events
    {%- if spec.known %}
    where _fs_from < _fs_event + {{ feature_store._interval(spec.longest) }}
    {%- endif %}
    group by
        {{ entities }},
        {{ first }}
),

-- each stay up to the next one, so that no step comes twice
_fs_steps as (
    select
        {{ entities }},
        {{ steps.at }} as _fs_at
    from (
        select
            {{ feature_store._listed(spec.entities, 12) }},
            _fs_first,
            max(_fs_last) {{ feature_store._over('in_order', in_order) }} as _fs_until,
            lead(_fs_first) {{ feature_store._over('in_order', in_order) }} as _fs_next
        from _fs_stays
        {{- feature_store._named_window('in_order', in_order, 8) }}
    ) as stays
    {{- steps.source }}
)
{%- endmacro %}
