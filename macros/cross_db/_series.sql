{#-- A row for each instant from `first` to `last`. --#}
{% macro default___series(first, last, step) -%}
    generate_series(
            {{ first }},
            {{ last }},
            {{ step }}
        )
{%- endmacro %}

{% macro duckdb___series(first, last, step) -%}
    unnest({{ feature_store.default___series(first, last, step) }})
{%- endmacro %}

{% macro spark___series(first, last, step) -%}
    explode(
            sequence(
                {{ first }},
                {{ last }},
                {{ step }}
            )
        )
{%- endmacro %}


{#-- The first step at or after an instant: steps are counted from Monday 1970-01-05 on. --#}
{% macro _next_step(instant, step) -%}
    {{- return(adapter.dispatch('_next_step', 'feature_store')(instant, step)) -}}
{% endmacro %}

{% macro default___next_step(instant, step, function='date_bin') -%}
    {%- set length = feature_store._interval(step) -%}
    {{ function }}({{ length }}, {{ instant }} - interval '1 microsecond', {{ feature_store._timestamp('1970-01-05') }})
            + {{ length }}
{%- endmacro %}

{% macro duckdb___next_step(instant, step) -%}
    {{- feature_store.default___next_step(instant, step, 'time_bucket') -}}
{%- endmacro %}

{% macro spark___next_step(instant, step) -%}
    {%- set start = feature_store._timestamp('1970-01-05') -%}
    {%- set seconds = 'cast(cast(' ~ instant ~ ' - ' ~ start ~ ' as interval second) as decimal(24, 6))' -%}
    {{ start }} + cast(ceil({{ seconds }} / {{ step.seconds }}) as bigint) * {{ feature_store._interval(step) }}
{%- endmacro %}
