"""Load for an HTTP server, in a process of its own: requests as bytes made beforehand, answers read to their length.

Reads one command a line from stdin, as JSON, and answers each with one line of JSON:
    {"port", "requests": [path of a file with a body each], "path", "seconds", "connections", "rate"?}
Without `rate` it is a closed loop: each connection sends its next request once the last was answered. With one it is an
open loop: requests are due at fixed moments, whatever the server does, and a latency counts from that moment.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from itertools import cycle
from pathlib import Path

import uvloop


class Connection(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._length: int | None = None
        self._answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    async def ask(self, request: bytes) -> int:
        """Send it, and wait for the whole answer: its status."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._length is None:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end]).lower()
            self._status = int(head[9:12])
            self._length = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._data) >= self._length:
            self._data.clear()
            self._length = None
            self._answered.set_result(self._status)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(error or ConnectionError("the server closed the connection"))


async def run(port: int, path: str, requests: list[str], seconds: float, connections: int, rate: float | None) -> dict:
    loop = asyncio.get_running_loop()
    bodies = [Path(name).read_bytes() for name in requests]
    packed = cycle(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    )
    links = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    begin, cpu = loop.time(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    end = begin + seconds

    async def closed(link: Connection) -> None:
        while (sent := loop.time()) < end:
            count(await link.ask(next(packed)), sent)

    def count(status: int, since: float) -> None:
        latencies.append(loop.time() - since)
        statuses[status] = statuses.get(status, 0) + 1

    due = iter(range(max(1, int(seconds * (rate or 0)))))

    async def opened(link: Connection) -> None:
        # The next request that is due goes to the next connection that is free.
        for number in due:
            moment = begin + number / rate
            if moment > loop.time():
                await asyncio.sleep(moment - loop.time())
            count(await link.ask(next(packed)), moment)
            if loop.time() > end + seconds:
                return  # hopelessly behind

    await asyncio.gather(*(opened(link) if rate else closed(link) for link in links))
    took = loop.time() - begin
    latencies.sort()
    return {
        "answered": len(latencies),
        "rate": len(latencies) / took,
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
        "statuses": statuses,
        "own_cpu": (sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu) / took,
    }


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = uvloop.run(run(**command))
        except (OSError, IndexError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
