"""The words of a feature store as immutable values: entity, feature, feature view, feature service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from materializer.errors import DefinitionError, InputError, NotFoundError, worded

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Entity:
    """A join key. `name` is the column's name; `dtype` its Arrow type, once the warehouse was asked."""

    name: str
    description: str = ""
    dtype: pa.DataType | None = None

    @property
    def join_key(self) -> str:
        """The column that joins it, which is its name."""
        return self.name


@dataclass(frozen=True)
class OnDemand:
    """How a feature is computed at the moment it is requested: one row in, one value out.

    `expression` is the SQL as it was written; in `sql` its columns are quoted. `request` are the fields that the caller
    brings, with their SQL types. `reads` are the stored features, ``view:feature``, by their names in the expression.
    """

    expression: str
    sql: str
    request: Mapping[str, str]
    reads: Mapping[str, str]


@dataclass(frozen=True)
class Feature:
    """One feature of a view. `dtype` is its Arrow type, once the warehouse was asked; `on_demand` says how it is
    computed, where it is not stored."""

    name: str
    description: str = ""
    dtype: pa.DataType | None = None
    on_demand: OnDemand | None = None


@dataclass(frozen=True)
class FeatureView:
    """A dbt model that says ``meta.feature_view``, or what was published of it.

    `columns` are those declared in dbt (name, description, data_type); `entities` and `features` carry types only
    after `warehouse.typed.with_columns` asked the warehouse, or when they come from the published registry. `features`
    are stored; those `on_demand` are computed from them when they are requested.
    """

    name: str
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    timestamp: str = "event_timestamp"
    created_timestamp: str | None = None
    available_after: timedelta | None = None
    ttl: timedelta | None = None
    # How old the newest event, load and materialization may be: `meta.feature_view.freshness`.
    warn_after: timedelta | None = None
    error_after: timedelta | None = None
    online: bool = True
    # How far ahead of their moment rows are sent online, as declared; zero is not at all.
    ahead: timedelta | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    owner: str | None = None
    version: int | str | None = None
    latest: bool = True
    # The moment that the rows online stand for, where they were materialized for a past one.
    as_of: datetime | None = None
    # Whether rows that fall due may stand beside those online.
    due: bool = False
    relation: str = ""
    unique_id: str = ""
    on_demand: tuple[Feature, ...] = ()

    @property
    def reference(self) -> str:
        """How the view is named in keys and references: ``user_features``, or ``user_features.v2`` for a version."""
        return self.name if self.version is None else f"{self.name}.v{self.version}"

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The names of its join keys, in order."""
        return tuple(entity.name for entity in self.entities)

    @property
    def schema(self) -> tuple[Feature | Entity, ...]:
        """Join keys, then stored features."""
        return (*self.entities, *self.features)

    @property
    def all_features(self) -> tuple[Feature, ...]:
        """Stored features, then those on demand."""
        return (*self.features, *self.on_demand)

    def feature(self, name: str) -> Feature:
        """The feature called `name`.

        Raises:
            NotFoundError: naming those there are.
        """
        for feature in self.all_features:
            if feature.name == name:
                return feature
        names = ", ".join(f.name for f in self.all_features) or "none"
        raise NotFoundError(f"Feature view '{self.reference}' has no feature '{name}'; it has: {names}.")


def entities_of(views: Iterable[FeatureView]) -> list[Entity]:
    """The join keys of views, each once: as the first view has it that describes it."""
    found: dict[str, Entity] = {}
    for entity in (entity for view in views for entity in view.entities):
        if entity.name not in found or (entity.description and not found[entity.name].description):
            found[entity.name] = entity
    return list(found.values())


@dataclass(frozen=True)
class FeatureService:
    """A dbt exposure of type ``ml``: a named list of feature references, and features `on_demand` over several of them,
    which are referenced as ``service:feature``."""

    name: str
    features: tuple[str, ...]
    description: str = ""
    owner: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    on_demand: tuple[Feature, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All of its features as they are requested, those on demand last."""
        return (*self.features, *(f"{self.name}:{feature.name}" for feature in self.on_demand))


