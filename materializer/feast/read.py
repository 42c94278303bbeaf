"""From what Feast says of a repository's objects to definitions: entities, views with their sources, and services."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

from materializer.feast.definitions import (
    Computed,
    Entity,
    Field,
    Outcome,
    Projected,
    Repository,
    Service,
    Source,
    View,
)
from materializer.feast.locations import file_of, query_of, table_of
from materializer.feast.on_demand import NotPlainError, computed_features

_VIEWS = ("BatchFeatureView", "FeatureView", "LabelView", "StreamFeatureView")
_STREAMS = {"KafkaSource": "stream source", "KinesisSource": "stream source", "PushSource": "push source"}
_KINDS = dict.fromkeys(_VIEWS, "feature view") | {
    "FeatureService": "feature service", "OnDemandFeatureView": "on-demand feature view",
    "RequestSource": "request source",
} | _STREAMS  # fmt: skip
_NO_ENTITY = "__dummy"
_LOOSE = "only a list or a call holds it: `feast apply` registers what a module has a name for"
# Feast keeps in a field's tags what its enum of types does not say.
_OF_FEAST = ("feast:struct_schema", "feast:nested_inner_type")
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
    entities = {o["name"]: _entity(o) for o in objects if o["kind"] == "Entity" and o["name"] != _NO_ENTITY}
    registered = {o["name"] for o in objects if o["registered"]}
    # By the names of on-demand views, the feature view that has their features here; None where they have no equal.
    on_demand: dict[str, str | None] = {o["name"]: None for o in objects if o["kind"] == "OnDemandFeatureView"}
    moved: list[tuple[str, str, str, str]] = []
    views: dict[str, View] = {}
    services: dict[str, Service] = {}
    absent: dict[Outcome, None] = {}
    # Those that read others come after them, and services last.
    last = {"OnDemandFeatureView": 1, "FeatureService": 2}
    for found in sorted(objects, key=lambda one: last.get(one["kind"], 0)):
        kind, name = found["kind"], found["name"]
        try:
            if kind == "Entity" or (not found["registered"] and name in registered):
                continue  # a view under another name, as services take them, is none of its own
            if not found["registered"]:
                raise NoEqual(_LOOSE)
            if kind in _VIEWS:
                if any(name.lower() == other.lower() for other in views):
                    raise NoEqual("another feature view before it has the same name")
                views[name] = _view(found, entities, answer)
            elif kind == "FeatureService":
                if name in services:
                    raise NoEqual("another feature service before it has the same name")
                services[name] = _service(found, on_demand)
            elif kind == "OnDemandFeatureView":
                view, computed = _computed(found, views)
                views[view.name], on_demand[name] = view, view.name
                moved.append((name, found["where"], view.name, _note(view, computed)))
            else:
                _has_no_equal(kind, _spec(found))
        except NoEqual as error:
            absent[Outcome(_KINDS.get(kind, kind), name, found["where"], notes=(str(error),))] = None
    return Repository(
        folder=Path(answer["folder"]),
        entities=tuple(entities.values()),
        views=tuple(views.values()),
        services=tuple(services.values()),
        absent=tuple(absent),
        on_demand=tuple(moved),
        **{name: answer[name] for name in ("feast", "project", "online_store", "files")},
    )


def _place(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(line or 0)


def _spec(found: Proto) -> Proto:
    return found["proto"].get("spec", found["proto"])


def _described(spec: Proto, where: str = "") -> dict[str, Any]:
    facts = {name: spec.get(name, "") for name in ("name", "description", "owner")}
    tags = {key: value for key, value in spec.get("tags", {}).items() if key not in _OF_FEAST}
    return facts | {"tags": tags | ({"org": spec["org"]} if spec.get("org") else {}), "where": where}


def _type(spec: Proto) -> str:
    name = spec.get("value_type", "")
    return "" if name in ("INVALID", "NULL", "UNKNOWN") else name


def _entity(found: Proto) -> Entity:
    spec, notes = _spec(found), () if found["registered"] else (_LOOSE,)
    return Entity(join_key=spec["join_key"], dtype=_type(spec), notes=notes, **_described(spec, found["where"]))


def _computed(found: Proto, views: Mapping[str, View]) -> tuple[View, tuple[Computed, ...]]:
    """The view that an on-demand view reads, with what that computes, and this alone. Raises NoEqual where it is more
    than arithmetic."""
    spec = _spec(found)
    try:
        name, features = computed_features(spec, found["code"])
        view = views.get(name)
        if view is None:
            raise NotPlainError(f"reads '{name}', which is not here")
        taken = {one.name.lower() for one in (*view.features, *view.computed)}
        taken |= {entity.join_key.lower() for entity in view.entities}
        for feature in features:
            if twice := {feature.name.lower(), *map(str.lower, feature.request)} & taken:
                raise NotPlainError(f"has '{min(twice)}', a name that '{name}' has already")
    except NotPlainError as error:
        _has_no_equal(found["kind"], spec, str(error))
        raise NoEqual(str(error)) from None
    return replace(view, computed=(*view.computed, *features)), features


def _note(view: View, computed: tuple[Computed, ...]) -> str:
    called = f"its features are called {', '.join(f'`{view.name}:{feature.name}`' for feature in computed)} here"
    zero = "; by zero Feast divides to infinity or NaN, and here the value is NULL"
    return called + (zero if any(feature.divides for feature in computed) else "")


def _has_no_equal(kind: str, spec: Proto, why: str = "") -> None:
    if kind == "OnDemandFeatureView":
        inputs = spec.get("sources", {})
        requests = {name for name, of in inputs.items() if "request_data_source" in of}
        names = ", ".join(sorted(inputs, key=lambda name: (name in requests, name))) or "its inputs"
        todo = (
            "write it as an expression under `on_demand` of a view or service, as far as SQL can say it"
            if requests
            else "it needs features alone: write it as a column of a model that reads those views"
        )
        why = f", and {why}" if why else ""
        raise NoEqual(f"it is Python over {names} (features: {_names(spec.get('features', []))}){why}; {todo}")
    if kind == "RequestSource":
        fields = _names(spec["request_data_options"].get("schema", []))
        raise NoEqual(f"values of the request ({fields}) are known where the request is answered")
    if kind in _STREAMS:
        raise NoEqual("views over it read its batch source; let what is pushed or streamed arrive there too")
    if kind == "Permission":
        raise NoEqual("who may read what is the business of the warehouse's grants and of Redis' access lists")


# Views.


def _view(found: Proto, known: Mapping[str, Entity], answer: Proto) -> View:
    kind, spec, notes = found["kind"], _spec(found), []
    if spec.get("source_views"):
        notes.append(f"Feast derives it from {_names(spec['source_views'])}; it is read here from its sink_source")
    batch, stream = spec.get("batch_source", spec.get("source")), spec.get("stream_source", {})
    if batch and _class(batch) in _STREAMS:
        batch, stream = batch.get("batch_source"), batch
    if stream:
        notes.append(
            f"the rows of its {_class(stream)} '{stream['name']}' are not read, only those of its batch source"
        )
    if not batch:
        raise NoEqual("it has no source of rows: rows that are only pushed need a table or file to be kept in")
    for field in spec.get("features", []):
        if field.get("vector_index"):
            notes.append(
                f"`{field['name']}` has a vector index in Feast; here it is a list like others, which Redis can index"
            )
    if spec.get("disabled"):
        notes.append("it is not enabled in Feast: it is written with `online: false`")
    if spec.get("version", "latest") not in ("", "latest"):
        notes.append(
            f"it is pinned to version {spec['version']} of Feast's registry: the definition is taken as it stands in "
            "the code"
        )
    if kind == "LabelView":
        notes.append("it is a label view: a plain view here, in which the latest event counts whoever the labeler was")
    # For a label view Feast takes text for a key's type where none is said.
    types = {one["name"]: _type(one) for one in spec.get("entity_columns", []) if kind != "LabelView"}
    entities = []
    for name in spec.get("entities", []):
        if name not in known and name != _NO_ENTITY:
            notes.append(f"Feast registers no entity '{name}': its name is taken as the join key")
        if name != _NO_ENTITY:
            entity = known.get(name) or Entity(name=name, join_key=name)
            entities.append(replace(entity, dtype=entity.dtype or types.get(entity.join_key, "")))
    computed = any(spec.get(name) for name in ("feature_transformation", "aggregations", "user_defined_function"))
    return View(
        kind=kind,
        entities=tuple(entities),
        features=tuple(Field(dtype=_type(one), **_described(one)) for one in spec.get("features", [])),
        source=_source(batch, found, answer),
        ttl=_ttl(spec.get("ttl", "0s"), notes),
        online=bool(spec.get("online")) and not spec.get("disabled"),
        transformation=found["code"] or ("(Feast does not tell the code.)" if computed else ""),
        notes=tuple(notes),
        **_described(spec, found["where"]),
    )


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


def _source(batch: Proto, found: Proto, answer: Proto) -> Source:
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
    file_format, facts = option("file_format", "reader_type") or "parquet", _described(batch)
    if facts["name"] in ("", path, table):
        facts["name"] = table.rpartition(".")[2] or PureWindowsPath(path).stem or found["name"]
    file_format = (file_format if isinstance(file_format, str) else next(iter(file_format))).removesuffix("_format")
    if query:
        place = query_of(query, notes)
    elif path:
        place = file_of(path, file_format, Path(answer["folder"]), found, notes)
    else:
        place = table_of(table, option("schema", "scope"), option("database"), answer)
    return Source(
        kind=kind,
        timestamp=batch.get("timestamp_field", ""),
        created=batch.get("created_timestamp_column", ""),
        field_mapping=batch.get("field_mapping", {}),
        columns=found.get("columns"),
        notes=tuple(notes),
        **facts | place | {"name": facts["name"].strip('`"')},
    )


# Services.


def _service(found: Proto, on_demand: Mapping[str, str | None]) -> Service:
    spec, features, notes = _spec(found), [], []
    for taken in spec.get("features", []):
        view, names = taken["feature_view_name"], tuple(column["name"] for column in taken.get("feature_columns", []))
        if view in on_demand:
            moved = on_demand[view]
            if moved is None:
                notes.append(f"the features of the on-demand view '{view}' are left out")
            else:
                features.append(Projected(moved, names, "", {}))
            continue
        if taken.get("version_tag"):
            notes.append(
                f"'{view}' is pinned to version {taken['version_tag']} of Feast's registry: the view as it is now is "
                "taken"
            )
        features.append(
            Projected(view, names or None, taken.get("feature_view_name_alias", ""), taken.get("join_key_map", {}))
        )
    return Service(features=tuple(features), notes=tuple(notes), **_described(spec, found["where"]))


def _names(protos: list[Proto]) -> str:
    return ", ".join(proto["name"] for proto in protos)
