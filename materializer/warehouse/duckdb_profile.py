"""What a dbt-duckdb profile says of its connection, applied as dbt-duckdb does; databases are attached read-only.

Code is never taken from a profile: `plugins` and `module_paths` are left alone. What dbt built as a table can be read
without them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from materializer.errors import WarehouseError
from materializer.project import storage
from materializer.project.settings import Project

# What would change values or the form in which they arrive, whatever a profile says of it.
OURS = {
    "TimeZone": "UTC",
    "Calendar": "gregorian",
    "default_order": "ascending",
    "default_null_order": "nulls_last",
    "default_collation": "",
    "arrow_large_buffer_size": "false",
    "arrow_lossless_conversion": "false",
    "arrow_output_list_view": "false",
    "produce_arrow_string_view": "false",
}
# Settings that dbt-duckdb passes on and that are no settings of a database that is only read.
_NOT_FOR_READING = ("access_mode",)
# Kinds of attached databases that are files.
_FILES = ("duckdb", "sqlite", "ducklake")
_UNQUOTED = ("type", "provider", "extra_http_headers")
# How long a database that is to be attached and is locked is waited for, in seconds.
_PATIENCE = 5.0
_registering = threading.Lock()
Result = TypeVar("Result")


@dataclass(frozen=True)
class ProfileSettings:
    """How to open a target's DuckDB: the file or ``:memory:``, and what to do with the connection then."""

    project: Project = field(repr=False)
    database: str
    state_beside: Path
    config: Mapping[str, Any] = field(repr=False)

    def apply(self, connection: duckdb.DuckDBPyConnection, attached: bool = True) -> None:
        """Extensions, secrets, file systems, `attached` databases and settings, in dbt-duckdb's order; then our own.
        Raises WarehouseError naming the one that cannot be had."""
        profile = self.project.connection
        for extension in _list(profile, "extensions"):
            _load(connection, extension)
        secrets = _list(profile, "secrets")
        if profile.get("use_credential_provider") == "aws":
            secrets = [*secrets, {"type": "s3", "provider": "credential_chain"}]
        for number, secret in enumerate(secrets, 1):
            _create_secret(connection, secret, number)
        for filesystem in _list(profile, "filesystems"):
            _register(connection, filesystem)
        for database in _list(profile, "attach") if attached else ():
            self._attach(connection, database)
        for name, value in _mapping(profile, "settings").items():
            if name not in _NOT_FOR_READING:
                _set(connection, name, value)
        for name, value in OURS.items():
            connection.execute(f"set {name} = '{value}'")
        # A view over a file that dbt wrote by a relative path finds it from wherever this runs.
        folder = str(self.project.working_folder)
        (paths,) = connection.execute("select current_setting('file_search_path')").fetchall()[0]
        _set(connection, "file_search_path", ",".join(filter(None, (paths, folder))))

    def _attach(self, connection: duckdb.DuckDBPyConnection, attached: Any) -> None:
        if not isinstance(attached, dict) or not isinstance(attached.get("path"), str):
            raise WarehouseError(f"Target '{self.project.target}' has an `attach` without a `path`.")
        named = attached["path"]
        _refuse_motherduck(self.project, named)
        kind = str(attached.get("type") or _mapping(attached, "options").get("type") or "duckdb").lower()
        path = self._local(named) if kind in _FILES else named
        sql = f"attach if not exists '{escaped(path)}'"
        if attached.get("alias"):
            sql += f" as {_name(attached['alias'], 'an attached database')}"
        options = _mapping(attached, "options")
        words = [f"{key} {_name(value, f'a {key} of `attach`')}" for key in ("type", "secret")
                 if (value := attached.get(key) or options.get(key))]  # fmt: skip
        for key, value in options.items():
            if key.lower() in ("type", "secret", "read_only"):
                continue
            if isinstance(value, bool):
                words += [_name(key, "an option of `attach`")] if value else []
            elif value is not None:
                words.append(f"{_name(key, 'an option of `attach`')} {_literal(value)}")
        sql += f" ({', '.join(['read_only', *words])})"
        try:
            once_unlocked(lambda: connection.execute(sql), _PATIENCE)
        except duckdb.Error as error:
            said = "it is locked by another process" if is_locked(error) else sentence(error)
            raise WarehouseError(
                f"Target '{self.project.target}' attaches {named.partition('?')[0]}, and DuckDB cannot: {said}"
            ) from None

    def _local(self, path: str) -> str:
        scheme, colon, rest = path.rpartition(":")
        if "://" in path or (colon and scheme not in _FILES):
            return path
        return f"{scheme}{colon}{self.project.resolve(rest)}"  # x.duckdb, ducklake:meta.ducklake, sqlite:x.db


