"""The stream as a process: topics into the landing, and the landing kept, until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from materializer.errors import InputError
from materializer.online.topology import OnlineStore
from materializer.project.manifest import load_manifest
from materializer.project.settings import Project
from materializer.stream.background import Background
from materializer.stream.begin import Begin, offsets_of
from materializer.stream.files import engine
from materializer.stream.keep import kept
from materializer.stream.landing import Landing
from materializer.stream.place import any_landing_of
from materializer.stream.source import streamed_sources
from materializer.stream.wire import definition_of, reader_of

if TYPE_CHECKING:
    from materializer.stream.consume import Stream
    from materializer.stream.spark import SparkLanding
    from materializer.stream.spark_job import SparkStream

# A batch of nothing makes the metrics anew at most so often, in seconds.
_MEASURED = 1.0
# How long what has landed is waited for to be online before an end that nothing hurries; in seconds.
_SETTLED = 60.0
# How often it is looked meanwhile whether to stop, in seconds.
_LOOKED = 0.2


def run_stream(
    project: Project,
    namespace: str,
    clock: Callable[[], datetime],
    settings: Mapping[str, Any],
    settings_file: Path | None,
    most: int | None,
    linger: float | None,
    until_idle: float | None,
    metrics_port: int | None,
    online: Callable[[], OnlineStore] | None,
    since: datetime | None,
    offsets: Sequence[str],
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> Any:
    """Land events until `stop`, or until none came for `until_idle` seconds, and give the counts.

    Args:
        settings: of Kafka's client; those of `settings_file` are among them.
        most, linger: messages a batch, and how long one is waited for, in seconds; None: as is good for the target.
        online: gives the online store, where views are to be kept there meanwhile.
        since, offsets: where partitions are taken up of which nothing has landed, see `Begin` and `offsets_of`.

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
    begin = Begin(since, offsets_of(offsets, [source.topic for source in sources.values()]))
    landing = any_landing_of(project, sources, clock)
    readers = {name: reader_of(source, definition_of(source, project.folder)) for name, source in sources.items()}
    with closing(landing), closing(Metrics(metrics_port)) as metrics, engine() as connection:
        stream: Stream | SparkStream
        if project.connection.get("type") == "spark":
            from materializer.stream.spark_job import SparkStream

            stream = SparkStream(project, cast("SparkLanding", landing), clock, settings, settings_file, say, begin)
        else:
            group = f"{namespace}.feature-store"
            stream = Stream(connection, cast(Landing, landing), readers, settings, group, say, begin)
        landing.show()
        listed = ", ".join(f"{source.topic} into {name}" for name, source in sources.items())
        say(f"Reading {listed}; landing in {landing.place}.")
        with kept(landing, say), closing(stream), ExitStack() as stack:
            keeping = None
            if online is not None:
                keeping = stack.enter_context(closing(Background(project, namespace, online, landing, say)))
            last = measured = time.monotonic()
            for count in stream.batches(most or stream.most, linger or stream.linger, stop):
                now = time.monotonic()
                if keeping is not None and count:
                    keeping.landed()
                last = now if count or not stream.joined else last
                if now - measured > _MEASURED:
                    lag = stream.lag()
                    metrics.show(stream.counts, lag)
                    if keeping is not None:
                        keeping.lag = lag
                        metrics.show_online(keeping.shown)
                    measured = now
                if until_idle is not None and now - last > until_idle:
                    while keeping is not None and time.monotonic() - now < _SETTLED and not stop():
                        if keeping.settle(_LOOKED):
                            break
                    break
        return stream.counts
