"""What else a dbt user on Spark meets gives DuckDB's rows: spines as text and without a relation, on-demand features, generic tests;
then what Python makes of such a project: training sets made again from their record, and skew."""

from __future__ import annotations

import decimal
import json
import random
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from materializer import FeatureStore, InputError
from materializer.training.repeat import TrainingSetChangedError
from materializer.warehouse.moments import to_rows
from tests.support import spark as servers
from tests.support.command import run
from tests.support.dbt import DbtFailed, DbtProject, make_project
from tests.support.serving import serving
from tests.support.two_engines import SCHEMA, UTC, Row, close, exact
from tests.test_spark import on_duckdb, rows_of

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

START = datetime(2026, 3, 27, tzinfo=UTC)  # clocks change in Europe on the 29th
EVENTS = {
    "user_id": ("bigint", "bigint"), "happened_at": ("timestamptz", "timestamptz"), "amount": ("double", "double precision"),
    "price": ("decimal(12, 3)", "numeric(12, 3)"), "pieces": ("bigint", "bigint"), "label": ("varchar", "text"),
}  # fmt: skip
LABELS = {
    "no": ("bigint", "bigint"), "user_id": ("varchar", "text"), "asked_at": ("timestamptz", "timestamptz"),
    "given": ("bigint", "bigint"), "half": ("decimal(12, 3)", "numeric(12, 3)"), "word": ("varchar", "text"),
}  # fmt: skip
ON_DEMAND = {
    "ratio": {"expression": "cast(given as double) / nullif(cast(pieces as double), 0)", "request": {"given": "bigint"}},
    "sum_of_all": {"expression": "coalesce(amount, 0) + given * 2 - half", "request": {"given": "bigint", "half": "decimal(12, 3)"}},
    "is_a": {"expression": "label || word = 'aX'", "request": {"word": "varchar"}},
    "size": {"expression": "case when amount > 5 then 'large' when amount is null then null else 'small' end"},
}  # fmt: skip
FEATURES = "['scored:amount', 'scored:price']"


def trained(spine: str) -> str:
    return f"{{{{ feature_store.point_in_time_join({spine}, {FEATURES}, timestamp='asked_at') }}}} -- depends_on: {{{{ ref('scored') }}}}"


def counted(spine: str) -> str:
    aggregates = [
        {"name": "n", "function": "count"},
        {"name": "total", "function": "sum", "expression": "price"},
    ]
    return (
        f"{{{{ feature_store.aggregate_as_of({spine}, source('raw', 'events'), 'user_id', 'happened_at', {aggregates}, "
        "['1 day'], spine_timestamp='asked_at') }}"
    )


TEXT = "'select * from ' ~ source('raw', 'labels') ~ ' where no % 2 = 0 -- the even ones'"
SPINES = {
    "by_text": (trained(TEXT), 100),
    "by_ephemeral": (trained("ref('unbuilt')"), 100),
    "by_cte": (f"with wanted as (select * from {{{{ source('raw', 'labels') }}}}) select * from ({trained(repr('wanted')).partition(' --')[0]}) as found -- depends_on: {{{{ ref('scored') }}}}", 200),
    "counted_by_text": (counted(TEXT), 100),
    "counted_by_ephemeral": (counted("ref('unbuilt')"), 100),
}  # fmt: skip
MODELS = {
    "scored": "select * from {{ source('raw', 'events') }}",
    # Keys and times that break its rules.
    "broken": "select * from {{ source('raw', 'events') }} union all select * from {{ source('raw', 'events') }} where user_id < 3",
    "unbuilt": "{{ config(materialized='ephemeral') }} select * from {{ source('raw', 'labels') }} where no < 100",
    "computed": (
        "{{ feature_store.point_in_time_join(source('raw', 'labels'), 'scoring', timestamp='asked_at', full_feature_names=true) }}"
        "-- depends_on: {{ ref('scored') }}"
    ),
    **{name: sql for name, (sql, _) in SPINES.items()},
}  # fmt: skip


def checks_of(view: str, **arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {f"feature_store.{name.rpartition('__')[2]}": {"name": f"{view}_{name}", "arguments": given}}
        for name, given in arguments.items()
    ]


