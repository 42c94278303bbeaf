"""PostgreSQL by ADBC: what a call reads comes from one `repeatable read` transaction, server-side, as Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import adbc_driver_manager
import pyarrow as pa
import sqlglot
from adbc_driver_postgresql import dbapi
from sqlglot import exp

from materializer.errors import WarehouseError
from materializer.project.relation import Column, Relation, is_relation_name
from materializer.project.settings import Project
from materializer.warehouse import quoted
from materializer.warehouse.arrow import signed, to_plain
from materializer.warehouse.moments import all_stated
from materializer.warehouse.postgres_types import Answer, declared, sql_type

# What libpq calls a profile's keys.
_LIBPQ = {
    "host": "host", "port": "port", "user": "user", "password": "password", "pass": "password", "dbname": "dbname",
    "database": "dbname", "connect_timeout": "connect_timeout", "keepalives_idle": "keepalives_idle",
    "sslmode": "sslmode", "sslcert": "sslcert", "sslkey": "sslkey", "sslrootcert": "sslrootcert",
    "application_name": "application_name",
}  # fmt: skip
# Of this transaction alone. Compiling a model's hundreds of expressions costs many times what running them does.
SETTINGS = {"timezone": "UTC", "jit": "off", "extra_float_digits": "1", "intervalstyle": "postgres"}
_SAID = re.compile(r"(?:ERROR|FATAL|PANIC):\s+(.+?)(?=\n|$)")


class PostgresWarehouse:
    """See `materializer.warehouse.Warehouse`."""

    dialect = "postgres"

    def __init__(self, connection: dbapi.Connection, place: str) -> None:
        self._connection = connection
        self.place = place
        self.version = self.query("select current_setting('server_version') as version")["version"][0].as_py()

    def columns(self, relation: Relation) -> list[Column]:
        if not is_relation_name(relation.sql):
            return declared(self._schema(f"select * from {relation}"), self._names)
        with self._apart():
            rows = self._fetch(
                f"""
                select attname::text, format_type(atttypid, atttypmod)
                from pg_attribute
                where attrelid = to_regclass({literal(relation.sql)}) and attnum > 0 and not attisdropped
                order by attnum
                """
            ).to_pylist()
        return [Column(*row.values()) for row in rows]

    def schema(self, relation: Relation) -> pa.Schema:
        of = relation.sql if is_relation_name(relation.sql) else ""
        return self._answer(f"select * from {relation}", of).schema

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        return {}

    def query(self, sql: str) -> pa.Table:
        answer = self._answer(sql)
        return pa.Table.from_batches(self._batches(answer), answer.schema)

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        for batch in self._batches(self._answer(sql)):
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.slice(start, batch_rows)

    def spine(self, name: str, table: pa.Table) -> Relation:
        table = pa.table({column: to_plain(table.column(column)) for column in table.column_names})
        for column in table.column_names:
            if not all_stated(table.column(column)):
                raise WarehouseError(
                    f"Column '{column}' holds an infinite moment, or one before the year 1 or after 9999, which rows "
                    "of yours cannot bring to PostgreSQL."
                )
        table = table.cast(pa.schema([field.with_type(signed(field.type)) for field in table.schema]))
        columns = [f"{quoted(field.name)} {sql_type(field.type)}" for field in table.schema]
        with self._refusals(), self._connection.cursor() as cursor:
            cursor.execute(f"create temporary table {quoted(name)} ({', '.join(columns)})")
            cursor.adbc_ingest(name, table, mode="append", temporary=True)
            cursor.execute(f"analyze {quoted(name)}")
        return Relation(f"pg_temp.{quoted(name)}")

    def execute(self, sql: str) -> None:
        """Run a statement for its effect on temporary tables of this connection: all of it, or nothing."""
        with self._refusals():
            self._run("savepoint feature_store_statement")
            try:
                self._run(sql)
            except BaseException:
                with suppress(adbc_driver_manager.Error):  # where the server is gone it says so below
                    self._run("rollback to savepoint feature_store_statement")
                raise
            self._run("release savepoint feature_store_statement")

    @contextmanager
    def as_dbt(self) -> Iterator[None]:
        """Meanwhile dates and hours are those of dbt's time zone, as the project's own SQL means them."""
        with self._refusals():
            self._run("set local timezone to default")
        yield
        with self._refusals():
            self._run(f"set local timezone = {literal(SETTINGS['timezone'])}")

    def close(self) -> None:
        self._connection.close()

    def _answer(self, sql: str, of: str = "") -> Answer:
        return Answer.of(sql, self._schema(sql), self._names, self._declared, of)

    def _batches(self, answer: Answer) -> Iterator[pa.RecordBatch]:
        with self._apart(), self._connection.cursor() as cursor:
            cursor.execute(answer.sql)
            yield from map(answer.exact, cursor.fetch_record_batch())

    def _schema(self, sql: str) -> pa.Schema:
        """What the driver says of a query's columns."""
        with self._apart(), self._connection.cursor() as cursor:
            return cursor.adbc_execute_schema(f"{sql}\n")

    def _names(self, types: Sequence[str]) -> list[tuple[str, str]]:
        """Of types as the driver names them, PostgreSQL's name and kind: `b` a plain one, `e` an enum, `c` a row ..."""
        numbers = [one.removeprefix("unnamed<oid:").rstrip(">") for one in types]
        listed = ", ".join(n if n.isdigit() else f"to_regtype({literal(n)})::oid" for n in numbers)
        with self._apart():
            found = self._fetch(
                f"""
                select format_type(type.oid, null) as name, type.typtype::text as kind
                from unnest(array[{listed}]) with ordinality as asked (type, place)
                join pg_type as type on type.oid = asked.type
                order by asked.place
                """
            ).to_pylist()
        return [(row["name"], row["kind"]) for row in found]

    def _declared(self, sql: str) -> dict[str, str]:
        """The types of a query's columns with all their digits, which the driver does not tell of lists."""
        with self._refusals(), self._connection.cursor() as cursor:
            cursor.execute("savepoint feature_store")
            cursor.execute(f"create temporary view _fs_described as {sql}\n")
        found = {column.name: column.dtype for column in self.columns(Relation("pg_temp._fs_described"))}
        with self._refusals(), self._connection.cursor() as cursor:
            cursor.execute("rollback to savepoint feature_store")
        return found

    def _fetch(self, sql: str) -> pa.Table:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_record_batch().read_all()

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """What is asked within it changes nothing; and where PostgreSQL refuses it, more can be asked."""
        with self._refusals():
            self._run("savepoint feature_store_query")
            self._run("set local transaction_read_only = on")
            try:
                yield
            finally:
                with suppress(adbc_driver_manager.Error):  # where the server is gone it says so above
                    self._run("rollback to savepoint feature_store_query")

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:  # Arrow wraps what comes half-way
            raise WarehouseError(f"PostgreSQL refused a query: {sentence(error)}.") from None


