"""Search over what a registry holds: features, views, entities and services, the best match first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from materializer.catalog.declared import entity_parts, service_part, view_part
from materializer.project.definitions import FeatureService, FeatureView

# What a word counts where it is found; a name says more about a thing than a sentence on it.
_WEIGHTS = {
    "name": 10.0, "tag": 6.0, "view": 5.0, "entity": 4.0, "owner": 4.0, "type": 3.0, "description": 2.0, "feature": 2.0,
}  # fmt: skip
_SAME, _BEGINS, _WITHIN, _ALIKE = 1.0, 0.7, 0.4, 0.25
# Words this alike are taken for a slip of the finger: 'purchse' is 0.93 like 'purchase'.
_SLIP = 0.8
_ORDER = ("view", "service", "feature", "entity")

_SQL = {
    "int8": "tinyint", "int16": "smallint", "int32": "integer", "int64": "bigint", "float": "real float32",
    "double": "float64", "string": "varchar text", "bool": "boolean", "timestamp": "timestamptz",
    "decimal128": "numeric", "binary": "blob bytes",
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """One thing that was found.

    `kind` is ``feature``, ``view``, ``entity`` or ``service``; `reference` is how it is asked for; `found_in` the
    fields that matched, the best first; `score` orders the matches of one search and means nothing else.
    """

    kind: str
    reference: str
    type: str | None
    owner: str | None
    description: str
    score: float = 0.0
    found_in: tuple[str, ...] = ()


# Something that may be found, the texts that a word is looked for in, and the join keys that it is keyed by.
_Thing = tuple[Match, Mapping[str, str], Iterable[str]]


def search(
    views: Sequence[FeatureView],
    services: Iterable[FeatureService],
    text: str = "",
    *,
    entity: str | None = None,
    owner: str | None = None,
    type: str | None = None,
    kind: str | None = None,
) -> list[Match]:
    """Everything in which each word of `text` is found: in its name, tags, owner, entities, type or description.

    A word is found as it is, as the beginning of a word, or within one; the more exactly and the nearer to the name,
    the higher the score. Where nothing is found so, names and tags are looked through for slips of the finger.

    Args:
        text: words; none finds everything that the other arguments leave.
        entity: only what is keyed by this join key.
        owner: only what this group (or, for a service, this person or team) owns.
        type: only features and entities of this type in Arrow's words or SQL's (``int64``, ``bigint``), or one that
            has it in it (``float``).
        kind: only one of ``feature``, ``view``, ``entity``, ``service``.
    """
    views = list(views)
    document = {
        "views": [view_part(view) for view in views],
        "services": [service_part(service) for service in services],
        "entities": entity_parts(views),
    }
    return search_document(document, text, entity=entity, owner=owner, type=type, kind=kind)


def search_document(
    document: Mapping[str, Any],
    text: str = "",
    *,
    entity: str | None = None,
    owner: str | None = None,
    type: str | None = None,
    kind: str | None = None,
) -> list[Match]:
    """As `search`, over the views, services and entities of a catalog's document."""
    words = list(dict.fromkeys(_words(text)))
    things = [
        (thing, texts, keys)
        for thing, texts, keys in _things(document)
        if (not kind or thing.kind == kind)
        and (not entity or entity.lower() in {name.lower() for name in keys})
        and (not owner or owner.lower() == (thing.owner or "").lower())
        and (not type or type.lower() in texts.get("type", ""))
    ]
    matches = _matches(words, things, slips=False) or _matches(words, things, slips=True)
    # Of two that match alike, the shorter name is nearer to what was asked.
    return sorted(matches, key=lambda m: (-m.score, _ORDER.index(m.kind), len(m.reference), m.reference))


def _matches(words: Sequence[str], things: Iterable[_Thing], slips: bool) -> list[Match]:
    matches = []
    for thing, texts, _ in things:
        places = [_place(word, texts, slips) for word in words]
        if None not in places:
            score = round(sum(score for score, _ in places), 2)
            found = tuple(dict.fromkeys(name for _, name in sorted(places, reverse=True)))
            matches.append(replace(thing, score=score, found_in=found))
    return matches


def _things(document: Mapping[str, Any]) -> Iterator[_Thing]:
    keys_of: dict[str, list[str]] = {}
    for view in document["views"]:
        name, owner, keys = view["name"], _owner(view), view["entities"]
        keys_of[name] = keys
        if view["latest"]:
            keys_of[view["model"]] = keys
        shared = {"tag": _tags(view), "owner": owner or "", "entity": " ".join(keys)}
        texts = {"name": name, "description": view["description"], **shared,
                 "feature": " ".join(feature["name"] for feature in view["features"])}  # fmt: skip
        yield Match("view", name, None, owner, view["description"]), texts, keys
        for feature in view["features"]:
            dtype = feature["arrow_type"]
            texts = {"name": feature["name"], "view": name, "type": _type_words(dtype), **shared,
                     "description": feature["description"]}  # fmt: skip
            yield Match("feature", f"{name}:{feature['name']}", dtype, owner, feature["description"]), texts, keys
    for entity in document["entities"]:
        texts = {"name": entity["name"], "description": entity["description"], "type": _type_words(entity["type"])}
        found = Match("entity", entity["name"], entity["type"], None, entity["description"])
        yield found, texts, [entity["name"]]
    for service in document["services"]:
        keys = {key for one in service["features"] for key in keys_of.get(one.split(":")[0], ())}
        texts = {
            "name": service["name"],
            "description": service["description"],
            "owner": _owner(service) or "",
            "tag": _tags(service),
            "feature": " ".join(service["features"]),
            "entity": " ".join(sorted(keys)),
        }
        yield Match("service", service["name"], None, _owner(service), service["description"]), texts, keys


def _owner(part: Mapping[str, Any]) -> str | None:
    owner = part["owner"] or {}
    return owner.get("group") or owner.get("name")


def _tags(part: Mapping[str, Any]) -> str:
    return " ".join(tag.replace("=", " ", 1) for tag in part["tags"])


def _place(word: str, texts: Mapping[str, str], slips: bool) -> tuple[float, str] | None:
    """Where a word is found best, and what that counts."""
    best = None
    for name, text in texts.items():
        likeness = _likeness(word, text, slips and name in ("name", "tag", "entity"))
        if likeness and (best is None or likeness * _WEIGHTS[name] > best[0]):
            best = (likeness * _WEIGHTS[name], name)
    return best


def _likeness(word: str, text: str, slips: bool) -> float:
    words = _words(text)
    if word in words:
        # A name that is the word and no more is what was meant.
        return _SAME + 0.5 / len(words)
    if any(one.startswith(word) for one in words):
        return _BEGINS
    if word in text.lower():
        return _WITHIN
    if slips and len(word) > 3 and difflib.get_close_matches(word, words, 1, _SLIP):
        return _ALIKE
    return 0.0


def _type_words(dtype: str | None) -> str:
    """A type as Arrow calls it and as SQL does: ``int64 bigint``."""
    if not dtype:
        return ""
    return f"{dtype} {_SQL.get(dtype.split('[')[0].split('(')[0], '')}".lower()


@lru_cache(maxsize=100_000)
def _words(text: str) -> tuple[str, ...]:
    """``avgOrderValues_7d`` is 'avg', 'order', 'value', '7d': one and many are the same word."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    words = (word for word in re.split(r"[^\w]+|_", parts.lower()) if word)
    return tuple(word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word for word in words)