def view(name: str, least: float, **more: Any) -> dict[str, Any]:
    """A view with each generic test, passing or failing by what is let through."""
    drift = {"period": "2 days", "minimum_rows": 10}
    return {
        "name": name,
        "config": {"meta": {"feature_view": {"entities": ["user_id"], "timestamp": "happened_at", **more}}},
        "data_tests": checks_of(name, feature_freshness={"max_age": "30000 days" if least else "1 hour"}),
        "columns": [
            {"name": "amount", "data_tests": checks_of(name, feature_null_fraction={"maximum": least or 0.01},
                psi__feature_drift={"maximum": least * 1000 or 1e-9, **drift})},
            {"name": "label", "data_tests": checks_of(name, js__feature_drift={"measure": "js", "maximum": least or 1e-9, **drift})},
            {"name": "price", "data_tests": checks_of(name, rate__feature_drift={"measure": "null_rate", "maximum": least or 1e-9, **drift})},
        ],
    }  # fmt: skip


PROPERTIES = {
    "sources": [{"name": "raw", "schema": SCHEMA, "tables": [{"name": "events"}, {"name": "labels"}]}],
    "models": [view("scored", 0.9, on_demand=ON_DEMAND), view("broken", 0)],
    "exposures": [
        {"name": "scoring", "type": "ml", "owner": {"name": "x"}, "depends_on": ["ref('scored')"],
         "config": {"meta": {
             "features": ["scored:amount", "scored:pieces", *(f"scored:{name}" for name in ON_DEMAND)],
             "on_demand": {"share": {"expression": "given * amount", "request": {"given": "bigint"}}},
         }}},
    ],
}  # fmt: skip
FAILING = ("feature_freshness", "feature_null_fraction", "psi__feature_drift", "js__feature_drift", "rate__feature_drift")  # fmt: skip


def events(draw: random.Random) -> list[Row]:
    return [
        {
            "user_id": draw.randrange(1, 6), "happened_at": START + timedelta(minutes=15 * draw.randrange(800)),
            "amount": draw.choice([0.1, -3.25, 7.5, 1e5, None]), "price": draw.choice([decimal.Decimal("1.100"), decimal.Decimal("-7.123"), None]),
            "pieces": draw.choice([0, 1, 2, 3, None]), "label": draw.choice(["a", "b", None]),
        }
        for _ in range(400)
    ]  # fmt: skip


def labels(draw: random.Random) -> list[Row]:
    return [
        {
            "no": number, "user_id": draw.choice(["1", "2", "3", "03", "x", None]),
            "asked_at": START + timedelta(minutes=15 * draw.randrange(800)), "given": draw.choice([1, 7, 10]),
            "half": decimal.Decimal("0.500"), "word": draw.choice(["X", "x"]),
        }
        for number in range(200)
    ]  # fmt: skip


@dataclass(frozen=True)
class Built:
    """The project built by DuckDB, and by Spark in a session whose clocks change; how each test ended on Spark."""

    ours: DbtProject
    theirs: Path
    spark: servers.Spark
    ended: dict[str, str]

    def rows(self, model: str) -> tuple[list[Row], list[Row]]:
        return rows_of(self.ours, model), self.spark.rows(model)


@pytest.fixture(scope="module")
def built(shared_spark: servers.Spark, tmp_path_factory: pytest.TempPathFactory) -> Built:
    draw = random.Random(5)
    tables = {"events": (EVENTS, events(draw)), "labels": (LABELS, labels(draw))}
    files = {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, sql in MODELS.items()}
    ours = on_duckdb(make_project(tmp_path_factory.mktemp("on-duckdb"), files), tables, "run")
    with pytest.raises(DbtFailed):
        ours.dbt("test", "--store-failures")
    for table, (columns, rows) in tables.items():
        shared_spark.create(table, columns, rows)
    theirs = shared_spark.dbt(tmp_path_factory.mktemp("on-spark"), files, "run")
    with pytest.raises(DbtFailed):
        shared_spark.run(theirs, "test", "--store-failures")
    results = json.loads((theirs / "target" / "run_results.json").read_text())["results"]
    ended = {one["unique_id"].split(".")[2]: one["status"] for one in results}
    return Built(ours, theirs, shared_spark, ended)


