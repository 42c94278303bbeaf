"""A Feast repository becomes a dbt project: what it reads, what it writes, and that the values are those it promises."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from materializer import FeatureStore, InputError
from materializer.feast import Written, from_feast
from materializer.feast.ask import SCRIPT
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, install
from tests.support.real_feast import PYTHON

NOW = datetime.now(timezone.utc).replace(microsecond=0)
STORE = """
project: city_rides
provider: local
registry: data/registry.db
offline_store: {type: duckdb}
online_store: {type: redis, connection_string: "localhost:6379,password=hunter2"}
"""
REPOSITORY = {
    "feature_store.yaml": STORE,
    "entities.py": """
        from feast import Entity, ValueType
        driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64,
                        description="Who drives.", owner="ops@rides.example", tags={"pii": "yes"})
        place = Entity(name="place_id", value_type=ValueType.STRING)
        unused = Entity(name="unused")
    """,
    "views/driver.py": """
        import os
        from datetime import timedelta
        from feast import BatchFeatureView, FeatureView, Field, FileSource, PushSource
        from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp
        from entities import driver

        DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
        open("ran", "w").write("the repository's code ran")

        def floats(*names):
            return [Field(name=name, dtype=Float32) for name in names]

        stats = FileSource(name="driver stats", path=f"{DATA}/driver stats.parquet", timestamp_field="event_timestamp",
                           created_timestamp_column="created", field_mapping={"conv": "conv_rate", "load": "created"},
                           description="Hourly {{ numbers }}.", tags={"layer": "raw"}, owner="data@rides.example")
        driver_stats = FeatureView(
            name="driver_stats", entities=[driver], ttl=2 * timedelta(days=1), source=stats,
            schema=floats("acc_rate") + [
                Field(name="conv_rate", dtype=Float64, description="Share of {{ rides }} taken."),
                Field(name="trips", dtype=Int64, tags={"unit": "1"}),
            ],
            tags={"team": "ops"}, owner="ops@rides.example", description="How a driver does.",
        )
        push = PushSource(name="driver_push", batch_source=stats)
        notes = FeatureView(name="driver-notes.v1", entities=[driver], ttl=timedelta(0), source=push, online=True, schema=[
            Field(name="note", dtype=String), Field(name="embedding", dtype=Array(Float32)),
            Field(name="a:b", dtype=Int64), Field(name="order", dtype=Int64), Field(name="Odd name", dtype=Int64),
            Field(name="seen", dtype=UnixTimestamp),
        ])
        computed = BatchFeatureView(name="computed", entities=[driver], ttl=timedelta(days=1), source=stats,
                                    udf=lambda df: {"{%": df}, schema=floats("acc_rate"))
    """,
    "views/places.py": """
        from datetime import timedelta
        from feast import FeatureView, FeatureService, Field, FileSource, RequestSource
        from feast.on_demand_feature_view import on_demand_feature_view
        from feast.types import Float64, Int64
        from entities import place
        from views.driver import computed, driver_stats, notes
        source = FileSource(path="data/places.parquet", timestamp_field="ts")
        places = FeatureView(name="places", entities=[place], ttl=timedelta(weeks=2), source=source)
        city = FeatureView(name="city", entities=[], source=source, schema=[Field(name="temperature", dtype=Int64)])
        request = RequestSource(name="request", schema=[Field(name="k", dtype=Int64)])

        @on_demand_feature_view(sources=[driver_stats, request], schema=[Field(name="twice", dtype=Float64)])
        def twice(inputs):
            return inputs["conv_rate"] * 2

        ranking = FeatureService(name="ranking", features=[driver_stats[["conv_rate", "trips"]], notes, computed, twice],
                                 owner="ml", tags={"stage": "live"}, description="The ranker's.")
        trip = FeatureService(name="places", features=[
            places.with_name("origin").with_join_key_map({"place_id": "origin_id"}),
            places.with_name("target").with_join_key_map({"place_id": "target_id"}),
        ])
    """,
}
DRIVERS = pa.schema(
    [
        ("driver_id", pa.int64()), ("event_timestamp", pa.timestamp("us", "UTC")), ("load", pa.timestamp("us", "UTC")),
        ("acc_rate", pa.float32()), ("conv", pa.float64()), ("trips", pa.float64()), ("note", pa.string()),
        ("embedding", pa.list_(pa.float32())), ("a:b", pa.int64()), ("order", pa.int32()), ("Odd name", pa.int64()),
        ("seen", pa.timestamp("us")),
    ]
)  # fmt: skip


def write_repository(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(line[indent:] for line in lines) + "\n")
    return folder


def driver_rows(rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for driver in range(1, 9):
        for number in range(rng.randrange(1, 25)):
            event = NOW - timedelta(minutes=rng.randrange(1, 10_000), microseconds=rng.randrange(10**6))
            for delay in (0,) if number % 3 else (0, rng.randrange(1, 600)):
                rows.append(
                    {
                        "driver_id": driver,
                        "event_timestamp": event,
                        "load": event + timedelta(minutes=delay + rng.randrange(300)),
                        "acc_rate": rng.choice([None, rng.random()]),
                        "conv": rng.choice([None, -0.0, rng.random()]),
                        "trips": rng.choice([None, float("nan"), float(rng.randrange(1000))]),
                        "note": rng.choice([None, "", "ø", "a"]),
                        "embedding": rng.choice([None, [], [rng.random(), rng.random()]]),
                        "a:b": len(rows),
                        "order": rng.randrange(9),
                        "Odd name": rng.randrange(9),
                        "seen": (event - timedelta(days=1)).replace(tzinfo=None),
                    }
                )
    return rows


def place_rows(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "place_id": f"P{number % 5}",
            "ts": (NOW - timedelta(minutes=rng.randrange(1, 60_000), microseconds=number)).replace(tzinfo=None),
            "temperature": rng.randrange(-20, 35),
            "hub": rng.random() > 0.5,
        }
        for number in range(60)
    ]


class City:
    """The repository, the project written of it, and the rows of its files as a view shows them."""

    def __init__(self, folder: Path, python: str) -> None:
        rng = random.Random(7)
        self.repository = write_repository(folder / "feature repo", REPOSITORY)
        drivers, places = pa.Table.from_pylist(driver_rows(rng), DRIVERS), pa.Table.from_pylist(place_rows(rng))
        (self.repository / "data").mkdir()
        pq.write_table(drivers, self.repository / "data" / "driver stats.parquet")
        pq.write_table(places, self.repository / "data" / "places.parquet")
        self.ran = run(
            "feature-store",
            "init",
            str(folder / "project"),
            "--from-feast",
            str(self.repository),
            "--feast-python",
            python,
        )
        assert (self.ran.code, self.ran.err) == (0, "")
        self.project = DbtProject(folder / "project")
        install(self.project)
        self.project.dbt("build")
        self.drivers, self.places = drivers.to_pylist(), places.to_pylist()
        for row in self.drivers:
            row |= {"time": row.pop("event_timestamp"), "known": row.pop("load"), "conv_rate": row.pop("conv")}
            row |= {"a_b": row.pop("a:b"), "seen": row["seen"].replace(tzinfo=timezone.utc)}
            # pandas keeps a whole number with gaps as a float; the view says that it is Int64.
            row["trips"] = None if row["trips"] is None or row["trips"] != row["trips"] else int(row["trips"])
        for row in self.places:
            row["time"] = row["known"] = row.pop("ts").replace(tzinfo=timezone.utc)

    @property
    def report(self) -> str:
        return (self.project.folder / "FROM_FEAST.md").read_text()

    def properties(self, name: str) -> dict[str, Any]:
        return yaml.safe_load((self.project.folder / "models" / name).read_text())


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, feast_python: str) -> City:
    return City(tmp_path_factory.mktemp("feast"), feast_python)


def value_at(
    rows: list[dict[str, Any]], keys: dict[str, Any], moment: datetime, ttl: timedelta | None, known: bool
) -> dict[str, Any]:
    """The row in force at a moment, or nothing."""
    seen = [
        row for row in rows
        if all(row[name] == value for name, value in keys.items())
        and row["time"] <= moment and (not known or row["known"] <= moment)
    ]  # fmt: skip
    row = max(seen, key=lambda row: (row["time"], row["known"]), default={})
    return row if row and (ttl is None or row["time"] >= moment - ttl) else {}


STATS = ["driver_stats:acc_rate", "driver_stats:conv_rate", "driver_stats:trips"]
NOTES = [f"driver_notes_v1:{name}" for name in ("note", "embedding", "a_b", "order", "Odd name", "seen")]


# The values.


@pytest.mark.parametrize("known", [True, False])
def test_a_training_set_has_the_values_of_the_files(city: City, known: bool) -> None:
    rng = random.Random(3)
    ttl, step = timedelta(days=2), timedelta(microseconds=1)
    spine = [{"driver_id": None, "moment": NOW}, {"driver_id": 99, "moment": NOW}]
    for row in rng.sample(city.drivers, 40):
        for shift in (timedelta(0), -step, ttl, ttl + step, timedelta(minutes=rng.randrange(4000))):
            spine.append({"driver_id": row["driver_id"], "moment": row["time"] + shift})
    store = FeatureStore(city.project.folder)
    table = pa.Table.from_pylist(spine)
    answer = store.get_historical_features(
        table, STATS + NOTES, timestamp="moment", filter_by_created_timestamp=known
    ).to_arrow()
    got = answer.to_pylist()
    assert answer.schema.field("trips").type == pa.int64() and answer.schema.field("order").type == pa.int64()
    assert answer.schema.field("seen").type == pa.timestamp("us", "UTC")
    expected = []
    for row in spine:
        stats = value_at(city.drivers, {"driver_id": row["driver_id"]}, row["moment"], ttl, known)
        notes = value_at(city.drivers, {"driver_id": row["driver_id"]}, row["moment"], None, known)
        of_stats = {name: stats.get(name) for name in ("acc_rate", "conv_rate", "trips")}
        of_notes = {name.partition(":")[2]: notes.get(name.partition(":")[2]) for name in NOTES}
        expected.append({**row, **of_stats, **of_notes})
    assert got == expected
    assert 20 < sum(row["conv_rate"] is not None for row in got) < len(got)


def test_a_view_taken_twice_under_other_join_keys_is_two_views(city: City) -> None:
    rng = random.Random(4)
    spine = [
        {"origin_id": f"P{rng.randrange(6)}", "target_id": f"P{rng.randrange(6)}",
         "event_timestamp": NOW - timedelta(minutes=rng.randrange(50_000))}
        for _ in range(100)
    ]  # fmt: skip
    store = FeatureStore(city.project.folder)
    answer = store.get_historical_features(pa.Table.from_pylist(spine), "places", full_feature_names=True)
    expected = []
    for row in spine:
        wanted = dict(row)
        for role in ("origin", "target"):
            found = value_at(
                city.places, {"place_id": row[f"{role}_id"]}, row["event_timestamp"], timedelta(days=14), True
            )
            wanted |= {f"{role}__temperature": found.get("temperature"), f"{role}__hub": found.get("hub")}
        expected.append(wanted)
    got = answer.to_arrow().to_pylist()
    assert got == expected and any(row["origin__hub"] is not None for row in got)


def test_online_values_are_the_latest_of_the_files(city: City, redis_url: str, namespace: str) -> None:
    store = FeatureStore(city.project.folder, redis_url=redis_url, namespace=namespace)
    assert {result.view: result.error for result in store.materialize()} == dict.fromkeys(
        ["city", "driver_notes_v1", "driver_stats", "origin", "places", "target"]
    )
    answer = store.get_online_features("ranking", [{"driver_id": number} for number in range(1, 10)]).to_dict()
    moment = datetime.now(timezone.utc)
    for position, driver in enumerate(range(1, 10)):
        stats = value_at(city.drivers, {"driver_id": driver}, moment, timedelta(days=2), True)
        notes = value_at(city.drivers, {"driver_id": driver}, moment, None, True)
        assert {name: values[position] for name, values in answer.items()} == {
            "driver_id": driver,
            **{name: stats.get(name) for name in ("conv_rate", "trips")},
            **{name.partition(":")[2]: notes.get(name.partition(":")[2]) for name in NOTES},
        }
    assert sum(value is not None for value in answer["conv_rate"]) >= 2
    latest = max(city.places, key=lambda row: row["time"])
    assert store.get_online_features(["city:temperature"], [{"all_rows": 1}]).to_dict() == {
        "all_rows": [1],
        "temperature": [latest["temperature"]],
    }


# What is written.


def test_views_keep_what_feast_says_of_them(city: City) -> None:
    store = FeatureStore(city.project.folder)
    views = {view.name: view for view in store.list_feature_views()}
    assert set(views) == {"city", "driver_notes_v1", "driver_stats", "origin", "places", "target"}
    stats = views["driver_stats"]
    assert (stats.description, stats.owner, stats.ttl) == ("How a driver does.", "ops@rides.example", timedelta(days=2))
    assert (stats.created_timestamp, stats.tags) == ("created", {"team": "ops"})
    assert [(e.name, e.description) for e in stats.entities] == [("driver_id", "Who drives.")]
    assert [(f.name, str(f.dtype), f.description) for f in stats.features] == [
        ("acc_rate", "float", ""), ("conv_rate", "double", "Share of {{ rides }} taken."), ("trips", "int64", ""),
    ]  # fmt: skip
    assert views["driver_notes_v1"].ttl is None
    assert (views["places"].timestamp, views["places"].join_keys) == ("ts", ("place_id",))
    assert [f.name for f in views["places"].features] == ["temperature", "hub"]
    assert views["origin"].join_keys == ("origin_id",)
    ranking = store.get_feature_service("ranking")
    assert ranking.features == ("driver_stats:conv_rate", "driver_stats:trips", *NOTES)
    assert (ranking.description, ranking.owner) == ("The ranker's.", "ml")


def test_the_files_are_such_as_an_analyst_would_write(city: City) -> None:
    sql = (city.project.folder / "models/features/driver_stats.sql").read_text()
    assert sql == (
        "-- The feature view driver_stats of the Feast repository city_rides (views/driver.py:16).\n"
        "select\n"
        "    cast(driver_id as bigint) as driver_id,\n"
        "    event_timestamp,\n"
        "    load as created,\n"
        "    cast(acc_rate as real) as acc_rate,\n"
        "    cast(conv as double) as conv_rate,\n"
        "    case when not isnan(trips) then cast(trips as bigint) end as trips\n"
        "from {{ source('feast', 'driver_stats') }}\n"
    )
    text = (city.project.folder / "models/features/driver_stats.yml").read_text()
    assert "      - {name: acc_rate, data_type: real}\n" in text
    assert "      - {name: trips, data_type: bigint, config: {meta: {tags: {unit: '1'}}}}\n" in text
    (source,) = city.properties("sources.yml")["sources"]
    assert [table["name"] for table in source["tables"]] == ["driver_stats", "places"]
    assert source["tables"][0]["config"]["meta"] == {
        "external_location": "{{ var('feast_repository') }}/data/driver stats.parquet",
        "owner": "data@rides.example",
        "tags": {"layer": "raw"},
    }
    assert (city.project.folder / "dbt_project.yml").read_text().startswith("name: city_rides\n")
    texts = [path for path in city.project.folder.glob("*") if path.suffix in (".yml", ".md")]
    assert len(texts) > 3 and not any("hunter2" in path.read_text() for path in texts)


def test_a_view_that_python_computes_waits_to_be_written(city: City) -> None:
    sql = (city.project.folder / "models/features/computed.sql").read_text()
    assert sql.startswith("{{ config(enabled=false) }}\n") and 'udf=lambda df: {"{%": df}' in sql
    assert "Finish and enable `models/features/computed.sql`." in city.report


def test_the_report_says_of_every_object_what_became_of_it(city: City) -> None:
    lines = {re.sub(r"^\| (.*?) \|.*", r"\1", line): line for line in city.report.splitlines() if line.startswith("| ")}
    for name, says in {
        "`driver_stats`": "[models/features/driver_stats.sql]",
        "`driver-notes.v1`": "it is called `driver_notes_v1` here: 'driver-notes.v1' cannot be a dbt model's name",
        "`places`": "",
        "`city`": "entity_rows=[{'all_rows': 1}]",
        "`computed`": "written with `enabled: false`",
        "`driver`": "join key `driver_id` of `driver_stats`, `driver_notes_v1`, `computed`",
        "entity `unused`": "no view has it",
        "`ranking`": "the features of the on-demand view 'twice' are left out",
        "push source `driver_push`": "views over it read its batch source",
        "request source `request`": "values of the request (k)",
        "on-demand feature view `twice`": "it is Python over driver_stats, request (features: twice)",
    }.items():
        assert says in lines[name], name
    assert "the feature `a:b` is called `a_b` here" in lines["`driver-notes.v1`"]
    assert "a view has its name" in city.report and "## Where the meaning differs" in city.report
    assert re.search(r"feature views +2 written as they are, 3 with notes, 0 without equal", city.ran.out)
    assert "dbt deps && dbt build" in city.ran.out


# Sources that are no files.

WAREHOUSE = """
    from datetime import timedelta
    from feast import BigQuerySource, Entity, FeatureView, Field, RedshiftSource, SnowflakeSource
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
    from feast.types import Array, Float64, Int64, String
    from feast.infra.offline_stores.contrib.mssql_offline_store.mssqlserver_source import MsSqlServerSource
    user = Entity(name="user", join_keys=["user_id"])
    S = dict(timestamp_field="ts")
    F = [Field(name="order", dtype=Float64), Field(name="names", dtype=Array(String))]
    def view(name, source, schema=F):
        return FeatureView(name=name, entities=[user], source=source, schema=schema)
    big = view("big", BigQuerySource(table="gcp-project.data.users", **S))
    snow = view("snow", SnowflakeSource(database="DB", schema="PUBLIC", table="USERS", **S))
    red = view("red", RedshiftSource(name="red users", table="users", schema="spectrum", **S))
    post = view("post", PostgreSQLSource(name="q", query="\\n  select *,\\n    '{{ x }}' as y\\n  from users;\\n", **S))
    other = view("other", MsSqlServerSource(name="o", table_ref="users", connection_str="u:hunter2@host", event_timestamp_column="ts"), schema=[])
    again = view("again", big.batch_source)
