"""What a lineage says, as immutable values."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

Kind = Literal["value", "filter", "rows"]


@dataclass(frozen=True, order=True)
class Column:
    """A column of a node of dbt's graph, or of a CTE or subquery inside of one.

    `node` is a unique id: of a model, seed, source, snapshot or exposure (a table that is none of these goes by its
    name in SQL). The `name` ``*`` stands for the rows. Of an exposure, `name` is the feature reference
    (``user_features:age``) that it lists, or ``*`` where it only depends on the model.
    """

    node: str
    name: str
    # The CTE or subquery that has the column; empty where the node itself has it.
    part: str = ""
    # The field of a struct, where only that is meant: ``x.y`` of a column `s` is s.x.y.
    field: str = ""


@dataclass(frozen=True)
class Edge:
    """One step: `target` is made from `source` by `expression`.

    `kind` is ``value`` where the source's values flow into the target's, ``filter`` where they only decide which rows
    do (join keys, where, group by, the partition and order of a window), ``rows`` where rows are read or counted
    and no value is (the source's name is then ``*``).
    """

    source: Column
    target: Column
    kind: Kind
    expression: str


@dataclass(frozen=True)
class Constant:
    """A column, or a branch of one, that is made from no column: ``0``, ``'view'``, ``now()``."""

    column: Column
    expression: str


@dataclass(frozen=True)
class Unresolved:
    """Where the trace ends for want of knowledge: the column, and a sentence of why."""

    column: Column
    reason: str


@dataclass(frozen=True)
class Lineage:
    """What one column is made from (``upstream``), or what is made from it (``downstream``).

    `edges` run from source to target in both directions, those nearest to `start` first.
    """

    start: Column
    direction: Literal["upstream", "downstream"]
    edges: tuple[Edge, ...]
    constants: tuple[Constant, ...] = ()
    unresolved: tuple[Unresolved, ...] = ()
    # The ids of the models that are feature views, among the nodes of `start` and of the edges.
    views: frozenset[str] = frozenset()

    @cached_property
    def values(self) -> tuple[Column, ...]:
        """The columns of nodes (not of CTEs) whose values flow into `start`, or into which its values flow."""
        return tuple(self._reached["value"])

    @cached_property
    def counted(self) -> tuple[Column, ...]:
        """Upstream: the nodes whose rows are counted or numbered to make `start`, as columns called ``*``."""
        return tuple(self._reached["rows"])

    @cached_property
    def filters(self) -> tuple[Column, ...]:
        """The other columns of nodes: they only decide which rows count (downstream: `start` does, for them)."""
        return tuple(self._reached["filter"])

    @cached_property
    def sources(self) -> tuple[Column, ...]:
        """Those of `values` that are made from nothing further: columns of sources and seeds, most often."""
        made = {edge.target for edge in self.edges if edge.kind == "value"}
        made |= {edge.target for edge in self.edges if edge.kind == "rows" and edge.target.name != "*"}
        made |= {one.column for one in self.constants} | {one.column for one in self.unresolved}
        ends = {column for column in self.flowing if column not in made and not column.part}
        return tuple(column for column in self.values if column in {replace(end, field="") for end in ends})

    @cached_property
    def flowing(self) -> set[Column]:
        """All columns, those of CTEs and fields and `start` included, that are reached over edges of values alone."""
        flowing, waiting = {self.start}, [self.start]
        while waiting:
            new = {far for far, kind in self._onward.get(waiting.pop(), ()) if kind == "value"} - flowing
            flowing |= new
            waiting += new
        return flowing

    @cached_property
    def _onward(self) -> dict[Column, list[tuple[Column, Kind]]]:
        """The columns one step further from `start`; where its fields are read one by one, they are `start` itself."""
        onward: dict[Column, list[tuple[Column, Kind]]] = {}
        for edge in self.edges:
            near, far = (edge.target, edge.source) if self.direction == "upstream" else (edge.source, edge.target)
            near = self.start if replace(near, field="") == self.start else near
            onward.setdefault(near, []).append((far, edge.kind))
        return onward

    @cached_property
    def _reached(self) -> dict[str, list[Column]]:
        """Every node's column reached from `start`, nearest first, under the strongest way in which it is."""
        ways: dict[str, dict[Column, None]] = {"value": {}, "rows": {}, "filter": {}}
        onward = self._onward
        seen: set[Column] = set()
        begin: Iterable[Column] = [self.start]
        for way in ("value", "rows", "filter"):
            waiting = deque(begin)
            while waiting:
                column = waiting.popleft()
                if column in ways[way]:
                    continue
                ways[way][column] = None
                for far, kind in onward.get(column, ()):
                    if kind == "value" or way == "filter" or (way == "rows" and kind == "rows"):
                        waiting.append(far)
            seen |= set(ways[way])
            ends = {"value": ("rows",), "rows": ("filter", "rows"), "filter": ()}[way]
            begin = [far for column in seen for far, kind in onward.get(column, ()) if kind in ends and far not in seen]
        found: dict[str, list[Column]] = {}
        taken = {self.start}
        for way, columns in ways.items():
            whole = dict.fromkeys(replace(column, field="") for column in columns if not column.part)
            found[way] = [column for column in whole if column not in taken]
            taken |= set(found[way])
        # An incremental model may count its own rows; those are made from the others.
        found["rows"] = [column for column in found["rows"] if column.name == "*" and column.node != self.start.node]
        if self.direction == "upstream":
            found["filter"] = [column for column in found["filter"] if column.name != "*"]
        return found


class Origins(NamedTuple):
    """What `Lineage` says of a column upstream, without the way there: for many columns at once."""

    values: frozenset[Column] = frozenset()
    counted: frozenset[Column] = frozenset()
    filters: frozenset[Column] = frozenset()
    unresolved: frozenset[Unresolved] = frozenset()
