"""A webhook's other end: a real HTTP server that keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "/services/T00/B00/s3cret?token=hidden"


@dataclass
class Receiver:
    """A real HTTP server that answers as told, and what it was sent."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: reply(handler, 200)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{SECRET}"

    @property
    def report(self) -> Any:
        """The only report that came."""
        ((method, path, headers, body),) = self.requests
        assert (method, path) == ("POST", SECRET)
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        return json.loads(body)


def reply(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    handler.send_response(code, "s3cret of the server")
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def receive() -> Iterator[Receiver]:
    """A receiver while it listens."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append((self.command, self.path, dict(self.headers), body))
            receiver.answer(self)

        do_GET = do_POST  # noqa: N815 - what a redirect that is followed would come back as

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield receiver
    server.shutdown()
    server.server_close()
