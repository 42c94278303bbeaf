"""The golden suite: one project whose models every warehouse must answer with the same rows, to the bit.

Windows of every grain, sets as of moments, training sets, the latest rows. The session of a server is in a zone whose clocks
change within the data, naive and zoned moments stand side by side, and every moment has ties. Exempt, and compared with a
tolerance, are stddev and variance.
"""

from __future__ import annotations

import decimal
import math
import random
from datetime import datetime, timedelta
from typing import Any

from tests import oracle
from tests.support.two_engines import SCHEMA, UTC, Columns, close, exact

Rows = list[dict[str, Any]]
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
# A warehouse that takes long over each column is asked for fewer windows, by the names of models.
WINDOWS = "var('windows', {}).get(model.name, ['1 hour', '1 day', '7 days'])"
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


# Those that PostgreSQL takes frames for: a view of nothing else is one pass.
COUNTS = """[
    {'name': 'n', 'function': 'count'},
    {'name': 'paid', 'function': 'count', 'where': 'paid'},
    {'name': 'quantity', 'function': 'sum', 'expression': 'quantity'},
    {'name': 'mean_quantity', 'function': 'avg', 'expression': 'quantity', 'where': 'paid'},
    {'name': 'price', 'function': 'sum', 'expression': 'price'},
    {'name': 'mean_price', 'function': 'avg', 'expression': 'price'},
    {'name': 'twice', 'function': 'sum', 'expression': 'quantity * 2'},
]"""


def _window(grain: str, more: str = "", aggregates: str = AGGREGATES) -> str:
    return (
        "{{ feature_store.window_aggregates(relation=source('raw', 'events'), entities='user_id', "
        f"timestamp='happened_at', aggregates={aggregates}, windows={WINDOWS}, grain={grain!r}{more}) }}}}"
    )


def _joined(features: str, more: str = "") -> str:
    return f"{{{{ feature_store.point_in_time_join(source('raw', 'spine'), {features}, timestamp='asked_at'{more}) }}}}"


def _as_of(more: str = "") -> str:
    return (
        "{{ feature_store.aggregate_as_of(spine=source('raw', 'spine'), relation=source('raw', 'events'), "
        f"entities='user_id', timestamp='happened_at', aggregates={AGGREGATES}, windows={WINDOWS}, "
        f"spine_timestamp='asked_at'{more}) }}}}"
    )


