"""``feature-store diff``: what a change does to features, for people and for CI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from materializer.cli.common import open_store, output_option, print_json, say, store_options
from materializer.printable import clipped

if TYPE_CHECKING:
    from materializer.diff.result import Cause, Dependents, Diff, FeatureChange, Values, ViewChange


@click.command()
@click.argument("old", required=False)
@click.argument("new", required=False)
@click.option("--old-manifest", type=click.Path(path_type=Path), help="A manifest.json or its folder, in place of OLD.")
@click.option("--new-manifest", type=click.Path(path_type=Path), help="A manifest.json or its folder, in place of NEW.")
@click.option("--data", is_flag=True, help="Compare the values too: of two versions, or two manifests' relations.")
@click.option("--sample", type=click.IntRange(min=1), help="Compare the values of this many entities. Default: all.")
@click.option("--fail-on", type=click.Choice(["breaking", "redefined", "any"]), default="breaking", show_default=True,
              help="Exit with 1 where a service breaks; or a feature is made otherwise; or on any change.")  # fmt: skip
@store_options
@output_option
@click.pass_context
def diff(
    context: click.Context,
    old: str | None,
    new: str | None,
    old_manifest: Path | None,
    new_manifest: Path | None,
    data: bool,
    sample: int | None,
    fail_on: str,
    output: str,
    **where: Any,
) -> None:
    """Tell what changed in the feature views from OLD to NEW, and which services it breaks.

    OLD and NEW are versions of a view, manifests (or folders that hold one) or git revisions. Without NEW it is the
    project as it is now (of a view, its latest version); without OLD, the last commit.

    \b
        feature-store diff origin/main
        feature-store diff user_features.v1 user_features.v2 --data
        feature-store diff --old-manifest prod/manifest.json
    """
    if old_manifest and old and not new:
        old, new = None, old  # the one that was left is NEW
    if (old_manifest and old) or (new_manifest and new):
        raise click.UsageError("Name each side once: as OLD or --old-manifest, as NEW or --new-manifest.")
    if sample and not data:
        raise click.UsageError("--sample says how many entities --data compares: add --data.")
    found = open_store(**where).diff(old_manifest or old, new_manifest or new, data=data, sample=sample)
    if output == "json":
        print_json(diff_json(found))
    else:
        for line in lines(found):
            say(line)
    if found.breaking or (fail_on != "breaking" and found.redefined) or (fail_on == "any" and not found.empty):
        context.exit(1)


def diff_json(found: Diff) -> dict[str, Any]:
    """A diff as JSON: the dataclasses field by field, with what happened to a view as a whole."""
    document = asdict(found) | {"breaking": found.breaking, "redefined": found.redefined}
    for view, change in zip(document["views"], found.views, strict=True):
        view["change"] = change.change
    return document


def lines(found: Diff) -> list[str]:
    """A diff for people."""
    said = [f"{found.old} -> {found.new}", ""]
    for view in found.views:
        said += [*_view(view), ""]
    for service in found.services:
        mark = {"added": "+", "removed": "-", "changed": "~"}[service.change]
        said.append(f"{mark} service {service.service}")
        if service.change == "changed":
            said += [f"    - {one}" for one in service.removed] + [f"    + {one}" for one in service.added]
        said.append("")
    said += [f"{move.name} now means {move.new}; before, {move.old}." for move in found.moves]
    if found.empty:
        said.append("Nothing changed in the definitions.")
    said += [f"Note: {note}" for note in found.notes]
    said += [f"Breaks service {one.service}: {one.reference}: {one.reason}." for one in found.breaks]
    if not found.breaks and not found.empty:
        said.append("No service breaks.")
    return said


def _view(view: ViewChange) -> list[str]:
    mark = {"added": "+", "removed": "-", "changed": "~", "same": "="}[view.change]
    name = view.view if view.old == view.new or None in (view.old, view.new) else f"{view.old} -> {view.new}"
    said = [f"{mark} {name}"]
    said += [f"    ~ {one.property}: {one.old or 'none'} -> {one.new or 'none'}" for one in view.properties]
    for one in view.features:
        said += [f"    {line}" for line in _feature(one)]
    if view.rows:
        said.append("    ~ rows changed, and with them all features of the view:")
        said += [f"        - {part}" for part in map(_short, view.rows.removed)]
        said += [f"        + {part}" for part in map(_short, view.rows.added)]
        said += [f"        {_cause(cause)}" for cause in view.rows.causes]
        if not (view.rows.removed or view.rows.added or view.rows.causes):
            said.append("        what it joins, filters or groups by is made otherwise")
    if view.text is not None:
        said.append(f"    ~ SQL changed; which features it touches cannot be told, since {view.text}")
    if view.values:
        said += [f"    {line}" for line in _values(view.values)]
    return said + [f"    {line}" for line in _dependents(view.dependents)]


def _feature(one: FeatureChange) -> list[str]:
    used = f"  ({'; '.join(_dependents(one.dependents))})" if _dependents(one.dependents) else ""
    if one.change in ("added", "removed"):
        type_ = one.new if one.change == "added" else one.old
        return [f"{'+' if one.change == 'added' else '-'} {one.feature}{f' {type_}' if type_ else ''}{used}"]
    if one.change == "retyped":
        return [f"~ {one.feature} retyped: {one.old} -> {one.new}{used}"]
    if one.causes:
        above = ", ".join(dict.fromkeys(cause.model for cause in one.causes))
        return [f"~ {one.feature} redefined upstream in {above}{used}", *(f"    {_cause(one)}" for one in one.causes)]
    if one.old == one.new:
        return [f"~ {one.feature} redefined: {_short(one.old)}, over other rows{used}"]
    return [f"~ {one.feature} redefined{used}", f"    - {_short(one.old)}", f"    + {_short(one.new)}"]


def _cause(cause: Cause) -> str:
    if cause.old is None and cause.new is None:
        return f"{cause.model}: its text changed"
    what = cause.column or "rows"
    return f"{cause.model}: {what}: {_short(cause.old) or 'nothing'} -> {_short(cause.new) or 'nothing'}"


def _dependents(dependents: Dependents) -> list[str]:
    said = []
    if dependents.services:
        said.append(f"used by services: {', '.join(dependents.services)}")
    if dependents.models:
        said.append(f"{'' if said else 'used '}by models: {', '.join(dependents.models)}".strip())
    return said


def _values(values: Values) -> list[str]:
    said = [
        f"values of {values.entities} entities compared; {values.only_old} only before, {values.only_new} only after"
    ]
    for one in values.features:
        if not one.differing:
            continue
        share = one.differing / one.entities
        numbers = f", by at most {one.max_absolute:.6g}" if one.max_absolute is not None else ""
        numbers += f" ({one.max_relative:.2%})" if one.max_relative is not None else ""
        nulls = f"; NULL {one.null_before} -> {one.null_after}" if one.null_before != one.null_after else ""
        said.append(f"    ~ {one.feature}: {one.differing} differ ({share:.2%}){numbers}{nulls}")
        for example in one.examples:
            keys = ", ".join(f"{k}={v}" for k, v in example.items() if k not in ("old_value", "new_value"))
            before, after = ("NULL" if value is None else _short(value) for value in
                             (example["old_value"], example["new_value"]))  # fmt: skip
            said.append(f"        {keys}: {before} -> {after}")
    equal = [one.feature for one in values.features if not one.differing]
    return said + ([f"    equal: {', '.join(equal)}"] if equal else [])


def _short(sql: str | None) -> str:
    return clipped(sql, 200)
