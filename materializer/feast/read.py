"""From what Feast says of a repository's objects to definitions: entities, views with their sources, and services."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

from materializer.feast.definitions import (
    Absent,
    Entity,
    FeastType,
    Field,
    Projected,
    Repository,
    Service,
    Source,
    View,
)

_VIEWS = ("BatchFeatureView", "FeatureView", "LabelView", "StreamFeatureView")
_STREAMS = {"KafkaSource": "stream source", "KinesisSource": "stream source", "PushSource": "push source"}
_NO_ENTITY = "__dummy"
_LOOSE = "only a list or a call holds it: `feast apply` registers what a module has a name for"
# Feast keeps in a field's tags what its enum of types does not say.
_STRUCT, _NESTED = "feast:struct_schema", "feast:nested_inner_type"
# Beyond this a moment less its ttl is no date any more.
_LONGEST_TTL = timedelta(days=365 * 500)

Proto = Mapping[str, Any]


class NoEqual(Exception):
    """An object has no equal here; the text says why, and what to do."""


def definitions(answer: Proto) -> Repository:
    """What ``ask_feast.py`` has found, as definitions.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: where it is not of that shape.
    """
    objects = sorted(answer["objects"], key=lambda found: _place(found["where"]))
    entities = {e.name: e for e in map(_entity, (o for o in objects if o["kind"] == "Entity")) if e.name != _NO_ENTITY}
    registered = {o["name"] for o in objects if o["registered"]}
    on_demand = {o["name"] for o in objects if o["kind"] == "OnDemandFeatureView"}
    views: dict[str, View] = {}
    services: dict[str, Service] = {}
    absent: dict[tuple[str, str, str], Absent] = {}
    for found in objects:
        kind, name, where, spec = found["kind"], found["name"], found["where"], _spec(found)
        what = "feature view" if kind in _VIEWS else {"FeatureService": "feature service"}.get(kind, kind)
        try:
            if not found["registered"]:
                # A copy under another name, as services take them, is none of its own.
                if name not in registered and kind != "Entity":
                    raise NoEqual(_LOOSE)
            elif kind in _VIEWS:
                if any(name.lower() == other.lower() for other in views):
                    raise NoEqual("another feature view before it has the same name")
                views[name] = _view(found, spec, entities)
            elif kind == "FeatureService":
                if name in services:
                    raise NoEqual("another feature service before it has the same name")
                services[name] = _service(found, spec, on_demand)
            elif kind == "OnDemandFeatureView":
                what = "on-demand feature view"
                raise NoEqual(_on_demand(spec))
            elif kind == "RequestSource":
                what, fields = "request source", _names(spec["request_data_options"].get("schema", []))
                raise NoEqual(f"values of the request ({fields}) are known where the request is answered")
            elif kind in _STREAMS:
                what = _STREAMS[kind]
                raise NoEqual("views over it read its batch source; let what is pushed or streamed arrive there too")
            elif kind == "Permission":
                raise NoEqual("who may read what is the business of the warehouse's grants and of Redis' access lists")
        except NoEqual as error:
            absent[what, name, where] = Absent(what, name, where, str(error))
    return Repository(
        folder=Path(answer["folder"]),
        entities=tuple(entities.values()),
        views=tuple(views.values()),
        services=tuple(services.values()),
        absent=tuple(absent.values()),
        **{name: answer[name] for name in ("feast", "project", "online_store", "schema", "database", "files")},
    )


def _place(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(line or 0)


def _spec(found: Proto) -> Proto:
    return found["proto"].get("spec", found["proto"])


def _described(spec: Proto) -> dict[str, Any]:
    return {"description": spec.get("description", ""), "owner": spec.get("owner", ""), "tags": spec.get("tags", {})}


def _entity(found: Proto) -> Entity:
    spec, notes = _spec(found), () if found["registered"] else (_LOOSE,)
    dtype = _type(spec.get("value_type"), {})
    return Entity(spec["name"], spec["join_key"], dtype, where=found["where"], notes=notes, **_described(spec))


# Views.


def _view(found: Proto, spec: Proto, known: Mapping[str, Entity]) -> View:
    kind, notes = found["kind"], []
    if spec.get("source_views"):
        notes.append(f"Feast derives it from {_names(spec['source_views'])}; it is read here from its sink_source")
    batch, stream = spec.get("batch_source", spec.get("source")), spec.get("stream_source", {})
    if batch and _class(batch) in _STREAMS:
        batch, stream = batch.get("batch_source"), batch
    if stream:
        notes.append(
            f"the rows of its {_class(stream)} '{stream.get('name', '')}' are not read, only those of its batch source"
        )
    if not batch:
        raise NoEqual("it has no source of rows: rows that are only pushed need a table or file to be kept in")
    features = [_field(field, notes) for field in spec.get("features", [])]
    # For a label view Feast takes text for a key's type where none is said.
    columns = spec.get("entity_columns", []) if kind != "LabelView" else []
    types = {column["name"]: _field(column, []).dtype for column in columns}
    if spec.get("disabled"):
        notes.append("it is not enabled in Feast: it is written with `online: false`")
    if spec.get("version", "latest") not in ("", "latest"):
        notes.append(
            f"it is pinned to version {spec['version']} of Feast's registry: the definition is taken as it stands in "
            "the code"
        )
    if kind == "LabelView":
        notes.append("it is a label view: a plain view here, in which the latest event counts whoever the labeler was")
    entities = []
    for name in spec.get("entities", []):
        if name == _NO_ENTITY:
            continue
        entity = known.get(name) or Entity(name, name)
        if name not in known:
            notes.append(f"Feast registers no entity '{name}': its name is taken as the join key")
        dtype = entity.dtype or types.get(entity.join_key)
        entities.append(Entity(name, entity.join_key, dtype, entity.description, entity.owner, entity.tags))
    computed = spec.get("feature_transformation") or spec.get("aggregations") or spec.get("user_defined_function")
    facts = _described(spec)
    facts["tags"] = facts["tags"] | ({"org": spec["org"]} if spec.get("org") else {})
    return View(
        spec["name"], kind, found["where"], tuple(entities), tuple(features), _source(batch, found),
        _ttl(spec.get("ttl", "0s"), notes), bool(spec.get("online")) and not spec.get("disabled"),
        transformation=found["code"] or ("(Feast does not tell the code.)" if computed else ""), notes=tuple(notes),
        **facts,
    )  # fmt: skip


def _field(proto: Proto, notes: list[str]) -> Field:
    name, tags = proto["name"], proto.get("tags", {})
    if proto.get("vector_index"):
        notes.append(f"`{name}` has a vector index in Feast; here it is a list like others, which Redis can index")
    own = {key: value for key, value in tags.items() if key not in (_STRUCT, _NESTED)}
    return Field(name, _type(proto.get("value_type"), tags), proto.get("description", ""), own)


def _type(name: str | None, tags: Mapping[str, str]) -> FeastType | None:
    """A type by its name in Feast's enum, and by what the tags of the field add to it."""
    if name in (None, "INVALID", "NULL"):
        return None
    if _NESTED in tags:
        return _spelled(tags[_NESTED])
    if inner := re.fullmatch(r"(\w+)_(LIST|SET)", name):
        of = _type(inner[1], tags)
        return of and FeastType("ARRAY" if inner[2] == "LIST" else "SET", of)
    if name == "STRUCT" and _STRUCT in tags:
        return _struct(json.loads(tags[_STRUCT]))
    return FeastType({"DOUBLE": "FLOAT64", "FLOAT": "FLOAT32"}.get(name, name))


