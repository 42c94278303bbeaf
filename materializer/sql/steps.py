"""What one column of a relation is made from, and what decides over its rows: a step, from expression to names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from materializer.sql.edges import Kind
from materializer.sql.node import reads_outside, unplaced
from materializer.sql.reader import OPEN, Node, Reader, Source, Window

ROWS = "*"
_RANKS = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile)
# Functions that give one of their first argument's values as it is, so that a field of theirs is a field of it.
_CHOOSES = (
    exp.Max, exp.Min, exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.First, exp.Last, exp.FirstValue, exp.LastValue,
    exp.NthValue, exp.Lag, exp.Lead, exp.IgnoreNulls, exp.RespectNulls, exp.Filter, exp.Window, exp.Paren, exp.Order,
    exp.Alias, exp.Explode, exp.ArrayAgg, exp.Distinct, exp.Limit, exp.HavingMax,
)  # fmt: skip
_CHOOSES_BY_NAME = {"arg_max_null", "arg_min_null", "max_by", "min_by", "list", "first", "last", "unnest"}


class Ref(NamedTuple):
    """A column of a node, or of the CTE or subquery `scope` in it (its rows, where the name is ``*``).

    `path` is a field of a struct in it, where only that is meant.
    """

    node: Node
    scope: Scope | None
    name: str
    path: tuple[str, ...] = ()


class Step:
    """One expression that makes a column, what it reads, and what could not be found out about it.

    One that `passes` gives a column on as it is, perhaps under another name.
    """

    def __init__(
        self,
        said: str | Callable[[], str],
        inputs: Iterable[tuple[Ref, Kind]] = (),
        problems: Iterable[str] = (),
        passes: bool = False,
    ) -> None:
        self._said, self.inputs, self.problems, self.passes = said, tuple(inputs), tuple(problems), passes

    @cached_property
    def text(self) -> str:
        """The expression as it was written: generated where it is asked for."""
        return self._said if isinstance(self._said, str) else self._said()

    def as_filter(self) -> Step:
        """The same, where it only decides which rows count."""
        return Step(lambda: self.text, ((ref, "filter") for ref, _ in self.inputs), self.problems, self.passes)


class Steps:
    """The steps of every column of a reader's nodes, each found once."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._found: dict[Ref, list[Step]] = {}
        self._items: dict[int, dict[str, exp.Expression]] = {}

    def item(self, scope: Scope, name: str) -> exp.Expression | None:
        """The projection of a scope that has a name; of several the first."""
        made = scope.expression
        if id(made) not in self._items:
            self._items[id(made)] = {one.alias: one for one in reversed(made.selects)}
        return self._items[id(made)].get(name)

    def of(self, ref: Ref) -> list[Step]:
        """What makes a column; several where a set operation has branches."""
        if ref not in self._found:
            scope = ref.scope or self.reader.node(ref.node.id).scope
            computed = self.reader.graph.on_demand(ref.node.id).get(ref.name.lower()) if ref.scope is None else None
            try:
                if computed:
                    reads = tuple((Ref(ref.node, None, name), "value") for _, name in computed.reads)
                    self._found[ref] = [Step(computed.expression, reads)]
                elif scope is None:
                    self._found[ref] = _of_leaf(ref)
                elif ref.name == ROWS:
                    self._found[ref] = list(_rows(self, ref.node, scope))
                elif ref.scope is None and ref.name in ref.node.added:
                    made = tuple((Ref(ref.node, None, one), "value") for one in ref.node.added[ref.name])
                    self._found[ref] = [Step(f"dbt's own {ref.name}", made)]
                else:
                    self._found[ref] = list(_columns(self, ref.node, scope, ref.name, ref.path))
            except (RecursionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                what = "A condition" if ref.name == ROWS else "An expression"
                why = "is nested too deeply to be read" if isinstance(error, RecursionError) else "is of no known form"
                self._found[ref] = [Step("...", problems=(f"{what} in {ref.node.title_of(scope)} {why}.",))]
        return self._found[ref]


def _of_leaf(ref: Ref) -> list[Step]:
    if ref.name == ROWS or not (ref.node.problem or (ref.name not in ref.node.columns and not ref.node.may_have)):
        return []
    return [Step("", problems=(ref.node.problem or ref.node.lacks(ref.name),))]


# Columns.


def _columns(steps: Steps, node: Node, scope: Scope, name: str, path: tuple[str, ...]) -> Iterator[Step]:
    if isinstance(scope.expression, exp.SetOperation):
        yield from _of_branches(steps, node, scope, name, path)
        return
    item = steps.item(scope, name)
    window = node.windows.get(id(item))
    if window is not None:
        yield _windowed(steps, node, scope, window)
    elif item is not None:
        reading = Reading(steps, node, scope).read(item.this, path=path)
        problem = [item.meta["problem"]] if item.meta_get("problem") else []
        inputs = (*reading.inputs, (Ref(node, _own(node, scope), ROWS), "filter"))
        passes = isinstance(item.this, exp.Column)
        yield Step(lambda: node.text(item), inputs, (*problem, *reading.problems), passes)
    else:
        yield _of_star(steps, node, scope, name, path)


def _own(node: Node, scope: Scope) -> Scope | None:
    return None if scope is node.scope else scope


def _of_star(steps: Steps, node: Node, scope: Scope, name: str, path: tuple[str, ...]) -> Step:
    """A column that is none of the known ones: of a star over a relation that may have others."""
    inside = node.passed(scope, name)
    having: dict[str, list[tuple[exp.Expression, Source | None]]] = {}
    for item in scope.expression.selects if inside else ():
        if item.alias.startswith(OPEN):
            source = node.source_of(scope, item.this.table)[1] if isinstance(item.this, exp.Column) else None
            having.setdefault(node.has(source, inside), []).append((item, source))
    found = next((having[how] for how in ("sure", "maybe", "unlikely", "field") if how in having), [])
    if len(found) > 1:
        titles = " and ".join(node.title_of(source) for _, source in found)
        problem = (
            f"'{name}' in {node.title_of(scope)} is ambiguous: {titles} may have it, and not all of their columns are "
            "known."
        )
        return Step("*", problems=(problem,))
    reading = Reading(steps, node, scope)
    for item, source in found:
        if source is None:
            reading.read(item.this, path=path)
        else:
            reading.take(source, inside, "value", path)
        inputs = (*reading.inputs, (Ref(node, _own(node, scope), ROWS), "filter"))
        return Step("*", inputs, tuple(reading.problems), passes=source is not None)
    return Step(name, problems=(node.lacks(name, scope if _own(node, scope) else None),))


def _branches(scope: Scope) -> list[tuple[Scope, bool]]:
    """The queries that a set operation joins, a chain of UNIONs as one list; and whether their values get through."""
    found, waiting, made = [], [(scope, True)], scope.expression
    while waiting:
        one, shown = waiting.pop()
        if one is scope or _alike(one.expression, made):
            left, right = one.set_operation_scopes
            waiting += [(right, not isinstance(made, exp.Except)), (left, shown)]
        else:
            found.append((one, shown))
    return found


def _alike(one: exp.Expression, other: exp.Expression) -> bool:
    keys = ("by_name", "distinct", "limit", "with_")
    return type(one) is type(other) is exp.Union and all(one.args.get(key) == other.args.get(key) for key in keys)


def _of_branches(steps: Steps, node: Node, scope: Scope, name: str, path: tuple[str, ...]) -> Iterator[Step]:
    branches, title, made = _branches(scope), node.title_of(scope), scope.expression
    names = [list(node.columns_of(branch)) for branch, _ in branches]
    place = names[0].index(name) if name in names[0] and not made.args.get("by_name") else None
    if not made.args.get("by_name") and (place is None or node.opened[id(made)] == "maybe"):
        place = None
        yield Step(name, problems=(f"'{name}' is followed by its name through the branches of {title}, which go by "
                                   "position: the columns of a star in there are not known.",))  # fmt: skip
    for (branch, shown), there in zip(branches, names, strict=True):
        if place is not None and len(there) != len(names[0]):
            widths = f"{len(names[0])} and {len(there)}"
            yield Step("", problems=(f"The branches of the {made.key} in {title} have {widths} columns.",))
        if place is None:
            inside = name if name in there or node.opened[id(branch.expression)] == "maybe" else None
        else:
            inside = there[place] if place < len(there) else None
        for step in _columns(steps, node, branch, inside, path) if inside else ():
            yield step if shown else step.as_filter()


# Windows of the package's macros.


def _windowed(steps: Steps, node: Node, scope: Scope, window: Window) -> Step:
    """The aggregate that the user wrote, over the events, in place of the CTEs that make it.

    Which events count is decided by their rows, keys and times, and by the moments that the window is asked for.
    """
    reading, made = Reading(steps, node, window.events), window.made
    if isinstance(made, exp.Filter):
        reading.read(made.expression, "filter")
        made = made.this
    reading.read(made) if made.find(exp.Column, exp.Query) else reading.rows("rows")
    for called in ("_fs_events", "_fs_moments"):
        cte = scope.cte_sources.get(called)
        names = node.columns_of(cte) if isinstance(cte, Scope) else {}
        for name in (ROWS, *names) if called == "_fs_events" else names:
            if not name.startswith("_fs_") or name in ("_fs_event", "_fs_from", "_fs_at"):
                reading.inputs[Ref(node, node.scopes[id(cte.expression)], name), "filter"] = None
    return Step(window.text, tuple(reading.inputs), tuple(reading.problems))


# Rows.


def _rows(steps: Steps, node: Node, scope: Scope) -> Iterator[Step]:
    made = scope.expression
    if isinstance(made, exp.SetOperation):
        for branch, shown in _branches(scope):
            yield Step("from", ((Ref(node, branch, ROWS), "rows" if shown else "filter"),))
        names = list(node.columns_of(scope))
        if not made.args.get("distinct") and isinstance(made, exp.Union):
            order = made.args.get("order") if made.args.get("limit") else None
            names = [one.this.name for one in order.expressions if one.this.name in names] if order else []
        own = _own(node, scope)
        yield Step(made.key, tuple((Ref(node, own, name), "filter") for name in names))
        return
    reading = Reading(steps, node, scope)
    windows = any(id(item) in node.windows for item in made.expressions)  # its rows do not depend on which there are
    for name, _ in scope.references:
        if not (windows and name.startswith("_fs_by_") and name != scope.references[0][0]):
            source = node.source_of(scope, name)[1]
            taken = Reading(steps, node, scope)
            taken.rows_of(source, "rows")
            yield Step("from", tuple(taken.inputs), tuple(taken.problems))
    clauses = [(join, join.args.get("on")) for join in scope.find_all(exp.Join)
               if not (windows and join.alias_or_name.startswith("_fs_by_"))]  # fmt: skip
    clauses += [(made.args[key], made.args[key].this) for key in ("where", "having", "qualify") if made.args.get(key)]
    group, distinct, order = (made.args.get(key) for key in ("group", "distinct", "order"))
    if group is not None:
        every = [item.this for item in made.expressions if not item.find(exp.AggFunc)] if group.args.get("all") else []
        clauses += [(one, one) for one in (*every, *group.iter_expressions())]
    if distinct is not None:
        on = distinct.args.get("on")
        chosen = (
            (on.expressions or [on.this])
            if on is not None
            else [item.this for item in made.expressions if not item.alias.startswith(OPEN)]
        )
        clauses += [(one, one) for one in chosen]
    if order is not None and any(made.args.get(limit) for limit in ("limit", "fetch", "offset")):
        clauses += [(one, one.this) for one in order.expressions]
    for clause, condition in clauses:
        if condition is not None:
            reading = Reading(steps, node, scope).read(condition, "filter")
            yield Step(partial(node.text, clause), tuple(reading.inputs), tuple(reading.problems))


# Expressions.


class Reading:
    """Collects what an expression reads in a scope: values, or only what decides which rows count."""

    def __init__(self, steps: Steps, node: Node, scope: Scope) -> None:
        self.steps, self.node, self.scope = steps, node, scope
        self.inputs: dict[tuple[Ref, Kind], None] = {}
        self.problems: dict[str, None] = {}

    def read(self, node: exp.Expression | None, kind: Kind = "value", path: tuple[str, ...] = ()) -> Reading:
        """Collect what `node` reads; with `path`, only what the field of that path of its struct reads."""
        if isinstance(node, (exp.Column, exp.TableColumn)):
            self._column(node, kind, path)
        elif isinstance(node, exp.Query):
            self._subquery(node, kind, path)
        elif isinstance(node, exp.Star):
            self.rows(kind)
        elif isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            ref = Ref(self.node, self.node.scopes[id(node.this.unnest())], ROWS)
            self.inputs[ref, "filter" if kind == "filter" else "rows"] = None
        elif isinstance(node, exp.Case):
            self._all([node.this, *(branch.this for branch in node.args["ifs"])], kind)
            self._all([*(branch.args.get("true") for branch in node.args["ifs"]), node.args.get("default")], kind, path)
        elif isinstance(node, exp.If):
            self.read(node.this, kind)
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
        elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
            self.read(node.this, kind, (node.name.lower(), *path))
        elif isinstance(node, exp.Bracket):
            key, *rest = node.expressions
            named = isinstance(key, exp.Literal) and key.is_string and not rest
            self.read(node.this, kind, (key.name.lower(), *path) if named else path)  # an index passes fields on
            self._all([key, *rest], kind)
        elif isinstance(node, exp.Struct) or _is_row(node):
            places = {f"#{place}": item for place, item in enumerate(node.expressions)}
            fields = places | {_field_name(item): item for item in node.expressions}
            found = [fields[path[0]]] if path and path[0] in fields else []
            self._all([_field_value(item) for item in found or node.expressions], kind, path[1:] if found else ())
        elif isinstance(node, (exp.PropertyEQ, exp.Kwarg)):
            self.read(node.expression, kind, path)
        elif isinstance(node, exp.Comprehension):
            self._all([node.args.get("iterator"), node.this, node.args.get("condition")], kind)
        elif isinstance(node, exp.Columns):
            self.problems["COLUMNS(...) inside an expression stands for columns that are not known here."] = None
        elif isinstance(node, exp.Expression) and not isinstance(node, (exp.Identifier, exp.DataType, exp.Literal)):
            self._function(node, kind, path)
        return self

    def take(self, source: Source | None, name: str, kind: Kind, path: tuple[str, ...] = ()) -> None:
        """Collect a column of a scope or table."""
        node = self.node
        if isinstance(source, exp.Pivot):
            self._pivoted(source, name, kind, path)
        elif isinstance(source, Scope) and isinstance(source.expression, exp.Query):
            self.inputs[Ref(node, _own(node, source), name, path), kind] = None
        elif isinstance(source, Scope) or isinstance(source.this, exp.Func):
            self._unpacked(source, name, kind, path)
        else:
            table, named = node.reads[source.name], source.alias_column_names
            known, place = list(table.columns), named.index(name) if name in named else -1
            if name.startswith(OPEN) or (place >= 0 and (table.may_have == "maybe" or place >= len(known))):
                self.problems[unplaced(name, f"'{source.alias}'")] = None
            else:
                self.inputs[Ref(table, None, known[place] if place >= 0 else name, path), kind] = None

    def rows(self, kind: Kind) -> None:
        """Collect the rows that the scope reads."""
        for name, _ in self.scope.references:
            self.rows_of(self.node.source_of(self.scope, name)[1], "filter" if kind == "filter" else "rows")

    def rows_of(self, source: Source | None, kind: Kind) -> None:
        node = self.node
        if isinstance(source, exp.Pivot):
            self.rows_of(_turned(self, source), kind)
        elif isinstance(source, Scope) and isinstance(source.expression, exp.Query):
            self.inputs[Ref(node, _own(node, source), ROWS), kind] = None
        elif isinstance(source, exp.Table) and not isinstance(source.this, exp.Func):
            self.inputs[Ref(node.reads[source.name], None, ROWS), kind] = None
        elif source is not None:
            self._unpacked(source, ROWS, "filter", ())

    def _all(self, nodes: Iterable[object], kind: Kind, path: tuple[str, ...] = ()) -> None:
        for node in nodes:
            if isinstance(node, exp.Expression):
                self.read(node, kind, path)

    def _function(self, node: exp.Expression, kind: Kind, path: tuple[str, ...]) -> None:
        children = list(node.iter_expressions())
        if path and isinstance(node, exp.Coalesce):
            self._all(children, kind, path)
            return
        if path and isinstance(node, exp.Cast):
            self.read(node.this, kind, _in_cast(node, path))
            return
        named = isinstance(node, exp.Anonymous) and node.name.lower() in _CHOOSES_BY_NAME and node.expressions
        if path and (isinstance(node, _CHOOSES) or named):
            first = node.expressions[0] if named else node.this
            self.read(first, kind, path)
            self._all([child for child in children if child is not first], kind)
        elif isinstance(node, (exp.AggFunc, *_RANKS)) and not node.find(exp.Column, exp.TableColumn, exp.Query):
            self.rows(kind)
        else:
            self._all(children, kind)

    def _column(self, column: exp.Column | exp.TableColumn, kind: Kind, path: tuple[str, ...]) -> None:
        if column.meta_get("problem"):
            self.problems[column.meta["problem"]] = None
        is_row = isinstance(column, exp.TableColumn) or isinstance(column.this, exp.Star)
        table = column.name if isinstance(column, exp.TableColumn) else column.table
        source = self.node.source_of(self.scope, table)[1]
        if is_row and source is not None:
            for name in self.node.columns_of(source):
                self.take(source, name, kind)
            if not self.node.columns_of(source):
                self.problems[f"The columns of {self.node.title_of(source)} are not known."] = None
        elif source is not None and (not column.meta_get("problem") or self.node.has(source, column.name)):
            self.take(source, column.name, kind, path)

    def _subquery(self, query: exp.Query, kind: Kind, path: tuple[str, ...]) -> None:
        scope = self.node.scopes[id(query.unnest())]
        names = self.node.columns_of(scope)
        if self.node.opened.get(id(scope.expression)) == "maybe":
            self.problems[f"The columns of {self.node.title_of(scope)} are not known."] = None
        for name in names:
            self.inputs[Ref(self.node, scope, name, path), kind] = None

    def _window(self, node: exp.Window, kind: Kind, path: tuple[str, ...]) -> None:
        if node.this.find(exp.Column, exp.Query):
            self.read(node.this, kind, path)
        else:
            self.rows(kind)
        windows = {one.name: one for one in self.scope.expression.args.get("windows") or ()}
        while node is not None:
            self._all([*(node.args.get("partition_by") or ()), node.args.get("order"), node.args.get("spec")], "filter")
            node = windows.get(node.args["alias"].name) if node.args.get("alias") else None

    def _unpacked(self, source: Scope | exp.Table, name: str, kind: Kind, path: tuple[str, ...]) -> None:
        """A column of rows that are made from the values of others: unnest, flatten, values, generate_series."""
        made = source.expression if isinstance(source, Scope) else source
        names = [one for one in made.alias_column_names if not one.startswith(OPEN)]
        if isinstance(made, exp.Table) and reads_outside(made):
            self.inputs[Ref(self.steps.reader.node(made.this.sql(self.node.dialect)), None, name, path), kind] = None
            return
        args = made.expressions if isinstance(made, (exp.Values, exp.Unnest)) else [made.this]
        if isinstance(made, exp.Values):
            rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in args]
            args = [row[names.index(name)] for row in rows if name in names] if name != ROWS else []
        elif name in names and len(args) == len(names):
            args = [args[names.index(name)]]
        offset = made.args.get("offset")
        if name == ROWS or (isinstance(offset, exp.Identifier) and offset.name == name):
            kind, path = "filter", ()
        elif name not in names and (names or isinstance(args[0], exp.Column)):
            path = (name, *path)  # a struct in the list has fields, which are columns here
        inner = Reading(self.steps, self.node, source) if isinstance(source, Scope) else self
        inner._all(args, kind, path)
        self.inputs |= inner.inputs
        self.problems |= inner.problems

    def _pivoted(self, pivot: exp.Pivot, name: str, kind: Kind, path: tuple[str, ...]) -> None:
        """A column of PIVOT or UNPIVOT. What a PIVOT calls its columns is known only where it lists them."""
        inner, args = _turned(self, pivot), pivot.args
        fields = args.get("fields") or ()
        values = [one.name for made in args.get("using") or pivot.expressions for one in made.find_all(exp.Column)]
        keys = [one.this.name for one in fields if isinstance(one.this, exp.Column)]
        passed = self.node.has(inner, name)
        if args.get("unpivot"):
            keys = [one.name for made in fields for one in made.expressions]
            if name in [one.name for one in pivot.expressions]:
                values, keys = keys, []
            elif name in [one.this.name for one in fields]:
                return
            else:
                values = [name]
        else:
            if args.get("using"):
                keys += [one.this.name if isinstance(one, exp.In) else one.name for one in pivot.expressions]
            group = [one.name for one in args["group"].expressions] if args.get("group") else []
            listed = [one.name for one in args.get("columns") or ()]
            if name in group or (name not in listed and not group and passed and name not in (*values, *keys)):
                values, keys = [name], []
        for names, how in ((values, kind), (keys, "filter")):
            for one in names:
                if self.node.has(inner, one):
                    self.take(inner, one, how, path)
                else:
                    self.problems[self.node.lacks(one, inner)] = None


