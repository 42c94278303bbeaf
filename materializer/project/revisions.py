"""A dbt project as it was at a git revision: checked out beside, compiled there, and cleared away again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from materializer.errors import ProjectError, WarehouseError
from materializer.project.dbt_process import run_dbt
from materializer.project.git import run_git
from materializer.project.settings import Project
from materializer.project.yaml_files import load_yaml, project_setting

Opened = Callable[[Project], AbstractContextManager[object]]
# What dbt writes of what it has read; ours is of other flags than the user's own runs.
_STATE = "partial_parse.msgpack"
_KEPT = f"feature_store_{_STATE}"
_PACKAGE_FILES = ("packages.yml", "dependencies.yml")


@dataclass(frozen=True)
class Compiled:
    """A manifest that dbt just made, and what dbt said where it failed."""

    manifest: dict[str, Any]
    errors: tuple[str, ...] = ()


def commit_of(folder: Path, revision: str) -> str | None:
    """The commit that a revision names in the repository around `folder`; None where there is none."""
    asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    try:
        return _git(folder, *asked).strip() or None
    except ProjectError:
        return None


def repository_of(folder: Path) -> Path:
    """The top folder of the git repository around a folder.

    Raises:
        ProjectError: where there is none, or no git.
    """
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").strip()).resolve()
    except ProjectError as error:
        raise ProjectError(f"There is no git repository to look into: {error}") from None


def compile_all(
    project: Project,
    commits: Sequence[tuple[str, str] | None],
    opened: Opened,
    unwanted: Callable[[], bool] = lambda: False,
) -> tuple[list[Compiled], list[str]]:
    """The manifests of a project at some commits, and notes; None stands for the working tree as it is.

    The warehouse is asked for the columns of its relations, nothing is written to it; without a DuckDB file that is
    there and free, an empty one in memory answers. Nothing is written to the working tree, but for what dbt knows of
    the files in it, into the target folder; nor to the index.

    Args:
        commits: revisions as the user named them, each with its commit.
        opened: opens the project's warehouse, or says in a `WarehouseError` why it cannot be.
        unwanted: see `run_dbt`.

    Raises:
        ProjectError: where the project was not there, or dbt cannot read it.
    """
    with ExitStack() as cleared:
        room = Path(cleared.enter_context(tempfile.TemporaryDirectory(prefix="feature-store-diff-"))).resolve()
        home, profiles_dir, notes = _warehouse_untouched(project, room, opened)
        jobs, targets = [], []
        for number, commit in enumerate(commits):
            folder = project.folder
            commands = []
            if commit is not None:
                folder = cleared.enter_context(_checked_out(project.folder, commit, room / f"tree{number}"))
                if not _linked_packages(project.folder, folder):
                    commands.append("deps")
            targets.append(room / f"target{number}")
            common = [
                "--project-dir", str(folder), "--profiles-dir", str(profiles_dir), "--profile", project.profile,
                "--target", project.target, "--vars", json.dumps(project.variables),
                "--target-path", str(targets[-1]), "--log-path", str(room / "logs"),
                "--quiet", "--log-level-file", "none", "--no-send-anonymous-usage-stats", "--no-version-check",
            ]  # fmt: skip
            compiling = [
                "compile", *common, "--partial-parse" if commit is None else "--no-partial-parse",
                # The whole definition of an incremental model, not what its next run would add.
                "--full-refresh",
                "--select", "resource_type:model", "resource_type:snapshot",
            ]  # fmt: skip
            jobs.append([*([command, *common] for command in commands), compiling])
            if commit is None:
                targets[-1].mkdir()
                _copied(project.target_folder / _KEPT, targets[-1] / _STATE)
        answers = run_dbt(jobs, home, unwanted)
        made = []
        for target, errors, commit in zip(targets, answers, commits, strict=True):
            if not (target / "manifest.json").is_file():
                why = errors[0].rstrip(".") if errors else "it gave no manifest"
                where = commit[0] if commit else "the working tree"
                raise ProjectError(f"dbt cannot read the project at {where}: {why}.")
            if commit is None:
                _copied(target / _STATE, project.target_folder / _KEPT)
            made.append(Compiled(json.loads((target / "manifest.json").read_bytes()), tuple(errors)))
        return made, notes


def _copied(source: Path, to: Path) -> None:
    """What dbt knows of files that it has read, which it compares with them as they are; without it, it reads all."""
    begun = to.with_name(f"{to.name}.{os.getpid()}")
    with suppress(OSError):
        try:
            shutil.copyfile(source, begun)
            begun.replace(to)
        finally:
            begun.unlink(missing_ok=True)


@contextmanager
def _checked_out(folder: Path, commit: tuple[str, str], tree: Path) -> Iterator[Path]:
    """The project's folder at a commit, in a worktree that is removed at the end, whatever happens."""
    top = repository_of(folder)
    name, sha = commit
    try:
        _git(top, "worktree", "add", "--detach", "--quiet", str(tree), sha)
        there = tree / folder.relative_to(top)
        if not (there / "dbt_project.yml").is_file():
            where = (there / "dbt_project.yml").relative_to(tree)
            raise ProjectError(f"The repository has no {where} at {name}.")
        yield there
    finally:
        for clearing in (("remove", "--force", str(tree)), ("prune",)):
            with suppress(ProjectError):  # it was not made, or is gone; the folder goes with its parent
                _git(top, "worktree", *clearing)


