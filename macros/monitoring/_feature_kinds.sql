{#-- What a feature's values are, from the warehouse's name of their type: {kind, scale, of_numbers}. Kinds are integer,
     decimal (with `scale` digits behind the point), float, boolean, text, date, timestamp, list (`of_numbers` or not)
     and other. --#}
{% macro _feature_kind(data_type) %}
    {%- set type = (data_type or '') | lower | trim -%}
    {%- set integers = [
        'tinyint', 'smallint', 'int', 'integer', 'bigint', 'hugeint', 'utinyint', 'usmallint', 'uinteger', 'ubigint',
        'uhugeint', 'byteint', 'int2', 'int4', 'int8', 'int64'
    ] -%}
    {%- set decimals = ['decimal', 'numeric', 'number', 'bignumeric'] -%}
    {%- set floats = ['real', 'float', 'float4', 'float8', 'float64', 'double'] -%}
    {%- set texts = ['varchar', 'text', 'string', 'char', 'character', 'uuid', 'enum'] -%}
    {%- if type.endswith(']') or type.startswith('array') -%}
        {%- set element = feature_store._feature_kind(type[:type.rfind('[')]) if type.endswith(']') else {} -%}
        {%- do return({'kind': 'list', 'scale': 0, 'of_numbers': element.kind in ('integer', 'decimal', 'float')}) -%}
    {%- endif -%}
    {%- set word = (type.replace('(', ' ').split() or [''])[0] -%}
    {%- if word in integers -%}
        {%- do return({'kind': 'integer', 'scale': 0}) -%}
    {%- elif word in decimals -%}
        {%- set size = type[type.find('(') + 1:-1].split(',') if '(' in type else [] -%}
        {%- do return({
            'kind': 'decimal',
            'scale': size[1] | int if size | length == 2 else 0,
            'precision': size[0] | int if size else 38,
        }) -%}
    {%- elif word in floats -%}
        {%- do return({'kind': 'float', 'scale': 0}) -%}
    {%- elif word in ('bool', 'boolean') -%}
        {%- do return({'kind': 'boolean', 'scale': 0}) -%}
    {%- elif word in texts -%}
        {%- do return({'kind': 'text', 'scale': 0}) -%}
    {%- elif word == 'date' -%}
        {%- do return({'kind': 'date', 'scale': 0}) -%}
    {%- elif word.startswith('timestamp') or word == 'datetime' -%}
        {%- do return({'kind': 'timestamp', 'scale': 6}) -%}
    {%- endif -%}
    {%- do return({'kind': 'other', 'scale': 0}) -%}
{% endmacro %}


{#-- One value as a cell {whole, number, label}, all SQL or none. `whole` is exact: an integer, a decimal without its point, 0 and 1 for
     booleans, the microseconds or (dates) seconds since 1970, the length of a list. `number` is a double: the value of a
     float, the Euclidean norm of a list of numbers, an infinity for a time without end. `label` is the text of a text, and
     a hash of what can only be told apart. A NULL is none of them. --#}
{% macro _feature_cell(expression, feature) %}
    {{- return(adapter.dispatch('_feature_cell', 'feature_store')(expression, feature)) -}}
{% endmacro %}

{% macro default___feature_cell(expression, feature) %}
    {%- if feature.kind in ('integer', 'list') -%}
        {%- set whole = expression if feature.kind == 'integer' else 'cardinality(' ~ expression ~ ')' -%}
        {%- do return({'whole': 'cast(' ~ whole ~ ' as decimal(38, 0))'}) -%}
    {%- elif feature.kind == 'decimal' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' * 1' ~ '0' * feature.scale ~ ' as decimal(38, 0))'}) -%}
    {%- elif feature.kind == 'float' -%}
        {%- do return({'number': 'cast(' ~ expression ~ ' as double precision)'}) -%}
    {%- elif feature.kind == 'boolean' -%}
        {%- do return({'whole': 'case when ' ~ expression ~ ' then 1 when not ' ~ expression ~ ' then 0 end'}) -%}
    {%- elif feature.kind in ('date', 'timestamp') -%}
        {%- set instant = feature_store._instant(expression, feature.type) -%}
        {%- do return({'whole': 'cast(extract(epoch from ' ~ instant ~ ') * 1' ~ '0' * feature.scale ~ ' as decimal(38, 0))'}) -%}
    {%- elif feature.kind == 'text' -%}
        {%- do return({'label': 'cast(' ~ expression ~ ' as varchar)'}) -%}
    {%- endif -%}
    {%- do return({'label': 'md5(cast(' ~ expression ~ ' as varchar))'}) -%}
{% endmacro %}

