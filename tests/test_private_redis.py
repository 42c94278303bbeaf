"""A project's private Redis: started at a terminal where nobody named another, found by everything, never in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from materializer import FeatureStore, OnlineStoreError
from materializer.online import local as local_redis
from materializer.online import urls
from tests.support.command import assert_one_sentence, environment, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import built_shop

NOBODY = f"redis://127.0.0.1:{local_redis._free_port()}/0"
# A program whose default port is one of the test's own, whatever listens on this machine's.
PROGRAM = (
    "import sys; from materializer.online import urls; urls.DEFAULT_URL = sys.argv[1];"
    "from materializer import cli; sys.argv[:2] = ['feature-store']; cli.main()"
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[DbtProject]:
    shop = copy_of(built_shop(), tmp_path / "shop")
    yield shop
    local_redis.stop(local_redis.folder_of(shop.folder))


@pytest.fixture(autouse=True)
def nobody_on_the_default_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "DEFAULT_URL", NOBODY)


def at_a_terminal(shop: DbtProject, *args: str, default: str = NOBODY, **env: str) -> tuple[int, str]:
    """Run `feature-store` with both outputs on a pseudo-terminal; its exit code and what was shown."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in environment().items() if name != "CI"} | env
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, default, *args], cwd=shop.folder, env=clean, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(), shown.decode()


def url_of(shop: DbtProject) -> str | None:
    return local_redis.url(local_redis.folder_of(shop.folder))


def test_at_a_terminal_it_is_started_once_and_said_in_one_line(shop: DbtProject) -> None:
    code, shown = at_a_terminal(shop, "materialize", "user_features")
    url = url_of(shop)
    assert code == 0 and url, shown
    assert shown.startswith(f"Started a private Redis for this project at {url}, with its data in .redis/; ")
    assert redis.Redis.from_url(url).hget("shop.dev:user_features:1", "age") == b"31"
    code, shown = at_a_terminal(shop, "online", "user_features:age", "-e", "user_id=1")
    assert code == 0 and shown.startswith(f"Using this project's private Redis at {url}.\r\n") and "31" in shown
    assert url_of(shop) == url


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (("materialize",), {"CI": "true"}),
        (("materialize",), {"FEATURE_STORE_REDIS_URL": NOBODY}),
        (("materialize", "--redis-url", NOBODY), {}),
        (("materialize", "--dry-run"), {}),
        (("doctor",), {}),
    ],
    ids=["in CI", "named by the variable", "named by the option", "a dry run", "a command that only looks"],
)
def test_at_a_terminal_it_is_not_started(shop: DbtProject, args: tuple[str, ...], env: dict[str, str]) -> None:
    code, shown = at_a_terminal(shop, *args, **env)
    assert code == 1 and "cannot be reached" in shown
    assert not local_redis.folder_of(shop.folder).exists()


def test_for_a_project_that_was_never_built_none_is_started(shop: DbtProject) -> None:
    (shop.folder / "target" / "manifest.json").unlink()
    code, shown = at_a_terminal(shop, "materialize")
    assert code == 1 and "run `dbt build`" in shown
    assert not local_redis.folder_of(shop.folder).exists()


def test_a_server_on_the_default_port_is_used_as_ever(shop: DbtProject, redis_url: str, namespace: str) -> None:
    code, shown = at_a_terminal(shop, "materialize", "user_item", "--namespace", namespace, default=redis_url)
    assert code == 0 and "private" not in shown
    assert redis.Redis.from_url(redis_url).exists(f"{namespace}:user_item:1:b")
    assert not local_redis.folder_of(shop.folder).exists()


@pytest.mark.parametrize("command", [("materialize",), ("online", "user_features:age", "-e", "user_id=1")])
def test_in_a_pipe_nothing_is_started_and_the_error_says_how(shop: DbtProject, command: tuple[str, ...]) -> None:
    ran = run("feature-store", *command, cwd=shop.folder)
    assert ran.code == 1 and "`feature-store redis start`" in ran.err
    assert_one_sentence(ran.err)
    assert not local_redis.folder_of(shop.folder).exists()


