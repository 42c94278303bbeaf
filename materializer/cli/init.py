"""``feature-store init``: a small dbt project that builds and materializes as it is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import jinja2

from materializer.errors import InputError
from materializer.macros import package_folder

_TEMPLATE = Path(__file__).parent.parent / "templates" / "project"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The dbt project's name. Default: the folder's name.")
def init(folder: Path, name: str | None) -> None:
    """Write a new dbt project with one feature view into FOLDER.

    \b
        feature-store init my_features
    """
    name = name or re.sub(r"\W+", "_", folder.resolve().name).strip("_").lower()
    if not re.fullmatch(r"[a-z_]\w*", name):
        raise InputError(f"'{name}' cannot be a dbt project's name: give one with --name, of letters, digits and _.")
    written = scaffold(folder, name)
    click.echo(f"Wrote {len(written)} files to {folder}. Next:")
    click.echo(f"  cd {folder}")
    click.echo("  dbt deps && dbt build")
    click.echo("  materialize")
    click.echo("  feature-store online user_purchases -e user_id=1")


def scaffold(folder: Path, name: str) -> list[Path]:
    """Write the template project to `folder`; nothing is written where any of its files exists.

    Raises:
        InputError: naming the file that is in the way.
    """
    environment = jinja2.Environment(keep_trailing_newline=True)
    values = {"name": name, "package": package_folder().as_posix()}
    files = {
        folder / path.relative_to(_TEMPLATE): environment.from_string(path.read_text()).render(values)
        for path in sorted(_TEMPLATE.rglob("*"))
        if path.is_file()
    }
    for path in files:
        if path.exists():
            raise InputError(f"{path} exists already: choose another folder; nothing was written.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)
