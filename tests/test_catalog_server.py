"""The catalog as the server shows it: the page at ``/`` and its document, to those who may read all of it."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from materializer import FeatureStore
from materializer.catalog.files import write
from materializer.catalog.page import policy
from materializer.serve.keys import new_key
from tests.support.dbt import copy_of
from tests.support.serving import serving
from tests.support.shop import built_shop

NAMESPACE = "catalog-served"
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> FeatureStore:
    project = copy_of(built_shop(), tmp_path_factory.mktemp("catalog") / "shop")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=NAMESPACE)
    store.materialize()
    return store


@pytest.fixture(scope="module")
def file(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(store.get_catalog(statistics=False), tmp_path_factory.mktemp("page") / "catalog.html")


@pytest.fixture(scope="module")
def server(store: FeatureStore, file: Path, redis_url: str) -> Iterator[httpx.Client]:
    with serving(redis_url, "--catalog", str(file), namespace=NAMESPACE) as (client, _):
        yield client


def test_the_page_stands_at_the_root_with_a_strict_policy(server: httpx.Client) -> None:
    answer = server.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    said = answer.headers["content-security-policy"]
    assert said == f"{policy(served=True)}; frame-ancestors 'none'" and "default-src 'none'" in said
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "user_features" in answer.text


def test_the_document_stands_beside_it(server: httpx.Client, file: Path) -> None:
    answer = server.get("/catalog.json")
    assert answer.content == file.read_bytes() and answer.headers["content-type"] == "application/json"
    again = server.get("/catalog.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_it_travels_compressed_to_who_takes_that(server: httpx.Client, file: Path) -> None:
    with server.stream("GET", "/catalog.json", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip" and gzip.decompress(raw) == file.read_bytes()
    plain = server.get("/catalog.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == file.read_bytes()


def test_what_the_page_asks_for_is_answered(server: httpx.Client, store: FeatureStore) -> None:
    body = {"service": "recommendation", "entities": [{"user_id": 1, "item_id": "a:1"}], "statuses": True, "ages": True}
    answer = server.post("/v1/features", json=body).json()
    assert answer["rows"] == [["Bergen", "9.90"]] and answer["statuses"] == [["PRESENT", "PRESENT"]]


def test_a_catalog_that_is_built_anew_is_shown_at_once(store: FeatureStore, redis_url: str, tmp_path: Path) -> None:
    page = tmp_path / "catalog.html"
    with serving(redis_url, "--catalog", str(page.with_suffix(".json")), namespace=NAMESPACE) as (client, _):
        missing = client.get("/")
        assert missing.status_code == 404 and "feature-store catalog build" in missing.text
        error = client.get("/catalog.json")
        assert error.status_code == 404 and error.json()["error"]["code"] == "not_found"
        for moment in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"):
            file = write(store.get_catalog(statistics=False, built_at=moment), page)
            assert client.get("/catalog.json").json()["project"]["built_at"] == moment
            assert client.get("/").status_code == 200
        file.write_text("no catalog")
        assert client.get("/").status_code == 404


def test_a_project_in_reach_says_where_its_catalog_is(
    store: FeatureStore, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store.get_catalog(statistics=False), store.project.target_folder / "feature_store" / "catalog.html")
    monkeypatch.chdir(store.project.folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1])]))
    with serving(redis_url, namespace=NAMESPACE) as (client, _):
        assert client.get("/catalog.json").json()["project"]["name"] == "shop"


def test_with_keys_it_is_for_those_who_may_read_every_view(file: Path, redis_url: str, tmp_path: Path) -> None:
    everything, all_views = new_key("everything", ["*"], ["*"])
    some, one_view = new_key("some", ["*"], ["user_features"])
    keys = {
        "keys": [{f: getattr(key, f) for f in ("name", "sha256", "services", "views")} for key in (all_views, one_view)]
    }
    (tmp_path / "keys.json").write_text(json.dumps(keys))

    def basic(text: str) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode(f"me:{text}".encode()).decode()}

    options = ("--catalog", str(file), "--api-keys", str(tmp_path / "keys.json"))
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, _):
        for path in ("/", "/catalog.json"):
            refused = client.get(path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic ")
            assert b"user_features" not in refused.content
            assert client.get(path, headers={"authorization": f"Bearer {everything}"}).status_code == 200
            assert client.get(path, headers=basic(everything)).status_code == 200
            assert client.get(path, headers=basic(some)).status_code == 403
            assert client.get(path, headers=basic("wrong")).status_code == 401
            assert client.get(path, headers={"authorization": "Basic ???"}).status_code == 401
        asked = {"features": ["user_features:age"], "entities": [{"user_id": 1}]}
        assert client.post("/v1/features", json=asked, headers=basic(some)).json()["rows"] == [[31]]
        assert client.post("/v1/features", json=asked).headers["www-authenticate"] == "Bearer"


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium")
def test_a_browser_asks_for_the_key_once_and_looks_values_up_with_it(
    file: Path, redis_url: str, tmp_path: Path
) -> None:
    text, key = new_key("people", ["*"], ["*"])
    entry = {field: getattr(key, field) for field in ("name", "sha256", "services", "views")}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    options = ("--catalog", str(file), "--api-keys", str(tmp_path / "keys.json"))
    with serving(redis_url, *options, namespace=NAMESPACE) as (client, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(http_credentials={"username": "me", "password": text}).new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{client.base_url}/#/lookup?of=user_features")
        page.locator("#key-user_id").fill("2")
        page.get_by_role("button", name="Look up").click()
        page.wait_for_selector(".answer")
        assert "9007199254740993" in page.locator(".answer").inner_text() and errors == []
        browser.close()
