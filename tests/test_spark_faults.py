"""What executors write is what one process writes. Then the core of the fault matrix with Spark as the warehouse, with rows written
by one process and by Spark's executors: whatever is killed or lost in the middle of a run, nobody reads a wrong row, and the next run
ends in the same state as if nothing had happened.

A DuckDB file beside the project holds the same rows, for the oracle.
"""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from materializer import FeatureStore, MaterializationError
from materializer.materialize import executors
from materializer.online import lease
from materializer.online.urls import public_name
from materializer.warehouse import spark
from tests.support import kinds
from tests.support import spark as servers
from tests.support.command import assert_one_sentence
from tests.support.faults import (
    NAMESPACE,
    VIEWS,
    Readings,
    Server,
    difference,
    ended,
    materialize,
    new_project,
    online,
    oracle,
    start_materialize,
    unfinished,
)
from tests.support.forked import Process
from tests.support.spark_cluster import until
from tests.test_faults import SHORT_LEASE_MS, World, kill_at_random_moments

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

ROWS = 6_000
# Spark has no times of day, and JSON, UUIDs and bytes are text there or nothing.
FEATURES = ("amount", "ratio", "quantity", "price", "label", "paid", "day", "naive", "marks", "vector")
COLUMNS = kinds.KEYS | {name: kinds.FEATURES[name] for name in FEATURES}
USER, PASSWORD = "writer", "in-no-log-of-anyones"


@dataclass
class SparkReadings(Readings):
    """Readings in both warehouses."""

    session: Any = None

    def become(self, state: int) -> None:
        super().become(state)
        with duckdb.connect(str(self.project.warehouse), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            rows = connection.execute(f"select * from {self.view}").to_arrow_table()
        self.session.createDataFrame(rows).createOrReplaceTempView("given")
        self.session.sql(f"drop table if exists main.{self.view}")
        self.session.sql(f"create table main.{self.view} as select /*+ repartition(4) */ * from given")


@dataclass(frozen=True)
class SparkWorld(World):
    """A world whose runs write from executors, or not."""

    flags: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, bool]:
        return {"from_executors": True} if self.flags else {}

    def run(self) -> int:
        return materialize(self.project, self.server.url, **self.options).rows_written

    def start(self, *args: str, **options: int) -> Process:
        return start_materialize(self.project, with_password(self.server.proxy.url), "readings", *self.flags, **options)

    def check(self) -> None:
        assert difference(online(self.client, NAMESPACE), oracle(self.project, NAMESPACE)) == 0
        result = materialize(self.project, self.server.url)  # whichever way the last run went
        assert (result.rows_written, result.rows_deleted) == (0, 0), result.why
        assert unfinished(self.project, self.client) is None


def with_password(url: str) -> str:
    return url.replace("redis://", f"redis://{USER}:{PASSWORD}@") + "?socket_timeout=3"


def let_in(server: Server) -> None:
    """Who comes with the password: its file does not say it to a server that is started again."""
    server.client.acl_setuser(USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], categories=["+@all"])


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spark's log, and what it shows in its pages, as the events that it keeps for them."""
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def running(logs: Path, server: Server) -> Iterator[servers.Spark]:
    if why := servers.missing():
        pytest.skip(why)
    settings = {
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": logs.as_uri(), "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
        # What a killed client left is logged after these, not after seven minutes.
        "spark.connect.execute.reattachable.senderMaxStreamDuration": "15s",
        "spark.connect.execute.manager.detachedTimeout": "15s", "spark.connect.execute.manager.maintenanceInterval": "2s",
    }  # fmt: skip
    with servers.spark(settings, logs / "log", with_password(server.proxy.url)) as server_of_sparks:
        server_of_sparks.session.sql("create schema main")
        yield server_of_sparks


@pytest.fixture
def kinds_on_spark(
    tmp_path: Path, server: Server, running: servers.Spark, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, servers.Spark]:
    """A project whose view is a table of every kind of column."""
    let_in(server)
    monkeypatch.setenv("SPARK_REMOTE", running.url)
    return servers.hand_made(tmp_path / "kinds", {"kinds": kinds.VIEW}), running


