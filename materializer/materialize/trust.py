"""Whether what is remembered of a view counts: only where Redis holds just what the run before left there."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from materializer.materialize.memory import Memory
from materializer.online.health import settings_of
from materializer.online.topology import OnlineStore, is_wrong_type, node_of
from materializer.project.definitions import FeatureView


def keys_of(view: FeatureView) -> tuple[str, ...]:
    """The join keys with their types, on which the names of all rows in Redis depend."""
    return tuple(f"{entity.name} {entity.dtype}" for entity in view.entities)


def open_(run: str) -> str:
    """The marker of a run that began to write."""
    return f"{run} open"


def closed(run: str | None) -> str:
    """The marker of a run that wrote everything."""
    return f"{run} closed"


def read_marker(client: OnlineStore, key: str) -> bytes | None:
    """What a marker says; one that is no text was not set by a run, and says nothing."""
    try:
        return node_of(client, key).get(key)
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return None


def why_not(client: OnlineStore, view: FeatureView, remembered: Memory | None, markers: Sequence[str]) -> str:
    """Why memory does not count, '' where it does; `markers` are the view's keys of that name."""
    if remembered is None:
        return "nothing is remembered of an earlier run"
    if remembered.sent is None:
        return "the run before this one was a full one and did not end"
    expected = [closed(remembered.run)]
    if not remembered.finished:
        expected += [open_(remembered.run), closed(remembered.previous)]
    if not {read_marker(client, key) for key in markers} <= set(map(str.encode, expected)):
        return "Redis does not hold what the last run remembered here left there"
    return "the join keys changed" if remembered.keys != keys_of(view) else ""


def eviction(client: OnlineStore, view: FeatureView) -> str | None:
    """The eviction policy of a server, where it can take rows of this view."""
    # Where they may not be read, `feature-store doctor` says so.
    for setting in settings_of(client, "maxmemory-policy", "maxmemory") or ():
        policy, limited = setting["maxmemory-policy"], int(setting["maxmemory"]) > 0
        if limited and (policy.startswith("allkeys") or (policy.startswith("volatile") and view.ttl is not None)):
            return policy
    return None
