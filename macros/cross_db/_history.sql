{#-- A relation whose past is looked back on, as it is written after FROM. In a microbatch dbt lets a model see only those rows of a
     relation with `event_time` that lie in its batch; a window or a point-in-time join reads all that came before, too. What `--empty` and
     `--sample` leave of the relation holds here as well. --#}
{% macro _history(relation) %}
    {%- if not execute or model is not defined or not model.batch -%}
        {%- do return(relation) -%}
    {%- elif relation is string -%}
        {%- do return(feature_store._text_without_batch(relation)) -%}
    {%- elif not relation.event_time_filter -%}
        {%- do return(relation) -%}
    {%- endif -%}
    {%- set sample = invocation_args_dict.sample if invocation_args_dict is defined else none -%}
    {%- if sample -%}
        {%- set field = relation.event_time_filter.field_name -%}
        {%- set sampled = field ~ " >= '" ~ sample.start ~ "' and " ~ field ~ " < '" ~ sample.end ~ "'" -%}
        {%- do return('(select * from ' ~ relation.render_limited() ~ ' where ' ~ sampled ~ ')') -%}
    {%- endif -%}
    {%- do return(relation.render_limited()) -%}
{% endmacro %}


{#-- In a query given as text the filter of the batch is text as well, of dbt's making:
     "(select * from ... where <event_time> >= '<start>' and <event_time> < '<end>')". --#}
{% macro _text_without_batch(text) %}
    {%- set first = model.batch.event_time_start ~ '' -%}
    {%- set last = model.batch.event_time_end ~ '' -%}
    {%- set whole = namespace(text=text) -%}
    {%- for unique_id in model.depends_on.nodes -%}
        {%- set field = ((graph.nodes.get(unique_id) or graph.sources.get(unique_id) or {}).config or {}).get('event_time') -%}
        {%- for name in [field, feature_store._quoted(field)] if field -%}
            {%- set whole.text = whole.text.replace(' where ' ~ name ~ " >= '" ~ first ~ "' and " ~ name ~ " < '" ~ last ~ "')", ')') -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if "'" ~ first ~ "'" in whole.text -%}
        {%- do exceptions.raise_compiler_error(
            'In a microbatch a query given as text holds the rows of its batch only, and not what its windows look back on:'
            ~ " write ref('...').render() in it."
        ) -%}
    {%- endif -%}
    {%- do return(whole.text) -%}
{% endmacro %}
