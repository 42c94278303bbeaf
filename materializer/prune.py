"""Removing what nobody declares any more: published views and versions that left the dbt project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import redis

from materializer.feature_view import Registry
from materializer.online import scripts
from materializer.online.keys import marker_key, registry_key, revision_key
from materializer.online.lease import Lease
from materializer.online.writer import delete_rows, other_rows


@dataclass(frozen=True)
class Pruned:
    """A view that is published but not declared; `rows_deleted` is None where its grace period still runs."""

    view: str
    last_run: str
    rows_deleted: int | None


def prune(
    client: redis.Redis,
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
    for field, text in sorted(client.hgetall(registry_key(namespace)).items()):
        name = field.decode()
        if name in declared:
            continue
        last_run = json.loads(text)["published_at"]
        if datetime.fromisoformat(last_run) + grace > now:
            pruned.append(Pruned(name, last_run, None))
            continue
        with Lease(client, namespace, name, run_id) as lease:
            # Whoever declares the view again must not believe that its rows are still there.
            client.delete(marker_key(namespace, name))
            client.hdel(registry_key(namespace), name)
            client.incr(revision_key(namespace))
            deleted = sum(
                delete_rows(client, lease, keys, writers)
                for keys, writers in other_rows(client, namespace, name, scripts.RUN + run_id)
            )
        pruned.append(Pruned(name, last_run, deleted))
    return pruned
