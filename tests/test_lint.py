"""The leakage guard: each rule on a model that breaks it, and beside it one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from materializer import FeatureStore
from materializer.catalog.lint import Finding
from materializer.cli import feature_store
from tests.support.dbt import DbtProject, make_project

EVENTS = "{{ source('raw', 'events') }}"
MODELS = {
    "clock": f"""select user_id, event_timestamp,
  -- now() in a comment
  'now()' as label, date_diff('day', event_timestamp, now()) as age
from {EVENTS}
where event_timestamp > current_timestamp - interval '7 days'""",
    "chance": f"select user_id, event_timestamp, random() as r from {EVENTS}",
    "column_called_now": f'select user_id, event_timestamp, x as "now" from {EVENTS}',
    "following": f"""select user_id, event_timestamp, sum(x) over (
    partition by user_id order by event_timestamp rows between 1 preceding and 1 following
) as s from {EVENTS}""",
    "bucket": f"select user_id, date_trunc('day', event_timestamp) as event_timestamp, sum(x) as s from {EVENTS} group by 1, 2",
    "bucket_cast": f"select user_id, cast(event_timestamp as date) as event_timestamp, sum(x) as s from {EVENTS} group by 1, 2",
    "bucket_end": f"""select user_id, date_trunc('day', event_timestamp) + interval '1 day' as event_timestamp, sum(x) as s
from {EVENTS} group by 1, 2""",
    "mutable": f"""select e.user_id, e.event_timestamp, u.country
from {EVENTS} as e
left join {{{{ ref('stg_users') }}}} as u on u.user_id = e.user_id""",
    "mutable_in_cte": f"""with u as (select * from {{{{ ref('stg_users') }}}}), e as (select * from {EVENTS})
select e.user_id, e.event_timestamp, u.country from e join u using (user_id)""",
    "immutable": f"""select e.user_id, e.event_timestamp, c.country
from {EVENTS} as e left join {{{{ source('raw', 'countries') }}}} as c on c.country = 'x'""",
    "bounded": f"""select e.user_id, e.event_timestamp, u.country
