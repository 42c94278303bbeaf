{{ config(materialized='table', enabled=var('feature_store_catalog', true)) }}

{#- A versioned view is listed as `name.v2`, and its latest version as `name` too: one row a feature is wanted. -#}
{%- set features = [] -%}
{#- There is no graph while dbt parses. -#}
{%- set views = feature_store.feature_views() if execute else {} -%}
{%- for reference, view in views.items() -%}
    {%- if view.version is none or reference != view.name -%}
        {%- set own = [view.timestamp or 'event_timestamp', view.created_timestamp or ''] + view.entities -%}
        {%- set tags = [] -%}
        {%- for tag in view.dbt_tags or [] -%}
            {%- do tags.append(tag) -%}
        {%- endfor -%}
        {%- for key, value in (view.tags or {}).items() -%}
            {%- do tags.append(key ~ '=' ~ value) -%}
        {%- endfor -%}
        {%- for column in view.columns if column.name | lower not in own | map('lower') -%}
            {%- do features.append({'reference': reference, 'view': view, 'column': column, 'tags': tags | sort | join(', ')}) -%}
        {%- endfor -%}
        {%- for computed in feature_store._on_demand_of_view(view.name, view).values() -%}
            {%- do features.append({'reference': reference, 'view': view, 'column': computed, 'tags': tags | sort | join(', ')}) -%}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}

with features as (
{%- for feature in features %}
    {%- set view = feature.view %}

    select
        {{ feature_store._text(feature.reference ~ ':' ~ feature.column.name) }} as feature_reference,
        {{ feature_store._text(view.name) }} as feature_view,
        {{ feature_store._text(view.version) }} as version,
        {{ feature_store._text(feature.column.name) }} as feature,
        {{ feature_store._text(feature.column.data_type or none) }} as data_type,
        {{ feature_store._text(feature.column.description) }} as description,
        {{ feature_store._text(feature.column.expression or none) }} as expression,
        {{ feature_store._text(view.description) }} as feature_view_description,
        {{ feature_store._text(view.entities | join(', ')) }} as entities,
        {{ feature_store._text(view.timestamp or 'event_timestamp') }} as event_timestamp_column,
        {{ feature_store._text(view.created_timestamp) }} as created_timestamp_column,
        {{ feature_store._text(view.available_after) }} as available_after,
        {{ feature_store._text(view.ttl) }} as ttl,
        cast({{ 'false' if view.online is false else 'true' }} as {{ dbt.type_boolean() }}) as is_online,
        {{ feature_store._text(feature.tags) }} as tags,
        {{ feature_store._text(view.owner) }} as owner,
        {{ feature_store._text(view.relation) }} as relation_name
    {%- if not loop.last %}

    union all
    {%- endif %}
{%- else %}

    -- No model of the project declares config.meta.feature_view and a feature among its columns.
    select
        {% for name in [
            'feature_reference', 'feature_view', 'version', 'feature', 'data_type', 'description', 'expression',
            'feature_view_description', 'entities', 'event_timestamp_column', 'created_timestamp_column', 'available_after', 'ttl'
        ] -%}
        {{ feature_store._text(none) }} as {{ name }},
        {% endfor -%}
        cast(null as {{ dbt.type_boolean() }}) as is_online,
        {{ feature_store._text(none) }} as tags,
        {{ feature_store._text(none) }} as owner,
        {{ feature_store._text(none) }} as relation_name
{%- endfor %}

),

final as (

    select *
    from features
    where feature_reference is not null

)

select * from final
