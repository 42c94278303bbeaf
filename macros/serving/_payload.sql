{#-- CTEs that fetch the features of the rows that the CTE `_fs_hits_<view>` names by keys and event time (and created time
     where `knowledge` counts): `_fs_rows_<view>` holds one row a hit. Where several rows of the view share them, the greatest by created
     time and then by all features in name order is taken, whole, so that every run and every choice of features agrees.
     Such ties are looked for among narrow columns first: sorting whole rows would cost every table for what few have.
     `outer_joined` says that a LEFT JOIN follows, whose result is read with `_after_outer_join`. --#}
{% macro _payload(view, knowledge=false, visible=none, outer_joined=false) -%}
    {%- set event = feature_store._instant('v.' ~ feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {%- set own = feature_store._names(view.entities) ~ ', _fs_event' ~ (', _fs_created' if knowledge else '') -%}
    {%- set hit = feature_store._names(view.entities, 'hit.') ~ ', hit._fs_event' ~ (', hit._fs_created' if knowledge else '') -%}
    {%- set picked = view.picked -%}
    {%- set fetched = [] -%}
    {%- set features = feature_store._by_name(view.features) if outer_joined else {} -%}
    {%- for name in picked -%}
        {%- set type = features.get(name | lower, {}).type if outer_joined else none -%}
        {%- do fetched.append(feature_store._before_outer_join('v.' ~ feature_store._quoted(name), feature_store._quoted(name), type)) -%}
    {%- endfor -%}
    {%- set created = feature_store._instant('v.' ~ feature_store._quoted(view.created_timestamp.name), view.created_timestamp.type) if view.created_timestamp else none -%}
-- {{ view.reference }}: their features, and which of them stand for several rows
_fs_fetched_{{ view.slug }} as (
    select {{ hit }}
        {%- for expression in fetched %}, {{ expression }}{% endfor %}
    {{ feature_store._hit_join(view, '_fs_hits_' ~ view.slug, event, created if knowledge else none, visible) }}
),
_fs_tied_{{ view.slug }} as (
    select {{ own }}
    from _fs_fetched_{{ view.slug }}
    group by {{ own }}
    having count(*) > 1
),

-- {{ view.reference }}: one row for each; of several the greatest
_fs_rows_{{ view.slug }} as (
    select *
    from _fs_fetched_{{ view.slug }} as hit
    where not exists (
        select 1 from _fs_tied_{{ view.slug }} as tied
        where {% for key in view.entities -%}
        tied.{{ feature_store._quoted(key.name) }} = hit.{{ feature_store._quoted(key.name) }} and {% endfor -%}
        tied._fs_event = hit._fs_event{{ ' and tied._fs_created = hit._fs_created' if knowledge }}
    )
    union all
    select {{ own }}
        {%- for name in picked %}, {{ feature_store._quoted(name) }}{% endfor %}
    from (
        select {{ hit }}
            {%- for expression in fetched %}, {{ expression }}{% endfor %},
            row_number() over (
                partition by {{ hit }}
                order by
                    {% if created and not knowledge -%}
                    {{ created }} desc nulls last{{ ',' if view.ordered_features }}
                    {% endif -%}
                    {%- for column in view.ordered_features -%}
                    {{ adapter.dispatch('_greatest_first', 'feature_store')('v.' ~ feature_store._quoted(column.name), column.type) }}{{ ',' if not loop.last }}
                    {% else -%}
                    {{ '1 asc nulls last' if not (created and not knowledge) }}
                    {% endfor -%}
            ) as _fs_rank
        {{ feature_store._hit_join(view, '_fs_tied_' ~ view.slug, event, created if knowledge else none, visible) | indent(4) }}
    ) as ranked
    where _fs_rank = 1
)
{%- endmacro %}


{% macro _hit_join(view, hits, event, created, visible) -%}
    from {{ hits }} as hit
    join (select * from {{ view.relation }}) as v
        on {% for key in view.entities -%}
        v.{{ feature_store._quoted(key.name) }} = hit.{{ feature_store._quoted(key.name) }} and {% endfor -%}
        {{ event }} = hit._fs_event
        {%- if created %} and {{ created }} = hit._fs_created{% endif %}
        {%- if visible %} and {{ visible }}{% endif %}
{%- endmacro %}


{#-- ORDER BY terms that put the greatest value first: NULL lowest, NaN highest, text by bytes, false before true. --#}
{% macro default___greatest_first(expression, data_type) -%}
    {{ expression }} desc nulls last
{%- endmacro %}

{#-- DuckDB takes -0.0 and 0.0 for equal and a NULL inside a list for the greatest, and orders enums by position. --#}
{% macro duckdb___greatest_first(expression, data_type) -%}
    {%- set type = (data_type or '') | upper -%}
    {%- if type in ('FLOAT', 'DOUBLE', 'REAL') -%}
        {{ expression }} desc nulls last, signbit({{ expression }}) asc nulls last
    {%- elif type.endswith(']') -%}
        list_transform({{ expression }}, lambda e: {'given': e is not null, 'value': e}) desc nulls last, cast({{ expression }} as varchar) desc nulls last
    {%- elif type.startswith('ENUM') -%}
        cast({{ expression }} as varchar) desc nulls last
    {%- elif type.startswith('STRUCT') or type.startswith('MAP') or type == 'INTERVAL' -%}
        {{ expression }} desc nulls last, cast({{ expression }} as varchar) desc nulls last
    {%- else -%}
        {{ feature_store._exact(expression, data_type) }} desc nulls last
    {%- endif -%}
{%- endmacro %}
