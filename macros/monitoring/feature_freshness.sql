{% macro feature_freshness(views, as_of=none) %}
    {%- set references = ([views] if views is string and views else views or []) | unique(case_sensitive=true) | list -%}
    {%- if not references -%}
        {%- do exceptions.raise_compiler_error("feature_freshness needs at least one feature view, such as 'user_features'.") -%}
    {%- endif -%}
    {%- set found = [] -%}
    {%- for reference in references -%}
        {#-- Reads the view with ref(), also while dbt parses: that is what draws the edges of the DAG. --#}
        {%- do found.append(feature_store._feature_view(reference)) -%}
    {%- endfor -%}
    {%- if execute -%}
        {{- adapter.dispatch('_fs_feature_freshness', 'feature_store')(found, as_of) -}}
    {%- endif -%}
{% endmacro %}


{% macro default___fs_feature_freshness(views, as_of) -%}
    {%- set types = feature_store._types() -%}
    {%- set now = feature_store._timestamp(as_of) if as_of else feature_store._now() -%}
with
{%- for view in views %}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) %}

-- {{ view.reference }}: what each entity has of the rows that a reader can see now. Rows that are not due or not known
-- yet do not count: a single one of them would hide that the others are old.
_fs_entities_{{ view.slug }} as (
    select
        count(*) as rows_visible,
        max({{ event }}) as newest_event,
        {% if view.created_timestamp -%}
        max({{ feature_store._instant(feature_store._quoted(view.created_timestamp.name), view.created_timestamp.type) }}) as newest_load
        {%- else -%}
        cast(null as {{ types.timestamp }}) as newest_load
        {%- endif %}
    from {{ view.relation }}
    where {{ feature_store._visible_now(view, now, '') }}
        {%- for key in view.entities %} and {{ feature_store._quoted(key.name) }} is not null{% endfor %}
    group by {{ feature_store._names(view.entities) }}
),
_fs_view_{{ view.slug }} as (
    select
        {{ now }} as checked_at,
        cast(coalesce(sum(rows_visible), 0) as {{ types.bigint }}) as rows_visible,
        max(newest_event) as newest_event,
        max(newest_load) as newest_load,
        count(*) as entities,
        {{ feature_store._count_older(view.ttl, now) }} as expired_entities
    from _fs_entities_{{ view.slug }}
),
_fs_judged_{{ view.slug }} as (
    {%- set rules = feature_store._freshness_rules(view) %}
    select
        {{ feature_store._status_text(view.reference) }} as feature_view,
        case
            {%- for rule in rules %}
            when {{ rule.when }} then {{ feature_store._status_text(rule.status) }}
            {%- endfor %}
            else {{ feature_store._status_text('pass') }}
        end as status,
        case
            {%- for rule in rules %}
            when {{ rule.when }}
                then {{ feature_store._status_text(rule.reason) }}
            {%- endfor %}
            else {{ feature_store._status_text('' if view.ttl or view.warn_after or view.error_after else 'no limit is declared') }}
        end as reason,
        checked_at,
        rows_visible,
        newest_event,
        {{ feature_store._age_seconds('newest_event', 'checked_at') }} as event_age_seconds,
        newest_load,
        {{ feature_store._age_seconds('newest_load', 'checked_at') }} as load_age_seconds,
        entities,
        expired_entities
        {%- for limit in ['ttl', 'warn_after', 'error_after'] %},
        cast({{ view[limit].seconds if view[limit] else 'null' }} as {{ types.bigint }}) as {{ limit }}_seconds
        {%- endfor %}
    from _fs_view_{{ view.slug }}
)
{{- ',' if not loop.last }}
{%- endfor %}
{% for view in views %}
select * from _fs_judged_{{ view.slug }}
{{- '\nunion all' if not loop.last }}
{%- endfor %}
{%- endmacro %}


{#-- What a view's freshness is judged by, [{when, status, reason}]: the first that holds counts. --#}
{% macro _freshness_rules(view) %}
    {%- set rules = [{'when': 'newest_event is null', 'status': 'error', 'reason': 'no row can be seen now'}] -%}
    {%- if view.ttl -%}
        {%- do rules.append({
            'when': 'newest_event < checked_at - ' ~ feature_store._interval(view.ttl),
            'status': 'error',
            'reason': 'the newest event is older than the ttl (' ~ view.ttl.text ~ '), so every value reads as NULL',
        }) -%}
    {%- endif -%}
    {%- for limit, status in [('error_after', 'error'), ('warn_after', 'warn')] if view[limit] -%}
        {%- for column, what in [('newest_event', 'the newest event'), ('newest_load', 'the newest load')]
                if column == 'newest_event' or view.created_timestamp -%}
            {%- do rules.append({
                'when': column ~ ' < checked_at - ' ~ feature_store._interval(view[limit]),
                'status': status,
                'reason': what ~ ' is older than ' ~ limit ~ ' (' ~ view[limit].text ~ ')',
            }) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do return(rules) -%}
{% endmacro %}


{#-- How many entities' newest events are older than the ttl; NULL without one. --#}
{% macro _count_older(ttl, now) -%}
    {%- set types = feature_store._types() -%}
    {%- if ttl -%}
        count(case when newest_event < {{ now }} - {{ feature_store._interval(ttl) }} then 1 end)
    {%- else -%}
        cast(null as {{ types.bigint }})
    {%- endif -%}
{%- endmacro %}


{#-- Text of our own as a literal. Unlike `_text` it needs nothing of dbt's own macros, which Python has not. --#}
{% macro _status_text(text) -%}
    '{{ adapter.dispatch('_escaped', 'feature_store')(text) }}'
{%- endmacro %}
