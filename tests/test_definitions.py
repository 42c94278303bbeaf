"""Durations and `meta.feature_view` mean the same to the macros and to Python: one list of cases for both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from materializer import DefinitionError, InputError
from materializer.project.duration import parse_duration
from materializer.project.meta import check_meta, freshness_limits
from materializer.project.render import MacroRenderer
from tests.support.dbt import DbtFailed, DbtProject, make_project

DURATIONS = {
    "1 second": 1,
    "90 seconds": 90,
    "1 seconds": 1,
    "2 minute": 120,
    "36 hours": 36 * 3600,
    "1 day": 86400,
    "30 days": 30 * 86400,
    "2 weeks": 14 * 86400,
    "007 days": 7 * 86400,
    "  7   days ": 7 * 86400,
    "7\tdays": 7 * 86400,
}
NO_DURATIONS: list[Any] = [
    "", " ", "7", "days", "7days", "7 d", "7 s", "0 days", "00 weeks", "-1 day", "+1 day", "1.5 hours", "1,000 days",
    "1_0 days", "1e3 seconds", "1 month", "1 year", "1 Day", "1 DAYS", "1 dayss", "7 days ago", "1 day 2 hours", "P7D",
    "\u0663 days", "\u00b2 days", "one day", "days 7", 7, 7.0, None, True, [], ["7 days"], {"days": 7},
]  # fmt: skip

GOOD_META: list[Any] = [
    {"entities": ["user_id"]},
    {"entities": ["a", "b", "A"]},
    {"entities": ["a"], "timestamp": "t", "created_timestamp": "c", "available_after": "1 hour", "ttl": "2 weeks"},
    {"entities": ["a"], "online": False, "tags": {}},
    {"entities": ["a"], "online": True, "tags": {"team": "growth", "tier": 1}},
    {"entities": ["a"], "ahead": "6 hours"},
    {"entities": ["a"], "ahead": 0},
    {"entities": ["a"], "freshness": {"warn_after": "1 day"}},
    {"entities": ["a"], "freshness": {"error_after": "90 minutes"}},
    {"entities": ["a"], "freshness": {"warn_after": "1 day", "error_after": "24 hours"}},
    {"entities": ["a"], "freshness": {"warn_after": {"count": 12, "period": "hour"}, "error_after": "1 day"}},
    {"entities": ["a"], "freshness": {"error_after": {"period": "days", "count": 2}}},
]
# What is wrong, and a part of the sentence that says so.
BAD_META: list[tuple[Any, str]] = [
    (None, "is not a mapping"),
    ([], "is not a mapping"),
    ("user_id", "is not a mapping"),
    (True, "is not a mapping"),
    ({}, "has no `entities`"),
    ({"ttl": "1 day"}, "has no `entities`"),
    ({"entities": None}, "`entities` is None"),
    ({"entities": "user_id"}, "`entities` is"),
    ({"entities": []}, "`entities` is []"),
    ({"entities": {"user_id": 1}}, "`entities` is"),
    ({"entities": [1]}, "`entities` is [1]"),
    ({"entities": ["a", None]}, "`entities` is"),
    ({"entities": ["a", "a"]}, "`entities` is"),
    ({"entities": 3}, "`entities` is 3"),
    ({"entities": ["a", "_fs_event"]}, "`entities` has '_fs_event', but names that begin with _fs_ are kept for"),
    ({"entities": ["_FS_1"]}, "`entities` has '_FS_1', but names that begin with _fs_ are kept for"),
    ({"entities": ["event_timestamp"]}, "has 'event_timestamp', but that is a name for moments, not for a join key"),
    ({"entities": ["a", "At"], "timestamp": "at"}, "`entities` has 'At', but that is a name for moments"),
    ({"entities": ["a"], "tll": "1 day"}, "has no key 'tll'"),
    ({"entities": ["a"], "TTL": "1 day"}, "has no key 'TTL'"),
    ({"entities": ["a"], "entity": "a"}, "has no key 'entity'"),
    ({"entities": ["a"], 1: 2}, "has no key '1'"),
    ({"entities": ["a"], "timestamp": 5}, "`timestamp` is 5"),
    ({"entities": ["a"], "timestamp": None}, "`timestamp` is None"),
    ({"entities": ["a"], "created_timestamp": ["c"]}, "`created_timestamp` is ['c']"),
    ({"entities": ["a"], "ttl": None}, "meta.feature_view.ttl is"),
    ({"entities": ["a"], "ttl": 30}, "meta.feature_view.ttl is"),
    ({"entities": ["a"], "ttl": "30"}, "meta.feature_view.ttl is"),
    ({"entities": ["a"], "available_after": "0 hours"}, "meta.feature_view.available_after is"),
    ({"entities": ["a"], "ahead": None}, "meta.feature_view.ahead is None, which is neither a duration nor 0"),
    ({"entities": ["a"], "ahead": False}, "meta.feature_view.ahead is False, which is neither a duration nor 0"),
    ({"entities": ["a"], "ahead": "60"}, "meta.feature_view.ahead is '60', which is neither a duration nor 0"),
    ({"entities": ["a"], "ahead": "2 weeks ago"}, "meta.feature_view.ahead is '2 weeks ago', which is neither"),
    ({"entities": ["a"], "ahead": "366 days"}, "meta.feature_view.ahead is '366 days', which is more than a year"),
    ({"entities": ["a"], "freshness": None}, "meta.feature_view.freshness is None"),
    ({"entities": ["a"], "freshness": {}}, "meta.feature_view.freshness is {}: write for example {warn_after"),
    ({"entities": ["a"], "freshness": "1 day"}, "meta.feature_view.freshness is"),
    ({"entities": ["a"], "freshness": ["1 day"]}, "meta.feature_view.freshness is ['1 day']"),
    (
        {"entities": ["a"], "freshness": {"warn": "1 day"}},
        "freshness has no key 'warn'; its keys are warn_after, error_after",
    ),
    ({"entities": ["a"], "freshness": {"warn_after": "1 day", "filter": "x"}}, "freshness has no key 'filter'"),
    ({"entities": ["a"], "freshness": {"warn_after": None}}, "meta.feature_view.freshness.warn_after is"),
    (
        {"entities": ["a"], "freshness": {"warn_after": "1 month"}},
        "meta.feature_view.freshness.warn_after is '1 month'",
    ),
    ({"entities": ["a"], "freshness": {"error_after": 3}}, "meta.feature_view.freshness.error_after is"),
    ({"entities": ["a"], "freshness": {"error_after": {}}}, "or {count: 12, period: hour}"),
    ({"entities": ["a"], "freshness": {"error_after": {"count": 12}}}, "or {count: 12, period: hour}"),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": "12", "period": "hour"}}},
        "or {count: 12, period: hour}",
    ),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": True, "period": "hour"}}},
        "or {count: 12, period: hour}",
    ),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": 1.5, "period": "hour"}}},
        "or {count: 12, period: hour}",
    ),
    ({"entities": ["a"], "freshness": {"error_after": {"count": 12, "period": None}}}, "or {count: 12, period: hour}"),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": 1, "period": "hour", "x": 1}}},
        "or {count: 12, period: hour}",
    ),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": 0, "period": "hour"}}},
        "error_after is '0 hour', which is not a duration",
    ),
    (
        {"entities": ["a"], "freshness": {"error_after": {"count": 1, "period": "month"}}},
        "error_after is '1 month', which is not a duration",
    ),
    (
        {"entities": ["a"], "freshness": {"warn_after": "3 days", "error_after": {"count": 2, "period": "day"}}},
        "freshness has warn_after 3 days beyond error_after 2 days, so that it would never warn",
    ),
    ({"entities": ["a"], "online": "yes"}, "`online` is"),
    ({"entities": ["a"], "online": 1}, "`online` is 1"),
    ({"entities": ["a"], "online": None}, "`online` is None"),
    ({"entities": ["a"], "tags": None}, "`tags` is None"),
    ({"entities": ["a"], "tags": ["growth"]}, "`tags` is ['growth']"),
    ({"entities": ["a"], "tags": "growth"}, "`tags` is"),
]


@pytest.fixture(scope="module")
def macros() -> MacroRenderer:
    """The package's own macro files, rendered without a project."""
    return MacroRenderer({"metadata": {"adapter_type": "duckdb"}, "nodes": {}, "macros": {}}, lambda relation: [])


