"""The code of an ordinary feature store tutorial, as it is written for Feast, with only the import changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from materializer import FeatureStore
from tests.support.dbt import copy_of
from tests.support.shop import built_shop


class PredictRequest(BaseModel):
    user_ids: list[int | None]
    item_id: str


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(built_shop(), tmp_path_factory.mktemp("feast") / "feature_repo").folder


@pytest.fixture
def store(repo: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """As a tutorial makes it: the connection comes from the surroundings."""
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", redis_url)
    return FeatureStore(repo_path=str(repo))


def test_a_store_over_the_current_folder(repo: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", redis_url)
    monkeypatch.chdir(repo)
    assert FeatureStore(repo_path=".").project.name == "shop"
    assert FeatureStore().project.folder == repo
    assert FeatureStore(".").project.folder == repo


def test_training_data_with_user_and_item_features_in_one_call(store: FeatureStore) -> None:
    entity_df = pd.DataFrame.from_dict(
        {
            "user_id": [1, 1, 2, 42],
            "item_id": ["a:1", "b", "a:1", "a:1"],
            "event_timestamp": [
                datetime(2024, 5, 2, 10, 59, 42),
                datetime(2024, 3, 12, 8, 12, 10),
                datetime.now(),
                datetime.now(),
            ],
            "label_clicked": [1, 5, 3, 0],
        }
    )
    training_df = store.get_historical_features(
        entity_df=entity_df,
        features=["user_features:age", "user_features:city", "item_features:price", "item_features:in_stock"],
    ).to_df()

    assert list(training_df) == [*entity_df, "age", "city", "price", "in_stock"]
    assert training_df["label_clicked"].tolist() == [1, 5, 3, 0]
    assert training_df["age"].tolist() == [31, 30, 2**53 + 1, pd.NA]
    assert training_df["city"].tolist()[:2] == ["Bergen", "Oslo"]
    assert training_df["in_stock"].isna().tolist() == [True, True, False, False]
    assert training_df.dropna().shape == (0, 8)
    pd.testing.assert_frame_equal(training_df[list(entity_df)], entity_df)


def test_training_data_for_a_feature_service(store: FeatureStore) -> None:
    service = store.get_feature_service("recommendation")
    entity_df = pd.DataFrame({"user_id": [1], "item_id": ["a:1"], "event_timestamp": pd.to_datetime(["now"], utc=True)})
    for features in (service, "recommendation"):
        frame = store.get_historical_features(entity_df=entity_df, features=features, full_feature_names=True).to_df()
        assert frame["user_features__city"].tolist() == ["Bergen"]
        assert list(frame) == [*entity_df, "user_features__city", "item_features__price"]


def test_training_data_for_labels_in_the_warehouse(store: FeatureStore) -> None:
    """Feast takes SQL text as an entity_df too."""
    entity_df = "select 1::bigint as user_id, timestamp '2024-05-02 00:00:00' as event_timestamp, 1 as label"
    frame = store.get_historical_features(entity_df=entity_df, features=["user_features:age"]).to_df()
    assert frame.to_dict("list")["age"] == [31]


def test_materialization_between_two_dates_and_up_to_one(store: FeatureStore) -> None:
    results = store.materialize(start_date=datetime(2024, 1, 1), end_date=datetime.now(timezone.utc))
    assert [result.error for result in results] == [None] * 3
    store.materialize(datetime.now() - timedelta(days=3), datetime.now())
    store.materialize_incremental(end_date=datetime.now())
    store.materialize_incremental(datetime.now(timezone.utc), feature_views=["user_features"])
    (one,) = store.materialize(datetime(2024, 1, 1), datetime.now(), feature_views=["user_features"])
    assert one.view == "user_features"
    answer = store.get_online_features(features=["user_features:age"], entity_rows=[{"user_id": 1}]).to_dict()
    assert answer["age"][0] == 31


def test_online_features_in_a_fastapi_handler(store: FeatureStore) -> None:
    store.materialize_incremental(end_date=datetime.now())
    app = FastAPI()

    @app.post("/predict")
    def predict(request: PredictRequest) -> dict[str, Any]:
        features = store.get_online_features(
            features=["user_features:age", "user_features:city", "item_features:price"],
            entity_rows=[{"user_id": user, "item_id": request.item_id} for user in request.user_ids],
        ).to_dict()
        return {"features": features, "first_age": features["age"][0]}

    @app.get("/service/{user_id}")
    async def service(user_id: str) -> dict[str, Any]:
        rows = [{"user_id": user_id, "item_id": "a:1"}]
        return store.get_online_features(
            features=store.get_feature_service("recommendation"), entity_rows=rows
        ).to_dict()

    with TestClient(app) as client:
        answer = client.post("/predict", json={"user_ids": [1, 2, 99, None], "item_id": "a:1"})
        assert answer.status_code == 200
        assert answer.json() == {
            "features": {
                "user_id": [1, 2, 99, None],
                "item_id": ["a:1"] * 4,
                "age": [31, 2**53 + 1, None, None],
                "city": ["Bergen", None, None, None],
                "price": ["9.90"] * 4,
            },
            "first_age": 31,
        }
        assert client.get("/service/1").json()["city"] == ["Bergen"]
        many = [client.post("/predict", json={"user_ids": [1], "item_id": "zz"}).json()["first_age"] for _ in range(20)]
        assert many == [31] * 20


def test_what_is_registered_can_be_listed(store: FeatureStore) -> None:
    listed = {
        fv.name: ([e.name for e in fv.entities], [f.name for f in fv.features], fv.tags, fv.ttl)
        for fv in store.list_feature_views()
    }
    assert listed == {
        "item_features": (
            ["item_id"],
            ["price", "in_stock", "age"],
            {"things": "", "team": "stock"},
            timedelta(days=30),
        ),
        "offline_only": (["user_id"], ["secret_score"], {}, None),
        "user_features": (["user_id"], ["age", "city", "score"], {"people": "", "team": "growth"}, None),
        "user_item": (["user_id", "item_id"], ["affinity"], {"people": "", "things": ""}, None),
    }
    assert isinstance(store.get_feature_view("item_features").ttl, timedelta)
    assert [fv.name for fv in store.list_feature_views(tags={"team": "growth"})] == ["user_features"]
    assert {entity.name: entity.join_key for entity in store.list_entities()} == {
        "user_id": "user_id",
        "item_id": "item_id",
    }
    assert store.get_entity("user_id").description == "The user."
    (service,) = store.list_feature_services()
    assert (service.name, service.description) == ("recommendation", "What the recommender reads.")
    view = store.get_feature_view("user_features")
    assert view.description == "Who a user is."
    assert {feature.name: str(feature.dtype) for feature in view.features} == {
        "age": "int64",
        "city": "string",
        "score": "double",
    }
    assert [field.name for field in view.schema] == ["user_id", "age", "city", "score"]
