"""One run over one view, under its lease: plan, write ahead, write, remove what is gone, publish, remember."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from materializer.errors import OnlineStoreError, WarehouseError
from materializer.materialize import difference, executors, log, memory
from materializer.materialize.bounded import Bounded
from materializer.materialize.encoded import Encoder, prefetched, remembered
from materializer.materialize.engine import Engine, beside
from materializer.materialize.memory import Memory, SentRows, ViewMemory
from materializer.materialize.plan import SHRINK_FROM, Job, Plan, ViewResult, make_plan
from materializer.materialize.remote_memory import opened
from materializer.materialize.seen import hold_streams, release_streams
from materializer.materialize.trust import closed, keys_of, open_, read_marker
from materializer.online import scripts
from materializer.online.keys import keys_of_columns, stored_keys_of
from materializer.online.lease import Lease
from materializer.online.publish import publish_view
from materializer.online.rows import Rows
from materializer.online.writer import Writer, other_rows
from materializer.project.definitions import FeatureView
from materializer.warehouse import Warehouse, quoted
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.duckdb import DuckDBWarehouse

BATCHES_AHEAD = 2
ROWS_LOST = (
    "Redis lost what this run had written (was it flushed, or did another server take its place?): nothing was "
    "published; run it again."
)


class Run:
    """One run over one view."""

    def __init__(self, job: Job, view: FeatureView) -> None:
        self.run_id = new_run_id()
        self._job = job
        self._view = view
        self._watermarks: tuple[str | None, str | None] = (None, None)
        self._read: dict[str, Any] = {}
        self._engine: DuckDBWarehouse | None = None
        self._trouble: tuple[str, ...] = ()  # why this run may not be remembered

    def materialize(self) -> ViewResult:
        """Do it. Raises FeatureStoreError or redis.RedisError where it stops; what was written by then is whole rows of
        this run, and the next run knows which they may be."""
        if self._job.options.dry_run:
            with self._job.open_warehouse() as warehouse, beside(warehouse) as engine, self._memory() as folder:
                plan = self._plan(warehouse, engine, folder)
                plan.clean_up()
                return plan.result(plan.new + plan.changed, plan.new + plan.changed, plan.gone, self._trouble)
        # The lease comes first: what is read after it cannot be older than what the holder before it sent.
        with (
            Lease(self._job.client, self._job.namespace, self._view.reference, self.run_id) as lease,
            self._job.open_warehouse() as warehouse,
            beside(warehouse) as engine,
            self._memory() as folder,
        ):
            plan = self._plan(warehouse, engine, folder)
            try:
                return self._carry_out(plan, lease)
            except WarehouseError:
                lease.check()  # with the lease its files may be gone: the run that has it now clears up
                raise
            finally:
                plan.clean_up()

    def log(self, result: ViewResult) -> None:
        """Add what was done to the materialization log beside the warehouse."""
        if self._job.state_folder is None or self._engine is None:
            return
        before, after = self._watermarks
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = {"at": at, **asdict(result), "watermark_before": before, "watermark_after": after, **self._read}
        with suppress(OSError):
            log.append_log(self._job.state_folder, self._job.namespace, entry)

    @contextmanager
    def _memory(self) -> Iterator[ViewMemory | None]:
        """What is remembered of the view; None where it cannot be had, which stops no run."""
        with ExitStack() as stack:
            folder = None
            if self._job.state_folder is not None:
                with self._remembering():
                    folder = stack.enter_context(
                        opened(self._job.state_folder, self._job.namespace, self._view.reference)
                    )
            yield folder

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """What is not remembered costs the next run, no more; it is said."""
        try:
            yield
        except (OSError, WarehouseError) as error:
            why = str(getattr(error, "strerror", None) or error).rstrip(".")
            self._trouble = (
                f"This run over '{self._view.reference}' cannot be remembered in {self._job.state_folder}: {why}; "
                "until that is mended, every run sends all rows.",
            )

    def _plan(self, warehouse: Warehouse, engine: Engine, folder: ViewMemory | None) -> Plan:
        self._engine = engine.duckdb
        self._bounded = Bounded(engine.duckdb, self._job.options.memory_limit)
        self._began = time.monotonic()
        plan = make_plan(self._job, self._view, self.run_id, warehouse, engine, self._bounded, folder)
        self._watermarks = plan.watermarks
        # What explains, later on, why a value was served.
        self._read = {
            "read_at": _text(plan.read_at),
            "published_at": None,
            "newest_load": plan.newest_load and _text(plan.newest_load),
            "sent_until": plan.sent_until and _text(plan.sent_until),
            "ttl_seconds": plan.view.ttl and int(plan.view.ttl.total_seconds()),
            "definition": self._job.checksum(plan.view) if self._job.checksum else None,
        }
        return plan

    def _carry_out(self, plan: Plan, lease: Lease) -> ViewResult:
        deleted = 0
        self._kept: list[pa.Table] = []
        sent = SentRows(plan.folder.path(f"written-{self.run_id}.parquet") if plan.folder else None)
        with Writer(self._job.client, lease) as writer, sent:
            if not plan.idle:
                self._start(plan, writer)
                # Nobody but the run under this lease writes such rows: where there is none now, none is left later.
                leftovers = plan.why_full and any(self._other_rows(""))
                self._write(plan, lease, writer, sent)
                if leftovers:
                    deleted = self._remove_others(plan, writer, sent.rows)
                elif (plan.gone or plan.unsure) and not plan.why_full:
                    deleted = self._remove(plan, writer)
                self._check_marks(plan)
            self._publish(plan, writer, plan.unchanged + sent.rows)
            self._read["published_at"] = _text(plan.read_at + timedelta(seconds=time.monotonic() - self._began))
            if not plan.idle:
                self._finish(plan, writer, sent)
        said = (*_mended(plan.view, writer.mended), *self._trouble)
        refused = sum(table.num_rows for table in writer.refused)
        return plan.result(sent.rows, writer.written, deleted, said, kept=refused + len(writer.kept))

    def _start(self, plan: Plan, writer: Writer) -> None:
        """Write ahead: the changes are stored, then memory names this run, then the marker in Redis does."""
        if plan.folder:
            begun = memory.started(
                plan.remembered, self.run_id, plan.fingerprint, plan.pending.name, keys_of(plan.view)
            )  # fmt: skip
            with self._remembering():
                plan.folder.save(begun)
        if plan.streams.epoch:
            hold_streams(writer, self._job.client, self._job.namespace, plan.view.reference, plan.streams)
        for key in plan.markers:
            writer.call(scripts.SET_VALUE, key, open_(self.run_id))

    def _write(self, plan: Plan, lease: Lease, writer: Writer, sent: SentRows) -> None:
        total, done = plan.new + plan.changed, 0
        if not total:
            return
        # A full run removes what it does not send: it takes all that there is by now, whatever was compared.
        only = None if plan.why_full else difference.keys_to_send(plan.pending)
        if plan.snapshot:
            lease.let_run_out()
            try:
                self._write_from_executors(plan, writer, sent, only)
            except OnlineStoreError:
                lease.check()  # where another run has it, executors find that one's mark
                raise
            return
        encoder = Encoder(
            self._bounded, plan.current, self._job.namespace, self._mark, sent, plan.streams.number, plan.streams.over
        )

        def encoded() -> Iterator[tuple[Rows, pa.Table]]:
            if plan.why_full or total > plan.moving:
                yield from encoder.rows(only)
            if plan.moving or (plan.why_full and plan.current.horizon):
                yield from encoder.steps(only)

        with closing(prefetched(encoded(), BATCHES_AHEAD)) as batches:
            for rows, keys_sent in batches:
                writer.send(rows, keys_sent)
                done += len(rows)
                if self._job.progress:
                    self._job.progress(plan.view.reference, done, total)
        writer.finish()

    @property
    def _mark(self) -> str:
        return scripts.RUN + self.run_id

    def _write_from_executors(self, plan: Plan, writer: Writer, sent: SentRows, only: str | None) -> None:
        """As `_write`; of the rows there are only keys, moments, digests and places in the DuckDB here."""
        view, total, engine = plan.view, plan.new + plan.changed, self._engine
        sizes = engine.query(executors.sizes(view)).to_pylist()
        chosen = executors.Chosen({row[executors.COPY]: row["size"] for row in sizes})
        for batch in self._bounded.stream(plan.current.rows(only)):
            sent.add(remembered(batch, view))
            chosen.add(pa.table(batch.select(list(executors.PLACE))))
        sending = executors.Sending(
            executors.versions(), self._job.namespace, view, self.run_id, open_(self.run_id),
            self._mark, plan.current.expiring, chosen.bits(),
        )  # fmt: skip
        done = 0

        def progress(rows: int) -> None:
            nonlocal done
            done += rows
            if self._job.progress:
                self._job.progress(view.reference, done, total)

        def keys_at(places: pa.Table) -> pa.Table:
            name = f"_fs_places_{uuid.uuid4().hex}"
            engine.spine(name, places)
            return engine.query(difference.keys_at(view, name, list(executors.PLACE)))

        executors.send_chosen(plan.snapshot, sending, chosen, writer, keys_at, progress)

    def _remove(self, plan: Plan, writer: Writer) -> int:
        deleted = 0
        for batch in self._bounded.stream(difference.keys_gone(plan.view, plan.pending)):
            columns = {name: to_plain(batch.column(name)) for name in batch.schema.names}
            keys = keys_of_columns(self._job.namespace, plan.view, columns).to_pylist()
            if plan.streams.number is None:
                deleted += writer.delete(keys)
                continue
            before = len(writer.kept)
            deleted += writer.remove(keys, plan.streams.number, self._mark, plan.streams.over)
            kept = set(writer.kept[before:])
            self._kept.append(pa.table(columns).filter(pa.array([key in kept for key in keys], pa.bool_())))
        return deleted

    def _remove_others(self, plan: Plan, writer: Writer, sent: int) -> int:
        """After a full run: every row that an earlier run or a stream left and this one did not write."""
        number, over = plan.streams.number, plan.streams.over
        emptied = plan.new > 0 and sent == 0  # since the rows were compared
        if (plan.published_rows > SHRINK_FROM or emptied) and not self._job.options.allow_shrink:
            stale = sum(len(keys) for keys, _ in self._other_rows(self._mark, None if over else number))
            if not stale:
                return 0
            if emptied or stale > plan.published_rows / 2:
                raise OnlineStoreError(
                    f"All rows of '{plan.view.reference}' were sent, but {stale:,} entities that are online are not "
                    "among them, more than half: they stay; pass --allow-shrink if they are meant to go."
                )
        if number is None:
            return sum(writer.delete(keys, writers) for keys, writers in self._other_rows(self._mark))
        removed = sum(writer.remove(keys, number, self._mark, over) for keys, _ in self._other_rows(self._mark))
        if writer.kept:
            self._kept.append(stored_keys_of(self._job.namespace, plan.view, writer.kept))
        return removed

    def _other_rows(self, mark: str, most: int | None = None) -> Iterator[tuple[list[bytes], list[bytes]]]:
        return other_rows(self._job.client, self._job.namespace, self._view.reference, mark, most)

    def _publish(self, plan: Plan, writer: Writer, rows: int) -> None:
        latest = self._job.registry.views.get(plan.view.name, plan.view).version
        publish_view(
            writer, self._job.namespace, plan.view, latest, rows=rows, watermark=self._watermarks[1],
            as_of=self._job.options.as_of, known=None if plan.why_full else plan.published, read_from=plan.read_from,
            seen=plan.streams.number, checksum=plan.streams.definition,
        )  # fmt: skip
        if plan.streams.epoch:
            release_streams(writer, self._job.namespace, plan.view.reference, plan.streams)

    def _finish(self, plan: Plan, writer: Writer, sent: SentRows) -> None:
        """Close the marker, the last write there is; then fold the changes into memory."""
        for key in plan.markers:
            if not writer.call(scripts.REPLACE_VALUE, key, open_(self.run_id), closed(self.run_id)):
                raise OnlineStoreError(ROWS_LOST)
        if not plan.folder:
            return
        if plan.policy:
            plan.folder.forget()  # what Redis may have dropped by the next run is not known to be there
            return
        refused = self._relation(writer.refused)
        # What a stream's newer row kept out is sent again by the next run, or removed.
        doubted = [one for one in (refused, self._relation(self._kept)) if one and plan.streams.seen]
        keys = ", ".join(map(quoted, plan.view.join_keys))
        doubt = f"({' union '.join(f'select {keys} from {one}' for one in doubted)})" if doubted else None
        remembered = plan.folder.path(f"sent-{self.run_id}.parquet")
        rows = plan.unchanged + sent.rows - sum(table.num_rows for table in writer.refused)
        with self._remembering():
            self._engine.save(
                difference.folded(plan.view, plan.known, plan.pending, sent.close(), refused, doubt), remembered
            )
            plan.folder.save(
                Memory(
                    self.run_id, None, True, plan.fingerprint, remembered.name, (), rows, keys_of(plan.view),
                    plan.streams.number,
                )
            )  # fmt: skip

    def _relation(self, tables: list[pa.Table]) -> str | None:
        """Join keys as a relation of the engine; None where there are none."""
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return None
        name = f"_fs_keys_{uuid.uuid4().hex}"
        self._engine.spine(name, pa.concat_tables(tables, promote_options="permissive"))
        return name

    def _check_marks(self, plan: Plan) -> None:
        """Stop where the marker that this run set is gone: rows that it wrote are gone with it."""
        expected = open_(self.run_id).encode()
        if any(read_marker(self._job.client, key) != expected for key in plan.markers):
            raise OnlineStoreError(ROWS_LOST)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def new_run_id() -> str:
    """Unique, and telling at a glance who runs: ``<host>-<pid>-<random>``."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _mended(view: FeatureView, keys: list[pa.Table]) -> tuple[str, ...]:
    """What to say of keys in Redis that held something else than a hash, and now hold the row that belongs there."""
    if not keys:
        return ()
    rows = [row for table in keys for row in table.slice(0, 3).to_pylist()]
    named = "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in rows[:3])
    count = sum(table.num_rows for table in keys)
    return (
        f"{count:,} keys of '{view.reference}' in Redis were not hashes, so no rows, and were replaced by the rows: "
        f"{named}{' and others' if count > 3 else ''}.",
    )
