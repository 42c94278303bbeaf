"""Topics into the landing: what Kafka keeps, the landing says how far it was read."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import duckdb
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from materializer.errors import InputError, StreamError
from materializer.stream.begin import Begin, Place
from materializer.stream.decode import Decoder, Message, Reader
from materializer.stream.landing import CannotLand, Covered, Landing
from materializer.stream.source import StreamedSource

# Kafka's own names, https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md; what the user says beats
# these. A broker that waits for more messages than there are would add its patience to each batch.
_DEFAULTS = {
    "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20, "session.timeout.ms": 6000,
    "topic.metadata.refresh.interval.ms": 10_000, "allow.auto.create.topics": False,
}  # fmt: skip
# Who changes these would lose rows or read them twice.
_OURS = {"enable.auto.commit": False, "enable.auto.offset.store": False}
# What the broker is asked to say of itself, at most for so long; in seconds.
PATIENCE = 10.0
# How long a landing that cannot be written is left alone, in seconds.
_PAUSE = 1.0
# librdkafka writes what it meets to stderr; what matters of it is said here.
_SILENT = logging.getLogger("materializer.stream.kafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
# Nobody mends these by waiting.
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)


@dataclass
class Counts:
    """What was done since the start: rows and dead letters by source, and how often the landing was waited for."""

    landed: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    waited: int = 0


class Stream:
    """Reads the topics of some sources and lands what they hold, in order, each message once.

    Several processes share a topic's partitions as one consumer group. What is in is read from the landing at each
    commit, so neither a rebalance nor a message that comes twice lands anything twice.

    Args:
        connection: a DuckDB in memory, whose zone is UTC.
        settings: the consumer's, by librdkafka's names; ``bootstrap.servers`` is among them.
        say: takes sentences for whoever looks on.
        begin: where partitions are taken up of which nothing has landed.

    Raises:
        StreamError: where no broker answers, or none of the topics is there.
        InputError: where Kafka's client does not take the settings.
    """

    # Messages a batch at most, and how long one is waited for in seconds, if nobody says otherwise.
    most, linger = 5_000, 0.1

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        landing: Landing,
        readers: Mapping[str, Reader],
        settings: Mapping[str, Any],
        group: str,
        say: Callable[[str], None],
        begin: Begin = Begin(),  # noqa: B008
    ) -> None:
        self._connection, self._landing, self._say = connection, landing, say
        self._begin = begin
        self._sources = {source.topic: source for source in landing.sources.values()}
        self._decoders = {
            source.topic: Decoder(connection, source, readers[source.name]) for source in self._sources.values()
        }
        self.counts = Counts()
        # Where each partition has to begin, until its first message has come.
        self._begins: dict[Place, int] = {}
        # Partitions whose first message is still to come, where the user says which it is.
        self._to_begin: set[Place] = set()
        self._left_alone: set[Place] = set()
        self._said: set[str] = set()
        self.joined = False
        try:
            self._consumer = Consumer(
                {**_DEFAULTS, "group.id": group, **settings, **_OURS, "error_cb": self._failed}, logger=_SILENT
            )
        except KafkaException as error:
            raise InputError(f"Kafka's client does not take these settings: {error.args[0].str()}.") from None
        check_topics(self._consumer, self._sources, str(settings.get("bootstrap.servers")), say)
        self._consumer.subscribe(list(self._sources), on_assign=self._assigned)

    def close(self) -> None:
        """Leave the group; what was read and has not landed is read again by whoever takes over."""
        self._consumer.close()

    def batches(self, most: int, linger: float, stop: Callable[[], bool]) -> Iterator[int]:
        """Land batch after batch until `stop`, and give how many messages each had; 0 where there was nothing to read.

        Args:
            most: messages a batch at most.
            linger: how long one is waited for, in seconds.
        """
        while not stop():
            try:
                taken = self._consumer.consume(most, linger)
            except KafkaException as error:
                self._tell(f"Kafka: {error.args[0].str()}")
                continue
            for one in taken:
                if one.error() is not None:
                    self._tell(f"Kafka: {one.error().str()}")
            messages = [one for one in taken if one.error() is None]
            wanted = [one for one in messages if self._is_wanted(one)]
            while not self._land(wanted):
                if stop():
                    return
                time.sleep(_PAUSE)
            yield len(messages)

    def lag(self) -> dict[str, int]:
        """How many messages of each source the broker says it has that were not read yet."""
        found: dict[str, int] = dict.fromkeys(self._landing.sources, 0)
        for one in self._consumer.position(self._consumer.assignment()):
            _, end = self._consumer.get_watermark_offsets(one, cached=True)
            if end >= 0 and one.offset >= 0:
                found[self._sources[one.topic].name] += max(end - one.offset, 0)
        return found

    def _land(self, messages: Sequence[Any]) -> bool:
        """Whether they are in now; False where the landing cannot be written, which may pass."""
        ordered = sorted(messages, key=lambda one: (one.topic(), one.partition(), one.offset()))
        for place, group in groupby(ordered, lambda one: (one.topic(), one.partition())):
            rows = [Message(*place, one.offset(), one.value()) for one in group]
            if place in self._left_alone or not self._begins_right(place, rows[0].offset):
                continue
            try:
                self._land_partition(self._sources[place[0]], rows)
            except CannotLand as error:
                self.counts.waited += 1
                self._tell(f"Events cannot land in {self._landing.place}: {error}. Trying again until they can.")
                return False
        if messages:
            self._said.clear()
        return True

    def _is_wanted(self, message: Any) -> bool:
        """Whether it is not before the first that its partition is to begin with."""
        place = message.topic(), message.partition()
        if place not in self._to_begin:
            return True
        kind, timestamp = message.timestamp()
        known = None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp
        if not self._begin.reached(place, message.offset(), known):
            return False
        self._to_begin.discard(place)
        self._say(f"Topic {place[0]}, partition {place[1]}: begins at offset {message.offset()}, as you say.")
        return True

    def _begins_right(self, place: Place, first: int) -> bool:
        """Whether the first message of a partition is one that is to be read, and how many before it are gone."""
        expected = self._begins.pop(place, first)
        topic, partition = place
        if first > expected:
            self._say(
                f"Topic {topic}, partition {partition}: the broker does not have offsets {expected} to {first - 1} any "
                "more; what they held has not landed."
            )
        if first < expected:
            self._left_alone.add(place)
            self._consumer.pause([TopicPartition(topic, partition)])
            self._say(
                f"Topic {topic}, partition {partition} begins anew at offset {first}, and {expected} was to come: it "
                "was made again, and is left alone. Give the new topic a name of its own."
            )
        return first >= expected

    def _failed(self, error: KafkaError) -> None:
        """What the client meets beside the messages; of brokers that are gone only that no other is left."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self.joined:
            self._tell("No Kafka broker answers any more; what comes meanwhile is read when one does.")
        elif error.fatal() or error.code() in _REFUSED:
            self._tell(f"Kafka: {error.str()}")

    def _tell(self, sentence: str) -> None:
        """Say it once, however often it comes, until messages come again."""
        if sentence not in self._said:
            self._say(sentence)
        self._said.add(sentence)

    def _land_partition(self, source: StreamedSource, rows: Sequence[Message]) -> None:
        topic, partition = rows[0].topic, rows[0].partition
        self._decoders[topic].rows(rows, "_fs_batch")

        def covered() -> Covered | None:
            """Of these rows what is not in yet, whoever landed the rest."""
            after = self._landing.next_offset(source, topic, partition) or 0
            if after > rows[-1].offset:
                return None
            if after > rows[0].offset:
                self._connection.execute(f"delete from _fs_batch where _offset < {after}")
            return Covered(0, topic, partition, max(after, rows[0].offset), rows[-1].offset)

        landed = self._landing.commit(self._connection, source, "_fs_batch", covered)
        if landed is not None:
            self.counts.landed[source.name] += landed.rows
            self.counts.dead[source.name] += landed.dead

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Begin where the landing ends. The group's own offsets are not asked: they know nothing of it."""
        self.joined = True
        for one in partitions:
            place = one.topic, one.partition
            after = self._landing.next_offset(self._sources[one.topic], *place)
            self._left_alone.discard(place)
            self._begins.pop(place, None)
            self._to_begin.discard(place)
            if after is not None:
                self._begins[place] = one.offset = after
            elif self._begin.leaves_out(place):
                self._to_begin.add(place)
                one.offset = self._begin.offsets.get(place, OFFSET_BEGINNING)
            else:
                one.offset = OFFSET_BEGINNING
        consumer.assign(list(partitions))


def check_topics(
    consumer: Consumer, sources: Mapping[str, StreamedSource], brokers: str, say: Callable[[str], None]
) -> None:
    """Say which topics are not there. Raises StreamError where no broker answers, or it has none of them."""
    try:
        there = consumer.list_topics(timeout=PATIENCE).topics
    except KafkaException as error:
        raise StreamError(f"No Kafka broker answers at {brokers}: {error.args[0].str()}.") from None
    absent = [source for topic, source in sources.items() if topic not in there or there[topic].error]
    known = ", ".join(sorted(name for name in there if not name.startswith("__"))) or "none"
    for source in absent:
        said = f"{brokers} has no topic '{source.topic}', which source '{source.name}' names; it has: {known}."
        if len(absent) == len(sources):
            raise StreamError(said)
        say(f"{said} The others are read, and this one from when it is there.")
