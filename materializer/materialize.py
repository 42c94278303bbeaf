"""Materialization: make the online rows of views equal to what the macro ``latest`` gives at this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from materializer.errors import DefinitionError, FeatureStoreError, MaterializationError, NotFoundError
from materializer.feature_view import FeatureView, Registry
from materializer.macros import MacroRenderer
from materializer.online.connect import plain_errors
from materializer.online.published import publish_services
from materializer.online.topology import OnlineStore
from materializer.run import Options, Run, ViewResult
from materializer.warehouse import Warehouse

# Two views at a time: one computes in the warehouse while the other one's rows go out.
VIEWS_AT_ONCE = 2
# Called with a view, the rows of it that are done so far, and how many there will be.
Progress = Callable[[str, int, int], None]


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
        name, equals, value = tag.partition("=")
        tagged = {
            view.reference: view for view in online if name in view.tags and (not equals or view.tags[name] == value)
        }
        if not tagged:
            known = sorted({tag for view in online for tag in view.tags})
            raise NotFoundError(f"No online feature view has the tag '{tag}'; there are: {', '.join(known) or 'none'}.")
        chosen |= tagged
    return list(chosen.values()) if names or tags else online


@dataclass(frozen=True)
class Job:
    """What all views of one call share."""

    client: OnlineStore
    url: str
    namespace: str
    open_warehouse: Callable[[], AbstractContextManager[Warehouse]]
    macros: MacroRenderer
    registry: Registry
    options: Options
    progress: Progress | None = None


def materialize(job: Job, views: Sequence[FeatureView]) -> list[ViewResult]:
    """Materialize views; one that fails does not stop the others.

    Returns:
        a result for each, in their order.

    Raises:
        MaterializationError: where a view failed; its `results` have an `error` there.
    """
    with ThreadPoolExecutor(VIEWS_AT_ONCE) as pool:
        results = list(pool.map(lambda view: _materialize_one(job, view), views))
    if any(result.error is None for result in results) and not job.options.dry_run:
        with plain_errors(job.url):
            publish_services(job.client, job.namespace, job.registry.services.values())
    failed = [result for result in results if result.error]
    if failed:
        raise MaterializationError(
            f"{len(failed)} of {len(results)} feature views failed. "
            + " ".join(f"{result.view}: {result.error}" for result in failed),
            results,
        )
    return results


def _materialize_one(job: Job, view: FeatureView) -> ViewResult:
    started = time.monotonic()
    latest = job.registry.views[view.name].version if view.name in job.registry.views else view.version
    run = Run(job.client, job.namespace, job.open_warehouse, job.macros, latest, job.options, job.progress)
    try:
        with plain_errors(job.url):
            result = run.materialize(view)
    except FeatureStoreError as error:
        result = ViewResult(view.reference, run.run_id, error=str(error))
    result = replace(result, seconds=round(time.monotonic() - started, 3))
    if not job.options.dry_run:
        run.log(result)
    return result


def parse_moment(moment: datetime | str) -> datetime:
    """An ISO 8601 moment as a UTC datetime; naive is UTC.

    Raises:
        DefinitionError: where it is none.
    """
    try:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise DefinitionError(f"'{moment}' is not a moment: write for example 2026-03-01T00:00:00Z.") from None
    return parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
