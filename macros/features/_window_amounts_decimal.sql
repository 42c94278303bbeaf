{#-- Exact sums where the longest number has 38 digits and is slow to reckon with (Spark). Integers and decimals are summed as they are,
     doubles in units of 2^-70 where these fit (see `spark___units`). A window that holds another one, a stray, is added up anew from its
     doubles, in their order, so that its bytes depend on its values alone. Spreads are the engine's own, over the events of a window.

     These take the place of the macros of the same names in _window_amounts.sql and _window_strays.sql. --#}


{#-- {column: SQL on `source`} that `_fs_events` gets beside the values. --#}
{% macro spark___amount_columns(spec) %}
    {%- set types = feature_store._types() -%}
    {%- set columns = {} -%}
    {%- for aggregate in spec.aggregates if aggregate.kind == 'double' -%}
        {%- set value = 'source.' ~ aggregate.value -%}
        {%- if aggregate.function in ('min', 'max') -%}
            {%- do columns.update({'_fs_zero' ~ aggregate.of: feature_store._zero(value)}) -%}
        {%- elif aggregate.scaled -%}
            {%- set double = value if aggregate.type | lower == types.double else 'cast(' ~ value ~ ' as ' ~ types.double ~ ')' -%}
            {%- do columns.update({'_fs_units' ~ aggregate.of: feature_store.spark___units(double)}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}


{#-- The windows that hold strays: `_fs_by_strays` has keys, `_fs_at` and the outputs, NULL where a window holds none. Only the entities
     that have one are looked at, but these moment by moment. --#}
{% macro spark___window_strays(spec, moments) -%}
    {%- set outputs = spec.outputs | selectattr('aggregate.scaled') | list -%}
    {%- set stray = '(event.{0} is not null and event._fs_units{1} is null)' -%}
    {%- set any = [] -%}
    {%- for aggregate in outputs | map(attribute='aggregate') | unique(attribute='of') -%}
        {%- do any.append(stray.format(aggregate.value, aggregate.of)) -%}
    {%- endfor -%}
    {%- set asked = ['moment._fs_at'] -%}
    {%- for key in spec.entities -%}
        {%- do asked.append('moment.' ~ key) -%}
    {%- endfor -%}
-- the windows that hold doubles too large, too small or not finite for exact sums: added up anew, in the order of their values
_fs_by_strays as (
    select
        {{ feature_store._listed(asked) }},
        {% for output in outputs -%}
        {%- set aggregate = output.aggregate -%}
        {%- set inside = 'event._fs_event > moment._fs_at - ' ~ feature_store._interval(output.window) -%}
        case
            when count(*){{ feature_store._where(inside ~ ' and ' ~ stray.format(aggregate.value, aggregate.of)) }} > 0
                then {{ feature_store._sum_of_doubles('event.' ~ aggregate.value, inside) }}
                    {{- ' / count(event.' ~ aggregate.value ~ ')' ~ feature_store._where(inside) if aggregate.function == 'avg' }}
        end as {{ feature_store._quoted(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (
        select distinct {{ feature_store._listed(spec.entities + ['_fs_at'], 12) }}
        from {{ moments }}
    ) as moment
    join (
        select distinct {{ feature_store._listed(spec.entities, 12) }}
        from _fs_events as event
        where {{ any | join('\n            or ') }}
    ) as strayed
        on {{ feature_store._agree('strayed', 'moment', spec.entities) }}
    join _fs_events as event
        on {{ feature_store._agree('event', 'moment', spec.entities) }}
        and {{ feature_store._enters(spec).replace('_fs_', 'event._fs_', 1) }} <= moment._fs_at
        and event._fs_event > moment._fs_at - {{ feature_store._interval(spec.longest) }}
    group by {{ feature_store._listed(asked) }}
)
{%- endmacro %}
