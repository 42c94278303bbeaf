"""Lineage through the package's own macros: the same in every shape and grain, whatever CTEs the SQL goes through."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb
import pytest

from materializer.sql.lineage import Column, Lineage, upstream
from materializer.project.graph import Graph
from tests.support.dbt import make_project

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


def call(macro: str, **given: Any) -> str:
    arguments = {
        "relation": "source('raw', 'events')",
        "entities": "['user_id', 'item_id']",
        "timestamp": "'happened_at'",
        "aggregates": repr([{"name": name, **one} for name, (one, _, _) in AGGREGATES.items()]),
        "windows": repr(list(WINDOWS.values())),
        **given,
    }
    return f"{{{{ feature_store.{macro}({', '.join(f'{k}={v}' for k, v in arguments.items())}) }}}}"


CALLS = {
    f"{shape}_{grain}_{'late' if created else 'prompt'}": call(
        "window_aggregates",
        shape=f"'{shape}'",
        grain="{'every': '1 hour'}" if grain == "every" else f"'{grain}'",
        **({"created_timestamp": "'loaded_at'"} if created else {}),
    )
    for shape, grain, created in itertools.product(("dense", "range"), ("change", "event", "every"), (False, True))
}
AS_OF = {
    f"as_of_{shape}_{'late' if created else 'prompt'}": call(
        "aggregate_as_of",
        spine="source('raw', 'labels')",
        spine_timestamp="'asked_at'",
        shape=f"'{shape}'",
        **({"created_timestamp": "'loaded_at'"} if created else {}),
    )
    for shape, created in itertools.product(("dense", "range"), (False, True))
}
OTHERS = {
    "view": "select user_id, happened_at as event_timestamp, loaded_at as created_at, amount * 2 as doubled, kind from {{ source('raw', 'events') }}",
    "trained": "{{ feature_store.point_in_time_join(source('raw', 'labels'), ['view:doubled', 'view:kind'], timestamp='asked_at') }}",
    "newest": "{{ feature_store.latest('view') }}",
    "grown": "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'item_id', 'event_timestamp']) }}"
    + call("window_aggregates", shape="'dense'"),
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    view = {"entities": ["user_id"], "created_timestamp": "created_at", "ttl": "30 days"}
    columns = [{"name": "user_id", "data_type": "bigint"}, {"name": "event_timestamp", "data_type": "timestamptz"},
               {"name": "created_at", "data_type": "timestamptz"}, {"name": "doubled", "data_type": "double"},
               {"name": "kind", "data_type": "varchar"}]  # fmt: skip
    project = make_project(
        tmp_path_factory.mktemp("lineage"),
        {
            "models/sources.yml": {
                "sources": [{"name": "raw", "schema": "main", "tables": [{"name": "events"}, {"name": "labels"}]}]
            },
            "models/views.yml": {
                "models": [{"name": "view", "config": {"meta": {"feature_view": view}}, "columns": columns}]
            },
            **{f"models/{name}.sql": sql for name, sql in (CALLS | AS_OF | OTHERS).items()},
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table events as select 1::bigint user_id, 2::bigint item_id, now() happened_at, now() loaded_at,"
            " 'a' kind, 3::bigint whole, 0.5::double amount, 1.25::decimal(10, 2) price;"
            "create table labels as select 1::bigint user_id, 2::bigint item_id, now() asked_at, true bought"
        )
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


def test_a_training_set_takes_features_from_the_view_and_the_rest_from_the_labels(graph: Graph) -> None:
    doubled = trace(graph, "trained", "doubled")
    assert names(doubled.values) == {"amount"}
    assert Column("model.shop.view", "doubled") in doubled.values
    assert {"user_id", "happened_at", "loaded_at"} <= names(doubled.filters)
    assert trace(graph, "trained", "bought").sources == (Column("source.shop.raw.labels", "bought"),)


def test_the_latest_rows_of_a_view_are_its_columns(graph: Graph) -> None:
    assert names(trace(graph, "newest", "doubled").values) == {"amount"}
    assert names(trace(graph, "newest", "event_timestamp").values) == {"happened_at"}


def test_an_incremental_run_reads_its_own_table_only_to_see_what_it_lacks(graph: Graph) -> None:
    assert "_fs_touched" in graph.nodes["model.shop.grown"]["compiled_code"]
    for name, (_, values, filters) in AGGREGATES.items():
        lineage = trace(graph, "grown", f"{name}_7d")
        assert names(lineage.values) == values
        assert names(lineage.filters) >= (filters | {"user_id", "item_id", "happened_at"}) - values
        assert (Column("source.shop.raw.events", "*") in lineage.counted) == (not values)


def test_the_steps_say_what_a_window_computes(graph: Graph) -> None:
    said = {
        name: {
            edge.expression for edge in trace(graph, model, f"{name}_7d").edges if edge.target.part.startswith("_fs_")
        }
        for model in CALLS
        for name in AGGREGATES
    }
    for name, (aggregate, _, _) in AGGREGATES.items():
        assert any(
            text.startswith(f"{aggregate['function']}(_fs_") and text.endswith(" over 7d") for text in said[name]
        )
