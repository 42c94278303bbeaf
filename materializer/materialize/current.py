"""The rows of a view that belong online, as SQL: each entity's latest and, where some fall due within the run's
horizon, those that follow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from materializer.materialize.horizon import Horizon
from materializer.online.rows import keep_for
from materializer.project.definitions import Entity, FeatureView
from materializer.warehouse import quoted
from materializer.warehouse.arrow import is_list
from materializer.warehouse.join_keys import UUID

DIGESTS = ("_fs_digest", "_fs_digest_2")
# SQL for the two of a row.
Digests = tuple[str, str]
# What the macro `_rows_ahead` adds to the columns: since when a row is in force, whether its entity has several.
VISIBLE, MOVING = "_fs_visible", "_fs_moving"


@dataclass(frozen=True)
class Current:
    """The rows of `view` that belong online at `now`. `sql` gives what the macro ``latest`` does or, with a `horizon`,
    what ``_rows_ahead`` does.

    An entity that has one row in the horizon stands for itself; one that has several is said to move. Those that Redis
    would drop at once do not belong there, unless rows are not `expiring`.
    """

    view: FeatureView
    sql: str
    now: datetime
    expiring: bool = True
    horizon: Horizon | None = None
    # Of each row of `sql`: `DIGESTS` where they are columns of it already; None for what `digests_of` calculates.
    digests: Digests | None = None

    def without(self, condition: str) -> Current:
        """The same without the rows for which a condition is true: while one of them is in force there is no row."""
        if self.horizon is None:
            return replace(self, sql=f"select * from ({self.sql}) as all_rows\nwhere not ({condition})")
        times = filter(None, (self.view.timestamp, self.view.created_timestamp))
        columns = [quoted(name) for name in (*times, *(feature.name for feature in self.view.features))]
        nothing = ", ".join(f"if({MOVING} and ({condition}), null, {column}) as {column}" for column in columns)
        return replace(
            self,
            sql=f"select * replace ({nothing}) from ({self.sql}) as all_rows\nwhere {MOVING} or not ({condition})",
        )

    @property
    def belonging(self) -> str:
        """All of these rows, as they are."""
        kept = self._kept(micros(self.view.timestamp))
        condition = f"{MOVING} or {kept}" if kept and self.horizon else kept or "true"
        return f"select * from ({self.sql}) as current_rows\nwhere {condition}"

    @property
    def entities(self) -> str:
        """One row an entity: its join keys as they are remembered, the event time of the row in force (microseconds),
        digests of all that belongs online of it (NULL where that is too old to be kept), whether it moves."""
        view, event = self.view, micros(self.view.timestamp)
        first, second = self._row_digests
        if self.horizon is None:
            return (
                f"select {stored_keys(view)}, {event} as _fs_event,\n"
                f"    {self._if_kept(event, first)} as _fs_digest, {self._if_kept(event, second)} as _fs_digest_2,\n"
                f"    false as {MOVING}\nfrom ({self.sql}) as latest"
            )
        keys = _keys(view)
        one, two = self._step_digests("_fs_digest", "_fs_digest_2")
        in_force = f"max(_fs_event) filter (where {VISIBLE} <= {_moment(self.now)})"
        return f"""with digested as (
    select {stored_keys(view)}, {event} as _fs_event, {first} as _fs_digest, {second} as _fs_digest_2,
        {quoted(view.timestamp)} is not null as _fs_there, {VISIBLE}, {MOVING}
    from ({self.sql}) as all_rows
),
moving as (
    select {keys}, {in_force} as _fs_event, max(_fs_event) as _fs_last,
        bit_xor({one}) as _fs_digest, bit_xor({two}) as _fs_digest_2
    from digested where {MOVING} group by {keys} having bool_or(_fs_there)
)
select {keys}, _fs_event, {self._if_kept("_fs_event", "_fs_digest")} as _fs_digest,
    {self._if_kept("_fs_event", "_fs_digest_2")} as _fs_digest_2, false as {MOVING}
from digested where not {MOVING}
union all
select {keys}, {f"if({kept}, _fs_event, _fs_last)" if (kept := self._kept("_fs_last")) else "_fs_event"},
    {self._if_kept("_fs_last", "_fs_digest")}, {self._if_kept("_fs_last", "_fs_digest_2")}, true