@pytest.fixture
def remote(built: Built, monkeypatch: pytest.MonkeyPatch) -> Built:
    monkeypatch.setenv("SPARK_REMOTE", built.spark.url)
    return built


def keyed(found: list[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    keyed = {tuple(row[name] for name in names): {name: exact(value) for name, value in row.items()} for row in found}
    assert len(keyed) == len(found)
    return keyed


@pytest.mark.parametrize("model", SPINES)
def test_a_spine_is_a_query_or_the_name_of_one(built: Built, model: str) -> None:
    ours, theirs = built.rows(model)
    assert len(ours) == len(theirs) == SPINES[model][1]
    assert list(ours[0]) == list(theirs[0])
    assert keyed(ours, "no") == keyed(theirs, "no")
    feature = "n_1d" if "counted" in model else "price"
    assert sum(row[feature] is not None for row in theirs) > SPINES[model][1] / 10


def test_on_demand_features_are_computed_alike(built: Built) -> None:
    ours, theirs = ({row["no"]: row for row in side} for side in built.rows("computed"))
    assert ours.keys() == theirs.keys() and len(ours) == 200
    differing = [
        (no, name, value, theirs[no][name])
        for no, row in ours.items()
        for name, value in row.items()
        if not alike(value, theirs[no][name])
    ]
    assert differing == []
    assert {row["scored__ratio"] for row in theirs.values()} >= {3.5, 10.0}
    assert {row["scored__size"] for row in theirs.values()} == {"large", "small", None}


def alike(one: Any, other: Any) -> bool:
    """Numbers as doubles: Spark has no type for all that DuckDB's expressions give."""
    numbers = (int, float, decimal.Decimal)
    if isinstance(one, numbers) and isinstance(other, numbers) and not isinstance(one, bool):
        return float(one) == float(other)
    return exact(one) == exact(other)


def test_generic_tests_find_the_same(built: Built) -> None:
    """Those of one view fail, with the same figures; those of the other pass."""
    assert built.ended == {f"broken_{name}": "fail" for name in FAILING} | {
        f"scored_{name}": "pass" for name in FAILING
    }
    for name in FAILING:
        table = f"broken_{name}"
        ours = rows_of(built.ours, table, "main_dbt_test__audit")
        theirs = built.spark.rows(table, "built_dbt_test__audit")
        assert len(ours) == len(theirs) > 0
        assert [row["broken_rule"] for row in ours] == [row["broken_rule"] for row in theirs]
        for figure in ours[0]:
            one, other = ours[0][figure], theirs[0][figure]
            assert close(float(one), float(other)) if isinstance(one, (float, decimal.Decimal)) else True, figure


def test_a_recorded_training_set_is_made_again_with_the_same_bytes(remote: Built, tmp_path: Path) -> None:
    """Of labels in a file. Those of a SELECT come in any order on Spark, and with another one the set is another."""
    store = FeatureStore(remote.theirs)
    table = pa.Table.from_pylist(
        [row | {"user_id": row["no"] % 7, "event_timestamp": row["asked_at"]} for row in labels(random.Random(7))]
    )
    references = ["scored:amount", "scored:price", *(f"scored:{name}" for name in ON_DEMAND), "scoring:share"]
    pq.write_table(table, tmp_path / "labels.parquet")
    record = store.save_training_set(tmp_path / "set.parquet", tmp_path / "labels.parquet", references)
    assert record.versions["spark"].startswith("4") and "duckdb" not in record.versions
    assert record.spine.rows == 200 and all(one.content for one in record.views)
    repeated = store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet")
    assert repeated.same
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "set.parquet").read_bytes()
    ours = FeatureStore(remote.ours.folder).get_historical_features(table, references).to_arrow()
    assert [repr(row) for row in to_rows(ours)] == [
        repr(row) for row in to_rows(store.get_historical_features(table, references).to_arrow())
    ]
    select = "select user_id, happened_at as event_timestamp from built.scored where pieces = 1"
    store.save_training_set(tmp_path / "select.parquet", select, ["scored:price"])
    with pytest.raises(InputError, match="On spark nothing keeps it to that"):
        store.repeat_training_set(tmp_path / "select.parquet.json", tmp_path / "third.parquet")
    with changed(remote), pytest.raises(TrainingSetChangedError, match="data of feature view 'scored' has changed"):
        store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "third.parquet")
    assert not (tmp_path / "third.parquet").exists()


