{#-- A view's rows with their event and created time, as instants, in columns of their own; of those loaded by `loaded` alone, where that
     is given. --#}
{% macro _with_moments(reference, event, created, loaded=none) -%}
    {%- set view = feature_store._feature_view(reference) -%}
    {%- set moments = {'event': feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type)} -%}
    {%- do moments.update({'created': 'cast(null as ' ~ feature_store._types().timestamp ~ ')'}) -%}
    {%- if view.created_timestamp -%}
        {%- set column = view.created_timestamp -%}
        {%- do moments.update({'created': feature_store._instant(feature_store._quoted(column.name), column.type)}) -%}
    {%- endif -%}
select *, {{ moments.event }} as {{ feature_store._quoted(event) }}, {{ moments.created }} as {{ feature_store._quoted(created) }}
from {{ view.relation }}
    {%- if loaded %}
where {{ moments.created }} <= {{ feature_store._timestamp(loaded) }}
    {%- endif %}
{%- endmacro %}
