"""The online format: what any client of any language finds in Redis, read here with plain commands."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from materializer import FeatureStore
from materializer.online.keys import escape, glob_literal, unescape
from materializer.online.rows import keep_for
from materializer.online.values import codec, encode
from materializer.warehouse.arrow import to_plain
from tests.support.dbt import DbtProject, copy_of, make_project
from tests.support.shop import EVENT_TEXT, built_shop

# One column each: SQL, and what Redis holds of it.
VALUES: dict[str, tuple[str, bytes | None]] = {
    "a_bigint": ("9007199254740993::bigint", b"9007199254740993"),
    "a_negative": ("(-9223372036854775808)::bigint", b"-9223372036854775808"),
    "a_tinyint": ("(-128)::tinyint", b"-128"),
    "a_ubigint": ("18446744073709551615::ubigint", b"18446744073709551615"),
    "a_hugeint": ("170141183460469231731687303715884::hugeint", b"170141183460469231731687303715884"),
    "a_double": ("0.1::double", b"0.1"),
    "a_small_double": ("1e-7::double", b"1e-07"),
    "a_whole_double": ("100000::double", b"100000.0"),
    "a_long_double": ("(1::double / 3)", b"0.3333333333333333"),
    "a_float": ("0.1::float", b"0.1"),
    "a_nan": ("'nan'::double", b"nan"),
    "an_inf": ("'inf'::double", b"inf"),
    "a_minus_inf": ("'-inf'::float", b"-inf"),
    "a_minus_zero": ("'-0.0'::double", b"-0.0"),
    "a_true": ("true", b"true"),
    "a_false": ("false", b"false"),
    "a_zoned": ("timestamptz '2024-05-01 14:30:00.123456+02'", b"2024-05-01T12:30:00.123456Z"),
    "a_naive": ("timestamp '2024-05-01 12:30:00'", b"2024-05-01T12:30:00.000000Z"),
    "a_nano": ("'2024-05-01 12:30:00.123456789'::timestamp_ns", b"2024-05-01T12:30:00.123456Z"),
    "a_second": ("'2024-05-01 12:30:00'::timestamp_s", b"2024-05-01T12:30:00.000000Z"),
    "an_old_one": ("timestamp '1969-12-31 23:59:59.999999'", b"1969-12-31T23:59:59.999999Z"),
    "a_date": ("date '2024-02-29'", b"2024-02-29"),
    "a_time": ("time '23:59:59.000001'", b"23:59:59.000001"),
    "a_decimal": ("1.50::decimal(10, 2)", b"1.50"),
    "a_wide_decimal": ("'-0.00000000000000000001'::decimal(38, 20)", b"-0.00000000000000000001"),
    "a_text": ("'it''s: 100% {plain}'", b"it's: 100% {plain}"),
    "an_empty_text": ("''", b""),
    "a_crlf": ("'a' || chr(13) || chr(10) || 'b$3' || chr(13) || chr(10)", b"a\r\nb$3\r\n"),
    "a_unicode": ("'naïve 🦆'", "naïve 🦆".encode()),
    "a_nul": ("'a' || chr(0) || 'b'", b"a\x00b"),
    "a_blob": ("'\\x00\\xFF\\x0D\\x0A'::blob", b"\x00\xff\r\n"),
    "an_enum": ("'small'::enum('big', 'small')", b"small"),
    "an_uuid": ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "floats": ("[0.5, -1.0]::float[]", struct.pack("<2f", 0.5, -1.0)),
    "an_array": ("[0.5::float, 1.5, 'nan']::float[3]", struct.pack("<3f", 0.5, 1.5, math.nan)),
    "doubles": ("[0.1::double, 'inf']::double[]", struct.pack("<2d", 0.1, math.inf)),
    "no_floats": ("[]::double[]", b""),
    "holed_floats": ("[0.5, null]::float[]", b"[0.5,null]"),
    "integers": ("[1, null, 9007199254740993]::bigint[]", b"[1,null,9007199254740993]"),
    "texts": ("['a', 'b\"', 'é', null]", '["a","b\\"","é",null]'.encode()),
    "a_struct": (
        "{'a': 1, 'b': 'nan'::double, 'c': 1.50::decimal(5, 2), 'd': timestamp '2024-05-01 00:00:00'}",
        b'{"a":1,"b":"nan","c":"1.50","d":"2024-05-01T00:00:00.000000Z"}',
    ),
    "a_map": ("map {'x': 1, 'y': null}", b'[["x",1],["y",null]]'),
    "nested": ("[[0.5], []]::double[][]", b"[[0.5],[]]"),
    "structs": ("[{'s': '\\x00'::blob, 'ok': true}]", b'[{"s":"00","ok":true}]'),
    "a_null": ("null::bigint", None),
    "a_null_text": ("null::varchar", None),
    "a_null_list": ("null::float[]", None),
}
# Key values, as SQL, and how they stand in a key.
KEYS = {
    "bigint": ("-5::bigint", "-5"),
    "varchar": ("'a:b%c{d}*?[é] \\'", "a%3Ab%25c%7Bd%7D*?[é] \\"),
    "empty": ("''", ""),
    "boolean": ("true", "true"),
    "date": ("date '2024-02-29'", "2024-02-29"),
    "timestamp": ("timestamptz '2024-05-01 00:00:00+00'", "2024-05-01T00%3A00%3A00.000000Z"),
    "decimal": ("1.50::decimal(10, 2)", "1.50"),
    "uuid": ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """A view with a column of every type, one with a join key of every type, and ones that expire."""
    moment = "timestamptz '2024-05-01 12:30:00.25+00'"
    columns = ", ".join(f"{sql} as {name}" for name, (sql, _) in VALUES.items())
    keys = ", ".join(f"{sql} as {name}_key" for name, (sql, _) in KEYS.items())
    views = {
        "types": (f"select 1 as id, {moment} as event_timestamp, {columns}", {"entities": ["id"]}),
        "keys": (
            f"select {keys}, {moment} as event_timestamp, 1 as x",
            {"entities": [f"{name}_key" for name in KEYS]},
        ),
        "short": (
            f"select id, date_trunc('second', now()) - interval 2 hour as event_timestamp, {moment} as created_at,"
            " 1 as x from range(2) as r(id)",
            {"entities": ["id"], "ttl": "1 hour", "created_timestamp": "created_at"},
        ),
        "long": (
            "select 1 as id, date_trunc('second', now()) as event_timestamp, 1 as x",
            {"entities": ["id"], "ttl": "4 weeks"},
        ),
    }
    files = {f"models/{name}.sql": sql for name, (sql, _) in views.items()}
    models = [
        {"name": name, "config": {"materialized": "table", "meta": {"feature_view": meta}}}
        for name, (_, meta) in views.items()
    ]
    project = make_project(tmp_path_factory.mktemp("format") / "shop", {**files, "models/m.yml": {"models": models}})
    project.dbt("run")
    return project


@pytest.fixture
def shop(tmp_path: Path) -> DbtProject:
    return copy_of(built_shop(), tmp_path / "shop")


@pytest.fixture
def store(project: DbtProject, redis_url: str, namespace: str) -> FeatureStore:
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=namespace)
    store.materialize(full=True)
    return store


def test_every_type_is_text_that_other_languages_can_read(
    store: FeatureStore, client: redis.Redis, namespace: str
) -> None:
    key = f"{namespace}:types:1"
    assert client.type(key) == b"hash" and client.ttl(key) == -1
    row = client.hgetall(key)
    assert row.pop(b"_fs_event") == EVENT_TEXT.encode()
    assert row.pop(b"_fs_writer").startswith(b"run:")
    expected = {name.encode(): text for name, (_, text) in VALUES.items() if text is not None}
    assert row == expected


def test_what_was_written_is_read_as_the_warehouse_has_it(store: FeatureStore) -> None:
    features = [f"types:{name}" for name in VALUES]
    online = store.get_online_features(features, [{"id": 1}]).to_arrow()
    spine = pa.table({"id": [1], "event_timestamp": pa.array([datetime(2030, 1, 1)], pa.timestamp("us"))})
    offline = store.get_historical_features(spine, features).to_arrow()
    for name in VALUES:
        assert online.schema.field(name).type == offline.schema.field(name).type, name
        assert repr(online[name][0].as_py()) == repr(offline[name][0].as_py()), name


def test_a_key_is_namespace_view_and_escaped_values(store: FeatureStore, client: redis.Redis, namespace: str) -> None:
    expected = f"{namespace}:keys:" + ":".join(text for _, text in KEYS.values())
    (key,) = client.scan_iter(match=f"{namespace}:keys:*", count=1000)
    assert key.decode() == expected
    given = {
        "bigint_key": -5,
        "varchar_key": "a:b%c{d}*?[é] \\",
        "empty_key": "",
        "boolean_key": True,
        "date_key": date(2024, 2, 29),
        "timestamp_key": datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        "decimal_key": Decimal("1.5"),
        "uuid_key": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    }
    assert store.get_online_features(["keys:x"], [given]).to_dict()["x"] == [1]


def test_parts_of_composite_keys_do_not_run_into_each_other(
    shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace).materialize()
    assert client.hget(f"{namespace}:user_item:1:a%3A1", "affinity") == b"7"
    assert client.hget(f"{namespace}:user_item:1:b", "affinity") == b"8"


def test_reserved_fields_and_expiry_follow_the_event(store: FeatureStore, client: redis.Redis, namespace: str) -> None:
    row = client.hgetall(f"{namespace}:short:0")
    assert set(row) == {b"x", b"_fs_event", b"_fs_created", b"_fs_expires", b"_fs_writer"}
    event = datetime.fromisoformat(row[b"_fs_event"].decode())
    assert row[b"_fs_created"] == EVENT_TEXT.encode()
    assert datetime.fromisoformat(row[b"_fs_expires"].decode()) == event + timedelta(hours=1)
    for key, keeps in ((f"{namespace}:short:0", timedelta(days=1)), (f"{namespace}:long:1", timedelta(weeks=8))):
        event = datetime.fromisoformat(client.hget(key, "_fs_event").decode())
        assert client.pexpiretime(key) == int((event + keeps).timestamp() * 1000)
        assert 0 < client.pttl(key) <= keeps.total_seconds() * 1000
    assert keep_for(timedelta(hours=12)) == timedelta(days=1) and keep_for(timedelta(days=2)) == timedelta(days=4)


def test_a_row_that_is_long_past_its_expiry_is_not_there(
    shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    store = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    store.materialize()
    assert client.exists(f"{namespace}:item_features:a%3A1") and not client.exists(f"{namespace}:item_features:b")
    answer = store.get_online_features(["item_features:price"], [{"item_id": "b"}]).to_dict(include_statuses=True)
    assert answer["price"] == [None] and answer["price__status"][0] in ("NOT_FOUND", "OUTSIDE_MAX_AGE")


def test_the_registry_has_one_field_a_view(store: FeatureStore, client: redis.Redis, namespace: str) -> None:
    registry = client.hgetall(f"{namespace}:registry")
    assert set(registry) == {b"types", b"keys", b"short", b"long"}
    published = json.loads(registry[b"short"])
    assert published["entities"] == [{"name": "id", "type": "int64", "description": ""}]
    assert published["features"] == [{"name": "x", "type": "int32", "description": ""}]
    assert (published["ttl_seconds"], published["timestamp"]) == (3600, "event_timestamp")
    assert (published["version"], published["latest_version"], published["created_timestamp"]) == (
        None,
        None,
        "created_at",
    )
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(published["arrow_schema"])))
    assert schema == pa.schema([("id", pa.int64()), ("x", pa.int32())])


NAMESPACES = ["a", "ab", "a?", "[ab]", "a:user_item", "a%3Auser_item", "a\\*", "*"]


def test_a_namespace_never_sees_anothers_keys(shop: DbtProject, redis_url: str, client: redis.Redis) -> None:
    """Full runs remove what is not theirs by walking the keys: whatever a name means to Redis's patterns."""

    def seen() -> dict[bytes, Any]:
        keys = [key for key in client.scan_iter(count=1000) if key.split(b":")[0] in mine]
        return {key: client.hgetall(key) for key in keys if client.type(key) == b"hash"}

    mine = {escape(name).encode() for name in NAMESPACES}
    stores = {name: FeatureStore(shop.folder, redis_url=redis_url, namespace=name) for name in NAMESPACES}
    for store in stores.values():
        store.materialize(["user_item"], full=True)
    before = seen()
    assert len(before) == len(NAMESPACES) * (2 + 2)
    for name, store in stores.items():
        (result,) = store.materialize(["user_item"], full=True)
        assert (result.rows_written, result.rows_deleted) == (2, 0)
        others = {key: row for key, row in before.items() if key.split(b":")[0] != escape(name).encode()}
        assert {key: row for key, row in seen().items() if key in others} == others
        before = seen()
        reader = FeatureStore(redis_url=redis_url, namespace=name)
        entity = {"user_id": 1, "item_id": "b"}
        assert reader.get_online_features(["user_item:affinity"], [entity]).to_dict()["affinity"] == [8]
    for key in before:
        client.delete(key)