from {EVENTS} as e
left join {{{{ ref('stg_users') }}}} as u on u.user_id = e.user_id and u.valid_from <= e.event_timestamp""",
    "upstream": "select user_id, event_timestamp, days_ago from {{ ref('stg_with_clock') }}",
    "star": f"with a as (select * from {EVENTS}) select * from a",
    "star_of_named": f"with a as (select user_id, event_timestamp, x from {EVENTS}), b as (select * from a) select * from b",
    "no_timestamp": f"select user_id, x from {EVENTS}",
    # The first branch names the columns of a union.
    "no_timestamp_in_union": f"""with both_kinds as (
    select user_id, event_timestamp as at, x + 1 as y from {EVENTS}
    union all select user_id, event_timestamp, x + 2 from {EVENTS}
)
select * from both_kinds""",
    "windows_without_load_time": """{{ feature_store.window_aggregates(
    relation=source('raw', 'events'), entities='user_id', timestamp='event_timestamp',
    aggregates=[{'name': 'n', 'function': 'count'}], windows=['7 days']) }}""",
    "windows": """{{ feature_store.window_aggregates(
    relation=source('raw', 'events'), entities='user_id', timestamp='event_timestamp',
    aggregates=[{'name': 'n', 'function': 'count'}, {'name': 'm', 'function': 'max', 'expression': 'x'},
                {'name': 'd', 'function': 'stddev', 'expression': 'x'}],
    windows=['7 days', '30 days'], created_timestamp='loaded_at') }}""",
}
UPSTREAM = {
    "stg_users": "select * from {{ source('raw', 'users') }}",
    "stg_with_clock": f"select user_id, event_timestamp, date_diff('day', event_timestamp, now()) as days_ago from {EVENTS}",
}
# What each view is reported for, beside `undocumented`.
EXPECTED = {
    "clock": ["clock", "clock"],
    "chance": ["clock"],
    "column_called_now": [],
    "following": ["following"],
    "bucket": ["bucket-start"],
    "bucket_cast": ["bucket-start"],
    "bucket_end": [],
    "mutable": ["mutable-join"],
    "mutable_in_cte": ["mutable-join"],
    "immutable": [],
    "bounded": [],
    "upstream": ["clock"],
    "star": ["select-star"],
    "star_of_named": ["duplicate"],  # of column_called_now
    "no_timestamp": ["missing-timestamp"],
    "no_timestamp_in_union": ["missing-timestamp"],
    "windows_without_load_time": ["load-time"],
    "windows": [],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    tables = [
        {"name": "events", "config": {"loaded_at_field": "loaded_at"}},
        {"name": "users"},
        {"name": "countries", "config": {"meta": {"immutable": True}}},
    ]
    project = make_project(
        tmp_path_factory.mktemp("lint"),
        {
            "models/sources.yml": {"sources": [{"name": "raw", "schema": "main", "tables": tables}]},
            **{f"models/{name}.sql": sql for name, sql in (MODELS | UPSTREAM).items()},
            "models/views.yml": {
                "models": [
                    {
                        "name": name,
                        "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
                        "columns": [{"name": "s", "data_type": "bigint"}] if name == "following" else [],
                    }
                    for name in MODELS
                ]
            },
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table events as select 1::bigint user_id, now() event_timestamp, now() loaded_at, 1 x;"
            "create table users as select 1::bigint user_id, 'x' country, now() valid_from;"
            "create table countries as select 'x' country"
        )
    project.dbt("compile")
    return project


@pytest.fixture(scope="module")
def findings(project: DbtProject) -> list[Finding]:
    return FeatureStore(project_dir=project.folder).lint()


@pytest.mark.parametrize("view", MODELS)
def test_each_view_is_reported_for_what_it_does_and_nothing_else(view: str, findings: list[Finding]) -> None:
    assert [f.rule for f in findings if f.view == view and f.rule != "undocumented"] == EXPECTED[view]


@pytest.mark.parametrize(
    ("view", "text"),
    [("clock", "now())"), ("following", "following"), ("bucket", "date_trunc"), ("mutable", "stg_users"),
     ("upstream", "now("), ("windows_without_load_time", "window_aggregates")],
)  # fmt: skip
def test_a_finding_points_at_the_word_in_the_models_own_file(
    view: str, text: str, project: DbtProject, findings: list[Finding]
) -> None:
    finding = next(f for f in findings if f.view == view and f.rule != "undocumented")
    line = (project.folder / finding.file).read_text().splitlines()[finding.line - 1]
    assert finding.file.startswith("models/")
    assert line[finding.column - 1 :].startswith(text)


def test_a_feature_without_description_is_reported_where_it_is_declared(
    project: DbtProject, findings: list[Finding]
) -> None:
    (finding,) = [f for f in findings if f.view == "following" and f.rule == "undocumented"]
    assert finding.severity == "warning"
    assert "no description" in finding.message and "data_type" not in finding.message
    assert "name: s" in (project.folder / finding.file).read_text().splitlines()[finding.line - 1]


def test_errors_make_the_command_exit_with_1_and_warnings_do_not(project: DbtProject) -> None:
    def run(view: str) -> tuple[int, list[dict[str, object]]]:
        result = CliRunner().invoke(
            feature_store, ["lint", view, "--project-dir", str(project.folder), "--output", "json"]
        )
        return result.exit_code, json.loads(result.stdout)["findings"]

    code, found = run("bucket")
    assert code == 1 and {"rule", "severity", "view", "file", "line", "column", "message"} == set(found[0])
    code, found = run("star")
    assert code == 0 and found


def test_sql_that_cannot_be_read_is_an_error_not_a_silence(project: DbtProject, tmp_path: Path) -> None:
    from materializer.project.graph import Graph
    from materializer.sql.leakage import check_model

    manifest = project.manifest()
    model = {**manifest["nodes"]["model.shop.star"], "compiled_code": "select from where (("}
    (spot,), _ = check_model(model, Graph(manifest))
    assert (spot.rule, spot.severity) == ("unparsable", "error")
