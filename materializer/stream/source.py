"""Which sources of a dbt project events land in: `config.meta.stream` of a source's table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from materializer.errors import DefinitionError, NotFoundError
from materializer.project.graph import meta_of

# Columns that every landed row has. They are the landing's, not the event's.
OF_THE_LANDING = {
    "_topic": "VARCHAR", "_partition": "INTEGER", "_offset": "BIGINT", "_landed_at": "TIMESTAMP WITH TIME ZONE",
    "_seq": "BIGINT",
}  # fmt: skip
FORMATS = ("json", "avro", "protobuf")
_KEYS = ("topic", "format", "key", "timestamp", "determines", "schema", "message")


@dataclass(frozen=True)
class StreamedSource:
    """A table of a dbt source that a topic's events land in.

    Attributes:
        unique_id: the source's, in dbt's manifest.
        name: ``shop.purchases``, the source's name and the table's.
        database, schema, table: how SQL names it; `database` is the alias under which the profile attaches the landing.
        columns: with their types in the warehouse's SQL; what an event does not bring is NULL.
        key: columns that an event must bring.
        timestamp: the column of the event's moment, which it must bring too; None where there is none.
        determines: what an id decides, such as ``{"purchase_id": ("user_id",)}``.
        definition: the file that describes Avro's or Protobuf's bytes, as the source writes it; `message` names the one
            of Protobuf's messages.
    """

    unique_id: str
    name: str
    database: str
    schema: str
    table: str
    columns: Mapping[str, str]
    topic: str
    format: str = "json"
    key: tuple[str, ...] = ()
    timestamp: str | None = None
    determines: Mapping[str, tuple[str, ...]] | None = None
    definition: str | None = None
    message: str | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that an event must bring."""
        return tuple(dict.fromkeys((*self.key, *((self.timestamp,) if self.timestamp else ()))))


def streamed_sources(manifest: Mapping[str, Any]) -> dict[str, StreamedSource]:
    """The sources that say `meta.stream`, by name.

    Raises:
        DefinitionError: for a mistyped, missing or wrong key, a column without a type, or a topic that two name.
    """
    found: dict[str, StreamedSource] = {}
    for _, node in sorted((manifest.get("sources") or {}).items()):
        meta = meta_of(node)
        if "stream" in meta:
            source = _source(node, meta["stream"])
            found[source.name] = source
    topics: dict[str, str] = {}
    for source in found.values():
        if (other := topics.setdefault(source.topic, source.name)) != source.name:
            raise DefinitionError(
                f"Sources '{other}' and '{source.name}' both name topic '{source.topic}': land it in one, and select "
                "from that in the other's place."
            )
    return found


def source_named(sources: Mapping[str, StreamedSource], name: str) -> StreamedSource:
    """The source ``shop.purchases``, also by its table's name or identifier, with ``shop.`` before it or not, where one
    has that. Raises NotFoundError."""
    named = [one for one in sources.values() if name == one.name] or [
        one for one in sources.values() if name in _other_names(one)
    ]
    if len(named) == 1:
        return named[0]
    if named:
        raise NotFoundError(f"'{name}' may be {' or '.join(one.name for one in named)}: say which.")
    near = difflib.get_close_matches(name, sources, 1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise NotFoundError(
        f"There is no source '{name}' that says meta.stream{hint}; there are: {', '.join(sources) or 'none'}."
    )


def _other_names(source: StreamedSource) -> tuple[str, ...]:
    above, _, table = source.name.rpartition(".")
    return table, source.table, f"{above}.{source.table}"


def _source(node: Mapping[str, Any], meta: Any) -> StreamedSource:
    name = f"{node['source_name']}.{node['name']}"
    where = f"Source '{name}': meta.stream"
    if not isinstance(meta, dict):
        raise DefinitionError(f"{where} is a mapping with a `topic`, and {', '.join(_KEYS[1:])} where they are needed.")
    for key in meta:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise DefinitionError(f"{where} has no key '{key}'{hint}; it has: {', '.join(_KEYS)}.")
    columns = {one["name"]: one.get("data_type") for one in (node.get("columns") or {}).values()}
    untyped = [column for column, dtype in columns.items() if not dtype]
    if untyped or not columns:
        said = f"column '{untyped[0]}' has none" if untyped else "it lists no column"
        raise DefinitionError(f"{where}: events land in columns with a `data_type` each, and {said}.")
    if reserved := [
        column for column in columns if column.lower() in OF_THE_LANDING or column.lower().startswith("_fs_")
    ]:
        raise DefinitionError(f"{where}: column '{reserved[0]}' is the landing's own: leave it out of `columns`.")
    topic = meta.get("topic")
    if not isinstance(topic, str) or not topic or topic.startswith("_push"):
        raise DefinitionError(f"{where}.topic is the name of a Kafka topic, not {topic!r}.")
    form = meta.get("format", "json")
    if form not in FORMATS:
        raise DefinitionError(f"{where}.format is one of {', '.join(FORMATS)}, not {form!r}.")
    definition, message = meta.get("schema"), meta.get("message")
    if form != "json" and not isinstance(definition, str):
        kind = (
            "a descriptor set (protoc --descriptor_set_out --include_imports)"
            if form == "protobuf"
            else "an .avsc file"
        )
        raise DefinitionError(f"{where}.schema names {kind}, from the project's folder, for format {form}.")
    if form == "protobuf" and not isinstance(message, str):
        raise DefinitionError(f"{where}.message names the message in {definition}, such as shop.Purchase.")
    key = meta.get("key", ())
    determines = meta.get("determines", {})
    if not isinstance(determines, dict):
        raise DefinitionError(f"{where}.determines is a mapping such as {{purchase_id: [user_id]}}.")
    source = StreamedSource(
        node["unique_id"], name, node.get("database") or "", node.get("schema") or "main",
        node.get("identifier") or node["name"],
        columns, topic, form, _names(key), meta.get("timestamp"),
        {one: _names(decided) for one, decided in determines.items()}, definition, message,
    )  # fmt: skip
    named = [*source.required, *source.determines, *(one for decided in source.determines.values() for one in decided)]
    if unknown := [one for one in named if one not in columns]:
        raise DefinitionError(
            f"{where} names column {unknown[0]!r}, which is not among its columns: {', '.join(columns)}."
        )
    return source


def _names(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
