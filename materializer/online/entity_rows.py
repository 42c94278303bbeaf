"""Entity rows as callers give them, and their join key values as they stand in keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.online.values import encode
from materializer.types import cast_keys


def key_texts(values: Iterable[Any], dtype: pa.DataType, name: str) -> list[str | None]:
    """Join key values as they stand in keys, cast to the view's type; NULL and NaN are None.

    Raises:
        InputError: for a value that is not of the type, such as text in an integer key.
    """
    values = list(values)
    if {int} == set(map(type, values)) and pa.types.is_integer(dtype):
        return list(map(str, values))
    values = [_plain_value(value) for value in values]
    if pa.types.is_integer(dtype) and all(type(value) is int or value is None for value in values):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_string(dtype) and all(type(value) is str or value is None for value in values):
        return values
    texts = []
    for value in values:
        if value is not None and not isinstance(value, (int, float, str, bytes, bool, date, Decimal)):
            value = str(value)
        if type(value) is int and not pa.types.is_boolean(dtype):
            value = str(value)  # of any size, as decimals are
        try:
            cast = cast_keys(pa.array([value]), dtype, name)
        except (pa.ArrowException, OverflowError) as error:
            raise InputError(f"Join key '{name}' is of type {dtype}, but {value!r} was given for it: {error}") from None
        text = encode(cast)[0].as_py()
        texts.append(None if text is None else text.decode())
    return texts


def _plain_value(value: Any) -> Any:
    """A value of numpy's or pandas' as Python's own; None for NULL, NaN, NaT and NA."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return None
    # Python's datetime has no nanoseconds, so numpy gives an integer for one that has.
    if kind == "datetime64":
        value = value.astype("datetime64[us]")
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, (float, Decimal)) and value != value else value


def rows_of(entity_rows: Any) -> list[Mapping[str, Any]]:
    """Entity rows as a list of dicts; a dict of lists, as Feast also takes, is turned.

    Raises:
        InputError: for anything else.
    """
    if isinstance(entity_rows, Mapping):
        if any(isinstance(values, (str, bytes)) or not hasattr(values, "__len__") for values in entity_rows.values()):
            raise InputError("entity_rows as one dict has a list of values for each join key: {'user_id': [1, 2]}.")
        lengths = {len(values) for values in entity_rows.values()}
        if len(lengths) > 1:
            raise InputError("The lists in entity_rows are of different lengths.")
        return [dict(zip(entity_rows, values, strict=True)) for values in zip(*entity_rows.values(), strict=True)]
    if isinstance(entity_rows, Iterable) and not isinstance(entity_rows, (str, bytes)):
        rows = list(entity_rows)
        if set(map(type, rows)) <= {dict} or all(isinstance(row, Mapping) for row in rows):
            return rows
    raise InputError("entity_rows is a list of dicts, for example [{'user_id': 1}].")
