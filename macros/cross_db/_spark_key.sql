{#-- A join key on Spark (see _key.sql). ANSI mode stops a query at a cast that fails, so all are tried; and what a text may look like is
     said first, for a cast there passes over blanks. --#}
{% macro spark___key(expression, given, wanted) -%}
    {%- set to = feature_store.spark___key_kind(wanted) -%}
    {%- set has = feature_store.spark___key_kind(given) if given else 'unknown' -%}
    {%- set x = expression -%}
    {%- if has == 'unknown' and to != 'other' -%}
        {%- set x, has = 'cast(' ~ x ~ ' as string)', 'text' -%}
    {%- elif has == 'binary' and to not in ('binary', 'other') -%}
        {%- set x, has = 'case when is_valid_utf8(cast(' ~ x ~ ' as string)) then cast(' ~ x ~ ' as string) end', 'text' -%}
    {%- endif -%}
    {%- set cast = 'try_cast(' ~ x ~ ' as ' ~ wanted ~ ')' -%}


    {%- if to == 'other' -%}
        {{ expression }}
    {%- elif to == 'text' and has in ('text', 'integer', 'decimal', 'boolean', 'date') -%}
        cast({{ x }} as string)
    {%- elif to == 'text' and has == 'float' -%}
        {%- set integer = 'try_cast(' ~ x ~ ' as bigint)' -%}
        case when {{ integer }} = {{ x }} and abs({{ x }}) < 9007199254740992 then cast({{ integer }} as string) end
    {%- elif to == 'integer' and has == 'integer' -%}
        {{ cast }}
    {%- elif to == 'integer' and has in ('decimal', 'float') -%}
        {#- A double beyond the largest integer would be taken for that. -#}
        case when {{ x }} < double(9223372036854775807) and try_cast({{ x }} as bigint) = {{ x }} then {{ cast }} end
    {%- elif to == 'integer' and has == 'text' -%}
        case when {{ x ~ " = regexp_extract(" ~ x ~ ", '-?[0-9]+', 0)" }} then {{ cast }} end
    {%- elif to == 'decimal' and has in ('integer', 'decimal', 'float') -%}
        case when {{ cast }} = {{ x }} then {{ cast }} end
    {%- elif to == 'decimal' and has == 'text' -%}
        {%- set scale = wanted.split(',')[1].strip(' )') | int if ',' in wanted else 0 -%}
        {%- set digits = '-?[0-9]+([.](0+' ~ ('|[0-9]{1,' ~ scale ~ '}0*' if scale else '') ~ '))?$' -%}
        case when {{ x ~ " = regexp_extract(" ~ x ~ ", '^" ~ digits ~ "', 0)" }} then {{ cast }} end
    {%- elif to == 'float' and has in ('integer', 'decimal', 'float') -%}
        case when try_cast({{ cast }} as {{ given }}) = {{ x }} then {{ cast }} end
    {%- elif to == 'float' and has == 'text' -%}
        {%- set digits = '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?' -%}
        case when {{ x ~ " = regexp_extract(" ~ x ~ ", '" ~ digits ~ "', 0)" }} and abs({{ cast }}) < double('infinity') then {{ cast }} end
    {%- elif (has, to) == ('text', 'boolean') -%}
        case lower({{ x }}) when 'true' then true when 'false' then false end
    {%- elif (has, to) == ('timestamp', 'date') -%}
        {%- set instant = feature_store._instant(x, given) -%}
        case when cast(cast({{ instant }} as date) as timestamp_ntz) = {{ instant }} then cast({{ instant }} as date) end
    {%- elif (has, to) == ('text', 'date') -%}
        case when {{ x ~ " = regexp_extract(" ~ x ~ ", '[0-9]{4}-[0-9]{2}-[0-9]{2}', 0)" }} and {{ x }} not like '0000%' then {{ cast }} end
    {%- elif to == 'timestamp' and has in ('timestamp', 'date', 'text') -%}
        {%- if has != 'text' -%}
            {%- set instant = feature_store._instant(x, given) -%}
        {%- else -%}
            {%- set day = '[0-9]{4}-[0-9]{2}-[0-9]{2}' -%}
            {%- set time = day ~ '[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?' -%}
            {%- set zone = "regexp_replace(" ~ x ~ ", '([+-][0-9]{2})$', '$1:00')" -%}
            {%- set instant -%}
        case
            when {{ x }} like '0000%' then null
            when {{ x ~ " = regexp_extract(" ~ x ~ ", '^(" ~ time ~ '|' ~ day ~ ")$', 0)" }} then try_cast({{ x }} as timestamp_ntz)
            when {{ x ~ " = regexp_extract(" ~ x ~ ", '^" ~ time ~ "(Z|[+-][0-9]{2}(:[0-9]{2})?)$', 0)" }}
                then {{ feature_store.spark___instant('try_cast(' ~ zone ~ ' as timestamp)', 'timestamp') }}
        end
            {%- endset -%}
        {%- endif -%}
        {{ feature_store.spark___zoned('(' ~ instant ~ ')') if feature_store._is_zoned(wanted) else instant }}
    {%- elif (has, to) == ('text', 'binary') -%}
        cast({{ x }} as binary)
    {%- elif has == to -%}
        {{ x }}
    {%- else -%}
        cast(null as {{ wanted }})
    {%- endif -%}
{%- endmacro %}


{#-- integer, decimal, float, text, boolean, date, timestamp, binary, or other (a list, a struct). --#}
{% macro spark___key_kind(data_type) %}
    {%- set type = data_type | lower -%}
    {%- set kind = 'binary' if type == 'binary' else feature_store._feature_kind(type).kind -%}
    {%- do return('other' if kind == 'list' else kind) -%}
{% endmacro %}
