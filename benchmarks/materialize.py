"""How fast `materialize` is, against Feast, redis-py pipelines and what the same Redis takes at most.

Run: python benchmarks/materialize.py [--quick] [--memory-rows 10000000]
     python benchmarks/materialize.py --due [--quick]     views in which rows fall due, and nothing else
"""

from __future__ import annotations

import argparse
import array
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import support
from support import FEATURES, FeastFailed, Promises, alternate, median, note

TTL_DAYS = 3650
EXPIRES_MS = (int(time.time()) + 2 * TTL_DAYS * 86400) * 1000


def main() -> None:
    options = arguments()
    if options.due:
        return due(options)
    promises = Promises()
    with (
        tempfile.TemporaryDirectory(prefix="bench-materialize-", dir=options.folder) as name,
        support.private_redis() as server,
    ):
        folder = Path(name)
        note(f"dbt builds {options.rows:,} rows")
        # The rows of `changing` move with a variable, as a later load of the same entities would.
        changing = (
            "{% set some = var('some', 0) %}{% set all = var('all', 0) %}\n"
            + "select * replace (case when user_id < {{ some }} then purchases + 1 else purchases end "
            + f"+ {{{{ all }}}} as purchases) from ({support.rows_sql(options.rows)})"
        )
        models = {
            "users": support.rows_sql(options.rows),
            "vectors": support.rows_sql(options.vector_rows, embedding=128),
            "changing": changing,
        }
        properties = [support.view_properties(view, f"{TTL_DAYS} days") for view in models]
        warehouse = support.make_project(folder, models, properties)
        speed(options, promises, folder, warehouse, server)
        size(options, promises, folder, warehouse, server)
        incremental(options, promises, folder, server)
    if options.memory_rows:
        memory(options, promises)
    promises.print()


# Rows a second.


def speed(options: argparse.Namespace, promises: Promises, folder: Path, warehouse: Path, server: Any) -> None:
    rows = []
    for view, count in (("users", options.rows), ("vectors", options.vector_rows)):
        note(f"{view}: {count:,} rows, {options.rounds} rounds and a warm-up")
        sides = {
            "this": lambda view=view: ours(folder, server, view),
            "Redis's own limit": lambda view=view, count=count: limit(warehouse, server, view, count),
        }
        if view == "users":
            sides["redis-py pipelines"] = lambda view=view: pipelines(warehouse, server, view, options.client_rows)
        rates = alternate(sides, options.rounds)
        if view == "users" and not options.no_feast:
            rates["Feast"] = feast_rates(options, folder, warehouse, server)
        best = {name: median(values) for name, values in rates.items()}
        counts = {"redis-py pipelines": options.client_rows, "Feast": options.feast_rows}
        kind = f"{len(FEATURES)} features" + (" + float[128]" if view == "vectors" else "")
        for name, rate in best.items():
            faster = "" if name == "this" else f"{best['this'] / rate:.2f}"
            rows.append([kind, name, f"{min(counts.get(name, count), count):,}", f"{rate:,.0f}", faster])
        promises.at_least(f"share of Redis's own limit, {kind}", best["this"] / best["Redis's own limit"], 0.6)
        if view == "users":
            promises.at_least("faster than Feast", best["this"] / best["Feast"] if "Feast" in best else None, 10)
    support.print_table("First load of an empty Redis", ["rows of", "", "rows", "rows/s", "this / it"], rows)


def ours(folder: Path, server: Any, view: str) -> float:
    """`FeatureStore.materialize` from start to end, with nothing in Redis and nothing remembered: rows/s."""
    server.flush()
    forget(folder)
    code = (
        "import json, sys, time\n"
        "from materializer import FeatureStore\n"
        "store = FeatureStore(sys.argv[1], redis_url=sys.argv[2])\n"
        "begin = time.perf_counter()\n"
        "(result,) = store.materialize(feature_views=[sys.argv[3]])\n"
        "print(json.dumps([result.rows_written, time.perf_counter() - begin]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), server.url, view], capture_output=True, text=True, check=True
    )
    written, seconds = json.loads(done.stdout)
    return written / seconds


