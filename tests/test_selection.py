"""Which views `materialize` takes: names, and whatever dbt's own selection means."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from materializer import FeatureStore, FeatureStoreError, NotFoundError
from materializer.project import dbt_process, selection
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import ONLINE_VIEWS, built_shop

ITEMS, USERS, PAIRS = "item_features", "user_features", "user_item"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    shop = copy_of(built_shop(), tmp_path_factory.mktemp("selection") / "shop")
    selector = {"name": "of_users", "definition": {"method": "fqn", "value": USERS}}
    shop.write({"selectors.yml": {"selectors": [selector]}})
    shutil.copytree(shop.folder / "target", shop.folder / "last")
    return shop


@pytest.fixture
def where(shop: DbtProject, redis_url: str, namespace: str) -> tuple[str, ...]:
    return ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)


@pytest.fixture
def dbt_in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """dbt's processes run in this one, where its import is paid for already; gives the commands that were run."""
    commands = []

    def run_here(command: list[str], **_: Any) -> SimpleNamespace:
        from dbt.cli.main import cli

        commands.append(command)
        out, code = io.StringIO(), 0
        with contextlib.redirect_stdout(out):
            try:
                cli.main(args=command[3:], prog_name="dbt")
            except SystemExit as ended:
                code = ended.code or 0
        return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr="")

    monkeypatch.setattr(selection, "subprocess", SimpleNamespace(run=run_here, DEVNULL=subprocess.DEVNULL))
    return commands


CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"select": "user_features+"}, [USERS]),
    ({"select": "tag:people,tag:things"}, [PAIRS]),
    ({"select": "user_features +item_features"}, [ITEMS, USERS]),
    ({"select": "+exposure:recommendation"}, [ITEMS, USERS]),
    ({"select": "user_*"}, [USERS, PAIRS]),
    ({"select": "path:models/user_item.sql"}, [PAIRS]),
    ({"select": "shop"}, ONLINE_VIEWS),
    ({"select": "*", "exclude": "user_item tag:nothing"}, [ITEMS, USERS]),
    ({"exclude": ["tag:people"]}, [ITEMS]),
    ({"select": "config.materialized:table", "exclude": "user_features"}, [ITEMS, PAIRS]),
    ({"select": "config.meta.feature_view.ttl:30d"}, []),
    ({"selector": "of_users"}, [USERS]),
    ({"selector": "of_users", "feature_views": [PAIRS]}, [USERS, PAIRS]),
    ({"select": "state:modified", "state": "last"}, []),
    ({"select": "state:old", "state": "last", "exclude": USERS}, [ITEMS, PAIRS]),
]


@pytest.mark.parametrize(("selected", "views"), CASES, ids=[str(case) for case, _ in CASES])
def test_dbt_says_what_is_meant(
    shop: DbtProject,
    redis_url: str,
    namespace: str,
    dbt_in_this_process: list[list[str]],
    selected: dict[str, Any],
    views: list[str],
) -> None:
    store = FeatureStore(project_dir=shop.folder, redis_url=redis_url, namespace=namespace)
    if "state" in selected:
        selected = selected | {"state": shop.folder / selected["state"]}
    before = (shop.folder / "target" / "manifest.json").read_bytes()
    if not views and "state" not in selected:
        with pytest.raises(NotFoundError, match=r"config.meta.feature_view.ttl:30d"):
            store.materialize(**selected, dry_run=True)
    else:
        results = store.materialize(**selected, dry_run=True)
        assert sorted(result.view for result in results) == views
    assert len(dbt_in_this_process) == 1, "one question"
    assert "--target" not in dbt_in_this_process[0], "dbt would parse everything anew, and so would the next build"
    assert (shop.folder / "target" / "manifest.json").read_bytes() == before


def test_a_process_of_its_own_is_asked(where: tuple[str, ...]) -> None:
    ran = run("materialize", "-s", "tag:people,tag:things", "user_features+", "--output", "json", *where)
    assert ran.code == 0, ran.err
    assert sorted(result["view"] for result in ran.json["views"]) == [USERS, PAIRS]


@pytest.mark.parametrize(
    ("args", "views"),
    [
        (("-s", USERS), [USERS]),
        (("--select", USERS, "tag:things"), ONLINE_VIEWS),
        (("--select=tag:things", "--select", USERS), ONLINE_VIEWS),
        (("-s", "tag:team=growth"), [USERS]),
        (("--tag", "team=growth", PAIRS), [USERS, PAIRS]),
        ((PAIRS, "-s", USERS, "--dry-run"), [USERS, PAIRS]),
    ],
)
def test_names_and_tags_need_no_dbt(
    where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], views: list[str]
) -> None:
    monkeypatch.setattr(selection, "dbt_command", lambda: pytest.fail("dbt was asked"))
    ran = run("materialize", *args, "--output", "json", *where)
    assert ran.code == 0, ran.err
    assert sorted(result["view"] for result in ran.json["views"]) == views


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-s", "nosuch+"), "names 'nosuch+', which no model"),
        (("-s", USERS, "nosuch"), "names 'nosuch', which no model"),
        (("-s", "+offline_only"), f"holds no online feature view; there are: {', '.join(ONLINE_VIEWS)}."),
        (("-s", "foo:bar"), "dbt cannot resolve the selection: 'foo' is not a valid method name."),
        (("--selector", "nosuch"), "dbt cannot resolve the selection: Could not find selector named nosuch"),
        (("-s", "state:modified"), "no comparison manifest (--state names the folder"),
        (("-s", "tag:nosuch"), "No online feature view has the tag 'nosuch'; there are: people"),
        ((USERS, "--exclude", "tag:x"), "`exclude` takes away from what"),
    ],
)
def test_what_means_nothing_is_said_and_nothing_moves(
    where: tuple[str, ...], dbt_in_this_process: list[list[str]], args: tuple[str, ...], said: str
) -> None:
    ran = run("materialize", *args, *where)
    assert (ran.code, ran.out) == (1, "") and said in ran.err
    assert_one_sentence(ran.err)


def test_where_nothing_was_modified_there_is_nothing_to_do(
    shop: DbtProject, where: tuple[str, ...], dbt_in_this_process: list[list[str]]
) -> None:
    asked = ("-s", "state:modified+", "--state", str(shop.folder / "last"))
    ran = run("materialize", *asked, *where)
    assert (ran.code, ran.out) == (0, "Nothing to do: the selection holds no online feature view.\n")
    assert run("materialize", *asked, "--output", "json", *where).json == {"views": []}


def test_without_dbt_one_sentence_says_what_to_do(where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt_process, "_installed", lambda: False)
    monkeypatch.setattr(dbt_process.shutil, "which", lambda name: None)
    ran = run("materialize", "-s", "user_features+", *where)
    assert ran.code == 1 and "This needs dbt, which is not installed beside this package" in ran.err
    assert_one_sentence(ran.err)


@pytest.mark.parametrize("empty", ["", " ", [""]])
def test_an_empty_selection_is_not_every_view(shop: DbtProject, empty: Any) -> None:
    store = FeatureStore(project_dir=shop.folder, redis_url="redis://127.0.0.1:1/0")
    for argument in ("select", "exclude", "selector"):
        with pytest.raises(FeatureStoreError, match="The selection is empty"):
            store.materialize(**{argument: empty})
