"""On-demand features of a request: computed from what the caller brings and the stored features that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from materializer.errors import FeatureStoreError, InputError
from materializer.online.response import Column, OnlineResponse, Status
from materializer.project.definitions import Feature, Pick, Registry, pick_features, request_fields, split_reference
from materializer.warehouse.on_demand_types import field_values, input_type, request_types

# What makes of computed values, and their type, what the reader gives for stored ones.
GivenAs = Callable[[pa.DataType, Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class _Group:
    """The on-demand features of one view or service, which share their names: computed in one query.

    `features` by their names in the answer; `stored` are the names that they read, with those of the columns that are
    read for them; `types` of all inputs.
    """

    holder: str
    features: Mapping[str, Feature]
    stored: Mapping[str, str]
    request: Mapping[str, str]
    types: Mapping[str, pa.DataType]


@dataclass(frozen=True)
class Computed:
    """What is to be computed for a list of features: made once, used by every request for it."""

    outputs: tuple[str, ...]
    groups: tuple[_Group, ...]
    request: Mapping[str, str]

    def brought(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """The request fields of entity rows, in their types. Raises InputError where one is missing or of another."""
        found = {}
        for name, declared in self.request.items():
            for number, row in enumerate(rows):
                if name not in row:
                    of = next(one.holder for one in self.groups if name in one.request)
                    raise InputError(
                        f"Entity row {number} has no '{name}', a request field of on-demand features of '{of}' "
                        f"({declared.lower()}); it has: {', '.join(row) or 'nothing'}."
                    )
            found[name] = field_values((row[name] for row in rows), declared, name)
        return found

    def completed(
        self, response: OnlineResponse, brought: Mapping[str, list[Any]], rows: int, given_as: GivenAs
    ) -> OnlineResponse:
        """The answer with the computed columns, and without those that were only read for them."""
        columns: dict[str, Column] = dict(response.columns)
        for group in self.groups:
            inputs = {name: brought[name] for name in group.request}
            inputs |= {name: _naive(columns[column][1], columns[column][0]) for name, column in group.stored.items()}
            moments: list[bytes | None] = [None] * rows
            for name, values in _values(group, inputs, rows).items():
                statuses = [Status.NULL_VALUE if value is None else Status.PRESENT for value in values]
                dtype = group.features[name].dtype
                columns[name] = (dtype, given_as(dtype, values), statuses, moments)
        return response.with_columns({name: columns[name] for name in self.outputs}, self.request)


def as_they_are(_: pa.DataType, values: Sequence[Any]) -> list[Any]:
    """Computed values as Python has them."""
    return list(values)


def split(
    registry: Registry, references: Sequence[str], picks: Sequence[Pick], shared: bool
) -> tuple[list[Pick], list[Pick], Computed | None]:
    """The stored features that a request asks for; those that are read for its on-demand ones, under names of their
    own; and what is computed from them, None where nothing is. With `shared`, one that is both is read once."""
    if not any(pick.on_demand for pick in picks):
        return list(picks), [], None
    asked = list(zip(references, picks, strict=True))
    outputs = {reference: pick.output for reference, pick in asked if shared and not pick.on_demand}
    stored, inputs = [pick for pick in picks if not pick.on_demand], []
    groups: dict[str, list[Pick]] = {}
    for reference, pick in asked:
        if pick.on_demand:
            groups.setdefault(split_reference(reference)[0], []).append(pick)
            for read in pick.on_demand.on_demand.reads.values():
                if read not in outputs:
                    (found,) = pick_features(registry, [read], full_feature_names=False)
                    outputs[read] = read  # a colon is in no name of a feature
                    inputs.append(Pick(found.view, found.feature, read))
    made = tuple(_group(holder, group, outputs, [*stored, *inputs]) for holder, group in groups.items())
    return stored, inputs, Computed(tuple(pick.output for pick in picks), made, request_fields(picks))


def _group(holder: str, picks: Sequence[Pick], outputs: Mapping[str, str], stored: Sequence[Pick]) -> _Group:
    features = {pick.output: pick.on_demand for pick in picks if pick.on_demand}
    found = {pick.output: pick.view.feature(pick.feature).dtype for pick in stored if pick.view}
    reads: dict[str, str] = {}
    types: dict[str, pa.DataType] = {}
    for feature in features.values():
        how = feature.on_demand
        types |= request_types(how)
        for name, reference in how.reads.items():
            reads[name] = outputs[reference]
            types[name] = input_type(found[outputs[reference]])
    return _Group(holder, features, reads, request_fields(picks), types)


def _values(group: _Group, inputs: Mapping[str, list[Any]], rows: int) -> dict[str, Sequence[Any]]:
    try:
        from materializer.warehouse.embedded import values_of
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise FeatureStoreError(
            f"The on-demand features of '{group.holder}' are computed by an embedded DuckDB, and duckdb is not "
            "installed: pip install 'dbt-feature-store[on-demand]'."
        ) from None
    expressions = {name: (feature.on_demand.sql, feature.dtype) for name, feature in group.features.items()}
    try:
        return values_of(expressions, inputs, group.types, rows)
    except Exception as error:  # what was published may be of a release whose engine knows more than this one
        names = ", ".join(f"'{group.holder}:{feature.name}'" for feature in group.features.values())
        said = " ".join(str(error).split())[:300]
        raise FeatureStoreError(f"The on-demand features {names} cannot be computed here: {said}") from None


def _naive(values: list[Any], dtype: pa.DataType) -> list[Any]:
    """Moments in UTC without a zone, as expressions read them."""
    if not (pa.types.is_timestamp(dtype) and dtype.tz):
        return values
    return [None if value is None else value.replace(tzinfo=None) for value in values]
