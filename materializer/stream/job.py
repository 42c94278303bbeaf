"""The stream as a process: topics into the landing, and the landing kept, until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

from materializer.errors import InputError
from materializer.project.manifest import load_manifest
from materializer.project.settings import Project
from materializer.stream.files import engine
from materializer.stream.keep import kept
from materializer.stream.place import landing_of
from materializer.stream.source import streamed_sources
from materializer.stream.wire import reader_of

# A batch of nothing makes the metrics anew at most so often, in seconds.
_MEASURED = 1.0


def run_stream(
    project: Project,
    namespace: str,
    clock: Callable[[], datetime],
    settings: Mapping[str, Any],
    most: int,
    linger: float,
    until_idle: float | None,
    metrics_port: int | None,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> Any:
    """Land events until `stop`, or until none came for `until_idle` seconds, and give the counts.

    Raises:
        ProjectError, DefinitionError: where the project says too little of its streamed sources.
        StreamError, LandingError, InputError: where no broker answers, none of the topics is there, the landing cannot
            be written, or the extra `kafka` is not installed.
    """
    try:
        from materializer.stream.consume import Stream
        from materializer.stream.metrics import Metrics
    except ModuleNotFoundError as error:
        if error.name not in ("confluent_kafka", "prometheus_client"):
            raise
        raise InputError(f"{error.name} is not installed: pip install 'dbt-feature-store[kafka]'.") from None
    sources = streamed_sources(load_manifest(project))
    landing = landing_of(project, sources, clock)
    readers = {name: reader_of(source, project.folder) for name, source in sources.items()}
    with closing(landing), closing(Metrics(metrics_port)) as metrics, engine() as connection:
        stream = Stream(connection, landing, readers, settings, f"{namespace}.feature-store", say)
        landing.show()
        listed = ", ".join(f"{source.topic} into {name}" for name, source in sources.items())
        say(f"Reading {listed}; landing in {landing.place}.")
        with kept(landing, say), closing(stream):
            last = measured = time.monotonic()
            for count in stream.batches(most, linger, stop):
                now = time.monotonic()
                last = now if count or not stream.joined else last
                if now - measured > _MEASURED:
                    metrics.show(stream.counts, stream.lag())
                    measured = now
                if until_idle is not None and now - last > until_idle:
                    break
        return stream.counts
