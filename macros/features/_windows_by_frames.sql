{#-- Events and moments on one time line an entity, sorted once, and each window a frame of it. The cost does not depend on how many
     events a window holds. Not for events with a load time: these come in in another order than they leave.
     The moments are those of `_fs_moments` (the answer carries their `_fs_row`) or, where `exits` is a list of durations, the
     events themselves and what follows them by these (the answer carries keys and `_fs_at`). --#}
{% macro _windows_by_frames(spec, outputs, exits=none) -%}
    {%- set types = feature_store._types() -%}
    {%- set entities = feature_store._listed(spec.entities) -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='name') | list -%}
    {%- set ordered = aggregates | selectattr('place') | list -%}
    {%- set carried = [] -%}
    {%- for aggregate in aggregates -%}
        {%- do carried.append(aggregate.value) -%}
        {%- if aggregate.place -%}
            {%- do carried.append(aggregate.place) -%}
        {%- elif aggregate.function in ('min', 'max') and aggregate.kind == 'double' -%}
            {%- do carried.append('_fs_zero' ~ aggregate.of) -%}
        {%- elif aggregate.scaled -%}
            {%- do carried.append('_fs_units' ~ aggregate.of) -%}
        {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind.startswith('wide') -%}
            {%- do carried.extend(['_fs_upper' ~ aggregate.of, '_fs_lower' ~ aggregate.of]) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set carried = carried | unique | list -%}
    {%- set nothing = feature_store._repeated('null', carried) -%}
    {%- if ordered -%}
{{ feature_store._places(spec, ordered) }},

{% endif -%}
-- events and moments on one time line
_fs_timeline as (
    select
        {{ entities }},
        _fs_event as _fs_at,
        {{ 'cast(null as ' ~ types.bigint ~ ') as _fs_row,\n        ' if exits is none -}}
        {{ feature_store._listed(carried) }}
    from {{ '_fs_placed' if ordered else '_fs_events' }}
    {%- if exits is none %}
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_at', '_fs_row'] + nothing) }}
    from _fs_moments
    {%- endif %}
    {%- for exit in exits or [] %}
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_event + ' ~ feature_store._interval(exit)] + nothing) }}
    from _fs_events
    {%- endfor %}
),

-- each window is a frame: rows of one instant are peers, so all events at a border are in or out together
_fs_frames as (
    select
        {% if exits is none -%}
        _fs_row is not null as _fs_asked,
        _fs_row,
        {% else -%}
        lag(_fs_at) over (
            partition by {{ feature_store._listed(spec.entities, 12) }} order by _fs_at asc nulls first
        ) is distinct from _fs_at as _fs_asked,
        {{ entities }},
        _fs_at,
        {% endif -%}
        {%- for output in outputs -%}
        {%- set over = ' over _fs_' ~ output.window.slug -%}
        {{ feature_store._frame_aggregate(output.aggregate, over) }} as {{ feature_store._quoted(output.column) }}
        {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_timeline
    window
        {% for window in spec.windows -%}
        _fs_{{ window.slug }} as (
            partition by {{ feature_store._listed(spec.entities, 12) }}
            order by _fs_at asc nulls first
            range between {{ feature_store._interval(window) }} - interval '1 microsecond' preceding
                and {{ "interval '1 microsecond' preceding" if spec.strictly_before else 'current row' }}
        ){{ ',\n        ' if not loop.last }}
        {%- endfor %}
),

-- each moment once
_fs_by_frames as (
    select *
    from _fs_frames
    where _fs_asked
)
{%- endmacro %}


{% macro _frame_aggregate(aggregate, over) -%}
    {%- if aggregate.place -%}
        arg_min_null({{ aggregate.value }}, {{ aggregate.place }}){{ over }}
    {%- else -%}
        {{ feature_store._aggregate(aggregate, '', over) }}
    {%- endif -%}
{%- endmacro %}
