"""What changed in feature views between two versions, two manifests or two git revisions, and whom it touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from materializer.diff.result import Diff, Move, ViewChange
from materializer.diff.sides import Now, Revision, Side, declared_views, last_commit, read_sides, spec_of
from materializer.diff.values import compare_values
from materializer.diff.views import (
    Declared,
    ViewComparison,
    broken_by_moving,
    broken_services,
    changed_services,
    declared,
    dependents,
)
from materializer.errors import FeatureStoreError, InputError, WarehouseError
from materializer.project.definitions import FeatureView
from materializer.project.manifest import load_manifest
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.warehouse import open_warehouse

__all__ = ["Diff", "diff"]


def diff(
    project: Project,
    old: str | Path | FeatureView | None,
    new: str | Path | FeatureView | None = None,
    *,
    data: bool = False,
    sample: int | None = None,
) -> Diff:
    """See `materializer.FeatureStore.diff`."""
    views = declared_views(project)
    first = last_commit(project) if old is None else spec_of(project, old, views)
    second = spec_of(project, new, views) if new is not None else None
    if isinstance(first, FeatureView):
        if second is None:
            second = views[first.name]
        if not isinstance(second, FeatureView):
            raise InputError(
                f"'{old}' is a feature view: it can only be compared with another, as in user_features.v2."
            )
        return _diff_versions(project, first.reference, second.reference, data, sample)
    if isinstance(second, FeatureView):
        raise InputError(f"'{new}' is a feature view: it can only be compared with another, as in user_features.v1.")
    if second is None:
        second = Now.FILES if isinstance(first, Revision) else Now.MANIFEST
    if data and not (isinstance(first, Path) and (isinstance(second, Path) or second is Now.MANIFEST)):
        raise InputError(
            "Values can only be compared where both sides are built: between two versions of a view, or two manifests."
        )
    sides = list(map(declared, read_sides(project, first, second)))
    found = _diff_manifests(*sides)
    return _with_values(project, found, *sides, sample) if data else found


def _diff_versions(project: Project, old: str, new: str, data: bool, sample: int | None) -> Diff:
    """Two views of the project itself, with their columns as the warehouse has them."""
    if old == new:
        raise InputError(f"'{old}' is the latest version already: name another one to compare it with.")
    manifest = load_manifest(project)
    registry = declared(Side("the project", manifest, {})).registry
    pair = registry.view(old), registry.view(new)
    columns, notes = _built_columns(project, pair)
    side = declared(Side("the project", manifest, columns))
    views = ViewComparison(side, side, built=True)
    change = _with_dependents(views.compare(*pair), side, side, *pair)
    if data:
        nodes = [manifest["nodes"][view.unique_id] for view in pair]
        try:
            with open_warehouse(project) as warehouse:
                change = replace(change, values=compare_values(warehouse, manifest, nodes[0], nodes[1], sample))
        except InputError as error:
            notes.append(f"The values were not compared. {error}")
    breaks = tuple(broken_by_moving(views, *pair))
    return Diff(old, new, (change,), breaks=breaks, notes=(*notes, *views.models.notes))


def _diff_manifests(old: Declared, new: Declared) -> Diff:
    views = ViewComparison(old, new)
    changes = []
    for before, after in _pairs(old, new):
        if before is None or after is None:
            change = ViewChange(
                (after or before).reference, before and before.reference, after and after.reference
            )  # fmt: skip
        else:
            change = views.compare(before, after)
        if change.change != "same":
            changes.append(_with_dependents(change, old, new, before, after))
    notes = (*old.side.notes, *new.side.notes, *views.models.notes)
    services, breaks = tuple(changed_services(views)), tuple(broken_services(views))
    return Diff(old.side.name, new.side.name, tuple(changes), services, tuple(_moves(old, new)), breaks, notes)


def _pairs(old: Declared, new: Declared) -> Iterator[tuple[FeatureView | None, FeatureView | None]]:
    """Views by reference; one that got versions, or lost them, goes with what its bare name means on the other side."""
    before = {view.reference: view for view in old.registry.all_views()}
    after = {view.reference: view for view in new.registry.all_views()}
    paired: dict[str, str] = {reference: reference for reference in before if reference in after}
    for reference, view in before.items():
        other = new.registry.views.get(view.name)
        bare = other is not None and (view.version is None or (view.latest and other.version is None))
        if reference not in paired and bare and other.reference not in paired.values():
            paired[reference] = other.reference
    for reference in sorted({*before, *after} - set(paired.values())):
        yield before.get(reference), after.get(paired.get(reference, reference))
    for reference, other in sorted(paired.items()):
        if reference == other:
            yield before[reference], after[other]


def _moves(old: Declared, new: Declared) -> Iterator[Move]:
    for name, view in sorted(new.registry.views.items()):
        before = old.registry.views.get(name)
        if before is not None and name == view.name and before.reference != view.reference:
            yield Move(name, before.reference, view.reference)


def _with_dependents(
    change: ViewChange, old: Declared, new: Declared, before: FeatureView | None, after: FeatureView | None
) -> ViewChange:
    """With what depends on the view and its changed features: on removed ones as it was before, on others as it is."""
    first = (old, before) if before is not None else (new, after)
    last = (new, after) if after is not None else (old, before)
    features = tuple(
        replace(one, dependents=dependents(*(first if one.change == "removed" else last), one.feature))
        for one in change.features
    )
    return replace(change, features=features, dependents=dependents(*(first if old is new else last)))


def _built_columns(
    project: Project, views: tuple[FeatureView, ...]
) -> tuple[dict[str, dict[str, str]], list[str]]:  # fmt: skip
    """The columns that views have in the warehouse, as far as it answers and they are built."""
    columns: dict[str, dict[str, str]] = {}
    try:
        with open_warehouse(project) as warehouse:
            for view in views:
                found = {column.name: column.dtype for column in warehouse.columns(Relation(view.relation))}
                if found:
                    columns[view.unique_id] = found
    except WarehouseError as error:
        return {}, [f"Types are as far as the manifest tells them. {error}"]
    unbuilt = [view.reference for view in views if view.unique_id not in columns]
    return columns, [f"{name} is not built: its types are as far as the manifest tells them." for name in unbuilt]


def _with_values(project: Project, found: Diff, old: Declared, new: Declared, sample: int | None) -> Diff:
    """With the values of every view that both manifests have, in relations of its own, in the project's warehouse."""
    changes = {(change.old, change.new): change for change in found.views}
    notes = list(found.notes)
    with open_warehouse(project) as warehouse:
        for before, after in _pairs(old, new):
            if before is None or after is None:
                continue
            nodes = old.side.manifest["nodes"][before.unique_id], new.side.manifest["nodes"][after.unique_id]
            if before.relation == after.relation:
                notes.append(
                    f"{after.reference}: both manifests name the same relation, so its values were not compared."
                )
                continue
            key = before.reference, after.reference
            try:
                values = compare_values(warehouse, new.side.manifest, *nodes, sample, foreign=True)
            except FeatureStoreError as error:
                notes.append(f"{after.reference}: its values were not compared. {error}")
                continue
            if key in changes or values.differ:
                change = changes.get(key) or ViewChange(after.reference, *key)
                changes[key] = replace(change, values=values)
    return replace(found, views=tuple(changes.values()), notes=tuple(notes))
