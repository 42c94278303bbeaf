{% macro feature_statistics(view, features=none, start=none, end=none, buckets=10, top=10) %}
    {#-- Reads the view with ref(), also while dbt parses: that is what draws the edge of the DAG. --#}
    {%- set found = feature_store._feature_view(view) -%}
    {%- if execute -%}
        {%- do feature_store._check_engine('feature_statistics') -%}
        {%- do feature_store._check_reserved_names(found.features, "Feature view '" ~ view ~ "'") -%}
        {%- for name, value, most in [('buckets', buckets, 100), ('top', top, 1000)] -%}
            {%- if value is not integer or value is boolean or value < 1 or value > most -%}
                {%- do exceptions.raise_compiler_error(
                    'feature_statistics: ' ~ name ~ " is '" ~ value ~ "'; it is a whole number from 1 to " ~ most ~ '.'
                ) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if start is none and end is none and model is defined and model.batch -%}
            {#- A microbatch is a period by itself. -#}
            {%- set start = model.batch.event_time_start -%}
            {%- set end = model.batch.event_time_end -%}
        {%- endif -%}
        {%- set start = feature_store._moment(start, 'feature_statistics: start') -%}
        {%- set end = feature_store._moment(end, 'feature_statistics: end') -%}
        {%- do feature_store._check_period(start, end, 'The period') -%}
        {%- set measured = feature_store._measured_features(found, features) -%}
        {{- adapter.dispatch('_fs_feature_statistics', 'feature_store')(found, measured, start, end, buckets, top) -}}
    {%- endif -%}
{% endmacro %}


{% macro default___fs_feature_statistics(view, features, start, end, buckets, top) -%}
    {%- set types = feature_store._types() -%}
{%- set quantiles = [1, 5, 25, 50, 75, 95, 99] -%}
{%- set ranges = 24 -%}
{%- set number = feature_store._cell_number('v.whole', 'v.number', 'f.scale') -%}
{%- set is_null = 'v.whole is null and v.number is null and v.label is null' -%}
{%- set infinity = "cast('infinity' as " ~ feature_store._double() ~ ')' -%}
{%- set fits = 'p.width < ' ~ infinity ~ ' and abs(p.mean) < ' ~ infinity -%}
-- {{ view.reference }}: one row a feature, from one scan
with

{{ feature_store._feature_values(features, view.relation, feature_store._in_period(view, start, end)) }},

-- NaN and the infinities are counted here and left out of everything below
_fs_counts as (
    select
        v.feature_no,
        sum(v.row_count) as row_count,
        sum(case when {{ is_null }} then v.row_count else 0 end) as null_count,
        sum(case when v.number = cast('NaN' as {{ feature_store._double() }}) then v.row_count else 0 end) as nan_count,
        sum(case when abs(v.number) = {{ infinity }} then v.row_count else 0 end) as infinite_count,
        sum(case when {{ is_null }} then 0 else 1 end) as distinct_count,
        sum(
            case
                when abs({{ number }}) < {{ infinity }}
                    then v.row_count
                else 0
            end
        ) as finite_count,
        min(v.whole) as least_whole,
        max(v.whole) as greatest_whole,
        min(case when abs(v.number) < {{ infinity }} then v.number end) as least_number,
        max(case when abs(v.number) < {{ infinity }} then v.number end) as greatest_number,
        min(v.label) as least_label,
        max(v.label) as greatest_label,
        -- of lists of numbers, `number` is the norm
        sum(case when f.kind = 'list' and abs(v.number) < {{ infinity }} then v.number * v.row_count end)
            / sum(case when f.kind = 'list' and abs(v.number) < {{ infinity }} then v.row_count end) as mean_norm
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    group by v.feature_no
),

-- the finite numbers in order, each with the number of rows up to it
_fs_numbers as (
    select
        v.feature_no,
        {{ number }} as x,
        v.row_count,
        sum(v.row_count) over (
            partition by v.feature_no
            order by {{ number }} asc nulls last
            rows between unbounded preceding and current row
        ) as rows_so_far,
        c.finite_count
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    join _fs_counts as c
        on c.feature_no = v.feature_no
    where abs({{ number }}) < {{ infinity }}
),

-- a quantile lies between two neighbours in the sorted rows: p05_below is the one at or before it, p05_above the next
_fs_places as (
    select
        feature_no,
        finite_count,
        min(x) as lowest,
        max(x) as highest,
        {{ feature_store._minus('max(x)', 'min(x)') }} as width,
        {{ feature_store._weighted_mean('x', 'row_count', 'finite_count') }} as mean
        {%- for percent in quantiles %},
        {%- set name = 'p' ~ '%02d' | format(percent) %}
        {%- set place = 'cast(' ~ percent ~ ' * (finite_count - 1) as ' ~ feature_store._double() ~ ') / 100' %}
        {{ place }}
            - floor({{ place }}) as {{ name }}_share,
        min(case when rows_so_far > floor({{ percent }} * (finite_count - 1) / 100.0) then x end) as {{ name }}_below,
        min(case when rows_so_far > ceil({{ percent }} * (finite_count - 1) / 100.0) then x end) as {{ name }}_above
        {%- endfor %}
    from _fs_numbers
    group by feature_no, finite_count
),

-- where the hundredth and the ninety-ninth percent lie: what is outside is counted apart, or ten buckets of a value that a few
-- rows have a thousandfold would be one bar
_fs_cores as (
    select
        feature_no,
        {{ feature_store._between('p01') | indent(8) }} as core_from,
        {{ feature_store._between('p99') | indent(8) }} as core_to
    from _fs_places
),

-- how far each number lies from the mean, in shares of the range, and its bucket: there are {{ buckets }} of one width from the
-- least number to the greatest, each with its lower edge, the last one with both; and {{ ranges }} ranges of the core
_fs_shares as {{ adapter.dispatch('_materialized', 'feature_store')() }}(
    select
        feature_no,
        row_count,
        {{ feature_store._share('from_mean', 'width') }} as share,
        least(
            floor({{ feature_store._share('from_lowest', 'width') }} * {{ buckets }}),
            {{ buckets - 1 }}
        ) as bucket,
        case
            when from_core < 0 then -1
            when past_core > 0 then {{ ranges }}
            when core_width = 0 then 0
            else least(floor({{ feature_store._share('from_core', 'core_width') }} * {{ ranges }}), {{ ranges - 1 }})
        end as core
    from (
        select
            n.feature_no,
            n.row_count,
            p.width,
            n.x - p.mean as from_mean,
            n.x - p.lowest as from_lowest,
            c.core_to - c.core_from as core_width,
            n.x - c.core_from as from_core,
            n.x - c.core_to as past_core
        from _fs_numbers as n
        join _fs_places as p
            on p.feature_no = n.feature_no
        join _fs_cores as c
            on c.feature_no = n.feature_no
        where p.width < {{ infinity }}
    ) as distances
),

-- what these are in all (a share below 1e-150 has no square), and how many numbers each bucket holds
_fs_sums as (
    select
        feature_no,
        sum(row_count) as finite_count,
        sum(row_count * share) as residue,
        sum(row_count * power(greatest(abs(share), 1e-150), 2)) as squares
        {%- for bucket in range(buckets) %},
        sum(case when bucket = {{ bucket }} then row_count else 0 end) as bucket_{{ bucket }}
        {%- endfor %},
        sum(case when core < 0 then row_count else 0 end) as core_below,
        sum(case when core = {{ ranges }} then row_count else 0 end) as core_above
        {%- for place in range(ranges) %},
        sum(case when core = {{ place }} then row_count else 0 end) as core_{{ place }}
        {%- endfor %}
    from _fs_shares
    group by feature_no
),

-- what is left to the mean, and the standard deviation of the sample, in shares of the range, which neither overflow nor vanish
_fs_shapes as (
    select
        *,
        residue / finite_count as mean_share,
        sqrt(
            (squares - power(greatest(abs(residue), 1e-150), 2) / finite_count)
            / nullif(finite_count - 1, 0)
        ) as deviation_share
    from _fs_sums
),

-- the most frequent values; of equally frequent ones the smaller first
_fs_ranked as (
    select
        v.*,
        row_number() over (
            partition by v.feature_no
            order by v.row_count desc nulls last, v.whole asc nulls last, v.number asc nulls last, v.label asc nulls last
        ) as place
    from _fs_values as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    where
        not ({{ is_null }})
        and (v.number is null or abs(v.number) < {{ infinity }})
        and f.kind not in ('list', 'other')
),
_fs_tops as (
    select
        v.feature_no,
        {%- set one -%}
            '{"value": ' || {{ feature_store._json_text(feature_store._cell_text('v.whole', 'v.number', 'v.label', 'f')) | indent(12) }}
            || ', "count": ' || cast(v.row_count as {{ types.text }}) || '}'
        {%- endset %}
        '[' || {{ feature_store._joined_texts(one, 'v.place') }} || ']' as top_values
    from _fs_ranked as v
    join _fs_features as f
        on f.feature_no = v.feature_no
    where v.place <= {{ top }}
    group by v.feature_no
)

select
    cast({{ feature_store._literal(view.reference) }} as {{ types.text }}) as feature_view,
    cast(f.feature as {{ types.text }}) as feature,
    cast(f.data_type as {{ types.text }}) as data_type,
    cast(f.kind as {{ types.text }}) as kind,
    cast({{ start or 'null' }} as {{ types.timestamp }}) as period_start,
    cast({{ end or 'null' }} as {{ types.timestamp }}) as period_end,
    {{ feature_store._now() }} as computed_at,
    {%- for name in ['row_count', 'null_count'] %}
    cast(coalesce(c.{{ name }}, 0) as {{ types.bigint }}) as {{ name }},
    {%- endfor %}
    cast(c.null_count as {{ feature_store._double() }}) / c.row_count as null_fraction,
    {%- for name in ['nan_count', 'infinite_count'] %}
    cast(coalesce(c.{{ name }}, 0) as {{ types.bigint }}) as {{ name }},
    {%- endfor %}
    cast(case when f.kind <> 'list' then coalesce(c.distinct_count, 0) end as {{ types.bigint }}) as distinct_count,
    {%- for end, name in [('least', 'minimum'), ('greatest', 'maximum')] %}
    {%- set cell = ['c.' ~ end ~ '_whole', 'c.' ~ end ~ '_number', 'c.' ~ end ~ '_label'] %}
    case when f.kind <> 'other' then {{ feature_store._cell_text(cell[0], cell[1], cell[2], 'f') | indent(4) }} end as {{ name }},
    {%- endfor %}
    -- what rounding made of the sum shows in the second pass, and is put right
    case
        when p.highest = p.lowest then p.lowest
        when {{ fits }}
            then p.mean + {{ feature_store._share_of('p.width', 's.mean_share') }}
        when abs(p.mean) < {{ infinity }} then p.mean
    end as mean,
    -- of the sample
    case
        when c.finite_count < 2 then null
        when p.highest = p.lowest then 0
        when {{ fits }}
            then {{ feature_store._share_of('p.width', 's.deviation_share') }}
    end as stddev,
    {%- for percent in quantiles %}
    {%- set name = 'p' ~ '%02d' | format(percent) %}
    {{ feature_store._between('p.' ~ name) }} as {{ name }},
    {%- endfor %}
    c.mean_norm,
    case
        when p.highest = p.lowest then
            '[' || {{ feature_store._bucket_json('p.lowest', 'p.highest', 'c.finite_count') }} || ']'
        when p.width < {{ infinity }} then
            '['
            {%- for bucket in range(buckets) %}
            {%- set lower, upper = feature_store._edge('p', bucket, buckets), feature_store._edge('p', bucket + 1, buckets) %}
            || {{ feature_store._bucket_json(lower, upper, 's.bucket_' ~ bucket) }}{{ " || ', '" if not loop.last }}
            {%- endfor %}
            || ']'
    end as histogram,
    case
        when p.width < {{ infinity }} then
            '{"from": ' || {{ feature_store._double_text('k.core_from') }}
            || ', "to": ' || {{ feature_store._double_text('k.core_to') }}
            || ', "below": ' || cast(s.core_below as {{ types.text }})
            || ', "above": ' || cast(s.core_above as {{ types.text }})
            || ', "counts": [' || cast(s.core_0 as {{ types.text }})
            || case
                when k.core_from = k.core_to then ''
                else ''
                {%- for place in range(1, ranges) %}
                || ', ' || cast(s.core_{{ place }} as {{ types.text }})
                {%- endfor %}
            end || ']}'
    end as core,
    t.top_values
from _fs_features as f
left join _fs_counts as c
    on c.feature_no = f.feature_no
left join _fs_places as p
    on p.feature_no = f.feature_no
left join _fs_shapes as s
    on s.feature_no = f.feature_no
left join _fs_cores as k
    on k.feature_no = f.feature_no
left join _fs_tops as t
    on t.feature_no = f.feature_no
order by f.feature_no asc nulls last
{%- endmacro %}


{#-- The lower edge of a bucket. --#}
{% macro _edge(of, bucket, buckets) -%}
    {%- if bucket == 0 -%}
        {{ of }}.lowest
    {%- elif bucket == buckets -%}
        {{ of }}.highest
    {%- else -%}
        {{ of }}.lowest + {{ feature_store._share_of(of ~ '.width', bucket / buckets) }}
    {%- endif -%}
{%- endmacro %}


{#-- The value between the two neighbours `_below` and `_above` of a quantile (linear, as numpy and `quantile_cont`). --#}
{% macro _between(quantile) -%}
    case
        when {{ quantile }}_below = {{ quantile }}_above then {{ quantile }}_below
        else {{ feature_store._share_of(quantile ~ '_below', '(1 - ' ~ quantile ~ '_share)') }}
            + {{ feature_store._share_of(quantile ~ '_above', quantile ~ '_share') }}
    end
{%- endmacro %}


{% macro _bucket_json(lower, upper, row_count) -%}
    {%- set types = feature_store._types() -%}
    '{"from": ' || {{ feature_store._double_text(lower) }}
            || ', "to": ' || {{ feature_store._double_text(upper) }}
            || ', "count": ' || cast({{ row_count }} as {{ types.text }}) || '}'
{%- endmacro %}


{#-- A text as JSON writes it, in double quotes. --#}
{% macro _json_text(expression) -%}
    {{- return(adapter.dispatch('_json_text', 'feature_store')(expression)) -}}
{%- endmacro %}

{#-- Spark writes whole lists, maps and structs as JSON only. --#}
{% macro spark___json_text(expression) -%}
    regexp_extract(to_json(array({{ expression }})), '(?s)^.(.*).$', 1)
{%- endmacro %}

{% macro default___json_text(expression) -%}
    {%- set types = feature_store._types() -%}
    cast(to_json({{ expression }}) as {{ types.text }})
{%- endmacro %}
