"""Reads the FROM clause of a SELECT: its items into the scope, and what they and their joins say of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.diff.expressions import Expressions, conjuncts
from materializer.diff.meaning import (
    Column,
    Part,
    Query,
    UnreadableError,
    all_reads,
    check_followed,
    decided,
    digest,
    each_once,
    either,
    made_from,
    outside,
    renamed,
)
from materializer.diff.scope import Scope, Source

if TYPE_CHECKING:
    from materializer.diff.queries import Reader


class Sources:
    """The FROM clause of one SELECT."""

    def __init__(self, reader: Reader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope
        self._values = Expressions(reader, scope)

    def read(self, node: exp.Select) -> Query:
        """The rows that FROM and its joins give, before anything else; the scope knows their columns after it."""
        from_ = node.args.get("from_")
        if from_ is None:
            return Query({}, digest("one row"))
        first = self._add(from_.this).query
        laterals = [exp.Join(this=lateral, kind="CROSS") for lateral in node.args.get("laterals") or ()]
        steps, parts, reads = [first.rows], [*first.parts], first.row_reads
        for join in (*(from_.this.args.get("joins") or ()), *(node.args.get("joins") or ()), *laterals):
            check_followed(join, "this", "on", "using", "side", "kind", "method")
            kind = _kind(join)
            source = self._add(join.this)
            source.hidden = kind in ("semi join", "anti join")
            self._mark_optional(join)
            conditions = [self._values.part(one) for one in conjuncts(join.args.get("on"))]
            conditions += self._using(join, source)
            steps.append(digest(kind, sorted(column.exact for _, column in conditions), source.query.rows))
            reads |= source.query.row_reads | all_reads(column for _, column in conditions)
            parts += [part for part in source.query.parts if part.kind != "from"]
            parts.append(_join_part(kind, source, [part for part, _ in conditions]))
        return Query(
            {},
            base=first.base if len(steps) == 1 else digest("join", steps),
            filters=first.filters if len(steps) == 1 else frozenset(),
            parts=each_once(parts),
            relations=frozenset().union(*(source.query.relations for source in self._scope.sources)),
            row_reads=reads,
        )

    def star(self, projection: exp.Expression, values: Expressions) -> tuple[dict[str, Column], list[str]]:
        """The columns of ``*`` or ``name.*``, and the relations of which they are not known."""
        star = projection.this if isinstance(projection, exp.Column) else projection
        if not isinstance(star, exp.Star):
            raise UnreadableError(f"{projection.sql(dialect=self._reader.dialect)} is not followed")
        named = projection.table if isinstance(projection, exp.Column) else None
        excluded = {one.name for one in star.args.get("except_") or ()}
        new_names = {one.this.name: one.alias for one in star.args.get("rename") or ()}
        replaced = {one.alias: values.column(one.this) for one in star.args.get("replace") or ()}
        columns: dict[str, Column] = {}
        unseen: list[str] = []
        for source in self._scope.sources:
            if source.hidden or (named and source.name != named):
                continue
            for name in source.query.columns:
                column = source.column(name) if named or name not in self._scope.merged else self._scope.find(name)
                if name not in excluded and column is not None:
                    columns.setdefault(new_names.get(name, name), replaced.get(name, column))
            unseen += source.query.unseen
        if unseen:
            columns |= replaced
            columns |= {new: either([outside(one, old) for one in unseen]) for old, new in new_names.items()}
        return columns, unseen

    def generated(self, item: exp.Expression, names: list[str]) -> Query:
        """VALUES, UNNEST, a table function: rows made by an expression."""
        bare = item.copy()
        bare.set("alias", None)
        column = self._values.column(bare)
        shown = item.this if isinstance(item, exp.Lateral) else bare
        label = f"({shown.sql(dialect=self._reader.dialect, comments=False)})"
        if isinstance(item, exp.Values) and all(isinstance(row, exp.Tuple) for row in item.expressions):
            places = list(zip(*(row.expressions for row in item.expressions), strict=False))
            names = [*names, *(f"col{place}" for place in range(len(names), len(places)))]
            given = [[self._values.column(one) for one in place] for place in places]
            columns = {
                name: made_from("values", f"values.{name}", one) for name, one in zip(names, given, strict=False)
            }
        else:
            columns = {
                name: Column(*[digest(column.exact, place)] * 2, f"{label}.{name}", column.reads)
                for place, name in enumerate(names)
            }
        return Query(
            columns,
            base=column.exact,
            unseen=() if names else (label,),
            parts=(Part("from", label, column.key),),
            relations=frozenset({column.key}),
            row_reads=column.reads,
        )

    def _add(self, item: exp.Expression) -> Source:
        """One more FROM item in the scope."""
        if item.args.get("pivots"):
            raise UnreadableError("PIVOT is not followed")
        alias = item.args.get("alias")
        names = [column.name for column in alias.args.get("columns") or ()] if alias else []
        scope = self._scope
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            check_followed(item, "this", "db", "catalog", "alias", "sample", "joins")
            query = scope.ctes.get(item.name) if not item.db else None
            query = query or self._reader.find(".".join(part.name for part in item.parts))
        elif isinstance(item, exp.Subquery):
            bare = item.copy()
            bare.set("sample", None)
            query = self._reader.query(bare, Scope(scope.ctes, scope.outer))
        elif isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery):
            query = self._reader.query(item.this, Scope(scope.ctes, scope))
        else:
            query = self.generated(item, names)
        query = renamed(query, names)
        if item.args.get("sample"):
            part, column = self._values.part(item.args["sample"], "sample")
            query = decided(query, digest("sample", query.rows, column.exact), [part], column.reads)
        copies = sum(bool(one.query.relations & query.relations) for one in scope.sources)
        mark = f"{copies + 1}: {', '.join(sorted(query.relations))}" if copies else ""
        scope.sources.append(Source(item.alias_or_name, query, copy=mark))
        return scope.sources[-1]

    def _using(self, join: exp.Join, source: Source) -> Iterator[tuple[Part, Column]]:
        """The equalities that USING stands for."""
        before = Scope({}, sources=self._scope.sources[:-1], merged=dict(self._scope.merged))
        for name in (one.name for one in join.args.get("using") or ()):
            left, right = before.find(name), source.column(name)
            if left is None or right is None:
                raise UnreadableError(f"USING ({name}) names a column that is not on both sides")
            self._scope.merged[name] = {"RIGHT": "right", "FULL": "both"}.get((join.side or "").upper(), "left")
            yield self._values.equality(left, right, name)

    def _mark_optional(self, join: exp.Join) -> None:
        side = (join.side or "").upper()
        *before, last = self._scope.sources
        last.optional = side in ("LEFT", "FULL")
        for source in before if side in ("RIGHT", "FULL") else ():
            source.optional = True


def _kind(join: exp.Join) -> str:
    """``inner join``, ``left join``, ``asof left join`` ...: one name for each meaning."""
    kind, side, method = ((join.args.get(name) or "").lower() for name in ("kind", "side", "method"))
    if method == "natural":
        raise UnreadableError("NATURAL JOIN is not followed")
    if kind in ("semi", "anti"):
        side = ""
    elif side or kind == "outer":
        kind = ""
    elif kind not in ("cross", "positional"):
        bounded = join.args.get("on") is not None or join.args.get("using") or method
        kind = "inner" if bounded else "cross"
    return " ".join(word for word in (method, side, kind, "join") if word)


def _join_part(kind: str, source: Source, conditions: list[Part]) -> Part:
    what = ", ".join(part.sql for part in source.query.parts if part.kind == "from")
    on = " and ".join(part.sql for part in conditions)
    key = digest(kind, sorted(source.query.relations), sorted(part.key for part in conditions))
    return Part(kind, f"{what}{' on ' if on else ''}{on}", key)
