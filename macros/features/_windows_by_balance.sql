{#-- What has come in less what has left again: for events with a load time, which come in in another order than they leave. Only for
     what subtracts exactly. What has come in by a moment is a running total in the order of coming in; what has left, one in the
     order of the events, a window earlier. Between, an event that is loaded after it has left counts as gone before it came. --#}
{% macro _windows_by_balance(spec, outputs) -%}
    {%- set types = feature_store._types() -%}
    {%- set entities = feature_store._listed(spec.entities) -%}
    {%- set amounts = feature_store._amounts(outputs) -%}
    {%- set nothing = feature_store._repeated('0', amounts) -%}
    {%- set enters = feature_store._enters(spec) -%}
    {%- set shortest = outputs | map(attribute='window') | sort(attribute='seconds') | first -%}
-- the events as they come in, and the moments asked for
_fs_entries as (
    select
        {{ entities }},
        {{ enters }} as _fs_at,
        0 as _fs_asked,
        cast(null as {{ types.bigint }}) as _fs_row,
        {{ feature_store._named(amounts) }}
    from _fs_events
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_at', '1', '_fs_row'] + nothing) }}
    from _fs_moments
),

-- what has come in by each moment
_fs_entered as (
    {{ feature_store._running_totals(amounts, ['_fs_row', '_fs_asked'], '_fs_entries', spec.entities + ['_fs_at', '_fs_asked']) }}
),

-- the events as they happen, and the moments a window earlier
_fs_exits as (
    select
        {{ entities }},
        _fs_event as _fs_at,
        0 as _fs_asked,
        cast(null as {{ types.bigint }}) as _fs_row,
        cast(null as {{ types.text }}) as _fs_window,
        {{ feature_store._named(amounts) }}
    from _fs_events
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_at - _fs_length', '1', '_fs_row', '_fs_window'] + nothing) }}
    from _fs_moments
    cross join {{ feature_store._window_lengths(outputs) }}
),

-- what has left by each moment
_fs_exited as (
    {{ feature_store._running_totals(
        amounts, ['_fs_row', '_fs_window', '_fs_asked'], '_fs_exits', spec.entities + ['_fs_at', '_fs_asked']
    ) }}
),

-- the moments of entities with events that are loaded after they have left the shortest window
_fs_late_moments as (
    select _fs_moments.*
    from _fs_moments
    join (
        select distinct {{ entities }}
        from _fs_events
        where {{ enters }} >= _fs_event + {{ feature_store._interval(shortest) }}
    ) as late using ({{ entities }})
),

{{ feature_store._balances(
    'late', outputs, amounts, '_fs_events', '_fs_late_moments', spec.entities, ['_fs_row'], '_fs_event + _fs_length', enters
) }},

-- what is inside; what has not come in yet cannot have left
_fs_balance_windows as (
    select
        exited._fs_row,
        exited._fs_window,
        {% for column in amounts -%}
        entered.{{ column }} - exited.{{ column }}
            + coalesce(late.{{ column }}, 0) as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (select * from _fs_exited where _fs_asked > 0) as exited
    {{ adapter.dispatch('_row_join', 'feature_store')() }} (select * from _fs_entered where _fs_asked > 0) as entered
        on entered._fs_row = exited._fs_row
    {{ adapter.dispatch('_outer_join', 'feature_store')() }} _fs_late_windows as late
        on late._fs_row = exited._fs_row and late._fs_window = exited._fs_window
),

{{ feature_store._finish_windows('balance', outputs) }}
{%- endmacro %}


{#-- The CTE `_fs_<name>_windows`: `keep`, `_fs_window` and the totals of `amounts` at each of `moments`, of those of `events` whose stay
     holds it. A stay is from `start` to `end`, SQL over an event and `_fs_length`; an event whose stay is empty counts nowhere. Within
     `keys` both relations are told apart. --#}
{% macro _balances(name, outputs, amounts, events, moments, keys, keep, start, end) -%}
    {%- set types = feature_store._types() -%}
    {%- set kept = keep | reject('in', keys + ['_fs_at']) | list -%}
-- each event where its stay begins (+) and where it ends (-), and the moments asked for
_fs_{{ name }}_changes as (
    select
        {{ feature_store._listed(keys + ['_fs_window']) }},
        {{ start }} as _fs_at,
        0 as _fs_asked,
        {% for column in kept -%}
        cast(null as {{ types.bigint }}) as {{ column }},
        {% endfor -%}
        {{ feature_store._named(amounts) }}
    from {{ events }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where {{ start }} < {{ end }}
    union all
    select
        {{ feature_store._listed(keys + ['_fs_window']) }},
        {{ end }},
        0,
        {{ 'null,\n        ' * kept | length -}}
        {% for amount in amounts.values() -%}
        -({{ amount }}){{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ events }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where {{ start }} < {{ end }}
    union all
    select
        {{ feature_store._listed(keys + ['_fs_window', '_fs_at', '1'] + kept + feature_store._repeated('0', amounts)) }}
    from {{ moments }}
    cross join {{ feature_store._window_lengths(outputs) }}
),

-- what is inside at each moment
_fs_{{ name }}_windows as (
    select *
    from (
        {{ feature_store._running_totals(
            amounts, keep + ['_fs_window', '_fs_asked'], '_fs_' ~ name ~ '_changes', ['_fs_window'] + keys + ['_fs_at', '_fs_asked']
        ) | indent(4) }}
    ) as balances
    where _fs_asked > 0
)
{%- endmacro %}
