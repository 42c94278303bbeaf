"""YAML that an analyst can read: dbt's property files, in the order given, with short mappings on one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml


class Line(dict):
    """A mapping that stands on one line: ``{name: age, data_type: bigint}``."""


class Row(list):
    """A list that stands on one line."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # Lists are indented under their key, as in dbt's own documentation.
        return super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    quotes = '"' if "'" in text and '"' not in text and "\\" not in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else quotes)


_Dumper.add_representer(Line, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v.items(), flow_style=True))
_Dumper.add_representer(Row, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))
_Dumper.add_representer(str, _text)


def to_yaml(content: Any, comment: str = "") -> str:
    """`content` as YAML, under a comment; entries of its lists have an empty line between them."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True, default_flow_style=False)
    text = re.sub(r"\n(?=\S)", "\n\n", text.rstrip("\n"))
    text = re.sub(r"(?<!:)\n(?=  - )", "\n\n", text)
    return "".join(f"# {line}\n" for line in comment.splitlines()) + text + "\n"


def inert(text: str) -> str:
    """A text in which dbt's Jinja sees nothing but text. Not ``{% raw %}``, which the text itself could end."""
    return re.sub(r"{(?=[{%#])", "{{ '{' }}", text)


def literal(value: Any) -> Any:
    """A value in which no text means anything to Jinja, which dbt renders its property files with."""
    if isinstance(value, str):
        return inert(_clean(value))
    if isinstance(value, Mapping):
        # dbt renders values and leaves keys as they are.
        return type(value)({_clean(key): literal(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return (Row if isinstance(value, Row) else list)(literal(item) for item in value)
    return value


def _clean(text: Any) -> Any:
    """Without control characters, which cannot stand in YAML and say nothing here."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "", text).strip() if isinstance(text, str) else text


def without_empty(**settings: Any) -> dict[str, Any]:
    """The settings that say something."""
    return {name: value for name, value in settings.items() if value not in ("", None, {}, [], ())}
