"""How many events the windows of a model hold, and whether the other shape of its SQL would do better."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from materializer.errors import FeatureStoreError
from materializer.project.duration import parse_duration
from materializer.project.render import Relation
from materializer.warehouse import Warehouse

# What the window macros write: their first line, the CTE that reads the events, and the lengths of the windows.
_CALL = re.compile(
    r"^\s*-- shape (?P<shape>dense|range): .*?"
    r"^(?P<indent> *)_fs_(?:source|events) as \(\n(?P<events>.*?)\n(?P=indent)\)",
    re.MULTILINE | re.DOTALL,
)
_LENGTH = re.compile(r" over (\d+ [a-z]+)(?: (?:up to|before) \".*\")?(?:, known from \".*\")? \*/")
# Below, `range` is cheaper; the time is worth a word only where there are many events.
SPARSE, MANY = 10, 1_000_000
# Above, the range join costs about ten times as much.
CROWDED = 500


def window_hints(nodes: Mapping[str, Mapping[str, Any]], warehouse: Warehouse) -> Iterator[tuple[str, str]]:
    """(model, sentence) for each compiled model whose windows another `shape` would make cheaper.

    Reads the keys and times of all their events; what cannot be read gets no hint.
    """
    densities: dict[str, tuple[int, float] | None] = {}
    for node in nodes.values():
        for call in _CALL.finditer(node.get("compiled_code") or "" if node.get("resource_type") == "model" else ""):
            lengths = _LENGTH.findall(call.string[call.end() :])
            longest = max((parse_duration(length, "a window") for length in lengths), default=None)
            if longest is None:
                continue
            asked = f"{longest} {call['events']}"
            if asked not in densities:
                densities[asked] = _density(call["events"], longest.total_seconds(), warehouse)
            rows, held = densities[asked] or (0, 0.0)
            said = f"its longest window holds about {held:,.0f} events"
            if call["shape"] == "range" and held > CROWDED:
                yield node["name"], f"{said}, and shape='range' joins each moment with all of them: leave it out"
            elif call["shape"] == "dense" and rows >= MANY and held < SPARSE:
                yield node["name"], f"{said}, and there are {rows:,} events: shape='range' is cheaper for so few"


def _density(events: str, seconds: float, warehouse: Warehouse) -> tuple[int, float] | None:
    """How many events there are, and how many a window of this length holds as an event sees it: hot keys count."""
    try:
        columns = warehouse.columns(Relation(f"(\n{events}\n)"))
        keys = ", ".join('"' + column.name.replace('"', '""') + '"' for column in columns if column.name[:4] != "_fs_")
        (row,) = warehouse.query(
            f"""select sum(n) as rows, sum(n * least(1, {seconds} / seconds) * n) / sum(n) as held
            from (
                select count(*) as n, extract(epoch from max(_fs_event) - min(_fs_event)) + 1 as seconds
                from (\n{events}\n) as events
                group by {keys}
            ) as entities"""
        ).to_pylist()
    except FeatureStoreError:
        return None
    return (int(row["rows"]), float(row["held"])) if row["rows"] else None
