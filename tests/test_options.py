"""Options: an empty text is never an option, and a Redis URL takes only what leaves answers as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from materializer import FeatureStore, InputError, OnlineStoreError
from materializer.cli import feature_store
from materializer.errors import FeatureStoreError
from materializer.online.connect import connect
from materializer.online.urls import OPTIONS
from tests.support.command import contents, run
from tests.support.dbt import DbtProject
from tests.support.faults import Server, new_project, sql


def texts() -> Iterator[tuple[str, ...]]:
    """Every option and argument of every command that takes a text."""

    def walk(command: click.Command, way: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(command.get_command(context, name), (*way, name))
            return
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield way
            elif not parameter.is_flag and not isinstance(parameter.type, click.types.IntParamType):
                yield from ((*way, option) for option in parameter.opts)

    yield from walk(feature_store, ())


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_text_is_wrong_usage_everywhere(tmp_path: Path, empty: str) -> None:
    cases = list(texts())
    assert len(cases) > 60
    for case in cases:
        ran = run("feature-store", *case, empty, cwd=tmp_path, env={"FEATURE_STORE_REDIS_URL": "redis://127.0.0.1:1"})
        assert (ran.code, ran.out) == (2, ""), (case, ran)
        assert "Traceback" not in ran.err and "Error: " in ran.err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = new_project(tmp_path_factory.mktemp("options") / "shop")
    sql(project, """create table kinds as select range as user_id, range as amount,
        timestamptz '2024-05-01 00:00+00' as event_timestamp from range(5)""")  # fmt: skip
    return project


def test_an_empty_option_of_materialize_writes_nothing_anywhere(project: DbtProject, server: Server) -> None:
    server.client.flushall()
    where = ("--project-dir", str(project.folder), "--redis-url", server.url)
    for option in ("--namespace", "--as-of", "--select", "--target", "--memory-limit"):
        for form in ((option, ""), (f"{option}=",)):
            assert run("materialize", "kinds", *where, *form).code == 2
    assert contents(server.client) == {}


def test_to_write_from_executors_is_for_spark_alone(project: DbtProject, server: Server) -> None:
    server.client.flushall()
    ran = run("materialize", "--from-executors", "--project-dir", str(project.folder), "--redis-url", server.url)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: --from-executors is for a Spark target of dbt's method session, and target 'dev' is duckdb: leave it out.\n"
    )
    assert contents(server.client) == {}


@pytest.mark.parametrize("name", ["project_dir", "target", "profiles_dir", "redis_url", "namespace", "repo_path"])
def test_an_empty_argument_of_a_store_is_refused(project: DbtProject, name: str) -> None:
    arguments: dict[str, Any] = {"project_dir": project.folder, name: ""}
    with pytest.raises(InputError, match=f"{name} is an empty text"):
        FeatureStore(**arguments)


def test_an_empty_moment_or_size_is_refused(project: DbtProject, server: Server) -> None:
    store = FeatureStore(project.folder, redis_url=server.url, namespace="past")
    for arguments in ({"as_of": ""}, {"memory_limit": ""}):
        with pytest.raises(FeatureStoreError):
            store.materialize(feature_views=["kinds"], **arguments)


def test_an_empty_environment_variable_is_as_none(project: DbtProject, server: Server) -> None:
    empty = {"FEATURE_STORE_WEBHOOK_URL": "", "DBT_PROJECT_DIR": "", "DBT_TARGET": "", "DBT_PROFILES_DIR": ""}
    ran = run("materialize", "kinds", "--redis-url", server.url, cwd=project.folder, env=empty)
    assert ran.code == 0, ran.err
    ran = run("materialize", "kinds", cwd=project.folder, env=empty | {"FEATURE_STORE_REDIS_URL": ""})
    assert "Redis at 127.0.0.1:6379" in ran.err or ran.code == 0


# What stands behind the ? of a Redis URL.

HARMFUL = [
    "decode_responses=True", "decode_responses=False", "encoding=latin-1", "encoding_errors=ignore", "protocol=3",
    "protocol=2", "legacy_responses=False", "retry_on_error=a,b", "retry_on_timeout=yes", "retry=3", "timeout=3",
    "max_connections=1", "health_check_interval=1", "single_connection_client=True", "parser_class=x", "encoder_class=x",
    "connection_class=x", "connection_pool=x", "redis_connect_func=x", "credential_provider=x", "command_packer=x",
    "event_dispatcher=x", "maint_notifications_config=x", "driver_info=x", "lib_name=x", "socket_read_size=0",
    "socket_keepalive_options=x", "socket_type=1", "host=other", "port=1", "path=/x", "ssl=True", "cache_config=x",
    "ssl_validate_ocsp=1", "ssl_include_verify_flags=x", "charset=x", "errors=x", "auto_close_connection_pool=0",
]  # fmt: skip


@pytest.mark.parametrize("option", HARMFUL)
@pytest.mark.parametrize("kind", ["redis://{}/0", "redis+cluster://{}", "redis+sentinel://{}/m"])
def test_an_option_that_changes_how_answers_are_read_is_refused_by_name(option: str, kind: str) -> None:
    url = kind.format("127.0.0.1:1") + f"?{option}"
    with pytest.raises(OnlineStoreError) as refused:
        FeatureStore(redis_url=url, namespace="n").get_online_features(["a:b"], [{"a": 1}])
    said, name = str(refused.value), option.partition("=")[0]
    assert said.startswith("The Redis URL has an option") and "Behind its ? may stand client_name, db" in said
    assert f"'{name}'" in said or "_" not in name
    assert len(said) < 500


@pytest.mark.parametrize(
    "option",
    ["socket_timeout=0", "socket_timeout=-1", "socket_timeout=nan", "socket_timeout=inf", "socket_timeout=1e300",
     "socket_connect_timeout=x", "db=x", "db=-1", "ssl_min_version=3"],
)  # fmt: skip
def test_a_value_that_no_connection_can_have_is_refused(option: str) -> None:
    with pytest.raises(OnlineStoreError, match=rf"\({option.partition('=')[0]}\)"):
        connect(f"redis://127.0.0.1:1/0?{option}")
    with pytest.raises(OnlineStoreError):
        connect("redis+cluster://127.0.0.1:1?db=3")


def test_the_other_options_leave_answers_as_they_are(project: DbtProject, server: Server, namespace: str) -> None:
    values = {
        "socket_timeout": "7.5",
        "socket_connect_timeout": "2",
        "socket_keepalive": "no",
        "client_name": "me",
        "db": "0",
    }
    options = "&".join(f"{name}={values[name]}" for name in OPTIONS if name in values)
    store = FeatureStore(project.folder, redis_url=f"{server.url.rstrip('0')}?{options}", namespace=namespace)
    assert store.materialize(feature_views=["kinds"])[0].rows_written == 5
    assert store.materialize(feature_views=["kinds"])[0].rows_written == 0
    assert store.get_online_features(["kinds:amount"], {"user_id": [3, 7]}).to_dict()["amount"] == [3, None]


# Prune, without doing it.


def test_a_dry_prune_says_what_would_go_and_changes_nothing(
    project: DbtProject, server: Server, namespace: str
) -> None:
    store = FeatureStore(project.folder, redis_url=server.url, namespace=namespace)
    store.materialize(feature_views=["kinds"])
    client, left = server.client, f"{namespace}:left"
    entry = client.hget(f"{namespace}:registry", "kinds").replace(b'"kinds"', b'"left"').replace(b'"2', b'"1', 1)
    old = entry[: entry.index(b'"published_at"')] + b'"published_at": "2024-01-01T00:00:00+00:00", ' + (
        entry[entry.index(b'"arrow_schema"') :]
    )  # fmt: skip
    client.hset(f"{namespace}:registry", mapping={"left": old, "recent": client.hget(f"{namespace}:registry", "kinds")})
    client.hset(f"{left}:1", mapping={"_fs_writer": "run:x", "_fs_event": "2024-01-01T00:00:00.000000Z"})
    client.hset(f"{left}:2", mapping={"_fs_writer": "pushed", "_fs_event": "2024-01-01T00:00:00.000000Z"})
    before = contents(client)
    where = ("--project-dir", str(project.folder), "--redis-url", server.url, "--namespace", namespace)
    ran = run("feature-store", "prune", "--dry-run", *where, "--output", "json")
    assert ran.code == 0 and ran.json["dry_run"] is True
    assert {one["view"]: one["rows_deleted"] for one in ran.json["views"]} == {"left": 1, "recent": None}
    assert run("feature-store", "prune", "--dry-run", *where).out.startswith("A dry run: nothing was changed.")
    assert contents(client) == before
    assert {one.view: one.rows_deleted for one in store.prune()} == {"left": 1, "recent": None}
    assert not client.exists(f"{left}:1") and client.exists(f"{left}:2")
    assert {one.view for one in store.prune()} == {"recent"}
