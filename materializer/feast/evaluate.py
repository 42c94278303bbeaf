"""Reads the Python of a feature repository without running it.

Feast imports the files of a repository, which runs them. Here they are parsed, and of what they say only that is
worked out which is safe: names, literals, text, sums, comprehensions, loops and functions over such values, imports
between the repository's own files, paths, durations and what the environment says. Every call of a class of Feast's is
kept as it is written. Whatever else there is stays `Unknown`, with the file and line: nothing is guessed.
"""

from __future__ import annotations

import ast
import builtins
import copy
import warnings
from pathlib import Path
from typing import Any

from materializer.errors import InputError
from materializer.feast.calls import settled
from materializer.feast.effects import declare, forget, may_leave
from materializer.feast.expressions import Expressions
from materializer.feast.values import (
    Function,
    Left,
    Lost,
    Made,
    Member,
    Name,
    Namespace,
    Raised,
    Returned,
    Scope,
    TooLong,
    Unknown,
    blank,
    rest_of,
    truth,
    unknown_in,
)


class Evaluator(Expressions):
    """The modules of one repository, each read once. `unread` has what could not be read on the way."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unread: list[Unknown] = []

    def module(self, path: Path) -> dict[str, Any]:
        """The names of a file's module, read at the first call.

        Raises:
            InputError: where the file is no Python.
        """
        if path in self.modules:
            return self.modules[path]
        names: dict[str, Any] = {"__file__": str(path), "__name__": self.imports.module_name(path)}
        self.modules[path] = names
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in a text that Python will not take some day
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            line = f" line {error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
            reason = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deep"
            raise InputError(f"{path}:{line} this is no Python ({reason}), so the repository cannot be read.") from None
        scope = Scope(names, path)
        self.steps = 0
        try:
            self._run(tree.body, scope)
        except TooLong:
            self.unread.append(Unknown("the file repeats for too long to be read to its end", self.imports.short(path)))
        except RecursionError:
            self.unread.append(Unknown("the file is nested too deeply to be read", self.imports.short(path)))
        except Raised as raised:
            self.unread.append(raised.why)
        except Lost as lost:
            self.unread.append(lost.why)
        except (Returned, Left):
            pass
        return names

    # Statements.

    def _run(self, body: list[ast.stmt], scope: Scope) -> None:
        for number, statement in enumerate(body):
            self.step()
            try:
                self._statement(statement, scope)
            except Lost as lost:
                self.forget(body[number + 1 :], lost.why, scope)
                raise
            except (TooLong, RecursionError):
                self.forget(body[number:], Unknown("goes on for too long", self.where(statement, scope)), scope)
                raise

    def forget(self, body: list[ast.AST], why: Unknown, scope: Scope) -> None:
        """Take what these statements would have done as unknown."""
        forget(body, why, scope, lambda name, call: self._note(name, call, why, scope))

    def _skip(self, body: list[ast.AST], why: Unknown, scope: Scope, loop: bool = False) -> None:
        """Leave out statements that may run or not: a loop's, or a branch's.

        Raises:
            Lost: where they may leave the function or the loop that they stand in.
        """
        self.doubts += 1
        self.forget(body, why, scope)
        returns, leaves = may_leave(body)
        if returns or (leaves and not loop):
            raise Lost(why, loop=not returns)

    def _note(self, name: str, call: ast.AST, why: Unknown, scope: Scope) -> None:
        """Say that an object of Feast's is not read."""
        first, _, last = name.partition(".")
        try:
            value = scope.find(first)
        except KeyError:
            return
        kind = last or (value.last if isinstance(value, Name) else "")
        if isinstance(value, Name) and value.of_feast and kind.endswith(("Entity", "View", "Service", "Source")):
            self.unread.append(Unknown(f"a {kind} is not read: it {why}", self.where(call, scope)))

    def _statement(self, node: ast.stmt, scope: Scope) -> None:
        match node:
            case ast.Expr():
                self.value(node.value, scope)
            case ast.Assign():
                value = self.value(node.value, scope)
                for target in node.targets:
                    self._assign(target, value, scope)
            case ast.AnnAssign():
                if node.value is not None:
                    self._assign(node.target, self.value(node.value, scope), scope)
            case ast.AugAssign():
                load = ast.copy_location(ast.parse(ast.unparse(node.target), mode="eval").body, node)
                left, right = self.value(load, scope), self.value(node.value, scope)
                changing = {(list, "Add"): "extend", (set, "BitOr"): "update", (dict, "BitOr"): "update"}
                name = changing.get((type(left), type(node.op).__name__))
                if name:  # the list that other names have too
                    self.guarded(lambda: self._method(left, name, [right], {}, node, scope), node, scope)
                else:
                    operator = type(node.op).__name__
                    left = self.guarded(lambda: self._operate(operator, [left, right], node, scope), node, scope)
                self._assign(node.target, left, scope)
            case ast.FunctionDef():
                scope.assign(node.name, self._function(node, scope))
            case ast.ClassDef():
                scope.assign(node.name, self._class(node, scope))
            case ast.Import() | ast.ImportFrom():
                self.imports.bind(node, scope, self.module)
            case ast.If():
                self._if(node, scope)
            case ast.For():
                self._for(node, scope)
            case ast.Try():
                self._try(node, scope)
            case ast.With():
                for item in node.items:
                    if item.optional_vars is not None:
                        self._assign(item.optional_vars, self.value(item.context_expr, scope), scope)
                self._run(node.body, scope)
            case ast.Return():
                raise Returned(self.value(node.value, scope) if node.value else None)
            case ast.Raise():
                name = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                why = Unknown("raises an error", self.where(node, scope))
                raise Raised(ast.unparse(name).rpartition(".")[2] if name else "Exception", why)
            case ast.Break() | ast.Continue():
                raise Left(isinstance(node, ast.Break))
            case ast.Global() | ast.Nonlocal():
                declare(node, scope)
            case ast.While() | ast.Match() | ast.AsyncFor() | ast.AsyncWith():
                why = Unknown("stands under a loop or case that is not read", self.where(node, scope))
                self._skip([node], why, scope, loop=True)
            case ast.AsyncFunctionDef():
                scope.assign(node.name, Unknown("is an asynchronous function", self.where(node, scope)))
            case ast.Delete() | ast.TryStar():
                self._skip([node], Unknown("is deleted", self.where(node, scope)), scope)

    def _class(self, node: ast.ClassDef, scope: Scope) -> Namespace:
        inner = Scope({}, scope.path, scope)
        self._run(node.body, inner)
        bases = [base.last for item in node.bases if isinstance(base := self.value(item, scope), Name)]
        if any(base in ("Enum", "Flag", "IntEnum", "IntFlag", "StrEnum") for base in bases):
            plain = bool({"str", "int", "IntEnum", "StrEnum"}.intersection(bases))
            for name, value in inner.names.items():
                if not name.startswith("_") and not isinstance(value, (Function, Namespace, Unknown)):
                    inner.names[name] = Member(id(inner), name, value, plain)
        return Namespace(inner.names)

    def _if(self, node: ast.If, scope: Scope) -> None:
        test = truth(self.value(node.test, scope))
        if not isinstance(test, Unknown):
            self._run(node.body if test else node.orelse, scope)
            return
        where = test.where or self.where(node, scope)
        self._skip([*node.body, *node.orelse], Unknown(f"depends on a condition that {test.reason}", where), scope)

    def _try(self, node: ast.Try, scope: Scope) -> None:
        try:
            self._try_and_handle(node, scope)
        finally:
            self._run(node.finalbody, scope)

    def _try_and_handle(self, node: ast.Try, scope: Scope) -> None:
        handlers = [statement for handler in node.handlers for statement in handler.body]
        self.trying += 1
        try:
            sure = self._run_surely(node.body, [*handlers, *node.orelse], bool(node.handlers), scope)
        except Raised as error:
            raised = error
        else:
            raised = None
        finally:
            self.trying -= 1
        if raised:
            self._handle(node, raised, scope)
        elif sure:
            self._run(node.orelse, scope)

    def _run_surely(self, body: list[ast.stmt], after: list[ast.stmt], handled: bool, scope: Scope) -> bool:
        """Run what a `try` tries, up to a statement that may have raised an error or not, and say whether it came to
        its end: otherwise neither the rest is known, nor what a handler did."""
        for number, statement in enumerate(body):
            doubts = self.doubts
            try:
                self._run([statement], scope)
            except Raised:
                if not handled or self.doubts == doubts:
                    raise
                # Something before it may have raised another error.
            if handled and (self.doubts > doubts or self.imports.is_foreign(statement)):
                why = Unknown("stands beside what may raise an error", self.where(statement, scope))
                self._skip([statement, *body[number + 1 :], *after], why, scope)
                return False
        return True

    def _handle(self, node: ast.Try, raised: Raised, scope: Scope) -> None:
        """Run the handler of an error.

        Raises:
            Raised: where none takes it.
        """
        error = getattr(builtins, raised.name, Exception)
        for handler in node.handlers:
            types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            names = [ast.unparse(kind) if kind else "BaseException" for kind in types]
            known = [getattr(builtins, name) for name in names if hasattr(builtins, name)]
            if raised.name in names or any(issubclass(error, kind) for kind in known):
                if handler.name:
                    scope.assign(handler.name, raised.why)
                self._run(handler.body, scope)
                return
            if len(known) < len(names):
                why = Unknown(f"depends on whether {raised.name} is {', '.join(names)}", self.where(handler, scope))
                self._skip([statement for other in node.handlers for statement in other.body], why, scope)
                return
        raise raised

    def _for(self, node: ast.For, scope: Scope) -> None:
        items = self.value(node.iter, scope)
        body = [node.target, *node.body, *node.orelse]
        unknown = rest_of(items)
        if unknown or not isinstance(items, (list, tuple, dict, set, range, str)):
            why = unknown or Unknown("runs over what is not read", self.where(node, scope))
            self._skip(body, Unknown(f"stands in a loop over what {why.reason}", why.where), scope, loop=True)
            return
        # A list may grow while it is run over, also by what is not known.
        doubts = self.doubts
        for item in sorted(items, key=repr) if isinstance(items, set) else items:
            self.step()
            try:
                if self.doubts > doubts:
                    self.step(len(items) // 20)
                    if unknown := rest_of(items):
                        raise Lost(unknown, loop=True)
                doubts = self.doubts
                self._assign(node.target, item, scope)
                self._run(node.body, scope)
            except Left as leave:
                if leave.loop:
                    return
            except Lost as lost:
                self._skip(body, lost.why, scope, loop=True)
                if not lost.loop:
                    raise
                return
        if unknown := rest_of(items):
            self._skip(body, unknown, scope, loop=True)
            return
        self._run(node.orelse, scope)

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name():
                scope.assign(target.id, value)
            case ast.Tuple() | ast.List():
                known = isinstance(value, (list, tuple)) and not rest_of(value) and len(value) == len(target.elts)
                known = known and not any(isinstance(element, ast.Starred) for element in target.elts)
                unknown = rest_of(value) or Unknown("takes apart what is not read", self.where(target, scope))
                for number, element in enumerate(target.elts):
                    self._assign(element, value[number] if known else unknown, scope)
            case ast.Starred():
                self._assign(target.value, value, scope)
            case ast.Subscript():
                owner, key = self.value(target.value, scope), self.value(target.slice, scope)
                if (
                    isinstance(owner, (list, dict))
                    and not unknown_in(key)
                    and not (isinstance(owner, list) and (rest_of(owner) or not isinstance(key, int)))
                ):
                    try:
                        owner[key] = value
                    except (TypeError, IndexError) as error:
                        self.fail(type(error).__name__, Unknown("cannot be set", self.where(target, scope)))
                else:
                    why = Unknown("is changed in a way that is not read", self.where(target, scope))
                    blank(owner, why)
                    self.forget([target], why, scope)
            case ast.Attribute():
                owner = self.value(target.value, scope)
                if isinstance(owner, Made):
                    owner.settings[target.attr] = settled(value, self.where(target, scope))
                elif isinstance(owner, Namespace):
                    owner.names[target.attr] = value

    def _function(self, node: ast.FunctionDef, scope: Scope) -> Any:
        result: Any = Function(node, scope, self._defaults(node.args, scope))
        for decorator in reversed(node.decorator_list):
            by = self.value(decorator, scope)
            if isinstance(by, Name) and by.of_feast:
                by = Made(by.last, {}, self.where(decorator, scope))
            if isinstance(by, Made):
                bare = copy.copy(node)
                bare.decorator_list = []
                by.code, by.function = ast.unparse(bare), node.name
                result = by
            elif not (isinstance(by, Name) and by.dotted.startswith(("functools.", "staticmethod"))):
                result = Unknown(f"is decorated with {ast.unparse(decorator)}", self.where(node, scope))
        return result

    def _defaults(self, args: ast.arguments, scope: Scope) -> dict[str, Any]:
        positional = [*args.posonlyargs, *args.args]
        pairs = [*zip(positional[len(positional) - len(args.defaults) :], args.defaults, strict=True)]
        pairs += [pair for pair in zip(args.kwonlyargs, args.kw_defaults, strict=True) if pair[1] is not None]
        return {arg.arg: self.value(default, scope) for arg, default in pairs}
