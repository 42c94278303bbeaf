{#-- The columns of a relation in the warehouse, in order: [{name, type}]. Empty while dbt parses, for the name of a CTE, and
     for what is not built yet. Of a query given as text the warehouse says them, as soon as all that it reads is there. --#}
{% macro _columns(relation) %}
    {%- set columns = [] -%}
    {%- if execute and relation is string -%}
        {%- set query = feature_store._query_text(relation) -%}
        {%- for name, type in (adapter.dispatch('_columns_of_query', 'feature_store')(query) if query else {}).items() -%}
            {%- do columns.append({'name': name, 'type': type}) -%}
        {%- endfor -%}
    {%- elif execute and relation is not none -%}
        {%- do columns.extend(adapter.dispatch('_columns_of_relation', 'feature_store')(relation)) -%}
    {%- endif -%}
    {%- do return(columns) -%}
{% endmacro %}


{% macro default___columns_of_relation(relation) %}
    {%- set columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do columns.append({'name': column.name, 'type': column.dtype}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}

{#-- With the digits of numbers and what lists hold, which the adapter leaves out. --#}
{% macro postgres___columns_of_relation(relation) %}
    {#- In a microbatch a relation is written as a query. -#}
    {%- set name = relation.render() if relation.render is defined else relation -%}
    {%- set query -%}
        select attribute.attname, format_type(attribute.atttypid, attribute.atttypmod)
        from pg_attribute as attribute
        where
            attribute.attrelid = to_regclass({{ feature_store._literal(name) }})
            and attribute.attnum > 0
            and not attribute.attisdropped
        order by attribute.attnum
    {%- endset -%}
    {%- set rows = run_query(query) -%}
    {%- if rows is none -%}
        {#- Outside of dbt whoever renders this knows the columns. -#}
        {%- do return(feature_store.default___columns_of_relation(relation)) -%}
    {%- endif -%}
    {%- set columns = [] -%}
    {%- for row in rows -%}
        {%- do columns.append({'name': row[0], 'type': row[1]}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}

{#-- These say the digits of numbers in `data_type` alone; Redshift's catalogue is not PostgreSQL's. --#}
{% macro snowflake___columns_of_relation(relation) %}
    {%- set columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do columns.append({'name': column.name, 'type': column.data_type if column.data_type is defined else column.dtype}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}

{% macro bigquery___columns_of_relation(relation) %}
    {%- do return(feature_store.snowflake___columns_of_relation(relation)) -%}
{% endmacro %}

{% macro redshift___columns_of_relation(relation) %}
    {%- do return(feature_store.snowflake___columns_of_relation(relation)) -%}
{% endmacro %}

{% macro redshift___columns_of_query(query) %}
    {%- do return({}) -%}
{% endmacro %}

{% macro redshift___types_of_query(query, names) %}
    {%- do return({}) -%}
{% endmacro %}


{#-- {column: type} of a query in parentheses; empty where it cannot be known without an error. --#}
{% macro default___columns_of_query(query) %}
    {%- do return({}) -%}
{% endmacro %}

{#-- Names from the query's description, types from the engine, which plans the query and reads no row of it. --#}
{% macro postgres___columns_of_query(query) %}
    {%- set names = [] -%}
    {%- for column in adapter.get_column_schema_from_query('select * from ' ~ query ~ ' as query limit 0') -%}
        {%- do names.append(column.name) -%}
    {%- endfor -%}
    {%- do return(feature_store.postgres___types_of_query('select * from ' ~ query ~ ' as query', names)) -%}
{% endmacro %}

{% macro spark___columns_of_query(query) %}
    {%- do return(feature_store.spark___types_of_query('select * from ' ~ query ~ ' as query', none)) -%}
{% endmacro %}

{#-- DuckDB takes a query apart without looking for its tables, so that they can be looked for first: dbt compiles models, and unit tests,
     before what they read is there. A table that is a file by its name is taken to be there. --#}
{% macro duckdb___columns_of_query(query) %}
    {%- set missing -%}
        with
        parsed as (
            select json_serialize_sql({{ feature_store._literal('select * from ' ~ query ~ ' as query') }}) as tree
        ),
        parts as (
            select json_tree.key, json_tree.path, json_tree.type, json_tree.value
            from parsed, json_tree(parsed.tree)
        ),
        named as (
            select lower(value ->> 'catalog_name') as c, lower(value ->> 'schema_name') as s, lower(value ->> 'table_name') as t
            from parts
            where type = 'OBJECT' and value ->> 'type' = 'BASE_TABLE'
        ),
        known as (
            select lower(database_name) as c, lower(schema_name) as s, lower(table_name) as t from duckdb_tables()
            union all
            select lower(database_name), lower(schema_name), lower(view_name) from duckdb_views()
            union all
            select '', '', lower(value ->> '$') from parts where key = 'key' and path like '%cte_map.map%'
        )
        select count(*)
        from named
        where
            not exists (
                select 1 from known
                where known.t = named.t and (named.s in ('', known.s, known.c) or known.s = '') and named.c in ('', known.c)
            )
            and not regexp_matches(t, '\.(parquet|csv|tsv|json|jsonl|ndjson)(\.[a-z0-9]+)?$')
        union all
        select count(*) from parsed where tree ->> 'error' = 'true'
    {%- endset -%}
    {%- for row in run_query(missing) or [] if row[0] -%}
        {%- do return({}) -%}
    {%- endfor -%}
    {%- do return(adapter.dispatch('_types_of_query', 'feature_store')('select * from ' ~ query ~ ' as query', none)) -%}
{% endmacro %}


{#-- The one of `columns` (of `_columns`) called `name`, whatever its case; none where there is none. --#}
{% macro _column(columns, name) %}
    {%- for column in columns if column.name | lower == name | lower -%}
        {%- do return(column) -%}
    {%- endfor -%}
    {%- do return(none) -%}
{% endmacro %}


{#-- Columns (of `_columns`) by their names in lower case, to look many of them up. --#}
{% macro _by_name(columns) %}
    {%- set found = {} -%}
    {%- for column in columns -%}
        {%- do found.setdefault(column.name | lower, column) -%}
    {%- endfor -%}
    {%- do return(found) -%}
{% endmacro %}


{#-- {column: data type} of a query that is there to run, as far as they can be known without running it; `names` are its columns. --#}
{% macro default___types_of_query(query, names) %}
    {%- do return({}) -%}
{% endmacro %}

{% macro postgres___types_of_query(query, names) %}
    {%- set text = feature_store._types().text -%}
    {%- set types = [] -%}
    {%- for name in names -%}
        {%- do types.append('cast(pg_typeof(query.' ~ feature_store._quoted(name) ~ ') as ' ~ text ~ ')') -%}
    {%- endfor -%}
    {%- set described -%}
        select {{ types | join(', ') }}
        from (select 1) as one
        left join (select * from ({{ query }}) as query limit 0) as query on true
    {%- endset -%}
    {%- set found = {} -%}
    {%- for row in run_query(described) or [] -%}
        {%- for name in names -%}
            {%- do found.update({name: row[loop.index0]}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do return(found) -%}
{% endmacro %}

{% macro duckdb___types_of_query(query, names) %}
    {%- set types = {} -%}
    {%- for row in run_query('describe ' ~ query) or [] -%}
        {%- do types.update({row[0]: row[1]}) -%}
    {%- endfor -%}
    {%- do return(types) -%}
{% endmacro %}


{% macro spark___types_of_query(query, names) %}
    {%- set types = {} -%}
    {%- for row in run_query('describe query ' ~ query) or [] -%}
        {%- do types.update({row[0]: row[1]}) -%}
    {%- endfor -%}
    {%- do return(types) -%}
{% endmacro %}
