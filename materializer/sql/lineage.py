"""Column-level lineage: from a feature back to source columns, and from a column on to what uses it."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Literal, NamedTuple

from materializer.errors import InputError, NotFoundError
from materializer.project.graph import Graph, meta_of, reference_of
from materializer.sql.reader import Node, Reader
from materializer.sql.steps import ROWS, Kind, Ref, Step, Steps

# Columns of a window macro that only hold the parts of its SQL together: row numbers and marks.
_PLUMBING = {"_fs_row", "_fs_asked", "_fs_border", "_fs_rank"}
_KINDS = ("model", "snapshot", "seed", "source")


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


def upstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What a column is made from, through models and CTEs, down to columns of sources and seeds.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    return traces.up(traces.find(unique_id, column))


def downstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What is made from a column: columns of models, features of views, feature services and other exposures.

    Where the column decides over all rows of a model, the model's ``*`` stands for all of its columns, and for
    everything that reads it.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    return traces.down(_column(traces.find(unique_id, column)))


def origins(graph: Graph, unique_id: str, column: str) -> Origins:
    """The columns that a column is made from, as sets: shared parts of a graph are followed once for all of its columns.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    return traces.origins(traces.find(unique_id, column))


def lineage_of(graph: Graph, reference: str, downstream: bool = False) -> list[Lineage]:
    """The lineage of the column that a reference means, or of each column where it names a whole view or model.

    Args:
        graph: of the manifest.
        reference: ``view:feature``, ``view.v2:feature``, ``model:column``, ``source.table:column`` or the name alone.
        downstream: what is made from it, in place of what it is made from.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming what there is.
    """
    traces = traces_of(graph)
    refs = traces.named(reference)
    return [traces.down(_column(ref)) if downstream else traces.up(ref) for ref in refs]


def traces_of(graph: Graph) -> Traces:
    """What is known of a graph's columns, kept with it: each model's SQL is read once."""
    if "_traces" not in vars(graph):
        graph._traces = Traces(graph)
    return graph._traces


