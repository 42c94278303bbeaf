"""Online reads: one pre-packed pipeline a request, whatever the number of views and entities."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache, partial
from itertools import repeat
from typing import Any

import pyarrow as pa

from materializer.errors import FeatureStoreError, InputError, NotFoundError
from materializer.feature_view import FeatureView, Pick, Registry, pick_features
from materializer.online.keys import revision_key, row_keys, view_prefix
from materializer.online.pipeline import AsyncLinks, exchange
from materializer.online.published import read_published
from materializer.online.response import MISSING, Column, OnlineResponse, Status
from materializer.online.rows import EVENT
from materializer.online.topology import OnlineStore
from materializer.online.values import decoder, encode
from materializer.types import cast_keys

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_to_event = decoder(pa.timestamp("us", "UTC"))


class OnlineReader:
    """Reads one namespace. Needs Redis alone: types, ttl and join keys come from the published registry.

    Every request also asks for the registry's revision, so that a change is seen by the very next read.
    """

    def __init__(self, store: OnlineStore, namespace: str, url: str = "") -> None:
        """`url` is where `store` leads to, for `read_async`."""
        self._store = store
        self._links = AsyncLinks(store, url)
        self.namespace = namespace
        # The revision and the registry it stands for, replaced as one: requests in other threads look at it too.
        self._known: tuple[bytes | None, Registry] | None = None

    def registry(self) -> Registry:
        """What is published now."""
        return self._published()[1]

    def _published(self) -> tuple[bytes | None, Registry]:
        self._known = known = read_published(self._store, self.namespace)
        if not known[1].views:
            raise NotFoundError(f"Nothing is published in namespace '{self.namespace}': run `materialize` first.")
        return known

    def read(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """See `materializer.FeatureStore.get_online_features`."""
        steps = self._steps(features, entity_rows, full_feature_names)
        try:
            request = next(steps)
            while True:
                request = steps.send(self._exchange(request) if request else self._published())
        except StopIteration as done:
            return done.value

    async def read_async(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """As `read`, for asyncio. The registry, read anew when it changed, comes by way of a thread."""
        steps = self._steps(features, entity_rows, full_feature_names)
        try:
            request = next(steps)
            while True:
                if request:
                    answer = await self._links.exchange(request.keys, request.commands)
                else:
                    answer = await asyncio.to_thread(self._published)
                request = steps.send(answer)
        except StopIteration as done:
            return done.value

    def _steps(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool
    ) -> Generator[_Request | None, Any, OnlineResponse]:
        """A read without its waiting: yields a request and takes its replies, or None and takes what is published."""
        known = self._known
        expected, registry = known if known and known[0] is not None else (yield None)
        while True:
            try:
                picks = pick_features(registry, registry.references(features), full_feature_names)
                request = _Request(self.namespace, picks, entity_rows)
            except FeatureStoreError as error:
                problem = error
            else:
                replies = yield request
                if replies[0] == expected:
                    return request.response(replies)
                expected, registry = yield None
                continue
            # Perhaps it was published since: look again before saying no.
            expected, fresh = yield None
            if fresh == registry:
                raise problem
            registry = fresh

    def _exchange(self, request: _Request) -> list[Any]:
        return exchange(self._store, request.keys, request.commands, request.received)


class _Request:
    """The rows and features that one call asks for: packs the commands, then reads their replies."""

    def __init__(self, namespace: str, picks: list[Pick], entity_rows: Sequence[Mapping[str, Any]]) -> None:
        self._picks = picks
        self._rows = entity_rows
        self._namespace = namespace
        self._features: dict[str, list[str]] = {}
        self._views: dict[str, FeatureView] = {}
        for pick in picks:
            self._views[pick.view.reference] = pick.view
            self._features.setdefault(pick.view.reference, []).append(pick.feature)
        self._timed = any(view.ttl for view in self._views.values())
        self._keys = {reference: self._row_keys(view) for reference, view in self._views.items()}
        self.keys, self.commands = self._pack()
        self._replies: list[Any] | None = None  # those that were decoded so far are its first `_at`

    def _row_keys(self, view: FeatureView) -> list[bytes | None]:
        """The key of each row, None where one of its join keys is NULL."""
        columns = []
        for entity in view.entities:
            try:
                values = [row[entity.name] for row in self._rows]
            except KeyError:
                for number, row in enumerate(self._rows):
                    if entity.name not in row:
                        raise InputError(
                            f"Entity row {number} has no '{entity.name}', a join key of feature view "
                            f"'{view.reference}' (it has: {', '.join(row) or 'nothing'})."
                        ) from None
                raise
            if len(view.entities) == 1 and pa.types.is_integer(entity.dtype) and {int} == set(map(type, values)):
                start = view_prefix(self._namespace, view.reference).encode()
                return [b"%b%d" % (start, value) for value in values]
            columns.append(key_texts(values, entity.dtype, entity.name))
        try:
            return row_keys(self._namespace, view.reference, columns)
        except UnicodeEncodeError as error:
            names = ", ".join(view.join_keys)
            raise InputError(f"Join key '{names}' was given a text that is not Unicode: {error.object!r}.") from None

    def _pack(self) -> tuple[list[bytes], list[bytes]]:
        """The commands, and for each the key by which its server is found."""
        revision = revision_key(self._namespace).encode()
        keys, parts = [revision], [_command(b"GET", revision)]
        if self._timed:
            keys.append(revision)  # one clock for all readers, wherever the rows are
            parts.append(_command(b"TIME"))
        for reference, rows in self._keys.items():
            asked = [key for key in rows if key is not None]
            fields = [name.encode() for name in self._features[reference]] + [EVENT.encode()]
            head = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
            tail = b"".join(b"$%d\r\n%s\r\n" % (len(field), field) for field in fields)
            keys += asked
            parts += [b"%s$%d\r\n%s\r\n%s" % (head, len(key), key, tail) for key in asked]
        return keys, parts

    def received(self, replies: list[Any]) -> None:
        """Decode what has come of the replies, while the server works on the rest of them. What cannot be decoded is
        left to `response`: it may be of a type that was published after the registry was read."""
        try:
            self._take(replies)
        except Exception:
            self._replies = None

    def response(self, replies: list[Any]) -> OnlineResponse:
        """The answer, once all replies are there."""
        self._take(replies)
        columns: dict[str, Column] = {}
        for reference, table in self._tables.items():
            keys = self._keys[reference]
            events = cache(partial(_events, table.moments, keys))
            for name, dtype, values, statuses in zip(
                self._features[reference], table.types, table.values, table.statuses, strict=True
            ):
                columns[f"{reference}:{name}"] = (
                    dtype,
                    _spread(values, keys),
                    _spread(statuses, keys, MISSING),
                    events,
                )
        return OnlineResponse(_inputs(self._rows), {pick.output: columns[_column(pick)] for pick in self._picks})

    def _take(self, replies: list[Any]) -> None:
        if replies is not self._replies:
            self._replies, self._at = replies, 1 + self._timed
            self._tables: dict[str, _Table] = {}
        if len(replies) < self._at:
            return
        for reference, keys in self._keys.items():
            if reference not in self._tables:
                view = self._views[reference]
                clock = view.as_of or (_clock(replies[1]) if self._timed else None)
                self._tables[reference] = _Table(view, self._features[reference], clock)
            table = self._tables[reference]
            missing = len(keys) - keys.count(None) - len(table.moments)
            rows = replies[self._at : self._at + missing]
            if rows:
                table.add(rows)
                self._at += len(rows)
            if len(rows) < missing:
                return


class _Table:
    """The columns of one view, decoded as their rows come in; rows of NULL keys are not among them."""

    def __init__(self, view: FeatureView, names: list[str], clock: datetime | None) -> None:
        self._oldest = clock - view.ttl if view.ttl and clock else None
        self.types = [view.feature(name).dtype for name in names]
        self.values: list[list[Any]] = [[] for _ in names]
        self.statuses: list[list[Status]] = [[] for _ in names]
        self.moments: list[bytes | None] = []

    def add(self, rows: list[Any]) -> None:
        """A column with nothing special in it costs no step of Python's for each value."""
        *columns, moments = zip(*rows, strict=True)
        plain = None not in moments and (self._oldest is None or _all_since(moments, self._oldest))
        events = None if plain else _events(moments, moments)
        for dtype, column, values, statuses in zip(self.types, columns, self.values, self.statuses, strict=True):
            if plain and None not in column:
                values.extend(map(decoder(dtype), column))
                statuses.extend(repeat(Status.PRESENT, len(column)))
            else:
                self._add_each(dtype, column, events or _events(moments, moments), values, statuses)
        self.moments.extend(moments)

    def _add_each(
        self,
        dtype: pa.DataType,
        column: Sequence[Any],
        events: Sequence[Any],
        values: list[Any],
        statuses: list[Status],
    ) -> None:
        decode = decoder(dtype)
        for raw, event in zip(column, events, strict=True):
            old = self._oldest is not None and event is not None and event < self._oldest
            values.append(None if raw is None or old or event is None else decode(raw))
            statuses.append(
                MISSING if event is None
                else Status.OUTSIDE_MAX_AGE if old
                else Status.NULL_VALUE if raw is None
                else Status.PRESENT
            )  # fmt: skip


