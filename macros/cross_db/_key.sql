{#-- A join key of the spine in the type that the view's key has, so that one entity is one entity however its key is typed. What is not
     exactly a value of that type becomes NULL and matches nothing: 1.5 or 'abc' for an integer. Text that spells a number is that number,
     and a number is the text that it prints as, so 7 is '7' and not '007'. The Python package's rules are the same
     (materializer/warehouse/join_keys.py); one table of cases tests both.

     `given` is the type in the spine, none where it cannot be known; `wanted` the view's, none while it is not built. Where nothing has
     to be done the expression comes back as it is. --#}
{% macro _key(expression, given, wanted) %}
    {%- if not wanted or (given or '') | upper == wanted | upper -%}
        {%- do return(expression) -%}
    {%- endif -%}
    {%- do return(adapter.dispatch('_key', 'feature_store')(expression, given, wanted) | trim) -%}
{% endmacro %}

{#-- Where a cast that fails cannot be asked for, the warehouse itself refuses what does not fit. --#}
{% macro default___key(expression, given, wanted) -%}
    cast({{ expression }} as {{ wanted }})
{%- endmacro %}

{% macro duckdb___key(expression, given, wanted) -%}
    {%- set to = feature_store._key_kind(wanted) -%}
    {%- set has = feature_store._key_kind(given) if given else 'unknown' -%}
    {%- set x = expression -%}
    {%- if has == 'binary' and not (to in ('uuid', 'binary')) -%}
        {%- set x, has = 'try(decode(' ~ x ~ '))', 'text' -%}
    {%- endif -%}
    {%- set cast = 'try_cast(' ~ x ~ ' as ' ~ wanted ~ ')' -%}

    {%- if to == 'other' and has in ('other', 'unknown') or (has, to) == ('text', 'enum') -%}
        {{ expression }}
    {%- elif wanted | upper == 'JSON' -%}
        {#- Text beside JSON is read as JSON, and what is none would stop the query. -#}
        try_cast({{ feature_store._key(expression, given, 'VARCHAR') }} as json)
    {%- elif has == 'unknown' and to in ('text', 'enum') -%}
        cast({{ x }} as varchar)
    {%- elif has == 'unknown' -%}
        {#- The warehouse knows the type when it runs; what is not of the kind that is wanted goes by its text. -#}
        {%- set same = feature_store._integer_types() if to == 'integer' else [wanted | upper] -%}
        case
            when typeof({{ x }}) in ('{{ same | join("', '") }}') then {{ cast }}
            else {{ feature_store._key('cast(' ~ x ~ ' as varchar)', 'VARCHAR', wanted) }}
        end
    {%- elif has == 'null' or (has, to) in (('integer', 'integer'), ('integer', 'decimal')) -%}
        {{ cast }}
    {%- elif to in ('text', 'enum') and has in ('text', 'enum', 'integer', 'decimal', 'boolean', 'date', 'uuid') -%}
        cast({{ x }} as varchar)
    {%- elif to in ('text', 'enum') and has == 'float' -%}
        case when {{ x }} = trunc({{ x }}) and abs({{ x }}) < 9007199254740992 then cast(cast({{ x }} as bigint) as varchar) end
    {%- elif to == 'integer' and has in ('decimal', 'float') -%}
        case when {{ x }} = trunc({{ x }}) then {{ cast }} end
    {%- elif to == 'integer' and has == 'text' -%}
        case when regexp_full_match({{ x }}, '-?[0-9]+') then {{ cast }} end
    {%- elif to == 'decimal' and has == 'float' or to == 'float' and has in ('integer', 'decimal', 'float') -%}
        case when try_cast({{ cast }} as {{ given }}) = {{ x }} then {{ cast }} end
    {%- elif to == 'decimal' and has in ('decimal', 'text') -%}
        {%- set scale = wanted.split(',')[1].strip(' )') | int -%}
        {%- set digits = '-?[0-9]+([.](0+' ~ ('|[0-9]{1,' ~ scale ~ '}0*' if scale else '') ~ '))?' -%}
        case when regexp_full_match(cast({{ x }} as varchar), '{{ digits }}') then {{ cast }} end
    {%- elif to == 'float' and has == 'text' -%}
        case when regexp_full_match({{ x }}, '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?') then {{ cast }} end
    {%- elif (has, to) == ('text', 'boolean') -%}
        case lower({{ x }}) when 'true' then true when 'false' then false end
    {%- elif (has, to) == ('timestamp', 'date') -%}
        {%- set instant = feature_store._instant(x, given) -%}
        case when {{ instant }} = date_trunc('day', {{ instant }}) then cast({{ instant }} as date) end
    {%- elif (has, to) == ('text', 'date') -%}
        case when regexp_full_match({{ x }}, '[0-9]{4}-[0-9]{2}-[0-9]{2}') then {{ cast }} end
    {%- elif to == 'timestamp' and has in ('timestamp', 'date', 'text') -%}
        {%- set utc = " at time zone 'UTC'" if feature_store._is_zoned(wanted) -%}
        {%- if has == 'timestamp' -%}
        {{ feature_store._instant(x, given) }}{{ utc }}
        {%- elif has == 'date' -%}
        cast({{ x }} as timestamp){{ utc }}
        {%- else -%}
        {%- set time = '[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?' -%}
        (case
            when regexp_full_match({{ x }}, '[0-9]{4}-[0-9]{2}-[0-9]{2}|{{ time }}') then try_cast({{ x }} as timestamp)
            when regexp_full_match({{ x }}, '{{ time }}(Z|[+-][0-9]{2}(:[0-9]{2})?)')
                then make_timestamp(epoch_us(try_cast({{ x }} as timestamptz)))
        end){{ utc }}
        {%- endif -%}
    {%- elif to == 'uuid' and has == 'text' -%}
        {{ feature_store._uuid_of_text(x) }}
    {%- elif to == 'uuid' and has == 'binary' -%}
        case when octet_length({{ x }}) = 16 then {{ cast }} else {{ feature_store._uuid_of_text('try(decode(' ~ x ~ '))') }} end
    {%- elif (has, to) == ('text', 'binary') -%}
        encode({{ x }})
    {%- else -%}
        cast(null as {{ wanted }})
    {%- endif -%}
{%- endmacro %}


{#-- With dashes or without, in braces or not, in any case. --#}
{% macro _uuid_of_text(x) -%}
    {%- set digits = '[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32}' -%}
    case when regexp_full_match({{ x }}, '{{ digits }}|[{]({{ digits }})[}]') then try_cast({{ x }} as uuid) end
{%- endmacro %}


{#-- integer, decimal, float, text, enum, boolean, date, timestamp, uuid, binary, null, or other. --#}
{% macro _key_kind(data_type) %}
    {%- set type = data_type | upper -%}
    {%- if type in feature_store._integer_types() -%}
        {%- do return('integer') -%}
    {%- elif type.endswith(']') -%}
        {%- do return('other') -%}
    {%- elif type.startswith('DECIMAL(') -%}
        {%- do return('decimal') -%}
    {%- elif type in ('FLOAT', 'DOUBLE') -%}
        {%- do return('float') -%}
    {%- elif type in ('VARCHAR', 'JSON') -%}
        {%- do return('text') -%}
    {%- elif type.startswith('ENUM(') -%}
        {%- do return('enum') -%}
    {%- elif type.startswith('TIMESTAMP') -%}
        {%- do return('timestamp') -%}
    {%- endif -%}
    {%- do return({'BOOLEAN': 'boolean', 'DATE': 'date', 'UUID': 'uuid', 'BLOB': 'binary', '"NULL"': 'null'}.get(type, 'other')) -%}
{% endmacro %}


{% macro _integer_types() %}
    {%- do return(['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT', 'UHUGEINT']) -%}
{% endmacro %}
