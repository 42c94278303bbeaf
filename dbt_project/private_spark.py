"""A private Spark for the example, with the shop's raw data in it: what `make demo TARGET=spark` runs on.

    python dbt_project/private_spark.py start
    python dbt_project/private_spark.py stop

It is a Spark Connect server in one JVM. It listens on 127.0.0.1 alone, lets in whoever is on this machine, and keeps
its tables in `.spark/` for as long as it runs. A Spark of your own needs none of this: name it in SPARK_REMOTE.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
FOLDER = EXAMPLE / ".spark"
PORT = 15092
REMOTE = f"sc://127.0.0.1:{PORT}"
TABLES = ("users", "items", "page_views", "purchases")
SETTINGS = {
    "spark.master": "local[2]",
    "spark.driver.memory": "2g",
    # Half the time goes into plans and code that run once: better compiled quickly than well.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": str(PORT),
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.warehouse.dir": str(FOLDER / "warehouse"),
    "spark.local.dir": str(FOLDER / "local"),
}


def main() -> int:
    """Start or stop it; 0 where that went well."""
    if sys.argv[1:] == ["stop"]:
        if stop():
            print(f"the example's Spark on port {PORT} has stopped")
        return 0
    print(f"{'found again' if start() else 'started'} at {REMOTE}, with its tables in {FOLDER}")
    return 0


def start() -> bool:
    """Start the server and load the raw data; True where it ran already."""
    if not all(map(importlib.util.find_spec, ("pyspark", "grpc"))) or not shutil.which("java"):
        sys.exit(
            "Spark is not installed: pip install '.[spark]', and Java 17 (apt-get install openjdk-17-jre-headless)"
        )
    ran = _pid() is not None
    if not ran:
        if _answers():
            sys.exit(f"Port {PORT} is taken by another program, so the example's Spark cannot use it.")
        # Which tables there are, a server knows only while it runs; it refuses folders that an earlier one left.
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(mode=0o700)
        _wait_for(_started())
    _load()
    return ran


def stop() -> bool:
    """End the server and remove its tables; False where none runs."""
    pid = _pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        for _ in range(150):
            if _pid() is None:
                break
            time.sleep(0.2)
        else:
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(FOLDER, ignore_errors=True)
    return pid is not None


def _started() -> subprocess.Popen[bytes]:
    import pyspark

    home = Path(pyspark.__file__).parent
    flags = [flag for name, value in SETTINGS.items() for flag in ("--conf", f"{name}={value}")]
    with (FOLDER / "log").open("wb") as log:
        process = subprocess.Popen(
            [home / "bin" / "spark-submit", *flags,
             "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"],
            cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable},
        )  # fmt: skip
    (FOLDER / "pid").write_text(str(process.pid))
    return process


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if _answers():
            return
        if process.poll() is not None:
            sys.exit(f"Spark did not start: see {FOLDER / 'log'}.")
        time.sleep(0.2)
    stop()
    sys.exit("Spark does not answer after two minutes.")


def _load() -> None:
    """The Parquet files of shop_data.py as tables of the schema `raw`."""
    warnings.filterwarnings("ignore", module="pyspark")
    from pyspark.sql import SparkSession

    session = SparkSession.builder.remote(REMOTE).create()
    session.sql("create schema if not exists raw")
    for name in TABLES:
        session.sql(f"drop table if exists raw.{name}")
        file = EXAMPLE / "raw" / f"{name}.parquet"
        session.sql(f"create table raw.{name} using parquet as select * from parquet.`{file}`")
    session.stop()


def _answers() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def _pid() -> int | None:
    """The server's process; None where the one that was noted has ended, or its number is another program's by now."""
    try:
        pid = int((FOLDER / "pid").read_text())
    except (OSError, ValueError):
        return None
    shown = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "stat=,command="], capture_output=True, text=True).stdout
    return pid if str(FOLDER) in shown and not shown.startswith("Z") else None


if __name__ == "__main__":
    sys.exit(main())
