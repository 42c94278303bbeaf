"""The published registry: what readers need to know of each view, kept in Redis beside the rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import redis
from redis.exceptions import NoPermissionError

from materializer.errors import NotFoundError, OnlineStoreError, worded
from materializer.online.keys import registry_key, revision_key, services_key, unescape
from materializer.online.topology import OnlineStore, is_wrong_type, masters, node_of
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView, OnDemand, Registry

FORMAT = 2  # until 1, `announced` was called `told`
# What of a view is published by its own name.
AS_DECLARED = ("name", "version", "timestamp", "created_timestamp", "description", "owner")


@dataclass(frozen=True)
class Published:
    """A published view with what its last run said of it: rows, newest event; all that readers go by, and whether
    that was announced to them."""

    view: FeatureView
    rows: int
    watermark: str | None
    definition: Mapping[str, Any]
    announced: bool
    # Which relation of which warehouse its rows were read from; None where an older release wrote it.
    read_from: str | None = None
    # Of a view that reads streams: the landing's number that its rows' build had seen, and the checksum of what makes
    # them.
    seen: int | None = None
    checksum: str | None = None
    published_at: str | None = None


def published_view(store: OnlineStore, namespace: str, reference: str) -> Published | None:
    """What is published of one view; None where nothing is, or nothing that can be read: a run writes it anew. Raises
    OnlineStoreError where the registry's key holds something else than a registry."""
    key = registry_key(namespace)
    with _our_key(key, namespace):
        text = node_of(store, key).hget(key, reference)
    published = None if text is None else _entry(text)
    if published is None:
        return None
    _check_format(published, namespace)
    announced = published.get("announced", published.get("told")) is True and _revision_stands(store, namespace)
    return Published(
        _from_json(published), published["rows"], published["watermark"], definition(published), announced,
        published.get("read_from"), _typed(published, "seen", int), _typed(published, "checksum", str),
        _typed(published, "published_at", str),
    )  # fmt: skip


def _typed(entry: Mapping[str, Any], name: str, kind: type) -> Any:
    return entry[name] if type(entry.get(name)) is kind else None


def published_texts(store: OnlineStore, namespace: str) -> dict[str, bytes]:
    """What is published of every view, as the JSON that it is."""
    found = read_hash(store, registry_key(namespace), namespace)
    return {name.decode(errors="replace"): text for name, text in found.items()}


def published_at(text: bytes) -> datetime | None:
    """When this was published; None where it cannot be read."""
    entry = _entry(text)
    return datetime.fromisoformat(entry["published_at"]) if entry and entry["format"] <= FORMAT else None


def published_facts(store: OnlineStore, namespace: str) -> dict[str, dict[str, Any]]:
    """Of every published view that can be read: `rows`, `newest_event` and `published_at`."""
    entries = {name: _entry(text) for name, text in published_texts(store, namespace).items()}
    return {
        name: {
            "rows": entry["rows"],
            "newest_event": entry["watermark"] and datetime.fromisoformat(entry["watermark"]),
            "published_at": datetime.fromisoformat(entry["published_at"]),
        }
        for name, entry in entries.items()
        if entry is not None and entry["format"] <= FORMAT
    }


def read_from_elsewhere(reference: str, before: str | None, now: str) -> str | None:
    """A sentence where a view's rows online were read from another warehouse or schema than `now`; else None."""
    if before is None or before == now:
        return None
    return (
        f"The rows of '{reference}' were last read from {before}, and now from {now}: two that share a namespace "
        "overwrite each other; give each its own --namespace."
    )


class Reading(NamedTuple):
    """The registry of a revision, with how many rows each view had and when it was published last."""

    revision: bytes | None
    registry: Registry
    facts: dict[str, tuple[int, datetime]]


def read_published(store: OnlineStore, namespace: str) -> Reading:
    """What is published now. Raises OnlineStoreError where a key of the registry holds
    something else, or all that it holds is unreadable."""
    key = revision_key(namespace)
    with _our_key(key, namespace):
        revision = node_of(store, key).get(key)
    return Reading(revision, *_read_registry(store, namespace))


