"""Statistics, drift, freshness, differences and the generic tests give the same figures on PostgreSQL as on DuckDB.

Doubles reach to both ends of their range, where PostgreSQL stops a query that overflows or underflows and DuckDB goes on.
Figures are the same to the bit but for mean, stddev and the mean norm, which are sums of doubles: there the last digits.
"""

from __future__ import annotations

import decimal
import json
import math
import random
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from tests.support.dbt import DbtFailed
from tests.support.two_engines import SCHEMA, UTC, Engines, Row, close, exact, overlong, two_engines

START = datetime(2026, 3, 20, tzinfo=UTC)  # clocks change in Europe on the 29th
SUMS = ("mean", "stddev", "mean_norm")
# Beyond the largest double DuckDB's sums of them are infinite, so it gives no figure; PostgreSQL adds them up in numeric.
TOO_LARGE_TO_ADD = {("huge", "mean"), ("huge", "stddev"), ("ends", "mean")}
OWN_WORDS = ("data_type", "computed_at", "checked_at")
KEYS = {
    "user_id": ("bigint", "bigint"),
    "event_timestamp": ("timestamptz", "timestamptz"),
    "loaded_at": ("timestamp", "timestamp"),
}
FEATURES = {
    "small": ("integer", "integer"),
    "long": ("bigint", "bigint"),
    "price": ("decimal(12, 3)", "numeric(12, 3)"),
    "wide": ("decimal(38, 10)", "numeric(38, 10)"),
    "plain_numeric": ("decimal(18, 1)", "numeric"),
    "amount": ("double", "double precision"),
    "form": ("double", "double precision"),
    "ends": ("double", "double precision"),
    "tiny": ("double", "double precision"),
    "huge": ("double", "double precision"),
    "mixed": ("double", "double precision"),
    "ratio": ("float", "real"),
    "single": ("float", "real"),
    "same": ("double", "double precision"),
    "paid": ("boolean", "boolean"),
    "label": ("varchar", "varchar(20)"),
    "code": ("uuid", "uuid"),
    "day": ("date", "date"),
    "naive": ("timestamp", "timestamp"),
    "zoned": ("timestamptz", "timestamptz"),
    "marks": ("integer[]", "integer[]"),
    "vector": ("double[]", "double precision[]"),
    "reals": ("float[]", "real[]"),
    "nothing": ("double", "double precision"),
    "given": ("json", "json"),
}
COLUMNS = KEYS | FEATURES
CHOICES: dict[str, list[Any]] = {
    "small": [1, 2, 3, 10, -5, 7],
    "long": [2**63 - 1, -(2**63), 2**53 + 1, 0, 12],
    "price": [decimal.Decimal(text) for text in ("1.100", "-7.123", "0.007", "999999999.999", "-0.001", "0")],
    "wide": [decimal.Decimal(text) for text in ("1234567890123456789012345678.0123456789", "-0.0000000001", "2.5")],
    "plain_numeric": [decimal.Decimal(text) for text in ("1.1", "-20.5", "7.9")],
    "amount": [0.1, 0.2, 0.3, -0.0, 0.0, 12.5, 123456.789, -3.25, 0.29, 0.57, 1.0, math.nan, math.inf, -math.inf],
    "form": [1e15, 1234567890123456.2, 1e16, 0.0001, 1e-5, 1e6, 1e14, 3.0],
    "ends": [1.7e308, -1.7e308, 5e-324, 0.0, 1.5],
    "tiny": [5e-324, 1e-323, 2.5e-320, 1e-310, 0.0],
    "huge": [1.7e308, 1.6e308, 1.65e308],
    "mixed": [1e300, 1e-300, 5e-324, -1e-12, 3e120],
    "ratio": [0.1, 1e6, 1e-5, 3.25, 16777216.0],
    "single": [1.401298464324817e-45, 3.4028234663852886e38, 1e15, 1e16],
    "same": [5e-324],
    "paid": [True, False],
    "label": ["x", "X", "é", "e", "", "_", "a\"b\\c\n", "x" * 20, "Ω"],
    "code": [str(uuid.UUID(int=number)) for number in (1, 2**127, 77)],
    "day": [date(2026, 3, 29), date(1, 1, 1), date(9999, 12, 31)],
    "naive": [datetime(2026, 3, 29, 2, 30), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(9999, 12, 31)],
    "zoned": [datetime(2026, 3, 29, 1, 30, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, 0, 500, tzinfo=UTC)],
    "marks": [[1, 2], [1, None], [], [None]],
    "vector": [[3.0, 4.0], [1e-200, 1e-200], [5e-324], [1e200], [1e39, 0.0], [math.nan], [math.inf], [None, 0.5]],
    "reals": [[0.1, 0.2], [1e-40], [3e38, 3e38]],
    "nothing": [None],
    "given": ['{"a": 1}', "[1]"],
}  # fmt: skip
assert CHOICES.keys() == FEATURES.keys()


