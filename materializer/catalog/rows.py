"""What the warehouse says for the catalog's document: columns at once, then what rows are like, for a limited time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from materializer.catalog import statistics as figures
from materializer.catalog.freshness import OfRows, not_asked, of_rows
from materializer.catalog.lineage import relation_of
from materializer.errors import FeatureStoreError
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.relation import PACKAGE, Column, Relation
from materializer.project.render import MacroRenderer
from materializer.project.settings import Project
from materializer.warehouse import SQL_TYPE, Warehouse, quoted
from materializer.warehouse.typed import with_columns

# How many of the newest periods of a history are shown.
PERIODS = 60
# Views of more values than this are not measured along with all others: there exact quantiles take a minute.
MOST_VALUES = 20_000_000
DRIFT_PERIOD = "7 days"
# A model with the package's statistics of many periods has these columns.
_HISTORY = ("feature_view", "feature", "period_start", "row_count", "null_fraction", "mean", "distinct_count", "p05",
            "p50", "p95")  # fmt: skip


@dataclass
class Rows:
    """What was found out about rows: by a view's reference, by its feature, by a source's id, or, `keys`, by an entity.
    `missing` says why something is not known, by the name of the check."""

    of_view: dict[str, OfRows] = field(default_factory=dict)
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: dict[str, dict[str, Any]] = field(default_factory=dict)
    periods: dict[str, dict[str, str | None]] = field(default_factory=dict)
    history: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, int | str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def column_types(warehouse: Warehouse, project: Project, graph: Graph) -> dict[str, dict[str, str]]:
    """The columns of every node that the warehouse has, with its names of their types, by id."""
    relations = {
        unique_id: Relation(relation_of(project, node))
        for unique_id, node in graph.nodes.items()
        if node.get("resource_type") in ("model", "seed", "snapshot", "source") and node.get("relation_name")
    }
    schemas = warehouse.schemas(list(relations.values()))
    found = {}
    for unique_id, relation in relations.items():
        schema = schemas.get(relation)
        if schema is not None:
            found[unique_id] = {one.name: (one.metadata or {}).get(SQL_TYPE, b"").decode() for one in schema}
            continue
        with suppress(FeatureStoreError):
            found[unique_id] = {column.name: column.dtype for column in warehouse.columns(relation)}
    return {unique_id: types for unique_id, types in found.items() if types}


def with_types(warehouse: Warehouse, views: Sequence[FeatureView]) -> tuple[list[FeatureView], dict[str, str]]:
    """The views with the warehouse's columns, those that have none as they are declared; and why, by reference."""
    schemas = warehouse.schemas([Relation(view.relation) for view in views])
    typed, problems = [], {}
    for view in views:
        try:
            typed.append(with_columns(view, warehouse, schemas.get(Relation(view.relation))))
        except FeatureStoreError as error:
            problems[view.reference] = str(error)
            typed.append(view)
    return typed, problems


