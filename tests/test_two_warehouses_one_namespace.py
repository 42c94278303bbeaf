"""Two schemas or warehouses that are materialized into one namespace: each run says that another one wrote here last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore
from tests.support.command import run
from tests.support.manifests import bare_project, manifest, write_models

ROW = "select 1::bigint as user_id, timestamp '2026-01-01' as event_timestamp, {} as v"


def project(folder: Path, schema: str, value: int) -> Path:
    bare_project(folder)
    profile = (
        f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, path: {folder}/shop.duckdb, schema: {schema}}}}}}}\n"
    )
    (folder / "profiles.yml").write_text(profile)
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute(f"create schema if not exists {schema}; create table {schema}.users as {ROW.format(value)}")
    return write_models(folder, manifest({"users": ROW}, {"users": {"entities": ["user_id"]}}, schema=schema))


@pytest.fixture
def materialized(redis_url: str, namespace: str) -> Any:
    def go(folder: Path, **options: Any) -> tuple[str, ...]:
        store = FeatureStore(folder, profiles_dir=folder, redis_url=redis_url, namespace=namespace)
        (result,) = store.materialize(**options)
        return result.warnings

    return go


@pytest.mark.parametrize("other", ["schema", "file"])
def test_it_is_said_once_by_the_run_that_reads_elsewhere(
    tmp_path: Path, materialized: Any, redis_url: str, namespace: str, other: str
) -> None:
    first = project(tmp_path / "one", "main", 1)
    assert materialized(first) == materialized(first) == ()
    second = project(tmp_path / "one", "pr_7", 2) if other == "schema" else project(tmp_path / "two", "main", 2)
    before = f'"shop"."main"."users" of {tmp_path}/one/shop.duckdb'
    now = f'"shop"."{"pr_7" if other == "schema" else "main"}"."users" of {second}/shop.duckdb'
    sentence = (
        f"The rows of 'users' were last read from {before}, and now from {now}: two that share a namespace overwrite "
        "each other; give each its own --namespace."
    )
    where = ("--project-dir", str(second), "--profiles-dir", str(second), "--redis-url", redis_url)
    said = run("feature-store", "doctor", *where, "--namespace", namespace).out
    assert f"warn  online: 1 feature view published in namespace {namespace}. {sentence}" in said
    assert materialized(second, dry_run=True) == (sentence,)
    assert materialized(second) == (sentence,)
    assert materialized(second) == ()
    assert sentence not in run("feature-store", "doctor", *where, "--namespace", namespace).out


def test_a_view_that_an_older_release_published_is_no_other_warehouses(
    tmp_path: Path, materialized: Any, client: Any, namespace: str
) -> None:
    import json

    folder = project(tmp_path, "main", 1)
    materialized(folder)
    published = json.loads(client.hget(f"{namespace}:registry", "users"))
    del published["read_from"]
    client.hset(f"{namespace}:registry", "users", json.dumps(published))
    assert materialized(folder) == ()