# What the view holds from run to run: corrections, entities that are gone and come back, moments that cannot be stated online.
STATES = (
    "select * from {first}",
    "select * from {second} union all select * from {first} where user_id = 5",
    f"select {', '.join(COLUMNS)} from (select * except (naive), case when user_id = 4 then timestamp_ntz'+12000-01-01 00:00:00' "
    "else naive end as naive from {second}) where user_id <> 2",
    "select * from {first} where shop <> 'a' or shop is null",
)


def test_executors_write_what_one_process_writes(kinds_on_spark: tuple[Path, servers.Spark], server: Server) -> None:
    """Byte for byte, with the same counts, over changes, removals, corrections, what a push wrote and what is no row; and what the
    one remembers is what the other does."""
    project, remote = kinds_on_spark
    first = kinds.drawn(1, 200, FEATURES)
    remote.create("first", COLUMNS, [*first, first[0] | {"shop": None}])
    remote.create("second", COLUMNS, kinds.drawn(2, 150, FEATURES))
    spaces = ("spark.process", "spark.executors")
    seen = []
    for number, state in enumerate(STATES):
        remote.session.sql("drop table if exists main.kinds")
        remote.session.sql(f"create table main.kinds as {state.format(first='public.first', second='public.second')}")
        said = []
        for place, namespace in enumerate(spaces):
            if number == 1:  # newer than all that is to come, and something that is no hash
                pushed = {"_fs_writer": "push:1", "_fs_event": "2030-01-01T00:00:00.000000Z", "quantity": "8"}
                server.client.hset(f"{namespace}:kinds:1:a", mapping=pushed)
                server.client.delete(f"{namespace}:kinds:1:É")
                server.client.set(f"{namespace}:kinds:1:É", "no row")
            store = FeatureStore(project, redis_url=server.url, namespace=namespace)
            options = {"from_executors": True} if place else {}
            try:
                (result,) = store.materialize(**options, allow_shrink=True)
            except MaterializationError as error:
                (result,) = error.results
            said.append(replace(result, run_id="", seconds=0.0))
        assert said[0] == said[1]
        one, other = (kinds.online(server.client, namespace) for namespace in spaces)
        assert one == other and len(one) > 5
        seen.append(said[1])
    written, deleted = ([getattr(one, name) for one in seen] for name in ("rows_written", "rows_deleted"))
    assert written[0] == 18 and all(0 < count < 18 for count in written[1:]), seen
    assert deleted[:2] == [0, 0] and deleted[2] > 0 and deleted[3] > 0, seen
    assert not any("every row" in one.why for one in seen[1:]), seen
    assert "1 rows of 'kinds' have a NULL join key" in str(seen[0].warnings)
    assert "were not hashes" in str(seen[1].warnings) and "12000" not in str(seen)
    assert "cannot be stated online" in seen[2].error
    # What the one wrote is nothing new to the other.
    for namespace, options in zip(spaces, ({"from_executors": True}, {}), strict=True):
        store = FeatureStore(project, redis_url=server.url, namespace=namespace)
        (result,) = store.materialize(**options)
        assert (result.rows_written, result.why) == (0, "0 new, 0 changed, 0 gone")


