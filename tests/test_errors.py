"""Bad input gets one clear sentence that says what exists or what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
import redis
import yaml

from materializer import (
    DefinitionError,
    FeatureStore,
    FeatureStoreError,
    InputError,
    MaterializationError,
    NotFoundError,
    OnlineStoreError,
    ProjectError,
    WarehouseError,
)
from materializer.online import local as local_redis
from materializer.project.settings import load_project
from materializer.warehouse import duckdb as duckdb_warehouse
from tests.support.command import Ran, assert_one_sentence, contents, run, run_process
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import MODELS, built_shop, change_properties, profile_of

SECRET = "s3cr3t-pa55"
USERS = pa.table({"user_id": [1, 2], "event_timestamp": pa.array([0, 0], pa.timestamp("us", "UTC"))})


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this file's own: all of it is compared before and after."""
    folder = tmp_path_factory.mktemp("redis")
    yield local_redis.start(folder)
    local_redis.stop(folder)


@pytest.fixture(autouse=True)
def empty_redis(client: redis.Redis) -> Iterator[None]:
    yield
    client.flushall()


@pytest.fixture
def shop(tmp_path: Path) -> DbtProject:
    """A shop of the test's own, built and fresh."""
    return copy_of(built_shop(), tmp_path / "shop")


@pytest.fixture
def store(shop: DbtProject, redis_url: str, namespace: str) -> FeatureStore:
    return FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)


@pytest.fixture
def namespace() -> str:
    return "test.errors"  # every test finds Redis empty


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> dict[bytes, bytes]:
    """What a first materialization leaves in Redis."""
    folder = copy_of(built_shop(), tmp_path_factory.mktemp("published") / "shop").folder
    FeatureStore(folder, redis_url=redis_url, namespace="test.errors").materialize()
    with redis.Redis.from_url(redis_url) as client:
        left = {key: client.dump(key) for key in client.scan_iter()}
        client.flushall()
    return left


@pytest.fixture
def online(published: dict[bytes, bytes], store: FeatureStore, client: redis.Redis) -> FeatureStore:
    """The store after a first materialization."""
    for key, value in published.items():
        client.restore(key, 0, value)
    return store


@pytest.fixture
def refused(shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis) -> Callable[..., str]:
    """Runs a command that must fail with one sentence and leave Redis and the project as they were."""

    def call(program: str, *args: str, code: int = 1, runner: Callable[..., Ran] = run, **where: Any) -> str:
        options = {"--project-dir": str(shop.folder), "--redis-url": redis_url, "--namespace": namespace, **where}
        named = [text for name, value in options.items() if value is not None for text in (name, value)]
        before = contents(client), _files(shop.folder)
        ran = runner(program, *args, *named)
        assert (ran.code, ran.out) == (code, ""), ran
        assert_one_sentence(ran.err)
        assert (contents(client), _files(shop.folder)) == before
        return ran.err

    return call


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not {"logs", "warehouse.duckdb.feature_store"} & set(path.parts)
    }


# Names that do not exist.


def test_an_unknown_view_is_answered_with_those_there_are(refused: Callable[..., str], online: FeatureStore) -> None:
    for program, *args in (
        ("materialize", "user_feature"),
        ("feature-store", "show", "user_feature"),
        ("feature-store", "online", "user_feature:age", "-e", "user_id=1"),
        ("feature-store", "online", "user_feature", "-e", "user_id=1"),
        ("feature-store", "training", "--spine", "select 1 as user_id, now() as t", "-f", "user_feature:age"),
    ):
        sentence = refused(program, *args)
        assert "no feature view 'user_feature'; there are: " in sentence
        assert "item_features" in sentence and "user_features" in sentence
    with pytest.raises(NotFoundError, match="no feature view 'nope'; there are: item_features"):
        online.get_feature_view("nope")


def test_an_unknown_view_stops_a_run_before_the_known_ones_are_written(refused: Callable[..., str]) -> None:
    assert "no feature view 'nope'" in refused("materialize", "user_features", "nope", runner=run_process)


def test_an_unknown_feature_is_answered_with_those_of_the_view(
    refused: Callable[..., str], online: FeatureStore
) -> None:
    expected = "Feature view 'user_features' has no feature 'ages'; it has: age, city, score."
    assert expected in refused("feature-store", "online", "user_features:ages", "-e", "user_id=1")
    assert expected in refused("feature-store", "training", "--spine", "select 1 as user_id, now() as t",
                               "-f", "user_features:ages")  # fmt: skip
    with pytest.raises(NotFoundError, match="has no feature 'user_id'"):
        online.get_online_features(["user_features:user_id"], [{"user_id": 1}])


def test_an_unknown_service_is_answered_with_those_there_are(refused: Callable[..., str], online: FeatureStore) -> None:
    sentence = refused("feature-store", "training", "--spine", "select 1 as user_id, now() as t", "--service", "recom")
    assert "'recom'" in sentence and "recommendation" in sentence
    for call in (
        lambda: online.get_online_features("recom", [{"user_id": 1}]),
        lambda: online.get_historical_features(USERS, "recom"),
        lambda: online.get_feature_service("recom"),
    ):
        with pytest.raises(NotFoundError, match="no feature service 'recom'; there are: recommendation"):
            call()


def test_an_unknown_entity_and_an_unknown_tag_are_answered_with_those_there_are(
    refused: Callable[..., str], store: FeatureStore
) -> None:
    with pytest.raises(NotFoundError, match="no entity 'user'; there are: item_id, user_id"):
        store.get_entity("user")
    assert "tag 'peeple'; there are: people, team, things" in refused("materialize", "--select", "tag:peeple")


@pytest.mark.parametrize(
    "reference", ["age", "user_features.age", "user_features:age:1", "user_features:", ":age", "", "user_features: age"]
)
def test_a_malformed_reference_is_refused(online: FeatureStore, reference: str) -> None:
    for call in (
        lambda: online.get_online_features([reference], [{"user_id": 1}]),
        lambda: online.get_historical_features(USERS, [reference]),
    ):
        with pytest.raises((InputError, NotFoundError)) as refusal:
            call()
        assert f"'{reference}'" in str(refusal.value) or "has no feature" in str(refusal.value)


