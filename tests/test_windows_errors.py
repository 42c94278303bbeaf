"""What the window macros refuse: compile stops with one sentence that says what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.dbt import DbtFailed, DbtProject, make_project

COUNT = [{"name": "n", "function": "count"}]


def call(**changes: Any) -> str:
    arguments = {
        "entities": "'user_id'",
        "timestamp": "'happened_at'",
        "aggregates": repr(COUNT),
        "windows": "['7 days']",
        **changes,
    }
    config = arguments.pop("config", "")
    relation = arguments.pop("relation", "source('raw', 'events')")
    written = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return f"{config}{{{{ feature_store.window_aggregates({relation}, {written}) }}}}"


def aggregate(**of: Any) -> str:
    return repr([{"name": "n", **of}])


CASES = {
    "an unknown function": (
        call(aggregates=aggregate(function="median", expression="amount")),
        "aggregate 'n' has the unknown function 'median'; the functions are count, count_distinct, sum,",
    ),
    "no function": (call(aggregates=aggregate()), "aggregate 'n' has no function; the functions are count,"),
    "no name": (call(aggregates="[{'function': 'count'}]"), "aggregate 1 has no name"),
    "a key that is mistyped": (
        call(aggregates=aggregate(function="sum", expresion="amount", expression="amount")),
        "has the unknown key 'expresion'; its keys are name, function, expression and where",
    ),
    "no expression": (
        call(aggregates=aggregate(function="sum")),
        "aggregate 'n' has no expression; sum needs one, only count can go without",
    ),
    "no aggregates": (call(aggregates="[]"), "aggregates is empty or not a list"),
    "a name twice": (
        call(aggregates=repr([*COUNT, {"name": "N", "function": "count"}])),
        "aggregate 'N' stands twice; give each aggregate a name of its own",
    ),
    "a name that meets a key": (
        call(entities="'amount_7d'", aggregates=repr([{"name": "amount", "function": "count"}]), relation="'raw.text'"),
        "two columns would be called 'amount_7d'; give each aggregate a name of its own",
    ),
    "a malformed duration": (call(windows="['7 dayz']"), "is '7 dayz', which is not a duration: write a whole number"),
    "a window of nothing": (call(windows="['0 days']"), "is '0 days', which is not a duration"),
    "a negative window": (call(windows="['-7 days']"), "is '-7 days', which is not a duration"),
    "no windows": (call(windows="[]"), "list one or more durations, for example ['7 days', '30 days']"),
    "a window twice": (call(windows="['7 days', '7 day']"), "the window '7 days' stands twice"),
    "a key column that is not there": (
        call(entities="['user_id', 'nobody']"),
        'there is no column \'nobody\' in "warehouse"."raw"."events"; it has: user_id, happened_at, loaded_at, amount',
    ),
    "a time column that is not there": (call(timestamp="'noon'"), "there is no column 'noon'"),
    "a load time that is not there": (call(created_timestamp="'noon'"), "there is no column 'noon'"),
    "an expression column that is not there": (
        call(aggregates=aggregate(function="sum", expression="amuont")),
        "aggregate 'n': there is no column 'amuont' in",
    ),
    "no entities": (call(entities="[]"), "entities is []; give one column name, or a list of different ones"),
    "an entity twice": (call(entities="['user_id', 'user_id']"), "a list of different ones"),
    "an unknown grain": (call(grain="'daily'"), "grain is 'daily'; it is 'change', 'event' or"),
    "a step that is no duration": (call(grain="{'every': 'day'}"), "the step of grain 'every' is 'day', which is not"),
    "a window shorter than the step": (
        call(grain="'every 2 weeks'"),
        "the window '7 days' is shorter than the step '2 weeks', so events between two steps would be lost",
    ),
    "an unknown shape": (call(shape="'round'"), "shape is 'round'; it is 'dense', 'range', or left out"),
    "a ttl shorter than the longest window": (
        call(config="{{ config(meta={'feature_view': {'entities': ['user_id'], 'ttl': '6 days'}}) }}"),
        "the ttl '6 days' is shorter than the longest window '7 days', so true values would be hidden",
    ),
    "microbatch with grain change": (
        call(
            config="{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_timestamp',"
            " begin='2024-01-01', batch_size='day') }}"
        ),
        "a view of grain 'change' holds rows that are not due yet, which microbatch would drop",
    ),
    "incremental without its key": (
        call(config="{{ config(materialized='incremental', unique_key='user_id') }}"),
        "an incremental view needs incremental_strategy='delete+insert' (or 'merge') and unique_key=['user_id', 'event_timestamp']",
    ),
    "a spine without the key": (
        "{{ feature_store.aggregate_as_of(\"(select now() as event_timestamp)\", source('raw', 'events'), 'user_id',"
        " 'happened_at', [{'name': 'n', 'function': 'count'}], 7) }}",
        "windows is 7; list one or more durations",
    ),
    "a spine column of that name": (
        "{{ feature_store.aggregate_as_of(source('raw', 'labels'), source('raw', 'events'), 'user_id', 'happened_at',"
        " [{'name': 'n', 'function': 'count'}], '7 days') }}",
        "the spine already has a column 'n_7d'; rename it there, or the aggregate",
    ),
    "a spine time that is not there": (
        "{{ feature_store.aggregate_as_of(source('raw', 'labels'), source('raw', 'events'), 'user_id', 'happened_at',"
        " [{'name': 'm', 'function': 'count'}], '7 days', spine_timestamp='noon') }}",
        "The spine has no column 'noon'",
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    folder: Path = tmp_path_factory.mktemp("errors")
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.events (user_id int, happened_at timestamp, loaded_at timestamp, amount int)"
        )
        connection.execute("create table raw.labels (user_id int, event_timestamp timestamp, n_7d int)")
    sources = {"sources": [{"name": "raw", "tables": [{"name": "events"}, {"name": "labels"}]}]}
    return make_project(folder, {"models/raw.yml": sources})


@pytest.mark.parametrize("case", CASES)
def test_compile_stops_with_one_sentence(project: DbtProject, case: str) -> None:
    model, sentence = CASES[case]
    project.write({"models/view.sql": model})
    with pytest.raises(DbtFailed) as failure:
        project.dbt("compile")
    assert sentence in str(failure.value)


@pytest.mark.parametrize("grain", ["{'every': '1 day'}", "\"every: '1 day'\"", "'every: 1 day'", "'every 1 day'"])
def test_the_step_can_be_written_in_any_of_four_ways(project: DbtProject, grain: str) -> None:
    project.write({"models/view.sql": call(grain=grain)})
    project.dbt("compile")
    assert "time_bucket(interval '1 day'" in project.compiled("view")


def test_the_shape_stands_in_the_first_line_and_is_what_the_user_says(project: DbtProject) -> None:
    dense = "-- shape dense: what a window costs does not depend on how many events it holds\n"
    joined = "-- shape range: each moment is joined with the events of its longest window\n"
    for shape, line in (("none", dense), ("'dense'", dense), ("'range'", joined)):
        project.write({"models/view.sql": call(grain="'every 1 day'", shape=shape)})
        project.dbt("compile")
        assert project.compiled("view").startswith(line)
        assert ("left join _fs_events as event" in project.compiled("view")) == (line == joined)
