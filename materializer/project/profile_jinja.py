"""Renders the values of ``dbt_project.yml`` and ``profiles.yml`` as dbt does: native types, its filters, a sandbox."""

from __future__ import annotations

import ast
import datetime
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2.nativetypes
import yaml

from materializer.errors import ProjectError
from materializer.project.sandbox import Sandbox
from materializer.project.yaml_files import load_yaml

_SECRET = "DBT_ENV_SECRET"
# A secret is put in after rendering, so that no filter can change or show it.
_PLACEHOLDER = re.compile(r"\$\$\$DBT_SECRET_START\$\$\$(\w+)\$\$\$DBT_SECRET_END\$\$\$")


class _Text(str):
    """`as_text`: stays text, whatever it looks like."""


class _Native(str):
    """`as_native`: the Python value that it spells."""


class _Bool(_Native):
    pass


class _Number(_Native):
    pass


def _concat(nodes: Iterable[Any]) -> Any:
    """One value keeps its type, and text stays text unless a filter says otherwise; several values become text."""
    head = list(itertools.islice(iterator := iter(nodes), 2))
    if not head:
        return ""
    if len(head) > 1:
        return "".join(str(value) for value in (*head, *iterator))
    (raw,) = head
    if isinstance(raw, _Text):
        return str(raw)
    if not isinstance(raw, _Native):
        return raw
    try:
        value = ast.literal_eval(raw)
    except (ValueError, SyntaxError, MemoryError):
        value = str(raw)
    if isinstance(raw, _Bool) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"  # dbt wants it with a capital letter
    if isinstance(raw, _Bool) and not isinstance(value, bool):
        raise jinja2.TemplateError("a value given to as_bool is no boolean")
    if isinstance(raw, _Number) and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise jinja2.TemplateError("a value given to as_number is no number")
    return value


class _Environment(Sandbox):
    code_generator_class = jinja2.nativetypes.NativeCodeGenerator


_ENVIRONMENT = _Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
_ENVIRONMENT.filters |= {
    "as_text": _Text,
    "as_bool": _Bool,
    "as_native": _Native,
    "as_number": _Number,
    "is_list": lambda value: isinstance(value, list),
}


def env_var_of(where: str, secrets: bool = False) -> Callable[..., str]:
    """dbt's ``env_var()`` for what is written in `where`, a file or a macro.

    With `secrets`, a variable whose name begins with ``DBT_ENV_SECRET`` gives a placeholder for `reveal`; without, it
    is refused, as dbt refuses it everywhere but in profiles.yml.
    """

    def env_var(name: str, default: str | None = None) -> str:
        if name.startswith(_SECRET):
            if not secrets:
                raise ProjectError(f"{where} reads {name}: secrets may be read in profiles.yml only.")
            if name in os.environ:
                return f"$$$DBT_SECRET_START$$${name}$$$DBT_SECRET_END$$$"
        value = os.environ.get(name, default)
        if value is None:
            raise ProjectError(f"{where} needs the environment variable {name}, which is not set.")
        return value

    return env_var


def basic_context(where: str, variables: Mapping[str, Any], secrets: bool = False) -> dict[str, Any]:
    """What dbt offers in every template: `variables` are those of ``--vars``."""
    unset = object()

    def var(name: str, default: Any = unset) -> Any:
        if name in variables:
            return variables[name]
        if default is unset:
            raise ProjectError(f"{where} needs the variable '{name}': pass it with --vars, as to dbt.")
        return default

    return {
        "env_var": env_var_of(where, secrets),
        "var": var,
        "fromjson": lambda text, default=None: _or(default, json.loads, text),
        "tojson": lambda value, default=None, sort_keys=False: _or(
            default, lambda one: json.dumps(one, sort_keys=sort_keys), value
        ),
        "fromyaml": lambda text, default=None: _or(default, load_yaml, text),
        "toyaml": lambda value, default=None, sort_keys=False: _or(
            default, lambda one: yaml.safe_dump(one, sort_keys=sort_keys), value
        ),
        "set": lambda value, default=None: _or(default, set, value),
        "zip": lambda *values, default=None: _or(default, lambda several: list(zip(*several, strict=False)), values),
        "modules": {
            "datetime": {name: getattr(datetime, name) for name in ("date", "datetime", "time", "timedelta", "tzinfo")},
            "re": {name: getattr(re, name) for name in re.__all__},
            "itertools": {name: getattr(itertools, name) for name in dir(itertools) if not name.startswith("_")},
        },
    }


def render(value: Any, context: Mapping[str, Any], path: Path, keys: tuple[Any, ...] = ()) -> Any:
    """A value of the YAML file at `path`, with all that stands in it rendered.

    Raises:
        ProjectError: where something cannot be rendered; without the text, which may hold a password.
    """
    if isinstance(value, dict):
        return {key: render(item, context, path, (*keys, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, context, path, (*keys, place)) for place, item in enumerate(value)]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    try:
        template = _ENVIRONMENT.from_string(value)
        rendered = _concat(template.root_render_func(template.new_context(dict(context))))
        if isinstance(rendered, jinja2.Undefined):  # which dbt refuses when it looks at the connection
            raise jinja2.TemplateError(f"'{rendered._undefined_name}' is undefined")
    except ProjectError:
        raise
    except Exception as error:
        if "password" in keys:  # as dbt does: it may hold what only looks like Jinja
            return value
        what = error.message if isinstance(error, jinja2.TemplateError) else type(error).__name__
        where = ".".join(map(str, keys))
        raise ProjectError(f"{path} cannot be rendered{f' (`{where}`)' if where else ''}: {what}.") from None
    return _PLACEHOLDER.sub(lambda match: os.environ[match[1]], rendered) if isinstance(rendered, str) else rendered


def _or(default: Any, work: Callable[[Any], Any], value: Any) -> Any:
    try:
        return work(value)
    except (ValueError, TypeError, yaml.YAMLError):
        return default
