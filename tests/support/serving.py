"""The feature server as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.forked import Process

SERVE = "from materializer.cli import main; main()"


@contextmanager
def serving(url: str, *options: str, namespace: str) -> Iterator[tuple[httpx.Client, Process | subprocess.Popen[str]]]:
    """``feature-store serve`` on a free port, with a client of it; at the end it is asked to end, and waited for.

    Several workers have a parent that is a Python of its own, as they count their requests together from its start on.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = ["serve", "--port", str(port), "--redis-url", url, "--namespace", namespace, *options]
    process = (
        subprocess.Popen(
            [sys.executable, "-c", SERVE, *asked], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if "--workers" in options
        else Process(f"import os; os.dup2(1, 2); {SERVE}", *asked, env=os.environ)
    )
    scheme = "https" if "--tls-cert" in options else "http"
    try:
        with httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", verify=False, timeout=30) as client:
            until = time.monotonic() + 60
            while time.monotonic() < until and process.poll() is None:
                try:
                    client.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            assert process.poll() is None, process.stdout.read()
            yield client, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
