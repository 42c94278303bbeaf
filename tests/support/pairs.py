"""Pairs of queries that say the same, and near misses: the truths of the signature, which lint and diff hold to."""

from __future__ import annotations

SOURCES = {
    "raw.orders": ["order_id", "user_id", "shop_id", "amount", "kind", "ordered_at", "loaded_at"],
    "raw.users": ["user_id", "country", "age", "seen_at"],
    "raw.shops": ["shop_id", "town", "seen_at"],
    "t.events": ["k", "v", "w"],
    "t.users": ["k", "x", "y"],
}

# Queries of any kind.
SAME_QUERIES = [
    (
        "select e.k, v from {t.events} e join {t.users} u on e.k = u.k",
        "select k, v from {t.events} join {t.users} using (k)",
    ),
    (
        "select e.k, v from {t.events} e, {t.users} u where e.k = u.k",
        "select e.k, v from {t.events} e cross join {t.users} where (users.k) = e.k",
    ),
    (
        "select k, v from {t.events} qualify row_number() over (partition by k, v order by w desc) = 1",
        "select k, v from (select *, row_number() over (partition by v, k order by w desc) as n from {t.events}) where n = 1",
    ),
    (
        "select k % 2 as p, sum(v) as s from {t.events} group by 1",
        "select k % 2 as p, sum(v) as s from {t.events} group by p",
    ),
    (
        "select k % 2 as p, sum(v) as s from {t.events} group by k % 2",
        "select k % 2 as p, sum(v) as s from {t.events} group by all",
    ),
    (
        "select k, sum(v) over w as s from {t.events} window w as (partition by k)",
        "select k, sum(v) over (partition by k) as s from {t.events}",
    ),
    ("select * from {t.events}", "select k, v, w from {t.events}"),
    ("select * exclude (w) from {t.events}", "with e as (select * from {t.events}) select e.k, e.v from e"),
    ("select * replace (v + 1 as v) from {t.events}", "select k, 1 + v as v, w from {t.events}"),
    (
        "select k from {t.events} where v > 1 and w < 2",
        "with a as (select * from {t.events} where w < 2) select k from a where 1 < v",
    ),
    ("select k, v::integer as v from {t.events}", "select k, cast(v as int) as v from {t.events}"),
    (
        "select k from {t.events} where v in (1, 2) or not v is null",
        "select k from {t.events} where v is not null or v in (2, 1)",
    ),
    ("select k + interval '2 days' as k from {t.events}", "select k + INTERVAL 2 day as k from {t.events}"),
    (
        "select a.k from (select k from {t.events}) as a",
        "with b as (select k from {t.events}), a as (select k from b) select k from a",
    ),
    (
        "select k, (select max(x) from {t.users} u where u.k = e.k) as m from {t.events} e",
        "select k, (select max(x) from {t.users} where e.k = users.k) as m from {t.events} e",
    ),
    (
        "select list_transform([v], lambda x: x + 1) as l from {t.events}",
        "select list_transform([v], lambda y: 1 + y) as l from {t.events}",
    ),
    (
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select n from r",
        "with recursive s as (select 1 as n union all select 1 + n from s where 5 > n) select * from s",
    ),
    ("select k, {'a': v}.a as f from {t.events}", "select K, ({'a': V}).A as f from {t.events}"),
    ("select v, w from {t.events} order by k", "select v, w from {t.events}"),
    ("select * from {t.events} natural join {t.users}", "select * from {t.events} join {t.users} using (k)"),
    (
        "select e.k, x from {t.events} e join {t.users} u on e.k = u.k and x > 1 where v < 3",
        "select k, x from (select * from {t.events} where v < 3) join (select * from {t.users} where x > 1) using (k)",
    ),
    (
        "select e.k, x from {t.events} e left join {t.users} u on e.k = u.k where v < 3",
        "select e.k, x from (select * from {t.events} where v < 3) e left join {t.users} u on u.k = e.k",
    ),
    (
        "select k, x from {t.events} right join {t.users} using (k)",
        "select u.k, x from {t.events} e right join {t.users} u on e.k = u.k",
    ),
    (
        "select k from {t.events} e where exists (select 1 from {t.users} u where u.k = e.k)",
        "select k from {t.events} e where exists (select x as found from {t.users} where users.k = e.k)",
    ),
    (
        "select k, {'a': v}.a as f from {t.events}",
        "select k, s.a as f from (select k, {'a': v, 'b': w} as s from {t.events})",
    ),
    ("select p as k, q as v from {t.events} as e(p, q, r)", "select k, v from {t.events}"),
    ("select k from {t.events} where v between 1 and 3", "select k from {t.events} where 3 >= v and 1 <= v"),
]
# What a careless reader takes for the same: the rows differ on some tables.
DIFFERENT_QUERIES = [
    (
        "select k, v from {t.events} union select k, x from {t.users}",
        "select k, v from {t.events} union all select k, x from {t.users}",
    ),
    (
        "select e.k, coalesce(u.x, 0) as x from {t.events} e left join {t.users} u using (k)",
        "select e.k, u.x from {t.events} e left join (select k, coalesce(x, 0) as x from {t.users}) u using (k)",
    ),
    (
        "select e.k, 1 as f from {t.events} e left join {t.users} u using (k)",
        "select e.k, u.f from {t.events} e left join (select k, 1 as f from {t.users}) u using (k)",
    ),
    (
        "select e.v from {t.events} e join {t.events} o on e.k = o.v",
        "select o.v from {t.events} e join {t.events} o on e.k = o.v",
    ),
    (
        "select k, n from (select k, count(*) over () as n from {t.events}) where k > 1",
        "select k, count(*) over () as n from (select k from {t.events}) where k > 1",
    ),
    (
        "select p.n from (select count(*) n from {t.events} where k > 1) p, (select count(*) n from {t.events}) q",
        "select q.n from (select count(*) n from {t.events} where k > 1) p, (select count(*) n from {t.events}) q",
    ),
    (
        "select p.n from (select count(*) n from {t.events}) p, (select count(*) n from {t.users}) q",
        "select q.n from (select count(*) n from {t.events}) p, (select count(*) n from {t.users}) q",
    ),
    (
        "select k, (select max(e.v) from {t.events} e where e.k = o.k) as m from {t.events} o",
        "select k, (select max(o.v) from {t.events} e where e.k = o.k) as m from {t.events} o",
    ),
    ("select k, count(*) as n from {t.events} group by k", "select k, count(v) as n from {t.events} group by k"),
    ("select k, max(v) as m from {t.events} group by k", "select k, max(v) as m from {t.events} group by k, w"),
    ("select k from {t.events} order by v limit 3", "select k from {t.events} order by w limit 3"),
    ("select distinct k from {t.events}", "select k from {t.events}"),
    (
        "select distinct on (k) k, v from {t.events} order by k, v",
        "select distinct on (k) k, v from {t.events} order by k, v desc",
    ),
    (
        "select k, sum(v) over (order by w) as s from {t.events}",
        "select k, sum(v) over (order by w rows between 1 preceding and current row) as s from {t.events}",
    ),
    (
        "select k from {t.events} where v = 1 and (w = 1 or k = 1)",
        "select k from {t.events} where (v = 1 and w = 1) or k = 1",
    ),
    ("select v - w as d from {t.events}", "select w - v as d from {t.events}"),
    ("select v from {t.events} where k < w", "select v from {t.events} where w < k"),
    ("select v from {t.events} using sample 10", "select v from {t.events}"),
    (
        "select e.k from {t.events} e semi join {t.users} u on e.k = u.k",
        "select e.k from {t.events} e anti join {t.users} u on e.k = u.k",
    ),
    (
        "select list(v) as l from (select v from {t.events} order by w)",
        "select list(v) as l from (select v from {t.events} order by k)",
    ),
    ("select x, y from (values (1, 2), (3, 4)) as t(x, y)", "select x, y from (values (1, 2), (4, 3)) as t(x, y)"),
    (
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select n from r",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 6) select n from r",
    ),
    ("select v as a, a + 1 as b from {t.events}", "select v + 1 as a, a + 1 as b from {t.events}"),
    ("select k, 1 as u from {t.events}", "select k, unnest([1, 1]) as u from {t.events}"),
    (
        "select e.k from {t.events} e left join {t.users} u on e.k = u.k where x > 1",
        "select e.k from {t.events} e left join {t.users} u on e.k = u.k and x > 1",
    ),
    (
        "select e.k from {t.events} e full join {t.users} u on e.k = u.k where v > 1",
        "select e.k from (select * from {t.events} where v > 1) e full join {t.users} u on e.k = u.k",
    ),
    (
        "select u.k from {t.events} e right join {t.users} u on e.k = u.k where v is null",
        "select u.k from (select * from {t.events} where v is null) e right join {t.users} u on e.k = u.k",
    ),
    (
        "select e.k, v from {t.events} e asof join {t.users} u on e.k >= u.k where x > 1",
        "select e.k, v from {t.events} e asof join (select * from {t.users} where x > 1) u on e.k >= u.k",
    ),
    (
        "select e.k from {t.events} e join {t.users} u on e.k = u.k",
        "select e.k from {t.events} e join {t.users} u on e.k = u.x",
    ),
    ("select coalesce(v, 0) as c from {t.events}", "select coalesce(0, v) as c from {t.events}"),
    ("select k from {t.events} where v in (1, 2)", "select k from {t.events} where v not in (1, 2)"),
    ("select k from {t.events} where v between 1 and 2", "select k from {t.events} where v between 2 and 1"),
    ("select v::varchar = 'A' as f from {t.events}", "select v::varchar = 'a' as f from {t.events}"),
    ("select cast(w as int) as c from {t.events}", "select try_cast(w as int) as c from {t.events}"),
    ("select k, sum(v) as s from {t.events} group by k", "select k, sum(distinct v) as s from {t.events} group by k"),
    ("select k, sum(v) as s from {t.events} group by k", "select k, sum(v) as s from {t.events} group by rollup (k)"),
    ("select list(v order by w) as l from {t.events}", "select list(v order by k) as l from {t.events}"),
    ("select v as k, k as v from {t.events}", "select k, v from {t.events}"),
    ("select {'a': k, 'b': v}.a as f from {t.events}", "select {'a': k, 'b': v}.b as f from {t.events}"),
    ("select e from (select k, v from {t.events}) e", "select e from (select k, v + 1 as v from {t.events}) e"),
    ("select count(e) as n from {t.events} e", "select count(e) as n from (select * from {t.events} where v > 1) e"),
    ("select now() + interval '7 days' as d from {t.events}", "select now() + interval '7 hours' as d from {t.events}"),
    ("select date_trunc('day', now()) as d from {t.events}", "select date_trunc('hour', now()) as d from {t.events}"),
    (
        "select k, v from {t.events} union all select v, k from {t.events}",
        "select k, v from {t.events} union all select k, v from {t.events}",
    ),
    (
        "select k, v from {t.events} union all by name select v, k from {t.events}",
        "select k, v from {t.events} union all select v, k from {t.events}",
    ),
    (
        "select k from {t.events} e where exists (select 1 from {t.users} u where u.k = e.k)",
        "select k from {t.events} e where exists (select 1 from {t.users} u where u.k = e.v)",
    ),
    (
        "select k, last_value(v ignore nulls) over (order by w) as l from {t.events}",
        "select k, last_value(v) over (order by w) as l from {t.events}",
    ),
    ("select v from {t.events} order by k limit 3", "select v from {t.events} order by k limit 3 offset 1"),
    (
        "select k from {t.events} e where v > (select max(x) from {t.users})",
        "select k from {t.events} e where v > (select min(x) from {t.users})",
    ),
    (
        "select e.k, e.v from {t.events} e, {t.events} f where e.k = f.v",
        "select e.k, f.v from {t.events} e, {t.events} f where e.k = f.v",
    ),
    (
        "select case when v > 1 then 1 when w > 1 then 2 end as c from {t.events}",
        "select case when w > 1 then 2 when v > 1 then 1 end as c from {t.events}",
    ),
    (
        "select k from {t.events} window o as (order by v) qualify row_number() over o = 1",
        "select k from {t.events} window o as (order by w) qualify row_number() over o = 1",
    ),
    (
        "select k from {t.events} e where exists (select 1 from {t.users} limit 0)",
        "select k from {t.events} e where exists (select 1 from {t.users})",
    ),
    (
        "select e.k, u.z from {t.events} e, lateral unnest([e.v, e.k]) as u(z)",
        "select e.k, u.z from {t.events} e, lateral unnest([e.k]) as u(z)",
    ),
    (
        "select e.k, z from {t.events} e left join lateral (select x as z from {t.users} where users.k = e.k) u on true",
        "select e.k, z from {t.events} e, lateral (select x as z from {t.users} where users.k = e.k) u",
    ),
    (
        "select k, sum(sum(v)) over (order by k) s from {t.events} group by k",
        "select k, sum(sum(v)) over (order by k desc) s from {t.events} group by k",
    ),
    (
        "select distinct k from (select k, v from {t.events} order by v limit 5)",
        "select distinct k from (select k, v from {t.events} limit 5)",
    ),
    (
        "select a.v from {t.events} a join {t.events} b on a.k = b.k where a.w > 1",
        "select a.v from {t.events} a join {t.events} b on a.k = b.k where b.w > 1",
    ),
    (
        "select b.v from {t.events} a join (select * from {t.events} where w > 1) b on a.k = b.k",
        "select b.v from (select * from {t.events} where w > 1) a join {t.events} b on a.k = b.k",
    ),
]


