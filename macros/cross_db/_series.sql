{#-- A row for each instant from `first` to `last`. --#}
{% macro default___series(first, last, step) -%}
    generate_series(
            {{ first }},
            {{ last }},
            {{ step }}
        )
{%- endmacro %}

{% macro duckdb___series(first, last, step) -%}
    unnest({{ feature_store.default___series(first, last, step) }})
{%- endmacro %}

{% macro spark___series(first, last, step) -%}
    explode(
            sequence(
                {{ first }},
                {{ last }},
                {{ step }}
            )
        )
{%- endmacro %}


{#-- The first step at or after an instant: steps are counted from Monday 1970-01-05 on. --#}
{% macro _next_step(instant, step) -%}
    {{- return(adapter.dispatch('_next_step', 'feature_store')(instant, step)) -}}
{% endmacro %}

{% macro default___next_step(instant, step, function='date_bin') -%}
    {%- set length = feature_store._interval(step) -%}
    {{ function }}({{ length }}, {{ instant }} - interval '1 microsecond', {{ feature_store._timestamp('1970-01-05') }})
            + {{ length }}
{%- endmacro %}

{% macro duckdb___next_step(instant, step) -%}
    {{- feature_store.default___next_step(instant, step, 'time_bucket') -}}
{%- endmacro %}

{% macro spark___next_step(instant, step) -%}
    {%- set start = feature_store._timestamp('1970-01-05') -%}
    {%- set seconds = 'cast(cast(' ~ instant ~ ' - ' ~ start ~ ' as interval second) as decimal(24, 6))' -%}
    {{ start }} + cast(ceil({{ seconds }} / {{ step.seconds }}) as bigint) * {{ feature_store._interval(step) }}
{%- endmacro %}


{#-- {at, source}: what selects a row for each instant from `first` to `last`, a step apart, and what it reads beside the relation that
     these are columns of. --#}
{% macro _steps(first, last, step) %}
    {%- do return(adapter.dispatch('_steps', 'feature_store')(first, last, step)) -%}
{% endmacro %}

{% macro default___steps(first, last, step) %}
    {%- do return({
        'at': adapter.dispatch('_series', 'feature_store')(first, last, feature_store._interval(step)), 'source': ''
    }) -%}
{% endmacro %}

{% macro snowflake___steps(first, last, step) %}
    {%- set length = "datediff('second', " ~ first ~ ', ' ~ last ~ ') + 1' -%}
    {%- do return({
        'at': "dateadd('second', cast(_fs_step.value as integer), " ~ first ~ ')',
        'source': ',\n    lateral flatten(input => array_generate_range(0, ' ~ length ~ ', ' ~ step.seconds ~ ')) as _fs_step',
    }) -%}
{% endmacro %}

{% macro bigquery___steps(first, last, step) %}
    {%- set length = 'datetime_diff(' ~ last ~ ', ' ~ first ~ ', second)' -%}
    {%- do return({
        'at': 'datetime_add(' ~ first ~ ', interval _fs_step second)',
        'source': '\n    cross join unnest(generate_array(0, ' ~ length ~ ', ' ~ step.seconds ~ ')) as _fs_step',
    }) -%}
{% endmacro %}

{#-- What generates rows runs on the leader node alone there, beside no table. --#}
{% macro redshift___steps(first, last, step) %}
    {%- do exceptions.raise_compiler_error(
        "window_aggregates: grain 'every' is not there on redshift, which generates no rows beside a table: take 'change' or 'event'."
    ) -%}
{% endmacro %}


{#-- Microseconds since the first Monday up to the next step, whatever their sign. --#}
{% macro _microseconds_to_step(microseconds, step) -%}
    {%- set length = step.seconds ~ '000000' -%}
    {{ microseconds }} + mod({{ length }} - mod({{ microseconds }}, {{ length }}), {{ length }})
{%- endmacro %}

{% macro snowflake___next_step(instant, step) -%}
    {%- set start = feature_store._timestamp('1970-01-05') -%}
    {%- set microseconds = "datediff('microsecond', " ~ start ~ ', ' ~ instant ~ ')' -%}
    dateadd('microsecond', {{ feature_store._microseconds_to_step(microseconds, step) }}, {{ start }})
{%- endmacro %}

{% macro bigquery___next_step(instant, step) -%}
    {%- set start = feature_store._timestamp('1970-01-05') -%}
    {%- set microseconds = 'datetime_diff(' ~ instant ~ ', ' ~ start ~ ', microsecond)' -%}
    datetime_add({{ start }}, interval {{ feature_store._microseconds_to_step(microseconds, step) }} microsecond)
{%- endmacro %}

{#-- Grain `every` has been refused by `_steps`. --#}
{% macro redshift___next_step(instant, step) -%}
{%- endmacro %}
