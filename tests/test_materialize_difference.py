"""A run sends what differs from what was sent before and nothing else; everything, where that is not known for sure."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from materializer import FeatureStore, MaterializationError
from materializer.errors import InputError
from materializer.materialize.plan import ViewResult
from materializer.online.published import read_published
from tests.support.cases import FEATURES
from tests.support.command import contents, rows, run
from tests.support.dbt import DbtProject
from tests.support.faults import (
    VIEWS,
    Server,
    commands,
    difference,
    memory_folder,
    new_project,
    online,
    oracle,
    sql,
)
from tests.support.manifests import project_of

UTC = timezone.utc

READINGS = """
    create or replace table readings as select * from (values
        (1::bigint, timestamptz '2024-05-01 00:00:00+00', timestamptz '2024-05-01 01:00:00+00', 10::bigint, 'a'),
        (1, timestamptz '2024-05-02 00:00:00+00', timestamptz '2024-05-02 01:00:00+00', 11, 'b'),
        (2, timestamptz '2024-05-02 00:00:00+00', timestamptz '2024-05-02 01:00:00+00', 20, null),
        (3, timestamptz '2024-05-02 00:00:00+00', timestamptz '2024-05-02 01:00:00+00', null, ''),
        (4, timestamptz '2024-05-02 00:00:00+00', timestamptz '2024-05-02 01:00:00+00', 40, 'd')
    ) as rows(user_id, event_timestamp, created_at, amount, city)
"""


def many(count: int, first: int = 0, change: str = "0") -> str:
    """A table of `count` entities from number `first` on."""
    return f"""
        create or replace table readings as
        select range as user_id, timestamptz '2024-05-02 00:00:00+00' as event_timestamp,
            timestamptz '2024-05-02 01:00:00+00' as created_at, range + {change} as amount, 'x' as city
        from range({first}, {first + count})
    """


@dataclass(frozen=True)
class Work:
    """A project of its own, and a namespace of its own on a server."""

    project: DbtProject
    url: str
    namespace: str

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.project.folder, redis_url=self.url, namespace=self.namespace)

    @property
    def memory(self) -> Path:
        return memory_folder(self.project, self.namespace)

    def sql(self, *statements: str) -> Work:
        sql(self.project, *statements)
        return self

    def run(self, view: str = "readings", **options: Any) -> ViewResult:
        (result,) = self.store.materialize(feature_views=[view], **options)
        return result

    def fails(self, view: str = "readings", **options: Any) -> str:
        """The sentence of a run that must fail."""
        with pytest.raises(MaterializationError) as failure:
            self.run(view, **options)
        (result,) = failure.value.results
        return result.error

    def moved(self, **options: Any) -> tuple[int, int]:
        """Run, compare what is online with the truth, and give (rows written, rows deleted)."""
        result = self.run(**options)
        assert self.wrong_rows() == 0
        assert result.rows_read == result.rows_written + result.rows_skipped
        return result.rows_written, result.rows_deleted

    def wrong_rows(self, view: str = "readings") -> int:
        return difference(online(self.client, self.namespace, view), oracle(self.project, self.namespace, view))

    def remembered(self) -> dict[str, Any]:
        return json.loads((self.memory / "memory.json").read_text())


@dataclass(frozen=True)
class Start:
    """Where a test may start: a project's folder, and what is in Redis by key."""

    folder: Path
    online: dict[bytes, bytes]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory, server: Server) -> dict[str, Start]:
    """Before and after a first run, made once: every test's project is put back to one of them, in the same place."""
    kept = tmp_path_factory.mktemp("starts")
    work = Work(new_project(tmp_path_factory.mktemp("difference") / "shop"), server.url, "difference").sql(READINGS)
    shutil.copytree(work.project.folder, kept / "before")
    server.client.flushall()
    assert work.moved() == (4, 0)
    shutil.copytree(work.project.folder, kept / "after")
    left = {key: server.client.dump(key) for key in server.client.scan_iter()}
    return {
        "place": Start(work.project.folder, {}),
        "before": Start(kept / "before", {}),
        "after": Start(kept / "after", left),
    }


