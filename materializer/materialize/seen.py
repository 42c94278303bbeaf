"""How a run stands to the streams of its view: what of the landed events its rows have seen, which entities are in
doubt since, and when greater numbers of before do not count any more (docs/streaming.md, "Who wins")."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from materializer.materialize import difference
from materializer.materialize.bounded import Bounded
from materializer.materialize.current import Current
from materializer.materialize.difference import Known
from materializer.online import scripts, stream_record
from materializer.online.keys import stream_key
from materializer.online.published import Published
from materializer.online.stream_record import StreamRecord, record_text
from materializer.online.topology import OnlineStore, node_of
from materializer.online.writer import Writer
from materializer.project.definitions import FeatureView
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.warehouse import AsDbt, Warehouse, quoted
from materializer.warehouse.arrow import to_plain

_BATCH_ROWS = 20_000
NO_HOOK = (
    "What builds have seen of the landed events is not written down, so a row that a stream wrote stays where a "
    'build\'s is newer: add `on-run-end: ["{{ feature_store.record_builds() }}"]` to dbt_project.yml, and build again.'
)


@dataclass(frozen=True)
class Seen:
    """The landing's number that a view's rows have seen at least, and the relations of its streamed sources by unique
    id. `recorded` is False where a build did not write down what it had seen, which counts as 0. `begun` is the number
    that the landing began with: smaller ones are of another."""

    number: int
    recorded: bool
    sources: Mapping[str, str]
    begun: int = 0


@dataclass(frozen=True)
class Standing:
    """What a run goes by: what its rows have seen (None where the view reads no stream), the streams' record as it was
    found, the definition's checksum, and why the run begins an epoch, '' where it does not."""

    seen: Seen | None
    record: StreamRecord | None
    definition: str
    epoch: str

    @property
    def number(self) -> int | None:
        return self.seen.number if self.seen else None

    @property
    def over(self) -> bool:
        """Whether every row is replaced, whatever its number."""
        return bool(self.epoch)


def seen_by(macros: MacroRenderer, warehouse: Warehouse, view: FeatureView) -> Seen | None:
    """What the view's rows have seen; None where it reads no stream, or its events do not land. To be asked before the
    rows are read, which may then have seen more, but not less."""
    streams = macros.ask("_streams_of", view.unique_id)
    if streams["landing"] is None:
        return None
    known: dict[str, int] = {}
    if streams["tables"]:
        built = macros.ask("_built_table")
        if warehouse.columns(Relation(built)):
            table = warehouse.query(f"select model, seq from {built}")
            known = dict(zip(table["model"].to_pylist(), table["seq"].to_pylist(), strict=True))
    numbers = [known.get(table, 0) for table in streams["tables"]]
    landed, begun = _landed(Relation(streams["landing"]), warehouse)
    if streams["direct"]:
        numbers.append(landed)
    sources = {unique_id: source["relation_name"] for unique_id, source in streams["sources"].items()}
    return Seen(min(numbers), known.keys() >= set(streams["tables"]), sources, begun)


def _landed(landing: Relation, warehouse: Warehouse) -> tuple[int, int]:
    """The number of the landing's last commit, and the one that it began with; 0 where it is not there, or older."""
    columns = {column.name for column in warehouse.columns(landing)}
    if not columns:
        return 0, 0
    begun = "max(begun)" if "begun" in columns else "0"
    row = warehouse.query(f"select max(seq) as seq, {begun} as begun from {landing}")
    return row["seq"][0].as_py() or 0, row["begun"][0].as_py() or 0


def standing(
    seen: Seen | None, record: StreamRecord | None, published: Published | None, definition: str
) -> Standing:  # fmt: skip
    """Whether a run begins an epoch: of two definitions none is the newer one by numbers; and of a landing that was
    begun anew nothing says which rows the one before it had brought."""
    epoch = ""
    if record and record.definition != definition:
        epoch = "the definition changed, of which streams write rows"
    elif record and not record.settled:
        epoch = "the run that was to bring the new definition did not end"
    elif seen and published and published.seen and published.seen < seen.begun <= seen.number:
        epoch = "the landing was begun anew"
    elif seen and published and published.seen is not None and seen.number < published.seen:
        epoch = "what is built has seen less of the landing than what the run before sent"
    return Standing(seen, record, definition, epoch)


