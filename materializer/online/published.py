"""The published registry: what readers need to know of each view, kept in Redis beside the rows."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import redis
from redis.exceptions import NoPermissionError

from materializer.errors import NotFoundError, OnlineStoreError, worded
from materializer.online import scripts
from materializer.online.keys import registry_key, revision_key, services_key, unescape
from materializer.online.topology import OnlineStore, is_wrong_type, masters, node_of
from materializer.online.writer import Writer
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView, Registry
from materializer.warehouse.join_keys import type_name

_FORMAT = 1


@dataclass(frozen=True)
class Published:
    """A published view with what its last run said of it: rows, newest event; all that readers go by, and whether
    they were told of it."""

    view: FeatureView
    rows: int
    watermark: str | None
    definition: Mapping[str, Any]
    told: bool
    # Which relation of which warehouse its rows were read from; None where an older release wrote it.
    read_from: str | None = None


def publish_view(
    writer: Writer,
    namespace: str,
    view: FeatureView,
    latest_version: int | str | None,
    rows: int,
    watermark: str | None,
    as_of: datetime | None,
    known: Published | None,
    read_from: str | None = None,
) -> None:
    """Make a view visible to readers, once its rows are complete. `as_of` becomes its readers' clock.

    `read_from` names the relation and warehouse of its rows, for the next run from another one to notice. `known` is
    what is published of it already: where that stays as it is, readers are not sent to look again.
    """
    entry = {
        **_to_json(view, latest_version),
        "rows": rows,
        "watermark": watermark,
        "as_of": as_of.isoformat(timespec="microseconds") if as_of else None,
        "read_from": read_from,
    }

    def write(told: bool) -> None:
        text = json.dumps({**entry, "told": told}, ensure_ascii=False)
        writer.call(scripts.PUBLISH_VIEW, registry_key(namespace), view.reference, text)

    # Which version is the latest is also a matter of which was published last.
    same = known is not None and known.told and known.definition == _definition(entry) and view.version is None
    if not same:
        # In steps, for the keys may lie on two servers: a reader takes the revision first, so it misses neither; a run
        # that is killed in between leaves it to the next one.
        write(told=False)
        writer.call(scripts.SET_VALUE, revision_key(namespace), _new_revision())
    write(told=True)


def published_view(store: OnlineStore, namespace: str, reference: str) -> Published | None:
    """What is published of one view; None where nothing is, or nothing that can be read: a run writes it anew.

    Raises:
        OnlineStoreError: where the registry's key holds something else than a registry.
    """
    key = registry_key(namespace)
    with _our_key(key, namespace):
        text = node_of(store, key).hget(key, reference)
    published = None if text is None else _entry(text)
    if published is None:
        return None
    _check_format(published, namespace)
    return Published(
        _from_json(published),
        published["rows"],
        published["watermark"],
        _definition(published),
        published.get("told") is True and _revision_stands(store, namespace),
        published.get("read_from"),
    )


def published_texts(store: OnlineStore, namespace: str) -> dict[str, bytes]:
    """What is published of every view, as the JSON that it is."""
    return {
        name.decode(errors="replace"): text for name, text in _hash(store, registry_key(namespace), namespace).items()
    }


def published_at(text: bytes) -> datetime | None:
    """When this was published; None where it cannot be read."""
    entry = _entry(text)
    return datetime.fromisoformat(entry["published_at"]) if entry and entry["format"] <= _FORMAT else None


def read_from_elsewhere(reference: str, before: str | None, now: str) -> str | None:
    """A sentence where a view's rows online were read from another warehouse or schema than `now`; else None."""
    if before is None or before == now:
        return None
    return (
        f"The rows of '{reference}' were last read from {before}, and now from {now}: two that share a namespace "
        "overwrite each other; give each its own --namespace."
    )


def withdraw_view(store: OnlineStore, namespace: str, reference: str) -> None:
    """Take a view out of the registry."""
    key = registry_key(namespace)
    node_of(store, key).hdel(key, reference)
    _renew_revision(store, namespace)


def publish_services(
    store: OnlineStore, namespace: str, services: Iterable[FeatureService], broken: Iterable[str] = ()
) -> None:
    """Replace the published feature services by these; of the `broken` ones what is published stays as it is."""
    key = services_key(namespace)
    client = node_of(store, key)
    texts = {service.name.encode(): _service_text(service) for service in services}
    before = _hash(store, key, namespace)
    for name in map(str.encode, broken):
        texts.pop(name, None)
        if name in before:
            texts[name] = before[name]
    if before == texts:
        return
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(key)
    if texts:
        pipeline.hset(key, mapping=texts)
    pipeline.execute()
    _renew_revision(store, namespace)


def published_as_declared(store: OnlineStore, namespace: str, services: Iterable[FeatureService]) -> set[str]:
    """The names of those services of which nothing new would be published."""
    before = _hash(store, services_key(namespace), namespace)
    return {service.name for service in services if before.get(service.name.encode()) == _service_text(service)}


def _service_text(service: FeatureService) -> bytes:
    parts = {
        "features": service.features,
        "description": service.description,
        "owner": service.owner,
        "tags": dict(service.tags),
    }
    return json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()


