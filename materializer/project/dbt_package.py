"""The dbt package that travels with this distribution, and its copy in a project.

A copy is what a project can commit: `dbt deps` finds it by a relative path on every machine, with no other package
registry, variable or Python package, and the macros that a build used stand in the project's own history.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from materializer.project.render import package_folder

FOLDER = "dbt_packages_local/feature_store"  # within a project
LINE = f"- local: {FOLDER}"  # in packages.yml
_PARTS = ("macros", "models")
_README = """The dbt package feature_store, copied by `feature-store init`. Commit it and change nothing here: run
`feature-store init` again after an upgrade of dbt-feature-store, and `dbt deps`.
"""


def package_files() -> dict[str, str]:
    """The files of the package by their path within it."""
    package = package_folder()
    paths = [path for part in _PARTS for path in sorted((package / part).rglob("*")) if path.suffix in (".sql", ".yml")]
    files = {path.relative_to(package).as_posix(): path.read_text() for path in [package / "dbt_project.yml", *paths]}
    return {**files, "README.md": _README}


def copied_files(project: Path) -> dict[str, str]:
    """The files of a project's copy, none where it has none."""
    copy = project / FOLDER
    return {
        path.relative_to(copy).as_posix(): path.read_text(errors="replace")
        for path in sorted(copy.rglob("*"))
        if path.is_file()
    }


def renew_copy(project: Path) -> bool:
    """Make a project's copy that of this release; False where it was.

    Raises:
        OSError: where it cannot be written; the old copy stays.
    """
    files = package_files()
    if copied_files(project) == files:
        return False
    copy = project / FOLDER
    new = copy.with_name(copy.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name, text in files.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(text)
    shutil.rmtree(copy, ignore_errors=True)
    new.rename(copy)
    return True
