"""Minutes of load on the server while Redis restarts and fails over, the registry changes and `materialize` runs.

FEATURE_STORE_SOAK_MINUTES=10 pytest -m soak -n0 -s tests/test_serve_soak.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from materializer.online.connect import connect
from materializer.online.topology import masters
from tests.support.redis_servers import Sentinels, Server, needs_redis, until
from tests.support.serve_soak import (
    Load,
    Process,
    Rude,
    keep_materializing,
    new_generations,
    soaked_project,
    workers_of,
)
from tests.support.serving import serving

MINUTES = float(os.environ.get("FEATURE_STORE_SOAK_MINUTES", "10"))
NAMESPACE = "soak"
IDLE = 1_000
# How long after Redis is back a request that began before may still be answered that it is away.
GRACE_SECONDS = 5.0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(MINUTES * 60 + 300), needs_redis]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "redis", "--appendonly", "yes")
    yield server
    server.close()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path / "redis")
    yield sentinels
    sentinels.close()


async def away(load: Load, work: Callable[[], Any]) -> None:
    """Let something happen to Redis, from before which nothing is sure to be there until the next run is complete."""
    load.away = load.lossy = True
    load.floor = 0
    await asyncio.to_thread(work)
    await asyncio.sleep(GRACE_SECONDS)
    load.away = False
    done = load.generations.runs.value
    while load.generations.runs.value < done + 2:  # the run under way may have begun before
        await asyncio.sleep(0.05)
    load.lossy = False


def soak(url: str, tmp_path: Path, minutes: float, events: list[tuple[float, Callable[[], Any]]]) -> dict[str, Any]:
    """Load for so many minutes, and at each share of them what happens to Redis. Gives figures."""
    project, generations = soaked_project(tmp_path / "shop"), new_generations()
    context = multiprocessing.get_context("spawn")
    materializing = context.Process(
        target=keep_materializing, args=(str(project.folder), url, NAMESPACE, generations), daemon=True
    )
    materializing.start()
    try:
        until(lambda: generations.runs.value > 0, "the first run", 60)
        logged = ("--log-features", str(tmp_path / "served"), "--log-seconds", "5")
        with serving(url, "--workers", "2", *logged, namespace=NAMESPACE) as (client, process):
            until(lambda: len(workers_of(process.pid)) == 2, "the workers")
            load = Load(str(client.base_url), generations)
            samples = asyncio.run(_soak(load, workers_of(process.pid), minutes * 60, events))
            until(lambda: _files(process.pid) <= samples["files_before"] + 40, "the connections to be closed")
            left = _files(process.pid)
            links = sum(node.info("clients")["connected_clients"] for node in masters(connect(url)))
            assert client.post("/v1/features", json={"features": ["readings:value"], "entities": [{"user_id": 1}]})
    finally:
        generations.end.set()
        materializing.join(60)
    ordered = sorted(load.seconds)
    return {
        "minutes": minutes, "requests": len(ordered), "values": load.values, "statuses": dict(load.statuses),
        "p50_ms": round(statistics.median(ordered) * 1000, 1), "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 1),
        "runs": generations.runs.value, "failed_runs": generations.failed.value,
        **samples, "files_after": left, "redis_connections_after": links,
        "complaints": len(load.complaints), "first_complaints": load.complaints[:5],
    }  # fmt: skip


async def _soak(
    load: Load, workers: list[Process], seconds: float, events: list[tuple[float, Callable[[], Any]]]
) -> dict[str, Any]:
    end, rude = asyncio.Event(), Rude(load.url)
    files_before = sum(worker.files for worker in workers)
    tasks: list[Awaitable[Any]] = [load.run(8, end), load.follow(end), rude.goes_away(end), rude.is_slow(end, load)]
    running = asyncio.gather(*tasks)
    memory: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        await rude.idle(IDLE, stack)
        started = time.monotonic()
        waiting = [(started + share * seconds, work) for share, work in events]
        happening: list[asyncio.Task[None]] = []
        while time.monotonic() < started + seconds and not running.done():
            if waiting and time.monotonic() >= waiting[0][0] and all(task.done() for task in happening):
                happening.append(asyncio.create_task(away(load, waiting.pop(0)[1])))
            memory.append([worker.memory for worker in workers])
            await asyncio.sleep(2)
        await asyncio.gather(*happening)
        held = sum(worker.files for worker in workers)
    end.set()
    await running
    assert not waiting
    return {
        "files_before": files_before, "files_held": held,
        "memory_mb_start": [round(one) for one in memory[len(memory) // 4]],
        "memory_mb_end": [round(one) for one in memory[-1]],
    }  # fmt: skip


def _files(pid: int) -> int:
    return sum(worker.files for worker in workers_of(pid))


def check(figures: dict[str, Any]) -> None:
    print(json.dumps(figures, indent=1))
    assert not figures["complaints"], figures["first_complaints"]
    assert set(figures["statuses"]) <= {200, 503} and figures["statuses"][200] > 0.5 * figures["requests"]
    assert figures["requests"] > 100 and figures["runs"] > 5
    assert figures["files_held"] >= IDLE
    # Connections to Redis are kept: at most 16 a worker and loop, and what the registry is read through.
    assert figures["files_after"] <= figures["files_before"] + 40
    assert figures["redis_connections_after"] <= 50
    for first, last in zip(figures["memory_mb_start"], figures["memory_mb_end"], strict=True):
        assert last < 1.1 * first + 10


def test_redis_is_restarted_twice(server: Server, tmp_path: Path) -> None:
    def restart() -> None:
        server.kill()
        time.sleep(2)
        server.start()

    url = f"redis://127.0.0.1:{server.port}/0"
    check(soak(url, tmp_path, MINUTES / 2, [(0.3, restart), (0.6, restart)]))


def test_the_master_fails_over(sentinels: Sentinels, tmp_path: Path) -> None:
    def fail_over() -> None:
        lost = sentinels.master
        lost.kill()
        until(lambda: sentinels.master is not lost and sentinels.master.client.ping(), "another master")
        sentinels.bring_back(lost)

    with contextlib.suppress(redis.RedisError):
        sentinels.master.client.ping()
    check(soak(sentinels.url, tmp_path, MINUTES / 2, [(0.4, fail_over)]))
