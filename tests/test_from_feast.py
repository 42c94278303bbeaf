"""A Feast repository becomes a dbt project: what it reads, what it writes, and that the values are those it promises."""

from __future__ import annotations

import random
import re
import sys
import traceback
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from materializer import FeatureStore, InputError
from materializer.feast import Written, from_feast
from materializer.feast.evaluate import Evaluator
from materializer.feast.values import Unknown, is_plain, unknown_in
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject

NOW = datetime.now(timezone.utc).replace(microsecond=0)
STORE = """
project: City Rides
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

    def __init__(self, folder: Path) -> None:
        rng = random.Random(7)
        self.repository = write_repository(folder / "feature repo", REPOSITORY)
        drivers, places = pa.Table.from_pylist(driver_rows(rng), DRIVERS), pa.Table.from_pylist(place_rows(rng))
        (self.repository / "data").mkdir()
        pq.write_table(drivers, self.repository / "data" / "driver stats.parquet")
        pq.write_table(places, self.repository / "data" / "places.parquet")
        self.ran = run("feature-store", "init", str(folder / "project"), "--from-feast", str(self.repository))
        assert (self.ran.code, self.ran.err) == (0, "")
        self.project = DbtProject(folder / "project")
        self.project.dbt("deps")
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
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City(tmp_path_factory.mktemp("feast"))


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


def test_nothing_of_the_repository_runs(city: City) -> None:
    assert not list(city.repository.rglob("ran")) and not Path("ran").exists()


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
        "-- The feature view driver_stats of the Feast repository City Rides (views/driver.py:16).\n"
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
    assert sql.startswith("{{ config(enabled=false) }}\n") and "lambda df: {'{%': df}" in sql
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
    from elsewhere import OtherSource
    user = Entity(name="user", join_keys=["user_id"])
    S = dict(timestamp_field="ts")
    F = [Field(name="order", dtype=Float64), Field(name="names", dtype=Array(String))]
    def view(name, source, schema=F):
        return FeatureView(name=name, entities=[user], source=source, schema=schema)
    big = view("big", BigQuerySource(table="gcp-project.data.users", **S))
    snow = view("snow", SnowflakeSource(database="DB", schema="PUBLIC", table="USERS", **S))
    red = view("red", RedshiftSource(name="red users", table="users", schema="spectrum", **S))
    post = view("post", PostgreSQLSource(name="q", query="\\n  select *,\\n    '{{ x }}' as y\\n  from users;\\n", **S))
    other = view("other", OtherSource(table="users", **S), schema=[])
    again = view("again", big.source)
"""


