"""A join key is cast on PostgreSQL by the rules that hold on DuckDB, and no value of a spine stops a query."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timezone
from typing import Any

import pytest

from materializer.project.render import MacroRenderer
from tests.support import postgres
from tests.test_keys_every_way import GIVEN, REFUSED, meaning

# What a spine has, by the kinds of values to ask with; and what views have, by the names that `meaning` knows them by.
SPINES = {
    "int": "bigint", "large int": "numeric(40, 0)", "float": "double precision", "decimal": "numeric(10, 2)",
    "whole decimal": "numeric(38, 0)", "bool": "boolean", "text": "text", "date": "date", "uuid": "uuid",
    "naive": "timestamp without time zone", "zoned": "timestamp with time zone", "bytes": "bytea",
}  # fmt: skip
VIEWS = {
    "bigint": "bigint", "decimal": "numeric(10,2)", "double": "double precision", "text": "text", "boolean": "boolean",
    "date": "date", "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "uuid": "uuid",
}  # fmt: skip
# Beside what DuckDB is asked: the ends of PostgreSQL's own types, where a cast stops the query.
MORE: dict[str, list[Any]] = {
    "int": [2**63 - 1, -(2**63), 0],
    "float": [2.0**63, -(2.0**63), 1e8, 99999999.5, 5e-324],
    "text": ["99999999999999999999", "-9223372036854775808", "9223372036854775808", "1e999", "1e-999", "9" * 500, "100000000",
             "2024-02-30", "2023-02-29", "0000-01-01", "2024-01-02 25:00:00", "2024-01-02 12:30:00.000001+99", "2024-02-30 01:00:00"],
}  # fmt: skip


@pytest.fixture(scope="module")
def cursor() -> Iterator[Any]:
    postgres.skip_without("psycopg2")
    import psycopg2

    with postgres.server() as port:
        connection = psycopg2.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("set timezone = 'Europe/Berlin'")
            yield cursor
        connection.close()


@pytest.fixture(scope="module")
def macros() -> MacroRenderer:
    return MacroRenderer({"metadata": {"adapter_type": "postgres"}, "nodes": {}, "macros": {}}, lambda relation: [])


# Where the type of a spine cannot be known its keys go by their text, which says all of these.
UNTYPED = ("int", "large int", "bool", "text", "date", "uuid")


@pytest.mark.parametrize(("kind", "known"), [(k, True) for k in SPINES] + [(k, False) for k in UNTYPED])
def test_every_value_is_the_key_that_it_means(cursor: Any, macros: MacroRenderer, kind: str, known: bool) -> None:
    values = [value for value in GIVEN[kind] + MORE.get(kind, []) if value != b"\xff"]  # stops the query
    cursor.execute("drop table if exists given")
    cursor.execute(f"create temp table given (n bigint, k {SPINES[kind]})")
    for number, value in enumerate(values):
        bound = repr(value) if isinstance(value, float) else str(value) if isinstance(value, uuid.UUID) else value
        cursor.execute("insert into given values (%s, %s)", [number, bound])
    wrong = []
    for name, wanted in VIEWS.items():
        sql = macros.ask("_key", '"k"', SPINES[kind].replace(", ", ",") if known else None, wanted)
        cursor.execute(f"select n, {sql} as key from given order by n")
        for (_, key), value in zip(cursor.fetchall(), values, strict=True):
            expected = meaning_of(name, value)
            if name == "timestamptz" and key is not None:
                key = key.astimezone(timezone.utc).replace(tzinfo=None)
            if name == "uuid" and key is not None:
                key = uuid.UUID(str(key))
            if name == "bigint" and expected is not None and not -(2**63) <= expected < 2**63:
                expected = None
            if key != key:
                key = None  # NaN is no entity's
            if name == "double" and not isinstance(value, float) and key != expected:
                # Of a whole number beyond 17 digits the double is not looked for; a decimal is the double it prints as.
                assert (key is None and abs(value) > 2**53) or float(value) == key
                continue
            if key != expected:
                wrong.append((name, value, key, expected))
    assert wrong == []


def meaning_of(name: str, value: Any) -> Any:
    try:
        found = meaning(name, value)
    except (ValueError, OverflowError):
        found = REFUSED  # no day of the calendar
    return None if found is REFUSED else found
