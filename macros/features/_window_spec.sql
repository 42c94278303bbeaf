{#-- Reads and checks what a window macro is given, once, into plain data that the SQL below is written from:
       {relation, entities, key_columns, event, event_type, known, windows, longest, aggregates, values, outputs}
     `entities` are quoted names; `event` and `known` (none without a load time) are SQL for instants; `windows` are durations;
     `values` are the expressions the events bring along, each once; `outputs` has one entry a column, in their order. --#}
{% macro _window_spec(macro_name, relation, entities, timestamp, aggregates, windows, created_timestamp) %}
    {%- set columns = feature_store._columns(feature_store._history(relation) if relation is string else relation) -%}
    {%- set entities = [entities] if entities is string else entities -%}
    {%- if not entities or entities is mapping or entities is not sequence or entities | reject('string') | list
            or entities | unique | list | length != entities | length -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ': entities is ' ~ entities ~ '; give one column name, or a list of different ones.'
        ) -%}
    {%- endif -%}
    {%- set from_events = feature_store._from(feature_store._history(relation), '_fs_source') -%}
    {%- do feature_store._check_reserved_names(columns, macro_name ~ ': the relation of the events') -%}
    {%- for name in entities if name | lower == 'event_timestamp' or (name | lower).startswith('_fs_') -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": the key '" ~ name ~ "' has " ~ ('the name of the column of moments' if name | lower == 'event_timestamp'
            else "a name that is kept for the store's own fields (they begin with _fs_)") ~ ': rename it.'
        ) -%}
    {%- endfor -%}
    {%- set found = {} -%}
    {%- for name in entities + [timestamp] + ([created_timestamp] if created_timestamp else []) -%}
        {%- set column = feature_store._column(columns, name) -%}
        {%- if columns and column is none -%}
            {%- do exceptions.raise_compiler_error(
                macro_name ~ ": there is no column '" ~ name ~ "' in " ~ relation ~ '; it has: '
                ~ columns | map(attribute='name') | join(', ') ~ '.'
            ) -%}
        {%- endif -%}
        {%- do found.update({name: column or {'name': name, 'type': none}}) -%}
    {%- endfor -%}

    {%- set durations = feature_store._window_durations(macro_name, windows) -%}
    {%- set aggregates = feature_store._window_functions(macro_name, aggregates) -%}
    {%- set outputs = {} -%}
    {%- for name in entities + ['event_timestamp'] -%}
        {%- do outputs.update({name | lower: none}) -%}
    {%- endfor -%}
    {%- for aggregate in aggregates -%}
        {%- for window in durations -%}
            {%- set column = aggregate.name ~ '_' ~ window.slug -%}
            {%- if column | lower in outputs -%}
                {%- do exceptions.raise_compiler_error(
                    macro_name ~ ": two columns would be called '" ~ column ~ "'; give each aggregate a name of its own."
                ) -%}
            {%- endif -%}
            {%- do outputs.update({column | lower: {'column': column, 'aggregate': aggregate, 'window': window}}) -%}
        {%- endfor -%}
    {%- endfor -%}

    {%- set window_of = {} -%}
    {%- for window in durations -%}
        {%- do window_of.update({window.slug: window}) -%}
    {%- endfor -%}
    {%- set values = feature_store._window_values(macro_name, relation, from_events, columns, aggregates) -%}
    {%- set keys = [] -%}
    {%- set key_columns = [] -%}
    {%- for name in entities -%}
        {%- do key_columns.append(found[name]) -%}
        {%- do keys.append(feature_store._quoted(found[name].name)) -%}
    {%- endfor -%}
    {%- set event = found[timestamp] -%}
    {%- set known = found[created_timestamp] if created_timestamp else none -%}
    {%- do return({
        'relation': from_events,
        'names': entities,
        'entities': keys,
        'key_columns': key_columns,
        'event': feature_store._instant(feature_store._quoted(event.name), event.type),
        'event_type': event.type or '',
        'known': feature_store._instant(feature_store._quoted(known.name), known.type) if known else none,
        'created': known.name if known else none,
        'windows': durations,
        'window_of': window_of,
        'longest': durations | sort(attribute='seconds') | last,
        'aggregates': aggregates,
        'values': values,
        'outputs': outputs.values() | select | list,
    }) -%}
{% endmacro %}


{% macro _window_durations(macro_name, windows) %}
    {%- set windows = [windows] if windows is string else windows -%}
    {%- if not windows or windows is mapping or windows is not sequence -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": windows is " ~ windows ~ "; list one or more durations, for example ['7 days', '30 days']."
        ) -%}
    {%- endif -%}
    {%- set durations = [] -%}
    {%- for window in windows -%}
        {%- set duration = feature_store._duration(window, macro_name ~ ': a window') -%}
        {%- if duration.slug in durations | map(attribute='slug') -%}
            {%- do exceptions.raise_compiler_error(macro_name ~ ": the window '" ~ duration.text ~ "' stands twice in windows.") -%}
        {%- endif -%}
        {%- do durations.append(duration) -%}
    {%- endfor -%}
    {%- do return(durations) -%}
{% endmacro %}


