"""One server or the masters of a cluster: which of them holds a key, and how all of them are reached.

Everywhere else an online store is a ``redis.Redis`` (one server, a unix socket, the master that sentinels name) or a
`Cluster`, and these functions are all that has to know the difference.
"""

from __future__ import annotations

import binascii
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import count

import redis
from redis.exceptions import ClusterDownError, NoPermissionError

from materializer.errors import OnlineStoreError
from materializer.online.keys import revision_key

SLOTS = 16_384
# The lease's deadline is one node's time and is checked against every node's: they may differ by less than its margin.
CLOCKS_APART_SECONDS = 0.4

Address = tuple[str, int]


class Cluster:
    """The masters of a Redis or Valkey cluster, by the slots that they serve. Safe to share between threads.

    Args:
        start: addresses to ask first; one that answers is enough.
        open_node: makes a client for an address; it need not connect.
    """

    def __init__(self, start: Sequence[Address], open_node: Callable[[Address], redis.Redis]) -> None:
        self._start = tuple(start)
        self._open_node = open_node
        self._clients: dict[Address, redis.Redis] = {}
        self._owners: list[Address | None] = []
        self._lock = threading.Lock()

    @property
    def known(self) -> bool:
        """Whether the slots are known yet."""
        return bool(self._owners)

    def client(self, address: Address) -> redis.Redis:
        """The client of the node at this address; always the same one."""
        found = self._clients.get(address)
        if found is None:
            with self._lock:
                found = self._clients.setdefault(address, self._open_node(address))
        return found

    def address_of(self, key: bytes) -> Address:
        """The master that holds this key. Raises ClusterDownError where no master serves its slot."""
        owner = self._slot_owners()[slot_of(key)]
        if owner is None:
            raise ClusterDownError(f"slot {slot_of(key)} is not served")
        return owner

    def addresses(self) -> list[Address]:
        """Every master that serves slots, in the order of these. Raises ClusterDownError where a slot has no master."""
        owners = dict.fromkeys(self._slot_owners())
        if None in owners:
            raise ClusterDownError(f"{self._owners.count(None):,} of {SLOTS:,} slots are not served")
        return [owner for owner in owners if owner is not None]

    def tag(self, address: Address) -> str:
        """A hash tag, without its braces, that puts a key on this master."""
        owners = self._slot_owners()
        return next(tag for tag in map(str, count()) if owners[slot_of(tag.encode())] == address)

    def refresh(self) -> None:
        """Ask the nodes again who serves which slots; the first that answers is believed. Raises OnlineStoreError where
        what answers is no cluster, or does not permit the question; redis.RedisError where no node answers."""
        failure: redis.RedisError | None = None
        for address in dict.fromkeys([*filter(None, dict.fromkeys(self._owners)), *self._start]):
            try:
                answer = _cluster_slots(self.client(address))
            except NoPermissionError:
                raise OnlineStoreError(
                    f"The user may not ask the cluster node {address[0]}:{address[1]} for its slots: "
                    "permit it with +cluster|slots."
                ) from None
            except redis.AuthenticationError:
                raise
            except redis.ResponseError as error:
                if "cluster support disabled" not in str(error):
                    raise
                raise OnlineStoreError(
                    f"Redis at {address[0]}:{address[1]} is a server by itself, not a node of a cluster: "
                    "write its URL with redis:// in place of redis+cluster://."
                ) from None
            except redis.RedisError as error:
                failure = failure or error
                continue
            owners: list[Address | None] = [None] * SLOTS
            for first, last, (host, port, *_), *_replicas in answer:
                # A node that does not know its own name leaves it out: it is the one that was asked.
                owner = (host.decode() if host else address[0], port)
                owners[first : last + 1] = [owner] * (last + 1 - first)
            self._owners = owners
            return
        raise failure or redis.ConnectionError("no node is named")

    def _slot_owners(self) -> list[Address | None]:
        if not self._owners:
            self.refresh()
        return self._owners


OnlineStore = redis.Redis | Cluster


def is_wrong_type(answer: object) -> bool:
    """Whether Redis answered that a key holds another type of value than the command is for."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("WRONGTYPE")


def slot_of(key: bytes) -> int:
    """The slot of a key, by what is in its first braces where there are any."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def node_of(store: OnlineStore, key: str | bytes) -> redis.Redis:
    """The client of the server that holds this key."""
    if isinstance(store, Cluster):
        return store.client(store.address_of(key.encode() if isinstance(key, str) else key))
    return store


def masters(store: OnlineStore) -> list[redis.Redis]:
    """A client for each server that holds rows."""
    if isinstance(store, Cluster):
        return [store.client(address) for address in store.addresses()]
    return [store]


def on_every_master(store: OnlineStore, key: str) -> list[str]:
    """A key that exists once on every master: itself on one server, with a hash tag behind it on a cluster."""
    if isinstance(store, Cluster):
        return [f"{key}:{{{store.tag(address)}}}" for address in store.addresses()]
    return [key]


def server_time(store: OnlineStore, namespace: str) -> datetime:
    """The online store's clock, by which its readers judge ages: in a cluster, that of the revision's node."""
    seconds, microseconds = node_of(store, revision_key(namespace)).time()
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds, microseconds=microseconds)


def identities(store: OnlineStore) -> list[str]:
    """Which processes hold the rows now: another one may lack what the one before it was told last. Empty where that
    may not be asked."""
    try:
        return [str(node.info("server").get("run_id")) for node in masters(store)]
    except redis.ResponseError:
        return []


def make_ready(store: OnlineStore) -> None:
    """See that a run can begin: every master answers, every slot is served, and their clocks agree. Raises
    OnlineStoreError where clocks differ so much that a lease would not hold; redis.RedisError where a server does not
    answer."""
    if not isinstance(store, Cluster):
        store.ping()
        return
    store.refresh()
    check_clocks(masters(store))


def check_clocks(nodes: Sequence[redis.Redis]) -> None:
    """Stop where the nodes' clocks are certainly further apart than `CLOCKS_APART_SECONDS`. Raises OnlineStoreError
    saying by how much."""
    earliest, latest = [], []
    for node in nodes:
        asked = time.monotonic()
        seconds, microseconds = node.time()
        now = seconds + microseconds / 1_000_000
        earliest.append(now - time.monotonic())
        latest.append(now - asked)
    apart = max(earliest) - min(latest)
    if apart > CLOCKS_APART_SECONDS:
        raise OnlineStoreError(
            f"The clocks of the cluster's nodes are {apart:.1f} s apart, too much for one run at a time to be certain: "
            "let NTP set them."
        )


def _cluster_slots(client: redis.Redis) -> list[list]:
    """CLUSTER SLOTS as the server says it, whatever redis-py would make of it."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", "SLOTS")
        return connection.read_response(disable_decoding=True)
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
