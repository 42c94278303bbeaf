"""The declared views joined with what the warehouse really has: columns and types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa

from materializer.errors import DefinitionError, FeatureStoreError, NotFoundError, WarehouseError
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView, Registry, split_reference
from materializer.project.on_demand import check_names
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.warehouse import SQL_TYPE, Warehouse, open_warehouse
from materializer.warehouse.arrow import plain_type
from materializer.warehouse.join_keys import HUGEINT, UHUGEINT, UUID

RESERVED_PREFIX = "_fs_"
# Types of the warehouse that arrive as other types of Arrow; as keys they stay apart.
_KEY_TYPES = {"UUID": UUID, "HUGEINT": HUGEINT, "UHUGEINT": UHUGEINT}


def with_columns(view: FeatureView, warehouse: Warehouse, schema: pa.Schema | None = None) -> FeatureView:
    """The view with the columns and types that its relation has in the warehouse, whatever was declared of them.

    Args:
        schema: of the relation, where it is known already (`Warehouse.schemas`).

    Raises:
        NotFoundError: where the relation is not built.
        DefinitionError: where it lacks a join key or timestamp, or a feature has a reserved name.
    """
    relation = Relation(view.relation)
    if schema is not None:
        named = {field.name: (field.metadata or {}).get(SQL_TYPE, b"").decode() for field in schema}
    elif named := {column.name: column.dtype for column in warehouse.columns(relation)}:
        schema = warehouse.schema(relation)
    else:
        raise NotFoundError(f"Feature view '{view.reference}' is not in the warehouse as {relation}: run `dbt build`.")
    fields = {field.name.lower(): field for field in schema}

    def column(name: str, role: str) -> pa.Field:
        if name.lower() not in fields:
            raise DefinitionError(
                f"Feature view '{view.reference}' has no column '{name}', its {role}; "
                f"{relation} has: {', '.join(schema.names)}."
            )
        return fields[name.lower()]

    def key_type(field: pa.Field) -> pa.DataType:
        return _KEY_TYPES.get(named.get(field.name, "").upper(), plain_type(field.type))

    entities = [replace(entity, dtype=key_type(column(entity.name, "join key"))) for entity in view.entities]
    timestamp = column(view.timestamp, "event timestamp")
    created = column(view.created_timestamp, "created timestamp") if view.created_timestamp else None
    times = [timestamp, *([created] if created else [])]
    for field in times:
        if not (pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)):
            raise DefinitionError(
                f"Column '{field.name}' of feature view '{view.reference}' is {field.type}, not a timestamp."
            )
    apart = {part.name.lower() for part in (*entities, *times)}
    described = {feature.name.lower(): feature.description for feature in view.features}
    features = tuple(
        Feature(field.name, described.get(name, ""), plain_type(field.type))
        for name, field in fields.items()
        if name not in apart
    )
    for feature in features:
        if feature.name.lower().startswith(RESERVED_PREFIX):
            raise DefinitionError(
                f"Feature '{feature.name}' of view '{view.reference}' begins with {RESERVED_PREFIX}, "
                "which is kept for the store's own fields: rename the column."
            )
    typed = replace(
        view,
        entities=tuple(Entity(fields[e.name.lower()].name, e.description, e.dtype) for e in entities),
        features=features,
        timestamp=timestamp.name,
        created_timestamp=created and created.name,
    )
    check_names(typed)
    where = f"Feature view '{view.reference}': on-demand feature"
    return replace(typed, on_demand=_typed_on_demand(typed.on_demand, {view.reference: typed}, where))


def check_types(schema: pa.Schema, view: FeatureView) -> None:
    """Stop with a WarehouseError where rows are not of the types that the view had when it was looked at."""
    for part in view.schema:
        found = plain_type(schema.field(part.name).type)
        # A UUID is one as a join key, and arrives as its text.
        expected = pa.string() if part.dtype == UUID else part.dtype
        if not found.equals(expected):
            raise WarehouseError(
                f"Column '{part.name}' of feature view '{view.reference}' was {part.dtype} and became {found} while it "
                "was read: run it again when what builds it is done."
            )


def typed_service(service: FeatureService, views: Mapping[str, FeatureView]) -> FeatureService:
    """The service with the types of its on-demand features.

    Args:
        views: by the names that its references use, `with_columns`.

    Raises:
        DefinitionError: where one reads what is not there, or computes with it what is not alike on all engines.
    """
    where = f"Exposure '{service.name}': on-demand feature"
    return replace(service, on_demand=_typed_on_demand(service.on_demand, views, where))


def _typed_on_demand(
    features: tuple[Feature, ...], views: Mapping[str, FeatureView], where: str
) -> tuple[Feature, ...]:  # fmt: skip
    if not features:
        return ()
    try:
        from materializer.warehouse.on_demand import typed
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise DefinitionError(
            f"{where}s are computed by an embedded DuckDB, and duckdb is not installed: pip install "
            "'dbt-feature-store[duckdb]'."
        ) from None
    return tuple(typed(feature, views, f"{where} '{feature.name}'") for feature in features)


def typed_views(views: Sequence[FeatureView], warehouse: Warehouse, unbuilt: bool = False) -> list[FeatureView]:
    """Views `with_columns`, the warehouse asked once for all; with `unbuilt`, one that is not there stays as it is.
    Raises NotFoundError, DefinitionError as `with_columns`."""
    schemas = warehouse.schemas([Relation(view.relation) for view in views])
    typed = []
    for view in views:
        try:
            typed.append(with_columns(view, warehouse, schemas.get(Relation(view.relation))))
        except NotFoundError:
            if not unbuilt:
                raise
            typed.append(view)
    return typed


def built_views(project: Project, registry: Registry) -> list[FeatureView]:
    """The views that the warehouse has as they should be, `with_columns`; none where it cannot be asked."""
    try:
        with open_warehouse(project) as warehouse:
            return built(warehouse, registry.all_views())
    except FeatureStoreError:
        return []


def built(warehouse: Warehouse, views: Iterable[FeatureView]) -> list[FeatureView]:
    """Those of the views that the warehouse has as they should be, `with_columns`."""
    found = []
    for view in views:
        with suppress(FeatureStoreError):
            found.append(with_columns(view, warehouse))
    return found


def broken_services(registry: Registry, typed: Iterable[FeatureView]) -> dict[str, str]:
    """The services that name what is not a view, or a feature that its view has not: a sentence for each.

    Args:
        typed: views with the warehouse's columns; features of others are not looked up.
    """
    typed = {view.reference: view for view in typed}
    features = {reference: [feature.name for feature in view.all_features] for reference, view in typed.items()}
    found = dict(registry.broken)
    for service in registry.services.values():
        wrong = []
        for reference in service.features:
            name, feature = split_reference(reference)
            view = registry.view(name).reference
            if feature not in features.get(view, [feature]):
                known = ", ".join(features[view]) or "none"
                wrong.append(f"'{reference}', but feature view '{view}' has no feature '{feature}' (it has: {known})")
        if wrong:
            found[service.name] = f"Exposure '{service.name}' names {'; '.join(wrong)}."
        elif service.on_demand:
            try:
                typed_service(service, named(registry, typed.values()))
            except DefinitionError as error:
                found[service.name] = str(error)
    return dict(sorted(found.items()))


def named(registry: Registry, typed: Iterable[FeatureView]) -> dict[str, FeatureView]:
    """The registry's views by the names that references use, with types where they are among `typed`."""
    known = {view.reference: view for view in typed}
    return {name: known.get(view.reference, view) for name, view in registry.views.items()}
