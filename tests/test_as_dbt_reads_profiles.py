"""Profile, target and project are found and rendered as dbt finds and renders them: dbt itself is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import jinja2
import pytest
import yaml

from materializer import FeatureStore, ProjectError
from materializer.errors import FeatureStoreError
from materializer.project.profile_jinja import basic_context, render
from materializer.project.settings import database_name, load_project, parse_variables
from tests.support.command import environment, run

ENVIRONMENT = {
    "PR": "0123", "NUMBER": "7", "FLAG": "True", "QUOTED": "'x'", "LIST": "[1, 2]", "EMPTY": "", "JSON": '{"a": [1]}',
    "DBT_ENV_SECRET_PASSWORD": "{{ 7 }}hunter2",
}  # fmt: skip
VARIABLES = {"s": "pr_7", "n": 3, "deep": {"a": [1, 2]}, "flag": False, "none": None}
# Whatever may stand in a profile: templates of every kind, filters, types of YAML.
TEMPLATES: list[Any] = [
    "plain", "0123", 123, 1.5, True, None, "", "  spaced ", "line\n", "a\nb\n", "{{ env_var('PR') }}",
    "{{ env_var('PR') | as_number }}", "{{ env_var('NUMBER') | as_number }}", "{{ env_var('NUMBER') | int }}",
    "{{ env_var('NUMBER') | as_native }}", "{{ env_var('NUMBER') | as_text }}", "{{ env_var('FLAG') | as_bool }}",
    "{{ env_var('LIST') | as_native }}", "{{ env_var('QUOTED') }}", "{{ env_var('QUOTED') | as_native }}",
    "{{ env_var('EMPTY') }}", "{{ env_var('EMPTY', 'x') }}", "{{ env_var('NOT_SET', 'x') }}", "{{ env_var('NOT_SET') }}",
    "pr_{{ env_var('PR') }}", "{{ env_var('PR') }}{{ env_var('NUMBER') }}", "{% if env_var('FLAG') == 'True' %}a{% else %}b{% endif %}",
    "{% if env_var('NOT_SET', '') %}a{% else %}b{% endif %}", "{% set x = 5 %}{{ x }}", "{# a comment #}x", "{{ 1 + 2 }}",
    "{{ [1, 2] }}", "{{ {'a': 1} }}", "{{ none }}", "{{ true }}", "{{ 'a' ~ 1 }}", "{{ var('s') }}", "{{ var('n') }}",
    "{{ var('deep').a[1] }}", "{{ var('none') }}", "{{ var('flag') }}", "{{ var('absent', 'd') }}", "{{ var('absent') }}",
    "{% if var('flag') %}a{% else %}b{% endif %}", "{{ nothing }}", "{{ nothing.at.all }}", "{{ fromjson(env_var('JSON')).a }}",
    "{{ tojson({'b': 1, 'a': 2}) }}", "{{ modules.re.sub('0', 'x', env_var('PR')) }}", "{{ modules.datetime.date(2026, 1, 2) }}",
    "{{ env_var('PR') | upper }}", "{{ env_var('PR')[1:] }}", "{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}",
    "{% do [] %}x", "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}", "a{{ env_var('DBT_ENV_SECRET_PASSWORD') }}b", "{{ set([1]) | list }}",
    "{{ ''.__class__ }}", "{{ 1 / 0 }}", "{{ 'x' | as_number }}", "{{ 'x' | as_bool }}", "{{ zip([1], [2]) | list }}", "{% raw %}{{ x }}{% endraw %}",
    "{{ unclosed", "{{ 'x' | nope }}", ["{{ env_var('PR') }}", 1], {"a": {"b": "{{ env_var('NUMBER') | as_number }}"}},
]  # fmt: skip


def by_dbt(value: Any) -> Any:
    from dbt.config.renderer import ProfileRenderer
    from dbt_common.context import set_invocation_context

    set_invocation_context(dict(os.environ))
    return ProfileRenderer(VARIABLES).render_data({"key": value})["key"]


@pytest.mark.parametrize("value", TEMPLATES, ids=repr)
def test_a_value_is_rendered_as_dbt_renders_it(value: Any) -> None:
    with mock.patch.dict(os.environ, environment(**ENVIRONMENT)):
        try:
            expected = by_dbt(value)
        except Exception:
            expected = FeatureStoreError
        if isinstance(expected, jinja2.Undefined):  # dbt refuses it as a part of a connection
            expected = FeatureStoreError
        try:
            found = render(value, basic_context("profiles.yml", VARIABLES, secrets=True), Path("profiles.yml"))
        except FeatureStoreError as error:
            assert "hunter2" not in str(error)
            found = FeatureStoreError
    assert type(found) is type(expected)
    assert found == expected


PATHS = [
    "w.duckdb", "my.db.duckdb", "/a/user_id=7/w.db", "~/w.duckdb", ".hidden.duckdb", "a/b/c", ":memory:", "md:prod", "md:",
    "md:prod?motherduck_token=x", "ducklake:meta.ducklake", "w",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_database_is_called_as_dbt_calls_it(path: str) -> None:
    from dbt.adapters.duckdb.credentials import DuckDBCredentials

    assert database_name(path) == DuckDBCredentials.path_derived_database_name(path)


NAMES = ("TARGET", "TARGET_PATH", "PROFILES_DIR", "PROFILE", "PROJECT_DIR")
SETTINGS = [
    {},
    *({f"DBT_{name}": "old"} for name in NAMES),
    *({f"DBT_ENGINE_{name}": "new"} for name in NAMES),
    *({f"DBT_ENGINE_{name}": "new", f"DBT_{name}": "old"} for name in NAMES),
    *({f"DBT_ENGINE_{name}": "", f"DBT_{name}": "old"} for name in NAMES),
    *({f"DBT_ENGINE_{name}": "", f"DBT_{name}": ""} for name in NAMES),
]


@pytest.fixture
def two_of_each(tmp_path: Path) -> Iterator[Path]:
    """Two projects, each with two profiles of two targets, and two folders of profiles; the current folder has both."""
    for folder in ("here", "here/old", "here/new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dbt_project.yml").write_text(f"name: {Path(folder).name}\nprofile: plain\n")
        outputs = {
            target: {"type": "duckdb", "path": f"{target}.duckdb", "schema": Path(folder).name}
            for target in ("default", "old", "new")
        }
        profiles = {name: {"target": "default", "outputs": outputs} for name in ("plain", "old", "new")}
        (tmp_path / folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
    before = Path.cwd()
    os.chdir(tmp_path / "here")
    yield tmp_path / "here"
    os.chdir(before)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_environment_is_obeyed_as_dbt_obeys_it(two_of_each: Path, settings: Mapping[str, str]) -> None:
    from dbt.cli.flags import args_to_context

    with mock.patch.dict(os.environ, environment(**settings), clear=True):
        asked = args_to_context(["compile"]).params
        project = load_project()
    assert project.folder == Path(asked["project_dir"]).resolve()
    assert project.profiles_path.parent.resolve() == Path(asked["profiles_dir"]).resolve()
    assert project.target == (asked["target"] or "default")
    assert project.profile == (asked["profile"] or "plain")
    assert project.target_folder == project.folder / (asked["target_path"] or "target")


def test_a_flag_comes_before_the_environment(two_of_each: Path) -> None:
    settings = {f"DBT_ENGINE_{name}": "new" for name in NAMES}
    with mock.patch.dict(os.environ, environment(**settings), clear=True):
        project = load_project("old", "old", "default")
    assert (project.folder, project.target) == (two_of_each / "old", "default")
    assert project.profiles_path.resolve() == two_of_each / "old" / "profiles.yml"


def test_a_project_is_found_from_a_folder_inside_it(two_of_each: Path) -> None:
    (two_of_each / "models" / "marts").mkdir(parents=True)
    os.chdir(two_of_each / "models" / "marts")
    assert load_project(profiles_dir=two_of_each).folder == two_of_each


def test_what_is_given_with_vars_is_known_to_the_profile_and_the_project(two_of_each: Path) -> None:
    (two_of_each / "dbt_project.yml").write_text(
        "name: shop\nprofile: \"{{ var('p') }}\"\ntarget-path: \"target/{{ target.name }}_{{ var('s') }}\"\n"
    )
    profile = {"target": "{{ var('t') }}", "outputs": {"pr": {"type": "duckdb", "schema": "{{ var('s') }}"}}}
    (two_of_each / "profiles.yml").write_text(yaml.safe_dump({"mine": profile}))
    project = load_project(variables=parse_variables("{p: mine, t: pr, s: pr_7}"))
    assert (project.namespace, project.connection["schema"]) == ("shop.pr", "pr_7")
    assert project.target_folder == two_of_each / "target" / "pr_pr_7"
    with pytest.raises(ProjectError, match=r"needs the variable 'p': pass it with --vars, as to dbt\."):
        load_project()
    said = run("feature-store", "list", "--vars", "[1]")
    assert said.err == "Error: --vars is not a mapping in YAML: write for example '{schema: pr_7}'.\n"
    assert "There is no manifest at" in run("feature-store", "list", "--vars", "{p: mine, t: pr, s: pr_7}").err


# Which warehouse it is, where a relative path may mean several.


def repository(tmp_path: Path, path: str = "w.duckdb") -> Path:
    folder = tmp_path / "repository" / "proj"
    folder.mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (folder / "profiles.yml").write_text(
        yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": path}}}})
    )
    return folder


def warehouse(path: Path, moment: float) -> Path:
    duckdb.connect(str(path)).close()
    os.utime(path, (moment, moment))
    return path


def ran(folder: Path, project_dir: str, at: str = "2026-01-02T00:00:00Z", **args: str) -> None:
    """What dbt leaves behind of a run."""
    (folder / "target").mkdir(exist_ok=True)
    (folder / "target" / "run_results.json").write_text(
        json.dumps({"metadata": {"invocation_started_at": at}, "args": {"project_dir": project_dir, **args}})
    )


BEFORE, AFTER = 1767225600.0, 1767400000.0


@pytest.mark.parametrize("here", ["repository", "repository/proj", "."])
def test_the_file_is_the_one_where_dbt_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str) -> None:
    folder = repository(tmp_path)
    built = warehouse(tmp_path / "repository" / "w.duckdb", AFTER)
    warehouse(folder / "w.duckdb", BEFORE)
    ran(folder, "proj")
    monkeypatch.chdir(tmp_path / here)
    project = load_project(folder)
    assert project.database_file == built
    assert project.working_folder == tmp_path / "repository"
    (note,) = project.notes
    assert note.startswith(f"The warehouse is {built}; {folder / 'w.duckdb'} is there too")


def test_without_a_relative_project_dir_the_file_is_the_one_that_the_run_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path)
    monkeypatch.chdir(tmp_path / "repository")
    for new, old in ((folder, folder.parent), (folder.parent, folder)):
        built = warehouse(new / "w.duckdb", AFTER)
        warehouse(old / "w.duckdb", BEFORE)
        ran(folder, str(folder))
        assert load_project(folder).database_file == built


def test_where_nothing_tells_it_is_the_current_folders_as_for_dbt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path)
    monkeypatch.chdir(tmp_path / "repository")
    assert load_project(folder).database_file == tmp_path / "repository" / "w.duckdb"
    only = warehouse(folder / "w.duckdb", AFTER)
    assert load_project(folder).database_file == only
    assert not load_project(folder).notes
    here = warehouse(tmp_path / "repository" / "w.duckdb", AFTER)
    assert load_project(folder).database_file == here
    assert len(load_project(folder).notes) == 1


def test_of_two_profiles_the_one_that_dbt_used_counts_and_the_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "repository")
    (tmp_path / "repository" / "profiles.yml").write_text((folder / "profiles.yml").read_text())
    project = load_project(folder)
    assert project.profiles_path.parent == tmp_path / "repository"
    assert (
        f"{tmp_path / 'repository' / 'profiles.yml'} is read, although {folder / 'profiles.yml'} has"
        in project.notes[0]
    )
    for used, args in (
        (folder, {"project_dir": "proj", "profiles_dir": "proj"}),
        (folder, {"project_dir": str(folder), "profiles_dir": str(folder)}),
        (folder.parent, {"project_dir": "proj", "profiles_dir": str(folder.parent)}),
    ):
        ran(folder, **args)
        project = load_project(folder)
        assert project.profiles_path.parent.resolve() == used
        assert len(project.notes) == 1
    (tmp_path / "repository" / "profiles.yml").write_text("other: {target: dev, outputs: {dev: {type: duckdb}}}")
    assert load_project(folder).profiles_path == folder / "profiles.yml"
    monkeypatch.chdir(folder)
    assert not load_project(folder).notes


def test_a_home_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = repository(tmp_path, "~/w.duckdb")
    warehouse(tmp_path / "w.duckdb", AFTER)
    assert load_project(folder).database_file == tmp_path / "w.duckdb"


def test_doctor_says_which_file_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path)
    monkeypatch.chdir(tmp_path / "repository")
    for place in (folder, folder.parent):
        warehouse(place / "w.duckdb", AFTER)
    said = run("feature-store", "doctor", "--project-dir", "proj", "--redis-url", "redis://127.0.0.1:1").out
    assert f"The warehouse is {folder.parent / 'w.duckdb'}; {folder / 'w.duckdb'} is there too" in said
    assert FeatureStore(folder).project.database_file == folder.parent / "w.duckdb"
