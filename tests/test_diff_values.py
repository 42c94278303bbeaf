"""`feature-store diff --data`: the values of two versions, against a plain count in Python over random tables."""

from __future__ import annotations

import hashlib
import math
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from materializer import FeatureStore, NotFoundError
from materializer.diff.result import FeatureValues, Values
from tests.support.command import run
from tests.support.manifests import bare_project, manifest, write_manifest

UTC = timezone.utc
NOW = datetime.now(UTC).replace(microsecond=0)
# Of each feature: its type in the old and the new version, and values that it takes.
FEATURES: dict[str, tuple[pa.DataType, pa.DataType, list[Any]]] = {
    "whole": (pa.int64(), pa.int64(), [None, 0, 1, -5, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    "ratio": (pa.float64(), pa.float64(), [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 0.1, 1e308, -1e308]),
    "small": (pa.int32(), pa.float64(), [None, 0, 3, 4]),
    "as_text": (pa.int64(), pa.string(), [None, 0, 1, 12]),
    "word": (pa.string(), pa.string(), [None, "", "a", "A", "it's"]),
    "flag": (pa.bool_(), pa.bool_(), [None, True, False]),
    "price": (pa.decimal128(10, 2), pa.decimal128(10, 2), [None, 0, 1, 2]),
    "taste": (
        pa.list_(pa.float64()),
        pa.list_(pa.float64()),
        [None, [], [0.0], [-0.0], [math.nan], [None], [1.0, None]],
    ),
    "it's": (pa.int64(), pa.int64(), [None, 1]),
}


def rows_of(chance: random.Random, version: int) -> list[dict[str, Any]]:
    """Random rows; no two of an entity share an event."""
    rows = []
    for left in range(4):
        for right in ("a", "b:c", "é"):
            for hours in chance.sample([-48, -47, -30, -1, 5], chance.randint(0, 3)):
                row: dict[str, Any] = {"left": left, "right": right, "event_timestamp": NOW + timedelta(hours=hours)}
                row["loaded_at"] = chance.choice(
                    [row["event_timestamp"], NOW - timedelta(hours=2), NOW + timedelta(hours=2), None]
                )
                for name, (*types, values) in FEATURES.items():
                    value = chance.choice(values)
                    is_text = types[version] == pa.string() and value is not None
                    row[name] = str(value) if is_text else value
                rows.append(row)
    rows.append({**dict.fromkeys(FEATURES), "left": None, "right": "a", "event_timestamp": NOW, "loaded_at": NOW})
    return rows


def built(folder: Path, tables: list[list[dict[str, Any]]], **views: Any) -> FeatureStore:
    """A project whose view ``pairs`` has two versions with these rows."""
    (bare_project(folder) / "models").mkdir()
    for version in (1, 2):
        (folder / "models" / f"pairs.v{version}.sql").write_text("")
    view = {"entities": ["left", "right"], "created_timestamp": "loaded_at"} | views
    write_manifest(
        folder / "target" / "manifest.json", manifest({"pairs.v1": "select 1", "pairs.v2": "select 2"}, {"pairs": view})
    )
    with duckdb.connect(str(folder / "shop.duckdb")) as warehouse:
        warehouse.execute("set TimeZone = 'UTC'")
        for version, rows in enumerate(tables):
            schema = pa.schema(
                [("left", pa.int64()), ("right", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")),
                 ("loaded_at", pa.timestamp("us", "UTC")), *((name, types[version]) for name, types in FEATURES.items())]
            )  # fmt: skip
            warehouse.register("rows", pa.Table.from_pylist(rows, schema))
            warehouse.execute(f"create table pairs_v{version + 1} as select * from rows")
    return FeatureStore(folder)


def latest(rows: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["event_timestamp"]):
        loaded = row["loaded_at"]
        if row["left"] is not None and row["event_timestamp"] <= NOW and loaded is not None and loaded <= NOW:
            found[row["left"], row["right"]] = row
    return found


def equal(old: Any, new: Any) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(equal, old, new))
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new):
        return True
    return str(old) == str(new) if isinstance(new, str) and old is not None else old == new


def counted(old: dict[Any, Any], new: dict[Any, Any], keys: set[Any]) -> dict[str, tuple[Any, ...]]:
    """What the diff must say of each feature."""
    found: dict[str, tuple[Any, ...]] = {}
    both = [key for key in keys if key in old and key in new]
    for name, (old_type, new_type, _) in FEATURES.items():
        pairs = [(old[key][name], new[key][name]) for key in both]
        differing = [pair for pair in pairs if not equal(*pair)]
        far = ratio = None
        if not any(
            pa.types.is_nested(t) or pa.types.is_string(t) or pa.types.is_boolean(t) for t in (old_type, new_type)
        ):
            numbers = [(a, b) for a, b in differing if a is not None and b is not None]
            finite = [
                (a, abs(b - a)) for a, b in numbers if math.isfinite(a) and math.isfinite(b) and math.isfinite(b - a)
            ]
            far = max((float(distance) for _, distance in finite), default=None)
            ratio = max((float(distance) / abs(float(a)) for a, distance in finite if a), default=None)
        nulls = [sum(pair[side] is None for pair in pairs) for side in (0, 1)]
        found[name] = (len(both), len(both) - len(differing), len(differing), *nulls, digits(far), digits(ratio))
    return found


def said(one: FeatureValues) -> tuple[Any, ...]:
    return (
        one.entities,
        one.equal,
        one.differing,
        one.null_before,
        one.null_after,
        *map(digits, (one.max_absolute, one.max_relative)),
    )


def digits(number: float | None) -> str:
    """Sums and quotients of doubles in another order differ in their last digits."""
    return "none" if number is None else f"{number:.12g}"


def hash_of(key: tuple[int, str]) -> str:
    return hashlib.md5(f"{key[0]}:{key[1]}".encode()).hexdigest()


def values(store: FeatureStore, sample: int | None = None) -> Values:
    found = store.diff("pairs.v1", "pairs.v2", data=True, sample=sample).views[0].values
    assert found is not None
    return found


@pytest.mark.parametrize("number", range(6))
def test_values_are_compared_as_a_plain_count_does(number: int, tmp_path: Path) -> None:
    chance = random.Random(number)
    tables = [rows_of(chance, 0), rows_of(chance, 1)]
    store = built(tmp_path, tables)
    old, new = (latest(rows) for rows in tables)
    everybody = {*old, *new}
    assert len(everybody) > 5
    for sample in (None, 4):
        keys = everybody if sample is None else set(sorted(everybody, key=hash_of)[:sample])
        found = values(store, sample)
        assert (found.only_old, found.only_new) == (
            len(keys & (old.keys() - new.keys())),
            len(keys & (new.keys() - old.keys())),
        )
        expected = counted(old, new, keys)
        assert {one.feature: said(one) for one in found.features} == expected
        for one in found.features:
            assert len(one.examples) == min(3, one.differing)
            for example in one.examples:
                key = example["left"], example["right"]
                assert key in keys and not equal(old[key][one.feature], new[key][one.feature])


def test_equal_rows_have_equal_values(tmp_path: Path) -> None:
    rows = rows_of(random.Random(7), 0)
    texts = [{**row, "as_text": None if row["as_text"] is None else str(row["as_text"])} for row in rows]
    found = values(built(tmp_path, [rows, texts]))
    assert found.entities == 5 and not found.differ


def test_the_text_tells_shares_distances_and_examples(tmp_path: Path) -> None:
    row = {**dict.fromkeys(FEATURES), "right": "a", "event_timestamp": NOW - timedelta(days=1), "loaded_at": NOW}
    old = [{**row, "left": left, "whole": 10, "word": "x"} for left in range(4)]
    new = [
        {**row, "left": left, "whole": 10 + 5 * (left == 2), "word": None if left == 3 else "x"} for left in range(1, 5)
    ]
    built(tmp_path, [old, new])
    ran = run("feature-store", "diff", "pairs.v1", "--data", cwd=tmp_path)
    assert ran.code == 0
    assert """    values of 3 entities compared; 1 only before, 1 only after
        ~ whole: 1 differ (33.33%), by at most 5 (50.00%)
            left=2, right=a: 10 -> 15
        ~ word: 1 differ (33.33%); NULL 0 -> 1
            left=3, right=a: x -> NULL
        equal: ratio, small, as_text, flag, price, taste, it's
""" in ran.out  # fmt: skip
    found = run("feature-store", "diff", "pairs.v1", "--data", "--output", "json", cwd=tmp_path).json
    assert found["views"][0]["values"]["features"][0] == {
        "feature": "whole", "entities": 3, "equal": 2, "differing": 1, "null_before": 0, "null_after": 0,
        "max_absolute": 5.0, "max_relative": 0.5, "examples": [{"left": 2, "right": "a", "old_value": "10", "new_value": "15"}],
    }  # fmt: skip


def test_the_relations_of_two_manifests_in_one_warehouse_are_compared(tmp_path: Path) -> None:
    bare_project(tmp_path)
    sql = "select user_id, event_timestamp, age from {{ source('raw', 'users') }}"
    views = {
        "users": {"entities": ["user_id"]},
        "gone": {"entities": ["user_id"]},
        "unbuilt": {"entities": ["user_id"]},
    }
    for side in ("old", "new"):
        write_manifest(tmp_path / side / "manifest.json", manifest(dict.fromkeys(views, sql), views, schema=side))
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as warehouse:
        for side, age in (("old", 1), ("new", 2)):
            warehouse.execute(f"create schema {side}")
            for name, value in (("users", age), ("gone", 7)):
                warehouse.execute(
                    f"create table {side}.{name} as select 1 as user_id, timestamp '2024-01-01' as event_timestamp, {value} as age"
                )
    found = FeatureStore(tmp_path).diff(tmp_path / "old", tmp_path / "new", data=True)
    assert found.empty and [view.view for view in found.views] == ["users"]
    (age,) = found.views[0].values.features
    assert (age.feature, age.differing, age.max_absolute) == ("age", 1, 1.0)
    assert [note for note in found.notes if "unbuilt" in note] == [
        'unbuilt: its values were not compared. "shop"."old"."unbuilt" is not in the warehouse: run `dbt build`.'
    ]


def test_values_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    store = built(tmp_path, [rows_of(random.Random(1), 0), rows_of(random.Random(2), 1)])
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as warehouse:
        warehouse.execute("drop table pairs_v2")
    with pytest.raises(NotFoundError, match=r"pairs_v2\" is not in the warehouse: run `dbt build`"):
        store.diff("pairs.v1", "pairs.v2", data=True)
    assert any("pairs.v2 is not built" in note for note in store.diff("pairs.v1", "pairs.v2").notes)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as warehouse:
        warehouse.execute(
            'create table pairs_v2 as select "left", "right", event_timestamp, loaded_at, 1 as other from pairs_v1'
        )
    found = store.diff("pairs.v1", "pairs.v2", data=True)
    assert "The values were not compared. The views old and new have no feature in common." in found.notes
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as warehouse:
        warehouse.execute("alter table pairs_v2 add column whole double")
    assert [one.feature for one in values(store).features] == ["whole"]
