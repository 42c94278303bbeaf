{#-- min, max, first and last of events with a load time. Such an event counts for as long as is left of its window, so frames of one
     length do not do. But these aggregates do not mind an event twice: its stay is covered by two pieces of one length, a half, a
     quarter, ... of the window, the first from when it comes in and the second to when it leaves. Then the pieces of a length that
     cover a moment are those that begin within that length before it: a frame. Nearly all events have the same length.

     first and last are the least of a numbering of all events of an entity, and their values are looked up by that number. --#}
{% macro _windows_by_pieces(spec, outputs) -%}
    {%- set entities = spec.entities | join(', ') -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='name') | list -%}
    {%- set ordered = aggregates | selectattr('function', 'in', ['first', 'last']) | list -%}
    {%- set merges = {} -%}
    {%- for aggregate in aggregates -%}
        {%- if aggregate in ordered -%}
            {%- do merges.update({feature_store._place(aggregate): 'min(' ~ feature_store._place(aggregate) ~ ')'}) -%}
        {%- else -%}
            {%- do merges.update({aggregate.value ~ '_' ~ aggregate.function: aggregate.function ~ '(' ~ aggregate.value ~ ')'}) -%}
            {%- if aggregate.kind == 'double' -%}
                {%- do merges.update({aggregate.value ~ '_zero_' ~ aggregate.function: aggregate.function ~ '(' ~ aggregate.value ~ '_zero)'}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set carried = [] -%}
    {%- for merge in merges.values() -%}
        {%- do carried.append(merge[4:-1]) -%}
    {%- endfor -%}
    {%- set carried = carried | unique | list -%}
    {%- if ordered -%}
{{ feature_store._places(spec, ordered) }},

{% endif -%}
-- how long each event is in each window (in microseconds), and the length of its pieces: at most that, and at least a half of it
_fs_spans as (
    select *, cast(ceil(_fs_microseconds / pow(2, greatest(1, ceil(log2(_fs_microseconds / _fs_span))))) as bigint) as _fs_length
    from (
        select
            {{ entities }}, _fs_window, _fs_from, _fs_event, _fs_microseconds,
            date_diff('microsecond', _fs_from, _fs_event + to_microseconds(_fs_microseconds)) as _fs_span,
            {{ carried | join(', ') }}
        from {{ '_fs_placed' if ordered else '_fs_events' }}
        cross join (
            values
            {%- for window in outputs | map(attribute='window') | unique(attribute='slug') %}
            ('{{ window.slug }}', cast({{ window.seconds }}000000 as bigint)){{ ',' if not loop.last }}
            {%- endfor %}
        ) as windows (_fs_window, _fs_microseconds)
        where _fs_from < _fs_event + to_microseconds(_fs_microseconds)
    ) as stays
),

-- the pieces by their beginnings, and the moments asked for
_fs_pieces as (
    select {{ entities }}, _fs_window, _fs_length, _fs_from as _fs_at, cast(null as bigint) as _fs_row, {{ carried | join(', ') }}
    from _fs_spans
    union all
    select {{ entities }}, _fs_window, _fs_length, _fs_event + to_microseconds(_fs_microseconds - _fs_length), null, {{ carried | join(', ') }}
    from _fs_spans
    where _fs_span > _fs_length
    union all
    select {{ entities }}, _fs_window, _fs_length, _fs_at, _fs_row{{ ', null' * carried | length }}
    from _fs_moments
    join (select distinct {{ entities }}, _fs_window, _fs_length from _fs_spans) as lengths using ({{ entities }})
),

-- the pieces of a length that cover a moment
_fs_covers as (
    select
        {{ entities }}, _fs_row, _fs_window,
        {% for column, merge in merges.items() -%}
        {{ merge }} over cover as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_pieces
    window cover as (
        partition by {{ entities }}, _fs_window, _fs_length order by _fs_at asc nulls first
        range between to_microseconds(_fs_length - 1) preceding and current row
    )
),

-- the lengths of a window together
_fs_pieces_windows as (
    select
        {{ entities }}, _fs_row, _fs_window,
        {% for column, merge in merges.items() -%}
        {{ merge[:4] }}{{ column }}) as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_covers
    where _fs_row is not null
    group by {{ entities }}, _fs_row, _fs_window
),

-- the aggregates of each window
_fs_pieces_values as (
    select
        _fs_row,
        _fs_window,
        {% for aggregate in aggregates -%}
        {%- set extreme = aggregate.value ~ '_' ~ aggregate.function -%}
        {% if aggregate in ordered -%}
        {{ feature_store._place(aggregate) }}_event.{{ aggregate.value }}
        {%- elif aggregate.kind == 'double' -%}
        {{ feature_store._signed_zero('', extreme, aggregate.value ~ '_zero_' ~ aggregate.function, '') }}
        {%- else -%}
        {{ extreme }}
        {%- endif %} as {{ feature_store._quoted(aggregate.name) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_pieces_windows as windows
    {%- for place in merges if merges[place] == 'min(' ~ place ~ ')' %}
    left join _fs_placed as {{ place }}_event
        on {% for key in spec.entities -%}
        {{ place }}_event.{{ key }} = windows.{{ key }} and {% endfor -%}
        {{ place }}_event.{{ place }} = windows.{{ place }}
    {%- endfor %}
),

{{ feature_store._side_by_side('pieces', outputs) }}
{%- endmacro %}


{#-- The column of an event's place among those of its entity, for first or last: 1 for the first or last event; of events at one instant, for
     the greatest value. Events that do not take part have none. --#}
{% macro _place(aggregate) -%}
    {{ aggregate.value }}_{{ aggregate.function }}{{ aggregate.taken if aggregate.taken != aggregate.value }}
{%- endmacro %}

{#-- The CTE `_fs_placed`: the events with their places. --#}
{% macro _places(spec, aggregates) -%}
    {%- set places = {} -%}
    {%- for aggregate in aggregates -%}
        {%- do places.update({feature_store._place(aggregate): aggregate}) -%}
    {%- endfor -%}
-- each event's place from the first on, or from the last; of events at one instant, the greatest value comes first
_fs_placed as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select
        *,
        {% for place, aggregate in places.items() -%}
        case when {{ aggregate.taken }} = 1 then row_number() over (
            partition by {{ spec.entities | join(', ') }}
            order by _fs_event {{ 'asc nulls first' if aggregate.function == 'first' else 'desc nulls last' }}, {{ adapter.dispatch('_greatest_first', 'feature_store')(aggregate.value, aggregate.type) }}
        ) end as {{ place }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_events
)
{%- endmacro %}
