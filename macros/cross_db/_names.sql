{#-- Column names (of `_columns`) as they stand in SQL, quoted, with a prefix such as 'v.': a list; and side by side, with commas. --#}
{% macro _quoted_names(columns, prefix='') %}
    {%- set names = [] -%}
    {%- for column in columns -%}
        {%- do names.append(prefix ~ feature_store._quoted(column.name)) -%}
    {%- endfor -%}
    {%- do return(names) -%}
{% endmacro %}

{% macro _names(columns, prefix='') -%}
    {{- feature_store._quoted_names(columns, prefix) | join(', ') -}}
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


{#-- SQL terms with commas between: on one line while that is short, else one a line, each after `indent` spaces. --#}
{% macro _listed(terms, indent=8) -%}
    {%- set line = terms | join(', ') -%}
    {{- line if line | length <= 100 else terms | join(',\n' ~ ' ' * indent) -}}
{%- endmacro %}


{#-- A term once for each of `columns`, for `_listed`, where it is written twenty to a line. --#}
{% macro _repeated(term, columns) %}
    {%- do return(([term] * columns | length) | batch(20) | map('join', ', ') | list) -%}
{% endmacro %}


{#-- {name: SQL} as `SQL as name`, one a line. --#}
{% macro _named(columns, indent=8) -%}
    {%- for name, sql in columns.items() -%}
        {{ sql ~ (' as ' ~ name if sql != name) ~ (',\n' ~ ' ' * indent if not loop.last) }}
    {%- endfor -%}
{%- endmacro %}


{#-- Whether two relations agree in columns (names as they stand in SQL), as conditions, one a line. --#}
{% macro _agree(left, right, columns, indent=8) -%}
    {%- for column in columns -%}
        {{ left }}.{{ column }} = {{ right }}.{{ column }}{{ '\n' ~ ' ' * indent ~ 'and ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
