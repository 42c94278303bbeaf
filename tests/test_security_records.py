"""A record or a manifest that came from elsewhere: nothing in it runs, and it reads no file that was not asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore, FeatureStoreError
from materializer.project.settings import load_project
from materializer.warehouse import query_apart
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import built_shop, profile_of

SPINE = "select 1::bigint as user_id, timestamp '2024-06-01' as event_timestamp"


@pytest.fixture
def shop(tmp_path: Path) -> DbtProject:
    return copy_of(built_shop(), tmp_path / "shop")


@pytest.fixture
def command(shop: DbtProject, tmp_path: Path) -> Callable[..., Ran]:
    def call(*args: str) -> Ran:
        where = ("--project-dir", str(shop.folder), "--redis-url", "redis://127.0.0.1:1")
        return run("feature-store", *args, *where, cwd=tmp_path)

    return call


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# Training records.


@pytest.fixture
def record(shop: DbtProject, tmp_path: Path) -> Callable[..., Path]:
    """Writes the record of a training set made from a SELECT, with its spine changed."""
    store = FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1")
    store.save_training_set(tmp_path / "set.parquet", SPINE, ["user_features:age"])

    def write(**spine: Any) -> Path:
        path = tmp_path / "set.parquet.json"
        content = json.loads(path.read_text())
        content["spine"] |= spine
        path.write_text(json.dumps(content))
        return path

    return write


SQL = {
    "a statement behind it": "SELECT) as x; copy (select 1) to 'OUT'; select * from (SELECT",
    "two statements": "SELECT; copy (select 1) to 'OUT'",
    "a copy in a CTE": "with x as (copy (select 1 as a) to 'OUT') SELECT",
    "a copy in a subquery": "SELECT from (with x as (copy (select 1 as a) to 'OUT') select 1)",
    "only a copy": "from (SELECT) select 1; copy (select 1) to 'OUT'",
    "a file as text": "SELECT, (select content from read_text('SECRET')) as c",
    "a file as blob": "SELECT, (select content from read_blob('SECRET')) as c",
    "a file as CSV": "SELECT, (select column0 from read_csv('SECRET', header=false)) as c",
    "a file as a table": "SELECT, (select count(*) from 'SECRET') as c",
    "a file as a quoted name": 'SELECT, (select count(*) from "SECRET") as c',
    "file names": "SELECT, (select list(file) from glob('DIR/*')) as c",
    "a log into a file": "SELECT, (select count(*) from enable_logging(storage='file', storage_path='OUT')) as c",
    "an attached file": "from (SELECT) select 1; attach 'OUT'",
    "a setting": "SELECT; set enable_external_access = true",
    "an extension": "SELECT; install httpfs",
    "an insert": "with x as (insert into user_features select * from user_features returning 1) SELECT",
    "a path": "SECRET",
}


@pytest.mark.parametrize("sql", SQL.values(), ids=SQL)
def test_the_select_of_a_record_runs_alone_and_reaches_no_file(
    record: Callable[..., Path], command: Callable[..., Ran], tmp_path: Path, sql: str
) -> None:
    secret, out = tmp_path / "elsewhere" / "secret.csv", tmp_path / "elsewhere" / "written"
    secret.parent.mkdir()
    secret.write_text("user_id,event_timestamp\n1,2024-06-01\n")
    text = sql.replace("SELECT", SPINE).replace("SECRET", str(secret)).replace("OUT", str(out))
    path = record(sql=text.replace("DIR", str(secret.parent)))
    before = files_in(tmp_path)
    ran = command("training", "--from", str(path), "--out", "again.parquet", "--allow-changes")
    assert (ran.code, ran.out) == (1, "")
    assert_one_sentence(ran.err)
    assert "--spine" in ran.err
    assert files_in(tmp_path) == before


def test_an_honest_record_of_a_select_gives_the_same_bytes(
    record: Callable[..., Path], command: Callable[..., Ran], tmp_path: Path, shop: DbtProject
) -> None:
    """Of types that Arrow has no name for, too, and over the warehouse's own tables."""
    sql = (
        "select user_id, event_timestamp, uuid '6f1d7a1e-0000-4000-8000-000000000001' as u, 1::hugeint as h, "
        "time '10:00' as t, [1, null] as l, {'a': 1.5::decimal(9, 2)} "
        "as s, event_timestamp::timestamp as n, '101'::bit as b from user_features order by all"
    )
    store = FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1")
    store.save_training_set(tmp_path / "typed.parquet", sql, ["user_features:age"])
    ran = command("training", "--from", "typed.parquet.json", "--out", "again.parquet")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "typed.parquet").read_bytes()
    old, new = (json.loads((tmp_path / f"{name}.parquet.json").read_text()) for name in ("typed", "again"))
    assert new["spine"] == old["spine"]


