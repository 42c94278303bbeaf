"""The settings of one object of Feast's, taken with their types; what cannot be read becomes a note."""

from __future__ import annotations

import ast
import math
from datetime import timedelta
from typing import Any

from materializer.feast.definitions import FeastType, Field
from materializer.feast.values import Function, Made, Name, Projection, Unknown, unknown_in

_PRIMITIVE = [
    "Bool",
    "Bytes",
    "Decimal",
    "Float32",
    "Float64",
    "ImageBytes",
    "Int32",
    "Int64",
    "Json",
    "Map",
    "PdfBytes",
    "ScalarMap",
    "String",
    "TimeUuid",
    "UnixTimestamp",
    "Uuid",
    "ZonedTimestamp",
]
# The names of feast.ValueType, and those of feast.types in capitals.
_VALUE_TYPES = {
    "".join(f"_{c}" if c.isupper() and n else c for n, c in enumerate(name)).upper(): name for name in _PRIMITIVE
} | {
    "DOUBLE": "Float64",
    "FLOAT": "Float32",
    "FLOAT32": "Float32",
    "FLOAT64": "Float64",
    "INT32": "Int32",
    "INT64": "Int64",
}

# Beyond this a moment less its ttl is no date any more.
_LONGEST_TTL = timedelta(days=365 * 500)


class Unreadable(Exception):
    """A setting that an object cannot be without is not known; the text says why."""


class NoEqual(Exception):
    """An object is known and has no equal here; the text says why, and what to do."""


class Given:
    """The settings of one object, and the notes that reading them left."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.notes: list[str] = []
        if "**" in made.settings:
            self.notes.append(f"some of its settings could not be read: it {made.settings['**']}")

    def raw(self, *names: str) -> Any:
        """The first of these settings that is given and not None."""
        for name in names:
            if self.made.settings.get(name) is not None:
                return self.made.settings[name]
        return None

    def _known(self, names: tuple[str, ...]) -> Any:
        value = self.raw(*names)
        if found := unknown_in(value):
            self.notes.append(f"its `{names[0]}` could not be read: it {found}")
            return None
        return value

    def name(self) -> str:
        """What the object is called.

        Raises:
            Unreadable: where that is not known.
        """
        value = self.raw("name")
        if isinstance(value, str) and value:
            return value
        if value is None and self.made.function:
            return self.made.function
        if value is None and "**" in self.made.settings:
            value = self.made.settings["**"]
        raise Unreadable(f"its name could not be read: it {value}" if isinstance(value, Unknown) else "it has no name")

    def text(self, *names: str) -> str:
        """Text, or what is written as text; empty where there is none."""
        value = self._known(names)
        return "" if value is None or isinstance(value, (Name, Function, Made, list, dict)) else str(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._known((name,))
        return default if value is None else bool(value)

    def mapping(self, name: str) -> dict[str, str]:
        """Text by text."""
        value = self._known((name,))
        if not isinstance(value, dict):
            return {}
        return {str(key): "" if item is None else str(item) for key, item in value.items()}

    def items(self, *names: str) -> list[Any]:
        """A list, as it is: its elements may be unknown."""
        value = self.raw(*names)
        if isinstance(value, Unknown):
            self.notes.append(f"its `{names[0]}` could not be read: it {value}")
            return []
        return list(value) if isinstance(value, (list, tuple, set)) else [] if value is None else [value]

    def duration(self, name: str) -> timedelta | None:
        """A duration above zero in whole seconds, or None where there is none: zero means no limit in Feast too."""
        value = self._known((name,))
        if not isinstance(value, timedelta):
            if value is not None:
                self.notes.append(f"its `{name}` is no timedelta and was left out")
            return None
        seconds = math.ceil(value.total_seconds())
        if seconds != value.total_seconds() > 0:
            self.notes.append(f"its `{name}` of {value.total_seconds()} s was raised to whole seconds")
        if seconds > _LONGEST_TTL.total_seconds():
            self.notes.append(
                f"its `{name}` is longer than {_LONGEST_TTL.days // 365} years and was left out: no limit"
            )
            return None
        return timedelta(seconds=seconds) if seconds > 0 else None

    def code(self) -> str:
        """The text of the Python that transforms the object's rows; empty where there is none."""
        parts = [self.made.code] if self.made.code else []
        for name in ("udf", "feature_transformation", "aggregations"):
            value = self.raw(name)
            if isinstance(value, Function):
                parts.append(ast.unparse(value.node))
            elif value is not None and value != []:
                parts.append(f"{name} = {_shown(value)}")
        return "\n\n".join(parts)

    def fields(self, *names: str) -> tuple[Field, ...]:
        """The fields of a schema: those whose name is known."""
        fields = []
        for item in self.items(*names):
            if isinstance(item, Unknown):
                self.notes.append(f"a field of its schema could not be read: it {item}")
                continue
            if not isinstance(item, Made):
                self.notes.append("a field of its schema could not be read: it is none of Feast's")
                continue
            given = Given(item)
            try:
                name = given.name()
            except Unreadable as error:
                self.notes.append(f"a field of its schema ({item.where}) was left out: {error}")
                continue
            dtype = given.dtype("dtype", f"`{name}`")
            if given.raw("vector_index") is True:
                given.notes.append(
                    f"`{name}` has a vector index in Feast; here it is a list like others, which Redis can index"
                )
            fields.append(Field(name, dtype, given.text("description"), given.mapping("tags")))
            self.notes += given.notes
        return tuple(fields)

    def dtype(self, name: str, what: str) -> FeastType | None:
        """A type, or None with a note where it is none of Feast's."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, Unknown):
            self.notes.append(f"the type of {what} could not be read: it {value}")
            return None
        found = _type(value)
        if found is None and not (isinstance(value, Name) and value.last in ("UNKNOWN", "Invalid")):
            self.notes.append(
                f"the type of {what}, {_shown(value)}, is none of Feast's: it is taken as the source has it"
            )
        return found


def _type(value: Any) -> FeastType | None:
    if isinstance(value, Made) and value.kind in ("Array", "Set"):
        inner = _type(value.settings.get("base_type"))
        return FeastType(value.kind, inner) if inner else None
    if isinstance(value, Made) and value.kind == "Struct" and isinstance(value.settings.get("fields"), dict):
        fields = {str(name): _type(dtype) for name, dtype in value.settings["fields"].items()}
        return FeastType("Struct", fields=tuple(fields.items())) if all(fields.values()) else None
    if isinstance(value, Made) and not value.settings:
        value = Name(value.kind)
    if not isinstance(value, Name):
        return None
    if value.last in _PRIMITIVE:
        return FeastType(value.last)
    name, _, collection = value.last.rpartition("_")
    if collection in ("LIST", "SET") and name in _VALUE_TYPES:
        return FeastType("Array" if collection == "LIST" else "Set", FeastType(_VALUE_TYPES[name]))
    return FeastType(_VALUE_TYPES[value.last]) if value.last in _VALUE_TYPES else None


def _shown(value: Any) -> str:
    match value:
        case Name():
            return value.last
        case Made():
            return f"{value.kind}({', '.join(f'{name}={_shown(item)}' for name, item in value.settings.items())})"
        case Projection():
            return _shown(value.view)
        case Function():
            return ast.unparse(value.node).partition("\n")[0]
        case list() | tuple():
            return f"[{', '.join(_shown(item) for item in value)}]"
        case Unknown():
            return "..."
    return repr(value)
