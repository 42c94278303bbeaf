"""What may happen to the places that a stream writes to while it keeps views online: the end is a full build's."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from materializer import FeatureStore
from tests.support import kafka
from tests.support.dbt import DbtProject, copy_of
from tests.support.redis_servers import Sentinels
from tests.test_stream import declare, landed
from tests.test_stream_command import built, purchase, spent, streaming, until, verified
from tests.test_stream_online import VIEWS

__all__ = ["built"]

_numbers = itertools.count(1)


class World:
    """A built project whose source reads a topic of its own, and what was sent to that."""

    def __init__(self, built: DbtProject, broker: kafka.Broker, folder: Path, redis_url: str) -> None:
        self.project, self._broker = copy_of(built, folder / "shop"), broker
        self._topic = f"faults-{next(_numbers)}"
        broker.create(self._topic, 2)
        models = self.project.folder / "models" / "models.yml"
        models.write_text(models.read_text().replace("topic: purchases", f"topic: {self._topic}"))
        declare(self.project, topic=self._topic)
        self.store = FeatureStore(self.project.folder, redis_url=redis_url, namespace=self._topic)
        self._draw, self.sent, self.users = random.Random(5), 0, {0}

    def send(self, count: int) -> None:
        users = [self._draw.randrange(40) for _ in range(count)]
        events = [purchase(1 + self.sent + place, user, f"{user}.25") for place, user in enumerate(users)]
        self._broker.send(self._topic, events, partition=lambda number: number % 2)
        self.sent += count
        self.users |= set(users)

    def landed(self) -> int:
        (row,) = landed(
            self.project, "count(*), count(distinct purchase_id), count(distinct (_topic, _partition, _offset))"
        )
        assert len(set(row)) == 1, row
        return row[0] - 1


@pytest.mark.timeout(900)
def test_redis_fails_over_to_one_that_lacks_what_was_written_last(
    built: DbtProject, broker: kafka.Broker, tmp_path: Path
) -> None:
    sentinels = Sentinels(tmp_path / "redis")
    try:
        world = World(built, broker, tmp_path, sentinels.url)
        world.store.materialize()
        with streaming(world.store, broker, tmp_path) as streamer:
            streamer.hear("is kept online", len(VIEWS))
            world.send(300)
            until(lambda: world.landed() == world.sent)
            lost, replica = sentinels.master, next(one for one in sentinels.servers if one is not sentinels.master)
            lost.cut_off(replica)
            world.send(300)
            until(lambda: world.landed() == world.sent)
            until(lambda: all(spent(world.store, user) is not None for user in world.users))
            lost.kill()
            replica.process.send_signal(18)  # SIGCONT
            world.send(100)
            until(lambda: sentinels.master is replica)
            world.send(100)
            streamer.hear("is kept online", 2 * len(VIEWS))
            until(lambda: world.landed() == world.sent)
            assert verified(world.store)["spent"] == len(world.users)
            assert "<redis." not in streamer.said
    finally:
        sentinels.close()


def country(store: FeatureStore, user: int) -> str | None:
    return store.get_online_features(["spent:country"], [{"user_id": user}]).to_dict()["country"][0]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 4 MB in place of a folder, with what is in it."""
    before = folder.rename(folder.with_name("before"))
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        shutil.copytree(before, folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that there is."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while os.write(file.fileno(), bytes(size)):
                    pass
            except OSError:
                continue
    return filler


@pytest.mark.timeout(900)
def test_a_full_disk_under_the_landing_stops_no_view(
    built: DbtProject, broker: kafka.Broker, redis_url: str, tmp_path: Path
) -> None:
    world = World(built, broker, tmp_path, redis_url)
    with small_disk(world.project.folder / "landing") as disk, streaming(world.store, broker, tmp_path) as streamer:
        world.store.materialize()
        streamer.hear("is kept online", len(VIEWS))
        world.send(200)
        until(lambda: world.landed() == world.sent)
        until(lambda: all(spent(world.store, user) is not None for user in world.users))
        filler, before = fill(disk), len(world.users)
        world.send(100)
        streamer.hear("Events cannot land in")
        # What changes beside the events comes online meanwhile, with what has landed.
        with duckdb.connect(str(world.project.warehouse)) as connection:
            connection.execute("update main.users set country = 'elsewhere'")
        until(lambda: country(world.store, min(world.users - {0})) == "elsewhere")
        assert verified(world.store)["spent"] == before
        assert world.landed() == 200
        filler.unlink()
        until(lambda: world.landed() == world.sent)
        assert verified(world.store)["spent"] == len(world.users)
        assert not [one for one in (disk / "shop.purchases").glob(".*") if not one.name.startswith(".columns-")]
        said = streamer.said
    assert (
        said.count("Events cannot land in") == 1 and "No space left on device. Trying again until they can." in said
    ), said


# Not a fault, but as much of a change.

NEXT = """{{ config(materialized='table', meta={'feature_view': {'entities': ['user_id']}}) }}
select user_id, event_timestamp, 2 * spent as spent from {{ ref('spent') }}"""


@pytest.mark.timeout(900)
def test_a_new_view_and_a_new_namespace_are_warmed_while_the_old_serves(
    built: DbtProject, broker: kafka.Broker, redis_url: str, tmp_path: Path
) -> None:
    world = World(built, broker, tmp_path, redis_url)
    old = world.store
    new = FeatureStore(world.project.folder, redis_url=redis_url, namespace=f"{old.namespace}.next")

    def next_spent(store: FeatureStore, user: int) -> float | None:
        (value,) = store.get_online_features(["spent_next:spent"], [{"user_id": user}]).to_dict()["spent"]
        return None if value is None else float(value)

    old.materialize()
    with streaming(old, broker, tmp_path) as streamer:
        streamer.hear("is kept online", len(VIEWS))
        world.send(200)
        (world.project.folder / "models" / "spent_next.sql").write_text(NEXT)
        world.project.dbt("build")
        assert spent(old, 39) is not None
        old = FeatureStore(world.project.folder, redis_url=redis_url, namespace=old.namespace)
        old.materialize(["spent_next"])
        streamer.hear("'spent_next' is kept online")
        new.materialize()
        with streaming(new, broker, tmp_path) as beside:
            beside.hear("is kept online", len(VIEWS) + 1)
            world.send(100)
            until(lambda: world.landed() == world.sent)
            for store in (old, new):
                assert verified(store)["spent_next"] == len(world.users)
            streamer.process.kill()  # readers have switched
            world.send(100)
            until(lambda: world.landed() == world.sent)
            assert verified(new)["spent_next"] == len(world.users)
    assert next_spent(new, 39) == 2 * (spent(new, 39) or 0)
    assert next_spent(old, 39) is not None
