"""Statistics of features and their drift: the package's ``feature_statistics`` and ``feature_drift_measures``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa

from materializer.errors import InputError, NotFoundError
from materializer.project.definitions import FeatureView, split_reference
from materializer.project.duration import macro_moment, parse_duration
from materializer.project.render import MacroRenderer
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import to_pandas
from materializer.warehouse.typed import with_columns

# With fewer rows in either period chance alone moves the measures; the generic test has the same default.
FEW_ROWS = 100
# What the index is commonly read as: little has changed up to the first, a lot from the second on.
LITTLE, MUCH = 0.1, 0.25


@dataclass(frozen=True)
class Bucket:
    """A range of numbers with the number of rows in it: the lower edge is in it, the upper one only in the last."""

    lower: float
    upper: float
    count: int


@dataclass(frozen=True)
class Core:
    """The numbers between `lower` and `upper`, the 1st and the 99th percentile, in `counts` of ranges of one width (one
    where both are the same); `below` and `above` are the rows outside."""

    lower: float
    upper: float
    below: int
    above: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TopValue:
    """A value and the number of rows that have it. Texts are cut at 200 characters."""

    value: Any
    count: int


@dataclass(frozen=True)
class FeatureStatistics:
    """The figures of one feature. None where there is no such figure: no values, or not for this kind of type.

    `kind` is integer, decimal, float, boolean, text, date, timestamp, list or other. `minimum`, `maximum` and
    `top_values` have the feature's own type. The figures from `mean` to `core` are doubles of the finite values:
    of a boolean as 0 or 1, of a time as seconds since 1970 (UTC), of a list's length. `distinct_count` is none for
    lists; `mean_norm` is the mean Euclidean norm of lists of numbers, `nan_count` and `infinite_count` are the norm's.
    """

    feature: str
    data_type: str
    kind: str
    row_count: int
    null_count: int
    null_fraction: float | None
    nan_count: int
    infinite_count: int
    distinct_count: int | None
    minimum: Any
    maximum: Any
    mean: float | None
    stddev: float | None
    p01: float | None
    p05: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p95: float | None
    p99: float | None
    mean_norm: float | None
    histogram: tuple[Bucket, ...] | None
    core: Core | None
    top_values: tuple[TopValue, ...] | None


@dataclass(frozen=True)
class FeatureDrift:
    """How far one feature's values differ between two periods.

    `population_stability_index` (from 0 on) and `jensen_shannon_divergence` (base 2, from 0 to 1) are none where a
    period has no rows, and for types other than numbers, text and booleans.
    """

    feature: str
    data_type: str
    kind: str
    rows_before: int
    rows_now: int
    null_fraction_before: float | None
    null_fraction_now: float | None
    population_stability_index: float | None
    jensen_shannon_divergence: float | None

    @property
    def null_change(self) -> float | None:
        """By how much the share of NULL went up, or (below zero) down."""
        if self.null_fraction_before is None or self.null_fraction_now is None:
            return None
        return self.null_fraction_now - self.null_fraction_before

    def verdict(self, few_rows: int = FEW_ROWS) -> str:
        """One of few rows, not compared, stable (index below 0.1), moved and drifted (above 0.25)."""
        if min(self.rows_before, self.rows_now) < few_rows:
            return "few rows"
        if self.population_stability_index is None:
            return "not compared"
        if self.population_stability_index < LITTLE:
            return "stable"
        return "moved" if self.population_stability_index <= MUCH else "drifted"


@dataclass(frozen=True)
class Drift:
    """The drift of a view's features from one period to another, in UTC."""

    features: tuple[FeatureDrift, ...]
    baseline_start: datetime | None
    baseline_end: datetime | None
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True)
class Exceeded:
    """A measure of a feature's drift that is above the limit set for it."""

    view: str
    feature: str
    measure: str
    value: float
    limit: float


