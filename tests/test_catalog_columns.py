"""The lineage of all columns at once, one hop up, against the lineage of each alone; and read by several processes."""

from __future__ import annotations

import os
import sys
from collections import deque
from functools import partial

import pytest

from materializer.catalog.columns import column_parts
from materializer.catalog.declared import Names
from materializer.project.graph import Graph
from materializer.project.manifest import load_manifest
from materializer.project.settings import load_project
from materializer.sql.columns import Read, _of_a_fork, read_columns
from materializer.sql.lineage import origins
from tests.support.chains import SOURCES, write_chain
from tests.support.example import compiled_example
from tests.support.hand_made import manifest_of
from tests.support.manifests import manifest
from tests.support.soak import first


def walked(read: dict[str, Read], unique_id: str, column: str) -> tuple[set[str], set[str], set[str]]:
    """Following the hops of a column to the end: the columns whose values are in it, relations whose rows are counted, and
    the columns that only decide over rows."""
    values, counts, rows = set(), set(), set()
    waiting, seen = deque([(unique_id, column, "value")]), set()
    while waiting:
        node, name, way = waiting.popleft()
        if (node, name, way) in seen:
            continue
        seen.add((node, name, way))
        hop = read[node].hops.get(name) if node in read else None
        if hop is None:
            continue
        for one in hop.values:
            (values if way == "value" else rows).add("{}:{}".format(*one))
            waiting.append((*one, way))
        for one in hop.rows:
            rows.add("{}:{}".format(*one))
            waiting.append((*one, "rows"))
        counts |= set(hop.counts) if way == "value" else set()
        waiting += [(one, "*", "rows") for one in (node, *hop.counts)]  # whatever it is, it is of these rows
    return values, counts, rows - values


@pytest.mark.parametrize("seed", first(12, range(40)))
def test_the_hops_lead_to_what_the_lineage_of_a_column_has(seed: int) -> None:
    chain = write_chain(seed)
    graph = Graph(manifest_of(chain.models, SOURCES))
    read, followed = read_columns(graph), 0
    for model in chain.models:
        for column in chain.relations[f"{{{model}}}"]:
            found = origins(graph, f"model.shop.{model}", column)
            values, counted, rows = walked(read, f"model.shop.{model}", column)
            assert values == {f"{one.node}:{one.name}" for one in found.values}, (model, column, chain.models)
            assert rows <= {f"{one.node}:{one.name}" for one in (*found.filters, *found.counted, *found.values)}
            assert {
                f"{one.node}:{one.name}" for one in found.filters if one.node.startswith("source.")
            } <= rows | values
            # What is counted within a column that is counted, the lineage has too.
            assert counted <= {one.node for one in found.counted} | {one.node for one in found.values}
            followed += bool(values)
    assert followed


def test_several_processes_read_what_one_does() -> None:
    chain = write_chain(3)
    graph = Graph(manifest_of(chain.models, SOURCES))
    assert len(chain.models) > 1
    assert read_columns(graph, {}, workers=2) == read_columns(graph, {}, workers=1)


def test_several_processes_read_models_that_are_made_from_each_other_last() -> None:
    models = {
        "first": "select a, b from {raw.t}",
        "m": "select z, a from {n} join {first} using (z)",
        "n": "select z from {m}",
        "above": "select z from {n}",
        "beside": "select a + b as c from {first}",
    }
    graph = Graph(manifest_of(models, {"raw.t": ["a", "b"]}))
    apart = read_columns(graph, {}, workers=2)
    assert apart == read_columns(graph, {}, workers=1) and list(apart) == [f"model.shop.{one}" for one in models]
    assert list(apart["model.shop.beside"].hops["c"].values) == [("model.shop.first", "a"), ("model.shop.first", "b")]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process reads by itself")
