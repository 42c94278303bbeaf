"""``feature-store init``: a small dbt project that builds and materializes as it is, new or from a Feast repository;
in a dbt project that is there already, the package."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from materializer.cli.common import at_a_terminal, say
from materializer.errors import FeatureStoreError, InputError
from materializer.printable import number_of
from materializer.project import dbt_package
from materializer.project.sandbox import Sandbox
from materializer.project.settings import load_project
from materializer.project.yaml_files import load_yaml

if TYPE_CHECKING:
    from materializer.feast import Repository, Written

_TEMPLATE = Path(__file__).parent.parent / "templates" / "project"
_NAMES = re.compile(r"feature[_-]store")
_TO_ADD = """\
To make a model a feature view, name its key and its timestamp in its properties:

  models:
    - name: MODEL
      config:
        meta:
          feature_view: {entities: [KEY], timestamp: COLUMN}

Then:
  dbt deps && dbt build
  materialize
  feature-store online MODEL -e KEY=VALUE
"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The dbt project's name. Default: the folder's name, or that of Feast's project.")
@click.option(
    "--from-feast",
    "feast",
    type=click.Path(path_type=Path),
    help="Write what the Feast repository in this folder defines, or what a file of ask_feast.py says of one.",
)
@click.option(
    "--feast-python",
    "python",
    metavar="PATH",
    help="The Python in which Feast is; it runs the repository's code. Default: the one on the PATH that has Feast.",
)
def init(folder: Path, name: str | None, feast: Path | None, python: str | None) -> None:
    """Write a new dbt project with one feature view into FOLDER, or one that is equal to a Feast repository.

    Where FOLDER is a dbt project already, the dbt package is copied into it and named in its packages.yml, or renewed
    after an upgrade; no other file is touched, and what to add to a model is shown.

    \b
        feature-store init my_features
        feature-store init my_features --from-feast ../feature_repo
    """
    if feast is not None:
        from materializer.feast import from_feast

        if at_a_terminal() and feast.suffix != ".json":
            say(f"Feast reads {feast}; importing Feast takes a while ...", err=True)
        repository, written = from_feast(feast, name, python)
        write_files({folder / path: text for path, text in (written.files | _package()).items()})
        _say_from_feast(folder, repository, written)
        return
    if python:
        raise InputError("--feast-python goes with --from-feast.")
    if (folder / "dbt_project.yml").is_file():
        if name:
            raise InputError(f"{folder} is a dbt project already: leave --name out, it has one.")
        return _add_to_project(folder)
    name = name or re.sub(r"\W+", "_", folder.resolve().name).strip("_").lower()
    if not re.fullmatch(r"[a-z_]\w*", name):
        raise InputError(f"'{name}' cannot be a dbt project's name: give one with --name, of letters, digits and _.")
    written_files = scaffold(folder, name)
    say(f"Wrote {len(written_files)} files to {folder}, and the dbt package into {dbt_package.FOLDER}. Next:")
    _say_next(folder, "user_purchases -e user_id=1")
    moment = "timestamptz '2026-03-01 00:00:00+00' as event_timestamp"
    say(f'  feature-store training -f user_purchases --spine "select 1 as user_id, {moment}"')
    say("Then put your own rows in place of seeds/purchases.csv, and a model in place of models/user_purchases.sql.")


def scaffold(folder: Path, name: str) -> list[Path]:
    """Write the template project and the dbt package to `folder`; nothing is written where any of its files exists.

    Returns:
        the project's own files.


    Raises:
        InputError: naming the file that is in the way.
    """
    environment = Sandbox(keep_trailing_newline=True)
    values = {"name": name, "package": dbt_package.FOLDER}
    files = {
        folder / path.relative_to(_TEMPLATE): environment.from_string(path.read_text()).render(values)
        for path in sorted(_TEMPLATE.rglob("*"))
        if path.is_file()
    }
    write_files(files | {folder / path: text for path, text in _package().items()})
    return list(files)


def _package() -> dict[str, str]:
    return {f"{dbt_package.FOLDER}/{path}": text for path, text in dbt_package.package_files().items()}


