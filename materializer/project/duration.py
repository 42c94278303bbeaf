"""Moments, and durations: ``<whole number> <second|minute|hour|day|week>[s]``, as the package's ``_duration`` macro has
them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from materializer.errors import DefinitionError
from materializer.printable import number_of

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_GRAMMAR = re.compile(r"\s*([0-9]+)\s+(second|minute|hour|day|week)s?\s*")


def parse_duration(text: object, what: str) -> timedelta:
    """``"7 days"`` as a timedelta; `what` names the setting in the error.

    Raises:
        DefinitionError: for anything but a whole number above zero and a unit.
    """
    match = _GRAMMAR.fullmatch(text) if isinstance(text, str) else None
    if not match or not match[1].strip("0"):
        raise DefinitionError(
            f"{what} is {text!r}, which is not a duration: write a whole number above zero and a unit "
            "(second, minute, hour, day or week), for example '7 days'."
        )
    try:
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except (OverflowError, ValueError):  # Python reads no number of thousands of digits
        raise DefinitionError(f"{what} is {text!r}, which is longer than time itself goes here.") from None


def format_duration(duration: timedelta) -> str:
    """A duration in the grammar, in the largest unit that divides it: ``7 days``."""
    seconds = int(duration.total_seconds())
    unit = max((unit for unit, size in _SECONDS.items() if unit != "week" and seconds % size == 0), key=_SECONDS.get)
    return number_of(seconds // _SECONDS[unit], unit)


def format_age(age: timedelta) -> str:
    """An age in its largest whole unit: ``3 hours``."""
    seconds = max(int(age.total_seconds()), 0)
    unit = next((unit for unit in ("day", "hour", "minute") if seconds >= _SECONDS[unit]), "second")
    return number_of(seconds // _SECONDS[unit], unit)


def parse_moment(moment: datetime | str) -> datetime:
    """An ISO 8601 moment as a UTC datetime; naive is UTC. Raises DefinitionError where it is none."""
    try:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise DefinitionError(f"'{moment}' is not a moment: write for example 2026-03-01T00:00:00Z.") from None
    return parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)


def macro_moment(moment: datetime | str) -> str:
    """A moment as the macros take it: in UTC, without a zone. Raises DefinitionError as `parse_moment`."""
    return parse_moment(moment).replace(tzinfo=None).isoformat(" ", "microseconds")
