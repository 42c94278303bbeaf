"""Materialization: make the online rows of views equal to what the macro ``latest`` gives at this moment."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from materializer.errors import DefinitionError, FeatureStoreError, InputError, MaterializationError
from materializer.materialize.run import Options, Run, ViewResult
from materializer.online.connect import plain_errors
from materializer.online.published import publish_services, published_as_declared
from materializer.online.topology import OnlineStore
from materializer.project.definitions import FeatureView, Registry, split_reference
from materializer.project.render import MacroRenderer
from materializer.warehouse import Warehouse
from materializer.warehouse.typed import broken_services, with_columns

# Two views at a time: one computes in the warehouse while the other one's rows go out.
VIEWS_AT_ONCE = 2
KEPT_BACK = ": correct the exposure. Until then readers keep what was published of the service before."
LOST = ": its readers fail until the feature is back, or the exposure is corrected."
# Called with a view, the rows of it that are done so far, and how many there will be.
Progress = Callable[[str, int, int], None]


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
    broken = _broken_services(job)
    with plain_errors(job.url):
        if broken:
            # One that is published as it is declared lost a feature that it had: no state is kept back.
            same = published_as_declared(job.client, job.namespace, job.registry.services.values())
            lost = [said + LOST for name, said in broken.items() if name in same]
            broken = {name: said + KEPT_BACK for name, said in broken.items() if name not in same}
            results = [replace(result, warnings=(*result.warnings, *lost)) for result in results[:1]] + results[1:]
        if any(result.landed for result in results) and not job.options.dry_run:
            publish_services(job.client, job.namespace, job.registry.services.values(), broken)
    failed = [result for result in results if result.error]
    if failed or broken:
        said = [f"{len(failed)} of {len(results)} feature views failed."] if failed else []
        said += [f"{result.view}: {result.error}" for result in failed] + list(broken.values())
        raise MaterializationError(" ".join(said), results, broken)
    return results


def _broken_services(job: Job) -> dict[str, str]:
    """What is wrong with each feature service that names what is not in the warehouse."""
    asked = {split_reference(one)[0] for service in job.registry.services.values() for one in service.features}
    typed = []
    if asked:
        with job.open_warehouse() as warehouse:
            for view in {job.registry.view(name).reference: job.registry.view(name) for name in asked}.values():
                with suppress(FeatureStoreError):  # not built, or wrong in another way: the view's own story
                    typed.append(with_columns(view, warehouse))
    return {name: said.rstrip(".") for name, said in broken_services(job.registry, typed).items()}


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


_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(i?)B\s*", re.IGNORECASE)
_SMALLEST = 64 * 1024 * 1024


def parse_size(text: str | None, what: str) -> int | None:
    """``"2 GB"`` or ``"512 MiB"`` in bytes; None stays None.

    Raises:
        InputError: for what is no size, or one in which nothing can be done.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise InputError(f"{what} is {text!r}, which is not a size: write for example '2 GB' or '512 MiB'.")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2].upper()) + 1))
    if size < _SMALLEST:
        raise InputError(f"{what} is {text!r}, too little for any warehouse: give it 64 MiB or more.")
    return size


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
