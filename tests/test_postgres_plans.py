"""On PostgreSQL the cost of a training set and of windows grows with the rows, not with their square.

PostgreSQL expects a single row where several expressions are equal, and takes a nested loop over all rows wherever the shape of the SQL
allows one. So the rows that pass through each step of the plan are counted, and each statement has far longer than it needs and far
less than such a loop would take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.two_engines import Engines, two_engines

TIMEOUT = "30s"
EVENTS = """
    create table events as
    select
        (n * 7919) % 2000 as user_id, (n * 7919) % 2000 % 7 as shop, (n * 7919) % 2000 % 11 as till,
        timestamptz '2026-01-01 00:00:00+00' + (n * 104729 % 7776000) * interval '1 second' as happened_at,
        timestamptz '2026-01-01 00:00:00+00' + (n * 104729 % 7776000 + n % 3 * 4000) * interval '1 second' as loaded_at,
        n % 100 as units, n / 7.0::double precision as amount, n % 1000 as a, n % 1001 as b, n % 1002 as c
    from generate_series(1::bigint, {rows}) as numbers (n)
"""
LABELS = """
    create table labels as
    select (n * 31) % 2000 as user_id, (n * 31) % 2000 % 7 as shop, (n * 31) % 2000 % 11 as till, timestamp '2026-01-01' + (n * 15485863 % 7776000) * interval '1 second' as event_timestamp, n as no
    from generate_series(1::bigint, {labels}) as numbers (n)
"""
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "total", "function": "sum", "expression": "units"},
    {"name": "spent", "function": "sum", "expression": "amount"},
    {"name": "kinds", "function": "count_distinct", "expression": "units"},
]
WINDOW = "feature_store.window_aggregates(source('raw', 'events'), 'user_id', 'happened_at', {}, ['1 day', '7 days'], 'event'{})"
GROWS = """{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'event_timestamp']) }}
"""
LOADED = ", created_timestamp='loaded_at'"
FEATURES = [f"users:{name}" for name in ("units", "amount", "a", "b", "c")]
FILES = {
    "models/raw.yml": {
        "sources": [{"name": "raw", "schema": "public", "tables": [{"name": "events"}, {"name": "labels"}]}],
        "models": [
            {"name": "users", "config": {"meta": {"feature_view": {
                "entities": ["user_id"], "timestamp": "happened_at", "created_timestamp": "loaded_at"}}}},
            {"name": "tills", "config": {"meta": {"feature_view": {
                "entities": ["user_id", "shop", "till"], "timestamp": "happened_at", "created_timestamp": "loaded_at", "ttl": "30 days"}}}},
        ],
    },
    "models/users.sql": "select * from {{ source('raw', 'events') }}",
    "models/tills.sql": "select * from {{ source('raw', 'events') }}",
    "models/trained_wide.sql": "{{ feature_store.point_in_time_join(source('raw', 'labels'), ['tills:units', 'tills:a']) }}",
    "models/trained.sql": f"{{{{ feature_store.point_in_time_join(source('raw', 'labels'), {FEATURES}) }}}}",
    "models/grown.sql": GROWS + "{{ " + WINDOW.format(AGGREGATES, LOADED) + " }}",
    "models/grown_plain.sql": GROWS + "{{ " + WINDOW.format(AGGREGATES, "") + " }}",
}  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with two_engines(tmp_path_factory.mktemp("plans"), FILES) as engines:
        with engines.connection.cursor() as cursor:
            cursor.execute(f"alter database shop set statement_timeout = '{TIMEOUT}'")
            cursor.execute(EVENTS.format(rows=50_000))
            cursor.execute(LABELS.format(labels=20_000))
            cursor.execute("analyze")
        yield engines


def counted(engines: Engines, table: str) -> int:
    with engines.connection.cursor() as cursor:
        cursor.execute(f"select count(*) from {table}")
        return cursor.fetchone()[0]


def rows_through(engines: Engines, sql: str) -> int:
    """How many rows the steps of this query's plan gave or looked at and left out, all together, when it ran."""

    def of(step: dict[str, Any]) -> float:
        rows = step["Actual Rows"] + sum(value for name, value in step.items() if name.startswith("Rows Removed by"))
        return rows * step["Actual Loops"] + sum(of(below) for below in step.get("Plans", ()))

    with engines.connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, timing off, format json) {sql}")
        (answer,) = cursor.fetchone()
    return int(of((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))


def test_rows_through_a_plan_see_a_nested_loop(engines: Engines) -> None:
    """The measure itself: 100 labels against all events, of which each loop looks at every one."""
    joined = "select count(*) from (select * from labels limit 100) as l left join events as e on e.user_id % 2000 >= l.user_id + 2000"
    assert rows_through(engines, joined) > 100 * 50_000


@pytest.fixture(scope="module")
def compiled(engines: Engines) -> None:
    engines.postgres.dbt("run", "--select", "users", "tills")
    engines.postgres.dbt("compile", "--full-refresh")


@pytest.mark.parametrize("name", ["trained", "trained_wide", "grown", "grown_plain"])
def test_each_row_passes_each_step_a_few_times_at_most(engines: Engines, compiled: None, name: str) -> None:
    through = rows_through(engines, engines.postgres.compiled(name))
    assert 70_000 < through < 100 * 70_000, through


def test_a_training_set_with_a_load_time(engines: Engines) -> None:
    engines.postgres.dbt("run", "--select", "users", "trained")
    assert counted(engines, "built.trained where amount is not null") > 19_000
    assert counted(engines, "built.trained") == 20_000


@pytest.mark.parametrize("name", ["grown", "grown_plain"])
def test_windows_and_what_comes_late_to_them(engines: Engines, name: str) -> None:
    with engines.connection.cursor() as cursor:
        cursor.execute(
            "drop table if exists held; create table held as select * from events where user_id % 10 = 0 and units < 20"
        )
        cursor.execute("delete from events where user_id % 10 = 0 and units < 20")
    engines.postgres.dbt("run", "--select", name)
    before = counted(engines, f"built.{name}")
    with engines.connection.cursor() as cursor:
        cursor.execute("insert into events select * from held")
    engines.postgres.dbt("run", "--select", name)
    assert counted(engines, f"built.{name}") - before > 300
