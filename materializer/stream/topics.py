"""Topics as a data source of Spark: some offsets of a topic's partition are a task, which reads the messages and makes
rows of them, as `materializer.stream.decode` does everywhere.

Tasks run in Python workers of Spark, which have this package and Kafka's client installed. What a source is told stands
in Spark's plans and logs: so a password is in none of it, and settings beyond the brokers' names are read from a file
on each machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from materializer.errors import StreamError
from materializer.stream.begin import Place
from materializer.stream.decode import Decoder, Message
from materializer.stream.files import engine
from materializer.stream.settings import settings_of
from materializer.stream.source import StreamedSource
from materializer.stream.spark import column_of
from materializer.stream.wire import reader_of
from materializer.warehouse import quoted

NAME = "feature-store-topics"
_SETTINGS = {
    "group.id": "feature-store", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20, "enable.auto.commit": False,
    "enable.auto.offset.store": False, "enable.partition.eof": True, "allow.auto.create.topics": False,
}  # fmt: skip
# How long a broker is waited for, and a message that may be there, in seconds.
PATIENCE, _LOOK = 20.0, 0.2
# Messages that become one batch of rows.
_TOGETHER = 5_000


@dataclass(frozen=True)
class Offsets(InputPartition):
    """Of a topic's partition, from the first offset up to but not including `end`."""

    topic: str
    partition: int
    first: int
    end: int


@dataclass(frozen=True)
class Reading:
    """What is to be read.

    Attributes:
        sources: with DuckDB's names of types.
        definitions: of Avro's and Protobuf's bytes, by the source's name.
        brokers: ``host:port,...``; None: the file of settings says it.
        settings: that file, which each machine has.
        offsets: what is to be read of each partition.
    """

    sources: tuple[StreamedSource, ...]
    definitions: Mapping[str, bytes]
    brokers: str | None
    settings: str | None
    offsets: tuple[Offsets, ...] = ()

    def option(self) -> str:
        """The same as an option of Spark's."""
        return msgspec.json.encode(self).decode()

    def consumer(self, **more: Any) -> Consumer:
        told = settings_of(Path(self.settings)) if self.settings else {}
        if self.brokers:
            told["bootstrap.servers"] = self.brokers
        return Consumer(_SETTINGS | told | more)


class Topics(DataSource):
    @classmethod
    def name(cls) -> str:
        return NAME

    def reader(self, schema: StructType) -> TopicsReader:
        return TopicsReader(msgspec.json.decode(self.options["reading"], type=Reading))


class TopicsReader(DataSourceReader):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def partitions(self) -> Sequence[InputPartition]:
        return list(self._reading.offsets)

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """In a task."""
        assert isinstance(partition, Offsets)
        (source,) = (one for one in self._reading.sources if one.topic == partition.topic)
        with engine() as connection:
            read = reader_of(source, self._reading.definitions.get(source.name))
            decoder = Decoder(connection, source, read)
            columns = ", ".join(
                f"{quoted(name)} as {quoted(column)}" if one is source else f"cast(null as {dtype}) as {quoted(column)}"
                for one in self._reading.sources
                for name, dtype in one.columns.items()
                for column in [column_of(one, name)]
            )
            moments = [
                f"not isfinite({quoted(name)})"
                for name, dtype in source.columns.items()
                if dtype.lower().startswith(("timestamp", "date"))
            ]
            for messages in messages_of(self._reading, partition):
                decoder.rows(messages, "_fs_batch")
                if moments:  # Spark has no moment that is infinite
                    connection.execute(
                        "update _fs_batch set _fs_reason = 'has a moment that is none' "
                        f"where _fs_reason is null and ({' or '.join(moments)})"
                    )
                yield from (
                    connection.sql(
                        f"select '{source.name}' as _fs_source, _topic, _partition, _offset, _fs_reason, _fs_message, "
                        f"{columns} from _fs_batch order by _offset"
                    )
                    .to_arrow_table()
                    .to_batches()
                )


