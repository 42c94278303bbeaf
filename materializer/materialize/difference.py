"""Which rows to send: the view's latest rows compared with what is remembered as sent, by the warehouse's own engine.

The comparison is exact, row by row over a 128-bit digest, not by a watermark: late rows, corrections, rows taken back
and rows falling due follow by themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from materializer.online.rows import keep_for
from materializer.project.definitions import Entity, FeatureView
from materializer.warehouse import quoted
from materializer.warehouse.arrow import is_list
from materializer.warehouse.join_keys import UUID

# Changes when the online format does: every row is sent again then.
_FORMAT = "2"
DIGESTS = ("_fs_digest", "_fs_digest_2")
# SQL for the two of a row.
Digests = tuple[str, str]


@dataclass(frozen=True)
class Known:
    """What is remembered: the file of rows sent, files of rows in doubt, and whether digests still mean the same."""

    sent: Path | None = None
    doubted: tuple[Path, ...] = ()
    comparable: bool = True


def fingerprint(view: FeatureView, expiring: bool) -> str:
    """Of all that a row's bytes depend on beside its values; the digest function is DuckDB's, so its version counts."""
    import duckdb

    parts = [_FORMAT, duckdb.__version__, str(view.ttl), str(expiring), view.timestamp, str(view.created_timestamp)]
    parts += [f"{part.name} {part.dtype}" for part in view.schema]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def without(rows: str, condition: str) -> str:
    """The rows for which a condition is false."""
    return f"select * from ({rows}) as all_rows\nwhere not ({condition})"


def _keys(view: FeatureView) -> str:
    return ", ".join(map(quoted, view.join_keys))


def _equal_keys(view: FeatureView, one: str, other: str) -> str:
    return " and ".join(f"{one}.{key} = {other}.{key}" for key in map(quoted, view.join_keys))


def current_rows(view: FeatureView, latest: str, now: datetime, expiring: bool = True) -> str:
    """The rows that belong online: those of `latest` (SQL) that Redis would not drop at once."""
    kept = _kept(view, now, expiring)
    return f"select * from ({latest}) as latest" + (f"\nwhere {kept}" if kept else "")


def _kept(view: FeatureView, now: datetime, expiring: bool) -> str | None:
    """The condition on a row of `latest` that it is young enough to be kept; None where all are."""
    if not view.ttl or not expiring:
        return None
    seconds = int(keep_for(view.ttl).total_seconds())
    return f"{micros(view.timestamp)} + {seconds * 1_000_000} > epoch_us({_moment(now)})"


def changes(
    view: FeatureView, latest: str, digests: Digests, known: Known, now: datetime, expiring: bool = True
) -> str:
    """The list of changes: join keys, digests, event time, and `op`: new, changed or gone. A row in doubt is in it.

    A row that is too old to be kept has an event time but no digests: it is `gone` where it is known, else `aged`.
    """
    both = ", ".join(f"coalesce(now.{key}, known.{key}) as {key}" for key in map(quoted, view.join_keys))
    kept = _kept(view, now, expiring)
    first, second = (f"case when {kept} then {digest} end" if kept else digest for digest in digests)
    return f"""
with now as (
    select {_stored_keys(view)}, {micros(view.timestamp)} as _fs_event, {first} as _fs_digest, {second} as _fs_digest_2
    from ({latest}) as latest
),
known as (
{_known_rows(view, known)}
)
select {both}, now._fs_event, now._fs_digest, now._fs_digest_2,
    case
        when known._fs_known is not null and now._fs_digest is null then 'gone'
        when known._fs_known is not null then 'changed'
        when now._fs_digest is null then 'aged'
        else 'new'
    end as _fs_op
from now
full join known on {_equal_keys(view, "now", "known")}
where known._fs_known is null or now._fs_digest is null
    or now._fs_digest is distinct from known._fs_digest or now._fs_digest_2 is distinct from known._fs_digest_2