def rows(count: int, seed: int, first: datetime) -> list[Row]:
    chance = random.Random(seed)
    found = []
    for number in range(count):
        at = first + timedelta(minutes=15) * chance.randrange(480)
        row: Row = {"user_id": number % 60, "event_timestamp": at, "loaded_at": at.replace(tzinfo=None)}
        for name, values in CHOICES.items():
            row[name] = None if chance.random() < 0.05 else chance.choice(values)
        found.append(row)
    return found


def view(name: str, **more: Any) -> dict[str, Any]:
    meta = {"entities": ["user_id"], "created_timestamp": "loaded_at", "ttl": "36500 days"}
    return {"name": name, "config": {"meta": {"feature_view": meta}}, **more}


FAILING = {
    "feature_view": {},
    "feature_freshness": {"max_age": "1 day"},
}
PROPERTIES = {
    "sources": [{"name": "raw", "schema": SCHEMA, "tables": [{"name": "events"}, {"name": "later"}]}],
    "exposures": [
        {"name": "wrong", "type": "ml", "owner": {"name": "x"}, "depends_on": ["ref('broken')"],
         "config": {"meta": {"features": ["broken:small", "broken:lost", "broken:gone", "nowhere:a"]}}},
    ],
    "models": [
        view("measured"),
        view("changed"),
        view(
            "broken",
            data_tests=[{f"feature_store.{name}": {"arguments": given, "name": f"broken_{name}"} if given else {"name": f"broken_{name}"}}
                        for name, given in FAILING.items()],
            columns=[
                {"name": "amount", "data_tests": [
                    {"feature_store.feature_null_fraction": {"name": "broken_nulls", "arguments": {"maximum": 0.01}}},
                    {"feature_store.feature_drift": {"name": "broken_drift", "arguments": {
                        "maximum": 0.0001, "period": "2 days", "minimum_rows": 10}}},
                ]},
                {"name": "label", "data_tests": [
                    {"feature_store.feature_drift": {"name": "broken_js", "arguments": {
                        "measure": "js", "maximum": 0.0001, "period": "2 days", "minimum_rows": 10}}},
                ]},
                {"name": "marks", "data_tests": [
                    {"feature_store.feature_drift": {"name": "broken_rate", "arguments": {
                        "measure": "null_rate", "maximum": 0.0001, "period": "2 days", "minimum_rows": 10}}},
                ]},
            ],
        ),
    ],
}  # fmt: skip
MODELS = {
    "measured": "select * from {{ source('raw', 'events') }}",
    "changed": "select * from {{ source('raw', 'later') }}",
    # Keys and times that break its rules.
    "broken": """
        select * from {{ source('raw', 'events') }}
        union all select * from {{ source('raw', 'events') }} where user_id < 3
        union all
        select null, event_timestamp, null,
            {{ COLUMNS }}
        from {{ source('raw', 'events') }} where user_id = 3
    """.replace("{{ COLUMNS }}", ",\n".join(FEATURES)),
    "statistics": "{{ feature_store.feature_statistics('measured') }}",
    "statistics_of_days": (
        "{{ feature_store.feature_statistics('measured', features=['amount', 'label', 'price'], "
        "start='2026-03-21', end='2026-03-23 12:00:00', buckets=3, top=2) }}"
    ),
    "drift": "{{ feature_store.feature_drift_measures('measured', period='2 days') }}",
    "drift_of_periods": (
        "{{ feature_store.feature_drift_measures('measured', features=['label', 'amount', 'huge', 'mixed'], "
        "baseline_start='2026-03-20', baseline_end='2026-03-22', start='2026-03-22') }}"
    ),
    "freshness": "{{ feature_store.feature_freshness(['measured', 'changed'], as_of='2026-04-01 00:00:00') }}",
    "freshness_now": "{{ feature_store.feature_freshness('measured') }}",
    "difference": "{{ feature_store.feature_difference('measured', 'changed') }}",
    "difference_of_some": "{{ feature_store.feature_difference('measured', 'changed', sample=20) }}",
    "examples": "{{ feature_store.feature_difference_examples('measured', 'changed', examples=60) }}",
}  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    files = {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, sql in MODELS.items()}
    with two_engines(tmp_path_factory.mktemp("monitoring"), files) as engines:
        events = rows(600, 3, START)
        engines.create("events", COLUMNS, events)
        # Some as they were, some new: the pairs that differ take in every choice of both.
        later = [
            row if number % 4 == 0 else new
            for number, (row, new) in enumerate(zip(events, rows(600, 4, START), strict=True))
        ]
        engines.create("later", COLUMNS, later)
        engines.dbt("run")
        yield engines


