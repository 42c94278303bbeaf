"""The SELECT of a window macro as the short query that it stands for.

The macros write many CTEs, which differ with the shape; what each column is stands in a comment beside it (the format is
stated in `macros/features/_window_meaning.sql`). Whoever reads SQL for its meaning reads the short query instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp

_WINDOW = re.compile(
    r'(?P<what>.*) over (?P<length>\d+ \w+)(?: (?P<to>up to|before) "(?P<at>(?:[^"]|"")*)")?'
    r'(?:, known from "(?P<known>(?:[^"]|"")*)")?',
    re.DOTALL,
)
_GRAIN = re.compile(r"a row (?:at each|every) ([\w ]+)")
# Functions that no warehouse has: they mark the conditions by which a windowed view has rows at some moments.
GRAIN, ENDS = "moments_of_grain", "moments_at_the_end_of"


def shortened(tree: exp.Expression, dialect: str) -> exp.Expression:
    """The tree with each SELECT that a window macro wrote as a short one; the tree itself is changed.

    A view's is ``select key, time as event_timestamp, sum(x) over (partition by key order by time range between interval
    '7 days' preceding and current row) as x_7d from events where moments_of_grain('change', time) and ...``, that of
    `aggregate_as_of` is ``select spine.*, (select sum(x) from events where ...) as x_7d from spine``.
    """
    for select in list(tree.find_all(exp.Select)):
        if not any(cte.alias == "_fs_events" for cte in select.ctes):
            continue
        short = sqlglot.parse_one(_text(select, dialect), dialect=dialect)
        others = [cte for cte in select.ctes if not cte.alias.startswith("_fs_")]  # dbt puts ephemeral models here
        if others:
            short.set("with_", exp.With(expressions=others))
        if select is tree:
            return short
        select.replace(short)
    return tree


def windows_of(select: exp.Select) -> dict[str, re.Match[str]]:
    """What is said of each window column of a macro's SELECT: `what` over `length`, `known` from a column."""
    found = {item.alias: _WINDOW.fullmatch(_said(item)) for item in select.selects}
    return {name: match for name, match in found.items() if match is not None}


def _text(select: exp.Select, dialect: str) -> str:
    def name(text: str) -> str:
        return exp.to_identifier(text.replace('""', '"'), quoted=True).sql(dialect=dialect)

    parts = {cte.alias: cte.this for cte in select.ctes}
    first, spine = parts.get("_fs_source", parts["_fs_events"]), parts.get("_fs_spine")
    events = first.args["from_"].this
    made = {item.alias_or_name: item for item in first.selects}
    keys = [name(key) for key in made if not key.startswith("_fs_")]
    windows = windows_of(select)
    prefix = f"{name(events.alias_or_name)}." if spine is not None else ""
    event = prefix + name(made["_fs_event"].find(exp.Column).name)
    known = next((prefix + name(window["known"]) for window in windows.values() if window["known"]), None)
    time = f"greatest({event}, {known})" if known else event
    from_, columns, deciding = events.sql(dialect=dialect), [], []
    for item in select.selects:
        alias, window = item.alias_or_name, windows.get(item.alias)
        grain = _GRAIN.fullmatch(_said(item))
        if grain is not None:
            ends = {} if grain[1] == "event" else dict.fromkeys(one["length"] for one in windows.values())
            deciding = [f"{GRAIN}('{grain[1]}', {time})", *(f"{ENDS}('{end}')" for end in ends)]
            columns.append(f"{time} as event_timestamp")
        elif window is None:
            columns.append(("_fs_spine." if spine is not None else "") + ("*" if item.is_star else name(alias)))
        elif spine is None:
            order = ", ".join(dict.fromkeys((time, event)))
            frame = f"range between interval '{window['length']}' preceding and current row"
            over = f"partition by {', '.join(keys)} order by {order} {frame}"
            columns.append(f"{_aggregate(window['what'])} over ({over}) as {name(alias)}")
        else:
            moment = f"_fs_spine.{name(window['at'])}"
            inside = [f"{prefix}{key} = _fs_spine.{own}" for key, own in zip(keys, _keys_of(parts, name), strict=True)]
            inside.append(f"{time} {'<=' if window['to'] == 'up to' else '<'} {moment}")
            inside.append(f"{event} > {moment} - interval '{window['length']}'")
            what = _aggregate(window["what"])
            columns.append(f"(select {what} from {from_} where {' and '.join(inside)}) as {name(alias)}")
    if spine is None:
        return f"select {', '.join(columns)} from {from_} where {' and '.join(deciding)}"
    item = spine.args["from_"].this.copy()
    item.set("alias", exp.TableAlias(this=exp.to_identifier("_fs_spine")))
    return f"select {', '.join(columns)} from {item.sql(dialect=dialect)}"


def _keys_of(parts: Mapping[str, exp.Select], name: Callable[[str], str]) -> list[str]:
    """The keys of an `aggregate_as_of` as the spine calls them."""
    made = {item.alias_or_name: item for item in parts["_fs_moments"].selects}
    return [name(item.find(exp.Column).name) for key, item in made.items() if not key.startswith("_fs_")]


def _aggregate(what: str) -> str:
    """An aggregate as SQL calls it."""
    return f"count(distinct {what.removeprefix('count_distinct(')}" if what.startswith("count_distinct(") else what


def _said(item: exp.Expression) -> str:
    return re.sub(r"\\(.)", r"\1", " ".join(item.comments or ()).strip(), flags=re.DOTALL)
