"""The package's generic tests, each rule on a table that keeps it and on one that breaks it.

All tables and tests stand in one dbt project that is built once; `--store-failures` keeps what each test found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pytest

from tests.support.dbt import DbtFailed, DbtProject, make_project

EVENT_FUTURE = "event timestamp 'event_timestamp' lies in the future"
STALE = "the newest row is older than 2 days"
DRIFT = "the values of the last 7 days differ from those before by more than 0.2"
TOO_MANY_NULLS = "more than 0.25 of the values are NULL"


@dataclass(frozen=True)
class Case:
    """A table, a test on it, and the rules it is expected to break (text) or the sentence that stops it."""

    name: str
    rows: str
    test: str
    rules: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] | None = field(default_factory=lambda: {"entities": ["user_id"]})
    column: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def users(*rows: str, columns: str = "user_id, event_timestamp, feature") -> str:
    return f"select * from (values {', '.join(rows)}) as t({columns})"


PAIRS = {"entities": ["user_id", "Item"], "timestamp": "moment", "created_timestamp": "loaded"}


def pairs(*rows: str) -> str:
    return users(*rows, columns='user_id, "Item", moment, loaded')


FEATURE_VIEW = [
    Case(
        "a_view_as_it_should_be",
        pairs(
            "(1, 'a', now() - interval 1 day, now() - interval 1 day)",
            "(1, 'b', now() - interval 1 day, now() - interval 1 day)",
            "(1, 'a', now() - interval 2 days, now() - interval 1 day)",
            "(1, 'a', now() - interval 1 day, now() - interval 1 hour)",
        ),
        "feature_view",
        view=PAIRS,
    ),
    Case("a_view_without_rows", users("(1, now(), 1)") + " where false", "feature_view"),
    Case("a_null_key", pairs("(1, null, now(), now())"), "feature_view", ["join key 'Item' is NULL"], view=PAIRS),
    Case(
        "a_null_event_time",
        pairs("(1, 'a', null, now())", "(1, 'a', now(), now())"),
        "feature_view",
        ["event timestamp 'moment' is NULL"],
        view=PAIRS,
    ),
    Case(
        "a_null_created_time",
        pairs("(1, 'a', now(), null)", "(1, 'a', now(), now())"),
        "feature_view",
        ["created timestamp 'loaded' is NULL"],
        view=PAIRS,
    ),
    Case(
        "a_created_time_in_the_future",
        pairs("(1, 'a', now(), now() + interval 1 hour)"),
        "feature_view",
        ["created timestamp 'loaded' lies in the future"],
        view=PAIRS,
    ),
    Case(
        "a_row_twice",
        pairs("(1, 'a', timestamp '2026-01-01', now())", "(1, 'a', timestamp '2026-01-01', now())"),
        "feature_view",
        ["several rows have the same keys and timestamps"],
        view=PAIRS,
    ),
    Case(
        "two_rows_within_a_microsecond",
        users(
            "(1, timestamp_ns '2026-01-01 00:00:00.000001001', 1)",
            "(1, timestamp_ns '2026-01-01 00:00:00.000001999', 2)",
        ),
        "feature_view",
        ["several rows have the same keys and timestamps"],
    ),
    Case("an_event_in_the_future", users("(1, now() + interval 1 hour, 1)"), "feature_view", [EVENT_FUTURE]),
    Case(
        "a_naive_event_in_the_future",
        users("(1, (now() at time zone 'UTC') + interval 1 hour, 1)", "(2, (now() at time zone 'UTC'), 1)"),
        "feature_view",
        [EVENT_FUTURE],
    ),
    Case(
        "several_rules_at_once",
        users("(null, now() + interval 1 hour, 1)"),
        "feature_view",
        ["join key 'user_id' is NULL", EVENT_FUTURE],
    ),
    Case(
        "a_broken_row_that_where_leaves_out",
        users("(1, now(), 1)", "(null, now(), 2)"),
        "feature_view",
        config={"where": "feature = 1"},
    ),
    Case(
        "a_row_that_waits_for_its_window",
        users("(1, now() + interval 29 days, 1)"),
        "feature_view",
        arguments={"longest_window": "30 days"},
    ),
    Case(
        "a_row_beyond_its_window",
        users("(1, now() + interval 31 days, 1)"),
        "feature_view",
        ["event timestamp 'event_timestamp' lies beyond the newest event and 30 days"],
        arguments={"longest_window": "30 days"},
    ),
    Case(
        "a_row_at_the_end_of_the_newest_window",
        "select user_id, bought_at + interval 30 days as event_timestamp"
        " from {{ ref('events') }} where bought_at <= now()",
        "feature_view",
        arguments={"longest_window": "30 days", "events": "ref('events')", "events_timestamp": "bought_at"},
    ),
    Case(
        "a_row_after_the_end_of_the_newest_window",
        "select 1 as user_id, max(bought_at) + interval '30 days 1 microsecond' as event_timestamp"
        " from {{ ref('events') }} where bought_at <= now()",
        "feature_view",
        ["event timestamp 'event_timestamp' lies beyond the newest event and 30 days"],
        arguments={"longest_window": "30 days", "events": "ref('events')", "events_timestamp": "bought_at"},
    ),
]

FRESHNESS = [
    Case("a_fresh_view", users("(1, now() - interval 47 hours, 1)"), "feature_freshness"),
    Case("a_stale_view", users("(1, now() - interval 49 hours, 1)"), "feature_freshness", [STALE]),
    Case(
        "a_stale_view_with_a_row_in_the_future",
        users("(1, now() - interval 49 hours, 1)", "(1, now() + interval 1 hour, 1)"),
        "feature_freshness",
        [STALE],
    ),
    Case(
        "no_row_at_all",
        users("(1, now(), 1)") + " where false",
        "feature_freshness",
        ["there is no row up to now"],
    ),
]
FRESHNESS = [Case(**{**case.__dict__, "arguments": {"max_age": "2 days"}}) for case in FRESHNESS]

NULLS = [
    Case(
        "few_nulls",
        users("(1, now(), 1)", "(2, now(), 1)", "(3, now(), 1)", "(4, now(), null)"),
        "feature_null_fraction",
    ),
    Case(
        "many_nulls",
        users("(1, now(), 1)", "(2, now(), 1)", "(4, now(), null)"),
        "feature_null_fraction",
        [TOO_MANY_NULLS],
    ),
    Case("nulls_of_no_rows", users("(1, now(), 1)") + " where false", "feature_null_fraction"),
]
NULLS = [Case(**{**case.__dict__, "arguments": {"maximum": 0.25}, "column": "feature"}) for case in NULLS]


def periods(before: str, now: str, extra: str = "") -> str:
    """A thousand rows in each of two weeks; `i` counts them from 0 to 999."""
    return f"""
        select i as user_id, now() - interval 8 days as event_timestamp, {before} as feature from range(1000) as t(i)
        union all
        select i, now() - interval 1 day, {now} from range(1000) as t(i)
        {extra}
    """


LIKE_BEFORE = "hash(i + 5000) % 1000 / 7.0"
DRIFTS = [
    Case("numbers_as_before", periods("hash(i) % 1000 / 7.0", LIKE_BEFORE), "feature_drift"),
    Case("numbers_that_moved", periods("hash(i) % 1000 / 7.0", f"{LIKE_BEFORE} + 60"), "feature_drift", [DRIFT]),
    Case("counts_as_before", periods("hash(i) % 3", "hash(i + 5000) % 3"), "feature_drift"),
    Case("counts_that_moved", periods("hash(i) % 3", "hash(i + 5000) % 2"), "feature_drift", [DRIFT]),
    Case("a_constant_as_before", periods("5", "5"), "feature_drift"),
    Case("a_constant_that_rose", periods("5", "6"), "feature_drift", [DRIFT]),
    Case("a_constant_that_fell", periods("5", "4"), "feature_drift", [DRIFT]),
    Case("nulls_that_appeared", periods("i", "case when i % 2 = 0 then i end"), "feature_drift", [DRIFT]),
    Case("only_nulls", periods("cast(null as integer)", "null"), "feature_drift"),
    Case("text_as_before", periods("'v' || i % 4", "'v' || (i + 2) % 4"), "feature_drift"),
    Case("text_that_moved", periods("'v' || i % 2", "'v' || (i % 10 < 1)::int"), "feature_drift", [DRIFT]),
    Case("a_new_text", periods("'a'", "case when i % 3 = 0 then 'NULL' else 'a' end"), "feature_drift", [DRIFT]),
    Case("booleans_that_moved", periods("i % 2 = 0", "i % 20 = 0"), "feature_drift", [DRIFT]),
    Case("no_rows_to_compare", periods("5", "6") + " limit 0", "feature_drift"),
    Case(
        "old_rows_and_future_rows_do_not_count",
        periods(
            "5",
            "5",
            "union all select i, now() - interval 15 days, 9 from range(1000) as t(i)"
            " union all select i, now() + interval 1 day, 9 from range(1000) as t(i)",
        ),
        "feature_drift",
    ),
    Case(
        "a_week_in_which_little_happened",
        periods("5", "6", "").replace("range(1000)", "range(99)"),
        "feature_drift",
    ),
]
DRIFTS = [Case(**{**case.__dict__, "column": "feature"}) for case in DRIFTS]

ERRORS = [
    Case("no_view", users("(1, now(), 1)"), "feature_view", view=None, error="and 'no_view' is none"),
    Case(
        "events_without_window",
        users("(1, now(), 1)"),
        "feature_view",
        arguments={"events": "ref('events')"},
        error="has `events` but no `longest_window`",
    ),
    Case(
        "a_window_that_is_no_duration",
        users("(1, now(), 1)"),
        "feature_view",
        arguments={"longest_window": "a month"},
        error="longest_window is 'a month', which is not a duration",
    ),
    Case(
        "an_age_that_is_no_duration",
        users("(1, now(), 1)"),
        "feature_freshness",
        arguments={"max_age": 3},
        error="max_age is 3, which is not a duration",
    ),
    Case(
        "a_share_above_one",
        users("(1, now(), 1)"),
        "feature_null_fraction",
        arguments={"maximum": 20},
        column="feature",
        error="maximum is '20'; it is a number from 0 to 1",
    ),
    Case(
        "drift_of_a_list",
        "select 1 as user_id, now() as event_timestamp, [1.0, 2.0] as feature",
        "feature_drift",
        column="feature",
        error="compares numbers, text and booleans; 'feature' of 'drift_of_a_list' is DECIMAL(2,1)[]",
    ),
    Case(
        "drift_of_a_key",
        users("(1, now(), 1)"),
        "feature_drift",
        column="user_id",
        error="'user_id' is no feature of 'drift_of_a_key'; it has: feature",
    ),
]
CASES = FEATURE_VIEW + FRESHNESS + NULLS + DRIFTS


def properties(case: Case) -> dict[str, Any]:
    config: dict[str, Any] = {"materialized": "table"}
    if case.view is not None:
        config["meta"] = {"feature_view": case.view}
    test: dict[str, Any] = {"name": f"test_{case.name}"}
    if case.arguments:
        test["arguments"] = case.arguments
    if case.config:
        test["config"] = case.config
    tests = [{f"feature_store.{case.test}": test}]
    if case.column:
        return {"name": case.name, "config": config, "columns": [{"name": case.column, "data_tests": tests}]}
    return {"name": case.name, "config": config, "data_tests": tests}


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, str]:
    """The project with all tests run, and everything dbt complained about."""
    cases = CASES + ERRORS
    events = "select 1 as user_id, now() - interval 10 days as bought_at union all select 1, now() + interval 5 days"
    project = make_project(
        tmp_path_factory.mktemp("generic_tests"),
        {
            "models/properties.yml": {"models": [properties(case) for case in cases]},
            "models/events.sql": "{{ config(materialized='table') }} " + events,
            **{f"models/{case.name}.sql": case.rows for case in cases},
        },
    )
    project.dbt("run")
    with pytest.raises(DbtFailed) as failed:
        project.dbt("test", "--store-failures")
    return project, str(failed.value)


def failures(project: DbtProject, case: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        result = connection.execute(f"select * from main_dbt_test__audit.test_{case}")
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_test_names_the_broken_rules(tested: tuple[DbtProject, str], case: Case) -> None:
    found = failures(tested[0], case.name)
    assert sorted(row["broken_rule"] for row in found) == sorted(case.rules)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_a_mistake_in_a_test_is_said_in_one_sentence(tested: tuple[DbtProject, str], case: Case) -> None:
    assert case.error is not None and case.error in tested[1]


def test_a_failing_row_shows_its_keys_and_times(tested: tuple[DbtProject, str]) -> None:
    (row,) = failures(tested[0], "a_null_key")
    assert list(row) == ["broken_rule", "user_id", "Item", "moment", "loaded", "row_count"]
    assert row["user_id"] == 1
    (row,) = failures(tested[0], "a_row_twice")
    assert row["row_count"] == 2


def test_the_index_of_drift_is_the_population_stability_index(tested: tuple[DbtProject, str]) -> None:
    (row,) = failures(tested[0], "text_that_moved")
    # half and half before, then nine to one
    expected = (0.9 - 0.5) * math.log(0.9 / 0.5) + (0.1 - 0.5) * math.log(0.1 / 0.5)
    assert math.isclose(row["population_stability_index"], expected)
    assert (row["rows_before"], row["rows_now"]) == (1000, 1000)


def test_the_share_of_nulls_is_told(tested: tuple[DbtProject, str]) -> None:
    (row,) = failures(tested[0], "many_nulls")
    assert (row["row_count"], row["null_count"]) == (3, 1)


def test_every_generic_test_and_argument_is_documented(tested: tuple[DbtProject, str]) -> None:
    macros = tested[0].manifest()["macros"]
    for name in ("feature_view", "feature_freshness", "feature_null_fraction", "feature_drift"):
        macro = macros[f"macro.feature_store.test_{name}"]
        assert macro["description"]
        assert all(argument["description"] for argument in macro["arguments"])