def duration_macro(macros: MacroRenderer, text: Any) -> dict[str, Any]:
    return macros._macro("feature_store", "_duration")(text, "ttl")


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_a_whole_number_and_a_unit(macros: MacroRenderer, text: str, seconds: int) -> None:
    assert parse_duration(text, "ttl") == timedelta(seconds=seconds)
    assert duration_macro(macros, text)["seconds"] == seconds


@pytest.mark.parametrize("text", NO_DURATIONS, ids=repr)
def test_anything_else_is_refused_by_both_with_an_example(macros: MacroRenderer, text: Any) -> None:
    sentence = r"(?s)^ttl is .*which is not a duration: write a whole number above zero and a unit .*'7 days'\.$"
    with pytest.raises(DefinitionError, match=sentence):
        parse_duration(text, "ttl")
    with pytest.raises(InputError, match=sentence):
        duration_macro(macros, text)


# Python asks the macro that stops `dbt compile`, so that one table holds for both.


@pytest.mark.parametrize("meta", GOOD_META, ids=repr)
def test_a_definition_that_is_right_passes(meta: Any) -> None:
    check_meta("users", meta, "model")


@pytest.mark.parametrize(("meta", "sentence"), BAD_META, ids=lambda part: repr(part)[:60])
def test_a_definition_that_is_wrong_is_refused_with_the_reason(meta: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as error:
        check_meta("users", meta, "model")
    assert str(error.value).startswith("Model 'users': meta.feature_view") and sentence in str(error.value)


def test_a_key_that_is_mistyped_comes_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(DefinitionError, match=r"has no key 'tll' \(did you mean 'ttl'\?\); its keys are entities"):
        check_meta("users", {"entities": ["a"], "tll": "1 day"}, "model")


@pytest.mark.parametrize(
    ("freshness", "warn", "error"),
    [
        ({"warn_after": "36 hours"}, 36 * 3600, None),
        ({"warn_after": {"count": 36, "period": "hour"}, "error_after": "1 week"}, 36 * 3600, 7 * 86400),
        ({"error_after": {"count": 15, "period": "minute"}}, None, 900),
    ],
)
def test_limits_of_freshness_are_the_same_in_both_forms(
    freshness: dict[str, Any], warn: int | None, error: int | None
) -> None:
    assert freshness_limits({"freshness": freshness}, "meta.feature_view") == {
        name: timedelta(seconds=limit) for name, limit in (("warn_after", warn), ("error_after", error)) if limit
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    texts = list(DURATIONS)
    return make_project(
        tmp_path_factory.mktemp("definitions"),
        {
            "models/durations.sql": f"{{% for text in {texts!r} %}}"
            "{{ feature_store._duration(text, 'ttl').seconds }} {% endfor %}"
        },
    )


def test_dbt_reads_the_durations_as_python_does(project: DbtProject) -> None:
    project.dbt("compile")
    assert [int(seconds) for seconds in project.compiled("durations").split()] == list(DURATIONS.values())


def test_dbt_compile_stops_at_a_mistyped_key(project: DbtProject) -> None:
    project.write(
        {
            "models/users.sql": "select 1 as user_id, now() as event_timestamp, 1 as age",
            "models/latest.sql": "{{ feature_store.latest('users') }}",
            "models/users.yml": {
                "models": [
                    {"name": "users", "config": {"meta": {"feature_view": {"entities": ["user_id"], "tll": "1 day"}}}}
                ]
            },
        }
    )
    with pytest.raises(DbtFailed, match=r"Model 'users': meta.feature_view has no key 'tll'; its keys are entities"):
        project.dbt("compile")
