"""Statistics of features: every figure against Python's own arithmetic, in one scan, from SQL, Python and the command."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from materializer import FeatureStore, InputError, NotFoundError
from materializer.errors import DefinitionError
from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject, make_project
from tests.support.rendered import Views

QUANTILES = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
EPOCH = datetime(1970, 1, 1)
DATA = "user_id, timestamp '2024-01-01' as event_timestamp"

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.25, 1e-300, -1e-300, 1e200, -1e200, math.nan, math.inf, -math.inf]),
    st.floats(width=64, allow_nan=True, allow_infinity=True),
    st.integers(-5, 5).map(float),
)
# (type in the warehouse, type in Arrow, values)
TYPES: dict[str, tuple[str, pa.DataType, st.SearchStrategy]] = {
    "small": ("integer", pa.int32(), st.integers(-4, 4)),
    "whole": ("bigint", pa.int64(), st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(2**53, 2**53 + 3))),
    "unsigned": ("ubigint", pa.uint64(), st.integers(2**64 - 3, 2**64 - 1)),
    "huge": ("hugeint", pa.decimal128(38, 0), st.integers(-(10**37), 10**37).map(Decimal)),
    "price": ("decimal(10, 2)", pa.decimal128(10, 2), st.decimals("-99999999.99", "99999999.99", places=2)),
    "wide": ("decimal(38, 20)", pa.decimal128(38, 20), st.decimals("-999999", "999999", places=20)),
    "ratio": ("double", pa.float64(), NUMBERS),
    "single": ("float", pa.float32(), st.floats(width=32)),
    "Is Member": ("boolean", pa.bool_(), st.booleans()),
    "label": ("varchar", pa.string(), st.one_of(st.sampled_from(["", "Ünï", "a", "A", "\U0001f600", "'\"\\\n"]), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5))),
    "day": ("date", pa.date32(), st.dates()),
    "seen": ("timestamp", pa.timestamp("us"), st.datetimes(datetime(1677, 9, 22), datetime(2262, 4, 10))),
    "seen_utc": ("timestamptz", pa.timestamp("us", "UTC"), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))),
    "vector": ("double[]", pa.list_(pa.float64()), st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=3)),
    "words": ("varchar[]", pa.list_(pa.string()), st.lists(st.sampled_from(["a", "b"]), max_size=3)),
}  # fmt: skip
TABLES = st.integers(0, 7).flatmap(
    lambda size: st.fixed_dictionaries(
        {
            name: st.lists(st.one_of(st.none(), values), min_size=size, max_size=size)
            for name, (_, _, values) in TYPES.items()
        }
    )
)


@pytest.fixture(scope="module")
def views() -> Views:
    return Views()


def create(views: Views, table: dict[str, list[Any]]) -> None:
    """A view called ``drawn`` of these columns, with their types."""
    columns = {name: pa.array(table[name], TYPES[name][1]) for name in TYPES}
    size = len(next(iter(table.values())))
    views.connection.register("drawn_rows", pa.table({"user_id": pa.array(range(size), pa.int64()), **columns}))
    casts = ", ".join(f'cast("{name}" as {TYPES[name][0]}) as "{name}"' for name in TYPES)
    views.create("drawn", f"select {DATA}, {casts} from drawn_rows")
    views.connection.unregister("drawn_rows")


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(TABLES)
@example({name: [] for name in TYPES})
@example({name: [None, None] for name in TYPES})
def test_every_figure_is_what_python_counts(views: Views, table: dict[str, list[Any]]) -> None:
    create(views, table)
    found = {row["feature"]: row for row in views.rows("feature_statistics", "drawn")}
    assert list(found) == list(TYPES)
    for name, values in table.items():
        check(found[name], values)


def check(row: dict[str, Any], values: list[Any]) -> None:
    """Compare the figures of one feature with the same of a list of Python values."""
    kind, there = row["kind"], [value for value in values if value is not None]
    assert row["row_count"] == len(values)
    assert row["null_count"] == len(values) - len(there)
    assert row["null_fraction"] == (pytest.approx(row["null_count"] / len(values)) if values else None)
    if kind == "list":
        check_norms(row, there)
        assert row["distinct_count"] is None and row["top_values"] is None
    else:
        measured = [value for value in there if isinstance(value, float)]
        assert row["nan_count"] == sum(math.isnan(value) for value in measured)
        assert row["infinite_count"] == sum(math.isinf(value) for value in measured)
        assert row["distinct_count"] == len({"nan" if value != value else value for value in there})
        assert row["mean_norm"] is None
    there = [value for value in there if not isinstance(value, float) or math.isfinite(value)]
    check_extremes(row, there)
    if kind != "list":
        check_tops(row, there)
    check_numbers(row, [number_of(value) for value in there if not isinstance(value, str)])


def number_of(value: Any) -> Fraction:
    """The number that a value counts as, exactly."""
    if isinstance(value, datetime):
        return Fraction((value.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1), 10**6)
    if isinstance(value, date):
        return Fraction((value - EPOCH.date()).days * 86400)
    return Fraction(len(value)) if isinstance(value, list) else Fraction(value)


def check_norms(row: dict[str, Any], lists: list[list[Any]]) -> None:
    norms = [math.sqrt(sum(item * item for item in one if item is not None)) for one in lists if isinstance(one, list)
             and any(isinstance(item, float) for item in one)]  # fmt: skip
    assert (row["mean_norm"] is None) == (not norms)
    if norms:
        assert row["mean_norm"] == pytest.approx(statistics.fmean(norms), rel=1e-6)


def check_extremes(row: dict[str, Any], there: list[Any]) -> None:
    """Minimum and maximum are texts that say the value exactly."""
    if not there:
        assert row["minimum"] is None and row["maximum"] is None
        return
    ordered = sorted(there, key=lambda value: value.encode() if isinstance(value, str) else number_of(value))
    for text, value in ((row["minimum"], ordered[0]), (row["maximum"], ordered[-1])):
        assert typed(text, value, row["data_type"]) == (len(value) if isinstance(value, list) else value), (text, value)
    if row["kind"] == "decimal":
        assert Decimal(row["minimum"]).as_tuple().exponent == ordered[0].as_tuple().exponent


def typed(text: str, like: Any, data_type: str) -> Any:
    """A value of the macro's text, of the Python type of another."""
    if isinstance(like, bool):
        return {"true": True, "false": False}[text]
    if isinstance(like, datetime):
        return datetime.fromisoformat(text).replace(tzinfo=like.tzinfo)
    if isinstance(like, date):
        return date.fromisoformat(text)
    if data_type == "FLOAT":
        return float(np.float32(text))
    return int(text) if isinstance(like, list) else type(like)(text)