def _turned(reading: Reading, pivot: exp.Pivot) -> Source | None:
    """What a PIVOT turns: the one before it, or what it stands behind."""
    before = pivot.parent.args["pivots"][: pivot.index]
    if before:
        return before[-1]
    if isinstance(pivot.parent, exp.Table):
        cte = reading.scope.cte_sources.get(pivot.parent.name) if pivot.parent.name not in reading.node.reads else None
        return reading.node.scopes[id(cte.expression)] if isinstance(cte, Scope) else pivot.parent
    return reading.node.scopes[id(pivot.parent.unnest())]


def _is_row(node: object) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() in ("row", "struct_pack", "named_struct")


def _field_name(item: exp.Expression) -> str:
    return (item.this.name if isinstance(item, (exp.PropertyEQ, exp.EQ)) else item.alias_or_name).lower()


def _field_value(item: exp.Expression) -> exp.Expression:
    return item.expression if isinstance(item, (exp.PropertyEQ, exp.EQ)) else item.unalias()


def _in_cast(node: exp.Cast, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path inside of what is cast: a row has no names, so its fields go by position in the type."""
    fields = [one.name.lower() for one in node.to.expressions if isinstance(one, exp.ColumnDef)]
    inner = node.this.this if isinstance(node.this, exp.Paren) else node.this
    return (f"#{fields.index(path[0])}", *path[1:]) if _is_row(inner) and path[0] in fields else path
