"""The window macros against an oracle in plain Python, for many random little tables.

Every case is one entity history (two keys, one of them `case_id`), drawn by hypothesis. All cases stand in one table of events
and one spine, so that one query answers them all; then each answer is compared with what the words say. The queries are those
that dbt compiles (`tests/test_same_sql.py`).
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from materializer.project.relation import Relation
from tests.support.rendered import Views

CASES = 300
MANY = pytest.param(1200, marks=pytest.mark.soak)
START = datetime(2024, 2, 28, 23, 59, 50, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
STEP = timedelta(seconds=3)
WINDOWS = {"5s": timedelta(seconds=5), "12s": timedelta(seconds=12), "1m": timedelta(minutes=1)}

# name: (function, value of an event, takes part?)
AGGREGATES = {
    "n": ("count", lambda e: 1, lambda e: True),
    "n_i": ("count", lambda e: e["i"], lambda e: True),
    "n_big": ("count", lambda e: 1, lambda e: e["i"] is not None and e["i"] > 1),
    "kinds": ("count_distinct", lambda e: e["s"], lambda e: True),
    "kinds_pos": ("count_distinct", lambda e: e["i"], lambda e: e["i"] is not None and e["i"] > 0),
    "sum_i": ("sum", lambda e: e["i"], lambda e: True),
    "sum_c": ("sum", lambda e: e["c"], lambda e: True),
    "sum_d": ("sum", lambda e: e["d"], lambda e: True),
    "sum_a": ("sum", lambda e: e["d"], lambda e: e["s"] == "a"),
    "avg_i": ("avg", lambda e: e["i"], lambda e: True),
    "avg_d": ("avg", lambda e: e["d"], lambda e: True),
    "min_i": ("min", lambda e: e["i"], lambda e: True),
    "max_d": ("max", lambda e: e["d"], lambda e: True),
    "max_s": ("max", lambda e: e["s"], lambda e: True),
    "sd": ("stddev", lambda e: e["d"], lambda e: True),
    "var": ("variance", lambda e: e["i"], lambda e: True),
    "first_i": ("first", lambda e: e["i"], lambda e: True),
    "last_d": ("last", lambda e: e["d"], lambda e: True),
    "last_s": ("last", lambda e: e["s"], lambda e: e["i"] is not None and e["i"] > 0),
}
WRITTEN = [
    {"name": "n", "function": "count"},
    {"name": "n_i", "function": "count", "expression": "i"},
    {"name": "n_big", "function": "count", "where": "i > 1"},
    {"name": "kinds", "function": "count_distinct", "expression": "s"},
    {"name": "kinds_pos", "function": "count_distinct", "expression": "i", "where": "i > 0"},
    {"name": "sum_i", "function": "sum", "expression": "i"},
    {"name": "sum_c", "function": "sum", "expression": "c"},
    {"name": "sum_d", "function": "sum", "expression": "d"},
    {"name": "sum_a", "function": "sum", "expression": "d", "where": "s = 'a' or s = 'a'"},
    {"name": "avg_i", "function": "avg", "expression": "i"},
    {"name": "avg_d", "function": "avg", "expression": "d"},
    {"name": "min_i", "function": "min", "expression": "i"},
    {"name": "max_d", "function": "max", "expression": "d"},
    {"name": "max_s", "function": "max", "expression": "s"},
    {"name": "sd", "function": "stddev", "expression": "d"},
    {"name": "var", "function": "variance", "expression": "i"},
    {"name": "first_i", "function": "first", "expression": "i"},
    {"name": "last_d", "function": "last", "expression": "d"},
    {"name": "last_s", "function": "last", "expression": "s", "where": "i > 0"},
]
COLUMNS = [f"{name}_{slug}" for name in AGGREGATES for slug in WINDOWS]

# --- cases ------------------------------------------------------------------------------------------------------------

seconds = st.integers(0, 30)
jitter = st.sampled_from([0, 0, 0, -1, 1])  # one microsecond beside a border
moments = st.builds(lambda s, us: START + timedelta(seconds=s, microseconds=us), seconds, jitter)
doubles = st.sampled_from(
    [None, 0.0, 0.1, 0.1, 0.2, -0.37, 3.5, 1e9, 1e15, -1e15, 1e-12, math.nan, math.inf, -math.inf, 12345.678]
)
events = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["x", "x", "x", "y", None]),
        "at": st.one_of(moments, moments, moments, moments, st.none()),
        "delay": st.sampled_from([0, 0, 1, 3, 4.999999, 5, 7, 12, 60, 100_000, -2, None]),
        "i": st.sampled_from([None, 0, 1, 1, 2, -3, 2**53 + 1, -(2**60)]),
        "c": st.sampled_from([None, Decimal("0.10"), Decimal("-99999999.99"), Decimal("7.01")]),
        "d": doubles,
        "s": st.sampled_from([None, "", "a", "a", "b", "é"]),
    }
)
spine_rows = st.fixed_dictionaries(
    {"key": st.sampled_from(["x", "x", "y", "unknown", None]), "at": st.one_of(moments, moments, moments, st.none())}
)
cases = st.fixed_dictionaries({"events": st.lists(events, max_size=9), "spine": st.lists(spine_rows, max_size=6)})


def draw_cases(count: int) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def collect(case: dict[str, Any]) -> None:
        for event in case["events"]:
            late = event["at"] is not None and event["delay"] is not None
            event["loaded"] = event["at"] + timedelta(seconds=event["delay"]) if late else None
        drawn.append(case)

    collect()
    return drawn


# --- the oracle -------------------------------------------------------------------------------------------------------


def order(value: Any) -> tuple:
    """NULL lowest, NaN highest."""
    if value is None:
        return (0,)
    if isinstance(value, float) and math.isnan(value):
        return (2,)
    return (1, value)


def aggregate(function: str, events: list[dict], value: Any, taken: Any) -> Any:
    events = [e for e in events if taken(e)]
    if function in ("first", "last"):
        if not events:
            return None
        instant = (min if function == "first" else max)(e["at"] for e in events)
        return max((value(e) for e in events if e["at"] == instant), key=order)
    values = [v for v in map(value, events) if v is not None]
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len(set(values))
    if not values:
        return None
    if function == "min":
        return min(values, key=order)
    if function == "max":
        return max(values, key=order)
    if function in ("stddev", "variance") and len(values) < 2:
        return None
    if any(isinstance(v, float) and not math.isfinite(v) for v in values):
        infinite = {v for v in values if not math.isfinite(v)}
        whole = len(infinite) == 1 and function in ("sum", "avg") and not math.isnan(*infinite)
        return infinite.pop() if whole else math.nan
    total = sum(map(Fraction, values))
    if function == "sum":
        return total
    mean = total / len(values)
    if function == "avg":
        return mean
    variance = sum((Fraction(v) - mean) ** 2 for v in values) / (len(values) - 1)
    return math.sqrt(variance) if function == "stddev" else variance


class History:
    """One entity of a case: what its windows are at any moment."""

    def __init__(self, case: dict, key: str | None, knowledge: bool) -> None:
        self.events = []
        for event in case["events"]:
            known = not knowledge or event["loaded"] is not None
            if event["key"] == key and key is not None and event["at"] is not None and known:
                comes = max(event["at"], event["loaded"]) if knowledge else event["at"]
                self.events.append({**event, "comes": comes})
        self.memory: dict = {}

    def inside(self, moment: datetime, window: timedelta, strictly_before: bool = False) -> list[dict]:
        return [
            e
            for e in self.events
            if moment - window < e["at"] and (e["comes"] < moment if strictly_before else e["comes"] <= moment)
        ]

    def at(self, moment: datetime | None, strictly_before: bool = False) -> list[Any]:
        answer = []
        for function, value, taken in AGGREGATES.values():
            for window in WINDOWS.values():
                events = [] if moment is None else self.inside(moment, window, strictly_before)
                place = (function, id(value), id(taken), tuple(map(id, events)))
                if place not in self.memory:
                    numbers = [abs(v) for v in map(value, events) if isinstance(v, (int, float))]
                    size = [v for v in numbers if math.isfinite(v)]
                    self.memory[place] = (aggregate(function, events, value, taken), sum(size))
                answer.append(self.memory[place])
        return answer

    def moments(self, grain: str) -> set[datetime]:
        if grain == "event":
            return {e["comes"] for e in self.events}
        if grain == "change":
            found = set()
            for e in self.events:
                for window in WINDOWS.values():
                    if e["comes"] < e["at"] + window:
                        found |= {e["comes"], e["at"] + window}
            return found
        found = set()
        for e in self.events:
            leaves = e["at"] + max(WINDOWS.values())
            if e["comes"] < leaves:
                step = next_step(e["comes"])
                while step < leaves + STEP:
                    found.add(step)
                    step += STEP
        return found


def next_step(moment: datetime) -> datetime:
    monday = datetime(1970, 1, 5, tzinfo=timezone.utc)
    return monday + -((monday - moment) // STEP) * STEP


def same(got: Any, wanted: Any, size: float, column: str) -> bool:
    if wanted is None or got is None:
        return wanted is None and got is None
    if isinstance(wanted, float) and math.isnan(wanted):
        return isinstance(got, float) and math.isnan(got)
    if isinstance(wanted, float) and math.isinf(wanted):
        return got == wanted
    name = column.rsplit("_", 1)[0]
    if name in ("sum_d", "sum_a", "avg_d", "avg_i"):
        return abs(Fraction(got) - Fraction(wanted)) <= Fraction(size) / 10**9
    if name in ("sd", "var"):
        slack = Fraction(wanted) / 10**9 + Fraction(size) ** (1 if name == "sd" else 2) / 10**12
        return abs(Fraction(got) - Fraction(wanted)) <= slack
    return got == wanted


# --- the warehouse ----------------------------------------------------------------------------------------------------

GRAINS = {"change": "change", "event": "event", "every": "every: '3 seconds'"}
VIEWS = [(grain, knowledge, shape) for grain in GRAINS for knowledge in (False, True) for shape in ("dense", "range")]
SPINES = [
    (exact, knowledge, shape) for exact in (True, False) for knowledge in (False, True) for shape in ("dense", "range")
]


def view_name(grain: str, knowledge: bool, shape: str) -> str:
    return f"{grain}_{'known' if knowledge else 'plain'}_{shape}"


def spine_name(exact: bool, knowledge: bool, shape: str) -> str:
    return f"spine_{'upto' if exact else 'before'}_{'known' if knowledge else 'plain'}_{shape}"


@pytest.fixture(scope="module", params=[CASES, MANY])
def world(request: pytest.FixtureRequest) -> tuple[list[dict], duckdb.DuckDBPyConnection]:
    drawn = draw_cases(request.param)
    moment = pa.timestamp("us", tz="UTC")
    event_table = pa.table(
        {
            "case_id": pa.array([n for n, c in enumerate(drawn) for _ in c["events"]], pa.int64()),
            **{
                name: pa.array([e[name] for c in drawn for e in c["events"]], kind)
                for name, kind in {
                    "key": pa.string(),
                    "at": moment,
                    "loaded": moment,
                    "i": pa.int64(),
                    "c": pa.decimal128(12, 2),
                    "d": pa.float64(),
                    "s": pa.string(),
                }.items()
            },
        }
    )
    spine = [(n, row) for n, case in enumerate(drawn) for row in case["spine"]]
    spine_table = pa.table(
        {
            "label": pa.array(range(len(spine)), pa.int64()),
            "case_id": pa.array([n for n, _ in spine], pa.int64()),
            "key": pa.array([row["key"] for _, row in spine], pa.string()),
            # naive, where the events carry a zone: both are UTC
            "asked_at": pa.array(
                [row["at"] and row["at"].replace(tzinfo=None) for _, row in spine], pa.timestamp("us")
            ),
        }
    )
    views = Views()
    connection = views.connection
    connection.register("event_table", event_table)
    connection.register("spine_table", spine_table)
    connection.execute("create schema raw")
    connection.execute("create table raw.events as select * from event_table")
    connection.execute("create table raw.labels as select * from spine_table")
    given = (Relation("raw.events"), ["case_id", "key"], "at", WRITTEN, ["5 seconds", "12 seconds", "1 minute"])
    for grain, knowledge, shape in VIEWS:
        options = {"grain": GRAINS[grain], "created_timestamp": "loaded" if knowledge else None, "shape": shape}
        sql = views.sql("window_aggregates", *given, **options)
        connection.execute(f"create table {view_name(grain, knowledge, shape)} as {sql}")
    for exact, knowledge, shape in SPINES:
        options = {"allow_exact_matches": exact, "created_timestamp": "loaded" if knowledge else None, "shape": shape}
        sql = views.sql("aggregate_as_of", Relation("raw.labels"), *given, spine_timestamp="asked_at", **options)
        connection.execute(f"create table {spine_name(exact, knowledge, shape)} as {sql}")
    return drawn, connection


@pytest.fixture(scope="module")
def histories(world: Any) -> Any:
    """One History an entity and knowledge, so that its answers are computed once for all models."""
    drawn, _ = world
    made: dict = {}

    def history(case_id: int, key: str | None, knowledge: bool) -> History:
        if (case_id, key, knowledge) not in made:
            made[case_id, key, knowledge] = History(drawn[case_id], key, knowledge)
        return made[case_id, key, knowledge]

    return history


def read(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple]:
    return connection.execute(sql).fetchall()


def utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def check(row: tuple, wanted: list[tuple[Any, float]], where: str) -> None:
    for column, got, (value, size) in zip(COLUMNS, row, wanted, strict=True):
        assert same(got, value, size, column), f"{where}: {column} is {got!r}, not {value!r}"


@pytest.mark.parametrize(("grain", "knowledge", "shape"), VIEWS)
def test_a_view_has_exactly_the_moments_and_the_values_of_its_grain(
    world: Any, histories: Any, grain: str, knowledge: bool, shape: str
) -> None:
    drawn, connection = world
    name = view_name(grain, knowledge, shape)
    found: dict[tuple, set] = {}
    for case_id, key, moment, *row in read(connection, f"from {name}"):
        seen = found.setdefault((case_id, key), set())
        assert utc(moment) not in seen, f"case {case_id}: two rows at {moment}"
        seen.add(utc(moment))
        check(tuple(row), histories(case_id, key, knowledge).at(utc(moment)), f"{name}, case {case_id} at {moment}")
    for case_id in range(len(drawn)):
        for key in ("x", "y"):
            wanted = histories(case_id, key, knowledge).moments(grain)
            assert found.pop((case_id, key), set()) == wanted, f"{name}, case {case_id}: {drawn[case_id]}"
    assert not found, "rows of entities that have no events"


@pytest.mark.parametrize(("exact", "knowledge", "shape"), SPINES)
def test_every_spine_row_comes_back_once_in_order_with_its_true_windows(
    world: Any, histories: Any, exact: bool, knowledge: bool, shape: str
) -> None:
    _, connection = world
    name = spine_name(exact, knowledge, shape)
    rows = read(connection, f"from {name}")
    assert [row[:4] for row in rows] == read(connection, "from raw.labels")
    for label, case_id, key, moment, *row in rows:
        history = histories(case_id, key, knowledge)
        wanted = history.at(utc(moment) if moment else None, strictly_before=not exact)
        check(tuple(row), wanted, f"{name}, label {label} of case {case_id}")


def test_columns_come_in_order_with_their_stated_types(world: Any) -> None:
    _, connection = world
    described = read(connection, "describe change_plain_dense")
    assert [row[0] for row in described] == ["case_id", "key", "event_timestamp", *COLUMNS]
    types = {row[0]: row[1] for row in described}
    assert types["event_timestamp"] == "TIMESTAMP WITH TIME ZONE"
    assert types["n_5s"] == types["kinds_5s"] == types["sum_i_5s"] == "BIGINT"
    assert types["sum_c_5s"] == "DECIMAL(38,2)"
    assert types["sum_d_5s"] == types["avg_i_5s"] == types["sd_5s"] == "DOUBLE"
    for grain, knowledge, shape in VIEWS:
        assert read(connection, f"describe {view_name(grain, knowledge, shape)}") == described
    answers = described[3:]
    for exact, knowledge, shape in SPINES:
        assert read(connection, f"describe {spine_name(exact, knowledge, shape)}")[4:] == answers
