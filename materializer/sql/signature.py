"""The meaning of a model's query: what each column computes and which rows there are, whatever anything is called.

Layout, case, names of CTEs and aliases, the order of conditions, the sides of an equality and the way literals are
written leave no trace. What a table is, whoever asks says; `Followed` follows columns through all models to sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from materializer.sql.expression import (
    Expression,
    Scope,
    Source,
    aggregates,
    bounds,
    conjuncts,
    spreads,
)
from materializer.sql.meaning import (
    Column,
    Part,
    Query,
    Text,
    UnreadableError,
    all_reads,
    digest,
    each_once,
    joined,
    keyed,
    made_from,
    outside,
    relation,
)
from materializer.sql.reader import OPEN, Node, Reader

_GRAIN = re.compile(r"a row (?:at each|every) (.+)")
_PARTS_OF_A_SELECT = (
    "expressions", "from_", "joins", "laterals", "where", "group", "having", "qualify", "windows", "distinct", "order",
    "limit", "offset", "sample",
)  # fmt: skip


class Followed:
    """What the columns of a graph's models compute, down to sources: equal signatures, equal columns."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, Query | None] = {}

    def query(self, unique_id: str) -> Query:
        """What a model gives, or a source.

        Raises:
            UnreadableError: where its SQL, or that of a model above it, cannot be followed.
        """
        waiting, begun = [unique_id], set()
        while waiting:
            node = self._reader.node(waiting[-1])
            if node.id in self._known:
                waiting.pop()
            elif node.id not in begun:  # what it reads comes first, however long the chain
                begun.add(node.id)
                waiting += [one for one in node.reads if one not in begun]
            else:
                self._known[node.id] = self._read(node)
        return self._found(unique_id)

    def _read(self, node: Node) -> Query | None:
        if node.scope is None:
            return relation(node.id, dict.fromkeys(node.columns), bool(node.may_have))
        try:
            return query_of(node, self._found)
        except UnreadableError:
            return None

    def _found(self, unique_id: str) -> Query:
        found = self._known.get(unique_id)
        if found is None:
            raise UnreadableError(f"{unique_id} is not followed, or reads itself")
        return found


def query_of(node: Node, find: Callable[[str], Query]) -> Query:
    """The meaning of a model's SQL; `find` gives that of a table in it, by its name there.

    Raises:
        UnreadableError: where it cannot be followed.
    """
    if node.scope is None:
        raise UnreadableError(node.problem or "it has no SQL")
    tree = node.scope.expression
    try:
        return _Queries(node, find).query(tree, Scope({}), outermost=True)
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # Trees differ from dialect to dialect; one that is not as expected costs precision, no more.
        raise UnreadableError(f"its form is not known here: {type(error).__name__}") from None