def test_the_same_select_as_the_users_own_reads_what_she_likes(
    record: Callable[..., Path], command: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("user_id,event_timestamp\n1,2024-06-01\n")
    sql = f"select * from read_csv('{tmp_path}/labels.csv')"
    path = record(sql=sql)
    assert command("training", "--from", str(path), "--out", "again.parquet", "--allow-changes").code == 1
    ran = command("training", "--from", str(path), "--out", "again.parquet", "--allow-changes", "--spine", sql)
    assert (ran.code, pq.read_table(tmp_path / "again.parquet").num_rows) == (0, 1)


@pytest.mark.parametrize("place", ["/etc/passwd.csv", "../outside/labels.csv", "//host/labels.csv", "C:/labels.csv"])
def test_a_record_names_no_file_that_was_not_asked_for(
    record: Callable[..., Path], command: Callable[..., Ran], tmp_path: Path, place: str
) -> None:
    inside = tmp_path / "records"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "labels.csv").write_text("user_id,event_timestamp\n1,2024-06-01\n")
    shutil.move(record(kind="file", sql=None, path=place, sha256="0" * 64), inside / "set.parquet.json")
    ran = command("training", "--from", "records/set.parquet.json", "--out", "again.parquet", "--allow-changes")
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert not (tmp_path / "again.parquet").exists()


def test_a_link_beside_a_record_leads_nowhere(
    record: Callable[..., Path], command: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "secret.csv").write_text("user_id,event_timestamp\n1,2024-06-01\n")
    (tmp_path / "records" / "labels.csv").symlink_to(tmp_path / "secret.csv")
    path = record(kind="file", sql=None, path="labels.csv", sha256="0" * 64)
    shutil.move(path, tmp_path / "records" / "set.parquet.json")
    ran = command("training", "--from", "records/set.parquet.json", "--out", "again.parquet", "--allow-changes")
    assert ran.code == 1
    assert "lies outside" in ran.err


def test_labels_elsewhere_are_taken_while_they_are_the_very_bytes(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path
) -> None:
    labels = tmp_path / "labels" / "mine.csv"
    labels.parent.mkdir()
    labels.write_text("user_id,event_timestamp\n1,2024-06-01\n")
    (tmp_path / "sets").mkdir()
    made = command("training", "--spine", str(labels), "-f", "user_features:age", "--out", "sets/set.parquet")
    assert made.code == 0, made.err
    again = ("training", "--from", "sets/set.parquet.json", "--out", "sets/again.parquet", "--allow-changes")
    assert command(*again).code == 0
    labels.write_text("user_id,event_timestamp\n2,2024-06-01\n")
    assert command(*again).code == 1


# Manifests.

CODE = "{{ cycler.__init__.__globals__.os.system('touch MARK') }}"


