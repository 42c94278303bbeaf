"""One run at a time a view: two at once, one frozen past its lease, one killed, one that lost its lease to another."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from materializer import FeatureStore, LeaseLostError, MaterializationError
from materializer.online import lease
from tests.support.dbt import DbtProject, copy_of
from tests.support.forked import Process
from tests.support.manifests import project_of
from tests.support.shop import change_warehouse

ROWS = 6_000
# What a run does in a process of its own: small batches, a short lease, and something that happens on the way.
SCRIPT = """
import json, os, signal, sys, time
import materializer.materialize.bounded
from materializer import FeatureStore, FeatureStoreError
from materializer.online import lease

asked = json.loads(sys.argv[1])
lease.LENGTH_MS, lease.MARGIN_MS = asked["lease_ms"], 100
materializer.materialize.bounded.BATCH_ROWS = 500
happened = []

def progress(view, done, total):
    if done >= asked["after"] and not happened:
        happened.append(done)
        print(asked["then"], flush=True)
        if asked["then"] == "sleep":
            time.sleep(asked["seconds"])
        else:
            os.kill(os.getpid(), {"freeze": signal.SIGSTOP, "die": signal.SIGKILL}[asked["then"]])

store = FeatureStore(asked["project"], redis_url=asked["url"], namespace=asked["namespace"])
try:
    results = store.materialize(asked["views"], full=asked["full"], progress=progress)
except FeatureStoreError as error:
    sys.exit(f"Error: {error}")
