"""How far back a streamed view reads is read from its SQL: never less far than its rows depend on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from materializer.project.graph import Graph
from materializer.sql.reach import reach
from materializer.sql.reader import Reader
from tests.support.dbt import make_project

WINDOWS = (
    "{{ feature_store.window_aggregates(source('raw', '%s'), 'user_id', 'bought', "
    "[{'name': 'n', 'function': 'count'}, {'name': 'total', 'function': 'sum', 'expression': 'amount'}], "
    "['1 hour', '7 days'], created_timestamp='loaded'%s) }}"
)
BOUNDED = "\"bought\" >= timestamp '2026-01-01' at time zone 'UTC'"
OF = "select user_id, event_timestamp, n_7d from {{ ref('windows') }}"
USERS = "{{ source('raw', 'users') }}"
# A view over the windows, and how far it reaches back: as far as they do, or nobody knows.
CASES = {
    "a select": (OF, True),
    "a filter": (f"{OF} where n_7d > 3", True),
    "a part of it": (f"with rows as ({OF}) select user_id, event_timestamp, n_7d + 1 as n from rows", True),
    "a table beside it": (f"select w.user_id, w.event_timestamp, u.age from ({OF}) as w join {USERS} as u on u.user_id = w.user_id", True),
    "a table beside it, or none": (f"select w.user_id, w.event_timestamp, u.age from ({OF}) as w left join {USERS} as u on u.user_id = w.user_id", True),
    "beside a table": (f"select w.user_id, w.event_timestamp, u.age from {USERS} as u join ({OF}) as w on u.user_id = w.user_id", True),
    "rows of a table too": (f"select user_id, event_timestamp, n_7d from ({OF}) union all select user_id, joined, 0 from {USERS}", True),
    "beside a table, or none": (f"select u.user_id, w.event_timestamp, u.age from {USERS} as u left join ({OF}) as w on u.user_id = w.user_id", False),
    "all of both": (f"select w.user_id, w.event_timestamp, u.age from ({OF}) as w full join {USERS} as u on u.user_id = w.user_id", False),
    "another moment": ("select user_id, event_timestamp + interval 1 day as event_timestamp, n_7d from {{ ref('windows') }}", False),
    "a table's moment": (f"select w.user_id, u.joined as event_timestamp, w.n_7d from ({OF}) as w join {USERS} as u on u.user_id = w.user_id", False),
    "the row before": ("select user_id, event_timestamp, lag(n_7d) over (partition by user_id order by event_timestamp) as n from {{ ref('windows') }}", False),
    "a group": ("select user_id, max(event_timestamp) as event_timestamp, max(n_7d) as n from {{ ref('windows') }} group by user_id", False),
    "distinct rows": ("select distinct user_id, event_timestamp, n_7d from {{ ref('windows') }}", False),
    "one of a user's": (f"{OF} qualify row_number() over (partition by user_id order by event_timestamp desc) = 1", False),
    "the same twice": (f"select a.user_id, a.event_timestamp from ({OF}) as a join ({OF}) as b on a.user_id = b.user_id", False),
    "where there are others": (f"{OF} where user_id in (select user_id from {{{{ source('raw', 'purchases') }}}})", False),
    "events without a window": ("select user_id, bought as event_timestamp, amount from {{ source('raw', 'purchases') }}", False),
    "rows at each event": (WINDOWS % ("purchases", ", grain='event'"), False),
}  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    models = {f"m{number}": sql for number, (sql, _) in enumerate(CASES.values())}
    columns = {
        "purchases": {
            "user_id": "bigint",
            "amount": "double",
            "bought": "timestamp",
            "loaded": "timestamp",
        },
        "zoned": {
            "user_id": "bigint",
            "amount": "double",
            "bought": "timestamptz",
            "loaded": "timestamptz",
        },
        "users": {"user_id": "bigint", "age": "bigint", "joined": "timestamp"},
    }
    tables: list[dict[str, Any]] = [
        {"name": name, "columns": [{"name": column, "data_type": dtype} for column, dtype in typed.items()]}
        for name, typed in columns.items()
    ]
    folder: Path = tmp_path_factory.mktemp("reach")
    project = make_project(folder / "shop", {
        "models/sources.yml": {"sources": [{"name": "raw", "schema": "main", "tables": tables}]},
        "models/windows.sql": WINDOWS % ("purchases", ""),
        "models/zoned_windows.sql": WINDOWS % ("zoned", ""),
        **{f"models/{name}.sql": sql for name, sql in models.items()},
    })  # fmt: skip
    import duckdb

    with duckdb.connect(str(project.warehouse)) as connection:
        for name, typed in columns.items():
            connection.execute(
                f"create table {name} ({', '.join(f'{column} {dtype}' for column, dtype in typed.items())})"
            )
    project.dbt("compile")
    return Reader(Graph(project.manifest()))


@pytest.mark.parametrize("name", CASES)
def test_a_view_reaches_as_far_back_as_its_windows_where_each_row_is_one_of_theirs(reader: Reader, name: str) -> None:
    found = reach(
        reader,
        f"model.shop.m{list(CASES).index(name)}",
        "event_timestamp",
        {"source.shop.raw.purchases": {}},
        "timestamp '2026-01-01'",
        "_fs_at >= timestamp '2026-01-08'",
    )
    assert (found is not None) == CASES[name][1]
    if found is not None:
        assert found.longest == timedelta(days=7)
        assert next(iter(found.models)) == "model.shop.windows"
        assert "_fs_event >= timestamp '2026-01-01'" in found.models["model.shop.windows"]
        assert "_fs_at >= timestamp '2026-01-08'" in found.models["model.shop.windows"]


def test_of_a_moment_with_a_zone_the_column_itself_is_bounded_too(reader: Reader) -> None:
    def of(model: str, source: str) -> str:
        unique_id, streamed = f"model.shop.{model}", {f"source.shop.raw.{source}": {}}
        found = reach(reader, unique_id, "event_timestamp", streamed, "timestamp '2026-01-01'", "true")
        assert found is not None
        return found.models[unique_id]

    whole, _, rest = of("zoned_windows", "zoned").partition("-- those that are in a window by now")
    assert f"and {BOUNDED}\n),\n" in whole
    assert "_fs_event >= timestamp '2026-01-01'" in rest
    assert BOUNDED not in of("windows", "purchases"), "without a zone the moment is the column"
