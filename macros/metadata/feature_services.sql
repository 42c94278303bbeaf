{#-- The feature services of the project: {name: [references]}. A feature service is an exposure of type `ml` with `config.meta.features`.
     A dbt unit test of a model that names one overrides it, since dbt shows it no graph. --#}
{% macro feature_services() %}
    {%- set services = {} -%}
    {%- for exposure in (graph.exposures.values() if execute and graph.exposures is defined else []) if exposure.type == 'ml' -%}
        {%- set meta = (exposure.config or {}).get('meta') or exposure.meta or {} -%}
        {%- do services.update({exposure.name: meta.get('features', [])}) -%}
    {%- endfor -%}
    {%- do return(services) -%}
{% endmacro %}


{#-- The references of a feature service, once it is sure that dbt builds its views first: which these are dbt has to be told while it
     parses, and then nobody knows any exposure yet. --#}
{% macro _service_features(macro_name, service) %}
    {%- set services = feature_store.feature_services() -%}
    {%- if service not in services -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": there is no feature service '" ~ service ~ "'; there are: " ~ (services.keys() | sort | join(', ') or 'none')
            ~ ". A feature service is an exposure of type ml with config.meta.features; a single feature is written 'view:feature'."
        ) -%}
    {%- endif -%}
    {%- set features = services[service] -%}
    {%- if features is string or features is mapping or features is not sequence or not features -%}
        {%- do exceptions.raise_compiler_error(
            "Exposure '" ~ service ~ "': meta.features is a list of 'view:feature' references; it is: " ~ features ~ '.'
        ) -%}
    {%- endif -%}
    {%- set lines = [] -%}
    {%- for feature in features -%}
        {%- if feature is not string or feature.count(':') != 1 -%}
            {%- do exceptions.raise_compiler_error(
                "Exposure '" ~ service ~ "': '" ~ feature ~ "' in meta.features is not a 'view:feature' reference."
            ) -%}
        {%- endif -%}
        {%- set reference = feature.split(':')[0] -%}
        {%- set view = feature_store._find_view(reference) -%}
        {%- if view is none -%}
            {%- do exceptions.raise_compiler_error(
                "Exposure '" ~ service ~ "': '" ~ feature ~ "' in meta.features names no feature view; there are: "
                ~ (feature_store.feature_views().keys() | sort | join(', ') or 'none') ~ '.'
            ) -%}
        {%- endif -%}
        {%- if graph.nodes is defined and model.depends_on is defined and view.unique_id not in model.depends_on.nodes -%}
            {%- set version = view.version if view.version is number else "'" ~ view.version ~ "'" -%}
            {%- set version = '' if view.version is none else ', v=' ~ version -%}
            {%- do lines.append("-- depends_on: {{ ref('" ~ view.name ~ "'" ~ version ~ ") }}") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if lines -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": dbt has to know the views of feature service '" ~ service
            ~ "' while it parses, when nobody knows the service yet:"
            ~ ' put these lines at the top of the model.\n' ~ lines | unique(case_sensitive=true) | join('\n')
        ) -%}
    {%- endif -%}
    {%- do return(features) -%}
{% endmacro %}
