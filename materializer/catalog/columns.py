"""The lineage of all columns, as the catalog's document has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from materializer.catalog.declared import Names
from materializer.project.graph import Graph
from materializer.project.relation import PACKAGE
from materializer.sql.columns import Read
from materializer.sql.hops import Hop
from materializer.sql.steps import ROWS

# What a macro of the package calls its own parts.
_INNER = re.compile(r'(?:"?_fs_\w+"?\.)?"?(_fs_\w+)"?')
_DEEPEST = 6


def column_parts(graph: Graph, names: Names, read: Mapping[str, Read]) -> tuple[dict[str, Any], list[list[str]]]:
    """By ``relation:column`` the hop of each column that has one, and the sets of columns that decide over rows: many
    columns have the same one, so each names its own by its place."""
    columns: dict[str, Any] = {}
    sets: dict[tuple[str, ...], int] = {}
    for unique_id, node in read.items():
        if graph.nodes[unique_id].get("package_name") == PACKAGE:
            continue
        relation = names[unique_id]
        for name, hop in node.hops.items():
            if name == ROWS:
                continue
            rows = tuple(_references(names, hop.rows))
            columns[f"{relation}:{name}"] = {
                "steps": [list(step) for step in _steps(hop)],
                "values": list(_references(names, hop.values)),
                "counts": [names[one] for one in hop.counts],
                "rows": sets.setdefault(rows, len(sets)),
                **({"problem": " ".join(hop.problems)} if hop.problems else {}),
            }
    for unique_id, exposure in graph.exposures.items():
        for one in graph.on_demand(unique_id).values():
            columns[f"{exposure['name']}:{one.name}"] = {
                "steps": [[one.name, one.expression, None]],
                "values": list(_references(names, one.reads)),
                "counts": [],
                "rows": sets.setdefault((), len(sets)),
            }
    return columns, [list(one) for one in sets]


def _references(names: Names, columns: Iterable[tuple[str, str]]) -> dict[str, None]:
    return dict.fromkeys(f"{names[node]}:{name}" for node, name in columns)


def _steps(hop: Hop) -> list[tuple[str, str, str | None]]:
    """The steps that a user would know: of a macro's own columns, what they are stands in their place."""
    inner: dict[str, dict[str, None]] = {}
    shown = []
    for name, sql, part in hop.steps:
        if name.startswith("_fs_"):
            inner.setdefault(name, {})[sql] = None
        elif sql:
            shown.append((name, sql, None if part and part.startswith("_fs_") else part))
    return list(dict.fromkeys((name, _outward(sql, inner), part) for name, sql, part in shown))


def _outward(sql: str, inner: Mapping[str, Mapping[str, None]]) -> str:
    for _ in range(_DEEPEST if "_fs_" in sql else 0):
        made = _INNER.sub(lambda found: _meant(found, inner), sql)
        if made == sql:
            break
        sql = made
    return sql


def _meant(found: re.Match[str], inner: Mapping[str, Mapping[str, None]]) -> str:
    """What a macro's own name stands for; where that is several things, the first of them."""
    meanings = [one for one in inner.get(found[1], ()) if found[1] not in one]
    if not meanings:
        return found[1] if found[1] in inner else found[0]
    return meanings[0] if re.fullmatch(r"[\w.\"]+|\w+\(.*\)", meanings[0]) else f"({meanings[0]})"
