"""Events that their producer brings itself: all of a call's rows land, or none; once, where the call has a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from materializer.errors import InputError, LandingError
from materializer.stream.decode import Decoder, Message
from materializer.stream.files import engine
from materializer.stream.landing import PUSHED, CannotLand, Covered, Landing, NoEvent
from materializer.stream.source import StreamedSource
from materializer.stream.wire import plain


@dataclass(frozen=True)
class Pushed:
    """What became of a push: how many rows it brought, and whether an earlier call with its key had brought them."""

    source: str
    rows: int
    repeated: bool


def push(
    landing: Landing, source: StreamedSource, rows: Sequence[Mapping[str, Any]], idempotency_key: str | None = None
) -> Pushed:
    """Land rows of a source.

    Args:
        rows: values by column, as Python or JSON has them; a column left out is NULL.
        idempotency_key: of the producer's making; a call that is repeated with it lands nothing again, for a week.

    Raises:
        InputError: naming the first row that is no event of the source, a column that it does not have, or a key that
            came with other rows.
        LandingError: where the landing cannot be written. In either case nothing has landed.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"Row {number} of a push is no mapping of columns to values.")
        if unknown := [name for name in row if name not in source.columns]:
            raise InputError(
                f"Source '{source.name}' has no column {unknown[0]!r}, which row {number} brings; it has: "
                f"{', '.join(source.columns)}."
            )
    texts = [json.dumps(plain(dict(row))).encode() for row in rows]
    with engine() as connection:
        messages = [Message(PUSHED, 0, number, text) for number, text in enumerate(texts)]
        Decoder(connection, source).rows(messages, "_fs_pushed")
        bad = connection.execute(
            "select _offset, _fs_reason from _fs_pushed where _fs_reason is not null order by _offset limit 1"
        ).fetchall()
        if bad:
            raise InputError(f"Row {bad[0][0]} of a push to '{source.name}' is no event of it: {bad[0][1]}.")
        if not texts:
            return Pushed(source.name, 0, False)
        content = hashlib.sha256(b"\n".join(texts)).hexdigest()
        key = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key is not None else None

        def covered() -> Covered | None:
            after = landing.next_offset(source, PUSHED, 0) or 0
            here = Covered(0, PUSHED, 0, after, after + len(texts) - 1)
            if key is not None:
                before = landing.pushed_with(connection, source, key)
                if before == content:
                    return None
                if before is not None:
                    raise InputError(
                        f"Idempotency key {idempotency_key!r} came with other rows before: a key is of one push."
                    )
                landing.note_push(source, key, here.first, content)
            connection.execute("update _fs_pushed set _offset = _offset + ?, _fs_push = ?", [after, key])
            return here

        try:
            landed = landing.commit(connection, source, "_fs_pushed", covered)
        except NoEvent as error:
            raise InputError(f"Row {error.place} of a push to '{source.name}' is no event of it: {error}.") from None
        except CannotLand as error:
            raise LandingError(f"Events cannot land in {landing.place}: {error}.") from None
    return Pushed(source.name, len(texts), landed is None)
