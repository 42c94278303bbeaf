"""Moments without end, durations longer than time, values that a row cannot keep: what is seen, what is refused."""

from __future__ import annotations

import math
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from materializer import DefinitionError, FeatureStore, MaterializationError
from materializer.errors import InputError
from materializer.online.values import codec, encode
from materializer.project.duration import parse_duration
from materializer.training.files import column_sha256
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.moments import to_objects
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.extremes import views_of
from tests.support.rendered import Views
from tests.support.shop import change_warehouse

UTC = timezone.utc
NOW = datetime.now(UTC)
SINCE_EVER = ["timestamp", "timestamptz", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamptz_ns", "date"]


def seen(store: FeatureStore, view: str, keys: list[int]) -> tuple[list[Any], list[Any], list[str]]:
    """A view's ``x`` for these keys now: offline, online, and the statuses online."""
    offline = store.get_historical_features(
        pa.table({"user_id": pa.array(keys, pa.int64()), "event_timestamp": [datetime.now(UTC)] * len(keys)}),
        [f"{view}:x"],
    )
    online = store.get_online_features([f"{view}:x"], [{"user_id": key} for key in keys]).to_dict(include_statuses=True)
    return to_objects(offline.to_arrow()["x"]), online["x"], online["x__status"]


def attempt(store: FeatureStore, *views: str, **options: Any) -> dict[str, Any]:
    try:
        results = store.materialize(feature_views=views, **options)
    except MaterializationError as error:
        results = error.results
    return {result.view: result for result in results}


class TestSinceEver:
    """An event or created time of `-infinity`, in every type of moment."""

    @pytest.fixture(scope="class")
    def project(self, tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
        tables, metas = {}, {}
        for kind in SINCE_EVER:
            rows = ", ".join(
                f"({key}, cast('{event}' as timestamp)::{kind}, cast('{created}' as timestamp)::{kind}, {key}0)"
                for key, event, created in [
                    (1, "-infinity", "-infinity"), (2, "2026-01-01", "-infinity"), (3, "-infinity", "2026-01-01"),
                    (4, "infinity", "-infinity"), (5, "2026-01-01", "infinity"),
                    (6, "-infinity", "-infinity"), (6, "2026-01-01", "-infinity"),
                ]
            )  # fmt: skip
            for name, meta in (("ever", {}), ("fresh", {"ttl": "5 days"}), ("late", {"available_after": "1 hour"})):
                view = f"{name}_{kind}"
                tables[view] = [
                    f"create table {view} as select * from (values {rows}) as t(user_id, event_timestamp, loaded_at, x)",
                    f"alter table {view} alter user_id type bigint",
                    f"update {view} set x = 61 where user_id = 6 and isfinite(event_timestamp::timestamp)",
                ]
                metas[view] = {"created_timestamp": "loaded_at", **meta}
        return views_of(tmp_path_factory.mktemp("ever") / "shop", tables, **metas)

    def test_it_is_seen_offline_and_online_and_infinity_never(
        self, project: DbtProject, redis_url: str, namespace: str, client: redis.Redis
    ) -> None:
        store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
        results = attempt(store)
        assert [result.error for result in results.values()] == [None] * len(results)
        for kind in SINCE_EVER:
            expected = [10, 20, 30, None, None, 61]
            for name in ("ever", "late"):
                offline, online, statuses = seen(store, f"{name}_{kind}", [1, 2, 3, 4, 5, 6])
                assert offline == online == expected, (name, kind)
                assert statuses == ["PRESENT"] * 3 + ["NOT_FOUND"] * 2 + ["PRESENT"]
            # Such a row is older than any ttl.
            offline, online, _ = seen(store, f"fresh_{kind}", [1, 2, 3, 4, 5, 6])
            assert offline[:1] + offline[2:5] == online[:1] + online[2:5] == [None] * 4
        assert client.hget(f"{namespace}:ever_date:1", "_fs_event") == b"-infinity"
        assert client.hget(f"{namespace}:ever_date:2", "_fs_created") == b"-infinity"
        answer = store.get_online_features(["ever_date:x"], [{"user_id": 1}]).to_dict(include_event_timestamps=True)
        assert answer["x__event_timestamp"] == [datetime.min.replace(tzinfo=UTC)]
        assert attempt(store, "ever_timestamptz")["ever_timestamptz"].rows_written == 0

    def test_freshness_statistics_and_records_live_with_it(self, project: DbtProject, tmp_path: Path) -> None:
        store = FeatureStore(project_dir=project.folder)
        told = run("feature-store", "freshness", "--project-dir", str(project.folder))
        assert told.code == 1 and "older than the ttl" in told.out
        for name in ("ever_timestamp", "ever_timestamptz", "fresh_date"):
            assert store.get_statistics(name)["x"].row_count > 0
            spine = "select 1::bigint as user_id, timestamp '2026-02-01' as event_timestamp"
            store.save_training_set(tmp_path / "set.parquet", spine, [f"{name}:x"])
            assert store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet").same


@pytest.mark.parametrize("ttl", ["1000000 days", "3652058 days", "3652059 days", "5000000 days", "999999999 days"])
def test_a_ttl_beyond_all_moments_is_no_limit(
    ttl: str, tmp_path: Path, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    rows = "select 1::bigint as user_id, timestamp '1000-01-01' as event_timestamp, 5 as x"
    project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows}"]}, v={"ttl": ttl})
    store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
    assert attempt(store)["v"].error is None
    assert seen(store, "v", [1]) == ([5], [5], ["PRESENT"])
    row = client.hgetall(f"{namespace}:v:1")
    assert (b"_fs_expires" in row) == (ttl == "1000000 days")  # year 3737; all others end after 9999
    assert store.get_feature_view("v").ttl == parse_duration(ttl, "ttl")
    assert "older than the ttl" not in run("feature-store", "freshness", "--project-dir", str(project.folder)).out


def test_a_delay_beyond_all_moments_shows_nothing_and_breaks_nothing(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    rows = "select 1::bigint as user_id, timestamp '2026-01-01' as event_timestamp, 5 as x"
    project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows}"]}, v={"available_after": "999999999 days"})
    store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
    assert attempt(store)["v"].error is None
    assert seen(store, "v", [1]) == ([None], [None], ["NOT_FOUND"])


@pytest.mark.parametrize("window", ["1000000 days", "999999999 days"])
def test_a_window_longer_than_all_moments_holds_every_event(window: str) -> None:
    views = Views()
    views.create("events", "select * from (values (1, timestamp '1000-01-01', 2), (1, timestamp '2026-01-01', 3)) "
                 "as t(user_id, event_timestamp, v)")  # fmt: skip
    relation = "(select * from events)"
    aggregates = [{"name": "total", "function": "sum", "expression": "v"}, {"name": "n", "function": "count"}]
    sql = views.sql("window_aggregates", relation, ["user_id"], "event_timestamp", aggregates, [window])
    slug = window.split()[0] + "d"
    last = views.connection.sql(
        f"select * from ({sql}) where event_timestamp = timestamp '2026-01-01'"
    ).to_arrow_table()
    (last,) = last.to_pylist()
    assert (last[f"n_{slug}"], last[f"total_{slug}"]) == (2, 5)


@pytest.mark.parametrize("text", ["1000000000 days", "9" * 30 + " seconds", "9" * 5000 + " weeks"])
def test_a_duration_that_nothing_can_hold_is_refused_alike(text: str) -> None:
    with pytest.raises(DefinitionError, match="longer than time itself"):
        parse_duration(text, "ttl")
    views = Views()
    views.create("events", "select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 2 as v", ttl=text)
    with pytest.raises((DefinitionError, InputError), match=r"longer than time itself|is not a duration"):
        views.sql("latest", "events")


class TestRefusedRows:
    """A value that the format cannot state takes its row away, not an older one's place."""

    def test_the_key_holds_nothing_until_the_value_can_be_stated(
        self, tmp_path: Path, redis_url: str, namespace: str
    ) -> None:
        rows = "select i::bigint as user_id, timestamp '2026-01-01' as event_timestamp, date '2026-01-01' as x from range(3) t(i)"
        good = "create table good as select 1::bigint as user_id, timestamp '2026-01-01' as event_timestamp, 1 as x"
        project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows}"], "good": [good]})
        store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
        assert attempt(store)["v"].rows_written == 3

        change_warehouse(project, "update v set x = 'infinity' where user_id = 1")
        for _ in range(2):  # a run that finds nothing to do says it again
            result = attempt(store)["v"]
            assert "1 row of 'v' cannot be stated online and is not there (1 with a moment" in result.error
            assert "in 'x')" in result.error
        assert seen(store, "v", [0, 1, 2])[2] == ["PRESENT", "NOT_FOUND", "PRESENT"]
        assert attempt(store, "good")["good"].error is None
        assert "1 row of 'v'" in attempt(store, "v", full=True)["v"].error
        assert "1 row of 'v'" in attempt(store, "v", dry_run=True)["v"].error

        change_warehouse(project, "update v set x = date '2026-01-02' where user_id = 1")
        result = attempt(store)["v"]
        assert (result.error, result.rows_written) == (None, 1)
        assert seen(store, "v", [0, 1, 2])[2] == ["PRESENT"] * 3

    def test_a_row_past_its_ttl_or_not_the_latest_is_not_missed(
        self, tmp_path: Path, redis_url: str, namespace: str
    ) -> None:
        rows = f"""
            select * from (values
                (1::bigint, timestamp '{NOW:%Y-%m-%d %H:%M:%S}' - interval 1 hour, time '24:00:00'),
                (1, timestamp '{NOW:%Y-%m-%d %H:%M:%S}', time '10:00:00'),
                (2, timestamp '2020-01-01', time '24:00:00')
            ) as t(user_id, event_timestamp, x)
        """
        project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows}"]}, v={"ttl": "1 day"})
        store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
        result = attempt(store)["v"]
        assert (result.error, result.rows_written) == (None, 1)

    def test_keys_and_event_times_are_no_exception(self, tmp_path: Path, redis_url: str, namespace: str) -> None:
        tables = {
            "days": [
                "create table days as select * from (values (date 'infinity', timestamp '2026-01-01', 1), "
                "(date '2026-01-01', timestamp '2026-01-01', 2)) as t(user_id, event_timestamp, x)"
            ],
            "before": [
                "create table before as select * from (values (1::bigint, timestamp '0044-03-15 (BC) 00:00:00', 1), "
                "(2, timestamp '2026-01-01', 2)) as t(user_id, event_timestamp, x)"
            ],
        }
        project = views_of(tmp_path / "shop", tables)
        store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
        results = attempt(store)
        assert "in 'user_id')" in results["days"].error and "in 'event_timestamp')" in results["before"].error
        assert [result.rows_written for result in results.values()] == [1, 1]
        assert seen(store, "before", [2])[1] == [2]


