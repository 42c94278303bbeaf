{#-- 'user_features' or 'user_features.v2' -> the relation that holds the view, as a ref, so that dbt draws the edge. --#}
{% macro _ref(reference) %}
    {%- set parts = reference.split('.v') -%}
    {%- if parts | length == 2 and parts[1].isdecimal() -%}
        {%- do return(ref(parts[0], v=parts[1] | int)) -%}
    {%- endif -%}
    {%- do return(ref(reference)) -%}
{% endmacro %}


{#-- Everything a macro needs to know about one view, with the warehouse's own columns:
     {reference, slug, relation, entities, timestamp, created_timestamp, ttl, available_after, warn_after, error_after, features,
     ordered_features}.
     Columns are {name, type}. While a view is not built yet its declared columns stand in, as far as they go. --#}
{% macro _feature_view(reference) %}
    {%- set relation = feature_store._ref(reference) -%}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set views = feature_store.feature_views() -%}
    {%- if reference not in views -%}
        {%- do exceptions.raise_compiler_error(
            "There is no feature view '" ~ reference ~ "'; there are: " ~ (views.keys() | sort | join(', ') or 'none')
            ~ '. A feature view is a model with config.meta.feature_view.'
        ) -%}
    {%- endif -%}
    {%- set view = views[reference] -%}
    {%- set columns = feature_store._columns(relation) -%}
    {%- set built = columns | length > 0 -%}
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
    {%- set limits = feature_store._freshness_limits(view.freshness, where ~ 'freshness') if view.freshness else {} -%}
    {%- do return({
        'reference': reference,
        'slug': reference.replace('.', '__'),
        'relation': relation,
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
    }) -%}
{% endmacro %}
