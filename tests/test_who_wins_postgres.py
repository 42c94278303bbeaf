"""On PostgreSQL rows land while models are built: what a build had seen, and which entities are in doubt since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
import redis

from materializer import FeatureStore
from materializer.online import stream_record
from materializer.online.rows import encode_rows
from materializer.online.stream_record import StreamRecord, take
from materializer.online.writer import Writer
from materializer.project.checksums import Checksums
from materializer.project.definitions import Entity, Feature, FeatureView
from materializer.project.manifest import load_manifest
from materializer.project.settings import load_project
from materializer.warehouse import AsDbt, open_warehouse
from tests.support.dbt import DbtProject
from tests.support.streamed import streamed_on_postgres
from tests.test_who_wins import Always

COLUMNS = {
    "purchase_id": "bigint",
    "user_id": "bigint",
    "amount": "bigint",
    "undone": "boolean",
    "moment": "timestamptz",
}
FILES = {
    "models/models.yml": {
        "sources": [{
            "name": "shop", "schema": "events",
            "tables": [{
                "name": "purchases", "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id"}}},
                "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
            }],
        }],
        "models": [{"name": "spent", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}}],
    },
    "models/cleaned.sql": "{{ config(materialized='table', pre_hook=var('meanwhile', 'select 1')) }}\n"
    "select * from {{ source('shop', 'purchases') }}",
    "models/spent.sql": "{{ config(materialized='table') }}\n"
    "select user_id, max(moment) as event_timestamp, sum(amount)::bigint as amount from {{ ref('cleaned') }} "
    "where purchase_id not in (select purchase_id from {{ ref('cleaned') }} where undone) group by user_id",
}  # fmt: skip
MEANWHILE = "update events._fs_landing set seq = seq + 6; insert into events._fs_shown select -1, seq, clock_timestamp() from events._fs_landing"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, port: int) -> DbtProject:
    return streamed_on_postgres(tmp_path_factory.mktemp("wins") / "shop", FILES, port, hook=True)


@pytest.fixture
def ask(port: int) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    from adbc_driver_postgresql import dbapi

    where = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with dbapi.connect(where, autocommit=True) as connection, connection.cursor() as cursor:

        def call(sql: str) -> list[tuple[Any, ...]]:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

        yield call


def test_a_build_has_seen_what_was_there_when_it_began(
    project: DbtProject,
    ask: Callable[[str], list[tuple[Any, ...]]],
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=namespace)
    client = redis.Redis.from_url(redis_url, decode_responses=True)

    def land(purchase: int, user: int, amount: int = 1, undone: bool = False) -> None:
        minute = purchase + 30 * undone
        moment = f"2026-01-01T10:{minute:02d}:00Z"
        store.push("purchases", [
            {"purchase_id": purchase, "user_id": user, "amount": amount, "undone": undone, "moment": moment}
        ])  # fmt: skip

    def later() -> None:
        """As if a while had passed."""
        ask('update events._fs_shown set slot = slot - 1000, "at" = "at" - interval \'1 hour\'')

    def built() -> dict[str, int]:
        """What is recorded, from the number on that the landing began with."""
        found = ask("select model, built.seq - begun from built._fs_built as built, events._fs_landing")
        return {model.split(".")[-1]: seq for model, seq in found}

    land(1, user=1, amount=10)
    land(2, user=2)
    later()
    project.dbt("build")
    assert built() == {"cleaned": 2, "spent": 2}
    (result,) = store.materialize()
    assert (result.rows_written, result.warnings) == (2, ())
    ((begun,),) = ask("select begun from events._fs_landing")
    assert client.hget(f"{namespace}:spent:1", "_fs_seen") == str(begun + 2)

    land(3, user=1, amount=5)
    project.dbt("build")
    assert built() == {"cleaned": 2, "spent": 2}, "a commit of the last seconds may or may not have been there"
    later()
    project.dbt("run", "-s", "spent")
    assert built() == {"cleaned": 2, "spent": 2}, "what it is made from was built before"
    project.dbt("run", "--vars", f'{{meanwhile: "{MEANWHILE}"}}')
    assert built() == {"cleaned": 3, "spent": 3}, "what lands while it runs is not counted"
    ask("delete from events._fs_shown where slot = -1")
    ask("update events._fs_landing set seq = begun + 3")

    # A stream wrote what is taken back since, so the build has the row that the run before had sent.
    definition = Checksums(load_manifest(load_project(project.folder))).of("model.shop.spent")
    filters = {"source.shop.shop.purchases": (("user_id",),)}
    assert take(store._client, namespace, "spent", StreamRecord(definition, True, ("user_id",), filters))
    assert store.materialize()[0].rows_written == 1
    view = FeatureView("spent", (Entity("user_id", dtype=pa.int64()),), (Feature("amount", dtype=pa.int64()),))
    land(4, user=1, amount=100)
    land(5, user=7)
    with Writer(store._client, Always()) as writer:
        moment = pa.array(["2026-01-01T10:04:00"] * 2).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        keys = pa.table({"user_id": [1, 7]})
        rows = pa.record_batch({"user_id": [1, 7], "amount": [115, 1], "event_timestamp": moment})
        writer.send(encode_rows(rows, view, namespace, "stream:one", seen=begun + 5), keys)
        writer.finish()
    store.materialize()
    assert client.hget(f"{namespace}:spent:1", "amount") == "115", "the older build has no say"
    land(4, user=1, undone=True)
    land(5, user=7, undone=True)
    later()
    project.dbt("build")
    assert built() == {"cleaned": 7, "spent": 7}
    (result,) = store.materialize()
    assert (result.rows_written, result.rows_deleted) == (1, 1)
    assert client.hgetall(f"{namespace}:spent:1")["amount"] == "15"
    assert client.hgetall(f"{namespace}:spent:7").keys() == {"_fs_seen", "_fs_writer"}
    assert store.materialize()[0].why == "0 new, 0 changed, 0 gone"

    # The landing is begun anew.
    with Writer(store._client, Always()) as writer:
        writer.send(encode_rows(rows, view, namespace, "stream:one", seen=begun + 99), keys)
        writer.finish()
    ask("drop schema events cascade")
    land(1, user=1, amount=20)
    later()
    project.dbt("build", "--full-refresh")
    monkeypatch.setattr(stream_record, "HELD_MS", 100)
    assert store.materialize(allow_shrink=True)[0].why == "every row: the landing was begun anew"
    assert client.hget(f"{namespace}:spent:1", "amount") == "20"
    assert client.hgetall(f"{namespace}:spent:7").keys() == {"_fs_seen", "_fs_writer"}


def test_what_names_an_entity_is_read_in_dbts_time_zone(
    project: DbtProject, ask: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    hour = "select extract(hour from timestamptz '2026-01-01 00:00:00Z')::int as hour"
    ask("alter role postgres set timezone = 'Asia/Tokyo'")
    try:
        with open_warehouse(load_project(project.folder)) as warehouse:
            assert isinstance(warehouse, AsDbt)
            with warehouse.as_dbt():
                assert warehouse.query(hour)["hour"].to_pylist() == [9]
            assert warehouse.query(hour)["hour"].to_pylist() == [0]
    finally:
        ask("alter role postgres reset timezone")
