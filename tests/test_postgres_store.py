"""What Python does with a DuckDB target it does with PostgreSQL, and gives the same: rows in Redis, training sets, statistics,
freshness, differences. What it reads in one call is of one moment, and it leaves nothing behind."""

from __future__ import annotations

import decimal
import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
import yaml

from materializer import FeatureStore, InputError, WarehouseError
from materializer.materialize import plan
from materializer.online import request as online_request
from materializer.project.relation import Relation
from materializer.project.settings import load_project
from materializer.training.repeat import TrainingSetChangedError
from materializer.warehouse import open_warehouse, query_apart
from materializer.warehouse.moments import to_rows
from materializer.warehouse.postgres import PostgresWarehouse
from tests.support.command import assert_one_sentence, run
from tests.support.kinds import FEATURES, KEYS, START, VIEW, drawn, online
from tests.support.serving import serving
from tests.support.two_engines import SCHEMA, Engines, two_engines

FILES = {
    "models/kinds.sql": "select * from {{ source('raw', 'kinds') }}",
    "models/people.sql": "select user_id, max(happened_at) as event_timestamp, cast(max(price) as decimal(12, 3)) as dearest, count(quantity) as pieces\nfrom {{ ref('kinds') }} group by user_id",
    "models/tagged.sql": "select code, happened_at as event_timestamp, right(cast(code as varchar), 1) as tag from {{ source('raw', 'kinds') }} where code is not null",
    "models/models.yml": {
        "sources": [{"name": "raw", "schema": SCHEMA, "tables": [{"name": "kinds"}]}],
        "models": [
            {"name": "kinds", "config": {"meta": {"feature_view": VIEW}}},
            {"name": "people", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}},
            {"name": "tagged", "config": {"meta": {"feature_view": {"entities": ["code"]}}}},
        ],
        "exposures": [
            {
                "name": "everything", "type": "ml", "owner": {"name": "x", "email": "x@y.z"},
                "depends_on": ["ref('kinds')", "ref('people')"],
                "config": {"meta": {"features": ["kinds:price", "kinds:label", "people:dearest", "people:pieces"]}},
            }
        ],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with two_engines(tmp_path_factory.mktemp("store"), FILES) as found:
        found.create("kinds", KEYS | FEATURES, drawn(1))
        found.dbt("build")
        yield found


@pytest.fixture(scope="module")
def stores(engines: Engines, redis_url: str) -> tuple[FeatureStore, FeatureStore]:
    return tuple(
        FeatureStore(one.folder, redis_url=redis_url, namespace=f"store.{name}")
        for name, one in (("duckdb", engines.duckdb), ("postgres", engines.postgres))
    )


def project(engines: Engines) -> Any:
    return load_project(engines.postgres.folder)


def test_the_same_rows_go_online_and_only_what_changed_goes_again(
    engines: Engines, stores: tuple[FeatureStore, FeatureStore], client: redis.Redis
) -> None:
    def run_both() -> list[list[tuple[int, ...]]]:
        both = [store.materialize(feature_views=["kinds", "people"]) for store in stores]
        assert all(result.error is None for results in both for result in results), both
        return [
            [(one.rows_read, one.rows_written, one.rows_skipped, one.rows_deleted) for one in results]
            for results in both
        ]

    def same() -> dict[str, dict[bytes, bytes]]:
        ours, theirs = (online(client, f"store.{name}", "kinds", "people") for name in ("duckdb", "postgres"))
        assert ours == theirs
        return ours

    first, again = run_both(), run_both()
    assert first[0] == first[1] and first[0][0][1] == 18
    assert [counts[1] for counts in again[1]] == [0, 0]
    rows = same()
    assert len(rows) == 18 + 6
    assert {field for row in rows.values() for field in row} >= {name.encode() for name in FEATURES}

    engines.insert("kinds", [row | {"happened_at": START + timedelta(hours=500)} for row in drawn(2, 4)])
    for statement in ("delete from {}kinds where user_id = 3", "update {}kinds set label = 'new' where user_id = 4"):
        with engines._ours() as ours, engines.connection.cursor() as theirs:
            ours.execute(statement.format("main."))
            theirs.execute(statement.format("public."))
    engines.dbt("build")
    changed, idle = run_both(), run_both()
    assert changed[0] == changed[1]
    assert changed[1][0][3] == 3 and 0 < changed[1][0][1] < 18
    assert [counts[1] for counts in idle[1]] == [0, 0]
    assert len(same()) == 15 + 5


def spine_rows() -> list[dict[str, Any]]:
    draw = random.Random(5)
    return [
        {
            "user_id": draw.choice([1, 2, 4, 9]), "shop": draw.choice(["a", "b:c", "É", None]), "no": number,
            "price_paid": decimal.Decimal("1.50"), "asked_at": START + timedelta(minutes=draw.randrange(30_000)),
        }
        for number in range(200)
    ]  # fmt: skip


def test_a_training_set_is_the_same_whatever_its_labels_come_as(
    stores: tuple[FeatureStore, FeatureStore],
) -> None:
    table = pa.Table.from_pylist(spine_rows())
    values = ", ".join(
        f"({row['user_id']}, {'null' if row['shop'] is None else repr(row['shop'])}, {row['no']}, timestamptz '{row['asked_at']}')"
        for row in spine_rows()
    )
    sql = f"select * from (values {values}) as labels (user_id, shop, no, asked_at) -- the labels"
    references = [f"kinds:{name}" for name in FEATURES] + ["people:dearest", "people:pieces"]
    for spine in (table, table.to_pandas(), sql):
        ours, theirs = (
            store.get_historical_features(spine, references, timestamp="asked_at").to_arrow().select([r.partition(":")[2] for r in references])
            for store in stores
        )  # fmt: skip
        assert ours.schema == theirs.schema
        assert repr(to_rows(ours)) == repr(to_rows(theirs))
        assert theirs.column("quantity").null_count < 200
    columns = stores[1].get_historical_features(table, "everything", timestamp="asked_at").to_arrow().column_names
    assert columns == [*table.column_names, "price", "label", "dearest", "pieces"]


def test_a_row_keeps_its_features_in_whatever_order_the_warehouse_answers(
    stores: tuple[FeatureStore, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.Table.from_pylist(spine_rows())
    references = ["kinds:quantity", "kinds:label", "people:pieces"]
    expected = to_rows(stores[1].get_historical_features(table, references, timestamp="asked_at").to_arrow())
    assert len({str(row) for row in expected}) > 100
    answered = PostgresWarehouse.query

    def shuffled(self: PostgresWarehouse, sql: str) -> pa.Table:
        found = answered(self, sql)
        return found.take(random.Random(1).sample(range(found.num_rows), found.num_rows))

    monkeypatch.setattr(PostgresWarehouse, "query", shuffled)
    again = stores[1].get_historical_features(table, references, timestamp="asked_at").to_arrow()
    assert to_rows(again) == expected


def test_a_uuid_is_a_key_in_every_form(stores: tuple[FeatureStore, FeatureStore]) -> None:
    (code, *_) = sorted({row["code"] for row in drawn(1) if row["code"]})
    shouted = "{" + code.upper() + "}"
    for store in stores:
        (key,) = store.get_feature_view("tagged").entities
        store.materialize(feature_views=["tagged"])
        spine = pa.table({"code": [shouted, code], "asked_at": [START + timedelta(days=30)] * 2})
        joined = (
            store.get_historical_features(spine, ["tagged:tag"], timestamp="asked_at").to_arrow()["tag"].to_pylist()
        )
        online = store.get_online_features(["tagged:tag"], [{"code": shouted}, {"code": code}]).to_dict()["tag"]
        assert joined == online == [code[-1]] * 2, key


def test_what_falls_due_goes_online_alike_and_is_read_as_it_is_joined(
    engines: Engines, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"duckdb": engines.duckdb, "postgres": engines.postgres}
    stores = [FeatureStore(one.folder, redis_url=redis_url, namespace=f"due.{name}") for name, one in names.items()]
    now = START + timedelta(days=5)
    monkeypatch.setattr(plan, "server_time", lambda *_: now)
    for expected in (18, 0):
        written = [store.materialize(["kinds"], ahead="7 days")[0].rows_written for store in stores]
        assert written in ([18, 18], [15, 15], [0, 0]) and (written[0] > 0) == (expected > 0)
    ours, theirs = (online(client, f"due.{name}", "kinds") for name in names)
    assert ours == theirs
    assert sum(b"_fs_due" in row for row in ours.values()) > 10
    entities = [{"user_id": user, "shop": shop} for user in (1, 2, 3, 4) for shop in ("a", "b:c", "É")]
    features = [f"kinds:{name}" for name in FEATURES]
    compared = 0
    for hours in (0, 5, 30, 77, 120, 160):
        moment = now + timedelta(hours=hours)
        monkeypatch.setattr(online_request, "clock_of", lambda _, moment=moment: moment)
        spine = pa.Table.from_pylist([{**entity, "asked_at": moment} for entity in entities])
        for store in stores:
            joined = to_rows(
                store.get_historical_features(spine, features, timestamp="asked_at").to_arrow().select(list(FEATURES))
            )
            answer = to_rows(store.get_online_features(features, entities).to_arrow().select(list(FEATURES)))
            assert repr(answer) == repr(joined)
            compared += sum(row["small"] is not None for row in answer)
    assert compared > 50


def test_statistics_freshness_and_differences_are_told(engines: Engines, redis_url: str) -> None:
    stores = [FeatureStore(one.folder, redis_url=redis_url) for one in (engines.duckdb, engines.postgres)]
    ours, theirs = (store.get_statistics("kinds", ["price", "label", "marks", "quantity"]) for store in stores)
    for one, other in zip(ours.features, theirs.features, strict=True):
        for figure in ("feature", "row_count", "null_count", "distinct_count", "minimum", "maximum", "top_values"):
            assert getattr(one, figure) == getattr(other, figure), figure
    ours, theirs = ({one.view: one for one in store.get_freshness()} for store in stores)
    for view in ("kinds", "people"):
        assert ours[view].rows == theirs[view].rows > 0
        assert ours[view].newest_event == theirs[view].newest_event
    shown = run("feature-store", "doctor", "--project-dir", str(engines.postgres.folder), "--redis-url", redis_url)
    assert "ok    warehouse: postgres 1" in shown.out and "view kinds: 19 features by user_id, shop" in shown.out
    assert "failed" not in shown.out


def test_the_values_of_two_builds_are_compared(engines: Engines, tmp_path: Path) -> None:
    """What was built before, under another name: one value of it differs, and one entity is missing."""
    with engines.connection.cursor() as cursor:
        cursor.execute(
            "drop table if exists built.people_before; create table built.people_before as select * from built.people"
        )
        cursor.execute("select count(*), min(user_id) from built.people where user_id is not null")
        entities, first = cursor.fetchone()
        cursor.execute(f"update built.people_before set pieces = coalesce(pieces, 0) + 1 where user_id = {first}")
        cursor.execute("delete from built.people_before where user_id = (select max(user_id) from built.people)")
    manifest = engines.postgres.manifest()
    node = manifest["nodes"]["model.shop.people"]
    node["relation_name"] = node["relation_name"].replace('"people"', '"people_before"')
    before = tmp_path / "manifest.json"
    before.write_text(json.dumps(manifest))
    now = engines.postgres.folder / "target" / "manifest.json"
    (view,) = [
        one for one in FeatureStore(engines.postgres.folder).diff(before, now, data=True).views if one.view == "people"
    ]
    assert (view.values.entities, view.values.only_old, view.values.only_new) == (entities - 1, 0, 1)
    assert {one.feature: one.differing for one in view.values.features} == {"dearest": 0, "pieces": 1}


def test_what_was_served_is_compared_with_what_was_true(engines: Engines, redis_url: str, tmp_path: Path) -> None:
    namespace, users = "skew.postgres", [1, 2, 3]
    store = FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace=namespace)
    store.materialize(["people"])
    asked = {"features": ["people:dearest", "people:pieces"], "entities": [{"user_id": user} for user in users]}
    with serving(redis_url, "--log-features", str(tmp_path / "log"), "--log-sample", "1", namespace=namespace) as (
        client,
        _,
    ):
        assert client.post("/v1/features", json=asked).status_code == 200
    found = run("feature-store", "skew", str(tmp_path / "log"), "--project-dir", str(engines.postgres.folder),
                "--redis-url", redis_url, "--namespace", namespace, "--output", "json")  # fmt: skip
    assert not found.err, found
    features = {one["feature"]: one for one in json.loads(found.out)["features"]}
    assert {name: (one["rows"], one["differ"]) for name, one in features.items()} == dict.fromkeys(
        asked["features"], (3, 0)
    ), found


def test_a_recorded_training_set_is_made_again_with_the_same_bytes(engines: Engines, tmp_path: Path) -> None:
    store = FeatureStore(engines.postgres.folder)
    sql = "select user_id, shop, happened_at as event_timestamp, label as target from built.kinds"
    record = store.save_training_set(tmp_path / "set.parquet", sql, ["kinds:price", "people:pieces"])
    assert record.versions["postgres"].startswith("1") and "duckdb" not in record.versions
    assert record.spine.content and all(view.content for view in record.views)
    repeated = store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet")
    assert repeated.same
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "set.parquet").read_bytes()
    with engines.connection.cursor() as cursor:
        cursor.execute("update built.people set pieces = coalesce(pieces, 0) + 1 where user_id = 1")
    with pytest.raises(TrainingSetChangedError, match="data of feature view 'people' has changed"):
        store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "third.parquet")
    assert not (tmp_path / "third.parquet").exists()


