"""One run over one view: lease, compare with memory, write ahead, write, remove what is gone, publish, remember."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import redis

from materializer.errors import DefinitionError, OnlineStoreError, WarehouseError
from materializer.materialize import difference, memory
from materializer.materialize.ahead import ahead
from materializer.materialize.difference import Known
from materializer.materialize.memory import Memory, SentRows, ViewMemory
from materializer.materialize.plan import Plan, check_types, keys_of, mended
from materializer.materialize.unstorable import find_unstorable
from materializer.online import scripts
from materializer.online.keys import keys_of_columns, marker_key
from materializer.online.lease import Lease
from materializer.online.publish import publish_view
from materializer.online.published import published_view
from materializer.online.rows import Rows, encode_rows
from materializer.online.topology import OnlineStore, is_wrong_type, masters, node_of, on_every_master, server_time
from materializer.online.values import check_key_type, codec
from materializer.online.writer import Writer, other_rows
from materializer.project.definitions import FeatureView
from materializer.project.render import MacroRenderer
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.typed import with_columns

BATCH_ROWS = 10_000
LARGE_BATCH_ROWS = 32
MEMORY_BYTES = 600 * 1024 * 1024
OUT_OF_MEMORY = re.compile(r"out of memory|failed to (pin|allocate)|could not allocate", re.IGNORECASE)
# Encoding takes a few times a batch's own size: wide rows go in smaller ones.
BATCH_BYTES = 32 * 1024 * 1024
BATCHES_AHEAD = 2
# Removing more than half of a view of more entities than this is taken for a mistake upstream.
SHRINK_FROM = 1_000
Result = TypeVar("Result")
ROWS_LOST = (
    "Redis lost what this run had written (was it flushed, or did another server take its place?): nothing was "
    "published; run it again."
)


@dataclass(frozen=True)
class Options:
    """How to run; see `materializer.FeatureStore.materialize`."""

    full: bool = False
    allow_shrink: bool = False
    allow_retype: bool = False
    dry_run: bool = False
    as_of: datetime | None = None
    memory_limit: int | None = None


@dataclass(frozen=True)
class ViewResult:
    """What one run did to one view; `error` is a sentence where it failed, or where rows have values that cannot be
    stated online: the others landed then, and are counted.

    `rows_skipped` are those that are online already, that a newer push keeps out, that have a NULL join key, or that
    are so far past their view's ttl that they are not kept.
    `why` says why rows moved (or, in a dry run, would move); `warnings` are sentences.
    """

    view: str
    run_id: str
    rows_read: int = 0
    rows_written: int = 0
    rows_skipped: int = 0
    rows_deleted: int = 0
    seconds: float = 0.0
    error: str | None = None
    why: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def landed(self) -> bool:
        """Whether the run came to its end, be it without some rows."""
        return self.error is None or self.rows_read > 0


class Run:
    """One run over one view."""

    def __init__(
        self,
        client: OnlineStore,
        namespace: str,
        open_warehouse: Callable[[], AbstractContextManager[Warehouse]],
        macros: MacroRenderer,
        latest_version: int | str | None,
        options: Options,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.run_id = new_run_id()
        self._client = client
        self._namespace = namespace
        self._open_warehouse = open_warehouse
        self._state_folder: Path | None = None
        self._macros = macros
        self._latest_version = latest_version
        self._options = options
        self._progress = progress
        self._watermarks: tuple[str | None, str | None] = (None, None)

    def materialize(self, view: FeatureView) -> ViewResult:
        """Do it. Raises FeatureStoreError, redis.RedisError where it stops; what was written by then is whole rows of
        this run, and the next run knows which they may be."""
        if self._options.dry_run:
            with self._warehouse_open():
                return self._planned(self._plan(view))
        # The lease comes first: what is read after it cannot be older than what the holder before it sent.
        with Lease(self._client, self._namespace, view.reference, self.run_id) as lease, self._warehouse_open():
            plan = self._plan(view)
            try:
                return self._carry_out(plan, lease)
            except WarehouseError:
                lease.check()  # with the lease its files may be gone: the run that has it now clears up
                raise
            finally:
                plan.clean_up()

    @contextmanager
    def _warehouse_open(self) -> Iterator[None]:
        with self._open_warehouse() as self._warehouse:
            self._state_folder = self._warehouse.state_folder
            # Fixed memory, whatever the tables' size: what does not fit spills to disk.
            with suppress(WarehouseError):  # less than is in use: another view's run had to take more
                self._limit_memory(self._options.memory_limit or MEMORY_BYTES)
            yield

    def _limit_memory(self, size: int) -> None:
        self._memory = size
        self._warehouse.execute(f"set memory_limit = '{size // 1024}KiB'")

    def _fitting(self, work: Callable[[], Result]) -> Result:
        """What `work` gives; where single rows are too large for the memory there is, it takes more and tries again.
        Raises WarehouseError where it does not fit into the memory that was given, or into most of the machine's."""
        while True:
            try:
                return work()
            except WarehouseError as error:
                if not OUT_OF_MEMORY.search(str(error)):
                    raise
                most = self._options.memory_limit or machine_memory() * 3 // 4
                if self._memory >= most:
                    raise WarehouseError(
                        f"The rows do not fit into {self._memory // 1024**2:,} MiB of memory "
                        f"({str(error).rstrip('.')}): give it more with --memory-limit, or keep such values elsewhere."
                    ) from None
                self._limit_memory(min(2 * self._memory, most))

    def log(self, result: ViewResult) -> None:
        """Add what was done to the materialization log beside the warehouse."""
        if self._state_folder is None:
            return
        before, after = self._watermarks
        entry = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **asdict(result), "watermark_before": before, "watermark_after": after,
        }  # fmt: skip
        with suppress(OSError):
            memory.append_log(self._state_folder, self._namespace, entry)

    # Before anything is written.

    def _plan(self, view: FeatureView) -> Plan:
        view = with_columns(view, self._warehouse)
        check_storable(view)
        published = published_view(self._client, self._namespace, view.reference)
        self._check_types(view, published.view if published else None)
        now = server_time(self._client, self._namespace)
        moment = self._options.as_of or now
        latest = self._macros.over(self._warehouse.columns).render(
            "latest", view.reference, as_of=moment.replace(tzinfo=None).isoformat(" ", "microseconds")
        )
        expiring = self._options.as_of is None
        rows = difference.current_rows(view, latest, now, expiring)
        unstorable = find_unstorable(self._warehouse, view, rows)
        if unstorable.rows:
            latest = difference.without(latest, unstorable.condition)
            rows = difference.current_rows(view, latest, now, expiring)
        folder = self._memory_folder(view)
        remembered = folder.load() if folder else None
        markers = on_every_master(self._client, marker_key(self._namespace, view.reference))
        policy = self._eviction(view)
        why_full = self._why_full(view, remembered, markers, policy)
        fingerprint = difference.fingerprint(view, expiring)
        known = Known()
        if not why_full and remembered and folder:
            known = Known(
                folder.path(remembered.sent) if remembered.sent else None,
                tuple(folder.path(name) for name in remembered.pending),
                comparable=remembered.fingerprint == fingerprint,
            )
        pending = self._pending_file(folder)
        try:
            self._save(difference.changes(view, latest, known, now, expiring), pending)
        except WarehouseError:
            if known.sent is None:
                raise
            # Perhaps what is remembered cannot be read; where it is the view itself, it fails again.
            why_full, known = "what is remembered of an earlier run cannot be read", Known()
            self._save(difference.changes(view, latest, known, now, expiring), pending)
        (count,) = self._warehouse.query(difference.counts(pending)).to_pylist()
        (null_keys,) = self._warehouse.query(difference.null_keys(view)).to_pylist()
        (before,) = self._warehouse.query(difference.known_count(view, known)).to_pylist()
        plan = Plan(
            view, rows, pending, folder, remembered if not why_full else None, known, fingerprint,
            why_full, count["new"], count["changed"], count["gone"],
            before["n"] - count["changed"] - count["gone"],
            null_keys["n"], count["aged"], count["gone_aged"], policy, published, tuple(markers),
            f"{view.relation} of {self._warehouse.place}", unstorable,
        )  # fmt: skip
        watermark = published.watermark if published else None
        newest = _iso(count["newest"])
        self._watermarks = (watermark, newest if why_full else max(filter(None, (watermark, newest)), default=None))
        self._check_shrink(plan)
        return plan

    def _save(self, sql: str, path: Path) -> None:
        self._fitting(lambda: self._warehouse.save(sql, path))

    def _check_types(self, view: FeatureView, published: FeatureView | None) -> None:
        before = {part.name: part.dtype for part in published.schema} if published else {}
        for part in view.schema:
            if part.name in before and not before[part.name].equals(part.dtype):
                if self._options.full and self._options.allow_retype:
                    continue
                raise DefinitionError(
                    f"'{view.reference}:{part.name}' is online as {before[part.name]} and is now {part.dtype}, which "
                    "breaks its readers: make a new version of the model, or pass --full --allow-retype."
                )

    def _why_full(
        self, view: FeatureView, remembered: Memory | None, markers: list[str], policy: str | None
    ) -> str:  # fmt: skip
        """Why memory does not count for this run, '' where it does."""
        if self._options.full:
            return "--full was given"
        if self._options.as_of:
            return "--as-of was given"
        if policy:
            return f"Redis may drop rows unseen (maxmemory-policy {policy})"
        if remembered is None:
            return "nothing is remembered of an earlier run"
        if remembered.sent is None:
            return "the run before this one was a full one and did not end"
        found = [self._marker(key) for key in markers]
        expected = [closed(remembered.run)] if remembered.finished else [
            open_(remembered.run), closed(remembered.run), closed(remembered.previous),
        ]  # fmt: skip
        if any(marker is None or marker not in [value.encode() for value in expected] for marker in found):
            return "Redis does not hold what the last run remembered here left there"
        if remembered.keys != keys_of(view):
            return "the join keys changed"
        return ""

    def _eviction(self, view: FeatureView) -> str | None:
        """The eviction policy of a server, where it can take rows of this view."""
        for node in masters(self._client):
            try:
                policy = node.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
                limited = int(node.config_get("maxmemory").get("maxmemory", 0)) > 0
            except redis.ResponseError:
                continue  # it may not be read; `feature-store doctor` says so
            if limited and (policy.startswith("allkeys") or (policy.startswith("volatile") and view.ttl is not None)):
                return policy
        return None

    def _check_shrink(self, plan: Plan) -> None:
        before = plan.known_rows or plan.published_rows
        removed = plan.gone if plan.remembered else max(before - plan.new, 0)
        emptied = before > 0 and plan.new + plan.changed + plan.unchanged == 0
        if not self._options.allow_shrink and (emptied or (before > SHRINK_FROM and removed > before / 2)):
            # An entity that is gone only because its rows grew too old to keep is no mistake of anyone's.
            removed -= plan.gone_aged if plan.remembered else plan.aged
            if removed <= (0 if emptied else before / 2):
                return
            plan.clean_up()
            raise OnlineStoreError(
                f"This run would remove {removed:,} of the {before:,} entities of '{plan.view.reference}', which looks "
                "like a mistake upstream: nothing was changed; pass --allow-shrink if it is meant."
            )

    # Writing.

    def _carry_out(self, plan: Plan, lease: Lease) -> ViewResult:
        deleted = 0
        sent = SentRows(plan.folder.path(f"written-{self.run_id}.parquet") if plan.folder else None)
        with Writer(self._client, lease) as writer, sent:
            if not plan.idle:
                self._start(plan, writer)
                # Nobody but the run under this lease writes such rows: where there is none now, none is left later.
                leftovers = plan.why_full and any(other_rows(self._client, self._namespace, plan.view.reference, ""))
                self._write(plan, writer, sent)
                deleted = self._remove(plan, writer, sent) if leftovers or not plan.why_full else 0
                self._check_marks(plan)
            self._publish(plan, writer, plan.unchanged + sent.rows)
            if not plan.idle:
                self._finish(plan, writer, sent)
        return self._result(plan, sent.rows, writer.written, deleted, mended(plan.view, writer.mended))

    def _planned(self, plan: Plan) -> ViewResult:
        plan.clean_up()
        moved = plan.new + plan.changed
        return self._result(plan, moved, moved, plan.gone)

    def _result(
        self, plan: Plan, sent: int, written: int, deleted: int, warnings: tuple[str, ...] = ()
    ) -> ViewResult:  # fmt: skip
        read = sent + plan.unchanged + plan.null_keys + plan.aged + plan.unstorable.rows
        return ViewResult(
            plan.view.reference, self.run_id, read, written, read - written, deleted,
            error=plan.unstorable.sentence or None, why=plan.why(), warnings=plan.warnings + warnings,
        )  # fmt: skip

    def _start(self, plan: Plan, writer: Writer) -> None:
        """Write ahead: the changes are stored, then memory names this run, then the marker in Redis does."""
        if plan.folder:
            with suppress(OSError):
                plan.folder.save(
                    memory.started(
                        plan.remembered, self.run_id, plan.fingerprint, plan.pending.name, keys_of(plan.view)
                    )
                )
        self._mark(plan, writer, open_(self.run_id))

    def _write(self, plan: Plan, writer: Writer, sent: SentRows) -> None:
        view, total = plan.view, plan.new + plan.changed
        sql = difference.rows_to_send(view, plan.rows, None if plan.why_full else plan.pending)
        remembered = {**difference.sent_keys(view), **{name: name for name in difference.DIGESTS}}
        done = 0

        def encoded() -> Iterator[tuple[Rows, pa.Table]]:
            mark, expiring = scripts.RUN + self.run_id, self._options.as_of is None
            for whole in self._stream(sql) if total else ():
                check_types(whole.schema, view)
                # A view may give other rows by now than when they were compared: what is sent is what is remembered.
                known = pa.table({name: to_plain(whole.column(column)) for name, column in remembered.items()})
                sent.add(known)
                for start, batch in pieces(whole):
                    rows = encode_rows(batch, view, self._namespace, mark, expiring)
                    yield rows, known.slice(start, len(rows)).select(list(view.join_keys))

        # The warehouse computes and Arrow encodes the next rows while these go out.
        with closing(ahead(encoded(), BATCHES_AHEAD)) as batches:
            for rows, keys in batches:
                writer.send(rows, keys)
                done += len(rows)
                if self._progress:
                    self._progress(view.reference, done, total)
        writer.finish()

    def _stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The answer of a query; few rows at a time where they turned out to be large."""

        def begun() -> Iterator[pa.RecordBatch]:
            large = self._memory > (self._options.memory_limit or MEMORY_BYTES)
            batches = self._warehouse.stream(sql, LARGE_BATCH_ROWS if large else BATCH_ROWS)
            first = next(batches, None)
            return chain(() if first is None else (first,), batches)

        yield from self._fitting(begun)

    def _remove(self, plan: Plan, writer: Writer, sent: SentRows) -> int:
        view = plan.view
        if plan.why_full:
            return self._remove_others(plan, writer, sent.rows)
        deleted = 0
        if plan.gone:
            for batch in self._warehouse.stream(difference.keys_gone(view, plan.pending), BATCH_ROWS):
                columns = {name: to_plain(batch.column(name)) for name in batch.schema.names}
                keys = keys_of_columns(self._namespace, view, columns).to_pylist()
                deleted += writer.delete(keys)
        return deleted

    def _remove_others(self, plan: Plan, writer: Writer, sent: int) -> int:
        """After a full run: every row that an earlier run left and this one did not write."""
        mark = scripts.RUN + self.run_id
        name = plan.view.reference
        emptied = plan.new > 0 and sent == 0  # since the rows were compared
        if (plan.published_rows > SHRINK_FROM or emptied) and not self._options.allow_shrink:
            stale = sum(len(keys) for keys, _ in other_rows(self._client, self._namespace, name, mark))
            if not stale:
                return 0
            if emptied or stale > plan.published_rows / 2:
                raise OnlineStoreError(
                    f"All rows of '{name}' were sent, but {stale:,} entities that are online are not among them, more "
                    "than half: they stay; pass --allow-shrink if they are meant to go."
                )
        return sum(
            writer.delete(keys, writers) for keys, writers in other_rows(self._client, self._namespace, name, mark)
        )

    def _publish(self, plan: Plan, writer: Writer, rows: int) -> None:
        publish_view(
            writer, self._namespace, plan.view, self._latest_version, rows=rows, watermark=self._watermarks[1],
            as_of=self._options.as_of, known=None if plan.why_full else plan.published, read_from=plan.read_from,
        )  # fmt: skip

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
        relation = None
        if writer.refused:
            relation = f"_fs_refused_{uuid.uuid4().hex}"
            self._warehouse.register(relation, pa.concat_tables(writer.refused))
        remembered = plan.folder.path(f"sent-{self.run_id}.parquet")
        try:
            self._warehouse.save(
                difference.folded(plan.view, plan.known, plan.pending, sent.close(), relation), remembered
            )
            rows = plan.unchanged + sent.rows - sum(table.num_rows for table in writer.refused)
            plan.folder.save(
                Memory(self.run_id, None, True, plan.fingerprint, remembered.name, (), rows, keys_of(plan.view))
            )
        except (OSError, WarehouseError):
            return  # what is not remembered costs the next run, no more

    def _check_marks(self, plan: Plan) -> None:
        """Stop where the marker that this run set is gone: rows that it wrote are gone with it."""
        expected = open_(self.run_id).encode()
        if any(self._marker(key) != expected for key in plan.markers):
            raise OnlineStoreError(ROWS_LOST)

    def _marker(self, key: str) -> bytes | None:
        """What a marker says; one that is no text was not set by a run, and says nothing."""
        try:
            return node_of(self._client, key).get(key)
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            return None

    def _mark(self, plan: Plan, writer: Writer, value: str) -> None:
        for key in plan.markers:
            writer.call(scripts.SET_VALUE, key, value)

    def _memory_folder(self, view: FeatureView) -> ViewMemory | None:
        try:
            return memory.view_memory(self._warehouse.state_folder, self._namespace, view.reference)
        except OSError:
            return None

    def _pending_file(self, folder: ViewMemory | None) -> Path:
        name = f"pending-{self.run_id}.parquet"
        if folder:
            return folder.path(name)
        return Path(tempfile.gettempdir()) / f"feature-store-{name}"


def pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A batch in parts of about `BATCH_BYTES` at most, each with the place of its first row."""
    rows = max(1, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield start, batch.slice(start, rows)


def machine_memory() -> int:
    """How many bytes of memory this process may have at most: the machine's, or its container's."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not Linux, or "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)


def new_run_id() -> str:
    """Unique, and telling at a glance who runs: ``<host>-<pid>-<random>``."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def open_(run: str) -> str:
    """The marker of a run that began to write."""
    return f"{run} open"


def closed(run: str | None) -> str:
    """The marker of a run that wrote everything."""
    return f"{run} closed"


def check_storable(view: FeatureView) -> None:
    """Stop for a view whose types cannot be kept online, before anything is written. Raises DefinitionError naming the
    column and its type."""
    for entity in view.entities:
        check_key_type(entity.dtype, f"Join key '{entity.name}' of feature view '{view.reference}'")
    for feature in view.features:
        codec(feature.dtype, f"Feature '{view.reference}:{feature.name}'")


def _iso(micros: int | None) -> str | None:
    if micros is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)).isoformat()
