"""A warehouse within a fixed amount of memory, whatever its tables' size: what does not fit spills to disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.warehouse.duckdb import DuckDBWarehouse

BATCH_ROWS = 10_000
LARGE_BATCH_ROWS = 32
MEMORY_BYTES = 600 * 1024 * 1024
OUT_OF_MEMORY = re.compile(r"out of memory|failed to (pin|allocate)|could not allocate", re.IGNORECASE)
Result = TypeVar("Result")


class Bounded:
    """Saves and streams what single rows too large for `MEMORY_BYTES` need more for; `limit` allows no more than that.

    Raises WarehouseError where rows do not fit into the limit, or into most of the machine's memory.
    """

    def __init__(self, warehouse: DuckDBWarehouse, limit: int | None) -> None:
        self._warehouse = warehouse
        self._limit = limit
        with suppress(WarehouseError):  # less than is in use: another view's run had to take more
            self._take(limit or MEMORY_BYTES)

    def save(self, sql: str, path: Path) -> None:
        """Write the answer of a query to a Parquet file."""
        self._fitting(lambda: self._warehouse.save(sql, path))

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The answer of a query; few rows at a time where they turned out to be large."""

        def begun() -> Iterator[pa.RecordBatch]:
            large = self._memory > (self._limit or MEMORY_BYTES)
            batches = self._warehouse.stream(sql, LARGE_BATCH_ROWS if large else BATCH_ROWS)
            first = next(batches, None)
            return chain(() if first is None else (first,), batches)

        yield from self._fitting(begun)

    def _take(self, size: int) -> None:
        self._memory = size
        self._warehouse.execute(f"set memory_limit = '{size // 1024}KiB'")

    def _fitting(self, work: Callable[[], Result]) -> Result:
        while True:
            try:
                return work()
            except WarehouseError as error:
                if not OUT_OF_MEMORY.search(str(error)):
                    raise
                most = self._limit or machine_memory() * 3 // 4
                if self._memory >= most:
                    raise WarehouseError(
                        f"The rows do not fit into {self._memory // 1024**2:,} MiB of memory "
                        f"({str(error).rstrip('.')}): give it more with --memory-limit, or keep such values elsewhere."
                    ) from None
                self._take(min(2 * self._memory, most))


def machine_memory() -> int:
    """How many bytes of memory this process may have at most: the machine's, or its container's."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not Linux, or "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)