@pytest.fixture
def work(starts: dict[str, Start], server: Server) -> Work:
    return started(starts, "before", server)


@pytest.fixture
def sent(starts: dict[str, Start], server: Server) -> Work:
    """After a first run."""
    return started(starts, "after", server)


def started(starts: dict[str, Start], name: str, server: Server) -> Work:
    place, start = starts["place"].folder, starts[name]
    shutil.rmtree(place)
    shutil.copytree(start.folder, place)
    server.client.flushall()
    for key, value in start.online.items():
        server.client.restore(key, 0, value)
    return Work(DbtProject(place), server.url, "difference")


# What is sent.


def test_where_nothing_changed_nothing_is_sent_and_nothing_scanned(sent: Work) -> None:
    before = rows(sent.client, sent.namespace)
    with commands(sent.client) as ran:
        result = sent.run()
    assert (result.rows_read, result.rows_written, result.rows_skipped, result.rows_deleted) == (4, 0, 4, 0)
    assert ran.keys().isdisjoint({"evalsha", "scan", "keys", "expire", "pexpireat"})
    assert (ran["hset"], ran["del"]) == (1, 1)  # the view's line in the registry, which has the time; and the lease
    assert rows(sent.client, sent.namespace) == before


def test_a_thousand_changes_in_twenty_thousand_rows_write_those_rows_alone(work: Work) -> None:
    work.sql(many(20_000))
    assert work.moved() == (20_000, 0)
    work.sql("update readings set amount = amount + 1 where user_id % 20 = 7")
    with commands(work.client) as ran:
        result = work.run()
    assert (result.rows_written, result.rows_deleted, result.rows_skipped) == (1_000, 0, 19_000)
    assert 1_000 <= ran["hset"] <= 1_100
    assert "scan" not in ran
    assert work.wrong_rows() == 0


