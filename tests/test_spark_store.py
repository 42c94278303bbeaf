"""What Python does with a DuckDB target it does with Spark, and gives the same: rows in Redis, training sets, statistics, freshness."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
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
from tests.support import kinds
from tests.support import spark as servers
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import make_project
from tests.support.kinds import START, VIEW, online
from tests.support.spark import Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

# Spark has no times of day, and JSON, UUIDs and bytes are text there or nothing.
FEATURES = ("amount", "ratio", "quantity", "price", "label", "paid", "day", "naive", "marks", "vector")
COLUMNS = kinds.KEYS | {name: kinds.FEATURES[name] for name in FEATURES}
FILES = {
    "models/kinds.sql": "select * from {{ source('raw', 'kinds') }}",
    "models/models.yml": {
        "sources": [{"name": "raw", "schema": "{{ 'main' if target.type == 'duckdb' else 'public' }}", "tables": [{"name": "kinds"}]}],
        "models": [{"name": "kinds", "config": {"materialized": "table", "meta": {"feature_view": VIEW}}}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(shared_spark: Spark, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Spark]:
    """The project built by DuckDB, and by Spark, in a session whose clocks change."""
    folder = tmp_path_factory.mktemp("store")
    ours = make_project(folder / "on-duckdb", dict(FILES))
    rows = kinds.drawn(1, 200, FEATURES)
    with duckdb.connect(str(ours.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"create table kinds ({', '.join(f'{name} {types[0]}' for name, types in COLUMNS.items())})")
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
    shared_spark.create("kinds", COLUMNS, rows)
    theirs = shared_spark.dbt(folder / "on-spark", FILES, "build")
    return ours.folder, theirs, shared_spark


@pytest.fixture
def remote(folders: tuple[Path, Path, Spark], monkeypatch: pytest.MonkeyPatch) -> Spark:
    monkeypatch.setenv("SPARK_REMOTE", folders[2].url)
    return folders[2]


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
    sql = "select user_id, shop, happened_at as asked_at from {}kinds where quantity is not null order by all"
    for ours, theirs in ((labels, labels), (sql.format("raw."), sql.format("public."))):
        one, other = (
            FeatureStore(folder).get_historical_features(spine, references, timestamp="asked_at").to_arrow().select(FEATURES)
            for folder, spine in ((folders[0], ours), (folders[1], theirs))
        )  # fmt: skip
        assert one.num_rows and one.column("quantity").null_count < one.num_rows
        assert one.schema.types == other.schema.types
        one, other = map(repr, to_rows(one)), map(repr, to_rows(other))
        assert list(one) == list(other) if ours is labels else sorted(one) == sorted(other)


def test_threads_that_ask_at_once_get_the_answers_to_their_own_rows(
    folders: tuple[Path, Path, Spark], remote: Spark
) -> None:
    """Each has a spine of the same name, in moments without a zone."""
    base = START.replace(tzinfo=None) + timedelta(days=19)
    spines = [
        pa.table({"user_id": pa.array([user] * 5, pa.int64()), "shop": ["a"] * 5,
                  "asked_at": pa.array([base - timedelta(days=day) for day in range(5)], pa.timestamp("us"))})
        for user in (1, 2, 4, 5)
    ]  # fmt: skip

    def asked(folder: Path, spine: pa.Table) -> list[dict[str, Any]]:
        return to_rows(
            FeatureStore(folder)
            .get_historical_features(spine, ["kinds:quantity", "kinds:label"], timestamp="asked_at")
            .to_arrow()
        )

    expected = [asked(folders[0], spine) for spine in spines]
    assert len({str(rows) for rows in expected}) == 4 and any(
        row["quantity"] is not None for rows in expected for row in rows
    )
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda spine: asked(folders[1], spine), spines))
    assert list(map(repr, found)) == list(map(repr, expected))


def test_statistics_freshness_and_doctor(folders: tuple[Path, Path, Spark], remote: Spark, redis_url: str) -> None:
    ours, theirs = (
        FeatureStore(folder).get_statistics("kinds", ["price", "label", "quantity"]) for folder in folders[:2]
    )
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
