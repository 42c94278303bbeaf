"""The hook `record_builds`: what of the landed events each table had seen when dbt built it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.stream.place import landing_of
from materializer.stream.push import push
from materializer.stream.source import streamed_sources
from tests.support.dbt import DbtFailed, DbtProject, copy_of
from tests.support.manifests import manifest
from tests.support.streamed import streamed

COLUMNS = {"user_id": "bigint", "amount": "double", "purchased_at": "timestamptz"}
SOURCE = {
    "name": "shop", "database": "landing", "schema": "main",
    "tables": [{
        "name": "purchases", "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id"}}},
        "columns": [{"name": name, "data_type": dtype} for name, dtype in COLUMNS.items()],
    }],
}  # fmt: skip
TABLE = "{{ config(materialized='table') }}\n"
MODELS = {
    "cleaned": TABLE + "select * from {{ source('shop', 'purchases') }}",
    "looked_at": "select * from {{ ref('cleaned') }}",
    "within": "{{ config(materialized='ephemeral') }}\nselect user_id, amount from {{ ref('looked_at') }}",
    "summed": TABLE + "select user_id, sum(amount) as spent from {{ ref('within') }} group by user_id",
    "added": "{{ config(materialized='incremental') }}\nselect * from {{ source('shop', 'purchases') }}\n"
    "{% if is_incremental() %}where _seq > (select max(_seq) from {{ this }}){% endif %}",
    "still": TABLE + "select 1 as user_id",
    "mixed": TABLE + "select * from {{ ref('summed') }} join {{ ref('still') }} using (user_id) "
    "where user_id in (select user_id from {{ source('shop', 'purchases') }})",
    "failing": TABLE + "select * from {{ ref('cleaned') }} where {{ var('broken', 'true') }}",
    "below": TABLE + "select * from {{ ref('failing') }}",
}
FILES = {
    "models/models.yml": {
        "sources": [SOURCE],
        "models": [{"name": "summed", "columns": [{"name": "user_id", "data_tests": ["not_null"]}]}],
    },
    **{f"models/{name}.sql": sql for name, sql in MODELS.items()},
}  # fmt: skip
ALL = {"cleaned", "summed", "added", "mixed", "failing", "below"}


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return streamed(tmp_path_factory.mktemp("recorded") / "shop", FILES, hook=True)


@pytest.fixture
def project(tmp_path: Path, parsed: DbtProject) -> DbtProject:
    return copy_of(parsed, tmp_path / "shop")


def land(project: DbtProject, commits: int) -> None:
    """Let so many commits land, of one event each, and readers see them."""
    sources = streamed_sources(project.manifest())
    landing = landing_of(load_project(project.folder), sources, lambda: datetime.now(timezone.utc))
    for number in range(commits):
        push(landing, sources["shop.purchases"], [{"user_id": number % 3, "amount": 1.5}])
    landing.show()
    landing.close()


def begun(project: DbtProject) -> int:
    return int((project.folder / "landing" / "begun").read_text())


def records(project: DbtProject) -> Mapping[str, int]:
    """What is recorded, from the number on that the landing began with."""
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        rows: list[Any] = connection.execute("select model, seq from main._fs_built").fetchall()
    return {model.split(".")[-1]: seq and seq - begun(project) for model, seq in rows}


def test_each_table_has_the_least_number_of_what_it_was_made_from(project: DbtProject) -> None:
    land(project, 3)
    project.dbt("build")
    assert records(project) == dict.fromkeys(ALL, 3), "tables that read no stream have none, nor have views"
    land(project, 2)
    project.dbt("run", "-s", "cleaned")
    assert records(project) == {**dict.fromkeys(ALL, 3), "cleaned": 5}
    project.dbt("run", "-s", "mixed")
    assert records(project)["mixed"] == 3, "it read `summed` as it had been built before"
    project.dbt("test")
    assert records(project)["mixed"] == 3
    with pytest.raises(DbtFailed):
        project.dbt("build", "--vars", "{broken: nothing}")
    assert records(project) == {**dict.fromkeys(ALL, 5), "failing": 3, "below": 3}


def test_a_run_records_what_its_models_had_and_not_what_landed_meanwhile(project: DbtProject) -> None:
    """Once dbt has opened the warehouse an event lands, and the manifest is replaced."""
    land(project, 1)
    sources = streamed_sources(project.manifest())
    landing = landing_of(load_project(project.folder), sources, lambda: datetime.now(timezone.utc))
    connected: list[Any] = []

    def connect(self: Any, *args: Any) -> Any:
        found = first(self, *args)
        if not connected:
            connected.append(True)
            push(landing, sources["shop.purchases"], [{"user_id": 9}])
            landing.show()
        return found

    from dbt.adapters.duckdb.environments.local import LocalEnvironment

    first = LocalEnvironment.handle
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalEnvironment, "handle", connect)
        project.dbt("run", "-s", "cleaned")
    assert connected and records(project) == {"cleaned": 1}
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        assert connection.execute("select max(_seq) from cleaned").fetchall() == [(begun(project) + 1,)]
    project.dbt("run", "-s", "cleaned")
    assert records(project) == {"cleaned": 2}


@given(st.data())
def test_what_a_model_reads_is_found_in_any_graph(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    kinds = [data.draw(st.sampled_from(["view", "table", "ephemeral", "incremental"])) for _ in range(count)]
    parents = [
        [f"model.shop.m{one}" for one in range(number) if data.draw(st.booleans())]
        + [f"source.shop.raw.{one}" for one in ("s", "t", "plain") if data.draw(st.integers(0, 3)) == 0]
        for number in range(count)
    ]
    models = {
        f"m{number}": {"sql": "", "config": {"materialized": kind}} for number, kind in enumerate(kinds)
    }  # fmt: skip
    content = manifest(
        {**models, "last": "{{ source('raw', 's') }}{{ source('raw', 't') }}{{ source('raw', 'plain') }}"}
    )
    for number, above in enumerate(parents):
        content["nodes"][f"model.shop.m{number}"]["depends_on"]["nodes"] = above
    for name in ("s", "t"):
        content["sources"][f"source.shop.raw.{name}"] |= {
            "config": {"meta": {"stream": {"topic": name}}}, "database": "landing", "schema": "main",
        }  # fmt: skip

    def above(unique_id: str) -> set[str]:
        near = content["nodes"][unique_id]["depends_on"]["nodes"] if unique_id in content["nodes"] else []
        return set(near).union(*map(above, near))

    streamed = {"source.shop.raw.s", "source.shop.raw.t"}

    def nearest(unique_id: str) -> set[str]:
        found = set()
        for parent in content["nodes"][unique_id]["depends_on"]["nodes"]:
            if parent in streamed:
                found.add("direct")
            elif above(parent) & streamed:
                table = content["nodes"][parent]["config"]["materialized"] in ("table", "incremental")
                found |= {parent} if table else nearest(parent)
        return found

    asked = f"model.shop.m{count - 1}"
    found = MacroRenderer(content, lambda relation: []).ask("_streams_above", asked)
    assert set(found["sources"]) == above(asked) & streamed
    assert {*found["tables"], *(["direct"] if found["direct"] else [])} == nearest(asked)
    assert len(found["tables"]) == len(set(found["tables"]))
    assert found["landing"] == ('"landing"."main"."_fs_landing"' if found["sources"] else None)


def test_an_empty_run_has_seen_nothing(project: DbtProject) -> None:
    land(project, 2)
    project.dbt("run", "--empty", "-s", "cleaned")
    assert records(project) == {"cleaned": 0}
