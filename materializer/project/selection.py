"""Which feature views dbt's selection syntax means: ``dbt ls`` decides, in a process of its own.

Only two forms need no dbt, because they cannot mean anything else: ``tag:<name>``, and the bare name of a view.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from materializer.errors import DefinitionError, InputError, NotFoundError, ProjectError
from materializer.project.dbt_process import dbt_command
from materializer.project.definitions import FeatureView, Registry, has_tags
from materializer.project.relation import REFERABLE
from materializer.project.settings import Project

# What depends on another state of the project: that nothing is meant is a good answer there.
_COMPARING = re.compile(r"\b(state|result|source_status):")


@dataclass(frozen=True)
class Selection:
    """What dbt calls a selection; each word of `select` and `exclude` is in dbt's node selection syntax.

    `selector` names one of ``selectors.yml``; `state` is the folder of the manifest that ``state:`` compares with.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: str = ""
    state: str | None = None

    @classmethod
    def of(
        cls,
        select: Sequence[str] | str | None,
        exclude: Sequence[str] | str | None,
        selector: str | None,
        state: str | os.PathLike[str] | None,
    ) -> Selection:
        """A selection as dbt takes it: ``"tag:a +b"``, or a list of such texts."""
        return cls(_words(select), _words(exclude), " ".join(_words(selector)), os.fspath(state) if state else None)

    def __bool__(self) -> bool:
        return bool(self.select or self.exclude or self.selector)


def _words(text: str | Sequence[str] | None) -> tuple[str, ...]:
    texts = [text] if isinstance(text, str) else text or ()
    found = tuple(word for one in texts for word in one.split())
    if texts and not found:
        raise InputError("The selection is empty: leave it out for every view, or write for example tag:nightly.")
    return found


def chosen_views(
    project: Project,
    manifest: Mapping[str, Any],
    registry: Registry,
    names: Sequence[str],
    tags: Sequence[str],
    selection: Selection,
) -> list[FeatureView]:
    """The views named, tagged or selected, each once; every online view where none is.

    Raises:
        NotFoundError, DefinitionError, InputError, ProjectError: as `select_views` and `selected_views`.
    """
    if not selection:
        return select_views(registry, names, tags)
    if (names or tags) and not (selection.select or selection.selector):
        raise InputError(
            "`exclude` takes away from what `select` or `selector` selects: put the views named there, too."
        )
    selected = selected_views(project, manifest, registry, selection)
    named = select_views(registry, names, tags) if names or tags else []
    return list({view.reference: view for view in [*named, *selected]}.values())


