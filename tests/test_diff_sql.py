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
from materializer.diff.meaning import Query, UnreadableError, relation
from materializer.diff.queries import Reader

TABLES = {
    "events": {"k": "bigint", "v": "bigint", "w": "double"},
    "users": {"k": "bigint", "x": "bigint", "y": "double"},
}
ROUNDS = 120


def read(sql: str, **tables: dict[str, str] | None) -> Query:
    known = TABLES | tables
    return Reader("duckdb", lambda name: relation(name, known.get(name))).read(sql)


def same(old: Query, new: Query) -> bool:
    """As `materializer.diff` judges it: the rows, and each column over them."""
    if old.rows != new.rows or list(old.columns) != list(new.columns):
        return False
    return all(old.columns[name].exact == new.columns[name].exact for name in old.columns)


SAME = [
    ("select e.k, v from events e join users u on e.k = u.k", "select k, v from events join users using (k)"),
    (
        "select e.k, v from events e, users u where e.k = u.k",
        "select e.k, v from events e cross join users where (users.k) = e.k",
    ),
    (
        "select k, v from events qualify row_number() over (partition by k, v order by w desc) = 1",
        "select k, v from (select *, row_number() over (partition by v, k order by w desc) as n from events) where n = 1",
    ),
    ("select k % 2 as p, sum(v) as s from events group by 1", "select k % 2 as p, sum(v) as s from events group by p"),
    (
        "select k % 2 as p, sum(v) as s from events group by k % 2",
        "select k % 2 as p, sum(v) as s from events group by all",
    ),
    (
        "select k, sum(v) over w as s from events window w as (partition by k)",
        "select k, sum(v) over (partition by k) as s from events",
    ),
    ("select * from events", "select k, v, w from events"),
    ("select * exclude (w) from events", "with e as (select * from events) select e.k, e.v from e"),
    ("select * replace (v + 1 as v) from events", "select k, 1 + v as v, w from events"),
    (
        "select k from events where v > 1 and w < 2",
        "with a as (select * from events where w < 2) select k from a where 1 < v",
    ),
    ("select k, v::integer as v from events", "select k, cast(v as int) as v from events"),
    (
        "select k from events where v in (1, 2) or not v is null",
        "select k from events where v is not null or v in (2, 1)",
    ),
    ("select k + interval '2 days' as k from events", "select k + INTERVAL 2 day as k from events"),
    (
        "select a.k from (select k from events) as a",
        "with b as (select k from events), a as (select k from b) select k from a",
    ),
    (
        "select k, (select max(x) from users u where u.k = e.k) as m from events e",
        "select k, (select max(x) from users where e.k = users.k) as m from events e",
    ),
    (
        "select list_transform([v], lambda x: x + 1) as l from events",
        "select list_transform([v], lambda y: 1 + y) as l from events",
    ),
    (
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select n from r",
        "with recursive s as (select 1 as n union all select 1 + n from s where 5 > n) select * from s",
    ),
    ("select k, {'a': v}.a as f from events", "select K, ({'a': V}).A as f from events"),
    ("select v, w from events order by k", "select v, w from events"),
]
# What a careless reader takes for the same: the rows differ on some tables.
DIFFERENT = [
    ("select k from events", "select k as k2 from events"),
    (
        "select k, v from events union select k, x from users",
        "select k, v from events union all select k, x from users",
    ),
    (
        "select e.k, coalesce(u.x, 0) as x from events e left join users u using (k)",
        "select e.k, u.x from events e left join (select k, coalesce(x, 0) as x from users) u using (k)",
    ),
    (
        "select e.k, 1 as f from events e left join users u using (k)",
        "select e.k, u.f from events e left join (select k, 1 as f from users) u using (k)",
    ),
    ("select e.v from events e join events o on e.k = o.v", "select o.v from events e join events o on e.k = o.v"),
    (
        "select k, n from (select k, count(*) over () as n from events) where k > 1",
        "select k, count(*) over () as n from (select k from events) where k > 1",
    ),
    (
        "select p.n from (select count(*) n from events where k > 1) p, (select count(*) n from events) q",
        "select q.n from (select count(*) n from events where k > 1) p, (select count(*) n from events) q",
    ),
    (
        "select p.n from (select count(*) n from events) p, (select count(*) n from users) q",
        "select q.n from (select count(*) n from events) p, (select count(*) n from users) q",
    ),
    (
        "select k, (select max(e.v) from events e where e.k = o.k) as m from events o",
        "select k, (select max(o.v) from events e where e.k = o.k) as m from events o",
    ),
    ("select k, count(*) as n from events group by k", "select k, count(v) as n from events group by k"),
    ("select k, max(v) as m from events group by k", "select k, max(v) as m from events group by k, w"),
    ("select k from events order by v limit 3", "select k from events order by w limit 3"),
    ("select distinct k from events", "select k from events"),
    (
        "select distinct on (k) k, v from events order by k, v",
        "select distinct on (k) k, v from events order by k, v desc",
    ),
    (
        "select k, sum(v) over (order by w) as s from events",
        "select k, sum(v) over (order by w rows between 1 preceding and current row) as s from events",
    ),
    ("select k from events where v = 1 and (w = 1 or k = 1)", "select k from events where (v = 1 and w = 1) or k = 1"),
    ("select v - w as d from events", "select w - v as d from events"),
    ("select v from events where k < w", "select v from events where w < k"),
    ("select v from events using sample 10", "select v from events"),
    (
        "select e.k from events e semi join users u on e.k = u.k",
        "select e.k from events e anti join users u on e.k = u.k",
    ),
    (
        "select list(v) as l from (select v from events order by w)",
        "select list(v) as l from (select v from events order by k)",
    ),
    ("select x, y from (values (1, 2), (3, 4)) as t(x, y)", "select x, y from (values (1, 2), (4, 3)) as t(x, y)"),
    (
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select n from r",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 6) select n from r",
    ),
    ("select v as a, a + 1 as b from events", "select v + 1 as a, a + 1 as b from events"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_these_say_the_same(one: str, two: str) -> None:
    assert same(read(one), read(two))


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_these_do_not_say_the_same(one: str, two: str) -> None:
    assert not same(read(one), read(two))


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select (", "Required keyword|Expecting|expected"),
        ("select * from events pivot (sum(v) for k in (1, 2))", "PIVOT is not followed"),
        ("select columns('v.*') from events", r"COLUMNS\(...\) is not followed"),
        ("select * from events natural join users", "NATURAL JOIN is not followed"),
        ("create table t as select 1", "CREATE is not followed"),
    ],
)
def test_what_is_not_followed_is_said(sql: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read(sql)


def test_columns_of_an_unknown_relation_are_followed_by_name() -> None:
    one, two = (read(f"select upper(name) as name, other from {table}", raw=None) for table in ("raw", "raw as r"))
    assert same(one, two)
    assert [sorted(column.reads) for column in one.columns.values()] == [[("raw", "name")], [("raw", "other")]]
    assert read("select * from raw", raw=None).unseen == ("raw",)


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
            return f"{select} {columns} {from_} {stage['table']}"
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


def test_a_query_written_otherwise_is_the_same_query() -> None:
    for number in range(ROUNDS):
        chance = random.Random(number)
        stages = draw(chance)
        one, two = Writer(random.Random(number + 1)).sql(stages), Writer(random.Random(number + 2)).sql(stages)
        assert same(read(one), read(two)), f"{one}\n\n{two}"


def test_queries_that_count_as_the_same_give_the_same_rows() -> None:
    warehouse = duckdb.connect()
    warehouse.execute(
        "create table events as select (i * 7) % 5 as k, case when i % 4 > 0 then i % 6 end as v, i / 2.0 as w from range(17) r(i);"
        "create table users as select i as k, case when i % 3 > 0 then i end as x, -i / 3.0 as y from range(-1, 4) r(i)"
    )

    def rows(sql: str) -> list[str]:
        return sorted(map(repr, warehouse.execute(sql).fetchall()))

    found = {"same": 0, "changed, and other rows": 0, "changed": 0}
    for number in range(ROUNDS * 2):
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
    assert found["same"] > ROUNDS / 4 and found["changed, and other rows"] > ROUNDS / 4, found
