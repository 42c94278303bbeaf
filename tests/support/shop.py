"""A small shop's feature views, built by dbt once a session; each test works on a copy of its own."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import duckdb
import yaml

from tests.support.dbt import DbtProject, make_project
from tests.support.once import once

EVENT = datetime(2024, 5, 1, 12, 30, 0, 250_000, tzinfo=timezone.utc)
EVENT_TEXT = "2024-05-01T12:30:00.250000Z"

MODELS: dict[str, Any] = {
    "models/user_features.sql": """
        {{ config(materialized='table') }}
        select * from (values
            (1::bigint, timestamptz '2024-01-01 00:00:00+00', 30::bigint, 'Oslo', 0.5::double),
            (1, timestamptz '2024-05-01 12:30:00.25+00', 31, 'Bergen', 0.1),
            (2, timestamptz '2024-05-01 12:30:00.25+00', 9007199254740993, null, 'nan'::double),
            (3, timestamptz '2024-05-01 12:30:00.25+00', null, '', '-0.0'::double)
        ) as rows(user_id, event_timestamp, age, city, score)
    """,
    "models/item_features.sql": """
        {{ config(materialized='table') }}
        select * from (values
            ('a:1', now()::timestamp - interval 1 hour, 9.90::decimal(10, 2), true, 3::bigint),
            ('b', now()::timestamp - interval 400 days, 1.00::decimal(10, 2), false, 4::bigint)
        ) as rows(item_id, event_timestamp, price, in_stock, age)
    """,
    "models/user_item.sql": """
        {{ config(materialized='table') }}
        select * from (values
            (1::bigint, 'a:1', timestamptz '2024-05-01 12:30:00.25+00', 7::bigint),
            (1, 'b', timestamptz '2024-05-01 12:30:00.25+00', 8)
        ) as rows(user_id, item_id, event_timestamp, affinity)
    """,
    "models/offline_only.sql": """
        {{ config(materialized='table') }}
        select 1::bigint as user_id, timestamptz '2024-05-01 00:00:00+00' as event_timestamp, 5 as secret_score
    """,
    "models/retired.sql": "{{ config(materialized='table', enabled=false) }} select 1 as user_id",
}

PROPERTIES: dict[str, Any] = {
    "groups": [{"name": "growth", "owner": {"name": "Growth", "email": "growth@shop.example"}}],
    "models": [
        {
            "name": "user_features",
            "description": "Who a user is.",
            "config": {
                "group": "growth",
                "tags": ["people"],
                "meta": {"feature_view": {"entities": ["user_id"], "tags": {"team": "growth"}}},
            },
            "columns": [
                {"name": "user_id", "description": "The user."},
                {"name": "age", "description": "In years."},
            ],
        },
        {
            "name": "item_features",
            "config": {
                "tags": ["things"],
                "meta": {"feature_view": {"entities": ["item_id"], "ttl": "30 days", "tags": {"team": "stock"}}},
            },
        },
        {
            "name": "user_item",
            "config": {
                "tags": ["people", "things"],
                "meta": {"feature_view": {"entities": ["user_id", "item_id"]}},
            },
        },
        {
            "name": "offline_only",
            "config": {"meta": {"feature_view": {"entities": ["user_id"], "online": False}}},
        },
        {"name": "retired", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}},
    ],
    "exposures": [
        {
            "name": "recommendation",
            "type": "ml",
            "description": "What the recommender reads.",
            "owner": {"name": "ML", "email": "ml@shop.example"},
            "tags": ["live"],
            "depends_on": ["ref('user_features')", "ref('item_features')"],
            "config": {"meta": {"features": ["user_features:city", "item_features:price"]}},
        }
    ],
}
ONLINE_VIEWS = ["item_features", "user_features", "user_item"]


def built_shop() -> DbtProject:
    """The shop as ``dbt build`` left it. Do not change it: take a copy with `copy_of`."""
    files = {**MODELS, "models/shop.yml": PROPERTIES}
    return DbtProject(once("shop", lambda folder: make_project(folder, files).dbt("build")))


def profile_of(project: DbtProject, **changes: Any) -> None:
    """Change the profile's target ``dev``."""
    path = project.folder / "profiles.yml"
    profile = yaml.safe_load(path.read_text())
    profile["shop"]["outputs"]["dev"] |= changes
    path.write_text(yaml.safe_dump(profile))


def change_properties(project: DbtProject, model: str, feature_view: dict[str, Any] | None) -> None:
    """Write ``meta.feature_view`` of a model anew into ``models/shop.yml`` (None: the model is no view any more)."""
    path = project.folder / "models" / "shop.yml"
    properties = yaml.safe_load(path.read_text())
    (entry,) = [entry for entry in properties["models"] if entry["name"] == model]
    entry["config"]["meta"] = {} if feature_view is None else {"feature_view": feature_view}
    path.write_text(yaml.safe_dump(properties, sort_keys=False))


def change_warehouse(project: DbtProject, *statements: str) -> None:
    """Run SQL on the warehouse: what a later ``dbt run`` over other rows would have done."""
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for statement in statements:
            connection.execute(statement)
