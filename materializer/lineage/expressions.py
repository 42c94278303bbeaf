"""Which columns an expression reads, and how: their values, or only to decide which rows count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.lineage.relations import ROWS, Ref
from materializer.lineage.values import Kind

if TYPE_CHECKING:
    from materializer.lineage.select import Select

_RANKS = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile)
# The first argument of a function that sqlglot does not know may be a unit of time that only looks like a column.
_UNITS = {
    "microsecond", "millisecond", "second", "minute", "hour", "day", "dayofweek", "dow", "dayofyear", "doy", "week",
    "isoweek", "month", "quarter", "year", "epoch",
}  # fmt: skip
# Functions that give one of their first argument's values as it is, so that a field of theirs is a field of it.
_CHOOSES = (
    exp.Max, exp.Min, exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.First, exp.Last, exp.FirstValue, exp.LastValue,
    exp.NthValue, exp.Lag, exp.Lead, exp.IgnoreNulls, exp.RespectNulls, exp.Filter, exp.Window, exp.Paren, exp.Order,
    exp.Alias, exp.Explode, exp.ArrayAgg, exp.Distinct, exp.Limit, exp.HavingMax,
)  # fmt: skip
_CHOOSES_BY_NAME = {"arg_max_null", "arg_min_null", "max_by", "min_by", "list", "first", "last", "unnest"}


class Reading:
    """Collects what one expression reads in the scope of a SELECT."""

    def __init__(self, scope: Select) -> None:
        self.scope = scope
        self.inputs: dict[tuple[Ref, Kind], None] = {}
        self.problems: dict[str, None] = {}
        # Names that stand for a lambda's or a comprehension's own variable.
        self._own: list[str] = []
        # Aliases of the same SELECT that are being followed.
        self._aliases: list[str] = []

    def read(self, node: exp.Expression | None, kind: Kind = "value", path: tuple[str, ...] = ()) -> Reading:
        """Collect what `node` reads; with `path`, only what the field of that path of its struct reads."""
        if isinstance(node, exp.Column):
            self._column(node, kind, path)
        elif isinstance(node, exp.Query):
            self._subquery(node, kind, path)
        elif isinstance(node, exp.Star):
            self._rows(kind)
        elif isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            relation = self.scope.subquery(node.this)
            self.add(Ref(relation, ROWS), "filter" if kind == "filter" else "rows")
        elif isinstance(node, exp.Case):
            self._case(node, kind, path)
        elif isinstance(node, exp.If):
            self.read(node.this, self.scope.condition_kind(node, kind))
            self._all([node.args.get("true"), node.args.get("false")], kind, path)
        elif isinstance(node, exp.Window):
            self._window(node, kind, path)
        elif isinstance(node, exp.Filter):
            self.read(node.this, kind, path)
            self.read(node.expression, "filter")
        elif isinstance(node, exp.WithinGroup):
            # Of `percentile_cont(0.5) within group (order by x)` x is the value; `listagg(y)` has one already.
            self.read(node.this, kind, path)
            self.read(node.expression, "filter" if node.this.find(exp.Column) else kind)
        elif isinstance(node, exp.Order):
            self.read(node.this, kind, path)
            self._all(node.expressions, "filter" if node.this else kind)
        elif isinstance(node, (exp.Dot, exp.Bracket)):
            self._field(node, kind, path)
        elif isinstance(node, exp.Struct) or _is_row(node):
            self._struct(node, kind, path)
        elif isinstance(node, (exp.PropertyEQ, exp.Kwarg)):
            self.read(node.expression, kind, path)
        elif isinstance(node, exp.Lambda):
            self._with_own([one.name for one in node.expressions], [node.this], kind)
        elif isinstance(node, exp.Comprehension):
            self.read(node.args.get("iterator"), kind)
            own = [one.name for one in node.expression.find_all(exp.Identifier)]
            self._with_own(own, [node.this, node.args.get("condition")], kind)
        elif isinstance(node, exp.Columns):
            self.problems["COLUMNS(...) inside an expression stands for columns that are not known here."] = None
        elif isinstance(node, exp.Expression) and not isinstance(node, (exp.Identifier, exp.DataType, exp.Literal)):
            self._function(node, kind, path)
        return self

    def add(self, ref: Ref, kind: Kind) -> None:
        self.inputs[ref, kind] = None

    def _all(self, nodes: Iterable[object], kind: Kind, path: tuple[str, ...] = ()) -> None:
        for node in nodes:
            if isinstance(node, exp.Expression):
                self.read(node, kind, path)

    def _function(self, node: exp.Expression, kind: Kind, path: tuple[str, ...]) -> None:
        children = list(node.iter_expressions())
        if path:
            if isinstance(node, exp.Coalesce):
                return self._all(children, kind, path)
            if isinstance(node, exp.Cast):
                return self.read(node.this, kind, _in_cast(node, path)) and None
            named = isinstance(node, exp.Anonymous) and node.name.lower() in _CHOOSES_BY_NAME
            if isinstance(node, _CHOOSES) or named:
                first = node.expressions[0] if named and node.expressions else node.this
                self.read(first, kind, path)
                return self._all([child for child in children if child is not first], kind)
        counts = isinstance(node, (exp.AggFunc, *_RANKS)) and not isinstance(node, exp.Window)
        if counts and not node.find(exp.Column, exp.Query):
            return self._rows(kind)
        if isinstance(node, exp.Anonymous) and children and _is_unit(children[0], self.scope):
            children = children[1:]
        self._all(children, kind)
        return None

    def _rows(self, kind: Kind) -> None:
        for relation in self.scope.read_relations():
            self.add(Ref(relation, ROWS), "filter" if kind == "filter" else "rows")

    def _column(self, node: exp.Column, kind: Kind, path: tuple[str, ...]) -> None:
        names = tuple(identifier_name(part) for part in node.parts)
        if names[0] in self._own:
            return
        is_star = isinstance(node.this, exp.Star)
        found = self.scope.all_columns(names[:-1]) if is_star else self.scope.resolve(names)
        for ref in found.refs:
            self.add(Ref(ref.relation, ref.name, ref.path + path), kind)
        alias = None if found.refs or names[0] in self._aliases else self.scope.alias(names[0])
        if alias is not None:
            self._aliases.append(names[0])
            self.read(alias, kind, (*names[1:], *path))
            self._aliases.pop()
        if found.problem and (alias is None or (kind == "value" and "alias" in found.problem)):
            self.problems[found.problem] = None

    def _subquery(self, node: exp.Query, kind: Kind, path: tuple[str, ...]) -> None:
        relation = self.scope.subquery(node)
        outputs = relation.outputs()
        if outputs is None:
            self.problems[f"The columns of {relation.title} are not known."] = None
        for output in outputs or ():
            self.add(Ref(relation, output.name, path), kind)

    def _case(self, node: exp.Case, kind: Kind, path: tuple[str, ...]) -> None:
        self.read(node.this, kind)
        for branch in node.args["ifs"]:
            self.read(branch.this, self.scope.condition_kind(node, kind))
            self.read(branch.args.get("true"), kind, path)
        self.read(node.args.get("default"), kind, path)

    def _window(self, node: exp.Window, kind: Kind, path: tuple[str, ...]) -> None:
        if node.this.find(exp.Column, exp.Query):
            self.read(node.this, kind, path)
        else:
            self._rows(kind)
        while node is not None:
            self._all([*(node.args.get("partition_by") or ()), node.args.get("order"), node.args.get("spec")], "filter")
            named = node.args.get("alias")
            node = self.scope.window(named.name) if named is not None else None

    def _field(self, node: exp.Dot | exp.Bracket, kind: Kind, path: tuple[str, ...]) -> None:
        """``a.b``, ``a['b']``: the field b of what a gives; an index of a list passes the fields on."""
        if isinstance(node, exp.Dot):
            if isinstance(node.expression, exp.Identifier):
                # Inside of a lambda `e.a` begins with a bare identifier: its own variable.
                self.read(node.this, kind, (node.expression.name, *path))
            else:
                self._all([node.this, node.expression], kind)
            return
        (key, *rest) = node.expressions
        if isinstance(key, exp.Literal) and key.is_string and not rest:
            self.read(node.this, kind, (key.name, *path))
        else:
            self.read(node.this, kind, path)
            self._all([key, *rest], kind)

    def _struct(self, node: exp.Expression, kind: Kind, path: tuple[str, ...]) -> None:
        if path:
            for position, item in enumerate(node.expressions):
                if path[0].casefold() in (_field_name(item).casefold(), f"#{position}"):
                    return self.read(_field_value(item), kind, path[1:]) and None
        self._all([_field_value(item) for item in node.expressions], kind)
        return None

    def _with_own(self, names: list[str], nodes: list[exp.Expression | None], kind: Kind) -> None:
        self._own += names
        self._all(nodes, kind)
        del self._own[len(self._own) - len(names) :]


def identifier_name(node: exp.Expression) -> str:
    """A name as it is looked up: as it stands where it is quoted, else in lower case."""
    return node.name if node.args.get("quoted") else node.name.lower()


def _is_row(node: object) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() in ("row", "struct_pack", "named_struct")


def _field_name(item: exp.Expression) -> str:
    return item.this.name if isinstance(item, (exp.PropertyEQ, exp.EQ)) else item.alias_or_name


def _field_value(item: exp.Expression) -> exp.Expression:
    if isinstance(item, (exp.PropertyEQ, exp.EQ)):
        return item.expression
    return item.unalias()


def _in_cast(node: exp.Cast, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path inside of what is cast: a row has no names, so its fields go by position in the type."""
    fields = [one.name.casefold() for one in node.to.expressions if isinstance(one, exp.ColumnDef)]
    inner = node.this.this if isinstance(node.this, exp.Paren) else node.this
    if _is_row(inner) and path[0].casefold() in fields:
        return (f"#{fields.index(path[0].casefold())}", *path[1:])
    return path


def _is_unit(node: exp.Expression, scope: Select) -> bool:
    if not isinstance(node, exp.Column) or node.table or node.name.lower() not in _UNITS:
        return False
    return not scope.resolve((node.name.lower(),)).sure
