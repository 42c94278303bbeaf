"""Whether a manifest has the shape that dbt gives it, as far as anything here reads it.

Others write manifests too, and files get damaged: what is left out or null gets the value that stands for nothing, and
what is of another type is named. The rest of the code may then take a node as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from materializer.errors import ProjectError

_NAMES = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
_MISSING = object()


class _Shape:
    """What a value has to be: its type, what stands in for one that is not there, and the shape of what it holds, where
    nothing may be null."""

    def __init__(
        self,
        kinds: type | tuple[type, ...],
        default: Callable[[], Any] | None = None,
        parts: Mapping[str, _Shape] | None = None,
        each: _Shape | None = None,
        required: bool = False,
    ) -> None:
        self.kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        self.default, self.parts, self.each, self.required = default, parts, each, required


def _mapping(**parts: _Shape) -> _Shape:
    return _Shape(dict, dict, parts)


def _each(shape: _Shape) -> _Shape:
    return _Shape(dict, dict, each=shape)


_TEXT = _Shape(str, str)
_NAME = _Shape(str, required=True)
_TEXT_OR_NONE = _Shape(str)
_TEXTS = _Shape(list, list, each=_Shape(str))
_VERSION = _Shape((str, int, float))
_FREE = _Shape(dict, dict)
_DEPENDS_ON = _mapping(nodes=_TEXTS, macros=_TEXTS)
_CONFIG = _mapping(
    meta=_FREE, materialized=_TEXT_OR_NONE, group=_TEXT_OR_NONE, schema=_TEXT_OR_NONE, database=_TEXT_OR_NONE,
    target_schema=_TEXT_OR_NONE, delimiter=_TEXT_OR_NONE, enabled=_Shape(bool, lambda: True),
)  # fmt: skip
_COLUMN = _mapping(name=_TEXT, description=_TEXT, data_type=_TEXT_OR_NONE)
_NODE = _mapping(
    resource_type=_NAME, name=_NAME, package_name=_TEXT, original_file_path=_TEXT, language=_Shape(str, lambda: "sql"),
    config=_CONFIG, meta=_FREE, tags=_TEXTS, description=_TEXT, columns=_each(_COLUMN), depends_on=_DEPENDS_ON,
    relation_name=_TEXT_OR_NONE, raw_code=_TEXT, compiled_code=_TEXT_OR_NONE, compiled_path=_TEXT_OR_NONE,
    patch_path=_TEXT_OR_NONE, group=_TEXT_OR_NONE, database=_TEXT_OR_NONE, schema=_TEXT_OR_NONE, alias=_TEXT_OR_NONE,
    version=_VERSION, latest_version=_VERSION, checksum=_mapping(checksum=_TEXT), attached_node=_TEXT_OR_NONE,
    column_name=_TEXT_OR_NONE, test_metadata=_mapping(name=_TEXT_OR_NONE, namespace=_TEXT_OR_NONE),
)  # fmt: skip
_SOURCE = _mapping(**_NODE.parts, source_name=_NAME, identifier=_TEXT_OR_NONE)
_EXPOSURE = _mapping(
    name=_NAME, type=_TEXT_OR_NONE, description=_TEXT, tags=_TEXTS, config=_CONFIG, meta=_FREE, depends_on=_DEPENDS_ON,
    owner=_mapping(name=_TEXT_OR_NONE, email=_TEXT_OR_NONE), package_name=_TEXT, resource_type=_TEXT_OR_NONE,
)  # fmt: skip
_MACRO = _mapping(name=_NAME, package_name=_NAME, macro_sql=_TEXT, depends_on=_DEPENDS_ON)
_GROUP = _mapping(name=_NAME)
_UNIT_TEST = _mapping(name=_NAME, depends_on=_DEPENDS_ON)
_DISABLED = _mapping(resource_type=_NAME, name=_NAME, config=_CONFIG, meta=_FREE, original_file_path=_TEXT,
                     package_name=_TEXT, raw_code=_TEXT, checksum=_mapping(checksum=_TEXT))  # fmt: skip
_MANIFEST = _mapping(
    metadata=_mapping(adapter_type=_TEXT_OR_NONE, project_name=_TEXT_OR_NONE, dbt_version=_TEXT_OR_NONE),
    nodes=_each(_NODE), sources=_each(_SOURCE), exposures=_each(_EXPOSURE), macros=_each(_MACRO), groups=_each(_GROUP),
    unit_tests=_each(_UNIT_TEST), disabled=_each(_Shape(list, list, each=_DISABLED)),
)  # fmt: skip


def shaped(manifest: dict[str, Any], where: str, mend: str) -> dict[str, Any]:
    """The same manifest with what is left out filled in.

    Args:
        where: what to call it in an error.
        mend: how to make a new one.

    Raises:
        ProjectError: naming the place where something is of another type than dbt writes, or missing.
    """

    def wrong(value: Any, place: str, shape: _Shape) -> ProjectError:
        said = "nothing" if value is _MISSING else "null" if value is None else repr(value)[:60]
        kind = " or ".join(_NAMES.get(one, "a number") for one in shape.kinds)
        return ProjectError(f"{where} has {said} at {place or 'its top'}, where dbt writes {kind}: {mend} again.")

    def fit(value: Any, place: str, shape: _Shape, required: bool = False) -> Any:
        if value is None or value is _MISSING:
            if required or shape.required:
                raise wrong(value, place, shape)
            if shape.default is None:
                return None
            value = shape.default()
        elif type(value) not in shape.kinds:
            raise wrong(value, place, shape)
        if shape.parts is not None:
            for key, part in shape.parts.items():
                found = value.get(key, _MISSING)
                # Most of what there is fits as it stands, and holds nothing more.
                if type(found) in part.kinds and part.parts is None and part.each is None:
                    continue
                value[key] = fit(found, f"{place}.{key}".lstrip("."), part)
        if shape.each is not None:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if type(item) is not str or shape.each.kinds != (str,):
                    fit(item, f"{place}.{key}".lstrip("."), shape.each, required=True)
        return value

    fit(manifest, "", _MANIFEST)
    for kind in ("nodes", "sources", "exposures"):
        for unique_id, node in manifest[kind].items():
            node["unique_id"] = unique_id
            for name, column in (node.get("columns") or {}).items():
                column["name"] = column["name"] or name
    return manifest
