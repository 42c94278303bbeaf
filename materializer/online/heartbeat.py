"""What the process that keeps streamed views online says of itself, for whoever asks how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import msgspec
import redis

from materializer.online.keys import heartbeat_key
from materializer.online.topology import OnlineStore, node_of

# How long the last word of a process stays, in seconds.
_KEPT = 7 * 86_400


@dataclass(frozen=True)
class Heartbeat:
    """A word of the process `by` at the moment `at` (seconds since 1970, by the server's clock).

    Attributes:
        seq: up to which commit of the landing all is online.
        delay: how long the last events took from their landing until they were online, in seconds.
        views: those that stream; why they are not kept online, '' where they are.
        lag: how many messages of each source were not read yet.
        broken: how many ids of each source were said to decide something, and did not.
    """

    at: float
    by: str
    seq: int
    delay: float | None
    views: Mapping[str, str]
    lag: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)


def beat(store: OnlineStore, namespace: str, heartbeat: Heartbeat) -> None:
    """Say it."""
    key = heartbeat_key(namespace)
    node_of(store, key).set(key, msgspec.json.encode(asdict(heartbeat)), ex=_KEPT)


def last_beat(store: OnlineStore, namespace: str) -> Heartbeat | None:
    """What was said last; None where nothing was, or nothing that can be read."""
    key = heartbeat_key(namespace)
    try:
        text = node_of(store, key).get(key)
        return msgspec.convert(msgspec.json.decode(text), Heartbeat) if text else None
    except (msgspec.DecodeError, msgspec.ValidationError, redis.ResponseError):
        return None
