"""Windows stay right where DuckDB is told not to keep the order of rows."""

from __future__ import annotations

import pytest

from materializer.project.relation import Relation
from tests.support.rendered import Views

AGGREGATES = [{"name": "n", "function": "count"}, {"name": "total", "function": "sum", "expression": "x"}]


@pytest.mark.parametrize("kept", [True, False])
def test_running_totals_do_not_depend_on_the_order_of_rows_being_kept(kept: bool) -> None:
    views = Views()
    warehouse = views.connection
    warehouse.execute(f"set preserve_insertion_order = {kept}; set threads = 2")
    warehouse.execute("""
        create table events as
        select hash(i) % 50 as k, timestamp '2026-01-01' + to_seconds((hash(i * 7) % 864000)::int) as happened_at,
            (i % 100)::int as x from range(300000) t(i)""")
    warehouse.execute("""
        create table moments as
        select hash(i) % 50 as k, timestamp '2026-01-01' + to_seconds((hash(i * 13) % 864000)::int) as event_timestamp
        from range(200) t(i)""")
    sql = views.sql(
        "aggregate_as_of", Relation("moments"), Relation("events"), "k", "happened_at", AGGREGATES, ["3 hours"],
        shape="dense",
    )  # fmt: skip
    assert "over in_order" in sql
    warehouse.execute(f"create table as_of as {sql}")
    wrong, rows = warehouse.execute("""
        select count(*) filter (where a.n_3h <> b.n or a.total_3h is distinct from b.total), count(*)
        from as_of a, lateral (
            select count(*) as n, sum(x) as total from events e
            where e.k = a.k and e.happened_at > a.event_timestamp - interval '3 hours'
                and e.happened_at <= a.event_timestamp
        ) b""").fetchone()
    assert (wrong, rows) == (0, 200)
