"""The log of served features: a sample of the requests, as Parquet files that ``feature-store skew`` reads.

A request only puts its answer into a queue; a thread makes Arrow of it and writes the files. Names of columns are those
of Feast's feature logging.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from materializer.errors import InputError
from materializer.online.keys import key_texts
from materializer.online.response import OnlineResponse, Status, events_of
from materializer.online.served_log import ABOUT, FORMAT, REQUEST_ID, SERVED_AT, epoch_micros
from materializer.project.definitions import Pick, Registry, pick_features, request_fields
from materializer.serve.metrics import Metrics
from materializer.serve.values import arrow_of
from materializer.warehouse.join_keys import carrier, cast_keys
from materializer.warehouse.on_demand_types import field_type, field_values

# What waits to be written, at most: values in the queue, and bytes of Arrow until their file is due.
VALUES_WAITING = 2_000_000
BYTES_WAITING = 64 * 1024 * 1024
_MOMENT = pa.timestamp("us", "UTC")
_WORDS = pa.dictionary(pa.int8(), pa.string())
_STATUSES = pa.array(list(map(str, Status)))
_CODES = {id(status): place for place, status in enumerate(Status)}  # the hash of an enum is Python's work
_PAUSE_SECONDS = 0.25
_log = logging.getLogger("materializer")


class _Answer(NamedTuple):
    """One request's answer, as it was given: nothing of it is copied before the thread has it."""

    at: datetime
    request_id: str
    service: str | None
    references: tuple[str, ...]
    registry: Registry
    rows: Sequence[Mapping[str, Any]]
    response: OnlineResponse
    namespace: str