def check_tops(row: dict[str, Any], there: list[Any]) -> None:
    counts = Counter(there)
    order = sorted(counts, key=lambda v: (-counts[v], v.encode() if isinstance(v, str) else number_of(v)))[:10]
    tops = json.loads(row["top_values"]) if row["top_values"] else []
    assert [typed(top["value"], value, row["data_type"]) for top, value in zip(tops, order, strict=True)] == order
    assert [top["count"] for top in tops] == [counts[value] for value in order]


def check_numbers(row: dict[str, Any], exact: list[Fraction]) -> None:
    """Mean, deviation, quantiles and histogram, as close as doubles of this size can be."""
    if not exact:
        assert {row[name] for name in ("mean", "stddev", "histogram", "core", *QUANTILES)} == {None}
        return
    numbers = [float(number) for number in exact]
    largest = max(map(abs, numbers))
    close = {"rel": 1e-14, "abs": 1e-15 * largest}
    if sum(map(abs, exact)) < 1.7e308:
        assert row["mean"] == pytest.approx(float(sum(exact) / len(exact)), **close)
    spread = max(numbers) - min(numbers)
    if len(exact) < 2:
        assert row["stddev"] is None
    elif spread < 1.7e308 and row["mean"] is not None:
        assert row["stddev"] == pytest.approx(deviation(exact), rel=1e-9, abs=1e-15 * largest)
    for name, share in QUANTILES.items():
        # halved, numpy does not overflow between the two ends of what doubles can say
        expected = float(np.quantile(np.array(numbers) / 2, share)) * 2
        assert row[name] == pytest.approx(expected, rel=1e-12, abs=1e-12 * largest), name
    if math.isfinite(spread):
        check_histogram(json.loads(row["histogram"]), numbers)
        check_core(json.loads(row["core"]), row, numbers)
    else:
        assert row["histogram"] is row["core"] is None


