"""The leakage guard: what in a view's SQL makes a feature depend on the moment of the run, or on the future."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from materializer.errors import ProjectError
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.manifest import read_registry
from materializer.sql.leakage import Checked, Spot, check
from materializer.sql.meaning import UNKNOWN, Column, UnreadableError
from materializer.sql.reader import Reader
from materializer.sql.signature import Followed

# A feature by its view and name.
Named = tuple[FeatureView, str]


@dataclass(frozen=True)
class Finding:
    """One thing to mend, in a view or service. `line` and `column` count from 1, in `file` of the dbt project. Where it
    is about one feature, `feature` is its reference; `other` is that of the one that computes the same."""

    rule: str
    severity: str
    view: str
    file: str
    line: int
    column: int
    message: str
    feature: str | None = None
    other: str | None = None


def lint(
    manifest: Mapping[str, Any],
    views: Sequence[FeatureView],
    folder: Path,
    duplicates: bool = True,
    checked: Mapping[str, Checked] | None = None,
) -> list[Finding]:
    """Check feature views, and every model of the project in `folder` that they are made from; with `duplicates`,
    compare their features with each other and with those of all other views.

    A model that several views use is reported once, under the first. What the package's own macros wrote
    (CTEs whose names begin with ``_fs_``) is taken as right. `checked` is what was found in each model, where they were
    all read already.

    Raises:
        ProjectError: where a model was not compiled.
    """
    graph = Graph(manifest)
    reader, places = Reader(graph), _Properties(folder)
    if checked is None:
        checked = _check_all(reader, views)
    findings: list[Finding] = []
    for view, model in _first_users(graph, views):
        found = checked.get(model["unique_id"])
        findings += [_finding(spot, model, view, places) for spot in found.model] if found else []
    for view, model in _first_users(graph, [view for view in views if not view.available_after]):
        found = checked.get(model["unique_id"])
        findings += [_finding(spot, model, view, places) for spot in found.load_time] if found else []
    for view in views:
        model, found = graph.nodes[view.unique_id], checked.get(view.unique_id)
        spots = [*(found.output if found else ()), *(_undocumented(model, view) if _is_own(model, graph) else ())]
        findings += [_finding(spot, model, view, places) for spot in spots]
    if duplicates:
        findings += _duplicates(reader, read_registry(manifest, {}).all_views(), views, places)
    first = {(f.rule, f.file, f.line, f.column, f.message): f for f in reversed(findings)}
    return sorted(first.values(), key=lambda f: (f.view, f.file, f.line, f.column, f.rule))


def _check_all(reader: Reader, views: Sequence[FeatureView]) -> dict[str, Checked]:
    own = {view.unique_id: view for view in views}
    checked = {}
    for _, model in _first_users(reader.graph, views):
        if not model.get("compiled_code"):
            raise ProjectError(
                f"There is no compiled SQL of model '{model['name']}': run `dbt build` or `dbt compile`."
            )
        unique_id = model["unique_id"]
        checked[unique_id] = check(reader.node(unique_id), reader.graph, own.get(unique_id))
    return checked


def _first_users(graph: Graph, views: Sequence[FeatureView]) -> Iterator[tuple[FeatureView, Mapping[str, Any]]]:
    """Every SQL model of the project that the views are made from, once, with the first of them that is."""
    seen: set[str] = set()
    for view in views:
        waiting = deque([graph.nodes[view.unique_id]])
        while waiting:
            node = waiting.popleft()
            if node["unique_id"] in seen:
                continue
            seen.add(node["unique_id"])
            waiting += graph.parents(node)
            if _is_own(node, graph):
                yield view, node


def _is_own(node: Mapping[str, Any], graph: Graph) -> bool:
    """Whether a node is a SQL model of the project itself."""
    return (
        node["resource_type"] == "model"
        and node.get("language", "sql") == "sql"
        and node["package_name"] == graph.project
    )


def broken(manifest: Mapping[str, Any], services: Mapping[str, str]) -> list[Finding]:
    """Services that name what there is not, by the sentence that says what."""
    files = {
        exposure["name"]: exposure.get("original_file_path") or ""
        for exposure in (manifest.get("exposures") or {}).values()
    }
    return [Finding("service", "error", name, files.get(name, ""), 1, 1, services[name]) for name in services]


def _duplicates(
    reader: Reader, views: Sequence[FeatureView], chosen: Sequence[FeatureView], places: _Properties
) -> Iterator[Finding]:
    """Features that two views compute alike, of which at least one was asked for: which of them is right, once one is
    changed? Of two chosen views the later one is reported.

    They are the same where their expressions are, followed down to source columns, over the same rows, for the same
    entities, with event times from the same columns. Versions of one view are not compared with each other, nor are
    constants.
    """
    names, followed = {view.unique_id for view in chosen}, Followed(reader)
    alike: dict[object, Named] = {}
    for view in sorted(
        _comparable(reader.graph, views, names), key=lambda one: (one.unique_id in names, one.reference)
    ):
        for feature, signature in _signatures(followed, reader, view):
            other, same = alike.setdefault(signature, (view, feature))
            if other.name != view.name and view.unique_id in names:
                model = reader.graph.nodes[view.unique_id]
                file, token = _declared(feature, model)
                message = (
                    f"Feature '{view.reference}:{feature}' computes the same as '{other.reference}:{same}': keep one "
                    "of them, and read it from there."
                )
                found = _finding(Spot("duplicate", "warning", 1, 1, message, file, token), model, view, places)
                yield replace(found, feature=f"{view.reference}:{feature}", other=f"{other.reference}:{same}")


def _comparable(graph: Graph, views: Sequence[FeatureView], names: set[str]) -> list[FeatureView]:
    """The views that are made from the very sources that another one is made from, one of both being asked for.

    Others cannot be over the same rows, and a large project's SQL takes a while to read.
    """
    groups: dict[frozenset[str], list[FeatureView]] = {}
    for view in views:
        above = [node for node in graph.above(graph.nodes[view.unique_id]) if not graph.parents(node)]
        groups.setdefault(frozenset(str(node["unique_id"]) for node in above), []).append(view)
    several = [same for same in groups.values() if len({view.name for view in same}) > 1]
    return [view for same in several if any(one.unique_id in names for one in same) for view in same]


def _signatures(followed: Followed, reader: Reader, view: FeatureView) -> Iterator[tuple[str, object]]:
    """The features of a view that can be followed: what each computes, over which rows, for which keys and times."""
    node = reader.node(view.unique_id)
    try:
        query = followed.query(view.unique_id) if node.scope is not None else None
    except UnreadableError:
        return

    def known(name: str) -> Column | None:
        column = query.columns.get(name.lower())
        return column if column is not None and all(relation != UNKNOWN for relation, _ in column.reads) else None

    times = [name for name in (view.timestamp, view.created_timestamp) if name]
    if query is None or any(relation == UNKNOWN for relation, _ in query.row_reads):
        return
    keys, moments = [known(name) for name in view.join_keys], [known(name) for name in times]
    if all(keys) and all(moments):
        about = query.events, frozenset(key.exact for key in keys), tuple(moment.reads for moment in moments)
        apart = {name.lower() for name in (*view.join_keys, *times)}
        for folded in query.columns:
            column = known(folded)
            if folded not in apart and column is not None and not column.is_constant:
                yield node.columns[folded], (column.exact, *about)


def _declared(feature: str, model: Mapping[str, Any]) -> tuple[str, str | None]:
    """The file that a finding about a feature points at, and the word in it: its declaration, else the model's file."""
    if model.get("patch_path") and feature.lower() in {name.lower() for name in model.get("columns") or ()}:
        return str(model["patch_path"]).split("://")[-1], feature
    return str(model["original_file_path"]), None


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