class Traces:
    """Steps from column to column over a whole graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reader = Reader(graph)
        self.steps = Steps(self.reader)
        self._origins: dict[Ref, Origins] = {}
        # Forward: the edges that leave a column, of every node that has been read for them.
        self._onward: dict[Column, dict[Edge, None]] = {}
        self._unread: dict[str, list[Unresolved]] = {}
        self._fields: set[Ref] = set()

    # Names.

    def find(self, unique_id: str, column: str) -> Ref:
        """The column of a node, by its name in any case."""
        if unique_id not in self.graph.nodes:
            raise NotFoundError(f"The manifest has no node '{unique_id}'.")
        node, name = self.reader.node(unique_id), column.lower()
        taken = name if node.scope is None else node.passed(node.scope, name)
        if name in node.columns or (node.may_have and taken):
            return Ref(node, None, name)
        sentence = node.lacks(column)
        raise NotFoundError(sentence[0].upper() + sentence[1:])

    def named(self, reference: str) -> list[Ref]:
        """The columns that a reference means: one, or all where it names only the node; of a view its features."""
        unique_id, (name, _, column) = node_named(self.graph, reference), reference.partition(":")
        node = self.reader.node(unique_id)
        if column:
            try:
                return [self.find(unique_id, column)]
            except NotFoundError:
                view = self.graph.feature_views.get(unique_id)
                if view is None:
                    raise
                there = ", ".join(self._features(node)) or "none"
                raise NotFoundError(f"Feature view '{view}' has no feature '{column}'; it has: {there}.") from None
        if not node.columns:
            why = node.problem or f"The columns of {node.title} are not known"
            raise NotFoundError(f"{why.rstrip('.')}: name the one you mean, as '{name}:column'.")
        return [Ref(node, None, one.lower()) for one in self._features(node)]

    def _features(self, node: Node) -> list[str]:
        """The features of a view; of any other node its columns."""
        view = meta_of(node.about).get("feature_view")
        if node.id not in self.graph.feature_views or not isinstance(view, dict):
            return list(node.columns.values())
        keys = view.get("entities") if isinstance(view.get("entities"), list) else []
        times = (view.get("timestamp", "event_timestamp"), view.get("created_timestamp"))
        apart = {str(one).lower() for one in (*keys, *times)}
        return [name for folded, name in node.columns.items() if folded not in apart]

    # Back.

    def up(self, begin: Ref) -> Lineage:
        """Everything that a column is made from."""
        edges: dict[Edge, None] = {}
        constants: dict[Constant, None] = {}
        unresolved: dict[Unresolved, None] = {}
        waiting, seen = deque([begin]), {begin}
        while waiting:
            ref = waiting.popleft()
            target = _column(ref)
            for step in self.steps.of(ref):
                unresolved |= {Unresolved(target, problem): None for problem in step.problems}
                read = _read(step)
                edges |= _edges(target, step, read)
                if target.name != ROWS and not step.problems and step.text and _reads_nothing(read):
                    constants[Constant(target, step.text)] = None
                for one, _ in read:
                    if one not in seen:
                        seen.add(one)
                        waiting.append(one)
        unresolved |= dict.fromkeys(self._circles(edges))
        lineage = Lineage(_column(begin), "upstream", tuple(edges))
        flowing = tuple(one for one in constants if one.column in lineage.flowing)
        return self._with_views(replace(lineage, constants=flowing, unresolved=tuple(unresolved)))

    def _with_views(self, lineage: Lineage) -> Lineage:
        touched = {column.node for edge in lineage.edges for column in (edge.source, edge.target)} | {
            lineage.start.node
        }
        return replace(lineage, views=frozenset(touched & self.graph.feature_views.keys()))

    def _circles(self, edges: Iterable[Edge]) -> list[Unresolved]:
        """Nodes that are made from themselves through others, which dbt forbids: no source lies behind these."""
        reads: dict[str, set[str]] = {}
        for edge in edges:
            if edge.source.node != edge.target.node:
                reads.setdefault(edge.target.node, set()).add(edge.source.node)
        try:
            TopologicalSorter(reads).prepare()
        except CycleError as circle:
            *nodes, _ = reversed(circle.args[1])
            nodes = nodes[nodes.index(min(nodes)) :] + nodes[: nodes.index(min(nodes)) + 1]
            names = ", ".join(self.reader.node(one).title for one in nodes)
            return [Unresolved(Column(nodes[0], ROWS), f"These are made from each other in a circle: {names}.")]
        return []

    # All at once.

    def origins(self, begin: Ref) -> Origins:
        """What a column is made from, through what is known of the columns of the nodes that its own one reads."""
        waiting = [begin]
        reads: dict[Ref, tuple[dict[Ref, Kind], list[Unresolved]]] = {}
        while waiting:
            ref = waiting[-1]
            if ref in self._origins:
                waiting.pop()
            elif ref not in reads:
                reads[ref] = self._outside(ref)
                waiting += [one for one in reads[ref][0] if one not in self._origins and one not in reads]
            else:
                self._origins[ref] = self._joined(*reads[ref])
        return self._origins[begin]

    def _outside(self, begin: Ref) -> tuple[dict[Ref, Kind], list[Unresolved]]:
        """The columns of other nodes that a column reads, under the strongest way in which it does."""
        outside: dict[Ref, Kind] = {}
        problems: list[Unresolved] = []
        seen: set[tuple[Ref, Kind]] = set()
        ways: dict[Kind, list[Ref]] = {"value": [begin], "rows": [], "filter": []}
        done: set[Ref] = set()
        for way in ways:
            while ways[way]:
                ref = ways[way].pop()
                if ref in done:
                    continue
                done.add(ref)
                if ref.node is not begin.node:
                    outside[ref] = way
                    continue
                for step in self.steps.of(ref):
                    problems += [Unresolved(_column(ref), problem) for problem in step.problems]
                    for one, kind in _read(step):
                        ways[kind if way == "value" else way if kind in ("value", way) else "filter"].append(one)
        del seen
        return outside, problems

    def _joined(self, reads: Mapping[Ref, Kind], problems: Iterable[Unresolved]) -> Origins:
        values, counted, filters, unresolved = set(), set(), set(), set(problems)
        for ref, way in reads.items():
            far = self._origins.get(ref, Origins())
            own = replace(_column(ref), field="")
            unresolved |= far.unresolved
            into = {"value": values, "rows": counted, "filter": filters}[way]
            into.add(own)
            into |= far.values
            (filters if way == "filter" else counted).update(far.counted)
            filters |= far.filters
        return Origins(*map(frozenset, (values, counted - values, filters - counted - values, unresolved)))

    # Forward.

    def down(self, start: Column) -> Lineage:
        """Everything that is made from a column."""
        self._told: dict[Unresolved, None] = {}
        valued = self._reach(start, [start], {}, only_values=True)
        begin = [edge.target for column in valued for edge in self._leaving(start, column) if edge.kind != "value"]
        reached = self._reach(start, begin, valued)
        shown = [column for column in reached if column in valued or not self._by_rows(column, reached)]
        edges = {
            edge: None
            for column in shown
            for edge in self._leaving(start, column)
            if edge.target in valued or (edge.target in reached and not self._by_rows(edge.target, reached))
        }
        return self._with_views(Lineage(start, "downstream", tuple(edges), (), tuple(self._told)))

    def _reach(
        self, start: Column, begin: Iterable[Column], before: Mapping[Column, None], only_values: bool = False
    ) -> dict[Column, None]:
        """The columns that can be reached, nearest first, those of `before` in front."""
        while True:
            known = len(self._unread), len(self._fields)
            reached, waiting = dict(before), deque(begin)
            while waiting:
                column = waiting.popleft()
                if column in reached:
                    continue
                reached[column] = None
                if self._by_rows(column, reached):
                    continue  # whoever reads the node is reached through its rows
                for edge in self._leaving(start, column):
                    if not only_values or edge.kind == "value":
                        (waiting.appendleft if edge.target.name == ROWS else waiting.append)(edge.target)
            if (len(self._unread), len(self._fields)) == known:
                return reached  # else what was read late may lead on from what was passed before

    def _by_rows(self, column: Column, reached: Mapping[Column, None]) -> bool:
        """Whether `start` decides over all rows of the column's node: then its columns are not told one by one."""
        return column.node in self.graph.nodes and column.name != ROWS and Column(column.node, ROWS) in reached

    def _leaving(self, start: Column, column: Column) -> list[Edge]:
        """The edges that leave a column."""
        if column.part or column.node not in self.graph.nodes:
            return list(self._onward.get(column, ()))
        self._read_exposures(column)
        children = [one for one in self.graph.children(column.node) if self._has_columns(one)]
        if column.name == ROWS:
            # Which rows a node has decides over every reader's rows: no need to read any SQL for that.
            readers = [Edge(column, Column(child, ROWS), "rows", "from") for child in children]
            return [*readers, *self._onward.get(column, ())]
        for child in children:
            self._told |= dict.fromkeys(self._read_child(child))
        own = [column]
        if column == start:  # its fields are parts of it
            own += [one for one in self._onward if one.field and replace(one, field="") == column]
        return [edge for one in own for edge in self._onward.get(one, ())]

    def _has_columns(self, unique_id: str) -> bool:
        return (self.graph.nodes.get(unique_id) or {}).get("resource_type") in ("model", "snapshot")

    def _read_child(self, unique_id: str) -> list[Unresolved]:
        """Note the edges inside of a node; gives what could not be found out about them."""
        if unique_id not in self._unread:
            node = self.reader.node(unique_id)
            self._unread[unique_id] = []
            if node.scope is None or (node.may_have and not node.columns):
                why = node.problem or f"The columns of {node.title} are not known, so what it uses cannot be told."
                self._unread[unique_id] = [Unresolved(Column(unique_id, ROWS), why)]
            else:
                self._unread[unique_id] = self._read_refs([Ref(node, None, name) for name in (*node.columns, ROWS)])
        return self._unread[unique_id]

    def _read_refs(self, refs: list[Ref]) -> list[Unresolved]:
        """Note what leads to these columns inside of their own node."""
        problems: dict[Unresolved, None] = {}
        waiting, seen = deque(refs), set(refs)
        while waiting:
            ref = waiting.popleft()
            target = _column(ref)
            for step in self.steps.of(ref):
                read = _read(step)
                problems |= {Unresolved(target, problem): None for problem in step.problems}
                for edge in _edges(target, step, read):
                    self._onward.setdefault(edge.source, {})[edge] = None
                for one, _ in read:
                    if one.node is not ref.node:
                        self._read_field(one)
                    elif one not in seen:
                        seen.add(one)
                        waiting.append(one)
        return list(problems)

    def _read_field(self, ref: Ref) -> None:
        """A field of another model's struct is made from less than the whole column."""
        if ref.path and ref not in self._fields and self._has_columns(ref.node.id):
            self._fields.add(ref)
            self._read_refs([ref])

    def _read_exposures(self, column: Column) -> None:
        """Note the feature services that list a column, and other exposures of its model."""
        for child in self.graph.children(column.node):
            exposure = self.graph.exposures.get(child)
            if exposure is None:
                continue
            kind: Kind = "filter" if column.name == ROWS else "value"
            listed = self.graph.listed_features(exposure)
            names = [
                one for one, (view, feature) in listed.items() if view == column.node and column.name in (ROWS, feature)
            ]
            for name in names if listed else [ROWS]:
                self._onward.setdefault(column, {})[Edge(column, Column(child, name), kind, "")] = None


