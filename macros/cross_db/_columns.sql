{#-- The columns of a relation in the warehouse, in order: [{name, type}]. Empty while dbt parses, for text, and for a
     relation that is not built yet. --#}
{% macro _columns(relation) %}
    {%- set columns = [] -%}
    {%- if execute and relation is not string and relation is not none -%}
        {%- for column in adapter.get_columns_in_relation(relation) -%}
            {%- do columns.append({'name': column.name, 'type': column.dtype}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do return(columns) -%}
{% endmacro %}


{#-- The one of `columns` (of `_columns`) called `name`, whatever its case; none where there is none. --#}
{% macro _column(columns, name) %}
    {%- for column in columns if column.name | lower == name | lower -%}
        {%- do return(column) -%}
    {%- endfor -%}
    {%- do return(none) -%}
{% endmacro %}


{#-- Columns (of `_columns`) by their names in lower case, to look many of them up. --#}
{% macro _by_name(columns) %}
    {%- set found = {} -%}
    {%- for column in columns -%}
        {%- do found.setdefault(column.name | lower, column) -%}
    {%- endfor -%}
    {%- do return(found) -%}
{% endmacro %}
