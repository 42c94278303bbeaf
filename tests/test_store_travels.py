"""A store, an answer, a training set and an error go through pickle and copy, to other processes and threads."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import materializer
from materializer import FeatureStore, MaterializationError, OnlineResponse, TrainingSet, ViewResult
from materializer.training.repeat import TrainingSetChangedError
from tests.support.dbt import DbtProject
from tests.support.faults import Server, new_project, sql

WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {n}": lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in range(2, 6)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
FEATURES = ["kinds:amount", "kinds:list"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = new_project(tmp_path_factory.mktemp("travels") / "shop")
    sql(project, """create table kinds as select range as user_id, range as amount, [range / 2] as list,
        timestamptz '2024-05-01 00:00+00' as event_timestamp from range(5)""")  # fmt: skip
    return project


@pytest.fixture(scope="module")
def store(project: DbtProject, server: Server) -> FeatureStore:
    store = FeatureStore(project.folder, redis_url=server.url, namespace="travels")
    store.materialize(feature_views=["kinds"])
    return store


def amounts(store: FeatureStore) -> list[Any]:
    """As another process asks for them."""
    return store.get_online_features(FEATURES, {"user_id": [1, 9]}).to_dict()["amount"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used", [False, True])
def test_a_store_works_on_the_other_side(store: FeatureStore, server: Server, way: str, used: bool) -> None:
    for own in (store, FeatureStore(redis_url=server.url, namespace="travels"), FeatureStore(redis_url=server.url)):
        if used:
            assert amounts(own) == [1, None]
        other = WAYS[way](own)
        assert amounts(other) == [1, None]
        assert other.has_project == own.has_project
        assert amounts(own) == [1, None]
    assert next(view.name for view in WAYS[way](store).list_feature_views()) == "kinds"


def test_a_store_is_sent_to_a_spawned_process(store: FeatureStore) -> None:
    assert amounts(store) == [1, None]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(amounts, store).result(60) == [1, None]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_says_the_same_on_the_other_side(store: FeatureStore, way: str) -> None:
    for asked in (False, True):
        answer = store.get_online_features(FEATURES, {"user_id": [1, None, 9]})
        expected = answer.to_dict(include_statuses=True, include_event_timestamps=True) if asked else None
        other = WAYS[way](answer)
        assert isinstance(other, OnlineResponse)
        expected = expected or answer.to_dict(include_statuses=True, include_event_timestamps=True)
        assert other.to_dict(include_statuses=True, include_event_timestamps=True) == expected
        assert other.to_arrow() == answer.to_arrow()


@pytest.mark.parametrize("way", WAYS)
def test_a_training_set_says_the_same_on_the_other_side(store: FeatureStore, way: str) -> None:
    labels = {"user_id": [1, 2], "event_timestamp": [pa.scalar(1_800_000_000_000_000, pa.timestamp("us"))] * 2}
    table = pa.table({name: pa.array(values) for name, values in labels.items()})
    for spine in (table, table.to_pandas()):
        found = store.get_historical_features(spine, FEATURES)
        other = WAYS[way](found)
        assert isinstance(other, TrainingSet)
        assert other.to_arrow() == found.to_arrow() and (other.sql, other.features) == (found.sql, found.features)
        assert other.to_df().equals(found.to_df())


def test_every_error_and_result_says_the_same_on_the_other_side() -> None:
    result = ViewResult("kinds", "run", error="It failed.", warnings=("x",))
    errors: list[Any] = [
        getattr(materializer, name)("A sentence.")
        for name in materializer.__all__
        if name.endswith("Error") and name != "MaterializationError"
    ]
    errors += [
        MaterializationError("1 of 1 failed.", [result], {"service": "A sentence."}),
        TrainingSetChangedError("It changed.", ("the data has changed",)),
    ]
    for error in errors:
        for way in WAYS.values():
            other = way(error)
            assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


# An interrupt at any step of the first read.

_INTERRUPTED = """
import linecache, sys, threading
from materializer import FeatureStore

url, first, last, step = sys.argv[1], *map(int, sys.argv[2:])
seen, raised = 0, []

def trace(frame, event, argument):
    global seen
    file = frame.f_code.co_filename
    if event == "line" and ("/redis/" in file or "/materializer/" in file):
        seen += 1
        # Python itself lets no interrupt in where a lock is taken or given back.
        line = linecache.getline(file, frame.f_lineno).strip()
        if seen >= stop and not raised and not line.startswith(("with ", "try:")):
            raised.append(seen)
            raise KeyboardInterrupt
    return trace

def read(store):
    return store.get_online_features(["kinds:amount"], {"user_id": [1]}).to_dict()["amount"]

for stop in range(first, last, step):
    store, seen, raised = FeatureStore(redis_url=url, namespace="travels"), 0, []
    sys.settrace(trace)
    try:
        read(store)
    except KeyboardInterrupt:
        pass
    sys.settrace(None)
    found = []
    thread = threading.Thread(target=lambda: found.extend(read(store) + read(store)), daemon=True)
    thread.start()
    thread.join(20)
    assert found == [1, 1], (stop, found)
print(seen)
"""


def test_after_an_interrupt_at_any_step_of_the_first_read_the_next_one_connects_anew(
    store: FeatureStore, server: Server, tmp_path: Path
) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    ran = subprocess.run(
        [sys.executable, str(script), server.url, "1", "2600", "113"], capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stderr[-1500:]