def select_views(registry: Registry, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[FeatureView]:
    """The views to materialize: those named, with one of the tags (``team``, ``team=growth``), or every online view.

    Raises:
        NotFoundError: for a name that is no view, or tags that no online view has.
        DefinitionError: for a view that says ``online: false``.
    """
    chosen = {}
    for name in names:
        view = registry.view(name)
        if not view.online:
            raise DefinitionError(f"Feature view '{name}' says `online: false`, so it is not materialized.")
        chosen[view.reference] = view
    online = [view for view in registry.all_views() if view.online]
    for tag in tags:
        tagged = {view.reference: view for view in online if has_tags(view.tags, tag)}
        if not tagged:
            known = sorted({tag for view in online for tag in view.tags})
            raise NotFoundError(f"No online feature view has the tag '{tag}'; there are: {', '.join(known) or 'none'}.")
        chosen |= tagged
    return list(chosen.values()) if names or tags else online


def selected_views(
    project: Project,
    manifest: Mapping[str, Any],
    registry: Registry,
    selection: Selection,
) -> list[FeatureView]:
    """The online feature views that a selection means; none where it compares states and nothing differs.

    Raises:
        NotFoundError: where a word of it means nothing, or none of what it means is an online feature view.
        InputError: where dbt does not understand it.
        ProjectError: where there is no dbt to ask, or it cannot read the project.
    """
    chosen: dict[str, FeatureView] = {}
    if not (selection.exclude or selection.selector) and all(
        _is_plain(w, manifest, registry) for w in selection.select
    ):
        for word in selection.select:
            names, tags = ([], [word[4:]]) if word.startswith("tag:") else ([word], [])
            chosen |= {view.reference: view for view in select_views(registry, names, tags)}
        return list(chosen.values())
    ids = _ids(project, selection)
    chosen = {view.reference: view for view in registry.all_views() if view.online and view.unique_id in ids}
    if not chosen and not _COMPARING.search(" ".join(selection.select)) and not selection.selector:
        known = ", ".join(view.reference for view in registry.all_views() if view.online) or "none"
        raise NotFoundError(f"The selection holds no online feature view; there are: {known}.")
    return list(chosen.values())


def _is_plain(word: str, manifest: Mapping[str, Any], registry: Registry) -> bool:
    if re.fullmatch(r"tag:[\w=-]+", word):
        return True
    view = registry.views.get(word)
    if view is None or view.version is not None or not view.online:
        return False
    # dbt takes a name for a folder and a package too.
    return not any(word in (node.get("fqn") or ())[:-1] for node in manifest["nodes"].values())


def _ids(project: Project, selection: Selection) -> set[str]:
    """The unique ids of the models, snapshots and seeds that dbt selects."""
    # Neither its log nor target/ is touched: a manifest without compiled SQL would take the last build's place.
    command = [
        *dbt_command(), "--no-write-json", "--log-format", "json", "--log-level", "info", "--log-level-file", "none",
        "ls", "--output", "json", "--output-keys", "unique_id", "--resource-type", *REFERABLE,
    ]  # fmt: skip
    command += ["--project-dir", str(project.folder), "--profiles-dir", str(project.profiles_path.resolve().parent)]
    if project.target != project.default_target:
        # Only where it has to be: dbt parses everything anew after a build that was run without it.
        command += ["--target", project.target]
    if project.variables:
        command += ["--vars", json.dumps(dict(project.variables))]
    if selection.select:
        command += ["--select", *selection.select]
    if selection.exclude:
        command += ["--exclude", *selection.exclude]
    if selection.selector:
        command += ["--selector", selection.selector]
    if selection.state:
        command += ["--state", str(Path(selection.state).expanduser().resolve())]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise ProjectError(f"{command[0]} cannot be run: {error.strerror}.") from None
    events = list(filter(None, map(_event, done.stdout.splitlines())))
    if done.returncode != 0:
        said = [event["msg"] for event in events if event["level"] == "error"]
        said = said or done.stderr.strip().splitlines() or ["it did not say why"]
        raise InputError(f"dbt cannot resolve the selection: {_sentence(said[-1])}")
    # The parts of a selection that have to mean something.
    criteria = {part for word in selection.select for part in word.split(",") if not _COMPARING.search(part)}
    for event in events:
        word = event["data"].get("spec_raw")
        if event["name"] == "NoNodesForSelectionCriteria" and word in criteria:
            raise NotFoundError(f"The selection names '{word}', which no model of the project is: `dbt ls` shows all.")
    return {
        json.loads(event["msg"])["unique_id"]
        for event in events
        if event["name"] == "PrintEvent" and event["msg"].startswith('{"unique_id"')
    }


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        return {"data": event["data"], **event["info"]}
    except (ValueError, KeyError, TypeError):
        return None


def _sentence(text: str) -> str:
    text = re.sub(r"^(Encountered an error:|Runtime Error|Compilation Error|Parsing Error)\s*", "", text.strip())
    text = " ".join(re.sub(r"^(Runtime|Compilation|Parsing) Error\s*", "", text).split()).rstrip(".")
    if "comparison manifest" in text:
        text += " (--state names the folder of the manifest to compare with)"
    return f"{text}."
