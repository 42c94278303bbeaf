{#-- Which SQL computes which columns, and why: {shape, reason, parts}, a part being {cte, outputs}. The user may name the shape. --#}
{% macro _window_plan(macro_name, spec, shape, timeline=false) %}
    {%- set dense = feature_store._dense_parts(spec, timeline) -%}
    {%- set shapes = ['dense', 'range'] -%}
    {%- set reason = 'named by the caller' -%}
    {%- if shape is not none and shape not in shapes -%}
        {%- do exceptions.raise_compiler_error(macro_name ~ ": shape is '" ~ shape ~ "'; here it is " ~ shapes | join(' or ') ~ '.') -%}
    {%- elif shape is none -%}
        {%- set shape = shapes[0] -%}
    {%- endif -%}
    {%- do return({
        'shape': shape,
        'reason': reason,
        'parts': dense if shape == 'dense' else [{'cte': '_fs_by_range', 'outputs': spec.outputs}],
    }) -%}
{% endmacro %}


{#-- Which part serves an output. Totals and balances are for any warehouse; frames over time for every aggregate are not. Where the
     view has a row at each event anyway (`timeline`), frames do it all in one pass. --#}
{% macro _dense_parts(spec, timeline) %}
    {%- set frames = '_fs_by_range' if spec.known else adapter.dispatch('_without_subtraction', 'feature_store')() -%}
    {%- set parts = {'_fs_by_totals': [], '_fs_by_balance': [], '_fs_by_frames': [], '_fs_by_range': []} -%}
    {%- for output in spec.outputs -%}
        {%- if not output.aggregate.subtracts or timeline -%}
            {%- do parts[frames].append(output) -%}
        {%- elif spec.known or output.aggregate.function == 'count_distinct' -%}
            {%- do parts._fs_by_balance.append(output) -%}
        {%- else -%}
            {%- do parts._fs_by_totals.append(output) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set used = [] -%}
    {%- for cte, outputs in parts.items() if outputs -%}
        {%- do used.append({'cte': cte, 'outputs': outputs}) -%}
    {%- endfor -%}
    {%- do return(used) -%}
{% endmacro %}

{% macro default___without_subtraction() -%}
    {{- return('_fs_by_range') -}}
{%- endmacro %}

{% macro duckdb___without_subtraction() -%}
    {{- return('_fs_by_frames') -}}
{%- endmacro %}


{#-- The CTEs of a plan, each with `_fs_row` of `_fs_moments` and the columns of its part. --#}
{% macro _window_parts(spec, plan, strictly_before=false) -%}
    {%- for part in plan.parts -%}
        {%- if part.cte == '_fs_by_totals' -%}
            {{ feature_store._windows_by_totals(spec, part.outputs, strictly_before) }}
        {%- elif part.cte == '_fs_by_balance' -%}
            {{ feature_store._windows_by_balance(spec, part.outputs, strictly_before) }}
        {%- elif part.cte == '_fs_by_frames' -%}
            {{ feature_store._windows_by_frames(spec, part.outputs, strictly_before=strictly_before) }}
        {%- else -%}
            {{ feature_store._windows_by_range(spec, part.outputs, strictly_before) }}
        {%- endif -%}
        {{ ',\n\n' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#-- The columns of a plan in their order, each from its part. --#}
{% macro _window_columns(spec, plan) -%}
    {%- set homes = {} -%}
    {%- for part in plan.parts -%}
        {%- for output in part.outputs -%}
            {%- do homes.update({output.column: part.cte}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for output in spec.outputs -%}
    {{ homes[output.column] }}.{{ adapter.quote(output.column) }}{{ ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
