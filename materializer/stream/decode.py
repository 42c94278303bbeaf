"""Messages as rows: DuckDB reads each value in the type that the source declares, or says why it is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa

from materializer.errors import DefinitionError
from materializer.stream.files import literal
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted

# Turns a message's bytes into JSON text; raises ValueError with the reason where they are something else.
Reader = Callable[[bytes], str]
_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
_WHOLE = r"[+-]?\d+(\.0*)?"
_NESTED = re.compile(r"\[|^(STRUCT|MAP|UNION)")


class Message(NamedTuple):
    """What was read from a topic."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


def json_text(value: bytes) -> str:
    """A `Reader` of JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("is not JSON: its bytes are no UTF-8") from None


class Decoder:
    """Makes rows of a source's messages in a DuckDB connection whose zone is UTC.

    Raises:
        DefinitionError: where DuckDB has no such type as a column declares.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: StreamedSource, read: Reader = json_text) -> None:
        self._connection = connection
        self._source = source
        self._read = read
        self._types = types_of(connection, source.columns)
        self._select = _rows_of(source, self._types)

    def rows(self, messages: Sequence[Message], into: str) -> None:
        """Make the table `into`: a row a message, with its reason and bytes where it is no event of the source."""
        try:
            self._make(messages, into)
        except duckdb.Error:
            # One that DuckDB cannot look at at all: found by looking at each alone.
            self._make([], into)
            for message in messages:
                try:
                    self._make([message], f"{into}_one")
                except duckdb.Error as error:
                    self._make([message], f"{into}_one", str(error).partition("\n")[0])
                self._connection.execute(f"insert into {into} select * from {into}_one")

    def _make(self, messages: Sequence[Message], into: str, reason: str | None = None) -> None:
        texts: list[str | None] = []
        reasons: list[str | None] = []
        for message in messages:
            text, why = None, reason
            if why is None:
                try:
                    text = self._read(message.value) if message.value is not None else None
                    why = "has no value" if text is None else None
                except ValueError as error:
                    why = str(error)
            texts.append(text)
            reasons.append(why)
        table = pa.table(
            {
                "_topic": pa.array([one.topic for one in messages], pa.string()),
                "_partition": pa.array([one.partition for one in messages], pa.int32()),
                "_offset": pa.array([one.offset for one in messages], pa.int64()),
                "_fs_text": pa.array(texts, pa.string()),
                "_fs_why": pa.array(reasons, pa.string()),
                "_fs_message": pa.array([one.value for one in messages], pa.binary()),
            }
        )
        self._connection.register("_fs_messages", table)
        try:
            self._connection.execute(f"create or replace table {into} as {self._select}")
        finally:
            self._connection.unregister("_fs_messages")


def types_of(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> dict[str, str]:
    """The columns' types as DuckDB names them. Raises DefinitionError for one that it does not have."""
    found = {}
    for name, dtype in columns.items():
        try:
            ((found[name],),) = connection.execute(f"select typeof(cast(null as {dtype}))").fetchall()
        except duckdb.Error:
            raise DefinitionError(
                f"Column '{name}' of a streamed source has data_type {dtype!r}, which DuckDB does not know."
            ) from None
    return found


def _rows_of(source: StreamedSource, types: Mapping[str, str]) -> str:
    """SQL from `_fs_messages` to rows. A value that its column's type does not hold exactly is a reason."""
    steps, values, reasons = [], [], []
    for place, (name, dtype) in enumerate(types.items()):
        path = literal(f'$."{name}"') if '"' not in name else literal(f"/{name.replace('~', '~0').replace('/', '~1')}")
        given = f"_fs_given_{place}"
        steps.append(f"json_extract(_fs_body, {path}) as {given}")
        text = f"({given} ->> '$')"
        value = f"try_cast({given if _NESTED.search(dtype) else text} as {dtype})"
        if dtype == "BLOB":
            value = f"try(from_base64({text}))"
        exact = _exact(dtype, given, text)
        values.append((name, f"case when {exact} then {value} end" if exact else value))
        shown = f"left({text}, 40)"
        reasons.append(
            f"when {text} is not null and {quoted(name)} is null then {literal(f'{name} is no {dtype}: ')} || {shown}"
        )
    if source.timestamp and types[source.timestamp].startswith(("TIMESTAMP", "DATE")):
        name = source.timestamp
        reasons.append(f"when not isfinite({quoted(name)}) then {literal(f'{name} is no moment')}")
    reasons += [f"when {quoted(name)} is null then {literal(f'{name} is missing')}" for name in source.required]
    listed = ",\n        ".join(f"{value} as {quoted(name)}" for name, value in values)
    return f"""
    with bodies as (
        select *, case when json_valid(_fs_text) then cast(_fs_text as json) end as _fs_body from _fs_messages
    ),
    given as (
        select *, {", ".join(steps)} from bodies
    ),
    cells as (
        select *,
        {listed}
        from given
    ),
    judged as (
        select *, case
            when _fs_why is not null then _fs_why
            when _fs_body is null then 'is not JSON'
            when json_type(_fs_body) <> 'OBJECT' then 'is no JSON object'
            {" ".join(reasons)}
        end as _fs_reason
        from cells
    )
    select
        {", ".join(f"case when _fs_reason is null then {quoted(name)} end as {quoted(name)}" for name in types)},
        _topic, _partition, _offset, _fs_reason, case when _fs_reason is not null then _fs_message end as _fs_message,
        cast(null as varchar) as _fs_push
    from judged
    """


def _exact(dtype: str, given: str, text: str) -> str | None:
    """When a text is exactly a value of a type, where DuckDB would round it; None: it would not."""
    if dtype in _INTEGERS:
        return f"regexp_full_match({text}, {literal(_WHOLE)})"
    if digits := re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", dtype):
        pattern = rf"[+-]?\d*(\.\d{{0,{digits[1]}}}0*)?"
        # A number with a point passes through a double, which holds 15 digits: more have to come as a string.
        short = f"(json_type({given}) <> 'DOUBLE' or length(regexp_replace({text}, '[^0-9]', '', 'g')) <= 16)"
        return f"regexp_full_match({text}, {literal(pattern)}) and {short}"
    if dtype == "BOOLEAN":
        return f"lower({text}) in ('true', 'false')"
    return None
