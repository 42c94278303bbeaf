"""The names of keys in Redis: ``<namespace>:<view>:<key values>``, each part escaped. See docs/online-format.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[%:{}]")


def escape(part: str) -> str:
    """``:``, ``%``, ``{`` and ``}`` as ``%3A``, ``%25``, ``%7B``, ``%7D``: parts cannot run into each other, and no
    value can steer a key to another slot of a cluster."""
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", part)


def unescape(part: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"%(3A|25|7B|7D)", lambda match: chr(int(match[1], 16)), part)


def view_prefix(namespace: str, view: str) -> str:
    """What every row key of a view begins with."""
    return f"{escape(namespace)}:{escape(view)}:"


def row_keys(namespace: str, view: str, columns: Sequence[Sequence[str | None]]) -> list[bytes | None]:
    """The keys of many entities' rows, from one column of texts for each join key; None where one of them is None."""
    prefix = view_prefix(namespace, view)
    columns = [
        [text and escape(text) for text in column] if _SPECIAL.search("".join(filter(None, column))) else column
        for column in columns
    ]
    if len(columns) == 1:
        start = prefix.encode()
        return [None if text is None else start + text.encode() for text in columns[0]]
    return [None if None in texts else (prefix + ":".join(texts)).encode() for texts in zip(*columns, strict=True)]


def registry_key(namespace: str) -> str:
    """A hash: one field a published view."""
    return f"{escape(namespace)}:registry"


def services_key(namespace: str) -> str:
    """A hash: one field a published feature service."""
    return f"{escape(namespace)}:services"


def revision_key(namespace: str) -> str:
    """A text that every change of what is published replaces by a new one, so that readers notice."""
    return f"{escape(namespace)}:_fs_revision"


def lease_key(namespace: str, view: str) -> str:
    """Held by the run that materializes the view."""
    return f"{escape(namespace)}:_fs_lease:{escape(view)}"


def marker_key(namespace: str, view: str) -> str:
    """Names the last run that wrote to the view: the materializer's memory counts only where it names the same."""
    return f"{escape(namespace)}:_fs_marker:{escape(view)}"


def glob_literal(text: str) -> str:
    """`text` for MATCH, standing for itself alone."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
