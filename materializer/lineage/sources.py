"""What stands in the FROM of a SELECT: tables, subqueries, functions, and how they are joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.lineage.expressions import Reading, identifier_name
from materializer.lineage.pivots import Pivoted
from materializer.lineage.relations import ROWS, Output, Outside, Ref, Relation, Step

if TYPE_CHECKING:
    from materializer.lineage.select import Select

# Functions that make rows from their arguments alone.
_GENERATORS = {
    "generate_series", "range", "unnest", "explode", "posexplode", "generator", "sequence", "generate_array",
    "generate_date_array", "generate_timestamp_array", "split_to_table", "flatten", "repeat_row", "table",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One item of a FROM. `hidden`: the right side of a semi or anti join, whose columns nobody sees."""

    alias: str
    relation: Relation
    # The parts of the table's name, where it has no alias and may be called by them.
    parts: tuple[str, ...] = ()
    join: exp.Join | None = None

    @property
    def hidden(self) -> bool:
        return self.join is not None and (self.join.kind or "").upper() in ("SEMI", "ANTI")

    def rest(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """What follows in a dotted name after the name of this item; empty where it does not begin with it."""
        for length in range(1, len(names)):
            called = tuple(name.casefold() for name in names[:length])
            if (length == 1 and called[0] == self.alias.casefold()) or (
                length > 1 and called == tuple(part.casefold() for part in self.parts[-length:])
            ):
                return names[length:]
        return ()


def entries_of(select: Select) -> list[Entry]:
    """The items of a SELECT's FROM, in order."""
    entries: list[Entry] = []
    args = select.select.args
    begin = args.get("from_") or args.get("from")
    if begin is not None:
        entries += _items(begin.this, None, select, entries)
    for join in args.get("joins") or ():
        entries += _items(join.this, join, select, entries)
    for lateral in args.get("laterals") or ():
        entries += _items(lateral, None, select, entries)
    return entries


def joined_by_name(entries: Sequence[Entry], name: str) -> list[Ref]:
    """What a bare name means that joins merge by USING or NATURAL; empty where none does."""
    merged: list[Ref] = []
    for place, entry in enumerate(entries):
        if not _merges(entry, name, entries[:place]):
            continue
        left = merged or _first_having(entries[:place], name)
        right = [] if entry.hidden else _first_having([entry], name)
        side = (entry.join.side or "").upper() if entry.join is not None else ""
        merged = left + right if side == "FULL" else (right if side == "RIGHT" else left) or right
    return merged


def compared_by_name(entries: Sequence[Entry], entry: Entry) -> Iterator[tuple[str, list[Ref]]]:
    """The names by which USING or NATURAL joins an item, each with the columns that are compared."""
    before = entries[: entries.index(entry)]
    for name in _names_joined(entry):
        if _merges(entry, name, before):
            yield name, _first_having(before, name) + _first_having([entry], name)


def _names_joined(entry: Entry) -> list[str]:
    if entry.join is None:
        return []
    if (entry.join.method or "").upper() == "NATURAL":
        return [output.name for output in entry.relation.outputs() or ()]
    return [identifier_name(name) for name in entry.join.args.get("using") or ()]


def _merges(entry: Entry, name: str, before: Sequence[Entry]) -> bool:
    if entry.join is None:
        return False
    if (entry.join.method or "").upper() == "NATURAL":
        sides = [one.relation.find(name) for one in (entry, *before)]
        return bool(sides[0] and sides[0].sure and any(side and side.sure for side in sides[1:]))
    return name.casefold() in [one.name.casefold() for one in entry.join.args.get("using") or ()]


def _first_having(entries: Iterable[Entry], name: str) -> list[Ref]:
    found = [(entry, output) for entry in entries if not entry.hidden and (output := entry.relation.find(name))]
    sure = [(entry, output) for entry, output in found if output.sure]
    return [Ref(entry.relation, output.name) for entry, output in sure[:1] or found]


def _items(node: exp.Expression, join: exp.Join | None, select: Select, before: Sequence[Entry]) -> list[Entry]:
    """The entries that one item of FROM gives: several where it is a join in parentheses."""
    if _is_join(node):
        inside = _items(node.this, join, select, before)  # (a join b on ...)
        for one in node.args.get("joins") or ():
            inside += _items(one.this, one, select, [*before, *inside])
        return inside
    relation, parts = _relation(node, select, before)
    alias = node.args.get("alias")
    name = node.alias or (parts[-1] if parts else "")
    if isinstance(alias, exp.TableAlias) and alias.columns and not isinstance(relation, Derived):
        names = [column.name for column in alias.columns]
        relation = Renamed(relation, names, select.node, f"{select.part}.{name}" if select.part else name)
    for pivot in node.args.get("pivots") or ():
        relation = Pivoted(relation, pivot, select.scope, pivot.alias or name or "pivot")
        name = pivot.alias or name
    entries = [Entry(name, relation, () if node.alias else parts, join)]
    for one in (node.args.get("joins") or ()) if isinstance(node, exp.Table) else ():
        entries += _items(one.this, one, select, [*before, *entries])
    return entries


def _is_join(node: exp.Expression) -> bool:
    """Whether parentheses in FROM hold tables, not a query."""
    inner = node
    while isinstance(inner, (exp.Paren, exp.Subquery)):
        inner = inner.this
    return inner is not node and isinstance(inner, exp.Table)


def _relation(node: exp.Expression, select: Select, before: Sequence[Entry]) -> tuple[Relation, tuple[str, ...]]:
    """The relation that one item of FROM is, and the parts of its name where it is a table."""
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        parts = tuple(part.name for part in node.parts)
        if len(parts) == 2 and any(entry.alias.casefold() == parts[0].casefold() for entry in before):
            column = exp.column(parts[1], table=parts[0])  # BigQuery: `from t, t.items`
            return Derived([column], select, node.alias or parts[1], []), parts
        return select.scope.table(parts), parts
    if isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
        return select.scope.build(node.this, select.part, node.alias or "lateral", select), ()
    if isinstance(node, (exp.Query, exp.Values)):
        return select.scope.build(node, select.part, node.alias or "subquery", select, beside=True), ()
    alias = node.args.get("alias")
    columns = [column.name for column in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if isinstance(node, exp.Unnest):
        offset = node.args.get("offset")
        extra = [offset.name] if isinstance(offset, exp.Identifier) and offset.name not in columns else []
        return Derived(node.expressions, select, node.alias or (columns or ["unnest"])[0], columns, extra), ()
    if isinstance(node, (exp.Lateral, exp.Table)):
        return _function(node, select, columns), ()
    return Outside(select.asking, node.sql(dialect=select.scope.dialect)), ()


def _function(node: exp.Expression, select: Select, columns: list[str]) -> Relation:
    """A function in FROM: made from its arguments, or a reader of something outside."""
    call = node.this
    called = (call.name if isinstance(call, exp.Anonymous) else call.sql_name()).lower()
    if called in _GENERATORS or isinstance(node, exp.Lateral) or call.find(exp.Column, exp.Query):
        return Derived([call], select, node.alias or called, columns)
    return Outside(select.asking, call.sql(dialect=select.scope.dialect, normalize_functions=False))


class Renamed(Relation):
    """A relation with a list of names of its own: ``t as u(a, b)``, ``with u(a, b) as (...)``."""

    def __init__(self, inner: Relation, names: list[str], node: str, part: str) -> None:
        super().__init__(inner.asking, node, part)
        self.inner, self.names = inner, names

    def _output(self, name: str, inner: Output) -> Output:
        if (self.node, self.part) == (self.inner.node, self.inner.part):
            return Output(name, inner.steps)
        return Output(name, lambda path: [Step(inner.name, ((Ref(self.inner, inner.name, path), "value"),))])

    def _outputs(self) -> list[Output] | None:
        inner = self.inner.outputs()
        if inner is None:
            return None
        names = self.names + [output.name for output in inner[len(self.names) :]]
        return [self._output(name, output) for name, output in zip(names, inner, strict=False)]

    def _find(self, name: str) -> Output | None:
        if self.outputs() is not None or name.casefold() not in [own.casefold() for own in self.names]:
            return super()._find(name)
        problem = f"'{name}' of {self.title} goes by its position, and the columns it is taken from are not known."
        return Output(name, lambda path: [Step(name, problems=(problem,))], "maybe")

    def rows(self) -> list[Step]:
        return [Step("from", ((Ref(self.inner, ROWS), "rows"),))]


class Derived(Relation):
    """Rows made from the values of other columns of the same FROM: unnest, flatten, generate_series."""

    def __init__(
        self, made: list[exp.Expression], select: Select, part: str, names: list[str], counted: Sequence[str] = ()
    ) -> None:
        super().__init__(select.asking, select.node, f"{select.part}.{part}" if select.part else part)
        self.made, self.select = made, select
        self.names = names or [part]
        self.named = bool(names) or isinstance(made[0], exp.Column)
        # Columns that only number the rows: WITH OFFSET, WITH ORDINALITY.
        self.counted = list(counted)

    def _outputs(self) -> list[Output]:
        outputs = []
        for place, name in enumerate(self.names):
            made = [self.made[place]] if len(self.made) == len(self.names) else self.made
            outputs.append(Output(name, partial(self._steps, made)))
        return outputs + [Output(name, lambda path: self.rows()) for name in self.counted]

    def _find(self, name: str) -> Output | None:
        # A struct in the list has fields, which are columns here.
        certainty = "field" if self.named else "maybe"
        return super()._find(name) or Output(name, lambda path: self._steps(self.made, (name, *path)), certainty)

    def rows(self) -> list[Step]:
        return [
            Step(step.expression, tuple((ref, "filter") for ref, _ in step.inputs), step.problems)
            for step in self._steps(self.made, ())
        ]

    def _steps(self, made: list[exp.Expression], path: tuple[str, ...]) -> list[Step]:
        steps = []
        for one in made:
            reading = Reading(self.select).read(one, path=path)
            steps.append(Step(one, tuple(reading.inputs), tuple(reading.problems)))
        return steps