class Asking:
    """Asks about rows until the time is over: what matters first is asked of all views before anything else is."""

    def __init__(self, warehouse: Warehouse, project: Project, manifest: Mapping[str, Any], moment: datetime,
                 seconds: float, types: Mapping[str, Mapping[str, str]]) -> None:  # fmt: skip
        self._warehouse, self._project, self._types = warehouse, project, types
        known = {
            Relation(manifest["nodes"][one]["relation_name"]): [Column(*column) for column in columns.items()]
            for one, columns in types.items()
            if one in manifest["nodes"]
        }
        self._macros = MacroRenderer(manifest, lambda relation: known.get(relation) or warehouse.columns(relation))
        self._moment, self._seconds = moment, seconds
        self._until = time.monotonic() + seconds
        self.rows = Rows()

    def freshness(self, views: Sequence[FeatureView]) -> None:
        """How new the rows of views are."""
        for view in self._in_time("freshness", views):
            self.rows.of_view[view.reference] = of_rows(view, self._warehouse, self._macros, self._moment, known=True)
        late = not_asked(f"it was not asked: the {self._seconds:g} seconds for asking about rows were over")
        for view in views:
            self.rows.of_view.setdefault(view.reference, late)

    def keys(self, views: Sequence[FeatureView]) -> None:
        """A key that is there for each entity. Those of one row fit each other: views of many entities come first."""
        small = self._small(views)
        for view in sorted(small, key=lambda one: -len(one.join_keys)):
            wanted = [name for name in view.join_keys if name not in self.rows.keys]
            if not wanted or time.monotonic() > self._until:
                continue
            spelled = {name.lower(): name for name in self._types.get(view.unique_id, ())}
            names = [self._name(spelled.get(name.lower(), name)) for name in view.join_keys]
            there = " and ".join(f"{name} is not null" for name in names)
            with self._or_why("statistics"):
                rows = self._warehouse.query(
                    f"select {', '.join(names)} from {view.relation} where {there} order by {', '.join(names)} limit 1"
                ).to_pylist()
                found = {name: key for row in rows for name, key in zip(view.join_keys, row.values(), strict=True)}
                self.rows.keys |= {name: plain(found[name]) for name in wanted if type(found.get(name)) in (int, str)}

    def _name(self, column: str) -> str:
        """A column as the warehouse has it; where quotes are others, as it is."""
        return quoted(column) if self._warehouse.dialect in ("duckdb", "postgres") else column

    def statistics(self, views: Sequence[FeatureView]) -> None:
        """What the values of features look like."""
        period = {"start": None, "end": figures.moment_text(self._moment)}
        for view in self._in_time("statistics", self._small(views)):
            with self._or_why("statistics"):
                found = figures.measured(self._warehouse, self._macros, view, None, period)
                self.rows.statistics[view.reference] = {one.feature: _statistics(one) for one in found}

    def drift(self, views: Sequence[FeatureView]) -> None:
        """How far the newest days differ from those before."""
        for view in self._in_time("drift", self._small(views)):
            with self._or_why("drift"):
                found = figures.drift_of(self._warehouse, self._macros, view, DRIFT_PERIOD, self._moment)
                self.rows.periods[view.reference] = {
                    "start": iso(found.start), "end": iso(found.end), "compared": DRIFT_PERIOD,
                }  # fmt: skip
                self.rows.drift[view.reference] = {one.feature: _drift(one) for one in found.features}

    def history(self, graph: Graph, types: Mapping[str, Mapping[str, str]]) -> None:
        """What models of the project keep of statistics over time: `feature_statistics`, a row a feature and period."""
        for unique_id in self._in_time("history", list(history_models(graph, types))):
            with self._or_why("history"):
                columns = ", ".join(map(self._name, _HISTORY))
                found = self._warehouse.query(
                    f"select {columns} from {graph.nodes[unique_id]['relation_name']} where period_start is not null"
                )
                for row in sorted(found.to_pylist(), key=lambda one: one["period_start"]):
                    periods = self.rows.history.setdefault(row["feature_view"], {}).setdefault(row["feature"], [])
                    periods.append(_period(row))
                    del periods[:-PERIODS]

    def sources(self, graph: Graph) -> None:
        """How many rows sources have and how new they are: as ``dbt source freshness`` found last, or asked now."""
        known = _source_freshness(self._project.target_folder / "sources.json")
        sources = [one for one, node in graph.nodes.items() if node.get("resource_type") == "source"]
        for unique_id in self._in_time("sources", sources):
            node = graph.nodes[unique_id]
            loaded = (node.get("config") or {}).get("loaded_at_field") or node.get("loaded_at_field")
            newest = f", max({loaded}) as newest" if loaded and unique_id not in known else ""
            self.rows.sources[unique_id] = {"rows": None, "newest_load": known.get(unique_id)}
            with self._or_why("sources"):
                (row,) = self._warehouse.query(
                    f"select count(*) as found{newest} from {relation_of(self._project, node)}"
                ).to_pylist()
                found = self.rows.sources[unique_id]
                found["rows"] = row["found"]
                found["newest_load"] = found["newest_load"] or iso(row.get("newest"))

    def _small(self, views: Sequence[FeatureView]) -> list[FeatureView]:
        """The views that are quickly measured, the smallest first."""
        sizes: dict[str, int] = {}
        for view in views:
            rows = self.rows.of_view[view.reference][1].get("rows")
            if view.features and rows != 0:
                sizes[view.reference] = (rows or 1) * len(view.features)
        large = sorted(name for name, size in sizes.items() if size > MOST_VALUES)
        if large:
            self.rows.missing["statistics"] = self.rows.missing["drift"] = (
                f"{', '.join(large[:3])}{f' and {len(large) - 3:,} more' if len(large) > 3 else ''} hold more than "
                f"{MOST_VALUES // 10**6} million values: `feature-store stats` measures them one by one."
            )
        small = [view for view in views if 0 < sizes.get(view.reference, 0) <= MOST_VALUES]
        return sorted(small, key=lambda view: (sizes[view.reference], view.reference))

    def _in_time(self, check: str, things: Sequence[Any]) -> Iterator[Any]:
        for number, thing in enumerate(things):
            if time.monotonic() > self._until:
                self.rows.missing[check] = (
                    f"Of {len(things):,} {number:,} were looked at: the {self._seconds:g} seconds for asking about "
                    "rows were over; --seconds gives more."
                )
                return
            yield thing

    def _or_why(self, check: str) -> _OrWhy:
        return _OrWhy(self.rows.missing, check)


