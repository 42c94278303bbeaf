"""Streamed views are online as a full ``dbt build && materialize`` of the same moment would have them."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from materializer import FeatureStore
from materializer.online import stream_record
from materializer.stream.background import streamed_views
from materializer.stream.explain import Decided, decide
from materializer.stream.files import FileLanding
from materializer.stream.online import Online
from materializer.stream.place import landing_of
from materializer.stream.replica import replica
from materializer.warehouse import open_warehouse
from tests.support.dbt import DbtProject, copy_of
from tests.support.streamed import streamed

COLUMNS = {
    "purchase_id": "bigint", "user_id": "bigint", "item": "varchar", "amount": "decimal(12, 2)", "cancelled": "boolean",
    "purchased_at": "timestamptz",
}  # fmt: skip
STREAM = {
    "topic": "purchases",
    "key": "user_id",
    "timestamp": "purchased_at",
    "determines": {"purchase_id": ["user_id"]},
}
VIEWS = {
    "spent": {"entities": ["user_id"], "created_timestamp": "known_at"},
    "windows": {"entities": ["user_id"], "ttl": "8 days"},
    "pairs": {"entities": ["user_id", "item"]},
    "profile": {"entities": ["user_id"]},
}
FILES: dict[str, Any] = {
    "models/models.yml": {
        "sources": [
            {
                "name": "shop", "database": "landing", "schema": "main",
                "tables": [
                    {
                        "name": "purchases", "config": {"meta": {"stream": STREAM}},
                        "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
                    }
                ],
            }
        ],
        "models": [{"name": name, "config": {"meta": {"feature_view": view}}} for name, view in VIEWS.items()],
    },
    "seeds/users.csv": "user_id,country\n" + "".join(f"{user},c{user % 3}\n" for user in range(12)),
    # The last word on each purchase; one that was cancelled is none.
    "models/purchases.sql": "select * from {{ source('shop', 'purchases') }}\n"
    "qualify row_number() over (partition by purchase_id order by _landed_at desc, _offset desc) = 1 and not cancelled",
    "models/spent.sql": "{{ config(materialized='table') }}\n"
    "select user_id, purchased_at as event_timestamp, max(_landed_at) over so_far as known_at, users.country,\n"
    "    sum(amount) over so_far as spent, last_value(item) over so_far as last_item\n"
    "from {{ ref('purchases') }} left join {{ ref('users') }} using (user_id)\n"
    "window so_far as (partition by user_id order by purchased_at, purchase_id rows unbounded preceding)\n"
    "qualify row_number() over (partition by user_id, purchased_at order by purchase_id desc) = 1",
    "models/windows.sql": "{{ config(materialized='table') }}\n"
    "{{ feature_store.window_aggregates(ref('purchases'), 'user_id', 'purchased_at', [{'name': 'n', 'function': 'count'}, "
    "{'name': 'total', 'function': 'sum', 'expression': 'amount'}, {'name': 'top', 'function': 'max', 'expression': 'amount'}], "
    "['10 minutes', '1 hour', '7 days'], created_timestamp='_landed_at') }}",
    "models/profile.sql": "with rows_of_windows as (\n"
    "    select windows.user_id, windows.event_timestamp as moment, users.country, windows.n_1h\n"
    "    from {{ ref('windows') }} as windows left join {{ ref('users') }} as users on users.user_id = windows.user_id\n"
    ")\n"
    "select user_id, moment as event_timestamp, country, n_1h from rows_of_windows\n"
    "union all select user_id, timestamptz '2026-01-01', country, 0 from {{ ref('users') }}",
    # Of a user's pairs each depends on all of her purchases, so it streams by the user.
    "models/pairs.sql": "select user_id, item, purchased_at as event_timestamp,\n"
    "    row_number() over (partition by user_id order by purchased_at, purchase_id) as nth\nfrom {{ ref('purchases') }}\n"
    "qualify row_number() over (partition by user_id, item, purchased_at order by purchase_id desc) = 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, Decided]:
    project = streamed(tmp_path_factory.mktemp("online") / "shop", FILES, hook=True)
    profiles = project.folder / "profiles.yml"
    profiles.write_text(
        profiles.read_text().replace("landing/landing.duckdb", f"{project.folder}/landing/landing.duckdb")
    )
    store = FeatureStore(project.folder, redis_url="redis://localhost:1")
    store.push(
        "purchases",
        [{"purchase_id": 0, "user_id": 0, "item": "a", "amount": 1, "cancelled": False, "purchased_at": "2026-01-01"}],
    )
    project.dbt("build")
    return project, decide(store.project)


class World:
    """A project with a landing, a stream that keeps its views online, and what there is beside it."""

    def __init__(self, project: DbtProject, decided: Decided, redis_url: str, seed: int) -> None:
        self.project, self.decided = project, decided
        self.store = FeatureStore(project.folder, redis_url=redis_url, namespace=f"{project.folder.name}-{seed}")
        self.client = redis.Redis.from_url(redis_url)
        self.random = random.Random(seed)
        self.numbers = itertools.count(1)
        self.sent: list[dict[str, Any]] = []

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def event(self) -> dict[str, Any]:
        """A purchase: new or heard of before, of now or long ago or yet to come; often just where a window ends."""
        draw, moment = self.random.random(), self.now()
        ago = self.random.choice([0, 0, 1, 30, 599, 600, 601, 3_599, 3_600, 7 * 86_400, 200 * 86_400, -60, -900])
        event = {
            "purchase_id": next(self.numbers), "user_id": self.random.randrange(12), "item": self.random.choice("abc"),
            "amount": f"{self.random.randrange(0, 10_000) / 100:.2f}", "cancelled": False,
            "purchased_at": (moment - timedelta(seconds=ago)).isoformat(),
        }  # fmt: skip
        if not self.sent or draw < 0.6:
            return event
        before = self.random.choice(self.sent)
        if draw < 0.7:  # again, as it was
            return before
        if draw < 0.8:  # at the same moment as another
            return {**event, "purchased_at": before["purchased_at"]}
        if draw < 0.9:  # taken back
            return {**before, "cancelled": True}
        if draw < 0.95:  # corrected
            return {**before, "amount": event["amount"], "purchased_at": event["purchased_at"], "cancelled": False}
        return {**before, "user_id": event["user_id"], "cancelled": False}  # it was somebody else's

    def push(self) -> None:
        events = [self.event() for _ in range(self.random.randrange(1, 12))]
        self.sent += events
        self.store.push("purchases", events)

    def change_users(self) -> None:
        lines = "".join(f"{user},c{self.random.randrange(5)}\n" for user in range(12))
        (self.project.folder / "seeds" / "users.csv").write_text(f"user_id,country\n{lines}")
        self.project.dbt("seed")

    def build(self) -> None:
        self.project.dbt("build")

    def materialize(self) -> None:
        self.store.materialize(allow_shrink=True)

    def rows(self, namespace: str, view: str) -> dict[str, dict[bytes, bytes]]:
        """What there is of a view, as it stands in Redis."""
        prefix = f"{namespace}:{view}:"
        return {
            key.decode().removeprefix(prefix): self.client.hgetall(key) for key in self.client.scan_iter(f"{prefix}*")
        }

    def differences(self, oracle: str, moments: list[datetime]) -> tuple[int, list[str]]:
        """How many values were compared with another namespace's at some moments, and where they differ."""
        count, found = 0, []
        for view in VIEWS:
            ours, theirs = self.rows(self.store.namespace, view), self.rows(oracle, view)
            for key, moment in itertools.product(sorted(ours | theirs), moments):
                one, other = (in_force(rows.get(key, {}), moment) for rows in (ours, theirs))
                count += len(other)
                if one != other:
                    found.append(f"{view} {key} at {moment}: {one} and by materialize {other}")
        return count, found


