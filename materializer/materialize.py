"""Materialization: make the online rows of a view equal to what the macro ``latest`` gives at this moment."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import redis

from materializer.errors import DefinitionError, FeatureStoreError, MaterializationError, NotFoundError
from materializer.feature_view import FeatureView, Registry
from materializer.macros import MacroRenderer
from materializer.online.connect import plain_errors
from materializer.online.lease import Lease
from materializer.online.published import publish_services, publish_view
from materializer.online.rows import encode_rows
from materializer.online.scripts import RUN
from materializer.online.values import check_key_type, check_value_type
from materializer.online.writer import Writer, remove_others
from materializer.registry import with_columns
from materializer.warehouse import Warehouse

BATCH_ROWS = 10_000
# Called with a view and the rows of it that are done so far.
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class ViewResult:
    """What one run did to one view; `error` is a sentence where it failed."""

    view: str
    run_id: str
    rows_read: int = 0
    rows_written: int = 0
    rows_skipped: int = 0
    rows_deleted: int = 0
    seconds: float = 0.0
    error: str | None = None


def select_views(registry: Registry, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[FeatureView]:
    """The views to materialize: those named, those with one of the tags, or every online view.

    Raises:
        NotFoundError: for a name that is no view, or tags that no online view has.
        DefinitionError: for a view that says ``online: false``.
    """
    chosen = {}
    for name in names:
        view = registry.view(name)
        if not view.online:
            raise DefinitionError(f"Feature view '{name}' says `online: false`, so it is not materialized.")
        chosen[view.reference] = view
    online = [view for view in registry.all_views() if view.online]
    for tag in tags:
        tagged = {view.reference: view for view in online if tag in view.tags}
        if not tagged:
            known = sorted({tag for view in online for tag in view.tags})
            raise NotFoundError(f"No online feature view has the tag '{tag}'; there are: {', '.join(known) or 'none'}.")
        chosen |= tagged
    return list(chosen.values()) if names or tags else online


def materialize_view(
    client: redis.Redis,
    namespace: str,
    warehouse: Warehouse,
    manifest: Mapping[str, Any],
    view: FeatureView,
    latest_version: int | str | None,
    progress: Progress | None = None,
) -> ViewResult:
    """Run one view: lease, read, write, remove what is gone, publish.

    Raises:
        FeatureStoreError, redis.RedisError: where it stops; what was written by then is whole rows of this run.
    """
    started = time.monotonic()
    run_id = new_run_id()
    writer_mark = RUN + run_id
    with Lease(client, namespace, view.reference, run_id) as lease:
        view = with_columns(view, warehouse)
        check_storable(view)
        now = server_time(client)
        sql = MacroRenderer(manifest, warehouse.columns).render(
            "latest", view.reference, as_of=now.replace(tzinfo=None).isoformat(" ", "microseconds")
        )
        read = 0
        with Writer(client, lease) as writer:
            for batch in warehouse.stream(sql, BATCH_ROWS):
                if batch.num_rows:
                    writer.send(encode_rows(batch, view, namespace, writer_mark))
                    read += batch.num_rows
                    if progress:
                        progress(view.reference, read)
            writer.finish()
        deleted = remove_others(client, lease, namespace, view.reference, writer_mark)
        publish_view(client, lease, namespace, view, latest_version)
    seconds = round(time.monotonic() - started, 3)
    return ViewResult(view.reference, run_id, read, writer.written, writer.kept, deleted, seconds)


def materialize(
    client: redis.Redis,
    url: str,
    namespace: str,
    warehouse: Warehouse,
    manifest: Mapping[str, Any],
    registry: Registry,
    views: Sequence[FeatureView],
    progress: Progress | None = None,
) -> list[ViewResult]:
    """Materialize views one after the other; one that fails does not stop the others.

    Returns:
        a result for each.

    Raises:
        MaterializationError: where a view failed; its `results` have an `error` there.
    """
    results = []
    for view in views:
        started = time.monotonic()
        try:
            with plain_errors(url):
                latest = registry.views[view.name].version if view.name in registry.views else view.version
                results.append(materialize_view(client, namespace, warehouse, manifest, view, latest, progress))
        except FeatureStoreError as error:
            seconds = round(time.monotonic() - started, 3)
            results.append(ViewResult(view.reference, "", seconds=seconds, error=str(error)))
    if any(result.error is None for result in results):
        with plain_errors(url):
            publish_services(client, namespace, registry.services.values())
    failed = [result for result in results if result.error]
    if failed:
        raise MaterializationError(
            f"{len(failed)} of {len(results)} feature views failed. "
            + " ".join(f"{result.view}: {result.error}" for result in failed),
            results,
        )
    return results


def check_storable(view: FeatureView) -> None:
    """Stop for a view whose types cannot be kept online, before anything is written.

    Raises:
        DefinitionError: naming the column and its type.
    """
    for entity in view.entities:
        check_key_type(entity.dtype, f"Join key '{entity.name}' of feature view '{view.reference}'")
    for feature in view.features:
        check_value_type(feature.dtype, f"Feature '{view.reference}:{feature.name}'")


def server_time(client: redis.Redis) -> datetime:
    """The online store's clock, which readers judge ages by: one clock for all."""
    seconds, microseconds = client.time()
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds, microseconds=microseconds)


def new_run_id() -> str:
    """Unique, and telling at a glance who runs: ``<host>-<pid>-<random>``."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
