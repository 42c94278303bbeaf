"""How far back in time a streamed view's newer rows reach, where its SQL says so.

A window of seven days at a moment holds events of the seven days before it. So where a view takes the rows of a window
macro one by one (beside tables that read no stream), all its rows from a moment on depend on the events of the longest
window before that moment alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from materializer.errors import FeatureStoreError
from materializer.project.duration import parse_duration
from materializer.sql.apart import Streams
from materializer.sql.node import Node
from materializer.sql.reader import Reader

_CHANGES = "/* a row at each change */"
# The part of a macro's SQL that reads the events.
_EVENTS = re.compile(r"^(_fs_source|_fs_events) as \(\n.*?^\)", re.MULTILINE | re.DOTALL)
# Their moment, where it is one with a zone; and where the rows' moments say that theirs have one.
_ZONED = re.compile(
    r"^ +coalesce\(make_timestamp\(epoch_us\((.+)\)\), cast\(\1 as timestamp\)\) as _fs_event,$", re.MULTILINE
)
_ROW_IS_ZONED = "_fs_moments._fs_at at time zone 'UTC' as event_timestamp"
# And the one that lists the moments at which there is a row.
_MOMENTS = re.compile(
    r"^_fs_moments as (?:materialized )?\(\n.*?^    \) as moments(?=\n\),?$)", re.MULTILINE | re.DOTALL
)
_OF_SEVERAL_ROWS = ("group", "distinct", "having", "qualify", "limit", "offset", "sample", "windows", "order")


@dataclass(frozen=True)
class Reach:
    """How a view reaches back.

    Attributes:
        longest: of its windows.
        models: the SQL of the models from the window macros up to the view, these included, by unique id and each
            after what it reads; that of a window macro takes newer events, and has rows of some moments alone.
    """

    longest: timedelta
    models: Mapping[str, str]


class _Further(Exception):
    """It reaches further, or how far is not known."""


def reach(
    reader: Reader,
    unique_id: str,
    timestamp: str,
    streamed: Mapping[str, Mapping[str, object]],
    since: str,
    rows: str,
) -> Reach | None:
    """How a view reaches back; None where that cannot be said.

    Args:
        timestamp: its event timestamp.
        streamed: as of `materializer.sql.apart.apart`.
        since: SQL for the moment from which on events are taken, a timestamp without a zone.
        rows: a condition for the moments `_fs_at` of which there are rows; none of them is less than the longest window
            after `since`.
    """
    found = _Found(reader, Streams(reader, streamed), since, rows)
    try:
        found.node(unique_id, timestamp.lower())
    except (_Further, RecursionError):
        return None
    return Reach(found.longest, found.models)


class _Found:
    def __init__(self, reader: Reader, streams: Streams, since: str, rows: str) -> None:
        self._reader, self._streams, self._since, self._rows = reader, streams, since, rows
        self.longest = timedelta(0)
        self.models: dict[str, str] = {}

    def node(self, unique_id: str, timestamp: str) -> None:
        node = self._reader.node(unique_id)
        if unique_id in self._streams.streamed or node.scope is None or unique_id in node.reads:
            raise _Further
        if not node.about.get("relation_name"):
            raise _Further  # a part of others' SQL
        self._scope(node, node.scope, timestamp)
        self.models.setdefault(unique_id, str(node.about.get("compiled_code")))

    def _scope(self, node: Node, scope: Scope, timestamp: str) -> None:
        made = scope.expression
        if isinstance(made, exp.Union) and made.args.get("distinct") is False and not made.args.get("by_name"):
            place = list(made.named_selects).index(timestamp) if timestamp in made.named_selects else None
            for branch in scope.set_operation_scopes:
                if self._streams.flows(node, branch):
                    if place is None or _of_several_rows(made):
                        raise _Further
                    self._scope(node, branch, branch.expression.named_selects[place])
        elif isinstance(made, exp.Select):
            self._select(node, scope, made, timestamp)
        else:
            raise _Further

    def _select(self, node: Node, scope: Scope, made: exp.Select, timestamp: str) -> None:
        windows = [node.windows[id(item)] for item in made.expressions if id(item) in node.windows]
        if windows:
            return self._macro(node, timestamp, [window.duration for window in windows])
        reads = {name: node.source_of(scope, name)[1] for name, _ in scope.references}
        streams = [name for name, source in reads.items() if self._streams.flows(node, source)]
        item = next((one for one in made.expressions if one.alias == timestamp), None)
        if _of_several_rows(made) or len(streams) != 1 or not _keeps(made, streams[0]) or item is None:
            raise _Further
        if any(self._streams.flows(node, one) for one in scope.subquery_scopes):
            raise _Further
        if not isinstance(item.this, exp.Column) or item.this.table != streams[0]:
            raise _Further
        source = reads[streams[0]]
        if isinstance(source, exp.Table):
            return self.node(source.name, item.this.name)
        if isinstance(source, Scope):
            return self._scope(node, source, item.this.name)
        raise _Further

    def _macro(self, node: Node, timestamp: str, durations: list[str]) -> None:
        """A window macro: the whole of its model."""
        code = str(node.about.get("compiled_code"))
        events = _EVENTS.search(code)
        if timestamp != "event_timestamp" or code.count(_CHANGES) != 1 or events is None:
            raise _Further
        try:
            self.longest = max(self.longest, *(parse_duration(one, "a window") for one in durations))
        except FeatureStoreError:
            raise _Further from None
        name, read = events[1], events[0]
        if (moment := _ZONED.search(read)) and _ROW_IS_ZONED in code:
            # The same once more by the column itself, which says of whole parts of a table that they are older.
            read = f"{read.removesuffix(')')}        and {moment[1]} >= {self._since} at time zone 'UTC'\n)"
        reached = (
            f"{read.replace(name, '_fs_whole_history', 1)},\n\n-- those that are in a window by now\n"
            f"{name} as (\n    select * from _fs_whole_history where _fs_event >= {self._since}\n)"
        )
        code = code[: events.start()] + reached + code[events.end() :]
        # The others would be thrown away, and are most of them.
        self.models[node.id] = _MOMENTS.sub(lambda found: f"{found[0]}\n    where {self._rows}", code, 1)


def _of_several_rows(made: exp.Query) -> bool:
    """Whether a row depends on others."""
    if any(made.args.get(part) for part in _OF_SEVERAL_ROWS):
        return True
    own = made.walk(prune=lambda one: isinstance(one, exp.Query) and one is not made)
    return any(isinstance(one, (exp.AggFunc, exp.Window, exp.Pivot)) for one in own)


def _keeps(made: exp.Select, stream: str) -> bool:
    """Whether a SELECT has a row only where the stream has one."""
    joins = made.args.get("joins") or []
    sides = [(one.side or one.kind or "", bool(one.method), one.alias_or_name) for one in joins]
    if any(side in ("RIGHT", "FULL") or method for side, method, _ in sides):
        return False
    return not any(side not in ("", "INNER", "CROSS") and name == stream for side, _, name in sides)
