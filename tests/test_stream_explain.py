"""What ``feature-store stream`` and its ``--explain`` and ``--verify`` say of a project, to people and to programs."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore
from materializer.stream import background
from materializer.stream.place import any_landing_of
from materializer.stream.source import streamed_sources
from tests.support.command import Ran, run
from tests.support.dbt import DbtProject
from tests.support.streamed import streamed

ONLINE = {"feature_view": {"entities": ["user_id"]}}
FILES: dict[str, Any] = {
    "models/models.yml": {
        "sources": [{
            "name": "shop", "database": "landing", "schema": "main",
            "tables": [{
                "name": "purchases",
                "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id", "timestamp": "purchased_at"}}},
                "columns": [
                    {"name": "user_id", "data_type": "bigint"}, {"name": "amount", "data_type": "double"},
                    {"name": "purchased_at", "data_type": "timestamptz"},
                ],
            }],
        }],
        "models": [{"name": name, "config": {"meta": ONLINE}} for name in ("ranked", "spent", "tiers")],
    },
    # Whoever is above her moves a user down.
    "models/ranked.sql": "select user_id, purchased_at as event_timestamp,\n"
    "    rank() over (order by amount desc) as place\nfrom {{ source('shop', 'purchases') }}",
    "models/spent.sql": "select user_id, max(purchased_at) as event_timestamp, {{ total() }} as spent\n"
    "from {{ source('shop', 'purchases') }} group by user_id",
    "macros/total.sql": "{% macro total() %}sum(amount){% endmacro %}",
    "models/tiers.sql": "select 1 as user_id, timestamptz '2026-01-01' as event_timestamp, 2 as tier",
}  # fmt: skip
EVENT = {"user_id": 1, "amount": 2.5, "purchased_at": "2026-01-01T00:00:00Z"}
BROKEN = (
    "select * from {{ source('shop', 'purchases') }} {{ exceptions.raise_compiler_error('no such day') if execute }}"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = streamed(tmp_path_factory.mktemp("explained") / "shop", FILES)
    FeatureStore(project.folder, redis_url="redis://localhost:1").push("purchases", [EVENT])
    project.dbt("build")
    return project


def stream(project: DbtProject, redis_url: str, namespace: str, *flags: str) -> Ran:
    return run("feature-store", "stream", *flags, "--project-dir", str(project.folder), "--redis-url", redis_url,
               "--namespace", namespace, cwd=project.folder)  # fmt: skip


def test_each_view_streams_or_is_told_why_not(shop: DbtProject, redis_url: str, namespace: str) -> None:
    ran = stream(shop, redis_url, namespace, "--explain")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "ranked: does not stream, as its window is over the rows of all entities.",
        "    models/ranked.sql:2  RANK() OVER (ORDER BY amount DESC)",
        "spent: streams by user_id, from shop.purchases.",
        "tiers: does not stream, as it reads no streamed source.",
    ]


def test_what_dbt_kept_of_its_last_reading_is_no_answer_where_a_macro_has_changed(
    shop: DbtProject, redis_url: str, namespace: str
) -> None:
    asked = ("--explain", "--output", "json")
    macro = shop.folder / "macros" / "total.sql"
    before = macro.read_text()
    for text, streams in (
        (before, True),
        (before.replace("sum(amount)", "sum(sum(amount)) over ()"), False),
        (before, True),
    ):
        macro.write_text(text)
        shop.dbt("parse")
        views = {one["view"]: one for one in stream(shop, redis_url, namespace, *asked).json["views"]}
        assert bool(views["spent"]["keys"]) == streams, views["spent"]
        assert (shop.folder / "target" / "feature_store_partial_parse.msgpack").is_file()


def test_a_view_that_dbt_does_not_compile_is_not_taken_for_one_that_does_not_stream(
    shop: DbtProject, redis_url: str, namespace: str
) -> None:
    model = shop.folder / "models" / "spent.sql"
    before = model.read_text()
    try:
        model.write_text(BROKEN)
        shop.dbt("parse")
        views = stream(shop, redis_url, namespace, "--explain", "--output", "json").json["views"]
        explained = {one["view"]: one for one in views}
        assert explained["spent"]["why"].startswith("dbt does not compile it: ")
        verified = stream(shop, redis_url, namespace, "--verify", "--output", "json")
        problems = {one["view"]: one["problem"] for one in verified.json["views"]}
        assert verified.code == 1
        assert "no such day" in problems["spent"]
    finally:
        model.write_text(before)
        shop.dbt("parse")


def test_the_stream_tries_again_once_dbt_compiles_it(
    shop: DbtProject, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)
    store.materialize(["spent"])
    monkeypatch.setattr(background, "_LONG_PAUSE", 0.2)
    said: list[str] = []

    def hear(text: str) -> None:
        end = time.monotonic() + 200
        while not any(text in one for one in said):
            assert time.monotonic() < end, said
            time.sleep(0.05)

    model = shop.folder / "models" / "spent.sql"
    before = model.read_text()
    landing = any_landing_of(store.project, streamed_sources(shop.manifest()), store.landing_clock())
    try:
        model.write_text(BROKEN)
        shop.dbt("parse")
        keeping = background.Background(store.project, namespace, store.online_store, landing, said.append)
        with closing(landing), closing(keeping):
            hear("Not kept online: 'spent', as dbt does not compile it: ")
            model.write_text(before)
            shop.dbt("parse")
            hear("'spent' is kept online by user_id")
    finally:
        model.write_text(before)
        shop.dbt("parse")


def test_where_nothing_streams_a_program_reads_no_sentence(redis_url: str, namespace: str, tmp_path: Path) -> None:
    listed = FILES["models/models.yml"] | {"models": [{"name": "tiers", "config": {"meta": ONLINE}}]}
    models = {"models/models.yml": listed, "models/tiers.sql": FILES["models/tiers.sql"]}
    project = streamed(tmp_path / "shop", models)
    FeatureStore(project.folder, redis_url=redis_url).push("purchases", [EVENT])
    project.dbt("build")
    verified = stream(project, redis_url, namespace, "--verify", "--output", "json")
    assert (verified.code, verified.json) == (0, {"views": []})
    assert verified.err == "No view of this project streams: `feature-store stream --explain` says why.\n"
    assert stream(project, redis_url, namespace, "--verify").out == verified.err
