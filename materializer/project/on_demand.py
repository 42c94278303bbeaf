"""On-demand features as they are declared. The macros' grammar (`macros/metadata/_on_demand.sql`) lets through words,
numbers and operators; what they say together is read here, with sqlglot."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from materializer.errors import DefinitionError
from materializer.project.definitions import Feature, FeatureView, OnDemand
from materializer.project.meta import on_demand_sql

if TYPE_CHECKING:
    from sqlglot import exp


def on_demand_features(
    declared: Mapping[str, Mapping[str, Any]], where: str, reference: Callable[[Mapping[str, Any], str], str]
) -> tuple[Feature, ...]:
    """What `materializer.project.meta` gave, as features without types.

    Args:
        where: what declares them, for errors: ``Model 'user_features': meta.feature_view.on_demand``.
        reference: the stored feature that a name in a declared feature's expression means, as ``view:feature``.

    Raises:
        DefinitionError: for an expression that is not allowed, saying what in it is not.
    """
    features = []
    for name, one in declared.items():
        sql = on_demand_sql(one)
        problem = _problem(sql)
        if problem:
            raise DefinitionError(f"{where}.{name}: the expression {problem}.")
        reads = {read: reference(one, read) for read in one["reads"]}
        features.append(
            Feature(name, one["description"], on_demand=OnDemand(one["expression"], sql, one["request"], reads))
        )
    return tuple(features)


def check_names(view: FeatureView) -> None:
    """Stop where names of a view's on-demand features are those of its columns, as far as these are known.

    Raises:
        DefinitionError: naming both.
    """
    stored = {feature.name.lower() for feature in view.features}
    for feature in view.on_demand:
        where = f"Feature view '{view.reference}': on-demand feature '{feature.name}'"
        assert feature.on_demand is not None
        if feature.name.lower() in stored:
            raise DefinitionError(f"{where} has the name of a column of the view: rename one of them.")
        for field in feature.on_demand.request:
            if field.lower() in stored:
                raise DefinitionError(
                    f"{where} has a request field '{field}', which is also a column of the view: rename it."
                )


@lru_cache(maxsize=1024)
def parsed(sql: str) -> exp.Expression:
    """The tree of an expression in DuckDB's dialect. ValueError where it is none."""
    from sqlglot import errors, parse_one

    try:
        return parse_one(sql, dialect="duckdb")
    except (errors.SqlglotError, RecursionError) as error:
        raise ValueError(sql) from error


@lru_cache(maxsize=1024)
def _problem(sql: str) -> str | None:
    """What in an expression is not allowed; None where all of it is."""
    from sqlglot import exp

    allowed = (
        exp.Abs, exp.Add, exp.And, exp.Asin, exp.Between, exp.Boolean, exp.Case, exp.Cast, exp.Ceil, exp.Coalesce,
        exp.Column, exp.Cos, exp.DPipe, exp.DataType, exp.DataTypeParam, exp.Div, exp.EQ, exp.Exp, exp.Extract,
        exp.Floor, exp.GT, exp.GTE, exp.Greatest, exp.Identifier, exp.If, exp.In, exp.Is, exp.LT, exp.LTE, exp.Least,
        exp.Length, exp.Literal, exp.Ln, exp.Mod, exp.Mul, exp.NEQ, exp.Neg, exp.Not, exp.Null, exp.Nullif, exp.Or,
        exp.Paren, exp.Pow, exp.Radians, exp.Sin, exp.Sqrt, exp.Sub, exp.Var,
    )  # fmt: skip
    try:
        tree = parsed(sql)
    except ValueError:
        return f"`{sql}` is not one value that SQL can say"
    several = (exp.Coalesce, exp.Greatest, exp.In, exp.Least)
    for node in tree.walk():
        if not isinstance(node, allowed):
            return f"has `{shown(node)}`, which is not part of it ({type(node).__name__.lower()})"
        if isinstance(node, (exp.Div, exp.Mod)) and not _never_zero(node.expression):
            by = shown(node.expression.unnest())
            return f"divides by `{by}`, which may be 0, where engines differ: write nullif({by}, 0)"
        if isinstance(node, exp.Is) and not isinstance(node.expression, exp.Null):
            return f"has `{shown(node)}`: after IS only NULL may come"
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and not _is_moment(node):
            return f"has `{shown(node)}`: a date is written date '2026-01-31', a moment timestamp '2026-01-31 12:00:00'"
        if (isinstance(node, several) and not node.expressions) or node.args.get("decimals"):
            return f"has `{shown(node)}`: that takes another number of arguments"
    return None


def shown(node: exp.Expression) -> str:
    """A part of an expression as it stands in a sentence."""
    return node.sql("duckdb", normalize_functions="lower").replace('"', "")


def _is_moment(node: exp.Expression) -> bool:
    """Whether a literal that is cast is a date or moment, where it is cast to one."""
    text, to = node.this.name, node.to.sql("duckdb")
    if not node.this.is_string or to not in ("DATE", "TIMESTAMP"):
        return True
    form = r"\d{4}-\d{2}-\d{2}" + (r" \d{2}:\d{2}:\d{2}(\.\d{1,6})?" if to == "TIMESTAMP" else "")
    try:
        return bool(re.fullmatch(form, text, re.ASCII) and datetime.fromisoformat(text))
    except ValueError:
        return False


def _never_zero(node: exp.Expression) -> bool:
    from sqlglot import exp

    node = node.unnest()
    if isinstance(node, exp.Neg):
        return _never_zero(node.this)
    if isinstance(node, exp.Nullif):
        return _is_zero(node.expression)
    return isinstance(node, exp.Literal) and not node.is_string and not _is_zero(node)


def _is_zero(node: exp.Expression) -> bool:
    from sqlglot import exp

    node = node.unnest()
    return isinstance(node, exp.Literal) and not node.is_string and float(node.this) == 0
