"""The catalog as files: the page, and the document beside it. Each is replaced whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from materializer.catalog.document import to_json
from materializer.catalog.page import html
from materializer.errors import InputError
from materializer.project.settings import Project
from materializer.sql.columns import no_garbage


def default_page(project: Project) -> Path:
    """Where a project's page goes, unless another file is named; dbt's own ``target/catalog.json`` is another thing."""
    return project.target_folder / "feature_store" / "catalog.html"


@no_garbage()
def write(document: Mapping[str, Any], page: Path) -> Path:
    """Write the page, and beside it the document as ``.json`` under the same stem; gives that file.

    Raises:
        InputError: where they cannot be written.
    """
    beside = page.with_suffix(".json")
    if beside == page:
        raise InputError(
            f"--out is the page, an HTML file, and {page.name} would be the document beside it: name it .html."
        )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        _replace(beside, to_json(document))
        _replace(page, html(dict(document)))
    except OSError as error:
        raise InputError(f"The catalog cannot be written to {page.parent}: {error.strerror or error}.") from None
    return beside


def _replace(path: Path, content: bytes) -> None:
    """Readers see the file as it was, or as it will be."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # noqa: PTH101 - what mkstemp makes nobody else may read
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        raise
