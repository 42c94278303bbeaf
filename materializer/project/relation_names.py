"""Names of tables as they stand in SQL, told apart from SQL."""

from __future__ import annotations

import re

_PART = r'(?:"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|(\w[\w$]*))'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,3}}")
# DuckDB reads a name that is no table's but a file's as that file.
_FILE = re.compile(r"[/\\]|\.(avro|csv|db|duckdb|gz|json|jsonl|ndjson|parquet|tsv|txt|xlsx|zst)$", re.IGNORECASE)


def is_relation_name(text: object) -> bool:
    """Whether a text is the name of a table or view, quoted or not, with at most three names above it."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        return False
    parts = ["".join(found) for found in re.findall(_PART, text)]
    return not any(_FILE.search(part) for part in parts)
