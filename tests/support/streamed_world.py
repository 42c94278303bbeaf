"""A project that streams, and what happens to it: random events, builds, runs, restarts; for DuckDB and for PostgreSQL."""

from __future__ import annotations

import base64
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import redis

from materializer import FeatureStore
from materializer.stream.background import evaluator_of, streamed_views
from materializer.stream.explain import Decided
from materializer.stream.online import Online
from materializer.stream.place import landing_of
from tests.support.dbt import DbtProject

STREAM = {
    "topic": "purchases",
    "key": "user_id",
    "timestamp": "purchased_at",
    "determines": {"purchase_id": ["user_id"]},
}
# Of producers whose clocks are wrong: seconds before now.
SKEWED = [-3 * 3_600, -20 * 366 * 86_400]
VIEWS = {
    "spent": {"entities": ["user_id"], "created_timestamp": "known_at"},
    "windows": {"entities": ["user_id"], "ttl": "8 days"},
    "pairs": {"entities": ["user_id", "item"]},
    "profile": {"entities": ["user_id"]},
}
FIRST = {"purchase_id": 0, "user_id": 0, "item": "a", "amount": 1, "cancelled": False, "purchased_at": "2026-01-01"}

USERS = "user_id,country\n" + "".join(f"{user},c{user % 3}\n" for user in range(12))


def described(columns: dict[str, str], where: dict[str, str]) -> dict[str, Any]:
    """The properties of the source, which is `where`, and of the views."""
    listed = [{"name": name, "data_type": dtype} for name, dtype in columns.items()]
    table = {"name": "purchases", "config": {"meta": {"stream": STREAM}}, "columns": listed}
    return {
        "sources": [{"name": "shop", **where, "tables": [table]}],
        "models": [{"name": name, "config": {"meta": {"feature_view": view}}} for name, view in VIEWS.items()],
    }


class World:
    """A project with a landing, a stream that keeps its views online, and what there is beside it."""

    def __init__(self, project: DbtProject, decided: Decided, redis_url: str, seed: int) -> None:
        self.project, self.decided = project, decided
        self.store = FeatureStore(project.folder, redis_url=redis_url, namespace=f"{project.folder.parent.name}-{seed}")
        self.client = redis.Redis.from_url(redis_url)
        self.random = random.Random(seed)
        self.numbers = itertools.count(1)
        self.sent: list[dict[str, Any]] = []
        self.changed = False

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def event(self) -> dict[str, Any]:
        """A purchase: new or heard of before, of now or long ago or yet to come; often just where a window ends."""
        draw, moment = self.random.random(), self.now()
        ago = self.random.choice(
            [0, 0, 1, 30, 599, 600, 601, 3_599, 3_600, 7 * 86_400, 200 * 86_400, -60, -900, *SKEWED]
        )
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
        self.send([self.event() for _ in range(self.random.randrange(1, 12))])

    def send(self, events: list[dict[str, Any]]) -> None:
        self.sent += events
        self.store.push("purchases", events)

    def change_users(self) -> None:
        lines = "".join(f"{user},c{self.random.randrange(5)}\n" for user in range(12))
        (self.project.folder / "seeds" / "users.csv").write_text(f"user_id,country\n{lines}")
        self.project.dbt("seed")
        self.changed = True
        # Who has no event since the build that was sent gets the new value from the next build and run: all have one.
        self.send([self.event() | {"user_id": user} for user in range(12)])

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

    @contextmanager
    def kept(self, name: str, said: list[str]) -> Iterator[Online]:
        """A stream that keeps the views, as its process does."""
        landing = landing_of(self.store.project, self.decided.sources, self.store.landing_clock())
        views = streamed_views(self.decided)
        with closing(landing), evaluator_of(self.store.project, self.decided, landing, views, said.append) as evaluator:
            yield Online(self.store.online_store(), self.store.namespace, name, evaluator, views, said.append)

    def go_through(self, oracle: Callable[[int], str], rounds: int = 2, steps: int = 12) -> int:
        """Rounds of random happenings, each with a stream of its own; how many values were compared at their ends with
        those of another namespace, which `oracle` fills."""
        said: list[str] = []
        compared = 0
        (self.project.folder / "seeds" / "users.csv").write_text(USERS)
        self.build()
        self.materialize()
        for round_ in range(rounds):
            with self.kept(f"s{round_}", said) as online:
                for _ in range(steps):
                    rare = [self.build, self.change_users][: round_ + 1]
                    if not self.changed:  # else it brings another definition, for streams that begin anew
                        rare.append(self.materialize)
                    self.random.choice([self.push] * 6 + [online.step] * 5 + rare)()
                self.build()  # so that the tables beside the events are as the oracle has them
                time.sleep(2.1)  # so often it is asked what changed beside the events
                online.step()
                while online.behind:
                    online.step()
                assert not online.counts.waiting, online.counts.waiting
            compared += self.compared(oracle(round_), said)
        return compared

    def compared(self, oracle: str, said: list[str]) -> int:
        """How many values were compared with those of another namespace, now and in the hour that rows are sent ahead;
        none of them differs."""
        moments = [self.now() + timedelta(seconds=seconds) for seconds in (0, 61, 599, 1_200, 3_300)]
        count, differences = self.differences(oracle, moments)
        assert not differences, "\n".join([*differences[:6], *said])
        return count


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
