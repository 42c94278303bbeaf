{#-- Column names (of `_columns`) as they stand in SQL: quoted, with a prefix such as 'v.', separated by commas. --#}
{% macro _names(columns, prefix='') -%}
    {%- for column in columns -%}
        {{ prefix }}{{ feature_store._quoted(column.name) }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#-- The same as ORDER BY terms: direction and place of NULL are said, because a profile's settings may turn the defaults round. --#}
{% macro _in_order(columns) -%}
    {%- for column in columns -%}
        {{ feature_store._quoted(column.name) }} asc nulls last{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#-- A name as a quoted identifier; a quotation mark inside it is doubled, which `adapter.quote` leaves to the caller. --#}
{% macro _quoted(name) %}
    {%- set mark = adapter.quote('')[:1] or '"' -%}
    {%- do return(adapter.quote(name.replace(mark, mark ~ mark))) -%}
{% endmacro %}


{#-- What a view's reference is called inside the names of CTEs, which are not quoted: letters, digits and underscores. `taken` holds the
     slugs of the same statement, so that no two views share one. --#}
{% macro _slug(reference, taken=[]) %}
    {%- set letters = [] -%}
    {%- for letter in reference.replace('.', '__') | lower -%}
        {%- do letters.append(letter if letter in 'abcdefghijklmnopqrstuvwxyz0123456789_' else '_') -%}
    {%- endfor -%}
    {%- set slug = letters | join -%}
    {%- for number in range(1, taken | length + 2) -%}
        {%- set name = slug if number == 1 else slug ~ '__' ~ number -%}
        {%- if name not in taken -%}
            {%- do return(name) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}
