"""Whose row stays, of a run and of streams: by the landing's number that each had seen, and never by event times."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest
import redis

from materializer.errors import LeaseLostError
from materializer.online import stream_record
from materializer.online.connect import connect
from materializer.online.keys import stream_key
from materializer.online.rows import encode_rows, encode_steps
from materializer.online.stream_record import StreamRecord, held, read_record, take
from materializer.online.topology import OnlineStore, masters, node_of
from materializer.online.writer import TOMBSTONE, Writer, other_rows
from materializer.project.definitions import Entity, Feature, FeatureView
from tests.support.redis_servers import ClusterOfSix

VIEW = FeatureView(
    "spent", (Entity("user_id", dtype=pa.int64()),),
    (Feature("amount", dtype=pa.int64()), Feature("city", dtype=pa.string())),
)  # fmt: skip
NOON, ONE = datetime(2026, 1, 1, 12, tzinfo=timezone.utc), datetime(2026, 1, 1, 13, tzinfo=timezone.utc)
STAMPS = {"noon": "2026-01-01T12:00:00.000000Z", "later": "2026-01-01T14:00:00.000000Z"}


def row(writer: str, seen: int | None, event: str = "later") -> dict[str, str]:
    found = {"amount": "1", "_fs_event": STAMPS[event], "_fs_writer": writer}
    return found if seen is None else {**found, "_fs_seen": str(seen)}


# What a key may hold before, by name.
BEFORE: dict[str, dict[str, str] | None] = {
    "nothing": None,
    **{f"a run's of {seen}": row("run:a", seen) for seen in (None, 0, 5)},
    **{f"a stream's of {seen}": row("stream:a", seen) for seen in (None, 5)},
    "an older push": row("pushed", None, "noon"),
    "a newer push": row("pushed", None),
    "a run's tombstone": {"_fs_seen": "5", "_fs_writer": "run:a"},
    "a stream's tombstone": {"_fs_seen": "5", "_fs_writer": "stream:a"},
}


def stays(name: str, kind: str, seen: int | None, over: bool) -> bool:
    """The rule, once more. What is written has its event at one: after noon, before "later"."""
    before = BEFORE[name]
    if before is None:
        return False
    if before["_fs_writer"] == "pushed":
        return name == "a newer push"
    if seen is None or over:
        return False
    number, by_run = int(before.get("_fs_seen", 0)), before["_fs_writer"].startswith("run:")
    return number > seen or (number == seen and by_run and kind == "stream")


class Always:
    """A right to write that does not end."""

    def deadline(self) -> int:
        return 2**52

    def check(self) -> None:
        pass


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfSix]:
    cluster = ClusterOfSix(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(params=["one server", "a cluster"])
def store(request: pytest.FixtureRequest) -> OnlineStore:
    url = (
        request.getfixturevalue("redis_url")
        if request.param == "one server"
        else request.getfixturevalue("cluster").url
    )
    return connect(url)


def key(namespace: str, place: int) -> str:
    return f"{namespace}:spent:{place}"


def fields(store: OnlineStore, key: str) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in node_of(store, key).hgetall(key).items()}


def put(store: OnlineStore, namespace: str) -> list[str]:
    for place, before in enumerate(BEFORE.values()):
        if before:
            node_of(store, key(namespace, place)).hset(key(namespace, place), mapping=before)
    return list(BEFORE)


def encoded(namespace: str, count: int, due: bool = False, **options: Any) -> tuple[Any, pa.Table]:
    ids = pa.array(range(count), pa.int64())
    columns = {
        "user_id": ids, "amount": pa.array([2] * count, pa.int64()),
        "city": pa.array([None if place % 2 else "Bergen" for place in range(count)]),
        "event_timestamp": pa.array([ONE] * count, pa.timestamp("us", "UTC")),
    }  # fmt: skip
    if due:
        moments = {"firsts": list(range(count)), "moments": [0] * count, "now": 1}
        rows = encode_steps(pa.table(columns), VIEW, namespace, **moments, **options)
    else:
        rows = encode_rows(pa.record_batch(columns), VIEW, namespace, **options)
    return rows, pa.table({"user_id": ids})


WRITES = [
    (kind, seen, over, due)
    for kind, seen, over, due in itertools.product(("run", "stream"), (None, 0, 4, 5, 6), (False, True), (False, True))
    if (kind, over) != ("stream", True) and (seen is not None or (kind == "run" and not over))
]


@pytest.mark.parametrize(("kind", "seen", "over", "due"), WRITES)
def test_a_row_is_written_or_stays_by_number(
    store: OnlineStore, namespace: str, kind: str, seen: int | None, over: bool, due: bool
) -> None:
    names = put(store, namespace)
    rows, keys = encoded(namespace, len(names), due, writer=f"{kind}:b", seen=seen, over=over)
    with Writer(store, Always()) as writer:
        writer.send(rows, keys)
        writer.finish()
    expected = [place for place, name in enumerate(names) if stays(name, kind, seen, over)]
    assert sorted(one for table in writer.refused for one in table["user_id"].to_pylist()) == expected
    assert writer.written == len(names) - len(expected)
    for place, name in enumerate(names):
        whole = {"amount": "2", "_fs_event": "2026-01-01T13:00:00.000000Z", "_fs_writer": f"{kind}:b"}
        whole |= {} if place % 2 else {"city": "Bergen"}
        whole |= {} if seen is None else {"_fs_seen": str(seen)}
        assert fields(store, key(namespace, place)) == (BEFORE[name] if place in expected else whole), name


@pytest.mark.parametrize(("kind", "seen", "over"), sorted({(k, s, o) for k, s, o, _ in WRITES if s is not None}))
def test_a_removal_leaves_a_tombstone_or_keeps_by_number(
    store: OnlineStore, namespace: str, kind: str, seen: int, over: bool
) -> None:
    names = put(store, namespace)
    other = key(namespace, len(names))
    node_of(store, other).set(other, "no hash")
    keys = [key(namespace, place).encode() for place in range(len(names) + 1)]
    with Writer(store, Always()) as writer:
        removed = writer.remove(keys, seen, f"{kind}:b", over)
    pushes = {"an older push", "a newer push"}
    kept = {place for place, name in enumerate(names) if name not in pushes and stays(name, kind, seen, over)}
    assert sorted(writer.kept) == sorted(keys[place] for place in kept)
    rows = [place for place, name in enumerate(names) if "_fs_event" in (BEFORE[name] or {})]
    assert removed == 1 + len([place for place in rows if place not in kept and names[place] not in pushes])
    for place, name in enumerate([*names, "no hash"]):
        found = fields(store, key(namespace, place))
        if place in kept or name in pushes:
            assert found == BEFORE[name], name
        else:
            assert found == {"_fs_seen": str(seen), "_fs_writer": f"{kind}:b"}, name
            left = node_of(store, key(namespace, place)).pttl(key(namespace, place))
            assert 0 <= TOMBSTONE.total_seconds() * 1000 - left < 60_000


def test_many_are_removed_in_pages(store: OnlineStore, namespace: str) -> None:
    rows, keys = encoded(namespace, 2_500, writer="run:a", seen=5)
    names = [key(namespace, place).encode() for place in range(2_600)]
    with Writer(store, Always()) as writer:
        writer.send(rows, keys)
        assert writer.remove(names, 4, "stream:b") == 0
        assert sorted(writer.kept) == sorted(names[:2_500])
        assert writer.remove(names, 6, "stream:b") == 2_500
    assert sum(len(found) for found, _ in other_rows(store, namespace, "spent", "")) == 0, "a tombstone is no row"


def test_other_rows_are_those_of_runs_and_streams(store: OnlineStore, namespace: str) -> None:
    names = put(store, namespace)
    found = dict(
        pair
        for keys, writers in other_rows(store, namespace, "spent", "run:b")
        for pair in zip(keys, writers, strict=True)
    )
    ours = [name for name in names if name.startswith(("a run's of", "a stream's of"))]
    assert sorted(found) == sorted(key(namespace, names.index(name)).encode() for name in ours)
    assert not list(other_rows(store, namespace, "other", "run:b"))


@pytest.mark.parametrize("act", [
    lambda writer, namespace: writer.send(*encoded(namespace, 3, writer="stream:b", seen=5)),
    lambda writer, namespace: writer.remove([key(namespace, 1).encode()], 5, "stream:b"),
])  # fmt: skip
def test_nothing_is_written_or_removed_after_the_deadline(
    store: OnlineStore, namespace: str, act: Callable[[Writer, str], Any]
) -> None:
    class Ended(Always):
        def deadline(self) -> int:
            return 1

    with pytest.raises(LeaseLostError, match="ended before a write"), Writer(store, Ended()) as writer:
        act(writer, namespace)
        writer.finish()
    assert not [found for node in masters(store) for found in node.keys(f"{namespace}:*")]


RECORD = StreamRecord("d1", True, ("user_id",), {"source.shop.purchases": (("user_id",), ("lower(email)",))})


def test_a_stream_takes_a_view_that_none_has_and_says_its_keys(store: OnlineStore, namespace: str) -> None:
    assert read_record(store, namespace, "spent") is None
    assert held(store, namespace, "spent", "d1") is None
    assert take(store, namespace, "spent", RECORD)
    assert read_record(store, namespace, "spent") == RECORD
    text = node_of(store, stream_key(namespace, "spent")).get(stream_key(namespace, "spent"))
    assert json.loads(text)["filters"] == {"source.shop.purchases": [["user_id"], ["lower(email)"]]}
    again = StreamRecord("d1", True, ("user_id",), {})
    assert take(store, namespace, "spent", again)
    assert read_record(store, namespace, "spent") == again


def test_a_stream_may_write_for_a_while_from_when_it_asked(store: OnlineStore, namespace: str) -> None:
    take(store, namespace, "spent", RECORD)
    seconds, micros = node_of(store, stream_key(namespace, "spent")).time()
    until = held(store, namespace, "spent", "d1")
    assert until is not None
    assert 0 <= until - (seconds * 1000 + micros // 1000) - stream_record.HELD_MS + 500 < 2_000


@pytest.mark.parametrize("text", [
    json.dumps({"definition": "d2", "settled": True, "keys": [], "filters": {}}),
    json.dumps({"definition": "d1", "settled": False, "keys": [], "filters": {}}),
    json.dumps({"definition": "d1", "settled": 1, "keys": [], "filters": {}}), "no JSON", "[]", "", None,
])  # fmt: skip
def test_no_stream_takes_or_writes_a_view_of_another_definition_or_unsettled(
    store: OnlineStore, namespace: str, text: str | None
) -> None:
    name = stream_key(namespace, "spent")
    client: redis.Redis = node_of(store, name)
    client.set(name, text) if text is not None else client.hset(name, "a", "b")
    assert held(store, namespace, "spent", "d1") is None
    assert not take(store, namespace, "spent", RECORD)
    record = read_record(store, namespace, "spent")
    assert record is not None and (record.definition, record.settled) != ("d1", True)
