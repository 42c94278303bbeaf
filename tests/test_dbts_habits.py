"""What dbt resolves in a real project, the store resolves as dbt does: versions, schemas, macros, vars, partial runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from materializer import DefinitionError, FeatureStore, InputError, NotFoundError, ProjectError
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of, make_project

ROW = "select 1 as user_id, timestamp '2026-01-01' as event_timestamp, {} as v"
SPINE = "select 1 as user_id, timestamptz '2026-03-01 00:00:00+00' as event_timestamp"


def view(**meta: Any) -> dict[str, Any]:
    return {"meta": {"feature_view": {"entities": ["user_id"], **meta}}}


def service(name: str, *features: str) -> dict[str, Any]:
    return {"name": name, "type": "ml", "owner": {"name": "x"}, "config": {"meta": {"features": list(features)}}}


MACROS = """
{% macro generate_schema_name(custom, node) %}
    {%- if node.fqn | length > 2 -%}{{ target.name }}_{{ node.fqn[1] }}{%- else -%}{{ target.schema }}{%- endif -%}
{% endmacro %}
{% macro clock() %}{{ var('clock') }} + interval {{ var('days') }} day{% endmacro %}
{% macro default___now() %}a dialect comes before{% endmacro %}
{% macro duckdb___now() %}{{ shop.clock() }} /* {{ clock() }} {{ target.name }} {{ env_var('NO_SUCH', 'none') }} {{ var('note', 'no note') }} {{ modules.re.sub('a', 'b', 'aa') }} {{ tojson([1]) }} */{% endmacro %}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = make_project(
        tmp_path_factory.mktemp("habits"),
        {
            "seeds/plans.csv": "user_id,event_timestamp,plan\n1,2026-01-01,a\n2,2026-01-02,b\n",
            "seeds/plans.yml": {
                "seeds": [{"name": "plans", "config": {**view(), "column_types": {"event_timestamp": "timestamp"}}}]
            },
            "snapshots/history.yml": {
                "snapshots": [
                    {
                        "name": "history",
                        "relation": "ref('people')",
                        "config": {
                            "unique_key": "user_id",
                            "strategy": "timestamp",
                            "updated_at": "changed_at",
                            **view(timestamp="dbt_valid_from"),
                        },
                    }
                ]
            },
            "models/people.sql": "select 1 as user_id, 'Oslo' as city, timestamp '2026-01-05' as changed_at",
            "models/users_golden.sql": ROW.format(5),
            "models/users_half.sql": ROW.format(6),
            "models/users_dated.sql": ROW.format(7),
            "models/clicks.v2.sql": ROW.format(9),
            "models/marts/steps.sql": "{{ config(materialized='incremental', unique_key='user_id') }}\n"
            + ROW.format(10)
            + "{% if is_incremental() %} where true {% endif %}",
            "models/latest.sql": "{{ feature_store.latest('steps') }}",
            "models/views.yml": {
                "models": [
                    {
                        "name": "users",
                        "latest_version": "golden",
                        "config": view(),
                        "versions": [
                            {"v": "golden", "defined_in": "users_golden"},
                            {"v": 1.5, "defined_in": "users_half"},
                            {
                                "v": "2024-01",
                                "defined_in": "users_dated",
                                "config": {"meta": {"feature_view": {"ttl": "3 days"}}},
                            },
                        ],
                    },
                    {"name": "clicks.v2", "config": view()},
                    {"name": "steps", "config": view()},
                ],
                "exposures": [
                    service("right", "steps:v", "plans:plan"),
                    service("no_view", "step:v"),
                    service("no_feature", "steps:vv"),
                ],
            },
            "macros/own.sql": MACROS,
        },
        {"days": 1, "note": "of all", "shop": {"clock": "timestamp '2026-06-0{{ 1 }}'", "days": 2}},
    )
    project.dbt("build", "--exclude", "package:feature_store")
    return project


@pytest.fixture
def project(built: DbtProject, tmp_path: Path) -> DbtProject:
    """A copy of the project as it was built, to be changed."""
    return copy_of(built, tmp_path / "shop")


# Names and kinds.

