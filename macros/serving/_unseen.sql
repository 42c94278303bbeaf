{#-- What a run says of a view beside its latest rows: how many rows have a NULL join key, and can never be read; and the newest created
     time by now, NULL where the view declares none. --#}
{% macro _unseen(reference, as_of) -%}
    {%- set types = feature_store._types() -%}
    {%- set view = feature_store._feature_view(reference) -%}
    {%- set created = view.created_timestamp -%}
select
    count(case when {{ feature_store._quoted_names(view.entities) | join(' is null or ') }} is null then 1 end) as null_keys,
    {% if created -%}
    {%- set moment = feature_store._instant(feature_store._quoted(created.name), created.type) -%}
    max(case when {{ moment }} <= {{ feature_store._timestamp(as_of) }} then {{ moment }} end) as newest_load
    {%- else -%}
    cast(null as {{ types.timestamp }}) as newest_load
    {%- endif %}
from {{ view.relation }}
{%- endmacro %}
