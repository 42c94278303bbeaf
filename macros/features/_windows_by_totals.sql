{#-- What has come in by the moment less what has left by then: two rows of a running total, found by one ASOF join. Far cheaper than
     frames, and the only way but the range join where events have a load time; but only for what subtracts exactly: counts, and
     sums of integers and decimals. --#}
{% macro _windows_by_totals(spec, outputs, strictly_before=false) -%}
    {%- set entities = spec.entities | join(', ') -%}
    {%- set totals = {} -%}
    {%- for output in outputs -%}
        {%- set value = output.aggregate.value -%}
        {%- set own = '_' ~ output.window.slug if spec.known else '' -%}
        {%- set counted = 'case when _fs_from < _fs_event + ' ~ feature_store._interval(output.window) ~ ' then ' ~ value ~ ' end' if spec.known else value -%}
        {%- do totals.update({value ~ '_count' ~ own: 'count(' ~ counted ~ ')'}) -%}
        {%- if output.aggregate.function != 'count' -%}
            {%- do totals.update({value ~ '_sum' ~ own: 'coalesce(sum(' ~ counted ~ '), 0)'}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set orders = {'_fs_entered': '_fs_from', '_fs_left': '_fs_event'} if spec.known else {'_fs_entered': '_fs_event'} -%}
    {%- for cte, moment in orders.items() -%}
{% if not loop.first %}

{% endif -%}
-- {{ 'what has come in' if loop.first else 'what has left (asked for the moment a window earlier)' }}, as running totals; one row an instant, and one before all of an entity's events
{{ cte }} as (
    select
        {{ entities }},
        _fs_at,
        {% for total in totals -%}
        sum({{ total }}) over (rows unbounded preceding) as {{ total }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from (
        select {{ entities }}, {{ moment }} as _fs_at
            {%- for total, sql in totals.items() %}, {{ sql }} as {{ total }}{% endfor %}
        from _fs_events
        group by {{ entities }}, {{ moment }}
        union all
        select distinct {{ entities }}, timestamp '0001-01-01'{{ ', 0' * totals | length }}
        from _fs_events
        order by {{ entities }}, _fs_at
    ) as instants
),
    {%- endfor %}

-- each moment, and the moments a window earlier
_fs_borders as (
    select _fs_row, {{ entities }}, _fs_at{{ " - interval '1 microsecond'" if strictly_before }} as _fs_at, 'now' as _fs_border
    from _fs_moments
    {%- for window in spec.windows %}
    union all
    select _fs_row, {{ entities }}, _fs_at - {{ feature_store._interval(window) }}, '{{ window.slug }}'
    from _fs_moments
    {%- endfor %}
),

-- the totals at these
_fs_totals as (
    {%- for cte in orders %}
    {{ 'union all' if not loop.first }}
    select border._fs_row, border._fs_border, total.* exclude ({{ entities }}, _fs_at)
    from _fs_borders as border
    asof join {{ cte }} as total
        on {% for key in spec.entities -%}
        total.{{ key }} = border.{{ key }} and {% endfor -%}
        total._fs_at <= border._fs_at
    {%- if spec.known %}
    where border._fs_border {{ '=' if loop.first else '<>' }} 'now'
    {%- endif %}
    {%- endfor %}
),

-- a window is the difference of two; a moment without totals is an entity without events
_fs_by_totals as (
    select
        moment._fs_row,
        {% for output in outputs -%}
        {{ feature_store._total_aggregate(output, '_' ~ output.window.slug if spec.known else '') }} as {{ adapter.quote(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_moments as moment
    left join _fs_totals as total on total._fs_row = moment._fs_row
    group by moment._fs_row
)
{%- endmacro %}


{% macro _total_aggregate(output, own) -%}
    {%- set aggregate = output.aggregate -%}
    {%- set inside = {} -%}
    {%- for kind in ('count', 'sum') -%}
        {%- set total = aggregate.value ~ '_' ~ kind ~ own -%}
        {%- do inside.update({kind: 'max(' ~ total ~ ") filter (where _fs_border = 'now') - max(" ~ total ~ ") filter (where _fs_border = '" ~ output.window.slug ~ "')"}) -%}
    {%- endfor -%}
    {%- if aggregate.function == 'count' -%}
        cast(coalesce({{ inside.count }}, 0) as bigint)
    {%- else -%}
        case
            when {{ inside.count }} > 0
                then {{ feature_store._stated_sum(aggregate, '(' ~ inside.sum ~ ')', '(' ~ inside.count ~ ')') }}
        end
    {%- endif -%}
{%- endmacro %}
