{#-- Arithmetic of doubles that ends where a double does. DuckDB gives infinity and zero there; PostgreSQL would stop the query, so what
     could be too large or too small is looked at first. Where nothing is, the results are the same to the bit. --#}


{#-- One number less another: infinite where the difference is. --#}
{% macro _minus(number, other) -%}
    {{ return(adapter.dispatch('_minus', 'feature_store')(number, other)) }}
{%- endmacro %}

{% macro default___minus(number, other) -%}
    {{ number }} - {{ other }}
{%- endmacro %}

{#-- Two numbers of different signs are halved first: only together they can be too large, and small ones have no half. --#}
{% macro postgres___minus(number, other) -%}
    case
            when least(abs({{ number }}), abs({{ other }})) > 1e290
                and sign({{ number }}) <> sign({{ other }})
                and abs({{ number }}) * 0.5 + abs({{ other }}) * 0.5 >= pow(2, 1023)
                then cast('Infinity' as {{ feature_store._double() }}) * sign({{ number }})
            else {{ number }} - {{ other }}
        end
{%- endmacro %}


{#-- A number as a share of a width that is at least as large; NULL where the width is 0. --#}
{% macro _share(number, width) -%}
    {{ return(adapter.dispatch('_share', 'feature_store')(number, width)) }}
{%- endmacro %}

{% macro default___share(number, width) -%}
    ({{ number }}) / nullif({{ width }}, 0)
{%- endmacro %}

{% macro postgres___share(number, width) -%}
    case
            when {{ width }} > 1 and abs({{ number }}) < {{ width }} * 1e-300 then 0
            else ({{ number }}) / nullif({{ width }}, 0)
        end
{%- endmacro %}


{#-- What a share, from -1 to 1, of a number is. --#}
{% macro _share_of(number, share) -%}
    {{ return(adapter.dispatch('_share_of', 'feature_store')(number, share)) }}
{%- endmacro %}

{% macro default___share_of(number, share) -%}
    {{ number }} * {{ share }}
{%- endmacro %}

{% macro postgres___share_of(number, share) -%}
    case
            when abs({{ share }}) < 1e-200 then 0
            when abs({{ number }}) < 1e-100
                and abs({{ number }}) * pow(2, 900) * abs({{ share }}) <= pow(2, -175)
                then 0
            else {{ number }} * {{ share }}
        end
{%- endmacro %}


{#-- How many times one number, not below 0, another is: infinite or 0 where that is beyond a double; NULL for 0. --#}
{% macro _times(number, other) -%}
    {{ return(adapter.dispatch('_times', 'feature_store')(number, other)) }}
{%- endmacro %}

{% macro default___times(number, other) -%}
    {{ number }} / nullif({{ other }}, 0)
{%- endmacro %}

{% macro postgres___times(number, other) -%}
    case
            when {{ number }} = 0 or {{ other }} = 0 then {{ number }} / nullif({{ other }}, 0)
            when ln({{ number }}) - ln({{ other }}) > 709.78 then cast('Infinity' as {{ feature_store._double() }})
            when ln({{ number }}) - ln({{ other }}) < -744.4 then 0
            else {{ number }} / {{ other }}
        end
{%- endmacro %}


{#-- The mean of `numbers`, each of which stands for `weight` rows of `rows`. An aggregate. --#}
{% macro _weighted_mean(numbers, weight, rows) -%}
    {{ return(adapter.dispatch('_weighted_mean', 'feature_store')(numbers, weight, rows)) }}
{%- endmacro %}

{% macro default___weighted_mean(numbers, weight, rows) -%}
    sum({{ numbers }} * {{ weight }}) / {{ rows }}
{%- endmacro %}

{#-- In numeric, which no sum is too large for; beyond its 323rd digit a number is no double. --#}
{% macro postgres___weighted_mean(numbers, weight, rows) -%}
    cast(
            round(sum(cast(cast({{ numbers }} as text) as numeric) * {{ weight }}) / {{ rows }}, 323)
            as {{ feature_store._double() }}
        )
{%- endmacro %}


{#-- A double as text, in one form on all engines: 1000000.0, 1e+16, 1e-05. --#}
{% macro _double_text(number) -%}
    {{ return(adapter.dispatch('_double_text', 'feature_store')(number)) }}
{%- endmacro %}

{% macro default___double_text(number) -%}
    cast({{ number }} as varchar)
{%- endmacro %}

{#-- PostgreSQL's own shortest digits (or those of a real, given as `digits`); but it turns to powers of ten at 1e6 (real) or 1e15, and
     leaves `.0` out. --#}
{% macro postgres___double_text(number, digits=none) -%}
    (
            select
                case
                    when number in ('NaN', 'Infinity', '-Infinity') then replace(lower(digits), 'infinity', 'inf')
                    when number = 0 then digits || '.0'
                    when abs(number) >= 1e16 or abs(number) < 1e-4 then digits
                    when digits not like '%e%' and digits like '%.%' then digits
                    when trunc(cast(digits as numeric)) = cast(digits as numeric)
                        then cast(cast(digits as numeric) as text) || '.0'
                    else cast(cast(digits as numeric) as text)
                end
            {%- if digits %}
            from (
                select
                    {{ number }} as number,
                    {{ digits }} as digits
            ) as shown
            {%- else %}
            from (select number, cast(number as text) as digits from (select {{ number }} as number) as given) as shown
            {%- endif %}
        )
{%- endmacro %}

{#-- Spark turns to powers of ten at 1e7 and 1e-3; the rest is a matter of spelling. --#}
{% macro spark___double_text(number) -%}
    {%- set text = 'cast(' ~ number ~ ' as string)' -%}
    case
            when isnan({{ number }}) or abs({{ number }}) = double('infinity') then replace(lower({{ text }}), 'infinity', 'inf')
            when {{ text }} not like '%E%' then {{ text }}
            when abs({{ number }}) >= 1E-4D and abs({{ number }}) < 1E16D
                then regexp_replace(cast(cast({{ text }} as decimal(38, 20)) as string), '([.][0-9]+?)0+$', '$1')
            else regexp_replace(
                regexp_replace(replace(lower({{ text }}), '.0e', 'e'), 'e([0-9])', 'e+$1'),
                'e([+-])([0-9])$', 'e$10$2'
            )
        end
{%- endmacro %}