INSERT = "insert into readings values ({}, timestamptz '{}', timestamptz '{}', {}, {})"
CHANGES: dict[str, tuple[list[str], tuple[int, int]]] = {
    "a new entity": ([INSERT.format(5, "2024-05-03 00:00+00", "2024-05-03 00:00+00", 50, "'e'")], (1, 0)),
    "a newer row": ([INSERT.format(1, "2024-05-03 00:00+00", "2024-05-03 00:00+00", 12, "'c'")], (1, 0)),
    "a newer row of the same values": ([INSERT.format(1, "2024-05-03 00:00+00", "2024-05-03 00:00+00", 11, "'b'")],
                                       (1, 0)),
    "a late row that is its entity's only one": (
        [INSERT.format(6, "2001-01-01 00:00+00", "2024-05-09 00:00+00", 60, "'f'")], (1, 0)),
    "a late row that is its entity's latest": (
        [INSERT.format(1, "2024-05-02 00:00:00.000001+00", "2024-05-09 00:00+00", 12, "'c'")], (1, 0)),
    "a late row that is not": ([INSERT.format(1, "2024-05-01 12:00+00", "2024-05-09 00:00+00", 12, "'c'")], (0, 0)),
    "a correction": ([INSERT.format(1, "2024-05-02 00:00+00", "2024-05-02 02:00+00", 13, "'c'")], (1, 0)),
    "a correction of the load time alone": (
        [INSERT.format(1, "2024-05-02 00:00+00", "2024-05-02 02:00+00", 11, "'b'")], (1, 0)),
    "a correction of an older row": (
        [INSERT.format(1, "2024-05-01 00:00+00", "2024-05-09 00:00+00", 0, "'c'")], (0, 0)),
    "a correction that is not known yet": (
        [INSERT.format(1, "2024-05-02 00:00+00", "2999-01-01 00:00+00", 13, "'c'")], (0, 0)),
    "a row whose load time is NULL": (
        ["insert into readings values (1, timestamptz '2024-05-03 00:00+00', null, 13, 'c')"], (0, 0)),
    "a row of the future": ([INSERT.format(1, "2999-01-01 00:00+00", "2024-05-02 00:00+00", 13, "'c'")], (0, 0)),
    "a row taken back": (["delete from readings where amount = 11"], (1, 0)),
    "an entity gone": (["delete from readings where user_id = 4"], (0, 1)),
    "an entity whose key became another's": (["update readings set user_id = 7 where user_id = 4"], (1, 1)),
    "a value that became NULL": (["update readings set amount = null where user_id = 2"], (1, 0)),
    "a NULL that became a value": (["update readings set city = '' where user_id = 2"], (1, 0)),
    "an empty text that became NULL": (["update readings set city = null where user_id = 3"], (1, 0)),
    "a whole view written anew with the same rows": (
        ["create or replace table readings as select * from readings order by user_id desc"], (0, 0)),
    "a row twice": (["insert into readings select * from readings where user_id = 4"], (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_moves_its_row_alone(sent: Work, change: str) -> None:
    statements, expected = CHANGES[change]
    sent.sql(*statements)
    assert sent.moved() == expected


def test_every_value_of_a_type_is_told_from_every_other(work: Work) -> None:
    """One entity for each pair of values of a type, NULL included: after the second run it holds the pair's second."""
    pairs: list[tuple[str, int, int]] = []
    with duckdb.connect(str(work.project.warehouse)) as connection:
        for place, (name, feature) in enumerate(FEATURES.items()):
            values = [None, *feature.values]
            connection.execute(f"create table values_{place}(number bigint, feature {feature.sql})")
            connection.executemany(f"insert into values_{place} values (?, ?)", list(enumerate(values)))
            pairs += [(name, a, b) for a in range(len(values)) for b in range(len(values))]
        connection.execute("create table chosen(user_id bigint, name varchar, before bigint, after bigint)")
        connection.executemany("insert into chosen values (?, ?, ?, ?)", [(i, *pair) for i, pair in enumerate(pairs)])

    def become(which: str) -> None:
        columns = ", ".join(f'"{name}" {feature.sql}' for name, feature in FEATURES.items())
        work.sql(
            f"create or replace table kinds(user_id bigint, event_timestamp timestamptz, {columns})",
            *(f"""insert into kinds(user_id, event_timestamp, "{name}")
                select user_id, timestamptz '2024-05-01 00:00+00', feature
                from chosen join values_{place} on number = {which} where name = '{name}'"""
              for place, name in enumerate(FEATURES)),
        )  # fmt: skip

    def texts(namespace: str) -> dict[int, Any]:
        rows = online(work.client, namespace, "kinds")
        return {int(key.rpartition(b":")[2]): row for key, row in rows.items()}

    become("before")
    work.run("kinds")
    before = texts(work.namespace)
    become("after")
    result = work.run("kinds")
    afresh = work.namespace + ".afresh"
    FeatureStore(work.project.folder, redis_url=work.url, namespace=afresh).materialize(["kinds"])
    found, expected = texts(work.namespace), texts(afresh)
    assert [pair for user, pair in enumerate(pairs) if found[user] != expected[user]] == []
    assert [pair for user, pair in enumerate(pairs) if (found[user] == before[user]) != (pair[1] == pair[2])] == []
    assert result.rows_written == sum(a != b for _, a, b in pairs)


def test_one_sign_in_a_long_embedding_is_noticed_wherever_it_stands(work: Work) -> None:
    table = """
        create or replace table kinds as
        select range as user_id, timestamptz '2024-05-01 00:00+00' as event_timestamp,
            list_transform(range(300), lambda i: if(i = range{}, '-0.0', '0.0')::float)::float[300] as embedding
        from range(300)
    """
    work.sql(table.format(" + 1000"))
    work.run("kinds")
    work.sql(table.format(""))
    assert work.run("kinds").rows_written == 300
    work.sql(table.format(" - 1"))
    assert work.run("kinds").rows_written == 300
    assert work.run("kinds").rows_written == 0


def test_a_row_that_falls_due_is_there_before_its_moment_and_no_run_is_needed_then(sent: Work) -> None:
    due = datetime.now(UTC) + timedelta(seconds=4)
    sent.sql(INSERT.format(1, due.isoformat(), "2024-05-02 00:00+00", 12, "'due'"))
    assert sent.moved(ahead="52 weeks") == (1, 0)
    assert sent.client.hget(f"{sent.namespace}:readings:1", "city") == b"b"
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()) + 0.1)
    assert sent.wrong_rows() == 0
    assert sent.moved(ahead="52 weeks") == (0, 0)


def test_without_rows_ahead_it_moves_with_the_next_run_and_no_dbt_run_in_between(sent: Work) -> None:
    due = datetime.now(UTC) + timedelta(seconds=4)
    sent.sql(INSERT.format(1, due.isoformat(), "2024-05-02 00:00+00", 12, "'due'"))
    assert sent.moved(ahead=0) == (0, 0)
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()) + 0.1)
    assert sent.moved(ahead=0) == (1, 0)
    assert sent.client.hget(f"{sent.namespace}:readings:1", "city") == b"due"


