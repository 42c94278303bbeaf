{#-- Every feature view of the project: {reference: view}. The only reader of dbt's graph; a dbt unit test overrides it
     (the graph is empty there) with the same shape, of which only `entities` is required. --#}
{% macro feature_views() %}
    {%- set views = {} -%}
    {%- for node in (graph.nodes.values() if execute else []) if node.resource_type in ('model', 'seed', 'snapshot') -%}
        {%- set meta = node.config.get('meta') or {} -%}
        {%- if 'feature_view' in meta -%}
            {%- do feature_store._check_feature_view(node.name, meta.feature_view, node.resource_type) -%}
            {%- set view = dict(meta.feature_view) -%}
            {%- do view.update({
                'name': node.name,
                'version': node.get('version'),
                'description': node.description,
                'owner': node.config.get('group'),
                'dbt_tags': node.tags,
                'relation': node.relation_name,
                'columns': node.columns.values() | list,
            }) -%}
            {%- if node.get('version') is not none -%}
                {%- do views.update({node.name ~ '.v' ~ node.version: view}) -%}
            {%- endif -%}
            {%- if node.get('version') is none or node.version == node.latest_version -%}
                {%- do views.update({node.name: view}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for source in ((graph.sources or {}).values() if execute else []) if 'feature_view' in (source.config.get('meta') or {}) -%}
        {%- do exceptions.raise_compiler_error(
            "Source '" ~ source.source_name ~ '.' ~ source.name ~ "' says meta.feature_view, but a feature view is what dbt builds: "
            ~ 'select from it in a model, and say it there.'
        ) -%}
    {%- endfor -%}
    {%- do return(views) -%}
{% endmacro %}


{#-- Stops with one sentence where `meta.feature_view` is not what a feature view may say; dbt itself checks no meta. --#}
{% macro _check_feature_view(name, meta, kind='model') %}
    {%- set known = ['entities', 'timestamp', 'created_timestamp', 'available_after', 'ttl', 'freshness', 'online', 'tags'] -%}
    {%- set problem = namespace(text=none) -%}
    {%- if meta is not mapping -%}
        {%- set problem.text = 'is not a mapping: write `feature_view: {entities: [...]}`' -%}
    {%- elif 'entities' not in meta -%}
        {%- set problem.text = "has no `entities`: list the join key columns (it has: " ~ (meta.keys() | sort | join(', ') or 'nothing') ~ ')' -%}
    {%- elif meta.entities is string or meta.entities is mapping or meta.entities is not sequence or not meta.entities
            or meta.entities | reject('string') | list or meta.entities | unique(case_sensitive=true) | list | length != meta.entities | length -%}
        {%- set problem.text = '`entities` is ' ~ meta.entities ~ ': list one or more different column names' -%}
    {%- endif -%}
    {%- if problem.text is none -%}
        {%- for key, value in meta.items() -%}
            {%- if key not in known -%}
                {%- set problem.text = "has no key '" ~ key ~ "'; its keys are " ~ known | join(', ') -%}
            {%- elif key in ('timestamp', 'created_timestamp') and value is not string -%}
                {%- set problem.text = '`' ~ key ~ '` is ' ~ value ~ ': give the name of a column' -%}
            {%- elif key in ('ttl', 'available_after') -%}
                {%- do feature_store._duration(value, kind | capitalize ~ " '" ~ name ~ "': meta.feature_view." ~ key) -%}
            {%- elif key == 'freshness' -%}
                {%- do feature_store._freshness_limits(value, kind | capitalize ~ " '" ~ name ~ "': meta.feature_view.freshness") -%}
            {%- elif key == 'online' and value is not boolean -%}
                {%- set problem.text = '`online` is ' ~ value ~ ': it is true or false' -%}
            {%- elif key == 'tags' and value is not mapping -%}
                {%- set problem.text = '`tags` is ' ~ value ~ ': it is a mapping such as {team: growth}' -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if problem.text is not none -%}
        {%- do exceptions.raise_compiler_error(kind | capitalize ~ " '" ~ name ~ "': meta.feature_view " ~ problem.text ~ '.') -%}
    {%- endif -%}
{% endmacro %}
