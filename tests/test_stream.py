"""Events become rows of a dbt source, each exactly once, whatever happens on the way."""

from __future__ import annotations

import io
import itertools
import json
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pytest

from materializer import DefinitionError, FeatureStore, InputError, LandingError, NotFoundError
from materializer.serve.keys import new_key
from materializer.stream.decode import Decoder, Message
from materializer.stream.files import FileLanding
from materializer.stream.landing import Covered
from materializer.stream.merge import merge
from materializer.stream.place import landing_of
from materializer.stream.source import streamed_sources
from tests.support import kafka
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.forked import Process
from tests.support.serving import serving
from tests.support.streamed import streamed

_numbers = itertools.count(1)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
COLUMNS = {"purchase_id": "bigint", "user_id": "bigint", "amount": "double", "purchased_at": "timestamptz"}
SOURCE = {
    "name": "shop", "database": "landing", "schema": "main",
    "tables": [
        {
            "name": "purchases",
            "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id", "timestamp": "purchased_at"}}},
            "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
        }
    ],
}  # fmt: skip
# Views beside `spent`, with their join keys.
VIEWS = {"windows": ["user_id"], "rank": ["user_id"], "still": ["user_id"]}
FILES = {
    "models/models.yml": {
        "sources": [SOURCE],
        "models": [
            {"name": "spent", "config": {"meta": {"feature_view": {"entities": ["user_id"], "created_timestamp": "landed_at"}}}},
            *({"name": name, "config": {"meta": {"feature_view": {"entities": entities}}}} for name, entities in VIEWS.items()),
        ],
    },
    "models/spent.sql": "select user_id, purchased_at as event_timestamp, _landed_at as landed_at, sum(amount) over "
    "(partition by user_id order by purchased_at, purchase_id) as spent from {{ source('shop', 'purchases') }}",
    "models/windows.sql": "{{ feature_store.window_aggregates(ref('first_of_each'), 'user_id', 'purchased_at', "
    "[{'name': 'n', 'function': 'count'}, {'name': 'total', 'function': 'sum', 'expression': 'amount'}], ['7 days'], created_timestamp='_landed_at') }}",
    "models/first_of_each.sql": "select *\nfrom {{ source('shop', 'purchases') }}\n"
    "qualify row_number() over (partition by purchase_id order by _landed_at, _offset) = 1",
    "models/rank.sql": "select\n    user_id,\n    event_timestamp,\n    rank() over (order by spent) as place\nfrom {{ ref('spent') }}",
    "models/still.sql": "select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 2 as age",
}  # fmt: skip


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return streamed(tmp_path_factory.mktemp("stream") / "shop", FILES)


@pytest.fixture
def project(tmp_path: Path, parsed: DbtProject) -> DbtProject:
    return copy_of(parsed, tmp_path / "shop")


def purchase(number: int) -> dict[str, Any]:
    return {
        "purchase_id": number, "user_id": number % 50, "amount": number / 4,
        "purchased_at": (START + timedelta(seconds=number)).isoformat(),
    }  # fmt: skip


def declare(project: DbtProject, columns: list[dict[str, str]] | None = None, **stream: Any) -> None:
    """Change what the source says."""
    manifest = project.manifest()
    (source,) = manifest["sources"].values()
    source["config"]["meta"]["stream"] |= stream
    source["config"]["meta"]["stream"] = {
        key: value for key, value in source["config"]["meta"]["stream"].items() if value is not None
    }
    if columns is not None:
        source["columns"] = {one["name"]: one for one in columns}
    (project.folder / "target" / "manifest.json").write_text(json.dumps(manifest))


def topic_of(project: DbtProject, broker: kafka.Broker, partitions: int = 1, **stream: Any) -> str:
    """A topic of the test's own, which its source names."""
    topic = f"purchases-{next(_numbers)}"
    broker.create(topic, partitions)
    declare(project, topic=topic, **stream)
    return topic


def stream(project: DbtProject, broker: kafka.Broker, *options: str) -> Ran:
    return run(
        "feature-store", "stream", "--brokers", broker.address, "--project-dir", str(project.folder), "--land-only",
        "--until-idle", "2", *options,
    )  # fmt: skip


