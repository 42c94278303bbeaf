"""Rows a second that reach Redis from a Spark cluster: by one process that has them from Spark, and by its executors. The cluster is
a standalone master and two workers of one core each, on this machine, as the Redis is.

Run: python benchmarks/spark.py [--rows 100000] [--rounds 2]     (needs Java 17 and the extra spark)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support import alternate, median, note, print_table, private_redis, rows_sql

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.spark import hand_made
from tests.support.spark_cluster import cluster

VIEW = {"entities": ["user_id"], "timestamp": "event_timestamp", "ttl": "3650 days"}
PARTS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="times that each side is measured, after a warm-up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, private_redis() as server, cluster(redis_url=server.url) as running:
        note(f"making {arguments.rows:,} rows")
        make_table(running.server.session, Path(folder), arguments.rows)
        os.environ["SPARK_REMOTE"] = running.server.url
        measure(hand_made(Path(folder), {"users": VIEW}), server, arguments.rows, arguments.rounds)
    return 0


def make_table(session: Any, folder: Path, rows: int) -> None:
    """A table of the cluster's with the rows of every other benchmark."""
    import duckdb

    file = folder / "users.parquet"
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"copy ({rows_sql(rows)}) to '{file}' (format parquet)")
    session.sql("create schema if not exists main")
    session.sql(f"create table main.users as select /*+ repartition({PARTS}) */ * from parquet.`{file}`")


def measure(folder: Path, server: Any, rows: int, rounds: int) -> None:
    from materializer import FeatureStore

    client = server.client()

    def run(namespace: str, **options: Any) -> float:
        while client.exists(f"{namespace}:_fs_lease:users"):  # executors' runs leave it to end by itself
            time.sleep(0.2)
        store = FeatureStore(folder, redis_url=server.url, namespace=namespace)
        note(f"{namespace} {options}")
        (result,) = store.materialize(**options)
        assert result.rows_written == (rows if options.get("full") else 0), result
        return result.seconds

    took = alternate(
        {
            "process, all rows": lambda: run("process", full=True),
            "executors, all rows": lambda: run("executors", full=True, from_executors=True),
            "process, nothing new": lambda: run("process"),
            "executors, nothing new": lambda: run("executors", from_executors=True),
        },
        rounds,
    )
    table = [
        [name, f"{median(times):.1f} s", f"{rows / median(times):,.0f}" if "all" in name else ""]
        for name, times in took.items()
    ]
    print_table(f"{rows:,} rows x 6 features, end to end", ["written by", "took", "rows/s"], table)


if __name__ == "__main__":
    sys.exit(main())
