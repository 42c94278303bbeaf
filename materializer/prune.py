"""Removing what nobody declares any more: published views and versions that left the dbt project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from materializer.feature_view import Registry
from materializer.online import scripts
from materializer.online.keys import marker_key
from materializer.online.lease import Lease
from materializer.online.published import published_texts, withdraw_view
from materializer.online.topology import OnlineStore, node_of, on_every_master
from materializer.online.writer import Writer, other_rows


@dataclass(frozen=True)
class Pruned:
    """A view that is published but not declared; `rows_deleted` is None where its grace period still runs."""

    view: str
    last_run: str
    rows_deleted: int | None


def prune(
    store: OnlineStore,
    namespace: str,
    registry: Registry,
    grace: timedelta,
    now: datetime,
    run_id: str,
) -> list[Pruned]:
    """Remove published views that the project does not declare online, `grace` after their last run.

    A view leaves the registry before its rows go, so that no reader finds half of it.
    """
    declared = {view.reference for view in registry.all_views() if view.online}
    pruned = []
    for name, text in sorted(published_texts(store, namespace).items()):
        if name in declared:
            continue
        last_run = json.loads(text)["published_at"]
        if datetime.fromisoformat(last_run) + grace > now:
            pruned.append(Pruned(name, last_run, None))
            continue
        with Lease(store, namespace, name, run_id) as lease, Writer(store, lease) as writer:
            # Whoever declares the view again must not believe that its rows are still there.
            for key in on_every_master(store, marker_key(namespace, name)):
                node_of(store, key).delete(key)
            withdraw_view(store, namespace, name)
            deleted = sum(
                writer.delete(keys, writers)
                for keys, writers in other_rows(store, namespace, name, scripts.RUN + run_id)
            )
        pruned.append(Pruned(name, last_run, deleted))
    return pruned
