"""Asked for many relations at once, the warehouse says of each what it says when it is asked for that one alone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from materializer.project.relation import Relation
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from materializer.warehouse.duckdb import FEW
from tests.support.cases import FEATURES

TYPES = [feature.sql for feature in FEATURES.values()] + [
    "integer", "utinyint", "hugeint", "decimal(38, 10)", "time", "interval", "uuid", "bit", "map(varchar, integer)",
    "timestamp_ns", "timestamp_s", "enum('a', 'b''c')", "mood", "varchar[][]", "struct(\"a b\" integer, c mood[])",
]  # fmt: skip


@pytest.fixture
def relations(tmp_path: Path) -> list[Relation]:
    """A table of each type, one with all of them, names that need quotes, a view, and one that is not there."""
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: warehouse.duckdb}}}"
    )
    names = [f"t{number}" for number in range(len(TYPES))]
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create type mood as enum ('sad', 'glad'); create schema other")
        for name, data_type in zip(names, TYPES, strict=True):
            connection.execute(f'create table {name} (id bigint, "The Value" {data_type}, seen_at timestamptz)')
        every = ", ".join(f"c{number} {data_type}" for number, data_type in enumerate(TYPES))
        connection.execute(f"create table every ({every}); create table other.every (one integer)")
        connection.execute('create table "a.b ""c""" (x integer); create view seen as select * from t0')
    parts = [("main", name) for name in (*names, "every", 'a.b ""c""', "seen", "absent")] + [("other", "every")]
    return [Relation(f'"warehouse"."{schema}"."{name}"') for schema, name in parts]


def test_schemas_of_many_relations_are_those_of_each(relations: list[Relation], tmp_path: Path) -> None:
    assert len(relations) > FEW
    with open_warehouse(load_project(tmp_path)) as warehouse:
        together = warehouse.schemas(relations)
        assert len(together) == len(relations) - 2
        for relation, schema in together.items():
            assert schema.equals(warehouse.schema(relation)), relation
        # A view may have changed since it was made, and what is not there has no schema: these are asked for alone.
        assert {str(one).split(".")[-1] for one in set(relations) - set(together)} == {'"seen"', '"absent"'}


def test_a_few_relations_are_asked_for_one_by_one(relations: list[Relation], tmp_path: Path) -> None:
    with open_warehouse(load_project(tmp_path)) as warehouse:
        assert warehouse.schemas(relations[: FEW - 1]) == {}
