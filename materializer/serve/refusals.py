"""Errors as answers, all of one form."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from materializer.errors import (
    DefinitionError,
    FeatureStoreError,
    InputError,
    LandingError,
    NotFoundError,
    OnlineStoreError,
)
from materializer.serve.asked import InvalidError, TooLargeError
from materializer.serve.description import JSON
from materializer.serve.keys import BusyError, ForbiddenError, UnauthorizedError
from materializer.serve.values import encode

# The status and code of each kind of error, the first that fits. What a caller did wrong is of the 400s.
_ERRORS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnauthorizedError, 401, "unauthorized"),
    (ForbiddenError, 403, "forbidden"),
    (BusyError, 429, "too_many_requests"),
    (TooLargeError, 413, "too_large"),
    (InvalidError, 400, "invalid_request"),
    (InputError, 422, "invalid_value"),
    (NotFoundError, 404, "not_found"),
    (DefinitionError, 404, "not_found"),
    (OnlineStoreError, 503, "unavailable"),
    (LandingError, 503, "unavailable"),
    (FeatureStoreError, 500, "error"),
)
_CODES = {404: "not_found", 405: "method_not_allowed"}


def refusal(error: FeatureStoreError, challenge: str = "Bearer") -> Response:
    """The answer that an error is. A `challenge` of Basic has a browser ask for the key."""
    status, code = next((status, code) for kind, status, code in _ERRORS if isinstance(error, kind))
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = challenge
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if isinstance(error, (OnlineStoreError, LandingError)):
        headers["Retry-After"] = "1"
    return envelope(status, code, str(error), headers)


async def http_error(request: Request, error: Any) -> Response:
    """What the framework refuses by itself: paths and methods that are not there."""
    said = {404: f"There is no {request.url.path} here.", 405: f"{request.url.path} takes no {request.method}."}
    message = said.get(error.status_code, str(error.detail))
    hint = "GET /docs shows what there is."
    return envelope(error.status_code, _CODES.get(error.status_code, "error"), message, error.headers, hint)


def envelope(status: int, code: str, message: str, headers: Any = None, hint: str | None = None) -> Response:
    """An error in the one form that all have."""
    body: dict[str, Any] = {"code": code, "message": message}
    if hint:
        body["hint"] = hint
    return Response(encode({"error": body}), status_code=status, media_type=JSON, headers=dict(headers or {}))
