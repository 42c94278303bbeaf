{% test feature_freshness(model, max_age) %}
    {%- set view = feature_store._tested_view('feature_freshness') -%}
    {%- if view -%}
        {{- feature_store._test_feature_freshness(model, view, max_age) -}}
    {%- endif -%}
{% endtest %}


{% macro _test_feature_freshness(relation, view, max_age) -%}
    {%- set age = feature_store._duration(max_age, "The test 'feature_freshness' on '" ~ view.reference ~ "': max_age") -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
with

-- rows in the future do not count: a single one of them would hide that the others are old
newest as (
    select
        {{ feature_store._now() }} as present_moment,
        max({{ event }}) as newest_event
    from {{ relation }}
    where {{ event }} <= {{ feature_store._now() }}
)

select
    case
        when newest_event is null then {{ feature_store._text('there is no row up to now') }}
        else {{ feature_store._text('the newest row is older than ' ~ age.text) }}
    end as broken_rule,
    newest_event,
    present_moment
from newest
where newest_event is null or newest_event < present_moment - {{ feature_store._interval(age) }}
{%- endmacro %}
