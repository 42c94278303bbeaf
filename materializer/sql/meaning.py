"""What a query means, as values that can be compared: each column by how it is made, the rows by what decides them.

Where the signatures of two columns, and of the rows that they stand in, are equal, so are the values. The reverse does
not hold: SQL that means the same in a roundabout way has another signature.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

# A column of a relation outside of the query: (relation, column); of this one, where it is not known what a name means.
Read = tuple[str, str]
UNKNOWN = "?"


class UnreadableError(Exception):
    """SQL that cannot be followed; the message says why."""


def digest(*parts: Any) -> str:
    """A short name of nested tuples and lists of texts, equal for equal ones."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Key:
    """Two names of an expression: `key` is equal where it is made alike, `exact` where it is so over the same rows."""

    key: str
    exact: str


def keyed(*parts: Any) -> Key:
    """The key of nested lists of texts, keys and columns; in a frozenset their order and number say nothing."""
    return Key(digest(_at(parts, "key")), digest(_at(parts, "exact")))


def _at(part: Any, which: str) -> Any:
    if isinstance(part, (Key, Column)):
        return getattr(part, which)
    if isinstance(part, frozenset):
        return "any order", sorted({repr(_at(one, which)) for one in part})
    if isinstance(part, (list, tuple)):
        return tuple(_at(one, which) for one in part)
    return part


@dataclass(frozen=True, eq=False)
class Text:
    """SQL for people, written when it is read: without the qualifiers and quotes that nobody wrote."""

    pieces: tuple[str | Text | exp.Expression, ...]
    dialect: str = ""

    def __str__(self) -> str:
        return "".join(self._shown(one) if isinstance(one, exp.Expression) else str(one) for one in self.pieces)

    def _shown(self, node: exp.Expression) -> str:
        shown = node.copy()
        for column in shown.find_all(exp.Column):
            if column.args.get("table") is not None and not _stands_before(column.args["table"], column.this):
                column.set("table", None)
        for name in shown.find_all(exp.Identifier):
            if "start" not in name.meta and re.fullmatch(r"[a-z_]\w*", name.name):
                name.set("quoted", False)
        return shown.sql(dialect=self.dialect, comments=False)


def _stands_before(qualifier: exp.Expression, name: exp.Expression) -> bool:
    """Whether somebody wrote ``qualifier.name``; what sqlglot puts there may come from elsewhere in the text."""
    end, start = qualifier.meta.get("end"), name.meta.get("start")
    return end is not None and start is not None and 0 < start - end <= len(". ") + 1


def joined(separator: str, texts: Iterable[str | Text]) -> Text:
    """Several texts as one."""
    return Text(tuple(piece for text in texts for piece in (separator, text))[1:])


@dataclass(frozen=True, eq=False)
class Column:
    """How one column is made; `key` and `exact` as of a `Key`.

    A column that is only passed on is the column it passes on. One of a relation outside has neither `made` nor
    `children`; `fields` are those of a struct. `text` is the SQL, for people.
    """

    key: str
    exact: str
    text: str | Text
    reads: frozenset[Read] = frozenset()
    made: exp.Expression | None = None
    children: tuple[Column, ...] = ()
    # The type, where it is beyond doubt.
    type: str | None = None
    fields: Mapping[str, Column] = field(default_factory=dict)

    def seen_from(self, where: Any) -> Column:
        """As it is met elsewhere: from within a subquery, behind a left join, in a second copy of its table."""
        return replace(self, key=digest(where, self.key), exact=digest(where, self.exact))

    @property
    def is_constant(self) -> bool:
        """Whether it is made from no column, and counts no rows."""
        return not self.reads and self.key == self.exact

    def doubted(self) -> Column:
        """As it is where a name may mean something else."""
        return replace(self.seen_from("doubtful"), reads=self.reads | {(UNKNOWN, str(self.text))})


@dataclass(frozen=True, eq=False)
class Part:
    """Something that decides which rows there are: its kind (``where``), and its SQL for people."""

    kind: str
    sql: str | Text
    key: str


