"""A Feast repository's files: ``feature_store.yaml``, and the objects that its Python makes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from materializer.errors import InputError
from materializer.feast.evaluate import Evaluator
from materializer.feast.values import Made, Namespace, Projection
from materializer.project.yaml_files import load_yaml

_IGNORED = (".git", ".venv", "venv", "site-packages", "node_modules", "__pycache__", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Files:
    """What was found: the settings, and the objects in the order in which the files make them."""

    folder: Path
    settings: dict[str, Any]
    objects: tuple[Made, ...]
    # Those that only a list or a call holds: Feast registers what a module has a name for.
    unnamed: frozenset[int]
    count: int
    unread: tuple[str, ...]
    environment: dict[str, bool]


def read_files(path: Path) -> Files:
    """Read a repository as ``feast apply`` would find it, without running it.

    Args:
        path: its folder, or its ``feature_store.yaml``.

    Raises:
        InputError: where it is none, or a file of it is no Python.
    """
    folder = (path.parent if path.name == "feature_store.yaml" else path).expanduser().resolve()
    settings = _settings(folder)
    evaluator = Evaluator(folder)
    files = list(_python_files(folder))
    objects: dict[int, Made] = {}
    named: set[int] = set()
    for file in files:
        for name, value in evaluator.module(file).items():
            for made in _objects(value):
                objects.setdefault(id(made), made)
                if value is made and not name.startswith("__"):
                    named.add(id(made))
    for made in _objects(evaluator.applied):
        objects.setdefault(id(made), made)
        named.add(id(made))
    ordered = sorted(objects.values(), key=lambda made: _place(made.where))
    return Files(
        folder=folder,
        settings=settings,
        objects=tuple(ordered),
        unnamed=frozenset(key for key in objects if key not in named),
        count=len(files),
        unread=tuple(str(unknown) for unknown in evaluator.unread),
        environment=evaluator.environment,
    )


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "feature_store.yaml"
    if not path.is_file():
        below = sorted(found.parent for found in folder.glob("*/feature_store.yaml"))[:3] if folder.is_dir() else []
        hint = f"; there is one in {' and '.join(map(str, below))}" if below else ""
        raise InputError(f"There is no feature_store.yaml in {folder}, so it is no Feast repository{hint}.")
    try:
        settings = load_yaml(path.read_text())
    except yaml.MarkedYAMLError as error:
        # Not the error's own text: that quotes the line, which may hold a password.
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise InputError(f"{path} cannot be read: {error.problem}{line}.") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        raise InputError(f"{path} cannot be read: it is no YAML file.") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} is not a mapping, as Feast wants it: it has no project.")
    return settings


def _python_files(folder: Path) -> Iterator[Path]:
    """The files that Feast imports: all below the folder but those that ``.feastignore`` names and ``__init__.py``."""
    ignored: set[Path] = set()
    ignore = folder / ".feastignore"
    if ignore.is_file():
        for line in ignore.read_text().splitlines():
            pattern = line.partition("#")[0].strip().strip("/")
            inside = pattern and ".." not in Path(pattern).parts
            for path in folder.glob(pattern) if inside else ():
                ignored |= {path} if path.is_file() else set(path.rglob("*.py"))
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _IGNORED)
        for name in sorted(names):
            path = Path(root) / name
            inside = path.resolve().is_relative_to(folder)  # a link may lead anywhere
            if name.endswith(".py") and name != "__init__.py" and path not in ignored and inside:
                yield path.resolve()


def _objects(value: Any, depth: int = 0) -> Iterator[Made]:
    if depth > 20:
        return
    match value:
        case Made():
            yield value
        case Projection():
            yield value.view
        case Namespace():
            return  # a module of its own, or a class: read where it stands
        case dict():
            for item in value.values():
                yield from _objects(item, depth + 1)
        case list() | tuple() | set():
            for item in value:
                yield from _objects(item, depth + 1)


def _place(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(re.sub(r"\D", "", line) or 0)
