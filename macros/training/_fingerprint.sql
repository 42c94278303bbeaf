{#-- What of a view a training set can have read, in one row: how many rows there are in all, how many of them up to
     `until` (the newest moment of the spine, text in UTC; none for all), their newest event, and a hash of their content that does not
     depend on their order. Rows that came later do not change it. --#}
{% macro _view_fingerprint(reference, features, until=none, filter_by_created_timestamp=true) -%}
    {%- set view = feature_store._feature_view(reference) -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set columns = view.entities + [view.timestamp] -%}
    {%- set bounds = [event ~ ' <= ' ~ feature_store._timestamp(until)] if until else [] -%}
    {%- if view.created_timestamp and filter_by_created_timestamp -%}
        {%- do columns.append(view.created_timestamp) -%}
        {%- if until -%}
            {%- set created = feature_store._instant(feature_store._quoted(view.created_timestamp.name), view.created_timestamp.type) -%}
            {%- do bounds.append(created ~ ' <= ' ~ feature_store._timestamp(until)) -%}
        {%- endif -%}
    {%- endif -%}
    {%- set known = feature_store._by_name(view.features) -%}
    {%- for name in features -%}
        {%- do columns.append(known[name | lower]) -%}
    {%- endfor -%}
    {%- set counts = bounds | join(' and ') or 'true' -%}
select
    count(*) as rows_in_all,
    count(case when {{ counts }} then 1 end) as rows_read,
    max(case when {{ counts }} then {{ event }} end) as newest_event,
    {{ adapter.dispatch('_content', 'feature_store')(columns, counts) }} as content
from {{ view.relation }}
{%- endmacro %}


{#-- The same hash for the rows of any relation, over some of its columns. --#}
{% macro _rows_fingerprint(relation, names) -%}
    {%- set known = feature_store._by_name(feature_store._columns(relation)) -%}
    {%- set columns = [] -%}
    {%- for name in names -%}
        {%- do columns.append(known[name | lower]) -%}
    {%- endfor -%}
select {{ adapter.dispatch('_content', 'feature_store')(columns, 'true') }} as content
from {{ relation }}
{%- endmacro %}


{#-- Content is told from counts alone where the warehouse has no known hash of any value. --#}
{% macro default___content(columns, counts) -%}
    {%- set types = feature_store._types() -%}
    max(cast(null as {{ types.text }}))
{%- endmacro %}

{#-- PostgreSQL hashes 0.0 and -0.0 alike too; of what it has no hash, and of lists, which may hold one, it takes the text. --#}
{% macro postgres___content(columns, counts) -%}
    {%- set types = feature_store._types() -%}
    {%- set terms = [] -%}
    {%- for column in columns -%}
        {%- set name = feature_store._quoted(column.name) -%}
        {%- set text = 'cast(' ~ name ~ ' as ' ~ types.text ~ ')' -%}
        {%- set type = column.type | lower -%}
        {%- if type in (types.float, types.double) -%}
            {%- do terms.extend([name, 'case when ' ~ name ~ ' = 0 then ' ~ text ~ ' end']) -%}
        {%- elif type in ('boolean', 'smallint', 'integer', 'bigint', 'text', 'bytea', 'date', 'uuid')
                or type.startswith(('timestamp', 'character varying', 'varchar')) -%}
            {%- do terms.append(name) -%}
        {%- else -%}
            {%- do terms.append(text) -%}
        {%- endif -%}
    {%- endfor -%}
    cast(sum(case when {{ counts }} then hash_record_extended(row({{ terms | join(', ') }}), 0) end) as {{ types.text }})
{%- endmacro %}

{#-- As below. Spark's hash passes over NULL and takes -0.0 for 0.0. --#}
{% macro spark___content(columns, counts) -%}
    {%- set types = feature_store._types() -%}
    {%- set terms = [] -%}
    {%- for column in columns -%}
        {%- set name = feature_store._quoted(column.name) -%}
        {%- set type = column.type | lower -%}
        {%- set text = 'cast(' ~ name ~ ' as ' ~ types.text ~ ')' -%}
        {%- do terms.append(text if '<' in type or type in ('float', 'double', 'variant') else name) -%}
        {%- do terms.append(name ~ ' is null') -%}
    {%- endfor -%}
    cast(
        sum(case when {{ counts }} then cast(xxhash64({{ terms | join(', ') }}) as {{ types.whole }}) end) as {{ types.text }}
    )
{%- endmacro %}

{#-- A sum, so that neither order nor a pair of equal rows is lost. DuckDB hashes 0.0 and -0.0 alike, so signs count (but of NaN,
     which is one). --#}
{% macro duckdb___content(columns, counts) -%}
    {%- set types = feature_store._types() -%}
    {%- set terms = [] -%}
    {%- for column in columns -%}
        {%- set name = feature_store._quoted(column.name) -%}
        {%- set type = column.type | upper -%}
        {%- set text = 'replace(cast(' ~ name ~ " as " ~ types.text ~ "), '-nan', 'nan')" -%}
        {%- if type in ('FLOAT', 'DOUBLE') -%}
            {%- do terms.extend([name, '(signbit(' ~ name ~ ') and not isnan(' ~ name ~ '))']) -%}
        {%- elif type.startswith(('FLOAT[', 'DOUBLE[')) and type.count('[') == 1 -%}
            {#-- The length, since NULL and an empty list are hashed alike too; text only where there is a zero: it costs most. --#}
            {%- do terms.extend([name, 'len(' ~ name ~ ')', 'case when list_contains(' ~ name ~ ', 0.0) then ' ~ text ~ ' end']) -%}
        {%- elif type in ('BOOLEAN', 'TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'VARCHAR', 'BLOB', 'DATE')
                or type.startswith('TIMESTAMP') -%}
            {%- do terms.append(name) -%}
        {%- else -%}
            {%- do terms.append(text if 'FLOAT' in type or 'DOUBLE' in type else 'cast(' ~ name ~ ' as ' ~ types.text ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    cast(sum(case when {{ counts }} then hash({{ terms | join(', ') }}) end) as {{ types.text }})
{%- endmacro %}
