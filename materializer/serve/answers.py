"""Answers as JSON, from the columns of an online read whose values are JSON already (`serve.values`)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import pyarrow as pa
from msgspec import Raw

from materializer.online.response import OnlineResponse, Status, events_of
from materializer.serve.asked import Asked, RowsRequest
from materializer.serve.values import encode, filled

_SINCE_1970 = "1970-01-01T00:00:00Z"
_STATED = len("2026-01-01T00:00:00.000000Z")


def columns_answer(asked: Asked, response: OnlineResponse) -> bytes:
    """Feast's answer: join keys, then features, each as a column of values, statuses and event times."""
    count = len(asked.rows)
    keys = [name for name in dict.fromkeys(name for row in asked.rows for name in row) if name not in response.brought]
    since_1970 = _repeated(_SINCE_1970, count)
    results = [
        {
            "values": [row.get(name) for row in asked.rows],
            "statuses": _repeated(Status.PRESENT, count),
            "event_timestamps": since_1970,
        }
        for name in keys
    ]
    events = _Events()
    for _, values, statuses, moments in response.columns.values():
        results.append(
            {
                "values": Raw(b"[%b]" % b",".join(filled(values))),
                "statuses": _statuses(statuses),
                "event_timestamps": events.column(moments),
            }
        )
    return encode({"metadata": {"feature_names": [*keys, *response.columns]}, "results": results})


def rows_answer(asked: Asked, request: RowsRequest, response: OnlineResponse) -> bytes:
    """Rows of values, in the order of `names`; statuses, event times and ages beside them in the same shape."""
    columns = response.columns.values()
    values = [
        filled(_quoted(values) if request.integers_as_strings and pa.types.is_integer(dtype) else values)
        for dtype, values, _, _ in columns
    ]
    rows = b"],[".join(map(b",".join, zip(*values, strict=True)))
    answer: dict[str, Any] = {"names": list(response.columns), "rows": Raw(b"[[%b]]" % rows)}
    if request.statuses:
        answer["statuses"] = _rows([statuses for _, _, statuses, _ in columns])
    if request.statuses or request.ages:
        events = _Events()
        answer["event_timestamps"] = _rows([events.texts(moments) for *_, moments in columns])
        if request.ages:
            answer["ages"] = _rows([events.ages(moments) for *_, moments in columns])
    if request.arrow_schema:
        schema = pa.schema([(name, dtype) for name, (dtype, *_) in response.columns.items()])
        answer["arrow_schema"] = base64.b64encode(schema.serialize()).decode()
    return encode(answer)


def _quoted(values: list[bytes | None]) -> list[bytes | None]:
    return [None if value is None else b'"%b"' % value for value in values]


def _statuses(statuses: list[Status]) -> Any:
    count = len(statuses)
    return _repeated(Status.PRESENT, count) if statuses.count(Status.PRESENT) == count else statuses


@lru_cache(maxsize=64)
def _repeated(text: str, count: int) -> Raw:
    return Raw(encode([text] * count))


class _Events:
    """The event times of an answer's rows, each view's worked out once for all of its features."""

    def __init__(self) -> None:
        self._now = datetime.now(timezone.utc)
        self._made: dict[tuple[str, int], Any] = {}

    def texts(self, moments: Sequence[bytes | None]) -> list[str | None]:
        """As the online format has them, which is how they are in Redis unless somebody else pushed them."""
        return self._once("texts", moments, lambda: [None if one is None else _text(one) for one in moments])

    def column(self, moments: Sequence[bytes | None]) -> Raw:
        """As Feast has them in JSON: the beginning of 1970 where there is none."""
        return self._once("column", moments, lambda: Raw(encode([one or _SINCE_1970 for one in self.texts(moments)])))

    def ages(self, moments: Sequence[bytes | None]) -> list[float | None]:
        """In seconds, by this machine's clock."""
        return self._once("ages", moments, lambda: [
            None if event is None else (self._now - event).total_seconds() for event in events_of(moments)
        ])  # fmt: skip

    def _once(self, what: str, moments: Sequence[bytes | None], make: Callable[[], Any]) -> Any:
        if (what, id(moments)) not in self._made:
            self._made[what, id(moments)] = make()
        return self._made[what, id(moments)]


def _rows(columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))


def _text(moment: bytes) -> str | None:
    if len(moment) == _STATED and moment.endswith(b"Z"):
        return moment.decode()
    (event,) = events_of([moment])
    return None if event is None else event.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
