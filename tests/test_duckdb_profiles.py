"""A DuckDB warehouse is opened as dbt-duckdb opens it: attached databases, settings, secrets, file systems; read-only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from materializer import FeatureStore, WarehouseError
from materializer.materialize.state import state_folder
from materializer.project.relation import Relation
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from tests.support.command import run
from tests.support.manifests import manifest, write_models

ROWS = "select 1::bigint as user_id, timestamptz '2026-01-01 00:00:00+00' as event_timestamp, 2 as v"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in ("shop", "other"):
        with duckdb.connect(str(folder / f"{name}.duckdb")) as connection:
            connection.execute(f"create table users as {ROWS}")
            connection.execute("create view settings as select current_setting('TimeZone') as zone, 7 / 2 as half")
            connection.execute(f"copy ({ROWS}) to '{folder / 'rows.parquet'}'")
    return folder


@pytest.fixture
def profile(files: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a project whose target has these settings; its folder has ``shop.duckdb`` and ``other.duckdb``."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)

    def make(**settings: Any) -> Path:
        (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
        output = {"type": "duckdb", "path": "shop.duckdb", **settings}
        (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": output}}}))
        return tmp_path

    return make


def value(folder: Path, sql: str) -> Any:
    with open_warehouse(load_project(folder)) as warehouse:
        return warehouse.query(f"select {sql}").column(0)[0].as_py()


def test_attached_databases_are_there_and_read_only(profile: Callable[..., Path], tmp_path: Path) -> None:
    attached = [{"path": "other.duckdb", "alias": "lake"}, {"path": str(tmp_path / "shop.duckdb"), "alias": "twin"}]
    folder = profile(attach=attached[:1])
    assert value(folder, "v from lake.main.users") == 2
    with open_warehouse(load_project(folder)) as warehouse, pytest.raises(WarehouseError, match="read-only"):
        warehouse.execute("create table lake.main.x (i integer)")
    # dbt may hold neither: the one that is attached can be written as soon as the call is over
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("create table more (i integer)")


def test_a_view_in_an_attached_database_is_a_feature_view_like_any_other(profile: Callable[..., Path]) -> None:
    folder = profile(path=":memory:", database="lake", attach=[{"path": "other.duckdb", "alias": "lake"}])
    content = manifest({"users": ROWS}, views={"users": {"entities": ["user_id"]}})
    node = content["nodes"]["model.shop.users"]
    node |= {"database": "lake", "schema": "main", "relation_name": '"lake"."main"."users"'}
    write_models(folder, content)
    (view,) = FeatureStore(folder).list_feature_views()
    assert str(view.features[0].dtype) == "int32"
    spine = "select 1::bigint as user_id, now() as event_timestamp"
    assert FeatureStore(folder).get_historical_features(spine, ["users:v"]).to_arrow()["v"].to_pylist() == [2]
    assert state_folder(load_project(folder)) == folder / "other.duckdb.feature_store"


def test_an_attached_kind_of_database_may_be_another(profile: Callable[..., Path]) -> None:
    folder = profile(attach=[{"path": "x.db", "type": "sqlite", "alias": "s"}])
    (folder / "x.db").write_bytes(b"")
    try:
        assert value(folder, "1") == 1
    except WarehouseError as error:  # the extension may have to be downloaded
        assert "Target 'dev' attaches x.db, and DuckDB cannot: " in str(error)


@pytest.mark.parametrize(
    ("settings", "sql", "expected"),
    [
        ({"settings": {"TimeZone": "America/New_York"}}, "zone from settings", "UTC"),
        ({"settings": {"integer_division": True}}, "7 / 2", 3),
        ({"settings": {"threads": 1}}, "current_setting('threads')", 1),
        ({"settings": {"default_order": "desc"}}, "list(i) from (select unnest([2, 1, 3]) as i order by i)", [1, 2, 3]),
        ({"settings": {"default_null_order": "nulls_first"}},
         "list(i) from (select unnest([2, null, 1]) as i order by i)", [1, 2, None]),
        ({"settings": {"default_collation": "nocase"}}, "'a' = 'A'", False),
        ({"settings": {"preserve_insertion_order": False}}, "v from users", 2),
        ({"settings": {"arrow_lossless_conversion": True}}, "uuid '00000000-0000-0000-0000-000000000001'::varchar", "0" * 8 + "-0000-0000-0000-000000000001"),
        ({"config_options": {"threads": 1, "access_mode": "READ_WRITE"}}, "current_setting('access_mode')", "read_only"),
        ({"config_options": {"custom_user_agent": "dbt"}}, "v from users", 2),
        ({"secrets": [{"type": "s3", "key_id": "k", "secret": "it's"}]}, "name from duckdb_secrets()", "_dbt_secret_1"),
        ({"secrets": [{"type": "s3", "name": "mine", "key_id": "k", "secret": "s", "persistent": True, "scope": ["s3://a", "s3://b"]}]},
         "persistent from duckdb_secrets()", False),
        ({"extensions": ["parquet"]}, "v from users", 2),
        ({"keep_open": False, "disable_transactions": True, "retries": {"connect_attempts": 3}}, "v from users", 2),
        ({"plugins": [{"module": "not_there"}], "module_paths": ["/nowhere"]}, "v from users", 2),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_profile_sets_holds_but_never_changes_an_order_or_a_zone(
    profile: Callable[..., Path], settings: dict[str, Any], sql: str, expected: Any
) -> None:
    folder = profile(**settings)
    try:
        found = value(folder, sql)
    except WarehouseError as error:
        # Where an extension is not installed and cannot be downloaded.
        assert any(word in str(error) for word in ("refused secret", "cannot be loaded")), error
        return
    assert found == expected


def test_file_systems_are_registered(profile: Callable[..., Path]) -> None:
    fsspec = pytest.importorskip("fsspec")
    folder = profile(filesystems=[{"fs": "memory"}])
    with fsspec.filesystem("memory").open("/rows.parquet", "wb") as file:
        file.write((folder / "rows.parquet").read_bytes())
    assert value(folder, "v from read_parquet('memory://rows.parquet')") == 2


def test_a_view_over_a_file_by_a_relative_path_is_read_from_anywhere(
    profile: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = profile()
    monkeypatch.chdir(folder)
    with duckdb.connect("shop.duckdb") as connection:
        connection.execute("create view external as select * from read_parquet('rows.parquet')")
    assert value(folder, "v from external") == 2
    monkeypatch.chdir("/")
    assert value(folder, "v from external") == 2


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"settings": {"no_such_setting": SECRET}}, "DuckDB refused the profile's setting 'no_such_setting': it is no setting of DuckDB."),
        ({"settings": {"threads": SECRET}}, "DuckDB refused the profile's setting 'threads': "),
        ({"settings": ["x"]}, "`settings` of the profile is no mapping"),
        ({"attach": {"path": "x"}}, "`attach` of the profile is no list"),
        ({"attach": ["x.duckdb"]}, "Target 'dev' has an `attach` without a `path`."),
        ({"attach": [{"path": "absent.duckdb"}]}, "Target 'dev' attaches absent.duckdb, and DuckDB cannot: "),
        ({"extensions": ["no_such_extension"]}, "The profile's DuckDB extension 'no_such_extension' cannot be loaded: "),
        ({"secrets": [{"type": "no_such_kind", "secret": SECRET}]}, "DuckDB refused secret '_dbt_secret_1' of the profile, of type no_such_kind"),
        ({"secrets": [{"secret": SECRET}]}, "Secret 1 of the profile has no `type`."),
        ({"filesystems": [{"fs": "no_such_system", "key": SECRET}]}, "The profile's file system 'no_such_system'"),
        ({"path": "md:prod?motherduck_token=" + SECRET}, "Target 'dev' uses MotherDuck (md:prod); this release reads DuckDB files."),
        ({"attach": [{"path": "md:prod?motherduck_token=" + SECRET}]}, "Target 'dev' uses MotherDuck (md:prod)"),
        ({"remote": {"host": "x", "port": 1, "user": "u", "password": SECRET}}, "is a remote DuckDB server"),
        ({"path": ":memory:"}, "Target 'dev' is an in-memory DuckDB, which is gone once dbt ends: give it a `path`."),
        ({"path": "s3://bucket/x.duckdb"}, "Target 'dev' is DuckDB at s3://bucket/x.duckdb; this release reads local files."),
        ({"path": "absent.duckdb"}, "There is no DuckDB file "),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_had_is_named_without_a_secret(
    profile: Callable[..., Path], settings: dict[str, Any], sentence: str
) -> None:
    folder = profile(**settings)
    with pytest.raises(WarehouseError) as error:
        value(folder, "1")
    assert sentence in str(error.value)
    assert SECRET not in str(error.value)


def test_every_part_of_a_profile_of_another_type_is_a_sentence(profile: Callable[..., Path]) -> None:
    parts = ("attach", "settings", "secrets", "filesystems", "extensions", "config_options", "plugins", "retries")
    tried = 0
    for part in parts:
        for given in (5, "x", [5], ["x"], [{}], [None], [[]], {"x": 5}, {"x": {}}, [{"path": 5}], [{"type": 5}], True):
            folder = profile(**{part: given})
            tried += 1
            try:
                assert value(folder, "1") == 1
            except WarehouseError as error:
                assert "\n" not in str(error)
    assert tried == 96


def test_a_profile_that_dbt_would_open_is_opened_by_the_commands_too(profile: Callable[..., Path]) -> None:
    folder = profile(attach=[{"path": "other.duckdb", "alias": "lake"}], settings={"threads": 2})
    content = manifest({"users": ROWS}, views={"users": {"entities": ["user_id"]}})
    content["nodes"]["model.shop.users"] |= {"database": "shop"}
    write_models(folder, content)
    shown = run("feature-store", "show", "users", "--project-dir", str(folder), "--profiles-dir", str(folder))
    assert shown.out, shown.err
    assert "v        feature   int32" in shown.out


def test_a_relation_of_an_attached_database_is_waited_for_while_it_is_locked(
    profile: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = profile(attach=[{"path": "other.duckdb", "alias": "lake"}])
    monkeypatch.setattr("materializer.warehouse.duckdb_profile._PATIENCE", 0.1)
    held = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    command = [sys.executable, "-c", held, str(folder / "other.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match=r"other\.duckdb, and DuckDB cannot: it is locked"):
            value(folder, "1")
        other.communicate("\n")
    with open_warehouse(load_project(folder)) as warehouse:
        assert warehouse.columns(Relation("lake.main.users"))
