"""Whether a view's SQL keeps entities apart: an entity's rows depend on the streamed rows of that entity alone.

Where it does, the view can be computed anew for the entities that new events touch: by its own SQL, with a filter in
the streamed sources. A demand goes down from the view: expressions over a SELECT's columns that rows have in common.
Each step carries it to what the SELECT reads, or says why it cannot. What reads no streamed source is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from materializer.sql.apart_joins import replaced
from materializer.sql.apart_select import Demand, Found, Mixes, Select, part_of_all
from materializer.sql.node import Node, Source
from materializer.sql.reader import Reader


@dataclass(frozen=True)
class Apart:
    """How a view can be computed for some entities alone.

    Attributes:
        keys: the join keys that it is apart by; not all of them where the others mix.
        filters: for each streamed source what names, in its rows, the entities that they are of: a tuple of SQL
            expressions over its columns, in the order of `keys`; several where it is read in several ways.
        warnings: sentences on what nobody decides.
    """

    keys: tuple[str, ...]
    filters: Mapping[str, tuple[tuple[str, ...], ...]]
    warnings: tuple[str, ...] = ()


def apart(
    reader: Reader, unique_id: str, keys: Sequence[str], streamed: Mapping[str, Mapping[str, Sequence[str]]]
) -> Apart | Mixes | None:
    """How a view is apart by its keys, or by some of them; else the step that mixes; None where it reads no stream.

    Args:
        streamed: by the ids of the sources, what an id decides in their rows: ``{"purchase_id": ["user_id"]}``.
    """
    reading = Streams(reader, streamed)
    if not reading.reads(unique_id):
        return None
    failed: Mixes | None = None
    for names in (keys, *([key] for key in keys if len(keys) > 1)):
        try:
            found = Found()
            demand = tuple(exp.column(name.lower(), quoted=True) for name in names)
            reading.demand_node(unique_id, demand, found)
            filters = {source: tuple(sorted(ways)) for source, ways in found.filters.items()}
            if unseen := reading.streams_above(unique_id) - filters.keys():
                title = reader.node(min(unseen)).title
                raise Mixes(reader.node(unique_id), "", f"how it reads {title} is not seen in its SQL")
            reading.check_types(unique_id, names, filters)
            return Apart(tuple(names), filters, tuple(found.warnings))
        except Mixes as mixes:
            failed = failed or mixes
        except RecursionError:
            failed = failed or Mixes(reader.node(unique_id), "", "its SQL is nested too deeply to be read")
    return failed


class Streams:
    def __init__(self, reader: Reader, streamed: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.reader, self.streamed = reader, streamed
        self._reads: dict[str, bool] = {}
        self._flows: dict[int, bool] = {}

    # What reads a stream.

    def reads(self, unique_id: str) -> bool:
        """Whether a node reads a streamed source, through others too: as dbt's graph says."""
        if unique_id not in self._reads:
            self._reads[unique_id] = unique_id in self.streamed
            about = self.reader.graph.nodes.get(unique_id, {})
            above = (about.get("depends_on") or {}).get("nodes") or ()
            self._reads[unique_id] = unique_id in self.streamed or any(self.reads(one) for one in above)
        return self._reads[unique_id]

    def check_types(
        self, unique_id: str, names: Sequence[str], filters: Mapping[str, Sequence[tuple[str, ...]]]
    ) -> None:
        """What names an entity has to be of one type in all that is read: 1 and 1.0 are equal, and two texts."""
        for place, name in enumerate(names):
            types = {
                self._declared(source, column)
                for source, ways in filters.items()
                for way in ways
                for column in sqlglot.parse_one(way[place], dialect=self.reader.graph.dialect).find_all(exp.Column)
            }
            if len(types) > 1:
                said = " and ".join(sorted(types))
                why = f"its key '{name}' is of several types in what it reads: {said}"
                raise Mixes(self.reader.node(unique_id), "", why, "declare it as one type in the sources")

    def _declared(self, source: str, column: exp.Column) -> str:
        columns = (self.reader.graph.nodes[source].get("columns") or {}).values()
        declared = next((one.get("data_type") for one in columns if one["name"].lower() == column.name), None)
        if not declared:
            return "a type that is not declared"
        built = exp.DataType.build(declared, dialect=self.reader.graph.dialect or None)
        return "integer" if built.this in exp.DataType.INTEGER_TYPES else built.sql().lower()

    def streams_above(self, unique_id: str) -> set[str]:
        """The streamed sources that a node reads, through others too."""
        if unique_id in self.streamed:
            return {unique_id}
        above = (self.reader.graph.nodes.get(unique_id, {}).get("depends_on") or {}).get("nodes") or ()
        return set().union(*(self.streams_above(one) for one in above if self.reads(one)))

    def flows(self, node: Node, source: Source | None) -> bool:
        """Whether a scope or table in a node's SQL reads one."""
        if isinstance(source, exp.Table):
            if source.name in node.reads or source.name in self.reader.graph.nodes:
                return self.reads(source.name)
            return False
        if not isinstance(source, Scope):
            return False
        known = id(source.expression)
        if known not in self._flows:
            self._flows[known] = False  # so far: what is recursive reads itself
            read = [node.source_of(source, name)[1] for name, _ in source.references]
            inside = [*source.set_operation_scopes, *source.subquery_scopes, *source.udtf_scopes]
            self._flows[known] = any(self.flows(node, one) for one in (*read, *inside))
        return self._flows[known]

    # The demand, step by step.

    def demand_node(self, unique_id: str, demand: Demand, found: Found) -> None:
        node = self.reader.node(unique_id)
        if unique_id in node.reads:
            raise Mixes(node, "", "its SQL is that of an incremental run", "run `dbt compile --full-refresh`")
        if unique_id in self.streamed:
            columns = set(node.columns)
            for column in (one for part in demand for one in part.find_all(exp.Column)):
                if columns and column.name not in columns:
                    raise Mixes(node, column.name, f"{node.title} has no column '{column.name}'")
            found.filters.setdefault(unique_id, set()).add(tuple(part.sql(node.dialect or "duckdb") for part in demand))
            return
        if not self.reads(unique_id):
            return
        if node.scope is None:
            raise Mixes(node, "", node.problem or f"the SQL of {node.title} is not known")
        config = node.about.get("config") or {}
        if node.about.get("resource_type") == "snapshot":
            raise Mixes(node, "", "a snapshot holds what earlier runs of dbt saw")
        if config.get("incremental_strategy") == "microbatch":
            raise Mixes(node, "", "a microbatch model has no SQL that builds all of it")
        self.demand(node, node.scope, demand, found)

    def demand(self, node: Node, scope: Scope, demand: Demand, found: Found) -> None:
        """Rows of this scope that share `demand`, expressions over its columns, come from streamed rows that share
        what the demand becomes in the sources."""
        made = scope.expression
        if not self.flows(node, scope):
            return
        if isinstance(made, exp.SetOperation):
            self._branches(node, scope, demand, found)
        elif isinstance(made, exp.Select):
            Select(self, node, scope, found).carry(demand)
        else:
            raise Mixes(node, made.sql(node.dialect)[:80], "it is of no form that is known here")

    def _branches(self, node: Node, scope: Scope, demand: Demand, found: Found) -> None:
        made = scope.expression
        if part_of_all(made):
            raise Mixes(node, part_of_all(made).sql(node.dialect), "it takes some of all rows")
        if scope.is_root is False and isinstance(made.parent, exp.CTE) and made.parent.parent.args.get("recursive"):
            raise Mixes(node, made.parent.alias, "it is recursive")
        names = list(made.named_selects)
        for branch in scope.set_operation_scopes:
            own = list(branch.expression.named_selects)
            by_place = own if not made.args.get("by_name") else names

            def renamed(column: exp.Column, own: list[str] = by_place) -> exp.Expression:
                if column.name not in names or names.index(column.name) >= len(own):
                    raise Mixes(node, column.name, "its columns are not all known")
                return exp.column(own[names.index(column.name)], quoted=True)

            self.demand(node, branch, tuple(replaced(part, renamed) for part in demand), found)
