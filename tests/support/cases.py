"""Random feature tables and spines, drawn by hypothesis: many small cases that share one table under a `case_id`.

Moments lie on a grid of five steps of two hours, with neighbours one microsecond before and after, so that the ends
of a ttl, load times and ties are met all the time. The present stands in the middle between two steps: each step is
an hour or more away from it, so that what is visible now does not depend on how long a test takes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

STEP = 2 * 3600 * 10**6
STEPS_PASSED = 3

EPOCH = datetime(1970, 1, 1)
UTC = timezone.utc


def _single(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


@dataclass(frozen=True)
class FeatureType:
    """A feature of every view of the tests: its type in the warehouse and in Arrow, and the values it takes."""

    sql: str
    arrow: pa.DataType
    values: list[Any]


NAN, INF = math.nan, math.inf
# In an order that is not that of their names, which decides ties.
FEATURES: dict[str, FeatureType] = {
    "whole": FeatureType("bigint", pa.int64(), [0, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    "Ratio": FeatureType("double", pa.float64(), [NAN, INF, -INF, 0.0, -0.0, 0.1, 1 / 3, 5e-324, 1.7e308, 1e16]),
    "single": FeatureType("float", pa.float32(), [NAN, -INF, 0.0, -0.0, _single(0.1), 16777216.0, _single(1e-45)]),
    "label": FeatureType(
        "varchar", pa.string(),
        ["", " ", "Z", "a", "é", "\U0001f600", "\r\n", "$3\r\nabc\r\n", "a:b", "%3A", "{x}", "nan", "NULL", "'\"\\"],
    ),
    "flag": FeatureType("boolean", pa.bool_(), [False, True]),
    "price": FeatureType(
        "decimal(18, 4)", pa.decimal128(18, 4),
        [Decimal("0.0000"), Decimal("-0.0001"), Decimal("99999999999999.9999")],
    ),
    "huge total": FeatureType(
        "hugeint", pa.decimal128(38, 0),
        [Decimal(0), Decimal(2**64 + 1), Decimal(-(2**64) - 1)],
    ),
    "day": FeatureType(
        "date", pa.date32(),
        [date(1, 1, 1), date(1969, 12, 31), date(2024, 2, 29), date(9999, 12, 31)],
    ),
    "seen": FeatureType(
        "timestamp", pa.timestamp("us"),
        [datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29, 12), datetime(2024, 2, 29, 12, 0, 0, 1)],
    ),
    "seen_utc": FeatureType(
        "timestamptz", pa.timestamp("us", "UTC"),
        [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(2024, 3, 31, 1, 30, tzinfo=UTC)],
    ),
    "vector": FeatureType(
        "double[]", pa.list_(pa.float64()),
        [[], [None], [NAN], [0.0], [-0.0], [0.0, -1.0], [-0.0, 1.0], [1.0, None, 2.0], [1.0, 2.0], [0.1, INF]],
    ),
    "embedding": FeatureType(
        "float[3]", pa.list_(pa.float32()),
        [[0.0, 0.0, 0.0], [0.0, -0.0, 0.0], [1.0, None, NAN], [_single(0.1), -INF, 3.0], [1.0, 2.0, 3.0]],
    ),
    "words": FeatureType("varchar[]", pa.list_(pa.string()), [[], [""], [None, "b"], ["a", "b"], ["é:", "\r\n"]]),
    "nested": FeatureType(
        "struct(label varchar, counts bigint[], place struct(x double, y double))",
        pa.struct([
            ("label", pa.string()),
            ("counts", pa.list_(pa.int64())),
            ("place", pa.struct([("x", pa.float64()), ("y", pa.float64())])),
        ]),
        [
            {"label": None, "counts": [1], "place": {"x": 0.5, "y": NAN}},
            {"label": "a\r\n", "counts": [2**53 + 1], "place": {"x": 0.1, "y": None}},
            {"label": "a\r\n", "counts": [], "place": {"x": INF, "y": 1.0}},
        ],
    ),
    "raw": FeatureType("blob", pa.binary(), [b"", b"\x00\r\n\xff", b"ab"]),
}  # fmt: skip
NAMES_IN_ORDER = sorted(FEATURES)

# What the keys 0 and 1 of a case (2 is in no table) are called in a view with a composite text key.
NASTY_PAIRS = [
    [("1", "23"), ("12", "3"), ("123", "")],
    [("a:b", "c"), ("a", "b:c"), ("a:b:c", "")],
    [("%3A", ":"), (":", "%3A"), ("%253A", "%")],
    [("", "x"), ("x", ""), ("", "")],
    [("{a}", "\r\n"), ("a", "{\r\n}"), ("\n", "\r")],
    [("é", "\U0001f600"), ("e\u0301", "\U0001f600"), ("é ", "\U0001f600")],
    [("A", "'"), ("a", "'"), ("A", '"')],
    [("*", "?[a]"), ("\\*", "?[a]"), ("x", "?[a]")],
]
BIG_KEYS = [2**53, 2**53 + 1, -(2**63)]


@dataclass(frozen=True)
class CaseRow:
    """A row of a feature table; `key` is 0, 1 or None, moments are offsets from the grid's first step."""

    key: int | None
    event: int | None
    created: int | None
    features: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A feature table of a few rows, and the (key, moment) pairs that a spine asks for."""

    rows: list[CaseRow]
    asked: list[tuple[int | None, int | None]]


MOMENTS = [STEP * step + jitter for step in range(5) for jitter in (0, 0, 0, -1, 1)]
_KEYS_OF_ROWS = [0, 0, 0, 0, 0, 1, 1, None]
_KEYS_OF_SPINES = [0, 0, 0, 0, 0, 1, 1, 2, None]
_MOMENTS_OR_NULL = [*MOMENTS * 2, None, None, None]
_VALUES = [[None, *FEATURES[name].values] for name in NAMES_IN_ORDER]


_ROW = [_KEYS_OF_ROWS, _MOMENTS_OR_NULL, _MOMENTS_OR_NULL, *_VALUES]
_ASKED = [_KEYS_OF_SPINES, _MOMENTS_OR_NULL]
_MOST_ROWS, _MOST_ASKED = 6, 5
_CHOICES = [
    *([range(1, _MOST_ROWS + 1), range(len(NAMES_IN_ORDER)), [False, True], range(1, _MOST_ASKED + 1)]),
    *(_ROW * _MOST_ROWS),
    *(_ASKED * _MOST_ASKED),
]


def _case(drawn: bytes) -> Case:
    """A case from one string of bytes, a byte a choice: drawing each choice by itself would take minutes.

    Rows agree in their features up to some name, so that ties are decided by each feature in turn; in every other
    case they also crowd on two moments, so that there are ties.
    """
    picked = iter([choice[byte % len(choice)] for choice, byte in zip(_CHOICES, drawn, strict=True)])
    row_count, same, crowded, asked_count = (next(picked) for _ in range(4))
    drawn_rows = [[next(picked) for _ in _ROW] for _ in range(_MOST_ROWS)]
    asked = [(next(picked), next(picked)) for _ in range(_MOST_ASKED)]
    rows = []
    for place, row in enumerate(drawn_rows[:row_count]):
        key, event, created = (drawn_rows[place % 2] if crowded else row)[:3]
        values = [*drawn_rows[0][3 : 3 + same], *row[3 + same :]]
        rows.append(CaseRow(key, event, created, dict(zip(NAMES_IN_ORDER, values, strict=True))))
    return Case(rows, asked[:asked_count])


cases = st.binary(min_size=len(_CHOICES), max_size=len(_CHOICES)).map(_case)


def draw_cases(count: int) -> list[Case]:
    """The same cases on every run."""
    drawn: list[Case] = []

    @settings(
        max_examples=count, derandomize=True, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


def grid_start() -> int:
    """The first step of a grid in whose middle the present stands, in microseconds since 1970."""
    now = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0)
    return microseconds(now) - STEPS_PASSED * STEP + STEP // 2


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def shown(values: pa.ChunkedArray | pa.Array | list[Any]) -> list[str]:
    """Values as texts that are equal exactly where the values are equal to the bit: NaN, -0.0 and NULL stay apart."""
    values = values if isinstance(values, list) else values.to_pylist()
    return [repr(value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value) for value in values]
