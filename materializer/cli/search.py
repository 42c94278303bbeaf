"""``feature-store search``: what there is, by any word that is said of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.cli.common import brief, open_store, output_option, print_json, print_rows, say, store_options


@click.command()
@click.argument("words", nargs=-1, metavar="[WORD ...]")
@click.option("--tag", "tags", multiple=True, help="Only what has this tag, or tag=value; repeatable.")
@click.option("--owner", help="Only what this group (for a service: person or team) owns.")
@click.option("--entity", help="Only what is keyed by this join key.")
@click.option("--type", "type_", help="Only features and entities of this type, or one that has this in it: float.")
@click.option("--kind", type=click.Choice(["feature", "view", "entity", "service"]), help="Only things of this kind.")
@click.option("--limit", default=20, show_default=True, help="How many to print at most; 0 prints all.")
@store_options
@output_option
def search(
    words: tuple[str, ...],
    tags: tuple[str, ...],
    owner: str | None,
    entity: str | None,
    type_: str | None,
    kind: str | None,
    limit: int,
    output: str,
    **where: Any,
) -> None:
    """Find features, views, entities and services, the best match first.

    Each WORD must be found in a name, tag, owner, entity, type or description.

    \b
        feature-store search purchases --entity user_id
    """
    if not (words or tags or owner or entity or type_ or kind):
        raise click.UsageError("Give a word to search for, or one of --tag, --owner, --entity, --type and --kind.")
    store = open_store(reader=True, **where)
    found = store.search(" ".join(words), tags=list(tags), owner=owner, entity=entity, type=type_, kind=kind)
    shown = found[:limit] if limit else found
    if output == "json":
        return print_json([asdict(match) for match in shown])
    if not found:
        return say("Nothing was found.")
    print_rows(
        ["kind", "reference", "type", "owner", "description"],
        [[m.kind, m.reference, m.type, m.owner, brief(m.description)] for m in shown],
    )
    if len(found) > len(shown):
        say(f"... and {len(found) - len(shown)} more: --limit 0 prints all.")
