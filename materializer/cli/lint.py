"""``feature-store lint``: the leakage guard, for people and for CI."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, say, store_options
from materializer.printable import number_of


@click.command()
@click.argument("views", nargs=-1, metavar="[VIEW ...]")
@store_options
@output_option
@click.pass_context
def lint(context: click.Context, views: tuple[str, ...], output: str, **where: Any) -> None:
    """Find what makes features depend on the moment of the run or on the future.

    Reads the compiled SQL of the views and of the models above them. Exits with 1 where there is an error.

        feature-store lint --project-dir dbt_project
    """
    findings = open_store(**where).lint(views)
    if output == "json":
        known = [{key: value for key, value in asdict(one).items() if value is not None} for one in findings]
        print_json({"findings": known})
    else:
        for f in findings:
            say(f"{f.file}:{f.line}:{f.column}: {f.severity}: {f.message} [{f.rule}]")
        errors = sum(f.severity == "error" for f in findings)
        say(f"{number_of(errors, 'error')}, {number_of(len(findings) - errors, 'warning')}")
    if any(f.severity == "error" for f in findings):
        context.exit(1)
