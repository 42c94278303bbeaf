"""`feature-store diff`: what it finds between two manifests, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore
from materializer.diff.result import Diff
from materializer.project.graph import Graph
from materializer.project.render import Relation
from materializer.sql.reader import Reader
from tests.support.command import assert_one_sentence, run
from tests.support.hand_made import manifest_of
from tests.support.manifests import bare_project, manifest, write_manifest
from tests.support.pairs import DIFFERENT, DIFFERENT_QUERIES, MODELS, SALES, SAME, SAME_QUERIES, SOURCES
from tests.support.rendered import Views

USERS = {"users": {"entities": ["user_id"]}}
STAGED = "select user_id, signed_up_at, age, country, amount from {{ source('raw', 'users') }}"
SQL = """
    with staged as (select * from {{ ref('stg_users') }}),
    known as (select user_id, signed_up_at, age, upper(country) as country, amount from staged where age > 0)
    select user_id, signed_up_at as event_timestamp, age, country, amount * 2 as spent from known
"""
# SQL that says the same as the above.
REWRITTEN = """
-- another head
WITH Source AS (SELECT * FROM {{ ref('stg_users') }})
, unused as (select 1 as one)
, grown_up AS (
    SELECT /* first */ source.USER_ID, "signed_up_at", source.Age, UPPER(Source.country) AS Country, (amount) AS total
    FROM source
    WHERE (0 < AGE)
)
SELECT g.user_id, g.signed_up_at event_timestamp, g.age AS age, g.country, (2 * g.total) AS spent
FROM grown_up AS g
ORDER BY 1
"""
TYPED = {"sql": SQL, "columns": {"age": "bigint", "country": "varchar"}}
SERVICE = {"ranking": ["users:age", "users:country"]}


def changed(sql: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in sql
        sql = sql.replace(old, new)
    return sql


def project(
    users: Any = SQL, views: Any = None, services: Any = None, staged: str = STAGED, **options: Any
) -> dict[str, Any]:
    """A manifest of one view over one staging model, with a model that is made from the view."""
    others = options.pop("others", {"training": "select user_id, age from {{ ref('users') }}"})
    models = {"stg_users": staged, **({"users": users} if users else {}), **others}
    return manifest(models, USERS if views is None else views, services, **options)


def compare(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> Diff:
    store = FeatureStore(bare_project(folder / "project"))
    return store.diff(
        write_manifest(folder / "old" / "manifest.json", old), write_manifest(folder / "new" / "manifest.json", new)
    )


def findings(found: Diff) -> list[str]:
    """A diff as short lines."""
    said = []
    for view in found.views:
        if view.change in ("added", "removed"):
            said.append(f"{view.change} {view.view}")
        said += [f"{view.view} {one.property}: {one.old} -> {one.new}" for one in view.properties]
        for one in view.features:
            above = "".join(f" in {cause.model}" for cause in one.causes)
            types = f" {one.old} -> {one.new}" if one.change == "retyped" else ""
            said.append(f"{one.change} {view.view}:{one.feature}{types}{above}")
        if view.rows:
            said.append(f"rows of {view.view}" + "".join(f" in {cause.model}" for cause in view.rows.causes))
        if view.text:
            said.append(f"text of {view.view}")
    said += [f"{one.change} service {one.service}" for one in found.services]
    said += [f"{move.name} means {move.new}, not {move.old}" for move in found.moves]
    return said + [f"breaks {one.service} by {one.reference}" for one in found.breaks]


def windows(*sizes: str, shape: str = "dense", function: str = "sum", staged: str = STAGED) -> dict[str, Any]:
    """A view that is a call of `window_aggregates`, compiled; its own text says that by the shape alone."""
    aggregates = [{"name": "total", "function": function, "expression": "amount", "where": "amount > 0"}]
    call = f"{{{{ my_windows({sizes}, {function!r}, var({shape!r})) }}}} -- of {{{{ ref('stg_users') }}}}"
    found = manifest({"stg_users": staged, "spending": call}, {"spending": {"entities": ["user_id"]}})
    events = Relation(found["nodes"]["model.shop.stg_users"]["relation_name"])
    sql = Views().sql("window_aggregates", events, "user_id", "signed_up_at", aggregates, list(sizes), shape=shape)
    return compiled_as(found, "spending", sql)


def compiled_as(found: dict[str, Any], model: str, sql: str) -> dict[str, Any]:
    found["nodes"][f"model.shop.{model}"]["compiled_code"] = sql
    return found


def named(found: dict[str, Any], identifier: str) -> dict[str, Any]:
    found["sources"]["source.shop.raw.users"]["identifier"] = identifier
    return found


def looped() -> dict[str, Any]:
    """No dbt writes such a manifest; reading it must end."""
    sql = "select user_id, event_timestamp, n from {{ ref('other') }}"
    return manifest({"users": sql, "other": "select * from {{ ref('users') }}"}, USERS)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": (project(), project(), []),
    "written otherwise": (project(), project(REWRITTEN), []),
    "in another schema": (project(), project(schema="dev"), []),
    "a feature's expression": (project(), project(changed(SQL, ("* 2", "* 3"))), ["redefined users:spent"]),
    "an expression in a CTE": (project(), project(changed(SQL, ("upper(", "lower("))), ["redefined users:country"]),
    "a feature that several are made of": (
        project(changed(SQL, ("amount * 2 as spent", "amount * 2 as spent, spent + 1 as more"))),
        project(changed(SQL, ("amount * 2 as spent", "amount * 3 as spent, spent + 1 as more"))),
        ["redefined users:more", "redefined users:spent"],
    ),
    "which rows": (project(), project(changed(SQL, ("age > 0", "age >= 0"))), ["rows of users"]),
    "a join": (
        project(), project(changed(SQL, ("from known", "from known join {{ source('raw', 'days') }} as d on d.day > 1"))),
        ["rows of users"],
    ),
    "the kind of a join": (
        project(changed(SQL, ("from known", "from known join staged using (user_id)"))),
        project(changed(SQL, ("from known", "from known left join staged using (user_id)"))),
        ["rows of users"],
    ),
    "what is grouped by": (
        project("select user_id, max(signed_up_at) as event_timestamp, count(*) as n from {{ ref('stg_users') }} group by user_id"),
        project("select user_id, max(signed_up_at) as event_timestamp, count(*) as n from {{ ref('stg_users') }} group by user_id, age"),
        ["rows of users"],
    ),
    "when a row is true": (
        project(), project(changed(SQL, ("signed_up_at as event_timestamp", "signed_up_at + interval 1 day as event_timestamp"))),
        ["rows of users"],
    ),
    "a column above": (
        project(), project(staged=changed(STAGED, ("age,", "age + 1 as age,"))),
        ["redefined users:age in stg_users", "rows of users in stg_users"],
    ),
    "a column above that decides no rows": (
        project(), project(staged=changed(STAGED, ("country,", "trim(country) as country,"))),
        ["redefined users:country in stg_users"],
    ),
    "a column above that no feature reads": (
        project(staged=changed(STAGED, ("amount", "amount, 1 as other"))),
        project(staged=changed(STAGED, ("amount", "amount, 2 as other"))),
        [],
    ),
    "two models above": (
        project(staged="select * from {{ ref('base') }}", others={"base": STAGED}),
        project(staged="select * from {{ ref('base') }}", others={"base": changed(STAGED, ("amount", "amount / 100 as amount"))}),
        ["redefined users:spent in base"],
    ),
    "the rows above": (project(), project(staged=STAGED + " where age < 99"), ["rows of users in stg_users"]),
    "the model above is written otherwise": (project(), project(staged=STAGED.upper().replace("{{ SOURCE('RAW', 'USERS') }}", "{{ source('raw', 'users') }}")), []),
    "a feature more": (project(), project(changed(SQL, ("age, country", "age, 7 as luck, country"))), ["added users:luck"]),
    "a feature less, which nobody uses": (
        project(services={"ranking": ["users:age"]}),
        project(changed(SQL, (", amount * 2 as spent", "")), services={"ranking": ["users:age"]}),
        ["removed users:spent"],
    ),
    "a feature less, which a service lists": (
        project(services=SERVICE), project(changed(SQL, (" age, country,", " country,")), services=SERVICE),
        ["removed users:age", "breaks ranking by users:age"],
    ),
    "a feature less, and less in the service's list": (
        project(services=SERVICE),
        project(changed(SQL, (" age, country,", " country,")), services={"ranking": ["users:country"]}),
        ["removed users:age", "changed service ranking", "breaks ranking by users:age"],
    ),
    "a declared type": (
        project(TYPED, services=SERVICE), project(TYPED | {"columns": {"age": "varchar", "country": "varchar"}}, services=SERVICE),
        ["retyped users:age bigint -> varchar", "breaks ranking by users:age"],
    ),
    "a type of another name": (project(TYPED), project(TYPED | {"columns": {"age": "int8", "country": "TEXT"}}), []),
    "a type that only one side knows": (project(), project(TYPED), []),
    "a type that the SQL says": (
        project(changed(SQL, (" age, country", " age::integer as age, country")), services=SERVICE),
        project(changed(SQL, (" age, country", " cast(age as bigint) as age, country")), services=SERVICE),
        ["retyped users:age int -> bigint", "redefined users:age", "breaks ranking by users:age"],
    ),
    "a type that the SQL says against a declared one": (
        project(TYPED), project(changed(SQL, (" age, country", " age::double as age, country"))),
        ["retyped users:age bigint -> double", "redefined users:age"],
    ),
    "what is declared of the view": (
        project(views={"users": {"entities": ["user_id"], "ttl": "7 days"}}),
        project(views={"users": {"entities": ["user_id"], "available_after": "1 hour", "created_timestamp": "spent", "online": False}}),
        ["users created_timestamp: None -> spent", "users available_after: None -> 1 hour", "users ttl: 7 days -> None", "users online: true -> false", "removed users:spent"],
    ),
    "a ttl in other words": (
        project(views={"users": {"entities": ["user_id"], "ttl": "7 days"}}),
        project(views={"users": {"entities": ["user_id"], "ttl": "1 week"}}),
        [],
    ),
    "the join keys": (
        project(services={"ranking": ["users:spent"]}),
        project(views={"users": {"entities": ["user_id", "country"]}}, services={"ranking": ["users:spent"]}),
        ["users entities: user_id -> user_id, country", "removed users:country", "breaks ranking by users:spent"],
    ),
    "the type of a join key": (
        project({"sql": SQL, "columns": {"user_id": "bigint"}}, services=SERVICE),
        project({"sql": SQL, "columns": {"user_id": "varchar"}}, services=SERVICE),
        ["users type of user_id: bigint -> varchar", "breaks ranking by users:age", "breaks ranking by users:country"],
    ),
    "the table of a source": (
        named(project(), "users_2024"), named(project(), "users_2025"), ["rows of users in raw.users"],
    ),
    "a view more": (
        project(), project(views=USERS | {"training": {"entities": ["user_id"]}}),
        ["added training"],
    ),
    "a view less": (
        project(services=SERVICE), project(None, views={}, others={}, services=SERVICE),
        ["removed users", "breaks ranking by users:age", "breaks ranking by users:country"],
    ),
    "a view less, and the service too": (
        project(services=SERVICE), project(None, views={}, others={}), ["removed users", "removed service ranking"]
    ),
    "a view less, and not in the service's list": (
        project(services=SERVICE), project(None, views={"training": {"entities": ["user_id"]}}, others={"training": SQL}, services={"ranking": ["training:age"]}),
        ["added training", "removed users", "changed service ranking", "breaks ranking by users:age", "breaks ranking by users:country"],
    ),
    "a service more": (project(), project(services=SERVICE), ["added service ranking"]),
    "a service more of what is not there": (
        project(), project(services={"ranking": ["users:age", "users:agee", "user:age"]}),
        ["added service ranking", "breaks ranking by users:agee", "breaks ranking by user:age"],
    ),
    "a service more of what got another type": (
        project(TYPED), project(TYPED | {"columns": {"age": "double"}}, services={"ranking": ["users:age"]}),
        ["retyped users:age bigint -> double", "added service ranking"],
    ),
    "a service that was wrong before": (
        project(services={"ranking": ["users:agee"]}), project(REWRITTEN, services={"ranking": ["users:agee"]}), []
    ),
    "a service that lists other features": (
        project(services=SERVICE), project(services={"ranking": ["users:age", "users:spent"]}), ["changed service ranking"]
    ),
    "only what is compiled differently": (
        project("select user_id, now() as event_timestamp, {{ var('n') }} as n from {{ ref('stg_users') }}"),
        project("select user_id, now() as event_timestamp, {{ var('n') }} + 1 as n from {{ ref('stg_users') }}"),
        ["redefined users:n"],
    ),
    "versions for a view that had none": (
        project(services=SERVICE),
        manifest(
            {"stg_users": STAGED, "users.v1": SQL, "users.v2": changed(SQL, (" age, country", " country"))}, USERS, SERVICE
        ),
        ["added users.v1", "removed users:age", "users means users.v2, not users", "breaks ranking by users:age"],
    ),
    "a new version that is not the latest yet": (
        manifest({"stg_users": STAGED, "users.v1": {"sql": SQL, "latest": 1}}, USERS, SERVICE),
        manifest(
            {"stg_users": STAGED, "users.v1": {"sql": SQL, "latest": 1}, "users.v2": {"sql": "select 1 as user_id", "latest": 1}},
            USERS, SERVICE,
        ),
        ["added users.v2"],
    ),
    "the latest version moves": (
        manifest({"stg_users": STAGED, "users.v1": {"sql": SQL, "latest": 1}, "users.v2": {"sql": changed(SQL, (" age,", "")), "latest": 1}}, USERS, {"bare": ["users:age"], "pinned": ["users.v1:age"]}),
        manifest({"stg_users": STAGED, "users.v1": SQL, "users.v2": changed(SQL, (" age,", ""))}, USERS, {"bare": ["users:age"], "pinned": ["users.v1:age"]}),
        ["users means users.v2, not users.v1", "breaks bare by users:age"],
    ),
    "no compiled SQL, written otherwise": (
        project(compiled=False), project("--x\n" + SQL.replace("select", "SELECT").replace(" ", "   "), compiled=False), []
    ),
    "no compiled SQL, changed": (project(compiled=False), project(changed(SQL, ("* 2", "* 3")), compiled=False), ["text of users"]),
    "compiled SQL on one side only": (project(), project(changed(SQL, ("* 2", "* 3")), compiled=False), ["text of users"]),
    "no compiled SQL, changed above": (
        project(compiled=False), project(staged=STAGED + " where true", compiled=False), ["rows of users in stg_users"]
    ),
    "SQL that cannot be read": (project("select (("), project("select (( 1"), ["text of users"]),
    "SQL that cannot be read, written otherwise": (project("select (("), project("SELECT ( ( -- ?"), []),
    "SQL that cannot be read above": (
        project(staged="select (("), project(staged="select (( 1"),
        ["redefined users:age in stg_users", "redefined users:country in stg_users", "redefined users:spent in stg_users", "rows of users in stg_users"],
    ),
    "a column above that is gone": (
        project(), project(staged=changed(STAGED, ("country, ", ""))), ["redefined users:country in stg_users"]
    ),
    "a window more": (
        windows("7 days", shape="range"), windows("7 days", "30 days"),
        ["added spending:total_30d", "rows of spending"],
    ),
    "a window's aggregate": (
        windows("7 days"), windows("7 days", function="avg"), ["redefined spending:total_7d"]
    ),
    "a window that the macro makes otherwise": (windows("7 days", shape="range"), windows("7 days"), []),
    "a window's events": (
        windows("7 days"), windows("7 days", staged=changed(STAGED, ("amount", "amount / 100 as amount"))),
        ["redefined spending:total_7d in stg_users"],
    ),
    "an incremental model that was compiled for its next run": (
        project({"sql": SQL + "{% if is_incremental() %} where 1 = 1 {% endif %}"}),
        compiled_as(project({"sql": SQL + "{% if is_incremental() %} where 1 = 1 {% endif %}"}), "users", "select 1 as user_id"),
        [],
    ),
    "a variable, so that the compiled SQL counts": (
        project(SQL + "-- {{ 1 }}\n limit {{ var('n') }}"),
        compiled_as(project(SQL + "-- {{ 1 }}\n limit {{ var('n') }}"), "users", "select user_id, signed_up_at as event_timestamp from x"),
        ["removed users:age", "removed users:country", "removed users:spent", "rows of users"],
    ),
    "a model that reads itself": (looped(), looped(), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_diff_finds_what_changed_and_nothing_else(case: str, tmp_path: Path) -> None:
    old, new, expected = CASES[case]
    assert sorted(findings(compare(tmp_path, old, new))) == sorted(expected)


def test_each_change_is_told_with_what_depends_on_it(tmp_path: Path) -> None:
    old = project(TYPED, services=SERVICE)
    new = project(TYPED | {"sql": changed(SQL, ("upper(", "lower(")), "columns": {"age": "double"}}, services=SERVICE)
    (view,) = compare(tmp_path, old, new).views
    age, country = view.features
    assert (age.change, age.dependents.services, age.dependents.models) == ("retyped", ("ranking",), ("training",))
    assert (country.change, country.dependents.services, country.dependents.models) == ("redefined", ("ranking",), ())
    assert (country.old, country.new) == ("UPPER(country)", "LOWER(country)")
    assert (view.dependents.services, view.dependents.models) == (("ranking",), ("training",))


def test_a_cause_above_names_the_model_the_column_and_both_expressions(tmp_path: Path) -> None:
    old = project(staged="select * from {{ ref('base') }}", others={"base": STAGED})
    new = project(
        staged="select * from {{ ref('base') }} where user_id <> 7",
        others={"base": changed(STAGED, ("amount", "amount / 100 as amount"))},
    )
    (view,) = compare(tmp_path, old, new).views
    (spent,) = view.features
    assert [(c.model, c.column, c.old, c.new) for c in spent.causes] == [
        ("base", "amount", "raw.users.amount", "amount / 100")
    ]
    assert view.rows is not None
    assert [(c.model, c.column, c.old, c.new) for c in view.rows.causes] == [
        ("stg_users", None, "", "where user_id <> 7")
    ]


def test_types_come_from_a_catalog_beside_the_manifest(tmp_path: Path) -> None:
    for side, kind in (("old", "BIGINT"), ("new", "DOUBLE")):
        columns = {name: {"type": kind} for name in ("user_id", "event_timestamp", "age", "country", "spent")}
        catalog = {"nodes": {"model.shop.users": {"columns": columns}}, "sources": {}}
        (tmp_path / side).mkdir()
        (tmp_path / side / "catalog.json").write_text(json.dumps(catalog))
    said = findings(compare(tmp_path, project("select (("), project("select ((")))
    assert said == [
        "users type of user_id: bigint -> double",
        "retyped users:age bigint -> double",
        "retyped users:country bigint -> double",
        "retyped users:spent bigint -> double",
    ]


def test_a_view_of_unknown_columns_is_compared_by_its_declared_features(tmp_path: Path) -> None:
    star = {"sql": "select * from {{ source('raw', 'users') }}", "columns": {"user_id": "bigint", "age": "bigint"}}
    found = compare(
        tmp_path, project(star), project(star | {"columns": {"user_id": "bigint", "age": "text", "size": "text"}})
    )
    assert findings(found) == ["added users:size", "retyped users:age bigint -> text"]
    assert found.notes == ("users: not all columns are known, so only declared features are compared.",)


def test_what_was_compared_as_text_is_said_once(tmp_path: Path) -> None:
    found = compare(tmp_path, project(TYPED, compiled=False), project(TYPED, staged="select 1", compiled=False))
    assert found.notes == (
        "users: not all columns are known, so only declared features are compared.",
        "users, stg_users: compared as text, since the manifest holds no compiled SQL of it.",
    )


# Versions of a view.


def versioned(folder: Path, **options: Any) -> FeatureStore:
    models = {
        "stg_users": STAGED,
        "users.v1": {"sql": SQL, "columns": {"age": "bigint"}},
        "users.v2": {
            "sql": changed(SQL, ("age, country, amount * 2", "age, 'x' as nick, amount * 3")),
            "columns": {"age": "integer"},
        },
        "training": "select age from {{ ref('users', v=1) }}",
    }
    services = {"bare": ["users:age", "users:spent"], "old": ["users.v1:country"], "new": ["users.v2:nick"]}
    (bare_project(folder) / "models").mkdir()
    for model in models:
        (folder / "models" / f"{model}.sql").write_text("")
    write_manifest(folder / "target" / "manifest.json", manifest(models, USERS, services))
    return FeatureStore(folder)


def test_versions_are_compared_as_if_the_services_of_the_old_one_moved(tmp_path: Path) -> None:
    store = versioned(tmp_path)
    found = store.diff("users.v1", "users.v2")
    expected = [
        "removed users:country", "added users:nick", "retyped users:age bigint -> integer", "redefined users:spent",
        "breaks bare by users:age", "breaks old by users.v1:country",
    ]  # fmt: skip
    assert findings(found) == expected
    assert found.views[0].dependents.services == ("old",) and found.views[0].dependents.models == ("training",)
    # The bare name, and what is left out, are the latest version.
    assert store.diff("users.v1", "users") == store.diff("users.v1") == found


def test_a_version_is_compared_with_a_view_only(tmp_path: Path) -> None:
    versioned(tmp_path)
    write_manifest(tmp_path / "other" / "manifest.json", project())
    for arguments, sentence in {
        ("users.v2",): "'users.v2' is the latest version already",
        ("users.v1", "other"): "'users.v1' is a feature view: it can only be compared with another",
        ("other", "users.v1"): "'users.v1' is a feature view: it can only be compared with another",
    }.items():
        ran = run("feature-store", "diff", *arguments, cwd=tmp_path)
        assert ran.code == 1 and sentence in ran.err and not ran.out
        assert_one_sentence(ran.err)


# The command.


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    """A project with two manifests in it: ``old`` and ``new``, between which everything happens."""
    bare_project(tmp_path)
    old = project(
        TYPED,
        services=SERVICE,
        others={"gone": "select 1 as user_id, now() as event_timestamp"},
        views=USERS | {"gone": {"entities": ["user_id"]}},
    )
    new = project(
        TYPED | {"sql": changed(SQL, ("upper(", "lower("), ("* 2 as spent", "as paid")), "columns": {"age": "double"}},
        services=SERVICE, views={"users": {"entities": ["user_id"], "ttl": "7 days"}}, staged=STAGED + " where true",
    )  # fmt: skip
    write_manifest(tmp_path / "old" / "manifest.json", old)
    write_manifest(tmp_path / "new" / "target" / "manifest.json", new)
    return tmp_path


def test_the_text_reads_view_by_view(sides: Path) -> None:
    ran = run("feature-store", "diff", "old", "new", cwd=sides)
    assert ran.code == 1
    assert (
        ran.out
        == """old -> new

