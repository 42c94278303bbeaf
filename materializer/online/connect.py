"""Connections to Redis, and its errors as sentences. No URL with a password in it is ever printed."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from materializer.errors import OnlineStoreError
from materializer.online.topology import Address, Cluster, OnlineStore
from materializer.online.urls import RedisUrl, parse_redis_url

DEFAULT_URL = "redis://127.0.0.1:6379/0"
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


def redis_url(url: str | None = None, project: Path | None = None) -> str:
    """The URL given, else ``FEATURE_STORE_REDIS_URL``, else that of the private server of the dbt project in the folder
    `project`, where it runs, else the default. Starts nothing."""
    return named_url(url) or private_url(project) or DEFAULT_URL


def named_url(url: str | None = None) -> str | None:
    """The URL given, else ``FEATURE_STORE_REDIS_URL``, else None."""
    return url or os.environ.get("FEATURE_STORE_REDIS_URL") or None


def private_url(project: Path | None) -> str | None:
    """The URL of a dbt project's private server (`materializer.online.local_redis`) where it runs, else None."""
    if project is None or sys.platform == "win32":
        return None
    from materializer.online import local_redis

    return local_redis.url(local_redis.folder_of(project))


def somebody_listens() -> bool:
    """Whether there is a server at the default URL, whatever it would answer."""
    try:
        with socket.create_connection(parse_redis_url(DEFAULT_URL).hosts[0], timeout=1):
            return True
    except OSError:
        return False


@lru_cache(maxsize=64)
def public_name(url: str) -> str:
    """Host and port of a URL, or its socket: what may be printed of it."""
    try:
        return parse_redis_url(url).name
    except OnlineStoreError:  # no part of such a text may be printed
        return "the URL given"


def connect(url: str) -> OnlineStore:
    """What a URL names, see `materializer.online.urls`. Nothing is sent before the first command.

    Returns:
        a client of the server, or of the master that the sentinels name at the time; for ``redis+cluster://`` a
        `Cluster`.

    Raises:
        OnlineStoreError: for a URL that is none.
    """
    place = parse_redis_url(url)
    try:
        if place.kind == "cluster":
            _client(place.node_url(*place.hosts[0]))
            return Cluster(place.hosts, lambda address: _client(place.node_url(*address)))
        if place.kind == "sentinel":
            return _master(place)
        return _client(place.node_url(*(*place.hosts, ("", 0))[0]))
    except (ValueError, TypeError, redis.RedisError) as error:
        wrong = re.search(r"argument '(\w+)'|value for '(\w+)'", str(error))
        raise OnlineStoreError(
            f"The Redis URL has an option that is none, or with a value that is none{_named(wrong)}: what stands "
            "behind its ? is as redis-py has it, for example ssl_ca_certs=/path/ca.crt."
        ) from None


def async_pool(url: str, store: OnlineStore, address: Address | None) -> redis.asyncio.ConnectionPool:
    """Connections for asyncio to a store's server: the one at `address` of a cluster, else the only one there is.

    Raises:
        redis.ConnectionError: where no sentinel names a master.
    """
    place = parse_redis_url(url)
    if address is None and place.kind == "sentinel":
        address = store.connection_pool.get_master_address()
    options = {**_OPTIONS, "retry": AsyncRetry(NoBackoff(), 0), "socket_timeout": None}
    url = place.node_url(*(address or (*place.hosts, ("", 0))[0]))
    pool = redis.asyncio.ConnectionPool.from_url(url, **options)
    make = pool.make_connection

    def whole() -> redis.asyncio.connection.AbstractConnection:
        connection = make()
        connect = connection.connect

        async def connect_whole() -> None:
            try:
                await connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise

        connection.connect = connect_whole
        return connection

    pool.make_connection = whole
    return pool


def _connecting_whole(pool: redis.ConnectionPool) -> None:
    """Make the pool's connections close where an interrupt comes while they connect: redis-py would take one that has
    a socket for one that is ready, and hand it out ever after."""
    make = pool.make_connection

    def whole() -> redis.Connection:
        connection = make()
        connect = connection.connect

        def connect_whole() -> None:
            try:
                connect()
            except BaseException:
                connection.disconnect()
                raise

        connection.connect = connect_whole
        return connection

    pool.make_connection = whole


def _named(wrong: re.Match[str] | None) -> str:
    return f" ({wrong[1] or wrong[2]})" if wrong else ""


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
    options = {**_OPTIONS, **parse_url(place.node_url(*place.hosts[0]))}
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if place.tls:
        options["ssl"] = True
    own = {name.removeprefix("sentinel_"): value for name, value in place.sentinel_options.items()}
    alike = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
    _client(place.node_url(*place.hosts[0]))
    sentinels = _Sentinels(place.hosts, sentinel_kwargs=alike | own, **options)
    master = sentinels.master_for(place.master)
    for client in (*sentinels.sentinels, master):
        _connecting_whole(client.connection_pool)
    return master


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn what redis-py raises into one sentence that names the server.

    Raises:
        OnlineStoreError: in place of any redis error.
    """
    name = public_name(url)
    try:
        yield
    except redis.AuthenticationError as error:
        # `AUTH` was never sent: NOAUTH, as redis-py gives it for RESP2 and for RESP3.
        if "required" in str(error) or "already authenticated" in str(error):
            raise OnlineStoreError(
                f"Redis at {name} wants a password: put it into FEATURE_STORE_REDIS_URL, as redis://:password@host."
            ) from None
        raise OnlineStoreError(
            f"Redis at {name} refused the user or password: correct them in FEATURE_STORE_REDIS_URL or --redis-url."
        ) from None
    except redis.exceptions.NoPermissionError as error:
        raise OnlineStoreError(f"Redis at {name} does not permit this user what was asked ({error}).") from None
    except redis.TimeoutError:
        raise OnlineStoreError(f"Redis at {name} did not answer in time.") from None
    except MasterNotFoundError:
        raise OnlineStoreError(
            f"The sentinels at {name} cannot be reached or know no such master that is up: correct the URL, or try "
            "again in a moment if a failover is under way."
        ) from None
    except (MovedError, AskError, ClusterDownError, TryAgainError):
        raise OnlineStoreError(
            f"The cluster at {name} is moving slots or lacks a master for some: try again when it has settled."
        ) from None
    except redis.BusyLoadingError:
        raise OnlineStoreError(f"Redis at {name} is still loading its data: try again in a moment.") from None
    except redis.ConnectionError as error:
        start = "start it" if url != DEFAULT_URL else "start one for this project with `feature-store redis start`"
        raise OnlineStoreError(
            f"Redis at {name} cannot be reached ({_reason(error)}): {start}, or name another with "
            "FEATURE_STORE_REDIS_URL or --redis-url."
        ) from None
    except redis.RedisError as error:
        raise OnlineStoreError(f"Redis at {name} refused a command: {error}.") from None


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    return (getattr(cause, "strerror", None) or str(error)).rstrip(".")
