"""Column lineage of random chains of SELECTs, against a truth that is known because the chains are made from it.

Each step of a chain is written together with what its columns are made from. DuckDB is the second witness: where a source
column's values are changed, only columns may change whose lineage names it.
"""

from __future__ import annotations

import pytest

from materializer.project.graph import Graph
from materializer.sql.lineage import Column, downstream, origins, upstream
from tests.support.chains import SOURCES, executed, write_chain
from tests.support.hand_made import manifest_of
from tests.support.soak import first


def called(columns: tuple[Column, ...]) -> set[str]:
    return {f"{c.node.split('.', 2)[2]}.{c.name}" for c in columns if c.node.startswith("source.")}


@pytest.mark.parametrize("seed", first(30, range(80)))
def test_values_come_from_exactly_the_columns_they_were_made_from(seed: int) -> None:
    chain = write_chain(seed)
    graph = Graph(manifest_of(chain.models, SOURCES))
    for model in chain.models:
        truth = chain.relations[f"{{{model}}}"]
        for column, sources in truth.items():
            lineage = upstream(graph, f"model.shop.{model}", column)
            assert not lineage.unresolved, (chain.models, lineage.unresolved)
            assert called(lineage.values) == sources, (model, column, chain.models)


@pytest.mark.parametrize("seed", first(4, range(8)))
def test_what_changes_with_a_source_column_has_it_in_its_lineage(seed: int) -> None:
    chain = write_chain(seed)
    graph = Graph(manifest_of(chain.models, SOURCES))
    before = executed(chain, None)
    lineages = {
        (model, column): upstream(graph, f"model.shop.{model}", column) for model in before for column in before[model]
    }
    assert set(lineages) == {(m, c) for m in chain.models for c in chain.relations[f"{{{m}}}"]}
    for changed in (f"{source}.{column}" for source, columns in SOURCES.items() for column in columns):
        after = executed(chain, changed)
        for (model, column), lineage in lineages.items():
            if before[model][column] != after[model][column]:
                assert changed in called(lineage.values) | called(lineage.filters), (
                    changed,
                    model,
                    column,
                    chain.models,
                )


@pytest.mark.parametrize("seed", first(12, range(25)))
def test_forward_and_back_tell_of_the_same_values(seed: int) -> None:
    chain = write_chain(seed)
    graph = Graph(manifest_of(chain.models, SOURCES))
    forward = {
        (start, target)
        for start in (f"{source}.{column}" for source, columns in SOURCES.items() for column in columns)
        for target in downstream(graph, f"source.shop.{start.rpartition('.')[0]}", start.rpartition(".")[2]).values
    }
    back = {
        (source, Column(f"model.shop.{model}", column))
        for model in chain.models
        for column in chain.relations[f"{{{model}}}"]
        for source in called(upstream(graph, f"model.shop.{model}", column).values)
    }
    assert forward and forward == back


@pytest.mark.parametrize("seed", first(15, range(80, 110)))
@pytest.mark.parametrize("sources", [{}, {"raw.p": SOURCES["raw.p"]}], ids=["none declared", "one declared"])
def test_where_columns_are_not_known_nothing_is_missing_unless_it_is_said(
    seed: int, sources: dict[str, list[str]]
) -> None:
    chain = write_chain(seed)
    graph = Graph(manifest_of(chain.models, sources))
    followed = 0
    for model in chain.models:
        for column, truth in chain.relations[f"{{{model}}}"].items():
            lineage = upstream(graph, f"model.shop.{model}", column)
            assert lineage.unresolved or called(lineage.values) >= truth, (model, column, chain.models)
            followed += not lineage.unresolved
    assert followed


@pytest.mark.parametrize("seed", first(12, range(25)))
def test_the_sets_of_origins_are_those_of_the_lineage(seed: int) -> None:
    chain = write_chain(seed)
    graph, valued = Graph(manifest_of(chain.models, SOURCES)), 0
    for model in reversed(chain.models):
        for column in chain.relations[f"{{{model}}}"]:
            start = (graph, f"model.shop.{model}", column)
            lineage, sets = upstream(*start), origins(*start)
            assert (sets.values, sets.counted, sets.filters) == (
                set(lineage.values), set(lineage.counted), set(lineage.filters),
            )  # fmt: skip
            valued += bool(sets.values)
    assert valued
