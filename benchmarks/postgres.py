"""How long PostgreSQL takes for what DuckDB does in the same run: a training set with a load time, and windows of grain `event`.

Run: python benchmarks/postgres.py [--scale 0.1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from support import Promises, alternate, median, note, print_table, seconds_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support import once
from tests.support.two_engines import Engines, two_engines

WINDOWS = ["1 day", "7 days", "30 days"]
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "total", "function": "sum", "expression": "units"},
    {"name": "mean", "function": "avg", "expression": "units"},
]
FEATURES = [f"users:{name}" for name in ("units", "amount", "price", "score", "segment")]
# What each table holds, in SQL of DuckDB, and the types of its columns on PostgreSQL.
TABLES = {
    "events": (
        """select cast(hash(i) % {entities} as bigint) as user_id,
            timestamptz '2026-01-01 00:00:00+00' + to_seconds(cast(hash(i, 1) % 7776000 as bigint)) as happened_at,
            happened_at + to_seconds(cast(hash(i, 2) % 7200 as bigint)) as loaded_at,
            cast(hash(i, 3) % 1000 as bigint) as units, hash(i, 4) % 100000 / 100 as amount,
            hash(i, 5) % 100000 / 7 as price, hash(i, 6) / 1e18 as score, 'segment ' || hash(i, 7) % 50 as segment
        from range({events}) as numbers (i)""",
        "user_id bigint, happened_at timestamptz, loaded_at timestamptz, units bigint, amount double precision, "
        "price double precision, score double precision, segment text",
    ),
    "labels": (
        """select cast(hash(i, 8) % {entities} as bigint) as user_id,
            timestamptz '2026-01-01 00:00:00+00' + to_seconds(cast(hash(i, 9) % 7776000 as bigint)) as event_timestamp
        from range({labels}) as numbers (i)""",
        "user_id bigint, event_timestamp timestamptz",
    ),
}
MODELS = {
    "users": "select * from {{ source('raw', 'events') }}",
    "trained": f"{{{{ feature_store.point_in_time_join(source('raw', 'labels'), {FEATURES}) }}}}",
    "windowed": (
        "{{ feature_store.window_aggregates(source('raw', 'events'), 'user_id', 'happened_at', "
        f"{AGGREGATES}, {WINDOWS}, 'event') }}}}"
    ),
}
PROPERTIES = {
    "sources": [
        {"name": "raw", "schema": "{{ 'main' if target.type == 'duckdb' else 'public' }}",
         "tables": [{"name": name} for name in TABLES]},
    ],
    "models": [
        {"name": "users", "config": {"meta": {"feature_view": {
            "entities": ["user_id"], "timestamp": "happened_at", "created_timestamp": "loaded_at"}}}},
    ],
}  # fmt: skip


def fill(engines: Engines, scale: float) -> None:
    """The same rows on both engines."""
    sizes = {"entities": int(20_000 * scale), "events": int(1_000_000 * scale), "labels": int(100_000 * scale)}
    with duckdb.connect(str(engines.duckdb.warehouse)) as ours, engines.connection.cursor() as theirs:
        ours.execute("set timezone = 'UTC'")
        for table, (sql, columns) in TABLES.items():
            ours.execute(f"create table {table} as {sql.format(**sizes)}")
            theirs.execute(f"create table {table} ({columns})")
            file = engines.duckdb.folder / f"{table}.csv"
            ours.execute(f"copy {table} to '{file}' (header false)")
            with file.open() as rows:
                theirs.copy_expert(f"copy {table} from stdin (format csv)", rows)
        theirs.execute("analyze")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    parser.add_argument("--rounds", type=int, default=1, help="times that each side is measured, after a warm-up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        once.in_folder(Path(folder))
        files = {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, sql in MODELS.items()}
        with two_engines(Path(folder), files) as engines:
            note("filling both")
            fill(engines, arguments.scale)
            engines.dbt("run", "--select", "users")
            engines.dbt("compile")
            measure(engines, arguments.rounds)
    return 0


def measure(engines: Engines, rounds: int) -> None:
    promises = Promises()
    rows = []
    with duckdb.connect(str(engines.duckdb.warehouse)) as ours, engines.connection.cursor() as theirs:
        ours.execute("set threads = 2")
        theirs.execute("analyze")
        for name, what in (("trained", "training set with a load time"), ("windowed", "windows of grain event")):
            note(what)
            sides = {
                "DuckDB": answering(ours.execute, engines.duckdb.compiled(name)),
                "PostgreSQL": answering(theirs.execute, engines.postgres.compiled(name)),
            }
            took = alternate(sides, rounds)
            theirs.execute("select count(*) from answer")
            counts = ours.execute("select count(*) from answer").fetchone()[0], theirs.fetchone()[0]
            assert counts[0] == counts[1] > 0, counts
            duck, postgres = median(took["DuckDB"]), median(took["PostgreSQL"])
            rows.append([what, f"{counts[0]:,}", f"{duck:.2f} s", f"{postgres:.2f} s", f"{postgres / duck:.1f}x"])
            promises.at_most(what, postgres / duck, 15)
    print_table("PostgreSQL against DuckDB", ["", "rows out", "DuckDB", "PostgreSQL", "ratio"], rows)
    promises.print()


def answering(execute: Callable[[str], Any], sql: str) -> Callable[[], float]:
    """Runs a query into a table `answer`; gives its seconds."""

    def run() -> float:
        execute("drop table if exists answer")
        return seconds_of(lambda: execute(f"create temp table answer as {sql}"))

    return run


if __name__ == "__main__":
    sys.exit(main())
