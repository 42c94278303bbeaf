"""One SELECT that reads a stream: what it asks of what it reads, so that entities stay apart, or why they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from materializer.sql.apart_joins import Joins, column_of, columns_in, replaced
from materializer.sql.node import Node, Source, is_select
from materializer.sql.reader import Reader

_UNSTEADY = (exp.Rand, exp.Randn, exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Uuid)
_UNSTEADY_BY_NAME = {"now", "random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "today", "nextval", "txid_current",
                     "transaction_timestamp", "get_current_timestamp", "current_localtimestamp", "setseed"}  # fmt: skip
# What takes one of several rows, or any, where its order leaves them equal.
_ORDERED = (exp.RowNumber, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.Ntile)
_ANY = (exp.AnyValue, exp.First, exp.Last, exp.ArgMax, exp.ArgMin)
_MACROS = ("window_aggregates", "aggregate_as_of")

Demand = tuple[exp.Expression, ...]


class Mixes(Exception):
    """A step that mixes entities: the expression that does it, its line in the compiled SQL, and what would mend it."""

    def __init__(self, node: Node, text: str, why: str, mend: str = "", line: int | None = None) -> None:
        super().__init__(why)
        self.node, self.text, self.why, self.mend, self.line = node, text, why, mend, line


@dataclass
class Found:
    filters: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)


class Reading(Protocol):
    """What a SELECT asks of the reading that it is a part of."""

    reader: Reader
    streamed: Mapping[str, Mapping[str, Sequence[str]]]

    def flows(self, node: Node, source: Source | None) -> bool: ...

    def demand_node(self, unique_id: str, demand: Demand, found: Found) -> None: ...

    def demand(self, node: Node, scope: Scope, demand: Demand, found: Found) -> None: ...


class Select:
    """One SELECT that reads a stream."""

    def __init__(self, reading: Reading, node: Node, scope: Scope, found: Found) -> None:
        self.reading, self.node, self.scope, self.found = reading, node, scope, found
        self.select: exp.Select = scope.expression
        self.items = {item.alias: item for item in self.select.expressions}
        sources = {name: node.source_of(scope, name)[1] for name, _ in scope.references}
        self.streams = {name: source for name, source in sources.items() if reading.flows(node, source)}
        self.joins = Joins(self.select, self._type_of)

    def mixes(self, what: exp.Expression, why: str, mend: str = "") -> Mixes:
        text = self.node.text(what) if what.meta.get("clause") is not None else what.sql(self.node.dialect)
        lines = [one.meta["line"] for one in what.find_all(exp.Identifier) if "line" in one.meta]
        return Mixes(self.node, " ".join(text.split())[:200], why, mend, min(lines, default=None))

    def carry(self, demand: Demand) -> None:
        windows = {id(item): self.node.windows.get(id(item)) for item in self.select.expressions}
        if any(windows.values()):
            return self._of_macro(demand)
        self._check_steady()
        for one in _own_nodes(self.select):
            if isinstance(one, _ANY):
                said = " ".join(one.sql(self.node.dialect).split())[:120]
                self.found.warnings[f"{self.node.title}: '{said}' takes any of several rows, batch or stream."] = None
        inside = tuple(replaced(part, self._made) for part in demand)
        for part, asked in zip(inside, demand, strict=True):
            item = self.items.get(next((one.name for one in asked.find_all(exp.Column)), ""), part)
            if part.find(exp.AggFunc, exp.Window, exp.Query):
                raise self.mixes(item, "the key is computed from several rows")
            if not part.find(exp.Column):
                raise self.mixes(item, "the key is the same in all rows")
        self._check_groups(inside)
        self._check_windows(inside)
        self._check_subqueries(inside)
        for name, source in self.streams.items():
            self._pass_on(name, source, self._for(name, inside))

    def _made(self, column: exp.Column) -> exp.Expression:
        """What a column of this SELECT is made from."""
        item = self.items.get(column.name)
        if item is None or item.meta.get("problem"):
            raise Mixes(self.node, column.name, "where this column comes from is not known")
        return item.this.copy()

    def _pass_on(self, name: str, source: Source | None, demand: Demand) -> None:
        demand = tuple(replaced(part, lambda column: exp.column(column.name, quoted=True)) for part in demand)
        if isinstance(source, exp.Table):
            self.reading.demand_node(source.name, demand, self.found)
        elif isinstance(source, Scope):
            self.reading.demand(self.node, source, demand, self.found)

    # The window macros: what they write is one step, by their contract.

    def _of_macro(self, demand: Demand) -> None:
        about = self.node.about
        called = {name.rpartition(".")[2] for name in (about.get("depends_on") or {}).get("macros") or ()}
        if "_fs_" in str(about.get("raw_code")) or not called & set(_MACROS):
            raise Mixes(
                self.node, "", "it has SQL that a window macro once wrote, and that may have been changed since",
                "call the macro in its place",
            )  # fmt: skip
        window = next(filter(None, (self.node.windows.get(id(item)) for item in self.select.expressions)))
        if window.moment is not None:
            raise Mixes(self.node, window.text, "windows at the moments of a spine are for training sets")
        events = window.events
        made = {item.alias: item for item in events.expression.expressions if not item.alias.startswith("_fs_")}

        def inside(column: exp.Column) -> exp.Expression:
            item = made.get(column.name)
            if item is None or id(self.items.get(column.name)) in self.node.windows:
                raise Mixes(self.node, column.name, f"'{column.name}' is none of the window's entities")
            return item.this.copy()

        below = Select(self.reading, self.node, events, self.found)
        for name, source in below.streams.items():
            below._pass_on(name, source, below._for(name, tuple(replaced(part, inside) for part in demand)))

    # What a SELECT does with rows.

    def _check_steady(self) -> None:
        if taken := part_of_all(self.select):
            raise self.mixes(taken, "it takes some of all rows")
        for one in _own_nodes(self.select):
            called = one.name.lower() if isinstance(one, exp.Anonymous) else ""
            if isinstance(one, _UNSTEADY) or called in _UNSTEADY_BY_NAME:
                raise self.mixes(one, "it gives something else each time it is asked")
            if isinstance(one, exp.Table) and one.args.get("pivots"):
                raise self.mixes(one, "a pivot is not followed here")
            if isinstance(one, exp.Lateral) and one.find(exp.Query):
                raise self.mixes(one, "a lateral subquery is not followed here")

    def _check_groups(self, demand: Demand) -> None:
        select = self.select
        group = select.args.get("group")
        if group is not None:
            if any(group.args.get(key) for key in ("rollup", "cube", "grouping_sets")):
                raise self.mixes(group, "it groups in several ways at once")
            by = [self._resolved(one) for one in group.expressions]
            if group.args.get("all"):
                by = [item.this for item in select.expressions if not item.find(exp.AggFunc)]
            self._check_within(demand, by, group, "it groups the rows of several entities")
        elif any(_aggregates(item) for item in select.expressions) or select.args.get("having"):
            item = next((one for one in select.expressions if _aggregates(one)), select)
            raise self.mixes(item, "it is an aggregate over the rows of all entities")
        distinct = select.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            on = distinct.args["on"]
            by = [self._resolved(one) for one in (on.expressions if isinstance(on, exp.Tuple) else [on])]
            self._check_within(demand, by, distinct, "it keeps one row for several entities")

    def _resolved(self, one: exp.Expression) -> exp.Expression:
        """A group as an expression: a number or an alias stands for a projection."""
        one = one.unnest() if isinstance(one, exp.Paren) else one
        if isinstance(one, exp.Literal) and not one.is_string and 0 < int(one.this) <= len(self.select.expressions):
            return self.select.expressions[int(one.this) - 1].this
        if isinstance(one, exp.Column) and not one.table and one.name in self.items:
            return self.items[one.name].this
        return one

    def _check_windows(self, demand: Demand) -> None:
        named = {one.name: one for one in self.select.args.get("windows") or ()}
        for window in [one for one in _own_nodes(self.select) if isinstance(one, exp.Window)]:
            if window.arg_key == "windows":
                continue
            by, called = list(window.args.get("partition_by") or ()), window.alias
            while called and not by and called in named:
                by, called = list(named[called].args.get("partition_by") or ()), named[called].alias
            where = self._item_of(window)
            if not by:
                raise self.mixes(where, "its window is over the rows of all entities")
            if isinstance(window.this, _ORDERED):
                said = " ".join(self.node.text(where).split())[:120]
                self.found.warnings[
                    f"{self.node.title}: rows that '{said}' leaves equal come in any order, batch or stream."
                ] = None
            if self._decided(by, demand):
                continue
            mend = self._mend(by, demand)
            self._check_within(demand, by, where, "its window is over the rows of several entities", mend)

    def _item_of(self, one: exp.Expression) -> exp.Expression:
        while one.parent is not self.select and one.parent is not None:
            one = one.parent
        return one

    def _check_within(
        self, demand: Demand, by: Iterable[exp.Expression], where: exp.Expression, why: str, mend: str = ""
    ) -> None:
        """Each part of the key must be made of what the rows are put together by."""
        parts = {self.joins.written_alike(one).sql() for one in by}
        for part in demand:
            left = [one for one in _without(self.joins.written_alike(part), parts)]
            if left:
                raise self.mixes(where, f"{why}: '{part.sql(self.node.dialect)}' is not among what it goes by", mend)

    def _decided(self, by: Sequence[exp.Expression], demand: Demand) -> bool:
        """Whether the source says that an id which rows are put together by decides the key."""
        for one in by:
            origin = self._origin(one)
            if origin is None:
                continue
            decided = self.reading.streamed.get(origin[0], {}).get(origin[1], ())
            columns = columns_in(demand)
            if columns and all(self._origin(column) in {(origin[0], name) for name in decided} for column in columns):
                return True
        return False

    def _mend(self, by: Sequence[exp.Expression], demand: Demand) -> str:
        ids = [self._origin(one) for one in by]
        keys = [self._origin(column) for column in columns_in(demand)]
        if (
            len(ids) == 1
            and ids[0]
            and ids[0][0] in self.reading.streamed
            and keys
            and all(one and one[0] == ids[0][0] for one in keys)
        ):
            decided = ", ".join(name for _, name in keys)
            source = self.reading.reader.node(ids[0][0])
            return (
                f"say in {source.title} what the id decides, `stream: {{determines: {{{ids[0][1]}: [{decided}]}}}}`, "
                f"or partition by {decided} too"
            )
        return ""

    def _origin(self, one: exp.Expression, scope: Scope | None = None) -> tuple[str, str] | None:
        """The column of a source or seed that an expression is, handed on as it is by SELECTs of one table each."""
        node, scope = self.node, scope or self.scope
        while isinstance(one, exp.Column):
            _, source = node.source_of(scope, one.table)
            if isinstance(source, exp.Table):
                node = self.reading.reader.node(source.name)
                if node.about.get("resource_type") in ("source", "seed"):
                    return source.name, one.name
                scope = node.scope
            elif isinstance(source, Scope):
                scope = source
            else:
                return None
            if scope is None or not is_select(scope) or scope.expression.args.get("joins"):
                return None
            item = next((item for item in scope.expression.expressions if item.alias == one.name), None)
            if item is None or id(item) in node.windows:
                return None
            one = item.this
        return None

    def _type_of(self, column: exp.Column) -> str | None:
        """The type that the column of a source or seed, which a column is, is declared with."""
        origin = self._origin(column)
        columns = (self.reading.reader.graph.nodes[origin[0]].get("columns") or {}).values() if origin else ()
        declared = next((one.get("data_type") for one in columns if one["name"].lower() == origin[1]), None)
        return exp.DataType.build(declared, dialect=self.node.dialect or None).sql() if declared else None

    # Joins and subqueries.

    def _for(self, name: str, demand: Demand) -> Demand:
        """The demand in columns of one of the streams alone."""
        classes = self.joins.equal(name)

        def own(column: exp.Column) -> exp.Expression:
            if column.table == name:
                return column
            equal = next((one for one in classes if column.sql() in one), set())
            mine = [one for one in map(column_of, sorted(equal)) if one.table == name]
            if not mine:
                raise self._unjoined(name, column)
            return mine[0]

        return tuple(self.joins.merged(part, name) or replaced(self._there(part), own) for part in demand)

    def _there(self, part: exp.Expression) -> exp.Expression:
        for column in columns_in([part]):
            if self.joins.may_be_missing(column.table):
                join = self.joins.by_name.get(column.table, self.select)
                said = column.sql(self.node.dialect)
                raise self.mixes(join, f"the key '{said}' is NULL where the other side has no row")
        return part

    def _unjoined(self, name: str, column: exp.Column) -> Mixes:
        said = column.sql(self.node.dialect)
        for pair in self.joins.of_two_types:
            if column in pair and name in [one.table for one in pair]:
                both = " and ".join(f"'{one.sql(self.node.dialect)}'" for one in pair)
                why, mend = f"whether {both} are of one type is not known", "declare them alike in their sources"
                return self.mixes(self.joins.by_name.get(name, self.select), why, mend)
        if column.table not in self.streams:
            why = f"the key '{said}' is of a table that does not stream, and is not what its events are joined by"
            return self.mixes(self.joins.by_name.get(column.table, self.select), why)
        join = self.joins.by_name.get(name) or next(iter(self.joins.by_name.values()), self.select)
        return self.mixes(join, f"it joins streams on something else than '{said}'")

    def _check_subqueries(self, demand: Demand) -> None:
        """A subquery over a stream may ask for the same key, and for nothing else."""
        for inner in self.scope.subquery_scopes:
            if not self.reading.flows(self.node, inner):
                continue
            around = inner.expression.parent
            while isinstance(around, (exp.Subquery, exp.Paren)):
                around = around.parent
            where = self._item_of(inner.expression)
            if not isinstance(around, exp.In) or not _is_condition(around, self.select):
                raise self.mixes(where, "its subquery reads the events of all entities", "join it on the key")
            if (
                len(demand) != 1
                or self.joins.written_alike(around.this).sql() != self.joins.written_alike(demand[0]).sql()
            ):
                raise self.mixes(where, "its subquery is on something else than the key")
            (name,) = inner.expression.named_selects
            self.reading.demand(self.node, inner, (exp.column(name, quoted=True),), self.found)


def _is_condition(one: exp.Expression, select: exp.Select) -> bool:
    """Whether it is a condition of a WHERE that must be true, where NULL is as good as false."""
    while isinstance(one.parent, (exp.And, exp.Paren)):
        one = one.parent
    return isinstance(one.parent, exp.Where) and one.parent.parent is select


def part_of_all(made: exp.Expression) -> exp.Expression | None:
    """What takes some rows of all: limit, offset, sample."""
    found = next((made.args[key] for key in ("limit", "offset", "fetch", "sample") if made.args.get(key)), None)
    if found is None and isinstance(made, exp.Select):
        tables = [one for one in _own_nodes(made) if isinstance(one, exp.TableSample)]
        found = tables[0] if tables else None
    return found


def _aggregates(item: exp.Expression) -> bool:
    """Whether a projection is an aggregate of its SELECT, not over a window, and not of a subquery."""
    for one in _own_nodes(item):
        if isinstance(one, exp.AggFunc):
            around = one.parent
            while isinstance(around, (exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls, exp.Order)):
                around = around.parent
            if not isinstance(around, exp.Window):
                return True
    return False


def _own_nodes(made: exp.Expression) -> Iterator[exp.Expression]:
    """The nodes of a SELECT, without those of the queries in it."""
    yield from made.walk(prune=lambda one: one is not made and isinstance(one, (exp.Query, exp.With)))


def _without(part: exp.Expression, parts: set[str]) -> Iterator[exp.Column]:
    """The columns of an expression that are in none of these expressions."""
    if part.sql() in parts:
        return
    if isinstance(part, exp.Column):
        yield part
        return
    for one in part.iter_expressions():
        yield from _without(one, parts)
