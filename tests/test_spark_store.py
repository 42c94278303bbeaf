"""What Python does with a DuckDB target it does with Spark, and gives the same: rows in Redis, training sets, statistics, freshness."""

from __future__ import annotations

import decimal
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import redis

from materializer import FeatureStore, WarehouseError
from materializer.project.relation import Relation
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from materializer.warehouse.moments import to_rows
from tests.support import spark as servers
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import make_project
from tests.support.spark import Spark
from tests.support.two_engines import UTC

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

START = datetime(2026, 3, 20, tzinfo=UTC)
COLUMNS = {
    "user_id": ("bigint", "bigint"), "shop": ("varchar", "text"), "happened_at": ("timestamptz", "timestamptz"),
    "loaded_at": ("timestamp", "timestamp"), "amount": ("double", "double"), "ratio": ("float", "real"), "units": ("bigint", "bigint"),
    "price": ("decimal(12,3)", "numeric(12,3)"), "label": ("varchar", "text"), "paid": ("boolean", "boolean"), "day": ("date", "date"),
    "naive": ("timestamp", "timestamp"), "marks": ("integer[]", "integer[]"), "vector": ("float[]", "real[]"),
}  # fmt: skip
FEATURES = [name for name in COLUMNS if name not in ("user_id", "shop", "happened_at", "loaded_at")]
VIEW = {
    "entities": ["user_id", "shop"], "timestamp": "happened_at", "created_timestamp": "loaded_at", "ttl": "4000 days",
}  # fmt: skip
FILES = {
    "models/kinds.sql": "select * from {{ source('raw', 'kinds') }}",
    "models/models.yml": {
        "sources": [{"name": "raw", "schema": "{{ 'main' if target.type == 'duckdb' else 'public' }}", "tables": [{"name": "kinds"}]}],
        "models": [{"name": "kinds", "config": {"materialized": "table", "meta": {"feature_view": VIEW}}}],
    },
}  # fmt: skip