def _finding(spot: Spot, model: Mapping[str, Any], view: FeatureView, places: _Properties) -> Finding:
    file, line, column = spot.file, spot.line, spot.column
    if file is None:
        file, line, column = _in_source(spot, model)
    elif spot.token:
        line, column = places.of(file, model["name"], spot.token)
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


class _Properties:
    """Where properties files of the project in `folder` name models and their columns; each is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._files: dict[str, dict[str, list[tuple[int, int]]]] = {}

    def of(self, file: str, model: str, name: str) -> tuple[int, int]:
        """The line and column where a name stands, behind the model's."""
        if file not in self._files:
            self._files[file] = self._read(file)
        named = self._files[file]
        begin = named.get(model, [(0, 0)])[0]
        after = [place for place in named.get(name, ()) if place >= begin]
        return after[0] if model in named and after else (1, 1)

    def _read(self, file: str) -> dict[str, list[tuple[int, int]]]:
        """The places of all that is named in a file, in order."""
        named: dict[str, list[tuple[int, int]]] = {}
        try:
            path = (self._folder / file).resolve()
            lines = path.read_text().splitlines() if path.is_relative_to(self._folder) and path.is_file() else []
        except (OSError, ValueError):
            return named
        for number, line in enumerate(lines, 1):
            words = line.replace("{", " ").replace(",", " ").split()
            if "name:" in words and words.index("name:") + 1 < len(words):
                name = words[words.index("name:") + 1]
                named.setdefault(name, []).append((number, line.index("name:") + 1))
        return named
