"""Prints what a Feast repository defines, as JSON: a program of its own, for the Python in which Feast is installed.

    python ask_feast.py path/to/feature_repo > feast.json

It needs nothing but Feast, and runs the repository's code as ``feast apply`` does; nothing is applied or written.
"""

from __future__ import annotations

import sys

if not getattr(sys.flags, "safe_path", False):
    sys.path.pop(0)  # this file's own folder is nothing to import from

import base64
import functools
import importlib.metadata
import inspect
import json
import os
import textwrap
import traceback
from pathlib import Path

FORMAT = 1
# Settings of feature_store.yaml that an error may quote. Any other may be a secret.
_HARMLESS = ("entity_key_serialization_version", "project", "provider", "type")
_DROPPED = ("body", "meta")
_OF_USER = ("field_mapping", "join_key_map", "tags")
_OF_PLUGIN = (
    "collection", "database", "file_url", "materialization_path", "path", "query", "reader_type", "schema", "scope",
    "table", "table_ref",
)  # fmt: skip


def ask(folder: Path) -> dict:
    """A repository's objects, each with its proto and what that lacks: the place in the code, the text of the functions
    that compute features, the columns of the source."""
    from feast import Entity, FeatureService, repo_config
    from feast.base_feature_view import BaseFeatureView
    from feast.data_source import DataSource
    from feast.repo_operations import get_repo_files, parse_repo
    from google.protobuf.json_format import MessageToDict

    os.chdir(folder)
    sys.path.append(str(folder))
    sys.dont_write_bytecode = True
    config = repo_config.load_repo_config(folder, folder / "feature_store.yaml")
    made: list = []
    for kind in (BaseFeatureView, DataSource, Entity, FeatureService):
        _record(kind, made, folder)
    found = [item for items in parse_repo(folder) for item in items]
    registered = {id(item) for item in found}
    places = {id(item): place for item, place in made}
    order = {key: number for number, key in enumerate(places)}
    # What only a list or a call holds is not registered.
    loose = [item for item, place in made if id(item) not in registered and place and not isinstance(item, DataSource)]
    objects, columns = [], {}
    for item in sorted([*found, *loose], key=lambda item: order.get(id(item), -1)):
        source = getattr(item, "batch_source", None) if isinstance(item, BaseFeatureView) else None
        if isinstance(source, DataSource) and id(source) not in columns:
            columns[id(source)] = _columns(source, config, not item.features)
        objects.append(
            {
                "kind": next(k.__name__ for k in type(item).__mro__ if k.__module__.partition(".")[0] == "feast"),
                "name": item.name,
                "where": places.get(id(item), ""),
                "registered": id(item) in registered,
                "proto": _plain(MessageToDict(item.to_proto(), preserving_proto_field_name=True)),
                "code": _code(item),
                **columns.get(id(source), {}),
            }
        )
    store = _settings(config.offline_config)
    return {
        "folder": str(folder),
        "files": len(get_repo_files(folder)),
        "project": config.project,
        "online_store": _first(_settings(config.online_config), "type"),
        "schema": _first(store, "db_schema", "schema_", "schema", "dataset"),
        "database": _first(store, "database", "project_id"),
        "objects": objects,
    }


def _record(kind: type, made: list, folder: Path) -> None:
    """From now on, keep every object of this kind with the line of the repository that makes it."""
    init = kind.__init__

    @functools.wraps(init)
    def recording(self, *args, **settings):
        init(self, *args, **settings)
        made.append((self, _place([(f.f_code.co_filename, f.f_lineno) for f in _frames(sys._getframe(1))], folder)))

    kind.__init__ = recording


def _frames(frame):
    while frame:
        yield frame
        frame = frame.f_back


def _place(lines: list, folder: Path) -> str:
    """The first of these lines that is the repository's own: ``views/driver.py:16``."""
    for file, line in lines:
        if file.startswith(f"{folder}{os.sep}") and "site-packages" not in file:
            return f"{Path(file).relative_to(folder).as_posix()}:{line}"
    return ""


