"""Rows that fall due: sent before their moment, read from it on, whatever runs, pushes and changes come in between."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from materializer import DefinitionError, FeatureStore, MaterializationError
from materializer.materialize import bounded, plan
from materializer.materialize.horizon import horizon_of
from materializer.materialize.plan import ViewResult
from materializer.online import due, request
from tests.support.command import run as command
from tests.support.dbt import DbtProject
from tests.support.faults import in_force
from tests.support.manifests import project_of
from tests.support.rendered import Views
from tests.support.serving import serving

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VIEWS: dict[str, dict[str, Any]] = {
    "steps": {"entities": ["user_id"], "on_demand": {"twice": {"expression": "value * 2"}}},
    "loaded": {"entities": ["user_id"], "created_timestamp": "created_at"},
    "aging": {"entities": ["user_id"], "ttl": "30 minutes"},
    "pairs": {"entities": ["user_id", "item_id"], "available_after": "10 minutes"},
    "kinds": {"entities": ["user_id"]},
    "declared": {"entities": ["user_id"], "ahead": "3 hours"},
    "counted": {"entities": ["user_id"]},
}
# Longer than any test takes: no horizon ends while one runs, so what is due when is known.
LONG = "52 weeks"


@dataclass(frozen=True)
class World:
    """A project, a namespace of the test's own, and a beginning: moments are seconds after it."""

    project: DbtProject
    url: str
    namespace: str
    start: datetime
    move: Callable[[float], None]

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.project.folder, redis_url=self.url, namespace=self.namespace)

    @property
    def reader(self) -> FeatureStore:
        return FeatureStore(redis_url=self.url, namespace=self.namespace)

    def moment(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def table(self, view: str, *rows: tuple[Any, ...], columns: str = "user_id, event_timestamp, value") -> None:
        """The rows of a view; what is a ``float`` among their values is a moment."""
        written = ", ".join(f"({', '.join(map(self._written, row))})" for row in rows)
        self.sql(f"create or replace table {view} as select * from (values {written}) as rows({columns})")

    def sql(self, *statements: str) -> None:
        with duckdb.connect(str(self.project.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)

    def _written(self, value: Any) -> str:
        if isinstance(value, float):
            return f"timestamptz '{self.moment(value).isoformat()}'"
        return value if isinstance(value, str) else "null" if value is None else f"{value}::bigint"

    def run(self, view: str, **options: Any) -> ViewResult:
        (result,) = self.store.materialize([view], **({"ahead": LONG} | options))
        return result

    def moved(self, view: str, **options: Any) -> tuple[int, int]:
        result = self.run(view, **options)
        assert result.rows_read == result.rows_written + result.rows_skipped
        return result.rows_written, result.rows_deleted

    def row(self, view: str, user: Any) -> dict[bytes, bytes]:
        return self.client.hgetall(f"{self.namespace}:{view}:{user}")

    def due(self, view: str, user: Any) -> Any:
        text = self.row(view, user).get(b"_fs_due")
        return text and json.loads(text)

    def published(self, view: str) -> dict[str, Any]:
        return json.loads(self.client.hget(f"{self.namespace}:registry", view))

    def read(self, view: str, *users: Any, feature: str = "value") -> list[tuple[Any, str, Any]]:
        """(value, status, seconds of the event) of each."""
        keys = [{"user_id": user} if not isinstance(user, dict) else user for user in users]
        response = self.reader.get_online_features([f"{view}:{feature}"], keys)
        assert response.problems == ()
        found = response.to_dict(include_statuses=True, include_event_timestamps=True)
        events = [event and (event - self.start).total_seconds() for event in found[f"{feature}__event_timestamp"]]
        return list(zip(found[feature], found[f"{feature}__status"], events, strict=True))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = project_of(tmp_path_factory.mktemp("due") / "shop", VIEWS)
    duckdb.connect(str(project.warehouse)).close()
    return project


@pytest.fixture
def world(project: DbtProject, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    start = datetime.now(UTC).replace(microsecond=0)

    def move(seconds: float) -> None:
        """Readers and runs take it for so long after the beginning."""
        moment = start + timedelta(seconds=seconds)
        monkeypatch.setattr(request, "clock_of", lambda _: moment)
        monkeypatch.setattr(plan, "server_time", lambda *_: moment)

    move(0)
    yield World(project, redis_url, namespace, start, move)


# What a reader gets.


def test_a_row_is_read_from_its_moment_on_to_the_microsecond(world: World) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (1, 120.0, None), (2, -60.0, 20), (3, 60.0, 30))
    assert world.moved("steps") == (3, 0)
    for moment, first, third in (
        (0, (10, "PRESENT", -60), (None, "NOT_FOUND", None)),
        (59.999999, (10, "PRESENT", -60), (None, "NOT_FOUND", None)),
        (60, (11, "PRESENT", 60), (30, "PRESENT", 60)),
        (119.999999, (11, "PRESENT", 60), (30, "PRESENT", 60)),
        (120, (None, "NULL_VALUE", 120), (30, "PRESENT", 60)),
    ):
        world.move(moment)
        assert world.read("steps", 1, 2, 3, None) == [
            first, (20, "PRESENT", -60), third, (None, "NOT_FOUND", None)
        ]  # fmt: skip


def test_it_waits_for_no_run_and_no_clock_but_that_of_redis(
    project: DbtProject, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    """With no clock moved: rows that come into force every 0.3 seconds, read until the last one is there."""
    seconds, micros = client.time()
    start = EPOCH + timedelta(seconds=seconds, microseconds=micros)
    world = World(project, redis_url, namespace, start, lambda _: None)
    world.table("steps", (1, -60.0, 0), *((1, 2 + number * 0.3, number) for number in range(1, 9)))
    assert world.moved("steps") == (1, 0)
    reader, seen = world.reader, set()
    while 8 not in seen:
        before = client.time()
        answer = reader.get_online_features(["steps:value"], [{"user_id": 1}]).to_dict()["value"]
        after = client.time()
        due = [
            max(0, min(8, int((second + micro / 1e6 - start.timestamp() - 2) / 0.3 + 1e-6)))
            for second, micro in (before, after)
        ]
        assert due[0] <= answer[0] <= due[1]
        seen |= set(answer)
        time.sleep(0.05)
    assert len(seen) > 2, "all within the time that the run took"


def test_an_entity_keeps_all_its_rows_wherever_a_batch_ends(world: World) -> None:
    """5,000 entities with one to five rows each, read in batches of 2,048 rows: some batch ends within an entity."""
    world.sql(
        f"""create or replace table steps as
        select user_id, timestamptz '{world.start.isoformat()}' + to_seconds(60 * number - 60) as event_timestamp,
            user_id * 10 + number as value
        from range(5000) as users (user_id), range(5) as steps (number) where number <= user_id % 5"""
    )
    with pytest.MonkeyPatch.context() as small:
        small.setattr(bounded, "BATCH_ROWS", 2_048)
        assert world.moved("steps") == (5000, 0)
    users = range(5000)
    for number in range(1, 5):
        world.move(60 * number - 30)
        read = world.reader.get_online_features(["steps:value"], [{"user_id": user} for user in users]).to_dict()[
            "value"
        ]
        assert read == [user * 10 + min(number, user % 5) for user in users]


def test_age_is_judged_by_the_row_in_force(world: World) -> None:
    world.table("aging", (1, -60.0, 10), (1, 3000.0, 11), (2, -60.0, 20), (3, 600.0, 30))
    assert world.moved("aging") == (3, 0)
    old = (None, "OUTSIDE_MAX_AGE")
    for moment, expected in (
        (0, [(10, "PRESENT", -60), (20, "PRESENT", -60), (None, "NOT_FOUND", None)]),
        (1740, [(10, "PRESENT", -60), (20, "PRESENT", -60), (30, "PRESENT", 600)]),
        (1740.000001, [(*old, -60), (*old, -60), (30, "PRESENT", 600)]),
        (2999, [(*old, -60), (*old, -60), (*old, 600)]),
        (3000, [(11, "PRESENT", 3000), (*old, -60), (*old, 600)]),
        (4800.000001, [(*old, 3000), (*old, -60), (*old, 600)]),
    ):
        world.move(moment)
        assert world.read("aging", 1, 2, 3) == expected
    assert world.due("aging", 1)[0][1].keys() == {"value", "_fs_event", "_fs_expires"}
    for user, last in ((1, 3000), (2, -60), (3, 600)):
        kept = (world.moment(last) + timedelta(days=1)).timestamp() * 1000
        assert world.client.pexpiretime(f"{world.namespace}:aging:{user}") == int(kept), "it follows the last row"


def test_a_row_shows_when_its_delay_is_over_and_when_it_is_loaded(world: World) -> None:
    columns = "user_id, item_id, event_timestamp, value"
    world.table("pairs", (1, "'1:23'", -900.0, 1), (1, "'1:23'", -540.0, 2), (1, "'12:3'", 5.0, 3), columns=columns)
    assert world.moved("pairs") == (2, 0)
    keys = [{"user_id": 1, "item_id": item} for item in ("1:23", "12:3")]
    for moment, values in ((0, [1, None]), (59, [1, None]), (60, [2, None]), (604, [2, None]), (605, [2, 3])):
        world.move(moment)
        assert [value for value, *_ in world.read("pairs", *keys)] == values

    world.move(0)
    columns = "user_id, event_timestamp, created_at, value"
    world.table(
        "loaded", (1, -60.0, -60.0, 1), (1, -60.0, 60.0, 2), (1, -120.0, 90.0, 3), (1, -30.0, 90.0, 4),
        (1, -60.0, 120.0, 5), (1, 130.0, 100.0, 6), columns=columns,
    )  # fmt: skip
    assert world.moved("loaded") == (1, 0)
    steps = [(step[0], step[1]["value"]) for step in world.due("loaded", 1)]
    seconds = [(world.moment(at) - EPOCH) // timedelta(microseconds=1) for at in (60, 90, 130)]
    assert steps == list(zip(seconds, ["2", "4", "6"], strict=True)), "what is never the newest never shows"
    assert "_fs_event" not in world.due("loaded", 1)[0][1], "a correction has the event of the row before"
    for moment, value in ((0, 1), (60, 2), (90, 4), (120, 4), (130, 6)):
        world.move(moment)
        assert [value for value, *_ in world.read("loaded", 1)] == [value]


KINDS = (
    "select 1 as user_id, {at} as event_timestamp, {zero}::double as zero, {list}::float[] as list,"
    " {text} as text, {blob}::blob as blob, {nested} as nested"
)
FIRST = {"zero": "0.0", "list": "[0.5, null]", "text": "'{\"base64\":\"AA==\"}'", "blob": "'\\x00\\xFF'",
         "nested": "{'a': 1.50::decimal(4, 2), 'b': 'x'}"}  # fmt: skip
SECOND = {"zero": "'-0.0'", "list": "[0.5, -1.0]", "text": "'é\r\n' || chr(0)", "blob": "''", "nested": "null"}


def test_values_of_every_kind_change_to_the_bit(world: World) -> None:
    rows = [
        KINDS.format(at=f"timestamptz '{world.moment(at)}'", **values)
        for at, values in ((-60, FIRST), (60, SECOND), (120, FIRST))
    ]
    world.sql(f"create or replace table kinds as {' union all '.join(rows)}")
    assert world.moved("kinds") == (1, 0)
    names = [f"kinds:{name}" for name in FIRST]
    for moment in (0, 60, 120):
        world.move(moment)
        online = world.reader.get_online_features(names, [{"user_id": 1}]).to_arrow()
        spine = {"user_id": [1], "event_timestamp": [world.moment(moment)]}
        offline = world.store.get_historical_features(spine, names).to_arrow().select(online.column_names[1:])
        assert repr(online.to_pylist()[0] | {"user_id": 0}) == repr({"user_id": 0, **offline.to_pylist()[0]})


def test_what_is_computed_at_the_request_the_server_and_the_command_see_it_too(world: World) -> None:
    world.table("steps", (1, -60.0, 10), (1, 1.5, 11), (2, 1.5, 20))
    assert world.moved("steps") == (2, 0)
    with serving(world.url, namespace=world.namespace) as (client, _):
        time.sleep(max(0.0, (world.moment(1.6) - datetime.now(UTC)).total_seconds()))
        asked = {"features": ["steps:value", "steps:twice"]}
        rows = client.post(
            "/v1/features", json={**asked, "entities": [{"user_id": 1}, {"user_id": 2}], "statuses": True}
        ).json()
        assert rows["rows"] == [[11, 22], [20, 40]] and rows["statuses"] == [["PRESENT"] * 2] * 2
        event = world.moment(1.5).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert [row[0] for row in rows["event_timestamps"]] == [event, event]
        columns = client.post("/get-online-features", json={**asked, "entities": {"user_id": [1, 2]}}).json()
        assert [one["values"] for one in columns["results"]] == [[1, 2], [11, 20], [22, 40]]
    world.move(1.5)
    where = ["--redis-url", world.url, "--namespace", world.namespace]
    ran = command("feature-store", "online", "steps:value", "--entity", "user_id=1", "--output", "json", *where,
                  cwd=world.project.folder.parent)  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["value"] == [11]


# What runs send.


def test_a_run_with_nothing_new_is_idle_while_rows_fall_due(world: World) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (1, 120.0, 12), (2, 60.0, 20), (3, -60.0, 30))
    assert world.moved("steps") == (3, 0)
    for moment in (30, 60, 90, 150):
        world.move(moment)
        assert world.moved("steps") == (0, 0)
    assert world.row("steps", 1)[b"value"] == b"10", "nothing was written since"
    watermark = datetime.fromisoformat(world.published("steps")["watermark"])
    assert watermark == world.moment(120), "the newest event in force is known all the same"


@pytest.mark.parametrize("hours", [3, pytest.param(24, marks=pytest.mark.soak)])
def test_of_the_runs_of_a_day_only_those_send_that_begin_a_horizon(world: World, hours: int) -> None:
    """Runs every five minutes, the data as they are: 12 an hour, of which one at most has something to send. Readers
    meet what is true at any moment between them."""
    draw = random.Random(7)
    rows = [
        (user, draw.uniform(-3600, hours * 3600 + 7200), draw.randrange(100)) for user in range(40) for _ in "abcdef"
    ]
    world.table("steps", *rows)
    busy, written = 0, []
    for number in range(hours * 12):
        world.move(number * 300)
        written.append(world.run("steps", ahead="1 hour").rows_written)
        later = number * 300 + draw.uniform(0, 3600)
        world.move(later)
        newest = {user: max(((at, value) for one, at, value in rows if one == user and at <= later), default=None)
                  for user in range(40)}  # fmt: skip
        if number % 6 == 0:
            found = world.read("steps", *newest)
            assert [value for value, *_ in found] == [row and row[1] for row in newest.values()]
    busy = sum(map(bool, written))
    print(
        f"{hours * 12 - busy} of {hours * 12} runs were idle; rows sent {sum(written)}, at most {max(written)} in one"
    )
    assert 1 < busy <= hours + 1


def test_horizons_begin_at_multiples_of_their_length_each_views_at_its_own() -> None:
    now, hour = datetime(2026, 5, 1, 12, 34, 56, 789, tzinfo=UTC), timedelta(hours=1)
    begins = {horizon_of(name, now, hour).since for name in map(str, range(200))}
    assert len(begins) == 200
    for ahead in (timedelta(seconds=1), timedelta(minutes=7), hour, timedelta(weeks=52)):
        for offset in range(0, 50_000, 997):
            horizon = horizon_of("steps", now + offset * ahead / 1000, ahead)
            assert horizon.since <= horizon.now < horizon.since + ahead
            assert horizon.until == horizon.since + 2 * ahead
            assert (horizon.since - horizon_of("steps", now, ahead).since) % ahead == timedelta()


CHANGES: dict[str, tuple[list[tuple[Any, ...]], tuple[int, int]]] = {
    "a row taken back before its moment": ([(1, -60.0, 10), (1, 120.0, 12), (2, 60.0, 20)], (1, 0)),
    "all of them taken back": ([(1, -60.0, 10), (2, 60.0, 20)], (1, 0)),
    "the row in force taken back": ([(1, -90.0, 9), (1, 60.0, 11), (1, 120.0, 12), (2, 60.0, 20)], (1, 0)),
    "another value of what is due": ([(1, -60.0, 10), (1, 60.0, 99), (1, 120.0, 12), (2, 60.0, 20)], (1, 0)),
    "another moment of it": ([(1, -60.0, 10), (1, 61.0, 11), (1, 120.0, 12), (2, 60.0, 20)], (1, 0)),
    "an entity gone": ([(2, 60.0, 20)], (0, 1)),
    "an entity gone that was not there yet": ([(1, -60.0, 10), (1, 60.0, 11), (1, 120.0, 12)], (0, 1)),
    "an entity that is new": ([(1, -60.0, 10), (1, 60.0, 11), (1, 120.0, 12), (2, 60.0, 20), (3, 60.0, 3)], (1, 0)),
    "one more row at the end": ([(1, -60.0, 10), (1, 60.0, 11), (1, 120.0, 12), (1, 150.0, 13), (2, 60.0, 20)], (1, 0)),
    "the same rows in another order": ([(2, 60.0, 20), (1, 120.0, 12), (1, -60.0, 10), (1, 60.0, 11)], (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("when", "full"), [(0, False), (70, False), (0, True)], ids=["before", "due", "full"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_moves_its_entity_alone_and_later_reads_are_by_it(
    world: World, change: str, full: bool, when: float
) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (1, 120.0, 12), (2, 60.0, 20))
    assert world.moved("steps") == (2, 0)
    rows, expected = CHANGES[change]
    world.table("steps", *rows)
    world.move(when)
    moved = world.moved("steps", full=full)
    assert moved == (len({user for user, *_ in rows}), expected[1]) if full else moved == expected
    for moment in (when, 75, 130, 200):
        world.move(moment)
        newest = [max(((at, value) for one, at, value in rows if one == user and at <= moment), default=None)
                  for user in (1, 2, 3)]  # fmt: skip
        assert [value for value, *_ in world.read("steps", 1, 2, 3)] == [row and row[1] for row in newest]
    world.move(when)
    assert world.moved("steps") == (0, 0)


def test_another_horizon_and_none_at_all_are_right_too(world: World) -> None:
    rows = [(1, -60.0, 10), *((1, 600.0 * number, number) for number in range(1, 100)), (2, -1e8, 20)]
    world.table("steps", *rows)
    for ahead in (0, "1 hour", "10 hours", "20 minutes", "10 hours", 0, LONG, 0, "1 hour"):
        result = world.run("steps", ahead=ahead)
        assert result.rows_written == (2 if ahead == 0 and "nothing is remembered" in result.why else 1)
        for moment in (0, 1100, 30_000):
            world.move(moment)
            horizon = horizon_of("steps", world.start, timedelta(hours={"1 hour": 1, "10 hours": 10}.get(ahead, 1 / 3)))
            if (ahead and world.moment(moment) <= horizon.until) or ahead == LONG or moment == 0:
                assert world.read("steps", 1, 2)[0][0] == (moment // 600 or 10)
        world.move(0)
        assert world.run("steps", ahead=ahead).rows_written == 0
        assert (world.due("steps", 1) is None) == (ahead == 0)


def test_a_view_says_how_far_ahead_and_an_option_counts_before_it(world: World) -> None:
    world.table("declared", (1, -60.0, 10), *((1, 3600.0 * number - 1, number) for number in range(1, 12)))

    def last() -> float:
        due = world.due("declared", 1)
        return (due[-1][0] / 1e6 - world.start.timestamp()) / 3600 if due else 0

    assert world.run("declared", ahead=None).error is None
    assert 3 - 1 <= last() <= 6
    world.run("declared", ahead="1 hour")
    assert last() <= 2
    world.run("declared", ahead=0)
    assert last() == 0
    for wrong in ("soon", "-1 hour", "2 years", 5, True, ""):
        with pytest.raises(DefinitionError, match=r"ahead is .*(neither a duration nor 0|more than a year)"):
            world.run("declared", ahead=wrong)
    ran = command("materialize", "declared", "--ahead", "tomorrow", "--project-dir", str(world.project.folder),
                  "--redis-url", world.url, "--namespace", world.namespace)  # fmt: skip
    assert (ran.code, ran.err.count("\n"), ran.out) == (1, 1, "") and "ahead is 'tomorrow'" in ran.err


def test_readers_ask_for_what_falls_due_only_where_the_registry_says_there_is_any(world: World) -> None:
    def asked() -> bool:
        selection = world.reader._reader._select(world.reader._reader.registry(), ["steps:value"], False)[0]
        return b"_fs_due" in selection.parts[0].tail

    world.table("steps", (1, -60.0, 10), (2, -60.0, 20))
    world.run("steps")
    assert "due" not in world.published("steps") and not asked()
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (2, -60.0, 20))
    world.run("steps")
    assert world.published("steps")["due"] is True and asked()
    revision = world.client.get(f"{world.namespace}:_fs_revision")
    world.move(100)
    world.run("steps")
    assert asked() and world.client.get(f"{world.namespace}:_fs_revision") == revision, "it stays so"
    world.run("steps", full=True)
    assert "due" not in world.published("steps") and not asked()
    assert world.due("steps", 1) is None


def test_a_reader_that_knows_nothing_of_it_reads_the_row_as_of_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (2, 60.0, 20))
    world.run("steps")
    known = world.reader._reader.registry()
    before = replace(known, views={name: replace(view, due=False) for name, view in known.views.items()})
    reader = world.reader
    reader._reader._known = reader._reader.published()._replace(registry=before)
    world.move(90)
    response = reader.get_online_features(["steps:value"], [{"user_id": 1}, {"user_id": 2}])
    answer = response.to_dict(include_statuses=True)
    assert (answer["value"], answer["value__status"]) == ([10, None], ["PRESENT", "NOT_FOUND"])
    assert response.problems == ()


def test_a_value_that_cannot_be_stated_is_no_row_while_it_is_in_force(world: World) -> None:
    columns = "user_id, event_timestamp, value, day"
    day, never = "date '2026-01-01'", "date 'infinity'"
    rows = [
        (1, -60.0, 10, day), (1, 60.0, 11, never), (1, 120.0, 12, day),
        (2, -60.0, 20, never), (2, 60.0, 21, day), (3, -60.0, 30, never), (4, -60.0, 40, day), (5, 60.0, 50, never),
    ]  # fmt: skip
    world.table("steps", *rows, columns=columns)
    with pytest.raises(MaterializationError, match="4 rows of 'steps' cannot be stated online and are not there"):
        world.run("steps")
    none = (None, "NOT_FOUND", None)
    for moment, expected in (
        (0, [10, None, None, 40, None]),
        (60, [None, 21, None, 40, None]),
        (120, [12, 21, None, 40, None]),
    ):
        world.move(moment)
        found = world.read("steps", 1, 2, 3, 4, 5)
        assert [value for value, *_ in found] == expected
        assert [one for one in found if one[0] is None] == [none] * expected.count(None)
    assert not world.row("steps", 3) and not world.row("steps", 5)
    world.move(0)
    with pytest.raises(MaterializationError) as failure:
        world.run("steps")
    assert failure.value.results[0].rows_written == 0, "what was sent is known to be there"
    world.client.delete(*world.client.scan_iter(f"{world.namespace}:*"))


def test_a_push_replaces_the_row_and_what_falls_due_with_it(world: World) -> None:
    key = f"{world.namespace}:steps:1"
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (2, -60.0, 20))
    world.run("steps")
    pushed = {"value": 99, "_fs_event": world.moment(-30).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "_fs_writer": "push"}
    pipeline = world.client.pipeline(transaction=True)
    pipeline.delete(key)
    pipeline.hset(key, mapping=pushed)
    pipeline.execute()
    for moment in (0, 90):
        world.move(moment)
        assert world.read("steps", 1) == [(99, "PRESENT", -30)]
    world.move(30)
    world.table("steps", (1, -60.0, 10), (1, 60.0, 12), (2, -60.0, 20))
    assert world.moved("steps") == (0, 0), "the pushed row is newer than the one in force"
    assert world.read("steps", 1) == [(99, "PRESENT", -30)]
    world.move(90)
    assert world.moved("steps") == (1, 0)
    assert world.read("steps", 1) == [(12, "PRESENT", 60)]


def test_a_list_that_cannot_be_read_costs_what_falls_due_alone(world: World) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (2, -60.0, 20))
    world.run("steps")
    for text in ("[[1,2]]", "[", '[[1,{"value":5}]]'):
        world.client.hset(f"{world.namespace}:steps:1", "_fs_due", text)
        response = world.reader.get_online_features(["steps:value"], [{"user_id": 1}, {"user_id": 2}])
        assert response.to_dict()["value"] == [10, 20]
        assert [
            ("holds" in said or "_fs_due" in said) and "run `materialize --full`" in said for said in response.problems
        ] == [True]


def test_views_with_rows_ahead_are_pruned_whole(world: World) -> None:
    world.table("steps", (1, -60.0, 10), (1, 60.0, 11), (2, 60.0, 20))
    world.table("kinds", (1, -60.0, 10))
    world.run("steps")
    world.run("kinds")
    folder = world.project.folder
    before = (folder / "target" / "manifest.json").read_text()
    try:
        project_of(folder, {name: meta for name, meta in VIEWS.items() if name != "steps"})
        (pruned,) = world.store.prune(grace="1 second", dry_run=False) if not time.sleep(1.1) else ()
        assert (pruned.view, pruned.rows_deleted) == ("steps", 2)
    finally:
        (folder / "target" / "manifest.json").write_text(before)
    assert not list(world.client.scan_iter(f"{world.namespace}:steps:*"))


# Exact, whatever the data.


@pytest.mark.parametrize("seed", range(3))
def test_windows_are_exact_at_every_moment_between_two_runs(world: World, seed: int) -> None:
    """A view of windows has a row when an event comes in and when it falls out: online it is the true window at any
    moment, in the hours after the run too. Compared with the point-in-time join and with a count in plain Python."""
    draw = random.Random(seed)
    events = [(draw.randrange(5), draw.choice([-3600, -60, 0, 60]) + draw.randrange(-90, 90)) for _ in range(60)]
    views = Views()
    made = ", ".join(f"({user}, timestamptz '{world.moment(at).isoformat()}')" for user, at in events)
    views.connection.execute(f"create table events as select * from (values {made}) as e(user_id, happened)")
    windows = views.sql("window_aggregates", "events", ["user_id"], "happened", [{"name": "events", "function": "count"}],
                        ["1 minute", "1 hour"])  # fmt: skip
    world.sql(f"create or replace table events as select * from (values {made}) as e(user_id, happened)",
              f"create or replace table counted as {windows}")  # fmt: skip
    assert world.run("counted").error is None
    users = list(range(6))
    names = ["counted:events_1m", "counted:events_1h"]
    rows = {user: world.row("counted", user) for user in users}
    moments = [draw.uniform(0, 7500) for _ in range(40)] + [float(at + 60) for _, at in events if at > -60]
    spine = {"user_id": users * len(moments), "event_timestamp": [world.moment(one) for one in moments for _ in users]}
    offline = world.store.get_historical_features(spine, names).to_arrow().to_pydict()
    reader = world.reader
    for place, moment in enumerate(moments):
        world.move(moment)
        online = reader.get_online_features(names, [{"user_id": user} for user in users]).to_dict()
        for name, length in (("events_1m", 60), ("events_1h", 3600)):
            known = [any(one == user and at <= moment for one, at in events) for user in users]
            counts = [sum(one == user and moment - length < at <= moment for one, at in events) for user in users]
            exact = [count if there else None for count, there in zip(counts, known, strict=True)]
            now = (world.moment(moment) - EPOCH) // timedelta(microseconds=1)
            plain = [in_force(rows[user], now).get(name.encode()) for user in users]
            assert online[name] == offline[name][place * len(users) : (place + 1) * len(users)] == exact
            assert [text and int(text) for text in plain] == exact


def test_an_example_of_the_format_in_ten_lines_reads_what_the_package_reads(world: World) -> None:
    """The Python of docs/online-format.md, as it stands there."""
    page = (Path(__file__).parents[1] / "docs" / "online-format.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    known: dict[str, Any] = {}
    exec(code, known)
    start = world.moment(0).timestamp()
    world.table("aging", (1, -60.0, 10), (1, 60.0, 11), (1, 90.0, None), (2, 60.0, 20))
    world.run("aging")
    for moment, expected in ((0, [b"10", None]), (60, [b"11", b"20"]), (95, [None, b"20"])):
        now = int((start + moment) * 1e6)
        found = [known["in_force"](world.row("aging", user), now) for user in (1, 2)]
        assert [row.get(b"value") for row in found] == expected
        assert [b"_fs_event" in row for row in found] == [True, moment >= 60]
    rows = [
        KINDS.format(at=f"timestamptz '{world.moment(at)}'", **values)
        for at, values in ((-60, FIRST), (60, SECOND), (120, FIRST))
    ]
    world.sql(f"create or replace table kinds as {' union all '.join(rows)}")
    world.run("kinds")
    row = world.row("kinds", 1)
    for moment in (0, 60, 120):
        now = int((start + moment) * 1e6)
        assert known["in_force"](row, now) == due.in_force(row, now) == in_force(row, now)
    assert due.in_force(row, now - 1)[b"blob"] == b"" and due.in_force(row, now)[b"blob"] == b"\x00\xff"