# A call reads one moment, and leaves nothing behind.


def test_what_others_commit_meanwhile_is_not_read(engines: Engines) -> None:
    count = "select count(*) as n from built.people"
    with open_warehouse(project(engines)) as warehouse:
        before = warehouse.query(count)["n"][0].as_py()
        with engines.connection.cursor() as cursor:
            cursor.execute("insert into built.people (user_id) values (77)")
        assert warehouse.query(count)["n"][0].as_py() == before
    with open_warehouse(project(engines)) as warehouse:
        assert warehouse.query(count)["n"][0].as_py() == before + 1
    with engines.connection.cursor() as cursor:
        cursor.execute("delete from built.people where user_id = 77")


def test_rows_that_were_brought_are_gone_after_the_call(engines: Engines) -> None:
    table = pa.table(
        {"a": [1, None], "d": pa.array([decimal.Decimal("1.50"), None]), "u": pa.array([2**64 - 1, 0], pa.uint64())}
    )
    with open_warehouse(project(engines)) as warehouse:
        relation = warehouse.spine("_fs_rows", table)
        assert [column.dtype for column in warehouse.columns(relation)] == ["bigint", "numeric(3,2)", "numeric(20,0)"]
        assert to_rows(warehouse.query(f"select * from {relation}")) == [
            {"a": 1, "d": decimal.Decimal("1.50"), "u": decimal.Decimal(2**64 - 1)}, {"a": None, "d": None, "u": 0},
        ]  # fmt: skip
    with engines.connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_class where relname in ('_fs_rows', '_fs_entity_df')")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("delete from built.people", "read-only"),
        ("with gone as (delete from built.people returning 1 as x) select x from gone", "read-only"),
        ("create table built.more (i integer)", "read-only"),
        ("select 1 as x; select 2 as x", "multiple commands"),
        ("select 1) to program 'touch /tmp/never' --", "syntax error"),
    ],
)
def test_a_query_changes_nothing(engines: Engines, sql: str, said: str) -> None:
    with open_warehouse(project(engines)) as warehouse:
        with pytest.raises(WarehouseError, match=said):
            warehouse.query(sql)
        assert warehouse.query("select count(*) as n from built.people")["n"][0].as_py() > 0  # and more can be asked


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_read_file('/etc/passwd') as x", 'select "pg_read_file"(\'/etc/passwd\') as x', "select * from pg_ls_dir('.')",
        "select lo_import('/etc/passwd')", "select query_to_xml('select 1', true, true, '')", "insert into built.people values (1)",
        "select * into built.more from built.people", "select 1 as x; select 2 as x", "nonsense",
    ],
)  # fmt: skip
def test_somebody_elses_select_reads_tables_and_nothing_more(engines: Engines, sql: str) -> None:
    with pytest.raises(WarehouseError, match=r"one SELECT|no function of SQL"):
        query_apart(project(engines), sql)
    assert query_apart(project(engines), "select sum(pieces)::bigint as n, count(*) from built.people;").num_rows == 1