def in_force(fields: dict[bytes, bytes], now: datetime) -> dict[bytes, bytes]:
    """The row at a moment, as docs/online-format.md says; who wrote it does not count."""
    row = {name: value for name, value in fields.items() if name not in (b"_fs_writer", b"_fs_seen")}
    for moment, step in json.loads(row.pop(b"_fs_due", b"[]")):
        if moment > now.timestamp() * 1e6:
            break
        for name, text in step.items():
            if isinstance(text, dict):
                text = base64.b64decode(text["base64"])
            row[name.encode()] = text.encode() if isinstance(text, str) else text
    row = {name: value for name, value in row.items() if value is not None}
    return row if b"_fs_event" in row else {}


@pytest.mark.parametrize("seed", range(2))
def test_a_streamed_state_is_that_of_a_full_build_at_the_same_moment(
    built: tuple[DbtProject, Decided], redis_url: str, tmp_path: Path, seed: int
) -> None:
    project, decided = built[0], built[1]
    project = copy_of(project, tmp_path / "shop")
    world = World(project, decided, redis_url, seed)
    store = world.store
    landing = landing_of(store.project, decided.sources, store.landing_clock())
    assert isinstance(landing, FileLanding)
    views = streamed_views(decided)
    assert [one.view.name for one in views if one.reach] == ["profile", "windows"]
    assert {one.view.name: one.keys for one in views} == dict.fromkeys(VIEWS, ("user_id",))
    said: list[str] = []
    compared = 0
    world.build()
    world.materialize()
    for round_ in range(2):
        with replica(store.project, decided.manifest, landing, [one.view for one in views]) as copy:
            online = Online(
                store.online_store(), store.namespace, f"s{round_}", copy, views, decided.manifest,
                lambda: open_warehouse(store.project), store.project.database_file, said.append,
            )  # fmt: skip
            for _ in range(12):
                action = world.random.choice(
                    [world.push] * 6
                    + [online.step] * 5
                    + [world.materialize]
                    + [world.build, world.change_users][: round_ + 1]
                )
                action()
            world.build()  # so that the tables beside the events are as the oracle has them
            time.sleep(2.1)  # so often it is asked what changed beside the events
            online.step()
            while online.behind:
                online.step()
            assert not online.counts.waiting, online.counts.waiting
        oracle = oracle_of(world, tmp_path / f"oracle-{round_}")
        moments = [world.now() + timedelta(seconds=seconds) for seconds in (0, 61, 599, 1_200, 3_300)]
        count, differences = world.differences(oracle, moments)
        assert not differences, "\n".join([*differences[:6], *said])
        compared += count
    assert compared > 1_000, compared