@contextmanager
def _our_key(key: str, namespace: str) -> Iterator[None]:
    """Names the key where it is of another type than ours are."""
    try:
        yield
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        raise foreign_key(key, namespace) from None


def foreign_key(key: str, namespace: str) -> OnlineStoreError:
    """The error for a key that `materialize` did not write."""
    mend = (
        "run `materialize`, which puts it right"
        if key == revision_key(namespace)
        else "delete the key and run `materialize`, or use another namespace if it belongs to another program"
    )
    return OnlineStoreError(f"The key '{key}' in Redis holds what `materialize` did not write: {mend}.")


def _revision_stands(store: OnlineStore, namespace: str) -> bool:
    """Whether readers can tell by the revision that nothing changed."""
    key = revision_key(namespace)
    try:
        return node_of(store, key).type(key) == b"string"
    except NoPermissionError:
        return True


def _entry(text: bytes) -> dict[str, Any] | None:
    """What is published of a view; None where it is not as `publish_view` writes it.

    Of a newer format only that is certain: its `format`.
    """
    try:
        entry = json.loads(text)
        if type(entry["format"]) is int and entry["format"] > FORMAT:
            return entry
        return entry if _is_whole(entry) else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError, pa.ArrowException):
        return None


def _check_format(entry: Mapping[str, Any], namespace: str) -> None:
    if entry["format"] > FORMAT:
        raise OnlineStoreError(
            f"Namespace '{namespace}' was written by a newer release (format {entry['format']}): upgrade."
        )


def _is_whole(entry: dict[str, Any]) -> bool:
    """Whether everything is there and of its type. May raise where it is not."""
    kinds = (
        (str, "name", "timestamp", "description", "published_at", "arrow_schema"),
        ((str, int, type(None)), "version", "latest_version"),
        ((str, type(None)), "created_timestamp", "owner", "watermark"),
        ((int, type(None)), "ttl_seconds", "available_after_seconds"),
        (int, "rows", "format"),
        (dict, "tags"),
        (list, "entities", "features"),
    )
    if not all(isinstance(entry[name], kind) for kind, *names in kinds for name in names):
        return False
    texts = [*entry["tags"].values(), *(part[name] for name in ("name", "description") for part in _parts(entry))]
    texts += _texts_on_demand(entry)
    moments = [entry["published_at"], *filter(None, (entry["watermark"], entry.get("as_of")))]
    view = _from_json(entry)
    "".join((view.reference, *(part.name for part in view.schema))).encode()  # they become keys and fields in Redis
    return (
        bool(view.entities)
        and all(isinstance(text, str) for text in texts)
        and all(datetime.fromisoformat(moment).tzinfo is not None for moment in moments)
    )


def _texts_on_demand(entry: Mapping[str, Any]) -> list[Any]:
    """All that has to be text in what is published of on-demand features."""
    found = entry.get("on_demand", [])
    named = [each for one in found for each in (one["request"], one["reads"]) if isinstance(each, dict)]
    if not isinstance(found, list) or len(named) != 2 * len(found):
        raise TypeError(found)
    texts = [one[name] for one in found for name in ("name", "description", "expression", "sql")]
    return texts + [text for each in named for text in each.values()]


def _parts(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*entry["entities"], *entry["features"]]


def _read_registry(store: OnlineStore, namespace: str) -> tuple[Registry, dict[str, tuple[int, datetime]]]:
    entries = {name: _entry(text) for name, text in published_texts(store, namespace).items()}
    fields = [entry for entry in entries.values() if entry is not None]
    for published in fields:
        _check_format(published, namespace)
    if entries and not fields:
        raise foreign_key(registry_key(namespace), namespace)
    views = {view.reference: view for view in map(_from_json, fields)}
    # The bare name is the latest version, as the newest publication says, of those whose rows are complete.
    for published in sorted(fields, key=lambda one: one["published_at"]):
        if published["version"] is not None:
            latest = f"{published['name']}.v{published['latest_version']}"
            if latest in views:
                views[published["name"]] = views[latest]
            else:
                views.setdefault(published["name"], _from_json(published))
    found = read_hash(store, services_key(namespace), namespace).items()
    services = {name: _service(name, text) for name, text in ((n.decode(errors="replace"), t) for n, t in found)}
    unreadable = [name for name, entry in entries.items() if entry is None and name not in views]
    why = f"is published in namespace '{namespace}' in a form that cannot be read: run `materialize`"
    known = {name: service for name, service in services.items() if service is not None}
    broken = {name: f"Feature service '{name}' {why}." for name, service in services.items() if service is None}
    facts = {
        name: (entry["rows"], datetime.fromisoformat(entry["published_at"]))
        for name, entry in entries.items()
        if entry is not None
    }
    return Registry(views, known, dict.fromkeys(unreadable, why), broken), facts


