"""``feature-store doctor``: is everything in place, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.catalog.doctor import doctor as look
from materializer.cli.common import open_store, output_option, print_json, say, store_options


@click.command()
@store_options
@output_option
@click.pass_context
def doctor(context: click.Context, output: str, **where: Any) -> None:
    """Check the project, the manifest, the warehouse, every view and Redis.

    \b
        feature-store doctor --project-dir dbt_project
    """
    checks = look(lambda: open_store(**where).project, where["redis_url"], where["namespace"])
    if output == "json":
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            sign = "FAIL" if not check.ok else "warn" if check.warning else "ok  "
            say(f"{sign}  {check.check}: {check.message}")
    if not all(check.ok for check in checks):
        context.exit(1)
