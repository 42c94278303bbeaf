"""Writing from Spark's executors: rows go from there to Redis, and of a row only its key, its moments and its digests
come to the driver. What is sent is decided there, from these, as for every other warehouse.

The rows are kept on the executors while this lasts (a `Snapshot`), each with its number in its copy of a partition, so
that whatever Spark does twice (a task again, or two at once) sends the same bytes under the mark of the same run; of a
copy that the driver did not read nothing is sent. Each write carries the deadline of the driver's lease, as Redis says
it.

What a function brings to the executors stands in Spark's plans and logs, so it brings no URL of Redis, which may hold a
password: executors have it from their own environment.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import OnlineStoreError, WarehouseError
from materializer.materialize.current import DIGESTS, Digests
from materializer.materialize.encoded import pieces
from materializer.materialize.unstorable import Conditions
from materializer.online.connect import connect, plain_errors
from materializer.online.keys import marker_key
from materializer.online.lease import LeaseOfAnother
from materializer.online.rows import encode_rows
from materializer.online.topology import OnlineStore, node_of, on_every_master
from materializer.online.urls import named_url, public_name
from materializer.online.writer import Writer
from materializer.project.definitions import FeatureView
from materializer.warehouse import quoted
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.duckdb import open_in_memory
from materializer.warehouse.typed import check_types

if TYPE_CHECKING:
    from materializer.warehouse.spark import Snapshot, SparkWarehouse

BATCH_ROWS = 100_000
# A row's place: its number in one copy of a partition, which has a number of its own.
COPY, ROW = "_fs_copy", "_fs_row"
PLACE = {COPY: pa.int64(), ROW: pa.int64()}
# What executors answer: how many rows of a copy were sent (as ROW), and the places of those that were not, or that took
# the place of something that was no hash.
_ANSWER = "_fs_answer"
_SENT, _REFUSED, _MENDED = range(3)


def versions() -> dict[str, str]:
    """On which the bytes of rows and digests depend."""
    return {name: metadata.version(name) for name in ("dbt-feature-store", "duckdb", "pyarrow")}


def _check_versions(expected: Mapping[str, str]) -> None:
    for name, version in versions().items():
        if version != expected[name]:
            raise WarehouseError(
                f"Spark's executors have {name} {version}, and this machine {expected[name]}: install the same there."
            )


def _redis_url() -> str:
    """Of the executor that this is."""
    if url := named_url():
        return url
    raise OnlineStoreError(
        "Spark's executors have no FEATURE_STORE_REDIS_URL in their environment: set it there, where Spark's workers "
        "are started, to the Redis that this run writes to."
    )


# Before the plan: rows and their digests are calculated on the executors, and the driver takes the digests.


def take_snapshot(
    warehouse: SparkWarehouse, view: FeatureView, latest: str, digests: Digests, conditions: Conditions
) -> tuple[Snapshot, dict[str, pa.DataType], Conditions]:
    """Keep the rows that `latest` gives on the executors. Gives them, the columns that are calculated there (`DIGESTS`,
    places, one for each condition), and the conditions as they read these. Raises WarehouseError."""
    held = {f"_fs_held_{place}": sql for place, (sql, _) in enumerate(conditions.values())}
    added = dict.fromkeys(DIGESTS, pa.int64()) | dict.fromkeys(held, pa.bool_()) | PLACE
    calculate = dict(zip(DIGESTS, map(_signed, digests), strict=True)) | held
    snapshot = warehouse.snapshot(latest, partial(_digested, versions(), view, calculate), added)
    named = zip(held, conditions.items(), strict=True)
    unsigned = dict.fromkeys(DIGESTS, pa.uint64())
    return snapshot, added | unsigned, {name: (quoted(column), what) for column, (name, (_, what)) in named}


def brought(snapshot: Snapshot, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """These columns of the rows, with digests as DuckDB has them."""
    for batch in snapshot.stream(columns):
        yield pa.RecordBatch.from_arrays(
            [batch.column(name).view(pa.uint64()) if name in DIGESTS else batch.column(name) for name in columns],
            names=list(columns),
        )


def _signed(digest: str) -> str:
    """The same 64 bits as Spark has them, which has no unsigned numbers."""
    return f"cast(cast({digest} as bit) as bigint)"


def _digested(
    versions: Mapping[str, str], view: FeatureView, calculate: Mapping[str, str], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On an executor: the rows, with what is calculated of each, and its place."""
    _check_versions(versions)
    _redis_url()  # before anything is begun
    copy, done = random.SystemRandom().getrandbits(62), 0
    columns = ", ".join(f"{sql} as {quoted(name)}" for name, sql in calculate.items())
    with tempfile.TemporaryDirectory() as folder, open_in_memory(Path(folder)) as duckdb:
        for batch in batches:
            check_types(batch.schema, view)
            rows = pa.array(range(done, done + batch.num_rows), pa.int64())
            plain = {name: to_plain(batch.column(name)) for name in batch.schema.names}
            given = duckdb.spine("given_rows", pa.table(plain | {ROW: rows}))
            found = duckdb.query(f"select {columns} from {given} order by {ROW}").combine_chunks()
            arrays = [found.column(name).combine_chunks() for name in calculate]
            arrays += [pa.repeat(pa.scalar(copy, pa.int64()), batch.num_rows), rows]
            yield pa.RecordBatch.from_arrays([*batch.columns, *arrays], names=[*batch.schema.names, *calculate, *PLACE])
            done += batch.num_rows


