"""API keys: a file of their hashes, with what each may read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from materializer.errors import FeatureStoreError, InputError


class UnauthorizedError(FeatureStoreError):
    """No key came, or one that is not known."""


class ForbiddenError(FeatureStoreError):
    """A key asked for what it may not read."""


class BusyError(FeatureStoreError):
    """A key sends more requests than it may; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of the file: the SHA-256 of its text, the services and views that it may read, and the sources that it
    may push events to (``*``: all)."""

    name: str
    sha256: str
    services: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    push: tuple[str, ...] = ()


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: tuple[Key, ...]


def new_key(name: str, services: Sequence[str], views: Sequence[str]) -> tuple[str, Key]:
    """A new key's text, of which nothing is kept here, and its entry for the file."""
    text = secrets.token_urlsafe(32)
    return text, Key(name, _digest(text), tuple(services), tuple(views))


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file.

    Raises:
        InputError: where it cannot be read, has no key, or two of one name.
    """
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise InputError(f"The file of API keys {path} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f'The file of API keys {path} is not of the form {{"keys": [{{"name", "sha256", "services", "views"}}]}}: '
            f"{error}."
        ) from None
    if not keys:
        raise InputError(f"The file of API keys {path} has none, so that nobody could ask.")
    for key in keys:
        if [one.name for one in keys].count(key.name) > 1:
            raise InputError(f"The file of API keys {path} has two called '{key.name}'.")
        if len(key.sha256) != 64 or not set(key.sha256) <= set("0123456789abcdef"):
            raise InputError(f"In the file of API keys {path} `sha256` of '{key.name}' is no SHA-256 in hexadecimals.")
    return keys


@dataclass(frozen=True)
class Caller:
    """Who asks; without keys, anybody who may read all."""

    name: str = "anybody"
    services: frozenset[str] = frozenset("*")
    views: frozenset[str] = frozenset("*")
    push: frozenset[str] = frozenset("*")

    def may_push(self, source: str) -> bool:
        """To ``shop.purchases``: a source by its whole name, whatever the request called it."""
        return bool(self.push & {"*", source})

    def may_read_service(self, name: str) -> bool:
        return "*" in self.services or name in self.services

    def may_read_view(self, reference: str) -> bool:
        """A key for ``users`` may read every version of it; one for ``users.v2`` that one."""
        return bool(self.views & {"*", reference, reference.partition(".")[0]})


class Gate:
    """Lets callers in: by their keys, and no faster than they may.

    Args:
        keys: none lets anybody in.
        rate: how many requests a second each key may send on average, None for any number. A burst of as many as two
            seconds hold is let through.
    """

    def __init__(self, keys: Sequence[Key], rate: float | None) -> None:
        self._keys = [
            (key.sha256, Caller(key.name, frozenset(key.services), frozenset(key.views), frozenset(key.push)))
            for key in keys
        ]
        self._rate = rate
        # For each caller the moment from which its requests would be on time.
        self._due: dict[str, float] = {}

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this ``Authorization`` header.

        Raises:
            UnauthorizedError: for none, or a key that is not known.
            BusyError: for more requests than the caller may send.
        """
        caller = Caller() if not self._keys else self._known(authorization)
        if self._rate is not None:
            now = time.monotonic()
            due = max(self._due.get(caller.name, 0.0), now - 2.0) + 1 / self._rate
            if due > now:
                raise BusyError(f"More than {self._rate:g} requests a second came with this key.", due - now)
            self._due[caller.name] = due
        return caller

    def _known(self, authorization: str | None) -> Caller:
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() == "basic":  # a browser's prompt: the key is the password, whatever the name
            text = _password(text)
        if scheme.lower() not in ("bearer", "basic") or not text:
            raise UnauthorizedError("No API key came: send one as `Authorization: Bearer <key>`.")
        digest, found = _digest(text.strip()), None
        for known, caller in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise UnauthorizedError("The API key is not known here.")
        return found


def _password(text: str) -> str:
    try:
        return base64.b64decode(text.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
