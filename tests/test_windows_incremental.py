"""Incremental feature views: after each of many loads, the table is what a full refresh would give."""

from __future__ import annotations

import random
import re
from typing import Any

import duckdb
import pytest

from tests.support.dbt import DbtFailed, DbtProject, make_project

LOADS = 6
GRAINS = {"change": "change", "event": "event", "every": "every: '1 hour'"}
VIEWS = {
    "change_plain": ("change", False),
    "change_known": ("change", True),
    "event_known": ("event", True),
    "every_plain": ("every", False),
}
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "kinds", "function": "count_distinct", "expression": "kind"},
    {"name": "total", "function": "sum", "expression": "price", "where": "kind <> 'b'"},
    {"name": "units", "function": "sum", "expression": "units"},
    {"name": "mean", "function": "avg", "expression": "price"},
    {"name": "top", "function": "max", "expression": "price"},
    {"name": "first_kind", "function": "first", "expression": "kind"},
    {"name": "last_kind", "function": "last", "expression": "kind"},
]
SPREAD = [{"name": "spread", "function": "stddev", "expression": "price"}]


def view(grain: str, loaded: bool, **config: Any) -> str:
    aggregates = AGGREGATES + (SPREAD if loaded or grain == "every" else [])
    head = f"{{{{ config(**{config!r}) }}}}\n" if config else ""
    known = ", created_timestamp='loaded_at'" if loaded else ""
    return head + (
        f"{{{{ feature_store.window_aggregates(source('raw', 'events'), ['shop', 'user_id'], 'happened_at', {aggregates!r}, "
        f"['2 hours', '1 day'], grain=\"{GRAINS[grain]}\"{known}) }}}}"
    )


def models() -> dict[str, Any]:
    files: dict[str, Any] = {"models/raw.yml": {"sources": [{"name": "raw", "tables": [{"name": "events"}]}]}}
    for name, (grain, loaded) in VIEWS.items():
        files[f"models/{name}.sql"] = view(
            grain,
            loaded,
            materialized="incremental",
            incremental_strategy="delete+insert",
            unique_key=["shop", "user_id", "event_timestamp"],
        )
        files[f"models/full_{name}.sql"] = view(grain, loaded, materialized="view")
    return files


def load(project: DbtProject, rows: list[tuple]) -> None:
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("create schema if not exists raw")
        connection.execute(
            "create table if not exists raw.events "
            "(shop text, user_id int, happened_at timestamp, loaded_at timestamp, price double, units bigint, kind text)"
        )
        connection.executemany(
            "insert into raw.events values (?, ?, timestamp '2024-01-01' + to_minutes(?), "
            "timestamp '2024-01-01' + to_minutes(?), ?, ?, ?)",
            rows,
        )


def run_again(project: DbtProject) -> None:
    """What the next `dbt run` does: its statements as it left them, since they do not depend on what the tables hold."""
    with duckdb.connect(str(project.warehouse)) as connection:
        for name in VIEWS:
            statements = (project.folder / "target" / "run" / "shop" / "models" / f"{name}.sql").read_text()
            (new_rows,) = set(re.findall(rf'"({name}__dbt_tmp\w+)"', statements))
            connection.execute(f'create temp table "{new_rows}" as {project.compiled(name)}')
            connection.execute(statements)


def differences(project: DbtProject) -> dict[str, list]:
    found = {}
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        for name in VIEWS:
            connection.execute(f"create temp table truth as from full_{name}")  # a view: computed once
            found[name] = connection.execute(
                f"(from {name} except all from truth) union all (from truth except all from {name})"
            ).fetchall()
            connection.execute("drop table truth")
    return found