{% macro duckdb___feature_cell(expression, feature) %}
    {%- if (feature.type or '') | upper == 'UHUGEINT' -%}
        {#- It has no exact home in a HUGEINT: it is a double to calculate with, and told apart by all its digits. -#}
        {%- do return({'number': 'cast(' ~ expression ~ ' as double)', 'label': 'lpad(cast(' ~ expression ~ " as varchar), 39, '0')"}) -%}
    {%- elif feature.kind == 'integer' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' as hugeint)'}) -%}
    {%- elif feature.kind == 'decimal' -%}
        {#- A product of more than 38 digits is an error; there the text loses its point. -#}
        {%- set factor = '1' ~ '0' * feature.scale -%}
        {%- if feature.scale == 0 -%}
            {%- do return({'whole': 'cast(' ~ expression ~ ' as hugeint)'}) -%}
        {%- elif feature.precision + feature.scale < 38 -%}
            {%- set wide = 'cast(' ~ expression ~ ' as decimal(38, ' ~ feature.scale ~ '))' -%}
            {%- set factor = 'cast(' ~ factor ~ ' as decimal(' ~ (feature.scale + 1) ~ ', 0))' -%}
            {%- do return({'whole': 'cast(' ~ wide ~ ' * ' ~ factor ~ ' as hugeint)'}) -%}
        {%- endif -%}
        {%- do return({'whole': "cast(replace(cast(" ~ expression ~ " as varchar), '.', '') as hugeint)"}) -%}
    {%- elif feature.kind == 'float' -%}
        {%- do return({'number': 'cast(' ~ expression ~ ' as double)'}) -%}
    {%- elif feature.kind == 'boolean' -%}
        {%- do return({'whole': 'cast(' ~ expression ~ ' as integer)'}) -%}
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
        {%- set norm = 'try_cast(sqrt(list_sum(list_transform(' ~ expression ~ ', lambda item: cast(item as double) * item))) as float)' -%}
        {%- do return({'whole': 'len(' ~ expression ~ ')', 'number': norm if feature.of_numbers else none}) -%}
    {%- elif feature.kind == 'text' -%}
        {%- do return({'label': 'cast(' ~ expression ~ ' as varchar)'}) -%}
    {%- endif -%}
    {%- do return({'label': 'md5(cast(' ~ expression ~ ' as varchar))'}) -%}
{% endmacro %}


{#-- An infinite date or timestamp as a double, NULL for all others. --#}
{% macro _endless(expression, type) -%}
    case {{ expression }}
            when {{ type }} 'infinity' then cast('infinity' as double)
            when {{ type }} '-infinity' then cast('-infinity' as double)
        end
{%- endmacro %}


{#-- A cell as text again, from the columns whole, number, label of `prefix` and kind, scale, data_type of `of`. Texts are cut at
     two hundred characters. --#}
{% macro _cell_text(whole, number, label, of) %}
    {{- return(adapter.dispatch('_cell_text', 'feature_store')(whole, number, label, of)) -}}
{% endmacro %}

{% macro default___cell_text(whole, number, label, of) -%}
case
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0) then cast({{ whole }} as varchar)
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || cast(floor(abs({{ whole }}) / power(10, {{ of }}.scale)) as varchar)
        || '.' || right(repeat('0', {{ of }}.scale) || cast(abs({{ whole }}) as varchar), {{ of }}.scale)
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date' then cast(date '1970-01-01' + cast({{ whole }} / 86400 as integer) as varchar)
    when {{ of }}.kind = 'timestamp' then cast(timestamp '1970-01-01' + {{ whole }} * interval '1 microsecond' as varchar)
    when {{ of }}.kind = 'float' then cast({{ number }} as varchar)
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}

{#-- -0.0 and 0.0 are one value to DuckDB, and either may stand for it; a FLOAT as double would show digits it has not. --#}
{% macro duckdb___cell_text(whole, number, label, of) -%}
{%- set digits = 'cast(abs(' ~ whole ~ ') as varchar)' -%}
case
    when {{ of }}.data_type = 'UHUGEINT' then cast(cast({{ label }} as uhugeint) as varchar)
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0) then cast({{ whole }} as varchar)
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || regexp_replace(
            lpad(
                {{ digits }},
                cast(greatest(length({{ digits }}), {{ of }}.scale + 1) as integer),
                '0'
            ),
            '^(.+)(.{' || {{ of }}.scale || '})$',
            '\1.\2'
        )
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date' then cast(date '1970-01-01' + try_cast({{ whole }} // 86400 as integer) as varchar)
    when {{ of }}.kind = 'timestamp' then cast(make_timestamp(try_cast({{ whole }} as bigint)) as varchar)
    when {{ of }}.kind = 'float' and {{ number }} = 0 then '0.0'
    when {{ of }}.kind = 'float' and {{ of }}.data_type in ('FLOAT', 'REAL') then cast(cast({{ number }} as float) as varchar)
    when {{ of }}.kind = 'float' then cast({{ number }} as varchar)
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}
