"""Sends encoded rows to Redis: several calls in flight on one connection, under a lease."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator

import pyarrow as pa
import redis

from materializer.errors import LeaseLostError
from materializer.online import scripts
from materializer.online.keys import glob_literal, view_prefix
from materializer.online.lease import Lease
from materializer.online.rows import WRITER, Rows

# A call of this many rows holds the server for about a millisecond; other clients are served between calls.
ROWS_A_CALL = 100
CALLS_IN_FLIGHT = 16
_SCAN_PAGE = 1000
_WRITE_SHA = hashlib.sha1(scripts.WRITE_ROWS.encode()).hexdigest().encode()


class Writer:
    """Writes one view's rows under `lease`; use as a context manager.

    `written` counts the rows so far that were replaced; `refused` holds the join keys of those that a newer row of a
    push or a stream kept out.
    """

    def __init__(self, client: redis.Redis, lease: Lease) -> None:
        self._client = client
        self._lease = lease
        self._waiting: deque[tuple[pa.Table, int, int]] = deque()
        self.written = 0
        self.refused: list[pa.Table] = []

    def __enter__(self) -> Writer:
        self._client.script_load(scripts.WRITE_ROWS)
        self._connection = self._client.connection_pool.get_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._waiting or kind is not None:
            self._connection.disconnect()  # answers are still under way: the connection cannot serve anyone else
        self._client.connection_pool.release(self._connection)

    def send(self, rows: Rows, keys: pa.Table) -> None:
        """Queue rows, with their join keys; blocks while too many calls are unanswered.

        Raises:
            LeaseLostError: where the server refused a write because the lease had ended.
            redis.RedisError: where the server refused or was lost; what was not answered may or may not be written.
        """
        start = 0
        for count, names, arguments, strings in rows.calls(ROWS_A_CALL):
            deadline = b"%d" % self._lease.deadline()
            self._connection.send_packed_command(
                [
                    b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$%d\r\n%d\r\n"
                    % (4 + count + strings, _WRITE_SHA, len(b"%d" % count), count),
                    names,
                    b"$%d\r\n%s\r\n" % (len(deadline), deadline),
                    arguments,
                ]
            )
            self._waiting.append((keys, start, count))
            start += count
            if len(self._waiting) >= CALLS_IN_FLIGHT:
                self._receive()

    def finish(self) -> None:
        """Wait until every row sent is answered for."""
        while self._waiting:
            self._receive()

    def _receive(self) -> None:
        keys, start, count = self._waiting.popleft()
        with lease_errors():
            refused = self._connection.read_response()
        self.written += count - len(refused)
        if refused:
            self.refused.append(keys.take([start + place - 1 for place in refused]))


def delete_rows(client: redis.Redis, lease: Lease, keys: list[bytes], writers: list[bytes] | None = None) -> int:
    """Delete rows that materializations wrote, a key only if `writers` names who did. Returns how many went."""
    deleted = 0
    for at in range(0, len(keys), _SCAN_PAGE):
        page = keys[at : at + _SCAN_PAGE]
        expected = writers[at : at + _SCAN_PAGE] if writers else [b"*"] * len(page)
        with lease_errors():
            deleted += client.eval(scripts.DELETE_ROWS, len(page), *page, lease.deadline(), *expected)
    return deleted


def other_rows(client: redis.Redis, namespace: str, view: str, run: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """The view's rows that an earlier run wrote and `run` did not, in pages of (keys, their writers)."""
    pattern = glob_literal(view_prefix(namespace, view)) + "*"
    for keys in _pages(client.scan_iter(match=pattern, count=_SCAN_PAGE, _type="hash")):
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(key, WRITER)
        stale = [
            (key, writer)
            for key, writer in zip(keys, pipeline.execute(), strict=True)
            if writer and writer.startswith(scripts.RUN.encode()) and writer != run.encode()
        ]
        if stale:
            yield [key for key, _ in stale], [writer for _, writer in stale]


def _pages(keys: Iterable[bytes]) -> Iterable[list[bytes]]:
    page: list[bytes] = []
    for key in keys:
        page.append(key)
        if len(page) == _SCAN_PAGE:
            yield page
            page = []
    if page:
        yield page


class lease_errors:  # noqa: N801 - reads as a statement: `with lease_errors():`
    """Turns the scripts' refusal into `LeaseLostError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, redis.ResponseError) and scripts.LEASE_LOST in str(error):
            raise LeaseLostError(
                "The lease ended before a write arrived, so another run may be writing: nothing more is sent."
            ) from None
