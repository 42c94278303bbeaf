"""A private Spark for tests: a Connect server on a port of its own, in a temporary folder, gone with them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# In one JVM, with as few tasks as there are cores: hundreds of tasks over a few hundred rows are all that these tests would wait for.
_SETTINGS = {
    "spark.master": "local[2]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    # Half the time goes into plans and code that run once: better compiled quickly than well.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.session.timeZone": "Europe/Berlin",
}


def missing() -> str | None:
    """What is not there, in a line that says how to get it; None where all is."""
    found = [importlib.util.find_spec(name) for name in ("pyspark", "dbt.adapters.spark", "grpc")]
    if not all(found) or not shutil.which("java"):
        return "needs Spark, its adapter and Java: pip install 'dbt-feature-store[spark]', apt-get install openjdk-17-jre-headless"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(settings: dict[str, str] | None = None) -> Iterator[str]:
    """A Spark Connect server; gives what SPARK_REMOTE is to be. Its tables lie in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="spark-"))
    port = free_port()
    given = _SETTINGS | {
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
    }
    given |= settings or {}
    flags = [flag for name, value in given.items() for flag in ("--conf", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [home() / "bin" / "spark-submit", *flags,
             "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"],
            cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(port, process, folder / "log")
        yield f"sc://127.0.0.1:{port}"
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def home() -> Path:
    """The folder of Spark's programs: the wheel brings them along."""
    import pyspark

    return Path(pyspark.__file__).parent


def environment() -> dict[str, str]:
    return os.environ | {
        "SPARK_HOME": str(home()), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
    }  # fmt: skip


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, seconds: int = 120) -> None:
    """Until something answers on a port."""
    for _ in range(seconds * 5):
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"Spark does not answer after {seconds} s: {log.read_text(errors='replace')[-4000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """The process and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
