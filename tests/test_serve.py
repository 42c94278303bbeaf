"""Features over HTTP: the server as its callers meet it, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from materializer import FeatureStore, InputError, NotFoundError, OnlineStoreError
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.faults import Server
from tests.support.redis_servers import certificates
from tests.support.serving import serving as serving_process
from tests.support.shop import built_shop

NAMESPACE = "served"
FEATURES = ["user_features:age", "user_features:city", "user_features:score"]


@contextmanager
def serving(
    url: str, *options: str, namespace: str = NAMESPACE
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    with serving_process(url, *options, namespace=namespace) as served:
        yield served


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> DbtProject:
    shop = copy_of(built_shop(), tmp_path_factory.mktemp("serve") / "shop")
    FeatureStore(shop.folder, redis_url=redis_url, namespace=NAMESPACE).materialize()
    return shop


@pytest.fixture(scope="module")
def server(shop: DbtProject, redis_url: str) -> Iterator[httpx.Client]:
    with serving(redis_url) as (client, _):
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    redis = Server(tmp_path / "redis")
    yield redis
    redis.close()


@pytest.fixture
def reader(shop: DbtProject, redis_url: str) -> FeatureStore:
    return FeatureStore(redis_url=redis_url, namespace=NAMESPACE)


def envelope(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, of the one form that there is."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"} and {"code", "message"} <= set(body["error"]) <= {"code", "message", "hint"}
    message = body["error"]["message"]
    assert (
        not message[0].islower()
        and message.endswith((".", ")."))
        and "Traceback" not in message
        and "\n" not in message
    )
    return body["error"]


# Features.


def test_rows_come_back_in_order_with_their_values(server: httpx.Client) -> None:
    answer = server.post(
        "/v1/features", json={"features": FEATURES, "entities": [{"user_id": 2}, {"user_id": 1}, {"user_id": 99}]}
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "names": ["age", "city", "score"],
        "rows": [[9007199254740993, None, "nan"], [31, "Bergen", 0.1], [None, None, None]],
    }


def test_statuses_event_times_and_ages_come_where_they_are_asked_for(server: httpx.Client) -> None:
    asked = {"features": FEATURES[:2], "entities": [{"user_id": 2}, {"user_id": 99}], "statuses": True, "ages": True}
    answer = server.post("/v1/features", json=asked).json()
    assert answer["statuses"] == [["PRESENT", "NULL_VALUE"], ["NOT_FOUND", "NOT_FOUND"]]
    assert answer["event_timestamps"] == [["2024-05-01T12:30:00.250000Z"] * 2, [None, None]]
    assert answer["ages"][0][0] > 365 * 86_400 and answer["ages"][1] == [None, None]


def test_every_value_is_the_readers_own(server: httpx.Client, reader: FeatureStore) -> None:
    rows = [{"user_id": user, "item_id": item} for user in (1, 2, 3, 4) for item in ("a:1", "b", None)]
    features = [*FEATURES, "item_features:price", "item_features:in_stock", "user_item:affinity"]
    answer = server.post("/v1/features", json={"features": features, "entities": rows, "statuses": True}).json()
    expected = reader.get_online_features(features, rows).to_dict(include_statuses=True)
    for place, name in enumerate(answer["names"]):
        assert [row[place] for row in answer["statuses"]] == expected[f"{name}__status"]
        for row, value in zip(answer["rows"], expected[name], strict=True):
            stated = str(value) if name == "price" and value is not None else value
            assert row[place] == ("nan" if stated != stated else stated)
            assert type(row[place]) is type(stated) or stated != stated


def test_integers_can_be_had_as_texts(server: httpx.Client) -> None:
    asked = {"features": ["user_features:age"], "entities": [{"user_id": 2}], "integers_as_strings": True}
    assert server.post("/v1/features", json=asked).json()["rows"] == [["9007199254740993"]]


def test_a_service_is_asked_for_by_name_and_describes_itself(server: httpx.Client) -> None:
    (service, *_) = server.get("/v1/services").json()["services"]
    about = server.get(f"/v1/services/{service['name']}").json()
    keys = about["request"]["properties"]["entities"]["items"]["required"]
    values = {"user_id": 1, "item_id": "a:1"}
    answer = server.post("/v1/features", json={"service": service["name"], "entities": [{k: values[k] for k in keys}]})
    assert answer.json()["names"] == about["answer"]["properties"]["names"]["const"]
    assert len(answer.json()["rows"][0]) == len(service["features"])


def test_views_are_listed_with_their_types(server: httpx.Client) -> None:
    views = {view["name"]: view for view in server.get("/v1/views").json()["views"]}
    assert {"user_features", "item_features", "user_item"} <= set(views)
    assert server.get("/v1/views/user_features").json() == views["user_features"]
    assert {"name": "age", "type": "int64", "description": views["user_features"]["features"][0]["description"]} in (
        views["user_features"]["features"]
    )


def test_feasts_protocol(server: httpx.Client) -> None:
    asked = {"features": FEATURES[:2], "entities": {"user_id": [1, 99]}}
    assert server.post("/get-online-features", json=asked).json() == {
        "metadata": {"feature_names": ["user_id", "age", "city"]},
        "results": [
            {"values": [1, 99], "statuses": ["PRESENT"] * 2, "event_timestamps": ["1970-01-01T00:00:00Z"] * 2},
            *(
                {
                    "values": [value, None],
                    "statuses": ["PRESENT", "NOT_FOUND"],
                    "event_timestamps": ["2024-05-01T12:30:00.250000Z", "1970-01-01T00:00:00Z"],
                }
                for value in (31, "Bergen")
            ),
        ],
    }


# What is wrong.

ROW = {"entities": [{"user_id": 1}]}
WRONG: list[tuple[str, Any, int, str]] = [
    ("/v1/features", {"features": ["nothing:age"], **ROW}, 404, "no feature view 'nothing'"),
    ("/v1/features", {"features": ["user_features:nothing"], **ROW}, 404, "has no feature 'nothing'"),
    ("/v1/features", {"features": ["age"], **ROW}, 422, "'age' is not a feature reference"),
    ("/v1/features", {"service": "nothing", **ROW}, 404, "no feature service 'nothing'"),
    ("/v1/features", {"features": FEATURES, "service": "x", **ROW}, 400, "both `features` and `service`"),
    ("/v1/features", ROW, 400, "neither `features` nor `service`"),
    ("/v1/features", {"features": FEATURES, "entities": []}, 400, "`entities` is empty"),
    ("/v1/features", {"features": FEATURES}, 400, "missing required field `entities`"),
    ("/v1/features", {"features": FEATURES, "entities": [7]}, 400, "`entities[0]`: Expected `object`"),
    ("/v1/features", {"features": FEATURES, "entities": [{"id": 1}]}, 422, "Entity row 0 has no 'user_id'"),
    ("/v1/features", {"features": FEATURES, "entities": [{"user_id": 1}, {"id": 1}]}, 422, "Entity row 1 has no"),
    ("/v1/features", {"features": FEATURES, "entities": [{"user_id": "one"}]}, 422, "Join key 'user_id' is of type"),
    ("/v1/features", {"features": FEATURES, "entities": [{"user_id": [1]}]}, 422, "Join key 'user_id' is of type"),
    ("/v1/features", {"features": FEATURES, "entitis": [], **ROW}, 400, "unknown field `entitis`"),
    ("/v1/features", b'{"features": [', 400, "The body is no JSON"),
    ("/v1/features", b"\xff\xfe", 400, "The body is no JSON"),
    ("/v1/features", b"", 400, "The body is no JSON"),
    ("/get-online-features", {"features": FEATURES, "entities": {"user_id": []}}, 400, "`entities` is empty"),
    ("/get-online-features", {"features": FEATURES, "entities": {"a": [1], "b": []}}, 400, "of different lengths"),
    ("/get-online-features", {"feature_service": "nothing", "entities": {"user_id": [1]}}, 404, "'nothing'"),
    ("/v1/services/nothing", None, 404, "no feature service 'nothing'"),
    ("/v1/views/nothing", None, 404, "no feature view 'nothing'"),
    ("/nothing", None, 404, "There is no /nothing here"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "sentence"), WRONG)
def test_what_is_wrong_is_one_sentence_in_the_envelope(
    server: httpx.Client, path: str, body: Any, status: int, sentence: str
) -> None:
    if body is None:
        answer = server.get(path)
    else:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = server.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert sentence in envelope(answer)["message"]


def test_a_method_or_content_type_that_does_not_fit_is_refused(server: httpx.Client) -> None:
    assert server.get("/v1/features").status_code == 405
    envelope(server.get("/v1/features"))
    answer = server.post("/v1/features", content=b"a=b", headers={"content-type": "text/plain"})
    assert answer.status_code == 400 and "text/plain" in envelope(answer)["message"]


def test_what_is_too_large_is_refused_with_the_limit(shop: DbtProject, redis_url: str) -> None:
    limits = ("--max-entities", "3", "--max-features", "2", "--max-body", "2000")
    with serving(redis_url, *limits) as (client, _):
        many = {"features": FEATURES[:1], "entities": [{"user_id": n} for n in range(4)]}
        assert "at most 3" in envelope(answer := client.post("/v1/features", json=many))["message"]
        assert answer.status_code == 413
        wide = client.post("/v1/features", json={"features": FEATURES, **ROW})
        assert (wide.status_code, "at most 2" in envelope(wide)["message"]) == (413, True)
        long = client.post("/v1/features", content=b" " * 10_000_000, headers={"content-type": "application/json"})
        assert (long.status_code, "2,000 bytes" in envelope(long)["message"]) == (413, True)


# Who may ask.


def keys_file(folder: Path, *entries: tuple[str, list[str], list[str]]) -> tuple[Path, list[str]]:
    """A file of keys made with ``--new-key``, and the keys."""
    texts, made = [], []
    for name, services, views in entries:
        first, _, entry = run("feature-store", "serve", "--new-key", name).out.strip().splitlines()
        texts.append(first.rpartition(" ")[2])
        made.append(json.loads(entry) | {"services": services, "views": views})
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": made}))
    return path, texts


def test_a_key_reads_what_its_entry_names_and_nothing_else(shop: DbtProject, redis_url: str, tmp_path: Path) -> None:
    service = next(iter(FeatureStore(redis_url=redis_url, namespace=NAMESPACE).list_feature_services()))
    path, (users, served) = keys_file(tmp_path, ("users", [], ["user_features"]), ("served", [service.name], []))
    audit = tmp_path / "audit.jsonl"
    with serving(redis_url, "--api-keys", str(path), "--audit-log", str(audit)) as (client, _):
        by_features, by_service = {"features": FEATURES[:1], **ROW}, {"service": service.name, **ROW}

        def status(body: dict[str, Any], key: str | None) -> int:
            answer = client.post("/v1/features", json=body, headers={"Authorization": f"Bearer {key}"} if key else {})
            if answer.status_code != 200:
                assert key is None or key not in envelope(answer)["message"]
            return answer.status_code

        assert [status(by_features, key) for key in (users, served, "wrong", None)] == [200, 403, 401, 401]
        assert status(by_service, users) == 403
        assert status(by_service, served) in (200, 422)  # it may, whatever keys the service takes
        assert client.get("/health").status_code == 200
        shown = client.get("/v1/views", headers={"Authorization": f"Bearer {users}"}).json()["views"]
        assert [view["name"] for view in shown] == ["user_features"]
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["caller"], line["status"]) for line in lines][:4] == [
        ("users", 200), ("served", 403), (None, 401), (None, 401)
    ]  # fmt: skip
    assert users not in audit.read_text() and "Bearer" not in audit.read_text()


def test_the_audit_log_can_leave_reads_out(shop: DbtProject, redis_url: str, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(redis_url, "--audit-log", str(audit), "--no-audit-reads") as (client, _):
        assert client.post("/v1/features", json={"features": FEATURES, **ROW}).status_code == 200
        assert client.post("/v1/features", json={"features": ["user_features:nothing"], **ROW}).status_code == 404
    assert [json.loads(line)["status"] for line in audit.read_text().splitlines()] == [404]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(shop: DbtProject, redis_url: str) -> None:
    with serving(redis_url, "--rate", "2") as (client, _):
        answers = [client.post("/v1/features", json={"features": FEATURES, **ROW}) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and int(refused[0].headers["retry-after"]) >= 1
    assert answers[0].status_code == 200 and "2 requests a second" in envelope(refused[0])["message"]


def test_it_serves_https_with_a_certificate(shop: DbtProject, redis_url: str, tmp_path: Path) -> None:
    paths = certificates(tmp_path)
    with serving(redis_url, "--tls-cert", paths["crt"], "--tls-key", paths["key"]) as (client, _):
        authority = ssl.create_default_context(cafile=paths["ca"])
        with httpx.Client(base_url=client.base_url, verify=authority) as trusting:
            answer = trusting.post("/v1/features", json={"features": FEATURES, **ROW})
        assert answer.json()["rows"] == [[31, "Bergen", 0.1]]
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{client.base_url}/health")
    ran = run("feature-store", "serve", "--tls-cert", paths["crt"], "--redis-url", redis_url)
    assert ran.code == 2 and "go together" in ran.err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "is not of the form"),
        ('{"keys": []}', "has none"),
        ('{"keys": [{"name": "a", "sha256": "x"}]}', "is no SHA-256"),
        ('{"keys": [{"name": "a", "key": "secret!"}]}', "is not of the form"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_stops_the_start(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    ran = run("feature-store", "serve", "--port", "0", "--api-keys", str(path))
    assert ran.code == 1 and sentence in ran.err and "secret!" not in ran.err


def test_another_address_than_this_machines_needs_keys_or_a_word(redis_url: str) -> None:
    ran = run("feature-store", "serve", "--host", "0.0.0.0", "--redis-url", redis_url)
    assert ran.code == 2 and "--api-keys" in ran.err and "--insecure" in ran.err


# Is it well.


def test_health_ready_and_metrics(server: httpx.Client) -> None:
    assert server.get("/health").json()["status"] == "alive"
    ready = server.get("/ready").json()
    assert ready["status"] == "ready" and ready["namespace"] == NAMESPACE and ready["views"] >= 3
    assert 0 <= ready["registry_age_seconds"] < 3600
    server.post("/v1/features", json={"features": FEATURES[:1], "entities": [{"user_id": 1}, {"user_id": 99}]})
    lines = server.get("/metrics").text.splitlines()
    counted = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(counted['feature_store_values_total{feature="user_features:age",status="NOT_FOUND"}']) >= 1
    assert float(counted['feature_store_requests_total{route="/v1/features",status="200"}']) >= 1
    assert float(counted['feature_store_view_rows{view="user_features"}']) == 3
    assert float(counted['feature_store_age_seconds_count{view="user_features"}']) >= 1


def test_the_description_and_its_page_need_no_other_server(server: httpx.Client) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/features", "/get-online-features", "/v1/services/{name}", "/ready", "/metrics"} <= set(paths)
    body = paths["/v1/features"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "entities" in body["properties"]
    page = server.get("/docs")
    assert page.status_code == 200 and "http" not in page.text.replace("http-equiv", "")


def test_a_registry_that_changes_is_seen_by_the_next_request(shop: DbtProject, redis_url: str, tmp_path: Path) -> None:
    namespace = "served.anew"
    with serving(redis_url, namespace=namespace) as (client, _):
        before = client.post("/v1/features", json={"features": FEATURES, **ROW})
        assert before.status_code == 404 and "run `materialize`" in envelope(before)["message"]
        assert client.get("/ready").status_code == 404
        FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace).materialize()
        assert client.post("/v1/features", json={"features": FEATURES, **ROW}).json()["rows"] == [[31, "Bergen", 0.1]]


def test_without_redis_it_says_so_and_comes_back_with_it(own_redis: Server, shop: DbtProject) -> None:
    FeatureStore(shop.folder, redis_url=own_redis.url, namespace=NAMESPACE).materialize()
    with serving(own_redis.url) as (client, _):
        asked = {"features": FEATURES, **ROW}
        assert client.post("/v1/features", json=asked).status_code == 200
        own_redis.kill()
        away = client.post("/v1/features", json=asked)
        assert away.status_code == 503 and away.headers["retry-after"] == "1"
        assert envelope(away)["code"] == "unavailable"
        assert client.get("/health").status_code == 200 and client.get("/ready").status_code == 503


def test_a_request_under_way_is_answered_when_the_server_is_asked_to_end(shop: DbtProject, redis_url: str) -> None:
    with serving(redis_url, "--workers", "2") as (client, process):
        body = json.dumps({"features": FEATURES, **ROW}).encode()

        def slowly() -> Iterator[bytes]:
            yield body[:10]
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            yield body[10:]

        answer = client.post("/v1/features", content=slowly(), headers={"content-type": "application/json"})
        assert answer.json()["rows"] == [[31, "Bergen", 0.1]]
        assert process.wait(timeout=30) == 0


def test_serving_loads_no_dbt_no_warehouse_and_no_pandas() -> None:
    code = """
