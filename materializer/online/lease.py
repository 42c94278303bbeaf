"""One run at a time a view and namespace: a lease in Redis, taken before the warehouse is read, and renewed."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import redis

from materializer.errors import LeaseLostError, OnlineStoreError
from materializer.online import scripts
from materializer.online.keys import lease_key
from materializer.online.topology import Cluster, OnlineStore, node_of

LENGTH_MS = 10_000
# Writes stop this long before the lease ends, for the time that clocks within one server may differ.
MARGIN_MS = 500
# How old an answer of the server may be by which another process writes under a lease.
ASKED_EVERY_SECONDS = 1.0
# A killed run's lease ends by itself: the next one waits for that rather than fail.
PATIENCE_SECONDS = 15.0


class Held(Protocol):
    """The right to write: what a `Writer` needs of it. A run's is a `Lease`; a stream brings its own."""

    def deadline(self) -> int:
        """The moment, in ms of the server's clock, before which a write is valid. Raises LeaseLostError."""
        ...

    def check(self) -> None:
        """Ask the server. Raises LeaseLostError where the right is gone."""
        ...


class Lease:
    """The right to write one view's rows, as a context manager that renews it in a thread until it ends. Raises
    OnlineStoreError on entering, where another run holds it for longer than `PATIENCE_SECONDS`; LeaseLostError from
    `deadline`, once it could not be renewed in time."""

    def __init__(self, store: OnlineStore, namespace: str, view: str, run_id: str) -> None:
        self._store = store
        self._view = view
        self._key = lease_key(namespace, view)
        self._run_id = run_id
        self._deadline = 0
        self._ends = threading.Event()
        self._lost = False
        self._runs_out = False
        self._thread = threading.Thread(target=self._renew, name=f"lease-{view}", daemon=True)

    def deadline(self) -> int:
        """The moment, in ms of the server's clock, before which a write under this lease is valid."""
        if self._lost:
            raise LeaseLostError(
                f"The lease on view '{self._view}' was lost, so another run may be writing it: nothing more is sent."
            )
        return self._deadline

    def check(self) -> None:
        """Ask the server whether the lease is still held. Raises LeaseLostError where it does not."""
        if not self._client.eval(scripts.RENEW_LEASE, 1, self._key, self._run_id, LENGTH_MS)[0]:
            self._lost = True
        self.deadline()

    def let_run_out(self) -> None:
        """At the end do not release it: others write in its name (`LeaseOfAnother`), and one that nobody hears of any
        more may go on until the lease has ended by itself."""
        self._runs_out = True

    def __enter__(self) -> Lease:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._client = node_of(self._store, self._key)
            taken, value, *holder = self._client.eval(scripts.TAKE_LEASE, 1, self._key, self._run_id, LENGTH_MS)
            if taken:
                self._deadline = value - MARGIN_MS
                self._thread.start()
                return self
            if time.monotonic() > give_up:
                raise OnlineStoreError(
                    f"View '{self._view}' is being materialized by run {holder[0].decode()}: try again when it is done."
                )
            time.sleep(min(0.5, max(value, 20) / 1000))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._ends.set()
        self._thread.join()
        if self._runs_out:
            return
        try:
            self._client.eval(scripts.RELEASE_LEASE, 1, self._key, self._run_id)
        except redis.RedisError:
            # It ends by itself; what went wrong with the server is the caller's story.
            if error is None:
                raise

    def _renew(self) -> None:
        while not self._ends.wait(LENGTH_MS / 3000):
            try:
                renewed, deadline = self._client.eval(scripts.RENEW_LEASE, 1, self._key, self._run_id, LENGTH_MS)
            except redis.RedisError:
                if isinstance(self._store, Cluster):
                    # The node may be down for good, and another run may soon have the lease from its replica, while
                    # the other nodes would still take this one's writes.
                    self._lost = True
                    return
                continue  # the deadline holds; writes after it are refused by the server
            if not renewed:
                self._lost = True
                return
            self._deadline = deadline - MARGIN_MS


class LeaseOfAnother:
    """The lease that another process holds and renews, for what is written in its name: what it allows is asked of the
    server. Raises LeaseLostError from `deadline`, once the run `run_id` has the lease no more."""

    def __init__(self, store: OnlineStore, namespace: str, view: str, run_id: str) -> None:
        self._store = store
        self._view = view
        self._key = lease_key(namespace, view)
        self._run_id = run_id
        self._deadline = 0
        self._asked = -ASKED_EVERY_SECONDS

    def deadline(self) -> int:
        """As `Lease.deadline`."""
        now = time.monotonic()
        if now - self._asked >= ASKED_EVERY_SECONDS:
            ends = node_of(self._store, self._key).eval(scripts.LEASE_ENDS, 1, self._key, self._run_id)
            if not ends:
                raise LeaseLostError(
                    f"The lease on view '{self._view}' has ended, so another run may be writing: nothing more is sent."
                )
            self._asked, self._deadline = now, ends - MARGIN_MS
        return self._deadline
