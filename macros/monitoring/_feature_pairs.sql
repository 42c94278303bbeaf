{#-- What both feature views are and which features are compared: {old, new, features}, each feature as
     {name, old, new, old_text, new_text, same, absolute, distance, size}: `old` and `new` are the columns of the CTE `_fs_pairs`,
     `old_text` and `new_text` SQL for how they are shown, `same` for whether they are equal, `absolute` for how far numbers are apart
     (none for other types), which is then called `distance`, and how large the old one is `size`. --#}
{% macro _feature_pairs_plan(macro_name, old, new, features) %}
    {%- set before = feature_store._feature_view(old) -%}
    {%- set after = feature_store._feature_view(new) -%}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set keys = before.entities | map(attribute='name') | map('lower') | list -%}
    {%- if keys | sort != after.entities | map(attribute='name') | map('lower') | sort -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": the values of " ~ old ~ " and " ~ new ~ " cannot be compared, since their join keys differ: "
            ~ before.entities | map(attribute='name') | join(', ') ~ ' and ' ~ after.entities | map(attribute='name') | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set shared = [] -%}
    {%- for column in before.features if feature_store._column(after.features, column.name) -%}
        {%- do shared.append(column.name) -%}
    {%- endfor -%}
    {%- set wanted = shared if features is none else [features] if features is string else features -%}
    {%- if not wanted -%}
        {%- do exceptions.raise_compiler_error(macro_name ~ ": the views " ~ old ~ " and " ~ new ~ " have no feature in common.") -%}
    {%- endif -%}
    {%- set planned = [] -%}
    {%- for name in wanted -%}
        {%- set first = feature_store._column(before.features, name) -%}
        {%- set second = feature_store._column(after.features, name) -%}
        {%- if first is none or second is none -%}
            {%- do exceptions.raise_compiler_error(
                macro_name ~ ": '" ~ (old if first is none else new) ~ "' has no feature '" ~ name ~ "'; both have: "
                ~ (shared | join(', ') or 'none') ~ '.'
            ) -%}
        {%- endif -%}
        {%- set place = loop.index -%}
        {%- do planned.append({
            'name': first.name,
            'old_column': feature_store._quoted(first.name),
            'new_column': feature_store._quoted(second.name),
            'old': '_fs_old_' ~ place,
            'new': '_fs_new_' ~ place,
            'old_text': feature_store._value_text('_fs_old_' ~ place, first.type),
            'new_text': feature_store._value_text('_fs_new_' ~ place, second.type),
            'distance': '_fs_distance_' ~ place,
            'size': '_fs_size_' ~ place,
            'same': feature_store._same_value('_fs_old_' ~ place, '_fs_new_' ~ place, first.type, second.type),
            'absolute': feature_store._distance('_fs_old_' ~ place, '_fs_new_' ~ place, first.type, second.type),
        }) -%}
    {%- endfor -%}
    {%- do return({'old': before, 'new': after, 'old_name': old, 'new_name': new, 'features': planned}) -%}
{% endmacro %}


