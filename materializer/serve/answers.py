"""Answers as JSON: values as docs/serving.md states them, from the columns of an online read."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
import pyarrow as pa

from materializer.online.response import OnlineResponse, events_of
from materializer.online.values import codec
from materializer.serve.asked import Asked, RowsRequest

encode = msgspec.json.Encoder().encode
_SINCE_1970 = "1970-01-01T00:00:00Z"
_STATED = len("2026-01-01T00:00:00.000000Z")


def columns_answer(asked: Asked, response: OnlineResponse) -> bytes:
    """Feast's answer: join keys, then features, each as a column of values, statuses and event times."""
    count = len(asked.rows)
    keys = list(dict.fromkeys(name for row in asked.rows for name in row))
    results = [
        {
            "values": [row.get(name) for row in asked.rows],
            "statuses": ["PRESENT"] * count,
            "event_timestamps": [_SINCE_1970] * count,
        }
        for name in keys
    ]
    events = _Events()
    for dtype, values, statuses, moments in response.columns.values():
        times = [text or _SINCE_1970 for text in events.texts(moments)]
        results.append({"values": plain(dtype, values), "statuses": statuses, "event_timestamps": times})
    return encode({"metadata": {"feature_names": [*keys, *response.columns]}, "results": results})


def rows_answer(asked: Asked, request: RowsRequest, response: OnlineResponse) -> bytes:
    """Rows of values, in the order of `names`; statuses, event times and ages beside them in the same shape."""
    columns = response.columns.values()
    plain_columns = [plain(dtype, values, request.integers_as_strings) for dtype, values, _, _ in columns]
    answer: dict[str, Any] = {"names": list(response.columns), "rows": _rows(plain_columns)}
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


def plain(dtype: pa.DataType, values: list[Any], integers_as_strings: bool = False) -> list[Any]:
    """The values of a column as JSON has them: ``nan``, ``inf`` and ``-inf``, decimals and moments as texts, bytes in
    base64, floats and integers as numbers of any size, None as null."""
    if pa.types.is_integer(dtype):
        return [None if v is None else str(v) for v in values] if integers_as_strings else values
    if pa.types.is_boolean(dtype) or pa.types.is_string(dtype):
        return values
    # A sum is finite only where every part of it is.
    if pa.types.is_floating(dtype) and math.isfinite(sum(filter(None, values))):
        return values
    if pa.types.is_binary(dtype):
        return [None if v is None else base64.b64encode(v).decode() for v in values]
    return list(map(codec(dtype, "A feature").to_json, values))


class _Events:
    """The event times of an answer's rows, each view's worked out once for all of its features."""

    def __init__(self) -> None:
        self._now = datetime.now(timezone.utc)
        self._texts: dict[int, list[str | None]] = {}
        self._ages: dict[int, list[float | None]] = {}

    def texts(self, moments: Sequence[bytes | None]) -> list[str | None]:
        """As the online format has them, which is how they are in Redis unless somebody else pushed them."""
        if id(moments) not in self._texts:
            self._texts[id(moments)] = [None if one is None else _text(one) for one in moments]
        return self._texts[id(moments)]

    def ages(self, moments: Sequence[bytes | None]) -> list[float | None]:
        """In seconds, by this machine's clock."""
        if id(moments) not in self._ages:
            self._ages[id(moments)] = [
                None if event is None else (self._now - event).total_seconds() for event in events_of(moments)
            ]
        return self._ages[id(moments)]


def _rows(columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))


def _text(moment: bytes) -> str | None:
    if len(moment) == _STATED and moment.endswith(b"Z"):
        return moment.decode()
    (event,) = events_of([moment])
    return None if event is None else event.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
