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
from redis.exceptions import NoPermissionError

from materializer.errors import NotFoundError, OnlineStoreError, worded
from materializer.feature_view import Entity, Feature, FeatureService, FeatureView, Registry
from materializer.join_keys import type_name
from materializer.online import scripts
from materializer.online.keys import registry_key, revision_key, services_key, unescape
from materializer.online.topology import OnlineStore, masters, node_of
from materializer.online.writer import Writer

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
    """What is published of one view."""
    key = registry_key(namespace)
    text = node_of(store, key).hget(key, reference)
    if text is None:
        return None
    with _written_by_us(namespace):
        published = json.loads(text)
        return Published(
            _from_json(published),
            published["rows"],
            published["watermark"],
            _definition(published),
            published.get("told", False),
            published.get("read_from"),
        )


def published_texts(store: OnlineStore, namespace: str) -> dict[str, bytes]:
    """What is published of every view, as the JSON that it is."""
    return {name.decode(): text for name, text in _hash(store, registry_key(namespace)).items()}


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


def publish_services(store: OnlineStore, namespace: str, services: Iterable[FeatureService]) -> None:
    """Replace the published feature services by these."""
    key = services_key(namespace)
    client = node_of(store, key)
    texts = {
        service.name: json.dumps(
            {"features": service.features, "description": service.description, "owner": service.owner,
             "tags": dict(service.tags)}, ensure_ascii=False, sort_keys=True,
        )
        for service in services
    }  # fmt: skip
    if {name.decode(): text.decode() for name, text in client.hgetall(key).items()} == texts:
        return
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(key)
    if texts:
        pipeline.hset(key, mapping=texts)
    pipeline.execute()
    _renew_revision(store, namespace)


def read_published(store: OnlineStore, namespace: str) -> tuple[bytes | None, Registry]:
    """The revision and the registry that it stands for."""
    revision = node_of(store, revision_key(namespace)).get(revision_key(namespace))
    with _written_by_us(namespace):
        return revision, _read_registry(store, namespace)


@contextmanager
def _written_by_us(namespace: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OnlineStoreError(
            f"The key '{registry_key(namespace)}' in Redis holds what `materialize` did not write: delete the key, or "
            "use another namespace if it belongs to another program."
        ) from None


def _read_registry(store: OnlineStore, namespace: str) -> Registry:
    fields = [json.loads(text) for text in published_texts(store, namespace).values()]
    for published in fields:
        if published["format"] > _FORMAT:
            raise OnlineStoreError(
                f"Namespace '{namespace}' was written by a newer release (format {published['format']}): upgrade."
            )
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
    services = {
        name.decode(): _service(name.decode(), json.loads(text))
        for name, text in _hash(store, services_key(namespace)).items()
    }
    return Registry(views, services)


def _hash(store: OnlineStore, key: str) -> dict[bytes, bytes]:
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


def _service(name: str, published: Mapping[str, Any]) -> FeatureService:
    return FeatureService(
        name, tuple(published["features"]), published["description"], published["owner"], published["tags"]
    )


def _part(part: Entity | Feature) -> dict[str, str]:
    return {"name": part.name, "type": type_name(part.dtype), "description": part.description}


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _timedelta(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