"""


def test_tables_of_warehouses_become_dbt_sources(tmp_path: Path, feast_python: str) -> None:
    _, written = from_feast(
        write_repository(tmp_path, {"feature_store.yaml": STORE, "all.py": WAREHOUSE}), python=feast_python
    )
    sources = yaml.safe_load(written.files["models/sources.yml"])["sources"]
    assert sources == [
        {"name": "gcp_project_data", "database": "gcp-project", "schema": "data", "tables": [{"name": "users"}]},
        {"name": "DB_PUBLIC", "database": "DB", "schema": "PUBLIC", "tables": [{"name": "USERS"}]},
        {"name": "spectrum", "schema": "spectrum", "tables": [{"name": "red_users", "identifier": "users"}]},
        {"name": "feast_tables", "schema": "{{ target.schema }}", "tables": [{"name": "o", "identifier": "users"}]},
    ]
    models = {name: written.files[f"models/features/{name}.sql"].partition("select\n")[2] for name in ("big", "snow")}
    assert models == {
        "big": "    user_id,\n    ts,\n    cast(`order` as float64) as `order`,\n    names\n"
        "from {{ source('gcp_project_data', 'users') }}\n",
        "snow": '    user_id,\n    ts,\n    cast("order" as double precision) as "order",\n    names\n'
        "from {{ source('DB_PUBLIC', 'USERS') }}\n",
    }
    assert "source('gcp_project_data', 'users')" in written.files["models/features/again.sql"]
    assert (
        "with rows_of_source as (\n    select *,\n      '{{ '{' }}{ x }}' as y\n    from users\n)"
        in written.files["models/features/post.sql"]
    )
    assert "select\n    *\nfrom {{ source('feast_tables', 'o') }}" in written.files["models/features/other.sql"]
    assert (
        "`profiles.yml` names a DuckDB file, and there are tables in BigQuery and PostgreSQL and Redshift and SQL Server and"
        in (written.files["FROM_FEAST.md"])
    )


def _columns(written: Written, name: str) -> list[dict[str, Any]]:
    return yaml.safe_load(written.files[f"models/features/{name}.yml"])["models"][0]["columns"]


TYPES = {
    "Int32": "integer", "Int64": "bigint", "Float32": "real", "Float64": "double", "String": "varchar",
    "Bool": "boolean", "Uuid": "varchar", "Array(Int64)": "bigint[]", "Array(Array(String))": None,
    "Set(Bool)": "boolean[]", "Bytes": None, "Json": None, "Map": None, "Decimal": None, "UnixTimestamp": None,
    "Struct({'a': Int64})": None, "Array(Struct({'a b': Array(String)}))": None, "types.PrimitiveFeastType.FLOAT32": "real",
}  # fmt: skip


def test_every_type_of_feasts_is_known(tmp_path: Path, feast_python: str) -> None:
    fields = ", ".join(f"Field(name='f{number}', dtype={dtype})" for number, dtype in enumerate(TYPES))
    view = f"""
        from feast import Entity, FeatureView, Field, FileSource, types
        from feast.types import *
        v = FeatureView(name="v", entities=[Entity(name="k")], schema=[{fields}],
                        source=FileSource(path="x.parquet", timestamp_field="ts"))
    """
    _, written = from_feast(
        write_repository(tmp_path, {"feature_store.yaml": STORE, "v.py": view}), python=feast_python
    )
    sql = written.files["models/features/v.sql"].replace("\nfrom", ",\nfrom")
    for number, target in enumerate(TYPES.values()):
        expected = f"    cast(f{number} as {target}) as f{number},\n" if target else f"    f{number},\n"
        assert expected in sql, list(TYPES)[number]
    columns = {column["name"]: column.get("data_type") for column in _columns(written, "v")}
    names = ("Bytes", "Json", "UnixTimestamp", "Array(Int64)", "Struct({'a': Int64})", "Array(Array(String))")
    assert [columns[f"f{list(TYPES).index(name)}"] for name in names] == [
        "blob", "varchar", "timestamptz", "bigint[]", None, None,
    ]  # fmt: skip


# Feast reads it.


def init(folder: Path, repository: Path, python: str, *more: str, env: dict[str, str] | None = None) -> Ran:
    """``feature-store init --from-feast``."""
    words = ("init", str(folder), "--from-feast", str(repository), "--feast-python", python, *more)
    return run("feature-store", *words, env=env)


CODE = {
    "feature_store.yaml": STORE,
    "common/__init__.py": "",
    "common/makers.py": """
        import os
        from feast import Entity, FeatureView, Field, FileSource
        from feast.types import Int64
        ROOT = os.environ["FEAST_TEST_ROOT"]
        user = Entity(name="user", join_keys=["user_id"])
        def view(name, **settings):
            source = FileSource(name=name, path=f"{ROOT}/{name}.parquet", timestamp_field="ts")
            return FeatureView(name=name, entities=[user], source=source, schema=[Field(name="n", dtype=Int64)], **settings)
    """,
    "views.py": """
        import datetime, functools, random, sys, os, threading, time
        from common.makers import user, view
        class Config:
            regions = {f"{word}_stats": n for n, word in enumerate(["north", "south"])}
        for region, days in sorted(Config.regions.items()):
            globals()[region] = view(region, ttl=datetime.timedelta(days=days, microseconds=5), tags={"z": "1", "a": "2"})
        if random.random() < 2:
            chosen = functools.partial(view, "chosen")()
        loose = [view("loose"), view("north_stats")]
        threading.Thread(target=time.sleep, args=(300,)).start()
        print("{not json", flush=True)
        os.write(1, b"noise")
        open("ran", "a").write(f"{sys.executable} {'materializer' in sys.modules}")
    """,
    "skipped/broken.py": "def f(:",
    ".feastignore": "skipped\n",
}


def test_code_of_every_kind_is_read_because_feast_runs_it(tmp_path: Path, feast_python: str) -> None:
    """A loop, a helper of another module, the environment, a condition; noise and a thread do not matter."""
    folder = write_repository(tmp_path / "repo", CODE)
    ran = init(tmp_path / "new", folder, feast_python, env={"FEAST_TEST_ROOT": "/data/x"})
    assert (ran.code, ran.err) == (0, "") and "Feast 0.67.0 read 2 Python files of " in ran.out
    models = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "new/models/features").glob("*.yml")}
    assert set(models) == {"chosen", "north_stats", "south_stats"}
    views = {name: content["models"][0]["config"]["meta"]["feature_view"] for name, content in models.items()}
    assert views["south_stats"] == {
        "entities": ["user_id"],
        "timestamp": "ts",
        "ttl": "86401 seconds",
        "tags": {"a": "2", "z": "1"},
    }
    assert views["north_stats"]["ttl"] == "1 second" and "ttl" not in views["chosen"]
    sources = yaml.safe_load((tmp_path / "new/models/sources.yml").read_text())["sources"][0]["tables"]
    assert [source["name"] for source in sources] == ["north_stats", "south_stats", "chosen"]  # as they were made
    assert sources[0]["config"] == {"meta": {"external_location": "/data/x/north_stats.parquet"}}
    sql = (tmp_path / "new/models/features/north_stats.sql").read_text()
    assert sql.startswith("-- The feature view north_stats of the Feast repository city_rides (common/makers.py:8).\n")
    report = (tmp_path / "new/FROM_FEAST.md").read_text()
    assert (
        "feature view `loose` | common/makers.py:8 | only a list or a call holds it: `feast apply` registers" in report
    )
    assert (
        "its `ttl` of 86400.000005 s was raised to whole seconds" in report and "there is no /data/x/chosen" in report
    )
    # Once, in the other Python, which knows nothing of this package.
    python, knows = (folder / "ran").read_text().split()
    assert Path(python) == PYTHON and python != sys.executable and knows == "False"


def test_the_answer_may_come_as_a_file(tmp_path: Path, feast_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Feast elsewhere; it holds no secret, and the repository need not be there any more."""
    files = {"feature_store.yaml": STORE, "all.py": WAREHOUSE}
    folder = write_repository(tmp_path / "repo", files)
    answer = subprocess.run([feast_python, SCRIPT, folder], capture_output=True, check=True)
    assert b"hunter2" not in answer.stdout and b'"table_ref": "users"' in answer.stdout
    (tmp_path / "feast.json").write_bytes(answer.stdout)
    _, asked = from_feast(folder, python=feast_python)
    shutil.rmtree(folder)
    _, read = from_feast(tmp_path / "feast.json", python="/nowhere/python")
    assert read == asked and len(read.models) == 6


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file"), ("", "is no answer of ask_feast.py"), ("[1]", "is no answer of ask_feast.py"),
        ("{}", "is no answer of ask_feast.py"), ('{"format": 2, "objects": []}', "of format 2; format 1 is read"),
        ('{"format": 1, "objects": [{"kind": "FeatureView", "where": 7}]}', "is no answer of ask_feast.py"),
        ('{"format": 1, "feast": "0.9", "error": "it fails"}', "Feast 0.9 cannot read the repository: it fails."),
        ("[" * 100_000, "is no answer of ask_feast.py"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_answer_is_refused(content: str | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    ran = init(tmp_path / "new", tmp_path / "x.json", "unused")
    assert ran.code == 1 and sentence in ran.err
    assert_one_sentence(ran.err)


def test_a_python_without_feast_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW})
    for python, sentence in {
        "/nowhere/python": "There is no /nowhere/python to ask: --feast-python is",
        sys.executable: f"cannot read the repository: there is no Feast in {sys.executable}.",
        "true": "true says of .* is no answer of ask_feast.py",
    }.items():
        ran = init(tmp_path / "new", folder, python)
        assert ran.code == 1 and re.search(sentence, ran.err), ran.err
        assert_one_sentence(ran.err)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run("feature-store", "init", str(tmp_path / "new"), "--from-feast", str(folder))
    assert ran.code == 1 and re.search(r"No Python with Feast was found: .* \(python .*/ask_feast.py .*\)", ran.err)
    # The one beside the `feast` command, wherever a link to it leads.
    (tmp_path / "feast").symlink_to(PYTHON.with_name("feast"))
    with pytest.raises(InputError, match="Could not import module"):
        (folder / "feature_store.yaml").write_text(STORE.replace("redis", "milvus"))
        from_feast(folder)


