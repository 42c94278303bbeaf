"""Whatever is killed, frozen, cut or filled up in the middle of a run: nobody reads a wrong row, and the next run ends
in the same state as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from materializer import FeatureStore, MaterializationError
from materializer.online import lease
from tests.support.dbt import DbtProject
from tests.support.faults import (
    NAMESPACE,
    Readings,
    Server,
    Watcher,
    difference,
    ended,
    materialize,
    new_project,
    online,
    oracle,
    rows_of_run,
    sql,
    start_materialize,
    unfinished,
)
from tests.support.forked import Process

ROWS = 6_000
SHORT_LEASE_MS = 1_500
OTHER_NAMESPACE = "faults.other"


@dataclass(frozen=True)
class World:
    """A project, a server behind a proxy, and another namespace on it that nothing may touch."""

    project: DbtProject
    server: Server
    readings: Readings
    bytes_of_all: int  # what a full run sends

    @property
    def client(self) -> redis.Redis:
        return self.server.client

    def watcher(self) -> Watcher:
        return Watcher(self.server.url, self.readings)

    def run(self) -> int:
        """A run that nothing disturbs; the rows it wrote."""
        return materialize(self.project, self.server.url).rows_written

    def start(self, *args: str, **options: int) -> Process:
        """A run as a process, through the proxy."""
        return start_materialize(self.project, f"{self.server.proxy.url}?socket_timeout=3", *args, **options)

    def after(self, share: float, action: Callable[[], None]) -> None:
        """Call `action` once about this share of a full run's bytes went through the proxy."""
        self.server.proxy.after(int(share * self.bytes_of_all), action)

    def check(self) -> None:
        """Online stands what the warehouse says, and the next run finds nothing to do."""
        assert difference(online(self.client, NAMESPACE), oracle(self.project, NAMESPACE)) == 0
        result = materialize(self.project, self.server.url)
        assert (result.rows_written, result.rows_deleted) == (0, 0), result.why
        assert unfinished(self.project, self.client) is None


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lost its last second remembers leases that were given back: nobody waits long for those."""
    monkeypatch.setattr(lease, "LENGTH_MS", 3_000)


@pytest.fixture
def world(tmp_path: Path, server: Server) -> Iterator[World]:
    """State 1 is online, and another namespace holds the same entities with other values."""
    server.proxy.mend()
    server.client.flushall()
    server.whole = True
    project = new_project(tmp_path / "shop")
    stranger = Readings(project, 500, tenant="theirs")
    stranger.become(1)
    materialize(project, server.url, namespace=OTHER_NAMESPACE)
    theirs = online(server.client, OTHER_NAMESPACE)
    readings = Readings(project, ROWS)
    readings.become(1)
    before = server.proxy.sent
    materialize(project, server.proxy.url)
    yield World(project, server, readings, server.proxy.sent - before)
    found = online(server.client, OTHER_NAMESPACE)
    assert difference(found, theirs) == 0 or (not found and not server.whole)


# Killed.


def kill_at_random_moments(world: World, wanted: int, seed: int) -> str:
    """Kill runs until `wanted` of them had written some but not all of their rows; the warehouse moves in between."""
    draw = random.Random(seed)
    state, tried, counted, older = 1, 0, 0, 0
    with world.watcher() as watcher:
        while counted < wanted:
            tried += 1
            assert tried <= 3 * wanted + 5, "too few kills hit a run in the middle"
            before = state
            state = draw.choice([state, state + 1, state + 1, state + 2, max(1, state - 1)])
            world.readings.become(state)
            moving = difference(online(world.client, NAMESPACE), oracle(world.project, NAMESPACE)) / world.readings.rows
            process = world.start(lease_ms=SHORT_LEASE_MS)
            host_dies = draw.random() < 0.7

            def kill(process: Process = process, host_dies: bool = host_dies) -> None:
                process.kill()
                if host_dies:  # then what it had sent but the network not delivered is lost too
                    world.server.proxy.cut()

            world.after(draw.uniform(0, max(moving, 0.05)), kill)
            ran = ended(process)
            stopped = unfinished(world.project, world.client)
            if ran.code == -signal.SIGKILL and stopped and stopped.partial:
                counted += 1
                after = draw.choice([before, before, state, state + 1, max(1, state - 1)])
                older += after < state
                if after != state:
                    world.readings.become(after)
                state = after
            world.server.proxy.mend()
            if draw.random() < 0.75:  # else the next run is killed too
                world.run()
                world.check()
        world.run()
        world.check()
    return (
        f"{tried} runs killed, {counted} of them with some but not all rows written, {older} with the warehouse back "
        f"in an older state then; {watcher.rows_seen:,} rows of {len(watcher.runs_seen)} runs read meanwhile"
    )


def test_killed_at_three_random_moments_and_run_again_it_ends_in_the_same_state(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    told = kill_at_random_moments(world, 3, seed=4)
    with capsys.disabled():
        print(f"\n[faults] kill -9 of a run: {told}")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_a_hundred_random_moments_and_run_again_it_ends_in_the_same_state(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    told = kill_at_random_moments(world, 100, seed=int.from_bytes(os.urandom(4)))
    with capsys.disabled():
        print(f"\n[faults] kill -9 of a run: {told}")


@pytest.mark.soak
def test_killed_with_the_full_lease_the_next_run_waits_for_it_and_lands(world: World) -> None:
    world.readings.become(2)
    process = world.start()
    world.after(0.3, process.kill)
    assert ended(process).code == -signal.SIGKILL
    world.server.proxy.mend()
    stopped = unfinished(world.project, world.client)
    assert stopped.partial
    assert 0 < world.client.pttl(f"{NAMESPACE}:_fs_lease:readings") <= 10_000
    started = time.monotonic()
    world.run()
    assert time.monotonic() - started < 15
    world.check()


# Redis dies, loses, fills up.


def test_redis_killed_half_way_and_started_again(world: World, short_leases: None) -> None:
    """Its file may also end earlier than what it had answered, as after a power failure."""
    for state, share, lost in ((2, 0.4, 0), (1, 0.4, 350_000)):
        world.readings.become(state)
        process = world.start(lease_ms=SHORT_LEASE_MS)
        world.after(share, world.server.kill)
        ran = ended(process)
        assert (ran.code, "Traceback" in ran.err) == (1, False), ran
        assert "cannot be reached" in ran.err
        if lost:
            world.server.cut_the_file(lost)
        world.server.proxy.mend()
        world.server.start()
        with world.watcher():
            world.run()
        world.check()


def test_redis_killed_after_a_run_and_started_with_less_than_it_had_answered(world: World, short_leases: None) -> None:
    """The run's rows, or only its closing marker, are lost: the next run must not take them for sent."""
    for state, lost, sent_again in ((2, 1, False), (3, 500_000, True)):
        world.readings.become(state)
        world.run()
        world.server.kill()
        world.server.cut_the_file(lost)
        world.server.start()
        assert (world.run() > ROWS / 2) is sent_again
        world.check()


