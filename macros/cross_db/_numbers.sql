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