def deviation(exact: list[Fraction]) -> float:
    mean = sum(exact) / len(exact)
    variance = sum((number - mean) ** 2 for number in exact) / (len(exact) - 1)
    scale = max(abs(number - mean) for number in exact) or 1
    return float(scale) * math.sqrt(variance / scale**2)


def check_histogram(buckets: list[dict[str, Any]], numbers: list[float]) -> None:
    assert sum(bucket["count"] for bucket in buckets) == len(numbers)
    ends = (buckets[0]["from"], buckets[-1]["to"])
    assert ends == pytest.approx((min(numbers), max(numbers)), rel=1e-15)
    if ends[0] == ends[1]:
        assert len(buckets) == 1
        return
    assert len(buckets) == 10
    width, so_far = max(numbers) - min(numbers), 0
    for number, bucket in enumerate(buckets[:-1], start=1):
        edge = min(numbers) + width * (number / 10)
        assert bucket["to"] == buckets[number]["from"] == pytest.approx(edge, rel=1e-12, abs=1e-12 * width)
        so_far += bucket["count"]
        # a value that rounding puts on the edge may be counted on either side
        slack = 1e-9 * width + 1e-12 * abs(edge)
        assert sum(n < edge - slack for n in numbers) <= so_far <= sum(n < edge + slack for n in numbers)


def check_core(core: dict[str, Any], row: dict[str, Any], numbers: list[float]) -> None:
    assert (core["from"], core["to"]) == (row["p01"], row["p99"])
    assert core["below"] + core["above"] + sum(core["counts"]) == len(numbers)
    width, so_far = core["to"] - core["from"], core["below"]
    assert len(core["counts"]) == (1 if width == 0 else 24)
    for number, count in enumerate([0, *core["counts"][:-1]]):
        edge, so_far = core["from"] + width * (number / 24), so_far + count
        slack = 1e-9 * width + 1e-12 * abs(edge)
        assert sum(n < edge - slack for n in numbers) <= so_far <= sum(n < edge + slack for n in numbers)


def test_a_larger_table_agrees_with_numpy_in_every_bucket(views: Views) -> None:
    values = np.random.default_rng(3).normal(50, 12, 20_000).tolist() + [math.nan] * 30 + [math.inf] * 5
    views.connection.register("normal_rows", pa.table({"user_id": range(len(values)), "x": values}))
    views.create("normal", f"select {DATA}, x from normal_rows")
    (row,) = views.rows("feature_statistics", "normal", buckets=16)
    finite = np.array(values[:20_000])
    counts, edges = np.histogram(finite, bins=16)
    buckets = json.loads(row["histogram"])
    assert [bucket["count"] for bucket in buckets] == counts.tolist()
    assert [bucket["from"] for bucket in buckets] == pytest.approx(edges[:-1].tolist())
    core = json.loads(row["core"])
    counts, _ = np.histogram(finite, bins=24, range=(core["from"], core["to"]))
    assert core["counts"] == counts.tolist() and (core["below"], core["above"]) == (200, 200)
    assert row["mean"] == pytest.approx(finite.mean()) and row["stddev"] == pytest.approx(finite.std(ddof=1))
    assert [row[name] for name in QUANTILES] == pytest.approx(np.quantile(finite, list(QUANTILES.values())).tolist())
    assert (row["nan_count"], row["infinite_count"], row["row_count"]) == (30, 5, 20_035)