def test_tables_of_warehouses_become_dbt_sources(tmp_path: Path) -> None:
    _, written = from_feast(write_repository(tmp_path, {"feature_store.yaml": STORE, "all.py": WAREHOUSE}))
    sources = yaml.safe_load(written.files["models/sources.yml"])["sources"]
    assert sources == [
        {"name": "gcp_project_data", "database": "gcp-project", "schema": "data", "tables": [{"name": "users"}]},
        {"name": "DB_PUBLIC", "database": "DB", "schema": "PUBLIC", "tables": [{"name": "USERS"}]},
        {"name": "spectrum", "schema": "spectrum", "tables": [{"name": "red_users", "identifier": "users"}]},
        {"name": "feast_tables", "schema": "{{ target.schema }}", "tables": [{"name": "users"}]},
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
    assert "select\n    *\nfrom {{ source('feast_tables', 'users') }}" in written.files["models/features/other.sql"]
    assert (
        "`profiles.yml` names a DuckDB file, and there are tables in BigQuery and PostgreSQL and Redshift and Snow"
        in (written.files["FROM_FEAST.md"])
    )


TYPES = {
    "Int32": "integer", "Int64": "bigint", "Float32": "real", "Float64": "double", "String": "varchar",
    "Bool": "boolean", "Uuid": "varchar", "Array(Int64)": "bigint[]", "Array(Array(String))": None,
    "Set(Bool)": "boolean[]", "Bytes": None, "Json": None, "Map": None, "Decimal": None, "UnixTimestamp": None,
    "Struct({'a': Int64})": None, "ValueType.DOUBLE": "double", "ValueType.STRING_LIST": "varchar[]",
    "types.PrimitiveFeastType.FLOAT32": "real",
}  # fmt: skip


def test_every_type_of_feasts_is_known(tmp_path: Path) -> None:
    fields = ", ".join(f"Field(name='f{number}', dtype={dtype})" for number, dtype in enumerate([*TYPES, "Float16"]))
    view = f"""
        from feast import Entity, FeatureView, Field, FileSource, ValueType, types
        from feast.types import *
        v = FeatureView(name="v", entities=[Entity(name="k")], schema=[{fields}],
                        source=FileSource(path="x.parquet", timestamp_field="ts"))
    """
    _, written = from_feast(write_repository(tmp_path, {"feature_store.yaml": STORE, "v.py": view}))
    sql = written.files["models/features/v.sql"]
    for number, target in enumerate(TYPES.values()):
        expected = f"    cast(f{number} as {target}) as f{number},\n" if target else f"    f{number},\n"
        assert expected in sql, list(TYPES)[number]
    assert "the type of `f19`, Float16, is none of Feast's" in written.files["FROM_FEAST.md"]


# Reading without running.

SAID: list[str] = [
    "import os\nX = os.path.join('a', 'b') + str(len([1, 2]))",
    "from pathlib import Path\nX = str(Path('a') / 'b' / f'{1 + 1:03d}.parquet')",
    "from datetime import timedelta as t\nX = [t(days=1) * 2 + t(hours=3), -t(1), t(minutes=90) / t(hours=1)]",
    "def f(a, *b, c=3, **d):\n    if a:\n        return [a, b, c, d]\n    return None\nX = [f(1), f(0), f(1, 2, c=4, e=5)]",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nX = fib(10)",
    "class C:\n    A = 'x'\n    B = A + 'y'\nX = C.A + C.B",
    "from enum import Enum\nclass C(Enum):\n    A = 'x'\nX = C.A.value",
    "X = {**{'a': 1}, 'b': [*range(3)]}\nX['c'] = {k: v for k, v in X.items() if k != 'a'}",
    "X = []\nfor i in range(10):\n    if i == 2:\n        continue\n    if i > 5:\n        break\n    X += [i]\nelse:\n    X = 0",
    "globals()['X'] = 'set by name'",
    "import os\ntry:\n    X = os.environ['NOT_SET_ANYWHERE']\nexcept KeyError:\n    X = 'default'",
    "import os\nX = [os.getenv('NOT_SET_ANYWHERE'), os.environ.get('NOT_SET_ANYWHERE', 'd')]",
    "try:\n    raise ValueError\nexcept ValueError:\n    X = 1\nfinally:\n    Y = 2",
    "a, (b, c) = 1, (2, 3)\nX = a < b < c and not (a is None or c in [b])",
    "X = '%s_%03d' % ('a', 7) + '{0}-{x}'.format(1, x=2).upper().replace('-', '_')",
    "X = [(lambda v, w=2: v * w)(i) for i in sorted([3, 1, 2], reverse=True)][1:]",
    "import json\nwith open('values.json') as file:\n    X = json.load(file)['a'][0]['b']",
    "import yaml\nX = yaml.safe_load(open('values.json'))['a']",
    "from helpers.names import prefix as p\nimport helpers.names as n\nX = p + n.prefix",
    "import helpers.names\nfrom helpers import names\nfrom helpers import *\nX = helpers.names.prefix + names.prefix + base",
    "if __name__ == '__main__':\n    X = 1\nelse:\n    X = 2",
    "import math\nX = 3\nY = math.pi",
]  # fmt: skip


@pytest.mark.parametrize("code", SAID)
def test_what_is_read_is_what_python_would_have_made_of_it(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(
        tmp_path,
        {
            "helpers/__init__.py": "base = 'base_'",
            "helpers/names.py": "from . import base\nprefix = base + 'v1_'",
            "values.json": '{"a": [{"b": "c"}]}',
            "module.py": code,
        },
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    truth: dict[str, Any] = {"__name__": "module", "__file__": str(tmp_path / "module.py")}
    exec(compile((tmp_path / "module.py").read_text(), "module.py", "exec"), truth)
    assert Evaluator(tmp_path).module(tmp_path / "module.py")["X"] == truth["X"]


NAMES = {"N": ["a", "d"], "S": ["b"], "L": ["c", "e"], "D": ["g"]}
# What a number, text, list, dict or anything may be; a capital letter stands for one of these again.
EXPRESSIONS = {
    "N": "0;1;2;(N + N);len(L);len(S);L.count(V);sum([N, N]);L[N]",
    "S": "'x';'y-z';(S + S);f'{a}-{c}';str(V);S.replace('x', S);'%s' % (V,)",
    "L": "[];[1];[V, V];(L + L);[*L, V];list(L);L[N:];sorted(L);h(L);[i for i in L if i != V];[(i, V) for i in L];list(D)"
    ";S.split('-');f(V)",
    "D": "{};{'k': V, 'x': V};{**D, S: V};(D | D);dict(D, y=V);{i: V for i in L};{S: V}",
    "V": "N;N;S;L;L;D;secret();E.A;None;(V if V == V else V);(V if V else V);(V or V);(V if V in L else V);D['x']"
    ";(V if V is None else V);D.get('x', V);L.pop();f(V)[0];(not V);secret(V);D.setdefault('x', V)",
}
STATEMENTS = (
    "a = N;d = V;b = S;c = L;e = L;g = D;c = e;e = c;e.append(V);a += N;c += L;g['x'] = V;g.update(D);a, d = N, V;e.extend(L)"
    ";p(V);e[0] = V;c.remove(V);e.insert(N, V);g |= D;h(c)"
)
BLOCKS = (
    "if V == V:/B/else:/B;if V:/B;for i in L:/R;for c in [L, L]:/R;for a in [N, V]:/R;try:/B/except KeyError:/B/except Exception:/B"
    ";try:/B/    d = V/except (TypeError, KeyError):/B/finally:/F;for i in secret([0, 1]):/R;while secret(False):/R"
    ";if secret():/B;try:/    secret()/B/except Exception:/B"
)


def random_program(rng: random.Random) -> str:
    """Statements over names that share lists, with `secret()` among them, which is not read and may raise errors."""

    def filled(text: str, depth: int = 0) -> str:
        def one(match: re.Match[str]) -> str:
            kind = match[0]
            if kind in NAMES and (depth > 2 or rng.random() < 0.4):
                return rng.choice(NAMES[kind])
            return filled(rng.choice(EXPRESSIONS[kind if depth < 3 else "N"].split(";")), depth + 1)

        return re.sub(r"\b[NSLDV]\b", one, text)

    def statement(depth: int, loop: bool = False, inside: bool = False) -> list[str]:
        kinds = STATEMENTS.split(";")
        if depth < 3 and rng.random() < 0.4:
            kinds = BLOCKS.split(";")
        elif loop and rng.random() < 0.2:
            kinds = ["if V:/    break", "if V == V:/    continue", "break"]
        elif inside and rng.random() < 0.2:
            kinds = ["if V:/    return L", "return L"]
        lines: list[str] = []
        for line in rng.choice(kinds).split("/"):
            lines += (
                [filled(line)]
                if line not in "BFR"
                else block(
                    # Nothing leaves from under `finally`: that would swallow what ends an endless program.
                    depth,
                    line != "F" and (loop or line == "R"),
                    line != "F" and inside,
                )
            )
        return lines

    def block(depth: int, loop: bool, inside: bool) -> list[str]:
        return [f"    {line}" for _ in range(rng.randrange(1, 3)) for line in statement(depth + 1, loop, inside)]

    lines = ["from outside import secret", "from enum import Enum", "class E(Enum):", "    A = 'x'",
             "a, b, c, d, e, g = 1, 'x', [1], 2, [], {'x': 1}", "c = e",
             "def f(v, w=3):", *block(1, False, True), "    return [v, w]",
             "def h(e):", *block(1, False, True), "    return e",
             "def p(v):", "    global a, b", *block(1, False, True), filled("    a = N")]  # fmt: skip
    for _ in range(rng.randrange(3, 9)):
        one = statement(0)
        handler = filled(rng.choice(["    a = 7", "    e.append(8)", "    c = [d]", "    pass"]))
        tried = ["try:", *(f"    {line}" for line in one), "except Exception as error:", handler]
        lines += tried if rng.random() < 0.8 else one
    return "\n".join(lines)


class Endless(BaseException):
    """A random program goes on for too long."""


def outcome(code: str, seed: int) -> dict[str, Any] | None:
    """The names of a program that Python ran, with a `secret` that gives and raises what it likes; None if it failed."""
    chance, steps, ended = random.Random(seed), iter(range(1000)), []

    def end() -> None:
        ended.append(True)
        raise Endless

    def go_on() -> None:
        if ended:
            raise Endless

    def secret(value: Any = None) -> Any:
        if chance.random() < 0.1:
            raise chance.choice([KeyError, ValueError])
        return chance.choice([1, "x", [1], {}, True, None] if value is None else [value, value, [], [1]])

    def trace(frame: Any, event: str, _: Any) -> Any:
        values = [frame.f_globals.get(name) for name in "abcdeg"]
        lists = [value for value in values if isinstance(value, list)]
        # An error of Python's own about depth would end the tracing.
        depth = (
            len(traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False))
            if event == "call"
            else 0
        )
        if depth > 250 or not is_plain(lists) or any(len(v) > 10_000 for v in values if isinstance(v, (str, list))):
            end()
        if next(steps, None) is None:
            end()
        return trace

    # Python traces no further once a program was ended: nothing may run on under a `finally`, for as long as memory lasts.
    code = re.sub(r"^( *)finally:$", r"\g<0>\n\1    go_on()", code, flags=re.MULTILINE)
    names: dict[str, Any] = {"__name__": "m", "secret": secret, "go_on": go_on}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = compile(code.removeprefix("from outside import secret\n"), "m", "exec")
    sys.settrace(trace)
    try:
        exec(compiled, names)
    except (Exception, Endless):
        return None  # Feast could not read it either
    finally:
        sys.settrace(None)
    return names


def guesses(number: int, folder: Path) -> tuple[int, int]:
    """How many names of a random program are known, and how many are not; those that are, are right."""
    code = random_program(random.Random(number))
    (folder / "m.py").write_text(code)
    names = Evaluator(folder).module(folder / "m.py")
    known = {
        name for name in "abcdeg"
        if unknown_in(names[name]) is None and is_plain(names[name])
    }  # fmt: skip
    ran = 0
    for seed in range(3):
        if (truth := outcome(code, seed)) is not None:
            ran += 1
            for name in known:
                assert repr(names[name]) == repr(truth[name]), f"{name} of program {number}, {seed}\n{code}"
    return (len(known), 6 - len(known)) if ran else (0, 0)


def test_nothing_is_guessed(tmp_path: Path) -> None:
    """Whatever of a random program is known is what Python has there, whatever the code that is not read does."""
    found = [guesses(number, tmp_path) for number in range(400)]
    assert sum(known for known, _ in found) > 150 and sum(unknown for _, unknown in found) > 150


def test_what_cannot_be_read_is_named_with_its_place(tmp_path: Path) -> None:
    code = """
        import requests
        from feast import Entity, FeatureView, Field, FileSource, FeatureService
        from feast.types import Int64
        from elsewhere import NAMES, TAGS
        remote = requests.get("http://x").json()
        source = FileSource(path="x.parquet", timestamp_field="ts")
        user = Entity(name="user", tags=TAGS)
        good = FeatureView(name="good", entities=[user], source=source, ttl=remote["ttl"],
                           schema=[Field(name="a", dtype=Int64), Field(name=remote["x"], dtype=Int64)])
        bad = FeatureView(name=remote["name"], entities=[user], source=source)
        lost = FeatureView(name="lost", entities=remote["entities"], source=source)
        if remote["enabled"]:
            hidden = FeatureView(name="hidden", entities=[user], source=source)
        service = FeatureService(name="service", features=[good[["a", "zz"]], bad, *NAMES])
        for name in ["x", "y"]:
            raise ValueError(name)
        after = FeatureView(name="after", entities=[user], source=source)
    """
    repository, written = from_feast(write_repository(tmp_path, {"feature_store.yaml": STORE, "sub/v.py": code}))
    assert [view.name for view in repository.views] == ["good"]
    (report,) = [text for name, text in written.files.items() if name == "FROM_FEAST.md"]
    for sentence in (
        "its `ttl` could not be read: it calls requests.get (sub/v.py:5)",
        "a field of its schema (sub/v.py:9) was left out: its name could not be read: it calls requests.get (sub/v.py:5)",
        "it could not be read: its name could not be read: it calls requests.get (sub/v.py:5)",
        "it could not be read: its entities could not be read: it calls requests.get (sub/v.py:5)",
        "a FeatureView is not read: it depends on a condition that calls requests.get (sub/v.py:5) (sub/v.py:13)",
        "its `tags` could not be read: it comes from elsewhere.TAGS, which is not in the repository (sub/v.py:7)",
        "raises an error (sub/v.py:16)",
    ):
        assert sentence in report, sentence


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass", "def f():\n    return f()\nX = f()", "X = 'x'\nfor i in range(60):\n    X = X + X",
        "X = [0] * 10**9", "X = f'{1:999999999}'", "X = list(range(10**12))", "for i in range(10**9):\n    pass",
        "X = '%999999999d' % 1", "X = " + "(" * 60 + ")" * 60, "X = " + "+".join(["1"] * 900),
        "X = [1]\nfor i in range(60):\n    X.extend(X)",
    ],
)  # fmt: skip
def test_code_without_end_is_left(code: str, tmp_path: Path) -> None:
    evaluator = Evaluator(write_repository(tmp_path, {"m.py": code}))
    names = evaluator.module(tmp_path / "m.py")
    found = names.get("X")
    assert isinstance(found, (Unknown, list, tuple)) or "X" not in names or evaluator.unread
    assert not isinstance(found, (list, str)) or len(found) <= 2_000_000


