"""The macros on Spark give the rows of the golden suite, in a session whose clocks change within the data."""

from __future__ import annotations

import json
from datetime import timezone
from typing import Any

import duckdb
import pytest

from materializer.project.render import MacroRenderer
from tests import test_postgres_monitoring as monitoring
from tests.support import golden, spark
from tests.support.dbt import DbtFailed, DbtProject, make_project
from tests.support.golden import MODELS, Rows
from tests.support.two_engines import Columns, close
from tests.test_keys_every_way import GIVEN
from tests.test_postgres_keys import MORE, meaning_of

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]
# Planning a column of windows takes Spark half a second, however few rows there are: two windows beside each other once, one in each
# other grain and shape, and without the models whose SQL is made of what the others' is.
VARIABLES = {
    "windows": {
        "by_change": ["1 hour", "7 days"], "by_change_loaded": ["7 days"], "by_event": ["1 hour"], "by_hour": ["1 hour"],
        "by_range": ["7 days"], "as_of_loaded": ["7 days"],
    }
}  # fmt: skip
LEFT_OUT = ("as_of", "counts_by_change", "counts_by_event")
COMPARED = [name for name, (_, key) in MODELS.items() if key and name not in LEFT_OUT]

GROWING = """{{ config(materialized='incremental', incremental_strategy='append', unique_key=['user_id', 'event_timestamp']) }}
{{ feature_store.window_aggregates(relation=source('raw', 'events'), entities='user_id', timestamp='happened_at',
    aggregates=[{'name': 'n', 'function': 'count'}], windows=['1 hour'], grain='event') }}
"""


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


