"""What else a dbt user on PostgreSQL meets gives DuckDB's rows: incremental windows with late events, microbatches, spines as text and
without a relation, names in capitals, on-demand features, the registry."""

from __future__ import annotations

import decimal
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.two_engines import SCHEMA, UTC, Engines, Row, exact, overlong, two_engines

START = datetime(2026, 3, 27, tzinfo=UTC)  # clocks change in Europe on the 29th
LOADS = 3
EVENTS = {
    "User Id": ("bigint", "bigint"),
    "shop": ("varchar", "text"),
    "Happened At": ("timestamptz", "timestamptz"),
    "loaded_at": ("timestamp", "timestamp"),
    "Amount": ("double", "double precision"),
    "price": ("decimal(12, 3)", "numeric(12, 3)"),
    "select": ("bigint", "bigint"),
}
LABELS = {
    "no": ("bigint", "bigint"),
    "User Id": ("varchar", "varchar"),
    "shop": ("varchar", "varchar"),
    "Asked At": ("timestamptz", "timestamptz"),
    "given": ("bigint", "bigint"),
    "half": ("decimal(12, 3)", "numeric(12, 3)"),
    "word": ("varchar", "varchar"),
}
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "Kinds", "function": "count_distinct", "expression": '"select"'},
    {"name": "total", "function": "sum", "expression": '"Amount"'},
    {"name": "prices", "function": "avg", "expression": "price", "where": '"select" > 1'},
    {"name": "top", "function": "max", "expression": "price"},
    {"name": "newest", "function": "last", "expression": '"Amount"'},
]
VIEWS = {"change": ("change", ""), "event": ("event", ""), "known": ("change", "loaded_at"), "hourly": ("every 2 hours", "loaded_at")}  # fmt: skip
KEY = ["shop", "User Id"]
ON_DEMAND = {
    "ratio": {"expression": "given / nullif(count_, 0)", "request": {"given": "bigint"}},
    "sum_of_all": {"expression": "coalesce(amount, 0) + given * 2 - half", "request": {"given": "bigint", "half": "decimal(12, 3)"}},
    "is_a": {"expression": "shop_name || word = 'aX'", "request": {"word": "varchar"}},
    "seconds": {"expression": "extract(epoch from seen) / 2"},
}  # fmt: skip


def window(grain: str, known: str, config: str = "", relation: str = "source('raw', 'events')") -> str:
    return (
        f"{config}{{{{ feature_store.window_aggregates({relation}, {KEY}, 'Happened At', {AGGREGATES}, "
        f"['2 hours', '1 day'], '{grain}', created_timestamp={known or None!r}) }}}}"
    )


def incremental(strategy: str, more: str = "") -> str:
    return (
        f"{{{{ config(materialized='incremental', incremental_strategy='{strategy}', "
        f"unique_key=['shop', '\"User Id\"', 'event_timestamp']{more}) }}}}\n"
    )


BATCHED = """{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_timestamp', begin='2026-03-26',
    batch_size='day', unique_key=['shop', '"User Id"', 'event_timestamp'] if target.type == 'postgres' else none) }}
"""
FEATURES = "['PlainView:Amount', 'PlainView:price', 'event:Kinds_1d']"


def trained(spine: str) -> str:
    return f"{{{{ feature_store.point_in_time_join({spine}, {FEATURES}, timestamp='Asked At') }}}}"


def counted(spine: str) -> str:
    return (
        f"{{{{ feature_store.aggregate_as_of({spine}, source('raw', 'events'), {KEY}, 'Happened At', {AGGREGATES}, "
        "['1 day'], spine_timestamp='Asked At') }}"
    )


TEXT = "'select * from ' ~ source('raw', 'labels') ~ ' where no % 2 = 0 -- the even ones'"
MODELS = {
    **{name: window(grain, known, incremental("delete+insert")) for name, (grain, known) in VIEWS.items()},
    **{f"full_{name}": window(grain, known) for name, (grain, known) in VIEWS.items()},
    "source_events": "{{ config(event_time='\"Happened At\"') }} select * from {{ source('raw', 'events') }}",
    "batched": window("event", "loaded_at", BATCHED, "ref('source_events')"),
    "PlainView": 'select "User Id", shop, "Happened At", loaded_at, "Amount", price from {{ source(\'raw\', \'events\') }}',
    "unbuilt": "{{ config(materialized='ephemeral') }} select * from {{ source('raw', 'labels') }} where no < 100",
    "by_text": trained(TEXT),
    "by_ephemeral": trained("ref('unbuilt')"),
    "by_cte": f"with wanted as (select * from {{{{ source('raw', 'labels') }}}}) select * from ({trained(repr('wanted'))}) as found",
    "counted_by_text": counted(TEXT),
    "counted_by_ephemeral": counted("ref('unbuilt')"),
    "computing": """
        select "User Id", shop, "Happened At", "select" as count_, "Amount" as amount, shop as shop_name, "Happened At" as seen
        from {{ source('raw', 'events') }} where "Amount" < 1e6
    """,
    "computed": (
        "{{ feature_store.point_in_time_join(source('raw', 'labels'), 'scoring', timestamp='Asked At', full_feature_names=true) }}"
        "-- depends_on: {{ ref('computing') }}"
    ),
}  # fmt: skip


def view(name: str, **meta: Any) -> dict[str, Any]:
    declared = {"entities": ["User Id", "shop"], **meta}
    columns = [{"name": "price", "data_type": "numeric", "description": 'It\'s \\ a "price"'}]
    return {"name": name, "config": {"meta": {"feature_view": declared}}, "columns": columns}


