"""Any warehouse that dbt has an adapter for, through the adapter's own connection, in this process.

Rows come by the adapter's cursor, as Python objects: it works wherever dbt does, and costs time and memory. DuckDB,
PostgreSQL and Spark have ways of their own, which read Arrow.
"""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
from sqlglot import Dialect, ParseError, exp

from materializer.errors import InputError, WarehouseError
from materializer.project.relation import Column, Relation, is_relation_name
from materializer.project.settings import Project
from materializer.warehouse.arrow import signed, to_plain

# Rows of the caller's travel as the text of a query.
MOST_ROWS = 10_000
_KINDS = {
    "BOOLEAN": pa.bool_(), "TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INT": pa.int32(), "BIGINT": pa.int64(),
    "FLOAT": pa.float32(), "DOUBLE": pa.float64(), "DATE": pa.date32(), "DATETIME": pa.timestamp("us"),
    "TIME": pa.time64("us"), "TIMESTAMP": pa.timestamp("us"), "TIMESTAMPNTZ": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"), "TIMESTAMPLTZ": pa.timestamp("us", "UTC"), "CHAR": pa.string(),
    "VARCHAR": pa.string(), "TEXT": pa.string(), "NCHAR": pa.string(), "NVARCHAR": pa.string(), "UUID": pa.string(),
    "BINARY": pa.binary(), "VARBINARY": pa.binary(),
}  # fmt: skip
_SQL = {
    "bool": "BOOLEAN", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE",
    "string": "TEXT", "date32[day]": "DATE", "timestamp[us]": "TIMESTAMP", "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}  # fmt: skip
# dbt keeps what it reads in its own globals: one reads at a time, and each target is read once a process. Its adapters
# give every thread a connection of its own.
_one_at_a_time = threading.Lock()
_known: dict[str, Any] = {}


class AdapterWarehouse:
    """See `materializer.warehouse.Warehouse`."""

    def __init__(self, adapter: Any, project: Project) -> None:
        self.dialect = str(adapter.type())
        self.place = f"target '{project.target}' of profile '{project.profile}'"
        self._adapter = adapter
        self._spines: dict[str, list[Column]] = {}
        try:
            self.version = f"by dbt-{self.dialect} {version(f'dbt-{self.dialect}')}"
        except PackageNotFoundError:
            self.version = "of an unknown version"

    def columns(self, relation: Relation) -> list[Column]:
        if relation.sql in self._spines:
            return self._spines[relation.sql]
        with self._refusals():
            if is_relation_name(relation.sql):
                parts = {"database": relation.database, "schema": relation.schema, "identifier": relation.identifier}
                found = self._adapter.get_columns_in_relation(self._adapter.Relation.create(**parts))
            else:
                found = self._adapter.get_column_schema_from_query(f"select * from {relation}")
            return [Column(column.name, column.data_type) for column in found]

    def schema(self, relation: Relation) -> pa.Schema:
        return self._schema(f"select * from {relation}", self.columns(relation))

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        return {}

    def query(self, sql: str) -> pa.Table:
        cursor = self._cursor(sql)
        with self._refusals():
            return _table(cursor.description, cursor.fetchall())

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Each batch in the types that Python makes of its values, integers and floats in their widest: the driver of
        one adapter names types as SQL does, that of another does not. Whoever asks knows which type is meant."""
        cursor = self._cursor(sql)
        with self._refusals():
            if not hasattr(cursor, "fetchmany"):
                yield from _table(cursor.description, cursor.fetchall()).to_batches(batch_rows)
                return
            while rows := cursor.fetchmany(batch_rows):
                yield from _table(cursor.description, rows).to_batches()

    def spine(self, name: str, table: pa.Table) -> Relation:
        if table.num_rows > MOST_ROWS:
            raise InputError(
                f"{table.num_rows:,} rows of yours are too many for {self.dialect}, where they are written into the "
                f"query and at most {MOST_ROWS:,} may be: load them as a table, and give a SELECT over it."
            )
        table = pa.table({column: to_plain(table.column(column)) for column in table.column_names})
        table = table.cast(pa.schema([field.with_type(signed(field.type)) for field in table.schema]))
        types = [_sql_type(field) for field in table.schema]
        names = [exp.to_identifier(field.name, quoted=True) for field in table.schema]
        # One row more, all NULL and left out again: it says the types, also where there is no other.
        rows = [[None] * len(types), *map(list, zip(*(column.to_pylist() for column in table.columns), strict=True))]
        selects = [
            exp.select(*(
                exp.alias_(exp.cast(_literal(value), kind), named)
                for value, kind, named in zip(row, types, names, strict=True)
            ), exp.alias_(exp.Boolean(this=place > 0), "_fs_given"))
            for place, row in enumerate(rows)
        ]  # fmt: skip
        text = "\nunion all\n".join(select.sql(self._sqlglot) for select in selects)
        listed = ", ".join(one.sql(self._sqlglot) for one in names)
        relation = Relation(f"(select {listed} from (\n{text}\n) as {name}_given where _fs_given) as {name}")
        self._spines[relation.sql] = [
            Column(field.name, kind.sql(self._sqlglot)) for field, kind in zip(table.schema, types, strict=True)
        ]
        return relation

    @property
    def _sqlglot(self) -> str:
        return self.dialect if self.dialect in Dialect.classes else ""

    def _schema(self, sql: str, columns: Sequence[Column]) -> pa.Schema:
        """The Arrow types of columns; of decimals whose digits are not in their types' names the cursor tells them."""
        described: dict[str, tuple[Any, ...]] = {}
        fields = []
        for column in columns:
            dtype = self._arrow(column.dtype)
            if dtype is None and not described:
                described = {one[0]: one for one in self._cursor(f"{_limited(sql)}").description}
            if dtype is None:
                precision, scale = described[column.name][4:6]
                if not precision or scale is None:
                    raise _unreadable(column, "a number without digits", "to decimal(38, 9) or double say")
                dtype = pa.decimal128(precision, scale)
            fields.append(pa.field(column.name, dtype))
        return pa.schema(fields)

    def _arrow(self, name: str) -> pa.DataType | None:
        """The Arrow type of a type's name; None for a decimal without digits."""
        try:
            kind = exp.DataType.build(name, dialect=self._sqlglot)
        except (ParseError, ValueError):
            kind = exp.DataType.build("unknown")
        word = str(kind.this.value if isinstance(kind.this, exp.DataType.Type) else kind.this).upper()
        if word == "DECIMAL":
            digits = [int(one.name) for one in kind.expressions]
            return pa.decimal128(digits[0], digits[1] if len(digits) > 1 else 0) if digits else None
        if word in ("ARRAY", "LIST") and kind.expressions:
            inner = self._arrow(kind.expressions[0].sql(self._sqlglot))
            if inner is not None:
                return pa.list_(inner)
        if word not in _KINDS:
            raise WarehouseError(
                f"Values of {self.dialect}'s type {name} cannot be read: cast the column in the model, to text say."
            )
        return _KINDS[word]

    def _cursor(self, sql: str) -> Any:
        with self._refusals():
            return self._adapter.connections.add_query(sql, auto_begin=False)[1]

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from dbt_common.exceptions import DbtBaseException

        try:
            yield
        except (DbtBaseException, pa.ArrowException, NotImplementedError) as error:
            self._adapter.connections.release()  # with a transaction that may be broken
            self._adapter.acquire_connection("feature_store")
            said = " ".join(str(error).split()).rstrip(".")
            raise WarehouseError(f"{self.dialect} refused a query: {said}.") from None


@contextmanager
def open_adapter(project: Project) -> Iterator[AdapterWarehouse]:
    """Connect by the project's dbt adapter, as dbt does. Raises WarehouseError where dbt or the adapter is not
    installed, or the warehouse does not answer."""
    with _one_at_a_time:
        adapter = _known.get(_key(project)) or _known.setdefault(_key(project), _adapter(project))
    with adapter.connection_named("feature_store"):
        yield AdapterWarehouse(adapter, project)


def _adapter(project: Project) -> Any:
    """dbt's adapter for a project's target, made as dbt makes it: by reading the project."""
    kind = str(project.connection.get("type"))
    try:
        from dbt.adapters.factory import FACTORY
        from dbt.cli.main import dbtRunner
        from dbt.context.providers import generate_runtime_macro_context
    except ModuleNotFoundError:
        raise WarehouseError(
            f"Target '{project.target}' is a {kind} warehouse, and dbt is not installed beside this package: "
            f"pip install dbt-core dbt-{kind}."
        ) from None
    with tempfile.TemporaryDirectory(prefix="feature-store-dbt-") as room:
        parsed = dbtRunner().invoke([
            "parse", "--project-dir", str(project.folder), "--profiles-dir", str(project.profiles_path.parent),
            "--target", project.target, "--no-write-json", "--log-level", "none", "--log-path", room,
        ])  # fmt: skip
    if not parsed.success:
        said = " ".join(str(parsed.exception).replace("Runtime Error", "").split()).rstrip(".!")
        raise WarehouseError(f"dbt cannot read the project for target '{project.target}': {said}.")
    adapter = FACTORY.adapters[kind]
    adapter.set_macro_resolver(parsed.result)
    adapter.set_macro_context_generator(generate_runtime_macro_context)
    warnings.warn(
        f"No release was tried on {kind}: rows are read by dbt's own adapter. Compare a training set with one that you "
        "trust.",
        stacklevel=1,
    )
    return adapter


def _key(project: Project) -> str:
    return repr((str(project.folder), project.target, sorted(project.connection.items(), key=str)))


def _limited(sql: str) -> str:
    return f"select * from (\n{sql}\n) as _fs_query where 1 = 0"


def _sql_type(field: pa.Field) -> exp.DataType:
    if pa.types.is_decimal(field.type):
        return exp.DataType.build(f"DECIMAL({field.type.precision}, {field.type.scale})")
    if str(field.type) not in _SQL:
        raise InputError(f"Column '{field.name}' is {field.type}, which cannot be written into a query: convert it.")
    return exp.DataType.build(_SQL[str(field.type)])


def _literal(value: Any) -> exp.Expression:
    if value is None:
        return exp.null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    return exp.Literal.string(str(value))


def _table(description: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(description)
    return pa.table([_array(values) for values in columns], names=[one[0] for one in description])


def _array(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a UUID, JSON
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _unreadable(column: Column, what: str, remedy: str) -> WarehouseError:
    return WarehouseError(f"Column '{column.name}' is {what}, which cannot be read: cast it in the model, {remedy}.")
