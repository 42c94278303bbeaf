"""What was read of models is kept for the next time: it never changes an answer, and only what changed is read again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from materializer.project.graph import Graph
from materializer.sql import memory
from materializer.sql.columns import Read, read_columns
from materializer.sql.memory import Memory
from tests.support.chains import SOURCES, write_chain
from tests.support.hand_made import manifest_of
from tests.support.soak import first

SHOP = {
    "base": "select id, a + 1 as x from {raw.t}",
    "made": "select id, x * 2 as y from {base}",
    "other": "select id, b as z from {raw.t}",
}
TABLES = {"raw.t": ["id", "a", "b"]}


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory, "MANY", 0)
    yield


def remembered(path: Path, manifest: dict[str, Any]) -> tuple[set[str], dict[str, Read]]:
    """The models that were known, by their names, and what was read."""
    of = Memory(path, Graph(manifest), {})
    return {one.removeprefix("model.shop.") for one in of.known}, of.read(1)


def afresh(manifest: dict[str, Any]) -> dict[str, Read]:
    return read_columns(Graph(manifest), {}, 1)


@pytest.mark.parametrize("seed", first(10, range(40)))
def test_with_a_memory_of_something_else_the_answer_is_the_same(seed: int, tmp_path: Path) -> None:
    chosen, path, known = random.Random(seed), tmp_path / "kept", set()
    models, sources = dict(write_chain(seed).models), {name: list(columns) for name, columns in SOURCES.items()}
    for _ in range(4):
        manifest = manifest_of(models, sources)
        found, read = remembered(path, manifest)
        known |= found
        assert read == afresh(manifest)
        assert remembered(path, manifest) == (set(models), read)
        change, one = chosen.randrange(4), chosen.choice(sorted(models))
        if change == 0:
            models[one] = f"select * from ({models[one]}) as again"
        elif change == 1:
            models |= {name: sql for name, sql in write_chain(seed + 1).models.items() if name in models}
        elif change == 2:
            chosen.choice(list(sources.values())).append(f"new{len(models)}")
        else:
            models[f"later{len(models)}"] = f"select * from {{{one}}}"
    assert known


def test_only_a_model_that_changed_and_those_made_from_it_are_read_again(tmp_path: Path) -> None:
    assert remembered(tmp_path / "kept", manifest_of(SHOP, TABLES))[0] == set()
    changed = manifest_of(SHOP | {"base": "select id, a + 2 as x from {raw.t}"}, TABLES)
    known, read = remembered(tmp_path / "kept", changed)
    assert known == {"other"} and read == afresh(changed)


def test_columns_in_the_warehouse_and_declared_ones_count(tmp_path: Path) -> None:
    models = {"all": "select * from {raw.t}", "more": "select *, 1 as one from {all}"}
    remembered(tmp_path / "kept", manifest_of(models, TABLES))
    known, read = remembered(tmp_path / "kept", manifest_of(models, {"raw.t": ["id", "a", "b", "c"]}))
    assert known == set() and "c" in read["model.shop.more"].columns
    built = Memory(tmp_path / "kept", Graph(manifest_of(models, TABLES), lambda node: ["id", "d"]), {})
    assert not built.known and "d" in built.read(1)["model.shop.more"].columns


def test_a_table_that_is_read_without_ref_is_looked_at_every_time(tmp_path: Path) -> None:
    models = SHOP | {"hard": 'select * from "db"."main"."base"'}
    remembered(tmp_path / "kept", manifest_of(models, TABLES))
    changed = manifest_of(models | {"base": "select id, a as x, b as new from {raw.t}"}, TABLES)
    known, read = remembered(tmp_path / "kept", changed)
    assert known == {"other"} and "new" in read["model.shop.hard"].columns


def test_a_new_model_may_be_what_a_name_means(tmp_path: Path) -> None:
    models = {"reads": 'select q from "db"."main"."later"'}
    remembered(tmp_path / "kept", manifest_of(models))
    manifest = manifest_of(models | {"later": "select a as q from {raw.t}"}, TABLES)
    known, read = remembered(tmp_path / "kept", manifest)
    assert known == set() and list(read["model.shop.reads"].hops["q"].values) == [("model.shop.later", "q")]


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x81\xa5reads\x81\xa1x\x01"])
def test_a_damaged_file_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(content)
    manifest = manifest_of(SHOP, TABLES)
    assert remembered(tmp_path / "kept", manifest) == (set(), afresh(manifest))


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert remembered(tmp_path / "file" / "kept", manifest_of(SHOP, TABLES))[1] == afresh(manifest_of(SHOP, TABLES))


def test_of_a_few_models_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MANY", 300)
    remembered(tmp_path / "kept", manifest_of(SHOP, TABLES))
    assert not (tmp_path / "kept").exists()
