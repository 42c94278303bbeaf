"""Imports as a feature repository's Python has them: of its own files, and of everything else by name alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from materializer.feast.values import Name, Namespace, Scope


class Imports:
    """Finds the repository's own modules as Feast does, from its folder, and as Python does, from a file's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stars: dict[Path, list[str]] = {}

    def short(self, path: Path) -> str:
        """A file's path within the repository."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def module_name(self, path: Path) -> str:
        """The name under which Feast imports a file: never ``__main__``."""
        return self.short(path).removesuffix(".py").replace("/", ".")

    def star(self, path: Path, name: str) -> str | None:
        """The module outside the repository that a name may come from by an ``import *``: Feast's, if its may be."""
        modules = self._stars.get(path, [])
        of_feast = [module for module in modules if module.startswith("feast")]
        return next(iter(of_feast if name[:1].isupper() and of_feast else modules), None)

    def is_foreign(self, node: ast.stmt) -> bool:
        """Whether a statement imports what may be missing: neither Python's own, nor Feast's, nor of a file here."""
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            return False
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        known = {*sys.stdlib_module_names, "feast"}
        return not getattr(node, "level", 0) and any(
            name.partition(".")[0] not in known and not self._file(name, self.root / "_.py", None) for name in names
        )

    def bind(self, node: ast.Import | ast.ImportFrom, scope: Scope, read: Callable[[Path], dict[str, Any]]) -> None:
        """Give the names of an import statement their values."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._bind_module(alias, scope, read)
            return
        module = node.module or ""
        base = None
        if node.level:
            base = scope.path.parent
            for _ in range(node.level - 1):
                base = base.parent
        file = self._file(module, scope.path, base)
        for alias in node.names:
            name = alias.asname or alias.name
            inner = self._file(f"{module}.{alias.name}".strip("."), scope.path, base)
            if alias.name == "*":
                if file:
                    scope.names |= {n: v for n, v in read(file).items() if not n.startswith("_")}
                else:
                    self._stars.setdefault(scope.path, []).append(module)
            elif file and alias.name in (names := read(file)):
                scope.names[name] = names[alias.name]
            elif inner:
                scope.names[name] = Namespace(read(inner))
            else:
                scope.names[name] = Name(f"{module}.{alias.name}")

    def _bind_module(self, alias: ast.alias, scope: Scope, read: Callable[[Path], dict[str, Any]]) -> None:
        file = self._file(alias.name, scope.path, None)
        first, *rest = alias.name.split(".")
        if file is None:
            # `import a.b` binds `a`; `import a.b as c` binds the module itself.
            scope.names[alias.asname or first] = Name(alias.name if alias.asname else first)
        elif alias.asname or not rest:
            scope.names[alias.asname or first] = Namespace(read(file))
        else:
            package = scope.names.get(first)
            if not isinstance(package, Namespace):
                package = scope.names[first] = Namespace({})
            for part in rest[:-1]:
                package = package.names.setdefault(part, Namespace({}))
            package.names[rest[-1]] = Namespace(read(file))

    def _file(self, module: str, importer: Path, base: Path | None) -> Path | None:
        """The repository's own file that a module is."""
        relative = Path(*module.split(".")) if module else Path()
        if base is None and relative.parts[:1] == ("feast",):
            return None
        if base is not None:
            folders = [base]
        else:
            folders = [self.root, importer.parent]
            # The repository may be imported by its own folder's name, from the folder above it.
            if relative.parts and relative.parts[0] == self.root.name:
                folders.append(self.root.parent)
        for folder in folders:
            for path in (
                (folder / relative).with_suffix(".py") if relative.parts else None,
                folder / relative / "__init__.py",
            ):
                if path is not None and path.is_file() and path.resolve().is_relative_to(self.root):
                    return path.resolve()
        return None
