{#-- Snowflake, BigQuery and Redshift: what they are given is compiled and parsed, and nobody has run it. So they get the plainest SQL there
     is, and a sentence in place of what would need more. --#}


{#-- Stops for what is not written for the adapter. --#}
{% macro _not_there(what) %}
    {%- do exceptions.raise_compiler_error(
        what ~ ' is not there on ' ~ adapter.type() ~ ': its SQL is written for DuckDB, PostgreSQL and Spark alone.'
    ) -%}
{% endmacro %}

{#-- Stops likewise for a macro, which is there on all other adapters. --#}
{% macro _check_engine(what) %}
    {%- if execute and adapter.type() in ('snowflake', 'bigquery', 'redshift') -%}
        {%- do feature_store._not_there(what) -%}
    {%- endif -%}
{% endmacro %}


{#-- An aggregate over the events of a window, by the warehouse's own functions. --#}
{% macro _plain_range_aggregate(aggregate, inside) -%}
    {%- set types = feature_store._types() -%}
    {%- set value = 'case when ' ~ inside ~ ' then event.' ~ aggregate.value ~ ' end' -%}
    {%- set functions = {'stddev': 'stddev_samp', 'variance': 'var_samp'} -%}
    {%- if aggregate.place -%}
        {{ adapter.dispatch('_plain_range_place', 'feature_store')(aggregate, inside) }}
    {%- elif aggregate.function == 'count_distinct' -%}
        count(distinct {{ value }})
    {%- elif aggregate.function in ('sum', 'avg') and aggregate.subtracts -%}
        {{ feature_store._stated_sum(aggregate, 'sum(' ~ value ~ ')', 'nullif(count(' ~ value ~ '), 0)') }}
    {%- elif aggregate.function == 'avg' -%}
        avg(cast({{ value }} as {{ types.double }}))
    {%- else -%}
        {{ functions.get(aggregate.function, aggregate.function) }}({{ value }})
    {%- endif -%}
{%- endmacro %}

{#-- NULL is a value to first and last; what aggregates values in an order passes over it. --#}
{% macro default___plain_range_place(aggregate, inside) -%}
    {%- do feature_store._not_there("The function '" ~ aggregate.function ~ "' of a window") -%}
{%- endmacro %}

{#-- An order inside of an aggregate says no place for NULL: it is the lowest value. --#}
{% macro bigquery___plain_range_place(aggregate, inside) -%}
    {%- set value = 'event.' ~ aggregate.value -%}
    {%- set condition = 'event.' ~ aggregate.taken ~ ' = 1 and ' ~ inside -%}
    array_agg(
            case when {{ condition }} then {{ value }} end
            order by
                case when {{ condition }} then 0 else 1 end asc,
                event._fs_event {{ 'asc' if aggregate.function == 'first' else 'desc' }},
                {{ adapter.dispatch('_greatest_first', 'feature_store')(value, aggregate.type).replace(' nulls last', '') }}
            limit 1
        )[safe_offset(0)]
{%- endmacro %}


{#-- A join key of the spine is compared as it is, with a key of the same kind. --#}
{% macro _key_as_it_is(expression, given, wanted) %}
    {%- set kinds = [] -%}
    {%- for type in ([given, wanted] if given else []) -%}
        {%- set kind = feature_store._feature_kind(type).kind -%}
        {%- do kinds.append(
            'number' if kind in ('integer', 'decimal') else 'zoned' if kind == 'timestamp' and feature_store._is_zoned(type) else kind
        ) -%}
    {%- endfor -%}
    {%- if kinds and (kinds[0] != kinds[1] or kinds[0] in ('list', 'other')) -%}
        {%- do exceptions.raise_compiler_error(
            expression ~ ' is ' ~ given ~ ' in the spine and has to be ' ~ wanted ~ ': on ' ~ adapter.type()
            ~ ' keys and request fields are not cast, so cast it there.'
        ) -%}
    {%- endif -%}
    {%- do return(expression) -%}
{% endmacro %}


{% macro snowflake___usual_shape() %}
    {%- do return('range') -%}
{% endmacro %}

{% macro snowflake___check_incremental() %}
    {%- do feature_store._not_there('window_aggregates in an incremental model') -%}
{% endmacro %}

{% macro snowflake___amount_columns(spec) %}
    {%- do return({}) -%}
{% endmacro %}

{% macro snowflake___range_aggregate(aggregate, inside) -%}
    {{- return(feature_store._plain_range_aggregate(aggregate, inside)) -}}
{%- endmacro %}

{% macro snowflake___key(expression, given, wanted) -%}
    {{- return(feature_store._key_as_it_is(expression, given, wanted)) -}}
{%- endmacro %}

{% macro snowflake___on_demand_value(sql) %}
    {%- do feature_store._not_there('An on-demand feature in a training set') -%}
{% endmacro %}

{% macro bigquery___usual_shape() %}
    {%- do return('range') -%}
{% endmacro %}

{% macro bigquery___check_incremental() %}
    {%- do feature_store._not_there('window_aggregates in an incremental model') -%}
{% endmacro %}

{% macro bigquery___amount_columns(spec) %}
    {%- do return({}) -%}
{% endmacro %}

{% macro bigquery___range_aggregate(aggregate, inside) -%}
    {{- return(feature_store._plain_range_aggregate(aggregate, inside)) -}}
{%- endmacro %}

{% macro bigquery___key(expression, given, wanted) -%}
    {{- return(feature_store._key_as_it_is(expression, given, wanted)) -}}
{%- endmacro %}

{% macro bigquery___on_demand_value(sql) %}
    {%- do feature_store._not_there('An on-demand feature in a training set') -%}
{% endmacro %}

{% macro redshift___usual_shape() %}
    {%- do return('range') -%}
{% endmacro %}

{% macro redshift___check_incremental() %}
    {%- do feature_store._not_there('window_aggregates in an incremental model') -%}
{% endmacro %}

{% macro redshift___amount_columns(spec) %}
    {%- do return({}) -%}
{% endmacro %}

{% macro redshift___range_aggregate(aggregate, inside) -%}
    {{- return(feature_store._plain_range_aggregate(aggregate, inside)) -}}
{%- endmacro %}

{% macro redshift___key(expression, given, wanted) -%}
    {{- return(feature_store._key_as_it_is(expression, given, wanted)) -}}
{%- endmacro %}

{% macro redshift___on_demand_value(sql) %}
    {%- do feature_store._not_there('An on-demand feature in a training set') -%}
{% endmacro %}


{#-- What Redshift would take from PostgreSQL and does not have. --#}
{% macro redshift___exact_numbers() %}
    {%- do return(feature_store.default___exact_numbers()) -%}
{% endmacro %}

{% macro redshift___has_running_frames(aggregate) %}
    {%- do return(false) -%}
{% endmacro %}

{% macro redshift___outer_join() -%}
    {{- feature_store.default___outer_join() -}}
{%- endmacro %}

{% macro redshift___row_join() -%}
    {{- feature_store.default___row_join() -}}
{%- endmacro %}

{% macro redshift___payload(view, knowledge, visible, outer_joined) -%}
    {{- feature_store.default___payload(view, knowledge, visible, outer_joined) -}}
{%- endmacro %}

{% macro redshift___content(columns, counts) -%}
    {{- feature_store.default___content(columns, counts) -}}
{%- endmacro %}
