{#-- The join that brings what was found to the spine's rows, where all that was found is of a row of the spine. --#}
{% macro default___outer_join() -%}
    left join
{%- endmacro %}

{#-- The same rows, but not row by row: there are no nested loops for a full join, and PostgreSQL, which expects a single row where
     several columns are equal, would choose them here for any number of rows. --#}
{% macro postgres___outer_join() -%}
    full join
{%- endmacro %}



{#-- The join of two relations that have the same rows; for PostgreSQL as above. A condition after it would let a full join become
     another one. --#}
{% macro default___row_join() -%}
    join
{%- endmacro %}

{% macro postgres___row_join() -%}
    full join
{%- endmacro %}


{#-- A feature as it is carried into a LEFT JOIN (`expression`, called `name` there), and as it is read after it. --#}
{% macro _before_outer_join(expression, name, data_type) %}
    {{- return(adapter.dispatch('_before_outer_join', 'feature_store')(expression, name, data_type)) -}}
{% endmacro %}

{% macro default___before_outer_join(expression, name, data_type) -%}
    {{ expression }}
{%- endmacro %}

{#-- DuckDB 2.0 fails on a LEFT JOIN that leaves an array of fixed length empty ("Cannot cast list with length ... to
     array"), also inside a struct or list: it travels as a list. --#}
{% macro duckdb___before_outer_join(expression, name, data_type) -%}
    {%- set as_lists = feature_store._arrays_as_lists(data_type) -%}
    {%- if as_lists == data_type -%}
        {{ expression }}
    {%- else -%}
        cast({{ expression }} as {{ as_lists }}) as {{ name }}
    {%- endif -%}
{%- endmacro %}


{% macro _after_outer_join(expression, data_type) %}
    {{- return(adapter.dispatch('_after_outer_join', 'feature_store')(expression, data_type)) -}}
{% endmacro %}

{% macro default___after_outer_join(expression, data_type) -%}
    {{ expression }}
{%- endmacro %}

{% macro duckdb___after_outer_join(expression, data_type) -%}
    {%- if feature_store._arrays_as_lists(data_type) == data_type -%}
        {{ expression }}
    {%- else -%}
        cast({{ expression }} as {{ data_type }})
    {%- endif -%}
{%- endmacro %}


{#-- 'FLOAT[3]' -> 'FLOAT[]'; a type without arrays, and none, stay as they are. --#}
{% macro _arrays_as_lists(data_type) %}
    {%- if not data_type or '[' not in data_type -%}
        {%- do return(data_type) -%}
    {%- endif -%}
    {%- set parts = data_type.split('[') -%}
    {%- set lists = [parts[0]] -%}
    {%- for part in parts[1:] -%}
        {%- do lists.append(part.lstrip('0123456789')) -%}
    {%- endfor -%}
    {%- do return(lists | join('[')) -%}
{% endmacro %}
