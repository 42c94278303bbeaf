{% macro feature_drift_measures(view, features=none, period='7 days', start=none, end=none, baseline_start=none, baseline_end=none) %}
    {#-- Reads the view with ref(), also while dbt parses: that is what draws the edge of the DAG. --#}
    {%- set found = feature_store._feature_view(view) -%}
    {%- if execute -%}
        {%- do feature_store._check_engine('feature_drift_measures') -%}
        {%- do feature_store._check_reserved_names(found.features, "Feature view '" ~ view ~ "'") -%}
        {%- set periods = feature_store._compared_periods('feature_drift_measures', period, start, end, baseline_start, baseline_end) -%}
        {%- set measured = feature_store._measured_features(found, features) -%}
        {{- adapter.dispatch('_fs_feature_drift_measures', 'feature_store')(found, found.relation, measured, periods) -}}
    {%- endif -%}
{% endmacro %}


{#-- The two periods to compare: {period, end} for the newest one and the one before, or {start, end, baseline_start, baseline_end}. --#}
{% macro _compared_periods(macro_name, period, start, end, baseline_start, baseline_end) %}
    {%- set end = feature_store._moment(end, macro_name ~ ': end') -%}
    {%- if baseline_start is none and baseline_end is none and start is none -%}
        {%- do return({'period': feature_store._duration(period, macro_name ~ ': period'), 'end': end}) -%}
    {%- endif -%}
    {%- if baseline_start is none or baseline_end is none -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ': a period that begins at `start` is compared with one from `baseline_start` to `baseline_end`: give both.'
        ) -%}
    {%- endif -%}
    {%- set baseline_start = feature_store._moment(baseline_start, macro_name ~ ': baseline_start') -%}
    {%- set baseline_end = feature_store._moment(baseline_end, macro_name ~ ': baseline_end') -%}
    {%- set start = feature_store._moment(start, macro_name ~ ': start') or baseline_end -%}
    {%- do feature_store._check_period(baseline_start, baseline_end, 'The baseline') -%}
    {%- do feature_store._check_period(start, end, 'The period') -%}
    {%- if start.split("'")[1] < baseline_end.split("'")[1] and (end is none or baseline_start.split("'")[1] < end.split("'")[1]) -%}
        {%- do exceptions.raise_compiler_error(
            'The baseline, up to ' ~ baseline_end.split("'")[1] ~ ', and the period, from ' ~ start.split("'")[1]
            ~ ', overlap: a row can be in one of them only.'
        ) -%}
    {%- endif -%}
    {%- do return({'period': none, 'start': start, 'end': end, 'baseline_start': baseline_start, 'baseline_end': baseline_end}) -%}
{% endmacro %}


{#-- `relation` is the view's own, or what a test's `where` leaves of it. --#}
{% macro default___fs_feature_drift_measures(view, relation, features, periods) -%}
    {%- set types = feature_store._types() -%}
{%- set event = feature_store._instant(feature_store._quoted(view.timestamp.name), view.timestamp.type) -%}
{%- set visible = feature_store._visible_now(view, feature_store._now(), '') -%}
{%- set number = feature_store._cell_number('v.whole', 'v.number', 'f.scale') -%}
{%- set nan = "cast('NaN' as " ~ feature_store._double() ~ ')' -%}
{%- set tenths = range(1, 11) -%}
-- {{ view.reference }}: how far the values of two periods differ, one row a feature
with

-- each period from its start up to, not including, its end
{% if periods.period -%}
_fs_newest as (
    select max({{ event }}) + interval '1 microsecond' as _fs_end
    from {{ relation }}
    where {{ visible }}{% if periods.end %} and {{ event }} < {{ periods.end }}{% endif %}
),
_fs_periods as (
    select
        _fs_end - {{ feature_store._interval(periods.period) }} - {{ feature_store._interval(periods.period) }} as _fs_baseline_start,
        _fs_end - {{ feature_store._interval(periods.period) }} as _fs_baseline_end,
        _fs_end - {{ feature_store._interval(periods.period) }} as _fs_start,
        _fs_end
    from _fs_newest
),
{%- else -%}
_fs_periods as (
    select
        cast({{ periods.baseline_start }} as {{ types.timestamp }}) as _fs_baseline_start,
        cast({{ periods.baseline_end }} as {{ types.timestamp }}) as _fs_baseline_end,
        cast({{ periods.start }} as {{ types.timestamp }}) as _fs_start,
        cast({{ periods.end or feature_store._now() ~ " + interval '1 microsecond'" }} as {{ types.timestamp }}) as _fs_end
),
{%- endif %}

{% set within -%}
{{ visible }}
            and (
                ({{ event }} >= _fs_baseline_start and {{ event }} < _fs_baseline_end)
                or ({{ event }} >= _fs_start and {{ event }} < _fs_end)
            )
{%- endset -%}
{{ feature_store._feature_values(
    features, relation ~ '\n        cross join _fs_periods', within, '_fs_is_current',
    'case\n            when ' ~ event ~ ' >= _fs_start and ' ~ event ~ ' < _fs_end then 1\n            else 0\n        end'
) }},

-- the numbers of the baseline in order, each with the number of rows up to it
_fs_ordered as (
    select
        v.feature_no,
        {{ number }} as x,
        sum(v.row_count) over (
            partition by v.feature_no
            order by {{ number }} asc nulls last
            rows between unbounded preceding and current row
        ) as rows_so_far,
        sum(v.row_count) over (partition by v.feature_no) as all_rows
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    where v._fs_is_current = 0
        and f.kind in ('integer', 'decimal', 'float', 'boolean')
        and {{ number }} < {{ nan }}
),

-- ten ranges with as many of these rows each (one more in the first ones, where they do not divide): their upper edges
_fs_edges as (
    select
        feature_no,
        min(x) as lowest
        {%- for tenth in tenths %},
        min(
            case
                when rows_so_far >= {{ tenth }} * floor(all_rows / 10) + least({{ tenth }}, all_rows - 10 * floor(all_rows / 10))
                    then x
            end
        ) as edge_{{ tenth }}
        {%- endfor %}
    from _fs_ordered
    group by feature_no
),

-- a text is a bucket by itself if it is one of the baseline's hundred most frequent
_fs_texts as (
    select
        v.feature_no,
        v.label,
        row_number() over (partition by v.feature_no order by v.row_count desc nulls last, v.label asc nulls last) as place
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    where v._fs_is_current = 0 and f.kind = 'text' and v.label is not null
),

-- the bucket of each value; NULL, NaN and what lies below all that was there before are buckets of their own
_fs_placed as (
    select
        v.feature_no,
        v._fs_is_current,
        v.row_count,
        v.whole is null and v.number is null and v.label is null as is_null,
        case
            when v.whole is null and v.number is null and v.label is null then 'NULL'
            when t.label is not null then '=' || t.label
            when f.kind = 'text' then 'all other texts'
            when v.number = {{ nan }} then 'NaN'
            when {{ number }} < e.lowest then 'below all'
            else cast(
                {%- for tenth in tenths %}
                {{ '+ ' if not loop.first }}case when e.edge_{{ tenth }} < {{ number }} then 1 else 0 end
                {%- endfor %}
                as {{ types.text }}
            )
        end as bucket
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    left join _fs_edges as e
        on e.feature_no = v.feature_no
    left join _fs_texts as t
        on t.feature_no = v.feature_no and t.label = v.label and t.place <= 100
),
_fs_buckets as (
    select
        feature_no,
        bucket,
        is_null,
        sum(case when _fs_is_current = 0 then row_count else 0 end) as rows_before,
        sum(case when _fs_is_current = 1 then row_count else 0 end) as rows_now
    from _fs_placed
    group by feature_no, bucket, is_null
),
_fs_totals as (
    select
        feature_no,
        sum(rows_before) as rows_before,
        sum(rows_now) as rows_now,
        sum(case when is_null then rows_before else 0 end) as nulls_before,
        sum(case when is_null then rows_now else 0 end) as nulls_now
    from _fs_buckets
    group by feature_no
),
_fs_shares as (
    select
        b.feature_no,
        cast(b.rows_before as {{ feature_store._double() }}) / t.rows_before as p,
        cast(b.rows_now as {{ feature_store._double() }}) / t.rows_now as q
    from _fs_buckets as b
    join _fs_totals as t
        on t.feature_no = b.feature_no
    where t.rows_before > 0 and t.rows_now > 0
),

-- in the index an empty bucket counts as one row in ten thousand: its logarithm would be infinite
_fs_measured as (
    select
        feature_no,
        sum((greatest(q, 0.0001) - greatest(p, 0.0001)) * ln(greatest(q, 0.0001) / greatest(p, 0.0001))) as population_stability_index,
        -- rounding alone could lift it above one
        least(1, sum(
            case when p > 0 then p * ln(2 * p / (p + q)) else 0 end
            + case when q > 0 then q * ln(2 * q / (p + q)) else 0 end
        ) / (2 * ln(2))) as jensen_shannon_divergence
    from _fs_shares
    group by feature_no
)

select
    cast({{ feature_store._literal(view.reference) }} as {{ types.text }}) as feature_view,
    cast(f.feature as {{ types.text }}) as feature,
    cast(f.data_type as {{ types.text }}) as data_type,
    cast(f.kind as {{ types.text }}) as kind,
    periods._fs_baseline_start as baseline_start,
    periods._fs_baseline_end as baseline_end,
    periods._fs_start as period_start,
    periods._fs_end as period_end,
    {{ feature_store._now() }} as computed_at,
    cast(coalesce(t.rows_before, 0) as {{ types.bigint }}) as rows_before,
    cast(coalesce(t.rows_now, 0) as {{ types.bigint }}) as rows_now,
    cast(t.nulls_before as {{ feature_store._double() }}) / nullif(t.rows_before, 0) as null_fraction_before,
    cast(t.nulls_now as {{ feature_store._double() }}) / nullif(t.rows_now, 0) as null_fraction_now,
    case
        when f.kind in ('integer', 'decimal', 'float', 'boolean', 'text') then m.population_stability_index
    end as population_stability_index,
    case when f.kind in ('integer', 'decimal', 'float', 'boolean', 'text') then m.jensen_shannon_divergence end as jensen_shannon_divergence
from _fs_features as f
cross join _fs_periods as periods
left join _fs_totals as t
    on t.feature_no = f.feature_no
left join _fs_measured as m
    on m.feature_no = f.feature_no
order by f.feature_no asc nulls last
{%- endmacro %}
