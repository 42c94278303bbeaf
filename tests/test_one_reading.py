"""What is remembered is what was sent, whatever a view gives from one moment to the next, wherever the files lie and
however large the rows and their keys are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, MaterializationError
from materializer.materialize import bounded
from materializer.materialize.plan import ViewResult
from materializer.materialize.run import Run
from tests.support.command import run as run_command
from tests.support.dbt import DbtProject
from tests.support.faults import Server, memory_folder, new_project, online, sql

MOMENT = "timestamptz '2024-05-01 00:00+00' as event_timestamp"


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    return new_project(tmp_path / "shop")


@pytest.fixture
def store(project: DbtProject, server: Server, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=server.url, namespace=namespace)


def land(store: FeatureStore, view: str = "kinds", **options: Any) -> ViewResult:
    (result,) = store.materialize(feature_views=[view], **options)
    return result


def rows(server: Server, namespace: str, feature: str = "amount") -> dict[str, int]:
    """The value of each entity online."""
    found = online(server.client, namespace, "kinds")
    return {key.decode().rsplit(":", 1)[1]: int(row[feature.encode()]) for key, row in found.items()}


# A view over a file that is replaced while a run is under way.


@pytest.fixture
def swap(project: DbtProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put rows into the file under the view ``kinds``: now, or between comparing and sending of the next run."""
    path = tmp_path / "kinds.parquet"

    def write(rows: dict[int, Any], kind: str = "bigint") -> None:
        values = (
            ", ".join(f"({user}::bigint, {value}::{kind})" for user, value in rows.items())
            or f"(null::bigint, null::{kind})"
        )
        with duckdb.connect() as connection:
            connection.execute(
                f"copy (select *, {MOMENT} from (values {values}) as r(user_id, amount) where user_id is not null) "
                f"to '{path}' (format parquet)"
            )

    def put(rows: dict[int, Any], later: bool = False, kind: str = "bigint") -> None:
        if not later:
            return write(rows, kind)
        start = Run._start

        def swapped(self: Run, *args: Any) -> None:
            monkeypatch.setattr(Run, "_start", start)
            write(rows, kind)
            start(self, *args)

        monkeypatch.setattr(Run, "_start", swapped)
        return None

    write({1: 1})
    sql(project, f"create view kinds as select * from read_parquet('{path}')")
    return put


OLD, NEW = {1: 10, 2: 20, 3: 30}, {1: 11, 2: 21, 3: 31}


@pytest.mark.parametrize("full", [False, True])
def test_a_file_swapped_between_comparing_and_sending_and_back_later_leaves_no_wrong_row(
    store: FeatureStore, swap: Callable[..., None], server: Server, namespace: str, full: bool
) -> None:
    swap({user: 0 for user in OLD})
    land(store)
    swap(OLD)
    swap(NEW, later=True)
    land(store, full=full)
    swap(OLD)
    land(store)
    assert rows(server, namespace) == {"1": 10, "2": 20, "3": 30}
    assert land(store).rows_written == 0


SWAPS: dict[str, tuple[dict[int, int], dict[int, int]]] = {
    "rows come": ({1: 10}, {1: 10, 2: 20, 3: 30}),
    "rows go": ({1: 10, 2: 20, 3: 30}, {2: 20}),
    "others in their place": ({1: 10, 2: 20}, {3: 30, 4: 40}),
    "some change": (OLD, {1: 10, 2: 99, 3: 30}),
    "all go": (OLD, {}),
}


@pytest.mark.parametrize("case", SWAPS)
@pytest.mark.parametrize("first", [False, True])
def test_whatever_a_file_becomes_meanwhile_the_next_run_ends_right(
    store: FeatureStore, swap: Callable[..., None], server: Server, namespace: str, case: str, first: bool
) -> None:
    compared, sent = SWAPS[case]
    if not first:
        swap({1: 0, 2: 20, 3: 0, 5: 50})
        land(store)
    swap(compared)
    swap(sent, later=True)
    result = land(store, allow_shrink=True)
    assert result.rows_read == result.rows_written + result.rows_skipped >= 0
    if first:
        assert rows(server, namespace) == {str(user): value for user, value in sent.items()}
    for after in (sent, compared):
        swap(after)
        land(store, allow_shrink=True)
        assert rows(server, namespace) == {str(user): value for user, value in after.items()}
        assert land(store, allow_shrink=True).rows_written == 0


def test_a_file_emptied_meanwhile_empties_nothing(
    store: FeatureStore, swap: Callable[..., None], server: Server, namespace: str
) -> None:
    swap(OLD)
    land(store)
    swap({}, later=True)
    with pytest.raises(MaterializationError, match="pass --allow-shrink"):
        land(store, full=True)
    assert rows(server, namespace) == {"1": 10, "2": 20, "3": 30}


def test_a_column_that_changes_its_type_meanwhile_stops_the_run(
    store: FeatureStore, swap: Callable[..., None], server: Server, namespace: str
) -> None:
    swap({1: 10})
    land(store)
    swap({1: 11})
    swap({1: 1.5}, later=True, kind="double")
    with pytest.raises(MaterializationError, match="'amount' of feature view 'kinds' was int64 and became double"):
        land(store)
    assert rows(server, namespace) == {"1": 10}


# Where the files lie.


