"""What windows add up is exact: the same bytes for the same values, whatever their order, the shape of the SQL, or other entities."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from materializer.project.relation import Column, Relation
from materializer.project.render import MacroRenderer

WINDOWS = ["1 hour", "2 days"]
FORMS = [(shape, known) for shape in ("dense", "range") for known in (False, True)]
LARGEST = Fraction(1.7976931348623157e308)
SMALLEST = Fraction(5e-324)


def columns_of(connection: duckdb.DuckDBPyConnection) -> Callable[[Relation], list[Column]]:
    return lambda relation: [
        Column(row[0], row[1]) for row in connection.execute(f"describe select * from {relation}").fetchall()
    ]


def render(connection: duckdb.DuckDBPyConnection, macro: str, *arguments: Any, **named: Any) -> str:
    """The SQL that the macro compiles to, without dbt (test_same_sql.py holds that it is the same)."""
    manifest = {"metadata": {"adapter_type": "duckdb"}, "nodes": {}, "macros": {}}
    return MacroRenderer(manifest, columns_of(connection)).render(macro, *arguments, **named)


def as_of(connection: duckdb.DuckDBPyConnection, functions: list[str], shape: str, known: bool) -> list[tuple]:
    """(k, moment, each function over `v` for each window) for each row of `spine`."""
    sql = render(
        connection, "aggregate_as_of", Relation("spine"), Relation("events"), "k", "happened_at",
        [{"name": name, "function": name, "expression": "v"} for name in functions], WINDOWS,
        shape=shape, created_timestamp="loaded_at" if known else None,
    )  # fmt: skip
    return sorted(connection.execute(sql).fetchall(), key=lambda row: row[0])


def connect(values: dict[int, list[Any]], data_type: str, order: str = "random()") -> duckdb.DuckDBPyConnection:
    """Events of each key within nine seconds, many at one instant, and a spine row a minute later."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    rows = [(key, value) for key, found in values.items() for value in found]
    texts = [None if value is None else repr(value) if isinstance(value, float) else str(value) for _, value in rows]
    connection.register("given", pa.table({"k": [key for key, _ in rows], "v": pa.array(texts, pa.string())}))
    connection.execute(
        f"create table events as select k, timestamp '2024-01-01' + to_seconds(hash(k, v) % 5) as happened_at,"
        f" timestamp '2024-01-01' + to_seconds(hash(v, k) % 9) as loaded_at, cast(v as {data_type}) as v from given order by {order}"
    )
    connection.execute(
        "create table spine as select distinct k, timestamp '2024-01-01 00:01' as event_timestamp from events"
    )
    return connection


CHANCE = random.Random(11)
DOUBLES: dict[str, Callable[[], float]] = {
    "between 0 and 1": CHANCE.random,
    "prices": lambda: round(CHANCE.random() * 1000, 2),
    "one price": lambda: 0.1,
    "seconds since 1970": lambda: 1.7e9 + CHANCE.random(),
    "microseconds since 1970": lambda: 1.7e15 + CHANCE.randrange(10),
    "close beside each other": lambda: 1e6 + CHANCE.gauss(0, 1e-6),
    "nanos": lambda: CHANCE.gauss(1e-9, 1e-9),
    "huge": lambda: CHANCE.choice([1e308, -1e308, 1.7e308, 1e200, -1e200]),
    "one huge": lambda: 1e300,
    "subnormal": lambda: CHANCE.choice([5e-324, 1e-320, -1e-310, 2e-308]),
    "all magnitudes": lambda: CHANCE.choice([1, -1]) * 10.0 ** CHANCE.uniform(-300, 300),
    "many magnitudes": lambda: CHANCE.choice([1, -1]) * 10.0 ** CHANCE.uniform(-10, 20),
    "zeros and others": lambda: CHANCE.choice([0.0, 0.0, 1e-300, 1.0]),
    "about the greatest unit": lambda: 2.0**29 + CHANCE.randrange(-3, 3),
    "about the least": lambda: CHANCE.choice([-1, 1]) * (2.0**-20 + CHANCE.randrange(-3, 3) * 2.0**-60),
    "about the cut": lambda: 2.0**-20 * (CHANCE.randrange(-3, 4) + CHANCE.choice([-1, 1]) * 2.0**-19),
    "about a border of ranges": lambda: 2.0**75 * (1 + CHANCE.randrange(-3, 3) * 2.0**-50),
    "endless": lambda: CHANCE.choice([math.nan, math.inf, -math.inf, 1.0, 1e300]),
    "one endless": lambda: CHANCE.choice([math.inf, 1.0, 1e300, 2.0]),
}


