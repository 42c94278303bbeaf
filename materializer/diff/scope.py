"""The names that a SELECT may use: the columns of its FROM items, its own aliases, and those of the query around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from materializer.diff.meaning import Column, Query, either, made_from, seen_from


@dataclass
class Source:
    """One item of a FROM clause. `optional` where a join may leave it without a row, `copy` where an earlier item
    reads the same relations, `hidden` where it only filters (semi join)."""

    name: str
    query: Query
    optional: bool = False
    hidden: bool = False
    copy: str = ""

    def column(self, name: str) -> Column | None:
        """Its column, marked so that it is not taken for the same one met elsewhere."""
        column = self.query.column(name)
        if column is None:
            return None
        if self.copy:
            column = seen_from(self.copy, column)
        if self.optional and (column.expression is not None or column.children):
            column = seen_from(("optional", sorted(self.query.relations)), column)
        return column


@dataclass
class Scope:
    """Where names of one SELECT are looked up."""

    ctes: Mapping[str, Query]
    outer: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    # Columns that JOIN ... USING makes one, and which side they come from.
    merged: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, Column] = field(default_factory=dict)
    windows: dict[str, exp.Window] = field(default_factory=dict)

    def has(self, source: str) -> bool:
        """Whether a FROM item, here or around, is called so."""
        return any(one.name == source for one in self.sources) or (self.outer is not None and self.outer.has(source))

    def find(self, name: str, source: str | None = None) -> Column | None:
        """The column that a name means: of a FROM item, an alias of this SELECT, or of the query around it."""
        if source is not None:
            for one in self.sources:
                if one.name == source:
                    return one.column(name)
        else:
            known = [one.column(name) for one in self.sources if name in one.query.columns]
            if known:
                side = self.merged.get(name)
                if side == "both":
                    return made_from("coalesce", name, [column for column in known if column])
                return known[-1] if side == "right" else known[0]
        around = self.outer.find(name, source) if self.outer else None
        around = seen_from("around", around) if around else None
        if source is not None:
            return around
        unseen = [one.column(name) for one in self.sources]
        candidates = [column for column in (*unseen, self.aliases.get(name), around) if column]
        return either(candidates) if candidates else None
