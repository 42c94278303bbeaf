{#-- Column names (of `_columns`) as they stand in SQL: quoted, with a prefix such as 'v.', separated by commas. --#}
{% macro _names(columns, prefix='') -%}
    {%- for column in columns -%}
        {{ prefix }}{{ adapter.quote(column.name) }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
