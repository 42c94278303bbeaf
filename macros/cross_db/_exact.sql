{#-- A value that is compared, grouped or ordered, so that texts are told apart by their bytes whatever collation the profile sets. --#}
{% macro _exact(expression, data_type) %}
    {{- return(adapter.dispatch('_exact', 'feature_store')(expression, data_type)) -}}
{% endmacro %}

{% macro default___exact(expression, data_type) -%}
    {{ expression }}
{%- endmacro %}

{#-- In a database of any collation. --#}
{% macro postgres___exact(expression, data_type) -%}
    {%- set type = (data_type or '') | lower -%}
    {%- if type == 'text' or type.startswith(('character', 'varchar')) and not type.endswith(']') -%}
        {{ expression if expression.replace('"', '').replace('.', '').isidentifier() else '(' ~ expression ~ ')' }} collate "C"
    {%- else -%}
        {{ expression }}
    {%- endif -%}
{%- endmacro %}

{#-- Redshift has one collation, by bytes, and no names for any. --#}
{% macro redshift___exact(expression, data_type) -%}
    {{ expression }}
{%- endmacro %}

{#-- A column may have a collation of its own; without one text is compared by its bytes. --#}
{% macro spark___exact(expression, data_type) -%}
    {%- if ' collate ' in (data_type or '') | lower -%}
        ({{ expression }} collate utf8_binary)
    {%- else -%}
        {{ expression }}
    {%- endif -%}
{%- endmacro %}

{#-- The collation becomes a part of the column's type: it holds in all that is made from it. --#}
{% macro duckdb___exact(expression, data_type) -%}
    {%- if (data_type or '') | upper == 'VARCHAR' -%}
        {{ expression if expression.replace('"', '').replace('.', '').isidentifier() else '(' ~ expression ~ ')' }} collate posix
    {%- else -%}
        {{ expression }}
    {%- endif -%}
{%- endmacro %}


{#-- Key columns (of `_columns`) as they are selected and, where `named` is false, as they are grouped by. --#}
{% macro _exact_keys(columns, named=true) -%}
    {%- for column in columns -%}
        {%- set name = feature_store._quoted(column.name) -%}
        {%- set exact = feature_store._exact(name, column.type) -%}
        {{ exact ~ (' as ' ~ name if named and exact != name else '') }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
