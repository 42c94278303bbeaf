"""Which rows to send: the view's latest rows compared with what is remembered as sent, by the warehouse's own engine.

The comparison is exact, row by row over a 128-bit digest, not by a watermark: late rows, corrections, rows taken back
and rows falling due follow by themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from materializer.materialize.current import Current, stored, stored_keys
from materializer.project.definitions import FeatureView
from materializer.warehouse import quoted

# Changes when the online format does: every row is sent again then.
_FORMAT = "2"


@dataclass(frozen=True)
class Known:
    """What is remembered: the file of rows sent, files of rows in doubt, and whether digests still mean the same. A
    stream may have written rows since of the entities in the file `touched`, whether or not there were any before."""

    sent: Path | None = None
    doubted: tuple[Path, ...] = ()
    comparable: bool = True
    touched: Path | None = None


def fingerprint(view: FeatureView, expiring: bool) -> str:
    """Of all that a row's bytes depend on beside its values; the digest function is DuckDB's, so its version counts."""
    import duckdb

    parts = [_FORMAT, duckdb.__version__, str(view.ttl), str(expiring), view.timestamp, str(view.created_timestamp)]
    parts += [f"{part.name} {part.dtype}" for part in view.schema]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _keys(view: FeatureView) -> str:
    return ", ".join(map(quoted, view.join_keys))


def _equal_keys(view: FeatureView, one: str, other: str) -> str:
    return " and ".join(f"{one}.{key} = {other}.{key}" for key in map(quoted, view.join_keys))


def changes(current: Current, known: Known) -> str:
    """The list of changes: join keys, digests, event time, whether the entity moves, and `op`: new, changed or gone. A
    row in doubt is in it; `unsure` where there is none and perhaps never was, but a stream may have written one.

    A row that is too old to be kept has an event time but no digests: it is `gone` where it is known, else `aged`.
    """
    view = current.view
    both = ", ".join(f"coalesce(now.{key}, known.{key}) as {key}" for key in map(quoted, view.join_keys))
    return f"""
with now as (
{current.entities}
),
known as (
{_known_rows(view, known)}
)
select {both}, now._fs_event, now._fs_digest, now._fs_digest_2, now._fs_moving,
    case
        when known._fs_known and now._fs_digest is null then 'gone'
        when known._fs_known then 'changed'
        when known._fs_known is not null and now._fs_digest is null then 'unsure'
        when now._fs_digest is null then 'aged'
        else 'new'
    end as _fs_op
from now
full join known on {_equal_keys(view, "now", "known")}
where known._fs_known is null or now._fs_digest is null
    or now._fs_digest is distinct from known._fs_digest or now._fs_digest_2 is distinct from known._fs_digest_2
