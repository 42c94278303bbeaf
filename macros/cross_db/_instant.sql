{#-- A timestamp of any kind as a zone-less UTC timestamp in whole microseconds, so that naive, zoned and nanosecond
     columns compare with each other. `data_type` may be none where it is not known yet. --#}
{% macro _instant(expression, data_type=none) %}
    {{- return(adapter.dispatch('_instant', 'feature_store')(expression, data_type)) -}}
{% endmacro %}

{#-- Whether a type is that of moments with a time zone; not PostgreSQL's `timestamp without time zone`. --#}
{% macro _is_zoned(data_type) %}
    {%- do return(adapter.dispatch('_is_zoned', 'feature_store')((data_type or '') | upper)) -%}
{% endmacro %}

{% macro default___is_zoned(type) %}
    {%- do return('WITH TIME ZONE' in type or 'TIMESTAMPTZ' in type) -%}
{% endmacro %}

{% macro spark___is_zoned(type) %}
    {%- do return(type in ('TIMESTAMP', 'TIMESTAMP_LTZ')) -%}
{% endmacro %}

{% macro snowflake___is_zoned(type) %}
    {%- do return(type.startswith(('TIMESTAMP_TZ', 'TIMESTAMP_LTZ'))) -%}
{% endmacro %}

{% macro bigquery___is_zoned(type) %}
    {%- do return(type == 'TIMESTAMP') -%}
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

{#-- A `timestamp` is absolute there and is cast by the session's zone; its microseconds since 1970 are not. --#}
{% macro spark___instant(expression, data_type) -%}
    {%- set type = (data_type or '') | lower -%}
    {%- set absolute = "(timestamp_ntz '1970-01-01' + unix_micros({}) * interval '0.000001' second)" -%}
    {%- if type == 'timestamp_ntz' -%}
        {{ expression }}
    {%- elif type in ('timestamp', 'timestamp_ltz') -%}
        {{ absolute.format(expression) }}
    {%- elif type -%}
        cast({{ expression }} as timestamp_ntz)
    {%- else -%}
        case
            when typeof({{ expression }}) = 'timestamp' then {{ absolute.format('cast(' ~ expression ~ ' as timestamp)') }}
            else cast({{ expression }} as timestamp_ntz)
        end
    {%- endif -%}
{%- endmacro %}

{#-- The microseconds since 1970 are nominal for a TIMESTAMP_NTZ and absolute for the others; they leave nanoseconds out. --#}
{% macro snowflake___instant(expression, data_type) -%}
    {%- if (data_type or '') | upper == 'DATE' -%}
        cast({{ expression }} as timestamp_ntz)
    {%- else -%}
        to_timestamp_ntz(date_part(epoch_microsecond, {{ expression }}), 6)
    {%- endif -%}
{%- endmacro %}

{#-- Of a column whose type is not known yet a DATETIME is read in the project's zone, which is UTC where none is set. --#}
{% macro bigquery___instant(expression, data_type) -%}
    {%- set type = (data_type or '') | upper -%}
    {%- if type == 'DATETIME' -%}
        {{ expression }}
    {%- elif type == 'TIMESTAMP' -%}
        datetime({{ expression }}, 'UTC')
    {%- elif type -%}
        cast({{ expression }} as datetime)
    {%- else -%}
        datetime(timestamp({{ expression }}), 'UTC')
    {%- endif -%}
{%- endmacro %}

{#-- Of a column whose type is not known yet a zoned timestamp is read in the session's zone, which is UTC where none is set. --#}
{% macro redshift___instant(expression, data_type) -%}
    {%- if data_type and (feature_store._is_zoned(data_type) or data_type | lower in ('timestamp', 'timestamp without time zone')) -%}
        {{ feature_store.postgres___instant(expression, data_type) }}
    {%- else -%}
        cast({{ expression }} as timestamp)
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

{% macro snowflake___timestamp(text) -%}
    cast('{{ text }}' as timestamp_ntz)
{%- endmacro %}

{% macro bigquery___timestamp(text) -%}
    datetime '{{ text }}'
{%- endmacro %}

{#-- Without NTZ it would be a moment of the session's zone. --#}
{% macro spark___timestamp(text) -%}
    timestamp_ntz '{{ text }}'
{%- endmacro %}


{#-- An `_instant` as a timestamp with a time zone. --#}
{% macro default___zoned(instant) -%}
    {{ instant }} at time zone 'UTC'
{%- endmacro %}

{% macro snowflake___zoned(instant) -%}
    to_timestamp_tz(date_part(epoch_microsecond, {{ instant }}), 6)
{%- endmacro %}

{% macro bigquery___zoned(instant) -%}
    timestamp({{ instant }}, 'UTC')
{%- endmacro %}

{#-- What adds days to a `timestamp` goes by the session's zone. --#}
{% macro spark___zoned(instant) -%}
    timestamp_micros(({{ instant }} - timestamp_ntz '1970-01-01') div interval '0.000001' second)
{%- endmacro %}


{#-- The present moment as an `_instant`. --#}
{% macro _now() -%}
    {{ return(adapter.dispatch('_now', 'feature_store')()) }}
{%- endmacro %}

{% macro default___now() -%}
    {%- set types = feature_store._types() -%}
    cast(current_timestamp as {{ types.timestamp }})
{%- endmacro %}

{% macro spark___now() -%}
    {{ feature_store.spark___instant('current_timestamp()', 'timestamp') }}
{%- endmacro %}

{% macro snowflake___now() -%}
    cast(convert_timezone('UTC', current_timestamp()) as timestamp_ntz)
{%- endmacro %}

{% macro bigquery___now() -%}
    current_datetime('UTC')
{%- endmacro %}

{#-- In the session's zone, which is UTC where none is set. --#}
{% macro redshift___now() -%}
    getdate()
{%- endmacro %}

{#-- `now()` stands still in a transaction. --#}
{% macro postgres___now() -%}
    (clock_timestamp() at time zone 'UTC')
{%- endmacro %}

{% macro duckdb___now() -%}
    make_timestamp(epoch_us(now()))
{%- endmacro %}


{#-- The whole seconds from one `_instant` to a later one. --#}
{% macro _age_seconds(earlier, later) %}
    {{- return(adapter.dispatch('_age_seconds', 'feature_store')(earlier, later)) -}}
{% endmacro %}

{% macro default___age_seconds(earlier, later) -%}
    cast(floor(extract(epoch from ({{ later }} - {{ earlier }}))) as bigint)
{%- endmacro %}

{% macro duckdb___age_seconds(earlier, later) -%}
    date_sub('second', {{ earlier }}, {{ later }})
{%- endmacro %}

{% macro spark___age_seconds(earlier, later) -%}
    ({{ later }} - {{ earlier }}) div interval '1' second
{%- endmacro %}

{% macro snowflake___age_seconds(earlier, later) -%}
    cast(floor(datediff('microsecond', {{ earlier }}, {{ later }}) / 1000000) as bigint)
{%- endmacro %}

{% macro bigquery___age_seconds(earlier, later) -%}
    div(datetime_diff({{ later }}, {{ earlier }}, microsecond), 1000000)
{%- endmacro %}

{% macro redshift___age_seconds(earlier, later) -%}
    datediff(microsecond, {{ earlier }}, {{ later }}) / 1000000
{%- endmacro %}
