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


{#-- The on-demand features of a feature service, as `_on_demand_features` gives them; {} where it has none. Each has `inputs` too: the
     reference of every name that it reads. --#}
{% macro _on_demand_of_service(service) %}
    {%- for exposure in (graph.exposures.values() if execute and graph.exposures is defined else []) if exposure.name == service -%}
        {%- set meta = (exposure.config or {}).get('meta') or exposure.meta or {} -%}
        {%- if exposure.type == 'ml' and 'on_demand' in meta -%}
            {%- do return(feature_store._declared_on_demand(service, meta)) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return({}) -%}
{% endmacro %}


{#-- The same of an exposure's `meta`. In it, features of several views meet: each is called by its name where it is the only one of that
     name, and `view__feature` in any case. --#}
{% macro _declared_on_demand(service, meta) %}
    {%- set what = "Exposure '" ~ service ~ "': meta.on_demand" -%}
    {%- set features = feature_store._on_demand_features(meta.on_demand, what) -%}
    {%- set named, twice = {}, [] -%}
    {%- for reference in meta.features or [] -%}
        {%- set view, name = (reference ~ ':').split(':')[:2] -%}
        {%- do named.update({(view.replace('.', '_') ~ '__' ~ name) | lower: reference}) -%}
        {%- do twice.append(name | lower) -%}
        {%- do named.setdefault(name | lower, reference) -%}
    {%- endfor -%}
    {%- for feature in features.values() -%}
        {%- set where = what ~ '.' ~ feature.name -%}
        {%- set inputs = {} -%}
        {%- for name in feature.reads -%}
            {%- if name | lower not in named -%}
                {%- do exceptions.raise_compiler_error(
                    where ~ " reads '" ~ name ~ "', which is neither a request field ("
                    ~ (feature.request.keys() | join(', ') or 'it has none') ~ ') nor a feature of the service ('
                    ~ (meta.features | join(', ') or 'it has none') ~ ').'
                ) -%}
            {%- elif twice.count(name | lower) > 1 -%}
                {%- do exceptions.raise_compiler_error(
                    where ~ " reads '" ~ name ~ "', which several features of the service are called: write view__feature."
                ) -%}
            {%- endif -%}
            {%- do inputs.update({name: named[name | lower]}) -%}
        {%- endfor -%}
        {%- for name in [feature.name] + feature.request.keys() | list if name | lower in named -%}
            {%- do exceptions.raise_compiler_error(
                where ~ " has '" ~ name ~ "', which is also the name of the service's feature '" ~ named[name | lower] ~ "': rename it."
            ) -%}
        {%- endfor -%}
        {%- do feature.update({'inputs': inputs}) -%}
    {%- endfor -%}
    {%- do return(features) -%}
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
    {%- set references = features | list -%}
    {%- for name in feature_store._on_demand_of_service(service) -%}
        {%- do references.append(service ~ ':' ~ name) -%}
    {%- endfor -%}
    {%- do return(references) -%}
{% endmacro %}