# The command with its patience shortened, so that a test sees what takes minutes; and a disk that is full until it is told.
DRIVER = """
import errno, pathlib, sys
from materializer.stream import files, keep, merge
quick, full = sys.argv[1:3]
if quick:
    keep._MANIFEST, keep._MERGE, keep._SWEEP, keep.KEPT, merge.TOGETHER = 0.05, 0.2, 0.5, 20.0, 4
    keep.merge = lambda connection, landing: merge.merge(connection, landing, 4)
if full:
    write = files.write_parquet
    def refused(connection, query, path):
        if path.parent == pathlib.Path(full) and not (path.parent / "room").exists() and "_fs_batch" in query:
            (path.parent / "refused").touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        write(connection, query, path)
    files.write_parquet = refused
sys.argv[1:] = sys.argv[3:]
from materializer.cli import main
main()
"""


def start(
    project: DbtProject, broker: kafka.Broker, *options: str, quick: bool = False, full: Path | None = None
) -> Process:
    return Process(
        DRIVER, "quick" if quick else "", str(full or ""), "stream", "--brokers", broker.address,
        "--project-dir", str(project.folder), "--land-only", *options,
    )  # fmt: skip


def killed_in_a_write(project: DbtProject, process: Process, after: float) -> bool:
    """Kill a stream while it writes rows, once `after` seconds of writing have gone by, and say whether it was."""
    folder = project.folder / "landing" / "shop.purchases"

    def writing() -> set[Path]:
        return (
            {path for path in folder.glob(".*") if not path.name.startswith(".columns-")} if folder.exists() else set()
        )

    before, until, began = writing(), time.monotonic() + 60, 0.0
    while process.poll() is None and time.monotonic() < until:
        if writing() - before:
            if not began:
                began = time.monotonic()
                until = began + after + 5  # all may be in by then, and nothing is written any more
            if time.monotonic() - began >= after:
                break
        time.sleep(0.0005)
    process.kill()
    process.wait()
    return bool(writing() - before)


class Looking:
    """Readers that attach the manifest anew again and again, as `dbt run` does, and see no event twice and none go."""

    def __init__(self, project: DbtProject) -> None:
        self._file = project.folder / "landing" / "landing.duckdb"
        self._end = threading.Event()
        self.reads, self.wrong, self._most = 0, [], 0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.2):
            if self._file.exists():
                try:
                    with duckdb.connect(str(self._file), read_only=True) as connection:
                        ((rows, events),) = connection.execute(
                            "select count(*), count(distinct purchase_id) from main.purchases"
                        ).fetchall()
                except duckdb.Error as error:
                    self.wrong.append(str(error))
                    continue
                self.reads += 1
                if rows != events or rows < self._most:
                    self.wrong.append((self._most, rows, events))
                self._most = max(rows, self._most)


