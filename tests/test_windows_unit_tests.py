"""dbt unit tests of models that call the window macros: rows in, rows out, with nothing read from the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import yaml

from tests.support.dbt import make_project

MODELS: dict[str, Any] = {
    "models/raw.yml": {"sources": [{"name": "raw", "tables": [{"name": "events"}]}]},
    "models/purchases.sql": "select * from {{ source('raw', 'events') }}",
    "models/labels.sql": "select user_id, happened_at as event_timestamp from {{ source('raw', 'events') }}",
    "models/bought.sql": (
        "{{ feature_store.window_aggregates(ref('purchases'), 'user_id', 'happened_at',"
        " [{'name': 'n', 'function': 'count'}, {'name': 'spent', 'function': 'sum', 'expression': 'amount'}], '7 days') }}"
    ),
    "models/training.sql": (
        "{{ feature_store.aggregate_as_of(ref('labels'), ref('purchases'), 'user_id', 'happened_at',"
        " [{'name': 'n', 'function': 'count'}, {'name': 'last', 'function': 'last', 'expression': 'amount'}], ['7 days'],"
        " created_timestamp='loaded_at') }}"
    ),
}
UNIT_TESTS = yaml.safe_load("""
unit_tests:
  - name: a_purchase_counts_for_seven_days_to_the_microsecond
    model: bought
    given:
      - input: ref('purchases')
        rows:
          - {user_id: 1, happened_at: 2024-01-01 00:00:00, amount: 5}
          - {user_id: 1, happened_at: 2024-01-01 00:00:00, amount: 7}
          - {user_id: 1, happened_at: 2024-01-08 00:00:00, amount: 1}
          - {user_id: null, happened_at: 2024-01-08 00:00:00, amount: 1}
    expect:
      rows:
        - {user_id: 1, event_timestamp: 2024-01-01 00:00:00, n_7d: 2, spent_7d: 12}
        - {user_id: 1, event_timestamp: 2024-01-08 00:00:00, n_7d: 1, spent_7d: 1}
        - {user_id: 1, event_timestamp: 2024-01-15 00:00:00, n_7d: 0, spent_7d: null}
  - name: a_purchase_loaded_late_counts_from_then_on
    model: training
    given:
      - input: ref('purchases')
        rows:
          - {user_id: 1, happened_at: 2024-01-01 00:00:00, loaded_at: 2024-01-02 00:00:00, amount: 5}
          - {user_id: 1, happened_at: 2024-01-01 12:00:00, loaded_at: null, amount: 6}
          - {user_id: 1, happened_at: 2024-01-02 00:00:00, loaded_at: 2024-01-10 00:00:00, amount: 7}
      - input: ref('labels')
        rows:
          - {user_id: 1, event_timestamp: 2024-01-01 23:59:59}
          - {user_id: 1, event_timestamp: 2024-01-02 00:00:00}
          - {user_id: 2, event_timestamp: 2024-01-02 00:00:00}
          - {user_id: 1, event_timestamp: 2024-01-10 00:00:00}
    expect:
      rows:
        - {user_id: 1, event_timestamp: 2024-01-01 23:59:59, n_7d: 0, last_7d: null}
        - {user_id: 1, event_timestamp: 2024-01-02 00:00:00, n_7d: 1, last_7d: 5}
        - {user_id: 2, event_timestamp: 2024-01-02 00:00:00, n_7d: 0, last_7d: null}
        - {user_id: 1, event_timestamp: 2024-01-10 00:00:00, n_7d: 0, last_7d: null}
""")


def test_models_that_call_the_window_macros_can_be_unit_tested(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.events (user_id int, happened_at timestamp, loaded_at timestamp, amount int)"
        )
    project = make_project(tmp_path, {**MODELS, "models/unit_tests.yml": UNIT_TESTS})
    result = project.dbt("build").result
    passed = [run.node.name for run in result if run.node.resource_type == "unit_test" and run.status == "pass"]
    assert len(passed) == 2


def test_events_may_be_a_subquery_of_several_joined_relations(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.events as select 1 as user_id, timestamptz '2024-01-01 00:00+00' as happened_at, 3 as item"
        )
        connection.execute("create table raw.items as select 3 as item, 9.5 as price")
    joined = "(select * from raw.events join raw.items using (item))"
    arguments = f"\"{joined}\", 'user_id', 'happened_at', [{{'name': 'spent', 'function': 'sum', 'expression': 'price'}}], '1 day'"
    project = make_project(
        tmp_path,
        {
            "models/view.sql": f"{{{{ feature_store.window_aggregates({arguments}) }}}}",
            "models/spine.sql": (
                "{{ feature_store.aggregate_as_of(\"(select 1 as user_id, timestamp '2024-01-01 12:00' as event_timestamp)\","
                f" {arguments}) }}}}"
            ),
        },
    )
    project.dbt("run")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        assert [row[2] for row in connection.execute("from view order by 2").fetchall()] == [9.5, None]
        assert connection.execute("from spine").fetchall()[0][2] == 9.5


def test_an_overflow_of_a_sum_of_integers_is_an_error_and_nanoseconds_are_cut(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.events as select 1 as user_id, timestamp_ns '2024-01-01 00:00:00.123456789' as happened_at,"
            " 9223372036854775807 as units from range(2)"
        )
    text = "{{ feature_store.window_aggregates(source('raw', 'events'), 'user_id', 'happened_at', [{'name': 'units', 'function': %r, 'expression': 'units'}], '1 day') }}"
    files: dict[str, Any] = {
        "models/raw.yml": {"sources": [{"name": "raw", "tables": [{"name": "events"}]}]},
        "models/maximum.sql": text % "max",
    }
    project = make_project(tmp_path, files)
    project.dbt("run")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        moments = [
            row[0]
            for row in connection.execute("select cast(event_timestamp as text) from maximum order by 1").fetchall()
        ]
    assert moments == ["2024-01-01 00:00:00.123456", "2024-01-02 00:00:00.123456"]
    project.write({"models/total.sql": text % "sum"})
    project.dbt("compile")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        try:
            connection.execute(project.compiled("total")).fetchall()
        except duckdb.ConversionException:
            return
    raise AssertionError("the sum does not fit into a bigint, and nobody said so")
