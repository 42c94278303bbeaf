"""A manifest with something missing, null or of another type: a sentence, or an answer without it; never a traceback."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore, FeatureStoreError, ProjectError
from materializer.project import compiled
from tests.support.manifests import bare_project, manifest, write_manifest

MISSING = object()
OTHERS = [MISSING, None, 5, "x", True, [], {}, [None], {"x": None}, -1.5]
# How many of all damages are tried; FEATURE_STORE_EVERY_DAMAGE=1 tries every one.
SAMPLE = 40

VIEW = "select 1::bigint as user_id, timestamp '2026-01-01' as event_timestamp, 2.5::double as spent, 'x' as plan"
CONTENT = manifest(
    {
        "events": {"sql": "select * from {{ source('raw', 'events') }}", "columns": {"user_id": "bigint"}},
        "users": {
            "sql": "select user_id, event_timestamp, spent, plan from {{ ref('events') }}",
            "columns": {"user_id": "bigint", "spent": "double"},
            "config": {"meta": {"feature_view": {
                "entities": ["user_id"], "ttl": "30 days", "tags": {"team": "a"}, "freshness": {"warn_after": "1 day"},
            }}, "group": "ml"},
        },
        "prices.v1": "select user_id, event_timestamp, spent from {{ ref('events') }}",
        "prices.v2": "select user_id, event_timestamp, spent as price from {{ ref('events') }}",
    },
    views={"prices": {"entities": ["user_id"]}},
    services={"ranking": ["users:spent", "prices.v1:spent"]},
)  # fmt: skip
CONTENT["groups"] = {"group.shop.ml": {"name": "ml", "owner": {"name": "M"}}}
CONTENT["disabled"] = {"model.shop.old": [copy.deepcopy(CONTENT["nodes"]["model.shop.prices.v1"]) | {"name": "old"}]}
CONTENT["nodes"]["test.shop.t"] = {
    "unique_id": "test.shop.t", "resource_type": "test", "name": "t", "package_name": "shop",
    "depends_on": {"nodes": ["model.shop.users"]}, "attached_node": "model.shop.users", "column_name": "spent",
    "test_metadata": {"name": "not_null", "namespace": None}, "config": {},
}  # fmt: skip
CONTENT["unit_tests"] = {"unit_test.shop.users.u": {"name": "u", "depends_on": {"nodes": ["model.shop.users"]}}}
CONTENT["macros"] = {
    "macro.shop.own": {"name": "own", "package_name": "shop", "macro_sql": "{% macro own() %}1{% endmacro %}",
                       "depends_on": {"macros": []}},
}  # fmt: skip


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value below its top."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from paths(item, (*above, key))


def damaged(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    holder: Any = content
    for key in path[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = copy.deepcopy(value)
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose manifest will be damaged, with the relations that it names."""
    folder = bare_project(tmp_path_factory.mktemp("damaged"))
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        for name in ("users", "events", "prices_v1"):
            connection.execute(f"create table {name} as {VIEW}")
        connection.execute(f"create table prices_v2 as select * rename (spent as price) from ({VIEW})")
        connection.execute("create schema raw; create table raw.events as from events")
    for node in CONTENT["nodes"].values():
        if "original_file_path" in node:
            (folder / "models").mkdir(exist_ok=True)
            (folder / node["original_file_path"]).write_text(node["raw_code"])
    write_manifest(folder / "whole" / "manifest.json", CONTENT)
    return folder


def commands(store: FeatureStore, folder: Path) -> dict[str, Callable[[], Any]]:
    return {
        "list views": store.list_feature_views,
        "list services": store.list_feature_services,
        "show": lambda: [store.get_neighbours(name) for name in ("users", "prices")],
        "search": lambda: store.search("spent"),
        "lineage": lambda: [store.get_lineage(name) for name in ("users:spent", "prices.v2")],
        "lineage downstream": lambda: store.get_lineage("raw.events:spent", downstream=True),
        "lint": store.lint,
        "diff": lambda: [store.diff(folder / "whole"), store.diff("prices.v1", "prices")],
        "statistics": lambda: store.get_statistics("users"),
        "training": lambda: store.get_historical_features(
            "select 1::bigint as user_id, now() as event_timestamp", ["users:spent", "prices:price"]
        ).to_arrow(),
        "a service": lambda: store.get_feature_service("ranking"),
    }


def test_the_whole_manifest_answers_everything(folder: Path) -> None:
    write_manifest(folder / "target" / "manifest.json", CONTENT)
    for work in commands(FeatureStore(folder), folder).values():
        assert work()


def test_whatever_is_damaged_is_said_in_a_sentence_or_does_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_dbt(*_: Any) -> None:
        raise ProjectError("dbt is not asked here.")

    monkeypatch.setattr(compiled, "compile_all", no_dbt)
    damages = [(path, value) for path in paths(CONTENT) for value in OTHERS]
    everything = os.environ.get("FEATURE_STORE_EVERY_DAMAGE")
    chosen = damages if everything else random.Random(20260101).sample(damages, SAMPLE)
    said, answered, failures = 0, 0, []
    for number, (path, value) in enumerate(chosen):
        write_manifest(folder / "target" / "manifest.json", damaged(CONTENT, path, value))
        store = FeatureStore(folder)
        works = list(commands(store, folder).items())
        # Three commands each, taken in turn: all of them over all places.
        for place in range(3):
            name, work = works[(3 * number + place) % len(works)]
            try:
                work()
                answered += 1
            except FeatureStoreError as error:
                assert str(error).endswith((".", ").")) or "\n" not in str(error), error
                said += 1
            except Exception as error:
                failures.append(f"{name}: {'.'.join(map(str, path))} = {value!r}: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} of {said + answered}:\n" + "\n".join(failures[:40])
    assert said > 20
    assert answered > 20


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("nodes", "model.shop.users", "name"), MISSING, "has nothing at nodes.model.shop.users.name, where dbt writes a text"),
        (("nodes", "model.shop.users", "tags"), "x", "has 'x' at nodes.model.shop.users.tags, where dbt writes a list"),
        (("nodes",), 5, "has 5 at nodes, where dbt writes a mapping"),
        (("macros", "macro.shop.own"), 5, "has 5 at macros.macro.shop.own, where dbt writes a mapping"),
        (("metadata", "adapter_type"), [], "has [] at metadata.adapter_type, where dbt writes a text"),
    ],
)  # fmt: skip
def test_the_place_is_named(folder: Path, path: tuple[str, ...], value: Any, sentence: str) -> None:
    content = damaged(CONTENT, path, value)
    (folder / "target" / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ProjectError) as error:
        FeatureStore(folder).list_feature_views()
    assert sentence in str(error.value)
    assert "run `dbt build`" in str(error.value)
