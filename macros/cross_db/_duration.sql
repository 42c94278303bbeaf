{#-- '7 days' -> {text, amount, unit, seconds, slug}. The grammar is the Python package's too (materializer/project/duration.py);
     one list of cases tests both. `what` names the setting in the error,
     `or_zero` what else it says of a setting that may be 0. --#}
{% macro _duration(text, what, or_zero='') %}
    {%- set units = {'second': 1, 'minute': 60, 'hour': 3600, 'day': 86400, 'week': 604800} -%}
    {%- set words = text.split() if text is string else [] -%}
    {%- set unit = words[1][:-1] if words | length == 2 and words[1].endswith('s') else words[1] if words | length == 2 else '' -%}
    {%- if unit not in units or not (words[0].isdecimal() and words[0].isascii()) or words[0] | int < 1 -%}
        {%- do exceptions.raise_compiler_error(
            what ~ ' is ' ~ feature_store._shown(text) ~ ', which is ' ~ ('neither a duration nor 0' if or_zero else 'not a duration')
            ~ ": write a whole number above zero and a unit (second, minute, hour, day or week), for example '7 days'" ~ or_zero ~ '.'
        ) -%}
    {%- endif -%}
    {%- set amount = words[0] | int -%}
    {#- What Python's timedelta holds. -#}
    {%- if amount * units[unit] > 86399999999999 -%}
        {%- do exceptions.raise_compiler_error(what ~ " is '" ~ text ~ "', which is longer than time itself goes here.") -%}
    {%- endif -%}
    {%- do return({
        'text': amount ~ ' ' ~ unit ~ ('' if amount == 1 else 's'),
        'amount': amount,
        'unit': unit,
        'seconds': amount * units[unit],
        'slug': amount ~ unit[0],
    }) -%}
{% endmacro %}


{#-- How far ahead rows are sent online, in seconds: a duration of at most a year, or 0 for not at all. --#}
{% macro _ahead(value, what) %}
    {%- if value is not boolean and value | string | trim == '0' -%}
        {%- do return(0) -%}
    {%- endif -%}
    {%- set seconds = feature_store._duration(value, what, or_zero=", or 0 for not at all").seconds -%}
    {%- if seconds > 365 * 86400 -%}
        {%- do exceptions.raise_compiler_error(what ~ " is '" ~ value ~ "', which is more than a year: give it 365 days or less, or 0.") -%}
    {%- endif -%}
    {%- do return(seconds) -%}
{% endmacro %}