def test_the_values_of_keys_are_no_patterns(
    shop: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    store = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    store.materialize(["item_features"])
    rows = [{"item_id": text} for text in ("*", "a?1", "a*", "a%3A1", "[a]:1", "", "a:1\x00", "a:1")]
    answer = store.get_online_features(["item_features:price"], rows).to_dict(include_statuses=True)
    assert answer["price__status"] == ["NOT_FOUND"] * 7 + ["PRESENT"]


@given(st.text())
def test_escaping_is_undone_exactly_and_leaves_no_special_character(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set(":{}")


@given(st.text(alphabet="a*?[]^-\\:%{}", max_size=6), st.text(alphabet="a*?[]^-\\:%{}", max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_literal_pattern_matches_itself_alone(client: redis.Redis, one: str, other: str) -> None:
    client.mset({f"glob:{one}": 1, f"glob:{other}": 1})
    try:
        found = {key.decode() for key in client.scan_iter(match=f"glob:{glob_literal(one)}", count=10_000)}
    finally:
        client.delete(f"glob:{one}", f"glob:{other}")
    assert found == {f"glob:{one}"}


# Every type there and back.

_moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((pa.int8(), st.integers(-128, 127)), (pa.int64(), st.integers(-(2**63), 2**63 - 1))),
    *((pa.uint64(), st.integers(0, 2**64 - 1)), (pa.bool_(), st.booleans())),
    *((pa.float32(), st.floats(width=32)), (pa.float64(), st.floats())),
    *((pa.string(), _text), (pa.binary(), st.binary(max_size=6))),
    (pa.timestamp("us"), _moments),
    (pa.timestamp("us", "UTC"), _moments.map(lambda moment: moment.replace(tzinfo=timezone.utc))),
    *((pa.date32(), st.dates()), (pa.time64("us"), st.times())),
    (pa.decimal128(38, 0), st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal)),
    (pa.decimal128(18, 6), st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-6))),
]


