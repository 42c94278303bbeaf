"""The macros on PostgreSQL give the rows that they give on DuckDB, to the bit.

One project, built by dbt on both: windows of every grain, sets as of moments, training sets, the latest rows. The session
is in a zone whose clocks change within the data, the database sorts text otherwise than by bytes, naive and zoned
moments stand side by side, and every moment has ties. Exempt are the last digits of stddev and variance.
"""

from __future__ import annotations

import decimal
import importlib.util
import math
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support import postgres
from tests.support.dbt import PACKAGE, make_project

UTC = timezone.utc
START = datetime(2026, 3, 27, tzinfo=UTC)  # clocks change in Europe on the 29th
# name: type on DuckDB, type on PostgreSQL
EVENTS = {
    "user_id": ("bigint", "bigint"),
    "shop": ("varchar", "text"),
    "happened_at": ("timestamptz", "timestamptz"),
    "loaded_at": ("timestamp", "timestamp"),
    "amount": ("double", "double precision"),
    "ratio": ("float", "real"),
    "quantity": ("bigint", "bigint"),
    "price": ("decimal(12, 3)", "numeric(12, 3)"),
    "label": ("varchar", "varchar(20)"),
    "paid": ("boolean", "boolean"),
    "day": ("date", "date"),
    "naive": ("timestamp", "timestamp"),
    "marks": ("integer[]", "integer[]"),
}
SPINE = {
    "no": ("bigint", "bigint"),
    "user_id": ("integer", "integer"),
    "shop": ("varchar", "varchar"),
    "asked_at": ("timestamptz", "timestamptz"),
}
WINDOWS = "['1 hour', '1 day', '7 days']"
AGGREGATES = """[
    {'name': 'n', 'function': 'count'},
    {'name': 'paid', 'function': 'count', 'where': 'paid'},
    {'name': 'labels', 'function': 'count_distinct', 'expression': 'label'},
    {'name': 'quantity', 'function': 'sum', 'expression': 'quantity'},
    {'name': 'mean_quantity', 'function': 'avg', 'expression': 'quantity'},
    {'name': 'price', 'function': 'sum', 'expression': 'price'},
    {'name': 'mean_price', 'function': 'avg', 'expression': 'price'},
    {'name': 'amount', 'function': 'sum', 'expression': 'amount'},
    {'name': 'mean_amount', 'function': 'avg', 'expression': 'amount', 'where': 'paid'},
    {'name': 'twice', 'function': 'sum', 'expression': 'quantity * 2'},
    {'name': 'most', 'function': 'max', 'expression': 'amount'},
    {'name': 'least', 'function': 'min', 'expression': 'ratio'},
    {'name': 'lowest', 'function': 'min', 'expression': 'label'},
    {'name': 'highest', 'function': 'max', 'expression': 'label'},
    {'name': 'spread', 'function': 'stddev', 'expression': 'amount'},
    {'name': 'variance', 'function': 'variance', 'expression': 'price'},
    {'name': 'oldest', 'function': 'first', 'expression': 'label'},
    {'name': 'newest', 'function': 'last', 'expression': 'amount'},
    {'name': 'newest_paid', 'function': 'last', 'expression': 'quantity', 'where': 'paid'},
]"""
LOOSE = ("spread_", "variance_")
FEATURES = (
    "['plain:amount', 'plain:quantity', 'plain:price', 'plain:label', 'plain:marks', 'plain:naive', 'known:late']"
)


def window(grain: str, more: str = "") -> str:
    return (
        "{{ feature_store.window_aggregates(relation=source('raw', 'events'), entities='user_id', "
        f"timestamp='happened_at', aggregates={AGGREGATES}, windows={WINDOWS}, grain={grain!r}{more}) }}}}"
    )


def joined(features: str, more: str = "") -> str:
    return f"{{{{ feature_store.point_in_time_join(source('raw', 'spine'), {features}, timestamp='asked_at'{more}) }}}}"


def as_of(more: str = "") -> str:
    return (
        "{{ feature_store.aggregate_as_of(spine=source('raw', 'spine'), relation=source('raw', 'events'), "
        f"entities='user_id', timestamp='happened_at', aggregates={AGGREGATES}, windows={WINDOWS}, "
        f"spine_timestamp='asked_at'{more}) }}}}"
    )


