"""Real runs beside a stream's writes: the sequences that event times decide wrongly, and all that a run may meet."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from materializer.materialize import seen as seen_module
from materializer.online import stream_record
from materializer.online.keys import stream_key
from materializer.online.stream_record import StreamRecord, read_record, take
from materializer.online.topology import node_of
from tests.support.forked import Process
from tests.support.redis_servers import ClusterOfSix
from tests.support.streamed_shop import SOURCE, Streamed


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfSix]:
    cluster = ClusterOfSix(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def world(tmp_path: Path, redis_url: str, namespace: str) -> Streamed:
    return Streamed.made(tmp_path / "shop", redis_url, namespace)


def test_a_row_of_an_older_build_does_not_replace_what_a_stream_wrote_since(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    assert world.run().rows_written == 1
    assert world.fields("spent", 1)["_fs_seen"] == "1"
    world.take()
    world.land(1, amount=5, minutes=12 * 60)
    world.stream(user_id=1)
    # A row of the older build that falls due later: its event time is the newer one.
    with duckdb.connect(str(world.project.warehouse)) as connection:
        connection.execute("update spent set event_timestamp = event_timestamp + interval 13 hour, amount = 9")
    result = world.run()
    assert (result.rows_written, result.rows_skipped) == (0, 1)
    assert result.why == "0 new, 1 changed, 0 gone; 1 stay as a stream or a push has newer ones"
    assert world.online(1) == (15, 0)


def test_a_late_event_is_not_lost_to_an_older_build_that_changes_another_column(world: Streamed) -> None:
    world.land(1, amount=10, minutes=60)
    world.build()
    world.run()
    world.take()
    world.land(1, amount=5, minutes=30)  # late: the row's event time stays
    before = world.fields("spent", 1)["_fs_event"]
    world.stream(user_id=1)
    with duckdb.connect(str(world.project.warehouse)) as connection:
        connection.execute("update spent set tier = 7")
    world.tier = 7
    world.run()
    assert (world.online(1), world.fields("spent", 1)["_fs_event"]) == ((15, 0), before)
    world.stream(user_id=1)  # which evaluates anew what was touched, since a static source has changed
    assert world.online(1) == (15, 7)


def test_an_event_that_is_taken_back_leaves_the_row_of_before(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.run()
    world.take()
    bought = world.land(1, amount=5)
    world.stream(user_id=1)
    assert world.online(1) == (15, 0)
    world.land(1, undo=bought)
    world.build()  # the same row as the run before sent, which it remembers
    assert world.run().rows_written == 1
    assert world.online(1) == (10, 0)
    assert world.run().why == "0 new, 0 changed, 0 gone"


def test_taken_back_and_the_older_row_has_changed(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.run()
    world.take()
    bought = world.land(1, amount=5)
    world.stream(user_id=1)
    world.land(1, undo=bought)
    world.tier = 3
    world.build()
    world.run()
    assert world.online(1) == (10, 3)


def test_an_entity_that_only_a_stream_wrote_goes_with_a_tombstone(world: Streamed) -> None:
    world.land(1)
    world.build()
    world.run()
    world.take()
    bought = world.land(2)
    late = world.evaluated(user_id=2)
    world.write(*late)
    assert world.online(2) == (1, 0)
    world.land(2, undo=bought)
    world.build()
    result = world.run()
    assert (result.rows_written, result.rows_deleted, result.why) == (0, 1, "0 new, 0 changed, 0 gone")
    assert world.fields("spent", 2).keys() == {"_fs_seen", "_fs_writer"}
    assert world.online(2) is None
    assert world.write(*late).written == 0, "what was computed before does not come back"
    assert world.online(2) is None
    world.land(2, amount=8)
    world.stream(user_id=2)
    assert world.online(2) == (8, 0), "what is newer does"


def test_what_was_refused_is_sent_again_until_it_is_there(world: Streamed) -> None:
    world.land(1, amount=10)
    world.land(3)
    world.build()
    world.run()
    world.take()
    world.land(1, amount=5)
    world.land(2)
    gone = world.land(3, undo=2)
    world.stream(user_id=1)
    world.land(9)
    seen, rows = world.evaluated(user_id=3)
    assert (seen, rows.num_rows) == (gone + 1, 0)
    world.write(seen, rows, user_id=3)
    world.tier = 4
    world.seq, newest = 3, world.seq  # a build that began before
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("create table kept as select * from purchases")
        connection.execute("delete from purchases where _seq > 3")
    world.build()
    assert world.run().rows_written == 0
    assert world.online(1) == (15, 0)
    assert world.online(3) is None
    again = world.run()
    assert (again.rows_read, again.rows_written) == (2, 0), "the same rows are tried again"
    world.seq = newest
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("create or replace table purchases as from kept")
    world.build()
    assert world.run().rows_written == 3
    assert [world.online(user) for user in (1, 2, 3, 9)] == [(15, 4), (1, 4), None, (1, 4)]


def test_a_row_that_a_stream_keeps_though_the_build_has_none_is_removed_later(world: Streamed) -> None:
    bought = world.land(1)
    world.land(2)
    world.build()
    world.run()
    world.take()
    world.land(2)
    world.stream(user_id=1)  # as it does for rows that fall due: nothing of user 1 has landed
    world.land(1, undo=bought)
    world.seq -= 1
    world.build()  # its model filters user 1 out, says what the test makes of it
    result = world.run()
    assert (result.rows_deleted, world.fields("spent", 1)["_fs_writer"]) == (1, f"run:{result.run_id}")


def test_what_names_an_entity_is_read_in_dbts_time_zone(world: Streamed) -> None:
    """As the stream reads it, which wrote down how: here a row names who buys at that hour in Tokyo."""
    profiles = world.project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("type: duckdb", "type: duckdb, settings: {TimeZone: Asia/Tokyo}"))
    by_hour = {SOURCE: (("cast(extract(hour from moment) as bigint)",),)}
    record = StreamRecord(world.definition(), True, ("user_id",), by_hour)
    assert take(world.store._client, world.namespace, "spent", record)
    world.land(user=9, minutes=0, amount=10)
    world.build()
    world.run()
    bought = world.land(user=9, minutes=1)
    world.stream(user_id=9)
    world.land(user=9, minutes=2, undo=bought)
    world.build()  # the row that the run before sent
    assert world.run().rows_written == 1
    assert world.online(9) == (10, 0)


@pytest.mark.parametrize("full", [False, True])
def test_a_view_that_streams_by_one_of_its_keys(world: Streamed, full: bool) -> None:
    for item in (1, 2):
        world.land(1, item=item)
    world.land(2, item=1)
    world.build()
    assert world.run("pairs").rows_written == 3
    world.take("pairs", by=["user_id"])
    bought = world.land(1, item=2, amount=5)
    world.stream("pairs", user_id=1, item_id=2)
    world.land(1, item=2, undo=bought)
    world.build()
    result = world.run("pairs", full=full)
    assert result.rows_written == (3 if full else 2), "both rows of user 1 are in doubt"
    assert world.fields("pairs", 1, 2)["amount"] == "1"


def test_a_full_run_removes_what_a_stream_left_and_remembers_what_it_kept(world: Streamed) -> None:
    world.land(1)
    world.land(2)
    world.build()
    world.run()
    world.take()
    world.land(3)
    world.stream(user_id=3)
    undone = world.land(4)
    world.stream(user_id=4)
    newer = world.evaluated(user_id=4)
    world.land(4, undo=undone)
    world.build()
    world.seq += 3
    world.write(world.seq, newer[1])  # of a number that no build has seen
    result = world.run(full=True)
    assert (result.rows_written, result.rows_deleted) == (3, 0)
    assert world.online(4) == (1, 0)
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("update _fs_landing set seq = ?", [world.seq])
    world.build()
    assert world.run().rows_deleted == 1, "what was kept then was in doubt"
    assert world.online(4) is None


def test_a_flushed_server_gets_all_rows_and_the_stream_comes_on_top(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.run()
    world.take()
    world.land(1, amount=5)
    world.stream(user_id=1)
    client = world.store._client
    client.delete(*client.keys(f"{world.namespace}:*"))
    assert world.run().why == "every row: Redis does not hold what the last run remembered here left there"
    assert world.online(1) == (10, 0)
    assert world.take()
    world.stream(user_id=1)
    assert world.online(1) == (15, 0)


# Killed, and on a cluster.

# A run that kills itself before or after one of its steps.
KILLED = """
import os, signal, sys
from materializer import FeatureStore
from materializer.materialize.run import Run
from materializer.online import lease

