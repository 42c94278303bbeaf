"""Rows that a warehouse should not hold, or that are larger than usual: counted, refused in a sentence, or served."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore, MaterializationError
from materializer.materialize import encoded
from materializer.materialize.plan import ViewResult
from tests.support.dbt import DbtProject
from tests.support.faults import Server, new_project, online, sql

MOMENT = "timestamptz '2024-05-01 00:00+00' as event_timestamp"


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    return new_project(tmp_path / "shop")


@pytest.fixture
def store(project: DbtProject, server: Server, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=server.url, namespace=namespace)


def run(store: FeatureStore, **options: Any) -> ViewResult:
    (result,) = store.materialize(feature_views=["kinds"], **options)
    return result


def refusal(store: FeatureStore, **options: Any) -> str:
    with pytest.raises(MaterializationError) as failure:
        run(store, **options)
    (result,) = failure.value.results
    assert "Traceback" not in result.error and len(result.error) < 500
    return result.error


def read(store: FeatureStore, *features: str, users: list[Any]) -> dict[str, list[Any]]:
    return store.get_online_features([f"kinds:{name}" for name in features], {"user_id": users}).to_dict()


def test_of_duplicate_latest_rows_the_same_one_is_served_whatever_their_order(
    project: DbtProject, store: FeatureStore
) -> None:
    """By all features in the order of their names: NULL lowest, NaN highest. The whole row is one of the rows."""
    rows = [(1, 5, "'z'"), (1, 7, "'a'"), (1, "null", "'zz'"), (2, "'nan'", "null"), (2, 9, "'b'"), (2, 9, "'a'")]
    draw = random.Random(4)
    for number in range(4):
        draw.shuffle(rows)
        values = ", ".join(f"({user}::bigint, {amount}::double, {name})" for user, amount, name in rows)
        sql(project, f"create or replace table kinds as select *, {MOMENT} from (values {values}) "
                     "as r(user_id, amount, name)")  # fmt: skip
        assert run(store).rows_written == (2 if number == 0 else 0)
    found = read(store, "amount", "name", users=[1, 2])
    assert (found["amount"][0], found["name"]) == (7.0, ["a", None])
    assert found["amount"][1] != found["amount"][1]


def test_a_row_of_the_future_waits(project: DbtProject, store: FeatureStore) -> None:
    sql(project, """create table kinds as select * from (values
        (1, timestamptz '2024-05-01 00:00+00', 1), (1, timestamptz '2999-01-01 00:00+00', 2),
        (2, timestamptz '2999-01-01 00:00+00', 3), (3, timestamptz 'infinity', 4)
    ) as r(user_id, event_timestamp, amount)""")  # fmt: skip
    result = run(store)
    assert (result.rows_written, result.error) == (1, None)
    assert read(store, "amount", users=[1, 2, 3])["amount"] == [1, None, None]


def test_bytes_that_are_no_utf_8_are_served_as_they_are(project: DbtProject, store: FeatureStore) -> None:
    blobs = [b"\xff\xfe", b"caf\xe9", b"\x00\r\n$-1\r\n", b"\xed\xa0\x80", b"", bytes(range(256))]
    texts = ", ".join(f"({number}, unhex('{blob.hex()}'))" for number, blob in enumerate(blobs))
    sql(project, f"create table kinds as select *, {MOMENT} from (values {texts}) as r(user_id, raw)")
    assert run(store).rows_written == len(blobs)
    assert read(store, "raw", users=list(range(len(blobs))))["raw"] == blobs
    assert run(store).rows_written == 0


def test_a_view_with_a_thousand_features_is_served_whole(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    columns = ", ".join(f"if((range + {n}) % 10 = 0, null, range * 1000 + {n}) as f{n}" for n in range(1_000))
    sql(project, f"create table kinds as select range as user_id, {MOMENT}, {columns} from range(120)")
    assert run(store).rows_written == 120
    assert server.client.hlen(f"{namespace}:kinds:7") == 902  # a tenth is NULL; and event time and writer
    found = read(store, *(f"f{n}" for n in range(1_000)), users=[7, 119])
    for place, user in enumerate((7, 119)):
        expected = [None if (user + n) % 10 == 0 else user * 1000 + n for n in range(1_000)]
        assert [found[f"f{n}"][place] for n in range(1_000)] == expected
    assert run(store).rows_written == 0
    sql(project, "update kinds set f777 = -1 where user_id = 7")
    assert run(store).rows_written == 1


@pytest.mark.parametrize("batch_bytes", [encoded.BATCH_BYTES, 100_000])
def test_an_embedding_of_four_thousand_floats_is_served_exactly(
    project: DbtProject,
    store: FeatureStore,
    server: Server,
    namespace: str,
    batch_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where such rows are too large to be encoded many at a time."""
    monkeypatch.setattr(encoded, "BATCH_BYTES", batch_bytes)
    sql(project, f"""create table kinds as select range as user_id, {MOMENT}, range || ':' as label,
        list_transform(range(4096), lambda i: ((i * 37 + range) % 1000 / 7.0)::float)::float[4096] as embedding
        from range(300)""")  # fmt: skip
    parts: list[int] = []
    assert run(store, progress=lambda view, done, total: parts.append(done)).rows_written == 300
    assert (len(parts) == 1) is (batch_bytes > 10_000_000)
    found = read(store, "embedding", "label", users=[0, 155, 299])
    for place, user in enumerate((0, 155, 299)):
        exact = [(i * 37 + user) % 1000 / 7.0 for i in range(4096)]
        assert found["embedding"][place] == list(struct.unpack("<4096f", struct.pack("<4096f", *exact)))
        assert found["label"][place] == f"{user}:"
    assert server.client.hstrlen(f"{namespace}:kinds:7", "embedding") == 4 * 4096
    assert run(store).rows_written == 0


