"""Spines as a user names them: a file, a SELECT, or rows in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from materializer.errors import InputError, worded
from materializer.project.storage import Remote, place
from materializer.training.text_files import read_csv, read_json_lines

_READERS = {
    ".parquet": pyarrow.parquet.read_table,
    ".csv": read_csv,
    ".json": read_json_lines,
    ".jsonl": read_json_lines,
}


@dataclass(frozen=True)
class Spine:
    """A spine that was read: `rows` is a table, the rows of a text file, or SQL text.

    A file also has its path, or what its URL names, and the SHA-256 of its bytes.
    """

    rows: Any
    path: Path | Remote | None = None
    sha256: str | None = None

    @property
    def kind(self) -> str:
        """``file``, ``sql`` or ``rows``."""
        return "file" if self.path else "sql" if isinstance(self.rows, str) else "rows"


def read_spine(source: Any, connection: Mapping[str, Any] | None = None) -> Spine:
    """What `source` names: a path or URL, SQL text, or anything else: rows. Raises InputError for a file that is
    missing, broken or of an unknown kind.

    Args:
        connection: the profile's target, whose credentials a URL is read with.
    """
    if not isinstance(source, (str, os.PathLike, Remote)):
        return Spine(source)
    is_query = isinstance(source, str) and source.lstrip().lower().startswith(("select", "with", "from"))
    if is_query and not os.path.exists(source):  # noqa: PTH110 - a text too long for a path is none
        return Spine(source)
    path = source if isinstance(source, Remote) else place(source, connection or {})
    if path.suffix not in _READERS:
        raise worded(
            InputError,
            lambda say: (
                f"{say.spine_option} is a .parquet, .csv or .jsonl file, or a SELECT; '{source}' is none of them."
            ),
        )
    copy: Path | None = None
    try:
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        with path.fetched() if isinstance(path, Remote) else nullcontext(path) as copy:
            return Spine(_READERS[path.suffix](copy), path, file_sha256(copy))
    except InputError as error:
        raise InputError(str(error).replace(str(copy or path), str(path))) from None
    except (pa.ArrowException, ValueError, OSError) as error:
        said = error.strerror if isinstance(path, Remote) and isinstance(error, OSError) and error.strerror else error
        text = " ".join(str(said).split()).replace(str(copy or path), str(path))
        raise InputError(f"{path} cannot be read: {text}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
