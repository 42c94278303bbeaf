"""The walk over the graph: back from a column to what it is made from, and on to what is made from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from materializer.lineage.nodes import Node, Nodes
from materializer.lineage.package import PLUMBING
from materializer.lineage.relations import ROWS, Ref, Step
from materializer.lineage.values import Column, Constant, Edge, Kind, Lineage, Unresolved
from materializer.project.graph import Graph


class Collected:
    """Edges and what goes with them, each once, in the order found."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.edges: dict[tuple[Column, Column, Kind, str], None] = {}
        self.constants: dict[Constant, None] = {}
        self.unresolved: dict[Unresolved, None] = {}
        self._texts: dict[int, tuple[exp.Expression, str]] = {}

    def add(self, target: Column, step: Step) -> list[Ref]:
        """Note a step of `target`; gives what it reads."""
        for problem in step.problems:
            self.unresolved[Unresolved(target, problem)] = None
        text = self._text(step)
        read = [(ref, kind) for ref, kind in step.inputs if ref.name not in PLUMBING or kind == "value"]
        for ref, kind in read:
            if ref.column != target:
                self.edges[ref.column, target, kind, "" if ref.name == ROWS and kind == "filter" else text] = None
        bare = all((ref.name, kind) == (ROWS, "filter") for ref, kind in read)
        if bare and text and not step.problems and target.name != ROWS:
            self.constants[Constant(target, text)] = None
        return [ref for ref, _ in read]

    def lineage(self, start: Column, direction: str) -> Lineage:
        edges = tuple(Edge(*edge) for edge in self.edges)
        lineage = Lineage(start, direction, edges)
        constants = tuple(one for one in self.constants if one.column in lineage.flowing)
        return replace(lineage, constants=constants, unresolved=tuple(self.unresolved))

    def _text(self, step: Step) -> str:
        if isinstance(step.expression, str):
            return step.expression
        if id(step.expression) not in self._texts:
            try:
                text = step.expression.sql(dialect=self.dialect, normalize_functions=False, comments=False)
            except RecursionError:
                text = "..."
            self._texts[id(step.expression)] = (step.expression, text)
        return self._texts[id(step.expression)][1]


def with_views(lineage: Lineage, graph: Graph) -> Lineage:
    """The lineage, knowing which of its models are feature views."""
    touched = {column.node for edge in lineage.edges for column in (edge.source, edge.target)} | {lineage.start.node}
    return replace(lineage, views=frozenset(touched & graph.feature_views.keys()))


def walk_up(nodes: Nodes, unique_id: str, name: str) -> Lineage:
    """Everything that a column of a node is made from."""
    found = Collected(nodes.graph.dialect)
    begin = Ref(nodes.node(unique_id), name)
    waiting, seen = deque([begin]), {begin}
    while waiting:
        ref = waiting.popleft()
        for step in ref.relation.steps(ref.name, ref.path):
            for read in found.add(ref.column, step):
                if read not in seen:
                    seen.add(read)
                    waiting.append(read)
    for unresolved in _circles(nodes, found):
        found.unresolved[unresolved] = None
    return with_views(found.lineage(begin.column, "upstream"), nodes.graph)


def walk_down(nodes: Nodes, unique_id: str, name: str) -> Lineage:
    """Everything that is made from a column of a node: columns of models and snapshots, then what exposures list.

    Where the column decides over all rows of a model, the model's ``*`` stands for all of its columns, and for
    everything that reads it.
    """
    start = Column(unique_id, name)
    forward = _Forward(nodes, start)
    valued = forward.reach([start], {}, only_values=True)
    begin = [edge.target for column in valued for edge in forward.onward(column) if edge.kind != "value"]
    reached = forward.reach(begin, valued)
    told = [column for column in reached if column in valued or not forward.is_told_by_rows(column, reached)]
    edges = {
        edge: None
        for column in told
        for edge in forward.onward(column)
        if edge.target in valued or (edge.target in reached and not forward.is_told_by_rows(edge.target, reached))
    }
    return with_views(Lineage(start, "downstream", tuple(edges), (), tuple(forward.unresolved)), nodes.graph)


