"""Streaming: from an event's way to the broker to its value online, at a fixed rate over a long history; how high the
rate may be; and how long a backlog takes.

    python benchmarks/stream.py                    # 5M events of history, 2,000 events/s: about 6 minutes
    python benchmarks/stream.py --quick            # 500,000 and 500 events/s: 2 minutes
    python benchmarks/stream.py --target postgres --history 1000000 --rates 500 --backlog 0
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.support import REPOSITORY, private_redis
from materializer import FeatureStore
from materializer.project.settings import Project
from materializer.stream.files import FileLanding, engine
from materializer.stream.landing import Covered
from materializer.stream.place import landing_of
from materializer.stream.source import streamed_sources
from materializer.warehouse.postgres import connect
from tests.support import kafka, postgres

BIN = Path(sys.executable).parent
COLUMNS = {"purchase_id": "bigint", "user_id": "bigint", "amount": "double", "purchased_at": "timestamptz"}
DAYS = 60
PROBES_A_SECOND = 4
FIRST_PROBE = 10_000_000  # users of their own, whose events are watched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=5_000_000, help="events that have landed before")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rates", type=int, nargs="+", default=[2_000], help="events a second")
    parser.add_argument("--seconds", type=int, default=60, help="how long each rate is held")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events that wait at the broker, 0 for none")
    parser.add_argument("--target", choices=["duckdb", "postgres"], default="duckdb")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.history, options.rates, options.seconds, options.backlog = 500_000, [500], 20, 100_000
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(postgres.server()) if options.target == "postgres" else None
        server, broker = stack.enter_context(private_redis()), stack.enter_context(kafka.broker(folder))
        broker.create("purchases")
        store = built(folder / "shop", server.url, options.history, options.users, port)
        with streaming(store, broker, folder / "log"):
            print("| events/s asked | sent | probes | p50 s | p99 s | worst s | behind at the end, events |")
            print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
            for rate in options.rates:
                print(held(store, broker, rate, options.seconds, options.users), flush=True)
        if options.backlog:
            caught_up(store, broker, folder / "log", options.backlog, options.users)


def built(folder: Path, url: str, history: int, users: int, port: int | None = None) -> FeatureStore:
    """A project with its history landed, built and materialized; on the PostgreSQL of a port, or on DuckDB."""
    folder.mkdir()
    types = COLUMNS if port is None else COLUMNS | {"amount": "double precision"}
    place = {"database": "landing", "schema": "main"} if port is None else {"schema": "events"}
    output: dict[str, Any] = {
        "type": "duckdb", "path": str(folder / "bench.duckdb"),
        "attach": [{"path": str(folder / "landing" / "landing.duckdb"), "alias": "landing", "read_only": True}],
    } if port is None else {
        "type": "postgres", "host": "127.0.0.1", "port": port, "user": "postgres", "password": "", "dbname": "postgres",
        "schema": "built",
    }  # fmt: skip
    stream = {"topic": "purchases", "key": "user_id", "timestamp": "purchased_at"}
    columns = [{"name": name, "data_type": dtype} for name, dtype in types.items()]
    table = {"name": "purchases", "config": {"meta": {"stream": stream}}, "columns": columns}
    source = {"name": "shop", **place, "tables": [table]}
    view = {"name": "spending", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}}
    files = {
        "dbt_project.yml": "name: bench\nversion: 1.0.0\nconfig-version: 2\nprofile: bench\nmodel-paths: [models]\n"
        'on-run-end: ["{{ feature_store.record_builds() }}"]\n',
        "packages.yml": json.dumps({"packages": [{"local": str(REPOSITORY)}]}),
        "profiles.yml": json.dumps({"bench": {"target": "dev", "outputs": {"dev": output}}}),
        "models/models.yml": json.dumps({"sources": [source], "models": [view]}),
        "models/spending.sql": "{{ config(materialized='table') }}\n{{ feature_store.window_aggregates("
        "source('shop', 'purchases'), 'user_id', 'purchased_at', [{'name': 'n', 'function': 'count'}, "
        "{'name': 'total', 'function': 'sum', 'expression': 'amount'}], ['7 days', '30 days'], created_timestamp='_landed_at') }}",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    dbt(folder, "deps")
    dbt(folder, "parse")
    if port is None:
        duckdb.connect(str(folder / "bench.duckdb")).close()
    store = FeatureStore(folder, redis_url=url)
    landing = landing_of(
        store.project,
        streamed_sources(json.loads((folder / "target" / "manifest.json").read_text())),
        store.landing_clock(),
    )
    begun = time.monotonic()
    if isinstance(landing, FileLanding):
        land_history(landing, history, users)
    else:
        land_history_on_postgres(store.project, history, users)
    landing.close()
    dbt(folder, "build")
    store.materialize()
    print(f"{history:,} events of {users:,} users landed, built and materialized in {time.monotonic() - begun:.0f} s\n")
    return store


def land_history(landing: FileLanding, history: int, users: int) -> None:
    """Events of the last weeks, most of them of few users, each landed at its own moment."""
    source = landing.sources["shop.purchases"]
    now = datetime.now(timezone.utc)
    clock = FileLanding(landing.folder, landing.sources, lambda: now)
    with engine() as connection:
        connection.execute("select setseed(0.5)")
        connection.execute(f"""
            create table history as select
                i as purchase_id, cast(floor(power(random(), 2) * {users}) as bigint) as user_id, random() * 100 as amount,
                timestamptz '{now.isoformat()}' - to_seconds({DAYS * 86_400} * (1 - i / {history}) + 1) as purchased_at,
                'history' as _topic, 0 as _partition, i as _offset, cast(null as varchar) as _fs_reason,
                cast(null as blob) as _fs_message, cast(null as varchar) as _fs_push
            from range({history}) as numbers(i)
        """)
        landed = clock.commit(connection, source, "history", lambda: Covered(0, "history", 0, 0, history - 1))
        assert landed is not None
        path = landing.file_of(source, landed.covered)
        connection.execute(
            f"copy (select * replace (purchased_at as _landed_at) from read_parquet('{path}')) to '{path}.new' (format parquet)"
        )
        Path(f"{path}.new").replace(path)
    landing.show()


def land_history_on_postgres(project: Project, history: int, users: int) -> None:
    """The same as one commit of an hour ago, and a server that knows what its tables hold."""
    connection, _ = connect(project)
    with connection, connection.cursor() as cursor:
        for statement in (
            f"""
            insert into events.purchases
            select i, floor(power(random(), 2) * {users}), random() * 100, at, 'history', 0, i, at, seq + 1
            from events._fs_landing, generate_series(0, {history} - 1) as numbers (i),
                lateral (select now() - interval '1 second' * ({DAYS * 86_400} * (1 - i::float8 / {history}) + 1) as at) as moments
            """,
            "update events._fs_landing set seq = seq + 1",
            f"insert into events._fs_offsets values ('history', 0, {history})",
            "insert into events._fs_shown select 1, seq, now() - interval '1 hour' from events._fs_landing",
            "vacuum analyze events.purchases",
        ):
            cursor.execute(statement)


@contextmanager
def streaming(store: FeatureStore, broker: kafka.Broker, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The stream, from when it keeps the view."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / "feature-store"), "stream", "--brokers", broker.address, "--linger", "0.05", "--batch", "2000",
             "--project-dir", str(store.project.folder), "--redis-url", store._redis_url],
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        while "is kept online" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def event(user: int, number: int) -> bytes:
    now = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    purchase = {"purchase_id": number, "user_id": user, "amount": 1.0, "purchased_at": now.isoformat()}
    return json.dumps(purchase).encode()


def held(store: FeatureStore, broker: kafka.Broker, rate: int, seconds: int, users: int) -> str:
    """A rate held for some time, with probes among it: events of users of their own, read until they are seen."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 5})
    draw, sent, waiting, took = random.Random(rate), 0, {}, []
    begun = probed = time.monotonic()
    probe = FIRST_PROBE + rate * 1_000
    while (now := time.monotonic()) - begun < seconds or (waiting and now - begun < seconds + 60):
        while now - begun < seconds and sent < (now - begun) * rate:
            producer.produce("purchases", event(draw.randrange(users), sent))
            sent += 1
        if now - begun < seconds and now - probed > 1 / PROBES_A_SECOND:
            probe, probed = probe + 1, now
            waiting[probe] = time.monotonic()
            producer.produce("purchases", event(probe, probe))
        producer.poll(0)
        if waiting:
            asked = list(waiting)
            found = store.get_online_features(["spending:n_7d"], [{"user_id": user} for user in asked]).to_dict()[
                "n_7d"
            ]
            took += [time.monotonic() - waiting.pop(user) for user, n in zip(asked, found, strict=True) if n == 1]
        time.sleep(0.005)
    producer.flush(30)
    took.sort()
    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
    return (
        f"| {rate:,} | {sent:,} | {len(took)} | {p50:.2f} | {p99:.2f} | {took[-1]:.2f} | {len(waiting)} probes unseen |"
    )


def caught_up(store: FeatureStore, broker: kafka.Broker, log: Path, backlog: int, users: int) -> None:
    """Events wait at the broker, then the stream begins."""
    draw = random.Random(1)
    for first in range(0, backlog, 100_000):
        broker.send(
            "purchases",
            [event(draw.randrange(users), number) for number in range(first, min(first + 100_000, backlog))],
        )
    broker.send("purchases", [event(FIRST_PROBE - 1, 1)])
    begun = time.monotonic()
    with streaming(store, broker, log):
        ready = time.monotonic() - begun
        while store.get_online_features(["spending:n_7d"], [{"user_id": FIRST_PROBE - 1}]).to_dict()["n_7d"] != [1]:
            time.sleep(0.1)
        print(
            f"\nA backlog of {backlog:,} events: {time.monotonic() - begun:.0f} s until the last is online, {ready:.0f} s of it until the stream keeps the view"
        )


def dbt(folder: Path, command: str) -> None:
    subprocess.run(
        [str(BIN / "dbt"), "--quiet", command, "--project-dir", str(folder), "--profiles-dir", str(folder)],
        check=True,
        cwd=folder,
    )


if __name__ == "__main__":
    main()
