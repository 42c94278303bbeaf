"""Column lineage: from an expression to the source columns whose values are in it, construct by construct."""

from __future__ import annotations

from typing import Any

import pytest

from materializer.errors import NotFoundError
from materializer.project.graph import Graph
from materializer.sql.lineage import Column, Lineage, upstream
from tests.support.hand_made import manifest_of

SOURCES = {"raw.t": ["id", "a", "b", "c", "ts", "name"], "raw.u": ["id", "a", "x", "y", "ts"], "raw.v": ["id", "z"]}


def lineage_of(sql: str | dict[str, Any], column: str, adapter: str = "duckdb", sources: Any = None) -> Lineage:
    models = {"m": sql} if isinstance(sql, str) else sql
    graph = Graph(manifest_of(models, SOURCES if sources is None else sources, adapter))
    return upstream(graph, f"model.shop.{list(models)[-1]}", column)


def names(columns: tuple[Column, ...]) -> set[str]:
    """``t.a`` for a source's column, ``m.a`` for a model's."""
    return {f"{column.node.rpartition('.')[2]}.{column.name}" for column in columns}


def check(lineage: Lineage, values: str, filters: str | None = None, counted: str | None = None) -> None:
    """The columns of sources whose values flow in, are those named; and, where said, those that filter or are counted."""
    assert not lineage.unresolved, lineage.unresolved
    assert names(lineage.sources) == set(values.split())
    if filters is not None:
        assert names(tuple(c for c in lineage.filters if c.node.startswith("source."))) == set(filters.split())
    if counted is not None:
        assert names(tuple(c for c in lineage.counted if c.node.startswith("source."))) == set(
            f"{name}.*" for name in counted.split()
        )


