"""What the models of one manifest mean: their queries, read once each, with the columns of the models they read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError

from materializer.project.graph import Graph, reference_of
from materializer.project.relation import PACKAGE
from materializer.sql.lineage import traces_of
from materializer.sql.meaning import Query, UnreadableError, digest, relation
from materializer.sql.signature import query_of

MODELS = ("model", "snapshot")
_COMMENTS = re.compile(r"\{#.*?#\}|('(?:''|[^'])*'|\"[^\"]*\")|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WORDS = re.compile(r"'(?:''|[^'])*'|\"[^\"]*\"|\w+|[^\w\s]", re.DOTALL)
_JINJA_DASHES = re.compile(r"(\{[%{])-|-([%}]\})")
# What a macro or model may look at beside its own text; a changed value of it shows only in compiled SQL.
_OUTSIDE = re.compile(r"\b(var|env_var|target|graph|run_query|statement|flags|adapter\s*\.\s*(?!dispatch|quote))\b")


class Models:
    """The models of a manifest, by a key that is the same in every manifest: their name, with ``.v2`` for a version.

    Args:
        manifest: of dbt.
        columns: the columns and types that relations have, as far as a catalog or the warehouse said, by unique id.
    """

    def __init__(self, manifest: Mapping[str, Any], columns: Mapping[str, Mapping[str, str]]) -> None:
        self.graph = Graph(manifest, lambda node: list(columns.get(node["unique_id"], ())))
        self._project = manifest["metadata"].get("project_name")
        self._adapter = manifest["metadata"].get("adapter_type")
        self._macros = manifest.get("macros") or {}
        self._columns = columns
        kinds = (*MODELS, "seed", "source")
        with_rows = [node for node in self.graph.nodes.values() if node["resource_type"] in kinds]
        self._by_key = {self.key(node).lower(): node for node in with_rows}
        self._queries: dict[str, Query | None] = {}
        self._why: dict[str, str] = {}
        self._fingerprints: dict[str, str | None] = {}
        self.dialect = self.graph.dialect
        self._reader = traces_of(self.graph).reader

    def key(self, node: Mapping[str, Any]) -> str:
        """How a node is called in a diff."""
        own = node["resource_type"] == "source" or node.get("package_name") == self._project
        return reference_of(node) if own else f"{node.get('package_name')}.{reference_of(node)}"

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The model, snapshot, seed or source called so."""
        return self._by_key.get(key.lower())

    def query(self, key: str) -> Query | None:
        """What a model means; None where that cannot be told (`why_not` says why), or it is no model."""
        node = self.get(key)
        if node is None or node["resource_type"] not in MODELS:
            return None
        if key not in self._queries:
            for one in (*reversed(list(self.graph.above(node))), node):  # from the first on, however long the chain
                self._query(self.key(one), one)
        return self._queries[key]

    def _query(self, key: str, node: Mapping[str, Any]) -> None:
        if key in self._queries or node["resource_type"] not in MODELS:
            return
        self._queries[key] = None  # what reads itself, in a broken manifest, ends here
        try:
            self._queries[key] = self._read(node)
        except UnreadableError as error:
            self._why[key] = str(error)

    def fingerprint(self, key: str) -> str | None:
        """Equal where a model, all above it and what is known of their columns are; None where not all is compiled."""
        if key not in self._fingerprints:
            self._fingerprints[key] = None
            node = self.get(key) or {}
            above = [self.fingerprint(parent) for parent in self.parents(key)]
            kinds = [(one.get("name"), one.get("data_type")) for one in (node.get("columns") or {}).values()]
            about = kinds, self._columns.get(node.get("unique_id", "")), (node.get("config") or {}).get("contract")
            made = node.get("compiled_code") if node.get("resource_type") in MODELS else node.get("resource_type")
            if made and None not in above:
                self._fingerprints[key] = digest(key, made, node.get("identifier"), about, above)
        return self._fingerprints[key]

    def why_not(self, key: str) -> str | None:
        """Why a model has no query: half a sentence."""
        self.query(key)
        return self._why.get(key)

    def parents(self, key: str) -> list[str]:
        """The keys of the models, seeds and sources that a model reads."""
        node = self.get(key)
        return sorted(self.key(parent) for parent in self.graph.parents(node)) if node else []

    def types_of(self, key: str, column: str) -> tuple[str | None, str | None, str | None]:
        """A column's type as declared, as the catalog or warehouse has it, and as its SQL says beyond doubt."""
        node = self.get(key) or {}
        declared = (_in(node.get("columns") or {}, column) or {}).get("data_type")
        known = _in(self._columns.get(node.get("unique_id", ""), {}), column)
        query = self.query(key)
        made = _in(query.columns, column) if query else None
        return declared, known, made.type if made else None

    def plain_type(self, name: str) -> str:
        """A type as it is called in every spelling: ``integer`` and ``int4`` are ``int``."""
        try:
            return exp.DataType.build(name, dialect=self.dialect).sql(dialect=self.dialect).lower()
        except (SqlglotError, ValueError):
            return " ".join(name.lower().split())

    def columns(self, key: str) -> dict[str, str | None] | None:
        """All columns of a relation with their types as far as known; None where not all are known."""
        node = self.get(key)
        if node is None:
            return None
        query = self.query(key)
        if query is not None and not query.unseen:
            names = list(query.columns)
        elif node["unique_id"] in self._columns:
            names = [name.lower() for name in self._columns[node["unique_id"]]]
        elif ((node.get("config") or {}).get("contract") or {}).get("enforced"):
            names = [name.lower() for name in node["columns"]]
        else:
            return None
        return {name: next(filter(None, self.types_of(key, name)), None) for name in names}

    def says_all(self, key: str) -> bool:
        """Whether a model's own text and its macros' are all that its SQL depends on: no variable, no environment."""
        node = self.get(key)
        if node is None or _looks_outside(node.get("raw_code") or ""):
            return False
        return not any(
            _looks_outside(macro["macro_sql"])
            for macro in self._macros_of(node)
            if macro["package_name"] not in (PACKAGE, "dbt", f"dbt_{self._adapter}")
        )

    def macro_texts(self, key: str) -> dict[str, str]:
        """The text of every macro that a model calls, through others."""
        node = self.get(key)
        return {macro["name"]: macro["macro_sql"] for macro in self._macros_of(node)} if node else {}

    def _macros_of(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        waiting = list((node.get("depends_on") or {}).get("macros") or ())
        while waiting:
            name = waiting.pop()
            if name in self._macros and name not in found:
                found[name] = self._macros[name]
                waiting += (self._macros[name].get("depends_on") or {}).get("macros") or ()
        return [macro for _, macro in sorted(found.items())]

    def _read(self, node: Mapping[str, Any]) -> Query:
        if node.get("language", "sql") != "sql":
            raise UnreadableError(f"it is written in {node['language']}")
        if not node.get("compiled_code"):
            raise UnreadableError("the manifest holds no compiled SQL of it")
        read = self._reader.node(node["unique_id"])
        if read.scope is None:
            why = str(read.problem).removeprefix(f"The compiled SQL of {read.title} ").rstrip(".")
            raise UnreadableError(f"its SQL {why}")
        try:
            return query_of(read, self._relation)
        except UnreadableError as error:
            raise UnreadableError(f"its SQL cannot be read ({error})") from None

    def _relation(self, name: str) -> Query:
        """What a table in SQL is: a column is followed from one model to the next by who compares them."""
        node = self.graph.nodes.get(name)
        if node is None:
            return relation(name, {}, True)
        columns = self.columns(self.key(node))
        return relation(self.key(node), columns or dict.fromkeys(self._reader.node(name).columns), not columns)


def _in(mapping: Mapping[str, Any], name: str) -> Any:
    """The entry under a name, whatever its case."""
    return next((value for key, value in mapping.items() if key.lower() == name.lower()), None)


def words(text: str) -> list[str]:
    """A text without comments, layout and case (of what is not quoted): what is compared where SQL cannot be read."""
    bare = _JINJA_DASHES.sub(r"\1\2", _without_comments(text))
    return [word if word[0] in "'\"" else word.lower() for word in _WORDS.findall(bare)]


def _looks_outside(text: str) -> bool:
    """Whether a model's or macro's text reads variables, the environment or the warehouse's rows."""
    return bool(_OUTSIDE.search(_without_comments(text)))


def _without_comments(text: str) -> str:
    return _COMMENTS.sub(lambda match: match[1] or " ", text)
