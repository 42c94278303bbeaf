"""Progress on a terminal; quiet in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from materializer.printable import printable


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None] | None]:
    """Gives a callback for `FeatureStore.materialize`, or None where stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}

        def show(view: str, rows: int, total: int) -> None:
            if view not in tasks:
                tasks[view] = bars.add_task(escape(printable(view)), total=total, rate="")
            speed = bars.tasks[tasks[view]].speed
            bars.update(tasks[view], completed=rows, rate=f"{speed:,.0f} rows/s" if speed else "")

        yield show
