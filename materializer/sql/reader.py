"""Compiled SQL, parsed and qualified once a model: the only place that reads it.

`Reader(graph).node(unique_id)` gives a `Node`: a model, seed, source or snapshot with its columns and, where it has SQL
that can be read, the scope of sqlglot's tree of it, qualified (`node.scope`, of which `.expression` is the tree; None,
and `node.problem` a sentence, where not). In the tree

- every name is in lower case (`node.names` has them as they were written), every projection has an alias, stars are
  expanded, ``using`` is an ``on``, an alias used beside itself is what it stands for, a field of a struct is a `Dot`;
- a table is called by the unique id of its node (``reader.node(table.name)``), an ephemeral model's CTE too; a table
  that is no node of the project goes by its name in SQL. `node.source_of(scope, column.table)` gives what a column is
  taken from: a scope, an `exp.Table` or an `exp.Pivot`;
- a column called ``?...`` stands for those of a relation that are not all known, as a star would. A name that is none
  of the known ones and must be one of these is qualified like any other;
- what could not be resolved is a sentence in ``column.meta["problem"]``, of a column or a projection;
- ``node.windows[id(projection)]`` is the meaning of a column that a window macro of the package wrote, instead of the
  CTEs (``_fs_...``) that it goes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.qualify_columns import qualify_columns
from sqlglot.optimizer.qualify_tables import qualify_tables
from sqlglot.optimizer.scope import Scope, traverse_scope, walk_in_scope
from sqlglot.schema import MappingSchema

from materializer.project.graph import Graph, reference_of

# What begins the name of a column that stands for those that are not known.
OPEN = "?"
_EPHEMERAL = "__dbt__cte__"
# What dbt adds to a snapshot, and which setting says from which column it is made.
_SNAPSHOT = {"dbt_scd_id": "unique_key", "dbt_updated_at": "updated_at", "dbt_valid_from": "updated_at",
             "dbt_valid_to": "updated_at", "dbt_is_deleted": None}  # fmt: skip
# The first argument of a function that sqlglot does not know may be a unit of time that only looks like a column.
_UNITS = {
    "microsecond", "millisecond", "second", "minute", "hour", "day", "dayofweek", "dow", "dayofyear", "doy", "week",
    "isoweek", "month", "quarter", "year", "epoch",
}  # fmt: skip
# Functions that make rows from their arguments alone.
_GENERATORS = {
    "generate_series", "range", "unnest", "explode", "posexplode", "generator", "sequence", "generate_array",
    "generate_date_array", "generate_timestamp_array", "split_to_table", "flatten", "repeat_row", "table",
}  # fmt: skip
_NAME = r"""["`]((?:[^"`]|""|``)*)["`]"""
_WINDOW = re.compile(rf"(.*) over (\d+ \w+)(?: (up to|before) {_NAME})?(?:, known from {_NAME})?", re.DOTALL)

Source = Scope | exp.Table | exp.Pivot


@dataclass(frozen=True, eq=False)
class Window:
    """A column of a window macro: `made` is the aggregate as the user wrote it, over `duration` of the events.

    `events` is the scope that reads these, in which `made` is qualified. In `aggregate_as_of` a window ends at `moment`,
    a column of the spine, or, where `strictly`, before it. `known` is the column of the load time.
    """

    text: str
    made: exp.Expression
    duration: str
    events: Scope
    moment: str | None = None
    strictly: bool = False
    known: str | None = None


@dataclass(eq=False)
class Node:
    """A node of dbt's graph, or a table that is none, as the module says.

    `columns` are the known ones, in order, as they are spelled, by their name in lower case. `may_have` is ``maybe``
    where it may have others, ``unlikely`` where others are declared; empty where these are all. `added` are the columns
    that dbt adds to a snapshot, with those that each is made from.
    """

    id: str
    title: str
    about: Mapping[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    may_have: str = ""
    problem: str | None = None
    scope: Scope | None = None
    windows: dict[int, Window] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)
    # The nodes that its SQL reads, by what the tables in the tree are called.
    reads: dict[str, Node] = field(default_factory=dict)
    dialect: str = ""
    # By the id of a scope's expression: its name inside of the model, its known columns as they are spelled, whether it
    # may have others, the scope.
    parts: dict[int, str] = field(default_factory=dict)
    names: dict[int, dict[str, str]] = field(default_factory=dict)
    opened: dict[int, str] = field(default_factory=dict)
    scopes: dict[int, Scope] = field(default_factory=dict)

    def columns_of(self, source: Source | None) -> dict[str, str]:
        """The known columns of a scope or table, as they are spelled."""
        if isinstance(source, exp.Table):
            return self.reads[source.name].columns if source.name in self.reads else {}
        return self.names.get(id(source.expression), {}) if isinstance(source, Scope) else {}

    def title_of(self, source: Source | None) -> str:
        """How a sentence calls a scope or table."""
        if isinstance(source, exp.Table) and source.name in self.reads:
            return self.reads[source.name].title
        part = self.parts.get(id(source.expression)) if isinstance(source, Scope) else "a function"
        return f"'{part}'" if part else "its outermost SELECT"

    def lacks(self, name: str, source: Source | None = None) -> str:
        """The sentence that a node, or a scope or table in its SQL, has no such column."""
        if isinstance(source, Scope) and _is_select(source):
            stars = [one for one in source.expression.selects if one.this.name.startswith(OPEN)]
            if any(not one.alias.startswith(OPEN) for one in stars):
                return by_position(name, self.parts.get(id(source.expression), ""))
        columns = self.columns if source is None else self.columns_of(source)
        there = f"; it has: {', '.join(columns.values())}." if columns else "."
        return f"{self.title if source is None else self.title_of(source)} has no column '{name}'{there}"

    def has(self, source: Source | None, name: str) -> str:
        """Whether a scope or table has a column: ``sure``, as `may_have`, or ``field`` of a struct that it unpacks."""
        if source is None or isinstance(source, exp.Pivot):
            return "maybe"
        if name in self.columns_of(source):
            return "sure"
        if isinstance(source, exp.Table):
            named = name in source.alias_column_names
            if isinstance(source.this, exp.Func):
                return "sure" if named else "maybe" if reads_outside(source) else "field"
            return "sure" if named else self.reads[source.name].may_have
        if isinstance(source.expression, exp.UDTF):
            return "sure" if name in source.expression.named_selects else "field"
        if id(source.expression) not in self.names and isinstance(source.expression, exp.Query):
            return "sure" if name in source.expression.named_selects else "maybe"  # a recursive CTE, in itself
        return self.opened[id(source.expression)] if self.passed(source, name) else ""

    def passed(self, scope: Scope, name: str) -> str | None:
        """What the stars of a SELECT take for a column that is not known; None where they leave it out."""
        gone, renamed = scope.expression.meta.get("stars") or ((), {})
        return renamed.get(name) or (None if name in gone else name)

    def source_of(self, scope: Scope, table: str) -> tuple[Scope, Source | None]:
        """What a column's table is, and the scope that has it: that of the column, or one around it."""
        at: Scope | None = scope
        while at is not None:
            found = at.sources.get(table)
            pivot = next((one for one in at.pivots if one.alias == table), None)
            if pivot is not None:
                return at, pivot
            if found is not None:
                found = self.scopes.get(id(found.expression), found) if isinstance(found, Scope) else found
                while isinstance(found, Scope) and found.is_set_operation:
                    found = found.parent  # what a recursive CTE reads is all of itself
                return at, found
            at = at.parent
        return scope, None

    def text(self, clause: exp.Expression) -> str:
        """A projection, condition or other clause of the tree as it was written; ``*`` where a star made it."""
        place = clause.meta.get("clause")
        if place is None:
            return "*"
        made = self._written[place]
        if isinstance(made, exp.Join):
            made = made.args.get("on") or f"using ({', '.join(one.name for one in made.args.get('using') or ())})"
        elif isinstance(made, (exp.Alias, exp.Where, exp.Having, exp.Qualify, exp.Ordered)):
            made = made.this
        try:
            return made if isinstance(made, str) else made.sql(self.dialect, normalize_functions=False, comments=False)
        except RecursionError:
            return "..."

    @cached_property
    def _written(self) -> list[exp.Expression]:
        return list(_clauses(parse(str(self.about["compiled_code"]), self.dialect)))


