"""Compiled SQL that the manifest does not hold, as after a run of some models: from ``target/compiled`` or from dbt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from materializer.errors import ProjectError
from materializer.project.graph import Graph
from materializer.project.manifest import ProjectManifest
from materializer.project.revisions import Opened, compile_all
from materializer.project.settings import Project


def with_compiled(project: Project, manifest: ProjectManifest) -> ProjectManifest:
    """The manifest with the compiled SQL that an earlier run left in the target folder.

    A file counts where the model has not been changed since it was written.
    """
    for node in manifest["nodes"].values():
        if node.get("resource_type") == "model" and not node.get("compiled_code"):
            node["compiled_code"] = _left_over(project, node)
    return manifest


def compile_missing(project: Project, manifest: ProjectManifest, unique_ids: Sequence[str], opened: Opened) -> None:
    """Let dbt compile the project, in a folder of its own, where one of these or a model above it has no compiled SQL.

    Where dbt is not there or fails, they stay without. `opened` is as of `compile_all`.
    """
    if all(node.get("compiled_code") for node in manifest["nodes"].values() if node.get("resource_type") == "model"):
        return
    graph = Graph(manifest)
    missing = {
        model["unique_id"]
        for unique_id in unique_ids
        for model in graph.upstream_models(unique_id)
        if not model.get("compiled_code")
    }
    if not missing:
        return
    try:
        (compiled,), _ = compile_all(project, [None], opened)
    except (ProjectError, OSError):
        return
    for unique_id in missing:
        node = compiled.manifest["nodes"].get(unique_id) or {}
        manifest["nodes"][unique_id]["compiled_code"] = node.get("compiled_code")


def _left_over(project: Project, node: Mapping[str, Any]) -> str | None:
    if not node.get("original_file_path") or not node.get("package_name"):
        return None
    path = project.target_folder / "compiled" / node["package_name"] / node["original_file_path"]
    source = project.folder / node["original_file_path"]
    try:
        if not path.is_file():  # of a microbatch model dbt writes a file for each batch
            path = max(path.with_suffix("").glob(f"{path.stem}_*.sql"), default=path)
        if not path.resolve().is_relative_to(project.target_folder.resolve()):
            return None
        if source.is_file() and source.stat().st_mtime > path.stat().st_mtime:
            return None
        return (path.read_text(encoding="utf-8").strip() if path.is_file() else "") or None
    except (OSError, ValueError):  # it is gone or no text, or its name is none that a file can have
        return None
