"""Materialization: make the online rows of views equal to what the macro ``latest`` gives at this moment."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from materializer.errors import FeatureStoreError, InputError, MaterializationError
from materializer.materialize.plan import Job, ViewResult
from materializer.materialize.run import Run
from materializer.online.connect import plain_errors
from materializer.online.publish import publish_services, published_as_declared
from materializer.project.definitions import FeatureService, FeatureView, split_reference
from materializer.warehouse.typed import broken_services, built, named, typed_service

# Two views at a time: one computes in the warehouse while the other one's rows go out.
VIEWS_AT_ONCE = 2
KEPT_BACK = ": correct the exposure. Until then readers keep what was published of the service before."
LOST = ": its readers fail until the feature is back, or the exposure is corrected."
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(i?)B\s*", re.IGNORECASE)
_SMALLEST = 64 * 1024 * 1024


def materialize(job: Job, views: Sequence[FeatureView]) -> list[ViewResult]:
    """Materialize views; one that fails does not stop the others.

    Returns:
        a result for each, in their order.

    Raises:
        MaterializationError: where a view failed; its `results` have an `error` there.
    """
    with ThreadPoolExecutor(VIEWS_AT_ONCE) as pool:
        results = _said_once(pool.map(lambda view: _materialize_one(job, view), views))
    services, broken = _services(job)
    with plain_errors(job.url):
        if broken:
            # One that is published as it is declared lost a feature that it had: no state is kept back.
            same = published_as_declared(job.client, job.namespace, services)
            lost = [said + LOST for name, said in broken.items() if name in same]
            broken = {name: said + KEPT_BACK for name, said in broken.items() if name not in same}
            results = [replace(result, warnings=(*result.warnings, *lost)) for result in results[:1]] + results[1:]
        if any(result.landed for result in results) and not job.options.dry_run:
            publish_services(job.client, job.namespace, services, broken)
    failed = [result for result in results if result.error]
    if failed or broken:
        said = [f"{len(failed)} of {len(results)} feature views failed."] if failed else []
        said += [f"{result.view}: {result.error}" for result in failed] + list(broken.values())
        raise MaterializationError(" ".join(said), results, broken)
    return results


def _said_once(results: Iterable[ViewResult]) -> list[ViewResult]:
    """What is no matter of one view is a warning of the first that meets it."""
    said: set[str] = set()
    found = []
    for result in results:
        found.append(replace(result, warnings=tuple(one for one in result.warnings if one not in said)))
        said.update(result.warnings)
    return found


def _services(job: Job) -> tuple[list[FeatureService], dict[str, str]]:
    """The feature services, with types, and what is wrong with each that names what is not in the warehouse."""
    declared = list(job.registry.services.values())
    asked = {split_reference(one)[0] for service in declared for one in service.features}
    views = {view.reference: view for view in map(job.registry.view, asked)}
    typed = []
    if views:
        with job.open_warehouse() as warehouse:
            typed = built(warehouse, views.values())  # what is wrong with others is their own story
    broken = {name: said.rstrip(".") for name, said in broken_services(job.registry, typed).items()}
    known = named(job.registry, typed)
    return [one if one.name in broken else typed_service(one, known) for one in declared], broken


def _materialize_one(job: Job, view: FeatureView) -> ViewResult:
    started = time.monotonic()
    run = Run(job, view)
    try:
        with plain_errors(job.url):
            result = run.materialize()
    except FeatureStoreError as error:
        result = ViewResult(view.reference, run.run_id, error=str(error))
    result = replace(result, seconds=round(time.monotonic() - started, 3))
    if not job.options.dry_run:
        run.log(result)
    return result


def parse_size(text: str | None, what: str) -> int | None:
    """``"2 GB"`` or ``"512 MiB"`` in bytes; None stays None. Raises InputError for what is no size, or one in which
    nothing can be done."""
    if text is None:
        return None
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise InputError(f"{what} is {text!r}, which is not a size: write for example '2 GB' or '512 MiB'.")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2].upper()) + 1))
    if size < _SMALLEST:
        raise InputError(f"{what} is {text!r}, too little for any warehouse: give it 64 MiB or more.")
    return size