def profile_settings(project: Project) -> ProfileSettings:
    """How the target's DuckDB is to be opened. Raises WarehouseError where there is no such file, or it is of a kind
    that cannot be read."""
    profile = project.connection
    if profile.get("remote"):
        raise WarehouseError(f"Target '{project.target}' is a remote DuckDB server; this release reads files.")
    text = str(profile.get("path", ":memory:"))
    _refuse_motherduck(project, text)
    config = {key: value for key, value in _mapping(profile, "config_options").items() if key != "access_mode"}
    if text.startswith(":memory:"):
        return ProfileSettings(project, ":memory:", _attached_file(project), config)
    file = project.database_file
    if file is None:
        raise WarehouseError(f"Target '{project.target}' is DuckDB at {text}; this release reads local files.")
    if not file.is_file():
        raise WarehouseError(f"There is no DuckDB file {file}: run `dbt build` in {project.folder} first.")
    prefix = "ducklake:" if text.startswith("ducklake:") else ""
    return ProfileSettings(project, f"{prefix}{file}", file, config)


def _attached_file(project: Project) -> Path:
    """The file that the models of an in-memory target are built into: the attached one that is its `database`."""
    attached = [one for one in _list(project.connection, "attach") if isinstance(one, dict)]
    wanted = project.connection.get("database")
    for one in sorted(attached, key=lambda one: one.get("alias") != wanted):
        path = str(one.get("path", ""))
        if path and "://" not in path:
            return project.resolve(path.rpartition(":")[2])
    raise WarehouseError(
        f"Target '{project.target}' is an in-memory DuckDB, which is gone once dbt ends: give it a `path`."
    )


def _refuse_motherduck(project: Project, path: str) -> None:
    if path.startswith(("md:", "motherduck:")):
        raise WarehouseError(
            f"Target '{project.target}' uses MotherDuck ({path.partition('?')[0]}); this release reads DuckDB files."
        )


def _load(connection: duckdb.DuckDBPyConnection, extension: Any) -> None:
    """Load an extension; one that is not installed yet is installed first, as dbt-duckdb does."""
    name, repository = extension, None
    if isinstance(extension, dict):
        name, repository = extension.get("name"), extension.get("repo")
    name = _name(name, "an extension")
    try:
        try:
            connection.load_extension(str(name))
        except duckdb.Error:
            if repository:
                source = repository if re.fullmatch(r"\w+", str(repository)) else _literal(str(repository))
                connection.execute(f"install {name} from {source}")
            else:
                connection.install_extension(str(name))
            connection.load_extension(str(name))
    except duckdb.Error as error:
        raise WarehouseError(f"The profile's DuckDB extension '{name}' cannot be loaded: {sentence(error)}") from None


