"""Whether what streamed views have online is what a full build and a run would bring there at this moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from math import isfinite

import pyarrow as pa
import redis

from materializer.materialize.bounded import Bounded, machine_memory
from materializer.materialize.encoded import Encoder
from materializer.materialize.horizon import horizon_for
from materializer.materialize.memory import SentRows
from materializer.online.due import in_force
from materializer.online.heartbeat import last_beat
from materializer.online.keys import EVENT, SEEN, WRITER
from materializer.online.published import published_view
from materializer.online.served_log import epoch_micros
from materializer.online.topology import OnlineStore, node_of, server_time
from materializer.online.writer import other_rows
from materializer.project.manifest import load_manifest
from materializer.project.settings import Project
from materializer.stream.background import evaluator_of, streamed_views, unknown_views
from materializer.stream.clock import StoreClock
from materializer.stream.evaluate import Evaluation, Evaluator
from materializer.stream.explain import decide
from materializer.stream.place import any_landing_of
from materializer.stream.source import streamed_sources

# Sums of doubles depend on the order in which they are added up; the macros' do not.
TOLERANCE = 1e-9
# How long the stream is waited for to bring online what is compared, in seconds.
_PATIENCE = 30.0
_SHOWN = 5
Row = dict[bytes, bytes]


@dataclass
class Verified:
    """What was compared of a view.

    Attributes:
        entities, values: how many.
        close: floats that are equal to 1e-9 only, by feature.
        different: entities with another row, or none, online; `shown` are sentences on a few of them.
        problem: why nothing was compared; '' where it was.
    """

    view: str
    entities: int = 0
    values: int = 0
    close: Counter[str] = field(default_factory=Counter)
    different: int = 0
    shown: list[str] = field(default_factory=list)
    problem: str = ""


def verify(project: Project, namespace: str, client: OnlineStore) -> list[Verified]:
    """Compare every view that streams, entity by entity, with its own SQL over all that has landed.

    A view that dbt does not compile is among those that are not compared, as it may be one that streams.

    An entity that differs is looked at once more when the stream has had time for what landed meanwhile.

    Raises:
        ProjectError, DefinitionError: where the project cannot be read.
        WarehouseError: where the warehouse does not answer, or the tables beside the events cannot be read.
    """
    clock = StoreClock(lambda: server_time(client, namespace))
    landing = any_landing_of(project, streamed_sources(load_manifest(project)), clock)
    with closing(landing):
        decided = decide(project)
        views = streamed_views(decided)
        with evaluator_of(project, decided, landing, views, lambda _: None) as evaluator:
            with evaluator.reading():
                evaluator.refresh()
                evaluations = [evaluator.evaluation(one) for one in views]
            found = [_View(client, namespace, evaluator, one).verified() for one in evaluations]
    unknown = [Verified(view, problem=why) for view, why in unknown_views(decided).items()]
    return sorted([*found, *unknown], key=lambda one: one.view)


class _View:
    def __init__(self, client: OnlineStore, namespace: str, evaluator: Evaluator, evaluation: Evaluation) -> None:
        self._client, self._namespace = client, namespace
        self._evaluator, self._evaluation, self._one = evaluator, evaluation, evaluation.streamed
        self._bounded = Bounded(evaluator.duckdb, machine_memory() // 2)
        self._floats = {
            feature.name.encode() for feature in evaluation.view.features if pa.types.is_floating(feature.dtype)
        }
        self._found = Verified(self._one.view.reference)

    def verified(self) -> Verified:
        published = published_view(self._client, self._namespace, self._one.view.reference)
        if published is None or published.checksum != self._one.definition:
            self._found.problem = "it is not online by the definition that it has: run `materialize`"
            return self._found
        doubted: dict[bytes, Row] = {}
        known: set[bytes] = set()
        for first in self._pages():
            for name, row in self._rows(first):
                known.add(name)
                if not self._is_right(name, row, count=True):
                    doubted[name] = row
        self._found.entities = len(known)
        written = [
            name for names, writers in other_rows(self._client, self._namespace, self._one.view.reference, "")
            for name, writer in zip(names, writers, strict=True) if writer.startswith(b"stream:")
        ]  # fmt: skip
        doubted |= {name: {} for name in written if name not in known and not self._is_right(name, {})}
        if doubted:
            self._look_again(doubted)
        return self._found

    def _look_again(self, doubted: Mapping[bytes, Row]) -> None:
        """What landed while rows were compared may be online already, or not yet."""
        until = time.monotonic() + _PATIENCE
        with self._evaluator.reading() as seq:
            pass
        while time.monotonic() < until and (last := last_beat(self._client, self._namespace)) and last.seq < seq:
            time.sleep(0.2)
        rows: dict[bytes, Row] = {name: {} for name in doubted}
        for first in self._pages():
            rows |= {name: row for name, row in self._rows(first) if name in doubted}
        for name, row in rows.items():
            if not self._is_right(name, row):
                self._found.different += 1
                if len(self._found.shown) < _SHOWN:
                    self._found.shown.append(self._sentence(name, row))

    def _pages(self) -> range:
        """List all entities of which events have landed, and give where their pages begin."""
        with self._evaluator.reading():
            return range(0, self._evaluation.backlog(0), self._evaluation.together)

    def _rows(self, first: int) -> Iterator[tuple[bytes, Row]]:
        """The keys of some entities, with the rows that belong there now."""
        with self._evaluator.reading():
            self._evaluation.ask(first, self._evaluation.together, backlog=True)
            now = server_time(self._client, self._namespace)
            current = self._evaluation.current(now, horizon_for(self._one.view, now))
        with SentRows(None) as nowhere:
            encoder = Encoder(self._bounded, current, self._namespace, "", nowhere)
            for rows, _ in encoder.everything():
                for name, fields in rows.as_fields():
                    if EVENT.encode() in (row := in_force(fields, epoch_micros(now))):
                        yield name, row

    def _is_right(self, name: bytes, row: Row, count: bool = False) -> bool:
        there, close = self._online(name), Counter()
        for one in row.keys() | there.keys():
            if (here := row.get(one)) == (online := there.get(one)):
                continue
            if one not in self._floats or here is None or online is None or not _is_close(here, online):
                return False
            close[one.decode()] += 1
        if count:
            self._found.values += len(row)
            self._found.close += close
        return True

    def _online(self, name: bytes) -> Row:
        now = epoch_micros(server_time(self._client, self._namespace))
        try:
            row = in_force(node_of(self._client, name).hgetall(name), now)
        except (ValueError, redis.ResponseError):
            return {b"": b"it is no row"}
        row = {one: value for one, value in row.items() if one not in (WRITER.encode(), SEEN.encode())}
        return row if EVENT.encode() in row else {}

    def _sentence(self, name: bytes, row: Row) -> str:
        there = self._online(name)
        shown = [
            f"{one.decode()} is {_text(there.get(one))} and should be {_text(row.get(one))}"
            for one in sorted(row.keys() | there.keys())
            if row.get(one) != there.get(one)
        ]
        return f"{name.decode(errors='replace')}: {'; '.join(shown[:_SHOWN])}"


def _is_close(one: bytes, other: bytes) -> bool:
    try:
        first, second = float(one), float(other)
    except ValueError:
        return False
    return isfinite(first) and isfinite(second) and abs(first - second) <= TOLERANCE * max(abs(first), abs(second))


def _text(value: bytes | None) -> str:
    return "NULL" if value is None else value[:60].decode(errors="replace")