@dataclass(frozen=True, eq=False)
class Query:
    """What a query gives.

    `columns` stand by name, in order; `unseen` names relations that are passed on whole though not all of their
    columns are known. `base`, `filters` and, in a windowed view, `moments` decide the rows; `row_reads` are the columns
    outside that these look at; `relations` are all that it reads.
    """

    columns: Mapping[str, Column]
    base: str
    filters: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    relations: frozenset[str] = frozenset()
    row_reads: frozenset[Read] = frozenset()

    @property
    def rows(self) -> str:
        """Equal where the same decides the rows."""
        return digest("rows", self.events, sorted(self.moments)) if self.moments else self.events

    @property
    def events(self) -> str:
        """The same, but for the moments at which a windowed view has rows: its values do not depend on them."""
        return digest("rows", self.base, sorted(self.filters)) if self.filters else self.base

    def column(self, name: str) -> Column | None:
        """The column called `name`; a relation whose columns are not all known is taken to have it."""
        if name in self.columns or not self.unseen:
            return self.columns.get(name)
        return either([outside(relation, name) for relation in self.unseen])

    def as_value(self, text: str | Text) -> Column:
        """The whole answer as one value: what an expression takes from a subquery in it."""
        columns = tuple(self.columns.values())
        key = digest("subquery", self.rows, [column.exact for column in columns], self.unseen)
        return Column(key, key, text, self.row_reads | all_reads(columns), None, columns)

    def renamed(self, names: list[str]) -> Query:
        """With other names for the first columns: ``as t(x, y)``."""
        old = list(self.columns)
        columns = dict(zip([*names, *old[len(names) :]], self.columns.values(), strict=False))
        return replace(self, columns=columns) if names and old else self

    def filtered(self, parts: Iterable[Part], conditions: Iterable[Column], moments: Iterable[Column] = ()) -> Query:
        """With only the rows for which these conditions hold."""
        conditions, moments = list(conditions), list(moments)
        return replace(
            self,
            filters=self.filters | {column.exact for column in conditions},
            moments=self.moments | {column.exact for column in moments},
            parts=each_once((*self.parts, *parts)),
            row_reads=self.row_reads | all_reads(conditions),
        )

    def decided(self, base: str, parts: Iterable[Part], reads: frozenset[Read]) -> Query:
        """With rows that something more decides than a condition on each."""
        return replace(
            self,
            base=base,
            filters=frozenset(),
            moments=frozenset(),
            parts=each_once((*self.parts, *parts)),
            row_reads=self.row_reads | reads,
        )


def outside(relation: str, name: str, type_: str | None = None) -> Column:
    """A column of a relation outside of the query."""
    key = digest("outside", relation, name)
    return Column(key, key, f"{relation}.{name}", frozenset({(relation, name)}), type=type_)


def relation(name: str, columns: Mapping[str, str | None], may_have: bool) -> Query:
    """A relation outside of the query, with the types of its columns; `may_have`: and of others that are not known."""
    return Query(
        {column: outside(name, column, type_) for column, type_ in columns.items()},
        base=digest("relation", name),
        unseen=(name,) if may_have else (),
        parts=(Part("from", name, digest("from", name)),),
        relations=frozenset({name}),
    )


def made_from(how: Any, text: str | Text, children: list[Column], type_: str | None = None) -> Column:
    """A column made from others otherwise than by an expression: a union, or a name that may mean several."""
    key = keyed(how, children)
    return Column(key.key, key.exact, text, all_reads(children), None, tuple(children), type_)


def either(candidates: list[Column]) -> Column:
    """What a name means that several relations may have."""
    if len(candidates) == 1:
        return candidates[0]
    return made_from("either", candidates[0].text, candidates).doubted()


def all_reads(columns: Iterable[Column]) -> frozenset[Read]:
    """Everything outside that columns are made from."""
    return frozenset().union(*(column.reads for column in columns))


def each_once(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Parts without repetition."""
    return tuple({part.key: part for part in parts}.values())
