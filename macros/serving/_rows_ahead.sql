{#-- The rows of a view that are in force at `since` or come into force after it, by `until`: what `materialize` sends with `ahead`. Whole
     rows as `latest` has them, with two columns more: `_fs_visible`, the moment from which a row is in force (`since` for those that are so
     before it), and `_fs_moving`, whether its entity has any row that comes into force later.

     Of the rows that can first be seen in that time, only those are looked at one by one; of what was there before it, each entity's
     newest alone. --#}
{% macro _rows_ahead(reference, since, until) -%}
    {%- set view = feature_store._feature_view(reference) -%}
    {{- adapter.dispatch('_fs_rows_ahead', 'feature_store')(view, feature_store._timestamp(since), feature_store._timestamp(until)) -}}
{%- endmacro %}


{% macro default___fs_rows_ahead(view, since, until) -%}
    {%- set created = view.created_timestamp -%}
    {%- set knowledge = created is not none -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set keys = feature_store._quoted_names(view.entities) -%}
    {%- set hit = feature_store._hit_columns(view, knowledge) -%}
    {%- set columns = view.entities + [view.timestamp] + ([created] if created else []) + view.features -%}
    {%- do view.update({'picked': columns[view.entities | length:] | map(attribute='name') | list}) -%}
    {%- set begun = [] -%}
    {%- for column in hit -%}
        {%- do begun.append('begun.' ~ column) -%}
    {%- endfor -%}
with

-- {{ view.reference }}: each entity's newest event among the rows that can be seen in the beginning
_fs_newest_{{ view.slug }} as (
    select
        {{ feature_store._exact_keys(view.entities) }},
        max({{ event }}) as _fs_event
    from {{ view.relation }}
    where {{ feature_store._visible_now(view, since, '') }}
        and {{ keys | join(' is not null\n        and ') }} is not null
    group by {{ feature_store._exact_keys(view.entities, named=false) }}
),
{% if knowledge %}
-- {{ view.reference }}: and of that event the newest version
_fs_begun_{{ view.slug }} as (
    select
        {{ feature_store._listed(feature_store._quoted_names(view.entities, 'hit.')) }},
        hit._fs_event,
        max({{ feature_store._instant('v.' ~ feature_store._quoted(created.name), created.type) }}) as _fs_created
    {{ feature_store._hit_join(view, '_fs_newest_' ~ view.slug, none, feature_store._visible_now(view, since, 'v.')) }}
    group by {{ feature_store._listed(feature_store._quoted_names(view.entities, 'hit.') + ['hit._fs_event']) }}
),
{% endif %}
{{ feature_store._coming(view, knowledge, since, until) }},

-- {{ view.reference }}: those of them that are newer than all that was seen until then
_fs_ahead_{{ view.slug }} as (
    {% if knowledge -%}
    -- of those that are first seen at the same moment the greatest stands first, and the others behind it
    select distinct
        {{ feature_store._listed(feature_store._quoted_names(view.entities, 'shown.')) }},
        shown._fs_event, shown._fs_created, shown._fs_visible
    from (
        select
            *,
            max(_fs_created) over (
                partition by {{ feature_store._listed(keys + ['_fs_event']) }}
                order by _fs_visible asc nulls last, _fs_created desc nulls last
                rows between unbounded preceding and current row
            ) as _fs_newest_created
        from (
            select
                *,
                max(_fs_event) over (
                    partition by {{ feature_store._listed(keys) }}
                    order by _fs_visible asc nulls last, _fs_event desc nulls last
                    rows between unbounded preceding and current row
                ) as _fs_newest_event
            from _fs_coming_{{ view.slug }}
        ) as coming
        where _fs_event = _fs_newest_event
    ) as shown
    left join _fs_begun_{{ view.slug }} as begun
        on {{ feature_store._agree('begun', 'shown', keys) }}
    where shown._fs_created = shown._fs_newest_created
        and (
            begun._fs_event is null
            or shown._fs_event > begun._fs_event
            or shown._fs_event = begun._fs_event and shown._fs_created > begun._fs_created
        )
    {%- else -%}
    -- one that is seen later is of a later event
    select distinct *
    from _fs_coming_{{ view.slug }}
    {%- endif %}
),

_fs_moving_{{ view.slug }} as (
    select distinct {{ feature_store._listed(keys) }}
    from _fs_ahead_{{ view.slug }}
),

-- {{ view.reference }}: which rows to fetch, and since when each is in force
_fs_hits_{{ view.slug }} as (
    select
        {{ feature_store._listed(begun) }},
        {{ since }} as _fs_visible,
        moving.{{ keys[0] }} is not null as _fs_moving
    from _fs_{{ 'begun' if knowledge else 'newest' }}_{{ view.slug }} as begun
    left join _fs_moving_{{ view.slug }} as moving
        on {{ feature_store._agree('moving', 'begun', keys) }}
    union all
    select {{ feature_store._listed(hit + ['_fs_visible', 'true']) }}
    from _fs_ahead_{{ view.slug }}
),

{{ feature_store._payload(view, knowledge) }}

select
    {{ feature_store._listed(feature_store._quoted_names(columns, 'found.'), 4) }},
    hit._fs_visible,
    hit._fs_moving
from _fs_rows_{{ view.slug }} as found
join _fs_hits_{{ view.slug }} as hit
    on {{ feature_store._agree('found', 'hit', hit, 4) }}
{%- endmacro %}


{#-- The rows that can first be seen after `since` and by `until`. --#}
{% macro _coming(view, knowledge, since, until) -%}
    {%- set visible = feature_store._visible_from(view, knowledge, false) | trim -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set created = view.created_timestamp -%}
-- {{ view.reference }}: the rows that can first be seen after that
_fs_coming_{{ view.slug }} as (
    select *
    from (
        select
            {{ feature_store._exact_keys(view.entities) }},
            {{ event }} as _fs_event,
            {% if knowledge -%}
            {{ feature_store._instant(feature_store._quoted(created.name), created.type) }} as _fs_created,
            {% endif -%}
            {{ visible | indent(4) }} as _fs_visible
        from {{ view.relation }}
        where {{ feature_store._quoted_names(view.entities + [view.timestamp] + ([created] if created else []))
            | join(' is not null\n            and ') }} is not null
    ) as known
    where _fs_visible > {{ since }}
        and _fs_visible <= {{ until }}
)
{%- endmacro %}