VALUES = {
    "users:v": 5,
    "users.vgolden:v": 5,
    "users.v1.5:v": 6,
    "users.v2024-01:v": None,  # its ttl is over
    "clicks.v2:v": 9,
    "steps:v": 10,
    "plans:plan": "a",
    "history:city": "Oslo",
}


def test_views_of_any_name_version_and_kind_are_listed(built: DbtProject) -> None:
    views = {view.reference: view for view in FeatureStore(built.folder).list_feature_views()}
    assert sorted(views) == [
        "clicks.v2", "history", "plans", "steps", "users.v1.5", "users.v2024-01", "users.vgolden",
    ]  # fmt: skip
    assert (views["users.vgolden"].latest, views["users.v1.5"].latest) == (True, False)
    assert views["history"].timestamp == "dbt_valid_from"


@pytest.mark.parametrize("reference", [name for name in VALUES if "2024-01" not in name])
def test_their_values_are_found_by_that_name(built: DbtProject, reference: str) -> None:
    found = FeatureStore(built.folder).get_historical_features(SPINE, [reference]).to_arrow()
    assert found.column(reference.split(":")[1]).to_pylist() == [VALUES[reference]]


def test_a_source_is_no_feature_view(project: DbtProject) -> None:
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    source = {"resource_type": "source", "source_name": "raw", "name": "events", "config": view()}
    manifest["sources"]["source.shop.raw.events"] = source
    path.write_text(json.dumps(manifest))
    sentence = "Source 'raw.events' says meta.feature_view, but a feature view is what dbt builds: select from it in a"
    with pytest.raises(InputError, match=sentence):  # the macro's own, which stops dbt
        MacroRenderer(manifest, lambda relation: []).render("latest", "steps")
    with pytest.raises(DefinitionError, match=sentence):
        FeatureStore(project.folder).list_feature_views()


# Services.


def test_a_service_that_names_what_there_is_not_stops_nothing_else(built: DbtProject) -> None:
    store = FeatureStore(built.folder)
    assert [service.name for service in store.list_feature_services()] == ["no_feature", "right"]
    assert set(read_registry(load_manifest(store.project)).broken) == {"no_view"}
    sentence = (
        r"Exposure 'no_view' names 'step:v', but there is no feature view 'step' \(did you mean 'steps'\?\); there"
    )
    for ask in (store.get_feature_service, lambda name: store.get_historical_features(SPINE, name)):
        with pytest.raises(DefinitionError, match=sentence):
            ask("no_view")
    assert store.get_historical_features(SPINE, "right").to_arrow().num_rows == 1


@pytest.mark.parametrize("command", ["lint", "doctor"])
def test_lint_and_doctor_name_it(built: DbtProject, command: str) -> None:
    said = run("feature-store", command, "--project-dir", str(built.folder), "--redis-url", "redis://127.0.0.1:1")
    assert said.code == 1
    assert "Exposure 'no_view' names 'step:v', but there is no feature view 'step'" in said.out
    wrong = "Exposure 'no_feature' names 'steps:vv', but feature view 'steps' has no feature 'vv' (it has: v)."
    assert wrong in said.out
    assert "'right'" not in said.out


# The package's macros, as the project changes them.


def rendered(project: DbtProject, variables: dict[str, Any] | None = None) -> str:
    settings = load_project(project.folder, variables=variables)
    with open_warehouse(settings) as warehouse:
        return MacroRenderer(load_manifest(settings), warehouse.columns).render("latest", "steps")


def test_the_projects_own_macros_and_vars_count_as_for_dbt(project: DbtProject) -> None:
    expected = project.compiled("latest").strip()
    assert "timestamp '2026-06-01' + interval 2 day /* timestamp" in expected
    assert "of all" in expected
    assert rendered(project) == expected
    assert rendered(project, {"days": 5}) == expected.replace("interval 2 day", "interval 5 day")


def test_the_order_of_dispatch_counts_as_for_dbt(project: DbtProject) -> None:
    config = yaml.safe_load((project.folder / "dbt_project.yml").read_text())

    def order(*packages: str) -> None:
        config["dispatch"] = [{"macro_namespace": "feature_store", "search_order": list(packages)}]
        project.write({"dbt_project.yml": config})

    order("feature_store")
    project.dbt("compile", "--select", "latest")
    expected = project.compiled("latest").strip()
    assert "interval 2 day" not in expected
    assert rendered(project) == expected
    order("feature_store", "shop")
    assert rendered(project) == expected
    order("no_such_package", "shop", "feature_store")
    assert "interval 2 day" in rendered(project)
    order("no_such_package")
    with pytest.raises(NotFoundError, match="has no macro '_columns_of_relation' for duckdb"):
        rendered(project)