def _nested(inner: tuple[pa.DataType, st.SearchStrategy[Any]]) -> list[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    dtype, values = inner
    holed = st.none() | values
    return [
        (pa.list_(dtype), st.lists(holed, max_size=4)),
        (pa.list_(pa.list_(dtype)), st.lists(st.none() | st.lists(holed, max_size=3), max_size=3)),
        (pa.struct([("x", dtype), ("é \"", pa.int32())]), st.fixed_dictionaries({"x": holed, "é \"": st.just(3)})),
        (pa.map_(pa.string(), dtype), st.lists(st.tuples(_text, holed), max_size=3)),
    ]  # fmt: skip


TYPES = SCALARS + [nested for scalar in SCALARS for nested in _nested(scalar)]


def _assert_there_and_back(column: pa.Array) -> None:
    plain = to_plain(column)
    decode = codec(plain.type, "x").decode
    encoded = encode(plain)
    assert encoded.type == pa.binary() and len(encoded) == len(column)
    back = [None if raw is None else decode(raw) for raw in encoded.to_pylist()]
    # Arrow's UTC is a zone of one library or another; ours is Python's own.
    expected = repr(plain.to_pylist()).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc")
    assert repr(back) == expected


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_encoded_decodes_to_the_same_value(data: st.DataObject) -> None:
    dtype, values = data.draw(st.sampled_from(TYPES))
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=6)), dtype)
    _assert_there_and_back(column)
    start = data.draw(st.integers(0, len(column)))
    _assert_there_and_back(column.slice(start, data.draw(st.integers(0, len(column)))))


