"""What the server's OpenAPI says, held against every endpoint: one form of errors, one of answers, whatever is sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from materializer import FeatureStore
from materializer.online.reader import OnlineReader
from materializer.serve.app import Settings, application
from materializer.serve.description import ROUTES
from tests.support.dbt import DbtProject
from tests.support.faults import Server, sql
from tests.support.manifests import bare_project, manifest, write_models
from tests.support.redis_servers import certificates
from tests.support.serving import serving

NAMESPACE = "openapi"
VIEWS = {"readings": {"entities": ["user_id"], "ttl": "30 days"}, "words": {"entities": ["name"]}}
SERVICES = {"numbers": ["readings:value"], "both": ["readings:value", "words:n"]}


def declare(folder: Path, services: dict[str, list[str]]) -> None:
    models = dict.fromkeys(VIEWS, "select 1")
    write_models(folder, manifest(models, VIEWS, services, database="warehouse"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> DbtProject:
    folder = bare_project(tmp_path_factory.mktemp("openapi") / "shop", "warehouse.duckdb")
    declare(folder, SERVICES)
    project = DbtProject(folder)
    sql(
        project,
        "create table readings as select range as user_id, now() as event_timestamp, range * 10 as value, 'x' as word from range(10)",
        "create table words as select 'a' as name, now() as event_timestamp, 5 as n",
    )
    FeatureStore(folder, redis_url=redis_url, namespace=NAMESPACE).materialize()
    return project


@pytest.fixture(scope="module")
def server(project: DbtProject, redis_url: str) -> Iterator[httpx.Client]:
    with serving(redis_url, namespace=NAMESPACE) as (client, _):
        yield client


@pytest.fixture(scope="module")
def described(server: httpx.Client) -> dict[str, Any]:
    return server.get("/openapi.json").json()["paths"]


def check(answer: httpx.Response) -> None:
    """An answer of any endpoint: a JSON object, or an error of the one form; never a fault of the server's own."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json" and isinstance(body, dict)
    if answer.status_code == 200:
        assert "error" not in body
        return
    assert answer.status_code in (400, 401, 403, 404, 405, 413, 422, 429, 503), answer.text
    assert set(body) == {"error"} and {"code", "message"} <= set(body["error"]) <= {"code", "message", "hint"}
    assert all(isinstance(text, str) and text for text in body["error"].values())
    assert re.fullmatch("[a-z_]+", body["error"]["code"])
    assert "Traceback" not in answer.text and "materializer" not in answer.text


def every_endpoint(client: httpx.Client, **headers: str) -> dict[str, httpx.Response]:
    """An answer of each, by a request that is well."""
    body = {
        "/v1/features": {"service": "both", "entities": [{"user_id": 1, "name": "a"}]},
        "/get-online-features": {"features": ["readings:value"], "entities": {"user_id": [1]}},
    }
    names = {"/v1/services/{name}": "both", "/v1/views/{name}": "readings"}
    return {
        path: client.post(path, json=body[path], headers=headers) if path in body
        else client.get(path.replace("{name}", names.get(path, "")), headers=headers)
        for path in ROUTES
    }  # fmt: skip


GUARDED = [path for path in ROUTES if path not in ("/health", "/ready", "/metrics")]
NEEDS_REDIS = [*GUARDED, "/ready"]


# Every endpoint.


def test_every_route_is_described_with_what_it_refuses(described: dict[str, Any]) -> None:
    assert set(described) == set(ROUTES)
    for path, methods in described.items():
        (operation,) = methods.values()
        assert operation["responses"].keys() >= {"200"} and operation["description"]
        assert ("401" in operation["responses"]) == (path in GUARDED)
        assert ("503" in operation["responses"]) == (path in NEEDS_REDIS)


def test_every_answer_is_an_object(server: httpx.Client) -> None:
    answers = every_endpoint(server)
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(ROUTES, 200)
    assert answers.pop("/metrics").headers["content-type"].startswith("text/plain")
    for answer in answers.values():
        check(answer)


def test_every_endpoint_refuses_another_method_in_the_one_form(server: httpx.Client) -> None:
    known = {*ROUTES, "/", "/catalog.json"}  # the catalog is described in words alone
    for path in [*known, "/v1", "/nothing", "/v1/services/a/b", "/v1/views/", "/health/"]:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = server.request(method, path)
            check(answer)
            assert answer.status_code == (405 if path in known else 404)


