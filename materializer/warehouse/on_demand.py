"""The types of on-demand features, and whether what they compute is alike on every engine. An embedded DuckDB knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from sqlglot import exp

from materializer.errors import DefinitionError
from materializer.project.on_demand import parsed, shown
from materializer.warehouse import quoted
from materializer.warehouse.arrow import plain_type
from materializer.warehouse.embedded import connection
from materializer.warehouse.on_demand_types import input_type, request_types, sql_type

if TYPE_CHECKING:
    from materializer.project.definitions import Feature, FeatureView

_FAMILIES = {
    "TINYINT": "integer", "SMALLINT": "integer", "INTEGER": "integer", "BIGINT": "integer", "DOUBLE": "double",
    "VARCHAR": "text", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "timestamp", '"NULL"': "null",
}  # fmt: skip
_MOST_DIGITS = 38
_NUMBERS = ("integer", "decimal", "double")
_MOMENTS = ("date", "timestamp")
# The casts that mean the same on every engine: to a family, from these.
_CASTS = {
    "integer": ("integer",), "decimal": ("integer", "decimal"), "double": _NUMBERS,
    "text": ("text", "integer", "boolean", "date"), "boolean": ("boolean",), "date": _MOMENTS, "timestamp": _MOMENTS,
}  # fmt: skip
# What is made of numbers; what puts its parts in an order; and what takes several that have to be of one kind.
_OF_NUMBERS = (
    exp.Abs, exp.Add, exp.Asin, exp.Ceil, exp.Cos, exp.Div, exp.Exp, exp.Floor, exp.Ln, exp.Mod, exp.Mul, exp.Neg,
    exp.Pow, exp.Radians, exp.Sin, exp.Sqrt, exp.Sub,
)  # fmt: skip
# Which some engines compute in decimals of their own.
_OF_DOUBLES = (exp.Asin, exp.Cos, exp.Exp, exp.Ln, exp.Pow, exp.Radians, exp.Sin, exp.Sqrt)
_ORDERING = (exp.Between, exp.GT, exp.GTE, exp.Greatest, exp.LT, exp.LTE, exp.Least)
_OF_ONE_KIND = (*_ORDERING, exp.Case, exp.Coalesce, exp.EQ, exp.In, exp.NEQ, exp.Nullif)


def typed(feature: Feature, views: Mapping[str, FeatureView], where: str) -> Feature:
    """An on-demand feature with the type of its value, and the columns that it reads as the warehouse spells them.

    Args:
        views: those that it reads, by the names that its references use, with types.
        where: what it is called in errors.

    Raises:
        DefinitionError: where it reads what is not there, or computes what is not alike on all engines.
    """
    how = feature.on_demand
    assert how is not None
    inputs, reads = request_types(how), {}
    for name, reference in how.reads.items():
        holder, _, column = reference.partition(":")
        view = views[holder]
        stored = next((one for one in view.features if one.name.lower() == column.lower()), None)
        if stored is None:
            fields = ", ".join(how.request) or "it has none"
            there = ", ".join(one.name for one in view.features) or "it has none"
            raise DefinitionError(
                f"{where} reads '{name}', which is neither a request field ({fields}) nor a stored feature of "
                f"'{view.reference}' ({there})."
            )
        dtype = input_type(stored.dtype)
        if dtype is None:
            raise DefinitionError(
                f"{where} reads '{view.reference}:{stored.name}', which is {stored.dtype}: an expression reads "
                "numbers, texts, booleans, dates and timestamps."
            )
        inputs[name], reads[name] = dtype, f"{holder}:{stored.name}"
    return replace(feature, dtype=type_of(how.sql, inputs, where), on_demand=replace(how, reads=reads))


def type_of(sql: str, inputs: Mapping[str, pa.DataType], where: str) -> pa.DataType:
    """The type of an expression's values, given the `input_type` of every name that it reads.

    Raises:
        DefinitionError: where something in it would mean another thing, or nothing, on another engine.
    """
    tree = parsed(sql)
    columns = ", ".join(f"cast(null as {sql_type(dtype)}) as {quoted(name)}" for name, dtype in inputs.items())
    nothing = f"(select {columns or '1'}) as inputs"
    parts = [node for node in tree.walk() if _has_value(node)]
    try:
        asked = ", ".join(f"typeof({part.sql('duckdb')})" for part in parts)
        (named,) = connection().sql(f"select {asked} from {nothing}").fetchall()
        made = connection().sql(f"select {sql} as value from {nothing} limit 0").to_arrow_table().schema.field(0).type
    except duckdb.Error as error:
        said = " ".join(str(error).split("\n\n")[0].split())
        raise DefinitionError(f"{where}: DuckDB refuses the expression ({said}).") from None
    types = {id(part): name for part, name in zip(parts, named, strict=True)}
    for part in parts:
        problem = _problem(part, types)
        if problem:
            raise DefinitionError(f"{where}: the expression has `{shown(part)}`, {problem}.")
    if types[id(tree)] == '"NULL"':
        raise DefinitionError(f"{where}: the expression is always NULL.")
    return plain_type(made)


def _has_value(node: exp.Expression) -> bool:
    apart = (exp.DataType, exp.DataTypeParam, exp.Identifier, exp.If, exp.Var)
    return not isinstance(node, apart) and node.find_ancestor(exp.DataType) is None


def _problem(node: exp.Expression, types: Mapping[int, str]) -> str | None:
    """Why a part of an expression is not alike on all engines; None where it is."""

    def family(part: exp.Expression) -> str:
        name = types[id(part)]
        return "decimal" if name.startswith("DECIMAL(") else _FAMILIES.get(name, "")

    own = family(node)
    if not own:
        if types[id(node)] == "INTERVAL":
            return "a length of time: count in seconds, with extract(epoch from ...)"
        return f"which is {types[id(node)]}: cast what it is made of to bigint, double or decimal"
    parts = [one for one in node.iter_expressions() if id(one) in types]
    if isinstance(node, exp.Case):
        tests = [one.this for one in node.args["ifs"]]
        if node.this and not _alike({family(one) for one in (node.this, *tests)}):
            return "which compares values of different kinds"
        if not node.this and {family(one) for one in tests} - {"boolean", "null"}:
            return "where WHEN is no condition"
        parts = [*(one.args["true"] for one in node.args["ifs"]), *filter(None, [node.args.get("default")])]
    families = {family(one) for one in parts} - {"null"}
    said = " and ".join(sorted(types[id(one)].lower() for one in parts))
    if isinstance(node, exp.Div) and families <= set(_NUMBERS) and "double" not in families:
        return f"which divides {said}, where engines round differently: write cast(... as double)"
    if isinstance(node, exp.Mod) and families - {"integer"}:
        return f"a remainder of {said}: it is defined for integers"
    if isinstance(node, _OF_NUMBERS) and families - set(_NUMBERS):
        hint = "; of moments use extract(epoch from ...)" if families & set(_MOMENTS) else ""
        return f"which computes with {said}: that takes numbers{hint}"
    if isinstance(node, _OF_DOUBLES) and "decimal" in families and "double" not in families:
        return f"which engines compute differently for {said}: write cast(... as double)"
    if isinstance(node, (exp.And, exp.Or, exp.Not)) and families - {"boolean"}:
        return f"which takes {said} for a condition"
    if isinstance(node, (exp.DPipe, exp.Length)) and families - {"text"}:
        return f"which takes {said} for text"
    if isinstance(node, _ORDERING) and families & {"text", "boolean"}:
        return f"which puts {said} in an order, and engines order them differently"
    if isinstance(node, exp.Extract):
        unit, taken = node.this.name.lower(), node.expression
        if family(taken) not in _MOMENTS or (family(taken) == "date" and unit in ("hour", "minute", "epoch")):
            return f"and there is no {unit} in {types[id(taken)].lower()}: cast it to timestamp"
    if isinstance(node, exp.Cast):
        return _cast_problem(node, own, family(node.this), types)
    if isinstance(node, _OF_ONE_KIND) and not _alike(families):
        return f"which brings together {said}: cast one of them"
    if isinstance(node, (*_OF_ONE_KIND, exp.Add, exp.Sub)) and "decimal" in families and "double" not in families:
        digits = [_digits(types[id(one)]) for one in parts if family(one) != "null"]
        if max(whole for whole, _ in digits) + max(scale for _, scale in digits) > _MOST_DIGITS:
            return f"which brings together {said}, more than {_MOST_DIGITS} digits: cast one of them"
    return None


def _digits(name: str) -> tuple[int, int]:
    """How many digits a decimal or integer has before and behind the point."""
    if name.startswith("DECIMAL("):
        precision, scale = map(int, name[8:-1].split(","))
        return precision - scale, scale
    return 19, 0


def _alike(families: set[str]) -> bool:
    families = families - {"null"}
    return len(families) < 2 or families <= set(_NUMBERS) or families <= set(_MOMENTS)


def _cast_problem(node: exp.Cast, to: str, given: str, types: Mapping[int, str]) -> str | None:
    inside = node.this.unnest()
    whole = isinstance(inside, (exp.Floor, exp.Ceil)) and to == "integer" and given in _NUMBERS
    literal = isinstance(inside, exp.Literal) and inside.is_string and to in _MOMENTS
    if given in ("null", *_CASTS[to]) or whole or literal:
        return None
    said = f"and a cast from {types[id(node.this)].lower()} to {types[id(node)].lower()} is not alike on all engines"
    return said + (": round it first, with floor(...) or ceil(...)" if to == "integer" and given in _NUMBERS else "")
