"""dbt, run in a process of its own: the one place that imports it, or knows anything of its insides.

dbt keeps global state, writes on stdout and holds its connections; none of that may reach the caller's process. Nothing
else here needs dbt to be installed: what it wrote down (the manifest, compiled SQL) is read from its files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from materializer.errors import ProjectError

_ABSENT = (
    "This needs dbt, which is not installed beside this package: pip install dbt-core and your warehouse's adapter, "
    "or 'dbt-feature-store[duckdb]'."
)
# They would lead a command elsewhere than its own options do.
_PLACES = ("TARGET_PATH", "LOG_PATH", "PROJECT_DIR", "PROFILES_DIR", "TARGET", "PROFILE")
# How often it is looked whether dbt is still waited for, in seconds.
_LOOKED = 0.2


def run_dbt(
    jobs: Sequence[Sequence[Sequence[str]]], folder: Path, unwanted: Callable[[], bool] = lambda: False
) -> list[list[str]]:
    """Run jobs one after the other in `folder`; a job is a list of dbt commands, run up to the first that fails.

    A ``compile`` goes on with the other models where one fails, as far as this dbt can be made to.

    Args:
        unwanted: says when nobody waits for it any more: it may itself wait for a warehouse that is gone.

    Returns:
        for each job the error messages of the command that failed; none where all went well.

    Raises:
        ProjectError: where dbt is not installed beside this package, ends without an answer, or was unwanted.
    """
    if not _installed():
        raise ProjectError(_ABSENT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBT_ENGINE_")}
    for place in _PLACES:
        environment.pop(f"DBT_{place}", None)
    with tempfile.TemporaryDirectory(prefix="feature-store-dbt-") as room:
        asked, answered = Path(room, "jobs.json"), Path(room, "answers.json")
        asked.write_text(json.dumps(jobs))
        with subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(asked), str(answered)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            said = _outcome(process, unwanted)
        if not answered.is_file():
            last = (said.strip().splitlines() or ["it ended without a word"])[-1]
            raise ProjectError(f"dbt did not run: {last}")
        return json.loads(answered.read_text())


def _outcome(process: subprocess.Popen[str], unwanted: Callable[[], bool]) -> str:
    """What a process wrote on stderr until it ended, of itself or because it is unwanted."""
    try:
        while True:
            try:
                return process.communicate(timeout=_LOOKED)[1]
            except subprocess.TimeoutExpired:
                if unwanted():
                    raise ProjectError("dbt was ended, as nobody waits for it any more.") from None
    finally:
        process.kill()


def dbt_command() -> list[str]:
    """How to call dbt: the one of this Python, else the one on PATH.

    Raises:
        ProjectError: where there is none.
    """
    if _installed():
        return [sys.executable, "-c", "from dbt.cli.main import cli; cli()"]
    if program := shutil.which("dbt"):
        return [program]
    raise ProjectError(_ABSENT)


def _installed() -> bool:
    try:
        return find_spec("dbt.cli.main") is not None
    except ModuleNotFoundError:
        return False


def _work(asked: Path, answered: Path) -> None:
    """What the process does."""
    from dbt.cli.main import dbtRunner

    goes_on = _compile_all_that_compiles()
    answers = []
    for commands in json.loads(asked.read_text()):
        messages: list[str] = []

        def keep(event: Any, messages: list[str] = messages) -> None:
            if event.info.level == "error":
                messages.append(event.info.msg)

        for command in commands:
            result = dbtRunner(callbacks=[keep]).invoke(command)
            if not result.success:
                nodes = getattr(result.result, "results", None) or []
                failed = [str(node.message) for node in nodes if node.status == "error"]
                messages = [str(result.exception)] if result.exception else failed or messages
                if not goes_on:
                    messages.append(
                        "this dbt stops at the first model that does not compile: others may lack their SQL"
                    )
                break
            messages.clear()
        _let_go()
        answers.append([" ".join(message.split()) for message in messages if "Traceback (most" not in message])
    answered.write_text(json.dumps(answers))


def _compile_all_that_compiles() -> bool:
    """``dbt compile`` ends at the first model that fails; here the others are wanted all the same.

    Returns:
        whether this dbt has what has to be changed for that (1.10 to 1.12 have).
    """
    try:
        from dbt.task.compile import CompileTask

        changed = {
            "raise_on_first_error": lambda self: False,
            "_mark_dependent_errors": lambda self, *_: None,
        }
        if not all(hasattr(CompileTask, name) for name in changed):
            return False
    except ImportError:
        return False
    for name, method in changed.items():
        setattr(CompileTask, name, method)
    return True


def _let_go() -> None:
    """dbt-duckdb holds its file for as long as the process lives."""
    try:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    except ImportError:
        return
    DuckDBConnectionManager.close_all_connections()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), Path(sys.argv[2]))
