"""What is to be written for each view: its model's name, columns and origin, and what differs from Feast."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from materializer.feast.definitions import Entity, FeastType, Field, Repository, Source, View
from materializer.feast.locations import Location, location_of
from materializer.feast.types import WAREHOUSES, converted, is_plain, quoted, sql_type
from materializer.project.render import package_folder

if TYPE_CHECKING:
    import pyarrow as pa

# The join key of a view that has no entity in Feast: the same for every row.
ALL_ROWS = "all_rows"


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
    created: str | None
    features: tuple[str, ...]
    everything: bool
    # Names that features have in Feast and not here.
    renamed: Mapping[str, str]
    location: Location
    enabled: bool
    warehouse: str
    notes: tuple[str, ...]
    # For a view as a service takes it: the model that it shows under other keys.
    shows: str | None = None


def plan_models(repository: Repository) -> list[Model]:
    """A model for each view, with names that dbt and this store take, each once."""
    names = Names()
    models = []
    for view in repository.views:
        name, note = names.take(view.name)
        models.append(_model(repository, view, name, (note,) if note else ()))
    return models


class Names:
    """Gives things names of letters, digits and underscores, none twice."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        package = (path.stem for path in (package_folder() / "models").rglob("*.sql"))
        self._taken = {name.lower() for name in (*taken, *package)}

    def take(self, name: str) -> tuple[str, str]:
        """The name to use, and a note where it is another one."""
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"_{plain}" if not plain or plain[0].isdigit() else plain
        free, number = plain, 2
        while free.lower() in self._taken:
            free, number = f"{plain}_{number}", number + 1
        self._taken.add(free.lower())
        return free, "" if free == name else f"it is called `{free}` here: '{name}' {_why(name, plain)}"


def _why(name: str, plain: str) -> str:
    return "is taken" if plain == name else "cannot be a dbt model's name"


def _model(repository: Repository, view: View, name: str, notes: tuple[str, ...]) -> Model:
    source, found = view.source, [*notes, *view.notes, *view.source.notes]
    location = location_of(source, repository)
    found += location.notes
    warehouse = "DuckDB" if location.is_file else WAREHOUSES.get(source.kind, "DuckDB")
    schema = {field.name: field for field in view.schema}
    keys = [entity.join_key for entity in view.entities]
    actual = location.columns
    physical_types = {name.lower(): dtype for name, dtype in (actual or {}).items()}
    mapping = {new: old for old, new in source.field_mapping.items()}
    timestamp, created = _timestamps(source, actual, found)
    if not view.entities:
        found.append(
            f"it has no entity: it has the join key `{ALL_ROWS}` here, which is 1 in every row; "
            f"ask for it with entity_rows=[{{'{ALL_ROWS}': 1}}]"
        )
    times = {timestamp.lower(), (created or timestamp).lower()}
    fields, renamed, everything = _fields(view, actual, keys, times, found)
    missing: list[str] = []

    def column(name: str, dtype: FeastType | None, of: str | None = None, **facts: Any) -> Column:
        origin = mapping.get(of or name, of or name)
        physical = None
        if actual is not None:
            physical = physical_types.get(origin.lower())
            if physical is None:
                missing.append(origin)
        expression = converted(quoted(origin, warehouse), dtype, warehouse, physical)
        return Column(name, expression, _data_type(dtype, physical, warehouse), **facts)

    columns = [_key(entity, schema.get(entity.join_key), column) for entity in view.entities]
    if not view.entities:
        columns.append(Column(ALL_ROWS, "1", "integer", "The same in every row: the view has no entity."))
    columns.append(column(timestamp, None, description="When the row became true."))
    if created:
        columns.append(column(created, None, description="When the row became known."))
    columns += [
        column(renamed.get(f.name, f.name), f.dtype, f.name, description=f.description, meta=_meta(tags=f.tags))
        for f in fields
    ]
    time_type = physical_types.get(mapping.get(timestamp, timestamp).lower())
    enabled = _enabled(view, missing, time_type, timestamp, found) and location.whole
    return Model(
        name=name,
        view=view,
        keys=tuple(keys or [ALL_ROWS]),
        columns=tuple(columns),
        timestamp=timestamp,
        created=created,
        features=tuple(renamed.get(f.name, f.name) for f in fields),
        everything=everything,
        renamed=renamed,
        location=location,
        enabled=enabled,
        warehouse=warehouse,
        notes=tuple(found),
    )


