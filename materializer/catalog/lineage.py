"""Lineage in a project: with what dbt, the warehouse and the project's files know beside the manifest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from materializer.errors import FeatureStoreError
from materializer.project.compiled import compile_missing, with_compiled
from materializer.project.graph import Graph
from materializer.project.manifest import ProjectManifest
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.sql.lineage import Lineage, lineage_of
from materializer.sql.references import node_named, service_named
from materializer.warehouse import Warehouse, open_warehouse


def lineage_in(project: Project, manifest: ProjectManifest, reference: str, downstream: bool = False) -> list[Lineage]:
    """`lineage_of` in a project: dbt compiles what it has not yet, and where SQL is silent the warehouse is asked.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming what there is.
    """
    graph = Graph(with_compiled(project, manifest))
    service = None if downstream else service_named(graph, reference)
    if service:
        read = list(dict.fromkeys(node for node, _ in service[1].reads))
    else:
        unique_id = node_named(graph, reference)
        read = graph.below(unique_id) if downstream else [unique_id]
    compile_missing(project, manifest, [one for one in read if one in manifest["nodes"]], open_warehouse)
    with built_columns(project) as built:
        return lineage_of(Graph(manifest, built), reference, downstream)


@contextmanager
def built_columns(project: Project) -> Iterator[Callable[[Mapping[str, Any]], Sequence[str] | None]]:
    """Gives a function from a node to the names of its columns; None where neither the warehouse nor a file tells.

    The warehouse is opened with the first question. One that is locked or not there is not asked again.
    """
    with ExitStack() as stack:
        asked: list[Warehouse | None] = []

        def columns(node: Mapping[str, Any]) -> Sequence[str] | None:
            header = _header(project, node) if node.get("resource_type") == "seed" else None
            relation = relation_of(project, node)
            try:
                if not header and not asked:
                    asked.append(None)
                    asked[0] = stack.enter_context(open_warehouse(project))
                if header or not asked[0] or not relation:
                    return header
                return [column.name for column in asked[0].columns(Relation(relation))]
            except FeatureStoreError:
                return None

        yield columns


def relation_of(project: Project, node: Mapping[str, Any]) -> str:
    """A node's relation. Of a file that dbt-duckdb reads in its place, the path is taken from the project's folder."""
    relation = str(node.get("relation_name") or "")
    path = relation.strip("'")
    if relation.startswith("'") and "://" not in path and not Path(path).is_absolute():
        return f"'{project.folder / path}'"
    return relation


def _header(project: Project, node: Mapping[str, Any]) -> list[str] | None:
    """The names in the first line of a seed's file."""
    if node.get("package_name") != project.name or not node.get("original_file_path"):
        return None
    path = (project.folder / str(node["original_file_path"])).resolve()
    if not path.is_relative_to(project.folder.resolve()) or not path.is_file():
        return None  # a manifest may name anything
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = (node.get("config") or {}).get("delimiter") or ","
            return next(csv.reader(file, delimiter=delimiter), None)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError):
        return None
