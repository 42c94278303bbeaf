"""A Feast repository as immutable values: what it defines, and what of it has no equal here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True)
class FeastType:
    """A type of Feast's: ``INT64``, an ``ARRAY`` or ``SET`` of `inner`, a ``STRUCT`` of `fields`."""

    name: str
    inner: FeastType | None = None
    fields: tuple[tuple[str, FeastType], ...] = ()


@dataclass(frozen=True)
class Field:
    """A feature or join key in a view's schema. `dtype` is None where only the source says it."""

    name: str
    dtype: FeastType | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entity:
    """An entity: a join key with a name of its own."""

    name: str
    join_key: str
    dtype: FeastType | None = None
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a view's rows are: a file, a table or a query. `timestamp` and `created` are the names after
    `field_mapping`, which goes from the source's column names to Feast's. `columns` are those that Feast found there,
    with Arrow's names of their types in files; None where it did not look, or could not."""

    name: str
    kind: str
    path: str = ""
    file_format: str = "parquet"
    table: str = ""
    schema: str = ""
    database: str = ""
    query: str = ""
    timestamp: str = ""
    created: str = ""
    field_mapping: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None
    columns_error: str = ""
    is_folder: bool = False
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """A feature view of any kind. `features` may be empty: Feast then takes the source's columns."""

    name: str
    kind: str
    where: str
    entities: tuple[Entity, ...]
    features: tuple[Field, ...]
    source: Source
    ttl: timedelta | None = None
    online: bool = True
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    # What makes the source's rows into features in Feast: the text of a Python function, or of its aggregations.
    transformation: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Projected:
    """A view in a service: its name, the features that are taken (None: all), and how it is called and joined there."""

    view: str
    features: tuple[str, ...] | None = None
    alias: str = ""
    join_key_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """A feature service."""

    name: str
    where: str
    features: tuple[Projected, ...]
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Absent:
    """An object that has no equal here: why, and what to do."""

    kind: str
    name: str
    where: str
    why: str


@dataclass(frozen=True)
class Repository:
    """What a Feast repository defines, in the order of its files."""

    folder: Path
    feast: str
    project: str
    online_store: str
    # The schema that the offline store's tables are in, where feature_store.yaml says so.
    schema: str
    database: str
    files: int
    entities: tuple[Entity, ...]
    views: tuple[View, ...]
    services: tuple[Service, ...]
    absent: tuple[Absent, ...]
