{#-- The features of a view (of `_feature_view`) to be measured, in their order: [{number, name, type, kind, scale, cell}]. --#}
{% macro _measured_features(view, features) %}
    {%- set known = {} -%}
    {%- for column in view.features -%}
        {%- do known.update({column.name | lower: column}) -%}
    {%- endfor -%}
    {%- set columns = [] -%}
    {%- for name in ([features] if features is string else features or []) -%}
        {%- if name | lower not in known -%}
            {%- do exceptions.raise_compiler_error(
                "Feature view '" ~ view.reference ~ "' has no feature '" ~ name ~ "'; it has: "
                ~ (view.features | map(attribute='name') | join(', ') or 'none') ~ '.'
            ) -%}
        {%- endif -%}
        {%- do columns.append(known[name | lower]) -%}
    {%- else -%}
        {%- do columns.extend(view.features) -%}
    {%- endfor -%}
    {%- set measured = [] -%}
    {%- for column in columns | unique(attribute='name', case_sensitive=true) -%}
        {%- set feature = {'number': loop.index, 'name': column.name, 'type': column.type} -%}
        {%- do feature.update(feature_store._feature_kind(column.type)) -%}
        {%- do feature.update({'cell': feature_store._feature_cell(feature_store._quoted(column.name), feature)}) -%}
        {%- do measured.append(feature) -%}
    {%- endfor -%}
    {%- do return(measured) -%}
{% endmacro %}


{#-- CTEs that read `relation` once: `_fs_features`, a row each, and `_fs_values`, each of their values once with the number of its
     rows. What is asked of a feature is then a matter of its values, which are mostly far fewer than the rows. `apart` names
     a column, given as `apart_sql`, by which values are counted apart. --#}
{% macro _feature_values(features, relation, condition, apart=none, apart_sql=none) -%}
{%- set nothing = {'number': 0, 'name': '', 'type': '', 'kind': 'other', 'scale': 0, 'cell': {}} -%}
_fs_features as (
    select * from (
        values
        {%- for feature in features or [nothing] %}
            {%- set name, type = feature_store._literal(feature.name), feature_store._literal(feature.type or '') %}
            ({{ feature.number }}, {{ name }}, {{ type }}, '{{ feature.kind }}', {{ feature.scale }}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as features (feature_no, feature, data_type, kind, scale)
    where feature_no > 0
),

-- a row for each feature of each row, with its value in one of three columns, so that no precision is lost: `whole`
-- for what can be counted in whole steps, `number` for doubles, `label` for text
_fs_cells as (
    {{ adapter.dispatch('_feature_cells', 'feature_store')(features or [nothing], relation, condition, apart, apart_sql) }}
),

-- each value of each feature once; NULL is one of them
_fs_values as (
    select {{ apart ~ ', ' if apart }}feature_no, whole, number, label, count(*) as row_count
    from _fs_cells
    group by {{ apart ~ ', ' if apart }}feature_no, whole, number, label
)
{%- endmacro %}


{% macro default___feature_cells(features, relation, condition, apart, apart_sql) -%}
    {%- set types = feature_store._types() -%}
    select
        {{ apart_sql ~ ' as ' ~ apart ~ ',\n        ' if apart }}cells.feature_no, cells.whole, cells.number, cells.label
    from {{ relation }}
    cross join lateral (
        values
        {%- for feature in features %}
        (
            {{ feature.number }}, {{ feature.cell.whole or 'cast(null as ' ~ types.decimal ~ '(38, 0))' }},
            {{ feature.cell.number or 'cast(null as ' ~ types.double ~ ')' }},
            {{ feature.cell.label or 'cast(null as ' ~ types.text ~ ')' }}
        ){{ ',' if not loop.last }}
        {%- endfor %}
    ) as cells (feature_no, whole, number, label)
    where {{ condition }}
{%- endmacro %}

{#-- Spark's VALUES cannot read the columns of another relation. --#}
{% macro spark___feature_cells(features, relation, condition, apart, apart_sql) -%}
    {%- set types = feature_store._types() -%}
    select {{ apart ~ ', ' if apart }}cell.feature_no, cell.whole, cell.number, cell.label
    from (
        select
            {{ apart_sql ~ ' as ' ~ apart ~ ',\n            ' if apart -}}
            explode(array(
                {%- for feature in features %}
                named_struct(
                    'feature_no', {{ feature.number }},
                    'whole', {{ feature.cell.whole or 'cast(null as ' ~ types.whole ~ ')' }},
                    'number', {{ feature.cell.number or 'cast(null as ' ~ types.double ~ ')' }},
                    'label', {{ feature.cell.label or 'cast(null as ' ~ types.text ~ ')' }}
                ){{ ',' if not loop.last }}
                {%- endfor %}
            )) as cell
        from {{ relation }}
        where {{ condition }}
    ) as cells
{%- endmacro %}

{#-- DuckDB would join for a lateral VALUES, twenty times slower. --#}
{% macro duckdb___feature_cells(features, relation, condition, apart, apart_sql) -%}
    {%- set types = feature_store._types() -%}
    select {{ apart ~ ', ' if apart }}cell.feature_no, cell.whole, cell.number, cell.label
    from (
        select
            {{ apart_sql ~ ' as ' ~ apart ~ ',\n            ' if apart -}}
            unnest([
                {%- for feature in features %}
                {
                    'feature_no': {{ feature.number }},
                    'whole': {{ feature.cell.whole or 'cast(null as ' ~ types.whole ~ ')' }},
                    'number': {{ feature.cell.number or 'cast(null as ' ~ types.double ~ ')' }},
                    'label': {{ feature.cell.label or 'cast(null as ' ~ types.text ~ ')' }}
                }{{ ',' if not loop.last }}
                {%- endfor %}
            ]) as cell
        from {{ relation }}
        where {{ condition }}
    ) as cells
{%- endmacro %}


{#-- A cell as a double to calculate with: a list is its length, a boolean 0 or 1, a time the seconds since 1970. --#}
{% macro _cell_number(whole, number, scale) -%}
    coalesce(cast({{ whole }} as {{ feature_store._double() }}) / power(10, {{ scale }}), {{ number }})
{%- endmacro %}


{#-- A name as a text literal, to the letter. --#}
{% macro _literal(text) -%}
    '{{ adapter.dispatch('_escaped', 'feature_store')(text ~ '') }}'
{%- endmacro %}


{#-- The bound of a period as SQL, none for none: a datetime, a date, or text 'YYYY-MM-DD[ HH:MM:SS[.ffffff]]' in UTC. --#}
{% macro _moment(value, what) %}
    {%- if value is none -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set text = value -%}
    {%- if value is not string and value.utcoffset is defined -%}
        {%- set text = (value - value.utcoffset() if value.utcoffset() is not none else value).strftime('%Y-%m-%d %H:%M:%S.%f') -%}
    {%- elif value is not string and value.strftime is defined -%}
        {%- set text = value.strftime('%Y-%m-%d') -%}
    {%- endif -%}
    {%- set text = (text ~ '').strip().replace('T', ' ') -%}
    {%- set text = text[:-1] if text.endswith('Z') else text -%}
    {%- set digits = text.replace('-', '').replace(':', '').replace('.', '').replace(' ', '') -%}
    {%- if not (digits.isdecimal() and digits.isascii()) or text | length < 10 or text[4] != '-' or text[7] != '-'
            or text.count('-') != 2 or (text | length > 10 and (text[10] != ' ' or text.count(':') not in (1, 2))) -%}
        {%- do exceptions.raise_compiler_error(
            what ~ " is '" ~ value ~ "', which is not a moment: write it in UTC, for example '2026-03-01' or '2026-03-01 12:00:00'."
        ) -%}
    {%- endif -%}
    {%- do return(feature_store._timestamp(text ~ ' 00:00:00' if text | length == 10 else text)) -%}
{% endmacro %}


{#-- Stops where a period from `start` to `end` (of `_moment`) does not begin before it ends. --#}
{% macro _check_period(start, end, what) %}
    {%- if start is not none and end is not none and start.split("'")[1] >= end.split("'")[1] -%}
        {%- do exceptions.raise_compiler_error(
            what ~ ' begins at ' ~ start.split("'")[1] ~ ' and ends at ' ~ end.split("'")[1] ~ ': it has to begin before it ends.'
        ) -%}
    {%- endif -%}
{% endmacro %}


{#-- The condition on a view's rows: known and due now, and with their event from `start` up to, not including, `end`. --#}
{% macro _in_period(view, start, end) -%}
    {%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
    {{ feature_store._visible_now(view, feature_store._now(), '') }}
    {%- if start %}
            and {{ event }} >= {{ start }}
    {%- endif %}
    {%- if end %}
            and {{ event }} < {{ end }}
    {%- endif %}
{%- endmacro %}
