"""What the benchmarks share: a private Redis, a dbt project to measure, Feast in an environment of its own, tables."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
FEAST = "feast[redis,duckdb]==0.67.0"
FEAST_ENVIRONMENT = Path("~/.cache/dbt-feature-store-bench/feast").expanduser()
# The rows of every benchmark but the training sets': a key, an event time and six features.
FEATURES = {
    "purchases": "bigint",
    "sessions": "integer",
    "spend": "double",
    "basket": "double",
    "score": "double",
    "segment": "varchar",
}


# Servers.


@dataclass(frozen=True)
class RedisServer:
    """A Redis of our own, which keeps nothing on disk."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def flush(self) -> None:
        """Empty it, and wait until its memory is free."""
        self.client().flushall()


@contextmanager
def private_redis() -> Iterator[RedisServer]:
    """A Redis on a free port of this machine, stopped at the end. Nothing is written to disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit("The benchmarks need redis-server (or valkey-server) on PATH.")
    # A script that is asked to end leaves no server and no folder behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        server = subprocess.Popen(
            [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            client = redis.Redis(port=port)
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield RedisServer(port, server.pid)
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# The dbt project that is measured.


def make_project(folder: Path, models: Mapping[str, str], properties: Sequence[Mapping[str, Any]]) -> Path:
    """Write a dbt project with these models, and build it with the real dbt.

    Returns:
        its DuckDB file.
    """
    warehouse = folder / "warehouse.duckdb"
    files: dict[str, Any] = {
        "dbt_project.yml": {
            "name": "bench",
            "version": "1.0.0",
            "config-version": 2,
            "profile": "bench",
            "packages-install-path": ".dbt_packages",
            "flags": {"send_anonymous_usage_stats": False},
            "models": {"bench": {"+materialized": "table"}},
        },
        "packages.yml": {"packages": [{"local": str(REPOSITORY)}]},
        "profiles.yml": {
            "bench": {
                "target": "dev",
                "outputs": {"dev": {"type": "duckdb", "path": str(warehouse), "settings": {"TimeZone": "UTC"}}},
            }
        },
        "models/models.yml": {"models": list(properties)},
    } | {f"models/{name}.sql": sql for name, sql in models.items()}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    dbt(folder, "deps")
    dbt(folder, "run", "--select", "bench")
    return warehouse


def dbt(folder: Path, *arguments: str) -> None:
    """Run a dbt command in a process of its own, so that the warehouse is free afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", *arguments, "--quiet"],
        cwd=folder,
        env=os.environ | {"DBT_PROFILES_DIR": str(folder), "DBT_PROJECT_DIR": str(folder)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"dbt {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def rows_sql(
    rows: int, embedding: int = 0, events: str = "timestamptz '2026-01-01 00:00:00+00'", shift: int = 0
) -> str:
    """A SELECT of `rows` entities with the six features (and a vector of floats), each run the same.

    `shift` moves every value, as a later load of the same entities would.
    """
    vector = (
        f",\n    list_transform(range({embedding}), lambda n: ((hash(i * 1000 + n + {shift}) % 1000000) / 1e6)::float) "
        "as embedding"
        if embedding
        else ""
    )
    return f"""select
    i::bigint as user_id,
    {events} + to_seconds((i % 86400)::bigint) as event_timestamp,
    ((hash(i + {shift}) % 100000)::bigint) as purchases,
    ((hash(i * 3 + {shift}) % 100)::integer) as sessions,
    ((hash(i * 5 + {shift}) % 10000000) / 1e2)::double as spend,
    ((hash(i * 7 + {shift}) % 1000000007) / 1000000007.0)::double as basket,
    ((hash(i * 11 + {shift}) % 1000000007) / 1000000007.0 - 0.5)::double as score,
    'segment-' || (hash(i * 13 + {shift}) % 1000) as segment{vector}
from range({rows}) as r(i)"""


def due_models(rows: int) -> dict[str, str]:
    """Views of the same rows, by which share of their entities has two more that fall due, 2 and 40 minutes after the
    build: none, one entity beyond those that are read, 5%, all."""
    shares = {"still": "false", "marked": f"user_id = {rows}", "some": "user_id % 20 = 0", "whole": "true"}
    base = rows_sql(rows + 1)
    return {
        view: f"select * from ({base})"
        + "".join(
            f"\nunion all select * replace (now() + interval {minutes} minute as event_timestamp, "
            f"purchases + {minutes} as purchases, spend + {minutes} as spend) from ({base}) where {share}"
            for minutes in (2, 40)
        )
        for view, share in shares.items()
    }


def view_properties(name: str, ttl: str | None = "3650 days", **more: Any) -> dict[str, Any]:
    """The properties of a feature view over the columns of `rows_sql`."""
    view: dict[str, Any] = {"entities": ["user_id"], "timestamp": "event_timestamp", **more}
    if ttl:
        view["ttl"] = ttl
    return {"name": name, "config": {"meta": {"feature_view": view}}}


