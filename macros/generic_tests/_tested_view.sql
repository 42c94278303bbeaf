{#-- The feature view that a generic test is attached to, as `_feature_view` gives it; none while dbt parses. The relation to
     read is the test's own `model` argument all the same: a `where` of the test's configuration is in it. --#}
{% macro _tested_view(test_name) %}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set node = graph.nodes.get(model.attached_node or '') or {} -%}
    {%- if 'feature_view' not in ((node.config or {}).get('meta') or {}) -%}
        {%- do exceptions.raise_compiler_error(
            "The test '" ~ test_name ~ "' is for feature views, and '" ~ (node.name or model.name)
            ~ "' is none: declare config.meta.feature_view on the model."
        ) -%}
    {%- endif -%}
    {%- set reference = node.name if node.version is none or node.version is undefined else node.name ~ '.v' ~ node.version -%}
    {%- do return(feature_store._view_with_columns(
        reference, feature_store._declared_view(node), ref(node.name) if node.version is none or node.version is undefined else ref(node.name, v=node.version)
    )) -%}
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
