"""``feature-store catalog``: the files it writes, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from materializer.catalog import files
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import built_shop

NOWHERE = ("--redis-url", "redis://127.0.0.1:1/0")
BUILT = ("--built-at", "2026-01-01T00:00:00Z", "--no-statistics")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return copy_of(built_shop(), tmp_path_factory.mktemp("catalog") / "shop")


def build(shop: DbtProject, *args: str) -> None:
    ran = run("feature-store", "catalog", "build", "--project-dir", str(shop.folder), *NOWHERE, *BUILT, *args)
    assert ran.code == 0, ran.err


def test_it_is_written_into_the_target_folder_and_leaves_dbts_own_catalog_alone(shop: DbtProject) -> None:
    own = shop.folder / "target" / "catalog.json"
    own.write_text("dbt's")
    ran = run("feature-store", "catalog", "build", "--project-dir", str(shop.folder), *NOWHERE, *BUILT)
    page = shop.folder / "target" / "feature_store" / "catalog.html"
    assert ran.code == 0 and ran.out.startswith(f"{page}: 4 views, 8 features, 1 service; ")
    assert ran.err.startswith("online: ") and "127.0.0.1:1" in ran.err
    assert page.read_bytes().startswith(b"<!doctype html>") and own.read_text() == "dbt's"
    document = json.loads(page.with_suffix(".json").read_bytes())
    assert document["project"]["built_at"] == "2026-01-01T00:00:00Z" and len(document["views"]) == 4
    assert sorted(path.name for path in page.parent.iterdir()) == ["catalog.html", "catalog.json"]


def test_another_place_gets_the_document_beside_the_page(shop: DbtProject, tmp_path: Path) -> None:
    build(shop, "--out", str(tmp_path / "public" / "index.html"))
    assert sorted(path.name for path in (tmp_path / "public").iterdir()) == ["index.html", "index.json"]
    ran = run("feature-store", "catalog", "build", "--project-dir", str(shop.folder), "--out", str(tmp_path / "x.json"))
    assert ran.code == 1 and "name it .html" in ran.err


def test_the_same_inputs_give_the_same_files(shop: DbtProject, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build(shop, "--out", str(tmp_path / f"{name}.html"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_json_says_where_it_is_and_what_is_in_it(shop: DbtProject, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    ran = run("feature-store", "catalog", "build", "--project-dir", str(shop.folder), "--out", str(page), "--light",
              "--output", "json", *NOWHERE, *BUILT)  # fmt: skip
    assert ran.code == 0 and ran.err == ""
    assert (ran.json["page"], ran.json["document"]) == (str(page), str(page.with_suffix(".json")))
    assert (ran.json["counts"]["views"], ran.json["counts"]["features"]) == (4, 8)
    assert set(ran.json["missing"]) == {"online", "tests", "drift", "statistics"} - (
        {"tests"} if (shop.folder / "target" / "run_results.json").exists() else set()
    )


def test_nothing_half_written_is_left_where_writing_fails(shop: DbtProject, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    build(shop, "--out", str(page))
    before = page.read_bytes(), page.with_suffix(".json").read_bytes()
    with mock.patch.object(files, "html", side_effect=OSError(28, "No space left on device")):
        ran = run("feature-store", "catalog", "build", "--project-dir", str(shop.folder), "--out", str(page), *NOWHERE)
    assert ran.code == 1 and "No space left on device" in ran.err
    assert page.read_bytes() == before[0] and sorted(path.name for path in tmp_path.iterdir()) == ["c.html", "c.json"]


def test_open_prints_the_place_where_nobody_is_looking(shop: DbtProject, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    with mock.patch("webbrowser.open") as opened:
        ran = run(
            "feature-store", "catalog", "open", "--project-dir", str(shop.folder), "--out", str(page), *NOWHERE, *BUILT
        )
    assert ran.code == 0 and page.resolve().as_uri() in ran.out and not opened.called


def test_a_project_that_was_never_built_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\nversion: 1.0.0\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text("shop: {target: dev, outputs: {dev: {type: duckdb, path: x.duckdb}}}\n")
    ran = run("feature-store", "catalog", "build", "--project-dir", str(tmp_path))
    assert ran.code == 1
    assert_one_sentence(ran.err)
