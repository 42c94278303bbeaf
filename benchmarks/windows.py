"""What windows cost: ratios measured side by side in one run, printed as a table. Exits 1 where a promise is broken.

    python benchmarks/windows.py                  # all of it, about ten minutes on two cores
    python benchmarks/windows.py asof incremental --scale 0.1

asof         as-of windows at 50 and at 2,000 events an entity, against the range join, and by kind of aggregate; rows of each operator
change       a view of grain `change`, three windows and six aggregates, within 8 GiB
incremental  1% new events against a full build
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support import once
from tests.support.dbt import DbtProject, make_project

WINDOWS = ["1 day", "7 days", "30 days"]
COUNTS = [
    {"name": "n", "function": "count"},
    {"name": "total", "function": "sum", "expression": "units"},
    {"name": "mean", "function": "avg", "expression": "units"},
]
KINDS: dict[str, list[dict[str, str]]] = {
    "count, sum, avg": COUNTS,
    "min, max": [
        {"name": "low", "function": "min", "expression": "units"},
        {"name": "high", "function": "max", "expression": "units"},
    ],
    "count_distinct": [{"name": "kinds", "function": "count_distinct", "expression": "kind"}],
    "sum of doubles": [{"name": "spent", "function": "sum", "expression": "price"}],
    "stddev": [{"name": "spread", "function": "stddev", "expression": "price"}],
    "first, last": [
        {"name": "oldest", "function": "first", "expression": "units"},
        {"name": "newest", "function": "last", "expression": "units"},
    ],
}
SIX = [
    *COUNTS,
    {"name": "high", "function": "max", "expression": "units"},
    {"name": "low", "function": "min", "expression": "units"},
    {"name": "spent", "function": "sum", "expression": "price"},
]
broken: list[str] = []


def line(what: str, figure: str, promise: str = "", kept: bool = True) -> None:
    print(f"| {what} | {figure} | {promise}{'' if kept else ' **BROKEN**'} |", flush=True)
    if not kept:
        broken.append(what)


def events(rows: int, entities: int, days: int, first: int = 0, start: str = "2024-01-01") -> str:
    """SQL for random events; `first` is the number of the first one, so that more can be added later."""
    return f"""
        select
            cast(hash(i) % {entities} as bigint) as user_id,
            timestamp '{start}' + to_microseconds(cast(hash(i, 1) % {days * 86_400_000_000} as bigint)) as happened_at,
            cast(hash(i, 2) % 1000 as bigint) as units,
            hash(i, 3) % 100000 / 100 as price,
            cast(hash(i, 4) % 50 as bigint) as kind
        from range({first}, {first + rows}) as numbers (i)"""


def call(macro: str, aggregates: list, rest: str) -> str:
    spine = "source('raw', 'labels'), " if macro == "aggregate_as_of" else ""
    return f"{{{{ feature_store.{macro}({spine}source('raw', 'events'), 'user_id', 'happened_at', {aggregates!r}, {WINDOWS!r}, {rest}) }}}}"


def project(folder: Path, tables: dict[str, str], files: dict[str, str]) -> DbtProject:
    folder.mkdir()
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        for name, sql in tables.items():
            connection.execute(f"create table raw.{name} as {sql}")
    sources = {"sources": [{"name": "raw", "tables": [{"name": name} for name in tables]}]}
    return make_project(folder, {"models/raw.yml": sources, **files})


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and seconds of CPU (all cores), which a busy machine changes less."""

    clock: float
    cpu: float

    def against(self, other: Took) -> str:
        return f"{self.clock / other.clock:.2f}x (CPU {self.cpu / other.cpu:.2f}x)"

    def __str__(self) -> str:
        return f"{self.clock:.2f} s (CPU {self.cpu:.2f} s)"


def best(runs: dict[Any, tuple[duckdb.DuckDBPyConnection, str]], times: int = 3) -> dict[Any, Took]:
    """The best of several runs of each query, taken in turns, so that what disturbs one disturbs all."""
    took: dict[Any, Took] = {}
    for _ in range(times):
        for name, (connection, sql) in runs.items():
            clock, cpu = time.perf_counter(), time.process_time()
            connection.execute("create or replace temp table answer as " + sql)
            now = Took(time.perf_counter() - clock, time.process_time() - cpu)
            before = took.get(name, now)
            took[name] = Took(min(before.clock, now.clock), min(before.cpu, now.cpu))
    return took


def operators(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[str, int]]:
    """(operator, rows it put out), from EXPLAIN ANALYZE."""
    profile = json.loads(connection.execute("explain (analyze, format json) " + sql).fetchall()[0][1])
    waiting: list[dict[str, Any]] = list(profile["operator"])
    while waiting:
        node = waiting.pop()
        yield node["type"], node["intermediate_rows"]
        waiting += node.get("children", [])


