"""An iterator that runs ahead of its reader, in a thread of its own, by a fixed number of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The same items in the same order; up to `most` of them are made before they are asked for.

    What `items` raises is raised here, after the items before it. Closing it stops and closes `items`.
    """
    waiting: queue.Queue[Any] = queue.Queue(most)
    failed: list[BaseException] = []
    stop = threading.Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    break
        except BaseException as error:
            failed.append(error)
        finally:
            close = getattr(items, "close", None)
            if close:
                close()
            put(_END)

    thread = threading.Thread(target=run, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item
        if failed:
            raise failed[0]
    finally:
        stop.set()
        thread.join()
