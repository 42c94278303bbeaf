"""What the materializer remembers, kept on object storage: shared by whoever runs, lost without harm, and whatever is
killed between two of its requests, the next run ends in the same state as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from materializer import FeatureStore
from materializer.catalog.doctor import doctor
from materializer.materialize import log
from materializer.materialize.log import append_log, read_log
from materializer.materialize.memory import Memory
from materializer.materialize.plan import ViewResult
from materializer.materialize.remote_memory import opened
from materializer.materialize.state import state_folder
from materializer.project.settings import load_project
from materializer.project.storage import Remote, place
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.faults import PROGRAM, Readings, difference, ended, new_project, online, oracle
from tests.support.forked import Process
from tests.support.object_storage import SECRET, Bucket, ObjectStorage, server

_buckets = (f"bucket-{number}" for number in itertools.count(1))
ROWS = 300
SHORT_LEASE_MS = 1_000


@pytest.fixture(scope="module")
def storage() -> Iterator[ObjectStorage]:
    with server() as storage:
        yield storage


@pytest.fixture
def bucket(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Where runs are remembered, under ``state/``."""
    bucket = storage.bucket(next(_buckets))
    monkeypatch.setenv("FEATURE_STORE_STATE", bucket.url("state/"))
    return bucket


def with_filesystem(project: DbtProject, filesystem: dict[str, Any]) -> DbtProject:
    path = project.folder / "profiles.yml"
    profile = yaml.safe_load(path.read_text())
    profile["shop"]["outputs"]["dev"]["filesystems"] = [filesystem]
    path.write_text(yaml.safe_dump(profile))
    return project


@pytest.fixture
def project(tmp_path: Path, storage: ObjectStorage) -> DbtProject:
    project = with_filesystem(new_project(tmp_path / "shop"), storage.filesystem)
    Readings(project, ROWS).become(1)
    return project


@pytest.fixture
def materialize(project: DbtProject, redis_url: str, namespace: str) -> Callable[..., ViewResult]:
    def call(*views: str, of: DbtProject = project, **options: Any) -> ViewResult:
        store = FeatureStore(of.folder, redis_url=redis_url, namespace=namespace)
        return store.materialize(list(views or ("readings",)), **options)[-1]

    return call


def sentence(result: ViewResult) -> str:
    (warning,) = result.warnings
    assert SECRET not in warning and "Traceback" not in warning and "\n" not in warning
    return warning


# As in a folder.


def test_a_run_sends_what_has_changed_since_the_last_one_wherever_that_ran(
    project: DbtProject, bucket: Bucket, client: redis.Redis, namespace: str, materialize: Callable[..., ViewResult],
    tmp_path: Path,
) -> None:  # fmt: skip
    first = materialize()
    assert (first.rows_written, first.warnings) == (len(oracle(project, namespace)), ())
    (sent,) = [key for key in bucket.stored(f"state/{namespace}/readings/") if key.endswith(".parquet")]
    assert bucket.stored(f"state/{namespace}/readings/") == [f"state/{namespace}/readings/memory.json", sent]
    assert materialize().why == "0 new, 0 changed, 0 gone"

    elsewhere = with_filesystem(new_project(tmp_path / "elsewhere" / "shop"), bucket.storage.filesystem)
    elsewhere.warehouse.write_bytes(project.warehouse.read_bytes())
    Readings(elsewhere, ROWS).become(2)
    result = materialize(of=elsewhere)
    assert 0 < result.rows_written < first.rows_written and result.why.endswith("gone"), result.why
    assert difference(online(client, namespace), oracle(elsewhere, namespace)) == 0
    assert len(bucket.stored(f"state/{namespace}/readings/")) == 2, "files of the runs before are gone"
    assert not list(tmp_path.rglob("*.feature_store"))


@pytest.mark.parametrize("lost", ["head", "rows", "all", "garbage", "cut short"])
def test_memory_that_is_lost_costs_a_full_run(
    project: DbtProject, bucket: Bucket, client: redis.Redis, namespace: str, materialize: Callable[..., ViewResult],
    lost: str,
) -> None:  # fmt: skip
    materialize()
    Readings(project, ROWS).become(2)
    head, rows = bucket.stored(f"state/{namespace}/readings/")
    for key in {"head": [head], "rows": [rows], "all": [head, rows]}.get(lost, []):
        bucket.delete(key)
    if lost == "garbage":
        bucket.put(head, b"{")
    if lost == "cut short":
        bucket.put(rows, bucket.get(rows)[:-100])
    result = materialize()
    assert result.why.startswith("every row: ") and not result.warnings
    assert difference(online(client, namespace), oracle(project, namespace)) == 0
    assert materialize().rows_written == 0


def test_memory_of_an_earlier_day_is_not_believed(
    project: DbtProject, bucket: Bucket, client: redis.Redis, namespace: str, materialize: Callable[..., ViewResult]
) -> None:  # fmt: skip
    materialize()
    before = {key: bucket.get(key) for key in bucket.stored(f"state/{namespace}/readings/")}
    Readings(project, ROWS).become(2)
    materialize()
    for key, content in before.items():
        bucket.put(key, content)
    Readings(project, ROWS).become(1)
    assert materialize().why == "every row: Redis does not hold what the last run remembered here left there"
    assert difference(online(client, namespace), oracle(project, namespace)) == 0


