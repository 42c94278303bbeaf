"""How long an online read takes: our SDK, Feast, a redis-py pipeline, and the bare pre-packed pipeline.

Run: python benchmarks/online.py [--quick]
     python benchmarks/online.py --border     whether fields of a wide view are read one by one, or its hashes whole
     python benchmarks/online.py --due        what rows that fall due cost a read
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hiredis
import support
from support import FEATURES, Promises, note, percentile

VIEWS = ("activity", "spending", "profile")
WARM = 3  # requests of a block that are not counted


class BarePipeline:
    """The same HMGETs as bytes made beforehand: sent at once, the answers read by hiredis, and no more."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, packed: bytes, count: int) -> list[object]:
        self._socket.sendall(packed)
        replies: list[object] = []
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(65536))
            else:
                replies.append(reply)
        return replies


def pack(prefix: bytes, users: list[int], fields: list[bytes]) -> bytes:
    def bulk(text: bytes) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(text), text)

    tail = b"".join(bulk(field) for field in fields)
    head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
    return b"".join(head + bulk(prefix + b"%d" % user) + tail for user in users)


def main() -> None:
    options = arguments()
    if options.border:
        return border()
    if options.due:
        return due(options)
    with support.private_redis() as server, tempfile.TemporaryDirectory(prefix="bench-online-") as name:
        folder = Path(name)
        note(f"{len(VIEWS)} views of {options.rows:,} rows: dbt, materialize")
        models = {view: support.rows_sql(options.rows, shift=place) for place, view in enumerate(VIEWS)}
        # Feature names of their own in each view, so that they can be asked for together.
        models = {
            view: f"select user_id, event_timestamp, {', '.join(f'{f} as {view}_{f}' for f in FEATURES)} from ({sql})"
            for view, sql in models.items()
        }
        warehouse = support.make_project(folder, models, [support.view_properties(view) for view in VIEWS])

        # In a process of its own: what it leaves behind (a manifest, garbage) is not in a request handler.
        code = "import sys; from materializer import FeatureStore; FeatureStore(sys.argv[1], redis_url=sys.argv[2])"
        subprocess.run([sys.executable, "-c", code + ".materialize()", str(folder), server.url], check=True)

        from materializer import FeatureStore

        # A reader, as a request handler has it: it knows Redis, and no project.
        reader = FeatureStore(redis_url=server.url)
        namespace = reader.namespace
        feast = None if options.no_feast else start_feast(options, folder, warehouse, server.port)

        bare, client = BarePipeline(server.port), server.client()
        rows, promises = [], Promises()
        for views in (1, 3):
            features = [f"{view}:{view}_{feature}" for view in VIEWS[:views] for feature in FEATURES]
            for entities in (1, 100, 500):
                note(f"{entities} entities, {views} views")
                sides = measure(options, reader, client, bare, feast, namespace, VIEWS[:views], features, entities)
                rows += table_rows(entities, views, sides)
                check(promises, entities, views, sides)
        if feast:
            feast.close()
    head = ["entities x views", "", "p50 ms", "p99 ms", "p50 / bare", "ours is faster (p50, p99)"]
    support.print_table(f"Online reads, {len(FEATURES)} features a view, {options.requests} requests each", head, rows)
    promises.print()


