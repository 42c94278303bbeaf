{#-- min, max, first and last of events with a load time. Such an event counts for as long as is left of its window, so frames of one
     length do not do. But these aggregates do not mind an event twice: its stay is covered by two pieces of one length, a half, a
     quarter, ... of the window, the first from when it comes in and the second to when it leaves. Then the pieces of a length that
     cover a moment are those that begin within that length before it: a frame. Nearly all events have the same length.

     first and last are the least of a numbering of all events of an entity, and their values are looked up by that number. --#}
{% macro _windows_by_pieces(spec, outputs) -%}
    {%- set types = feature_store._types() -%}
    {%- set entities = feature_store._listed(spec.entities) -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='name') | list -%}
    {%- set ordered = aggregates | selectattr('place') | list -%}
    {#- {column of the answer: [min or max, of which column of the events]} -#}
    {%- set merges = {} -%}
    {%- for aggregate in aggregates -%}
        {%- if aggregate.place -%}
            {%- do merges.update({aggregate.place: ['min', aggregate.place]}) -%}
        {%- else -%}
            {%- do merges.update({'_fs_' ~ aggregate.function ~ aggregate.of: [aggregate.function, aggregate.value]}) -%}
            {%- if aggregate.kind == 'double' -%}
                {%- do merges.update({'_fs_zero_' ~ aggregate.function ~ aggregate.of: [aggregate.function, '_fs_zero' ~ aggregate.of]}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set carried = merges.values() | map('last') | unique | list -%}
    {%- set nothing = feature_store._repeated('null', carried) -%}
    {%- if ordered -%}
{{ feature_store._places(spec, ordered) }},

{% endif -%}
-- how long each event is in each window (in microseconds), and the length of its pieces: at most that, and at least a half of it
_fs_spans as (
    select
        *,
        cast(ceil(_fs_microseconds / pow(2, greatest(1, ceil(log2(_fs_microseconds / _fs_span))))) as {{ types.bigint }}) as _fs_length
    from (
        select
            {{ feature_store._listed(spec.entities, 12) }},
            _fs_window,
            _fs_from,
            _fs_event,
            _fs_microseconds,
            date_diff('microsecond', _fs_from, _fs_event + to_microseconds(_fs_microseconds)) as _fs_span,
            {{ feature_store._listed(carried, 12) }}
        from {{ '_fs_placed' if ordered else '_fs_events' }}
        cross join (
            values
            {%- for window in outputs | map(attribute='window') | unique(attribute='slug') %}
            ('{{ window.slug }}', cast({{ window.seconds }}000000 as {{ types.bigint }})){{ ',' if not loop.last }}
            {%- endfor %}
        ) as windows (_fs_window, _fs_microseconds)
        where _fs_from < _fs_event + to_microseconds(_fs_microseconds)
    ) as stays
),

-- the pieces by their beginnings, and the moments asked for
_fs_pieces as (
    select
        {{ feature_store._listed(spec.entities + ['_fs_window', '_fs_length']) }},
        _fs_from as _fs_at,
        cast(null as {{ types.bigint }}) as _fs_row,
        {{ feature_store._listed(carried) }}
    from _fs_spans
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_window', '_fs_length']) }},
        _fs_event + to_microseconds(_fs_microseconds - _fs_length),
        null,
        {{ feature_store._listed(carried) }}
    from _fs_spans
    where _fs_span > _fs_length
    union all
    select
        {{ feature_store._listed(spec.entities + ['_fs_window', '_fs_length', '_fs_at', '_fs_row'] + nothing) }}
    from _fs_moments
    join (
        select distinct {{ feature_store._listed(spec.entities + ['_fs_window', '_fs_length'], 12) }}
        from _fs_spans
    ) as lengths using ({{ entities }})
),

-- the pieces of a length that cover a moment
_fs_covers as (
    select
        {{ feature_store._listed(spec.entities + ['_fs_row', '_fs_window']) }},
        {% for column, (merge, of) in merges.items() -%}
        {{ merge }}({{ of }}) over cover as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_pieces
    window cover as (
        partition by {{ feature_store._listed(spec.entities + ['_fs_window', '_fs_length'], 12) }}
        order by _fs_at asc nulls first
        range between to_microseconds(_fs_length - 1) preceding and current row
    )
),

-- the lengths of a window together
_fs_pieces_windows as (
    select
        {{ feature_store._listed(spec.entities + ['_fs_row', '_fs_window']) }},
        {% for column, (merge, of) in merges.items() -%}
        {{ merge }}({{ column }}) as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_covers
    where _fs_row is not null
    group by {{ feature_store._listed(spec.entities + ['_fs_row', '_fs_window']) }}
),

-- the aggregates of each window
_fs_pieces_values as (
    select
        _fs_row,
        _fs_window,
        {% for aggregate in aggregates -%}
        {%- set extreme = '_fs_' ~ aggregate.function ~ aggregate.of -%}
        {% if aggregate.place -%}
        {{ aggregate.place }}_event.{{ aggregate.value }}
        {%- elif aggregate.kind == 'double' -%}
        {{ feature_store._signed_zero('', extreme, '_fs_zero_' ~ aggregate.function ~ aggregate.of, '') }}
        {%- else -%}
        {{ extreme }}
        {%- endif %} as {{ feature_store._quoted(aggregate.name) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_pieces_windows as windows
    {%- for place in ordered | map(attribute='place') | unique %}
    left join _fs_placed as {{ place }}_event
        on {{ feature_store._agree(place ~ '_event', 'windows', spec.entities + [place]) }}
    {%- endfor %}
),

{{ feature_store._side_by_side('pieces', outputs) }}
{%- endmacro %}


{#-- The CTE `_fs_placed`: the events with their places among those of their entity, for first and last: 1 for the first or last event; of
     events at one instant, for the greatest value. Events that do not take part have none. --#}
{% macro _places(spec, aggregates) -%}
-- each event's place from the first on, or from the last; of events at one instant, the greatest value comes first
_fs_placed as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select
        *,
        {% for aggregate in aggregates | unique(attribute='place') -%}
        case when {{ aggregate.taken }} = 1 then row_number() over (
            partition by {{ feature_store._listed(spec.entities, 12) }}
            order by
                _fs_event {{ 'asc nulls first' if aggregate.function == 'first' else 'desc nulls last' }},
                {{ adapter.dispatch('_greatest_first', 'feature_store')(aggregate.value, aggregate.type) }}
        ) end as {{ aggregate.place }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_events
)
{%- endmacro %}
