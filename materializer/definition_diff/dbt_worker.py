"""A process of its own that compiles dbt projects: ``python -m materializer.definition_diff.dbt_worker jobs.json``.

dbt keeps global state, writes on stdout and holds its connections; none of that may reach the caller's process. The
answers are written beside the jobs, one list of error messages for each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Run each job's dbt commands in turn, up to the first that fails."""
    from dbt.cli.main import dbtRunner

    _compile_all_that_compiles()
    answers = []
    for commands in json.loads(path.read_text()):
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
                break
            messages.clear()
        _let_go()
        answers.append([" ".join(message.split()) for message in messages if "Traceback (most" not in message])
    path.with_name("answers.json").write_text(json.dumps(answers))


def _compile_all_that_compiles() -> None:
    """``dbt compile`` ends at the first model that fails; here the others are wanted all the same."""
    try:
        from dbt.task.compile import CompileTask
    except ImportError:
        return
    CompileTask.raise_on_first_error = lambda self: False
    CompileTask._mark_dependent_errors = lambda self, *_: None


def _let_go() -> None:
    """dbt-duckdb holds its file for as long as the process lives."""
    try:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    except ImportError:
        return
    DuckDBConnectionManager.close_all_connections()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