def limit(warehouse: Path, server: Any, view: str, count: int) -> float:
    """HSET + PEXPIREAT of the same rows, as bytes made beforehand, poured into the same Redis: rows/s."""
    chunks, replies = prebuilt(warehouse, view, count)
    server.flush()
    return count / pour(server.port, chunks, replies)


@cache
def prebuilt(warehouse: Path, view: str, count: int) -> tuple[list[bytes], int]:
    """The commands for all rows, 500 rows a piece, and how many answers they bring."""
    rows = batches(warehouse, view, 0, count, 500)
    pieces = [b"".join(command(*hset) + command(*expire) for hset, expire in map(commands_of, some)) for some in rows]
    return pieces, 2 * count


def pour(port: int, chunks: list[bytes], replies: int) -> float:
    """Send bytes as fast as they are taken, and count the lines that come back: seconds."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed: list[bytes] = []

        def count() -> None:
            missing = replies
            while missing > 0 and not failed:
                data = link.recv(1 << 20)
                if not data or b"-" in data:
                    failed.append(data[:200])
                missing -= data.count(b"\n")

        reader = threading.Thread(target=count)
        begin = time.perf_counter()
        reader.start()
        for chunk in chunks:
            link.sendall(chunk)
        reader.join()
        seconds = time.perf_counter() - begin
    if failed:
        sys.exit(f"Redis refused: {failed[0]!r}")
    return seconds


def pipelines(warehouse: Path, server: Any, view: str, count: int) -> float:
    """The same through redis-py's pipelines of 1,000 rows, reading of the warehouse included: rows/s."""
    server.flush()
    client, total = server.client(), 0
    begin = time.perf_counter()
    for rows in batches(warehouse, view, 0, count, 1_000):
        pipeline = client.pipeline(transaction=False)
        for row in rows:
            (_, key, *pairs), (_, _, moment) = commands_of(row)
            pipeline.hset(key, items=pairs)
            pipeline.pexpireat(key, int(moment))
        pipeline.execute()
        total += len(rows)
    return total / (time.perf_counter() - begin)


def batches(warehouse: Path, view: str, start: int, count: int, size: int) -> Iterator[list[dict[str, Any]]]:
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        rows = f"from {view} where user_id >= {start} and user_id < {start + count}"
        for batch in connection.sql(rows).to_arrow_reader(size):
            if batch.num_rows:
                yield batch.to_pylist()


