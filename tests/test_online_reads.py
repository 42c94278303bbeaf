"""Online reads: statuses, keys of every kind, several views, services, and a registry that changes under a reader."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import redis

from materializer import FeatureStore, InputError, NotFoundError, Status
from materializer.online import local as local_redis
from materializer.online.keys import key_texts
from materializer.online.reader import OnlineReader
from tests.support.command import environment
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import EVENT, built_shop, change_properties, change_warehouse

USER = ["user_features:age", "user_features:city", "user_features:score"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """Only read by the tests of this file; those that change one copy it."""
    return copy_of(built_shop(), tmp_path_factory.mktemp("reads") / "shop")


@pytest.fixture(scope="module")
def published(shop: DbtProject, redis_url: str) -> str:
    """A namespace that everything is materialized into."""
    FeatureStore(shop.folder, redis_url=redis_url, namespace="reads").materialize()
    return "reads"


@pytest.fixture
def reader(published: str, redis_url: str) -> FeatureStore:
    return FeatureStore(redis_url=redis_url, namespace=published)


@pytest.fixture
def own(tmp_path: Path, redis_url: str, namespace: str) -> tuple[DbtProject, FeatureStore, FeatureStore]:
    """A shop of the test's own, the store that writes it, and a reader that has read once already."""
    shop = copy_of(built_shop(), tmp_path / "shop")
    writer = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    writer.materialize()
    reader = FeatureStore(redis_url=redis_url, namespace=namespace)
    assert ages(reader, 1) == [31]
    return shop, writer, reader


def ages(store: FeatureStore, *users: Any) -> list[Any]:
    return store.get_online_features(["user_features:age"], [{"user_id": user} for user in users]).to_dict()["age"]


# Answers.


def test_each_status_has_its_own_meaning(reader: FeatureStore, client: redis.Redis) -> None:
    rows = [{"user_id": 1}, {"user_id": 3}, {"user_id": 99}, {"user_id": None}]
    answer = reader.get_online_features(USER, rows).to_dict(include_statuses=True, include_event_timestamps=True)
    assert list(answer) == [
        "user_id",
        *(f"{name}{suffix}" for name in ("age", "city", "score") for suffix in ("", "__status", "__event_timestamp")),
    ]
    assert answer["user_id"] == [1, 3, 99, None]
    assert answer["age"] == [31, None, None, None]
    assert answer["age__status"] == ["PRESENT", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]
    assert answer["city"] == ["Bergen", "", None, None]
    assert answer["city__status"] == ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"]
    assert repr(answer["score"]) == "[0.1, -0.0, None, None]"
    assert answer["age__event_timestamp"] == [EVENT, EVENT, None, None]
    assert answer["age__event_timestamp"][0].tzinfo == timezone.utc
    assert [str(status) for status in Status] == ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]
    assert json.dumps(answer["age__status"]) == '["PRESENT", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]'

    plain = reader.get_online_features(USER, rows).to_dict()
    assert list(plain) == ["user_id", "age", "city", "score"]


