"""What a star in a SELECT leaves out, replaces and renames."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from materializer.lineage.relations import Output


def is_star(item: exp.Expression) -> bool:
    """Whether an item of a SELECT stands for columns that it does not name: ``*``, ``t.*``, ``columns(*)``."""
    if isinstance(item, exp.Columns):
        return isinstance(item.this, exp.Star)
    return isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))


def is_bare(item: exp.Expression) -> bool:
    """Whether a star has no table in front of it, so that it gives columns joined by USING once."""
    return not isinstance(item, exp.Column)


def spreads(item: exp.Expression) -> bool:
    """Whether an expression gives several columns, whose names it does not say."""
    if isinstance(item, exp.Alias):
        return False
    return isinstance(item, exp.Explode) or item.find(exp.Columns) is not None


def star_options(item: exp.Expression) -> tuple[set[str], dict[str, exp.Expression], dict[str, str]]:
    """What a star leaves out, replaces and renames, by folded name."""
    star = item.this if isinstance(item, (exp.Column, exp.Columns)) else item
    args = star.args
    left_out = {one.name.casefold() for one in args.get("except_") or args.get("except") or ()}
    replaced = {one.alias.casefold(): one for one in args.get("replace") or ()}
    renamed = {one.this.name.casefold(): one.alias for one in args.get("rename") or ()}
    return left_out, replaced, renamed


def each_name_once(outputs: list[Output]) -> list[Output]:
    """Names as DuckDB makes them different: the second `id` is called `id_1`."""
    taken: set[str] = set()
    named = []
    for output in outputs:
        name, number = output.name, 0
        while name.casefold() in taken:
            number += 1
            name = f"{output.name}_{number}"
        taken.add(name.casefold())
        named.append(output if name == output.name else replace(output, name=name))
    return named