def test_nanoseconds_in_an_hour_that_comes_twice_are_two_instants() -> None:
    first = 1_761_438_600_123_456_789  # 2025-10-26 02:30 in Berlin, for the first time
    column = pa.array([first, first + 3_600_000_000_000, None], pa.timestamp("ns", "Europe/Berlin"))
    found = to_plain(column).to_pylist()
    assert found == [
        datetime(2025, 10, 26, 0, 30, 0, 123456, UTC), datetime(2025, 10, 26, 1, 30, 0, 123456, UTC), None,
    ]  # fmt: skip
    nested = pa.array([{"moments": [first]}], pa.struct([("moments", pa.list_(column.type))]))
    assert to_plain(nested).to_pylist() == [{"moments": found[:1]}]


def test_a_frame_in_a_zone_with_clock_changes_finds_its_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = "select 1::bigint as user_id, timestamptz '2025-10-26 01:00:00+00' as event_timestamp, 5 as x"
    project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows}"]})
    moments = pandas.to_datetime([1_761_438_600_123_456_789, 1_761_442_200_123_456_789], utc=True).tz_convert(
        "Europe/Berlin"
    )
    frame = pandas.DataFrame({"user_id": [1, 1], "event_timestamp": moments.as_unit("ns")})
    store = FeatureStore(project_dir=project.folder)
    assert store.get_historical_features(frame, ["v:x"]).to_arrow()["x"].to_pylist() == [None, 5]


