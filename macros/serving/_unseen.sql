{#-- What a run says of a view beside its latest rows: how many rows have a NULL join key, and can never be read; and the newest created
     time by now, NULL where the view declares none. Where rows are sent ahead, of those that can first be seen after `since`, which is not
     after now: whether there are any by `until` (`coming`), any of them after now (`due`), and the newest event of those seen by now. --#}
{% macro _unseen(reference, as_of, since=none, until=none) -%}
    {%- set types = feature_store._types() -%}
    {%- set view = feature_store._feature_view(reference) -%}
    {%- set created = view.created_timestamp -%}
    {%- set now = feature_store._timestamp(as_of) -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set keys = feature_store._quoted_names(view.entities) -%}
select
    count(case when {{ keys | join(' is null or ') }} is null then 1 end) as null_keys,
    {% if created -%}
    {%- set moment = feature_store._instant(feature_store._quoted(created.name), created.type) -%}
    max(case when {{ moment }} <= {{ now }} then {{ moment }} end) as newest_load
    {%- else -%}
    cast(null as {{ types.timestamp }}) as newest_load
    {%- endif %}
    {%- if since %},
    {%- set visible = feature_store._visible_from(view, created is not none, false) | trim | indent(8) -%}
    {%- set since, until = feature_store._timestamp(since), feature_store._timestamp(until) %}
    count(case when _fs_visible > {{ since }} and _fs_visible <= {{ until }} then 1 end) as coming,
    count(case when _fs_visible > {{ now }} and _fs_visible <= {{ until }} then 1 end) as due,
    max(case when _fs_visible > {{ since }} and _fs_visible <= {{ now }} then {{ event }} end) as newest_event
from (
    select
        *,
        case when {{ keys | join(' is not null and ') }} is not null
            {%- if created %}
            and {{ feature_store._names([view.timestamp, created]).replace(', ', ' is not null and ') }} is not null
            {%- endif %} then
        {{ visible }}
        end as _fs_visible
    from {{ view.relation }}
) as shown
    {%- else %}
from {{ view.relation }}
    {%- endif %}
{%- endmacro %}
