"""``feature-store skew``: was what was served what training would have seen?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, say, store_options
from materializer.errors import DefinitionError
from materializer.project.duration import parse_duration, parse_moment

if TYPE_CHECKING:
    from materializer.skew.compare import Skew


@click.command()
@click.argument("log_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--feature", "-f", "features", multiple=True, metavar="VIEW[:FEATURE]", help="Only this; repeatable.")
@click.option("--since", help="Only what was served since then: a moment (UTC), or an age such as '2 hours'.")
@store_options
@output_option
@click.pass_context
def skew(
    context: click.Context, log_dir: Path, features: tuple[str, ...], since: str | None, output: str, **where: Any
) -> None:
    """Compare served features with the point-in-time join at the moment of serving, and say why they differ.

    LOG_DIR is what `feature-store serve --log-features` wrote. Exits with 1 where a difference is unexplained.

    \b
        feature-store skew served/ --project-dir dbt_project
        feature-store skew served/ --feature user_features --since '1 day'
    """
    from materializer.skew.compare import skew as compare

    store = open_store(**where)
    found = compare(store.project, store.namespace, log_dir, features, _since(since))
    print_json(found.to_dict()) if output == "json" else _print(found)
    if found.unexplained:
        context.exit(1)


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.now(timezone.utc) - parse_duration(text, "--since")
    except (DefinitionError, OverflowError):
        return parse_moment(text)


def _print(found: Skew) -> None:
    print_rows(
        ["feature", "rows", "differ", "reasons"],
        [[one.feature, one.rows, one.differ, _reasons(one.reasons)] for one in found.features],
        widest=100,
    )
    say()
    for one in found.examples:
        keys = ", ".join(f"{name}={value}" for name, value in one.join_keys.items())
        say(f"{one.feature} of {keys} at {one.served_at:%Y-%m-%d %H:%M:%S.%f}: served {_value(one.served)}, "
            f"the warehouse has {_value(one.true)} (request {one.request_id}).")  # fmt: skip
    for note in found.notes:
        say(note)
    differ = sum(one.differ for one in found.features)
    values = sum(one.rows for one in found.features)
    say(f"{values:,} values compared, {differ:,} differ, {found.unexplained:,} of them unexplained.")


def _reasons(counts: Mapping[str, int]) -> str | None:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items()) or None


def _value(text: str | None) -> str:
    return "NULL" if text is None else text if len(text) <= 60 else text[:57] + "..."
