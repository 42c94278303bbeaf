"""Lineage through the package's own macros: the same in every shape and grain, whatever CTEs the SQL goes through."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb
import pytest

from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.sql.lineage import Column, Lineage, upstream
from tests.support.dbt import make_project
from tests.support.hand_made import manifest_of
from tests.support.rendered import Views

# name: (aggregate, columns whose values flow in, columns that only filter)
AGGREGATES: dict[str, tuple[dict[str, str], set[str], set[str]]] = {
    "rows": ({"function": "count"}, set(), set()),
    "rows_where": ({"function": "count", "where": "kind = 'a'"}, set(), {"kind"}),
    "given": ({"function": "count", "expression": "whole"}, {"whole"}, set()),
    "kinds": ({"function": "count_distinct", "expression": "kind"}, {"kind"}, set()),
    "total": ({"function": "sum", "expression": "whole"}, {"whole"}, set()),
    "exact": ({"function": "sum", "expression": "amount"}, {"amount"}, set()),
    "money": ({"function": "avg", "expression": "price * whole"}, {"price", "whole"}, set()),
    "mean": ({"function": "avg", "expression": "amount", "where": "kind <> 'b'"}, {"amount"}, {"kind"}),
    "least": ({"function": "min", "expression": "amount"}, {"amount"}, set()),
    "most": ({"function": "max", "expression": "coalesce(whole, 0)"}, {"whole"}, set()),
    "spread": ({"function": "stddev", "expression": "amount"}, {"amount"}, set()),
    "spread_squared": ({"function": "variance", "expression": "whole"}, {"whole"}, set()),
    "opening": ({"function": "first", "expression": "kind"}, {"kind"}, set()),
    "closing": ({"function": "last", "expression": "amount", "where": "whole > 1"}, {"amount"}, {"whole"}),
}
WINDOWS = {"7d": "7 days", "1h": "1 hour"}


EVENTS, LABELS = Relation('"db"."raw"."events"'), Relation('"db"."raw"."labels"')
ENTITIES = ["user_id", "item_id"]
TABLES = {
    "events": "1::bigint as user_id, 2::bigint as item_id, now() as happened_at, now() as loaded_at, 'a' as kind,"
    " 3::bigint as whole, 0.5::double as amount, 1.25::decimal(10, 2) as price",
    "labels": "1::bigint as user_id, 2::bigint as item_id, now() as asked_at, true as bought",
}
COLUMNS = ["user_id", "item_id", "happened_at", "loaded_at", "kind", "whole", "amount", "price"]
GIVEN = [{"name": name, **one} for name, (one, _, _) in AGGREGATES.items()]
CALLS: dict[str, dict[str, Any]] = {
    f"{shape}_{grain}_{'late' if created else 'prompt'}": {
        "shape": shape,
        "grain": {"every": "1 hour"} if grain == "every" else grain,
        **({"created_timestamp": "loaded_at"} if created else {}),
    }
    for shape, grain, created in itertools.product(("dense", "range"), ("change", "event", "every"), (False, True))
}
AS_OF: dict[str, dict[str, Any]] = {
    f"as_of_{shape}_{'late' if created else 'prompt'}": {
        "spine_timestamp": "asked_at",
        "shape": shape,
        **({"created_timestamp": "loaded_at"} if created else {}),
    }
    for shape, created in itertools.product(("dense", "range"), (False, True))
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Each call as a model, rendered as dbt would."""
    views = Views()
    views.connection.execute("attach ':memory:' as db; create schema db.raw")
    for name, columns in TABLES.items():
        views.connection.execute(f"create table db.raw.{name} as select {columns}")
    windows = list(WINDOWS.values())
    models = {
        **{name: views.sql("window_aggregates", EVENTS, ENTITIES, "happened_at", GIVEN, windows, **one) for name, one in CALLS.items()},
        **{name: views.sql("aggregate_as_of", LABELS, EVENTS, ENTITIES, "happened_at", GIVEN, windows, **one) for name, one in AS_OF.items()},
    }  # fmt: skip
    return Graph(
        manifest_of(models, {"raw.events": COLUMNS, "raw.labels": ["user_id", "item_id", "asked_at", "bought"]})
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """What needs dbt: a view, what is joined from it, and an incremental model that has been built before."""
    view = {"entities": ["user_id"], "created_timestamp": "created_at", "ttl": "30 days"}
    columns = [{"name": "user_id", "data_type": "bigint"}, {"name": "event_timestamp", "data_type": "timestamptz"},
               {"name": "created_at", "data_type": "timestamptz"}, {"name": "doubled", "data_type": "double"},
               {"name": "kind", "data_type": "varchar"}]  # fmt: skip
    given = f"source('raw', 'events'), {ENTITIES}, 'happened_at', {GIVEN}, {list(WINDOWS.values())}, shape='dense'"
    models = {
        "view": "select user_id, happened_at as event_timestamp, loaded_at as created_at, amount * 2 as doubled, kind from {{ source('raw', 'events') }}",
        "trained": "{{ feature_store.point_in_time_join(source('raw', 'labels'), ['view:doubled', 'view:kind'], timestamp='asked_at') }}",
        "newest": "{{ feature_store.latest('view') }}",
        "grown": "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'item_id', 'event_timestamp']) }}"
        + "{{ feature_store.window_aggregates(" + given + ") }}",
    }  # fmt: skip
    project = make_project(
        tmp_path_factory.mktemp("lineage"),
        {
            "models/sources.yml": {
                "sources": [{"name": "raw", "schema": "main", "tables": [{"name": "events"}, {"name": "labels"}]}]
            },
            "models/views.yml": {
                "models": [{"name": "view", "config": {"meta": {"feature_view": view}}, "columns": columns}]
            },
            **{f"models/{name}.sql": sql for name, sql in models.items()},
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        for name, selected in TABLES.items():
            warehouse.execute(f"create table {name} as select {selected}")
    project.dbt("run", "--select", "view", "grown")
    project.dbt("compile")
    return Graph(project.manifest())


def names(columns: tuple[Column, ...]) -> set[str]:
    return {column.name for column in columns if column.node == "source.shop.raw.events"}


def trace(graph: Graph, model: str, column: str) -> Lineage:
    lineage = upstream(graph, f"model.shop.{model}", column)
    assert not lineage.unresolved, lineage.unresolved
    return lineage


@pytest.mark.parametrize("model", CALLS)
@pytest.mark.parametrize("name", AGGREGATES)
def test_a_window_is_made_from_the_columns_of_its_aggregate(name: str, model: str, graph: Graph) -> None:
    _, values, filters = AGGREGATES[name]
    times = {"happened_at", "loaded_at"} if model.endswith("late") else {"happened_at"}
    for slug in WINDOWS:
        lineage = trace(graph, model, f"{name}_{slug}")
        assert names(lineage.values) == values
        assert names(lineage.filters) - values == (filters | {"user_id", "item_id"} | times) - values
        counts = Column("source.shop.raw.events", "*") in lineage.counted
        assert counts == (not values)


@pytest.mark.parametrize("model", CALLS)
def test_keys_and_moments_of_a_windowed_view_come_from_the_events(model: str, graph: Graph) -> None:
    assert names(trace(graph, model, "user_id").values) == {"user_id"}
    times = {"happened_at", "loaded_at"} if model.endswith("late") else {"happened_at"}
    assert names(trace(graph, model, "event_timestamp").values) == times


@pytest.mark.parametrize("model", AS_OF)
@pytest.mark.parametrize("name", AGGREGATES)
def test_a_window_as_of_labels_is_made_from_the_events_and_filtered_by_the_labels(
    name: str, model: str, graph: Graph
) -> None:
    _, values, filters = AGGREGATES[name]
    lineage = trace(graph, model, f"{name}_7d")
    assert names(lineage.values) == values
    assert names(lineage.filters) >= filters | ({"user_id", "item_id", "happened_at"} - values)
    labels = {column.name for column in lineage.filters if column.node.endswith("labels")}
    assert labels == {"user_id", "item_id", "asked_at"}
    assert trace(graph, model, "bought").sources == (Column("source.shop.raw.labels", "bought"),)


def test_a_training_set_takes_features_from_the_view_and_the_rest_from_the_labels(built: Graph) -> None:
    doubled = trace(built, "trained", "doubled")
    assert names(doubled.values) == {"amount"}
    assert Column("model.shop.view", "doubled") in doubled.values
    assert {"user_id", "happened_at", "loaded_at"} <= names(doubled.filters)
    assert trace(built, "trained", "bought").sources == (Column("source.shop.raw.labels", "bought"),)


def test_the_latest_rows_of_a_view_are_its_columns(built: Graph) -> None:
    assert names(trace(built, "newest", "doubled").values) == {"amount"}
    assert names(trace(built, "newest", "event_timestamp").values) == {"happened_at"}


def test_an_incremental_run_reads_its_own_table_only_to_see_what_it_lacks(built: Graph) -> None:
    assert "_fs_touched" in built.nodes["model.shop.grown"]["compiled_code"]
    for name, (_, values, filters) in AGGREGATES.items():
        lineage = trace(built, "grown", f"{name}_7d")
        assert names(lineage.values) == values
        assert names(lineage.filters) >= (filters | {"user_id", "item_id", "happened_at"}) - values
        assert (Column("source.shop.raw.events", "*") in lineage.counted) == (not values)


@pytest.mark.parametrize("name", AGGREGATES)
def test_the_step_of_a_window_is_what_the_macro_was_asked_for(name: str, graph: Graph) -> None:
    aggregate, _, _ = AGGREGATES[name]
    made = f"{aggregate['function']}({aggregate.get('expression', '*')})"
    where = f" filter (where {aggregate['where']})" if "where" in aggregate else ""
    for model in CALLS:
        column = Column(f"model.shop.{model}", f"{name}_7d")
        said = {edge.expression for edge in trace(graph, model, column.name).edges if edge.target == column}
        known = ', known from "loaded_at"' if model.endswith("late") else ""
        assert said - {""} == {f"{made}{where} over 7 days{known}"}