def _create_secret(connection: duckdb.DuckDBPyConnection, secret: Any, number: int) -> None:
    """For this connection alone, also where the profile wants it kept."""
    if not isinstance(secret, dict) or not secret.get("type"):
        raise WarehouseError(f"Secret {number} of the profile has no `type`.")
    name = _name(secret.get("name") or f"_dbt_secret_{number}", "a secret")
    parts = []
    for key, value in secret.items():
        if key in ("name", "persistent") or value is None:
            continue
        key = _name(key, "an option of a secret")
        if key == "scope":
            parts += [f"scope '{escaped(one)}'" for one in (value if isinstance(value, list) else [value])]
        elif isinstance(value, dict):
            items = (f"'{escaped(k)}': '{escaped(v)}'" for k, v in value.items())
            parts.append(f"{key} map {{{', '.join(items)}}}")
        elif isinstance(value, list):
            parts.append(f"{key} array [{', '.join(_literal(str(one)) for one in value)}]")
        else:
            if key in ("type", "provider"):
                value = _name(value, f"a secret's {key}")
            parts.append(f"{key} {value}" if key in _UNQUOTED else f"{key} '{escaped(value)}'")
    try:
        connection.execute(f"create or replace temporary secret {name} ({', '.join(parts)})")
    except duckdb.Error as error:
        # Not the error's own text, which may quote it.
        raise WarehouseError(
            f"DuckDB refused secret '{name}' of the profile, of type {secret['type']} ({type(error).__name__})."
        ) from None


def _register(connection: duckdb.DuckDBPyConnection, filesystem: Any) -> None:
    arguments = dict(filesystem) if isinstance(filesystem, dict) else {}
    name = arguments.pop("fs", None)
    try:
        found = storage.filesystem(str(name), arguments)
        # Connections to one file share what the first of them registered.
        with _registering:
            if (found.protocol if isinstance(found.protocol, str) else found.protocol[0]) not in (
                connection.list_filesystems()
            ):
                connection.register_filesystem(found)
    except ImportError as error:
        raise WarehouseError(
            f"The profile's file system '{name}' needs a package: {storage.install_hint(str(name), error.name)}."
        ) from None
    except Exception as error:
        raise WarehouseError(f"The profile's file system '{name}' cannot be used ({type(error).__name__}).") from None


def _set(connection: duckdb.DuckDBPyConnection, name: str, value: Any) -> None:
    name = _name(name, "a setting")
    try:
        connection.execute(f"set {name} = '{escaped(value)}'")
    except duckdb.Error as error:
        said = "it is no setting of DuckDB" if isinstance(error, duckdb.CatalogException) else type(error).__name__
        raise WarehouseError(f"DuckDB refused the profile's setting '{name}': {said}.") from None


def _name(text: Any, what: str) -> str:
    """A name that a profile puts into SQL, as it is written there: nothing but a name, quoted or not. Raises
    WarehouseError for anything else."""
    if not re.fullmatch(r'[\w.]+|"(?:[^"]|"")+"', str(text)):
        raise WarehouseError(f"The profile has {what} called {str(text)[:60]!r}, which is no name.")
    return str(text)


def _list(profile: Mapping[str, Any], key: str, kind: type = list) -> Any:
    value = profile.get(key) or kind()
    if not isinstance(value, kind):
        named = "list" if kind is list else "mapping"
        raise WarehouseError(f"`{key}` of the profile is no {named}: see dbt-duckdb's documentation.")
    return value


def _mapping(profile: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _list(profile, key, dict)


def once_unlocked(work: Callable[[], Result], patience: float) -> Result:
    """What `work` gives, tried again for some seconds while another process locks the file."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except duckdb.Error as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def is_locked(error: Exception) -> bool:
    """Whether DuckDB says that another process holds a file."""
    return "lock" in str(error).lower()


def sentence(error: Exception) -> str:
    """The first line of what DuckDB says, or of what a file system of the profile says through it."""
    lines = str(error).strip().splitlines()
    if lines[0].startswith("Traceback "):
        said = next((line for line in lines[1:] if line[:1].strip()), type(error).__name__)
        kind, _, why = said.partition(": ")
        return f"a file cannot be read or written ({': '.join(filter(None, (kind.rpartition('.')[2], why)))})"
    return lines[0]


def _literal(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    text = value.strip()
    quoted = re.fullmatch(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""", text)
    return value if quoted else f"'{escaped(value)}'"


def escaped(value: Any) -> str:
    return str(value).replace("'", "''")
