"""Column-level lineage: from a feature back to source columns, and from a column on to what uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from materializer.project.graph import Computed, Graph
from materializer.sql.edges import Column, Constant, Edge, Kind, Lineage, Origins, Unresolved
from materializer.sql.reader import Reader
from materializer.sql.references import columns_named, find_column, service_named
from materializer.sql.steps import ROWS, Ref, Step, Steps

# Columns of a window macro that only hold the parts of its SQL together: row numbers and marks.
_PLUMBING = {"_fs_row", "_fs_asked", "_fs_border", "_fs_rank"}
# A column that is reached, how, and by which step.
Hop = tuple[Column, Kind, Step | None]
_FROM = Step("from")


def upstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What a column is made from, through models and CTEs, down to columns of sources and seeds.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    return traces.up(find_column(traces.reader, unique_id, column))


def downstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What is made from a column: columns of models, features of views, feature services and other exposures.

    Where the column decides over all rows of a model, the model's ``*`` stands for all of its columns, and for
    everything that reads it.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    return traces.down(find_column(traces.reader, unique_id, column))


def origins(graph: Graph, unique_id: str, column: str) -> Origins:
    """The columns that a column is made from, as sets: what columns have in common is followed once for all of them.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    traces = traces_of(graph)
    found = traces.origins(find_column(traces.reader, unique_id, column))
    counted = frozenset(one for one in found.counted if one.name == ROWS and one.node != unique_id)
    return found._replace(counted=counted, filters=frozenset(one for one in found.filters if one.name != ROWS))


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
    service = None if downstream else service_named(graph, reference)
    if service:
        return [traces.up_of_service(*service)]
    refs = columns_named(traces.reader, reference)
    return [traces.down(ref) if downstream else traces.up(ref) for ref in refs]


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
        # Forward: what each column leads to, the columns that were looked at, and by node what could not be found out.
        self._onward: dict[Column, dict[Hop, None]] = {}
        self._seen: set[Ref] = set()
        self._unread: dict[str, list[Unresolved]] = {}

    def _walk(
        self, begin: Iterable[Ref], seen: set[Ref], followed: Callable[[Ref], bool]
    ) -> Iterator[tuple[Ref, Step]]:
        """The steps that make columns, and those that these read, as far as they are followed; each column once."""
        waiting = deque(begin)
        while waiting:
            ref = waiting.popleft()
            if ref not in seen:
                seen.add(ref)
                for step in self.steps.of(ref):
                    yield ref, step
                    waiting += (one for one, _ in _reads(step) if followed(one))

    # Back.

    def up(self, begin: Ref) -> Lineage:
        """Everything that a column is made from."""
        edges: dict[Edge, None] = {}
        constants: dict[Constant, None] = {}
        unresolved: dict[Unresolved, None] = {}
        for ref, step in self._walk([begin], set(), lambda _: True):
            target, read = _column(ref), _reads(step)
            unresolved |= {Unresolved(target, problem): None for problem in step.problems}
            by_rows = [(one.name, kind) == (ROWS, "filter") for one, kind in read]
            if target.name != ROWS and not step.problems and step.text and all(by_rows):
                constants[Constant(target, step.text)] = None
            for (one, kind), silent in zip(read, by_rows, strict=True):
                if (source := _column(one)) != target:
                    edges[Edge(source, target, kind, "" if silent else step.text)] = None
        unresolved |= dict.fromkeys(self._circles(edges))
        lineage = Lineage(_column(begin), "upstream", tuple(edges))
        flowing = tuple(one for one in constants if one.column in lineage.flowing)
        return self._with_views(replace(lineage, constants=flowing, unresolved=tuple(unresolved)))

    def up_of_service(self, exposure: str, computed: Computed) -> Lineage:
        """Everything that an on-demand feature of a feature service is made from."""
        start = Column(exposure, f"{self.graph.exposures[exposure]['name']}:{computed.name}")
        made = [self.up(find_column(self.reader, *read)) for read in computed.reads]
        edges = dict.fromkeys(Edge(one.start, start, "value", computed.expression) for one in made)
        edges |= dict.fromkeys(edge for one in made for edge in one.edges)
        constants, unresolved = ([each for one in made for each in getattr(one, what)]
                                 for what in ("constants", "unresolved"))  # fmt: skip
        lineage = Lineage(start, "upstream", tuple(edges), tuple(constants), tuple(unresolved))
        return self._with_views(lineage)

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
                    for one, kind in _reads(step):
                        ways[kind if way == "value" else way if kind in ("value", way) else "filter"].append(one)
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

    def down(self, begin: Ref) -> Lineage:
        """Everything that is made from a column."""
        start = _column(begin)
        for unique_id in self.graph.below(start.node):
            self._read(unique_id)
        valued = self._reach(start, [start], {}, only_values=True)
        begin = [far for column in valued for far, kind, _ in self._hops(start, column) if kind != "value"]
        reached = self._reach(start, begin, valued)
        shown = dict.fromkeys(column for column in reached if column in valued or not self._by_rows(column, reached))
        edges = {
            Edge(column, far, kind, step.text if step else ""): None
            for column in shown
            for far, kind, step in self._hops(start, column)
            if far in shown
        }
        readers = [
            child for one in shown if one.name != ROWS and not one.part for child in self.graph.children(one.node)
        ]
        unresolved = dict.fromkeys(one for child in readers for one in self._unread.get(child, ()))
        return self._with_views(Lineage(start, "downstream", tuple(edges), (), tuple(unresolved)))

    def _reach(
        self, start: Column, begin: Iterable[Column], before: Mapping[Column, None], only_values: bool = False
    ) -> dict[Column, None]:
        """The columns that can be reached, nearest first, those of `before` in front."""
        reached, waiting = dict(before), deque(begin)
        while waiting:
            column = waiting.popleft()
            if column in reached:
                continue
            reached[column] = None
            # Where `start` decides over all rows of a node, whoever reads it is reached through its rows.
            for far, kind, _ in [] if self._by_rows(column, reached) else self._hops(start, column):
                if not only_values or kind == "value":
                    (waiting.appendleft if far.name == ROWS else waiting.append)(far)
        return reached

    def _by_rows(self, column: Column, reached: Mapping[Column, None]) -> bool:
        """Whether `start` decides over all rows of the column's node: then its columns are not told one by one."""
        return column.node in self.graph.nodes and column.name != ROWS and Column(column.node, ROWS) in reached

    def _hops(self, start: Column, column: Column) -> list[Hop]:
        """What a column leads to: the columns made from it, in their order."""
        hops = list(self._onward.get(column, ()))
        if column.part or column.node not in self.graph.nodes:
            return hops
        if column == start:  # its fields are parts of it
            fields = [one for one in self._onward if one.field and replace(one, field="") == column]
            hops += [hop for one in fields for hop in self._onward[one]]
        for one in self.graph.on_demand(column.node).values():
            if (column.node, column.name.lower()) in one.reads:
                hops.append((Column(column.node, one.name), "value", Step(one.expression)))
        for child in self.graph.children(column.node):
            if child in self._unread and column.name == ROWS:
                hops.append((Column(child, ROWS), "rows", _FROM))
            exposure = self.graph.exposures.get(child)
            if exposure is not None:
                kind: Kind = "filter" if column.name == ROWS else "value"
                listed = self.graph.listed_features(exposure)
                of_view = {one: name for one, (view, name) in listed.items() if view == column.node}
                names = [one for one, name in of_view.items() if column.name in (ROWS, name)] if listed else [ROWS]
                hops += [(Column(child, name), kind, None) for name in names]
                for one in self.graph.on_demand(child).values():
                    if (column.node, column.name.lower()) in one.reads:
                        name = f"{exposure['name']}:{one.name}"
                        hops.append((Column(child, name), "value", Step(one.expression)))
        return hops

    def _read(self, unique_id: str) -> None:
        """Note what leads on inside of a node, and what could not be found out about that."""
        about = self.graph.nodes.get(unique_id) or {}
        if unique_id in self._unread or about.get("resource_type") not in ("model", "snapshot"):
            return
        node, problems = self.reader.node(unique_id), {}
        if node.scope is None or (node.may_have and not node.columns):
            why = node.problem or f"The columns of {node.title} are not known, so what it uses cannot be told."
            problems[Unresolved(Column(unique_id, ROWS), why)] = None
        begin = [Ref(node, None, name) for name in (*node.columns, ROWS) if not problems]
        # A field of another's struct is made from less than all of it.
        for ref, step in self._walk(begin, self._seen, lambda one: one.node is node or bool(one.path)):
            target = _column(ref)
            problems |= {Unresolved(target, problem): None for problem in step.problems if ref.node is node}
            for one, kind in _reads(step):
                if (source := _column(one)) != target:
                    said = None if (one.name, kind) == (ROWS, "filter") else step
                    self._onward.setdefault(source, {})[target, kind, said] = None
        self._unread[unique_id] = list(problems)


def _column(ref: Ref) -> Column:
    node = ref.node
    if ref.scope is None:
        return Column(node.id, node.columns.get(ref.name, ref.name), "", ".".join(ref.path))
    name = node.columns_of(ref.scope).get(ref.name, ref.name)
    return Column(node.id, name, node.parts.get(id(ref.scope.expression), ""), ".".join(ref.path))


def _reads(step: Step) -> list[tuple[Ref, Kind]]:
    return [(ref, kind) for ref, kind in step.inputs if kind == "value" or ref.name not in _PLUMBING]