class FeatureLog:
    """Writes a sample of what is served to a folder, from `start` until `close`, which writes what is queued.

    What does not fit into the queue, or cannot be written, is dropped and counted: no caller waits for it or hears of
    it. Files appear whole: they are written under a name that begins with a dot.

    Args:
        folder: made where it is not there. Several processes may write to the same.
        sample: the share of requests that is logged.
        seconds: how long a row waits for its file at most.

    Raises:
        InputError: where the folder cannot be made or written.
    """

    def __init__(self, folder: Path, sample: float, seconds: float, metrics: Metrics) -> None:
        self._folder, self._sample, self._seconds, self._metrics = folder, sample, seconds, metrics
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The folder {folder} for served features cannot be made: {error.strerror}.") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"The folder {folder} for served features cannot be written.")
        self._queue: deque[_Answer] = deque()
        # Values that went into the queue, counted by who offers, and that came out of it, counted by the thread.
        self._offered = self._taken = 0
        # Batches of one file: what the schema says, and the types that it has.
        self._waiting: dict[tuple[bytes, pa.Schema], list[pa.RecordBatch]] = {}
        self._bytes = 0
        self._numbers = 0
        self._schemas: dict[Any, tuple[Registry, pa.Schema, dict[str, pa.DataType], list[Pick]]] = {}
        self._failing = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="feature-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def wants(self) -> bool:
        """Whether the next request is of the sample."""
        return random.random() < self._sample

    def offer(
        self, request_id: str, service: str | None, references: Sequence[str], registry: Registry,
        rows: Sequence[Mapping[str, Any]], response: OnlineResponse, namespace: str,
    ) -> None:  # fmt: skip
        """Log an answer, or drop it where the queue is full."""
        values = len(rows) * len(references)
        if self._offered - self._taken + values > VALUES_WAITING:
            self._metrics.not_logged("queue", len(rows))
            return
        self._offered += values
        at = response.read_at or datetime.now(timezone.utc)
        self._queue.append(_Answer(at, request_id, service, tuple(references), registry, rows, response, namespace))

    def close(self, patience: float = 20.0) -> None:
        """Write what is queued, for so many seconds at most."""
        self._ending.set()
        self._thread.join(patience)

    # The thread. It looks into the queue a few times a second: to wake it for each answer, and to make Arrow of each by
    # itself, would cost the requests more than they take themselves.

    def _write_on(self) -> None:
        due = time.monotonic() + self._seconds
        pause = min(_PAUSE_SECONDS, self._seconds)
        ending = False
        while not ending:
            ending = self._ending.wait(pause)
            alike: dict[Any, list[_Answer]] = {}
            while self._queue:
                answer = self._queue.popleft()
                alike.setdefault((answer.service, answer.references, id(answer.registry)), []).append(answer)
            for answers in alike.values():
                self._take(answers)
            if ending or self._bytes >= BYTES_WAITING or time.monotonic() >= due:
                self._write()
                due = time.monotonic() + self._seconds

    def _take(self, answers: Sequence[_Answer]) -> None:
        """Make Arrow of answers of one kind; where that fails, of each of them by itself."""
        rows = sum(len(answer.rows) for answer in answers)
        try:
            batch = self._batch(answers, rows)
        except Exception as error:  # whatever it is: the next one may be well, and no caller hears of it
            if len(answers) > 1:
                for answer in answers:
                    self._take([answer])
                return
            self._failed(rows, "value", f"A served answer could not be logged: {error}")
        else:
            self._waiting.setdefault((batch.schema.metadata[ABOUT], batch.schema), []).append(batch)
            self._bytes += batch.nbytes
        self._taken += rows * len(answers[0].references)

    def _batch(self, answers: Sequence[_Answer], count: int) -> pa.RecordBatch:
        schema, keys, picks = self._schema(answers[0])
        rows = [row for answer in answers for row in answer.rows]
        columns: list[pa.Array] = [
            pa.array([at for answer in answers for at in [epoch_micros(answer.at)] * len(answer.rows)]).cast(_MOMENT),
            pa.array([answer.request_id for answer in answers for _ in answer.rows], pa.string()),
        ]
        columns += [_keys([row.get(name) for row in rows], dtype, name) for name, dtype in keys.items()]
        for name, declared in request_fields(picks).items():
            values = field_values([row.get(name) for row in rows], declared, name)
            columns.append(pa.array(values, field_type(declared)))
        events: dict[str, pa.Array] = {}
        for pick, *parts in zip(picks, *(answer.response.columns.values() for answer in answers), strict=True):
            dtype = schema.field(pick.output).type
            if not all(part[0].equals(dtype) for part in parts):
                raise ValueError(f"'{pick.output}' was published anew meanwhile, as another type")
            _, values, statuses, moments = zip(*parts, strict=True)
            if pick.view is not None and pick.view.reference not in events:  # once for all features of a view
                events[pick.view.reference] = _moments([*chain(*moments)])
            codes = bytes(map(_CODES.__getitem__, map(id, chain(*statuses))))
            words = pa.Array.from_buffers(pa.int8(), count, [None, pa.py_buffer(codes)])
            columns.append(arrow_of(dtype, [*chain(*values)]))
            columns.append(pa.DictionaryArray.from_arrays(words, _STATUSES))
            if _is_stored(pick):
                columns.append(events[pick.view.reference])
            time.sleep(0)  # the requests come first
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _schema(self, answer: _Answer) -> tuple[pa.Schema, dict[str, pa.DataType], list[Pick]]:
        """Of the rows for these features, made once while the registry stays the same."""
        key = answer.service, answer.references
        known = self._schemas.get(key)
        if known is None or known[0] is not answer.registry:
            if len(self._schemas) >= 256:
                self._schemas.clear()
            picks = pick_features(answer.registry, answer.references, full_feature_names=True)
            keys = _key_types(picks)
            self._schemas[key] = known = (answer.registry, _described(answer, keys, picks), keys, picks)
        return known[1:]

    def _write(self) -> None:
        """Write all that waits, a file for each list of features."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        for (_, schema), batches in waiting.items():
            table = pa.Table.from_batches(batches, schema)
            try:
                self._write_file(table)
            except (OSError, pa.ArrowException) as error:
                why = getattr(error, "strerror", None) or error
                self._failed(table.num_rows, "disk", f"Served features cannot be written to {self._folder}: {why}")
            else:
                self._failing = False
                self._metrics.logged(table.num_rows)

    def _write_file(self, table: pa.Table) -> None:
        about = json.loads(table.schema.metadata[ABOUT])
        folder = self._folder / _folder_name(about)
        folder.mkdir(exist_ok=True)  # not the one above: where that went away, a disk is not mounted
        self._numbers += 1
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        name = f"{stamp}-{socket.gethostname()[:24]}-{os.getpid()}-{self._numbers}.parquet"
        partial = folder / f".{name}.part"
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.replace(folder / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _failed(self, rows: int, why: str, sentence: str) -> None:
        """Count rows that are not logged, and say why once until it goes well again."""
        self._metrics.not_logged(why, rows)
        if not self._failing:
            self._failing = True
            _log.warning("%s.", sentence.rstrip("."))


def _described(answer: _Answer, keys: Mapping[str, pa.DataType], picks: Sequence[Pick]) -> pa.Schema:
    """The columns of the log for these features; the schema's metadata says what they are."""
    about = {
        "format": FORMAT,
        "namespace": answer.namespace,
        "service": answer.service,
        "features": [
            {"column": pick.output, "view": pick.view.reference, "feature": pick.feature}
            for pick in picks
            if _is_stored(pick)
        ],
        "on_demand": [pick.output for pick in picks if not _is_stored(pick)],
        "request": list(request_fields(picks)),
        "join_keys": {pick.view.reference: pick.view.join_keys for pick in picks if pick.view is not None},
    }
    fields = [pa.field(SERVED_AT, _MOMENT), pa.field(REQUEST_ID, pa.string())]
    fields += [pa.field(name, carrier(dtype)) for name, dtype in keys.items()]
    fields += [pa.field(name, field_type(declared)) for name, declared in request_fields(picks).items()]
    for pick in picks:
        dtype = pick.view.feature(pick.feature).dtype if _is_stored(pick) else pick.on_demand.dtype
        fields += [pa.field(pick.output, dtype), pa.field(f"{pick.output}__status", _WORDS)]
        if _is_stored(pick):  # what is computed has no event
            fields.append(pa.field(f"{pick.output}__timestamp", _MOMENT))
    return pa.schema(fields, {ABOUT: json.dumps(about)})


