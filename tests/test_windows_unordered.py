"""Windows stay right where DuckDB is told not to keep the order of rows."""

from __future__ import annotations

import duckdb
import pytest

from tests.support.dbt import make_project

AS_OF = """{{ config(materialized='table') }}
{{ feature_store.aggregate_as_of(
    spine=ref('moments'), relation=ref('events'), entities='k', timestamp='happened_at',
    aggregates=[{'name': 'n', 'function': 'count'}, {'name': 'total', 'function': 'sum', 'expression': 'x'}],
    windows=['3 hours'], shape='dense') }}"""


@pytest.mark.parametrize("kept", [True, False])
def test_running_totals_do_not_depend_on_the_order_of_rows_being_kept(tmp_path, kept: bool) -> None:
    project = make_project(
        tmp_path,
        {
            "models/events.sql": """{{ config(materialized='table') }}
select hash(i) % 50 as k, timestamp '2026-01-01' + to_seconds((hash(i * 7) % 864000)::int) as happened_at,
    (i % 100)::int as x from range(300000) t(i)""",
            "models/moments.sql": """{{ config(materialized='table') }}
select hash(i) % 50 as k, timestamp '2026-01-01' + to_seconds((hash(i * 13) % 864000)::int) as event_timestamp
from range(200) t(i)""",
            "models/as_of.sql": AS_OF,
        },
    )
    output = {"type": "duckdb", "path": str(project.warehouse), "threads": 2}
    output["settings"] = {"preserve_insertion_order": kept}
    project.write({"profiles.yml": {"shop": {"target": "dev", "outputs": {"dev": output}}}})
    project.dbt("build")
    assert "over in_order" in project.compiled("as_of")
    with duckdb.connect(str(project.warehouse), read_only=True) as warehouse:
        wrong, rows = warehouse.execute("""
            select count(*) filter (where a.n_3h <> b.n or a.total_3h is distinct from b.total), count(*)
            from as_of a, lateral (
                select count(*) as n, sum(x) as total from events e
                where e.k = a.k and e.happened_at > a.event_timestamp - interval '3 hours'
                    and e.happened_at <= a.event_timestamp
            ) b""").fetchone()
    assert (wrong, rows) == (0, 200)
