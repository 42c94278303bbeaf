"""Keeps the rows that streamed views have online abreast of the landing.

Each step takes in what has landed, and computes anew the entities that it touches. A view is taken up once a run of
`materialize` has published it, by the same definition: then, and whenever something else than an event may have changed
its rows (a table beside the events, the hour to which rows were sent ahead, what Redis held), all entities are computed
that were touched since the build which that run sent. So nothing has to be remembered: neither a restart nor a loss
leaves anything behind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from materializer.errors import FeatureStoreError, LeaseLostError, OnlineStoreError, WarehouseError
from materializer.materialize.bounded import Bounded, machine_memory
from materializer.materialize.encoded import Encoder
from materializer.materialize.horizon import horizon_for
from materializer.materialize.memory import SentRows
from materializer.online import scripts
from materializer.online.keys import keys_of_columns
from materializer.online.publish import announce_due
from materializer.online.published import Published, published_view
from materializer.online.stream_record import StreamRecord, held, take
from materializer.online.topology import OnlineStore, identities, server_time
from materializer.online.writer import Writer, other_rows
from materializer.project.definitions import FeatureView
from materializer.stream.evaluate import Evaluation, Evaluator, Streamed, WarehouseAway
from materializer.stream.known import Known
from materializer.warehouse.arrow import to_plain

# So often views are asked after: whether they may be written, and what changed beside the events; in seconds.
_ASKED = 2.0


@dataclass
class Counts:
    """What was done since the start, by view: entities computed, rows that another's newer one kept out, and removed;
    why views wait that are not kept yet; how many ids of a source did not decide what they should; up to which commit
    all is online, and how long it took the last events to be, from their landing, in seconds."""

    computed: Counter[str] = field(default_factory=Counter)
    kept_out: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, str] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    seq: int = 0
    delay: float | None = None


@dataclass
class _Charge:
    """A view that is being kept.

    Attributes:
        evaluation: computes its rows.
        known: its entities online, where it streams by some of its join keys only; so they were after the last run.
        published: what that run said of the view.
        seq: what landed up to this commit is online, but for the backlog.
        since: the commit that the build had seen which the last run sent.
        until: up to when rows are sent ahead.
        backlog: how many entities wait to be computed though nothing of theirs has landed; `done` of them are.
        deadline: until when it may be written, in ms of the server's clock, as asked for at `asked`.
    """

    evaluation: Evaluation
    known: Known | None
    published: Published | None
    seq: int
    since: int
    until: datetime | None
    deadline: int
    asked: float
    backlog: int = 0
    done: int = 0


@dataclass(frozen=True)
class Deadline:
    """The right to write a view's rows until a moment; see `materializer.online.lease.Held`."""

    until: int

    def deadline(self) -> int:
        return self.until

    def check(self) -> None:
        """The server judges by the moment."""


