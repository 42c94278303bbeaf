{#-- The CTE of the events, as every shape reads them: keys, `_fs_event` (when it happened), `_fs_from` (since when it counts; only
     where there is a load time) and the values. --#}
{% macro _window_events(spec) -%}
    {%- set exact = spec.aggregates | selectattr('exact') | map(attribute='value') | unique | list -%}
-- the events: a row without a key, a time or a load time is in no window
_fs_events as (
    select
        {% if exact -%}
        *,
        {% for value in exact -%}
        {{ feature_store._units(value) }} as {{ value }}_units{{ ',' if not loop.last }}
        {% endfor -%}
    from (
        select
        {% endif -%}
        {{ spec.entities | join(', ') }},
        {{ spec.event }} as _fs_event,
        {%- if spec.known %}
        greatest({{ spec.event }}, {{ spec.known }}) as _fs_from,
        {%- endif %}
        {% for value in spec['values'] -%}
        {{ value.sql }} as {{ value.column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
        from {{ spec.relation }}
        where {% for key in spec.entities -%}
        {{ key }} is not null and {% endfor -%}
        {{ spec.event }} is not null
        {%- if spec.known %} and {{ spec.known }} is not null{% endif %}
    {%- if exact %}
    ) as events
    {%- endif %}
)
{%- endmacro %}


{#-- A double as a whole number of 2^-56, so that sums of doubles are sums of integers: they do not depend on the order of
     addition, and so are the same on every run and after every incremental build. NULL for what does not fit, from
     7e13 on, below 7e-9 (where rounding could show), NaN and infinity: a window that holds one is summed as it is. --#}
{% macro _units(value) -%}
    case when abs({{ value }}) < pow(2, 46) and (abs({{ value }}) >= pow(2, -27) or {{ value }} = 0) then cast({{ value }} * pow(2, 56) as {{ adapter.dispatch('_wide_integer', 'feature_store')() }}) end
{%- endmacro %}

{% macro default___wide_integer() -%}
    decimal(38, 0)
{%- endmacro %}

{% macro duckdb___wide_integer() -%}
    hugeint
{%- endmacro %}


{#-- An instant as the kind of timestamp that the source has: with a time zone where it had one. --#}
{% macro _window_timestamp(spec, expression) -%}
    {%- if 'TIME ZONE' in spec.event_type | upper or 'TIMESTAMPTZ' in spec.event_type | upper -%}
        {{ expression }} at time zone 'UTC'
    {%- else -%}
        {{ expression }}
    {%- endif -%}
{%- endmacro %}


{#-- An aggregate over the events of a window: `of` says which, as ` filter (where ...)` or ` over ...`. --#}
{% macro _aggregate(aggregate, prefix, of) -%}
    {%- set value = prefix ~ aggregate.value -%}
    {%- set functions = {'stddev': 'stddev_samp', 'variance': 'var_samp'} -%}
    {%- if aggregate.exact -%}
        case
            when count({{ value }}_units){{ of }} = count({{ value }}){{ of }}
                then sum({{ value }}_units){{ of }} / pow(2, 56) {{- ' / count(' ~ value ~ ')' ~ of if aggregate.function == 'avg' }}
            else {{ aggregate.function }}({{ value }}){{ of }}
        end
    {%- elif aggregate.function == 'count_distinct' -%}
        count(distinct {{ value }}){{ of }}
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.kind in ('integer', 'decimal', 'wide decimal') -%}
        {{ feature_store._stated_sum(aggregate, 'sum(' ~ value ~ ')' ~ of, 'count(' ~ value ~ ')' ~ of) }}
    {%- else -%}
        {{ functions.get(aggregate.function, aggregate.function) }}({{ value }}){{ of }}
    {%- endif -%}
{%- endmacro %}


{#-- The sum or average of integers or decimals from an exact sum: a sum of integers is a bigint, and one that does not fit is an error;
     a sum of decimals keeps its scale; an average is a double. --#}
{% macro _stated_sum(aggregate, sum, count) -%}
    {%- if aggregate.function == 'avg' -%}
        cast({{ sum }} as double precision) / {{ count }}
    {%- elif aggregate.kind == 'integer' -%}
        cast({{ sum }} as bigint)
    {%- else -%}
        {{ sum }}
    {%- endif -%}
{%- endmacro %}
