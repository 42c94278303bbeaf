"""What a diff takes for the same SQL is the same: random queries, written in two ways and changed at random.

DuckDB is the oracle. A query written otherwise (layout, case, names of CTEs and aliases, order of CTEs, parentheses,
qualifiers, sides of an equality) must count as unchanged; one that counts as unchanged must give the same rows.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import duckdb
import pytest

from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.sql.meaning import Query, UnreadableError
from materializer.sql.reader import Reader
from materializer.sql.signature import Followed, query_of
from tests.support.hand_made import manifest_of
from tests.support.pairs import DIFFERENT, DIFFERENT_QUERIES, MODELS, SALES, SAME, SAME_QUERIES, SOURCES
from tests.support.rendered import Views

ROUNDS = [40, pytest.param(120, marks=pytest.mark.soak)]


def read(sql: str, sources: dict[str, list[str]] = SOURCES) -> Query:
    reader = Reader(Graph(manifest_of((MODELS | SALES if sources is SOURCES else {}) | {"read": sql}, sources)))
    return query_of(reader.node("model.shop.read"), Followed(reader).query)


def same(old: Query, new: Query) -> bool:
    """As lint and diff judge it: the rows, and each column over them."""
    columns = [[column.exact for column in query.columns.values()] for query in (old, new)]
    return old.rows == new.rows and columns[0] == columns[1]


@pytest.mark.parametrize(("one", "two"), [*SAME_QUERIES, *SAME.values()])
def test_these_say_the_same(one: str, two: str) -> None:
    assert same(read(one), read(two))


@pytest.mark.parametrize(("one", "two"), [*DIFFERENT_QUERIES, *DIFFERENT.values()])
def test_these_do_not_say_the_same(one: str, two: str) -> None:
    assert same(read(one), read(one)) and not same(read(one), read(two))


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select (", "Required keyword|Expecting|expected"),
        ("select * from {t.events} pivot (sum(v) for k in (1, 2))", "PIVOT is not followed"),
        ("select columns('v.*') from {t.events}", r"COLUMNS\(...\) is not followed"),
        ("create table t as select 1", "is not a SELECT"),
        (
            "select e.k from {t.events} e join {t.users} u join {t.users} w on u.k = w.x on e.k = u.k",
            "a JOIN within a JOIN is not followed",
        ),
    ],
)
def test_what_is_not_followed_is_said(sql: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read(sql)


def test_columns_of_an_unknown_relation_are_followed_by_name() -> None:
    one, two = (read(f"select upper(name) as name, other from {{t.raw}}{alias}") for alias in ("", " as r"))
    assert same(one, two)
    raw = "source.shop.t.raw"
    assert [sorted(column.reads) for column in one.columns.values()] == [[(raw, "name")], [(raw, "other")]]
    assert read("select * from {t.raw}").unseen == (raw,)


# Random queries: a list of stages, each a SELECT over tables or earlier stages with columns k, a, b.


def draw(chance: random.Random) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [
        {"kind": "table", "table": "events", "columns": ("k", "v", "w")},
        {"kind": "table", "table": "users", "columns": ("k", "x", "y")},
    ]
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(
            ["project", "project", "filter", "join", "group", "window", "union", "distinct", "exists", "limit"]
        )
        stages.append(
            {
                "kind": kind,
                "from": max(chance.randrange(len(stages)), chance.randrange(len(stages))),
                "other": chance.randrange(len(stages)),
                "join": chance.choice(["join", "left join", "full join", "right join"]),
                "a": expression(chance),
                "b": expression(chance),
                "where": condition(chance),
                "on": chance.choice(["k", "k, a", "a, b"]),
                "aggregate": chance.choice(["sum", "min", "count", "max"]),
                "by": chance.choice(["k", "a"]),
                "n": chance.randint(1, 5),
                "all": chance.random() < 0.7,
            }
        )
    return stages


def expression(chance: random.Random, depth: int = 0) -> tuple[Any, ...]:
    if depth > 1 or chance.random() < 0.4:
        return chance.choice([("column", "a"), ("column", "b"), ("column", "k"), ("number", 1), ("number", 2)])
    kind = chance.choice(["+", "-", "*", "coalesce", "case"])
    return (kind, expression(chance, depth + 1), expression(chance, depth + 1))


def condition(chance: random.Random, depth: int = 0) -> tuple[Any, ...]:
    if depth < 1 and chance.random() < 0.4:
        return (chance.choice(["and", "or"]), condition(chance, 1), condition(chance, 1))
    kind = chance.choice(["=", "<", ">", "<=", "<>", "is null"])
    return (kind, expression(chance, 1), expression(chance, 1))


# What a kind of stage depends on, beside the stage it reads.
USED = {
    "project": ["a", "b"], "filter": ["where"], "join": ["other", "join", "on", "a"], "group": ["aggregate", "by", "a"],
    "window": ["by", "a", "b"], "union": ["other", "all"], "distinct": ["a"], "exists": ["other"], "limit": ["n"],
}  # fmt: skip


def changed(stages: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """Another query that is near to this one, and may mean the same by accident."""
    stages = copy.deepcopy(stages)
    place = len(stages) - 1 if chance.random() < 0.6 else chance.randrange(2, len(stages))
    others = [one for one in draw(chance)[2:] if one["kind"] == stages[place]["kind"]]
    name = chance.choice(["kind", "from", *USED[stages[place]["kind"]] * 2])
    other = chance.choice(others) if others else draw(chance)[-1]
    stages[place][name] = min(other[name], place - 1) if name in ("from", "other") else other[name]
    return stages


class Writer:
    """Writes stages as SQL, in a hand of its own."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def sql(self, stages: list[dict[str, Any]]) -> str:
        names = [f"{self.chance.choice(['step', 'part', 'x_'])}{self.chance.randrange(10**6)}" for _ in stages]
        ctes = [f"{names[i]} as ({self.comment()}{self.stage(stage, names)})" for i, stage in enumerate(stages)]
        if self.chance.random() < 0.5:
            ctes[0], ctes[1] = ctes[1], ctes[0]
        text = f"with {(',' + self.space()).join(ctes)} {self.word('select')} * {self.word('from')} {names[-1]}"
        return text + (" order by 1" if self.chance.random() < 0.3 else "")

    def stage(self, stage: dict[str, Any], names: list[str]) -> str:
        select, from_ = self.word("select"), self.word("from")
        if stage["kind"] == "table":
            columns = ", ".join(f"{one} as {new}" for one, new in zip(stage["columns"], "kab", strict=True))
            return f"{select} {columns} {from_} {{t.{stage['table']}}}"
        one, two = names[stage["from"]], names[stage["other"]]
        alias = self.chance.choice(["t", "source", one])
        source = one if alias == one else f"{one} as {alias}"
        before = alias if self.chance.random() < 0.5 else None
        a, b, where = (self.value(stage[name], before) for name in ("a", "b", "where"))
        k = self.column("k", before)
        match stage["kind"]:
            case "project":
                return f"{select} {k}, {a} as a, {b} as b {from_} {source}"
            case "filter":
                return f"{select} * {from_} {source} {self.word('where')} {where}"
            case "distinct":
                return f"{select} distinct {k}, {a} as a, 1 as b {from_} {source}"
            case "limit":
                return f"{select} * {from_} {source} order by k, a, b limit {stage['n']}"
            case "group":
                by = self.column(stage["by"], before)
                value = f"{stage['aggregate']}({a})"
                grouped = self.chance.choice([by, "1"])
                return f"{select} {by} as k, {value} as a, count(*) as b {from_} {source} group by {grouped}"
            case "window":
                by = self.column(stage["by"], before)
                over = f"(partition by {by} order by {k}, {self.column('a', before)}, {self.column('b', before)})"
                return f"{select} {k}, sum({a}) over {over} as a, {b} as b {from_} {source}"
            case "union":
                all_ = "all " if stage["all"] else ""
                return f"{select} k, a, b {from_} {one} union {all_}{select} k, b, a {from_} {two}"
            case "exists":
                test = f"exists (select 1 {from_} {two} as inside where {self.equal('inside.a', f'{alias}.a')})"
                return f"{select} {alias}.k, {alias}.a, case when {test} then 1 else 0 end as b {from_} {source}"
        left, right = self.chance.sample(["l", "r", "first_one", "second_one"], 2)
        on = " and ".join(self.equal(f"{left}.{name}", f"{right}.{name}") for name in stage["on"].split(", "))
        a = self.value(stage["a"], right)
        kind = "inner join" if stage["join"] == "join" and self.chance.random() < 0.5 else stage["join"]
        return f"{select} {left}.k as k, {a} as a, {left}.b as b {from_} {one} {left} {kind} {two} {right} on {on}"

    def value(self, tree: tuple[Any, ...], alias: str | None) -> str:
        if tree[0] == "column":
            return self.column(tree[1], alias)
        if tree[0] == "number":
            return str(tree[1])
        one, two = self.value(tree[1], alias), self.value(tree[2], alias)
        match tree[0]:
            case "coalesce":
                text = f"{self.word('coalesce')}({one}, {two})"
            case "case":
                text = f"case when {one} > {two} then {one} else 0 end"
            case "is null":
                text = f"{one} {self.word('is')} null"
            case "=":
                text = self.equal(one, two)
            case "<" | ">" | "<=" if self.chance.random() < 0.5:
                text = f"{two} {tree[0].translate(str.maketrans('<>', '><'))} {one}"
            case "<>":
                text = f"{one} {self.chance.choice(['<>', '!='])} {two}"
            case "and" | "or":
                text = f"({one}) {self.word(tree[0])} ({two})"
            case operator:
                text = f"({one}) {operator} ({two})"
        return f"({text})" if self.chance.random() < 0.7 or tree[0] in ("or", "and") else text

    def equal(self, one: str, two: str) -> str:
        return " = ".join(self.chance.sample([f"({one})", f"({two})"], 2))

    def column(self, name: str, alias: str | None) -> str:
        name = self.chance.choice([name, name.upper(), f'"{name}"'])
        return f"{alias}.{name}" if alias else name

    def word(self, word: str) -> str:
        return self.space() + self.chance.choice([word, word.upper(), word.title()])

    def space(self) -> str:
        return self.chance.choice([" ", "\n", "\n    ", " /* what it is */ "])

    def comment(self) -> str:
        return self.chance.choice(["", "-- a 'remark', with (brackets\n"])


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_query_written_otherwise_is_the_same_query(rounds: int) -> None:
    for number in range(rounds):
        chance = random.Random(number)
        stages = draw(chance)
        one, two = Writer(random.Random(number + 1)).sql(stages), Writer(random.Random(number + 2)).sql(stages)
        assert same(read(one), read(two)), f"{one}\n\n{two}"


