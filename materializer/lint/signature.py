"""What a column computes, whatever it and everything on the way to it is called: equal signatures, equal columns.

A signature is a number that stands for a structure: an expression with the signatures of what it reads in place of
names, and the rows it is over: which tables are joined on what, filtered, grouped. Names of CTEs, models and columns,
projections, the order of conditions and the way literals are written leave no trace in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from materializer.lineage import package
from materializer.lineage.nodes import Node
from materializer.lineage.query import Later, SetOperation, Values
from materializer.lineage.relations import Output, Outside, Ref, Relation
from materializer.lineage.select import Select
from materializer.lineage.sources import Derived, Entry, Renamed, compared_by_name
from materializer.lint.expression import Expressions, Unknown, is_windowed


class Signatures(Expressions):
    """Signatures of the columns of one graph, each worked out once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, int] = {}
        self._busy: set[Any] = set()
        # SELECTs that are read as if their condition stood in the SELECT that joins them, and their place there.
        self._places: dict[Select, int] = {}

    def column(self, ref: Ref) -> int:
        """The signature of a column, and of the rows of its relation where these are not just those of a table.

        Raises:
            Unknown: where its SQL cannot be followed.
        """
        return self._once(("column", ref), lambda: self._column(ref))

    def rows(self, relation: Relation) -> int:
        """The signature of a relation's rows.

        Raises:
            Unknown: where its SQL cannot be followed.
        """
        return self._once(("rows", relation), lambda: self._rows(relation))

    def _once(self, key: Any, find: Callable[[], int]) -> int:
        if key not in self._known:
            if key in self._busy:
                raise Unknown  # a recursive CTE, or models in a circle
            self._busy.add(key)
            try:
                self._known[key] = find()
            finally:
                self._busy.discard(key)
        return self._known[key]

    # Columns.

    def _column(self, ref: Ref) -> int:
        relation, name = ref.relation, ref.name
        if isinstance(relation, Node):
            relation.read()
            if relation.body is None:
                return self.number("column", relation.node, name.casefold(), ref.path)
            return self.column(Ref(relation.body, name, ref.path))
        if isinstance(relation, (Later, Renamed, Outside)):
            return self._column_of_wrapped(relation, ref)
        if isinstance(relation, Derived):
            return self.number(
                "derived", name.casefold() in map(str.casefold, relation.counted), ref.path, self.rows(relation)
            )
        outputs = relation.outputs()
        output = relation.find(name)
        if output is None:
            raise Unknown
        if isinstance(relation, SetOperation):
            return self._column_of_branches(relation, output, outputs, ref)
        if isinstance(relation, Values):
            return self.number("values", [one.name for one in outputs or ()].index(output.name), self.rows(relation))
        if not isinstance(relation, Select):
            raise Unknown
        if package.is_key(relation, name):
            return self.number("fs_key", self.column(Ref(relation.scope.table(("_fs_events",)), name)))
        if output.taken:
            return self.number_of(
                self.placed(relation, Ref(one.relation, one.name, one.path + ref.path)) for one in output.taken
            )
        if output.made is None:
            raise Unknown
        window = package.window_column(relation, output.made)
        if window is not None:
            return self._window(relation, window)
        return self.expression(output.made.unalias(), relation, ref.path)

    def _column_of_wrapped(self, relation: Relation, ref: Ref) -> int:
        if isinstance(relation, Outside):
            return self.number("column", relation.node, ref.name.casefold(), ref.path)
        if isinstance(relation, Renamed):
            names = [name.casefold() for name in relation.names]
            inner = relation.inner.outputs()
            if ref.name.casefold() in names and inner:
                return self.column(Ref(relation.inner, inner[names.index(ref.name.casefold())].name, ref.path))
        return self.column(Ref(relation.inner, ref.name, ref.path))

    def _column_of_branches(
        self, relation: SetOperation, output: Output, outputs: list[Output] | None, ref: Ref
    ) -> int:
        place = [one.name for one in outputs or ()].index(output.name)
        values = []
        for rows, shown, names in self._branches(relation):
            branch, name = names[place]
            value = self.number("null") if name is None else self.column(Ref(branch, name, ref.path))
            values.append((rows, shown, value))
        return self.number("union", relation.query.key, tuple(values))

    def _branches(self, relation: SetOperation) -> list[tuple[int, bool, list[tuple[Relation, str | None]]]]:
        """The branches in an order that does not depend on how they are written: rows, and whence each column is."""
        outputs = relation.outputs()
        if outputs is None:
            raise Unknown
        found = []
        for branch, shown in relation.branches:
            given = branch.outputs() or []
            names: list[tuple[Relation, str | None]] = []
            for place, output in enumerate(outputs):
                one = branch.find(output.name) if relation.by_name else given[place] if place < len(given) else None
                names.append((branch, one.name if one else None))
            values = tuple(self._value_or_none(branch, name) for branch, name in names)
            found.append((self.rows(branch), shown, values, names))
        if isinstance(relation.query, exp.Union):
            # Not column by column: what stands in one row of a branch belongs together.
            found.sort(key=lambda one: one[:3])
        return [(rows, shown, names) for rows, shown, _, names in found]

    def _value_or_none(self, branch: Relation, name: str | None) -> int:
        try:
            return -1 if name is None else self.column(Ref(branch, name))
        except Unknown:
            return -2

    def placed(self, select: Select, ref: Ref, entry: Entry | None = None) -> int:
        """A column that a SELECT reads; of several relations also which of them it is from."""
        value = self.column(ref)
        if select in self._places:
            return self.number("of", self._places[select], value)
        if len(select.entries) < 2 or self._moments(select) is not None:
            return value
        entries = [entry] if entry else [one for one in select.entries if one.relation is ref.relation]
        places = [place for place, one in enumerate(select.entries) if one in entries]
        if len(places) != 1:
            raise Unknown  # a table joined with itself
        return self.number("of", places[0], value)

    # Rows.

    def _rows(self, relation: Relation) -> int:
        if isinstance(relation, Node):
            relation.read()
            if relation.body is None:
                return self.number("table", relation.node)
            return self.rows(relation.body)
        if isinstance(relation, Outside):
            return self.number("table", relation.node)
        if isinstance(relation, (Later, Renamed)):
            return self.rows(relation.inner)
        if isinstance(relation, Values):
            return self.number("values", relation.query.sql())
        if isinstance(relation, Derived):
            made = tuple(self.expression(one, relation.select) for one in relation.made)
            return self.number("derived", made)
        if isinstance(relation, SetOperation):
            return self._rows_of_branches(relation)
        if isinstance(relation, Select):
            return self._rows_of_select(relation)
        raise Unknown

    def _rows_of_branches(self, relation: SetOperation) -> int:
        distinct = bool(relation.query.args.get("distinct")) or relation.query.key != "union"
        branches = []
        for rows, shown, names in self._branches(relation):
            values = [self.column(Ref(branch, name)) if name else -1 for branch, name in names] if distinct else []
            branches.append((rows, shown, tuple(values)))
        return self.number("union", relation.query.key, distinct, tuple(branches))

    def _rows_of_select(self, select: Select) -> int:
        args = select.select.args
        rows = self.windowed_rows(select)
        if args.get("qualify") is not None:
            rows = self.number("qualify", rows, self.conditions(args["qualify"].this, select))
        distinct = args.get("distinct")
        ordered = tuple(
            self.expression(one, select) for one in (args["order"].expressions if args.get("order") else ())
        )
        if distinct is not None:
            on = distinct.args.get("on")
            outputs = select.outputs() if on is None else []
            if outputs is None:
                raise Unknown
            values = [self.expression(one, select) for one in on.expressions] if on is not None else []
            values += [self._value(select, one) for one in outputs]
            rows = self.number("distinct", rows, tuple(sorted(set(values))), ordered if on is not None else ())
        limits = tuple(args[one].sql() if args.get(one) else None for one in ("limit", "offset", "fetch", "sample"))
        return self.number("limit", rows, limits, ordered) if any(limits) else rows

    def windowed_rows(self, select: Select) -> int:
        rows = self.gathered_rows(select)
        having = select.select.args.get("having")
        return rows if having is None else self.number("having", rows, self.conditions(having.this, select))

    def gathered_rows(self, select: Select) -> int:
        return self._once(("gathered", select), lambda: self._gathered_rows(select))

    def _gathered_rows(self, select: Select) -> int:
        rows = self._moments(select)
        if rows is None:
            tables, conditions = self._read(select)
            single = tables[0][0] if len(tables) == 1 and not conditions else None
            rows = single if single is not None else self.number("from", tables, tuple(sorted(conditions)))
        made = [node for item in select.select.expressions for node in _at_this_level(item)]
        spread = [node for node in made if isinstance(node, exp.Explode)]
        if spread:
            rows = self.number("spread", rows, tuple(sorted(self.expression(node, select) for node in spread)))
        if select.select.args.get("group") is not None:
            return self.number(
                "grouped", rows, tuple(sorted({self.expression(one, select) for one in select.grouped()}))
            )
        gathers = any(isinstance(node, exp.AggFunc) and not is_windowed(node) for node in made)
        return self.number("grouped", rows, ()) if gathers else rows

    def _read(self, select: Select) -> tuple[tuple[tuple[Any, ...], ...], frozenset[int]]:
        """The tables that a SELECT joins and the conditions on their rows, its own and those of subqueries."""
        where = select.select.args.get("where")
        conditions = self.conditions(where.this, select) if where is not None else frozenset()
        if len(select.entries) == 1:
            inner = self._plain(select.entries[0].relation)
            if inner is None:
                return ((self.rows(select.entries[0].relation),),), conditions
            tables, more = self._read(inner)
            return tables, conditions | more
        outer = any(_side(entry) in ("RIGHT", "FULL") for entry in select.entries)
        tables = []
        for place, entry in enumerate(select.entries):
            relation = entry.relation
            inner = None if outer or _side(entry) or _method(entry) or entry.hidden else self._plain(relation)
            while inner is not None and len(inner.entries) == 1:
                conditions |= self._moved(inner, place)
                relation = inner.entries[0].relation
                inner = self._plain(relation)
            tables.append(self._joined(select, entry, relation))
        return tuple(tables), conditions

    def _plain(self, relation: Relation) -> Select | None:
        """The SELECT of a relation that only joins and filters rows."""
        while isinstance(relation, Node):
            relation.read()
            if relation.body is None:
                return None
            relation = relation.body
        if not isinstance(relation, Select) or self._moments(relation) is not None:
            return None
        decides = ("group", "having", "qualify", "distinct", "limit", "offset", "fetch", "sample")
        if any(relation.select.args.get(one) for one in decides):
            return None
        made = [node for item in relation.select.expressions for node in _at_this_level(item)]
        return None if any(isinstance(node, exp.Explode) or not is_windowed(node) for node in made) else relation

    def _moved(self, select: Select, place: int) -> frozenset[int]:
        """The conditions of a SELECT over one table as those of the SELECT that joins it."""
        where = select.select.args.get("where")
        self._places[select] = place
        try:
            return self.conditions(where.this, select) if where is not None else frozenset()
        finally:
            del self._places[select]

    def _value(self, select: Select, output: Output) -> int:
        if output.taken:
            return self.number_of(self.placed(select, one) for one in output.taken)
        if output.made is None:
            raise Unknown
        return self.expression(output.made.unalias(), select)

    def _joined(self, select: Select, entry: Entry, relation: Relation) -> tuple[Any, ...]:
        rows = self.rows(relation)
        if entry.join is None:
            return (rows,)
        args = entry.join.args
        kind = (args.get("kind") or "").upper().replace("INNER", "").replace("CROSS", "")
        on = None if args.get("on") is None else self.expression(args["on"], select)
        same = tuple(
            self.number_of(self.placed(select, ref) for ref in refs)
            for _, refs in compared_by_name(select.entries, entry)
        )
        if same:  # `using (id)` is `on a.id = b.id`
            pairs = [
                tuple(sorted(self.placed(select, ref) for ref in refs))
                for _, refs in compared_by_name(select.entries, entry)
            ]
            equal = [self.number("EQ", pair) for pair in pairs]
            on = equal[0] if len(equal) == 1 else self.number("And", tuple(sorted(equal)))
        return (rows, _side(entry), kind, _method(entry), on)

    # The package's windows: the same in every shape.

    def _window(self, select: Select, window: package.WindowColumn) -> int:
        events = select.scope.table(("_fs_events",))
        taken = window.taken and self.column(Ref(events, window.taken))
        value = self.column(Ref(events, window.value))
        return self.number("fs_window", window.function, window.slug, value, taken, self._events(select))

    def _events(self, select: Select) -> int:
        """The events of a window macro: their keys, times and rows."""
        events = select.scope.table(("_fs_events",))
        outputs = events.outputs()
        if outputs is None:
            raise Unknown
        about = [(one.name if one.name.startswith("_fs_") else "", self.column(Ref(events, one.name)))
                 for one in outputs if not package.is_value(one.name)]  # fmt: skip
        return self.number("fs_events", tuple(sorted(about)), self.rows(events))

    def _moments(self, select: Select) -> int | None:
        """The rows of a windowed view: they depend on the grain, not on which windows stand beside each other."""
        if not any(package.is_window(entry.relation) for entry in select.entries):
            return None
        if select.select.args.get("where") is not None:
            raise Unknown  # a part of an incremental run
        grain = package.grain(select)
        if grain.spine is not None:
            return self.number("fs_as_of", self.rows(grain.spine))
        step = None if grain.step is None else self.expression(grain.step, select)
        return self.number("fs_moments", grain.name, step, self._events(select))


def _at_this_level(item: exp.Expression) -> list[exp.Expression]:
    """The aggregates and unnests of an expression, but not those of subqueries in it."""
    found = []
    for node in item.walk(prune=lambda one: isinstance(one, exp.Query)):
        if isinstance(node, (exp.AggFunc, exp.Explode)) and not isinstance(node, exp.Query):
            found.append(node)
    return found


def _side(entry: Entry) -> str:
    return (entry.join.side or "").upper() if entry.join is not None else ""


def _method(entry: Entry) -> str:
    return (entry.join.method or "").upper() if entry.join is not None else ""
