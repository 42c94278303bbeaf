"""Events land on Spark, each once, by a query of Spark's own; dbt reads them as a source, and views stay abreast of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from materializer import FeatureStore
from materializer.project.settings import load_project
from materializer.stream.spark import SparkLanding
from tests.support import kafka, spark_cluster
from tests.support import spark as servers
from tests.support.command import environment, run_process
from tests.support.spark import Spark
from tests.support.streamed import HOOK

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

COLUMNS = {
    "purchase_id": "bigint",
    "user_id": "bigint",
    "amount": "double",
    "price": "decimal(10,2)",
    "purchased_at": "timestamp",
}
CLICKS = {"user_id": "bigint", "page": "string"}
_numbers = itertools.count(1)


def files(schema: str) -> dict[str, Any]:
    """A project whose events land in a schema of its own, from topics of its own."""

    def table(name: str, columns: dict[str, str], **stream: Any) -> dict[str, Any]:
        listed = [{"name": name, "data_type": dtype} for name, dtype in columns.items()]
        meta = {"stream": {"topic": f"{schema}.{name}", "key": "user_id"} | stream}
        return {"name": name, "config": {"meta": meta}, "columns": listed}

    return {
        "models/models.yml": {
            "sources": [{
                "name": "shop", "schema": schema,
                "tables": [table("purchases", COLUMNS, timestamp="purchased_at"), table("clicks", CLICKS)],
            }],
            "models": [{"name": "spent", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}}],
        },
        "models/clean.sql": "select * from {{ source('shop', 'purchases') }} where not (amount < 0)",
        "models/tiers.sql": "select id as user_id, id % 3 as tier from range(50)",
        "models/spent.sql": "select clean.user_id, max(purchased_at) as event_timestamp, count(*) as purchases, sum(price) as price,\n"
        "max(tier) as tier from {{ ref('clean') }} as clean left join {{ ref('tiers') }} as tiers on tiers.user_id = clean.user_id\n"
        "group by clean.user_id having max_by(amount, purchase_id) <> 13",
    }  # fmt: skip


@pytest.fixture(scope="module")
def spark(shared_spark: Spark) -> Spark:
    return shared_spark


def purchase(number: int) -> dict[str, Any]:
    moment = f"2026-01-{1 + number // 86400:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return {
        "purchase_id": number,
        "user_id": number % 50,
        "amount": number / 4,
        "price": number / 4,
        "purchased_at": moment,
    }


@contextlib.contextmanager
def streaming(project: Path, spark: Spark, broker: str, url: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`feature-store stream` as a process; ended with the block."""
    said = (project / f"stream-{next(_numbers)}.log").open("w")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("feature-store"), "stream", "--brokers", broker, "--project-dir", project, "--linger", "1",
         "--redis-url", url, "--output", "json", *more],
        env=environment(SPARK_REMOTE=spark.url), stdout=subprocess.PIPE, stderr=said, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        said.close()


def until(holds: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.5)


def landed(spark: Spark, schema: str) -> int:
    return spark.session.sql(f"select count(*) as n from {schema}.purchases").toArrow()["n"][0].as_py()


