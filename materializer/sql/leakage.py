"""What in compiled SQL makes a feature depend on the moment of the run, or on the future: the spot, and the mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, build_scope

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.sql.reader import Node, parse

_CLOCKS = {
    "now", "current_timestamp", "current_date", "current_time", "localtimestamp", "localtime", "getdate", "sysdate",
    "today", "get_current_timestamp", "transaction_timestamp", "statement_timestamp", "clock_timestamp",
    "current_localtimestamp", "current_localtime", "unix_timestamp", "sysdatetime",
}  # fmt: skip
_CHANCES = {"random", "rand", "uuid", "gen_random_uuid", "newid", "setseed", "uniform", "uuidv4", "uuidv7"}
# Words that are functions even without parentheses behind them.
_BARE = {
    "current_timestamp", "current_date", "current_time", "localtimestamp", "localtime", "sysdate",
    "current_localtimestamp", "current_localtime",
}  # fmt: skip
# Without one of these nothing is to be found word by word.
_SUSPECT = {"following"} | _CLOCKS | _CHANCES | _BARE
_WORDS = re.compile(r"\w+")
_BUCKETS = (exp.TimestampTrunc, exp.DateTrunc, exp.DatetimeTrunc, exp.DateBin)


@dataclass(frozen=True)
class Spot:
    """A finding in the compiled SQL, or in `file` where that is set. `token` is the text that stands there."""

    rule: str
    severity: str
    line: int
    column: int
    message: str
    file: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Checked:
    """What was found in a model: by itself; in window calls that use no load time; in the columns that a view gives."""

    model: tuple[Spot, ...]
    load_time: tuple[Spot, ...]
    output: tuple[Spot, ...]


def check(node: Node, graph: Graph, view: FeatureView | None) -> Checked:
    """All rules, of a model that was compiled; `view` is the feature view that it is, if it is one."""
    spots, root = check_model(node.about, graph, node.written)
    calls = calls_without_load_time(node, graph) if "_fs_events" in node.about["compiled_code"] else []
    output = check_output(root, node.about, view) if root is not None and view is not None else []
    return Checked(tuple(spots), tuple(calls), tuple(output))


def check_model(
    model: Mapping[str, Any], graph: Graph, tree: exp.Query | None = None
) -> tuple[list[Spot], Scope | None]:
    """The rules that hold for a feature view and for every model it is made from; and the model's scope, if it has.
    `tree` is its SQL as it was written, where that was parsed already."""
    sql = model["compiled_code"]
    try:
        suspect = not _SUSPECT.isdisjoint(_WORDS.findall(sql.lower()))
        tokens = sqlglot.tokenize(sql, dialect=graph.dialect) if suspect else []
        tree = tree or parse(sql, graph.dialect)
        root = build_scope(tree) if tree is not None else None
    except SqlglotError as error:
        first = getattr(error, "errors", None) or [{}]
        reason = " ".join((first[0].get("description") or str(error)).split())
        return [Spot("unparsable", "error", first[0].get("line") or 1, first[0].get("col") or 1,
                     f"The compiled SQL cannot be read, so nothing here vouches for it ({reason}).")], None  # fmt: skip
    own = _package_spans(tokens)
    spots = [spot for spot, start in _words(tokens) if not any(begin <= start <= end for begin, end in own)]
    if root is not None:
        spots += [*_bucket_starts(root.expression), *_mutable_joins(root, graph)]
    return spots, root


def check_output(scope: Scope, model: Mapping[str, Any], view: FeatureView) -> list[Spot]:
    """The rules for the columns that a feature view gives."""
    stars = [one for one in _given(scope) if one.is_star]
    spots = [
        Spot("select-star", "warning", *_place(star)[:2],
             f"View '{view.reference}' takes every column of a relation: a column added there becomes a feature "
             "unseen; name the columns.", token="*")
        for star in stars
    ]  # fmt: skip
    names = {one.alias_or_name.lower() for one in _given(scope, naming=True) if not one.is_star}
    for name, role in ((view.timestamp, "event timestamp"), (view.created_timestamp, "created timestamp")):
        if name and not stars and names and name.lower() not in names:
            spots.append(Spot("missing-timestamp", "error", 1, 1,
                              f"View '{view.reference}' selects no column '{name}', its {role}: add it, or name the "
                              "right one in meta.feature_view.", file=model["original_file_path"]))  # fmt: skip
    return spots


def calls_without_load_time(node: Node, graph: Graph) -> list[Spot]:
    """Window calls without ``created_timestamp`` in a model whose sources say ``loaded_at_field``."""
    loaded = {}
    for source in graph.sources_above(node.about):
        field = (source.get("config") or {}).get("loaded_at_field") or source.get("loaded_at_field")
        if field:
            loaded[f"{source['source_name']}.{source['name']}"] = field
    spots, calls = [], {"window_aggregates": 0, "aggregate_as_of": 0}
    for select in node.scope.expression.find_all(exp.Select, bfs=False) if node.scope and loaded else ():
        window = next((node.windows[id(item)] for item in select.expressions if id(item) in node.windows), None)
        if window is None:
            continue
        macro = "window_aggregates" if window.moment is None else "aggregate_as_of"
        calls[macro] += 1
        event = next(one.find(exp.Column).name for one in window.events.expression.selects if one.alias == "_fs_event")
        late = sorted((source, field) for source, field in loaded.items() if field.lower() != event)
        if window.known is None and late:
            source, field = late[0]
            raw = node.about["raw_code"]
            places = [found.start() for found in re.finditer(rf"{macro}\s*\(", raw)]
            before = raw[: places[min(calls[macro], len(places)) - 1]] if places else ""
            spots.append(Spot(
                "load-time", "error", before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1,
                f"Source '{source}' has a load time ({field}) that this {macro} does not use, so training sees "
                f"events before serving could: pass created_timestamp='{field}' (carry the column through the models "
                "between).",
                node.about["original_file_path"],
            ))  # fmt: skip
    return spots


def _words(tokens: list[Any]) -> Iterator[tuple[Spot, int]]:
    """Words that read a clock, chance or the rows that follow, each with its place in the text."""
    for index, token in enumerate(tokens):
        word, before = token.text.lower(), tokens[index - 1].text.lower() if index else ""
        called = index + 1 < len(tokens) and tokens[index + 1].text == "("
        rule = "clock"
        if token.token_type == sqlglot.TokenType.IDENTIFIER or before in (".", "as"):
            continue
        if word == "following":
            rule = word
            said = (
                "The window frame reaches FOLLOWING rows, which lie in the future of this one: end it at CURRENT ROW."
            )
        elif word in _CLOCKS and (called or word in _BARE):
            said = (
                f"{token.text} reads the clock, so a feature depends on when dbt ran: compare with the row's own event "
                "time, or leave the filter out."
            )
        elif word in _CHANCES and called:
            said = (
                f"{token.text} is random, so every run gives another feature: derive it from a key, for example with a "
                "hash."
            )
        else:
            continue
        column = token.col - len(token.text) + 1
        yield Spot(rule, "error", token.line, column, said, token=token.text), token.start


def _bucket_starts(tree: exp.Expression) -> Iterator[Spot]:
    """Aggregates over a bucket of time under the bucket's start: the row claims to be known before its events."""
    for select in tree.find_all(exp.Select):
        if not select.args.get("group") or _of_package(select):
            continue
        for projection in select.expressions:
            value = projection.unalias()
            while isinstance(value, (exp.Paren, exp.Cast)):
                value = value.this
            if isinstance(value, exp.Anonymous):
                bucket = value.name.lower() in ("time_bucket", "date_bin")
            else:
                bucket = isinstance(value, _BUCKETS)
            date = projection.unalias()
            bucket = bucket or isinstance(date, (exp.Date, exp.TsOrDsToDate))
            bucket = bucket or (isinstance(date, exp.Cast) and date.to.is_type(exp.DataType.Type.DATE))
            if bucket and _is_time_name(projection.alias_or_name):
                line, column, token = _place(value)
                yield Spot(
                    "bucket-start", "error", line, column,
                    f"'{projection.alias_or_name}' is the start of a bucket whose events lie after it: "
                    "add the bucket's length, so that the row counts from its end on.",
                    token=token,
                )  # fmt: skip


