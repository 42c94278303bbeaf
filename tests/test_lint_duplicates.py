"""Features that two views compute alike are found, whatever they are called on the way; near misses are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore
from materializer.catalog.lint import Finding, lint
from materializer.project.graph import Graph
from materializer.project.manifest import read_registry
from materializer.sql.reader import Reader
from materializer.sql.signature import Followed
from tests.support.chains import SOURCES as RANDOM_SOURCES
from tests.support.chains import executed, write_chain
from tests.support.dbt import make_project
from tests.support.hand_made import manifest_of
from tests.support.pairs import BASE, DIFFERENT, MODELS, SALES, SAME, SOURCES
from tests.support.soak import first

VIEW = {"meta": {"feature_view": {"entities": ["user_id"]}}}


def view(sql: str, **more: Any) -> dict[str, Any]:
    meta = {"entities": ["user_id"], **more}
    return {"sql": sql, "config": {"meta": {"feature_view": meta}}, "patch_path": None}


def found_in(models: dict[str, Any]) -> list[Finding]:
    manifest = manifest_of(models, SOURCES)
    views = read_registry(manifest).all_views()
    return [finding for finding in lint(manifest, views, Path("/nowhere")) if finding.rule == "duplicate"]


@pytest.mark.parametrize("case", SAME)
def test_the_same_feature_under_another_name_is_found(case: str) -> None:
    one, other = SAME[case]
    (finding,) = found_in(MODELS | SALES | {"first": view(one), "second": view(other)})
    assert (finding.rule, finding.severity, finding.view) == ("duplicate", "warning", "second")
    assert "'second:" in finding.message and "'first:" in finding.message


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_near_miss_is_not_found(case: str) -> None:
    one, other = DIFFERENT[case]
    assert found_in(MODELS | SALES | {"first": view(one), "second": view(other)}) == []


def test_the_entities_must_be_the_same_columns_in_any_order() -> None:
    sql = "select user_id, shop_id, ordered_at as event_timestamp, amount from {raw.orders}"
    both, turned = {"entities": ["user_id", "shop_id"]}, {"entities": ["shop_id", "user_id"]}
    assert len(found_in({"first": view(sql, **both), "second": view(sql, **turned)})) == 1
    assert found_in({"first": view(sql, **both), "second": view(sql)}) == []
    other_key = "select order_id as user_id, ordered_at as event_timestamp, amount from {raw.orders}"
    assert (
        found_in(
            {
                "first": view(other_key),
                "second": view("select user_id, ordered_at as event_timestamp, amount from {raw.orders}"),
            }
        )
        == []
    )


def test_versions_of_one_view_and_constants_are_left_alone() -> None:
    version = {"version": 1, "latest_version": 2}
    assert (
        found_in({"v.v1": {**view(BASE), **version}, "v.v2": {**view(BASE), "version": 2, "latest_version": 2}}) == []
    )
    constant = "select user_id, ordered_at as event_timestamp, 'x' as label from {raw.orders}"
    assert found_in({"first": view(constant), "second": view(constant)}) == []


def test_each_copy_is_told_once_and_names_the_first() -> None:
    found = found_in({"a": view(BASE), "b": view(BASE), "c": view(BASE)})
    assert [(finding.view, "'a:spent'" in finding.message) for finding in found] == [("b", True), ("c", True)]


def test_what_cannot_be_followed_is_like_no_other() -> None:
    broken = "select user_id, event_timestamp, gone from {raw.nobody_knows} join {raw.nobody_else} on true"
    assert found_in({"first": view(broken), "second": view(broken)}) == []


# Random chains of SELECTs.


@pytest.mark.parametrize("seed", first(8, range(15)))
def test_columns_of_one_signature_hold_the_same_values_and_renaming_does_not_change_it(seed: int) -> None:
    chain = write_chain(seed)
    columns = {model: sorted(chain.relations[f"{{{model}}}"]) for model in chain.models}
    for model, names in columns.items():
        renamed = ", ".join(f"z.{name.upper()} as r_{name}" for name in names)
        chain.models[f"{model}_again"] = (
            f"with everything as ({chain.models[model]}) select {renamed} from everything as z"
        )
    followed = Followed(Reader(Graph(manifest_of(chain.models, RANDOM_SOURCES))))
    values = executed(chain, None)
    alike: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for model, names in columns.items():
        for name in names:
            pair = []
            for relation, column in ((model, name), (f"{model}_again", f"r_{name}")):
                query = followed.query(f"model.shop.{relation}")
                pair.append((query.columns[column].exact, query.rows))
                alike.setdefault(pair[-1], set()).add(tuple(map(repr, values[relation][column])))
            assert pair[0] == pair[1], (model, name, chain.models)
    assert all(len(different) == 1 for different in alike.values()), chain.models


# The package's windows, in every shape.

AGGREGATES = "[{'name': 'n', 'function': 'count'}, {'name': 'total', 'function': 'sum', 'expression': 'amount'}]"


def windows(aggregates: str = AGGREGATES, shape: str = "dense", windows: str = "['7 days']", more: str = "") -> str:
    return (
        "{{ feature_store.window_aggregates(relation=source('raw', 'orders'), entities='user_id', "
        f"timestamp='ordered_at', aggregates={aggregates}, windows={windows}, shape='{shape}'{more}) }}}}"
    )


WINDOWED = {
    "base": windows(),
    "other_shape": windows(shape="range"),
    "more_windows": windows(windows="['30 days', '7 days']"),
    "renamed": windows(AGGREGATES.replace("'total'", "'spent'").replace("'n'", "'orders'")),
    "staged": windows().replace("source('raw', 'orders')", "ref('staged_orders')").replace("ordered_at", "at").replace("'amount'", "'value'"),
    # Near misses of all of these, and of each other.
    "other_grain": windows(more=", grain='event'"),
    "every_day": windows(more=", grain={'every': '1 day'}"),
    "every_hour": windows(more=", grain={'every': '1 hour'}"),
    "late": windows(more=", created_timestamp='loaded_at'"),
    "other_entity": windows().replace("entities='user_id'", "entities=['user_id', 'shop_id']"),
    "filtered": windows(AGGREGATES.replace("}]", ", 'where': 'shop_id > 1'}]").replace("'count'}", "'count', 'where': 'shop_id > 1'}")),
    "other_column": windows("[{'name': 'total', 'function': 'sum', 'expression': 'shop_id'}]"),
    "other_function": windows("[{'name': 'total', 'function': 'avg', 'expression': 'amount'}]"),
    "of_sales": windows().replace("source('raw', 'orders')", "ref('sales')"),
}  # fmt: skip
GROUPS = {"base", "other_shape", "more_windows", "renamed", "staged"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    project = make_project(
        tmp_path_factory.mktemp("duplicates"),
        {
            "models/sources.yml": {"sources": [{"name": "raw", "schema": "main", "tables": [{"name": "orders"}]}]},
            "models/staged_orders.sql": "select user_id, ordered_at as at, amount as value from {{ source('raw', 'orders') }}",
            "models/sales.sql": "select * from {{ source('raw', 'orders') }} where kind = 'sale'",
            **{f"models/{name}.sql": sql for name, sql in WINDOWED.items()},
            "models/views.yml": {
                "models": [
                    {
                        "name": name,
                        "config": {
                            "meta": {"feature_view": {"entities": ["user_id"] + ["shop_id"] * (name == "other_entity")}}
                        },
                        "columns": [{"name": "n_7d", "description": "x", "data_type": "bigint"}],
                    }
                    for name in WINDOWED
                ]
            },
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table orders as select 1::bigint user_id, 2::bigint shop_id, 3::bigint amount, 'sale' kind,"
            " now() ordered_at, now() loaded_at"
        )
    project.dbt("run", "--select", "staged_orders", "sales")
    project.dbt("compile")
    return [finding for finding in FeatureStore(project_dir=project.folder).lint() if finding.rule == "duplicate"]


def test_the_same_window_is_found_whatever_its_shape_its_name_and_the_windows_beside_it(found: list[Finding]) -> None:
    assert {finding.view for finding in found} == GROUPS - {"base"}
    assert all("'base:n_7d'" in finding.message or "'base:total_7d'" in finding.message for finding in found)
    assert len(found) == 2 * len(GROUPS - {"base"})


def test_a_finding_points_at_the_features_declaration(found: list[Finding]) -> None:
    places = {finding.message.split("'")[1]: (finding.file, finding.line) for finding in found}
    assert places["other_shape:n_7d"][0] == "models/views.yml" and places["other_shape:n_7d"][1] > 1
    assert places["other_shape:total_7d"] == ("models/other_shape.sql", 1)