def test_every_command_and_the_sdk_find_the_running_one(shop: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATURE_STORE_REDIS_URL", raising=False)
    store = FeatureStore(project_dir=shop.folder)  # before it runs, as a notebook that is open already
    assert run("feature-store", "redis", "start", cwd=shop.folder).code == 0
    url = url_of(shop)
    assert url
    ran = run("materialize", cwd=shop.folder)
    assert (ran.code, ran.err) == (0, ""), "quiet in a pipe"
    ran = run("feature-store", "online", "user_features:age", "-e", "user_id=1", "--output", "json", cwd=shop.folder)
    assert ran.json["age"] == [31]
    doctor = run("feature-store", "doctor", cwd=shop.folder).out
    assert f"answers at {url[8:-2]}: one server, this project's private one" in doctor
    fresh = run("feature-store", "freshness", "--output", "json", cwd=shop.folder)
    assert fresh.code == 0 and "cannot be reached" not in fresh.out
    assert "Nothing to remove" in run("feature-store", "prune", cwd=shop.folder).out
    assert store.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()["age"] == [31]


def test_python_code_starts_none(shop: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATURE_STORE_REDIS_URL", raising=False)
    with pytest.raises(OnlineStoreError, match="feature-store redis start"):
        FeatureStore(project_dir=shop.folder).materialize()
    assert not local_redis.folder_of(shop.folder).exists()


# feature-store redis.


def test_it_is_started_found_and_stopped_by_name_in_a_pipe_too(shop: DbtProject) -> None:
    def command(*args: str) -> dict[str, object]:
        ran = run("feature-store", "redis", *args, "--output", "json", cwd=shop.folder)
        assert (ran.code, ran.err) == (0, "")
        return ran.json

    folder = str(local_redis.folder_of(shop.folder))
    stopped = {"running": False, "url": None, "program": None, "pid": None, "folder": folder}
    assert command("status") == stopped
    started = command("start")
    assert started == {"url": url_of(shop), "folder": folder, "started": True}
    assert command("start") == started | {"started": False}
    status = command("status")
    assert status["running"] is True and status["url"] == started["url"] and status["program"]
    assert command("stop") == {"folder": folder, "stopped": True}
    assert command("stop") == {"folder": folder, "stopped": False}
    assert command("status") == stopped


def test_what_is_said_for_people(shop: DbtProject, redis_url: str) -> None:
    def said(*args: str, **env: str) -> tuple[str, str]:
        ran = run("feature-store", "redis", *args, "--project-dir", str(shop.folder), env=env)
        assert ran.code == 0
        return ran.out, ran.err

    assert said("status")[0] == "No private Redis is running. Start it with: feature-store redis start\n"
    assert said("start")[0].startswith("Started a private Redis at redis://127.0.0.1:")
    assert said("start")[0].startswith("A private Redis runs already at redis://127.0.0.1:")
    out, err = said("status", FEATURE_STORE_REDIS_URL=redis_url)
    assert " runs at redis://127.0.0.1:" in out and err.startswith("Commands use another: FEATURE_STORE_REDIS_URL ")
    assert said("stop")[0].startswith("The private Redis is stopped; its data stays in ")
    assert said("stop")[0] == "No private Redis is running.\n"


@pytest.mark.parametrize("command", ["start", "stop", "status"])
def test_it_belongs_to_a_project(tmp_path: Path, command: str) -> None:
    ran = run("feature-store", "redis", command, cwd=tmp_path)
    assert ran.code == 1 and "There is no dbt_project.yml in" in ran.err
    assert_one_sentence(ran.err)
    assert list(tmp_path.iterdir()) == []


def test_git_ignores_its_data(shop: DbtProject) -> None:
    run("feature-store", "redis", "start", cwd=shop.folder)
    subprocess.run(["git", "init", "-q", "."], cwd=shop.folder, check=True)
    seen = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all", ".redis"],
        cwd=shop.folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert seen.stdout == ""