def test_redis_restored_from_an_old_backup(world: World, tmp_path: Path) -> None:
    world.readings.become(2)
    world.run()
    data = world.server.folder / "appendonlydir"
    world.server.kill()
    shutil.copytree(data, tmp_path / "backup")
    world.server.start()
    world.readings.become(3)
    world.run()
    world.server.kill()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "backup", data)
    world.server.start()
    result = materialize(world.project, world.server.url)
    assert result.why == "every row: Redis does not hold what the last run remembered here left there"
    world.check()


def test_redis_flushed_in_the_middle_of_a_run(world: World) -> None:
    world.readings.become(2)
    process = world.start()
    world.server.whole = False
    world.after(0.4, world.client.flushall)
    ran = ended(process)
    assert ran.code == 1 and "Traceback" not in ran.err, ran
    assert "Redis lost what this run had written" in ran.err or "lease" in ran.err
    world.server.proxy.mend()
    assert world.run() > 0.8 * ROWS
    world.check()


def test_redis_out_of_memory_half_way(world: World) -> None:
    client = world.client
    bigger = Readings(world.project, 2 * ROWS, states=world.readings.states)
    bigger.become(2)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_250_000)
    client.config_set("maxmemory-policy", "noeviction")
    try:
        with Watcher(world.server.url, bigger):
            for number in range(2):
                process = world.start(lease_ms=4_000)
                ran = ended(process)
                assert (ran.code, "Traceback" in ran.err) == (1, False), ran
                assert "maxmemory" in ran.err
                assert number or unfinished(world.project, client).partial
            used, limit = client.info("memory")["used_memory"], int(client.config_get("maxmemory")["maxmemory"])
            assert used < limit + 2_000_000
            client.config_set("maxmemory", 0)
            world.run()
            world.check()
    finally:
        client.config_set("maxmemory", 0)


