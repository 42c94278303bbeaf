"""Tables as files that have the same bytes on every run, and fingerprints of columns."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from materializer.errors import InputError
from materializer.project.storage import Remote
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.moments import all_stated, holds_moments, to_objects

SUFFIXES = (".parquet", ".csv")
_ROW_GROUP = 131_072


def write_table(table: pa.Table, path: Path, target: Path | Remote) -> None:
    """Write a table to `path` in the format that the name of `target` says; the same rows give the same bytes. Raises
    InputError naming `target`, where it cannot be written.

    How the table is cut into chunks (which depends on the warehouse's threads) has no part in it.
    """
    try:
        if target.suffix == ".csv":
            pyarrow.csv.write_csv(_stated(table), path)
            return
        with pq.ParquetWriter(path, table.schema, compression="zstd", version="2.6") as writer:
            for start in range(0, table.num_rows, _ROW_GROUP):
                writer.write_table(table.slice(start, _ROW_GROUP).combine_chunks(), _ROW_GROUP)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}.") from None
    except pa.ArrowException as error:
        advice = ": lists and the like need .parquet" if target.suffix == ".csv" else ""
        raise InputError(f"{target} cannot be written ({' '.join(str(error).split())}){advice}.") from None


@contextmanager
def whole_or_not_at_all(path: Path | Remote) -> Iterator[Path]:
    """A file beside `path` to write to first, for `put_in_place`; gone afterwards. What a URL names has it in a folder
    of its own."""
    if isinstance(path, Remote):
        with tempfile.TemporaryDirectory(prefix="feature-store-") as folder:
            yield Path(folder) / path.name
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path | Remote) -> None:
    """Make the file `path` of a whole one. Raises OSError."""
    if isinstance(path, Remote):
        path.put(partial)
    else:
        partial.replace(path)


def _stated(table: pa.Table) -> pa.Table:
    """With dates, times and timestamps as text where Arrow writes "value out of range": they may be infinite."""
    for place, column in enumerate(table.columns):
        flat = holds_moments(column.type) and not pa.types.is_nested(column.type)
        if flat and not all_stated(to_plain(column)):
            written = column.cast(pa.string()).to_pylist()
            texts = [new if isinstance(new, str) else old for old, new in zip(written, to_objects(column), strict=True)]
            table = table.set_column(place, table.column_names[place], pa.array(texts, pa.string()))
    return table


def column_sha256(column: pa.ChunkedArray) -> str:
    """A fingerprint of a column's values in their order, to the bit; it does not depend on engines or chunks."""
    digest = hashlib.sha256(str(column.type).encode())
    for start in range(0, len(column), _ROW_GROUP):
        _feed(digest, column.slice(start, _ROW_GROUP).combine_chunks())
    return digest.hexdigest()


def _feed(digest: Any, array: pa.Array) -> None:
    """Their number, which of them are NULL, and those that are not, one after the other."""
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_binary())
    digest.update(len(array).to_bytes(8, "little"))
    kind = array.type
    if pa.types.is_null(kind):
        return
    digest.update(_fixed(pc.cast(array.is_valid(), pa.uint8()), 1))
    array = array.drop_null()
    if pa.types.is_floating(kind):
        array = to_plain(array)  # one NaN, however it came about
    if pa.types.is_struct(kind):
        for field in array.flatten():
            _feed(digest, field)
    elif pa.types.is_map(kind):
        _feed(digest, array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        digest.update(_fixed(pc.cast(pc.list_value_length(array), pa.int64()), 8))
        _feed(digest, pc.list_flatten(array))
    elif pa.types.is_boolean(kind):
        digest.update(_fixed(pc.cast(array, pa.uint8()), 1))
    elif pa.types.is_nested(kind):
        digest.update(repr(array.to_pylist()).encode())
    elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        digest.update(_fixed(array, kind.bit_width // 8))
    else:
        text = pc.cast(array, pa.large_binary())
        digest.update(_fixed(pc.cast(pc.binary_length(text), pa.int64()), 8))
        if len(text):
            places = memoryview(text.buffers()[1]).cast("q")
            digest.update(memoryview(text.buffers()[2] or b"")[places[text.offset] : places[text.offset + len(text)]])


def _fixed(array: pa.Array, width: int) -> memoryview:
    """The bytes of values of `width` bytes each."""
    if not len(array):
        return memoryview(b"")
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
