"""Renders the dbt package's macros without dbt: the same files, hence the same SQL, in milliseconds.

The macros are taken from the manifest (what dbt itself used) or, where a project does not install the package, from
the copy that travels with this distribution. They are looked up as dbt does: `dispatch:` of dbt_project.yml, the
project's own versions, its `vars:` and ``--vars``. What only dbt has (its adapter, a model's `config`) is refused by
name where a macro of the project's own uses it. All of it runs in Jinja's sandbox, as in dbt; the macros of a manifest
that is not the project's own are never rendered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

import jinja2

from materializer.errors import InputError, NotFoundError, ProjectError
from materializer.project.macro_context import ONLY_DBT, Namespace, Offered, OnlyDbt
from materializer.project.profile_jinja import basic_context
from materializer.project.relation import PACKAGE, REFERABLE, Column, Relation
from materializer.project.sandbox import Sandbox, SecurityError
from materializer.project.settings import Project

_MACRO = re.compile(r"({%-?\s*macro\s+)(\w+)")
# Jinja does not export names that begin with an underscore; dbt renames macros for the same reason.
_PREFIX = "dbt_macro__"
_UNSET = object()
_ENVIRONMENT = Sandbox(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
# dbt's adapters that build on another one, whose macros count before the default ones.
_PARENTS = {"databricks": "spark", "redshift": "postgres", "fabric": "sqlserver"}


class _ReturnError(Exception):
    """Carries the value of dbt's ``return()`` out of a macro."""

    def __init__(self, value: Any) -> None:
        self.value = value