"""


def keys_to_send(pending: Path) -> str:
    """The join keys of the entities that are new or changed."""
    return f"select * from {_listed(pending)} where _fs_op not in ('gone', 'unsure')"


def keys_at(view: FeatureView, places: str, columns: Sequence[str]) -> str:
    """The join keys, as they are remembered, of the rows of a view at the places in a relation."""
    on = " and ".join(f"given.{quoted(name)} = places.{quoted(name)}" for name in columns)
    return f"select {stored_keys(view)} from {view.relation} as given semi join {places} as places on {on}"


def keys_gone(view: FeatureView, pending: Path) -> str:
    """The join keys of rows that are no more."""
    return f"select {_keys(view)} from {file_sql(pending)} where _fs_op in ('gone', 'unsure')"


def folded(
    view: FeatureView, known: Known, pending: Path, sent: Path | None, refused: str | None, doubted: str | None = None
) -> str:
    """What is known once the rows in the file `sent` were written (None where none were).

    Rows in the relation `refused` were not, so they are not known. A row that was to be sent and was not there any more
    when it was read is online as it was before: known, but not with which values. So are those in the relation
    `doubted`, of which a stream keeps newer ones.
    """
    keys = _keys(view)

    def without(others: str) -> str:
        return f"anti join {others} as other on {_equal_keys(view, 'old', 'other')}"

    written = f"select {keys}, _fs_digest, _fs_digest_2 from {file_sql(sent)} as old" if sent else None
    if written and refused:
        written = f"{written} {without(refused)}"
    parts = [written] if written else []
    nothing = "cast(null as ubigint)"
    if doubted:
        parts.append(f"select {keys}, {nothing} as _fs_digest, {nothing} as _fs_digest_2 from {doubted}")
    if known.sent is not None:
        parts.append(
            f"select {keys}, _fs_digest, _fs_digest_2 from {file_sql(known.sent)} as old\n"
            f"{without(f'(select {keys} from {_listed(pending)})')}"
        )
        parts.append(
            f"select {keys}, {nothing} as _fs_digest, {nothing} as _fs_digest_2 from {file_sql(pending)} as old\n"
            f"{without(f'(select {keys} from {file_sql(sent)})') if sent else ''}\nwhere old._fs_op = 'changed'"
        )
    nobody = f"select {keys}, _fs_digest, _fs_digest_2 from ({_known_rows(view, Known())}) as old"
    return "\nunion all\n".join(parts or [nobody])


def counts(pending: Path) -> str:
    """One row: how many are new, changed, gone and unsure, how many were too old to be kept and how many of these are
    gone for that alone, and of those to send how many move and the newest event (microseconds)."""

    def number(op: str) -> str:
        return f"count(*) filter (where _fs_op = '{op}') as {op}"

    return (
        f"select {number('new')}, {number('changed')}, {number('gone')}, {number('unsure')},\n"
        "    count(*) filter (where _fs_op in ('gone', 'unsure', 'aged') and _fs_event is not null) as aged,\n"
        "    count(*) filter (where _fs_op = 'gone' and _fs_event is not null) as gone_aged,\n"
        "    count(*) filter (where _fs_op in ('new', 'changed') and _fs_moving) as moving,\n"
        f"    max(_fs_event) filter (where _fs_op in ('new', 'changed')) as newest\nfrom {file_sql(pending)}"
    )


def known_count(view: FeatureView, known: Known) -> str:
    """How many rows are known, those in doubt included."""
    return f"select count(*) as n from (\n{_known_rows(view, known)}\n) where _fs_known"


def touched_entities(current: Current, known: Known, found: Path, names: Sequence[str]) -> str:
    """The join keys of the entities of which the file `found` has these; where they are not all of them, of those that
    there are or were."""
    view = current.view
    touched = ", ".join(
        f"{stored(entity)} as {quoted(entity.name)}" for entity in view.entities if entity.name in names
    )
    keys, on = _keys(view), " and ".join(f"one.{quoted(name)} = touched.{quoted(name)}" for name in names)
    rows = f"select {touched} from {file_sql(found)}"
    if len(names) < len(view.entities):
        rows = (
            f"select {keys} from (select {keys} from ({current.entities}) union select {keys} from "
            f"({_known_rows(view, known)})) as one semi join ({rows}) as touched on {on}"
        )
    return f"select {stored_keys(view)} from {view.relation} where false union select {keys} from ({rows})"


def _known_rows(view: FeatureView, known: Known) -> str:
    keys, nothing = _keys(view), "cast(null as ubigint)"
    if known.sent is None:
        return (
            f"    select {stored_keys(view)}, {nothing} as _fs_digest, {nothing} as _fs_digest_2, true as _fs_known "
            f"from {view.relation} where false"
        )
    digests = "_fs_digest, _fs_digest_2" if known.comparable else f"{nothing} as _fs_digest, {nothing} as _fs_digest_2"
    sent = f"    select {keys}, {digests}, true as _fs_known from {file_sql(known.sent)} as old"
    parts = []
    doubted = " union ".join(f"select {keys} from {_listed(path)}" for path in known.doubted)
    if doubted:
        parts.append(f"    select {keys}, {nothing}, {nothing}, true from ({doubted})")
        sent += f" anti join ({doubted}) as doubt on {_equal_keys(view, 'old', 'doubt')}"
    if known.touched:
        touched = (
            f"    select old.*, {nothing}, {nothing}, there._fs_there is not null from {file_sql(known.touched)} as old"
        )
        if doubted:
            touched += f" anti join ({doubted}) as doubt on {_equal_keys(view, 'old', 'doubt')}"
        touched += (
            f" left join (select {keys}, true as _fs_there from {file_sql(known.sent)}) as there "
            f"on {_equal_keys(view, 'old', 'there')}"
        )
        parts.append(touched)
        sent += f" anti join {file_sql(known.touched)} as touched on {_equal_keys(view, 'old', 'touched')}"
    return "\n    union all\n".join([sent, *parts])


def _listed(pending: Path) -> str:
    """The rows of a list of changes that are or were online."""
    return f"(select * from {file_sql(pending)} where _fs_op <> 'aged')"


def file_sql(path: Path) -> str:
    """A file of the store's own, read as the one file that it is: no letter of its path is a pattern, no folder of it a
    column, and its columns are what it says they are."""
    literal = re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''")
    return f"read_parquet('{literal}', hive_partitioning = false, union_by_name = false, filename = false)"
