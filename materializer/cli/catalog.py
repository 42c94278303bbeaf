"""``feature-store catalog``: everything that is known, as a page and as a document."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from materializer.cli.common import at_a_terminal, open_store, output_option, print_json, say, store_options
from materializer.printable import number_of


@click.group()
def catalog() -> None:
    """Everything that is known of features: one page, and one document for programs.

    \b
        feature-store catalog open --project-dir dbt_project
    """


def _build_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                         help="The page; the document is written beside it, as .json. "
                         "Default: target/feature_store/catalog.html."),
            click.option("--light", is_flag=True, help="Leave out SQL and history."),
            click.option("--no-statistics", is_flag=True, help="Do not look at values."),
            click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(0),
                         help="How long the warehouse may be asked about rows; what is not known then is said."),
            click.option("--built-at", metavar="MOMENT",
                         help="The moment that ages are told against. Default: SOURCE_DATE_EPOCH, else now."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@catalog.command("build")
@_build_options
@store_options
@output_option
def build(out: Path | None, output: str, **options: Any) -> None:
    """Write the catalog: one HTML file that opens by itself, and catalog.json beside it.

    \b
        feature-store catalog build --project-dir dbt_project
        feature-store catalog build --out public/index.html --light
    """
    _build(out, output, **options)


@catalog.command("open")
@_build_options
@store_options
def open_(out: Path | None, **options: Any) -> None:
    """Write the catalog and open it in a browser.

    \b
        feature-store catalog open --project-dir dbt_project
    """
    page = _build(out, "text", **options)
    if not (at_a_terminal() and webbrowser.open(page.resolve().as_uri())):
        say(f"Open it in a browser: {page.resolve().as_uri()}")


def _build(
    out: Path | None, output: str, light: bool, no_statistics: bool, seconds: float, built_at: str | None, **where: Any
) -> Path:
    from materializer.catalog.files import default_page, write
    from materializer.sql.columns import no_garbage

    began = time.monotonic()
    store = open_store(**where)
    page = out or default_page(store.project)
    with no_garbage():
        document = store.get_catalog(light, not no_statistics, seconds=seconds, built_at=built_at, workers=None)
        beside = write(document, page)
    counts = {
        "views": len(document["views"]),
        "features": sum(len(view["features"]) for view in document["views"]),
        "services": len(document["services"]),
        "models": len(document["models"]),
        "sources": len(document["sources"]),
        "errors": sum(one["severity"] == "error" for one in document["findings"]),
        "warnings": sum(one["severity"] == "warn" for one in document["findings"]),
    }
    missing = {check["name"]: check["problem"] for check in document["checks"] if check["problem"]}
    if output == "json":
        print_json(
            {"page": str(page), "document": str(beside), "built_at": document["project"]["built_at"],
             "seconds": round(time.monotonic() - began, 2), "counts": counts, "missing": missing}
        )  # fmt: skip
        return page
    say(f"{page}: {number_of(counts['views'], 'view')}, {number_of(counts['features'], 'feature')}, "
        f"{number_of(counts['services'], 'service')}; {number_of(counts['errors'], 'error')}, "
        f"{number_of(counts['warnings'], 'warning')}; {time.monotonic() - began:.1f} s.")  # fmt: skip
    for name, why in missing.items():
        if not (no_statistics and name in ("drift", "statistics")):
            say(f"{name}: {why}", err=True)
    return page
