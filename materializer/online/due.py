"""Rows that fall due: what of an entity's row changes at which later moment, kept beside it in the field ``_fs_due``.

It is a JSON array of steps, ``[moment in microseconds since 1970, {field: text}]``, in order, each against the row
before it. A field that is NULL from then on has null; bytes that need not be text (binary, lists of floats) are
``{"base64": ...}``.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from materializer.online.keys import DUE

_Text = str | None | dict[str, str]
_decode = msgspec.json.Decoder(list[tuple[int, dict[str, _Text]]]).decode
Row = Mapping[str, bytes | None]


def due_text(row: Row, steps: Sequence[tuple[int, Row]], blobs: Collection[str] = ()) -> bytes:
    """The field's text: `row` is in force now (empty where none is), each of `steps` from its moment on.

    All rows have the same fields, None where NULL. Those in `blobs` may hold bytes that are no text.
    """
    found, before = [], row
    for moment, after in steps:
        # The texts are compared, not the values: 0.0 and -0.0 are equal numbers, and two texts.
        changed = {name: value for name, value in after.items() if value != before.get(name)}
        found.append([moment, {name: _said(value, name in blobs) for name, value in changed.items()}])
        before = after
    return msgspec.json.encode(found)


def _said(value: bytes | None, blob: bool) -> _Text:
    if value is None:
        return None
    return {"base64": base64.b64encode(value).decode()} if blob else value.decode()


def none_due(now: int) -> bytes:
    """A list of which nothing is due yet at `now` is greater than this, as bytes: it need not be read to know so. (When
    moments get their seventeenth digit, in 2286, some are read that need not be.)"""
    return b"[[%d~" % now


def changes_by(text: bytes, now: int) -> dict[str, _Text]:
    """What has changed by `now` of the row that the list `text` stands beside, as the list has it: `bytes_of` it are a
    field's bytes. Raises ValueError where it is no such list."""
    changed: dict[str, Any] = {}
    for moment, step in _decode(text):
        if moment > now:
            break
        changed = {**changed, **step} if changed else step
    return changed


def bytes_of(said: _Text) -> bytes | None:
    """The bytes of a field as a step has it; None for NULL. Raises ValueError where it is none."""
    if type(said) is str:
        return said.encode()
    if said is None:
        return None
    try:
        return base64.b64decode(said["base64"], validate=True)
    except KeyError:
        raise ValueError(f"{said} is no value") from None


def in_force(fields: Mapping[bytes, bytes], now: int) -> dict[bytes, bytes]:
    """The fields of an entity's hash as they are in force at `now`, in microseconds since 1970 by Redis' clock."""
    row = {name: value for name, value in fields.items() if name != DUE.encode()}
    if text := fields.get(DUE.encode()):
        changed = {name.encode(): bytes_of(said) for name, said in changes_by(text, now).items()}
        row = {name: value for name, value in (row | changed).items() if value is not None}
    return row