def test_each_event_lands_once_whatever_is_killed(
    spark: Spark, broker: kafka.Broker, tmp_path: Path, redis_url: str
) -> None:
    schema = "once"
    project = spark.project(tmp_path / "shop", files(schema))
    spark.run(project, "parse")
    broker.create(f"{schema}.purchases", 2)
    broker.create(f"{schema}.clicks")
    sent = [purchase(number) for number in range(4000)]
    by_turns = lambda number: number % 2  # noqa: E731
    broker.send(
        f"{schema}.purchases", [*sent[:1000], b"{", {"user_id": 1}, purchase(9000) | {"price": 1.005}, None], by_turns
    )
    broker.send(f"{schema}.clicks", [{"user_id": 1, "page": "/"}, {"user_id": 2}])
    with streaming(project, spark, broker.address, redis_url, "--land-only") as process:
        until(lambda: spark.session.catalog.tableExists(f"{schema}.purchases") and landed(spark, schema) == 1000)
        broker.send(f"{schema}.purchases", sent[1000:2000], by_turns)
        process.kill()  # its query goes on for a while, or is killed in the middle; another begins beside it
    broker.send(f"{schema}.purchases", sent[2000:3000], by_turns)
    with streaming(project, spark, broker.address, redis_url, "--land-only") as one:
        with streaming(project, spark, broker.address, redis_url, "--land-only") as other:
            until(lambda: landed(spark, schema) == 3000)
            broker.send(f"{schema}.purchases", sent[3000:], by_turns)
            until(lambda: landed(spark, schema) == 4000)
            other.send_signal(signal.SIGTERM)
            assert other.wait(90) == 0
        one.send_signal(signal.SIGTERM)
        assert one.wait(90) == 0
    rows = spark.session.sql(f"select * from {schema}.purchases order by purchase_id").toArrow().to_pylist()
    assert [{name: row[name] for name in ("purchase_id", "user_id", "amount")} for row in rows] == [
        {name: one[name] for name in ("purchase_id", "user_id", "amount")} for one in sent
    ]
    assert len({(row["_partition"], row["_offset"]) for row in rows}) == 4000
    assert all(
        row["purchased_at"].isoformat().startswith(one["purchased_at"][:19])
        for row, one in zip(rows, sent, strict=True)
    )
    dead = spark.session.sql(f"select * from {schema}.dead_letters order by _partition, _offset").toArrow().to_pylist()
    assert [(one["source"], one["reason"], one["message"]) for one in dead] == [
        ("shop.purchases", "is not JSON", b"{"),
        ("shop.purchases", "price is no DECIMAL(10,2): 1.005", dead[1]["message"]),
        ("shop.purchases", "purchased_at is missing", b'{"user_id": 1}'),
        ("shop.purchases", "has no value", None),
    ]
    assert spark.session.sql(f"select user_id, page from {schema}.clicks order by 1").toArrow().to_pylist() == [
        {"user_id": 1, "page": "/"}, {"user_id": 2, "page": None},
    ]  # fmt: skip

    # Of two that know the same commits one makes the next.
    one, other = (SparkLanding(load_project(project), {}, schema, spark.session) for _ in range(2))
    for landing in (one, other):
        landing.sync()
    nothing = spark.session.table(f"{schema}._fs_events").drop("_landed_at", "_seq").limit(0)
    assert one.land(nothing, datetime.now(timezone.utc)) and not other.land(nothing, datetime.now(timezone.utc))
    other.sync()
    assert other.land(nothing, datetime.now(timezone.utc)) and other.at == one.at + 1 == one.seq() - 1


