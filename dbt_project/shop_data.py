"""Write the raw data of the example shop: users, items, page views and purchases, as Parquet files in `raw/`.

    python dbt_project/shop_data.py
    python dbt_project/shop_data.py --users 5000 --days 90 --seed 7 --end 2026-01-31

The same seed, sizes and end give the same files, byte for byte. Without `--end` the data ends today at 00:00 UTC, so
that what the features say of "the last seven days" is about the last seven days.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DIMENSIONS = 128
VIEWS_PER_USER = 105  # with the purchases that follow, the default 2,000 users make well over 200,000 events
CATEGORIES = ["books", "clothing", "electronics", "garden", "home", "music", "sports", "toys"]
SECOND = 1_000_000  # instants are whole microseconds since 1970
DAY = 86_400 * SECOND

INSTANT = pa.timestamp("us", tz="UTC")
EMBEDDING = pa.list_(pa.float32(), DIMENSIONS)


def main() -> None:
    """Read the options, write the four files, say what they hold."""
    parser = argparse.ArgumentParser(description="Write the raw data of the example shop as Parquet files.")
    parser.add_argument("--users", type=int, default=2000, help="how many users there are (default 2000)")
    parser.add_argument("--days", type=int, default=90, help="how many days of events there are (default 90)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another shop (default 7)")
    parser.add_argument("--end", help="the day the data ends, at 00:00 UTC (default today)")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent / "raw", help="where to write")
    options = parser.parse_args()
    if options.users < 1 or options.days < 1:
        parser.error("--users and --days are whole numbers above zero")
    try:
        end = datetime.strptime(options.end, "%Y-%m-%d") if options.end else datetime.now(UTC)
    except ValueError:
        parser.error(f"--end is {options.end!r}, which is not a date such as 2026-01-31")
    end = end.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    tables = make_shop(options.users, options.days, options.seed, end)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        # Written aside and moved into place: whoever reads meanwhile has the old file or the new one, whole.
        path = options.folder / f"{name}.parquet"
        aside = path.with_suffix(".new")
        pq.write_table(table, aside)
        aside.replace(path)
    counts = ", ".join(f"{table.num_rows:,} {name.replace('_', ' ')}" for name, table in tables.items())
    print(f"{counts}; {options.days} days up to {end:%Y-%m-%d}")
    print(f"in {options.folder}")


def make_shop(users: int, days: int, seed: int, end: datetime) -> dict[str, pa.Table]:
    """The four raw tables of a shop with `users` users, `days` days of events before `end`."""
    rng = random.Random(seed)
    stop = int(end.timestamp()) * SECOND
    start = stop - days * DAY

    items = _items(rng, max(20, users // 5), start, stop)
    people = _users(rng, users, start, stop, items)
    views, purchases = _events(rng, people, items, start, stop, users * VIEWS_PER_USER)
    return {
        "users": pa.table(
            {
                "user_id": pa.array([user["user_id"] for user in people], pa.int64()),
                "age": pa.array([user["age"] for user in people], pa.int32()),
                "gender": pa.array([user["gender"] for user in people], pa.string()),
                "embedding": pa.array([user["embedding"] for user in people], EMBEDDING),
                "signed_up_at": pa.array([user["signed_up_at"] for user in people], INSTANT),
            }
        ),
        "items": pa.table(
            {
                "item_id": pa.array([item["item_id"] for item in items], pa.int64()),
                "category": pa.array([item["category"] for item in items], pa.string()),
                "price": pa.array([item["price"] for item in items], pa.decimal128(10, 2)),
                "embedding": pa.array([item["embedding"] for item in items], EMBEDDING),
                "listed_at": pa.array([item["listed_at"] for item in items], INSTANT),
            }
        ),
        "page_views": _loaded(
            rng,
            stop,
            [("user_id", pa.int64()), ("item_id", pa.int64()), ("viewed_at", INSTANT)],
            "view_id",
            views,
        ),
        "purchases": _loaded(
            rng,
            stop,
            [
                ("user_id", pa.int64()),
                ("item_id", pa.int64()),
                ("quantity", pa.int32()),
                ("amount", pa.decimal128(10, 2)),
                ("purchased_at", INSTANT),
            ],
            "purchase_id",
            purchases,
        ),
    }


def _items(rng: random.Random, count: int, start: int, stop: int) -> list[dict]:
    """What the shop sells. One item in ten was listed while the events were going on."""
    centres = {category: _direction(rng) for category in CATEGORIES}
    items = []
    for item_id in range(1, count + 1):
        category = rng.choice(CATEGORIES)
        listed_at = rng.randrange(start - 700 * DAY, start) if item_id % 10 else rng.randrange(start, stop)
        items.append(
            {
                "item_id": item_id,
                "category": category,
                "price": Decimal(round(math.exp(rng.gauss(3.2, 0.9)) * 100) + 99).scaleb(-2),
                # Items of one category lie near each other.
                "embedding": _unit([c + 0.8 * n for c, n in zip(centres[category], _direction(rng), strict=True)]),
                "listed_at": listed_at,
                "weight": 1 / rng.randint(1, count) ** 0.6,
            }
        )
    return items


def _users(rng: random.Random, count: int, start: int, stop: int, items: list[dict]) -> list[dict]:
    """Who visits: each with a few favourite items, and a few of them far more active than the others."""
    ranks = list(range(1, count + 1))
    rng.shuffle(ranks)
    weights = list(itertools.accumulate(item["weight"] for item in items))
    users = []
    for user_id, rank in enumerate(ranks, start=1):
        favourites = rng.choices(items, cum_weights=weights, k=6)
        taste = [sum(values) for values in zip(*(item["embedding"] for item in favourites), strict=True)]
        new = rng.random() < 0.2
        users.append(
            {
                "user_id": user_id,
                "age": min(95, 16 + round(rng.gammavariate(3, 9))),
                # Not everybody says.
                "gender": rng.choices(["female", "male", "other", None], [47, 44, 3, 6])[0],
                # A user lies near what she likes.
                "embedding": _unit([t + n for t, n in zip(taste, _direction(rng), strict=True)]),
                "signed_up_at": rng.randrange(start, stop) if new else rng.randrange(start - 260 * DAY, start),
                "weight": 1 / rank**0.7,
                "buys": rng.betavariate(2, 14) + (0.15 if rank <= count // 100 else 0),
                "favourites": favourites,
            }
        )
    return users


def _events(
    rng: random.Random, users: list[dict], items: list[dict], start: int, stop: int, count: int
) -> tuple[list[tuple], list[tuple]]:
    """Page views, and the purchases that some of them lead to, as tuples that end with their moment."""
    weights = list(itertools.accumulate(item["weight"] for item in items))
    hours = [1, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 12, 14, 15, 12, 7, 3]
    days = (stop - start) // DAY
    views: list[tuple] = []
    purchases: list[tuple] = []
    visitors = rng.choices(users, [user["weight"] for user in users], k=count)
    strolls = rng.choices(items, cum_weights=weights, k=count)
    clock = rng.choices(range(24), hours, k=count)
    for user, stroll, hour in zip(visitors, strolls, clock, strict=True):
        moment = start + rng.randrange(days) * DAY + hour * 3600 * SECOND + rng.randrange(3600 * SECOND)
        if moment <= user["signed_up_at"]:
            # She was not there yet: any moment since she signed up.
            moment = rng.randrange(user["signed_up_at"] + 1, stop + 1)
        item = rng.choice(user["favourites"]) if rng.random() < 0.6 else stroll
        while item["listed_at"] >= moment:
            item = rng.choices(items, cum_weights=weights)[0]
        views.append((user["user_id"], item["item_id"], moment))
        if rng.random() < user["buys"]:
            quantity = rng.choices([1, 2, 3, 5], [80, 14, 5, 1])[0]
            amount = item["price"] * quantity
            later = moment + round(rng.expovariate(1 / 900) * SECOND)
            purchases.append((user["user_id"], item["item_id"], quantity, amount, later))
    return views, purchases


def _loaded(
    rng: random.Random, stop: int, columns: list[tuple[str, pa.DataType]], key: str, rows: list[tuple]
) -> pa.Table:
    """Events as a pipeline delivers them: most within minutes, one in fifty up to two days late, in order of arrival.

    What had not arrived when the data ends is not in it.
    """
    arrived = []
    for number, row in enumerate(sorted(rows, key=lambda row: row[-1]), start=1):
        delay = rng.randrange(2 * DAY) if rng.random() < 0.02 else rng.randrange(20 * SECOND, 600 * SECOND)
        if row[-1] + delay <= stop:
            arrived.append((number, *row, row[-1] + delay))
    arrived.sort(key=lambda row: (row[-1], row[0]))
    schema = [(key, pa.int64()), *columns, ("loaded_at", INSTANT)]
    values = list(zip(*arrived, strict=True)) or [()] * len(schema)
    return pa.table({name: pa.array(column, type_) for (name, type_), column in zip(schema, values, strict=True)})


def _direction(rng: random.Random) -> list[float]:
    return _unit([rng.gauss(0, 1) for _ in range(DIMENSIONS)])


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


if __name__ == "__main__":
    main()