# The network.


def cut(world: World) -> None:
    world.server.proxy.cut()


def stall(world: World) -> None:
    world.server.proxy.stall()


@pytest.mark.parametrize("damage", [cut, stall])
def test_the_network_breaks_in_the_middle_of_a_command(world: World, damage: Callable[[World], None]) -> None:
    with world.watcher():
        world.readings.become(2)
        process = world.start(lease_ms=SHORT_LEASE_MS)
        world.after(random.Random(damage.__name__).uniform(0.05, 0.5), lambda: damage(world))
        ran = ended(process)
        assert (ran.code, "Traceback" in ran.err) == (1, False), ran
        assert "cannot be reached" in ran.err or "did not answer in time" in ran.err
        world.server.proxy.mend()
        world.run()
        world.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_network_breaks_at_thirty_random_moments(world: World) -> None:
    draw = random.Random()
    for number in range(15):
        for damage in (cut, stall):
            with world.watcher():
                world.readings.become(1 + number % 4 + (damage is stall))
                process = world.start(lease_ms=SHORT_LEASE_MS)
                world.after(draw.uniform(0, 0.6), lambda damage=damage: damage(world))
                ran = ended(process)
                assert ran.code in (0, 1) and "Traceback" not in ran.err, ran
                world.server.proxy.mend()
                world.run()
                world.check()


def test_a_write_that_the_network_held_back_past_its_lease_changes_nothing(world: World) -> None:
    """Its sender is dead, another run has landed since, and only now the bytes arrive."""
    world.readings.become(2)
    process = world.start(lease_ms=SHORT_LEASE_MS)
    held_back: list[int] = []

    def hold() -> None:
        world.server.proxy.stall()
        held_back.append(process.pid)

    world.after(0.3, hold)
    with world.watcher():
        while not held_back:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        process.kill()
        ended(process)
        world.readings.become(3)
        world.run()
        world.server.proxy.mend()
        time.sleep(0.5)
        world.check()


def test_a_slow_network_costs_time_only(world: World) -> None:
    world.readings.become(2)
    world.server.proxy.delay = 0.001
    with world.watcher():
        ran = ended(world.start())
    assert ran.code == 0, ran
    assert ran.json["views"][0]["rows_written"] > ROWS / 2
    world.server.proxy.mend()
    world.check()


# Two at once.


def test_two_runs_at_once_on_the_same_view_go_one_after_the_other(world: World) -> None:
    with world.watcher() as watcher:
        world.readings.become(2)
        processes = [world.start() for _ in range(2)]
        done = [ended(process) for process in processes]
        assert [ran.code for ran in done] == [0, 0], done
        written = sorted(ran.json["views"][0]["rows_written"] for ran in done)
        assert written[0] == 0 and written[1] > ROWS / 2
    assert not watcher.complaints
    world.check()


