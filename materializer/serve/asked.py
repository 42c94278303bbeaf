"""What a request asks for: read from its body, checked against the limits, with one sentence where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from materializer.errors import InputError


class InvalidError(InputError):
    """A body that cannot be read, or is not of the shape that the endpoint takes."""


class TooLargeError(InputError):
    """A request beyond a limit of this server."""


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and how many requests a key may send a second (None: any number)."""

    body_bytes: int = 4 * 1024 * 1024
    entities: int = 10_000
    features: int = 2_000
    rate: float | None = None


class ColumnsRequest(msgspec.Struct):
    """Feast's request: join keys as columns. What else Feast's clients may send is passed over."""

    entities: dict[str, list[Any]]
    features: list[str] | None = None
    feature_service: str | None = None
    full_feature_names: bool = False


class RowsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rows in, rows out."""

    entities: list[dict[str, Any]]
    features: list[str] | None = None
    service: str | None = None
    # What on-demand features are brought, a row for each of `entities`; it may also stand in these.
    request: list[dict[str, Any]] | None = None
    full_feature_names: bool = False
    # Beside the values: why each is what it is and when its row's event was; and how old that is, in seconds.
    statuses: bool = False
    ages: bool = False
    # Integers as texts, for clients whose numbers are doubles.
    integers_as_strings: bool = False
    # The features' types, as a serialized Arrow schema in base64: for the SDK, which gives values in them.
    arrow_schema: bool = False


@dataclass(frozen=True)
class Asked:
    """Features (references, or a service's name) of entities."""

    features: list[str] | str
    rows: Sequence[Mapping[str, Any]]
    full_feature_names: bool

    @property
    def service(self) -> str | None:
        return self.features if isinstance(self.features, str) else None


_COLUMNS, _ROWS = msgspec.json.Decoder(ColumnsRequest), msgspec.json.Decoder(RowsRequest)
_PLACE = re.compile(r"(.*) - at `\$(.*)`")


def read_columns(body: bytes, limits: Limits) -> Asked:
    """The request of ``POST /get-online-features``.

    Raises:
        InvalidError: for a body that is none.
        TooLargeError: for too many features or entities.
    """
    request = _decoded(_COLUMNS, body)
    lengths = set(map(len, request.entities.values()))
    if len(lengths) > 1:
        raise InvalidError("The lists in `entities` are of different lengths: give one value of each join key a row.")
    names = list(request.entities)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*request.entities.values(), strict=True)]
    return _asked(request.features, request.feature_service, "feature_service", rows, request, limits)


def read_rows(body: bytes, limits: Limits) -> tuple[Asked, RowsRequest]:
    """The request of ``POST /v1/features``, and what else it says.

    Raises:
        InvalidError, TooLargeError: as `read_columns`.
    """
    request = _decoded(_ROWS, body)
    rows = request.entities
    if request.request is not None:
        if len(request.request) != len(rows):
            raise InvalidError(
                f"`request` has {len(request.request)} rows and `entities` has {len(rows)}: give one for each entity."
            )
        rows = [
            _joined(row, brought, place) for place, (row, brought) in enumerate(zip(rows, request.request, strict=True))
        ]
    if request.arrow_schema:
        rows = [{name: _number(value) for name, value in row.items()} for row in rows]
    return _asked(request.features, request.service, "service", rows, request, limits), request


def _number(value: Any) -> Any:
    """A float that JSON has no word for, as the SDK writes it."""
    known = isinstance(value, dict) and value.get("float") in ("nan", "inf", "-inf")
    return float(value["float"]) if known else value


def _joined(row: dict[str, Any], brought: dict[str, Any], place: int) -> dict[str, Any]:
    if twice := row.keys() & brought.keys():
        raise InvalidError(f"Row {place} has '{min(twice)}' in both `entities` and `request`: give it once.")
    return {**row, **brought}


def _asked(
    features: list[str] | None, service: str | None, name: str, rows: Sequence[Mapping[str, Any]], request: Any,
    limits: Limits,
) -> Asked:  # fmt: skip
    if bool(features) == bool(service):
        what = "both `features` and" if features else "neither `features` nor"
        raise InvalidError(f"The request names {what} `{name}`: name one of them.")
    if not rows:
        raise InvalidError("`entities` is empty: give at least one.")
    if len(rows) > limits.entities:
        raise TooLargeError(f"The request has {len(rows)} entities; this server takes at most {limits.entities}.")
    if features and len(features) > limits.features:
        raise TooLargeError(f"The request has {len(features)} features; this server takes at most {limits.features}.")
    return Asked(features or service or "", rows, request.full_feature_names)


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        said = _PLACE.sub(lambda match: f"`{match[2].lstrip('.') or 'the body'}`: {match[1]}", str(error))
        raise InvalidError(f"The request is not of the form that this endpoint takes: {said}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"The body is no JSON: {error}.") from None
