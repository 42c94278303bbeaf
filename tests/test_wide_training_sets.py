"""What a training set costs grows with its rows and columns: a view is described once, however many features are asked."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import duckdb
import pandas as pd
import pytest

from materializer import FeatureStore
from materializer.project.relation import Relation
from materializer.warehouse.duckdb import DuckDBWarehouse
from tests.support.manifests import bare_project, manifest, write_models

FEATURES = 1_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = bare_project(tmp_path_factory.mktemp("wide"))
    columns = ", ".join(f"{number} as f{number}" for number in range(FEATURES))
    with duckdb.connect(str(folder / "shop.duckdb")) as warehouse:
        warehouse.execute(
            f"create table wide as select 1 as user_id, timestamp '2024-01-01' as event_timestamp, {columns}"
        )
    return FeatureStore(write_models(folder, manifest({"wide": "select 1"}, {"wide": {"entities": ["user_id"]}})))


def test_a_view_is_described_once_for_all_of_its_features(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Relation] = []
    describe, schema = DuckDBWarehouse.columns, DuckDBWarehouse.schema
    monkeypatch.setattr(DuckDBWarehouse, "columns", lambda self, one: [asked.append(one), describe(self, one)][1])
    monkeypatch.setattr(DuckDBWarehouse, "schema", lambda self, one: [asked.append(one), schema(self, one)][1])

    def described(count: int) -> int:
        asked.clear()
        references = [f"wide:f{number}" for number in range(count)]
        answer = store.get_historical_features(_spine(), references).to_arrow()
        assert [answer[f"f{number}"][0].as_py() for number in range(count)] == list(range(count))
        return len(asked)

    assert described(1) == described(50) <= 4


def test_rendering_grows_with_the_features_and_not_with_their_square(store: FeatureStore) -> None:
    """Ten times the features take far less than a hundred times the time, beyond what is the same for any number."""

    def seconds(count: int) -> float:
        references = [f"wide:f{number}" for number in range(count)]
        began = time.process_time()
        store.get_historical_features(_spine(), references)
        return time.process_time() - began

    few, many = (min(seconds(count) for _ in range(3)) for count in (FEATURES // 10, FEATURES))
    assert many < 25 * few


def test_a_pandas_frame_takes_many_features_at_once(store: FeatureStore) -> None:
    frame = pd.DataFrame(_spine() | {7: [{1}, {2}]}, index=["a", "a"])
    frame.columns.name, frame.attrs = "columns", {"of": "labels"}

    def seconds(count: int) -> float:
        answer = store.get_historical_features(frame, [f"wide:f{number}" for number in range(count)])
        began = time.process_time()
        joined = answer.to_df()
        took = time.process_time() - began
        assert list(joined.columns) == [*frame.columns, *(f"f{number}" for number in range(count))]
        assert joined[f"f{count - 1}"].fillna(-1).tolist() == [count - 1, -1]
        assert joined.iloc[:, :3].equals(frame)
        assert (joined.columns.name, joined.attrs) == ("columns", {"of": "labels"})
        return took

    seconds(1)
    few, many = (min(seconds(count) for _ in range(3)) for count in (FEATURES // 10, FEATURES))
    assert many < 25 * few


def _spine() -> dict[str, list[Any]]:
    return {"user_id": [1, 2], "event_timestamp": [datetime(2024, 6, 1)] * 2}
