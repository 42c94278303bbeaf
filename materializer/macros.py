"""Renders the dbt package's macros without dbt: the same files, hence the same SQL, in milliseconds.

The macros are taken from the manifest (what dbt itself used) or, where a project does not install the package, from
the copy that travels with this distribution. Only what the package's macros use of dbt's context is given to them, in
Jinja's sandbox, as dbt runs them. The macros of a manifest that is not the project's own are never rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

import jinja2

from materializer.errors import InputError, NotFoundError, ProjectError
from materializer.sandbox import sandbox

PACKAGE = "feature_store"
_MACRO = re.compile(r"({%-?\s*macro\s+)(\w+)")
# Jinja does not export names that begin with an underscore; dbt renames macros for the same reason.
_PREFIX = "dbt_macro__"
_ENVIRONMENT = sandbox(extensions=["jinja2.ext.do"])


@dataclass(frozen=True)
class Relation:
    """Something that SQL can select from, as it is written there: a table's name or a SELECT in parentheses."""

    sql: str

    def __str__(self) -> str:
        return self.sql


@dataclass(frozen=True)
class Column:
    """A column as dbt's adapters describe it; `dtype` is the warehouse's own name of the type."""

    name: str
    dtype: str


class _ReturnError(Exception):
    """Carries the value of dbt's ``return()`` out of a macro."""

    def __init__(self, value: Any) -> None:
        self.value = value


class MacroRenderer:
    """Calls the package's macros for one project and warehouse.

    Args:
        manifest: dbt's manifest: the graph, and the macros where the project installs the package.
        columns: gives the columns of a relation in the warehouse, in order.
        package_only: take no macro out of the manifest, which somebody else may have written, but the package's own
            files.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        columns: Callable[[Relation], list[Column]],
        package_only: bool = False,
        _known: _Known | None = None,
    ) -> None:
        self._manifest = manifest
        self._adapter_type = manifest["metadata"].get("adapter_type", "default")
        self._root = manifest["metadata"].get("project_name")
        self._known = _known or _Known(manifest, package_only)
        self._compiled: dict[tuple[str, str], Callable[..., Any]] = {}
        self._columns = columns
        self._context = {
            PACKAGE: _Namespace(self._own_macro),
            "adapter": self,
            "exceptions": self,
            "execute": True,
            "graph": {"nodes": manifest["nodes"]},
            "model": {},
            "ref": self._ref,
            "return": _return,
            "run_query": lambda sql: None,
            "var": lambda name, default=None: default,
        }

    def render(self, macro: str, *args: Any, **kwargs: Any) -> str:
        """The SQL that a public macro gives for these arguments.

        Raises:
            InputError: with the sentence that would have stopped ``dbt compile``.
            ProjectError: where a macro reaches for what no template may have, or is broken.
        """
        try:
            return self._macro(PACKAGE, macro)(*args, **kwargs).strip()
        except (jinja2.TemplateError, RecursionError, OverflowError) as error:
            raise ProjectError(f"The macro '{macro}' cannot be rendered: {' '.join(str(error).split())}.") from None

    def over(self, columns: Callable[[Relation], list[Column]]) -> MacroRenderer:
        """The same macros over another connection; what was found out about the project need not be found again."""
        return MacroRenderer(self._manifest, columns, _known=self._known)

    # What the macros use of dbt's `adapter` and `exceptions`.

    def dispatch(self, name: str, package: str) -> Callable[..., Any]:
        """dbt's lookup: the project's own versions first, then the package's; in each the dialect before default."""
        for owner in (self._root, package):
            for prefix in (self._adapter_type, "default"):
                if (owner, f"{prefix}__{name}") in self._known.sources:
                    return self._macro(owner, f"{prefix}__{name}")
        raise NotFoundError(f"The dbt package has no macro '{name}' for {self._adapter_type}.")

    def quote(self, name: str) -> str:
        """A name as a quoted identifier."""
        mark = "`" if self._adapter_type in ("spark", "databricks", "bigquery") else '"'
        return f"{mark}{name}{mark}"

    def get_columns_in_relation(self, relation: Relation) -> list[Column]:
        """The relation's columns, in order."""
        return self._columns(relation)

    def raise_compiler_error(self, message: str) -> NoReturn:
        """What stops ``dbt compile`` stops the call here."""
        raise InputError(message)

    def _ref(self, name: str, v: int | str | None = None) -> Relation:
        relation = self._known.relations.get((name, None if v is None else str(v)))
        if relation is None:
            raise NotFoundError(f"The manifest has no model '{name}'{f' of version {v}' if v is not None else ''}.")
        return Relation(relation)

    def _own_macro(self, name: str) -> Callable[..., Any]:
        return self._feature_views if name == "feature_views" else self._macro(PACKAGE, name)

    def _feature_views(self) -> Any:
        """The macro of that name, which goes through all models of the project, called once for a manifest."""
        if self._known.views is None:
            self._known.views = self._macro(PACKAGE, "feature_views")()
        return self._known.views

    def _macro(self, package: str, name: str) -> Callable[..., Any]:
        if (package, name) not in self._compiled:
            if (package, name) not in self._known.sources:
                raise NotFoundError(f"The dbt package {package} has no macro '{name}': run `dbt deps` and `dbt build`.")
            code = _code(self._known.sources[package, name])
            globals_ = _ENVIRONMENT.make_globals(self._context)
            module = jinja2.Template.from_code(_ENVIRONMENT, code, globals_).module
            self._compiled[package, name] = _catching_return(getattr(module, _PREFIX + name))
        return self._compiled[package, name]


