{#-- Which part of a view this run has to make: none (all of it), {'name': 'batch', first, last, reach} for a microbatch, or {'name':
     'touched', witness, there, reach} for an incremental run, which finds for itself what has changed. `reach` is how far back from
     the first moment events still matter: a step of grain `every` is also due when the windows have just run empty. --#}
{% macro _window_scope(spec, grain) %}
    {#- A unit test has no configuration of the model's: it is incremental where it overrides the macro is_incremental. -#}
    {%- set kind = (model | default({})).get('resource_type') -%}
    {%- set tested = kind == 'unit_test' -%}
    {%- if not execute or not kind or (config.get('materialized') != 'incremental' and not tested) -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- do adapter.dispatch('_check_incremental', 'feature_store')() if not tested -%}
    {%- set reach = ' - ' ~ feature_store._interval(spec.longest) ~ (' - ' ~ feature_store._interval(grain.step) if grain.step else '') -%}
    {%- if config.get('incremental_strategy') == 'microbatch' -%}
        {%- if grain.name == 'change' -%}
            {%- do exceptions.raise_compiler_error(
                "window_aggregates: a view of grain 'change' holds rows that are not due yet, which microbatch would drop; use"
                ~ " incremental_strategy='delete+insert' with unique_key=" ~ (spec.names + ['event_timestamp']) ~ '.'
            ) -%}
        {%- endif -%}
        {%- if not model.batch -%}
            {%- do return(none) -%}
        {%- endif -%}
        {%- do return({
            'name': 'batch',
            'reach': reach,
            'first': feature_store._timestamp(model.batch.event_time_start.strftime('%Y-%m-%d %H:%M:%S.%f')),
            'last': feature_store._timestamp(model.batch.event_time_end.strftime('%Y-%m-%d %H:%M:%S.%f')),
        }) -%}
    {%- endif -%}
    {%- set key = config.get('unique_key') -%}
    {%- set wanted = (spec.names + ['event_timestamp']) | map('lower') | sort | list -%}
    {#- dbt writes these names as they are, so that one in capitals needs its quotation marks there. -#}
    {%- set unique = key is not string and key is not none and key | map('replace', '"', '') | map('lower') | sort | list == wanted -%}
    {%- if not tested and (not unique or config.get('incremental_strategy') == 'append') -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: an incremental view needs incremental_strategy='delete+insert' (or 'merge') and unique_key="
            ~ (spec.names + ['event_timestamp']) ~ ', so that rows which late events change are replaced; unique_key is ' ~ key ~ '.'
        ) -%}
    {%- endif -%}
    {#- A unit test of a model that is not incremental has no `this`, which dbt's is_incremental() asks for. -#}
    {%- if this is none or not is_incremental() -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set there = feature_store._columns(this) -%}
    {%- for output in spec.outputs if there and feature_store._column(there, output.column) is none -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: " ~ this ~ " has no column '" ~ output.column
            ~ "' yet; build it once with --full-refresh after adding an aggregate or a window."
        ) -%}
    {%- endfor -%}
    {#- A plain count of the longest window tells whether an event is already in the table; without one all is made again. -#}
    {%- for output in spec.outputs if output.window == spec.longest and output.aggregate.function == 'count'
            and output.aggregate.expression is not defined and output.aggregate.where is not defined -%}
        {%- set event = feature_store._column(there, 'event_timestamp') or {'name': 'event_timestamp', 'type': none} -%}
        {%- do return({'name': 'touched', 'reach': reach, 'witness': output, 'there': event}) -%}
    {%- endfor -%}
    {%- do return(none) -%}
{% endmacro %}


{#-- Stops where the warehouse cannot replace single rows of a table. --#}
{% macro default___check_incremental() %}
{% endmacro %}

{% macro spark___check_incremental() %}
    {%- if config.get('file_format') not in ('delta', 'iceberg', 'hudi') -%}
        {%- do exceptions.raise_compiler_error(
            "window_aggregates: an incremental view replaces rows, which Spark's plain tables cannot: build it whole"
            ~ " (materialized='table'), or set file_format to 'delta' or 'iceberg' with incremental_strategy='merge'."
        ) -%}
    {%- endif -%}
{% endmacro %}


{#-- The CTE `_fs_touched`: each entity with events that the table does not know yet, and the moments between which these count. It does
     what the view does, but for one count, and compares. --#}
{% macro _window_touched(spec, grain, shape, scope) -%}
    {%- set count = scope.witness.aggregate -%}
    {%- set column = feature_store._quoted(scope.witness.column) -%}
    {%- set witness = dict(spec) -%}
    {%- do witness.update({
        'outputs': [scope.witness],
        'aggregates': [count],
        'windows': [spec.longest],
        'values': spec['values'] | selectattr('column', 'equalto', count.value) | list,
    }) -%}
    {%- set step = {'name': 'entry'} if grain.name == 'change' else grain -%}
    {%- set body = feature_store._window_body(witness, step, shape) -%}
    {%- set keys = feature_store._names(spec.key_columns, 'wanted.') -%}
-- what the table lacks: entities whose count at an event is not what stands there, from the first such moment on
_fs_touched as (
    with

    {{ feature_store._window_events(witness) | indent(4) }},

    {{ body.ctes | indent(4) }}

    select
        {{ keys }},
        min(wanted._fs_at) as _fs_first,
        max(wanted._fs_at) + {{ feature_store._interval(spec.longest) }}
            {{- ' + ' ~ feature_store._interval(grain.step) if grain.step }} as _fs_last
    from (
        select
            {{ feature_store._listed(body.columns, 12) }},
            {{ column }} as _fs_count
        {{ body.source | indent(8) }}
    ) as wanted
    left join {{ this }} as there
        on {{ feature_store._agree('there', 'wanted', spec.entities) }}
        and {{ feature_store._instant('there.' ~ feature_store._quoted(scope.there.name), scope.there.type) }} = wanted._fs_at
    where there.{{ column }} is distinct from wanted._fs_count
    group by {{ keys }}
)
{%- endmacro %}


{#-- The condition on the rows a run makes. --#}
{% macro _in_scope(spec, scope, table) -%}
    {%- if scope and scope.name == 'batch' -%}
where {{ table }}._fs_at >= {{ scope.first }} and {{ table }}._fs_at < {{ scope.last }}
    {%- elif scope -%}
where exists (
    select 1
    from _fs_touched as touched
    where {{ feature_store._agree('touched', table, spec.entities) }}
        and {{ table }}._fs_at between touched._fs_first and touched._fs_last
)
    {%- endif -%}
{%- endmacro %}
