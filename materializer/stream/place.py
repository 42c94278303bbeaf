"""Where a project's events land: the folder of the DuckDB file that its profile attaches for the sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from materializer.errors import ProjectError
from materializer.project.settings import Project
from materializer.stream.landing import MANIFEST, Landing
from materializer.stream.source import StreamedSource


def landing_of(project: Project, sources: Mapping[str, StreamedSource], clock: Callable[[], datetime]) -> Landing:
    """The landing of a project's streamed sources.

    Raises:
        ProjectError: where the project declares none, its target is no DuckDB, or its profile does not attach the
            database that they name.
    """
    if not sources:
        raise ProjectError(
            "No source of this project says meta.stream: say it on the table that events are to land in, such as "
            "`config: {meta: {stream: {topic: purchases}}}`."
        )
    if (kind := project.connection.get("type")) != "duckdb":
        raise ProjectError(f"Events land for DuckDB targets; target '{project.target}' is {kind}.")
    folders = {name: _folder(project, source) for name, source in sources.items()}
    if len(set(folders.values())) > 1:
        said = " and ".join(f"'{name}' in {folder}" for name, folder in folders.items())
        raise ProjectError(f"One landing holds the events of all sources, and these are to land in several: {said}.")
    return Landing(next(iter(folders.values())), sources, clock)


def _folder(project: Project, source: StreamedSource) -> Path:
    attached = project.connection.get("attach")
    named = {
        str(one.get("alias") or Path(str(one.get("path"))).stem).lower(): str(one.get("path"))
        for one in (attached if isinstance(attached, list) else [])
        if isinstance(one, dict)
    }
    path = named.get(source.database.lower())
    if path is None or Path(path).name != MANIFEST:
        raise ProjectError(
            f"Source '{source.name}' has database '{source.database}', under which target '{project.target}' attaches "
            f"no {MANIFEST}. Write `database: landing` in the source, and in {project.profiles_path} "
            f"`attach: [{{path: landing/{MANIFEST}, alias: landing, read_only: true}}]`."
        )
    found = project.resolve(path)
    # Where there is none yet, it is made where dbt finds it when it is run in its project.
    return (found if found.exists() else project.folder / path).parent
