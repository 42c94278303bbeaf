"""Spark as a cluster: a worker is lost while dbt builds and comes back, and rows online and training sets are those of DuckDB."""

from __future__ import annotations

import decimal
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import redis

from materializer import FeatureStore
from materializer.warehouse.moments import to_rows
from tests.support import spark as servers
from tests.support.dbt import DbtProject, make_project
from tests.support.spark_cluster import Cluster, cluster, until
from tests.support.two_engines import UTC, exact

pytestmark = [pytest.mark.spark, pytest.mark.soak, pytest.mark.timeout(900)]

START = datetime(2026, 3, 20, tzinfo=UTC)
USERS, EVENTS, LABELS = 300, 20_000, 2_000
COLUMNS = {
    "events": {"user_id": ("bigint", "bigint"), "happened_at": ("timestamptz", "timestamptz"), "loaded_at": ("timestamp", "timestamp"),
               "amount": ("double", "double"), "price": ("decimal(12,3)", "numeric(12,3)")},
    "labels": {"user_id": ("bigint", "bigint"), "asked_at": ("timestamptz", "timestamptz"), "bought": ("boolean", "boolean")},
}  # fmt: skip
FEATURES = ["orders_1d", "orders_7d", "spent_1d", "spent_7d", "amount_1d", "amount_7d"]
FILES = {
    "models/spending.sql": """{{ feature_store.window_aggregates(
        relation=source('raw', 'events'), entities='user_id', timestamp='happened_at', created_timestamp='loaded_at',
        aggregates=[{'name': 'orders', 'function': 'count'}, {'name': 'spent', 'function': 'sum', 'expression': 'price'},
                    {'name': 'amount', 'function': 'avg', 'expression': 'amount'}],
        windows=['1 day', '7 days']) }}""",
    "models/training_set.sql": "{{ feature_store.point_in_time_join(spine=source('raw', 'labels'), timestamp='asked_at', features=%s) }}" % [f"spending:{name}" for name in FEATURES],
    "models/models.yml": {
        "sources": [{"name": "raw", "schema": "{{ 'main' if target.type == 'duckdb' else 'public' }}", "tables": [{"name": "events"}, {"name": "labels"}]}],
        "models": [
            {"name": "spending", "config": {"materialized": "table", "meta": {"feature_view": {"entities": ["user_id"], "ttl": "4000 days"}}}},
            {"name": "training_set", "config": {"materialized": "table"}},
        ],
    },
}  # fmt: skip


def drawn() -> dict[str, list[dict[str, Any]]]:
    draw = random.Random(12)

    def moment() -> datetime:
        return START + timedelta(minutes=draw.randrange(40 * 24 * 60))

    events = []
    for _ in range(EVENTS):
        happened = moment()
        late = timedelta(minutes=draw.choice([0, 0, 3, 90, 4000]))
        events.append({
            "user_id": draw.randrange(USERS), "happened_at": happened, "loaded_at": happened.replace(tzinfo=None) + late,
            "amount": draw.choice([0.1, 12.35, -0.0, 99.99, None]), "price": decimal.Decimal(draw.randrange(-10**6, 10**6)) / 1000,
        })  # fmt: skip
    labels = [
        {"user_id": draw.randrange(USERS + 20), "asked_at": moment(), "bought": draw.random() < 0.5}
        for _ in range(LABELS)
    ]
    return {"events": events, "labels": labels}