def _is_stored(pick: Pick) -> bool:
    return pick.on_demand is None


def _key_types(picks: Sequence[Pick]) -> dict[str, pa.DataType]:
    """The types of the join keys; text for one that views have in several."""
    types: dict[str, pa.DataType] = {}
    for entity in (entity for pick in picks if pick.view is not None for entity in pick.view.entities):
        same = types.setdefault(entity.name, entity.dtype).equals(entity.dtype)
        types[entity.name] = entity.dtype if same else pa.string()
    return types


def _moments(texts: list[bytes | None]) -> pa.Array:
    """Event times from what Redis holds; None for what is none."""
    try:
        return pa.array(texts, pa.binary()).cast(pa.string()).cast(_MOMENT)
    except pa.ArrowException:  # "since ever", or a foreign text
        return pa.array(events_of(texts), _MOMENT)


def _keys(values: list[Any], dtype: pa.DataType, name: str) -> pa.Array:
    """Join keys as they were looked up, whatever types they came in."""
    if pa.types.is_int64(dtype) and {int, type(None)} >= set(map(type, values)):
        return pa.array(values, dtype)
    return cast_keys(pa.array(key_texts(values, dtype, name), pa.string()), dtype, name)


def _folder_name(about: Mapping[str, Any]) -> str:
    """A folder for a service, or for a list of features that were asked for by their names."""
    if about["service"] is not None:
        return f"service-{quote(about['service'], safe='')[:100]}"
    names = "\n".join(f"{one['view']}:{one['feature']}" for one in about["features"])
    return f"features-{sha256(names.encode()).hexdigest()[:12]}"