class _Known:
    """What is found out once about a project, whatever its renderers are connected to."""

    def __init__(self, manifest: Mapping[str, Any], package_only: bool) -> None:
        root = manifest["metadata"].get("project_name")
        self.sources = {} if package_only else _written(manifest, root)
        if not any(package == PACKAGE for package, _ in self.sources):
            self.sources |= _of_the_package()
        # By name and version; the name alone is the latest version.
        self.relations: dict[tuple[str, str | None], str] = {}
        self.views: Any = None
        for node in manifest["nodes"].values():
            if node.get("resource_type") == "model" and node.get("relation_name"):
                version = node.get("version")
                if version is not None:
                    self.relations.setdefault((node["name"], str(version)), node["relation_name"])
                if str(version) == str(node.get("latest_version")):
                    self.relations.setdefault((node["name"], None), node["relation_name"])


@lru_cache(maxsize=1024)
def _code(source: str) -> CodeType:
    """A macro's file, compiled: that takes many times longer than to run it, and every call needs some thirty."""
    return _ENVIRONMENT.compile(_MACRO.sub(rf"\1{_PREFIX}\2", source))


class _Namespace:
    """``feature_store.some_macro`` in a template: an item, for in the sandbox no attribute begins with ``_``."""

    def __init__(self, find: Callable[[str], Callable[..., Any]]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._find(name)


def package_folder() -> Path:
    """The folder of the dbt package that belongs to this distribution."""
    inside = Path(__file__).parent / "dbt_package"
    return inside if inside.is_dir() else Path(__file__).parent.parent


def _written(manifest: Mapping[str, Any], root: str | None) -> dict[tuple[str, str], str]:
    """The macros in a manifest that count: the package's and the project's own."""
    return {
        (macro["package_name"], macro["name"]): macro["macro_sql"]
        for macro in manifest["macros"].values()
        if macro["package_name"] in (PACKAGE, root)
    }


def _of_the_package() -> dict[tuple[str, str], str]:
    """The macros that travel with this distribution."""
    found = {}
    for path in sorted((package_folder() / "macros").rglob("*.sql")):
        text = path.read_text()
        for name in (match[2] for match in _MACRO.finditer(text)):
            found[PACKAGE, name] = text
    return found


def _return(value: Any) -> NoReturn:
    raise _ReturnError(value)


def _catching_return(macro: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return macro(*args, **kwargs)
        except _ReturnError as returned:
            return returned.value

    return call