def test_a_long_answer_takes_no_memory_to_speak_of(engines: Engines) -> None:
    import resource

    with open_warehouse(project(engines)) as warehouse:
        list(warehouse.stream("select 1 as i", 10))
        before, rows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
        for batch in warehouse.stream(
            "select i, i * 1.5::float8 as f, 'x' || i as s from generate_series(1, 1000000) as i", 5_000
        ):
            assert batch.num_rows <= 5_000
            rows += batch.num_rows
        assert rows == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


# Types.


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("date 'infinity'", "infinity"), ("timestamp '-infinity'", "-infinity"), ("timestamptz 'infinity'", "infinity"),
        ("time '24:00'", "24:00:00"), ("'{1.5, null}'::numeric(10, 2)[]", [decimal.Decimal("1.50"), None]),
        ("1500::numeric(3, -2)", decimal.Decimal(1500)), ("interval '1 day 2 hours'", "1 day 02:00:00"), ("'{}'::jsonb", "{}"),
        ("array['{}'::jsonb]", ["{}"]), ("'10:00+01'::timetz", "10:00:00+01"), ("null", None), ("'x'::char(3)", "x  "),
        ("'{}'::integer[]", []), ("B'101'", "101"), ("array[timestamptz '2026-01-01 01:00+01', 'infinity']", None),
    ],
)  # fmt: skip
def test_values_arrive_as_they_are(engines: Engines, expression: str, value: Any) -> None:
    with open_warehouse(project(engines)) as warehouse:
        (row,) = to_rows(warehouse.query(f"select {expression} as x"))
    assert row["x"] == (
        [datetime(2026, 1, 1, tzinfo=timezone.utc), "infinity"] if "array[timestamptz" in expression else value
    )


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1.5::numeric", "'x' is numeric without digits, which cannot be read: write cast(\"x\" as numeric(38, 9)) in the model"),
        ("array[1.5]", "'x' is numeric without digits, which cannot be read: write cast(\"x\" as numeric(38, 9)[]) in the model"),
        ("1::numeric(40, 2)", "more than 38 digits"), ("'nan'::numeric(10, 2)", "'x' holds NaN"),
        ("'1'::money", "type money"), ("row(1, 'x')", "type record"), ("point(1, 2)", "type point"), ("int4range(1, 2)", "type int4range"),
        ("array[[1, 2], [3, 4]]", "list of lists"), ("timestamp '294275-01-01'", "past the year 294,246"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(engines: Engines, expression: str, said: str) -> None:
    with open_warehouse(project(engines)) as warehouse:
        with pytest.raises(WarehouseError, match=r"^Column 'x' .*which cannot be read: .*\.$") as refused:
            warehouse.query(f"select {expression} as x")
        assert said in str(refused.value)
        assert warehouse.columns(Relation(f"(select {expression} as x) as q"))[0].name == "x"


def test_infinite_moments_are_told_as_on_duckdb(engines: Engines, redis_url: str, client: redis.Redis) -> None:
    engines.connection.cursor().execute("insert into built.people (user_id, event_timestamp) values (99, '-infinity')")
    store = FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace="store.infinite")
    (result,) = store.materialize(feature_views=["people"])
    assert result.error is None
    assert client.hget("store.infinite:people:99", "_fs_event") is not None
    engines.connection.cursor().execute("delete from built.people where user_id = 99")