def keyed(found: list[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    keyed = {tuple(row[name] for name in names): row for row in found}
    assert len(keyed) == len(found)
    return keyed


def differing(ours: dict[Any, Row], theirs: dict[Any, Row]) -> list[tuple[Any, ...]]:
    assert ours.keys() == theirs.keys()
    return [
        (place, name, value, theirs[place][name])
        for place, row in ours.items()
        for name, value in row.items()
        if name not in OWN_WORDS and exact(value) != exact(theirs[place][name])
    ]


@pytest.mark.parametrize("model", ["statistics", "statistics_of_days"])
def test_statistics(engines: Engines, model: str) -> None:
    ours, theirs = (keyed(side, "feature") for side in engines.rows(model))
    assert len(ours) == (len(FEATURES) if model == "statistics" else 3)
    found = differing(ours, theirs)
    rest = [one for one in found if one[1] not in SUMS or not close(one[2], one[3])]
    exempt = {(place[0], name) for place, name, value, _ in rest if value is None}
    assert exempt <= TOO_LARGE_TO_ADD
    assert [one for one in rest if (one[0][0], one[1]) not in exempt] == []
    if model == "statistics":
        row = theirs["huge",]
        assert 1.6e308 < row["mean"] < 1.7e308 and 0 < row["stddev"] < 1e307
        assert theirs["price",]["maximum"] == "999999999.999" and theirs["form",]["maximum"] == "1e+16"
        assert len(json.loads(theirs["tiny",]["histogram"])) == 10


@pytest.mark.parametrize("model", ["drift", "drift_of_periods"])
def test_drift(engines: Engines, model: str) -> None:
    ours, theirs = (keyed(side, "feature") for side in engines.rows(model))
    assert len(ours) == (len(FEATURES) if model == "drift" else 4)
    found = differing(ours, theirs)
    names = {name for _, name, *_ in found}
    assert names <= {"population_stability_index", "jensen_shannon_divergence", "period_end"}
    # Where a period ends at the present moment.
    assert ("period_end" in names) == (model == "drift_of_periods")
    assert [one for one in found if one[1] != "period_end" and not close(one[2], one[3])] == []
    assert sum(row["population_stability_index"] is not None for row in theirs.values()) > len(theirs) / 2


def test_freshness(engines: Engines) -> None:
    ours, theirs = (keyed(side, "feature_view") for side in engines.rows("freshness"))
    assert len(ours) == 2
    assert differing(ours, theirs) == []
    assert all(row["entities"] == 60 and row["event_age_seconds"] > 86400 for row in theirs.values())
    (ours_now,), (theirs_now,) = engines.rows("freshness_now")
    assert abs(ours_now["event_age_seconds"] - theirs_now["event_age_seconds"]) < 600


@pytest.mark.parametrize("model", ["difference", "difference_of_some"])
def test_difference(engines: Engines, model: str) -> None:
    ours, theirs = (keyed(side, "feature") for side in engines.rows(model))
    assert len(ours) == len(FEATURES)
    assert differing(ours, theirs) == []
    if model == "difference":
        assert all(row["differing"] > 0 for name, row in theirs.items() if name[0] not in ("nothing", "same"))
        assert theirs["huge",]["max_absolute"] == 1.7e308 - 1.6e308
        assert theirs["mixed",]["max_relative"] == math.inf


def test_examples_of_differences(engines: Engines) -> None:
    ours, theirs = (keyed(side, "feature", "user_id") for side in engines.rows("examples"))
    assert len(ours) > len(FEATURES) * 10
    assert differing(ours, theirs) == []


def test_generic_tests_find_the_same(engines: Engines) -> None:
    found = {}
    for project in (engines.duckdb, engines.postgres):
        with pytest.raises(DbtFailed):
            project.dbt("test", "--store-failures")
    for name in ("feature_view", "feature_freshness", "nulls", "drift", "js", "rate"):
        ours, theirs = engines.rows(f"broken_{name}", schemas=("main_dbt_test__audit", "built_dbt_test__audit"))
        assert len(ours) == len(theirs) > 0
        found[name] = {row["broken_rule"] for row in ours}
        assert found[name] == {row["broken_rule"] for row in theirs}
        if name in ("nulls", "drift", "js", "rate"):
            numbers = [
                [value for value in side[0].values() if isinstance(value, (int, float, decimal.Decimal))]
                for side in (ours, theirs)
            ]
            assert all(close(float(one), float(other)) for one, other in zip(*numbers, strict=True))
        elif name == "feature_view":
            assert sorted(str(exact(row["event_timestamp"])) + str(row["row_count"]) for row in ours) == sorted(
                str(exact(row["event_timestamp"])) + str(row["row_count"]) for row in theirs
            )
    assert len(found["feature_view"]) == 6


def test_people_can_read_what_is_compiled(engines: Engines) -> None:
    assert overlong(engines.postgres) == []
