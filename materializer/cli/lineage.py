"""``feature-store lineage``: where a feature comes from, and who uses a column."""

from __future__ import annotations

from typing import Any

import click

from materializer.cli.common import open_store, print_json, say, store_options


@click.command()
@click.argument("reference")
@click.option("--downstream", is_flag=True, help="What is made from it, in place of what it is made from.")
@click.option(
    "--output",
    type=click.Choice(["text", "json", "mermaid", "dot"]),
    default="text",
    show_default=True,
    help="How to print.",
)
@store_options
def lineage(reference: str, downstream: bool, output: str, **where: Any) -> None:
    """Show from which source columns a feature is made, or what is made from a column.

    REFERENCE is a feature (user_features:age, user_features.v2:age), a column of a model, seed or snapshot
    (stg_users:age) or of a source (raw.users:age), or a name alone for all of its features or columns.

    \b
        feature-store lineage user_features:avg_order_value --project-dir dbt_project
        feature-store lineage raw.purchases:amount --downstream --project-dir dbt_project
    """
    from materializer.sql.drawings import as_dot, as_json, as_mermaid, as_text

    lineages = open_store(**where).get_lineage(reference, downstream)
    if output == "json":
        return print_json({"lineages": [as_json(one) for one in lineages]})
    drawings = {"mermaid": as_mermaid, "dot": as_dot}
    text = drawings[output](lineages) if output in drawings else "\n\n".join(map(as_text, lineages))
    for line in text.split("\n"):
        say(line)
    return None
