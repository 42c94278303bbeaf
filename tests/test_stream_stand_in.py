"""Compiled SQL over other relations: only their names are exchanged, and columns are called as before."""

from __future__ import annotations

import pytest

from materializer.stream.stand_in import stood_in

NAMES = {'"shop"."built"."purchases"': "_fs_model_0", '"shop"."built"."users"': "_fs_model_1"}
CASES = {
    "a relation has its name, where none is given": (
        'select purchases.*, user_id from "shop"."built"."purchases" where purchases.user_id > 1',
        'select purchases.*, user_id from _fs_model_0 as "purchases" where purchases.user_id > 1',
    ),
    "and keeps one that is": (
        'select p.n, u.n from "shop"."built"."purchases" p join "shop"."built"."users" as u using (user_id)',
        "select p.n, u.n from _fs_model_0 p join _fs_model_1 as u using (user_id)",
    ),
    "a CTE of its name is another thing": (
        'with users as (select 1 as n), purchases as (select * from "shop"."built"."purchases")\n'
        'select * from purchases, users, "shop"."built"."users" as there',
        'with users as (select 1 as n), purchases as (select * from _fs_model_0 as "purchases")\n'
        "select * from purchases, users, _fs_model_1 as there",
    ),
    "a column's long name becomes a short one": (
        'select "shop"."built"."users".n from "shop"."built"."users"',
        'select "users".n from _fs_model_1 as "users"',
    ),
    "in subqueries too": (
        'select * from a where n in (select n from "shop"."built"."users") and exists (select from shop.built.users)',
        'select * from a where n in (select n from _fs_model_1 as "users") and exists (select from _fs_model_1 as "users")',
    ),
    "without the database, as somebody may write it": (
        "select * from built.purchases",
        'select * from _fs_model_0 as "purchases"',
    ),
    "comments, texts and longer names stay; letters of all kinds do no harm": (
        "select 'né ☃' as \"ü\", '\"shop\".\"built\".\"users\"' as t -- \"shop\".\"built\".\"users\"\n"
        'from "shop"."built"."users_2", "shop"."built"."users", other.users, "shop"."Built"."users"',
        "select 'né ☃' as \"ü\", '\"shop\".\"built\".\"users\"' as t -- \"shop\".\"built\".\"users\"\n"
        'from "shop"."built"."users_2", _fs_model_1 as "users", other.users, "shop"."Built"."users"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_are_exchanged_and_nothing_else(case: str) -> None:
    sql, expected = CASES[case]
    assert stood_in(sql, NAMES, "postgres") == expected
