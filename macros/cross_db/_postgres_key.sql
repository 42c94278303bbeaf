{#-- The casts of join keys on PostgreSQL (see _key.sql), which has no cast that may fail: what would fail is looked at before. The tests
     stand in CASEs, one inside the other, because AND evaluates in any order. --#}
{% macro postgres___key(expression, given, wanted) -%}
    {%- set to = feature_store.postgres___key_kind(wanted) -%}
    {%- set has = feature_store.postgres___key_kind(given) if given else 'unknown' -%}
    {%- set x = expression -%}
    {%- if has == 'unknown' and to != 'other' -%}
        {%- set x, has = 'cast(' ~ x ~ ' as text)', 'text' -%}
    {%- elif has == 'binary' and to not in ('uuid', 'binary', 'other') -%}
        {#- Bytes that are no text stop the query: there is no way to ask before. -#}
        {%- set x, has = 'convert_from(' ~ x ~ ", 'UTF8')", 'text' -%}
    {%- endif -%}
    {%- set cast = 'cast(' ~ x ~ ' as ' ~ wanted ~ ')' -%}
    {%- set range = feature_store.postgres___key_range(wanted) -%}

    {%- if to == 'other' and has in ('other', 'unknown') -%}
        {{ expression }}
    {%- elif to == 'other' -%}
        {#- An enum, say: it can only be compared as itself. -#}
        {{ cast }}
    {%- elif to == 'text' and has in ('text', 'integer', 'decimal', 'boolean', 'date', 'uuid') -%}
        cast({{ x }} as text)
    {%- elif to == 'text' and has == 'float' -%}
        case when {{ x }} = trunc({{ x }}) and abs({{ x }}) < 9007199254740992 then cast(cast({{ x }} as bigint) as text) end
    {%- elif to == 'integer' and has in ('integer', 'decimal', 'float') -%}
        case when {{ x }} = trunc({{ x }}) and {{ range.replace('?', x) }} then {{ cast }} end
    {%- elif to == 'integer' and has == 'text' -%}
        case when {{ x }} ~ '^-?[0-9]{1,40}$' then
            case when {{ range.replace('?', 'cast(' ~ x ~ ' as numeric)') }} then {{ cast }} end
        end
    {%- elif to == 'decimal' and has in ('integer', 'decimal', 'float') -%}
        {#- A float's own cast keeps 15 digits of it. -#}
        {%- set number = 'cast(cast(' ~ x ~ ' as text) as numeric)' if has == 'float' else x -%}
        case when {{ range.replace('?', x) }} then
            case when cast({{ number }} as {{ wanted }}) = {{ number }} then cast({{ number }} as {{ wanted }}) end
        end
    {%- elif to == 'decimal' and has == 'text' -%}
        case when {{ x }} ~ '^-?[0-9]{1,40}([.][0-9]{1,40})?$' then
            case when {{ range.replace('?', 'cast(' ~ x ~ ' as numeric)') }} then
                case when {{ cast }} = cast({{ x }} as numeric) then {{ cast }} end
            end
        end
    {%- elif to == 'float' and has == 'float' -%}
        {#- NaN and the infinities are the same in both. -#}
        case when {{ range.replace('?', x) }} or abs({{ x }}) >= 'Infinity' then
            case when {{ cast }} = {{ x }} then {{ cast }} end
        end
    {%- elif to == 'float' and has in ('integer', 'decimal') -%}
        {#- A whole number beyond 17 digits is a double here only by chance, and is not looked for. -#}
        case when cast(cast({{ cast }} as text) as numeric) = {{ x }} then {{ cast }} end
    {%- elif to == 'float' and has == 'text' -%}
        case when {{ x }} ~ '^-?[0-9]{1,255}([.][0-9]{1,255})?([eE][+-]?[0-9]{1,3})?$' then
            case when {{ range.replace('?', 'cast(' ~ x ~ ' as numeric)') }} then {{ cast }} end
        end
    {%- elif (has, to) == ('text', 'boolean') -%}
        case lower({{ x }}) when 'true' then true when 'false' then false end
    {%- elif (has, to) == ('timestamp', 'date') -%}
        {%- set instant = feature_store._instant(x, given) -%}
        case when {{ instant }} = date_trunc('day', {{ instant }}) then cast({{ instant }} as date) end
    {%- elif (has, to) == ('text', 'date') -%}
        case when {{ x }} ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then
            {{ feature_store.postgres___day_exists(x, cast) }}
        end
    {%- elif to == 'timestamp' and has in ('timestamp', 'date', 'text') -%}
        {%- set zone = " at time zone 'UTC'" if feature_store._is_zoned(wanted) -%}
        {%- if has != 'text' -%}
        {{ feature_store._instant(x, given) }}{{ zone }}
        {%- else -%}
        {%- set time = '[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?' -%}
        {%- set zoned = '(cast(' ~ x ~ " as timestamp with time zone) at time zone 'UTC')" -%}
        (case
            when {{ x }} ~ '^([0-9]{4}-[0-9]{2}-[0-9]{2}|{{ time }})$' then
                {{ feature_store.postgres___day_exists(x, 'cast(' ~ x ~ ' as timestamp without time zone)') }}
            when {{ x }} ~ '^{{ time }}(Z|[+-](0[0-9]|1[0-4])(:[0-5][0-9])?)$' then
                {{ feature_store.postgres___day_exists(x, zoned) }}
        end){{ zone }}
        {%- endif -%}
    {%- elif (has, to) == ('text', 'uuid') -%}
        {%- set digits = '[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32}' -%}
        case when {{ x }} ~ '^({{ digits }}|[{]({{ digits }})[}])$' then {{ cast }} end
    {%- elif (has, to) == ('binary', 'uuid') -%}
        case when octet_length({{ x }}) = 16 then cast(encode({{ x }}, 'hex') as uuid) end
    {%- elif (has, to) == ('text', 'binary') -%}
        convert_to({{ x }}, 'UTF8')
    {%- elif has == to -%}
        {{ x }}
    {%- else -%}
        cast(null as {{ wanted }})
    {%- endif -%}
{%- endmacro %}


{#-- `value` where the day that a text begins with is one of the calendar, since the year 1. --#}
{% macro postgres___day_exists(text, value) -%}
    case when left({{ text }}, 4) <> '0000' and substr({{ text }}, 6, 2) between '01' and '12' then
                case
                    when cast(substr({{ text }}, 9, 2) as integer) between 1 and extract(
                        day from cast(left({{ text }}, 7) || '-01' as date) + interval '1 month' - interval '1 day'
                    ) then {{ value }}
                end
            end
{%- endmacro %}


{#-- The condition that a number `?` is within a type. --#}
{% macro postgres___key_range(wanted) %}
    {%- set type = wanted | lower -%}
    {%- set bits = {'smallint': '32768', 'integer': '2147483648', 'bigint': '9223372036854775808'}.get(type) -%}
    {%- if bits -%}
        {%- do return('? >= -' ~ bits ~ '\n                and ? < ' ~ bits) -%}
    {%- elif type == 'real' -%}
        {%- do return('(? = 0 or abs(?) between 1e-37 and 3.4e38)') -%}
    {%- elif type == 'double precision' -%}
        {%- do return('(? = 0 or abs(?) between 1e-307 and 1.79e308)') -%}
    {%- elif '(' in type -%}
        {%- set digits, places = type.split('(')[1].strip(')').split(',') -%}
        {%- set most = '1e' ~ (digits | int - places | int) -%}
        {%- do return('? > -' ~ most ~ ' and ? < ' ~ most) -%}
    {%- endif -%}
    {%- do return("? > cast('-Infinity' as numeric) and ? < cast('Infinity' as numeric)") -%}
{% endmacro %}


{#-- integer, decimal, float, text, boolean, date, timestamp, uuid, binary, or other (an enum, a list). --#}
{% macro postgres___key_kind(data_type) %}
    {%- set type = data_type | lower -%}
    {%- if type == 'bytea' -%}
        {%- do return('binary') -%}
    {%- elif type in ('json', 'jsonb') -%}
        {%- do return('other') -%}
    {%- endif -%}
    {%- set kind = feature_store._feature_kind(type).kind -%}
    {%- do return('uuid' if type == 'uuid' else 'other' if kind == 'list' else kind) -%}
{% endmacro %}