@pytest.mark.parametrize("features", [[], None, 5, [5], [None], {"user_features": "age"}])
def test_features_of_a_wrong_shape_are_refused(online: FeatureStore, features: Any) -> None:
    for call in (
        lambda: online.get_online_features(features, [{"user_id": 1}]),
        lambda: online.get_historical_features(USERS, features),
    ):
        with pytest.raises((InputError, NotFoundError)):
            call()


def test_wrong_options_are_wrong_usage(refused: Callable[..., str]) -> None:
    assert "No such option" in refused("materialize", "--fulll", code=2)
    assert "No such command" in refused("feature-store", "matirialize", code=2)
    assert "--entity" in refused("feature-store", "online", "user_features", code=2)
    assert "--service or --feature" in refused("feature-store", "training", "--spine", "x.csv", code=2)


# Join keys.


def test_a_missing_join_key_is_named(refused: Callable[..., str], online: FeatureStore, tmp_path: Path) -> None:
    sentence = refused("feature-store", "online", "user_item", "-e", "user_id=1")
    assert "Entity row 0 has no 'item_id', a join key of feature view 'user_item' (it has: user_id)" in sentence
    with pytest.raises(InputError, match="Entity row 1 has no 'user_id'"):
        online.get_online_features(["user_features:age"], [{"user_id": 1}, {"user": 1}])

    spine = tmp_path / "labels.csv"
    spine.write_text("user_id,event_timestamp\n1,2024-06-01 00:00:00\n")
    expected = "has no column 'item_id', a join key of feature view 'user_item'; it has: user_id, event_timestamp"
    ran = refused("feature-store", "training", "--spine", str(spine), "-f", "user_item:affinity")
    assert f"The spine {expected}" in ran
    for labels in (USERS, USERS.to_pandas(), "select 1 as user_id, now() as event_timestamp"):
        with pytest.raises(InputError, match=f"^entity_df {expected}"):
            online.get_historical_features(labels, ["user_item:affinity"])


def test_text_in_an_integer_key_is_refused(refused: Callable[..., str], online: FeatureStore, tmp_path: Path) -> None:
    sentence = refused("feature-store", "online", "user_features", "-e", "user_id=abc")
    assert "Join key 'user_id' is of type int64, but 'abc' was given for it." in sentence
    for value in ("abc", "", "1.5", 1.5, True, b"x", [1], {"a": 1}, (1, 2), object()):
        with pytest.raises(InputError, match="Join key 'user_id' is of type int64"):
            online.get_online_features(["user_features:age"], [{"user_id": value}])

    moments = [pd.Timestamp("2024-06-01", tz="UTC")] * 2
    frame = pd.DataFrame({"user_id": ["1", "abc"], "event_timestamp": moments})
    with pytest.raises(InputError, match="Join key 'user_id' is of type int64, but 'abc' was given"):
        online.get_historical_features(frame, ["user_features:age"])
    spine = tmp_path / "labels.csv"
    spine.write_text("user_id,event_timestamp\nabc,2024-06-01 00:00:00\n")
    assert "'abc'" in refused("feature-store", "training", "--spine", str(spine), "-f", "user_features:age")
    assert "'abc'" in refused("feature-store", "training", "-f", "user_features:age",
                              "--spine", "select 'abc' as user_id, now() as event_timestamp")  # fmt: skip


def test_entity_rows_of_a_wrong_shape_are_refused(online: FeatureStore) -> None:
    for rows in (5, None, "user_id=1", [1], {"user_id": 1}, {"user_id": "12"}, {"user_id": [1], "item_id": []}):
        with pytest.raises(InputError, match="entity_rows"):
            online.get_online_features(["user_features:age"], rows)


def test_a_key_that_is_not_text_in_any_encoding_is_refused(online: FeatureStore) -> None:
    with pytest.raises(InputError, match="Join key 'item_id'"):
        online.get_online_features(["item_features:price"], [{"item_id": "\ud800"}])


def test_an_entity_of_the_command_line_without_a_value_is_refused(refused: Callable[..., str]) -> None:
    assert "write for example user_id=1" in refused("feature-store", "online", "user_features:age", "-e", "1")


@pytest.mark.parametrize(
    "entity, expected",
    [
        ("user_id=1,user_id=2", "'user_id=1,user_id=2' has 'user_id' twice: give each entity an --entity of its own."),
        ('{"user_id": 1, "user_id": 2}', "has 'user_id' twice"),
        ("user_id=1,foo=2", "'foo' is no join key of user_features; the join keys are: user_id."),
        ('{"user_id": 1, "foo": 2}', "'foo' is no join key of user_features"),
        ("user_id=1,2", "Join key 'user_id' is of type int64, but '1,2' was given for it."),
        ("{user_id: 1}", "is no JSON object such as"),
    ],
)
def test_an_entity_of_the_command_line_that_is_not_meant_is_refused(
    refused: Callable[..., str], online: FeatureStore, entity: str, expected: str
) -> None:
    assert expected in refused("feature-store", "online", "user_features:age", "-e", entity)


def test_messages_speak_the_words_of_the_place_they_appear_in(
    refused: Callable[..., str], online: FeatureStore, tmp_path: Path
) -> None:
    spine = tmp_path / "labels.csv"
    spine.write_text("user_id,at,then,age\n1,2024-06-01 00:00:00,2024-06-01 00:00:00,3\n")
    asked = ("training", "--spine", str(spine), "-f", "user_features:age")
    said = refused("feature-store", *asked)
    assert "The spine has no column 'event_timestamp' to join on: name its moments with --timestamp (" in said
    assert "pass --full-feature-names." in refused("feature-store", *asked, "--timestamp", "at")
    said = refused("feature-store", "online", "user_features:age", "item_features:age", "-e", "user_id=1,item_id=b")
    assert "with --full-feature-names where" in said
    with pytest.raises(InputError, match=r"^entity_df has no column .* name its moments with timestamp=\.\.\. "):
        online.get_historical_features({"user_id": [1]}, ["user_features:age"])
    with pytest.raises(InputError, match="with full_feature_names=True where"):
        online.get_online_features(["user_features:age", "item_features:age"], [{"user_id": 1, "item_id": "b"}])


