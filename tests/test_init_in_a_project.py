"""`feature-store init` in a dbt project that is there: the package and its line, and not a line of the user's changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from materializer.project import dbt_package
from tests.support.command import Ran, assert_one_sentence, run

OURS = {"local": "dbt_packages_local/feature_store"}
UTILS = {"package": "dbt-labs/dbt_utils", "version": "1.3.0"}
PROJECT = {"dbt_project.yml": "name: mine\nprofile: mine\n", "models/a.sql": "select 1 as id"}
UTILS_TEXT = "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.3.0\n"


def init(folder: Path, files: dict[str, str]) -> Ran:
    for name, text in {**PROJECT, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return run("feature-store", "init", cwd=folder)


def packages(folder: Path, name: str = "packages.yml") -> list[dict[str, str]]:
    return yaml.safe_load((folder / name).read_text())["packages"]


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (None, []),
        ("", []),
        ("# nothing yet\n", []),
        (UTILS_TEXT, [UTILS]),
        ("packages:  # of others\n# utils\n- package: dbt-labs/dbt_utils\n  version: 1.3.0", [UTILS]),
        ("packages:\n\n    # utils\n    - package: dbt-labs/dbt_utils\n      version: 1.3.0\n\nmore: 1\n", [UTILS]),
    ],
)
def test_the_line_is_added_and_the_rest_stays(tmp_path: Path, text: str | None, others: list[dict[str, str]]) -> None:
    ran = init(tmp_path, {} if text is None else {"packages.yml": text})
    assert ran.code == 0, ran.err
    assert packages(tmp_path) == [OURS, *others]
    lines = (tmp_path / "packages.yml").read_text().splitlines()
    assert [line for line in lines if line in (text or "").splitlines()] == (text or "").splitlines()
    assert (tmp_path / "dbt_packages_local/feature_store/macros/serving/latest.sql").is_file()
    for step in ("feature_view: {entities: [KEY]", "dbt deps && dbt build", "materialize", "feature-store online"):
        assert step in ran.out
    before = (tmp_path / "packages.yml").read_text()
    again = run("feature-store", "init", cwd=tmp_path)
    assert again.code == 0 and "is up to date" in again.out
    assert (tmp_path / "packages.yml").read_text() == before


@pytest.mark.parametrize("text", ["packages: []\n", "packages: [{package: dbt-labs/dbt_utils, version: 1.3.0}]\n"])
def test_a_list_that_is_not_plain_is_left_and_the_line_is_shown(tmp_path: Path, text: str) -> None:
    ran = init(tmp_path, {"packages.yml": text})
    assert ran.code == 0 and "Add this to the packages in packages.yml:\n  - local: dbt_packages_local" in ran.out
    assert (tmp_path / "packages.yml").read_text() == text


def test_dependencies_yml_is_taken_where_it_names_the_packages(tmp_path: Path) -> None:
    assert init(tmp_path, {"dependencies.yml": UTILS_TEXT}).code == 0
    assert packages(tmp_path, "dependencies.yml") == [OURS, UTILS]
    assert not (tmp_path / "packages.yml").exists()


def test_dependencies_yml_of_projects_alone_is_left(tmp_path: Path) -> None:
    assert init(tmp_path, {"dependencies.yml": "projects:\n  - name: finance\n"}).code == 0
    assert packages(tmp_path) == [OURS]


def test_a_package_from_git_needs_no_copy(tmp_path: Path) -> None:
    text = "packages:\n  - git: https://example.com/dbt-feature-store.git\n    revision: v1\n"
    ran = init(tmp_path, {"packages.yml": text})
    assert ran.code == 0 and "names the dbt package already" in ran.out
    assert (tmp_path / "packages.yml").read_text() == text and not (tmp_path / "dbt_packages_local").exists()


def test_a_path_of_this_machine_is_named_with_what_to_write_instead(tmp_path: Path) -> None:
    text = "packages:\n  - local: /home/me/dbt-feature-store\n"
    ran = init(tmp_path, {"packages.yml": text})
    assert "in place of `- local: /home/me/dbt-feature-store` in packages.yml" in ran.out
    assert (tmp_path / "packages.yml").read_text() == text


def test_a_copy_of_another_release_is_renewed_whole(tmp_path: Path) -> None:
    copy = "dbt_packages_local/feature_store"
    ran = init(tmp_path, {f"{copy}/macros/gone.sql": "old", f"{copy}/dbt_project.yml": "name: feature_store\n"})
    assert ran.code == 0 and "Wrote the dbt package" in ran.out
    assert dbt_package.copied_files(tmp_path) == dbt_package.package_files()
    assert [path.name for path in (tmp_path / "dbt_packages_local").iterdir()] == ["feature_store"]


@pytest.mark.parametrize("text", ["packages: [", "- local: x\n"])
def test_a_file_that_is_no_list_of_packages_stops_it(tmp_path: Path, text: str) -> None:
    ran = init(tmp_path, {"packages.yml": text})
    assert ran.code == 1 and "cannot be read" in ran.err
    assert_one_sentence(ran.err)
    assert not (tmp_path / "dbt_packages_local").exists() and (tmp_path / "packages.yml").read_text() == text


def test_it_says_which_warehouse_is_not_read_yet(tmp_path: Path) -> None:
    profile = "mine:\n  target: dev\n  outputs:\n    dev: {type: postgres, host: h, dbname: d, schema: s}\n"
    ran = init(tmp_path, {"profiles.yml": profile})
    assert ran.code == 0 and "postgres warehouse" in ran.err


def test_a_new_project_names_no_path_of_this_machine(tmp_path: Path) -> None:
    assert run("feature-store", "init", "new", cwd=tmp_path).code == 0
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert packages(tmp_path / "new") == [OURS] and len(files) > 30
    package = Path(dbt_package.__file__).parents[2]
    assert not [path for path in files if str(package) in path.read_text() or str(tmp_path) in path.read_text()]
