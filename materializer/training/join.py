"""Training sets: the package's ``point_in_time_join`` run over rows that the caller brings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from materializer.errors import InputError, worded
from materializer.project.definitions import (
    FeatureView,
    Pick,
    Registry,
    pick_features,
    request_fields,
    split_reference,
)
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.project.storage import place
from materializer.training.files import put_in_place, whole_or_not_at_all
from materializer.training.record import Options
from materializer.training.text_files import FileRows
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import column_of, table_of_duckdb, to_pandas, to_plain, without_wide
from materializer.warehouse.join_keys import cast_for_all, portable
from materializer.warehouse.on_demand_types import cast_field
from materializer.warehouse.typed import named, typed_service, with_columns

_SPINE = "_fs_entity_df"
# A column of the spine that says which row of the caller's a row is: no engine but DuckDB promises to keep their order.
_PLACE = "place_in_entity_df"


class TrainingSet:
    """The rows of an entity_df with the features they had at their moments, in the same order.

    `sql` is what the warehouse ran, `features` are the names of the columns that it joined. A pandas entity_df comes
    back as it was, index included, with the features behind its own columns.
    """

    def __init__(
        self, table: pa.Table, features: list[str], sql: str, frame: Any = None, not_arrow: str | None = None
    ) -> None:
        self.features, self.sql = features, sql
        self._table, self._frame, self._not_arrow = table, frame, not_arrow
        self._connection: Mapping[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies, also in another process: all but what may be secret."""
        return {**self.__dict__, "_connection": {}}

    def written_with(self, connection: Mapping[str, Any]) -> TrainingSet:
        """The same; `to_parquet` takes the credentials for object storage from this target of a profile."""
        self._connection = connection
        return self

    def to_arrow(self) -> pa.Table:
        """The entity_df's columns and then the features, as Arrow.

        Raises:
            InputError: for a pandas entity_df with a column of objects that Arrow has no type for.
        """
        if self._not_arrow:
            raise InputError(self._not_arrow)
        return self._table

    def to_df(self) -> Any:
        """As pandas (extra ``pandas``), features in nullable types: a bigint beside a NULL stays exact."""
        if self._frame is None:
            return to_pandas(self._table)
        import pandas as pd

        # At once: pandas pays for each column that is added to a frame, by the number of those it has.
        features = to_pandas(self._table.select(self.features)).set_axis(self._frame.index)
        result = pd.concat([self._frame.loc[:, ~self._frame.columns.isin(self.features)], features], axis=1)
        result.attrs, result.columns.names = dict(self._frame.attrs), self._frame.columns.names
        return result

    def to_polars(self) -> Any:
        """As polars (extra ``polars``)."""
        try:
            import polars
        except ImportError:
            raise InputError("polars is not installed: pip install 'dbt-feature-store[polars]'.") from None
        table = self.to_arrow()
        # It has no integers of more than 128 bits: those of a UHUGEINT come as text.
        fields = [field.with_type(without_wide(field.type)) for field in table.schema]
        return polars.from_arrow(table.cast(pa.schema(fields)))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Written to one Parquet file, whole or not at all; `path` may be a URL, as ``s3://bucket/set.parquet``."""
        table = self.to_arrow()
        target = place(path, self._connection)
        try:
            with whole_or_not_at_all(target) as partial:
                pq.write_table(table, partial)
                put_in_place(partial, target)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror or error}.") from None


def labels_of(result: TrainingSet) -> pa.Table:
    """The entity_df's columns alone."""
    table = result.to_arrow()
    return table.select([name for name in table.column_names if name not in result.features])


