"""The core of the fault matrix with PostgreSQL as the warehouse: whatever is killed, frozen or lost in the middle of a run, nobody
reads a wrong row, and the next run ends in the same state as if nothing had happened.

The tests are those of `tests.test_faults`. A DuckDB file beside the project holds the same rows, for the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import test_faults
from tests.support import postgres
from tests.support.dbt import DbtProject
from tests.support.faults import VIEWS, Readings, Server, ended, materialize, new_project, start_materialize
from tests.support.manifests import manifest, write_models
from tests.test_faults import ROWS, World, kill_at_random_moments, short_leases

__all__ = ["short_leases"]


@dataclass
class PostgresReadings(Readings):
    """Readings in both warehouses; in PostgreSQL replaced in one transaction, as dbt does."""

    port: int = 0

    def become(self, state: int) -> None:
        from adbc_driver_postgresql import dbapi

        super().become(state)
        with duckdb.connect(str(self.project.warehouse), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            rows = connection.execute(f"select * from {self.view}").to_arrow_table()
        with (
            dbapi.connect(f"postgresql://postgres@127.0.0.1:{self.port}/warehouse") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f'drop table if exists main."{self.view}"')
            cursor.adbc_ingest(self.view, rows, mode="create", db_schema_name="main")
            connection.commit()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    postgres.skip_without("adbc_driver_postgresql")
    from adbc_driver_postgresql import dbapi

    with postgres.server() as port:
        where = f"postgresql://postgres@127.0.0.1:{port}"
        with dbapi.connect(f"{where}/postgres", autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("create database warehouse")
        with dbapi.connect(f"{where}/warehouse", autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("create schema main")
        yield port


def on_postgres(folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> DbtProject:
    project = new_project(folder)
    models: dict[str, Any] = dict.fromkeys(VIEWS, "select 1 as user_id")
    content = manifest(models, VIEWS, database="warehouse")
    content["metadata"]["adapter_type"] = "postgres"
    write_models(folder, content)
    (folder / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: postgres, host: 127.0.0.1, user: postgres, password: '', dbname: warehouse, "
        f"schema: main, port: {port}}}}}}}\n"
    )
    monkeypatch.setenv("FEATURE_STORE_STATE", f"{project.warehouse}.feature_store")
    return project


@pytest.fixture
def world(tmp_path: Path, server: Server, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    server.proxy.mend()
    server.client.flushall()
    server.whole = True
    project = on_postgres(tmp_path / "shop", port, monkeypatch)
    readings = PostgresReadings(project, ROWS, port=port)
    readings.become(1)
    before = server.proxy.sent
    assert materialize(project, server.proxy.url).rows_written > ROWS / 2
    yield World(project, server, readings, server.proxy.sent - before)


def test_killed_at_random_moments_and_run_again_it_ends_in_the_same_state(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    told = kill_at_random_moments(world, 2, seed=11)
    with capsys.disabled():
        print(f"\n[faults] kill -9 of a run that reads PostgreSQL: {told}")


@pytest.mark.soak
class TestWhatIsTheSameWhateverTheWarehouse:
    """Between a run and Redis, as `tests.test_faults` has it of DuckDB."""

    test_redis_killed = staticmethod(test_faults.test_redis_killed_half_way_and_started_again)
    test_the_network_breaks = staticmethod(test_faults.test_the_network_breaks_in_the_middle_of_a_command)
    test_two_runs_at_once = staticmethod(test_faults.test_two_runs_at_once_on_the_same_view_go_one_after_the_other)


def test_the_warehouse_is_stopped_while_it_is_read(
    tmp_path: Path, server: Server, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and nothing is published that was not read whole."""
    from adbc_driver_postgresql import dbapi

    server.proxy.mend()
    server.client.flushall()
    project = on_postgres(tmp_path / "shop", port, monkeypatch)
    where = f"postgresql://postgres@127.0.0.1:{port}/warehouse"
    with dbapi.connect(where, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("drop table if exists main.readings")
        cursor.execute(
            "create view main.readings as select 1::bigint as user_id, now() as event_timestamp, now() as created_at, "
            "7 as value from pg_sleep(60)"
        )
        process = start_materialize(project, server.url)
        ended_ones: list[Any] = []
        while not ended_ones:
            assert process.poll() is None, ended(process)
            cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY%readings%' "
                           "and pid <> pg_backend_pid()")  # fmt: skip
            ended_ones = cursor.fetchall()
        ran = ended(process)
        cursor.execute("drop view main.readings")
    assert ran.code == 1 and "Traceback" not in ran.err
    said = "terminating connection due to administrator command", "no connection to the server"  # while it ran; before
    assert any(f"PostgreSQL refused a query: {one}." in ran.err for one in said), ran
    assert not list(server.client.scan_iter("faults:readings:*"))


def test_a_table_that_is_replaced_while_it_is_read_is_read_as_it_was(world: World) -> None:
    """dbt waits for the reader, or the reader has the rows of before: never half of each."""
    with world.watcher():
        for state in (2, 3):
            process = world.start()
            world.readings.become(state)
            assert ended(process).code == 0
        world.run()
    world.check()