# Spines.


def test_a_feature_name_of_two_views_needs_full_names(refused: Callable[..., str], online: FeatureStore) -> None:
    asked = ["user_features:age", "item_features:age"]
    expected = "Both 'user_features:age' and 'item_features:age' would be called 'age'"
    assert expected in refused("feature-store", "online", *asked, "-e", "user_id=1,item_id=b")
    spine = "select 1 as user_id, 'b' as item_id, now() as event_timestamp"
    assert expected in refused("feature-store", "training", "--spine", spine, "-f", asked[0], "-f", asked[1])
    named = online.get_online_features(asked, [{"user_id": 1, "item_id": "b"}], full_feature_names=True).to_dict()
    assert named["user_features__age"] == [31]
    with pytest.raises(InputError, match="ask for each once"):
        online.get_online_features(["user_features:age"] * 2, [{"user_id": 1}], full_feature_names=True)


def test_a_spine_that_has_the_features_name_already_is_refused(store: FeatureStore) -> None:
    with pytest.raises(
        InputError, match=r"already has a column 'age'.*rename it there or pass full_feature_names=True"
    ):
        store.get_historical_features(USERS.append_column("age", pa.array([1, 2])), ["user_features:age"])


def test_a_spine_without_one_time_column_is_refused(store: FeatureStore) -> None:
    for labels, expected in (
        ({"user_id": [1]}, "no column 'event_timestamp' to join on.*timestamp columns: none; all columns: user_id"),
        ({"user_id": [1], "event_timestamp": ["2024-01-01"]}, "'event_timestamp' of entity_df is string, not a timest"),
        ({"user_id": [1], "a": USERS["event_timestamp"][:1], "b": USERS["event_timestamp"][:1]}, "columns: a, b"),
    ):
        with pytest.raises(InputError, match=expected):
            store.get_historical_features(pa.table(labels), ["user_features:age"])
    with pytest.raises(InputError, match="no column 'moment'"):
        store.get_historical_features(USERS, ["user_features:age"], timestamp="moment")


def test_a_spine_that_is_no_table_is_refused(store: FeatureStore) -> None:
    for labels in (5, None, {"user_id": [1], "t": []}, {"user_id": 5}, [1, 2], object()):
        with pytest.raises(InputError, match="entity_df"):
            store.get_historical_features(labels, ["user_features:age"])


def test_a_spine_file_that_cannot_be_read_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    garbage = {
        "missing.parquet": None,
        "labels.xlsx": b"x",
        "broken.parquet": b"PAR1 this is none \x00\x00\x00\x09PAR1",
        "short.parquet": b"PAR1",
        "empty.csv": b"",
        "ragged.csv": b"a,b\n1,2,3\n",
        "latin.csv": b"user_id,event_timestamp\n\xff\xfe,x\n",
        "broken.jsonl": b"{",
    }
    for name, content in garbage.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        sentence = refused("feature-store", "training", "--spine", str(path), "-f", "user_features:age")
        assert name in sentence or "The spine" in sentence, sentence
    (tmp_path / "folder.parquet").mkdir()
    assert "There is no file" in refused("feature-store", "training", "-f", "user_features:age",
                                         "--spine", str(tmp_path / "folder.parquet"))  # fmt: skip


def test_a_spine_that_the_warehouse_refuses_is_a_sentence(refused: Callable[..., str], store: FeatureStore) -> None:
    sentence = refused("feature-store", "training", "--spine", "select * from nowhere", "-f", "user_features:age")
    assert "nowhere" in sentence
    for sql in ("selec 1", "select 1 as user_id; drop table user_features", "drop table user_features", ""):
        with pytest.raises(FeatureStoreError):
            store.get_historical_features(sql, ["user_features:age"])
    assert store.get_historical_features(USERS, ["user_features:age"]).to_arrow().num_rows == 2


def test_a_training_set_that_cannot_be_written_says_so(
    refused: Callable[..., str], shop: DbtProject, tmp_path: Path
) -> None:
    spine = ("--spine", "select 1::bigint as user_id, now() as event_timestamp", "-f", "user_features:age")
    for name in ("nowhere/out.csv", "nowhere/out.parquet"):
        assert "cannot be written" in refused("feature-store", "training", *spine, "--out", str(tmp_path / name))
    sentence = refused("feature-store", "training", *spine, "--out", str(tmp_path / "out.xlsx"), code=2)
    assert "--out writes .parquet or .csv, not 'out.xlsx'." in sentence
    listed = ("--spine", "select 1::bigint as user_id, now() as event_timestamp, [1, 2] as list")
    sentence = refused(
        "feature-store", "training", *listed, "-f", "user_features:age", "--out", str(tmp_path / "l.csv")
    )
    assert ".parquet" in sentence
    assert not (tmp_path / "l.csv").exists()


# The manifest.


def test_without_a_manifest_the_next_step_is_dbt_build(
    refused: Callable[..., str], shop: DbtProject, store: FeatureStore
) -> None:
    shutil.rmtree(shop.folder / "target")
    for args in (("materialize",), ("feature-store", "list")):
        assert f"run `dbt build` in {shop.folder} first" in refused(*args)
    with pytest.raises(ProjectError, match=r"There is no manifest at .*manifest.json: run `dbt build`"):
        store.list_feature_views()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"metadata": {}}', "\udcff"])
