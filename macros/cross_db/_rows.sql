{#-- A number for each row of a relation, no two the same, in the order the rows come in where they have one. All that is looked up for a
     row follows from `terms`, a list of SQL. --#}
{% macro _row_number(terms) -%}
    {{- return(adapter.dispatch('_row_number', 'feature_store')(terms)) -}}
{%- endmacro %}

{% macro default___row_number(terms) -%}
    row_number() over ()
{%- endmacro %}

{#-- Counting would send all rows through one executor, and, as it is not random by name, Spark would number a CTE anew wherever it is
     read. --#}
{% macro spark___row_number(terms) -%}
    monotonically_increasing_id()
{%- endmacro %}

{#-- These compute a CTE anew wherever it is read. Rows that agree in all the terms may change numbers then, which changes nothing: the
     same is looked up for them. --#}
{% macro snowflake___row_number(terms) -%}
    row_number() over (order by {{ terms | unique(case_sensitive=true) | join(' asc nulls last, ') }} asc nulls last)
{%- endmacro %}

{% macro bigquery___row_number(terms) -%}
    {{- feature_store.snowflake___row_number(terms) -}}
{%- endmacro %}

{% macro redshift___row_number(terms) -%}
    {{- feature_store.snowflake___row_number(terms) -}}
{%- endmacro %}


{#-- For a CTE whose row numbers must be the same wherever it is read. --#}
{% macro default___materialized() -%}
{%- endmacro %}

{% macro duckdb___materialized() -%}
    {{- 'materialized ' -}}
{%- endmacro %}

{% macro postgres___materialized() -%}
    {{- 'materialized ' -}}
{%- endmacro %}

{% macro redshift___materialized() -%}
{%- endmacro %}
