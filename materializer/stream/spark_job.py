"""Topics into the landing on Spark: each batch is a job, whose tasks read the topics; this process says from where to
where, and commits what they wrote.

A streaming query with `foreachBatch` would do the same work: but what it commits runs in a process of the server's,
which goes on when this one is gone, and which Spark waits for ten seconds at its start and no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from confluent_kafka import KafkaException

from materializer.errors import FeatureStoreError, InputError, WarehouseError
from materializer.project.settings import Project
from materializer.stream.begin import Begin, Place
from materializer.stream.consume import Counts, check_topics
from materializer.stream.spark import SparkLanding, spark_sources
from materializer.stream.topics import NAME, Reading, Scout, Topics
from materializer.stream.wire import definition_of
from materializer.warehouse.spark import refusals

# How often it is looked whether to stop, and how long after what went wrong it is tried again; in seconds.
_LOOKED, _PAUSE = 0.2, 5.0


class SparkStream:
    """Lands what topics hold, each message once. What is in is asked of the landing before each batch, and a batch is
    in only if nothing else came in since: so several processes do no harm, and bring nothing.

    The arguments and errors are those of `Stream`; each machine of Spark's has the file of settings.
    """

    # A batch takes Spark seconds however few its messages are, and each leaves a folder.
    most, linger = 100_000, 5.0

    def __init__(
        self, project: Project, landing: SparkLanding, clock: Callable[[], datetime], settings: Mapping[str, str],
        settings_file: Path | None, say: Callable[[str], None], begin: Begin,
    ) -> None:  # fmt: skip
        self._landing, self._clock, self._say = landing, clock, say
        sources = spark_sources(landing.sources)
        definitions = {one.name: definition_of(one, project.folder) for one in sources}
        self._reading = Reading(
            sources, {name: text for name, text in definitions.items() if text is not None},
            settings.get("bootstrap.servers"), str(settings_file.resolve()) if settings_file else None,
        )  # fmt: skip
        self._names = {source.topic: source.name for source in sources}
        self._scout = Scout(self._reading, say)
        check_topics(
            self._scout.consumer, {one.topic: one for one in sources}, str(settings.get("bootstrap.servers")), say
        )
        if begin.since is not None:
            raise InputError("On Spark topics begin at their first message, or at that of --from-offset.")
        landing.sync()
        # Up to where messages are not looked for, though nothing of there has landed.
        self._passed = {place: offset for place, offset in begin.offsets.items() if place not in landing.ends}
        self.counts = Counts()
        self.joined = False
        self._said = ""
        self._begin()

    def close(self) -> None:
        self._scout.close()

    def batches(self, most: int, every: float, stop: Callable[[], bool]) -> Iterator[int]:
        """Land events every so many seconds until `stop`, and give how many messages came; `most` of each partition at
        a time."""
        while not stop():
            due = time.monotonic() + every
            count = 0
            try:
                count = self._land(most)
                self._said = "" if count else self._said
            except KafkaException as error:
                self._tell(f"Kafka: {error.args[0].str()}")
            except WarehouseError as error:
                self.counts.waited += 1
                self._tell(f"{error} Trying again until they can.")
                due = time.monotonic() + _PAUSE
                self._begin_anew()
            self.joined = True
            yield count
            while time.monotonic() < due and not stop():
                time.sleep(_LOOKED)
                yield 0

    def lag(self) -> dict[str, int]:
        """How many messages of each source there are that have not landed."""
        return {self._names[topic]: left for topic, left in self._scout.left(self._begins()).items()}

    def _begins(self) -> dict[Place, int]:
        places = self._landing.ends.keys() | self._passed.keys()
        return {one: max(self._landing.ends.get(one, 0), self._passed.get(one, 0)) for one in places}

    def _land(self, most: int) -> int:
        self._landing.sync()
        offsets = self._scout.offsets(self._begins(), most)
        if not offsets:
            return 0
        reading = replace(self._reading, offsets=offsets)
        frame = self._landing.session.read.format(NAME).schema(self._schema).option("reading", reading.option()).load()
        if not self._landing.land(frame, self._clock()):
            return 0
        news = self._landing.sync()
        self._passed |= {(one.topic, one.partition): one.end for one in offsets}
        self.counts.landed += news.landed
        self.counts.dead += news.dead
        return sum((news.landed + news.dead).values())

    def _begin(self) -> None:
        with refusals("Spark does not take the source of events"):
            self._landing.session.dataSource.register(Topics)
            self._schema = self._landing.of_messages()

    def _begin_anew(self) -> None:
        """In another session: the one there is may be gone with its server."""
        try:
            self._landing.open()
            self._begin()
        except FeatureStoreError as error:
            self._tell(f"{error} Trying again until it does.")

    def _tell(self, sentence: str) -> None:
        if sentence != self._said:
            self._say(sentence)
        self._said = sentence