def test_every_endpoint_refuses_who_may_not_ask(project: DbtProject, redis_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"name": "nobody", "sha256": "0" * 64}]}))
    with serving(redis_url, "--api-keys", str(keys), namespace=NAMESPACE) as (client, _):
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
            for path, answer in every_endpoint(client, **header).items():
                assert answer.status_code == (401 if path in GUARDED else 200)
                if path in GUARDED:
                    check(answer)
    with serving(redis_url, "--rate", "0.001", namespace=NAMESPACE) as (client, _):
        every_endpoint(client)
        for path, answer in every_endpoint(client).items():
            assert answer.status_code == (429 if path in GUARDED else 200)
            if path in GUARDED:
                check(answer)


def test_every_endpoint_says_that_redis_is_away(project: DbtProject, tmp_path: Path) -> None:
    own = Server(tmp_path / "redis")
    try:
        FeatureStore(project.folder, redis_url=own.url, namespace=NAMESPACE).materialize()
        with serving(own.url, namespace=NAMESPACE) as (client, _):
            every_endpoint(client)
            own.kill()
            for path, answer in every_endpoint(client).items():
                assert answer.status_code == (503 if path in NEEDS_REDIS else 200)
                if path in NEEDS_REDIS:
                    check(answer)
                    assert answer.headers["retry-after"] == "1"
    finally:
        own.close()


# Whatever is sent.


