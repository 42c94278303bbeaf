"""``feature-store stream`` as a process: features follow their events, and whatever is done to it, end up right."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore
from materializer.project.settings import load_project
from materializer.stream.explain import decide
from tests.support import kafka
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.forked import Process
from tests.support.once import once
from tests.support.redis_servers import Server
from tests.support.streamed import streamed
from tests.test_stream import declare
from tests.test_stream_online import FILES, VIEWS

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def built() -> DbtProject:
    return DbtProject(once("streamed", _build) / "shop")


def _build(folder: Path) -> None:
    project = streamed(folder / "shop", FILES, hook=True)
    FeatureStore(project.folder, redis_url="redis://localhost:1").push("purchases", [purchase(0, 0)])
    project.dbt("build")
    decide(load_project(project.folder))  # so that no stream has to have all parsed


def purchase(number: int, user: int, amount: str = "1.00", ago: float = 0.0) -> dict[str, Any]:
    moment = datetime.now(timezone.utc) - timedelta(seconds=ago)
    return {
        "purchase_id": number, "user_id": user, "item": "abc"[number % 3], "amount": amount, "cancelled": False,
        "purchased_at": moment.isoformat(),
    }  # fmt: skip


SAYS_INTO = """
import os, sys
said = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND)
os.dup2(said, 1)
os.dup2(said, 2)
from materializer.cli import main
main()
"""


class Streamer:
    """The command, and what it says."""

    def __init__(self, store: FeatureStore, broker: kafka.Broker, log: Path) -> None:
        self._log = log
        log.touch()
        self.process = Process(
            SAYS_INTO, str(log), "stream", "--brokers", broker.address, "--project-dir", str(store.project.folder),
            "--redis-url", store._redis_url, "--namespace", store.namespace,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text()

    def hear(self, text: str, times: int = 1, patience: float = 400) -> None:
        until = time.monotonic() + patience
        while self.said.count(text) < times:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, f"{text!r} was not said: {self.said}"
            time.sleep(0.1)


@contextmanager
def streaming(store: FeatureStore, broker: kafka.Broker, folder: Path) -> Iterator[Streamer]:
    streamer = Streamer(store, broker, folder / f"log-{next(_numbers)}")
    try:
        yield streamer
    finally:
        streamer.process.kill()
        streamer.process.wait()


def until(true: Callable[[], bool], patience: float = 200) -> float:
    """Wait, and give how long it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < patience
        time.sleep(0.02)
    return time.monotonic() - begun


def spent(store: FeatureStore, user: int) -> float | None:
    (value,) = store.get_online_features(["spent:spent"], [{"user_id": user}]).to_dict()["spent"]
    return None if value is None else float(value)


def verified(store: FeatureStore) -> dict[str, int]:
    """The views that are compared with a full build, and how many entities of each are; none of them differs."""
    done = run(
        "feature-store", "stream", "--verify", "--output", "json", "--project-dir", str(store.project.folder),
        "--redis-url", store._redis_url, "--namespace", store.namespace,
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    views = json.loads(done.out)["views"]
    assert not any(one["different"] or one["problem"] for one in views)
    return {one["view"]: one["entities"] for one in views}


@pytest.mark.timeout(900)
def test_a_feature_follows_its_event_and_a_window_runs_empty_by_itself(
    built: DbtProject, broker: kafka.Broker, redis_url: str, tmp_path: Path
) -> None:
    project = copy_of(built, tmp_path / "shop")
    topic = f"follows-{next(_numbers)}"
    broker.create(topic)
    declare(project, topic=topic)
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=topic)
    store.materialize()
    with streaming(store, broker, tmp_path) as streamer:
        streamer.hear("is kept online", len(VIEWS))
        # It leaves the window of ten minutes in half a minute.
        broker.send(topic, [purchase(1, 5, "2.50", ago=570)])
        until(lambda: spent(store, 5) == 2.5)
        windows = ["windows:n_10m", "windows:total_10m", "windows:n_1h"]

        def row() -> list[Any]:
            found = store.get_online_features(windows, [{"user_id": 5}]).to_dict()
            return [found[name][0] for name in ("n_10m", "n_1h")]

        until(lambda: row() == [1, 1])
        before = streamer.said
        until(lambda: row() == [0, 1], 90)
        assert streamer.said == before, "nothing was done for that"
        broker.send(topic, [b"no JSON", json.dumps(purchase(2, 6)).encode()])
        until(lambda: spent(store, 6) == 1.0)
        where = ["--project-dir", str(project.folder), "--redis-url", redis_url, "--namespace", topic]
        doctor = ["feature-store", "doctor", *where]
        assert f"keeps {len(VIEWS)} views online" in run(*doctor).out
        until(lambda: "1 in the last day" in run(*doctor).out, 30)  # what has landed shows within a second
        streamer.process.send_signal(signal.SIGTERM)
        assert streamer.process.wait(30) == 0
    assert verified(store) == {"pairs": 3, "profile": 3, "spent": 3, "windows": 3}


@pytest.mark.timeout(1200)
def test_whatever_happens_to_streams_and_redis_the_end_is_a_full_builds(
    built: DbtProject, broker: kafka.Broker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = Server(tmp_path / "redis")
    request.addfinalizer(server.close)
    project = copy_of(built, tmp_path / "shop")
    topic = f"faults-{next(_numbers)}"
    broker.create(topic, 2)
    declare(project, topic=topic)
    store = FeatureStore(project.folder, redis_url=f"redis://127.0.0.1:{server.port}")
    store.materialize()
    draw, numbers = random.Random(7), itertools.count(1)

    def send(count: int) -> None:
        events = [purchase(next(numbers), draw.randrange(40), f"{draw.randrange(100)}.25") for _ in range(count)]
        broker.send(topic, events, partition=lambda number: number % 2)

    with ExitStack() as stack:
        first = stack.enter_context(streaming(store, broker, tmp_path))
        first.hear("is kept online", len(VIEWS))
        second = stack.enter_context(streaming(store, broker, tmp_path))
        second.hear("Another process keeps the views")
        for _ in range(5):  # ended in the middle of what it does
            send(300)
            time.sleep(draw.random())
        first.process.kill()
        second.hear("is kept online", len(VIEWS))  # the other takes over, and what the first had in hand
        send(300)
        assert verified(store)["spent"] == 40
        # Redis is killed and comes back with nothing; a run brings back what was built, the stream the rest.
        server.kill()
        send(100)
        server.start()
        second.hear("there is no row of it yet", len(VIEWS))
        send(100)
        store.materialize()
        second.hear("is kept online", 2 * len(VIEWS))
        assert verified(store)["spent"] == 40
        # The definition changes: until a run has brought it, nothing is written by either.
        path = project.folder / "models" / "spent.sql"
        path.write_text(path.read_text().replace("sum(amount)", "2 * sum(amount)"))
        project.dbt("build")
        before = spent(store, 3)
        store.materialize(feature_views=["spent"])
        assert before is not None and spent(store, 3) == 2 * before
        second.hear("'spent' is not kept online: it is defined otherwise")
        second.hear("'spent' is kept online", 3)
        send(100)
        assert verified(store)["spent"] == 40
