"""What reading a repository's Python gives: plain values, Feast's objects as they are made, and what stays unknown."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

_LARGEST = 100_000


@dataclass(frozen=True)
class Unknown:
    """A value that reading the code does not give: why, and where (``features.py:12``)."""

    reason: str
    where: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.where})"


@dataclass(frozen=True)
class Rest(Unknown):
    """Any number of unknown elements of a list, or keys of a dict."""


@dataclass(frozen=True)
class Name:
    """Something from outside the repository, by its dotted name: ``feast.types.Int64``, ``os.path.join``."""

    dotted: str

    @property
    def last(self) -> str:
        return self.dotted.rpartition(".")[2]

    @property
    def of_feast(self) -> bool:
        """Whether it comes from Feast or one of its plugins."""
        return self.dotted.startswith("feast")


@dataclass(eq=False)
class Made:
    """One call of a class of Feast's: an Entity, a FeatureView, a Field, a source."""

    kind: str
    settings: dict[str, Any]
    where: str
    # The text of the Python function that a decorator stands over, and its name.
    code: str = ""
    function: str = ""


@dataclass(frozen=True, eq=False)
class Projection:
    """A view as a service takes it: some of its features, under another name, by other join keys."""

    view: Made
    features: Any = None
    name: Any = None
    join_key_map: Any = field(default_factory=dict)


@dataclass(eq=False)
class Scope:
    """The names of a module or of a call, those around them, and those that it says are `global` or `nonlocal`."""

    names: dict[str, Any]
    path: Path
    outer: Scope | None = None
    elsewhere: dict[str, Scope] = field(default_factory=dict)
    # Names that a function sets somewhere: until then they have no value, whatever is around it.
    own: frozenset[str] = frozenset()

    def assign(self, name: str, value: Any) -> None:
        """Give a name its value, where it belongs."""
        self.elsewhere.get(name, self).names[name] = value

    def module(self) -> Scope:
        """The scope of the module."""
        return self if self.outer is None else self.outer.module()

    def find(self, name: str) -> Any:
        """The value of a name.

        Raises:
            KeyError: where it has none.
        """
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            if name in scope.own and name not in scope.elsewhere:
                break
            scope = scope.outer
        raise KeyError(name)


@dataclass(eq=False)
class Function:
    """A function of the repository, to be read when it is called."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    defaults: dict[str, Any]


@dataclass(frozen=True)
class Member:
    """A member of an Enum. One that is a text or number too (``class Team(str, Enum)``) is `plain`."""

    owner: int
    name: str
    value: Any
    plain: bool


@dataclass(eq=False)
class Namespace:
    """A module or a class of the repository: its names are its attributes."""

    names: dict[str, Any]


def project(view: Made | Projection, **changes: Any) -> Projection:
    """A view or a projection of one, otherwise projected."""
    return replace(view if isinstance(view, Projection) else Projection(view), **changes)


def unknown_in(values: Any, seen: set[int] | None = None) -> Unknown | None:
    """The first value that is unknown, also inside lists and dicts."""
    if isinstance(values, Unknown):
        return values
    seen = set() if seen is None else seen
    if not isinstance(values, (list, tuple, set, dict)) or id(values) in seen:
        return None
    # A list may be in another more than once, and in itself.
    seen.add(id(values))
    items = [*values.keys(), *values.values()] if isinstance(values, dict) else values
    return next((found for item in items if (found := unknown_in(item, seen))), None)


def rest_of(value: Any) -> Unknown | None:
    """Why it is not known how much a list or dict holds; None where it is."""
    if isinstance(value, Unknown):
        return value
    if isinstance(value, (list, tuple, set, dict)):
        return next((item for item in value if isinstance(item, Rest)), None)
    return None


def truth(value: Any) -> bool | Unknown:
    """Whether Python takes a value for true, as far as that is known."""
    if isinstance(value, Name):
        return Unknown(f"asks for {value.dotted}", "")
    return rest_of(value) or bool(value)


def blank(value: Any, why: Unknown) -> None:
    """Nothing is known any more of what a list, dict or set holds, whoever has it."""
    rest = Rest(why.reason, why.where)
    if isinstance(value, list):
        value[:] = [rest]
    elif isinstance(value, set):
        value.clear()
        value.add(rest)
    elif isinstance(value, dict):
        value.clear()
        value[rest] = rest


def is_plain(value: Any) -> bool:
    """Whether a value is made of text, numbers, lists and the like alone, and of not too many of them."""
    return _size(value, {}) <= _LARGEST


def _size(value: Any, sizes: dict[int, float]) -> float:
    """Of how many plain values a value is made, also where it has a list more than once; infinite for others."""
    if isinstance(value, (list, tuple, set, dict)):
        if id(value) not in sizes:
            sizes[id(value)] = math.inf  # where it holds itself
            items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(_size(item, sizes) for item in items)
        return sizes[id(value)]
    plain = isinstance(value, (str, bytes, int, float, type(None), range, slice, Path, timedelta, type(...)))
    return 1 if plain else math.inf


class Returned(Exception):
    """A function's `return`."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Raised(Exception):
    """An error that Python would raise: its name (``KeyError``), and why."""

    def __init__(self, name: str, why: Unknown) -> None:
        self.name = name
        self.why = why


class Left(Exception):
    """`break` or `continue`."""

    def __init__(self, loop: bool) -> None:
        self.loop = loop


class Lost(Exception):
    """A `return`, `break` or `continue` that may or may not be taken: what follows it is not known either."""

    def __init__(self, why: Unknown, loop: bool) -> None:
        self.why = why
        self.loop = loop


class TooLong(Exception):
    """The code goes on for longer than a repository's definitions do."""