def test_views_stay_abreast_of_what_lands(
    spark: Spark, broker: kafka.Broker, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is online is what a full build and a run bring there: new entities, entities that are gone, late events."""
    schema = "kept"
    project = spark.project(tmp_path / "shop", files(schema), more=HOOK)
    spark.run(project, "parse")
    monkeypatch.setenv("SPARK_REMOTE", spark.url)
    for topic in ("purchases", "clicks"):
        broker.create(f"{schema}.{topic}")
    first = [purchase(number) for number in range(300) if number % 50 < 40]
    gone = purchase(500) | {"user_id": 3, "amount": 13}
    late = purchase(20) | {"purchase_id": 501}
    more = [purchase(number) for number in range(300, 400)] + [gone, late, purchase(502) | {"amount": -1}]
    store = FeatureStore(project, redis_url=redis_url, namespace="spark.kept")

    def online() -> list[tuple[Any, ...]]:
        got = store.get_online_features(
            ["spent:purchases", "spent:price", "spent:tier"], [{"user_id": n} for n in range(50)]
        )
        return list(zip(*got.to_dict().values(), strict=True))

    def expected(events: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
        rows = []
        for user in range(50):
            own = sorted(
                (one for one in events if one["user_id"] == user and one["amount"] >= 0),
                key=lambda one: one["purchase_id"],
            )
            there = bool(own) and own[-1]["amount"] != 13
            price = sum((Decimal(str(one["price"])) for one in own), Decimal(0)).quantize(Decimal("0.01"))
            rows.append((user, len(own), price, user % 3) if there else (user, None, None, None))
        return rows

    broker.send(f"{schema}.purchases", first)
    with streaming(project, spark, broker.address, redis_url, "--namespace", "spark.kept") as process:
        until(lambda: spark.session.catalog.tableExists(f"{schema}.purchases") and landed(spark, schema) == len(first))
        time.sleep(6)  # a build has seen what could be read five seconds before it began
        spark.run(project, "run")
        (run_,) = store.materialize()
        assert run_.rows_written == 40 and online() == expected(first)
        broker.send(f"{schema}.purchases", more)
        until(lambda: online() == expected(first + more))
        seen = (
            spark.session.sql("select seq from built._fs_built where model = 'model.shop.spent'")
            .toArrow()["seq"]
            .to_pylist()
        )
        assert seen[0] > 0
        (again,) = store.materialize()  # of the build of before: no row is stepped back
        assert online() == expected(first + more), again
        # In a process: dbt in this one may have a session of another file's server, which is gone.
        verified = run_process("feature-store", "stream", "--verify", "--project-dir", str(project), "--redis-url", redis_url,
                       "--namespace", "spark.kept", "--output", "json", env={"SPARK_REMOTE": spark.url})  # fmt: skip
        assert verified.code == 0, verified.err
        (view,) = verified.json["views"]
        assert (view["view"], view["entities"], view["different"], view["problem"]) == ("spent", 49, 0, "")
        time.sleep(6)
        spark.run(project, "run")
        (last,) = store.materialize()
        assert online() == expected(first + more), last
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


@pytest.mark.soak
def test_a_worker_is_lost_in_the_middle(broker: kafka.Broker, tmp_path: Path, redis_url: str) -> None:
    """On a cluster of two workers: every event lands once, and what is online is what a build and a run give."""
    if why := servers.missing():
        pytest.skip(why)
    schema, count = "lost", 200_000
    with spark_cluster.cluster() as cluster:
        spark = cluster.server
        project = spark.project(tmp_path / "shop", files(schema), more=HOOK)
        spark.run(project, "parse")
        broker.create(f"{schema}.purchases", 4)
        broker.create(f"{schema}.clicks")
        broker.send(f"{schema}.purchases", [purchase(number) for number in range(count)], lambda number: number % 4)
        with streaming(
            project, spark, broker.address, redis_url, "--namespace", "spark.lost", "--batch", "10000"
        ) as process:
            until(lambda: spark.session.catalog.tableExists(f"{schema}.purchases") and landed(spark, schema) >= 40_000)
            first, began = landed(spark, schema), time.monotonic()
            cluster.workers[0].lose()
            cluster.add_worker()
            until(lambda: landed(spark, schema) == count)
            print(f"{(count - first) / (time.monotonic() - began):,.0f} events/s landed, a worker lost meanwhile")
            assert cluster.lost_executors()
            ids = spark.session.sql(
                f"select count(distinct purchase_id) as n, count(distinct _partition, _offset) as places from {schema}.purchases"
            )
            assert ids.toArrow().to_pylist() == [{"n": count, "places": count}]
            time.sleep(6)
            with mock.patch.dict(os.environ, SPARK_REMOTE=spark.url):
                spark.run(project, "run")
                store = FeatureStore(project, redis_url=redis_url, namespace="spark.lost")
                store.materialize()
                until(lambda: "is kept online" in "".join(log.read_text() for log in project.glob("stream-*.log")))
                seconds = []
                for number in range(10):
                    began, before = (
                        time.monotonic(),
                        store.get_online_features(["spent:purchases"], [{"user_id": 7}]).to_dict(),
                    )
                    broker.send(f"{schema}.purchases", [purchase(count + number) | {"user_id": 7}])
                    until(lambda: store.get_online_features(["spent:purchases"], [{"user_id": 7}]).to_dict() != before)  # noqa: B023
                    seconds.append(round(time.monotonic() - began, 1))
                print(f"seconds from an event to its value online: {sorted(seconds)}")
                time.sleep(6)
                spark.run(project, "run")
                process.send_signal(signal.SIGTERM)
                assert process.wait(90) == 0
                oracle = FeatureStore(project, redis_url=redis_url, namespace="spark.lost.oracle")
                oracle.materialize()
                features, users = ["spent:purchases", "spent:price", "spent:tier"], [{"user_id": n} for n in range(51)]
                assert (
                    store.get_online_features(features, users).to_dict()
                    == oracle.get_online_features(features, users).to_dict()
                )
