{#-- A few entities for each feature whose latest values differ between two views: a row an entity and feature. --#}
{% macro feature_difference_examples(old, new, features=none, sample=none, examples=3) %}
    {%- do feature_store._check_engine('feature_difference_examples') -%}
    {{- return(adapter.dispatch('_fs_feature_difference_examples', 'feature_store')(old, new, features, sample, examples)) -}}
{% endmacro %}

{% macro default___fs_feature_difference_examples(old, new, features, sample, examples) -%}
    {%- set plan = feature_store._feature_pairs_plan('feature_difference_examples', old, new, features) -%}
    {%- do feature_store._check_sample('feature_difference_examples', sample) -%}
    {%- if plan is none -%}{{- return('') -}}{%- endif -%}
    {%- set keys = feature_store._names(plan.old.entities) -%}
-- {{ old }} -> {{ new }}: at most {{ examples }} entities a feature
with

{{ feature_store._feature_pairs(plan, sample) }}

{% for feature in plan.features -%}
select
    '{{ adapter.dispatch('_escaped', 'feature_store')(feature.name) }}' as feature, {{ keys }},
    {{ feature.old_text }} as old_value,
    {{ feature.new_text }} as new_value
from (
    select *, row_number() over (order by _fs_hash asc nulls last, {{ feature_store._in_order(plan.old.entities) }}) as _fs_place
    from _fs_pairs
    where _fs_in_old and _fs_in_new and not ({{ feature.same }})
) as differing
where _fs_place <= {{ examples }}
{{ 'union all' if not loop.last }}
{% endfor -%}
{%- endmacro %}

{#-- The values of a pair below each other, once: Spark would make the pairs anew for each feature. --#}
{% macro spark___fs_feature_difference_examples(old, new, features, sample, examples) -%}
    {%- set plan = feature_store._feature_pairs_plan('feature_difference_examples', old, new, features) -%}
    {%- do feature_store._check_sample('feature_difference_examples', sample) -%}
    {%- if plan is none -%}{{- return('') -}}{%- endif -%}
    {%- set keys = feature_store._names(plan.old.entities) -%}
-- {{ old }} -> {{ new }}: at most {{ examples }} entities a feature
with

{{ feature_store._feature_pairs(plan, sample) }},

_fs_cells as (
    select
        _fs_hash, {{ keys }},
        explode(array(
            {%- for feature in plan.features %}
            case
                when not ({{ feature.same }}) then named_struct(
                    'place', {{ loop.index }},
                    'feature', {{ feature_store._literal(feature.name) }},
                    'old_value', {{ feature.old_text }},
                    'new_value', {{ feature.new_text }}
                )
            end{{ ',' if not loop.last }}
            {%- endfor %}
        )) as cell
    from _fs_pairs
    where _fs_in_old and _fs_in_new
)

select cell.feature, {{ keys }}, cell.old_value, cell.new_value
from (
    select
        *,
        row_number() over (
            partition by cell.place
            order by _fs_hash asc nulls last, {{ feature_store._in_order(plan.old.entities) }}
        ) as _fs_place
    from _fs_cells
    where cell is not null
) as differing
where _fs_place <= {{ examples }}
{%- endmacro %}