def _timestamps(source: Source, actual: dict[str, pa.DataType] | None, notes: list[str]) -> tuple[str, str | None]:
    """The names of the event and created time, after the field mapping."""
    timestamp = source.timestamp
    if not timestamp:
        import pyarrow as pa

        times = [
            name for name, dtype in (actual or {}).items() if pa.types.is_timestamp(dtype) and name != source.created
        ]
        timestamp = times[0] if len(times) == 1 else "event_timestamp"
        if len(times) != 1:
            notes.append("its source names no timestamp field: `event_timestamp` is taken; correct it in the model")
    # Feast takes the name before the mapping or after it.
    timestamp = source.field_mapping.get(timestamp, timestamp)
    created = source.field_mapping.get(source.created, source.created)
    if created == timestamp:
        notes.append("its created timestamp is its event timestamp, so it is left out")
        created = ""
    return timestamp, created or None


def _fields(
    view: View, actual: dict[str, pa.DataType] | None, keys: list[str], times: set[str], notes: list[str]
) -> tuple[list[Field], dict[str, str], bool]:
    """The features, their new names where they cannot keep theirs, and whether only `*` can stand for them."""
    given = [field for field in view.schema if field.name not in keys]
    everything = False
    if not given:
        # Feast takes every column that is no join key or timestamp.
        apart = {*map(str.lower, keys), *times, *(old.lower() for old in view.source.field_mapping)}
        if actual is None:
            everything = True
            notes.append("its schema names no features: all columns of the source are taken, as Feast would infer them")
        else:
            mapped = [new for old, new in view.source.field_mapping.items() if old.lower() in actual]
            names = [name for name in actual if name.lower() not in apart and name != "__index_level_0__"]
            given = [Field(name) for name in [*names, *mapped] if name.lower() not in {*map(str.lower, keys), *times}]
    fields, renamed, seen = [], {}, {*map(str.lower, keys), *times}
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
    return fields, renamed, everything


def _key(entity: Entity, declared: Field | None, column: Any) -> Column:
    dtype = entity.dtype or (declared.dtype if declared else None)
    description = entity.description or (declared.description if declared else "")
    meta = _meta(entity=entity.name if entity.name != entity.join_key else "", owner=entity.owner, tags=entity.tags)
    return column(entity.join_key, dtype, description=description, meta=meta)


def _meta(**facts: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in facts.items() if value}


def _data_type(dtype: FeastType | None, physical: pa.DataType | None, warehouse: str) -> str | None:
    declared = sql_type(dtype, warehouse) if dtype else None
    if physical is None or (dtype and dtype.name != "UnixTimestamp" and declared):
        return declared
    import pyarrow as pa

    if pa.types.is_timestamp(physical):
        return "timestamptz" if physical.tz or dtype else "timestamp"
    simple = {
        "bool": "boolean", "int32": "integer", "int64": "bigint", "float": "real", "double": "double",
        "string": "varchar", "large_string": "varchar", "date32[day]": "date", "binary": "blob",
    }  # fmt: skip
    return simple.get(str(physical), declared)


def _enabled(view: View, missing: list[str], time_type: pa.DataType | None, timestamp: str, notes: list[str]) -> bool:
    """Whether the model can be built as it is written."""
    later = "it is written with `enabled: false`"
    if missing:
        notes.append(f"its file has no column {', '.join(f'`{name}`' for name in missing)}: {later}")
        return False
    if view.transformation and view.kind not in ("StreamFeatureView", "stream_feature_view"):
        notes.append(
            "Feast computes it in Python or by aggregations, which stand as a comment in the model: "
            f"{later} until you wrote them in SQL"
        )
        return False
    if view.transformation:
        notes.append(
            "Feast takes its batch source as holding the computed values already, and so does the model; how they are "
            "computed stands there as a comment"
        )
    if time_type is not None:
        import pyarrow as pa

        if not (pa.types.is_timestamp(time_type) or pa.types.is_date(time_type)):
            notes.append(f"its timestamp `{timestamp}` is {time_type} in the file: {later} until you cast it")
            return False
    return True


def shown_as(model: Model, alias: str, keys: Mapping[str, str], names: Names) -> tuple[Model, str]:
    """The model of a view under another name or other join keys, as a service has it, and a note on its name."""
    renames = {old: new for old, new in keys.items() if old in model.keys and new != old}
    name, note = names.take(alias or f"{model.name}_by_{'_'.join(renames.values())}")
    warehouse = model.warehouse
    columns = tuple(
        replace(column, name=renames.get(column.name, column.name), expression=quoted(column.name, warehouse))
        for column in model.columns
    )
    shown = replace(
        model, name=name, keys=tuple(renames.get(key, key) for key in model.keys), columns=columns, shows=model.name,
        notes=(),
    )  # fmt: skip
    return shown, note


def needs_quotes(column: Column) -> bool:
    """Whether dbt has to quote a column."""
    return not is_plain(column.name)
