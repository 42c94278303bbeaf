"""Damaged, deep and foreign bytes where the store keeps its files and its registry: as if they could not be read.

Memory that cannot be read costs a full run, never a wrong row, and does not stay stuck; a record or a registry is
refused in a sentence; the log loses those lines.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, FeatureStoreError, InputError, OnlineStoreError
from materializer.materialize.log import append_log, read_log
from materializer.materialize.memory import Memory, view_memory
from materializer.online.publish import publish_services
from materializer.project.definitions import FeatureService
from materializer.training.record import FORMAT, read_record
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.faults import Server, memory_folder, new_project, online, sql

DEEP = b"[" * 100_000 + b"]" * 100_000
FOREIGN = [
    b"", b"{", b"null", b"[]", b"{}", b"5", b'"text"', b"\xff\xfe\x00", bytes(range(256)), DEEP, b'{"a":' * 50_000,
    b"PAR1", b"NaN", b"[null]", b'{"views": []}', b"1" * 5_000, b"\x00" * 100, "\ud800".encode("utf-8", "surrogatepass"),
]  # fmt: skip
VALUES = [None, True, -1, 2**70, 1.5, float("nan"), "", "x", "../x", "/etc/passwd", [], {}, [None], {"a": {}}, [[1]]]


def mutations(text: bytes, seed: int, count: int) -> Iterator[bytes]:
    """What a crash, a bad disk or another program may make of a JSON document."""
    draw = random.Random(seed)
    yield from FOREIGN
    document = json.loads(text)
    places = list(paths(document))
    for number in range(count):
        kind = number % 4
        if kind == 0:
            yield text[: draw.randrange(len(text))]
        elif kind == 1:
            broken = bytearray(text)
            for _ in range(draw.randint(1, 5)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            yield bytes(broken)
        else:
            changed = copy.deepcopy(document)
            *way, last = draw.choice(places)
            inner = changed
            for step in way:
                inner = inner[step]
            if kind == 2:
                inner[last] = draw.choice(VALUES)
            elif isinstance(inner, dict):
                del inner[last]
            else:
                inner.append(draw.choice(VALUES))
            yield json.dumps(changed).encode()


def paths(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*way, step)
        yield from paths(inner, (*way, step))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = new_project(tmp_path_factory.mktemp("damaged") / "shop")
    sql(project, """create table kinds as select range as user_id, range as amount,
        timestamptz '2024-05-01 00:00+00' as event_timestamp from range(5)""")  # fmt: skip
    return project


@pytest.fixture
def store(project: DbtProject, server: Server, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=server.url, namespace=namespace)


def test_memory_that_cannot_be_read_costs_a_full_run_and_is_whole_after_it(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    store.materialize(feature_views=["kinds"])
    head = memory_folder(project, namespace, "kinds") / "memory.json"
    expected = online(server.client, namespace, "kinds")
    full = 0
    few = list(mutations(head.read_bytes(), 7, 4))
    for number, damaged in enumerate([*few[:2], DEEP, *few[-4:]]):
        head.write_bytes(damaged)
        server.client.hset(f"{namespace}:kinds:{number % 5}", "amount", 77)  # a full run mends it
        (result,) = store.materialize(feature_views=["kinds"])
        full += result.rows_written == 5
        if result.rows_written:
            assert online(server.client, namespace, "kinds") == expected, damaged[:200]
        else:
            server.client.hset(f"{namespace}:kinds:{number % 5}", "amount", number % 5)
        head.read_text()
        assert store.materialize(feature_views=["kinds"])[0].rows_written == 0, damaged[:200]
    assert full >= 5
    head.unlink()
    head.mkdir()
    (head / "something").touch()
    assert store.materialize(feature_views=["kinds"])[0].rows_written == 5
    assert store.materialize(feature_views=["kinds"])[0].rows_written == 0


def test_whatever_memory_is_damaged_to_it_is_whole_or_none_at_all(tmp_path: Path) -> None:
    folder = view_memory(tmp_path, "n", "kinds")
    whole = Memory("b", "a", True, "f", "sent-b.parquet", ("pending-b.parquet",), 5, ("user_id int64",))
    for name in ("sent-b.parquet", "pending-b.parquet"):
        folder.path(name).touch()
    folder.save(replace(whole, finished=False))
    written = (folder.folder / "memory.json").read_bytes()
    assert folder.load() is not None
    (folder.folder / "memory.json").write_text(json.dumps(json.loads(written) | {"of_a_newer_release": 1}))
    assert folder.load() is None
    none = 0
    for damaged in mutations(written, 2, 600):
        (folder.folder / "memory.json").write_bytes(damaged)
        memory = folder.load()
        none += memory is None
        for field in fields(Memory) if memory else ():
            kinds = {type(getattr(whole, field.name)), *([type(None)] if field.name in ("previous", "sent") else [])}
            assert type(getattr(memory, field.name)) in kinds, (field.name, damaged)
        for name in (*memory.pending, *filter(None, [memory.sent])) if memory else ():
            assert folder.path(name).parent == folder.folder and folder.path(name).is_file()
    assert none > 300


@pytest.mark.parametrize("kind", ["cut", "bytes", "empty", "columns", "types", "another"])
def test_a_list_of_sent_rows_that_is_damaged_costs_a_full_run(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str, kind: str, tmp_path: Path
) -> None:
    store.materialize(feature_views=["kinds"])
    (sent,) = memory_folder(project, namespace, "kinds").glob("sent-*.parquet")
    whole = sent.read_bytes()
    if kind == "another":
        sent.write_bytes(next(Path(duckdb.__file__).parent.glob("*.py")).read_bytes())
    elif kind in ("columns", "types"):
        columns = "1 as a" if kind == "columns" else "'x' as user_id, 'y' as _fs_digest, 'z' as _fs_digest_2"
        duckdb.sql(f"copy (select {columns}) to '{tmp_path}/x.parquet' (format parquet)")
        shutil.copy(tmp_path / "x.parquet", sent)
    else:
        sent.write_bytes({"cut": whole[: len(whole) // 2], "bytes": b"\xff" * 500, "empty": b""}[kind])
    (result,) = store.materialize(feature_views=["kinds"])
    assert (result.rows_written, result.error) == (5, None)
    assert store.materialize(feature_views=["kinds"])[0].rows_written == 0


def test_of_a_log_the_whole_lines_are_read_and_a_cut_one_spoils_no_other(tmp_path: Path) -> None:
    entry = {"at": "2026-01-01T00:00:00+00:00", "view": "kinds", "error": None, "rows_written": 1, "run_id": "r"}
    append_log(tmp_path, "n", entry)
    log = tmp_path / "n" / "log.jsonl"
    line = log.read_bytes()
    for damaged in mutations(line, 3, 200):
        log.write_bytes(damaged)
        append_log(tmp_path, "n", {**entry, "view": "after"})
        found = read_log(tmp_path, "n")
        assert found[-1]["view"] == "after"
        for one in found:
            assert isinstance(one["view"], str) and isinstance(one["rows_written"], int)
            assert datetime.fromisoformat(one["at"]).tzinfo is not None


def test_a_damaged_log_stops_neither_doctor_nor_freshness(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    store.materialize(feature_views=["kinds"])
    log = memory_folder(project, namespace, "kinds").parent / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-20] + b"\n" + b"\n".join(FOREIGN) + b"\n" + DEEP)
    where = ("--project-dir", str(project.folder), "--redis-url", server.url, "--namespace", namespace)
    assert '"check": "runs"' in run("feature-store", "doctor", *where, "--output", "json").out
    assert store.get_freshness(["kinds"])[0].last_materialized is not None
    store.materialize(feature_views=["kinds"])
    assert [entry["view"] for entry in read_log(log.parent.parent, namespace)] == ["kinds"]


RECORD = {
    "format": FORMAT, "made_at": "2026-01-01T00:00:00Z", "versions": {"dbt": "1"}, "project": "shop", "target": "dev",
    "git_revision": None, "git_dirty": None, "manifest_sha256": "a", "definitions_sha256": "b", "features": ["kinds:amount"],
    "options": {"timestamp": "event_timestamp", "full_feature_names": False, "allow_exact_matches": True,
                "filter_by_created_timestamp": True},
    "spine": {"kind": "sql", "path": None, "sha256": None, "sql": "select 1", "rows": 1, "content": None},
    "views": [{"name": "kinds", "reference": "kinds", "definition": "c", "compiled": None, "models": {}, "rows": 5,
               "rows_read": 5, "until": None, "newest_event": None, "content": None}],
    "on_demand": [],
    "output": {"file": "set.parquet", "rows": 1, "columns": [{"name": "a", "type": "int64", "feature": None, "sha256": "d"}],
               "rows_sha256": "e", "sha256": "f"},
}  # fmt: skip


def test_a_damaged_training_record_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet.json"
    path.write_text(json.dumps(RECORD))
    assert read_record(path).project == "shop"
    refused = 0
    for damaged in mutations(json.dumps(RECORD).encode(), 5, 300):
        path.write_bytes(damaged)
        try:
            read_record(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 400
    assert refused > 150


def test_a_damaged_entry_of_the_registry_costs_its_view_alone_until_the_next_run(
    store: FeatureStore, server: Server, namespace: str, project: DbtProject
) -> None:
    sql(project, "create or replace table pairs as select *, user_id as item_id from kinds")
    store.materialize(feature_views=["kinds", "pairs"])
    reader = FeatureStore(redis_url=server.url, namespace=namespace)
    key, whole = f"{namespace}:registry", server.client.hget(f"{namespace}:registry", "kinds")
    refused = 0
    lone = json.dumps(json.loads(whole) | {"version": "\ud800"}).encode()  # a text that no key in Redis can have
    for damaged in (lone, *mutations(whole, 11, 100)):
        server.client.hset(key, "kinds", damaged)
        server.client.set(f"{namespace}:_fs_revision", random.random())
        try:
            assert reader.get_online_features(["pairs:amount"], {"user_id": [1], "item_id": [1]}).to_dict()[
                "amount"
            ] == [1]
            for view in reader.list_feature_views():
                assert view.name and view.entities and view.description is not None
            reader.get_online_features(["kinds:amount"], {"user_id": [1]}).to_dict()
        except FeatureStoreError as error:
            refused += 1
            assert len(str(error)) < 400
            newer = "newer release" in str(error)
            assert newer or "run `materialize`" in str(error) or "has no feature" in str(error) or "row" in str(error)
    assert refused > 50
    for damaged in (DEEP, b"{}", b"\xff"):
        server.client.hset(key, "kinds", damaged)
        server.client.set(f"{namespace}:_fs_revision", random.random())
        with pytest.raises(FeatureStoreError, match="run `materialize`"):
            reader.get_online_features(["kinds:amount"], {"user_id": [1]})
        store.materialize(feature_views=["kinds"])
        assert reader.get_online_features(["kinds:amount"], {"user_id": [1]}).to_dict()["amount"] == [1]
    server.client.hset(key, "kinds", DEEP)
    server.client.hset(key, "pairs", b"null")
    with pytest.raises(OnlineStoreError, match=rf"The key '{key}' in Redis holds what `materialize` did not write"):
        FeatureStore(redis_url=server.url, namespace=namespace).list_feature_views()
    pruned = store.prune("1 day", dry_run=True)
    assert pruned == []


def test_a_damaged_service_costs_that_service_alone_until_the_next_run(
    store: FeatureStore, server: Server, namespace: str
) -> None:
    store.materialize(feature_views=["kinds"])
    service = FeatureService("ours", ("kinds:amount",), "What we use.", None, {"team": "us"})
    publish_services(server.client, namespace, [service])
    key = f"{namespace}:services"
    whole = server.client.hget(key, "ours")
    reader = FeatureStore(redis_url=server.url, namespace=namespace)
    assert reader.get_online_features("ours", {"user_id": [1]}).to_dict()["amount"] == [1]
    refused = 0
    for damaged in mutations(whole, 13, 100):
        server.client.hset(key, "ours", damaged)
        server.client.set(f"{namespace}:_fs_revision", random.random())
        assert reader.get_online_features(["kinds:amount"], {"user_id": [1]}).to_dict()["amount"] == [1]
        try:
            reader.get_online_features("ours", {"user_id": [1]})
        except FeatureStoreError as error:
            refused += 1
            assert len(str(error)) < 400
    assert refused > 60
    publish_services(server.client, namespace, [service])
    assert reader.get_online_features("ours", {"user_id": [1]}).to_dict()["amount"] == [1]