class ProjectManifest(dict[str, Any]):
    """A project's own manifest. What dbt leaves out of it (`vars:`, `dispatch:`, the target) `project` has."""

    def __init__(self, content: Mapping[str, Any], project: Project) -> None:
        super().__init__(content)
        self.project = project


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
        self.adapter_type = str(manifest["metadata"].get("adapter_type") or "default")
        self._root = manifest["metadata"].get("project_name")
        self._known = _known or _Known(manifest, package_only)
        self._modules: dict[str, Any] = {}  # the macros' files, by their text
        self._compiled: dict[tuple[str, str], Callable[..., Any]] = {}
        self._columns = columns
        # None for a manifest that is not this project's own: then nothing is known of its settings.
        self._project: Project | None = getattr(manifest, "project", None)
        named = self._macros_of_dbt() | self._dbt_context() | self._macros_by_name()
        self._context = dict(_ENVIRONMENT.globals) | named

    def render(self, macro: str, *args: Any, package: str = PACKAGE, **kwargs: Any) -> str:
        """The SQL that a public macro gives for these arguments; `package` is another one than this store's own.

        Raises:
            InputError: with the sentence that would have stopped ``dbt compile``.
            ProjectError: where a macro reaches for what no template may have, or is broken.
        """
        return self.ask(macro, *args, package=package, **kwargs).strip()

    def ask(self, macro: str, *args: Any, package: str = PACKAGE, **kwargs: Any) -> Any:
        """What a macro returns, as `render`; text where it returns nothing."""
        try:
            return self._macro(package, macro)(*args, **kwargs)
        except (SecurityError, RecursionError, OverflowError) as error:
            raise ProjectError(f"The macro '{macro}' cannot be rendered: {' '.join(str(error).split())}.") from None
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"The dbt macro '{macro}' cannot be rendered: {' '.join(str(error).split()) or type(error).__name__}. "
                "Does the project override a macro of the package with one that needs dbt itself?"
            ) from None

    def over(self, columns: Callable[[Relation], list[Column]]) -> MacroRenderer:
        """The same macros over another connection; what was found out about the project need not be found again."""
        return MacroRenderer(self._manifest, columns, _known=self._known)

    # What dbt's templates read.

    def _dispatch(self, macro_name: str, macro_namespace: str | None = None) -> Callable[..., Any]:
        """dbt's lookup: the packages as `dispatch:` lists them, else the project's own versions, then the package's; in
        each the dialect before default."""
        found = self._known.sources
        for owner in self._search_order(macro_namespace):
            for prefix in (self.adapter_type, _PARENTS.get(self.adapter_type), "default"):
                name = f"{prefix}__{macro_name}"
                if owner is None and name in self._context:
                    return self._context[name]
                for package in self._internal if owner == "dbt" else (owner,):
                    if (package, name) in found:
                        return self._macro(package, name)
        raise NotFoundError(f"The dbt package has no macro '{macro_name}' for {self.adapter_type}.")

    def _search_order(self, namespace: str | None) -> Sequence[str | None]:
        order = self._project.dispatch.get(namespace or "") if self._project else None
        if order:
            return order
        return (self._root, namespace) if namespace and namespace != "dbt" else (None,)

    def _quote(self, name: str) -> str:
        mark = "`" if self.adapter_type in ("spark", "databricks", "bigquery") else '"'
        return f"{mark}{name}{mark}"

    def _dbt_context(self) -> dict[str, Any]:
        where = "A macro of the dbt project"
        project = self._project
        target = project.target_context if project else OnlyDbt("target")
        return {
            **{name: OnlyDbt(name) for name in ONLY_DBT},
            **basic_context(where, {}),
            "adapter": Offered(
                "adapter", dispatch=self._dispatch, quote=self._quote, get_columns_in_relation=self._columns,
                type=lambda: self.adapter_type,
            ),
            "dbt_version": self._manifest["metadata"].get("dbt_version"),
            "exceptions": Offered("exceptions", raise_compiler_error=_stop, warn=lambda message: ""),
            "execute": True,
            "invocation_args_dict": {},
            "graph": {"nodes": self._manifest["nodes"], "sources": self._manifest.get("sources") or {},
                      "exposures": self._manifest.get("exposures") or {}},
            "local_md5": lambda value: hashlib.md5(str(value).encode(), usedforsecurity=False).hexdigest(),
            "log": lambda *_, **__: "",
            "model": {},
            "print": lambda *_: "",
            "project_name": self._root,
            "ref": self._ref,
            "return": _return,
            "run_query": lambda sql: None,
            "schema": target["schema"] if project else OnlyDbt("schema"),
            "database": target["database"] if project else OnlyDbt("database"),
            "source": self._source,
            "target": target,
            "var": self._var if project else lambda name, default=None: default,
        }  # fmt: skip

    def _macros_of_dbt(self) -> dict[str, Any]:
        """dbt's own macros and its adapter's, which come first."""
        return {name: macro for owner in reversed(self._internal) for name, macro in self._macros_of(owner).items()}

    def _macros_of(self, package: str | None) -> dict[str, Any]:
        """The macros of a package, each compiled when it is called first."""

        def lazily(name: str) -> Callable[..., Any]:
            return lambda *args, **kwargs: self._macro(str(package), name)(*args, **kwargs)

        return {name: lazily(name) for name in self._known.names.get(package, ())}

    def _macros_by_name(self) -> dict[str, Any]:
        """The packages, and before them the macros of the project itself."""
        packages = [package for package in self._known.names if package not in self._internal]
        return {
            "dbt": Namespace(lambda name: self._macro(self._owner_in_dbt(name), name)),
            **{package: Namespace(self._finder(package)) for package in packages},
            PACKAGE: Namespace(self._own_macro),
            **self._macros_of(self._root),
        }

    def _finder(self, package: str) -> Callable[[str], Callable[..., Any]]:
        return lambda name: self._macro(package, name)

    @property
    def _internal(self) -> tuple[str, ...]:
        """The packages of dbt's own macros, the adapter's first."""
        parent = _PARENTS.get(self.adapter_type)
        return (f"dbt_{self.adapter_type}", *([f"dbt_{parent}"] if parent else []), "dbt")

    def _owner_in_dbt(self, name: str) -> str:
        return next((owner for owner in self._internal if (owner, name) in self._known.sources), "dbt")

    def _var(self, name: str, default: Any = _UNSET) -> Any:
        """``--vars``, else those of the project, else those of all projects; a text is rendered, as dbt does."""
        assert self._project is not None
        own = self._project.project_vars.get(str(self._root))
        for known in (self._project.variables, own if isinstance(own, dict) else {}, self._project.project_vars):
            if name in known:
                value = known[name]
                if isinstance(value, str) and "{" in value:
                    return _ENVIRONMENT.from_string(value).render(self._context)
                return value
        if default is _UNSET:
            raise InputError(f"A macro of the dbt project needs the variable '{name}': pass it with --vars, as to dbt.")
        return default

    def _ref(self, *names: str, v: int | str | None = None, version: int | str | None = None) -> Relation:
        *package, name = names
        v = v if v is not None else version
        relation = self._known.relations.get((*package, name, None if v is None else str(v)))
        if relation is None:
            raise NotFoundError(f"The manifest has no model '{name}'{f' of version {v}' if v is not None else ''}.")
        return Relation(relation)

    def _source(self, source: str, table: str) -> Relation:
        for node in (self._manifest.get("sources") or {}).values():
            if (node.get("source_name"), node.get("name")) == (source, table) and node.get("relation_name"):
                return Relation(node["relation_name"])
        raise NotFoundError(f"The manifest has no source '{source}.{table}'.")

    def _own_macro(self, name: str) -> Callable[..., Any]:
        own = {"feature_views": self._feature_views, "_find_view": self._find_view}
        return own.get(name) or self._macro(PACKAGE, name)

    def _feature_views(self) -> Any:
        """The macro of that name, which goes through all models of the project, called once for a manifest."""
        if self._known.views is None:
            self._known.views = self._macro(PACKAGE, "feature_views")()
        return self._known.views

    def _find_view(self, reference: str) -> Any:
        """The macro of that name, without going through all models: of thousands that takes seconds."""
        node = self._known.declared.get(reference)
        return self._macro(PACKAGE, "_declared_view")(node) if node else self._feature_views().get(reference)

    def _macro(self, package: str, name: str) -> Callable[..., Any]:
        if (package, name) not in self._compiled:
            if (package, name) not in self._known.sources:
                raise NotFoundError(f"The dbt package {package} has no macro '{name}': run `dbt deps` and `dbt build`.")
            source = self._known.sources[package, name]
            if source not in self._modules:
                template = jinja2.Template.from_code(_ENVIRONMENT, _code(source), {})
                # All files share one set of names: a copy of dbt's some five hundred takes longer than the rest.
                self._modules[source] = template.make_module(self._context, shared=True)
            module = self._modules[source]
            self._compiled[package, name] = _catching_return(getattr(module, _PREFIX + name))
        return self._compiled[package, name]