def get_historical_features(
    warehouse: Warehouse, manifest: Mapping[str, Any], registry: Registry, entity_df: Any, features: Any,
    options: Options | None = None,
) -> TrainingSet:  # fmt: skip
    """See `materializer.FeatureStore.get_historical_features`."""
    options = options or Options()
    timestamp = options.timestamp
    references = registry.references(features)
    needed = dict.fromkeys(split_reference(reference)[0] for reference in registry.stored(references))
    asked = {split_reference(reference)[0] for reference in references} & set(registry.views)
    views = {name: with_columns(registry.view(name), warehouse) for name in dict.fromkeys((*needed, *sorted(asked)))}
    known = replace(registry, views=named(registry, views.values()))
    picks = pick_features(known, references, options.full_feature_names)
    _check_services(known, references)
    keys = key_types([views[name] for name in needed])
    brought = request_fields(picks)
    frame = entity_df if type(entity_df).__module__.partition(".")[0] == "pandas" else None

    not_arrow = None
    if isinstance(entity_df, FileRows):
        entity_df = entity_df.table(keys, timestamp, brought)
    if isinstance(entity_df, str):
        spine = Relation(f"({entity_df.strip().rstrip(';')}\n) as _fs_labels")  # the text may end in a comment
        schema = warehouse.schema(spine)
        table = None
    else:
        table, not_arrow = _readable_columns(frame) if frame is not None else (to_table(entity_df), None)
        schema = _without_values_as_timestamps(table, timestamp)
        if not_arrow and {timestamp, *keys, *brought} & set(frame.columns) - set(schema.names):
            raise InputError(not_arrow)
    moment = spine_timestamp(schema, timestamp)
    _check_spine(schema, picks, [views[name] for name in needed])
    placed = table is not None and warehouse.dialect != "duckdb"
    if table is not None:
        rows = _narrow(table, keys, moment, brought)
        if placed:
            rows = rows.append_column(_PLACE, pa.array(range(rows.num_rows), pa.int64()))
        spine = warehouse.spine(_SPINE, rows)

    sql = MacroRenderer(manifest, warehouse.columns).render(
        "point_in_time_join", spine, references, **asdict(replace(options, timestamp=moment))
    )
    answer = warehouse.query(sql)
    names = [pick.output for pick in picks]
    result = answer if table is None else table
    if result.num_rows != answer.num_rows:
        raise AssertionError("the point-in-time join changed the number of rows")
    if placed:
        answer = answer.sort_by(_PLACE)
        if not answer[_PLACE].cast(pa.int64()).equals(pa.chunked_array([range(answer.num_rows)], pa.int64())):
            raise AssertionError("the point-in-time join gave other rows than it was asked for")
    if table is None:
        # In SQL what does not fit matches nothing; a caller from here gets an error. Of the largest type the upper half
        # does not arrive as it is.
        unclear = {column.name for column in warehouse.columns(spine) if column.dtype == "UHUGEINT"}
        for key, dtypes in keys.items():
            if key not in unclear:
                cast_for_all(answer.column(key), dtypes, key)
    columns = dict(zip(answer.column_names, answer.columns, strict=True))
    joined = {pick.output: _typed(to_plain(columns[pick.output]), pick) for pick in picks}
    own = [pair for pair in zip(result.column_names, result.columns, strict=True) if pair[0] not in joined]
    result = pa.table([*(column for _, column in own), *joined.values()], names=[*(name for name, _ in own), *joined])
    return TrainingSet(result, names, sql, frame, not_arrow)


def _typed(column: pa.ChunkedArray, pick: Pick) -> pa.ChunkedArray:
    """A feature's column in the type that its view says; where a driver gives Python's objects, that is another one."""
    dtype = pick.on_demand.dtype if pick.on_demand else pick.view and pick.view.feature(pick.feature).dtype
    return column if dtype is None or column.type.equals(dtype) else column.cast(dtype)