@pytest.mark.parametrize(
    "loads", [LOADS, pytest.param(20 * LOADS, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_after_each_load_with_late_rows_the_table_is_what_a_full_refresh_gives(tmp_path: Any, loads: int) -> None:
    by_dbt = {0, 1, loads - 1} if loads == LOADS else set(range(loads))
    chance = random.Random(7)
    project = make_project(tmp_path, models())
    now = 0
    for number in range(loads):
        now += chance.choice([0, 30, 60, 600, 3000])  # sometimes all windows have run empty in between
        rows = []
        for _ in range(chance.choice([0, 1, 1, 2, 5]) if number else 20):
            late = chance.choice([0, 0, 15, 60, 120, 1440, 1500, 4000])  # minutes; many at one instant with others
            rows.append(
                (
                    chance.choice("pq"),
                    chance.randrange(3),
                    now - late,
                    now + chance.choice([0, 0, 30]),
                    chance.choice([0.1, 0.2, 0.7, -3.3, 1e6 / 3]),
                    chance.choice([1, 2**53 + 1, None]),
                    chance.choice("abc"),
                )
            )
        if rows:
            load(project, rows)
        if number in by_dbt:
            before = {name: project.compiled(name) for name in VIEWS} if number > 1 else {}
            # the full ones are views: built once, they show the truth of the moment
            project.dbt("run", *(["--select", "config.materialized:incremental"] if number else []))
            assert all(project.compiled(name) == sql for name, sql in before.items())
        else:
            run_again(project)
        assert differences(project) == {view: [] for view in VIEWS}, f"after load {number}: {rows}"


@pytest.fixture
def daily(tmp_path: Any) -> DbtProject:
    """Four days of events, and a view a grain that is built in batches of a day."""
    files: dict[str, Any] = {"models/raw.yml": {"sources": [{"name": "raw", "tables": [{"name": "events"}]}]}}
    files["models/events.sql"] = (
        "{{ config(materialized='table', event_time='happened_at') }} select * from {{ source('raw', 'events') }}"
    )
    for grain in ("event", "every"):
        for loaded in (False, True):
            name = f"{grain}_{'known' if loaded else 'plain'}"
            batched = {
                "materialized": "incremental",
                "incremental_strategy": "microbatch",
                "event_time": "event_timestamp",
                "begin": "2024-01-01",
                "batch_size": "day",
            }
            for prefix, config in (("", batched), ("full_", {"materialized": "view"})):
                files[f"models/{prefix}{name}.sql"] = view(grain, loaded, **config).replace(
                    "source('raw', 'events')", "ref('events')"
                )
    # Few events for some: their windows run empty, once just where a batch begins (`reach` in _window_scope.sql).
    chance = random.Random(9)
    project = make_project(tmp_path, files)
    rows = []
    for _ in range(100):
        at = chance.randrange(4 * 24) * 60 + chance.choice([0, 0, 7])
        user = (chance.choice("pq"), chance.choice([0, 0, 0, 1, 2]))
        rows.append((*user, at, at + chance.choice([0, 90, 1500]), 0.1, 1, "a"))
    load(project, rows)
    return project


def test_batches_read_what_their_windows_look_back_on(daily: DbtProject) -> None:
    daily.dbt("run", "--event-time-start", "2024-01-01", "--event-time-end", "2024-01-07")
    # a part of the past again, as a backfill in parts does
    daily.dbt("run", "--event-time-start", "2024-01-02", "--event-time-end", "2024-01-04")
    with duckdb.connect(str(daily.warehouse), read_only=True) as connection:
        for grain in ("event", "every"):
            for suffix in ("plain", "known"):
                name = f"{grain}_{suffix}"
                assert connection.execute(f"select count(*) from {name}").fetchone()[0] > 80
                assert not connection.execute(
                    f"(from {name} except all from full_{name}) union all (from full_{name} except all from {name})"
                ).fetchall()


def test_a_new_aggregate_asks_for_a_full_refresh(tmp_path: Any) -> None:
    project = make_project(tmp_path, models())
    load(project, [("p", 1, 0, 0, 1.0, 1, "a")])
    project.dbt("run", "--select", "change_plain")
    path = "models/change_plain.sql"
    project.write({path: (project.folder / path).read_text().replace("'name': 'units'", "'name': 'pieces'")})
    with pytest.raises(DbtFailed, match="has no column 'pieces_2h' yet; build it once with --full-refresh"):
        project.dbt("run", "--select", "change_plain")
    project.dbt("run", "--select", "change_plain", "--full-refresh")


def test_without_a_plain_count_an_incremental_run_makes_all_again(tmp_path: Any) -> None:
    files = {
        path: str(text).replace("{'name': 'n', 'function': 'count'}, ", "")
        for path, text in models().items()
        if "plain" in path
    }
    project = make_project(tmp_path, {**files, "models/raw.yml": models()["models/raw.yml"]})
    load(project, [("p", 1, minutes, minutes, 1.0, 1, "a") for minutes in (0, 0, 50)])
    project.dbt("run")
    load(project, [("p", 1, 0, 90, 1.0, 1, "b"), ("q", 1, 20, 90, 1.0, 1, "b")])
    project.dbt("run")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        for name in ("change_plain", "every_plain"):
            assert not connection.execute(f"from {name} except all from full_{name}").fetchall()
            assert not connection.execute(f"from full_{name} except all from {name}").fetchall()
