"""What works where dbt, or the warehouse's driver, is not installed, and what the rest says then."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.command import Ran, assert_one_sentence, run_process
from tests.support.dbt import PACKAGE, copy_of
from tests.support.shop import built_shop

# Python runs a module of this name at its start: it makes packages look as if they were not there.
ABSENT = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's project, built."""
    return copy_of(built_shop(), tmp_path_factory.mktemp("shop") / "project").folder


def run_without(absent: tuple[str, ...], folder: Path, tmp_path: Path, *args: str) -> Ran:
    (tmp_path / "sitecustomize.py").write_text(ABSENT.format(absent=absent))
    return run_process("feature-store", *args, cwd=folder, env={"PYTHONPATH": str(tmp_path)})


def test_the_catalog_is_read_without_dbt(shop: Path, tmp_path: Path) -> None:
    ran = run_without(("dbt",), shop, tmp_path, "search", "affinity", "--output", "json")
    assert (ran.code, ran.err) == (0, "") and "user_item" in ran.out


def test_training_sets_need_no_dbt(shop: Path, tmp_path: Path) -> None:
    ran = run_without(
        ("dbt",), shop, tmp_path, "training", "--feature", "user_features:city", "--output", "json",
        "--spine", "select 1::bigint as user_id, timestamptz '2024-06-01 00:00:00+00' as event_timestamp",
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "") and "Bergen" in ran.out


def test_what_needs_dbt_says_so(shop: Path, tmp_path: Path) -> None:
    for command in (
        ["init", "--quiet"], ["add", "."],
        ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit", "-qm", "one"],
    ):  # fmt: skip
        subprocess.run(["git", "-C", str(shop), *command], check=True, capture_output=True)
    ran = run_without(("dbt",), shop, tmp_path, "diff", "HEAD")
    assert_one_sentence(ran.err)
    assert ran.code == 1 and ran.err.startswith("Error: This needs dbt, which is not installed beside this package")


def test_what_needs_the_driver_says_so(shop: Path, tmp_path: Path) -> None:
    for arguments in (["list"], ["stats", "user_features"]):
        ran = run_without(("duckdb",), shop, tmp_path, *arguments)
        assert_one_sentence(ran.err)
        assert ran.code == 1 and "pip install 'dbt-feature-store[duckdb]'" in ran.err, ran.err


def test_dbt_is_no_dependency_and_no_newer_one_is_shut_out() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if name.startswith(("dbt", "duckdb"))]
    declared = project["optional-dependencies"]["duckdb"]
    assert "dbt-core>=1.10" in declared and not any("<" in requirement for requirement in declared)
