{#-- An expression or a condition that a user wrote as an argument, ready to be put inside other SQL: without comments, which would take
     the rest of a line with them, and without a semicolon at its end. Stops where it is not one expression. `what` names it in the
     error. --#}
{% macro _expression(text, what) %}
    {%- set scan = feature_store._scan(text) -%}
    {%- set words = scan.outside | lower | replace('\n', ' ') | replace('\t', ' ') -%}
    {%- set words = words.split() -%}
    {%- set problem = scan.problem -%}
    {%- if problem is none and not scan.code -%}
        {%- set problem = 'holds no SQL' -%}
    {%- elif problem is none and (',' in scan.outside or ';' in scan.outside) -%}
        {%- set problem = 'is more than one expression' -%}
    {%- elif problem is none and words.count('case') != words.count('end') -%}
        {%- set problem = 'has a CASE without its END, or an END without its CASE' -%}
    {%- endif -%}
    {%- set foreign = words | select('in', ['as', 'select', 'where', 'group', 'order', 'having', 'limit', 'union']) | list -%}
    {%- if problem is none and foreign -%}
        {%- set problem = "has '" ~ foreign[0] ~ "' outside parentheses" -%}
    {%- endif -%}
    {%- if problem is not none -%}
        {%- do exceptions.raise_compiler_error(what ~ ' ' ~ problem ~ ': write one SQL expression. It is: ' ~ text) -%}
    {%- endif -%}
    {%- do return(scan.code) -%}
{% endmacro %}


{#-- What is written after FROM for a relation, or for a query given as text, called `alias` there. --#}
{% macro _from(relation, alias) %}
    {%- if relation is not string -%}
        {%- do return(relation ~ '') -%}
    {%- endif -%}
    {%- set query = feature_store._query_text(relation) -%}
    {%- do return(relation.strip() if query is none else query ~ ' as ' ~ alias) -%}
{% endmacro %}


{#-- A query given as text, in parentheses; none for what is a name. --#}
{% macro _query_text(text) %}
    {%- set query = text.strip().rstrip('; \n\t') -%}
    {%- set scan = feature_store._scan(query) -%}
    {%- if scan.problem is not none -%}
        {%- do exceptions.raise_compiler_error('The query ' ~ query ~ ' ' ~ scan.problem ~ '.') -%}
    {%- endif -%}
    {%- set code = scan.code.rstrip('; \n\t') -%}
    {%- if code != scan.code -%}
        {%- set query = code -%}
    {%- endif -%}
    {%- if code.startswith('(') and scan.pairs == 1 and code.endswith(')') and query.startswith('(') and query.endswith(')') -%}
        {%- do return(query) -%}
    {%- elif code.startswith('(') or (code.split() or [''])[0] | lower in ('select', 'with', 'from', 'values') -%}
        {#- Its last line may end in a comment. -#}
        {%- do return('(\n' ~ query ~ '\n)') -%}
    {%- endif -%}
    {%- do return(none) -%}
{% endmacro %}


{#-- SQL read letter by letter: {code: without comments, outside: what of it stands in no parentheses and no quotes, pairs: how many
     pairs of parentheses there are side by side, problem: what is left open, or none}. --#}
{% macro _scan(text) %}
    {%- set s = namespace(inside='', depth=0, nested=0, skip=0, pairs=0, start=0, tag='', problem=none) -%}
    {%- set code = [] -%}
    {%- set outside = [] -%}
    {%- for letter in text -%}
        {%- set place = loop.index0 -%}
        {%- set two = text[place:place + 2] -%}
        {%- if s.skip -%}
            {%- set s.skip = s.skip - 1 -%}
        {%- elif s.inside == '--' -%}
            {%- if letter == '\n' -%}
                {%- set s.inside = '' -%}
                {%- do code.append(letter) -%}
                {%- do outside.append(' ') -%}
            {%- endif -%}
        {%- elif s.inside == '/*' -%}
            {%- if two in ('*/', '/*') -%}
                {%- set s.nested = s.nested + (1 if two == '/*' else -1) -%}
                {%- set s.skip = 1 -%}
                {%- set s.inside = '/*' if s.nested else '' -%}
            {%- endif -%}
        {%- elif s.inside == '$' -%}
            {%- do code.append(letter) -%}
            {%- if place >= s.start + 2 * (s.tag | length) - 1 and text[place + 1 - (s.tag | length):place + 1] == s.tag -%}
                {%- set s.inside = '' -%}
            {%- endif -%}
        {%- elif s.inside -%}
            {%- do code.append(letter) -%}
            {%- if s.inside == 'E' and letter == '\\' -%}
                {%- do code.append(text[place + 1:place + 2]) -%}
                {%- set s.skip = 1 -%}
            {%- elif letter == ("'" if s.inside == 'E' else s.inside) -%}
                {%- set s.inside = '' -%}
            {%- endif -%}
        {%- elif two in ('--', '/*') -%}
            {%- set s.inside = two -%}
            {%- set s.nested = 1 -%}
            {%- set s.skip = 1 -%}
            {%- do code.append(' ') -%}
            {%- do outside.append(' ') -%}
        {%- else -%}
            {%- do code.append(letter) -%}
            {%- if letter == "'" -%}
                {%- set before = text[:place] -%}
                {%- set s.inside = 'E' if before[-1:] in ('e', 'E') and not before[-2:-1].isalnum() and before[-2:-1] != '_' else letter -%}
            {%- elif letter in ('"', '`') -%}
                {%- set s.inside = letter -%}
            {%- elif letter == '$' and feature_store._dollar_tag(text, place) -%}
                {%- set s.inside = letter -%}
                {%- set s.start = place -%}
                {%- set s.tag = feature_store._dollar_tag(text, place) -%}
            {%- elif letter in '([{' -%}
                {%- set s.depth = s.depth + 1 -%}
            {%- elif letter in ')]}' -%}
                {%- set s.depth = s.depth - 1 -%}
                {%- set s.pairs = s.pairs + (1 if s.depth == 0 else 0) -%}
                {%- if s.depth < 0 -%}
                    {%- set s.problem = 'closes a parenthesis that was not opened' -%}
                {%- endif -%}
            {%- elif s.depth == 0 -%}
                {%- do outside.append(letter) -%}
            {%- endif -%}
            {%- if letter in '\'"`$([{)]}' -%}
                {%- do outside.append(' ') -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if s.inside == '/*' -%}
        {%- set s.problem = 'has a comment that is not closed' -%}
    {%- elif s.inside not in ('', '--') -%}
        {%- set s.problem = 'has a quotation mark that is not closed' -%}
    {%- elif s.problem is none and s.depth > 0 -%}
        {%- set s.problem = 'has a parenthesis that is not closed' -%}
    {%- endif -%}
    {%- do return({
        'code': (code | join).strip().rstrip('; \n\t'),
        'outside': (outside | join).strip().rstrip('; \n\t'),
        'pairs': s.pairs,
        'problem': s.problem,
    }) -%}
{% endmacro %}


{#-- The `$tag$` that begins at a place of a text; empty where none does. --#}
{% macro _dollar_tag(text, place) %}
    {%- set end = text.find('$', place + 1) -%}
    {%- do return(text[place:end + 1] if end == place + 1 or text[place + 1:end].isidentifier() else '') -%}
{% endmacro %}