@given(st.lists(st.floats(width=32) | st.none(), min_size=12, max_size=12), st.integers(0, 3), st.booleans())
@settings(max_examples=100, deadline=None)
def test_lists_over_a_part_of_longer_values_keep_their_own(numbers: list[float | None], cut: int, fixed: bool) -> None:
    values = pa.array(numbers, pa.float32()).slice(3)
    column = (
        pa.FixedSizeListArray.from_arrays(values, 3)
        if fixed
        else pa.ListArray.from_arrays(pa.array([0, 2, None, 5, 9], pa.int32()), values)
    )
    _assert_there_and_back(column.slice(min(cut, len(column) - 1)))


LAYOUTS: list[Callable[[], pa.Array]] = [
    lambda: pa.array(["a", None, "a"]).dictionary_encode(),
    lambda: pa.array(["a", None, ""], pa.large_string()),
    lambda: pa.array(["a", None, ""], pa.string_view()),
    lambda: pa.array([b"ab", None], pa.binary(2)),
    lambda: pa.array([b"ab", None], pa.large_binary()),
    lambda: pa.array([[1.5], None, []], pa.large_list(pa.float64())),
    lambda: pa.array([[1.5, None], None], pa.list_(pa.float32(), 2)),
    lambda: pa.array([1, None], pa.timestamp("s", "Europe/Oslo")),
    lambda: pa.array([-1, None], pa.timestamp("ns")),
    lambda: pa.array([86_400_000, None], pa.date64()),
    lambda: pa.array([time(1, 2, 3), None], pa.time32("ms")),
    lambda: pa.nulls(3, pa.list_(pa.float32())),
    lambda: pa.array([], pa.list_(pa.float32())),
    lambda: pa.array([None, [float("nan"), -0.0]], pa.list_(pa.float64())),
]  # fmt: skip


@pytest.mark.parametrize("make", LAYOUTS)
def test_other_layouts_of_the_same_values_are_the_same_text(make: Callable[[], pa.Array]) -> None:
    _assert_there_and_back(make())
    _assert_there_and_back(make().slice(1))


def test_many_rows_at_once_are_as_each_alone() -> None:
    """More values than an engine's vector holds."""
    numbers = [None if n % 7 == 0 else n / 3 for n in range(10_000)]
    _assert_there_and_back(pa.array(numbers, pa.float64()))
    _assert_there_and_back(pa.array(numbers, pa.float32()).slice(4000, 3000))
    _assert_there_and_back(pa.array([None if n is None else [n] * 3 for n in numbers], pa.list_(pa.float64())).slice(1))
