"""The leakage guard: what in a view's SQL makes a feature depend on the moment of the run, or on the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from materializer.errors import ProjectError
from materializer.lint.calls import calls_without_load_time
from materializer.lint.duplicates import duplicates, place_of
from materializer.lint.sql import Spot, check_model, check_output
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.manifest import read_registry


@dataclass(frozen=True)
class Finding:
    """One thing to mend, in a view or service. `line` and `column` count from 1, in `file` of the dbt project."""

    rule: str
    severity: str
    view: str
    file: str
    line: int
    column: int
    message: str


def lint(manifest: Mapping[str, Any], views: Sequence[FeatureView], folder: Path) -> list[Finding]:
    """Check feature views, and every model of the project in `folder` that they are made from.

    A model that several views use is reported once, under the first. What the package's own macros wrote
    (CTEs whose names begin with ``_fs_``) is taken as right.

    Raises:
        ProjectError: where a model was not compiled.
    """
    graph = Graph(manifest)
    findings: dict[tuple[str, str, int, int, str], Finding] = {}
    checked: dict[str, list[Spot]] = {}
    for view in views:
        for model in graph.upstream_models(view.unique_id):
            if not model.get("compiled_code"):
                raise ProjectError(
                    f"There is no compiled SQL of model '{model['name']}': run `dbt build` or `dbt compile`."
                )
            if model["unique_id"] not in checked:
                checked[model["unique_id"]] = check_model(model, graph)
            spots = list(checked[model["unique_id"]])
            if not view.available_after:  # which says by how much everything may be late
                spots += calls_without_load_time(model, graph)
            if model["unique_id"] == view.unique_id:
                spots += check_output(model, view, graph) + _undocumented(model, view)
            for spot in spots:
                finding = _finding(spot, model, view, folder)
                key = (finding.rule, finding.file, finding.line, finding.column, finding.message)
                findings.setdefault(key, finding)
    for finding in _duplicates(manifest, graph, views, folder):
        findings[finding.rule, finding.file, finding.line, finding.column, finding.message] = finding
    return sorted(findings.values(), key=lambda f: (f.view, f.file, f.line, f.column, f.rule))


def broken(manifest: Mapping[str, Any], services: Mapping[str, str]) -> list[Finding]:
    """Services that name what there is not, by the sentence that says what."""
    files = {
        exposure["name"]: exposure.get("original_file_path") or ""
        for exposure in (manifest.get("exposures") or {}).values()
    }
    return [Finding("service", "error", name, files.get(name, ""), 1, 1, services[name]) for name in services]


def _duplicates(
    manifest: Mapping[str, Any], graph: Graph, views: Sequence[FeatureView], folder: Path
) -> Iterator[Finding]:
    """Features that two views compute alike, of which at least one was asked for."""
    for (view, feature), (other, same) in duplicates(graph, read_registry(manifest).all_views(), views):
        model = graph.nodes[view.unique_id]
        file, token = place_of(feature, model)
        message = (
            f"Feature '{view.reference}:{feature}' computes the same as '{other.reference}:{same}': keep one of "
            "them, and read it from there."
        )
        yield _finding(Spot("duplicate", "warning", 1, 1, message, file, token), model, view, folder)


def _undocumented(model: Mapping[str, Any], view: FeatureView) -> list[Spot]:
    """Features that no properties file describes or types. Only declared columns can say either."""
    file = (model.get("patch_path") or model["original_file_path"]).split("://")[-1]
    spots = []
    if not model["columns"]:
        spots.append(Spot("undocumented", "warning", 1, 1, f"View '{view.reference}' declares no columns: list its "
                          "features under `columns:` with a description and a data_type.", file))  # fmt: skip
    apart = {name.lower() for name in (*view.join_keys, view.timestamp, view.created_timestamp) if name}
    for name, column in model["columns"].items():
        missing = [word for word in ("description", "data_type") if not column.get(word)]
        if name.lower() not in apart and missing:
            spots.append(Spot("undocumented", "warning", 1, 1, f"Feature '{view.reference}:{name}' has no "
                              f"{' and no '.join(missing)}: add it under `columns:`.", file, name))  # fmt: skip
    return spots


def _finding(spot: Spot, model: Mapping[str, Any], view: FeatureView, folder: Path) -> Finding:
    file, line, column = spot.file, spot.line, spot.column
    if file is None:
        file, line, column = _in_source(spot, model)
    elif spot.token:
        line, column = _in_properties(folder, file, model, spot.token)
    return Finding(spot.rule, spot.severity, view.reference, file, line, column, spot.message)


def _in_source(spot: Spot, model: Mapping[str, Any]) -> tuple[str, int, int]:
    """Where the compiled text stands in the model's own file; the compiled file where a macro wrote it.

    The n-th occurrence of a word in the compiled SQL is the n-th in the source, if both have it as often.
    """
    raw, compiled = model["raw_code"].lower(), model["compiled_code"].lower()
    lines = compiled.splitlines()
    at = sum(len(line) + 1 for line in lines[: spot.line - 1]) + spot.column - 1
    word = (spot.token or "").lower()
    if word and raw.count(word) == compiled.count(word):
        nth = compiled[:at].count(word)
        place = -1
        for _ in range(nth + 1):
            place = raw.find(word, place + 1)
        if place >= 0:
            before = raw[:place]
            return model["original_file_path"], before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1
    return model.get("compiled_path") or model["original_file_path"], spot.line, spot.column


def _in_properties(folder: Path, file: str, model: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Where a properties file of the project names a column of the model."""
    try:
        path = (folder / file).resolve()
        lines = path.read_text().splitlines() if path.is_relative_to(folder.resolve()) and path.is_file() else []
    except (OSError, ValueError):
        return 1, 1
    seen_model = False
    for number, line in enumerate(lines, 1):
        words = line.replace("{", " ").replace(",", " ").split()
        if "name:" in words:
            named = words[words.index("name:") + 1 : words.index("name:") + 2]
            seen_model = seen_model or named == [model["name"]]
            if seen_model and named == [name]:
                return number, line.index("name:") + 1
    return 1, 1
