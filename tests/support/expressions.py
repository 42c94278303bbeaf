"""Random on-demand expressions over typed inputs, and rows of odd values for them."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

STORED = {
    "big": pa.int64(), "small": pa.int32(), "tiny": pa.int8(), "dbl": pa.float64(), "single": pa.float32(),
    "dec": pa.decimal128(10, 2), "wide": pa.decimal128(38, 0), "txt": pa.string(), "at": pa.timestamp("us"),
    "zoned": pa.timestamp("us", "UTC"), "day": pa.date32(), "flag": pa.bool_(),
}  # fmt: skip
REQUEST = {
    "r_big": ("bigint", pa.int64()), "r_int": ("integer", pa.int32()), "r_dbl": ("double", pa.float64()),
    "r_dec": ("decimal(12, 3)", pa.decimal128(12, 3)), "r_txt": ("varchar", pa.string()),
    "r_at": ("timestamp", pa.timestamp("us")), "r_day": ("date", pa.date32()), "r_flag": ("boolean", pa.bool_()),
}  # fmt: skip
_TEXTS = [
    "",
    "Oslo",
    "oslo",
    "æøå ß İ",
    'it\'s "so"',
    "a\nb\tc",
    "🤦🏼‍♂️",
    "e\u0301",
    " x ",
    "%_\\",
    "NaN",
    "null",
    "a:b%{c}",
]
_DOUBLES = [0.0, -0.0, 1.0, -1.5, 0.1, 1e308, -1e-320, 2.0**53 + 2, float("nan"), float("inf"), float("-inf"), 1 / 3]
_BIGS = [0, 1, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 7, 10**18]


def value(chance: random.Random, dtype: pa.DataType) -> Any:
    """A value of a type, an odd one often, None now and then."""
    if chance.random() < 0.15:
        return None
    if pa.types.is_integer(dtype):
        low, high = -(2 ** (dtype.bit_width - 1)), 2 ** (dtype.bit_width - 1) - 1
        odd = [n for n in (*_BIGS, low, high) if low <= n <= high]
        return chance.choice(odd) if chance.random() < 0.5 else chance.randint(max(low, -100), min(high, 100))
    if pa.types.is_floating(dtype):
        number = chance.choice(_DOUBLES) if chance.random() < 0.5 else chance.uniform(-1000, 1000)
        return pa.scalar(number, pa.float64()).cast(dtype).as_py() if dtype == pa.float64() else _single(number)
    if pa.types.is_decimal(dtype):
        digits = chance.choice([1, 3, dtype.precision])
        return Decimal(chance.randint(-(10**digits) + 1, 10**digits - 1)).scaleb(-dtype.scale, _EXACT)
    if pa.types.is_string(dtype):
        return chance.choice(_TEXTS)
    if pa.types.is_boolean(dtype):
        return chance.random() < 0.5
    if pa.types.is_date(dtype):
        return chance.choice([date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29), date(1970, 1, 1)])
    moment = datetime(1970, 1, 1) + timedelta(microseconds=chance.randint(-(10**16), 4 * 10**15))
    moment = chance.choice([moment, datetime(2024, 2, 29, 23, 59, 59, 999_999), datetime(1969, 12, 31, 23, 59, 59, 1)])
    return moment.replace(tzinfo=timezone.utc) if dtype.tz else moment


def expression(chance: random.Random) -> str:
    """An expression of any kind. Of those that it makes some are refused."""
    kind = chance.choice(["integer", "integer", "double", "double", "double", "decimal", "text", "boolean", "moment"])
    return _of(chance, kind, chance.choice([1, 2, 2, 3, 3, 4]))


def _of(chance: random.Random, kind: str, depth: int) -> str:
    def of(kind: str) -> str:
        return _of(chance, kind, depth - 1)

    def number() -> str:
        return of(chance.choice(["integer", "double", "decimal"]))

    if depth <= 0:
        return chance.choice(_LEAVES[kind])
    if chance.random() < 0.3:
        any_kind = chance.choice(["integer", "double", "text", "boolean", "moment"])
        return chance.choice([
            lambda: f"case when {of('boolean')} then {of(kind)} else {of(kind)} end",
            lambda: f"case when {of('boolean')} then {of(kind)} when {of('boolean')} then null end",
            lambda: f"case {of(any_kind)} when {of(any_kind)} then {of(kind)} else {of(kind)} end",
            lambda: f"coalesce({of(kind)}, {of(kind)})",
            lambda: f"nullif({of(kind)}, {of(kind)})",
            lambda: f"({of(kind)})",
        ])()  # fmt: skip
    makes: dict[str, list[Any]] = {
        "integer": [
            lambda: f"({of('integer')} {chance.choice('+-*')} {of('integer')})",
            lambda: f"({of('integer')} % nullif({of('integer')}, 0))",
            lambda: f"({of('integer')} % {chance.choice([2, 7, '(-3)'])})",
            lambda: f"-({of('integer')})",
            lambda: f"abs({of('integer')})",
            lambda: f"length({of('text')})",
            lambda: f"cast({chance.choice(['floor', 'ceil'])}({number()}) as {chance.choice(['bigint', 'integer'])})",
            lambda: f"extract({chance.choice(['year', 'quarter', 'month', 'day', 'hour', 'minute', 'isodow'])} from cast({of('moment')} as timestamp))",
            lambda: f"{chance.choice(['greatest', 'least'])}({of('integer')}, {of('integer')})",
        ],
        "double": [
            lambda: f"({of('double')} {chance.choice('+-*')} {number()})",
            lambda: f"({of('double')} / nullif({number()}, 0))",
            lambda: f"(cast({number()} as double) / {chance.choice([3, 0.7, '(-2.5)', '1e3'])})",
            lambda: f"{chance.choice(['abs', 'floor', 'ceil', 'sqrt', 'ln', 'exp', 'sin', 'cos', 'asin', 'radians'])}({of('double')})",
            lambda: f"power({number()}, {chance.choice(['2', '0.5', of('double')])})",
            lambda: f"extract(epoch from cast({of('moment')} as timestamp))",
            lambda: f"{chance.choice(['greatest', 'least'])}({of('double')}, {number()})",
            lambda: f"-{of('double')}",
        ],
        "decimal": [
            lambda: f"({of('decimal')} {chance.choice('+-*')} {of(chance.choice(['decimal', 'integer']))})",
            lambda: f"cast({of(chance.choice(['decimal', 'integer']))} as decimal({chance.choice(['18, 3', '9, 1', '38, 10'])}))",
            lambda: f"{chance.choice(['abs', 'floor', 'ceil'])}({of('decimal')})",
        ],
        "text": [
            lambda: f"({of('text')} || {of('text')})",
            lambda: f"cast({of(chance.choice(['integer', 'boolean', 'text']))} as varchar)",
        ],
        "boolean": [
            lambda: f"({number()} {chance.choice(['=', '<>', '<', '<=', '>', '>='])} {number()})",
            lambda: f"({of('text')} {chance.choice(['=', '<>', '!='])} {of('text')})",
            lambda: f"({of('moment')} {chance.choice(['=', '<', '>='])} {of('moment')})",
            lambda: f"({of('boolean')} {chance.choice(['and', 'or'])} {of('boolean')})",
            lambda: f"(not {of('boolean')})",
            lambda: f"({of(chance.choice(['integer', 'text', 'moment']))} is {chance.choice(['', 'not '])}null)",
            lambda: f"({of('text')} {chance.choice(['', 'not '])}in ({of('text')}, 'Oslo', {of('text')}))",
            lambda: f"({number()} in ({number()}, 1, 0))",
            lambda: f"({number()} between {number()} and {number()})",
        ],
        "moment": [
            lambda: f"cast({of('moment')} as {chance.choice(['date', 'timestamp'])})",
            lambda: f"{chance.choice(['greatest', 'least'])}({of('moment')}, {of('moment')})",
        ],
    }  # fmt: skip
    return chance.choice(makes[kind])()


def _single(number: float) -> float:
    return pa.array([number if abs(number) < 1e38 or number != number or abs(number) == float("inf") else 1.0],
                    pa.float64()).cast(pa.float32())[0].as_py()  # fmt: skip


_LEAVES = {
    "integer": ["big", "small", "tiny", "r_big", "r_int", "0", "1", "3", "9007199254740993"],
    "double": ["dbl", "single", "r_dbl", "cast(0.1 as double)", "1e-7", "2.5e0"],
    "decimal": ["dec", "wide", "r_dec", "0.5", "100.25"],
    "text": ["txt", "r_txt", "'Oslo'", "'it''s'", "''"],
    "boolean": ["flag", "r_flag", "true", "(big > 0)"],
    "moment": ["at", "zoned", "day", "r_at", "r_day", "date '2024-02-29'", "timestamp '1999-12-31 23:59:59.5'"],
}  # fmt: skip
_EXACT = Context(prec=60)
