"""The macros on Spark give the rows of the golden suite, in a session whose clocks change within the data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.support import golden, spark
from tests.support.golden import MODELS, Rows

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Rows], dict[str, Rows]]]:
    """The rows of each model on DuckDB and on Spark."""
    if spark.missing():
        pytest.skip(spark.missing())
    from pyspark.sql import SparkSession

    project, ours = golden.on_duckdb()
    with spark.server() as url:
        session = SparkSession.builder.remote(url).create()
        session.sql("create schema raw")
        for table, (columns, found) in golden.tables().items():
            session.createDataFrame(arrow(columns, found)).createOrReplaceTempView("given")
            casts = ", ".join(f"cast({name} as {types[2]}) as {name}" for name, types in columns.items())
            # what has no zone arrives as UTC, and would be cast to the session's
            session.sql("set spark.sql.session.timeZone = UTC")
            session.sql(f"create table raw.{table} as select {casts} from given")
        profile = {"type": "spark", "method": "session", "schema": "built", "host": "NA", "threads": 2}
        there = golden.elsewhere(tmp_path_factory.mktemp("on-spark"), profile, project.folder / "models")
        done = subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", "build", "--vars", "windows: [1 hour, 7 days]"],
            cwd=there, env=os.environ | {"DBT_PROFILES_DIR": str(there), "SPARK_REMOTE": url}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        theirs = {name: session.sql(f"select * from built.{name}").toArrow().to_pylist() for name in MODELS}
        session.stop()
    yield ours, theirs


def arrow(columns: dict[str, tuple[str, str, str]], rows: Rows) -> pa.Table:
    types = {
        "bigint": pa.int64(), "int": pa.int32(), "string": pa.string(), "timestamp": pa.timestamp("us", "UTC"),
        "timestamp_ntz": pa.timestamp("us", "UTC"), "double": pa.float64(), "float": pa.float32(), "boolean": pa.bool_(),
        "decimal(12, 3)": pa.decimal128(12, 3), "date": pa.date32(), "array<int>": pa.list_(pa.int32()),
    }  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema([(name, types[declared[2]]) for name, declared in columns.items()]))


@pytest.mark.parametrize("model", [name for name, (_, key) in MODELS.items() if key])
def test_spark_gives_the_rows_of_duckdb(built: Any, model: str) -> None:
    ours, theirs = built
    assert not any(name.endswith("_7d") for name in ours[model][0]) or "n_7d" in theirs[model][0]
    assert golden.differences(model, ours[model], theirs[model]) == []
