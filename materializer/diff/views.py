"""Compares feature views and services: what they declare, how features are made, and which services a change breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from materializer.diff.compare import Comparison
from materializer.diff.models import Models
from materializer.diff.result import (
    Break,
    Cause,
    Dependents,
    FeatureChange,
    PropertyChange,
    RowsChange,
    ServiceChange,
    ViewChange,
)
from materializer.diff.sides import Side
from materializer.errors import DefinitionError, NotFoundError
from materializer.project.definitions import Feature, FeatureService, FeatureView, OnDemand, Registry
from materializer.project.duration import format_duration
from materializer.project.graph import meta_of
from materializer.project.manifest import read_registry, service_on_demand
from materializer.sql.lineage import downstream
from materializer.sql.meaning import Query

# How a change says of a feature that it is computed, in place of a type.
_REQUEST = "on demand"


@dataclass(frozen=True)
class Declared:
    """One side: its views and services, and the models behind them."""

    side: Side
    registry: Registry
    models: Models

    def key(self, view: FeatureView) -> str:
        """The key of a view's model."""
        return self.models.key(self.models.graph.nodes[view.unique_id])

    def has(self, view: FeatureView | None, feature: str) -> bool:
        """Whether a view has a feature; taken to, where its columns are not known."""
        names = self.models.columns(self.key(view)) if view is not None else {}
        computed = [one.name for one in view.on_demand] if view is not None else []
        return names is None or feature.lower() in map(str.lower, (*names, *computed))


def declared(side: Side) -> Declared:
    """What a manifest declares. A service may name views that are not there: a diff has to tell of those.

    Raises:
        DefinitionError: where a view is not declared as it should be, naming the side.
    """
    try:
        views = read_registry({**side.manifest, "exposures": {}}).views
    except DefinitionError as error:
        raise DefinitionError(f"In {side.name}: {error}") from None
    services = {}
    for exposure in (side.manifest.get("exposures") or {}).values():
        features = meta_of(exposure).get("features", [])
        if exposure.get("type") == "ml" and isinstance(features, list):
            name = exposure["name"]
            services[name] = FeatureService(name, tuple(map(str, features)), on_demand=_on_demand(exposure))
    return Declared(side, Registry(views, services), Models(side.manifest, side.columns))