@pytest.mark.parametrize("name", ["a/b", "..", "größe %41", "x?y#z*[1]", "log.jsonl", "n" * 300])
def test_a_namespace_of_any_name_has_a_place_of_its_own(project: DbtProject, bucket: Bucket, name: str) -> None:
    state = state_folder(load_project(project.folder))
    memory = Memory("r", None, True, "f", "sent-r.parquet", (), 0, ())
    with opened(state, name, name) as kept:
        kept.path("sent-r.parquet").write_bytes(b"rows")
        kept.save(memory)
    with opened(state, name, name) as kept:
        assert (kept.load(), kept.path("sent-r.parquet").read_bytes()) == (memory, b"rows")
    append_log(state, name, ENTRY)
    assert read_log(state, name) == [ENTRY]
    assert all(key.count("/") == 3 and key.startswith("state/") for key in bucket.stored())


def test_a_dry_run_writes_nothing_there(bucket: Bucket, materialize: Callable[..., ViewResult]) -> None:
    materialize(dry_run=True)
    assert bucket.stored() == []
    materialize()
    before = bucket.stored()
    assert materialize(dry_run=True).why == "0 new, 0 changed, 0 gone"
    assert bucket.stored() == before


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_any_protocol_of_fsspecs_will_do(
    project: DbtProject, monkeypatch: pytest.MonkeyPatch, materialize: Callable[..., ViewResult], tmp_path: Path,
    kind: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("FEATURE_STORE_STATE", f"{kind}://{tmp_path}/a%20state" if kind == "file" else "memory://state")
    assert materialize().why.startswith("every row: ")
    assert materialize().why == "0 new, 0 changed, 0 gone"
    assert (tmp_path / "a state").is_dir() == (kind == "file")


# Storage that is not there.


@pytest.mark.parametrize("trouble", ["away", "no bucket", "refused", "no driver"])
def test_a_run_goes_on_without_memory_and_says_why(
    project: DbtProject, bucket: Bucket, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, client: redis.Redis,
    namespace: str, redis_url: str, materialize: Callable[..., ViewResult], trouble: str,
) -> None:  # fmt: skip
    materialize()
    if trouble == "away":
        with_filesystem(project, storage.away)
    if trouble == "no bucket":
        monkeypatch.setenv("FEATURE_STORE_STATE", "s3://not-there/state")
    if trouble == "no driver":
        monkeypatch.setenv("FEATURE_STORE_STATE", "abfs://box@account/state")
    if trouble == "refused":
        storage.refuse(True)
    said = {
        "away": "the storage cannot be reached (EndpointConnectionError)",
        "no bucket": "there is no bucket 'not-there'",
        "refused": "access is refused",
        "no driver": "a driver for abfs:// is not installed",
    }[trouble]
    Readings(project, ROWS).become(2)
    result = materialize()
    assert said in sentence(result) and "every run sends all rows" in sentence(result)
    assert difference(online(client, namespace), oracle(project, namespace)) == 0
    (check,) = [
        one for one in doctor(lambda: load_project(project.folder), redis_url, namespace) if one.check == "memory"
    ]
    assert check.warning and said in check.message and SECRET not in check.message
    # Once it is back, what it remembers is not believed: a run went by unseen.
    with_filesystem(project, storage.filesystem)
    monkeypatch.setenv("FEATURE_STORE_STATE", bucket.url("state"))
    if trouble == "refused":
        storage.refuse(False)
    assert materialize().why == "every row: Redis does not hold what the last run remembered here left there"
    assert materialize().rows_written == 0


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_storage_that_goes_away_in_the_middle_of_a_run_stops_nobody(
    project: DbtProject, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, client: redis.Redis, namespace: str,
    materialize: Callable[..., ViewResult], every: int,
) -> None:  # fmt: skip
    """After each number of requests, or one in three: nothing it left there leads a later run astray."""
    do = Remote._do
    for state, allowed in enumerate(itertools.count(1, every), 2):
        Readings(project, ROWS).become(state)
        asked = itertools.count()

        def fail(self: Remote, work: Any, asked: Any = asked, allowed: int = allowed) -> Any:
            if next(asked) >= allowed:
                raise OSError(113, "the storage cannot be reached")
            return do(self, work)

        monkeypatch.setattr(Remote, "_do", fail)
        result = materialize()
        monkeypatch.setattr(Remote, "_do", do)
        assert result.error is None and (not result.warnings or "cannot be reached" in sentence(result))
        assert difference(online(client, namespace), oracle(project, namespace)) == 0
        Readings(project, ROWS).become(state - 1)
        assert materialize().error is None
        assert difference(online(client, namespace), oracle(project, namespace)) == 0
        assert materialize().rows_written == 0
        if next(asked) <= allowed:  # it was not disturbed any more
            break
    assert allowed >= 10 - every


# Killed.


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_between_any_two_of_its_requests_the_next_run_ends_as_if_nothing_had_happened(
    project: DbtProject, bucket: Bucket, client: redis.Redis, redis_url: str, namespace: str,
    materialize: Callable[..., ViewResult], every: int,
) -> None:  # fmt: skip
    """Each request of a run that changes rows, or one in three, is reached once; the warehouse has moved on, or back, by
    the next run."""
    materialize()
    state, killed, heads = 1, 0, set()
    for number in itertools.count(every // 2, every):
        state += 1
        Readings(project, ROWS).become(state)
        process = kill_before_request(number, project, redis_url, namespace)
        ran = ended(process)
        if ran.code == 0:
            break
        assert ran.code == -signal.SIGKILL, ran.err
        killed += 1
        head = json.loads(bucket.get(f"state/{namespace}/readings/memory.json"))
        heads.add((head["finished"], bool(head["pending"])))
        state += (-1, 0, 1)[killed % 3]
        Readings(project, ROWS).become(state)
        assert materialize().error is None
        assert difference(online(client, namespace), oracle(project, namespace)) == 0
        assert materialize().rows_written == 0
    assert killed >= 10 // every and heads == {(True, False), (False, True)}
    leftovers = [key for key in bucket.stored(f"state/{namespace}/readings/") if key.endswith(".parquet")]
    assert len(leftovers) == 1, "what killed runs uploaded is gone"


def kill_before_request(number: int, project: DbtProject, url: str, namespace: str) -> Process:
    """``materialize`` as a process that is killed -9 right before one of its requests to the storage."""
    program = f"""
import itertools, os, signal
from materializer.project.storage import Remote
do, asked = Remote._do, itertools.count()
def killed(self, work):
    if next(asked) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return do(self, work)
Remote._do = killed
{PROGRAM}"""
    where = ["--project-dir", str(project.folder), "--redis-url", url, "--namespace", namespace]
    return Process(program, str(SHORT_LEASE_MS), "readings", *where)


# The log.

ENTRY = {"at": "2026-01-01T00:00:00+00:00", "view": "readings", "error": None, "rows_written": 1}


def test_the_log_of_runs_is_there_for_whoever_asks(
    project: DbtProject, bucket: Bucket, redis_url: str, namespace: str, materialize: Callable[..., ViewResult]
) -> None:
    materialize()
    materialize()
    where = ("--project-dir", str(project.folder), "--namespace", namespace)
    doctors = run("feature-store", "doctor", *where, "--redis-url", redis_url)
    assert f"runs are remembered in {bucket.url('state')} (by FEATURE_STORE_STATE)" in doctors.out
    assert "0 written" in doctors.out
    fresh = run(
        "feature-store", "freshness", "readings", *where, "--redis-url", "redis://127.0.0.1:1", "--output", "json"
    )
    (view,) = fresh.json["views"]
    assert view["last_materialized"] is not None, "Redis is away: the log alone knows"
    entries = read_log(state_folder(load_project(project.folder)), namespace)
    assert [entry["rows_written"] for entry in entries] == [len(oracle(project, namespace)), 0]


def test_lines_of_runs_that_end_at_once_are_all_kept(
    project: DbtProject, bucket: Bucket, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while those of before are folded, by several at a time."""
    monkeypatch.setattr(log, "FOLD_FROM", 6)
    state = state_folder(load_project(project.folder))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: append_log(state, namespace, ENTRY | {"rows_written": number}), range(30)))
    found = read_log(state, namespace)
    assert sorted(entry["rows_written"] for entry in found) == list(range(30))
    folder = state / namespace / "log.jsonl"
    assert any(name.startswith("runs-") for name in folder.names()) and len(folder.names()) < 30


def test_the_log_is_in_order_whoever_wrote_it(project: DbtProject, bucket: Bucket, namespace: str) -> None:
    state = state_folder(load_project(project.folder))
    moments = ["2026-01-01T00:00:02", "2026-01-01T00:00:01", "2026-01-01T00:00:03"]
    for moment in moments:
        append_log(state, namespace, ENTRY | {"at": f"{moment}+00:00"})
    bucket.put(f"state/{namespace}/log.jsonl/run-x.jsonl", b'{"half a li')
    assert [entry["at"] for entry in read_log(state, namespace)] == [f"{moment}+00:00" for moment in sorted(moments)]


def test_a_secret_in_the_setting_is_never_shown(monkeypatch: pytest.MonkeyPatch, project: DbtProject) -> None:
    where = place(f"sftp://me:{SECRET}@127.0.0.1/state", {})
    assert str(where / "x") == "sftp://127.0.0.1/state/x" and SECRET not in repr(where)
    monkeypatch.setenv("FEATURE_STORE_STATE", f"sftp://me:{SECRET}@127.0.0.1/state")
    assert str(state_folder(load_project(project.folder))) == "sftp://127.0.0.1/state"
