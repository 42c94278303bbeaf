"""Damage on purpose: a project whose warehouse moves from state to state, a TCP proxy that misbehaves, a process that
can be killed or frozen half-way, a reader that watches all of it, and the truth in plain Python."""

from __future__ import annotations

import base64
import contextlib
import graphlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import redis

from materializer import FeatureStore, FeatureStoreError, OnlineStoreError
from materializer.materialize.plan import ViewResult
from materializer.online import local as local_redis
from tests.support.command import Ran
from tests.support.dbt import DbtProject
from tests.support.forked import Process
from tests.support.manifests import project_of

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
NAMESPACE = "faults"
DUE = datetime.now(timezone.utc) + timedelta(hours=20)

VIEWS: dict[str, dict[str, Any]] = {
    "readings": {"entities": ["user_id"], "created_timestamp": "created_at", "ahead": "1 day"},
    "visits": {"entities": ["user_id"], "ttl": "30 days"},
    "pairs": {"entities": ["user_id", "item_id"]},
    "kinds": {"entities": ["user_id"]},
}


def new_project(folder: Path) -> DbtProject:
    """A project of `VIEWS` with an empty warehouse: the tests write the tables themselves."""
    project = project_of(folder, VIEWS)
    duckdb.connect(str(project.warehouse)).close()
    return project


def sql(project: DbtProject, *statements: str) -> None:
    """Change the warehouse as a dbt run would."""
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for statement in statements:
            connection.execute(statement)


# The truth, and what is online.


def oracle(project: DbtProject, namespace: str, view: str = "readings") -> dict[bytes, dict[bytes, bytes]]:
    """The rows that belong online now, recomputed from the warehouse in plain Python (integers and text only)."""
    meta = VIEWS[view]
    keys, created = meta["entities"], meta.get("created_timestamp")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        columns = [name for name, *_ in connection.execute(f"describe {view}").fetchall()]
        features = [name for name in columns if name not in (*keys, "event_timestamp", created)]
        moments = ["epoch_us(event_timestamp)", f"epoch_us({created})" if created else "0"]
        quoted = [f'"{name}"' for name in (*keys, *features)]
        found = connection.execute(f"select {', '.join([*moments, *quoted])} from {view}").fetchall()
    now = time.time() * 1e6
    latest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in found:
        key = row[2 : 2 + len(keys)]
        if None not in row[:2] and None not in key and row[0] <= now and row[1] <= now:
            best = latest.get(key)
            if best is None or row[:2] > best[:2]:
                latest[key] = row
    rows = {}
    for key, row in latest.items():
        values = dict(zip(features, row[2 + len(keys) :], strict=True))
        fields = {name.encode(): str(value).encode() for name, value in values.items() if value is not None}
        fields[b"_fs_event"] = _moment(row[0])
        if created:
            fields[b"_fs_created"] = _moment(row[1])
        rows[":".join([namespace, view, *map(str, key)]).encode()] = fields
    return rows


