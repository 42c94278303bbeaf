"""Which rows to send: the view's latest rows compared with what is remembered as sent, by the warehouse's own engine.

The comparison is exact, row by row over a 128-bit digest, not by a watermark: late rows, corrections, rows taken back
and rows falling due follow by themselves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from materializer.feature_view import FeatureView
from materializer.online.rows import keep_for
from materializer.types import is_list

# Changes when the online format does: every row is sent again then.
_FORMAT = "2"


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


def current_rows(view: FeatureView, latest: str, now: datetime, expiring: bool = True) -> str:
    """The rows that belong online: those of `latest` (SQL) that Redis would not drop at once."""
    if not view.ttl or not expiring:
        return f"select * from ({latest}) as latest"
    seconds = int(keep_for(view.ttl).total_seconds())
    return (
        f"select * from ({latest}) as latest\n"
        f"where {_micros(view.timestamp)} + {seconds * 1_000_000} > epoch_us({_moment(now)})"
    )


def changes(view: FeatureView, rows: str, known: Known) -> str:
    """The list of changes: join keys, digests, event time, and `op`: new, changed or gone. A row in doubt is in it."""
    keys = [_quoted(name) for name in view.join_keys]
    listed = ", ".join(keys)
    on = " and ".join(f"now.{key} = known.{key}" for key in keys)
    both = ", ".join(f"coalesce(now.{key}, known.{key}) as {key}" for key in keys)
    first, second = _digests(view)
    return f"""
with now as (
    select {listed}, {_micros(view.timestamp)} as _fs_event, {first} as _fs_digest, {second} as _fs_digest_2
    from ({rows}) as current_rows
),
known as (
{_known_rows(view, known)}
)
select {both}, now._fs_event, now._fs_digest, now._fs_digest_2,
    case when known._fs_known is null then 'new' when now._fs_digest is null then 'gone' else 'changed' end as _fs_op
from now
full join known on {on}
where known._fs_known is null or now._fs_digest is null
    or now._fs_digest is distinct from known._fs_digest or now._fs_digest_2 is distinct from known._fs_digest_2
"""


def rows_to_send(view: FeatureView, rows: str, pending: Path | None) -> str:
    """The whole rows to write; `pending` None where that is all of them."""
    if pending is None:
        return rows
    keys = [_quoted(name) for name in view.join_keys]
    on = " and ".join(f"pending.{key} = current_rows.{key}" for key in keys)
    return (
        f"select current_rows.* from ({rows}) as current_rows\n"
        f"semi join (select * from {_file(pending)} where _fs_op <> 'gone') as pending on {on}"
    )


def keys_gone(view: FeatureView, pending: Path) -> str:
    """The join keys of rows that are no more."""
    return f"select {', '.join(_quoted(n) for n in view.join_keys)} from {_file(pending)} where _fs_op = 'gone'"


def folded(view: FeatureView, known: Known, pending: Path, refused: str | None) -> str:
    """What is known once `pending` was written; rows in the relation `refused` were not, so they are not known."""
    keys = ", ".join(_quoted(name) for name in view.join_keys)
    on = " and ".join(f"old.{_quoted(name)} = other.{_quoted(name)}" for name in view.join_keys)
    without = f"anti join {refused} as other on {on}" if refused else ""
    written = (
        f"select {keys}, _fs_digest, _fs_digest_2 from {_file(pending)} as old {without} where old._fs_op <> 'gone'"
    )
    if known.sent is None:
        return written
    return (
        f"select {keys}, _fs_digest, _fs_digest_2 from {_file(known.sent)} as old\n"
        f"anti join (select {keys} from {_file(pending)}) as other on {on}\n"
        f"union all\n{written}"
    )


def aged_out(view: FeatureView, latest: str, current: str, pending: Path | None) -> str:
    """How many entities are gone only because their rows grew too old to keep, which is no mistake of anyone's.

    Of those that `pending` says are gone; without it of all that the view has.
    """
    if pending is None:
        return f"select (select count(*) from ({latest}) as latest) - (select count(*) from ({current}) as kept) as n"
    on = " and ".join(f"gone.{_quoted(name)} = latest.{_quoted(name)}" for name in view.join_keys)
    return f"select count(*) as n from ({latest}) as latest semi join ({keys_gone(view, pending)}) as gone on {on}"


def counts(pending: Path) -> str:
    """One row: how many are new, changed and gone, and the newest event among them (microseconds)."""
    return (
        "select count(*) filter (where _fs_op = 'new') as new, count(*) filter (where _fs_op = 'changed') as changed, "
        f"count(*) filter (where _fs_op = 'gone') as gone, max(_fs_event) as newest from {_file(pending)}"
    )


def known_count(view: FeatureView, known: Known) -> str:
    """How many rows are known, those in doubt included."""
    return f"select count(*) as n from (\n{_known_rows(view, known)}\n)"


def null_keys(view: FeatureView) -> str:
    """How many rows of the view have a NULL join key, and can never be read."""
    missing = " or ".join(f"{_quoted(name)} is null" for name in view.join_keys)
    return f"select count(*) as n from {view.relation} where {missing}"


def _known_rows(view: FeatureView, known: Known) -> str:
    keys = ", ".join(_quoted(name) for name in view.join_keys)
    nothing = "cast(null as ubigint)"
    if known.sent is None:
        empty = ", ".join(f"{_quoted(name)}" for name in view.join_keys)
        return (
            f"    select {empty}, {nothing} as _fs_digest, {nothing} as _fs_digest_2, true as _fs_known "
            f"from {view.relation} where false"
        )
    digests = "_fs_digest, _fs_digest_2" if known.comparable else f"{nothing} as _fs_digest, {nothing} as _fs_digest_2"
    parts = [f"    select {keys}, {digests}, true as _fs_known from {_file(known.sent)}"]
    if known.doubted:
        doubted = " union ".join(f"select {keys} from {_file(path)}" for path in known.doubted)
        on = " and ".join(f"old.{_quoted(name)} = doubt.{_quoted(name)}" for name in view.join_keys)
        parts[0] += f" as old anti join ({doubted}) as doubt on {on}"
        parts.append(
            f"    select {keys}, {nothing} as _fs_digest, {nothing} as _fs_digest_2, true as _fs_known from ({doubted})"
        )
    return "\n    union all\n".join(parts)


def _digests(view: FeatureView) -> tuple[str, str]:
    """Two 64-bit hashes of a row, over its columns in two orders.

    DuckDB hashes 0.0 and -0.0 alike, so signs count (but not of NaN, which is one); NULL and an empty list, so lengths
    do; and some integers of 128 bits (0 and 2**64 + 1), so what may be stored as one (a wide decimal, a UUID, which
    arrives as text) counts as text.
    """
    terms = [_micros(view.timestamp)]
    if view.created_timestamp:
        terms.append(_micros(view.created_timestamp))
    for feature in view.features:
        name = _quoted(feature.name)
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


def _micros(column: str) -> str:
    return f"epoch_us(cast({_quoted(column)} as timestamptz))"


def _moment(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"


def _file(path: Path) -> str:
    return "read_parquet('" + str(path).replace("'", "''") + "')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
