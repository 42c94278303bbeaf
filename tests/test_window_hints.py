"""`doctor` says where windows hold so few events, or so many, that the other shape of their SQL does better."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import run
from tests.support.dbt import DbtProject, make_project
from tests.support.shop import change_warehouse

EVENTS = (
    "create or replace table {0} as select i % {1} as user_id, timestamp '2026-01-01' + to_minutes(cast(i % 50000 as bigint)) as happened_at,"
    " i as amount from range({2}) as numbers (i)"
)


def _call(then: str = "", name: str = "few") -> str:
    count = "[{'name': 'n', 'function': 'count'}, {'name': 'spent', 'function': 'sum', 'expression': 'amount'}]"
    return f"{{{{ feature_store.window_aggregates(source('raw', '{name}'), 'user_id', 'happened_at', {count}, ['1 hour', '30 days'], {then}) }}}}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    files = {
        "models/raw.yml": {
            "sources": [{"name": "raw", "schema": "main", "tables": [{"name": n} for n in ("few", "many")]}]
        },
        "models/many_dense.sql": _call(name="many"),
        "models/many_range.sql": _call("shape='range'", "many"),
        "models/few_dense.sql": _call("grain='event'"),
        "models/few_range.sql": _call("shape='range'"),
        "models/few_grows.sql": "{{ config(materialized='incremental', incremental_strategy='delete+insert',"
        " unique_key=['user_id', 'event_timestamp']) }}\n" + _call(),
        "models/of_labels.sql": (
            "with labels as (select 1 as user_id, timestamp '2026-01-02' as event_timestamp)\n"
            "select * from (\n{{ feature_store.aggregate_as_of('labels', source('raw', 'few'), 'user_id', 'happened_at',"
            " [{'name': 'n', 'function': 'count'}], '2 days', allow_exact_matches=false) | indent(4) }}\n)"
        ),
    }
    project = make_project(tmp_path_factory.mktemp("hints"), files)
    change_warehouse(project, EVENTS.format("few", 10, 100), EVENTS.format("many", 10, 100_000))
    project.dbt("run", "--select", "few_grows", "few_dense")
    project.dbt("compile")
    return project


def _hints(project: DbtProject, tmp_path: Path) -> dict[str, str]:
    ran = run(
        "feature-store",
        "doctor",
        "--project-dir",
        str(project.folder),
        "--output",
        "json",
        "--redis-url",
        "redis://127.0.0.1:1",
    )
    found = [check for check in ran.json["checks"] if check["check"].startswith("windows of ")]
    assert all(check["ok"] and check["warning"] for check in found)
    return {check["check"].removeprefix("windows of "): check["message"] for check in found}


def test_a_small_table_gets_no_hint_but_for_a_crowded_range_join(project: DbtProject, tmp_path: Path) -> None:
    assert _hints(project, tmp_path) == {
        "many_range": "its longest window holds about 8,642 events, and shape='range' joins each moment with all of them: leave it out"
    }


def test_many_sparse_events_get_one_wherever_the_call_stands(project: DbtProject, tmp_path: Path) -> None:
    change_warehouse(project, EVENTS.format("few", 400_000, 1_000_000))
    hints = _hints(project, tmp_path)
    assert sorted(hints) == ["few_dense", "few_grows", "many_range", "of_labels"]
    assert hints["few_dense"].startswith("its longest window holds about 3 events, and there are 1,000,000 events: ")
    change_warehouse(project, "drop table few")
    assert sorted(_hints(project, tmp_path)) == ["many_range"]
