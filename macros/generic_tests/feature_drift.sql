{% test feature_drift(model, column_name, maximum=none, period='7 days', minimum_rows=100, measure='psi') %}
    {%- set view = feature_store._tested_view('feature_drift') -%}
    {%- if view -%}
        {{- feature_store._test_feature_drift(model, view, column_name, maximum, period, minimum_rows, measure) -}}
    {%- endif -%}
{% endtest %}


{% macro _test_feature_drift(relation, view, column_name, maximum, period, minimum_rows, measure) -%}
    {%- do feature_store._check_engine("The test 'feature_drift'") -%}
    {%- set what = "The test 'feature_drift' on '" ~ view.reference ~ "': " -%}
    {%- set measures = {
        'psi': {
            'maximum': 0.2,
            'sql': 'population_stability_index',
            'rule': 'the values of the last {} differ from those before by more than {}',
        },
        'js': {
            'maximum': 0.1,
            'sql': 'jensen_shannon_divergence',
            'rule': 'the values of the last {} diverge from those before by more than {}',
        },
        'null_rate': {
            'maximum': 0.1, 'sql': 'abs(null_fraction_now - null_fraction_before)',
            'rule': 'the share of NULL in the last {} differs from that before by more than {}',
        },
    } -%}
    {%- if measure not in measures -%}
        {%- do exceptions.raise_compiler_error(
            what ~ "measure is '" ~ measure ~ "'; it is one of: " ~ measures.keys() | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set chosen = measures[measure] -%}
    {%- set maximum = chosen.maximum if maximum is none else maximum -%}
    {%- do feature_store._check_number('feature_drift', 'maximum', maximum, most=none if measure == 'psi' else 1) -%}
    {%- do feature_store._check_number('feature_drift', 'minimum_rows', minimum_rows) -%}
    {%- set period = feature_store._duration(period, what ~ 'period') -%}
    {%- set feature = feature_store._drifting_feature(view, column_name, measure) -%}
with

measured as (
    {{ adapter.dispatch('_fs_feature_drift_measures', 'feature_store')(
        view, relation, feature_store._measured_features(view, [feature]), {'period': period, 'end': none}
    ) | indent(4) }}
)

select
    {{ feature_store._text(chosen.rule.format(period.text, maximum)) }} as broken_rule,
    population_stability_index,
    jensen_shannon_divergence,
    null_fraction_before,
    null_fraction_now,
    rows_before,
    rows_now
from measured
where
    {{ chosen.sql }} > {{ maximum }}
    and rows_before >= {{ minimum_rows }}
    and rows_now >= {{ minimum_rows }}
{%- endmacro %}


{#-- The name of the feature to compare, checked to be one that the measure is made for. --#}
{% macro _drifting_feature(view, column_name, measure) %}
    {%- set column = feature_store._column(view.features, column_name | replace('"', '') | replace('`', '')) -%}
    {%- if column is none -%}
        {%- do exceptions.raise_compiler_error(
            "The test 'feature_drift': '" ~ column_name ~ "' is no feature of '" ~ view.reference ~ "'; it has: "
            ~ view.features | map(attribute='name') | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set kind = feature_store._feature_kind(column.type).kind -%}
    {%- if measure != 'null_rate' and kind not in ('integer', 'decimal', 'float', 'boolean', 'text') -%}
        {%- do exceptions.raise_compiler_error(
            "The test 'feature_drift' compares numbers, text and booleans; '" ~ column_name ~ "' of '" ~ view.reference
            ~ "' is " ~ column.type ~ " (measure 'null_rate' takes any type)."
        ) -%}
    {%- endif -%}
    {%- do return(column.name) -%}
{% endmacro %}
