"""Values that go from Redis into JSON as they are say what their decoded values say."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from materializer.online.values import codec, decode_column
from materializer.serve.values import json_column

TYPES = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(),
    pa.string(), pa.binary(), pa.decimal128(12, 3), pa.timestamp("us", "UTC"), pa.date32(), pa.list_(pa.float64()),
    pa.list_(pa.int64()),
]  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(repr),
    st.from_regex(r"[-+]?0{0,2}[0-9]{0,22}\.?[0-9]{0,30}(e[-+]?[0-9]{1,3})?", fullmatch=True),
)
WORDS = st.sampled_from(["true", "false", "nan", "inf", "-inf", "-0.0", "-0", "127", "128", "255", "256", "2026-01-01",
                         "2026-01-01T00:00:00.000000Z", "[1,2]", "[1.5,null]", ""])  # fmt: skip
TEXTS = st.lists(NUMBERS.map(str.encode) | WORDS.map(str.encode) | st.text().map(str.encode) | st.binary(), max_size=4)


def same(shown: Any, value: Any) -> bool:
    if isinstance(value, float) and isinstance(shown, (int, float)):
        shown = float(shown)  # a number of JSON's, read as what it stands for
        return shown == value and math.copysign(1, shown) == math.copysign(1, value)
    return type(shown) is type(value) and shown == value


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@given(column=TEXTS)
@example(column=[b"1", b"22", b"-3"])
@example(column=[b"1.5", b"-0.0", b"0.1"])
@example(column=[b"9223372036854775807", b"-9223372036854775808"])
@example(column=[b"true", b"false"])
@example(column=[b"1,2", b"3"])
@example(column=[b"1.5,2.5"])
@example(column=[b"true,false"])
@example(column=[b'a "quoted" one', b"back\\slash", "\N{GREEK SMALL LETTER ALPHA}\n".encode(), b"plain"])
@settings(max_examples=60, deadline=None)
def test_json_of_stored_texts_is_json_of_their_values(dtype: pa.DataType, column: list[bytes]) -> None:
    how = codec(dtype, "A feature")
    shown, values = json_column(dtype, how)(column), decode_column(how, column)
    if values is None:
        assert shown is None
        return
    assert shown is not None
    for text, value in zip(shown, values, strict=True):
        if dtype == pa.binary():
            continue  # base64; below
        assert same(json.loads(text), json.loads(json.dumps(how.to_json(value)))), (text, value)


@pytest.mark.parametrize("dtype", [one for one in TYPES if not pa.types.is_nested(one)], ids=str)
def test_what_was_written_by_us_is_passed_on_or_encoded_alike(dtype: pa.DataType) -> None:
    samples = {
        pa.float32(): [0.5, -0.0, 0.25], pa.float64(): [0.1, 1e300, math.inf, math.nan, -5e-324], pa.bool_(): [True],
        pa.string(): ["", "a,b", 'q"', "\u2028"], pa.binary(): [b"\x00\xff"], pa.date32(): [19000],
        pa.timestamp("us", "UTC"): [1_750_000_000_000_001],
    }  # fmt: skip
    values = (
        pa.array(samples.get(dtype, [0, 1, 100]), dtype)
        if not pa.types.is_decimal(dtype)
        else pa.array(["1.250"]).cast(dtype)
    )
    how = codec(dtype, "A feature")
    for value, raw in zip(values.to_pylist(), how.encode(values).to_pylist(), strict=True):
        (text,) = json_column(dtype, how)([raw]) or [b"unreadable"]
        expected = "AP8=" if dtype == pa.binary() else how.to_json(value)
        assert same(json.loads(text), expected) or json.loads(text) == expected


@pytest.mark.parametrize("dtype", [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_()], ids=str)
@given(
    column=st.lists(NUMBERS.map(str.encode) | WORDS.map(str.encode), min_size=5, max_size=12), plain=st.integers(0, 9)
)
@example(column=[b"1", b"2", b"3,4", b"5", b"6"], plain=0)
@example(column=[b"-0", b"0.5", b"1.5", b"2.5", b"-0"], plain=0)
@example(column=[b"1e300", b"0.5", b"1.5", b"2.5", b"0.1"], plain=0)
@settings(max_examples=80, deadline=None)
def test_a_column_that_is_decoded_at_once_is_what_its_values_are(
    dtype: pa.DataType, column: list[bytes], plain: int
) -> None:
    how = codec(dtype, "A feature")
    if plain:  # mostly all of them are of the type, and read at once
        column = [text for text in column if decode_column(how, [text]) is not None] + [b"true"] * (dtype == pa.bool_())
    each = [decode_column(how, [text]) for text in column]
    together = decode_column(how, column)
    if None in each:
        assert together is None
        return
    assert together is not None
    assert [*map(repr, together)] == [repr(one) for (one,) in each]
