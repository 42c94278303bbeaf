"""The catalog document cut into what the page reads at once, what it reads next, and what it reads when asked for.

A browser takes seconds to read the JSON of fifty thousand features, and a list of them needs a few words of each. So
the page holds several blocks of JSON: the *head* (the project, and a row a view), read before the first paint; an index
of features, of models and sources, and of findings; and the rest in pieces of some views, models or sources, each read
when a page shows one of them. Lineage travels with the relation whose columns it is about, with the way down worked out
here, once.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

PIECE = 200_000  # characters of JSON that are read in one go, at the least

Document = dict[str, Any]


def parts(document: Document) -> tuple[str, list[str]]:
    """The head's JSON, and the other blocks as `script` elements."""
    found = Counter(finding["ref"].split(":")[0] for finding in document.get("findings") or [])
    asked = _services_of(document)
    lineage = _Lineage(document.get("columns") or {}, document.get("row_sets") or [])
    pieces: dict[str, list[int]] = {}
    blocks = [
        _block("features", _features(document, asked)),
        _block("relations", _relations(document)),
        _packed("findings", _json({name: document.get(name) or [] for name in ("findings", "checks", "remedies")})),
        _packed("training-sets", _json(document.get("training_sets") or [])),
        _packed("row-sets", _json(lineage.row_sets)),
    ]
    for kind in ("views", "models", "sources"):
        pieces[kind] = starts = []
        for start, texts in _pieces({**thing, **lineage.of(thing["name"])} for thing in document.get(kind) or []):
            starts.append(start)
            blocks.append(_packed(f"{kind}-{start}", "[" + ",".join(texts) + "]"))
    owners: list[Document | None] = []
    head = {
        "project": document["project"],
        "views": [_view_row(view, found, asked, owners) for view in document["views"]],
        "owners": owners,
        "entities": [{**entity, "views": len(entity.get("views") or [])} for entity in document.get("entities") or []],
        "services": [{**service, **lineage.of(service["name"])} for service in document.get("services") or []],
        "counts": {
            "features": sum(len(view["features"]) for view in document["views"]),
            "models": len(document.get("models") or []),
            "sources": len(document.get("sources") or []),
            "findings": Counter(finding["severity"] for finding in document.get("findings") or []),
        },
        "samples": document.get("samples") or {},
        "pieces": pieces,
    }
    return _json(head), blocks


def _view_row(
    view: Document, found: Counter[str], asked: dict[str, list[str]], owners: list[Document | None]
) -> Document:
    """What a list needs of a view; its owner by the number in `owners`."""
    owner = view.get("owner")
    if owner not in owners:
        owners.append(owner)
    freshness, online = view.get("freshness") or {}, view.get("online") or {}
    features = view["features"]
    services = {name for feature in features for name in asked.get(f"{view['name']}:{feature['name']}", ())}
    return {
        "name": view["name"],
        "description": view.get("description") or "",
        "owner": owners.index(owner),
        "tags": view.get("tags") or [],
        "entities": view["entities"],
        "features": len(features),
        "first": [feature["name"] for feature in features[:6]],
        "types": sorted({_family(feature.get("type")) for feature in features}),
        "services": sorted(services),
        "used": len(view.get("used_by") or []),
        "status": freshness.get("status"),
        "newest": freshness.get("newest_event"),
        "ttl": view.get("ttl_seconds"),
        "online": {name: online.get(name) for name in ("wanted", "published", "rows", "last_run")},
        "problem": view.get("problem"),
        "found": found[view["name"]],
    }


def _features(document: Document, asked: dict[str, list[str]]) -> Document:
    """What a list needs of each feature, as columns: those are read several times faster than objects."""
    types: dict[str, int] = {}
    families: dict[str, int] = {}
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            *("view", "name", "type", "family", "description"),
            *("nulls", "shape", "drift", "verdict", "services", "sql"),
        )
    }
    services = {service["name"]: index for index, service in enumerate(document.get("services") or [])}
    lineage = document.get("columns") or {}
    for index, view in enumerate(document["views"]):
        for feature in view["features"]:
            reference = f"{view['name']}:{feature['name']}"
            statistics, drift = feature.get("statistics"), feature.get("drift") or {}
            on_demand = feature.get("on_demand") or {}
            steps = (lineage.get(reference) or {}).get("steps") or []
            psi = drift.get("population_stability_index")
            columns["view"].append(index)
            columns["name"].append(feature["name"])
            columns["type"].append(types.setdefault(feature.get("type") or "", len(types)))
            columns["family"].append(families.setdefault(_family(feature.get("type")), len(families)))
            columns["description"].append(feature.get("description") or "")
            columns["nulls"].append(None if not statistics else _rounded(statistics.get("null_fraction")))
            columns["shape"].append("on demand" if on_demand else _shape(statistics))
            columns["drift"].append(_rounded(psi))
            columns["verdict"].append(drift.get("verdict"))
            columns["services"].append([services[name] for name in asked.get(reference, ()) if name in services])
            columns["sql"].append(
                " ".join([*(step[1] for step in steps), on_demand.get("expression") or ""]).strip()[:300]
            )
    reads = [view.get("reads") or [] for view in document["views"]]
    return {"types": list(types), "families": list(families), "reads": reads, **columns}


