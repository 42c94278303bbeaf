"""Feast's on-demand feature views, where their Python is plain arithmetic on columns: as SQL expressions."""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from materializer.feast.definitions import Computed

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_INTEGERS, _FLOATS = ("INT32", "INT64"), ("FLOAT", "DOUBLE")


class NotPlainError(Exception):
    """The Python is more than arithmetic; the text says what is."""


def computed_features(spec: Mapping[str, Any], code: str) -> tuple[str, tuple[Computed, ...]]:
    """The feature view that an on-demand view of Feast's reads, and its features as expressions over that one.

    Raises:
        NotPlainError: where it is not one view, or not plain arithmetic.
    """
    sources = spec.get("sources", {})
    stored = [of for of in sources.values() if "request_data_source" not in of]
    if len(stored) != 1:
        raise NotPlainError("reads several feature views" if stored else "reads no feature view")
    projection = stored[0].get("feature_view_projection") or {}
    view = projection.get("feature_view_name", "")
    reads = {one["name"]: one.get("value_type", "") for one in projection.get("feature_columns", [])}
    request = {
        field["name"]: field.get("value_type", "")
        for of in sources.values()
        for field in of.get("request_data_source", {}).get("request_data_options", {}).get("schema", [])
    }
    if spec.get("write_to_online_store") or spec.get("aggregations"):
        raise NotPlainError("is stored, or aggregates")
    if spec.get("mode") != "pandas" and not (spec.get("mode") == "python" and spec.get("singleton")):
        raise NotPlainError(f"works on whole lists (mode {spec.get('mode')})")
    made = dict(_assignments(code))
    features = []
    for field in spec.get("features", []):
        name, dtype = field["name"], field.get("value_type", "")
        if name not in made:
            raise NotPlainError(f"does not say `{name}` in one expression")
        inputs, expression = made[name]
        columns = {node.slice.value for node in ast.walk(expression) if _is_column(node, inputs)}
        types = {column: request.get(column, reads.get(column, "")) for column in columns}
        if odd := sorted(column for column, of in types.items() if of not in (*_INTEGERS, *_FLOATS)):
            raise NotPlainError(f"computes with `{odd[0]}`, which is no number of its sources")
        divides = any(isinstance(node, ast.Div) for node in ast.walk(expression))
        exact = not divides and set(types.values()) <= set(_INTEGERS) and not _has_float(expression)
        if dtype not in (*_INTEGERS, *_FLOATS) or (dtype in _INTEGERS and not exact):
            raise NotPlainError(f"gives `{name}` as {dtype}, which is not what it computes")
        sql = _sql(expression, inputs)
        features.append(
            Computed(
                name=name, description=field.get("description", ""), divides=divides,
                expression=sql if dtype in _INTEGERS else f"cast({sql} as double)",
                request={column: "bigint" if request[column] in _INTEGERS else "double"
                         for column in sorted(columns) if column in request},
                reads=tuple(sorted(columns - set(request))),
            )
        )  # fmt: skip
    return view, tuple(features)


def _assignments(code: str) -> Iterator[tuple[str, tuple[str, ast.expr]]]:
    """Each feature with its expression, and the name of the argument that the columns are taken from."""
    try:
        (function,) = ast.parse(textwrap.dedent(code)).body
        assert isinstance(function, ast.FunctionDef)
        (argument,) = function.args.args
    except (SyntaxError, ValueError, AssertionError, RecursionError):
        raise NotPlainError("is no function of one argument") from None
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # its docstring
    for statement in body:
        match statement:
            case (
                ast.Return(value=ast.Dict(keys=keys, values=values))
                | ast.Return(
                    value=ast.Call(func=ast.Attribute(attr="DataFrame"), args=[ast.Dict(keys=keys, values=values)])
                )
            ):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant):
                        yield str(key.value), (argument.arg, value)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(), slice=ast.Constant(value=name))], value=value):
                yield str(name), (argument.arg, value)
            case ast.Assign(targets=[ast.Name()], value=ast.Call(func=ast.Attribute(attr="DataFrame"), args=[])):
                pass
            case ast.Return(value=ast.Name()):
                pass
            case _:
                raise NotPlainError(f"has `{ast.unparse(statement)[:60]}`")


def _is_column(node: ast.AST, inputs: str) -> bool:
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == inputs
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    )


def _has_float(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.Constant) and isinstance(node.value, float) for node in ast.walk(expression))


def _sql(node: ast.expr, inputs: str) -> str:
    match node:
        case ast.Subscript() if _is_column(node, inputs):
            return '"' + node.slice.value.replace('"', '""') + '"'
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and math.isfinite(number):
            text = repr(number)
            return text if isinstance(number, int) or "e" in text else f"{text}e0"  # a double, no decimal
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"(-{_sql(operand, inputs)})"
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            by = _sql(right, inputs)
            never_zero = isinstance(right, ast.Constant) and right.value
            return f"(cast({_sql(left, inputs)} as double) / {by if never_zero else f'nullif({by}, 0)'})"
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return f"({_sql(left, inputs)} {_OPERATORS[type(operator)]} {_sql(right, inputs)})"
    raise NotPlainError(f"has `{ast.unparse(node)[:60]}`, which is no arithmetic on columns")
