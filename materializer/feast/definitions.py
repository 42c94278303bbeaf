"""A Feast repository as immutable values: what it defines, and what of it has no equal here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Described:
    """What Feast says of everything that has a name; `where` is the line that makes it, `notes` are for the report."""

    name: str
    where: str = ""
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Field(Described):
    """A feature. `dtype` is its type in Feast (``INT64``, ``FLOAT_LIST``); empty where only the source has it."""

    dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class Entity(Field):
    """An entity: a join key with a name of its own."""

    join_key: str


@dataclass(frozen=True, kw_only=True)
class Source(Described):
    """Where a view's rows are: exactly one of `file`, `table` and `query` is given. `timestamp` and `created` are the
    names after `field_mapping`, which goes from the source's column names to Feast's. `columns` are those that Feast
    found there, with Arrow's names of their types in files; None where it did not look, or could not."""

    kind: str
    # As DuckDB reads it, and whether it begins with the variable of the repository's folder.
    file: str = ""
    inside: bool = False
    table: str = ""
    schema: str = ""
    database: str = ""
    # And whether it is one query, which the parentheses around it in a model hold.
    query: str = ""
    whole: bool = True
    timestamp: str = ""
    created: str = ""
    field_mapping: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A feature of an on-demand view of Feast's that is plain arithmetic: `expression` in SQL, its columns in quotes;
    the fields of the request with their SQL types, and the stored features that it `reads`."""

    name: str
    description: str
    expression: str
    request: Mapping[str, str]
    reads: tuple[str, ...]
    divides: bool


@dataclass(frozen=True, kw_only=True)
class View(Described):
    """A feature view of any kind. `features` may be empty: Feast then takes the source's columns."""

    kind: str
    entities: tuple[Entity, ...]
    features: tuple[Field, ...]
    source: Source
    ttl: timedelta | None = None
    online: bool = True
    # What makes the source's rows into features in Feast: the text of a Python function, or of its aggregations.
    transformation: str = ""
    # What on-demand views compute from it.
    computed: tuple[Computed, ...] = ()


@dataclass(frozen=True)
class Projected:
    """A view in a service: its name, the features that are taken (None: all), and how it is called and joined there."""

    view: str
    features: tuple[str, ...] | None
    alias: str
    join_key_map: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Service(Described):
    """A feature service."""

    features: tuple[Projected, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one object of the repository. `became` is empty where it has no equal; `notes` then say why, and
    what to do."""

    kind: str
    name: str
    where: str
    became: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repository:
    """What a Feast repository defines, in the order of its files."""

    folder: Path
    feast: str
    project: str
    online_store: str
    files: int
    entities: tuple[Entity, ...]
    views: tuple[View, ...]
    services: tuple[Service, ...]
    absent: tuple[Outcome, ...]
    # The on-demand views that became expressions: name, place in the code, the view that has them now, and a note.
    on_demand: tuple[tuple[str, str, str, str], ...] = ()
