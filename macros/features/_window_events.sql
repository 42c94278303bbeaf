{#-- The CTE of the events, as every shape reads them: keys, `_fs_event` (when it happened), `_fs_from` (since when it counts; only
     where there is a load time) and the values. `scope` is the part of the view to make: its events are read with what the
     longest window looks back on. --#}
{% macro _window_events(spec, scope=none) -%}
    {%- set exact = spec.aggregates | selectattr('exact') | map(attribute='value') | unique | list -%}
    {%- set touched = scope and scope.name == 'touched' -%}
-- the events: a row without a key, a time or a load time is in no window
{% if exact or touched -%}
_fs_source as (
{%- else -%}
_fs_events as (
{%- endif %}
    select
        {{ feature_store._exact_keys(spec.key_columns) }},
        {{ spec.event }} as _fs_event,
        {%- if spec.known %}
        greatest({{ spec.event }}, {{ spec.known }}) as _fs_from,
        {%- endif %}
        {% for value in spec['values'] -%}
        {{ feature_store._exact(value.sql, value.type) }} as {{ value.column }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    from {{ spec.relation }}
    where {% for key in spec.entities -%}
        {{ key }} is not null and {% endfor -%}
        {{ spec.event }} is not null
        {%- if spec.known %} and {{ spec.known }} is not null{% endif %}
        {%- if scope and scope.name == 'batch' %}
        -- this batch, and what its windows look back on
        and {{ spec.event }} < {{ scope.last }}
        and ({{ spec.event }} > {{ scope.first }}{{ scope.reach }}{{ ' or ' ~ spec.known ~ ' >= ' ~ scope.first if spec.known }})
        {%- endif %}
)
{%- if exact or touched %},

{{ '-- of the entities touched, with what their windows look back on' if touched }}
{{- '\n' if touched and exact }}
{{- '-- doubles also as whole numbers, so that their sums do not depend on the order of addition' if exact }}
_fs_events as (
    select
        source.*
        {%- for value in exact %},
        {{ feature_store._units('source.' ~ value) }} as {{ value }}_units,
        {{ feature_store._odd('source.' ~ value) }} as {{ value }}_odd
        {%- endfor %}
    from _fs_source as source
    {%- if touched %}
    join _fs_touched as touched
        on {% for key in spec.entities -%}
        touched.{{ key }} = source.{{ key }}
        and {% endfor -%}
        (source._fs_event > touched._fs_first{{ scope.reach }}{{ ' or source._fs_from >= touched._fs_first' if spec.known }})
        and source._fs_event <= touched._fs_last
    {%- endif %}
)
{%- endif %}
{%- endmacro %}


{#-- A double as a whole number of 2^-56, so that sums of doubles are sums of integers: they do not depend on the order of
     addition, and so are the same on every run and after every incremental build. What does not fit is odd: from 7e13 on, below
     7e-9 (where rounding could show), NaN and infinity. A window that holds an odd one is summed as it is. --#}
{% macro _units(value) -%}
    case when {{ feature_store._is_even(value) }} then cast({{ value }} * pow(2, 56) as {{ adapter.dispatch('_wide_integer', 'feature_store')() }}) end
{%- endmacro %}

{% macro _odd(value) -%}
    case when not ({{ feature_store._is_even(value) }}) then 1 end
{%- endmacro %}

{% macro _is_even(value) -%}
    abs({{ value }}) < pow(2, 46) and (abs({{ value }}) >= pow(2, -27) or {{ value }} = 0)
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
            when count({{ value }}_odd){{ of }} = 0
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