def _columns(source, config, needed: bool) -> dict:
    """The columns that Feast finds in a source: in files that lie here, and where a view leaves them to Feast."""
    path = getattr(source, "path", None)
    if not needed and (type(source).__name__ != "FileSource" or not path or "://" in path):
        return {}
    try:
        columns = {str(name): str(dtype) for name, dtype in source.get_table_column_names_and_types(config)}
    except Exception as error:
        return {"columns_error": type(error).__name__}
    return {"columns": columns, "is_folder": bool(path) and Path(path).is_dir()}


def _code(item) -> str:
    """The Python that computes an object's features."""
    function, text = getattr(item, "udf", None), getattr(item, "udf_string", None) or ""
    transformation = getattr(item, "feature_transformation", None)
    function = function or getattr(transformation, "udf", None)
    text = text or getattr(transformation, "udf_string", None) or ""
    if function is not None and not text:
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            text = repr(function)
    aggregations = getattr(item, "aggregations", None)
    return "\n\n".join(
        part for part in (textwrap.dedent(text), f"aggregations = {aggregations}" if aggregations else "") if part
    )


def _plain(value):
    """A proto without moments, without functions in Python's own bytes, and without connections."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plain(item) for key, item in value.items() if key not in (*_DROPPED, *_OF_USER)}
    plain.update({key: dict(sorted(value[key].items())) for key in _OF_USER if key in value})
    if "configuration" in plain:  # of a source from a plugin, which may hold a password too
        try:
            known = json.loads(base64.b64decode(plain["configuration"]))
        except ValueError:
            known = {}
        plain = {key: known[key] for key in _OF_PLUGIN if isinstance(known, dict) and isinstance(known.get(key), str)}
    return plain


def _settings(store) -> dict:
    return store if isinstance(store, dict) else {"type": store}


def _first(settings: dict, *names: str) -> str:
    return next((str(settings[name]) for name in names if settings.get(name)), "")


def _sentence(error: BaseException, folder: Path) -> str:
    """What is wrong and where, without a setting of feature_store.yaml that may be a secret."""
    lines = [(line.filename, line.lineno) for line in reversed(traceback.extract_tb(error.__traceback__))]
    if isinstance(error, SyntaxError):
        lines.insert(0, (error.filename or "", error.lineno))
    error = error.args[0] if type(error).__name__ == "FeastConfigError" and error.args else error
    text, place = str(error), _place(lines, folder)
    if hasattr(error, "errors"):  # pydantic's: its own text quotes what it was given
        text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    elif hasattr(error, "problem_mark"):  # YAML's: its own text quotes the line
        text = f"{error.problem} (line {error.problem_mark.line + 1})"
        place = place or "feature_store.yaml"
    for secret in _secrets(folder):
        text = text.replace(secret, "***")
    text = " ".join(text.split())[:400]
    return f"{place}{': ' if place else ''}{type(error).__name__}{': ' if text else ''}{text}"


def _secrets(folder: Path) -> list:
    import yaml

    def leaves(value, name=""):
        if isinstance(value, (dict, list)):
            for key, item in value.items() if isinstance(value, dict) else ((name, item) for item in value):
                yield from leaves(item, str(key))
        elif name not in _HARMLESS and len(str(value)) > 3 and value is not None:
            yield from {str(value), os.path.expandvars(str(value))}

    try:
        return sorted(leaves(yaml.safe_load((folder / "feature_store.yaml").read_text())), key=len, reverse=True)
    except Exception:
        return []


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the repository prints is no part of the answer
    folder = Path(sys.argv[1]).resolve()
    answer: dict = {"format": FORMAT, "feast": ""}
    try:
        answer["feast"] = importlib.metadata.version("feast")
        answer.update(ask(folder))
    except importlib.metadata.PackageNotFoundError:
        answer["error"] = f"there is no Feast in {sys.executable}"
    except BaseException as error:
        answer["error"] = _sentence(error, folder)
    json.dump(answer, out, indent=1)
    out.close()
    os._exit(0)  # whatever threads the repository has started


if __name__ == "__main__":
    main()
