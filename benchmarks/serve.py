"""What our HTTP server takes, beside Feast's own: same rows, same Redis, same number of workers, one run.

Run: python benchmarks/serve.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import support
from support import FEATURES, Promises, note

NARROW, WIDE = "activity", "wide"
WIDE_FEATURES = tuple(f"w{number:02}" for number in range(50))
LIMIT_SECONDS = 0.010  # of p99, for the highest rate
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Case:
    entities: int
    view: str
    features: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.entities} x {len(self.features)}"

    @property
    def references(self) -> list[str]:
        return [f"{self.view}:{feature}" for feature in self.features]


CASES = (
    Case(1, NARROW, tuple(FEATURES)),
    Case(100, NARROW, tuple(FEATURES)),
    Case(500, NARROW, tuple(FEATURES)),
    Case(100, WIDE, WIDE_FEATURES),
)


@dataclass(frozen=True)
class Side:
    """A server, and how it is asked."""

    name: str
    port: int
    pid: int
    path: str

    def body(self, case: Case, users: Sequence[int]) -> bytes:
        if self.path == "/v1/features":
            return json.dumps({"features": case.references, "entities": [{"user_id": user} for user in users]}).encode()
        return json.dumps({"features": case.references, "entities": {"user_id": list(users)}}).encode()

    def columns(self, case: Case, users: Sequence[int]) -> dict[str, list[Any]]:
        """The values of one answer, by feature."""
        url = f"http://127.0.0.1:{self.port}{self.path}"
        request = urllib.request.Request(url, self.body(case, users), {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request))
        if "rows" in answer:
            columns = zip(*answer["rows"], strict=True)
            return {name: list(values) for name, values in zip(answer["names"], columns, strict=True)}
        names = answer["metadata"]["feature_names"]
        return {name: one["values"] for name, one in zip(names, answer["results"], strict=True) if name != "user_id"}

    def processes(self) -> list[int]:
        """The server's process and those that it started."""
        found = [self.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(one) for one in children.read_text().split()]
        return found

    def cpu(self) -> float:
        """Seconds of CPU of all its processes so far."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS

    def memory_mib(self) -> float:
        """Memory of all its processes, what they share counted once."""
        lines = (Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in self.processes())
        return sum(int(line.split()[1]) for part in lines for line in part if line.startswith("Pss:")) / 1024


class Load:
    """`load.py` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("load.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, side: Side, case: Case, known: int, seconds: float, connections: int, rate: float | None = None
    ) -> dict[str, Any]:
        """Figures of `seconds` of load; what the server spent a request is among them."""
        chance = random.Random(case.entities)
        files = []
        for number in range(50):
            path = self._folder / f"body-{number}.json"
            path.write_bytes(side.body(case, [chance.randrange(known) for _ in range(case.entities)]))
            files.append(str(path))
        command = {"port": side.port, "path": side.path, "requests": files, "seconds": seconds, "rate": rate}
        assert self._process.stdin and self._process.stdout
        before = side.cpu()
        self._process.stdin.write(json.dumps(command | {"connections": connections}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer or set(answer["statuses"]) != {"200"}:
            sys.exit(f"{side.name} answered {case.name} with {answer}")
        return answer | {"cpu": (side.cpu() - before) / answer["answered"]}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    options = arguments()
    with support.private_redis() as redis, tempfile.TemporaryDirectory(prefix="bench-serve-") as name:
        folder = Path(name)
        prepare(folder, options.rows, redis.url)
        load = Load(folder)
        with ours(folder, redis.url, options.workers) as port_and_pid:
            sides = [Side("this, /v1/features", *port_and_pid, "/v1/features")]
            sides.append(Side("this, as Feast", *port_and_pid, "/get-online-features"))
            if options.no_feast:
                compare(options, load, sides)
            else:
                with feast(options, folder, redis.port) as side:
                    compare(options, load, [*sides, side])
        load.close()


def compare(options: argparse.Namespace, load: Load, sides: list[Side]) -> None:
    rows, promises = [], Promises()
    for case in CASES:
        alike(sides, case, options.rows)
        note(f"{case.name}: closed loop")
        closed: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        for turn in range(options.turns + 1):
            for side in sides:
                found = load.run(side, case, options.rows, options.seconds, options.connections)
                if turn:
                    closed[side.name].append(found)
        best = {name: sorted(found, key=lambda one: one["rate"])[len(found) // 2] for name, found in closed.items()}
        feast = best.get("Feast")
        for side in sides:
            one = best[side.name]
            note(f"{case.name}: open loop, {side.name}")
            highest = highest_rate(options, load, side, case, one["rate"])
            half = None
            if highest:
                half = load.run(side, case, options.rows, options.seconds, 64, highest / 2)
            rows.append([
                case.name, side.name, f"{one['rate']:,.0f}",
                "" if feast is None or side.name == "Feast" else f"{one['rate'] / feast['rate']:.1f}x",
                f"{one['p50'] * 1e3:.1f}", f"{one['p99'] * 1e3:.1f}", f"{highest:,.0f}" if highest else "none",
                f"{half['p50'] * 1e3:.1f}" if half else "", f"{half['p99'] * 1e3:.1f}" if half else "",
                f"{one['cpu'] * 1e3:.2f}", f"{side.memory_mib():,.0f}",
            ])  # fmt: skip
            if side.name == "this, /v1/features":
                wanted = 10 if case.entities == 1 else 12
                ratio = one["rate"] / feast["rate"] if feast else None
                promises.at_least(f"rate against Feast's server, {case.name}", ratio, wanted)
                promises.at_most(f"p99 at half the highest rate, {case.name}", half and half["p99"] * 1e3, 10, " ms")
    head = [
        "entities x features", "", "requests/s", "against Feast", "p50 ms", "p99 ms", "highest rate, p99 < 10 ms",
        "p50 at half", "p99 at half", "CPU ms a request", "MiB",
    ]  # fmt: skip
    title = f"HTTP, {options.workers} workers, {options.connections} connections in a closed loop"
    support.print_table(title, head, rows)
    promises.print()


def highest_rate(options: argparse.Namespace, load: Load, side: Side, case: Case, most: float) -> float | None:
    """The highest of a ladder of fixed rates that it holds, p99 within the limit; None where no rate is."""
    if load.run(side, case, options.rows, options.seconds, 1)["p50"] > LIMIT_SECONDS:
        return None  # not even one after the other
    for share in (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1):
        found = load.run(side, case, options.rows, options.seconds, 64, most * share)
        if found["p99"] <= LIMIT_SECONDS and found["rate"] > 0.97 * most * share:
            return most * share
    return None


def alike(sides: Sequence[Side], case: Case, known: int) -> None:
    """Every side answers the same, else there is nothing to compare."""
    users = random.Random(1).sample(range(known), case.entities)
    first, *others = [side.columns(case, users) for side in sides]
    if list(first) != list(case.features) or len(first[case.features[0]]) != case.entities:
        sys.exit(f"{sides[0].name} left something out of {case.name}")
    for side, other in zip(sides[1:], others, strict=True):
        if other != first:
            sys.exit(f"{side.name} answers otherwise than {sides[0].name} to {case.name}")


def prepare(folder: Path, rows: int, url: str) -> None:
    note(f"2 views of {rows:,} rows: dbt, materialize")
    wide = ",\n".join(f"    ((hash(i * 17 + {n}) % 1000000) / 1e3)::double as {f}" for n, f in enumerate(WIDE_FEATURES))
    moment = "timestamptz '2026-01-01 00:00:00+00' as event_timestamp"
    models = {
        NARROW: support.rows_sql(rows),
        WIDE: f"select i::bigint as user_id, {moment},\n{wide}\nfrom range({rows}) as r(i)",
    }
    warehouse = support.make_project(folder, models, [support.view_properties(view) for view in models])
    subprocess.run(
        [str(Path(sys.executable).with_name("materialize")), "--project-dir", str(folder), "--redis-url", url],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as connection:
        for view in models:
            connection.execute(f"copy {view} to '{folder / view}.parquet' (format parquet)")


@contextmanager
def ours(folder: Path, url: str, workers: int) -> Iterator[tuple[int, int]]:
    port = support.free_port()
    program = str(Path(sys.executable).with_name("feature-store"))
    command = [program, "serve", "--port", str(port), "--workers", str(workers), "--redis-url", url]
    with server(command, folder, port, "/ready") as pid:
        yield port, pid


@contextmanager
def feast(options: argparse.Namespace, folder: Path, redis_port: int) -> Iterator[Side]:
    note("Feast: materialize the same rows")
    home = folder / "feast"
    views = {
        NARROW: {"path": str(folder / f"{NARROW}.parquet"), "features": FEATURES},
        WIDE: {"path": str(folder / f"{WIDE}.parquet"), "features": dict.fromkeys(WIDE_FEATURES, "double")},
    }
    with support.FeastSide(options.feast_env, home) as side:
        side.ask("setup", redis_port=redis_port, views=views, ttl_days=3650)
        side.ask("materialize", start="2025-12-31T00:00:00+00:00")
    (home / "feature_store.yaml").write_text(
        f"project: bench\nprovider: local\nregistry: {home}/registry.db\noffline_store: {{type: duckdb}}\n"
        f"online_store: {{type: redis, connection_string: '127.0.0.1:{redis_port}'}}\n"
        "entity_key_serialization_version: 3\n"
    )
    port = support.free_port()
    program = str(support.feast_python(options.feast_env).with_name("feast"))
    # It would end its workers after 1,000 requests each; that costs it, so that is switched off.
    command = [program, "serve", "--port", str(port), "--workers", str(options.workers), "--no-access-log"]
    with server([*command, "--max-requests", "0", "--max-requests-jitter", "0"], home, port, "/health") as pid:
        yield Side("Feast", port, pid, "/get-online-features")


@contextmanager
def server(command: Sequence[str], folder: Path, port: int, path: str) -> Iterator[int]:
    """A server as a process group of its own, ended at the end."""
    log = (folder / f"server-{port}.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").close()
                break
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.1)
        else:
            sys.exit(f"{command[0]} did not start: {Path(log.name).read_text()[-2000:]}")
        if process.poll() is not None:
            sys.exit(f"{command[0]} ended: {Path(log.name).read_text()[-2000:]}")
        time.sleep(2)  # its other workers
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        log.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="entities a view (default 20,000)")
    parser.add_argument("--workers", type=int, default=2, help="of each server (default 2)")
    parser.add_argument("--connections", type=int, default=8, help="of the closed loop (default 8)")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement (default 4)")
    parser.add_argument(
        "--turns", type=int, default=3, help="of the closed loop, one to warm up not counted (default 3)"
    )
    parser.add_argument("--quick", action="store_true", help="2,000 entities, one turn of a second")
    parser.add_argument("--no-feast", action="store_true", help="leave Feast out")
    parser.add_argument("--feast-env", type=Path, help=f"environment with {support.FEAST}")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.seconds, options.turns = 2_000, 1, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