def test_a_value_that_redis_cannot_hold_fails_in_a_sentence_and_is_no_harm_to_the_rest(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    limit = server.client.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
    sql(project, f"create table kinds as select range as user_id, {MOMENT}, 'x' as text from range(10)")
    run(store)
    server.client.config_set("proto-max-bulk-len", "1mb")
    try:
        sql(project, "update kinds set text = repeat('y', 2_000_000) where user_id = 3")
        assert "Redis" in refusal(store)
        assert online(server.client, namespace, "kinds")[f"{namespace}:kinds:3".encode()][b"text"] == b"x"
        sql(project, "update kinds set text = 'z' where user_id = 3")
        assert run(store).rows_written == 1
        assert read(store, "text", users=[3, 4])["text"] == ["z", "x"]
    finally:
        server.client.config_set("proto-max-bulk-len", limit)


@pytest.mark.parametrize("expression", ["interval '1 day'", "range::bit"])
def test_a_type_that_has_no_text_is_refused_before_anything_is_written(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str, expression: str
) -> None:
    sql(project, f"create table kinds as select range as user_id, {MOMENT}, {expression} as odd from range(10)")
    try:
        result = run(store)
    except MaterializationError as failure:
        assert "kinds:odd" in failure.results[0].error
        assert online(server.client, namespace, "kinds") == {}
    else:
        assert result.rows_written == 10


def test_an_empty_view_where_there_was_data_stops(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    sql(project, f"create table kinds as select range as user_id, {MOMENT}, 1 as amount from range(10)")
    run(store)
    before = online(server.client, namespace, "kinds")
    sql(project, "delete from kinds")
    for full in (False, True):
        assert "This run would remove 10 of the 10 entities" in refusal(store, full=full)
    assert online(server.client, namespace, "kinds") == before
    assert run(store, allow_shrink=True).rows_deleted == 10
    assert online(server.client, namespace, "kinds") == {}
    assert run(store).rows_written == 0


def test_an_empty_view_where_there_was_none_is_no_error(project: DbtProject, store: FeatureStore) -> None:
    sql(project, f"create table kinds as select 1 as user_id, {MOMENT}, 1 as amount where false")
    result = run(store)
    assert (result.rows_read, result.rows_written, result.error) == (0, 0, None)
    assert read(store, "amount", users=[1])["amount"] == [None]