{% macro _window_functions(macro_name, aggregates) %}
    {%- set functions = ['count', 'count_distinct', 'sum', 'avg', 'min', 'max', 'stddev', 'variance', 'first', 'last'] -%}
    {%- if not aggregates or aggregates is string or aggregates is mapping or aggregates is not sequence -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": aggregates is empty or not a list; write for example [{'name': 'purchases', 'function': 'count'}]."
        ) -%}
    {%- endif -%}
    {%- set checked = [] -%}
    {%- for aggregate in aggregates -%}
        {%- set where = macro_name ~ ': aggregate ' ~ loop.index -%}
        {%- if aggregate is not mapping or not aggregate.name or aggregate.name is not string -%}
            {%- do exceptions.raise_compiler_error(where ~ " has no name; write {'name': ..., 'function': ...}.") -%}
        {%- endif -%}
        {%- set where = macro_name ~ ": aggregate '" ~ aggregate.name ~ "'" -%}
        {%- if not aggregate.function -%}
            {%- do exceptions.raise_compiler_error(where ~ ' has no function; the functions are ' ~ functions | join(', ') ~ '.') -%}
        {%- elif aggregate.function not in functions -%}
            {%- do exceptions.raise_compiler_error(
                where ~ " has the unknown function '" ~ aggregate.function ~ "'; the functions are " ~ functions | join(', ') ~ '.'
            ) -%}
        {%- elif aggregate.function != 'count' and aggregate.expression is not defined -%}
            {%- do exceptions.raise_compiler_error(
                where ~ ' has no expression; ' ~ aggregate.function ~ ' needs one, only count can go without.'
            ) -%}
        {%- endif -%}
        {%- for key in aggregate if key not in ('name', 'function', 'expression', 'where') -%}
            {%- do exceptions.raise_compiler_error(
                where ~ " has the unknown key '" ~ key ~ "'; its keys are name, function, expression and where."
            ) -%}
        {%- endfor -%}
        {%- for key in ('expression', 'where') if aggregate[key] is defined
                and (aggregate[key] is not string or not aggregate[key].strip()) -%}
            {%- do exceptions.raise_compiler_error(where ~ ': ' ~ key ~ ' is ' ~ aggregate[key] ~ '; write SQL text, or leave it out.') -%}
        {%- endfor -%}
        {%- if (aggregate.name | lower).startswith('_fs_') -%}
            {%- do exceptions.raise_compiler_error(
                where ~ " has a name that begins with _fs_, which is kept for the store's own fields: rename it."
            ) -%}
        {%- endif -%}
        {%- if aggregate.name | lower in checked | map(attribute='name') | map('lower') -%}
            {%- do exceptions.raise_compiler_error(where ~ ' stands twice; give each aggregate a name of its own.') -%}
        {%- endif -%}
        {%- set aggregate = dict(aggregate) -%}
        {%- for key in ('expression', 'where') if aggregate[key] is defined -%}
            {%- do aggregate.update({key: feature_store._expression(aggregate[key], where ~ ': ' ~ key)}) -%}
        {%- endfor -%}
        {%- do checked.append(aggregate) -%}
    {%- endfor -%}
    {%- do return(checked) -%}
{% endmacro %}


