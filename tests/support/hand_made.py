"""Manifests written by hand for lineage: any adapter, sources with declared columns, seeds, snapshots, exposures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def manifest_of(
    models: Mapping[str, str | Mapping[str, Any]],
    sources: Mapping[str, Sequence[str]] | None = None,
    adapter: str = "duckdb",
    exposures: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A manifest of models whose SQL reads ``{name}`` for another model and ``{raw.name}`` for a source.

    Args:
        models: by name (``name.v2`` for a version), SQL or more of the node (`sql`, `config`, `resource_type`, ...).
        sources: their declared columns by ``source.table``; a source that only the SQL names declares none.
        adapter: the kind of warehouse.
        exposures: by name, `depends_on` as names of models, and whatever else.
    """
    quote = "`" if adapter in ("bigquery", "spark", "databricks") else '"'

    def relation(*parts: str) -> str:
        return ".".join(f"{quote}{part}{quote}" for part in ("db", *parts))

    nodes: dict[str, Any] = {}
    for name, given in models.items():
        about = {"sql": given} if isinstance(given, str) else dict(given)
        kind, sql = about.pop("resource_type", "model"), about.pop("sql", None)
        bare, _, version = name.partition(".v")
        alias = name.replace(".v", "_v")
        nodes[name] = {
            "unique_id": f"{kind}.shop.{name}", "resource_type": kind, "name": bare, "alias": alias,
            "package_name": "shop", "original_file_path": f"models/{name}.sql", "schema": "main", "database": "db",
            "relation_name": relation("main", alias), "language": "sql", "depends_on": {"nodes": []}, "config": {},
            "columns": {}, "raw_code": sql or "", "compiled_code": sql,
            **({"version": int(version)} if version else {}), **about,
        }  # fmt: skip
    tables: dict[str, Any] = {}
    read = [one for node in nodes.values() for one in _braced(node["compiled_code"]) if one not in nodes]
    for name in dict.fromkeys([*(sources or {}), *read]):
        source, table = name.split(".")
        tables[name] = {
            "unique_id": f"source.shop.{source}.{table}", "resource_type": "source", "source_name": source,
            "name": table, "identifier": table, "package_name": "shop", "relation_name": relation(source, table),
            "columns": {column: {"name": column} for column in (sources or {}).get(name, ())}, "config": {},
        }  # fmt: skip
    known = nodes | tables
    for node in nodes.values():
        for name in _braced(node["compiled_code"]):
            node["compiled_code"] = node["compiled_code"].replace("{" + name + "}", known[name]["relation_name"])
            node["depends_on"]["nodes"].append(known[name]["unique_id"])
    return {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "adapter_type": adapter,
            "project_name": "shop",
        },
        "nodes": {node["unique_id"]: node for node in nodes.values()},
        "sources": {node["unique_id"]: node for node in tables.values()},
        "macros": {},
        "exposures": {
            f"exposure.shop.{name}": {
                "unique_id": f"exposure.shop.{name}", "name": name, "resource_type": "exposure", **about,
                "depends_on": {"nodes": [known[one]["unique_id"] for one in about.get("depends_on", ())]},
            }
            for name, about in (exposures or {}).items()
        },
    }  # fmt: skip


def _braced(sql: str | None) -> list[str]:
    """The names in braces in a text that may hold other braces, as a struct does: ``{a.b}``, not ``{'a': b}``."""
    return list(dict.fromkeys(re.findall(r"\{([a-z_0-9]+(?:\.[a-z_0-9]+)?)\}", sql or "")))