MINUS_NAN = struct.unpack("<d", b"\0\0\0\0\0\0\xf8\xff")[0]


def test_nan_is_one_whatever_its_sign(tmp_path: Path, redis_url: str, namespace: str, client: redis.Redis) -> None:
    def rows(nan: str) -> str:
        return (
            f"select 1::bigint as user_id, timestamp '2026-01-01' as event_timestamp, {nan}::double as x, {nan}::float as f, "
            f"[0.0::double, {nan}::double] as l, [{nan}::float, 1] as fl, {{'v': {nan}::double}} as s"
        )

    project = views_of(tmp_path / "shop", {"v": [f"create table v as {rows(chr(39) + 'nan' + chr(39))}"]})
    store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
    features = [f"v:{name}" for name in ("x", "f", "l", "fl", "s")]
    spine = "select 1::bigint as user_id, timestamp '2026-02-01' as event_timestamp"
    attempt(store)
    before = client.hgetall(f"{namespace}:v:1")
    store.save_training_set(tmp_path / "set.parquet", spine, features)

    change_warehouse(project, f"create or replace table v as {rows('(-(' + chr(39) + 'nan' + chr(39) + '::double))')}")
    assert attempt(store)["v"].rows_written == 0  # nothing changed
    attempt(store, "v", full=True)
    again = client.hgetall(f"{namespace}:v:1")
    del before[b"_fs_writer"], again[b"_fs_writer"]
    assert again == before and again[b"x"] == again[b"f"] == b"nan"
    assert store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet").same
    offline = store.get_historical_features(spine, features).to_arrow()
    online = store.get_online_features(features, [{"user_id": 1}]).to_arrow()
    for name in ("x", "f", "l", "fl", "s"):
        assert column_sha256(offline[name]) == column_sha256(online[name])
    assert struct.pack("<d", offline["x"][0].as_py()) == struct.pack("<d", math.nan)
    assert encode(to_plain(pa.array([MINUS_NAN]))).to_pylist() == [b"nan"]