{#-- The expressions the events bring along, each once, as [{column, called, sql, type}]; every aggregate learns the column of its own
     (`value`), what the names of all that is made from it end in (`of`), and for first and last, to which a NULL is a value, the column
     that says whether an event takes part (`taken`) and the one of its place (`place`). --#}
{% macro _window_values(macro_name, relation, from_events, columns, aggregates) %}
    {%- set values = {} -%}
    {%- set called = [] -%}
    {%- set places = {} -%}
    {%- for aggregate in aggregates -%}
        {%- set ordered = aggregate.function in ('first', 'last') -%}
        {%- for key in ['value', 'taken'] if key == 'value' or ordered -%}
            {%- set expression = aggregate.expression if key == 'value' and aggregate.expression is defined else '1' -%}
            {%- set sql = 'case when ' ~ aggregate.where ~ ' then ' ~ expression ~ ' end' if aggregate.where is defined else expression -%}
            {%- if sql not in values -%}
                {#- Called after the column, or else after the first aggregate that it is for; not too long for any warehouse. -#}
                {%- set name = aggregate.name ~ ('_rows' if key == 'taken' else '') if aggregate.where is defined
                    else 'rows' if expression == '1' else expression if expression.isidentifier() else aggregate.name -%}
                {%- do called.append(feature_store._slug(name[:36], called)) -%}
                {%- do values.update({sql: {
                    'column': '_fs_value_of_' ~ called[-1], 'called': called[-1], 'sql': sql, 'expression': expression
                }}) -%}
            {%- endif -%}
            {%- do aggregate.update({key: values[sql].column}) -%}
            {%- if key == 'value' -%}
                {%- do aggregate.update({'called': values[sql].called, 'of': '_of_' ~ values[sql].called}) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if ordered -%}
            {%- set key = aggregate.function ~ ' ' ~ aggregate.value ~ ' ' ~ aggregate.taken -%}
            {%- do places.setdefault(key, feature_store._slug(aggregate.function ~ aggregate.of, places.values() | list)) -%}
            {%- do aggregate.update({'place': '_fs_' ~ places[key]}) -%}
        {%- endif -%}
    {%- endfor -%}
    {#- A bare word that is no column would be the warehouse's to find, in its own many lines; say it here. -#}
    {%- for aggregate in aggregates if columns and aggregate.expression is defined and aggregate.expression.isidentifier()
            and aggregate.expression | lower not in ('true', 'false', 'current_date', 'current_timestamp')
            and feature_store._column(columns, aggregate.expression) is none -%}
        {%- do exceptions.raise_compiler_error(
            macro_name ~ ": aggregate '" ~ aggregate.name ~ "': there is no column '" ~ aggregate.expression ~ "' in " ~ relation
            ~ '; it has: ' ~ columns | map(attribute='name') | join(', ') ~ '.'
        ) -%}
    {%- endfor -%}
    {%- set types = feature_store._expression_types(from_events, columns, values.values() | list) -%}
    {%- for value in values.values() -%}
        {%- do value.update({'type': types[value.column]}) -%}
    {%- endfor -%}
    {%- set exact = adapter.dispatch('_exact_numbers', 'feature_store')() -%}
    {%- for aggregate in aggregates -%}
        {%- set kind = feature_store._number_kind(types[aggregate.value]) -%}
        {%- set kind = kind if exact.wide else kind.replace('wide ', '') -%}
        {%- set spread = aggregate.function in ('stddev', 'variance') and kind not in ('other', 'unknown') and exact.spreads -%}
        {%- set total = aggregate.function in ('sum', 'avg') and kind not in ('other', 'unknown') and (kind != 'double' or exact.sums) -%}
        {%- do aggregate.update({
            'type': types[aggregate.value] or '',
            'kind': kind,
            'spread': spread,
            'scaled': kind == 'double' and total or kind in ('double', 'wide integer', 'wide decimal') and spread,
            'subtracts': aggregate.function in ('count', 'count_distinct') or total or spread,
        }) -%}
    {%- endfor -%}
    {%- do return(values.values() | list) -%}
{% endmacro %}


{#-- {value column: data type}, as far as it can be known before the SQL runs: of a column from the catalogue, of an expression
     from the warehouse, which is asked for the type of no rows at all. --#}
{% macro _expression_types(relation, columns, values) %}
    {%- set types = {} -%}
    {%- set unknown = [] -%}
    {%- for value in values -%}
        {%- set column = feature_store._column(columns, value.expression.strip('"')) -%}
        {%- do types.update({value.column: column.type if column else none}) -%}
        {%- if column is none -%}
            {%- do unknown.append(value) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if execute and columns and unknown -%}
        {%- set probe -%}
            select {% for value in unknown %}{{ value.sql }} as {{ value.column }}{{ ', ' if not loop.last }}{% endfor %}
            from {{ relation }}
        {%- endset -%}
        {%- do types.update(adapter.dispatch('_types_of_query', 'feature_store')(probe, unknown | map(attribute='column') | list)) -%}
    {%- endif -%}
    {%- do return(types) -%}
{% endmacro %}


{#-- What can be added up exactly: sums of doubles, spreads, numbers beyond 64 bits or 28 digits (see _window_amounts.sql). What cannot
     is left to the warehouse's own functions. --#}
{% macro default___exact_numbers() %}
    {%- do return({'sums': false, 'spreads': false, 'wide': false}) -%}
{% endmacro %}

{% macro duckdb___exact_numbers() %}
    {%- do return({'sums': true, 'spreads': true, 'wide': true}) -%}
{% endmacro %}

{% macro postgres___exact_numbers() %}
    {%- do return({'sums': true, 'spreads': true, 'wide': true}) -%}
{% endmacro %}

{% macro spark___exact_numbers() %}
    {%- do return({'sums': true, 'spreads': false, 'wide': false}) -%}
{% endmacro %}