@pytest.mark.parametrize("folder", ["user_id=7/amount=1/_fs_digest=1", "user_id=7/amount=x", "a*b/[1]/**/it's/%41 b"])
def test_no_part_of_a_path_means_anything(tmp_path: Path, server: Server, namespace: str, folder: str) -> None:
    project = new_project(tmp_path / folder / "shop")
    store = FeatureStore(project.folder, redis_url=server.url, namespace=namespace)
    sql(project, f"create table kinds as select range as user_id, range::int as amount, {MOMENT} from range(20)")
    assert land(store).rows_written == 20
    for change, written, deleted in (
        ("update kinds set amount = 100 where user_id % 5 = 2", 4, 0),
        ("delete from kinds where user_id in (7, 8)", 0, 2),
        ("insert into kinds select 50, 5, event_timestamp from kinds limit 1", 1, 0),
    ):
        sql(project, change)
        result = land(store)
        assert (result.rows_written, result.rows_deleted) == (written, deleted)
    assert rows(server, namespace)["12"] == 100 and len(rows(server, namespace)) == 19
    remembered = json.loads((memory_folder(project, namespace, "kinds") / "memory.json").read_text())
    assert (remembered["finished"], remembered["rows"]) == (True, 19)


# Keys that Parquet has no type for.


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("hugeint", [0, 1, -1, 2**53, 2**53 + 1, 10**37, 10**37 + 1, -(10**37)]),
        ("decimal(38, 10)", ["0.0000000001", "0.0000000002", "1234567890123456789012345678.1", "-1.5"]),
        ("uuid", [f"'0000000{n}-aaaa-bbbb-cccc-dddddddddddd'" for n in range(5)]),
        ("varchar", ["'a'", "'A'", "'a '", "''", "'é'", "'e\u0301'"]),
        ("timestamptz", [f"'2024-01-0{n} 00:00:00.00000{n}+00'" for n in range(1, 5)]),
        ("boolean", ["true", "false"]),
    ],
)
def test_neighbouring_keys_of_every_type_are_told_apart(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str, kind: str, keys: list[Any]
) -> None:
    values = ", ".join(f"({key}::{kind}, {number})" for number, key in enumerate(keys))
    sql(project, f"create table kinds as select *, {MOMENT} from (values {values}) as r(user_id, amount)")
    assert land(store).rows_written == len(keys)
    before = rows(server, namespace)
    assert sorted(before.values()) == list(range(len(keys)))
    assert land(store).rows_written == 0
    for number, key in enumerate(keys[:2]):
        sql(project, f"update kinds set amount = {100 + number} where user_id = {key}::{kind}")
        assert land(store).rows_written == 1
    sql(project, f"delete from kinds where user_id = {keys[-1]}::{kind}")
    gone = 1 if len(keys) > 2 else 0
    if gone:
        result = land(store)
        assert (result.rows_written, result.rows_deleted) == (0, 1)
    assert sorted(rows(server, namespace).values()) == sorted([*range(2, len(keys) - gone), 100, 101])


# Rows past their ttl.


def visits(project: DbtProject, *ages: int) -> None:
    values = ", ".join(f"({user}, now() - interval '{days} days', {user})" for user, days in enumerate(ages))
    sql(project, f"create or replace table visits as select * from (values {values}) as r(user_id, event_timestamp, n)")


def test_rows_long_past_their_ttl_are_counted_and_said(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    """The ttl is 30 days: a row is OUTSIDE_MAX_AGE from then on, and gone after 60."""
    visits(project, 1, 40, 61, 90)
    result = land(store, "visits")
    assert (result.rows_read, result.rows_written, result.rows_skipped) == (4, 2, 2)
    assert "2 left out, older than 60 days (rows are kept for twice the ttl, and a day at least)" in result.why
    assert result.warnings == ()
    answer = store.get_online_features(["visits:n"], {"user_id": [0, 1, 2]}).to_dict(include_statuses=True)
    assert answer["n__status"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    again = land(store, "visits")
    assert (again.rows_read, again.rows_written, again.rows_skipped) == (4, 0, 4)
    assert "2 left out" in again.why
    visits(project, 61, 62, 63, 64)
    result = land(store, "visits")
    assert (result.rows_read, result.rows_written, result.rows_deleted) == (4, 0, 2)


def test_a_view_whose_rows_are_all_past_their_ttl_says_so(project: DbtProject, server: Server, namespace: str) -> None:
    visits(project, 61, 90, 400)
    where = ("--project-dir", str(project.folder), "--redis-url", server.url, "--namespace", namespace)
    ran = run_command("materialize", "visits", *where)
    assert ran.code == 0
    assert "every row: nothing is remembered of an earlier run; 3 left out, older than 60 days" in ran.out
    assert ran.err.startswith("Warning: 'visits' has no row young enough to be online: the newest of each of its 3 ")


# Large rows.


def test_large_rows_take_more_memory_by_themselves_and_no_more_than_was_given(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(project, f"""create table kinds as select range as user_id, {MOMENT}, range as amount,
        repeat(md5(range::varchar), 250_000) as text from range(12)""")  # fmt: skip
    monkeypatch.setattr(bounded, "MEMORY_BYTES", 64 * 1024 * 1024)
    with pytest.raises(MaterializationError) as failure:
        land(store, memory_limit="64 MiB")
    assert "--memory-limit" in str(failure.value) and len(str(failure.value)) < 600
    assert rows(server, namespace) == {}
    assert land(store).rows_written == 12
    assert server.client.hstrlen(f"{namespace}:kinds:11", "text") == 8_000_000
    assert land(store, memory_limit="1.5 GB", full=True).rows_written == 12
    assert land(store).rows_written == 0
    shutil.rmtree(memory_folder(project, namespace, "kinds"))


@pytest.mark.parametrize("size", ["much", "5", "1 PB", "10 MB", "-1 GB", "0 GB"])
def test_a_memory_limit_that_is_none_is_refused(project: DbtProject, size: str) -> None:
    ran = run_command("materialize", "--memory-limit", size, "--project-dir", str(project.folder))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: memory_limit is '{size}', ") and ran.err.count("\n") == 1
