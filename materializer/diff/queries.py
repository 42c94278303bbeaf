"""Reads a model's SQL into its meaning (`materializer.diff.meaning`), through CTEs and subqueries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from materializer.diff.expressions import Expressions, aggregates, conjuncts
from materializer.diff.meaning import (
    EPHEMERAL,
    Column,
    Part,
    Query,
    UnreadableError,
    all_reads,
    check_followed,
    decided,
    digest,
    each_once,
    filtered,
    made_from,
    outside,
    renamed,
)
from materializer.diff.scope import Scope
from materializer.diff.sources import Sources

_PARTS_OF_A_SELECT = (
    "expressions", "from_", "joins", "laterals", "where", "group", "having", "qualify", "windows", "distinct", "order",
    "limit", "offset", "sample",
)  # fmt: skip


class Reader:
    """Reads queries of one dialect.

    Args:
        dialect: sqlglot's name of it.
        find: gives the relation that a table in SQL is.
    """

    def __init__(self, dialect: str, find: Callable[[str], Query]) -> None:
        self.dialect = dialect
        self.find = find

    def read(self, sql: str) -> Query:
        """The meaning of a whole SELECT.

        Raises:
            UnreadableError: where it cannot be parsed or followed.
        """
        try:
            tree = sqlglot.parse_one(sql, dialect=self.dialect)
            for name in tree.find_all(exp.Identifier):
                name.set("this", name.name.lower())
            if tree.args.get("order") and not any(tree.args.get(one) for one in ("limit", "offset", "distinct")):
                tree.set("order", None)  # a table has no order; within a query a function may depend on it
            return self.query(tree, Scope({}))
        except SqlglotError as error:
            first = (getattr(error, "errors", None) or [{}])[0]
            raise UnreadableError(" ".join((first.get("description") or str(error)).split())) from None
        except RecursionError:
            raise UnreadableError("it is nested too deeply") from None
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            # Trees differ from dialect to dialect; one that is not as expected costs precision, no more.
            raise UnreadableError(f"its form is not known here: {type(error).__name__}") from None

    def query(self, node: exp.Expression, around: Scope) -> Query:
        """The meaning of a query within another; `around` has the CTEs in reach and the query that it may refer to."""
        scope = self._with_ctes(node, around)
        if isinstance(node, exp.Select):
            return self._select(node, scope)
        if isinstance(node, exp.Subquery):
            return self._limited(self.query(node.this, scope), node, scope)
        if isinstance(node, exp.SetOperation):
            return self._limited(self._set_operation(node, scope), node, scope)
        if isinstance(node, exp.Values):
            return Sources(self, scope).generated(node, [])
        raise UnreadableError(f"{type(node).__name__.upper()} is not followed")

    def subquery(self, node: exp.Expression, scope: Scope) -> Column:
        """A query inside of an expression, as a value."""
        name = node.sql(dialect=self.dialect, comments=False)
        return self.query(node, Scope(scope.ctes, outer=scope)).as_value(name)

    def _with_ctes(self, node: exp.Expression, around: Scope) -> Scope:
        """A scope for the query itself, with its own CTEs."""
        ctes = dict(around.ctes)
        with_ = node.args.get("with_")
        for cte in with_.expressions if with_ else ():
            names = [column.name for column in cte.args["alias"].args.get("columns") or ()]
            inside = Scope(dict(ctes), around.outer)
            if cte.alias.startswith(EPHEMERAL):
                ctes[cte.alias] = self.find(cte.alias)
                continue
            if with_.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                start = renamed(self.query(cte.this.this, inside), names)
                itself = {
                    name: outside("the rows before", str(place), column.type)
                    for place, (name, column) in enumerate(start.columns.items())
                }
                before = Query(itself, digest("the rows before"), relations=frozenset({"the rows before"}))
                inside = Scope({**ctes, cte.alias: before}, around.outer)
            ctes[cte.alias] = renamed(self.query(cte.this, inside), names)
        return Scope(ctes, around.outer)

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Query:
        left, right = self.query(node.this, scope), self.query(node.expression, scope)
        kind = f"{type(node).__name__.lower()}{'' if node.args.get('distinct') else ' all'}"
        others: list[Column | None] = list(right.columns.values())
        if node.args.get("by_name"):
            others = [right.column(name) for name in left.columns]
        columns = {}
        for place, (name, column) in enumerate(left.columns.items()):
            # Where it is not known what stands at that place, it depends on the whole of the other side.
            other = (others[place] if place < len(others) else None) or right.as_value(name)
            type_ = column.type if column.type == other.type else None
            columns[name] = made_from(kind, name, [column, other], type_)
        if node.args.get("by_name"):
            columns |= {name: column for name, column in right.columns.items() if name not in columns}
        base, row_reads = digest(kind, left.rows, right.rows), left.row_reads | right.row_reads
        if left.unseen or right.unseen:
            base = digest(base, left.as_value("").exact, right.as_value("").exact)
        if kind != "union all":
            base = digest(base, [column.exact for column in columns.values()])
            row_reads |= all_reads(columns.values())
        own = Part(kind, "", digest(kind, sorted(left.relations), sorted(right.relations)))
        return Query(
            columns,
            base,
            unseen=tuple(dict.fromkeys(left.unseen + right.unseen)),
            parts=each_once((*left.parts, *right.parts, own)),
            relations=left.relations | right.relations,
            row_reads=row_reads,
        )

    def _select(self, node: exp.Select, scope: Scope) -> Query:
        check_followed(node, *_PARTS_OF_A_SELECT)
        sources = Sources(self, scope)
        query = sources.read(node)
        values = Expressions(self, scope)
        scope.windows |= {window.name: window for window in node.args.get("windows") or ()}
        query = filtered(query, "where", [values.part(one) for one in conjuncts(node.args.get("where"))])

        values.query = query
        columns: dict[str, Column] = {}
        unseen: list[str] = []
        aggregated: set[str] = set()
        for place, projection in enumerate(node.expressions):
            if projection.is_star:
                found, more = sources.star(projection, values)
                unseen += more
            else:
                name = projection.alias_or_name or f"column {place}"
                found = {name: values.column(projection)}
                aggregated |= {name} if aggregates(projection) else set()
            for name, column in found.items():
                columns.setdefault(name, column)
                scope.aliases.setdefault(name, column)

        query = self._grouped(query, node, columns, aggregated, values)
        relations = sorted(query.relations)
        for name in aggregated:
            column = columns[name]
            exact = digest(relations, query.rows, column.exact)
            columns[name] = scope.aliases[name] = replace(column, key=digest(relations, column.key), exact=exact)
        query = filtered(query, "qualify", [values.part(one) for one in conjuncts(node.args.get("qualify"))])
        query = replace(query, columns=columns, unseen=tuple(dict.fromkeys(unseen)))
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is None:
            base = digest("distinct", query.rows, sorted(column.exact for column in columns.values()))
            part = Part("distinct", "", digest("distinct"))
            query = decided(query, base, [part], all_reads(columns.values()))
        return self._limited(query, node, scope)

    def _grouped(
        self, query: Query, node: exp.Select, columns: dict[str, Column], aggregated: set[str], values: Expressions
    ) -> Query:
        """With GROUP BY and HAVING; adds to `aggregated` what is not grouped by."""
        group, having = node.args.get("group"), node.args.get("having")
        names = list(columns)
        keys: list[Column] = []
        if group is not None:
            check_followed(group, "expressions", "all", "cube", "rollup", "grouping_sets")
        if group is None:
            if not any(aggregates(one) for one in (*node.expressions, *([having] if having else []))):
                return query
        elif group.args.get("all"):
            keys = [columns[name] for name in names if name not in aggregated]
        else:
            for expression in group.expressions:
                place = int(expression.this) if isinstance(expression, exp.Literal) and expression.is_int else 0
                named = columns[names[place - 1]] if 0 < place <= len(names) else None
                keys.append(named or values.column(expression))
            for special in ("cube", "rollup", "grouping_sets"):
                keys += [values.column(one) for one in group.args.get(special) or ()]
        grouped_by = {column.key for column in keys}
        aggregated |= {name for name, column in columns.items() if column.key not in grouped_by}
        own = Part("group by", ", ".join(key.sql(self.dialect) for key in keys), digest("group", sorted(grouped_by)))
        base = digest("group", query.rows, sorted(column.exact for column in keys))
        query = decided(query, base, [own], all_reads(keys))
        return filtered(query, "having", [values.part(one) for one in conjuncts(having)])

    def _limited(self, query: Query, node: exp.Expression, scope: Scope) -> Query:
        """With DISTINCT ON, LIMIT, OFFSET, and the ORDER BY that they go by."""
        distinct, order = node.args.get("distinct"), node.args.get("order")
        found = [("distinct on", distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None)]
        found += [("order by", order), *((name, node.args.get(name)) for name in ("limit", "offset", "sample"))]
        given = [(name, one) for name, one in found if one is not None]
        if not given:
            return query
        if not isinstance(node, exp.Select):  # its columns are what it may be ordered by
            scope = Scope(scope.ctes, scope.outer, aliases=dict(query.columns))
        values = Expressions(self, scope)
        deciding = [values.part(one, name) for name, one in given]
        base = digest("limit", query.rows, [column.exact for _, column in deciding])
        return decided(query, base, [part for part, _ in deciding], all_reads(column for _, column in deciding))
