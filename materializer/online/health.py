"""What an online store is, and whether its settings are fit to keep rows: for ``feature-store doctor``."""

from __future__ import annotations

import redis

from materializer.online.topology import Cluster, OnlineStore, make_ready, masters
from materializer.online.urls import parse_redis_url

# What is found, and whether it deserves a warning.
Finding = tuple[str, bool]
_KINDS = {"server": "one server", "socket": "one server by its socket", "sentinel": "the master behind sentinels"}


def topology(store: OnlineStore, url: str) -> str:
    """What answers: its version, and whether it is one server, a master behind sentinels or a cluster. Raises
    OnlineStoreError where a cluster's clocks differ too much; redis.RedisError where it does not answer."""
    make_ready(store)
    nodes = masters(store)
    place = parse_redis_url(url)
    kind = f"a cluster of {len(nodes)} masters" if isinstance(store, Cluster) else _KINDS[place.kind]
    return f"{', '.join(sorted({_version(node) for node in nodes}))} answers at {place.name}: {kind}"


def eviction(store: OnlineStore) -> Finding:
    """Whether rows may be dropped when memory is short."""
    settings = settings_of(store, "maxmemory-policy", "maxmemory")
    if settings is None:
        return _unread("maxmemory-policy", "rows may be dropped unseen unless it is noeviction")
    found = sorted({_eviction(setting) for setting in settings})
    risky = [setting for setting in settings if setting["maxmemory-policy"] != "noeviction"]
    text = ", ".join(found)
    return (f"{text}: it may drop rows when memory is short; noeviction is safe", True) if risky else (text, False)


def persistence(store: OnlineStore) -> Finding:
    """Whether rows outlive a restart."""
    settings = settings_of(store, "appendonly", "save")
    if settings is None:
        return _unread("appendonly and save", "rows may be gone after a restart, and the next run then sends all")
    kinds = {
        "an append-only file" if setting["appendonly"] == "yes" else "snapshots" if setting["save"] else "nothing"
        for setting in settings
    }
    text = "kept on disk by " + " or ".join(sorted(kinds))
    if "nothing" in kinds:
        return "rows are not kept on disk: after a restart the next run sends all of them again", True
    return text, False


def settings_of(store: OnlineStore, *names: str) -> list[dict[str, str]] | None:
    """These settings of each master; None where they may not be read."""
    try:
        return [{name: str(node.config_get(name)[name]) for name in names} for node in masters(store)]
    except (redis.ResponseError, KeyError):
        return None


def _eviction(setting: dict[str, str]) -> str:
    limit = int(setting["maxmemory"])
    return f"eviction policy {setting['maxmemory-policy']}, " + (f"at {limit:,} bytes" if limit else "no memory limit")


def _unread(names: str, risk: str) -> Finding:
    return f"{names} may not be read by this user (permit +config|get, or look yourself): {risk}", True


def _version(node: redis.Redis) -> str:
    try:
        server = node.info("server")
    except redis.ResponseError:
        return "a server whose version may not be read"
    name = str(server.get("server_name", "redis")).capitalize()
    return f"{name} {server.get(f'{name.lower()}_version') or server.get('redis_version', '?')}"
