"""A model's SQL made ready for sqlglot: folded, each projection with an alias, windows as their users wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

# What begins the name of a column that stands for those that are not known.
OPEN = "?"
_CLAUSED = frozenset((exp.Select, exp.Group, exp.Star, exp.Where, exp.Having, exp.Qualify, exp.Ordered, exp.Join))
_NAME = r"""["`]((?:[^"`]|""|``)*)["`]"""
_WINDOW = re.compile(rf"(.*) over (\d+ \w+)(?: (up to|before) {_NAME})?(?:, known from {_NAME})?", re.DOTALL)


def parse(sql: str, dialect: str) -> exp.Query | None:
    """The query that a text is; None where it is something else."""
    tree = sqlglot.parse_one(sql, dialect=dialect)
    while isinstance(tree, exp.Subquery) and isinstance(tree.this, exp.Query):
        if {key for key, value in tree.args.items() if value} - {"this", "with_"}:
            break
        with_, inner = tree.args.get("with_"), tree.this
        if with_ is not None and inner.args.get("with_") is None:
            inner.set("with_", with_.pop())
        elif with_ is not None:
            break
        tree = inner.pop()
    if isinstance(tree, exp.Pivot):  # DuckDB's statement
        table = tree.this.pop()
        table.append("pivots", tree)
        tree = table
    if isinstance(tree, (exp.Values, exp.Table)) or (isinstance(tree, exp.Subquery) and tree.alias):
        tree = exp.select("*").from_(tree, copy=False)
    return tree if isinstance(tree, exp.Query) else None


def copied(tree: exp.Query) -> tuple[exp.Query, list[exp.Expression]]:
    """A copy of a tree as it was written, and its clauses, whose places the tree's own keep in ``meta["clause"]``.

    The copy is sqlglot's, but for what is noted of words, such as their places: both have one note of it.
    """
    nodes = list(tree.walk())
    copy = bare_copy(tree, nodes)
    same = list(copy.walk())
    for node, other in zip(nodes, same, strict=True):
        other._meta = node._meta
    for place, clause in enumerate(clauses(nodes)):
        clause.meta["clause"] = place
    return copy, list(clauses(same))


def bare_copy(tree: exp.Expression, nodes: Sequence[exp.Expression] | None = None) -> exp.Expression:
    """A copy of a tree without what is noted in it, which is most of what a copy costs; `nodes` are all of it."""
    nodes = nodes or list(tree.walk())
    metas = [node._meta for node in nodes]
    for node in nodes:
        node._meta = None
    try:
        return tree.copy()
    finally:
        for node, meta in zip(nodes, metas, strict=True):
            node._meta = meta


def call_files(tree: exp.Query, parents: Iterable[Mapping[str, Any]], dialect: str) -> None:
    """Where SQL reads the files that a source stands for (dbt-duckdb's `external_location`), put the source's id."""
    read: dict[str, str] = {}
    for one in parents:
        relation = str(one.get("relation_name") or "")
        if one.get("resource_type") == "source" and ("(" in relation or relation.startswith("'")):
            try:
                table = sqlglot.parse_one(f"select * from {relation}", dialect=dialect).find(exp.Table)
            except SqlglotError:
                continue
            if table is not None:
                read[table.this.sql(dialect)] = one["unique_id"]
    for table in list(tree.find_all(exp.Table)) if read else ():
        called = read.get(table.this.sql(dialect)) if table.this else None
        if called:
            name = exp.to_identifier(table.alias or _name_of_files(table), quoted=True)
            table.set("alias", table.args.get("alias") or exp.TableAlias(this=name))
            table.set("this", exp.to_identifier(called, quoted=True))


def _name_of_files(table: exp.Table) -> str:
    """What a function in FROM, or a file, is called in SQL that gives it no alias."""
    if isinstance(table.this, exp.Func):
        return table.this.name if isinstance(table.this, exp.Anonymous) else table.this.sql_name()
    return re.split(r"[/\\]", table.name)[-1].partition(".")[0]


def clauses(nodes: Iterable[exp.Expression]) -> Iterator[exp.Expression]:
    """Projections, conditions and whatever else a lineage shows, among the nodes of a tree as it was written."""
    for node in nodes:
        if type(node) not in _CLAUSED:
            continue
        if isinstance(node, exp.Select):
            yield from (item for item in node.expressions if not item.is_star)
        elif isinstance(node, exp.Group):
            yield from node.expressions
        elif isinstance(node, exp.Star):
            yield from node.args.get("replace") or ()
        else:
            yield node


def prepare(tree: exp.Query, dialect: str, windows: bool) -> dict[str, re.Match[str]]:
    """Make a tree ready to be qualified; gives what comments say of the columns of window macros, by a key, where there
    may be `windows`."""
    said = _put_windows(tree, dialect) if windows else {}
    bare: list[exp.Column] = []
    for node in list(tree.walk()):
        if isinstance(node, exp.Identifier):
            if node.this != node.this.lower():
                node.meta["spelled"] = node.this
                node.set("this", node.this.lower())
        elif isinstance(node, exp.Column):
            if not node.args.get("table"):
                node.meta["bare"] = True
                bare.append(node)
        elif isinstance(node, exp.Select):
            node.meta["stars"] = _star_options(node)
            node.set("expressions", [_named(item, dialect) for item in node.expressions])
        elif isinstance(node, exp.SetOperation):
            if node.args.get("by_name") and not node.side:
                node.set("side", "FULL")  # sqlglot else takes the first branch's columns alone
        elif isinstance(node, exp.Table):
            if isinstance(node.this, exp.Func) and not node.alias_column_names:
                alias = node.args.get("alias") or exp.TableAlias()
                alias.set("columns", [exp.to_identifier(OPEN + node.alias)])
                node.set("alias", alias)
        elif isinstance(node, exp.Alias) and node.arg_key == "replace":
            node.set("alias", exp.to_identifier(node.alias.lower(), quoted=True))  # spelled as what it replaces
    for column in bare:
        _note_alias(column)
    return said


def _named(item: exp.Expression, dialect: str) -> exp.Expression:
    """A projection with an alias. Most warehouses call what has none as it is written."""
    if isinstance(item, exp.Columns) and isinstance(item.this, exp.Star):
        return item.this
    if isinstance(item, exp.Alias) or item.is_star:
        return item
    written = item.alias_or_name or item.sql(dialect, normalize_functions=False, comments=False)
    # Whether it gives several columns, whose names it does not say.
    spreads = isinstance(item, exp.Explode) or item.find(exp.Columns) is not None
    name = exp.to_identifier(OPEN + written if spreads else written, quoted=True)
    if written != written.lower() and not spreads:
        name.set("this", written.lower())
        name.meta["spelled"] = written
    made = exp.Alias(this=item, alias=name)
    made.meta["clause"] = item.meta_get("clause")
    return made


def _star_options(select: exp.Select) -> tuple[set[str], dict[str, str]]:
    """The names that stars leave out, and those that they give to others."""
    gone: set[str] = set()
    renamed: dict[str, str] = {}
    for item in select.expressions:
        star = item.find(exp.Star) if item.is_star else None
        if star is not None:
            renamed |= {one.alias.lower(): one.this.name.lower() for one in star.args.get("rename") or ()}
            gone |= {one.alias_or_name.lower() for key in ("except_", "replace") for one in star.args.get(key) or ()}
    return gone | set(renamed.values()), renamed


def _note_alias(column: exp.Column) -> None:
    """Note in a projection a name that may be another's alias or a column: what its tables have decides."""
    select = column.parent_select
    made = next((one for one in select.expressions if one.alias.lower() == column.name), None) if select else None
    if made is None or any(one.name.lower() == column.name for one in made.find_all(exp.Column)):
        return
    item: exp.Expression = column
    while item.parent is not select:
        item = item.parent
    if item.arg_key == "expressions":
        item.meta.setdefault("aliased", set()).add(column.name)


def _put_windows(tree: exp.Query, dialect: str) -> dict[str, re.Match[str]]:
    """Put what comments say of the columns of window macros into the SELECT of their events, to be qualified there."""
    said: dict[str, re.Match[str]] = {}
    for events in [cte for cte in tree.find_all(exp.CTE) if cte.alias == "_fs_events"]:
        ctes = {one.alias: one.this for one in events.parent.expressions}
        first = ctes.get("_fs_source", events.this).find(exp.Select)
        for item in events.parent.parent.expressions:
            text = re.sub(r"\\(.)", r"\1", (item.comments or [""])[-1].strip(), flags=re.DOTALL)
            found = _WINDOW.fullmatch(text) if isinstance(item, exp.Alias) else None
            try:
                made = sqlglot.parse_one(f"select {found[1]}", dialect=dialect).expressions if found else []
            except SqlglotError:
                continue
            if len(made) == 1:
                item.meta["window"] = key = f"={len(said)}"
                said[key] = found
                first.append("expressions", exp.Alias(this=made[0], alias=exp.to_identifier(key, quoted=True)))
    return said


def each_name_once(select: exp.Select, folds: bool) -> bool:
    """Tell columns of one name apart as DuckDB does: the second `id` is called `id_1`. Gives whether there were any.

    Where the warehouse does not fold names in quotes, ``"ID"`` and ``id`` are two columns that nobody here tells apart.
    """
    taken: dict[str, exp.Expression] = {}
    changed = False
    for item in select.expressions:
        name, number = item.alias, 0
        while name and name in taken:
            number += 1
            name = f"{item.alias}_{number}"
        if number:
            same = [one.args["alias"].meta_get("spelled") for one in (item, taken[item.alias])]
            if not folds and same[0] != same[1]:
                problem = f"Columns that differ in case only, as '{same[0] or item.alias}', are not told apart."
                item.meta["problem"] = taken[item.alias].meta["problem"] = problem
            item.set("alias", exp.to_identifier(name, quoted=True))
            changed = True
        taken[name] = item
    return changed


def dotted(parts: Iterable[str], table: str, root: exp.Expression | None = None) -> exp.Expression:
    """A column, or a field of a struct in it."""
    first, *rest = (exp.to_identifier(part, quoted=True) for part in parts)
    root = root or exp.column(first, table=table)
    return exp.Dot.build([root, *rest]) if rest else root
