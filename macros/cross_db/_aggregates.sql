{#-- What stands beside an aggregate: which rows it takes, and in what order. --#}


{#-- An aggregate takes the rows where a condition holds. --#}
{% macro _where(condition) -%}
    {{- return(' filter (where ' ~ condition ~ ')') -}}
{%- endmacro %}


{#-- Any one value of a group, of the rows where a condition holds. --#}
{% macro _any_value(expression, condition) -%}
    {{ return(adapter.dispatch('_any_value', 'feature_store')(expression, condition)) }}
{%- endmacro %}

{% macro default___any_value(expression, condition) -%}
    any_value({{ expression }}) filter (where {{ condition }})
{%- endmacro %}

{#-- PostgreSQL has any_value from 16 on. --#}
{% macro postgres___any_value(expression, condition) -%}
    (array_agg({{ expression }}) filter (where {{ condition }}))[1]
{%- endmacro %}


{#-- The value that comes first in an order (terms of ORDER BY), of the rows of a group where a condition holds. NULL is a value. --#}
{% macro _first_value(expression, order, condition) -%}
    (
            array_agg(
                {{ expression }}
                order by
                    {{ order | join(',\n                    ') }}
            ){{ feature_store._where(condition) }}
        )[1]
{%- endmacro %}


{#-- A sum whose terms are added in an order: of doubles its last digits depend on that. --#}
{% macro _ordered_sum(expression, order) -%}
    sum({{ expression }} order by {{ order }} asc)
{%- endmacro %}


{#-- Texts of a group put together, with commas between. --#}
{% macro _joined_texts(expression, order) -%}
    {{- return(adapter.dispatch('_joined_texts', 'feature_store')(expression, order)) -}}
{%- endmacro %}

{% macro default___joined_texts(expression, order) -%}
    string_agg(
            {{ expression }}, ', ' order by {{ order }} asc nulls last
        )
{%- endmacro %}

{% macro spark___joined_texts(expression, order) -%}
    string_agg(
            {{ expression }}, ', '
        ) within group (order by {{ order }} asc nulls last)
{%- endmacro %}


{#-- A named window as another one begins with it. --#}
{% macro default___framed_window(name, definition) -%}
    {{ name }}
{%- endmacro %}

{#-- Spark's windows cannot build on each other. --#}
{% macro spark___framed_window(name, definition) -%}
    {{ definition.split() | join(' ') }}
{%- endmacro %}


{#-- A sum of doubles that depends on the values alone, not on the order they come in. --#}
{% macro _sum_of_doubles(value, condition) -%}
    aggregate(
                    array_sort(collect_list(cast({{ value }} as double)){{ feature_store._where(condition) }}),
                    0D,
                    (total, one) -> total + one
                )
{%- endmacro %}


{#-- What stands after a function over a window, and the clause, on a line of its own after `indent` spaces, that names that window;
     `definition` is the window, written out. --#}
{% macro _over(name, definition) -%}
    {{- return(adapter.dispatch('_over', 'feature_store')(name, definition)) -}}
{%- endmacro %}

{% macro _named_window(name, definition, indent=4) -%}
    {{- return(adapter.dispatch('_named_window', 'feature_store')(name, definition, indent)) -}}
{%- endmacro %}

{% macro default___over(name, definition) -%}
    over {{ name }}
{%- endmacro %}

{% macro default___named_window(name, definition, indent) -%}
    {{- '\n' ~ ' ' * indent }}window {{ name }} as ({{ definition }})
{%- endmacro %}

{#-- These have no WINDOW clause. --#}
{% macro snowflake___over(name, definition) -%}
    over ({{ definition.split() | join(' ') }})
{%- endmacro %}

{% macro snowflake___named_window(name, definition, indent) -%}
{%- endmacro %}

{% macro redshift___over(name, definition) -%}
    over ({{ definition.split() | join(' ') }})
{%- endmacro %}

{% macro redshift___named_window(name, definition, indent) -%}
{%- endmacro %}


{#-- The rows of two queries, each once. --#}
{% macro _union() -%}
    {{- return(adapter.dispatch('_union', 'feature_store')()) -}}
{%- endmacro %}

{% macro default___union() -%}
    union
{%- endmacro %}

{% macro bigquery___union() -%}
    union distinct
{%- endmacro %}
