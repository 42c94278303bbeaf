"""The nodes of dbt's graph as relations: what their columns are made from, as far as it can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from materializer.lineage.query import Scope
from materializer.lineage.relations import ROWS, Asking, Certainty, Output, Ref, Relation, Step, pick
from materializer.project.graph import Graph, reference_of

# What dbt adds to a snapshot, and which setting says from which column it is made.
_SNAPSHOT = {"dbt_scd_id": "unique_key", "dbt_updated_at": "updated_at", "dbt_valid_from": "updated_at",
             "dbt_valid_to": "updated_at", "dbt_is_deleted": None}  # fmt: skip
_EPHEMERAL = "__dbt__cte__"


class Nodes:
    """The nodes of one graph, each read when it is first asked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.asking = Asking()
        self._nodes: dict[str, Node] = {}

    def node(self, unique_id: str) -> Node:
        """The node of that id."""
        if unique_id not in self._nodes:
            self._nodes[unique_id] = Node(self, self.graph.nodes[unique_id])
        return self._nodes[unique_id]

    def at(self, parts: tuple[str, ...], reader: str) -> Node | None:
        """The node whose relation a name in the SQL of `reader` means."""
        found = self.graph.at(".".join(parts)) or self._by_end(parts, reader)
        return self.node(found["unique_id"]) if found is not None else None

    def ephemeral(self, name: str, reader: str) -> Node | None:
        """The ephemeral model whose SQL dbt put into the reader's as the CTE of that name."""
        if not name.startswith(_EPHEMERAL):
            return None
        for node in self.graph.above(self.graph.nodes[reader]):
            called = {node.get("name"), node.get("alias"), node.get("identifier")}
            if node.get("resource_type") == "model" and name[len(_EPHEMERAL) :] in called and node.get("compiled_code"):
                return self.node(node["unique_id"])
        return None

    def _by_end(self, parts: tuple[str, ...], reader: str) -> Mapping[str, Any] | None:
        """The node of a relation whose name the SQL gives in part, or not as the manifest does.

        A parent of that name, whatever the target; else the only node whose relation ends so, where the SQL names the
        schema, or the reader's own is the same.
        """
        about = self.graph.nodes.get(reader, {})
        named = [
            parent
            for parent in self.graph.parents(about)
            if parts[-1].casefold() in {str(parent.get(key)).casefold() for key in ("alias", "identifier", "name")}
        ]
        if len(named) == 1:
            return named[0]
        end = parts if len(parts) > 1 else (str(about.get("schema")), *parts)
        found = self.graph.ending(".".join(end))
        return found[0] if len(found) == 1 else None


class Node(Relation):
    """A model, seed, source or snapshot. `problem` says why its SQL cannot be followed, where that is so."""

    def __init__(self, nodes: Nodes, node: Mapping[str, Any]) -> None:
        super().__init__(nodes.asking, node["unique_id"])
        self.nodes, self.about = nodes, node
        self.body: Relation | None = None
        self.problem: str | None = None
        self._is_read = False

    @property
    def title(self) -> str:
        return f"{self.about.get('resource_type')} '{reference_of(self.about)}'"

    def read(self) -> None:
        """Parse its SQL, once."""
        if self._is_read:
            return
        self._is_read = True
        if self.about.get("resource_type") in ("source", "seed"):
            return
        sql = self.about.get("compiled_code")
        title = self.title[0].upper() + self.title[1:]
        if self.about.get("language") == "python":
            self.problem = f"{title} is written in Python, so what its columns are made from cannot be seen."
        elif not isinstance(sql, str) or not sql.strip():
            self.problem = f"The manifest holds no compiled SQL of {self.title}: run `dbt compile` or `dbt build`."
        else:
            dialect = self.nodes.graph.dialect
            try:
                tree = sqlglot.parse_one(sql, dialect=dialect)
            except (SqlglotError, RecursionError, ValueError, AttributeError, TypeError) as error:
                first = (getattr(error, "errors", None) or [{}])[0]
                reason = " ".join(str(first.get("description") or "too deeply nested").split())
                at = f" in line {first['line']}" if first.get("line") else ""
                self.problem = f"The compiled SQL of {self.title} cannot be read{at}: {reason.rstrip('.')}."
                return
            if not isinstance(tree, (exp.Query, exp.Values, exp.Pivot)):
                self.problem = f"The compiled SQL of {self.title} is not a SELECT."
                return
            self.body = Scope(self.nodes, self.node, dialect).build(tree, "", "", None)

    def _outputs(self) -> list[Output] | None:
        self.read()
        if self.body is None:
            names = self.nodes.graph.columns(self.about)
            return [self._leaf(name) for name in names] if names else None
        outputs = self.body.outputs()
        if outputs is None:
            names = self.nodes.graph.built_columns(self.about)
            outputs = names and [found for name in names if (found := self.body.find(name.lower()))]
        return outputs and outputs + self._added(outputs)

    def _find(self, name: str) -> Output | None:
        self.read()
        if self.body is None:
            graph = self.nodes.graph
            found = pick(name, [self._leaf(one) for one in graph.declared_columns(self.about)])
            found = found or pick(name, [self._leaf(one) for one in graph.built_columns(self.about)])
            if found is not None or graph.built_columns(self.about):
                return found
            return self._leaf(name, "unlikely" if graph.declared_columns(self.about) else "maybe")
        found = self.body.find(name)
        return found if found is not None and found.sure else pick(name, self._added([])) or found

    def rows(self) -> list[Step]:
        self.read()
        return [Step("from", ((Ref(self.body, ROWS), "rows"),))] if self.body is not None else []

    def _leaf(self, name: str, certainty: Certainty = "sure") -> Output:
        steps = [Step("", problems=(self.problem,))] if self.problem else []
        return Output(name, lambda path: steps, certainty)

    def _added(self, outputs: list[Output]) -> list[Output]:
        """The columns that dbt adds to a snapshot's own."""
        if self.about.get("resource_type") != "snapshot":
            return []
        config = self.about.get("config") or {}
        named = config.get("snapshot_meta_column_names") or {}
        added = []
        for name, setting in _SNAPSHOT.items():
            if name == "dbt_is_deleted" and config.get("hard_deletes") != "new_record":
                continue
            added.append(
                Output(named.get(name) or name, lambda path, s=setting, n=name: [self._added_step(n, config.get(s))])
            )
        there = {output.name.casefold() for output in outputs}
        return [output for output in added if output.name.casefold() not in there]

    def _added_step(self, name: str, columns: Any) -> Step:
        listed = columns if isinstance(columns, list) else [columns] if columns else []
        found = [self.body.find(str(column).lower()) for column in listed] if self.body is not None else []
        inputs = tuple((Ref(self.body, output.name), "value") for output in found if output is not None)
        return Step(f"dbt's own {name}", inputs)
