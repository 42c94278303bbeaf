{#-- A number for each row of a relation, no two the same, in the order the rows come in where they have one. --#}
{% macro _row_number() -%}
    {{- return(adapter.dispatch('_row_number', 'feature_store')()) -}}
{%- endmacro %}

{% macro default___row_number() -%}
    row_number() over ()
{%- endmacro %}

{#-- Counting would send all rows through one executor, and, as it is not random by name, Spark would number a CTE anew wherever it is
     read. --#}
{% macro spark___row_number() -%}
    monotonically_increasing_id()
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
