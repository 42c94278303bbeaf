"""A feature service that names what no view has is not published: its last good state stays, and the views land."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore, MaterializationError, NotFoundError
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.faults import Server, new_project, sql


def declare(project: DbtProject, **services: list[str]) -> None:
    """Give the manifest these exposures, as dbt writes them."""
    path = project.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exposures"] = {
        f"exposure.shop.{name}": {
            "name": name, "type": "ml", "unique_id": f"exposure.shop.{name}", "resource_type": "exposure",
            "owner": {"name": "us"}, "description": "", "tags": [], "meta": {},
            "config": {"meta": {"features": features}}, "depends_on": {"nodes": []},
        }
        for name, features in services.items()
    }  # fmt: skip
    path.write_text(json.dumps(manifest))


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    project = new_project(tmp_path / "shop")
    for view in ("kinds", "readings"):
        sql(project, f"""create table {view} as select range as user_id, range as amount, 2 * range as twice,
            timestamptz '2024-05-01 00:00+00' as event_timestamp,
            timestamptz '2024-05-01 00:00+00' as created_at from range(5)""")  # fmt: skip
    return project


@pytest.fixture
def store(project: DbtProject, server: Server, namespace: str) -> FeatureStore:
    return FeatureStore(project.folder, redis_url=server.url, namespace=namespace)


def ask(server: Server, namespace: str, service: str) -> dict[str, list[Any]]:
    reader = FeatureStore(redis_url=server.url, namespace=namespace)
    return reader.get_online_features(service, {"user_id": [3]}).to_dict()


def test_a_mistyped_feature_keeps_the_services_last_good_state(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    declare(project, ours=["kinds:amount"], theirs=["readings:twice"], old=["kinds:twice"])
    store.materialize(feature_views=["kinds", "readings"])
    declare(project, ours=["kinds:amount", "kinds:amonut"], theirs=["readings:amount"])
    sql(project, "update kinds set amount = 33 where user_id = 3")
    with pytest.raises(MaterializationError) as failure:
        store.materialize(feature_views=["kinds", "readings"])
    assert [result.error for result in failure.value.results] == [None, None]
    assert list(failure.value.services) == ["ours"]
    said = failure.value.services["ours"]
    assert "'ours' names 'kinds:amonut', but feature view 'kinds' has no feature 'amonut' (it has: amount" in said
    assert ask(server, namespace, "ours") == {"user_id": [3], "amount": [33]}
    assert ask(server, namespace, "theirs") == {"user_id": [3], "amount": [3]}
    with pytest.raises(NotFoundError):
        ask(server, namespace, "old")
    declare(project, ours=["kinds:amount", "kinds:twice"], theirs=["readings:amount"])
    store.materialize(feature_views=["readings"])
    assert ask(server, namespace, "ours") == {"user_id": [3], "amount": [33], "twice": [6]}


def test_a_feature_that_is_dropped_under_a_service_is_a_warning(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    declare(project, ours=["kinds:amount", "kinds:twice"])
    store.materialize(feature_views=["kinds"])
    sql(project, "alter table kinds drop column twice")
    (result,) = store.materialize(feature_views=["kinds"])
    assert "'ours' names 'kinds:twice', but feature view 'kinds' has no feature 'twice'" in result.warnings[0]
    with pytest.raises(NotFoundError, match="has no feature 'twice'"):
        ask(server, namespace, "ours")


def test_one_that_never_was_right_is_not_published_at_all(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    declare(project, ours=["kinds:nothing"], theirs=["kinds:twice"])
    with pytest.raises(MaterializationError, match="has no feature 'nothing'"):
        store.materialize(feature_views=["kinds"])
    assert ask(server, namespace, "theirs")["twice"] == [6]
    with pytest.raises(NotFoundError, match="There is no feature service 'ours'"):
        ask(server, namespace, "ours")


@pytest.mark.parametrize("dry", [False, True])
def test_the_command_exits_with_1_and_its_json_has_every_view(
    project: DbtProject, server: Server, namespace: str, dry: bool
) -> None:
    declare(project, ours=["readings:nothing", "kinds:amonut"])
    where = ("--project-dir", str(project.folder), "--redis-url", server.url, "--namespace", namespace)
    args = ("materialize", "kinds", "readings", *where, *(["--dry-run"] if dry else []))
    ran = run(*args, "--output", "json")
    assert ran.code == 1
    assert [(view["view"], view["rows_written"], view["error"]) for view in ran.json["views"]] == [
        ("kinds", 5, None), ("readings", 5, None),
    ]  # fmt: skip
    (service,) = ran.json["services"]
    assert service["service"] == "ours" and "'nothing'" in service["error"] and "'amonut'" in service["error"]
    ran = run(*args)
    assert ran.code == 1 and ran.out.count("kinds") == 1
    assert ran.err.startswith("Error: Exposure 'ours' names 'readings:nothing'")


def test_a_view_that_is_not_built_yet_is_no_fault_of_the_service(
    project: DbtProject, store: FeatureStore, server: Server, namespace: str
) -> None:
    declare(project, ours=["kinds:amount", "pairs:anything"])
    assert store.materialize(feature_views=["kinds"])[0].error is None
    assert server.client.hexists(f"{namespace}:services", "ours")
