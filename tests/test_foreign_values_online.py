"""What others put where the store's rows and keys belong: named, mended where that is ours to do, and no harm to the
rest of a request or run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from materializer import FeatureStore, MaterializationError, OnlineStoreError
from materializer.materialize.plan import ViewResult
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.faults import Server, new_project, online, sql

KINDS = """
    create or replace table kinds as select range as user_id, timestamptz '2024-05-01 00:00+00' as event_timestamp,
        range::bigint as whole, (range + 0.5)::double as number, range::tinyint as small, range % 2 = 0 as flag,
        (range + 0.25)::decimal(6, 2) as price, 'text ' || range as text, date '2024-01-01' + range::int as day,
        timestamptz '2024-01-01 00:00+00' + to_days(range::int) as moment,
        [range / 4.0, 1.0]::float[2] as embedding, [range, range + 1] as list, {'a': range, 'b': 'x'} as record
    from range(5)
"""
FEATURES = [
    "whole", "number", "small", "flag", "price", "text", "day", "moment", "embedding", "list", "record",
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = new_project(tmp_path_factory.mktemp("foreign") / "shop")
    sql(project, KINDS)
    sql(project, KINDS.replace("table kinds", "table visits").replace("timestamptz '2024-05-01 00:00+00'", "now()"))
    return project


@pytest.fixture(scope="module")
def materialized(project: DbtProject, server: Server) -> FeatureStore:
    store = FeatureStore(project.folder, redis_url=server.url, namespace="foreign")
    store.materialize(feature_views=["kinds", "visits"])
    return store


@pytest.fixture
def reader(materialized: FeatureStore, server: Server) -> Iterator[FeatureStore]:
    """Its rows are as they were after each test."""
    keys = [key for key in server.client.scan_iter("foreign:*") if key.count(b":") == 2 and b"_fs_" not in key]
    before = {key: server.client.hgetall(key) for key in keys}
    yield FeatureStore(redis_url=server.url, namespace="foreign")
    for key, row in before.items():
        server.client.delete(key)
        server.client.hset(key, mapping=row)


BAD = {
    "whole": ["abc", "", "1.5", "99999999999999999999", b"\xff"],
    "number": ["abc", "1,5", b"\xfe"],
    "small": ["300", "-129", "true"],
    "flag": ["yes", "1", "True", ""],
    "price": ["a lot", "1e99", "0.001", "NaN"],
    "text": [b"\xff\xfe"],
    "day": ["yesterday", "2024-13-01"],
    "moment": ["now", "2024-01-01T25:00:00Z", b"\x00"],
    "embedding": [b"abc", b"12345", "[1.0,", '{"a": 1.5}', "[" * 100_001],
    "list": ["{", "[1, true", '["a"]', "[99999999999999999999]", "1", "[" * 100_000 + "]" * 100_000],
    "record": ["[]", "null]", '{"a": "x", "b": "y"}', '{"b": "y"}', '"text"'],
}


@pytest.mark.parametrize("view", ["kinds", "visits"])
@pytest.mark.parametrize("feature", FEATURES)
def test_a_value_that_cannot_be_read_is_none_and_named_and_nothing_else_is_touched(
    reader: FeatureStore, server: Server, view: str, feature: str
) -> None:
    names = [f"{view}:{name}" for name in FEATURES]
    users = {"user_id": list(range(5))}
    good = reader.get_online_features(names, users)
    assert good.problems == ()
    expected = good.to_dict(include_statuses=True, include_event_timestamps=True)
    for bad in BAD[feature]:
        server.client.hset(f"foreign:{view}:3", feature, bad)
        answer = reader.get_online_features(names, users)
        found = answer.to_dict(include_statuses=True, include_event_timestamps=True)
        assert (found[feature][3], found[f"{feature}__status"][3]) == (None, "NULL_VALUE"), bad
        for name, values in expected.items():
            same = [place for place in range(5) if place != 3 or name not in (feature, f"{feature}__status")]
            assert [found[name][place] for place in same] == [values[place] for place in same], (name, bad)
        (problem,) = answer.problems
        assert f"'{view}:{feature}'" in problem and f"'foreign:{view}:3'" in problem and len(problem) < 300
        assert answer.to_arrow().num_rows == 5


@pytest.mark.parametrize("view", ["kinds", "visits"])
@pytest.mark.parametrize("moment", ["yesterday", "", "1714521600", "z" * 27, b"\xff" * 27, None])
def test_a_row_without_a_moment_that_can_be_read_is_no_row(
    reader: FeatureStore, server: Server, view: str, moment: Any
) -> None:
    key = f"foreign:{view}:1"
    server.client.hdel(key, "_fs_event") if moment is None else server.client.hset(key, "_fs_event", moment)
    answer = reader.get_online_features([f"{view}:whole", f"{view}:text"], {"user_id": [0, 1, 2]})
    found = answer.to_dict(include_statuses=True, include_event_timestamps=True)
    assert found["whole"] == [0, None, 2] and found["text"] == ["text 0", None, "text 2"]
    assert found["whole__status"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
    assert [event is None for event in found["whole__event_timestamp"]] == [False, True, False]
    (problem,) = answer.problems
    assert view in problem and f"'{key}'" in problem and "_fs_event" in problem


WRITE: dict[str, Callable[[redis.Redis, str], Any]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": "y"}),
}


@pytest.mark.parametrize("kind", WRITE)
def test_a_key_of_another_type_among_those_asked_for_costs_that_entity_alone(
    reader: FeatureStore, server: Server, kind: str
) -> None:
    server.client.delete("foreign:kinds:2")
    WRITE[kind](server.client, "foreign:kinds:2")
    for answer in (
        reader.get_online_features(["kinds:whole", "visits:whole"], {"user_id": [1, 2, 3]}, full_feature_names=True),
        asyncio.run(
            reader.get_online_features_async(["kinds:whole", "visits:whole"], {"user_id": [1, 2, 3]}, True)
        ),
    ):  # fmt: skip
        found = answer.to_dict(include_statuses=True)
        assert found["kinds__whole"] == [1, None, 3]
        assert found["kinds__whole__status"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
        assert found["visits__whole"] == [1, 2, 3]
        assert "'foreign:kinds:2' of feature view 'kinds'" in answer.problems[0]


def test_a_problem_is_logged_once_and_the_command_line_says_it(
    reader: FeatureStore, server: Server, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server.client.hset("foreign:kinds:3", "whole", "abc")
    with caplog.at_level(logging.WARNING, logger="materializer"):
        for _ in range(3):
            reader.get_online_features(["kinds:whole"], {"user_id": [3]})
    assert [record.getMessage().count("'kinds:whole'") for record in caplog.records] == [1]
    ran = run("feature-store", "online", "kinds:whole", "-e", "user_id=3", "-e", "user_id=4", "--redis-url", server.url,
              "--namespace", "foreign", "--output", "json", cwd=tmp_path)  # fmt: skip
    assert (ran.code, ran.json["whole"]) == (0, [None, 4])
    assert ran.err.startswith("Warning: Feature 'kinds:whole' of the row 'foreign:kinds:3' in Redis holds 'abc'")


# Runs.


@pytest.fixture
def store(project: DbtProject, server: Server, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=server.url, namespace=namespace)


def land(store: FeatureStore, **options: Any) -> ViewResult:
    (result,) = store.materialize(feature_views=["kinds"], **options)
    return result


@pytest.mark.parametrize("kind", WRITE)
def test_a_row_key_of_another_type_is_replaced_by_the_row_and_said(
    store: FeatureStore, server: Server, namespace: str, kind: str
) -> None:
    client = server.client
    for earlier in (0, 1):
        client.delete(f"{namespace}:kinds:3", f"{namespace}:kinds:0")
        WRITE[kind](client, f"{namespace}:kinds:3")
        WRITE[kind](client, f"{namespace}:kinds:0")
        result = land(store, full=bool(earlier))
        assert result.rows_written == 5
        (warning,) = result.warnings
        assert warning.startswith("2 keys of 'kinds' in Redis were not hashes") and "user_id=0; user_id=3" in warning
        assert len(online(client, namespace, "kinds")) == 5
    assert land(store).rows_written == 0


def test_of_an_entity_that_is_gone_a_key_of_another_type_goes_too(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    land(store)
    server.client.delete(f"{namespace}:kinds:3")
    server.client.set(f"{namespace}:kinds:3", "x")
    try:
        sql(project, "delete from kinds where user_id = 3")
        assert land(store).rows_deleted == 1
        assert not server.client.exists(f"{namespace}:kinds:3")
    finally:
        sql(project, KINDS)


@pytest.mark.parametrize("name", ["_fs_marker:kinds", "_fs_lease:kinds", "_fs_revision"])
@pytest.mark.parametrize("kind", ["list", "hash"])
def test_the_stores_own_keys_of_another_type_are_put_right_by_the_next_run(
    store: FeatureStore, server: Server, namespace: str, name: str, kind: str
) -> None:
    land(store)
    reader = FeatureStore(redis_url=server.url, namespace=namespace)
    assert reader.get_online_features(["kinds:whole"], {"user_id": [3]}).to_dict()["whole"] == [3]
    key = f"{namespace}:{name}"
    server.client.delete(key)
    server.client.rpush(key, "x") if kind == "list" else server.client.hset(key, "a", "b")
    if name == "_fs_revision":
        for reading in (reader, FeatureStore(redis_url=server.url, namespace=namespace)):
            with pytest.raises(OnlineStoreError, match=rf"The key '{key}' in Redis .* run `materialize`"):
                reading.get_online_features(["kinds:whole"], {"user_id": [3]})
    land(store)
    assert server.client.type(key) in (b"string", b"none")
    assert reader.get_online_features(["kinds:whole"], {"user_id": [3]}).to_dict()["whole"] == [3]
    assert land(store).rows_written == 0


@pytest.mark.parametrize("name", ["registry", "services"])
def test_a_registry_of_another_type_is_named_by_reader_and_run(
    store: FeatureStore, server: Server, namespace: str, name: str
) -> None:
    land(store)
    key = f"{namespace}:{name}"
    server.client.delete(key)
    server.client.set(key, "another program's")
    reader = FeatureStore(redis_url=server.url, namespace=namespace)
    with pytest.raises(OnlineStoreError, match=rf"The key '{key}' in Redis holds what `materialize` did not write"):
        reader.get_online_features(["kinds:whole"], {"user_id": [3]})
    with pytest.raises((MaterializationError, OnlineStoreError), match=rf"The key '{key}' in Redis"):
        land(store, full=True)
    assert server.client.get(key) == b"another program's"
    server.client.delete(key)
    land(store)
    assert reader.get_online_features(["kinds:whole"], {"user_id": [3]}).to_dict()["whole"] == [3]
