"""Lineage as text, JSON, Mermaid and DOT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from materializer.printable import clipped, printable
from materializer.sql.edges import Column, Edge, Kind, Lineage

# How long an expression may be on a line; JSON has it whole.
_WIDEST = 100


def label(column: Column) -> str:
    """A column as a user would call it: ``user_features:age``, inside of a model ``user_features[final]:age``."""
    part = f"[{column.part}]" if column.part else ""
    field = f".{column.field}" if column.field else ""
    name = f"{column.name}{field}"
    if column.node.startswith("exposure."):
        service = called(column.node)
        return service if name == "*" else f"{service} ({name})"
    return f"{called(column.node)}{part}:{name}"


def called(unique_id: str) -> str:
    """The name in a unique id: ``user_features.v2`` of ``model.shop.user_features.v2``."""
    kind, _, rest = unique_id.partition(".")
    known = kind in ("model", "source", "seed", "snapshot", "exposure")
    return rest.partition(".")[2] if known and "." in rest else unique_id


def kind_of(column: Column, lineage: Lineage) -> str:
    """What has the column, in a word or two."""
    if column.node in lineage.views:
        return "feature view"
    kind = column.node.partition(".")[0]
    if kind == "exposure":
        return "exposure" if column.name == "*" else "feature service"
    return kind if kind in ("model", "source", "seed", "snapshot") else "outside of the project"


def as_json(lineage: Lineage) -> dict[str, Any]:
    """A lineage as one JSON object."""
    return {
        "column": _column_json(lineage.start, lineage),
        "direction": lineage.direction,
        "sources": [_column_json(one, lineage) for one in lineage.sources] if lineage.direction == "upstream" else None,
        "values": [_column_json(one, lineage) for one in lineage.values],
        "counted": [_column_json(one, lineage) for one in lineage.counted],
        "filters": [_column_json(one, lineage) for one in lineage.filters],
        "constants": [
            {"column": _column_json(c.column, lineage), "expression": c.expression} for c in lineage.constants
        ],
        "unresolved": [{"column": _column_json(u.column, lineage), "reason": u.reason} for u in lineage.unresolved],
        "edges": [
            {
                "source": _column_json(edge.source, lineage),
                "target": _column_json(edge.target, lineage),
                "kind": edge.kind,
                "expression": edge.expression,
            }
            for edge in lineage.edges
        ],
    }


def _column_json(column: Column, lineage: Lineage) -> dict[str, Any]:
    return {
        "reference": label(column),
        "node": column.node,
        "part": column.part or None,
        "name": column.name,
        "field": column.field or None,
        "kind": kind_of(column, lineage),
    }


def as_text(lineage: Lineage) -> str:
    """A lineage for reading: upstream as a tree of expressions, downstream as a list; then what it comes to."""
    lines = _tree(lineage) if lineage.direction == "upstream" else _uses(lineage)
    ends = [column for column in lineage.filters if _is_end(column)]
    if lineage.direction == "upstream":
        counted = [column for column in lineage.counted if _is_end(column)] or list(lineage.counted)
        facts = [
            ("values from", [label(column) for column in lineage.sources]),
            ("counts rows of", [called(column.node) for column in counted]),
            ("constants", list(dict.fromkeys(clipped(one.expression, _WIDEST) for one in lineage.constants))),
            ("rows decided by", sorted(label(column) for column in ends)),
        ]
        told = [f"{title + ':':<17}{', '.join(listed)}" for title, listed in facts if listed]
        lines += ["", *told] if told else []
    if lineage.unresolved:
        lines += ["", "not resolved:"]
        lines += [f"  {label(one.column)}: {one.reason}" for one in lineage.unresolved]
    return "\n".join(map(printable, lines))


def _is_end(column: Column) -> bool:
    return column.node.partition(".")[0] not in ("model", "snapshot")


def _tree(lineage: Lineage) -> list[str]:
    """The column, and indented below each column those whose values are in it, with the expression that makes it."""
    made: dict[Column, list[Edge]] = {}
    for edge in lineage.edges:
        if edge.kind == "value" or (edge.kind == "rows" and edge.target.name != "*"):
            made.setdefault(edge.target, []).append(edge)
    constants: dict[Column, list[str]] = {}
    for one in lineage.constants:
        constants.setdefault(one.column, []).append(one.expression)
    broken = {one.column for one in lineage.unresolved}
    lines: list[str] = []
    shown: set[Column] = set()
    waiting: list[tuple[Column, int]] = [(lineage.start, 0)]
    while waiting:
        column, depth = waiting.pop()
        edges = made.get(column, [])
        expressions = dict.fromkeys([*(edge.expression for edge in edges), *constants.get(column, ())])
        text = f"{'  ' * depth}{label(column)}"
        if expressions:
            text += " = " + " | ".join(clipped(one, _WIDEST) for one in expressions)
        if column.name == "*":
            text = f"{'  ' * depth}rows of {label(column).removesuffix(':*')}"
        elif column in shown and edges:
            lines.append(f"{'  ' * depth}{label(column)} (see above)")
            continue
        elif column in broken:
            text += "  (not resolved: see below)"
        elif not expressions:
            text += f"  ({kind_of(column, lineage)})"
        shown.add(column)
        lines.append(text)
        waiting += [(one, depth + 1) for one in reversed(dict.fromkeys(edge.source for edge in edges))]
    return lines


def _uses(lineage: Lineage) -> list[str]:
    groups: dict[str, list[str]] = {}
    for way, columns in (("its values", lineage.values), ("only which rows", lineage.filters)):
        for column in columns:
            kind = kind_of(column, lineage)
            name = label(column)
            if column.name == "*" and not column.node.startswith("exposure."):
                name = f"{called(column.node)} (all columns)"
            groups.setdefault(kind, []).append(f"  {name:<60} {way}")
    lines = [f"{label(lineage.start)} is used by" + ("" if groups else " nothing")]
    titles = {
        "feature view": "feature views", "feature service": "feature services", "model": "models",
        "snapshot": "snapshots", "exposure": "other exposures",
    }  # fmt: skip
    for kind, title in titles.items():
        if kind in groups:
            lines += ["", title, *groups[kind]]
    return lines


def between_nodes(lineage: Lineage) -> list[tuple[Column, Column, Kind]]:
    """The edges between columns of whole nodes, over the CTEs in between: of values, and of rows that are counted."""
    onward: dict[Column, list[tuple[Column, Kind]]] = {}
    for edge in lineage.edges:
        if edge.kind != "filter":
            onward.setdefault(edge.target, []).append((edge.source, edge.kind))
    flowing = {lineage.start, *lineage.values}
    found: dict[tuple[Column, Column, Kind], None] = {}
    for target in [lineage.start, *lineage.values]:
        waiting: list[tuple[Column, Kind]] = list(onward.get(target, ()))
        seen = set(waiting)
        while waiting:
            column, kind = waiting.pop()
            if not column.part:
                whole = Column(column.node, column.name)
                if whole != target and (kind == "rows" or whole in flowing):
                    found[whole, target, kind] = None
                continue
            for source, next_kind in onward.get(column, ()):
                one = (source, "rows" if "rows" in (kind, next_kind) else "value")
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
    return list(found)


def as_mermaid(lineages: Sequence[Lineage]) -> str:
    """A Mermaid flowchart of columns, grouped by node: solid where values flow, dotted where rows are counted."""
    numbers, nodes, edges = _drawing(lineages)
    lines = ["flowchart LR"]
    for group, (node, columns) in enumerate(nodes.items()):
        lines.append(f'  subgraph n{group}["{_mermaid(called(node))}"]')
        lines += [f'    c{numbers[column]}["{_mermaid(_drawn(column))}"]' for column in columns]
        lines.append("  end")
    for source, target, kind in edges:
        lines.append(f"  c{numbers[source]} {'-->' if kind == 'value' else '-.->'} c{numbers[target]}")
    return "\n".join(lines)


def as_dot(lineages: Sequence[Lineage]) -> str:
    """A graph for Graphviz: solid where values flow, dotted where rows are counted."""
    numbers, nodes, edges = _drawing(lineages)
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
    for group, (node, columns) in enumerate(nodes.items()):
        lines.append(f"  subgraph cluster_{group} {{")
        lines.append(f'    label="{_dot(called(node))}";')
        lines += [f'    c{numbers[column]} [label="{_dot(_drawn(column))}"];' for column in columns]
        lines.append("  }")
    for source, target, kind in edges:
        style = "" if kind == "value" else " [style=dotted]"
        lines.append(f"  c{numbers[source]} -> c{numbers[target]}{style};")
    return "\n".join([*lines, "}"])


def _drawing(
    lineages: Sequence[Lineage],
) -> tuple[dict[Column, int], dict[str, list[Column]], list[tuple[Column, Column, Kind]]]:
    edges = list(dict.fromkeys(edge for lineage in lineages for edge in between_nodes(lineage)))
    columns = [lineage.start for lineage in lineages] + [column for edge in edges for column in edge[:2]]
    numbers = {column: number for number, column in enumerate(dict.fromkeys(columns))}
    nodes: dict[str, list[Column]] = {}
    for column in numbers:
        nodes.setdefault(column.node, []).append(column)
    return numbers, nodes, edges


def _drawn(column: Column) -> str:
    return "rows" if column.name == "*" else column.name


def _mermaid(text: str) -> str:
    """In quotes Mermaid still reads markup, entities and directives: only letters, digits and these stay themselves."""
    named = {'"': "#quot;", "<": "#lt;", ">": "#gt;"}
    return re.sub(r"[^\w .,:()\[\]-]", lambda one: named.get(one[0]) or f"#{ord(one[0])};", printable(text))


def _dot(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