# What goes wrong.

VIEW = """
    from feast import Entity, FeatureView, FileSource
    v = FeatureView(name="v", entities=[Entity(name="k")], source=FileSource(path="x.parquet", timestamp_field="ts"))
"""


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "There is no feature_store.yaml in .*repo, so it is no Feast repository."),
        ({"feature_repo/feature_store.yaml": STORE}, "there is one in .*feature_repo"),
        ({"feature_store.yaml": "project: [x\npassword: hunter2"}, r"feature_store.yaml cannot be read: .*line 2"),
        ({"feature_store.yaml": "just text"}, "is not a mapping, as Feast wants it"),
        ({"feature_store.yaml": STORE}, r"There is no feature view in .*repo \(Python files: 0\)"),
        ({"feature_store.yaml": STORE, "a/b.py": "x = 1\ndef f(:\n"}, r"repo/a/b.py: line 2: this is no Python \(.*\)"),
        ({"feature_store.yaml": STORE, "b.py": "x = '\0'"}, r"repo/b.py:.* this is no Python"),
        ({"feature_store.yaml": STORE.replace("City Rides", "1st"), "v.py": VIEW}, "'1st' cannot be a dbt project's name"),
        (
            {"feature_store.yaml": STORE, "v.py": "import os\n" + VIEW.replace('"x.parquet"', 'os.environ["NOT_SET_X"]')},
            r"No feature view can be written of .*: 'v' \(v.py:4\): .* its FileSource asks for the environment variable "
            r"NOT_SET_X, which is not set \(v.py:4\). Set the environment variables that the code asks for: NOT_SET_X.",
        ),
    ],
)  # fmt: skip
def test_a_repository_that_is_none_is_refused_in_a_sentence(
    files: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "repo").mkdir()
    files = {name: text.replace("\n    ", "\n") for name, text in files.items()}
    write_repository(tmp_path / "repo", files)
    ran = run("feature-store", "init", str(tmp_path / "new"), "--from-feast", str(tmp_path / "repo"))
    assert (ran.code, ran.out) == (1, "")
    assert_one_sentence(ran.err)
    assert re.search(sentence, ran.err) and "hunter2" not in ran.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("taken", ["models/features/v.sql", "FROM_FEAST.md", "models"])
