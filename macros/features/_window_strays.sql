{#-- The windows that hold strays: doubles too large, too small or not finite for the units that all others are added up in (see
     _window_amounts.sql). The values of one entity fall into a few ranges of magnitude, each with units of its own; within a range all
     is exact, and the ranges of a window are put together in one order. An entity without strays costs nothing here.

     `moments` is a relation with the moments asked for, as keys and `_fs_at`. The last CTE is `_fs_by_strays`: keys, `_fs_at`, and the
     outputs, NULL where a window holds no stray. A window with NaN or with both infinities is NaN; with one infinity its sum and
     average are that, and its stddev and variance NaN. --#}
{% macro _window_strays(spec, moments) -%}
    {{- return(adapter.dispatch('_window_strays', 'feature_store')(spec, moments)) -}}
{%- endmacro %}

{% macro default___window_strays(spec, moments) -%}
    {%- set types = feature_store._types() -%}
    {%- set outputs = spec.outputs | selectattr('aggregate.scaled') | list -%}
    {%- set aggregates = outputs | map(attribute='aggregate') | unique(attribute='value') | list -%}
    {%- set keys = feature_store._listed(spec.entities) -%}
    {%- set of_window = spec.entities + ['_fs_at', '_fs_window', '_fs_value'] -%}
    {%- set at = feature_store._listed(of_window) -%}
    {%- set of_range = spec.entities + ['_fs_value', '_fs_range'] -%}
    {%- set functions = outputs | map(attribute='aggregate.function') | unique | list -%}
    {%- set spread = 'stddev' in functions or 'variance' in functions -%}
    {%- set amounts = {'_fs_numbers': '1', '_fs_strays': '_fs_is_stray', '_fs_high': '_fs_high', '_fs_low': '_fs_low'} -%}
    {%- do amounts.update(feature_store._cut_amounts('') if spread else {}) -%}
-- the numbers of entities that have strays, each in the units of its range
_fs_strayed as (
    {% for aggregate in aggregates -%}
    select
        {{ keys }},
        _fs_event,
        {{ '_fs_from,\n        ' if spec.known -}}
        '{{ aggregate.called }}' as _fs_value,
        cast({{ aggregate.value }} as {{ types.double }}) as _fs_number,
        _fs_stray{{ aggregate.of }} as _fs_stray
    from _fs_events
    join (
        select distinct {{ keys }}
        from _fs_events
        where _fs_stray{{ aggregate.of }} is not null
    ) as strayed using ({{ keys }})
    where {{ aggregate.value }} is not null
    {{- '\n    union all\n    ' if not loop.last }}
    {%- endfor %}
),

-- each as whole units of its range: `_fs_high` * 2^50 + `_fs_low`
_fs_strays as (
    select
        *,
        cast(trunc(_fs_scaled) as {{ types.bigint }}) as _fs_high,
        cast((_fs_scaled - trunc(_fs_scaled)) * pow(2, 50) as {{ types.bigint }}) as _fs_low
    from (
        select
            * exclude (_fs_stray, _fs_power, _fs_is_endless),
            -- zero is of the least range, for it adds to none
            coalesce(_fs_stray, case when _fs_number = 0 then -100 else 0 end) as _fs_range,
            case when _fs_stray is null then 0 else 1 end as _fs_is_stray,
            case
                when _fs_is_endless then 0
                else {{ feature_store._times_power('_fs_number', '_fs_power') }}
            end as _fs_scaled
        from (
            select
                *,
                20 - 46 * coalesce(_fs_stray, 0) as _fs_power,
                coalesce(_fs_stray, 0) >= 1000 as _fs_is_endless
            from _fs_strayed
        ) as powers
    ) as numbers
),

-- the moments asked for, at each range of such an entity
_fs_stray_moments as (
    select {{ feature_store._listed(spec.entities + ['_fs_at', '_fs_value', '_fs_range']) }}
    from (
        select distinct {{ keys }}, _fs_at
        from {{ moments }}
    ) as moments
    join (
        select distinct {{ feature_store._listed(of_range) }}
        from _fs_strays
    ) as ranges using ({{ keys }})
),

{{ feature_store._balances(
    'stray', outputs, amounts, '_fs_strays', '_fs_stray_moments', of_range, of_range + ['_fs_at'],
    feature_store._enters(spec), '_fs_event + _fs_length'
) }},

{% if spread -%}
{{ feature_store._centre('_fs_stray_centres', '(select * from _fs_stray_windows where _fs_numbers > 0)', ['']) }},