def test_executors_that_name_no_redis_are_one_sentence_before_anything_is_written(
    remote: Built, redis_url: str, client: redis.Redis
) -> None:
    namespace = "spark.unnamed"
    options = ("--project-dir", str(remote.theirs), "--redis-url", redis_url, "--namespace", namespace)
    for more in ((), ("--dry-run",)):
        ran = run("materialize", "scored", "--from-executors", *more, *options)
        assert (ran.code, ran.err) == (
            1,
            "Error: scored: Spark's executors have no FEATURE_STORE_REDIS_URL in their environment: set it there, where Spark's "
            "workers are started, to the Redis that this run writes to.\n",
        )
        assert client.keys(f"{namespace}:*") == []


def test_the_values_of_two_builds_are_compared(remote: Built, tmp_path: Path) -> None:
    """What was built before, under another name: one user has other values, another is missing. DuckDB tells the same."""
    before = (
        "create table {0}.scored_before as select * from {0}.scored where user_id > 2 union all "
        "select user_id, happened_at, amount, price, 77 as pieces, label from {0}.scored where user_id = 1"
    )
    with duckdb.connect(str(remote.ours.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(before.format("main"))
    remote.spark.session.sql(before.format("built"))
    told = []
    for folder in (remote.ours.folder, remote.theirs):
        now = folder / "target" / "manifest.json"
        content = json.loads(now.read_text())
        node = content["nodes"]["model.shop.scored"]
        node["relation_name"] = re.sub(r'scored("?)$', r"scored_before\1", node["relation_name"])
        (old := tmp_path / "manifest.json").write_text(json.dumps(content))
        (view,) = [one for one in FeatureStore(folder).diff(old, now, data=True).views if one.view == "scored"]
        told.append(view.values)
    assert told[0] == told[1]
    assert (told[1].entities, told[1].only_old, told[1].only_new) == (4, 0, 1)
    assert {one.feature: one.differing for one in told[1].features} == {
        "amount": 0,
        "price": 0,
        "pieces": 1,
        "label": 0,
    }
    (pieces,) = (one for one in told[1].features if one.feature == "pieces")
    assert [one["old_value"] for one in pieces.examples] == ["77"]


def test_skew_names_what_changed_after_it_was_served(
    remote: Built, redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    namespace, users = "spark.skew", [1, 2, 3, 4, 5]
    store = FeatureStore(remote.theirs, redis_url=redis_url, namespace=namespace)
    store.materialize(feature_views=["scored"])
    options = ("--log-features", str(tmp_path / "served"), "--log-sample", "1", "--log-seconds", "0.1")
    with serving(redis_url, *options, namespace=namespace) as (http, _):
        answer = http.post(
            "/v1/features", json={"features": ["scored:pieces"], "entities": [{"user_id": one} for one in users]}
        )
        assert answer.status_code == 200, answer.text
        time.sleep(1)

    def compared() -> dict[str, Any]:
        ran = run("feature-store", "skew", str(tmp_path / "served"), "--project-dir", str(remote.theirs), "--redis-url", redis_url,
                  "--namespace", namespace, "--output", "json")  # fmt: skip
        assert "Traceback" not in ran.err, ran.err
        (feature,) = ran.json["features"]
        return feature

    same = compared()
    assert (same["rows"], same["differ"]) == (len(users), 0), same
    with changed(remote):
        other = compared()
    assert other["rows"] == len(users) and other["differ"] == 1, other


class changed:  # noqa: N801
    """Other values for one user, for as long as this lasts."""

    def __init__(self, built: Built) -> None:
        self._session = built.spark.session

    def __enter__(self) -> None:
        self._session.sql("create table built.kept as select * from built.scored")
        self._became("select * except (pieces), if(user_id = 1, 77L, pieces) as pieces from built.kept")

    def __exit__(self, *_: object) -> None:
        self._became("select * from built.kept")
        self._session.sql("drop table built.kept")

    def _became(self, sql: str) -> None:
        self._session.sql("drop table built.scored")
        self._session.sql(f"create table built.scored as {sql}")
