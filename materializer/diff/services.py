"""Feature services on two sides: which lists changed, and which services a change breaks."""

from __future__ import annotations

from collections.abc import Iterator

from materializer.diff.result import Break, ServiceChange, ViewChange
from materializer.diff.views import ViewComparison
from materializer.project.definitions import FeatureView


def changed_services(views: ViewComparison) -> Iterator[ServiceChange]:
    """Services that came, went, or list other features."""
    old, new = views.old.registry.services, views.new.registry.services
    for name in sorted({*old, *new}):
        before = old[name].features if name in old else ()
        after = new[name].features if name in new else ()
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
