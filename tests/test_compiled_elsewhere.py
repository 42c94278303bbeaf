"""What warehouses that no test can start are given: SQL that is compiled, parsed in their dialect, and holds nothing that they are
known not to have. Nothing here runs it there; some of it is translated by sqlglot and run on DuckDB, which shows what it means.

Databricks takes Spark's macros. Snowflake, BigQuery and Redshift have some of their own, and a sentence in place of what is not written.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import duckdb
import pytest
import sqlglot

from materializer import InputError
from materializer.project.relation import Column, Relation
from materializer.project.render import MacroRenderer, package_folder
from tests.support import golden
from tests.support.spark import type_of

UTC = timezone.utc
EVENTS, SPINE = Relation("events"), Relation("spine")
# The name of something whose columns nobody knows: a CTE, an ephemeral model.
TEXT_SPINE = "labels"
VIEWS = {
    "plain": {"entities": ["user_id"], "timestamp": "happened_at", "ttl": "3 days"},
    "known": {"entities": ["user_id", "shop"], "timestamp": "happened_at", "created_timestamp": "loaded_at"},
    "later": {"entities": ["user_id"], "timestamp": "happened_at", "available_after": "2 weeks"},
}
AGGREGATES = ast.literal_eval(golden.AGGREGATES)
UNPLACED = [aggregate for aggregate in AGGREGATES if aggregate["function"] not in ("first", "last")]
WINDOWED = {
    "relation": EVENTS, "entities": "user_id", "timestamp": "happened_at", "windows": ["1 hour", "7 days", "2 weeks"],
}  # fmt: skip
Calls = Mapping[str, Callable[..., str]]
WINDOWS: Calls = {
    "change": lambda macros, **more: macros.render("window_aggregates", **WINDOWED, **more, grain="change"),
    "change, late": lambda macros, **more: macros.render(
        "window_aggregates", **WINDOWED, **more, grain="change", created_timestamp="loaded_at"
    ),
    "event": lambda macros, **more: macros.render("window_aggregates", **WINDOWED, **more, grain="event", shape="range"),
    "event, late": lambda macros, **more: macros.render(
        "window_aggregates", **WINDOWED, **more, grain="event", created_timestamp="loaded_at"
    ),
    "every, prompt": lambda macros, **more: macros.render("window_aggregates", **WINDOWED, **more, grain="every 1 hour"),
    "every, late": lambda macros, **more: macros.render(
        "window_aggregates", **WINDOWED, **more, grain="every 1 hour", created_timestamp="loaded_at"
    ),
    "as of": lambda macros, **more: macros.render(
        "aggregate_as_of", spine=SPINE, spine_timestamp="asked_at", **WINDOWED, **more
    ),
    "as of, strict": lambda macros, **more: macros.render(
        "aggregate_as_of", spine=SPINE, spine_timestamp="asked_at", allow_exact_matches=False,
        created_timestamp="loaded_at", **WINDOWED, **more,
    ),
    "as of, text": lambda macros, **more: macros.render(
        "aggregate_as_of", spine=TEXT_SPINE, spine_timestamp="asked_at", allow_exact_matches=False, **WINDOWED, **more
    ),
}  # fmt: skip
READS: Calls = {
    "training": lambda macros: macros.render(
        "point_in_time_join", SPINE, ["plain:amount", "plain:marks", "known:label", "later:price"], timestamp="asked_at"
    ),
    "training, strict": lambda macros: macros.render(
        "point_in_time_join", SPINE, ["plain:amount", "known:label"], timestamp="asked_at", allow_exact_matches=False
    ),
    "training, text": lambda macros: macros.render(
        "point_in_time_join", TEXT_SPINE, ["plain:amount", "known:label"], timestamp="asked_at"
    ),
    "latest": lambda macros: macros.render("latest", "known"),
    "latest, later": lambda macros: macros.render("latest", "later", as_of="2026-03-29 12:00:00"),
    **{
        f"{what}, {view}": lambda macros, macro=macro, view=view, now=now: macros.render(
            macro, view, **now, since="2026-03-29 11:00:00", until="2026-03-29 13:00:00"
        )
        for what, macro, now in (
            ("ahead", "_rows_ahead", {}),
            ("unseen", "_unseen", {"as_of": "2026-03-29 12:00:00"}),
        )
        for view in ("plain", "known", "later")
    },
    "freshness": lambda macros: macros.render("feature_freshness", ["plain", "known", "later"]),
    "test of a view": lambda macros: macros.render(
        "_test_feature_view", EVENTS, macros.ask("_feature_view", "known"), "7 days", EVENTS, None, package="shop"
    ),
    "test of freshness": lambda macros: macros.render(
        "_test_feature_freshness", EVENTS, macros.ask("_feature_view", "known"), "7 days", package="shop"
    ),
    "test of NULL": lambda macros: macros.render("test_feature_null_fraction", EVENTS, "amount", 0.5, package="shop"),
}
MONITORING: Calls = {
    "statistics": lambda macros: macros.render("feature_statistics", "plain"),
    "drift": lambda macros: macros.render("feature_drift_measures", "plain"),
    "difference": lambda macros: macros.render("feature_difference", "plain", "plain"),
    "examples": lambda macros: macros.render("feature_difference_examples", "plain", "plain"),
}

# What each engine calls the types of the golden tables (DuckDB's names), as dbt's adapter gives them.
TYPES: Mapping[str, Mapping[str, str]] = {
    "snowflake": {
        "bigint": "NUMBER(38,0)", "integer": "NUMBER(38,0)", "varchar": "VARCHAR(16777216)", "double": "FLOAT", "float": "FLOAT",
        "decimal(12, 3)": "NUMBER(12,3)", "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP_NTZ",
        "timestamptz": "TIMESTAMP_TZ", "integer[]": "ARRAY",
    },
    "bigquery": {
        "bigint": "INT64", "integer": "INT64", "varchar": "STRING", "double": "FLOAT64", "float": "FLOAT64",
        "decimal(12, 3)": "NUMERIC(12, 3)", "boolean": "BOOL", "date": "DATE", "timestamp": "DATETIME",
        "timestamptz": "TIMESTAMP", "integer[]": "ARRAY<INT64>",
    },
    "redshift": {
        "bigint": "bigint", "integer": "integer", "varchar": "character varying(256)", "double": "double precision",
        "float": "real", "decimal(12, 3)": "numeric(12,3)", "boolean": "boolean", "date": "date",
        "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone", "integer[]": "super",
    },
}  # fmt: skip

# What other engines say, and this one does not know by its documentation.
NOWHERE = [
    r"\bfilter \(", r"\bdistinct on\b", r"\bmaterialized\b", r"\basof\b", r"\busing \(", r"\bgenerate_series\b", r"\brange between\b",
    r"\bhugeint\b", r"\bis (not )?distinct from\b", r"//", r"\bcollate\b", r"\bepoch\(", r"\bfull join\b", r"\barray\(",
    r"\bany_value\b", r"\bvalues\b", r"\brow\(", r"\bstring_agg\b", r"\bsignbit\b", r"::",
]  # fmt: skip
FOREIGN: Mapping[str, list[str]] = {
    "snowflake": [
        *NOWHERE, r"\bwindow \w+ as\b", r"\bover \w", r"\bover \(\)", r"\bunnest\b", r"\btimestamp ''", r"\bas timestamp\b", r"`", r"\[",
        r"\bextract\(", r"\bdate_bin\b", r"\bexcept \(", r"\bdouble precision\b",
    ],
    "bigquery": [
        *NOWHERE, r"\bunion\s+select\b", r"\binterval ''", r"\btimestamp ''", r"\bas timestamp\b", r'"', r"\bexclude\b",
        r"\bdouble\b", r"\bdecimal\(", r"\bvarchar\b", r"\b(date|time)_?bin\b", r"\bweek\b", r"\bat time zone\b", r"\bextract\(",
    ],
    "redshift": [
        *NOWHERE, r"\bwindow \w+ as\b", r"\bover \w", r"\bover \(\)", r"\bunnest\b", r"\barray", r"`", r"\[", r"\bexclude\b",
        r"\bpg_typeof\b", r"\bclock_timestamp\b", r"\blateral\b", r"\bdate_bin\b", r"\bcast\([^()]* as (varchar|text)\)", r"\).\*",
        r"\bextract\(",
    ],
    "databricks": [
        r"\b(varchar|double precision|hugeint|numeric|generate_series|array_agg|exclude|epoch|unnest)\b", r"\btimestamp ''",
        r"\)\s*\[1\]", r"row_number\(\) over \(\)",
    ],
}  # fmt: skip

ELSEWHERE = ("snowflake", "bigquery", "redshift")
# What is refused with a sentence, and a part of that.
REFUSED = {
    ("redshift", "every, prompt"): "grain 'every' is not there on redshift",
    ("redshift", "every, late"): "grain 'every' is not there on redshift",
    ("redshift", "as of, text"): "the columns of a spine must be known",
    ("redshift", "training, text"): "the columns of a spine must be known",
} | {
    (adapter, name): f"is not there on {adapter}: its SQL is written for DuckDB, PostgreSQL and Spark alone."
    for adapter in ELSEWHERE
    for name in MONITORING
}


def macros(adapter: str) -> MacroRenderer:
    nodes: dict[str, Any] = {
        f"model.shop.{name}": {
            "resource_type": "model", "name": name, "version": None, "latest_version": None, "description": "",
            "tags": [], "columns": {}, "relation_name": name, "config": {"meta": {"feature_view": meta}},
        }
        for name, meta in VIEWS.items()
    }  # fmt: skip
    # The one macro of dbt's own that the macros call; and the generic tests, whose blocks dbt alone can read.
    given = {("dbt", "type_string"): "{% macro type_string() %}string{% endmacro %}"}
    for name in ("feature_view", "feature_freshness", "feature_drift", "feature_null_fraction"):
        text = (package_folder() / "macros" / "generic_tests" / f"{name}.sql").read_text()
        text = text.replace("{% test ", "{% macro test_").replace("{% endtest %}", "{% endmacro %}")
        given["shop", f"{'' if name == 'feature_null_fraction' else '_'}test_{name}"] = text

    def columns(relation: Relation) -> list[Column]:
        declared = golden.SPINE if str(relation) == "spine" else golden.EVENTS
        if adapter == "duckdb":
            return [Column(name, types[0]) for name, types in declared.items()]
        named = TYPES.get(adapter)
        return [Column(name, named[types[0]] if named else type_of(types[0])) for name, types in declared.items()]

    return MacroRenderer(
        {
            "metadata": {"adapter_type": adapter, "project_name": "shop"},
            "macros": {
                f"macro.{package}.{name}": {"package_name": package, "name": name, "macro_sql": text}
                for (package, name), text in given.items()
            },
            "nodes": nodes,
        },
        columns,
    )  # fmt: skip


def code(sql: str) -> str:
    """Without comments and what stands in literals."""
    return re.sub(r"/\*.*?\*/|--[^\n]*|'[^'\n]*'", lambda found: "''" if found[0][0] == "'" else " ", sql)


def check(sql: str, dialect: str) -> None:
    parsed = sqlglot.parse_one(sql, dialect=dialect, error_level=sqlglot.ErrorLevel.RAISE)
    assert isinstance(parsed, sqlglot.exp.Query)
    assert not list(
        parsed.find_all(sqlglot.exp.Command, sqlglot.exp.Filter if dialect in ELSEWHERE else sqlglot.exp.Command)
    )
    found = {pattern: re.search(pattern, code(sql), re.IGNORECASE) for pattern in FOREIGN[dialect]}
    assert {pattern: match[0] for pattern, match in found.items() if match} == {}


def aggregates_of(adapter: str) -> list[dict[str, str]]:
    """First and last need an aggregate that takes values in an order, NULL among them."""
    return AGGREGATES if adapter in ("bigquery", "databricks") else UNPLACED


@pytest.mark.parametrize("adapter", ELSEWHERE)
@pytest.mark.parametrize("what", [*WINDOWS, *READS, *MONITORING])
def test_it_compiles_to_the_sql_of_the_engine_or_stops_with_a_sentence(what: str, adapter: str) -> None:
    call = WINDOWS.get(what) or READS.get(what) or MONITORING[what]
    arguments = {"aggregates": aggregates_of(adapter)} if what in WINDOWS else {}
    if (adapter, what) in REFUSED:
        with pytest.raises(InputError, match=re.escape(REFUSED[adapter, what])):
            call(macros(adapter), **arguments)
    else:
        check(call(macros(adapter), **arguments), adapter)


@pytest.mark.parametrize("what", [*WINDOWS, *READS, *MONITORING])
def test_databricks_is_given_the_sql_of_spark(what: str) -> None:
    call = WINDOWS.get(what) or READS.get(what) or MONITORING[what]
    arguments = {"aggregates": AGGREGATES} if what in WINDOWS else {}
    sql = call(macros("databricks"), **arguments)
    assert sql == call(macros("spark"), **arguments)
    check(sql, "databricks")
    sqlglot.parse_one(sql, dialect="spark", error_level=sqlglot.ErrorLevel.RAISE)


@pytest.mark.parametrize("adapter", ["snowflake", "redshift"])
@pytest.mark.parametrize("function", ["first", "last"])
def test_first_and_last_are_refused_where_no_aggregate_takes_null_in_an_order(function: str, adapter: str) -> None:
    aggregates = [{"name": "label", "function": function, "expression": "label"}]
    with pytest.raises(InputError, match=f"The function '{function}' of a window is not there on {adapter}"):
        WINDOWS["event"](macros(adapter), aggregates=aggregates)


@pytest.mark.parametrize("adapter", ELSEWHERE)
def test_windows_are_joined_with_their_events_and_no_other_shape_is_there(adapter: str) -> None:
    sql = WINDOWS["change"](macros(adapter), aggregates=UNPLACED)
    assert "-- shape range: " in sql
    assert len(re.findall(r"\b_fs_by_\w+ as \(", sql)) == 1
    with pytest.raises(InputError, match=f"window_aggregates of shape 'dense' is not there on {adapter}"):
        macros(adapter).render("window_aggregates", **WINDOWED, aggregates=UNPLACED, shape="dense")


@pytest.mark.parametrize("adapter", ELSEWHERE)
@pytest.mark.parametrize("what", ["training", "as of", "change", "every, prompt"])
def test_a_row_has_the_same_answer_whichever_number_a_cte_that_is_computed_twice_gives_it(
    what: str, adapter: str
) -> None:
    if (adapter, what) in REFUSED:
        return
    call = WINDOWS.get(what) or READS[what]
    sql = call(macros(adapter), **({"aggregates": UNPLACED} if what in WINDOWS else {}))
    parsed = sqlglot.parse_one(sql, dialect=adapter)
    (number,) = [alias.this for alias in parsed.find_all(sqlglot.exp.Alias) if alias.alias.lower() == "_fs_row" and alias.find(
        sqlglot.exp.RowNumber)]  # fmt: skip
    terms = {column.name for column in number.args["order"].find_all(sqlglot.exp.Column)}
    assert terms == {
        "training": {"user_id", "shop", "asked_at"}, "as of": {"user_id", "asked_at"},
        "change": {"user_id", "_fs_at"}, "every, prompt": {"user_id", "_fs_at"},
    }[what]  # fmt: skip


@pytest.mark.parametrize("adapter", ELSEWHERE)
def test_a_join_key_of_another_kind_is_refused_for_nothing_casts_it(adapter: str) -> None:
    types = TYPES[adapter]

    def joined(given: str) -> str:
        spine = [Column("user_id", types[given]), Column("asked_at", types["timestamp"])]
        known = macros(adapter)
        over = known.over(lambda relation: spine if str(relation) == "spine" else [
            Column(name, types[own[0]]) for name, own in golden.EVENTS.items()
        ])  # fmt: skip
        return over.render("point_in_time_join", SPINE, "plain:amount", timestamp="asked_at")

    check(joined("integer"), adapter)
    check(joined("decimal(12, 3)"), adapter)
    for given in ("varchar", "double", "date", "integer[]"):
        with pytest.raises(InputError, match=f"on {adapter} keys and request fields are not cast, so cast it there"):
            joined(given)


@pytest.mark.parametrize("adapter", ELSEWHERE)
def test_incremental_windows_and_on_demand_features_are_refused(adapter: str) -> None:
    with pytest.raises(InputError, match=f"window_aggregates in an incremental model is not there on {adapter}"):
        macros(adapter).ask(f"{adapter}___check_incremental")
    with pytest.raises(InputError, match=f"An on-demand feature in a training set is not there on {adapter}"):
        macros(adapter).ask("_on_demand_sql", {"parts": [{"column": None, "type": None, "text": "1"}]})


@pytest.mark.parametrize("adapter", ELSEWHERE)
def test_the_generic_test_of_drift_is_refused_by_its_name(adapter: str) -> None:
    known = macros(adapter)
    view = known.ask("_feature_view", "plain")
    with pytest.raises(InputError, match=f"The test 'feature_drift' is not there on {adapter}"):
        known.render("_test_feature_drift", EVENTS, view, "amount", None, "7 days", 100, "psi", package="shop")


# What sqlglot does not translate, in DuckDB's words.
ON_DUCKDB = """
create macro json_serialize(value) as cast(value as varchar);
create macro ieee_divide(number, other) as cast(number as double) / other;
create macro current_datetime(zone) as timezone(zone, now());
create macro getdate() as timezone('UTC', now());
"""
# The columns that name a row of what a call gives.
KEYS = {
    "training": ["no"], "training, strict": ["no"], "as of, strict": ["no"], "change, late": ["user_id", "event_timestamp"],
    "every, late": ["user_id", "event_timestamp"], "latest": ["user_id", "shop"],
    "ahead, known": ["user_id", "shop", "happened_at", "loaded_at", "_fs_visible"],
}  # fmt: skip
# DuckDB knows no FLATTEN. Windows take seconds each.
TRANSLATED = [
    pytest.param(adapter, what, marks=[pytest.mark.soak] if what in WINDOWS or what == "as of, strict" else [])
    for adapter in ELSEWHERE for what in KEYS
    if (adapter, what) not in {*REFUSED, ("snowflake", "every, late")}
]  # fmt: skip


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """The golden tables, under the names that the calls read them by."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(ON_DUCKDB)
        events, spine = golden.rows(100, seed=11)
        for table, columns, rows in (("events", golden.EVENTS, events), ("spine", golden.SPINE, spine)):
            connection.execute(
                f"create table {table} ({', '.join(f'{name} {types[0]}' for name, types in columns.items())})"
            )
            places = ", ".join("?" * len(columns))
            connection.executemany(
                f"insert into {table} values ({places})", [[row[name] for name in columns] for row in rows]
            )
        for view in VIEWS:
            connection.execute(f"create view {view} as select * from events")
        yield connection