def due(options: argparse.Namespace) -> None:
    """Reads of 500 entities x 6 features: of a view without rows that fall due, of one that is marked for a single
    entity that nobody reads, and of ones where 5% and all have some, before and after the first of two is due."""
    models = support.due_models(options.rows)
    with support.private_redis() as server, tempfile.TemporaryDirectory(prefix="bench-online-") as name:
        folder = Path(name)
        note(f"{len(models)} views of {options.rows:,} entities: dbt, materialize")
        support.make_project(folder, models, [support.view_properties(view) for view in models])
        built = time.time()
        code = "import sys; from materializer import FeatureStore; FeatureStore(sys.argv[1], redis_url=sys.argv[2])"
        subprocess.run([sys.executable, "-c", code + ".materialize()", str(folder), server.url], check=True)
        from materializer import FeatureStore

        reader, chance = FeatureStore(redis_url=server.url), random.Random(1)
        asked = {view: [f"{view}:{feature}" for feature in FEATURES] for view in models}
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}

        def read(view: str) -> tuple[float, float]:
            entity_rows = [{"user_id": chance.randrange(options.rows)} for _ in range(500)]
            cpu, begin = time.process_time(), time.perf_counter()
            reader.get_online_features(asked[view], entity_rows).to_dict()
            return time.perf_counter() - begin, time.process_time() - cpu

        for when in ("nothing due yet", "the first has come"):
            if when == "the first has come":
                note("waiting until the first rows are due")
                time.sleep(max(0.0, built + 125 - time.time()))
            note(when)
            for turn in range(-WARM, options.requests):
                for view in models:
                    found = read(view)
                    if turn >= 0:
                        times.setdefault((view, when), []).append(found)
            assert when != "nothing due yet" or time.time() < built + 110, "too slow: take fewer requests"
    rows = []
    for (view, when), found in times.items():
        wall, cpu = ([one[place] for one in found] for place in (0, 1))
        base = percentile([one[1] for one in times["still", when]], 0.5)
        rows.append([view, when, f"{percentile(wall, 0.5) * 1e3:.2f}", f"{percentile(wall, 0.99) * 1e3:.2f}",
                     f"{percentile(cpu, 0.5) * 1e3:.2f}", f"{percentile(cpu, 0.5) / base:.2f}"])  # fmt: skip
    head = ["view", "", "p50 ms", "p99 ms", "CPU ms (p50)", "CPU / still"]
    support.print_table(f"500 entities x 6 features, {options.requests} requests each, in turns", head, rows)


def border() -> None:
    """Rows of 100 entities, by HMGET and by HGETALL with the fields picked from it, until they stand in columns."""
    from materializer.online.table import picked

    widths, shares = (20, 30, 50, 100, 200), (0.1, 0.25, 0.5, 0.65, 0.8, 1.0)
    with support.private_redis() as server:
        bare, client, rows = BarePipeline(server.port), server.client(), []
        for width in widths:
            names = [b"f%03d" % number for number in range(width)]
            with client.pipeline(transaction=False) as pipeline:
                for user in range(1000):
                    values = {name: repr(random.random() * 1000) for name in names}
                    pipeline.hset(f"w{width}:{user}", mapping={**values, b"_fs_event": "2026-01-01T00:00:00.000000Z"})
                pipeline.execute()
            users, prefix = random.sample(range(1000), 100), b"w%d:" % width
            keys = [prefix + b"%d" % user for user in users]
            whole = b"".join(b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys)
            cells = []
            for share in shares:
                fields = [*names[: int(width * share)], b"_fs_event"]
                packed = pack(prefix, users, fields)
                sides = {
                    "fields": lambda packed=packed: list(zip(*bare.ask(packed, 100), strict=True)),
                    "whole": lambda fields=fields, whole=whole: list(
                        zip(*picked(fields, bare.ask(whole, 100)), strict=True)
                    ),
                }
                runs = {name: (lambda side=side: support.seconds_of(side)) for name, side in sides.items()}
                found = support.alternate(runs, 25)
                cells.append(" / ".join(f"{support.median(times) * 1e3:.1f}" for times in found.values()))
            rows.append([str(width), *cells])
    head = ["fields of the view", *(f"{share:.0%} of them" for share in shares)]
    support.print_table("100 entities, ms by HMGET / by HGETALL", head, rows)


