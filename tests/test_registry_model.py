"""The model `feature_store_registry`: what exists, asked in SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.dbt import DbtProject, make_project

DESCRIPTION = "It's a \"user's\" age:\n  100% {sure} \\ 'not' -- or; so."

PROPERTIES: dict[str, Any] = {
    "groups": [{"name": "growth", "owner": {"name": "Growth", "email": "growth@shop.example"}}],
    "models": [
        {
            "name": "users",
            "description": "Who a user is.",
            "config": {
                "group": "growth",
                "tags": ["tagged_in_dbt"],
                "meta": {
                    "feature_view": {
                        "entities": ["user_id", "country"],
                        "created_timestamp": "created_at",
                        "ttl": "30 days",
                        "available_after": "2 hours",
                        "online": False,
                        "tags": {"team": "growth", "tier": 1},
                    }
                },
            },
            "columns": [
                {"name": "user_id", "description": "The user."},
                {"name": "Country"},
                {"name": "event_timestamp"},
                {"name": "CREATED_AT"},
                {"name": "age", "data_type": "integer", "description": DESCRIPTION},
                {"name": "plain"},
            ],
        },
        {
            "name": "items",
            "latest_version": 2,
            "config": {"meta": {"feature_view": {"entities": ["item_id"], "timestamp": "at"}}},
            "columns": [{"name": "item_id"}, {"name": "at"}, {"name": "price"}],
            "versions": [{"v": 1}, {"v": 2, "columns": [{"include": "all"}, {"name": "colour"}]}],
        },
        {"name": "no_view", "columns": [{"name": "user_id"}, {"name": "age"}]},
    ],
}
USERS = "select 1 as user_id, 'nl' as country, now() as event_timestamp, now() as created_at, 31 as age, 1 as plain"


def rows(project: DbtProject, query: str) -> list[tuple]:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = make_project(
        tmp_path_factory.mktemp("registry"),
        {
            "models/properties.yml": PROPERTIES,
            "models/users.sql": USERS,
            "models/items_v1.sql": "select 1 as item_id, now() as at, 2 as price",
            "models/items_v2.sql": "select 1 as item_id, now() as at, 2 as price, 'red' as colour",
            "models/no_view.sql": "select 1 as user_id, 2 as age",
        },
    )
    project.dbt("build")
    return project


def test_there_is_one_row_for_each_declared_feature(project: DbtProject) -> None:
    assert rows(
        project, "select feature_reference, feature_view, version, feature from feature_store_registry order by 1"
    ) == [
        ("items.v1:price", "items", "1", "price"),
        ("items.v2:colour", "items", "2", "colour"),
        ("items.v2:price", "items", "2", "price"),
        ("users:age", "users", None, "age"),
        ("users:plain", "users", None, "plain"),
    ]


def test_a_row_says_everything_the_definition_says(project: DbtProject) -> None:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        result = connection.execute("select * from feature_store_registry where feature_reference = 'users:age'")
        names = [column[0] for column in result.description]
        row = dict(zip(names, result.fetchone(), strict=True))
    tags = row.pop("tags")
    assert {"team=growth", "tier=1"} <= set(tags.split(", "))
    assert row == {
        "feature_reference": "users:age",
        "feature_view": "users",
        "version": None,
        "feature": "age",
        "data_type": "integer",
        "description": " ".join(DESCRIPTION.split()),
        "expression": None,
        "feature_view_description": "Who a user is.",
        "entities": "user_id, country",
        "event_timestamp_column": "event_timestamp",
        "created_timestamp_column": "created_at",
        "available_after": "2 hours",
        "ttl": "30 days",
        "is_online": False,
        "owner": "growth",
        "relation_name": '"warehouse"."main"."users"',
    }


def test_what_is_not_declared_is_null_or_the_default(project: DbtProject) -> None:
    query = """
        select data_type, created_timestamp_column, available_after, ttl, owner, event_timestamp_column, is_online, tags
        from feature_store_registry where feature_reference = 'items.v1:price'
    """
    assert rows(project, query) == [(None, None, None, None, None, "at", True, "")]


def test_columns_are_text_and_booleans_and_all_are_documented(project: DbtProject) -> None:
    types = dict(
        rows(project, "select column_name, data_type from duckdb_columns() where table_name = 'feature_store_registry'")
    )
    assert {name for name, data_type in types.items() if data_type != "VARCHAR"} == {"is_online"}
    assert types["is_online"] == "BOOLEAN"
    documented = project.manifest()["nodes"]["model.feature_store.feature_store_registry"]["columns"]
    assert list(documented) == list(types)
    assert all(column["description"] for column in documented.values())


def test_without_any_view_it_is_empty_and_has_the_same_columns(project: DbtProject, tmp_path: Path) -> None:
    empty = make_project(tmp_path, {"models/no_view.sql": "select 1 as user_id"})
    empty.dbt("build")
    assert rows(empty, "select * from feature_store_registry") == []
    query = "select column_name, data_type from duckdb_columns() where table_name = 'feature_store_registry'"
    assert rows(empty, query) == rows(project, query)


def test_a_variable_switches_it_off(tmp_path: Path) -> None:
    project = make_project(tmp_path, {"models/no_view.sql": "select 1 as user_id"})
    project.dbt("build", "--vars", "feature_store_catalog: false")
    assert rows(project, "select table_name from duckdb_tables()") == []
    assert "model.feature_store.feature_store_registry" not in project.manifest()["nodes"]
