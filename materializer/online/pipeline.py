"""Pre-packed pipelines of reads, sent to the server or servers that hold the keys; blocking and asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from materializer.online.connect import async_pool
from materializer.online.topology import Address, Cluster, OnlineStore, is_wrong_type

# For each server: its address (None for the only one), the bytes to send, and the number of answers to read.
Batch = tuple[Address | None, bytes, int]

try:
    from redis._parsers.hiredis import NOT_ENOUGH_DATA as _NOTHING  # what hiredis gives where no whole answer came yet
except ImportError:
    _NOTHING = None
_PLAIN = frozenset((list, bytes, int, type(None)))

_ASKING = b"*1\r\n$6\r\nASKING\r\n"
_ELSEWHERE = (redis.ConnectionError, MovedError, AskError, ClusterDownError, TryAgainError)
# Tasks beyond these wait for a connection; more would only queue up in the server.
_CONNECTIONS_A_LOOP = 16
_TIMEOUT_SECONDS = 30
_WORTH_PASSING = 50
_PIECE = 16 * 1024


def exchange(
    store: OnlineStore,
    keys: Sequence[bytes],
    commands: Sequence[bytes],
    received: Callable[[list[Any]], None] | None = None,
) -> list[Any]:
    """Send packed commands, each to the server that holds its key, all at once; give their answers in order. Raises
    redis.RedisError what else a command was answered with, or why there was no answer.

    Where one server has them all, `received` may be called with the growing list of answers while it works on the
    rest. After a retry it is another list.

    Where a connection broke or slots have moved, that is looked up and asked again once. That one key holds another
    type of value is an answer like any other: the error takes its place.
    """
    rounds = _rounds(store, keys, commands)
    try:
        batches = next(rounds)
        while True:
            batches = rounds.send(_ask(store, batches, received) if batches is not None else store.refresh())
    except StopIteration as done:
        return done.value


def _rounds(
    store: OnlineStore, keys: Sequence[bytes], commands: Sequence[bytes]
) -> Generator[list[Batch] | None, Any, list[Any]]:
    """What to send: yields batches and takes for each its answers, or the error that broke it; None asks for a refresh
    of the cluster's map."""
    commands = [*commands, _ASKING]  # at place -1
    replies: list[Any] = [None] * len(commands)
    if isinstance(store, Cluster) and not store.known:
        yield None
    batches = _by_server(store, keys, range(len(keys)))
    for last in (False, True):
        answers = yield [
            (address, b"".join([commands[place] for place in places]), len(places))
            for address, places in batches.items()
        ]
        failed: list[tuple[int, Exception]] = []
        for places, answer in zip(batches.values(), answers, strict=True):
            if isinstance(answer, Exception):
                failed += [(place, answer) for place in places if place >= 0]
                continue
            if len(places) == len(replies) - 1 and _PLAIN.issuperset(map(type, answer)):
                return answer  # all in one, and no error among them
            for place, reply in zip(places, answer, strict=True):
                if isinstance(reply, Exception) and place >= 0 and not is_wrong_type(reply):
                    failed.append((place, reply))
                else:
                    replies[place] = reply
        if not failed:
            break
        for _, error in failed:
            if last or not isinstance(error, _ELSEWHERE):
                raise error
        if isinstance(store, Cluster):
            yield None
        batches = _by_server(store, keys, (place for place, error in failed if not isinstance(error, AskError)))
        for place, error in failed:
            if isinstance(error, AskError):  # the slot is on its way: this key is there already
                batches.setdefault((error.host, error.port), []).extend((-1, place))
    return replies[:-1]


def _by_server(store: OnlineStore, keys: Sequence[bytes], places: Iterable[int]) -> dict[Address | None, list[int]]:
    if not isinstance(store, Cluster):
        return {None: list(places)}
    batches: dict[Address | None, list[int]] = {}
    for place in places:
        batches.setdefault(store.address_of(keys[place]), []).append(place)
    return batches


def _ask(store: OnlineStore, batches: list[Batch], received: Callable[[list[Any]], None] | None) -> list[Any]:
    """Send all batches, then read the answers of each."""
    links: list[tuple[Any, Any]] = []
    answers: list[Any] = []
    done = False
    try:
        for address, packed, _ in batches:
            pool = (store.client(address) if isinstance(store, Cluster) else store).connection_pool
            connection = None
            try:
                connection = pool.get_connection()
                links.append((pool, connection))
                # In pieces: one large send returns only when the server has worked most of it off.
                connection.send_packed_command([packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE)])
                answers.append(None)
            except redis.ConnectionError as error:
                if connection is None:
                    links.append((pool, None))
                answers.append(error)
        for place, (_, _, count) in enumerate(batches):
            if answers[place] is None:
                connection = links[place][1]
                try:
                    answers[place] = _replies(connection, count, received if len(batches) == 1 else None)
                except redis.ConnectionError as error:
                    answers[place] = error
        done = True
        return answers
    finally:
        for place, (pool, connection) in enumerate(links):
            if connection is not None:
                if not done or isinstance(answers[place], Exception):
                    connection.disconnect()
                pool.release(connection)


