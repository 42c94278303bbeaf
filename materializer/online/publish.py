"""Publishing: what a run tells readers of views and feature services. See `materializer.online.published`."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from materializer.online import scripts
from materializer.online.keys import registry_key, revision_key, services_key
from materializer.online.published import AS_DECLARED, FORMAT, Published, definition, read_hash
from materializer.online.topology import OnlineStore, node_of
from materializer.online.writer import Writer
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView
from materializer.warehouse.join_keys import type_name


def publish_view(
    writer: Writer, namespace: str, view: FeatureView, latest_version: int | str | None, *, rows: int,
    watermark: str | None, as_of: datetime | None, known: Published | None, read_from: str | None = None,
    seen: int | None = None, checksum: str | None = None,
) -> None:  # fmt: skip
    """Make a view visible to readers, once its rows are complete. `as_of` becomes its readers' clock.

    `read_from` names the relation and warehouse of its rows, for the next run from another one to notice. `known` is
    what is published of it already: where that stays as it is, readers are not sent to look again. `seen` and
    `checksum` are as of `Published`, None for a view that reads no stream.
    """
    entry = {
        **_to_json(view, latest_version), "rows": rows, "watermark": watermark, "read_from": read_from,
        "as_of": as_of.isoformat(timespec="microseconds") if as_of else None,
        **({} if seen is None else {"seen": seen, "checksum": checksum}),
    }  # fmt: skip

    def write(announced: bool) -> None:
        text = json.dumps({**entry, "announced": announced}, ensure_ascii=False)
        writer.call(scripts.PUBLISH_VIEW, registry_key(namespace), view.reference, text)

    # Which version is the latest is also a matter of which was published last.
    same = known is not None and known.announced and known.definition == definition(entry) and view.version is None
    if not same:
        # In steps, for the keys may be on two servers: a reader takes the revision first, so it misses neither; a run
        # that is killed in between leaves it to the next one.
        write(announced=False)
        writer.call(scripts.SET_VALUE, revision_key(namespace), _new_revision())
    write(announced=True)


def announce_due(store: OnlineStore, namespace: str, reference: str) -> None:
    """Have the readers of a published view ask for rows that fall due."""
    key = registry_key(namespace)
    client = node_of(store, key)
    while text := client.hget(key, reference):
        entry = json.loads(text)
        if entry.get("due") and entry.get("announced"):
            return
        unannounced = json.dumps({**entry, "due": True, "announced": False}, ensure_ascii=False).encode()
        if not client.eval(scripts.REPLACE_VIEW, 1, key, reference, text, unannounced):
            continue  # a run has just published it
        _renew_revision(store, namespace)
        announced = json.dumps({**entry, "due": True, "announced": True}, ensure_ascii=False).encode()
        client.eval(scripts.REPLACE_VIEW, 1, key, reference, unannounced, announced)


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
    before = read_hash(store, key, namespace)
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
    before = read_hash(store, services_key(namespace), namespace)
    return {service.name for service in services if before.get(service.name.encode()) == _service_text(service)}


def _service_text(service: FeatureService) -> bytes:
    parts = {name: getattr(service, name) for name in ("features", "description", "owner")}
    computed: dict[str, Any] = {}
    if service.on_demand and all(feature.dtype is not None for feature in service.on_demand):
        computed = {"on_demand": list(map(_on_demand, service.on_demand)), "arrow_schema": _schema(service.on_demand)}
    return json.dumps({**parts, **computed, "tags": dict(service.tags)}, ensure_ascii=False, sort_keys=True).encode()


def _to_json(view: FeatureView, latest_version: int | str | None) -> dict[str, Any]:
    computed = {"on_demand": list(map(_on_demand, view.on_demand))} if view.on_demand else {}
    return {
        "format": FORMAT,
        **{name: getattr(view, name) for name in AS_DECLARED},
        "latest_version": latest_version,
        "entities": [_part(entity) for entity in view.entities],
        "features": [_part(feature) for feature in view.features],
        **computed,
        **({"due": True} if view.due else {}),
        "ttl_seconds": _seconds(view.ttl),
        "available_after_seconds": _seconds(view.available_after),
        "tags": dict(view.tags),
        "published_at": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        # The same types for machines: an Arrow schema of join keys and features, as an IPC message in base64.
        "arrow_schema": _schema((*view.schema, *view.on_demand)),
    }


def _schema(parts: Iterable[Entity | Feature]) -> str:
    schema = pa.schema([(part.name, part.dtype) for part in parts])
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _on_demand(feature: Feature) -> dict[str, Any]:
    how = feature.on_demand
    assert how is not None
    parts = {"expression": how.expression, "sql": how.sql, "request": dict(how.request), "reads": dict(how.reads)}
    return {**_part(feature), **parts}


def _part(part: Entity | Feature) -> dict[str, str]:
    return {"name": part.name, "type": type_name(part.dtype), "description": part.description}


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _renew_revision(store: OnlineStore, namespace: str) -> None:
    key = revision_key(namespace)
    node_of(store, key).set(key, _new_revision())


def _new_revision() -> str:
    """One that never was: a count would come round again after a server lost its newest writes."""
    return uuid.uuid4().hex
