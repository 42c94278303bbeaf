{% macro latest(view, as_of=none) %}
    {%- set found = feature_store._feature_view(view) -%}
    {%- if execute -%}
        {{- adapter.dispatch('_fs_latest', 'feature_store')(found, as_of) -}}
    {%- endif -%}
{% endmacro %}


{% macro default___fs_latest(view, as_of) -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set now = feature_store._timestamp(as_of) if as_of else feature_store._now() -%}
    {%- set columns = view.entities + [view.timestamp] + ([view.created_timestamp] if view.created_timestamp else []) + view.features -%}
    {%- do view.update({'picked': columns[view.entities | length:] | map(attribute='name') | list}) -%}
with

-- {{ view.reference }}: each entity's newest event among the rows that can be seen now
_fs_hits_{{ view.slug }} as (
    select
        {{ feature_store._exact_keys(view.entities) }},
        max({{ event }}) as _fs_event
    from {{ view.relation }}
    where {{ feature_store._visible_now(view, now, '') }}
        and {{ feature_store._quoted_names(view.entities) | join(' is not null\n        and ') }} is not null
    group by {{ feature_store._exact_keys(view.entities, named=false) }}
),

{{ feature_store._payload(view, visible=feature_store._visible_now(view, now, 'v.')) }}

select
    {{ feature_store._listed(feature_store._quoted_names(columns), 4) }}
from _fs_rows_{{ view.slug }}
{%- endmacro %}


{% macro _visible_now(view, now, prefix) -%}
    {%- set event = feature_store._instant(prefix ~ feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set created = view.created_timestamp -%}
    {{ event }}{{ ' + ' ~ feature_store._interval(view.available_after) if view.available_after }}
            <= {{ now }}
    {%- if created %}
        and {{ feature_store._instant(prefix ~ feature_store._quoted(created.name), created.type) }}
            <= {{ now }}
    {%- endif -%}
{%- endmacro %}
