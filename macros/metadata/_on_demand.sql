{#-- `on_demand` of a feature view or exposure, checked: {name: {name, description, expression, request, reads, parts}}. `what` names the
     setting in errors, `taken` are names that neither a feature nor a request field may have (in lower case).
     `request` is {field: type}, `reads` are the other columns, `parts` the expression in pieces: {text, column, type}, of which a column
     or a type is written by whoever puts it into SQL. Python asks it too. --#}
{% macro _on_demand_features(declared, what, taken=[]) %}
    {%- if declared is not mapping -%}
        {%- do exceptions.raise_compiler_error(
            what ~ ' is ' ~ feature_store._shown(declared) ~ ': write {name_of_feature: {expression: "...", request: {field: type}}}.'
        ) -%}
    {%- endif -%}
    {%- set found = {} -%}
    {%- for name, feature in declared.items() -%}
        {%- set where = what ~ '.' ~ name -%}
        {%- set problem = feature_store._on_demand_problem(name, feature, taken, declared) -%}
        {%- if problem -%}
            {%- do exceptions.raise_compiler_error(where ~ ' ' ~ problem ~ '.') -%}
        {%- endif -%}
        {%- set request = {} -%}
        {%- for field, type in (feature.request or {}).items() -%}
            {%- do request.update({field: feature_store._on_demand_type(type, where ~ ": request field '" ~ field ~ "'")}) -%}
        {%- endfor -%}
        {%- set fields = request.keys() | map('lower') | list -%}
        {%- set parts = feature_store._on_demand_parts(feature.expression, where) -%}
        {%- set reads, used = {}, [] -%}
        {%- for part in parts if part.column is not none -%}
            {%- do used.append(part.column | lower) -%}
            {%- if part.column | lower not in fields -%}
                {%- do reads.setdefault(part.column | lower, part.column) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- for field in request if field | lower not in used -%}
            {%- do exceptions.raise_compiler_error(where ~ " has a request field '" ~ field ~ "' that its expression does not use.") -%}
        {%- endfor -%}
        {%- do found.update({name: {
            'name': name,
            'description': feature.description or '',
            'expression': feature.expression.strip(),
            'request': request,
            'reads': reads.values() | list,
            'parts': parts,
        }}) -%}
    {%- endfor -%}
    {%- set types = {} -%}
    {%- for feature in found.values() -%}
        {%- for field, type in feature.request.items() if types.setdefault(field | lower, type) != type -%}
            {%- do exceptions.raise_compiler_error(
                what ~ '.' ~ feature.name ~ ": request field '" ~ field ~ "' is " ~ type | lower ~ ' here and '
                ~ types[field | lower] | lower ~ ' in another feature: it comes once, in one type.'
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do return(found) -%}
{% endmacro %}


{#-- What is wrong with a declaration but for its expression and types; none where nothing is. --#}
{% macro _on_demand_problem(name, feature, taken, declared) %}
    {%- set known = ['expression', 'request', 'description'] -%}
    {%- if name is not string or not name or ':' in name or (name | lower).startswith('_fs_') -%}
        {%- do return('has a name that a feature cannot have: no colon, and not _fs_ at its beginning') -%}
    {%- elif name | lower in taken -%}
        {%- do return('has the name of a join key or timestamp of the view: rename it') -%}
    {%- elif feature is not mapping -%}
        {%- do return('is ' ~ feature_store._shown(feature) ~ ': write {expression: "...", request: {field: type}}') -%}
    {%- elif feature.keys() | reject('in', known) | list -%}
        {%- do return("has no key '" ~ feature.keys() | reject('in', known) | first ~ "'; its keys are " ~ known | join(', ')) -%}
    {%- elif feature.expression is not string or not feature.expression.strip() -%}
        {%- do return('has no `expression`: write what it is computed from, as SQL') -%}
    {%- elif feature.description and feature.description is not string -%}
        {%- do return('has a description that is no text') -%}
    {%- elif feature.request and feature.request is not mapping -%}
        {%- do return('has as `request` ' ~ feature_store._shown(feature.request) ~ ': write {field: type}, such as {amount: double}') -%}
    {%- endif -%}
    {%- set names = declared.keys() | map('lower') | list -%}
    {%- for field in feature.request or {} -%}
        {%- if field is not string or not field or ':' in field or (field | lower).startswith('_fs_') -%}
            {%- do return("has a request field '" ~ field ~ "', which no column may be called") -%}
        {%- elif field | lower in taken -%}
            {%- do return("has a request field '" ~ field ~ "', the name of a join key or timestamp of the view: rename it") -%}
        {%- elif field | lower in names -%}
            {%- do return("has a request field '" ~ field ~ "', which is also the name of an on-demand feature: rename it") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(none) -%}
{% endmacro %}


{#-- A type of a request field or of a CAST, as DuckDB calls it. --#}
{% macro _on_demand_type(type, what) %}
    {%- set known = ['bigint', 'integer', 'double', 'decimal(p, s)', 'varchar', 'boolean', 'date', 'timestamp'] -%}
    {%- set plain = (type ~ '') | lower | replace(' ', '') -%}
    {%- set digits = modules.re.findall('^decimal[(]([0-9]{1,2}),([0-9]{1,2})[)]$', plain) -%}
    {%- if digits and 0 < digits[0][0] | int <= 38 and digits[0][1] | int <= digits[0][0] | int -%}
        {%- do return('DECIMAL(' ~ digits[0][0] | int ~ ',' ~ digits[0][1] | int ~ ')') -%}
    {%- elif plain not in known -%}
        {%- do exceptions.raise_compiler_error(what ~ " is of type '" ~ type | trim ~ "'; there are: " ~ known | join(', ') ~ '.') -%}
    {%- endif -%}
    {%- do return(plain | upper) -%}
{% endmacro %}


{#-- An expression in pieces, in order: {text, column, type}: `column` is the name that stands there, `type` that of a CAST. Whatever is no
     word, number, text or operator of the grammar stops it, so that nothing is left that SQL could take for something else: a subquery,
     an aggregate, a window, a clock, a parameter. What the pieces say together Python reads (materializer/project/on_demand.py). --#}
{% macro _on_demand_parts(expression, where) %}
    {%- set functions = [
        'abs', 'asin', 'ceil', 'coalesce', 'cos', 'exp', 'floor', 'greatest', 'least', 'length', 'ln', 'nullif', 'power', 'radians', 'sin',
        'sqrt'
    ] -%}
    {%- set words = ['case', 'when', 'then', 'else', 'end', 'and', 'or', 'not', 'is', 'null', 'true', 'false', 'in', 'between'] -%}
    {%- set operators = ['+', '-', '*', '/', '%', '=', '<', '>', '(', ')', ',', '<=', '>=', '<>', '!=', '||'] -%}
    {%- set text = "'(?:[^']|'')*'" -%}
    {%- set quoted = '"(?:[^"]|"")+"' -%}
    {%- set number = '(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]+)?' -%}
    {%- set others = '--|/[*]|[A-Za-z_][A-Za-z0-9_]*|<=|>=|<>|!=|[|][|]|::|[ \t\r\n]+|(?s:.)' -%}
    {%- set tokens = modules.re.findall([text, quoted, number, others] | join('|'), expression.strip()) -%}
    {%- set parts, before = [], [] -%}
    {%- set s = namespace(type=none, depth=0) -%}
    {%- for token in tokens -%}
        {%- set part = {'text': token, 'column': none, 'type': none} -%}
        {%- set word = token | lower -%}
        {%- set behind = (tokens[loop.index:] | map('trim') | select | first) or '' -%}
        {%- set wrong = none -%}
        {%- if not token.strip() -%}
            {%- do part.update({'text': ' ' if s.type is none else ''}) -%}
        {%- elif s.type is not none and (token not in ('(', ')') or s.depth or token == '(') -%}
            {#- Of a CAST: up to the parenthesis that closes it. -#}
            {%- set s.type = s.type ~ ' ' ~ token -%}
            {%- set s.depth = s.depth + {'(': 1, ')': -1}.get(token, 0) -%}
            {%- do part.update({'text': ''}) -%}
        {%- elif token[0] == "'" and token | length > 1 -%}
            {%- set wrong = 'has a backslash in a text, which engines read differently' if '\\' in token -%}
        {%- elif token[0] == '"' and token | length > 1 -%}
            {%- do part.update({'column': token[1:-1].replace('""', '"')}) -%}
        {%- elif token[0].isdecimal() or token | length > 1 and token[0] == '.' -%}
            {#- A number as it is. -#}
        {%- elif token[0].isalpha() and token.isascii() or token[0] == '_' -%}
            {%- if word == 'as' and 'cast' in before -%}
                {%- set s.type = '' -%}
                {%- set s.depth = 0 -%}
                {%- do part.update({'text': 'as '}) -%}
            {%- elif word in ('cast', 'extract') and behind == '(' or word == 'from' and 'extract' in before -%}
                {#- Words of the two that are written in their own way. -#}
            {%- elif before[-2:] == ['extract', '('] -%}
                {%- set units = ['year', 'quarter', 'month', 'day', 'hour', 'minute', 'isodow', 'epoch'] -%}
                {%- set wrong = "takes '" ~ token ~ "' out of a moment; there are: " ~ units | join(', ') if word not in units -%}
            {%- elif word in words or word in ('date', 'timestamp') and behind[:1] == "'" -%}
                {#- As it is. -#}
            {%- elif behind == '(' -%}
                {%- set known = (functions + ['cast', 'extract']) | sort | join(', ') -%}
                {%- set wrong = "uses '" ~ token ~ "', which is none of its functions: " ~ known if word not in functions -%}
            {%- else -%}
                {%- do part.update({'column': token}) -%}
            {%- endif -%}
        {%- elif token not in operators -%}
            {%- set wrong = "has '" ~ token ~ "', which is not part of it: it is one value made of columns, numbers, texts, operators, "
                ~ 'CASE, CAST and functions' -%}
        {%- endif -%}
        {%- if wrong -%}
            {%- do exceptions.raise_compiler_error(where ~ ': the expression ' ~ wrong ~ '.') -%}
        {%- endif -%}
        {%- if s.type is not none and token == ')' and not part.text == '' -%}
            {%- do parts.append({'text': '', 'column': none, 'type': feature_store._on_demand_type(s.type, where ~ ': a CAST')}) -%}
            {%- set s.type = none -%}
        {%- endif -%}
        {%- do parts.append(part) -%}
        {%- do before.append(word) if token.strip() -%}
    {%- endfor -%}
    {%- do return(parts) -%}
{% endmacro %}


{#-- An on-demand feature's value. Where its expression fails (a number beyond its type) it is NULL, in training as in serving. --#}
{% macro _on_demand_sql(feature, columns) %}
    {%- do return(adapter.dispatch('_on_demand_value', 'feature_store')(feature_store._on_demand_expression(feature, columns))) -%}
{% endmacro %}


{#-- Its expression as SQL, each column as `columns` (by name in lower case) has it, else under its own name. --#}
{% macro _on_demand_expression(feature, columns=none) %}
    {%- set sql = [] -%}
    {%- for part in feature.parts -%}
        {%- do sql.append(
            (columns[part.column | lower] if columns else feature_store._quoted(part.column)) if part.column is not none
            else feature_store._type_of_duckdb(part.type) if part.type
            else adapter.dispatch('_on_demand_division', 'feature_store')() if part.text == '/'
            else part.text
        ) -%}
    {%- endfor -%}
    {%- do return(sql | join | trim) -%}
{% endmacro %}

{% macro default___on_demand_value(sql) %}
    {%- do return('(' ~ sql ~ ')') -%}
{% endmacro %}

{% macro duckdb___on_demand_value(sql) %}
    {%- do return('try(' ~ sql ~ ')') -%}
{% endmacro %}


{#-- Of two integers a double. --#}
{% macro default___on_demand_division() %}
    {%- do return('/') -%}
{% endmacro %}

{% macro postgres___on_demand_division() %}
    {%- do return('* cast(1 as ' ~ feature_store._double() ~ ') /') -%}
{% endmacro %}


{#-- A stored feature as an expression reads it: of few types, the same in training and in serving. None for a type that it cannot
     read. --#}
{% macro _on_demand_input(expression, data_type) %}
    {%- if not data_type -%}
        {%- do return(expression) -%}
    {%- endif -%}
    {%- do return(adapter.dispatch('_on_demand_input', 'feature_store')(expression, data_type)) -%}
{% endmacro %}

{% macro default___on_demand_input(expression, data_type) %}
    {%- do return(expression) -%}
{% endmacro %}

{% macro spark___on_demand_input(expression, data_type) %}
    {%- set types = feature_store._types() -%}
    {%- set type = data_type | lower -%}
    {%- if type in ('tinyint', 'smallint', 'int', 'integer') -%}
        {%- do return('cast(' ~ expression ~ ' as ' ~ types.bigint ~ ')') -%}
    {%- elif type == 'float' -%}
        {%- do return('cast(' ~ expression ~ ' as ' ~ types.double ~ ')') -%}
    {%- elif type.startswith('timestamp') -%}
        {%- do return(feature_store._instant(expression, type)) -%}
    {%- elif type.startswith('string') -%}
        {%- do return('(' ~ feature_store._exact(expression, type) ~ ')') -%}
    {%- elif type in ('bigint', 'double', 'boolean', 'date') or type.startswith('decimal') -%}
        {%- do return(expression) -%}
    {%- endif -%}
    {%- do return(none) -%}
{% endmacro %}

{% macro duckdb___on_demand_input(expression, data_type) %}
    {%- set types = feature_store._types() -%}
    {%- set type = data_type | upper -%}
    {%- if type in ('BIGINT', 'DOUBLE', 'BOOLEAN', 'DATE') or type.startswith('DECIMAL(') and not type.endswith(']') -%}
        {%- do return(expression) -%}
    {%- elif type in ('TINYINT', 'SMALLINT', 'INTEGER', 'UTINYINT', 'USMALLINT', 'UINTEGER') -%}
        {%- do return('cast(' ~ expression ~ ' as ' ~ types.bigint ~ ')') -%}
    {%- elif type == 'HUGEINT' -%}
        {%- do return('try_cast(' ~ expression ~ ' as ' ~ types.decimal ~ '(38, 0))') -%}
    {%- elif type == 'FLOAT' -%}
        {%- do return('cast(' ~ expression ~ ' as ' ~ types.double ~ ')') -%}
    {%- elif type == 'VARCHAR' -%}
        {%- do return('(' ~ feature_store._exact(expression, type) ~ ')') -%}
    {%- elif type in ('UUID', 'JSON') or type.startswith('ENUM(') and not type.endswith(']') -%}
        {%- do return('cast(' ~ expression ~ ' as ' ~ types.text ~ ')') -%}
    {%- elif type.startswith('TIMESTAMP') and not type.endswith(']') -%}
        {%- do return(feature_store._instant(expression, type)) -%}
    {%- endif -%}
    {%- do return(none) -%}
{% endmacro %}
