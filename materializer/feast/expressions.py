"""Expressions in a repository's Python, worked out as far as that is safe."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from materializer.errors import InputError
from materializer.feast import allowed
from materializer.feast.calls import Calls
from materializer.feast.imports import Imports
from materializer.feast.values import (
    Function,
    Left,
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
    is_plain,
    project,
    rest_of,
    truth,
    unknown_in,
)

_STEPS = 100_000


class Expressions(Calls):
    """The expressions of one repository."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.imports = Imports(root)
        self.steps = 0

    def where(self, node: ast.AST, scope: Scope) -> str:
        """``features/driver.py:31``."""
        return f"{self.imports.short(scope.path)}:{getattr(node, 'lineno', 1)}"

    def step(self, more: int = 0) -> None:
        """Count one step of reading, and `more`.

        Raises:
            TooLong: where a file takes more than any definitions do.
        """
        self.steps += 1 + more
        if self.steps > _STEPS:
            raise TooLong

    def value(self, node: ast.expr, scope: Scope) -> Any:
        """What an expression gives, or an `Unknown`.

        Raises:
            Raised: for an error within a `try` of the repository's own.
        """
        return self.guarded(lambda: self._expression(node, scope), node, scope)

    def guarded(self, compute: Callable[[], Any], node: ast.AST, scope: Scope) -> Any:
        """What is computed, or an `Unknown` where that fails or goes too far."""
        self.step()
        try:
            value = compute()
            if isinstance(value, (list, tuple, dict)):
                self.step(len(value) // 100)
            if allowed.too_long(value):
                value = Unknown("is longer than can be read", self.where(node, scope))
        except (TooLong, Returned, Raised, Left, Lost, RecursionError, InputError):
            raise
        except Exception as error:
            # The operation itself refused its values, as it would where Python ran it.
            why = Unknown(f"fails ({type(error).__name__}: {error})"[:200], self.where(node, scope))
            value = self.fail(type(error).__name__, why)
        if isinstance(value, Unknown):
            self.doubts += 1
        return value

    def _expression(self, node: ast.expr, scope: Scope) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._name(node, scope)
            case ast.Attribute():
                return self._attribute(self.value(node.value, scope), node.attr, node, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.JoinedStr():
                return self._text(node, scope)
            case ast.List() | ast.Tuple() | ast.Set():
                items = self._items(node.elts, scope)
                if isinstance(node, ast.Set):
                    return unknown_in(items) or set(items)
                return items if isinstance(node, ast.List) else tuple(items)
            case ast.Dict():
                return self._dict(node, scope)
            case ast.BinOp():
                operands = [self.value(node.left, scope), self.value(node.right, scope)]
                return self._operate(type(node.op).__name__, operands, node, scope)
            case ast.UnaryOp():
                return self._operate(type(node.op).__name__, [self.value(node.operand, scope)], node, scope)
            case ast.Compare():
                left, result = self.value(node.left, scope), True
                for comparison, other in zip(node.ops, node.comparators, strict=True):
                    right = self.value(other, scope)
                    result = self._operate(type(comparison).__name__, [left, right], node, scope)
                    if isinstance(result, Unknown) or not result:
                        return result
                    left = right
                return result
            case ast.BoolOp():
                for operand in node.values:
                    value = self.value(operand, scope)
                    test = truth(value)
                    if isinstance(test, Unknown):
                        return self._known_by(test, node, scope)
                    if test == isinstance(node.op, ast.Or):
                        return value
                return value
            case ast.IfExp():
                test = truth(self.value(node.test, scope))
                if isinstance(test, Unknown):
                    return self._known_by(test, node, scope)
                return self.value(node.body if test else node.orelse, scope)
            case ast.Subscript():
                return self._subscript(self.value(node.value, scope), self.value(node.slice, scope), node, scope)
            case ast.Slice():
                parts = [self.value(part, scope) if part else None for part in (node.lower, node.upper, node.step)]
                return unknown_in(parts) or slice(*parts)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
                return self._comprehension(node, scope)
            case ast.Lambda():
                return Function(node, scope, self._defaults(node.args, scope))
            case ast.NamedExpr():
                value = self.value(node.value, scope)
                self._assign(node.target, value, scope)
                return value
        return Unknown(f"says {ast.unparse(node)[:60]}, which is not read", self.where(node, scope))

    def _known_by(self, test: Unknown, node: ast.AST, scope: Scope) -> Unknown:
        """What depends on a test that is not known. What is not looked at for it may change things."""
        self.forget([node], test, scope)
        return Unknown(test.reason, test.where or self.where(node, scope))

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        try:
            return scope.find(node.id)
        except KeyError:
            pass
        if node.id in allowed.BUILTINS or node.id in ("globals", "locals", "open", "staticmethod"):
            return Name(node.id)
        if star := self.imports.star(scope.path, node.id):
            return Name(f"{star}.{node.id}")
        where = self.where(node, scope)
        if hasattr(builtins, node.id):
            return Unknown(f"uses {node.id}, which is not read", where)
        return self.fail("NameError", Unknown(f"uses {node.id}, which is not known there", where))

    def _attribute(self, owner: Any, name: str, node: ast.expr, scope: Scope) -> Any:
        match owner:
            case Unknown():
                return owner
            case Name():
                return Name(f"{owner.dotted}.{name}")
            case Namespace():
                if name in owner.names:
                    return owner.names[name]
            case Projection():
                return self._attribute(owner.view, name, node, scope)
            case Made():
                if name == "join_key":
                    keys = owner.settings.get("join_keys") or owner.settings.get("name")
                    return keys[0] if isinstance(keys, list) and not rest_of(keys) else keys
                if name == "features" and "features" not in owner.settings:
                    return self._features(owner)
                if name in owner.settings:
                    return owner.settings[name]
            case Member() if name in ("value", "name"):
                return owner.value if name == "value" else owner.name
        for kind, names in allowed.ATTRIBUTES.items():
            if isinstance(owner, kind) and name in names:
                return getattr(owner, name)
        return Unknown(f"asks for .{name} of what is not read that far", self.where(node, scope))

    def _subscript(self, owner: Any, key: Any, node: ast.expr, scope: Scope) -> Any:
        if isinstance(owner, (Made, Projection)):
            return project(owner, features=key)
        if found := rest_of(owner) or unknown_in(key):
            return found
        if isinstance(owner, Name):
            if owner.dotted == "os.environ":
                return self._environment([key], node, scope, strict=True)
            return Unknown(f"looks into {owner.dotted}", self.where(node, scope))
        if not isinstance(owner, (str, list, tuple, dict, range)) or (not is_plain(key) and key not in owner):
            return Unknown(f"looks into {ast.unparse(node)[:60]}", self.where(node, scope))
        return owner[key]

    def _features(self, view: Made) -> Any:
        """A view's features: what its schema has beside the join keys."""
        schema, entities = view.settings.get("schema"), view.settings.get("entities") or []
        if unknown := unknown_in([schema, entities]):
            return unknown
        keys = [
            self._attribute(e, "join_key", ast.Constant(0), Scope({}, self.root))
            for e in entities
            if isinstance(e, Made)
        ]
        return [field for field in schema or [] if isinstance(field, Made) and field.settings.get("name") not in keys]

    def _operate(self, name: str, operands: list[Any], node: ast.AST, scope: Scope) -> Any:
        unread = Unknown(f"says {ast.unparse(node)[:60]}, which is not read", self.where(node, scope))
        if name == "Not":
            test = truth(operands[0])
            return test if isinstance(test, Unknown) else not test
        if name in ("Eq", "NotEq", "In", "NotIn", "Is", "IsNot"):
            return self._compare(name, *operands, unread)
        kinds = {type(operand) for operand in operands}
        joined = (name == "Add" and kinds in ({list}, {tuple})) or (name == "BitOr" and kinds == {dict})
        if not joined and (found := unknown_in(operands)):
            return found
        if name == "Mult" and len(kinds) > 1 and not kinds & {float, timedelta}:
            sizes = [
                value if isinstance(value, int) else len(value) for value in operands if not isinstance(value, float)
            ]
            if sizes[0] * sizes[1] > allowed.LONGEST:
                return unread
        widths = name == "Mod" and isinstance(operands[0], str) and re.search(r"\d{4}|\*", operands[0])
        if name not in allowed.OPERATORS or widths or not (joined or is_plain(operands)):
            return unread
        return allowed.OPERATORS[name](*operands)

    def _compare(self, name: str, left: Any, right: Any, unread: Unknown) -> Any:
        """Whether two values are equal, the same, or one in the other."""
        if name in ("NotEq", "NotIn", "IsNot"):
            result = self._compare({"NotEq": "Eq", "NotIn": "In", "IsNot": "Is"}[name], left, right, unread)
            return result if isinstance(result, Unknown) else not result
        for value in (left, right):
            if isinstance(value, Unknown) or (isinstance(value, Name) and not value.of_feast):
                return value if isinstance(value, Unknown) else unread
        if name == "Is":
            simple = (type(None), bool)
            return left is right or (False if isinstance(left, simple) or isinstance(right, simple) else unread)
        if name == "In" and isinstance(right, (list, tuple, set)):
            if unknown := unknown_in(right):
                return unknown
            found = [self._compare("Eq", left, item, unread) for item in right]
            return True if True in found else next((item for item in found if isinstance(item, Unknown)), False)
        left, right = (v.value if isinstance(v, Member) and v.plain else v for v in (left, right))
        if is_plain(left) and is_plain(right):
            return allowed.OPERATORS[name](left, right)
        if unknown := unknown_in([left, right]):
            return unknown
        if left is right or (isinstance(left, Member) and isinstance(right, Member)):
            return left == right
        if isinstance(left, Name) and isinstance(right, Name):
            return True if left.dotted == right.dotted else False if left.last != right.last else unread
        # An object of Feast's is no text or number.
        simple = (str, int, float, type(None), Path)
        return False if name == "Eq" and (isinstance(left, simple) or isinstance(right, simple)) else unread

    def _text(self, node: ast.JoinedStr, scope: Scope) -> Any:
        text = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += part.value
                continue
            value = self.value(part.value, scope)
            spec = self._text(part.format_spec, scope) if part.format_spec else ""
            if found := unknown_in([value, spec]):
                return found
            if not is_plain(value) or re.search(r"\d{4}", spec):
                return Unknown(f"puts {ast.unparse(part.value)[:60]} into a text", self.where(node, scope))
            value = {115: str, 114: repr, 97: ascii}.get(part.conversion, lambda plain: plain)(value)
            text += format(value, spec)
        return text

    def _items(self, nodes: list[ast.expr], scope: Scope) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            if not isinstance(node, ast.Starred):
                items.append(self.value(node, scope))
                continue
            more = self.value(node.value, scope)
            if isinstance(more, (list, tuple, dict, set, range, str)):
                items += list(more)
            else:
                why = more if isinstance(more, Unknown) else Unknown("holds what is not read", self.where(node, scope))
                items.append(Rest(why.reason, why.where))
        return items

    def _dict(self, node: ast.Dict, scope: Scope) -> Any:
        result: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.value(value_node, scope)
            if key_node is None and isinstance(value, dict):
                result |= value
                continue
            key = self.value(key_node, scope) if key_node is not None else value
            if key_node is None or isinstance(key, Unknown):
                why = key if isinstance(key, Unknown) else Unknown("holds what is not read", self.where(node, scope))
                key = value = Rest(why.reason, why.where)
            result[key] = value
        return result

    def _comprehension(self, node: Any, scope: Scope) -> Any:
        inner = Scope({}, scope.path, scope)
        stopped: list[Unknown] = []

        def rounds(generators: list[ast.comprehension]) -> Iterator[None]:
            if not generators:
                yield
                return
            first, *rest = generators
            items = self.value(first.iter, inner)
            unknown = rest_of(items)
            if unknown or not isinstance(items, (list, tuple, dict, set, range, str)):
                stopped.append(unknown or Unknown("runs over what is not read", self.where(node, scope)))
                return
            for item in sorted(items, key=repr) if isinstance(items, set) else items:
                self.step()
                self._assign(first.target, item, inner)
                tests = [truth(self.value(test, inner)) for test in first.ifs]
                if found := unknown_in(tests):
                    stopped.append(found)
                elif all(tests):
                    yield from rounds(rest)
            if unknown := rest_of(items):
                stopped.append(unknown)

        if isinstance(node, ast.DictComp):
            pairs = [(self.value(node.key, inner), self.value(node.value, inner)) for _ in rounds(node.generators)]
            stopped += [key for key, _ in pairs if isinstance(key, Unknown)]
            return self._known_by(stopped[0], node, scope) if stopped else dict(pairs)
        items = [self.value(node.elt, inner) for _ in rounds(node.generators)]
        if stopped:
            return self._known_by(stopped[0], node, scope)
        return (unknown_in(items) or set(items)) if isinstance(node, ast.SetComp) else items
