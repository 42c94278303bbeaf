"""What an expression computes, whatever the names in it and the way it is written: a number that stands for it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlglot import exp

from materializer.lineage.expressions import identifier_name
from materializer.lineage.relations import ROWS, Ref, Relation
from materializer.lineage.select import Select
from materializer.lineage.sources import Entry

# Both sides may change places.
_EITHER_WAY = (exp.EQ, exp.NEQ, exp.Add, exp.Mul, exp.NullSafeEQ, exp.NullSafeNEQ)
# Parts of a tree that say nothing about what is computed.
_SILENT = ("comments", "_type", "big_int", "quoted", "alias", "copy", "safe", "requires_string", "date_part_boundary")


class Unknown(Exception):
    """Raised where what a column computes cannot be told: it is like no other."""


class Expressions:
    """Numbers for expressions: equal where these compute the same. What names stand for, a subclass says."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}

    def column(self, ref: Ref) -> int:
        """The number of a column of a relation."""
        raise NotImplementedError

    def rows(self, relation: Relation) -> int:
        """The number of a relation's rows."""
        raise NotImplementedError

    def gathered_rows(self, select: Select) -> int:
        """The number of the rows of a SELECT as its aggregates see them: what it reads, filtered and grouped."""
        raise NotImplementedError

    def windowed_rows(self, select: Select) -> int:
        """The number of the rows of a SELECT as its window functions see them."""
        raise NotImplementedError

    def placed(self, select: Select, ref: Ref, entry: Entry | None = None) -> int:
        """The number of a column that a SELECT reads, and of where in its FROM it does."""
        raise NotImplementedError

    def number(self, *structure: Any) -> int:
        """The number that stands for a structure, the same for equal ones."""
        return self._numbers.setdefault(structure, len(self._numbers))

    def number_of(self, parts: Iterable[int]) -> int:
        """One number for several columns that a name means at once."""
        listed = tuple(sorted(parts))
        return listed[0] if len(listed) == 1 else self.number("merged", listed)

    def expression(self, node: Any, select: Select, path: tuple[str, ...] = ()) -> int:
        if isinstance(node, exp.Struct) and path:
            return self._field(node, select, path)
        if isinstance(node, (exp.Paren, exp.Alias)):
            return self.expression(node.this, select)
        if isinstance(node, exp.Column):
            return self._name(node, select, path)
        if path:
            return self.number("field", path, self.expression(node, select))
        if isinstance(node, exp.Query):
            relation = select.subquery(node)
            outputs = relation.outputs()
            if not outputs:
                raise Unknown
            return self.number(
                "query", self.rows(relation), tuple(self.column(Ref(relation, one.name)) for one in outputs)
            )
        if isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            return self.number("exists", self.rows(select.subquery(node.this)))
        if isinstance(node, exp.Literal):
            return self.number("literal", node.is_string, node.name if node.is_string else _plain_number(node.name))
        if isinstance(node, exp.Interval):
            return self.number("interval", *self._interval(node, select))
        if isinstance(node, (exp.And, exp.Between)):
            return self.number("And", tuple(sorted(self.conditions(node, select))))
        if isinstance(node, exp.Or):
            return self.number("Or", tuple(sorted({self.expression(one, select) for one in node.flatten()})))
        if isinstance(node, exp.In) and node.expressions:
            return self.number(
                "in",
                self.expression(node.this, select),
                tuple(sorted(self.expression(e, select) for e in node.expressions)),
            )
        if isinstance(node, _EITHER_WAY):
            return self.number(
                type(node).__name__,
                tuple(sorted(self.expression(one, select) for one in (node.this, node.expression))),
            )
        if isinstance(node, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            sides = [self.expression(node.this, select), self.expression(node.expression, select)]
            turned = isinstance(node, (exp.GT, exp.GTE))
            return self.number(isinstance(node, (exp.GTE, exp.LTE)), *(reversed(sides) if turned else sides))
        if isinstance(node, exp.If) and not isinstance(node.parent, exp.Case):
            return self.expression(
                exp.Case(
                    ifs=[exp.If(this=node.this.copy(), true=node.args["true"].copy())], default=node.args.get("false")
                ),
                select,
            )
        if isinstance(node, exp.Count) and isinstance(node.this, (exp.Star, exp.Literal)):
            of = 0 if is_windowed(node) else self.gathered_rows(select)
            return self.number("count", ROWS, of)
        if isinstance(node, exp.Window):
            return self._window_function(node, select)
        if isinstance(node, exp.DataType):
            return self.number("type", node.sql().upper())
        return self._any(node, select)

    def conditions(self, node: exp.Expression, select: Select) -> frozenset[int]:
        """The numbers of the conditions that must all hold, each by itself."""
        node = node.unnest()
        if isinstance(node, exp.And):
            return frozenset().union(*(self.conditions(one, select) for one in node.flatten()))
        if isinstance(node, exp.Between):
            low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
            high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
            return frozenset((self.expression(low, select), self.expression(high, select)))
        return frozenset((self.expression(node, select),))

    def _field(self, node: exp.Struct, select: Select, path: tuple[str, ...]) -> int:
        """A field of a struct that is made here."""
        for item in node.expressions:
            if isinstance(item, (exp.PropertyEQ, exp.Alias)):
                name = item.this.name if isinstance(item, exp.PropertyEQ) else item.alias
                if name.casefold() == path[0].casefold():
                    value = item.expression if isinstance(item, exp.PropertyEQ) else item.this
                    return self.expression(value, select, path[1:])
        raise Unknown

    def _any(self, node: exp.Expression, select: Select) -> int:
        """Any other expression: its kind, and its parts under their names."""
        parts = []
        for key, value in sorted(node.args.items()):
            if key in _SILENT or value is None or value is False or value == []:
                continue
            if isinstance(value, list):
                parts.append((key, tuple(self._part(one, select) for one in value)))
            else:
                parts.append((key, self._part(value, select)))
        if isinstance(node, exp.AggFunc) and not is_windowed(node):
            parts.append(("over", self.gathered_rows(select)))
        return self.number(type(node).__name__, *parts)

    def _part(self, value: Any, select: Select) -> Any:
        if isinstance(value, exp.Identifier):
            return value.name.casefold()
        if isinstance(value, exp.Expression):
            return self.expression(value, select)
        return value.lower() if isinstance(value, str) else repr(value)

    def _name(self, node: exp.Column, select: Select, path: tuple[str, ...]) -> int:
        names = tuple(identifier_name(part) for part in node.parts)
        entry = next((one for one in select.entries if one.rest(names)), None)
        if isinstance(node.this, exp.Star):
            found = select.all_columns(names[:-1])
        else:
            found = select.resolve(names)
            alias = None if found.refs else select.alias(names[0])
            if alias is not None and node not in alias.find_all(exp.Column):
                return self.expression(alias, select, names[1:] + path)
        if not found.refs or found.problem:
            raise Unknown
        refs = [Ref(ref.relation, ref.name, ref.path + path) for ref in found.refs]
        if any(all(one.relation is not ref.relation for one in select.entries) for ref in refs):
            return self.number_of(self.number("outer", self.column(ref)) for ref in refs)  # a correlated subquery
        return self.number_of(self.placed(select, ref, entry) for ref in refs)

    def _interval(self, node: exp.Interval, select: Select) -> tuple[Any, ...]:
        unit = node.args.get("unit")
        name = (unit.name if unit is not None else "").lower().removesuffix("s")
        if isinstance(node.this, exp.Literal):
            words = node.this.name.split()
            if len(words) == 2 and not name:
                return (_plain_number(words[0]), words[1].lower().removesuffix("s"))
            return (_plain_number(node.this.name), name)
        return (self.expression(node.this, select) if node.this is not None else None, name)

    def _window_function(self, node: exp.Window, select: Select) -> int:
        named = node.args.get("alias")
        over = select.window(named.name) if named is not None else None
        partition = [*(node.args.get("partition_by") or ()), *((over.args.get("partition_by") or ()) if over else ())]
        order = node.args.get("order") or (over.args.get("order") if over else None)
        spec = node.args.get("spec") or (over.args.get("spec") if over else None)
        return self.number(
            "window",
            self.expression(node.this, select),
            tuple(sorted({self.expression(one, select) for one in partition})),
            tuple(self.expression(one, select) for one in (order.expressions if order else ())),
            None if spec is None else self._any(spec, select),
            self.windowed_rows(select),
        )


def is_windowed(node: exp.Expression) -> bool:
    """Whether an aggregate stands under OVER."""
    child, parent = node, node.parent
    while isinstance(parent, (exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)):
        child, parent = parent, parent.parent
    return isinstance(parent, exp.Window) and parent.this is child


def _plain_number(text: str) -> str:
    """A number without the zeros and exponents that change nothing; whole numbers stay apart from decimals."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text.lower()
    whole = text.isdigit()
    return ("" if whole else "~") + format(value.normalize(), "f")
