"""The example of this repository, compiled by dbt once a session."""

from __future__ import annotations

import shutil
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