{#-- CTEs up to `_fs_pairs`: one row an entity with the compared features of both views, and `_fs_in_old`, `_fs_in_new`, `_fs_hash`.
     With `sample` only the entities whose keys hash lowest, which are the same ones on every run and in every relation. --#}
{% macro _feature_pairs(plan, sample) -%}
{%- set keys = feature_store._names(plan.old.entities) -%}
-- each entity's latest row, before and after
_fs_old as (
    {{ feature_store.latest(plan.old_name) | indent(4) }}
),
_fs_new as (
    {{ feature_store.latest(plan.new_name) | indent(4) }}
),

-- the entities of either{{ ': of all, the ' ~ sample ~ ' whose keys hash lowest' if sample }}
_fs_entities as (
    select
        {{ keys }},
        md5(concat({{ feature_store._quoted_names(plan.old.entities) | join(", ':', ") }})) as _fs_hash
    from (
        select {{ keys }} from _fs_old
        union
        select {{ keys }} from _fs_new
    ) as entities
    {%- if sample %}
    order by _fs_hash asc nulls last, {{ feature_store._in_order(plan.old.entities) }}
    limit {{ sample }}
    {%- endif %}
),

-- both values of each feature beside each other
_fs_pairs as (
    select
        {{ feature_store._names(plan.old.entities, 'entity.') }},
        entity._fs_hash,
        before.{{ feature_store._quoted(plan.old.entities[0].name) }} is not null as _fs_in_old,
        after.{{ feature_store._quoted(plan.old.entities[0].name) }} is not null as _fs_in_new
        {%- for feature in plan.features %},
        before.{{ feature.old_column }} as {{ feature.old }},
        after.{{ feature.new_column }} as {{ feature.new }}
        {%- endfor %}
    from _fs_entities as entity
    left join _fs_old as before
        on {% for key in plan.old.entities -%}
        before.{{ feature_store._quoted(key.name) }} = entity.{{ feature_store._quoted(key.name) }}{{ ' and ' if not loop.last }}
        {%- endfor %}
    left join _fs_new as after
        on {% for key in plan.old.entities -%}
        after.{{ feature_store._quoted(key.name) }} = entity.{{ feature_store._quoted(key.name) }}{{ ' and ' if not loop.last }}
        {%- endfor %}
)
{%- endmacro %}


{#-- Whether two values are the same: NULL equals NULL, NaN equals NaN, 0.0 equals -0.0. Values of types that have no comparison
     are compared as text. --#}
{% macro _same_value(old, new, old_type, new_type) -%}
    {%- set kinds = [feature_store._number_kind(old_type), feature_store._number_kind(new_type)] -%}
    {%- set comparable = (old_type or '') | lower not in ('json', 'xml') -%}
    {%- if (old_type or '') | upper == (new_type or '') | upper and comparable or ('other' not in kinds and 'unknown' not in kinds) -%}
        {{- return(old ~ ' is not distinct from ' ~ new) -}}
    {%- endif -%}
    {{- return(feature_store._value_text(old, old_type) ~ ' is not distinct from ' ~ feature_store._value_text(new, new_type)) -}}
{%- endmacro %}


{#-- How far two numbers are apart, as a double; integers are subtracted exactly. None for what is no number. --#}
{% macro _distance(old, new, old_type, new_type) -%}
    {%- set names = [(old_type or '') | upper, (new_type or '') | upper] -%}
    {%- set kinds = [feature_store._number_kind(old_type), feature_store._number_kind(new_type)] -%}
    {%- if 'BOOLEAN' in names or 'other' in kinds or 'unknown' in kinds -%}
        {{- return(none) -}}
    {%- endif -%}
    {%- set exact = kinds == ['integer', 'integer'] and 'HUGEINT' not in names and 'UHUGEINT' not in names -%}
    {%- set types = feature_store._types() -%}
    {%- set type = types.decimal ~ '(38, 0)' if exact else types.double -%}
    {%- set numbers = ['cast(' ~ new ~ ' as ' ~ type ~ ')', 'cast(' ~ old ~ ' as ' ~ type ~ ')'] -%}
    {%- set difference = numbers | join(' - ') if exact else feature_store._minus(numbers[0], numbers[1]) -%}
    {{- return('cast(abs(' ~ difference ~ ') as ' ~ types.double ~ ')') -}}
{%- endmacro %}


{% macro _value_text(expression, data_type) -%}
    {{- return(adapter.dispatch('_value_text', 'feature_store')(expression, data_type)) -}}
{%- endmacro %}

{% macro default___value_text(expression, data_type) -%}
    {%- set types = feature_store._types() -%}
    {{- return('cast(' ~ expression ~ ' as ' ~ types.text ~ ')') -}}
{%- endmacro %}

{% macro spark___value_text(expression, data_type) -%}
    {%- if (data_type or '') | lower in ('float', 'double') -%}
        {{- return(feature_store._double_text(expression)) -}}
    {%- endif -%}
    {%- set text = 'cast({} as ' ~ feature_store._types().text ~ ')' -%}
    {%- if feature_store._feature_kind(data_type).of_numbers -%}
        {%- set one = feature_store._double_text('item') if 'float' in data_type or 'double' in data_type else text.format('item') -%}
        {{- return("'[' || array_join(transform(" ~ expression ~ ', item -> ' ~ one ~ "), ', ', 'NULL') || ']'") -}}
    {%- endif -%}
    {{- return(text.format(expression)) -}}
{%- endmacro %}



{% macro _check_sample(macro_name, sample) -%}
    {%- if sample is not none and (sample is not integer or sample is boolean or sample < 1) -%}
        {%- do exceptions.raise_compiler_error(macro_name ~ ': sample is ' ~ sample ~ '; give a whole number of entities, 1 or more.') -%}
    {%- endif -%}
{%- endmacro %}
