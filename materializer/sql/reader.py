"""Compiled SQL, parsed and qualified once a model: the only place that reads it.

`Reader(graph).node(unique_id)` gives a `Node`: a model, seed, source or snapshot with its columns and, where it has SQL
that can be read, the scope of sqlglot's tree of it, qualified (`node.scope`, of which `.expression` is the tree; None,
and `node.problem` a sentence, where not). In the tree

- every name is in lower case (`node.names` has them as they were written), every projection has an alias, stars are
  expanded, ``using`` is an ``on``, an alias used beside itself is what it stands for, a field of a struct is a `Dot`;
- a table is called by the unique id of its node (``reader.node(table.name)``), an ephemeral model's CTE too; a table
  that is no node of the project goes by its name in SQL. `node.source_of(scope, column.table)` gives what a column is
  taken from: a scope, an `exp.Table` or an `exp.Pivot`;
- a column called ``?...`` stands for those of a relation that are not all known, as a star would. A name that is none
  of the known ones and must be one of these is qualified like any other;
- what could not be resolved is a sentence in ``meta["problem"]``, of a column or a projection;
- ``node.windows[id(projection)]`` is the meaning of a column that a window macro of the package wrote, instead of the
  CTEs (``_fs_...``) that it goes through.
"""

from __future__ import annotations

from materializer.project.graph import Graph
from materializer.sql.node import Node, Source, Window
from materializer.sql.prepare import OPEN, parse
from materializer.sql.qualify import Reading

__all__ = ["OPEN", "Node", "Reader", "Source", "Window", "parse"]


class Reader:
    """The nodes of one graph, each read when it is first asked for, with those that it reads."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._readings: dict[str, Reading] = {}
        self._outside: dict[str, Node] = {}

    def node(self, unique_id: str) -> Node:
        """The node of that id; for any other name a table that is none."""
        waiting, begun = [unique_id], set()
        while waiting:
            one = waiting[-1]
            self._node(one)
            reading = self._readings.get(one)
            if reading is None or reading.done:
                waiting.pop()
            elif one not in begun:
                begun.add(one)
                reading.prepare()
                waiting += [table for table in reading.tables if table not in begun]
            else:  # of what reads itself, or is read by what it reads, nothing is known yet
                reading.finish({table: self._node(table) for table in reading.tables})
        return self._node(unique_id)

    def know(self, unique_id: str, columns: dict[str, str], may_have: str, problem: str | None) -> None:
        """Take these for the columns of a node, in place of reading its SQL."""
        self._readings[unique_id] = known = Reading(self.graph, self.graph.nodes[unique_id], known=True)
        known.node.columns, known.node.may_have, known.node.problem = columns, may_have, problem

    def _node(self, name: str) -> Node:
        """The node, though it may not be read yet."""
        if name not in self._readings and name in self.graph.nodes:
            self._readings[name] = Reading(self.graph, self.graph.nodes[name])
        elif name not in self._readings and name not in self._outside:
            problem = f"{name} is neither a model nor a source, seed or snapshot of the project."
            self._outside[name] = Node(name, name, may_have="maybe", problem=problem)
        return self._readings[name].node if name in self._readings else self._outside[name]
