"""The log of served features, read back: see `materializer.serve.feature_log`, which writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from materializer.errors import InputError
from materializer.online.served_log import ABOUT, FORMAT, REQUEST_ID, SERVED_AT
from materializer.project.definitions import split_reference

# Rows that are compared at once, about.
_PIECE = 200_000


@dataclass(frozen=True)
class Piece:
    """Rows of one view: `table` has ``__log_timestamp``, ``__request_id``, the join keys, the `features` by their own
    names, and the event time of their row as ``__event``."""

    view: str
    features: tuple[str, ...]
    join_keys: tuple[str, ...]
    table: pa.Table


class Served:
    """What is in a folder of logged features, of one namespace.

    Args:
        features: only these, ``view:feature``, or all features of views that are named without one.
        since: only what was served from then on.
    """

    def __init__(self, folder: Path, namespace: str, features: Sequence[str], since: datetime | None) -> None:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}: `feature-store serve --log-features` makes one.")
        self._files = sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
        if not self._files:
            raise InputError(f"No served features are logged in {folder} yet: a server writes them once a minute.")
        self._namespace, self._since = namespace, since
        self._wanted = {tuple(split_reference(one)) if ":" in one else (one, None) for one in features}
        # The namespaces of files that were passed over.
        self.others: set[str] = set()

    def pieces(self) -> Iterator[Piece]:
        """The rows, view by view of each file, small files of one kind together.

        Raises:
            InputError: for a file that is not of the log, or damaged.
        """
        waiting: dict[Any, list[pa.Table]] = {}
        for path in self._files:
            for piece in self._read(path):
                kind = (piece.view, piece.features, piece.join_keys, piece.table.schema)
                tables = waiting.setdefault(kind, [])
                tables.append(piece.table)
                if sum(table.num_rows for table in tables) >= _PIECE:
                    yield Piece(*kind[:3], pa.concat_tables(waiting.pop(kind)))
        for kind, tables in waiting.items():
            yield Piece(*kind[:3], pa.concat_tables(tables))

    def _read(self, path: Path) -> Iterator[Piece]:
        try:
            with pq.ParquetFile(path) as file:
                about = json.loads((file.schema_arrow.metadata or {})[ABOUT])
                if about["format"] > FORMAT:
                    raise InputError(f"{path} was written by a newer release: upgrade.")
                if about["namespace"] != self._namespace:
                    self.others.add(str(about["namespace"]))
                    return
                table = file.read()
            if self._since is not None:
                table = table.filter(pc.greater_equal(table[SERVED_AT], pa.scalar(self._since)))
            if table.num_rows:
                yield from self._pieces(table, about)
        except KeyError:
            raise InputError(f"{path} is no file of served features: name the folder of --log-features.") from None
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read as served features: {' '.join(str(error).split())}.") from None

    def _pieces(self, table: pa.Table, about: dict[str, Any]) -> Iterator[Piece]:
        columns: dict[str, dict[str, str]] = {}
        for one in about["features"]:
            view = one["view"]
            if not self._wanted or self._wanted & {(view, None), (view, one["feature"])}:
                columns.setdefault(view, {})[one["feature"]] = one["column"]
        for view, named in columns.items():
            keys = tuple(about["join_keys"][view])
            first = next(iter(named.values()))
            parts = {name: table[name] for name in (SERVED_AT, REQUEST_ID, *keys)}
            parts |= {feature: table[column] for feature, column in named.items()}
            parts["__event"] = table[f"{first}__timestamp"]
            yield Piece(view, tuple(named), keys, pa.table(parts))
