"""docs/macros.md and docs/tests.md say what the macros' properties say, of every public macro and argument."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[1]


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = _generator()
MACROS = {macro.name: macro for macro in generate.public_macros()}


def test_every_macro_that_users_call_is_there() -> None:
    assert {
        "window_aggregates", "aggregate_as_of", "point_in_time_join", "latest", "test_feature_view",
        "test_feature_freshness", "test_feature_null_fraction", "test_feature_drift",
    } <= set(MACROS)  # fmt: skip
    assert set(generate.EXAMPLES) == set(MACROS)


@pytest.mark.parametrize("path", generate.pages(), ids=lambda path: path.name)
def test_a_page_is_what_the_properties_say(path: Path) -> None:
    assert path.read_text() == generate.pages()[path], "run `python docs/generate.py`"


@pytest.mark.parametrize("name", MACROS)
def test_the_properties_describe_the_macro_and_each_argument_in_order(name: str) -> None:
    macro = MACROS[name]
    assert len(macro.description) > 30
    described = macro.properties.get("arguments", [])
    assert [argument["name"] for argument in described] == list(macro.signature)
    for argument in described:
        assert argument.get("type") and len(argument.get("description", "")) > 10, argument


@pytest.mark.parametrize("name", MACROS)
def test_the_example_calls_it_with_arguments_that_it_has(name: str) -> None:
    macro, example = MACROS[name], generate.EXAMPLES[name]
    if macro.is_test:
        (model,) = yaml.safe_load(example)["models"]
        (test,) = model.get("data_tests") or model["columns"][0]["data_tests"]
        given = {} if isinstance(test, str) else test[f"feature_store.{macro.shown}"].get("arguments", {})
        place = {"model", "column_name"}
    else:
        calls = [
            call
            for call in jinja2.Environment().parse(example).find_all(nodes.Call)
            if isinstance(call.node, nodes.Getattr) and call.node.attr == macro.name
        ]
        assert len(calls) == 1
        given, place = {keyword.key for keyword in calls[0].kwargs}, set(list(macro.signature)[: len(calls[0].args)])
    required = {argument for argument, default in macro.signature.items() if default is None}
    assert set(given) <= set(macro.signature) and required <= set(given) | place