@pytest.mark.parametrize(
    ("uses", "named"),
    [
        ("{{ this }}", "this"),
        ("{{ config.get('x') }}", "config.get"),
        ("{{ adapter.get_relation('a', 'b', 'c') }}", "adapter.get_relation"),
        ("{{ invocation_id }}", "invocation_id"),
        ("{{ run_started_at.date() }}", "run_started_at.date"),
        ("{% if flags.FULL_REFRESH %}x{% endif %}", "flags.FULL_REFRESH"),
    ],
)
def test_what_only_dbt_has_is_refused_by_name(project: DbtProject, uses: str, named: str) -> None:
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    macro = manifest["macros"]["macro.shop.duckdb___now"]
    macro["macro_sql"] = "{% macro duckdb___now() %}" + uses + "{% endmacro %}"
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"A macro of the dbt project uses `{named}`, which only dbt has"):
        rendered(project)


# Where the models are.


def two_targets(project: DbtProject, **prod: Any) -> None:
    profile = yaml.safe_load((project.folder / "profiles.yml").read_text())
    outputs = profile["shop"]["outputs"]
    outputs["prod"] = {**outputs["dev"], **prod}
    (project.folder / "profiles.yml").write_text(yaml.safe_dump(profile))


def test_a_schema_by_the_projects_own_rule_is_right_and_another_targets_is_refused(project: DbtProject) -> None:
    two_targets(project)
    (project.folder / "target" / "run_results.json").unlink()
    assert FeatureStore(project.folder).get_feature_view("steps").relation.endswith('"dev_marts"."steps"')
    sentence = (
        r"it has steps in warehouse\.dev_marts, but target 'prod' is warehouse\.prod_marts\. Run `dbt build --target"
    )
    with pytest.raises(ProjectError, match=sentence):
        FeatureStore(project.folder, target="prod").list_feature_views()


def test_a_schema_that_only_dbt_can_tell_is_taken_as_it_is(project: DbtProject) -> None:
    """Here a variable of the run that is not set any more; what the run itself says of its target counts."""
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    rule = "{% macro generate_schema_name(custom, node) %}{{ env_var('PULL_REQUEST') }}{% endmacro %}"
    manifest["macros"]["macro.shop.generate_schema_name"]["macro_sql"] = rule
    for node in manifest["nodes"].values():
        node["schema"] = "pr_7"
    path.write_text(json.dumps(manifest))
    assert FeatureStore(project.folder).list_feature_services()
    (project.folder / "target" / "run_results.json").unlink()
    assert FeatureStore(project.folder).list_feature_services()


def test_what_the_run_says_of_its_target_counts(project: DbtProject) -> None:
    two_targets(project, schema="other")
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    for node in manifest["nodes"].values():
        node["schema"] = "moved"
    path.write_text(json.dumps(manifest))
    assert FeatureStore(project.folder).list_feature_services()
    with pytest.raises(ProjectError, match="made for another target"):
        FeatureStore(project.folder, target="prod").list_feature_services()


# What dbt reads.


