{#-- `meta.feature_view.freshness` as {warn_after, error_after}, each a duration or none; {} where it is left out. `what` names the
     setting in the error. Python asks it too. --#}
{% macro _freshness_limits(freshness, what) %}
    {%- set known = ['warn_after', 'error_after'] -%}
    {%- set limits = {} -%}
    {%- set problem = namespace(text=none) -%}
    {%- if freshness is not mapping or not freshness -%}
        {%- set problem.text = 'is ' ~ feature_store._shown(freshness) ~ ': write for example {warn_after: 1 day, error_after: 3 days}' -%}
    {%- else -%}
        {%- for key, value in freshness.items() -%}
            {%- if key not in known -%}
                {%- set problem.text = "has no key '" ~ key ~ "'; its keys are " ~ known | join(', ') -%}
            {%- else -%}
                {%- do limits.update({key: feature_store._freshness_limit(value, what ~ '.' ~ key)}) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if problem.text is none and limits | length == 2 and limits.warn_after.seconds > limits.error_after.seconds -%}
            {%- set problem.text = 'has warn_after ' ~ limits.warn_after.text ~ ' beyond error_after ' ~ limits.error_after.text
                ~ ', so that it would never warn: make it the shorter one' -%}
        {%- endif -%}
    {%- endif -%}
    {%- if problem.text is not none -%}
        {%- do exceptions.raise_compiler_error(what ~ ' ' ~ problem.text ~ '.') -%}
    {%- endif -%}
    {%- do return(limits) -%}
{% endmacro %}


{#-- '12 hours', or {count: 12, period: hour} as dbt writes it for sources, as a duration. --#}
{% macro _freshness_limit(value, what) %}
    {%- if value is mapping -%}
        {%- if value.keys() | map('string') | sort | join(',') != 'count,period'
                or value['count'] is not integer or value['period'] is not string -%}
            {%- do exceptions.raise_compiler_error(
                what ~ ' is ' ~ value ~ ": write a duration such as '12 hours', or {count: 12, period: hour}."
            ) -%}
        {%- endif -%}
        {%- do return(feature_store._duration(value['count'] ~ ' ' ~ value['period'], what)) -%}
    {%- endif -%}
    {%- do return(feature_store._duration(value, what)) -%}
{% endmacro %}
