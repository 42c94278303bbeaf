"""Rows of a view by the package's own point-in-time join: the truth, and what a run could have seen of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import WarehouseError
from materializer.online.values import encode
from materializer.project.definitions import FeatureView, Registry
from materializer.project.duration import macro_moment
from materializer.project.graph import meta_of
from materializer.project.render import MacroRenderer, ProjectManifest
from materializer.training.join import get_historical_features
from materializer.training.record import Options
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.moments import to_objects

# Columns that are added to a view to learn which row was joined; no model's column is called so by chance.
_EVENT, _CREATED = "row's event time", "row's created time"
_FIRST = -62_135_596_800_000_000  # the year 1, as which readers give "since ever"


@dataclass(frozen=True)
class Row:
    """A row of a view: its event and created time in microseconds, and the features asked for as the texts that the
    online format has. `event` None is no row."""

    event: int | None
    created: int | None
    values: tuple[bytes | None, ...]

    def shown(self, at: int, ttl: timedelta | None) -> tuple[bytes | None, ...]:
        """The values that a reader gives of it, who judges its age."""
        if self.event is None or (ttl is not None and self.event < at - ttl // timedelta(microseconds=1)):
            return (None,) * len(self.values)
        return self.values


class Views:
    """The views of a project in its warehouse, joined as training sets are."""

    def __init__(self, warehouse: Warehouse, manifest: ProjectManifest, registry: Registry) -> None:
        self._warehouse, self._manifest, self._registry = warehouse, manifest, registry

    def truth(self, view: FeatureView, features: Sequence[str], spine: pa.Table, moment: str) -> list[pa.Array]:
        """The texts of features at each row's moment, as a training set has them."""
        joined = self._join(self._manifest, self._registry, view, features, spine, moment)
        return [texts(joined.column(place)) for place in range(len(features))]

    def rows(
        self, view: FeatureView, features: Sequence[str], spine: pa.Table, moment: str, loaded: datetime | None = None
    ) -> list[Row]:
        """The row of the view that is in force at each moment, however old it is; of those loaded by `loaded` where
        that is given."""
        manifest, registry = self._widened(view, loaded)
        names = [*features, _EVENT, _CREATED]
        joined = self._join(manifest, registry, view, names, spine, moment)
        *values, event, created = (joined.column(place) for place in range(len(names)))
        event, created = (moments.cast(pa.timestamp("us")).cast(pa.int64()) for moments in (event, created))
        events = [None if one is None else max(one, _FIRST) for one in event.to_pylist()]
        whole = [texts(column).to_pylist() for column in values]
        return [Row(*row[:2], row[2:]) for row in zip(events, created.to_pylist(), *whole, strict=True)]

    def _join(
        self, manifest: ProjectManifest, registry: Registry, view: FeatureView, features: Sequence[str],
        spine: pa.Table, moment: str,
    ) -> pa.Table:  # fmt: skip
        references = [f"{view.reference}:{feature}" for feature in features]
        options = Options(moment, full_feature_names=True)
        answer = get_historical_features(self._warehouse, manifest, registry, spine, references, options)
        return answer.to_arrow().select(answer.features)

    def _widened(self, view: FeatureView, loaded: datetime | None) -> tuple[ProjectManifest, Registry]:
        """What is declared, with this view without its ttl, and with each row's moments among its features."""
        macros = MacroRenderer(self._manifest, self._warehouse.columns)
        by = loaded and macro_moment(loaded)
        relation = f"({macros.render('_with_moments', view.reference, _EVENT, _CREATED, loaded=by)}) as widened"
        node: Mapping[str, Any] = self._manifest["nodes"][view.unique_id]
        declared = {name: value for name, value in meta_of(node)["feature_view"].items() if name != "ttl"}
        config = {**node["config"], "meta": {**meta_of(node), "feature_view": declared}}
        nodes = {**self._manifest["nodes"], view.unique_id: {**node, "relation_name": relation, "config": config}}
        views = {
            name: replace(one, relation=relation, ttl=None) if one.reference == view.reference else one
            for name, one in self._registry.views.items()
        }
        manifest = ProjectManifest({**self._manifest, "nodes": nodes}, self._manifest.project)
        return manifest, replace(self._registry, views=views)


def texts(column: pa.ChunkedArray) -> pa.Array:
    """Values as the texts of the online format, by which they are equal to the bit: NaN is NaN, and -0.0 is not 0."""
    array = to_plain(column).combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    try:
        return encode(array)
    except WarehouseError:  # a moment that cannot be stated online: it was never served either
        return pa.array([None if one is None else repr(one).encode() for one in to_objects(array)], pa.binary())


def differ(one: pa.Array, other: pa.Array) -> pa.Array:
    """Where two columns of texts are not the same; NULL is NULL."""
    unlike = pc.fill_null(pc.not_equal(one, other), False)
    return pc.or_(unlike, pc.xor(pc.is_null(one), pc.is_null(other)))