def read_published(store: OnlineStore, namespace: str) -> tuple[bytes | None, Registry]:
    """The revision and the registry that it stands for.

    Raises:
        OnlineStoreError: where a key of the registry holds something else, or all that it holds is unreadable.
    """
    key = revision_key(namespace)
    with _our_key(key, namespace):
        revision = node_of(store, key).get(key)
    return revision, _read_registry(store, namespace)


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
        if type(entry["format"]) is int and entry["format"] > _FORMAT:
            return entry
        return entry if _is_whole(entry) else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError, pa.ArrowException):
        return None


def _check_format(entry: Mapping[str, Any], namespace: str) -> None:
    if entry["format"] > _FORMAT:
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
    moments = [entry["published_at"], *filter(None, (entry["watermark"], entry.get("as_of")))]
    view = _from_json(entry)
    "".join((view.reference, *(part.name for part in view.schema))).encode()  # they become keys and fields in Redis
    return (
        bool(view.entities)
        and all(isinstance(text, str) for text in texts)
        and all(datetime.fromisoformat(moment).tzinfo is not None for moment in moments)
    )


def _parts(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*entry["entities"], *entry["features"]]


def _read_registry(store: OnlineStore, namespace: str) -> Registry:
    texts = published_texts(store, namespace)
    entries = {name: _entry(text) for name, text in texts.items()}
    fields = [entry for entry in entries.values() if entry is not None]
    for published in fields:
        _check_format(published, namespace)
    if texts and not fields:
        raise foreign_key(registry_key(namespace), namespace)
    views = {}
    for published in fields:
        view = _from_json(published)
        views[view.reference] = view
    # The bare name is the latest version, as the newest publication says, of those whose rows are complete.
    for published in sorted(fields, key=lambda one: one["published_at"]):
        if published["version"] is not None:
            latest = f"{published['name']}.v{published['latest_version']}"
            if latest in views:
                views[published["name"]] = views[latest]
            else:
                views.setdefault(published["name"], _from_json(published))
    found = _hash(store, services_key(namespace), namespace)
    services = {
        name: _service(name, text) for name, text in ((n.decode(errors="replace"), t) for n, t in found.items())
    }
    unreadable = [name for name, entry in entries.items() if entry is None and name not in views]
    why = f"is published in namespace '{namespace}' in a form that cannot be read: run `materialize`"
    known = {name: service for name, service in services.items() if service is not None}
    broken = {name: f"Feature service '{name}' {why}." for name, service in services.items() if service is None}
    return Registry(views, known, dict.fromkeys(unreadable, why), broken)


def _hash(store: OnlineStore, key: str, namespace: str) -> dict[bytes, bytes]:
    with _our_key(key, namespace):
        return node_of(store, key).hgetall(key)


def _renew_revision(store: OnlineStore, namespace: str) -> None:
    key = revision_key(namespace)
    node_of(store, key).set(key, _new_revision())


def _new_revision() -> str:
    """One that never was: a count would come round again after a server lost its newest writes."""
    return uuid.uuid4().hex


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
    """The one namespace there is.

    Raises:
        NotFoundError: where there is none, or several to choose from.
        OnlineStoreError: where the user may not look for them.
    """
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


def _to_json(view: FeatureView, latest_version: int | str | None) -> dict[str, Any]:
    schema = pa.schema([(part.name, part.dtype) for part in view.schema])
    return {
        "format": _FORMAT,
        "name": view.name,
        "version": view.version,
        "latest_version": latest_version,
        "entities": [_part(entity) for entity in view.entities],
        "features": [_part(feature) for feature in view.features],
        "timestamp": view.timestamp,
        "created_timestamp": view.created_timestamp,
        "ttl_seconds": _seconds(view.ttl),
        "available_after_seconds": _seconds(view.available_after),
        "tags": dict(view.tags),
        "description": view.description,
        "owner": view.owner,
        "published_at": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        # The same types for machines: an Arrow schema of join keys and features, as an IPC message in base64.
        "arrow_schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
    }


def _definition(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What readers go by: all but what each run says anew."""
    anew = ("rows", "watermark", "published_at", "told", "read_from")
    return {name: value for name, value in entry.items() if name not in anew}


def _from_json(published: Mapping[str, Any]) -> FeatureView:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(published["arrow_schema"])))
    return FeatureView(
        name=published["name"],
        entities=tuple(
            Entity(part["name"], part["description"], schema.field(part["name"]).type) for part in published["entities"]
        ),
        features=tuple(
            Feature(part["name"], part["description"], schema.field(part["name"]).type)
            for part in published["features"]
        ),
        timestamp=published["timestamp"],
        created_timestamp=published["created_timestamp"],
        available_after=_timedelta(published["available_after_seconds"]),
        ttl=_timedelta(published["ttl_seconds"]),
        tags=published["tags"],
        description=published["description"],
        owner=published["owner"],
        version=published["version"],
        latest=published["version"] == published["latest_version"],
        as_of=datetime.fromisoformat(published["as_of"]) if published.get("as_of") else None,
    )


def _service(name: str, text: bytes) -> FeatureService | None:
    """A published service; None where it cannot be read."""
    try:
        published = json.loads(text)
        features, tags = published["features"], published["tags"]
        texts = [*features, *tags.values(), published["description"], published["owner"] or ""]
        if isinstance(features, list) and all(isinstance(one, str) for one in texts):
            return FeatureService(name, tuple(features), published["description"], published["owner"], tags)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return None


def _part(part: Entity | Feature) -> dict[str, str]:
    return {"name": part.name, "type": type_name(part.dtype), "description": part.description}


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _timedelta(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
