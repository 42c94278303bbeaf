"""Small dbt projects for tests: written to a folder, built in this process by the real dbt."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import pprint
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack
import yaml

from materializer.project import dbt_process
from tests.support.once import once

PACKAGE = Path(__file__).resolve().parents[2]


class DbtFailed(AssertionError):
    """dbt said no; the message holds everything it logged at error level."""


@dataclass(frozen=True)
class DbtProject:
    """A dbt project on a DuckDB file that uses the package of this repository.

    Its project name is ``shop``, its target ``dev``, its warehouse ``<folder>/warehouse.duckdb``.
    """

    folder: Path

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def write(self, files: dict[str, Any]) -> None:
        """Write files by relative path; a value that is not text becomes YAML."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))

    def dbt(self, *args: str) -> Any:
        """Run one dbt command, for example ``project.dbt("build")``; returns dbt's result object.

        Raises:
            DbtFailed: where dbt fails, with its messages.
        """
        _import_dbt()
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        messages: list[str] = []

        def keep(event: Any) -> None:
            if event.info.level in ("error", "warn"):
                messages.append(event.info.msg)

        runner = dbtRunner(callbacks=[keep])
        before = Path.cwd()
        os.chdir(self.folder)  # what a profile names by a relative path lies there, not in this repository
        try:
            result = runner.invoke(
                [*args, "--project-dir", str(self.folder), "--profiles-dir", str(self.folder), "--quiet"]
            )
        finally:
            os.chdir(before)
            # dbtRunner keeps the file open (and locked) until told otherwise.
            DuckDBConnectionManager.close_all_connections()
        if not result.success:
            raise DbtFailed("\n".join(messages) or str(result.exception))
        return result

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "target" / "manifest.json").read_text())

    def compiled(self, model: str) -> str:
        """The compiled SQL of a model of this project."""
        (path,) = (self.folder / "target" / "compiled" / "shop").rglob(f"{model}.sql")
        return path.read_text()


def make_project(
    folder: Path, files: dict[str, Any] | None = None, variables: dict[str, Any] | None = None
) -> DbtProject:
    """A new project in `folder` with the package installed (``dbt deps`` offline, by a local path).

    dbt has read its own macros and the package's already, as in every run but a user's first.
    """
    project = _written(folder, files or {}, variables)
    install(project)
    return project


def install(project: DbtProject) -> None:
    """``dbt deps``, and what dbt reads in every project already read."""
    project.dbt("deps")
    bare = DbtProject(once("bare", _parse))
    state, known = (bare.folder / _STATE).read_bytes(), _known_by(bare)
    assert known.profile.encode() in state and known.settings.encode() in state, "dbt asks something else now"
    _go_on(project, bare)


def _parse(folder: Path) -> None:
    project = _written(folder, {})
    project.dbt("deps")
    project.dbt("parse")


def copy_of(project: DbtProject, folder: Path) -> DbtProject:
    """A copy of a project, warehouse and manifest included, that keeps the files' times."""
    shutil.copytree(project.folder, folder, symlinks=True)
    copy = DbtProject(folder)
    profiles = folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace(str(project.folder), str(folder)))
    for state in (_STATE, _OUR_STATE):
        if (folder / state).exists():
            _go_on(copy, project, state)
    return copy


def run_dbt_here(
    jobs: Sequence[Sequence[Sequence[str]]], folder: Path, unwanted: Callable[[], bool] = lambda: False
) -> list[list[str]]:
    """`materializer.project.dbt_process.run_dbt` in this process, where dbt is imported and has read its macros.

    A thread beside a test has a process of its own, as dbt runs once at a time in one.
    """
    if threading.current_thread() is not threading.main_thread():
        return dbt_process.run_dbt(jobs, folder, unwanted)
    _import_dbt()
    from dbt.task.compile import CompileTask

    led_elsewhere = {f"DBT_{place}" for place in dbt_process._PLACES}
    environment = {name: value for name, value in os.environ.items() if name not in led_elsewhere}
    with (
        tempfile.TemporaryDirectory() as room,
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.multiple(CompileTask, raise_on_first_error=mock.DEFAULT, _mark_dependent_errors=mock.DEFAULT),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        asked, answered = Path(room, "jobs.json"), Path(room, "answers.json")
        asked.write_text(json.dumps(jobs))
        dbt_process._work(asked, answered)
        return json.loads(answered.read_text())


@cache
def _import_dbt() -> None:
    """Import it once; let it write the manifest, twice a run, by the encoder of JSON that is not written in Python, and
    keep what it has parsed of macros, as for dbt's own tests."""
    import dbt.cli.main  # noqa: F401
    from dbt.artifacts.schemas import base
    from dbt_common.tests import enable_test_caching
    from dbt_common.utils.encoding import JSONEncoder

    enable_test_caching()

    def write_json(path: str, data: dict[str, Any]) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(data, cls=JSONEncoder), encoding="utf-8")

    assert hasattr(base, "write_json"), "dbt writes its artifacts in another way now"
    base.write_json = write_json
    _write_the_manifest_once()
    gc.freeze()  # what dbt's modules hold is never garbage, and a fifth of a run went into looking


