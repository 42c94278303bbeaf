"""Redis URLs: which one is meant, and what it says (one server, a unix socket, a master behind sentinels, a cluster).

Knows no client: whoever only names a server does not load one.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from materializer.errors import OnlineStoreError

DEFAULT_URL = "redis://127.0.0.1:6379/0"
_KINDS = {"redis": "server", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+)(?::([0-9]{1,5}))?")
_SENTINEL_PORT = 26_379
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
# The options behind the ?, as redis-py has them. Anything else of redis-py's would change how answers are read, send
# commands again that may have happened, or come between pipelined ones.
OPTIONS = (
    "client_name", "db", "password", "socket_connect_timeout", "socket_keepalive", "socket_timeout", "ssl_ca_certs",
    "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_ciphers", "ssl_keyfile",
    "ssl_min_version", "ssl_password", "username",
)  # fmt: skip
_SECONDS = ("socket_connect_timeout", "socket_timeout")
_LONGEST = 86_400
_TLS_VERSIONS = ("771", "772")


@dataclass(frozen=True)
class RedisUrl:
    """What a URL says.

    `kind` is ``server``, ``socket``, ``sentinel`` or ``cluster``; `hosts` are addresses of the server, the sentinels or
    some nodes; `login` and `query` are as in the URL; `sentinel_options` are the sentinels' own user and
    password.
    """

    kind: str
    tls: bool
    login: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    path: str
    master: str
    db: int
    query: str = field(repr=False)
    sentinel_options: dict[str, str] = field(repr=False)

    @property
    def first_url(self) -> str:
        """The URL of the server, or of the first of several."""
        return self.node_url(*(*self.hosts, ("", 0))[0])

    @property
    def name(self) -> str:
        """What may be printed of it: addresses, never a user or password."""
        if self.kind == "socket":
            return self.path
        listed = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{listed} (master {self.master})" if self.kind == "sentinel" else listed

    def node_url(self, host: str, port: int) -> str:
        """The URL of one server of this store, as redis-py takes it."""
        options = f"?{self.query}" if self.query else ""
        if self.kind == "socket":
            return f"unix://{self.login}{self.path}{options}"
        host = f"[{host}]" if ":" in host else host
        return f"redis{'s' if self.tls else ''}://{self.login}{host}:{port}/{self.db}{options}"


def redis_url(url: str | None = None, project: Path | None = None) -> str:
    """The URL given, else ``FEATURE_STORE_REDIS_URL``, else that of the private server of the dbt project in the folder
    `project`, where it runs, else the default. Starts nothing."""
    return named_url(url) or private_url(project) or DEFAULT_URL


def named_url(url: str | None = None) -> str | None:
    """The URL given, else ``FEATURE_STORE_REDIS_URL``, else None."""
    return url or os.environ.get("FEATURE_STORE_REDIS_URL") or None


def private_url(project: Path | None) -> str | None:
    """The URL of a dbt project's private server (`materializer.online.local`) where it runs, else None."""
    if project is None or sys.platform == "win32":
        return None
    from materializer.online import local

    return local.url(local.folder_of(project))


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


def parse_redis_url(url: str) -> RedisUrl:
    """Take a URL apart. OnlineStoreError for one that is malformed, with nothing of what was given."""
    scheme, separator, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, at, listed = authority.rpartition("@")
    scheme = scheme.lower()
    tls = scheme.startswith("rediss")
    kind = "socket" if scheme == "unix" else _KINDS.get(scheme.replace("rediss", "redis", 1))
    if not separator or kind is None or "#" in url or "@" in path:
        raise _malformed()
    options = [(name, value) for name, value in parse_qsl(query) if name not in _SENTINEL_OPTIONS]
    _check_options(options)
    sentinels = {name: value for name, value in parse_qsl(query) if name in _SENTINEL_OPTIONS}
    parts = RedisUrl(kind, tls, login + at, (), "/" + path, "", 0, urlencode(options), sentinels)
    if kind == "socket":
        if listed or not path:
            raise _malformed()
        return parts
    hosts = _hosts(listed or ("localhost" if kind == "server" else ""), _SENTINEL_PORT if kind == "sentinel" else 6379)
    master, db = "", path
    if kind == "sentinel":
        master, _, db = path.partition("/")
    if (kind == "sentinel" and not master) or not re.fullmatch("[0-9]{0,6}", db):
        raise _malformed()
    if kind == "server" and len(hosts) > 1:
        raise OnlineStoreError(
            "The Redis URL names several hosts: write redis+cluster:// for a cluster's nodes, or "
            "redis+sentinel://host:port,host:port/master for sentinels."
        )
    if kind == "cluster" and (int(db or 0) or any(name == "db" and value != "0" for name, value in options)):
        raise OnlineStoreError("A Redis cluster has database 0 only: take the number out of the URL.")
    return replace(parts, hosts=hosts, path="", master=unquote(master), db=int(db or 0))


def _check_options(options: list[tuple[str, str]]) -> None:
    for name, value in options:
        if name not in OPTIONS:
            # Not what may be a part of a password with a ? in it.
            named = f" '{name}'" if re.fullmatch(r"[a-z]+(_[a-z]+)+|protocol|encoding|retry|timeout", name) else ""
            raise OnlineStoreError(
                f"The Redis URL has an option{named} that is none here: take it out. Behind its ? may stand "
                f"{', '.join(OPTIONS)} (for example ?ssl_ca_certs=/path/ca.crt)."
            )
        wrong = (
            (name in _SECONDS and not _is_seconds(value))
            or (name == "ssl_min_version" and value not in _TLS_VERSIONS)
            or (name == "db" and not re.fullmatch("[0-9]{1,6}", value))
        )
        if wrong:
            meant = {"ssl_min_version": "771 for TLS 1.2 or 772 for TLS 1.3", "db": "a whole number"}
            raise OnlineStoreError(
                f"The Redis URL has an option with a value that is none ({name}): it is "
                f"{meant.get(name, 'a number of seconds above zero')}."
            )


def _is_seconds(text: str) -> bool:
    try:
        return 0 < float(text) <= _LONGEST
    except ValueError:
        return False


def _hosts(listed: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for text in listed.split(","):
        found = _HOST.fullmatch(text)
        if not found or int(found[2] or port) > 65_535:
            raise _malformed()
        hosts.append((found[1].strip("[]"), int(found[2] or port)))
    return tuple(hosts)


def _malformed() -> OnlineStoreError:
    return OnlineStoreError(
        "The Redis URL is not one: write redis://host:port/0, rediss:// for TLS, unix:///path, "
        "redis+sentinel://host:port,host:port/master/0 or redis+cluster://host:port,host:port (a user and password "
        "stand before the host, as user:password@, with / # ? @ : in them as %2F %23 %3F %40 %3A)."
    )
