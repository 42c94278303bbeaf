"""A private PostgreSQL for tests: on a port of its own, in a temporary folder, gone with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Running:
    """A server on a port, with its data in a folder. Its user is `postgres`, without a password."""

    port: int
    folder: Path

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} {_QUICK}"
        _run(self.folder, "pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it, and whatever it does."""
        _run(self.folder, "pg_ctl", "-m", "immediate", "-w", "stop")

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A cursor of a connection, each of whose statements is a transaction."""
        from adbc_driver_postgresql import dbapi

        where = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        with dbapi.connect(where, autocommit=True) as connection, connection.cursor() as cursor:
            yield cursor

    def ask(self, sql: str) -> Any:
        """The first value of an answer; None where there is none."""
        with self.connected() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None


@contextmanager
def running() -> Iterator[Running]:
    """A server in a temporary folder."""
    # It refuses to run as root, and root's own temporary folders may be closed to others, as pytest's are.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp" if _owner() else None))
    if _owner():
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        one = Running(probe.getsockname()[1], folder)
    _run(
        folder, "initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        "--no-instructions",
    )  # fmt: skip
    one.start()
    try:
        yield one
    finally:
        one.stop()
        shutil.rmtree(folder)


@contextmanager
def server() -> Iterator[int]:
    """The port of a server in a temporary folder."""
    with running() as one:
        yield one.port


def _owner() -> dict[str, Any]:
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _run(folder: Path, program: str, *arguments: str) -> None:
    binaries = programs()
    assert binaries is not None
    done = subprocess.run(
        [str(binaries / program), "-D", str(folder / "data"), *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **_owner(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
