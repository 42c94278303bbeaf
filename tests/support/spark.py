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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
import yaml

from tests.support.dbt import DbtProject, go_on_as, make_project
from tests.support.manifests import manifest, project_of, write_models

Row = dict[str, Any]
# What Spark calls the types of DuckDB, and what Arrow does.
_TYPES = {
    "bigint": ("bigint", pa.int64()), "integer": ("int", pa.int32()), "double": ("double", pa.float64()),
    "float": ("float", pa.float32()), "boolean": ("boolean", pa.bool_()), "varchar": ("string", pa.string()),
    "uuid": ("string", pa.string()), "json": ("string", pa.string()), "date": ("date", pa.date32()),
    "timestamptz": ("timestamp", pa.timestamp("us", "UTC")), "timestamp": ("timestamp_ntz", pa.timestamp("us", "UTC")),
}  # fmt: skip

# In one JVM, with as few tasks as there are cores: hundreds of tasks over a few hundred rows are all that these tests would wait for.
_SETTINGS = {
    "spark.master": "local[2]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    # Half the time goes into plans and code that run once: better compiled quickly than well.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xms1g -XX:MetaspaceSize=256m",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    # A plan is made anew after each of its steps otherwise, and these have dozens.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.cache.maxEntries": "5000",
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


@dataclass(frozen=True)
class Spark:
    """A server and a session on it whose zone is UTC; dbt's own are in one whose clocks change."""

    url: str
    session: Any
    process: subprocess.Popen[bytes]

    def create(self, table: str, columns: Mapping[str, tuple[str, str]], rows: Sequence[Row]) -> None:
        """A table of the schema `public`, anew; types are those of DuckDB."""
        types = {name: _type(declared[0]) for name, declared in columns.items()}
        given = pa.Table.from_pylist(list(rows), pa.schema([(name, arrow) for name, (_, arrow) in types.items()]))
        self.session.createDataFrame(given).createOrReplaceTempView("given")
        casts = ", ".join(f"cast({name} as {type_}) as {name}" for name, (type_, _) in types.items())
        self.session.sql("create schema if not exists public")
        self.session.sql(f"drop table if exists public.{table}")
        self.session.sql(f"create table public.{table} as select {casts} from given")

    def dbt(
        self, folder: Path, files: Mapping[str, Any], *arguments: str, variables: dict[str, Any] | None = None
    ) -> Path:
        """A `project` with these files, run by dbt; gives its folder.

        Raises:
            DbtFailed: with what dbt printed.
        """
        self.project(folder, files, variables)
        self.run(folder, *arguments)
        return folder

    def project(
        self, folder: Path, files: Mapping[str, Any], variables: dict[str, Any] | None = None, more: str = ""
    ) -> Path:
        """A project with these files, its models as tables of the schema `built`, and `more` lines of settings; gives its folder."""
        project = make_project(folder, dict(files), variables)
        _on_spark(project, more)
        if not more:  # hooks are read with all else
            go_on_as(project, "bare-spark", _parse)
        return folder

    def run(self, folder: Path, *arguments: str) -> None:
        """A dbt command, in this process and in a session that it opens itself."""
        from pyspark.sql.connect.session import SparkSession

        # As in a process of dbt's, which has no session yet: it takes one that there is, whosever that may be.
        with (
            mock.patch.object(SparkSession, "_default_session", None),
            mock.patch.object(SparkSession, "_active_session", threading.local()),
            mock.patch.dict(os.environ, environment() | {"SPARK_REMOTE": self.url}),
        ):
            try:
                DbtProject(folder).dbt(*arguments)
            finally:
                if SparkSession._default_session:
                    SparkSession._default_session.stop()

    def rows(self, model: str, schema: str = "built") -> list[Row]:
        """What a model holds; moments in UTC."""
        self.session.sql(f"refresh table {schema}.{model}")  # another session may have made it anew
        return self.session.sql(f"select * from {schema}.{model}").toArrow().to_pylist()


def _on_spark(project: DbtProject, more: str = "") -> None:
    settings = project.folder / "dbt_project.yml"
    changed = yaml.safe_load(settings.read_text()) | {"models": {"shop": {"+materialized": "table"}}}
    profile = {"type": "spark", "method": "session", "schema": "built", "host": "NA", "threads": 2}
    project.write(
        {"dbt_project.yml": changed, "profiles.yml": {"shop": {"target": "dev", "outputs": {"dev": profile}}}}
    )
    with settings.open("a") as file:
        file.write(more)


def _parse(folder: Path) -> None:
    project = make_project(folder)
    _on_spark(project)
    project.dbt("parse", "--no-partial-parse")


@pytest.fixture(scope="session")
def shared_spark() -> Iterator[Spark]:
    """One for all files whose tests leave it as it is: it takes long to start, and works the faster the more it has done.
    What runs in its JVM has no Redis."""
    if why := missing():
        pytest.skip(why)
    with spark() as server:
        yield server


def hand_made(folder: Path, views: dict[str, dict[str, Any]]) -> Path:
    """A project as if dbt had read it, whose views are tables of the schema `main` that somebody else makes; gives its folder."""
    project_of(folder, views)
    content = manifest(dict.fromkeys(views, "select 1 as user_id"), views)
    content["metadata"]["adapter_type"] = "spark"
    for node in content["nodes"].values():
        node["relation_name"] = f"main.{node['name']}"
    write_models(folder, content)
    (folder / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: spark, method: session, host: NA, schema: main}}}\n"
    )
    return folder


