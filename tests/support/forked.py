"""Python programs in processes that can be killed and frozen, forked from one that has imported what runs import.

As ``python -c`` with this program, without the second that a new Python takes to import the package and its drivers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

# Imported by the server that forks, for whatever it forks.
import duckdb  # noqa: F401
import jinja2  # noqa: F401
import pyarrow.parquet  # noqa: F401
import redis  # noqa: F401
import uvicorn  # noqa: F401

import materializer.cli.materialize
import materializer.cli.serve
import materializer.materialize.job
import materializer.materialize.run
import materializer.serve.app
import materializer.serve.protocol
import materializer.store
import materializer.stream.evaluate_duckdb
import materializer.stream.explain
import materializer.stream.job
import materializer.stream.metrics
import materializer.warehouse.duckdb  # noqa: F401
from tests.support.command import environment

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class Process:
    """A program that runs in this folder, with this environment or a plain one; what `subprocess.Popen` calls its methods."""

    def __init__(self, program: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        (out, theirs), (err, their_errors) = _CONTEXT.Pipe(duplex=False), _CONTEXT.Pipe(duplex=False)
        given = (program, args, str(Path.cwd()), dict(environment() if env is None else env), theirs, their_errors)
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid
        for end in (theirs, their_errors):
            end.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno())) for end in (out, err))

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float = 60) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, f"it runs longer than {timeout} s"
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for its end, and give all that it printed and was not read yet."""
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()


def _run(
    program: str, args: tuple[str, ...], folder: str, environ: Mapping[str, str], out: Connection, err: Connection
) -> None:
    os.chdir(folder)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["-c", *args]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