def strategy(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a JSON Schema, as far as ours go."""
    if "anyOf" in schema:
        return st.one_of(*map(strategy, schema["anyOf"]))
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        named = {name: strategy(one) for name, one in schema["properties"].items()}
        needed = {name: named.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional=named)
    if kind == "object":
        return st.dictionaries(NAMES, strategy(schema.get("additionalProperties") or {}), max_size=3)
    if kind == "array":
        return st.lists(strategy(schema.get("items", {})), max_size=4)
    return {"string": NAMES, "boolean": st.booleans(), "null": st.none()}.get(kind, ANYTHING)


NAMES = st.sampled_from(
    ["readings:value", "readings:word", "words:n", "numbers", "both", "user_id", "name", "readings", ":", "a:b", ""]
) | st.text(max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/features", "/get-online-features"])
def test_whatever_body_comes_the_answer_has_the_one_form(
    path: str, server: httpx.Client, described: dict[str, Any]
) -> None:
    operation = described[path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    seen: set[int] = set()

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=strategy(schema) | ANYTHING)
    def ask(body: Any) -> None:
        text = json.dumps(body)  # NaN and lone surrogates included
        answer = server.post(path, content=text, headers={"content-type": "application/json"})
        check(answer)
        assert str(answer.status_code) in operation["responses"]
        seen.add(answer.status_code)

    ask()
    assert 400 in seen and len(seen) > 1


@pytest.mark.parametrize("path", ["/v1/views/", "/v1/services/"])
def test_whatever_name_is_asked_for_the_answer_has_the_one_form(path: str, server: httpx.Client) -> None:
    @settings(max_examples=60, deadline=None)
    @given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
    def ask(name: str) -> None:
        check(server.get(path + quote(name, safe="")))

    ask()


ASKED = {"features": ["readings:value"], "entities": [{"user_id": 1}]}
BAD: dict[str, tuple[bytes, dict[str, str], int]] = {
    "nested too deep": (b'{"entities": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400),
    "a list": (b"[]", {}, 400),
    "null": (b"null", {}, 400),
    "two documents": (b"{} {}", {}, 400),
    "NaN": (b'{"features": ["readings:value"], "entities": [{"user_id": NaN}]}', {}, 400),
    "compressed": (gzip.compress(json.dumps(ASKED).encode()), {"content-encoding": "gzip"}, 400),
    "UTF-16": (json.dumps(ASKED).encode("utf-16"), {}, 400),
    "another type": (json.dumps(ASKED).encode(), {"content-type": "application/x-www-form-urlencoded"}, 400),
    "a number too large for a double": (b'{"features": ["readings:value"], "entities": [{"user_id": 1e999}]}', {}, 400),
    "a boolean for a key": (b'{"features": ["readings:value"], "entities": [{"user_id": true}]}', {}, 422),
    "an object for a key": (b'{"features": ["readings:value"], "entities": [{"user_id": {}}]}', {}, 422),
    "half a number for a key": (b'{"features": ["readings:value"], "entities": [{"user_id": 1.5}]}', {}, 422),
    "mixed keys": (b'{"features": ["readings:value"], "entities": [{"user_id": 1}, {"name": "a"}]}', {}, 422),
    "one key of two": (b'{"service": "both", "entities": [{"user_id": 1}]}', {}, 422),
    "a feature twice": (b'{"features": ["readings:value", "readings:value"], "entities": [{"user_id": 1}]}', {}, 422),
    "10 MB": (json.dumps({**ASKED, "entities": [{"user_id": 1}] * 600_000}).encode(), {}, 413),
    "an entity beyond the type": (b'{"features": ["readings:value"], "entities": [{"user_id": 99999999999999999999999}]}', {}, 200),
    "a lone surrogate": (b'{"features": ["words:n"], "entities": [{"name": "\\ud800"}]}', {}, 400),
    "a null byte": (b'{"features": ["words:n"], "entities": [{"name": "\\u0000"}]}', {}, 200),
    "no content type": (json.dumps(ASKED).encode(), {"content-type": ""}, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_one_sentence(name: str, server: httpx.Client) -> None:
    body, headers, status = BAD[name]
    answer = server.post("/v1/features", content=body, headers={"content-type": "application/json", **headers})
    check(answer)
    assert answer.status_code == status, answer.text


# What happens meanwhile, in this process.


def asking(app: Any, body: dict[str, Any]) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post("/v1/features", json=body)

    return asyncio.run(ask())


@pytest.mark.parametrize("services", [{}, {"numbers": ["readings:value", "readings:word"]}])
def test_a_service_that_is_published_anew_while_its_answer_comes_costs_the_count_and_not_the_answer(
    services: dict[str, list[str]], project: DbtProject, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = f"openapi.race.{len(services)}"
    declare(project.folder, SERVICES)
    FeatureStore(project.folder, redis_url=redis_url, namespace=namespace).materialize()
    read = OnlineReader.read_async

    async def read_and_publish(self: OnlineReader, *arguments: Any) -> Any:
        response = await read(self, *arguments)
        declare(project.folder, services)
        FeatureStore(project.folder, redis_url=redis_url, namespace=namespace).materialize()
        self.registry()  # as another request's reading would
        return response

    monkeypatch.setattr(OnlineReader, "read_async", read_and_publish)
    app = application(Settings(namespace=namespace, log_folder=str(tmp_path), log_sample=1.0), redis_url)
    answer = asking(app, {"service": "numbers", "entities": [{"user_id": 1}, {"user_id": 2}]})
    assert (answer.status_code, answer.json()) == (200, {"names": ["value"], "rows": [[10], [20]]})
    declare(project.folder, SERVICES)


def test_the_registry_is_read_once_when_it_changes(project: DbtProject, redis_url: str, client: redis.Redis) -> None:
    app = application(Settings(namespace=NAMESPACE), redis_url)
    before = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    assert asking(app, ASKED).status_code == 200
    # The views' hash and the services' one.
    assert client.info("commandstats")["cmdstat_hgetall"]["calls"] == before + 2


def test_a_fault_of_the_servers_own_has_the_one_form_too(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise ZeroDivisionError("s3cret")

    monkeypatch.setattr(OnlineReader, "read_async", fail)
    answer = asking(application(Settings(namespace=NAMESPACE), redis_url), ASKED)
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "error"
    assert "s3cret" not in answer.text


# Clients that leave, or stay.


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(project: DbtProject, redis_url: str) -> None:
    with serving(redis_url, namespace=NAMESPACE) as (client, process):
        head = (
            b"POST /v1/features HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
        )
        with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
            leaving.sendall(head)
            time.sleep(0.2)
        time.sleep(0.2)
        assert 'status="499"' in client.get("/metrics").text
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=30)[0]


def test_an_idle_client_over_tls_does_not_hold_the_server_back(
    project: DbtProject, redis_url: str, tmp_path: Path
) -> None:
    paths = certificates(tmp_path)
    with serving(redis_url, "--tls-cert", paths["crt"], "--tls-key", paths["key"], namespace=NAMESPACE) as (
        client,
        process,
    ):
        plain = socket.create_connection((client.base_url.host, client.base_url.port))
        context = ssl.create_default_context(cafile=paths["ca"])
        with context.wrap_socket(plain, server_hostname="localhost"):
            started = time.monotonic()
            process.terminate()
            process.wait(timeout=40)
            assert time.monotonic() - started < 10