# Each model, and the columns that name a row of it.
MODELS = {
    "plain": ("select * from {{ source('raw', 'events') }}", None),
    "known": (
        "select user_id, shop, happened_at, loaded_at, label as late, amount from {{ source('raw', 'events') }}",
        None,
    ),
    "by_change": (window("change"), ("user_id", "event_timestamp")),
    "by_change_loaded": (window("change", ", created_timestamp='loaded_at'"), ("user_id", "event_timestamp")),
    "by_event": (window("event"), ("user_id", "event_timestamp")),
    "by_hour": (window("every 1 hour", ", created_timestamp='loaded_at'"), ("user_id", "event_timestamp")),
    "by_range": (window("event", ", shape='range'"), ("user_id", "event_timestamp")),
    "as_of": (as_of(), ("no",)),
    "as_of_loaded": (as_of(", created_timestamp='loaded_at', allow_exact_matches=false"), ("no",)),
    "training": (joined(FEATURES), ("no",)),
    "strict": (
        joined("['plain:amount', 'known:late']", ", allow_exact_matches=false, full_feature_names=true"),
        ("no",),
    ),
    "hindsight": (joined("['known:late', 'known:amount']", ", filter_by_created_timestamp=false"), ("no",)),
    "latest_plain": ("{{ feature_store.latest('plain') }}", ("user_id",)),
    "latest_known": ("{{ feature_store.latest('known') }}", ("user_id", "shop")),
}
PROPERTIES = {
    "sources": [
        {
            "name": "raw",
            "schema": "{{ 'main' if target.type == 'duckdb' else 'public' }}",
            "tables": [{"name": "events"}, {"name": "spine"}],
        }
    ],
    "models": [
        {
            "name": "plain",
            "config": {"meta": {"feature_view": {"entities": ["user_id"], "timestamp": "happened_at", "ttl": "3 days"}}},
        },
        {
            "name": "known",
            "config": {
                "meta": {
                    "feature_view": {
                        "entities": ["user_id", "shop"],
                        "timestamp": "happened_at",
                        "created_timestamp": "loaded_at",
                    }
                }
            },
        },
        {"name": "by_change", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
         "data_tests": ["feature_store.feature_view"]},
    ],
}  # fmt: skip