def commands_of(row: dict[str, Any]) -> tuple[list[bytes], list[bytes]]:
    """HSET and PEXPIREAT for a row as `materialize` writes it."""
    key = b"bench.dev:users:%d" % row["user_id"]
    event = row["event_timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    pairs = []
    for name in FEATURES:
        pairs += [name.encode(), str(row[name]).encode()]
    if "embedding" in row:
        pairs += [b"embedding", array.array("f", row["embedding"]).tobytes()]
    pairs += [b"_fs_event", event, b"_fs_expires", event, b"_fs_writer", b"run:benchmark-12345-deadbeef"]
    return [b"HSET", key, *pairs], [b"PEXPIREAT", key, b"%d" % EXPIRES_MS]


def command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


# Feast.


def start_feast(options: argparse.Namespace, folder: Path, warehouse: Path, server: Any) -> support.FeastSide:
    import duckdb

    path = folder / "users.parquet"
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute(f"copy (from users where user_id < {options.feast_rows}) to '{path}' (format parquet)")
    feast = support.FeastSide(options.feast_env, folder / "feast")
    feast.ask(
        "setup", redis_port=server.port, views={"users": {"path": str(path), "features": FEATURES}}, ttl_days=TTL_DAYS
    )
    return feast


def feast_rates(options: argparse.Namespace, folder: Path, warehouse: Path, server: Any) -> list[float]:
    rows = min(options.feast_rows, options.rows)
    note(f"Feast: {rows:,} rows (it takes too long for more), two rounds of which the first warms up")
    rates = []
    try:
        with start_feast(options, folder, warehouse, server) as feast:
            for _ in range(2):
                server.flush()
                rates.append(rows / feast.ask("materialize", start="2025-12-31T00:00:00+00:00")["seconds"])
    except FeastFailed as error:
        sys.exit(f"Feast failed: {error}")
    return rates[1:]


# Bytes an entity.


def size(options: argparse.Namespace, promises: Promises, folder: Path, warehouse: Path, server: Any) -> None:
    rows, count = [], min(options.feast_rows, options.rows)
    client = server.client()

    def used(fill: Any) -> tuple[float, float]:
        server.flush()
        forget(folder)
        before = client.info("memory")["used_memory"]
        fill()
        after = client.info("memory")["used_memory"]
        # Feast adds keys to what a view has, so keys are counted in entities of the view, not in keys.
        key = next(
            key for key in client.scan_iter(count=1000) if client.type(key) == b"hash" and b"registry" not in key
        )
        return after - before, client.memory_usage(key, samples=0)

    total, one = used(lambda: ours(folder, server, "users"))
    rows.append(["this", f"{options.rows:,}", f"{total / options.rows:,.0f}", f"{one:,}"])
    if not options.no_feast:
        with start_feast(options, folder, warehouse, server) as feast:
            total, one = used(lambda: feast.ask("materialize", start="2025-12-31T00:00:00+00:00"))
        rows.append(["Feast", f"{count:,}", f"{total / count:,.0f}", f"{one:,}"])
    head = ["", "entities", "bytes an entity (used_memory)", "MEMORY USAGE of one"]
    support.print_table("Memory in Redis", head, rows)


# What changed, and no more.


def incremental(options: argparse.Namespace, promises: Promises, folder: Path, server: Any) -> None:
    """A run after 1,000 changes and one after all rows changed, as the server's own counters show them."""
    server.flush()
    forget(folder)
    some = min(1_000, options.rows // 100)
    rows = []
    for label, variables in (
        ("first load", {}),
        ("nothing changed", {}),
        (f"{some:,} rows changed", {"some": some}),
        ("every row changed", {"some": some, "all": 7}),
    ):
        if variables:
            support.dbt(folder, "run", "--select", "changing", "--vars", json.dumps(variables))
        client = server.client()
        client.config_resetstat()
        result = one_run(folder, server, "changing")
        stats = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_").split("|")[0]: value["calls"] for name, value in stats.items()}
        sets, scans = calls.get("hset", 0), calls.get("scan", 0)
        rows.append(
            [label, f"{result['rows_written']:,}", f"{sets:,}", f"{scans:,}", f"{sum(calls.values()):,}",
             f"{result['seconds']:.2f}"]
        )  # fmt: skip
        if "rows changed" in label:
            promises.at_most(f"row writes for {some:,} changes in {options.rows:,} rows", sets, some * 1.1, "")
            promises.at_most("SCAN calls for them", scans, 0, "")
    head = ["run", "rows written", "HSET calls", "SCAN calls", "all commands", "seconds"]
    support.print_table(f"Runs over a view of {options.rows:,} rows (INFO commandstats)", head, rows)


def one_run(folder: Path, server: Any, view: str) -> dict[str, Any]:
    """One `materialize` in a process of its own: its result, and its peak memory in MiB."""
    code = (
        support.PEAK_MIB + "import json, sys\n"
        "from dataclasses import asdict\n"
        "from materializer import FeatureStore\n"
        "import time\n"
        "store, cpu = FeatureStore(sys.argv[1], redis_url=sys.argv[2]), time.process_time()\n"
        "(result,) = store.materialize(feature_views=[sys.argv[3]])\n"
        "cpu = time.process_time() - cpu\n"
        "print(json.dumps(asdict(result) | {'peak_mib': peak_mib(), 'cpu': cpu}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), server.url, view], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"materialize failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def forget(folder: Path) -> None:
    """Remove what `materialize` remembers, so that the next run is a first one."""
    shutil.rmtree(folder / "warehouse.duckdb.feature_store", ignore_errors=True)


# Rows that fall due.


def due(options: argparse.Namespace) -> None:
    """First loads of views in which none, one, 5% and all of the entities have two rows that fall due."""
    models = support.due_models(options.rows)
    with (
        tempfile.TemporaryDirectory(prefix="bench-materialize-", dir=options.folder) as name,
        support.private_redis() as server,
    ):
        folder = Path(name)
        note(f"dbt builds {len(models)} views of {options.rows:,} entities")
        support.make_project(folder, models, [support.view_properties(view) for view in models])
        note(f"{options.rounds} rounds and a warm-up")
        client, used = server.client(), {}

        def load(view: str) -> tuple[float, float, float]:
            """Seconds, CPU seconds of the run, CPU seconds of Redis."""
            server.flush()
            forget(folder)
            before = client.info("memory")["used_memory"], redis_cpu(client)
            result = one_run(folder, server, view)
            used[view] = client.info("memory")["used_memory"] - before[0]
            return result["seconds"], result["cpu"], redis_cpu(client) - before[1]

        loads = alternate({view: (lambda view=view: load(view)) for view in models}, options.rounds)
        rows, count = [], options.rows + 1
        for view, found in loads.items():
            load(view)
            key = f"bench.dev:{view}:0"
            idle = one_run(folder, server, view)
            seconds, cpu, of_redis = (median([one[place] for one in found]) for place in range(3))
            rows.append(
                [view, f"{count / seconds:,.0f}", f"{cpu / count * 1e6:.1f}", f"{of_redis / count * 1e6:.1f}",
                 f"{used[view] / count:,.0f}", f"{client.memory_usage(key, samples=0):,}",
                 f"{client.hstrlen(key, '_fs_due'):,}", f"{idle['cpu']:.2f}", f"{idle['rows_written']:,}"]
            )  # fmt: skip
    head = ["view", "entities/s", "CPU us an entity", "of Redis", "bytes an entity", "of number 0", "its list",
            "next run, CPU s", "its rows"]  # fmt: skip
    support.print_table(f"Views of {options.rows:,} entities, two rows due each for none, one, 5%, all", head, rows)


def redis_cpu(client: Any) -> float:
    found = client.info("cpu")
    return found["used_cpu_user"] + found["used_cpu_sys"]


# Memory of the process.


def memory(options: argparse.Namespace, promises: Promises) -> None:
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-memory-", dir=options.folder) as name,
        support.private_redis() as server,
    ):
        folder = Path(name)
        note(f"dbt builds {options.memory_rows:,} rows")
        support.make_project(
            folder, {"users": support.rows_sql(options.memory_rows)}, [support.view_properties("users")]
        )
        for label in ("first load", "nothing changed"):
            note(label)
            result = one_run(folder, server, "users")
            rate = result["rows_written"] / result["seconds"] if result["rows_written"] else 0
            rows.append(
                [label, f"{result['rows_written']:,}", f"{result['seconds']:.1f}", f"{rate:,.0f}" if rate else "",
                 f"{result['peak_mib']:,.0f}"]
            )  # fmt: skip
            promises.at_most(f"peak memory at {options.memory_rows:,} rows, {label}", result["peak_mib"], 1024, " MiB")
    head = ["run", "rows written", "seconds", "rows/s", "peak MiB of the process"]
    support.print_table(f"Memory of the materializer, {options.memory_rows:,} rows", head, rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vector-rows", type=int, default=100_000, help="rows with 128 floats (default 100,000)")
    parser.add_argument("--feast-rows", type=int, default=100_000, help="rows for Feast (default 100,000)")
    parser.add_argument("--client-rows", type=int, default=100_000, help="rows for redis-py (default 100,000)")
    parser.add_argument("--memory-rows", type=int, default=0, help="also measure peak memory with so many rows (slow)")
    parser.add_argument("--due", action="store_true", help="views in which rows fall due, and nothing else")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the warm-up (default 3)")
    parser.add_argument("--quick", action="store_true", help="50,000 rows, one round")
    parser.add_argument("--folder", help="where to build the warehouses (default: the system's temporary folder)")
    parser.add_argument("--no-feast", action="store_true", help="leave Feast out")
    parser.add_argument("--feast-env", type=Path, help=f"environment with {support.FEAST}")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = 50_000, 1
        options.vector_rows = options.feast_rows = options.client_rows = 5_000
    return options


if __name__ == "__main__":
    sys.exit(main())