PROPERTIES = {
    "sources": [{"name": "raw", "schema": SCHEMA, "tables": [{"name": "events"}, {"name": "labels"}]}],
    "exposures": [
        {"name": "scoring", "type": "ml", "owner": {"name": "x"}, "depends_on": ["ref('computing')"],
         "config": {"meta": {
             "features": ["computing:amount", "computing:count_", *(f"computing:{name}" for name in ON_DEMAND)],
             "on_demand": {"share": {"expression": "given / 4 * amount", "request": {"given": "bigint"}}},
         }}},
    ],
    "models": [
        view("event"),
        view("PlainView", timestamp="Happened At", created_timestamp="loaded_at", ttl="2 days"),
        view("computing", timestamp="Happened At", on_demand=ON_DEMAND),
    ],
}  # fmt: skip


def rows(chance: random.Random, load: int) -> list[Row]:
    """A day of events and some that come late; each moment twice in ten."""
    found = []
    for _ in range(80):
        at = START + timedelta(days=load, minutes=15 * chance.randrange(96))
        at -= timedelta(days=chance.choice([0, 0, 0, 1, 2])) if load else timedelta(0)
        found.append({
            "User Id": chance.choice([1, 2, 3, None]),
            "shop": chance.choice(["a", "B", "ä"]),
            "Happened At": at,
            "loaded_at": (at + timedelta(minutes=chance.choice([0, 0, 90, 1500]))).replace(tzinfo=None),
            "Amount": chance.choice([0.1, 0.2, -3.25, 1e8, 7.5, None]),
            "price": chance.choice([decimal.Decimal("1.100"), decimal.Decimal("-7.123"), None]),
            "select": chance.choice([0, 1, 2, 3, None]),
        })  # fmt: skip
    return found


def labels(chance: random.Random) -> list[Row]:
    return [
        {
            "no": number,
            "User Id": chance.choice(["1", "2", "3", "03", "x", None]),
            "shop": chance.choice(["a", "B", "ä", "q"]),
            "Asked At": START + timedelta(minutes=15 * chance.randrange(400)),
            "given": chance.choice([1, 7, 10]),
            "half": decimal.Decimal("0.500"),
            "word": chance.choice(["X", "x"]),
        }
        for number in range(200)
    ]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    files = {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, sql in MODELS.items()}
    chance = random.Random(5)
    with two_engines(tmp_path_factory.mktemp("models"), files) as engines:
        engines.create("events", EVENTS, rows(chance, 0))
        engines.create("labels", LABELS, labels(chance))
        engines.dbt("run", "--select", *VIEWS)
        for load in range(1, LOADS):
            engines.insert("events", rows(chance, load))
            engines.dbt("run", "--select", *VIEWS)
        engines.dbt("run", "--exclude", *VIEWS, "--event-time-start", "2026-03-26", "--event-time-end", "2026-04-02")
        engines.dbt("run", "--select", "batched", "--event-time-start", "2026-03-28", "--event-time-end", "2026-03-30")
        yield engines


def keyed(found: list[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    keyed = {tuple(exact(row[name]) for name in names): {k: exact(v) for k, v in row.items()} for row in found}
    assert len(keyed) == len(found)
    return keyed


@pytest.mark.parametrize("name", VIEWS)
def test_an_incremental_view_is_what_a_full_build_gives(engines: Engines, name: str) -> None:
    key = (*KEY, "event_timestamp")
    ours, theirs = (keyed(side, *key) for side in engines.rows(name))
    full = keyed(engines.rows(f"full_{name}")[1], *key)
    assert len(theirs) > 150
    assert theirs == full
    assert ours == theirs


def test_microbatches_read_what_their_windows_look_back_on(engines: Engines) -> None:
    key = (*KEY, "event_timestamp")
    ours, theirs = (keyed(side, *key) for side in engines.rows("batched"))
    assert len(theirs) > 100
    assert ours == theirs


@pytest.mark.parametrize(
    ("model", "count"),
    [("by_text", 100), ("by_ephemeral", 100), ("by_cte", 200), ("counted_by_text", 100), ("counted_by_ephemeral", 100)],
)
def test_a_spine_is_a_query_or_the_name_of_one(engines: Engines, model: str, count: int) -> None:
    ours, theirs = engines.rows(model)
    assert len(ours) == len(theirs) == count
    assert list(ours[0]) == list(theirs[0])
    assert list(theirs[0])[: len(LABELS)] == list(LABELS) and not any(name.startswith("_fs") for name in theirs[0])
    assert keyed(ours, "no") == keyed(theirs, "no")
    feature = "n_1d" if "counted" in model else "price"
    assert sum(row[feature] is not None for row in theirs) > count / 10


def test_on_demand_features_are_computed_alike(engines: Engines) -> None:
    ours, theirs = (keyed([numbers(row) for row in side], "no") for side in engines.rows("computed"))
    assert len(ours) == 200
    assert ours == theirs
    assert {row["computing__ratio"] for row in theirs.values()} >= {exact(3.5), exact(7 / 3)}


def numbers(row: Row) -> Row:
    """Numbers as doubles: PostgreSQL has no type for all that DuckDB's expressions give."""
    return {name: float(value) if isinstance(value, (int, decimal.Decimal)) and name != "no" else value
            for name, value in row.items()}  # fmt: skip


def test_the_registry_lists_the_same(engines: Engines) -> None:
    ours, theirs = (keyed(side, "feature_reference") for side in engines.rows("feature_store_registry"))
    assert len(ours) >= 6
    for row in [*ours.values(), *theirs.values()]:
        row.pop("relation_name")
    assert ours == theirs


def test_people_can_read_what_is_compiled(engines: Engines) -> None:
    assert overlong(engines.postgres) == []