def test_a_broken_manifest_is_a_sentence(refused: Callable[..., str], shop: DbtProject, content: str) -> None:
    (shop.folder / "target" / "manifest.json").write_text(content, errors="surrogateescape")
    assert "manifest.json is not a manifest of dbt's: run `dbt build`" in refused("materialize")


def test_a_manifest_of_another_schema_version_names_those_that_are_read(
    refused: Callable[..., str], shop: DbtProject
) -> None:
    manifest = shop.manifest()
    manifest["metadata"]["dbt_schema_version"] = "https://schemas.getdbt.com/dbt/manifest/v13.json"
    (shop.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    assert "is of schema version v13; this release reads v12" in refused("materialize")


def _edited_sql(shop: DbtProject) -> None:
    path = shop.folder / "models" / "user_features.sql"
    path.write_text(path.read_text().replace("Oslo", "Moss"))


def _new_sql(shop: DbtProject) -> None:
    (shop.folder / "models" / "newer.sql").write_text("select 1 as x")


def _deleted_sql(shop: DbtProject) -> None:
    (shop.folder / "models" / "user_item.sql").unlink()


def _changed_ttl(shop: DbtProject) -> None:
    change_properties(shop, "item_features", {"entities": ["item_id"], "ttl": "31 days"})


def _no_view_any_more(shop: DbtProject) -> None:
    change_properties(shop, "item_features", None)


def _changed_service(shop: DbtProject) -> None:
    path = shop.folder / "models" / "shop.yml"
    path.write_text(path.read_text().replace("- user_features:city", "- user_features:age"))


@pytest.mark.parametrize(
    "change", [_edited_sql, _new_sql, _deleted_sql, _changed_ttl, _no_view_any_more, _changed_service]
)
def test_a_manifest_older_than_the_models_is_refused(
    refused: Callable[..., str], shop: DbtProject, change: Callable[[DbtProject], None]
) -> None:
    change(shop)
    sentence = refused("materialize")
    assert "The manifest is older than the models (models/" in sentence and "run `dbt build` in " in sentence


def test_files_that_were_only_touched_or_copied_are_fresh(store: FeatureStore, shop: DbtProject) -> None:
    for path in shop.folder.joinpath("models").iterdir():
        os.utime(path, (time.time() + 5, time.time() + 5))
    assert len(store.materialize()) == 3

    shutil.copytree(shop.folder, shop.folder.with_name("clone"), symlinks=True, copy_function=shutil.copy)
    for path in shop.folder.with_name("clone").joinpath("models").iterdir():
        path.touch()
    clone = FeatureStore(shop.folder.with_name("clone"), redis_url=store._redis_url, namespace=store.namespace)
    assert len(clone.materialize()) == 3


def test_a_touched_file_with_windows_line_ends_is_fresh(shop: DbtProject, redis_url: str, namespace: str) -> None:
    path = shop.folder / "models" / "user_features.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    shop.dbt("parse")
    path.touch()
    assert FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace).materialize()


def test_another_targets_manifest_is_refused(refused: Callable[..., str], shop: DbtProject) -> None:
    path = shop.folder / "profiles.yml"
    profile = yaml.safe_load(path.read_text())
    dev = profile["shop"]["outputs"]["dev"]
    other_file = shop.folder / "production.duckdb"
    shutil.copy(shop.warehouse, other_file)
    profile["shop"]["outputs"] |= {"other_schema": {**dev, "schema": "prod"}, "prod": {**dev, "path": str(other_file)}}
    path.write_text(yaml.safe_dump(profile))
    expected = " in warehouse.main, but target "
    sentence = refused("materialize", "--target", "other_schema", **{"--namespace": None})
    assert expected + "'other_schema' is warehouse.prod. Run `dbt build --target other_schema` first." in sentence
    assert expected + "'prod' is production.main." in refused("materialize", "-t", "prod", **{"--namespace": None})
    assert "made for another target: it has " in refused("feature-store", "list", "--target", "prod")


# Definitions.


