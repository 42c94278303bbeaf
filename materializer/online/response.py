"""What an online read gives back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.online.values import decode_since
from materializer.warehouse.arrow import column_of, to_pandas


class Status(StrEnum):
    """Why a value is what it is."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


MISSING = Status.NOT_FOUND

# A column: its type, and for each entity row the value, its status and its row's event time as it is in Redis.
Column = tuple[pa.DataType, list[Any], list[Status], list[bytes | None]]


class OnlineResponse:
    """Features for the entity rows of one request, in their order.

    `columns` are the features by name. `problems` are sentences about what Redis holds of these entities and is not as
    the online format has it (a badly pushed value, say): such a value is None, and every other one is as it should be.
    `read_at` is when it was read by Redis' own clock, None where that was not asked for: of views without a ttl, in
    which nothing falls due.
    """

    read_at: datetime | None = None

    def __init__(
        self, inputs: Mapping[str, list[Any]], columns: Mapping[str, Column], problems: tuple[str, ...] = (),
        brought: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._inputs = inputs
        self.columns = columns
        self.problems = problems
        self.brought = brought

    def with_columns(self, columns: Mapping[str, Column], brought: Collection[str]) -> OnlineResponse:
        """The same rows with these columns, some of which were computed from what they were `brought`."""
        return OnlineResponse(self._inputs, columns, self.problems, brought)

    def to_dict(self, include_statuses: bool = False, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        """``{name: [value of each entity row]}``: the entity rows' own columns, then the features.

        Args:
            include_statuses: adds ``<feature>__status``: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
            include_event_timestamps: adds ``<feature>__event_timestamp``, a UTC datetime or None.
        """
        result = {name: list(values) for name, values in self._inputs.items()}
        events: dict[int, list[datetime | None]] = {}
        for name, (_, values, statuses, moments) in self.columns.items():
            result[name] = list(values)
            if include_statuses:
                result[f"{name}__status"] = [str(status) for status in statuses]
            if include_event_timestamps:
                if id(moments) not in events:  # once for all features of a view
                    events[id(moments)] = events_of(moments)
                result[f"{name}__event_timestamp"] = list(events[id(moments)])
        return result

    def to_arrow(self) -> pa.Table:
        """As an Arrow table, features in their published types.

        Raises:
            InputError: where a column of the entity rows has values that Arrow has no one type for.
        """
        columns = {}
        for name, values in self._inputs.items():
            try:
                columns[name] = column_of(values)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise InputError(
                    f"Column '{name}' of the entity rows has values of several types ({error}): give them in one, "
                    "or take to_dict()."
                ) from None
        columns |= {name: pa.array(values, dtype) for name, (dtype, values, _, _) in self.columns.items()}
        return pa.table(columns)

    def to_df(self) -> Any:
        """As pandas (extra ``pandas``), in nullable types."""
        return to_pandas(self.to_arrow())


def events_of(moments: Sequence[bytes | None]) -> list[datetime | None]:
    """Moments as they are in Redis, decoded; None for what is none."""
    try:
        return [None if moment is None else decode_since(moment) for moment in moments]
    except Exception:
        return [None] if len(moments) == 1 else [event for moment in moments for event in events_of([moment])]
