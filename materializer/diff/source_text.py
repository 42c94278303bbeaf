"""What a model's own text tells without dbt having compiled it: its words, and the window macro it consists of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import nodes

from materializer.diff.meaning import EPHEMERAL
from materializer.project.sandbox import sandbox

_COMMENTS = re.compile(r"\{#.*?#\}|('(?:''|[^'])*'|\"[^\"]*\")|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WORDS = re.compile(r"'(?:''|[^'])*'|\"[^\"]*\"|\w+|[^\w\s]", re.DOTALL)
_JINJA_DASHES = re.compile(r"(\{[%{])-|-([%}]\})")
# What a macro or model may look at beside its own text; a changed value of it shows only in compiled SQL.
_OUTSIDE = re.compile(r"\b(var|env_var|target|graph|run_query|statement|flags|adapter\s*\.\s*(?!dispatch|quote))\b")
_ARGUMENTS = ("relation", "entities", "timestamp", "aggregates", "windows", "grain", "created_timestamp", "shape")


def words(text: str) -> list[str]:
    """A text without comments, layout and case (of what is not quoted): what is compared where SQL cannot be read."""
    bare = _JINJA_DASHES.sub(r"\1\2", _COMMENTS.sub(lambda match: match[1] or " ", text))
    return [word if word[0] in "'\"" else word.lower() for word in _WORDS.findall(bare)]


def looks_outside(text: str) -> bool:
    """Whether a model's or macro's text reads variables, the environment or the warehouse's rows."""
    return bool(_OUTSIDE.search(_COMMENTS.sub(lambda match: match[1] or " ", text)))


@dataclass(frozen=True)
class _Relation:
    key: str


class _NotLiteralError(Exception):
    pass


def window_query(raw: str) -> str | None:
    """What a model that is one call of ``window_aggregates`` means, as a short SELECT; None for any other model.

    The SQL that the macro writes depends on how many events there are, so it cannot be compared between two days, and
    every column of it reads every window. The call itself says all there is to know.
    """
    if "window_aggregates" not in raw:
        return None
    try:
        call, known = _only_call(sandbox(extensions=["jinja2.ext.do"]).parse(raw))
        given = dict(zip(_ARGUMENTS, [_literal(one, known) for one in call.args], strict=False))
        given |= {one.key: _literal(one.value, known) for one in call.kwargs}
        return _select(given)
    except (jinja2.TemplateSyntaxError, _NotLiteralError, KeyError, TypeError, AttributeError, ValueError,
            RecursionError):  # fmt: skip
        return None


def _select(given: Mapping[str, Any]) -> str:
    entities = [given["entities"]] if isinstance(given["entities"], str) else given["entities"]
    windows = [given["windows"]] if isinstance(given["windows"], str) else given["windows"]
    grain, event, created = given.get("grain") or "change", given["timestamp"], given.get("created_timestamp")
    known = f"greatest({_name(event)}, {_name(created)})" if created else _name(event)
    columns = [_name(entity) for entity in entities] + [f"{known} as event_timestamp"]
    for aggregate in given["aggregates"]:
        function, value = aggregate["function"], aggregate.get("expression", "1")
        inside = f"distinct {value}" if function == "count_distinct" else value
        where = f" filter (where {aggregate['where']})" if aggregate.get("where") else ""
        for window in windows:
            count, unit = window.split()
            column = f"{aggregate['name']}_{count}{unit[0]}"
            columns.append(
                f"{function.removesuffix('_distinct')}({inside}){where} over (partition by "
                f"{', '.join(map(_name, entities))} order by {known}, {_name(event)} range between "
                f"interval '{window}' preceding and current row) as {_name(column)}"
            )
    relation = given["relation"]
    source = _name(EPHEMERAL + relation.key) if isinstance(relation, _Relation) else f"{relation} as events"
    moments = [f"moments_of_grain('{grain}', {known})"]
    moments += [] if grain == "event" else [f"moments_at_the_end_of('{window}')" for window in windows]
    return f"select {', '.join(columns)} from {source} where {' and '.join(moments)}"


def _name(name: str) -> str:
    return f'"{name}"'


def _only_call(template: nodes.Template) -> tuple[nodes.Call, dict[str, Any]]:
    """The call that a model consists of, and the variables that it sets before it."""
    known: dict[str, Any] = {}
    calls = []
    for node in template.body:
        if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name):
            known[node.target.name] = _literal(node.node, known)
            continue
        if not isinstance(node, nodes.Output):
            raise _NotLiteralError
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData) and not words(part.data):
                continue
            if not isinstance(part, nodes.Call):
                raise _NotLiteralError
            if isinstance(part.node, nodes.Name) and part.node.name == "config":
                continue
            calls.append(part)
    if len(calls) != 1 or not isinstance(calls[0].node, nodes.Getattr) or calls[0].node.attr != "window_aggregates":
        raise _NotLiteralError
    return calls[0], known


def _literal(node: nodes.Node, known: Mapping[str, Any]) -> Any:
    if isinstance(node, nodes.Const):
        return node.value
    if isinstance(node, (nodes.List, nodes.Tuple)):
        return [_literal(one, known) for one in node.items]
    if isinstance(node, nodes.Dict):
        return {_literal(pair.key, known): _literal(pair.value, known) for pair in node.items}
    if isinstance(node, nodes.Name) and node.name in known:
        return known[node.name]
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in ("ref", "source"):
        names = [_literal(one, known) for one in node.args]
        version = next((_literal(one.value, known) for one in node.kwargs if one.key in ("v", "version")), None)
        if node.node.name == "source":
            return _Relation(".".join(names))
        return _Relation(names[-1] if version is None else f"{names[-1]}.v{version}")
    raise _NotLiteralError
