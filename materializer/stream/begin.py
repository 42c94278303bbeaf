"""Where a landing takes up topics of which nothing is in: at their beginning, or where the user says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from materializer.errors import InputError

# A topic and its partition.
Place = tuple[str, int]


@dataclass(frozen=True)
class Begin:
    """What comes first of a partition of which nothing has landed: the message of an offset, or else the first one of a
    moment or later; then all that follows."""

    since: datetime | None = None
    offsets: Mapping[Place, int] = field(default_factory=dict)

    def leaves_out(self, place: Place) -> bool:
        """Whether messages of a partition may come before its first."""
        return place in self.offsets or self.since is not None

    def reached(self, place: Place, offset: int, timestamp: int | None) -> bool:
        """Whether it begins with this message. The broker is not asked for the offset of a moment: some say a wrong
        one.

        Args:
            timestamp: the message's own, in ms since 1970; None where it has none.
        """
        if place in self.offsets:
            return offset >= self.offsets[place]
        return self.since is None or timestamp is None or timestamp >= self.since.timestamp() * 1000


def offsets_of(texts: Iterable[str], topics: Iterable[str]) -> dict[Place, int]:
    """From ``purchases:0=1200``. Raises InputError where one is not of that form, or of another topic than these."""
    found, known = {}, set(topics)
    for text in texts:
        where, _, offset = text.rpartition("=")
        topic, _, partition = where.rpartition(":")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            raise InputError(f"--from-offset is TOPIC:PARTITION=OFFSET, such as purchases:0=1200, not {text!r}.")
        if topic not in known:
            raise InputError(f"--from-offset names topic {topic!r}, and sources name: {', '.join(sorted(known))}.")
        found[topic, int(partition)] = int(offset)
    return found
