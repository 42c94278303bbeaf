"""Where a project's events land: in tables of PostgreSQL or Spark, or in the folder of a file that a DuckDB profile
attaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from materializer.errors import LandingError, ProjectError, WarehouseError
from materializer.project.settings import Project
from materializer.stream.files import MANIFEST, FileLanding
from materializer.stream.landing import CannotLand, Landing
from materializer.stream.source import StreamedSource

if TYPE_CHECKING:
    from materializer.stream.spark import SparkLanding


def landing_of(project: Project, sources: Mapping[str, StreamedSource], clock: Callable[[], datetime]) -> Landing:
    """The landing of a project's streamed sources, to which any process may bring rows: of a target on DuckDB or
    PostgreSQL. Arguments and errors are those of `any_landing_of`."""
    if project.connection.get("type") == "spark":
        raise ProjectError(
            f"Target '{project.target}' is Spark, where events land from topics alone: by `feature-store stream`."
        )
    return cast(Landing, any_landing_of(project, sources, clock))


def any_landing_of(
    project: Project, sources: Mapping[str, StreamedSource], clock: Callable[[], datetime]
) -> Landing | SparkLanding:
    """The landing of a project's streamed sources, made where it is not there yet. It is to be closed.

    Args:
        clock: tells the moment at which a row lands, the online store's where there is one.

    Raises:
        ProjectError: where the project declares no such source, its target is none of DuckDB, PostgreSQL and Spark, or
            its profile does not attach the database that they name.
        LandingError: where it cannot be written; WarehouseError where the warehouse does not answer.
    """
    if not sources:
        raise ProjectError(
            "No source of this project says meta.stream: say it on the table that events are to land in, such as "
            "`config: {meta: {stream: {topic: purchases}}}`."
        )
    landing: Landing | SparkLanding
    if (kind := project.connection.get("type")) == "postgres":
        from materializer.stream.postgres import open_landing

        landing = open_landing(project, sources, clock)
    elif kind == "spark":
        from materializer.stream.spark import open_landing as open_on_spark

        landing = open_on_spark(project, sources)
    elif kind == "duckdb":
        landing = FileLanding(_folder(project, sources), sources, clock)
    else:
        raise ProjectError(f"Events land for targets of DuckDB, PostgreSQL and Spark; '{project.target}' is {kind}.")
    try:
        landing.prepare()
    except CannotLand as error:
        landing.close()
        raise LandingError(f"Events cannot land in {landing.place}: {error}.") from None
    except WarehouseError as error:
        landing.close()
        raise LandingError(f"Events cannot land in {landing.place}: {error}") from None
    return landing


def _folder(project: Project, sources: Mapping[str, StreamedSource]) -> Path:
    folders = {name: _folder_of(project, source) for name, source in sources.items()}
    if len(set(folders.values())) > 1:
        said = " and ".join(f"'{name}' in {folder}" for name, folder in folders.items())
        raise ProjectError(f"One landing holds the events of all sources, and these are to land in several: {said}.")
    return next(iter(folders.values()))


def _folder_of(project: Project, source: StreamedSource) -> Path:
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
