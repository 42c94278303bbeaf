"""What the warehouse and the project's files know of a node's columns: asked only where the SQL does not say them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from materializer.errors import FeatureStoreError
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.warehouse import Warehouse, open_warehouse


@contextmanager
def built_columns(project: Project) -> Iterator[Callable[[Mapping[str, Any]], Sequence[str] | None]]:
    """Gives a function from a node to the names of its columns; None where neither the warehouse nor a file tells.

    The warehouse is opened with the first question. One that is locked or not there is not asked again.
    """
    with ExitStack() as stack:
        asked: list[Warehouse | None] = []

        def warehouse() -> Warehouse | None:
            if not asked:
                try:
                    asked.append(stack.enter_context(open_warehouse(project)))
                except FeatureStoreError:
                    asked.append(None)
            return asked[0]

        def columns(node: Mapping[str, Any]) -> Sequence[str] | None:
            if node.get("resource_type") == "seed":
                header = _header(project, node)
                if header:
                    return header
            opened = warehouse()
            relation = _relation(project, node)
            if opened is None or not relation:
                return None
            try:
                return [column.name for column in opened.columns(Relation(relation))]
            except FeatureStoreError:
                return None

        yield columns


def _relation(project: Project, node: Mapping[str, Any]) -> str:
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