# Definitions that change.


def change(project: DbtProject, view: str, **changes: Any) -> None:
    project_of(project.folder, VIEWS | {view: VIEWS[view] | changes})


def test_a_ttl_that_changed_sends_every_row_again(work: Work) -> None:
    work.sql("create table visits as select range as user_id, now() as event_timestamp, range as seen from range(50)")
    assert work.run("visits").rows_written == 50
    key = f"{work.namespace}:visits:7"
    before = work.client.pexpiretime(key)
    change(work.project, "visits", ttl="60 days")
    result = work.run("visits")
    assert (result.rows_written, result.rows_deleted) == (50, 0)
    assert "the definition changed" in result.why
    assert work.client.pexpiretime(key) - before == timedelta(days=60) / timedelta(milliseconds=1)
    assert work.run("visits").rows_written == 0


def test_a_feature_added_or_dropped_takes_effect_in_place_and_the_registry_shows_it_at_the_end(work: Work) -> None:
    work.sql(many(200))
    work.run()

    def published() -> list[str]:
        registry = read_published(work.client, work.namespace).registry
        return [feature.name for feature in registry.view("readings").features]

    meanwhile: list[list[str]] = []

    def look(view: str, done: int, total: int) -> None:
        meanwhile.append(published())

    work.sql("alter table readings add column age bigint default 5")
    assert work.moved(progress=look) == (200, 0)
    assert (meanwhile, published()) == ([["amount", "city"]], ["amount", "city", "age"])

    work.sql("alter table readings drop column city")
    assert work.moved(progress=look) == (200, 0)
    assert (meanwhile[1:], published()) == ([["amount", "city", "age"]], ["amount", "age"])
    assert work.moved() == (0, 0)


def test_a_feature_of_another_type_is_refused_until_it_is_meant(sent: Work) -> None:
    before = contents(sent.client)
    sent.sql("alter table readings alter amount type varchar")
    for options in ({}, {"full": True}, {"allow_retype": True}):
        sentence = sent.fails(**options)
        assert "'readings:amount' is online as int64 and is now string" in sentence
        assert "--full --allow-retype" in sentence
    assert contents(sent.client) == before
    assert sent.moved(full=True, allow_retype=True) == (4, 0)
    values = sent.store.get_online_features(["readings:amount"], [{"user_id": 1}]).to_dict()
    assert values["amount"] == ["11"]


def test_a_join_key_that_becomes_a_feature_leaves_no_row_of_the_old_keys(work: Work) -> None:
    work.sql("""create table pairs as select range // 10 as user_id, range % 10 as item_id, 5 as score,
                timestamptz '2024-05-01 00:00+00' as event_timestamp from range(100)""")
    assert work.run("pairs").rows_written == 100
    work.sql("delete from pairs where item_id <> 3")
    change(work.project, "pairs", entities=["user_id"])
    result = work.run("pairs")
    assert (result.rows_written, result.rows_deleted) == (10, 100)
    assert sorted(online(work.client, work.namespace, "pairs")) == sorted(
        f"{work.namespace}:pairs:{user}".encode() for user in range(10)
    )
    assert work.run("pairs").rows_written == 0


# Runs that would remove too much.

