"""What stands beside the columns of a window macro: exact for a tool, whatever the shape and whatever the user wrote."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

from materializer.project.render import Relation
from tests.support.rendered import Views

WINDOW = re.compile(
    r"(?P<what>.*) over (?P<window>\d+ \w+)(?: (?P<to>up to|before) (?P<at>\"(?:[^\"]|\"\")*\"))?"
    r"(?:, known from (?P<known>\"(?:[^\"]|\"\")*\"))?",
    re.DOTALL,
)
# name: (function, expression, where, what is said of it where that is not `function(expression) filter (where where)`)
AGGREGATES: dict[str, tuple[str, str | None, str | None, str | None]] = {
    "purchases": ("count", None, None, "count(*)"),
    "returns": ("count", None, "kind = 'return'", "count(*) filter (where kind = 'return')"),
    "kinds": ("count_distinct", "kind", None, None),
    "total": ("sum", "amount", "kind <> '*/ drop table events; /* -- \\ /*/ {{ kind }} {# x #}'", None),
    "mean": ("avg", "price * whole", None, None),
    "least": ("min", "case\n  when kind = 'it''s\n\n' or kind = $$ over 7 days */ $$ then amount end", None, None),
    "spread": ("stddev", "amount", None, None),
    "squared": ("variance", "whole", "kind = '\\*\\/'", None),
    "opening": ("first", '"we*/ird"', 'kind not like \'/*%\' and "a ""b"" over 1 hour" = \'x\'', None),
    "closing": ("last", "amount", "whole > 1 -- more */ than one", "last(amount) filter (where whole > 1)"),
    "most": ("max", "(select max(one) filter (where one > 0) from (values (whole), (2)) as pair (one))", None, None),
}
WINDOWS = {"7d": "7 days", "1h": "1 hour"}


def aggregates() -> list[dict[str, str]]:
    given = [
        {"name": name, "function": function, "expression": expression, "where": where}
        for name, (function, expression, where, _) in AGGREGATES.items()
    ]
    return [{key: value for key, value in one.items() if value is not None} for one in given]


def said_of(name: str) -> str:
    function, expression, where, said = AGGREGATES[name]
    return said or f"{function}({expression})" + (f" filter (where {where})" if where else "")


@pytest.fixture(scope="module")
def events() -> Views:
    views = Views()
    views.connection.execute(
        'create table events as select 1::bigint as user_id, 2::bigint as item_id, now() as happened_at, now() as "loaded */ at",'
        " 'a' as kind, 3::bigint as whole, 0.5::double as amount, 1.25::decimal(10, 2) as price, 'x' as \"we*/ird\","
        ' \'x\' as "a ""b"" over 1 hour";'
        'create table labels as select 1::bigint as user_id, 2::bigint as item_id, now() as "asked /* ""at", true as bought'
    )
    return views


def table(name: str) -> Relation:
    return Relation(f'"memory"."main"."{name}"')


def view(events: Views, grain: Any, shape: str, created: str | None) -> str:
    return events.sql(
        "window_aggregates", table("events"), ["user_id", "item_id"], "happened_at", aggregates(), list(WINDOWS.values()),
        grain=grain, shape=shape, created_timestamp=created,
    )  # fmt: skip


def as_of(events: Views, exact: bool, shape: str, created: str | None) -> str:
    return events.sql(
        "aggregate_as_of", table("labels"), table("events"), ["user_id", "item_id"], "happened_at", aggregates(),
        list(WINDOWS.values()), 'asked /* "at', allow_exact_matches=exact, shape=shape, created_timestamp=created,
    )  # fmt: skip


SHAPES = list(itertools.product(("dense", "range"), (None, "loaded */ at")))
# What a grain and an exact match say is the same in every shape.
CASES = [
    *((view, "change", *shape) for shape in SHAPES),
    (view, "event", "dense", None),
    (view, {"every": "1 hour"}, "range", None),
]
CASES += [*((as_of, True, *shape) for shape in SHAPES), (as_of, False, "dense", "loaded */ at")]


@cache
def parsed(sql: str) -> exp.Expression:
    """Three tests read the SQL of a case. Do not change it: take a copy."""
    return sqlglot.parse_one(sql, dialect="duckdb")


def read(comment: str) -> str:
    return re.sub(r"\\(.)", r"\1", comment.strip(), flags=re.DOTALL)


def comments(tree: exp.Expression) -> dict[str, str]:
    """The comment on the alias of each column of the last SELECT that has one."""
    found = {}
    for column in tree.selects:
        assert not (column.comments or []) or isinstance(column, exp.Alias)
        for comment in column.comments or []:
            assert column.alias not in found
            found[column.alias] = read(comment)
    return found


@pytest.mark.parametrize(("macro", "moments", "shape", "created"), CASES)
def test_each_column_says_what_it_is(macro: Any, moments: Any, shape: str, created: str | None, events: Views) -> None:
    sql = macro(events, moments, shape, created)
    found = comments(parsed(sql))
    moment = found.pop("event_timestamp", None)
    assert moment == (
        None if macro is as_of else f"a row at each {moments}" if isinstance(moments, str) else "a row every 1 hour"
    )
    assert set(found) == {f"{name}_{slug}" for name in AGGREGATES for slug in WINDOWS}
    for name, (slug, window) in itertools.product(AGGREGATES, WINDOWS.items()):
        parts = WINDOW.fullmatch(found[f"{name}_{slug}"])
        assert parts is not None, found[f"{name}_{slug}"]
        assert (parts["what"].replace("  ", " ") if name == "closing" else parts["what"]) == said_of(name)
        assert parts["window"] == window
        assert parts["known"] == (None if created is None else '"loaded */ at"')
        assert (parts["to"], parts["at"]) == (
            (None, None) if macro is view else ("up to" if moments else "before", '"asked /* ""at"')
        )
        said = sqlglot.parse_one(parts["what"], dialect="duckdb")
        assert isinstance(said, exp.Filter) == (AGGREGATES[name][2] is not None)

    # no text got out of its comment, and the rest is what the warehouse takes
    row = events.connection.sql(sql).to_arrow_table().to_pylist()
    assert row
    assert {f"{name}_{slug}" for name in AGGREGATES for slug in WINDOWS} < set(row[0])
    assert row[0]["purchases_7d"] in (0, 1)


@pytest.mark.parametrize(("macro", "moments", "shape", "created"), CASES)
def test_the_comments_stay_with_their_columns_when_the_names_are_resolved(
    macro: Any, moments: Any, shape: str, created: str | None, events: Views
) -> None:
    tables = {
        name: {row[0]: row[1] for row in events.connection.execute(f"describe {name}").fetchall()}
        for name in ("events", "labels")
    }
    sql = macro(events, moments, shape, created)
    written = comments(parsed(sql))
    # alone, and as the query that another reads
    outside = sqlglot.parse_one(f"select * from (\n{sql}\n) as made", dialect="duckdb")
    for tree in (parsed(sql).copy(), outside):
        qualified = qualify(tree, dialect="duckdb", schema={"memory": {"main": tables}})
        assert comments(qualified if tree is not outside else qualified.find(exp.Subquery).this) == written


@pytest.mark.parametrize(("macro", "moments", "shape", "created"), CASES)
def test_what_the_columns_are_made_from_is_in_the_first_select_of_the_events(
    macro: Any, moments: Any, shape: str, created: str | None, events: Views
) -> None:
    tree = parsed(macro(events, moments, shape, created))
    parts = {part.alias: part.this for part in tree.ctes}
    first = parts.get("_fs_source", parts["_fs_events"])
    assert first.args["from_"].this == exp.to_table('"memory"."main"."events"', dialect="duckdb")
    made = {column.alias_or_name: column for column in first.selects}
    assert [name for name in made if not name.startswith("_fs_")] == ["user_id", "item_id"]
    assert {column.name for column in made["_fs_event"].find_all(exp.Column)} == {"happened_at"}
    if created:
        assert {column.name for column in made["_fs_from"].find_all(exp.Column)} == {"happened_at", created}
    carried = [column.unalias() for column in first.selects]
    for one in aggregates():
        if "where" not in one and "expression" in one:
            wanted = sqlglot.parse_one(one["expression"], dialect="duckdb")
            assert any(wanted in column.walk() for column in carried), one
