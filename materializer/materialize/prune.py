"""Removing what nobody declares any more: published views and versions that left the dbt project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from materializer.online import scripts
from materializer.online.keys import marker_key, stream_key
from materializer.online.lease import Lease
from materializer.online.publish import withdraw_view
from materializer.online.published import published_at, published_texts
from materializer.online.topology import OnlineStore, node_of, on_every_master
from materializer.online.writer import Writer, other_rows
from materializer.project.definitions import Registry


@dataclass(frozen=True)
class Pruned:
    """A view that is published but not declared; `rows_deleted` is None where its grace period still runs.

    `last_run` is None where the registry does not say it legibly: then no reader can use the view, and it goes.
    """

    view: str
    last_run: str | None
    rows_deleted: int | None


def prune(
    store: OnlineStore, namespace: str, registry: Registry, grace: timedelta, now: datetime, run_id: str,
    dry_run: bool = False,
) -> list[Pruned]:  # fmt: skip
    """Remove published views that the project does not declare online, `grace` after their last run.

    A view leaves the registry before its rows go, so that no reader finds half of it. A dry run changes nothing and
    counts the rows that would go.
    """
    declared = {view.reference for view in registry.all_views() if view.online}
    pruned = []
    for name, text in sorted(published_texts(store, namespace).items()):
        if name in declared:
            continue
        last_run = published_at(text)
        if last_run is not None and last_run + grace > now:
            deleted = None
        elif dry_run:
            deleted = sum(len(keys) for keys, _ in other_rows(store, namespace, name, scripts.RUN + run_id))
        else:
            deleted = _remove(store, namespace, name, run_id)
        pruned.append(Pruned(name, last_run.isoformat(timespec="microseconds") if last_run else None, deleted))
    return pruned


def _remove(store: OnlineStore, namespace: str, name: str, run_id: str) -> int:
    with Lease(store, namespace, name, run_id) as lease, Writer(store, lease) as writer:
        # Whoever declares the view again must not believe that its rows are still there.
        for key in on_every_master(store, marker_key(namespace, name)):
            node_of(store, key).delete(key)
        key = stream_key(namespace, name)  # without which no stream writes either
        node_of(store, key).delete(key)
        withdraw_view(store, namespace, name)
        return sum(
            writer.delete(keys, writers) for keys, writers in other_rows(store, namespace, name, scripts.RUN + run_id)
        )