def _mutable_joins(root: Scope, graph: Graph) -> Iterator[Spot]:
    for scope in root.traverse():
        if not isinstance(scope.expression, exp.Select) or _of_package(scope.expression):
            continue
        where = scope.expression.args.get("where")
        for join in scope.expression.args.get("joins") or ():
            alias = join.this.alias_or_name
            if (join.args.get("method") or "").upper() == "ASOF" or join.kind.upper() == "ASOF":
                continue
            if _bounded(join.args.get("on"), alias) or _bounded(where, alias):
                continue
            name = _shows_source(scope.sources.get(alias), graph)
            if name:
                table = join.this.this if isinstance(join.this, exp.Table) else join.this
                line, column, token = _place(table)
                yield Spot(
                    "mutable-join", "error", line, column,
                    f"This joins source '{name}' as it is now, without a bound in time, so past rows change when it "
                    "does: join the version valid at the event time, or say `immutable: true` in the source's "
                    "config.meta if its rows never change.",
                    token=token,
                )  # fmt: skip


def _shows_source(source: Any, graph: Graph) -> str | None:
    """The mutable source that a FROM item passes on as it is."""
    if isinstance(source, exp.Table):
        node = graph.at(".".join(part.name for part in source.parts))
        return graph.mutable_source(node) if node else None
    if isinstance(source, Scope) and isinstance(source.expression, exp.Select):
        select = source.expression
        if not select.args.get("group") and not select.args.get("joins") and len(source.sources) == 1:
            return _shows_source(next(iter(source.sources.values())), graph)
    return None


