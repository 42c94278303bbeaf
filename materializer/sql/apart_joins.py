"""What the joins of a SELECT say of its tables' columns: which are equal, and whose rows may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

Pair = tuple[exp.Column, exp.Column]
# Equal values of these may differ all the same: -0.0 and 0.0.
_INEXACT = ("FLOAT", "DOUBLE", "REAL")


class Joins:
    """The joins of one SELECT.

    Args:
        type_of: of a column the type that it is declared with; None where that is not known.
    """

    def __init__(self, select: exp.Select, type_of: Callable[[exp.Column], str | None]) -> None:
        self.by_name = {join.alias_or_name: join for join in select.args.get("joins") or ()}
        self._type_of = type_of
        where = select.args.get("where")
        self._filtered = list(_equalities(where.this)) if where else []
        # Equalities that count for nothing, as whether both columns are of one type is not known.
        self.of_two_types: list[Pair] = []

    def equal(self, name: str = "") -> list[set[str]]:
        """Columns that are equal in every row; with `name`, in every row that one of that table's rows is in.

        An outer join's condition holds for the rows of its other side alone, and so for those joined to them by an
        equality, which takes a value. Only within one type does equal mean the same key.
        """
        pairs = list(self._filtered)
        waiting = {key: list(_equalities(join.args.get("on"))) for key, join in self.by_name.items()}
        for key, join in self.by_name.items():
            if not join.side and join.kind not in ("SEMI", "ANTI"):
                pairs += waiting.pop(key)
        reached = {name}
        while opened := [key for key in waiting if key in reached]:
            for key in opened:
                found = waiting.pop(key)
                pairs += found
                reached |= {column.table for pair in found for column in pair}
        if name:  # of a RIGHT or FULL join the other side is whatever stands before it
            for key in list(waiting):
                if self.by_name[key].side in ("RIGHT", "FULL") and self._before(name, key):
                    pairs += waiting.pop(key)
        classes: list[set[str]] = []
        for pair in (pair for pair in pairs if self._of_one_type(pair)):
            texts = {column.sql() for column in pair}
            joined = [one for one in classes if one & texts]
            classes = [one for one in classes if one not in joined] + [texts.union(*joined)]
        return classes

    def written_alike(self, part: exp.Expression) -> exp.Expression:
        """An expression with columns that are equal in every row written as one of them."""
        classes = self.equal() if self.by_name else []

        def first(column: exp.Column) -> exp.Expression:
            equal = next((one for one in classes if column.sql() in one), None)
            return column_of(min(equal)) if equal else column

        return replaced(part, first)

    def may_be_missing(self, name: str) -> bool:
        """Whether an outer join gives rows without a row of this table."""
        own = self.by_name.get(name)
        if own is not None and own.side in ("LEFT", "FULL"):
            return True
        after = own is None
        for other, join in self.by_name.items():
            after = after or own is join
            if after and other != name and join.side in ("RIGHT", "FULL"):
                return True
        return False

    def merged(self, part: exp.Expression, name: str) -> exp.Column | None:
        """The column of a table that ``coalesce`` of equal columns of a FULL join stands for in its rows."""
        part = part.unnest() if isinstance(part, exp.Paren) else part
        if not isinstance(part, exp.Coalesce) or "FULL" not in [join.side for join in self.by_name.values()]:
            return None
        each = [one for one in (part.this, *part.expressions) if isinstance(one, exp.Column)]
        mine = [one for one in each if one.table == name]
        together = any({one.sql() for one in each} <= texts for texts in self.equal(name))
        return mine[0].copy() if mine and together and len(each) == 1 + len(part.expressions) else None

    def _before(self, name: str, other: str) -> bool:
        """Whether a table stands before another in the FROM."""
        order = list(self.by_name)
        return name not in order or order.index(name) < order.index(other)

    def _of_one_type(self, pair: Pair) -> bool:
        one, other = map(self._type_of, pair)
        alike = one is not None and one == other and one not in _INEXACT
        if not alike and pair not in self.of_two_types:
            self.of_two_types.append(pair)
        return alike


def column_of(text: str) -> exp.Column:
    """A column from what `sql()` gave of it."""
    return exp.maybe_parse(text, into=exp.Column)


def replaced(part: exp.Expression, new: Callable[[exp.Column], exp.Expression]) -> exp.Expression:
    """An expression with each of its columns replaced."""
    return part.copy().transform(lambda one: new(one) if isinstance(one, exp.Column) else one)


def columns_in(parts: Sequence[exp.Expression]) -> list[exp.Column]:
    """The columns of expressions."""
    return [column for part in parts for column in part.find_all(exp.Column)]


def _equalities(condition: exp.Expression | None) -> Iterator[Pair]:
    """The columns that a condition says are equal."""
    for one in condition.flatten() if isinstance(condition, exp.And) else filter(None, [condition]):
        one = one.unnest()
        if isinstance(one, exp.And):
            yield from _equalities(one)
        elif isinstance(one, exp.EQ) and isinstance(one.this, exp.Column) and isinstance(one.expression, exp.Column):
            yield one.this, one.expression
