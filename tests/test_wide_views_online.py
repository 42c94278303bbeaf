"""A wide view read whole gives what its fields one by one give."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from materializer.online import request
from materializer.online.connect import connect
from materializer.online.pipeline import exchange
from materializer.online.response import OnlineResponse
from materializer.project.definitions import Entity, Feature, FeatureView, Pick

WIDTH = 40
VIEW = FeatureView(
    "wide", (Entity("id", "", pa.int64()),), tuple(Feature(f"f{place}", "", pa.int64()) for place in range(WIDTH))
)


def read(url: str, namespace: str, names: list[str], ids: list[int]) -> tuple[bytes, OnlineResponse]:
    """The command that was sent for a row, and the answer."""
    selection = request.select(namespace, [Pick(VIEW, name, name) for name in names])
    asked = request.Request(selection, [{"id": one} for one in ids])
    return asked.commands[-1], asked.response(exchange(connect(url), asked.keys, asked.commands, asked.received))


@pytest.mark.parametrize(("fields", "command"), [(WIDTH, b"HGETALL"), (26, b"HGETALL"), (25, b"HMGET"), (1, b"HMGET")])
def test_much_of_a_view_is_read_whole_and_little_of_it_by_field(
    redis_url: str, client: redis.Redis, namespace: str, fields: int, command: bytes
) -> None:
    client.hset(f"{namespace}:wide:1", mapping={"_fs_event": "2026-01-01T00:00:00.000000Z", "f0": 7, "f1": 8})
    sent, answer = read(redis_url, namespace, [f"f{place}" for place in range(fields)], [1])
    assert command in sent
    values: dict[str, Any] = {f"f{place}": [None] for place in range(fields)} | {"f0": [7]}
    if fields > 1:
        values["f1"] = [8]
    assert answer.to_dict() == {"id": [1]} | values


@given(
    rows=st.lists(
        st.none() | st.tuples(st.booleans(), st.dictionaries(st.integers(0, WIDTH - 1), st.integers(), max_size=WIDTH)),
        min_size=1,
        max_size=6,
    ),
    order=st.permutations(range(WIDTH)),
)
@settings(max_examples=60, deadline=None)
def test_both_ways_give_the_same_whatever_the_hashes_hold(
    redis_url: str, rows: list[tuple[bool, dict[int, int]] | None], order: list[int]
) -> None:
    client = redis.Redis.from_url(redis_url)
    client.delete(*(f"wide-views:wide:{place}" for place in range(6)))
    client.set("wide-views:wide:6", "no hash")
    for place, row in enumerate(rows):
        if row:
            whole, values = row
            fields: dict[str, Any] = {f"f{name}": value for name, value in values.items()} | {"_fs_writer": "x"}
            event = {"_fs_event": "2026-01-01T00:00:00.000000Z"} if whole else {}
            client.hset(f"wide-views:wide:{place}", mapping=fields | event)
    names, ids = [f"f{place}" for place in order], [*range(len(rows)), 6]
    sent, whole_answer = read(redis_url, "wide-views", names, ids)
    assert b"HGETALL" in sent
    parts = [read(redis_url, "wide-views", names[at : at + 10], ids)[1] for at in range(0, WIDTH, 10)]
    by_field: dict[str, Any] = {}
    for part in parts:
        by_field |= part.to_dict(include_statuses=True, include_event_timestamps=True)
    assert whole_answer.to_dict(include_statuses=True, include_event_timestamps=True) == by_field
    assert set(whole_answer.problems) == {problem for part in parts for problem in part.problems}