def test_numbers_close_together_and_far_from_zero_keep_their_deviation(views: Views) -> None:
    views.create(
        "far",
        f"select {DATA}, 9007199254740993 + user_id as big, timestamptz '2024-01-01 00:00:00+00' + user_id * interval 1 second as t"
        " from range(100000) as rows(user_id)",
    )
    expected = statistics.stdev(range(100_000))
    for row in views.rows("feature_statistics", "far"):
        first = 9007199254740993 if row["feature"] == "big" else 1704067200
        assert row["mean"] == pytest.approx(first + 49_999.5, rel=0, abs=1.5)
        assert row["stddev"] == pytest.approx(expected, rel=1e-8)


def test_zero_has_one_sign(views: Views) -> None:
    views.create("zeros", f"select {DATA}, x from (values (1, '-0.0'::double), (2, '0.0')) as rows(user_id, x)")
    (row,) = views.rows("feature_statistics", "zeros")
    assert (row["distinct_count"], row["minimum"], row["maximum"]) == (1, "0.0", "0.0")
    assert json.loads(row["top_values"]) == [{"value": "0.0", "count": 2}]


def test_times_without_end_are_counted_apart(views: Views) -> None:
    views.create(
        "endless",
        f"select {DATA}, d, t, z from (values (1, date '2024-01-01', timestamp '2024-01-01', timestamptz '2024-01-01 00:00:00+00'),"
        " (2, 'infinity', '-infinity', 'infinity'), (3, null, null, null)) as rows(user_id, d, t, z)",
    )
    for row in views.rows("feature_statistics", "endless"):
        assert (row["null_count"], row["infinite_count"], row["distinct_count"]) == (1, 1, 2), row["feature"]
        assert row["maximum"].startswith("2024-01-01") and row["mean"] == 1704067200.0


def test_a_vector_with_a_hole_shows_in_the_counts_of_its_norm(views: Views) -> None:
    views.create(
        "vectors",
        f"""select {DATA}, v::float[2] as v from (values
            (1, [3.0, 4.0]), (2, [0.0, 'nan'::float]), (3, ['inf'::float, 0.0]), (4, [6.0, null]), (5, null), (6, [6.0, 8.0])
        ) as rows(user_id, v)""",
    )
    (row,) = views.rows("feature_statistics", "vectors")
    assert (row["kind"], row["null_count"], row["nan_count"], row["infinite_count"]) == ("list", 1, 1, 1)
    assert (row["minimum"], row["maximum"], row["mean"], row["mean_norm"]) == ("2", "2", 2.0, 7.0)


def test_what_is_neither_number_nor_text_is_counted_only(views: Views) -> None:
    views.create(
        "others",
        f"""select {DATA}, s, j, b, m from (values
            (1, {{'a': 1}}, '{{"x": 1}}'::json, 'ab'::blob, map {{'k': 1}}), (2, {{'a': 1}}, null, 'ac'::blob, map {{'k': 2}}),
            (3, {{'a': null}}, '{{"x": 2}}'::json, 'ab'::blob, null)
        ) as rows(user_id, s, j, b, m)""",
    )
    found = {row["feature"]: row for row in views.rows("feature_statistics", "others")}
    assert {name: (row["kind"], row["null_count"], row["distinct_count"]) for name, row in found.items()} == {
        "s": ("other", 0, 2), "j": ("other", 1, 2), "b": ("other", 0, 2), "m": ("other", 1, 2),
    }  # fmt: skip
    assert {row["minimum"] for row in found.values()} == {None} == {row["top_values"] for row in found.values()}


