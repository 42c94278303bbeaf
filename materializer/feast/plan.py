"""What is to be written for each view: its model's name, columns and origin, and what differs from Feast."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from materializer.feast.definitions import Field, Repository, Source, View
from materializer.feast.sql_types import WAREHOUSES, converted, data_type, quoted
from materializer.project.render import package_folder

# The join key of a view that has no entity in Feast: the same for every row.
ALL_ROWS = "all_rows"
_LATER = "it is written with `enabled: false`"


@dataclass(frozen=True)
class Column:
    """A column of a model: its expression over the source, and what is said of it."""

    name: str
    expression: str
    data_type: str | None = None
    description: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One dbt model to be written. `columns` are join keys, timestamps and features, in this order; where the source's
    columns are not known, only the first two, and `everything` stands for the rest."""

    name: str
    view: View
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    timestamp: str
    created: str
    features: tuple[str, ...]
    everything: bool
    # Names that features have in Feast and not here.
    renamed: Mapping[str, str]
    enabled: bool
    warehouse: str
    notes: tuple[str, ...]
    # For a view as a service takes it: the model that it shows under other keys.
    shows: str = ""


class Names:
    """Gives things names of letters, digits and underscores, none twice."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        package = (path.stem for path in (package_folder() / "models").rglob("*.sql"))
        self._taken = {name.lower() for name in (*taken, *package)}

    def take(self, name: str) -> tuple[str, list[str]]:
        """The name to use, and a note where it is another one."""
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"_{plain}" if not plain or plain[0].isdigit() else plain
        free, number = plain, 2
        while free.lower() in self._taken:
            free, number = f"{plain}_{number}", number + 1
        self._taken.add(free.lower())
        why = "is taken" if plain == name else "cannot be a dbt model's name"
        return free, [] if free == name else [f"it is called `{free}` here: '{name}' {why}"]


def plan_models(repository: Repository) -> list[Model]:
    """A model for each view, with names that dbt and this store take, each once."""
    names = Names()
    return [_model(view, *names.take(view.name)) for view in repository.views]


def _model(view: View, name: str, notes: list[str]) -> Model:
    source = view.source
    notes += [*view.notes, *source.notes]
    warehouse = "DuckDB" if source.file else WAREHOUSES.get(source.kind, "DuckDB")
    keys = [entity.join_key for entity in view.entities]
    # Types are Arrow's in files alone.
    types = {name.lower(): dtype for name, dtype in (source.columns or {}).items()} if source.file else {}
    mapping = {new: old for old, new in source.field_mapping.items()}
    timestamp, created = _timestamps(source, notes)
    if not keys:
        notes.append(
            f"it has no entity: it has the join key `{ALL_ROWS}` here, which is 1 in every row; "
            f"ask for it with entity_rows=[{{'{ALL_ROWS}': 1}}]"
        )
    fields, renamed = _features(view, keys, {timestamp.lower(), (created or timestamp).lower()}, notes)
    everything = not view.features and source.columns is None
    missing: list[str] = []

    def column(name: str, dtype: str, of: str = "", **facts: Any) -> Column:
        origin = mapping.get(of or name, of or name)
        actual = types.get(origin.lower())
        if types and actual is None:
            missing.append(origin)
        expression = converted(quoted(origin, warehouse), dtype, warehouse, actual)
        return Column(name, expression, data_type(dtype, actual, warehouse), **facts)

    columns = [
        column(
            key.join_key, key.dtype, description=key.description,
            meta=_meta(entity=key.name if key.name != key.join_key else "", owner=key.owner, tags=key.tags),
        )
        for key in view.entities
    ] or [Column(ALL_ROWS, "1", "integer", "The same in every row: the view has no entity.")]  # fmt: skip
    columns.append(column(timestamp, "", description="When the row became true."))
    if created:
        columns.append(column(created, "", description="When the row became known."))
    features = [renamed.get(f.name, f.name) for f in fields]
    columns += [
        column(new, f.dtype, f.name, description=f.description, meta=_meta(tags=f.tags))
        for new, f in zip(features, fields, strict=True)
    ]
    time_type = types.get(mapping.get(timestamp, timestamp).lower(), "timestamp")
    return Model(
        name, view, tuple(keys or [ALL_ROWS]), tuple(columns), timestamp, created, tuple(features), everything, renamed,
        _enabled(view, missing, time_type, timestamp, notes) and source.whole, warehouse, tuple(notes),
    )  # fmt: skip


def _timestamps(source: Source, notes: list[str]) -> tuple[str, str]:
    """The names of the event and created time, after the field mapping."""
    timestamp = source.timestamp
    if not timestamp:
        columns = (source.columns or {}).items()
        times = [name for name, of in columns if of.lower().startswith("timestamp") and name != source.created]
        timestamp = times[0] if len(times) == 1 else "event_timestamp"
        if len(times) != 1:
            notes.append("its source names no timestamp field: `event_timestamp` is taken; correct it in the model")
    # Feast takes the name before the mapping or after it.
    timestamp = source.field_mapping.get(timestamp, timestamp)
    created = source.field_mapping.get(source.created, source.created)
    if created == timestamp:
        notes.append("its created timestamp is its event timestamp, so it is left out")
        created = ""
    return timestamp, created


def _features(view: View, keys: list[str], times: set[str], notes: list[str]) -> tuple[list[Field], dict[str, str]]:
    """The features, and their new names where they cannot keep theirs."""
    given, mapping = view.features, view.source.field_mapping
    seen = {*map(str.lower, keys), *times}
    if not given and view.source.columns is None:
        notes.append("its schema names no features: all columns of the source are taken, as Feast would infer them")
    elif not given:
        # Feast takes every column that is no join key or timestamp.
        names = [mapping.get(name, name) for name in view.source.columns or {} if not re.match("^__|__$", name)]
        given = tuple(Field(name=name) for name in names if name.lower() not in seen)
    fields, renamed = [], {}
    for feature in given:
        if feature.name.lower() in times:
            notes.append(
                f"`{feature.name}` is its timestamp and no feature here: select it once more under another name"
            )
            continue
        name = feature.name.replace(":", "_")
        name = f"f{name}" if name.lower().startswith("_fs_") else name
        if name.lower() in seen:
            notes.append(f"`{feature.name}` is left out: another column has this name, whatever its capitals")
            continue
        seen.add(name.lower())
        if name != feature.name:
            renamed[feature.name] = name
            notes.append(f"the feature `{feature.name}` is called `{name}` here: a reference could not spell it")
        fields.append(feature)
    return fields, renamed


def _meta(**facts: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in facts.items() if value}


def _enabled(view: View, missing: list[str], time_type: str, timestamp: str, notes: list[str]) -> bool:
    """Whether the model can be built as it is written."""
    if missing:
        notes.append(f"its file has no column {', '.join(f'`{name}`' for name in missing)}: {_LATER}")
        return False
    if view.transformation and view.kind != "StreamFeatureView":
        notes.append(
            "Feast computes it in Python or by aggregations, which stand as a comment in the model: "
            f"{_LATER} until you wrote them in SQL"
        )
        return False
    if view.transformation:
        notes.append(
            "Feast takes its batch source as holding the computed values already, and so does the model; how they are "
            "computed stands there as a comment"
        )
    if not time_type.startswith(("timestamp", "date")):
        notes.append(f"its timestamp `{timestamp}` is {time_type} in the file: {_LATER} until you cast it")
        return False
    return True


def shown_as(model: Model, alias: str, keys: Mapping[str, str], names: Names) -> tuple[Model, list[str]]:
    """The model of a view under another name or other join keys, as a service has it, and a note on its name."""
    renames = {old: new for old, new in keys.items() if old in model.keys and new != old}
    name, note = names.take(alias or f"{model.name}_by_{'_'.join(renames.values())}")
    columns = tuple(
        replace(column, name=renames.get(column.name, column.name), expression=quoted(column.name, model.warehouse))
        for column in model.columns
    )
    shown = replace(
        model, name=name, keys=tuple(renames.get(key, key) for key in model.keys), columns=columns, shows=model.name,
        notes=(),
    )  # fmt: skip
    return shown, note
