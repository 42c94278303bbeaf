"""Expressions of one SELECT as columns with keys that do not depend on how they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from materializer.diff.meaning import Column, Part, Query, UnreadableError, all_reads, digest

if TYPE_CHECKING:
    from materializer.diff.queries import Reader, Scope

_EITHER_WAY = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add, exp.Mul)
_TURNED = {exp.GT: exp.LT, exp.GTE: exp.LTE}
_QUERIES = (exp.Subquery, exp.Select, exp.SetOperation)
_TRUTHS = (exp.Connector, exp.Predicate, exp.Not)
# Where count() is known to give a bigint.
_COUNTS_IN_BIGINT = ("duckdb", "postgres", "redshift", "spark", "databricks")


class Expressions:
    """Turns the expressions of a SELECT into columns; names are looked up in its scope."""

    def __init__(self, reader: Reader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope
        # The rows that a window function looks at, once FROM and WHERE are read.
        self.query = Query({}, "")

    def column(self, node: exp.Expression) -> Column:
        """What a select item means; one that only names a column is that column."""
        while isinstance(node, (exp.Paren, exp.Alias)):
            node = node.this
        children: list[Column] = []
        tree = self._tree(node, (), children)
        if isinstance(tree, Column):
            return tree
        reads = all_reads(children)
        keys = digest(_keys(tree, _key)), digest(_keys(tree, _exact))
        return Column(*keys, "", reads, node, tuple(children), self._type(node, children))

    def part(self, node: exp.Expression, kind: str = "") -> tuple[Part, Column]:
        """A condition, or another expression that decides rows."""
        column = self.column(node)
        sql = node.sql(dialect=self._reader.dialect, comments=False)
        return Part(kind, sql, digest(kind, column.key)), column

    def equality(self, left: Column, right: Column, name: str) -> tuple[Part, Column]:
        """``left = right``, as USING says it."""
        tree = _either_way("EQ", left, right)
        keys = digest(_keys(tree, _key)), digest(_keys(tree, _exact))
        column = Column(*keys, name, left.reads | right.reads, None, (left, right))
        return Part("", name, digest("", column.key)), column

    def _tree(self, node: Any, given: tuple[str, ...], children: list[Column]) -> Any:
        """Nested tuples with columns at their leaves. `given` are the names that lambdas around give."""

        def walk(one: Any) -> Any:
            return self._tree(one, given, children)

        if isinstance(node, (list, tuple)):
            return [walk(one) for one in node]
        if not isinstance(node, exp.Expression):
            return str(node)
        if isinstance(node, (exp.Paren, exp.Alias)):
            return walk(node.this)
        if isinstance(node, exp.Column):
            return self._name(node, given, children)
        if isinstance(node, exp.Identifier):
            return ("given", given.index(node.name)) if node.name in given else ("name", node.name)
        if isinstance(node, _QUERIES):
            children.append(self._reader.subquery(node, self._scope))
            return children[-1]
        if isinstance(node, exp.Columns):
            raise UnreadableError("COLUMNS(...) is not followed")
        if isinstance(node, exp.Lambda):
            names = tuple(one.name for one in node.expressions)
            return "lambda", len(names), self._tree(node.this, (*names, *given), children)
        if isinstance(node, exp.Connector):
            operands = [walk(one) for one in node.flatten()]
            return (type(node).__name__, *_sorted(operands))
        if isinstance(node, _EITHER_WAY):
            return _either_way(type(node).__name__, walk(node.this), walk(node.expression))
        if type(node) in _TURNED:
            return _TURNED[type(node)].__name__, walk(node.expression), walk(node.this)
        if isinstance(node, (exp.LT, exp.LTE)):
            return type(node).__name__, walk(node.this), walk(node.expression)
        if isinstance(node, exp.In) and node.expressions:
            return "In", walk(node.this), _sorted([walk(one) for one in node.expressions])
        if isinstance(node, exp.Window):
            children.append(self._window(node, given))
            return children[-1]
        if isinstance(node, exp.Interval) and node.args.get("unit") is not None:
            return "Interval", walk(node.this), node.args["unit"].name.upper().removesuffix("S")
        if isinstance(node, exp.Anonymous):
            return "Function", node.name.lower(), [walk(one) for one in node.expressions]
        arguments = [
            (name, walk(value)) for name, value in sorted(node.args.items()) if value is not None and value != []
            and value is not False
        ]  # fmt: skip
        return (type(node).__name__, *arguments)

    def _name(self, node: exp.Column, given: tuple[str, ...], children: list[Column]) -> Any:
        """``column``, ``source.column``, ``column.field``, ``source.column.field`` ..."""
        if isinstance(node.this, exp.Star):
            return "rows of", node.table
        names = [part.name for part in node.parts]
        if names[0] in given:
            return "given", given.index(names[0]), names[1:]
        place = next((i for i, name in enumerate(names[:-1]) if self._scope.has(name)), None)
        if place is None:
            found, fields = self._scope.find(names[0]), names[1:]
        else:
            found, fields = self._scope.find(names[place + 1], names[place]), names[place + 2 :]
        if found is None:
            unknown = digest("unknown", names)
            found, fields = Column(unknown, unknown, f"{'.'.join(names)} (no such column)"), []
        children.append(found)
        return ("field", found, fields) if fields else found

    def _window(self, node: exp.Window, given: tuple[str, ...]) -> Column:
        """A window function, which depends on the rows beside its own."""
        children: list[Column] = []
        arguments = dict(node.args)
        named = self._scope.windows.get(node.alias) if node.args.get("alias") else None
        if named is not None:
            arguments |= {name: value for name, value in named.args.items() if value and not arguments.get(name)}
        partition = _sorted([self._tree(one, given, children) for one in arguments.get("partition_by") or ()])
        rest = [(name, self._tree(arguments.get(name), given, children)) for name in ("this", "order", "spec", "first")]
        relations = sorted(self.query.relations)
        key, exact = (digest(relations, _keys([partition, rest], kind)) for kind in (_key, _exact))
        reads = all_reads(children)
        type_ = self._type(node.this, children)
        return Column(key, digest(self.query.rows, exact), "", reads, node, tuple(children), type_)

    def _type(self, node: exp.Expression, children: list[Column]) -> str | None:
        if isinstance(node, exp.Cast):
            return node.to.sql(dialect=self._reader.dialect).lower()
        if isinstance(node, exp.Count) and self._reader.dialect in _COUNTS_IN_BIGINT:
            return "bigint"
        return "boolean" if isinstance(node, _TRUTHS) else None


def conjuncts(node: exp.Expression | None) -> list[exp.Expression]:
    """The conditions that a WHERE, ON, HAVING or QUALIFY joins by AND."""
    if node is None:
        return []
    if isinstance(node, (exp.Where, exp.Having, exp.Qualify, exp.Paren)):
        return conjuncts(node.this)
    if isinstance(node, exp.And):
        return [*conjuncts(node.this), *conjuncts(node.expression)]
    return [node]


def aggregates(node: exp.Expression) -> bool:
    """Whether an expression makes one value of the rows of a group; with OVER it does not."""
    if isinstance(node, _QUERIES):
        return False
    if isinstance(node, exp.Window):
        function = node.this
        while isinstance(function, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)):
            function = function.this
        return any(aggregates(one) for one in function.iter_expressions())
    return isinstance(node, exp.AggFunc) or any(aggregates(one) for one in node.iter_expressions())


def _key(column: Column) -> str:
    return column.key


def _exact(column: Column) -> str:
    return column.exact


def _keys(tree: Any, key: Callable[[Column], str]) -> Any:
    if isinstance(tree, Column):
        return "column", key(tree)
    if isinstance(tree, (list, tuple)):
        return tuple(_keys(one, key) for one in tree)
    return tree


def _sorted(trees: list[Any]) -> list[Any]:
    return sorted(trees, key=lambda tree: digest(_keys(tree, _exact)))


def _either_way(name: str, left: Any, right: Any) -> Any:
    return (name, *_sorted([left, right]))
