"""Which definition of a view streams may write rows of now: a record a view in Redis, that a run takes back and gives.

Streams hold no lease, for versions decide whose row stays. But two definitions have no order: a run of a new one marks
the record unsettled, waits until no stream can have asked before that, writes every row, and settles it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import redis

from materializer.online import scripts
from materializer.online.keys import stream_key
from materializer.online.lease import MARGIN_MS
from materializer.online.topology import OnlineStore, is_wrong_type, node_of

# How long a stream may write after it has asked.
HELD_MS = 10_000


@dataclass(frozen=True)
class StreamRecord:
    """What streams of a view go by.

    Attributes:
        definition: the checksum of what makes the view's rows.
        settled: False while a run of another definition than before writes all rows: streams wait.
        keys: the join keys that the view streams by.
        filters: for each streamed source, by unique id, the ways in which one of its rows names entities: SQL over its
            columns, an expression for each of `keys`.
    """

    definition: str
    settled: bool
    keys: tuple[str, ...] = ()
    filters: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


def record_text(record: StreamRecord) -> str:
    """The record as it is kept."""
    return json.dumps(asdict(record), ensure_ascii=False)


def read_record(client: OnlineStore, namespace: str, view: str) -> StreamRecord | None:
    """The view's record; None where there is none. One that cannot be read is of no definition, and not settled."""
    key = stream_key(namespace, view)
    try:
        text = node_of(client, key).get(key)
        return None if text is None else _record(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        return StreamRecord("", False)
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return StreamRecord("", False)


def take(client: OnlineStore, namespace: str, view: str, record: StreamRecord) -> bool:
    """Say by which keys and filters a stream evaluates this definition. Returns False, and changes nothing, where
    the record is of another definition, or not settled: the next run has to come first."""
    key = stream_key(namespace, view)
    text = record_text(StreamRecord(record.definition, True, record.keys, record.filters))
    return bool(node_of(client, key).eval(scripts.TAKE_STREAM, 1, key, record.definition, text))


def held(client: OnlineStore, namespace: str, view: str, definition: str) -> int | None:
    """Until when a stream of this definition may write, in ms of the server's clock; None where it may not."""
    key = stream_key(namespace, view)
    now = node_of(client, key).eval(scripts.STREAM_HELD, 1, key, definition)
    return now + HELD_MS - MARGIN_MS if now else None


def _record(found: Any) -> StreamRecord:
    filters = {str(one): tuple(tuple(map(str, way)) for way in ways) for one, ways in found["filters"].items()}
    return StreamRecord(str(found["definition"]), found["settled"] is True, tuple(map(str, found["keys"])), filters)