# What goes wrong is one sentence.


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"port": 1}, "Connection refused"), ({"user": "nobody"}, 'role "nobody" does not exist'),
        ({"role": "absent"}, 'role "absent" does not exist'),
        ({"user": "guarded", "password": "s3cret-and-wrong"}, "password authentication failed"),
        ({"user": "poor", "password": "x"}, "permission denied for table kinds"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_says_why(
    engines: Engines, tmp_path: Path, redis_url: str, changed: dict[str, Any], said: str
) -> None:
    with engines.connection.cursor() as cursor:
        cursor.execute("show hba_file")
        hba = Path(cursor.fetchone()[0])
        for role in ("guarded", "poor"):
            cursor.execute("select from pg_roles where rolname = %s", (role,))
            if not cursor.rowcount:
                cursor.execute(f"create role {role} login password 'right'")
        if "guarded" not in hba.read_text():
            hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
            cursor.execute("grant usage on schema built to poor")
            cursor.execute("select pg_reload_conf(), pg_sleep(0.5)")
    profile = yaml.safe_load((engines.postgres.folder / "profiles.yml").read_text())
    profile["shop"]["outputs"]["dev"] |= changed
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("dbt_project.yml", "models", "target/manifest.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(engines.postgres.folder / name)
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    shown = run("materialize", "kinds", "--project-dir", str(folder), "--redis-url", redis_url, "--namespace", "none")
    assert shown.code == 1 and said in shown.err
    assert_one_sentence(shown.err)
    assert "s3cret" not in shown.err + shown.out


@pytest.mark.parametrize("missing", ["adbc_driver_manager", "adbc_driver_postgresql"])
def test_a_missing_driver_names_the_extra(engines: Engines, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "materializer.warehouse.postgres", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with (
        pytest.raises(WarehouseError, match=f"{missing} is not installed.*'dbt-feature-store\\[postgres\\]'"),
        open_warehouse(project(engines)),
    ):
        pass


def test_a_database_that_is_read_only_still_gives_training_sets_for_a_select(engines: Engines, tmp_path: Path) -> None:
    with engines.connection.cursor() as cursor:
        cursor.execute("alter role postgres set default_transaction_read_only = on")
    try:
        store = FeatureStore(engines.postgres.folder)
        labels = "select user_id, event_timestamp from built.people"
        assert store.get_historical_features(labels, ["people:pieces"]).to_arrow().num_rows > 0
        table = pa.table({"user_id": [1], "event_timestamp": [START]})
        with pytest.raises(WarehouseError, match="read-only transaction"):
            store.get_historical_features(table, ["people:pieces"])
    finally:
        engines.connection.cursor().execute("set default_transaction_read_only = off")
        engines.connection.cursor().execute("alter role postgres reset default_transaction_read_only")


def test_the_setting_names_where_runs_are_remembered(
    engines: Engines, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = engines.postgres.folder / ".feature_store" / "dev"
    FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace="store.here").materialize()
    assert json.loads((beside / "store.here" / "people" / "memory.json").read_text())["finished"]
    monkeypatch.setenv("FEATURE_STORE_STATE", str(tmp_path / "state"))
    store = FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace="store.there")
    store.materialize()
    assert (tmp_path / "state" / "store.there" / "people" / "memory.json").is_file()
    assert {result.rows_written for result in store.materialize()} == {0}
    assert not (beside / "store.there").exists()


# Any other warehouse is read by dbt's own adapter: here PostgreSQL's, as if there were no other way.


@pytest.fixture
def by_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("materializer.warehouse.OWN_WAY", {})
    monkeypatch.setattr("materializer.warehouse.adapter._known", {})


def test_by_dbts_adapter_training_sets_and_rows_online_are_the_same(
    engines: Engines, redis_url: str, client: redis.Redis, by_adapter: None
) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1, 2, 4, None, 2**53 + 1], pa.int64()),
            "asked_at": pa.array([START + timedelta(days=20)] * 5, pa.timestamp("us", "UTC")),
            "note": ["o'x\n", None, "", "a", "b"],
        }
    )
    references = ["people:dearest", "people:pieces"]
    store = FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace="store.adapter")
    with pytest.warns(UserWarning, match="No release was tried on postgres"):
        theirs = store.get_historical_features(table, references, timestamp="asked_at").to_arrow()
    (result,) = store.materialize(feature_views=["people"])
    (again,) = store.materialize(feature_views=["people"])
    assert result.error is None and result.rows_written > 3 and again.rows_written == 0
    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(
            lambda _: store.get_historical_features(table, references, timestamp="asked_at").to_arrow(), range(8)
        )
        assert {str(to_rows(one)) for one in asked} == {str(to_rows(theirs))}
    empty = store.get_historical_features(table.slice(0, 0), references, timestamp="asked_at").to_arrow()
    assert empty.num_rows == 0 and empty.column_names == theirs.column_names
    with pytest.MonkeyPatch.context() as own:
        own.setattr("materializer.warehouse.OWN_WAY", {"postgres": "PostgreSQL"})
        store = FeatureStore(engines.postgres.folder, redis_url=redis_url, namespace="store.own")
        ours = store.get_historical_features(table, references, timestamp="asked_at").to_arrow()
        store.materialize(feature_views=["people"])
    assert ours.schema == theirs.schema == empty.schema
    assert to_rows(ours) == to_rows(theirs) and ours["pieces"].null_count < 5
    assert online(client, "store.adapter") == online(client, "store.own")


def test_by_dbts_adapter_what_cannot_be_done_is_one_sentence(engines: Engines, by_adapter: None) -> None:
    with open_warehouse(project(engines)) as warehouse:
        with pytest.raises(WarehouseError, match=r"postgres refused a query: .*does not exist"):
            warehouse.query("select 1 as x from absent")
        with pytest.raises(InputError, match="10,001 rows of yours are too many for postgres"):
            warehouse.spine("_fs_rows", pa.table({"a": range(10_001)}))
        with pytest.raises(WarehouseError, match="type ARRAY cannot be read"):
            warehouse.schema(Relation('"shop"."built"."kinds"'))
    with pytest.raises(WarehouseError, match="nothing keeps it to that"):
        query_apart(project(engines), "select 1 as x")
