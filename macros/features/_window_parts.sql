{#-- The shape of the SQL. It is what the user says, and else `dense`: how many events there are is not looked at, so that the same model
     compiles to the same SQL whatever its tables hold. On sparse entities `dense` costs a few times what `range` does; what `range` costs
     grows with the events of a window. `feature-store doctor` says where the other one would do better. --#}
{% macro _window_shape(macro_name, shape) %}
    {%- set usual = adapter.dispatch('_usual_shape', 'feature_store')() -%}
    {%- if shape not in (none, 'dense', 'range') -%}
        {%- do exceptions.raise_compiler_error(macro_name ~ ": shape is '" ~ shape ~ "'; it is 'dense', 'range', or left out.") -%}
    {%- elif shape == 'dense' and usual != 'dense' -%}
        {%- do feature_store._not_there(macro_name ~ " of shape 'dense'") -%}
    {%- endif -%}
    {%- do return(shape or usual) -%}
{% endmacro %}

{% macro default___usual_shape() %}
    {%- do return('dense') -%}
{% endmacro %}

{% macro _shape_line(shape) -%}
-- shape {{ shape }}: {{ 'each moment is joined with the events of its longest window' if shape == 'range'
    else 'what a window costs does not depend on how many events it holds' }}
{%- endmacro %}


{#-- Which CTE serves which output: [{cte, outputs, timeline}]. Totals and balances are for any warehouse; frames over time for every
     aggregate are not. Where the view has a row at each event anyway, frames do it all in one pass (`timeline`), but for spreads, which
     are made from many totals. --#}
{% macro _window_parts(spec, shape, grain=none) %}
    {%- set dense = shape == 'dense' -%}
    {%- set frames = dense and adapter.dispatch('_has_frames', 'feature_store')() -%}
    {%- set spreads = spec.outputs | selectattr('aggregate.spread') | list -%}
    {%- set running = [] -%}
    {%- if dense and not spec.known and grain and grain.name != 'every' -%}
        {%- for output in spec.outputs if adapter.dispatch('_has_running_frames', 'feature_store')(output.aggregate) -%}
            {%- do running.append(output) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if running | length == spec.outputs | length
            or frames and not spec.known and grain and grain.name != 'every' and not spreads -%}
        {%- do return([{'cte': '_fs_by_frames', 'outputs': spec.outputs, 'timeline': true}]) -%}
    {%- endif -%}
    {%- set outputs = {'totals': [], 'balance': [], 'distinct': [], 'frames': [], 'pieces': [], 'range': []} -%}
    {%- for output in spec.outputs -%}
        {%- set function = output.aggregate.function -%}
        {%- if dense and function == 'count_distinct' -%}
            {%- do outputs.distinct.append(output) -%}
        {%- elif output in running -%}
            {%- do outputs.frames.append(output) -%}
        {%- elif output.aggregate.spread or dense and output.aggregate.subtracts -%}
            {%- do outputs['balance' if spec.known else 'totals'].append(output) -%}
        {%- elif frames and not spec.known -%}
            {%- do outputs.frames.append(output) -%}
        {%- elif frames and function in ('min', 'max', 'first', 'last') -%}
            {%- do outputs.pieces.append(output) -%}
        {%- else -%}
            {%- do outputs.range.append(output) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set parts = [] -%}
    {%- for name, served in outputs.items() if served -%}
        {%- do parts.append({'cte': '_fs_by_' ~ name, 'outputs': served, 'timeline': false}) -%}
    {%- endfor -%}
    {%- do return(parts) -%}
{% endmacro %}

{#-- Whether frames over time are quick for this aggregate where they are not for every one. --#}
{% macro default___has_running_frames(aggregate) %}
    {%- do return(false) -%}
{% endmacro %}

{#-- PostgreSQL takes away again what leaves a frame of counts and sums, but not of doubles, nor of min and max. --#}
{% macro postgres___has_running_frames(aggregate) %}
    {%- do return(aggregate.function == 'count' or aggregate.function in ('sum', 'avg') and aggregate.kind in ('integer', 'decimal')) -%}
{% endmacro %}

{% macro default___has_frames() %}
    {%- do return(false) -%}
{% endmacro %}

{% macro duckdb___has_frames() %}
    {%- do return(true) -%}
{% endmacro %}


{#-- The CTEs of the parts, each with `_fs_row` of `_fs_moments` and its outputs; and of the strays, where there can be any. --#}
{% macro _window_part_ctes(spec, parts) -%}
    {%- for part in parts -%}
        {#- Each by its name: dbt finds out so which macros a model depends on. -#}
        {%- if part.cte == '_fs_by_totals' -%}
            {{ feature_store._windows_by_totals(spec, part.outputs) }}
        {%- elif part.cte == '_fs_by_balance' -%}
            {{ feature_store._windows_by_balance(spec, part.outputs) }}
        {%- elif part.cte == '_fs_by_distinct' -%}
            {{ feature_store._windows_by_distinct(spec, part.outputs) }}
        {%- elif part.cte == '_fs_by_frames' -%}
            {{ feature_store._windows_by_frames(spec, part.outputs) }}
        {%- elif part.cte == '_fs_by_pieces' -%}
            {{ feature_store._windows_by_pieces(spec, part.outputs) }}
        {%- else -%}
            {{ feature_store._windows_by_range(spec, part.outputs) }}
        {%- endif -%}
        {{ ',\n\n' if not loop.last }}
    {%- endfor -%}
    {%- if feature_store._has_strays(spec) -%}
,

{{ feature_store._window_strays(spec, '_fs_moments') }}
    {%- endif -%}
{%- endmacro %}

{% macro _has_strays(spec) %}
    {%- do return(adapter.dispatch('_has_strays', 'feature_store')(spec)) -%}
{% endmacro %}

{% macro default___has_strays(spec) %}
    {%- do return(spec.outputs | selectattr('aggregate.scaled') | list | length > 0) -%}
{% endmacro %}


{#-- The joins that bring the parts to `table`, by row, and the strays, by keys and moment. --#}
{% macro _window_joins(spec, parts, table, moments='_fs_moments') -%}
    {%- for part in parts if not part.timeline %}
{{ adapter.dispatch('_outer_join', 'feature_store')() }} {{ part.cte }} on {{ part.cte }}._fs_row = {{ table }}._fs_row
    {%- endfor -%}
    {%- if feature_store._has_strays(spec) %}
left join _fs_by_strays
    on {{ feature_store._agree('_fs_by_strays', moments, spec.entities + ['_fs_at'], 4) }}
    {%- endif -%}
{%- endmacro %}


{#-- The outputs in their order, each from its part and with its meaning beside it; sums and spreads of doubles from the strays where a
     window holds one. --#}
{% macro _window_columns(spec, parts) -%}
    {%- set strays = feature_store._has_strays(spec) -%}
    {%- set homes = {} -%}
    {%- for part in parts -%}
        {%- for output in part.outputs -%}
            {%- do homes.update({output.column: part.cte}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for output in spec.outputs -%}
    {%- set column = feature_store._quoted(output.column) -%}
    {%- set value = homes[output.column] ~ '.' ~ column -%}
    {%- set value = 'coalesce(_fs_by_strays.' ~ column ~ ', ' ~ value ~ ')' if strays and output.aggregate.scaled else value -%}
    {%- set meaning = feature_store._window_meaning(spec, output) -%}
    {%- set long = value | length + column | length + meaning | length > 100 -%}
    {#- On the line of its column: on the next one, readers of SQL take a comment for what follows it. -#}
    {{ value }}{{ '\n        ' if long else ' ' }}as {{ column }} {{ meaning }}{{ ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