EMPTY = "delete from readings"
SHRINKS: dict[str, tuple[str, str, bool]] = {  # first state; second; whether it is refused
    "a small view losing most rows": (many(1_000), many(10), False),
    "a view losing just half": (many(1_200), many(600), False),
    "a view losing more than half": (many(1_200), many(599), True),
    "a view emptied": (many(1_200), EMPTY, True),
    "a small view emptied": (many(3), EMPTY, True),
    "all keys replaced by others": (many(1_200), many(1_200, first=5_000), True),
    "all keys of a small view replaced": (many(900), many(900, first=5_000), False),
}


@pytest.mark.parametrize(
    ("shrink", "full"),
    [(shrink, False) for shrink in SHRINKS]
    # A full run counts what goes by another way.
    + [(shrink, True) for shrink in SHRINKS if shrink not in ("a view emptied", "all keys of a small view replaced")],
)
def test_a_run_that_would_remove_most_of_a_view_stops_until_that_is_meant(work: Work, shrink: str, full: bool) -> None:
    first, second, refused = SHRINKS[shrink]
    work.sql(first)
    work.run()
    before = online(work.client, work.namespace)
    work.sql(second)
    if refused:
        assert "--allow-shrink" in work.fails(full=full)
        after = online(work.client, work.namespace)
        assert difference(before, {key: after[key] for key in before}) == 0
    work.moved(full=full, allow_shrink=refused)
    assert work.moved() == (0, 0)


def test_rows_that_grew_too_old_to_keep_are_no_shrink(work: Work) -> None:
    # The view's ttl is 30 days, so a row is kept for 60: all but ten of these have four seconds left.
    work.sql("""create table visits as select range as user_id, range as seen,
                now() - case when range < 10 then interval '1 day' else interval '1440 hours' - interval '4 seconds' end
                    as event_timestamp from range(1200)""")
    ways = {False: work, True: replace(work, namespace="difference.full")}
    for way in ways.values():
        assert way.run("visits").rows_written == 1200
    time.sleep(4.5)
    for full, way in ways.items():
        assert way.run("visits", full=full).error is None
        assert len(online(way.client, way.namespace, "visits")) == 10
        assert way.run("visits").rows_written == 0


# Trying out, and the past.


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_changes_nothing_and_says_what_would_move_and_why(sent: Work) -> None:
    sent.sql("delete from readings where user_id = 4", "update readings set amount = 0 where user_id < 3",
             INSERT.format(9, "2024-05-03 00:00+00", "2024-05-03 00:00+00", 50, "'e'"))  # fmt: skip
    before = contents(sent.client), files(sent.project.folder)
    asked = sent.run(dry_run=True)
    assert (asked.rows_read, asked.rows_written, asked.rows_deleted) == (4, 3, 1)
    assert asked.why == "1 new, 2 changed, 1 gone"
    asked = sent.run(dry_run=True, full=True)
    assert (asked.rows_written, asked.why) == (4, "every row: --full was given")
    assert (contents(sent.client), files(sent.project.folder)) == before

    where = ["--project-dir", str(sent.project.folder), "--redis-url", sent.url, "--namespace", sent.namespace]
    said = run("materialize", "readings", "--dry-run", *where)
    assert said.code == 0 and "A dry run: nothing was changed." in said.out and "1 new, 2 changed, 1 gone" in said.out
    (entry,) = run("materialize", "readings", "--dry-run", "--output", "json", *where).json["views"]
    assert (entry["dry_run"], entry["rows_written"], entry["why"]) == (True, 3, "1 new, 2 changed, 1 gone")
    assert (contents(sent.client), files(sent.project.folder)) == before
    assert sent.moved() == (3, 1)


def test_a_dry_run_tells_why_every_row_would_move(work: Work) -> None:
    assert work.run(dry_run=True).why == "every row: nothing is remembered of an earlier run"
    assert not work.memory.exists() or not any(work.memory.iterdir())
    assert online(work.client, work.namespace) == {}


def test_a_past_moment_needs_a_namespace_of_its_own(work: Work) -> None:
    store = FeatureStore(work.project.folder, redis_url=work.url)
    with pytest.raises(InputError, match="namespace of its own"):
        store.materialize(["readings"], as_of="2024-05-01T12:00:00Z")