def connect(project: Project) -> tuple[dbapi.Connection, str]:
    """A connection to the database of a project's target, as dbt-postgres has it (its role and search path), and what
    to call it. Raises WarehouseError where the server does not answer or lets nobody in, or the profile says too
    little."""
    profile = project.connection
    given = {_LIBPQ[key]: value for key, value in profile.items() if key in _LIBPQ and value is not None}
    if missing := [key for key in ("host", "user", "dbname") if not given.get(key)]:
        raise WarehouseError(
            f"Target '{project.target}' is PostgreSQL without {' and '.join(missing)}: add them in "
            f"{project.profiles_path}."
        )
    place = f"postgresql://{given['host']}:{given.get('port', 5432)}/{given['dbname']}"
    words = " ".join(f"{key}='{_escaped(value)}'" for key, value in {"connect_timeout": 10, **given}.items())
    connection = None
    try:
        connection = dbapi.connect(words, autocommit=True)
        with connection.cursor() as cursor:
            if profile.get("role"):
                cursor.execute(f"set role {quoted(str(profile['role']))}")
            if profile.get("search_path"):
                cursor.execute(f"set search_path = {profile['search_path']}")
    except adbc_driver_manager.Error as error:
        if connection is not None:
            connection.close()
        raise WarehouseError(f"{place} cannot be opened: {sentence(error)}.") from None
    return connection, place


@contextmanager
def open_postgres(project: Project) -> Iterator[PostgresWarehouse]:
    """Open the database of a project's target for one transaction. Raises WarehouseError as `connect`."""
    connection, place = connect(project)
    try:
        with connection.cursor() as cursor:
            cursor.execute("begin transaction isolation level repeatable read")
            for name, value in SETTINGS.items():
                cursor.execute(f"set local {name} = {literal(value)}")
        warehouse = PostgresWarehouse(connection, place)
    except adbc_driver_manager.Error as error:
        connection.close()
        raise WarehouseError(f"{place} cannot be opened: {sentence(error)}.") from None
    with closing(warehouse):
        yield warehouse


def query_apart(project: Project, sql: str) -> pa.Table:
    """The answer of one SELECT that somebody else wrote. Raises WarehouseError where it is anything else than one
    SELECT, or calls what may reach further than the tables; and as `open_postgres`."""
    try:
        (tree,) = sqlglot.parse(sql, dialect="postgres")
    except (sqlglot.ParseError, sqlglot.TokenError, ValueError):
        tree = None
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock):
        raise WarehouseError("It is not one SELECT.")
    # Files are read by functions (pg_read_file, lo_import, query_to_xml over them, ...), none of which is of SQL.
    if foreign := sorted({call.name for call in tree.find_all(exp.Anonymous)}):
        raise WarehouseError(f"It calls {', '.join(foreign)}, which is no function of SQL's own.")
    with open_postgres(project) as warehouse:
        return warehouse.query(sql.strip().rstrip(";"))


def sentence(error: Exception) -> str:
    """The first thing that PostgreSQL says, without the query; its details may hold values."""
    found = _SAID.search(str(error))
    if found:
        return found[1].rstrip(".")
    text = str(error).partition("\n")[0]
    text = text.rpartition("[libpq] ")[2] or text
    return re.sub(r"^(?:[A-Z_]+: )?(?:Failed to [\w ]+: )?", "", text).rstrip(". ")


def literal(value: object) -> str:
    """A text in SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "\\'")
