"""Which views stream, and why the others do not: read from their full-build SQL, which dbt compiles apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.render import ProjectManifest
from materializer.project.revisions import compile_all
from materializer.project.settings import Project
from materializer.sql.apart import Apart, Mixes, apart
from materializer.sql.reach import Reach, reach
from materializer.sql.reader import Reader
from materializer.stream.place import any_landing_of
from materializer.stream.source import StreamedSource, streamed_sources
from materializer.warehouse import open_warehouse


def reached_moment(name: str) -> str:
    """In the SQL of views that reach back a known time: the moment `since` when events are taken, and those between
    which there are rows, `begins` and `ends`. The stream's own DuckDB has variables for them, which its plans know."""
    return f"getvariable('_fs_{name}')"


REACHED = (reached_moment("since"), f"_fs_at between {reached_moment('begins')} and {reached_moment('ends')}")


@dataclass(frozen=True)
class Explained:
    """Whether a view streams.

    Attributes:
        keys: the join keys that it streams by; empty where it does not.
        sources: those that it streams from, by name, each with what names the entities of a row: SQL over its columns.
        why: a sentence, where it does not stream.
        place: the file and line of the expression that mixes entities, and its text.
        mend: what would mend that.
        warnings: sentences on what nobody decides.
    """

    view: str
    keys: tuple[str, ...] = ()
    sources: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
    why: str = ""
    place: str = ""
    text: str = ""
    mend: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decided:
    """A project as dbt compiles it for full builds; of each view, in order of names, how it keeps entities apart (None
    where it reads no streamed source); and how far those reach back of which that is known, by unique id."""

    manifest: ProjectManifest
    sources: Mapping[str, StreamedSource]
    views: tuple[tuple[FeatureView, Apart | Mixes | None], ...]
    errors: tuple[str, ...]
    reaches: Mapping[str, Reach]

    def uncompiled(self) -> dict[str, str]:
        """Of views whose SQL is not known, what dbt said, by the names of the views."""
        return {
            view.reference: f"dbt does not compile it: {self.errors[0]}".rstrip(".")
            for view, found in self.views
            if self.errors and isinstance(found, Mixes) and not found.node.about.get("compiled_code")
        }


def decide(project: Project, unwanted: Callable[[], bool] = lambda: False) -> Decided:
    """Compile a project and read the SQL of its views; it may become unwanted meanwhile, see `run_dbt`.

    Raises:
        ProjectError, DefinitionError: where the project cannot be read, dbt is not there, or a source says it wrongly.
    """
    any_landing_of(
        project, streamed_sources(load_manifest(project)), lambda: datetime.now(timezone.utc)
    ).close()  # dbt has to find it
    (compiled,), _ = compile_all(project, [None], open_warehouse, unwanted)
    manifest = ProjectManifest(compiled.manifest, project)
    sources = streamed_sources(manifest)
    # On Spark nobody looks whether an id decides what it is said to.
    trusted = project.connection.get("type") != "spark"
    streamed = {source.unique_id: (trusted and source.determines) or {} for source in sources.values()}
    reader = Reader(Graph(manifest))
    views = sorted(read_registry(manifest).all_views(), key=lambda one: one.reference)
    found = [(one, apart(reader, one.unique_id, [entity.name for entity in one.entities], streamed)) for one in views]
    reaches = {
        one.unique_id: reaching
        for one, how in found
        # One pair of a user's that is new says nothing of the others.
        if isinstance(how, Apart) and len(how.keys) == len(one.entities)
        and not one.created_timestamp and not one.available_after
        and (reaching := reach(reader, one.unique_id, one.timestamp, streamed, *REACHED))
    }  # fmt: skip
    return Decided(manifest, sources, tuple(found), compiled.errors, reaches)


def explain(project: Project) -> list[Explained]:
    """Every view of a project, in order of names. Raises as `decide`."""
    decided = decide(project)
    names = {source.unique_id: source.name for source in decided.sources.values()}
    uncompiled = decided.uncompiled()
    explained = []
    for view, found in decided.views:
        if found is None:
            explained.append(Explained(view.reference, why="it reads no streamed source"))
        elif isinstance(found, Mixes):
            why = uncompiled.get(view.reference, found.why)
            explained.append(
                Explained(view.reference, why=why.rstrip("."), place=_place(found), text=found.text, mend=found.mend)
            )
        else:
            filters = {names[unique_id]: ways for unique_id, ways in found.filters.items()}
            explained.append(Explained(view.reference, found.keys, filters, warnings=found.warnings))
    return explained


def _place(mixes: Mixes) -> str:
    """The model's file, with the line there that compiled to the one that is meant, where there is one like it."""
    about: Mapping[str, Any] = mixes.node.about
    file = str(about.get("original_file_path") or mixes.node.title)
    if mixes.line is None:
        return file
    compiled = str(about.get("compiled_code")).splitlines()[mixes.line - 1].strip()
    lines = [
        number for number, line in enumerate(str(about.get("raw_code")).splitlines(), 1) if line.strip() == compiled
    ]
    return f"{file}:{lines[0]}" if lines else file
