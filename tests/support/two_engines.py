"""One dbt project over the same rows, built by DuckDB and by a private PostgreSQL that is made to differ: it sorts text by the rules
of English, and its session is in a zone whose clocks change."""

from __future__ import annotations

import decimal
import importlib.util
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support import postgres
from tests.support.dbt import DbtProject, make_project

UTC = timezone.utc
Row = dict[str, Any]
# name: type on DuckDB, type on PostgreSQL
Columns = Mapping[str, tuple[str, str]]
SCHEMA = "{{ 'main' if target.type == 'duckdb' else 'public' }}"


@dataclass(frozen=True)
class Engines:
    """The project on each engine, with an open connection to PostgreSQL."""

    duckdb: DbtProject
    postgres: DbtProject
    connection: Any

    def create(self, table: str, columns: Columns, rows: Sequence[Row]) -> None:
        """A table of both, in the schema of the source `raw`."""
        with self._ours() as ours, self.connection.cursor() as theirs:
            for engine, cursor in enumerate((ours, theirs)):
                named = ", ".join(f'"{name}" {types[engine]}' for name, types in columns.items())
                cursor.execute(f"create table {table} ({named})")
        self.insert(table, rows)

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        from psycopg2.extras import execute_values

        with self._ours() as ours:
            marks = ", ".join("?" * len(rows[0]))
            ours.executemany(f"insert into {table} values ({marks})", [list(row.values()) for row in rows])
        with self.connection.cursor() as cursor:
            values = [[_written(value) for value in row.values()] for row in rows]
            execute_values(cursor, f"insert into {table} values %s", values)

    def dbt(self, *arguments: str) -> None:
        self.duckdb.dbt(*arguments)
        self.postgres.dbt(*arguments)

    def rows(self, model: str, schemas: tuple[str, str] = ("main", "built")) -> tuple[list[Row], list[Row]]:
        """What a model holds, on DuckDB and on PostgreSQL; moments in UTC."""
        with self._ours() as ours, self.connection.cursor() as theirs:
            theirs.execute("set timezone = 'UTC'")
            return (
                _fetched(ours.execute(f'select * from "{schemas[0]}"."{model}"')),
                _fetched(theirs, f'select * from "{schemas[1]}"."{model}"'),
            )

    @contextmanager
    def _ours(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.duckdb.warehouse)) as connection:
            connection.execute("set timezone = 'UTC'")
            yield connection


@contextmanager
def two_engines(folder: Path, files: Mapping[str, Any]) -> Iterator[Engines]:
    """A project with these files on both engines, its models as tables. Skips the test where there is no PostgreSQL."""
    if postgres.programs() is None or importlib.util.find_spec("dbt.adapters.postgres") is None:
        pytest.skip("needs PostgreSQL and its adapter: apt-get install postgresql, pip install dbt-postgres")
    import psycopg2
    import yaml

    here = make_project(folder / "on-duckdb", dict(files))
    there = make_project(folder / "on-postgres", dict(files))
    for project in (here, there):
        settings = yaml.safe_load((project.folder / "dbt_project.yml").read_text())
        project.write({"dbt_project.yml": settings | {"models": {"shop": {"+materialized": "table"}}}})
    with postgres.server() as port:
        profile = {"type": "postgres", "host": "127.0.0.1", "port": port, "user": "postgres", "password": "none",
                   "dbname": "shop", "schema": "built", "threads": 2}  # fmt: skip
        there.write({"profiles.yml": {"shop": {"target": "dev", "outputs": {"dev": profile}}}})
        where = f"host=127.0.0.1 port={port} user=postgres"
        connection = psycopg2.connect(f"{where} dbname=postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "create database shop template template0 locale_provider icu icu_locale 'en-US' locale 'C.UTF-8'"
            )
            cursor.execute("alter database shop set timezone = 'Europe/Berlin'")
        connection.close()
        connection = psycopg2.connect(f"{where} dbname=shop")
        connection.autocommit = True
        yield Engines(here, there, connection)
        connection.close()


def _written(value: Any) -> Any:
    """A float as its text: the driver writes -0.0 as an expression whose value is 0."""
    if isinstance(value, list) and any(isinstance(item, float) for item in value):
        return "{" + ", ".join("NULL" if item is None else repr(item) for item in value) + "}"
    return repr(value) if isinstance(value, float) else value


def _fetched(cursor: Any, sql: str | None = None) -> list[Row]:
    if sql:
        cursor.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def exact(value: Any) -> Any:
    """A value that equals another only where both are the same to the bit, whatever the driver made of its type."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, decimal.Decimal):
        return value.normalize()
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def close(one: Any, other: Any, tolerance: float = 1e-12) -> bool:
    """The same but for the last digits of a double."""
    if one is None or other is None:
        return one is other
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=tolerance)


def overlong(project: DbtProject) -> list[tuple[str, str]]:
    """The compiled lines of a project's models that people could not read, but for what they wrote themselves."""
    folder = project.folder / "target" / "compiled" / "shop" / "models"
    texts = {path.name: re.sub(r"'(''|[^'\n])*'", "''", path.read_text()) for path in folder.rglob("*.sql")}
    assert texts
    return [(name, line) for name, sql in texts.items() for line in sql.splitlines() if len(line) > 140]
