{#-- A duration (of `_duration`) as an interval to add to or take from an `_instant`. --#}
{% macro _interval(duration) %}
    {{- return(adapter.dispatch('_interval', 'feature_store')(duration)) -}}
{% endmacro %}

{#-- A day is 24 hours here: instants are UTC without a zone, so no daylight saving can stretch it. --#}
{% macro default___interval(duration) -%}
    interval '{{ duration.text }}'
{%- endmacro %}