folder, url, namespace, step, when = sys.argv[1:]
lease.LENGTH_MS, lease.MARGIN_MS = 1_000, 100
first = getattr(Run, step)

def killed(self, *args):
    if when == "after":
        first(self, *args)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Run, step, killed)
FeatureStore(folder, redis_url=url, namespace=namespace).materialize(["spent"])
"""


@pytest.mark.parametrize("step", ["_start", "_write", "_remove", "_publish", "_finish"])
def test_a_run_that_was_killed_between_its_steps_leaves_nothing_wrong(world: Streamed, step: str) -> None:
    for when in ("before", "after") if step == "_finish" else ("before",):  # after one is before the next
        for user in (1, 3):
            world.land(user, amount=10)
        world.build()
        world.run()
        world.take()
        world.land(1, amount=5)
        bought = world.land(2)
        world.stream(user_id=1)
        world.stream(user_id=2)
        world.land(2, undo=bought)
        world.land(3, amount=7)
        world.build()
        late = world.evaluated(user_id=1)
        world.land(1, amount=1)
        newer = world.evaluated(user_id=1)
        process = Process(KILLED, str(world.project.folder), world.url, world.namespace, step, when)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        world.write(*newer)
        world.run()
        world.write(*late)
        with duckdb.connect(str(world.landing), read_only=True) as connection:
            sums = connection.execute("select user_id, sum(amount) from purchases where user_id <> 2 group by 1")
            expected = dict(sums.fetchall())
        assert [world.online(user) for user in (1, 2, 3)] == [(expected[1], 0), None, (expected[3], 0)], when
        assert world.run().rows_written == 0, when


@pytest.mark.parametrize("sequence", [
    test_an_event_that_is_taken_back_leaves_the_row_of_before,
    test_an_entity_that_only_a_stream_wrote_goes_with_a_tombstone,
    test_a_full_run_removes_what_a_stream_left_and_remembers_what_it_kept,
], ids=lambda one: one.__name__)  # fmt: skip
def test_it_is_the_same_on_a_cluster(
    cluster: ClusterOfSix, tmp_path: Path, namespace: str, sequence: Callable[[Streamed], None]
) -> None:
    sequence(Streamed.made(tmp_path / "shop", cluster.url, namespace))


# What is not written down.


def test_without_the_hook_streams_win_and_it_is_said_once(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build(recorded=False)
    results = world.store.materialize(["spent", "pairs"])
    said = [sentence for result in results for sentence in result.warnings]
    assert said == [seen_module.NO_HOOK]
    assert world.fields("spent", 1)["_fs_seen"] == "0"
    world.take()
    world.stream(user_id=1)
    world.tier = 1
    world.build(recorded=False)
    assert world.run().rows_written == 0
    assert world.online(1) == (10, 0)
    world.build()
    result = world.run()
    assert (result.rows_written, result.warnings) == (1, ())
    assert world.online(1) == (10, 1)


def test_a_view_that_dbt_does_not_store_has_seen_all_that_there_is(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.land(1, amount=5)
    assert world.run("lookup").warnings == ()
    assert (world.fields("lookup", 1)["_fs_seen"], world.online(1, "lookup")) == ("2", (15, 0))


def test_a_table_has_seen_what_it_had_when_it_was_built_whatever_its_parents_have_by_now(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.take()
    world.land(1, amount=5)
    world.stream(user_id=1)
    world.build("cleaned")  # as `dbt run -s cleaned`
    assert world.run().rows_written == 0
    assert world.online(1) == (15, 0)


def test_what_is_published_says_what_was_seen_and_by_which_definition(world: Streamed) -> None:
    world.land(1)
    world.build()
    world.run()
    key = f"{world.namespace}:registry"
    entry = json.loads(world.store._client.hget(key, "spent"))
    assert (entry["seen"], entry["checksum"]) == (1, world.definition())
    world.land(2)
    world.build("pairs")
    with duckdb.connect(str(world.project.warehouse)) as connection:  # built again, and nothing of it has changed
        connection.execute("update _fs_built set seq = 2")
    revision = world.store._client.get(f"{world.namespace}:_fs_revision")
    assert world.run().why == "0 new, 0 changed, 0 gone"
    assert json.loads(world.store._client.hget(key, "spent"))["seen"] == 2
    assert world.store._client.get(f"{world.namespace}:_fs_revision") == revision, "readers need not look again"


# A new definition.


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_record, "HELD_MS", 800)


def changed(world: Streamed) -> str:
    """Another definition of the view; its checksum."""
    manifest = world.project.manifest()
    manifest["nodes"]["model.shop.spent"]["checksum"] = {"name": "sha256", "checksum": "another"}
    (world.project.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    return world.definition()


@pytest.mark.usefixtures("soon")
def test_a_changed_definition_begins_an_epoch(world: Streamed) -> None:
    world.land(1, amount=10)
    world.build()
    world.run()
    old = world.definition()
    world.take()
    for _ in range(3):
        world.land(1)
    world.land(2)
    world.stream(user_id=1)
    world.stream(user_id=2)
    world.seq = 1
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("delete from purchases where _seq > 1")
    new = changed(world)
    client = world.store._client
    before = {key: client.dump(key) for key in client.keys(f"{world.namespace}:*")}
    dry = world.run(dry_run=True)
    assert dry.why == "every row: the definition changed, of which streams write rows"
    assert {key: client.dump(key) for key in client.keys(f"{world.namespace}:*")} == before
    asked: list[tuple[int | None, int | None]] = []

    def progress(*_: object) -> None:
        asked.append(
            (stream_record.held(client, world.namespace, "spent", old),
             stream_record.held(client, world.namespace, "spent", new))
        )  # fmt: skip

    result = world.run(progress=progress)
    assert asked == [(None, None)], "while it writes no stream does"
    assert result.seconds >= 0.8, "those that had asked before are waited for"
    assert (result.rows_written, result.rows_deleted, world.online(1), world.online(2)) == (1, 1, (10, 0), None)
    assert stream_record.held(client, world.namespace, "spent", old) is None
    assert stream_record.held(client, world.namespace, "spent", new) is not None
    assert world.take()
    assert world.run().why == "0 new, 0 changed, 0 gone"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("step", ["_write", "_remove_others", "_check_marks", "_publish", "_finish"])
def test_an_epoch_that_was_cut_off_begins_again(world: Streamed, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from materializer.materialize.run import Run

    world.land(1, amount=10)
    world.build()
    world.run()
    world.take()
    world.land(1)
    world.land(2)
    world.stream(user_id=1)
    world.stream(user_id=2)
    world.seq = 1
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("delete from purchases where _seq > 1")
    changed(world)

    class CutOff(BaseException):
        pass

    def cut_off(*_: object) -> None:
        raise CutOff

    with monkeypatch.context() as patched, pytest.raises(CutOff):
        patched.setattr(Run, step, cut_off)
        world.run()
    record = read_record(world.store._client, world.namespace, "spent")
    assert record is not None and record.definition == world.definition()
    assert record.settled == (step == "_finish")
    result = world.run()
    assert result.why.startswith("every row: "), result.why
    assert (world.online(1), world.online(2)) == ((10, 0), None)
    record = read_record(world.store._client, world.namespace, "spent")
    assert record is not None and record.settled
    assert world.run().rows_written == 0


@pytest.mark.usefixtures("soon")
def test_a_landing_that_was_begun_anew_begins_an_epoch(world: Streamed) -> None:
    for _ in range(5):
        world.land(1)
    world.build()
    world.run()
    world.take()
    world.land(2)
    world.stream(user_id=2)
    with duckdb.connect(str(world.landing)) as connection:
        connection.execute("delete from purchases")
        connection.execute("update _fs_landing set begun = 1000")
    world.seq = 1000
    world.land(1, amount=50)
    assert world.take(), "a stream need not wait for that"
    world.stream(user_id=1)
    assert (world.online(1), world.online(2)) == ((50, 0), (1, 0))
    world.build("cleaned")
    assert world.run().rows_written == 0, "what is built is still of the one before"
    assert world.online(1) == (50, 0)
    world.build()
    result = world.run()
    assert result.why == "every row: the landing was begun anew"
    assert (world.online(1), world.online(2)) == ((50, 0), None)
    record = read_record(world.store._client, world.namespace, "spent")
    assert record is not None and record.settled and record.keys == ("user_id",)
    assert world.run().why == "0 new, 0 changed, 0 gone"


@pytest.mark.usefixtures("soon")
def test_a_build_that_has_seen_less_than_the_one_before_begins_an_epoch(world: Streamed) -> None:
    for _ in range(5):
        world.land(1)
    world.build()
    world.run()
    world.seq = 3  # as of a warehouse that was brought back from a copy
    world.build()
    assert world.run().why == "every row: what is built has seen less of the landing than what the run before sent"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("record", [
    {"keys": ["user_id"], "filters": {"source.shop.shop.purchases": [["read_text('/etc/passwd')"]]}},
    {"keys": ["user_id"], "filters": {"source.shop.shop.purchases": [["(select 1)"]]}},
    {"keys": ["user_id"], "filters": {"source.shop.shop.purchases": [["user_id; select 1"]]}},
    {"keys": ["user_id"], "filters": {"source.shop.shop.purchases": [["no_such_column"]]}},
    {"keys": ["user_id"], "filters": {"source.shop.shop.others": [["user_id"]]}},
    {"keys": ["user_id", "b"], "filters": {"source.shop.shop.purchases": [["user_id"]]}},
    {"keys": [], "filters": {"source.shop.shop.purchases": [[]]}},
    {"keys": ["somebody"], "filters": {"source.shop.shop.purchases": [["user_id"]]}},
])  # fmt: skip
def test_a_record_that_cannot_be_asked_costs_a_full_run(world: Streamed, record: dict[str, object]) -> None:
    world.land(1)
    world.build()
    world.run()
    world.land(1)
    text = json.dumps({"definition": world.definition(), "settled": True, **record})
    key = stream_key(world.namespace, "spent")
    node_of(world.store._client, key).set(key, text)
    world.build()
    assert world.run().why.startswith("every row: "), "nothing of it is asked of the warehouse"
    assert world.online(1) == (2, 0)