def rows_of(project: DbtProject, model: str, schema: str = "main") -> Rows:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(f'select * from {schema}."{model}"')
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def built(
    shared_spark: spark.Spark, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """The rows of each model on DuckDB and on Spark."""
    ours = make_project(tmp_path_factory.mktemp("on-duckdb"), golden.FILES, VARIABLES)
    on_duckdb(ours, golden.tables(), "run")
    for table, (columns, rows) in golden.tables().items():
        shared_spark.create(table, columns, rows)
    folder = tmp_path_factory.mktemp("on-spark")
    shared_spark.dbt(folder, golden.FILES, "build", "--exclude", *LEFT_OUT, variables=VARIABLES)
    (folder / "models" / "growing.sql").write_text(GROWING)
    with pytest.raises(
        DbtFailed, match="an incremental view replaces rows, which Spark's plain tables cannot: build it whole"
    ):
        shared_spark.run(folder, "compile", "--select", "growing")
    return {name: rows_of(ours, name) for name in COMPARED}, {name: shared_spark.rows(name) for name in COMPARED}


@pytest.mark.parametrize("model", COMPARED)
def test_spark_gives_the_rows_of_duckdb(built: Any, model: str) -> None:
    ours, theirs = built
    assert golden.differences(model, ours[model], theirs[model]) == []


@pytest.mark.parametrize("model", golden.BY_THE_RULE)
def test_the_rows_are_what_the_rule_says(built: Any, model: str) -> None:
    assert golden.unlike_the_rule(model, built[1][model]) == []


# One of each kind: a feature costs Spark two seconds in each of these models.
MEASURED = ("long", "price", "amount", "form", "ratio", "paid", "label", "day", "naive", "marks", "vector")
MONITORED = {name: monitoring.COLUMNS[name] for name in (*monitoring.KEYS, *MEASURED)}
MONITORS = {
    name: sql
    for name, sql in monitoring.MODELS.items()
    if name not in ("freshness_now", "difference_of_some", "statistics_of_days", "drift_of_periods", "broken")
}


@pytest.fixture(scope="module")
def measured(
    shared_spark: spark.Spark, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """The rows of the monitoring models on DuckDB and on Spark."""
    properties = monitoring.PROPERTIES | {"exposures": [], "models": monitoring.PROPERTIES["models"][:2]}
    files = {"models/properties.yml": properties} | {f"models/{name}.sql": sql for name, sql in MONITORS.items()}
    events = monitoring.rows(600, 3, monitoring.START)
    later = [
        row if number % 4 == 0 else new
        for number, (row, new) in enumerate(zip(events, monitoring.rows(600, 4, monitoring.START), strict=True))
    ]
    tables = {
        table: (MONITORED, [{name: row[name] for name in MONITORED} for row in rows])
        for table, rows in (("events", events), ("later", later))
    }
    ours = on_duckdb(make_project(tmp_path_factory.mktemp("on-duckdb"), files), tables, "run")
    for table, (columns, rows) in tables.items():
        shared_spark.create(table, columns, rows)
    shared_spark.dbt(tmp_path_factory.mktemp("on-spark"), files, "run")
    return {name: rows_of(ours, name) for name in MONITORS}, {name: shared_spark.rows(name) for name in MONITORS}


@pytest.mark.parametrize(
    ("model", "key", "count"),
    [
        ("statistics", ("feature",), len(MEASURED)),
        ("drift", ("feature",), len(MEASURED)),
        ("freshness", ("feature_view",), 2),
        ("difference", ("feature",), len(MEASURED)),
        ("examples", ("feature", "user_id"), 300),
    ],
)
def test_monitoring_gives_the_figures_of_duckdb(measured: Any, model: str, key: tuple[str, ...], count: int) -> None:
    ours, theirs = (monitoring.keyed(side[model], *key) for side in measured)
    assert len(ours) >= count
    found = [one for one in monitoring.differing(ours, theirs) if not alike(one[2], one[3])]
    assert found == []


def alike(one: Any, other: Any) -> bool:
    """The same figure but for the last digits of a double, also where it is shown as text or inside JSON."""
    if isinstance(one, float) and isinstance(other, float):
        return close(one, other)
    if isinstance(one, str) and isinstance(other, str):
        try:
            return alike(json.loads(one), json.loads(other))
        except ValueError:
            return number(one) is not None and close(number(one), number(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# What a spine has, by the kinds of values to ask with; and what views have, by the names that `meaning` knows them by.
SPINES = {
    "int": "bigint", "float": "double", "decimal": "decimal(10, 2)", "bool": "boolean", "text": "string", "date": "date",
    "naive": "timestamp_ntz", "zoned": "timestamp",
}  # fmt: skip
VIEWS = {
    "bigint": "bigint", "decimal": "decimal(10,2)", "double": "double", "text": "string", "boolean": "boolean", "date": "date",
    "timestamp": "timestamp_ntz", "timestamptz": "timestamp",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "known"), [(k, True) for k in SPINES] + [(k, False) for k in ("int", "bool", "text", "date")]
)
def test_every_join_key_is_the_one_that_it_means(shared_spark: spark.Spark, kind: str, known: bool) -> None:
    macros = MacroRenderer({"metadata": {"adapter_type": "spark"}, "nodes": {}, "macros": {}}, lambda relation: [])
    values = [value for value in GIVEN[kind] + MORE.get(kind, []) if kind != "decimal" or abs(value) < 10**8]
    types = {"int": "bigint", "float": "double", "bool": "boolean", "text": "varchar", "naive": "timestamp",
             "zoned": "timestamptz", "date": "date", "decimal": "decimal(10, 2)"}  # fmt: skip
    shared_spark.create(
        "keys", {"n": ("bigint", ""), "k": (types[kind], "")}, [{"n": n, "k": v} for n, v in enumerate(values)]
    )
    casts = [
        f"{macros.ask('_key', '`k`', SPINES[kind] if known else None, wanted)} as {name}_key"
        for name, wanted in VIEWS.items()
    ]
    shared_spark.session.sql("set spark.sql.session.timeZone = Europe/Berlin")
    found = shared_spark.session.sql(f"select n, {', '.join(casts)} from public.keys order by n").toArrow().to_pylist()
    shared_spark.session.sql("set spark.sql.session.timeZone = UTC")
    assert len(found) == len(values) > 1
    wrong = []
    for row, value in zip(found, values, strict=True):
        for name in VIEWS:
            key, expected = row[f"{name}_key"], meaning_of(name, value)
            if name == "timestamptz" and key is not None:
                key = key.astimezone(timezone.utc).replace(tzinfo=None)
            if name == "bigint" and expected is not None and not -(2**63) <= expected < 2**63:
                expected = None
            if key != key:
                key = None  # NaN is no entity's
            if name == "double" and key != expected and not isinstance(value, float):
                # Of a whole number beyond 2^53, and of a decimal, the double that it prints as.
                assert key is None or float(value) == key
                continue
            if key != expected:
                wrong.append((name, value, key, expected))
    assert wrong == []
