{#-- How engines reckon with their numbers. --#}


{#-- A double's exact value as a numeric, in units of 2^-70: PostgreSQL's own cast keeps 15 digits of it. Two whole numbers of 49 and 50
     bits hold one whose magnitude lies from 2^-20 to 2^29; others are what their shortest text says. NULL for what is not finite. --#}
{% macro postgres___units(double) -%}
    {%- set scaled = double ~ ' * pow(2, 20)' -%}
    case
            when {{ double }} = 0 then 0
            when {{ double }} in ('NaN', 'Infinity', '-Infinity') then null
            when abs({{ double }}) >= pow(2, -20) and abs({{ double }}) < pow(2, 29)
                then cast(cast(trunc({{ scaled }}) as bigint) as numeric) * 1125899906842624
                    + cast(
                        ({{ scaled }} - trunc({{ scaled }}))
                        * pow(2, 50) as bigint
                    )
            else cast(cast({{ double }} as text) as numeric) * 1180591620717411303424
        end
{%- endmacro %}


{#-- A sum of decimals of a type: of 38 digits, with as many behind the point. --#}
{% macro _stated_decimal(sum, type) -%}
    {{- return(adapter.dispatch('_stated_decimal', 'feature_store')(sum, type)) -}}
{%- endmacro %}

{% macro default___stated_decimal(sum, type) -%}
    {%- if feature_store._number_kind(type) == 'decimal' and '(' in type -%}
        cast(
            {{ sum }}
            as decimal(38, {{ feature_store._decimal_places(type) }})
        )
    {%- else -%}
        {{ sum }}
    {%- endif -%}
{%- endmacro %}

{#-- A sum is that already. --#}
{% macro duckdb___stated_decimal(sum, type) -%}
    {{ sum }}
{%- endmacro %}


{#-- A double in units of 2^-70 as a whole number of 30 digits, where its magnitude lies from 2^-20 to 2^29 or it is 0; else NULL. A cast
     of a double goes through its decimal text, so it is cut into two integers, which are exact. --#}
{% macro spark___units(double) -%}
    {%- set scaled = double ~ ' * 1048576D' -%}
    case
            when {{ double }} = 0D then cast(0 as decimal(38, 0))
            when abs({{ double }}) >= 9.5367431640625E-7D and abs({{ double }}) < 536870912D
                then cast(
                    cast(cast({{ scaled }} as bigint) as decimal(16, 0)) * 1125899906842624
                    + cast(({{ scaled }} - cast({{ scaled }} as bigint)) * 1125899906842624D as bigint)
                    as decimal(38, 0)
                )
        end
{%- endmacro %}

{#-- Subtracting totals costs a digit each time, and Spark takes it from behind the point where there are more than 6. --#}
{% macro spark___summand(aggregate, value) -%}
    {%- if aggregate.kind == 'integer' -%}
        cast({{ value }} as decimal(38, 0))
    {%- elif aggregate.kind == 'decimal' -%}
        {%- set digits = aggregate.type.split('(')[1].split(',')[0] | int if '(' in aggregate.type else 10 -%}
        {%- set places = feature_store._decimal_places(aggregate.type) if '(' in aggregate.type else 0 -%}
        {%- if places > 6 and digits > 26 -%}
            cast({{ value }} as decimal({{ [26, places] | max }}, {{ places }}))
        {%- else -%}
            {{ value }}
        {%- endif -%}
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}

{#-- A sum has 38 digits there, or 76, and a NUMERIC of 38 has no more than 9 of them behind the point. --#}
{% macro bigquery___stated_decimal(sum, type) -%}
    {{ sum }}
{%- endmacro %}