def test_another_feast_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "feast").mkdir()
    (tmp_path / "feast/__init__.py").touch()
    (tmp_path / "feast-0.9.dist-info").mkdir()
    (tmp_path / "feast-0.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: feast\nVersion: 0.9\n")
    folder = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW})
    ran = init(tmp_path / "new", folder, sys.executable, env={"PYTHONPATH": str(tmp_path)})
    assert ran.code == 1 and "Feast 0.9 cannot read the repository: ImportError: cannot import name" in ran.err
    assert "made for Feast 0.67" in ran.err
    assert_one_sentence(ran.err)


def test_a_repository_that_hangs_is_ended(tmp_path: Path, feast_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("materializer.feast.ask.TIMEOUT", 2)
    folder = write_repository(tmp_path, {"feature_store.yaml": STORE, "v.py": "import time\ntime.sleep(1000)"})
    with pytest.raises(InputError, match=r"has not read .* in 2 seconds, and was ended: to see what it says, run \S+"):
        from_feast(folder, python=feast_python)


# What goes wrong.

VIEW = """
    from feast import Entity, FeatureView, FileSource
    k = Entity(name="k")
    v = FeatureView(name="v", entities=[k], source=FileSource(path="x.parquet", timestamp_field="ts"))
"""
NO_ROWS = "from feast import Entity, LabelView\nk = Entity(name='k')\nv = LabelView(name='v', entities=[k])"
SECRET = (
    "import yaml\nraise ValueError(yaml.safe_load(open('feature_store.yaml'))['online_store']['connection_string'])"
)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "There is no feature_store.yaml in .*repo, so it is no Feast repository."),
        ({"feature_repo/feature_store.yaml": STORE}, "there is one in .*feature_repo"),
        ({"feature_store.yaml": "project: [x\npassword: hunter2"}, r"Feast 0.67.0 cannot read .*: feature_store.yaml: .*line 2"),
        ({"feature_store.yaml": "just text"}, "must be a mapping"),
        ({"feature_store.yaml": STORE.replace("city_rides", "City Rides")}, "project: .*Project name, City Rides, should only"),
        ({"feature_store.yaml": STORE.replace('"localhost:6379,password=hunter2"', "[hunter2]")}, "connection_string: .*valid string"),
        ({"feature_store.yaml": STORE.replace("type: redis", "port: hunter2, type: milvus")}, "Could not import module .*milvus"),
        ({"feature_store.yaml": STORE}, r"Feast finds no feature view in .*repo \(Python files: 0\)"),
        ({"feature_store.yaml": STORE, "a/b.py": "x = 1\ndef f(:\n"}, r"a/b.py:2: SyntaxError: invalid syntax"),
        ({"feature_store.yaml": STORE, "b.py": "x = '\0'"}, r"SyntaxError: source code .*cannot contain null bytes"),
        ({"feature_store.yaml": STORE.replace("city_rides", "1st"), "v.py": VIEW}, "'1st' cannot be a dbt project's name"),
        ({"feature_store.yaml": STORE, "v.py": "import os\nx = os.environ['NOT_SET_X']"}, "v.py:2: KeyError: 'NOT_SET_X'"),
        ({"feature_store.yaml": STORE, "v.py": "import w", "w.py": "import not_there"}, "w.py:1: ModuleNotFoundError: No module"),
        ({"feature_store.yaml": STORE, "v.py": SECRET}, r"v.py:2: ValueError: \*\*\*\."),
        ({"feature_store.yaml": STORE, "v.py": "import sys\nsys.exit('no more')"}, "v.py:2: SystemExit: no more"),
        ({"feature_store.yaml": STORE, "v.py": "import os\nos._exit(3)"}, r"ended with exit code 3 .*, run \S+ \S+ask_feast.py \S+repo\."),
        ({"feature_store.yaml": STORE, "v.py": "import os\nos.kill(os.getpid(), 9)"}, "ended with exit code "),
        ({"feature_store.yaml": STORE, "v.py": NO_ROWS}, r"No feature view can be written .*: 'v' \(v.py:3\): it has no source of"),
    ],
)  # fmt: skip
def test_a_repository_that_is_none_is_refused_in_a_sentence(
    files: dict[str, str], sentence: str, tmp_path: Path, feast_python: str
) -> None:
    (tmp_path / "repo").mkdir()
    files = {name: text.replace("\n    ", "\n") for name, text in files.items()}
    write_repository(tmp_path / "repo", files)
    ran = init(tmp_path / "new", tmp_path / "repo", feast_python)
    assert (ran.code, ran.out) == (1, "")
    assert_one_sentence(ran.err)
    assert re.search(sentence, ran.err), ran.err
    assert "hunter2" not in ran.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("taken", ["models/features/v.sql", "FROM_FEAST.md", "models"])
