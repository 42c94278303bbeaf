"""Join keys are compared column by column, whatever they hold, and each entity has a key of its own online."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
import redis

from materializer import FeatureStore, InputError
from tests.meanings.conftest import Shop, ago, at
from tests.support.cases import NASTY_PAIRS


def test_no_two_composite_keys_are_taken_for_each_other(shop: Shop, store: FeatureStore) -> None:
    pairs = sorted({pair for group in NASTY_PAIRS for pair in group} | {("12", "3:"), ("", ":"), (":", ""), ("::", "")})
    shop.fill(
        "pairs",
        [
            {"left_key": left, "right_key": right, "event_timestamp": ago(days=1), "points": points}
            for points, (left, right) in enumerate(pairs)
        ],
    )
    keys = {"left_key": [left for left, _ in pairs], "right_key": [right for _, right in pairs]}
    offline = shop.training({**keys, "event_timestamp": [ago()] * len(pairs)}, ["pairs:points"])
    assert offline.column("points").to_pylist() == list(range(len(pairs)))
    (result,) = store.materialize(["pairs"])
    assert (result.rows_read, result.rows_written) == (len(pairs), len(pairs))
    online = store.get_online_features(["pairs:points"], keys).to_dict()
    assert online["points"] == list(range(len(pairs)))


def test_one_and_23_is_not_12_and_three(shop: Shop, store: FeatureStore) -> None:
    shop.fill("pairs", [{"left_key": "1", "right_key": "23", "event_timestamp": ago(days=1), "points": 7}])
    store.materialize(["pairs"])
    keys = {"left_key": ["1", "12"], "right_key": ["23", "3"]}
    offline = shop.training({**keys, "event_timestamp": [ago()] * 2}, ["pairs:points"]).column("points").to_pylist()
    online = store.get_online_features(["pairs:points"], keys).to_dict(include_statuses=True)
    assert offline == online["points"] == [7, None]
    assert online["points__status"] == ["PRESENT", "NOT_FOUND"]


def test_a_key_with_a_null_in_it_has_no_row_offline_or_online(shop: Shop, store: FeatureStore) -> None:
    shop.fill("pairs", [{"left_key": "a", "right_key": None, "event_timestamp": ago(days=1), "points": 7}])
    (result,) = store.materialize(["pairs"])
    assert result.rows_written == 0
    keys = {"left_key": ["a", None, "a"], "right_key": [None, "b", ""]}
    offline = shop.training({**keys, "event_timestamp": [ago()] * 3}, ["pairs:points"]).column("points").to_pylist()
    online = store.get_online_features(["pairs:points"], keys).to_dict(include_statuses=True)
    assert offline == online["points"] == [None] * 3
    assert online["points__status"] == ["NOT_FOUND"] * 3


def test_what_stands_in_redis_is_escaped_so_that_parts_cannot_run_into_each_other(
    shop: Shop, client: redis.Redis
) -> None:
    store = shop.store("team:a{b}%")
    shop.fill("pairs", [{"left_key": "a:b", "right_key": "{c}%", "event_timestamp": ago(days=1), "points": 1}])
    store.materialize(["pairs"])
    assert client.exists("team%3Aa%7Bb%7D%25:pairs:a%3Ab:%7Bc%7D%25")
    assert store.get_online_features(["pairs:points"], [{"left_key": "a:b", "right_key": "{c}%"}]).to_dict()[
        "points"
    ] == [1]


def test_keys_are_cast_to_the_views_type_before_they_are_looked_up(shop: Shop, store: FeatureStore) -> None:
    shop.fill("users", [{"user_id": 7, "event_timestamp": ago(days=1), "points": 1}])
    store.materialize(["users"])
    for given in (7, "7", 7.0):
        assert store.get_online_features(["users:points"], [{"user_id": given}]).to_dict()["points"] == [1]


def test_keys_of_any_type_but_floats_are_found_again(shop: Shop, store: FeatureStore) -> None:
    key = {
        "day": date(1969, 12, 31),
        "moment": at("2024-05-01 12:00:00.000001"),
        "local": at("2024-05-01 12:00").replace(tzinfo=None),
        "price": Decimal("-1.50"),
        "flag": False,
        "small": -128,
        "huge": Decimal(2**100),
    }
    shop.fill("typed_keys", [{**key, "event_timestamp": ago(days=1), "points": 5}])
    spine = {name: [value] for name, value in key.items()}
    offline = shop.training({**spine, "asked": [ago()]}, ["typed_keys:points"], timestamp="asked")
    assert offline.column("points").to_pylist() == [5]
    store.materialize(["typed_keys"])
    others = [{**key, "flag": True}, {**key, "price": Decimal("1.50")}, {**key, "local": None}]
    online = store.get_online_features(["typed_keys:points"], [key, *others]).to_dict()
    assert online["points"] == [5, None, None, None]


def test_text_that_spells_no_number_is_refused_for_an_integer_key_online(shop: Shop, store: FeatureStore) -> None:
    shop.fill("users", [{"user_id": 7, "event_timestamp": ago(days=1), "points": 1}])
    store.materialize(["users"])
    for given in ("seven", 7.5, True):
        with pytest.raises(InputError, match=f"Join key 'user_id' is of type int64, but .*{given}.* was given"):
            store.get_online_features(["users:points"], [{"user_id": given}])
