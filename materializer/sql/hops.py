"""Lineage for many columns at once: of each, the columns one step up, and what is computed on the way from there. CTEs
and subqueries are folded; what only gives a column on is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from materializer.sql.steps import ROWS, Ref, Steps

# Columns of a window macro that only hold the parts of its SQL together.
_PLUMBING = {"_fs_row", "_fs_asked", "_fs_border", "_fs_rank"}
_INNER = "_fs_"


@dataclass(slots=True)
class Hop:
    """What one column is made from, outside of its own relation; each is a dict for its order.

    `steps` are (column, expression, CTE or None), outermost first; `values` the columns whose values get in; `counts`
    the relations whose rows are counted; `rows` the columns that decide which rows there are. A column is (node, name).
    """

    steps: dict[tuple[str, str, str | None], None] = field(default_factory=dict)
    values: dict[tuple[str, str], None] = field(default_factory=dict)
    counts: dict[str, None] = field(default_factory=dict)
    rows: dict[tuple[str, str], None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)


def hops_of(steps: Steps, unique_id: str, columns: list[str]) -> Iterator[tuple[str, Hop]]:
    """The hop of each of these columns of a node."""
    node, known = steps.reader.node(unique_id), {}
    for name in columns:
        yield name, _hop(steps, Ref(node, None, name), known)


def _hop(steps: Steps, begin: Ref, known: dict[Ref, Hop]) -> Hop:
    """What is known of a column of a node, through what is known of the columns that it reads inside of it."""
    waiting = [begin]
    begun: set[Ref] = set()
    while waiting:
        ref = waiting[-1]
        if ref in known:
            waiting.pop()
        elif ref not in begun:
            begun.add(ref)
            inside = [one for step in steps.of(ref) for one, _ in step.inputs if one.node is ref.node]
            waiting += [one for one in inside if one not in known and one not in begun]
        else:
            known[ref] = _joined(steps, ref, known)
    return known[begin]


def _joined(steps: Steps, ref: Ref, known: dict[Ref, Hop]) -> Hop:
    hop, node = Hop(), ref.node
    computed = ref.scope is None and ref.name.lower() in steps.reader.graph.on_demand(node.id)
    for step in steps.of(ref):
        hop.problems |= dict.fromkeys(step.problems)
        if ref.name != ROWS and not step.passes:
            hop.steps[_spelled(ref), step.text, _part(ref)] = None
        for one, kind in step.inputs:
            if kind != "value" and one.name in _PLUMBING:
                continue
            if one.node is not node or computed:  # what is computed on demand reads its own view
                _add_outside(hop, one, kind)
                continue
            inner = known.get(one)  # None: a recursive CTE, in itself
            if inner is None:
                continue
            hop.problems |= inner.problems
            hop.rows |= inner.rows
            if kind == "value":
                hop.steps |= inner.steps
                hop.values |= inner.values
                hop.counts |= inner.counts
            elif kind == "rows":
                hop.counts |= inner.counts
                hop.rows |= inner.values
            else:
                hop.rows |= inner.values
    return hop


def _add_outside(hop: Hop, one: Ref, kind: str) -> None:
    column = (one.node.id, one.node.columns.get(one.name, one.name))
    if one.name == ROWS:
        if kind != "filter":
            hop.counts[one.node.id] = None
    elif kind == "value":
        hop.values[column] = None
    else:
        hop.rows[column] = None


def _spelled(ref: Ref) -> str:
    node = ref.node
    return (node.columns if ref.scope is None else node.columns_of(ref.scope)).get(ref.name, ref.name)


def _part(ref: Ref) -> str | None:
    return ref.node.parts.get(id(ref.scope.expression)) or None if ref.scope is not None else None
