{#-- What a column of a window macro is, as the comment beside it in the last SELECT. This is the one place that states the format; people
     read it, and so do lineage, diff and lint (see "Reading the SQL" in docs/windows.md):

       <function>(<expression>) filter (where <condition>) over <duration> up to <column>, known from <column>

     `*` stands for no expression. `filter (where ...)` is there with a `where`; `up to`, or `before` where exact matches do not count,
     names the spine's moments in `aggregate_as_of`; `known from` names the load time. Expression and condition are as the user wrote
     them, but for their comments. A backslash is written `\\`, `*/` is `*\/` and `/*` is `/\*`, so that no text can end the comment
     or open another. --#}
{% macro _window_meaning(spec, output) -%}
    {%- set aggregate = output.aggregate -%}
    {%- set text = aggregate.function ~ '(' ~ (aggregate.expression if aggregate.expression is defined else '*') ~ ')'
        ~ (' filter (where ' ~ aggregate.where ~ ')' if aggregate.where is defined else '')
        ~ ' over ' ~ output.window.text
        ~ (' ' ~ ('before' if spec.strictly_before else 'up to') ~ ' ' ~ feature_store._quoted(spec.moment) if spec.moment else '')
        ~ (', known from ' ~ feature_store._quoted(spec.created) if spec.created else '') -%}
    {{- feature_store._comment(text) -}}
{%- endmacro %}

{#-- When a windowed view has rows, beside its `event_timestamp`: `a row at each change`, `a row at each event`,
     `a row every <duration>`. --#}
{% macro _grain_meaning(grain) -%}
    {{- feature_store._comment('a row every ' ~ grain.step.text if grain.step else 'a row at each ' ~ grain.name) -}}
{%- endmacro %}

{% macro _comment(text) -%}
    /* {{ text.replace('\\', '\\\\').replace('*/', '*\\/').replace('/*', '/\\*') }} */
{%- endmacro %}
