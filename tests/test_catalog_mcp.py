"""``feature-store mcp``: read-only tools over the catalog's document, met by a real client over stdio."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from materializer import FeatureStore
from materializer.catalog.files import write
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import built_shop

COMMAND = ["-c", "from materializer.cli import main; main()", "mcp"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return copy_of(built_shop(), tmp_path_factory.mktemp("mcp") / "shop")


@asynccontextmanager
async def agent(*args: str) -> Any:
    server = StdioServerParameters(command=sys.executable, args=[*COMMAND, *args])
    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()
        yield session


def test_an_agent_finds_features_and_how_to_use_them(shop: DbtProject, tmp_path: Path) -> None:
    store = FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1/0")
    file = write(store.get_catalog(), tmp_path / "catalog.html")

    async def talk() -> None:
        async with agent("--catalog", str(file)) as session:
            tools = (await session.list_tools()).tools
            assert [tool.name for tool in tools] == ["search", "show", "lineage", "statistics", "training_set"]
            assert all(tool.annotations.read_only_hint and tool.description for tool in tools)

            async def ask(tool: str, **arguments: Any) -> Any:
                answer = await session.call_tool(tool, arguments)
                text = answer.content[0].text
                return text if answer.is_error else json.loads(text)

            found = await ask("search", text="age", kind="feature")
            assert [one["reference"] for one in found["matches"]] == ["item_features:age", "user_features:age"]
            shown = await ask("show", name="user_features:city")
            assert (shown["type"], shown["services"]) == ("varchar", ["recommendation"]) and "sql" not in shown
            assert "from (values" in (await ask("show", name="user_features", sql=True))["sql"]
            figures = (await ask("statistics", name="user_features:score"))["features"][0]["statistics"]
            assert (figures["row_count"], figures["nan_count"]) == (4, 1)
            steps = (await ask("lineage", reference="user_features:age"))["steps"]
            assert steps[0]["column"] == "user_features:age"
            made = await ask("training_set", service="recommendation")
            assert made["labels_need"]["join_keys"] == ["user_id", "item_id"]
            assert "feature_store.point_in_time_join" in made["code"]
            code = (await ask("training_set", features=["user_features:age"], language="python"))["code"]
            assert "get_historical_features" in code and '"user_features:age"' in code
            assert "did you mean user_features" in await ask("show", name="user_featurs")
            assert "it has: age, city, score" in await ask("show", name="user_features:nothing")
            # A catalog that is built anew is seen with the next question.
            document = json.loads(file.read_bytes())
            document["views"][2]["description"] = "Built anew."
            file.write_text(json.dumps(document))
            assert (await ask("show", name=document["views"][2]["name"]))["description"] == "Built anew."

    asyncio.run(talk())


def test_without_a_built_catalog_it_is_made_in_memory_and_nothing_is_written(shop: DbtProject) -> None:
    async def talk() -> None:
        async with agent("--project-dir", str(shop.folder), "--redis-url", "redis://127.0.0.1:1/0") as session:
            answer = await session.call_tool("search", {"text": "price"})
            assert json.loads(answer.content[0].text)["matches"][0]["reference"] == "item_features:price"

    before = {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*")}
    asyncio.run(talk())
    assert {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*")} == before


def test_the_training_sets_that_it_writes_are_made(shop: DbtProject) -> None:
    from materializer.catalog.answers import training_set

    document = FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1/0").get_catalog(statistics=False)
    code = training_set(document, ["user_features:age", "user_item:affinity"], language="python")["code"]
    labels = "select 1 as user_id, 'b' as item_id, timestamptz '2024-06-01 00:00:00+00' as event_timestamp"
    names: dict[str, Any] = {"labels": labels}
    exec(code.replace('project_dir="."', f'project_dir="{shop.folder}"'), names)
    assert names["training_set"][["age", "affinity"]].to_dict("records") == [{"age": 31, "affinity": 8}]
    for arguments in ({"features": ["user_features:age", "user_item:affinity"]}, {"service": "recommendation"}):
        sql = training_set(document, **arguments)["code"]
        path = shop.folder / "models" / "labels_of_agents.sql"
        path.write_text(sql.replace("ref('labels')", "ref('spine_of_agents')"))
        (shop.folder / "models" / "spine_of_agents.sql").write_text(labels)
        shop.dbt("compile", "--select", "labels_of_agents")
        assert "_fs_spine" in shop.compiled("labels_of_agents")
        path.unlink()


def test_a_missing_extra_is_one_sentence() -> None:
    with mock.patch.dict(sys.modules, {"mcp.server.mcpserver": None}):
        ran = run("feature-store", "mcp")
    assert ran.code == 1 and ran.err.strip().endswith("pip install 'dbt-feature-store[mcp]'.")


def test_a_file_that_is_no_catalog_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")

    async def talk() -> None:
        async with agent("--catalog", str(tmp_path / "x.json")) as session:
            answer = await session.call_tool("search", {"text": "price"})
            assert answer.is_error and "catalog build" in answer.content[0].text

    asyncio.run(talk())