def drawn(seed: int, count: int = 200) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    base = START.replace(tzinfo=None)

    def one() -> dict[str, Any]:
        values = {
            "amount": draw.choice([0.1, -0.0, 0.0, 1e300, 5e-324, float("nan"), float("inf"), 123456.789]),
            "ratio": draw.choice([0.5, 16777216.0, -0.0]),
            "units": draw.choice([2**63 - 1, -(2**63), 2**53 + 1, 7]),
            "price": draw.choice([decimal.Decimal("1.500"), decimal.Decimal("-999999999.999"), decimal.Decimal(0)]),
            "label": draw.choice(["x", "é", "", 'a"b\\c\n', "Ω"]),
            "paid": draw.random() < 0.5,
            "day": (base + timedelta(days=draw.randrange(-30000, 30000))).date(),
            "naive": draw.choice([base, datetime(2026, 3, 29, 2, 30), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
            "marks": draw.choice([[1, None, -2147483648], [], [7]]),
            "vector": [draw.choice([0.5, -1.25, 0.0]) for _ in range(4)],
        }
        for name in values:
            if draw.random() < 0.15:
                values[name] = None
        return {
            "user_id": draw.choice([1, 2, 3, 4, 5, 2**53 + 1]), "shop": draw.choice(["a", "b:c", "É"]),
            "happened_at": START + timedelta(hours=draw.randrange(400)), "loaded_at": base + timedelta(hours=draw.randrange(420)),
        } | values  # fmt: skip

    return [one() for _ in range(count)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Spark]]:
    """The project built by DuckDB, and by Spark, in a session whose clocks change."""
    if why := servers.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("store")
    ours = make_project(folder / "on-duckdb", dict(FILES))
    with servers.spark() as spark:
        rows = drawn(1)
        with duckdb.connect(str(ours.warehouse)) as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute(
                f"create table kinds ({', '.join(f'{name} {types[0]}' for name, types in COLUMNS.items())})"
            )
            connection.executemany(
                f"insert into kinds values ({', '.join('?' * len(COLUMNS))})", [list(row.values()) for row in rows]
            )
            connection.execute("alter table kinds rename to given")
            connection.execute("create schema raw; create table raw.kinds as from given; drop table given")
        ours.write(
            {
                "models/models.yml": FILES["models/models.yml"]
                | {"sources": [{"name": "raw", "schema": "raw", "tables": [{"name": "kinds"}]}]}
            }
        )
        ours.dbt("build")
        spark.create("kinds", COLUMNS, rows)
        theirs = spark.dbt(folder / "on-spark", FILES, "build")
        yield ours.folder, theirs, spark


@pytest.fixture
def remote(folders: tuple[Path, Path, Spark], monkeypatch: pytest.MonkeyPatch) -> Spark:
    monkeypatch.setenv("SPARK_REMOTE", folders[2].url)
    return folders[2]


def online(client: redis.Redis, namespace: str) -> dict[bytes, dict[bytes, bytes]]:
    found = {}
    for key in client.scan_iter(match=f"{namespace}:kinds:*", count=1000, _type="hash"):
        found[key.removeprefix(namespace.encode())] = {
            field: value for field, value in client.hgetall(key).items() if field != b"_fs_writer"
        }
    return found


def test_the_same_rows_go_online(
    folders: tuple[Path, Path, Spark], remote: Spark, redis_url: str, client: redis.Redis
) -> None:
    for folder, namespace in ((folders[0], "spark.ours"), (folders[1], "spark.theirs")):
        store = FeatureStore(folder, redis_url=redis_url, namespace=namespace)
        (first,), (again,) = store.materialize(), store.materialize()
        assert (first.rows_written, again.rows_written) == (18, 0), (first, again)
    assert online(client, "spark.ours") == online(client, "spark.theirs")
    assert len(online(client, "spark.theirs")) == 18


def test_a_training_set_is_the_same_whatever_its_labels_come_as(
    folders: tuple[Path, Path, Spark], remote: Spark
) -> None:
    draw = random.Random(5)
    labels = pa.Table.from_pylist(
        [{"user_id": draw.choice([1, 2, 4, 9]), "shop": draw.choice(["a", "É", None]), "asked_at": START + timedelta(minutes=draw.randrange(30_000))}
         for _ in range(100)]
    )  # fmt: skip
    references = [f"kinds:{name}" for name in FEATURES]
    sql = "select user_id, shop, happened_at as asked_at from {}kinds where units is not null order by all"
    for ours, theirs in ((labels, labels), (sql.format("raw."), sql.format("public."))):
        one, other = (
            FeatureStore(folder).get_historical_features(spine, references, timestamp="asked_at").to_arrow().select(FEATURES)
            for folder, spine in ((folders[0], ours), (folders[1], theirs))
        )  # fmt: skip
        assert one.num_rows and one.column("units").null_count < one.num_rows
        assert one.schema.types == other.schema.types
        assert sorted(map(repr, to_rows(one))) == sorted(map(repr, to_rows(other)))


def test_statistics_freshness_and_doctor(folders: tuple[Path, Path, Spark], remote: Spark, redis_url: str) -> None:
    ours, theirs = (FeatureStore(folder).get_statistics("kinds", ["price", "label", "units"]) for folder in folders[:2])
    for one, other in zip(ours.features, theirs.features, strict=True):
        for figure in ("feature", "row_count", "null_count", "distinct_count", "minimum", "maximum"):
            assert getattr(one, figure) == getattr(other, figure), figure
    (ours,), (theirs,) = (FeatureStore(folder, redis_url=redis_url).get_freshness() for folder in folders[:2])
    assert (ours.rows, ours.newest_event, ours.newest_load) == (theirs.rows, theirs.newest_event, theirs.newest_load)
    shown = run("feature-store", "doctor", "--project-dir", str(folders[1]), "--redis-url", redis_url)
    assert "ok    warehouse: spark 4" in shown.out and "view kinds: 10 features by user_id, shop" in shown.out


def test_what_spark_refuses_is_one_sentence(
    folders: tuple[Path, Path, Spark], remote: Spark, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_warehouse(load_project(folders[1])) as warehouse:
        assert warehouse.columns(Relation("absent.kinds")) == []
        for sql, said in (
            ("select nope", "nope"),
            ("select 1 / 0 as x", "Division by zero"),
            ("selct", "Syntax error"),
        ):
            with pytest.raises(WarehouseError, match=f"^Spark refused a query: .*{said}") as refused:
                warehouse.query(sql)
            assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_is_away_is_one_sentence(
    folders: tuple[Path, Path, Spark], monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [str(Path(sys.executable).with_name("materialize")), "--project-dir", str(folders[1]), "--redis-url", redis_url],
        env=servers.environment() | {"SPARK_REMOTE": f"sc://127.0.0.1:{servers.free_port()}"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1
    assert_one_sentence(done.stderr[done.stderr.index("Error: ") :])
