{#-- What a node is made from, as far as it is streamed: {sources, direct, tables, landing}. `sources` are the streamed sources above it, by
     unique id; `direct` says whether it reads one without a table in between; `tables` are the unique ids of the nearest tables that read
     one; `landing` is the relation that has the landing's number, none where there is none. --#}
{% macro _streams_above(unique_id) %}
    {%- set found = {'sources': {}, 'direct': false, 'tables': [], 'landing': none} -%}
    {%- set streamed = {} -%}
    {%- for source in graph.sources.values() if 'stream' in ((source.get('config') or {}).get('meta') or source.get('meta') or {}) -%}
        {%- do streamed.update({source.unique_id: source}) -%}
    {%- endfor -%}
    {%- if not streamed -%}
        {%- do return(found) -%}
    {%- endif -%}
    {#- Lists that grow while they are gone through: up from the node to all that it is made from, down again from the streamed sources to
        all that reads them, and up once more through these alone, to the nearest tables. -#}
    {%- set parents = {} -%}
    {%- set children = {} -%}
    {%- set upwards = [unique_id] -%}
    {%- for one in upwards -%}
        {%- do parents.update({one: ((graph.nodes.get(one) or {}).get('depends_on') or {}).get('nodes') or []}) -%}
        {%- for parent in parents[one] -%}
            {%- do upwards.append(parent) if parent not in children -%}
            {%- do children.setdefault(parent, []).append(one) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set reading = {} -%}
    {%- for source in streamed if source in children -%}
        {%- do found.sources.update({source: streamed[source]}) -%}
        {%- do reading.update({source: true}) -%}
    {%- endfor -%}
    {%- set downwards = found.sources | list -%}
    {%- for one in downwards -%}
        {%- for child in children.get(one, []) if child not in reading -%}
            {%- do reading.update({child: true}) -%}
            {%- do downwards.append(child) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set near = [unique_id] -%}
    {%- set seen = {} -%}
    {%- for one in near -%}
        {%- for parent in parents[one] if parent in reading and parent not in seen -%}
            {%- do seen.update({parent: true}) -%}
            {%- if parent in streamed -%}
                {%- do found.update({'direct': true}) -%}
            {%- elif feature_store._is_table(graph.nodes[parent]) -%}
                {%- do found.tables.append(parent) -%}
            {%- else -%}
                {%- do near.append(parent) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if found.sources -%}
        {%- do found.update({'landing': adapter.dispatch('_fs_landing', 'feature_store')(found.sources.values() | first)}) -%}
    {%- endif -%}
    {%- do return(found) -%}
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
    {%- do return(feature_store._quoted(source.database) ~ '."main"."_fs_landing"') -%}
{% endmacro %}


{% macro postgres___fs_landing(source) %}
    {%- do return(feature_store._quoted(source.schema) ~ '._fs_landing') -%}
{% endmacro %}


{% macro spark___fs_landing(source) %}
    {%- do return(feature_store._quoted(source.schema) ~ '._fs_landing') -%}
{% endmacro %}


{#-- Which takes PostgreSQL's macros else. --#}
{% macro redshift___fs_landing(source) %}
    {%- do return(none) -%}
{% endmacro %}


{#-- Which takes Spark's macros else. --#}
{% macro databricks___fs_landing(source) %}
    {%- do return(none) -%}
{% endmacro %}


{#-- The same of the rows of a view: those of a table are as they were built. --#}
{% macro _streams_of(unique_id) %}
    {%- set streams = feature_store._streams_above(unique_id) -%}
    {%- if streams.sources and feature_store._is_table(graph.nodes[unique_id]) -%}
        {%- do streams.update({'direct': false, 'tables': [unique_id]}) -%}
    {%- endif -%}
    {%- do return(streams) -%}
{% endmacro %}
