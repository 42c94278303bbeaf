"""The macros on Spark give the rows of the golden suite, in a session whose clocks change within the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from tests.support import golden, spark
from tests.support.dbt import DbtProject, make_project
from tests.support.golden import MODELS, Rows
from tests.support.two_engines import Columns

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]
# A column costs Spark a fifth of a second, however few rows there are.
WINDOWS = ("--vars", "windows: [1 hour, 7 days]")


@pytest.fixture(scope="module")
def server() -> Iterator[spark.Spark]:
    if missing := spark.missing():
        pytest.skip(missing)
    with spark.spark() as server:
        yield server


def on_duckdb(project: DbtProject, tables: dict[str, tuple[Columns, Rows]], *command: str) -> DbtProject:
    """The project built there, over the same rows."""
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        for table, (columns, rows) in tables.items():
            connection.execute(
                f"create table {table} ({', '.join(f'{name} {one}' for name, (one, _) in columns.items())})"
            )
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"insert into {table} values ({marks})", [list(row.values()) for row in rows])
    project.dbt(*command)
    return project


def rows_of(project: DbtProject, model: str) -> Rows:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(f'select * from "{model}"')
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def built(server: spark.Spark, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """The rows of each model on DuckDB and on Spark."""
    ours = make_project(tmp_path_factory.mktemp("on-duckdb"), golden.FILES)
    on_duckdb(ours, golden.tables(), "run", *WINDOWS)
    for table, (columns, rows) in golden.tables().items():
        server.create(table, columns, rows)
    server.dbt(tmp_path_factory.mktemp("on-spark"), golden.FILES, "build", *WINDOWS)
    return {name: rows_of(ours, name) for name in MODELS}, {name: server.rows(name) for name in MODELS}


@pytest.mark.parametrize("model", [name for name, (_, key) in MODELS.items() if key])
def test_spark_gives_the_rows_of_duckdb(built: Any, model: str) -> None:
    ours, theirs = built
    assert golden.differences(model, ours[model], theirs[model]) == []