def test_rows_that_fall_due_are_written_by_one_process_and_by_executors_again_once_none_does(
    kinds_on_spark: tuple[Path, servers.Spark], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in Redis is the same either way, whoever wrote it before."""
    project, remote = kinds_on_spark
    snapshots = []
    take = executors.take_snapshot
    monkeypatch.setattr(executors, "take_snapshot", lambda *given: snapshots.append(1) or take(*given))
    first, ahead = kinds.drawn(1, 200, FEATURES), datetime.now(timezone.utc) + timedelta(minutes=30)
    coming = [{"user_id": 1, "shop": "a", "happened_at": ahead}, {"user_id": 77, "shop": "É", "happened_at": ahead}]
    remote.create("settled", COLUMNS, first)
    remote.create("coming", COLUMNS, [*first, *(first[0] | row for row in coming)])
    said = []
    for table in ("settled", "coming", "settled"):
        remote.session.sql("drop table if exists main.kinds")
        remote.session.sql(f"create table main.kinds as select * from public.{table}")
        for namespace, options in (("due.process", {}), ("due.executors", {"from_executors": True})):
            store = FeatureStore(project, redis_url=server.url, namespace=namespace)
            (result,) = store.materialize(**options)
            said.append((len(snapshots), result.rows_written, result.rows_deleted))
        one, other = (kinds.online(server.client, namespace) for namespace in ("due.process", "due.executors"))
        assert one == other and any(b"_fs_due" in row for row in other.values()) == (table == "coming")
    assert said == [(0, 18, 0), (1, 18, 0), (1, 2, 0), (1, 2, 0), (1, 1, 1), (2, 1, 1)]


@pytest.fixture(params=["one process", "executors"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server, running: servers.Spark, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SparkWorld]:  # fmt: skip
    monkeypatch.setattr(lease, "LENGTH_MS", 3_000)
    flags = ("--from-executors",) if request.param == "executors" else ()
    yield begun(tmp_path / "shop", server, running, monkeypatch, flags)


def begun(
    folder: Path, server: Server, running: servers.Spark, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> SparkWorld:
    """State 1 is online."""
    server.proxy.mend()
    server.client.flushall()
    server.whole = True
    let_in(server)
    monkeypatch.setenv("SPARK_REMOTE", running.url)
    project = new_project(folder)
    # Where rows fall due, as in these, no executor writes.
    servers.hand_made(folder, VIEWS | {"readings": VIEWS["readings"] | ({"ahead": 0} if flags else {})})
    monkeypatch.setenv("FEATURE_STORE_STATE", f"{project.warehouse}.feature_store")
    readings = SparkReadings(project, ROWS, session=running.session)
    readings.become(1)
    before = server.proxy.sent
    options = {"from_executors": True} if flags else {}
    assert materialize(project, with_password(server.proxy.url), **options).rows_written > ROWS / 2
    return SparkWorld(project, server, readings, server.proxy.sent - before, flags)


def test_killed_at_random_moments_and_run_again_it_ends_in_the_same_state(
    world: SparkWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """An executor whose driver was killed goes on for as long as the lease lasts, and no longer."""
    world.server.proxy.delay = 0.02
    told = kill_at_random_moments(world, 1, seed=12)
    with capsys.disabled():
        print(f"\n[faults] kill -9 of a run that reads Spark{' and writes from it' * bool(world.flags)}: {told}")


@pytest.mark.soak
def test_killed_at_many_random_moments_and_run_again_it_ends_in_the_same_state(
    world: SparkWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.proxy.delay = 0.02
    told = kill_at_random_moments(world, 6, seed=13)
    with capsys.disabled():
        print(f"\n[faults] kill -9 of a run that reads Spark{' and writes from it' * bool(world.flags)}: {told}")


# Where one process writes, `tests/test_faults.py` shows the same in minutes less.
@pytest.mark.parametrize("world", [pytest.param("one process", marks=pytest.mark.soak), "executors"], indirect=True)
def test_redis_killed_half_way_and_started_again(world: SparkWorld) -> None:
    world.readings.become(2)
    process = world.start(lease_ms=SHORT_LEASE_MS)
    world.after(0.4, world.server.kill)
    ran = ended(process)
    assert (ran.code, "Traceback" in ran.err) == (1, False), ran
    assert "cannot be reached" in ran.err and PASSWORD not in ran.err
    assert_one_sentence(ran.err[ran.err.index("Error: ") :])
    world.server.proxy.mend()
    world.server.start()
    let_in(world.server)
    with world.watcher():
        world.run()
    world.check()


@pytest.mark.parametrize("world", ["executors"], indirect=True)
def test_executors_of_a_run_that_lost_its_lease_change_nothing_any_more(world: SparkWorld) -> None:
    world.readings.become(2)
    moving = difference(online(world.client, NAMESPACE), oracle(world.project, NAMESPACE))
    key = f"{NAMESPACE}:_fs_lease:readings"
    process = world.start(lease_ms=3_000)
    world.server.proxy.delay = 0.15  # so that sending takes longer than what it was allowed before
    world.after(0.3, lambda: world.client.set(key, "another", px=30_000))
    ran = ended(process)
    written = online(world.client, NAMESPACE)
    assert ran.code == 1 and "so another run may be writing" in ran.err, ran
    assert 0 < difference(written, oracle(world.project, NAMESPACE)) < moving  # in the middle
    time.sleep(3)
    assert difference(online(world.client, NAMESPACE), written) == 0
    world.client.delete(key)
    world.server.proxy.mend()
    world.run()
    world.check()


@pytest.mark.parametrize("world", ["executors"], indirect=True)
def test_a_redis_that_is_another_one_for_the_executors_is_a_sentence(
    world: SparkWorld, redis_url: str, client: redis.Redis
) -> None:
    """As localhost is on a cluster. Neither server has a row of such a run."""
    world.readings.become(2)
    before = online(world.client, NAMESPACE)
    with pytest.raises(MaterializationError) as failed:
        materialize(world.project, redis_url, from_executors=True)
    assert failed.value.results[0].error == (
        f"By FEATURE_STORE_REDIS_URL of Spark's executors: Redis at {public_name(world.server.proxy.url)} does not know this run: "
        "name the server that this run writes to."
    )
    assert difference(online(world.client, NAMESPACE), before) == 0
    assert not online(client, NAMESPACE) and not client.exists(f"{NAMESPACE}:_fs_registry")
    world.client.acl_setuser(USER, enabled=True, reset_passwords=True, passwords=["+another"])
    with pytest.raises(MaterializationError) as failed:
        world.run()
    said = failed.value.results[0].error
    assert (
        said.startswith("By FEATURE_STORE_REDIS_URL of Spark's executors: Redis at")
        and "refused the user or password" in said
    )
    assert difference(online(world.client, NAMESPACE), before) == 0
    let_in(world.server)
    assert world.run() > ROWS / 4
    world.check()


@pytest.mark.parametrize("world", ["executors"], indirect=True)
def test_neither_plans_nor_logs_of_sparks_have_the_password(
    world: SparkWorld, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run that ended well, and after one that was killed, whose whole request a Connect server logs."""
    plans = []
    arriving = spark._arriving
    monkeypatch.setattr(
        spark,
        "_arriving",
        lambda session, frame: (
            plans.append(frame._plan.to_proto(session.client).SerializeToString()) or arriving(session, frame)
        ),
    )
    world.readings.become(2)
    materialize(world.project, with_password(world.server.proxy.url), from_executors=True)
    assert any(b"materializer.materialize.executors" in plan for plan in plans)
    log, abandoned = logs / "log", b"that was abandoned and expired"
    before = log.read_bytes().count(abandoned)
    world.readings.become(3)
    process = world.start(lease_ms=SHORT_LEASE_MS)
    world.after(0.3, process.kill)
    assert ended(process).code == -signal.SIGKILL and unfinished(world.project, world.client)
    until(lambda: log.read_bytes().count(abandoned) > before, "the server did not log what a killed client left")
    written = {path.name: path.read_bytes() for path in logs.iterdir()}
    assert len(written) == 2 and b"materializer.materialize.executors" in written.pop("log")
    assert all(b"MapInArrow" in content for content in written.values())
    forms = [PASSWORD.encode(), PASSWORD.encode().hex().encode()]
    forms += [base64.b64encode(b"x" * shift + PASSWORD.encode())[4:-4] for shift in range(3)]
    read = [*plans, log.read_bytes(), *written.values()]
    assert not [form for content in read for form in forms if form in content]


@pytest.mark.parametrize("world", ["one process"], indirect=True)
def test_spark_killed_while_it_is_read_is_one_sentence(world: SparkWorld, running: servers.Spark) -> None:
    """Last in this file: Spark is gone then."""
    running.session.sql("drop table main.readings")
    running.session.sql(
        "create view main.readings as select id as user_id, timestamp'2026-01-01' as event_timestamp, timestamp'2026-01-01' as created_at, "
        "id + (select count(*) from range(1000000) as a join range(10000000) as b on a.id * b.id % 7 = 3) as value, id as twice, 'ours' as tenant "
        "from range(2)"
    )
    process = start_materialize(world.project, world.server.url, "readings", *world.flags)
    time.sleep(12)
    assert process.poll() is None, ended(process)
    os.killpg(running.process.pid, signal.SIGKILL)
    ran = ended(process)
    assert ran.code == 1 and "Spark" in ran.err, ran
    assert_one_sentence(ran.err[ran.err.index("Error: ") :])