# What a client may have pushed that is no such value.
BAD = [
    (pa.int64(), b"abc"), (pa.int64(), b""), (pa.int64(), b"1.5"), (pa.float64(), b"x"), (pa.float32(), b"1e300"),
    (pa.bool_(), b"1"), (pa.bool_(), b"TRUE"), (pa.string(), b"\xff"), (pa.timestamp("us"), b"yesterday"),
    (pa.timestamp("us", "UTC"), b"0001-01-01T00:00:00+05:00"), (pa.timestamp("us"), b"infinity"),
    (pa.date32(), b"12000-01-01"), (pa.time64("us"), b"24:00:01"), (pa.decimal128(5, 2), b"abc"),
    (pa.decimal128(5, 2), b"NaN"), (pa.list_(pa.float64()), b"[1"), (pa.list_(pa.int64()), b"5"),
    (pa.list_(pa.timestamp("us")), b'["x"]'), (pa.struct([("a", pa.int64())]), b"{}"),
    (pa.struct([("a", pa.int64())]), b"[]"), (pa.map_(pa.string(), pa.int64()), b"[1]"),
    (pa.list_(pa.int64()), b"[" * 100_000), (pa.list_(pa.binary()), b'["zz"]'), (pa.list_(pa.binary()), b"[5]"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "raw"), BAD, ids=lambda value: str(value)[:40])
def test_bytes_that_are_no_such_value_are_a_value_error(dtype: pa.DataType, raw: bytes) -> None:
    with pytest.raises(ValueError):
        codec(dtype, "x").decode(raw)


def test_a_pushed_moment_with_an_offset_is_that_moment() -> None:
    assert codec(pa.timestamp("us", "UTC"), "x").decode(b"2026-01-01T10:00:00+02:00") == datetime(
        2026, 1, 1, 8, tzinfo=UTC
    )
    assert codec(pa.timestamp("us"), "x").decode(b"2026-01-01 10:00:00") == datetime(2026, 1, 1, 10)