@dataclass(frozen=True)
class Registry:
    """What exists: views by reference (a bare name is the latest version) and services by name."""

    views: Mapping[str, FeatureView]
    services: Mapping[str, FeatureService]
    # Why a model that someone may ask for by name is not among the views: {"old_view": "is disabled"}.
    absent: Mapping[str, str] = field(default_factory=dict)
    # Services that name what there is not: a sentence for each.
    broken: Mapping[str, str] = field(default_factory=dict)

    def all_views(self) -> list[FeatureView]:
        """Every view once, versions included, by reference."""
        return [view for _, view in sorted({view.reference: view for view in self.views.values()}.items())]

    def view(self, reference: str) -> FeatureView:
        """The view named ``name`` or ``name.v2``.

        Raises:
            NotFoundError: naming those there are.
        """
        if reference in self.views:
            return self.views[reference]
        if reference in self.absent:
            raise NotFoundError(f"Feature view '{reference}' {self.absent[reference]}.")
        raise NotFoundError(f"There is no feature view '{reference}'; there are: {_names(self.views)}.")

    def service(self, name: str) -> FeatureService:
        """The service called `name`.

        Raises:
            NotFoundError: naming those there are.
            DefinitionError: for one that names what is not a view or feature.
        """
        if name in self.services:
            return self.services[name]
        if name in self.broken:
            raise DefinitionError(self.broken[name])
        raise NotFoundError(f"There is no feature service '{name}'; there are: {_names(self.services)}.")

    def references(self, features: Any) -> list[str]:
        """The feature references meant by a list of them, a service, or a service's name."""
        if isinstance(features, FeatureService):
            return list(features.references)
        if isinstance(features, str):
            return [features] if ":" in features else list(self.service(features).references)
        references = list(features) if isinstance(features, Iterable) else []
        if not references or not all(isinstance(reference, str) for reference in references):
            raise InputError("features is a list of 'view:feature' references or the name of a feature service.")
        return references

    def stored(self, references: Iterable[str]) -> list[str]:
        """The stored features that references need: themselves, and what on-demand ones read; each once.

        Raises:
            InputError, NotFoundError: as `pick_features`.
        """
        needed: dict[str, None] = {}
        for reference in references:
            feature = self.on_demand(reference)
            needed |= dict.fromkeys(feature.on_demand.reads.values() if feature else [reference])
        return list(needed)

    def on_demand(self, reference: str) -> Feature | None:
        """The on-demand feature that a reference names; None where it names a stored one, or none."""
        name, feature = split_reference(reference)
        if name not in self.views and name not in self.services:
            return None
        holder = self.views[name] if name in self.views else self.services[name]
        return next((one for one in holder.on_demand if one.name == feature), None)


@dataclass(frozen=True)
class Pick:
    """One feature that was asked for, and the name its column has in the answer. `on_demand` is what it is where it is
    not stored; `view` is None for one of a service."""

    view: FeatureView | None
    feature: str
    output: str
    on_demand: Feature | None = None


def request_fields(picks: Iterable[Pick]) -> dict[str, str]:
    """The request fields that on-demand features need, with their SQL types: each once, as the first declares it."""
    fields: dict[str, str] = {}
    for pick in picks:
        if pick.on_demand is not None and pick.on_demand.on_demand is not None:
            fields = {**pick.on_demand.on_demand.request, **fields}
    return fields


def has_tags(own: Mapping[str, str], wanted: Mapping[str, str] | Sequence[str] | None) -> bool:
    """Whether tags hold all that are wanted: a dict of tags and values, or a list of tags (``team`` whatever its value,
    ``team=growth`` with that one)."""
    if isinstance(wanted, Mapping):
        return all(own.get(tag) == str(value) for tag, value in wanted.items())
    return all(_has_tag(own, tag) for tag in ([wanted] if isinstance(wanted, str) else wanted or ()))


def _has_tag(own: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return wanted in own or bool(equals and name in own and own[name] == value)


def split_reference(reference: str) -> tuple[str, str]:
    """The view and the feature that ``view:feature`` names.

    Raises:
        InputError: where it is not of that form.
    """
    view, colon, feature = reference.partition(":")
    if not (view and colon and feature) or ":" in feature:
        raise InputError(
            f"'{reference}' is not a feature reference: write 'view:feature', for example 'user_features:age'."
        )
    return view, feature


def pick_features(registry: Registry, references: Iterable[str], full_feature_names: bool) -> list[Pick]:
    """Resolve references to views and output names, in the order asked.

    Raises:
        InputError: for a malformed reference, or two that would be called the same.
        NotFoundError: for a view or feature that does not exist.
    """
    picks: list[Pick] = []
    taken: dict[str, str] = {}
    names = cache(lambda name: {feature.name for feature in registry.view(name).features})
    for reference in references:
        view_name, feature_name = split_reference(reference)
        on_demand = registry.on_demand(reference)
        view = None if on_demand and view_name not in registry.views else registry.view(view_name)
        if view is not None and on_demand is None and feature_name not in names(view_name):
            view.feature(feature_name)  # says what there is
        output = f"{view_name.replace('.', '_')}__{feature_name}" if full_feature_names else feature_name
        if output in taken:
            raise _named_alike(taken[output], reference, output)
        taken[output] = reference
        picks.append(Pick(view, feature_name, output, on_demand))
    return picks


def _named_alike(first: str, second: str, output: str) -> InputError:
    return worded(
        InputError,
        lambda say: (
            f"Both '{first}' and '{second}' would be called '{output}': "
            f"ask for each once, and with {say.full_feature_names} where two views share a name."
        ),
    )


def _names(things: Mapping[str, Any]) -> str:
    return ", ".join(sorted(things)) or "none"