class Reader:
    """The nodes of one graph, each read when it is first asked for, after those that it reads itself."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._nodes: dict[str, Node] = {}

    def node(self, unique_id: str) -> Node:
        """The node of that id; for any other name a table that is none."""
        waiting, begun = [unique_id], {}
        while waiting:
            one = waiting[-1]
            if one in self._nodes:
                waiting.pop()
            elif one not in self.graph.nodes:
                problem = f"{one} is neither a model nor a source, seed or snapshot of the project."
                self._nodes[one] = Node(one, one, may_have="maybe", problem=problem)
            elif one not in begun:
                begun[one] = _Reading(self.graph, self.graph.nodes[one])
                waiting += [table for table in begun[one].tables if table not in begun]
            else:  # of what reads itself, or is read by what it reads, only the names that its SQL says are known yet
                known = {name: self._nodes.get(name) or begun[name].node for name in begun[one].tables}
                self._nodes[one] = begun[one].finish(known)
        return self._nodes[unique_id]


class _Reading:
    """The SQL of one node: parsed, its `tables` called by what they are; then, when these are known, qualified."""

    def __init__(self, graph: Graph, about: Mapping[str, Any]) -> None:
        self.graph, self.about, self.tables = graph, about, {}
        title = f"{about.get('resource_type')} '{reference_of(about)}'"
        self.node = Node(about["unique_id"], title, about, dialect=graph.dialect)
        # Names are compared in lower case, whatever the warehouse: a manifest does not say how they are quoted there.
        self.folding = f"{graph.dialect}, normalization_strategy=case_insensitive" if graph.dialect else ""
        self.tree = None if about.get("resource_type") in ("source", "seed") else self._tree()

    # Parsing.

    def _tree(self) -> exp.Query | None:
        sql, node = self.about.get("compiled_code"), self.node
        title = node.title[0].upper() + node.title[1:]
        if self.about.get("language") == "python":
            node.problem = f"{title} is written in Python, so what its columns are made from cannot be seen."
        elif not isinstance(sql, str) or not sql.strip():
            node.problem = f"The manifest holds no compiled SQL of {node.title}: run `dbt compile` or `dbt build`."
        else:
            try:
                tree = parse(sql, self.graph.dialect)
                tree = self._prepared(tree) if tree is not None else self._fails("is not a SELECT")
                names = tree.named_selects if tree is not None else ["*"]
                node.columns = {} if "*" in names else {name: name for name in names}
                node.may_have = "" if node.columns else "maybe"
                return tree
            except (SqlglotError, RecursionError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
                self._unreadable(error)
        return None

    def _fails(self, how: str) -> None:
        self.node.problem = f"The compiled SQL of {self.node.title} {how}."

    def _unreadable(self, error: Exception) -> None:
        first = (getattr(error, "errors", None) or [{}])[0]
        known = first.get("description") or (str(error) if isinstance(error, SqlglotError) else "too deeply nested")
        at = f" in line {first['line']}" if first.get("line") else ""
        self._fails(f"cannot be read{at}: {' '.join(known.split()).rstrip('.')}")

    def _prepared(self, tree: exp.Query) -> exp.Query:
        for place, clause in enumerate(_clauses(tree)):
            clause.meta["clause"] = place
        self._inline(tree)
        self.said = _put_windows(tree, self.graph.dialect)
        for node in list(tree.walk()):
            if isinstance(node, exp.Select):
                node.meta["stars"] = _star_options(node)
                node.set("expressions", [self._named(item) for item in node.expressions])
                _note_aliases(node)
            elif isinstance(node, exp.SetOperation) and node.args.get("by_name") and not node.side:
                node.set("side", "FULL")  # sqlglot else takes the first branch's columns alone
            elif isinstance(node, exp.Table) and isinstance(node.this, exp.Func):
                alias = node.args.get("alias") or exp.TableAlias()
                if not alias.columns:
                    alias.set("columns", [exp.to_identifier(f"{OPEN}{node.alias}")])
                    node.set("alias", alias)
            elif isinstance(node, exp.Alias) and node.arg_key == "replace":
                node.set("alias", exp.to_identifier(node.alias.lower(), quoted=True))  # spelled as what it replaces
            elif isinstance(node, exp.Column) and not node.table:
                node.meta["bare"] = True
            elif isinstance(node, exp.Identifier) and node.name != node.name.lower():
                node.meta["spelled"] = node.name
                node.set("this", node.name.lower())
        tree = qualify_tables(tree, dialect=self.folding)
        for scope in traverse_scope(tree):
            for alias, source in scope.sources.items():
                is_name = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
                if not is_name or source.name in self.tables or (source.name in scope.cte_sources and not source.db):
                    continue
                parts, name = [part.name for part in source.parts], self._called(source)
                for column in scope.columns:  # of a table that is called by its schema too
                    for length in range(2, len(column.parts)):
                        if [part.name for part in column.parts[:length]] == parts[-length:]:
                            column.replace(_dots(column.parts[length:], alias))
                            break
                self.tables[name] = None
                source.set("this", exp.to_identifier(name, quoted=True))
                source.set("db", None)
                source.set("catalog", None)
            scope.clear_cache()
        return tree

    def _named(self, item: exp.Expression) -> exp.Expression:
        """A projection with an alias. Most warehouses call what has none as it is written."""
        if isinstance(item, exp.Columns) and isinstance(item.this, exp.Star):
            return item.this
        if isinstance(item, exp.Alias) or item.is_star:
            return item
        spreads = isinstance(item, exp.Explode) or item.find(exp.Columns) is not None
        written = item.alias_or_name or item.sql(self.graph.dialect, normalize_functions=False, comments=False)
        name = exp.to_identifier(f"{OPEN}{written}" if spreads else written.lower(), quoted=True)
        if isinstance(item, exp.Column) and item.this.meta.get("spelled") or written != written.lower():
            name.meta["spelled"] = item.this.meta.get("spelled") or written if isinstance(item, exp.Column) else written
        made = exp.Alias(this=item, alias=name)
        made.meta["clause"] = item.meta.get("clause")
        return made

    def _inline(self, tree: exp.Query) -> None:
        """Take out the CTEs that dbt put in for ephemeral models that have SQL of their own."""
        for cte in [one for one in tree.find_all(exp.CTE) if one.alias.startswith(_EPHEMERAL)]:
            for above in self.graph.above(self.about):
                called = {above.get("name"), above.get("alias"), above.get("identifier")}
                if above.get("compiled_code") and cte.alias[len(_EPHEMERAL) :] in called:
                    for table in tree.find_all(exp.Table):
                        if table.name == cte.alias and not table.db:
                            table.set("alias", table.args.get("alias") or exp.TableAlias(this=table.this))
                            table.set("this", exp.to_identifier(above["unique_id"], quoted=True))
                    with_ = cte.parent
                    cte.pop()
                    if not with_.expressions:
                        with_.pop()
                    break

    def _called(self, table: exp.Table) -> str:
        """The id of the node that a table is; else its name.

        Where the SQL names it in part, or not as the manifest does: a parent of that name, whatever the target; else the
        only node whose relation ends so, where the SQL names the schema, or the reader's own is the same.
        """
        parts = [part.name for part in table.parts]
        if parts[0] in self.graph.nodes:
            return parts[0]
        found = self.graph.at(".".join(parts))
        if found is None:
            near = [
                parent
                for parent in self.graph.parents(self.about)
                if parts[-1] in {str(parent.get(key)).lower() for key in ("alias", "identifier", "name")}
            ]
            end = parts if len(parts) > 1 else [str(self.about.get("schema")), *parts]
            if len(near) != 1:
                near = self.graph.ending(".".join(end))
            found = near[0] if len(near) == 1 else None
        return found["unique_id"] if found else ".".join(part.meta.get("spelled") or part.name for part in table.parts)

    # Qualifying.

    def finish(self, tables: Mapping[str, Node]) -> Node:
        """The node; `tables` are those that its SQL reads."""
        self.node.reads = dict(tables)
        joined: set[str] = set()
        while self.tree is not None:
            try:
                return self._qualified(joined)
            except OptimizeError as error:
                name = str(error).removeprefix("Cannot automatically join: ")
                if name != str(error) and name not in joined:
                    joined.add(name)  # a table whose columns are not known must have it
                    self.tree = self._tree()
                    continue
                self._unreadable(error)
            except (SqlglotError, RecursionError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
                self._unreadable(error)
            self.tree = None
        node, graph = self.node, self.graph
        node.scope = None
        built, declared = graph.built_columns(self.about), graph.declared_columns(self.about)
        node.columns = {name.lower(): name for name in built or declared}
        node.may_have = "" if built else ("unlikely" if declared else "maybe")
        return node

    def _qualified(self, joined: Iterable[str]) -> Node:
        node, tree = self.node, self.tree
        schema = MappingSchema(
            {
                name: dict.fromkeys([*table.columns, *((*joined, OPEN + name) if table.may_have else ())], "unknown")
                for name, table in self.node.reads.items()
            },
            dialect=self.folding,
            normalize=False,
        )
        while True:
            qualify_columns(tree, schema, allow_partial_qualification=True)
            renamed = [_each_name_once(select) for select in tree.find_all(exp.Select)]
            if not any(renamed) or not any(
                item.is_star for select in tree.find_all(exp.Select) for item in select.expressions
            ):
                break
        scopes = traverse_scope(tree)
        node.scope = scopes[-1]
        node.scopes = {id(scope.expression): scope for scope in scopes}
        self._name_parts(node.scope)
        for scope in scopes:
            self._merge_joined(scope)
            for column in [one for one in walk_in_scope(scope.expression) if type(one) is exp.Column]:
                self._settle(scope, column)
            for item in scope.expression.expressions if _is_select(scope) else ():
                for name in item.meta.get("aliased", ()):
                    maybe = [one for one, has in self._having(scope, name).items() if has == "maybe"]
                    if maybe:
                        item.meta["problem"] = (
                            f"'{name}' in {node.title_of(scope)} is taken for its alias, but may be a column of "
                            f"{self._titles(scope, maybe)}, whose columns are not known."
                        )
            self._spell(scope)
        self._take_windows(scopes)
        node.columns, node.may_have = (
            dict(node.names[id(node.scope.expression)]),
            self.node.opened[id(node.scope.expression)],
        )
        if node.may_have:
            node.columns = {name.lower(): name for name in self.graph.built_columns(self.about)} | node.columns
        if self.about.get("resource_type") == "snapshot":
            self._add_to_snapshot()
        return node

    def _add_to_snapshot(self) -> None:
        config = self.about.get("config") or {}
        for name, setting in _SNAPSHOT.items():
            called = (config.get("snapshot_meta_column_names") or {}).get(name) or name
            if called.lower() not in self.node.columns and (setting or config.get("hard_deletes") == "new_record"):
                made = config.get(setting) or []
                self.node.columns[called.lower()] = called
                self.node.added[called.lower()] = [
                    str(one).lower() for one in (made if isinstance(made, list) else [made])
                ]

    def _take_windows(self, scopes: Sequence[Scope]) -> None:
        """Take the aggregates out of the events' SELECT again, into which they were put to be qualified."""
        made: dict[str, tuple[Scope, exp.Expression]] = {}
        for scope in scopes:
            for item in (
                [one for one in scope.expression.selects if one.alias in self.said] if _is_select(scope) else ()
            ):
                made.setdefault(item.alias, (scope, item.pop().this))  # the first; stars may have taken it on
                self.node.names[id(scope.expression)].pop(item.alias, None)
                scope.clear_cache()
        for scope in scopes:
            for item in scope.expression.expressions if _is_select(scope) else ():
                key = item.meta.get("window")
                if key in made:
                    _, duration, how, moment, known = self.said[key].groups()
                    events, aggregate = made[key]
                    self.node.windows[id(item)] = Window(
                        self.said[key][0], aggregate, duration, events, moment, how == "before", known
                    )

    def _name_parts(self, root: Scope) -> None:
        """Call each CTE and subquery by its name, behind those that it stands in."""
        taken: dict[str, int] = {}
        waiting = [(root, "")]
        for scope, part in waiting:
            self.node.parts[id(scope.expression)] = part
            waiting += [(branch, part) for branch in scope.set_operation_scopes]
            for inner in (*scope.cte_scopes, *scope.table_scopes, *scope.subquery_scopes):
                around = inner.expression if isinstance(inner.expression, exp.UDTF) else inner.expression.parent
                while isinstance(around, exp.Subquery) and not around.alias:
                    around = around.parent
                named = around.args.get("alias") if isinstance(around, (exp.CTE, exp.Subquery, exp.UDTF)) else None
                name = named.this.meta.get("spelled") or named.name if named and named.this else ""
                name = name if name and not re.fullmatch(r"_\d+", name) else "subquery"
                name = f"{part}.{name}" if part else name
                taken[name] = taken.get(name, 0) + 1
                waiting.append((inner, name if taken[name] == 1 else f"{name} {taken[name]}"))

    def _merge_joined(self, scope: Scope) -> None:
        """Of a column that USING joins take only the sides whose values get through: sqlglot has a COALESCE of all."""
        sides = {join.alias_or_name: join.side for join in scope.find_all(exp.Join)}
        for made in list(scope.find_all(exp.Coalesce)):
            each = [made.this, *made.expressions]
            if all(isinstance(one, exp.Column) and one.name == made.this.name and not one.this.meta for one in each):
                kept = each[:1]
                for one in each[1:]:
                    side = sides.get(one.table)
                    kept = [*kept, one] if side == "FULL" else [one] if side == "RIGHT" else kept
                made.replace(kept[0] if len(kept) == 1 else exp.Coalesce(this=kept[0], expressions=kept[1:]))
        scope.clear_cache()

    # Names that sqlglot left, because not all columns are known.

    def _settle(self, scope: Scope, column: exp.Column) -> None:
        """Qualify a column of a relation that may have others than are known, or say why that cannot be."""
        node, parts = self.node, [part.name for part in column.parts]
        if isinstance(column.this, exp.Star) or column.find_ancestor(exp.Pivot):
            return
        at, source = node.source_of(scope, parts[0]) if len(parts) > 1 else (scope, None)
        if source is not None:
            if not self.node.has(source, parts[1]):
                column.meta["problem"] = node.lacks(parts[1], source)
            elif at is not scope and column.meta.get("bare") and "maybe" in self._having(scope, parts[1]).values():
                column.meta["problem"] = self._of_two(scope, parts[1])
            if len(parts) > 2:
                column.replace(_dots(parts[1:], parts[0]))
            return
        made = (
            next((one for one in scope.expression.selects if one.alias == parts[0]), None)
            if _is_select(scope)
            else None
        )
        if made is not None and made.this is not column and not column.find_ancestor(exp.Alias) is made:
            column.replace(_dots(parts, "", exp.paren(made.this.copy())))
            return
        if (
            isinstance(column.parent, exp.Anonymous)
            and column.arg_key == "expressions"
            and not column.index
            and parts[0] in _UNITS
        ):
            column.replace(exp.var(parts[0]))
            return
        chosen, problem, sure = self._choose(scope, parts[0])
        if problem:
            column.meta["problem"] = problem
        if not sure and len(parts) == 1 and any(name == parts[0] for name, _ in scope.references):
            column.replace(exp.TableColumn(this=column.this))  # the alias of a table by itself is its whole row
        elif chosen:
            made = column.replace(_dots(parts, chosen))
            if problem:
                made.find(exp.Column).meta["problem"] = problem

    def _choose(self, scope: Scope, name: str) -> tuple[str, str | None, bool]:
        """The table that a bare name is taken from, what is doubtful about that, and whether it is likely at all."""
        title, chosen, problem, likely = self.node.title_of(scope), "", None, False
        at: Scope | None = scope
        while at is not None:
            having = self._having(at, name)
            sure, maybe, unlikely = (
                [one for one, has in having.items() if has == how] for how in ("sure", "maybe", "unlikely")
            )
            some = self._titles(at, sure or maybe or unlikely)
            if sure and likely:
                return chosen, self._of_two(scope, name), True
            if sure:
                return sure[0], f"'{name}' in {title} is ambiguous: {some} have it." if len(sure) > 1 else None, True
            if not chosen and not problem and having:
                chosen, likely = (maybe or unlikely)[0] if len(maybe or unlikely) == 1 else "", bool(maybe)
                if len(maybe or unlikely) > 1:
                    problem = (
                        f"'{name}' in {title} is ambiguous: {some} may have it, and not all of their columns are known."
                    )
                elif maybe and unlikely:
                    others = self._titles(at, unlikely)
                    problem = f"'{name}' in {title} is taken for a column of {some}, since {others} declare columns, but not this one."
            at = at.parent if at.can_be_correlated else None
        named = [
            source
            for one, _ in scope.references
            if "position" in self.node.lacks(name, source := self.node.source_of(scope, one)[1] or scope)
        ]
        if not chosen and named:
            problem = self.node.lacks(name, named[0])
        elif not chosen and not problem:
            places = " or ".join(self._titles(scope, [one]) for one, _ in scope.references) or "nothing: it has no FROM"
            problem = f"There is no column '{name}' in what {title} reads ({places})."
        return chosen, problem, likely

    def _of_two(self, scope: Scope, name: str) -> str:
        return (
            f"'{name}' in {self.node.title_of(scope)} may be a column of the subquery or of the query around it: not all "
            "columns are known."
        )

    def _having(self, scope: Scope, name: str) -> dict[str, str]:
        """The tables of a FROM that have a column of that name, or may have it: ``sure``, ``maybe`` or ``unlikely``."""
        found = {}
        hidden = scope.semi_or_anti_join_tables
        for table in [*(one for one, _ in scope.references if one not in hidden), *scope.lateral_sources]:
            source = self.node.source_of(scope, table)[1]
            has = self.node.has(source, name) if source is not None else ""
            if has and has != "field":
                found[table] = has
        return found

    def _titles(self, scope: Scope, tables: Sequence[str]) -> str:
        return " and ".join(self.node.title_of(self.node.source_of(scope, table)[1]) for table in tables)

    # What a scope gives.

    def _spell(self, scope: Scope) -> None:
        """Note the columns of a scope, and whether it may have others."""
        made, node = scope.expression, self.node
        names: dict[str, str] = {}
        opened = ""
        if isinstance(made, exp.SetOperation):
            for branch in scope.set_operation_scopes[: 2 if made.args.get("by_name") else 1]:
                names = {
                    **names,
                    **{one: name for one, name in node.names[id(branch.expression)].items() if one not in names},
                }
            both = [node.opened[id(branch.expression)] for branch in scope.set_operation_scopes]
            opened = "maybe" if "maybe" in both else ""
        elif isinstance(made, exp.Select):
            for item in made.expressions:
                source = node.source_of(scope, item.this.table)[1] if isinstance(item.this, exp.Column) else None
                if item.alias.startswith(OPEN):
                    may = self.node.has(source, item.this.name + OPEN) if source is not None else "maybe"
                    opened = opened if opened == "maybe" else may
                    continue
                spelled = item.args["alias"].meta.get("spelled") or item.alias
                if spelled == item.alias == item.this.name and source is not None:
                    spelled = node.columns_of(source).get(item.alias, spelled)
                names[item.alias] = spelled
        node.names[id(made)] = names
        self.node.opened[id(made)] = opened


