"""A dbt project at the edges of the macros: names that need care, text keys that differ in case only, every shape of window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.dbt import PACKAGE, DbtProject, make_project

# What a profile may set, each of it against the order, the comparison or the arithmetic that the macros would have by default.
HOSTILE = {
    "default_order": "desc",
    "default_null_order": "nulls_first",
    "default_collation": "nocase",
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
    {"name": "mean", "function": "avg", "expression": "n"},
    {"name": "least", "function": "min", "expression": "kind"},
    {"name": "most", "function": "max", "expression": "/* the ) highest */ kind;"},
    {"name": "opened", "function": "first", "expression": "kind"},
    {"name": "closed", "function": "last", "expression": "kind"},
    {"name": "odd", "function": "max", "expression": '"say ""hi"" "'},
]
CALL = f"'user_key', 'at', {AGGREGATES!r}, ['2 hours', '1 day']"
WINDOWS = {
    "w_change": "grain='change'",
    "w_event": "grain='event'",
    "w_every": "grain='every 1 hour'",
    "w_known": "grain='change', created_timestamp='loaded'",
    "w_range": "grain='change', shape='range'",
}


def _call(text: str = "ref('events')", then: str = "") -> str:
    return f"{{{{ feature_store.window_aggregates({text}, {CALL}{', ' + then if then else ''}) }}}}"


def _as_of(then: str, spine: str = "ref('labels')") -> str:
    return f"{{{{ feature_store.aggregate_as_of({spine}, ref('events'), {CALL}, {then}) }}}}"


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


TESTED = ("w_known", "users", "dash-ed", "quoted", "live", "live_windows")


def _view(name: str, **more: Any) -> dict[str, Any]:
    meta = {"feature_view": {"entities": more.pop("entities", ["user_key"]), **more.pop("view", {})}}
    entry = {"name": name, "config": {"meta": meta}, **more}
    return {**entry, "data_tests": ["feature_store.feature_view"]} if name in TESTED else entry


def _service(name: str, features: list[str]) -> dict[str, Any]:
    owner = {"name": "x", "email": "x@example.com"}
    return {"name": name, "type": "ml", "owner": owner, "config": {"meta": {"features": features}}}


def unit_tests() -> dict[str, Any]:
    """The unit tests of the page docs/unit-tests.md."""
    return yaml.safe_load((PACKAGE / "docs" / "unit-tests.md").read_text().split("```yaml\n")[1].split("```")[0])


def files() -> dict[str, Any]:
    """The models by their paths."""
    small = "{{ config(materialized='table') }} select 'a' as user_key, timestamptz '2026-01-01 00:00+00' as event_timestamp, %s as x"
    views = [_view(name) for name in WINDOWS] + [_view(name) for name in ("clicks.v2", "clicks", "dash-ed", "my.view")]
    views.append(_view("users", latest_version="2024-01", versions=[{"v": "golden"}, {"v": 1.5}, {"v": "2024-01"}]))
    views.append(_view("quoted", entities=['k"ey'], view={"timestamp": 'a"t', "created_timestamp": 'made"'}))
    models = {
        "events": EVENTS,
        "labels": (
            "{{ config(event_time='event_timestamp') }} select case i % 3 when 0 then 'a' when 1 then 'A' end as user_key, i as label,"
            " timestamptz '2026-01-01 00:20:00+00' + to_minutes(cast(i * 70 as bigint)) as event_timestamp"
            " from range(60) t(i)"
        ),
        "odd_labels": 'select *, user_key as "k""ey" from {{ ref(\'labels\') }}',
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
            '{{ config(materialized=\'table\') }} select \'a\' as "k""ey", timestamptz \'2026-01-01 00:00+00\' as "a""t",'
            ' timestamp \'2026-01-01\' as "made""", 8 as "fea""ture"'
        ),
        "t_windows": f"{{{{ feature_store.point_in_time_join(ref('labels'), {ASKED}) }}}}",
        "t_named": f"{{{{ feature_store.point_in_time_join(ref('odd_labels'), {NAMED}, full_feature_names=true) }}}}",
        "t_service": DEPENDS
        + "{{ feature_store.point_in_time_join(ref('odd_labels'), 'odd_names', full_feature_names=true) }}",
        "t_text": (
            "{{ feature_store.point_in_time_join('select user_key, event_timestamp from ' ~ ref('labels') ~ ' -- labels', "
            f"{ASKED}) }}}}"
        ),
        "t_dense": _as_of("shape='dense'"),
        "t_range": _as_of("shape='range', created_timestamp='loaded'"),
        "l_change": "{{ feature_store.latest('w_change') }}",
        "l_quoted": "{{ feature_store.latest('quoted') }}",
        "u_bought": (
            "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'event_timestamp']) }}\n"
            "{{ feature_store.window_aggregates(ref('bought'), 'user_id', 'bought_on', [{'name': 'n', 'function': 'count'}], '7 days') }}"
        ),
        "bought": "select 1 as user_id, timestamp '2026-01-01' as bought_on",
        # Rows that wait for their windows lie in the future; those of the model under `live` lie too far.
        "live_events": "select 'a' as user_key, now() as happened, 1 as n",
        "live_windows": (
            "{{ feature_store.window_aggregates(ref('live_events'), 'user_key', 'happened', [{'name': 'n', 'function': 'count'}],"
            " ['2 hours', '30 days']) }}"
        ),
        "live": "select user_key, event_timestamp, n_30d as bought_lately from {{ ref('live_windows') }}",
        "too_late": "select user_key, event_timestamp + interval 1 hour as event_timestamp, bought_lately from {{ ref('live') }}",
        "t_unit": "{{ feature_store.point_in_time_join(ref('unit_labels'), ['ages:age']) }}",
        "t_unit_service": (
            "-- depends_on: {{ ref('ages') }}\n{{ feature_store.point_in_time_join(ref('unit_labels'), 'of_ages') }}"
        ),
        "unit_labels": "select 1 as user_id, timestamp '2026-01-01' as event_timestamp",
        "ages": "select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 40 as age",
        # The rows of a batch of labels, with the whole history.
        "b_windows": MICROBATCH + f"{{{{ feature_store.point_in_time_join(ref('labels'), {ASKED}) }}}}",
        "b_dense": MICROBATCH + _as_of("shape='dense'"),
        "b_event": MICROBATCH + _call("'(select * from ' ~ ref('events') ~ ')'", "grain='event'"),
    }
    views.append(_view("ages", entities=["user_id"]))
    views.extend([_view("live_windows"), _view("live")])
    failing = _view("too_late")
    warned = {
        "feature_store.feature_view": {
            "name": "the_test_of_too_late",
            "config": {"severity": "warn", "store_failures": True},
        }
    }
    views.append({**failing, "data_tests": [warned]})
    timed = {name: {"name": name, "config": {"event_time": "event_timestamp"}} for name in ("w_change", "w_known")}
    for view in views:
        view["config"].update(timed.get(view["name"], {}).get("config", {}))
    return {
        "models/views.yml": {
            "models": views,
            "exposures": [
                _service("of_ages", ["ages:age"]),
                # `too_late` has no such feature, and nobody is a view.
                _service("broken", ["too_late:bought_latly", "nobody:x"]),
                _service("odd_names", SERVICE),
            ],
        },
        "models/unit_tests.yml": unit_tests(),
        # A project's own macros of the names that the package's have.
        "macros/own.sql": "".join(
            f"{{% macro {prefix}{name}() %}}select 'not the package'{{% endmacro %}}\n"
            for name in ("latest", "window_aggregates", "point_in_time_join", "aggregate_as_of")
            for prefix in ("", "default__", "duckdb__")
        ),
        **{f"models/{name}.sql": sql for name, sql in models.items()},
    }


def edge_project(folder: Path) -> DbtProject:
    """The project, not built yet."""
    return make_project(folder, files())
