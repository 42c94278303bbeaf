"""How to get it: what the catalog's page tells people to paste is pasted, and run, against the example."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore
from materializer.catalog.files import write
from materializer.online import local as local_redis
from tests.support.dbt import DbtProject, copy_of
from tests.support.example import built_example
from tests.support.serving import serving

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium")

NAMESPACE = "shop.dev"
PAGES = {
    "feature": "#/feature/user_features:age",
    "on demand": "#/feature/user_features:amount_against_usual",
    "view": "#/view/user_item_affinity",
    "service": "#/service/recommendation",
    "service with features on demand": "#/service/checkout",
    "selection": "#/selection?f=user_features:age&f=item_features:price",
}
LABELS = """select 1 + range % 30 as user_id, 1 + range % 10 as item_id, 25.0::double as amount,
            timestamptz '2026-01-01 00:00:00+00' + interval (range) hour as event_timestamp from range(20)"""


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own: what is shown names the project's namespace, which others use too."""
    folder = tmp_path_factory.mktemp("redis")
    yield local_redis.start(folder)
    local_redis.stop(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> FeatureStore:
    project = copy_of(built_example(), tmp_path_factory.mktemp("snippets") / "shop")
    store = FeatureStore(project.folder, redis_url=redis_url)
    assert store.namespace == NAMESPACE
    store.materialize()
    return store


@pytest.fixture(scope="module")
def snippets(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """What each page tells to paste, by tab."""
    page_file = tmp_path_factory.mktemp("page") / "catalog.html"
    write(store.get_catalog(), page_file)
    found = {}
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name, address in PAGES.items():
            page.goto("about:blank")
            page.goto(page_file.as_uri() + address)
            page.wait_for_selector(".get [role=tabpanel]", state="attached")
            found[name] = page.evaluate(
                """() => Object.fromEntries([...document.querySelector('.get').querySelectorAll('[role=tabpanel]')]
                    .map((panel) => [document.getElementById(panel.getAttribute('aria-labelledby')).textContent,
                                     [...panel.querySelectorAll('pre')].map((one) => one.textContent)]))"""
            )
        browser.close()
    assert all(found.values())
    return found


@pytest.fixture(scope="module")
def server(store: FeatureStore, redis_url: str) -> Iterator[str]:
    with serving(redis_url, namespace=NAMESPACE) as (client, _):
        yield str(client.base_url).rstrip("/")


def pasted(code: str, **names: Any) -> Any:
    """What the last expression of Python code gives."""
    *body, last = ast.parse(code).body
    exec(compile(ast.Module(body, []), "pasted", "exec"), names)
    return eval(compile(ast.Expression(last.value), "pasted", "eval"), names)


def shell(command: str, redis_url: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"FEATURE_STORE_REDIS_URL": redis_url}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_python(page: str, store: FeatureStore, snippets: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.project.folder)
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", redis_url)
    training, serving_ = snippets[page]["Python"]
    assert len(pasted(training, labels=LABELS)) == 20
    answer = pasted(serving_)
    assert answer and all(len(values) == 1 for values in answer.values())
    assert any(values[0] is not None for values in answer.values())


@pytest.mark.parametrize("page", PAGES)
def test_curl_gives_what_the_sdk_does(
    page: str, store: FeatureStore, snippets: Any, server: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.project.folder)
    (command,) = snippets[page]["curl"]
    assert "http://127.0.0.1:6566/" in command
    answer = json.loads(shell(command.replace("http://127.0.0.1:6566", server), redis_url))
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", redis_url)
    (row,), known = answer["rows"], pasted(snippets[page]["Python"][1])
    assert answer["names"] and any(value is not None for value in row)
    for name, value in zip(answer["names"], row, strict=True):
        assert value == known[name][0] or not isinstance(known[name][0], (int, float, str, bool)), name


@pytest.mark.parametrize("page", PAGES)
def test_redis_cli(page: str, snippets: Any, redis_url: str) -> None:
    for command in snippets[page]["redis-cli"]:
        lines = shell(command, redis_url).splitlines()
        assert any(line.startswith("20") and line.endswith("Z") for line in lines), "an event time is among them"
    assert snippets[page]["redis-cli"] or page == "on demand"


def test_sql_in_the_warehouse(store: FeatureStore, snippets: Any) -> None:
    asked = [sql for one in snippets.values() for sql in one["SQL"] if sql.startswith("select")]
    assert asked
    for sql in asked:
        with duckdb.connect(str(store.project.database_file), read_only=True) as warehouse:
            assert warehouse.execute(sql).fetchall()


def test_sql_in_dbt_models(store: FeatureStore, snippets: Any) -> None:
    project = DbtProject(store.project.folder)
    (project.folder / "models" / "labels.sql").write_text(LABELS)
    names = {}
    for number, (page, one) in enumerate(snippets.items()):
        names[page] = f"pasted_{number}"
        (project.folder / "models" / f"{names[page]}.sql").write_text(one["SQL"][0])
    project.dbt("run", "--select", "labels", *names.values())
    with duckdb.connect(str(store.project.database_file), read_only=True) as warehouse:
        for page, name in names.items():
            assert warehouse.execute(f"select count(*) from {name}").fetchall() == [(20,)], page