def exact(values: list[float]) -> tuple[Any, Any, Any]:
    """Sum, average and variance: fractions, or doubles where these are not finite."""
    endless = {value for value in values if not math.isfinite(value)}
    if endless:
        total = endless.pop() if len(endless) == 1 and not any(map(math.isnan, endless)) else math.nan
        return total, total, None if len(values) < 2 else math.nan
    total = sum(map(Fraction, values))
    mean = total / len(values)
    return total, mean, sum((Fraction(v) - mean) ** 2 for v in values) / (len(values) - 1) if len(values) > 1 else None


def close(got: float | None, wanted: Any, slack: Fraction) -> bool:
    if got is None or wanted is None or (isinstance(wanted, float) and not math.isnan(wanted)):
        return got == wanted
    if isinstance(wanted, float) or math.isnan(got):
        return isinstance(wanted, float) and math.isnan(got)
    if math.isinf(got):
        return abs(wanted) > LARGEST
    return abs(Fraction(got) - wanted) <= max(slack, 2 * SMALLEST)


def test_sums_and_spreads_of_doubles_are_those_of_fractions_at_any_magnitude() -> None:
    values, kinds = {}, {}
    for kind, draw in DOUBLES.items():
        for _ in range(30):
            kinds[len(values)] = kind
            values[len(values)] = [draw() for _ in range(CHANCE.choice([1, 2, 2, 3, 5, 20]))]
    answers = set()
    for order in ("random()", "v desc", "hash(v)"):
        connection = connect(values, "double", order)
        for shape, known in FORMS:
            connection.execute(f"set threads = {CHANCE.choice([1, 2])}")
            rows = as_of(connection, ["sum", "avg", "stddev", "variance"], shape, known)
            answers.add(repr(rows))
    assert len(answers) == 1, "the order of the rows or the shape of the SQL shows in the answer"
    assert len(rows) == len(values) == 30 * len(DOUBLES)
    for key, _, *row in rows:
        total, mean, variance = exact(values[key])
        size = sum((Fraction(abs(v)) for v in values[key] if math.isfinite(v)), Fraction(0))
        for window in range(len(WINDOWS)):
            got = dict(zip(("sum", "avg", "stddev", "variance"), row[window::2], strict=True))
            where = f"{kinds[key]}: {got} of {values[key]}"
            assert close(got["sum"], total, size / 10**12), where
            assert close(got["avg"], mean, size / len(values[key]) / 10**12), where
            finite = variance / 10**9 if isinstance(variance, Fraction) else Fraction(0)
            assert close(got["variance"], variance, finite), where
            if not isinstance(variance, Fraction):
                assert repr(got["stddev"]) == repr(got["variance"]), where
            elif variance > LARGEST**2:
                assert got["stddev"] == math.inf, where
            else:
                allowed = max(finite, (3 * SMALLEST) ** 2, 4 * SMALLEST * Fraction(got["stddev"]))
                assert abs(Fraction(got["stddev"]) ** 2 - variance) <= allowed, where


