"""Whether everything is in place: project, dbt package, manifest, warehouse, views, services and Redis."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from materializer.catalog import streams
from materializer.errors import FeatureStoreError
from materializer.materialize.log import read_log
from materializer.materialize.plan import check_storable
from materializer.materialize.state import SETTING, state_folder
from materializer.online import health
from materializer.online.connect import connect, plain_errors
from materializer.online.published import published_view, read_from_elsewhere, read_published
from materializer.online.topology import OnlineStore
from materializer.online.urls import private_url, redis_url
from materializer.printable import number_of
from materializer.project import dbt_package
from materializer.project.compiled import with_compiled
from materializer.project.definitions import FeatureView, Registry
from materializer.project.duration import format_age, parse_duration
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.project.storage import Remote
from materializer.warehouse import Warehouse, open_warehouse, quoted
from materializer.warehouse.typed import broken_services, with_columns

# What the window macros write: their first line, the CTE that reads the events, and the lengths of the windows.
_CALL = re.compile(
    r"^\s*-- shape (?P<shape>dense|range): .*?"
    r"^(?P<indent> *)_fs_(?:source|events) as \(\n(?P<events>.*?)\n(?P=indent)\)",
    re.MULTILINE | re.DOTALL,
)
_LENGTH = re.compile(r" over (\d+ [a-z]+)(?: (?:up to|before) \".*\")?(?:, known from \".*\")? \*/")
# Below, `range` is cheaper; the time is worth a word only where there are many events.
SPARSE, MANY = 10, 1_000_000
# Above, the range join costs about ten times as much.
CROWDED = 500


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `message` says what was found, or what to do."""

    check: str
    ok: bool
    warning: bool
    message: str


# What a look says; with True beside it, it is a warning.
_Said = str | tuple[str, bool]


def doctor(find_project: Callable[[], Project], url: str | None, namespace: str | None) -> list[Check]:
    """Look at everything that `find_project`, the Redis `url` (default the usual one) and `namespace` lead to.

    What cannot be reached is a check that failed, and what depends on it is left out.
    """
    checks = _Checks()
    project = checks.look("project", find_project, _project)
    registry = None
    if project:
        checks.look("dbt package", lambda: _package(project))
        registry = checks.look("manifest", lambda: read_registry(load_manifest(project)), _declared)
    if project and registry and checks.look("warehouse", lambda: _warehouse(project)):
        typed: list[FeatureView] = []
        for view in registry.all_views():
            checks.look(f"view {view.reference}", lambda view=view: _view(project, view, typed))
        checks.found += [Check(f"windows of {model}", True, True, hint) for model, hint in _window_hints(project)]
        for name, sentence in broken_services(registry, typed).items():
            checks.found.append(Check(f"service {name}", False, False, sentence))
    url = redis_url(url, project.folder if project else None)
    private = ", this project's private one" if project and url == private_url(project.folder) else ""
    if checks.look("redis", lambda: _redis(url, health.topology) + private):
        checks.look("redis eviction", lambda: _redis(url, lambda store, _: health.eviction(store)))
        checks.look("redis persistence", lambda: _redis(url, lambda store, _: health.persistence(store)))
        if project:
            checks.look("online", lambda: _online(url, namespace or project.namespace, project, registry))
            if project and registry and (sources := streams.sources(project)):
                checks.look("stream", lambda: streams.process(url, namespace or project.namespace))
                checks.look("dead letters", lambda: streams.dead_letters(project, sources))
    if project and registry and checks.look("memory", lambda: _memory(project, namespace or project.namespace)):
        checks.look("runs", lambda: _runs(project, namespace or project.namespace))
    return checks.found


class _Checks:
    def __init__(self) -> None:
        self.found: list[Check] = []

    def look(self, name: str, work: Callable[[], Any], words: Callable[[Any], _Said] | None = None) -> Any:
        """Note what `words` say of what `work` gives; None where it fails."""
        try:
            result = work()
            said = words(result) if words else result
            message, warning = said if isinstance(said, tuple) else (str(said), False)
            self.found.append(Check(name, True, warning, message))
        except FeatureStoreError as error:
            self.found.append(Check(name, False, False, str(error)))
            return None
        return result


def _project(project: Project) -> _Said:
    said = f"{project.name}, target {project.target}, in {project.folder}"
    return ". ".join((said, *project.notes)), bool(project.notes)


def _package(project: Project) -> _Said:
    copy = dbt_package.copied_files(project.folder)
    if copy and copy != dbt_package.package_files():
        return "the copy in the project is of another release: run `feature-store init` and `dbt deps` there", True
    return "of this release" if copy else "not copied into the project"


def _declared(registry: Registry) -> str:
    views, services = len(registry.all_views()), len(registry.services)
    return f"{number_of(views, 'feature view')}, {number_of(services, 'feature service')}"


def _warehouse(project: Project) -> str:
    with open_warehouse(project) as warehouse:
        return f"{warehouse.dialect} {warehouse.version} opens ({warehouse.place})"


