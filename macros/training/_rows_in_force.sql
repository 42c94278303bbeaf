{#-- CTEs that find, for each row of the spine, which row of the view is in force: its event time and, where `knowledge`
     counts, its created time. Only keys and times move here; `_payload` fetches the features afterwards.

     A row shows from the moment `_fs_visible` on: the latest of its event time (one microsecond later where the join is
     strictly before), its load time, and its event time plus `available_after`. --#}
{% macro _visible_from(view, knowledge, strictly_before) -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set shown = event -%}
    {%- if view.available_after -%}
        {%- set shown = event ~ ' + ' ~ feature_store._interval(view.available_after) -%}
    {%- elif strictly_before -%}
        {%- set shown = event ~ ' + ' ~ feature_store._microsecond() -%}
    {%- endif -%}
    {%- if knowledge -%}
        greatest(
            {{ shown }},
            {{ feature_store._instant(feature_store._quoted(view.created_timestamp.name), view.created_timestamp.type) }}
        )
    {%- else -%}
        {{ shown }}
    {%- endif -%}
{%- endmacro %}


{#-- The rows that can ever be in force, with the moment from which they are. --#}
{% macro _known(view, knowledge, strictly_before) -%}
    {%- set keys = feature_store._exact_keys(view.entities) -%}
-- {{ view.reference }}: when each of its rows can first be seen
_fs_known_{{ view.slug }} as (
    select
        {{ keys }},
        {{ feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) }} as _fs_event,
        {% if knowledge -%}
        {{ feature_store._instant(feature_store._quoted(view.created_timestamp.name), view.created_timestamp.type) }} as _fs_created,
        {% endif -%}
        {{ feature_store._visible_from(view, knowledge, strictly_before) }} as _fs_visible
    from {{ view.relation }}
    {%- if knowledge %}
    -- never known, never seen; and `greatest` would pass over a missing event time
    where {{ feature_store._names([view.created_timestamp, view.timestamp]).replace(', ', ' is not null and ') }} is not null
    {%- endif %}
)
{%- endmacro %}


{% macro _ttl(view) -%}
    {%- if view.ttl %}
    where _fs_event >= _fs_moment - {{ feature_store._interval(view.ttl) }}  -- ttl, inclusive
    {%- endif -%}
{%- endmacro %}


{#-- The spine's keys in the view's types, under the view's names. --#}
{% macro _asked_keys(view) -%}
    {%- for key in view.entities -%}
        {%- set name = feature_store._quoted(key.name) -%}
        {{ view.asked[loop.index0] }}{{ ' as ' ~ name if view.asked[loop.index0] != name }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#-- One sort and running maxima, no join between spine and history: for warehouses without ASOF. --#}
{% macro default___rows_in_force(view, knowledge, strictly_before) -%}
    {%- set keys = feature_store._names(view.entities) -%}
    {%- set of_entity, of_event = feature_store._so_far(keys), feature_store._so_far(keys ~ ', _fs_event') -%}
{{ feature_store._known(view, knowledge, strictly_before) }},

-- {{ view.reference }}: rows and questions on one time line; at the same moment the rows stand first
_fs_timeline_{{ view.slug }} as (
    select
        {{ keys }},
        _fs_visible,
        0 as _fs_asked,
        null as _fs_row,
        _fs_event{{ ',\n        _fs_created' if knowledge }}
    from _fs_known_{{ view.slug }}
    union all
    select
        {{ feature_store._asked_keys(view) }},
        _fs_moment as _fs_visible,
        1 as _fs_asked,
        _fs_row,
        null as _fs_event{{ ',\n        null as _fs_created' if knowledge }}
    from _fs_spine
    where _fs_moment is not null  -- it would stand behind every row
),

-- {{ view.reference }}: the newest event seen so far
_fs_newest_{{ view.slug }} as (
    select
        {{ keys }}, _fs_visible, _fs_asked, _fs_row,
        {% if knowledge -%}
        _fs_event as _fs_own_event, _fs_created as _fs_own_created,
        {% endif -%}
        max(_fs_event) {{ feature_store._over('so_far', of_entity) }} as _fs_event
    from _fs_timeline_{{ view.slug }}
    {{- feature_store._named_window('so_far', of_entity) }}
),
{% if knowledge %}
-- {{ view.reference }}: and of that event the newest version
_fs_versions_{{ view.slug }} as (
    select
        {{ keys }}, _fs_visible, _fs_asked, _fs_row, _fs_event,
        max(case when _fs_own_event = _fs_event then _fs_own_created end) {{ feature_store._over('so_far', of_event) }} as _fs_created
    from _fs_newest_{{ view.slug }}
    {{- feature_store._named_window('so_far', of_event) }}
),
{% endif %}
-- {{ view.reference }}: the row in force at each row's moment
_fs_in_force_{{ view.slug }} as (
    select *
    from (
        select _fs_row, {{ keys }}, _fs_visible as _fs_moment, _fs_event{{ ', _fs_created' if knowledge }}
        from _fs_{{ 'versions' if knowledge else 'newest' }}_{{ view.slug }}
        where _fs_asked > 0 and _fs_event is not null
    ) as answers
    {{- feature_store._ttl(view) }}
)
{%- endmacro %}


{#-- The rows and questions up to each one, as a window. --#}
{% macro _so_far(columns) %}
        partition by {{ columns }}
        order by _fs_visible asc nulls last, _fs_asked asc nulls last
        rows between unbounded preceding and current row
    {% endmacro %}


{% macro duckdb___rows_in_force(view, knowledge, strictly_before) -%}
    {%- set keys = feature_store._listed(feature_store._quoted_names(view.entities)) -%}
{{ feature_store._known(view, knowledge, strictly_before) }},
{% if knowledge %}
-- {{ view.reference }}: a row that becomes known after a newer one is never the latest
_fs_steps_{{ view.slug }} as (
    select {{ keys }}, _fs_event, _fs_created, _fs_visible
    from _fs_known_{{ view.slug }}
    qualify (_fs_event, _fs_created) = max((_fs_event, _fs_created)) over (
        partition by {{ keys }} order by _fs_visible asc nulls last range between unbounded preceding and current row
    )
),
{% endif %}
-- {{ view.reference }}: the row in force at each row's moment
_fs_in_force_{{ view.slug }} as (
    select
        asked._fs_row,
        {{ feature_store._listed(feature_store._quoted_names(view.entities, 'seen.')) }},
        seen._fs_event{{ ',\n        seen._fs_created' if knowledge }}
    from _fs_spine as asked
    asof join _fs_{{ 'steps' if knowledge else 'known' }}_{{ view.slug }} as seen
        on {% for key in view.entities -%}
        asked.{{ view.asked[loop.index0] }} = seen.{{ feature_store._quoted(key.name) }}
        and {% endfor -%}
        asked._fs_moment >= seen._fs_visible
    {{- feature_store._ttl(view) }}
)
{%- endmacro %}