@dataclass(frozen=True)
class Statistics:
    """The figures of a view's features in a period, in the view's order; iterable, and by name: ``stats["age"].mean``.

    Example:
        >>> stats = store.get_statistics("user_features", features=["age"])
        >>> stats["age"].p50
        41.0

    `start` and `end` are the period's bounds, none where it is open; `drift` is there where periods were compared,
    `baseline_start` and `baseline_end` then say with which. `sql` is what the warehouse ran for the figures.
    """

    view: str
    start: datetime | None
    end: datetime | None
    features: tuple[FeatureStatistics, ...]
    drift: tuple[FeatureDrift, ...] | None = None
    baseline_start: datetime | None = None
    baseline_end: datetime | None = None
    sql: str = field(default="", repr=False)
    table: pa.Table = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Iterator[FeatureStatistics]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> FeatureStatistics:
        for feature in self.features:
            if feature.feature == name:
                return feature
        names = ", ".join(feature.feature for feature in self.features) or "none"
        raise NotFoundError(f"These statistics of '{self.view}' have no feature '{name}'; they have: {names}.")

    def exceeded(
        self,
        max_psi: float | None = None,
        max_js: float | None = None,
        max_null_change: float | None = None,
        few_rows: int = FEW_ROWS,
    ) -> list[Exceeded]:
        """The measures above these limits, of features with at least `few_rows` rows in both periods."""
        found = []
        for drift in self.drift or ():
            if min(drift.rows_before, drift.rows_now) < few_rows:
                continue
            for measure, value, limit in (
                ("psi", drift.population_stability_index, max_psi),
                ("js", drift.jensen_shannon_divergence, max_js),
                ("null_change", None if drift.null_change is None else abs(drift.null_change), max_null_change),
            ):
                if limit is not None and value is not None and value > limit:
                    found.append(Exceeded(self.view, drift.feature, measure, value, limit))
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts and lists, for JSON and the like."""
        plain = {
            "view": self.view, "start": self.start, "end": self.end,
            "features": [asdict(feature) for feature in self.features],
        }  # fmt: skip
        if self.drift is not None:
            plain |= {
                "baseline_start": self.baseline_start, "baseline_end": self.baseline_end,
                "drift": [asdict(drift) | {"null_change": drift.null_change} for drift in self.drift],
            }  # fmt: skip
        return plain

    def to_arrow(self) -> pa.Table:
        """As the macro gives it: one row a feature, `histogram` and `top_values` as JSON text; drift stands behind."""
        return self.table

    def to_df(self) -> Any:
        """`to_arrow` as pandas (extra ``pandas``), in nullable types."""
        return to_pandas(self.table)


def get_statistics(
    warehouse: Warehouse,
    manifest: Mapping[str, Any],
    view: FeatureView,
    features: Sequence[str] | str | None = None,
    start: datetime | date | str | None = None,
    end: datetime | date | str | None = None,
    compare: str | tuple[Any, Any] | None = None,
) -> Statistics:
    """See `materializer.FeatureStore.get_statistics`."""
    view = with_columns(view, warehouse)
    names = _names(view, features)
    macros = MacroRenderer(manifest, warehouse.columns)
    period = {"start": moment_text(start), "end": moment_text(end)}
    if compare is None:
        return measured(warehouse, macros, view, names, period)
    drift, drifted = _drift(warehouse, macros, view, names, _compared(compare, period))
    if drift.end is not None:
        period = {"start": moment_text(drift.start), "end": moment_text(drift.end)}
    found = measured(warehouse, macros, view, names, period)
    table = found.table
    for place, column in enumerate(drifted.column_names):
        if column not in table.column_names:
            table = table.append_column(drifted.schema.field(place), drifted.column(place))
    before = {"baseline_start": drift.baseline_start, "baseline_end": drift.baseline_end}
    return replace(found, drift=drift.features, **before, table=table)


def measured(
    warehouse: Warehouse,
    macros: MacroRenderer,
    view: FeatureView,
    names: Sequence[str] | None = None,
    period: Mapping[str, str | None] | None = None,
) -> Statistics:
    """The figures of a view that has the warehouse's columns already: one query, whatever the number of features."""
    sql = macros.render("feature_statistics", view.reference, names, **(period or {}))
    table = warehouse.query(sql)
    rows = table.to_pylist()
    return Statistics(view.reference, *_bounds(rows), _figures(rows), sql=sql, table=table)


def drift_of(
    warehouse: Warehouse, macros: MacroRenderer, view: FeatureView, period: str, end: datetime | None = None
) -> Drift:
    """How far the newest period of this length, ended by the newest row before `end`, differs from the one before."""
    return _drift(warehouse, macros, view, None, {"period": period, "end": moment_text(end)})[0]


