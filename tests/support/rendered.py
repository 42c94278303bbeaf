"""Views that need no dbt run: tables of an in-memory DuckDB, with the package's macros rendered over them."""

from __future__ import annotations

from typing import Any

import duckdb

from materializer.project.relation import Column, Relation
from materializer.project.render import MacroRenderer


class Views:
    """Feature views on a connection: ``create`` a table, then ``rows`` of what a macro gives for it."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("set TimeZone = 'UTC'")
        self._nodes: dict[str, Any] = {}

    def create(self, name: str, query: str, **meta: Any) -> None:
        """A view called `name` with the rows of a query; `meta` is its ``meta.feature_view`` beside the entities."""
        self.connection.execute(f"create or replace table {name} as {query}")
        self._nodes[name] = {
            "resource_type": "model", "name": name, "version": None, "latest_version": None, "description": "",
            "tags": [], "columns": {}, "relation_name": f'"memory"."main"."{name}"',
            "config": {"meta": {"feature_view": {"entities": ["user_id"], **meta}}},
        }  # fmt: skip

    def sql(self, macro: str, *args: Any, **kwargs: Any) -> str:
        """What the macro renders to."""
        manifest = {
            "metadata": {"adapter_type": "duckdb", "project_name": "shop"},
            "macros": {},
            "nodes": self._nodes,
        }
        return MacroRenderer(manifest, self._columns).render(macro, *args, **kwargs)

    def rows(self, macro: str, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """The rows that the macro's query gives."""
        return self.connection.sql(self.sql(macro, *args, **kwargs)).to_arrow_table().to_pylist()

    def _columns(self, relation: Relation) -> list[Column]:
        try:
            described = self.connection.execute(f"describe select * from {relation}").fetchall()
        except duckdb.CatalogException:
            return []
        return [Column(row[0], row[1]) for row in described]
