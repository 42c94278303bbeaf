"""SQL that reads other relations in the place of those that it names. It stays as it was written otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from materializer.project.graph import Graph
from materializer.stream.chain import chain_of
from materializer.warehouse import quoted


@dataclass(frozen=True)
class Ctes:
    """The SQL of a view and of the models from its streamed sources to it, as CTEs of one query.

    Attributes:
        sources: the names of the sources' CTEs, by unique id; what they give is for others to say.
        models: SQL by the names of the models' CTEs, each after what it reads; `last` is the view's.
        names: the CTEs by the relations for which they stand in.
    """

    sources: Mapping[str, str]
    models: Mapping[str, str]
    names: Mapping[str, str]

    @property
    def last(self) -> str:
        return [*self.models][-1]


def ctes_of(graph: Graph, sources: Iterable[str], view: str) -> Ctes:
    """Of a view and its streamed sources, by unique id."""
    called = {unique_id: f"_fs_source_{number}" for number, unique_id in enumerate(sources)}
    names = {graph.nodes[unique_id]["relation_name"]: cte for unique_id, cte in called.items()}
    models = {}
    for number, unique_id in enumerate(chain_of(graph, called, [view]).models):
        node, cte = graph.nodes[unique_id], f"_fs_model_{number}"
        models[cte] = stood_in(node["compiled_code"], names, graph.dialect)
        names[node["relation_name"]] = cte
    return Ctes(called, models, names)


def listed(ctes: Mapping[str, str]) -> str:
    """What comes after WITH."""
    return ",\n".join(f"{name} as (\n{sql}\n)" for name, sql in ctes.items())


def stood_in(sql: str, names: Mapping[str, str], dialect: str) -> str:
    """The SQL with stand-ins for some relations, each by its name in a schema, and perhaps in a database.

    What the SQL calls a relation's columns by stays good: a stand-in has the relation's name, where it has none given.
    """
    known = {_parts(exp.to_table(name, dialect=dialect)): stand_in for name, stand_in in names.items()}
    known |= {parts[-2:]: stand_in for parts, stand_in in known.items()}
    splices: list[tuple[int, int, str]] = []
    tree = sqlglot.parse_one(sql, dialect=dialect)
    for table in tree.find_all(exp.Table):
        if table.db and (stand_in := known.get(_parts(table))):
            called = "" if table.alias else f" as {quoted(_folded(table.this), dialect)}"
            splices.append((*_place(table.parts), f"{stand_in}{called}"))
    for column in tree.find_all(exp.Column):
        parts = column.parts[:-1]
        if len(parts) > 1 and tuple(map(_folded, parts)) in known:
            splices.append((*_place(parts), quoted(_folded(parts[-1]), dialect)))
    for start, end, text in sorted(splices, reverse=True):
        sql = f"{sql[:start]}{text}{sql[end + 1 :]}"
    return sql


def _parts(table: exp.Table) -> tuple[str, ...]:
    return tuple(map(_folded, table.parts))


def _folded(name: exp.Identifier) -> str:
    return name.name if name.quoted else name.name.lower()


def _place(parts: list[exp.Identifier]) -> tuple[int, int]:
    return parts[0].meta["start"], parts[-1].meta["end"]