def test_two_runs_at_once_on_different_views_both_land(world: World) -> None:
    sql(world.project, "create table visits as select user_id, now() as event_timestamp, value from readings")
    world.readings.become(2)
    with world.watcher():
        processes = [world.start("readings"), world.start("visits")]
        done = [ended(process) for process in processes]
    assert [ran.code for ran in done] == [0, 0], done
    run_id = done[1].json["views"][0]["run_id"]
    assert rows_of_run(world.client, NAMESPACE, "visits", run_id) == len(oracle(world.project, NAMESPACE, "visits"))
    world.check()


@pytest.mark.parametrize("share", [0.0005, 0.3], ids=["before it writes", "half-way"])
def test_a_run_frozen_past_its_lease_and_woken_again_changes_nothing_any_more(world: World, share: float) -> None:
    freeze_and_wake(world, share, lease_ms=SHORT_LEASE_MS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_frozen_past_its_full_lease_at_random_moments_changes_nothing_any_more(world: World) -> None:
    draw = random.Random()
    for number in range(10):
        freeze_and_wake(world, draw.uniform(0, 0.5), lease_ms=None, state=2 + 2 * number)


def freeze_and_wake(world: World, share: float, lease_ms: int | None, state: int = 2) -> None:
    """Freeze a run, let another land a newer state, wake it: it fails, and its rows are nowhere it had not written."""
    world.readings.become(state)
    process = world.start(lease_ms=lease_ms)
    frozen: list[bool] = []

    def freeze() -> None:
        process.send_signal(signal.SIGSTOP)
        frozen.append(True)

    world.after(share, freeze)
    with world.watcher():
        while not frozen:
            assert process.poll() is None, ended(process)
            time.sleep(0.01)
        replace_warehouse(world, state + 1)
        world.run()
        landed = online(world.client, NAMESPACE)
        assert difference(landed, oracle(world.project, NAMESPACE)) == 0
        process.send_signal(signal.SIGCONT)
        ran = ended(process)
        assert (ran.code, "Traceback" in ran.err) == (1, False), ran
        assert "lease" in ran.err
        assert difference(online(world.client, NAMESPACE), landed) == 0
        world.server.proxy.mend()
        world.run()
        assert difference(online(world.client, NAMESPACE), landed) == 0
        world.check()


def replace_warehouse(world: World, state: int) -> None:
    """Put a newer file in place of the one that a frozen run still has open."""
    path = world.project.warehouse
    copy = path.with_name("newer") / path.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(path, copy)
    Readings(DbtProject(copy.parent), world.readings.rows).become(state)
    world.readings.states.add(state)
    copy.replace(path)


# What the warehouse and the folder beside it may do in between.


def test_the_warehouse_and_its_memory_restored_from_an_old_backup(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.project.folder, tmp_path / "backup", symlinks=True)
    world.readings.become(2)
    world.run()
    shutil.rmtree(world.project.folder)
    shutil.copytree(tmp_path / "backup", world.project.folder, symlinks=True)
    result = materialize(world.project, world.server.url)
    assert result.why == "every row: Redis does not hold what the last run remembered here left there"
    world.check()


def test_the_disk_beside_the_warehouse_full_or_read_only_costs_a_full_run_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from materializer.materialize.memory import ViewMemory

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    world.readings.become(2)
    with monkeypatch.context() as patched:
        patched.setattr(ViewMemory, "save", full)
        assert world.run() > ROWS / 2
    assert difference(online(world.client, NAMESPACE), oracle(world.project, NAMESPACE)) == 0
    result = materialize(world.project, world.server.url)
    assert result.why.startswith("every row: ")
    world.check()


def test_a_run_that_fails_tells_so_in_one_sentence_and_in_the_log(world: World) -> None:
    world.readings.become(2)
    world.after(0.2, world.server.proxy.cut)
    store = FeatureStore(world.project.folder, redis_url=world.server.proxy.url, namespace=NAMESPACE)
    with pytest.raises(MaterializationError):
        store.materialize(["readings"])
    world.server.proxy.mend()
    folder = world.project.warehouse.with_name("warehouse.duckdb.feature_store")
    entry = json.loads((folder / NAMESPACE / "log.jsonl").read_text().splitlines()[-1])
    assert "cannot be reached" in entry["error"]
