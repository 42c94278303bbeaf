"""What every command shares: its options, and how it says that something went wrong."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from materializer.errors import FeatureStoreError, InputError
from materializer.printable import printable, printable_json
from materializer.project.duration import format_duration
from materializer.project.locate import project_in_reach

if TYPE_CHECKING:
    from materializer.project.settings import Project
    from materializer.store import FeatureStore


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command as a program: exit code 0 done, 1 the work failed, 2 wrong usage."""
    warnings.showwarning = lambda message, *_, **__: say(f"Warning: {message}", err=True)
    try:
        # Without standalone mode click returns the code of `context.exit(code)`, or what the command returned.
        code = command.main(prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        say("Stopped.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if isinstance(error.message, str):
            error.message = printable(error.message)
        error.show()
        sys.exit(2)
    except FeatureStoreError as error:
        say(f"Error: {error.on_command_line or error}", err=True)
        sys.exit(1)
    except RecursionError:
        say("Error: a file of this project, or SQL in it, is nested deeper than can be read.", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the reader left, as `head` does
        sys.exit(1)


def refuse_empty_texts(command: click.Command) -> None:
    """Make an empty text wrong usage in every option and argument of a command and of those below it.

    ``--namespace "$UNSET"`` must not mean what no ``--namespace`` means.
    """
    for below in getattr(command, "commands", {}).values():
        refuse_empty_texts(below)
    for parameter in command.params:
        if not isinstance(parameter.process_value, partial):
            parameter.process_value = partial(_not_empty, parameter, parameter.process_value)


def _not_empty(parameter: click.Parameter, process: Callable[..., Any], context: click.Context, value: Any) -> Any:
    """What `process` makes of a parameter's value as it was given, where no text in it is empty."""
    for text in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(text, str) and not text.strip():
            raise click.BadParameter("an empty text was given: leave it out, or give it a value.", context, parameter)
    return process(context, value)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that works on a store; `open_store` takes them."""
    for option in reversed(
        (
            click.option("--project-dir", help="The dbt project. Default: DBT_PROJECT_DIR, else the current folder."),
            click.option("--profiles-dir", help="The folder of profiles.yml. Default: as dbt finds it."),
            click.option("--target", "-t", help="The target of the dbt profile. Default: the profile's own."),
            click.option("--vars", "variables", metavar="YAML", help="dbt's --vars, such as '{schema: pr_7}'."),
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
        from materializer.catalog import webhook

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
    variables: str | None = None,
    reader: bool = False,
    starts_redis: bool = False,
) -> FeatureStore:
    """The store that the common options name. A `reader` needs no project where none is named and none is here; with
    `starts_redis` the project's private server is started where a person at a terminal has no other."""
    if namespace and not namespace.isprintable():
        raise click.UsageError(f"--namespace is a name of letters that can be seen, not '{printable(namespace)}'.")
    from materializer.online.urls import named_url
    from materializer.online.urls import redis_url as default_url
    from materializer.project.settings import parse_variables
    from materializer.store import FeatureStore

    folder = project_dir or project_in_reach()
    if reader and not folder:
        return FeatureStore(redis_url=default_url(redis_url), namespace=namespace)
    store = FeatureStore(
        folder or ".", target=target, profiles_dir=profiles_dir, redis_url=redis_url, namespace=namespace,
        vars=parse_variables(variables),
    )  # fmt: skip
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
    from materializer.online.urls import private_url, somebody_listens

    if url := private_url(project.folder):
        say(f"Using this project's private Redis at {url}.", err=True)
    elif sys.platform != "win32" and project.manifest_path.is_file() and not somebody_listens():
        from materializer.online import local as local_redis

        url = local_redis.start(local_redis.folder_of(project.folder))
        say(
            f"Started a private Redis for this project at {url}, with its data in .redis/; "
            "`feature-store redis stop` ends it.",
            err=True,
        )


def say(line: str = "", err: bool = False) -> None:
    """One line on stdout or stderr. What a project says comes from strangers too: nothing in it reaches the terminal
    but letters."""
    click.echo(printable(line), err=err)


def brief(description: str | None) -> str:
    """A description in a table: without the line end that a block in YAML leaves behind it."""
    return (description or "").strip()


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(printable_json(value, indent=2, default=_json_value))


def print_rows(headers: list[str], rows: list[list[Any]], widest: int = 60) -> None:
    """Columns under headings, as wide as they need to be; a text of more than `widest` letters is cut."""
    cells = [[_cell(value, widest) for value in row] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any, widest: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    text = ", ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else str(value)
    text = printable(text)
    return text if len(text) <= widest else text[: widest - 3] + "..."


def _json_value(value: Any) -> Any:
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def key_values(text: str) -> dict[str, Any]:
    """``user_id=1,item_id=a`` or ``{"user_id": 1, "item_id": "a"}`` as a dict.

    A comma belongs to a value where no ``key=`` follows it; the JSON form takes any value.

    Raises:
        InputError: where there is no equals sign, a key stands twice, or the JSON is none.
    """
    if text.lstrip().startswith("{"):
        try:
            pairs = [(name, value) for name, value in json.loads(text, object_pairs_hook=list, parse_float=Decimal)]
        except ValueError as error:
            raise InputError(f"'{text}' is no JSON object such as {{\"user_id\": 1}}: {error}.") from None
    else:
        pairs = []
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if equals and name:
                pairs.append((name, value))
            elif pairs and not equals:
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{part}")
            else:
                raise InputError(f"'{part}' is not a join key and its value: write for example user_id=1.")
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"'{text}' has '{name}' twice: give each entity an --entity of its own.")
    return dict(pairs)
