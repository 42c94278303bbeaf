{#-- Reads and checks the arguments of a training set: {spine, spine_columns, moment, casts, views, picks}.
     A pick is {output, sql}: a feature of a view, or an expression over some and the spine's columns. A view's `asked` are its join
     keys in the spine, in its own types; `casts` are those that had to be made: {sql: name}.
     Its parts in the SQL are called `_fs_<part>_<slug of the view>`: no view can be named so that they clash. --#}
{% macro _training_plan(spine, features, timestamp, full_feature_names) %}
    {#- A text without a colon is the name of a feature service; while dbt parses, nobody knows it. -#}
    {%- set service = features if features is string and ':' not in features else none -%}
    {%- if service and not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set features = feature_store._service_features('point_in_time_join', service) if service
        else [features] if features is string else features -%}
    {%- if not features -%}
        {%- do exceptions.raise_compiler_error("point_in_time_join needs at least one feature, written 'view:feature'.") -%}
    {%- endif -%}
    {%- set picked = {} -%}
    {%- for feature in features -%}
        {%- set parts = (feature ~ '').split(':') -%}
        {%- if parts | length != 2 or not parts[0] or not parts[1] -%}
            {%- do exceptions.raise_compiler_error(
                "'" ~ feature ~ "' is not a feature reference: write 'view:feature', for example 'user_features:age'."
            ) -%}
        {%- endif -%}
        {%- do picked.setdefault(parts[0], []).append(parts[1]) -%}
    {%- endfor -%}

    {#- What is computed over several views is called by its service's name. -#}
    {%- set services = {} -%}
    {%- for name in (picked if execute else {}) if feature_store._find_view(name) is none -%}
        {%- set on_demand = feature_store._on_demand_of_service(name) -%}
        {%- do services.update({name: on_demand} if on_demand else {}) -%}
    {%- endfor -%}
    {%- set needed = picked.keys() | reject('in', services) | list -%}
    {%- for name, on_demand in services.items() -%}
        {%- for feature in on_demand.values() if feature.name in picked[name] -%}
            {%- for reference in feature.inputs.values() -%}
                {%- do needed.append(reference.split(':')[0]) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endfor -%}

    {%- set views = {} -%}
    {%- for reference in needed | unique(case_sensitive=true) -%}
        {%- do views.update({reference: feature_store._feature_view(reference)}) -%}
    {%- endfor -%}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}

    {%- set slugs = [] -%}
    {%- set features_of = {} -%}
    {%- for view in views.values() -%}
        {%- do view.update({'slug': feature_store._slug(view.reference, slugs)}) -%}
        {%- do slugs.append(view.slug) -%}
        {%- do view.update({'picked': {}}) -%}
        {%- do features_of.update({view.reference: feature_store._by_name(view.features)}) -%}
    {%- endfor -%}
    {%- set spine_columns = feature_store._columns(spine) -%}
    {%- do feature_store._check_reserved_names(spine_columns, 'The spine') -%}
    {%- set in_spine = feature_store._by_name(spine_columns) -%}
    {%- set outputs = {} -%}
    {%- set picks = [] -%}
    {%- for feature in features -%}
        {%- set reference, name = feature.split(':') -%}
        {%- set view = views.get(reference) -%}
        {%- set on_demand = services[reference] if view is none else view.on_demand -%}
        {%- set computed = on_demand.get(name) -%}
        {%- if computed is none and view is none -%}
            {%- do exceptions.raise_compiler_error(
                "Feature service '" ~ reference ~ "' has no on-demand feature '" ~ name ~ "'; it has: "
                ~ on_demand.keys() | join(', ') ~ '.'
            ) -%}
        {%- elif computed is none and view.features and name | lower not in features_of[view.reference] -%}
            {%- do exceptions.raise_compiler_error(
                "Feature view '" ~ reference ~ "' has no feature '" ~ name ~ "'; it has: "
                ~ (view.features | map(attribute='name') | list + on_demand.keys() | list) | join(', ') ~ '.'
                ~ (" Feature service '" ~ service ~ "' asks for it." if service else '')
            ) -%}
        {%- endif -%}
        {%- set output = reference.replace('.', '_') ~ '__' ~ name if full_feature_names else name -%}
        {%- if output | lower in outputs -%}
            {%- do exceptions.raise_compiler_error(
                "Both '" ~ outputs[output | lower] ~ "' and '" ~ feature ~ "' would be called '" ~ output
                ~ "': ask for each once, and with full_feature_names=true where two views share a name."
            ) -%}
        {%- endif -%}
        {%- if output | lower in in_spine -%}
            {%- do exceptions.raise_compiler_error(
                "The spine already has a column '" ~ output ~ "', the name of feature '" ~ feature
                ~ "': rename it there or pass full_feature_names=true."
            ) -%}
        {%- endif -%}
        {%- do outputs.update({output | lower: feature}) -%}
        {%- if computed is none -%}
            {%- set sql = feature_store._picked_column(view, name, features_of) -%}
        {%- else -%}
            {%- set inputs = {} -%}
            {%- for read in computed.reads -%}
                {%- set of, column = (computed.inputs or {}).get(read, reference ~ ':' ~ read).split(':') -%}
                {%- do inputs.update({read | lower: feature_store._read_column(views[of], column, features_of, feature)}) -%}
            {%- endfor -%}
            {%- do inputs.update(feature_store._request_columns(computed, feature, spine_columns, in_spine)) -%}
            {%- set sql = feature_store._on_demand_sql(computed, inputs) -%}
        {%- endif -%}
        {%- do picks.append({'output': output, 'sql': sql}) -%}
    {%- endfor -%}

    {#- A view of which nothing is read is not joined. -#}
    {%- set views = dict(views.items() | selectattr('1.picked')) -%}
    {%- for view in views.values() -%}
        {%- for key in view.entities if spine_columns and key.name | lower not in in_spine -%}
            {%- do exceptions.raise_compiler_error(
                "The spine has no column '" ~ key.name ~ "', a join key of feature view '" ~ view.reference ~ "'; it has: "
                ~ spine_columns | map(attribute='name') | join(', ') ~ '.'
            ) -%}
        {%- endfor -%}
    {%- endfor -%}

    {#- The spine's keys as each view has them: its own column, or, where the types differ, a cast of it that the spine brings along. -#}
    {%- set casts = {} -%}
    {%- for view in views.values() -%}
        {%- set asked = [] -%}
        {%- for key in view.entities -%}
            {%- set column = in_spine.get(key.name | lower, {'name': key.name, 'type': none}) -%}
            {%- set own = feature_store._quoted(column.name) -%}
            {%- set sql = feature_store._key(own, column.type, key.type) -%}
            {%- do asked.append(own if sql == own else casts.setdefault(sql, '_fs_key_' ~ (casts | length + 1))) -%}
        {%- endfor -%}
        {%- do view.update({'asked': asked}) -%}
    {%- endfor -%}

    {%- set moment = feature_store._spine_timestamp(spine_columns, timestamp) -%}
    {%- do return({
        'spine': feature_store._from(spine, '_fs_labels'),
        'spine_columns': spine_columns,
        'moment': feature_store._instant(feature_store._quoted(moment.name), moment.type),
        'casts': casts,
        'views': views.values() | list,
        'picks': picks,
    }) -%}
{% endmacro %}


{#-- A feature of a view as it is read after the join. --#}
{% macro _picked_column(view, name, features_of) %}
    {%- set column = features_of[view.reference].get(name | lower) or {'name': name, 'type': none} -%}
    {%- do view.picked.update({column.name: true}) -%}
    {%- do return(feature_store._after_outer_join('_fs_rows_' ~ view.slug ~ '.' ~ feature_store._quoted(column.name), column.type)) -%}
{% endmacro %}


{#-- The same as an on-demand feature reads it. --#}
{% macro _read_column(view, name, features_of, feature) %}
    {%- set column = features_of[view.reference].get(name | lower) -%}
    {%- if column is none and view.features -%}
        {%- do exceptions.raise_compiler_error(
            "On-demand feature '" ~ feature ~ "' reads '" ~ view.reference ~ ':' ~ name ~ "', which is no stored feature; the view has: "
            ~ view.features | map(attribute='name') | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set sql = feature_store._on_demand_input(feature_store._picked_column(view, name, features_of), (column or {}).get('type')) -%}
    {%- if sql is none -%}
        {%- do exceptions.raise_compiler_error(
            "On-demand feature '" ~ feature ~ "' reads '" ~ view.reference ~ ':' ~ name ~ "', which is " ~ column.type
            ~ ': an expression reads numbers, texts, booleans, dates and timestamps.'
        ) -%}
    {%- endif -%}
    {%- do return(sql) -%}
{% endmacro %}


{#-- {request field in lower case: SQL}: columns of the spine, in the types that the on-demand feature declares. --#}
{% macro _request_columns(computed, feature, spine_columns, in_spine) %}
    {%- set columns = {} -%}
    {%- for field, type in computed.request.items() -%}
        {%- if spine_columns and field | lower not in in_spine -%}
            {%- do exceptions.raise_compiler_error(
                "The spine has no column '" ~ field ~ "', a request field of feature '" ~ feature ~ "' (" ~ type | lower ~ '); it has: '
                ~ spine_columns | map(attribute='name') | join(', ') ~ '.'
            ) -%}
        {%- endif -%}
        {%- set column = in_spine.get(field | lower, {'name': field, 'type': none}) -%}
        {%- set own = '_fs_spine.' ~ feature_store._quoted(column.name) -%}
        {%- set wanted = feature_store._type_of_duckdb(type) -%}
        {%- do columns.update({field | lower: feature_store._on_demand_input(feature_store._key(own, column.type, wanted), wanted)}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}


{#-- The column that holds the spine's moments: the one named, or the only timestamp there is. --#}
{% macro _spine_timestamp(spine_columns, timestamp) %}
    {%- set named = feature_store._column(spine_columns, timestamp) -%}
    {%- if named or not spine_columns -%}
        {%- do return(named or {'name': timestamp, 'type': none}) -%}
    {%- endif -%}
    {%- set times = [] -%}
    {%- for column in spine_columns if (column.type | lower).startswith('timestamp') or column.type | lower == 'datetime' -%}
        {%- do times.append(column) -%}
    {%- endfor -%}
    {%- if times | length == 1 and timestamp == 'event_timestamp' -%}
        {%- do return(times[0]) -%}
    {%- endif -%}
    {%- do exceptions.raise_compiler_error(
        "The spine has no column '" ~ timestamp ~ "' to join on; name its moments with timestamp=... (its timestamp columns: "
        ~ (times | map(attribute='name') | join(', ') or 'none') ~ '; all columns: '
        ~ spine_columns | map(attribute='name') | join(', ') ~ ').'
    ) -%}
{% endmacro %}


{#-- Stops for a column that could be taken for one of our own: names that begin with _fs_ are kept for those. --#}
{% macro _check_reserved_names(columns, whose) %}
    {%- for column in columns if (column.name | lower).startswith('_fs_') -%}
        {%- do exceptions.raise_compiler_error(
            whose ~ " has a column '" ~ column.name ~ "', but names that begin with _fs_ are kept for the store's own fields: rename it."
        ) -%}
    {%- endfor -%}
{% endmacro %}
