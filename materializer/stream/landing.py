"""What a landing is: where events become rows, each commit whole, and what says which offsets are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

import duckdb

from materializer.stream.source import StreamedSource

# Beside the event's columns and the landing's: why a message is no row, and its bytes; the key of a push.
OF_MESSAGES = {"_fs_reason": "VARCHAR", "_fs_message": "BLOB", "_fs_push": "VARCHAR"}
# The topic of what producers push themselves.
PUSHED = "_push"


class Covered(NamedTuple):
    """A committed file: which offsets of a topic's partition it covers, and the number of its commit."""

    seq: int
    topic: str
    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.seq:019d}-{self.topic}-{self.partition}-{self.first:019d}-{self.last:019d}"

    @classmethod
    def named(cls, name: str) -> Covered:
        seq, rest = name.split("-", 1)
        topic, partition, first, last = rest.rsplit("-", 3)
        return cls(int(seq), topic, int(partition), int(first), int(last))


class Landed(NamedTuple):
    """A commit: what it covers, how many rows it has, and how many messages were none."""

    covered: Covered
    rows: int
    dead: int


def first_number(clock: Callable[[], datetime]) -> int:
    """The number that a landing begins with: milliseconds since 1970, for none makes a thousand commits a second, so
    whatever was at its place before had smaller ones. Rows online keep the numbers that they have seen."""
    return int(clock().timestamp() * 1000)


class CannotLand(OSError):
    """The landing cannot be written now: a disk is full, a server away. Nothing has landed; it may pass."""


class NoEvent(Exception):
    """The row at `place` of a push has a value that the landing does not take; nothing has landed."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(why)
        self.place = place


class Landing(Protocol):
    """The landing of some sources. Several processes may write to it at once.

    `place` says where it is, without a secret.
    """

    sources: Mapping[str, StreamedSource]

    @property
    def place(self) -> str: ...

    def prepare(self) -> None:
        """Make what is not there yet, so that dbt can read the sources. Raises CannotLand."""

    def next_offset(self, source: StreamedSource, topic: str, partition: int) -> int | None:
        """The first offset that is not in; None where nothing of the partition is."""

    def commit(
        self,
        connection: duckdb.DuckDBPyConnection,
        source: StreamedSource,
        rows: str,
        covered: Callable[[], Covered | None],
    ) -> Landed | None:
        """Land rows, all or none of them, and give what landed; None where nothing did.

        Args:
            rows: a table of `connection` with the source's columns, `_topic`, `_partition`, `_offset` and those of
                `OF_MESSAGES`.
            covered: asked while no other process commits: for the offsets that these rows cover; None: they are in.

        Raises:
            CannotLand: nothing has landed then.
            NoEvent: for rows of a push, which land whole or not at all; of a topic's they are dead letters.
        """

    def pushed_with(self, connection: duckdb.DuckDBPyConnection, source: StreamedSource, key: str) -> str | None:
        """What landed with a push's key before, as `note_push` was told; None: nothing."""

    def note_push(self, source: StreamedSource, key: str, first: int, content: str) -> None:
        """Within a commit, remember that a push's rows come with this key."""

    def show(self) -> None:
        """Let readers see what is in."""

    def close(self) -> None:
        """Let go of what is open."""