def _spelled(text: str) -> FeastType:
    """``Array(Array(STRING))``, and structs as JSON, as Feast spells them in tags."""
    if text.startswith("{"):
        return _struct(json.loads(text)["__struct__"])
    if collection := re.fullmatch(r"(Array|Set)\((.*)\)", text, re.DOTALL):
        return FeastType(collection[1].upper(), _spelled(collection[2]))
    return FeastType(text)


def _struct(fields: Mapping[str, str]) -> FeastType:
    return FeastType("STRUCT", fields=tuple((name, _spelled(text)) for name, text in fields.items()))


def _ttl(text: str, notes: list[str]) -> timedelta | None:
    """A duration in whole seconds, or None where there is none: zero means no limit in Feast too."""
    given = float(text.removesuffix("s"))
    seconds = math.ceil(given)
    if seconds != given > 0:
        notes.append(f"its `ttl` of {given} s was raised to whole seconds")
    if seconds > _LONGEST_TTL.total_seconds():
        notes.append(f"its `ttl` is longer than {_LONGEST_TTL.days // 365} years and was left out: no limit")
        return None
    return timedelta(seconds=seconds) if seconds > 0 else None


def _class(source: Proto) -> str:
    """A source's class; Feast does not name it where it stands within another."""
    plain = {"KAFKA": "KafkaSource", "KINESIS": "KinesisSource", "PUSH": "PushSource", "FILE": "FileSource"}
    named = source.get("data_source_class_type", "").rpartition(".")[2]
    return named or next((of for word, of in plain.items() if word in source.get("type", "")), "source")


