"""Whether a manifest was made for the target in use: one target's rows never go under another one's name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from materializer.errors import FeatureStoreError, ProjectError
from materializer.project.graph import is_view
from materializer.project.render import MacroRenderer, ProjectManifest, dbt_macro
from materializer.project.settings import Project, load_project

Location = tuple[str | None, str | None]


def check_target(project: Project, manifest: Mapping[str, Any]) -> None:
    """The manifest does not name its target, but dbt's last run does, and so do the relations.

    Where they are is asked of the project's own ``generate_schema_name`` and ``generate_database_name``, as far as
    these can be had without dbt; a project may put its models wherever it likes.

    Raises:
        ProjectError: where it was made for another target.
    """
    here = _Locations(project, manifest)
    astray = [node for node in manifest["nodes"].values() if is_view(node) and not here.fits(node)]
    if not astray:
        return
    node = astray[0]
    made_for = _made_for(project, manifest)
    if made_for == project.target:
        return
    if made_for is None and not _of_another(project, manifest, astray) and not here.in_another_database(node):
        return
    expected = ".".join(str(part) for part in (here.of(node) or project.location))
    raise ProjectError(
        f"The manifest was made for another target: it has {node['name']} in "
        f"{node.get('database')}.{node.get('schema')}, but target '{project.target}' is {expected}. "
        f"Run `dbt build --target {project.target}` first."
    )


def _made_for(project: Project, manifest: Mapping[str, Any]) -> str | None:
    """The target of the dbt command that wrote the manifest, where it also wrote ``run_results.json``."""
    run = project.last_run
    invocation = (run.get("metadata") or {}).get("invocation_id")
    if not invocation or invocation != manifest["metadata"].get("invocation_id"):
        return None
    target = (run.get("args") or {}).get("target") or project.default_target
    return str(target) if target else None


def _of_another(project: Project, manifest: Mapping[str, Any], astray: list[Mapping[str, Any]]) -> bool:
    """Whether another target of the profile builds one of these views where the manifest has it."""
    for target in project.targets:
        if target == project.target:
            continue
        try:
            other = load_project(project.folder, project.profiles_path.parent, target, project.variables)
        except ProjectError:
            continue  # it needs what is not set here
        if any(_Locations(other, manifest).fits(node) for node in astray):
            return True
    return False


class _Locations:
    """Where a target builds its models."""

    def __init__(self, project: Project, manifest: Mapping[str, Any]) -> None:
        self._project, self._manifest = project, ProjectManifest(manifest, project)
        self._own = {
            part: dbt_macro(manifest, project.name, f"generate_{part}_name") for part in ("schema", "database")
        }

    @cached_property
    def _renderer(self) -> MacroRenderer:
        return MacroRenderer(self._manifest, lambda relation: [])

    def fits(self, node: Mapping[str, Any]) -> bool:
        """Whether the manifest has a node where the target builds it; True where that cannot be told."""
        expected = self.of(node)
        return expected is None or all(
            want is None or want == node.get(part) for want, part in zip(expected, ("database", "schema"), strict=True)
        )

    def in_another_database(self, node: Mapping[str, Any]) -> bool:
        """Whether a view that names no database is in another one than the target's."""
        database = self._project.location[0]
        named = node["config"].get("database") or self._own["database"]
        return not named and bool(database) and node.get("database") != database

    def of(self, node: Mapping[str, Any]) -> Location | None:
        """The database and schema of a node in this target, a part None where it is not known."""
        config = node.get("config") or {}
        database, schema = self._project.location
        if config.get("target_schema"):  # a snapshot of before dbt 1.9
            return config.get("target_database") or database, config["target_schema"]
        try:
            return (
                self._asked("database", node, config.get("database") or database, config.get("database")),
                self._asked("schema", node, f"{schema}_{own}" if (own := config.get("schema")) else schema, own),
            )
        except FeatureStoreError:
            return None

    def _asked(self, part: str, node: Mapping[str, Any], usual: str | None, named: str | None) -> str | None:
        """What the project's own macro says, else the usual name."""
        package = self._own[part]
        if package is None:
            return usual.strip() if usual else None
        return self._renderer.render(f"generate_{part}_name", named, node, package=package)
