"""What ``meta.feature_view`` may say. The dbt package's own macros judge, so that there is one grammar."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from materializer.errors import DefinitionError, InputError
from materializer.project.render import MacroRenderer

_RESERVED = ("_fs_", "registry", "services")
_right: set[str] = set()
_UNKNOWN_KEY = re.compile(r"has no key '(.*)'; its keys are (.*)\.")


def check_meta(name: str, meta: Any, kind: str) -> None:
    """Stop where ``meta.feature_view`` of a node (a model, seed or snapshot) is not what a feature view may say.

    Raises:
        DefinitionError: naming the key and what is known instead.
    """
    text = json.dumps(meta, default=str)
    # The thousands of views of a large project say few different things.
    if text not in _right or name.lower().startswith(_RESERVED):
        _ask("_check_feature_view", name, meta, kind)
        _right.add(text)


def freshness_limits(meta: Mapping[str, Any], where: str) -> dict[str, timedelta]:
    """``warn_after`` and ``error_after`` of ``meta.feature_view.freshness``, as far as they are declared.

    Raises:
        DefinitionError: where they are not what they may be.
    """
    limits = _ask("_freshness_limits", meta["freshness"], f"{where}.freshness") if "freshness" in meta else {}
    return {name: timedelta(seconds=duration["seconds"]) for name, duration in limits.items()}


def ahead_of(value: Any, where: str) -> timedelta:
    """How far ahead rows are sent online: ``'1 hour'``, or zero for 0.

    Raises:
        DefinitionError: where it is neither, or more than a year.
    """
    return timedelta(seconds=_ask("_ahead", value, where))


def on_demand_of_view(name: str, meta: Any, kind: str) -> dict[str, dict[str, Any]]:
    """What ``meta.feature_view.on_demand`` of a node declares, by name, with the names that each expression reads.

    Raises:
        DefinitionError: where it is not what it may be.
    """
    return _ask("_on_demand_of_view", name, meta, kind)


def on_demand_of_service(name: str, meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same of an exposure's ``meta.on_demand``; `inputs` are the references of what an expression reads.

    Raises:
        DefinitionError: where it is not what it may be.
    """
    return _ask("_declared_on_demand", name, meta) if "on_demand" in meta else {}


def on_demand_sql(feature: Mapping[str, Any]) -> str:
    """The expression of such a feature with its columns quoted, in DuckDB's dialect."""
    return _macros("duckdb").ask("_on_demand_expression", feature)


def _ask(macro: str, *args: Any) -> Any:
    try:
        return _macros().ask(macro, *args)
    except InputError as error:
        raise DefinitionError(_UNKNOWN_KEY.sub(_with_hint, str(error))) from None


def _with_hint(said: re.Match[str]) -> str:
    near = difflib.get_close_matches(said[1], said[2].split(", "), 1)
    return f"has no key '{said[1]}'{f' (did you mean {near[0]!r}?)' if near else ''}; its keys are {said[2]}."


@cache
def _macros(adapter: str = "default") -> MacroRenderer:
    manifest = {"metadata": {"adapter_type": adapter}, "nodes": {}, "macros": {}}
    return MacroRenderer(manifest, lambda relation: [], package_only=True)
