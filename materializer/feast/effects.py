"""What code that is not read may have done: whatever it would set or change is not known any more."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from materializer.feast.values import Function, Made, Namespace, Scope, Unknown, blank

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def forget(body: list[ast.AST], why: Unknown, scope: Scope, note: Callable[[str, ast.AST], None]) -> None:
    """Forget what statements would have set or changed, also through the functions that they call.

    Args:
        why: what those values are from now on.
        note: told of each class of Feast's that the statements call, with the call.
    """
    _forget(body, why, scope, note, set())


def may_leave(body: list[ast.AST]) -> tuple[bool, bool]:
    """Whether statements may return from their function, and whether they may leave the loop that they stand in."""
    returns = any(isinstance(node, ast.Return) for node in _inside(body, _FUNCTIONS))
    leaves = any(isinstance(node, (ast.Break, ast.Continue)) for node in _inside(body, (*_FUNCTIONS, *_LOOPS)))
    return returns, leaves


def _inside(body: list[ast.AST], without: tuple[type, ...]) -> Iterator[ast.AST]:
    """Every node of the statements, but for the bodies of what is of one of these kinds."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, without):
            waiting += ast.iter_child_nodes(node)


def own_names(function: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """The names that a function sets, which are its own unless it declares them otherwise."""
    body = function.body if isinstance(function.body, list) else [function.body]
    scopes = (*_FUNCTIONS, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    names: set[str] = set()
    for node in _inside(body, scopes):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
            case ast.ExceptHandler(name=str() as name):
                names.add(name)
    declared = {
        name for node in _inside(body, ()) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names
    }
    return frozenset(names - declared)


def declare(node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
    """Take names of a scope as those of the module, or of the function around it."""
    for name in node.names:
        holder = scope.module() if isinstance(node, ast.Global) else scope.outer or scope
        while isinstance(node, ast.Nonlocal) and name not in holder.names and holder.outer:
            holder = holder.outer
        scope.elsewhere[name] = holder


def _forget(body: list[ast.AST], why: Unknown, scope: Scope, note: Any, seen: set[int]) -> None:
    for node in _inside(body, ()):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            declare(node, scope)
    for node in _inside(body, ()):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                scope.assign(name, why)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                scope.assign(name, why)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    scope.assign((alias.asname or alias.name).partition(".")[0], why)
            case ast.AugAssign(target=target):
                _change(target, why, scope)
            case ast.Attribute(value=owner, attr=name, ctx=ast.Store() | ast.Del()):
                holder = _root(owner, scope)
                if isinstance(holder, (Made, Namespace)):
                    (holder.settings if isinstance(holder, Made) else holder.names)[name] = why
            case ast.Subscript(value=owner, ctx=ast.Store() | ast.Del()):
                _change(owner, why, scope)
            case ast.Call(func=function, args=args):
                if isinstance(function, ast.Attribute):
                    _change(function.value, why, scope)
                called = _root(function, scope)
                if isinstance(called, Function) and id(called) not in seen:
                    seen.add(id(called))
                    for arg in args:
                        _change(arg, why, scope)
                    inner = called.node.body if isinstance(called.node.body, list) else [called.node.body]
                    _forget(inner, why, Scope({}, called.scope.path, called.scope), note, seen)
                note(ast.unparse(function), node)


def _root(node: ast.AST, scope: Scope) -> Any:
    """The value of the name that an expression begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    if isinstance(node, ast.Call):
        # `globals()["x"] = 1`
        return (
            scope.module().names if isinstance(node.func, ast.Name) and node.func.id in ("globals", "locals") else None
        )
    try:
        return scope.find(node.id) if isinstance(node, ast.Name) else None
    except KeyError:
        return None


def _change(node: ast.AST, why: Unknown, scope: Scope) -> None:
    value = _root(node, scope)
    if isinstance(value, Namespace):
        for item in value.names.values():
            blank(item, why)
    elif isinstance(value, dict) and "__file__" in value:
        for name in [name for name in value if not name.startswith("__")]:
            value[name] = why
    else:
        blank(value, why)
