"""The example shop, served and compared: whatever happens to its raw data and models, nothing is unexplained."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore
from materializer.skew.compare import skew
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.example import built_example
from tests.support.serving import serving

USERS, ITEMS = range(1, 31), range(1, 11)


@pytest.fixture
def example(tmp_path: Path) -> DbtProject:
    """The example with a small shop's raw data, built."""
    return copy_of(built_example(), tmp_path / "dbt_project")


def bought(example: DbtProject, user: int, loaded_at: datetime) -> None:
    """A purchase of yesterday comes in, and dbt runs."""
    path = example.folder / "raw" / "purchases.parquet"
    known = pq.read_table(path)
    values = {
        "purchase_id": known.num_rows + 100_000, "user_id": user, "item_id": 1, "quantity": 1, "amount": known["amount"][0],
        "purchased_at": loaded_at - timedelta(days=1), "loaded_at": loaded_at,
    }  # fmt: skip
    row = pa.table({field.name: pa.array([values[field.name]], field.type) for field in known.schema})
    pq.write_table(pa.concat_tables([known, row.cast(known.schema)]), path)
    example.dbt("run", "--select", "+user_features")


def assert_orders_are_logged_with_what_their_requests_brought(store: FeatureStore, url: str, folder: Path) -> None:
    orders = {"service": "checkout", "entities": [{"user_id": 1, "item_id": 1}] * 3}
    orders["request"] = [{"amount": 10}, {"amount": "nan"}, {"amount": None}]
    with serving(url, "--log-features", str(folder), "--log-sample", "1", namespace=store.namespace) as (client, _):
        answer = client.post("/v1/features", json=orders).json()
    (file,) = folder.glob("service-checkout/*.parquet")
    table = pq.ParquetFile(file).read()
    usual, pieces = (answer["names"].index(name) for name in ("amount_against_usual", "pieces"))
    amounts = table["amount"].to_pylist()
    assert (amounts[0], amounts[2]) == (10.0, None) and math.isnan(amounts[1])
    for name, place in (("user_features__amount_against_usual", usual), ("checkout__pieces", pieces)):
        logged = table[name].to_pylist()
        assert logged[0] == answer["rows"][0][place] and math.isnan(logged[1]) and logged[2] is None
        assert table[f"{name}__status"].to_pylist() == ["PRESENT", "PRESENT", "NULL_VALUE"]
    compared = skew(store.project, store.namespace, folder)
    stored = {"user_features:purchase_count_30d", "user_features:avg_order_value", "item_features:price"}
    assert {(one.feature, one.rows, one.differ) for one in compared.features} == {(name, 3, 0) for name in stored}


@pytest.mark.timeout(600)
def test_in_the_example_every_difference_is_explained(example: DbtProject, redis_url: str, tmp_path: Path) -> None:
    store = FeatureStore(example.folder, redis_url=redis_url, namespace="example.skew")
    entities = [{"user_id": user, "item_id": item} for user in USERS for item in ITEMS]
    (served := tmp_path / "served").mkdir()

    def serve() -> None:
        options = ("--log-features", str(served), "--log-sample", "1")
        with serving(redis_url, *options, namespace="example.skew") as (client, _):
            answer = client.post("/v1/features", json={"service": "recommendation", "entities": entities})
            assert answer.status_code == 200 and len(answer.json()["rows"]) == len(entities)

    def reasons(feature: str = "user_features:purchase_count_30d") -> Counter[str]:
        found = skew(store.project, store.namespace, served)
        assert found.unexplained == 0 and not found.examples
        assert {len(found.features)} == {10} and {one.rows for one in found.features} == {rows}
        return Counter(next(one for one in found.features if one.feature == feature).reasons)

    before = datetime.now(timezone.utc)
    store.materialize()
    assert_orders_are_logged_with_what_their_requests_brought(store, redis_url, tmp_path / "orders")
    serve()
    rows = len(entities)
    assert not reasons()
    # A purchase that comes in after the run; it counts from when it was loaded.
    bought(example, 1, datetime.now(timezone.utc))
    serve()
    rows += len(entities)
    assert reasons() == {"not materialized yet": len(ITEMS)}
    # One that the pipeline says was there before the run.
    bought(example, 2, before - timedelta(seconds=10))
    serve()
    rows += len(entities)
    # What was served before it came is a difference too: by its load time it was known by then.
    assert reasons() == {"not materialized yet": 2 * len(ITEMS), "late data": 3 * len(ITEMS)}
    # The next run brings both.
    store.materialize()
    serve()
    rows += len(entities)
    assert reasons() == {"not materialized yet": 2 * len(ITEMS), "late data": 3 * len(ITEMS)}
    where = ("--project-dir", str(example.folder), "--redis-url", redis_url, "--namespace", store.namespace)
    ran = run("feature-store", "skew", str(served), "--feature", "user_features", *where)
    assert ran.code == 0
    assert re.search(r"^user_features:age +1200 +0 +-$", ran.out, re.MULTILINE)
    assert re.search(
        r"^user_features:purchase_count_30d +1200 +50 +late data 30, not materialized yet 20$", ran.out, re.MULTILINE
    )
    # Another definition: what was served by the old one is not what training sees now.
    model = example.folder / "models" / "features" / "user_features.sql"
    model.write_text(
        model.read_text().replace(
            "        purchase_count_30d,", "        1000 + purchase_count_30d as purchase_count_30d,"
        )
    )
    example.dbt("run", "--select", "user_features")
    after = reasons()
    assert after["definition changed"] > 3 * len(entities) and set(after) <= {"definition changed"}