def later(path: Path, content: str | None) -> None:
    """A file that is newer than the manifest; without content a link to nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.symlink_to("/nowhere/at/all")
        return
    path.write_text(content)
    os.utime(path, (4e9, 4e9))


FILES: list[tuple[str, str | None]] = [
    ("models/.#steps.sql", None),
    ("models/.#views.yml", None),
    ("models/gone.sql", None),
    ("models/#steps.sql#", "select"),
    ("models/~steps.sql", "select"),
    ("models/steps.sql~", "select"),
    ("models/.hidden.sql", "select 1"),
    ("models/empty.sql", " \n"),
    ("models/notes.md", "x"),
    ("models/drafts/new.sql", "select 1"),
    ("models/drafts/more/new.yml", "models: [{name: new, config: {meta: {feature_view: {entities: [x]}}}}]"),
    ("models/scratch_1.sql", "select 1"),
    ("analyses/new.sql", "select 1"),
    ("seeds/other.csv", "a\n1\n"),
]


@pytest.mark.parametrize(("name", "content"), FILES)
def test_a_file_that_dbt_passes_over_makes_no_manifest_old(project: DbtProject, name: str, content: str | None) -> None:
    (project.folder / ".dbtignore").write_text("# ours\nmodels/drafts/\n**/scratch_*.sql\n")
    later(project.folder / name, content)
    assert len(FeatureStore(project.folder).list_feature_views()) == 7


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("models/views.yml", lambda text: text + "\n# more"),
        ("models/views.yml", lambda text: text.replace("3 days", "'{{ var(1) }}'")),
        ("models/people.sql", lambda text: "\n" + text + "\n\n"),
        ("seeds/plans.yml", lambda text: "# " + "x\n" + text),
    ],
)
def test_a_file_that_says_the_same_makes_no_manifest_old(
    project: DbtProject, name: str, change: Callable[[str], str]
) -> None:
    later(project.folder / name, change((project.folder / name).read_text()))
    assert FeatureStore(project.folder).list_feature_views()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("models/views.yml", lambda text: text.replace("3 days", "4 days")),
        ("models/views.yml", lambda text: text.replace("step:v", "steps:v")),
        ("models/views.yml", lambda text: text.replace("v: golden", "v: silver")),
        ("seeds/plans.yml", lambda text: text.replace("user_id", "id")),
        ("snapshots/history.yml", lambda text: text.replace("dbt_valid_from", "dbt_updated_at")),
        ("models/people.sql", lambda text: text.replace("Oslo", "Bergen")),
        ("models/new.sql", lambda text: "select 1 as x"),
        ("models/!new.sql", lambda text: "select 1 as x"),
    ],
)
def test_a_file_that_says_something_else_does(project: DbtProject, name: str, change: Callable[[str], str]) -> None:
    path = project.folder / name
    before = path.read_text() if path.exists() else ""
    assert change(before) != before
    later(path, change(before))
    with pytest.raises(ProjectError, match=f"The manifest is older than the models \\({name} has changed since\\)"):
        FeatureStore(project.folder).list_feature_views()


# Runs of a part of it.


def test_after_a_run_of_one_model_everything_still_works(project: DbtProject) -> None:
    before = FeatureStore(project.folder).lint()
    project.dbt("run", "--select", "people")
    assert not project.manifest()["nodes"]["model.shop.steps"].get("compiled_code")
    store = FeatureStore(project.folder)
    assert store.lint() == before
    (lineage,) = store.get_lineage("steps:v")
    assert not lineage.unresolved
    assert store.get_statistics("steps").features


def test_what_was_never_compiled_is_compiled_by_itself(project: DbtProject) -> None:
    before = FeatureStore(project.folder).lint()
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    for node in manifest["nodes"].values():
        node["compiled_code"] = None
    path.write_text(json.dumps(manifest))
    shutil.rmtree(project.folder / "target" / "compiled")
    found = FeatureStore(project.folder).lint()
    assert [finding.message for finding in found] == [finding.message for finding in before]
    assert not (project.folder / "target" / "compiled").exists()


def test_a_definition_is_what_was_written_not_how_dbt_ran_it(project: DbtProject, tmp_path: Path) -> None:
    store = FeatureStore(project.folder)
    store.save_training_set(tmp_path / "d.parquet", SPINE, ["steps:v"])
    before = project.manifest()["nodes"]["model.shop.steps"]["compiled_code"]
    project.dbt("compile", "--select", "steps")
    assert project.manifest()["nodes"]["model.shop.steps"]["compiled_code"] != before
    repeated = store.repeat_training_set(tmp_path / "d.parquet.json", tmp_path / "again.parquet")
    assert (repeated.same, repeated.changes) == (True, ())
    steps = project.folder / "models" / "marts" / "steps.sql"
    steps.write_text(steps.read_text().replace("10", "11"))
    project.dbt("parse")
    repeated = store.repeat_training_set(tmp_path / "d.parquet.json", tmp_path / "a.parquet", allow_changes=True)
    assert "the definition of feature view 'steps' has changed" in repeated.changes