def read_hash(store: OnlineStore, key: str, namespace: str) -> dict[bytes, bytes]:
    with _our_key(key, namespace):
        return node_of(store, key).hgetall(key)


def find_namespaces(store: OnlineStore) -> list[str]:
    """Every namespace that something is published in. Walks all keys: a reader of a large server names its own."""
    names = set()
    for node in masters(store):
        for key in node.scan_iter(match="*:registry", count=10_000):
            parts = key.decode(errors="replace").split(":")
            if len(parts) == 2:
                names.add(unescape(parts[0]))
    return sorted(names)


def only_namespace(store: OnlineStore, server: str) -> str:
    """The one namespace there is. Raises NotFoundError where there is none, or several to choose from; OnlineStoreError
    where the user may not look for them."""
    try:
        names = find_namespaces(store)
    except NoPermissionError:
        raise worded(
            OnlineStoreError,
            lambda say: (
                f"This user may not look for namespaces in Redis at {server} (SCAN): name one with {say.namespace}."
            ),
        ) from None
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFoundError(f"Nothing is published in Redis at {server}: run `materialize` in a dbt project first.")
    raise worded(
        NotFoundError,
        lambda say: f"Redis at {server} has several namespaces: name one with {say.namespace}: {', '.join(names)}.",
    )


def definition(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What readers go by: all but what each run says anew."""
    anew = ("rows", "watermark", "published_at", "announced", "told", "read_from", "seen", "checksum")
    return {name: value for name, value in entry.items() if name not in anew}


def _from_json(published: Mapping[str, Any]) -> FeatureView:
    schema = _schema(published)

    def typed(kind: str) -> list[tuple[str, str, pa.DataType]]:
        return [(part["name"], part["description"], schema.field(part["name"]).type) for part in published[kind]]

    return FeatureView(
        **{name: published[name] for name in AS_DECLARED},
        entities=tuple(Entity(*part) for part in typed("entities")),
        features=tuple(Feature(*part) for part in typed("features")),
        available_after=_timedelta(published["available_after_seconds"]),
        ttl=_timedelta(published["ttl_seconds"]),
        tags=published["tags"],
        latest=published["version"] == published["latest_version"],
        as_of=datetime.fromisoformat(published["as_of"]) if published.get("as_of") else None,
        due=published.get("due") is True,
        on_demand=_on_demand(published, schema),
    )


def _schema(published: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(published["arrow_schema"])))


def _on_demand(published: Mapping[str, Any], schema: pa.Schema) -> tuple[Feature, ...]:
    return tuple(
        Feature(
            one["name"], one["description"], schema.field(one["name"]).type,
            OnDemand(one["expression"], one["sql"], one["request"], one["reads"]),
        )
        for one in published.get("on_demand", ())
    )  # fmt: skip


def _service(name: str, text: bytes) -> FeatureService | None:
    """A published service; None where it cannot be read."""
    try:
        published = json.loads(text)
        features, tags = published["features"], published["tags"]
        texts = [*features, *tags.values(), published["description"], published["owner"] or ""]
        texts += _texts_on_demand(published)
        if isinstance(features, list) and all(isinstance(one, str) for one in texts):
            on_demand = _on_demand(published, _schema(published)) if published.get("on_demand") else ()
            return FeatureService(
                name, tuple(features), published["description"], published["owner"], tags, on_demand
            )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError, pa.ArrowException):
        pass
    return None


def _timedelta(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
