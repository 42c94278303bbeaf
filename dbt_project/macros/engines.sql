{#-- What warehouses spell in different ways, so that the models read alike on all of them. --#}

{#-- The UTC time of day of a moment, without its zone. --#}
{% macro utc(moment) %}{{ return(adapter.dispatch('utc', 'shop')(moment)) }}{% endmacro %}

{% macro default__utc(moment) %}{{ moment }} at time zone 'UTC'{% endmacro %}

{#-- A cast would go by the session's zone; the microseconds since 1970 do not. --#}
{% macro spark__utc(moment) %}(timestamp_ntz '1970-01-01' + unix_micros({{ moment }}) * interval '0.000001' second){% endmacro %}

{#-- A taste: 128 floats. --#}
{% macro vector(numbers) %}{{ return(adapter.dispatch('vector', 'shop')(numbers)) }}{% endmacro %}

{% macro default__vector(numbers) %}cast({{ numbers }} as float[128]){% endmacro %}

{% macro postgres__vector(numbers) %}cast({{ numbers }} as real[]){% endmacro %}

{% macro spark__vector(numbers) %}cast({{ numbers }} as array<float>){% endmacro %}

{#-- dbt's unit tests cast the columns that a fixture leaves out to the type that PostgreSQL's catalog names, which of a list is ARRAY. --#}
{% macro postgres__safe_cast(field, type) %}{{ field if type == 'ARRAY' else 'cast(' ~ field ~ ' as ' ~ type ~ ')' }}{% endmacro %}
