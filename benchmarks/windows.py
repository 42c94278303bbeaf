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
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.dbt import DbtProject, make_project  # noqa: E402

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


def events(rows: int, an_entity: int, days: int, first: int = 0) -> str:
    """SQL for random events; `first` is the number of the first one, so that more can be added later."""
    return f"""
        select
            cast(hash(i) % {max(1, rows // an_entity)} as bigint) as user_id,
            timestamp '2024-01-01' + to_microseconds(cast(hash(i, 1) % {days * 86_400_000_000} as bigint)) as happened_at,
            cast(hash(i, 2) % 1000 as bigint) as units,
            hash(i, 3) % 100000 / 100 as price,
            cast(hash(i, 4) % 50 as bigint) as kind
        from range({first}, {first + rows}) as numbers (i)"""


def call(macro: str, aggregates: list, rest: str) -> str:
    spine = "source('raw', 'labels'), " if macro == "aggregate_as_of" else ""
    return (
        f"{{{{ feature_store.{macro}({spine}source('raw', 'events'), 'user_id', 'happened_at', {aggregates!r}, {WINDOWS!r}, {rest}) }}}}"
    )


def project(folder: Path, tables: dict[str, str], files: dict[str, str]) -> DbtProject:
    folder.mkdir()
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        for name, sql in tables.items():
            connection.execute(f"create table raw.{name} as {sql}")
    sources = {"sources": [{"name": "raw", "tables": [{"name": name} for name in tables]}]}
    return make_project(folder, {"models/raw.yml": sources, **files})


def seconds(connection: duckdb.DuckDBPyConnection, sql: str, times: int = 3) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        connection.execute("create or replace temp table answer as " + sql)
        best = min(best, time.perf_counter() - start)
    return best


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
    took: dict[tuple[int, str], float] = {}
    for an_entity in (50, 2000):
        label_sql = events(labels, an_entity, days, rows).replace("happened_at", "event_timestamp")
        label_sql = label_sql.replace(f"% {max(1, labels // an_entity)} as", f"% {max(1, rows // an_entity)} as")
        files = {
            f"models/{name.replace(', ', '_').replace(' ', '_')}__{shape}.sql": call("aggregate_as_of", aggregates, f"shape={shape!r}")
            for name, aggregates in KINDS.items()
            for shape in ("dense", "range")
        }
        files["models/planned.sql"] = call("aggregate_as_of", COUNTS, "shape=none")
        made = project(folder / f"asof_{an_entity}", {"events": events(rows, an_entity, days), "labels": label_sql}, files)
        made.dbt("compile")
        with duckdb.connect(str(made.warehouse), read_only=True) as connection:
            connection.execute("set threads = 2")
            took[an_entity, "planned"] = seconds(connection, made.compiled("planned"))
            for name in KINDS:
                model = name.replace(", ", "_").replace(" ", "_")
                took[an_entity, name] = seconds(connection, made.compiled(f"{model}__dense"))
                if an_entity == 2000:
                    limit = 10 * (rows + labels) * (len(WINDOWS) + 1)
                    operator, most = max(operators(connection, made.compiled(f"{model}__dense")), key=lambda o: o[1])
                    line(f"{name}: most rows an operator puts out", f"{most:,} ({operator.lower()})", f"<= {limit:,}", most <= limit)
            took[an_entity, "range"] = seconds(connection, made.compiled("count_sum_avg__range"), 1 if an_entity > 50 else 3)
    flat = took[2000, "planned"] / took[50, "planned"]
    line("as-of count, sum, avg, as planned: 2,000 events an entity against 50", f"{flat:.2f}x ({took[2000, 'planned']:.2f} s)", "<= 1.5x", flat <= 1.5)
    faster = took[2000, "range"] / took[2000, "planned"]
    line("the same against the range join, 2,000 events an entity", f"{faster:.1f}x faster", ">= 10x", faster >= 10)
    line("the same against the range join, 50 events an entity", f"{took[50, 'range'] / took[50, 'planned']:.1f}x")
    for name in KINDS:
        ratio = took[2000, name] / took[2000, "count, sum, avg"]
        promised = name in ("min, max", "count_distinct")
        line(f"{name} against count, sum, avg", f"{ratio:.1f}x ({took[2000, name]:.2f} s)", "<= 5x" if promised else "", ratio <= 5 or not promised)


def change(folder: Path, scale: float) -> None:
    rows = int(10_000_000 * scale)
    made = project(folder / "change", {"events": events(rows, 1000, 730)}, {"models/view.sql": call("window_aggregates", SIX, "")})
    made.dbt("compile")
    with duckdb.connect(str(made.warehouse)) as connection:
        connection.execute("set threads = 2")
        connection.execute("set memory_limit = '6GiB'")
        start = time.perf_counter()
        connection.execute("create table view as " + made.compiled("view"))
        took = time.perf_counter() - start
        out = connection.execute("select count(*) from view").fetchone()[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line(f"grain change, {rows / 1e6:g}M events, 3 windows, 6 aggregates", f"{took:.0f} s, {out / 1e6:.1f}M rows, peak {peak:.1f} GiB", "<= 8 GiB", peak <= 8)


def incremental(folder: Path, scale: float) -> None:
    rows, days = int(2_000_000 * scale), 730
    config = "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'event_timestamp']) }}\n"
    made = project(
        folder / "incremental",
        {"events": events(rows, 1000, days)},
        {"models/view.sql": config + call("window_aggregates", SIX, "grain='change'")},
    )
    made.dbt("run")
    start = time.perf_counter()
    made.dbt("run", "--full-refresh")
    full = time.perf_counter() - start
    more = rows // 100
    fresh = events(more, 1000, 7, rows).replace("timestamp '2024-01-01'", f"timestamp '2024-01-01' + interval '{days} days'")
    fresh = fresh.replace(f"% {max(1, more // 1000)} as", f"% {max(1, rows // 1000)} as")
    with duckdb.connect(str(made.warehouse)) as connection:
        connection.execute("insert into raw.events " + fresh)
    start = time.perf_counter()
    made.dbt("run")
    part = time.perf_counter() - start
    line("1% new events against a full build (dbt run)", f"{part / full:.1%} ({part:.1f} s of {full:.1f} s)", "<= 10%", part / full <= 0.1)


PARTS = {"asof": as_of, "incremental": incremental, "change": change}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="asof, incremental, change (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, DuckDB {duckdb.__version__}, scale {arguments.scale:g}\n")
    print("| what | measured | promise |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts or PARTS:
            PARTS[part](Path(folder), arguments.scale)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
