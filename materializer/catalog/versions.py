"""What changed from one version of a view to the next, as the catalog's document has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Part = Mapping[str, Any]


def add_changes(views: Sequence[dict[str, Any]], columns: Mapping[str, Part]) -> None:
    """Note in `versions` of each view how each differs from the one before, in a sentence; null for the first."""
    known = {view["name"]: view for view in views}
    changes: dict[tuple[str, str], str] = {}
    for view in views:
        for old, new in pairwise(view["versions"] or ()):
            pair = (old["name"], new["name"])
            if pair not in changes:
                changes[pair] = _change(known[pair[0]], known[pair[1]], columns)
            new["change"] = changes[pair]
        for first in (view["versions"] or ())[:1]:
            first["change"] = None


def _change(old: Part, new: Part, columns: Mapping[str, Part]) -> str:
    before, after = ({one["name"]: one for one in view["features"]} for view in (old, new))
    both = [name for name in after if name in before]
    retyped = [name for name in both if before[name]["type"] != after[name]["type"]]
    made = [{name: _made(columns.get(f"{view['name']}:{name}")) for name in both} for view in (old, new)]
    otherwise = [name for name in both if name not in retyped and made[0][name] != made[1][name]]
    facts = [
        ("adds", [name for name in after if name not in before]),
        ("drops", [name for name in before if name not in after]),
        ("computes otherwise", otherwise),
        ("changes the type of", [f"{name} ({before[name]['type']} to {after[name]['type']})" for name in retyped]),
    ]
    if old["entities"] != new["entities"]:
        facts.append(("is keyed by", list(new["entities"])))
    return "; ".join(f"{verb} {_listed(names)}" for verb, names in facts if names) or "no feature changed"


def _made(hop: Part | None) -> tuple[Any, ...] | None:
    return hop and ([sql for _, sql, _ in hop["steps"]], hop["values"], hop["counts"])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(names) if more < 2 else f"{', '.join(names[:5])} and {more} more"
