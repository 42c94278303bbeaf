{#-- Every feature view of the project: {reference: view}. A dbt unit test overrides it (dbt shows it no graph) with the same shape, of
     which only `entities` is required. --#}
{% macro feature_views() %}
    {%- if execute and graph.nodes is not defined -%}
        {%- do exceptions.raise_compiler_error(
            'In a unit test dbt shows no models, so it has to say what the feature views are: '
            ~ 'overrides: {macros: {feature_store.feature_views: {user_features: {entities: [user_id]}}}}, '
            ~ 'with the keys of meta.feature_view (docs/unit-tests.md).'
        ) -%}
    {%- endif -%}
    {%- set views = {} -%}
    {%- for node in (graph.nodes.values() if execute else []) if feature_store._declares_view(node) -%}
        {%- set view = feature_store._declared_view(node) -%}
        {%- if view.version is not none -%}
            {%- do views.update({view.name ~ '.v' ~ view.version: view}) -%}
        {%- endif -%}
        {%- if view.latest -%}
            {%- do views.update({view.name: view}) -%}
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


{#-- Whether a node of dbt's graph is a feature view: a model, seed or snapshot that says so. --#}
{% macro _declares_view(node) %}
    {%- do return(node.resource_type in ('model', 'seed', 'snapshot') and 'feature_view' in (node.config.get('meta') or {})) -%}
{% endmacro %}


{#-- What a node of dbt's graph declares as a feature view, checked. --#}
{% macro _declared_view(node) %}
    {%- do feature_store._check_feature_view(node.name, node.config.meta.feature_view, node.resource_type) -%}
    {%- set view = dict(node.config.meta.feature_view) -%}
    {%- do view.update({
        'name': node.name,
        'unique_id': node.unique_id,
        'version': node.get('version'),
        'latest': node.get('version') is none or node.version == node.latest_version,
        'description': node.description,
        'owner': node.config.get('group'),
        'dbt_tags': node.tags,
        'relation': node.relation_name,
        'columns': node.columns.values() | list,
    }) -%}
    {%- do return(view) -%}
{% endmacro %}


{#-- The feature view that a reference means, as `feature_views` has it; none where there is none. What the model depends on is looked at
     first: going through all models for each view of a large project would take most of the time dbt needs for it. --#}
{% macro _find_view(reference) %}
    {%- for unique_id in (model.depends_on.nodes if graph.nodes is defined and model.depends_on is defined else []) -%}
        {%- set node = graph.nodes.get(unique_id) or {} -%}
        {%- if feature_store._declares_view(node) -%}
            {%- set view = feature_store._declared_view(node) -%}
            {%- if (view.latest and view.name == reference)
                    or (view.version is not none and view.name ~ '.v' ~ view.version == reference) -%}
                {%- do return(view) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(feature_store.feature_views().get(reference)) -%}
{% endmacro %}


{#-- Stops with one sentence where `meta.feature_view` is not what a feature view may say; dbt itself checks no meta. --#}
{% macro _check_feature_view(name, meta, kind='model') %}
    {%- set known = ['entities', 'timestamp', 'created_timestamp', 'available_after', 'ttl', 'freshness', 'online', 'ahead', 'tags',
        'on_demand'] -%}
    {%- set problem = namespace(text=none) -%}
    {%- if meta is not mapping -%}
        {%- set problem.text = 'is not a mapping: write `feature_view: {entities: [...]}`' -%}
    {%- elif meta.keys() | reject('in', known) | list -%}
        {%- set problem.text = "has no key '" ~ meta.keys() | reject('in', known) | first ~ "'; its keys are " ~ known | join(', ') -%}
    {%- elif 'entities' not in meta -%}
        {%- set keys = meta.keys() | sort | join(', ') or 'nothing' -%}
        {%- set problem.text = 'has no `entities`: list the join key columns (it has: ' ~ keys ~ ')' -%}
    {%- elif meta.entities is string or meta.entities is mapping or meta.entities is not sequence or not meta.entities
            or meta.entities | reject('string') | list
            or meta.entities | unique(case_sensitive=true) | list | length != meta.entities | length -%}
        {%- set problem.text = '`entities` is ' ~ feature_store._shown(meta.entities) ~ ': list one or more different column names' -%}
    {%- elif name | lower in ('registry', 'services') or (name | lower).startswith('_fs_') -%}
        {%- do exceptions.raise_compiler_error(
            "Feature view '" ~ name ~ "' has a name that the store keeps for itself"
            ~ ' (registry, services, and all that begin with _fs_): rename it.'
        ) -%}
    {%- endif -%}
    {%- for key in (meta.entities if problem.text is none else []) if ((key | lower).startswith('_fs_') or key | lower == 'event_timestamp'
            or key | lower in [(meta.timestamp or '') | lower, (meta.created_timestamp or '') | lower]) -%}
        {%- set problem.text = "`entities` has '" ~ key ~ "', but " ~ ('names that begin with _fs_ are kept for the store\'s own fields'
            if (key | lower).startswith('_fs_') else 'that is a name for moments, not for a join key') ~ ': rename it' -%}
    {%- endfor -%}
    {%- if problem.text is none -%}
        {%- for key, value in meta.items() -%}
            {%- if key in ('timestamp', 'created_timestamp') and value is not string -%}
                {%- set problem.text = '`' ~ key ~ '` is ' ~ feature_store._shown(value) ~ ': give the name of a column' -%}
            {%- elif key in ('ttl', 'available_after') -%}
                {%- do feature_store._duration(value, kind | capitalize ~ " '" ~ name ~ "': meta.feature_view." ~ key) -%}
            {%- elif key == 'freshness' -%}
                {%- do feature_store._freshness_limits(value, kind | capitalize ~ " '" ~ name ~ "': meta.feature_view.freshness") -%}
            {%- elif key == 'ahead' -%}
                {%- do feature_store._ahead(value, kind | capitalize ~ " '" ~ name ~ "': meta.feature_view.ahead") -%}
            {%- elif key == 'on_demand' -%}
                {%- do feature_store._on_demand_of_view(name, meta, kind) -%}
            {%- elif key == 'online' and value is not boolean -%}
                {%- set problem.text = '`online` is ' ~ feature_store._shown(value) ~ ': it is true or false' -%}
            {%- elif key == 'tags' and value is not mapping -%}
                {%- set problem.text = '`tags` is ' ~ feature_store._shown(value) ~ ': it is a mapping such as {team: growth}' -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if problem.text is not none -%}
        {%- do exceptions.raise_compiler_error(kind | capitalize ~ " '" ~ name ~ "': meta.feature_view " ~ problem.text ~ '.') -%}
    {%- endif -%}
{% endmacro %}


{#-- The on-demand features that `meta.feature_view` of a node declares, as `_on_demand_features` gives them. --#}
{% macro _on_demand_of_view(name, meta, kind='model') %}
    {%- if not meta.on_demand and meta.on_demand is mapping or meta.on_demand is not defined -%}
        {%- do return({}) -%}
    {%- endif -%}
    {%- set times = [meta.timestamp or 'event_timestamp'] + ([meta.created_timestamp] if meta.created_timestamp else []) -%}
    {%- set taken = (meta.entities + times) | map('lower') | list -%}
    {%- set what = kind | capitalize ~ " '" ~ name ~ "': meta.feature_view.on_demand" -%}
    {%- do return(feature_store._on_demand_features(meta.on_demand, what, taken)) -%}
{% endmacro %}


{#-- A value in a sentence, a text in quotes. --#}
{% macro _shown(value) %}
    {%- do return("'" ~ value ~ "'" if value is string else value | string) -%}
{% endmacro %}
