"""JSON Schema of what a service, or a list of features, takes and gives: enough to generate a typed client."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from materializer.project.definitions import (
    Feature,
    FeatureService,
    FeatureView,
    Pick,
    Registry,
    pick_features,
    request_fields,
)
from materializer.warehouse.arrow import is_list
from materializer.warehouse.join_keys import UUID, type_name
from materializer.warehouse.on_demand_types import field_type


def service_schema(registry: Registry, service: FeatureService) -> dict[str, Any]:
    """A service: its features, and the JSON Schemas of a request to ``POST /v1/features`` and of the answer."""
    picks = pick_features(registry, service.references, full_feature_names=False)
    stored = pick_features(registry, registry.stored(service.references), full_feature_names=True)
    keys = {entity.name: entity.dtype for pick in stored if pick.view for entity in pick.view.entities}
    fields = {name: _nullable(schema_of(field_type(of))) for name, of in request_fields(picks).items()}
    brought = {"request": _objects(fields)} if fields else {}
    return {
        "name": service.name,
        "description": service.description,
        "owner": service.owner,
        "tags": dict(service.tags),
        "features": list(service.references),
        "request": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"{service.name} request",
            "type": "object",
            "properties": {
                "service": {"const": service.name},
                "entities": _objects({name: _nullable(schema_of(dtype)) for name, dtype in keys.items()}),
                **brought,
                "statuses": {"type": "boolean", "default": False},
                "ages": {"type": "boolean", "default": False},
                "full_feature_names": {"type": "boolean", "default": False},
                "integers_as_strings": {"type": "boolean", "default": False},
            },
            "required": ["service", "entities", *brought],
            "additionalProperties": False,
        },
        "answer": _answer(service.name, picks),
    }


def _objects(properties: dict[str, Any]) -> dict[str, Any]:
    """At least one row of these, all of them."""
    row = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "minItems": 1, "items": row}


def view_json(view: FeatureView) -> dict[str, Any]:
    """A published view."""
    return {
        "name": view.reference,
        "description": view.description,
        "owner": view.owner,
        "tags": dict(view.tags),
        "entities": [_column(entity) for entity in view.entities],
        "features": [_column(feature) for feature in view.features],
        "on_demand": [_computed(feature) for feature in view.on_demand],
        "ttl_seconds": view.ttl.total_seconds() if view.ttl else None,
    }


def schema_of(dtype: pa.DataType | None) -> dict[str, Any]:
    """The JSON Schema of a value of this type, as an answer has it."""
    if dtype is None:
        return {}
    if pa.types.is_integer(dtype):
        return {"type": "integer"}
    if pa.types.is_boolean(dtype):
        return {"type": "boolean"}
    if pa.types.is_floating(dtype):
        return {"oneOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
    if pa.types.is_timestamp(dtype):
        return {"type": "string", "format": "date-time"}
    if pa.types.is_date(dtype):
        return {"type": "string", "format": "date"}
    if pa.types.is_binary(dtype):
        return {"type": "string", "contentEncoding": "base64"}
    if dtype == UUID:
        return {"type": "string", "format": "uuid"}
    if is_list(dtype):
        return {"type": "array", "items": _nullable(schema_of(dtype.value_type))}
    if pa.types.is_struct(dtype):
        return {"type": "object", "properties": {field.name: _nullable(schema_of(field.type)) for field in dtype}}
    if pa.types.is_map(dtype):
        pair = [schema_of(dtype.key_type), _nullable(schema_of(dtype.item_type))]
        return {"type": "array", "items": {"type": "array", "prefixItems": pair}}
    return {"type": "string"}


def _answer(name: str, picks: list[Pick]) -> dict[str, Any]:
    features = [pick.on_demand or (pick.view.feature(pick.feature) if pick.view else None) for pick in picks]
    columns = [_nullable(schema_of(feature.dtype if feature else None)) for feature in features]
    row = {"type": "array", "prefixItems": columns, "minItems": len(columns), "maxItems": len(columns)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{name} answer",
        "type": "object",
        "properties": {
            "names": {"const": [pick.output for pick in picks]},
            "rows": {"type": "array", "items": row},
            "statuses": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {"enum": ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]},
                },
            },
            "event_timestamps": {
                "type": "array",
                "items": {"type": "array", "items": _nullable({"type": "string", "format": "date-time"})},
            },
            "ages": {"type": "array", "items": {"type": "array", "items": _nullable({"type": "number"})}},
        },
        "required": ["names", "rows"],
    }


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"oneOf": [*schema["oneOf"], {"type": "null"}]} if "oneOf" in schema else schema


def _column(part: Any) -> dict[str, Any]:
    return {
        "name": part.name,
        "type": None if part.dtype is None else type_name(part.dtype),
        "description": part.description,
    }


def _computed(feature: Feature) -> dict[str, Any]:
    how = feature.on_demand
    request = {name: declared.lower() for name, declared in how.request.items()} if how else {}
    return {**_column(feature), "expression": how.expression if how else "", "request": request}
