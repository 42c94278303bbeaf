"""Runs and two streams write one view in any order, in real Redis by the real scripts: what is online once they are
done, against what is true. Builds, runs and streams are small models here; `test_who_wins_runs` has real runs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from materializer.online import scripts

KEYS = ("a", "b", "c")
FOREVER = str(2**52)
ROUNDS, TOGETHER = 2_000, 500


@dataclass(frozen=True)
class Rule:
    """What of the rule is followed; what is left out has to show."""

    versions: bool = True
    tombstones: bool = True
    doubt: bool = True
    anew: bool = True
    recent: bool = True


@dataclass
class World:
    """The events of each commit, and a static source that changes. A value is what the events come to, and the static
    source beside it; None is no row."""

    rule: Rule
    events: list[tuple[str, str]] = field(default_factory=list)
    static: int = 0

    @property
    def seq(self) -> int:
        return len(self.events)

    def sum(self, key: str, seq: int) -> str | None:
        found: str | None = None
        for number, (of, what) in enumerate(self.events[:seq], 1):
            if of == key:
                found = None if what == "take back" else what if what == "again" else f"{number}"
        return found

    def value(self, key: str, seq: int, static: int) -> str | None:
        found = self.sum(key, seq)
        return None if found is None else f"{found}/{static}"

    def event_time(self, key: str, seq: int) -> str:
        """Of the newest event by its own time: some come late, and change the row of an earlier moment."""
        times = [n - 3 if what == "late" else n for n, (of, what) in enumerate(self.events[:seq], 1) if of == key]
        return f"{max(times, default=0):09d}"

    def touched_since(self, seq: int) -> set[str]:
        return {key for key, _ in self.events[seq:]}


# A question to Redis: what to do with a key, and the answer.
Ask = Generator[tuple[Any, ...], Any, Any]


def put(world: World, key: str, mark: str, seq: int, value: str | None) -> Generator[tuple[Any, ...], Any, bool]:
    """Write a row, or remove it. Gives whether it was refused."""
    if value is not None:
        fields = {"value": value, "_fs_event": world.event_time(key, seq)}
        answer = yield ("write", key, mark, str(seq) if world.rule.versions else "", fields)
        return bool(answer)
    if world.rule.versions and world.rule.tombstones:
        answer = yield ("remove", key, mark, str(seq))
        return len(answer) > 1
    yield ("delete", key, mark, seq if world.rule.versions else None)
    return False


@dataclass
class Stream:
    """Evaluates what was touched, and writes that some time later."""

    world: World
    mark: str
    todo: dict[str, None] = field(default_factory=dict)
    static: int = 0  # as it was when the stream looked last
    looked_at: tuple[int, int, int] = (0, 0, 0)
    recent: dict[str, None] = field(default_factory=dict)
    under_way: deque[tuple[str, int, str | None]] = field(default_factory=deque)

    def evaluate(self) -> None:
        key = next(iter(self.todo))
        del self.todo[key]
        seq = self.world.seq
        self.recent[key] = None
        self.under_way.append((key, seq, self.world.value(key, seq, self.static)))

    def write(self) -> Ask:
        key, seq, value = self.under_way.popleft()
        self.recent[key] = None
        yield from put(self.world, key, self.mark, seq, value)


@dataclass
class Batch:
    """dbt and materialize: what is built, what is remembered, what a run has still to do."""

    world: World
    built: tuple[int, int] = (0, 0)
    memory: dict[str, str | None] | None = None
    seen: int = 0
    published: int = 0
    run: int = 0
    reading: tuple[int, int] = (0, 0)
    left: list[tuple[str, str | None]] | None = None
    told: dict[str, str | None] = field(default_factory=dict)

    def plan(self) -> None:
        world, (seq, static) = self.world, self.built
        self.run += 1
        self.reading = self.built
        known = dict.fromkeys(KEYS) if self.memory is None else dict(self.memory)
        if world.rule.doubt:
            known |= dict.fromkeys(world.touched_since(self.seen))
        rows = {key: world.value(key, seq, static) for key in KEYS}
        self.told = {key: value for key, value in known.items() if value is not None and rows[key] == value}
        self.left = [
            (key, rows[key]) for key in KEYS if key not in self.told and (rows[key] is not None or key in known)
        ]
        self.memory = known | {key: None for key, _ in self.left}  # until it ends it may or may not have been written

    def step(self) -> Ask:
        assert self.left is not None
        key, value = self.left.pop()
        refused = yield from put(self.world, key, f"run:{self.run}", self.reading[0], value)
        if refused and self.world.rule.versions:
            self.told[key] = None
        elif value is not None and not refused:
            self.told[key] = value

    def finish(self) -> None:
        self.memory, self.seen, self.left = self.told, self.reading[0], None
        self.published = self.reading[0]


def sequence(seed: int, rule: Rule, wrong: list[str]) -> Ask:
    """One sequence; adds to `wrong` when something was. While the static source is still, streams may be started again,
    and frozen; what they then write of another one would stay until they look, or the next change."""
    chance = random.Random(seed)
    world = World(rule)
    streams = [Stream(world, f"{'stream' if rule.versions else 'pushed'}:{number}") for number in (1, 2)]
    batch = Batch(world)

    def land() -> None:
        key = chance.choice(KEYS)
        world.events.append((key, chance.choice(["put", "put", "put", "late", "again", "take back"])))
        chance.choice(streams).todo[key] = None

    def look_again(stream: Stream) -> None:
        """A stream evaluates anew what was touched since what is published; and where the static source has changed,
        what it evaluated or wrote since it looked before, of which it cannot say with which one."""
        if rule.anew:
            stream.todo |= dict.fromkeys(sorted(world.touched_since(batch.published)))
        if rule.recent and stream.static != world.static:
            stream.todo |= stream.recent | {key: None for key, _, _ in stream.under_way}
        stream.recent = {}
        stream.static, stream.looked_at = world.static, (batch.run, batch.published, world.static)

    def whole_run() -> Ask:
        if batch.left is None:
            batch.plan()
        while batch.left:
            yield from batch.step()
        batch.finish()

    def drained() -> Ask:
        """The streams look at what has changed, evaluate all that they have to, and write it."""
        order = chance.sample(streams, 2)
        for stream in order:
            if stream.looked_at != (batch.run, batch.published, world.static):
                look_again(stream)
            while stream.todo:
                stream.evaluate()
        for stream in order:
            while stream.under_way:
                yield from stream.write()

    still = chance.random() < 0.5
    for _ in range(chance.randrange(4, 40)):
        act, stream = chance.random(), chance.choice(streams)
        if act < 0.25:
            land()
        elif act < 0.45 and stream.todo:
            stream.evaluate()
        elif act < 0.65 and stream.under_way:
            yield from stream.write()
        elif act < 0.72:
            # Or of a later model alone: what it is made from is as it was.
            batch.built = (world.seq if chance.random() < 0.7 else batch.built[0], world.static)
        elif act < 0.77:
            world.static += not still
            if still and act > 0.75:
                # Started again: of what it had read, evaluated and written it knows nothing any more.
                stream.todo, stream.recent = {}, {}
                stream.under_way.clear()
                look_again(stream)
        elif act < 0.80:
            look_again(stream)
        elif batch.left is None:
            batch.plan()
        elif batch.left:
            if act > 0.985:
                batch.left = None  # killed
            else:
                yield from batch.step()
        else:
            batch.finish()
            for stream in streams:
                look_again(stream)
    if batch.left is not None and chance.random() < 0.5:
        yield from whole_run()

    def check(what: str, exact: bool) -> Ask:
        for key in KEYS:
            found = (yield ("read", key)).get(b"value")
            right = world.value(key, world.seq, world.static)
            given = None if found is None else found.decode()
            if not exact and key not in world.touched_since(batch.built[0]):
                # The batch brings what changes in the static source: here it is right as of the build, or newer.
                given, right = given and given.split("/")[0], world.sum(key, world.seq)
            if given != right:
                wrong.append(f"{what}: {key} is {given}, not {right} (seed {seed})")

    def fresh() -> Ask:
        if batch.left is not None:
            yield from whole_run()
        batch.built = (world.seq, world.static)
        yield from whole_run()

    ending = chance.randrange(4 if still else 3)
    if ending == 3:
        # What the streams had evaluated comes late, and they do nothing more.
        yield from fresh()
        for stream in chance.sample(streams, 2):
            while stream.under_way:
                yield from stream.write()
        yield from check("after a fresh build and run, and late writes", exact=True)
        return
    if ending > 0:
        yield from drained()
        if batch.left is None and batch.memory is not None:
            yield from check("once the streams are idle", exact=False)
    if ending == 2:
        # The streams are down while more events land.
        for _ in range(chance.randrange(4)):
            land()
        yield from fresh()
        yield from check("after a fresh build and run, without streams", exact=True)
        return
    yield from fresh()
    yield from drained()
    yield from check("after a fresh build and run", exact=True)
    world.static += 1
    yield from fresh()
    yield from drained()
    yield from check("after the static source changed, and a run", exact=True)


def play(client: redis.Redis, namespace: str, seeds: range, rule: Rule) -> list[str]:
    """Sequences side by side: each question of theirs goes out with those of the others."""
    wrong: list[str] = []
    write, remove = client.script_load(scripts.WRITE_ROWS), client.script_load(scripts.REMOVE_ROWS)
    delete = client.script_load(scripts.DELETE_ROWS)
    waiting: dict[int, Ask] = {}
    left: Iterator[int] = iter(seeds)
    answers: dict[int, Any] = {}
    while True:
        for seed in left:
            waiting[seed], answers[seed] = sequence(seed, rule, wrong), None
            if len(waiting) >= TOGETHER:
                break
        if not waiting:
            return wrong
        pipeline = client.pipeline(transaction=False)
        asked = []
        for seed, one in list(waiting.items()):
            try:
                what, key, *rest = one.send(answers[seed])
            except StopIteration:
                del waiting[seed]
                pipeline_gone = [f"{namespace}:{seed}:{key}" for key in KEYS]
                client.delete(*pipeline_gone)
                continue
            name = f"{namespace}:{seed}:{key}"
            asked.append(seed)
            if what == "write":
                mark, seen, fields = rest
                pipeline.evalsha(
                    write, 1, name, FOREVER, mark, seen, "", len(fields), *fields, "", "", *fields.values()
                )
            elif what == "remove":
                pipeline.evalsha(remove, 1, name, FOREVER, rest[0], rest[1], "", 60_000)
            elif what == "delete":
                mark, seen = rest
                # As it was: a run deletes what runs wrote, and who pushes what is there.
                if seen is None and mark.startswith("run:"):
                    pipeline.evalsha(delete, 1, name, FOREVER, "*")
                else:
                    pipeline.eval(
                        "local its = tonumber(redis.call('HGET', KEYS[1], '_fs_seen') or 0) "
                        "if its <= tonumber(ARGV[1]) then return redis.call('DEL', KEYS[1]) end",
                        1, name, FOREVER if seen is None else seen,
                    )  # fmt: skip
            else:
                pipeline.hgetall(name)
        answers = dict(zip(asked, pipeline.execute(), strict=True))


def test_whatever_the_order_what_is_online_is_true(client: redis.Redis, namespace: str) -> None:
    assert play(client, namespace, range(ROUNDS), Rule()) == []


@pytest.mark.soak
def test_whatever_the_order_of_many_what_is_online_is_true(client: redis.Redis, namespace: str) -> None:
    assert play(client, namespace, range(2 * 10**6, 2 * 10**6 + 20_000), Rule()) == []


@pytest.mark.parametrize("rule", [
    Rule(versions=False), Rule(tombstones=False), Rule(doubt=False), Rule(anew=False), Rule(recent=False),
], ids=str)  # fmt: skip
def test_each_part_of_the_rule_is_needed(client: redis.Redis, namespace: str, rule: Rule) -> None:
    wrong = play(client, namespace, range(ROUNDS), rule)
    assert wrong, "a check that cannot fail is none"
    print(rule, len(wrong), *wrong[:3], sep="\n")
