"""Whether a view's SQL keeps entities apart: an entity's rows depend on the streamed rows of that entity alone.

Where it does, the view can be computed anew for the entities that new events touch, by its own SQL, with a filter in the
streamed sources. A demand goes down from the view: expressions over a SELECT's columns that rows have in common. Each
step carries it to what the SELECT reads, or says why it cannot. What reads no streamed source is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

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
    """A step that mixes entities: where it is, the expression that does it, and what would mend it."""

    def __init__(self, node: Node, text: str, why: str, mend: str = "") -> None:
        super().__init__(why)
        self.node, self.text, self.why, self.mend = node, text, why, mend


@dataclass(frozen=True)
class Apart:
    """How a view can be computed for some entities alone.

    Attributes:
        keys: the join keys that it is apart by; not all of them where the others mix.
        filters: for each streamed source what names, in its rows, the entities that they are of: a tuple of SQL
            expressions over its columns, in the order of `keys`; several where it is read in several ways.
        warnings: sentences on what nobody decides.
    """

    keys: tuple[str, ...]
    filters: Mapping[str, tuple[tuple[str, ...], ...]]
    warnings: tuple[str, ...] = ()


@dataclass
class _Found:
    filters: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)


def apart(
    reader: Reader, unique_id: str, keys: Sequence[str], streamed: Mapping[str, Mapping[str, Sequence[str]]]
) -> Apart | Mixes | None:
    """How a view is apart by its keys, or by some of them; else the step that mixes; None where it reads no stream.

    Args:
        streamed: by the ids of the sources, what an id decides in their rows: ``{"purchase_id": ["user_id"]}``.
    """
    reading = _Reading(reader, streamed)
    if not reading.reads(unique_id):
        return None
    failed: Mixes | None = None
    for names in (keys, *([key] for key in keys if len(keys) > 1)):
        try:
            found = _Found()
            demand = tuple(exp.column(name.lower(), quoted=True) for name in names)
            reading.demand_node(unique_id, demand, found)
            filters = {source: tuple(sorted(ways)) for source, ways in found.filters.items()}
            return Apart(tuple(names), filters, tuple(found.warnings))
        except Mixes as mixes:
            failed = failed or mixes
        except RecursionError:
            failed = failed or Mixes(reader.node(unique_id), "", "its SQL is nested too deeply to be read")
    return failed


class _Reading:
    def __init__(self, reader: Reader, streamed: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.reader, self.streamed = reader, streamed
        self._reads: dict[str, bool] = {}

    # What reads a stream.

    def reads(self, unique_id: str) -> bool:
        """Whether a node reads a streamed source, through others too: as dbt's graph says."""
        if unique_id not in self._reads:
            self._reads[unique_id] = unique_id in self.streamed
            about = self.reader.graph.nodes.get(unique_id, {})
            above = (about.get("depends_on") or {}).get("nodes") or ()
            self._reads[unique_id] = unique_id in self.streamed or any(self.reads(one) for one in above)
        return self._reads[unique_id]

    def flows(self, node: Node, source: Source | None) -> bool:
        """Whether a scope or table in a node's SQL reads one."""
        if isinstance(source, exp.Table):
            if source.name in node.reads or source.name in self.reader.graph.nodes:
                return self.reads(source.name)
            return False
        if isinstance(source, Scope):
            return any(self.flows(node, one) for one in _tables(source))
        return False

    # The demand, step by step.

    def demand_node(self, unique_id: str, demand: Demand, found: _Found) -> None:
        node = self.reader.node(unique_id)
        if unique_id in node.reads:
            raise Mixes(node, "", "its SQL is that of an incremental run", "run `dbt compile --full-refresh`")
        if unique_id in self.streamed:
            columns = set(node.columns)
            for column in (one for part in demand for one in part.find_all(exp.Column)):
                if columns and column.name not in columns:
                    raise Mixes(node, column.name, f"{node.title} has no column '{column.name}'")
            found.filters.setdefault(unique_id, set()).add(tuple(part.sql(node.dialect or "duckdb") for part in demand))
            return
        if not self.reads(unique_id):
            return
        if node.scope is None:
            raise Mixes(node, "", node.problem or f"the SQL of {node.title} is not known")
        config = node.about.get("config") or {}
        if node.about.get("resource_type") == "snapshot":
            raise Mixes(node, "", "a snapshot holds what earlier runs of dbt saw")
        if config.get("incremental_strategy") == "microbatch":
            raise Mixes(node, "", "a microbatch model has no SQL that builds all of it")
        self.demand(node, node.scope, demand, found)

    def demand(self, node: Node, scope: Scope, demand: Demand, found: _Found) -> None:
        """Rows of this scope that share `demand`, expressions over its columns, come from streamed rows that share
        what the demand becomes in the sources."""
        made = scope.expression
        if not self.flows(node, scope):
            return
        if isinstance(made, exp.SetOperation):
            self._branches(node, scope, demand, found)
        elif isinstance(made, exp.Select):
            _Select(self, node, scope, found).carry(demand)
        else:
            raise Mixes(node, made.sql(node.dialect)[:80], "it is of no form that is known here")

    def _branches(self, node: Node, scope: Scope, demand: Demand, found: _Found) -> None:
        made = scope.expression
        if _cut(made):
            raise Mixes(node, _cut(made).sql(node.dialect), "it takes some of all rows")
        if scope.is_root is False and isinstance(made.parent, exp.CTE) and made.parent.parent.args.get("recursive"):
            raise Mixes(node, made.parent.alias, "it is recursive")
        names = list(made.named_selects)
        for branch in scope.set_operation_scopes:
            own = list(branch.expression.named_selects)
            by_place = own if not made.args.get("by_name") else names

            def renamed(column: exp.Column, own: list[str] = by_place) -> exp.Expression:
                if column.name not in names or names.index(column.name) >= len(own):
                    raise Mixes(node, column.name, "its columns are not all known")
                return exp.column(own[names.index(column.name)], quoted=True)

            self.demand(node, branch, tuple(_replaced(part, renamed) for part in demand), found)


