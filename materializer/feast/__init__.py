"""A Feast repository as a dbt project: read from its files, without Feast and without running them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from materializer.errors import InputError
from materializer.feast.definitions import Repository
from materializer.feast.read import read_repository
from materializer.feast.report import counts, report
from materializer.feast.write import Written, write_project

__all__ = ["Repository", "Written", "counts", "from_feast"]


def from_feast(path: Path, name: str | None = None) -> tuple[Repository, Written]:
    """The dbt project that is equal to a Feast repository, as text, and a report of what has no equal.

    Args:
        path: the repository's folder, in which ``feature_store.yaml`` lies.
        name: of the dbt project; default the name of Feast's project.

    Raises:
        InputError: where there is no repository, a file of it is no Python, or it has no feature view that can be read.
    """
    repository = read_repository(path)
    if not repository.views:
        reasons = [f"'{a.name}' ({a.where}): {a.why}" for a in repository.absent if a.kind == "feature view"]
        reasons += repository.unread
        shown = f": {'; '.join(reasons[:2])}" if reasons else ""
        shown += f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        unset = ", ".join(sorted(variable for variable, found in repository.environment.items() if not found))
        todo = f" Set the environment variables that the code asks for: {unset}." if unset and reasons else ""
        what = "No feature view can be written" if reasons else "There is no feature view"
        files = f"{repository.folder} (Python files: {repository.files})"
        raise InputError(f"{what} of {files}{shown}.{todo}" if reasons else f"{what} in {files}.")
    name = name or re.sub(r"\W+", "_", repository.project, flags=re.ASCII).strip("_").lower()
    if not re.fullmatch(r"[a-z_]\w*", name, re.ASCII):
        raise InputError(f"'{name}' cannot be a dbt project's name: give one with --name, of letters, digits and _.")
    written = write_project(repository, name)
    files = written.files | {"FROM_FEAST.md": report(repository, written)}
    return repository, replace(written, files=files)