@pytest.mark.parametrize(
    "meta, expected",
    [
        ({"entites": ["user_id"]}, "has no key 'entites' (did you mean 'entities'?); its keys are entities, timestamp"),
        ({"ttl": "1 day"}, "has no `entities`: list the join key columns (it has: ttl)."),
        ({"entities": ["user_id"], "ttl": 30}, "ttl is 30, which is not a duration: write a whole number above zero"),
        ({"entities": ["user_id"], "online": "false"}, "`online` is 'false': it is true or false."),
        ("yes", "is not a mapping: write `feature_view: {entities: [...]}`."),
    ],
)
def test_a_mistyped_definition_is_named(
    refused: Callable[..., str], shop: DbtProject, meta: Any, expected: str
) -> None:
    """dbt itself passes all of these: `meta` is free to it. Every other way to mistype it is in `test_definitions`."""
    manifest = shop.manifest()
    manifest["nodes"]["model.shop.user_features"]["config"]["meta"] = {"feature_view": meta}
    (shop.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    sentence = refused("materialize")
    assert "Model 'user_features': meta.feature_view" in sentence
    assert expected in sentence


def test_a_mistyped_definition_survives_dbt_and_is_named(refused: Callable[..., str], shop: DbtProject) -> None:
    change_properties(shop, "user_features", {"entities": ["user_id"], "time_to_live": "1 day"})
    shop.dbt("parse")
    assert "Model 'user_features': meta.feature_view has no key 'time_to_live'" in refused("materialize", "user_item")


def test_an_ephemeral_view_is_refused(refused: Callable[..., str], shop: DbtProject) -> None:
    text = MODELS["models/user_item.sql"].replace("'table'", "'ephemeral'")
    (shop.folder / "models" / "user_item.sql").write_text(text)
    shop.dbt("parse")
    sentence = refused("materialize", "user_item")
    assert "Feature view 'user_item' is ephemeral" in sentence and "materialize it as a table" in sentence


def test_a_disabled_view_asked_by_name_is_explained(refused: Callable[..., str], store: FeatureStore) -> None:
    expected = "Feature view 'retired' is disabled: remove `enabled: false` from its configuration and run `dbt build`."
    assert expected in refused("materialize", "retired")
    assert expected in refused("feature-store", "show", "retired")
    with pytest.raises(NotFoundError, match="is disabled"):
        store.get_historical_features(USERS, ["retired:x"])


def test_an_offline_view_asked_by_name_is_explained(refused: Callable[..., str], online: FeatureStore) -> None:
    sentence = refused("materialize", "offline_only")
    assert "Feature view 'offline_only' says `online: false`, so it is not materialized." in sentence
    with pytest.raises(FeatureStoreError, match="offline_only"):
        online.get_online_features(["offline_only:secret_score"], [{"user_id": 1}])
    assert online.get_historical_features(USERS, ["offline_only:secret_score"]).to_arrow().num_rows == 2


def test_a_service_that_names_no_view_is_named_and_the_views_land(
    shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    path = shop.folder / "models" / "shop.yml"
    path.write_text(path.read_text().replace("- item_features:price", "- items:price"))
    shop.dbt("parse")
    where = ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)
    ran = run("materialize", *where)
    assert ran.code == 1
    assert "Exposure 'recommendation' names 'items:price', but there is no feature view 'items'; there are: " in ran.err
    assert client.hgetall(f"{namespace}:user_features:1")[b"city"] == b"Bergen"


TROUBLE: dict[str, Any] = {
    "models/trouble/float_key.sql": "select 1.5::double as user_key, now() as event_timestamp, 1 as x",
    "models/trouble/no_timestamp.sql": "select 1 as user_id, now() as moment, 1 as x",
    "models/trouble/text_timestamp.sql": "select 1 as user_id, '2024-01-01' as event_timestamp, 1 as x",
    "models/trouble/no_key.sql": "select 1 as usr, now() as event_timestamp, 1 as x",
    "models/trouble/reserved.sql": "select 1 as user_id, now() as event_timestamp, 1 as _fs_event",
    "models/trouble/not_built.sql": "select 1 as user_id, now() as event_timestamp, 1 as x",
    # Fails only once the rows before it were read and written.
    "models/trouble/half_way.sql": """
        {{ config(materialized='view') }}
        select i as user_id, timestamptz '2024-01-01 00:00:00+00' as event_timestamp,
            case when i = 60000 then error('no such thing as 60000') else 'fine' end as x
        from range(100000) as r(i)
    """,
}
TROUBLED = {
    "float_key": "Join key 'user_key' of feature view 'float_key' is of type double, which cannot be a key online",
    "no_timestamp": 'has no column \'event_timestamp\', its event timestamp; "warehouse"."main"."no_timestamp" has: ',
    "text_timestamp": "Column 'event_timestamp' of feature view 'text_timestamp' is string, not a timestamp.",
    "no_key": 'has no column \'user_id\', its join key; "warehouse"."main"."no_key" has: usr, event_timestamp, x.',
    "reserved": "Feature '_fs_event' of view 'reserved' begins with _fs_",
    "not_built": 'is not in the warehouse as "warehouse"."main"."not_built": run `dbt build`.',
    "half_way": "no such thing as 60000",
}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """The shop with views of which each has something wrong that dbt does not see."""
    project = copy_of(built_shop(), tmp_path_factory.mktemp("troubled") / "shop")
    views = [
        {
            "name": name,
            "config": {
                "materialized": "view" if name == "half_way" else "table",
                "meta": {"feature_view": {"entities": ["user_key" if name == "float_key" else "user_id"]}},
            },
        }
        for name in TROUBLED
    ]
    project.write({**TROUBLE, "models/trouble/trouble.yml": {"models": views}})
    project.dbt("run", "--select", "path:models/trouble", "--exclude", "not_built")
    return project


def test_a_troubled_view_fails_alone_and_the_others_land(
    troubled: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    where = ("--project-dir", str(troubled.folder), "--redis-url", redis_url, "--namespace", namespace)
    ran = run("materialize", *where, "--output", "json")
    assert ran.code == 1 and "Traceback" not in ran.err
    results = {result["view"]: result for result in ran.json["views"]}
    assert {name for name, result in results.items() if result["error"]} == set(TROUBLED)
    for name, expected in TROUBLED.items():
        assert expected in results[name]["error"]
        assert f"Error: {name}: {results[name]['error']}\n" in ran.err
        assert len(results[name]["error"]) < 400
    assert {name.decode() for name in client.hkeys(f"{namespace}:registry")} == set(results) - set(TROUBLED)
    for name in set(TROUBLED) - {"half_way"}:
        assert not list(client.scan_iter(match=f"{namespace}:{name}:*"))
    assert client.hgetall(f"{namespace}:user_features:1")[b"city"] == b"Bergen"

    with pytest.raises(MaterializationError, match=r"1 of 2 feature views failed. half_way: ") as failure:
        store = FeatureStore(troubled.folder, redis_url=redis_url, namespace=namespace)
        store.materialize(feature_views=["user_features", "half_way"])
    assert [result.error is None for result in failure.value.results] == [True, False]


def test_a_troubled_view_is_named_offline_too(troubled: DbtProject, redis_url: str, namespace: str) -> None:
    store = FeatureStore(troubled.folder, redis_url=redis_url, namespace=namespace)
    for name in ("no_timestamp", "no_key", "not_built", "text_timestamp"):
        with pytest.raises((DefinitionError, NotFoundError), match=name):
            store.get_historical_features(USERS, [f"{name}:x"])
    doctor = run("feature-store", "doctor", "--project-dir", str(troubled.folder), "--redis-url", redis_url)
    assert doctor.code == 1
    for name in set(TROUBLED) - {"half_way"}:
        assert f"FAIL  view {name}: " in doctor.out
    assert "ok    view user_features: 3 features by user_id" in doctor.out


# The warehouse.


@pytest.fixture
def locked(shop: DbtProject) -> Iterator[None]:
    """Another process has the warehouse open for writing, as `dbt run` does."""
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table busy as select 1');"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(shop.warehouse)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.communicate("")


def test_a_locked_warehouse_is_waited_for_and_then_named(
    refused: Callable[..., str],
    locked: None,
    store: FeatureStore,
    shop: DbtProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duckdb_warehouse, "LOCK_PATIENCE", 0.3)
    for args in (("materialize",), ("feature-store", "training", "--spine", "select 1", "-f", "user_features:age")):
        sentence = refused(*args)
        assert f"The warehouse {shop.warehouse} is locked by another process" in sentence
        assert "try again when it is done." in sentence
    started = time.monotonic()
    with pytest.raises(WarehouseError, match="is locked by another process"):
        store.get_historical_features(USERS, ["user_features:age"])
    assert 0.3 < time.monotonic() - started < 3


def test_a_lock_that_ends_in_time_is_only_waited_for(store: FeatureStore, shop: DbtProject) -> None:
    script = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(0.7)"
    holder = subprocess.Popen([sys.executable, "-c", script, str(shop.warehouse)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert len(store.materialize()) == 3
    holder.communicate()


def test_online_reads_do_not_need_the_warehouse_or_a_fresh_manifest(
    online: FeatureStore, shop: DbtProject, locked: None, redis_url: str, namespace: str
) -> None:
    """Readers use what is published."""
    assert online.get_online_features("recommendation", [{"user_id": 1, "item_id": "b"}]).to_dict()["city"] == [
        "Bergen"
    ]
    _edited_sql(shop)
    where = ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)
    for asked in ("user_features", "user_features:age"):
        ran = run("feature-store", "online", asked, "-e", "user_id=1", *where)
        assert (ran.code, ran.err) == (0, "")
        assert "age" in ran.out and "31" in ran.out


def test_a_warehouse_open_for_writing_in_this_process_is_named(store: FeatureStore, shop: DbtProject) -> None:
    with duckdb.connect(str(shop.warehouse)), pytest.raises(WarehouseError, match="open for writing in this very proc"):
        store.materialize()
    assert len(store.materialize()) == 3


def test_a_warehouse_that_is_not_there_is_named(refused: Callable[..., str], shop: DbtProject) -> None:
    shop.warehouse.unlink()
    assert f"There is no DuckDB file {shop.warehouse}: run `dbt build` in {shop.folder} first." in refused(
        "materialize"
    )
    shop.warehouse.write_text("this is no database, however long it may be" * 500)
    assert f"DuckDB cannot open {shop.warehouse}" in refused("materialize")


def test_an_in_memory_warehouse_is_explained(refused: Callable[..., str], shop: DbtProject) -> None:
    manifest = json.dumps(shop.manifest()).replace('"database": "warehouse"', '"database": "memory"')
    (shop.folder / "target" / "manifest.json").write_text(manifest)
    profile_of(shop, path=":memory:")
    sentence = refused("materialize")
    assert "Target 'dev' is an in-memory DuckDB, which is gone once dbt ends: give it a `path`." in sentence


def test_a_warehouse_of_another_kind_is_named(refused: Callable[..., str], shop: DbtProject) -> None:
    profile_of(shop, type="postgres", dbname="warehouse", schema="main", password=SECRET)
    sentence = refused("materialize")
    assert f"Target 'dev' is PostgreSQL without host and user: add them in {shop.folder / 'profiles.yml'}." in sentence
    assert SECRET not in sentence
    profile_of(shop, type="oracle", dbname="warehouse", schema="main", password=SECRET)
    sentence = refused("materialize")
    assert "dbt cannot read the project for target 'dev': " in sentence and "oracle" in sentence
    assert SECRET not in sentence


# The project and its profile.


def test_a_folder_that_is_no_project_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    for args in (("materialize",), ("feature-store", "list"), ("feature-store", "show", "x")):
        sentence = refused(*args, **{"--project-dir": str(tmp_path)})
        assert f"There is no dbt_project.yml in {tmp_path}: name the dbt project with --project-dir." in sentence
    with pytest.raises(ProjectError, match=r"There is no dbt_project.yml"):
        FeatureStore(tmp_path / "nowhere")


def test_a_profile_that_is_not_there_is_named_with_those_there_are(
    refused: Callable[..., str], shop: DbtProject, tmp_path: Path
) -> None:
    assert "has no target 'prod'; it has: dev." in refused("materialize", "--target", "prod")
    sentence = refused("materialize", **{"--profiles-dir": str(tmp_path)})
    assert f"There is no profiles.yml in {tmp_path}: name its folder with --profiles-dir." in sentence
    (shop.folder / "profiles.yml").write_text("other: {target: dev, outputs: {dev: {type: duckdb}}}")
    assert "has no profile 'shop'" in refused("materialize")
    assert "it has: other." in refused("materialize")


@pytest.mark.parametrize(
    "text",
    [
        f"shop: {{outputs: {{dev: {{password: {SECRET}",
        f"shop:\n  password: '{SECRET}\n outputs: x",
        f"shop:\n\t{SECRET}: x",
        f"- {SECRET}",
        SECRET,
        "",
        f"shop: {SECRET}",
        f"shop: [{SECRET}]",
        f"shop: {{outputs: {SECRET}}}",
        f"shop: {{target: dev, outputs: {{dev: {SECRET}}}}}",
        f"shop: {{target: dev, outputs: {{dev: {{password: \"{{{{ '{SECRET}' | nope }}}}\"}}}}}}",
        f'shop: {{target: dev, outputs: {{dev: {{password: "{{{{ \'{SECRET} }}}}"}}}}}}',
        f"\x00{SECRET}",
    ],
)
def test_a_broken_profile_is_named_without_what_is_in_it(
    refused: Callable[..., str], shop: DbtProject, text: str
) -> None:
    (shop.folder / "profiles.yml").write_text(text)
    sentence = refused("materialize")
    assert "profiles.yml" in sentence
    assert SECRET not in sentence


@pytest.mark.parametrize("text", ["name: [", "- x", "", "x", "version: 1", "name: {a: b}"])
def test_a_broken_project_file_is_named(refused: Callable[..., str], shop: DbtProject, text: str) -> None:
    (shop.folder / "dbt_project.yml").write_text(text)
    assert "dbt_project.yml" in refused("materialize")


def test_an_environment_variable_that_is_not_set_is_named(refused: Callable[..., str], shop: DbtProject) -> None:
    profile_of(shop, path="{{ env_var('WAREHOUSE_OF_THE_SHOP') }}")
    assert "needs the environment variable WAREHOUSE_OF_THE_SHOP, which is not set." in refused("materialize")


def test_what_dbt_renders_in_a_profile_is_understood(
    shop: DbtProject, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_OF_THE_SHOP", str(shop.warehouse))
    profile_of(
        shop,
        path="{{ env_var('WAREHOUSE_OF_THE_SHOP') }}",
        threads="{{ env_var('NOT_SET', '2') | as_number }}",
        keepalive="{{ env_var('NOT_SET', 'true') | as_bool }}",
        other="{{ env_var('NOT_SET', 'x') | as_text }}{{ env_var('NOT_SET', '1') | as_native }}",
    )
    assert FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace).materialize()


def test_what_only_dbt_can_render_stands_in_nobodys_way(shop: DbtProject) -> None:
    """Hooks and vars call macros; another target's password is in a variable that is set elsewhere."""
    config = shop.folder / "dbt_project.yml"
    text = config.read_text() + '\non-run-start: "{{ create_udfs() }}"\nvars: {stamp: "{{ run_started_at.date() }}"}\n'
    config.write_text(text)
    profiles = shop.folder / "profiles.yml"
    content = yaml.safe_load(profiles.read_text())
    content["shop"]["outputs"]["prod"] = {"type": "postgres", "password": "{{ env_var('PROD_PASSWORD') }}"}
    profiles.write_text(yaml.safe_dump(content))
    assert FeatureStore(shop.folder).list_feature_views()
    with pytest.raises(ProjectError, match="needs the environment variable PROD_PASSWORD"):
        FeatureStore(shop.folder, target="prod")


# Redis.


def test_redis_that_is_down_is_named(refused: Callable[..., str], shop: DbtProject) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:1/0"
    for args in (("materialize",), ("feature-store", "online", "user_features:age", "-e", "user_id=1")):
        sentence = refused(*args, **{"--redis-url": url})
        assert "Redis at 127.0.0.1:1 cannot be reached (Connection refused): start it, or name another" in sentence
        assert SECRET not in sentence
    assert refused(*args, runner=run_process, **{"--redis-url": url}) == sentence
    with pytest.raises(OnlineStoreError, match="cannot be reached"):
        FeatureStore(redis_url=url).get_online_features(["a:b"], [{"a": 1}])
    with pytest.raises(OnlineStoreError, match="cannot be reached"):
        FeatureStore(shop.folder, redis_url=url).materialize()


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@127.0.0.1/0",
        f"127.0.0.1:6379/{SECRET}",
        f"redis://:{SECRET}/x@127.0.0.1:6379/0",
        f"redis://:{SECRET}#x@127.0.0.1:6379/0",
        f"redis://:{SECRET}@127.0.0.1:port/0",
        f"redis://:{SECRET}@127.0.0.1:99999/0",
        f"redis://:{SECRET}@127.0.0.1:1/0?passwort={SECRET}",
        f"redis://:{SECRET}@127.0.0.1:1/0?socket_timeout=long",
        f"redis://:{SECRET}@[::1/0",
        SECRET,
    ],
)
def test_a_redis_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(OnlineStoreError) as failure:
        FeatureStore(redis_url=url).get_online_features(["user_features:age"], [{"user_id": 1}])
    assert "Redis" in str(failure.value)
    assert SECRET not in str(failure.value) and SECRET not in repr(failure.value)


@pytest.mark.parametrize("url", [f"127.0.0.1:6379/{SECRET}", f"redis://:{SECRET}@127.0.0.1:port/0"])
def test_no_command_shows_the_password_of_such_a_url(refused: Callable[..., str], shop: DbtProject, url: str) -> None:
    for args in (
        ("materialize",),
        ("feature-store", "online", "user_features:age", "-e", "user_id=1"),
    ):
        sentence = refused(*args, **{"--redis-url": url})
        assert "Redis" in sentence
        assert SECRET not in sentence
    doctor = run("feature-store", "doctor", "--project-dir", str(shop.folder), "--redis-url", url)
    assert doctor.code == 1 and "FAIL  redis: " in doctor.out
    assert SECRET not in doctor.out + doctor.err
    with pytest.raises(OnlineStoreError) as failure:
        FeatureStore(shop.folder, redis_url=url).get_online_features(["user_features:age"], [{"user_id": 1}])
    assert SECRET not in str(failure.value) and SECRET not in repr(failure.value)


class Guarded:
    """A server that wants a password, with one user that may read and one that may do nothing."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", SECRET],
            cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.client = redis.Redis(port=port, password=SECRET)
        for _ in range(200):
            try:
                self.client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        self.client.execute_command("ACL", "SETUSER", "reader", "on", f">{SECRET}", "%R~*", "+@read", "+@connection",
                                    "+time")  # fmt: skip
        self.client.execute_command("ACL", "SETUSER", "nobody", "on", f">{SECRET}", "~*", "+@connection")

    def url(self, user: str = "", password: str = SECRET) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    from materializer.online.local import _free_port

    server = Guarded(tmp_path_factory.mktemp("guarded"), _free_port())
    yield server
    server.process.terminate()
    server.process.wait()


def test_redis_that_refuses_or_wants_a_password_says_so(refused: Callable[..., str], guarded: Guarded) -> None:
    here = f"Redis at 127.0.0.1:{guarded.port}"
    for args in (("materialize",), ("feature-store", "online", "user_features:age", "-e", "user_id=1")):
        sentence = refused(*args, **{"--redis-url": guarded.url(password="wrong-one")})
        assert f"{here} refused the user or password" in sentence and "wrong-one" not in sentence
        sentence = refused(*args, **{"--redis-url": guarded.url(user="stranger")})
        assert f"{here} refused the user or password" in sentence and SECRET not in sentence
        sentence = refused(*args, **{"--redis-url": f"redis://127.0.0.1:{guarded.port}/0"})
        assert f"{here} wants a password: put it into FEATURE_STORE_REDIS_URL" in sentence
    assert guarded.client.dbsize() == 0


def test_a_user_that_may_not_write_is_told_so_and_may_still_read(
    refused: Callable[..., str], guarded: Guarded, shop: DbtProject, namespace: str
) -> None:
    here = f"Redis at 127.0.0.1:{guarded.port} does not permit this user"
    assert here in refused("materialize", "user_features", **{"--redis-url": guarded.url("nobody")})
    assert here in refused("feature-store", "online", "user_features:age", "-e", "user_id=1",
                           **{"--redis-url": guarded.url("nobody")})  # fmt: skip
    ran = run(
        "materialize", "--project-dir", str(shop.folder), "--redis-url", guarded.url("reader"), "--output", "json"
    )
    assert ran.code == 1 and SECRET not in ran.out + ran.err
    assert all(here in result["error"] for result in ran.json["views"])
    assert guarded.client.dbsize() == 0

    writer = FeatureStore(shop.folder, redis_url=guarded.url(), namespace=namespace)
    writer.materialize()
    reader = FeatureStore(redis_url=guarded.url("reader"), namespace=namespace)
    assert reader.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()["age"] == [31]
    answer = reader.get_online_features(["item_features:price"], [{"item_id": "a:1"}]).to_dict(include_statuses=True)
    assert answer["price__status"] == ["PRESENT"]
    guarded.client.flushall()


def test_no_object_shows_a_password(shop: DbtProject, guarded: Guarded) -> None:
    profile_of(shop, password=SECRET)
    project = load_project(shop.folder)
    store = FeatureStore(shop.folder, redis_url=guarded.url())
    for thing in (project, store, store.project, store._client, store._reader, store.list_feature_views()):
        assert SECRET not in repr(thing) and SECRET not in str(thing)
    doctor = run("feature-store", "doctor", "--project-dir", str(shop.folder), "--redis-url", guarded.url())
    assert doctor.code == 0, doctor
    assert SECRET not in doctor.out + doctor.err


def test_redis_that_is_full_is_named_and_keeps_what_it_had(shop: DbtProject, guarded: Guarded, namespace: str) -> None:
    store = FeatureStore(shop.folder, redis_url=guarded.url(), namespace=namespace)
    store.materialize()
    before = contents(guarded.client)
    guarded.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(FeatureStoreError, match=r"OOM|maxmemory"):
            store.materialize()
        assert store.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()["age"] == [31]
        assert contents(guarded.client) == before
    finally:
        guarded.client.config_set("maxmemory", "0")
        guarded.client.flushall()


# Namespaces.


def test_a_namespace_without_anything_says_what_to_do(refused: Callable[..., str], redis_url: str) -> None:
    sentence = refused("feature-store", "online", "user_features:age", "-e", "user_id=1")
    assert "Nothing is published in namespace 'test." in sentence and "run `materialize` first" in sentence
    with pytest.raises(NotFoundError, match="Nothing is published in namespace 'no-such'"):
        FeatureStore(redis_url=redis_url, namespace="no-such").list_feature_views()


def test_a_reader_without_a_namespace_takes_the_only_one_or_is_told_which_there_are(
    shop: DbtProject, guarded: Guarded
) -> None:
    guarded.client.flushall()
    url = guarded.url()

    def age() -> list[Any]:
        reader = FeatureStore(redis_url=url)
        return reader.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()["age"]

    with pytest.raises(NotFoundError, match=r"Nothing is published in Redis at 127.0.0.1:.*: run `materialize`"):
        age()
    FeatureStore(shop.folder, redis_url=url, namespace="sh:op").materialize()
    assert age() == [31]
    FeatureStore(shop.folder, redis_url=url, namespace="other").materialize()
    with pytest.raises(NotFoundError, match=r"has several namespaces: name one with namespace=: other, sh:op."):
        age()
    guarded.client.flushall()


def test_what_another_program_keeps_under_our_names_is_a_sentence(
    shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    store = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    for write in (
        lambda: client.set(f"{namespace}:registry", "a string"),
        lambda: client.hset(f"{namespace}:registry", "user_features", "no json"),
        lambda: client.hset(f"{namespace}:registry", "user_features", "{}"),
    ):
        client.delete(f"{namespace}:registry")
        write()
        with pytest.raises(OnlineStoreError):
            store.get_online_features(["user_features:age"], [{"user_id": 1}])
    client.delete(f"{namespace}:registry")


def test_a_registry_of_a_newer_release_asks_for_an_upgrade(
    online: FeatureStore, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    published = json.loads(client.hget(f"{namespace}:registry", "user_features"))
    client.hset(f"{namespace}:registry", "user_features", json.dumps({**published, "format": 99}))
    with pytest.raises(OnlineStoreError, match=r"written by a newer release \(format 99\): upgrade"):
        FeatureStore(redis_url=redis_url, namespace=namespace).list_feature_views()


def test_a_reader_asked_for_what_needs_a_project_says_so(redis_url: str, namespace: str) -> None:
    reader = FeatureStore(redis_url=redis_url, namespace=namespace)
    for call in (lambda: reader.get_historical_features(USERS, ["a:b"]), lambda: reader.materialize()):
        with pytest.raises(ProjectError, match="give it a project_dir"):
            call()