def _git(folder: Path, *args: str) -> str:
    try:
        return run_git(folder, *args, timeout=None)
    except OSError:
        raise ProjectError("git is not installed.") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise ProjectError(f"git {args[0]} failed in {folder}: {last}") from None


def _linked_packages(folder: Path, there: Path) -> bool:
    """Make the packages that the user has installed those of the checked-out project; False where it needs others.

    A local package that lies in the repository is the revision's own.
    """
    files = {name: _text(there / name) for name in _PACKAGE_FILES}
    if not any(files.values()):
        return True
    installed, wanted = (
        place / project_setting(place, "packages-install-path", "dbt_packages") for place in (folder, there)
    )
    if wanted.exists():
        return True
    if not installed.is_dir() or files != {name: _text(folder / name) for name in _PACKAGE_FILES}:
        return False
    top = repository_of(folder)
    depth = len(folder.relative_to(top).parts)
    tree = there.parents[depth - 1] if depth else there
    wanted.mkdir(parents=True)
    for package in installed.iterdir():
        place = package.resolve()
        own = tree / place.relative_to(top) if place.is_relative_to(top) else place
        (wanted / package.name).symlink_to(own if own.exists() else place)
    return True


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _warehouse_untouched(project: Project, room: Path, opened: Opened) -> tuple[Path, Path, list[str]]:
    """Where to run dbt and with which profiles folder, so that a DuckDB file is opened read-only; and notes.

    A relative path in a profile follows the folder where dbt runs. Other warehouses are only read by ``dbt compile``.
    """
    if project.connection.get("type") != "duckdb" or str(project.connection.get("path")).startswith("md:"):
        return project.folder, project.profiles_path.parent, []
    notes = []
    built = project.database_file is not None and project.database_file.is_file()
    homes = [project.working_folder] if built else []
    try:
        with opened(project):
            pass
    except WarehouseError as error:
        notes = [f"Models were compiled against an empty warehouse. {error}"] if homes else []
        homes = []
    content = load_yaml(project.profiles_path.read_text(encoding="utf-8"))
    output = content[project.profile]["outputs"][project.target]
    if homes:
        output["config_options"] = {**(output.get("config_options") or {}), "access_mode": "READ_ONLY"}
        for attached in output.get("attach") or ():
            attached["read_only"] = True
            kind, colon, path = str(attached.get("path")).rpartition(":")
            if kind in ("", "duckdb", "ducklake", "sqlite") and "{{" not in path:
                attached["path"] = f"{kind}{colon}{project.resolve(path)}"  # wherever it stands beside the project
    else:
        output["path"] = ":memory:"
        output.pop("database", None)  # it has to be called as the file is
    (room / "profiles").mkdir(mode=0o700)
    with open(os.open(room / "profiles" / "profiles.yml", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:  # noqa: PTH123
        yaml.safe_dump(content, file)
    return (homes or [project.folder])[0], room / "profiles", notes