def type_of(duckdb: str) -> str:
    """What Spark calls a type of DuckDB."""
    return _type(duckdb)[0]


def _type(duckdb: str) -> tuple[str, pa.DataType]:
    if duckdb.endswith("[]"):
        name, arrow = _type(duckdb[:-2])
        return f"array<{name}>", pa.list_(arrow)
    if duckdb.startswith("decimal"):
        digits, places = duckdb[8:-1].split(",")
        return duckdb, pa.decimal128(int(digits), int(places))
    return _TYPES[duckdb]


@contextmanager
def spark(settings: dict[str, str] | None = None, log: Path | None = None, redis_url: str = "") -> Iterator[Spark]:
    """Spark in one JVM where the settings name no other, and a session on it; `redis_url` is the Redis of what runs in that JVM."""
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.retries import DefaultPolicy

    with server(settings, log, redis_url) as (url, process):
        session = SparkSession.builder.remote(url).create()
        session.sql("set spark.sql.session.timeZone = UTC")
        try:
            yield Spark(url, session, process)
        finally:
            if process.poll() is None:
                session.stop()
            else:  # or the end of Python asks for it for ten minutes
                session.client.set_retry_policies([DefaultPolicy(max_retries=0)])


@contextmanager
def server(
    settings: dict[str, str] | None = None, log: Path | None = None, redis_url: str = ""
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Spark Connect server; gives what SPARK_REMOTE is to be, and the process. Its tables lie in a temporary folder, and so does
    its log unless another file is named."""
    folder = Path(tempfile.mkdtemp(prefix="spark-"))
    port = free_port()
    given = _SETTINGS | {
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
    }
    given |= settings or {}
    flags = [flag for name, value in given.items() for flag in ("--conf", f"{name}={value}")]
    log = log or folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [home() / "bin" / "spark-submit", *flags,
             "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"],
            cwd=folder, env=environment(redis_url), stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(port, process, log)
        yield f"sc://127.0.0.1:{port}", process
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def home() -> Path:
    """The folder of Spark's programs: the wheel brings them along."""
    import pyspark

    return Path(pyspark.__file__).parent


def environment(redis_url: str = "") -> dict[str, str]:
    return os.environ | {
        "SPARK_HOME": str(home()), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "FEATURE_STORE_REDIS_URL": redis_url,
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
