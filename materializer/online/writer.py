"""Sends encoded rows to Redis: several calls in flight on one connection, under a lease."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

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


class Writer:
    """Writes one view's rows under `lease`; use as a context manager.

    `written` and `kept` count the rows so far that were replaced, and that a newer push or stream row kept out.
    """

    def __init__(self, client: redis.Redis, lease: Lease) -> None:
        self._client = client
        self._lease = lease
        self._waiting: deque[int] = deque()
        self.written = 0
        self.kept = 0

    def __enter__(self) -> Writer:
        self._client.script_load(scripts.WRITE_ROWS)
        self._connection = self._client.connection_pool.get_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._waiting or kind is not None:
            self._connection.disconnect()  # answers are still under way: the connection cannot serve anyone else
        self._client.connection_pool.release(self._connection)

    def send(self, rows: Rows) -> None:
        """Queue rows; blocks while too many calls are unanswered.

        Raises:
            LeaseLostError: where the server refused a write because the lease had ended.
            redis.RedisError: where the server refused or was lost; what was not answered may or may not be written.
        """
        sha = hashlib.sha1(scripts.WRITE_ROWS.encode()).hexdigest().encode()
        for count, keys, arguments, strings in rows.calls(ROWS_A_CALL):
            deadline = b"%d" % self._lease.deadline()
            self._connection.send_packed_command(
                [
                    b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$%d\r\n%d\r\n"
                    % (4 + count + strings, sha, len(b"%d" % count), count),
                    keys,
                    b"$%d\r\n%s\r\n" % (len(deadline), deadline),
                    arguments,
                ]
            )
            self._waiting.append(count)
            if len(self._waiting) >= CALLS_IN_FLIGHT:
                self._receive()

    def finish(self) -> None:
        """Wait until every row sent is answered for."""
        while self._waiting:
            self._receive()

    def _receive(self) -> None:
        self._waiting.popleft()
        with lease_errors():
            written, kept = self._connection.read_response()
        self.written += written
        self.kept += kept


def remove_others(client: redis.Redis, lease: Lease, namespace: str, view: str, run: str) -> int:
    """Delete the view's rows that an earlier run wrote and this one did not: entities that are gone.

    Rows of a push or a stream stay. A key goes only if it still is what was scanned. Returns how many went.
    """
    deleted = 0
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
            with lease_errors():
                deleted += client.eval(
                    scripts.DELETE_ROWS, len(stale), *(k for k, _ in stale), lease.deadline(), *(w for _, w in stale)
                )
    return deleted


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
