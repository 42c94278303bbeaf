{#-- One value as a cell {whole, number, label}, all SQL or none. `whole` is exact: an integer, a decimal without its point, 0 and 1 for
     booleans, the microseconds or (dates) seconds since 1970, the length of a list. `number` is a double: the value of a
     float, the Euclidean norm of a list of numbers, an infinity for a time without end. `label` is the text of a text, and
     a hash of what can only be told apart. A NULL is none of them. --#}
{% macro _feature_cell(expression, feature) %}
    {{- return(adapter.dispatch('_feature_cell', 'feature_store')(expression, feature)) -}}
{% endmacro %}

{% macro default___feature_cell(expression, feature) %}
    {%- set types = feature_store._types() -%}
    {%- if feature.kind in ('integer', 'list') -%}
        {%- set whole = expression if feature.kind == 'integer' else 'cardinality(' ~ expression ~ ')' -%}
        {%- do return({'whole': 'cast(' ~ whole ~ ' as ' ~ types.decimal ~ '(38, 0))'}) -%}
    {%- elif feature.kind == 'decimal' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' * 1' ~ '0' * feature.scale ~ ' as ' ~ types.decimal ~ '(38, 0))'}) -%}
    {%- elif feature.kind == 'float' -%}
        {%- do return({'number': 'cast(' ~ expression ~ ' as ' ~ types.double ~ ')'}) -%}
    {%- elif feature.kind == 'boolean' -%}
        {%- do return({'whole': 'case when ' ~ expression ~ ' then 1 when not ' ~ expression ~ ' then 0 end'}) -%}
    {%- elif feature.kind in ('date', 'timestamp') -%}
        {%- set instant = feature_store._instant(expression, feature.type) -%}
        {%- set steps = 'extract(epoch from ' ~ instant ~ ') * 1' ~ '0' * feature.scale -%}
        {%- do return({'whole': 'cast(' ~ steps ~ ' as ' ~ types.decimal ~ '(38, 0))'}) -%}
    {%- elif feature.kind == 'text' -%}
        {%- do return({'label': 'cast(' ~ expression ~ ' as ' ~ types.text ~ ')'}) -%}
    {%- endif -%}
    {%- do return({'label': 'md5(cast(' ~ expression ~ ' as ' ~ types.text ~ '))'}) -%}
{% endmacro %}

