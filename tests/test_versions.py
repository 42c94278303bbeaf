"""Two versions of a feature view beside each other, from dbt to Redis: each by name, the latest under the bare name."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from materializer import FeatureStore, InputError, NotFoundError
from tests.support.command import run
from tests.support.dbt import DbtProject, make_project

MAY = datetime(2024, 5, 1, tzinfo=timezone.utc)
ROWS = "(values (1::bigint, timestamptz '2024-04-01 00:00:00+00', 31::bigint), (2, timestamptz '2024-04-02 00:00:00+00', 44)) as rows(user_id, event_timestamp, age)"
FILES: dict[str, Any] = {
    "models/users_v1.sql": "{{ config(materialized='table') }} select user_id, event_timestamp, age, 'low' as tier from " + ROWS,
    "models/users_v2.sql": "{{ config(materialized='table') }} select user_id, event_timestamp, age + 100 as age, 'Oslo' as city from " + ROWS,
    # A training set in SQL, and the difference of the versions as a model.
    "models/both_versions.sql": """
        select * from ({{ feature_store.point_in_time_join(
            spine=ref('labels'), features=['users:age', 'users.v1:age', 'users.v2:city'], full_feature_names=true) }}) as joined
    """,
    "models/labels.sql": "select 1::bigint as user_id, timestamptz '2024-05-01 00:00:00+00' as event_timestamp",
    "models/changes.sql": "select * from ({{ feature_store.feature_difference('users.v1', 'users.v2') }}) as found",
    "models/changed_users.sql": "select * from ({{ feature_store.feature_difference_examples('users.v1', 'users.v2', examples=1) }}) as found",
}  # fmt: skip


def properties(latest: int, services: bool = True) -> dict[str, Any]:
    features = {
        "bare": ["users:age"],
        "first": ["users.v1:age", "users.v1:tier"],
        "second": ["users.v2:age", "users.v2:city"],
    }
    return {
        "models": [
            {
                "name": "users",
                "latest_version": latest,
                "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
                "versions": [{"v": 1}, {"v": 2}],
            }
        ],
        "exposures": [
            {
                "name": name, "type": "ml", "owner": {"name": "ML"}, "depends_on": ["ref('users')"],
                "config": {"meta": {"features": listed}},
            }
            for name, listed in features.items()
            if services
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """Both versions built; version 2 is the latest."""
    project = make_project(tmp_path_factory.mktemp("versions"), FILES | {"models/users.yml": properties(2)})
    project.dbt("build")
    return project


@pytest.fixture
def store(project: DbtProject, redis_url: str, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=redis_url, namespace=namespace)


def offline(store: FeatureStore, features: list[str] | str, **options: Any) -> dict[str, Any]:
    spine = {"user_id": [1, 2, 3], "event_timestamp": [MAY] * 3}
    answer = store.get_historical_features(spine, features, **options).to_arrow().to_pydict()
    return {name: values for name, values in answer.items() if name not in spine}


def online(store: FeatureStore, features: list[str] | str, **options: Any) -> dict[str, Any]:
    answer = store.get_online_features(features, {"user_id": [1, 2, 3]}, **options).to_dict()
    return {name: values for name, values in answer.items() if name != "user_id"}


def test_one_training_set_and_one_request_take_both_versions(store: FeatureStore) -> None:
    store.materialize()
    apart = ["users.v1:tier", "users.v2:city"]
    with_short_names = {"tier": ["low", "low", None], "city": ["Oslo", "Oslo", None]}
    assert offline(store, apart) == online(store, apart) == with_short_names
    same = ["users.v1:age", "users.v2:age", "users:age"]
    in_full = {"users_v1__age": [31, 44, None], "users_v2__age": [131, 144, None], "users__age": [131, 144, None]}
    assert offline(store, same, full_feature_names=True) == online(store, same, full_feature_names=True) == in_full
    for call in (offline, online):
        with pytest.raises(InputError, match=r"'users.v1:age' and 'users.v2:age' would be called 'age'"):
            call(store, same)


def test_a_version_has_its_own_features_and_services(store: FeatureStore) -> None:
    store.materialize()
    assert [view.reference for view in store.list_feature_views()] == ["users.v1", "users.v2"]
    assert store.get_feature_view("users") == store.get_feature_view("users.v2")
    assert [feature.name for feature in store.get_feature_view("users.v1").features] == ["age", "tier"]
    for name, expected in (
        ("first", {"age": [31, 44, None], "tier": ["low", "low", None]}),
        ("second", {"age": [131, 144, None], "city": ["Oslo", "Oslo", None]}),
        ("bare", {"age": [131, 144, None]}),
    ):
        assert offline(store, name) == expected
        # A reader knows no services, only their references.
        assert online(store, store.get_feature_service(name)) == expected
    for reference, sentence in (
        ("users:tier", "'users.v2' has no feature 'tier'; it has: age, city"),
        ("users.v1:city", "'users.v1' has no feature 'city'; it has: age, tier"),
        ("users.v3:age", "no feature view 'users.v3'; there are: users, users.v1, users.v2"),
    ):
        for call in (offline, online):
            with pytest.raises(NotFoundError, match=sentence):
                call(store, [reference])


def test_versions_stand_beside_each_other_in_sql_too(project: DbtProject, store: FeatureStore) -> None:
    spine = "select * from both_versions"
    rows = store.get_historical_features(spine, ["users:city"]).to_arrow().to_pylist()
    assert [(row["users__age"], row["users_v1__age"], row["users_v2__city"], row["city"]) for row in rows] == [
        (131, 31, "Oslo", "Oslo")
    ]


def test_the_bare_name_moves_with_the_latest_version(project: DbtProject, store: FeatureStore) -> None:
    """Forwards and back: what the bare name means online changes with the next run, and not before."""
    store.materialize()
    try:
        for latest, ages in ((1, [31, 44, None]), (2, [131, 144, None])):
            before = online(store, ["users:age"])
            project.write({"models/users.yml": properties(latest)})
            project.dbt("parse")
            reader = FeatureStore(redis_url=store._redis_url, namespace=store.namespace)
            assert online(reader, ["users:age"]) == before
            moved = FeatureStore(project.folder, redis_url=store._redis_url, namespace=store.namespace)
            assert offline(moved, ["users:age"])["age"] == ages
            moved.materialize()
            assert (
                online(FeatureStore(redis_url=store._redis_url, namespace=store.namespace), ["users:age"])["age"]
                == ages
            )
            pinned = online(reader, ["users.v1:age", "users.v2:age"], full_feature_names=True)
            assert pinned == {"users_v1__age": [31, 44, None], "users_v2__age": [131, 144, None]}
    finally:
        project.write({"models/users.yml": properties(2)})
        project.dbt("build")


def test_one_version_alone_can_be_materialized(store: FeatureStore) -> None:
    store.materialize(["users.v1"])
    reader = FeatureStore(redis_url=store._redis_url, namespace=store.namespace)
    assert online(reader, ["users.v1:age"])["age"] == [31, 44, None]
    with pytest.raises(NotFoundError, match="users"):
        online(reader, ["users.v2:age"])
    store.materialize(["users"])  # the bare name: the latest
    assert online(reader, ["users:age"])["age"] == [131, 144, None]


def test_the_difference_of_two_versions_is_told_with_its_values(project: DbtProject) -> None:
    ran = run("feature-store", "diff", "users.v1", "users.v2", "--data", "--output", "json", cwd=project.folder)
    assert ran.code == 1, ran
    (view,) = ran.json["views"]
    assert [(one["feature"], one["change"], one["old"], one["new"]) for one in view["features"]] == [
        ("tier", "removed", "varchar", None), ("city", "added", None, "varchar"), ("age", "redefined", "values.age", "age + 100")
    ]  # fmt: skip
    (age,) = view["values"]["features"]
    assert (age["feature"], age["entities"], age["differing"], age["max_absolute"]) == ("age", 2, 2, 100.0)
    assert {(one["user_id"], one["old_value"], one["new_value"]) for one in age["examples"]} == {
        (1, "31", "131"),
        (2, "44", "144"),
    }
    assert [(one["service"], one["reference"]) for one in ran.json["breaks"]] == [("first", "users.v1:tier")]


def test_the_difference_is_a_model_too(project: DbtProject) -> None:
    store = FeatureStore(project.folder)
    spine = "select c.*, timestamptz '2024-05-01' as event_timestamp, 1::bigint as user_id from changes c"
    (row,) = store.get_historical_features(spine, ["users.v1:tier"]).to_arrow().to_pylist()
    assert {name: row[name] for name in ("feature", "entities", "equal", "differing", "max_absolute", "max_relative")} == {
        "feature": "age", "entities": 2, "equal": 0, "differing": 2, "max_absolute": 100.0, "max_relative": 100 / 31,
    }  # fmt: skip
    manifest = json.loads((project.folder / "target" / "manifest.json").read_text())
    for model in ("changes", "changed_users"):  # dbt knows what they are made from
        assert manifest["nodes"][f"model.shop.{model}"]["depends_on"]["nodes"] == [
            "model.shop.users.v1",
            "model.shop.users.v2",
        ]
    assert yaml.safe_load((Path(__file__).parents[1] / "macros/monitoring/feature_difference.yml").read_text())