def by_position(name: str, title: str) -> str:
    """The sentence that a list of names stands over a star whose columns are not known."""
    return f"'{name}' of '{title}' goes by its position, and the columns it is taken from are not known."


def reads_outside(table: exp.Table) -> bool:
    """Whether a function in FROM reads something else than its arguments, as `read_csv` does."""
    called = (table.this.name if isinstance(table.this, exp.Anonymous) else table.this.sql_name()).lower()
    return called not in _GENERATORS and table.this.find(exp.Column, exp.Query) is None


def parse(sql: str, dialect: str) -> exp.Query | None:
    """The query that a text is; None where it is something else."""
    tree = sqlglot.parse_one(sql, dialect=dialect)
    while (
        isinstance(tree, exp.Subquery) and isinstance(tree.this, exp.Query) and set(_there(tree)) <= {"this", "with_"}
    ):
        inner = tree.this
        if tree.args.get("with_") is not None:
            if inner.args.get("with_") is not None:
                break
            inner.set("with_", tree.args["with_"].pop())
        tree = inner.pop()
    if isinstance(tree, exp.Pivot):  # DuckDB's statement
        table = tree.this.pop()
        table.append("pivots", tree)
        tree = exp.select("*").from_(table, copy=False)
    if isinstance(tree, (exp.Values, exp.Table)) or (isinstance(tree, exp.Subquery) and tree.alias):
        tree = exp.select("*").from_(tree, copy=False)
    return tree if isinstance(tree, exp.Query) else None