def _window_hints(project: Project) -> list[tuple[str, str]]:
    manifest = with_compiled(project, load_manifest(project))
    with open_warehouse(project) as warehouse:
        return list(window_hints(manifest["nodes"], warehouse))


def _view(project: Project, view: FeatureView, typed: list[FeatureView]) -> str:
    with open_warehouse(project) as warehouse:
        view = with_columns(view, warehouse)
    typed.append(view)
    if view.online:
        check_storable(view)
    return f"{number_of(len(view.features), 'feature')} by {', '.join(view.join_keys)}"


def _redis(url: str, look: Callable[[OnlineStore, str], Any]) -> Any:
    with plain_errors(url):
        return look(connect(url), url)


def _online(url: str, namespace: str, project: Project, registry: Registry | None) -> _Said:
    with plain_errors(url):
        client = connect(url)
        published = read_published(client, namespace).registry
        views = published.all_views()
        if not views:
            return f"nothing is published in namespace {namespace} yet: run `materialize`"
        said = f"{number_of(len(views), 'feature view')} published in namespace {namespace}"
        if registry is None:
            return said
        with open_warehouse(project) as warehouse:
            place = warehouse.place
        for view in registry.all_views():
            known = published_view(client, namespace, view.reference)
            elsewhere = known and read_from_elsewhere(view.reference, known.read_from, f"{view.relation} of {place}")
            if elsewhere:
                return f"{said}. {elsewhere}", True
    return said


def _memory(project: Project, namespace: str) -> _Said:
    """Where runs are remembered, and whether they can be."""
    state = state_folder(project)
    said = f"runs are remembered in {state}" + (f" (by {SETTING})" if os.environ.get(SETTING) else "")
    try:
        if isinstance(state, Remote):
            read_log(state, namespace)
        else:
            there = next(folder for folder in (state, *state.parents) if folder.exists())
            if not os.access(there, os.W_OK):
                raise PermissionError(errno.EACCES, f"{there} is not writable")
    except OSError as error:
        return f"{said}, which cannot be: {error.strerror or error}. Every run sends all rows until then", True
    return said


def _runs(project: Project, namespace: str) -> _Said:
    """The last run of each view, by the materialization log."""
    try:
        entries = read_log(state_folder(project), namespace)
    except OSError as error:
        return f"what they did cannot be read: {error.strerror or error}", True
    last = {entry["view"]: entry for entry in entries}
    if not last:
        return "none is known of here"
    now = datetime.now(timezone.utc)
    said = []
    for view, entry in sorted(last.items()):
        age = format_age(now - datetime.fromisoformat(entry["at"]))
        outcome = f"failed ({entry['error']})" if entry["error"] else f"{entry['rows_written']:,} written"
        said.append(f"{view} {age} ago, {outcome}")
    failed = sum(1 for entry in entries if entry["error"])
    text = "; ".join(said) + (f" ({failed} of {len(entries)} runs failed)" if failed else "")
    return text, any(entry["error"] for entry in last.values())


def window_hints(nodes: Mapping[str, Mapping[str, Any]], warehouse: Warehouse) -> Iterator[tuple[str, str]]:
    """(model, sentence) for each compiled model whose windows another `shape` would make cheaper, on DuckDB, where that
    was measured.

    Reads the keys and times of all their events; what cannot be read gets no hint.
    """
    if warehouse.dialect != "duckdb":
        return
    densities: dict[str, tuple[int, float] | None] = {}
    for node in nodes.values():
        for call in _CALL.finditer(node.get("compiled_code") or "" if node.get("resource_type") == "model" else ""):
            lengths = _LENGTH.findall(call.string[call.end() :])
            longest = max((parse_duration(length, "a window") for length in lengths), default=None)
            if longest is None:
                continue
            asked = f"{longest} {call['events']}"
            if asked not in densities:
                densities[asked] = _density(call["events"], longest.total_seconds(), warehouse)
            rows, held = densities[asked] or (0, 0.0)
            said = f"its longest window holds about {held:,.0f} events"
            if call["shape"] == "range" and held > CROWDED:
                yield node["name"], f"{said}, and shape='range' joins each moment with all of them: leave it out"
            elif call["shape"] == "dense" and rows >= MANY and held < SPARSE:
                yield node["name"], f"{said}, and there are {rows:,} events: shape='range' is cheaper for so few"


def _density(events: str, seconds: float, warehouse: Warehouse) -> tuple[int, float] | None:
    """How many events there are, and how many a window of this length holds as an event sees it: hot keys count."""
    try:
        columns = warehouse.columns(Relation(f"(\n{events}\n)"))
        keys = ", ".join(quoted(column.name) for column in columns if column.name[:4] != "_fs_")
        (row,) = warehouse.query(
            f"""select sum(n) as rows, sum(n * least(1, {seconds} / seconds) * n) / sum(n) as held
            from (
                select count(*) as n, extract(epoch from max(_fs_event) - min(_fs_event)) + 1 as seconds
                from (\n{events}\n) as events
                group by {keys}
            ) as entities"""
        ).to_pylist()
    except FeatureStoreError:
        return None
    return (int(row["rows"]), float(row["held"])) if row["rows"] else None
