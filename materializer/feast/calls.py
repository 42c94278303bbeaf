"""Calls in a repository's Python: of its own functions, of plain ones that are safe, and of Feast's classes, kept."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from materializer.feast import allowed
from materializer.feast.effects import own_names
from materializer.feast.values import (
    Function,
    Lost,
    Made,
    Member,
    Name,
    Namespace,
    Projection,
    Raised,
    Rest,
    Returned,
    Scope,
    TooLong,
    Unknown,
    blank,
    is_plain,
    project,
    rest_of,
    truth,
    unknown_in,
)

_COLLECTIONS = (list, tuple, dict, set, range, str)
_DEPTH = 40
# The order of those arguments that older code gives without names.
_POSITIONAL = {
    "Array": ("base_type",),
    "Entity": ("name", "value_type", "description"),
    "Feature": ("name", "dtype"),
    "FeatureService": ("name", "features"),
    "FeatureView": ("name", "entities", "ttl"),
    "Field": ("name", "dtype"),
    "RequestDataSource": ("name", "schema"),
    "RequestSource": ("name", "schema"),
    "Set": ("base_type",),
    "Struct": ("fields",),
}


class Calls:
    """The calls of one repository. Expressions and statements are the concern of the classes above it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[Path, dict[str, Any]] = {}
        self.applied: list[Any] = []
        # Names of environment variables that the code asks for, and whether they are set.
        self.environment: dict[str, bool] = {}
        self._functions = allowed.functions(root)
        self._depth = 0
        # How many `try` statements are under way, and how many values turned out unknown.
        self.trying = 0
        self.doubts = 0

    def value(self, node: ast.expr, scope: Scope) -> Any:
        raise NotImplementedError

    def where(self, node: ast.AST, scope: Scope) -> str:
        raise NotImplementedError

    def _items(self, nodes: list[ast.expr], scope: Scope) -> list[Any]:
        raise NotImplementedError

    def _run(self, body: list[ast.stmt], scope: Scope) -> None:
        raise NotImplementedError

    def forget(self, body: list[ast.AST], why: Unknown, scope: Scope) -> None:
        raise NotImplementedError

    def fail(self, error: str, why: Unknown) -> Unknown:
        """What Python would raise an error for: unknown, or the error itself where the repository may catch it.

        Raises:
            Raised: within a `try`.
        """
        if self.trying:
            raise Raised(error, why)
        return why

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        args = self._items(node.args, scope)
        settings: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is not None:
                settings[keyword.arg] = value
            elif isinstance(value, dict) and not rest_of(value):
                settings |= value
            else:
                settings["**"] = rest_of(value) or Unknown("passes on what is not read", self.where(node, scope))
        where = self.where(node, scope)
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, scope)
            if not isinstance(owner, (Name, Namespace)):
                return self._method(owner, node.func.attr, args, settings, node, scope)
        called = self.value(node.func, scope)
        if isinstance(called, Unknown):
            return called
        if isinstance(called, Name) and (called.of_feast or _is_source(called, settings)):
            return self._make(called.last, args, settings, where)
        if isinstance(called, Function):
            return self._invoke(called, args, settings, node, scope)
        if isinstance(called, Name):
            return self._outside(called.dotted, args, settings, node, scope)
        return Unknown(f"calls {ast.unparse(node.func)[:60]}, which is not read", where)

    def _make(self, kind: str, args: list[Any], settings: dict[str, Any], where: str) -> Any:
        if unknown := rest_of(args):
            settings["**"] = unknown
        else:
            settings = {**dict(zip(_POSITIONAL.get(kind, ()), args, strict=False)), **settings}
        return Made(kind, {name: settled(value, where) for name, value in settings.items()}, where)

    def _invoke(
        self, function: Function, args: list[Any], settings: dict[str, Any], node: ast.Call, scope: Scope
    ) -> Any:
        unread = rest_of(args) or settings.get("**")
        if self._depth >= _DEPTH:
            raise TooLong
        if any(isinstance(inner, (ast.Yield, ast.YieldFrom, ast.Await)) for inner in ast.walk(function.node)):
            unread = Unknown("is a generator, which is not read", self.where(node, scope))
        if unread:
            self.forget([node], unread, scope)
            return unread
        parameters = function.node.args
        names = [arg.arg for arg in (*parameters.posonlyargs, *parameters.args)]
        known = {*names, *(arg.arg for arg in parameters.kwonlyargs)}
        bound = {**function.defaults, **dict(zip(names, args, strict=False))}
        bound |= {name: value for name, value in settings.items() if name in known}
        if parameters.vararg:
            bound[parameters.vararg.arg] = tuple(args[len(names) :])
        if parameters.kwarg:
            bound[parameters.kwarg.arg] = {name: value for name, value in settings.items() if name not in known}
        self._depth += 1
        inner = Scope(bound, function.scope.path, function.scope, own=own_names(function.node))
        try:
            if isinstance(function.node, ast.Lambda):
                return self.value(function.node.body, inner)
            self._run(function.node.body, inner)
        except Returned as returned:
            return returned.value
        except Lost as lost:
            return lost.why
        except Raised as raised:
            if self.trying:
                raise
            return raised.why
        finally:
            self._depth -= 1
        return None

    def _outside(self, name: str, args: list[Any], settings: dict[str, Any], node: ast.Call, scope: Scope) -> Any:
        if name in ("globals", "locals"):
            return (scope if name == "locals" else scope.module()).names
        if name in ("os.getenv", "os.environ.get"):
            return self._environment(args + list(settings.values()), node, scope)
        function: Callable[..., Any] | None = allowed.BUILTINS.get(name) or self._functions.get(name)
        if function is None:
            return Unknown(f"calls {name}", self.where(node, scope))
        top = [*args, *settings.values()]
        if name == "print":
            return None
        if name == "bool" and len(top) == 1:
            return truth(top[0])
        unknown = next((value for value in top if isinstance(value, Unknown)), None)
        if not unknown and name not in allowed.KEEP_ALL:
            unknown = next((found for value in top if (found := rest_of(value))), None)
        if not unknown and name not in (*allowed.KEEP_ALL, *allowed.KEEP_ELEMENTS):
            unknown = unknown_in(top)
            if not unknown and not is_plain(top):
                unknown = Unknown(f"calls {name} with what is not read", self.where(node, scope))
        elif name == "dict" and not unknown:
            # A list of pairs, of which each is known to be one.
            unknown = next(
                (found for value in top if isinstance(value, list) for found in value if isinstance(found, Unknown)),
                None,
            )
        elif not unknown and not name.startswith(("copy.", "typing.")):
            foreign = [value for value in top if not isinstance(value, _COLLECTIONS)]
            unknown = Unknown(f"calls {name} with what is not read", self.where(node, scope)) if foreign else None
        return unknown or function(*args, **settings)

    def _environment(self, args: list[Any], node: ast.AST, scope: Scope, strict: bool = False) -> Any:
        if found := unknown_in(args[:1]):
            return found
        name = str(args[0])
        self.environment[name] = name in os.environ
        if strict and name not in os.environ:
            why = Unknown(f"asks for the environment variable {name}, which is not set", self.where(node, scope))
            return self.fail("KeyError", why)
        return os.environ.get(name, args[1] if len(args) > 1 else None)

    def _method(
        self, owner: Any, name: str, args: list[Any], settings: dict[str, Any], node: ast.AST, scope: Scope
    ) -> Any:
        where = self.where(node, scope)
        unread = Unknown(f"says {ast.unparse(node)[:60]}, which is not read", where)
        if isinstance(owner, Unknown):
            return owner
        if isinstance(owner, Made) and owner.kind == "FeatureStore":
            if name == "apply":
                self.applied += [*args, *settings.values()]
            return Unknown("asks Feast's own store", where)
        if isinstance(owner, (Made, Projection)):
            given = args[0] if args else next(iter(settings.values()), None)
            if name in ("with_name", "with_join_key_map"):
                return project(owner, **{"name" if name == "with_name" else "join_key_map": settled(given, where)})
            return unread
        if isinstance(owner, (list, dict, set)):
            return self._method_of_collection(owner, name, args, settings, unread)
        kind = next((kind for kind in allowed.METHODS if isinstance(owner, kind)), None)
        if found := unknown_in([owner, args, settings]):
            return found
        if kind is None or name not in allowed.METHODS[kind] or not is_plain([owner, args, settings]):
            return unread
        if kind is Path:
            return self._method_of_path(owner, name, args, settings)
        # Fields that look into what they are given, widths that are given, and texts that grow beyond measure.
        if name == "format" and re.search(r"\d{4}|{[^}]*[.\[{]", owner):
            return unread
        if name in ("join", "replace") and len(owner) * len(str([args, settings])) > allowed.LONGEST:
            return unread
        return getattr(owner, name)(*args, **settings)

    def _method_of_path(self, path: Path, name: str, args: list[Any], settings: dict[str, Any]) -> Any:
        if name in ("absolute", "resolve"):
            return Path(os.path.normpath(self.root / path))
        if name in ("exists", "is_dir", "is_file"):
            path = self.root / path
        if name in ("open", "read", "read_text"):
            file = self._functions["open"](path)
            return file if name == "open" else file.read_text()
        return getattr(path, name)(*args, **settings)

    def _method_of_collection(
        self, owner: Any, name: str, args: list[Any], settings: dict[str, Any], unread: Unknown
    ) -> Any:
        """A method of a list, dict or set; where its outcome is not known, what it changes is not known either."""
        kind = next(kind for kind in allowed.METHODS if isinstance(owner, kind))
        given = [*args, *settings.values()]
        unknown = next((found for value in given if (found := rest_of(value))), None) or rest_of(owner)
        if name not in allowed.METHODS[kind] or allowed.too_long(owner):
            unknown = unread
        elif name in ("append", "copy"):
            unknown = rest_of(args)
        elif name == "extend" and kind is list:
            unknown = unread if len(args) != 1 else None
            if not isinstance(args[0], _COLLECTIONS):
                why = args[0] if isinstance(args[0], Unknown) else unread
                args = [[Rest(why.reason, why.where)]]
        elif name in ("get", "insert", "pop", "setdefault") and len(args) > 0:
            # What is put in or given back may be unknown, the place may not.
            unknown = (
                unknown_in(args[0]) or rest_of(owner) or (None if is_plain(args[0]) or args[0] in owner else unread)
            )
        elif name in ("update",) and kind is dict:
            unknown = unknown or next((unread for value in args if not isinstance(value, dict)), None)
        elif name not in ("items", "keys", "pop", "reverse", "values") and not unknown:
            unknown = unknown_in([owner, given]) or (None if is_plain([owner, given]) else unread)
        if unknown:
            if name not in allowed.READERS:
                blank(owner, unknown)
            return unknown
        result = getattr(owner, name)(*args, **settings)
        return list(result) if name in ("keys", "items", "values") else result


def _is_source(called: Name, settings: dict[str, Any]) -> bool:
    """Whether a class of another package is a data source for Feast."""
    return called.last.endswith("Source") and not {"path", "query", "table"}.isdisjoint(settings)


def settled(value: Any, where: str) -> Any:
    """A setting, in which what comes from other packages is unknown."""
    if isinstance(value, Name) and not value.of_feast:
        return Unknown(f"comes from {value.dotted}, which is not in the repository", where)
    if isinstance(value, Member) and value.plain:
        return value.value
    if isinstance(value, (list, tuple)):
        return [settled(item, where) for item in value]
    return dict(value) if isinstance(value, dict) else value