class _Queries:
    """The queries in one model's SQL."""

    def __init__(self, node: Node, find: Callable[[str], Query]) -> None:
        self._node, self._find, self._dialect = node, find, node.dialect

    def query(self, node: exp.Expression, around: Scope, outermost: bool = False) -> Query:
        """The meaning of a query within another; `around` has the CTEs in reach and the query that it may refer to."""
        windowed = isinstance(node, exp.Select) and any(id(item) in self._node.windows for item in node.expressions)
        scope = self._with_ctes(node, around, windowed)
        if windowed:
            return self._windowed(node, scope)
        if isinstance(node, exp.Select):
            query = self._select(node, scope)
        elif isinstance(node, exp.Subquery):
            query = self.query(node.this, scope)
        elif isinstance(node, exp.SetOperation):
            query = self._set_operation(node, scope)
        elif isinstance(node, exp.Values):
            return self._generated(node, [], scope)
        else:
            raise UnreadableError(f"{type(node).__name__.upper()} is not followed")
        return self._limited(query, node, scope, outermost)

    def _with_ctes(self, node: exp.Expression, around: Scope, windowed: bool) -> Scope:
        """A scope for the query itself, with its own CTEs, but for those that a window macro wrote."""
        ctes = dict(around.ctes)
        with_ = node.args.get("with_")
        for cte in with_.expressions if with_ else ():
            if windowed and cte.alias.startswith("_fs_"):
                continue
            names = _names(cte.args["alias"])
            inside = Scope(dict(ctes), around.outer)
            if with_.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                start = self.query(cte.this.this, inside).renamed(names)
                itself = {
                    name: outside("the rows before", str(place), column.type)
                    for place, (name, column) in enumerate(start.columns.items())
                }
                before = Query(itself, digest("the rows before"), relations=frozenset({"the rows before"}))
                inside = Scope({**ctes, cte.alias: before}, around.outer)
            ctes[cte.alias] = self.query(cte.this, inside).renamed(names)
        return Scope(ctes, around.outer)

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Query:
        left, right = self.query(node.this, scope), self.query(node.expression, scope)
        kind = f"{type(node).__name__.lower()}{'' if node.args.get('distinct') else ' all'}"
        others: list[Column | None] = list(right.columns.values())
        if node.args.get("by_name"):
            kind += f" by name {node.args.get('side')} {node.args.get('kind')}"
            others = [right.column(name) for name in left.columns]
        columns = {}
        for place, (name, column) in enumerate(left.columns.items()):
            # Where it is not known what stands at that place, it depends on the whole of the other side.
            other = (others[place] if place < len(others) else None) or right.as_value(name)
            columns[name] = made_from(kind, name, [column, other], column.type if column.type == other.type else None)
        if node.args.get("by_name"):
            columns |= {name: column for name, column in right.columns.items() if name not in columns}
        base, row_reads = digest(kind, left.rows, right.rows), left.row_reads | right.row_reads
        if left.unseen or right.unseen:
            base = digest(base, left.as_value("").exact, right.as_value("").exact)
        if not kind.startswith("union all"):
            base = digest(base, [column.exact for column in columns.values()])
            row_reads |= all_reads(columns.values())
        own = Part(kind, "", digest(kind, sorted(left.relations), sorted(right.relations)))
        return Query(
            columns,
            base,
            unseen=tuple(dict.fromkeys(left.unseen + right.unseen)),
            parts=each_once((*left.parts, *right.parts, own)),
            relations=left.relations | right.relations,
            row_reads=row_reads,
        )

    def _select(self, node: exp.Select, scope: Scope) -> Query:
        _check_followed(node, *_PARTS_OF_A_SELECT)
        self._from(node, scope)
        scope.windows |= {window.name: window for window in node.args.get("windows") or ()}
        self._filter("where", node.args.get("where"), scope)
        columns: dict[str, Column] = {}
        unseen: list[str] = []
        spread: list[Column] = []
        for item in node.expressions:
            if item.is_star:
                raise UnreadableError(f"{Text((item,), self._dialect)} is not followed")
            if item.alias.startswith(OPEN) and isinstance(item.this, exp.Column):
                source = scope.sources[item.this.table]
                unseen += source.query.unseen
                columns |= {new: source.column(old) for new, old in node.meta["stars"][1].items() if new not in columns}
                continue
            column = self._column(item, scope)
            if item.meta.get("problem"):
                column = column.doubted()
            columns[item.alias] = column
            spread += [self._column(one, scope) for one in spreads(item)]
        aggregated = {item.alias for item in node.expressions if item.alias in columns and aggregates(item)}
        query = scope.query
        if spread:
            query = query.decided(digest("spread", query.rows, [one.exact for one in spread]), (), all_reads(spread))
        scope.query = query
        aggregated = self._group(node, columns, aggregated, scope)
        relations = sorted(query.relations)
        for name in aggregated:
            column = columns[name]
            exact = digest(relations, scope.query.rows, column.exact)
            columns[name] = replace(column, key=digest(relations, column.key), exact=exact)
        self._filter("qualify", node.args.get("qualify"), scope)
        query = replace(scope.query, columns=columns, unseen=tuple(dict.fromkeys(unseen)))
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is None:
            base = digest("distinct", query.rows, sorted(column.exact for column in columns.values()))
            query = query.decided(base, [Part("distinct", "", digest("distinct"))], all_reads(columns.values()))
        return query

    def _column(self, node: exp.Expression, scope: Scope) -> Column:
        return Expression(scope, self._dialect, self.query).column(node)

    def _conditions(self, node: exp.Expression | None, kind: str, scope: Scope) -> list[tuple[Part, list[Column]]]:
        """The conditions that a WHERE, ON, HAVING or QUALIFY joins by AND."""
        found = []
        for one in conjuncts(node):
            columns = [self._column(bound, scope) for bound in bounds(one)]
            key = digest(kind, sorted(column.key for column in columns))
            found.append((Part(kind, Text((one,), self._dialect), key), columns))
        return found

    def _filter(self, kind: str, node: exp.Expression | None, scope: Scope) -> None:
        found = self._conditions(node, kind, scope)
        scope.query = scope.query.filtered(
            (part for part, _ in found), (column for _, columns in found for column in columns)
        )

    def _group(self, node: exp.Select, columns: dict[str, Column], aggregated: set[str], scope: Scope) -> set[str]:
        """Read GROUP BY and HAVING; gives the columns that are made from the rows of a group."""
        group, having = node.args.get("group"), node.args.get("having")
        keys: list[Column] = []
        if group is not None:
            _check_followed(group, "expressions", "all", "cube", "rollup", "grouping_sets")
        if group is None:
            if not aggregated and not (having is not None and aggregates(having)):
                return aggregated
        elif group.args.get("all"):
            keys = [columns[name] for name in columns if name not in aggregated]
        else:
            keys = [self._column(one, scope) for one in group.expressions]
            for special in ("cube", "rollup", "grouping_sets"):
                keys += [self._column(one, scope) for one in group.args.get(special) or ()]
        grouped_by = {column.key for column in keys}
        own = Part("group by", joined(", ", (key.text for key in keys)), digest("group", sorted(grouped_by)))
        base = digest("group", scope.query.rows, sorted({column.exact for column in keys}))
        scope.query = scope.query.decided(base, [own], all_reads(keys))
        self._filter("having", having, scope)
        return aggregated | {name for name, one in columns.items() if one.children and one.key not in grouped_by}

    def _limited(self, query: Query, node: exp.Expression, scope: Scope, outermost: bool) -> Query:
        """With DISTINCT ON, LIMIT, OFFSET, and the ORDER BY that they go by.

        A table has no order; within a query a function may depend on it.
        """
        distinct, order = node.args.get("distinct"), node.args.get("order")
        found = [("distinct on", distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None)]
        found += [("order by", order), *((name, node.args.get(name)) for name in ("limit", "offset", "sample"))]
        given = [(name, one) for name, one in found if one is not None]
        if not given or (outermost and [name for name, _ in given] == ["order by"] and distinct is None):
            return query
        scope.query, scope.aliases = query, dict(query.columns)
        deciding = [(name, self._column(one, scope)) for name, one in given]
        base = digest("limit", query.rows, [column.exact for _, column in deciding])
        parts = [Part(name, column.text, digest(name, column.key)) for name, column in deciding]
        return query.decided(base, parts, all_reads(column for _, column in deciding))

    # FROM.

    def _from(self, node: exp.Select, scope: Scope) -> None:
        """Read FROM and its joins; after it the scope knows their rows and columns."""
        from_ = node.args.get("from_")
        if from_ is None:
            scope.query = Query({}, digest("one row"))
            return
        scope.query = replace(self._add(from_.this, scope).query, columns={}, unseen=())
        laterals = [exp.Join(this=lateral, kind="CROSS") for lateral in node.args.get("laterals") or ()]
        for join in (*(from_.this.args.get("joins") or ()), *(node.args.get("joins") or ()), *laterals):
            _check_followed(join, "this", "on", "side", "kind", "method")
            self._join(join, scope)

    def _join(self, join: exp.Join, scope: Scope) -> None:
        """One more table. What an inner join asks for is a filter like any other, as are its tables' own."""
        kind, side, left, before = _kind(join), (join.side or "").upper(), scope.query, list(scope.sources.values())
        if join.this.args.get("joins"):
            raise UnreadableError("a JOIN within a JOIN is not followed")
        source = self._add(join.this, scope)
        right = source.query
        source.optional = side in ("LEFT", "FULL")
        for one in before if side in ("RIGHT", "FULL") else ():
            one.optional = True
        found = self._conditions(join.args.get("on"), "", scope)
        conditions = [column for _, columns in found for column in columns]
        exacts = frozenset(column.exact for column in conditions)
        inner = kind in ("inner join", "cross join")
        alike = inner and not source.copy and not isinstance(join.this, exp.Lateral)
        apart = side in ("RIGHT", "FULL") or kind == "positional join"
        how = "" if inner else [kind, sorted(exacts)]
        what = joined(", ", (part.sql for part in right.parts if part.kind == "from"))
        on = joined(" and ", (part.sql for part, _ in found))
        key = digest(kind, sorted(right.relations), sorted(part.key for part, _ in found))
        own = Part(kind, joined(" on ", (what, on)) if found else what, key)
        scope.query = replace(
            left,
            base=digest("join", left.rows if apart else left.base, how, right.base if alike else right.rows),
            filters=(frozenset() if apart else left.filters)
            | (exacts if inner else frozenset())
            | (right.filters if alike else frozenset()),
            moments=(frozenset() if apart else left.moments) | (right.moments if alike else frozenset()),
            parts=each_once((*left.parts, *(part for part in right.parts if part.kind != "from"), own)),
            relations=left.relations | right.relations,
            row_reads=left.row_reads | right.row_reads | all_reads(conditions),
        )

    def _add(self, item: exp.Expression, scope: Scope) -> Source:
        """One more FROM item in the scope."""
        if item.args.get("pivots"):
            raise UnreadableError("PIVOT is not followed")
        names = _names(item.args.get("alias"))
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            _check_followed(item, "this", "alias", "sample", "joins")
            query = scope.ctes[item.name] if item.name in scope.ctes else self._find(item.name)
        elif isinstance(item, exp.Subquery):
            query = self.query(item, Scope(scope.ctes, scope.outer))
        elif isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery):
            query = self.query(item.this, Scope(scope.ctes, scope))
        else:
            query = self._generated(item, names, scope)
        query = query.renamed(names)
        if item.args.get("sample") and not isinstance(item, exp.Subquery):
            sample = self._column(item.args["sample"], scope)
            part = Part("sample", sample.text, digest("sample", sample.key))
            query = query.decided(digest("sample", query.rows, sample.exact), [part], sample.reads)
        copies = sum(bool(one.query.relations & query.relations) for one in scope.sources.values())
        mark = f"{copies + 1}: {', '.join(sorted(query.relations))}" if copies else ""
        scope.sources[item.alias_or_name] = Source(query, mark)
        return scope.sources[item.alias_or_name]

    def _generated(self, item: exp.Expression, names: list[str], scope: Scope) -> Query:
        """VALUES, UNNEST, a table function: rows made by an expression."""
        bare = item.copy()
        bare.set("alias", None)
        column = self._column(bare, scope)
        text = f"({Text((item.this if isinstance(item, exp.Lateral) else bare,), self._dialect)})"
        known = [name for name in names if not name.startswith(OPEN)]
        if isinstance(item, exp.Values) and all(isinstance(row, exp.Tuple) for row in item.expressions):
            places = list(zip(*(row.expressions for row in item.expressions), strict=False))
            known = [*known, *(f"col{place}" for place in range(len(known), len(places)))]
            given = [[self._column(one, scope) for one in place] for place in places]
            columns = {
                name: made_from("values", f"values.{name}", one) for name, one in zip(known, given, strict=False)
            }
        else:
            columns = {
                name: Column(*[digest(column.exact, place)] * 2, f"{text}.{name}", column.reads)
                for place, name in enumerate(known)
            }
        return Query(
            columns,
            base=column.exact,
            unseen=() if known else (text,),
            parts=(Part("from", text, column.key),),
            relations=frozenset({column.key}),
            row_reads=column.reads,
        )

    # The package's windows: the same in every shape.

    def _windowed(self, node: exp.Select, scope: Scope) -> Query:
        """What the SELECT of a window macro says of its columns, in place of how they are computed."""
        ctes = {cte.alias: cte.this for cte in node.ctes}
        windows = {item.alias: self._node.windows.get(id(item)) for item in node.expressions}
        window = next(filter(None, windows.values()))
        inside, made = Scope(scope.ctes, scope.outer), {item.alias: item for item in window.events.expression.selects}
        self._from(window.events.expression, inside)
        keys = {name: self._read(item, inside) for name, item in made.items() if not name.startswith("_fs_")}
        event = time = self._read(made["_fs_event"], inside)
        if window.known is not None:
            known = self._column(exp.column(window.known.lower(), made["_fs_event"].find(exp.Column).table), inside)
            key, text = keyed("greatest", frozenset((event, known))), f"GREATEST({event.text}, {known.text})"
            time = Column(key.key, key.exact, text, event.reads | known.reads, None, (event, known))
        spine, about, rows = Scope(scope.ctes, scope.outer), [time, event, *keys.values()], inside.query
        asked = [time, event, frozenset(keys.values())]
        if "_fs_spine" in ctes:
            self._from(ctes["_fs_spine"], spine)
            (source,) = spine.sources.values()
            own = {one.alias: one.find(exp.Column).name for one in ctes["_fs_moments"].selects if one.alias in keys}
            spine_keys = {name: source.column(own[name]) for name in keys}
            moment, rows = source.column(window.moment.lower()), spine.query
            asked = [time, event, moment, frozenset(keyed(key, spine_keys[name]) for name, key in keys.items())]
            about += [*spine_keys.values(), moment]
        columns: dict[str, Column] = {}
        unseen: list[str] = []
        for item in node.expressions:
            said = _GRAIN.fullmatch(" ".join(item.comments or ()).strip())
            if (one := windows[item.alias]) is not None:
                value = self._column(one.made, inside)
                key = keyed(sorted(inside.query.relations), asked, one.duration, one.strictly, value)
                exact, children = digest(inside.query.rows, key.exact), (value, *about)
                columns[item.alias] = Column(key.key, exact, one.text, all_reads(children), None, children, value.type)
            elif "_fs_spine" in ctes and item.alias.startswith(OPEN):
                unseen += source.query.unseen
            elif "_fs_spine" in ctes:
                columns[item.alias] = source.column(item.this.name)
            elif said is None:
                columns[item.alias] = keys[item.alias]
            else:
                columns[item.alias] = time
                rows = self._moments(rows, said[1], time, {one.duration for one in windows.values() if one})
        return replace(rows, columns=columns, unseen=tuple(unseen), relations=rows.relations | inside.query.relations)

    def _read(self, item: exp.Expression, scope: Scope) -> Column:
        """The column of the events that an item of a window macro is made from: how it is cast depends on its type."""
        return self._column(item.find(exp.Column), scope)

    def _moments(self, rows: Query, grain: str, time: Column, lengths: set[str]) -> Query:
        """When a windowed view has rows."""
        texts = [f"MOMENTS_OF_GRAIN('{grain}', {time.text})"]
        conditions = [Column(*[keyed("moments", grain, time).exact] * 2, texts[0], time.reads)]
        for length in sorted(lengths) if grain != "event" else ():
            texts.append(f"MOMENTS_AT_THE_END_OF('{length}')")
            conditions.append(Column(*[digest("end of", length)] * 2, texts[-1]))
        parts = [Part("where", text, digest("where", one.key)) for text, one in zip(texts, conditions, strict=True)]
        return rows.filtered(parts, conditions[:1], conditions[1:])


def _check_followed(node: exp.Expression, *known: str) -> None:
    """Stop at a part of a query that nobody here looks into: to pass over it would take changes in it for none."""
    for name, value in node.args.items():
        if value and name not in known and name not in ("hint", "hints", "with_"):
            words = name.strip("_").replace("_", " ").upper()
            raise UnreadableError(f"{words} in a {node.key.upper()} is not followed")


def _names(alias: exp.Expression | None) -> list[str]:
    return [column.name for column in alias.args.get("columns") or ()] if alias else []


def _kind(join: exp.Join) -> str:
    """``inner join``, ``left join``, ``asof left join`` ...: one name for each meaning."""
    kind, side, method = ((join.args.get(name) or "").lower() for name in ("kind", "side", "method"))
    if kind in ("semi", "anti"):
        side = ""
    elif side or kind == "outer":
        kind = ""
    elif kind not in ("cross", "positional"):
        kind = "inner" if join.args.get("on") is not None or method else "cross"
    return " ".join(word for word in (method, side, kind, "join") if word)
