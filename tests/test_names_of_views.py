"""Whatever views are called, one training set can have all of them: their parts in the SQL never share a name."""

from __future__ import annotations

from datetime import datetime

import duckdb

from materializer import FeatureStore
from tests.support.dbt import make_project

# Names that are made of the words by which the SQL calls its own parts.
NAMES = ["spine", "rows", "a", "a_known", "a_hits", "known_a", "rows_a", "hits_a", "in_force_a", "labels"]


def test_views_named_like_the_parts_of_the_join_stand_beside_each_other(tmp_path) -> None:
    features = [f"{name}:x_{name}" for name in NAMES]
    project = make_project(
        tmp_path,
        {
            **{
                f"models/{name}.sql": "{{ config(materialized='table') }} "
                f"select 1 as k, timestamp '2026-01-01' as event_timestamp, {number} as x_{name}"
                for number, name in enumerate(NAMES)
            },
            "models/views.yml": {
                "models": [{"name": n, "config": {"meta": {"feature_view": {"entities": ["k"]}}}} for n in NAMES]
            },
            "models/asked.sql": "select 1 as k, timestamp '2026-01-02' as event_timestamp",
            "models/training.sql": f"{{{{ feature_store.point_in_time_join(ref('asked'), {features}) }}}}",
        },
    )
    project.dbt("build")
    expected = (1, datetime(2026, 1, 2), *range(len(NAMES)))
    with duckdb.connect(str(project.warehouse), read_only=True) as warehouse:
        assert warehouse.execute("select * from training").fetchall() == [expected]
    entities = {"k": [1], "event_timestamp": [datetime(2026, 1, 2)]}
    (row,) = FeatureStore(project.folder).get_historical_features(entities, features).to_arrow().to_pylist()
    assert tuple(row.values()) == expected
