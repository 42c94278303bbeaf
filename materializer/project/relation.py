"""What SQL can select from, and the names it has there."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The dbt package's name.
PACKAGE = "feature_store"
# What `ref()` can name.
REFERABLE = ("model", "seed", "snapshot")

_PART = r'(?:"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|(\w[\w$]*))'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,3}}")
# DuckDB reads a name that is no table's but a file's as that file.
_FILE = re.compile(r"[/\\]|\.(avro|csv|db|duckdb|gz|json|jsonl|ndjson|parquet|tsv|txt|xlsx|zst)$", re.IGNORECASE)


@dataclass(frozen=True)
class Relation:
    """Something that SQL can select from, as it is written there: a table's name or a SELECT in parentheses."""

    sql: str

    def __str__(self) -> str:
        return self.sql

    @property
    def database(self) -> str | None:
        return self._part(-3)

    @property
    def schema(self) -> str | None:
        return self._part(-2)

    @property
    def identifier(self) -> str | None:
        return self._part(-1)

    name = table = identifier

    def _part(self, place: int) -> str | None:
        parts = re.findall(r'"((?:[^"]|"")*)"|`([^`]*)`', self.sql)
        return (parts[place][0].replace('""', '"') or parts[place][1]) if len(parts) >= -place else None


@dataclass(frozen=True)
class Column:
    """A column as dbt's adapters describe it; `dtype` is the warehouse's own name of the type."""

    name: str
    dtype: str


def is_relation_name(text: object) -> bool:
    """Whether a text is the name of a table or view, quoted or not, with at most three names above it."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        return False
    parts = ["".join(found) for found in re.findall(_PART, text)]
    return not any(_FILE.search(part) for part in parts)