def _drift(
    warehouse: Warehouse,
    macros: MacroRenderer,
    view: FeatureView,
    names: Sequence[str] | None,
    compared: dict[str, Any],
) -> tuple[Drift, pa.Table]:
    table = warehouse.query(macros.render("feature_drift_measures", view.reference, names, **compared))
    rows = table.to_pylist()
    wanted = {item.name for item in fields(FeatureDrift)}
    bounds = [_utc(rows[0][name]) if rows else None for name in
              ("baseline_start", "baseline_end", "period_start", "period_end")]  # fmt: skip
    found = tuple(FeatureDrift(**{key: value for key, value in row.items() if key in wanted}) for row in rows)
    return Drift(found, *bounds), table


def _names(view: FeatureView, features: Sequence[str] | str | None) -> list[str]:
    """Names and ``view:feature`` references as names of the view's features; none stands for all."""
    asked = [features] if isinstance(features, str) else list(features or ())
    names = []
    for text in asked:
        name = text
        if ":" in text and text not in {feature.name for feature in view.features}:
            of, name = split_reference(text)
            if of not in (view.reference, view.name):
                raise InputError(f"'{text}' is no feature of '{view.reference}', whose statistics were asked for.")
        names.append(view.feature(name).name)
    return list(dict.fromkeys(names)) or [feature.name for feature in view.features]


def _compared(compare: str | tuple[Any, Any], period: Mapping[str, str | None]) -> dict[str, Any]:
    """The arguments of `feature_drift_measures` for ``"7 days"`` or a baseline ``"2026-01-01..2026-01-08"``."""
    if isinstance(compare, str) and ".." not in compare:
        parse_duration(compare, "compare")
        if period["start"]:
            raise InputError(
                f"compare='{compare}' takes the newest period itself: leave out the start, "
                "or name the baseline, for example '2026-01-01..2026-01-08'."
            )
        return {"period": compare, "end": period["end"]}
    bounds = compare.split("..") if isinstance(compare, str) else list(compare)
    if len(bounds) != 2 or not all(bounds):
        raise InputError(
            f"compare is {compare!r}: give a duration such as '7 days', or the baseline's start and end, "
            "for example '2026-01-01..2026-01-08'."
        )
    return {"baseline_start": moment_text(bounds[0]), "baseline_end": moment_text(bounds[1]), **period}


def moment_text(moment: datetime | date | str | None) -> str | None:
    """A moment as the macros read it: UTC, without a zone."""
    if moment is None:
        return None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return macro_moment(moment.strip() if isinstance(moment, str) else moment)


def _bounds(rows: Sequence[Mapping[str, Any]]) -> tuple[datetime | None, datetime | None]:
    return (_utc(rows[0]["period_start"]), _utc(rows[0]["period_end"])) if rows else (None, None)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=timezone.utc) if moment else None


def _figures(rows: Sequence[Mapping[str, Any]]) -> tuple[FeatureStatistics, ...]:
    wanted = {item.name for item in fields(FeatureStatistics)}
    return tuple(
        FeatureStatistics(**{name: value for name, value in row.items() if name in wanted} | _typed(row))
        for row in rows
    )


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that come as text, as values of the feature's type."""
    buckets, core, tops = (
        json.loads(row[name]) if row.get(name) else None for name in ("histogram", "core", "top_values")
    )
    return {
        "minimum": _value(row["minimum"], row["kind"]),
        "maximum": _value(row["maximum"], row["kind"]),
        "histogram": buckets and tuple(Bucket(bucket["from"], bucket["to"], bucket["count"]) for bucket in buckets),
        "core": core and Core(core["from"], core["to"], core["below"], core["above"], tuple(core["counts"])),
        "top_values": tops and tuple(TopValue(_value(top["value"], row["kind"]), top["count"]) for top in tops),
    }


def _value(text: str | None, kind: str) -> Any:
    """A value of the macro's text; a year beyond Python's stays text."""
    if text is None:
        return None
    try:
        if kind in ("integer", "list"):
            return int(text)
        if kind == "decimal":
            return Decimal(text)
        if kind == "float":
            return float(text)
        if kind == "boolean":
            return text == "true"
        if kind == "date":
            return date.fromisoformat(text)
        if kind == "timestamp":
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    return text