def _relations(document: Document) -> Document:
    """What a list needs of models and sources."""
    return {
        "models": [
            [
                model["name"],
                model.get("description") or "",
                model.get("kind") or "model",
                model.get("materialized") or "",
                model.get("file") or "",
                model.get("status") or "",
            ]
            for model in document.get("models") or []
        ],
        "sources": [
            [
                source["name"],
                source.get("description") or "",
                source.get("location") or "",
                source.get("rows"),
                source.get("newest_load"),
                [column["name"] for column in source.get("columns") or []],
                source.get("warn_after_seconds"),
                source.get("error_after_seconds"),
            ]
            for source in document.get("sources") or []
        ],
    }


def _services_of(document: Document) -> dict[str, list[str]]:
    """The services that ask for each feature."""
    asked: dict[str, list[str]] = defaultdict(list)
    for service in document.get("services") or []:
        for reference in service["features"]:
            asked[reference].append(service["name"])
    return asked


class _Lineage:
    """One hop up and one hop down of every column, by the relation that the column is in.

    Which columns decide the rows of a column is a set that it shares with its neighbours: `row_sets` holds each set
    once, with the columns that it belongs to.
    """

    def __init__(self, columns: dict[str, Document], sets: list[list[str]]) -> None:
        self.row_sets: Document = {"sets": sets, "columns": [[] for _ in sets]}
        self._up: dict[str, Document] = defaultdict(dict)
        self._down: dict[str, dict[str, list[list[str]]]] = defaultdict(lambda: defaultdict(list))
        for reference, hop in columns.items():
            relation, _, column = reference.rpartition(":")
            deciding = hop.get("rows")
            if deciding is not None:
                self.row_sets["columns"][deciding].append(reference)
            self._up[relation][column] = [
                *(hop.get(name) or [] for name in ("steps", "values", "counts")),
                deciding,
                *([hop["problem"]] if hop.get("problem") else []),
            ]
            for origin in dict.fromkeys(hop.get("values") or []):
                above, _, name = origin.rpartition(":")
                self._down[above][name].append([reference, "values"])
            for above in dict.fromkeys(hop.get("counts") or []):
                self._down[above]["*"].append([reference, "counts"])

    def of(self, relation: str) -> Document:
        return {"up": self._up.get(relation, {}), "down": self._down.get(relation, {})}


def _pieces(things: Iterable[Document]) -> Iterator[tuple[int, list[str]]]:
    """JSON texts in groups of about `PIECE` characters, each with the number of its first."""
    start, size, texts = 0, 0, []
    for index, thing in enumerate(things):
        text = _json(thing)
        texts.append(text)
        size += len(text)
        if size >= PIECE:
            yield start, texts
            start, size, texts = index + 1, 0, []
    if texts:
        yield start, texts


def _shape(statistics: Document | None) -> str | float | list[float] | None:
    """A feature's values, small enough for a row of a list: the heights of a histogram as one letter each (`a` is
    nothing, `z` the tallest), the shares of the commonest texts, or the mean norm of lists."""
    if not statistics:
        return None
    if statistics.get("kind") == "list":
        return _rounded(statistics.get("mean_norm")) if statistics.get("mean_norm") is not None else ""
    core, top = statistics.get("core"), statistics.get("top_values")
    if core and core.get("counts"):
        tallest = max(core["counts"]) or 1
        return "".join(chr(97 + (0 if not n else max(1, round(25 * n / tallest)))) for n in core["counts"])
    if top:
        rows = (statistics.get("row_count") or 0) - (statistics.get("null_count") or 0)
        return [round(value[1] / rows, 3) for value in top[:6]] if rows else ""
    return ""


def _family(dtype: str | None) -> str:
    """A type without its sizes: `decimal(10,2)` is `decimal`, `float[128]` is `float[]`."""
    name = (dtype or "unknown").split("(")[0].strip()
    return name.split("[")[0] + "[]" if "[" in name else name


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _block(name: str, value: object) -> str:
    return _script(name, _json(value))


def _packed(name: str, text: str) -> str:
    """A block that is read only when a page needs it, packed: a tenth is left, and a browser reads the file as much
    sooner."""
    content = text.encode()
    packer = zlib.compressobj(wbits=-15)
    packed = b64encode(packer.compress(content) + packer.flush()).decode()
    return f'<script type="text/plain" id="{name}" data-bytes="{len(content)}">{packed}</script>'


def _script(name: str, text: str) -> str:
    return f'<script type="application/json" id="{name}">{text}</script>'


def _json(value: object) -> str:
    """JSON that stands in a `script` element: no `<`, so that nothing in it can end the element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")