@cache
def _moment(micros: int) -> bytes:
    text = (EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z").encode()


def online(client: redis.Redis, namespace: str, view: str = "readings") -> dict[bytes, dict[bytes, bytes]]:
    """The rows of a view that Redis holds, as they are in force now, without the name of the run that wrote them."""
    keys = list(client.scan_iter(match=f"{namespace}:{view}:*", count=10_000, _type="hash"))
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    rows = dict(zip(keys, pipeline.execute(), strict=True))
    seconds, micros = client.time()
    rows = {key: in_force(row, seconds * 1_000_000 + micros) for key, row in rows.items()}
    for row in rows.values():
        row.pop(b"_fs_writer", None)
        row.pop(b"_fs_expires", None)
    return {key: row for key, row in rows.items() if b"_fs_event" in row}


def in_force(row: dict[bytes, bytes], now: int) -> dict[bytes, bytes]:
    """The fields of a hash at a moment, by the online format's own words."""
    row = dict(row)
    for moment, step in json.loads(row.pop(b"_fs_due", b"[]")):
        if moment <= now:
            for name, text in step.items():
                blob = base64.b64decode(text["base64"]) if isinstance(text, dict) else text
                row[name.encode()] = blob.encode() if isinstance(blob, str) else blob
    return {name: value for name, value in row.items() if value is not None}


def difference(left: dict[bytes, Any], right: dict[bytes, Any]) -> int:
    """How many keys differ: comparing the dicts themselves would print megabytes where they do."""
    return sum(left.get(key) != right.get(key) for key in left.keys() | right.keys())


# A warehouse that moves from state to state.


@dataclass
class Readings:
    """The view ``readings`` in numbered states: in each another third of the entities has moved on and some are gone.

    A row's features agree with each other (``twice`` is ``value * 2 + state``), so that half a row, or one that no run
    wrote, shows by itself. Going to a lower number is going back to an older state. Every fifth entity has a row that
    falls due when no test runs any more: it is sent along, and never shows.
    """

    project: DbtProject
    rows: int
    tenant: str = "ours"
    view: str = "readings"
    states: set[int] = field(default_factory=set)

    def become(self, state: int) -> None:
        """Write the table of a state."""
        self.states.add(state)
        sql(self.project, self.table(state))

    def table(self, state: int) -> str:
        return f"""
            create or replace table {self.view} as
            with moved as (select range as user_id, if((range + {state}) % 3 = 0, {state}, 0) as moved
                           from range({self.rows}) where (range * 7 + {state}) % 11 <> 0),
            rows_given as (
            select user_id, timestamptz '2024-01-01 00:00:00+00' + to_seconds(moved) as event_timestamp,
                timestamptz '2024-02-01 00:00:00+00' as created_at,
                user_id * 1000 + moved as value, (user_id * 1000 + moved) * 2 + moved as twice,
                '{self.tenant}' as tenant
            from moved
            )
            from rows_given union all
            select * replace (timestamptz '{DUE.isoformat()}' as event_timestamp, -1 as value)
            from rows_given where user_id % 5 = 0
        """

    def wrong(self, user: int, row: list[bytes | None]) -> str | None:
        """What is wrong with (value, twice, tenant, event) as read online; None where nothing is."""
        if all(part is None for part in row):
            return None
        if None in row:
            return f"half a row of {user}: {row}"
        value, twice = int(row[0]), int(row[1])
        moved = twice - 2 * value
        event = _moment(1_704_067_200_000_000 + moved * 1_000_000)
        if (value, row[2], row[3]) != (user * 1000 + moved, self.tenant.encode(), event):
            return f"a row of {user} that nobody wrote: {row}"
        return None if moved in self.states | {0} else f"a row of {user} of a state that never was: {row}"


class Watcher(threading.Thread):
    """Reads rows in a loop, straight from Redis and through the SDK, and keeps whatever is wrong in `complaints`.

    Runs may follow each other only in one direction: once one key went from the rows of one run to those of another,
    no key may go back.
    """

    def __init__(self, url: str, readings: Readings, namespace: str = NAMESPACE) -> None:
        super().__init__(daemon=True)
        self._client = redis.Redis.from_url(url, socket_timeout=5)
        self._store = FeatureStore(redis_url=url, namespace=namespace)
        self._readings = readings
        self._namespace = namespace
        self._ends = threading.Event()
        self._last: dict[int, bytes] = {}
        self._after: dict[bytes, set[bytes]] = {}
        self.complaints: list[str] = []
        self.rows_seen = 0
        self.runs_seen: set[bytes] = set()

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()
        try:
            tuple(graphlib.TopologicalSorter(self._after).static_order())
        except graphlib.CycleError as error:
            self.complaints.append(f"a step backwards in runs: {error.args[1]}")
        assert not self.complaints, self.complaints[:5]

    def forget(self) -> None:
        """Redis lost rows or went back itself: what was seen before says nothing about what may follow."""
        self._last = {}

    def run(self) -> None:
        draw = random.Random(1)
        fields = ["value", "twice", "tenant", "_fs_event", "_fs_writer"]
        while not self._ends.wait(0.01):
            users = [draw.randrange(self._readings.rows) for _ in range(60)]
            try:
                pipeline = self._client.pipeline(transaction=False)
                for user in users:
                    pipeline.hmget(f"{self._namespace}:{self._readings.view}:{user}", fields)
                for user, row in zip(users, pipeline.execute(), strict=True):
                    self._saw(user, row)
                self._ask_the_sdk(users[:20])
            except (redis.RedisError, OnlineStoreError):
                time.sleep(0.05)  # the server is down at the moment
            except Exception as error:
                self.complaints.append(repr(error))
                raise

    def _saw(self, user: int, row: list[bytes | None]) -> None:
        *values, writer = row
        complaint = self._readings.wrong(user, values)
        if complaint:
            self.complaints.append(complaint)
        if writer is None:
            return
        self.rows_seen += 1
        self.runs_seen.add(writer)
        before = self._last.get(user)
        if before is not None and before != writer:
            self._after.setdefault(writer, set()).add(before)
        self._last[user] = writer

    def _ask_the_sdk(self, users: list[int]) -> None:
        view = self._readings.view
        names = [f"{view}:value", f"{view}:twice", f"{view}:tenant"]
        try:
            answer = self._store.get_online_features(names, [{"user_id": user} for user in users]).to_dict(
                include_event_timestamps=True
            )
        except OnlineStoreError:
            raise
        except FeatureStoreError:
            return  # nothing is published yet
        for place, user in enumerate(users):
            event = answer["value__event_timestamp"][place]
            micros = None if event is None else _moment((event - EPOCH) // timedelta(microseconds=1))
            texts = [answer[name][place] for name in ("value", "twice", "tenant")]
            complaint = self._readings.wrong(user, [None if t is None else str(t).encode() for t in texts] + [micros])
            if complaint:
                self.complaints.append(f"through the SDK: {complaint}")


# A server that can be killed, and the way to it.


class Server:
    """A private Redis with an append-only file that can be killed and started again, and a proxy before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = True  # until a test makes it lose what it had answered
        self.url = local_redis.start(folder)
        self.proxy = Proxy(self._port())

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        pid = self.client.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        while local_redis.url(self.folder) is not None:
            time.sleep(0.01)

    def cut_the_file(self, count: int) -> None:
        """What a power failure does to a file that was not flushed: its last bytes are gone."""
        newest = max(self.folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)
        self.whole = False
        os.truncate(newest, max(0, newest.stat().st_size - count))

    def start(self) -> None:
        self.url = local_redis.start(self.folder)
        self.proxy.target = self._port()

    def close(self) -> None:
        self.proxy.close()
        local_redis.stop(self.folder)


class Proxy:
    """A TCP proxy that does what it is told once a number of bytes went through towards the server."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.sent = 0
        self.delay = 0.0
        self._lock = threading.Lock()
        self._trigger: tuple[int, Callable[[], None]] | None = None
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def after(self, count: int, action: Callable[[], None]) -> None:
        """Call `action` once `count` more bytes went to the server, in the middle of a command most likely."""
        with self._lock:
            self._trigger = (self.sent + count, action)

    def cut(self) -> None:
        """Close every connection and take no new ones."""
        self._refusing = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Keep connections open and let nothing through."""
        self._flowing.clear()

    def mend(self) -> None:
        """Behave again."""
        self._trigger, self._refusing, self.delay = None, False, 0.0
        self._flowing.set()

    def close(self) -> None:
        self.cut()
        self._flowing.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._refusing:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.add(end)
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, towards_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                self._flowing.wait()
                if self.delay:
                    time.sleep(self.delay)
                if towards_server:
                    data = self._count(data, sink)
                    self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, data: bytes, sink: socket.socket) -> bytes:
        """Send what may go before the trigger, pull it, and give back the rest."""
        action = None
        with self._lock:
            if self._trigger and self.sent + len(data) > self._trigger[0]:
                place, action = self._trigger[0] - self.sent, self._trigger[1]
                self._trigger = None
            self.sent += len(data)
        if action is None:
            return data
        sink.sendall(data[:place])
        action()
        return data[place:]


# The materializer as a process.

PROGRAM = """
import sys
from materializer.cli import materialize_main
from materializer.online import lease
length = int(sys.argv.pop(1))
lease.LENGTH_MS, lease.MARGIN_MS = length or lease.LENGTH_MS, length // 10 or lease.MARGIN_MS
sys.argv[0] = "materialize"
materialize_main()
"""


def start_materialize(
    project: DbtProject, url: str, *args: str, lease_ms: int | None = None, namespace: str = NAMESPACE
) -> Process:
    """``materialize`` as a process; `lease_ms` shortens its lease, so that nobody waits long for a dead one's."""
    where = ["--project-dir", str(project.folder), "--redis-url", url, "--namespace", namespace, "--output", "json"]
    return Process(PROGRAM, str(lease_ms or 0), *(args or ("readings",)), *where)


def ended(process: Process) -> Ran:
    """Wait for a process."""
    out, err = process.communicate()
    return Ran(process.returncode, out, err)


def materialize(project: DbtProject, url: str, *views: str, namespace: str = NAMESPACE, **options: Any) -> ViewResult:
    """A run in this process that must succeed; the result of the last view."""
    store = FeatureStore(project.folder, redis_url=url, namespace=namespace)
    return store.materialize(feature_views=views or ("readings",), **options)[-1]


@dataclass(frozen=True)
class Unfinished:
    """A run that was stopped: how many of the rows it meant to send are there."""

    run: str
    written: int
    meant: int

    @property
    def partial(self) -> bool:
        """Whether some but not all rows had been written."""
        return 0 < self.written < self.meant


def unfinished(project: DbtProject, client: redis.Redis, namespace: str = NAMESPACE) -> Unfinished | None:
    """The unfinished run that memory names, None where the last one finished or none began to write."""
    folder = memory_folder(project, namespace)
    try:
        memory = json.loads((folder / "memory.json").read_text())
    except OSError:
        return None
    if memory["finished"]:
        return None
    count = "select count(*) from read_parquet(?) where _fs_op <> 'gone'"
    pending = str(folder / f"pending-{memory['run']}.parquet")
    with duckdb.connect() as connection:
        (meant,) = connection.execute(count, [pending]).fetchone()
    return Unfinished(memory["run"], rows_of_run(client, namespace, "readings", memory["run"]), meant)


def rows_of_run(client: redis.Redis, namespace: str, view: str, run: str) -> int:
    """How many rows a run wrote."""
    script = """
        local count = 0
        for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
            if redis.call('HGET', key, '_fs_writer') == ARGV[2] then count = count + 1 end
        end
        return count
    """
    return client.eval(script, 0, f"{namespace}:{view}:*", f"run:{run}")


def memory_folder(project: DbtProject, namespace: str = NAMESPACE, view: str = "readings") -> Path:
    return project.warehouse.with_name(project.warehouse.name + ".feature_store") / namespace / view


@contextlib.contextmanager
def commands(client: redis.Redis) -> Iterator[dict[str, int]]:
    """How often each command ran while the block did, by the server's own count."""
    counts: dict[str, int] = {}
    client.config_resetstat()
    yield counts
    for name, stats in client.info("commandstats").items():
        counts[name.removeprefix("cmdstat_").split("|")[0]] = stats["calls"]
