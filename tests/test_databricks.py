"""Databricks takes Spark's macros: what they give there is compiled and parsed in its dialect. Nothing here runs it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlglot

from materializer.project.relation import Column, Relation
from materializer.project.render import MacroRenderer
from tests.support import golden
from tests.support.spark import type_of

EVENTS, SPINE = Relation("events"), Relation("spine")
VIEWS = {
    "plain": {"entities": ["user_id"], "timestamp": "happened_at", "ttl": "3 days"},
    "known": {"entities": ["user_id", "shop"], "timestamp": "happened_at", "created_timestamp": "loaded_at"},
}
WINDOWED = {
    "relation": EVENTS, "entities": "user_id", "timestamp": "happened_at", "windows": ["1 hour", "7 days"],
    "aggregates": ast.literal_eval(golden.AGGREGATES),
}  # fmt: skip
RENDERED: dict[str, Callable[[MacroRenderer], str]] = {
    "change": lambda macros: macros.render("window_aggregates", **WINDOWED, grain="change"),
    "every": lambda macros: macros.render(
        "window_aggregates", **WINDOWED, grain="every 1 hour", created_timestamp="loaded_at"
    ),
    "range": lambda macros: macros.render("window_aggregates", **WINDOWED, grain="event", shape="range"),
    "as_of": lambda macros: macros.render("aggregate_as_of", spine=SPINE, spine_timestamp="asked_at", **WINDOWED),
    "training": lambda macros: macros.render(
        "point_in_time_join", SPINE, ["plain:amount", "known:label"], timestamp="asked_at"
    ),
    "latest": lambda macros: macros.render("latest", "known"),
    "statistics": lambda macros: macros.render("feature_statistics", "plain"),
    "drift": lambda macros: macros.render("feature_drift_measures", "plain"),
    "freshness": lambda macros: macros.render("feature_freshness", ["plain", "known"]),
    "difference": lambda macros: macros.render("feature_difference", "plain", "plain"),
    "examples": lambda macros: macros.render("feature_difference_examples", "plain", "plain"),
}
# What other engines say and this one does not know.
FOREIGN = r"\b(varchar|double precision|hugeint|numeric|generate_series|array_agg|exclude|epoch|unnest)\b|\btimestamp '|\)\s*\[1\]|row_number\(\) over \(\)"


def macros(adapter: str) -> MacroRenderer:
    nodes: dict[str, Any] = {
        f"model.shop.{name}": {
            "resource_type": "model", "name": name, "version": None, "latest_version": None, "description": "",
            "tags": [], "columns": {}, "relation_name": name, "config": {"meta": {"feature_view": meta}},
        }
        for name, meta in VIEWS.items()
    }  # fmt: skip

    def columns(relation: Relation) -> list[Column]:
        declared = golden.SPINE if str(relation) == "spine" else golden.EVENTS
        return [Column(name, type_of(types[0])) for name, types in declared.items()]

    return MacroRenderer(
        {"metadata": {"adapter_type": adapter, "project_name": "shop"}, "macros": {}, "nodes": nodes}, columns
    )


@pytest.mark.parametrize("what", RENDERED)
def test_it_compiles_to_the_sql_of_spark(what: str) -> None:
    sql = RENDERED[what](macros("databricks"))
    assert sql == RENDERED[what](macros("spark"))
    for dialect in ("databricks", "spark"):
        assert isinstance(sqlglot.parse_one(sql, dialect=dialect), sqlglot.exp.Query)
    code = re.sub(r"/\*.*?\*/|--[^\n]*|'[^'\n]*'", "''", sql)
    assert re.findall(FOREIGN, code, re.IGNORECASE) == []
