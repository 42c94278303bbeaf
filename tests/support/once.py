"""What is built once a session: the workers of pytest-xdist share a folder, and whoever comes first builds."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

_session: list[Path] = []


def in_session(factory: pytest.TempPathFactory) -> None:
    """Say which session this is: its folder is that of all workers, and pytest removes it in its time."""
    own = factory.getbasetemp()
    in_folder(own.parent if own.name.startswith("popen-") else own)


def in_folder(folder: Path) -> None:
    """Build in this folder, outside of a test too."""
    _session[:] = [folder]


def once(name: str, build: Callable[[Path], object]) -> Path:
    """The session's folder `name` as `build` left it. Others read it too: take a copy to write in."""
    folder = _session[0] / f"once-{name}"
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a build that failed left
            folder.mkdir()
            build(folder)
            done.touch()
    return folder