# Feast.


def feast_python(environment: Path | None) -> Path:
    """The interpreter of an environment that has Feast; made on the first call, which takes a minute."""
    environment = environment or FEAST_ENVIRONMENT
    python = environment / "bin" / "python"
    if not (environment / "installed").exists():
        note(f"installing {FEAST} into {environment} (once)")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", FEAST], check=True)
        (environment / "installed").write_text(FEAST + "\n")
    return python


class FeastSide:
    """`feast_side.py` in Feast's own environment, kept alive: one command a line in, one JSON object a line out."""

    def __init__(self, environment: Path | None, folder: Path, memory_gib: float | None = None) -> None:
        def limit() -> None:
            if memory_gib:
                resource.setrlimit(resource.RLIMIT_AS, (int(memory_gib * 2**30),) * 2)

        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "feast.log").open("w")
        self._process = subprocess.Popen(
            [str(feast_python(environment)), str(Path(__file__).with_name("feast_side.py"))],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=limit,
            env=os.environ | {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"},
        )
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, command: str, patience: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Run one command of `feast_side.py`; after `patience` seconds it is stopped.

        Raises:
            FeastFailed: where it could not, with the last words of its log.
        """
        assert self._process.stdin and self._process.stdout
        timer = threading.Timer(patience, self._process.kill) if patience else None
        if timer:
            timer.start()
        try:
            return self._ask(command, arguments)
        except FeastFailed:
            if timer and timer.finished.is_set():
                raise FeastFailed(f"stopped after {patience:.0f} s") from None
            raise
        finally:
            if timer:
                timer.cancel()

    def peak_mib(self) -> float:
        """The most memory that it was seen with, in MiB."""
        return self._peak / 1024

    def _watch(self) -> None:
        """Note its peak every half second: when it is killed there is nobody left to ask."""
        path = Path(f"/proc/{self._process.pid}/status")
        while self._process.poll() is None:
            with suppress(OSError, StopIteration, ValueError):
                line = next(line for line in path.read_text().splitlines() if line.startswith("VmHWM"))
                self._peak = max(self._peak, int(line.split()[1]))
            time.sleep(0.5)

    def _ask(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}, default=str) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("{"):
                    answer = json.loads(line)
                    if "error" in answer:
                        raise FeastFailed(answer["error"])
                    return answer
        except BrokenPipeError:
            pass
        self._process.wait()
        words = Path(self._log.name).read_text().strip().splitlines()
        raise FeastFailed(words[-1] if words else f"it ended with code {self._process.returncode}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> FeastSide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FeastFailed(Exception):
    """Feast could not do it; the message says why."""


# Timing.


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every side once to warm up, then all of them in turn, `rounds` times: what each returned."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            value = run()
            if turn:
                results[name].append(value)
    return results


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# The peak memory of this very process, in MiB, for code that runs in one of its own. `ru_maxrss` would not do: Linux
# lets a child begin with what its parent had.
PEAK_MIB = """
def peak_mib():
    import resource
    try:
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
"""

# Printing.


def machine() -> str:
    """The machine and the versions that figures depend on, in one line."""
    import duckdb

    server = shutil.which("redis-server") or shutil.which("valkey-server") or ""
    version = subprocess.run([server, "--version"], capture_output=True, text=True).stdout if server else ""
    redis_version = next((word[2:] for word in version.split() if word.startswith("v=")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GiB, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, Redis {redis_version}"
    )


def note(text: str) -> None:
    """A line about what is going on, on stderr: the tables stay clean."""
    print(f"... {text}", file=sys.stderr, flush=True)


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table in Markdown, which reads well on a terminal too."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [row[0].ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    print(f"\n**{title}** ({machine()})\n")
    print(line(cells[0]))
    print("| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |")
    for row in cells[1:]:
        print(line(row))
    sys.stdout.flush()


class Promises:
    """Collects which promises hold and prints them at the end."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str]] = []

    def at_least(self, what: str, value: float | None, bound: float, unit: str = "x") -> None:
        self._add(what, value, f">= {bound:g}{unit}", value is not None and value >= bound, unit)

    def at_most(self, what: str, value: float | None, bound: float, unit: str = "x") -> None:
        self._add(what, value, f"<= {bound:g}{unit}", value is not None and value <= bound, unit)

    def _add(self, what: str, value: float | None, bound: str, holds: bool, unit: str) -> None:
        measured = "not measured" if value is None else f"{value:.3g}{unit}" if value < 1000 else f"{value:,.0f}{unit}"
        self._rows.append((what, bound, measured, "-" if value is None else "holds" if holds else "MISSED"))

    def print(self) -> None:
        print_table("Promises", ["what", "promise", "measured", ""], self._rows)


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