def _there(node: exp.Expression) -> list[str]:
    return [key for key, value in node.args.items() if value]


def _clauses(tree: exp.Expression) -> Iterator[exp.Expression]:
    """Projections, conditions and whatever else a lineage shows, in an order that parsing alone decides."""
    for node in tree.walk():
        if isinstance(node, exp.Select):
            yield from (item for item in node.expressions if not item.is_star)
        elif isinstance(node, exp.Group):
            yield from node.expressions
        elif isinstance(node, exp.Star):
            yield from node.args.get("replace") or ()
        elif isinstance(node, (exp.Where, exp.Having, exp.Qualify, exp.Ordered, exp.Join)):
            yield node


def _star_options(select: exp.Select) -> tuple[set[str], dict[str, str]]:
    """The names that stars leave out, and those that they give to others."""
    gone: set[str] = set()
    renamed: dict[str, str] = {}
    for item in select.expressions:
        args = (item.this if isinstance(item, (exp.Column, exp.Columns)) else item).args if item.is_star else {}
        renamed |= {one.alias.lower(): one.this.name.lower() for one in args.get("rename") or ()}
        gone |= {one.name.lower() for one in args.get("except_") or ()} | {
            one.alias.lower() for one in args.get("replace") or ()
        }
    return gone | set(renamed.values()), renamed