def test_a_landing_begun_anew_outranks_what_the_one_before_left_online(
    built: tuple[DbtProject, Decided], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, decided = copy_of(built[0], tmp_path / "shop"), built[1]
    landing_folder = project.folder / "landing"
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace(f"{built[0].folder}/landing", str(landing_folder)))
    world = World(project, decided, redis_url, 7)
    views = streamed_views(decided)

    def stream(*events: tuple[int, int, str]) -> None:
        """A stream that begins now, once these have landed: number, user, amount."""
        for number, user, amount in events:
            event = {"purchase_id": number, "user_id": user, "item": "a", "amount": amount, "cancelled": False}
            world.store.push("purchases", [event | {"purchased_at": world.now().isoformat()}])
        landing = landing_of(world.store.project, decided.sources, world.store.landing_clock())
        assert isinstance(landing, FileLanding)
        with replica(world.store.project, decided.manifest, landing, [one.view for one in views]) as copy:
            online = Online(
                world.store.online_store(), world.store.namespace, "s", copy, views, decided.manifest,
                lambda: open_warehouse(world.store.project), world.store.project.database_file, lambda _: None,
            )  # fmt: skip
            online.step()
            while online.behind:
                online.step()
            assert not online.counts.waiting, online.counts.waiting

    def spent() -> list[float | None]:
        found = world.store.get_online_features(["spent:spent"], [{"user_id": user} for user in (1, 2, 3)])
        return [None if value is None else float(value) for value in found.to_dict()["spent"]]

    world.materialize()
    stream((1, 1, "10"), *((number, 2, "1") for number in range(2, 30)))
    assert spent() == [10, 28, None]
    shutil.rmtree(landing_folder)
    stream((100, 1, "7"))
    assert spent() == [7, 28, None], "of user 2 nothing has landed since"
    world.build()
    with monkeypatch.context() as patched:
        patched.setattr(stream_record, "HELD_MS", 100)
        results = world.store.materialize(allow_shrink=True)
    assert {result.why for result in results} == {"every row: the landing was begun anew"}
    assert spent() == [7, None, None]
    stream((101, 1, "0.5"), (102, 3, "2"))
    assert spent() == [7.5, None, 2]
    world.build()
    world.materialize()
    assert spent() == [7.5, None, 2]


def oracle_of(world: World, folder: Path) -> str:
    """The namespace where a full build of a project of its own, over the same landing, was materialized."""
    project = copy_of(world.project, folder)
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace(f"{folder}/landing/", f"{world.project.folder}/landing/"))
    (project.folder / "warehouse.duckdb").unlink()
    project.dbt("build", "--full-refresh")
    namespace = f"oracle-{folder.parent.name}-{folder.name}"
    FeatureStore(project.folder, redis_url=world.store._redis_url, namespace=namespace).materialize()
    shutil.rmtree(folder)
    return namespace