# Feature views, whose features have other names at times.
BASE = "select user_id, ordered_at as event_timestamp, sum(amount) as spent from {raw.orders} where kind = 'sale' group by user_id, ordered_at"
WINDOW = "select user_id, ordered_at as event_timestamp, sum(amount) over (partition by user_id order by ordered_at range between interval '7 days' preceding and current row) as spent from {raw.orders}"
JOINED = "select o.user_id, o.ordered_at as event_timestamp, u.age from {raw.orders} as o join {raw.users} as u on u.user_id = o.user_id and u.seen_at <= o.ordered_at"
MODELS = {
    "stg": "select user_id as buyer, ordered_at as at, amount as value, kind as sort, shop_id from {raw.orders}",
    "stg_users": "select user_id as person, age as years, seen_at from {raw.users}",
    "packed": "select user_id, ordered_at, kind, {'v': amount, 'w': order_id} as pack from {raw.orders}",
}

SALES = {"sales": "select * from {raw.orders} where amount > 100"}

# The same: (one view, the other).
SAME = {
    "as it is": (BASE, BASE),
    "another name": (BASE, BASE.replace("as spent", "as total")),
    "another alias and case": (
        BASE,
        "SELECT O.USER_ID, O.ORDERED_AT AS event_timestamp, SUM(O.AMOUNT) AS total FROM {raw.orders} AS O WHERE O.KIND = 'sale' GROUP BY 1, 2",
    ),
    "through CTEs": (
        BASE,
        "with s as (select * from {raw.orders}), f as (select user_id, ordered_at as event_timestamp, sum(amount) as spent from s where kind = 'sale' group by user_id, ordered_at) select * from f",
    ),
    "through a model that renames": (
        BASE,
        "select buyer as user_id, at as event_timestamp, sum(value) as spent from {stg} where sort = 'sale' group by buyer, at",
    ),
    "a filter in a CTE": (
        BASE,
        "with s as (select * from {raw.orders} as o where o.kind = 'sale') select s.user_id, s.ordered_at as event_timestamp, sum(s.amount) as total from s group by s.user_id, s.ordered_at",
    ),
    "two filters, each in a place of its own": (
        BASE.replace("kind = 'sale'", "amount > 0 and kind = 'sale'"),
        "with s as (select * from {raw.orders} where amount > 0) " + BASE.replace("{raw.orders}", "s"),
    ),
    "a filter in a model": (
        BASE.replace("kind = 'sale'", "amount > 100 and kind = 'sale'"),
        BASE.replace("{raw.orders}", "{sales}"),
    ),
    "a filter before a join": (
        JOINED + " where o.kind = 'sale'",
        JOINED.replace("{raw.orders} as o", "(select * from {raw.orders} where kind = 'sale') as o"),
    ),
    "literals written otherwise": (
        BASE.replace("amount", "amount * 1.5 + 100"),
        BASE.replace("amount", "(100 + 1.50 * amount)"),
    ),
    "an interval written otherwise": (WINDOW, WINDOW.replace("interval '7 days'", "interval 7 day")),
    "a cast written otherwise": (
        BASE.replace("amount", "cast(amount as double)"),
        BASE.replace("amount", "amount::DOUBLE"),
    ),
    "conditions in another order": (
        BASE.replace("kind = 'sale'", "kind = 'sale' and amount > 0"),
        BASE.replace("kind = 'sale'", "0 < amount and 'sale' = kind"),
    ),
    "between or two bounds": (
        BASE.replace("kind = 'sale'", "amount between 1 and 9"),
        BASE.replace("kind = 'sale'", "amount >= 1 and amount <= 9"),
    ),
    "a window": (WINDOW, WINDOW.replace("as spent", "as s7")),
    "a named window": (
        WINDOW,
        "select user_id, ordered_at as event_timestamp, sum(amount) over w as s7 from {raw.orders} window w as (partition by user_id order by ordered_at range between interval '7 days' preceding and current row)",
    ),
    "joined on and using": (
        "select o.user_id, o.ordered_at as event_timestamp, u.age from {raw.orders} as o join {raw.users} as u on u.user_id = o.user_id",
        "select user_id, ordered_at as event_timestamp, age as years from {raw.orders} join {raw.users} using (user_id)",
    ),
    "a join through models": (
        JOINED,
        "select o.buyer as user_id, o.at as event_timestamp, p.years from {stg} o inner join {stg_users} p on p.person = o.buyer and o.at >= p.seen_at",
    ),
    "count(*) and count(1)": (BASE.replace("sum(amount)", "count(*)"), BASE.replace("sum(amount)", "count(1)")),
    "a field of a struct": (
        BASE,
        "select user_id, ordered_at as event_timestamp, sum(pack.v) as spent from {packed} where kind = 'sale' group by user_id, ordered_at",
    ),
    "a union": (
        "select user_id, ordered_at as event_timestamp, amount from {raw.orders} union all select user_id, seen_at, age from {raw.users}",
        "with u as (select user_id, seen_at, age from {raw.users}), o as (select buyer, at, value from {stg}), b as (select * from o union all select * from u) select buyer as user_id, at as event_timestamp, value as v from b",
    ),
    "if and case": (
        BASE.replace("sum(amount)", "sum(if(kind = 'x', amount, 0))"),
        BASE.replace("sum(amount)", "sum(case when kind = 'x' then amount else 0 end)"),
    ),
}

