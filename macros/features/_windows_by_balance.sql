{#-- What has come in less what has left again, as one running total a window: for events with a load time, which come in in another
     order than they leave. Only for what subtracts exactly. --#}
{% macro _windows_by_balance(spec, outputs) -%}
{{ feature_store._balances('balance', spec, outputs, feature_store._amounts(outputs), '_fs_events', '_fs_moments', spec.entities, ['_fs_row']) }},

{{ feature_store._finish_windows('balance', outputs) }}
{%- endmacro %}


{#-- The CTE `_fs_<name>_windows`: `keep`, `_fs_window` and the totals of `amounts` inside each window, at each of `moments`. Within `keys` both
     relations are told apart. --#}
{% macro _balances(name, spec, outputs, amounts, events, moments, keys, keep) -%}
    {%- set enters = feature_store._enters(spec) -%}
    {%- set keys_list = keys | join(', ') -%}
    {%- set kept = keep | reject('in', keys + ['_fs_at']) | list -%}
-- what comes in (+) and what leaves (-) each window, and the moments asked for; what is loaded after it has left never comes in
_fs_{{ name }}_changes as (
    select
        {{ keys_list }}, _fs_window, {{ enters }} as _fs_at, 0 as _fs_asked,
        {%- for column in kept %} cast(null as bigint) as {{ column }},{% endfor %}
        {% for column, amount in amounts.items() -%}
        {{ amount }} as {{ column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ events }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where {{ enters }} < _fs_event + _fs_length
    union all
    select
        {{ keys_list }}, _fs_window, _fs_event + _fs_length, 0,{{ ' null,' * kept | length }}
        {% for amount in amounts.values() -%}
        -({{ amount }}){{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ events }}
    cross join {{ feature_store._window_lengths(outputs) }}
    where {{ enters }} < _fs_event + _fs_length
    union all
    select {{ keys_list }}, _fs_window, _fs_at, 1, {% for column in kept %}{{ column }}, {% endfor %}{{ (['0'] * amounts | length) | join(', ') }}
    from {{ moments }}
    cross join {{ feature_store._window_lengths(outputs) }}
),

-- what is inside at each moment
_fs_{{ name }}_windows as (
    select *
    from (
        {{ feature_store._running_totals(amounts.keys() | list, keep + ['_fs_window', '_fs_asked'], '_fs_' ~ name ~ '_changes', keys + ['_fs_at', '_fs_asked'], '_fs_window') | indent(4) }}
    ) as balances
    where _fs_asked = 1
)
{%- endmacro %}
