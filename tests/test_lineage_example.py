"""The lineage of every feature of the example shop, as a person who read its SQL says it is; and the command that shows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from materializer import FeatureStore
from materializer.project import compiled
from materializer.project.revisions import Compiled
from materializer.project.settings import Project
from materializer.sql.drawings import called, label
from materializer.sql.lineage import Lineage
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.example import compiled_example

# Which rows of user_features there are: sign-ups, and purchases as they come in and fall out of a window.
USER_ROWS = "users:user_id purchases:user_id purchases:purchased_at purchases:loaded_at"
# Which days an item has: every day on which anything happened, once it is listed.
ITEM_ROWS = (
    "items:item_id items:listed_at page_views:item_id page_views:viewed_at purchases:item_id purchases:purchased_at"
)
# What a user did with an item counts from when it was loaded on.
BOTH_ROWS = " ".join(
    f"{table}:{column}"
    for table, time in (("page_views", "viewed_at"), ("purchases", "purchased_at"))
    for column in ("user_id", "item_id", time, "loaded_at")
)

# Every feature: the columns of raw tables whose values are in it, the tables whose rows are counted, what filters.
EXPECTED = {
    "user_features:age": ("users:age", "", USER_ROWS),
    "user_features:gender": ("users:gender", "", USER_ROWS),
    "user_features:purchase_count_7d": ("", "purchases", USER_ROWS),
    "user_features:purchase_count_30d": ("", "purchases", USER_ROWS),
    "user_features:avg_order_value": ("purchases:amount", "", USER_ROWS),
    "user_features:user_embedding": ("users:embedding", "", USER_ROWS),
    "user_features:amount_against_usual": ("purchases:amount", "", USER_ROWS),
    "item_features:category": ("items:category", "", ITEM_ROWS),
    "item_features:price": ("items:price", "", ITEM_ROWS),
    "item_features:popularity_score": ("", "page_views purchases", ITEM_ROWS),
    "item_features:item_embedding": ("items:embedding", "", ITEM_ROWS),
    "user_item_affinity:item_views_30d": ("", "page_views purchases", BOTH_ROWS),
    "user_item_affinity:item_purchases_30d": ("", "page_views purchases", BOTH_ROWS),
    "user_item_affinity:affinity_score": ("", "page_views purchases", BOTH_ROWS),
    # Not features, but what a training set is joined from.
    "bought_after_view:bought": (
        "",
        "purchases",
        "page_views:view_id page_views:user_id page_views:item_id page_views:viewed_at purchases:user_id purchases:item_id purchases:purchased_at",
    ),
    "training_set:avg_order_value": ("purchases:amount", "", None),
    "training_set:affinity_score": ("", "page_views purchases", None),
    "training_set:category": ("items:category", "", None),
}


@pytest.fixture(scope="module")
def example() -> DbtProject:
    """The example as it is, compiled: its SQL is all that is asked, so that nothing need be built."""
    return compiled_example()


@pytest.fixture(scope="module")
def store(example: DbtProject) -> FeatureStore:
    return FeatureStore(project_dir=example.folder)


def raw(lineage: Lineage, what: str) -> set[str]:
    return {
        label(column).removeprefix("raw.") for column in getattr(lineage, what) if column.node.startswith("source.")
    }


@pytest.mark.parametrize("reference", EXPECTED)
def test_the_lineage_of_a_feature_is_what_its_sql_says(reference: str, store: FeatureStore) -> None:
    values, counted, filters = EXPECTED[reference]
    (lineage,) = store.get_lineage(reference)
    assert not lineage.unresolved
    assert raw(lineage, "sources") == raw(lineage, "values") == set(values.split())
    assert {one.removesuffix(":*") for one in raw(lineage, "counted")} == set(counted.split())
    if filters is not None:
        assert raw(lineage, "filters") == set(filters.split()) - set(values.split())


def test_every_feature_of_the_example_is_among_those_checked_by_hand(store: FeatureStore) -> None:
    views = ["user_features", "item_features", "user_item_affinity"]
    there = {label(lineage.start) for view in views for lineage in store.get_lineage(view)}
    assert there == {reference for reference in EXPECTED if reference.split(":")[0] in views}
    assert {called(unique_id) for unique_id in store.get_lineage("user_features:age")[0].views} == {"user_features"}


def test_forward_an_amount_reaches_the_features_the_service_and_the_training_set(store: FeatureStore) -> None:
    (lineage,) = store.get_lineage("raw.purchases:amount", downstream=True)
    assert {label(column) for column in lineage.values} == {
        "stg_purchases:amount",
        "user_purchase_windows:order_value_7d",
        "user_purchase_windows:order_value_30d",
        "user_features:avg_order_value",
        "user_features:amount_against_usual",
        "training_set:avg_order_value",
        "recommendation (user_features:avg_order_value)",
        "checkout (user_features:avg_order_value)",
        "checkout (user_features:amount_against_usual)",
    }


def test_the_command_shows_every_step_with_its_expression(example: DbtProject) -> None:
    shown = run("feature-store", "lineage", "user_features:avg_order_value", "--project-dir", str(example.folder))
    assert shown.code == 0
    assert [line.split(" = ")[0].strip() for line in shown.out.split("\n\n")[0].splitlines()] == [
        "user_features:avg_order_value",
        "user_features[final]:avg_order_value",
        "user_features[moments]:avg_order_value",
        "user_features[windows]:order_value_30d",
        "user_purchase_windows:order_value_30d",
        "stg_purchases:amount",
        "stg_purchases[final]:amount",
        "stg_purchases[source]:amount",
        "raw.purchases:amount  (source)",
    ]
    assert 'order_value_30d = avg(amount) over 30 days, known from "loaded_at"\n' in shown.out
    assert "values from:     raw.purchases:amount\n" in shown.out


def test_the_command_gives_json_and_drawings(example: DbtProject) -> None:
    where = ("--project-dir", str(example.folder))
    answer = run("feature-store", "lineage", "user_features", "--output", "json", *where).json
    assert [one["column"]["name"] for one in answer["lineages"]] == [
        reference.split(":")[1] for reference in EXPECTED if reference.startswith("user_features:")
    ]
    age = answer["lineages"][0]
    assert [one["reference"] for one in age["sources"]] == ["raw.users:age"]
    assert {"source", "target", "kind", "expression"} == set(age["edges"][0])
    assert "flowchart LR" in run("feature-store", "lineage", "user_features:age", "--output", "mermaid", *where).out
    assert run("feature-store", "lineage", "user_features:age", "--output", "dot", *where).out.startswith("digraph")
    forward = run("feature-store", "lineage", "raw.purchases:amount", "--downstream", *where).out
    assert "recommendation (user_features:avg_order_value)" in forward


def test_the_command_says_what_there_is_where_a_name_is_wrong(example: DbtProject) -> None:
    wrong = run("feature-store", "lineage", "user_features:agge", "--project-dir", str(example.folder))
    assert wrong.code == 1 and not wrong.out
    assert "Feature view 'user_features' has no feature 'agge'; it has: age, gender," in wrong.err


def test_what_dbt_has_only_parsed_is_compiled_for_its_lineage(
    example: DbtProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for lint, for which dbt does it in a process of its own in `tests/test_dbts_habits.py`."""
    project = copy_of(example, tmp_path / "parsed")
    shutil.rmtree(project.folder / "target" / "compiled")
    (project.folder / "target" / "manifest.json").unlink()
    project.dbt("parse")
    assert not project.manifest()["nodes"]["model.shop.user_features"].get("compiled_code")
    asked = []

    def compile_all(project: Project, commits: Sequence[object], opened: object) -> tuple[list[Compiled], list[str]]:
        asked.append((project.folder, commits))
        return [Compiled(example.manifest())], []

    monkeypatch.setattr(compiled, "compile_all", compile_all)
    (lineage,) = FeatureStore(project_dir=project.folder).get_lineage("user_features:avg_order_value")
    assert raw(lineage, "sources") == {"purchases:amount"} and not lineage.unresolved
    assert asked == [(project.folder, [None])]
    (lineage,) = FeatureStore(project_dir=project.folder).get_lineage("raw.purchases:amount", downstream=True)
    assert "recommendation (user_features:avg_order_value)" in {label(column) for column in lineage.values}


def test_a_seed_with_no_declared_columns_is_known_by_its_file(tmp_path: Path) -> None:
    from materializer.catalog.lineage import built_columns
    from materializer.project.settings import load_project

    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "kinds.csv").write_text('\ufeffkind,"a, label"\nx,y\n')
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    outputs = {"dev": {"type": "duckdb", "path": "none.duckdb"}}
    (tmp_path / "profiles.yml").write_text(json.dumps({"shop": {"target": "dev", "outputs": outputs}}))
    seed = {
        "resource_type": "seed",
        "package_name": "shop",
        "original_file_path": "seeds/kinds.csv",
        "relation_name": "x",
    }
    with built_columns(load_project(tmp_path)) as built:
        assert built(seed) == ["kind", "a, label"]
        assert built({"resource_type": "source", "relation_name": '"a"."b"."c"'}) is None
