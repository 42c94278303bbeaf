"""Online reads through a feature server, for processes that may not reach Redis: the same answers, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec
import pyarrow as pa

from materializer.errors import FeatureStoreError, InputError, NotFoundError, OnlineStoreError
from materializer.online.request import inputs_of
from materializer.online.response import OnlineResponse, Status
from materializer.online.values import codec
from materializer.project.definitions import FeatureService

_ERRORS: dict[int, type[FeatureStoreError]] = {400: InputError, 404: NotFoundError, 413: InputError, 422: InputError}
_TIMEOUT_SECONDS = 30


class RemoteReader:
    """Reads from the server at `url`; see `materializer.FeatureStore`."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._options: dict[str, Any] = {"base_url": url, "headers": headers, "timeout": _TIMEOUT_SECONDS}
        self._client = httpx.Client(**self._options)
        # An event loop's connections end with it.
        self._clients: weakref.WeakKeyDictionary[Any, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    def read(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """See `materializer.FeatureStore.get_online_features`."""
        body = _body(features, entity_rows, full_feature_names)
        try:
            answer = self._client.post("/v1/features", content=body)
        except httpx.HTTPError as error:
            raise self._away(error) from None
        return self._response(answer, entity_rows)

    async def read_async(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """As `read`, for asyncio."""
        body = _body(features, entity_rows, full_feature_names)
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(**self._options)
        try:
            answer = await self._clients[loop].post("/v1/features", content=body)
        except httpx.HTTPError as error:
            raise self._away(error) from None
        return self._response(answer, entity_rows)

    def _response(self, answer: httpx.Response, entity_rows: Sequence[Mapping[str, Any]]) -> OnlineResponse:
        try:
            body = msgspec.json.decode(answer.content)
            if answer.status_code != 200:
                raise _ERRORS.get(answer.status_code, OnlineStoreError)(body["error"]["message"])
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(body["arrow_schema"])))
            count = len(schema)
            values, statuses, moments = (
                list(zip(*body[part], strict=True)) or [()] * count for part in ("rows", "statuses", "event_timestamps")
            )
            columns = {
                field.name: (
                    field.type,
                    [_value(value, field.type) for value in values[place]],
                    [Status(status) for status in statuses[place]],
                    [text and text.encode() for text in moments[place]],
                )
                for place, field in enumerate(schema)
            }
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, pa.ArrowException):
            raise OnlineStoreError(
                f"What answers at {self._url} is no feature server of this release (status {answer.status_code})."
            ) from None
        return OnlineResponse(inputs_of(entity_rows), columns)

    def _away(self, error: httpx.HTTPError) -> OnlineStoreError:
        return OnlineStoreError(f"The feature server at {self._url} does not answer ({error or type(error).__name__}).")


def _body(features: Any, rows: Sequence[Mapping[str, Any]], full_feature_names: bool) -> bytes:
    if isinstance(features, FeatureService):
        features = list(features.references)
    if isinstance(features, str):
        asked: dict[str, Any] = {"features": [features]} if ":" in features else {"service": features}
    else:
        asked = {"features": list(features)}
    # JSON has no NaN: as a request field it is a value, as a join key it is none.
    rows = [{name: _finite(value) for name, value in row.items()} for row in rows]
    options = {"full_feature_names": full_feature_names, "statuses": True, "arrow_schema": True}
    return msgspec.json.encode({**asked, "entities": rows, **options}, enc_hook=_plain)


def _finite(value: Any) -> Any:
    return {"float": repr(float(value))} if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """A key of a kind that JSON has not, such as numpy's."""
    if hasattr(value, "item"):
        return value.item()
    return value.hex() if isinstance(value, bytes) else str(value)


def _value(value: Any, dtype: pa.DataType) -> Any:
    if value is not None and pa.types.is_binary(dtype):
        return base64.b64decode(value)
    return codec(dtype, "A feature").from_json(value)
