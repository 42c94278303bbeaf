{#-- The CTE of the events, as every shape reads them: keys, `_fs_event` (when it happened), `_fs_from` (since when it counts; only
     where there is a load time), the values, and what they are added up by. `scope` is the part of the view to make: its events are
     read with what the longest window looks back on. --#}
{% macro _window_events(spec, scope=none) -%}
    {%- set amounts = feature_store._amount_columns(spec) -%}
    {%- set touched = scope and scope.name == 'touched' -%}
    {%- set needed = spec.entities + [spec.event] + ([spec.known] if spec.known else []) -%}
-- the events: a row without a key, a time or a load time is in no window
{{ '_fs_source' if amounts or touched else '_fs_events' }} as (
    select
        {{ feature_store._exact_keys(spec.key_columns) }},
        {{ spec.event }} as _fs_event,
        {%- if spec.known %}
        greatest(
            {{ spec.event }},
            {{ spec.known }}
        ){{ ' + ' ~ feature_store._microsecond() if spec.strictly_before }} as _fs_from,
        {%- endif %}
        {% for value in spec['values'] -%}
        {{ feature_store._exact(value.sql, value.type) }} as {{ value.column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ spec.relation }}
    where {{ needed | join(' is not null\n        and ') }} is not null
        {%- if scope and scope.name == 'batch' %}
        -- this batch, and what its windows look back on
        and {{ spec.event }} < {{ scope.last }}
        and (
            {{ spec.event }} > {{ scope.first }}{{ scope.reach }}
            {{- '\n            or ' ~ spec.known ~ ' >= ' ~ scope.first if spec.known }}
        )
        {%- endif %}
)
{%- if amounts or touched %},

{{ '-- of the entities touched, with what their windows look back on' if touched }}
{{- '\n' if touched and amounts }}
{{- '-- numbers also as whole units, so that their sums do not depend on the order of addition' if amounts }}
_fs_events as (
    select
        source.*{{ ',\n        ' ~ feature_store._named(amounts) if amounts }}
    from _fs_source as source
    {%- if touched %}
    join _fs_touched as touched
        on {{ feature_store._agree('touched', 'source', spec.entities) }}
        and source._fs_event <= touched._fs_last
        and (
            source._fs_event > touched._fs_first{{ scope.reach }}
            {{- '\n            or source._fs_from >= touched._fs_first' if spec.known }}
        )
    {%- endif %}
)
{%- endif %}
{%- endmacro %}


{#-- The moment from which an event counts. Strictly before a moment is up to a microsecond before it. --#}
{% macro _enters(spec) -%}
    {{ '_fs_from' if spec.known else '_fs_event + ' ~ feature_store._microsecond() if spec.strictly_before else '_fs_event' }}
{%- endmacro %}


{#-- An instant as the kind of timestamp that the source has: with a time zone where it had one. --#}
{% macro _window_timestamp(spec, expression) -%}
    {%- if feature_store._is_zoned(spec.event_type) -%}
        {{ adapter.dispatch('_zoned', 'feature_store')(expression) }}
    {%- else -%}
        {{ expression }}
    {%- endif -%}
{%- endmacro %}


{#-- The windows as rows: a name and a length each. --#}
{% macro _window_lengths(outputs) -%}
    (
        values
        {%- for window in outputs | map(attribute='window') | unique(attribute='slug') %}
        ('{{ window.slug }}', {{ feature_store._interval(window) }}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as windows (_fs_window, _fs_length)
{%- endmacro %}


{#-- Running totals of `totals`, and `keep`, of the rows of `relation` in the order of `order`. They run on from one entity to the next:
     differences within an entity are the same, none can overflow (see _window_amounts.sql), and DuckDB takes one long partition
     in half the time of many small ones. --#}
{% macro _running_totals(totals, keep, relation, order) -%}
select
        {{ feature_store._listed(keep) }},
        {% for total in totals -%}
        sum({{ total }}) over in_order as {{ total }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
    window in_order as (
        {{ adapter.dispatch('_totals_order', 'feature_store')(order) }}
        rows between unbounded preceding and current row
    )
{%- endmacro %}

{% macro default___totals_order(order) -%}
    order by
            {% for column in order -%}
            {{ column }} asc nulls first{{ ',\n            ' if not loop.last }}
            {%- endfor %}
{%- endmacro %}

{#-- All but the moment and `_fs_asked` tell entities apart: each runs for itself, on whichever executor. --#}
{% macro spark___totals_order(order) -%}
    partition by {{ feature_store._listed(order[:-2], 12) }}
        order by
            {{ order[-2] }} asc nulls first,
            {{ order[-1] }} asc nulls first
{%- endmacro %}
