"""Files that a URL names: on object storage, or wherever else fsspec reaches, with the credentials of dbt's profile.

What goes wrong is an OSError whose `strerror` says it in our words: a library's own may hold what is secret.
"""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Two letters at least: C:// is a path.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.+)", re.DOTALL)
# Names of one and the same protocol, and the extra that brings its driver.
_ALIKE = {"s3": ("s3", "s3a"), "s3a": ("s3", "s3a"), "gs": ("gs", "gcs"), "gcs": ("gs", "gcs")}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_AT_ONCE = 16
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_AWAY = ("Connect", "Connection", "Timeout")
# It logs tracebacks of what it raises all the same; whoever wants them gives the logger a handler.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def is_url(text: object) -> bool:
    """Whether it names a file by a URL, as ``s3://bucket/labels.parquet``."""
    return isinstance(text, str) and _URL.fullmatch(text) is not None


def place(named: str | os.PathLike[str], connection: Mapping[str, Any]) -> Path | Remote:
    """The file or folder that a user names by a path or a URL.

    Args:
        connection: the profile's target, whose `filesystems` and `secrets` may hold credentials.
    """
    if not isinstance(named, str) or not is_url(named):
        return Path(named)
    if urlsplit(named).scheme == "file":
        return Path(unquote(urlsplit(named).path))
    return Remote(named, connection)


def filesystem(protocol: str, arguments: Mapping[str, Any]) -> Any:
    """A file system of fsspec's. Raises ImportError where its driver is missing, and whatever that raises."""
    import fsspec

    found = fsspec.filesystem(protocol, **{**_fresh(protocol), **arguments})
    found.invalidate_cache()
    return found


def _fresh(protocol: str) -> dict[str, Any]:
    """What such a file system once listed it would believe for ever, also after another program changed it."""
    return {"use_listings_cache": False} if protocol in _ALIKE else {}


def install_hint(protocol: str, missing: str | None) -> str:
    """What to install for a protocol."""
    if protocol in _EXTRAS:
        return f"pip install 'dbt-feature-store[{_EXTRAS[protocol]}]'"
    return f"install {missing or 'its driver for fsspec'}"


