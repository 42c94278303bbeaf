"""Real Feast, in an environment of its own: installed by ``make feast``, started once a session."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parents[2] / ".venv-feast" / "bin" / "python"
_SERVER = Path(__file__).with_name("feast_server.py")


@pytest.fixture(scope="session")
def feast_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of a Python with Feast that answers at once: it is forked from one that has imported it."""
    if not PYTHON.is_file():
        pytest.fail(f"Feast is not installed in {PYTHON.parents[1]}: run `make feast`.")
    folder = tmp_path_factory.mktemp("python")
    address, client = folder / "socket", folder / "python"
    command = shlex.join([sys.executable, "-IS", str(_SERVER), str(address), "--client"])
    client.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    client.chmod(0o755)
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([PYTHON, _SERVER, address], stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=folder)
    assert server.stdin is not None
    for _ in range(3000):
        if address.exists() or server.poll() is not None:
            break
        time.sleep(0.1)
    if not address.exists():
        pytest.fail(f"Feast could not be imported: {log.read_text()[-500:]}")
    yield str(client)
    server.stdin.close()
    server.wait(10)