class _Select:
    """One SELECT that reads a stream."""

    def __init__(self, reading: _Reading, node: Node, scope: Scope, found: _Found) -> None:
        self.reading, self.node, self.scope, self.found = reading, node, scope, found
        self.select: exp.Select = scope.expression
        self.items = {item.alias: item for item in self.select.expressions}
        sources = {name: node.source_of(scope, name)[1] for name, _ in scope.references}
        self.streams = {name: source for name, source in sources.items() if reading.flows(node, source)}
        self.joins = {join.alias_or_name: join for join in self.select.args.get("joins") or ()}

    def mixes(self, what: exp.Expression, why: str, mend: str = "") -> Mixes:
        text = self.node.text(what) if what.meta.get("clause") is not None else what.sql(self.node.dialect)
        return Mixes(self.node, " ".join(text.split())[:200], why, mend)

    def carry(self, demand: Demand) -> None:
        windows = {id(item): self.node.windows.get(id(item)) for item in self.select.expressions}
        if any(windows.values()):
            return self._of_macro(demand)
        self._check_steady()
        for one in _own_nodes(self.select):
            if isinstance(one, _ANY):
                said = " ".join(one.sql(self.node.dialect).split())[:120]
                self.found.warnings[f"{self.node.title}: '{said}' takes any of several rows, batch or stream."] = None
        inside = tuple(_replaced(part, self._made) for part in demand)
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
        static = {column.table for part in inside for column in part.find_all(exp.Column)} - set(self.streams)
        if static and not self.streams:
            raise self.mixes(self.select, "its key comes from a table that does not stream")

    def _made(self, column: exp.Column) -> exp.Expression:
        """What a column of this SELECT is made from."""
        item = self.items.get(column.name)
        if item is None or item.meta.get("problem"):
            raise Mixes(self.node, column.name, "where this column comes from is not known")
        return item.this.copy()

    def _pass_on(self, name: str, source: Source | None, demand: Demand) -> None:
        demand = tuple(_replaced(part, lambda column: exp.column(column.name, quoted=True)) for part in demand)
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

        below = _Select(self.reading, self.node, events, self.found)
        for name, source in below.streams.items():
            below._pass_on(name, source, below._for(name, tuple(_replaced(part, inside) for part in demand)))

    # What a SELECT does with rows.

    def _check_steady(self) -> None:
        if cut := _cut(self.select):
            raise self.mixes(cut, "it takes some of all rows")
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
                self.found.warnings[
                    f"{self.node.title}: rows that the order of '{' '.join(self.node.text(where).split())[:120]}' leaves "
                    "equal come in any order, batch or stream."
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
        parts = {self._classed(one).sql() for one in by}
        for part in demand:
            left = [one for one in _without(self._classed(part), parts)]
            if left:
                raise self.mixes(where, f"{why}: '{part.sql(self.node.dialect)}' is not among what it goes by", mend)

    def _decided(self, by: Sequence[exp.Expression], demand: Demand) -> bool:
        """Whether the source says that an id which rows are put together by decides the key."""
        for one in by:
            origin = self._origin(one)
            if origin is None:
                continue
            decided = self.reading.streamed.get(origin[0], {}).get(origin[1], ())
            columns = [column for part in demand for column in part.find_all(exp.Column)]
            if columns and all(self._origin(column) in {(origin[0], name) for name in decided} for column in columns):
                return True
        return False

    def _mend(self, by: Sequence[exp.Expression], demand: Demand) -> str:
        ids = [self._origin(one) for one in by]
        keys = [self._origin(column) for part in demand for column in part.find_all(exp.Column)]
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
                f"say in {source.title} what the id decides, `stream: {{determines: {{{ids[0][1]}: [{decided}]}}}}`, or "
                f"partition by {decided} too"
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

    # Joins and subqueries.

    def _equal(self, name: str = "") -> list[set[str]]:
        """Columns that are equal in every row; with `name`, in every row that one of that table's rows is in.

        An outer join's condition holds for the rows of its other side alone, and so for those joined to them by an
        equality, which takes a value.
        """
        where = self.select.args.get("where")
        pairs = list(_equalities(where.this)) if where else []
        waiting = {key: list(_equalities(join.args.get("on"))) for key, join in self.joins.items()}
        inner = [key for key, join in self.joins.items() if not join.side and join.kind not in ("SEMI", "ANTI")]
        pairs += [pair for key in inner for pair in waiting.pop(key)]
        reached = {name}
        while opened := [key for key in waiting if key in reached]:
            for key in opened:
                for pair in waiting.pop(key):
                    pairs.append(pair)
                    reached |= {column.table for column in pair}
        if name:  # of a RIGHT or FULL join the other side is whatever stands before it
            for key in [
                key for key in waiting if self.joins[key].side in ("RIGHT", "FULL") and self._before(name, key)
            ]:
                pairs += waiting.pop(key)
        classes: list[set[str]] = []
        for pair in ({one.sql(), other.sql()} for one, other in pairs):
            joined = [one for one in classes if one & pair]
            classes = [one for one in classes if one not in joined] + [pair.union(*joined)]
        return classes

    def _before(self, name: str, other: str) -> bool:
        """Whether a table stands before another in the FROM."""
        order = list(self.joins)
        return name not in order or order.index(name) < order.index(other)

    def _classed(self, part: exp.Expression) -> exp.Expression:
        """An expression with equal columns written as one of them."""
        if len(self.scope.references) < 2:
            return part
        classes = self._equal()

        def first(column: exp.Column) -> exp.Expression:
            equal = next((one for one in classes if column.sql() in one), None)
            return exp.maybe_parse(min(equal), into=exp.Column) if equal else column

        return _replaced(part, first)

    def _for(self, name: str, demand: Demand) -> Demand:
        """The demand in columns of one of the streams alone."""
        classes = self._equal(name)
        outer = [join.side for join in self.joins.values()]

        def own(column: exp.Column) -> exp.Expression:
            if column.table == name:
                return column
            equal = next((one for one in classes if column.sql() in one), set())
            mine = [one for one in sorted(equal) if exp.maybe_parse(one, into=exp.Column).table == name]
            if not mine:
                if column.table not in self.streams:
                    raise self.mixes(
                        self.joins.get(column.table, self.select),
                        f"the key '{column.sql(self.node.dialect)}' comes from a table that does not stream, which does "
                        "not give it row by row",
                    )
                join = self.joins.get(name) or next(iter(self.joins.values()), self.select)
                raise self.mixes(join, f"it joins streams on something else than '{column.sql(self.node.dialect)}'")
            self._check_types(column, exp.maybe_parse(mine[0], into=exp.Column))
            return exp.maybe_parse(mine[0], into=exp.Column)

        parts = []
        for part in demand:
            merged = part.unnest() if isinstance(part, exp.Paren) else part
            if isinstance(merged, exp.Coalesce) and "FULL" in outer:
                each = [one for one in (merged.this, *merged.expressions) if isinstance(one, exp.Column)]
                mine = [one for one in each if one.table == name]
                if len(each) == 1 + len(merged.expressions) and mine and _all_equal(each, classes):
                    parts.append(mine[0].copy())
                    continue
            if any(outer):
                for column in part.find_all(exp.Column):
                    if self._may_be_missing(column.table):
                        raise self.mixes(
                            self.joins.get(column.table, self.select),
                            f"the key '{column.sql(self.node.dialect)}' is NULL where the other side has no row",
                        )
            parts.append(_replaced(part, own))
        return tuple(parts)

    def _may_be_missing(self, name: str) -> bool:
        """Whether an outer join gives rows without a row of this table."""
        own = self.joins.get(name)
        if own is not None and own.side in ("LEFT", "FULL"):
            return True
        after = False
        for other, join in self.joins.items():
            after = after or own is None or own is join
            if after and other != name and join.side in ("RIGHT", "FULL"):
                return True
        return False

    def _check_types(self, one: exp.Column, other: exp.Column) -> None:
        """Only within one type does equal mean the same key."""
        types = [self._type_of(column) for column in (one, other)]
        if None in types or types[0] != types[1]:
            join = self.joins.get(other.table) or self.joins.get(one.table) or self.select
            names = " and ".join(f"'{column.sql(self.node.dialect)}'" for column in (one, other))
            raise self.mixes(
                join, f"whether {names} are of one type is not known", "declare both alike in their sources"
            )

    def _type_of(self, column: exp.Column) -> str | None:
        origin = self._origin(column)
        if origin is None:
            return None
        columns = (self.reading.reader.graph.nodes[origin[0]].get("columns") or {}).values()
        declared = next((one.get("data_type") for one in columns if one["name"].lower() == origin[1]), None)
        return exp.DataType.build(declared, dialect=self.node.dialect or None).sql() if declared else None

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
            if len(demand) != 1 or self._classed(around.this).sql() != self._classed(demand[0]).sql():
                raise self.mixes(where, "its subquery is on something else than the key")
            (name,) = inner.expression.named_selects
            self.reading.demand(self.node, inner, (exp.column(name, quoted=True),), self.found)


def _equalities(condition: exp.Expression | None) -> Iterator[tuple[exp.Column, exp.Column]]:
    """The columns that a condition says are equal."""
    for one in condition.flatten() if isinstance(condition, exp.And) else filter(None, [condition]):
        one = one.unnest()
        if isinstance(one, exp.And):
            yield from _equalities(one)
        elif isinstance(one, exp.EQ) and isinstance(one.this, exp.Column) and isinstance(one.expression, exp.Column):
            yield one.this, one.expression


def _is_condition(one: exp.Expression, select: exp.Select) -> bool:
    """Whether it is a condition of a WHERE that must be true, where NULL is as good as false."""
    while isinstance(one.parent, (exp.And, exp.Paren)):
        one = one.parent
    return isinstance(one.parent, exp.Where) and one.parent.parent is select


def _cut(made: exp.Expression) -> exp.Expression | None:
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


def _tables(scope: Scope) -> Iterator[exp.Table]:
    """The tables that a scope reads, through those in it."""
    for one in scope.traverse():
        yield from (source for source in one.sources.values() if isinstance(source, exp.Table))


def _replaced(part: exp.Expression, new: object) -> exp.Expression:
    """An expression with each of its columns replaced."""
    return part.copy().transform(lambda one: new(one) if isinstance(one, exp.Column) else one)


def _without(part: exp.Expression, parts: set[str]) -> Iterator[exp.Column]:
    """The columns of an expression that are in none of these expressions."""
    if part.sql() in parts:
        return
    if isinstance(part, exp.Column):
        yield part
        return
    for one in part.iter_expressions():
        yield from _without(one, parts)


def _all_equal(columns: Sequence[exp.Column], classes: Sequence[set[str]]) -> bool:
    names = {column.sql() for column in columns}
    return any(names <= one for one in classes)
