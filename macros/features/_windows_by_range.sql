{#-- Each moment is joined with the events of the longest window before it. Any aggregate, any warehouse; the cost is moments x events
     in that window, which is fine for sparse entities and ruinous for dense ones. --#}
{% macro _windows_by_range(spec, outputs) -%}
-- every moment beside the events of its longest window
_fs_by_range as (
    select
        moment._fs_row,
        {% for output in outputs -%}
        {%- set inside = 'event._fs_event > moment._fs_at - ' ~ feature_store._interval(output.window) -%}
        {{ feature_store._range_aggregate(output.aggregate, inside) }} as {{ feature_store._quoted(output.column) }}
        {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_moments as moment
    left join _fs_events as event
        on {{ feature_store._agree('event', 'moment', spec.entities) }}
        and {{ feature_store._enters(spec).replace('_fs_', 'event._fs_', 1) }} <= moment._fs_at
        and event._fs_event > moment._fs_at - {{ feature_store._interval(spec.longest) }}
    group by moment._fs_row
)
{%- endmacro %}


{#-- first and last go by event time, then by the greatest value; a NULL is a value, the lowest. --#}
{% macro _range_aggregate(aggregate, inside) -%}
    {{- return(adapter.dispatch('_range_aggregate', 'feature_store')(aggregate, inside)) -}}
{%- endmacro %}

{% macro default___range_aggregate(aggregate, inside) -%}
    {%- if aggregate.place -%}
        {{ adapter.dispatch('_range_place', 'feature_store')(aggregate, inside) }}
    {%- else -%}
        {{ feature_store._aggregate(aggregate, 'event.', feature_store._where(inside)) }}
    {%- endif -%}
{%- endmacro %}

{% macro default___range_place(aggregate, inside) -%}
    {%- set value = 'event.' ~ aggregate.value -%}
    {{ feature_store._first_value(
        value,
        [
            'event._fs_event ' ~ ('asc nulls first' if aggregate.function == 'first' else 'desc nulls last'),
            adapter.dispatch('_greatest_first', 'feature_store')(value, aggregate.type),
        ],
        'event.' ~ aggregate.taken ~ ' = 1 and ' ~ inside
    ) }}
{%- endmacro %}


{#-- An aggregate there takes no order; the value beside the greatest of some ranks is the first. --#}
{% macro spark___range_place(aggregate, inside) -%}
    {%- set value = 'event.' ~ aggregate.value -%}
    {%- set epoch = feature_store._timestamp('1970-01-01') -%}
    {%- set age = epoch ~ ' - event._fs_event' if aggregate.function == 'first' else 'event._fs_event' -%}
    max_by(
            {{ value }},
            struct({{ ([age] + feature_store.spark___ranks(value, aggregate.type)) | join(', ') }})
        ){{ feature_store._where('event.' ~ aggregate.taken ~ ' = 1 and ' ~ inside) }}
{%- endmacro %}