def measure(options, reader, client, bare, feast, namespace, views, features, entities) -> dict[str, list[float]]:
    """Latencies of each side, in blocks of requests that take turns, the first few of a block not counted."""
    chance = random.Random(entities * 10 + len(views))
    fields = {view: [f"{view}_{feature}".encode() for feature in FEATURES] + [b"_fs_event"] for view in views}
    prefix = {view: f"{namespace}:{view}:".encode() for view in views}

    def users() -> list[int]:
        return [chance.randrange(options.rows) for _ in range(entities)]

    def ours(asked: list[int]) -> Callable[[], object]:
        entity_rows = [{"user_id": user} for user in asked]
        return lambda: reader.get_online_features(features, entity_rows).to_dict()

    def redis_py(asked: list[int]) -> Callable[[], object]:
        def run() -> object:
            pipeline = client.pipeline(transaction=False)
            for view in views:
                for user in asked:
                    pipeline.hmget(prefix[view] + b"%d" % user, fields[view])
            return pipeline.execute()

        return run

    def packed(asked: list[int]) -> Callable[[], object]:
        commands = b"".join(pack(prefix[view], asked, fields[view]) for view in views)
        return lambda: bare.ask(commands, entities * len(views))

    makers = {"this": ours, "redis-py pipeline": redis_py, "bare pre-packed pipeline": packed}
    times: dict[str, list[float]] = {name: [] for name in makers}
    if feast:
        times["Feast"] = []
    block = WARM + max(5, options.requests // 10)
    for turn in range(-1, 10):
        for name, make in makers.items():
            requests = [make(users()) for _ in range(block)]
            for number, run in enumerate(requests):
                begin = time.perf_counter()
                run()
                spent = time.perf_counter() - begin
                if turn >= 0 and number >= WARM:
                    times[name].append(spent)
        if feast:
            few = WARM + max(5, options.requests // 40) if entities >= 100 else block
            answer = feast.ask("online", features=features, entities=entities, known=options.rows, rounds=few)
            if turn >= 0:
                times["Feast"] += answer["seconds"][WARM:]
    return times


def table_rows(entities: int, views: int, sides: dict[str, list[float]]) -> list[list[str]]:
    p50 = {name: percentile(times, 0.50) for name, times in sides.items()}
    p99 = {name: percentile(times, 0.99) for name, times in sides.items()}
    bare = p50["bare pre-packed pipeline"]
    return [
        [
            f"{entities} x {views}", name,
            f"{p50[name] * 1e3:.2f}", f"{p99[name] * 1e3:.2f}", f"{p50[name] / bare:.2f}",
            "" if name == "this" else f"{p50[name] / p50['this']:.1f}x, {p99[name] / p99['this']:.1f}x",
        ]
        for name in sides
    ]  # fmt: skip


def check(promises: Promises, entities: int, views: int, sides: dict[str, list[float]]) -> None:
    if entities == 1:
        return
    for label, share in (("p50", 0.50), ("p99", 0.99)):
        ours = percentile(sides["this"], share)
        feast = percentile(sides["Feast"], share) / ours if "Feast" in sides else None
        promises.at_least(f"faster than Feast, {label}, {entities} x {views}", feast, 10)
    ratio = percentile(sides["this"], 0.5) / percentile(sides["bare pre-packed pipeline"], 0.5)
    promises.at_most(f"time of the bare pipeline, p50, {entities} x {views}", ratio, 1.5)


def start_feast(options, folder: Path, warehouse: Path, port: int) -> support.FeastSide:
    import duckdb

    note("Feast: materialize the same rows")
    views = {}
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        for view in VIEWS:
            path = folder / f"{view}.parquet"
            connection.execute(f"copy {view} to '{path}' (format parquet)")
            views[view] = {"path": str(path), "features": {f"{view}_{name}": kind for name, kind in FEATURES.items()}}
    feast = support.FeastSide(options.feast_env, folder / "feast")
    feast.ask("setup", redis_port=port, views=views, ttl_days=3650)
    feast.ask("materialize", start="2025-12-31T00:00:00+00:00")
    return feast


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="entities a view (default 20,000)")
    parser.add_argument("--requests", type=int, default=500, help="requests a cell (default 500)")
    parser.add_argument("--quick", action="store_true", help="2,000 entities, 60 requests")
    parser.add_argument("--border", action="store_true", help="HMGET against HGETALL, and nothing else")
    parser.add_argument("--due", action="store_true", help="views in which rows fall due, and nothing else")
    parser.add_argument("--no-feast", action="store_true", help="leave Feast out")
    parser.add_argument("--feast-env", type=Path, help=f"environment with {support.FEAST}")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.requests = 2_000, 60
    return options


if __name__ == "__main__":
    sys.exit(main())
