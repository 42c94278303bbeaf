"""Text that a project says, for a terminal: what would move the cursor, colour, hide or turn round is escaped."""

from __future__ import annotations

import json
import re
from typing import Any
from unicodedata import category

# Beside control and format characters: letters and marks without a shape, and the tags and selectors of plane 14.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0000-\U000e0fff]")
_PERHAPS = re.compile("[^ -~]")


def printable(text: object) -> str:
    r"""`text` on one line, with control, bidirectional and invisible characters as ``\x1b``, ``\n``, ``\u202e``."""
    text = str(text)
    return text if text.isascii() and text.isprintable() else _PERHAPS.sub(_shown, text)


def printable_json(value: Any, **options: Any) -> str:
    r"""`value` as JSON (with the options of `json.dumps`) in which such characters stand as ``\u202e``: for a program
    it means the same."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return _PERHAPS.sub(_shown_in_json, text)


def _shown(match: re.Match[str]) -> str:
    letter = match[0]
    if not _is_hidden(letter):
        return letter
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    code = ord(letter)
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _shown_in_json(match: re.Match[str]) -> str:
    # The only one that is not in a string is the line end between its parts.
    return json.dumps(match[0])[1:-1] if match[0] != "\n" and _is_hidden(match[0]) else match[0]


def _is_hidden(letter: str) -> bool:
    return category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") or _UNSEEN.match(letter) is not None


def clipped(text: str | None, most: int) -> str:
    """`text` on one line, with dots in place of what is more than so many letters."""
    line = " ".join((text or "").split())
    return line if len(line) <= most else line[: most - 3] + "..."


def number_of(count: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