from moving"""

    def rows(self, only: str | None) -> str:
        """The whole rows of entities that do not move, each with what is to be remembered of it: `sent_keys` and
        `DIGESTS` of these values. `only` names entities, by join keys as they are remembered; None where it is all."""
        first, second = self._row_digests
        texts = "".join(f"{sql} as {column}, " for column, sql in self._texts().items())
        conditions = [*([f"not {MOVING}"] if self.horizon else []), *self._kept_where(micros(self.view.timestamp))]
        whole = f"current_rows.* exclude ({', '.join(DIGESTS)})" if self.digests == DIGESTS else "current_rows.*"
        return (
            f"select {whole}, {texts}{first} as {DIGESTS[0]}, {second} as {DIGESTS[1]}\n"
            f"from ({self.sql}) as current_rows{self._only(only)}"
            + (f"\nwhere {' and '.join(conditions)}" if conditions else "")
        )

    def steps(self, only: str | None) -> str:
        """The same of entities that move: for each the row in force, where there is one, and those that follow, in
        order. `_fs_from` is since when each is in force (microseconds), `_fs_leads` marks the first of an entity."""
        keys, event = _keys(self.view, "current_rows."), micros(self.view.timestamp)
        one, two = self._step_digests(*self._row_digests)
        texts = "".join(f"{sql} as {column}, " for column, sql in self._texts().items())
        now = _moment(self.now)
        return f"""select * exclude (_fs_next, _fs_before, _fs_last, _fs_there),
    _fs_before is null or {VISIBLE} <= {now} as _fs_leads
from (
    select current_rows.*, {texts}epoch_us({VISIBLE}) as _fs_from,
        bit_xor({one}) over entity as {DIGESTS[0]}, bit_xor({two}) over entity as {DIGESTS[1]},
        lead({VISIBLE}) over in_order as _fs_next, lag({VISIBLE}) over in_order as _fs_before,
        max({event}) over entity as _fs_last,
        bool_or({quoted(self.view.timestamp)} is not null) over entity as _fs_there
    from ({self.sql}) as current_rows{self._only(only)}
    where {MOVING}
    window entity as (partition by {keys}), in_order as (partition by {keys} order by {VISIBLE})
) as current_rows
where {" and ".join(["_fs_there", f"(_fs_next is null or _fs_next > {now})", *self._kept_where("_fs_last")])}
order by {keys}, _fs_from"""

    @property
    def _row_digests(self) -> Digests:
        return self.digests or digests_of(self.view)

    def _texts(self) -> dict[str, str]:
        columns = zip(self.view.entities, sent_keys(self.view).values(), strict=True)
        return {quoted(c): stored(entity, "current_rows.") for entity, c in columns if c != entity.name}

    def _only(self, keys: str | None) -> str:
        if keys is None:
            return ""
        on = " and ".join(f"chosen.{quoted(e.name)} = {stored(e, 'current_rows.')}" for e in self.view.entities)
        return f"\nsemi join ({keys}) as chosen on {on}"

    def _step_digests(self, *digests: str) -> list[str]:
        """Of a row that is in force from the beginning the digest as it is, of a later one with its moment: so they are
        added up in any order, and one row alone has the same digest with and without a horizon."""
        since = _moment(self.horizon.since)
        return [f"if({VISIBLE} <= {since}, {digest}, hash({digest}, epoch_us({VISIBLE})))" for digest in digests]

    def _kept(self, event: str) -> str | None:
        """The condition that an event (microseconds) is young enough for its row to be kept; None where all are."""
        if not self.view.ttl or not self.expiring:
            return None
        seconds = int(keep_for(self.view.ttl).total_seconds())
        return f"{event} + {seconds * 1_000_000} > epoch_us({_moment(self.now)})"

    def _kept_where(self, event: str) -> list[str]:
        kept = self._kept(event)
        return [kept] if kept else []

    def _if_kept(self, event: str, value: str) -> str:
        kept = self._kept(event)
        return f"case when {kept} then {value} end" if kept else value


def sent_keys(view: FeatureView) -> dict[str, str]:
    """For each join key the column of `Current.rows` and `Current.steps` that has it as it is remembered."""
    return {
        entity.name: f"_fs_key_{place}" if pa.types.is_decimal(entity.dtype) else entity.name
        for place, entity in enumerate(view.entities)
    }


def micros(column: str) -> str:
    """A column of moments as microseconds since 1970."""
    return f"epoch_us(cast({quoted(column)} as timestamptz))"


def _moment(moment: datetime) -> str:
    return f"timestamp '{moment.replace(tzinfo=None).isoformat(' ')}'"


def _keys(view: FeatureView, prefix: str = "") -> str:
    return ", ".join(prefix + quoted(name) for name in view.join_keys)


def stored_keys(view: FeatureView) -> str:
    """The join keys as they are remembered."""
    return ", ".join(f"{stored(entity)} as {quoted(entity.name)}" for entity in view.entities)


def stored(entity: Entity, prefix: str = "") -> str:
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
