{#-- A spine whose columns are not known while its SQL is written: an ephemeral model, the name of a CTE, a query over what is not built.
     {row, relation, columns}: what `_fs_spine` selects beside its `*`, what it reads, and how the spine's own columns, without those
     called `own`, are read from it. --#}
{% macro _unknown_spine(spine, own) %}
    {%- do return(adapter.dispatch('_unknown_spine', 'feature_store')(spine, own)) -%}
{% endmacro %}

{% macro default___unknown_spine(spine, own) %}
    {%- do return({'row': '', 'relation': spine, 'columns': '_fs_spine.* exclude (' ~ own | join(', ') ~ ')'}) -%}
{% endmacro %}

{#-- There is no EXCLUDE: the row as it was travels along, whole. --#}
{% macro postgres___unknown_spine(spine, own) %}
    {%- do return({
        'row': '_fs_labels as _fs_label,\n        ',
        'relation': '(select * from ' ~ spine ~ ') as _fs_labels',
        'columns': '(_fs_spine._fs_label).*',
    }) -%}
{% endmacro %}

{% macro spark___unknown_spine(spine, own) %}
    {%- do return({'row': '', 'relation': spine, 'columns': '_fs_spine.* except (' ~ own | join(', ') ~ ')'}) -%}
{% endmacro %}

{% macro bigquery___unknown_spine(spine, own) %}
    {%- do return(feature_store.spark___unknown_spine(spine, own)) -%}
{% endmacro %}

{#-- EXCLUDE takes columns from a whole SELECT there, not from one table of it. --#}
{% macro redshift___unknown_spine(spine, own) %}
    {%- do exceptions.raise_compiler_error(
        'On redshift the columns of a spine must be known: give a table or model that is there, not ' ~ spine ~ '.'
    ) -%}
{% endmacro %}