# (SQL, column asked for, values, filters or None): `{raw.t}` is the source.
CASES = {
    "a plain column": ("select a from {raw.t}", "a", "t.a", ""),
    "a renamed column": ("select a as z from {raw.t}", "z", "t.a", ""),
    "an expression over several": ("select a + b * 2 as z from {raw.t}", "z", "t.a t.b", ""),
    "a constant": ("select 1 as one from {raw.t}", "one", "", ""),
    "case: the conditions are values too": ("select case when a > 1 then b else c end as z from {raw.t}", "z", "t.a t.b t.c", ""),
    "a cast": ("select cast(a as varchar(10)) as z from {raw.t}", "z", "t.a", ""),
    "names in any case": ('select T.A as Z from {raw.t} as t', "z", "t.a", ""),
    "quoted names": ('select "a-b" as "Z z" from {raw.q}', "Z z", "q.a-b", ""),
    "a qualified table": ("select t.a from {raw.t}", "a", "t.a", ""),
    "schema and table": ("select raw.t.a from {raw.t}", "a", "t.a", ""),
    "where": ("select a from {raw.t} where b > 1", "a", "t.a", "t.b"),
    "an alias of the SELECT in where": ("select a + 1 as z from {raw.t} where z > 1", "z", "t.a", ""),
    "an alias of the SELECT in the SELECT": ("select a + 1 as p, p * b as q from {raw.t}", "q", "t.a t.b", ""),
    "a column comes before an alias of the same name": ("select upper(b) as a, a || 'x' as z from {raw.t}", "z", "t.a", ""),
    "a column is not its own alias": ("select upper(name) as name from {raw.t}", "name", "t.name", ""),
    "group by": ("select a, sum(b) as s from {raw.t} group by a having max(c) > 1", "s", "t.b", "t.a t.c"),
    "group by number": ("select a, b, sum(c) as s from {raw.t} group by 1, 2", "s", "t.c", "t.a t.b"),
    "group by all": ("select a, b, sum(c) as s from {raw.t} group by all", "s", "t.c", "t.a t.b"),
    "group by an alias": ("select date_trunc('day', ts) as day, sum(c) as s from {raw.t} group by day", "s", "t.c", "t.ts"),
    "qualify": ("select a from {raw.t} qualify row_number() over (partition by b order by c) = 1", "a", "t.a", "t.b t.c"),
    "order by and limit": ("select a from {raw.t} order by b limit 3", "a", "t.a", "t.b"),
    "order by alone decides nothing": ("select a from {raw.t} order by b", "a", "t.a", ""),
    "distinct": ("select distinct a, b from {raw.t}", "a", "t.a", "t.b"),
    "distinct on": ("select distinct on (b) a from {raw.t} order by b, c", "a", "t.a", "t.b"),
    # Joins.
    "join": ("select t.a, u.x from {raw.t} as t join {raw.u} as u on t.id = u.id", "x", "u.x", "t.id u.id"),
    "join without qualified names": ("select b, x from {raw.t} t join {raw.u} u on t.id = u.id", "x", "u.x", "t.id u.id"),
    "join using": ("select id, x from {raw.t} join {raw.u} using (id)", "id", "t.id", "u.id"),
    "left join using": ("select id from {raw.t} left join {raw.u} using (id)", "id", "t.id", "u.id"),
    "right join using": ("select id from {raw.t} right join {raw.u} using (id)", "id", "u.id", "t.id"),
    "full join using": ("select id from {raw.t} full join {raw.u} using (id)", "id", "t.id u.id", ""),
    "several joins using": ("select id from {raw.t} full join {raw.u} using (id) full join {raw.v} using (id)", "id", "t.id u.id v.id", ""),
    "natural join": ("select z from {raw.u} natural join {raw.v}", "z", "v.z", "u.id v.id"),
    "natural join's own column": ("select id from {raw.u} natural join {raw.v}", "id", "u.id", "v.id"),
    "asof join": ("select t.a, u.x from {raw.t} t asof join {raw.u} u on t.id = u.id and t.ts >= u.ts", "x", "u.x", "t.id u.id t.ts u.ts"),
    "semi join": ("select a from {raw.t} semi join {raw.u} on u.id = t.id", "a", "t.a", "t.id u.id"),
    "cross join": ("select t.a, u.x from {raw.t} t, {raw.u} u where t.id = u.id", "x", "u.x", "t.id u.id"),
    "joins in parentheses": ("select z from {raw.t} t join ({raw.u} u join {raw.v} v on u.id = v.id) on t.id = u.id", "z", "v.z", "t.id u.id v.id"),
    "a table joined with itself": ("select l.a + r.b as z from {raw.t} l join {raw.t} r on l.id = r.c", "z", "t.a t.b", "t.id t.c"),
    # Stars.
    "star": ("select * from {raw.t}", "a", "t.a", ""),
    "star of one table": ("select u.*, t.b from {raw.t} t join {raw.u} u on t.id = u.id", "a", "u.a", "t.id u.id"),
    "star over a join: the first of two columns": ("select * from {raw.t} t join {raw.u} u on t.id = u.id", "a", "t.a", "t.id u.id"),
    "star over a join: the second is numbered": ("select * from {raw.t} t join {raw.u} u on t.id = u.id", "a_1", "u.a", "t.id u.id"),
    "star over a join using": ("select * from {raw.t} full join {raw.u} using (id)", "id", "t.id u.id", ""),
    "exclude": ("select * exclude (a) from {raw.t} t join {raw.v} v using (id)", "z", "v.z", "t.id v.id"),
    "replace": ("select * replace (b + 1 as a) from {raw.t}", "a", "t.b", ""),
    "rename": ("select * rename (a as z) from {raw.t}", "z", "t.a", ""),
    "star over a subquery": ("select * from (select a as z from {raw.t})", "z", "t.a", ""),
    "star over CTEs": ("with x as (select * from {raw.t}), y as (select *, a + b as s from x) select * from y", "s", "t.a t.b", ""),
    "star and an own column of the same name: the first": ("select name from (select *, b as name from {raw.t})", "name", "t.name", ""),
    "columns(*)": ("select columns(*) from {raw.t}", "a", "t.a", ""),
    "FROM alone": ("from {raw.t}", "a", "t.a", ""),
    "FROM first": ("from {raw.t} select a as z", "z", "t.a", ""),
    # CTEs and subqueries.
    "a chain of CTEs": ("with x as (select a as p from {raw.t}), y as (select p as q from x), z as (select q as r from y) select r from z", "r", "t.a", ""),
    "a CTE called as its table": ("with t as (select a + b as a from {raw.t} as t) select a from t", "a", "t.a t.b", ""),
    "a CTE hides one of the same name outside": ("with x as (select a as p from {raw.t}) select p from (with x as (select b as p from {raw.t}) select p from x)", "p", "t.b", ""),
    "a CTE with names": ("with x(p, q) as (select a, b from {raw.t}) select q from x", "q", "t.b", ""),
    "a table with names": ("select q from {raw.v} as w(p, q)", "q", "v.z", ""),
    "a subquery with names": ("select q from (select a, b from {raw.t}) as w(p, q)", "q", "t.b", ""),
    "a recursive CTE": ("with recursive r(n, p) as (select id, a from {raw.t} union all select r.n, r.p + u.x from r join {raw.u} u on u.id = r.n) select p from r", "p", "t.a u.x", "t.id u.id"),
    "a scalar subquery": ("select (select max(x) from {raw.u}) as z from {raw.t}", "z", "u.x", ""),
    "a correlated subquery": ("select (select max(x) from {raw.u} u where u.id = t.id and y > b) as z from {raw.t} t", "z", "u.x", "t.id u.id u.y t.b"),
    "exists counts no value": ("select exists (select 1 from {raw.u} u where u.id = t.id) as z from {raw.t} t", "z", "", "t.id u.id"),
    "in (subquery)": ("select a in (select x from {raw.u} where y > 1) as z from {raw.t}", "z", "t.a u.x", "u.y"),
    "where in (subquery)": ("select a from {raw.t} where id in (select x from {raw.u})", "a", "t.a", "t.id u.x"),
    "where not exists": ("select a from {raw.t} t where not exists (select 1 from {raw.u} u where u.id = t.id)", "a", "t.a", "t.id u.id"),
    "lateral": ("select l.z from {raw.t} t, lateral (select t.a + t.b as z) l", "z", "t.a t.b", ""),
    "lateral over a table": ("select l.z from {raw.t} t cross join lateral (select sum(x) as z from {raw.u} u where u.id = t.id) l", "z", "u.x", "u.id t.id"),
    "a CTE inside of a subquery": ("select z from (with w as (select a as z from {raw.t}) select z from w)", "z", "t.a", ""),
    "parentheses around all": ("(select a from {raw.t})", "a", "t.a", ""),
    # Set operations.
    "union by position": ("select a, b from {raw.t} union all select x, y from {raw.u}", "b", "t.b u.y", ""),
    "union in a CTE, names of the first": ("with w as (select a as p from {raw.t} union select x from {raw.u}) select p from w", "p", "t.a u.x", ""),
    "union over stars": ("with p as (select id, z from {raw.v}), q as (select a, b from {raw.t}) select * from p union all select * from q", "z", "v.z t.b", ""),
    "union by name": ("select a, b from {raw.t} union all by name select x as b, y as a from {raw.u}", "b", "t.b u.x", ""),
    "union by name: a column of the second alone": ("select a from {raw.t} union all by name select x as k from {raw.u}", "k", "u.x", ""),
    "union of three": ("select a from {raw.t} union all select x from {raw.u} union all select z from {raw.v}", "a", "t.a u.x v.z", ""),
    "except: the right side only filters": ("select a from {raw.t} except select x from {raw.u}", "a", "t.a", "u.x"),
    "intersect": ("select a from {raw.t} intersect select x from {raw.u}", "a", "t.a u.x", ""),
    "a union with parentheses and a CTE": ("with w as (select x from {raw.u}) (select a from {raw.t}) union all (select x from w)", "a", "t.a u.x", ""),
    # Aggregates and windows.
    "count(*) has no value": ("select count(*) as n from {raw.t} where a > 1", "n", "", "t.a"),
    "count of a column": ("select count(a) as n from {raw.t}", "n", "t.a", ""),
    "count distinct": ("select count(distinct a) as n from {raw.t}", "n", "t.a", ""),
    "filter (where)": ("select sum(a) filter (where b > 1) as s from {raw.t}", "s", "t.a", "t.b"),
    "order by in an aggregate": ("select string_agg(name, ',' order by ts) as s from {raw.t}", "s", "t.name", "t.ts"),
    "within group": ("select percentile_cont(0.5) within group (order by a) as m from {raw.t}", "m", "t.a", ""),
    "arg_max": ("select arg_max(a, ts) as m from {raw.t}", "m", "t.a t.ts", ""),
    "a window": ("select sum(a) over (partition by b order by ts) as s from {raw.t}", "s", "t.a", "t.b t.ts"),
    "a named window": ("select sum(a) over w as s from {raw.t} window w as (partition by b order by ts)", "s", "t.a", "t.b t.ts"),
    "row_number has no value": ("select row_number() over (partition by b order by ts) as n from {raw.t}", "n", "", "t.b t.ts"),
    "lag": ("select lag(a, 1) over (order by ts) as p from {raw.t}", "p", "t.a", "t.ts"),
    "a window over an aggregate": ("select sum(sum(a)) over (order by b) as s from {raw.t} group by b", "s", "t.a", "t.b"),
    # Lists and structs.
    "unnest in SELECT": ("select unnest(a) as e from {raw.t}", "e", "t.a", ""),
    "unnest in FROM": ("select e from {raw.t} t, unnest(t.a) as w(e)", "e", "t.a", ""),
    "a field of a struct column": ("select name.first as f from {raw.t}", "f", "t.name", ""),
    "a field of a qualified struct column": ("select t.name.first.x as f from {raw.t} as t", "f", "t.name", ""),
    "a field of a struct made before": ("select s.p as z from (select {'p': a, 'q': b} as s from {raw.t})", "z", "t.a", ""),
    "struct_pack": ("select s.q as z from (select struct_pack(p := a, q := b) as s from {raw.t})", "z", "t.b", ""),
    "a struct in a struct": ("select s.o.q as z from (select {'o': {'p': a, 'q': b}, 'r': c} as s from {raw.t})", "z", "t.b", ""),
    "a whole struct": ("select s as z from (select {'p': a, 'q': b} as s from {raw.t})", "z", "t.a t.b", ""),
    "a field through an aggregate": ("select m.p as z from (select arg_max({'p': a, 'q': b}, ts) as m from {raw.t})", "z", "t.a t.ts", ""),
    "a field by a bracket": ("select s['q'] as z from (select {'p': a, 'q': b} as s from {raw.t})", "z", "t.b", ""),
    "a row cast to a struct": ("select s.q as z from (select cast(row(a, b) as struct(p int, q int)) as s from {raw.t})", "z", "t.b", ""),
    "a field of a list's element": ("select l[1].p as z from (select list({'p': a, 'q': b}) as l from {raw.t})", "z", "t.a", ""),
    "a field of an unnested struct": ("select e.p as z from (select list({'p': a, 'q': b}) as l from {raw.t}) s, unnest(s.l) as w(e)", "z", "t.a", "t.b"),
    "a lambda's own name is no column": ("select list_transform(a, lambda e: e.b + c) as z from {raw.t}", "z", "t.a t.c", ""),
    "an arrow lambda": ("select list_filter(a, x -> x > b) as z from {raw.t}", "z", "t.a t.b", ""),
    "a comprehension": ("select [x + b for x in a if x > c] as z from {raw.t}", "z", "t.a t.b t.c", ""),
    "a table by its alias is its row": ("select v as w from {raw.v} as v", "w", "v.id v.z", ""),
    # Others.
    "values": ("select p + a as z from {raw.t}, (values (1, 2)) as w(p, q)", "z", "t.a", ""),
    "generate_series": ("select g.i + a as z from {raw.t} t, generate_series(1, b) as g(i)", "z", "t.a t.b", ""),
    "unpivot": ("select v from {raw.t} unpivot (v for k in (a, b))", "v", "t.a t.b", ""),
    "pivot": ("select p from (select * from {raw.t}) pivot (sum(a) for b in ('p', 'q'))", "p", "t.a", "t.b"),
    "units of time are no columns": ("select dateadd(day, 1, ts) as z from {raw.t}", "z", "t.ts", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_values_of_a_column_come_from_these_columns(case: str) -> None:
    sql, column, values, filters = CASES[case]
    sources = {**SOURCES, "raw.q": ["a-b"]}
    check(lineage_of(sql, column, sources=sources), values, filters)


DIALECTS = {
    "bigquery unnest with an alias": ("bigquery", "select item.price from {raw.t} t, unnest(t.a) as item", "price", "t.a", ""),
    "bigquery except": ("bigquery", "select * except (a) from {raw.t}", "b", "t.b", ""),
    "bigquery implicit unnest": ("bigquery", "select e.p from {raw.t} as t, t.a as e", "p", "t.a", ""),
    "bigquery struct": ("bigquery", "select s.p as z from (select struct(a as p, b as q) as s from {raw.t})", "z", "t.a", ""),
    "bigquery array of a subquery": ("bigquery", "select array(select x from {raw.u} u where u.id = t.id) as z from {raw.t} t", "z", "u.x", "t.id u.id"),
    "snowflake flatten": ("snowflake", "select f.value:x::int as z from {raw.t} t, lateral flatten(input => t.a) f", "z", "t.a", ""),
    "snowflake path": ("snowflake", "select a:b.c::string as z from {raw.t}", "z", "t.a", ""),
    "snowflake iff": ("snowflake", "select iff(a, b, c) as z from {raw.t}", "z", "t.a t.b t.c", ""),
    "snowflake upper case": ("snowflake", "SELECT A AS Z FROM {raw.t}", "Z", "t.a", ""),
    "postgres row field": ("postgres", "select (s).p as z from (select row(a, b) as s, c as p from {raw.t}) q", "z", "t.a t.b", ""),
    "postgres jsonb": ("postgres", "select e.value ->> 'k' as z from {raw.t} t, jsonb_array_elements(t.a) e", "z", "t.a", ""),
    "postgres ordinality": ("postgres", "select w.v as z from {raw.t} t, unnest(t.a) with ordinality as w(v, o)", "z", "t.a", ""),
    "postgres distinct from": ("postgres", "select a is distinct from b as z from {raw.t}", "z", "t.a t.b", ""),
    "spark lateral view": ("spark", "select x from {raw.t} lateral view explode(a) e as x", "x", "t.a", ""),
    "tsql apply": ("sqlserver", "select q.z from {raw.t} as t cross apply (select t.a + t.b as z) as q", "z", "t.a t.b", ""),
    "redshift listagg": ("redshift", "select listagg(name, ',') within group (order by ts) as z from {raw.t}", "z", "t.name", "t.ts"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIALECTS)
def test_other_warehouses_sql_is_followed_too(case: str) -> None:
    adapter, sql, column, values, filters = DIALECTS[case]
    check(lineage_of(sql, column, adapter), values, filters)


def test_asking_for_a_column_that_is_not_there_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="Model 'm' has no column 'zz'; it has: a, b"):
        lineage_of("select a, b from {raw.t}", "zz")
