"""One dbt project for all tests of this folder: its feature views are dbt views over tables that each test fills.

What a test writes into a table is what `dbt run` would have built by then; nothing has to be built again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from materializer import FeatureStore
from tests.support.dbt import DbtProject, make_project

UTC = timezone.utc
_numbers = itertools.count(1)

# Each view: what it declares, and the columns of its table.
VIEWS: dict[str, tuple[dict[str, Any], str]] = {
    "users": (
        {"entities": ["user_id"]},
        "user_id bigint, event_timestamp timestamptz, points bigint, score double, name varchar, active boolean",
    ),
    "weekly": (
        {"entities": ["user_id"], "ttl": "7 days"},
        "user_id bigint, event_timestamp timestamptz, visits bigint",
    ),
    "loaded": (
        {"entities": ["user_id"], "created_timestamp": "loaded_at"},
        "user_id bigint, event_timestamp timestamptz, loaded_at timestamptz, points bigint, label varchar",
    ),
    "settled": (
        {"entities": ["user_id"], "available_after": "2 hours"},
        "user_id bigint, event_timestamp timestamptz, amount decimal(18, 2)",
    ),
    "pairs": (
        {"entities": ["left_key", "right_key"]},
        "left_key varchar, right_key varchar, event_timestamp timestamptz, points bigint",
    ),
    "typed_keys": (
        {"entities": ["day", "moment", "local", "price", "flag", "small", "huge"]},
        "day date, moment timestamptz, local timestamp, price decimal(10, 2), flag boolean, small tinyint, "
        "huge hugeint, event_timestamp timestamptz, points bigint",
    ),
    "ties": (
        {"entities": ["user_id"]},
        "user_id bigint, event_timestamp timestamptz, zulu varchar, alpha double, mike boolean, tags bigint[]",
    ),
    "embeddings": (
        {"entities": ["user_id"]},
        "user_id bigint, event_timestamp timestamptz, taste float[3], tastes struct(near float[2], far float[2][])",
    ),
    "reserved": (
        {"entities": ["user_id"]},
        "user_id bigint, event_timestamp timestamptz, _fs_writer varchar",
    ),
    "prices_v1": ({}, "item_id bigint, event_timestamp timestamptz, price double"),
    "prices_v2": ({}, "item_id bigint, event_timestamp timestamptz, price double, currency varchar"),
}


def at(text: str) -> datetime:
    """A moment in UTC, written short: ``at("2024-05-01 12:00")``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ago(**duration: float) -> datetime:
    """A moment in the past, by the clock of this machine, which is the test server's too."""
    return datetime.now(UTC) - timedelta(**duration)


@dataclass
class Shop:
    """The project, and its tables to fill."""

    project: DbtProject
    redis_url: str

    def fill(self, view: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make these the only rows of a view; columns that a row leaves out are NULL."""
        with duckdb.connect(str(self.project.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"delete from raw_{view}")
            if rows:
                columns = dict.fromkeys(name for row in rows for name in row)
                connection.register("rows", pa.table({name: [row.get(name) for row in rows] for name in columns}))
                connection.execute(f"insert into raw_{view} by name select * from rows")

    def store(self, namespace: str | None = None) -> FeatureStore:
        """A store with a namespace of its own."""
        return FeatureStore(
            self.project.folder, redis_url=self.redis_url, namespace=namespace or f"meaning.{next(_numbers)}"
        )

    def training(self, entity_df: Any, features: list[str], **options: Any) -> pa.Table:
        """A training set as Arrow."""
        return self.store().get_historical_features(entity_df, features, **options).to_arrow()

    def values(self, feature: str, keys: Mapping[str, Any], *moments: datetime, **options: Any) -> list[Any]:
        """One feature of one entity at each of these moments."""
        spine = {name: [value] * len(moments) for name, value in keys.items()} | {"event_timestamp": list(moments)}
        return self.training(spine, [feature], **options).column(feature.split(":")[1]).to_pylist()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Shop:
    models = [
        {"name": view, "config": {"meta": {"feature_view": meta}}}
        for view, (meta, _) in VIEWS.items()
        if not view.startswith("prices")
    ]
    models.append(
        {
            "name": "prices",
            "latest_version": 2,
            "config": {"meta": {"feature_view": {"entities": ["item_id"]}}},
            "versions": [{"v": 1}, {"v": 2}],
        }
    )
    project = make_project(
        tmp_path_factory.mktemp("meanings"),
        {"models/views.yml": {"models": models}}
        | {f"models/{view}.sql": f"select * from main.raw_{view}" for view in VIEWS},
    )
    with duckdb.connect(str(project.warehouse)) as connection:
        for view, (_, columns) in VIEWS.items():
            connection.execute(f"create table raw_{view} ({columns})")
    project.dbt("run")
    return Shop(project, redis_url)


@pytest.fixture
def store(shop: Shop) -> FeatureStore:
    """A store whose online side is empty."""
    return shop.store()
