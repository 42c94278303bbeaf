{#-- ORDER BY terms that put the greatest value first: NULL lowest, NaN highest, text by bytes, false before true. --#}
{% macro default___greatest_first(expression, data_type) -%}
    {{ expression }} desc nulls last
{%- endmacro %}

{#-- PostgreSQL takes -0.0 and 0.0 for equal and a NULL inside a list for the greatest, orders enums by position and json not
     at all. --#}
{% macro postgres___greatest_first(expression, data_type) -%}
    {%- set types = feature_store._types() -%}
    {%- set type = (data_type or '') | lower -%}
    {%- if type in ('real', 'double precision') -%}
        {{ expression }} desc nulls last, cast({{ expression }} as {{ types.text }}) like '-%' asc nulls last
    {%- elif type.endswith(']') -%}
        array(
                        select row(one is not null, one)
                        from unnest({{ expression }}) with ordinality as list (one, place)
                        order by place asc
                    ) desc nulls last,
                    cast({{ expression }} as {{ types.text }}) collate "C" desc nulls last
    {%- elif type in ('smallint', 'integer', 'bigint', 'boolean', 'date', 'uuid', 'bytea', 'text')
            or type.startswith(('numeric', 'timestamp', 'time ', 'character')) -%}
        {{ feature_store._exact(expression, data_type) }} desc nulls last
    {%- else -%}
        cast({{ expression }} as {{ types.text }}) collate "C" desc nulls last
    {%- endif -%}
{%- endmacro %}

{#-- What tells a value from the next greater one: Spark takes -0.0 and 0.0 for equal, and maps have no order. --#}
{% macro spark___ranks(expression, data_type) %}
    {%- set type = (data_type or '') | lower -%}
    {%- if type in ('float', 'double') -%}
        {%- do return([expression, 'cast(' ~ expression ~ " as string) not like '-%'"]) -%}
    {%- elif 'map<' in type or type in ('variant', 'interval') -%}
        {%- do return(['cast(' ~ expression ~ ' as string)']) -%}
    {%- elif type.startswith(('array', 'struct')) -%}
        {%- do return([expression, 'cast(' ~ expression ~ ' as string)']) -%}
    {%- endif -%}
    {%- do return([feature_store._exact(expression, data_type)]) -%}
{% endmacro %}

{% macro spark___greatest_first(expression, data_type) -%}
    {{ feature_store.spark___ranks(expression, data_type) | join(' desc nulls last, ') }} desc nulls last
{%- endmacro %}

{#-- What is no number, text or moment has no order there, or none that is whole: it goes by its text. --#}
{% macro snowflake___greatest_first(expression, data_type) -%}
    {%- set types = feature_store._types() -%}
    {%- set kind = feature_store._feature_kind(data_type).kind -%}
    {%- if kind == 'float' -%}
        {{ expression }} desc nulls last, cast({{ expression }} as {{ types.text }}) like '-%' asc nulls last
    {%- elif kind in ('list', 'other') -%}
        cast({{ expression }} as {{ types.text }}) desc nulls last
    {%- else -%}
        {{ expression }} desc nulls last
    {%- endif -%}
{%- endmacro %}

{#-- NaN is lowest there, and a zero as text has no sign. --#}
{% macro bigquery___greatest_first(expression, data_type) -%}
    {%- set kind = feature_store._feature_kind(data_type).kind -%}
    {%- if kind == 'float' -%}
        is_nan({{ expression }}) desc nulls last, {{ expression }} desc nulls last, ieee_divide(1, {{ expression }}) desc nulls last
    {%- elif kind in ('list', 'other') -%}
        to_json_string({{ expression }}) desc nulls last
    {%- else -%}
        {{ expression }} desc nulls last
    {%- endif -%}
{%- endmacro %}

{% macro redshift___greatest_first(expression, data_type) -%}
    {%- if (data_type or '') | lower == 'super' -%}
        json_serialize({{ expression }}) desc nulls last
    {%- else -%}
        {{ feature_store.snowflake___greatest_first(expression, data_type) }}
    {%- endif -%}
{%- endmacro %}

{#-- DuckDB takes -0.0 and 0.0 for equal and a NULL inside a list for the greatest, and orders enums by position. --#}
{% macro duckdb___greatest_first(expression, data_type) -%}
    {%- set types = feature_store._types() -%}
    {%- set type = (data_type or '') | upper -%}
    {%- if type in ('FLOAT', 'DOUBLE', 'REAL') -%}
        {{ expression }} desc nulls last, signbit({{ expression }}) asc nulls last
    {%- elif type.endswith(']') -%}
        list_transform({{ expression }}, lambda e: {'given': e is not null, 'value': e}) desc nulls last,
                    cast({{ expression }} as {{ types.text }}) desc nulls last
    {%- elif type.startswith('ENUM') -%}
        cast({{ expression }} as {{ types.text }}) desc nulls last
    {%- elif type.startswith('STRUCT') or type.startswith('MAP') or type == 'INTERVAL' -%}
        {{ expression }} desc nulls last, cast({{ expression }} as {{ types.text }}) desc nulls last
    {%- else -%}
        {{ feature_store._exact(expression, data_type) }} desc nulls last
    {%- endif -%}
{%- endmacro %}