class _Known:
    """What is found out once about a project, whatever its renderers are connected to."""

    def __init__(self, manifest: Mapping[str, Any], package_only: bool) -> None:
        root = manifest["metadata"].get("project_name")
        self.sources = {} if package_only else _written(manifest)
        if not any(package == PACKAGE for package, _ in self.sources):
            self.sources |= _of_the_package()
        # The macros of each package.
        self.names: dict[str | None, list[str]] = {}
        for package, name in self.sources:
            self.names.setdefault(package, []).append(name)
        # By name and version, or package, name and version; without a version it is the latest, without a package the
        # project's own one comes first.
        self.relations: dict[tuple[str | None, ...], str] = {}
        self.views: Any = None
        # The nodes that declare views, by their references; none where a source does, on which `feature_views` stops.
        self.declared: dict[str, Mapping[str, Any]] = {}
        wrong = any(map(_declares_view, (manifest.get("sources") or {}).values()))
        for node in () if wrong else manifest["nodes"].values():
            if node.get("resource_type") in REFERABLE and _declares_view(node):
                version = node.get("version")
                latest = version is None or version == node.get("latest_version")
                names = [node["name"]] if latest else []
                self.declared |= dict.fromkeys(
                    [*names, *([f"{node['name']}.v{version}"] if version is not None else [])], node
                )
        nodes = sorted(manifest["nodes"].values(), key=lambda node: node.get("package_name") != root)
        for node in nodes:
            if node.get("resource_type") in REFERABLE and node.get("relation_name"):
                package, name, version = node.get("package_name"), node.get("name"), node.get("version")
                versions = [None] if version is None or str(version) == str(node.get("latest_version")) else []
                for one in [*([str(version)] if version is not None else []), *versions]:
                    self.relations.setdefault((name, one), node["relation_name"])
                    self.relations.setdefault((package, name, one), node["relation_name"])


@lru_cache(maxsize=1024)
def _code(source: str) -> CodeType:
    """A macro's file, compiled: that takes many times longer than to run it, and every call needs some thirty."""
    return _ENVIRONMENT.compile(_MACRO.sub(rf"\1{_PREFIX}\2", source))


def dbt_macro(manifest: Mapping[str, Any], root: str, name: str) -> str | None:
    """The package whose macro takes the place of one of dbt's own: the project itself, one it installs, or None."""
    owners = {macro.get("package_name") for macro in manifest["macros"].values() if macro.get("name") == name}
    installed = sorted(str(owner) for owner in owners if owner and not str(owner).startswith("dbt"))
    return root if root in owners else next(iter(installed), None)


def package_folder() -> Path:
    """The folder of the dbt package that belongs to this distribution."""
    inside = Path(__file__).parent.parent / "dbt_package"
    return inside if inside.is_dir() else Path(__file__).parents[2]


def _written(manifest: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """The macros in a manifest."""
    return {
        (macro["package_name"], macro["name"]): macro["macro_sql"]
        for macro in manifest["macros"].values()
        if all(isinstance(macro.get(key), str) for key in ("package_name", "name", "macro_sql"))
    }


@cache
def _of_the_package() -> Mapping[tuple[str, str], str]:
    """The macros that travel with this distribution, read once, as its Python is."""
    found = {}
    for path in sorted((package_folder() / "macros").rglob("*.sql")):
        text = path.read_text()
        for name in (match[2] for match in _MACRO.finditer(text)):
            found[PACKAGE, name] = text
    return found


def _declares_view(node: Mapping[str, Any]) -> bool:
    return "feature_view" in ((node.get("config") or {}).get("meta") or node.get("meta") or {})


def _stop(message: str) -> NoReturn:
    """What stops ``dbt compile`` stops the call here."""
    raise InputError(message)


def _return(value: Any) -> NoReturn:
    raise _ReturnError(value)


def _catching_return(macro: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return macro(*args, **kwargs)
        except _ReturnError as returned:
            return returned.value

    return call
