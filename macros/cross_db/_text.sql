{#-- Any text as a string literal on one line: quotes, backslashes and line breaks in a description must not end it.
     NULL for none. --#}
{% macro _text(value) -%}
    {%- if value is none or value is undefined -%}
        cast(null as {{ dbt.type_string() }})
    {%- else -%}
        {%- set line = (value ~ '').split() | join(' ') -%}
        cast('{{ adapter.dispatch('_escaped', 'feature_store')(line) }}' as {{ dbt.type_string() }})
    {%- endif -%}
{%- endmacro %}

{% macro default___escaped(text) -%}
    {{ return(text.replace("'", "''")) }}
{%- endmacro %}

{#-- A backslash starts an escape in the literals of these. --#}
{% macro snowflake___escaped(text) -%}
    {{ return(text.replace('\\', '\\\\').replace("'", "\\'")) }}
{%- endmacro %}

{% macro bigquery___escaped(text) -%}
    {{ return(text.replace('\\', '\\\\').replace("'", "\\'")) }}
{%- endmacro %}

{% macro spark___escaped(text) -%}
    {{ return(text.replace('\\', '\\\\').replace("'", "\\'")) }}
{%- endmacro %}

{% macro redshift___escaped(text) -%}
    {{ return(text.replace('\\', '\\\\').replace("'", "''")) }}
{%- endmacro %}
