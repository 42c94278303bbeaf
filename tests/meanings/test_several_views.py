"""Several views in one call keep their own rules; versions and names that two views share are told apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from materializer import DefinitionError, FeatureStore, InputError, MaterializationError, NotFoundError
from tests.meanings.conftest import Shop, ago, at

NOON = at("2024-05-01 12:00")


def test_each_view_of_a_call_has_its_own_ttl_and_load_times(shop: Shop) -> None:
    old = NOON - timedelta(days=8)
    shop.fill("users", [{"user_id": 1, "event_timestamp": old, "points": 1}])
    shop.fill("weekly", [{"user_id": 1, "event_timestamp": old, "visits": 2}])
    shop.fill("loaded", [{"user_id": 1, "event_timestamp": old, "loaded_at": NOON, "label": "x"}])
    features = ["weekly:visits", "users:points", "loaded:label"]
    moments = [old, NOON - timedelta(hours=23), NOON - timedelta(microseconds=1), NOON]
    answer = shop.training({"user_id": [1] * 4, "event_timestamp": moments}, features)
    assert answer.column_names == ["user_id", "event_timestamp", "visits", "points", "label"]
    assert [answer.column(name).to_pylist() for name in ("visits", "points", "label")] == [
        [2, None, None, None],
        [1, 1, 1, 1],
        [None, None, None, "x"],
    ]


def test_views_with_different_keys_join_in_one_call_offline_and_online(shop: Shop, store: FeatureStore) -> None:
    event = ago(days=1)
    shop.fill("users", [{"user_id": 1, "event_timestamp": event, "points": 10}])
    shop.fill("pairs", [{"left_key": "a", "right_key": "b", "event_timestamp": event, "points": 20}])
    features = ["users:points", "pairs:points"]
    keys = {"user_id": [1, 2, 1], "left_key": ["a", "a", "x"], "right_key": ["b", "b", "b"]}
    offline = shop.training({**keys, "event_timestamp": [ago()] * 3}, features, full_feature_names=True)
    store.materialize(["users", "pairs"])
    online = store.get_online_features(features, keys, full_feature_names=True).to_dict()
    for name, values in (("users__points", [10, None, 10]), ("pairs__points", [20, 20, None])):
        assert offline.column(name).to_pylist() == online[name] == values


def test_a_name_that_two_views_share_needs_full_feature_names(shop: Shop, store: FeatureStore) -> None:
    both = ["users:points", "loaded:points"]
    spine = {"user_id": [1], "event_timestamp": [NOON]}
    with pytest.raises(InputError, match=r"'users:points' and 'loaded:points' would be called 'points'.*full_feature"):
        shop.training(spine, both)
    store.materialize(["users", "loaded"])
    with pytest.raises(InputError, match=r"'users:points' and 'loaded:points' would be called 'points'.*full_feature"):
        store.get_online_features(both, [{"user_id": 1}])
    assert shop.training(spine, both, full_feature_names=True).column_names[2:] == ["users__points", "loaded__points"]


def test_versions_are_different_views_and_the_bare_name_is_the_latest(shop: Shop, store: FeatureStore) -> None:
    event = ago(days=1)
    shop.fill("prices_v1", [{"item_id": 1, "event_timestamp": event, "price": 1.0}])
    shop.fill("prices_v2", [{"item_id": 1, "event_timestamp": event, "price": 2.0, "currency": "EUR"}])
    store.materialize(["prices.v1", "prices.v2"])
    features = ["prices.v1:price", "prices.v2:price", "prices:price", "prices:currency"]
    offline = shop.training({"item_id": [1], "event_timestamp": [ago()]}, features, full_feature_names=True)
    online = store.get_online_features(features, [{"item_id": 1}], full_feature_names=True).to_dict()
    for name, value in (
        ("prices_v1__price", 1.0), ("prices_v2__price", 2.0), ("prices__price", 2.0), ("prices__currency", "EUR")
    ):  # fmt: skip
        assert offline.column(name).to_pylist() == online[name] == [value]
    with pytest.raises(NotFoundError, match=r"'prices.v1' has no feature 'currency'; it has: price"):
        shop.training({"item_id": [1], "event_timestamp": [NOON]}, ["prices.v1:currency"])


def test_an_unknown_view_feature_or_reference_names_what_there_is(shop: Shop) -> None:
    spine = {"user_id": [1], "event_timestamp": [NOON]}
    with pytest.raises(NotFoundError, match=r"no feature view 'user'; there are: .*users"):
        shop.training(spine, ["user:points"])
    with pytest.raises(NotFoundError, match=r"'users' has no feature 'point'; it has: points, score, name, active"):
        shop.training(spine, ["users:point"])
    with pytest.raises(InputError, match=r"write 'view:feature'"):
        shop.training(spine, ["users"])


def test_a_feature_may_not_have_a_name_that_the_store_keeps_for_itself(shop: Shop, store: FeatureStore) -> None:
    spine = {"user_id": [1], "event_timestamp": [NOON]}
    with pytest.raises(DefinitionError, match=r"'_fs_writer' of view 'reserved' begins with _fs_"):
        shop.training(spine, ["reserved:_fs_writer"])
    with pytest.raises(MaterializationError, match=r"'_fs_writer' of view 'reserved' begins with _fs_"):
        store.materialize(["reserved"])