def test_a_row_older_than_its_ttl_is_outside_of_it(reader: FeatureStore, published: str, client: redis.Redis) -> None:
    """The reader judges, from the event time and the server's clock: inclusive at the ttl itself."""
    seconds, micros = client.time()
    now = datetime.fromtimestamp(seconds, timezone.utc) + timedelta(microseconds=micros)
    for name, age in (("old", timedelta(days=30)), ("young", timedelta(days=30) - timedelta(minutes=1))):
        event = (now - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        client.hset(f"{published}:item_features:{name}", mapping={"price": "1.00", "_fs_event": event})
    answer = reader.get_online_features(
        ["item_features:price", "item_features:in_stock"], [{"item_id": "old"}, {"item_id": "young"}]
    ).to_dict(include_statuses=True, include_event_timestamps=True)
    assert answer["price"] == [None, Decimal("1.00")]
    assert answer["price__status"] == ["OUTSIDE_MAX_AGE", "PRESENT"]
    assert answer["in_stock__status"] == ["OUTSIDE_MAX_AGE", "NULL_VALUE"]
    assert answer["price__event_timestamp"][0] == now - timedelta(days=30)
    client.delete(f"{published}:item_features:old", f"{published}:item_features:young")


def test_rows_come_back_in_their_order_duplicates_and_all(reader: FeatureStore) -> None:
    assert ages(reader, 2, 1, 2, 99, 1, None, 2) == [2**53 + 1, 31, 2**53 + 1, None, 31, None, 2**53 + 1]
    many = [n % 5 for n in range(3000)]
    assert ages(reader, *many) == [[None, 31, 2**53 + 1, None, None][n] for n in many]
    assert ages(reader) == []


def test_features_come_back_in_the_order_asked(reader: FeatureStore) -> None:
    asked = ["user_features:score", "item_features:price", "user_features:age"]
    answer = reader.get_online_features(asked, [{"user_id": 1, "item_id": "a:1"}]).to_dict()
    assert list(answer) == ["user_id", "item_id", "score", "price", "age"]


def test_entity_rows_may_be_a_dict_of_lists(reader: FeatureStore) -> None:
    expected = {"user_id": [1, 2], "city": ["Bergen", None]}
    for users in ([1, 2], (1, 2), np.array([1, 2]), pd.Series([1, 2])):
        answer = reader.get_online_features(["user_features:city"], {"user_id": users}).to_dict()
        assert {name: list(values) for name, values in answer.items()} == expected


def test_other_fields_of_a_row_come_back_untouched(reader: FeatureStore) -> None:
    rows = [{"user_id": 1, "request": {"id": 5}}, {"user_id": "2"}]
    answer = reader.get_online_features(["user_features:age"], rows).to_dict()
    assert answer == {"user_id": [1, "2"], "request": [{"id": 5}, None], "age": [31, 2**53 + 1]}
    assert rows == [{"user_id": 1, "request": {"id": 5}}, {"user_id": "2"}]


def test_integer_keys_are_taken_in_every_form_that_means_the_number(reader: FeatureStore) -> None:
    ones = [1, "1", 1.0, np.int64(1), np.int8(1), np.uint64(1), np.float64(1), Decimal(1), Decimal("1.0"), b"1"]
    for one in ones:
        assert ages(reader, one) == [31], repr(one)
    nothing = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, Decimal("nan")]
    for none in nothing:
        assert ages(reader, none) == [None], repr(none)
    assert ages(reader, *ones, *nothing) == [31] * len(ones) + [None] * len(nothing)
    assert ages(reader, -1, 2**63, 2**80) == [None] * 3


KEYS: list[tuple[pa.DataType, Any, str | None]] = [
    (pa.string(), "1", "1"),
    (pa.string(), 1, "1"),
    (pa.string(), "", ""),
    (pa.string(), 2**80, str(2**80)),
    (pa.string(), np.str_("a"), "a"),
    (pa.string(), True, "true"),
    (pa.string(), b"a", "a"),
    (pa.string(), date(2024, 1, 2), "2024-01-02"),
    (pa.bool_(), True, "true"),
    (pa.bool_(), np.bool_(False), "false"),
    (pa.bool_(), "true", "true"),
    (pa.decimal128(10, 2), Decimal("1.5"), "1.50"),
    (pa.decimal128(10, 2), "1.5", "1.50"),
    (pa.decimal128(10, 2), 1, "1.00"),
    (pa.decimal128(10, 2), np.int64(1), "1.00"),
    (pa.decimal128(38, 0), 2**70, str(2**70)),
    (pa.date32(), date(2024, 1, 2), "2024-01-02"),
    (pa.date32(), "2024-01-02", "2024-01-02"),
    (pa.date32(), np.datetime64("2024-01-02"), "2024-01-02"),
    (pa.date32(), pd.Timestamp("2024-01-02"), "2024-01-02"),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 2), "2024-01-02T00:00:00.000000Z"),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2))),
     "2024-01-01T22:00:00.000000Z"),
    (pa.timestamp("us", "UTC"), pd.Timestamp("2024-01-02", tz="Europe/Oslo"), "2024-01-01T23:00:00.000000Z"),
    (pa.timestamp("us"), np.datetime64("2024-01-02T00:00:00.000000001", "ns"), "2024-01-02T00:00:00.000000Z"),
    (pa.timestamp("us"), "2024-01-02 00:00:00", "2024-01-02T00:00:00.000000Z"),
    (pa.int8(), "-5", "-5"),
    (pa.uint64(), 2**64 - 1, str(2**64 - 1)),
    (pa.string(), None, None),
    (pa.date32(), pd.NaT, None),
]  # fmt: skip