def test_nothing_is_overwritten_or_half_written(taken: str, tmp_path: Path) -> None:
    repo = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW})
    mine = tmp_path / "new" / taken
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    ran = run("feature-store", "init", str(tmp_path / "new"), "--from-feast", str(repo))
    assert (ran.code, ran.out) == (1, "") and "nothing was written" in ran.err
    assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == [mine] and mine.read_text() == "mine"


def test_the_path_may_be_the_yaml_and_the_name_may_be_given(tmp_path: Path) -> None:
    repo = write_repository(tmp_path / "repo", {"feature_store.yaml": STORE, "v.py": VIEW, ".feastignore": "skip\n"})
    write_repository(repo, {"skip/broken.py": "def f(:", "venv/lib/x.py": "def f(:"})
    ran = run(
        "feature-store",
        "init",
        str(tmp_path / "new"),
        "--name",
        "mine",
        "--from-feast",
        str(repo / "feature_store.yaml"),
    )
    assert ran.code == 0 and "Read 1 Python file of " in ran.out
    assert yaml.safe_load((tmp_path / "new" / "profiles.yml").read_text())["mine"]["target"] == "dev"
    written = yaml.safe_load((tmp_path / "new" / "dbt_project.yml").read_text())
    assert written["vars"] == {"feast_repository": str(repo)} and written["name"] == "mine"
    assert "there is no" in (tmp_path / "new" / "FROM_FEAST.md").read_text()


def test_names_are_given_once(tmp_path: Path) -> None:
    views = VIEW + "".join(
        f"    v{number} = FeatureView(name={name!r}, entities=[Entity(name='k')], source=v.source)\n"
        for number, name in enumerate(["a-b", "a.b", "a b", "1st", "feature_store_registry", "v", "é"])
    )
    repository, written = from_feast(write_repository(tmp_path, {"feature_store.yaml": STORE, "v.py": views}))
    assert [model.name for model in written.models] == [
        "v",
        "a_b",
        "a_b_2",
        "a_b_3",
        "_1st",
        "feature_store_registry_2",
        "_",
    ]
    assert [(absent.name, absent.why) for absent in repository.absent] == [
        ("v", "another feature view before it has the same name")
    ]


def test_written_is_a_value(tmp_path: Path) -> None:
    files = {"feature_store.yaml": STORE, "v.py": VIEW}
    _, written = from_feast(write_repository(tmp_path, files))
    assert isinstance(written, Written) and written.name == "city_rides"
    with pytest.raises(InputError, match="is no Feast repository"):
        from_feast(tmp_path / "nowhere")