def _column(ref: Ref) -> Column:
    node = ref.node
    if ref.scope is None:
        return Column(node.id, node.columns.get(ref.name, ref.name), "", ".".join(ref.path))
    name = node.columns_of(ref.scope).get(ref.name, ref.name)
    return Column(node.id, name, node.parts.get(id(ref.scope.expression), ""), ".".join(ref.path))


def _read(step: Step) -> list[tuple[Ref, Kind]]:
    return [(ref, kind) for ref, kind in step.inputs if kind == "value" or ref.name not in _PLUMBING]


def _reads_nothing(read: Iterable[tuple[Ref, Kind]]) -> bool:
    return all((ref.name, kind) == (ROWS, "filter") for ref, kind in read)


def _edges(target: Column, step: Step, read: Iterable[tuple[Ref, Kind]]) -> dict[Edge, None]:
    edges: dict[Edge, None] = {}
    for ref, kind in read:
        source = _column(ref)
        if source != target:
            edges[Edge(source, target, kind, "" if (ref.name, kind) == (ROWS, "filter") else step.text)] = None
    return edges


def node_named(graph: Graph, reference: str) -> str:
    """The id of the model, snapshot, seed or source that a reference names; without a version the latest one.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming the nearest there are.
    """
    name, colon, column = reference.partition(":")
    if not name or (colon and not column) or ":" in column:
        raise InputError(
            f"'{reference}' is no column's name: write 'view:feature', 'model:column' or 'source.table:column', or "
            "the name of a view for all of its features."
        )
    nodes = graph.nodes
    if name in nodes:
        return name
    end = name.rpartition(".")[2]
    near = [one for one in nodes if one.endswith(end) or f".{name}.v" in one]
    found = [unique_id for unique_id in near if name in _called(nodes[unique_id])]
    own = [unique_id for unique_id in found if nodes[unique_id].get("package_name") == graph.project]
    if len(own or found) == 1:
        return (own or found)[0]
    if found:
        raise NotFoundError(f"'{name}' is ambiguous: name one of {', '.join(sorted(found))}.")
    there = {reference_of(node) for node in nodes.values() if node.get("resource_type") in _KINDS}
    close = difflib.get_close_matches(name, sorted(there), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`dbt ls` lists those there are."
    raise NotFoundError(f"There is no model, snapshot, seed or source '{name}' in the manifest; {hint}")


def _called(node: Mapping[str, object]) -> set[str]:
    """What a node may be called by: with its package, without a version where that is the latest."""
    if node.get("resource_type") not in _KINDS:
        return set()
    called = {reference_of(node), f"{node.get('package_name')}.{reference_of(node)}"}
    if node.get("version") is not None and node["version"] == node.get("latest_version"):
        called.add(str(node.get("name")))
    return called
