{#-- What engines call their types: {what it is: its name}. A macro elsewhere writes `types.double` and no name, and a literal of a moment
     with `_timestamp`.

     `whole` holds whole numbers of 38 digits, `numeric` any decimal exactly, and a `timestamp` has no zone: it is an instant in UTC. --#}
{% macro _types() %}
    {%- do return(adapter.dispatch('_types', 'feature_store')()) -%}
{% endmacro %}

{% macro default___types() %}
    {%- do return({
        'boolean': 'boolean', 'integer': 'integer', 'bigint': 'bigint', 'whole': 'decimal(38, 0)', 'decimal': 'decimal',
        'numeric': 'numeric', 'float': 'real', 'double': 'double precision', 'text': 'varchar', 'date': 'date',
        'timestamp': 'timestamp'
    }) -%}
{% endmacro %}

{% macro duckdb___types() %}
    {%- do return({
        'boolean': 'boolean', 'integer': 'integer', 'bigint': 'bigint', 'whole': 'hugeint', 'uhugeint': 'uhugeint', 'decimal': 'decimal',
        'float': 'float', 'double': 'double', 'text': 'varchar', 'date': 'date', 'timestamp': 'timestamp'
    }) -%}
{% endmacro %}

{% macro postgres___types() %}
    {%- do return(dict(feature_store.default___types(), text='text')) -%}
{% endmacro %}

{% macro spark___types() %}
    {%- do return({
        'boolean': 'boolean', 'integer': 'int', 'bigint': 'bigint', 'whole': 'decimal(38, 0)', 'decimal': 'decimal', 'float': 'float',
        'double': 'double', 'text': 'string', 'date': 'date', 'timestamp': 'timestamp_ntz'
    }) -%}
{% endmacro %}

{% macro snowflake___types() %}
    {%- do return(dict(feature_store.default___types(), decimal='number', double='double', timestamp='timestamp_ntz')) -%}
{% endmacro %}

{% macro bigquery___types() %}
    {%- do return({
        'boolean': 'bool', 'integer': 'int64', 'bigint': 'int64', 'whole': 'bignumeric', 'decimal': 'numeric', 'numeric': 'bignumeric',
        'float': 'float64', 'double': 'float64', 'text': 'string', 'date': 'date', 'timestamp': 'datetime'
    }) -%}
{% endmacro %}

{#-- Without a length a `varchar` has 256 bytes there. --#}
{% macro redshift___types() %}
    {%- do return(dict(feature_store.default___types(), text='varchar(65535)')) -%}
{% endmacro %}


{#-- The type of a 64-bit floating point number. --#}
{% macro _double() -%}
    {{- return(feature_store._types().double) -}}
{%- endmacro %}


{#-- DuckDB's name of a type, in capitals, as the engine calls it. --#}
{% macro _type_of_duckdb(type) %}
    {%- set types = feature_store._types() -%}
    {%- set names = {'DOUBLE': types.double, 'VARCHAR': types.text, 'INTEGER': types.integer, 'TIMESTAMP': types.timestamp} -%}
    {%- do return(names.get(type, type | lower)) -%}
{% endmacro %}


{#-- integer, wide integer (beyond 64 bits), decimal, wide decimal (beyond 28 digits), double, other, or unknown: decides the stated
     type of a sum, and how it is added up. --#}
{% macro _number_kind(data_type) %}
    {%- set type = (data_type or '') | upper -%}
    {%- if not type -%}
        {%- do return('unknown') -%}
    {%- elif type in (
        'TINYINT', 'SMALLINT', 'INTEGER', 'INT', 'BIGINT', 'INT64', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT', 'BOOLEAN'
    ) -%}
        {%- do return('integer') -%}
    {%- elif type in ('HUGEINT', 'UHUGEINT') -%}
        {%- do return('wide integer') -%}
    {%- elif type.startswith(('DECIMAL', 'NUMERIC', 'NUMBER', 'BIGNUMERIC')) and not type.endswith(']') -%}
        {#- A running total of decimals of up to 28 digits fits into 38. -#}
        {%- set digits = type.split('(')[1].split(',')[0] if '(' in type else '18' -%}
        {%- do return('decimal' if digits | int <= 28 else 'wide decimal') -%}
    {%- elif type in ('DOUBLE', 'FLOAT', 'REAL', 'DOUBLE PRECISION', 'FLOAT64') -%}
        {%- do return('double') -%}
    {%- endif -%}
    {%- do return('other') -%}
{% endmacro %}


{#-- The digits after the point of a decimal type; 0 for integers. --#}
{% macro _decimal_places(data_type) %}
    {%- do return(data_type.split(',')[1].replace(')', '') | int if ',' in data_type else 3 if data_type | upper == 'DECIMAL' else 0) -%}
{% endmacro %}


{#-- What a feature's values are, from the warehouse's name of their type: {kind, scale, of_numbers}. Kinds are integer,
     decimal (with `scale` digits behind the point), float, boolean, text, date, timestamp, list (`of_numbers` or not)
     and other. --#}
{% macro _feature_kind(data_type) %}
    {%- set type = (data_type or '') | lower | trim -%}
    {%- set integers = [
        'tinyint', 'smallint', 'int', 'integer', 'bigint', 'hugeint', 'utinyint', 'usmallint', 'uinteger', 'ubigint',
        'uhugeint', 'byteint', 'int2', 'int4', 'int8', 'int64'
    ] -%}
    {%- set decimals = ['decimal', 'numeric', 'number', 'bignumeric'] -%}
    {%- set floats = ['real', 'float', 'float4', 'float8', 'float64', 'double'] -%}
    {%- set texts = ['varchar', 'text', 'string', 'char', 'character', 'uuid', 'enum'] -%}
    {%- if type.endswith(']') or type.startswith('array') -%}
        {%- set of = type[:type.rfind('[')] if type.endswith(']') else type[6:-1] if type.startswith('array<') else '' -%}
        {%- set element = feature_store._feature_kind(of) -%}
        {%- do return({'kind': 'list', 'scale': 0, 'of_numbers': element.kind in ('integer', 'decimal', 'float')}) -%}
    {%- endif -%}
    {%- set word = (type.replace('(', ' ').split() or [''])[0] -%}
    {%- if word in integers -%}
        {%- do return({'kind': 'integer', 'scale': 0}) -%}
    {%- elif word in decimals -%}
        {%- set size = type[type.find('(') + 1:-1].split(',') if '(' in type else [] -%}
        {%- do return({
            'kind': 'decimal',
            'scale': size[1] | int if size | length == 2 else 0,
            'precision': size[0] | int if size else 38,
        }) -%}
    {%- elif word in floats -%}
        {%- do return({'kind': 'float', 'scale': 0}) -%}
    {%- elif word in ('bool', 'boolean') -%}
        {%- do return({'kind': 'boolean', 'scale': 0}) -%}
    {%- elif word in texts -%}
        {%- do return({'kind': 'text', 'scale': 0}) -%}
    {%- elif word == 'date' -%}
        {%- do return({'kind': 'date', 'scale': 0}) -%}
    {%- elif word.startswith('timestamp') or word == 'datetime' -%}
        {%- do return({'kind': 'timestamp', 'scale': 6}) -%}
    {%- endif -%}
    {%- do return({'kind': 'other', 'scale': 0}) -%}
{% endmacro %}
