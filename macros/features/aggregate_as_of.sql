{#-- `spine.*` and the windows at the spine's own moments, from raw events. Rows out = rows in, in their order. --#}
{% macro aggregate_as_of(
    spine, relation, entities, timestamp, aggregates, windows, spine_timestamp='event_timestamp', allow_exact_matches=true,
    created_timestamp=none, shape=none
) %}
    {{- return(adapter.dispatch('_fs_aggregate_as_of', 'feature_store')(
        spine, relation, entities, timestamp, aggregates, windows, spine_timestamp, allow_exact_matches, created_timestamp, shape
    )) -}}
{% endmacro %}

{% macro default___fs_aggregate_as_of(
    spine, relation, entities, timestamp, aggregates, windows, spine_timestamp, allow_exact_matches, created_timestamp, shape
) -%}
    {%- set spec = feature_store._window_spec('aggregate_as_of', relation, entities, timestamp, aggregates, windows, created_timestamp) -%}
    {%- set spine_columns = feature_store._columns(spine) -%}
    {%- do feature_store._check_reserved_names(spine_columns, 'The spine') -%}
    {%- set moment = feature_store._spine_timestamp(spine_columns, spine_timestamp) -%}
    {%- do spec.update({'moment': moment.name, 'strictly_before': not allow_exact_matches}) -%}
    {%- set keys, asked = [], [] -%}
    {%- for name in spec.names -%}
        {%- set column = feature_store._column(spine_columns, name) -%}
        {%- if spine_columns and column is none -%}
            {%- do exceptions.raise_compiler_error(
                "aggregate_as_of: the spine has no column '" ~ name ~ "'; it has: "
                ~ spine_columns | map(attribute='name') | join(', ') ~ '.'
            ) -%}
        {%- endif -%}
        {%- set own = feature_store._quoted(column.name if column else name) -%}
        {%- set key = feature_store._key(own, column.type if column else none, spec.key_columns[loop.index0].type) -%}
        {%- do asked.append(own) -%}
        {%- do keys.append(key ~ ' as ' ~ spec.entities[loop.index0]) -%}
    {%- endfor -%}
    {%- for output in spec.outputs if feature_store._column(spine_columns, output.column) -%}
        {%- do exceptions.raise_compiler_error(
            "aggregate_as_of: the spine already has a column '" ~ output.column ~ "'; rename it there, or the aggregate."
        ) -%}
    {%- endfor -%}
    {%- do asked.append(feature_store._quoted(moment.name)) -%}
    {%- set shape = feature_store._window_shape('aggregate_as_of', shape) -%}
    {%- set parts = feature_store._window_parts(spec, shape) -%}
    {%- set labels = feature_store._from(spine, '_fs_labels') -%}
    {%- set unknown = feature_store._unknown_spine(labels, ['_fs_row']) if not spine_columns else none -%}
{{ feature_store._shape_line(shape) }}
with

{{ feature_store._window_events(spec) }},

-- the spine, each row with its place, so that every row comes back once and in order
_fs_spine as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select *, {{ unknown.row | trim ~ ' ' if unknown and unknown.row }}{{ feature_store._row_number(asked) }} as _fs_row
    from {{ unknown.relation if unknown else labels }}
),

-- the moments it asks for, in UTC, and their keys in the types of the events
_fs_moments as (
    select
        {{ feature_store._listed(keys) }},
        {{ feature_store._instant(feature_store._quoted(moment.name), moment.type) }} as _fs_at,
        _fs_row
    from _fs_spine
),

{{ feature_store._window_part_ctes(spec, parts) }}

select
    {% for column in spine_columns -%}
    _fs_spine.{{ feature_store._quoted(column.name) }},
    {% else -%}
    {{ unknown.columns }},
    {% endfor -%}
    {{- feature_store._window_columns(spec, parts) }}
from _fs_spine
join _fs_moments on _fs_moments._fs_row = _fs_spine._fs_row
{{- feature_store._window_joins(spec, parts, '_fs_spine') }}
order by _fs_spine._fs_row asc nulls first
{%- endmacro %}
