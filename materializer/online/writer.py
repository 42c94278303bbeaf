"""Sends a run's changes to Redis: several calls in flight on one connection a server, under a lease."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pyarrow as pa
import redis

from materializer.errors import LeaseLostError, OnlineStoreError
from materializer.online import scripts
from materializer.online.keys import bulk_strings, glob_literal, view_prefix
from materializer.online.lease import Held
from materializer.online.rows import Rows
from materializer.online.topology import Address, Cluster, OnlineStore, masters

# A call of this many rows holds the server for about a millisecond; other clients are served between calls.
ROWS_A_CALL = 100
# And rows of many fields are fewer a call.
ARGUMENTS_A_CALL = 2_000
CALLS_IN_FLIGHT = 200
_SCAN_PAGE = 1000
# How long what was removed keeps out what was computed before: longer than the longest build takes.
TOMBSTONE = timedelta(days=7)
_WRITE_SHA = hashlib.sha1(scripts.WRITE_ROWS.encode()).hexdigest().encode()


class Writer:
    """All that one run, or a stream, changes in Redis, under `lease`; use as a context manager.

    It speaks to each master over one connection from the first write to the last. A server that was restarted, failed
    over or swapped in between, and may have lost writes that it had answered, breaks that connection and so the run:
    whoever gets as far as closing the marker knows that all came to the same servers.

    `written` counts the rows so far that were replaced; `refused` holds the join keys of those that a newer row kept
    out, `mended` of those that took the place of something that was no hash. `kept` are the keys that were to be
    removed and hold a newer row.
    """

    def __init__(self, store: OnlineStore, lease: Held) -> None:
        self._store = store
        self._lease = lease
        self._links: dict[Address | None, Any] = {}
        self._waiting: deque[tuple[Any, pa.Table, list[int] | range, int]] = deque()
        self.written = 0
        self.refused: list[pa.Table] = []
        self.mended: list[pa.Table] = []
        self.kept: list[bytes] = []

    def __enter__(self) -> Writer:
        self._cluster = self._store if isinstance(self._store, Cluster) else None
        try:
            for address in self._cluster.addresses() if self._cluster else [None]:
                connection = self._client(address).connection_pool.get_connection()
                self._links[address] = connection
                _ask(connection, b"SCRIPT", b"LOAD", scripts.WRITE_ROWS.encode())
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for address, connection in self._links.items():
            if self._waiting or kind is not None:
                connection.disconnect()  # answers are still under way: the connection cannot serve anyone else
            self._client(address).connection_pool.release(connection)

    def send(self, rows: Rows, keys: pa.Table) -> None:
        """Queue rows, with their join keys; blocks while too many calls are unanswered. Raises LeaseLostError where the
        server refused a write because the lease had ended; redis.RedisError where the server refused or was lost; what
        was not answered may or may not be written."""
        if self._cluster:
            return self._send_by_node(rows, keys)
        start = 0
        for count, names, arguments in rows.calls(max(1, min(ROWS_A_CALL, ARGUMENTS_A_CALL // rows.row_strings))):
            self._links[None].send_packed_command([_call(rows, count, names, self._lease.deadline(), arguments)])
            self._queued(self._links[None], keys, range(start, start + count), 1)
            start += count
        return None

    def _send_by_node(self, rows: Rows, keys: pa.Table) -> None:
        """As `send`: a cluster takes no call for rows of several slots, so each row is one, pipelined to its node."""
        ready: dict[Address | None, dict[int, bytes]] = {address: {} for address in self._links}

        def flush(address: Address | None) -> None:
            calls, ready[address] = ready[address], {}
            self._links[address].send_packed_command([b"".join(calls.values())])
            self._queued(self._links[address], keys, list(calls), len(calls))

        for place, (_, name, arguments) in enumerate(rows.calls(1)):
            address = self._address(name[name.index(b"\n") + 1 : -2])
            ready[address][place] = _call(rows, 1, name, self._lease.deadline(), arguments)
            if len(ready[address]) == ROWS_A_CALL:
                flush(address)
        for address in [address for address, calls in ready.items() if calls]:
            flush(address)

    def finish(self) -> None:
        """Wait until every row sent is answered for."""
        while self._waiting:
            self._receive()

    def call(self, script: str, key: str, *arguments: str) -> Any:
        """Run a script of one key, with the lease's deadline before its arguments, and give its answer."""
        self.finish()
        name = key.encode()
        deadline = b"%d" % self._lease.deadline()
        texts = [argument.encode() for argument in arguments]
        with lease_errors():
            return _ask(self._links[self._address(name)], b"EVAL", script.encode(), b"1", name, deadline, *texts)

    def delete(self, keys: list[bytes], writers: list[bytes] | None = None) -> int:
        """Delete rows that materializations wrote, a key only if `writers` names who did. Returns how many went."""
        self.finish()
        deleted = 0
        for at in range(0, len(keys), _SCAN_PAGE):
            page = keys[at : at + _SCAN_PAGE]
            expected = writers[at : at + _SCAN_PAGE] if writers else [b"*"] * len(page)
            deadline = b"%d" % self._lease.deadline()
            sent = []
            # One call for all of them on one server, one for each key on a cluster; all are sent, then all are read.
            step = 1 if self._cluster else len(page)
            for first in range(0, len(page), step):
                names = page[first : first + step]
                sent.append(self._links[self._address(names[0])])
                sent[-1].send_command(
                    b"EVAL", scripts.DELETE_ROWS, len(names), *names, deadline, *expected[first : first + step]
                )
            with lease_errors():
                deleted += sum(connection.read_response() for connection in sent)
        return deleted

    def remove(self, keys: list[bytes], seen: int, mark: str, over: bool = False) -> int:
        """Put tombstones in place of rows, and where there is none; see `scripts.REMOVE_ROWS`. Returns how many rows
        went.

        Args:
            seen: the landing's number as of which these rows are no more.
            mark: who removes them, as rows have it: ``run:<id>`` or ``stream:<id>``.
            over: whether a run begins an epoch.
        """
        self.finish()
        removed = 0
        head = [mark.encode(), b"%d" % seen, b"1" if over else b"", b"%d" % (TOMBSTONE // timedelta(milliseconds=1))]
        step = 1 if self._cluster else ROWS_A_CALL
        for at in range(0, len(keys), _SCAN_PAGE):
            page = keys[at : at + _SCAN_PAGE]
            deadline = b"%d" % self._lease.deadline()
            sent = []
            for first in range(0, len(page), step):
                names = page[first : first + step]
                sent.append((self._links[self._address(names[0])], names))
                sent[-1][0].send_command(b"EVAL", scripts.REMOVE_ROWS, len(names), *names, deadline, *head)
            with lease_errors():
                for connection, names in sent:
                    count, *kept = connection.read_response()
                    removed += count
                    self.kept += [names[place - 1] for place in kept]
        return removed

    def _client(self, address: Address | None) -> redis.Redis:
        return self._cluster.client(address) if self._cluster else self._store

    def _address(self, key: bytes) -> Address | None:
        if self._cluster is None:
            return None
        address = self._cluster.address_of(key)
        if address not in self._links:
            raise OnlineStoreError("The cluster has changed its masters in the middle of the run: run it again.")
        return address

    def _queued(self, connection: Any, keys: pa.Table, places: list[int] | range, answers: int) -> None:
        self._waiting.append((connection, keys, places, answers))
        if len(self._waiting) >= CALLS_IN_FLIGHT * len(self._links):
            self._receive()

    def _receive(self) -> None:
        """Read the answers to what was sent first: to one call for all of the rows, or to one for each."""
        connection, keys, places, answers = self._waiting.popleft()
        step = len(places) // answers
        refused, mended = [], []
        with lease_errors():
            for first in range(0, len(places), step):
                for place in connection.read_response():
                    (refused if place > 0 else mended).append(places[first + abs(place) - 1])
        self.written += len(places) - len(refused)
        if refused:
            self.refused.append(keys.take(refused))
        if mended:
            self.mended.append(keys.take(mended))


def _call(rows: Rows, count: int, names: bytes, deadline: int, arguments: memoryview) -> bytes:
    """One EVALSHA of WRITE_ROWS for `count` rows; `names` and `arguments` are packed already."""
    head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$%d\r\n%d\r\n" % (
        4 + count + rows.head_strings + count * rows.row_strings, _WRITE_SHA, len(b"%d" % count), count,
    )  # fmt: skip
    return b"".join((head, names, bulk_strings(b"%d" % deadline), rows.head, arguments))


def _ask(connection: Any, *command: bytes) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def other_rows(
    store: OnlineStore, namespace: str, view: str, run: str, most: int | None = None
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """The view's rows that an earlier run or a stream wrote, and `run` did not, in pages of (keys, their writers).
    Without those that have seen a greater number of the landing than `most`."""
    greatest = "" if most is None else str(most)
    pattern = glob_literal(view_prefix(namespace, view)) + "*"
    for node in masters(store):
        cursor = None
        while cursor != 0:
            cursor, keys = node.scan(cursor or 0, match=pattern, count=_SCAN_PAGE, _type="hash")
            if isinstance(store, Cluster):  # which takes no script over rows of several slots
                found = _others_one_by_one(node, keys, run, greatest)
            else:
                found = node.eval(scripts.OTHER_ROWS, len(keys), *keys, run, greatest) if keys else []
            if found:
                yield found[::2], found[1::2]


def _others_one_by_one(node: redis.Redis, keys: list[bytes], run: str, greatest: str) -> list[bytes]:
    script = node.script_load(scripts.OTHER_ROWS)
    pipeline = node.pipeline(transaction=False)
    for key in keys:
        pipeline.evalsha(script, 1, key, run, greatest)
    return [text for one in pipeline.execute() for text in one]


@contextmanager
def lease_errors() -> Iterator[None]:
    """Turns the scripts' refusal into `LeaseLostError`."""
    try:
        yield
    except redis.ResponseError as error:
        if scripts.LEASE_LOST not in str(error):
            raise
        raise LeaseLostError(
            "The lease ended before a write arrived, so another run may be writing: nothing more is sent."
        ) from None