{% endif -%}
-- each range of a window, and the greatest beside it: its sum{{ ', mean (in two doubles) and squares about it' if spread }}, in units
_fs_stray_ranges as (
    select
        {{ at }},
        _fs_range,
        _fs_numbers,
        _fs_strays,
        cast(_fs_high * 1125899906842624 + _fs_low as {{ types.double }}) as _fs_sum,
        {%- if spread %}
        _fs_mean,
        cast(_fs_mean_units - cast(_fs_mean as {{ types.whole }}) as {{ types.double }})
            + cast(_fs_rest as {{ types.double }}) / _fs_numbers as _fs_mean_rest,
        _fs_squares,
        {%- endif %}
        max(_fs_range){{ feature_store._where('_fs_range < 1000') }} over (
            partition by {{ feature_store._listed(of_window, 12) }}
        ) as _fs_top
    {%- if spread %}
    from (
        select
            *,
            _fs_mean_high * 1125899906842624 + _fs_mean_low as _fs_mean_units,
            cast(_fs_mean_high * 1125899906842624 + _fs_mean_low as {{ types.double }}) as _fs_mean,
            {{ feature_store._squares('') }} as _fs_squares
        from _fs_stray_centres
    ) as means
    {%- else %}
    from _fs_stray_windows
    where _fs_numbers > 0
    {%- endif %}
),

-- all in units of the greatest range, from the least range on
_fs_stray_totals as (
    select
        {{ at }},
        sum(
            case _fs_range
                when 1000 then cast('inf' as {{ types.double }})
                when 1001 then cast('-inf' as {{ types.double }})
                when 1002 then cast('nan' as {{ types.double }})
            end
        ) as _fs_endless,
        sum(_fs_numbers) as _fs_numbers,
        46 * any_value(_fs_top) - 70 as _fs_power,
        {{ feature_store._ordered_sum('_fs_sum * _fs_factor', '_fs_range') }} as _fs_sum
        {%- if spread %},
        {{ feature_store._ordered_sum('_fs_mean * _fs_factor * _fs_numbers', '_fs_range') }} / sum(_fs_numbers) as _fs_mean
        {%- endif %}
    from (
        select
            *,
            case when _fs_range < 1000 then pow(2, 46 * (_fs_range - _fs_top)) else 0 end as _fs_factor
        from _fs_stray_ranges
    ) as ranges
    group by {{ at }}
    having sum(_fs_strays) > 0
),

{% if spread -%}
-- the squares about the common mean: those about each range's own, and of the distances between
_fs_stray_spreads as (
    select
        {{ at }},
        {{ feature_store._ordered_sum(
            '_fs_squares * _fs_factor * _fs_factor + _fs_numbers * _fs_distance * _fs_distance', '_fs_range'
        ) }}
            - pow({{ feature_store._ordered_sum('_fs_numbers * _fs_distance', '_fs_range') }}, 2) / sum(_fs_numbers) as _fs_squares
    from (
        select
            ranges.*,
            pow(2, 46 * (_fs_range - _fs_top)) as _fs_factor,
            (ranges._fs_mean * pow(2, 46 * (_fs_range - _fs_top)) - totals._fs_mean)
                + ranges._fs_mean_rest * pow(2, 46 * (_fs_range - _fs_top)) as _fs_distance
        from _fs_stray_ranges as ranges
        join _fs_stray_totals as totals using ({{ at }})
        where _fs_range < 1000
    ) as ranges
    group by {{ at }}
),

{% endif -%}
-- back from units to numbers
_fs_stray_values as (
    select
        {{ at }},
        {% for function in functions -%}
        {{ feature_store._stray_value(function) }} as "{{ function }}"{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_stray_totals
    {%- if spread %}
    left join _fs_stray_spreads using ({{ at }})
    {%- endif %}
),

-- the windows of a moment beside each other
_fs_by_strays as (
    select
        {{ keys }},
        _fs_at,
        {% for output in outputs -%}
        {%- set one = "_fs_value = '" ~ output.aggregate.called ~ "' and _fs_window = '" ~ output.window.slug ~ "'" -%}
        {{ feature_store._any_value('"' ~ output.aggregate.function ~ '"', one) }} as {{ feature_store._quoted(output.column) }}
        {{- ',\n        ' if not loop.last }}
        {%- endfor %}
    from _fs_stray_values
    group by {{ keys }}, _fs_at
)
{%- endmacro %}


{#-- An aggregate from the totals of a window that holds strays. --#}
{% macro _stray_value(function) -%}
    {%- set types = feature_store._types() -%}
    {%- if function == 'sum' -%}
        coalesce(_fs_endless, {{ feature_store._times_power('_fs_sum', '_fs_power') }})
    {%- elif function == 'avg' -%}
        coalesce(_fs_endless, {{ feature_store._times_power('_fs_sum / _fs_numbers', '_fs_power') }})
    {%- else -%}
        {%- set variance = 'greatest(_fs_squares, 0) / (_fs_numbers - 1)' -%}
        case
            when _fs_numbers < 2 then null
            when _fs_endless is not null then cast('nan' as {{ types.double }})
            {%- if function == 'stddev' %}
            else {{ feature_store._times_power('sqrt(' ~ variance ~ ')', '_fs_power') }}
            {%- else %}
            else {{ feature_store._times_power(feature_store._times_power(variance, '_fs_power'), '_fs_power') | trim }}
            {%- endif %}
        end
    {%- endif -%}
{%- endmacro %}


{#-- `number` times a power of two, in two steps: the power alone may be beyond a double. --#}
{% macro _times_power(number, power) -%}
    {{ number }} * pow(2, {{ power }} // 2) * pow(2, {{ power }} - {{ power }} // 2)
{%- endmacro %}