# Near misses.
DIFFERENT = {
    "another column": (BASE, BASE.replace("sum(amount)", "sum(order_id)")),
    "another function": (BASE, BASE.replace("sum(amount)", "max(amount)")),
    "distinct": (BASE.replace("sum(amount)", "count(amount)"), BASE.replace("sum(amount)", "count(distinct amount)")),
    "another filter": (BASE, BASE.replace("'sale'", "'return'")),
    "no filter": (BASE, BASE.replace("where kind = 'sale'", "")),
    "another filter in a CTE": (BASE, "with s as (select * from {raw.orders} where amount > 0) " + BASE.replace("{raw.orders}", "s")),
    "another filter in a model": (BASE, BASE.replace("{raw.orders}", "{sales}")),
    "a filter before and after a window": (WINDOW + " where kind = 'sale'", "select user_id, event_timestamp, spent from (" + WINDOW.replace("select user_id", "select kind, user_id") + ") where kind = 'sale'"),
    "a filter before and after an outer join": (JOINED.replace("} as o join", "} as o left join") + " where u.country = 'NO'", JOINED.replace("} as o join", "} as o left join").replace("{raw.users} as u", "(select * from {raw.users} where country = 'NO') as u")),
    "having and a filter": (BASE.replace(" group by", " and amount > 1 group by"), BASE + " having sum(amount) > 1"),
    "an aggregate of an aggregate": (BASE, "select user_id, event_timestamp, sum(spent) as spent from (" + BASE + ") group by 1, 2"),
    "another filter of the aggregate": (BASE.replace("sum(amount)", "sum(amount) filter (where shop_id = 1)"), BASE.replace("sum(amount)", "sum(amount) filter (where shop_id = 2)")),
    "another group": (BASE, BASE.replace("group by user_id, ordered_at", "group by user_id, ordered_at, shop_id")),
    "another window": (WINDOW, WINDOW.replace("7 days", "30 days")),
    "another partition": (WINDOW, WINDOW.replace("partition by user_id", "partition by user_id, shop_id")),
    "another order": (WINDOW, WINDOW.replace("order by ordered_at", "order by ordered_at desc")),
    "another join condition": (JOINED, JOINED.replace(" and u.seen_at <= o.ordered_at", "")),
    "another kind of join": (JOINED, JOINED.replace("} as o join", "} as o left join")),
    "another literal": (BASE.replace("amount", "amount * 1.5"), BASE.replace("amount", "amount * 1.05")),
    "a whole number and a decimal": (BASE.replace("sum(amount)", "sum(amount) / 2"), BASE.replace("sum(amount)", "sum(amount) / 2.0")),
    "sides that may not change places": (BASE.replace("amount", "amount - order_id"), BASE.replace("amount", "order_id - amount")),
    "another cast": (BASE.replace("amount", "cast(amount as double)"), BASE.replace("amount", "cast(amount as integer)")),
    "one side of a table joined with itself": (
        "select l.user_id, l.ordered_at as event_timestamp, l.amount from {raw.orders} l join {raw.orders} r on l.user_id = r.user_id and l.ordered_at < r.ordered_at",
        "select l.user_id, l.ordered_at as event_timestamp, r.amount from {raw.orders} l join {raw.orders} r on l.user_id = r.user_id and l.ordered_at < r.ordered_at",
    ),
    "one of two subqueries": (
        "select o.user_id, o.ordered_at as event_timestamp, p.s from {raw.orders} o join (select shop_id, sum(amount) s from {raw.orders} where kind = 'a' group by 1) p using (shop_id) join (select shop_id, sum(amount) s from {raw.orders} where kind = 'b' group by 1) q using (shop_id)",
        "select o.user_id, o.ordered_at as event_timestamp, q.s from {raw.orders} o join (select shop_id, sum(amount) s from {raw.orders} where kind = 'a' group by 1) p using (shop_id) join (select shop_id, sum(amount) s from {raw.orders} where kind = 'b' group by 1) q using (shop_id)",
    ),
    "another event time": (BASE, BASE.replace("ordered_at as", "loaded_at as").replace("user_id, ordered_at", "user_id, loaded_at")),
    "union and union all": (
        "select user_id, ordered_at as event_timestamp, amount from {raw.orders} union all select user_id, seen_at, age from {raw.users}",
        "select user_id, ordered_at as event_timestamp, amount from {raw.orders} union select user_id, seen_at, age from {raw.users}",
    ),
    "a limit": (BASE, BASE + " order by amount limit 10"),
    "distinct rows": ("select user_id, ordered_at as event_timestamp, amount from {raw.orders}", "select distinct user_id, ordered_at as event_timestamp, amount from {raw.orders}"),
}  # fmt: skip
