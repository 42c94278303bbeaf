"""What the warehouse holds is what comes out, offline and online, in pandas too."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from materializer import FeatureStore
from tests.meanings.conftest import Shop, ago


def both_ways(shop: Shop, store: FeatureStore, view: str, feature: str, keys: list[Any]) -> tuple[Any, Any]:
    """A feature of users as pandas series: from a training set of this moment, and online."""
    store.materialize([view])
    frame = pd.DataFrame({"user_id": keys, "event_timestamp": [ago()] * len(keys)})
    offline = store.get_historical_features(frame, [f"{view}:{feature}"]).to_df()[feature]
    online = store.get_online_features([f"{view}:{feature}"], {"user_id": keys}).to_df()[feature]
    pd.testing.assert_series_equal(offline, online)
    return offline, online


def test_a_bigint_beyond_two_to_the_53_beside_a_null_stays_exact(shop: Shop, store: FeatureStore) -> None:
    big = 2**53 + 1
    shop.fill("users", [{"user_id": n, "event_timestamp": ago(days=1), "points": [big, None][n]} for n in (0, 1)])
    for series in both_ways(shop, store, "users", "points", [0, 1]):
        assert series.dtype == "Int64"
        assert series.tolist() == [big, pd.NA]


def test_nan_and_null_are_not_the_same(shop: Shop, store: FeatureStore) -> None:
    values = [math.nan, None, math.inf, -math.inf, -0.0]
    shop.fill(
        "users", [{"user_id": n, "event_timestamp": ago(days=1), "score": value} for n, value in enumerate(values)]
    )
    keys = list(range(len(values)))
    for series in both_ways(shop, store, "users", "score", keys):
        assert [value is pd.NA for value in series] == [False, True, False, False, False]
        assert repr([float(value) for value in series.drop([1])]) == repr([math.nan, math.inf, -math.inf, -0.0])
        assert series.isna().tolist() == [False, True, False, False, False]
    arrow = shop.training({"user_id": keys, "event_timestamp": [ago()] * 5}, ["users:score"]).column("score")
    assert arrow.null_count == 1
    assert repr(arrow.to_pylist()) == repr(values)


def test_an_empty_string_is_a_value(shop: Shop, store: FeatureStore) -> None:
    shop.fill("users", [{"user_id": n, "event_timestamp": ago(days=1), "name": ["", None][n]} for n in (0, 1)])
    for series in both_ways(shop, store, "users", "name", [0, 1]):
        assert series.tolist() == ["", pd.NA]
    online = store.get_online_features(["users:name"], {"user_id": [0, 1]}).to_dict(include_statuses=True)
    assert online["name__status"] == ["PRESENT", "NULL_VALUE"]


def test_a_boolean_beside_a_null_is_no_object(shop: Shop, store: FeatureStore) -> None:
    shop.fill("users", [{"user_id": n, "event_timestamp": ago(days=1), "active": [False, None][n]} for n in (0, 1)])
    for series in both_ways(shop, store, "users", "active", [0, 1]):
        assert series.dtype == "boolean"
        assert series.tolist() == [False, pd.NA]


def test_any_text_comes_back_as_it_was(shop: Shop, store: FeatureStore) -> None:
    texts = ["\r\n", "*2\r\n$3\r\nGET\r\n", "a:b", "%3A", "{tag}", "é\U0001f600", "'; drop table users; --", '"', "\\"]
    shop.fill("users", [{"user_id": n, "event_timestamp": ago(days=1), "name": text} for n, text in enumerate(texts)])
    for series in both_ways(shop, store, "users", "name", list(range(len(texts)))):
        assert series.tolist() == texts


def test_decimals_keep_every_digit(shop: Shop, store: FeatureStore) -> None:
    shop.fill("settled", [{"user_id": 1, "event_timestamp": ago(days=1), "amount": Decimal("9999999999999999.99")}])
    for series in both_ways(shop, store, "settled", "amount", [1]):
        assert series.tolist() == [Decimal("9999999999999999.99")]


def test_arrays_of_fixed_length_survive_rows_that_have_none(shop: Shop, store: FeatureStore) -> None:
    """Thousands of misses beside hits: DuckDB 2.0 stumbles there on arrays that pass through an outer join."""
    taste, tastes = [0.5, 1.5, None], {"near": [1.0, 2.0], "far": [[3.0, 4.0], None]}
    known = [n for n in range(3000) if n % 7 == 0]
    shop.fill(
        "embeddings",
        [
            {
                "user_id": n,
                "event_timestamp": ago(days=1),
                "taste": None if n % 2 else taste,
                "tastes": None if n % 3 else tastes,
            }
            for n in known
        ],
    )
    spine = {"user_id": list(range(3000)), "event_timestamp": [ago()] * 3000}
    answer = shop.training(spine, ["embeddings:taste", "embeddings:tastes"])
    expected = [taste if n % 7 == 0 and n % 2 == 0 else None for n in range(3000)]
    assert answer.column("taste").to_pylist() == expected
    assert answer.column("tastes").to_pylist() == [tastes if n % 21 == 0 else None for n in range(3000)]
    store.materialize(["embeddings"])
    assert store.get_online_features(["embeddings:taste"], spine).to_dict()["taste"] == expected


def test_microseconds_survive_in_event_timestamps_online(shop: Shop, store: FeatureStore) -> None:
    event = ago(days=1).replace(microsecond=0) + timedelta(microseconds=1)
    shop.fill("users", [{"user_id": 1, "event_timestamp": event, "points": 1}])
    store.materialize(["users"])
    online = store.get_online_features(["users:points"], [{"user_id": 1}]).to_dict(include_event_timestamps=True)
    assert online["points__event_timestamp"] == [event]
