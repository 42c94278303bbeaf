"""Labels in text files, CSV and JSON lines: values stay as they are written until it is known what they are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from materializer.errors import InputError
from materializer.warehouse.arrow import column_of
from materializer.warehouse.join_keys import as_key, carrier, cast_keys, refused

_WHOLE = r"^-?[1-9][0-9]{0,18}$|^0$"
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"


class FileRows:
    """The rows of a text file. `table` types them, once the join keys of the views and the time column are known."""

    def __init__(self, columns: Mapping[str, Any], csv: bool) -> None:
        # Of a CSV file text, of JSON lines Python values.
        self._columns = columns
        self._csv = csv

    def table(self, keys: Mapping[str, Sequence[pa.DataType]], timestamp: str) -> pa.Table:
        """Join keys in the types that the views have, the moments as timestamps, all else without a change.

        Args:
            keys: the types of each join key; with more than one it stays text.
            timestamp: the time column; where there is no ``event_timestamp``, the only column of timestamps is meant.

        Raises:
            InputError: for a key that does not fit its type.
        """
        others = [name for name in self._columns if name not in keys]
        if timestamp not in self._columns and timestamp == "event_timestamp":
            times = [name for name in others if _all_match(self._texts(name), f"^{_TIME}{_ZONE}?$")]
            timestamp = times[0] if len(times) == 1 else timestamp
        columns: dict[str, Any] = {}
        for name, values in self._columns.items():
            if name in keys:
                read = _csv_key if self._csv else _json_key
                columns[name] = read(values, keys[name], name)
            elif name == timestamp:
                columns[name] = _moments(self._texts(name)) if self._texts(name) is not None else column_of(values)
            else:
                columns[name] = _typed(values) if self._csv else column_of(values)
        return pa.table(columns)

    def _texts(self, name: str) -> Any:
        """A column as text with NULL for what is missing; None where it is no text."""
        values = self._columns[name]
        if self._csv:
            return _without_empty(values)
        return pa.array(values, pa.string()) if set(map(type, values)) <= {str, type(None)} else None


def read_csv(path: Path) -> FileRows:
    """A CSV file, each column as text. Raises InputError where it has two columns of one name; pa.ArrowException,
    OSError where it cannot be read."""
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, parse_options=parsing) as reader:
        names = reader.schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} has two columns called '{twice}': rename one of them.")
    reading = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    table = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=reading)
    return FileRows(dict(zip(table.column_names, table.columns, strict=True)), csv=True)


def read_json_lines(path: Path) -> FileRows:
    """JSON objects, one a line; numbers keep the digits they are written with. Raises ValueError, OSError where it
    cannot be read."""
    rows = list(_objects(path.read_text(encoding="utf-8-sig")))
    names = dict.fromkeys(name for row in rows for name in row)
    return FileRows({name: [row.get(name) for row in rows] for name in names}, csv=False)


class _Digits(float):
    """A number with a point or an exponent, which remembers how it is written."""

    text: str

    def __new__(cls, text: str) -> _Digits:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(parse_float=_Digits)
    place, end = 0, len(text)
    while True:
        while place < end and text[place].isspace():
            place += 1
        if place == end:
            return
        value, place = decoder.raw_decode(text, place)
        if not isinstance(value, dict):
            raise ValueError('a line holds no object such as {"user_id": 1}')
        yield value


def _csv_key(texts: pa.ChunkedArray, dtypes: Sequence[pa.DataType], name: str) -> Any:
    """In the type of the view's key; as it is written where that is text, or where views differ in it."""
    if len(dtypes) == 1 and pa.types.is_string(dtypes[0]):
        return texts
    texts = _without_empty(texts)
    return cast_keys(texts, dtypes[0], name) if len(dtypes) == 1 and carrier(dtypes[0]) != pa.string() else texts


def _json_key(values: list[Any], dtypes: Sequence[pa.DataType], name: str) -> pa.Array:
    dtype = dtypes[0] if len(dtypes) == 1 and carrier(dtypes[0]) != pa.string() else pa.string()
    found = []
    for value in values:
        try:
            found.append(as_key(Decimal(value.text) if isinstance(value, _Digits) else value, dtype))
        except ValueError:
            raise refused(name, dtypes[0], value) from None
    return pa.array(found, carrier(dtype))


def _without_empty(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _all_match(texts: Any, pattern: str) -> bool:
    return texts is not None and pc.all(pc.match_substring_regex(texts, pattern)).as_py() is True


def _moments(texts: Any) -> Any:
    """Timestamps of texts in ISO 8601, one without a zone in UTC; the texts themselves where some are none."""
    typed = _typed(texts)
    if not pa.types.is_string(typed.type):
        return typed
    zoned = pc.match_substring_regex(texts, f"{_ZONE}$")
    zoned = pc.and_(zoned, pc.greater(pc.binary_length(texts), len("2024-01-01")))
    # Arrow wants a zone for all or for none.
    texts = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", "")) if pc.any(zoned).as_py() else texts
    for unit in ("us", "ns"):
        try:
            return texts.cast(pa.timestamp(unit, "UTC" if pc.any(zoned).as_py() else None))
        except pa.ArrowInvalid:
            continue
    return typed


def _typed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """A CSV column as numbers, true and false, dates or timestamps where each of these prints as it is written.

    Otherwise it is text: 000123, 1.10, twenty digits, NA. In a column that is not text an empty field is NULL.
    """
    values = _without_empty(texts)
    for pattern, convert in _KINDS:
        if _all_match(values, pattern):
            try:
                typed = convert(values)
            except pa.ArrowInvalid:
                continue
            if typed is not None:
                return typed
    return texts


def _double(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    numbers = texts.cast(pa.float64())
    printed = numbers.cast(pa.string())
    same = pc.or_(pc.equal(printed, texts), pc.equal(pc.binary_join_element_wise(printed, ".0", ""), texts))
    odd = pc.and_(pc.is_valid(texts), pc.invert(same))
    pairs = zip(numbers.filter(odd).to_pylist(), texts.filter(odd).to_pylist(), strict=True)
    return numbers if all(repr(number) == text for number, text in pairs) else None


def _timestamp(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    first = next(text for text in texts.to_pylist() if text is not None)
    zone = "UTC" if first.endswith("Z") else None
    digits = len(first.rstrip("Z")) - len("2024-01-01 00:00:00.")
    moments = texts.cast(pa.timestamp({-1: "s", 3: "ms", 6: "us", 9: "ns"}.get(digits, "ns"), zone))
    return moments if moments.cast(pa.string()).equals(texts) else None


_KINDS: list[tuple[str, Callable[[pa.ChunkedArray], pa.ChunkedArray | None]]] = [
    (_WHOLE, lambda texts: texts.cast(pa.int64())),
    (_NUMBER, _double),
    (r"^true$|^false$", lambda texts: texts.cast(pa.bool_())),
    (r"^True$|^False$", lambda texts: texts.cast(pa.bool_())),
    (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", lambda texts: texts.cast(pa.date32())),
    (rf"^{_TIME}Z?$", _timestamp),
]