class Remote:
    """A file, or a folder of files, that a URL names; its methods are called as those of `pathlib.Path`, and raise
    OSError. As text it is the URL without what may be secret in it."""

    def __init__(self, url: str, connection: Mapping[str, Any]) -> None:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        user, at, host = host.rpartition("@")
        self._connection, self._user = connection, user + at
        self.scheme = scheme.lower()
        # As object storage has it: bucket and key. Of other protocols it may begin with a host.
        self.path = f"{host}{slash}{path}".rstrip("/")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path.partition('?')[0]}"

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.path)[1]

    @property
    def parent(self) -> Remote:
        return self._other(posixpath.dirname(self.path))

    def with_name(self, name: str) -> Remote:
        return self.parent / name

    def __truediv__(self, name: str) -> Remote:
        return self._other(f"{self.path}/{name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and (self._root, self.path) == (other._root, other.path)

    def __hash__(self) -> int:
        return hash((self._root, self.path))

    def path_from(self, folder: Remote) -> str | None:
        """Where it lies from a folder of the same bucket; None where that is another one."""
        return posixpath.relpath(self.path, folder.path) if self._root == folder._root else None

    def found_at(self, path: str) -> Remote | None:
        """What lies at this path from here; None where it would be outside of the bucket."""
        found = self._other(posixpath.normpath(f"{self.path}/{path}"))
        plain = not is_url(path) and not path.startswith("/") and "\\" not in path and "?" not in path
        return found if plain and found._root == self._root and found.path.count("/") else None

    @property
    def _root(self) -> tuple[str, ...]:
        return (*_ALIKE.get(self.scheme, (self.scheme,)), self.path.partition("/")[0])

    def is_file(self) -> bool:
        try:
            return self._do(lambda files, path: files.info(path))["type"] == "file"
        except FileNotFoundError:
            return False

    def read_bytes(self) -> bytes:
        return self._do(lambda files, path: files.cat_file(path))

    def write_bytes(self, content: bytes) -> None:
        """Whole or not at all, where an upload is (on object storage)."""
        self._do(lambda files, path: files.pipe_file(path, content))

    def put(self, local: Path) -> None:
        """Upload a file; see `write_bytes`."""
        self._do(lambda files, path: files.put_file(str(local), path))

    def fetch(self, local: Path) -> None:
        """Download it to a local file."""
        self._do(lambda files, path: files.get_file(path, str(local)))

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        """A local copy for as long as this lasts."""
        with tempfile.TemporaryDirectory(prefix="feature-store-") as folder:
            copy = Path(folder) / f"copy{self.suffix}"
            self.fetch(copy)
            yield copy

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._do(lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def names(self) -> list[str]:
        """The names of what lies right in this folder; none where there is no such folder."""
        try:
            found = self._do(lambda files, path: files.ls(path, detail=False))
        except FileNotFoundError:
            return []
        own = posixpath.basename(self.path)  # a folder may be an object of its own, without a name
        return sorted({name for one in found if (name := posixpath.basename(one.rstrip("/"))) != own})

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of files of this folder, without those that are not there (any more)."""

        def read(name: str) -> bytes | None:
            try:
                return (self / name).read_bytes()
            except FileNotFoundError:
                return None

        with ThreadPoolExecutor(_AT_ONCE, "storage") as pool:
            found = zip(names, pool.map(read, names), strict=True)
            return {name: content for name, content in found if content is not None}

    def unlink_many(self, names: Sequence[str]) -> None:
        """Remove files of this folder."""
        with ThreadPoolExecutor(_AT_ONCE, "storage") as pool:
            list(pool.map(lambda name: (self / name).unlink(missing_ok=True), names))

    def _other(self, path: str) -> Remote:
        return Remote(f"{self.scheme}://{self._user}{path}", self._connection)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and its own name of this file."""
        from fsspec.core import url_to_fs

        url = f"{self.scheme}://{self._user}{self.path}"
        return url_to_fs(url, **{**_fresh(self.scheme), **_arguments(self.scheme, url, self._connection)})

    def _do(self, work: Callable[[Any, str], Any]) -> Any:
        """What `work` gives for the file system and the path there."""
        try:
            return work(*self._opened)
        except Exception as error:
            raise _in_our_words(error, self.scheme, self.path) from None


def _in_our_words(error: Exception, scheme: str, path: str) -> OSError:
    kind = type(error).__name__
    if isinstance(error, ImportError):
        return OSError(errno.ENOSYS, f"a driver for {scheme}:// is not installed: {install_hint(scheme, error.name)}")
    if isinstance(error, FileNotFoundError):
        if "bucket does not exist" in str(error):
            return OSError(errno.ENODEV, f"there is no bucket '{path.partition('/')[0]}'")
        return FileNotFoundError(errno.ENOENT, "there is no such file")
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, "access is refused")
    if kind in _NO_CREDENTIALS:
        said = "there are no credentials: give them under `filesystems` of the profile's target, or in the environment"
        return PermissionError(errno.EACCES, said)
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        return OSError(errno.ENOSYS, f"fsspec knows no files of the kind {scheme}://")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if isinstance(error, (ConnectionError, TimeoutError)) or any(word in kind for word in _AWAY):
        return OSError(errno.EHOSTUNREACH, f"the storage cannot be reached ({kind})")
    return OSError(errno.EIO, f"the storage refused it ({kind})")


def _arguments(scheme: str, url: str, connection: Mapping[str, Any]) -> dict[str, Any]:
    """What the profile gives for a protocol: its entry of `filesystems`, else its secret of DuckDB's; else nothing, and
    the driver looks into the environment."""
    alike = _ALIKE.get(scheme, (scheme,))
    for entry in _dicts(connection.get("filesystems")):
        if entry.get("fs") in alike:
            return {name: value for name, value in entry.items() if name != "fs"}
    secrets = [one for one in _dicts(connection.get("secrets")) if str(one.get("type")).lower() == "s3"]
    fitting = {len(scope): one for one in reversed(secrets) for scope in _scopes(one) if url.startswith(scope)}
    if "s3" not in alike or not fitting:
        return {}
    return _of_secret(fitting[max(fitting)])


def _dicts(entries: Any) -> list[Mapping[str, Any]]:
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _scopes(secret: Mapping[str, Any]) -> list[str]:
    scope = secret.get("scope") or ""
    return list(map(str, scope)) if isinstance(scope, list) else [str(scope)]


def _of_secret(secret: Mapping[str, Any]) -> dict[str, Any]:
    """DuckDB's words for S3 as s3fs has them. One with a `provider` is found by the driver's own chain."""
    names = {"key_id": "key", "secret": "secret", "session_token": "token"}
    given = {name: secret[theirs] for theirs, name in names.items() if secret.get(theirs)}
    client = {}
    if secret.get("region"):
        client["region_name"] = secret["region"]
    if secret.get("endpoint"):
        secure = str(secret.get("use_ssl", True)).lower() != "false"
        client["endpoint_url"] = f"http{'s' if secure else ''}://{secret['endpoint']}"
    if client:
        given["client_kwargs"] = client
    if str(secret.get("url_style", "")).lower() == "path":
        given["config_kwargs"] = {"s3": {"addressing_style": "path"}}
    return given