def test_a_past_moment_is_what_its_readers_see_as_now_and_does_not_expire(work: Work) -> None:
    work.sql("""create table visits as select * from (values
        (1::bigint, timestamptz '2020-01-01 00:00+00', 1::bigint), (1, timestamptz '2020-03-01 00:00+00', 2),
        (2, timestamptz '2020-01-25 00:00+00', 3), (3, timestamptz '2020-02-09 00:00+00', 4)
    ) as rows(user_id, event_timestamp, seen)""")
    result = work.run("visits", as_of="2020-02-10T00:00:00Z")
    assert (result.rows_written, result.why) == (3, "every row: --as-of was given")
    found = work.store.get_online_features(["visits:seen"], {"user_id": [1, 2, 3, 4]}).to_dict(include_statuses=True)
    assert found["seen"] == [None, 3, 4, None]
    assert found["seen__status"] == ["OUTSIDE_MAX_AGE", "PRESENT", "PRESENT", "NOT_FOUND"]
    assert {work.client.ttl(key) for key in online(work.client, work.namespace, "visits")} == {-1}
    again = work.run("visits", as_of="2020-03-02T00:00:00Z")
    assert again.rows_written == 3
    found = work.store.get_online_features(["visits:seen"], {"user_id": [1, 2]}).to_dict(include_statuses=True)
    assert (found["seen"], found["seen__status"][1]) == ([2, None], "OUTSIDE_MAX_AGE")


# Whether memory counts.


def marker(work: Work) -> str:
    return f"{work.namespace}:_fs_marker:readings"


def other_host(work: Work) -> None:
    """The same project on another machine materializes something else into the same place."""
    folder = work.project.folder.with_name("elsewhere")
    other = Work(new_project(folder), work.url, work.namespace).sql(many(3, first=2))
    other.run()


REASONS: dict[str, Callable[[Work], Any]] = {
    "the marker is missing": lambda work: work.client.delete(marker(work)),
    "the marker is another run's": lambda work: work.client.set(marker(work), "host-1-abcdef closed"),
    "the marker is nonsense": lambda work: work.client.set(marker(work), b"\xff\x00"),
    "Redis was flushed": lambda work: work.client.flushall(),
    "another host ran in between": other_host,
}


@pytest.mark.parametrize("reason", REASONS)
def test_where_redis_is_not_as_it_was_left_every_row_is_sent(sent: Work, reason: str) -> None:
    REASONS[reason](sent)
    result = sent.run()
    assert result.why == "every row: Redis does not hold what the last run remembered here left there"
    assert result.rows_written == 4
    assert sent.wrong_rows() == 0
    assert sent.moved() == (0, 0)


