"""A private PostgreSQL for tests: on a port of its own, in a temporary folder, gone with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Nothing has to survive. And it would spend a minute compiling a model of windows that runs for three seconds (docs/warehouses.md).
_QUICK = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c jit=off"


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def skip_without(driver: str) -> None:
    """Skip what needs PostgreSQL and a driver of Python's, where one of them is not installed."""
    pytest.importorskip(driver)
    if programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")


@contextmanager
def server() -> Iterator[int]:
    """A server in a temporary folder; gives its port. Its user is `postgres`, without a password."""
    binaries = programs()
    assert binaries is not None
    # It refuses to run as root, and root's own temporary folders may be closed to others, as pytest's are.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp" if owner else None))
    if owner:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(binaries / program), "-D", str(data), *arguments],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **owner,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} {_QUICK}"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield port
    finally:
        run("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)
