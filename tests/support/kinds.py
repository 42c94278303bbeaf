"""A table of every kind of column, its feature view, and what is online of it: for tests that compare warehouses."""

from __future__ import annotations

import decimal
import random
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import redis

from tests.support import command

START = datetime(2026, 3, 20, tzinfo=timezone.utc)  # clocks change in Europe on the 29th
KEYS = {
    "user_id": ("bigint", "bigint"),
    "shop": ("varchar", "text"),
    "happened_at": ("timestamptz", "timestamptz"),
    "loaded_at": ("timestamp", "timestamp"),
}
# name: type on DuckDB, type on PostgreSQL
FEATURES = {
    "small": ("smallint", "smallint"),
    "amount": ("double", "double precision"),
    "ratio": ("float", "real"),
    "quantity": ("bigint", "bigint"),
    "price": ("decimal(12, 3)", "numeric(12, 3)"),
    "wide": ("decimal(38, 10)", "numeric(38, 10)"),
    "label": ("varchar", "varchar(20)"),
    "paid": ("boolean", "boolean"),
    "day": ("date", "date"),
    "naive": ("timestamp", "timestamp"),
    "zoned": ("timestamptz", "timestamptz"),
    "clock": ("time", "time"),
    "marks": ("integer[]", "integer[]"),
    "vector": ("float[]", "real[]"),
    "prices": ("decimal(6, 2)[]", "numeric(6, 2)[]"),
    "labels": ("varchar[]", "text[]"),
    "code": ("uuid", "uuid"),
    "given": ("json", "json"),
    "bytes": ("blob", "bytea"),
}
VIEW = {
    "entities": ["user_id", "shop"], "timestamp": "happened_at", "created_timestamp": "loaded_at", "ttl": "4000 days",
}  # fmt: skip


def drawn(seed: int, count: int = 300, features: Iterable[str] = FEATURES) -> list[dict[str, Any]]:
    """Random rows with these features; 18 entities, unless there are few rows."""
    draw = random.Random(seed)
    base = START.replace(tzinfo=None)

    def one() -> dict[str, Any]:
        values = {
            "small": draw.choice([1, -32768, 32767]),
            "amount": draw.choice([0.1, -0.0, 0.0, 1e300, 5e-324, float("nan"), float("inf"), 123456.789]),
            "ratio": draw.choice([0.5, 16777216.0, -0.0]),
            "quantity": draw.choice([2**63 - 1, -(2**63), 2**53 + 1, 7]),
            "price": draw.choice([decimal.Decimal("1.500"), decimal.Decimal("-999999999.999"), decimal.Decimal(0)]),
            "wide": decimal.Decimal(draw.choice(["1234567890123456789012345678.0123456789", "-0.0000000001"])),
            "label": draw.choice(["x", "é", "", 'a"b\\c\n', "Ω"]),
            "paid": draw.random() < 0.5,
            "day": (base + timedelta(days=draw.randrange(-30000, 30000))).date(),
            "naive": draw.choice(
                [base, datetime(1, 1, 1), datetime(2026, 3, 29, 2, 30), datetime(9999, 12, 31, 23, 59, 59, 999999)]
            ),
            "zoned": START + timedelta(microseconds=draw.randrange(10**12)),
            "clock": (base + timedelta(microseconds=draw.randrange(86_400_000_000))).time(),
            "marks": draw.choice([[1, None, -2147483648], [], [7]]),
            "vector": [draw.choice([0.5, -1.25, 0.0]) for _ in range(4)],
            "prices": draw.choice([[decimal.Decimal("1.25"), None], []]),
            "labels": draw.choice([["a", "b,c"], ['"'], []]),
            "code": f"00000000-0000-0000-0000-{draw.randrange(10**12):012}",
            "given": draw.choice(['{"a": [1, 2]}', "[]", '"x"']),
            "bytes": draw.choice([b"\x00\xff", b""]),
        }
        for name in values:
            if draw.random() < 0.15:
                values[name] = None
        keys = {
            "user_id": draw.choice([1, 2, 3, 4, 5, 2**53 + 1]),
            "shop": draw.choice(["a", "b:c", "É"]),
            "happened_at": START + timedelta(hours=draw.randrange(400)),
            "loaded_at": base + timedelta(hours=draw.randrange(420)),
        }
        return keys | {name: values[name] for name in features}

    return [one() for _ in range(count)]


def online(client: redis.Redis, namespace: str, *views: str) -> dict[str, dict[bytes, bytes]]:
    """The rows of a namespace, of some of its views, by what follows it in their names."""
    found = {key.decode().removeprefix(f"{namespace}:"): row for key, row in command.rows(client, namespace).items()}
    return {name: row for name, row in found.items() if not views or name.partition(":")[0] in views}