class _Forward:
    """The edges that lead on from a column, each reader's SQL read when it is first reached."""

    def __init__(self, nodes: Nodes, start: Column) -> None:
        self.nodes, self.graph, self.start = nodes, nodes.graph, start
        self.unresolved: dict[Unresolved, None] = {}
        self._edges: dict[Column, dict[Edge, None]] = {}
        self._read: set[Ref | str] = set()

    def reach(
        self, begin: Iterable[Column], before: Mapping[Column, None], only_values: bool = False
    ) -> dict[Column, None]:
        """The columns that can be reached, nearest first, those of `before` in front."""
        begin = list(begin)
        while True:
            known = len(self._read)
            reached = dict(before)
            waiting = deque(begin)
            while waiting:
                column = waiting.popleft()
                if column in reached:
                    continue
                reached[column] = None
                if self.is_told_by_rows(column, reached):
                    continue  # whoever reads the node is reached through its rows
                for edge in self.onward(column):
                    if only_values and edge.kind != "value":
                        continue
                    (waiting.appendleft if edge.target.name == ROWS else waiting.append)(edge.target)
            if len(self._read) == known:
                return reached  # else what was read late may lead on from what was passed before

    def onward(self, column: Column) -> list[Edge]:
        """The edges that leave a column."""
        if column.part or column.node not in self.graph.nodes:
            return list(self._edges.get(column, ()))
        self._read_exposures(column)
        if column.name == ROWS:
            # Which rows a node has decides over every reader's rows: no need to read any SQL for that.
            readers = [Column(child, ROWS) for child in self.graph.children(column.node) if self._has_columns(child)]
            return [*(Edge(column, reader, "rows", "from") for reader in readers), *self._edges.get(column, ())]
        for child in self.graph.children(column.node):
            self._read_child(child)
        own = [column]
        if column == self.start:  # its fields are parts of it
            own += [one for one in self._edges if one.field and replace(one, field="") == column]
        return [edge for one in own for edge in self._edges.get(one, ())]

    def is_told_by_rows(self, column: Column, reached: Mapping[Column, None]) -> bool:
        """Whether `start` decides over all rows of the column's node: then its columns are not told one by one."""
        return column.node in self.graph.nodes and column.name != ROWS and Column(column.node, ROWS) in reached

    def _has_columns(self, unique_id: str) -> bool:
        return (self.graph.nodes.get(unique_id) or {}).get("resource_type") in ("model", "snapshot")

    def _read_child(self, unique_id: str) -> None:
        if unique_id in self._read or not self._has_columns(unique_id):
            return
        self._read.add(unique_id)
        node = self.nodes.node(unique_id)
        outputs = node.outputs()
        if node.problem or outputs is None:
            why = node.problem or f"The columns of {node.title} are not known, so what it uses cannot be told."
            self.unresolved[Unresolved(Column(unique_id, ROWS), why)] = None
            return
        self._read_refs([*(Ref(node, output.name) for output in outputs), Ref(node, ROWS)])

    def _read_refs(self, refs: list[Ref]) -> None:
        """Note what leads to these columns inside of their own model."""
        unique_id = refs[0].relation.node
        found = Collected(self.graph.dialect)
        waiting, seen = deque(refs), set(refs)
        while waiting:
            ref = waiting.popleft()
            for step in ref.relation.steps(ref.name, ref.path):
                for read in found.add(ref.column, step):
                    if isinstance(read.relation, Node) and read.relation.node != unique_id:
                        self._read_field(read)
                    elif read not in seen and read.relation.node == unique_id:
                        seen.add(read)
                        waiting.append(read)
        for edge in (Edge(*edge) for edge in found.edges):
            self._edges.setdefault(edge.source, {})[edge] = None
        self.unresolved |= {one: None for one in found.unresolved if one.column.node == unique_id}

    def _read_field(self, ref: Ref) -> None:
        """A field of another model's struct is made from less than the whole column."""
        if ref.path and ref not in self._read and self._has_columns(ref.relation.node):
            self._read.add(ref)
            self._read_refs([ref])

    def _read_exposures(self, column: Column) -> None:
        """Note the feature services that list a column, and other exposures of its model."""
        for child in self.graph.children(column.node):
            exposure = self.graph.exposures.get(child)
            if exposure is None:
                continue
            kind: Kind = "filter" if column.name == ROWS else "value"
            listed = self.graph.listed_features(exposure)
            for reference, (view, feature) in listed.items():
                if view == column.node and column.name in (ROWS, feature):
                    self._edges.setdefault(column, {})[Edge(column, Column(child, reference), kind, "")] = None
            if not listed:
                self._edges.setdefault(column, {})[Edge(column, Column(child, ROWS), kind, "")] = None


def _circles(nodes: Nodes, found: Collected) -> Iterator[Unresolved]:
    """Nodes that are made from themselves through others, which dbt forbids: no source lies behind these."""
    reads: dict[str, set[str]] = {}
    for source, target, _, _ in found.edges:
        if source.node != target.node:
            reads.setdefault(target.node, set()).add(source.node)
    done: set[str] = set()
    for begin in sorted(reads):
        path: list[str] = []
        waiting = [(begin, 0)]
        while waiting:
            node, depth = waiting.pop()
            del path[depth:]
            if node in path:
                names = [nodes.node(one).title for one in (*path[path.index(node) :], node)]
                yield Unresolved(Column(node, ROWS), f"These are made from each other in a circle: {', '.join(names)}.")
                continue
            if node in done:
                continue
            done.add(node)
            path.append(node)
            waiting += [(one, len(path)) for one in sorted(reads.get(node, ()))]
