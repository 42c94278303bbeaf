"""The command line: ``feature-store`` with its commands, and ``materialize`` for the main one."""

from __future__ import annotations

import click

from materializer.cli.common import run
from materializer.cli.diff import diff
from materializer.cli.doctor import doctor
from materializer.cli.freshness import freshness
from materializer.cli.init import init
from materializer.cli.lineage import lineage
from materializer.cli.lint import lint
from materializer.cli.list import list_
from materializer.cli.materialize import materialize
from materializer.cli.online import online
from materializer.cli.prune import prune
from materializer.cli.redis import redis
from materializer.cli.search import search
from materializer.cli.show import show
from materializer.cli.stats import stats
from materializer.cli.training import training


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbt-feature-store")
def feature_store() -> None:
    """dbt is the feature store: training sets, online features and the catalog from dbt models."""


for command in (
    init, list_, show, search, lineage, stats, freshness, lint, diff, materialize, online, training, prune, redis,
    doctor,
):  # fmt: skip
    feature_store.add_command(command)


def main() -> None:
    """The ``feature-store`` program."""
    run(feature_store, "feature-store")


def materialize_main() -> None:
    """The ``materialize`` program."""
    run(materialize, "materialize")
