"""``feature-store mcp``: the catalog's document for agents, over stdio."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import click

from materializer.cli.common import open_store, store_options
from materializer.errors import FeatureStoreError, InputError, NotFoundError

_ABOUT = (
    "The feature store of a dbt project: which features there are, what they mean, where they come from, whether they "
    "can be trusted, and how a training set of them is made. Features are called view:feature."
)


@click.command()
@click.option("--catalog", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="The catalog.json to answer from. Default: the project's, else one made in memory.")  # fmt: skip
@store_options
def mcp(file: Path | None, **where: Any) -> None:
    """Serve the catalog to an agent: read-only tools over stdio (Model Context Protocol).

    search, show, lineage, statistics, training_set. Nothing in it writes. An agent's configuration names this command:

    \b
        feature-store mcp --project-dir dbt_project
    """
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp_types import ToolAnnotations
    except ImportError as error:
        raise InputError(
            f"This needs the extra `mcp` ({error.name} is missing): pip install 'dbt-feature-store[mcp]'."
        ) from None
    from importlib.metadata import version

    from materializer.catalog import answers

    document = _Document(file, where)
    document.file()  # what is wrong with the project is said before an agent is connected
    server = MCPServer("feature-store", instructions=_ABOUT, version=version("dbt-feature-store"), log_level="ERROR")
    for tool in answers.TOOLS:
        server.add_tool(
            _over(document, tool, ToolError), annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False)
        )
    server.run("stdio")


def _over(document: _Document, tool: Callable[..., dict[str, Any]], refused: type[Exception]) -> Callable[..., Any]:
    """The tool, with the document as it is now in place of its first argument."""

    @wraps(tool)
    def call(**arguments: Any) -> dict[str, Any]:
        try:
            return tool(document.read(), **arguments)
        except FeatureStoreError as error:
            raise refused(str(error)) from None

    own = signature(tool, eval_str=True)
    call.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])
    call.__annotations__ = {name: one.annotation for name, one in call.__signature__.parameters.items()}
    call.__annotations__["return"] = own.return_annotation
    del call.__wrapped__
    return call


class _Document:
    """The document of a file, read again when that was replaced; where there is none, made once in memory."""

    def __init__(self, file: Path | None, where: Mapping[str, Any]) -> None:
        self._file, self._named, self._where = file, file is not None, where
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, Any] | None = None

    def file(self) -> Path:
        """Where the document is expected."""
        if self._file is None:
            from materializer.catalog.files import default_page

            self._file = default_page(open_store(**self._where).project).with_suffix(".json")
        return self._file

    def read(self) -> dict[str, Any]:
        """The document as it is now."""
        try:
            found = self.file().stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                known = json.loads(self._file.read_bytes())
                if known["format"] != 1:
                    raise ValueError(known["format"])
                self._known, self._seen = known, seen
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            if self._named:
                raise NotFoundError(
                    f"{self._file} is no catalog that can be read: `feature-store catalog build` writes one."
                ) from None
            if self._known is None:
                self._known = open_store(**self._where).get_catalog(statistics=False, workers=None)
        assert self._known is not None
        return self._known
