"""Streamed views are online as a full ``dbt build && materialize`` of the same moment would have them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore
from materializer.online import stream_record
from materializer.stream.background import streamed_views
from materializer.stream.explain import Decided, decide
from tests.support.dbt import DbtProject, copy_of
from tests.support.streamed import streamed
from tests.support.streamed_world import FIRST, USERS, VIEWS, World, described

COLUMNS = {
    "purchase_id": "bigint", "user_id": "bigint", "item": "varchar", "amount": "decimal(12, 2)", "cancelled": "boolean",
    "purchased_at": "timestamptz",
}  # fmt: skip
FILES: dict[str, Any] = {
    "models/models.yml": described(COLUMNS, {"database": "landing", "schema": "main"}),
    "seeds/users.csv": USERS,
    # The last word on each purchase; one that was cancelled is none.
    "models/purchases.sql": "select * from {{ source('shop', 'purchases') }}\n"
    "qualify row_number() over (partition by purchase_id order by _landed_at desc, _offset desc) = 1 and not cancelled",
    "models/spent.sql": "{{ config(materialized='table') }}\n"
    "select user_id, purchased_at as event_timestamp, max(_landed_at) over so_far as known_at, users.country,\n"
    "    sum(amount) over so_far as spent, last_value(item) over so_far as last_item\n"
    "from {{ ref('purchases') }} left join {{ ref('users') }} using (user_id)\n"
    "window so_far as (partition by user_id order by purchased_at, purchase_id rows unbounded preceding)\n"
    "qualify row_number() over (partition by user_id, purchased_at order by purchase_id desc) = 1",
    "models/windows.sql": "{{ config(materialized='table') }}\n"
    "{{ feature_store.window_aggregates(ref('purchases'), 'user_id', 'purchased_at', [{'name': 'n', 'function': 'count'}, "
    "{'name': 'total', 'function': 'sum', 'expression': 'amount'}, {'name': 'top', 'function': 'max', 'expression': 'amount'}], "
    "['10 minutes', '1 hour', '7 days'], created_timestamp='_landed_at') }}",
    "models/profile.sql": "with rows_of_windows as (\n"
    "    select windows.user_id, windows.event_timestamp as moment, users.country, windows.n_1h\n"
    "    from {{ ref('windows') }} as windows left join {{ ref('users') }} as users on users.user_id = windows.user_id\n"
    ")\n"
    "select user_id, moment as event_timestamp, country, n_1h from rows_of_windows\n"
    "union all select user_id, timestamptz '2026-01-01', country, 0 from {{ ref('users') }}",
    # Of a user's pairs each depends on all of her purchases, so it streams by the user.
    "models/pairs.sql": "select user_id, item, purchased_at as event_timestamp,\n"
    "    row_number() over (partition by user_id order by purchased_at, purchase_id) as nth\nfrom {{ ref('purchases') }}\n"
    "qualify row_number() over (partition by user_id, item, purchased_at order by purchase_id desc) = 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, Decided]:
    project = streamed(tmp_path_factory.mktemp("online") / "shop", FILES, hook=True)
    profiles = project.folder / "profiles.yml"
    profiles.write_text(
        profiles.read_text().replace("landing/landing.duckdb", f"{project.folder}/landing/landing.duckdb")
    )
    store = FeatureStore(project.folder, redis_url="redis://localhost:1")
    store.push("purchases", [FIRST])
    project.dbt("build")
    return project, decide(store.project)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 8))])
def test_a_streamed_state_is_that_of_a_full_build_at_the_same_moment(
    built: tuple[DbtProject, Decided], redis_url: str, tmp_path: Path, seed: int
) -> None:
    project, decided = built
    views = streamed_views(decided)
    assert [one.view.name for one in views if one.reach] == ["profile", "windows"]
    assert {one.view.name: one.keys for one in views} == dict.fromkeys(VIEWS, ("user_id",))
    world = World(copy_of(project, tmp_path / "shop"), decided, redis_url, seed)
    assert world.go_through(lambda round_: oracle_of(world, tmp_path / f"oracle-{round_}")) > 1_000


def test_a_landing_begun_anew_outranks_what_the_one_before_left_online(
    built: tuple[DbtProject, Decided], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, decided = copy_of(built[0], tmp_path / "shop"), built[1]
    landing_folder = project.folder / "landing"
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace(f"{built[0].folder}/landing", str(landing_folder)))
    world = World(project, decided, redis_url, 7)

    def stream(*events: tuple[int, int, str]) -> None:
        """A stream that begins now, once these have landed: number, user, amount."""
        for number, user, amount in events:
            event = {"purchase_id": number, "user_id": user, "item": "a", "amount": amount, "cancelled": False}
            world.store.push("purchases", [event | {"purchased_at": world.now().isoformat()}])
        with world.kept("s", []) as online:
            online.step()
            while online.behind:
                online.step()
            assert not online.counts.waiting, online.counts.waiting

    def spent() -> list[float | None]:
        found = world.store.get_online_features(["spent:spent"], [{"user_id": user} for user in (1, 2, 3)])
        return [None if value is None else float(value) for value in found.to_dict()["spent"]]

    world.materialize()
    stream((1, 1, "10"), *((number, 2, "1") for number in range(2, 30)))
    assert spent() == [10, 28, None]
    shutil.rmtree(landing_folder)
    stream((100, 1, "7"))
    assert spent() == [7, 28, None], "of user 2 nothing has landed since"
    world.build()
    with monkeypatch.context() as patched:
        patched.setattr(stream_record, "HELD_MS", 100)
        results = world.store.materialize(allow_shrink=True)
    assert {result.why for result in results} == {"every row: the landing was begun anew"}
    assert spent() == [7, None, None]
    stream((101, 1, "0.5"), (102, 3, "2"))
    assert spent() == [7.5, None, 2]
    world.build()
    world.materialize()
    assert spent() == [7.5, None, 2]


def oracle_of(world: World, folder: Path) -> str:
    """The namespace where a full build of a project of its own, over the same landing, was materialized."""
    project = copy_of(world.project, folder)
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace(f"{folder}/landing/", f"{world.project.folder}/landing/"))
    (project.folder / "warehouse.duckdb").unlink()
    project.dbt("build", "--full-refresh")
    namespace = f"oracle-{folder.parent.name}-{folder.name}"
    FeatureStore(project.folder, redis_url=world.store._redis_url, namespace=namespace).materialize()
    shutil.rmtree(folder)
    return namespace
