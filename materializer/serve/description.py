"""The server's routes as OpenAPI has them: what each takes, gives, and refuses."""

from __future__ import annotations

from typing import Any

import msgspec

from materializer.serve.asked import ColumnsRequest, RowsRequest

JSON = "application/json"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_ERROR = {
    "title": "Error",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"}},
            "required": ["code", "message"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_REFUSED = {
    400: "Not JSON, or not of this form.",
    401: "No key, or an unknown one.",
    403: "The key may not read that.",
    404: "No such view, feature or service; or nothing is published yet.",
    413: "Larger than this server takes.",
    422: "A join key is missing, or is not of its type.",
    429: "Too many requests: Retry-After says when to come back.",
    503: "Redis is away: Retry-After says when to come back.",
}
_MANY = {"type": "array", "items": {"type": "array"}}
_ROWS = {
    "title": "Rows",
    "type": "object",
    "properties": {
        "names": {"type": "array", "items": {"type": "string"}},
        "rows": _MANY,
        "statuses": _MANY,
        "event_timestamps": _MANY,
        "ages": _MANY,
        "arrow_schema": {"type": "string"},
    },
    "required": ["names", "rows"],
}
_COLUMNS = {
    "title": "Columns",
    "type": "object",
    "properties": {"metadata": {"type": "object"}, "results": {"type": "array", "items": {"type": "object"}}},
    "required": ["metadata", "results"],
}
_HOT = (400, 401, 403, 404, 413, 422, 429, 503)


def _post(body: type, service: str, entities: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """A hot route: its body is read as bytes, so the framework does not know it."""
    _, parts = msgspec.json.schema_components([body])
    schema = parts[body.__name__]
    # One of both is named, and not nothing.
    several = {"required": ["features"], "properties": {"features": {"minItems": 1, "type": "array"}}}
    schema["oneOf"] = [several, {"required": [service], "properties": {service: {"minLength": 1, "type": "string"}}}]
    schema["properties"]["entities"] |= entities
    return {
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": _answers(answer, _HOT),
    }


def _get(*refused: int, named: str | None = None) -> dict[str, Any]:
    parameter = {"name": "name", "in": "path", "required": True, "description": named, "schema": {"type": "string"}}
    answers = {"responses": _answers({"type": "object"}, refused)}
    return {**answers, "parameters": [parameter]} if named else answers


def _answers(answer: dict[str, Any], refused: tuple[int, ...]) -> dict[str, Any]:
    errors = {str(status): {"description": _REFUSED[status], "content": _content(_ERROR)} for status in refused}
    return {"200": {"description": "The answer.", "content": _content(answer)}, **errors}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": schema}}


_PUSHED = {
    "title": "Pushed",
    "type": "object",
    "properties": {"source": {"type": "string"}, "rows": {"type": "integer"}, "repeated": {"type": "boolean"}},
    "required": ["source", "rows", "repeated"],
}


def _push() -> dict[str, Any]:
    source = {"name": "source", "in": "path", "required": True, "description": "A source: `shop.purchases`."}
    key = {"name": "Idempotency-Key", "in": "header", "description": "Repeated with it, a push lands nothing again."}
    rows = {"type": "array", "items": {"type": "object"}}
    body = {"type": "object", "properties": {"rows": rows}, "required": ["rows"], "additionalProperties": False}
    return {
        "parameters": [source | {"schema": {"type": "string"}}, key | {"schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": _content(body)},
        "responses": _answers(_PUSHED, _HOT),
    }


ROUTES: dict[str, dict[str, Any]] = {
    "/get-online-features": _post(ColumnsRequest, "feature_service", {"minProperties": 1}, _COLUMNS),
    "/v1/features": _post(RowsRequest, "service", {"minItems": 1}, _ROWS),
    "/v1/services": _get(401, 404, 429, 503),
    "/v1/services/{name}": _get(401, 403, 404, 429, 503, named="A service."),
    "/v1/views": _get(401, 404, 429, 503),
    "/v1/views/{name}": _get(401, 403, 404, 429, 503, named="A view, or a version of it: `user_features.v2`."),
    "/health": _get(),
    "/ready": _get(404, 503),
    "/metrics": {
        "responses": {"200": {"description": "Prometheus' text.", "content": {TEXT: {"schema": {"type": "string"}}}}}
    },
}
# The one that is there with `--push` alone.
PUSH = _push()
