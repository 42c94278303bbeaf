"""The training sets that were recorded in a project: which features each holds, as the catalog's document has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from materializer.errors import InputError
from materializer.project.definitions import split_reference
from materializer.project.settings import Project
from materializer.training.files import SUFFIXES
from materializer.training.record import read_record, record_path

# A record of some thousand features is this large; what is larger is something else of the same name.
_LARGEST = 8_000_000
# Folders of a virtual environment have this file.
_VENV = "pyvenv.cfg"


def training_sets(project: Project) -> list[dict[str, Any]]:
    """The records beside training sets in the project's folder (``set.parquet.json``), by their paths.

    A file that is none, or of another project, is passed over.
    """
    found = []
    for path in sorted(_named_so(project)):
        try:
            record = read_record(path)
            parts = [split_reference(one) for one in record.features]
        except InputError:
            continue
        if record.project != project.name:
            continue
        called = {view.name: view.reference for view in record.views}
        found.append(
            {
                "name": path.relative_to(project.folder).as_posix().removesuffix(".json"),
                "made_at": record.made_at,
                "target": record.target,
                "rows": record.output.rows,
                "revision": record.git_revision and record.git_revision[:12],
                "dirty": record.git_dirty,
                "features": [f"{called.get(view, view)}:{feature}" for view, feature in parts],
            }
        )
    return found


def _named_so(project: Project) -> Iterator[Path]:
    ends = tuple(record_path(Path(f"set{suffix}")).name.removeprefix("set") for suffix in SUFFIXES)
    apart = {project.target_folder.resolve(), (project.folder / "dbt_packages").resolve()}
    for inside, folders, names in os.walk(project.folder):
        here = Path(inside)
        folders[:] = [
            one
            for one in folders
            if not one.startswith(".") and (here / one).resolve() not in apart and not (here / one / _VENV).exists()
        ]
        for name in names:
            path = here / name
            if name.endswith(ends) and path.is_file() and path.stat().st_size <= _LARGEST:
                yield path
