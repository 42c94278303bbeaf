{#-- The feature view that a generic test is attached to, as `_feature_view` gives it; none while dbt parses. The relation to
     read is the test's own `model` argument all the same: a `where` of the test's configuration is in it. --#}
{% macro _tested_view(test_name) %}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set node = graph.nodes.get(model.attached_node or '') or {} -%}
    {%- if not node or not feature_store._declares_view(node) -%}
        {%- do exceptions.raise_compiler_error(
            "The test '" ~ test_name ~ "' is for feature views, and '" ~ (node.name or model.name)
            ~ "' is none: declare config.meta.feature_view on the model."
        ) -%}
    {%- endif -%}
    {%- set reference = node.name if node.get('version') is none else node.name ~ '.v' ~ node.version -%}
    {%- set view = feature_store._view_with_columns(
        reference, feature_store._declared_view(node), ref(node.name) if reference == node.name else ref(node.name, v=node.version)
    ) -%}
    {%- do view.update({
        'name': node.name,
        'package': node.package_name,
        'latest': reference == node.name or node.version == node.latest_version,
    }) -%}
    {%- do return(view) -%}
{% endmacro %}


{#-- How far the rows of a model may lie ahead, as a duration: the longest that it, or a model above it, says of its own windows
     (`window_aggregates` writes that into `meta`); none where none does. --#}
{% macro _longest_ahead(unique_id) %}
    {%- set waiting = [unique_id] -%}
    {%- set seen = {} -%}
    {%- set longest = namespace(duration=none) -%}
    {%- for one in waiting -%}
        {%- if one not in seen -%}
            {%- do seen.update({one: true}) -%}
            {%- set node = graph.nodes.get(one) or {} -%}
            {%- for key, stated in ((node.config or {}).get('meta') or {}).items() if (key ~ '').startswith('feature_store_windows_') -%}
                {%- set duration = feature_store._duration(stated.ahead, "Model '" ~ node.name ~ "': meta." ~ key) -%}
                {%- if longest.duration is none or longest.duration.seconds < duration.seconds -%}
                    {%- set longest.duration = duration -%}
                {%- endif -%}
            {%- endfor -%}
            {%- do waiting.extend((node.depends_on or {}).nodes or []) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(longest.duration) -%}
{% endmacro %}


{#-- Whether a reference means a feature view. The likely name in dbt's graph first: going through all models takes its time. --#}
{% macro _is_view(reference, package) %}
    {%- set likely = graph.nodes.get('model.' ~ package ~ '.' ~ reference) -%}
    {%- if likely and feature_store._declares_view(likely) -%}
        {%- do return(true) -%}
    {%- endif -%}
    {%- for unique_id in graph.nodes if unique_id.endswith('.' ~ reference) or '.' ~ reference ~ '.v' in unique_id -%}
        {%- if feature_store._declares_view(graph.nodes[unique_id]) -%}
            {%- do return(true) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(false) -%}
{% endmacro %}


{#-- What the feature services ask this view for and it does not have, a sentence each. --#}
{% macro _wrong_requests(view) %}
    {%- set problems = [] -%}
    {%- if view.built and graph.exposures is defined -%}
        {#- Its own services are asked for views that are not there, too: nobody else could say it. -#}
        {%- set prefixes = [view.reference ~ ':'] + ([view.name ~ ':'] if view.latest else []) -%}
        {%- for service, features in feature_store.feature_services().items() if features is sequence and features is not string -%}
            {%- set own = namespace(service=false) -%}
            {%- for feature in features if feature is string and (feature.startswith(prefixes[0]) or feature.startswith(prefixes[-1])) -%}
                {%- set own.service = true -%}
            {%- endfor -%}
            {%- for feature in features if own.service and feature is string -%}
                {%- if not feature_store._is_view(feature.split(':')[0], view.package) -%}
                    {%- do problems.append("exposure '" ~ service ~ "' asks for '" ~ feature ~ "', and there is no such feature view") -%}
                {%- endif -%}
                {%- for prefix in prefixes | unique(case_sensitive=true)
                        if feature.startswith(prefix) and feature_store._column(view.features, feature[prefix | length:]) is none
                            and feature[prefix | length:] not in (view.on_demand or {}) -%}
                    {%- do problems.append("exposure '" ~ service ~ "' asks for '" ~ feature ~ "', which is no feature of the view") -%}
                {%- endfor -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do return(problems) -%}
{% endmacro %}


{#-- A setting that has to be a number from 0 on (and up to `most`, where given). --#}
{% macro _check_number(test_name, setting, value, most=none) %}
    {%- if value is not number or value is boolean or value < 0 or (most is not none and value > most) -%}
        {%- do exceptions.raise_compiler_error(
            "The test '" ~ test_name ~ "': " ~ setting ~ " is '" ~ value ~ "'; it is a number from 0 "
            ~ ('to ' ~ most if most is not none else 'on') ~ '.'
        ) -%}
    {%- endif -%}
{% endmacro %}
