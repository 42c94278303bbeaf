"""Where a dbt project lives and what its profile says: read from files, without importing dbt."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from materializer.errors import ProjectError
from materializer.sandbox import sandbox
from materializer.yaml_files import load_yaml

_OF_THE_PROJECT = ("name", "profile", "target-path", "model-paths")


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

    @property
    def namespace(self) -> str:
        """The namespace of this project's rows online, unless the user names another."""
        return f"{self.name}.{self.target}"

    @property
    def manifest_path(self) -> Path:
        return self.target_folder / "manifest.json"


def load_project(
    project_dir: str | os.PathLike[str] | None = None,
    profiles_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
) -> Project:
    """Read ``dbt_project.yml`` and the profile it names, as dbt would find them.

    Args:
        project_dir: default ``DBT_PROJECT_DIR``, else the current folder.
        profiles_dir: default ``DBT_PROFILES_DIR``, else the project's folder, the current folder or ``~/.dbt``,
            whichever has a ``profiles.yml``.
        target: default ``DBT_TARGET``, else the profile's own.

    Raises:
        ProjectError: where one of them is missing or cannot be read.
    """
    folder = Path(project_dir or os.environ.get("DBT_PROJECT_DIR") or ".").expanduser().resolve()
    config_path = folder / "dbt_project.yml"
    if not config_path.is_file():
        raise ProjectError(f"There is no dbt_project.yml in {folder}: name the dbt project with --project-dir.")
    config = _read_yaml(config_path)
    # dbt may render hooks and vars with macros; what is asked for here needs none of them.
    config = _rendered({key: config[key] for key in _OF_THE_PROJECT if key in config}, config_path)
    name = config.get("name")
    if not isinstance(name, str):
        raise ProjectError(f"{config_path} gives the project no name.")

    target_folder = os.environ.get("DBT_TARGET_PATH") or config.get("target-path") or "target"
    profile = os.environ.get("DBT_PROFILE") or config.get("profile") or name
    profiles_path = find_profiles(folder, profiles_dir)
    profiles = _read_yaml(profiles_path)
    if profile not in profiles:
        known = ", ".join(sorted(str(key) for key in profiles if key != "config")) or "none"
        raise ProjectError(f"{profiles_path} has no profile '{profile}', which {config_path} names; it has: {known}.")
    settings = _mapping(profiles[profile], f"Profile '{profile}' in {profiles_path}")
    outputs = _mapping(settings.get("outputs"), f"`outputs` of profile '{profile}' in {profiles_path}")
    target = target or os.environ.get("DBT_TARGET") or _rendered(settings.get("target"), profiles_path) or "default"
    if target not in outputs:
        known = ", ".join(sorted(map(str, outputs))) or "none"
        raise ProjectError(f"Profile '{profile}' in {profiles_path} has no target '{target}'; it has: {known}.")
    return Project(
        folder=folder,
        name=name,
        target_folder=folder / target_folder,
        model_folders=tuple(folder / path for path in config.get("model-paths") or ["models"]),
        profile=profile,
        target=target,
        # Only the chosen one: the others may need variables that are not set here.
        connection=_mapping(
            _rendered(outputs[target], profiles_path), f"Target '{target}' of profile '{profile}' in {profiles_path}"
        ),
    )


def find_profiles(folder: Path, profiles_dir: str | os.PathLike[str] | None) -> Path:
    """The ``profiles.yml`` that dbt would take.

    Raises:
        ProjectError: where there is none.
    """
    named = profiles_dir or os.environ.get("DBT_PROFILES_DIR")
    folders = [Path(named).expanduser()] if named else [folder, Path.cwd(), Path.home() / ".dbt"]
    for candidate in folders:
        if (candidate / "profiles.yml").is_file():
            return candidate / "profiles.yml"
    raise ProjectError(
        f"There is no profiles.yml in {' or '.join(str(f) for f in dict.fromkeys(folders))}: "
        "name its folder with --profiles-dir."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of dbt's, as it is written."""
    try:
        return _mapping(load_yaml(path.read_text()), str(path))
    except yaml.MarkedYAMLError as error:
        # Not the error's own text: that quotes the line, which may hold a password.
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ProjectError(f"{path} cannot be read: {error.problem}{line}.") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        raise ProjectError(f"{path} cannot be read: it is no YAML file.") from None


def _rendered(value: Any, path: Path) -> Any:
    """A value of the file at `path` with ``{{ env_var(...) }}`` in it rendered."""

    def env_var(name: str, default: str | None = None) -> str:
        value = os.environ.get(name, default)
        if value is None:
            raise ProjectError(f"{path} needs the environment variable {name}, which is not set.")
        return value

    environment = sandbox(undefined=jinja2.ChainableUndefined)
    # dbt's own filters: they choose a type, which `_render` does anyway.
    environment.filters |= dict.fromkeys(("as_text", "as_bool", "as_number", "as_native"), lambda value: value)
    try:
        return _render(value, environment, {"env_var": env_var, "var": lambda _, default=None: default})
    except jinja2.TemplateError as error:
        raise ProjectError(f"{path} cannot be rendered: {error.message}.") from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value or {}, dict):
        raise ProjectError(f"{what} is not a mapping: see dbt's documentation of the file.")
    return value or {}


def _render(value: Any, environment: jinja2.Environment, context: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _render(item, environment, context) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, environment, context) for item in value]
    if isinstance(value, str) and "{{" in value:
        rendered = environment.from_string(value).render(context)
        return int(rendered) if rendered.isdecimal() else rendered
    return value
