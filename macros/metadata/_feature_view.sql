{#-- 'user_features' or 'user_features.v2' -> the relation that holds the view, as a ref, so that dbt draws the edge. --#}
{% macro _ref(reference, view=none) %}
    {%- if view and view.name -%}
        {%- do return(ref(view.name) if view.version is none else ref(view.name, v=view.version)) -%}
    {%- endif -%}
    {#- While dbt parses, nobody knows the views yet. A version is what follows the last `.v`, unless a model's file has the whole name. -#}
    {%- set name, version = reference.rsplit('.v', 1) if '.v' in reference else (reference, '') -%}
    {%- if not name or not version or feature_store._is_file(reference) -%}
        {%- do return(ref(reference)) -%}
    {%- endif -%}
    {%- do return(ref(name, v=version | int if version.isdecimal() else version)) -%}
{% endmacro %}


{#-- Whether the project has a model's file of that name that is not said to be a version of another model. --#}
{% macro _is_file(name) %}
    {%- set found = namespace(file=false, version=false) -%}
    {%- if ref.manifest is defined -%}
        {%- for path, file in ref.manifest.files.items() -%}
            {%- if path.endswith('/' ~ name ~ '.sql') or path.endswith('/' ~ name ~ '.py') -%}
                {%- set found.file = true -%}
            {%- elif file.dict_from_yaml is defined and file.dict_from_yaml and ('defined_in: ' ~ name) in (file.contents or '') -%}
                {%- set found.version = true -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do return(found.file and not found.version) -%}
{% endmacro %}


{#-- Everything a macro needs to know about one view, with the warehouse's own columns:
     {reference, slug, relation, entities, timestamp, created_timestamp, ttl, available_after, warn_after, error_after, features,
     ordered_features, on_demand}.
     Columns are {name, type}. While a view is not built yet its declared columns stand in, as far as they go. --#}
{% macro _feature_view(reference) %}
    {%- if not execute -%}
        {%- do feature_store._ref(reference) -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set view = feature_store._find_view(reference) -%}
    {%- if view is none -%}
        {%- do exceptions.raise_compiler_error(
            "There is no feature view '" ~ reference ~ "'; there are: "
            ~ (feature_store.feature_views().keys() | sort | join(', ') or 'none')
            ~ '. A feature view is a model with config.meta.feature_view.'
        ) -%}
    {%- endif -%}
    {%- do return(feature_store._view_with_columns(reference, view, feature_store._ref(reference, view))) -%}
{% endmacro %}


{#-- The same from what is declared (of `feature_views`) and the relation that holds it. --#}
{% macro _view_with_columns(reference, view, relation) %}
    {%- set columns = feature_store._columns(relation) -%}
    {%- set built = columns | length > 0 -%}
    {%- do feature_store._check_reserved_names(columns, "Feature view '" ~ reference ~ "'") -%}
    {%- if not built -%}
        {%- for column in view.columns or [] -%}
            {%- do columns.append({'name': column.name, 'type': column.data_type}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set found = {} -%}
    {%- for name in view.entities + [view.timestamp or 'event_timestamp'] + ([view.created_timestamp] if view.created_timestamp else []) -%}
        {%- set column = feature_store._column(columns, name) -%}
        {%- if column is none and built -%}
            {%- do exceptions.raise_compiler_error(
                "Feature view '" ~ reference ~ "' has no column '" ~ name ~ "', which its meta.feature_view names; "
                ~ relation ~ ' has: ' ~ columns | map(attribute='name') | join(', ') ~ '.'
            ) -%}
        {%- endif -%}
        {%- do found.update({name: column or {'name': name, 'type': none}}) -%}
    {%- endfor -%}
    {%- set taken = found.values() | map(attribute='name') | map('lower') | list -%}
    {%- set features = [] -%}
    {%- for column in columns if column.name | lower not in taken -%}
        {%- do features.append(column) -%}
    {%- endfor -%}
    {%- set entities = [] -%}
    {%- for name in view.entities -%}
        {%- do entities.append(found[name]) -%}
    {%- endfor -%}
    {%- set where = "Feature view '" ~ reference ~ "': " -%}
    {%- set on_demand = feature_store._on_demand_of_view(view.name or reference, view) -%}
    {%- do feature_store._check_on_demand(reference, on_demand, columns, features) if built -%}
    {%- set limits = feature_store._freshness_limits(view.freshness, where ~ 'freshness') if view.freshness else {} -%}
    {%- do return({
        'reference': reference,
        'slug': feature_store._slug(reference),
        'relation': feature_store._history(relation),
        'built': built,
        'entities': entities,
        'timestamp': found[view.timestamp or 'event_timestamp'],
        'created_timestamp': found[view.created_timestamp] if view.created_timestamp else none,
        'ttl': feature_store._duration(view.ttl, where ~ 'ttl') if view.ttl else none,
        'available_after': feature_store._duration(view.available_after, where ~ 'available_after') if view.available_after else none,
        'warn_after': limits.get('warn_after'),
        'error_after': limits.get('error_after'),
        'features': features,
        'ordered_features': features | sort(attribute='name', case_sensitive=true),
        'on_demand': on_demand,
    }) -%}
{% endmacro %}


{#-- Stops where an on-demand feature reads what its view has not, or a name of it is a column's. --#}
{% macro _check_on_demand(reference, on_demand, columns, features) %}
    {%- set taken = feature_store._by_name(columns) -%}
    {%- set known = feature_store._by_name(features) -%}
    {%- for feature in on_demand.values() -%}
        {%- set where = "Feature view '" ~ reference ~ "': on-demand feature '" ~ feature.name ~ "' " -%}
        {%- if feature.name | lower in taken -%}
            {%- do exceptions.raise_compiler_error(where ~ "has the name of a column of the view: rename one of them.") -%}
        {%- endif -%}
        {%- for field in feature.request if field | lower in taken -%}
            {%- do exceptions.raise_compiler_error(
                where ~ "has a request field '" ~ field ~ "', which is also a column of the view: rename it."
            ) -%}
        {%- endfor -%}
        {%- for name in feature.reads if name | lower not in known -%}
            {%- do exceptions.raise_compiler_error(
                where ~ "reads '" ~ name ~ "', which is neither a request field ("
                ~ (feature.request.keys() | join(', ') or 'it has none') ~ ') nor a feature of the view ('
                ~ (features | map(attribute='name') | join(', ') or 'it has none') ~ ').'
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}
