"""What every command shares: its options, and how it says that something went wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, NoReturn

import click

from materializer.duration import format_duration
from materializer.errors import FeatureStoreError, InputError
from materializer.online.connect import named_url, private_url, somebody_listens
from materializer.project import Project
from materializer.store import FeatureStore


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command as a program: exit code 0 done, 1 the work failed, 2 wrong usage."""
    try:
        # Without standalone mode click returns the code of `context.exit(code)`, or what the command returned.
        code = command.main(prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except FeatureStoreError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the reader left, as `head` does
        sys.exit(1)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that works on a store; `open_store` takes them."""
    for option in reversed(
        (
            click.option("--project-dir", help="The dbt project. Default: DBT_PROJECT_DIR, else the current folder."),
            click.option("--profiles-dir", help="The folder of profiles.yml. Default: as dbt finds it."),
            click.option("--target", "-t", help="The target of the dbt profile. Default: the profile's own."),
            click.option(
                "--redis-url",
                help="Default: FEATURE_STORE_REDIS_URL, else the project's "
                "private server (`feature-store redis`), else redis://127.0.0.1:6379/0.",
            ),
            click.option("--namespace", help="Default: <dbt project>.<target>."),
        )
    ):
        command = option(command)
    return command


output_option = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print."
)


def webhook_option(when: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--webhook URL``, passed on as `url`; `when` says what makes a command post its report there."""

    def checked(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
        from materializer import webhook

        try:
            if url:
                webhook.check_url(url)
        except InputError as error:
            raise click.UsageError(str(error)) from None
        return url or None

    return click.option(
        "--webhook", "url", envvar="FEATURE_STORE_WEBHOOK_URL", metavar="URL", callback=checked,
        help=f"POST the report there {when}. Default: FEATURE_STORE_WEBHOOK_URL.",
    )  # fmt: skip


def open_store(
    project_dir: str | None,
    profiles_dir: str | None,
    target: str | None,
    redis_url: str | None,
    namespace: str | None,
    reader: bool = False,
    starts_redis: bool = False,
) -> FeatureStore:
    """The store that the common options name. A `reader` needs no project where none is named and none is here; with
    `starts_redis` the project's private server is started where a person at a terminal has no other."""
    folder = project_dir or os.environ.get("DBT_PROJECT_DIR")
    if reader and not folder and not os.path.exists("dbt_project.yml"):  # noqa: PTH110
        from materializer.online.connect import redis_url as default_url

        return FeatureStore(redis_url=default_url(redis_url), namespace=namespace)
    store = FeatureStore(
        folder or ".", target=target, profiles_dir=profiles_dir, redis_url=redis_url, namespace=namespace
    )
    if starts_redis and at_a_terminal() and not named_url(redis_url):
        _private_redis(store.project)
    return store


def at_a_terminal() -> bool:
    """Whether a person is looking: both outputs are a terminal, and it is no CI job."""
    return sys.stdout.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def _private_redis(project: Project) -> None:
    """Find the project's private server, or start it where no server listens at the default place; and say so.

    For a project that was never built none is started: there is nothing to send or read.
    """
    if url := private_url(project.folder):
        click.echo(f"Using this project's private Redis at {url}.", err=True)
    elif sys.platform != "win32" and project.manifest_path.is_file() and not somebody_listens():
        from materializer import local_redis

        url = local_redis.start(local_redis.folder_of(project.folder))
        click.echo(
            f"Started a private Redis for this project at {url}, with its data in .redis/; "
            "`feature-store redis stop` ends it.",
            err=True,
        )


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, default=_json_value, ensure_ascii=False))


def print_rows(headers: list[str], rows: list[list[Any]]) -> None:
    """Columns under headings, as wide as they need to be."""
    cells = [headers, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    text = ", ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _json_value(value: Any) -> Any:
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def key_values(texts: tuple[str, ...]) -> dict[str, str]:
    """``("user_id=1", "item_id=2")`` as a dict.

    Raises:
        InputError: where one has no equals sign.
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"'{text}' is not a join key and its value: write for example user_id=1.")
        pairs[name] = value
    return pairs