def _clock(reply: Sequence[Any]) -> datetime:
    seconds, microseconds = reply
    return _EPOCH + timedelta(seconds=int(seconds), microseconds=int(microseconds))


def _events(moments: Sequence[bytes | None], keys: Sequence[bytes | None]) -> list[datetime | None]:
    return _spread([None if moment is None else _to_event(moment) for moment in moments], keys)


def _spread(values: list[Any], keys: Sequence[bytes | None], absent: Any = None) -> list[Any]:
    """The values of rows that were asked for, with `absent` in the places of those that were not."""
    if len(values) == len(keys):
        return values
    found = iter(values)
    return [absent if key is None else next(found) for key in keys]


def _all_since(moments: Sequence[bytes], oldest: datetime) -> bool:
    """Whether no moment is before `oldest`, told from their texts alone; False where these cannot tell."""
    text = oldest.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
    return set(map(len, moments)) == {len(text)} and min(moments) >= text


def _column(pick: Pick) -> str:
    return f"{pick.view.reference}:{pick.feature}"


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _inputs(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    if len(set(map(len, rows))) == 1:
        try:
            return {name: [row[name] for row in rows] for name in rows[0]}
        except KeyError:
            pass  # as many keys, but others
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def key_texts(values: Iterable[Any], dtype: pa.DataType, name: str) -> list[str | None]:
    """Join key values as they stand in keys, cast to the view's type; NULL and NaN are None.

    Raises:
        InputError: for a value that is not of the type, such as text in an integer key.
    """
    values = list(values)
    if {int} == set(map(type, values)) and pa.types.is_integer(dtype):
        return list(map(str, values))
    values = [_plain_value(value) for value in values]
    if pa.types.is_integer(dtype) and all(type(value) is int or value is None for value in values):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_string(dtype) and all(type(value) is str or value is None for value in values):
        return values
    texts = []
    for value in values:
        if value is not None and not isinstance(value, (int, float, str, bytes, bool, date, Decimal)):
            value = str(value)
        if type(value) is int and not pa.types.is_boolean(dtype):
            value = str(value)  # of any size, as decimals are
        try:
            cast = cast_keys(pa.array([value]), dtype, name)
        except (pa.ArrowException, OverflowError) as error:
            raise InputError(f"Join key '{name}' is of type {dtype}, but {value!r} was given for it: {error}") from None
        text = encode(cast)[0].as_py()
        texts.append(None if text is None else text.decode())
    return texts


def _plain_value(value: Any) -> Any:
    """A value of numpy's or pandas' as Python's own; None for NULL, NaN, NaT and NA."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return None
    # Python's datetime has no nanoseconds, so numpy gives an integer for one that has.
    if kind == "datetime64":
        value = value.astype("datetime64[us]")
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, (float, Decimal)) and value != value else value


def rows_of(entity_rows: Any) -> list[Mapping[str, Any]]:
    """Entity rows as a list of dicts; a dict of lists, as Feast also takes, is turned.

    Raises:
        InputError: for anything else.
    """
    if isinstance(entity_rows, Mapping):
        if any(isinstance(values, (str, bytes)) or not hasattr(values, "__len__") for values in entity_rows.values()):
            raise InputError("entity_rows as one dict has a list of values for each join key: {'user_id': [1, 2]}.")
        lengths = {len(values) for values in entity_rows.values()}
        if len(lengths) > 1:
            raise InputError("The lists in entity_rows are of different lengths.")
        return [dict(zip(entity_rows, values, strict=True)) for values in zip(*entity_rows.values(), strict=True)]
    if isinstance(entity_rows, Iterable) and not isinstance(entity_rows, (str, bytes)):
        rows = list(entity_rows)
        if set(map(type, rows)) <= {dict} or all(isinstance(row, Mapping) for row in rows):
            return rows
    raise InputError("entity_rows is a list of dicts, for example [{'user_id': 1}].")
