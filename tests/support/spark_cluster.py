"""A private Spark cluster for tests: a standalone master, workers that can be lost, and a Connect server on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import spark

# Six JVMs share this machine's cores: small, and quick to start. What is to be shared out has to be in parts.
_APPLICATION = {
    "spark.executor.cores": "1",
    "spark.executor.memory": "768m",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.memory": "1g",
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
}
_DAEMONS = {
    "SPARK_DAEMON_MEMORY": "128m",
    # The master would offer its REST server on a fixed port.
    "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dspark.master.rest.enabled=false",
}


@dataclass
class Cluster:
    folder: Path
    master: str
    server: spark.Spark
    workers: list[Worker] = field(default_factory=list)

    def add_worker(self) -> Worker:
        """One more machine, of one core and 1 GB."""
        worker = Worker(self.folder / f"worker-{len(self.workers)}", self.master)
        self.workers.append(worker)
        return worker

    def lost_executors(self) -> set[str]:
        """The workers' places that the master says it lost an executor with."""
        return set(re.findall(r"lost executor: (\d+)", self._log()))

    def executors(self) -> set[str]:
        return set(re.findall(r"Launching executor app-\S+/(\d+) on worker", self._log()))

    def _log(self) -> str:
        return (self.folder / "master.log").read_text(errors="replace")


class Worker:
    """A worker, and the executors that it starts, in a process group of their own."""

    def __init__(self, folder: Path, master: str, redis_url: str = "") -> None:
        self.folder = folder
        (folder / "local").mkdir(parents=True)
        self._process = _started(
            folder / "log", "worker.Worker", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0",
            "--cores", "1", "--memory", "1g", "--work-dir", str(folder / "work"), master, redis_url=redis_url,
        )  # fmt: skip

    def finished_tasks(self) -> int:
        """The tasks that its executors say they have done."""
        logs = self.folder.glob("work/app-*/*/stderr")
        return sum(log.read_text(errors="replace").count("Finished task") for log in logs)

    def lose(self) -> None:
        """The machine is gone, with all that ran on it and the files it held for others."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder / "local")

    def stop(self) -> None:
        spark.end(self._process)


@contextmanager
def cluster(workers: int = 2, redis_url: str = "") -> Iterator[Cluster]:
    """Its executors have the Redis of their workers."""
    folder = Path(tempfile.mkdtemp(prefix="spark-cluster-"))
    port = spark.free_port()
    url = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        master = _started(
            folder / "master.log", "master.Master", "--host", "127.0.0.1", "--port", str(port),
            "--webui-port", str(spark.free_port()),
        )  # fmt: skip
        stack.callback(spark.end, master)
        spark.wait_for(port, master, folder / "master.log")
        members: list[Worker] = []
        stack.callback(lambda: [worker.stop() for worker in members])
        members += [Worker(folder / f"worker-{number}", url, redis_url) for number in range(workers)]
        # The connection is a session of the Connect server, whose work the executors do.
        running = stack.enter_context(spark.spark({"spark.master": url} | _APPLICATION))
        found = Cluster(folder, url, running, members)
        until(lambda: len(found.executors()) == workers, "the cluster has no executors")
        yield found


def until(holds: Callable[[], Any], otherwise: str, seconds: int = 120) -> None:
    """Wait until something holds."""
    for _ in range(seconds * 10):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"{otherwise}, after {seconds} s")


def _started(log: Path, name: str, *arguments: str, redis_url: str = "") -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [spark.home() / "bin" / "spark-class", f"org.apache.spark.deploy.{name}", *arguments],
            cwd=log.parent, env=spark.environment(redis_url) | _DAEMONS | {"SPARK_LOCAL_DIRS": str(log.parent / "local")},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
