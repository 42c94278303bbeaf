"""The example of this repository, compiled by dbt once a session."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.dbt import PACKAGE, DbtProject, install
from tests.support.once import once

_MADE_BY_RUNS = shutil.ignore_patterns("target", ".dbt_packages", "logs", "raw", "*.duckdb*", "package-lock.yml")


def compiled_example() -> DbtProject:
    """The example as ``dbt compile`` left it: nothing is built. Do not change it: take a copy with `copy_of`."""
    return DbtProject(once("example", _compile))


def _compile(folder: Path) -> None:
    shutil.copytree(PACKAGE / "dbt_project", folder, ignore=_MADE_BY_RUNS, dirs_exist_ok=True)
    project = DbtProject(folder)
    project.write({"packages.yml": {"packages": [{"local": str(PACKAGE)}]}})
    install(project)
    project.dbt("compile")


def built_example() -> DbtProject:
    """The example with a small shop's raw data and its feature views built. Do not change it: take a copy."""
    return DbtProject(once("built-example", _build))


def _build(folder: Path) -> None:
    shutil.copytree(PACKAGE / "dbt_project", folder, ignore=_MADE_BY_RUNS, dirs_exist_ok=True)
    small = ("--users", "30", "--days", "30")
    subprocess.run([sys.executable, folder / "shop_data.py", *small], check=True, capture_output=True)
    project = DbtProject(folder)
    project.write({"packages.yml": {"packages": [{"local": str(PACKAGE)}]}})
    install(project)
    project.dbt("run", "--select", "+tag:feature_view")
