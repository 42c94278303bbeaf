"""Avro's and Protobuf's bytes as JSON text, by the definition that the source names."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from datetime import date, datetime, time, timezone
from pathlib import Path
from typing import Any

from materializer.errors import DefinitionError, InputError
from materializer.stream.decode import Reader, json_text
from materializer.stream.source import StreamedSource


def definition_of(source: StreamedSource, folder: Path) -> bytes | None:
    """What describes a source's bytes, found from `folder`, the project's; None for JSON. Raises DefinitionError where
    it is not there."""
    if source.format == "json":
        return None
    path = folder / str(source.definition)
    try:
        return path.read_bytes()
    except OSError as error:
        said = error.strerror or error
        raise DefinitionError(f"{_where(source)} {path}, which cannot be read: {said}.") from None


def reader_of(source: StreamedSource, definition: bytes | None) -> Reader:
    """What reads a source's messages, by what describes them.

    Messages that a schema registry's serializer wrote begin with a zero and the schema's number (five bytes), which are
    passed over: the definition is the file's.

    Raises:
        DefinitionError: where the definition is none.
        InputError: where the library that reads the format is not installed.
    """
    if definition is None:
        return json_text
    where = f"{_where(source)} {source.definition}"
    try:
        return (_avro if source.format == "avro" else _protobuf)(definition, source, where)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'dbt-feature-store[kafka]'.") from None


def _where(source: StreamedSource) -> str:
    return f"Source '{source.name}': meta.stream.schema names"


def _avro(definition: bytes, source: StreamedSource, where: str) -> Reader:
    import fastavro

    try:
        schema = fastavro.parse_schema(json.loads(definition))
    except (ValueError, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
        raise DefinitionError(f"{where}, which is no Avro schema: {error}.") from None

    def decode(value: bytes) -> Any:
        stream = io.BytesIO(value)
        row = fastavro.schemaless_reader(stream, schema, None)
        if stream.read(1):
            raise ValueError("more bytes than the schema asks for")
        return row

    return _reader(decode, "Avro of this schema", 5)


def _protobuf(definition: bytes, source: StreamedSource, where: str) -> Reader:
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

    pool = descriptor_pool.DescriptorPool()
    try:
        for file in descriptor_pb2.FileDescriptorSet.FromString(definition).file:
            pool.Add(file)
        found = message_factory.GetMessageClass(pool.FindMessageTypeByName(str(source.message)))
    except KeyError:
        raise DefinitionError(f"{where}, which has no message {source.message!r}.") from None
    except (message.DecodeError, TypeError) as error:
        raise DefinitionError(f"{where}, which is no descriptor set: {error}.") from None

    def decode(value: bytes) -> Any:
        return json_format.MessageToDict(
            found.FromString(value), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    return _reader(decode, f"Protobuf of {source.message}", 6)  # the number, and which message: one byte for the first


def _reader(decode: Callable[[bytes], Any], what: str, prefix: int) -> Reader:
    def read(value: bytes) -> str:
        try:
            row = decode(value)
        except Exception as error:  # whatever the libraries raise for bytes that are something else
            if value[:1] == b"\0" and len(value) > prefix:
                return read(value[prefix:])
            raise ValueError(f"is no {what}: {str(error) or type(error).__name__}"[:200]) from None
        return json.dumps(plain(row))

    return read


def plain(value: Any) -> Any:
    """A value as JSON has it, with nothing lost."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