class _OrWhy(suppress):
    """Lets an expected error of one thing be, noted for its check."""

    def __init__(self, missing: dict[str, str], check: str) -> None:
        super().__init__(FeatureStoreError)
        self._missing, self._check = missing, check

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if isinstance(error, FeatureStoreError):
            self._missing.setdefault(self._check, str(error))
        return bool(super().__exit__(kind, error, traceback))


def history_models(graph: Graph, types: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The ids of models that keep statistics over time, and are built."""
    for unique_id, node in graph.nodes.items():
        macros = (node.get("depends_on") or {}).get("macros") or ()
        columns = {name.lower() for name in types.get(unique_id, ())}
        keeps = node.get("resource_type") == "model" and f"macro.{PACKAGE}.feature_statistics" in macros
        if keeps and columns >= set(_HISTORY):
            yield unique_id


def _source_freshness(path: Path) -> dict[str, str]:
    """When the newest row of each source was loaded, as dbt found it last."""
    try:
        results = json.loads(path.read_bytes())["results"]
        found = {str(one["unique_id"]): one.get("max_loaded_at") for one in results}
        return {one: iso(datetime.fromisoformat(at)) for one, at in found.items() if at}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


# As JSON.


def iso(moment: datetime | date | None) -> str | None:
    """A moment as the document writes it: ISO 8601, in UTC, with a Z. A naive one is UTC."""
    if moment is None or isinstance(moment, str):
        return moment
    if not isinstance(moment, datetime):
        return moment.isoformat()
    moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return moment.isoformat().replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """A value as JSON that any reader keeps exact: whole numbers beyond 2^53 and decimals as text, floats to ten digits
    (sums of the same rows differ beyond, with the threads that add them up)."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return str(value)
    return iso(value) if isinstance(value, (date, datetime)) else str(value)


_FIGURES = ("kind", "row_count", "null_count", "null_fraction", "nan_count", "infinite_count", "distinct_count",
            "minimum", "maximum", "mean", "stddev", "p01", "p05", "p25", "p50", "p75", "p95", "p99",
            "mean_norm")  # fmt: skip


def _statistics(one: figures.FeatureStatistics) -> dict[str, Any]:
    found = {name: plain(getattr(one, name)) for name in _FIGURES}
    if one.histogram:
        found["histogram"] = [[plain(b.lower), plain(b.upper), b.count] for b in one.histogram]
    if one.core:
        found["core"] = {
            "from": plain(one.core.lower), "to": plain(one.core.upper), "below": one.core.below,
            "above": one.core.above, "counts": list(one.core.counts),
        }  # fmt: skip
    if one.top_values:
        found["top_values"] = [[plain(top.value), top.count] for top in one.top_values]
    return found


def _drift(one: figures.FeatureDrift) -> dict[str, Any]:
    names = ("population_stability_index", "jensen_shannon_divergence", "null_change", "rows_before", "rows_now",
             "null_fraction_before", "null_fraction_now")  # fmt: skip
    return {name: plain(getattr(one, name)) for name in names} | {"verdict": one.verdict()}


def _period(row: Mapping[str, Any]) -> dict[str, Any]:
    start = iso(row["period_start"])
    return {
        "period": start.removesuffix("T00:00:00Z"),
        "rows": row["row_count"],
        "null_fraction": plain(row["null_fraction"]),
        "mean": plain(row["mean"]),
        "distinct": row["distinct_count"],
        "p05": plain(row["p05"]),
        "p50": plain(row["p50"]),
        "p95": plain(row["p95"]),
    }
