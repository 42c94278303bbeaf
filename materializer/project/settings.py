"""Where a dbt project lives and what its profile says: found and rendered as dbt does, without importing dbt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from materializer.errors import ProjectError
from materializer.project.locate import began, dbt_setting, last_run, project_in_reach, ran_in
from materializer.project.profile_jinja import basic_context, render
from materializer.project.yaml_files import load_yaml

_OF_THE_PROJECT = ("name", "target-path", "model-paths", "seed-paths", "snapshot-paths", "dispatch")
# What of a connection a template may read as `target`: never what opens it.
_SECRETS = ("password", "pass", "token", "motherduck_token", "private_key", "private_key_passphrase", "keyfile_json",
            "secrets", "filesystems", "client_secret", "settings", "config_options")  # fmt: skip
_MOTHERDUCK = ("md:", "motherduck:")


@dataclass(frozen=True)
class Project:
    """A dbt project and the target of its profile that is in use."""

    folder: Path
    name: str
    target_folder: Path
    model_folders: tuple[Path, ...]
    profile: str
    target: str
    # The connection of the target: the profile's own mapping. It may hold a password: never printed.
    connection: dict[str, Any] = field(repr=False)
    profiles_path: Path = Path("profiles.yml")
    # Other files called profiles.yml that have this profile and target too.
    other_profiles: tuple[Path, ...] = ()
    # `--vars`, and the `vars:` of dbt_project.yml as they are written.
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    project_vars: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # `dispatch:` of dbt_project.yml: where macros are looked up, by the package that they are of.
    dispatch: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # The targets of the profile, and the one that it takes where none is named.
    targets: tuple[str, ...] = ()
    default_target: str | None = None
    seed_folders: tuple[Path, ...] = ()
    snapshot_folders: tuple[Path, ...] = ()

    @property
    def namespace(self) -> str:
        """The namespace of this project's rows online, unless the user names another."""
        return f"{self.name}.{self.target}"

    @property
    def manifest_path(self) -> Path:
        return self.target_folder / "manifest.json"

    @property
    def location(self) -> tuple[str | None, str | None]:
        """The database and schema where the target builds its models by default, as far as its profile says."""
        return _location(self.connection)

    @property
    def target_context(self) -> dict[str, Any]:
        """What dbt's templates read as ``target``, without what is secret."""
        return _target_context(self.connection, self.profile, self.target)

    @cached_property
    def last_run(self) -> Mapping[str, Any]:
        """The `args` and `metadata` of the dbt command that last ran here; empty where none did."""
        return last_run(self.target_folder)

    @cached_property
    def database_file(self) -> Path | None:
        """The file of a DuckDB target that dbt builds into; None where it is no file.

        dbt takes a relative path from the folder where it is run: the one that its last run here tells of, else the
        current folder, else the project's. One that lies there is taken first.
        """
        return self._databases[0] if self._databases else None

    @property
    def working_folder(self) -> Path:
        """The folder that relative paths of the profile are taken from."""
        path = Path(str(self.connection.get("path", ":memory:"))).expanduser()
        if path.is_absolute() or self.database_file is None:
            return self._folders[0]
        return next(folder for folder in self._folders if folder / path == self.database_file)

    def resolve(self, path: str) -> Path:
        """A path of the profile: a relative one from where dbt is run."""
        folders = dict.fromkeys((self.working_folder, *self._folders))
        paths = [folder / Path(path).expanduser() for folder in folders]
        return next((one for one in paths if one.exists()), paths[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is two of, and which of them was taken."""
        said = []
        if self.other_profiles:
            others = " and ".join(map(str, self.other_profiles))
            said.append(
                f"{self.profiles_path} is read, although {others} has target '{self.target}' of profile "
                f"'{self.profile}' too: name its folder with --profiles-dir where that one is meant."
            )
        found = [path for path in self._databases if path.is_file()]
        if len(found) > 1:
            others = " and ".join(map(str, found[1:]))
            said.append(
                f"The warehouse is {found[0]}; {others} is there too, as `path` of target '{self.target}' is relative "
                "to where dbt is run: make it absolute."
            )
        return tuple(said)

    @cached_property
    def _databases(self) -> list[Path]:
        """Where a DuckDB target's file may be, the likeliest first; those that are there before those that are not."""
        text = str(self.connection.get("path", ":memory:"))
        if self.connection.get("type") != "duckdb" or text.startswith((":memory:", *_MOTHERDUCK)) or "://" in text:
            return []
        path = Path(text.removeprefix("ducklake:")).expanduser()
        paths = [path] if path.is_absolute() else list(dict.fromkeys(folder / path for folder in self._folders))
        there = {one: one.is_file() for one in paths}
        if ran_in(self.last_run, self.folder) is None and sum(there.values()) > 1:
            # Where only one of them was written by that run or after it, the others are not its work.
            start = (began(self.last_run) or 0) - 2
            written = [one for one in paths if there[one] and one.stat().st_mtime >= start]
            if len(written) == 1:
                return [*written, *(one for one in paths if one not in written)]
        return sorted(paths, key=lambda one: not there[one])

    @cached_property
    def _folders(self) -> list[Path]:
        folders = [ran_in(self.last_run, self.folder), Path.cwd(), self.folder]
        return list(dict.fromkeys(folder.resolve() for folder in folders if folder is not None))


def load_project(
    project_dir: str | os.PathLike[str] | None = None,
    profiles_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Project:
    """Read ``dbt_project.yml`` and the profile it names, as dbt would find them.

    Every option may come from the environment too, as ``DBT_ENGINE_TARGET`` or ``DBT_TARGET``, the first one first.

    Args:
        project_dir: default the current folder, else its nearest parent with a ``dbt_project.yml``.
        profiles_dir: default the current folder where it has a ``profiles.yml``, else ``~/.dbt``. The project's folder,
            where dbt may have been run, counts where these have no such target, or where dbt's last run took it.
        target: default the profile's own.
        variables: what dbt is given with ``--vars``.

    Raises:
        ProjectError: where one of them is missing or cannot be read.
    """
    folder = Path(project_dir or project_in_reach() or ".").expanduser().resolve()
    config_path = folder / "dbt_project.yml"
    if not config_path.is_file():
        raise ProjectError(f"There is no dbt_project.yml in {folder}: name the dbt project with --project-dir.")
    raw = _read_yaml(config_path)
    variables = dict(variables or {})
    profile = dbt_setting("PROFILE")
    if not profile:
        profile = render(raw.get("profile"), basic_context(str(config_path), variables), config_path, ("profile",))
    loaded: list[Project] = []
    failures: list[ProjectError] = []
    for path in _profiles_paths(folder, profiles_dir or dbt_setting("PROFILES_DIR")):
        try:
            loaded.append(_load(folder, config_path, raw, profile, path, target, variables))
        except ProjectError as error:
            failures.append(error)
    if not loaded:
        raise failures[0]
    chosen = next((project for project in loaded if _ran_with(project)), loaded[0])
    return replace(chosen, other_profiles=tuple(one.profiles_path for one in loaded if one is not chosen))


def _load(
    folder: Path,
    config_path: Path,
    raw: Mapping[str, Any],
    profile: Any,
    profiles_path: Path,
    target: str | None,
    variables: Mapping[str, Any],
) -> Project:
    """The project with the profile of one ``profiles.yml``: first the profile, then what may read its target."""
    if not isinstance(profile, str) or not profile:
        raise ProjectError(f"{config_path} names no profile: add `profile:` with the name of one in {profiles_path}.")
    profiles = _read_yaml(profiles_path)
    context = basic_context(str(profiles_path), variables, secrets=True)
    if profile not in profiles:
        known = ", ".join(sorted(str(key) for key in profiles if key != "config")) or "none"
        raise ProjectError(f"{profiles_path} has no profile '{profile}', which {config_path} names; it has: {known}.")
    settings = _mapping(profiles[profile], f"Profile '{profile}' in {profiles_path}")
    outputs = _mapping(settings.get("outputs"), f"`outputs` of profile '{profile}' in {profiles_path}")
    target = target or dbt_setting("TARGET")
    default_target = None
    try:
        default_target = render(settings.get("target"), context, profiles_path, ("target",)) or "default"
    except ProjectError:
        if not target:
            raise
    target = target or default_target
    if not isinstance(target, str) or target not in outputs:
        known = ", ".join(sorted(map(str, outputs))) or "none"
        raise ProjectError(f"Profile '{profile}' in {profiles_path} has no target '{target}'; it has: {known}.")
    # Only the chosen one: the others may need variables that are not set here.
    connection = _mapping(
        render(outputs[target], context, profiles_path), f"Target '{target}' of profile '{profile}' in {profiles_path}"
    )
    if not isinstance(connection.get("type"), str):
        raise ProjectError(f"Target '{target}' of profile '{profile}' in {profiles_path} has no `type`.")

    # dbt may render hooks and vars with macros; what is asked for here needs none of them.
    context = basic_context(str(config_path), variables)
    context["target"] = _target_context(connection, profile, target)
    config = render({key: raw[key] for key in _OF_THE_PROJECT if key in raw}, context, config_path)
    name = config.get("name")
    if not isinstance(name, str):
        raise ProjectError(f"{config_path} gives the project no name.")
    target_folder = dbt_setting("TARGET_PATH") or config.get("target-path") or "target"
    return Project(
        folder=folder,
        name=name,
        target_folder=folder / str(target_folder),
        model_folders=_paths(folder, config.get("model-paths"), "models", config_path),
        profile=profile,
        target=target,
        connection=connection,
        profiles_path=profiles_path,
        targets=tuple(map(str, outputs)),
        default_target=default_target if isinstance(default_target, str) else None,
        variables=variables,
        project_vars=_mapping(raw.get("vars"), f"`vars` in {config_path}"),
        dispatch=_search_orders(config.get("dispatch"), config_path),
        seed_folders=_paths(folder, config.get("seed-paths"), "seeds", config_path),
        snapshot_folders=_paths(folder, config.get("snapshot-paths"), "snapshots", config_path),
    )


def _profiles_paths(folder: Path, named: str | os.PathLike[str] | None) -> list[Path]:
    """The ``profiles.yml`` that dbt takes when it is run here, and the one it takes in the project's own folder."""
    folders = [Path(named).expanduser()] if named else [Path.cwd(), Path.home() / ".dbt", folder]
    found = [path for one in dict.fromkeys(folders) if (path := one / "profiles.yml").is_file()]
    if not found:
        raise ProjectError(
            f"There is no profiles.yml in {' or '.join(str(f) for f in dict.fromkeys(folders))}: "
            "name its folder with --profiles-dir."
        )
    return [path for path in found if path == found[0] or path.parent == folder]


def parse_variables(text: str | None) -> dict[str, Any]:
    """``--vars``: a YAML mapping, as dbt takes it.

    Raises:
        ProjectError: where it is none.
    """
    try:
        variables = load_yaml(text or "{}")
    except yaml.YAMLError:
        variables = None
    if not isinstance(variables, dict):
        raise ProjectError("--vars is not a mapping in YAML: write for example '{schema: pr_7}'.")
    return variables


def _location(connection: Mapping[str, Any]) -> tuple[str | None, str | None]:
    database = connection.get("database") or connection.get("dbname")
    is_duckdb = connection.get("type") == "duckdb"
    if is_duckdb and not database:
        database = database_name(str(connection.get("path", ":memory:")))
    schema = connection.get("schema")
    return database, str(schema) if schema is not None else ("main" if is_duckdb else None)


def database_name(path: str) -> str:
    """What DuckDB calls the database of a file, by dbt's rule: ``my.db.duckdb`` is ``my``."""
    if path.startswith(":memory:"):
        return "memory"
    scheme, colon, rest = path.partition(":")
    if colon and scheme in ("md", "motherduck"):
        return os.path.splitext(os.path.basename(rest.partition("?")[0]))[0] or "my_db"  # noqa: PTH119, PTH122
    if colon and scheme == "ducklake":
        return os.path.splitext(os.path.basename(rest))[0].rpartition(":")[2]  # noqa: PTH119, PTH122
    return os.path.basename(path).lstrip(".").split(".")[0]  # noqa: PTH119


def _target_context(connection: Mapping[str, Any], profile: str, target: str) -> dict[str, Any]:
    database, schema = _location(connection)
    return {
        **{key: value for key, value in connection.items() if key not in _SECRETS},
        "database": database,
        "schema": schema,
        "threads": connection.get("threads", 1),
        "name": target,
        "target_name": target,
        "profile_name": profile,
    }


def _ran_with(project: Project) -> bool:
    """Whether dbt's last run here took the project's ``profiles.yml``."""
    named = project.last_run.get("args", {}).get("profiles_dir")
    if not isinstance(named, str):
        return False
    return any(_same(folder / named, project.profiles_path.parent) for folder in project._folders)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _paths(folder: Path, given: Any, default: str, config_path: Path) -> tuple[Path, ...]:
    paths = [default] if given is None else given
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ProjectError(f"{config_path}: `{default[:-1]}-paths` is a list of folders.")
    return tuple(folder / path for path in paths)


def _search_orders(given: Any, config_path: Path) -> dict[str, tuple[str, ...]]:
    orders = {}
    for entry in given or ():
        entry = entry if isinstance(entry, dict) else {}
        namespace, order = entry.get("macro_namespace"), entry.get("search_order")
        if not isinstance(namespace, str) or not isinstance(order, list):
            raise ProjectError(f"{config_path}: `dispatch` is a list of {{macro_namespace: ..., search_order: [...]}}.")
        orders.setdefault(namespace, tuple(map(str, order)))
    return orders


def _read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of dbt's, as it is written."""
    try:
        return _mapping(load_yaml(path.read_text(encoding="utf-8")), str(path))
    except yaml.MarkedYAMLError as error:
        # Not the error's own text: that quotes the line, which may hold a password.
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ProjectError(f"{path} cannot be read: {error.problem}{line}.") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError):
        raise ProjectError(f"{path} cannot be read: it is no YAML file.") from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value or {}, dict):
        raise ProjectError(f"{what} is not a mapping: see dbt's documentation of the file.")
    return value or {}