{% macro duckdb___feature_cell(expression, feature) %}
    {%- set types = feature_store._types() -%}
    {%- if (feature.type or '') | upper == 'UHUGEINT' -%}
        {#- It has no exact home in a HUGEINT: it is a double to calculate with, and told apart by all its digits. -#}
        {%- do return({
            'number': 'cast(' ~ expression ~ ' as ' ~ types.double ~ ')',
            'label': 'lpad(cast(' ~ expression ~ ' as ' ~ types.text ~ "), 39, '0')",
        }) -%}
    {%- elif feature.kind == 'integer' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' as ' ~ types.whole ~ ')'}) -%}
    {%- elif feature.kind == 'decimal' -%}
        {#- A product of more than 38 digits is an error; there the text loses its point. -#}
        {%- set factor = '1' ~ '0' * feature.scale -%}
        {%- if feature.scale == 0 -%}
            {%- do return({'whole': 'cast(' ~ expression ~ ' as ' ~ types.whole ~ ')'}) -%}
        {%- elif feature.precision + feature.scale < 38 -%}
            {%- set wide = 'cast(' ~ expression ~ ' as ' ~ types.decimal ~ '(38, ' ~ feature.scale ~ '))' -%}
            {%- set factor = 'cast(' ~ factor ~ ' as ' ~ types.decimal ~ '(' ~ (feature.scale + 1) ~ ', 0))' -%}
            {%- do return({'whole': 'cast(' ~ wide ~ ' * ' ~ factor ~ ' as ' ~ types.whole ~ ')'}) -%}
        {%- endif -%}
        {%- do return({'whole': "cast(replace(cast(" ~ expression ~ " as " ~ types.text ~ "), '.', '') as " ~ types.whole ~ ")"}) -%}
    {%- elif feature.kind == 'float' -%}
        {%- do return({'number': 'cast(' ~ expression ~ ' as ' ~ types.double ~ ')'}) -%}
    {%- elif feature.kind == 'boolean' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' as ' ~ types.integer ~ ')'}) -%}
    {%- elif feature.kind == 'timestamp' -%}
        {%- set instant = feature_store._instant(expression, feature.type) -%}
        {%- do return({'whole': 'epoch_us(' ~ instant ~ ')', 'number': feature_store._endless(instant, 'timestamp')}) -%}
    {%- elif feature.kind == 'date' -%}
        {%- do return({
            'whole': 'case when isfinite(' ~ expression ~ ') then (' ~ expression ~ " - date '1970-01-01') * 86400 end",
            'number': feature_store._endless(expression, 'date'),
        }) -%}
    {%- elif feature.kind == 'list' -%}
        {#- Seven digits of the norm are enough, and vectors that were made of length 1 have then few different norms. -#}
        {%- set squares = 'list_transform(' ~ expression ~ ', lambda item: cast(item as ' ~ types.double ~ ') * item)' -%}
        {%- set norm = 'try_cast(sqrt(list_sum(' ~ squares ~ ')) as ' ~ types.float ~ ')' -%}
        {%- do return({'whole': 'len(' ~ expression ~ ')', 'number': norm if feature.of_numbers else none}) -%}
    {%- elif feature.kind == 'text' -%}
        {%- do return({'label': 'cast(' ~ expression ~ ' as ' ~ types.text ~ ')'}) -%}
    {%- endif -%}
    {%- do return({'label': 'md5(cast(' ~ expression ~ ' as ' ~ types.text ~ '))'}) -%}
{% endmacro %}

{% macro spark___feature_cell(expression, feature) %}
    {%- set types = feature_store._types() -%}
    {%- set whole = none -%}
    {%- if feature.kind in ('integer', 'boolean') -%}
        {%- set whole = expression -%}
    {%- elif feature.kind == 'decimal' and feature.precision + feature.scale < 38 -%}
        {%- set whole = expression ~ ' * 1' ~ '0' * feature.scale -%}
    {%- elif feature.kind == 'decimal' -%}
        {#- A product of more than 38 digits loses some; the text loses its point. -#}
        {%- set whole = 'replace(cast(' ~ expression ~ ' as ' ~ types.text ~ "), '.', '')" -%}
    {%- elif feature.kind in ('date', 'timestamp') -%}
        {%- set epoch = feature_store._timestamp('1970-01-01') -%}
        {%- set step = "interval '1' second" if feature.kind == 'date' else "interval '0.000001' second" -%}
        {%- set whole = '(' ~ feature_store._instant(expression, feature.type) ~ ' - ' ~ epoch ~ ') div ' ~ step -%}
    {%- elif feature.kind == 'list' -%}
        {#- NULL where there is no number in it, and where it is beyond a float, of which seven digits are kept. -#}
        {%- set square = 'cast(item as ' ~ types.double ~ ') * item' -%}
        {%- set total = '(total, item) -> case when item is null then total else coalesce(total, 0D) + ' ~ square ~ ' end' -%}
        {%- set norm = 'sqrt(aggregate(' ~ expression ~ ', cast(null as ' ~ types.double ~ '), ' ~ total ~ '))' -%}
        {%- set short = 'cast(cast(' ~ norm ~ ' as ' ~ types.float ~ ') as ' ~ types.double ~ ')' -%}
        {%- set beyond = 'abs(' ~ short ~ ") = double('infinity') and " ~ norm ~ " < double('infinity')" -%}
        {%- do return({
            'whole': 'cast(array_size(' ~ expression ~ ') as ' ~ types.whole ~ ')',
            'number': 'case when not (' ~ beyond ~ ') then ' ~ short ~ ' end' if feature.of_numbers else none,
        }) -%}
    {%- elif feature.kind == 'float' -%}
        {%- do return({'number': 'cast(' ~ expression ~ ' as ' ~ types.double ~ ')'}) -%}
    {%- endif -%}
    {%- if whole is not none -%}
        {%- do return({'whole': 'cast(' ~ whole ~ ' as ' ~ types.whole ~ ')'}) -%}
    {%- endif -%}
    {%- set text = 'cast(' ~ expression ~ ' as ' ~ types.text ~ ')' -%}
    {%- do return({'label': text if feature.kind == 'text' else 'md5(' ~ text ~ ')'}) -%}
{% endmacro %}


{#-- An infinite date or timestamp as a double, NULL for all others. --#}
{% macro _endless(expression, type) -%}
    {%- set types = feature_store._types() -%}
    case {{ expression }}
            when {{ type }} 'infinity' then cast('infinity' as {{ types.double }})
            when {{ type }} '-infinity' then cast('-infinity' as {{ types.double }})
        end
{%- endmacro %}


{#-- A cell as text again, from the columns whole, number, label of `prefix` and kind, scale, data_type of `of`. Texts are cut at
     two hundred characters. --#}
{% macro _cell_text(whole, number, label, of) %}
    {{- return(adapter.dispatch('_cell_text', 'feature_store')(whole, number, label, of)) -}}
{% endmacro %}

{% macro default___cell_text(whole, number, label, of) -%}
    {%- set types = feature_store._types() -%}
case
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0)
        then cast({{ whole }} as {{ types.text }})
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || cast(floor(abs({{ whole }}) / power(10, {{ of }}.scale)) as {{ types.text }})
        || '.' || right(repeat('0', {{ of }}.scale) || cast(abs({{ whole }}) as {{ types.text }}), {{ of }}.scale)
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date' then cast(date '1970-01-01' + cast({{ whole }} / 86400 as {{ types.integer }}) as {{ types.text }})
    when {{ of }}.kind = 'timestamp'
        then cast({{ feature_store._timestamp('1970-01-01') }} + {{ whole }} * interval '1 microsecond' as {{ types.text }})
    when {{ of }}.kind = 'float' then cast({{ number }} as {{ types.text }})
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}

{#-- -0.0 and 0.0 are one value to DuckDB, and either may stand for it; a FLOAT as double would show digits it has not. --#}
{% macro duckdb___cell_text(whole, number, label, of) -%}
    {%- set types = feature_store._types() -%}
{%- set digits = 'cast(abs(' ~ whole ~ ') as ' ~ types.text ~ ')' -%}
case
    when {{ of }}.data_type = 'UHUGEINT' then cast(cast({{ label }} as {{ types.uhugeint }}) as {{ types.text }})
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0)
        then cast({{ whole }} as {{ types.text }})
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || regexp_replace(
            lpad(
                {{ digits }},
                cast(greatest(length({{ digits }}), {{ of }}.scale + 1) as {{ types.integer }}),
                '0'
            ),
            '^(.+)(.{' || {{ of }}.scale || '})$',
            '\1.\2'
        )
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date' then cast(date '1970-01-01' + try_cast({{ whole }} // 86400 as {{ types.integer }}) as {{ types.text }})
    when {{ of }}.kind = 'timestamp' then cast(make_timestamp(try_cast({{ whole }} as {{ types.bigint }})) as {{ types.text }})
    when {{ of }}.kind = 'float' and {{ number }} = 0 then '0.0'
    when {{ of }}.kind = 'float' and {{ of }}.data_type in ('FLOAT', 'REAL')
        then cast(cast({{ number }} as {{ types.float }}) as {{ types.text }})
    when {{ of }}.kind = 'float' then cast({{ number }} as {{ types.text }})
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}

{% macro spark___cell_text(whole, number, label, of) -%}
{%- set types = feature_store._types() -%}
{%- set digits = 'cast(abs(' ~ whole ~ ') as ' ~ types.text ~ ')' -%}
{%- set digits = 'lpad(' ~ digits ~ ', greatest(length(' ~ digits ~ '), ' ~ of ~ ".scale + 1), '0')" -%}
case
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0)
        then cast({{ whole }} as {{ types.text }})
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || left({{ digits }}, length({{ digits }}) - {{ of }}.scale)
        || '.' || right({{ digits }}, {{ of }}.scale)
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date'
        then cast(date_add(date '1970-01-01', cast({{ whole }} div 86400 as {{ types.integer }})) as {{ types.text }})
    when {{ of }}.kind = 'timestamp' then cast(
        {{ feature_store._timestamp('1970-01-01') }} + cast({{ whole }} as {{ types.bigint }}) * interval '0.000001' second
        as {{ types.text }}
    )
    when {{ of }}.kind = 'float' and {{ number }} = 0 then '0.0'
    when {{ of }}.kind = 'float' and {{ of }}.data_type = 'float' then {{ feature_store._double_text(
        'cast(' ~ number ~ ' as ' ~ types.float ~ ')'
    ) }}
    when {{ of }}.kind = 'float' then {{ feature_store._double_text(number) }}
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}
