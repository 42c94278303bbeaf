{#-- How the latest values of two feature views differ: a row a feature, over the entities that both have. --#}
{% macro feature_difference(old, new, features=none, sample=none) %}
    {%- do feature_store._check_engine('feature_difference') -%}
    {{- return(adapter.dispatch('_fs_feature_difference', 'feature_store')(old, new, features, sample)) -}}
{% endmacro %}

{% macro default___fs_feature_difference(old, new, features, sample) -%}
    {%- set types = feature_store._types() -%}
    {%- set plan = feature_store._feature_pairs_plan('feature_difference', old, new, features) -%}
    {%- do feature_store._check_sample('feature_difference', sample) -%}
    {%- if plan is none -%}{{- return('') -}}{%- endif -%}
-- {{ old }} -> {{ new }}
with

{{ feature_store._feature_pairs(plan, sample) }},

-- how large numbers were, and how far those that differ are apart
_fs_distances as (
    select
        *
        {%- for feature in plan.features if feature.absolute %},
        abs(cast({{ feature.old }} as {{ feature_store._double() }})) as {{ feature.size }},
        case
            when not ({{ feature.same }})
                then {{ feature.absolute }}
        end as {{ feature.distance }}
        {%- endfor %}
    from _fs_pairs
),

-- one row: the counts of every feature
_fs_totals as (
    select
        count(case when _fs_in_old and _fs_in_new then 1 end) as _fs_both,
        count(case when not _fs_in_new then 1 end) as _fs_only_old,
        count(case when not _fs_in_old then 1 end) as _fs_only_new
        {%- for feature in plan.features %},
        count(
            case when _fs_in_old and _fs_in_new and {{ feature.same }} then 1 end
        ) as _fs_same_{{ loop.index }},
        count(case when _fs_in_old and _fs_in_new and {{ feature.old }} is null then 1 end) as _fs_null_old_{{ loop.index }},
        count(case when _fs_in_old and _fs_in_new and {{ feature.new }} is null then 1 end) as _fs_null_new_{{ loop.index }}
        {%- if feature.absolute %},
        {#- Of NaN and infinity there is no distance: a number minus itself is 0, theirs is not. #}
        {%- set finite = 'case when ' ~ feature.distance ~ ' - ' ~ feature.distance ~ ' = 0 then ' %}
        max({{ finite ~ feature.distance }} end) as _fs_far_{{ loop.index }},
        max({{ finite ~ feature_store._times(feature.distance, feature.size) }} end) as _fs_ratio_{{ loop.index }}
        {%- endif %}
        {%- endfor %}
    from _fs_distances
)

{{ adapter.dispatch('_difference_rows', 'feature_store')(plan) }}
{%- endmacro %}


{#-- A row a feature, from the one row of all totals. --#}
{% macro default___difference_rows(plan) -%}
    {%- set types = feature_store._types() -%}
{% for feature in plan.features -%}
select
    '{{ adapter.dispatch('_escaped', 'feature_store')(feature.name) }}' as feature,
    _fs_both as entities, _fs_only_old as only_old, _fs_only_new as only_new,
    _fs_same_{{ loop.index }} as equal, _fs_both - _fs_same_{{ loop.index }} as differing,
    _fs_null_old_{{ loop.index }} as null_before, _fs_null_new_{{ loop.index }} as null_after,
    {{ '_fs_far_' ~ loop.index if feature.absolute else 'cast(null as ' ~ types.double ~ ')' }} as max_absolute,
    {{ '_fs_ratio_' ~ loop.index if feature.absolute else 'cast(null as ' ~ types.double ~ ')' }} as max_relative
from _fs_totals
{{ 'union all' if not loop.last }}
{% endfor -%}
{%- endmacro %}

{#-- Once: Spark would add up the totals anew for each feature. --#}
{% macro spark___difference_rows(plan) -%}
    {%- set types = feature_store._types() -%}
select
    cell.feature,
    _fs_both as entities, _fs_only_old as only_old, _fs_only_new as only_new,
    cell.equal, _fs_both - cell.equal as differing,
    cell.null_before, cell.null_after,
    cell.max_absolute, cell.max_relative
from (
    select
        _fs_both, _fs_only_old, _fs_only_new,
        explode(array(
            {%- for feature in plan.features %}
            {%- set nothing = 'cast(null as ' ~ types.double ~ ')' %}
            named_struct(
                'feature', {{ feature_store._literal(feature.name) }},
                'equal', _fs_same_{{ loop.index }},
                'null_before', _fs_null_old_{{ loop.index }},
                'null_after', _fs_null_new_{{ loop.index }},
                'max_absolute', {{ '_fs_far_' ~ loop.index if feature.absolute else nothing }},
                'max_relative', {{ '_fs_ratio_' ~ loop.index if feature.absolute else nothing }}
            ){{ ',' if not loop.last }}
            {%- endfor %}
        )) as cell
    from _fs_totals
) as cells
{%- endmacro %}