def _write_the_manifest_once() -> None:
    """dbt writes it when it has parsed and again at the end of a run: the first is written only where no second follows,
    and both take the thousand macros, which do not change in between, from one reading."""
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.nodes import Macro
    from dbt.parser import manifest as parsing
    from dbt.task import runnable

    write, invoke, to_resource = parsing.write_manifest, dbtRunner.invoke, Macro.to_resource
    assert runnable.write_manifest is write, "dbt writes its manifest in another way now"
    parsed: dict[str, Any] = {}

    def after_parsing(manifest: Any, folder: str, which: str | None = None) -> None:
        parsed[folder] = manifest.writable_manifest()

    def after_a_run(manifest: Any, folder: str, which: str | None = None) -> None:
        write(manifest, folder, which)
        parsed.pop(folder, None)

    def invoked(self: Any, *args: Any, **kwargs: Any) -> Any:
        gc.disable()  # a run's objects are garbage at its end, not before
        try:
            return invoke(self, *args, **kwargs)
        finally:
            gc.enable()
            while parsed:
                folder, manifest = parsed.popitem()
                manifest.write(str(Path(folder, "manifest.json")))

    def resource_of(self: Any) -> Any:
        if "_resource" not in self.__dict__:
            self.__dict__["_resource"] = to_resource(self)
        return self.__dict__["_resource"]

    parsing.write_manifest, runnable.write_manifest = after_parsing, after_a_run
    dbtRunner.invoke, Macro.to_resource = invoked, resource_of


_STATE = "target/partial_parse.msgpack"
_OUR_STATE = "target/feature_store_partial_parse.msgpack"


def _go_on(project: DbtProject, source: DbtProject, kept: str = _STATE) -> None:
    """Let dbt go on from what it read in `source`, though the names, the connection and the variables are others."""
    state = (source.folder / kept).read_bytes()
    own, other = _known_by(project), _known_by(source)
    if (own.name, own.database) == (other.name, other.database):
        state = state.replace(other.profile.encode(), own.profile.encode())
        state = state.replace(other.settings.encode(), own.settings.encode())
    else:
        read = msgpack.unpackb(state)
        read["state_check"]["profile_hash"]["checksum"] = own.profile
        read["state_check"]["project_hashes"][own.name] = {"name": "sha256", "checksum": own.settings}
        for node in read["nodes"].values():
            node["database"] = own.database
            node["relation_name"] = (node["relation_name"] or "").replace(f'"{other.database}"', f'"{own.database}"')
        state = msgpack.packb(read)
    project.folder.joinpath("target").mkdir(exist_ok=True)
    (project.folder / kept).write_bytes(state)


def go_on_as(project: DbtProject, name: str, build: Callable[[Path], object]) -> None:
    """Let dbt go on from what it read in the session's project `name`, whose connection is the same and whose settings are not."""
    bare = DbtProject(once(name, build))
    own, other = (
        hashlib.sha256((one.folder / "dbt_project.yml").read_bytes()).hexdigest().encode() for one in (project, bare)
    )
    state = (bare.folder / _STATE).read_bytes()
    assert other in state, "dbt asks something else now"
    (project.folder / _STATE).write_bytes(state.replace(other, own))


@dataclass(frozen=True)
class _Known:
    """What dbt asks for to see whether all has to be read anew: digests of the connection and of ``dbt_project.yml``."""

    name: str
    database: str
    profile: str
    settings: str


def _known_by(project: DbtProject) -> _Known:
    from dbt.adapters.duckdb.credentials import DuckDBCredentials

    text = (project.folder / "dbt_project.yml").read_text()
    settings = yaml.safe_load(text)
    profile = yaml.safe_load((project.folder / "profiles.yml").read_text())[settings["profile"]]
    path = profile["outputs"][profile["target"]]["path"]
    credentials = DuckDBCredentials(database=Path(path).stem, schema="main", path=path)
    asked = [pprint.pformat(sorted(credentials.connection_info())), text]
    digests = (hashlib.sha256(one.encode()).hexdigest() for one in asked)
    return _Known(settings["name"], credentials.database, *digests)


def _written(folder: Path, files: dict[str, Any], variables: dict[str, Any] | None = None) -> DbtProject:
    project = DbtProject(folder)
    project.write(
        {
            "dbt_project.yml": {
                "name": "shop",
                "version": "1.0.0",
                "config-version": 2,
                "profile": "shop",
                "packages-install-path": ".dbt_packages",
                "flags": {"send_anonymous_usage_stats": False, "use_colors": False, "log_level_file": "info"},
                "vars": variables or {},
            },
            "packages.yml": {"packages": [{"local": str(PACKAGE)}]},
            "profiles.yml": {
                "shop": {
                    "target": "dev",
                    "outputs": {"dev": {"type": "duckdb", "path": str(project.warehouse), "threads": 2}},
                }
            },
            **files,
        }
    )
    return project