def _bounded(condition: exp.Expression | None, alias: str) -> bool:
    """Whether a condition compares some column of `alias` by more than equality, as a bound in time does."""
    if condition is None:
        return False
    comparisons = condition.find_all(exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
    return any(column.table == alias for one in comparisons for column in one.find_all(exp.Column))


def _given(scope: Scope, by_package: bool = False, naming: bool = False) -> Iterator[exp.Expression]:
    """The projections of the outermost SELECT, through stars over CTEs; a star that is left reaches a relation outside
    of the model, and is none of the package's. Of a UNION those of all branches or, `naming`, of the first, which gives
    the columns their names."""
    if scope.set_operation_scopes:
        for part in scope.set_operation_scopes[: 1 if naming else None]:
            yield from _given(part, by_package, naming)
        return
    select = scope.expression
    by_package = by_package or _of_package(select)
    for projection in select.expressions if isinstance(select, exp.Select) else ():
        if not projection.is_star:
            yield projection
            continue
        named = projection.table if isinstance(projection, exp.Column) else None
        for name, source in scope.sources.items():
            if name not in scope.selected_sources or (named and name != named):
                continue
            if isinstance(source, Scope):
                yield from _given(source, by_package, naming)
            elif not by_package:
                yield projection


def _of_package(node: exp.Expression) -> bool:
    """Whether the SQL was written by the package's macros: it stands in, or selects from, a CTE called ``_fs_...``."""
    cte = node.find_ancestor(exp.CTE)
    if cte is not None and cte.alias.startswith("_fs_"):
        return True
    source = node.args.get("from_") or node.args.get("from")
    return bool(source and source.this.alias_or_name.startswith("_fs_"))


def _package_spans(tokens: list[Any]) -> list[tuple[int, int]]:
    """Where the bodies of ``_fs_...`` CTEs stand, as offsets."""
    spans = []
    for index, token in enumerate(tokens[:-2]):
        if not token.text.startswith("_fs_") or tokens[index + 1].text.lower() != "as":
            continue
        start = index + 2
        while start < len(tokens) and tokens[start].text.lower() in ("not", "materialized"):
            start += 1
        if start >= len(tokens) or tokens[start].text != "(":
            continue
        depth = 0
        for end in range(start, len(tokens)):
            depth += (tokens[end].text == "(") - (tokens[end].text == ")")
            if depth == 0:
                spans.append((tokens[start].start, tokens[end].start))
                break
    return spans


def _is_time_name(name: str) -> bool:
    name = name.lower()
    return "time" in name or name.endswith(("_at", "_date", "_day", "_hour", "_week", "_month")) or name in ("ts", "at")


def _place(node: exp.Expression) -> tuple[int, int, str | None]:
    """Line and column, from 1, of the first word of an expression, and that word where the tree still has it."""
    marked = [one for one in node.walk() if "start" in one.meta]
    if not marked:
        return 1, 1, None
    first = min(marked, key=lambda one: one.meta["start"])
    written = {"TimestampTrunc": "date_trunc", "DateTrunc": "date_trunc"}.get(type(first).__name__)
    word = first.name if isinstance(first, exp.Identifier) else written
    return first.meta["line"], first.meta["col"] - (first.meta["end"] - first.meta["start"]), word
