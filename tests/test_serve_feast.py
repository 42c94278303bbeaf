"""Feast's own client at our server: its ``remote`` online store gets what Feast's own server gives over the same rows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from materializer import FeatureStore
from tests.support.dbt import copy_of
from tests.support.shop import built_shop
from tests.test_serve import serving

ASKED = ["user_features:age", "user_features:city", "user_features:score"]
USERS = [1, 2, 3, 99]
FEAST = """
import json, socket, sys, threading, time
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import requests
import uvicorn
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType, feature_server
from feast.types import Float64, Int64, String

folder, url = Path(sys.argv[1]), sys.argv[2]
features, users = json.loads(sys.argv[3]), json.loads(sys.argv[4])
rows = pd.DataFrame({
    "user_id": [1, 2, 3],
    "event_timestamp": [datetime(2024, 5, 1, 12, 30, 0, 250000, tzinfo=timezone.utc)] * 3,
    "age": pd.array([31, 9007199254740993, None], "Int64"),
    "city": ["Bergen", None, ""],
    "score": [0.1, float("nan"), -0.0],
})
rows.to_parquet(folder / "users.parquet")
user = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.INT64)
view = FeatureView(
    name="user_features", entities=[user],
    schema=[Field(name="user_id", dtype=Int64), Field(name="age", dtype=Int64), Field(name="city", dtype=String),
            Field(name="score", dtype=Float64)],
    source=FileSource(path=str(folder / "users.parquet"), timestamp_field="event_timestamp"),
)

def store(name, online):
    store = FeatureStore(config=RepoConfig(
        project="shop", registry=str(folder / f"{name}.db"), provider="local", online_store=online,
        entity_key_serialization_version=3,
    ))
    store.apply([user, view])
    return store

def values(store):
    answer = store.get_online_features(features=features, entity_rows=[{"user_id": one} for one in users])
    return answer.to_dict()

own = store("own", {"type": "sqlite", "path": str(folder / "online.db")})
own.write_to_online_store("user_features", rows)
listening = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(feature_server.get_app(own), log_level="error"))
threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
while not server.started:
    time.sleep(0.05)
body = {"features": features, "entities": {"user_id": users}}
answer = requests.post(f"http://127.0.0.1:{listening.getsockname()[1]}/get-online-features", json=body)
print(json.dumps({
    "by_our_server": values(store("remote", {"type": "remote", "path": url})),
    "by_feast": values(own),
    "feasts_answer": answer.json(),
}))
"""


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, feast_python: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What Feast says, and our server's answer to the request that its server answered."""
    folder = tmp_path_factory.mktemp("remote")
    shop = copy_of(built_shop(), folder / "shop")
    FeatureStore(shop.folder, redis_url=redis_url, namespace="feast").materialize()
    (folder / "ask.py").write_text(FEAST)
    with serving(redis_url, namespace="feast") as (client, _):
        command = [feast_python, str(folder / "ask.py"), str(folder), str(client.base_url), json.dumps(ASKED),
                   json.dumps(USERS)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        ours: httpx.Response = client.post(
            "/get-online-features", json={"features": ASKED, "entities": {"user_id": USERS}}
        )
        yield json.loads(done.stdout.splitlines()[-1]), ours.json()


def test_feasts_remote_store_gets_from_our_server_what_feast_has(answers: tuple[dict[str, Any], Any]) -> None:
    feast, _ = answers
    ours, theirs = feast["by_our_server"], feast["by_feast"]
    for name in ("user_id", "city"):
        assert ours[name] == theirs[name]
    # Feast itself rounds integers beyond 2^53 that stand beside a NULL, and takes NaN for NULL.
    assert ours["age"] == [31, 9007199254740993, None, None]
    assert [one and float(one) for one in ours["age"]] == [one and float(one) for one in theirs["age"]]
    assert ours["score"] == [0.1, "nan", -0.0, None] and theirs["score"] == [0.1, None, -0.0, None]


def test_our_servers_answer_is_feasts_field_for_field(answers: tuple[dict[str, Any], Any]) -> None:
    feast, ours = answers
    theirs = feast["feasts_answer"]
    assert ours.keys() == theirs.keys()
    named, other = (dict(zip(a["metadata"]["feature_names"], a["results"], strict=True)) for a in (ours, theirs))
    assert ours["metadata"]["feature_names"] == ["user_id", "age", "city", "score"]
    assert named.keys() == other.keys()  # Feast's order is that of a set
    for name in named:
        assert named[name].keys() == other[name].keys(), name
        assert list(map(len, named[name].values())) == list(map(len, other[name].values())), name