def sizes(view: FeatureView) -> str:
    """SQL for how many rows each copy of a partition has, once they are in a DuckDB."""
    return f"select {COPY}, max({ROW}) + 1 as size from {view.relation} group by all"


# After the plan: the driver says which places are to be sent, and executors send them.


@dataclass(frozen=True)
class Sending:
    """What an executor needs to send rows; `chosen` has a bit for each row of a copy that has any to send."""

    versions: Mapping[str, str]
    namespace: str
    view: FeatureView
    run_id: str
    marker: str
    mark: str
    expiring: bool
    chosen: Mapping[int, bytes] = field(repr=False)


class Chosen:
    """The places of rows that are to be sent, one bit each."""

    def __init__(self, sizes: Mapping[int, int]) -> None:
        import numpy as np

        self._marks = {copy: np.zeros(size, bool) for copy, size in sizes.items()}
        self.counts = dict.fromkeys(sizes, 0)

    def add(self, places: pa.Table) -> None:
        """These too, each once."""
        copies = places.column(COPY)
        for copy in copies.unique().to_pylist():
            rows = places.column(ROW).filter(pc.equal(copies, copy))
            self._marks[copy][rows.to_numpy()] = True
            self.counts[copy] += len(rows)

    def bits(self) -> dict[int, bytes]:
        """By copy, those that have any."""
        import numpy as np

        return {
            copy: np.packbits(marks, bitorder="little").tobytes()
            for copy, marks in self._marks.items()
            if self.counts[copy]
        }


def send_chosen(
    snapshot: Snapshot, sending: Sending, chosen: Chosen, writer: Writer, keys_at: Callable[[pa.Table], pa.Table],
    progress: Callable[[int], None],
) -> None:  # fmt: skip
    """Have the executors send rows; `writer` counts them and has the keys of those refused or mended, which `keys_at`
    gives for places. Raises LeaseLostError, OnlineStoreError, WarehouseError where that stops."""
    sent = {copy: 0 for copy, count in chosen.counts.items() if count}
    expected = {copy: chosen.counts[copy] for copy in sent}
    for batch in snapshot.mapped(partial(_sent, sending), PLACE | {_ANSWER: pa.int32()}):
        answers = pa.table(batch)
        kinds = answers.column(_ANSWER)
        for row in answers.filter(pc.equal(kinds, _SENT)).to_pylist():
            sent[row[COPY]] = sent.get(row[COPY], 0) + row[ROW]
            progress(row[ROW])
        for kind, keys in ((_REFUSED, writer.refused), (_MENDED, writer.mended)):
            if (found := answers.filter(pc.equal(kinds, kind)).select(list(PLACE))).num_rows:
                keys.append(keys_at(found))
    if sent != expected:
        raise WarehouseError(
            f"Spark's executors sent {sum(sent.values()):,} of {sum(expected.values()):,} rows of "
            f"'{sending.view.reference}' and lost the others: run it again."
        )
    writer.written += sum(sent.values()) - sum(table.num_rows for table in writer.refused)


def _sent(sending: Sending, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: send the chosen rows of a partition, and answer for them once the servers have."""
    _check_versions(sending.versions)
    view, counts, url = sending.view, {}, _redis_url()
    store = _store_of_the_run(sending, url)
    with plain_errors(url):
        lease = LeaseOfAnother(store, sending.namespace, view.reference, sending.run_id)
        with Writer(store, lease) as writer:
            for batch in batches:
                for copy in batch.column(COPY).unique().to_pylist():
                    for _, piece in pieces(_chosen(batch, copy, sending.chosen.get(copy))):
                        rows = encode_rows(piece, view, sending.namespace, sending.mark, sending.expiring)
                        writer.send(rows, pa.table(piece.select(list(PLACE))))
                        counts[copy] = counts.get(copy, 0) + len(rows)
            writer.finish()
    sent = pa.table({COPY: list(counts), ROW: list(counts.values())}, pa.schema(PLACE))
    for kind, tables in ((_SENT, [sent]), (_REFUSED, writer.refused), (_MENDED, writer.mended)):
        for places in tables:
            answer = places.append_column(_ANSWER, pa.repeat(pa.scalar(kind, pa.int32()), places.num_rows))
            yield from answer.combine_chunks().to_batches()


def _store_of_the_run(sending: Sending, url: str) -> OnlineStore:
    """The Redis of this executor, which is that of the driver."""
    try:
        with plain_errors(url):
            store = connect(url)
            for key in on_every_master(store, marker_key(sending.namespace, sending.view.reference)):
                if node_of(store, key).get(key) != sending.marker.encode():
                    raise OnlineStoreError(
                        f"Redis at {public_name(url)} does not know this run: name the server that this run writes to."
                    )
    except OnlineStoreError as error:
        raise OnlineStoreError(f"By FEATURE_STORE_REDIS_URL of Spark's executors: {error}") from None
    return store


def _chosen(batch: pa.RecordBatch, copy: int, bits: bytes | None) -> pa.RecordBatch:
    """The rows of a copy that are to be sent."""
    if bits is None:
        return batch.slice(0, 0)
    marks = pa.BooleanArray.from_buffers(pa.bool_(), len(bits) * 8, [None, pa.py_buffer(bits)])
    of_copy = batch.filter(pc.equal(batch.column(COPY), copy))
    return of_copy.filter(marks.take(of_copy.column(ROW)))