def rows_of(connection: duckdb.DuckDBPyConnection, sql: str, keys: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    found = connection.execute(sql)
    names = [column[0] for column in found.description or []]
    rows = [{name: in_utc(value) for name, value in zip(names, row, strict=True)} for row in found.fetchall()]
    by_key = {tuple(row[key] for key in keys): row for row in rows}
    assert len(by_key) == len(rows)
    return by_key


def in_utc(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value


@pytest.mark.parametrize(("adapter", "what"), TRANSLATED)
def test_translated_to_duckdb_it_gives_the_rows_of_duckdb(
    adapter: str, what: str, duck: duckdb.DuckDBPyConnection
) -> None:
    """But for the sign of a zero, and the last digits of doubles that are added up in any order."""
    call = WINDOWS.get(what) or READS[what]
    arguments = {"aggregates": aggregates_of(adapter)} if what in WINDOWS else {}
    # In a list of one DuckDB needs no limit, and knows none.
    given = call(macros(adapter), **arguments).replace("limit 1\n        )[safe_offset(0)]", ")[safe_offset(0)]")
    theirs = rows_of(duck, sqlglot.transpile(given, read=adapter, write="duckdb")[0], KEYS[what])
    ours = rows_of(duck, call(macros("duckdb"), **arguments), KEYS[what])
    assert len(ours) >= 20
    assert theirs.keys() == ours.keys()
    differing = [
        (key, name, row[name], theirs[key][name])
        for key, row in ours.items()
        for name in row
        if not (close(row[name], theirs[key][name]) if isinstance(row[name], float) else row[name] == theirs[key][name])
    ]
    assert differing == []


def close(one: Any, other: Any) -> bool:
    if not isinstance(one, float) or not isinstance(other, float):
        return False
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-7)