def hold_streams(writer: Writer, store: OnlineStore, namespace: str, view: str, standing: Standing) -> None:
    """Let no stream write rows of the view any more, if there is one: wait until those that have asked may not."""
    if standing.record is None:
        return
    key = stream_key(namespace, view)
    writer.call(scripts.SET_VALUE, key, record_text(_record(standing, settled=False)))
    until = _milliseconds(store, key) + stream_record.HELD_MS
    while (left := until - _milliseconds(store, key)) > 0:
        time.sleep(left / 1000)


def release_streams(writer: Writer, namespace: str, view: str, standing: Standing) -> None:
    """Let streams of this definition write again."""
    if standing.record is not None:
        writer.call(scripts.SET_VALUE, stream_key(namespace, view), record_text(_record(standing, settled=True)))


def _record(standing: Standing, settled: bool) -> StreamRecord:
    same = standing.record if standing.record and standing.record.definition == standing.definition else None
    return replace(same or StreamRecord(standing.definition, settled), settled=settled)


def _milliseconds(store: OnlineStore, key: str) -> int:
    seconds, micros = node_of(store, key).time()
    return seconds * 1000 + micros // 1000


def with_doubt(
    known: Known, standing: Standing, since: int | None, warehouse: Warehouse, bounded: Bounded, current: Current,
    folder: Path,
) -> Known:  # fmt: skip
    """What is known, and in doubt those entities of which events have landed after the commit `since`: a stream may
    have written rows of them. Files of it go into `folder`.

    Raises:
        ValueError: where the streams' record does not say which they are in a form that can be asked.
        WarehouseError: where the warehouse does not answer it.
    """
    record, seen = standing.record, standing.seen
    if record is None or seen is None or not record.filters:  # no stream has written yet
        return known
    widths = {len(way) for ways in record.filters.values() for way in ways}
    known_keys = record.keys and set(record.keys) <= set(current.view.join_keys) and widths == {len(record.keys)}
    if not known_keys or record.filters.keys() != seen.sources.keys():
        raise ValueError("the streams' record is of other sources or join keys than the view's")
    found, touched = folder / "found.parquet", folder / "touched.parquet"
    if not _save(warehouse, _touched(record, seen, since or 0, warehouse.dialect), found):
        return known
    bounded.save(difference.touched_entities(current, known, found, record.keys), touched)
    return replace(known, touched=touched)


def _touched(record: StreamRecord, seen: Seen, since: int, dialect: str) -> str:
    names = [quoted(name, dialect) for name in record.keys]
    selects = []
    for unique_id, ways in record.filters.items():
        for way in ways:
            columns = [f"{_checked(sql, dialect)} as {name}" for sql, name in zip(way, names, strict=True)]
            selects.append(f"select {', '.join(columns)} from {seen.sources[unique_id]} where _seq > {since}")
    there = " and ".join(f"{name} is not null" for name in names)
    return f"select distinct {', '.join(names)} from ({' union all '.join(selects)}) as touched where {there}"


def _save(warehouse: Warehouse, sql: str, path: Path) -> bool:
    """Write the answer to a Parquet file; False, and no file, where there is none. What names entities is the
    project's own SQL."""
    writer = None
    with warehouse.as_dbt() if isinstance(warehouse, AsDbt) else nullcontext():
        for batch in warehouse.stream(sql, _BATCH_ROWS):
            table = pa.table({name: to_plain(batch.column(name)) for name in batch.schema.names})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    if writer is not None:
        writer.close()
    return writer is not None


def _checked(sql: str, dialect: str) -> str:
    """An expression over a row's columns. What is in Redis is somebody else's text: it is asked of the warehouse only
    where it reads no table, and calls no function that is not plain SQL."""
    import sqlglot
    from sqlglot import exp

    try:
        parsed = sqlglot.parse(sql, dialect=dialect)
    except sqlglot.errors.SqlglotError:
        parsed = []
    if len(parsed) != 1 or parsed[0] is None or parsed[0].find(exp.Query, exp.Table, exp.Anonymous, exp.Command):
        raise ValueError(f"the streams' record has {sql!r}, which is no expression over one row's columns")
    return parsed[0].sql(dialect=dialect)
