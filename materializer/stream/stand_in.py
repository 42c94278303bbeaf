"""SQL that reads other relations in the place of those that it names. It stays as it was written otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import sqlglot
from sqlglot import exp


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
            called = "" if table.alias else f" as {_quoted(_folded(table.this), dialect)}"
            splices.append((*_place(table.parts), f"{stand_in}{called}"))
    for column in tree.find_all(exp.Column):
        parts = column.parts[:-1]
        if len(parts) > 1 and tuple(map(_folded, parts)) in known:
            splices.append((*_place(parts), _quoted(_folded(parts[-1]), dialect)))
    for start, end, text in sorted(splices, reverse=True):
        sql = f"{sql[:start]}{text}{sql[end + 1 :]}"
    return sql


def _parts(table: exp.Table) -> tuple[str, ...]:
    return tuple(map(_folded, table.parts))


def _folded(name: exp.Identifier) -> str:
    return name.name if name.quoted else name.name.lower()


def _place(parts: list[exp.Identifier]) -> tuple[int, int]:
    return parts[0].meta["start"], parts[-1].meta["end"]


def _quoted(name: str, dialect: str) -> str:
    return exp.to_identifier(name, quoted=True).sql(dialect)
