{#-- A timestamp of any kind as a zone-less UTC timestamp in whole microseconds, so that naive, zoned and nanosecond
     columns compare with each other. `data_type` may be none where it is not known yet. --#}
{% macro _instant(expression, data_type=none) %}
    {{- return(adapter.dispatch('_instant', 'feature_store')(expression, data_type)) -}}
{% endmacro %}

{#-- Whether a type is that of moments with a time zone; not PostgreSQL's `timestamp without time zone`. --#}
{% macro _is_zoned(data_type) %}
    {%- set type = (data_type or '') | upper -%}
    {%- do return('WITH TIME ZONE' in type or 'TIMESTAMPTZ' in type) -%}
{% endmacro %}

{#-- The seconds since 1970 are absolute for a zoned timestamp and nominal for a naive one: no session's zone has a part in them. --#}
{% macro postgres___instant(expression, data_type) -%}
    {%- set type = (data_type or '') | lower -%}
    {%- if type.startswith('timestamp') and 'without' in type or type == 'timestamp' -%}
        {{ expression }}
    {%- elif feature_store._is_zoned(type) -%}
        ({{ expression }} at time zone 'UTC')
    {%- elif type == 'date' -%}
        cast({{ expression }} as timestamp)
    {%- else -%}
        (timestamp '1970-01-01' + extract(epoch from {{ expression }}) * interval '1 second')
    {%- endif -%}
{%- endmacro %}

{% macro default___instant(expression, data_type) -%}
    cast({{ expression }} as timestamp)
{%- endmacro %}

{#-- A cast from TIMESTAMPTZ would depend on the session's time zone; the microseconds since 1970 do not. Infinity has
     none, and is cast. Nanoseconds are truncated downwards: DuckDB's own cast rounds, which could lift a row over a border. --#}
{% macro duckdb___instant(expression, data_type) -%}
    {%- set type = (data_type or '') | upper -%}
    {%- if type == 'TIMESTAMP' -%}
        {{ expression }}
    {%- elif type in ('TIMESTAMP_S', 'TIMESTAMP_MS') -%}
        cast({{ expression }} as timestamp)
    {%- elif type == 'DATE' -%}
        try_cast({{ expression }} as timestamp)
    {%- elif type in ('TIMESTAMP_NS', 'TIMESTAMPTZ_NS') -%}
        {%- set nanoseconds = 'epoch_ns(' ~ expression ~ ')' -%}
        coalesce(
            make_timestamp(({{ nanoseconds }} - ({{ nanoseconds }} % 1000 + 1000) % 1000) // 1000),
            cast({{ expression }} as timestamp)
        )
    {%- else -%}
        coalesce(make_timestamp(epoch_us({{ expression }})), cast({{ expression }} as timestamp))
    {%- endif -%}
{%- endmacro %}


{#-- A moment in UTC, given as text, as a literal of an `_instant`. --#}
{% macro _timestamp(text) %}
    {{- return(adapter.dispatch('_timestamp', 'feature_store')(text)) -}}
{% endmacro %}

{% macro default___timestamp(text) -%}
    timestamp '{{ text }}'
{%- endmacro %}

{#-- Without NTZ it would be a moment of the session's zone. --#}
{% macro spark___timestamp(text) -%}
    timestamp_ntz '{{ text }}'
{%- endmacro %}
