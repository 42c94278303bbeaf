{#-- Features as they are measured and shown on PostgreSQL (see _feature_kinds.sql and _feature_pairs.sql): with the figures, and as text
     in the form, that DuckDB gives. --#}


{#-- What is not finite has no `whole`: it would not fit any number of digits. --#}
{% macro postgres___feature_cell(expression, feature) %}
    {%- set type = (feature.type or '') | lower -%}
    {%- if feature.kind == 'decimal' -%}
        {#- A numeric without digits has as many as each value has. -#}
        {%- set whole = 'trunc(' ~ expression ~ ' * 1' ~ '0' * feature.scale ~ ')' if '(' in type else 'trim_scale(' ~ expression ~ ')' -%}
        {%- do return({
            'whole': 'case when abs(' ~ expression ~ ") < 'Infinity' then " ~ whole ~ ' end',
            'number': 'case when abs(' ~ expression ~ ") >= 'Infinity' then cast(" ~ expression ~ ' as double precision) end',
        }) -%}
    {%- elif feature.kind in ('date', 'timestamp') -%}
        {%- set instant = feature_store._instant(expression, feature.type) -%}
        {%- set seconds = 'extract(epoch from ' ~ instant ~ ')' -%}
        {%- do return({
            'whole': 'case when isfinite(' ~ expression ~ ') then trunc(' ~ seconds ~ ' * 1' ~ '0' * feature.scale ~ ') end',
            'number': 'case when not isfinite(' ~ expression ~ ') then cast(' ~ seconds ~ ' as double precision) end',
        }) -%}
    {%- elif feature.kind == 'list' -%}
        {%- do return({
            'whole': 'cast(cardinality(' ~ expression ~ ') as numeric)',
            'number': feature_store.postgres___norm(expression) if feature.of_numbers else none,
        }) -%}
    {%- elif feature.kind == 'text' -%}
        {%- do return({'label': 'cast(' ~ expression ~ ' as varchar) collate "C"'}) -%}
    {%- endif -%}
    {%- do return(feature_store.default___feature_cell(expression, feature)) -%}
{% endmacro %}


{#-- The length of a vector, to the seven digits that DuckDB keeps of it; NULL where it is beyond a real. --#}
{% macro postgres___norm(expression) -%}
    (
                select
                    case
                        when norm <= 7.006e-46 then 0
                        when norm > 3.4028235677973366e38 and norm < 'Infinity' then null
                        else cast(cast(norm as real) as double precision)
                    end
                from (
                    select
                        sqrt(sum(
                            case
                                when abs(item) < 1e-100 then 0
                                when abs(item) < 1e40 then item * item
                                when abs(item) < 1.34e154 then 1e100
                                else abs(item) + cast('Infinity' as double precision)
                            end
                        )) as norm
                    from (select cast(item as double precision) as item from unnest({{ expression }}) as items (item)) as doubles
                ) as norms
            )
{%- endmacro %}


{#-- As DuckDB shows them; of moments beyond the years 1 to 9999 each engine has its own form. --#}
{% macro postgres___cell_text(whole, number, label, of) -%}
{%- set digits = 'cast(abs(' ~ whole ~ ') as text)' -%}
{%- set padded = "repeat('0', " ~ of ~ '.scale + 1 - length(' ~ digits ~ ')) || ' ~ digits -%}
case
    when {{ of }}.kind in ('integer', 'list') or ({{ of }}.kind = 'decimal' and {{ of }}.scale = 0) then cast({{ whole }} as varchar)
    when {{ of }}.kind = 'decimal' then
        case when {{ whole }} < 0 then '-' else '' end
        || left({{ padded }}, -{{ of }}.scale)
        || '.'
        || right({{ padded }}, {{ of }}.scale)
    when {{ of }}.kind = 'boolean' then case {{ whole }} when 1 then 'true' when 0 then 'false' end
    when {{ of }}.kind = 'date' then {{ feature_store.postgres___iso_text(
        "date '1970-01-01' + cast(" ~ whole ~ ' / 86400 as integer)'
    ) }}
    when {{ of }}.kind = 'timestamp' then {{ feature_store.postgres___iso_text(
        "timestamp '1970-01-01' + trunc(" ~ whole ~ " / 1000000) * interval '1 second'"
        ~ '\n            + mod(' ~ whole ~ ", 1000000) * interval '1 microsecond'"
    ) }}
    when {{ of }}.kind = 'float' and {{ number }} = 0 then '0.0'
    when {{ of }}.kind = 'float' then {{ feature_store.postgres___double_text(
        number, 'case\n                        when ' ~ of ~ ".data_type = 'real' then cast(cast(" ~ number ~ ' as real) as text)\n'
            ~ '                        else cast(' ~ number ~ ' as text)\n                    end'
    ) }}
    else substr({{ label }}, 1, 200)
end
{%- endmacro %}


{#-- A date or moment as text, whatever the session's DateStyle. --#}
{% macro postgres___iso_text(moment) -%}
    replace(to_json({{ moment }}) #>> '{}', 'T', ' ')
{%- endmacro %}


{#-- Lists as [1, NULL], moments with a zone in UTC. --#}
{% macro postgres___value_text(expression, data_type) -%}
    {%- set type = (data_type or '') | lower -%}
    {%- if type in ('real', 'double precision') -%}
        {{- return(feature_store._double_text(expression)) -}}
    {%- elif type.endswith(']') -%}
        {%- set text = feature_store.postgres___value_text('item', type[:type.rfind('[')]) -%}
        {%- set items = 'string_agg(coalesce(' ~ text ~ ", 'NULL'), ', ' order by place)" -%}
        {%- set query = "select '[' || coalesce(" ~ items ~ ", '') || ']'"
            ~ '\n        from unnest(' ~ expression ~ ') with ordinality as list (item, place)' -%}
        {{- return('case when ' ~ expression ~ ' is not null then (\n        ' ~ query ~ '\n    ) end') -}}
    {%- elif feature_store._is_zoned(type) -%}
        {{- return(feature_store.postgres___iso_text(feature_store._instant(expression, type)) ~ " || '+00'") -}}
    {%- elif type.startswith('timestamp') or type == 'date' -%}
        {{- return(feature_store.postgres___iso_text(expression)) -}}
    {%- endif -%}
    {{- return('cast(' ~ expression ~ ' as varchar)') -}}
{%- endmacro %}


{#-- A stored feature as an on-demand expression reads it (see _on_demand.sql). --#}
{% macro postgres___on_demand_input(expression, data_type) %}
    {%- set type = data_type | lower -%}
    {%- set kind = feature_store._feature_kind(type).kind -%}
    {%- if type in ('smallint', 'integer') -%}
        {%- do return('cast(' ~ expression ~ ' as bigint)') -%}
    {%- elif kind in ('integer', 'decimal', 'boolean', 'date') -%}
        {%- do return(expression) -%}
    {%- elif kind == 'float' -%}
        {%- do return(expression if type == 'double precision' else 'cast(' ~ expression ~ ' as double precision)') -%}
    {%- elif type == 'text' or type.startswith(('varchar', 'character varying')) -%}
        {%- do return('(' ~ expression ~ ' collate "C")') -%}
    {%- elif kind == 'text' or type in ('json', 'jsonb') -%}
        {%- do return('(cast(' ~ expression ~ ' as text) collate "C")') -%}
    {%- elif kind == 'timestamp' -%}
        {%- do return(feature_store._instant(expression, type)) -%}
    {%- endif -%}
    {%- do return(none) -%}
{% endmacro %}
