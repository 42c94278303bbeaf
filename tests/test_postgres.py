"""The macros on PostgreSQL give the rows of the golden suite, in a database that sorts text otherwise than by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import golden
from tests.support.golden import MODELS, Rows
from tests.support.two_engines import overlong, two_engines


@dataclass(frozen=True)
class Built:
    """The rows of a model on both engines."""

    duckdb: dict[str, Rows]
    postgres: dict[str, Rows]
    overlong: list[tuple[str, str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with two_engines(tmp_path_factory.mktemp("golden"), golden.FILES) as engines:
        for table, (columns, rows) in golden.tables().items():
            engines.create(table, columns, rows)
        engines.dbt("build")
        found = {name: engines.rows(name) for name in MODELS}
        lines = overlong(engines.postgres)
    ours = {name: one for name, (one, _) in found.items()}
    theirs = {name: other for name, (_, other) in found.items()}
    yield Built(ours, theirs, lines)


@pytest.mark.parametrize("model", [name for name, (_, key) in MODELS.items() if key])
def test_postgres_gives_the_rows_of_duckdb(built: Built, model: str) -> None:
    assert golden.differences(model, built.duckdb[model], built.postgres[model]) == []


@pytest.mark.parametrize("model", golden.BY_THE_RULE)
def test_the_rows_are_what_the_rule_says(built: Built, model: str) -> None:
    assert golden.unlike_the_rule(model, built.duckdb[model]) == []
    assert golden.unlike_the_rule(model, built.postgres[model]) == []


@pytest.mark.parametrize("model", ["training", "strict", "hindsight", "as_of", "as_of_loaded"])
def test_rows_come_back_in_the_order_of_the_spine(built: Built, model: str) -> None:
    assert [row["no"] for row in built.postgres[model]] == [row["no"] for row in built.duckdb[model]]
    assert len(built.postgres[model]) == 500


def test_people_can_read_what_is_compiled(built: Built) -> None:
    assert built.overlong == []
