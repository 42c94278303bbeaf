"""YAML of a project, a profile or a Feast repository: data only, of a size that somebody could have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# As many values as the widest project holds, and more; aliases of aliases make a billion of ten lines.
_MOST_VALUES = 1_000_000


def load_yaml(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: where it is none, or its aliases unfold to more than a file could hold.
    """
    try:
        content = yaml.safe_load(text)
        _count(content, {}, set())
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
    except ValueError as error:  # a date or number that is none
        raise yaml.YAMLError(str(error)) from None
    return content


def project_setting(folder: Path, name: str, default: str) -> str:
    """What the ``dbt_project.yml`` in a folder says of one setting, as it is written there; else the default."""
    try:
        return str(load_yaml((folder / "dbt_project.yml").read_text()).get(name) or default)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError):
        return default


def _count(value: Any, known: dict[int, int], within: set[int]) -> int:
    """How many values there are where each alias counts as what it stands for."""
    if not isinstance(value, (dict, list)):
        return 1
    place = id(value)
    if place in within:
        raise yaml.YAMLError("it holds itself")
    if place not in known:
        within.add(place)
        parts = value.values() if isinstance(value, dict) else value
        known[place] = 1 + sum(_count(part, known, within) for part in parts)
        within.remove(place)
    if known[place] > _MOST_VALUES:
        raise yaml.YAMLError("its aliases unfold to more than a million values")
    return known[place]
