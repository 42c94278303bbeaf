"""The commands: what they print as text and as JSON, their exit codes, and the way from `init` to online features."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import redis
import yaml

import materializer
from materializer import cli
from tests.support.command import run, run_process
from tests.support.dbt import DbtProject, copy_of, install
from tests.support.shop import ONLINE_VIEWS, built_shop, change_warehouse

COMMANDS = {name: cli.command(name) for names in cli.COMMANDS.values() for name in names}
RESULT = ["view", "run_id", "rows_read", "rows_written", "rows_skipped", "rows_deleted", "seconds", "error"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return copy_of(built_shop(), tmp_path_factory.mktemp("commands") / "shop")


@pytest.fixture
def where(shop: DbtProject, redis_url: str, namespace: str) -> tuple[str, ...]:
    """The options that every command takes, after its own."""
    return ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)


@pytest.fixture(scope="module")
def online(shop: DbtProject, redis_url: str) -> tuple[str, ...]:
    """The same, where all is materialized."""
    where = ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", "test.commands")
    assert run("materialize", *where).code == 0
    return where


# The public surface.


def test_the_names_that_users_import_are_these() -> None:
    assert sorted(materializer.__all__) == materializer.__all__
    assert {
        "DefinitionError", "Entity", "Feature", "FeatureService", "FeatureStore", "FeatureStoreError", "FeatureView",
        "InputError", "LandingError", "LeaseLostError", "MaterializationError", "NotFoundError", "OnlineResponse", "OnlineStoreError",
        "ProjectError", "Status", "TrainingSet", "ViewResult", "WarehouseError",
    } == set(materializer.__all__)  # fmt: skip
    for name in materializer.__all__:
        assert getattr(materializer, name).__doc__, name
    errors = [
        value for value in vars(materializer).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert all(issubclass(error, materializer.FeatureStoreError) for error in errors)


def test_the_store_has_these_methods() -> None:
    public = {name for name in dir(materializer.FeatureStore) if not name.startswith("_")}
    assert public == {
        "diff", "get_catalog", "get_entity", "get_feature_service", "get_feature_view", "get_freshness", "get_historical_features",
        "get_lineage", "get_neighbours", "get_online_features", "get_online_features_async", "get_statistics",
        "has_project", "landing_clock", "online_store", "lint", "list_entities", "list_feature_services", "list_feature_views", "materialize",
        "materialize_incremental", "namespace", "project", "prune", "push", "repeat_training_set", "save_training_set", "search",
    }  # fmt: skip
    for name in public:
        assert getattr(materializer.FeatureStore, name).__doc__, name


def test_the_commands_are_these() -> None:
    assert set(COMMANDS) == {
        "init", "list", "show", "search", "lineage", "diff", "lint", "stats", "freshness", "materialize", "online", "training",
        "prune", "redis", "doctor", "serve", "skew", "catalog", "mcp", "stream",
    }  # fmt: skip
    assert COMMANDS["materialize"] is cli.command("materialize")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_what_it_does_and_shows_an_example(name: str) -> None:
    ran = run("feature-store", name, "--help")
    assert (ran.code, ran.err) == (0, "")
    example = r"^ {4,}(materialize|feature-store " + name + r")\b.*$"
    assert re.search(example, ran.out, re.MULTILINE), f"the example is not on a line of its own:\n{ran.out}"
    assert all(option.help for option in COMMANDS[name].params if isinstance(option, click.Option))
    assert name in ("init", "serve") or "--project-dir" in ran.out


def test_help_and_version_of_the_programs() -> None:
    ran = run("feature-store", "--help")
    assert ran.code == 0 and all(name in ran.out for name in COMMANDS)
    assert run("feature-store", "-h").out == ran.out
    assert materializer.__version__ in run("feature-store", "--version").out
    assert "materialize --project-dir" in run("materialize", "--help").out
    assert run("feature-store").code == 2


# materialize.


def test_materialize_prints_one_json_object(where: tuple[str, ...]) -> None:
    ran = run("materialize", "--output", "json", *where)
    assert (ran.code, ran.err) == (0, "")
    assert list(ran.json) == ["views"]
    results = {result["view"]: result for result in ran.json["views"]}
    assert list(results) == ONLINE_VIEWS
    for result in results.values():
        assert list(result) == RESULT
        assert result["error"] is None and result["run_id"] and result["seconds"] >= 0
    users = results["user_features"]
    assert [users[name] for name in RESULT[2:6]] == [3, 3, 0, 0]
    assert len({result["run_id"] for result in results.values()}) == 3


def test_materialize_prints_a_table(where: tuple[str, ...]) -> None:
    ran = run("materialize", *where)
    assert (ran.code, ran.err) == (0, "")
    header, *lines = ran.out.splitlines()
    assert header.split()[:6] == ["view", "read", "written", "skipped", "deleted", "seconds"]
    assert [line.split()[:5] for line in lines if line.startswith("user_features")] == [
        ["user_features", "3", "3", "0", "0"]
    ]
    assert [line.split()[0] for line in lines] == ONLINE_VIEWS
    assert "\x1b" not in ran.out + ran.err, "quiet and plain in a pipe"


def test_materialize_takes_views_tags_and_options_in_any_order(where: tuple[str, ...]) -> None:
    def views(*args: str) -> list[str]:
        ran = run("materialize", *args, "--output", "json")
        assert ran.code == 0, ran.err
        return sorted(result["view"] for result in ran.json["views"])

    assert views("user_item", *where) == ["user_item"]
    assert views(*where, "user_item", "user_features") == ["user_features", "user_item"]
    assert views("--select", "tag:people", *where) == ["user_features", "user_item"]
    assert views("--select", "tag:team", *where) == ["item_features", "user_features"]
    assert views("--select", "tag:things", "user_features", *where) == ONLINE_VIEWS
    assert views("user_item", "user_item", "--full", *where) == ["user_item"]
    assert run("feature-store", "materialize", "user_item", *where).code == 0


def test_the_surroundings_name_the_project_and_redis(
    shop: DbtProject, redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    env = {"FEATURE_STORE_REDIS_URL": redis_url}
    assert run("materialize", "user_item", cwd=shop.folder, env=env).code == 0
    assert client.hget("shop.dev:user_item:1:b", "affinity") == b"8"
    elsewhere = env | {"DBT_PROJECT_DIR": str(shop.folder)}
    assert run("materialize", "user_features", cwd=tmp_path, env=elsewhere).code == 0
    ran = run("feature-store", "online", "user_features:age", "-e", "user_id=1", cwd=tmp_path, env=elsewhere)
    assert "31" in ran.out
    client.delete(*client.scan_iter(match="shop.dev:*"))


def test_views_that_fail_do_not_keep_others_from_landing(
    redis_url: str, namespace: str, client: redis.Redis, tmp_path: Path
) -> None:
    shop = copy_of(built_shop(), tmp_path / "shop")
    change_warehouse(shop, "alter table user_features rename column user_id to uid")
    ran = run_process("materialize", "--project-dir", str(shop.folder), "--redis-url", redis_url,
                      "--namespace", namespace, "--output", "json")  # fmt: skip
    assert ran.code == 1
    results = {result["view"]: result for result in ran.json["views"]}
    assert [list(result) for result in results.values()] == [RESULT] * 3
    assert "has no column 'user_id'" in results["user_features"]["error"]
    assert results["user_features"]["rows_written"] == 0 and results["user_item"]["rows_written"] == 2
    assert ran.err == f"Error: user_features: {results['user_features']['error']}\n"
    assert not client.exists(f"{namespace}:user_features:1") and client.exists(f"{namespace}:user_item:1:b")


# What exists.


def test_list_prints_tables_and_json(where: tuple[str, ...]) -> None:
    ran = run("feature-store", "list", *where)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[0] for line in ran.out.splitlines()] == [
        "view", "item_features", "offline_only", "user_features", "user_item",
    ]  # fmt: skip
    assert "30 days" in ran.out and "Who a user is." in ran.out
    views = {view["name"]: view for view in run("feature-store", "list", "--output", "json", *where).json}
    assert views["item_features"]["ttl_seconds"] == 30 * 86400
    assert views["user_features"]["entities"] == [{"name": "user_id", "type": "int64", "description": "The user."}]
    assert views["offline_only"]["online"] is False
    features = run("feature-store", "list", "features", "--output", "json", *where).json
    assert {"feature": "user_features:age", "type": "int64", "description": "In years."} in features
    assert "item_features:price" in run("feature-store", "list", "features", *where).out
    (item, user) = sorted(
        run("feature-store", "list", "entities", "--output", "json", *where).json, key=lambda entity: entity["entity"]
    )
    assert (user["entity"], user["type"]) == ("user_id", "int64") and "user_item" in item["views"]
    (service,) = run("feature-store", "list", "services", "--output", "json", *where).json
    assert service["features"] == ["user_features:city", "item_features:price"]
    assert "recommendation" in run("feature-store", "list", "services", *where).out


def test_list_takes_tags(where: tuple[str, ...]) -> None:
    views = run("feature-store", "list", "--tag", "people", "--output", "json", *where).json
    assert [view["name"] for view in views] == ["user_features", "user_item"]
    views = run("feature-store", "list", "--tag", "people", "--tag", "things", "--output", "json", *where).json
    assert [view["name"] for view in views] == ["user_item"]


def test_list_takes_a_tags_value_an_owner_and_an_entity(where: tuple[str, ...]) -> None:
    def listed(*args: str) -> list[str]:
        return [view["reference"] for view in run("feature-store", "list", *args, "--output", "json", *where).json]

    assert listed("--tag", "team=growth") == ["user_features"] and listed("--tag", "team=other") == []
    assert listed("--owner", "growth") == ["user_features"]
    assert listed("--entity", "item_id") == [view for view in listed() if "item" in view]
    services = run("feature-store", "list", "services", "--entity", "item_id", "--output", "json", *where).json
    assert [service["name"] for service in services] == ["recommendation"]
    assert run("feature-store", "list", "services", "--owner", "nobody", "--output", "json", *where).json == []


def test_list_needs_no_project_where_redis_has_the_registry(online: tuple[str, ...], tmp_path: Path) -> None:
    where = online[2:]
    views = run("feature-store", "list", "--output", "json", *where, cwd=tmp_path).json
    assert [view["name"] for view in views] == ONLINE_VIEWS
    assert "int64" in run("feature-store", "show", "user_features", *where, cwd=tmp_path).out
    assert "31" in run("feature-store", "online", "user_features:age", "-e", "user_id=1", *where, cwd=tmp_path).out


def test_show_prints_a_view_and_a_service(where: tuple[str, ...]) -> None:
    out = run("feature-store", "show", "item_features", *where).out
    for text in ("item_features", "ttl:", "30 days", "team=stock", "join key", "decimal128(10, 2)", "in_stock"):
        assert text in out
    view = run("feature-store", "show", "user_features", "--output", "json", *where).json
    assert (view["owner"], view["tags"]) == ("growth", {"people": "", "team": "growth"})
    out = run("feature-store", "show", "recommendation", *where).out
    assert "What the recommender reads." in out and "  user_features:city" in out
    service = run("feature-store", "show", "recommendation", "--output", "json", *where).json
    assert service["owner"] == "ML"


def test_show_tells_where_a_view_stands_in_the_project(where: tuple[str, ...]) -> None:
    view = run("feature-store", "show", "user_features", "--output", "json", *where).json
    assert view["file"] == "models/user_features.sql" and "recommendation" in view["used_by"]
    assert "used by:           " in run("feature-store", "show", "user_features", *where).out


def test_show_prints_a_feature_and_an_entity(where: tuple[str, ...]) -> None:
    feature = run("feature-store", "show", "user_features:city", "--output", "json", *where).json
    assert (feature["type"], feature["entities"], feature["services"]) == ("string", ["user_id"], ["recommendation"])
    entity = run("feature-store", "show", "user_id", "--output", "json", *where).json
    assert entity["type"] == "int64" and {"user_features", "user_item"} <= set(entity["views"])
    assert "views:" in run("feature-store", "show", "user_id", *where).out
    refused = run("feature-store", "show", "user_features:ctiy", *where)
    assert refused.code == 1 and "has no feature 'ctiy'; it has: " in refused.err
    refused = run("feature-store", "show", "nothing", *where)
    assert refused.code == 1 and "no feature view 'nothing'" in refused.err and "no service" in refused.err


# Values.


def test_online_prints_a_row_an_entity(online: tuple[str, ...]) -> None:
    asked = ("user_features", "-e", "user_id=1", "-e", "user_id=99")
    ran = run("feature-store", "online", *asked, *online)
    assert (ran.code, ran.err) == (0, "")
    lines = [re.split(r"  +", line) for line in ran.out.splitlines()]
    assert lines[0][:3] == ["user_id", "age", "city"] and len(lines) == 3
    assert lines[1][:3] == ["1", "31", "Bergen"]
    assert lines[2][:3] == ["99", "(not found)", "(not found)"]
    answer = run("feature-store", "online", *asked, "--output", "json", *online).json
    assert answer["age"] == [31, None] and answer["age__status"] == ["PRESENT", "NOT_FOUND"]
    assert answer["age__event_timestamp"] == ["2024-05-01T12:30:00.250000+00:00", None]


def test_online_takes_references_views_services_and_composite_keys(online: tuple[str, ...]) -> None:
    entity = ("-e", "user_id=1,item_id=a:1")
    answer = run("feature-store", "online", "recommendation", "user_item", *entity, "--output", "json", *online).json
    assert (answer["city"], answer["price"], answer["affinity"]) == (["Bergen"], ["9.90"], [7])
    for comma in ("user_id=1,item_id=a,1", '{"user_id": 1, "item_id": "a,1"}'):
        ran = run("feature-store", "online", "user_item", "-e", comma, "--output", "json", *online)
        assert (ran.json["user_id"][0], ran.json["item_id"]) in (("1", ["a,1"]), (1, ["a,1"]))
    ran = run("feature-store", "online", "user_features:age", "item_features:age", *entity, "--full-feature-names",
              "--output", "json", *online)  # fmt: skip
    assert (ran.json["user_features__age"], ran.json["item_features__age"]) == ([31], [3])


def test_training_prints_rows_and_writes_files(where: tuple[str, ...], tmp_path: Path) -> None:
    spine = tmp_path / "labels.csv"
    spine.write_text(
        "user_id,event_timestamp,label\n1,2024-02-01 00:00:00,x\n1,2024-06-01 00:00:00,y\n7,2024-06-01 00:00:00,z\n"
    )
    asked = ("--spine", str(spine), "-f", "user_features:age", "-f", "user_features:city")
    ran = run("feature-store", "training", *asked, *where)
    assert (ran.code, ran.err) == (0, "")
    header, first, *_ = (re.split(r"  +", line) for line in ran.out.splitlines())
    assert header == ["user_id", "event_timestamp", "label", "age", "city"] and first[3:] == ["30", "Oslo"]
    rows = run("feature-store", "training", *asked, "--output", "json", *where).json
    assert [row["age"] for row in rows] == [30, 31, None] and rows[2]["label"] == "z"
    assert len(run("feature-store", "training", *asked, "--rows", "1", "--output", "json", *where).json) == 1

    out = tmp_path / "training.parquet"
    ran = run("feature-store", "training", *asked, "--out", str(out), *where)
    assert ran.out == f"3 rows and 5 columns written to {out}\n"
    assert pq.read_table(out)["age"].to_pylist() == [30, 31, None]
    out = out.with_suffix(".csv")
    ran = run("feature-store", "training", *asked, "--out", str(out), "--output", "json", *where)
    assert ran.json == {"rows": 3, "columns": header, "out": str(out)}
    assert [row["age"] for row in csv.DictReader(io.StringIO(out.read_text()))] == ["30", "31", ""]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_training_takes_labels_in_files_and_in_sql(where: tuple[str, ...], tmp_path: Path, suffix: str) -> None:
    table = pa.table({"user_id": [1], "moment": [datetime(2024, 6, 1)]})
    spine = tmp_path / f"labels.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, spine)
    elif suffix == "csv":
        pyarrow.csv.write_csv(table, spine)
    else:
        spine.write_text('{"user_id": 1, "moment": "2024-06-01 00:00:00"}\n')
    for text in (str(spine), "select 1 as user_id, timestamp '2024-06-01' as moment -- the labels"):
        ran = run("feature-store", "training", "--spine", text, "-f", "user_features", "--timestamp", "moment",
                  "--full-feature-names", "--output", "json", *where)  # fmt: skip
        assert ran.code == 0, ran.err
        assert ran.json[0]["user_features__city"] == "Bergen"


# doctor.


def test_doctor_says_that_all_is_well(online: tuple[str, ...]) -> None:
    ran = run("feature-store", "doctor", *online)
    assert (ran.code, ran.err) == (0, "")
    assert all(line.startswith("ok    ") for line in ran.out.splitlines())
    assert "feature views published in namespace" in ran.out
    checks: list[dict[str, Any]] = run("feature-store", "doctor", "--output", "json", *online).json["checks"]
    assert {check["check"] for check in checks} >= {
        "project",
        "manifest",
        "warehouse",
        "redis",
        "online",
        "view user_item",
    }
    assert all(check["ok"] and set(check) >= {"check", "ok", "message"} for check in checks)


def test_doctor_goes_on_after_what_is_wrong(tmp_path: Path, redis_url: str) -> None:
    shop = copy_of(built_shop(), tmp_path / "shop")
    change_warehouse(shop, "drop table user_item")
    ran = run("feature-store", "doctor", "--project-dir", str(shop.folder), "--redis-url", redis_url)
    assert ran.code == 1
    assert "FAIL  view user_item: Feature view 'user_item' is not in the warehouse" in ran.out
    assert "ok    view user_features" in ran.out and "ok    redis" in ran.out
    ran = run("feature-store", "doctor", "--redis-url", "redis://127.0.0.1:1/0", "--output", "json", cwd=tmp_path)
    assert ran.code == 1
    assert {check["check"]: check["ok"] for check in ran.json["checks"]} == {"project": False, "redis": False}


# init.


def test_the_way_from_init_to_online_features(
    tmp_path: Path, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"FEATURE_STORE_REDIS_URL": redis_url}
    ran = run("feature-store", "init", "my-features", cwd=tmp_path, env=env)
    assert (ran.code, ran.err) == (0, "")
    said = [line.strip() for line in ran.out.splitlines()[1:]]
    assert said == [
        "cd my-features",
        "dbt deps && dbt build",
        "materialize",
        "feature-store online user_purchases -e user_id=1",
        "feature-store training -f user_purchases --spine \"select 1 as user_id, timestamptz '2026-03-01 00:00:00+00' as "
        'event_timestamp"',
        "Then put your own rows in place of seeds/purchases.csv, and a model in place of models/user_purchases.sql.",
    ]
    seeds = yaml.safe_load((tmp_path / "my-features" / "dbt_project.yml").read_text())["seeds"]
    assert [list(of_project) for of_project in seeds.values()] == [["purchases"]]  # other seeds get none of its types
    training = shlex.split(said[4])

    project = DbtProject(tmp_path / "my-features")
    monkeypatch.chdir(project.folder)
    install(project)
    project.dbt("build")
    assert (project.folder / "my_features.duckdb").is_file()
    declared = {name: column["data_type"] for name, column in _columns(project, "user_purchases").items()}
    with duckdb.connect(str(project.folder / "my_features.duckdb"), read_only=True) as warehouse:
        built = warehouse.sql("select column_name, column_type from (describe user_purchases)").fetchall()
        assert {name: warehouse.sql(f"select null::{declared[name]}").types[0] for name, _ in built} == dict(built)
    ran = run("materialize", cwd=project.folder, env=env)
    assert (ran.code, ran.err) == (0, ""), ran
    ran = run_process("feature-store", "online", "user_purchases", "-e", "user_id=1", cwd=project.folder, env=env)
    assert ran.code == 0 and re.search(r"^user_id +purchase_count.*\n1 +2 ", ran.out), ran
    assert client.hget("my_features.dev:user_purchases:1", "avg_order_value") == b"32.75"
    ran = run("feature-store", "online", "example_service", "-e", "user_id=2", "--output", "json", cwd=project.folder,
              env=env)  # fmt: skip
    assert ran.json["purchase_count"] == [3]
    assert run("feature-store", "doctor", cwd=project.folder, env=env).code == 0
    ran = run(*training, "--output", "json", cwd=project.folder, env=env)
    assert ran.json[0]["purchase_count"] == 2
    # From another folder the relative path of the warehouse is still the project's.
    ran = run("materialize", "--project-dir", str(project.folder), cwd=tmp_path, env=env)
    assert ran.code == 0, ran.err
    client.delete(*client.scan_iter(match="my_features.dev:*"))


def _columns(project: DbtProject, model: str) -> dict[str, dict[str, Any]]:
    (node,) = (node for node in project.manifest()["nodes"].values() if node["name"] == model)
    return node["columns"]


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "profiles.yml").write_text("mine")
    ran = run("feature-store", "init", str(tmp_path / "mine"))
    assert (ran.code, ran.out) == (1, "")
    assert "profiles.yml exists already: choose another folder; nothing was written." in ran.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["profiles.yml"]


def test_init_wants_a_name_that_dbt_takes(tmp_path: Path) -> None:
    ran = run("feature-store", "init", str(tmp_path / "1st"))
    assert ran.code == 1 and "cannot be a dbt project's name: give one with --name" in ran.err
    assert not (tmp_path / "1st").exists()
    assert run("feature-store", "init", str(tmp_path / "1st"), "--name", "first").code == 0
    assert "name: first" in (tmp_path / "1st" / "dbt_project.yml").read_text()
    (tmp_path / "file").write_text("")
    assert run("feature-store", "init", str(tmp_path / "file")).code == 2


def test_json_output_is_json_alone(online: tuple[str, ...]) -> None:
    for args in (("list",), ("list", "features"), ("show", "user_features"), ("doctor",), ("materialize", "user_item")):
        ran = run("feature-store", *args, "--output", "json", *online)
        assert json.loads(ran.out) is not None and ran.err == ""