@pytest.mark.parametrize("dtype, value, text", KEYS, ids=lambda part: repr(part)[:40])
def test_a_key_of_any_type_is_brought_to_the_views(dtype: pa.DataType, value: Any, text: str | None) -> None:
    assert key_texts([value], dtype, "key") == [text]
    assert key_texts([value, None], dtype, "key") == [text, None]


@pytest.mark.parametrize(
    "dtype, value",
    [
        (pa.int64(), 1.5), (pa.int64(), True), (pa.int64(), "x"), (pa.int64(), date(2024, 1, 1)),
        (pa.int64(), float("inf")), (pa.int64(), Decimal("1.5")), (pa.int64(), np.array([1, 2])),
        (pa.bool_(), "maybe"), (pa.date32(), "2024-13-01"), (pa.date32(), 5), (pa.timestamp("us"), 5),
        (pa.decimal128(4, 2), "1.555"), (pa.decimal128(4, 2), 1000), (pa.decimal128(4, 2), "x"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_of_the_views_type_is_refused(dtype: pa.DataType, value: Any) -> None:
    with pytest.raises(InputError, match="Join key 'key' is of type"):
        key_texts([value], dtype, "key")


def test_several_views_answer_in_one_request(reader: FeatureStore) -> None:
    asked = ["user_features:age", "item_features:in_stock", "user_item:affinity"]
    rows = [{"user_id": 1, "item_id": "a:1"}, {"user_id": 1, "item_id": "b"}, {"user_id": 2, "item_id": "a:1"}]
    answer = reader.get_online_features(asked, rows).to_dict(include_statuses=True)
    assert answer["age"] == [31, 31, 2**53 + 1]
    assert answer["in_stock"] == [True, None, True]
    assert answer["affinity"] == [7, 8, None]
    assert answer["affinity__status"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    with pytest.raises(InputError, match="a join key of feature view 'item_features'"):
        reader.get_online_features(asked, [{"user_id": 1}])


def test_full_names_tell_two_views_apart(reader: FeatureStore) -> None:
    answer = reader.get_online_features(
        ["user_features:age", "item_features:age"], [{"user_id": 1, "item_id": "a:1"}], full_feature_names=True
    ).to_dict(include_statuses=True)
    assert (answer["user_features__age"], answer["item_features__age"]) == ([31], [3])
    assert answer["item_features__age__status"] == ["PRESENT"]


def test_a_service_is_asked_by_name_or_as_an_object(reader: FeatureStore) -> None:
    rows = [{"user_id": 1, "item_id": "a:1"}]
    (service,) = reader.list_feature_services()
    assert service.name == "recommendation" and service.owner == "ML" and "live" in service.tags
    expected = {"user_id": [1], "item_id": ["a:1"], "city": ["Bergen"], "price": [Decimal("9.90")]}
    for features in ("recommendation", service, reader.get_feature_service("recommendation"), list(service.features)):
        assert reader.get_online_features(features, rows).to_dict() == expected
    full = reader.get_online_features("recommendation", rows, full_feature_names=True).to_dict()
    assert full["item_features__price"] == [Decimal("9.90")]


def test_answers_are_arrow_and_pandas_in_the_views_types(reader: FeatureStore) -> None:
    response = reader.get_online_features([*USER, "item_features:price"], [
        {"user_id": 2, "item_id": "a:1"}, {"user_id": 99, "item_id": "zzz"},
    ])  # fmt: skip
    table = response.to_arrow()
    assert table.schema.field("age").type == pa.int64() and table.schema.field("price").type == pa.decimal128(10, 2)
    assert table["age"].to_pylist() == [2**53 + 1, None]
    frame = response.to_df()
    assert frame["age"].dtype == pd.Int64Dtype() and frame["age"][0] == 2**53 + 1
    assert frame["score"].isna().tolist() == [False, True], "NaN is a value"
    empty = reader.get_online_features(USER, []).to_arrow()
    assert empty.num_rows == 0 and empty.schema.field("score").type == pa.float64()


def test_rows_whose_key_is_of_several_types_are_answered_and_are_no_arrow_column(reader: FeatureStore) -> None:
    response = reader.get_online_features(["user_features:age"], [{"user_id": Decimal(2)}, {"user_id": "2"}])
    assert response.to_dict()["age"] == [2**53 + 1] * 2
    with pytest.raises(InputError, match="Column 'user_id' of the entity rows has values of several types"):
        response.to_arrow()


def test_a_reader_lists_what_is_published(reader: FeatureStore) -> None:
    views = {view.name: view for view in reader.list_feature_views()}
    assert sorted(views) == ["item_features", "user_features", "user_item"]
    assert views["item_features"].ttl == timedelta(days=30)
    assert views["user_features"].owner == "growth" and views["user_features"].tags == {"people": "", "team": "growth"}
    assert [entity.dtype for entity in views["user_item"].entities] == [pa.int64(), pa.string()]
    assert [view.name for view in reader.list_feature_views(tags={"team": "stock"})] == ["item_features"]
    assert [view.name for view in reader.list_feature_views(tags=["people", "things"])] == ["user_item"]
    assert {entity.name for entity in reader.list_entities()} == {"user_id", "item_id"}


# A registry that changes.


def test_a_changed_ttl_is_seen_at_the_next_read(own: tuple[DbtProject, FeatureStore, FeatureStore]) -> None:
    shop, writer, reader = own
    change_properties(shop, "user_features", {"entities": ["user_id"], "ttl": "5200 weeks"})
    shop.dbt("parse")
    writer.materialize(["user_features"])
    assert ages(reader, 1) == [31]
    change_properties(shop, "user_features", {"entities": ["user_id"], "ttl": "52 weeks"})
    shop.dbt("parse")
    writer.materialize(["user_features"], allow_shrink=True)
    answer = reader.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict(include_statuses=True)
    assert answer["age"] == [None] and answer["age__status"][0] in ("OUTSIDE_MAX_AGE", "NOT_FOUND")


def test_features_added_and_dropped_are_seen_at_the_next_read(
    own: tuple[DbtProject, FeatureStore, FeatureStore],
) -> None:
    shop, writer, reader = own
    change_warehouse(
        shop, "alter table user_features add column height double", "update user_features set height = 1.8"
    )
    writer.materialize(["user_features"])
    answer = reader.get_online_features(["user_features:height", "user_features:city"], [{"user_id": 1}]).to_dict()
    assert (answer["height"], answer["city"]) == ([1.8], ["Bergen"])
    change_warehouse(shop, "alter table user_features drop column city")
    writer.materialize(["user_features"])
    with pytest.raises(NotFoundError, match="has no feature 'city'; it has: age, score, height"):
        reader.get_online_features(["user_features:city"], [{"user_id": 1}])
    assert ages(reader, 1) == [31]


def test_a_view_published_later_is_seen_at_the_next_read(tmp_path: Path, redis_url: str, namespace: str) -> None:
    shop = copy_of(built_shop(), tmp_path / "shop")
    writer = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    writer.materialize(["user_features"])
    reader = FeatureStore(redis_url=redis_url, namespace=namespace)
    assert ages(reader, 1) == [31]
    entity = {"user_id": 1, "item_id": "b"}
    with pytest.raises(NotFoundError, match="no feature view 'user_item'; there are: user_features"):
        reader.get_online_features(["user_item:affinity"], [entity])
    writer.materialize(["user_item"])
    assert reader.get_online_features(["user_item:affinity"], [entity]).to_dict()["affinity"] == [8]


def test_a_null_overwrites_an_earlier_value(own: tuple[DbtProject, FeatureStore, FeatureStore]) -> None:
    shop, writer, reader = own
    change_warehouse(shop, "update user_features set age = null where user_id = 1")
    writer.materialize(["user_features"])
    answer = reader.get_online_features(USER[:2], [{"user_id": 1}]).to_dict(include_statuses=True)
    assert (answer["age__status"], answer["city"]) == (["NULL_VALUE"], ["Bergen"])


def test_an_answer_is_never_made_with_a_registry_that_another_thread_just_replaced(
    own: tuple[DbtProject, FeatureStore, FeatureStore], monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    """Two requests of one reader: while the first is on its way, the second learns of a new ttl."""
    _, _, reader = own
    inner = reader._reader
    key = f"{reader.namespace}:registry"
    exchange = OnlineReader._exchange
    meddled = []

    def meddle(self: OnlineReader, *args: Any) -> list[Any]:
        if not meddled:
            meddled.append(True)
            published = json.loads(client.hget(key, "user_features"))
            client.hset(key, "user_features", json.dumps({**published, "ttl_seconds": 60}))
            client.set(f"{reader.namespace}:_fs_revision", "another")
            inner.registry()
        return exchange(self, *args)

    monkeypatch.setattr(OnlineReader, "_exchange", meddle)
    answer = reader.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict(include_statuses=True)
    assert answer["age__status"] == ["OUTSIDE_MAX_AGE"]


def test_readers_look_at_the_registry_again_only_when_a_view_changed(
    own: tuple[DbtProject, FeatureStore, FeatureStore], client: redis.Redis
) -> None:
    shop, writer, reader = own
    revision, registry = f"{reader.namespace}:_fs_revision", f"{reader.namespace}:registry"

    def renews() -> bool:
        before = client.get(revision)
        writer.materialize(["user_features"])
        return client.get(revision) != before

    assert not renews()
    change_warehouse(shop, "update user_features set age = 77 where user_id = 1")
    assert not renews()
    assert reader.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()["age"] == [77]
    change_warehouse(shop, "alter table user_features add column height integer default 180")
    assert renews() and not renews()
    assert reader.get_online_features(["user_features:height"], [{"user_id": 1}]).to_dict()["height"] == [180]
    # As a run leaves it that is killed before it renewed the revision.
    entry = json.loads(client.hget(registry, "user_features"))
    client.hset(registry, "user_features", json.dumps({**entry, "announced": False}))
    assert renews() and not renews()


def test_what_an_older_release_published_is_read_and_published_anew_by_the_next_run(
    own: tuple[DbtProject, FeatureStore, FeatureStore], client: redis.Redis
) -> None:
    _, writer, reader = own
    registry = f"{reader.namespace}:registry"
    entry = json.loads(client.hget(registry, "user_features"))
    assert entry["format"] == 2 and entry.pop("announced") is True
    client.hset(registry, "user_features", json.dumps({**entry, "format": 1, "told": True}))
    older = FeatureStore(redis_url=reader._redis_url, namespace=reader.namespace)
    rows = [{"user_id": 1}]
    assert (
        older.get_online_features(["user_features:age"], rows).to_dict()
        == reader.get_online_features(["user_features:age"], rows).to_dict()
    )
    writer.materialize(["user_features"])
    entry = json.loads(client.hget(registry, "user_features"))
    assert (entry["format"], entry["announced"], "told" in entry) == (2, True, False)


def test_threads_share_a_reader(own: tuple[DbtProject, FeatureStore, FeatureStore]) -> None:
    _, writer, reader = own
    failures: list[BaseException] = []
    stop = threading.Event()

    def read(user: int, expected: int) -> None:
        try:
            while not stop.is_set():
                assert ages(reader, user, "1", None) == [expected, 31, None]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(user, age)) for user, age in ((1, 31), (2, 2**53 + 1)) * 2]
    for thread in threads:
        thread.start()
    for _ in range(2):
        writer.materialize(["user_features", "user_item"], full=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_threads_may_bring_keys_to_texts_at_once() -> None:
    expected = [str(Decimal(n) / 100) if n % 100 else f"{n // 100}.00" for n in range(101, 150)]
    failures: list[Any] = []

    def work() -> None:
        for _ in range(3):
            try:
                texts = key_texts([Decimal(n) / 100 for n in range(101, 150)], pa.decimal128(10, 2), "key")
            except Exception as error:
                failures.append(error)
                return
            if [Decimal(text) for text in texts] != [Decimal(text) for text in expected]:
                failures.append(texts)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Redis alone.


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "redis"
    local_redis.start(folder)
    yield folder
    local_redis.stop(folder)


def test_a_reader_outlives_a_restart_of_redis(tmp_path: Path, private_redis: Path) -> None:
    """The restarted server is on the same port, with the same rows."""
    url = local_redis.url(private_redis)
    shop = copy_of(built_shop(), tmp_path / "shop")
    FeatureStore(shop.folder, redis_url=url).materialize()
    reader = FeatureStore(redis_url=url)
    assert reader.namespace == "shop.dev"
    assert ages(reader, 1) == [31]
    for connection in redis.Redis.from_url(url).client_list():
        redis.Redis.from_url(url).client_kill_filter(_id=connection["id"], skipme=True)
    assert ages(reader, 1) == [31]

    port = url.rsplit(":", 1)[1].partition("/")[0]
    local_redis.stop(private_redis)
    server = subprocess.Popen(
        ["redis-server", "--port", port, "--bind", "127.0.0.1", "--appendonly", "yes", "--dir", str(private_redis)],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis.from_url(url) as client:
            for _ in range(100):
                try:
                    client.ping()
                    break
                except redis.RedisError:
                    threading.Event().wait(0.05)
        assert ages(reader, 1, 2) == [31, 2**53 + 1]
    finally:
        server.terminate()
        server.wait()


READ_ALONE = """
import sys, time

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dbt", "duckdb"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
started = time.perf_counter()
from materializer import FeatureStore
imported = time.perf_counter() - started
store = FeatureStore(redis_url=sys.argv[1], namespace=sys.argv[2])
answer = store.get_online_features("recommendation", [{"user_id": 1, "item_id": "a:1"}]).to_dict(True, True)
print([view.name for view in store.list_feature_views()], answer["city"], answer["price"], answer["city__status"])
heavy = sorted({"click", "dbt", "jinja2", "pandas", "polars", "rich", "sqlglot", "yaml"} & set(sys.modules))
print(heavy, f"imported in {imported:.2f} s", file=sys.stderr)
"""


def test_a_reader_needs_neither_project_nor_dbt_nor_a_warehouse_driver(
    own: tuple[DbtProject, FeatureStore, FeatureStore], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    shop, _, _ = own
    shutil.rmtree(shop.folder)
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", READ_ALONE, redis_url, namespace],
        cwd=tmp_path / "empty", env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['item_features', 'user_features', 'user_item'] ['Bergen'] [Decimal('9.90')] ['PRESENT']\n"
    loaded = done.stderr.partition("]")[0]
    assert "dbt" not in loaded and "polars" not in loaded and "sqlglot" not in loaded, done.stderr