import sys
import materializer.serve.app as app
app.application(app.Settings(namespace="x"), "redis://127.0.0.1:1/0")
print(*sys.modules, file=sys.stderr)
"""
    found = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split())
    assert "fastapi" in found
    assert not found & {"dbt", "duckdb", "jinja2", "pandas", "polars", "sqlglot", "click", "yaml"}


# The SDK against a server.


def test_the_sdk_reads_through_a_server_as_from_redis(server: httpx.Client, reader: FeatureStore) -> None:
    remote = FeatureStore(url=str(server.base_url))
    rows = [{"user_id": user, "item_id": item} for user in (1, 2, None, 99) for item in ("a:1", "b")]
    features = [*FEATURES, "item_features:price", "item_features:in_stock"]
    ours, theirs = remote.get_online_features(features, rows), reader.get_online_features(features, rows)
    again = asyncio.run(remote.get_online_features_async(features, rows))
    for answer in (ours, again):
        assert repr(answer.to_dict(True, True)) == repr(theirs.to_dict(True, True))
    assert ours.to_arrow().schema == theirs.to_arrow().schema
    service = remote.get_online_features("recommendation", rows, full_feature_names=True).to_dict()
    assert service == reader.get_online_features("recommendation", rows, full_feature_names=True).to_dict()


def test_the_sdk_raises_the_servers_errors_as_its_own(server: httpx.Client, tmp_path: Path, redis_url: str) -> None:
    remote = FeatureStore(url=str(server.base_url))
    with pytest.raises(NotFoundError, match="no feature view 'nothing'"):
        remote.get_online_features(["nothing:age"], [{"user_id": 1}])
    with pytest.raises(InputError, match="Entity row 0 has no 'user_id'"):
        remote.get_online_features(FEATURES, [{"id": 1}])
    with pytest.raises(OnlineStoreError, match=r"The feature server at http://127.0.0.1:9 does not answer"):
        FeatureStore(url="http://127.0.0.1:9").get_online_features(FEATURES, [{"user_id": 1}])
    with pytest.raises(InputError, match="leave these out"):
        FeatureStore(url="http://127.0.0.1:9", redis_url=redis_url)
    path, (key,) = keys_file(tmp_path, ("all", ["*"], ["*"]))
    with serving(redis_url, "--api-keys", str(path)) as (client, _):
        url = str(client.base_url)
        assert FeatureStore(url=url, api_key=key).get_online_features(FEATURES[:1], [{"user_id": 1}]).to_dict()
        with pytest.raises(OnlineStoreError, match="The API key is not known here"):
            FeatureStore(url=url, api_key="wrong").get_online_features(FEATURES, [{"user_id": 1}])