class Scout:
    """Where topics end by now: what a broker says of that is a hint, from which on it is looked for messages.

    Args:
        say: takes sentences for whoever looks on.
    """

    def __init__(self, reading: Reading, say: Callable[[str], None]) -> None:
        self._reading, self._say = reading, say
        self.consumer = reading.consumer()
        # By partition what the broker said last of its end, and what was found then.
        self._known: dict[Place, tuple[int, int]] = {}
        self._said: set[Place] = set()

    def close(self) -> None:
        self.consumer.close()

    def offsets(self, begins: Mapping[Place, int], most: int) -> tuple[Offsets, ...]:
        """What there is from `begins` on, at most so many messages of a partition. Raises KafkaException where the
        broker is away."""
        found = []
        for place, end in self._ends(begins).items():
            first = begins.get(place, 0)
            if end > first:
                found.append(Offsets(*place, first, min(end, first + most)))
        return tuple(found)

    def left(self, begins: Mapping[Place, int]) -> dict[str, int]:
        """How many messages of each topic come after `begins`, as far as was found."""
        found = dict.fromkeys((source.topic for source in self._reading.sources), 0)
        for place, (_, end) in self._known.items():
            found[place[0]] += max(end - begins.get(place, 0), 0)
        return found

    def _ends(self, begins: Mapping[Place, int]) -> dict[Place, int]:
        looked: dict[Place, int] = {}
        for source in self._reading.sources:
            about = self.consumer.list_topics(source.topic, PATIENCE).topics.get(source.topic)
            for partition in about.partitions if about is not None and not about.error else ():
                place = source.topic, partition
                low, high = self.consumer.get_watermark_offsets(TopicPartition(*place), timeout=PATIENCE)
                said, found = self._known.get(place, (-1, 0))
                if high != said and high > low:
                    self._look_at_the_gap(place, begins.get(place, 0), low)
                    looked[place] = max(low, high - 1, found, begins.get(place, 0))
                    self._known[place] = high, max(high, found)
        for place, last in (self._last(looked) if looked else {}).items():
            high, found = self._known[place]
            if last < looked[place]:
                said = f"begins anew, and offset {looked[place]} was to come: it was made again, and is left alone."
                self._tell(place, f"{said} Give the new topic a name of its own.")
            self._known[place] = high, max(found, last + 1)
        return {place: end for place, (_, end) in self._known.items()}

    def _look_at_the_gap(self, place: Place, first: int, low: int) -> None:
        if 0 < first < low:
            self._tell(place, f"does not have offsets {first} to {low - 1} any more; what they held has not landed.")

    def _tell(self, place: Place, what: str) -> None:
        if place not in self._said:
            self._say(f"Topic {place[0]}, partition {place[1]} {what}")
        self._said.add(place)

    def _last(self, looked: Mapping[Place, int]) -> dict[Place, int]:
        """By partition the last offset from one on that has a message, where any has."""
        self.consumer.assign([TopicPartition(*place, offset) for place, offset in looked.items()])
        found: dict[Place, int] = {}
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            messages = self.consumer.consume(_TOGETHER, _LOOK)
            if not messages:
                break
            found |= {(one.topic(), one.partition()): one.offset() for one in messages if one.error() is None}
        self.consumer.unassign()
        return found


def messages_of(reading: Reading, asked: Offsets) -> Iterator[list[Message]]:
    """The messages of some offsets, some at a time. Raises StreamError where the broker does not give them."""
    with closing(reading.consumer()) as consumer:
        place = TopicPartition(asked.topic, asked.partition, asked.first or OFFSET_BEGINNING)
        consumer.assign([place])
        heard, done = time.monotonic(), False
        while not done:
            taken = consumer.consume(_TOGETHER, _LOOK)
            messages = []
            for one in taken:
                if (error := one.error()) is None:
                    done |= one.offset() >= asked.end - 1
                    if asked.first <= one.offset() < asked.end:
                        messages.append(Message(asked.topic, asked.partition, one.offset(), one.value()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    done |= one.offset() >= asked.end  # the last of them are no messages
            if taken:
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE:
                raise StreamError(
                    f"The broker did not give offsets {asked.first} to {asked.end - 1} of topic {asked.topic}, "
                    f"partition {asked.partition}."
                )
            if messages:
                yield messages
