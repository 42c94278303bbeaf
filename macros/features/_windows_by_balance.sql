{#-- What has come in less what has left again, as one running total: for events with a load time, which come in in another order than
     they leave, and for distinct values. Only for what subtracts exactly. --#}
{% macro _windows_by_balance(spec, outputs, strictly_before=false) -%}
    {%- set entities = spec.entities | join(', ') -%}
    {%- set from = '_fs_from' if spec.known else '_fs_event' -%}
    {#- Strictly before: at one instant what leaves has left, and what comes in is not there yet. -#}
    {%- set comes = 2 if strictly_before else 0 -%}
    {%- set columns = {} -%}
    {%- for output in outputs -%}
        {%- set aggregate = output.aggregate -%}
        {%- if aggregate.function == 'count_distinct' -%}
            {%- do columns.update({aggregate.value ~ '_distinct_' ~ output.window.slug: {'slug': output.window.slug, 'value': aggregate.value}}) -%}
        {%- else -%}
            {%- do columns.update({aggregate.value ~ '_count_' ~ output.window.slug: {'slug': output.window.slug, 'amount': 'case when ' ~ aggregate.value ~ ' is null then 0 else 1 end'}}) -%}
            {%- if aggregate.function in ('sum', 'avg') -%}
                {%- do columns.update({aggregate.value ~ '_sum_' ~ output.window.slug: {'slug': output.window.slug, 'amount': feature_store._summand(aggregate)}}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set distinct = outputs | selectattr('aggregate.function', 'equalto', 'count_distinct') | list -%}
    {%- set plain = distinct | length < outputs | length -%}
    {%- for value in distinct | map(attribute='aggregate.value') | unique -%}
-- the events of one value beside each other: while one of them is in a window, the others add nothing
{{ value }}_neighbours as (
    select
        {{ entities }},
        {{ from }} as _fs_from,
        _fs_event,
        max(_fs_event) over (partition by {{ entities }}, {{ value }} order by {{ from }} asc nulls last, _fs_event asc nulls last rows between unbounded preceding and 1 preceding) as _fs_before,
        max(_fs_event) over (partition by {{ entities }}, {{ value }} order by {{ from }} asc nulls last, _fs_event asc nulls last rows between unbounded preceding and current row) as _fs_latest,
        lead({{ from }}) over (partition by {{ entities }}, {{ value }} order by {{ from }} asc nulls last, _fs_event asc nulls last) as _fs_next
    from _fs_events
    where {{ value }} is not null
),

    {% endfor -%}
-- what comes in (+), what leaves (-), and the moments asked for
_fs_changes as (
    {%- if plain %}
    select {{ entities }}, {{ from }} as _fs_at, {{ comes }} as _fs_asked, cast(null as bigint) as _fs_row
        {%- for column, of in columns.items() %}, {{ 'case when ' ~ from ~ ' < _fs_event + ' ~ feature_store._interval(spec.window_of[of.slug]) ~ ' then ' ~ of.amount ~ ' end' if of.amount else 'cast(null as bigint)' }} as {{ column }}{% endfor %}
    from _fs_events
    {%- for window in outputs | rejectattr('aggregate.function', 'equalto', 'count_distinct') | map(attribute='window') | unique(attribute='slug') %}
    union all
    select {{ entities }}, _fs_event + {{ feature_store._interval(window) }}, 0, null
        {%- for of in columns.values() %}, {{ '-(' ~ of.amount ~ ')' if of.amount and of.slug == window.slug else 'null' }}{% endfor %}
    from _fs_events
    where {{ from }} < _fs_event + {{ feature_store._interval(window) }}
    {%- endfor %}
    {%- endif %}
    {%- for column, changed in columns.items() if changed.value %}
    {%- set window = feature_store._interval(spec.window_of[changed.slug]) %}
    {{ 'union all' if plain or not loop.first }}
    select {{ entities }}, _fs_from as _fs_at, {{ comes }} as _fs_asked, cast(null as bigint) as _fs_row
        {%- for other in columns %}, {{ 1 if other == column else 'cast(null as bigint)' }} as {{ other }}{% endfor %}
    from {{ changed.value }}_neighbours
    where _fs_from < _fs_event + {{ window }} and (_fs_before is null or _fs_from >= _fs_before + {{ window }})
    union all
    select {{ entities }}, _fs_latest + {{ window }}, 0, null
        {%- for other in columns %}, {{ -1 if other == column else 'null' }}{% endfor %}
    from {{ changed.value }}_neighbours
    where _fs_from < _fs_latest + {{ window }} and (_fs_next is null or _fs_next >= _fs_latest + {{ window }})
    {%- endfor %}
    union all
    select {{ entities }}, _fs_at, 1, _fs_row{{ ', null' * columns | length }}
    from _fs_moments
),

-- what is there at each of these
_fs_balances as (
    {{ feature_store._running_totals(spec, columns.keys() | list, ['_fs_row'], '_fs_changes') }}
),

-- an entity without events has no balance
_fs_by_balance as (
    select
        _fs_row,
        {% for output in outputs -%}
        {%- set value = output.aggregate.value -%}
        {%- set counted = '_distinct_' if output.aggregate.function == 'count_distinct' else '_count_' -%}
        {{ feature_store._difference(output.aggregate, 'coalesce(' ~ value ~ counted ~ output.window.slug ~ ', 0)', value ~ '_sum_' ~ output.window.slug) }} as {{ feature_store._quoted(output.column) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_balances
    where _fs_asked = 1
)
{%- endmacro %}
