"""A node of dbt's graph with its columns and its SQL, read: see `materializer.sql.reader`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.optimizer.scope import Scope

from materializer.sql.prepare import OPEN, bare_copy

Source = Scope | exp.Table | exp.Pivot
dialect_named = cache(Dialect.get_or_raise)
_AS_WRITTEN = {"normalize_functions": False, "comments": False}
# Functions that make rows from their arguments alone.
_GENERATORS = {
    "generate_series", "range", "unnest", "explode", "posexplode", "generator", "sequence", "generate_array",
    "generate_date_array", "generate_timestamp_array", "split_to_table", "flatten", "repeat_row", "table",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Window:
    """A column of a window macro: `made` is the aggregate as the user wrote it, over `duration` of the events.

    `events` is the scope that reads these, in which `made` is qualified. In `aggregate_as_of` a window ends at
    `moment`, a column of the spine, or, where `strictly`, before it. `known` is the column of the load time.
    """

    text: str
    made: exp.Expression
    duration: str
    events: Scope
    moment: str | None = None
    strictly: bool = False
    known: str | None = None


@dataclass(eq=False)
class Node:
    """A node of dbt's graph, or a table that is none, as the reader says.

    `columns` are the known ones, in order, as they are spelled, by their name in lower case. `may_have` is ``maybe``
    where it may have others, ``unlikely`` where others are declared; empty where these are all. `added` are the columns
    that dbt adds to a snapshot, with those that each is made from; `reads` the nodes that the tables in the tree are.
    """

    id: str
    title: str
    about: Mapping[str, Any] = field(default_factory=dict)
    dialect: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    may_have: str = ""
    problem: str | None = None
    scope: Scope | None = None
    windows: dict[int, Window] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)
    reads: dict[str, Node] = field(default_factory=dict)
    # By the id of a scope's expression: the scope, its name inside of the model, its known columns as they are spelled,
    # and whether it may have others.
    scopes: dict[int, Scope] = field(default_factory=dict)
    parts: dict[int, str] = field(default_factory=dict)
    names: dict[int, dict[str, str]] = field(default_factory=dict)
    opened: dict[int, str] = field(default_factory=dict)
    # The tree as it was written, and its clauses in order.
    written: exp.Query | None = None
    clauses: list[exp.Expression] = field(default_factory=list)

    def columns_of(self, source: Source | None) -> dict[str, str]:
        """The known columns of a scope or table, as they are spelled."""
        if isinstance(source, exp.Table):
            return self.reads[source.name].columns if source.name in self.reads else {}
        return self.names.get(id(source.expression), {}) if isinstance(source, Scope) else {}

    def title_of(self, source: Source | None) -> str:
        """How a sentence calls a scope or table."""
        if isinstance(source, exp.Table) and source.name in self.reads:
            return self.reads[source.name].title
        part = self.parts.get(id(source.expression)) if isinstance(source, Scope) else "a function"
        return f"'{part}'" if part else "its outermost SELECT"

    def lacks(self, name: str, source: Source | None = None) -> str:
        """The sentence that a node, or a scope or table in its SQL, has no such column."""
        if self.by_position(source):
            return unplaced(name, self.title_of(source))
        columns = self.columns if source is None else self.columns_of(source)
        there = f"; it has: {', '.join(columns.values())}." if columns else "."
        return f"{self.title if source is None else self.title_of(source)} has no column '{name}'{there}"

    def by_position(self, source: Source | None) -> bool:
        """Whether a list of names stands over a star whose columns are not known."""
        items = source.expression.expressions if is_select(source) else ()
        return any(one.this.name.startswith(OPEN) and not one.alias.startswith(OPEN) for one in items)

    def has(self, source: Source | None, name: str) -> str:
        """Whether a scope or table has a column: ``sure``, as `may_have`, or ``field`` of a struct that it unpacks."""
        if source is None or isinstance(source, exp.Pivot):
            return "maybe"
        if name in self.columns_of(source):
            return "sure"
        made = source if isinstance(source, exp.Table) else source.expression
        if isinstance(made, exp.Table) and not isinstance(made.this, exp.Func):
            return "sure" if name in made.alias_column_names else self.reads[made.name].may_have
        if isinstance(made, (exp.Table, exp.UDTF)):
            return "sure" if name in made.alias_column_names else "maybe" if reads_outside(made) else "field"
        if id(made) not in self.names:  # a recursive CTE, in itself
            return "sure" if name in made.named_selects else "maybe"
        return self.opened[id(made)] if self.passed(source, name) else ""

    def passed(self, scope: Scope, name: str) -> str | None:
        """What the stars of a SELECT take for a column that is not known; None where they leave it out."""
        gone, renamed = scope.expression.meta_get("stars") or ((), {})
        return renamed.get(name) or (None if name in gone else name)

    def source_of(self, scope: Scope, table: str) -> tuple[Scope, Source | None]:
        """What a column's table is, and the scope that has it: that of the column, or one around it."""
        at: Scope | None = scope
        while at is not None:
            found = at.sources.get(table)
            if found is None or isinstance(found, exp.Table):
                found = next((one for one in at.pivots if one.alias == table), found)
            if isinstance(found, Scope):
                found = self.scopes.get(id(found.expression), found)
                while found.is_set_operation:
                    found = found.parent  # what a recursive CTE reads is all of itself
            if found is not None:
                return at, found
            at = at.parent
        return scope, None

    def text(self, clause: exp.Expression) -> str:
        """A projection, condition or other clause of the tree as it was written; ``*`` where a star made it."""
        place = clause.meta_get("clause")
        if place is None or self.written is None:
            return "*"
        made = self.clauses[place]
        if isinstance(made, exp.Join) and made.args.get("on") is None:
            return f"using ({', '.join(one.name for one in made.args.get('using') or ())})"
        if isinstance(made, (exp.Alias, exp.Where, exp.Having, exp.Qualify, exp.Ordered, exp.Join)):
            made = made.args["on"] if isinstance(made, exp.Join) else made.this
        try:
            return bare_copy(made).sql(dialect_named(self.dialect), copy=False, **_AS_WRITTEN)
        except RecursionError:
            return "..."


def reads_outside(made: exp.Expression) -> bool:
    """Whether a function in FROM reads something else than its arguments, as `read_csv` does."""
    if not isinstance(made, exp.Table):
        return False
    called = (made.this.name if isinstance(made.this, exp.Anonymous) else made.this.sql_name()).lower()
    return called not in _GENERATORS and made.this.find(exp.Column, exp.Query) is None


def is_select(source: Source | None) -> bool:
    """Whether a scope is that of one SELECT."""
    return isinstance(source, Scope) and isinstance(source.expression, exp.Select)


def unplaced(name: str, title: str) -> str:
    """The sentence that a list of names stands over a star whose columns are not known."""
    return f"'{name}' of {title} goes by its position, and the columns it is taken from are not known."
