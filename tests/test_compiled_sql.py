"""Compiled SQL is a product: it depends on the project alone, whatever its tables hold, and people can read it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.support.dbt import PACKAGE, DbtProject, copy_of, make_project
from tests.support.example import compiled_example

AGGREGATES: list[dict[str, str]] = [
    {"name": "rows", "function": "count"},
    {"name": "returns", "function": "count", "where": "kind = 'return'"},
    {"name": "kinds", "function": "count_distinct", "expression": "kind"},
    {"name": "units", "function": "sum", "expression": "whole"},
    {"name": "huge", "function": "sum", "expression": "cast(whole as hugeint)"},
    {"name": "spent", "function": "sum", "expression": "amount", "where": "kind <> 'return'"},
    {"name": "price", "function": "avg", "expression": "price"},
    {"name": "least", "function": "min", "expression": "amount"},
    {"name": "most", "function": "max", "expression": "kind"},
    {"name": "opening", "function": "first", "expression": "amount"},
    {"name": "closing", "function": "last", "expression": "kind", "where": "whole > 1"},
]
SPREADS: list[dict[str, str]] = [
    {"name": "spread", "function": "stddev", "expression": "amount"},
    {"name": "squared", "function": "variance", "expression": "price"},
]
INCREMENTAL = "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'event_timestamp']) }}\n"
SHAPES = {"default": "none", "range": "'range'"}
KNOWN = {"prompt": "none", "late": "'loaded_at'"}


def _models() -> dict[str, str]:
    events = "ref('events'), 'user_id', 'happened_at', "
    models = {
        "events": "{{ config(materialized='table') }} select * from {{ source('raw', 'raw_events') }}",
        "labels": "select * from {{ source('raw', 'raw_labels') }}",
    }
    for (shape, shape_), (known, known_) in itertools.product(SHAPES.items(), KNOWN.items()):
        rest = f"created_timestamp={known_}, shape={shape_}"
        for grain in ("change", "event", "every 6 hours"):
            # without a spread, views of the first two are frames on one time line
            aggregates = AGGREGATES if grain in ("change", "event") else [*AGGREGATES, *SPREADS]
            call = f"window_aggregates({events}{{}}, ['2 days', '12 hours'], '{grain}', {rest})"
            name = f"{grain.split()[0]}_{shape}_{known}"
            models[name] = f"{{{{ feature_store.{call.format(aggregates)} }}}}"
            if shape == "default":
                models[f"{name}_grows"] = f"{INCREMENTAL}{{{{ feature_store.{call.format(AGGREGATES[:3])} }}}}"
        for exact in ("true", "false"):
            models[f"as_of_{exact}_{shape}_{known}"] = (
                f"{{{{ feature_store.aggregate_as_of(ref('labels'), {events}{AGGREGATES + SPREADS}, ['2 days', '12 hours'],"
                f" allow_exact_matches={exact}, {rest}) }}}}"
            )
    models |= {
        "from_text": (
            "{{ feature_store.window_aggregates('(select * from ' ~ ref('events') ~ ')', 'user_id', 'happened_at', "
            f"{AGGREGATES}, '2 days', 'event') }}}}"
        ),
        "newest": "{{ feature_store.latest('change_default_late') }}",
        "trained": (
            "{{ feature_store.point_in_time_join(ref('labels'),"
            " ['change_default_late:rows_2d', 'known_view:amount', 'known_view:kind']) }}"
        ),
        "measured": "{{ feature_store.feature_statistics('change_default_late') }}",
        "known_view": "select user_id, happened_at as event_timestamp, loaded_at, amount, kind from {{ ref('events') }}",
    }
    return models


def _shop(folder: Path) -> DbtProject:
    view = {
        "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
        "data_tests": ["feature_store.feature_view"],
    }
    known = {"entities": ["user_id"], "created_timestamp": "loaded_at", "ttl": "30 days"}
    project = make_project(
        folder / "shop",
        {
            "models/sources.yml": {
                "sources": [
                    {"name": "raw", "schema": "main", "tables": [{"name": "raw_events"}, {"name": "raw_labels"}]}
                ]
            },
            "models/views.yml": {
                "models": [
                    {"name": "change_default_late", **view},
                    {"name": "known_view", "config": {"meta": {"feature_view": known}}},
                ]
            },
            **{f"models/{name}.sql": sql for name, sql in _models().items()},
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table raw_events (user_id bigint, happened_at timestamptz, loaded_at timestamptz, kind varchar, whole integer,"
            " amount double, price decimal(10, 2)); create table raw_labels (user_id bigint, event_timestamp timestamptz, bought boolean);"
            "insert into raw_events select i, timestamptz '2026-01-01' + to_hours(cast(i as integer)), timestamptz '2026-01-03',"
            " 'sale', i, i / 10, i from range(30) numbers (i);"
            "insert into raw_labels select i, timestamptz '2026-01-02', true from range(30) numbers (i)"
        )
    project.dbt("run", "--select", "+config.materialized:incremental", "known_view", "labels", "change_default_late")
    return project


def _example(folder: Path) -> DbtProject:
    project = copy_of(compiled_example(), folder / "example")
    subprocess.run(
        [sys.executable, "shop_data.py", "--users", "20", "--days", "40"],
        cwd=project.folder,
        check=True,
        capture_output=True,
    )
    project.dbt("run")
    return project


@pytest.fixture(scope="module", params=[_shop, _example])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return request.param(tmp_path_factory.mktemp("compiled"))


def _compiled(project: DbtProject, *options: str) -> dict[str, str]:
    """What dbt compiles, models and tests, by their files."""
    folder = project.folder / "target" / "compiled"
    shutil.rmtree(folder, ignore_errors=True)
    project.dbt("compile", *options)
    return {str(path.relative_to(folder)): path.read_bytes().decode() for path in sorted(folder.rglob("*.sql"))}


def _change(project: DbtProject, statement: str) -> int:
    """Changes the rows of every table and file of the project by SQL; gives how many rows there are then."""
    (warehouse,) = project.folder.glob("*.duckdb")
    rows = 0
    with duckdb.connect(str(warehouse)) as connection:
        tables = connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables() where not temporary"
        ).fetchall()
        for (table,) in tables:
            connection.execute(f"create or replace table {table} as {statement.format(table)}")
            rows += connection.execute(f"select count(*) from {table}").fetchone()[0]
        for file in (project.folder / "raw").glob("*.parquet"):
            connection.execute(f"create or replace temp table held as {statement.format(repr(str(file)))}")
            connection.execute(f"copy held to '{file}' (format parquet)")
    return rows


@pytest.fixture(scope="module")
def compiled(project: DbtProject) -> dict[str, str]:
    """What dbt compiles over the tables as they were built."""
    return _compiled(project)


def test_it_is_the_same_whatever_the_tables_hold(project: DbtProject, compiled: dict[str, str]) -> None:
    assert len(compiled) > 15
    # the test looks at incremental runs, too
    growing = {name for name in compiled if name.endswith("_grows.sql")}
    again = ("--full-refresh", "--select", "config.materialized:incremental")
    full = _compiled(project, *again) if growing else {}
    assert full.keys() >= growing and not [name for name in growing if full[name] == compiled[name]]
    assert len(growing) == (6 if project.folder.name == "shop" else 0)
    assert _change(project, "select held.* from {} as held, range(100) as times") > 1000
    assert not growing or _compiled(project, *again) == full
    assert _change(project, "select * from {} limit 0") == 0
    assert _compiled(project) == compiled


def test_people_can_read_it(compiled: dict[str, str]) -> None:
    # what people wrote is as long as they made it
    texts = {name: re.sub(r"'(''|[^'\n])*'", "''", sql) for name, sql in compiled.items()}
    assert not [(name, line) for name, sql in texts.items() for line in sql.splitlines() if len(line) > 140]
    # what is carried along is called after what it holds, not numbered
    assert not [name for name, sql in compiled.items() if re.search(r"_fs_\d+\b", sql)]


@pytest.mark.parametrize("file", sorted((PACKAGE / "macros").rglob("*.sql")), ids=lambda file: file.stem)
def test_a_macro_can_be_read_too(file: Path) -> None:
    assert not [line for line in file.read_text().splitlines() if len(line) > 140]


# What differs from engine to engine: names of types, literals of moments, what stands beside an aggregate.
_TYPES = (
    "bigint|blob|bool|boolean|bytea|date|datetime|decimal|double|enum|float|float64|hugeint|int|int64|integer|interval|json|jsonb|"
    "number|numeric|real|smallint|string|text|time|timestamp|timestamp_ntz|timestamptz|tinyint|uhugeint|uuid|varchar"
)
_OF_AN_ENGINE = re.compile(
    rf"cast\((?:[^()]|\([^()]*\))*\bas ({_TYPES})\b|\bas ({_TYPES})\s*(\([0-9, ]*\)\s*)?\)|::\s*\w+"
    r"|\bdouble precision\b|\b(timestamp|datetime)(_ntz|tz)? '(?!infinity)|filter \(where|(array|string)_agg\(|\b(sum|listagg)\([^{}()]* order by"
)


def _what_only_one_engine_says(macro: str) -> list[str]:
    """Such words of a macro's file, but for what stands in comments, Jinja's or SQL's, and in messages."""
    code = re.sub(r"{#.*?#}", "", macro, flags=re.DOTALL)
    code = re.sub(r"(?m)(^|\s)-- .*$", "", code)
    code = code.replace("' filter (where ' ~ aggregate.where", "")  # what the comment of a column says
    code = re.sub(r"(raise_compiler_error|_literal)\((.|\n)*?\)\s*-?(%}|}})", "", code)
    return [found.group(0) for found in _OF_AN_ENGINE.finditer(code)]


@pytest.mark.parametrize(
    "macro",
    [
        "cast(x as bigint)",
        "{{ 'cast(' ~ x ~ ' as varchar(20))' }}",
        "cast(\n    sum(x) as double precision\n)",
        "x > timestamp '2026-01-01'",
        "sum(x) filter (where y)",
        "x::date",
    ],
)
def test_words_of_one_engine_are_noticed(macro: str) -> None:
    assert _what_only_one_engine_says(macro)
    assert not _what_only_one_engine_says("{#-- " + macro + " --#}\n-- " + macro.replace("\n", " ") + "\nselect 1 as n")


@pytest.mark.parametrize(
    "file",
    sorted(file for file in (PACKAGE / "macros").rglob("*.sql") if file.parent.name != "cross_db"),
    ids=lambda file: file.stem,
)
def test_only_cross_db_says_what_engines_say_differently(file: Path) -> None:
    assert _what_only_one_engine_says(file.read_text()) == []
