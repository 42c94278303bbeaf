"""What an expression computes, whatever the names in it and the way it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlglot import exp

from materializer.sql.meaning import UNKNOWN, Column, Key, Query, Text, UnreadableError, all_reads, digest, keyed

_QUERIES = (exp.Subquery, exp.Select, exp.SetOperation)
_EITHER_WAY = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add, exp.Mul)
_TURNED = {exp.GT: exp.LT, exp.GTE: exp.LTE}
_TRUTHS = (exp.Connector, exp.Predicate, exp.Not)
# Parts of a tree that say nothing about what is computed.
_SILENT = ("big_int", "quoted")
# Where count() is known to give a bigint, and where + also joins texts.
_COUNTS_IN_BIGINT = ("duckdb", "postgres", "redshift", "spark", "databricks")
_JOINS_TEXTS = ("tsql", "fabric", "bigquery")


@dataclass
class Source:
    """One item of a FROM clause. `optional` where a join may leave it without a row, `copy` where an earlier item
    reads the same relations."""

    query: Query
    copy: str = ""
    optional: bool = False

    def column(self, name: str) -> Column | None:
        """Its column, marked so that it is not taken for the same one met elsewhere."""
        column = self.query.column(name)
        if column is not None and self.copy:
            column = column.seen_from(self.copy)
        if column is not None and self.optional and (column.made is not None or column.children):
            column = column.seen_from(("optional", sorted(self.query.relations)))
        return column


@dataclass
class Scope:
    """Where the names of one SELECT are looked up; `query` has its rows, as far as they are read."""

    ctes: Mapping[str, Query]
    outer: Scope | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    aliases: dict[str, Column] = field(default_factory=dict)
    windows: dict[str, exp.Window] = field(default_factory=dict)
    query: Query = field(default_factory=lambda: Query({}, ""))

    def find(self, name: str, table: str) -> Column | None:
        """The column that a name means: of a FROM item here or around; without a table, of the query itself."""
        if not table:
            return self.aliases.get(name)
        if table in self.sources:
            return self.sources[table].column(name)
        around = self.outer.find(name, table) if self.outer else None
        return around.seen_from("around") if around else None


class Expression:
    """One expression of a SELECT.

    Args:
        scope: of the SELECT.
        dialect: sqlglot's name of it.
        subquery: reads a query within the expression.
        given: the names that lambdas around it give.
    """

    def __init__(
        self,
        scope: Scope,
        dialect: str,
        subquery: Callable[[exp.Expression, Scope], Query],
        given: tuple[str, ...] = (),
    ) -> None:
        self._scope, self._dialect, self._subquery, self._given = scope, dialect, subquery, given
        self._children: list[Column] = []

    def column(self, node: exp.Expression) -> Column:
        """What it means; one that only names a column is that column."""
        while isinstance(node, (exp.Paren, exp.Alias)):
            node = node.this
        key = self._window(node) if isinstance(node, exp.Window) else self._key(node)
        if isinstance(key, Column):
            return key
        fields = {}
        for item in node.expressions if isinstance(node, exp.Struct) else ():
            if isinstance(item, exp.PropertyEQ):
                fields[item.this.name] = self._inner(item.expression)
        children = tuple(self._children)
        text, type_ = self._text(node), self._type(node)
        return Column(key.key, key.exact, text, all_reads(children), node, children, type_, fields)

    def _inner(self, node: exp.Expression) -> Column:
        """A part of the expression as a column of its own."""
        return Expression(self._scope, self._dialect, self._subquery, self._given).column(node)

    def _text(self, node: exp.Expression) -> Text:
        return Text((node,), self._dialect)

    def _child(self, column: Column) -> Column:
        self._children.append(column)
        return column

    def _key(self, node: Any) -> Any:
        """Texts, keys and columns, in nested lists."""
        walk = self._key
        if isinstance(node, (list, tuple)):
            return [walk(one) for one in node]
        if not isinstance(node, exp.Expression):
            return str(node)
        match node:
            case exp.Paren() | exp.Alias():
                return walk(node.this)
            case exp.Column():
                return self._name(node)
            case exp.TableColumn():
                return self._row(node.name)
            case exp.Identifier() if node.name in self._given:
                return keyed("given", self._given.index(node.name))
            case exp.Dot() if isinstance(node.expression, exp.Identifier):
                return self._field(self._inner(node.this), node.expression.name.lower())
            case exp.Subquery() | exp.Select() | exp.SetOperation():
                return self._child(self._query(node).as_value(self._text(node)))
            case exp.Exists() if isinstance(node.this, _QUERIES):
                rows = replace(self._query(node.this), columns={}, unseen=())
                return keyed("exists", self._child(rows.as_value(self._text(node.this))))
            case exp.Columns():
                raise UnreadableError("COLUMNS(...) is not followed")
            case exp.Lambda():
                names = tuple(one.name for one in node.expressions)
                inside = Expression(self._scope, self._dialect, self._subquery, (*names, *self._given))
                key = inside._key(node.this)
                self._children += inside._children
                return keyed("lambda", len(names), key)
            case exp.And() | exp.Between():
                return keyed("And", frozenset(walk(bound) for one in conjuncts(node) for bound in bounds(one)))
            case exp.Or():
                return keyed("Or", frozenset(map(walk, _flat(node, exp.Or))))
            case exp.GT() | exp.GTE():
                return keyed(_TURNED[type(node)].__name__, walk(node.expression), walk(node.this))
            case exp.LT() | exp.LTE():
                return keyed(type(node).__name__, walk(node.this), walk(node.expression))
            case exp.In() if node.expressions:
                return keyed("In", walk(node.this), frozenset(map(walk, node.expressions)))
            case exp.If() if not isinstance(node.parent, exp.Case):
                ifs = [exp.If(this=node.this.copy(), true=node.args["true"].copy())]
                return walk(exp.Case(ifs=ifs, default=node.args.get("false")))
            case exp.Count() if isinstance(node.this, (exp.Star, exp.Literal)):
                return keyed("count of rows")
            case exp.Window():
                return self._child(self._inner(node))
            case exp.Literal():
                return keyed("text", node.name) if node.is_string else keyed("number", _plain_number(node.name))
            case exp.Interval():
                return keyed("interval", *self._interval(node))
            case exp.DataType():
                return keyed("type", node.sql(dialect=self._dialect).upper())
        if isinstance(node, _EITHER_WAY) and not (isinstance(node, exp.Add) and self._dialect in _JOINS_TEXTS):
            return keyed(type(node).__name__, frozenset((walk(node.this), walk(node.expression))))
        folds = isinstance(node, (exp.Var, exp.WindowSpec, exp.Anonymous, exp.Identifier))
        arguments = [
            (name, walk(value.lower() if folds and isinstance(value, str) else value))
            for name, value in sorted(node.args.items())
            if name not in _SILENT and value is not None and value is not False and value != []
        ]
        return keyed(type(node).__name__, arguments)

    def _query(self, node: exp.Expression) -> Query:
        return self._subquery(node, Scope(self._scope.ctes, outer=self._scope))

    def _name(self, node: exp.Column) -> Any:
        if isinstance(node.this, exp.Star):
            return self._row(node.table)
        found = self._scope.find(node.name, node.table)
        if found is None:
            name = f"{node.table}.{node.name}" if node.table else node.name
            unknown = digest("unknown", name)
            found = Column(unknown, unknown, f"{name} (no such column)", frozenset({(UNKNOWN, name)}))
        elif node.meta.get("problem"):  # it may be another one
            found = found.doubted()
        return self._child(found)

    def _row(self, table: str) -> Column:
        """A whole row of a FROM item as one value."""
        source = self._scope.sources.get(table)
        if source is None:
            raise UnreadableError(f"'{table}' as a row is not followed")
        return self._child(source.query.as_value(table).seen_from(("row", source.copy, source.optional)))

    def _field(self, column: Column, name: str) -> Any:
        found = column.fields.get(name)
        return self._child(found) if found is not None else keyed("field", self._child(column), name)

    def _interval(self, node: exp.Interval) -> tuple[Any, str]:
        unit = node.args.get("unit")
        name = (unit.name if unit is not None else "").lower().removesuffix("s")
        if not isinstance(node.this, exp.Literal):
            return self._key(node.this), name
        words = node.this.name.split()
        if len(words) == 2 and not name:
            words, name = words[:1], words[1].lower().removesuffix("s")
        return _plain_number(" ".join(words)), name

    def _window(self, node: exp.Window) -> Key:
        """A window function, which depends on the rows beside its own."""
        arguments = dict(node.args)
        named = self._scope.windows.get(node.alias) if node.args.get("alias") else None
        if named is not None:
            arguments |= {name: value for name, value in named.args.items() if value and not arguments.get(name)}
        partition = frozenset(map(self._key, arguments.get("partition_by") or ()))
        rest = [(name, self._key(arguments.get(name))) for name in ("this", "order", "spec", "first")]
        key = keyed(sorted(self._scope.query.relations), partition, rest)
        return Key(key.key, digest(self._scope.query.events, key.exact))

    def _type(self, node: exp.Expression) -> str | None:
        while isinstance(node, (exp.Window, exp.Filter)):
            node = node.this
        if isinstance(node, exp.Cast):
            return node.to.sql(dialect=self._dialect).lower()
        if isinstance(node, exp.Count) and self._dialect in _COUNTS_IN_BIGINT:
            return "bigint"
        return "boolean" if isinstance(node, _TRUTHS) else None


def conjuncts(node: exp.Expression | None) -> list[exp.Expression]:
    """The conditions that a WHERE, ON, HAVING or QUALIFY joins by AND."""
    if isinstance(node, (exp.Where, exp.Having, exp.Qualify)):
        node = node.this
    return [] if node is None else _flat(node, exp.And)


def _flat(node: exp.Expression, kind: type[exp.Connector]) -> list[exp.Expression]:
    while isinstance(node, exp.Paren):
        node = node.this
    return [*_flat(node.this, kind), *_flat(node.expression, kind)] if isinstance(node, kind) else [node]


def bounds(node: exp.Expression) -> list[exp.Expression]:
    """The two conditions of a BETWEEN; any other one itself."""
    if not isinstance(node, exp.Between) or node.args.get("symmetric"):
        return [node]
    one, low, high = (node.args[name].copy() for name in ("this", "low", "high"))
    return [exp.GTE(this=one, expression=low), exp.LTE(this=one.copy(), expression=high)]


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


def spreads(node: exp.Expression) -> Iterator[exp.Expression]:
    """What in an expression makes several rows of one; subqueries apart."""
    inside = node.walk(prune=lambda one: isinstance(one, _QUERIES))
    return (one for one in inside if isinstance(one, (exp.Explode, exp.Unnest)))


def _plain_number(text: str) -> str:
    """A number without the zeros and exponents that change nothing; whole numbers stay apart from decimals."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text.lower()
    return ("" if text.isdigit() else "~") + format(value.normalize(), "f")