def test_a_fork_gives_what_it_makes_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    much, here = b"x" * 1_000_000, os.getpid()  # more than a pipe holds
    assert _of_a_fork(lambda: much) == much
    assert _of_a_fork(lambda: str(os.getpid()).encode()) != str(here).encode()
    assert _of_a_fork(lambda: str(1 // 0).encode()) is None
    monkeypatch.setattr(os, "fork", partial(_refuse, OSError("no more processes")))
    assert _of_a_fork(lambda: much) is None


def _refuse(error: Exception) -> None:
    raise error


@pytest.fixture(scope="module")
def example() -> dict[str, dict[str, object]]:
    """The columns of the example, with their sets of rows in place."""
    folder = compiled_example().folder
    graph = Graph(load_manifest(load_project(folder, folder)))
    columns, sets = column_parts(graph, Names(graph), read_columns(graph))
    return {name: {**hop, "rows": sets[hop["rows"]]} for name, hop in columns.items()}


def test_a_window_is_the_aggregate_that_the_user_wrote(example: dict[str, dict[str, object]]) -> None:
    hop = example["user_purchase_windows:order_value_30d"]
    assert hop["steps"] == [["order_value_30d", 'avg(amount) over 30 days, known from "loaded_at"', None]]
    assert hop["values"] == ["stg_purchases:amount"] and hop["counts"] == []
    assert set(hop["rows"]) == {f"stg_purchases:{name}" for name in ("user_id", "purchased_at", "loaded_at")}


def test_ctes_are_folded_and_what_only_passes_a_column_on_is_left_out(example: dict[str, dict[str, object]]) -> None:
    score = example["item_features:popularity_score"]
    assert [(name, cte) for name, _, cte in score["steps"]] == [("popularity_score", "final"), ("score", "scored")]
    assert score["values"] == ["item_windows:view_count_7d", "item_windows:purchase_count_7d"]
    assert example["user_features:age"]["steps"] == [] and example["user_features:age"]["values"] == ["stg_users:age"]


def test_rows_that_are_counted_are_named_by_their_relation(example: dict[str, dict[str, object]]) -> None:
    assert example["user_purchase_windows:purchase_count_7d"]["counts"] == ["stg_purchases"]


def test_no_name_of_a_macros_own_parts_is_shown(example: dict[str, dict[str, object]]) -> None:
    said = [text for hop in example.values() for step in hop["steps"] for text in (step[0], step[1], step[2] or "")]
    assert len(said) > 20 and not [text for text in said if "_fs_" in text]


def test_a_feature_on_demand_is_made_from_what_its_expression_reads(example: dict[str, dict[str, object]]) -> None:
    hop = example["user_features:amount_against_usual"]
    assert hop["values"] == ["user_features:avg_order_value"]
    assert hop["steps"] == [["amount_against_usual", "amount / nullif(avg_order_value, 0)", None]]
    assert example["checkout:pieces"]["values"] == ["item_features:price"]


def test_where_the_trace_ends_it_says_why() -> None:
    graph = Graph(
        manifest({"made": "select x from {{ source('raw', 't') }} join nowhere using (id)", "bad": "select from"})
    )
    columns, _ = column_parts(graph, Names(graph), read_columns(graph))
    assert "nowhere" in columns["made:x"]["problem"]
    assert read_columns(graph)["model.shop.bad"].problem.startswith("The compiled SQL of model 'bad' cannot be read")


def test_beside_an_ephemeral_model_each_step_shows_its_own_expression() -> None:
    body = "select a + 1 as x, b * 7 as y from {raw.t} where a > 3"
    models = {
        "e": {"sql": body, "config": {"materialized": "ephemeral"}, "relation_name": None},
        "m": {
            "sql": f"with __dbt__cte__e as ({body}), k as (select x, y - 5 as z from __dbt__cte__e) select z * 3 as q from k",
            "depends_on": {"nodes": ["model.shop.e"]},
        },
    }
    read = read_columns(Graph(manifest_of(models, {"raw.t": ["a", "b"]})))
    hop = read["model.shop.m"].hops["q"]
    assert list(hop.steps) == [("q", "z * 3", None), ("z", "y - 5", "k")]
    assert list(hop.values) == [("model.shop.e", "y")]
