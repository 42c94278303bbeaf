"""The command line: ``feature-store`` with its commands, and ``materialize`` for the main one."""

from __future__ import annotations

import click

from materializer.cli.common import run
from materializer.cli.doctor import doctor
from materializer.cli.init import init
from materializer.cli.inspect import list_, show
from materializer.cli.lint import lint
from materializer.cli.materialize import materialize
from materializer.cli.prune import prune
from materializer.cli.read import online, training


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbt-feature-store")
def feature_store() -> None:
    """dbt is the feature store: training sets, online features and the catalog from dbt models."""


for command in (init, list_, show, materialize, online, training, lint, prune, doctor):
    feature_store.add_command(command)


def main() -> None:
    """The ``feature-store`` program."""
    run(feature_store, "feature-store")


def materialize_main() -> None:
    """The ``materialize`` program."""
    run(materialize, "materialize")