class Online:
    """Keeps views online with each `step`.

    Args:
        say: takes sentences for whoever looks on.
    """

    def __init__(
        self, client: OnlineStore, namespace: str, name: str, evaluator: Evaluator, views: Sequence[Streamed],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client, self._namespace, self._mark = client, namespace, scripts.STREAM + name
        self._evaluator, self._views, self._say = evaluator, views, say
        # From which commit on entities were computed since what is no event changed, by view; and those from which on
        # it has to be done again, as that changed under it.
        self._computed_from: dict[str, int] = {}
        self._again_from: dict[str, int] = {}
        self._servers: list[str] = []
        self._charges: dict[str, _Charge] = {}
        self._asked = 0.0
        self._bounded = Bounded(evaluator.duckdb, machine_memory() // 2)
        self.counts = Counts()
        self.outdated = False

    def step(self) -> int:
        """Bring online what has landed, and give the number of the last commit that is. Raises redis.RedisError where
        Redis is away or does not take it: what was not written then is computed anew."""
        try:
            with self._evaluator.reading() as seq:
                landed = self._evaluator.landed_at
                if time.monotonic() - self._asked > _ASKED:
                    self._look_around(seq)
                    self._asked = time.monotonic()
                for work in (self._bring, self._catch_up):
                    for one in self._views:
                        if charge := self._charges.get(one.view.reference):
                            self._safely(work, one, charge, seq)
        except BaseException:
            self._charges.clear()
            self._asked = 0.0
            raise
        if landed is not None and self._asked:
            self.counts.delay = (server_time(self._client, self._namespace) - landed).total_seconds()
        self.counts.seq, self.counts.broken = seq, dict(self._evaluator.broken)
        return seq

    def look_on(self) -> None:
        """Keep nothing, and be ready to."""
        self._charges.clear()
        with self._evaluator.reading() as self.counts.seq:
            self._refresh()

    @property
    def views(self) -> list[str]:
        """The names of the views that there are to keep."""
        return [one.view.reference for one in self._views]

    @property
    def behind(self) -> bool:
        """Whether entities wait to be computed."""
        return any(one.done < one.backlog for one in self._charges.values())

    def _safely(self, work: Callable[..., None], one: Streamed, charge: _Charge, seq: int) -> None:
        """What stops one view stops no other."""
        try:
            work(one, charge, seq)
        except WarehouseAway:
            raise
        except (LeaseLostError, WarehouseError) as error:
            self._charges.pop(one.view.reference, None)
            self._wait(one, error)

    def _wait(self, one: Streamed, error: FeatureStoreError) -> None:
        if self.counts.waiting.get(one.view.reference) != str(error):
            self._say(f"'{one.view.reference}' is not kept online: {error}")
        self.counts.waiting[one.view.reference] = str(error)

    # Which views there are to keep.

    def _look_around(self, seq: int) -> None:
        now = server_time(self._client, self._namespace)
        servers = identities(self._client)
        if self._refresh() or servers != self._servers:  # another server may lack what was written last
            self._charges.clear()
        self._servers = servers
        for one in self._views:
            charge = self._charges.pop(one.view.reference, None)
            published = published_view(self._client, self._namespace, one.view.reference)
            if charge is None or not self._renew(one, charge) or _is_news(charge, published):
                self._take_up(one, published, seq, now)
                continue
            self._charges[one.view.reference] = charge
            announce_due(self._client, self._namespace, one.view.reference)
            charge.published = published
            if self._until(one, now) != charge.until:
                self._look_back(one, charge, now)

    def _take_up(self, one: Streamed, published: Published | None, seq: int, now: datetime) -> None:
        name = one.view.reference
        try:
            evaluation = self._to_keep(one, published)
            evaluation.current(now, horizon_for(one.view, now))  # of nobody yet: so the first batch finds it planned
        except WarehouseAway:
            raise
        except FeatureStoreError as error:
            return self._wait(one, error)
        charge = _Charge(evaluation, None, published, seq, 0, None, 0, 0.0)
        if not self._renew(one, charge):
            return None
        announce_due(self._client, self._namespace, name)
        charge.known = self._known(evaluation)
        self._look_back(one, charge, now)
        self._charges[name] = charge
        first = f"; {charge.backlog:,} entities are computed first" if charge.backlog else ""
        self._say(f"'{name}' is kept online by {' and '.join(one.keys)}{first}.")
        self.counts.waiting.pop(name, None)
        return None

    def _to_keep(self, one: Streamed, published: Published | None) -> Evaluation:
        """What computes the view. Raises FeatureStoreError saying why it cannot be kept now."""
        name = one.view.reference
        if published is None:
            raise OnlineStoreError("there is no row of it yet: run `materialize`.")
        if published.checksum != one.definition:
            self.outdated = True
            raise OnlineStoreError("it is defined otherwise than when it was materialized: run `materialize`.")
        evaluation = self._evaluator.evaluation(one)
        for part, before in zip(evaluation.view.schema, published.view.schema, strict=False):
            if (part.name, part.dtype) != (before.name, before.dtype):
                raise OnlineStoreError(
                    f"online it has {before.name} of {before.dtype}, and by its SQL {part.name} of {part.dtype}."
                )
        if not take(self._client, self._namespace, name, StreamRecord(one.definition, True, one.keys, one.filters)):
            raise OnlineStoreError("a run is sending a new definition of it.")
        return evaluation

    def _renew(self, one: Streamed, charge: _Charge) -> bool:
        """Whether the view may be written on."""
        deadline = held(self._client, self._namespace, one.view.reference, one.definition)
        charge.deadline, charge.asked = deadline or 0, time.monotonic()
        return deadline is not None

    def _look_back(self, one: Streamed, charge: _Charge, now: datetime) -> None:
        """Have all entities computed anew that the last run may not have right."""
        name = one.view.reference
        seen = (charge.published and charge.published.seen) or 0
        charge.since = min(seen, self._again_from.pop(name, seen))
        self._computed_from[name] = min(charge.since, self._computed_from.get(name, charge.since))
        charge.backlog, charge.done = charge.evaluation.backlog(charge.since), 0
        charge.until = self._until(one, now)

    def _refresh(self) -> bool:
        """Take what is no event as it is by now, and say whether it may have changed."""
        changed = self._evaluator.refresh()
        if changed:
            for name, seq in self._computed_from.items():
                self._again_from[name] = min(seq, self._again_from.get(name, seq))
            self._computed_from.clear()
        return changed

    # The rows.

    def _until(self, one: Streamed, now: datetime) -> datetime | None:
        horizon = horizon_for(one.view, now)
        return horizon and horizon.until

    def _bring(self, one: Streamed, charge: _Charge, seq: int) -> None:
        """What has landed since."""
        if seq > charge.seq:
            name = one.view.reference
            self._computed_from[name] = min(charge.seq, self._computed_from.get(name, charge.seq))
            total = charge.evaluation.touched(charge.seq)
            for first in range(0, total, charge.evaluation.together):
                charge.evaluation.ask(first, charge.evaluation.together)
                self._write(one, charge, seq)
            charge.seq = seq

    def _catch_up(self, one: Streamed, charge: _Charge, seq: int) -> None:
        """Some of the backlog, so that what lands meanwhile need not wait for all of it."""
        if charge.done < charge.backlog:
            charge.evaluation.ask(charge.done, charge.evaluation.together, backlog=True)
            self._write(one, charge, seq)
            charge.done += charge.evaluation.together

    def _write(self, one: Streamed, charge: _Charge, seq: int) -> None:
        """The rows of the entities that are asked for."""
        name = one.view.reference
        now = server_time(self._client, self._namespace)
        current = charge.evaluation.current(now, horizon_for(one.view, now))
        # Which may have taken longer than the view might be written for.
        if time.monotonic() - charge.asked > _ASKED and not self._renew(one, charge):
            raise LeaseLostError(f"'{one.view.reference}' is being materialized by a new definition.")
        sent = []
        with Writer(self._client, Deadline(charge.deadline)) as writer, SentRows(None) as nowhere:
            encoder = Encoder(self._bounded, current, self._namespace, self._mark, nowhere, seen=seq)
            for rows, keys in encoder.everything():
                writer.send(rows, keys)
                sent.append(keys)
            writer.finish()
            if gone := self._gone(charge, pa.concat_tables(sent) if sent else None):
                self.counts.removed[name] += writer.remove(gone, seq, self._mark)
        self.counts.computed[name] += sum(table.num_rows for table in sent)
        self.counts.kept_out[name] += sum(table.num_rows for table in writer.refused)

    def _gone(self, charge: _Charge, sent: pa.Table | None) -> list[bytes]:
        """The keys of the entities asked for that have no row."""
        view = charge.evaluation.view
        if charge.known is None:
            return self._names(view, charge.evaluation.missing(sent))
        asked = charge.evaluation.missing(None)
        apart = replace(view, entities=tuple(one for one in view.entities if one.name in asked.schema.names))
        return charge.known.replace(self._names(apart, asked), self._names(view, sent) if sent is not None else [])

    def _names(self, view: FeatureView, keys: pa.Table) -> list[bytes]:
        columns = {key: to_plain(keys.column(key)).combine_chunks() for key in view.join_keys}
        return keys_of_columns(self._namespace, view, columns).to_pylist()

    def _known(self, evaluation: Evaluation) -> Known | None:
        view, keys = evaluation.view, evaluation.streamed.keys
        if len(keys) == len(view.join_keys):
            return None
        known = Known(self._namespace, view, keys)
        for names, _ in other_rows(self._client, self._namespace, view.reference, ""):
            known.learn(names)
        return known


def _is_news(charge: _Charge, published: Published | None) -> bool:
    """Whether a run may have written entities that are not known, and of which nothing is there any more."""
    before = charge.published
    return charge.known is not None and (published and published.published_at) != (before and before.published_at)