def write_files(files: dict[Path, str]) -> None:
    """Write all of these files, or none: none where one of them exists, or where writing one fails.

    Raises:
        InputError: naming the file that is in the way, or why it cannot be written.
    """
    for path in files:
        if os.path.lexists(path):
            raise InputError(f"{path} exists already: choose another folder; nothing was written.")
    base = Path(os.path.commonpath([path.parent for path in files]))
    for path in files:
        for folder in path.parents:
            if folder.is_relative_to(base) and folder != base and folder.is_symlink():
                raise InputError(f"{folder} leads elsewhere: choose another folder; nothing was written.")
    made: list[Path] = []
    try:
        for path, text in files.items():
            missing = [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            made += [*reversed(missing), path]
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        raise InputError(
            f"{error.filename or path} cannot be written ({error.strerror}): nothing was written."
        ) from None


def _say_next(folder: Path, online: str) -> None:
    if folder.resolve() != Path.cwd():
        say(f"  cd {shlex.quote(str(folder))}")
    if not (find_spec("dbt") or shutil.which("dbt")):
        say("  pip install dbt-duckdb")
    say("  dbt deps && dbt build")
    say("  materialize")
    say(f"  feature-store online {online}")


def _say_from_feast(folder: Path, repository: Repository, written: Written) -> None:
    from materializer.feast import counts

    say(f"Feast {repository.feast} read {number_of(repository.files, 'Python file')} of {repository.folder}:")
    rows = [(kind, *map(str, numbers)) for kind, *numbers in counts(written.outcomes)]
    width = max(len(row[0]) for row in rows)
    for kind, as_is, noted, none in rows:
        say(f"  {kind.ljust(width)}  {as_is} written as they are, {noted} with notes, {none} without equal")
    say(f"Wrote {len(written.files)} files to {folder}; {folder / 'FROM_FEAST.md'} says what became of each. Next:")
    first = next((model for model in written.models if model.enabled and model.view.online), None)
    # Names of Feast's: a line to copy into a shell holds nothing that a shell would run.
    keys = " ".join(f"-e {shlex.quote(key)}=..." for key in first.keys) if first else ""
    _say_next(folder, f"{first.name} {keys}" if first else "VIEW -e KEY=VALUE")


# In a dbt project that is there already: the package and its line; the rest is shown.


def _add_to_project(folder: Path) -> None:
    """Copy the dbt package into the project and name it in packages.yml; no line of the user's is changed.

    Raises:
        InputError: where a file cannot be read or written.
    """
    try:
        _add(folder)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be written ({error.strerror}).") from None


def _add(folder: Path) -> None:
    path, text, entries = _packages(folder)
    copy = folder / dbt_package.FOLDER
    for written in (path, copy.parent, copy):
        if written.is_symlink():
            raise InputError(f"{written} leads elsewhere: put a file or folder of its own there; nothing was written.")
    named = next((entry for entry in entries if _NAMES.search(str(entry))), None)
    if named is not None and "local" not in named:
        say(f"{path.name} names the dbt package already ({_shown(named)}): nothing was written.")
    else:
        renewed = dbt_package.renew_copy(folder)
        say(f"{'Wrote the dbt package to' if renewed else 'The dbt package is up to date in'} {copy}: commit it.")
        if named is None:
            _add_line(path, text, entries)
        elif str(named["local"]).rstrip("/") != dbt_package.FOLDER:
            say(f"Put `{dbt_package.LINE}` in place of `- {_shown(named)}` in {path.name}: it holds everywhere.")
    ignore = folder / ".gitignore"
    if not ignore.is_file() or ".feature_store" not in ignore.read_text():
        say("Add `*.feature_store/` to .gitignore: what materialize remembers lies there, beside a DuckDB file.")
    say()
    for line in _TO_ADD.splitlines():
        say(line)
    if (kind := _warehouse(folder)) not in (None, "duckdb"):
        say(f"The profile's target is a {kind} warehouse: today this release reads DuckDB alone.", err=True)


def _packages(folder: Path) -> tuple[Path, str, list[Any]]:
    """The file that names packages (dependencies.yml where that one does), its text, and the packages."""
    for name in ("dependencies.yml", "packages.yml"):
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text()
        try:
            content = load_yaml(text) or {}
            entries = content.get("packages") or []
            if name == "packages.yml" or "packages" in content:
                return path, text, [entry for entry in entries if isinstance(entry, dict)]
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
            raise InputError(f"{path} cannot be read: it is no YAML file of packages; nothing was written.") from None
    return folder / "packages.yml", "", []


def _add_line(path: Path, text: str, entries: list[Any]) -> None:
    """Add the package's line, or show it where the file is not written as a plain list."""
    head = re.search(r"^packages:[ \t]*(?:#.*)?\n(?=(?:[ \t]*(?:#.*)?\n)*([ \t]*)- )", text, re.MULTILINE)
    if head:
        new = f"{text[: head.end()]}{head[1]}{dbt_package.LINE}\n{text[head.end() :]}"
    else:
        new = f"{text.rstrip()}\n\npackages:\n  {dbt_package.LINE}\n".lstrip()
    before = load_yaml(text) or {}
    if not head and "packages" in before:
        new = ""
    wanted = {**before, "packages": [{"local": dbt_package.FOLDER}, *entries]}
    if len(entries) != len(before.get("packages") or []) or _read(new) != wanted:
        say(f"Add this to the packages in {path.name}:")
        say(f"  {dbt_package.LINE}")
        return
    path.write_text(new)
    say(f"Added `{dbt_package.LINE}` to {path.name}.")


def _read(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return None


def _shown(entry: dict[str, Any]) -> str:
    name, value = next(iter(entry.items()))
    return f"{name}: {value}"


def _warehouse(folder: Path) -> str | None:
    """The kind of warehouse of the project's default target, None where its profile cannot be read."""
    try:
        return str(load_project(folder).connection.get("type"))
    except FeatureStoreError:
        return None
