"""On PostgreSQL streamed views are computed by the server itself, and online as a full build and a run would have them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore, LandingError, WarehouseError
from materializer.project.settings import load_project
from materializer.stream.background import Background, streamed_views
from materializer.stream.evaluate import opened
from materializer.stream.evaluate_postgres import PostgresEvaluator
from materializer.stream.explain import Decided, decide
from materializer.stream.place import landing_of
from materializer.stream.postgres_session import Session
from tests.support import postgres
from tests.support.dbt import DbtProject
from tests.support.redis_servers import Server
from tests.support.soak import first
from tests.support.streamed import streamed_on_postgres
from tests.support.streamed_world import FIRST, USERS, VIEWS, World, described

COLUMNS = {
    "purchase_id": "bigint", "user_id": "bigint", "item": "text", "amount": "numeric(12, 2)", "cancelled": "boolean",
    "purchased_at": "timestamptz",
}  # fmt: skip
FILES: dict[str, Any] = {
    "models/models.yml": described(COLUMNS, {"schema": "events"}),
    "seeds/users.csv": USERS,
    # The last word on each purchase; one that was cancelled is none.
    "models/purchases.sql": "select * from (\n"
    "    select *, row_number() over (partition by purchase_id order by _landed_at desc, _offset desc) as nth\n"
    "    from {{ source('shop', 'purchases') }}\n) as numbered\nwhere nth = 1 and not cancelled",
    "models/spent.sql": "{{ config(materialized='table') }}\n"
    "with users as (select * from {{ ref('users') }}),\n"
    "so_far as (\n"
    "    select purchases.user_id, purchased_at as event_timestamp, max(_landed_at) over so_far as known_at, users.country,\n"
    "        cast(sum(amount) over so_far as numeric(20, 2)) as spent, last_value(item) over so_far as last_item,\n"
    "        row_number() over (partition by purchases.user_id, purchased_at order by purchase_id desc) as latest\n"
    "    from {{ ref('purchases') }} left join users on users.user_id = purchases.user_id\n"
    "    window so_far as (partition by purchases.user_id order by purchased_at, purchase_id rows unbounded preceding)\n"
    ")\n"
    "select user_id, event_timestamp, known_at, country, spent, last_item from so_far where latest = 1",
    "models/windows.sql": "{{ config(materialized='table') }}\n"
    "{{ feature_store.window_aggregates(ref('purchases'), 'user_id', 'purchased_at', [{'name': 'n', 'function': 'count'}, "
    "{'name': 'total', 'function': 'sum', 'expression': 'cast(amount as double precision)'}, {'name': 'top', 'function': 'max', 'expression': 'cast(amount as double precision)'}], "
    "['10 minutes', '1 hour', '7 days'], created_timestamp='_landed_at') }}",
    "models/profile.sql": "with rows_of_windows as (\n"
    "    select windows.user_id, windows.event_timestamp as moment, users.country, windows.n_1h\n"
    "    from {{ ref('windows') }} as windows left join {{ ref('users') }} as users on users.user_id = windows.user_id\n"
    ")\n"
    "select user_id, moment as event_timestamp, country, n_1h from rows_of_windows\n"
    "union all select user_id, timestamp '2026-01-01', country, 0 from {{ ref('users') }}",
    # Of a user's pairs each depends on all of her purchases, so it streams by the user.
    "models/pairs.sql": "select user_id, item, event_timestamp, nth from (\n"
    "    select user_id, item, purchased_at as event_timestamp,\n"
    "        row_number() over (partition by user_id order by purchased_at, purchase_id) as nth,\n"
    "        row_number() over (partition by user_id, item, purchased_at order by purchase_id desc) as latest\n"
    "    from {{ ref('purchases') }}\n) as numbered where latest = 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def postgresql() -> Iterator[postgres.Running]:
    postgres.skip_without("adbc_driver_postgresql")
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, postgresql: postgres.Running) -> tuple[DbtProject, Decided]:
    folder = tmp_path_factory.mktemp("online") / "shop"
    project = streamed_on_postgres(folder, FILES, postgresql.port, hook=True)
    store = FeatureStore(project.folder, redis_url="redis://localhost:1")
    store.push("purchases", [FIRST])
    project.dbt("build")
    return project, decide(store.project)


def full_build(world: World, namespace: str) -> str:
    """All is built anew, and brought into a namespace of its own."""
    world.project.dbt("build", "--full-refresh")
    FeatureStore(world.project.folder, redis_url=world.store._redis_url, namespace=namespace).materialize()
    return namespace


@pytest.mark.parametrize("seed", first(1, range(8)))
def test_a_streamed_state_is_that_of_a_full_build_at_the_same_moment(
    built: tuple[DbtProject, Decided], redis_url: str, seed: int
) -> None:
    project, decided = built
    assert {one.view.name: one.keys for one in streamed_views(decided)} == dict.fromkeys(VIEWS, ("user_id",))
    world = World(project, decided, redis_url, seed)
    assert world.go_through(lambda round_: full_build(world, f"oracle-{seed}-{round_}")) > 1_000


@pytest.mark.timeout(600)
def test_a_server_that_ends_and_a_redis_that_is_emptied_leave_nothing_behind(
    built: tuple[DbtProject, Decided], postgresql: postgres.Running, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = Server(tmp_path / "redis")
    request.addfinalizer(server.close)
    world = World(*built, f"redis://127.0.0.1:{server.port}", 100)
    world.materialize()
    said: list[str] = []

    def until(true: Callable[[], bool]) -> None:
        end = time.monotonic() + 300
        while not true():
            assert time.monotonic() < end, said
            time.sleep(0.05)

    def kept() -> int:
        return sum("is kept online by" in one for one in said)

    def push() -> None:
        """Events of a call land or do not; who was cut off asks again with its key."""
        events, key = [world.event() for _ in range(8)], f"push {next(world.numbers)}"
        world.sent += events
        while True:
            try:
                world.store.push("purchases", events, key)
                return online.landed()
            except (LandingError, WarehouseError):
                time.sleep(0.2)

    landing = landing_of(world.store.project, built[1].sources, world.store.landing_clock())
    with (
        closing(landing),
        closing(
            Background(world.store.project, world.store.namespace, world.store.online_store, landing, said.append)
        ) as online,
    ):
        until(lambda: kept() == len(VIEWS))
        ended = pushed = 0
        while pushed < 20 or ended < 4:  # in the middle of a step, mostly
            assert pushed < 200, ended
            pushed += 1
            push()
            time.sleep(world.random.random() / 4)
            ended += postgresql.ask(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() "
                "and backend_xmin is not null and backend_type = 'client backend'"
            )
        push()
        assert online.settle(120), said

        before = len(said)
        postgresql.stop()
        time.sleep(5)
        away = said[before:]
        assert any("cannot be opened" in one for one in away), away
        assert len(away) == len(set(away)), "it is said once"
        postgresql.start()
        push()
        assert online.settle(120), said

        before = kept()
        world.client.flushall()
        push()
        until(lambda: any("there is no row of it yet" in one for one in said))
        world.materialize()
        until(lambda: kept() == before + len(VIEWS))
        push()
        assert online.settle(120), said
        expected = full_build(world, "after-faults")
        until(lambda: kept() == before + 2 * len(VIEWS))  # it is seen that all was built anew
        online.landed()
        assert online.settle(120), said
        assert world.compared(expected, said) > 1_000


def test_a_table_that_dbt_replaces_is_never_seen_empty(
    built: tuple[DbtProject, Decided], postgresql: postgres.Running
) -> None:
    """What has taken a table's name is empty to a transaction that began to read before, and of no kind to a query that
    did; so it is for sessions that are opened meanwhile."""
    postgresql.ask("create table static as select generate_series(1, 3) as n")
    replaced, end = 0, threading.Event()

    def replace_it() -> None:
        nonlocal replaced
        with postgresql.connected() as cursor:
            while not end.is_set():
                for statement in (
                    "begin", "create table static_new as select generate_series(1, 3) as n",
                    "alter table static rename to static_old", "alter table static_new rename to static",
                    "drop table static_old cascade", "commit",
                ):  # fmt: skip
                    cursor.execute(statement)
                replaced += 1

    session = Session(FeatureStore(built[0].folder).project, ["public.static"])
    with closing(session), ThreadPoolExecutor(1) as pool:
        done = pool.submit(replace_it)
        try:
            for _ in range(25):
                session.begin()
                session.value("select 1")  # from now on it sees one state
                time.sleep(0.002)
                assert session.value("select count(*) from static") == 3
                session.end()
                session.close()
        finally:
            end.set()
        done.result()
    assert replaced > 20, replaced


def test_a_role_that_may_not_make_temporary_tables_is_said(
    built: tuple[DbtProject, Decided], postgresql: postgres.Running, tmp_path: Path
) -> None:
    project, decided = built
    for statement in (
        "create role reader login", "grant usage on schema events, built to reader",
        "grant select on all tables in schema events, built to reader",
        "revoke temporary on database postgres from public",
    ):  # fmt: skip
        postgresql.ask(statement)
    for name in ("profiles.yml", "dbt_project.yml"):
        text = (project.folder / name).read_text()
        (tmp_path / name).write_text(text.replace("user: postgres", "user: reader"))
    views = [one.view for one in streamed_views(decided)]
    said = "permission denied to create temporary tables"
    with (
        opened(PostgresEvaluator, load_project(tmp_path), decided.manifest, decided.sources, views) as evaluator,
        pytest.raises(WarehouseError, match=said),
        evaluator.reading(),
    ):
        pass
    postgresql.ask("grant temporary on database postgres to public")
    with (
        opened(PostgresEvaluator, load_project(tmp_path), decided.manifest, decided.sources, views) as evaluator,
        evaluator.reading() as seq,
    ):
        assert seq == postgresql.ask("select seq from events._fs_landing")