def landed(project: DbtProject, select: str = "*", of: str = "main.purchases") -> list[tuple[Any, ...]]:
    with duckdb.connect(str(project.folder / "landing" / "landing.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(f"select {select} from {of} order by all").fetchall()


def test_what_lands_is_a_source_like_any_other(project: DbtProject, broker: kafka.Broker, redis_url: str) -> None:
    broker.create("purchases")
    broker.send("purchases", [purchase(number) for number in range(500)])
    ran = stream(project, broker)
    assert ran.code == 0 and "500 events landed; 0 messages were none" in ran.out, ran
    assert landed(project, "purchase_id, _topic, _partition, _offset") == [(n, "purchases", 0, n) for n in range(500)]
    project.dbt("build")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace="stream.first")
    store.materialize()
    spent = store.get_online_features(["spent:spent"], [{"user_id": 7}]).to_dict()["spent"]
    assert spent == [sum(number / 4 for number in range(500) if number % 50 == 7)]
    # Once more, from the beginning of the topic: nothing comes twice.
    broker.send("purchases", [purchase(500)])
    assert "1 events landed" in stream(project, broker).out
    assert landed(project, "count(*), count(distinct _offset), max(_seq) - min(_seq)") == [(501, 501, 1)]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_killed_at_random_moments_it_lands_each_event_once(
    kills: int, project: DbtProject, broker: kafka.Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    """While small files become large ones, old ones are removed, and readers look on."""
    topic = topic_of(project, broker, partitions=3)
    draw = random.Random(kills)
    sent = in_the_middle = killed = 0
    looked = Looking(project)
    with looked:
        while in_the_middle < kills:
            assert killed < 5 * kills
            broker.send(topic, [purchase(sent + number) for number in range(600)], partition=lambda number: number % 3)
            sent += 600
            process = start(project, broker, "--batch", "40", "--linger", "0.01", quick=True)
            in_the_middle += killed_in_a_write(project, process, draw.uniform(0, 0.6))
            killed += 1
        process = start(project, broker, "--batch", "400", "--until-idle", "3", quick=True)
        assert process.wait(600) == 0, process.stderr.read()
    assert landed(project, "count(*), count(distinct purchase_id), min(purchase_id), max(purchase_id)") == [
        (sent, sent, 0, sent - 1)
    ]
    by_partition = landed(
        project,
        "distinct _partition, count(*) over whole, max(_offset) over whole + 1",
        "main.purchases window whole as (partition by _partition)",
    )
    assert [(count, after) for _, count, after in by_partition] == [(count, count) for _, count, _ in by_partition]
    assert looked.reads > 5 and not looked.wrong, looked.wrong[:3]
    with capsys.disabled():
        print(
            f"\n[stream] {killed} kill -9, {in_the_middle} in the middle of a write; {sent} events; {looked.reads} reads beside it, 0 wrong"
        )


def test_two_streams_share_a_topic_and_what_one_leaves_the_other_takes(
    project: DbtProject, broker: kafka.Broker
) -> None:
    topic = topic_of(project, broker, partitions=4)
    broker.send(topic, [purchase(number) for number in range(800)], partition=lambda number: number % 4)
    one = start(project, broker, "--batch", "20", "--linger", "0.01")
    time.sleep(4)
    other = start(project, broker, "--batch", "20", "--linger", "0.01")
    for number in range(6):
        broker.send(
            topic, [purchase(800 + 200 * number + place) for place in range(200)], partition=lambda number: number % 4
        )
        time.sleep(0.7)
    one.kill()
    one.wait()
    until = time.monotonic() + 60
    while landed(project, "count(*)") != [(2000,)]:
        assert time.monotonic() < until, (
            landed(project, "_partition, count(*)", "main.purchases group by all"),
            other.poll(),
        )
        time.sleep(0.3)
    other.send_signal(signal.SIGTERM)
    _, err = other.communicate(timeout=30)
    assert other.returncode == 0 and "Traceback" not in err, err
    assert landed(project, "count(*), count(distinct purchase_id)") == [(2000, 2000)]


def test_what_is_no_event_is_a_dead_letter_and_stops_nobody(project: DbtProject, broker: kafka.Broker) -> None:
    topic = topic_of(project, broker)
    good = purchase(1)
    bad: list[tuple[Any, str]] = [
        (b"\xff\xfe", "is not JSON: its bytes are no UTF-8"),
        (b"{", "is not JSON"),
        (b"[1]", "is no JSON object"),
        (None, "has no value"),
        (good | {"user_id": None}, "user_id is missing"),
        ({name: value for name, value in good.items() if name != "purchased_at"}, "purchased_at is missing"),
        (good | {"purchased_at": "yesterday"}, "purchased_at is no TIMESTAMP WITH TIME ZONE: yesterday"),
        (good | {"purchased_at": "infinity"}, "purchased_at is no moment"),
        (good | {"user_id": 1.5}, "user_id is no BIGINT: 1.5"),
        (good | {"user_id": "seven"}, "user_id is no BIGINT: seven"),
        (good | {"amount": [1]}, "amount is no DOUBLE: [1]"),
        (b'{"user_id":' + b"[" * 3000 + b"]" * 3000 + b"}", "user_id is no BIGINT: " + "[" * 40),
    ]  # fmt: skip
    messages = [one for message, _ in bad for one in (purchase(10), message)]
    broker.send(topic, [*messages, good | {"other": 1}, good | {"user_id": "7", "amount": None}])
    ran = stream(project, broker)
    assert f"{len(bad) + 2} events landed; {len(bad)} messages were none" in ran.out, ran
    assert landed(project, "_offset, reason", "main.dead_letters") == [
        (2 * n + 1, why) for n, (_, why) in enumerate(bad)
    ]
    assert landed(project, "message", "main.dead_letters where _offset = 1") == [(b"\xff\xfe",)]
    assert landed(project, "user_id, amount", "main.purchases where _offset >= 24") == [(1, 0.25), (7, None)]


@pytest.mark.parametrize("form", ["avro", "protobuf"])
def test_avro_and_protobuf_give_the_rows_of_json(form: str, project: DbtProject, broker: kafka.Broker) -> None:
    encode = (avro if form == "avro" else protobuf)(project)
    topic = topic_of(
        project,
        broker,
        **{"format": form, "schema": f"purchase.{form}"} | ({"message": "shop.Purchase"} if form == "protobuf" else {}),
    )
    rows = [
        (2**53 + 1, 7, 0.1, START + timedelta(microseconds=1)),
        (-(2**63), 0, float("nan"), START),
        (0, 3, float("-inf"), START),
    ]
    values = [encode(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    # As a schema registry's serializer writes them: a zero and the schema's number, for Protobuf which message, too.
    head = b"\0\0\0\0\7" + (b"\0" if form == "protobuf" else b"")
    broker.send(topic, [*values, head + values[0], b"\xff\xff\xff", values[0] + b"\7\7"])
    ran = stream(project, broker)
    assert "4 events landed; 2 messages were none" in ran.out, ran
    found = landed(project, f"_offset, {', '.join(COLUMNS)}")
    for row, (offset, *values_found) in zip([*rows, rows[0]], found, strict=True):
        assert repr(values_found[:3]) == repr(list(row[:3])) and values_found[3] == row[3], offset
    reasons = landed(project, "reason", "main.dead_letters")
    assert len(reasons) == 2 and all(reason.startswith(f"is no {form.capitalize()} of ") for (reason,) in reasons), (
        reasons
    )


def avro(project: DbtProject) -> Any:
    import fastavro

    schema = {
        "type": "record", "name": "Purchase", "namespace": "shop",
        "fields": [
            {"name": "purchase_id", "type": "long"}, {"name": "user_id", "type": ["null", "long"]}, {"name": "amount", "type": "double"},
            {"name": "purchased_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }  # fmt: skip
    (project.folder / "purchase.avro").write_text(json.dumps(schema))

    def encode(row: dict[str, Any]) -> bytes:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), row)
        return stream.getvalue()

    return encode


def protobuf(project: DbtProject) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="purchase.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    message = file.message_type.add(name="Purchase")
    types = {"purchase_id": kind.TYPE_INT64, "user_id": kind.TYPE_INT64, "amount": kind.TYPE_DOUBLE}
    for number, (name, dtype) in enumerate(types.items(), 1):
        message.field.add(name=name, number=number, type=dtype, label=kind.LABEL_OPTIONAL)
    message.field.add(
        name="purchased_at",
        number=4,
        type=kind.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=kind.LABEL_OPTIONAL,
    )
    known = descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    (project.folder / "purchase.protobuf").write_bytes(
        descriptor_pb2.FileDescriptorSet(file=[known, file]).SerializeToString()
    )
    pool = descriptor_pool.DescriptorPool()
    for one in (known, file):
        pool.Add(one)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Purchase"))

    def encode(row: dict[str, Any]) -> bytes:
        found = made(**{name: value for name, value in row.items() if name != "purchased_at"})
        found.purchased_at.FromDatetime(row["purchased_at"])
        return found.SerializeToString()

    return encode


def test_a_push_lands_whole_or_not_at_all(project: DbtProject, redis_url: str) -> None:
    store = FeatureStore(project.folder, redis_url=redis_url)
    pushed = store.push("purchases", [purchase(number) for number in range(3)])
    assert (pushed.source, pushed.rows, pushed.repeated) == ("shop.purchases", 3, False)
    with pytest.raises(
        InputError, match=r"^Row 1 of a push to 'shop.purchases' is no event of it: user_id is missing\.$"
    ):
        store.push("shop.purchases", [purchase(4), {"purchased_at": START}])
    with pytest.raises(
        InputError, match=r"^Source 'shop.purchases' has no column 'usr', which row 0 brings; it has: purchase_id, "
    ):
        store.push("shop.purchases", [{"usr": 1}])
    frame = pa.table({"user_id": [5, 6], "amount": [1.5, None], "purchased_at": [START, START + timedelta(days=1)]})
    assert store.push("purchases", frame).rows == 2
    assert landed(project, "user_id, amount, purchased_at, _topic, _offset", "main.purchases where _offset >= 3") == [
        (5, 1.5, START, "_push", 3), (6, None, START + timedelta(days=1), "_push", 4),
    ]  # fmt: skip
    with pytest.raises(
        NotFoundError,
        match=r"^There is no source 'purchase' that says meta.stream \(did you mean 'shop.purchases'\?\); there are: shop.purchases\.$",
    ):
        store.push("purchase", [])


def test_a_source_is_pushed_to_by_each_of_its_names(project: DbtProject, redis_url: str) -> None:
    manifest = project.manifest()
    (source,) = manifest["sources"].values()
    source["identifier"] = "raw_purchases"
    other = json.loads(json.dumps(source)) | {
        "unique_id": "source.shop.web.clicks",
        "source_name": "web",
        "name": "clicks",
    }
    other |= {"identifier": "purchases"}
    other["config"]["meta"]["stream"]["topic"] = "clicks"
    manifest["sources"][other["unique_id"]] = other
    (project.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    store = FeatureStore(project.folder, redis_url=redis_url)
    for name in ("shop.purchases", "raw_purchases", "shop.raw_purchases"):
        assert store.push(name, [purchase(1)]).source == "shop.purchases"
    assert store.push("web.purchases", [purchase(1)]).source == "web.clicks"
    with pytest.raises(NotFoundError, match=r"^'purchases' may be shop.purchases or web.clicks: say which\.$"):
        store.push("purchases", [purchase(1)])
    assert landed(project, "count(*)", "main.raw_purchases") == [(3,)]


def test_a_push_that_is_repeated_with_its_key_lands_once(
    project: DbtProject, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(project.folder, redis_url=redis_url)
    rows = [purchase(number) for number in range(4)]
    # Its process ends between the key and the rows: nothing is in, so the next call lands it, whoever pushes meanwhile.
    with monkeypatch.context() as broken:
        broken.setattr(
            FileLanding, "make_live", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(LandingError, match="No space left on device"):
            store.push("purchases", rows, idempotency_key="order-17")
    assert store.push("purchases", rows[:2], idempotency_key="another").rows == 2
    assert not store.push("purchases", rows, idempotency_key="order-17").repeated
    landing = landing_of(store.project, streamed_sources(project.manifest()), lambda: START)
    with duckdb.connect() as connection:
        assert merge(connection, landing, together=2) == 1
    for again in (rows, [dict(row) for row in rows]):
        assert store.push("purchases", again, idempotency_key="order-17").repeated
    with pytest.raises(InputError, match=r"^Idempotency key 'order-17' came with other rows before"):
        store.push("purchases", rows[:1], idempotency_key="order-17")
    assert landed(project, "count(*)") == [(6,)]


def test_a_source_whose_columns_change_has_what_landed_before_in_its_new_columns(
    project: DbtProject, redis_url: str
) -> None:
    """Producers and the source need not change at one moment: what is unknown is passed over, what is not there is NULL."""
    store = FeatureStore(project.folder, redis_url=redis_url)
    for number in (1, 2):
        store.push("purchases", [purchase(number)])
    types = COLUMNS | {"user_id": "varchar", "amount": "decimal(12, 2)", "coupon": "varchar"}
    declare(project, [{"name": name, "data_type": dtype} for name, dtype in types.items()])
    store = FeatureStore(project.folder, redis_url=redis_url)
    store.push("purchases", [purchase(3) | {"user_id": "u3", "coupon": "SPRING"}, purchase(4)])
    expected = [(1, "1", "0.25", None), (2, "2", "0.50", None), (3, "u3", "0.75", "SPRING"), (4, "4", "1.00", None)]
    columns = "purchase_id, user_id, amount::varchar, coupon"
    assert landed(project, columns) == expected
    landing = landing_of(store.project, streamed_sources(project.manifest()), lambda: START)
    with duckdb.connect() as connection:
        assert merge(connection, landing, together=2) == 1
    landing.show()
    assert landed(project, columns) == expected


def test_many_pushes_at_once_are_all_in_and_none_twice(project: DbtProject, redis_url: str) -> None:
    def one(number: int) -> None:
        FeatureStore(project.folder, redis_url=redis_url).push(
            "purchases", [purchase(number)], idempotency_key=str(number % 12)
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: one(number % 12), range(24)))
    assert landed(project, "purchase_id, _offset") and landed(
        project, "count(*), count(distinct purchase_id), count(distinct _offset)"
    ) == [(12, 12, 12)]


def test_a_push_over_http(project: DbtProject, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_PROJECT_DIR", str(project.folder))
    text, key = new_key("shop", [], [])
    keys = tmp_path / "keys.json"
    entries = [msgspec.structs.replace(key, push=("shop.purchases",)), new_key("reader", ["*"], ["*"])[1]]
    keys.write_bytes(msgspec.json.encode({"keys": entries}))
    with serving(redis_url, "--push", "--api-keys", str(keys), namespace="stream.http") as (client, _):
        client.headers["authorization"] = f"Bearer {text}"

        def push(rows: Any, source: str = "shop.purchases", **headers: str) -> tuple[int, Any]:
            answer = client.post(f"/v1/push/{source}", json=rows, headers=headers)
            return answer.status_code, answer.json()

        rows = {"rows": [purchase(number) for number in range(3)]}
        once = {"source": "shop.purchases", "rows": 3, "repeated": False}
        assert push(rows, **{"idempotency-key": "a"}) == (200, once)
        assert push(rows, "purchases", **{"idempotency-key": "a"}) == (200, once | {"repeated": True})
        for body, status, said in (
            (
                {"rows": [{"user_id": None}]},
                422,
                "Row 0 of a push to 'shop.purchases' is no event of it: user_id is missing.",
            ),
            ({"row": []}, 400, "The body is not of the form"),
        ):
            found, answer = push(body)
            assert found == status and answer["error"]["message"].startswith(said), answer
        assert push(rows, "shop.orders")[0] == push(rows, "orders")[0] == 403
        until = time.monotonic() + 15
        while not landed(project, "1"):
            assert time.monotonic() < until, "readers do not see it"
            time.sleep(0.1)
        assert landed(project, "purchase_id") == [(0,), (1,), (2,)]
        # Nobody but the server keeps the landing: many small files become one, as beside a stream.
        for number in range(3, 70):
            assert push({"rows": [purchase(number)]})[0] == 200
        live = project.folder / "landing" / "shop.purchases" / "live"
        until = time.monotonic() + 30
        while len(list(live.iterdir())) > 10:
            assert time.monotonic() < until, "small files are not merged"
            time.sleep(0.2)
    assert landed(project, "purchase_id") == [(number,) for number in range(70)]


# What goes wrong is said, and passes where it can.


def test_a_full_disk_is_waited_for(project: DbtProject, broker: kafka.Broker) -> None:
    topic = topic_of(project, broker)
    broker.send(topic, [purchase(number) for number in range(100)])
    folder = project.folder / "landing" / "shop.purchases"
    process = start(project, broker, full=folder)
    until = time.monotonic() + 30
    while not (folder / "refused").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    (folder / "room").touch()
    while landed(project, "count(*)") != [(100,)]:
        assert time.monotonic() < until, process.poll()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert err.count("Events cannot land in") == 1 and "No space left on device. Trying again until they can." in err, (
        err
    )
    assert landed(project, "count(*), count(distinct _offset)") == [(100, 100)]


def test_a_topic_that_was_made_again_is_left_alone(project: DbtProject) -> None:
    """Its offsets are those of other events: landed on top of the old ones they would be taken for what is in."""
    topic = "purchases-again"
    declare(project, topic=topic)
    store = FeatureStore(project.folder)
    landing = landing_of(store.project, streamed_sources(project.manifest()), lambda: START)
    with duckdb.connect() as connection:
        source = landing.sources["shop.purchases"]
        Decoder(connection, source).rows([Message(topic, 0, 9_999, json.dumps(purchase(1)).encode())], "before")
        landing.commit(connection, source, "before", lambda: Covered(0, topic, 0, 9_999, 9_999))
    with kafka.mock() as other:  # which says that it has no such offset; the tests' broker waits until it has
        other.send(topic, [purchase(2)])
        ran = stream(project, other)
    assert f"Topic {topic}, partition 0 begins anew at offset 0, and 10000 was to come" in ran.err, ran
    assert landed(project, "purchase_id") == [(1,)]


@pytest.mark.parametrize(
    ("meta", "columns", "said"),
    [
        ({"topik": "x"}, None, "has no key 'topik' (did you mean 'topic'?)"),
        ({"topic": 7}, None, "topic is the name of a Kafka topic, not 7"),
        ({"topic": "x", "format": "xml"}, None, "format is one of json, avro, protobuf, not 'xml'"),
        ({"topic": "x", "key": "usr"}, None, "names column 'usr', which is not among its columns"),
        ({"topic": "x", "format": "avro"}, None, "schema names an .avsc file"),
        ({"topic": "x"}, [{"name": "a"}], "column 'a' has none"),
        ({"topic": "x"}, [{"name": "_seq", "data_type": "bigint"}], "column '_seq' is the landing's own"),
        ({"topic": "x"}, [{"name": "a", "data_type": "bigit"}], "data_type 'bigit', which DuckDB does not know"),
    ],
)  # fmt: skip
def test_a_source_that_says_it_wrongly(project: DbtProject, meta: Any, columns: Any, said: str) -> None:
    declare(project, columns, **{"topic": None, "key": None, "timestamp": None} | meta)
    with pytest.raises(DefinitionError, match=re.escape(said)), duckdb.connect() as connection:
        for source in streamed_sources(project.manifest()).values():
            Decoder(connection, source)


def test_what_is_not_there_is_named(project: DbtProject, broker: kafka.Broker) -> None:
    declare(project, topic="none")
    said = f"{broker.address} has no topic 'none', which source 'shop.purchases' names; it has: "
    absent = stream(project, broker).err
    assert_one_sentence(absent)
    assert said in absent
    away = run("feature-store", "stream", "--brokers", "127.0.0.1:9", "--project-dir", str(project.folder))
    assert_one_sentence(away.err)
    assert "No Kafka broker answers at 127.0.0.1:9" in away.err
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("alias: landing", "alias: other"))
    unknown = stream(project, broker).err
    assert_one_sentence(unknown)
    assert "under which target 'dev' attaches no landing.duckdb" in unknown
    nobody = run("feature-store", "stream", "--project-dir", str(project.folder))
    assert nobody.code == 2 and "No Kafka broker is named" in nobody.err


def test_it_is_explained_which_views_stream(project: DbtProject) -> None:
    def explained() -> Ran:
        return run("feature-store", "stream", "--explain", "--project-dir", str(project.folder))

    said = explained()
    assert said.out.splitlines() == [
        "rank: does not stream, as its window is over the rows of all entities.",
        "    models/rank.sql:4  RANK() OVER (ORDER BY spent)",
        "spent: streams by user_id, from shop.purchases.",
        "still: does not stream, as it reads no streamed source.",
        "windows: does not stream, as its window is over the rows of several entities: 'purchases.user_id' is not among what it goes by.",
        "    models/first_of_each.sql:3  ROW_NUMBER() OVER (PARTITION BY purchase_id ORDER BY _landed_at, _offset) = 1",
        "    To mend it: say in source 'shop.purchases' what the id decides, `stream: {determines: {purchase_id: [user_id]}}`, or partition by user_id too.",
    ], said  # fmt: skip
    models = project.folder / "models" / "models.yml"
    models.write_text(
        models.read_text().replace("key: user_id", "key: user_id\n          determines: {purchase_id: [user_id]}")
    )
    project.dbt("parse")
    said = explained()
    assert "windows: streams by user_id, from shop.purchases." in said.out, said