def _on_demand(exposure: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The on-demand features of a service; none where they are not declared as they may be."""
    try:
        return service_on_demand(exposure)
    except DefinitionError:
        return ()


class ViewComparison:
    """Compares views of two sides, each pair once.

    Args:
        built: the columns of both sides come from the warehouse, so that their types go before the declared ones.
    """

    def __init__(self, old: Declared, new: Declared, built: bool = False) -> None:
        self.old = old
        self.new = new
        self.models = Comparison(old.models, new.models)
        self._built = built
        self._done: dict[tuple[str, str], ViewChange] = {}

    def compare(self, old: FeatureView, new: FeatureView) -> ViewChange:
        """What changed from one view to another, or to itself on the other side."""
        pair = old.unique_id, new.unique_id
        if pair not in self._done:
            name = old.name if old.reference != new.reference and old.name == new.name else new.reference
            change = ViewChange(name, old.reference, new.reference)
            if _declares(old) != _declares(new) or not self.models.alike(self.old.key(old), self.new.key(new)):
                properties = tuple(self._properties(old, new))
                change = self._definition(old, new, replace(change, properties=properties))
            change = replace(change, features=(*change.features, *_sorted(list(_computed(old, new)))))
            self._done[pair] = change
        return self._done[pair]

    def _properties(self, old: FeatureView, new: FeatureView) -> Iterator[PropertyChange]:
        after = _declares(new)
        for name, before in _declares(old).items():
            if before != after[name]:
                yield PropertyChange(name, before, after[name])
        for key in old.join_keys:
            if key in new.join_keys:
                types = self._retyped(self.old.key(old), self.new.key(new), key)
                if types:
                    yield PropertyChange(f"type of {key}", *types)

    def _definition(self, old: FeatureView, new: FeatureView, change: ViewChange) -> ViewChange:
        old_key, new_key = self.old.key(old), self.new.key(new)
        before, after = self._features(old, new)
        features = [
            *(FeatureChange(name, "added", None, self._type(self.new, new_key, name)) for name in _less(after, before)),
            *(FeatureChange(name, "removed", self._type(self.old, old_key, name)) for name in _less(before, after)),
        ]
        shared = [name for name in after if name not in _less(after, before)]
        for name in shared:
            types = self._retyped(old_key, new_key, name)
            if types:
                features.append(FeatureChange(name, "retyped", *types))
        pair = self.models.queries(old_key, new_key)
        if pair is None:
            text = self.models.text_change(old_key, new_key)
            causes = self.models.anything_above(new_key)
            rows = RowsChange(causes=causes) if causes and text is None else None
            return replace(change, features=_sorted(features), rows=rows, text=text)

        same = self.models.same_source(old_key, new_key)
        for name in shared:
            own, causes = self._made_otherwise(pair, same, name, name)
            if own or causes:
                features.append(FeatureChange(name, "redefined", *(own or (None, None)), causes=causes))
        return replace(change, features=_sorted(features), rows=self._rows(pair, same, old, new))

    def _made_otherwise(
        self, pair: tuple[Query, Query], same: bool, old: str, new: str
    ) -> tuple[tuple[str, str] | None, tuple[Cause, ...]]:
        """Two columns' SQL where it differs, or what changed above where it does not; not so for the `same` models."""
        before, after = pair[0].column(old.lower()), pair[1].column(new.lower())
        if before is None or after is None:
            return None, ()
        own = None if same else self.models.column(before, after, pair[0].rows == pair[1].rows)
        return own, () if own else self.models.above(before.reads | after.reads)

    def _rows(self, pair: tuple[Query, Query], same: bool, old: FeatureView, new: FeatureView) -> RowsChange | None:
        """What changed in which rows there are, of which entity, from when on."""
        own = (None if same else self.models.rows(*pair)) or RowsChange()
        removed, added, causes = list(own.removed), list(own.added), list(self.models.rows_above(pair[1]))
        roles = [(key, key) for key in old.join_keys if key in new.join_keys] + [(old.timestamp, new.timestamp)]
        if old.created_timestamp and new.created_timestamp:
            roles.append((old.created_timestamp, new.created_timestamp))
        for before, after in roles:
            sql, above = self._made_otherwise(pair, same, before, after)
            if sql:
                removed.append(f"{before} as {sql[0]}")
                added.append(f"{after} as {sql[1]}")
            causes += above
        unchanged = same or pair[0].rows == pair[1].rows
        if unchanged and not (removed or causes):
            return None
        return RowsChange(tuple(removed), tuple(added), tuple(dict.fromkeys(causes)))

    def _features(self, old: FeatureView, new: FeatureView) -> tuple[list[str], list[str]]:
        """The names of the features of both: all of them, or the declared ones where one side knows no more."""
        known = [side.models.columns(side.key(view)) for side, view in ((self.old, old), (self.new, new))]
        if known[0] is None or known[1] is None:
            listed = [[feature.name for feature in view.features] for view in (old, new)]
            self.models.note("not all columns are known, so only declared features are compared", new.reference)
            return ([], []) if not (listed[0] and listed[1]) else (listed[0], listed[1])
        return tuple(_features_of(view, names) for view, names in zip((old, new), known, strict=True))

    def _retyped(self, old_key: str, new_key: str, column: str) -> tuple[str, str] | None:
        """Both types where they differ beyond doubt: of the same kind of knowledge where both sides have it."""
        sides = [self.old.models.types_of(old_key, column), self.new.models.types_of(new_key, column)]
        if self._built:
            sides = [(known, declared, made) for declared, known, made in sides]
        both = [pair for pair in zip(*sides, strict=True) if all(pair)]
        old, new = both[0] if both else (next(filter(None, side), None) for side in sides)
        if old is None or new is None or self.old.models.plain_type(old) == self.new.models.plain_type(new):
            return None
        return old.lower(), new.lower()

    def _type(self, side: Declared, key: str, column: str) -> str | None:
        found = next(filter(None, side.models.types_of(key, column)), None)
        return found.lower() if found else None


def changed_services(views: ViewComparison) -> Iterator[ServiceChange]:
    """Services that came, went, or list other features."""
    old, new = views.old.registry.services, views.new.registry.services
    for name in sorted({*old, *new}):
        before = _listed(old[name]) if name in old else ()
        after = _listed(new[name]) if name in new else ()
        added = tuple(reference for reference in after if reference not in before)
        removed = tuple(reference for reference in before if reference not in after)
        if name not in old or name not in new:
            yield ServiceChange(name, "added" if name not in old else "removed", added, removed)
        elif added or removed:
            yield ServiceChange(name, "changed", added, removed)


def broken_services(views: ViewComparison) -> Iterator[Break]:
    """Services of the new side, for what they list there or listed before: where a feature or its view is gone, the
    feature has another type, or the view other join keys. A new service is only asked whether all of it is there."""
    old, new = views.old.registry, views.new.registry
    for name, service in sorted(new.services.items()):
        before = old.services[name].features if name in old.services else ()
        for reference in dict.fromkeys((*before, *service.features)):
            view, _, feature = reference.partition(":")
            was, is_ = old.views.get(view), new.views.get(view)
            reason = None
            if was is not None and is_ is not None and name in old.services:
                reason = _changed(views.compare(was, is_), feature)
            if reason is None and not (reference in before and not views.old.has(was, feature)):
                reason = _missing(views, is_, feature)
            if reason:
                yield Break(name, reference, reason)


def broken_by_moving(views: ViewComparison, old: FeatureView, new: FeatureView) -> Iterator[Break]:
    """Services that a move from one version of a view to another breaks: those of the old one and of the bare name."""
    registry = views.new.registry
    for name, service in sorted(registry.services.items()):
        for reference in service.features:
            named, _, feature = reference.partition(":")
            view = registry.views.get(named)
            if view is not None and (view.unique_id == old.unique_id or named == old.name):
                reason = _changed(views.compare(old, new), feature) or _missing(views, new, feature)
                if reason:
                    yield Break(name, reference, reason)


def _changed(change: ViewChange, feature: str) -> str | None:
    for one in change.features:
        if one.feature.lower() == feature.lower() and one.change == "removed":
            return f"the feature was removed from {change.new}"
        if one.feature.lower() == feature.lower() and one.change == "retyped":
            if (one.old or "").startswith(_REQUEST):
                return f"its request fields changed from {_fields(one.old)} to {_fields(one.new)}"
            return f"its type changed from {one.old} to {one.new}"
    for one in change.properties:
        if one.property == "entities":
            return f"the join keys of {change.new} changed from {one.old} to {one.new}"
        if one.property.startswith("type of "):
            return f"the {one.property}, a join key of {change.new}, changed from {one.old} to {one.new}"
    return None


def _missing(views: ViewComparison, view: FeatureView | None, feature: str) -> str | None:
    if view is None:
        return "there is no such view"
    return None if views.new.has(view, feature) else f"{view.reference} has no such feature"


def dependents(side: Declared, view: FeatureView, feature: str | None = None) -> Dependents:
    """What is made from a view, or from one of its features."""
    services = []
    for name, service in side.registry.services.items():
        for reference in service.features:
            named, _, wanted = reference.partition(":")
            found = side.registry.views.get(named)
            if found is not None and found.unique_id == view.unique_id and feature in (None, wanted):
                services.append(name)
    below = side.models.graph.below(view.unique_id) if feature is None else _made_from(side, view, feature)
    nodes = [side.models.graph.nodes[one] for one in below if one in side.models.graph.nodes]
    models = {side.models.key(node) for node in nodes if node["resource_type"] in ("model", "snapshot")}
    return Dependents(tuple(sorted(set(services))), tuple(sorted(models - {side.key(view)})))


def _made_from(side: Declared, view: FeatureView, feature: str) -> list[str]:
    """The nodes below with a column that a feature goes into, or rows that it decides."""
    try:
        used = downstream(side.models.graph, view.unique_id, feature)
    except NotFoundError:  # it is declared, and its SQL has no such column
        return []
    return [column.node for column in (*used.values, *used.filters)]


def _computed(old: FeatureView, new: FeatureView) -> Iterator[FeatureChange]:
    """What changed in the on-demand features of a view."""
    before, after = ({one.name: one.on_demand for one in view.on_demand if one.on_demand} for view in (old, new))
    yield from (FeatureChange(name, "added", None, _REQUEST) for name in after if name not in before)
    yield from (FeatureChange(name, "removed", _REQUEST) for name in before if name not in after)
    for name in after:
        if name in before and before[name].request != after[name].request:
            yield FeatureChange(name, "retyped", *(_asks(side[name]) for side in (before, after)))
        if name in before and before[name].sql != after[name].sql:
            yield FeatureChange(name, "redefined", before[name].expression, after[name].expression)


def _asks(how: OnDemand) -> str:
    return (
        f"{_REQUEST} with {', '.join(f'{name} {declared.lower()}' for name, declared in how.request.items()) or 'none'}"
    )


def _fields(asks: str | None) -> str:
    return (asks or "").removeprefix(f"{_REQUEST} with ")


def _listed(service: FeatureService) -> tuple[str, ...]:
    """What a service gives, each on-demand feature of its own with what makes it."""
    own = [(f"{service.name}:{one.name}", one.on_demand) for one in service.on_demand]
    return (*service.features, *(f"{name} = {how.expression} ({_asks(how)})" for name, how in own if how))


def _declares(view: FeatureView) -> dict[str, str | None]:
    return {
        "entities": ", ".join(view.join_keys),
        "timestamp": view.timestamp,
        "created_timestamp": view.created_timestamp,
        "available_after": format_duration(view.available_after) if view.available_after else None,
        "ttl": format_duration(view.ttl) if view.ttl else None,
        "online": str(view.online).lower(),
    }


def _features_of(view: FeatureView, names: Mapping[str, Any]) -> list[str]:
    apart = {name.lower() for name in (*view.join_keys, view.timestamp, view.created_timestamp) if name}
    declared_names = {feature.name.lower(): feature.name for feature in view.features}
    return [declared_names.get(name, name) for name in names if name.lower() not in apart]


def _less(names: list[str], others: list[str]) -> list[str]:
    taken = {name.lower() for name in others}
    return [name for name in names if name.lower() not in taken]


def _sorted(features: list[FeatureChange]) -> tuple[FeatureChange, ...]:
    order = ["removed", "added", "retyped", "redefined"]
    return tuple(sorted(features, key=lambda one: (order.index(one.change), one.feature)))
