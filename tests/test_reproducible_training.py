"""Training sets that can be made again: the same bytes, or an answer to what has changed."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore, InputError
from materializer.training.files import column_sha256, write_table
from materializer.training.record import read_record
from materializer.training.repeat import TrainingSetChangedError
from tests.support.command import assert_one_sentence, run, run_process
from tests.support.dbt import DbtProject, copy_of, make_project
from tests.support.shop import change_warehouse

START = datetime(2025, 1, 1)
ROWS = 300_000  # several of DuckDB's row groups, so that its threads share the work


def view(name: str, **meta: Any) -> dict[str, Any]:
    feature_view = {"entities": ["user_id"], **meta}
    return {"name": name, "config": {"materialized": "table", "meta": {"feature_view": feature_view}}}


FILES: dict[str, Any] = {
    "models/base.sql": "{{ config(materialized='table') }} select i from range(300000) as r(i)",
    # Numbers that look random and are the same on every build.
    "models/big.sql": """
        select
            (hash(i) % 5000)::bigint as user_id,
            timestamp '2025-01-01' + to_microseconds((hash(i, 1) % (86400000000 * 30))::bigint) as event_timestamp,
            hash(i, 2) / 1e10 as score,
            'c' || (hash(i, 3) % 7) as category,
            [hash(i, 4)::float, (hash(i, 5) % 3)::float]::float[2] as embedding
        from {{ ref('base') }}
    """,
    "models/small.sql": """
        select * from (values
            (1::bigint, timestamp '2025-01-02', timestamp '2025-01-02', 10::bigint, 0.0::double),
            (1, timestamp '2025-01-05', timestamp '2025-01-06', 11, 1.5),
            (2, timestamp '2025-01-03', timestamp '2025-01-03', 20, 'nan'::double)
        ) as v(user_id, event_timestamp, loaded_at, age, weight)
    """,
    "models/prices_v1.sql": "select 1::bigint as user_id, timestamp '2025-01-01' as event_timestamp, 1 as price",
    "models/prices_v2.sql": "select 1::bigint as user_id, timestamp '2025-01-01' as event_timestamp, 2 as price",
    "models/labels.sql": """
        {{ config(materialized='table') }}
        select (i % 3)::bigint as user_id, timestamp '2025-01-01' + to_hours(i::bigint) as event_timestamp, i as label
        from range(100) as r(i)
    """,
    "models/views.yml": {
        "models": [
            view("big", ttl="20 days"),
            view("small", created_timestamp="loaded_at"),
            {**view("prices"), "latest_version": 2, "versions": [{"v": 1}, {"v": 2}]},
        ],
        "exposures": [
            {
                "name": "ranking", "type": "ml", "owner": {"name": "ML"}, "depends_on": ["ref('small')"],
                "config": {"meta": {"features": ["small:age", "small:weight"]}},
            }
        ],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = make_project(tmp_path_factory.mktemp("reproducible"), FILES)
    project.dbt("build")
    return project


@pytest.fixture
def shop(built: DbtProject, tmp_path: Path) -> DbtProject:
    return copy_of(built, tmp_path / "shop")


@pytest.fixture
def store(shop: DbtProject) -> FeatureStore:
    return FeatureStore(shop.folder, redis_url="redis://:s3cret@127.0.0.1:1")


@pytest.fixture
def training(shop: DbtProject, tmp_path: Path) -> Callable[..., Any]:
    def call(*args: str) -> Any:
        return run("feature-store", "training", *args, "--project-dir", str(shop.folder), cwd=tmp_path)

    return call


def labels() -> pa.Table:
    days = [START + timedelta(days=day) for day in (0, 2, 4, 6, 8)]
    return pa.table({"user_id": [1, 1, 2, 3, 1], "event_timestamp": days, "label": ["a", None, "b", "c", "d"]})


@pytest.fixture
def made(training: Callable[..., Any], tmp_path: Path) -> Path:
    """A training set of five labels in a file, with its record."""
    pq.write_table(labels(), tmp_path / "labels.parquet")
    ran = training("--spine", "labels.parquet", "--service", "ranking", "--out", "set.parquet")
    assert (ran.code, ran.out, ran.err) == (0, "5 rows and 5 columns written to set.parquet\n", "")
    return tmp_path / "set.parquet"


def rewrite(made: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The record with something else in it."""
    path = made.with_name(made.name + ".json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def refused(training: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """What is said where the set cannot be made again; nothing may have been written."""

    def call(*more: str) -> str:
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet*")}
        ran = training("--from", "set.parquet.json", "--out", "again.parquet", *more)
        assert (ran.code, ran.out) == (1, "")
        assert_one_sentence(ran.err)
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet*")} == before
        return " ".join(ran.err.split())

    return call


# The same bytes.


def test_two_processes_write_the_same_bytes(shop: DbtProject, tmp_path: Path) -> None:
    rng = random.Random(7)
    count = 50_000
    spine = pa.table(
        {
            "label": [rng.choice([None, 0.5, float("nan"), -0.0]) for _ in range(count)],
            "user_id": [rng.randrange(6000) for _ in range(count)],
            "at": [START + timedelta(seconds=rng.randrange(86400 * 40)) for _ in range(count)],
        }
    )
    pq.write_table(spine, tmp_path / "labels.parquet")
    where = ("--project-dir", str(shop.folder))
    asked = ("--spine", "labels.parquet", "-f", "big", "-f", "small:age", "--timestamp", "at", "--full-feature-names")
    for name, runner in (("one", run_process), ("two", run)):
        ran = runner("feature-store", "training", *asked, "--out", f"{name}.parquet", *where, cwd=tmp_path)
        assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    one, two = (json.loads((tmp_path / f"{name}.parquet.json").read_text()) for name in ("one", "two"))
    for record in (one, two):
        del record["made_at"], record["output"]["file"]
    assert one == two
    table = pq.read_table(tmp_path / "one.parquet")
    assert table.select(["user_id", "at"]).equals(spine.select(["user_id", "at"]))
    assert 0 < table["big__score"].null_count < count / 2
    ran = run("feature-store", "training", "--from", "one.parquet.json", "--out", "three.parquet", *where, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{count} rows written to three.parquet: the same bytes as before\n"
    assert (tmp_path / "three.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_a_set_made_again_has_a_record_of_its_own(training: Callable[..., Any], made: Path) -> None:
    again = made.with_name("again.parquet")
    ran = training("--from", "set.parquet.json", "--out", "again.parquet", "--output", "json")
    assert ran.json == {"rows": 5, "out": "again.parquet", "same": True, "changes": []}
    assert again.read_bytes() == made.read_bytes()
    assert pq.read_table(again)["age"].to_pylist() == [None, 10, 20, None, 11]
    once_more = training("--from", "again.parquet.json", "--out", "set.parquet")
    assert once_more.code == 0 and made.read_bytes() == again.read_bytes()
    assert sorted(path.name for path in made.parent.glob("*.parquet*")) == [
        "again.parquet", "again.parquet.json", "labels.parquet", "set.parquet", "set.parquet.json",
    ]  # fmt: skip


def test_a_record_says_what_made_the_set_and_nothing_secret(
    store: FeatureStore, shop: DbtProject, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    pq.write_table(labels(), tmp_path / "labels.parquet")
    record = store.save_training_set(tmp_path / "deep" / "set.parquet", tmp_path / "labels.parquet", "ranking")
    assert read_record(tmp_path / "deep" / "set.parquet.json") == record
    assert record.features == ("small:age", "small:weight") and record.project == "shop"
    assert set(record.versions) == {"dbt", "dbt-feature-store", "duckdb", "pyarrow"}
    assert (record.spine.kind, record.spine.path, record.spine.rows) == ("file", "../labels.parquet", 5)
    (facts,) = record.views
    assert (facts.reference, facts.rows, facts.rows_read) == ("small", 3, 3)
    assert facts.until == "2025-01-09 00:00:00.000000" and facts.newest_event == "2025-01-05 00:00:00"
    assert set(facts.models) == {"shop.small"}
    assert [(column.name, column.feature) for column in record.output.columns] == [
        ("user_id", None), ("event_timestamp", None), ("label", None), ("age", "small:age"), ("weight", "small:weight"),
    ]  # fmt: skip
    text = (tmp_path / "deep" / "set.parquet.json").read_text()
    for secret in ("s3cret", "redis", "profile", str(tmp_path), "warehouse.duckdb"):
        assert secret not in text


def test_rows_that_came_later_change_nothing(training: Callable[..., Any], made: Path, shop: DbtProject) -> None:
    change_warehouse(
        shop,
        "insert into small values (1, timestamp '2025-02-01', timestamp '2025-02-01', 99, 9)",
        # Late: of a moment that the labels saw, but not known then.
        "insert into small values (1, timestamp '2025-01-05', timestamp '2025-03-01', 98, 9)",
    )
    ran = training("--from", "set.parquet.json", "--out", "again.parquet")
    assert (ran.code, ran.out) == (0, "5 rows written to again.parquet: the same bytes as before\n")
    assert made.with_name("again.parquet").read_bytes() == made.read_bytes()
    (before,), (after,) = (read_record(made.with_name(f"{name}.parquet.json")).views for name in ("set", "again"))
    assert (before.rows, after.rows) == (3, 5)
    assert (before.rows_read, before.content) == (after.rows_read, after.content) and before.content


def test_csv_and_sql_can_be_made_again_too(training: Callable[..., Any], shop: DbtProject, tmp_path: Path) -> None:
    select = "select * from labels where label < 50 order by label"
    made = training("--spine", select, "-f", "small:age", "-f", "prices", "--out", "set.csv")
    assert made.code == 0, made.err
    ran = training("--from", "set.csv.json", "--out", "again.csv")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "set.csv").read_bytes()
    assert pyarrow.csv.read_csv(tmp_path / "set.csv")["price"].null_count < 50
    record = read_record(tmp_path / "set.csv.json")
    assert (record.spine.kind, record.spine.sql, record.spine.rows) == ("sql", select, 50) and record.spine.content
    assert [(view.name, view.reference) for view in record.views] == [("small", "small"), ("prices", "prices.v2")]


@pytest.mark.parametrize(
    "table",
    [labels().slice(0, 0), labels().set_column(1, "event_timestamp", pa.nulls(5, pa.timestamp("us"))),
     labels().set_column(1, "event_timestamp", labels()["event_timestamp"].cast(pa.date32())),
     labels().set_column(1, "event_timestamp", labels()["event_timestamp"].cast(pa.timestamp("ns", "Asia/Tokyo")))],
    ids=["no rows", "no moments", "dates", "zoned nanoseconds"],
)  # fmt: skip
def test_spines_of_any_shape_can_be_made_again(training: Callable[..., Any], tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "labels.parquet")
    made = training("--spine", "labels.parquet", "-f", "small", "--out", "set.parquet")
    assert made.code == 0, made.err
    assert training("--from", "set.parquet.json", "--out", "again.parquet").code == 0
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "set.parquet").read_bytes()
    (facts,) = read_record(tmp_path / "set.parquet.json").views
    assert (facts.until is None) == (table["event_timestamp"].null_count == len(table))


def test_rows_in_memory_are_given_again(store: FeatureStore, training: Callable[..., Any], tmp_path: Path) -> None:
    frame = labels().to_pandas()
    store.save_training_set(tmp_path / "set.parquet", frame, ["small:age"], full_feature_names=True)
    again = tmp_path / "again.parquet"
    done = store.repeat_training_set(tmp_path / "set.parquet.json", again, frame)
    assert done.same and done.changes == () and again.read_bytes() == (tmp_path / "set.parquet").read_bytes()
    assert "small__age" in pq.read_schema(again).names
    with pytest.raises(InputError, match="was made from rows in memory"):
        store.repeat_training_set(tmp_path / "set.parquet.json", again)
    frame.loc[0, "label"] = "changed"
    with pytest.raises(TrainingSetChangedError, match="these columns differ: label") as error:
        store.repeat_training_set(tmp_path / "set.parquet.json", again, frame)
    assert error.value.changes == ("the spine gave other rows (5 rows as before)",)


# What has changed.


def test_a_changed_value_is_told_and_nothing_is_written(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:
    before = {path.name: path.read_bytes() for path in made.parent.glob("*.parquet*")}
    change_warehouse(shop, "update small set age = 12 where age = 11")
    said = refused()
    assert "set.parquet cannot be made again as it was: these columns differ: age." in said
    assert "the data of feature view 'small' has changed (3 rows up to 2025-01-09" in said
    assert "with other values" in said
    # Not over the set itself either.
    assert training("--from", "set.parquet.json", "--out", "set.parquet").code == 1
    assert {path.name: path.read_bytes() for path in made.parent.glob("*.parquet*")} == before


def test_what_changed_can_be_written_all_the_same(
    training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:  # fmt: skip
    change_warehouse(shop, "delete from small where age = 11")
    ran = training("--from", "set.parquet.json", "--out", "again.parquet", "--allow-changes", "--output", "json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["same"] is False
    (change,) = ran.json["changes"]
    assert (
        "the data of feature view 'small' has changed" in change
        and "(3 rows up to 2025-01-09 00:00:00.000000, now 2)" in change
    )
    assert pq.read_table(made.with_name("again.parquet"))["age"].to_pylist() == [None, 10, 20, None, 10]
    again = training("--from", "again.parquet.json", "--out", "third.parquet")
    assert again.code == 0 and "the same bytes" in again.out


def test_even_the_sign_of_a_zero_is_told(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:
    change_warehouse(  # an update would leave it, for DuckDB takes both for equal
        shop,
        "delete from small where weight = 0",
        "insert into small values (1, timestamp '2025-01-02', timestamp '2025-01-02', 10, '-0.0'::double)",
    )
    said = refused()
    assert "these columns differ: weight." in said and "the data of feature view 'small' has changed" in said


def test_a_changed_definition_is_told(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:
    sql = (shop.folder / "models" / "small.sql").read_text()
    shop.write({"models/small.sql": sql.replace("11, 1.5", "11, 2.5")})
    shop.dbt("build", "-s", "small")
    said = refused()
    assert "these columns differ: weight." in said
    assert "Since then: the definition of feature view 'small' has changed; the data of" in said


def test_a_changed_ttl_is_a_changed_definition(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:
    properties = FILES["models/views.yml"]["models"]
    shop.write(
        {
            "models/views.yml": {
                "models": [properties[0], view("small", created_timestamp="loaded_at", ttl="1 day"), properties[2]]
            }
        }
    )
    shop.dbt("parse")
    said = refused()
    assert "the definition of feature view 'small' has changed" in said
    assert "the data of" not in said


def test_a_changed_model_above_is_told(
    refused: Callable[..., str], training: Callable[..., Any], shop: DbtProject, tmp_path: Path
) -> None:
    select = "select * from labels order by label"
    assert training("--spine", select, "-f", "big:score", "--out", "set.parquet").code == 0
    shop.write({"models/base.sql": "{{ config(materialized='table') }} select i from range(150000) as r(i)"})
    shop.dbt("build", "-s", "base+")
    said = refused()
    assert "models above feature view 'big' have changed: shop.base" in said
    assert "the definition of feature view 'big'" not in said
    assert "the data of feature view 'big' has changed" in said


def test_another_version_of_a_view_is_told(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, shop: DbtProject
) -> None:
    assert training("--spine", "labels.parquet", "-f", "prices:price", "--out", "set.parquet").code == 0
    properties = FILES["models/views.yml"]["models"]
    shop.write({"models/views.yml": {"models": [*properties[:2], {**properties[2], "latest_version": 1}]}})
    shop.dbt("parse")
    said = refused()
    assert "feature view 'prices' was prices.v2 and is now prices.v1" in said


def test_a_changed_spine_file_is_told(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, tmp_path: Path
) -> None:
    pq.write_table(labels().slice(0, 4), tmp_path / "labels.parquet")
    said = refused()
    assert "it had 5 rows and now has 4." in said
    assert "the spine labels.parquet has changed (5 rows, now 4)" in said
    assert "the data of" not in said


def test_a_spine_that_is_elsewhere_now_is_named(
    refused: Callable[..., str], training: Callable[..., Any], made: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.parquet").rename(tmp_path / "moved.parquet")
    said = refused()
    assert "labels.parquet, the spine that set.parquet.json names, is not there any more: name it with --spine" in said
    ran = training("--from", "set.parquet.json", "--spine", "moved.parquet", "--out", "again.parquet")
    assert (ran.code, ran.err) == (0, "")
    assert read_record(tmp_path / "again.parquet.json").spine.path == "moved.parquet"


def test_a_select_whose_rows_come_in_another_order_is_told(
    refused: Callable[..., str], training: Callable[..., Any], shop: DbtProject
) -> None:  # fmt: skip
    assert training("--spine", "select * from labels", "-f", "small:age", "--out", "set.parquet").code == 0
    change_warehouse(shop, "create or replace table labels as select * from labels order by label desc")
    said = refused()
    assert "gave the same rows in another order: end its SELECT with an ORDER BY" in said
    change_warehouse(shop, "update labels set label = -1 where label = 5")
    assert "the spine gave other rows (100 rows as before)" in refused()


def test_other_tools_are_told(refused: Callable[..., str], training: Callable[..., Any], made: Path) -> None:
    def older(record: dict[str, Any]) -> None:
        record["versions"] |= {"pyarrow": "1.0", "duckdb": "0.9"}
        record["output"]["sha256"] = "0" * 64
        # DuckDB's hashes of another version mean nothing.
        record["views"][0]["content"] = "1"

    rewrite(made, older)
    said = refused()
    assert "every row is the same, but the file is written otherwise" in said
    assert "duckdb was 0.9 and is now" in said and "pyarrow was 1.0 and is now" in said
    assert "the data of" not in said


def test_where_nothing_explains_it_that_is_said(
    refused: Callable[..., str], training: Callable[..., Any], shop: DbtProject, made: Path
) -> None:
    rewrite(made, lambda record: record["output"].update(sha256="0" * 64, rows_sha256="1" * 64))
    said = refused()
    assert "a view may give other rows on every read" in said


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, "-C", str(folder), *args], capture_output=True, text=True, check=True).stdout


def test_git_is_part_of_the_record(
    refused: Callable[..., str], training: Callable[..., Any], shop: DbtProject, tmp_path: Path
) -> None:
    pq.write_table(labels(), tmp_path / "labels.parquet")
    asked = ("--spine", "labels.parquet", "-f", "small", "--out")

    def state(name: str) -> tuple[str | None, bool | None]:
        assert training(*asked, f"{name}.parquet").code == 0
        record = read_record(tmp_path / f"{name}.parquet.json")
        return record.git_revision, record.git_dirty

    assert state("none") == (None, None)
    git(shop.folder, "init", "-q")
    assert state("unborn") == (None, None)
    shop.write({".gitignore": "target/\nlogs/\n.dbt_packages\n*.duckdb\n"})
    git(shop.folder, "add", "-A")
    git(shop.folder, "commit", "-q", "-m", "first")
    first = git(shop.folder, "rev-parse", "HEAD").strip()
    shop.write({"notes.txt": "results that lie about are no change"})
    assert state("set") == (first, False)
    shop.write({"macros/new.sql": "-- not in git yet"})
    assert state("untracked") == (first, True)
    shop.write({"packages.yml": (shop.folder / "packages.yml").read_text() + "# changed\n"})
    assert state("dirty") == (first, True)

    # What did not matter is a remark, what did is an answer.
    ran = training("--from", "set.parquet.json", "--out", "again.parquet")
    assert ran.code == 0
    assert ran.out.splitlines()[1] == (
        f"Since then: git was at {first[:12]} and is now at {first[:12]} with uncommitted changes."
    )
    git(shop.folder, "add", "-A")
    git(shop.folder, "commit", "-q", "-m", "second")
    second = git(shop.folder, "rev-parse", "HEAD").strip()
    change_warehouse(shop, "update small set age = 12 where age = 11")
    assert f"git was at {first[:12]} and is now at {second[:12]}." in refused()
    git(shop.folder, "reset", "-q", "--soft", "HEAD~1")
    (tmp_path / "dirty.parquet.json").replace(tmp_path / "set.parquet.json")
    said = refused()
    assert "the project already had uncommitted changes when it was made" in said and "git was at" not in said


# Records, files and options.


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", "null", '{"format": "1"}', '{"format": true}', '{"format": 1}', "\x00"]
)
def test_a_damaged_record_is_a_sentence(
    refused: Callable[..., str], training: Callable[..., Any], tmp_path: Path, text: str
) -> None:
    (tmp_path / "set.parquet.json").write_text(text)
    assert "is not the record of a training set, or is damaged" in refused()


def test_a_record_with_any_part_missing_or_of_another_type_is_a_sentence(
    store: FeatureStore, training: Callable[..., Any], made: Path
) -> None:
    record = json.loads(made.with_name("set.parquet.json").read_text())
    places = list(paths(record))
    assert len(places) > 60
    for place in places:
        for damage in ("removed", ["a list", 1], {"a": 1}, 1.5):
            copy = json.loads(json.dumps(record))
            holder = copy
            for step in place[:-1]:
                holder = holder[step]
            if damage == "removed" and isinstance(holder, dict):
                del holder[place[-1]]
            elif damage != "removed":
                holder[place[-1]] = damage
            path = made.with_name("damaged.json")
            path.write_text(json.dumps(copy))
            if copy != record and place[-2:-1] not in (["models"], ["versions"]):
                with pytest.raises(InputError, match=r"damaged\.json is "):
                    read_record(path)


def paths(value: Any, *before: Any) -> Any:
    """Where everything in a JSON document stands."""
    if before:
        yield list(before)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from paths(item, *before, step)


def test_a_record_of_another_format_names_the_release(
    refused: Callable[..., str], training: Callable[..., Any], made: Path
) -> None:
    rewrite(made, lambda record: record.update(format=3, versions={"dbt-feature-store": "9.1"}))
    said = refused()
    assert "is a record of format 3, and this release knows format 2: use the release that wrote it (9.1)" in said


def test_a_record_that_is_not_there_is_named(refused: Callable[..., str], training: Callable[..., Any]) -> None:
    assert "set.parquet.json cannot be read (No such file or directory)" in refused()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "set.parquet.json"], "give --out"),
        (["--from", "set.parquet.json", "--out", "a.parquet", "-f", "small:age"], "takes features and options from the record"),
        (["--from", "set.parquet.json", "--out", "a.parquet", "--timestamp", "at"], "takes features and options from the record"),
        (["--from", "set.parquet.json", "--out", "a.parquet", "--service", "x"], "takes features and options from the record"),
        (["--from", "set.parquet.json", "--out", "a.xlsx"], "--out writes .parquet or .csv"),
        (["--spine", "labels.parquet", "-f", "small", "--allow-changes"], "--allow-changes needs --from"),
        (["-f", "small"], "Name the labels with --spine"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_contradict_each_other_are_wrong_usage(
    training: Callable[..., Any], arguments: list[str], sentence: str
) -> None:
    ran = training(*arguments)
    assert ran.code == 2 and sentence in " ".join(ran.err.split())


def test_a_set_is_made_again_in_its_own_format_only(training: Callable[..., Any], made: Path) -> None:
    ran = training("--from", "set.parquet.json", "--out", "again.csv")
    assert ran.code == 1 and "set.parquet can only be made again with its own suffix" in ran.err


def test_the_spine_is_never_written_over(training: Callable[..., Any], made: Path, tmp_path: Path) -> None:
    before = (tmp_path / "labels.parquet").read_bytes()
    ran = training("--spine", "labels.parquet", "-f", "small", "--out", str(tmp_path / "labels.parquet"))
    assert ran.code == 1 and "is the spine itself" in ran.err
    assert (tmp_path / "labels.parquet").read_bytes() == before


def test_a_set_that_fails_leaves_what_was_there(training: Callable[..., Any], made: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet*")}
    assert training("--spine", "labels.parquet", "-f", "small:nothing", "--out", "set.parquet").code == 1
    assert training("--spine", "labels.parquet", "-f", "big:embedding", "--out", "set.csv").code == 1
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet*")} == before
    assert not list(tmp_path.glob("*.csv*"))


# The bytes of files and the fingerprints of columns.

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "integer": (pa.int64(), [0, 1, -1, 2**53 + 1]),
    "boolean": (pa.bool_(), [True, False]),
    "double": (pa.float64(), [0.0, -0.0, math.nan, math.inf, 0.1]),
    "text": (pa.string(), ["", "a", "aa", "é", "a\x00"]),
    "bytes": (pa.binary(), [b"", b"\x00", b"a"]),
    "moment": (pa.timestamp("us", "UTC"), [START.replace(tzinfo=timezone.utc), datetime(1960, 1, 1, tzinfo=timezone.utc)]),
    "list": (pa.list_(pa.float32()), [[], [0.0], [-0.0], [None], [1.0, 2.0]]),
    "array": (pa.list_(pa.float32(), 2), [[0.0, 1.0], [-0.0, 1.0], [None, 1.0]]),
    "struct": (pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), [{"a": 1, "b": []}, {"a": None, "b": None}, {"a": 1, "b": ["x"]}]),
    "map": (pa.map_(pa.string(), pa.int32()), [[], [("k", 1)], [("k", None)]]),
    "nothing": (pa.null(), [None]),
}  # fmt: skip


def test_neither_bytes_nor_fingerprints_depend_on_how_a_table_is_cut(tmp_path: Path) -> None:
    rng = random.Random(3)
    count = 2_000
    values = {name: [rng.choice([None, *choices]) for _ in range(count)] for name, (_, choices) in COLUMNS.items()}
    whole = pa.table({name: pa.array(values[name], COLUMNS[name][0]) for name in COLUMNS})
    write_table(whole, tmp_path / "whole", Path("set.parquet"))
    for number in range(5):
        cuts = [0, *sorted(rng.sample(range(count), 5)), count]
        cut = pa.concat_tables([whole.slice(a, b - a) for a, b in itertools.pairwise(cuts)])
        write_table(cut, tmp_path / f"cut_{number}", Path("set.parquet"))
        assert (tmp_path / f"cut_{number}").read_bytes() == (tmp_path / "whole").read_bytes()
        for name in COLUMNS:
            assert column_sha256(cut[name]) == column_sha256(whole[name])
    assert pq.read_table(tmp_path / "whole").num_rows == count


@pytest.mark.parametrize("name", COLUMNS)
def test_fingerprints_are_equal_exactly_where_columns_are_to_the_bit(name: str) -> None:
    kind, choices = COLUMNS[name]
    rng = random.Random(name)
    seen: dict[str, str] = {}
    met = 0
    for _ in range(400):
        values = [rng.choice([None, *choices]) for _ in range(rng.randrange(4))]
        shown, fingerprint = repr(values), column_sha256(pa.chunked_array([values], kind))
        met += shown in seen
        assert seen.setdefault(shown, fingerprint) == fingerprint
    assert len(set(seen.values())) == len(seen) and met > 10
