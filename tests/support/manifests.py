"""Manifests without dbt, for what only reads them: models as SQL with ``{{ ref('x') }}`` and ``{{ source('raw', 'x') }}``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.dbt import DbtProject

_REF = re.compile(r"\{\{ *ref\('(\w+)'(?:, v=(\d+))?\) *\}\}")
_SOURCE = re.compile(r"\{\{ *source\('(\w+)', '(\w+)'\) *\}\}")


def manifest(
    models: dict[str, str | dict[str, Any]],
    views: dict[str, dict[str, Any]] | None = None,
    services: dict[str, list[str]] | None = None,
    schema: str = "main",
    compiled: bool = True,
    database: str = "shop",
) -> dict[str, Any]:
    """A manifest of a project ``shop`` on DuckDB.

    Args:
        models: SQL by name; or a dict with `sql` and more of the node (`columns` as {name: type}, `config`). A version
            is called ``name.v2``; the greatest version is the latest, unless `latest` says otherwise.
        views: ``meta.feature_view`` by the model's name, for all its versions.
        services: feature references by the service's name.
        compiled: False leaves the compiled SQL out, as ``dbt parse`` does.
        database: the warehouse's file without its ending.
    """

    def relation(key: str) -> str:
        return f'"{database}"."{schema}"."{key.replace(".", "_")}"'

    def key_of(ref: re.Match[str]) -> str:
        number = ref[2] or (max(versions[ref[1]]) if versions.get(ref[1]) else None)
        return ref[1] + (f".v{number}" if number else "")

    found: dict[str, dict[str, Any]] = {
        name: one if isinstance(one, dict) else {"sql": one} for name, one in models.items()
    }
    versions: dict[str, list[int]] = {}
    for key in found:
        name, _, version = key.partition(".v")
        versions.setdefault(name, []).extend([int(version)] if version else [])
    nodes, sources = {}, {}
    for key, one in found.items():
        name, _, version = key.partition(".v")
        parents = [f"model.shop.{key_of(ref)}" for ref in _REF.finditer(one["sql"])]
        for source in _SOURCE.finditer(one["sql"]):
            unique_id = f"source.shop.{source[1]}.{source[2]}"
            parents.append(unique_id)
            sources[unique_id] = {
                "unique_id": unique_id, "resource_type": "source", "name": source[2], "source_name": source[1],
                "package_name": "shop", "relation_name": f'"{database}"."{source[1]}"."{source[2]}"', "columns": {}, "config": {},
                "description": "", "original_file_path": "models/sources.yml", "tags": [],
            }  # fmt: skip
        meta = {"feature_view": views[name]} if name in (views or {}) else {}
        config = {"materialized": "table", "meta": meta, **one.get("config", {})}
        nodes[f"model.shop.{key}"] = {
            "unique_id": f"model.shop.{key}", "resource_type": "model", "name": name, "package_name": "shop",
            "language": "sql", "config": config, "description": "", "tags": [],
            "columns": {c: {"name": c, "data_type": t, "description": ""} for c, t in one.get("columns", {}).items()},
            "database": database, "schema": schema, "relation_name": relation(key), "original_file_path": f"models/{key}.sql",
            "depends_on": {"nodes": parents, "macros": one.get("macros", [])}, "raw_code": one["sql"],
            "compiled_code": _SOURCE.sub(rf'"{database}"."\1"."\2"', _REF.sub(lambda ref: relation(key_of(ref)), one["sql"])) if compiled else None,
            "version": int(version) if version else None,
            "latest_version": one.get("latest", max(versions[name])) if version else None,
        }  # fmt: skip
    exposures = {
        f"exposure.shop.{name}": {
            "unique_id": f"exposure.shop.{name}", "name": name, "type": "ml", "description": "", "tags": [], "owner": {},
            "config": {"meta": {"features": features}}, "package_name": "shop",
            "depends_on": {"nodes": [f"model.shop.{feature.split(':')[0]}" for feature in features]},
        }
        for name, features in (services or {}).items()
    }  # fmt: skip
    return {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "adapter_type": "duckdb",
            "project_name": "shop",
        },
        "nodes": nodes, "sources": sources, "exposures": exposures, "macros": {}, "groups": {}, "disabled": {},
    }  # fmt: skip


def write_manifest(path: Path, content: dict[str, Any]) -> Path:
    """A manifest as a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def bare_project(folder: Path, warehouse: str = "shop.duckdb") -> Path:
    """A folder that is a dbt project ``shop`` as far as settings go, with nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dbt_project.yml").write_text("name: shop\nversion: 1.0.0\nprofile: shop\n")
    (folder / "profiles.yml").write_text(
        f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, path: {warehouse}}}}}}}\n"
    )
    return folder


def write_models(folder: Path, content: dict[str, Any]) -> Path:
    """The manifest of a project's folder, and the files of the models in it, so that it counts as fresh."""
    for node in content["nodes"].values():
        path = folder / node["original_file_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(node["raw_code"])
    write_manifest(folder / "target" / "manifest.json", content)
    return folder


def project_of(folder: Path, views: dict[str, dict[str, Any]]) -> DbtProject:
    """A project of these views as if dbt had read it; what is in its warehouse is the test's to make."""
    bare_project(folder, "warehouse.duckdb")
    models = dict.fromkeys(views, "select 1 as user_id")
    write_models(folder, manifest(models, views, database="warehouse"))
    return DbtProject(folder)