"""


def rows_to_send(view: FeatureView, rows: str, digests: Digests, pending: Path | None) -> str:
    """The whole rows to write, each with what is to be remembered of it: `sent_keys` and `DIGESTS` of these values.

    `pending` None where that is all of them.
    """
    first, second = digests
    whole = f"current_rows.* exclude ({', '.join(DIGESTS)})" if digests == DIGESTS else "current_rows.*"
    texts = "".join(
        f"{_stored(entity, 'current_rows.')} as {quoted(column)}, "
        for entity, column in zip(view.entities, sent_keys(view).values(), strict=True)
        if column != entity.name
    )
    sending = f"select {whole}, {texts}{first} as {DIGESTS[0]}, {second} as {DIGESTS[1]}\nfrom ({rows}) as current_rows"
    if pending is None:
        return sending
    on = " and ".join(f"pending.{quoted(e.name)} = {_stored(e, 'current_rows.')}" for e in view.entities)
    return f"{sending}\nsemi join (select * from {_listed(pending)} where _fs_op <> 'gone') as pending on {on}"


def sent_keys(view: FeatureView) -> dict[str, str]:
    """For each join key the column of `rows_to_send` that has it as it is remembered."""
    return {
        entity.name: f"_fs_key_{place}" if pa.types.is_decimal(entity.dtype) else entity.name
        for place, entity in enumerate(view.entities)
    }


def keys_at(view: FeatureView, places: str, columns: Sequence[str]) -> str:
    """The join keys, as they are remembered, of the rows of a view at the places in a relation."""
    on = " and ".join(f"given.{quoted(name)} = places.{quoted(name)}" for name in columns)
    return f"select {_stored_keys(view)} from {view.relation} as given semi join {places} as places on {on}"


def keys_gone(view: FeatureView, pending: Path) -> str:
    """The join keys of rows that are no more."""
    return f"select {_keys(view)} from {file_sql(pending)} where _fs_op = 'gone'"


def folded(view: FeatureView, known: Known, pending: Path, sent: Path | None, refused: str | None) -> str:
    """What is known once the rows in the file `sent` were written (None where none were).

    Rows in the relation `refused` were not, so they are not known. A row that was to be sent and was not there any more
    when it was read is online as it was before: known, but not with which values.
    """
    keys = _keys(view)

    def without(others: str) -> str:
        return f"anti join {others} as other on {_equal_keys(view, 'old', 'other')}"

    written = f"select {keys}, _fs_digest, _fs_digest_2 from {file_sql(sent)} as old" if sent else None
    if written and refused:
        written = f"{written} {without(refused)}"
    parts = [written] if written else []
    if known.sent is not None:
        nothing = "cast(null as ubigint)"
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
    """One row: how many are new, changed and gone, how many were too old to be kept and how many of these are gone for
    that alone, and the newest event among those to send (microseconds)."""

    def number(op: str) -> str:
        return f"count(*) filter (where _fs_op = '{op}') as {op}"

    return (
        f"select {number('new')}, {number('changed')}, {number('gone')},\n"
        "    count(*) filter (where _fs_op in ('gone', 'aged') and _fs_event is not null) as aged,\n"
        "    count(*) filter (where _fs_op = 'gone' and _fs_event is not null) as gone_aged,\n"
        f"    max(_fs_event) filter (where _fs_op in ('new', 'changed')) as newest\nfrom {file_sql(pending)}"
    )


def known_count(view: FeatureView, known: Known) -> str:
    """How many rows are known, those in doubt included."""
    return f"select count(*) as n from (\n{_known_rows(view, known)}\n)"


def _known_rows(view: FeatureView, known: Known) -> str:
    keys, nothing = _keys(view), "cast(null as ubigint)"
    if known.sent is None:
        return (
            f"    select {_stored_keys(view)}, {nothing} as _fs_digest, {nothing} as _fs_digest_2, true as _fs_known "
            f"from {view.relation} where false"
        )
    digests = "_fs_digest, _fs_digest_2" if known.comparable else f"{nothing} as _fs_digest, {nothing} as _fs_digest_2"
    parts = [f"    select {keys}, {digests}, true as _fs_known from {file_sql(known.sent)}"]
    if known.doubted:
        doubted = " union ".join(f"select {keys} from {_listed(path)}" for path in known.doubted)
        parts[0] += f" as old anti join ({doubted}) as doubt on {_equal_keys(view, 'old', 'doubt')}"
        parts.append(
            f"    select {keys}, {nothing} as _fs_digest, {nothing} as _fs_digest_2, true as _fs_known from ({doubted})"
        )
    return "\n    union all\n".join(parts)


def _stored_keys(view: FeatureView) -> str:
    return ", ".join(f"{_stored(entity)} as {quoted(entity.name)}" for entity in view.entities)


def _stored(entity: Entity, prefix: str = "") -> str:
    """A join key as it is remembered. Parquet has no integers of 128 bits and would round them, so they count as text,
    as decimals do; and what Arrow hands over as text (an enum, a UUID) is text here too."""
    column = prefix + quoted(entity.name)
    text = pa.types.is_decimal(entity.dtype) or pa.types.is_string(entity.dtype) or entity.dtype == UUID
    return f"cast({column} as varchar)" if text else column


def digests_of(view: FeatureView) -> Digests:
    """Two 64-bit hashes of a row, over its columns in two orders.

    DuckDB hashes 0.0 and -0.0 alike, so signs count (but not of NaN, which is one); NULL and an empty list, so lengths
    do; and some integers of 128 bits (0 and 2**64 + 1), so what may be stored as one (a wide decimal, a UUID, which
    arrives as text) counts as text.
    """
    terms = [micros(view.timestamp)]
    if view.created_timestamp:
        terms.append(micros(view.created_timestamp))
    for feature in view.features:
        name = quoted(feature.name)
        terms.append(name)
        if pa.types.is_floating(feature.dtype):
            terms.append(_sign(name))
        elif is_list(feature.dtype) and pa.types.is_floating(feature.dtype.value_type):
            # Most lists hold no zero, and the sign of each element costs more than everything else here.
            signs = f"list_transform({name}, lambda item: {_sign('item')})"
            terms.append(f"case when list_contains({name}, 0.0) then {signs} end")
            terms.append(f"len({name})")
        elif pa.types.is_nested(feature.dtype) or pa.types.is_decimal(feature.dtype) or pa.types.is_string(
            feature.dtype
        ):  # fmt: skip
            text = f"cast({name} as varchar)"
            terms.append(f"replace({text}, '-nan', 'nan')" if pa.types.is_nested(feature.dtype) else text)
    return f"hash({', '.join(terms)})", f"hash({', '.join(['1', *reversed(terms)])})"


def _sign(number: str) -> str:
    return f"(signbit({number}) and not isnan({number}))"


def micros(column: str) -> str:
    return f"epoch_us(cast({quoted(column)} as timestamptz))"


def _moment(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"


def _listed(pending: Path) -> str:
    """The rows of a list of changes that are or were online."""
    return f"(select * from {file_sql(pending)} where _fs_op <> 'aged')"


def file_sql(path: Path) -> str:
    """A file of the store's own, read as the one file that it is: no letter of its path is a pattern, no folder of it a
    column, and its columns are what it says they are."""
    literal = re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''")
    return f"read_parquet('{literal}', hive_partitioning = false, union_by_name = false, filename = false)"
