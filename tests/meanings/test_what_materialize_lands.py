"""After a run the online store is what `latest` gives at that moment, whatever stood there before."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
import redis

from materializer import FeatureStore
from tests.meanings.conftest import UTC, Shop, ago


def online(store: FeatureStore, feature: str, user_id: int = 1) -> tuple[Any, str]:
    """The value and the status of one feature of one user."""
    answer = store.get_online_features([feature], [{"user_id": user_id}]).to_dict(include_statuses=True)
    name = feature.split(":")[1]
    return answer[name][0], answer[f"{name}__status"][0]


def stamp(moment: datetime) -> str:
    """A moment as it stands in Redis."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def push(client: redis.Redis, store: FeatureStore, view: str, user_id: int, event: datetime, **fields: str) -> bytes:
    """A row as a stream writes it: not by a run."""
    key = f"{store.namespace}:{view}:{user_id}".encode()
    client.delete(key)
    client.hset(key, mapping={"_fs_event": stamp(event), "_fs_writer": "push:test", **fields})
    return key


def test_the_four_statuses_are_told_apart(shop: Shop, store: FeatureStore) -> None:
    shop.fill(
        "weekly",
        [
            {"user_id": 1, "event_timestamp": ago(days=1), "visits": 5},
            {"user_id": 2, "event_timestamp": ago(days=1), "visits": None},
            {"user_id": 3, "event_timestamp": ago(days=8), "visits": 7},
        ],
    )
    store.materialize(["weekly"])
    answer = store.get_online_features(["weekly:visits"], {"user_id": [1, 2, 3, 4, None]})
    answer = answer.to_dict(include_statuses=True, include_event_timestamps=True)
    assert answer["visits"] == [5, None, None, None, None]
    assert answer["visits__status"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND", "NOT_FOUND"]
    assert [event is None for event in answer["visits__event_timestamp"]] == [False, False, False, True, True]


def test_the_age_of_a_row_is_judged_when_it_is_read(shop: Shop, store: FeatureStore, client: redis.Redis) -> None:
    shop.fill("weekly", [{"user_id": 1, "event_timestamp": ago(days=1), "visits": 5}])
    store.materialize(["weekly"])
    assert online(store, "weekly:visits") == (5, "PRESENT")
    # A week passes, with no run in it: to a reader that is a row whose event lies a week further back.
    client.hset(f"{store.namespace}:weekly:1", "_fs_event", stamp(ago(days=8)))
    assert online(store, "weekly:visits") == (None, "OUTSIDE_MAX_AGE")


def test_a_null_overwrites_the_value_before_it(shop: Shop, store: FeatureStore) -> None:
    row = {"user_id": 1, "event_timestamp": ago(days=2), "points": 5, "name": "Ann"}
    shop.fill("users", [row])
    store.materialize(["users"])
    assert online(store, "users:points") == (5, "PRESENT")
    shop.fill("users", [row, {**row, "event_timestamp": ago(days=1), "points": None}])
    store.materialize(["users"])
    assert online(store, "users:points") == (None, "NULL_VALUE")
    assert online(store, "users:name") == ("Ann", "PRESENT")


def test_a_row_taken_back_makes_the_one_before_the_truth_again(shop: Shop, store: FeatureStore) -> None:
    older = {"user_id": 1, "event_timestamp": ago(days=2), "points": 1}
    newer = {"user_id": 1, "event_timestamp": ago(days=1), "points": 2}
    shop.fill("users", [older, newer])
    store.materialize(["users"])
    assert online(store, "users:points") == (2, "PRESENT")
    shop.fill("users", [older])
    store.materialize(["users"])
    assert online(store, "users:points") == (1, "PRESENT")


def test_an_entity_that_is_gone_loses_its_key(shop: Shop, store: FeatureStore, client: redis.Redis) -> None:
    rows = [{"user_id": n, "event_timestamp": ago(days=1), "points": n} for n in (1, 2)]
    shop.fill("users", rows)
    store.materialize(["users"])
    shop.fill("users", rows[1:])
    (result,) = store.materialize(["users"])
    assert result.rows_deleted == 1
    assert online(store, "users:points", 1) == (None, "NOT_FOUND")
    assert online(store, "users:points", 2) == (2, "PRESENT")
    assert [key for key in client.scan_iter(f"{store.namespace}:users:*")] == [f"{store.namespace}:users:2".encode()]


def test_a_view_that_became_empty_is_empty_online(shop: Shop, store: FeatureStore) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": ago(days=1), "points": 1}])
    store.materialize(["users"])
    shop.fill("users", [])
    store.materialize(["users"], allow_shrink=True)
    assert online(store, "users:points") == (None, "NOT_FOUND")


def test_a_correction_with_a_later_load_replaces_what_stood_there(shop: Shop, store: FeatureStore) -> None:
    row = {"user_id": 1, "event_timestamp": ago(days=2), "loaded_at": ago(days=2), "points": 1}
    shop.fill("loaded", [row])
    store.materialize(["loaded"])
    shop.fill("loaded", [row, {**row, "loaded_at": ago(days=1), "points": 2}])
    store.materialize(["loaded"])
    assert online(store, "loaded:points") == (2, "PRESENT")


def test_rows_of_the_future_and_rows_not_loaded_yet_do_not_show(shop: Shop, store: FeatureStore) -> None:
    shop.fill(
        "loaded",
        [
            {"user_id": 1, "event_timestamp": ago(days=2), "loaded_at": ago(days=2), "points": 1},
            {"user_id": 1, "event_timestamp": ago(days=-1), "loaded_at": ago(days=2), "points": 2},
            {"user_id": 1, "event_timestamp": ago(days=1), "loaded_at": ago(days=-1), "points": 3},
            {"user_id": 1, "event_timestamp": ago(days=1), "loaded_at": None, "points": 4},
            {"user_id": 2, "event_timestamp": ago(days=-1), "loaded_at": ago(days=1), "points": 5},
        ],
    )
    store.materialize(["loaded"])
    assert online(store, "loaded:points", 1) == (1, "PRESENT")
    assert online(store, "loaded:points", 2) == (None, "NOT_FOUND")


def test_a_row_that_fell_due_lands_with_the_next_run_and_no_dbt_run_in_between(shop: Shop, store: FeatureStore) -> None:
    due = ago(seconds=-1.5)
    shop.fill(
        "users",
        [
            {"user_id": 1, "event_timestamp": ago(days=1), "points": 1},
            {"user_id": 1, "event_timestamp": due, "points": 2},
        ],
    )
    store.materialize(["users"])
    before = online(store, "users:points")
    assert before == (1, "PRESENT") or ago() > due  # a busy machine may be late
    time.sleep(max(0.0, (due - ago()).total_seconds()) + 0.01)
    store.materialize(["users"])
    assert online(store, "users:points") == (2, "PRESENT")


def test_a_delayed_row_is_not_online_before_its_time(shop: Shop, store: FeatureStore) -> None:
    shop.fill(
        "settled",
        [
            {"user_id": 1, "event_timestamp": ago(hours=3), "amount": 1},
            {"user_id": 1, "event_timestamp": ago(hours=1), "amount": 2},
        ],
    )
    store.materialize(["settled"])
    assert online(store, "settled:amount") == (1, "PRESENT")


@pytest.mark.parametrize(("pushed", "expected"), [(ago(days=1), "99"), (ago(days=3), "2")], ids=["newer", "older"])
def test_a_pushed_row_stays_only_where_it_is_newer_than_the_warehouses(
    shop: Shop, store: FeatureStore, client: redis.Redis, pushed: datetime, expected: str
) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": ago(days=2), "points": 2, "name": "Ann"}])
    key = push(client, store, "users", 1, pushed, points="99")
    for full in (False, False, True):
        (result,) = store.materialize(["users"], full=full)
        assert online(store, "users:points") == (int(expected), "PRESENT")
        assert result.rows_deleted == 0
    assert client.hexists(key, "name") == (expected == "2"), "a row is replaced whole, or not at all"


def test_among_rows_of_one_moment_a_pushed_one_stays_if_it_was_created_later(
    shop: Shop, store: FeatureStore, client: redis.Redis
) -> None:
    event = ago(days=2)
    shop.fill(
        "loaded", [{"user_id": n, "event_timestamp": event, "loaded_at": ago(days=1), "points": 2} for n in (1, 2)]
    )
    for user_id, hours in ((1, 12), (2, 36)):
        push(client, store, "loaded", user_id, event, points="99", _fs_created=stamp(ago(hours=hours)))
    store.materialize(["loaded"])
    assert online(store, "loaded:points", 1) == (99, "PRESENT")
    assert online(store, "loaded:points", 2) == (2, "PRESENT")


def test_a_pushed_row_of_an_entity_that_the_warehouse_does_not_have_is_never_swept_away(
    shop: Shop, store: FeatureStore, client: redis.Redis
) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": ago(days=2), "points": 2}])
    store.materialize(["users"])
    push(client, store, "users", 2, ago(days=30), points="99")
    for _ in range(2):
        (result,) = store.materialize(["users"])
        assert result.rows_deleted == 0
    assert online(store, "users:points", 2) == (99, "PRESENT")


def test_one_namespace_never_sees_anothers_rows(shop: Shop) -> None:
    one, other = shop.store("prefix"), shop.store("prefix:users")
    shop.fill("users", [{"user_id": 1, "event_timestamp": ago(days=2), "points": 1}])
    one.materialize(["users"])
    shop.fill("users", [{"user_id": 2, "event_timestamp": ago(days=2), "points": 2}])
    other.materialize(["users"])
    one.materialize(["users"])
    assert [online(one, "users:points", n)[0] for n in (1, 2)] == [None, 2]
    shop.fill("users", [])
    one.materialize(["users"], allow_shrink=True)
    assert [online(other, "users:points", n)[0] for n in (1, 2)] == [None, 2]


def test_what_a_reader_without_a_project_gets_is_the_same(shop: Shop, store: FeatureStore, redis_url: str) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": ago(days=2), "points": 2**53 + 1, "name": None}])
    store.materialize(["users"])
    reader = FeatureStore(redis_url=redis_url, namespace=store.namespace)
    asked = (["users:points", "users:name"], [{"user_id": 1}, {"user_id": 2}])
    given = reader.get_online_features(*asked).to_dict(include_statuses=True)
    assert given == store.get_online_features(*asked).to_dict(include_statuses=True)
    assert given["points"] == [2**53 + 1, None]
