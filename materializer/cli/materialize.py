"""``materialize``: after ``dbt build``, make Redis equal to the latest rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from materializer.cli.common import open_store, output_option, print_json, print_rows, say, store_options
from materializer.errors import MaterializationError
from materializer.materialize.plan import ViewResult
from materializer.printable import printable


class _LikeDbt(click.Command):
    """A command whose --select and --exclude take all words up to the next option, as dbt's do."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = None
        for word in args:
            if word.startswith("-"):
                name = word.partition("=")[0]
                option = name if name in ("-s", "--select", "--exclude") else None
                spread.append(word)
            elif option and spread[-1] != option:
                spread += [option, word]
            else:
                spread.append(word)
        return super().parse_args(context, spread)


@click.command(cls=_LikeDbt)
@click.argument("views", nargs=-1, metavar="[VIEW ...]")
@click.option("--select", "-s", multiple=True, metavar="SELECTION ...", help="Only what dbt selects by these.")
@click.option("--exclude", multiple=True, metavar="SELECTION ...", help="Not what dbt selects by these.")
@click.option("--selector", metavar="NAME", help="Only what this selector of selectors.yml selects.")
@click.option("--state", metavar="FOLDER", help="The folder of the manifest that state: compares with.")
@click.option("--tag", "tags", multiple=True, help="Only views with this tag of dbt's or of theirs; repeatable.")
@click.option("--full", is_flag=True, help="Send every row, and remove whatever else is there.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say how many rows would move, and why.")
@click.option("--as-of", metavar="MOMENT", help="A past moment (ISO 8601), into a --namespace of its own.")
@click.option("--allow-shrink", is_flag=True, help="Let a run empty a view, or remove more than half of it.")
@click.option("--allow-retype", is_flag=True, help="With --full: let a feature change its type in place.")
@click.option(
    "--memory-limit", metavar="SIZE", help="Memory for the warehouse, as '2 GB'. Default: 600 MB, or what fits."
)
@click.option(
    "--ahead", metavar="DURATION", help="Send rows this long before they fall due; 0: never. Default: 1 hour."
)
@click.option("--from-executors", is_flag=True, help="On Spark: let its executors write, not this machine.")
@store_options
@output_option
@click.pass_context
def materialize(
    context: click.Context,
    views: tuple[str, ...],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    selector: str | None,
    state: str | None,
    tags: tuple[str, ...],
    full: bool,
    dry_run: bool,
    as_of: str | None,
    allow_shrink: bool,
    allow_retype: bool,
    memory_limit: str | None,
    ahead: str | None,
    from_executors: bool,
    output: str,
    **where: Any,
) -> None:
    """Make the online store equal to the latest rows of the feature views.

    Without VIEW every online view is sent. Run it after `dbt build`:

        materialize --project-dir dbt_project

    \b
    SELECTION is dbt's: names, paths, tag:, config.meta, +graph+, a,b, state: ...
        materialize --select +exposure:recommendation --exclude tag:weekly
    """
    store = open_store(starts_redis=not dry_run, **where)
    for note in store.project.notes:
        say(f"Warning: {note}", err=True)
    failure: MaterializationError | None = None
    with _progress_bars() as progress:
        try:
            results = store.materialize(
                feature_views=views, full=full, tags=tags, select=select, exclude=exclude, selector=selector,
                state=state, allow_shrink=allow_shrink, allow_retype=allow_retype, as_of=as_of, dry_run=dry_run,
                memory_limit=memory_limit, ahead=ahead, from_executors=from_executors, progress=progress,
            )  # fmt: skip
        except MaterializationError as error:
            results, failure = error.results, error
    if output == "json":
        services = [{"service": name, "error": said} for name, said in failure.services.items()] if failure else []
        views = [_as_json(result, dry_run) for result in results]
        print_json({"views": views, **({"services": services} if services else {})})
    elif not results:
        say("Nothing to do: the selection holds no online feature view.")
    elif done := [result for result in results if result.landed]:
        if dry_run:
            say("A dry run: nothing was changed. It would be:")
        print_rows(
            ["view", "read", "written", "skipped", "deleted", "seconds", "why"],
            [[r.view, r.rows_read, r.rows_written, r.rows_skipped, r.rows_deleted, r.seconds, r.why] for r in done],
            widest=300,  # of why rows moved nothing is cut
        )
    for result in results:
        for warning in result.warnings:
            say(f"Warning: {warning}", err=True)
        if result.error:
            say(f"Error: {result.view}: {result.error}", err=True)
    for said in failure.services.values() if failure else ():
        say(f"Error: {said}", err=True)
    if failure:
        context.exit(1)


def _as_json(result: ViewResult, dry_run: bool) -> dict[str, Any]:
    entry = asdict(result)
    why = entry.pop("why")
    del entry["warnings"]
    return {**entry, "dry_run": True, "why": why} if dry_run else entry


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None] | None]:
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
