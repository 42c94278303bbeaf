{#-- The number of distinct values in a window: while one event of a value is inside, the others of it add nothing. --#}
{% macro _windows_by_distinct(spec, outputs) -%}
    {%- set types = feature_store._types() -%}
    {%- set entities = feature_store._listed(spec.entities) -%}
    {%- set enters = feature_store._enters(spec) -%}
    {%- set counted = outputs | map(attribute='aggregate') | unique(attribute='value') | list -%}
    {%- for aggregate in counted -%}
    {%- set in_order -%}
        partition by {{ feature_store._listed(spec.entities + [aggregate.value], 12) }}
        order by {{ enters }} asc nulls first, _fs_event asc nulls first
    {%- endset -%}
    {%- set framed = adapter.dispatch('_framed_window', 'feature_store')('in_order', in_order | trim) -%}
-- the events of one value beside each other: those before, and the next
_fs_neighbours{{ aggregate.of }} as (
    select
        {{ entities }},
        {{ enters }} as _fs_from,
        _fs_event,
        max(_fs_event) over ({{ framed }} rows between unbounded preceding and 1 preceding) as _fs_before,
        max(_fs_event) over ({{ framed }} rows between unbounded preceding and current row) as _fs_latest,
        lead({{ enters }}) over in_order as _fs_next
    from _fs_events
    where {{ aggregate.value }} is not null
    window in_order as (
        {{ in_order | trim }}
    )
),

    {% endfor -%}
-- a value comes into a window (+) when none of it is there, and leaves (-) with the last; and the moments asked for
_fs_distinct_changes as (
    {% for aggregate in counted -%}
    select
        {{ entities }},
        '{{ aggregate.called }}' as _fs_value,
        _fs_window,
        _fs_from as _fs_at,
        0 as _fs_asked,
        cast(null as {{ types.bigint }}) as _fs_row,
        1 as _fs_change
    from _fs_neighbours{{ aggregate.of }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where _fs_from < _fs_event + _fs_length and (_fs_before is null or _fs_from >= _fs_before + _fs_length)
    union all
    select
        {{ entities }},
        '{{ aggregate.called }}',
        _fs_window,
        _fs_latest + _fs_length,
        0,
        null,
        -1
    from _fs_neighbours{{ aggregate.of }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where _fs_from < _fs_latest + _fs_length and (_fs_next is null or _fs_next >= _fs_latest + _fs_length)
    union all
    {% endfor -%}
    select
        {{ feature_store._listed(spec.entities + ['_fs_value', '_fs_window', '_fs_at', '1', '_fs_row', '0']) }}
    from _fs_moments
    cross join {{ feature_store._window_lengths(outputs) }}
    cross join (
        values
        {%- for aggregate in counted %}
        ('{{ aggregate.called }}'){{ ',' if not loop.last }}
        {%- endfor %}
    ) as counted (_fs_value)
),

-- how many values are inside at each moment
_fs_distinct_balances as (
    {{ feature_store._running_totals(
        ['_fs_change'], ['_fs_row', '_fs_value', '_fs_window', '_fs_asked'], '_fs_distinct_changes',
        ['_fs_value', '_fs_window'] + spec.entities + ['_fs_at', '_fs_asked']
    ) }}
),

-- the values and windows of a moment beside each other
_fs_by_distinct as (
    select
        _fs_row,
        {% for output in outputs -%}
        {%- set one = "_fs_value = '" ~ output.aggregate.called ~ "' and _fs_window = '" ~ output.window.slug ~ "'" -%}
        cast({{ feature_store._any_value('_fs_change', one) }} as {{ types.bigint }}) as {{ feature_store._quoted(output.column) }}
        {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_distinct_balances
    where _fs_asked > 0
    group by _fs_row
)
{%- endmacro %}
