"""What a query means, as values that can be compared: each column by how it is made, the rows by what decides them.

Queries that differ only in layout, comments, case, the names of CTEs and aliases, the order of CTEs, needless
parentheses and qualifiers, or the sides of an equality have equal keys. Where the keys of a column and of the rows are
equal, so are the values; the reverse does not hold: SQL that means the same in a roundabout way counts as changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

# How dbt calls the CTE that it writes in place of an ephemeral model.
EPHEMERAL = "__dbt__cte__"
# A column of a relation outside of the query: (relation, column).
Read = tuple[str, str]


class UnreadableError(Exception):
    """SQL that cannot be followed; the message says why."""


def check_followed(node: exp.Expression, *known: str) -> None:
    """Stop at a part of a query that nobody here looks into: to pass over it would take changes in it for none.

    Raises:
        UnreadableError: naming it.
    """
    for name, value in node.args.items():
        if value and name not in known and name not in ("hint", "hints", "with_"):
            raise UnreadableError(
                f"{name.strip('_').replace('_', ' ').upper()} in a {node.key.upper()} is not followed"
            )


def digest(*parts: Any) -> str:
    """A short name of nested tuples and lists of texts, equal for equal ones."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class Column:
    """How one column is made.

    `key` is equal where the expression is, `exact` where also the rows are that it aggregates over. A column that is
    only passed on is the column it passes on. One of a relation outside has neither `expression` nor `children`.
    """

    key: str
    exact: str
    name: str
    reads: frozenset[Read] = frozenset()
    expression: exp.Expression | None = None
    children: tuple[Column, ...] = ()
    # The type, where it is beyond doubt.
    type: str | None = None

    def sql(self, dialect: str) -> str:
        """The expression, for people."""
        return self.expression.sql(dialect=dialect, comments=False) if self.expression is not None else self.name

    def shape(self) -> str:
        """The expression without the columns in it."""
        if self.expression is None:
            return "" if self.children else self.name
        return self.expression.transform(_without_column).sql(comments=False)


@dataclass(frozen=True)
class Part:
    """Something that decides which rows there are: its kind (``where``), and its SQL for people."""

    kind: str
    sql: str
    key: str


@dataclass(frozen=True, eq=False)
class Query:
    """What a query gives.

    `columns` stand by name, in order; `unseen` names relations whose columns are unknown and all passed on (``*``).
    `base` and `filters` decide the rows, `row_reads` are the columns outside that these look at; `relations` are all
    that it reads.
    """

    columns: Mapping[str, Column]
    base: str
    filters: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    relations: frozenset[str] = frozenset()
    row_reads: frozenset[Read] = frozenset()

    @property
    def rows(self) -> str:
        """Equal where the same decides the rows."""
        return digest("rows", self.base, sorted(self.filters)) if self.filters else self.base

    def column(self, name: str) -> Column | None:
        """The column called `name`; a relation whose columns are unknown is taken to have it."""
        if name in self.columns or not self.unseen:
            return self.columns.get(name)
        return either([outside(relation, name) for relation in self.unseen])

    def as_value(self, name: str) -> Column:
        """The whole answer as one value: what an expression takes from a subquery in it."""
        columns = [(name, column.exact) for name, column in self.columns.items()]
        key = digest("subquery", self.rows, columns, self.unseen)
        reads = self.row_reads | all_reads(self.columns.values())
        return Column(key, key, name, reads, None, tuple(self.columns.values()))


def outside(relation: str, name: str, type_: str | None = None) -> Column:
    """A column of a relation outside of the query."""
    key = digest("outside", relation, name)
    return Column(key, key, f"{relation}.{name}", frozenset({(relation, name)}), type=type_)


def relation(name: str, columns: Mapping[str, str | None] | None) -> Query:
    """A relation outside of the query, with the types of its columns; None where the columns are not known."""
    return Query(
        {column: outside(name, column, type_) for column, type_ in (columns or {}).items()},
        base=digest("relation", name),
        unseen=() if columns else (name,),
        parts=(Part("from", name, digest("from", name)),),
        relations=frozenset({name}),
    )


def made_from(how: Any, name: str, children: list[Column], type_: str | None = None) -> Column:
    """A column made from others otherwise than by an expression: a union, or a name that may mean several."""
    reads = all_reads(children)
    keys = digest(how, [child.key for child in children]), digest(how, [child.exact for child in children])
    return Column(*keys, name, reads, None, tuple(children), type_)


def either(candidates: list[Column]) -> Column:
    """What a name means that several relations of unknown columns may have."""
    return candidates[0] if len(candidates) == 1 else made_from("either", candidates[0].name, candidates)


def seen_from(where: Any, column: Column) -> Column:
    """The column as it is met elsewhere: from within a subquery, behind a left join, in a second copy of its table."""
    return replace(column, key=digest(where, column.key), exact=digest(where, column.exact))


def each_once(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Parts without repetition."""
    return tuple({part.key: part for part in parts}.values())


def filtered(query: Query, kind: str, conditions: list[tuple[Part, Column]]) -> Query:
    """With only the rows for which these conditions hold."""
    return replace(
        query,
        filters=query.filters | {column.exact for _, column in conditions},
        parts=each_once((*query.parts, *(replace(part, kind=kind) for part, _ in conditions))),
        row_reads=query.row_reads.union(*(column.reads for _, column in conditions)),
    )


def decided(query: Query, base: str, parts: list[Part], reads: frozenset[Read]) -> Query:
    """With rows that something more decides than a condition on each."""
    parts_ = each_once((*query.parts, *parts))
    return replace(query, base=base, filters=frozenset(), parts=parts_, row_reads=query.row_reads | reads)


def renamed(query: Query, names: list[str]) -> Query:
    """With other names for the first columns: ``as t(x, y)``."""
    old = list(query.columns)
    columns = dict(zip([*names, *old[len(names) :]], query.columns.values(), strict=False))
    return replace(query, columns=columns) if names and old else query


def all_reads(columns: Iterable[Column]) -> frozenset[Read]:
    """Everything outside that columns are made from."""
    return frozenset().union(*(column.reads for column in columns))


def where_they_differ(old: Column, new: Column) -> tuple[Column, Column]:
    """The innermost definitions in which two columns part ways."""
    while len(old.children) == len(new.children) and old.shape() == new.shape():
        differing = [pair for pair in zip(old.children, new.children, strict=True) if pair[0].key != pair[1].key]
        if not differing:
            break
        old, new = differing[0]
    return old, new


def _without_column(node: exp.Expression) -> exp.Expression:
    apart = isinstance(node, (exp.Column, exp.Subquery, exp.Window)) and node.parent is not None
    return exp.Placeholder() if apart else node
