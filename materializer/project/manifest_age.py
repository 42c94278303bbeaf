"""Whether the files of a dbt project still say what its manifest has of them. What dbt reads decides."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from materializer.errors import ProjectError
from materializer.project.graph import meta_of
from materializer.project.relation import REFERABLE
from materializer.project.settings import Project
from materializer.project.yaml_files import load_yaml

_CODE = (".sql", ".py")
_PROPERTIES = (".yml", ".yaml")
# dbt passes over files whose names begin so, such as an editor's lock files.
_READ = re.compile("|".join(fnmatch.translate(f"[!.#~]*{end}") for end in (*_CODE, *_PROPERTIES)), re.IGNORECASE)


def check_fresh(project: Project, manifest: Mapping[str, Any]) -> None:
    """Compare the project's files with what dbt read. Times only choose which files to look into: a copied or freshly
    checked-out file is not stale as long as it says the same.

    Raises:
        ProjectError: naming a file that is gone, new or changed.
    """
    written = project.manifest_path.stat().st_mtime
    disabled = [node for nodes in (manifest.get("disabled") or {}).values() for node in nodes]
    own: dict[str, list[Mapping[str, Any]]] = {}
    for node in (*manifest["nodes"].values(), *disabled):
        if node.get("resource_type") in ("model", "snapshot") and node.get("package_name") == project.name:
            own.setdefault(node["original_file_path"], []).append(node)
    hint = f"run `dbt build` in {project.folder} again"
    models, snapshots = project.model_folders, project.snapshot_folders
    folders = dict.fromkeys((*models, *snapshots, *project.seed_folders))
    present = {relative: changed for folder in folders for relative, changed in _files(project, folder)}
    for path, nodes in own.items():
        enabled = any((node.get("config") or {}).get("enabled", True) for node in nodes)
        if path not in present and not os.path.exists(project.folder / path) and enabled:  # noqa: PTH110 - of any length
            raise ProjectError(f"The manifest is older than the models ({path} is gone): {hint}.")
    for relative, changed in present.items():
        if changed <= written:
            continue
        path = project.folder / relative
        if path.suffix.lower() in _PROPERTIES:
            stale = _properties_changed(project, path, manifest)
        elif not any(path.is_relative_to(folder) for folder in (*models, *snapshots)):
            stale = False
        elif relative in own:
            stale = _checksum(path) not in [node["checksum"]["checksum"] for node in own[relative]]
        else:
            stale = bool(path.read_bytes().strip())  # dbt makes nothing of an empty file
        if stale:
            raise ProjectError(f"The manifest is older than the models ({relative} has changed since): {hint}.")


def _files(project: Project, folder: Path) -> Iterator[tuple[str, float]]:
    """The files of a folder that dbt reads, as paths relative to the project, and when each was changed last.

    A walk of its own: with thousands of files pathlib's would be most of what reading a manifest takes.
    """
    ignored = _ignored(project)
    for inside, _, names in os.walk(folder):
        relative = Path(os.path.relpath(inside, project.folder)).as_posix()
        for name in names:
            if _READ.match(name) and not ignored(f"{relative}/{name}"):
                with suppress(OSError):  # a broken link, or a file that just went
                    about = os.stat(f"{inside}/{name}")  # noqa: PTH116
                    if stat.S_ISREG(about.st_mode):  # a pipe would be waited for
                        yield f"{relative}/{name}", about.st_mtime


def _ignored(project: Project) -> Callable[[str], bool]:
    """What ``.dbtignore`` leaves out."""
    try:
        lines = (project.folder / ".dbtignore").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return lambda path: False
    try:
        import pathspec
    except ImportError:  # comes with dbt
        return lambda path: True
    return pathspec.PathSpec.from_lines("gitwildmatch", lines).match_file


def _checksum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes().decode().strip().encode()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return ""


def _properties_changed(project: Project, path: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a properties file declares a feature view or service otherwise than the manifest does."""
    try:
        content = load_yaml(path.read_text()) or {}
        declared = {kind: content.get(f"{kind}s") or [] for kind in (*REFERABLE, "exposure")}
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError, OSError):
        return True
    disabled = [node for nodes in (manifest.get("disabled") or {}).values() for node in nodes]
    # Where the model's SQL or dbt_project.yml may say it, a properties file may be silent.
    elsewhere = "feature_view" in (project.folder / "dbt_project.yml").read_text()
    views: dict[tuple[Any, ...], list[Any]] = {}
    for node in (*manifest["nodes"].values(), *disabled):
        if node.get("resource_type") in REFERABLE:
            silent = elsewhere or "feature_view" in (node.get("raw_code") or "")
            known = [meta_of(node).get("feature_view"), *([None] if silent else [])]
            views.setdefault(_key(node["name"], node.get("version")), []).extend(known)
    services: dict[tuple[Any, ...], list[Any]] = {}
    for exposure in (*(manifest.get("exposures") or {}).values(), *disabled):
        services.setdefault(_key(exposure["name"], None), [None]).append(meta_of(exposure).get("features"))
    return any(
        _differs(declaration, views.get(name, [None]))
        for kind in REFERABLE
        for entry in _entries(declared[kind])
        for name, declaration in _declarations(entry)
    ) or any(
        _differs(meta_of(entry).get("features"), services.get(_key(entry.get("name"), None), [None]))
        for entry in _entries(declared["exposure"])
        if entry.get("type") == "ml"
    )


def _declarations(entry: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What an entry of a properties file says of a view, or of each of its versions, where dbt merges both."""
    name, declared = entry.get("name"), meta_of(entry).get("feature_view")
    versions = [version for version in _entries(entry.get("versions")) if "v" in version]
    if not versions:
        yield _key(name, None), declared
    for version in versions:
        said = {"it": declared} if declared is not None else {}
        own = {"it": meta_of(version)["feature_view"]} if "feature_view" in meta_of(version) else {}
        yield _key(name, version["v"]), _merged(said, own).get("it")


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As dbt merges a version's configuration into its model's: mappings key by key, lists one before the other."""
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key, {}), dict):
            merged[key] = _merged(merged.get(key, {}), value)
        elif isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = [*value, *merged[key]]
        else:
            merged[key] = value
    return merged


def _differs(declared: Any, known: list[Any]) -> bool:
    return "{{" not in str(declared) and declared not in known  # only dbt can tell what a template says


def _entries(given: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []


def _key(name: Any, version: Any) -> tuple[str, str | None]:
    return str(name), None if version is None else str(version)
