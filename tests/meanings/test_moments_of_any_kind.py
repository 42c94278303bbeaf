"""Instants are UTC to the microsecond: naive, zoned and nanosecond columns and spines mean the same moments."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pytest

from materializer import FeatureStore
from tests.meanings.conftest import UTC, Shop, at
from tests.support.dbt import DbtProject, make_project

NOON = at("2024-05-01 12:00:00.000001")
BEFORE = NOON - timedelta(microseconds=1)
NANOSECONDS = int(NOON.timestamp()) * 10**9 + 1000

SPINES: dict[str, Any] = {
    "naive datetimes": [moment.replace(tzinfo=None) for moment in (BEFORE, NOON)],
    "UTC datetimes": [BEFORE, NOON],
    "pandas naive": pd.Series([BEFORE, NOON]).dt.tz_localize(None),
    "pandas in New York": pd.Series([BEFORE, NOON]).dt.tz_convert("America/New_York"),
    "pandas nanoseconds": pd.Series(pd.to_datetime([NANOSECONDS - 1, NANOSECONDS])),
    "pandas nanoseconds in Kolkata": pd.Series(
        pd.to_datetime([NANOSECONDS - 1, NANOSECONDS + 999], utc=True)
    ).dt.tz_convert("Asia/Kolkata"),
    "pyarrow nanoseconds": pa.array([NANOSECONDS - 1, NANOSECONDS + 999], pa.timestamp("ns")),
    "polars nanoseconds in Tokyo": polars.Series([NANOSECONDS - 1, NANOSECONDS])
    .cast(polars.Datetime("ns", "UTC"))
    .dt.convert_time_zone("Asia/Tokyo"),
    "a microsecond, some written whole": pa.array([BEFORE, NOON], pa.timestamp("us", "+05:30")),
}


@pytest.mark.parametrize("kind", SPINES)
def test_a_spine_of_any_kind_of_timestamp(shop: Shop, kind: str) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": NOON, "points": 1}])
    moments = SPINES[kind]
    if isinstance(moments, pd.Series):
        spine: Any = pd.DataFrame({"user_id": [1, 1], "event_timestamp": moments})
    elif isinstance(moments, polars.Series):
        spine = polars.DataFrame({"user_id": [1, 1], "event_timestamp": moments})
    else:
        spine = {"user_id": [1, 1], "event_timestamp": moments}
    answer = shop.store().get_historical_features(spine, ["users:points"])
    assert answer.to_arrow().column("points").to_pylist() == [None, 1]
    if isinstance(moments, pd.Series):
        pd.testing.assert_series_equal(answer.to_df()["event_timestamp"], moments, check_names=False)


def test_a_date_is_its_midnight(shop: Shop) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": at("2024-05-01"), "points": 1}])
    days = pa.array([at("2024-04-30").date(), at("2024-05-01").date()])
    assert shop.training({"user_id": [1, 1], "event_timestamp": days}, ["users:points"]).column(2).to_pylist() == [
        None,
        1,
    ]


# The same row in views whose columns are of every kind, and a spine of every kind beside them.
TTL_DAYS = 10_000
TTL = TTL_DAYS * 86400 * 10**6
KINDS = {
    "naive": "timestamp '2024-05-01 12:00:00.000001'",
    "zoned": "timestamptz '2024-05-01 14:00:00.000001+02'",
    "nanoseconds": "timestamp_ns '2024-05-01 12:00:00.000001999'",
    "zoned_nanoseconds": "timestamptz_ns '2024-05-01 08:00:00.000001999-04'",
}


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[tuple[DbtProject, FeatureStore]]:
    """A project whose every session, dbt's and ours, stands in New York."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    folder = tmp_path_factory.mktemp("abroad")
    project = make_project(
        folder,
        {
            "profiles.yml": {
                "shop": {
                    "target": "dev",
                    "outputs": {
                        "dev": {
                            "type": "duckdb",
                            "path": str(folder / "warehouse.duckdb"),
                            "settings": {"TimeZone": "America/New_York"},
                        }
                    },
                }
            },
            "models/views.yml": {
                "models": [
                    {
                        "name": f"v_{kind}",
                        "config": {
                            "meta": {
                                "feature_view": {
                                    "entities": ["user_id"],
                                    "created_timestamp": "loaded",
                                    "ttl": f"{TTL_DAYS} days",
                                }
                            }
                        },
                    }
                    for kind in KINDS
                ]
            },
            "models/spine.sql": "select * from (values "
            + ", ".join(f"(1, {KINDS['zoned']} + interval '{n} microseconds')" for n in (-1, 0, TTL, TTL + 1))
            + ") as t(user_id, event_timestamp)",
            "models/spine_naive.sql": "select user_id, event_timestamp at time zone 'UTC' as event_timestamp "
            "from {{ ref('spine') }}",
        }
        | {
            f"models/v_{kind}.sql": f"select 1 as user_id, {sql} as event_timestamp, {sql} as loaded, 1 as {kind}"
            for kind, sql in KINDS.items()
        }
        | {
            f"models/t_{spine}.sql": f"{{{{ feature_store.point_in_time_join(ref('{spine}'), "
            f"{[f'v_{kind}:{kind}' for kind in KINDS]!r}) }}}}"
            for spine in ("spine", "spine_naive")
        }
        | {f"models/latest_{kind}.sql": f"{{{{ feature_store.latest('v_{kind}') }}}}" for kind in KINDS},
    )
    try:
        project.dbt("run")
        yield project, FeatureStore(project.folder, redis_url=redis_url, namespace="abroad")
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@pytest.mark.parametrize("spine", ["spine", "spine_naive"])
def test_a_session_in_another_time_zone_changes_nothing_in_a_dbt_model(
    abroad: tuple[DbtProject, FeatureStore], spine: str
) -> None:
    with duckdb.connect(str(abroad[0].warehouse), read_only=True) as connection:
        for kind in KINDS:
            values = connection.execute(f"select {kind} from t_{spine}").fetchall()
            assert values == [(None,), (1,), (1,), (None,)], kind
            assert connection.execute(f"select count(*) from latest_{kind}").fetchall() == [(1,)]


def test_a_session_in_another_time_zone_changes_nothing_in_python(abroad: tuple[DbtProject, FeatureStore]) -> None:
    _, store = abroad
    features = [f"v_{kind}:{kind}" for kind in KINDS]
    moments = [NOON + timedelta(microseconds=n) for n in (-1, 0, TTL, TTL + 1)]
    for spine in (moments, [moment.replace(tzinfo=None) for moment in moments]):
        answer = store.get_historical_features({"user_id": [1] * 4, "event_timestamp": spine}, features).to_arrow()
        for kind in KINDS:
            assert answer.column(kind).to_pylist() == [None, 1, 1, None], kind
    store.materialize()
    online = store.get_online_features(features, [{"user_id": 1}]).to_dict(
        include_event_timestamps=True, include_statuses=True
    )
    for kind in KINDS:
        assert online[f"{kind}__event_timestamp"] == [NOON]
        assert online[f"{kind}__status"] == ["PRESENT"]


def test_a_training_set_as_sql_text_means_utc_too(abroad: tuple[DbtProject, FeatureStore]) -> None:
    sql = "select 1 as user_id, timestamp '2024-05-01 12:00:00.000001' as event_timestamp"
    answer = abroad[1].get_historical_features(sql, ["v_zoned:zoned"]).to_arrow()
    assert answer.column("zoned").to_pylist() == [1]
    assert answer.column("event_timestamp").to_pylist() == [datetime(2024, 5, 1, 12, 0, 0, 1)]
    assert at("2024-05-01").tzinfo is UTC