def test_nothing_is_overwritten_or_half_written(taken: str, tmp_path: Path, feast_python: str) -> None:
    repo = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW})
    mine = tmp_path / "new" / taken
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    ran = init(tmp_path / "new", repo, feast_python)
    assert (ran.code, ran.out) == (1, "") and "nothing was written" in ran.err
    assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == [mine] and mine.read_text() == "mine"


def test_the_path_may_be_the_yaml_and_the_name_may_be_given(tmp_path: Path, feast_python: str) -> None:
    repo = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW})
    ran = init(tmp_path / "new", repo / "feature_store.yaml", feast_python, "--name", "mine")
    assert ran.code == 0 and "read 1 Python file of " in ran.out
    assert yaml.safe_load((tmp_path / "new" / "profiles.yml").read_text())["mine"]["target"] == "dev"
    written = yaml.safe_load((tmp_path / "new" / "dbt_project.yml").read_text())
    assert written["vars"] == {"feast_repository": str(repo)} and written["name"] == "mine"
    assert "there is no" in (tmp_path / "new" / "FROM_FEAST.md").read_text()
    ran = run("feature-store", "init", str(tmp_path / "other"), "--feast-python", feast_python)
    assert ran.code == 1 and "--feast-python goes with --from-feast" in ran.err


def test_names_are_given_once(tmp_path: Path, feast_python: str) -> None:
    views = VIEW + "".join(
        f"    v{number} = FeatureView(name={name!r}, entities=[Entity(name='k')], source=v.source)\n"
        for number, name in enumerate(["a-b", "a.b", "a b", "1st", "feature_store_registry", "v", "é"])
    ).replace("v.source", "v.batch_source")
    repository, written = from_feast(
        write_repository(tmp_path, {"feature_store.yaml": STORE, "v.py": views}), python=feast_python
    )
    assert [model.name for model in written.models] == [
        "v", "a_b", "a_b_2", "a_b_3", "_1st", "feature_store_registry_2", "_",
    ]  # fmt: skip
    assert [(absent.name, *absent.notes) for absent in repository.absent] == [
        ("v", "another feature view before it has the same name")
    ]


def test_written_is_a_value(tmp_path: Path, feast_python: str) -> None:
    files = {"feature_store.yaml": STORE, "v.py": VIEW}
    _, written = from_feast(write_repository(tmp_path, files), python=feast_python)
    assert isinstance(written, Written) and written.name == "city_rides"
    with pytest.raises(InputError, match="is no Feast repository"):
        from_feast(tmp_path / "nowhere")
