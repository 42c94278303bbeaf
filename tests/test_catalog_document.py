"""The catalog's document: what it says of a project, and what it says where something cannot be found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, InputError
from materializer.catalog.answers import show
from materializer.catalog.document import moment_of_build, to_json
from materializer.catalog.page import html
from materializer.catalog.search import search_document
from tests.support.dbt import DbtProject, copy_of
from tests.support.manifests import bare_project, manifest, write_models
from tests.support.shop import ONLINE_VIEWS, built_shop

NAMESPACE = "catalog"
NOW = datetime.now(timezone.utc).replace(microsecond=0)
NOWHERE = "redis://127.0.0.1:1/0"


def named(parts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [part for part in parts if part["name"] == name]
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> FeatureStore:
    project = copy_of(built_shop(), tmp_path_factory.mktemp("catalog") / "shop")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=NAMESPACE)
    store.materialize()
    return store


@pytest.fixture(scope="module")
def document(shop: FeatureStore) -> dict[str, Any]:
    return shop.get_catalog(built_at=NOW)


# What it says.


def test_the_same_moment_gives_the_same_bytes(shop: FeatureStore, document: dict[str, Any]) -> None:
    again = shop.get_catalog(built_at=NOW)
    assert to_json(again) == to_json(document) and html(again) == html(document)


def test_everything_that_is_declared_is_in_it_once(shop: FeatureStore, document: dict[str, Any]) -> None:
    assert [view["name"] for view in document["views"]] == [view.reference for view in shop.list_feature_views()]
    for view in document["views"]:
        declared = shop.get_feature_view(view["name"])
        assert view["entities"] == list(declared.join_keys)
        assert [one["name"] for one in view["features"]] == [one.name for one in declared.all_features]
    assert {one["name"]: one["views"] for one in document["entities"]} == {
        "item_id": ["item_features", "user_item"],
        "user_id": ["offline_only", "user_features", "user_item"],
    }
    service = named(document["services"], "recommendation")
    assert service["features"] == ["user_features:city", "item_features:price"]
    assert service["owner"] == {"group": None, "name": "ML", "email": "ml@shop.example"}


def test_an_entity_has_a_key_that_is_there_unless_values_are_not_looked_at(
    shop: FeatureStore, document: dict[str, Any]
) -> None:
    keys = {one["name"]: one["example"] for one in document["entities"]}
    with duckdb.connect(str(shop.project.database_file), read_only=True) as warehouse:
        relation = named(document["views"], "user_item")["relation"]
        pairs = warehouse.execute(f"select user_id, item_id from {relation}").fetchall()
    assert (keys["user_id"], keys["item_id"]) == min(pair for pair in pairs if None not in pair)
    assert [one["example"] for one in shop.get_catalog(statistics=False)["entities"]] == [None, None]


def test_training_sets_that_were_recorded_in_the_project_are_listed(shop: FeatureStore) -> None:
    labels = "select 1::bigint as user_id, timestamptz '2024-02-02 00:00:00+00' as event_timestamp"
    sets = shop.project.folder / "sets"
    for folder in (sets, sets / ".hidden", shop.project.target_folder):
        folder.mkdir(exist_ok=True)
        record = shop.save_training_set(folder / "ages.parquet", labels, ["user_features:age", "user_features:city"])
    (sets / "other.csv.json").write_text('{"rows": 1}')
    foreign = json.loads((sets / "ages.parquet.json").read_text()) | {"project": "another"}
    (sets / "foreign.parquet.json").write_text(json.dumps(foreign))
    document = shop.get_catalog(statistics=False)
    (found,) = document["training_sets"]
    assert found["name"] == "sets/ages.parquet" and found["rows"] == 1 and found["made_at"] <= record.made_at
    assert found["features"] == ["user_features:age", "user_features:city"]
    assert show(document, "user_features:age")["training_sets"] == ["sets/ages.parquet"]
    assert show(document, "item_features:price")["training_sets"] == []


def test_a_view_says_what_it_is_and_who_owns_it(document: dict[str, Any]) -> None:
    view = named(document["views"], "user_features")
    assert view["owner"] == {"group": "growth", "name": "Growth", "email": "growth@shop.example"}
    assert (view["tags"], view["description"]) == (["people", "team=growth"], "Who a user is.")
    assert (view["file"], view["relation"]) == ("models/user_features.sql", "warehouse.main.user_features")
    assert "from (values" in view["sql"] and "from (values" in view["compiled"]
    assert view["used_by"] == [{"kind": "service", "name": "recommendation"}]
    assert [(one["name"], one["type"], one["arrow_type"]) for one in view["features"]] == [
        ("age", "bigint", "int64"), ("city", "varchar", "string"), ("score", "double", "double"),
    ]  # fmt: skip
    assert view["features"][0]["description"] == "In years." and view["problem"] is None


def test_its_facts_are_those_of_the_commands(shop: FeatureStore, document: dict[str, Any]) -> None:
    for state in shop.get_freshness():
        view = named(document["views"], state.view)
        assert (view["freshness"]["rows"], view["freshness"]["entities"]) == (state.rows, state.entities)
        assert (view["online"]["wanted"], view["online"]["published"]) == (state.online, state.published)
    for view in document["views"]:
        for figures in shop.get_statistics(view["name"]):
            shown = named(view["features"], figures.feature)["statistics"]
            assert (shown["row_count"], shown["null_count"], shown["kind"]) == (
                figures.row_count, figures.null_count, figures.kind,
            )  # fmt: skip
            assert shown["mean"] is None or shown["mean"] == pytest.approx(figures.mean, rel=1e-9)
    words = ("", "user", "price", "growth")
    assert [search_document(document, text) for text in words] == [shop.search(text) for text in words]


def test_online_it_says_what_redis_has(document: dict[str, Any]) -> None:
    online = {view["name"]: view["online"] for view in document["views"]}
    assert [name for name, one in online.items() if one["published"]] == ONLINE_VIEWS
    users = online["user_features"]
    assert (users["rows"], users["newest_event"], users["error"]) == (3, "2024-05-01T12:30:00.250000Z", None)
    assert users["key"] == "catalog:user_features:" and users["last_run"] is not None
    assert online["offline_only"]["wanted"] is False and online["offline_only"]["status"] is None


def test_numbers_keep_their_value_in_any_reader(document: dict[str, Any]) -> None:
    age, _, score = named(document["views"], "user_features")["features"]
    assert age["statistics"]["maximum"] == "9007199254740993"  # beyond 2^53
    assert score["statistics"]["nan_count"] == 1
    price = named(document["views"], "item_features")["features"][0]
    assert price["statistics"]["maximum"] == "9.90"
    assert json.loads(to_json(document)) == document


def test_light_it_has_no_sql_and_no_history(shop: FeatureStore) -> None:
    light = shop.get_catalog(light=True, statistics=False, built_at=NOW)
    assert all(part["sql"] is None and part["compiled"] is None for part in (*light["views"], *light["models"]))
    assert light["columns"] and light["project"]["light"] is True
    assert all(one["statistics"] is None for view in light["views"] for one in view["features"])
    assert "--no-statistics" in named(light["checks"], "statistics")["problem"]


def test_the_moment_of_the_build_is_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment_of_build("2026-03-01T00:00:00Z") == datetime(2026, 3, 1, tzinfo=timezone.utc)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert moment_of_build() == datetime(1970, 1, 2, tzinfo=timezone.utc)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        moment_of_build()


# Where something cannot be found out, the rest is there.


def test_without_time_for_rows_it_says_so_and_knows_the_rest(shop: FeatureStore) -> None:
    found = shop.get_catalog(seconds=0, built_at=NOW)
    for name in ("freshness", "statistics", "drift"):
        check = named(found["checks"], name)
        assert check["count"] == 0 and "--seconds gives more" in check["problem"]
    assert {view["freshness"]["status"] for view in found["views"]} == {"unknown"}
    assert named(found["views"], "user_features")["features"][0]["type"] == "bigint"


def test_without_redis_it_says_so_and_knows_the_rest(shop: FeatureStore) -> None:
    found = FeatureStore(shop.project.folder, redis_url=NOWHERE, namespace=NAMESPACE).get_catalog(built_at=NOW)
    assert "127.0.0.1:1" in named(found["checks"], "online")["problem"]
    assert named(found["views"], "user_features")["online"]["published"] is None
    assert named(found["views"], "user_features")["freshness"]["rows"] == 4


def test_without_the_warehouse_it_shows_what_is_declared(shop: FeatureStore, tmp_path: Path) -> None:
    folder = copy_of(DbtProject(shop.project.folder), tmp_path / "shop").folder
    (folder / "warehouse.duckdb").unlink()
    found = FeatureStore(folder, redis_url=NOWHERE).get_catalog(built_at=NOW)
    assert len(found["views"]) == 4
    view = named(found["views"], "user_features")
    assert [one["name"] for one in view["features"]] == ["age"]  # as far as it is declared
    assert view["freshness"]["status"] == "unknown" and "warehouse.duckdb" in view["freshness"]["reason"]
    assert "warehouse.duckdb" in named(found["checks"], "freshness")["problem"]


def hand_made(tmp_path: Path, models: Any, views: Any, *statements: str, change: Callable[[Any], None] | None = None,
              services: Any = None) -> dict[str, Any]:  # fmt: skip
    """The document of a project that dbt never saw, over tables that these statements made."""
    content = manifest(models, views, services, database="warehouse")
    if change:
        change(content)
    folder = write_models(bare_project(tmp_path / "shop", "warehouse.duckdb"), content)
    with duckdb.connect(str(folder / "warehouse.duckdb")) as warehouse:
        for statement in statements:
            warehouse.execute(statement)
    return FeatureStore(folder, redis_url=NOWHERE).get_catalog(built_at=NOW)


USERS = f"""create table users as select range::bigint as user_id, timestamp '{NOW:%Y-%m-%d %H:%M:%S}' - interval 1 hour
            as event_timestamp, range * 1.5::double as spent from range(1000)"""
VIEW = {"entities": ["user_id"]}


def test_a_view_that_is_not_built_is_listed_with_the_reason(tmp_path: Path) -> None:
    found = hand_made(tmp_path, dict.fromkeys(["users", "others"], "select 1 as user_id"),
                      {"users": VIEW, "others": VIEW}, USERS)  # fmt: skip
    others = named(found["views"], "others")
    assert others["problem"] == (
        'Feature view \'others\' is not in the warehouse as "warehouse"."main"."others": run `dbt build`.'
    )
    assert named(found["views"], "users")["problem"] is None
    assert named(found["views"], "users")["features"][0]["statistics"]["row_count"] == 1000
    (finding,) = [one for one in found["findings"] if one["kind"] == "build"]
    assert (finding["ref"], finding["severity"]) == ("others", "error") and "dbt build" in finding["mend"]


def test_a_view_that_is_declared_wrongly_does_not_hide_the_others(tmp_path: Path) -> None:
    found = hand_made(tmp_path, dict.fromkeys(["users", "wrong"], "select 1 as user_id"),
                      {"users": VIEW, "wrong": {"entitys": ["user_id"]}}, USERS)  # fmt: skip
    assert [view["name"] for view in found["views"]] == ["users"]
    assert "entitys" in named(found["models"], "wrong")["problem"]
    assert [one["ref"] for one in found["findings"] if one["kind"] == "build"] == ["wrong"]


def test_sql_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = hand_made(tmp_path, {"users": "select from where"}, {"users": VIEW}, USERS)
    assert "cannot be read" in named(found["views"], "users")["problem"]
    assert named(found["views"], "users")["freshness"]["rows"] == 1000


def test_a_service_that_names_what_there_is_not_is_a_finding(tmp_path: Path) -> None:
    found = hand_made(tmp_path, {"users": "select 1 as user_id"}, {"users": VIEW}, USERS,
                      services={"ranker": ["users:gone"], "fine": ["users:spent"]})  # fmt: skip
    (finding,) = [one for one in found["findings"] if one["kind"] == "service"]
    assert finding["ref"] == "ranker" and "users:gone" in finding["what"]


def test_failed_tests_and_builds_of_the_last_dbt_command_are_findings(tmp_path: Path) -> None:
    results = {
        "metadata": {"generated_at": "2026-01-01T00:00:00Z"},
        "results": [
            {"unique_id": "test.shop.t", "status": "fail", "failures": 7, "execution_time": 0.5, "message": "Got 7"},
            {"unique_id": "model.shop.users", "status": "error", "execution_time": 0.1,
             "message": "Runtime Error in model users (models/users.sql)\n  Catalog Error: no such table", "timing": []},
        ],
    }  # fmt: skip

    def add_test(content: Any) -> None:
        content["nodes"]["test.shop.t"] = {
            "unique_id": "test.shop.t", "resource_type": "test", "name": "t", "package_name": "shop", "config": {},
            "attached_node": "model.shop.users", "column_name": "spent", "original_file_path": "models/x.yml",
            "test_metadata": {"name": "not_null", "kwargs": {"column_name": "spent", "model": "x", "where": "a"}},
            "depends_on": {"nodes": ["model.shop.users"], "macros": []}, "raw_code": "", "columns": {},
        }  # fmt: skip
        target = tmp_path / "shop" / "target"
        target.mkdir(parents=True)
        (target / "run_results.json").write_text(json.dumps(results))

    found = hand_made(tmp_path, {"users": "select 1 as user_id"}, {"users": VIEW}, USERS, change=add_test)
    view = named(found["views"], "users")
    assert view["tests"] == [
        {"name": "not_null", "column": "spent", "kind": "data", "arguments": {"where": "a"}, "status": "fail",
         "failures": 7, "seconds": 0.5}
    ]  # fmt: skip
    assert view["problem"] == "The last dbt run failed at it: Catalog Error: no such table"
    kinds = {(one["kind"], one["ref"], one["what"]) for one in found["findings"]}
    assert ("test", "users:spent", "not_null failed: 7 rows") in kinds
    assert ("build", "users", view["problem"]) in kinds
    assert named(found["checks"], "tests")["at"] == "2026-01-01T00:00:00Z"


def test_a_model_that_keeps_statistics_over_time_is_the_history(tmp_path: Path) -> None:
    history = {"sql": "select 1", "macros": ["macro.feature_store.feature_statistics"]}
    table = """create table history as select 'users' as feature_view, 'spent' as feature,
               timestamp '2026-01-01' + interval (range) day as period_start, 10 + range as row_count,
               0.0::double as null_fraction, range::double as mean, 5 as distinct_count, 1.0::double as p05,
               2.0::double as p50, 3.0::double as p95 from range(70)"""
    found = hand_made(tmp_path, {"users": "select 1 as user_id", "history": history}, {"users": VIEW}, USERS, table)
    periods = named(found["views"], "users")["features"][0]["history"]
    assert len(periods) == 60 and [one["period"] for one in periods] == sorted(one["period"] for one in periods)
    assert periods[-1] == {"period": "2026-03-11", "rows": 79, "null_fraction": 0.0, "mean": 69.0, "distinct": 5,
                           "p05": 1.0, "p50": 2.0, "p95": 3.0}  # fmt: skip


def test_drift_of_the_newest_days_is_a_finding_where_it_is_much(tmp_path: Path) -> None:
    begin = NOW - timedelta(days=14)
    moved = f"""create table users as select range::bigint as user_id,
                timestamp '{begin:%Y-%m-%d %H:%M:%S}' + interval (range) hour as event_timestamp,
                case when range < 168 then range else 10_000 + range end::double as spent from range(336)"""
    found = hand_made(tmp_path, {"users": "select 1 as user_id"}, {"users": VIEW}, moved)
    drift = named(found["views"], "users")["features"][0]["drift"]
    assert drift["verdict"] == "drifted" and drift["population_stability_index"] > 1
    assert [one["ref"] for one in found["findings"] if one["kind"] == "drift"] == ["users:spent"]


def test_versions_are_views_of_their_own_and_know_each_other(tmp_path: Path) -> None:
    found = hand_made(tmp_path, {"users.v1": "select 1 as user_id", "users.v2": "select 2 as user_id"}, {"users": VIEW},
                      USERS.replace("table users", "table users_v1"), USERS.replace("table users", "table users_v2"))  # fmt: skip
    assert [(view["name"], view["model"], view["latest"]) for view in found["views"]] == [
        ("users.v1", "users", False), ("users.v2", "users", True),
    ]  # fmt: skip
    assert [one["name"] for one in found["views"][0]["versions"]] == ["users.v1", "users.v2"]
    assert found["views"][1]["online"]["key"] == "shop.dev:users.v2:"


def test_versions_say_what_changed_between_them(tmp_path: Path) -> None:
    models = {
        "users.v1": "select user_id, event_timestamp, spent, spent as kept, 1 as gone from {{ source('raw', 'users') }}",
        "users.v2": "select user_id, event_timestamp, spent * 2 as spent, spent as kept, 'a' as new from {{ source('raw', 'users') }}",
        "users.v3": "select user_id, event_timestamp, spent * 2 as spent, spent as kept, 'a' as new from {{ source('raw', 'users') }}",
    }
    table = (
        "create table users_v{} as select 1::bigint as user_id, now() as event_timestamp, 1.5 as spent, 1.5 as kept, {}"
    )
    found = hand_made(tmp_path, models, {"users": VIEW}, table.format(1, "1 as gone"), table.format(2, "'a' as new"),
                      table.format(3, "'a' as new"))  # fmt: skip
    for view in found["views"]:
        assert [one["change"] for one in view["versions"]] == [
            None, "adds new; drops gone; computes otherwise spent", "no feature changed",
        ]  # fmt: skip


def test_what_a_model_is_made_from_and_who_reads_it(tmp_path: Path) -> None:
    models = {
        "stg": {"sql": "select user_id, ts from {{ source('raw', 'users') }}", "columns": {"user_id": "bigint"}},
        "users": "select user_id, ts as event_timestamp from {{ ref('stg') }}",
        "labels": {"sql": "select * from {{ ref('users') }}", "macros": ["macro.feature_store.point_in_time_join"]},
    }
    found = hand_made(tmp_path, models, {"users": VIEW}, services={"ranker": ["users:spent"]})
    assert named(found["sources"], "raw.users")["used_by"] == [{"kind": "model", "name": "stg"}]
    stg = named(found["models"], "stg")
    assert (stg["reads"], stg["used_by"]) == (["raw.users"], [{"kind": "view", "name": "users"}])
    assert stg["columns"] == [{"name": "user_id", "type": "bigint", "description": ""}]
    assert named(found["views"], "users")["used_by"] == [
        {"kind": "service", "name": "ranker"}, {"kind": "training set", "name": "labels"},
    ]  # fmt: skip
    assert found["columns"]["users:event_timestamp"]["values"] == ["stg:ts"]
