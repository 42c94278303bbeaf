"""All models of a graph read at once: their columns with the lineage of each, one hop up, and what in their SQL leaks.

A large graph is read by several processes, each model when those above it are read: it needs of them only which columns
they have."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any

import msgspec

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.sql.hops import Hop, hops_of
from materializer.sql.leakage import Checked, check
from materializer.sql.reader import Node, Reader
from materializer.sql.steps import ROWS, Steps

# From how many models on other processes pay for their start.
MANY = 300
# How many models a process gets at once.
_PORTION = 80
# What of a node is read: the rest of a manifest need not travel to the processes.
_READ = (
    "unique_id", "resource_type", "name", "alias", "identifier", "source_name", "package_name", "version",
    "latest_version", "language", "compiled_code", "relation_name", "schema", "columns", "config", "depends_on",
    "loaded_at_field", "meta", "original_file_path",
)  # fmt: skip


@dataclass(frozen=True)
class Read:
    """One node: its columns as they are spelled, the hop of each and of its rows (``*``), why its SQL could not be
    read, and what leaks in it. `beside` are the nodes whose tables its SQL reads though they do not stand above it."""

    columns: Mapping[str, str]
    hops: Mapping[str, Hop]
    problem: str | None
    may_have: str
    checked: Checked | None = None
    beside: tuple[str, ...] = ()


def read_columns(
    graph: Graph,
    views: Mapping[str, FeatureView] | None = None,
    workers: int | None = None,
    known: Mapping[str, Read] = MappingProxyType({}),
) -> dict[str, Read]:
    """Every node of a graph by its id, in the graph's order.

    Args:
        graph: whose built columns are known, where the processes cannot ask for them.
        views: the feature views by id, where what leaks is looked for too.
        workers: how many processes read; default one for each core, where there are many models.
        known: models that need not be read.
    """
    models = _models(graph)
    left = [one for one in models if one not in known]
    workers = workers or workers_for(graph, known)
    with no_garbage():
        if workers > 1 and left:
            found = _read_apart(graph, left, views, workers, known)
        else:
            reader = Reader(graph)
            for one, read in known.items():
                reader.know(one, dict(read.columns), read.may_have, read.problem)
            found = {**known, **dict(_read(reader, left, views))}
        return {one: found[one] for one in models}


def workers_for(graph: Graph, known: Mapping[str, Read] = MappingProxyType({})) -> int:
    """How many processes read what is not known of a graph by default."""
    return (os.cpu_count() or 1) if len(_models(graph)) - len(known) >= MANY else 1


def _models(graph: Graph) -> list[str]:
    return [one for one, node in graph.nodes.items() if node.get("resource_type") in ("model", "snapshot")]


def _read(
    reader: Reader, unique_ids: Sequence[str], views: Mapping[str, FeatureView] | None
) -> Iterator[tuple[str, Read]]:
    steps = Steps(reader)
    for unique_id in unique_ids:
        node = reader.node(unique_id)
        computed = [one.name for one in reader.graph.on_demand(unique_id).values()]
        names = [*node.columns, *computed, ROWS] if node.scope is not None else computed
        hops = {node.columns.get(name, name): hop for name, hop in hops_of(steps, unique_id, names)}
        sql = node.about.get("resource_type") == "model" and node.about.get("language", "sql") == "sql"
        leaks = views is not None and sql and bool(node.about.get("compiled_code"))
        checked = check(node, reader.graph, views.get(unique_id)) if leaks else None
        yield unique_id, Read(node.columns, hops, node.problem, node.may_have, checked, _beside(node, reader.graph))


def _beside(node: Node, graph: Graph) -> tuple[str, ...]:
    apart = {node.id, *((node.about.get("depends_on") or {}).get("nodes") or ())}
    read = [one for one in node.reads if one in graph.nodes and one not in apart]
    above = {up["unique_id"] for up in graph.above(node.about)} if read else ()
    return tuple(one for one in read if one not in above)


# In processes of their own.


def _read_apart(
    graph: Graph, models: Sequence[str], views: Mapping[str, FeatureView] | None, workers: int,
    known: Mapping[str, Read],
) -> dict[str, Read]:  # fmt: skip
    nodes = {one: slim(node) for one, node in graph.nodes.items()
             if node.get("resource_type") in ("model", "snapshot", "source", "seed")}  # fmt: skip
    built = {one: graph.built_columns(node) for one, node in nodes.items()}
    found, left = dict(known), dict.fromkeys(models)
    order = TopologicalSorter({one: [up for up in _parents(graph, one) if up in left] for one in models})
    with suppress(CycleError):
        order.prepare()
    running: dict[Future[bytes], Sequence[str]] = {}
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not have
    begin = (nodes, graph.exposures, graph.adapter, graph.project, built, views)
    with ProcessPoolExecutor(workers, spawn, _begin, begin) as pool:

        def start(portion: Sequence[str]) -> None:
            running[pool.submit(_read_portion, portion, _columns_above(graph, portion, found))] = portion

        def ended() -> list[str]:
            done = {one: running.pop(one) for one in wait(running, return_when=FIRST_COMPLETED).done}
            for one, portion in done.items():
                found.update(zip(portion, _READS.decode(one.result()), strict=True))
            return [one for portion in done.values() for one in portion]

        ready: list[str] = []
        while order.is_active():
            ready += order.get_ready()
            while ready and len(running) <= workers:  # one more than are read at once
                start(ready[:_PORTION])
                del ready[:_PORTION]
            order.done(*ended())
        circles = [one for one in models if one not in found]  # what is made from itself
        for at in range(0, len(circles), _PORTION):
            start(circles[at : at + _PORTION])
        while running:
            ended()
    return found


def _parents(graph: Graph, unique_id: str) -> Sequence[str]:
    return (graph.nodes[unique_id].get("depends_on") or {}).get("nodes") or ()


def _columns_above(
    graph: Graph, portion: Sequence[str], found: Mapping[str, Read]
) -> dict[str, tuple[Mapping[str, str], str, str | None]]:
    known = {}
    for unique_id in portion:
        for parent in _parents(graph, unique_id):
            if parent in found:
                read = found[parent]
                known[parent] = (read.columns, read.may_have, read.problem)
    return known


def slim(node: Mapping[str, Any]) -> dict[str, Any]:
    """What of a node is read."""
    windows = "_fs_events" in (node.get("compiled_code") or "")  # a finding in these says where in the model's own file
    return {key: node[key] for key in (*_READ, *(("raw_code",) if windows else ())) if key in node}


_READS = msgspec.msgpack.Decoder(list[Read])
_graph: Graph | None = None
_views: Mapping[str, FeatureView] | None = None
_warm = False


def _begin(
    nodes: Mapping[str, Any],
    exposures: Mapping[str, Any],
    adapter: str,
    project: str,
    built: Mapping[str, list[str]],
    views: Mapping[str, FeatureView] | None,
) -> None:
    global _graph, _views
    gc.disable()
    manifest = {
        "nodes": nodes, "exposures": exposures, "metadata": {"adapter_type": adapter, "project_name": project},
    }  # fmt: skip
    _graph, _views = Graph(manifest, lambda node: built.get(node["unique_id"])), views
    gc.freeze()


def _read_portion(portion: Sequence[str], above: Mapping[str, tuple[Mapping[str, str], str, str | None]]) -> bytes:
    """These models, as bytes; `above` is what is known of those that they read."""
    global _warm
    made = _of_a_fork(partial(_read_encoded, portion, above)) if _warm and sys.platform == "linux" else None
    if made is None:
        made = _read_encoded(portion, above)
        gc.collect()  # trees are circles
        gc.freeze()  # what was worked out once for all models stays
        _warm = True
    return made


def _read_encoded(portion: Sequence[str], above: Mapping[str, tuple[Mapping[str, str], str, str | None]]) -> bytes:
    assert _graph is not None
    reader = Reader(_graph)  # trees of models that were read are let go
    for unique_id, (columns, may_have, problem) in above.items():
        reader.know(unique_id, dict(columns), may_have, problem)
    return msgspec.msgpack.encode([read for _, read in _read(reader, portion, _views)])


def _of_a_fork(make: Callable[[], bytes]) -> bytes | None:
    """What a fork of this process makes; None where it could not. To end it costs nothing, while to find and take apart
    the circles of all its trees takes a quarter of the time. This process has no threads whose locks it could inherit.
    """
    receive, send = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(receive)
        os.close(send)
        return None
    if not child:
        try:
            with open(send, "wb") as file:  # noqa: PTH123 - a pipe
                file.write(make())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(send)
    with open(receive, "rb") as file:  # noqa: PTH123
        made = file.read()
    return None if os.waitpid(child, 0)[1] else made


@contextmanager
def no_garbage() -> Iterator[None]:
    """Of millions of new objects, of trees or of a document, none is garbage to look for."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