@pytest.mark.parametrize(
    ("data_type", "values", "functions", "wanted"),
    [
        ("uhugeint", [9007199254740993], ["sum"], [9007199254740993]),
        ("uhugeint", [2**128 - 1, 2**128 - 1], ["avg"], [float(2**128 - 1)]),
        ("hugeint", [2**127 - 1, 2**127 - 1], ["avg"], [float(2**127)]),
        ("hugeint", [2**127 - 1, -(2**127) + 1, 3], ["avg", "sum"], [1.0, 3]),
        ("hugeint", [2**64, -(2**64) + 1], ["avg", "sum"], [0.5, 1]),
        ("bigint", [2**60 + 1, 2**60 + 3], ["variance"], [2.0]),
        ("ubigint", [2**64 - 1, 2**64 - 3], ["variance", "avg"], [2.0, float(2**64 - 2)]),
        ("boolean", ["true", "false", "true"], ["sum", "avg"], [2, 2 / 3]),
        ("tinyint", [1, 1, 1, 1, 0], ["stddev"], [math.sqrt(0.2)]),
        ("decimal(38, 0)", [10**37, 10**37], ["sum", "avg"], [2 * 10**37, 1e37]),
        ("decimal(38, 10)", ["1234567890123456789012345678.0000000001", "-0.0000000002"], ["sum"], ["1234567890123456789012345677.9999999999"]),
        ("decimal(18, 3)", ["100000000000000.001", "100000000000000.003"], ["variance"], [2e-6]),
        ("decimal(28, 10)", ["-123456789012345678.0000000001", "-123456789012345678.0000000003"], ["variance"], [2e-20]),
        ("float", [0.5, 0.25], ["sum", "variance"], [0.75, 0.03125]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("shape", "known"), FORMS)
def test_wide_numbers_are_added_up_exactly_and_each_entity_by_itself(
    data_type: str, values: list, functions: list[str], wanted: list, shape: str, known: bool
) -> None:
    connection = connect({key: values for key in range(3)}, data_type)
    for row in as_of(connection, functions, shape, known):
        for got, value in zip(row[2::2], wanted, strict=True):
            assert str(got) == str(value) if isinstance(value, str) else got == pytest.approx(value, rel=1e-15), row


@pytest.mark.parametrize(
    "values", [[0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0], [0.0, 0.0, -0.0], [-0.0, 5.0], [-5.0, 0.0, -0.0]]
)
@pytest.mark.parametrize(("shape", "known"), FORMS)
def test_the_positive_zero_is_the_greater(values: list[float], shape: str, known: bool) -> None:
    connection = connect({1: values}, "double")
    connection.execute("update events set happened_at = timestamp '2024-01-01'")
    (row,) = as_of(connection, ["min", "max", "first", "last"], shape, known)

    def rank(value: float) -> tuple:
        return value, math.copysign(1, value)

    least, greatest = min(values, key=rank), max(values, key=rank)
    assert [str(value) for value in row[2::2]] == [str(least), *[str(greatest)] * 3]


@pytest.mark.parametrize(
    ("data_type", "values", "greatest"),
    [
        ("varchar", ["Z", "a", "é", "z"], "é"),
        ("integer[]", ["[1, NULL]", "[1, 2]", "[1]"], [1, 2]),
        ("boolean", ["false", "true"], True),
        ("struct(a integer)", ["{'a': 1}", "{'a': 3}"], {"a": 3}),
    ],
)
@pytest.mark.parametrize(("shape", "known"), FORMS)
def test_of_events_at_one_instant_first_and_last_take_the_greatest_value(
    data_type: str, values: list, greatest: Any, shape: str, known: bool
) -> None:
    connection = connect({1: values}, data_type)
    connection.execute("update events set happened_at = timestamp '2024-01-01'")
    (row,) = as_of(connection, ["first", "last"], shape, known)
    assert list(row[2::2]) == [greatest, greatest]


@pytest.mark.parametrize("shape", ["dense", "range"])
def test_steps_go_on_until_all_windows_are_empty_where_an_old_event_is_loaded_late(shape: str) -> None:
    connection = duckdb.connect()
    connection.execute(
        "create table events as select 1 as k, timestamp '2024-03-03' as happened_at, timestamp '2024-03-03' as loaded_at"
        " union all select 1, timestamp '2024-02-08', timestamp '2024-03-08'"
    )
    sql = render(
        connection, "window_aggregates", Relation("events"), "k", "happened_at", [{"name": "n", "function": "count"}],
        "30 days", grain="every: 1 week", created_timestamp="loaded_at", shape=shape,
    )  # fmt: skip
    rows = connection.execute(f"select cast(event_timestamp as date)::text, n_30d from ({sql}) order by 1").fetchall()
    assert rows == [
        ("2024-03-04", 1),
        ("2024-03-11", 1),
        ("2024-03-18", 1),
        ("2024-03-25", 1),
        ("2024-04-01", 1),
        ("2024-04-08", 0),
    ]


@pytest.mark.parametrize(("shape", "known"), FORMS)
def test_the_sql_can_be_read(shape: str, known: bool) -> None:
    connection = connect({1: [1.0]}, "double")
    aggregates = [
        {"name": "spent", "function": "sum", "expression": "v"},
        {"name": "purchases", "function": "count"},
        {"name": "last_spent", "function": "last", "expression": "v"},
    ]
    sql = render(
        connection, "window_aggregates", Relation("events"), "k", "happened_at", aggregates,
        ["1 day", "7 days", "30 days"], created_timestamp="loaded_at" if known else None, shape=shape,
    )  # fmt: skip
    assert max(map(len, sql.splitlines())) <= 140
    steps = re.findall(r"(?m)^(.*)\n(\w+) as (?:materialized )?\($", sql)
    assert len(steps) > 9
    assert [name for above, name in steps if not above.startswith("-- ")] == []
    assert "_fs_high_high" not in sql  # the squares of a spread