@dataclass(frozen=True)
class Built:
    ours: DbtProject
    theirs: Path
    cluster: Cluster
    said: str
    returncode: int


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The project built by DuckDB, and by a cluster that lost one of its two workers meanwhile and got it back."""
    if why := servers.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("cluster")
    rows = drawn()
    ours = make_project(folder / "on-duckdb", FILES)
    with duckdb.connect(str(ours.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        for table, columns in COLUMNS.items():
            connection.execute(
                f"create table {table} ({', '.join(f'{name} {types[0]}' for name, types in columns.items())})"
            )
            given = pa.Table.from_pylist(rows[table])
            connection.execute(f"insert into {table} by name from given")
            assert connection.execute(f"select count(*) from {table}").fetchall() == [(given.num_rows,)]
    ours.dbt("build")
    with cluster() as running:
        for table, columns in COLUMNS.items():
            running.server.create(table, columns, rows[table])
        theirs = running.server.project(folder / "on-spark", FILES)
        done = build_while_a_worker_is_lost(running, theirs)
        yield Built(ours, theirs, running, done.stdout, done.returncode)


def build_while_a_worker_is_lost(running: Cluster, folder: Path) -> subprocess.CompletedProcess[str]:
    """It is lost when it has done some of the work of the windowed view, and another takes its place."""
    first = running.workers[0]
    before = first.finished_tasks()
    build = subprocess.Popen(
        [sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "build"], cwd=folder, text=True,
        env=servers.environment() | {"DBT_PROFILES_DIR": str(folder), "SPARK_REMOTE": running.server.url},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: first.finished_tasks() > before + 3, "the first worker was given nothing to do")
        first.lose()
        assert build.poll() is None, "the worker was lost too late"
        until(running.lost_executors, "nobody missed the worker")
        running.add_worker()
        said, _ = build.communicate(timeout=500)
    finally:
        if build.poll() is None:
            build.kill()
            build.wait()
    return subprocess.CompletedProcess(build.args, build.returncode, said)


def online(client: redis.Redis, namespace: str) -> dict[bytes, dict[bytes, bytes]]:
    found = {}
    for key in client.scan_iter(match=f"{namespace}:spending:*", count=1000, _type="hash"):
        found[key.removeprefix(namespace.encode())] = {
            field: value for field, value in client.hgetall(key).items() if field != b"_fs_writer"
        }
    return found


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    """Rows to the bit, in an order that their engine has no part in."""
    return sorted(repr({name: exact(value) for name, value in row.items()}) for row in rows)


def test_the_build_ends_well_though_a_worker_was_lost(built: Built) -> None:
    assert built.returncode == 0, built.said[-3000:]
    assert "PASS=3 WARN=0 ERROR=0" in built.said  # with the registry of the package
    # Both worked, and so did the one that came in the place of the first.
    assert len(built.cluster.workers) == 3 and built.cluster.lost_executors()
    until(lambda: len(built.cluster.executors()) == 3, "the new worker was given no executor")
    with duckdb.connect(str(built.ours.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        for model, least in (("spending", EVENTS), ("training_set", LABELS)):
            ours = connection.sql(f"from {model}").to_arrow_table().to_pylist()
            assert len(ours) >= least
            assert in_order(ours) == in_order(built.cluster.server.rows(model)), model
    assert all(worker.finished_tasks() for worker in built.cluster.workers)


def test_a_training_set_read_from_a_cluster_is_that_of_duckdb(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_REMOTE", built.cluster.server.url)
    references = [f"spending:{name}" for name in FEATURES]
    ours, theirs = (
        FeatureStore(folder).get_historical_features(f"select * from {schema}.labels", references, timestamp="asked_at").to_arrow()
        for folder, schema in ((built.ours.folder, "main"), (built.theirs, "public"))
    )  # fmt: skip
    assert ours.num_rows == LABELS and ours.column("spent_7d").null_count < LABELS / 2
    assert in_order(to_rows(ours)) == in_order(to_rows(theirs))


def test_the_same_rows_go_online_from_a_cluster(
    built: Built, monkeypatch: pytest.MonkeyPatch, redis_url: str, client: redis.Redis
) -> None:
    monkeypatch.setenv("SPARK_REMOTE", built.cluster.server.url)
    for folder, namespace in ((built.ours.folder, "cluster.ours"), (built.theirs, "cluster.theirs")):
        store = FeatureStore(folder, redis_url=redis_url, namespace=namespace)
        (first,), (again,) = store.materialize(), store.materialize()
        assert (first.rows_written, again.rows_written) == (USERS, 0), (first, again)
    assert online(client, "cluster.ours") == online(client, "cluster.theirs")
    assert len(online(client, "cluster.theirs")) == USERS
