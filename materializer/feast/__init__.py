"""A Feast repository as a dbt project: what Feast says of it, in dbt's words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from materializer.errors import InputError
from materializer.feast.ask import repository_of
from materializer.feast.definitions import Repository
from materializer.feast.report import counts, report
from materializer.feast.write import Written, write_project

__all__ = ["Repository", "Written", "counts", "from_feast"]


def from_feast(path: Path, name: str | None = None, python: str | None = None) -> tuple[Repository, Written]:
    """The dbt project that is equal to a Feast repository, as text, and a report of what has no equal.

    Args:
        path: the repository's folder, in which ``feature_store.yaml`` lies, or a file of ``ask_feast.py``.
        name: of the dbt project; default the name of Feast's project.
        python: the Python in which Feast is; default the one on the PATH.

    Raises:
        InputError: where there is no repository, Feast is not found or cannot read it, or it has no feature view.
    """
    repository = repository_of(path, python)
    if not repository.views:
        files = f"{repository.folder} (Python files: {repository.files})"
        reasons = [f"'{a.name}' ({a.where}): {a.notes[0]}" for a in repository.absent if a.kind == "feature view"]
        if not reasons:
            raise InputError(f"Feast finds no feature view in {files}.")
        more = f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        raise InputError(f"No feature view can be written of {files}: {'; '.join(reasons[:2])}{more}.")
    name = name or re.sub(r"\W+", "_", repository.project, flags=re.ASCII).strip("_").lower()
    if not re.fullmatch(r"[a-z_]\w*", name, re.ASCII):
        raise InputError(f"'{name}' cannot be a dbt project's name: give one with --name, of letters, digits and _.")
    written = write_project(repository, name)
    files = written.files | {"FROM_FEAST.md": report(repository, written)}
    return repository, replace(written, files=files)