def sent_file(work: Work) -> Path:
    return work.memory / work.remembered()["sent"]


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(4, len(data) // 2):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Work], Any]] = {
    "the folder is gone": lambda work: shutil.rmtree(work.memory),
    "the list is gone": lambda work: sent_file(work).unlink(),
    "the list is empty": lambda work: cut(sent_file(work), 0),
    "the list is cut short": lambda work: cut(sent_file(work), 0.6),
    "the list lost its last byte": lambda work: cut(sent_file(work), 0.999),
    "the list's pages are garbage": lambda work: flip(sent_file(work)),
    "the list is another table": lambda work: pq.write_table(pa.table({"x": [1]}), sent_file(work)),
    "memory.json is gone": lambda work: (work.memory / "memory.json").unlink(),
    "memory.json is empty": lambda work: cut(work.memory / "memory.json", 0),
    "memory.json is cut short": lambda work: cut(work.memory / "memory.json", 0.5),
    "memory.json is not JSON": lambda work: (work.memory / "memory.json").write_bytes(b"\xff\xfe{"),
    "memory.json is a list": lambda work: (work.memory / "memory.json").write_text("[]"),
    "memory.json lacks a part": lambda work: (work.memory / "memory.json").write_text('{"run": "x", "pending": []}'),
    "memory.json has parts of wrong types": lambda work: (work.memory / "memory.json").write_text(
        json.dumps({**work.remembered(), "rows": "many", "sent": 5, "pending": [1]})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_memory_that_is_lost_or_damaged_costs_a_full_run_and_is_no_error(sent: Work, damage: str) -> None:
    sent.sql("update readings set amount = 99 where user_id = 1", "delete from readings where user_id = 4")
    DAMAGE[damage](sent)
    result = sent.run()
    assert result.why.startswith("every row: "), result.why
    assert (result.rows_written, result.rows_deleted) == (3, 1)
    assert sent.wrong_rows() == 0
    assert sent.moved() == (0, 0)


@pytest.mark.parametrize("policy, view, told", [
    ("allkeys-lru", "readings", True), ("volatile-lru", "readings", False), ("volatile-lru", "visits", True),
])  # fmt: skip
def test_where_redis_may_drop_rows_every_run_sends_all_and_says_so(
    work: Work, policy: str, view: str, told: bool
) -> None:
    work.sql("create table visits as select range as user_id, now() as event_timestamp, range as seen from range(4)")
    client = work.client
    try:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", policy)
        assert work.run(view).rows_written == 4
        for _ in range(2):
            result = work.run(view)
            assert result.rows_written == (4 if told else 0)
            assert (f"(maxmemory-policy {policy})" in result.why) is told
            assert ("set noeviction" in "".join(result.warnings)) is told
        client.delete(f"{work.namespace}:{view}:1")
        client.config_set("maxmemory-policy", "noeviction")
        if told:
            assert work.run(view).rows_written == 4
            assert client.exists(f"{work.namespace}:{view}:1")
        assert work.run(view).rows_written == 0
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_a_row_that_a_newer_push_kept_out_is_never_taken_for_sent(sent: Work) -> None:
    key = f"{sent.namespace}:readings:1"
    pushed = {"amount": "77", "_fs_event": "2024-06-01T00:00:00.000000Z", "_fs_writer": "push:x"}
    sent.client.delete(key)
    sent.client.hset(key, mapping=pushed)
    sent.sql("update readings set amount = amount + 1")
    for _ in range(2):
        result = sent.run()
        assert (result.rows_skipped, sent.client.hget(key, "amount")) == (5 - 1 - result.rows_written, b"77")
    sent.sql(INSERT.format(1, "2024-07-01 00:00+00", "2024-07-01 00:00+00", 5, "'new'"))
    assert sent.moved() == (1, 0)
    assert sent.moved() == (0, 0)


def test_a_pushed_row_outlives_a_run_in_which_its_entity_is_gone(sent: Work) -> None:
    key = f"{sent.namespace}:readings:4"
    sent.client.delete(key)
    sent.client.hset(key, mapping={"amount": "77", "_fs_event": "2024-06-01T00:00:00.000000Z", "_fs_writer": "push:x"})
    sent.sql("delete from readings where user_id = 4")
    assert sent.run().rows_deleted == 0
    assert sent.run(full=True).rows_deleted == 0
    assert sent.client.hget(key, "amount") == b"77"


# A run that was stopped half-way.


class Stopped(Exception):
    """Stands for whatever ends a run between two batches."""


def stop_after(rows_done: int) -> Callable[[str, int, int], None]:
    def progress(view: str, done: int, total: int) -> None:
        if done >= rows_done:
            raise Stopped

    return progress


def test_a_stopped_runs_changes_are_in_doubt_and_counted_right_afterwards(work: Work) -> None:
    work.sql(many(1_000))
    work.run()
    work.sql(many(15_000))
    with pytest.raises(Stopped):
        work.run(progress=stop_after(1))
    work.sql(many(2_000))
    result = work.run()
    assert (result.rows_read, work.remembered()["rows"]) == (2_000, 2_000)
    assert work.wrong_rows() == 0
    assert work.moved() == (0, 0)


def test_many_stopped_runs_leave_memory_bounded(sent: Work) -> None:
    for number in range(4):
        sent.sql(f"update readings set amount = {number}")
        with pytest.raises(Stopped):
            sent.run(progress=stop_after(1))
    assert len(sent.remembered()["pending"]) == 1
    sent.sql(READINGS)
    assert sent.moved()[0] == 4
    assert len(list(sent.memory.iterdir())) == 2


def test_redis_flushed_half_way_through_a_run_is_noticed_by_that_run(work: Work) -> None:
    work.sql(many(15_000))
    flushed: list[int] = []

    def flush(view: str, done: int, total: int) -> None:
        if not flushed:
            flushed.append(work.client.flushall())

    assert "Redis" in work.fails(progress=flush)
    assert work.client.exists(f"{work.namespace}:registry") == 0
    assert work.moved() == (15_000, 0)
    assert work.moved() == (0, 0)


# What is told.


def test_rows_with_a_null_key_are_counted_and_told(work: Work) -> None:
    work.sql("insert into readings select null, * exclude (user_id) from readings")
    result = work.run()
    assert (result.rows_read, result.rows_written, result.rows_skipped) == (9, 4, 5)
    assert result.warnings == ("5 rows of 'readings' have a NULL join key and are not written.",)
    assert work.wrong_rows() == 0
    result = work.run()
    assert (result.rows_written, len(result.warnings)) == (0, 1)


def test_the_log_has_an_entry_for_each_view_and_run(sent: Work) -> None:
    sent.run()
    sent.sql("delete from readings")
    refusal = sent.fails()
    sent.run(dry_run=True, allow_shrink=True)
    text = (sent.memory.parent / "log.jsonl").read_text()
    first, second, third = [json.loads(line) for line in text.splitlines()]
    assert (first["view"], first["rows_read"], first["rows_written"], first["error"]) == ("readings", 4, 4, None)
    assert (first["watermark_before"], first["watermark_after"]) == (None, "2024-05-02T00:00:00+00:00")
    assert (second["rows_written"], second["rows_skipped"]) == (0, 4)
    assert second["watermark_before"] == "2024-05-02T00:00:00+00:00"
    assert third["error"] == refusal
    assert len({entry["run_id"] for entry in (first, second, third)}) == 3
    assert all(datetime.fromisoformat(entry["at"]) and entry["seconds"] > 0 for entry in (first, second, third))


def test_a_late_change_does_not_take_the_watermark_back(sent: Work) -> None:
    sent.sql(INSERT.format(6, "2001-01-01 00:00+00", "2024-05-09 00:00+00", 60, "'f'"))
    sent.run()
    entry = json.loads((sent.memory.parent / "log.jsonl").read_text().splitlines()[-1])
    assert entry["watermark_after"] == "2024-05-02T00:00:00+00:00"


def test_a_view_that_fails_does_not_stop_the_others(work: Work) -> None:
    work.sql("create table visits as select 1 as user_id, now() as event_timestamp, 5 as seen",
             "create table pairs as select 1 as user_id, 2 as nothing, now() as event_timestamp")  # fmt: skip
    where = ["--project-dir", str(work.project.folder), "--redis-url", work.url, "--namespace", work.namespace]
    ran = run("materialize", "--output", "json", *where)
    assert ran.code == 1
    results = {entry["view"]: entry for entry in ran.json["views"]}
    assert {name: bool(entry["error"]) for name, entry in results.items()} == {
        "readings": False, "visits": False, "pairs": True, "kinds": True,
    }  # fmt: skip
    assert "no column 'item_id', its join key" in results["pairs"]["error"]
    assert "run `dbt build`" in results["kinds"]["error"]
    assert work.wrong_rows() == 0
    assert work.client.hget(f"{work.namespace}:visits:1", "seen") == b"5"


def test_views_are_materialized_beside_each_other(work: Work) -> None:
    """Each of two views waits, in its first batch, until the other one is there too."""
    work.sql("create table visits as select 1 as user_id, now() as event_timestamp, 5 as seen")
    both = threading.Barrier(2, timeout=20)

    def meet(view: str, done: int, total: int) -> None:
        both.wait()

    results = work.store.materialize(["readings", "visits"], progress=meet)
    assert [result.rows_written for result in results] == [4, 1]
