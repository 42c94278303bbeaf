"""`feature-store diff` between git revisions: a real repository, a real dbt, and nothing of the user's is touched."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer.errors import ProjectError
from materializer.project import revisions
from materializer.project.dbt_process import run_dbt
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject, make_project

PROPERTIES = {
    "sources": [{"name": "raw", "schema": "main", "tables": [{"name": "users"}, {"name": "purchases"}]}],
    "models": [
        {"name": "users", "config": {"meta": {"feature_view": {"entities": ["user_id"], "ttl": "7 days"}}}},
        {"name": "spending", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}},
    ],
    "exposures": [
        {
            "name": "ranking", "type": "ml", "owner": {"name": "ML"}, "depends_on": ["ref('users')"],
            "config": {"meta": {"features": ["users:age", "users:country"]}},
        }
    ],
}  # fmt: skip
FILES: dict[str, Any] = {
    "models/users.sql": "select user_id, event_timestamp, age, upper(country) as country from {{ ref('stg_users') }}",
    "models/stg_users.sql": "select * from {{ source('raw', 'users') }}",
    "models/spending.sql": """{{ feature_store.window_aggregates(
        source('raw', 'purchases'), 'user_id', timestamp='bought_at', windows=['7 days'],
        aggregates=[{'name': 'total', 'function': 'sum', 'expression': 'amount'}]) }}""",
    "models/views.yml": PROPERTIES,
    ".gitignore": "target/\nlogs/\n.dbt_packages/\n*.duckdb\npackage-lock.yml\n",
}
USERS = "select user_id, event_timestamp, country as country, lower(country) as tag from {{ ref('stg_users') }} where age > 0"


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *args], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """A dbt project in a folder of a repository: two commits, then a change in the index and one in the files."""
    top = tmp_path_factory.mktemp("repository")
    project = make_project(top / "warehouse" / "shop", FILES)
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table users as select 1 as user_id, now() as event_timestamp, 30 as age, 'no' as country;"
            "create table purchases as select i % 5 as user_id, now() - i * interval 1 hour as bought_at, i as amount from range(400) r(i)"
        )
    git(top, "init", "--quiet", "--initial-branch", "main")
    (top / "README.md").write_text("Before there was a project.\n")
    git(top, "add", "README.md")
    git(top, "commit", "--quiet", "-m", "nothing")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "one")
    git(top, "tag", "v1")
    # The second commit has a model that dbt reads, and fails to compile.
    broken = "{% if execute %}{{ nothing.such() }}{% endif %}" + FILES["models/spending.sql"]
    staged = "select * from {{ source('raw', 'users') }} where user_id is not null"
    project.write({"models/stg_users.sql": staged, "models/spending.sql": broken})
    git(top, "commit", "--quiet", "--all", "-m", "two")
    project.write({"models/users.sql": USERS})
    git(top, "add", ".")
    project.write({"models/spending.sql": FILES["models/spending.sql"].replace("['7 days']", "['7 days', '1 day']")})
    return project


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What others compile at this moment is not to be seen in it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def state(project: DbtProject) -> tuple[Any, ...]:
    """All that a diff must leave as it is: files but what it keeps in the target folder, index, worktrees, the warehouse."""
    top = project.folder.parents[1]
    files = sorted(
        (str(path.relative_to(top)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in top.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and ".dbt_packages" not in path.parts
        and path.name != revisions._KEPT
    )
    temporary = [
        one.name for one in Path(tempfile.gettempdir()).iterdir() if one.name.startswith("feature-store-diff-")
    ]
    return files, temporary, git(top, "worktree", "list"), git(top, "status", "--porcelain", "--ignored")


def test_the_working_tree_is_compared_with_a_revision(repository: DbtProject) -> None:
    before = state(repository)
    ran = run("feature-store", "diff", "v1", "--output", "json", cwd=repository.folder)
    assert ran.code == 1 and ran.err == ""
    found = ran.json
    commit = git(repository.folder, "rev-parse", "v1").strip()
    assert (found["old"], found["new"], found["notes"]) == (f"v1 ({commit[:7]})", "the working tree", [])
    spending, users = found["views"]
    assert [(one["feature"], one["change"]) for one in spending["features"]] == [("total_1d", "added")]
    assert spending["rows"]["added"] == ["where MOMENTS_AT_THE_END_OF('1 day')"]
    assert [(one["feature"], one["change"], one["old"], one["new"]) for one in users["features"]] == [
        ("age", "removed", None, None),
        ("tag", "added", None, None),
        ("country", "redefined", "UPPER(country)", "stg_users.country"),
    ]
    assert users["rows"]["added"] == ["where age > 0"]
    assert [(one["model"], one["new"]) for one in users["rows"]["causes"]] == [
        ("stg_users", "where NOT user_id IS NULL")
    ]
    assert [(one["service"], one["reference"]) for one in found["breaks"]] == [("ranking", "users:age")]
    assert state(repository) == before


def test_what_dbt_cannot_compile_at_a_revision_is_compared_as_text(
    repository: DbtProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides are revisions, run from the top of the repository, in a hook's surroundings, by a dbt of its own."""
    monkeypatch.setattr(revisions, "run_dbt", run_dbt)
    before = state(repository)
    top = repository.folder.parents[1]
    hook = {
        "GIT_DIR": str(top / ".git"),
        "GIT_INDEX_FILE": str(top / ".git" / "index.other"),
        "DBT_TARGET_PATH": "elsewhere",
    }
    ran = run("feature-store", "diff", "v1", "HEAD", "--project-dir", "warehouse/shop", cwd=top, env=hook)
    assert ran.code == 0, ran
    assert (
        "~ users\n    ~ rows changed" in ran.out and "stg_users: rows: nothing -> where NOT user_id IS NULL" in ran.out
    )
    assert "Note: dbt could not compile all of HEAD" in ran.out and "'nothing' is undefined" in ran.out
    assert "~ spending\n    ~ SQL changed; which features it touches cannot be told" in ran.out
    assert state(repository) == before


