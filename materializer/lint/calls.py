"""The rule that reads the model's own Jinja: a window macro over events that have a load time must be given it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from materializer.lint.sql import Spot
from materializer.project.graph import Graph
from materializer.project.sandbox import sandbox

_MACROS = ("window_aggregates", "aggregate_as_of")
_PLACE_OF_CREATED = {"window_aggregates": 6, "aggregate_as_of": 8}
_PLACE_OF_TIMESTAMP = {"window_aggregates": 2, "aggregate_as_of": 3}


def calls_without_load_time(model: Mapping[str, Any], graph: Graph) -> list[Spot]:
    """Window calls without ``created_timestamp`` in a model whose sources say ``loaded_at_field``."""
    raw = model["raw_code"]
    if not any(name in raw for name in _MACROS):
        return []
    loaded = {}
    for source in graph.sources_above(model):
        field = (source.get("config") or {}).get("loaded_at_field") or source.get("loaded_at_field")
        if field:
            loaded[f"{source['source_name']}.{source['name']}"] = field
    if not loaded:
        return []
    try:
        tree = sandbox(extensions=["jinja2.ext.do"]).parse(raw)
    except (jinja2.TemplateSyntaxError, RecursionError):
        return []
    spots = []
    for call in tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Getattr) or call.node.attr not in _MACROS:
            continue
        name = call.node.attr
        given = {keyword.key: keyword.value for keyword in call.kwargs}
        created = given.get("created_timestamp")
        has_created = len(call.args) > _PLACE_OF_CREATED[name] or (
            created is not None and not (isinstance(created, nodes.Const) and created.value is None)
        )
        place = _PLACE_OF_TIMESTAMP[name]
        timestamp = given.get("timestamp", call.args[place] if len(call.args) > place else None)
        event = timestamp.value if isinstance(timestamp, nodes.Const) else None
        late = {source: field for source, field in loaded.items() if field != event}
        if not has_created and late:
            source, field = sorted(late.items())[0]
            line = raw.splitlines()[call.lineno - 1]
            column = line.find(name) + 1 or 1
            spots.append(Spot(
                "load-time", "error", call.lineno, column,
                f"Source '{source}' has a load time ({field}) that this {name} does not use, so training sees "
                f"events before serving could: pass created_timestamp='{field}' (carry the column through the models "
                "between).",
                model["original_file_path"],
            ))  # fmt: skip
    return spots