def rows(count: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and a spine on a grid of quarters of hours, with neighbours a microsecond away."""
    chance = random.Random(seed)

    def moment() -> datetime:
        quarters = timedelta(minutes=15) * chance.randrange(480)
        return START + quarters + timedelta(microseconds=chance.choice([0, 0, 0, 0, 1, -1]))

    amounts = [1.5, 0.1, 0.2, 0.3, -0.0, 0.0, 1e8, -3.25, 123456.789, math.nan, math.inf, -math.inf, None]
    events = []
    for _ in range(count):
        at = moment()
        late = chance.choice([timedelta(0), timedelta(0), timedelta(hours=chance.randrange(200)), timedelta(hours=-1)])
        events.append({
            "user_id": chance.choice([1, 2, 3, 4, 5, None]),
            "shop": chance.choice(["a", "B", "b", "ä", "Z", "", None]),
            "happened_at": at,
            "loaded_at": None if chance.random() < 0.1 else (at + late).replace(tzinfo=None),
            "amount": chance.choice(amounts[: 9 if chance.random() < 0.8 else None]),
            "ratio": chance.choice([0.5, -0.0, 0.0, 0.25, None]),
            "quantity": chance.choice([1, 2, 3, 0, -1, 2**53 + 1, None]),
            "price": chance.choice([decimal.Decimal("1.100"), decimal.Decimal("-7.123"), decimal.Decimal("0.007"), None]),
            "label": chance.choice(["x", "X", "y", "é", "e", "", "_", None]),
            "paid": chance.choice([True, False, None]),
            "day": at.date(),
            "naive": at.replace(tzinfo=None),
            "marks": chance.choice([[1, 2], [1, None], [], [None], None]),
        })  # fmt: skip
    spine = [
        {
            "no": number,
            "user_id": chance.choice([1, 2, 3, 4, 5, 9, None]),
            "shop": chance.choice(["a", "B", "b", "ä", "Z", "q", "", None]),
            "asked_at": None if chance.random() < 0.02 else moment(),
        }
        for number in range(count)
    ]
    return events, spine


def create(table: str, columns: dict[str, tuple[str, str]], engine: int) -> str:
    return f"create table {table} ({', '.join(f'{name} {types[engine]}' for name, types in columns.items())})"


@dataclass(frozen=True)
class Built:
    """The rows of a model on both engines."""

    duckdb: dict[str, list[dict[str, Any]]]
    postgres: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    if postgres.programs() is None or importlib.util.find_spec("dbt.adapters.postgres") is None:
        pytest.skip("needs PostgreSQL and its adapter: apt-get install postgresql, pip install dbt-postgres")
    import psycopg2
    from psycopg2.extras import execute_values

    tables = dict(zip(("events", "spine"), rows(500, seed=11), strict=True))
    columns = {"events": EVENTS, "spine": SPINE}
    project = make_project(
        tmp_path_factory.mktemp("golden"),
        {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, (sql, _) in MODELS.items()},
    )
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        for table, found in tables.items():
            connection.execute(create(table, columns[table], 0))
            marks = ", ".join("?" * len(columns[table]))
            connection.executemany(f"insert into {table} values ({marks})", [list(row.values()) for row in found])
    project.dbt("build")
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        ours = {name: fetched(connection.execute(f'select * from "{name}"')) for name in MODELS}

    with postgres.server() as port:
        where = f"host=127.0.0.1 port={port} user=postgres"
        connection = psycopg2.connect(f"{where} dbname=postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "create database shop template template0 locale_provider icu icu_locale 'en-US' locale 'C.UTF-8'"
            )
            cursor.execute("alter database shop set timezone = 'Europe/Berlin'")
        connection.close()
        connection = psycopg2.connect(f"{where} dbname=shop")
        with connection.cursor() as cursor:
            for table, found in tables.items():
                cursor.execute(create(table, columns[table], 1))
                execute_values(
                    cursor, f"insert into {table} values %s", [[written(v) for v in row.values()] for row in found]
                )
        connection.commit()
        profile = {"type": "postgres", "host": "127.0.0.1", "port": port, "user": "postgres", "password": "none",
                   "dbname": "shop", "schema": "built", "threads": 2}  # fmt: skip
        there = make_there(tmp_path_factory.mktemp("on-postgres"), profile, project.folder / "models")
        done = subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", "build", "--quiet"],
            cwd=there, env=os.environ | {"DBT_PROFILES_DIR": str(there)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        with connection.cursor() as cursor:
            cursor.execute("set timezone = 'UTC'")
            theirs = {}
            for name in MODELS:
                cursor.execute(f'select * from built."{name}"')
                theirs[name] = fetched(cursor)
        connection.close()
    yield Built(ours, theirs)


def make_there(folder: Path, profile: dict[str, Any], models: Path) -> Path:
    """The same models with a profile for PostgreSQL."""
    import yaml

    (folder / "models").symlink_to(models)
    (folder / ".dbt_packages").mkdir()
    (folder / ".dbt_packages" / "feature_store").symlink_to(PACKAGE)
    for name, content in {
        "dbt_project.yml": {
            "name": "shop", "version": "1.0.0", "config-version": 2, "profile": "shop",
            "packages-install-path": ".dbt_packages", "flags": {"send_anonymous_usage_stats": False},
            "models": {"shop": {"+materialized": "table"}},
        },
        "packages.yml": {"packages": [{"local": str(PACKAGE)}]},
        "profiles.yml": {"shop": {"target": "dev", "outputs": {"dev": profile}}},
    }.items():  # fmt: skip
        (folder / name).write_text(yaml.safe_dump(content))
    return folder


def written(value: Any) -> Any:
    """A float as its text: the driver writes -0.0 as an expression whose value is 0."""
    return repr(value) if isinstance(value, float) else value


def fetched(cursor: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def exact(value: Any) -> Any:
    """A value that equals another only where both are the same to the bit, whatever the driver made of its type."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, decimal.Decimal):
        return value.normalize()
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


@pytest.mark.parametrize("model", [name for name, (_, key) in MODELS.items() if key])
def test_postgres_gives_the_rows_of_duckdb(built: Built, model: str) -> None:
    key = MODELS[model][1]
    ours, theirs = (
        {tuple(exact(row[name]) for name in key): row for row in side[model]} for side in (built.duckdb, built.postgres)
    )
    assert len(ours) == len(built.duckdb[model]) == len(built.postgres[model])
    assert len(ours) >= 5
    assert ours.keys() == theirs.keys()
    differing = [
        (place, name, value, theirs[place][name])
        for place, row in ours.items()
        for name, value in row.items()
        if not same(name, value, theirs[place][name])
    ]
    assert differing == []
    assert [list(row) for row in built.duckdb[model][:1]] == [list(row) for row in built.postgres[model][:1]]


def same(name: str, one: Any, other: Any) -> bool:
    if name.startswith(LOOSE) and one is not None and other is not None:
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-12)
    return exact(one) == exact(other)


@pytest.mark.parametrize("model", ["training", "strict", "hindsight", "as_of", "as_of_loaded"])
def test_rows_come_back_in_the_order_of_the_spine(built: Built, model: str) -> None:
    assert [row["no"] for row in built.postgres[model]] == [row["no"] for row in built.duckdb[model]]
    assert len(built.postgres[model]) == 500