def _source(batch: Proto, found: Proto) -> Source:
    kind, notes = _class(batch), []
    options = next((value for name, value in batch.items() if name.endswith("_options")), {})

    def option(*names: str) -> Any:
        return next((options[name] for name in names if options.get(name)), "")

    table, query = option("table", "table_ref", "collection"), option("query")
    path = option("uri", "path", "file_url", "materialization_path")
    if not (table or path or query):
        raise NoEqual(f"its {kind} names no file, table or query")
    if batch.get("date_partition_column"):
        notes.append(f"its date partition column `{batch['date_partition_column']}` is not used: dbt reads every row")
    if option("s3_endpoint_override"):
        notes.append("its S3 endpoint goes into `settings: {s3_endpoint: ...}` of profiles.yml")
    file_format = option("file_format", "reader_type") or "parquet"
    name = batch.get("name", "")
    if name in ("", path, table):
        name = table.rpartition(".")[2] or PureWindowsPath(path).stem or found["name"]
    return Source(
        name=name.strip('`"'),
        kind=kind,
        path=path,
        file_format=(file_format if isinstance(file_format, str) else next(iter(file_format))).removesuffix("_format"),
        table=table,
        schema=option("schema", "scope"),
        database=option("database"),
        query=query,
        timestamp=batch.get("timestamp_field", ""),
        created=batch.get("created_timestamp_column", ""),
        field_mapping=batch.get("field_mapping", {}),
        columns=found.get("columns"),
        columns_error=found.get("columns_error", ""),
        is_folder=bool(found.get("is_folder")),
        notes=tuple(notes),
        **_described(batch),
    )


# On-demand views and services.


def _on_demand(spec: Proto) -> str:
    inputs = spec.get("sources", {})
    todo = (
        "what needs the request's own values is computed where the request is answered"
        if any("request_data_source" in source for source in inputs.values())
        else "it needs features alone: write it as a column of a model that reads those views"
    )
    names = ", ".join(sorted(inputs, key=lambda name: ("request_data_source" in inputs[name], name))) or "its inputs"
    return f"it is Python over {names} (features: {_names(spec.get('features', []))}); {todo}"


def _service(found: Proto, spec: Proto, on_demand: set[str]) -> Service:
    features, notes = [], []
    for taken in spec.get("features", []):
        view, names = taken["feature_view_name"], tuple(column["name"] for column in taken.get("feature_columns", []))
        if view in on_demand:
            notes.append(f"the features of the on-demand view '{view}' are left out")
            continue
        if taken.get("version_tag"):
            notes.append(
                f"'{view}' is pinned to version {taken['version_tag']} of Feast's registry: the view as it is now is "
                "taken"
            )
        features.append(
            Projected(view, names or None, taken.get("feature_view_name_alias", ""), taken.get("join_key_map", {}))
        )
    return Service(spec["name"], found["where"], tuple(features), notes=tuple(notes), **_described(spec))


def _names(protos: list[Proto]) -> str:
    return ", ".join(proto["name"] for proto in protos)