def _note_aliases(select: exp.Select) -> None:
    """Note in a projection the names that may be another's alias or a column, which only its tables' columns decide."""
    made = {one.alias.lower(): one.this for one in select.expressions if isinstance(one, exp.Alias)}
    alone = {
        name for name, one in made.items() if all(column.name.lower() != name for column in one.find_all(exp.Column))
    }
    for item in select.expressions if alone else ():
        names = {one.name.lower() for one in item.find_all(exp.Column) if not one.table} & alone
        if names:
            item.meta["aliased"] = sorted(names)


def _put_windows(tree: exp.Query, dialect: str) -> dict[str, re.Match[str]]:
    """Put what comments say of the columns of window macros into the SELECT of their events, to be qualified there."""
    said: dict[str, re.Match[str]] = {}
    for item in [one for one in tree.find_all(exp.Alias) if one.comments and isinstance(one.parent, exp.Select)]:
        found = _WINDOW.fullmatch(re.sub(r"\\(.)", r"\1", item.comments[-1].strip(), flags=re.DOTALL))
        events = _events(item.parent) if found else None
        if found and events is not None:
            try:
                made = sqlglot.parse_one(f"select {found[1]}", dialect=dialect).expressions[0]
            except (SqlglotError, IndexError):
                continue
            key = f"={len(said)}"
            said[key] = found
            item.meta["window"] = key
            events.append("expressions", exp.Alias(this=made, alias=exp.to_identifier(key, quoted=True)))
    return said


