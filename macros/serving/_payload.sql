{#-- CTEs that fetch the features of the rows that the CTE `_fs_hits_<view>` names by keys and event time (and created time
     where `knowledge` counts): `_fs_rows_<view>` holds one row a hit. Where several rows of the view share them, the greatest by created
     time and then by all features in name order is taken, whole, so that every run and every choice of features agrees.
     Such ties are looked for among narrow columns first: sorting whole rows would cost every table for what few have.
     `outer_joined` says that a LEFT JOIN follows, whose result is read with `_after_outer_join`.

     The three CTEs for ties look as if one row_number() over all hits could do: that gives the same rows and takes 2.7 times as long. --#}
{% macro _payload(view, knowledge=false, visible=none, outer_joined=false) -%}
    {{- return(adapter.dispatch('_payload', 'feature_store')(view, knowledge, visible, outer_joined)) -}}
{%- endmacro %}

{% macro default___payload(view, knowledge, visible, outer_joined) -%}
    {%- set hit = feature_store._hit_columns(view, knowledge) -%}
    {%- set created = view.created_timestamp -%}
    {%- set created = feature_store._instant('v.' ~ feature_store._quoted(created.name), created.type) if created else none -%}
    {%- set features = feature_store._by_name(view.features) if outer_joined else {} -%}
    {%- set own, fetched = [], [] -%}
    {%- for column in hit -%}
        {%- do fetched.append('hit.' ~ column) -%}
    {%- endfor -%}
    {%- for name in view.picked -%}
        {%- do own.append(feature_store._quoted(name)) -%}
        {%- set type = features.get(name | lower, {}).type -%}
        {%- do fetched.append(feature_store._before_outer_join('v.' ~ own[-1], own[-1], type)) -%}
    {%- endfor -%}
-- {{ view.reference }}: their features, and which of them stand for several rows
_fs_fetched_{{ view.slug }} as (
    select
        {{ feature_store._listed(fetched) }}
    {{ feature_store._hit_join(view, '_fs_hits_' ~ view.slug, created if knowledge else none, visible) }}
),
_fs_tied_{{ view.slug }} as (
    select {{ feature_store._listed(hit) }}
    from _fs_fetched_{{ view.slug }}
    group by {{ feature_store._listed(hit) }}
    having count(*) > 1
),

-- {{ view.reference }}: one row for each; of several the greatest
_fs_rows_{{ view.slug }} as (
    select *
    from _fs_fetched_{{ view.slug }} as hit
    where not exists (
        select 1
        from _fs_tied_{{ view.slug }} as tied
        where {{ feature_store._agree('tied', 'hit', hit, 12) }}
    )
    union all
    select
        {{ feature_store._listed(hit + own) }}
    from (
        select
            {{ feature_store._listed(fetched, 12) }},
            row_number() over (
                partition by {{ feature_store._listed(fetched[:hit | length], 16) }}
                order by
                    {{ feature_store._greatest_row_first(view, created, knowledge) | join(',\n                    ')
                        or '1 asc nulls last' }}
            ) as _fs_rank
        {{ feature_store._hit_join(view, '_fs_tied_' ~ view.slug, created if knowledge else none, visible) | indent(4) }}
    ) as ranked
    where _fs_rank = 1
)
{%- endmacro %}


{#-- One sort in place of the CTEs for ties: PostgreSQL expects one row where several expressions are equal, and would then look for
     the tied ones row by row. --#}
{% macro postgres___payload(view, knowledge, visible, outer_joined) -%}
    {%- set hit = feature_store._hit_columns(view, knowledge) -%}
    {%- set created = view.created_timestamp -%}
    {%- set created = feature_store._instant('v.' ~ feature_store._quoted(created.name), created.type) if created else none -%}
    {%- set order = feature_store._greatest_row_first(view, created, knowledge) -%}
    {%- set named = [] -%}
    {%- for column in hit -%}
        {%- do named.append('hit.' ~ column) -%}
    {%- endfor -%}
-- {{ view.reference }}: their features; of several rows the greatest
_fs_rows_{{ view.slug }} as (
    select distinct on ({{ feature_store._listed(named) }})
        {% for column in named -%}
        {{ column }},
        {% endfor -%}
        {% for name in view.picked -%}
        v.{{ feature_store._quoted(name) }}{{ ',\n        ' if not loop.last }}
        {%- endfor %}
    {{ feature_store._hit_join(view, '_fs_hits_' ~ view.slug, created if knowledge else none, visible) }}
    order by
        {% for column in named -%}
        {{ column }} asc nulls last{{ ',\n        ' if not loop.last or order }}
        {%- endfor %}
        {{- order | join(',\n        ') }}
)
{%- endmacro %}


{#-- ORDER BY terms that put the greatest of the rows of one hit first: by created time where it does not tell hits apart already, then
     by all features in name order. --#}
{% macro _greatest_row_first(view, created, knowledge) %}
    {%- set terms = [created ~ ' desc nulls last'] if created and not knowledge else [] -%}
    {%- for column in view.ordered_features -%}
        {%- set value = 'v.' ~ feature_store._quoted(column.name) -%}
        {%- do terms.append(adapter.dispatch('_greatest_first', 'feature_store')(value, column.type)) -%}
    {%- endfor -%}
    {%- do return(terms) -%}
{% endmacro %}


{#-- What names a row of a view among the hits: its keys, its event time and, where knowledge counts, its created time. --#}
{% macro _hit_columns(view, knowledge) %}
    {%- do return(feature_store._quoted_names(view.entities) + ['_fs_event'] + (['_fs_created'] if knowledge else [])) -%}
{% endmacro %}


{% macro _hit_join(view, hits, created, visible) -%}
    from {{ hits }} as hit
    join (select * from {{ view.relation }}) as v
        on {{ feature_store._agree('v', 'hit', feature_store._quoted_names(view.entities)) }}
        and {{ feature_store._instant('v.' ~ feature_store._quoted(view.timestamp.name), view.timestamp.type) }} = hit._fs_event
        {{- '\n        and ' ~ created ~ ' = hit._fs_created' if created }}
        {{- '\n        and ' ~ visible if visible }}
{%- endmacro %}
