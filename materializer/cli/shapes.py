"""Views, features, entities and services as the commands print them with ``--output json``."""

from __future__ import annotations

from typing import Any

from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView
from materializer.warehouse.join_keys import type_name


def view_json(view: FeatureView) -> dict[str, Any]:
    """A view as the commands print it."""
    return {
        "name": view.name,
        "version": view.version,
        "reference": view.reference,
        "description": view.description,
        "owner": view.owner,
        "tags": dict(view.tags),
        "entities": [entity_json(entity) for entity in view.entities],
        "features": [feature_json(feature) for feature in view.features],
        "timestamp": view.timestamp,
        "created_timestamp": view.created_timestamp,
        "available_after_seconds": view.available_after,
        "ttl_seconds": view.ttl,
        "warn_after_seconds": view.warn_after,
        "error_after_seconds": view.error_after,
        "online": view.online,
        "relation": view.relation or None,
    }


def service_json(service: FeatureService) -> dict[str, Any]:
    """A service as the commands print it."""
    return {
        "name": service.name,
        "description": service.description,
        "owner": service.owner,
        "tags": dict(service.tags),
        "features": list(service.features),
    }


def feature_json(feature: Feature) -> dict[str, Any]:
    """A feature as the commands print it; the type is NULL where the view is not built."""
    return _column_json(feature)


def entity_json(entity: Entity) -> dict[str, Any]:
    """An entity as the commands print it."""
    return _column_json(entity)


def _column_json(part: Entity | Feature) -> dict[str, Any]:
    dtype = None if part.dtype is None else type_name(part.dtype)
    return {"name": part.name, "type": dtype, "description": part.description}