- gone

~ users
    ~ ttl: none -> 7 days
    - spent
    + paid
    ~ age retyped: bigint -> double  (used by services: ranking; by models: training)
    ~ country redefined  (used by services: ranking)
        - UPPER(country)
        + LOWER(country)
    ~ rows changed, and with them all features of the view:
        stg_users: rows: nothing -> where TRUE
    used by services: ranking
    by models: training

Breaks service ranking: users:age: its type changed from bigint to double.
"""
    )


def test_json_has_the_same_with_stable_keys(sides: Path) -> None:
    ran = run(
        "feature-store",
        "diff",
        "--old-manifest",
        "old/manifest.json",
        "--new-manifest",
        "new",
        "--output",
        "json",
        cwd=sides,
    )
    assert ran.code == 1
    found = ran.json
    assert list(found) == ["old", "new", "views", "services", "moves", "breaks", "notes", "breaking", "redefined"]
    gone, users = found["views"]
    assert (gone["view"], gone["change"], gone["old"], gone["new"]) == ("gone", "removed", "gone", None)
    assert list(users) == [
        "view", "old", "new", "properties", "features", "rows", "text", "dependents", "values", "change"
    ]  # fmt: skip
    assert users["properties"] == [{"property": "ttl", "old": None, "new": "7 days"}]
    assert users["features"][2] == {
        "feature": "age", "change": "retyped", "old": "bigint", "new": "double", "causes": [],
        "dependents": {"services": ["ranking"], "models": ["training"]},
    }  # fmt: skip
    assert found["breaks"] == [
        {"service": "ranking", "reference": "users:age", "reason": "its type changed from bigint to double"}
    ]


@pytest.mark.parametrize(
    ("new", "codes"),
    [
        (project(services=SERVICE), {"breaking": 0, "redefined": 0, "any": 0}),
        (project(changed(SQL, ("* 2 as spent", "* 2 as spent, 1 as luck")), services=SERVICE), {"breaking": 0, "redefined": 0, "any": 1}),
        (project(changed(SQL, ("* 2", "* 3")), services=SERVICE), {"breaking": 0, "redefined": 1, "any": 1}),
        (project(changed(SQL, (" age, country", " country")), services=SERVICE), {"breaking": 1, "redefined": 1, "any": 1}),
    ],
    ids=["nothing", "added", "redefined", "breaks"],
)  # fmt: skip
def test_it_exits_with_1_where_a_service_breaks_or_on_what_is_asked_for(
    new: dict[str, Any], codes: dict[str, int], tmp_path: Path
) -> None:
    bare_project(tmp_path)
    write_manifest(tmp_path / "old" / "manifest.json", project(services=SERVICE))
    write_manifest(tmp_path / "new" / "manifest.json", new)
    assert run("feature-store", "diff", "old", "new", cwd=tmp_path).code == codes["breaking"]
    for fail_on, code in codes.items():
        assert run("feature-store", "diff", "old", "new", "--fail-on", fail_on, cwd=tmp_path).code == code


def test_what_cannot_be_read_is_said_in_one_sentence(sides: Path) -> None:
    (sides / "text.json").write_text("{")
    (sides / "list.json").write_text("[]")
    (sides / "empty").mkdir()
    other = project()
    other["metadata"]["dbt_schema_version"] = "https://schemas.getdbt.com/dbt/manifest/v99.json"
    write_manifest(sides / "later.json", other)
    write_manifest(sides / "wrong.json", project(views={"users": {"entity": "user_id"}}))
    for arguments, sentence in {
        (
            "nowhere",
        ): "'nowhere' is no feature view of the project (there are: none known), no manifest's path and not a git revision",
        ("text.json", "new"): "text.json is not a manifest of dbt's",
        ("list.json", "new"): "list.json is not a manifest of dbt's",
        ("later.json", "new"): "later.json is of schema version v99; this release reads v12",
        ("wrong.json", "new"): "In wrong.json: Model 'users': meta.feature_view has no key 'entity'",
        ("empty", "new"): "empty holds no manifest.json",
        ("--old-manifest", "empty", "new"): "There is no manifest at empty or in its target folder",
        ("--old-manifest", "nowhere.json"): "There is no manifest at nowhere.json",
        ("old",): "There is no manifest at",
    }.items():
        ran = run("feature-store", "diff", *arguments, cwd=sides)
        assert ran.code == 1 and sentence in ran.err and not ran.out, ran
        assert_one_sentence(ran.err)
    for arguments in (["old", "new", "more"], ["old", "--old-manifest", "old", "new"], ["old", "new", "--sample", "3"]):
        assert run("feature-store", "diff", *arguments, cwd=sides).code == 2


# The truths of the signature (tests/support/pairs.py).


def compared(folder: Path, *queries: str) -> Diff:
    """Two manifests of a view, by two queries; where these call their columns otherwise, they get the same names."""
    manifests = [manifest_of({"view": sql}, SOURCES) for sql in queries]
    columns = [Reader(Graph(one)).node("model.shop.view").columns for one in manifests]
    for found in manifests:
        node = found["nodes"]["model.shop.view"]
        node["config"] = {"meta": {"feature_view": {"entities": ["user_id"]}}}
        if columns[0] != columns[1]:
            names = ", ".join(["user_id", "event_timestamp", "feature"][: len(columns[0])])
            node["compiled_code"] = f"with given({names}) as ({node['compiled_code']}) select * from given"
    return compare(folder, *manifests)


def over_sources(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs that read no other model: a diff compares models one by one, and says where above a change is."""
    return [(one, two) for one, two in pairs if not any("{" + model in one + two for model in MODELS | SALES)]


@pytest.mark.parametrize(("one", "two"), over_sources([*SAME_QUERIES, *SAME.values()]))
def test_what_says_the_same_is_no_change(one: str, two: str, tmp_path: Path) -> None:
    assert compared(tmp_path, one, two).empty


@pytest.mark.parametrize(("one", "two"), over_sources([*DIFFERENT_QUERIES, *DIFFERENT.values()]))
def test_a_near_miss_is_a_change(one: str, two: str, tmp_path: Path) -> None:
    assert not compared(tmp_path, one, two).empty
