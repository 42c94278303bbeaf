"""What may be compared: views, manifests and git revisions, and how a text is told to be one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from materializer.errors import FeatureStoreError, InputError, NotFoundError, ProjectError
from materializer.printable import clipped
from materializer.project.compiled import with_compiled
from materializer.project.definitions import FeatureView
from materializer.project.manifest import load_manifest, read_manifest, read_registry
from materializer.project.revisions import commit_of, compile_all, repository_of
from materializer.project.settings import Project
from materializer.project.yaml_files import project_setting
from materializer.warehouse import open_warehouse


@dataclass(frozen=True)
class Revision:
    """A git revision as the user named it, and its commit."""

    name: str
    commit: str


class Now(Enum):
    """The project as it is: its files, compiled anew, or what dbt last read of them, its ``target/manifest.json``."""

    FILES = "the working tree"
    MANIFEST = "the project"


Spec = Path | FeatureView | Revision | Now


@dataclass(frozen=True)
class Side:
    """A manifest to compare, and the columns that a catalog beside it knows, by unique id."""

    name: str
    manifest: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...] = ()


def last_commit(project: Project) -> Revision:
    """The commit that the working tree stands on.

    Raises:
        ProjectError: where there is none.
    """
    commit = commit_of(project.folder, "HEAD")
    if commit is None:
        raise ProjectError(
            f"There is no commit to compare with, since {project.folder} is in no git repository: "
            "name two versions of a view or two manifests."
        )
    return Revision("HEAD", commit)


def spec_of(project: Project, given: str | Path | FeatureView, views: Mapping[str, FeatureView]) -> Spec:
    """What a text means; a path or a view means itself.

    Raises:
        InputError: where it may mean several things.
        NotFoundError: where it means nothing.
    """
    if not isinstance(given, str):
        return given
    found: dict[str, Spec] = {}
    if given in views:
        found["a feature view"] = views[given]
    path = Path(given).expanduser()
    if path.is_file() or (path.is_dir() and _manifest_in(path)):
        found["a manifest's path"] = path
    commit = commit_of(project.folder, given)
    if commit:
        found["a git revision"] = Revision(given, commit)
    if len(found) > 1:
        raise InputError(
            f"'{given}' is {' and '.join(found)}: write --old-manifest or --new-manifest for the path, "
            f"refs/heads/{given} for a branch, or the commit's hash."
        )
    if found:
        return next(iter(found.values()))
    if path.exists():
        raise NotFoundError(
            f"{path} holds no manifest.json, nor does its target folder: run `dbt compile` there first."
        )
    try:
        revision = f"a revision of {repository_of(project.folder)}"
    except ProjectError:
        revision = "a git revision (git finds no repository here)"
    raise NotFoundError(
        f"'{given}' is no feature view of the project (there are: {', '.join(sorted(views)) or 'none known'}), "
        f"no manifest's path and not {revision}; a clone may have to fetch it first."
    )


def read_sides(project: Project, old: Spec, new: Spec) -> tuple[Side, Side]:
    """Read two sides; git revisions and the working tree are compiled by dbt.

    Raises:
        ProjectError: where one cannot be read.
    """
    to_compile = [spec for spec in (old, new) if isinstance(spec, Revision) or spec is Now.FILES]
    commits = [(spec.name, spec.commit) if isinstance(spec, Revision) else None for spec in to_compile]
    manifests, notes = compile_all(project, commits, open_warehouse) if commits else ([], [])
    compiled = iter(manifests)
    sides = []
    for spec in (old, new):
        if isinstance(spec, Path):
            path = spec.expanduser()
            file = path if path.is_file() else _manifest_in(path)
            if file is None:
                target = " or in its target folder" if path.is_dir() else ""
                raise NotFoundError(f"There is no manifest at {path}{target}.")
            sides.append(Side(str(path), read_manifest(file, "run `dbt compile` there"), _catalog(file)))
        elif spec is Now.MANIFEST:
            manifest = with_compiled(project, load_manifest(project))
            sides.append(Side(f"{spec.value} {project.name}", manifest, _catalog(project.manifest_path)))
        else:
            name = f"{spec.name} ({spec.commit[:7]})" if isinstance(spec, Revision) else spec.value
            made = next(compiled)
            notes += [f"dbt could not compile all of {name}: {clipped(error, 300)}" for error in made.errors[:3]]
            sides.append(Side(name, made.manifest, {}, tuple(notes)))
            notes = []
    return sides[0], sides[1]


def declared_views(project: Project) -> dict[str, FeatureView]:
    """The views that the project's manifest names, as far as there is one that can be read."""
    try:
        return dict(read_registry({**read_manifest(project.manifest_path, "run `dbt build`"), "exposures": {}}).views)
    except FeatureStoreError:
        return {}


def _manifest_in(folder: Path) -> Path | None:
    """The manifest in a folder, or in the target folder of the dbt project there."""
    target = project_setting(folder, "target-path", "target")
    candidates = (folder / "manifest.json", folder / target / "manifest.json")
    return next((one for one in candidates if one.is_file()), None)


def _catalog(manifest: Path) -> dict[str, dict[str, str]]:
    """The columns and types in the ``catalog.json`` beside a manifest; none where there is no such file."""
    try:
        catalog = json.loads(manifest.with_name("catalog.json").read_bytes())
        relations = {**catalog.get("nodes", {}), **catalog.get("sources", {})}
        return {
            unique_id: {name: str(column["type"]) for name, column in relation["columns"].items()}
            for unique_id, relation in relations.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