def _replies(connection: Any, count: int, received: Callable[[list[Any]], None] | None) -> list[Any]:
    """The next `count` answers: each waited for, with those that came along."""
    replies = [_reply(connection)]
    passed = 0
    while len(replies) < count:
        replies += _at_hand(connection, count - len(replies))
        if len(replies) < count:
            if received and len(replies) - passed >= _WORTH_PASSING:
                passed = len(replies)
                received(replies)
            replies.append(_reply(connection))
    return replies


async def _async_replies(connection: Any, count: int) -> list[Any]:
    replies = [await _async_reply(connection)]
    while len(replies) < count:
        replies += _at_hand(connection, count - len(replies))
        if len(replies) < count:
            replies.append(await _async_reply(connection))
    return replies


def _at_hand(connection: Any, most: int) -> list[Any]:
    """Answers that have come already, taken from hiredis at once: one call of redis-py for each would take longer than
    the server does."""
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    if reader is None or _NOTHING is None:
        return []
    came = list(islice(iter(partial(reader.gets, False), _NOTHING), most))
    if not _PLAIN.issuperset(map(type, came)):
        came = [reply for reply in came if type(reply).__name__ != "PushNotification"]
        for reply in came:
            if isinstance(reply, redis.ConnectionError):
                raise reply
    return came


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except redis.ResponseError as error:
        return error


class _Link(NamedTuple):
    """A pool of one event loop's connections to one server, and turns for as many tasks."""

    pool: redis.asyncio.ConnectionPool
    turns: asyncio.Semaphore


class AsyncLinks:
    """Connections for asyncio: a pool for each event loop and server, made when first needed.

    Args:
        store: whose servers they lead to; its map of slots is shared.
        url: the store's URL.
    """

    def __init__(self, store: OnlineStore, url: str) -> None:
        self._store = store
        self._url = url
        self._loops: dict[asyncio.AbstractEventLoop, dict[Address | None, _Link]] = {}

    async def exchange(self, keys: Sequence[bytes], commands: Sequence[bytes]) -> list[Any]:
        """As the function `exchange`. What may block (to look where the servers are) runs in a thread."""
        rounds = _rounds(self._store, keys, commands)
        try:
            batches = next(rounds)
            while True:
                if batches is None:
                    answers = await asyncio.to_thread(self._store.refresh)
                elif len(batches) == 1:
                    answers = [await self._ask(*batches[0])]
                else:
                    answers = await asyncio.gather(*(self._ask(*batch) for batch in batches))
                batches = rounds.send(answers)
        except StopIteration as done:
            return done.value

    async def _ask(self, address: Address | None, packed: bytes, count: int) -> Any:
        link = await self._link(address)
        async with link.turns:
            try:
                connection = await link.pool.get_connection()
            except redis.ConnectionError as error:
                self._forget(address, link)
                return error
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await connection.send_packed_command(packed)
                    return await _async_replies(connection, count)
            except redis.ConnectionError as error:
                await connection.disconnect(nowait=True)
                self._forget(address, link)
                return error
            except BaseException as error:
                await connection.disconnect(nowait=True)
                if isinstance(error, TimeoutError):
                    raise redis.TimeoutError("no answer in time") from None
                raise
            finally:
                await link.pool.release(connection)

    async def _link(self, address: Address | None) -> _Link:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            # What closed loops leave behind goes with their last reference.
            self._loops = {other: links for other, links in self._loops.items() if not other.is_closed()}
            self._loops[loop] = {}
        links = self._loops[loop]
        if address not in links:
            pool = await asyncio.to_thread(async_pool, self._url, self._store, address)
            links.setdefault(address, _Link(pool, asyncio.Semaphore(_CONNECTIONS_A_LOOP)))
        return links[address]

    def _forget(self, address: Address | None, link: _Link) -> None:
        """A master that sentinels named may be another one by now: look again next time."""
        links = self._loops.get(asyncio.get_running_loop(), {})
        if links.get(address) is link:
            del links[address]


async def _async_reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except redis.ResponseError as error:
        return error