def as_of(folder: Path, scale: float) -> None:
    rows, labels, days = int(2_000_000 * scale), int(200_000 * scale), 90
    queries: dict[Any, tuple[duckdb.DuckDBPyConnection, str]] = {}
    for an_entity in (50, 2000):
        entities = max(1, rows // an_entity)
        label_sql = events(labels, entities, days, rows).replace("happened_at", "event_timestamp")
        files = {"models/planned.sql": call("aggregate_as_of", COUNTS, "shape=none")}
        for number, aggregates in enumerate(KINDS.values()):
            files[f"models/dense_{number}.sql"] = call("aggregate_as_of", aggregates, "shape='dense'")
        files["models/range.sql"] = call("aggregate_as_of", COUNTS, "shape='range'")
        made = project(
            folder / f"asof_{an_entity}", {"events": events(rows, entities, days), "labels": label_sql}, files
        )
        made.dbt("compile")
        connection = duckdb.connect(str(made.warehouse), read_only=True)
        connection.execute("set threads = 2")
        queries[an_entity, "planned"] = (connection, made.compiled("planned"))
        queries[an_entity, "range"] = (connection, made.compiled("range"))
        for number, name in enumerate(KINDS):
            queries[an_entity, name] = (connection, made.compiled(f"dense_{number}"))

    flat = best({key: query for key, query in queries.items() if key[1] == "planned"}, 5)
    few, many = flat[50, "planned"], flat[2000, "planned"]
    line(
        "count, sum, avg: 2,000 events an entity against 50",
        f"{many.against(few)}: {many}, {few}",
        "<= 1.5x",
        many.clock <= 1.5 * few.clock,
    )
    joined = best({2000: queries[2000, "range"]}, 1)[2000]
    line(
        "range join against these, 2,000 events an entity",
        joined.against(many),
        ">= 10x",
        joined.clock >= 10 * many.clock,
    )
    joined = best({50: queries[50, "range"]})[50]
    line("range join against these, 50 events an entity", joined.against(few))
    kinds = best({name: queries[2000, name] for name in KINDS})
    for name, took in kinds.items():
        promised = name in ("min, max", "count_distinct")
        kept = not promised or took.clock <= 5 * kinds["count, sum, avg"].clock
        line(
            f"{name} against count, sum, avg", took.against(kinds["count, sum, avg"]), "<= 5x" if promised else "", kept
        )
    limit = 10 * (rows + labels) * (len(WINDOWS) + 1)
    for name in KINDS:
        operator, most = max(operators(*queries[2000, name]), key=lambda o: o[1])
        line(
            f"{name}: most rows an operator puts out", f"{most:,} ({operator.lower()})", f"<= {limit:,}", most <= limit
        )


def change(folder: Path, scale: float) -> None:
    rows = int(10_000_000 * scale)
    made = project(
        folder / "change",
        {"events": events(rows, max(1, rows // 1000), 730)},
        {"models/view.sql": call("window_aggregates", SIX, "")},
    )
    made.dbt("compile")
    with duckdb.connect(str(made.warehouse)) as connection:
        connection.execute("set threads = 2")
        connection.execute("set memory_limit = '6GiB'")
        start = time.perf_counter()
        connection.execute("create table view as " + made.compiled("view"))
        took = time.perf_counter() - start
        out = connection.execute("select count(*) from view").fetchone()[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line(
        f"grain change, {rows / 1e6:g}M events, 3 windows, 6 aggregates",
        f"{took:.0f} s, {out / 1e6:.1f}M rows, peak {peak:.1f} GiB",
        "<= 8 GiB",
        peak <= 8,
    )


def incremental(folder: Path, scale: float) -> None:
    rows = int(2_000_000 * scale)
    more, entities = rows // 100, max(1, rows // 1000)
    config = "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'event_timestamp']) }}\n"
    made = project(
        folder / "incremental",
        {"events": events(rows, entities, 730)},
        {"models/view.sql": config + call("window_aggregates", SIX, "grain='change'")},
    )
    took = {}
    made.dbt("parse")
    for name in ("full", "1%"):
        clock, cpu = time.perf_counter(), time.process_time()
        made.dbt("run")
        took[name] = Took(time.perf_counter() - clock, time.process_time() - cpu)
        if name == "full":
            with duckdb.connect(str(made.warehouse)) as connection:
                connection.execute("insert into raw.events " + events(more, entities, 7, rows, start="2025-12-31"))
    share = took["1%"].clock / took["full"].clock
    line(
        "1% new events, of every entity, against a full build (dbt run)",
        f"{share:.1%}: {took['1%']}, {took['full']}",
        "<= 10%",
        share <= 0.1,
    )


PARTS = {"asof": as_of, "incremental": incremental, "change": change}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="asof, incremental, change (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, DuckDB {duckdb.__version__}, scale {arguments.scale:g}\n")
    print("| what | measured | promise |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        once.in_folder(Path(folder))
        for part in arguments.parts or PARTS:
            PARTS[part](Path(folder), arguments.scale)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
