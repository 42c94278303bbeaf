"""What a run will do to one view, known before it writes anything, and what it says of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.materialize.difference import Known
from materializer.materialize.memory import Memory, ViewMemory
from materializer.materialize.unstorable import Unstorable
from materializer.online.published import Published, read_from_elsewhere
from materializer.online.rows import keep_for
from materializer.project.definitions import FeatureView
from materializer.project.duration import format_duration
from materializer.warehouse.arrow import plain_type
from materializer.warehouse.join_keys import UUID


@dataclass(frozen=True)
class Plan:
    """What a run will do, known before it writes anything."""

    view: FeatureView
    rows: str
    pending: Path
    folder: ViewMemory | None
    remembered: Memory | None
    known: Known
    fingerprint: str
    why_full: str
    new: int
    changed: int
    gone: int
    unchanged: int
    null_keys: int
    aged: int
    gone_aged: int
    policy: str | None
    published: Published | None
    markers: tuple[str, ...]
    read_from: str
    unstorable: Unstorable

    @property
    def known_rows(self) -> int:
        """How many rows memory holds."""
        return self.remembered.rows if self.remembered else 0

    @property
    def published_rows(self) -> int:
        """How many rows the last run said there are."""
        return self.published.rows if self.published else 0

    @property
    def idle(self) -> bool:
        """Whether Redis holds everything already."""
        settled = self.remembered is not None and self.remembered.finished and self.known.comparable
        return settled and not (self.new or self.changed or self.gone)

    def why(self) -> str:
        """Why rows move, in words."""
        left_out = f"; {self.aged:,} left out, {self._too_old}" if self.aged else ""
        if self.why_full:
            return f"every row: {self.why_full}{left_out}"
        again = "" if self.known.comparable else " (the definition changed, so every row is sent again)"
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone{again}{left_out}"

    @property
    def _too_old(self) -> str:
        ttl = self.view.ttl or timedelta()
        return f"older than {format_duration(keep_for(ttl))} (rows are kept for twice the ttl, and a day at least)"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be said aloud."""
        name, said = self.view.reference, []
        if self.policy:
            said.append(
                f"Redis may drop rows of '{name}' unseen (maxmemory-policy {self.policy}), so every run sends all of "
                "them: set noeviction."
            )
        if self.null_keys:
            said.append(f"{self.null_keys:,} rows of '{name}' have a NULL join key and are not written.")
        if self.aged and not (self.new or self.changed or self.unchanged):
            said.append(
                f"'{name}' has no row young enough to be online: the newest of each of its {self.aged:,} entities is "
                f"{self._too_old}, so all of them are NOT_FOUND."
            )
        if elsewhere := read_from_elsewhere(name, self.published and self.published.read_from, self.read_from):
            said.append(elsewhere)
        return tuple(said)

    def clean_up(self) -> None:
        """Remove the list of changes, unless memory names it."""
        current = self.folder.load() if self.folder else None
        if current is None or self.pending.name not in current.pending:
            self.pending.unlink(missing_ok=True)


def keys_of(view: FeatureView) -> tuple[str, ...]:
    """The join keys with their types, on which the names of all rows in Redis depend."""
    return tuple(f"{entity.name} {entity.dtype}" for entity in view.entities)


def check_types(schema: pa.Schema, view: FeatureView) -> None:
    """Stop where rows are not of the types that the view had when they were compared. Raises WarehouseError naming the
    column."""
    for part in view.schema:
        found = plain_type(schema.field(part.name).type)
        # A UUID is one as a join key, and arrives as its text.
        expected = pa.string() if part.dtype == UUID else part.dtype
        if not found.equals(expected):
            raise WarehouseError(
                f"Column '{part.name}' of feature view '{view.reference}' was {part.dtype} and became {found} while it "
                "was read: run it again when what builds it is done."
            )


def mended(view: FeatureView, keys: list[pa.Table]) -> tuple[str, ...]:
    """What to say of keys in Redis that held something else than a hash, and now hold the row that belongs there."""
    if not keys:
        return ()
    rows = [row for table in keys for row in table.slice(0, 3).to_pylist()]
    named = "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in rows[:3])
    count = sum(table.num_rows for table in keys)
    return (
        f"{count:,} keys of '{view.reference}' in Redis were not hashes, so no rows, and were replaced by the rows: "
        f"{named}{' and others' if count > 3 else ''}.",
    )
