"""Connections to Redis, and its errors as sentences. No URL with a password in it is ever printed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AskError, ClusterDownError, MovedError, NoPermissionError, TryAgainError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from materializer.errors import OnlineStoreError
from materializer.online import urls
from materializer.online.topology import Address, Cluster, OnlineStore
from materializer.online.urls import RedisUrl, parse_redis_url, public_name

_OPTIONS = {
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "health_check_interval": 0,
    # No retries of the client's own: they would make a server that is down cost seconds, and a write that may have
    # happened is ours to judge.
    "retry": Retry(NoBackoff(), 0),
    # The older protocol: every server speaks it, with one exchange less for a new connection.
    "protocol": 2,
    # One connection a thread; newer releases of redis-py would refuse the hundred-and-first.
    "max_connections": 2**31,
}


def connect(url: str) -> OnlineStore:
    """What a URL names (`materializer.online.urls`): a client of the server, or of the master that sentinels name now;
    for ``redis+cluster://`` a `Cluster`. Nothing is sent before the first command. Raises OnlineStoreError for a URL
    that is none."""
    place = parse_redis_url(url)
    try:
        if place.kind == "cluster":
            _client(place.node_url(*place.hosts[0]))
            return Cluster(place.hosts, lambda address: _client(place.node_url(*address)))
        return _master(place) if place.kind == "sentinel" else _client(place.first_url)
    except (ValueError, TypeError, redis.RedisError) as error:
        wrong = re.search(r"argument '(\w+)'|value for '(\w+)'", str(error))
        named = f" ({wrong[1] or wrong[2]})" if wrong else ""
        raise OnlineStoreError(
            f"The Redis URL has an option that is none, or with a value that is none{named}: what stands behind its ? "
            "is as redis-py has it, for example ssl_ca_certs=/path/ca.crt."
        ) from None


def async_pool(url: str, store: OnlineStore, address: Address | None) -> redis.asyncio.ConnectionPool:
    """Connections for asyncio to a store's server: the one at `address` of a cluster, else the only one there is.
    redis.ConnectionError where no sentinel names a master."""
    place = parse_redis_url(url)
    if address is None and place.kind == "sentinel":
        address = store.connection_pool.get_master_address()
    options = {**_OPTIONS, "retry": AsyncRetry(NoBackoff(), 0), "socket_timeout": None}
    pool = redis.asyncio.ConnectionPool.from_url(place.node_url(*address) if address else place.first_url, **options)
    _connecting_whole(pool)
    return pool


def _connecting_whole(pool: Any) -> None:
    """Make the pool's connections close where an interrupt comes while they connect: redis-py would take one that has
    a socket for one that is ready, and hand it out ever after."""
    make = pool.make_connection

    def whole() -> Any:
        connection = make()
        connect = connection.connect

        def connect_whole() -> None:
            try:
                connect()
            except BaseException:
                connection.disconnect()
                raise

        async def connect_whole_async() -> None:
            try:
                await connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise

        is_async = isinstance(connection, redis.asyncio.connection.AbstractConnection)
        connection.connect = connect_whole_async if is_async else connect_whole
        return connection

    pool.make_connection = whole


class _Sentinels(Sentinel):
    """redis-py's, for threads: it puts the sentinel that answered first while others walk along the same list."""

    _lock = threading.Lock()

    def discover_master(self, service_name: str) -> tuple[str, int]:
        with self._lock:
            return super().discover_master(service_name)


def _client(url: str) -> redis.Redis:
    client = redis.Redis.from_url(url, **_OPTIONS)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # connects to nothing, but knows which options there are
    _connecting_whole(pool)
    return client


def _master(place: RedisUrl) -> redis.Redis:
    _client(place.first_url)
    options = {**_OPTIONS, **parse_url(place.first_url)}
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if place.tls:
        options["ssl"] = True
    alike = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
    own = {name.removeprefix("sentinel_"): value for name, value in place.sentinel_options.items()}
    sentinels = _Sentinels(place.hosts, sentinel_kwargs=alike | own, **options)
    master = sentinels.master_for(place.master)
    for client in (*sentinels.sentinels, master):
        _connecting_whole(client.connection_pool)
    return master


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn what redis-py raises into an `OnlineStoreError`: one sentence that names the server."""
    try:
        yield
    except redis.RedisError as error:
        raise OnlineStoreError(_sentence(error, url)) from None


def _sentence(error: redis.RedisError, url: str) -> str:
    name = public_name(url)
    match error:
        # `AUTH` was never sent: NOAUTH, as redis-py gives it for RESP2 and for RESP3.
        case redis.AuthenticationError() if "required" in str(error) or "already authenticated" in str(error):
            return f"Redis at {name} wants a password: put it into FEATURE_STORE_REDIS_URL, as redis://:password@host."
        case redis.AuthenticationError():
            return (
                f"Redis at {name} refused the user or password: correct them in FEATURE_STORE_REDIS_URL or --redis-url."
            )
        case NoPermissionError():
            return f"Redis at {name} does not permit this user what was asked ({error})."
        case redis.TimeoutError():
            return f"Redis at {name} did not answer in time."
        case MasterNotFoundError():
            return (
                f"The sentinels at {name} cannot be reached or know no such master that is up: correct the URL, or try "
                "again in a moment if a failover is under way."
            )
        case MovedError() | AskError() | ClusterDownError() | TryAgainError():
            return f"The cluster at {name} is moving slots or lacks a master for some: try again when it has settled."
        case redis.BusyLoadingError():
            return f"Redis at {name} is still loading its data: try again in a moment."
        case redis.ConnectionError():
            cause = error.__cause__ or error.__context__
            reason = (getattr(cause, "strerror", None) or str(error)).rstrip(".")
            default = url == urls.DEFAULT_URL
            start = "start one for this project with `feature-store redis start`" if default else "start it"
            return (
                f"Redis at {name} cannot be reached ({reason}): {start}, or name another with FEATURE_STORE_REDIS_URL "
                "or --redis-url."
            )
    return f"Redis at {name} refused a command: {error}."
