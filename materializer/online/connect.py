"""Connections to Redis, and its errors as sentences. No URL with a password in it is ever printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from materializer.errors import OnlineStoreError

DEFAULT_URL = "redis://127.0.0.1:6379/0"


def redis_url(url: str | None = None) -> str:
    """The URL given, else ``FEATURE_STORE_REDIS_URL``, else the default."""
    return url or os.environ.get("FEATURE_STORE_REDIS_URL") or DEFAULT_URL


def public_name(url: str) -> str:
    """Host and port of a URL, or its socket: what may be printed of it."""
    try:
        parts = urlsplit(url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:  # a `/` in a password, for example: no part of such a text may be printed
        return "the URL given"


def connect(url: str) -> redis.Redis:
    """A client for a ``redis://``, ``rediss://`` or ``unix://`` URL. Nothing is sent before the first command.

    Raises:
        OnlineStoreError: for a URL that is none.
    """
    try:
        # No retries of the client's own: they would make a server that is down cost seconds, and a write that may
        # have happened is ours to judge.
        client = redis.Redis.from_url(
            url, socket_connect_timeout=5, socket_timeout=30, health_check_interval=0, retry=Retry(NoBackoff(), 0)
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # connects to nothing, but knows which options there are
        return client
    except (ValueError, TypeError):
        raise OnlineStoreError(
            "The Redis URL is not one: write redis://host:port/0, rediss://host:port/0 or unix:///path (a user and "
            "password stand before the host, as user:password@, with / # ? @ : in them as %2F %23 %3F %40 %3A)."
        ) from None


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
        if "required" in str(error):
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
    except redis.BusyLoadingError:
        raise OnlineStoreError(f"Redis at {name} is still loading its data: try again in a moment.") from None
    except redis.ConnectionError as error:
        raise OnlineStoreError(
            f"Redis at {name} cannot be reached ({_reason(error)}): start it, or name another with "
            "FEATURE_STORE_REDIS_URL or --redis-url."
        ) from None
    except redis.RedisError as error:
        raise OnlineStoreError(f"Redis at {name} refused a command: {error}.") from None


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    return (getattr(cause, "strerror", None) or str(error)).rstrip(".")
