"""How cost grows with the number of events, on one machine with DuckDB: training sets, windows, `latest`, and rows to Redis.

Run: python benchmarks/scale.py [--events 1000000 10000000 100000000]

Each step of ten keeps the shape: 50 events an entity, 90 days, 100,000 labels. What grows by more than ten is what breaks first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from support import PEAK_MIB, RedisServer, dbt, make_project, note, print_table, private_redis

LABELS = 100_000
EVENTS = """select
    cast(hash(i) % {entities} as bigint) as user_id,
    timestamptz '2026-01-01 00:00:00+00' + to_seconds(cast(hash(i, 1) % 7776000 as bigint)) as event_timestamp,
    cast(hash(i, 3) % 1000 as bigint) as units, hash(i, 4) % 100000 / 100 as amount, hash(i, 5) % 100000 / 7 as price,
    hash(i, 6) / 1e18 as score, 'segment ' || hash(i, 7) % 50 as segment
from range({events}) as numbers (i)"""
LABEL_ROWS = f"""select cast(hash(i, 8) % {{entities}} as bigint) as user_id,
    timestamptz '2026-01-01 00:00:00+00' + to_seconds(cast(hash(i, 9) % 7776000 as bigint)) as event_timestamp
from range({LABELS}) as numbers (i)"""
FEATURES = [f"users:{name}" for name in ("units", "amount", "price", "score", "segment")]
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "total", "function": "sum", "expression": "units"},
    {"name": "mean", "function": "avg", "expression": "units"},
]
MODELS = {
    "trained": f"{{{{ feature_store.point_in_time_join(ref('labels'), {FEATURES}) }}}}",
    "windowed": (
        "{{ feature_store.window_aggregates(ref('users'), 'user_id', 'event_timestamp', "
        f"{AGGREGATES}, ['1 day', '7 days', '30 days'], 'event') }}}}"
    ),
    "newest": "{{ feature_store.latest('users') }}",
}
VIEW = {"name": "users", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}}
# A step in a process of its own, for its own peak of memory.
STEP = (
    PEAK_MIB
    + """
import json, sys, time
kind, folder, sql, url = sys.argv[1:]
started = time.perf_counter()
if kind == "sql":
    import duckdb
    with duckdb.connect(folder + "/warehouse.duckdb") as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set temp_directory = '" + folder + "/spill'")
        connection.execute("create or replace table answer as " + open(sql).read())
        (rows,) = connection.execute("select count(*) from answer").fetchone()
        seconds = time.perf_counter() - started
        connection.execute("drop table answer")
else:
    from materializer import FeatureStore
    (result,) = FeatureStore(folder, redis_url=url, namespace="scale").materialize()
    assert result.error is None, result.error
    rows, seconds = result.rows_written, time.perf_counter() - started
print(json.dumps([rows, seconds, peak_mib()]))
"""
)
STEPS = {
    "windowed": "windows of grain event, 3 lengths x 3",
    "trained": f"training set of {LABELS:,} labels",
    "newest": "latest",
    "materialize": "materialize, everything new",
    "again": "materialize, nothing new",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--folder", type=Path, help="where data lies (default: the temporary folder)")
    arguments = parser.parse_args()
    rows = []
    for events in arguments.events:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, private_redis() as redis:
            rows += measured(Path(folder), events, redis)
    print_table(
        "Cost by the number of events", ["what", "events", "rows out", "seconds", "peak MiB", "bytes in Redis"], rows
    )
    return 0


def measured(folder: Path, events: int, redis: RedisServer) -> list[list[str]]:
    """The table's rows for one number of events."""
    note(f"{events:,} events")
    sizes = {"entities": max(1, events // 50), "events": events}
    raw = {"users": EVENTS.format(**sizes), "labels": LABEL_ROWS.format(**sizes)}
    make_project(folder, raw, [VIEW])
    for name, sql in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    dbt(folder, "compile")
    compiled = folder / "target" / "compiled" / "bench" / "models"
    rows = []
    for name, what in STEPS.items():
        note(what)
        kind = "materialize" if name not in MODELS else "sql"
        before = redis.client().info("memory")["used_memory"]
        answer = subprocess.run(
            [sys.executable, "-c", STEP, kind, str(folder), str(compiled / f"{name}.sql"), redis.url],
            stdout=subprocess.PIPE, text=True, check=True,
        ).stdout  # fmt: skip
        count, seconds, peak = json.loads(answer.splitlines()[-1])
        used = redis.client().info("memory")["used_memory"] - before
        each = f"{used / count:,.0f} a row" if name == "materialize" else ""
        rows.append([what, f"{events:,}", f"{count:,}", f"{seconds:.1f}", f"{peak:,.0f}", each])
    return rows


if __name__ == "__main__":
    sys.exit(main())
