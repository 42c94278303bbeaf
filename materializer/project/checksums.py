"""A checksum of what makes a feature view's rows: two that are equal were made by the same SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from materializer.project.graph import Graph, meta_of

# Of what a view declares, that which decides what a row is: not how long one is good for, or who owns it.
_DECLARED = ("entities", "timestamp", "created_timestamp", "available_after")


class Checksums:
    """The checksums of one manifest's views: of the files of a model and of all above it, and of the macros they call.

    dbt's own macros do not count, and neither do comments in properties files.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._graph = Graph(manifest)
        self._macros: Mapping[str, Mapping[str, Any]] = manifest["macros"]
        self._of_dbt = {"dbt", f"dbt_{manifest['metadata'].get('adapter_type')}"}

    def of(self, unique_id: str) -> str:
        """The checksum of the view that this node is."""
        node = self._graph.nodes[unique_id]
        declared = meta_of(node).get("feature_view") or {}
        nodes = [node, *self._graph.above(node)]
        parts = {
            "declared": {name: declared.get(name) for name in _DECLARED},
            "files": sorted((one["unique_id"], (one.get("checksum") or {}).get("checksum") or "") for one in nodes),
            "macros": self._called(name for one in nodes for name in _macros_of(one)),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _called(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """The macros of these names and all that they call, with their text."""
        found: dict[str, str] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            macro = self._macros.get(name)
            if macro and name not in found and macro.get("package_name") not in self._of_dbt:
                found[name] = str(macro.get("macro_sql"))
                waiting += _macros_of(macro)
        return sorted(found.items())


def _macros_of(node: Mapping[str, Any]) -> list[str]:
    return list((node.get("depends_on") or {}).get("macros") or ())