# What plain Python can say too.
BY_THE_RULE = ("training", "strict", "hindsight", "latest_plain", "latest_known")
# Each model, and the columns that name a row of it.
MODELS = {
    "plain": ("select * from {{ source('raw', 'events') }}", None),
    "known": (
        "select user_id, shop, happened_at, loaded_at, label as late, amount from {{ source('raw', 'events') }}",
        None,
    ),
    "by_change": (_window("change"), ("user_id", "event_timestamp")),
    "by_change_loaded": (_window("change", ", created_timestamp='loaded_at'"), ("user_id", "event_timestamp")),
    "by_event": (_window("event"), ("user_id", "event_timestamp")),
    "counts_by_change": (_window("change", aggregates=COUNTS), ("user_id", "event_timestamp")),
    "counts_by_event": (_window("event", aggregates=COUNTS), ("user_id", "event_timestamp")),
    "by_hour": (_window("every 1 hour", ", created_timestamp='loaded_at'"), ("user_id", "event_timestamp")),
    "by_range": (_window("event", ", shape='range'"), ("user_id", "event_timestamp")),
    "as_of": (_as_of(), ("no",)),
    "as_of_loaded": (_as_of(", created_timestamp='loaded_at', allow_exact_matches=false"), ("no",)),
    "training": (_joined(FEATURES), ("no",)),
    "strict": (
        _joined("['plain:amount', 'known:late']", ", allow_exact_matches=false, full_feature_names=true"),
        ("no",),
    ),
    "hindsight": (_joined("['known:late', 'known:amount']", ", filter_by_created_timestamp=false"), ("no",)),
    "latest_plain": ("{{ feature_store.latest('plain') }}", ("user_id",)),
    "latest_known": ("{{ feature_store.latest('known') }}", ("user_id", "shop")),
}
PROPERTIES = {
    "sources": [
        {
            "name": "raw",
            "schema": SCHEMA,
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


FILES = {"models/properties.yml": PROPERTIES} | {f"models/{name}.sql": sql for name, (sql, _) in MODELS.items()}


def tables() -> dict[str, tuple[Columns, Rows]]:
    """{table: (columns, rows)} that the models read."""
    events, spine = rows(500, seed=11)
    return {"events": (EVENTS, events), "spine": (SPINE, spine)}


def differences(model: str, ours: Rows, theirs: Rows) -> list[tuple[Any, ...]]:
    """Where two warehouses' rows of a model differ: [(the row's key, column, value, the other's value)]."""
    key = MODELS[model][1]
    one, other = ({tuple(exact(row[name]) for name in key): row for row in side} for side in (ours, theirs))
    assert len(one) == len(ours) == len(theirs)
    assert len(one) >= 5
    assert one.keys() == other.keys()
    assert list(ours[0]) == list(theirs[0])
    return [
        (place, name, value, other[place][name])
        for place, row in one.items()
        for name, value in row.items()
        if not same(name, value, other[place][name])
    ]


def same(name: str, one: Any, other: Any) -> bool:
    return close(one, other) if name.startswith(LOOSE) else exact(one) == exact(other)


def by_the_rule(model: str) -> dict[Any, dict[str, Any]]:
    """What the point-in-time rule says in plain Python, for training sets and latest rows: {the row's key: features}."""
    events, spine = rows(500, seed=11)
    plain = oracle.View(ttl=_microseconds(timedelta(days=3)))
    known = oracle.View(created=True)
    of_plain = [_row(event, ("user_id",), set(EVENTS) - {"user_id", "happened_at"}) for event in events]
    of_known = [_row(event, ("user_id", "shop"), {"label", "amount"}) for event in events]
    if model.startswith("latest"):
        view, seen = (plain, of_plain) if model == "latest_plain" else (known, of_known)
        now = _microseconds(datetime.now(UTC))
        return {keys: dict(row.features) for keys, row in oracle.latest(view, seen, now).items()}
    strict = {"allow_exact_matches": model != "strict"}
    expected = {}
    for label in spine:
        moment = None if label["asked_at"] is None else _microseconds(label["asked_at"])
        one = oracle.point_in_time_value(plain, of_plain, (label["user_id"],), moment, **strict)
        other = oracle.point_in_time_value(
            known, of_known, (label["user_id"], label["shop"]), moment,
            filter_by_created_timestamp=model != "hindsight", **strict,
        )  # fmt: skip
        first, second = (({} if row is None else row.features) for row in (one, other))
        expected[label["no"],] = {
            "training": {name: first.get(name) for name in ("amount", "quantity", "price", "label", "marks", "naive")}
            | {"late": second.get("late")},
            "strict": {"plain__amount": first.get("amount"), "known__late": second.get("late")},
            "hindsight": {"late": second.get("late"), "amount": second.get("amount")},
        }[model]
    return expected


def unlike_the_rule(model: str, found: Rows) -> list[tuple[Any, ...]]:
    """Where a warehouse's rows of a model are not what the rule says."""
    expected = by_the_rule(model)
    key = MODELS[model][1]
    assert len(expected) == len(found) >= 5
    return [
        (place, name, value, row[name])
        for row in found
        for place in [tuple(row[name] for name in key)]
        for name, value in expected[place].items()
        if exact(value) != exact(row[name])
    ]


def _row(event: dict[str, Any], keys: tuple[str, ...], features: set[str]) -> oracle.Row:
    loaded = event["loaded_at"]
    return oracle.Row(
        tuple(event[name] for name in keys),
        _microseconds(event["happened_at"]),
        None if loaded is None else _microseconds(loaded.replace(tzinfo=UTC)),
        {"late" if name == "label" and "shop" in keys else name: event[name] for name in features},
    )


def _microseconds(value: datetime | timedelta) -> int:
    return (value if isinstance(value, timedelta) else value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )
