"""What a run sends, as Redis commands, while it is read: the warehouse computes and Arrow encodes the next rows while
those before them go out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa

from materializer.materialize.bounded import Bounded
from materializer.materialize.current import DIGESTS, Current, sent_keys
from materializer.materialize.memory import SentRows
from materializer.online.rows import Rows, encode_rows, encode_steps
from materializer.online.served_log import epoch_micros
from materializer.project.definitions import FeatureView
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.typed import check_types

# Encoding takes a few times a batch's own size: wide rows go in smaller ones.
BATCH_BYTES = 32 * 1024 * 1024
Item = TypeVar("Item")
_END = object()


class Encoder:
    """Encodes the rows of a view for one run, `writer`; what is to be remembered of them goes to `sent`. `seen` and
    `over` are as of `encode_rows`."""

    def __init__(
        self, bounded: Bounded, current: Current, namespace: str, writer: str, sent: SentRows,
        seen: int | None = None, over: bool = False,
    ) -> None:  # fmt: skip
        self._bounded, self._current = bounded, current
        self._namespace, self._writer, self._sent = namespace, writer, sent
        self._version = {"seen": seen, "over": over}

    def everything(self) -> Iterator[tuple[Rows, pa.Table]]:
        """All entities: `rows`, then `steps` where rows are sent ahead."""
        yield from self.rows(None)
        if self._current.horizon:
            yield from self.steps(None)

    def rows(self, only: str | None) -> Iterator[tuple[Rows, pa.Table]]:
        """The entities that have one row, with their join keys; `only` those that this SQL names, None for all."""
        view, current = self._current.view, self._current
        for whole in self._bounded.stream(current.rows(only)):
            check_types(whole.schema, view)
            known = self._remember(whole)
            for start, piece in pieces(whole):
                rows = encode_rows(piece, view, self._namespace, self._writer, current.expiring, **self._version)
                yield rows, known.slice(start, len(rows))

    def steps(self, only: str | None) -> Iterator[tuple[Rows, pa.Table]]:
        """The same of those that move."""
        view, current = self._current.view, self._current
        for whole, firsts in _whole_entities(self._bounded.stream(current.steps(only))):
            check_types(whole.schema, view)
            known = self._remember(whole.take(firsts))
            moments = whole["_fs_from"].to_pylist()
            entities_a_piece = max(1, BATCH_BYTES * len(firsts) // max(whole.nbytes, 1))
            for begin in range(0, len(firsts), entities_a_piece):
                places = firsts[begin : begin + entities_a_piece]
                end = (firsts[begin + entities_a_piece :] or [whole.num_rows])[0]
                yield (
                    encode_steps(
                        whole.slice(places[0], end - places[0]), view, self._namespace, self._writer,
                        firsts=[place - places[0] for place in places], moments=moments[places[0] : end],
                        now=epoch_micros(current.now), expiring=current.expiring, **self._version,
                    ),
                    known.slice(begin, len(places)),
                )  # fmt: skip

    def _remember(self, rows: pa.RecordBatch | pa.Table) -> pa.Table:
        """The join keys of rows. A view may give other rows by now than when they were compared: what is sent is what
        is remembered."""
        known = remembered(rows, self._current.view)
        self._sent.add(known)
        return known.select(list(self._current.view.join_keys))


def remembered(rows: pa.RecordBatch | pa.Table, view: FeatureView) -> pa.Table:
    """What is to be remembered of rows that `Current.rows` or `Current.steps` gave: their join keys and digests."""
    columns = {**sent_keys(view), **{name: name for name in DIGESTS}}
    return pa.table({name: to_plain(rows.column(column)) for name, column in columns.items()})


def pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a batch, `BATCH_BYTES` at a time, each with where it starts."""
    rows = max(1, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield start, batch.slice(start, rows)


def _whole_entities(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.Table, list[int]]]:
    """Batches of steps cut anew, so that none ends within an entity; and where in each the entities begin."""
    rest: list[pa.RecordBatch] = []
    for batch in batches:
        first = next((place for place, leads in enumerate(batch.column("_fs_leads").to_pylist()) if leads), None)
        if rest and first is not None:
            yield _with_firsts([*rest, batch.slice(0, first)])
            rest, batch = [], batch.slice(first)
        rest.append(batch)
    if rest:
        yield _with_firsts(rest)


def _with_firsts(batches: list[pa.RecordBatch]) -> tuple[pa.Table, list[int]]:
    whole = pa.Table.from_batches(batches)
    return whole, [place for place, leads in enumerate(whole["_fs_leads"].to_pylist()) if leads]


def prefetched(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The same items in the same order; up to `most` of them are made, in a thread, before they are asked for. What
    `items` raises is raised after the items before it; closing this closes `items`."""
    pool = ThreadPoolExecutor(1, "prefetched")
    try:
        waiting = deque(pool.submit(next, items, _END) for _ in range(most))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
