"""The names of keys in Redis, ``<namespace>:<view>:<key values>``, each part escaped, and of our fields (see
docs/online-format.md); and the key values of entity rows as callers give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import InputError
from materializer.online.values import encode
from materializer.project.definitions import FeatureView
from materializer.warehouse.arrow import table_of_duckdb, to_plain
from materializer.warehouse.join_keys import UUID, OutOfRangeError, as_key, key_text, refused

EVENT, CREATED, EXPIRES, WRITER, DUE = "_fs_event", "_fs_created", "_fs_expires", "_fs_writer", "_fs_due"
# The landing's number that a row's build, or its evaluation by a stream, had seen.
SEEN = "_fs_seen"
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


def keys_of_texts(namespace: str, view: str, columns: Sequence[Sequence[str | None]]) -> list[bytes | None]:
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


def keys_of_columns(namespace: str, view: FeatureView, columns: Mapping[str, pa.Array]) -> pa.Array:
    """As `keys_of_texts`, of columns of values, none NULL, as ``binary``."""
    parts = []
    for name in view.join_keys:
        text = encode(columns[name])
        if pa.types.is_string(columns[name].type) or pa.types.is_timestamp(columns[name].type):
            text = text.cast(pa.string())
            for special in "%:{}":  # the percent sign first: the others bring new ones
                text = pc.replace_substring(text, special, f"%{ord(special):02X}")
            text = text.cast(pa.binary())
        parts.append(text)
    joined = pc.binary_join_element_wise(*parts, b":")
    return pc.binary_join_element_wise(pa.scalar(view_prefix(namespace, view.reference).encode()), joined, b"")


def stored_keys_of(namespace: str, view: FeatureView, keys: Sequence[bytes]) -> pa.Table:
    """The inverse of `keys_of_columns`, with decimals as text; without keys that are none of this view's."""
    prefix = view_prefix(namespace, view.reference).encode()
    parts = [key[len(prefix) :].split(b":") for key in keys]
    columns: dict[str, pa.Array] = {}
    for place, entity in enumerate(view.entities):
        texts = [part[place] for part in parts if len(part) == len(view.entities)]
        dtype = entity.dtype
        if pa.types.is_binary(dtype):
            columns[entity.name] = pa.array(texts, dtype)
            continue
        column = pa.array([unescape(text.decode()) for text in texts], pa.string())
        if pa.types.is_timestamp(dtype):
            column = column.cast(pa.timestamp("us", "UTC"))
        plain = pa.types.is_decimal(dtype) or dtype == UUID
        columns[entity.name] = column if plain else column.cast(dtype)
    return pa.table(columns)


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


def streamer_key(namespace: str) -> str:
    """The process that keeps the streamed views of a namespace online now."""
    return f"{escape(namespace)}:_fs_streamer"


def heartbeat_key(namespace: str) -> str:
    """What the process that keeps streamed views online said last of itself."""
    return f"{escape(namespace)}:_fs_streaming"


def stream_key(namespace: str, view: str) -> str:
    """Says of which definition streams may write the view's rows now. See `materializer.online.stream_record`."""
    return f"{escape(namespace)}:_fs_stream:{escape(view)}"


def bulk_strings(*texts: bytes) -> bytes:
    """RESP bulk strings: ``$<length>\\r\\n<bytes>\\r\\n`` each."""
    return b"".join([b"$%d\r\n%s\r\n" % (len(text), text) for text in texts])


def glob_literal(text: str) -> str:
    """`text` for MATCH, standing for itself alone."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def key_texts(values: Iterable[Any], dtype: pa.DataType, name: str) -> list[str | None]:
    """Join key values as they are in keys, cast to the view's type; NULL and NaN are None. InputError for a value that
    is not of the type, such as text in an integer key."""
    values = list(values)
    kinds = set(map(type, values))
    if kinds == {int} and pa.types.is_integer(dtype):
        return list(map(str, values))
    if kinds == {str} and pa.types.is_string(dtype):
        return values
    texts: list[str | None] = []
    for value in values:
        try:
            texts.append(key_text(as_key(value, dtype)))
        except OutOfRangeError as error:
            texts.append(str(error))  # a number like any other, of an entity that is not there
        except ValueError:
            raise refused(name, dtype, value) from None
    return texts


def rows_of(entity_rows: Any) -> list[Mapping[str, Any]]:
    """Entity rows as a list of dicts: of a dict of lists, as Feast also takes, or a frame (pandas, polars, Arrow,
    DuckDB). InputError for anything else."""
    if hasattr(entity_rows, "iloc"):  # pandas
        entity_rows = {str(name): entity_rows[name].tolist() for name in entity_rows.columns}
    elif hasattr(entity_rows, "to_dicts"):  # polars
        return entity_rows.to_dicts()
    elif hasattr(entity_rows, "to_arrow_table"):
        entity_rows = _lists(table_of_duckdb(entity_rows))
    elif hasattr(entity_rows, "__arrow_c_stream__"):
        entity_rows = _lists(pa.table(entity_rows))
    if isinstance(entity_rows, Mapping):
        if any(isinstance(values, (str, bytes)) or not hasattr(values, "__len__") for values in entity_rows.values()):
            raise InputError("entity_rows as one dict has a list of values for each join key: {'user_id': [1, 2]}.")
        if len(set(map(len, entity_rows.values()))) > 1:
            raise InputError("The lists in entity_rows are of different lengths.")
        return [dict(zip(entity_rows, values, strict=True)) for values in zip(*entity_rows.values(), strict=True)]
    if isinstance(entity_rows, Iterable) and not isinstance(entity_rows, (str, bytes)):
        rows = list(entity_rows)
        if set(map(type, rows)) <= {dict} or all(isinstance(row, Mapping) for row in rows):
            return rows
    raise InputError(
        "entity_rows is a list of dicts, for example [{'user_id': 1}], or a frame with a column for each join key."
    )


def _lists(table: pa.Table) -> dict[str, list[Any]]:
    """The columns of a table; nanoseconds are truncated, for Python has none."""
    return {
        name: (to_plain(column) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
