"""Features that two views compute alike are found, whatever they are called on the way; near misses are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from materializer import FeatureStore
from materializer.catalog.lint import Finding, lint
from materializer.project.graph import Graph
from materializer.project.manifest import read_registry
from materializer.sql.reader import Reader
from materializer.sql.signature import Followed
from tests.support.chains import SOURCES as RANDOM_SOURCES
from tests.support.chains import executed, write_chain
from tests.support.dbt import make_project
from tests.support.hand_made import manifest_of

SOURCES = {
    "raw.orders": ["order_id", "user_id", "shop_id", "amount", "kind", "ordered_at", "loaded_at"],
    "raw.users": ["user_id", "country", "age", "seen_at"],
    "raw.shops": ["shop_id", "town", "seen_at"],
}
VIEW = {"meta": {"feature_view": {"entities": ["user_id"]}}}


def view(sql: str, **more: Any) -> dict[str, Any]:
    meta = {"entities": ["user_id"], **more}
    return {"sql": sql, "config": {"meta": {"feature_view": meta}}, "patch_path": None}


def found_in(models: dict[str, Any]) -> list[Finding]:
    manifest = manifest_of(models, SOURCES)
    views = read_registry(manifest).all_views()
    return [finding for finding in lint(manifest, views, Path("/nowhere")) if finding.rule == "duplicate"]


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


@pytest.mark.parametrize("case", SAME)
def test_the_same_feature_under_another_name_is_found(case: str) -> None:
    one, other = SAME[case]
    (finding,) = found_in(MODELS | SALES | {"first": view(one), "second": view(other)})
    assert (finding.rule, finding.severity, finding.view) == ("duplicate", "warning", "second")
    assert "'second:" in finding.message and "'first:" in finding.message


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_near_miss_is_not_found(case: str) -> None:
    one, other = DIFFERENT[case]
    assert found_in(MODELS | SALES | {"first": view(one), "second": view(other)}) == []


def test_the_entities_must_be_the_same_columns_in_any_order() -> None:
    sql = "select user_id, shop_id, ordered_at as event_timestamp, amount from {raw.orders}"
    both, turned = {"entities": ["user_id", "shop_id"]}, {"entities": ["shop_id", "user_id"]}
    assert len(found_in({"first": view(sql, **both), "second": view(sql, **turned)})) == 1
    assert found_in({"first": view(sql, **both), "second": view(sql)}) == []
    other_key = "select order_id as user_id, ordered_at as event_timestamp, amount from {raw.orders}"
    assert (
        found_in(
            {
                "first": view(other_key),
                "second": view("select user_id, ordered_at as event_timestamp, amount from {raw.orders}"),
            }
        )
        == []
    )


def test_versions_of_one_view_and_constants_are_left_alone() -> None:
    version = {"version": 1, "latest_version": 2}
    assert (
        found_in({"v.v1": {**view(BASE), **version}, "v.v2": {**view(BASE), "version": 2, "latest_version": 2}}) == []
    )
    constant = "select user_id, ordered_at as event_timestamp, 'x' as label from {raw.orders}"
    assert found_in({"first": view(constant), "second": view(constant)}) == []


def test_each_copy_is_told_once_and_names_the_first() -> None:
    found = found_in({"a": view(BASE), "b": view(BASE), "c": view(BASE)})
    assert [(finding.view, "'a:spent'" in finding.message) for finding in found] == [("b", True), ("c", True)]


def test_what_cannot_be_followed_is_like_no_other() -> None:
    broken = "select user_id, event_timestamp, gone from {raw.nobody_knows} join {raw.nobody_else} on true"
    assert found_in({"first": view(broken), "second": view(broken)}) == []


# Random chains of SELECTs.


@pytest.mark.parametrize("seed", range(15))
def test_columns_of_one_signature_hold_the_same_values_and_renaming_does_not_change_it(seed: int) -> None:
    chain = write_chain(seed)
    columns = {model: sorted(chain.relations[f"{{{model}}}"]) for model in chain.models}
    for model, names in columns.items():
        renamed = ", ".join(f"z.{name.upper()} as r_{name}" for name in names)
        chain.models[f"{model}_again"] = (
            f"with everything as ({chain.models[model]}) select {renamed} from everything as z"
        )
    followed = Followed(Reader(Graph(manifest_of(chain.models, RANDOM_SOURCES))))
    values = executed(chain, None)
    alike: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for model, names in columns.items():
        for name in names:
            pair = []
            for relation, column in ((model, name), (f"{model}_again", f"r_{name}")):
                query = followed.query(f"model.shop.{relation}")
                pair.append((query.columns[column].exact, query.rows))
                alike.setdefault(pair[-1], set()).add(tuple(map(repr, values[relation][column])))
            assert pair[0] == pair[1], (model, name, chain.models)
    assert all(len(different) == 1 for different in alike.values()), chain.models


# The package's windows, in every shape.

AGGREGATES = "[{'name': 'n', 'function': 'count'}, {'name': 'total', 'function': 'sum', 'expression': 'amount'}]"


def windows(aggregates: str = AGGREGATES, shape: str = "dense", windows: str = "['7 days']", more: str = "") -> str:
    return (
        "{{ feature_store.window_aggregates(relation=source('raw', 'orders'), entities='user_id', "
        f"timestamp='ordered_at', aggregates={aggregates}, windows={windows}, shape='{shape}'{more}) }}}}"
    )


WINDOWED = {
    "base": windows(),
    "other_shape": windows(shape="range"),
    "more_windows": windows(windows="['30 days', '7 days']"),
    "renamed": windows(AGGREGATES.replace("'total'", "'spent'").replace("'n'", "'orders'")),
    "staged": windows().replace("source('raw', 'orders')", "ref('staged_orders')").replace("ordered_at", "at").replace("'amount'", "'value'"),
    # Near misses of all of these, and of each other.
    "other_grain": windows(more=", grain='event'"),
    "every_day": windows(more=", grain={'every': '1 day'}"),
    "every_hour": windows(more=", grain={'every': '1 hour'}"),
    "late": windows(more=", created_timestamp='loaded_at'"),
    "other_entity": windows().replace("entities='user_id'", "entities=['user_id', 'shop_id']"),
    "filtered": windows(AGGREGATES.replace("}]", ", 'where': 'shop_id > 1'}]").replace("'count'}", "'count', 'where': 'shop_id > 1'}")),
    "other_column": windows("[{'name': 'total', 'function': 'sum', 'expression': 'shop_id'}]"),
    "other_function": windows("[{'name': 'total', 'function': 'avg', 'expression': 'amount'}]"),
    "of_sales": windows().replace("source('raw', 'orders')", "ref('sales')"),
}  # fmt: skip
GROUPS = {"base", "other_shape", "more_windows", "renamed", "staged"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    project = make_project(
        tmp_path_factory.mktemp("duplicates"),
        {
            "models/sources.yml": {"sources": [{"name": "raw", "schema": "main", "tables": [{"name": "orders"}]}]},
            "models/staged_orders.sql": "select user_id, ordered_at as at, amount as value from {{ source('raw', 'orders') }}",
            "models/sales.sql": "select * from {{ source('raw', 'orders') }} where kind = 'sale'",
            **{f"models/{name}.sql": sql for name, sql in WINDOWED.items()},
            "models/views.yml": {
                "models": [
                    {
                        "name": name,
                        "config": {
                            "meta": {"feature_view": {"entities": ["user_id"] + ["shop_id"] * (name == "other_entity")}}
                        },
                        "columns": [{"name": "n_7d", "description": "x", "data_type": "bigint"}],
                    }
                    for name in WINDOWED
                ]
            },
        },
    )
    with duckdb.connect(str(project.warehouse)) as warehouse:
        warehouse.execute(
            "create table orders as select 1::bigint user_id, 2::bigint shop_id, 3::bigint amount, 'sale' kind,"
            " now() ordered_at, now() loaded_at"
        )
    project.dbt("run", "--select", "staged_orders", "sales")
    project.dbt("compile")
    return [finding for finding in FeatureStore(project_dir=project.folder).lint() if finding.rule == "duplicate"]


def test_the_same_window_is_found_whatever_its_shape_its_name_and_the_windows_beside_it(found: list[Finding]) -> None:
    assert {finding.view for finding in found} == GROUPS - {"base"}
    assert all("'base:n_7d'" in finding.message or "'base:total_7d'" in finding.message for finding in found)
    assert len(found) == 2 * len(GROUPS - {"base"})


def test_a_finding_points_at_the_features_declaration(found: list[Finding]) -> None:
    places = {finding.message.split("'")[1]: (finding.file, finding.line) for finding in found}
    assert places["other_shape:n_7d"][0] == "models/views.yml" and places["other_shape:n_7d"][1] > 1
    assert places["other_shape:total_7d"] == ("models/other_shape.sql", 1)