def test_an_ended_diff_leaves_nothing_behind(repository: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(repository)
    seen = []

    def end(*_: Any) -> None:
        seen.append(git(repository.folder, "worktree", "list").count("\n"))
        raise KeyboardInterrupt

    monkeypatch.setattr(revisions, "run_dbt", end)
    ran = run("feature-store", "diff", "v1", "main", cwd=repository.folder)
    assert (ran.code, ran.out, ran.err) == (1, "", "\nStopped.\n") and seen == [3]
    assert state(repository) == before


def test_revisions_that_are_not_there_are_named(repository: DbtProject, tmp_path: Path) -> None:
    top = repository.folder.parents[1]
    for arguments, sentence in {
        (
            "v2",
        ): f"'v2' is no feature view of the project (there are: none known), no manifest's path and not a revision of {top}",
        ("--", "-h"): "'-h' is no feature view",
        ("v1", "origin/main"): "'origin/main' is no feature view",
        ("v1~1",): "The repository has no warehouse/shop/dbt_project.yml at v1~1",
        ("v1", "--data"): "Values can only be compared where both sides are built",
    }.items():
        ran = run("feature-store", "diff", *arguments, cwd=repository.folder)
        assert ran.code == 1 and sentence in ran.err and not ran.out, ran
        assert_one_sentence(ran.err)
    shutil.copytree(repository.folder, tmp_path / "shop", symlinks=True)
    ran = run("feature-store", "diff", cwd=tmp_path / "shop")
    assert (
        ran.code == 1
        and f"There is no commit to compare with, since {tmp_path / 'shop'} is in no git repository" in ran.err
    )


def test_a_text_that_means_two_things_is_not_guessed_at(repository: DbtProject, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "manifest.json").write_text("{}")
    ran = run("feature-store", "diff", "main", "--project-dir", str(repository.folder), cwd=tmp_path)
    assert ran.code == 1
    assert "'main' is a manifest's path and a git revision: write --old-manifest" in ran.err
    assert_one_sentence(ran.err)
    ran = run("feature-store", "diff", "--old-manifest", "main", "--project-dir", str(repository.folder), cwd=tmp_path)
    assert "main/manifest.json is not a manifest of dbt's" in ran.err


def test_dbt_is_ended_when_nobody_waits_for_it(repository: DbtProject, tmp_path: Path) -> None:
    """As `feature-store stream` asks that is told to stop: dbt may wait for a warehouse that is gone."""
    asked: list[int] = []
    compiling = ["compile", "--project-dir", str(repository.folder), "--target-path", str(tmp_path)]
    with pytest.raises(ProjectError, match=r"^dbt was ended, as nobody waits for it any more\.$"):
        run_dbt([[compiling]], repository.folder, unwanted=lambda: bool(asked.append(1)) or len(asked) > 2)
    assert not (tmp_path / "manifest.json").exists()
