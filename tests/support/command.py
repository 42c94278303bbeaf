"""The command line in tests: as a process of its own, or in this process where seconds count."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import redis

from materializer import cli

MAINS = {"feature-store": cli.main, "materialize": cli.materialize_main}
# What a developer's own shell may hold, and a test must not see.
FOREIGN = (
    "DBT_PROJECT_DIR",
    "DBT_PROFILES_DIR",
    "DBT_TARGET",
    "DBT_TARGET_PATH",
    "FEATURE_STORE_REDIS_URL",
    "FEATURE_STORE_WEBHOOK_URL",
)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would lead a command elsewhere."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DBT_ENGINE_")}
    return {name: value for name, value in own.items() if name not in FOREIGN} | extra


def run(program: str, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ran:
    """Run ``feature-store`` or ``materialize`` exactly as its process would, in this one."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", [program, *args]),
        mock.patch.dict(os.environ, environment(**(env or {})), clear=True),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            MAINS[program]()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    return Ran(code, out.getvalue(), err.getvalue())


def run_process(program: str, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ran:
    """Run ``feature-store`` or ``materialize`` as a process."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *args],
        cwd=cwd, env=environment(**(env or {})), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def contents(client: redis.Redis) -> dict[bytes, Any]:
    """Everything a server holds, with the types and moments of expiry of its keys."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key).decode()
        value = client.hgetall(key) if kind == "hash" else client.get(key) if kind == "string" else kind
        found[key] = (kind, value, client.pexpiretime(key))
    return found


def rows(client: redis.Redis, namespace: str) -> dict[bytes, dict[bytes, bytes]]:
    """The rows of a namespace without what differs from run to run."""
    found = {}
    for key in client.scan_iter(match=f"{namespace}:*", count=1000, _type="hash"):
        if key.count(b":") >= 2:
            found[key] = {name: value for name, value in client.hgetall(key).items() if name != b"_fs_writer"}
    return found


def assert_one_sentence(text: str) -> None:
    """What a user may be shown when something is wrong: one short paragraph, for people."""
    assert "Traceback" not in text
    assert text.startswith(("Error: ", "Usage: ")), text
    assert len(text) < 900, text