print(json.dumps([result.rows_written for result in results]))
"""


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, DbtProject]:
    """One project in two states: in the later one every row has changed, and every other entity is gone."""
    folder = tmp_path_factory.mktemp("lease")
    before = project_of(folder / "before", {"big": {"entities": ["id"]}, "small": {"entities": ["id"]}})
    table = """
        create table {} as
        select i as id, timestamptz '2024-01-01 00:00:00+00' as event_timestamp, 1 as version, 1 as same_version
        from range({}) as r(i)
    """
    change_warehouse(before, table.format("big", ROWS), table.format("small", 3))
    after = copy_of(before, folder / "after")
    change_warehouse(after, "update big set version = 2, same_version = 2", "delete from big where id % 2 = 1")
    return before, after


@pytest.fixture
def before(projects: tuple[DbtProject, DbtProject], tmp_path: Path) -> DbtProject:
    return copy_of(projects[0], tmp_path / "before")


@pytest.fixture
def after(projects: tuple[DbtProject, DbtProject], tmp_path: Path) -> DbtProject:
    return copy_of(projects[1], tmp_path / "after")


Start = Callable[..., Process]


@pytest.fixture
def start(redis_url: str, namespace: str) -> Iterator[Start]:
    """Starts a run as a process and waits until what was asked for happens to it."""
    running: list[Process] = []

    def call(
        project: DbtProject,
        then: str,
        after: int = 1000,
        lease_ms: int = 1500,
        views: tuple[str, ...] = ("big",),
        full: bool = False,
        seconds: float = 1.0,
    ) -> Process:
        asked = {
            "project": str(project.folder), "url": redis_url, "namespace": namespace, "views": views, "full": full,
            "after": after, "then": then, "lease_ms": lease_ms, "seconds": seconds,
        }  # fmt: skip
        process = Process(SCRIPT, json.dumps(asked))
        running.append(process)
        line = process.stdout.readline()
        assert line == f"{then}\n", process.communicate()
        return process

    yield call
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: Process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def state(client: redis.Redis, namespace: str) -> Callable[[], dict[str, Any]]:
    """All that a reader could see of the view `big`: rows without the name of their writer, and what is published."""

    def read() -> dict[str, Any]:
        keys = sorted(client.scan_iter(match=f"{namespace}:big:*", count=1000))
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        rows = dict(zip(keys, pipeline.execute(), strict=True))
        for row in rows.values():
            row.pop(b"_fs_writer")
        return {"rows": rows, "published": client.hget(f"{namespace}:registry", "big")}

    return read


def versions(state: dict[str, Any]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for row in state["rows"].values():
        assert row[b"version"] == row[b"same_version"]
        found[row[b"version"]] = found.get(row[b"version"], 0) + 1
    return found


def store_of(project: DbtProject, redis_url: str, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=redis_url, namespace=namespace)


LATER = {b"2": ROWS // 2}


def test_a_second_run_of_a_view_waits_for_the_first(
    before: DbtProject, after: DbtProject, start: Start, redis_url: str, namespace: str, state: Callable[[], Any]
) -> None:
    first = start(before, "sleep", seconds=1.5)
    began = time.monotonic()
    (second,) = store_of(after, redis_url, namespace).materialize(["big"], allow_shrink=True)
    assert time.monotonic() - began > 1
    code, out, err = ended(first)
    assert (code, json.loads(out), err) == (0, [ROWS], "")
    assert (second.error, second.rows_written, second.rows_deleted) == (None, ROWS // 2, ROWS // 2)
    assert versions(state()) == LATER


def settled(state: Callable[[], Any]) -> Any:
    """The state once Redis has done what a frozen run had sent before."""
    found = state()
    while time.sleep(0.3) or (now := state()) != found:
        found = now
    return found


def test_a_second_run_that_waited_long_enough_says_who_holds_the_view(
    before: DbtProject,
    start: Start,
    redis_url: str,
    namespace: str,
    state: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.4)
    first = start(before, "freeze", lease_ms=20_000)
    at_first = settled(state)
    with pytest.raises(MaterializationError, match=r"View .big. is being materialized by run .*: try again") as refusal:
        store_of(before, redis_url, namespace).materialize(["big"])
    assert f"-{first.pid}-" in str(refusal.value)
    assert state() == at_first
    os.kill(first.pid, signal.SIGCONT)
    assert ended(first)[0] == 0
    assert versions(state()) == {b"1": ROWS}


def test_runs_of_different_views_do_not_wait_for_each_other(
    before: DbtProject, start: Start, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    first = start(before, "freeze", lease_ms=20_000)
    began = time.monotonic()
    (small,) = store_of(before, redis_url, namespace).materialize(["small"])
    assert small.rows_written == 3 and time.monotonic() - began < 5
    os.kill(first.pid, signal.SIGCONT)
    assert ended(first)[0] == 0
    assert client.hkeys(f"{namespace}:registry") and set(client.hkeys(f"{namespace}:registry")) == {b"big", b"small"}


def test_runs_of_one_view_in_different_namespaces_do_not_wait_for_each_other(
    before: DbtProject, start: Start, redis_url: str, namespace: str
) -> None:
    first = start(before, "freeze", lease_ms=20_000)
    (elsewhere,) = store_of(before, redis_url, f"{namespace}.other").materialize(["big"])
    assert elsewhere.rows_written == ROWS
    first.kill()


def test_a_run_longer_than_its_lease_renews_it(before: DbtProject, start: Start, state: Callable[[], Any]) -> None:
    run = start(before, "sleep", lease_ms=900, seconds=2.5)
    code, out, _ = ended(run)
    assert (code, json.loads(out)) == (0, [ROWS])
    assert versions(state()) == {b"1": ROWS}


def test_a_run_frozen_past_its_lease_changes_nothing_when_it_wakes(
    before: DbtProject,
    after: DbtProject,
    start: Start,
    redis_url: str,
    namespace: str,
    state: Callable[[], Any],
    client: redis.Redis,
) -> None:
    frozen = start(before, "freeze")
    assert 0 < len(state()["rows"]) < ROWS
    store_of(after, redis_url, namespace).materialize(["big"])
    landed = state()
    assert versions(landed) == LATER and landed["published"]
    marker = client.get(f"{namespace}:_fs_marker:big")
    os.kill(frozen.pid, signal.SIGCONT)
    code, out, err = ended(frozen)
    assert (code, out) == (1, "")
    assert "lease" in err and "nothing more is sent" in err and "Traceback" not in err
    assert state() == landed
    assert client.get(f"{namespace}:_fs_marker:big") == marker
    assert store_of(after, redis_url, namespace).materialize(["big"])[0].rows_deleted == 0
    assert versions(state()) == LATER


def test_a_run_frozen_while_another_one_still_writes_changes_nothing_either(
    before: DbtProject, after: DbtProject, start: Start, state: Callable[[], Any], client: redis.Redis, namespace: str
) -> None:
    frozen = start(before, "freeze", after=2000)
    second = start(after, "freeze", after=1000, lease_ms=20_000)
    os.kill(frozen.pid, signal.SIGCONT)
    assert ended(frozen)[0] == 1
    assert client.get(f"{namespace}:_fs_lease:big") is not None, "the second one's lease is not the first one's to end"
    assert state()["published"] is None
    os.kill(second.pid, signal.SIGCONT)
    assert ended(second)[0] == 0
    assert versions(state()) == LATER


def test_a_run_frozen_past_its_lease_that_nobody_took_stops_and_can_be_run_again(
    before: DbtProject, start: Start, redis_url: str, namespace: str, state: Callable[[], Any]
) -> None:
    frozen = start(before, "freeze", lease_ms=700)
    time.sleep(1.0)
    at_first = settled(state)
    os.kill(frozen.pid, signal.SIGCONT)
    code, _, err = ended(frozen)
    assert code == 1 and "nothing more is sent" in err
    assert state() == at_first and at_first["published"] is None
    assert store_of(before, redis_url, namespace).materialize(["big"])[0].error is None
    assert versions(state()) == {b"1": ROWS}


def test_a_run_whose_lease_another_one_has_stops(
    before: DbtProject, start: Start, state: Callable[[], Any], client: redis.Redis, namespace: str
) -> None:
    run = start(before, "sleep", lease_ms=900, seconds=1.2)
    client.set(f"{namespace}:_fs_lease:big", "someone-else")
    code, out, err = ended(run)
    assert (code, out) == (1, "")
    assert "big: The lease on view 'big' was lost, so another run may be writing it: nothing more is sent." in err
    assert len(state()["rows"]) < ROWS and state()["published"] is None
    assert client.get(f"{namespace}:_fs_lease:big") == b"someone-else"
    client.delete(f"{namespace}:_fs_lease:big")


@pytest.mark.parametrize("at, full", [(500, False), (3000, True)])
def test_a_run_killed_anywhere_and_run_again_ends_in_the_same_state(
    before: DbtProject,
    start: Start,
    redis_url: str,
    namespace: str,
    state: Callable[[], Any],
    at: int,
    full: bool,
) -> None:
    def kill(project: DbtProject) -> None:
        killed = start(project, "die", after=at, lease_ms=500, full=full)
        assert ended(killed)[0] == -signal.SIGKILL

    kill(before)
    assert state()["published"] is None and versions(state()).keys() == {b"1"}
    store_of(before, redis_url, namespace).materialize(["big"], full=full)
    assert versions(state()) == {b"1": ROWS}
    rows = state()["rows"]

    # The same project, built anew over later rows.
    change_warehouse(before, "update big set version = 2, same_version = 2 where id % 2 = 0")
    if full or at < ROWS // 2:
        kill(before)
        assert set(versions(state())) == {b"1", b"2"}
    # And back to the older state, with no complete run in between.
    change_warehouse(before, "update big set version = 1, same_version = 1")
    store_of(before, redis_url, namespace).materialize(["big"], full=full)
    assert state()["rows"] == rows


def test_nobody_reads_half_a_row(before: DbtProject, after: DbtProject, redis_url: str, namespace: str) -> None:
    stores = [store_of(project, redis_url, namespace) for project in (before, after)]
    stores[0].materialize(["big"])
    reader = FeatureStore(redis_url=redis_url, namespace=namespace)
    done = threading.Event()
    seen: set[tuple[Any, Any]] = set()

    def read() -> None:
        rows = [{"id": number} for number in range(0, ROWS, 20)]
        while not done.is_set():
            answer = reader.get_online_features(["big:version", "big:same_version"], rows).to_dict()
            seen.update(zip(answer["version"], answer["same_version"], strict=True))

    thread = threading.Thread(target=read)
    thread.start()
    for store in (stores[1], stores[0], stores[1]):
        store.materialize(["big"], full=True, allow_shrink=True)
    done.set()
    thread.join()
    assert {(1, 1), (2, 2)} <= seen and seen <= {(1, 1), (2, 2), (None, None)}


# In another's name, as Spark's executors write.


def test_who_writes_in_anothers_name_asks_for_its_deadline(
    client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "ASKED_EVERY_SECONDS", 0.0)
    with lease.Lease(client, namespace, "big", "first") as own:
        theirs = lease.LeaseOfAnother(client, namespace, "big", "first")
        seconds, microseconds = client.time()
        now = seconds * 1000 + microseconds // 1000
        assert now < theirs.deadline() <= own.deadline() + 5 < now + lease.LENGTH_MS
        with pytest.raises(LeaseLostError, match="another run may be writing"):
            lease.LeaseOfAnother(client, namespace, "big", "second").deadline()
    with pytest.raises(LeaseLostError, match="another run may be writing"):
        theirs.deadline()


def test_a_lease_in_whose_name_others_write_runs_out_by_itself(
    client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its run fails: nobody can tell which of them still writes."""
    monkeypatch.setattr(lease, "LENGTH_MS", 1_000)
    with pytest.raises(KeyError), lease.Lease(client, namespace, "big", "first") as own:
        own.let_run_out()
        raise KeyError
    assert 0 < client.pttl(f"{namespace}:_fs_lease:big") <= 1_000
    started = time.monotonic()
    with lease.Lease(client, namespace, "big", "second"):
        assert 0.3 < time.monotonic() - started < 5
    assert not client.exists(f"{namespace}:_fs_lease:big")
