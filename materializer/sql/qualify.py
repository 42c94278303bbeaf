"""The way from a node's compiled SQL to its `Node`: on sqlglot's qualify, and on for names that it leaves.

sqlglot resolves names where all columns of all tables are known. A table that may have others gets one more, called
``?...``: sqlglot carries it through stars and subqueries, and a name that it could not place is looked for among the
tables that have one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import NormalizationStrategy
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.qualify_columns import qualify_columns
from sqlglot.optimizer.qualify_tables import qualify_tables
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from materializer.project.graph import Graph, reference_of
from materializer.sql.node import Node, Window, dialect_named, is_select
from materializer.sql.prepare import OPEN, call_files, copied, dotted, each_name_once, parse, prepare

_EPHEMERAL = "__dbt__cte__"
# What dbt adds to a snapshot, and which setting says from which column it is made.
_SNAPSHOT = {"dbt_scd_id": "unique_key", "dbt_updated_at": "updated_at", "dbt_valid_from": "updated_at",
             "dbt_valid_to": "updated_at", "dbt_is_deleted": None}  # fmt: skip
# The first argument of a function that sqlglot does not know may be a unit of time that only looks like a column.
_UNITS = {
    "microsecond", "millisecond", "second", "minute", "hour", "day", "dayofweek", "dow", "dayofyear", "doy", "week",
    "isoweek", "month", "quarter", "year", "epoch",
}  # fmt: skip
# What sqlglot raises at SQL that it cannot read.
_UNREAD = (SqlglotError, RecursionError, ValueError, AttributeError, TypeError, KeyError, IndexError)


class Reading:
    """The SQL of one node: parsed; its `tables` called by what they are; then, when these are known, qualified."""

    def __init__(self, graph: Graph, about: Mapping[str, Any], known: bool = False) -> None:
        self.graph, self.about, self.tables = graph, about, {}
        title = f"{about.get('resource_type')} '{reference_of(about)}'"
        self.node = Node(about["unique_id"], title, about, graph.dialect, may_have="maybe")
        # Names are compared in lower case, whatever the warehouse: a manifest does not say how they are quoted there.
        self.folding = dialect_named(
            f"{graph.dialect}, normalization_strategy=case_insensitive" if graph.dialect else ""
        )
        self.done = known
        if known:
            return
        self.tree = None if about.get("resource_type") in ("source", "seed") else self._parsed()
        if self.tree is None:
            self._end()

    # Parsing.

    def _parsed(self) -> exp.Query | None:
        sql, node = self.about.get("compiled_code"), self.node
        if self.about.get("language") == "python":
            title = node.title[0].upper() + node.title[1:]
            node.problem = f"{title} is written in Python, so what its columns are made from cannot be seen."
        elif not isinstance(sql, str) or not sql.strip():
            node.problem = f"The manifest holds no compiled SQL of {node.title}: run `dbt compile` or `dbt build`."
        else:
            try:
                tree = parse(sql, node.dialect)
            except _UNREAD as error:
                return self._unread(error)
            if tree is not None:
                return tree
            node.problem = f"The compiled SQL of {node.title} is not a SELECT."
        return None

    def prepare(self) -> None:
        """Make the tree ready to be qualified, and find its tables."""
        try:
            self.node.written, self.node.clauses = copied(self.tree)
            if _EPHEMERAL in str(self.about["compiled_code"]):
                self._take_out_ephemerals(self.tree)
            call_files(self.tree, self.graph.parents(self.about), self.node.dialect)
            self.said = prepare(self.tree, self.node.dialect, "_fs_events" in str(self.about["compiled_code"]))
            self.tree = qualify_tables(self.tree, dialect=self.folding)
            self._call_tables(self.tree)
        except _UNREAD as error:
            self.tree = self._unread(error)

    def _unread(self, error: Exception) -> None:
        first = (getattr(error, "errors", None) or [{}])[0]
        known = first.get("description") or (str(error) if isinstance(error, SqlglotError) else "too deeply nested")
        at = f" in line {first['line']}" if first.get("line") else ""
        self.node.problem = (
            f"The compiled SQL of {self.node.title} cannot be read{at}: {' '.join(known.split()).rstrip('.')}."
        )

    def _take_out_ephemerals(self, tree: exp.Query) -> None:
        """Of an ephemeral model that has SQL of its own, the CTE that dbt put in for it is that model."""
        for cte in [one for one in tree.find_all(exp.CTE) if one.alias.startswith(_EPHEMERAL)]:
            called = cte.alias.removeprefix(_EPHEMERAL)
            names = ("name", "alias", "identifier")
            for above in self.graph.above(self.about):
                if above.get("compiled_code") and called in [above.get(key) for key in names]:
                    for table in [one for one in tree.find_all(exp.Table) if one.name == cte.alias and not one.db]:
                        table.set("alias", table.args.get("alias") or exp.TableAlias(this=table.this))
                        table.set("this", exp.to_identifier(above["unique_id"], quoted=True))
                    (cte.parent if len(cte.parent.expressions) == 1 else cte).pop()
                    break

    def _call_tables(self, tree: exp.Query) -> None:
        for scope in traverse_scope(tree):
            for alias, source in scope.sources.items():
                is_name = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
                if not is_name or source.name in self.tables or (source.name in scope.cte_sources and not source.db):
                    continue
                parts, name = [part.name for part in source.parts], self._called(source)
                for column in scope.columns if len(parts) > 1 else ():  # of a table called by its schema too
                    own = [part.name for part in column.parts]
                    for length in range(2, len(own)):
                        if own[:length] == parts[-length:]:
                            column.replace(dotted(own[length:], alias))
                            break
                self.tables[name] = None
                for key, value in (("this", exp.to_identifier(name, quoted=True)), ("db", None), ("catalog", None)):
                    source.set(key, value)
            scope.clear_cache()

    def _called(self, table: exp.Table) -> str:
        """The id of the node that a table is; else its name.

        Where the SQL names it in part, or not as the manifest does: a parent of that name, whatever the target; else
        the only node whose relation ends so, where the SQL names the schema, or the reader's own is the same.
        """
        parts = [part.name for part in table.parts]
        found = self.graph.nodes.get(parts[0]) or self.graph.at(".".join(parts))
        if found is None:
            names, end = ("alias", "identifier", "name"), parts
            near = [
                one
                for one in self.graph.parents(self.about)
                if parts[-1] in [str(one.get(key)).lower() for key in names]
            ]
            if len(near) != 1:
                end = parts if len(parts) > 1 else [str(self.about.get("schema")), *parts]
                near = self.graph.ending(".".join(end))
            found = near[0] if len(near) == 1 else None
        return found["unique_id"] if found else ".".join(part.meta_get("spelled") or part.name for part in table.parts)

    # Qualifying.

    def finish(self, tables: dict[str, Node]) -> None:
        """Qualify the tree; `tables` are those that it reads."""
        joined: list[str] = []
        self.node.reads = tables
        reads_itself = self.node.id in tables
        while self.tree is not None and not self.done:
            try:
                self._qualified(self.tree, joined)
                self.done = not reads_itself
                if reads_itself:  # once more, now that its columns are known
                    reads_itself = False
                    self.tree = self._parsed()
                    self.prepare()
            except _UNREAD as error:
                name = str(error).removeprefix("Cannot automatically join: ")
                if isinstance(error, OptimizeError) and name != str(error) and name not in joined:
                    joined.append(name)  # a table whose columns are not known must have it
                    self.tree = self._parsed()
                    self.prepare()
                else:
                    self.tree = self._unread(error)
        if not self.done:
            self._end()

    def _end(self) -> None:
        """Of a node without SQL that can be read, the columns are those that the warehouse has or a file declares."""
        node, self.done = self.node, True
        built, declared = self.graph.built_columns(self.about), self.graph.declared_columns(self.about)
        node.scope, node.columns = None, {name.lower(): name for name in built or declared}
        node.may_have = "" if built else ("unlikely" if declared else "maybe")
        if len(node.columns) < len(set(built or declared)):
            node.problem = node.problem or f"Columns of {node.title} that differ in case only are not told apart."

    def _qualified(self, tree: exp.Query, joined: Iterable[str]) -> None:
        node, graph = self.node, self.graph
        for found in (node.windows, node.parts, node.names, node.opened):
            found.clear()
        others = {name: [*joined, OPEN + name] if table.may_have else [] for name, table in node.reads.items()}
        columns = {name: dict.fromkeys([*node.reads[name].columns, *more], "unknown") for name, more in others.items()}
        schema = MappingSchema(columns, dialect=self.folding, normalize=False)
        folds = dialect_named(node.dialect).normalization_strategy is NormalizationStrategy.CASE_INSENSITIVE
        again = True
        while again:
            qualify_columns(tree, schema, allow_partial_qualification=True)
            selects = list(tree.find_all(exp.Select))
            changed = [each_name_once(select, folds) for select in selects]
            again = any(changed) and any(item.is_star for select in selects for item in select.expressions)
        scopes = traverse_scope(tree)
        node.scope = scopes[-1]
        node.scopes = {id(scope.expression): scope for scope in scopes}
        self._name_parts()
        for scope in scopes:
            found = list(scope.find_all(exp.Column, exp.Coalesce, exp.Join))
            sides = {one.alias_or_name: one.side for one in found if isinstance(one, exp.Join)}
            for one in found:
                if isinstance(one, exp.Coalesce):
                    _merge_joined(one, sides)
                elif type(one) is exp.Column:
                    self._settle(scope, one)
            self._note_columns(scope)
        self._take_windows()
        node.columns, node.may_have = dict(node.names[id(tree)]), node.opened[id(tree)]
        if node.may_have:
            node.columns = {name.lower(): name for name in graph.built_columns(self.about)} | node.columns
        config = self.about.get("config") or {}
        for name, setting in _SNAPSHOT.items() if self.about.get("resource_type") == "snapshot" else ():
            called = (config.get("snapshot_meta_column_names") or {}).get(name) or name
            if called.lower() not in node.columns and (setting or config.get("hard_deletes") == "new_record"):
                made = config.get(setting) or []
                node.columns[called.lower()] = called
                node.added[called.lower()] = [str(one).lower() for one in (made if isinstance(made, list) else [made])]

    def _name_parts(self) -> None:
        """Call each CTE and subquery by its name, behind those that it stands in."""
        taken: dict[str, int] = {}
        waiting = [(self.node.scope, "")]
        for scope, part in waiting:
            self.node.parts[id(scope.expression)] = part
            waiting += [(branch, part) for branch in scope.set_operation_scopes]
            for inner in (*scope.cte_scopes, *scope.table_scopes, *scope.subquery_scopes):
                around = inner.expression if isinstance(inner.expression, exp.UDTF) else inner.expression.parent
                while isinstance(around, exp.Subquery) and not around.alias:
                    around = around.parent
                named = around.args.get("alias") if isinstance(around, (exp.CTE, exp.Subquery, exp.UDTF)) else None
                name = (named.this.meta_get("spelled") or named.name) if named and named.this else ""
                name = "subquery" if not name or re.fullmatch(r"_\d+", name) else name
                name = f"{part}.{name}" if part else name
                taken[name] = taken.get(name, 0) + 1
                waiting.append((inner, name if taken[name] == 1 else f"{name} {taken[name]}"))

    def _take_windows(self) -> None:
        """Take the aggregates out of the events' SELECT again, into which they were put to be qualified."""
        made: dict[str, tuple[Scope, exp.Expression]] = {}
        node, selects = self.node, [scope for scope in self.node.scopes.values() if is_select(scope) and self.said]
        for scope in selects:
            for item in [one for one in scope.expression.expressions if one.alias in self.said]:
                made.setdefault(item.alias, (scope, item.pop().this))  # the first; stars may have taken it on
                node.names[id(scope.expression)].pop(item.alias, None)
                scope.clear_cache()
        for item in (one for scope in selects for one in scope.expression.expressions):
            if item.meta_get("window") in made:
                found, (events, aggregate) = self.said[item.meta["window"]], made[item.meta["window"]]
                _, duration, how, moment, known = found.groups()
                node.windows[id(item)] = Window(found[0], aggregate, duration, events, moment, how == "before", known)

    # Names that sqlglot left, because not all columns are known.

    def _settle(self, scope: Scope, column: exp.Column) -> None:
        """Qualify a column of a relation that may have others than are known, or say why that cannot be."""
        node, parts = self.node, [part.name for part in column.parts]
        if isinstance(column.this, exp.Star) or (scope.pivots and column.find_ancestor(exp.Pivot)):
            return
        at, source = node.source_of(scope, parts[0]) if len(parts) > 1 else (scope, None)
        if source is not None:
            if not node.has(source, parts[1]):
                column.meta["problem"] = node.lacks(parts[1], source)
            elif at is not scope and column.meta_get("bare") and "maybe" in self._having(scope, parts[1]).values():
                column.meta["problem"] = self._of_two(scope, parts[1])
            if len(parts) > 2:
                column.replace(dotted(parts[1:], parts[0]))
            return
        items = scope.expression.expressions if is_select(scope) else ()
        made = next(
            (one for one in items if one.alias == parts[0] and column.find_ancestor(exp.Alias) is not one), None
        )
        if made is not None:
            column.replace(dotted(parts, "", exp.paren(made.this.copy())))
            return
        if parts[0] in _UNITS and isinstance(column.parent, exp.Anonymous) and not column.index:
            column.replace(exp.var(parts[0]))
            return
        chosen, problem, likely = self._choose(scope, parts[0])
        if not likely and len(parts) == 1 and any(name == parts[0] for name, _ in scope.references):
            column.replace(exp.TableColumn(this=column.this))  # the alias of a table by itself is its whole row
            return
        kept = column.replace(dotted(parts, chosen)).find(exp.Column) if chosen else column
        if problem:
            kept.meta["problem"] = problem

    def _choose(self, scope: Scope, name: str) -> tuple[str, str | None, bool]:
        """The table that a bare name is taken from, what is doubtful about that, and whether it is likely at all."""
        node, chosen, problem, likely = self.node, "", None, False
        here = f"'{name}' in {node.title_of(scope)}"
        at: Scope | None = scope
        while at is not None:
            having = self._having(at, name)
            sure, maybe, unlikely = (
                [one for one in having if having[one] == how] for how in ("sure", "maybe", "unlikely")
            )
            best = sure or maybe or unlikely
            titles = self._titles(at, best)
            if sure and likely:
                return chosen, self._of_two(scope, name), True
            if sure:
                return sure[0], f"{here} is ambiguous: {titles} have it." if len(sure) > 1 else None, True
            if best and not chosen and not problem:
                chosen, likely = best[0] if len(best) == 1 else "", bool(maybe)
                if not chosen:
                    problem = f"{here} is ambiguous: {titles} may have it, and not all of their columns are known."
                elif maybe and unlikely:
                    others = self._titles(at, unlikely)
                    problem = (
                        f"{here} is taken for a column of {titles}, since {others} declare columns, but not this one."
                    )
            at = at.parent if at.can_be_correlated else None
        if not chosen and not problem:
            sources = [node.source_of(scope, one)[1] for one, _ in scope.references]
            named = [node.lacks(name, source) for source in sources if node.by_position(source)]
            places = " or ".join(map(node.title_of, sources)) or "nothing: it has no FROM"
            problem = [*named, f"There is no column '{name}' in what {node.title_of(scope)} reads ({places})."][0]
        return chosen, problem, likely

    def _of_two(self, scope: Scope, name: str) -> str:
        here = f"'{name}' in {self.node.title_of(scope)}"
        return f"{here} may be a column of the subquery or of the query around it: not all columns are known."

    def _having(self, scope: Scope, name: str) -> dict[str, str]:
        """The tables of a FROM that have a column of that name, or may have it: ``sure``, ``maybe`` or ``unlikely``."""
        hidden = scope.semi_or_anti_join_tables
        tables = [*(one for one, _ in scope.references if one not in hidden), *scope.lateral_sources]
        sources = {one: self.node.source_of(scope, one)[1] for one in tables}
        found = {one: self.node.has(source, name) for one, source in sources.items() if source is not None}
        return {one: has for one, has in found.items() if has not in ("", "field")}

    def _titles(self, scope: Scope, tables: Iterable[str]) -> str:
        return " and ".join(self.node.title_of(self.node.source_of(scope, table)[1]) for table in tables)

    # What a scope gives.

    def _note_columns(self, scope: Scope) -> None:
        """Note the columns of a scope, and whether it may have others."""
        made, node = scope.expression, self.node
        names: dict[str, str] = {}
        opened: list[str] = []
        branches = [branch.expression for branch in scope.set_operation_scopes]
        for branch in branches if made.args.get("by_name") else branches[:1]:
            names |= {one: name for one, name in node.names[id(branch)].items() if one not in names}
        opened += ["maybe" for branch in branches if node.opened[id(branch)] == "maybe"]
        for item in self._told(scope) if is_select(scope) else ():
            source = node.source_of(scope, item.this.table)[1] if isinstance(item.this, exp.Column) else None
            if item.alias.startswith(OPEN):
                opened.append(node.has(source, item.this.name + OPEN))
                continue
            spelled = item.args["alias"].meta_get("spelled") or item.alias
            if spelled == item.alias == item.this.name:
                spelled = node.columns_of(source).get(item.alias, spelled)
            names[item.alias] = spelled
        node.names[id(made)] = names
        node.opened[id(made)] = "maybe" if {"maybe", "field"} & set(opened) else max(opened, default="")

    def _told(self, scope: Scope) -> Sequence[exp.Expression]:
        """The projections, with doubts about them noted; a star that sqlglot left stands for columns not known."""
        node, items = self.node, []
        for item in scope.expression.expressions:
            if not item.is_star:
                items.append(item)
                continue
            tables = [item.table] if isinstance(item, exp.Column) else [name for name, _ in scope.references]
            for name in tables:
                names = [OPEN + name, *(node.columns_of(node.source_of(scope, name)[1]) if len(tables) > 1 else ())]
                items += [exp.alias_(exp.column(one, table=name, quoted=True), one, quoted=True) for one in names]
        if len(items) != len(scope.expression.expressions) or any(one.is_star for one in scope.expression.expressions):
            scope.expression.set("expressions", items)
        for item in items:
            for name in item.meta_get("aliased", ()):
                maybe = [one for one, has in self._having(scope, name).items() if has == "maybe"]
                if maybe:
                    item.meta["problem"] = (
                        f"'{name}' in {node.title_of(scope)} is taken for its alias, but may be a column of "
                        f"{self._titles(scope, maybe)}, whose columns are not known."
                    )
        return items


def _merge_joined(made: exp.Coalesce, sides: Mapping[str, str]) -> None:
    """Of a column that USING joins take only the sides whose values get through: sqlglot has a COALESCE of all."""
    each = [made.this, *made.expressions]
    if all(isinstance(one, exp.Column) and one.name == made.this.name and not one.this.meta for one in each):
        kept = each[:1]
        for one in each[1:]:
            side = sides.get(one.table)
            kept = [*kept, one] if side == "FULL" else [one] if side == "RIGHT" else kept
        made.replace(kept[0] if len(kept) == 1 else exp.Coalesce(this=kept[0], expressions=kept[1:]))
