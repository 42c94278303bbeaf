"""The digest by which a changed row is found tells any two values apart, to the bit."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from materializer.materialize.current import digests_of
from materializer.project.definitions import Entity, Feature, FeatureView

SPECIAL = [0.0, -0.0, 1.0, -1.0, None, float("nan"), float("inf")]
LISTS: list[Any] = [None, [], *(list(items) for n in (1, 2, 3) for items in itertools.product(SPECIAL, repeat=n))]


def digests(values: list[Any], dtype: pa.DataType) -> set[tuple[int, int]]:
    view = FeatureView("v", (Entity("k", dtype=pa.int64()),), (Feature("x", dtype=dtype),))
    moments = pa.array([0] * len(values), pa.timestamp("us", "UTC"))
    table = pa.table({"k": range(len(values)), "x": pa.array(values, dtype), "event_timestamp": moments})
    first, second = digests_of(view)
    with duckdb.connect() as connection:
        connection.register("rows_given", table)
        return set(connection.sql(f"select {first}, {second} from rows_given").fetchall())


@pytest.mark.parametrize("dtype", [pa.list_(pa.float32()), pa.list_(pa.float64())], ids=str)
def test_lists_of_floats_that_differ_in_any_way_have_digests_of_their_own(dtype: pa.DataType) -> None:
    assert len(digests(LISTS, dtype)) == len(LISTS) == 401


def test_so_do_arrays_of_fixed_size() -> None:
    arrays = [items for items in LISTS if items is not None and len(items) == 3]
    assert len(digests(arrays, pa.list_(pa.float32(), 3))) == len(arrays) == 343


def test_so_do_floats() -> None:
    assert len(digests(SPECIAL, pa.float64())) == len(SPECIAL)