def test_texts_are_cut_but_told_apart(views: Views) -> None:
    views.create("long_texts", f"select {DATA}, repeat('x', 300) || user_id as t from range(3) as rows(user_id)")
    (row,) = views.rows("feature_statistics", "long_texts", top=2)
    assert row["distinct_count"] == 3 and row["minimum"] == "x" * 200
    assert json.loads(row["top_values"]) == [{"value": "x" * 200, "count": 1}] * 2


def test_only_rows_that_can_be_seen_now_and_lie_in_the_period_count(views: Views) -> None:
    views.create(
        "known",
        """select * from (values
            (1, timestamp '2024-01-01 00:00:00', timestamptz '2024-01-01 00:00:00+00', 1),
            (2, timestamp '2024-01-01 23:59:59.999999', timestamptz '2024-01-02 00:00:00+00', 2),
            (3, timestamp '2024-01-02 00:00:00', timestamptz '2024-01-02 00:00:00+00', 4),
            (4, timestamp '2024-01-01 12:00:00', null, 8),
            (5, timestamp '2024-01-01 12:00:00', now() + interval 1 hour, 16),
            (6, now()::timestamp - interval 1 hour, now(), 32),
            (7, now()::timestamp + interval 1 hour, now(), 64),
            (8, null, now(), 128)
        ) as rows(user_id, event_timestamp, loaded, x)""",
        created_timestamp="loaded",
        available_after="2 hours",
    )

    def counted(**period: Any) -> float:
        (row,) = views.rows("feature_statistics", "known", features="x", **period)
        return (row["mean"] or 0) * (row["row_count"] - row["null_count"])

    assert counted() == 1 + 2 + 4
    assert counted(start="2024-01-01", end="2024-01-02") == 1 + 2
    assert counted(start="2024-01-01 00:00:00.000001", end="2024-01-02 00:00:00.000001") == 2 + 4
    assert counted(start="2024-01-02T00:00:00Z") == 4
    assert counted(end=datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert counted(end=date(2024, 1, 2)) == 3
    (row,) = views.rows("feature_statistics", "known", start="2024-01-01", end="2024-01-02")
    assert (row["period_start"], row["period_end"]) == (datetime(2024, 1, 1), datetime(2024, 1, 2))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"features": ["x", "z"]}, "Feature view 'plain' has no feature 'z'; it has: x, Home Town."),
        ({"start": "2024-01-02", "end": "2024-01-01"}, "The period begins at 2024-01-02 00:00:00 and ends at 2024-01-01 00:00:00"),
        ({"start": "2024-01-01", "end": "2024-01-01"}, "it has to begin before it ends"),
        ({"start": "last week"}, "start is 'last week', which is not a moment: write it in UTC"),
        ({"end": "2024-01-01 00:00:00+02:00"}, "end is '2024-01-01 00:00:00+02:00', which is not a moment"),
        ({"buckets": 0}, "buckets is '0'; it is a whole number from 1 to 100"),
        ({"top": "many"}, "top is 'many'; it is a whole number from 1 to 1000"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_arguments_stops_with_a_sentence(
    views: Views, arguments: dict[str, Any], sentence: str
) -> None:
    views.create("plain", f"""select {DATA}, 1 as x, 'a' as "Home Town" from range(1) as rows(user_id)""")
    with pytest.raises(InputError, match=sentence.replace("(", r"\(").replace("+", r"\+")):
        views.sql("feature_statistics", "plain", **arguments)


def test_the_relation_is_scanned_once(views: Views) -> None:
    create(views, {name: [None] for name in TYPES})
    plan = views.connection.execute("explain " + views.sql("feature_statistics", "drawn")).fetchall()[0][1]
    assert plan.count("Table: memory.main.drawn") == 1


def test_a_thousand_features_are_one_statement(views: Views) -> None:
    columns = ", ".join(f"user_id % {number % 90 + 1} as f{number}" for number in range(1000))
    views.create("wide_view", f"select {DATA}, {columns} from range(500) as rows(user_id)")
    rows = views.rows("feature_statistics", "wide_view")
    assert [row["feature"] for row in rows] == [f"f{number}" for number in range(1000)]
    assert [row["distinct_count"] for row in rows] == [number % 90 + 1 for number in range(1000)]


# In a real dbt project.

VIEWS: dict[str, str] = {
    "people": """
        select user_id, timestamp '2024-01-01' + user_id * interval 1 hour as event_timestamp, 20 + user_id % 30 as age,
            case when user_id % 4 > 0 then 'town ' || user_id % 3 end as "Home Town", user_id / 7.0::double as score,
            [user_id, 1.0]::float[2] as taste
        from range(96) as rows(user_id)
    """,
    "prices_v1": "select 1 as user_id, timestamp '2024-01-01' as event_timestamp, 1.10::decimal(6, 2) as p",
    "prices_v2": "select 1 as user_id, timestamp '2024-01-01' as event_timestamp, 2.20::decimal(6, 2) as p",
    "empty": "select 1 as user_id, timestamp '2024-01-01' as event_timestamp, 1 as x where false",
    "bare": "select 1 as user_id, timestamp '2024-01-01' as event_timestamp",
    "unbuilt": "select 1 as user_id, timestamp '2024-01-01' as event_timestamp, 1 as x",
}
HISTORY = "{{ config(materialized='incremental', %s) }}\n{{ feature_store.feature_statistics('people', %s) }}"
MODELS = {
    "by_batch": HISTORY % (
        "incremental_strategy='microbatch', event_time='period_start', batch_size='day', begin='2024-01-01'",
        "features=['age', 'Home Town']",
    ),
    "by_key": HISTORY % (
        "incremental_strategy='delete+insert', unique_key=['feature_view', 'feature', 'period_start']",
        "features=['age', 'Home Town'], start=env_var('DAY', '2024-01-01'), end=env_var('NEXT_DAY', '2024-01-02')",
    ),
    "figures": "{{ feature_store.feature_statistics('people', features=['score', 'age'], start='2024-01-02', top=3) }}",
    "drifts": "{{ feature_store.feature_drift_measures('people', period='1 day') }}",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    view = {"meta": {"feature_view": {"entities": ["user_id"]}}, "materialized": "table"}
    models: list[dict[str, Any]] = [
        {"name": "people", "config": {**view, "event_time": "event_timestamp"}},
        {"name": "prices", "latest_version": 2, "config": view, "versions": [{"v": 1}, {"v": 2}]},
        *({"name": name, "config": view} for name in ("empty", "bare", "unbuilt")),
    ]
    files = {f"models/{name}.sql": sql for name, sql in {**VIEWS, **MODELS}.items()}
    project = make_project(tmp_path_factory.mktemp("statistics"), {"models/views.yml": {"models": models}, **files})
    project.dbt("run", "--exclude", "unbuilt", "by_batch", "by_key")
    return project


@pytest.fixture(scope="module")
def store(project: DbtProject) -> FeatureStore:
    return FeatureStore(project.folder)


def history(project: DbtProject, model: str) -> list[tuple]:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        return connection.execute(
            f"select feature, period_start, row_count, null_count, minimum, maximum from {model} order by all"
        ).fetchall()


def test_a_history_has_a_set_of_rows_a_day_and_the_same_after_another_run(
    project: DbtProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ("2024-01-01", "2024-01-02"), ("2024-01-02", "2024-01-03")
    for day, next_day in (first, second, second):
        monkeypatch.setenv("DAY", day)
        monkeypatch.setenv("NEXT_DAY", next_day)
        project.dbt("run", "-s", "by_batch", "by_key", "--event-time-start", day, "--event-time-end", next_day)
    expected = [
        ("Home Town", datetime(2024, 1, 1), 24, 6, "town 0", "town 2"),
        ("Home Town", datetime(2024, 1, 2), 24, 6, "town 0", "town 2"),
        ("age", datetime(2024, 1, 1), 24, 0, "20", "43"),
        ("age", datetime(2024, 1, 2), 24, 0, "20", "49"),
    ]
    assert history(project, "by_batch") == expected
    assert history(project, "by_key") == expected


def test_the_sdk_runs_the_sql_that_dbt_compiles(project: DbtProject) -> None:
    with open_warehouse(load_project(project.folder)) as warehouse:
        renderer = MacroRenderer(project.manifest(), warehouse.columns)
        figures = renderer.render("feature_statistics", "people", ["score", "age"], start="2024-01-02", top=3)
        drifts = renderer.render("feature_drift_measures", "people", period="1 day")
    assert figures == project.compiled("figures").strip()
    assert drifts == project.compiled("drifts").strip()


def test_the_macros_and_their_arguments_are_documented(project: DbtProject) -> None:
    macros = project.manifest()["macros"]
    for name in ("feature_statistics", "feature_drift_measures"):
        macro = macros[f"macro.feature_store.{name}"]
        assert macro["description"] and all(argument["description"] for argument in macro["arguments"])


def test_python_gives_figures_in_the_types_of_the_features(store: FeatureStore) -> None:
    stats = store.get_statistics("people", ["age", "people:Home Town", "score"])
    assert [feature.feature for feature in stats] == ["age", "Home Town", "score"] and len(stats) == 3
    age, town = stats["age"], stats["Home Town"]
    assert (age.minimum, age.maximum, age.row_count, age.distinct_count) == (20, 49, 96, 30)
    assert age.p50 == np.median([20 + number % 30 for number in range(96)])
    assert sum(bucket.count for bucket in age.histogram) == 96
    assert (town.null_count, town.null_fraction, town.top_values[0].value, town.top_values[0].count) == (
        24,
        0.25,
        "town 0",
        24,
    )
    assert store.get_statistics("prices")["p"].minimum == Decimal("2.20")
    assert store.get_statistics("prices.v1", "p")["p"].minimum == Decimal("1.10")
    with pytest.raises(NotFoundError, match="have no feature 'x'; they have: age, Home Town, score"):
        stats["x"]
    with pytest.raises(AttributeError):
        stats.view = "other"


def test_a_period_may_be_given_as_text_date_or_moment(store: FeatureStore) -> None:
    for start in ("2024-01-04", date(2024, 1, 4), datetime(2024, 1, 4), "2024-01-04T02:00:00+02:00"):
        stats = store.get_statistics("people", "age", start=start)
        assert stats["age"].row_count == 24, start
        assert (stats.start, stats.end) == (datetime(2024, 1, 4, tzinfo=timezone.utc), None)


def test_results_come_as_dict_arrow_and_pandas(store: FeatureStore) -> None:
    stats = store.get_statistics("people")
    plain = stats.to_dict()
    assert json.loads(json.dumps(plain, default=str))["features"][0]["histogram"][0] == {
        "lower": 20.0,
        "upper": 22.9,
        "count": 12,
    }
    table, frame = stats.to_arrow(), stats.to_df()
    assert table.column("feature").to_pylist() == ["age", "Home Town", "score", "taste"] == frame["feature"].tolist()
    assert frame["distinct_count"].tolist()[:2] == [30, 3] and frame["row_count"].dtype.name == "Int64"


def test_a_view_without_rows_or_without_features_has_no_figures(store: FeatureStore) -> None:
    (row,) = store.get_statistics("empty")
    assert (row.row_count, row.null_count, row.null_fraction, row.distinct_count) == (0, 0, None, 0)
    assert row.mean is row.minimum is row.histogram is row.top_values is None
    assert store.get_statistics("bare").features == ()


@pytest.mark.parametrize(
    ("error", "sentence", "arguments"),
    [
        (NotFoundError, "There is no feature view 'nobody'; there are: bare, empty, people", {"view": "nobody"}),
        (NotFoundError, "'people' has no feature 'size'; it has: age, Home Town", {"view": "people", "features": ["size"]}),
        (InputError, "'prices:p' is no feature of 'people'", {"view": "people", "features": ["prices:p"]}),
        (NotFoundError, "'unbuilt' is not in the warehouse as .*: run `dbt build`", {"view": "unbuilt"}),
        (InputError, "begins at 2024-02-01 .* and ends at 2024-01-01", {"view": "people", "start": "2024-02-01", "end": "2024-01-01"}),
        (DefinitionError, "'soon' is not a moment", {"view": "people", "end": "soon"}),
        (DefinitionError, "compare is '7 moons', which is not a duration", {"view": "people", "compare": "7 moons"}),
        (InputError, "leave out the start", {"view": "people", "compare": "7 days", "start": "2024-01-01"}),
        (InputError, "give a duration such as '7 days', or the baseline's start and end", {"view": "people", "compare": "2024-01-01.."}),
        (InputError, "The baseline begins at 2024-01-03 .* ends at 2024-01-02", {"view": "people", "compare": "2024-01-03..2024-01-02"}),
        (InputError, "overlap", {"view": "people", "compare": "2024-01-01..2024-01-03", "start": "2024-01-02"}),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_one_sentence(
    store: FeatureStore, error: type, sentence: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(error, match=sentence):
        store.get_statistics(**arguments)


def test_the_command_prints_a_table_with_a_small_histogram(project: DbtProject) -> None:
    ran = run("feature-store", "stats", "people", "--project-dir", str(project.folder))
    lines = ran.out.splitlines()
    assert ran.code == 0, ran.err
    assert lines[0] == "people: 96 rows"
    assert lines[2].split() == [
        "feature",
        "type",
        "nulls",
        "distinct",
        "min",
        "median",
        "max",
        "mean",
        "stddev",
        "values",
    ]
    assert lines[3].split()[:7] == ["age", "bigint", "0%", "30", "20", "33.5", "49"] and "█" in lines[3]
    assert "town 0 25%, town 1 25%, town 2 25%" in lines[4]
    assert "norm" in lines[6]


def test_the_command_takes_features_periods_and_json(project: DbtProject) -> None:
    folder = ["--project-dir", str(project.folder), "--output", "json"]
    ran = run("feature-store", "stats", "people:age", "people:score", "prices.v1", "--start", "2024-01-04", *folder)
    people, prices = ran.json["views"]
    assert [feature["feature"] for feature in people["features"]] == ["age", "score"]
    assert people["features"][0]["row_count"] == 24 and people["start"] == "2024-01-04T00:00:00+00:00"
    assert prices["view"] == "prices.v1" and prices["features"][0]["row_count"] == 0
    ran = run("feature-store", "stats", "people", "-f", "age", *folder)
    assert [feature["feature"] for feature in ran.json["views"][0]["features"]] == ["age"]


def test_without_names_the_command_tells_of_every_view(project: DbtProject, tmp_path: Path) -> None:
    ran = run("feature-store", "stats", "--project-dir", str(project.folder))
    assert ran.code == 1 and "'unbuilt' is not in the warehouse" in ran.err
    assert_one_sentence(ran.err)
    for arguments, code, text in (
        (["nobody"], 1, "there are: bare, empty, people"),
        (["people:size"], 1, "has no feature 'size'"),
        (["people", "--start", "2024-02-01", "--end", "2024-01-01"], 1, "has to begin before it ends"),
        (["people", "--max-psi", "0.2"], 2, "add --compare"),
        (["-f", "age"], 2, "--feature needs the VIEW"),
        (["people", "--compare", "1 day", "--max-js", "2"], 2, "0<=x<=1"),
    ):
        ran = run("feature-store", "stats", *arguments, "--project-dir", str(project.folder))
        assert (ran.code, ran.out) == (code, "") and text in ran.err, arguments
