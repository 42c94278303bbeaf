"""Load on a feature server for minutes, and a check of every value that it gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import httpx

from materializer import FeatureStore, FeatureStoreError
from tests.support.dbt import DbtProject
from tests.support.manifests import project_of

VIEW = "readings"
FEATURES = [f"{VIEW}:value", f"{VIEW}:twice", f"{VIEW}:word"]
USERS = 1_000
REPUBLISHED_SECONDS = 5.0


@dataclass(frozen=True)
class Generations:
    """What the warehouse went through: in generation g a user's value is ``g * 1000 + user``. `started` is the newest
    that may be online, `complete` the newest that is there whole; each reaches what was lost only by the next run."""

    started: Synchronized[int]
    complete: Synchronized[int]
    runs: Synchronized[int]
    failed: Synchronized[int]
    end: Event


def new_generations() -> Generations:
    context = multiprocessing.get_context("spawn")
    return Generations(*(context.Value("q", 0) for _ in range(4)), context.Event())


def soaked_project(folder: Path) -> DbtProject:
    """A project of one view."""
    project = project_of(folder, {VIEW: {"entities": ["user_id"], "ttl": "1 day"}})
    duckdb.connect(str(project.warehouse)).close()
    return project


def keep_materializing(folder: str, url: str, namespace: str, generations: Generations) -> None:
    """Until the end: a new generation, materialized; every few seconds the view is also declared anew, so that it is
    published anew. For a process of its own."""
    project, republished, number = DbtProject(Path(folder)), time.monotonic(), 0
    while not generations.end.is_set():
        number += 1
        with duckdb.connect(str(project.warehouse)) as connection:
            connection.execute(
                f"create or replace table {VIEW} as select u as user_id, now() as event_timestamp, {number} * 1000 + u as value, "
                f"2 * value as twice, 'w' || value as word from range({USERS}) as t(u)"
            )
        if time.monotonic() - republished > REPUBLISHED_SECONDS:
            republished = time.monotonic()
            path = project.folder / "target" / "manifest.json"
            manifest = json.loads(path.read_text())
            manifest["nodes"][f"model.shop.{VIEW}"]["description"] = f"Published anew at {republished}."
            path.write_text(json.dumps(manifest))
        generations.started.value = number
        try:
            FeatureStore(project.folder, redis_url=url, namespace=namespace).materialize()
        except FeatureStoreError:
            generations.failed.value += 1
            time.sleep(0.2)
        else:
            generations.complete.value = number
            generations.runs.value += 1


@dataclass
class Load:
    """What clients saw. `away` is set while Redis is, and for the moment that it takes to come back; `lossy` from then
    until a run put right what it had lost."""

    url: str
    generations: Generations
    away: bool = False
    lossy: bool = False
    # The generation that answers must have reached; 0 while writes may have been lost.
    floor: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    values: int = 0
    complaints: list[str] = field(default_factory=list)

    async def run(self, clients: int, end: asyncio.Event) -> None:
        """So many clients ask, one request after the other, until the end."""
        await asyncio.gather(*(self._client(end) for _ in range(clients)))

    async def _client(self, end: asyncio.Event) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=40) as client:
            while not end.is_set():
                users = random.sample(range(USERS), random.choice((1, 20, 100)))
                asked = {"features": FEATURES, "entities": [{"user_id": user} for user in users], "statuses": True}
                away, floor, started = self.away, self.floor, time.perf_counter()
                try:
                    answer = await client.post("/v1/features", json=asked)
                except httpx.HTTPError as error:
                    self.complaints.append(f"{type(error).__name__}: {error}")
                    continue
                self.seconds.append(time.perf_counter() - started)
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self._check(users, answer.json(), floor)
                elif answer.status_code == 503 and (away or self.away):
                    if answer.headers.get("retry-after") != "1" or answer.json()["error"]["code"] != "unavailable":
                        self.complaints.append(f"503 without its form: {answer.text}")
                    await asyncio.sleep(0.05)
                else:
                    self.complaints.append(f"{answer.status_code}: {answer.text[:300]}")

    def _check(self, users: list[int], body: dict[str, Any], floor: int) -> None:
        """Every row is whole, of its user, and of a generation that was true since the request began."""
        newest = self.generations.started.value
        if len(body["rows"]) != len(users):
            self.complaints.append(f"{len(body['rows'])} rows for {len(users)}")
        for user, (value, twice, word), statuses in zip(users, body["rows"], body["statuses"], strict=False):
            self.values += 3
            generation, of = divmod(value or 0, 1000)
            whole = of == user and twice == 2 * value and word == f"w{value}" and set(statuses) == {"PRESENT"}
            if not whole or not max(floor, 1) <= generation <= newest:
                self.complaints.append(f"user {user}: {value}, {twice}, {word}, {statuses} in {floor}..{newest}")

    async def follow(self, end: asyncio.Event) -> None:
        """Raise the floor with every complete generation."""
        while not end.is_set():
            if not self.lossy:
                self.floor = max(self.floor, self.generations.complete.value)
            await asyncio.sleep(0.01)


class Rude:
    """Clients that behave badly, by their sockets."""

    def __init__(self, url: str) -> None:
        self._address = ("127.0.0.1", int(url.rpartition(":")[2].rstrip("/")))
        asked = {"features": FEATURES, "entities": [{"user_id": user} for user in range(USERS)], "statuses": True}
        body = json.dumps(asked).encode()
        head = f"POST /v1/features HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    async def goes_away(self, end: asyncio.Event) -> None:
        """Leaves in the middle of the body, before the answer, or in its middle, with a reset."""
        while not end.is_set():
            for sent, read in ((len(self._request) // 2, 0), (len(self._request), 0), (len(self._request), 500)):
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(self._request[:sent])
                await writer.drain()
                if read:
                    await reader.read(read)
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
            await asyncio.sleep(0.2)

    async def is_slow(self, end: asyncio.Event, load: Load) -> None:
        """Sends its request in drops, and reads the answer in sips; and gets it all the same."""
        while not end.is_set():
            reader, writer = await asyncio.open_connection(*self._address, limit=4096)
            step = len(self._request) // 20
            for at in range(0, len(self._request), step):
                writer.write(self._request[at : at + step])
                await writer.drain()
                await asyncio.sleep(0.1)
            away = load.away
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            got = 0
            while got < length:
                got += len(await reader.read(2048))
                await asyncio.sleep(0.02)
            status = int(head.split()[1])
            if status != 200 and not (status == 503 and (away or load.away)):
                load.complaints.append(f"slow client: {head!r}")
            writer.close()

    async def idle(self, count: int, stack: contextlib.ExitStack) -> None:
        """So many connections that say nothing, or begin and do not go on."""
        for number in range(count):
            one = stack.enter_context(socket.create_connection(self._address))
            if number % 2:
                one.sendall(self._request[: 10 if number % 4 == 1 else 200])


@dataclass(frozen=True)
class Process:
    """A process of the server's, by what the system knows of it."""

    pid: int

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def files(self) -> int:
        """How many files and connections are open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


def workers_of(pid: int) -> list[Process]:
    """The worker processes of a server."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    named = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [Process(child) for child, line in named.items() if "spawn_main" in line]