def to_table(entity_df: Any) -> pa.Table:
    """Anything Arrow can read as a table: pandas, polars, pyarrow, a DuckDB relation, a dict of lists, dicts."""
    library = type(entity_df).__module__.partition(".")[0]
    try:
        if isinstance(entity_df, pa.Table):
            return entity_df
        if isinstance(entity_df, list):
            names = dict.fromkeys(name for row in entity_df for name in row)
            entity_df = {name: [row.get(name) for row in entity_df] for name in names}
        if library == "polars":
            return _table_of_polars(entity_df)
        if hasattr(entity_df, "to_arrow_table"):
            return table_of_duckdb(entity_df)
        try:
            return pa.Table.from_pandas(entity_df, preserve_index=False) if library == "pandas" else pa.table(entity_df)
        except OverflowError:  # an integer beyond 64 bits
            names, columns = zip(*entity_df.items(), strict=True)
            return pa.table(list(map(column_of, columns)), names=list(map(str, names)))
    except (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise worded(InputError, lambda say: f"{say.the_spine} cannot be read as a table: {why}") from None


def _table_of_polars(frame: Any) -> pa.Table:
    """What Arrow has no type for, 128-bit integers and Python objects, value by value."""
    odd = {
        name for name, dtype in frame.schema.items() if str(dtype).partition("(")[0] in ("Int128", "UInt128", "Object")
    }
    if not odd:
        return pa.table(frame)
    return pa.table({name: column_of(frame[name].to_list()) if name in odd else frame[name].to_arrow()
                     for name in frame.columns})  # fmt: skip


def _readable_columns(frame: Any) -> tuple[pa.Table, str | None]:
    """A pandas frame as a table, without the columns that Arrow has no type for; and what it says of those.

    They are no features' business: a frame comes back as it was.
    """
    try:
        return to_table(frame), None
    except InputError as error:
        if not frame.columns.is_unique:
            raise
        columns = {}
        for name in frame.columns:
            try:
                columns[str(name)] = column_of(frame[name])
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                continue
        return pa.table(columns), str(error)


def _without_values_as_timestamps(table: pa.Table, named: str) -> pa.Schema:
    """The schema, where a time column without a single value (no rows, say) is a timestamp whatever pandas made it."""
    place = table.schema.get_field_index(named)
    if place < 0 or table.column(place).null_count < table.num_rows:
        return table.schema
    return table.schema.set(place, pa.field(named, pa.timestamp("us")))


def spine_timestamp(schema: pa.Schema, named: str) -> str:
    """The column that holds a spine's moments: the one named, or the only timestamp column there is. Raises InputError
    where there is none, several, or the named one is no timestamp."""
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if named in schema.names:
        kind = schema.field(named).type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind):
            return named
        raise worded(
            InputError, lambda say: f"Column '{named}' of {say.spine} is {kind}, not a timestamp: convert it first."
        )
    if len(times) == 1 and named == "event_timestamp":
        return times[0]
    raise worded(
        InputError,
        lambda say: (
            f"{say.the_spine} has no column '{named}' to join on: name its moments with {say.timestamp} "
            f"(its timestamp columns: {', '.join(times) or 'none'}; all columns: {', '.join(schema.names)})."
        ),
    )


def _check_spine(schema: pa.Schema, picks: list[Pick], views: Sequence[FeatureView]) -> None:
    """`views` are those that are read."""

    def check(column: str, why: str) -> None:
        if column not in schema.names:
            there = ", ".join(schema.names)
            raise worded(InputError, lambda say: f"{say.the_spine} has no column '{column}', {why}; it has: {there}.")

    for view in views:
        for key in view.join_keys:
            check(key, f"a join key of feature view '{view.reference}'")
    for pick in picks:
        for field, declared in pick.on_demand.on_demand.request.items() if pick.on_demand else ():
            check(field, f"a request field of feature '{pick.feature}' ({declared.lower()})")
        if pick.output in schema.names:
            feature = f"'{pick.view.reference}:{pick.feature}'" if pick.view else f"'{pick.feature}'"
            raise worded(
                InputError,
                lambda say, pick=pick, feature=feature: (
                    f"{say.the_spine} already has a column '{pick.output}', the name of feature {feature}: rename it "
                    f"there or pass {say.full_feature_names}."
                ),
            )


def _check_services(known: Registry, references: Sequence[str]) -> None:
    """Stop where an on-demand feature of a service computes what is not alike everywhere; DefinitionError says what."""
    for name in dict.fromkeys(split_reference(reference)[0] for reference in references):
        if name not in known.views:
            typed_service(known.service(name), known.views)


def key_types(views: Sequence[FeatureView]) -> dict[str, list[pa.DataType]]:
    """The types that the views have for each join key: more than one where they differ."""
    types: dict[str, dict[pa.DataType, None]] = {}
    for entity in (entity for view in views for entity in view.entities):
        types.setdefault(entity.name, {})[entity.dtype] = None
    return {name: list(dtypes) for name, dtypes in types.items()}


def _narrow(
    table: pa.Table, keys: Mapping[str, Sequence[pa.DataType]], moment: str, brought: Mapping[str, str]
) -> pa.Table:
    """Only what the join needs: join keys as the views have them, moments in whole microseconds, and the fields that
    on-demand features are `brought`, in their types.

    Where views differ in a key's type it stays as it was given, and the macro casts it for each of them. The other
    columns never travel: they are put back beside the answer, which has the same rows in the same order.
    """
    columns: dict[str, Any] = {}
    for name, dtypes in keys.items():
        cast = cast_for_all(table.column(name), dtypes, name)
        columns[name] = cast[0] if len(dtypes) == 1 else portable(table.column(name))
    moments = table.column(moment)
    empty = moments.null_count == len(moments)
    columns[moment] = pa.nulls(len(moments), pa.timestamp("us")) if empty else to_plain(moments)
    for name, declared in brought.items():
        if name not in columns:
            columns[name] = cast_field(table.column(name), declared, name)
    return pa.table(columns)
