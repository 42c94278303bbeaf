{% test feature_null_fraction(model, column_name, maximum) %}
{%- if execute -%}{%- do feature_store._check_number('feature_null_fraction', 'maximum', maximum, most=1) -%}{%- endif -%}
with

counted as (
    select
        count(*) as row_count,
        count(*) - count({{ column_name }}) as null_count
    from {{ model }}
)

select
    {{ feature_store._text('more than ' ~ maximum ~ ' of the values are NULL') }} as broken_rule,
    row_count,
    null_count,
    null_count * 1.0 / row_count as null_fraction
from counted
where null_count > {{ maximum }} * row_count
{% endtest %}
