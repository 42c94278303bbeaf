"""The command line: ``feature-store`` with its commands, and ``materialize`` for the main one."""

from __future__ import annotations

from importlib import import_module

import click

from materializer.cli.common import refuse_empty_texts, run

# What `feature-store --help` shows. Each command is in the module of its name, imported only when it is run.
COMMANDS = {
    "Begin": {
        "init": "Write a new project, add to one, or move from Feast.",
        "doctor": "Check project, warehouse, views and Redis.",
        "redis": "Start, stop or find the project's private Redis.",
    },
    "Use": {
        "materialize": "Make the online store equal to the latest rows.",
        "online": "Read features of entities from the online store.",
        "serve": "Serve features over HTTP.",
        "stream": "Land events of Kafka topics as rows of dbt sources.",
        "training": "Join features to labels, as of each label's moment.",
        "prune": "Remove from Redis what is not declared any more.",
    },
    "Explore": {
        "list": "List views, features, entities or services.",
        "show": "Show one view, feature, entity or service.",
        "search": "Find them by name, tag, owner, type, description.",
        "lineage": "Trace a feature to its source columns, or onwards.",
        "stats": "What the values look like, and how they drift.",
        "catalog": "All of it as one page, for people and programs.",
        "mcp": "All of it for an agent: read-only tools over stdio.",
    },
    "Trust": {
        "freshness": "Compare the newest rows and runs with their limits.",
        "lint": "Find leaks, broken services and features made twice.",
        "diff": "What a change does to features and services.",
        "skew": "Was what was served what training would see?",
    },
}


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return [name for names in COMMANDS.values() for name in names]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return command(name) if name in self.list_commands(context) else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(11), said) for name, said in commands.items()])


def command(name: str) -> click.Command:
    """The command of this name."""
    found = getattr(import_module(f"materializer.cli.{name}"), "list_" if name == "list" else name)
    refuse_empty_texts(found)
    return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbt-feature-store")
def feature_store() -> None:
    """dbt is the feature store: training sets, online features and the catalog from dbt models."""


def main() -> None:
    """The ``feature-store`` program."""
    run(feature_store, "feature-store")


def materialize_main() -> None:
    """The ``materialize`` program."""
    run(command("materialize"), "materialize")