@pytest.mark.parametrize("rounds", ROUNDS)
def test_queries_that_count_as_the_same_give_the_same_rows(rounds: int) -> None:
    warehouse = duckdb.connect()
    warehouse.execute(
        "create table events as select (i * 7) % 5 as k, case when i % 4 > 0 then i % 6 end as v, i / 2.0 as w from range(17) r(i);"
        "create table users as select i as k, case when i % 3 > 0 then i end as x, -i / 3.0 as y from range(-1, 4) r(i)"
    )

    def rows(sql: str) -> list[str]:
        return sorted(map(repr, warehouse.execute(sql.replace("{t.", "").replace("}", "")).fetchall()))

    found = {"same": 0, "changed, and other rows": 0, "changed": 0}
    for number in range(rounds * 2):
        chance = random.Random(number)
        stages = draw(chance)
        writer = Writer(chance)
        one, two = writer.sql(stages), writer.sql(changed(stages, chance))
        equal_rows = rows(one) == rows(two)
        if same(read(one), read(two)):
            assert equal_rows, f"{one}\n\n{two}"
            found["same"] += 1
        else:
            found["changed" if equal_rows else "changed, and other rows"] += 1
    # Neither finding is rare, so that neither half of this test is idle.
    assert found["same"] > rounds / 4 and found["changed, and other rows"] > rounds / 4, found


