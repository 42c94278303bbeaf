{#-- What a node is made from, as far as it is streamed: {sources, direct, tables, landing}. `sources` are the streamed sources above it, by
     unique id; `direct` says whether it reads one without a table in between; `tables` are the unique ids of the nearest tables that read
     one; `landing` is the relation that has the landing's number, none where there is none. --#}
{% macro _streams_above(unique_id) %}
    {%- set sources = {} -%}
    {%- set found = feature_store._streams_from(unique_id, sources, [], {}, {}) -%}
    {%- set landing = adapter.dispatch('_fs_landing', 'feature_store')(sources.values() | first) if sources else none -%}
    {%- do return({'sources': sources, 'direct': found.direct, 'tables': found.tables, 'landing': landing}) -%}
{% endmacro %}


{#-- Goes up from a node; past tables (`past`) only to see whether they read a stream, through all else (`seen`) to the nearest tables. --#}
{% macro _streams_from(unique_id, sources, tables, seen, past) %}
    {%- set found = namespace(direct=false, any=false) -%}
    {%- set node = graph.nodes.get(unique_id) or {} -%}
    {%- for parent in (node.get('depends_on') or {}).get('nodes') or [] -%}
        {%- set source = graph.sources.get(parent) -%}
        {%- set above = graph.nodes.get(parent) -%}
        {%- if source and 'stream' in ((source.get('config') or {}).get('meta') or source.get('meta') or {}) -%}
            {%- do sources.update({parent: source}) -%}
            {%- set found.direct = true -%}
            {%- set found.any = true -%}
        {%- elif above and feature_store._is_table(above) -%}
            {%- if parent not in past -%}
                {%- do past.update({parent: feature_store._streams_from(parent, sources, [], {}, past).any}) -%}
            {%- endif -%}
            {%- if past[parent] -%}
                {%- set found.any = true -%}
                {%- do tables.append(parent) if parent not in tables -%}
            {%- endif -%}
        {%- elif above -%}
            {%- if parent not in seen -%}
                {%- do seen.update({parent: feature_store._streams_from(parent, sources, tables, seen, past)}) -%}
            {%- endif -%}
            {%- set found.direct = found.direct or seen[parent].direct -%}
            {%- set found.any = found.any or seen[parent].any -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return({'direct': found.direct, 'any': found.any, 'tables': tables}) -%}
{% endmacro %}


{#-- Whether a node's rows are kept when it is built, and not read from its parents each time. --#}
{% macro _is_table(node) %}
    {%- do return(node.resource_type in ('model', 'snapshot') and node.config.materialized not in ('view', 'ephemeral')) -%}
{% endmacro %}


{#-- Elsewhere events do not land. --#}
{% macro default___fs_landing(source) %}
    {%- do return(none) -%}
{% endmacro %}


{% macro duckdb___fs_landing(source) %}
    {%- do return(adapter.quote(source.database) ~ '.' ~ adapter.quote('main') ~ '.' ~ adapter.quote('_fs_landing')) -%}
{% endmacro %}


{% macro postgres___fs_landing(source) %}
    {%- do return(adapter.quote(source.schema) ~ '._fs_landing') -%}
{% endmacro %}


{#-- Which takes PostgreSQL's macros else. --#}
{% macro redshift___fs_landing(source) %}
    {%- do return(none) -%}
{% endmacro %}
