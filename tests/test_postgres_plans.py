"""On PostgreSQL the cost of a training set and of windows grows with the rows, not with their square.

Each statement has far longer than it needs and far less than a nested loop over all rows would take: PostgreSQL expects a single row
where several expressions are equal, and takes such a loop wherever the shape of the SQL allows one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.two_engines import Engines, two_engines

TIMEOUT = "30s"
EVENTS = """
    create table events as
    select
        (n * 7919) % 2000 as user_id,
        timestamptz '2026-01-01 00:00:00+00' + (n * 104729 % 7776000) * interval '1 second' as happened_at,
        timestamptz '2026-01-01 00:00:00+00' + (n * 104729 % 7776000 + n % 3 * 4000) * interval '1 second' as loaded_at,
        n % 100 as units, n / 7.0::double precision as amount, n % 1000 as a, n % 1001 as b, n % 1002 as c
    from generate_series(1::bigint, {rows}) as numbers (n)
"""
LABELS = """
    create table labels as
    select (n * 31) % 2000 as user_id, timestamp '2026-01-01' + (n * 15485863 % 7776000) * interval '1 second' as event_timestamp, n as no
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
        ],
    },
    "models/users.sql": "select * from {{ source('raw', 'events') }}",
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