# The package's windows.


@pytest.fixture(scope="module")
def labels() -> Views:
    views = Views()
    views.connection.execute(
        "attach ':memory:' as db; create schema db.t;"
        "create table db.t.labels as select 1::bigint as user_id, now() as asked_at, now() as paid_at;"
        "create table db.t.events as select 1::bigint as user_id, now() as at, now() as loaded_at, 2.5::double as v"
    )
    return views


def as_of(labels: Views, moment: str = "asked_at", window: str = "7 days", **options: Any) -> str:
    aggregates = [{"name": "total", "function": "sum", "expression": "v", "where": "v > 0"}]
    tables = (Relation(f'"db"."t"."{name}"') for name in ("labels", "events"))
    return labels.sql("aggregate_as_of", *tables, "user_id", "at", aggregates, [window], moment, **options)


def test_windows_at_a_spines_moments_are_the_same_in_every_shape_and_differ_by_what_they_say(labels: Views) -> None:
    sources = {"t.labels": ["user_id", "asked_at", "paid_at"], "t.events": ["user_id", "at", "loaded_at", "v"]}

    def total(sql: str) -> tuple[str, str]:
        query = read(sql, sources)
        assert sorted(query.columns) == ["asked_at", "paid_at", "total", "user_id"]
        return query.columns["total"].exact, query.rows

    def renamed(sql: str) -> str:
        names = "user_id, asked_at, paid_at"
        return f"select {names}, {next(one for one in ('total_7d', 'total_1h') if one in sql)} as total from ({sql})"

    base = total(renamed(as_of(labels, shape="dense")))
    assert base == total(renamed(as_of(labels, shape="range")))
    others = [
        as_of(labels, "paid_at"), as_of(labels, window="1 hour"), as_of(labels, allow_exact_matches=False),
        as_of(labels, created_timestamp="loaded_at"),
    ]  # fmt: skip
    assert len({base, *(total(renamed(sql)) for sql in others)}) == 5
