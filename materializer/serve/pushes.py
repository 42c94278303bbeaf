"""Events over HTTP: a producer's rows into the landing of the dbt project that the server stands in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from materializer.errors import NotFoundError
from materializer.serve.asked import InvalidError

if TYPE_CHECKING:
    from materializer.stream.push import Pushed

_log = logging.getLogger("materializer")


class PushRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body: events as mappings of columns to values."""

    rows: list[dict[str, Any]]


class Pushes:
    """Takes the pushes of one server process.

    Args:
        project_dir: of the dbt project whose sources events land in.
        clock: tells the moment at which events land.

    Raises:
        ProjectError, DefinitionError, LandingError, WarehouseError: where nothing can land there.
    """

    def __init__(self, project_dir: Path, target: str | None, clock: Callable[[], datetime]) -> None:
        from materializer.project.manifest import load_manifest
        from materializer.project.settings import load_project
        from materializer.stream.keep import kept
        from materializer.stream.place import landing_of
        from materializer.stream.source import streamed_sources

        project = load_project(project_dir, target=target)
        self._sources = streamed_sources(load_manifest(project))
        self._landing = landing_of(project, self._sources, clock)
        self._alone = threading.Lock()  # commits come one by one anyway
        self._keeping = ExitStack()
        self._keeping.callback(self._landing.close)
        self._keeping.enter_context(kept(self._landing, _log.warning))

    def known(self, source: str) -> str:
        """The whole name of a source, ``shop.purchases``; where there is no such source, what it was called."""
        from materializer.stream.source import source_named

        try:
            return source_named(self._sources, source).name
        except NotFoundError:
            return source

    def push(self, source: str, body: bytes, key: str | None) -> Pushed:
        """Land a request's rows. Raises InvalidError for a body of another form; else as `push` does."""
        from materializer.stream.push import push
        from materializer.stream.source import source_named

        try:
            rows = msgspec.json.decode(body, type=PushRequest).rows
        except msgspec.MsgspecError as error:
            raise InvalidError(f'The body is not of the form {{"rows": [{{...}}]}}: {error}.') from None
        with self._alone:
            return push(self._landing, source_named(self._sources, source), rows, key)

    def close(self) -> None:
        """Let readers see the last of it."""
        self._keeping.close()
