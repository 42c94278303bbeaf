"""Random chains of SELECTs, each written together with what its columns are made from; and DuckDB to run them on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import duckdb

from tests.support.hand_made import manifest_of

SOURCES = {"raw.p": ["id", "a", "b", "c"], "raw.q": ["id", "a", "x", "y"], "raw.r": ["id", "x", "k"]}
Truth = dict[str, set[str]]


@dataclass
class Chain:
    """Relations written so far: how SQL calls each, and which source columns flow into each of its columns."""

    random: random.Random
    relations: dict[str, Truth] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    ctes: list[str] = field(default_factory=list)
    number: int = 0

    def name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def pick(self) -> tuple[str, Truth]:
        # What was written last is the likeliest, so that chains grow long.
        names = list(self.relations)
        name = names[-1] if self.random.random() < 0.5 else self.random.choice(names)
        return name, self.relations[name]

    def column(self, truth: Truth) -> str:
        return self.random.choice(sorted(truth))

    def spelled(self, name: str) -> str:
        return self.random.choice([name, name.upper(), f'"{name}"'])


def project(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    alias = chain.name("t")
    items, truth = [], {}
    for _ in range(chain.random.randint(1, 4)):
        one, two = chain.column(columns), chain.column(columns)
        new = chain.name("c")
        items.append(
            chain.random.choice(
                [
                    f"{alias}.{chain.spelled(one)} + coalesce({two}, 1) as {new}",
                    f"case when {one} > 3 then {alias}.{two} else 0 end as {new}",
                    f"greatest({one}, {two}) {new}",
                    f"sum({one}) over (partition by {alias}.{chain.column(columns)} order by {chain.column(columns)}) + {two} as {new}",
                ]
            )
        )
        truth[new] = columns[one] | columns[two]
    return f"select {', '.join(items)} from {relation} as {alias}", truth


def star(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    gone, changed, used = chain.column(columns), chain.column(columns), chain.column(columns)
    new = chain.name("c")
    truth = {name: set(one) for name, one in columns.items()}
    options = ""
    if len(columns) > 1 and gone != changed:
        options = f" exclude ({gone}) replace ({used} * 2 as {chain.spelled(changed)})"
        truth[changed] = columns[used]
        del truth[gone]
    truth[new] = columns[used]
    where = f" where {chain.column(columns)} <> 5" if chain.random.random() < 0.3 else ""
    return f"select *{options}, {used} - 1 as {new} from {relation}{where}", truth


def join(chain: Chain) -> tuple[str, Truth]:
    (left, of_left), (right, of_right) = chain.pick(), chain.pick()
    kind = chain.random.choice(["join", "left join", "inner join", "full join"])
    truth, items = {}, []
    for side, columns in (("l", of_left), ("r", of_right)):
        for name in sorted(columns)[:3]:
            new = chain.name("c")
            items.append(f"{side}.{chain.spelled(name)} as {new}")
            truth[new] = columns[name]
    condition = f"l.{chain.column(of_left)} = r.{chain.column(of_right)}"
    return f"select {', '.join(items)} from {left} l {kind} {right} as r on {condition}", truth


def join_using(chain: Chain) -> tuple[str, Truth]:
    (left, of_left), (right, of_right) = chain.pick(), chain.pick()
    shared = sorted(set(of_left) & set(of_right))
    if not shared or left == right:
        return join(chain)
    key = chain.random.choice(shared)
    kind = chain.random.choice(["join", "left join", "right join", "full join"])
    truth = {"left": of_left[key], "right": of_right[key], "full": of_left[key] | of_right[key], "join": of_left[key]}[
        kind.split()[0]
    ]
    new = chain.name("c")
    others = [name for name in sorted(of_right) if name not in of_left]
    items, result = [f"{key} as {new}"], {new: truth}
    for name in others[:2]:
        items.append(name)
        result[name] = of_right[name]
    return f"select {', '.join(items)} from {left} {kind} {right} using ({key})", result


def union(chain: Chain) -> tuple[str, Truth]:
    (left, of_left), (right, of_right) = chain.pick(), chain.pick()
    width = chain.random.randint(1, min(len(of_left), len(of_right)))
    one, two = chain.random.sample(sorted(of_left), width), chain.random.sample(sorted(of_right), width)
    kind = chain.random.choice(["union all", "union"])
    truth = {a: of_left[a] | of_right[b] for a, b in zip(one, two, strict=True)}
    return f"select {', '.join(one)} from {left} {kind} select {', '.join(two)} from {right}", truth


def union_by_name(chain: Chain) -> tuple[str, Truth]:
    (left, of_left), (right, of_right) = chain.pick(), chain.pick()
    names = sorted(set(of_left) | set(of_right))
    truth = {name: of_left.get(name, set()) | of_right.get(name, set()) for name in names}
    return f"select * from {left} union all by name select * from {right}", truth


def group(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    key, value = chain.column(columns), chain.column(columns)
    named, total, rows = chain.name("c"), chain.name("c"), chain.name("c")
    sql = (
        f"select {key} as {named}, max({value}) filter (where {chain.column(columns)} > 1) as {total}, count(*) as {rows} "
        f"from {relation} group by {chain.random.choice([key, named, '1'])}"
    )
    return sql, {named: columns[key], total: columns[value], rows: set()}


def subquery(chain: Chain) -> tuple[str, Truth]:
    (outer, of_outer), (inner, of_inner) = chain.pick(), chain.pick()
    value, kept = chain.column(of_inner), chain.column(of_outer)
    new, same = chain.name("c"), chain.name("c")
    sql = (
        f"select o.{kept} as {same}, (select max(i.{value}) from {inner} i where i.{chain.column(of_inner)} = "
        f"o.{chain.column(of_outer)}) as {new} from {outer} as o"
    )
    return sql, {same: of_outer[kept], new: of_inner[value]}


def struct(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    one, two = chain.column(columns), chain.column(columns)
    first, second = chain.name("c"), chain.name("c")
    sql = (
        f"select s.p as {first}, max(s.q) over () as {second} "
        f"from (select {{'p': {one}, 'q': {two}}} as s from {relation}) as packed"
    )
    return sql, {first: columns[one], second: columns[two]}


def lateral(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    one, two, kept = chain.column(columns), chain.column(columns), chain.column(columns)
    new, same = chain.name("c"), chain.name("c")
    sql = f"select z.v as {new}, t.{kept} as {same} from {relation} t, lateral (select t.{one} + t.{two} as v) as z"
    return sql, {new: columns[one] | columns[two], same: columns[kept]}


def values(chain: Chain) -> tuple[str, Truth]:
    relation, columns = chain.pick()
    one = chain.column(columns)
    new, constant = chain.name("c"), chain.name("c")
    sql = f"select {one} + w.n as {new}, w.n as {constant} from {relation} cross join (values (1), (2)) as w(n)"
    return sql, {new: columns[one], constant: set()}


STEPS = [project, star, join, join_using, union, union_by_name, group, subquery, struct, lateral, values]


def write_chain(seed: int) -> Chain:
    """Models of CTEs, each reading what was written before it."""
    chain = Chain(random.Random(seed))
    for source, columns in SOURCES.items():
        chain.relations[f"{{{source}}}"] = {name: {f"{source}.{name}"} for name in columns}
    for _ in range(chain.random.randint(1, 4)):
        outside = dict(chain.relations)
        ctes = []
        for _ in range(chain.random.randint(1, 5)):
            sql, truth = chain.random.choice(STEPS)(chain)
            name = chain.name("cte_")
            if len(truth) > 6:  # keep them narrow
                truth = {kept: truth[kept] for kept in chain.random.sample(sorted(truth), 5)}
                sql = f"select {', '.join(truth)} from (\n  {sql}\n) as wide"
            ctes.append(f"{name} as (\n  {sql}\n)")
            chain.relations[name] = truth
        last, truth = name, chain.relations[name]
        model = chain.name("m")
        chain.models[model] = f"with {', '.join(ctes)} select * from {last}"
        chain.relations = {**outside, f"{{{model}}}": truth}
    return chain


def executed(chain: Chain, changed: str | None) -> dict[str, dict[str, list[object]]]:
    """The sorted values of each column of each model; with other values in the source column `changed`."""
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as db; create schema db.raw")
        numbers = random.Random(1)
        for source, columns in SOURCES.items():
            rows = [[numbers.randint(0, 9) for _ in columns] for _ in range(12)]
            for row in rows:
                for place, column in enumerate(columns):
                    if changed == f"{source}.{column}":
                        row[place] = row[place] * 7 + 101
            connection.execute(f"create table db.{source} ({', '.join(f'{c} integer' for c in columns)})")
            connection.executemany(f"insert into db.{source} values ({', '.join('?' * len(columns))})", rows)
        found = {}
        nodes = manifest_of(chain.models, SOURCES)["nodes"]
        for model in chain.models:
            node = nodes[f"model.shop.{model}"]
            connection.execute(f"create table {node['relation_name']} as {node['compiled_code']}")
            table = connection.sql(f"from {node['relation_name']}").to_arrow_table().to_pydict()
            found[model] = {name.lower(): sorted(column, key=repr) for name, column in table.items()}
        return found
