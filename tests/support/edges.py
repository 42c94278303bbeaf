"""A dbt project at the edges of the macros: names that need care, text keys that differ in case only, every shape of window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.dbt import PACKAGE, DbtProject, make_project

# What a profile may set, each of it against the order, the comparison or the arithmetic that the macros would have by default.
HOSTILE = {
    "default_order": "desc",
    "default_null_order": "nulls_first",
    "default_collation": "nocase",
    "preserve_insertion_order": False,
    "integer_division": True,
    "TimeZone": "Pacific/Apia",
    "threads": 3,
}

EVENTS = """
{{ config(event_time='at') }}
select
    case i % 4 when 0 then 'a' when 1 then 'A' when 2 then 'b' end as user_key,
    timestamptz '2026-01-01 00:00:00+00' + to_minutes(cast((i * 37) % 97 as bigint) * 45) as at,
    timestamptz '2026-01-01 00:00:00+00' + to_minutes(cast((i * 37) % 97 as bigint) * 45 + (i % 3) * 50) as loaded,
    case when i % 11 <> 0 then i * 0.1 - 3 end as v,
    cast(i as integer) as n,
    case i % 3 when 0 then 'x' when 1 then 'X' end as kind,
    i as "say ""hi"" "
from range(200) t(i)
"""
AGGREGATES: list[dict[str, str]] = [
    {"name": "rows", "function": "count"},
    {"name": "kinds", "function": "count_distinct", "expression": "kind"},
    {"name": "total", "function": "sum", "expression": "n"},
    {"name": "spent", "function": "sum", "expression": "v -- net", "where": "n > 5 or kind = 'X' -- paid"},
    {"name": "mean", "function": "avg", "expression": "n / 2"},
    {"name": "least", "function": "min", "expression": "kind"},
    {"name": "most", "function": "max", "expression": "/* the ) highest */ kind;"},
    {"name": "opened", "function": "first", "expression": "kind"},
    {"name": "closed", "function": "last", "expression": "kind"},
    {"name": "odd", "function": "max", "expression": '"say ""hi"" "'},
]
# The same without a function over doubles, whose sums in a range join may differ in their last digits, and without `n / 2`, which is
# the user's own expression and means what her settings make of it.
CALL = "'user_key', 'at', {aggregates!r}, ['2 hours', '1 day']"
WINDOWS = {
    "w_change": "grain='change'",
    "w_event": "grain='event'",
    "w_every": "grain='every 1 hour'",
    "w_known": "grain='change', created_timestamp='loaded'",
    "w_range": "grain='change', shape='range'",
}


def _call(text: str = "ref('events')", then: str = "") -> str:
    aggregates = [one for one in AGGREGATES if one["name"] != "mean"]
    return f"{{{{ feature_store.window_aggregates({text}, {CALL.format(aggregates=aggregates)}{', ' + then if then else ''}) }}}}"


def _as_of(then: str, spine: str = "ref('labels')") -> str:
    aggregates = [one for one in AGGREGATES if one["name"] != "mean"]
    return f"{{{{ feature_store.aggregate_as_of({spine}, ref('events'), {CALL.format(aggregates=aggregates)}, {then}) }}}}"


MICROBATCH = (
    "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_timestamp', begin='2026-01-01',"
    " batch_size='day') }}\n"
)
ASKED = ["w_change:rows_1d", "w_known:closed_1d"]
SERVICE = ["users.vgolden:x", "users:x", "clicks.v2:x", "dash-ed:x", 'quoted:fea"ture']
NAMED = [*SERVICE, "users.v1.5:x", "my.view:x", "clicks:x"]
DEPENDS = """-- depends_on: {{ ref('users', v='golden') }}
-- depends_on: {{ ref('users', v='2024-01') }}
-- depends_on: {{ ref('clicks.v2') }}
-- depends_on: {{ ref('dash-ed') }}
-- depends_on: {{ ref('quoted') }}
"""


def _view(name: str, tests: bool = True, **more: Any) -> dict[str, Any]:
    meta = {"feature_view": {"entities": more.pop("entities", ["user_key"]), **more.pop("view", {})}}
    entry = {"name": name, "config": {"meta": meta}, **more}
    return {**entry, "data_tests": ["feature_store.feature_view"]} if tests else entry


def files() -> dict[str, Any]:
    """The models by their paths."""
    small = "{{ config(materialized='table') }} select 'a' as user_key, timestamptz '2026-01-01 00:00+00' as event_timestamp, %s as x"
    views = [_view(name) for name in WINDOWS] + [_view(name) for name in ("clicks.v2", "clicks", "dash-ed", "my.view")]
    views.append(
        _view("users", latest_version="2024-01", versions=[{"v": "golden"}, {"v": 1.5}, {"v": "2024-01"}])
    )
    views.append(_view("quoted", entities=['k"ey'], view={"timestamp": 'a"t', "created_timestamp": 'made"'}))
    models = {
        "events": EVENTS,
        "labels": (
            "{{ config(event_time='event_timestamp') }} select case i % 3 when 0 then 'a' when 1 then 'A' end as user_key, i as label,"
            " timestamptz '2026-01-01 00:20:00+00' + to_minutes(cast(i * 70 as bigint)) as event_timestamp"
            " from range(60) t(i)"
        ),
        "odd_labels": "select *, user_key as \"k\"\"ey\" from {{ ref('labels') }}",
        **{name: _call(then=then) for name, then in WINDOWS.items()},
        "w_text": _call("'(select * from ' ~ ref('events') ~ '); '"),
        "w_bare": _call("'select * from ' ~ ref('events') ~ ' -- all of them'"),
        "users_vgolden": small % 1,
        "users_v1.5": small % 2,
        "users_v2024-01": small % 3,
        "clicks.v2": small % 4,
        "dash-ed": small % 5,
        "my.view": small % 6,
        "clicks": small % 7,
        "quoted": (
            "{{ config(materialized='table') }} select 'a' as \"k\"\"ey\", timestamptz '2026-01-01 00:00+00' as \"a\"\"t\","
            " timestamp '2026-01-01' as \"made\"\"\", 8 as \"fea\"\"ture\""
        ),
        "t_windows": f"{{{{ feature_store.point_in_time_join(ref('labels'), {ASKED}) }}}}",
        "t_named": f"{{{{ feature_store.point_in_time_join(ref('odd_labels'), {NAMED}, full_feature_names=true) }}}}",
        "t_service": DEPENDS + "{{ feature_store.point_in_time_join(ref('odd_labels'), 'odd_names', full_feature_names=true) }}",
        "t_text": (
            "{{ feature_store.point_in_time_join('select user_key, event_timestamp from ' ~ ref('labels') ~ ' -- labels', "
            f"{ASKED}) }}}}"
        ),
        "t_dense": _as_of("shape='dense'"),
        "t_range": _as_of("shape='range', created_timestamp='loaded'"),
        "l_change": "{{ feature_store.latest('w_change') }}",
        "l_quoted": "{{ feature_store.latest('quoted') }}",
        # The rows of a batch of labels, with the whole history.
        "b_windows": MICROBATCH + f"{{{{ feature_store.point_in_time_join(ref('labels'), {ASKED}) }}}}",
        "b_dense": MICROBATCH + _as_of("shape='dense'"),
        "b_event": MICROBATCH + _call("'(select * from ' ~ ref('events') ~ ')'", "grain='event'"),
    }
    timed = {name: {"name": name, "config": {"event_time": "event_timestamp"}} for name in ("w_change", "w_known")}
    for view in views:
        view["config"].update(timed.get(view["name"], {}).get("config", {}))
    return {
        "models/views.yml": {
            "models": views,
            "exposures": [
                {
                    "name": "odd_names",
                    "type": "ml",
                    "owner": {"name": "x", "email": "x@example.com"},
                    "config": {"meta": {"features": SERVICE}},
                }
            ],
        },
        # A project's own macros of the names that the package's have.
        "macros/own.sql": "".join(
            f"{{% macro {prefix}{name}() %}}select 'not the package'{{% endmacro %}}\n"
            for name in ("latest", "window_aggregates", "point_in_time_join", "aggregate_as_of")
            for prefix in ("", "default__", "duckdb__")
        ),
        **{f"models/{name}.sql": sql for name, sql in models.items()},
    }


def edge_project(folder: Path) -> DbtProject:
    """The project, built under plain settings (target ``dev``) and under hostile ones (target ``hostile``, ``hostile.duckdb``)."""
    assert PACKAGE
    project = make_project(folder, files())
    outputs = {
        "dev": {"type": "duckdb", "path": str(project.warehouse), "threads": 1},
        "hostile": {"type": "duckdb", "path": str(folder / "hostile.duckdb"), "threads": 1, "settings": HOSTILE},
    }
    project.write({"profiles.yml": {"shop": {"target": "dev", "outputs": outputs}}})
    return project
