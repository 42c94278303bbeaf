"""The log of served features: what is in it, and that it costs no caller anything."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore
from materializer.online.response import OnlineResponse, Status
from materializer.project.definitions import Entity, Feature, FeatureView, Registry
from materializer.serve import feature_log
from materializer.serve.feature_log import FeatureLog
from materializer.serve.metrics import Metrics
from tests.support.dbt import DbtProject, copy_of
from tests.support.serving import serving
from tests.support.shop import EVENT, built_shop

NAMESPACE = "logged"
FEATURES = ["user_features:age", "user_features:score", "item_features:price"]
ASKED = {"features": FEATURES, "entities": [{"user_id": 2, "item_id": "a:1"}, {"user_id": 99, "item_id": None}]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> DbtProject:
    shop = copy_of(built_shop(), tmp_path_factory.mktemp("logged") / "shop")
    FeatureStore(shop.folder, redis_url=redis_url, namespace=NAMESPACE).materialize()
    return shop


def rows_in(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.ParquetFile(path).read() for path in sorted(folder.rglob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def counted(client: httpx.Client, name: str) -> float:
    """A counter, over all of its labels."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}(\{{|\s)", line))


def until(true: Any) -> None:
    give_up = time.monotonic() + 10
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


# What is in it.


def test_a_row_has_keys_values_statuses_and_event_times_by_feasts_names(
    shop: DbtProject, redis_url: str, tmp_path: Path
) -> None:
    options = ("--log-features", str(tmp_path), "--log-sample", "1")
    began = datetime.now(timezone.utc)
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, _):
        assert client.post("/v1/features", json=ASKED, headers={"x-request-id": "order-17"}).status_code == 200
        secret = {"x-request-id": "a secret, with blanks", "authorization": "Bearer s3cret", "x-other": "s3cret"}
        asked = {"feature_service": "recommendation", "entities": {"user_id": ["1"], "item_id": ["b"]}}
        assert client.post("/get-online-features", json=asked, headers=secret).status_code == 200
    (listed,) = tmp_path.glob("features-*/*.parquet")
    (service,) = tmp_path.glob("service-recommendation/*.parquet")
    table = pq.read_table(listed)
    assert table.schema.field("item_features__price").type == pa.decimal128(10, 2)
    assert table.schema.field("user_id").type == pa.int64()
    first, second = table.to_pylist()
    assert began <= first["__log_timestamp"] <= datetime.now(timezone.utc)
    assert (first["__request_id"], first["user_id"], first["item_id"]) == ("order-17", 2, "a:1")
    assert first["user_features__age"] == 9007199254740993
    assert first["user_features__score"] != first["user_features__score"]
    assert first["user_features__age__status"] == "PRESENT"
    assert first["user_features__age__timestamp"] == EVENT
    assert (second["user_id"], second["item_id"], second["item_features__price"]) == (99, None, None)
    assert (second["item_features__price__status"], second["item_features__price__timestamp"]) == ("NOT_FOUND", None)
    about = json.loads(pq.read_schema(service).metadata[b"feature_store"])
    assert (about["service"], about["namespace"]) == ("recommendation", NAMESPACE)
    (row,) = pq.read_table(service).to_pylist()
    assert (row["user_id"], row["item_id"]) == (1, "b")
    assert row["item_features__price__status"] == "NOT_FOUND"
    assert re.fullmatch("[0-9a-f]{32}", row["__request_id"])
    assert b"s3cret" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_several_workers_write_beside_each_other_and_on_sigterm_all_that_is_queued(
    shop: DbtProject, redis_url: str, tmp_path: Path
) -> None:
    options = ("--workers", "2", "--log-features", str(tmp_path), "--log-sample", "1", "--log-seconds", "600")
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, process):
        for number in range(40):
            with httpx.Client(base_url=client.base_url) as another:  # which any worker may take
                another.post("/v1/features", json=ASKED, headers={"x-request-id": str(number)})
        assert not list(tmp_path.rglob("*.parquet"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert sorted({int(row["__request_id"]) for row in rows_in(tmp_path)}) == list(range(40))
    assert len(rows_in(tmp_path)) == 80
    assert len(list(tmp_path.rglob("*.parquet"))) in (1, 2) and not list(tmp_path.rglob(".*"))


def test_a_sample_is_the_share_that_was_asked_for(shop: DbtProject, redis_url: str, tmp_path: Path) -> None:
    with serving(redis_url, "--log-features", str(tmp_path), "--log-sample", "0.2", namespace=NAMESPACE) as (client, _):
        for _ in range(500):
            client.post("/v1/features", json=ASKED)
    requests = len({row["__request_id"] for row in rows_in(tmp_path)})
    assert 50 < requests < 160


# What goes wrong.


def test_a_folder_that_goes_away_is_counted_said_once_and_no_callers_business(
    shop: DbtProject, redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    options = ("--log-features", str(folder), "--log-sample", "1", "--log-seconds", "0.05")
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, process):
        client.post("/v1/features", json=ASKED)
        until(lambda: counted(client, "feature_store_log_rows_total") == 2)
        assert counted(client, "feature_store_log_files_total") == 1
        shutil.rmtree(folder)
        for rows in (2, 4, 6):
            assert client.post("/v1/features", json=ASKED).status_code == 200
            until(lambda rows=rows: counted(client, "feature_store_log_dropped_total") == rows)
        folder.mkdir()
        client.post("/v1/features", json=ASKED)
        until(lambda: counted(client, "feature_store_log_rows_total") == 4)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[0]
    assert said.count("Served features cannot be written to") == 1
    assert "No such file or directory" in said and "Traceback" not in said


def test_a_folder_that_cannot_be_made_is_said_at_the_start(redis_url: str, tmp_path: Path) -> None:
    from tests.support.command import run

    (tmp_path / "file").write_text("")
    ran = run("feature-store", "serve", "--log-features", str(tmp_path / "file" / "x"), "--redis-url", redis_url)
    assert ran.code == 1 and "for served features cannot be made: Not a directory." in ran.err


# The queue, without a server around it.

VIEW = FeatureView("v", (Entity("k", "", pa.int64()),), (Feature("f", "", pa.int64()),))
REGISTRY = Registry({"v": VIEW}, {})


def answer(rows: int) -> tuple[list[dict[str, Any]], OnlineResponse]:
    column = (
        pa.int64(),
        [b"%d" % number for number in range(rows)],
        [Status.PRESENT] * rows,
        [b"2024-05-01T12:30:00.250000Z"] * rows,
    )
    return [{"k": number} for number in range(rows)], OnlineResponse({}, {"f": column})


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(Metrics, "not_logged", lambda self, why, rows: found.append((why, rows)))
    yield found


def test_what_the_queue_cannot_hold_is_dropped_at_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropped: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(feature_log, "VALUES_WAITING", 1_000)
    log = FeatureLog(tmp_path, 1.0, 600.0, Metrics())
    started = time.perf_counter()
    for _ in range(15):  # nothing takes them out yet
        log.offer("id", None, ["v:f"], REGISTRY, *answer(100), "n")
    assert time.perf_counter() - started < 0.1
    assert dropped == [("queue", 100)] * 5
    log.start()
    log.close()
    assert len(rows_in(tmp_path)) == 1_000


def test_an_answer_that_cannot_be_logged_stops_none_of_the_others(
    tmp_path: Path, dropped: list[tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    log = FeatureLog(tmp_path, 1.0, 600.0, Metrics())
    log.start()
    rows, response = answer(3)
    wrong = OnlineResponse({}, {"f": (pa.string(), [b'"a"'] * 3, *response.columns["f"][2:])})
    for one in (response, wrong, wrong, response):
        log.offer("id", None, ["v:f"], REGISTRY, rows, one, "n")
    log.close()
    assert len(rows_in(tmp_path)) == 6 and dropped == [("value", 3)] * 2
    assert len([line for line in caplog.messages if "could not be logged" in line]) == 1


def test_what_was_read_by_redis_clock_is_logged_by_it(tmp_path: Path) -> None:
    log = FeatureLog(tmp_path, 1.0, 600.0, Metrics())
    log.start()
    rows, response = answer(1)
    response.read_at = datetime.now(timezone.utc) - timedelta(days=1)
    log.offer("id", None, ["v:f"], REGISTRY, rows, response, "n")
    log.close()
    assert rows_in(tmp_path)[0]["__log_timestamp"] == response.read_at


def test_a_key_that_views_have_in_two_types_is_logged_as_it_was_asked_for(tmp_path: Path) -> None:
    texts = FeatureView("w", (Entity("k", "", pa.string()),), (Feature("g", "", pa.int64()),))
    log = FeatureLog(tmp_path, 1.0, 600.0, Metrics())
    log.start()
    _, response = answer(2)
    response.columns["g"] = response.columns["f"]
    rows = [{"k": "007"}, {"k": 7}]
    log.offer("id", None, ["v:f", "w:g"], Registry({"v": VIEW, "w": texts}, {}), rows, response, "n")
    log.close()
    assert [row["k"] for row in rows_in(tmp_path)] == ["007", "7"]
