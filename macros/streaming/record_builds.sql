{#-- SQL that writes down what of the landed events the tables of this dbt run had seen; nothing where none of them reads a stream.
     To be called at the end of a run, when dbt shows it what was built. --#}
{% macro record_builds() %}
    {%- if not execute or results is not defined -%}
        {%- do return('') -%}
    {%- endif -%}
    {%- set built = [] -%}
    {%- for result in results if result.status == 'success' and feature_store._is_table(result.node) -%}
        {%- set streams = feature_store._streams_above(result.node.unique_id) -%}
        {%- do built.append((result.node.unique_id, streams)) if streams.sources -%}
    {%- endfor -%}
    {%- if not built or built[0][1].landing is none -%}
        {%- do return('') -%}
    {%- endif -%}
    {%- set landed = adapter.dispatch('_fs_landed_before', 'feature_store')(built[0][1].landing) -%}
    {%- set table = feature_store._built_table() -%}
    {%- set known = feature_store._records(table, built) -%}
    {%- set rows = [] -%}
    {#- A run ends in the order in which its models are made from each other. -#}
    {%- for unique_id, streams in built -%}
        {%- set numbers = [landed] if streams.direct else [] -%}
        {%- for parent in streams.tables -%}
            {%- do numbers.append(known.get(parent, 0)) -%}
        {%- endfor -%}
        {%- do known.update({unique_id: 0 if flags.EMPTY else numbers | min}) -%}
        {%- do rows.append('(' ~ feature_store._text(unique_id) ~ ', ' ~ known[unique_id] ~ ', current_timestamp)') -%}
    {%- endfor -%}
    {#- dbt makes the schemas of the models that it builds; who may not make one need not, where it is there. -#}
    {%- set there = adapter.check_schema_exists(target.database, target.schema) -%}
    {%- do return(adapter.dispatch('_fs_record', 'feature_store')(table, rows, there)) -%}
{% endmacro %}


{#-- SQL that writes rows (model, seq, at) into the table where builds are recorded. --#}
{% macro default___fs_record(table, rows, schema_exists) %}
    {%- do return(
        ('' if schema_exists else 'create schema if not exists ' ~ table.rpartition('.')[0] ~ ';\n')
        ~ 'create table if not exists ' ~ table
        ~ ' (model varchar primary key, seq bigint not null, "at" timestamp with time zone not null);\n'
        ~ 'insert into ' ~ table ~ ' values\n    ' ~ rows | join(',\n    ') ~ '\n'
        ~ 'on conflict (model) do update set seq = excluded.seq, "at" = excluded."at"'
    ) -%}
{% endmacro %}


{#-- A table there takes rows and gives none up, and a hook is one statement: so what is read is a view of the last row of each model. --#}
{% macro spark___fs_record(table, rows, schema_exists) %}
    {%- set log = table ~ '_log' -%}
    {%- if not schema_exists -%}
        {%- do run_query('create schema if not exists ' ~ table.rpartition('.')[0]) -%}
    {%- endif -%}
    {%- do run_query('create table if not exists ' ~ log ~ ' (model string, seq bigint, at timestamp) using parquet') -%}
    {%- do run_query(
        'create or replace view ' ~ table ~ ' as select model, max_by(seq, at) as seq, max(at) as at from ' ~ log ~ ' group by model'
    ) -%}
    {%- do return('insert into ' ~ log ~ ' values\n    ' ~ rows | join(',\n    ')) -%}
{% endmacro %}


{#-- {unique_id: number} of what earlier runs wrote down of the tables that these are made from. --#}
{% macro _records(table, built) %}
    {%- set known = {} -%}
    {%- set asked = [] -%}
    {%- for _, streams in built -%}
        {%- do asked.extend(streams.tables) -%}
    {%- endfor -%}
    {%- if asked and feature_store._exists(table) -%}
        {%- set texts = [] -%}
        {%- for one in asked | unique(case_sensitive=true) -%}
            {%- do texts.append(feature_store._text(one)) -%}
        {%- endfor -%}
        {%- for row in run_query('select model, seq from ' ~ table ~ ' where model in (' ~ texts | join(', ') ~ ')').rows -%}
            {%- do known.update({row[0]: row[1] | int}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do return(known) -%}
{% endmacro %}


{#-- Where the numbers are written down: beside the models, in the target's schema. --#}
{% macro _built_table() %}
    {%- do return(adapter.dispatch('_fs_built_table', 'feature_store')()) -%}
{% endmacro %}


{% macro default___fs_built_table() %}
    {%- do return(feature_store._quoted(target.database) ~ '.' ~ feature_store._quoted(target.schema) ~ '._fs_built') -%}
{% endmacro %}


{#-- A connection has one database. --#}
{% macro postgres___fs_built_table() %}
    {%- do return(feature_store._quoted(target.schema) ~ '._fs_built') -%}
{% endmacro %}


{#-- Nor has Spark. --#}
{% macro spark___fs_built_table() %}
    {%- do return(feature_store._quoted(target.schema) ~ '._fs_built') -%}
{% endmacro %}


{#-- The landing's number as this run's models had it, or a smaller one. The file that is attached stays the one that the run began with,
     whatever has taken its name since. --#}
{% macro default___fs_landed_before(landing) %}
    {%- if not feature_store._exists(landing) -%}
        {%- do return(0) -%}
    {%- endif -%}
    {%- do return(run_query('select max(seq) from ' ~ landing).rows[0][0] or 0) -%}
{% endmacro %}


{#-- What is in changes while models are built: so the number is that of the moment at which this run began. The server's clock decides,
     on which the run's own clock is laid; it may be moved while the run lasts, but not by so much. --#}
{% macro postgres___fs_landed_before(landing) %}
    {%- do return(feature_store._last_shown(landing, '"at" < clock_timestamp() - {} * interval \'1 microsecond\'')) -%}
{% endmacro %}


{#-- The same there: each commit is a partition of the table that says since when it can be read. --#}
{% macro spark___fs_landed_before(landing) %}
    {%- do return(feature_store._last_shown(landing, 'moment < unix_micros(current_timestamp()) - {}')) -%}
{% endmacro %}


{#-- The last commit that could be read when this run began; `long_ago` is a condition for those that could so many microseconds ago. --#}
{% macro _last_shown(landing, long_ago) %}
    {%- set shown = landing | replace('._fs_landing', '._fs_shown') -%}
    {%- if not feature_store._exists(shown) -%}
        {%- do return(0) -%}
    {%- endif -%}
    {%- set lasted = (modules.datetime.datetime.now(modules.pytz.utc) - run_started_at).total_seconds() -%}
    {%- set micros = ((lasted + 5) * 1000000) | int -%}
    {%- set found = run_query('select max(seq) from ' ~ shown ~ ' where ' ~ long_ago | replace('{}', micros)) -%}
    {%- do return(found.rows[0][0] or 0) -%}
{% endmacro %}


{% macro _exists(relation) %}
    {%- do return(adapter.dispatch('_fs_exists', 'feature_store')(relation)) -%}
{% endmacro %}


{% macro default___fs_exists(relation) %}
    {%- set names = relation.replace('"', '').split('.') -%}
    {%- set found = run_query(
        'select count(*) from duckdb_tables() where database_name = ' ~ feature_store._text(names[0])
        ~ ' and schema_name = ' ~ feature_store._text(names[1]) ~ ' and table_name = ' ~ feature_store._text(names[2])
    ) -%}
    {%- do return(found.rows[0][0] > 0) -%}
{% endmacro %}


{% macro postgres___fs_exists(relation) %}
    {%- set found = run_query('select to_regclass(' ~ feature_store._text(relation) ~ ') is not null') -%}
    {%- do return(found.rows[0][0]) -%}
{% endmacro %}


{% macro spark___fs_exists(relation) %}
    {%- set names = relation.replace('`', '').split('.') -%}
    {%- if names[0] | lower not in run_query('show schemas').columns[0].values() | map('lower') -%}
        {%- do return(false) -%}
    {%- endif -%}
    {%- set found = run_query('show tables in ' ~ relation.rpartition('.')[0] ~ " like '" ~ names[1] ~ "'") -%}
    {%- do return(found.rows | length > 0) -%}
{% endmacro %}
