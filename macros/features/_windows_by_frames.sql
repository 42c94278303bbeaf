{#-- Events and moments on one time line an entity, sorted once, and each window a frame of it. The cost does not depend on how many
     events a window holds. Not for events with a load time: these come in in another order than they leave.
     The moments are those of `_fs_moments` (the answer carries their `_fs_row`) or, where `exits` is a list of durations, the
     events themselves and what follows them by these (the answer carries keys and `_fs_at`). --#}
{% macro _windows_by_frames(spec, outputs, exits=none, strictly_before=false) -%}
    {%- set entities = spec.entities | join(', ') -%}
    {%- set carried = {} -%}
    {%- for output in outputs -%}
        {%- set aggregate = output.aggregate -%}
        {%- if aggregate.function in ('first', 'last') -%}
            {%- set tied = aggregate.value ~ '_tied' -%}
            {%- do carried.update({aggregate.taken: aggregate.taken, tied: 'max(' ~ aggregate.value ~ ') over (partition by ' ~ entities ~ ', _fs_event) as ' ~ tied}) -%}
        {%- else -%}
            {%- do carried.update({aggregate.value: aggregate.value}) -%}
            {%- if aggregate.exact -%}
                {%- do carried.update({aggregate.value ~ '_units': aggregate.value ~ '_units', aggregate.value ~ '_odd': aggregate.value ~ '_odd'}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
-- events and moments on one time line{{ '; of events at the same instant, first and last take the greatest value' if '_tied' in carried.keys() | join }}
_fs_timeline as (
    select {{ entities }}, _fs_event as _fs_at{{ ', cast(null as bigint) as _fs_row' if exits is none }}, {{ carried.values() | join(', ') }}
    from _fs_events
    {%- if exits is none %}
    union all
    select {{ entities }}, _fs_at, _fs_row{{ ', null' * carried | length }}
    from _fs_moments
    {%- endif %}
    {%- for exit in exits or [] %}
    union all
    select {{ entities }}, _fs_event + {{ feature_store._interval(exit) }}{{ ', null' * carried | length }}
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
        lag(_fs_at) over (partition by {{ entities }} order by _fs_at asc nulls last) is distinct from _fs_at as _fs_asked,
        {{ entities }},
        _fs_at,
        {% endif -%}
        {%- for output in outputs -%}
        {{ feature_store._frame_aggregate(output.aggregate, ' over _fs_' ~ output.window.slug) }} as {{ feature_store._quoted(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_timeline
    window
        {% for window in spec.windows -%}
        _fs_{{ window.slug }} as (
            partition by {{ entities }} order by _fs_at asc nulls last
            range between {{ feature_store._interval(window) }} - interval '1 microsecond' preceding and {{ "interval '1 microsecond' preceding" if strictly_before else 'current row' }}
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
    {%- if aggregate.function in ('first', 'last') -%}
        {{ 'arg_min_null' if aggregate.function == 'first' else 'arg_max_null' }}({{ aggregate.value }}_tied, case when {{ aggregate.taken }} = 1 then _fs_at end){{ over }}
    {%- else -%}
        {{ feature_store._aggregate(aggregate, '', over) }}
    {%- endif -%}
{%- endmacro %}