def _events(select: exp.Select) -> exp.Select | None:
    """The SELECT that reads the events of a window macro whose last SELECT this is."""
    with_ = select.args.get("with_")
    ctes = {one.alias: one.this for one in with_.expressions} if with_ is not None else {}
    made = ctes.get("_fs_source") or ctes.get("_fs_events")
    return made.find(exp.Select) if made is not None else None


def _each_name_once(select: exp.Select) -> bool:
    """Tell columns of one name apart as DuckDB does: the second `id` is called `id_1`. Gives whether there were any."""
    taken: dict[str, str] = {}
    changed = False
    for item in select.expressions:
        if not isinstance(item, exp.Alias):
            continue
        name, number = item.alias, 0
        while name in taken:
            number += 1
            name = f"{item.alias}_{number}"
        if number:
            item.set("alias", exp.to_identifier(name, quoted=True))
            changed = True
        taken[name] = name
    return changed


def _dots(parts: Sequence[str | exp.Expression], table: str, root: exp.Expression | None = None) -> exp.Expression:
    """A column, or a field of a struct in it."""
    first, *rest = (
        exp.to_identifier(part.name if isinstance(part, exp.Expression) else part, quoted=True) for part in parts
    )
    root = root or exp.column(first, table=table)
    return exp.Dot.build([root, *rest]) if rest else root


def _is_select(scope: Scope) -> bool:
    return isinstance(scope.expression, exp.Select)
