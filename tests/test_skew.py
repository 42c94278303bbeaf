"""Served features against the point-in-time join: whatever happens to the warehouse, skew names it, and nothing else."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from materializer import FeatureStore, InputError
from materializer.skew.compare import Skew, skew
from materializer.skew.rows import differ, texts
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.faults import sql
from tests.support.manifests import project_of
from tests.support.serving import serving

NAMESPACE = "skew.test"
# A view for each test: what is done to one is no other's business.
CREATED = {"entities": ["user_id"], "created_timestamp": "created_at"}
PLAIN = {"entities": ["user_id"]}
VIEWS: dict[str, dict[str, Any]] = {
    "calm": CREATED,
    "late": CREATED,
    "backdated": CREATED,
    "corrected": CREATED,
    "waiting": CREATED,
    "falling_due": {**CREATED, "available_after": "2 hours"},
    "sent_ahead": CREATED,
    "aged": {**CREATED, "ttl": "30 days"},
    "redefined": CREATED,
    "planted": CREATED,
    "stale": CREATED,
    "taken_out": CREATED,
    "plain": PLAIN,
    "plain_changed": PLAIN,
    "after": CREATED,
    "many_types": PLAIN,
    "unlogged": CREATED,
}


@dataclass
class World:
    """A project, the server that serves it, and the folder that it logs to."""

    project: DbtProject
    url: str
    client: httpx.Client
    folder: Path

    def table(self, view: str, *rows: str, columns: str = "user_id, event_timestamp, created_at, value") -> None:
        """A view of rows as SQL, such as ``(1, ago('3 hours'), ago('3 hours'), 10)``."""
        self.sql(f"create or replace table {view} as select * from (values {', '.join(rows)}) as rows({columns})")

    def sql(self, *statements: str) -> None:
        sql(self.project, "create or replace macro ago(age) as now() - cast(age as interval)", *statements)

    def materialize(self, view: str, **options: Any) -> None:
        store = FeatureStore(self.project.folder, redis_url=self.url, namespace=NAMESPACE)
        store.materialize(feature_views=[view], **options)

    def serve(self, view: str, *users: int, feature: str = "value") -> list[Any]:
        """The values that the server gives, once they are in the log."""
        name = uuid.uuid4().hex
        answer = self.client.post(
            "/v1/features",
            json={"features": [f"{view}:{feature}"], "entities": [{"user_id": user} for user in users]},
            headers={"x-request-id": name},
        )
        assert answer.status_code == 200, answer.text
        until = time.monotonic() + 10
        while name not in self.logged_requests():
            assert time.monotonic() < until, "the request is not logged"
            time.sleep(0.02)
        return [value for (value,) in answer.json()["rows"]]

    def logged_requests(self) -> set[str]:
        files = self.folder.rglob("*.parquet")
        return {name for file in files for name in pq.read_table(file, columns=["__request_id"])[0].to_pylist()}

    def skew(self, *features: str, **options: Any) -> Skew:
        store = FeatureStore(self.project.folder, redis_url=self.url, namespace=NAMESPACE)
        return skew(store.project, NAMESPACE, self.folder, features, **options)

    def reasons(self, view: str) -> tuple[int, dict[str, int]]:
        """How many rows were compared, and why they differ."""
        (found,) = self.skew(view).features
        return found.rows, dict(found.reasons)

    def declare(self, view: str, **changes: Any) -> None:
        """Change what a model declares, or its file (`file`)."""
        manifest = self.project.manifest()
        node = manifest["nodes"][f"model.shop.{view}"]
        if "file" in changes:
            node["checksum"] = {"name": "sha256", "checksum": changes.pop("file")}
        node["config"]["meta"]["feature_view"] |= changes
        (self.project.folder / "target" / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("skew")
    project = project_of(folder / "shop", VIEWS)
    options = ("--log-features", str(folder / "served"), "--log-sample", "1", "--log-seconds", "0.1")
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, _):
        yield World(project, redis_url, client, folder / "served")


TWO = ("(1, ago('3 hours'), ago('3 hours'), 10)", "(2, ago('3 hours'), ago('3 hours'), 20)")


# Each reason, and that one alone.


def test_what_is_served_as_it_is_true_does_not_differ(world: World) -> None:
    world.table("calm", *TWO)
    world.materialize("calm")
    assert world.serve("calm", 1, 2, 3) == [10, 20, None]
    assert world.reasons("calm") == (3, {})


def test_a_row_that_is_loaded_after_the_run_is_late_data(world: World) -> None:
    world.table("late", *TWO)
    world.materialize("late")
    world.sql("insert into late values (1, ago('1 hour'), now(), 11), (3, ago('1 hour'), now(), 31)")
    assert world.serve("late", 1, 2, 3) == [10, 20, None]
    assert world.reasons("late") == (3, {"late data": 2})
    # With the next run it is there, and training sees the same from then on.
    world.materialize("late")
    assert world.serve("late", 1, 2, 3) == [11, 20, 31]
    assert world.reasons("late") == (6, {"late data": 2})


def test_a_row_that_says_it_was_loaded_before_the_run_and_was_not_is_late_data_too(world: World) -> None:
    """A dbt model is built some time after its sources are loaded, and its load times are theirs."""
    world.table("backdated", *TWO)
    world.materialize("backdated")
    world.sql(
        "insert into backdated values (1, ago('2 hours'), ago('1 hour'), 11), (2, ago('3 hours'), ago('1 hour'), 21)"
    )
    world.sql("update backdated set event_timestamp = (select min(event_timestamp) from backdated) where value = 21")
    world.sql("update backdated set event_timestamp = (select min(event_timestamp) from backdated) where value = 20")
    assert world.serve("backdated", 1, 2) == [10, 20]
    assert world.reasons("backdated") == (2, {"late data": 1, "a correction": 1})


def test_a_later_load_of_the_same_event_is_a_correction(world: World) -> None:
    world.table("corrected", *TWO)
    world.materialize("corrected")
    world.sql(
        "insert into corrected select user_id, event_timestamp, now(), value + 1 from corrected where user_id = 1"
    )
    assert world.serve("corrected", 1, 2) == [10, 20]
    assert world.reasons("corrected") == (2, {"a correction": 1})


def test_an_event_after_the_last_run_is_not_materialized_yet(world: World) -> None:
    world.table("waiting", *TWO)
    world.materialize("waiting")
    world.sql("insert into waiting values (1, now(), now(), 11)")
    assert world.serve("waiting", 1, 2) == [10, 20]
    assert world.reasons("waiting") == (2, {"not materialized yet": 1})


def test_a_row_that_falls_due_after_the_last_run_is_not_materialized_yet(world: World) -> None:
    world.table("falling_due", *TWO, "(1, ago('2 hours') + interval 5 second, ago('1 hour'), 11)")
    world.materialize("falling_due", ahead=0)
    time.sleep(5.5)
    assert world.serve("falling_due", 1, 2) == [10, 20]
    assert world.reasons("falling_due") == (2, {"not materialized yet": 1})


def test_a_row_that_was_sent_ahead_is_served_from_its_moment_on_and_does_not_differ(world: World) -> None:
    """Corrected after the run it is what was known by then."""
    world.table("sent_ahead", *TWO, "(1, now() + interval 4 second, ago('1 hour'), 11)")
    world.materialize("sent_ahead", ahead="52 weeks")
    assert world.serve("sent_ahead", 1, 2) == [10, 20]
    time.sleep(4.5)
    assert world.serve("sent_ahead", 1, 2) == [11, 20]
    assert world.reasons("sent_ahead") == (4, {})
    world.sql("insert into sent_ahead select user_id, event_timestamp, now(), 12 from sent_ahead where value = 11")
    assert world.serve("sent_ahead", 1, 2) == [11, 20]
    assert world.reasons("sent_ahead") == (6, {"a correction": 1})


def test_another_ttl_than_the_one_it_was_served_by_is_the_ttl(world: World) -> None:
    world.table("aged", *TWO, "(3, ago('20 days'), ago('20 days'), 30)", "(4, ago('40 days'), ago('40 days'), 40)")
    world.materialize("aged")
    assert world.serve("aged", 1, 3, 4) == [10, 30, None]
    assert world.reasons("aged") == (3, {})
    for ttl in ("10 days", "50 days"):
        world.declare("aged", ttl=ttl)
        assert world.reasons("aged") == (3, {"ttl": 1})


def test_other_values_by_another_definition_are_the_definition(world: World) -> None:
    world.table("redefined", *TWO)
    world.materialize("redefined")
    assert world.serve("redefined", 1, 2) == [10, 20]
    world.declare("redefined", file="another")
    assert world.reasons("redefined") == (2, {})
    world.sql("update redefined set value = value * 2 where user_id = 1")
    assert world.reasons("redefined") == (2, {"definition changed": 1})


def test_a_feature_that_is_no_more_is_the_definition(world: World) -> None:
    world.table("taken_out", *TWO)
    world.materialize("taken_out")
    world.serve("taken_out", 1, 2)
    world.table("taken_out", *TWO, columns="user_id, event_timestamp, created_at, amount")
    found = world.skew("taken_out")
    assert found.features[0].reasons == {"definition changed": 2}
    assert found.notes == ["Feature view 'taken_out' has no feature 'value' any more."]


def test_what_comes_to_be_known_after_serving_is_no_difference(world: World) -> None:
    world.table("after", *TWO)
    world.materialize("after")
    world.serve("after", 1, 2)
    world.sql("insert into after select user_id, event_timestamp, now(), value + 1 from after")
    world.sql("insert into after values (1, ago('1 hour'), now(), 11)")
    assert world.reasons("after") == (2, {})


# What nothing explains.


def test_a_planted_value_is_unexplained_and_the_exit_code_says_so(world: World) -> None:
    world.table("planted", *TWO)
    world.materialize("planted")
    redis.Redis.from_url(world.url).hset(f"{NAMESPACE}:planted:1", "value", "666")
    assert world.serve("planted", 1, 2) == [666, 20]
    assert world.reasons("planted") == (2, {"unexplained": 1})
    (example,) = world.skew("planted:value").examples
    assert (example.join_keys, example.served, example.true) == ({"user_id": 1}, "666", "10")
    arguments = ("skew", str(world.folder), "--project-dir", str(world.project.folder), "--redis-url", world.url,
                 "--namespace", NAMESPACE, "--feature", "planted")  # fmt: skip
    ran = run("feature-store", *arguments)
    assert ran.code == 1
    assert "planted:value  2     1       unexplained 1" in ran.out
    assert "planted:value of user_id=1 at " in ran.out and "served 666, the warehouse has 10 (request " in ran.out
    assert ran.out.endswith("2 values compared, 1 differ, 1 of them unexplained.\n")
    assert run("feature-store", *arguments, "--output", "json").json["unexplained"] == 1
    good = run("feature-store", *arguments[:-1], "calm:value")
    assert good.code == 0 and "0 of them unexplained" in good.out


def test_an_older_row_than_the_run_sent_is_unexplained(world: World) -> None:
    """It was true once, but whoever put it there was not `materialize`."""
    world.table("stale", *TWO, "(1, ago('2 hours'), ago('2 hours'), 11)")
    world.materialize("stale")
    client = redis.Redis.from_url(world.url)
    event = client.hget(f"{NAMESPACE}:stale:2", "_fs_event")
    client.hset(f"{NAMESPACE}:stale:1", mapping={"value": "10", "_fs_event": event})
    client.delete(f"{NAMESPACE}:stale:2")
    assert world.serve("stale", 1, 2) == [10, None]
    assert world.reasons("stale") == (2, {"unexplained": 2})


# Rows that do not say when they were loaded.


def test_without_load_times_a_newer_event_is_late_and_another_value_is_unexplained(world: World) -> None:
    columns = "user_id, event_timestamp, value"
    world.table("plain", "(1, ago('3 hours'), 10)", "(2, ago('3 hours'), 20)", columns=columns)
    world.table("plain_changed", "(1, ago('3 hours'), 10)", columns=columns)
    world.materialize("plain")
    world.materialize("plain_changed")
    between = datetime.now(timezone.utc).isoformat()
    assert world.serve("plain", 1, 2, 3) == [10, 20, None]
    assert world.serve("plain_changed", 1) == [10]
    assert (world.reasons("plain"), world.reasons("plain_changed")) == ((3, {}), (1, {}))
    world.sql(
        f"insert into plain values (1, ago('1 hour'), 11), (2, timestamptz '{between}', 21), (3, ago('1 hour'), 31)"
    )
    assert world.reasons("plain") == (3, {"late data": 2, "not materialized yet": 1})
    world.sql("update plain_changed set value = 11")
    found = world.skew("plain_changed")
    assert found.features[0].reasons == {"unexplained": 1}
    assert "declare created_timestamp" in found.notes[0]


# Every value to the bit.


def test_every_type_is_the_same_to_the_bit(world: World) -> None:
    """Served, logged and joined: no value of any type comes out as another one."""
    values = {
        "double_": "'nan'::double, -0.0::double, 0.1::double, null",
        "single": "0.1::float, 'inf'::float, null, -0.0::float",
        "big": "9007199254740993, -9223372036854775808, 0, null",
        "huge": "10141183460469231731687303715884105727::hugeint, null, 0, -1",
        "exact": "9.90::decimal(10, 2), null, 0, -1.25",
        "truth": "true, false, null, true",
        "word": "'', 'Bergen', null, 'a:%{}'",
        "moment": "timestamptz '2024-05-01 12:30:00.000001+00', null, now(), now()",
        "day": "date '2024-02-29', null, date '1969-12-31', date '2024-05-01'",
        "vector": "['0.1', '-0.0', 'nan']::double[], null, [null, 1]::double[], []::double[]",
        "names": "['a', null], null, [], ['b']",
        "pair": "{'a': 1, 'b': 'x'}, null, {'a': null, 'b': ''}, {'a': 2, 'b': 'y'}",
    }
    columns = ", ".join(f"[{text}][user_id] as {name}" for name, text in values.items())
    world.sql(
        f"create table many_types as select user_id, ago('1 hour') as event_timestamp, {columns} from range(1, 5) as t(user_id)"
    )
    world.materialize("many_types")
    for name in values:
        world.serve("many_types", 1, 2, 3, 4, 5, feature=name)
    found = world.skew("many_types")
    assert [(one.rows, one.reasons) for one in found.features] == [(5, {})] * len(values)


def test_minus_zero_is_not_zero_and_nan_is_nan() -> None:
    one = pa.chunked_array([[0.0, float("nan"), None, None, 1.0]])
    other = pa.chunked_array([[-0.0, -float("nan"), None, 0.0, 1.0]])
    assert differ(texts(one), texts(other)).to_pylist() == [True, False, False, True, False]


# What is compared.


def test_since_and_feature_choose_what_is_compared(world: World) -> None:
    now = datetime.now(timezone.utc)
    with pytest.raises(InputError, match=r"Nothing of unlogged that was served from namespace 'skew\.test' is logged"):
        world.skew("unlogged")
    with pytest.raises(InputError, match=r"Nothing that was served since .* is logged in"):
        world.skew(since=now + timedelta(hours=1))
    store = FeatureStore(world.project.folder, redis_url=world.url)
    with pytest.raises(InputError, match=r"from namespace 'shop.dev' is logged in .*; there are files of: skew.test"):
        skew(store.project, store.namespace, world.folder)


def test_a_folder_that_is_none_or_holds_something_else_is_one_sentence(world: World, tmp_path: Path) -> None:
    numbers = itertools.count()

    def refused(name: str | None = None, content: bytes = b"") -> str:
        folder = tmp_path / str(next(numbers))
        if name:
            folder.mkdir()
            (folder / name).write_bytes(content)
        ran = run("feature-store", "skew", str(folder), "--project-dir", str(world.project.folder))
        assert ran.code == 1 and ran.err.count("\n") == 1
        return ran.err

    assert "There is no folder" in refused()
    assert "No served features are logged in" in refused("x.txt")
    assert "cannot be read as served features" in refused("x.parquet", b"PAR1")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    assert "is no file of served features" in refused("x.parquet", sink.getvalue().to_pybytes())
