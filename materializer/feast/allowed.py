"""The functions and methods that may run while a repository is read: of plain values, without effect on anything."""

from __future__ import annotations

import itertools
import json
import operator
import os
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from materializer.feast.values import Made
from materializer.project.yaml_files import load_yaml

# A value longer than this was not meant: it is left unknown.
LONGEST = 1_000_000

_METHODS = {
    str: (
        "capitalize count endswith find format index isdigit join lower lstrip partition removeprefix removesuffix "
        "replace rpartition rsplit rstrip split splitlines startswith strip title upper"
    ),
    list: "append copy count extend index insert pop remove reverse sort",
    tuple: "count index",
    dict: "copy get items keys pop setdefault update values",
    set: "add copy difference discard intersection union update",
    timedelta: "total_seconds",
    Path: (
        "absolute as_posix exists expanduser is_dir is_file joinpath open read read_text relative_to resolve with_name "
        "with_suffix"
    ),
}
METHODS = {kind: frozenset(names.split()) for kind, names in _METHODS.items()}
ATTRIBUTES: dict[type, frozenset[str]] = {
    Path: frozenset(("name", "parent", "parents", "parts", "stem", "suffix")),
    timedelta: frozenset(("days", "microseconds", "seconds")),
}
# These change nothing of what they are called on.
READERS = frozenset(("copy", "count", "difference", "get", "index", "intersection", "items", "keys", "union", "values"))
# These may be given unknown elements, and these even any number of them: they are in the result as they were.
KEEP_ELEMENTS = frozenset(("dict", "enumerate", "itertools.chain.from_iterable", "len", "reversed", "zip"))
KEEP_ALL = frozenset(("copy.copy", "copy.deepcopy", "itertools.chain", "list", "tuple", "typing.cast"))

BUILTINS: dict[str, Callable[..., Any]] = {
    "all": all,
    "any": any,
    "bool": bool,
    "dict": dict,
    "enumerate": lambda *a: list(enumerate(*a)),
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "print": lambda *a, **k: None,
    "range": range,
    "repr": repr,
    "reversed": lambda value: list(reversed(value)),
    "round": round,
    "set": set,
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "tuple": tuple,
    "zip": lambda *a, **k: list(zip(*a, **k)),  # noqa: B905 - as the repository has it
}

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "BitOr": operator.or_,
    "BitAnd": operator.and_,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Is": operator.is_,
    "IsNot": operator.is_not,
    "In": lambda left, right: left in right,
    "NotIn": lambda left, right: left not in right,
    "Not": operator.not_,
    "USub": operator.neg,
    "UAdd": operator.pos,
}


def functions(root: Path) -> dict[str, Callable[..., Any]]:
    """The functions of other packages that may be called, by dotted name. The working folder is the repository's, as
    it is for ``feast apply``."""

    def absolute(path: Any) -> str:
        return os.path.normpath(root / path)

    def opened(path: Any, *args: Any, **settings: Any) -> Path:
        """A file of the repository, which stands for itself while it is open."""
        found = Path(absolute(path)).resolve()
        if not found.is_relative_to(root):
            raise PermissionError(f"{path} is no file of the repository")
        return found

    def content(path: Any) -> str:
        return opened(path).read_text() if isinstance(path, Path) else path

    return {
        "copy.copy": lambda value: _copied(value, deep=False),
        "copy.deepcopy": lambda value: _copied(value, deep=True),
        "datetime.timedelta": timedelta,
        "dotenv.load_dotenv": lambda *a, **k: None,
        "google.protobuf.duration_pb2.Duration": lambda seconds=0, nanos=0: timedelta(
            seconds=seconds, microseconds=nanos // 1000
        ),
        "itertools.chain": lambda *a: list(itertools.chain(*a)),
        "itertools.chain.from_iterable": lambda a: list(itertools.chain.from_iterable(a)),
        "json.load": lambda file: json.loads(content(file)),
        "json.loads": json.loads,
        "open": opened,
        "os.fspath": os.fspath,
        "os.getcwd": lambda: str(root),
        "os.path.abspath": absolute,
        "os.path.basename": os.path.basename,
        "os.path.dirname": os.path.dirname,
        "os.path.exists": lambda path: (root / path).exists(),
        "os.path.expanduser": os.path.expanduser,
        "os.path.isfile": lambda path: (root / path).is_file(),
        "os.path.join": os.path.join,
        "os.path.normpath": os.path.normpath,
        "os.path.realpath": absolute,
        "pathlib.Path": Path,
        "pathlib.Path.cwd": lambda: root,
        "pathlib.Path.home": Path.home,
        "pathlib.PurePath": Path,
        "textwrap.dedent": textwrap.dedent,
        "typing.cast": lambda _, value: value,
        "yaml.load": lambda file, *a, **k: load_yaml(content(file)),
        "yaml.safe_load": lambda file: load_yaml(content(file)),
    }


def too_long(value: Any) -> bool:
    """Whether a value is longer than anything a repository says."""
    return isinstance(value, (str, list, tuple, dict, set, range)) and len(value) > LONGEST


def _copied(value: Any, deep: bool) -> Any:
    """A list, dict, set or object of Feast's once more."""
    if isinstance(value, Made):
        return replace(value, settings=_copied(value.settings, deep))
    if isinstance(value, dict):
        return {key: _copied(item, deep) if deep else item for key, item in value.items()}
    if isinstance(value, (list, set)):
        return type(value)(_copied(item, deep) if deep else item for item in value)
    return value
