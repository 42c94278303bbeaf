{#-- A duration (of `_duration`) as an interval to add to or take from an `_instant`. --#}
{% macro _interval(duration) %}
    {{- return(adapter.dispatch('_interval', 'feature_store')(duration)) -}}
{% endmacro %}

{#-- A day is 24 hours here: instants are UTC without a zone, so no daylight saving can stretch it. From the year 1 to 9999
     there are 3,652,059 days: more than that is no limit, and no engine could calculate with it. --#}
{% macro default___interval(duration) -%}
    interval '{{ '3652059 days' if duration.seconds > 3652059 * 86400 else duration.text }}'
{%- endmacro %}

{#-- The number stands outside of quotes, and the longest span of a DATETIME is no longer than here. --#}
{% macro bigquery___interval(duration) -%}
    {%- if duration.seconds > 3652059 * 86400 -%}
        interval 3652059 day
    {%- elif duration.unit == 'week' -%}
        interval {{ duration.amount * 7 }} day
    {%- else -%}
        interval {{ duration.amount }} {{ duration.unit }}
    {%- endif -%}
{%- endmacro %}


{#-- The shortest time between two instants. --#}
{% macro _microsecond() -%}
    {{- return(adapter.dispatch('_microsecond', 'feature_store')()) -}}
{%- endmacro %}

{% macro default___microsecond() -%}
    interval '1 microsecond'
{%- endmacro %}

{% macro bigquery___microsecond() -%}
    interval 1 microsecond
{%- endmacro %}