def changed(manifest: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    copy = json.loads(json.dumps(manifest))
    change(copy)
    return copy


def poison(mark: Path) -> Callable[[dict[str, Any]], None]:
    """Every macro of the package and of the project runs a program."""

    def change(manifest: dict[str, Any]) -> None:
        for macro in manifest["macros"].values():
            if macro["package_name"] in ("feature_store", "shop"):
                end = macro["macro_sql"].index("%}") + 2
                code = CODE.replace("MARK", str(mark))
                macro["macro_sql"] = macro["macro_sql"][:end] + code + macro["macro_sql"][end:]
        project = "macro.shop.duckdb__feature_difference"
        text = "{% macro duckdb__feature_difference() %}" + CODE.replace("MARK", str(mark)) + "{% endmacro %}"
        manifest["macros"][project] = {"package_name": "shop", "name": "duckdb__feature_difference", "macro_sql": text}

    return change


@pytest.mark.parametrize("name", ["stats", "freshness", "list", "show user_features"])
def test_macros_of_a_project_cannot_leave_the_sandbox(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path, name: str
) -> None:
    mark, path = tmp_path / "mark", shop.folder / "target" / "manifest.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), poison(mark))))
    ran = command(*name.split())
    assert not mark.exists()
    assert "Traceback" not in ran.err
    assert "unsafe" in ran.err + ran.out or name.partition(" ")[0] in ("list", "show")


def test_a_diff_of_manifests_renders_the_packages_own_macros(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    manifest = json.loads((shop.folder / "target" / "manifest.json").read_text())

    def other(content: dict[str, Any]) -> None:  # one view is now built in the place of another
        node = content["nodes"]["model.shop.user_features"]
        node["relation_name"] = node["relation_name"].replace("user_features", "user_item")

    for side, change in (("old", lambda content: None), ("new", other)):
        plain = changed(manifest, change)
        for folder, content in ((side, plain), (f"{side}_bad", changed(plain, poison(mark)))):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "manifest.json").write_text(json.dumps(content))
    honest, poisoned = (
        command("diff", "--old-manifest", f"old{end}", "--new-manifest", f"new{end}", "--data", "--output", "json")
        for end in ("", "_bad")
    )
    assert not mark.exists()
    assert (honest.code, honest.err) == (poisoned.code, poisoned.err)
    assert honest.json["views"] == poisoned.json["views"]
    assert "values" in json.dumps(honest.json)


RELATIONS = {
    "a statement": "\"a\"; copy (select 1) to 'OUT'",
    "a copy in a CTE": "(with x as (copy (select 1 as a) to 'OUT') select * from user_features)",
    "a function": "read_text('SECRET')",
    "a file": "'SECRET'",
    "a file's name": '"SECRET"',
    "a file's name below a schema": '"warehouse"."main"."SECRET"',
    "a comment": '"warehouse"."main"."user_features" -- ',
    "a subquery": "(select * from user_features)",
    "no text": ["user_features"],
}


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_a_relation_in_a_manifest_is_a_name_and_nothing_else(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path, relation: Any
) -> None:
    (tmp_path / "secret.csv").write_text("user_id\n1\n")
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    if isinstance(relation, str):
        relation = relation.replace("OUT", str(tmp_path / "out")).replace("SECRET", str(tmp_path / "secret.csv"))
    manifest["nodes"]["model.shop.user_features"]["relation_name"] = relation
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text(json.dumps(manifest))
    before = files_in(tmp_path)
    ran = command("diff", "--old-manifest", "foreign", "--data")
    assert ran.code == 1
    assert_one_sentence(ran.err)
    said = "no name of a table" if isinstance(relation, str) else "relation_name, where dbt writes a text"
    assert said in ran.err
    path.write_text(json.dumps(manifest))
    for name in ("list", "stats", "freshness", "lineage user_features:age"):
        ran = command(*name.split())
        assert said in ran.err
    assert files_in(tmp_path) == before


def test_a_query_of_several_statements_is_refused_whoever_wrote_it(shop: DbtProject, tmp_path: Path) -> None:
    store = FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1")
    sql = f"{SPINE}) as x; copy (select 1) to '{tmp_path}/out'; select * from ({SPINE}"
    with pytest.raises(FeatureStoreError, match="more than one statement"):
        store.get_historical_features(sql, ["user_features:age"])
    assert not (tmp_path / "out").exists()


def test_files_that_a_manifest_names_outside_of_the_project_are_not_opened(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "waits")  # whoever opens it, waits for ever
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["nodes"]["model.shop.user_features"]["patch_path"] = "shop://../waits"
    path.write_text(json.dumps(manifest))
    assert "Traceback" not in command("lint").err


@pytest.mark.parametrize(
    "name",
    ["a\0b", "a" * 5_000, "\ud800", "../waits", "../../../waits"],
    ids=["a NUL", "long", "a surrogate", "above", "further above"],
)
@pytest.mark.parametrize("of", ["original_file_path", "patch_path", "package_name"])
def test_names_that_no_file_can_have_are_no_harm(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path, of: str, name: str
) -> None:
    os.mkfifo(tmp_path / "waits")
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    node = manifest["nodes"]["model.shop.user_features"]
    node[of] = f"shop://{name}" if of == "patch_path" else name
    path.write_text(json.dumps(manifest))
    for args in (("show", "user_features"), ("lint", "user_features"), ("lineage", "user_features")):
        ran = command(*args)
        assert ran.code == 0 or ran.err.startswith("Error: ")


def test_compiled_sql_is_read_in_the_target_folder_alone(
    shop: DbtProject, command: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "secret.sql").write_text("select 1 as user_id, top_secret as age from elsewhere")
    (shop.folder / "target" / "compiled" / "linked.sql").symlink_to(tmp_path / "secret.sql")
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    node = manifest["nodes"]["model.shop.user_features"] | {"compiled_code": None, "package_name": "other"}
    manifest["nodes"]["model.shop.user_features"] = node
    for place in ("../../../../secret.sql", str(tmp_path / "secret.sql"), "../linked.sql"):
        node["original_file_path"] = place
        path.write_text(json.dumps(manifest))
        ran = command("lineage", "user_features")
        assert "secret" not in ran.out and "elsewhere" not in ran.out, place


def test_the_select_of_a_record_sees_what_the_profile_attaches(shop: DbtProject, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("create table labels as " + SPINE)
    profile_of(shop, attach=[{"path": str(tmp_path / "other.duckdb"), "alias": "other"}], settings={"threads": 2})
    project = load_project(shop.folder)
    assert query_apart(project, "select user_id from other.labels").to_pylist() == [{"user_id": 1}]
    with pytest.raises(FeatureStoreError, match="disabled by configuration"):
        query_apart(project, f"select * from read_text('{shop.folder}/dbt_project.yml')")
