"""A training set has the spine's rows, all of them, in their order, and nothing of them is touched."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from materializer import InputError
from tests.meanings.conftest import Shop, at

NOON = at("2024-05-01 12:00")


@pytest.fixture(autouse=True)
def two_users(shop: Shop) -> None:
    shop.fill(
        "users",
        [
            {"user_id": 1, "event_timestamp": NOON, "points": 10, "name": "Ann"},
            {"user_id": 2, "event_timestamp": NOON + timedelta(days=1), "points": 20, "name": "Bob"},
        ],
    )


def test_duplicate_null_unknown_and_future_rows_each_give_exactly_one_row(shop: Shop) -> None:
    spine = {
        "row": [0, 1, 2, 3, 4, 5, 6],
        "user_id": [2, 1, 1, None, 99, 2, 1],
        "event_timestamp": [NOON + timedelta(days=2), NOON, NOON, NOON, NOON, NOON, None],
    }
    answer = shop.training(spine, ["users:points"])
    assert answer.column("row").to_pylist() == [0, 1, 2, 3, 4, 5, 6]
    assert answer.column("points").to_pylist() == [20, 10, 10, None, None, None, None]


def test_three_hundred_thousand_shuffled_rows_keep_their_order_exactly(shop: Shop) -> None:
    rows = 300_000
    place = pa.array(range(rows))
    users = pc.bit_wise_and(pc.multiply(place, 7919), 3)  # 0 and 3 are unknown; every row has thousands of twins
    moments = pc.add(
        pa.scalar(NOON, pa.timestamp("us", "UTC")),
        pc.multiply(pc.bit_wise_and(place, 127), 10**9).cast(pa.duration("us")),
    )
    spine = pa.table({"place": place, "user_id": users, "event_timestamp": moments})
    answer = shop.training(spine, ["users:points"])
    assert answer.select(spine.column_names).equals(spine)
    second = pc.greater_equal(moments, pa.scalar(NOON + timedelta(days=1), pa.timestamp("us", "UTC")))
    expected = pc.if_else(pc.equal(users, 1), 10, pc.if_else(pc.and_(pc.equal(users, 2), second), 20, None))
    assert answer.column("points").combine_chunks().equals(expected)


def test_columns_that_have_nothing_to_do_with_features_come_back_untouched_with_the_index(shop: Shop) -> None:
    class Anything:
        pass

    marks = [Anything(), {"a": Anything()}, 3]
    frame = pd.DataFrame(
        {
            "event_timestamp": pd.to_datetime([NOON, NOON, NOON]),
            "bought": [True, False, True],
            "user_id": [2, 1, 1],
            "mixed": marks,
            "category": pd.Categorical(["a", "b", "a"]),
            "missing": [1.5, None, float("inf")],
        },
        index=pd.Index(["x", "y", "x"], name="label"),
    )
    before = frame.copy()
    answer = shop.store().get_historical_features(frame, ["users:points"]).to_df()
    pd.testing.assert_frame_equal(answer[list(before.columns)], before)
    assert all(given is mark for given, mark in zip(answer["mixed"], marks, strict=True))
    assert list(answer.columns) == [*before.columns, "points"]
    assert answer["points"].tolist() == [pd.NA, 10, 10]
    pd.testing.assert_frame_equal(frame, before)


def test_a_column_that_arrow_cannot_hold_stops_only_what_needs_arrow(shop: Shop) -> None:
    frame = pd.DataFrame({"user_id": [1], "event_timestamp": [NOON], "mixed": [object()]})
    answer = shop.store().get_historical_features(frame, ["users:points"])
    assert answer.to_df()["points"].tolist() == [10]
    with pytest.raises(InputError, match="mixed"):
        answer.to_arrow()


def test_no_rows_give_no_rows_with_the_features_typed(shop: Shop) -> None:
    frame = pd.DataFrame({"user_id": [], "event_timestamp": [], "label": []})
    answer = shop.store().get_historical_features(frame, ["users:points", "users:name"])
    assert answer.to_arrow().num_rows == 0
    assert answer.to_arrow().schema.field("points").type == pa.int64()
    assert list(answer.to_df().columns) == ["user_id", "event_timestamp", "label", "points", "name"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "duckdb", "dict of lists", "list of dicts", "SQL"])
def test_anything_that_arrow_can_read_is_an_entity_df(shop: Shop, kind: str) -> None:
    columns: dict[str, list[Any]] = {"user_id": [1, 2, 1], "event_timestamp": [NOON] * 3, "label": ["a", "b", None]}
    table = pa.table(columns)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        entity_df = {
            "pandas": lambda: pd.DataFrame(columns),
            "polars": lambda: polars.DataFrame(columns),
            "pyarrow": lambda: table,
            "duckdb": lambda: connection.from_arrow(table),
            "dict of lists": lambda: columns,
            "list of dicts": lambda: table.to_pylist(),
            "SQL": lambda: (
                f"""
                select user_id, timestamptz '{NOON}' as event_timestamp, label
                from (values (1, 1, 'a'), (2, 2, 'b'), (3, 1, null)) as t(place, user_id, label) order by place;
            """
            ),
        }[kind]()
        answer = shop.store().get_historical_features(entity_df, ["users:points"])
        assert answer.to_arrow().column("user_id").to_pylist() == [1, 2, 1]
        assert answer.to_arrow().column("label").to_pylist() == ["a", "b", None]
        assert answer.to_arrow().column("points").to_pylist() == [10, None, 10]


def test_the_answer_is_pandas_polars_arrow_or_parquet(shop: Shop, tmp_path: Path) -> None:
    answer = shop.store().get_historical_features(
        {"user_id": [1, 9], "event_timestamp": [NOON, NOON]}, ["users:points"]
    )
    assert answer.to_df()["points"].tolist() == [10, pd.NA]
    assert answer.to_polars()["points"].to_list() == [10, None]
    answer.to_parquet(tmp_path / "set.parquet")
    assert pq.read_table(tmp_path / "set.parquet").equals(answer.to_arrow())


def test_the_time_column_is_the_one_named_or_the_only_timestamp_there_is(shop: Shop) -> None:
    later = NOON + timedelta(days=3)
    only = {"user_id": [2], "seen": [later]}
    both = {"user_id": [2], "seen": [later], "ordered": [NOON]}
    assert shop.training(only, ["users:points"]).column("points").to_pylist() == [20]
    assert shop.training(both, ["users:points"], timestamp="seen").column("points").to_pylist() == [20]
    assert shop.training(both, ["users:points"], timestamp="ordered").column("points").to_pylist() == [None]
    with pytest.raises(InputError, match=r"timestamp columns: seen, ordered"):
        shop.training(both, ["users:points"])


def test_missing_integers_that_pandas_made_floats_are_still_those_integers(shop: Shop) -> None:
    frame = pd.DataFrame({"user_id": [1, None, 2], "event_timestamp": [NOON + timedelta(days=9)] * 3})
    assert frame["user_id"].dtype == "float64"
    answer = shop.store().get_historical_features(frame, ["users:points"]).to_df()
    assert answer["points"].tolist() == [10, pd.NA, 20]
    assert answer["user_id"].dtype == "float64"


@pytest.mark.parametrize("keys", [["one"], [1.5], [True], [at("2024-01-01")]], ids=repr)
def test_a_key_that_is_not_of_the_views_type_is_named(shop: Shop, keys: list[Any]) -> None:
    with pytest.raises(InputError, match=r"Join key 'user_id' is of type int64"):
        shop.training({"user_id": keys, "event_timestamp": [NOON]}, ["users:points"])
    assert shop.training({"user_id": ["2"], "event_timestamp": [NOON]}, ["users:points"]).num_rows == 1


def test_a_missing_join_key_or_a_taken_name_stops_with_what_there_is(shop: Shop) -> None:
    with pytest.raises(InputError, match=r"no column 'user_id'.*it has: id, event_timestamp"):
        shop.training({"id": [1], "event_timestamp": [NOON]}, ["users:points"])
    with pytest.raises(InputError, match=r"already has a column 'points'"):
        shop.training({"user_id": [1], "event_timestamp": [NOON], "points": [3]}, ["users:points"])
    full = shop.training(
        {"user_id": [1], "event_timestamp": [NOON], "points": [3]}, ["users:points"], full_feature_names=True
    )
    assert (full.column("points").to_pylist(), full.column("users__points").to_pylist()) == ([3], [10])
