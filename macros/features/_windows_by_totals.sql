{#-- A window as the difference of two running totals, at the moment and a window earlier. Far cheaper than frames, but only for what
     subtracts exactly, and for events that count from their own time on. --#}
{% macro _windows_by_totals(spec, outputs) -%}
    {%- set types = feature_store._types() -%}
    {%- set amounts = feature_store._amounts(outputs) -%}
    {%- set nothing = feature_store._repeated('0', amounts) -%}
    {%- set now = "_fs_at - interval '1 microsecond'" if spec.strictly_before else '_fs_at' -%}
-- the events, and after them the moments asked for and the moments a window earlier
_fs_borders as (
    select
        {{ feature_store._listed(spec.entities) }},
        _fs_event as _fs_at,
        0 as _fs_asked,
        cast(null as {{ types.bigint }}) as _fs_row,
        cast(null as {{ types.text }}) as _fs_border,
        {{ feature_store._named(amounts) }}
    from _fs_events
    union all
    select
        {{ feature_store._listed(spec.entities + [now, '1', '_fs_row', "'now'"] + nothing) }}
    from _fs_moments
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_at - _fs_length', '1', '_fs_row', '_fs_window'] + nothing) }}
    from _fs_moments
    cross join {{ feature_store._window_lengths(outputs) }}
),

-- what has happened by each of these
_fs_totals as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    {{ feature_store._running_totals(amounts, ['_fs_row', '_fs_border'], '_fs_borders', spec.entities + ['_fs_at', '_fs_asked']) }}
),

-- a window is the difference between now and a window earlier
_fs_totals_windows as (
    select
        now._fs_row,
        earlier._fs_border as _fs_window,
        {% for column in amounts -%}
        now.{{ column }} - earlier.{{ column }} as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (select * from _fs_totals where _fs_border <> 'now') as earlier
    {{ adapter.dispatch('_row_join', 'feature_store')() }} (select * from _fs_totals where _fs_border = 'now') as now
        on now._fs_row = earlier._fs_row
),

{{ feature_store._finish_windows('totals', outputs) }}
{%- endmacro %}
