"""``feature-store init`` in a dbt project that is there already: the package and its line; the rest is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from materializer.cli.common import say
from materializer.errors import FeatureStoreError, InputError
from materializer.project import dbt_package
from materializer.project.settings import load_project
from materializer.project.yaml_files import load_yaml

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


def add_to_project(folder: Path) -> None:
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
