"""On-demand features: one SQL expression, in training sets by the warehouse and online by the reader, the same to the bit."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import DefinitionError, FeatureStore, FeatureStoreError, InputError, NotFoundError
from materializer.online.published import read_published
from materializer.project.meta import on_demand_of_view
from materializer.project.on_demand import on_demand_features
from materializer.warehouse.on_demand import type_of
from materializer.warehouse.on_demand_types import input_type
from tests.support.command import run
from tests.support.dbt import DbtFailed, DbtProject, make_project
from tests.support.expressions import REQUEST, STORED, expression, value
from tests.support.manifests import bare_project, manifest, write_models
from tests.test_serve import serving

NAMESPACE = "on_demand"
ROWS = 25
EXPRESSIONS = 40


# What an expression may say.

INPUTS = {
    **{name: input_type(dtype) for name, dtype in STORED.items()},
    **{name: input_type(dtype) for name, (_, dtype) in REQUEST.items()},
}


def type_said(sql: str) -> pa.DataType:
    """The type of an expression over the inputs."""
    declared = {"entities": ["key"], "on_demand": {"x": {"expression": sql}}}
    (feature,) = on_demand_features(on_demand_of_view("v", declared, "model"), "Model 'v'", lambda _, name: name)
    return type_of(feature.on_demand.sql, {name: INPUTS[name] for name in feature.on_demand.reads}, "x")


@pytest.mark.parametrize(
    ("sql", "dtype"),
    [
        ("dbl / nullif(big, 0)", pa.float64()),
        ("cast(big as double) / 3", pa.float64()),
        ("big + small * tiny", pa.int64()),
        ("dec * 1.5", pa.decimal128(12, 3)),
        ("case when txt = 'Oslo' then 1 else 0 end", pa.int32()),
        ("coalesce(txt, 'nobody') || '!'", pa.string()),
        ("extract(epoch from at) - extract(epoch from r_at)", pa.float64()),
        ("cast(floor(dbl) as bigint)", pa.int64()),
        ("cast(zoned as date)", pa.date32()),
        ("flag and at > timestamp '2024-01-31 12:00:00'", pa.bool_()),
        ("greatest(dbl, 0) between 1 and 2", pa.bool_()),
        ('"big" % 7', pa.int64()),
        ("least(at, r_at)", pa.timestamp("us")),
    ],
)
def test_an_expression_has_the_type_that_duckdb_gives_it(sql: str, dtype: pa.DataType) -> None:
    assert type_said(sql) == dtype


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("(select max(big) from other)", "uses 'max'"),
        ("(select 1)", "is not one value"),
        ("sum(big)", "uses 'sum', which is none of its functions: abs, asin, cast"),
        ("big over (order by at)", "uses 'over'"),
        ("now()", "uses 'now'"),
        ("random()", "uses 'random'"),
        ("round(dbl)", "uses 'round'"),
        ("lower(txt)", "uses 'lower'"),
        ("read_text('/etc/passwd')", "uses 'read_text'"),
        ("other.big", "has '.'"),
        ("*", "has `*`"),
        ("big -- all of it", "has '--'"),
        ("big; drop table x", "has ';'"),
        ("$1", "has '$'"),
        ("[big]", "has '['"),
        ("big::double", "has '::'"),
        ("cast(big as hugeint)", "a CAST is of type 'hugeint'; there are: bigint, integer"),
        ("'C:\\x'", "has a backslash"),
        ("extract(dow from at)", "takes 'dow' out of a moment"),
        ("big small", "has `big AS small`"),
        ("flag is true", "after IS only NULL"),
        ("at > timestamp '2024-02-30 00:00:00'", "a moment timestamp"),
        ("dbl / big", "divides by `big`, which may be 0, where engines differ: write nullif(big, 0)"),
        ("big % 0", "divides by `0`"),
        ("big / 2", "divides bigint and integer, where engines round differently: write cast(... as double)"),
        ("dec / nullif(dec, 0)", "divides decimal(10,2)"),
        ("dbl % 2", "a remainder of double"),
        ("power(dec, 2)", "which engines compute differently for decimal(10,2) and integer: write cast(... as double)"),
        (
            "coalesce(wide, 0.5)",
            "which brings together decimal(1,1) and decimal(38,0), more than 38 digits|more than 38 digits",
        ),
        ("sqrt(dec)", "which engines compute differently for decimal(10,2)"),
        ("cast(dbl as bigint)", "round it first, with floor(...) or ceil(...)"),
        ("cast(txt as double)", "a cast from varchar to double is not alike"),
        ("cast(dbl as varchar)", "a cast from double to text is not alike|a cast from double to varchar is not alike"),
        ("txt < 'm'", "in an order, and engines order them differently"),
        ("greatest(txt, 'a')", "in an order"),
        ("txt = big", "brings together bigint and varchar|Cannot compare"),
        ("at - r_at", "a length of time: count in seconds"),
        ("day + 1", "that takes numbers; of moments use extract"),
        ("big and flag", "for a condition"),
        ("txt || big", "for text"),
        ("extract(hour from day)", "there is no hour in date"),
        ("9223372036854775808", "which is HUGEINT"),
        ("null", "is always NULL"),
    ],
)
def test_what_is_not_alike_everywhere_is_refused_in_a_sentence(sql: str, sentence: str) -> None:
    with pytest.raises(DefinitionError) as error:
        type_said(sql)
    assert any(part in str(error.value) for part in sentence.split("|")), str(error.value)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ("x", "on_demand is 'x': write {name_of_feature"),
        ({"a": {"request": {}}}, "on_demand.a has no `expression`"),
        ({"a": {"expression": "1", "sql": "2"}}, "has no key 'sql'; its keys are expression, request, description"),
        ({"key": {"expression": "1"}}, "has the name of a join key or timestamp"),
        ({"a": {"expression": "key", "request": {"key": "bigint"}}}, "request field 'key', the name of a join key"),
        ({"a": {"expression": "b", "request": {"b": "float"}}}, "request field 'b' is of type 'float'; there are: bigint"),
        ({"a": {"expression": "1", "request": {"b": "double"}}}, "request field 'b' that its expression does not use"),
        ({"a": {"expression": "b", "request": {"b": "double"}}, "b": {"expression": "1"}}, "also the name of an on-demand"),
        ({"a": {"expression": "x", "request": {"x": "double"}}, "b": {"expression": "x", "request": {"x": "bigint"}}},
         "request field 'x' is bigint here and double in another feature"),
        ({"a:b": {"expression": "1"}}, "has a name that a feature cannot have"),
    ],
)  # fmt: skip
def test_a_declaration_that_is_not_one_is_refused(declared: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as error:
        on_demand_of_view("v", {"entities": ["key"], "on_demand": declared}, "model")
    assert sentence in str(error.value) and str(error.value).startswith("Model 'v': meta.feature_view.on_demand")


# A shop without dbt: two views, and a service over both.

ON_DEMAND = {
    "against_usual": {
        "expression": "amount / nullif(avg_order_value, 0)", "request": {"amount": "double"},
        "description": "How the amount compares.",
    },
    "is_local": {"expression": "city = 'Oslo'"},
    "seconds_since": {"expression": "extract(epoch from at) - 5", "request": {"at": "timestamp"}},
}  # fmt: skip
IN_SERVICE = {"share": {"expression": "price * qty / nullif(avg_order_value, 0)", "request": {"qty": "bigint"}}}
LISTED = ("users:avg_order_value", "users:against_usual", "items:price")
MOMENT = datetime(2024, 1, 2)


def declared_shop(users: dict[str, Any] | None = None, service: dict[str, Any] | None = None, **meta: Any) -> dict:
    """The manifest of the shop with these on-demand features."""
    usual = ON_DEMAND if users is None else users
    content = manifest(
        {
            "users": "select user_id, event_timestamp, avg(amount) as avg_order_value, max(city) as city "
            "from {{ source('raw', 'purchases') }} group by all",
            "items": "select item_id, event_timestamp, price from {{ source('raw', 'items') }}",
        },
        {"users": {"entities": ["user_id"], "on_demand": usual, **meta}, "items": {"entities": ["item_id"]}},
        {"pricing": list(LISTED)},
    )
    own = IN_SERVICE if service is None else service
    content["exposures"]["exposure.shop.pricing"]["config"]["meta"] |= {"on_demand": own} if own else {}
    return content


def in_folder(folder: Path) -> Path:
    """The shop's project with what dbt would have built."""
    with duckdb.connect(str(bare_project(folder) / "shop.duckdb")) as warehouse:
        warehouse.execute("""
            create table users as select * from (values
                (1::bigint, timestamptz '2024-01-01 00:00:00+00', 20.0::double, 'Oslo'),
                (2, timestamptz '2024-01-01 00:00:00+00', 0.0, null),
                (3, timestamptz '2020-01-01 00:00:00+00', 5.0, 'Oslo')
            ) as rows(user_id, event_timestamp, avg_order_value, city)
        """)
        warehouse.execute(
            "create table items as select 'a' as item_id, timestamp '2024-01-01' as event_timestamp, 9.5::decimal(10, 2) as price"
        )
    return write_models(folder, declared_shop())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return in_folder(tmp_path / "shop")


@pytest.fixture
def store(shop: Path, redis_url: str, namespace: str) -> FeatureStore:
    store = FeatureStore(shop, redis_url=redis_url, namespace=namespace)
    store.materialize()
    return store


def labels(**columns: list[Any]) -> dict[str, list[Any]]:
    count = len(next(iter(columns.values())))
    return {**columns, "event_timestamp": [MOMENT] * count}


def test_a_training_set_has_the_computed_feature_and_not_what_it_reads(store: FeatureStore) -> None:
    spine = labels(user_id=[1, 2, 99, None], amount=[10.0, 5.0, 1.0, 2.0])
    result = store.get_historical_features(spine, ["users:against_usual", "users:is_local"])
    assert result.to_arrow().to_pydict() == {
        **spine, "against_usual": [0.5, None, None, None], "is_local": [True, None, None, None],
    }  # fmt: skip
    assert 'try(_fs_spine."amount" / nullif(_fs_rows_users."avg_order_value", 0)) as "against_usual"' in result.sql


def test_a_service_gives_its_own_features_over_several_views(store: FeatureStore) -> None:
    spine = labels(user_id=[1, 2], item_id=["a", "a"], amount=[10.0, 5.0], qty=[4, 5])
    joined = store.get_historical_features(spine, "pricing").to_arrow()
    assert joined.column_names[5:] == ["avg_order_value", "against_usual", "price", "share"]
    assert joined["share"].to_pylist() == [1.9, None]
    rows = [{name: column[place] for name, column in spine.items()} for place in range(2)]
    online = store.get_online_features("pricing", rows).to_dict()
    assert {name: online[name] for name in joined.column_names[5:]} == joined.select(
        joined.column_names[5:]
    ).to_pydict()
    assert store.get_online_features(["pricing:share"], rows).to_dict()["share"] == [1.9, None]


def test_an_expression_sees_null_for_what_is_null_missing_or_too_old(
    shop: Path, redis_url: str, namespace: str
) -> None:
    known = {
        "known": {"expression": "city is not null"},
        "kept": {"expression": "coalesce(city, brought)", "request": {"brought": "varchar"}},
    }
    write_models(shop, declared_shop(known, {}, ttl="3000 days"))
    content = declared_shop(known, {}, ttl="1000 days")
    content["exposures"] = {}
    write_models(shop, content)
    with duckdb.connect(str(shop / "shop.duckdb")) as warehouse:
        warehouse.execute("update users set event_timestamp = now() - interval '1 hour' where user_id < 3")
        warehouse.execute("update users set event_timestamp = now() - interval '1001 days' where user_id = 3")
    store = FeatureStore(shop, redis_url=redis_url, namespace=namespace)
    store.materialize()
    users = [1, 2, 3, 99, None]
    rows = [{"user_id": user, "brought": "x"} for user in users]
    online = store.get_online_features(["users:city", "users:known", "users:kept"], rows).to_dict(include_statuses=True)
    assert online["city__status"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND", "NOT_FOUND"]
    assert online["known"] == [True, False, False, False, False]
    assert online["kept"] == ["Oslo", "x", "x", "x", "x"] and set(online["kept__status"]) == {"PRESENT"}
    spine = {"user_id": users, "brought": ["x"] * 5, "event_timestamp": [datetime.now()] * 5}
    joined = store.get_historical_features(spine, ["users:known", "users:kept"]).to_arrow()
    assert [joined[name].to_pylist() for name in ("known", "kept")] == [online["known"], online["kept"]]


def test_what_is_not_brought_or_of_another_type_is_one_sentence(store: FeatureStore) -> None:
    one = [{"user_id": 1}]
    with pytest.raises(
        InputError, match="Entity row 0 has no 'amount', a request field of on-demand features of 'users'"
    ):
        store.get_online_features(["users:against_usual"], one)
    with pytest.raises(InputError, match=r"Request field 'amount' is of type double, but 'dear' was given for it\."):
        store.get_online_features(["users:against_usual"], [{"user_id": 1, "amount": "dear"}])
    with pytest.raises(InputError, match="'amount' is of type double, but True was given"):
        store.get_online_features(["users:against_usual"], [{"user_id": 1, "amount": True}])
    with pytest.raises(
        InputError, match=r"entity_df has no column 'amount', a request field .*\(double\); it has: user_id"
    ):
        store.get_historical_features(labels(user_id=[1]), ["users:against_usual"])
    with pytest.raises(InputError, match="has no column 'amount'"):
        store.get_historical_features("select 1 as user_id, now() as event_timestamp", ["users:against_usual"])
    with pytest.raises(InputError, match="'amount' is of type double, but 'dear' was given"):
        store.get_historical_features(labels(user_id=[1], amount=["dear"]), ["users:against_usual"])
    with pytest.raises(InputError, match="'at' is of type timestamp, but 'now' was given"):
        store.get_online_features(["users:seconds_since"], [{"user_id": 1, "at": "now"}])
    with pytest.raises(NotFoundError, match="it has: avg_order_value, city, against_usual, is_local, seconds_since"):
        store.get_online_features(["users:unknown"], one)


@pytest.mark.parametrize(
    ("declared", "given", "seen"),
    [
        ("double", 7, 7.0),
        ("double", "0.1", 0.1),
        ("double", "nan", float("nan")),
        ("double", float("-inf"), float("-inf")),
        ("bigint", "007", 7),
        ("bigint", 7.0, 7),
        ("integer", 2**31 - 1, 2**31 - 1),
        ("varchar", 7, "7"),
        ("date", "2024-02-29", datetime(2024, 2, 29).date()),
        ("timestamp", "2024-02-29T01:00:00+01:00", datetime(2024, 2, 29)),
        ("boolean", "true", True),
        ("double", None, None),
        ("double", 2**53 + 1, InputError),
        ("bigint", 1.5, InputError),
        ("bigint", 2**63, InputError),
        ("integer", 2**31, InputError),
        ("date", "29.02.2024", InputError),
        ("boolean", 1, InputError),
        ("decimal(4, 1)", "1.25", InputError),
    ],
)
def test_a_request_field_is_of_its_type_exactly_or_refused(
    shop: Path, redis_url: str, namespace: str, declared: str, given: Any, seen: Any
) -> None:
    echo = {"echo": {"expression": "coalesce(brought, null)", "request": {"brought": declared}}}
    content = declared_shop(echo, {})
    content["exposures"] = {}
    write_models(shop, content)
    store = FeatureStore(shop, redis_url=redis_url, namespace=namespace)
    if seen is InputError:
        with pytest.raises(
            InputError, match=re.escape(f"Request field 'brought' is of type {declared.replace(' ', '')}, but")
        ):
            store.get_historical_features(pa_labels(given), ["users:echo"])
        return
    joined = store.get_historical_features(pa_labels(given), ["users:echo"]).to_arrow()
    assert repr(joined["echo"][0].as_py()) == repr(seen)


def pa_labels(given: Any) -> Any:
    """A spine of one row with an odd value, as a list of dicts has it."""
    return [{"user_id": 1, "event_timestamp": MOMENT, "brought": given}]


def test_a_changed_expression_reaches_readers_though_no_row_changed(store: FeatureStore, shop: Path) -> None:
    rows = [{"user_id": 1, "amount": 10.0}]
    reader = FeatureStore(redis_url=store._redis_url, namespace=store.namespace)
    assert reader.get_online_features(["users:against_usual"], rows).to_dict()["against_usual"] == [0.5]
    changed = {**ON_DEMAND, "against_usual": {**ON_DEMAND["against_usual"], "expression": "amount - avg_order_value"}}
    write_models(shop, declared_shop(changed))
    results = {one.view: one for one in store.materialize()}
    assert results["users"].rows_written == 0
    assert reader.get_online_features(["users:against_usual"], rows).to_dict()["against_usual"] == [-10.0]


def test_what_is_published_says_all_and_older_readers_see_stored_features_alone(store: FeatureStore) -> None:
    entry = json.loads(store._client.hget(f"{store.namespace}:registry", "users"))
    assert [feature["name"] for feature in entry["features"]] == ["avg_order_value", "city"]
    assert entry["on_demand"][0] == {
        "name": "against_usual", "type": "double", "description": "How the amount compares.",
        "expression": "amount / nullif(avg_order_value, 0)", "sql": '"amount" / nullif("avg_order_value", 0)',
        "request": {"amount": "DOUBLE"}, "reads": {"avg_order_value": "users:avg_order_value"},
    }  # fmt: skip
    registry = read_published(store._client, store.namespace).registry
    assert registry.service("pricing").references == (*LISTED, "pricing:share")
    entry["on_demand"][0]["request"] = ["amount"]
    store._client.hset(f"{store.namespace}:registry", "users", json.dumps(entry))
    with pytest.raises(NotFoundError, match="in a form that cannot be read: run `materialize`"):
        store.get_online_features(["users:city"], [{"user_id": 1}])


def test_what_is_published_reaches_no_file_and_an_engine_that_cannot_says_so(
    store: FeatureStore, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    key, entry = f"{store.namespace}:registry", json.loads(store._client.hget(f"{store.namespace}:registry", "users"))
    for sql in (f"(select a from read_csv('{secret}'))", "(select a from '/etc/passwd')", "unknown_function(1)"):
        entry["on_demand"][1]["sql"] = sql
        store._client.hset(key, "users", json.dumps(entry))
        store._client.set(f"{store.namespace}:_fs_revision", sql)
        with pytest.raises(
            FeatureStoreError, match=r"on-demand features 'users:is_local' cannot be computed here: \w+"
        ):
            store.get_online_features(["users:is_local"], [{"user_id": 1}])


def loaded_after(store: FeatureStore, features: list[str]) -> set[str]:
    code = f"""
import sys
from materializer import FeatureStore
store = FeatureStore(redis_url={store._redis_url!r}, namespace={store.namespace!r})
store.get_online_features({features!r}, [{{"user_id": 1, "amount": 1}}])
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_moment_is_read_in_utc_wherever_the_reader_runs(store: FeatureStore, shop: Path) -> None:
    with duckdb.connect(str(shop / "shop.duckdb")) as warehouse:
        warehouse.execute("alter table users add column seen timestamptz default timestamptz '2024-01-01 12:00:00+00'")
    hours = {"expression": "extract(hour from seen) * 100 + extract(hour from at)", "request": {"at": "timestamp"}}
    write_models(shop, declared_shop(users={**ON_DEMAND, "hours": hours}))
    store.materialize(full=True)
    code = f"""
from materializer import FeatureStore
at = "2024-01-02 03:30:00"
reader = FeatureStore(redis_url={store._redis_url!r}, namespace={store.namespace!r})
print(reader.get_online_features(["users:hours"], [{{"user_id": 1, "at": at}}]).to_dict()["hours"])
labels = [{{"user_id": 1, "event_timestamp": {MOMENT!r}, "at": at}}]
store = FeatureStore({str(shop)!r})
print(store.get_historical_features(labels, ["users:hours"]).to_arrow()["hours"].to_pylist())
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import datetime\n{code}"],
        env=os.environ | {"TZ": "Asia/Kolkata"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["[1203]", "[1203]"], done.stderr[-500:]


def test_a_reader_imports_duckdb_only_for_on_demand_features(store: FeatureStore) -> None:
    stored, computed = loaded_after(store, ["users:city"]), loaded_after(store, ["users:against_usual"])
    heavy = {"duckdb", "sqlglot", "jinja2", "dbt", "pandas"}
    assert "redis" in stored and not stored & heavy
    assert computed & heavy == {"duckdb"}


def test_without_duckdb_a_sentence_names_the_extra(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "materializer.warehouse.embedded", raising=False)
    with pytest.raises(FeatureStoreError, match=r"pip install 'dbt-feature-store\[on-demand\]'"):
        store.get_online_features(["users:is_local"], [{"user_id": 1}])
    assert store.get_online_features(["users:city"], [{"user_id": 1}]).to_dict()["city"] == ["Oslo"]


@pytest.mark.parametrize(
    ("users", "service", "sentence"),
    [
        ({"x": {"expression": "nobody + 1"}}, {}, "reads 'nobody', which is neither a request field"),
        ({"city": {"expression": "1"}}, {}, "has the name of a column of the view"),
        ({"x": {"expression": "city", "request": {"city": "varchar"}}}, {}, "which is also a column of the view"),
        ({}, {"x": {"expression": "city"}}, "reads 'city', which is neither a request field (it has none) nor a feature of the service"),
        ({}, {"price": {"expression": "1"}}, "which is also the name of the service's feature 'items:price'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_or_there_twice_is_one_sentence(
    shop: Path, users: Any, service: Any, sentence: str
) -> None:
    content = declared_shop(users, service)
    for exposure in content["exposures"].values():
        exposure["config"]["meta"]["features"] = ["items:price", "users:avg_order_value"]
    write_models(shop, content)
    store = FeatureStore(shop)
    feature = f"users:{next(iter(users))}" if users else "pricing"
    for ask in (
        lambda: store.get_historical_features(labels(user_id=[1], item_id=["a"]), feature if service else [feature]),
        lambda: store.get_feature_view("users") if users else store.get_feature_service("pricing"),
    ):
        with pytest.raises(DefinitionError) as error:
            ask()
        assert sentence in str(error.value)


def test_it_is_shown_listed_found_and_traced_like_any_other(shop: Path) -> None:
    def said(*args: str) -> str:
        done = run("feature-store", *args, "--project-dir", str(shop))
        assert done.code == 0, done.err
        return done.out

    shown = said("show", "users:against_usual")
    assert "expression:        amount / nullif(avg_order_value, 0)" in shown and "amount (double)" in shown
    as_json = json.loads(said("show", "users", "--output", "json"))["features"]
    assert [one["name"] for one in as_json if "on_demand" in one] == list(ON_DEMAND)
    assert json.loads(said("show", "pricing:share", "--output", "json"))["on_demand"]["reads"] == [
        "items:price",
        "users:avg_order_value",
    ]
    assert re.search("users:against_usual +double .*\npricing:share ", said("list", "features"), re.DOTALL)
    assert "users:against_usual" in said("search", "against usual")
    traced = said("lineage", "users:against_usual")
    assert "= amount / nullif(avg_order_value, 0)" in traced and "raw.purchases:amount  (source)" in traced
    assert "values from:     raw.items:price, raw.purchases:amount" in said("lineage", "pricing:share")
    down = said("lineage", "raw.purchases:amount", "--downstream")
    assert (
        "users:against_usual" in down and "pricing (users:against_usual)" in down and "pricing (pricing:share)" in down
    )


def test_a_diff_sees_a_changed_expression_as_a_changed_feature(shop: Path, tmp_path: Path) -> None:
    changed = {
        "against_usual": {**ON_DEMAND["against_usual"], "expression": "amount - avg_order_value"},
        "seconds_since": {"expression": "extract(epoch from at) - x", "request": {"at": "timestamp", "x": "double"}},
        "new": {"expression": "1"},
    }
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    for path, content in ((old, declared_shop()), (new, declared_shop(changed))):
        content["exposures"]["exposure.shop.pricing"]["config"]["meta"]["features"] += [
            "users:seconds_since",
            "users:is_local",
        ]
        path.write_text(json.dumps(content))
    found = FeatureStore(shop).diff(old, new)
    (view,) = found.views
    assert [(one.feature, one.change) for one in view.features] == [
        ("is_local", "removed"), ("new", "added"), ("seconds_since", "retyped"),
        ("against_usual", "redefined"), ("seconds_since", "redefined"),
    ]  # fmt: skip
    assert {one.reference: one.reason for one in found.breaks} == {
        "users:is_local": "the feature was removed from users",
        "users:seconds_since": "its request fields changed from at timestamp to at timestamp, x double",
    }
    assert FeatureStore(shop).diff(old, old).empty


def test_a_training_set_is_recorded_with_its_expressions(shop: Path, tmp_path: Path) -> None:
    store = FeatureStore(shop)
    spine = tmp_path / "labels.csv"
    spine.write_text(
        "user_id,item_id,event_timestamp,amount,qty\n1,a,2024-01-02 00:00:00,10,4\n2,a,2024-01-02 00:00:00,,5\n"
    )
    record = store.save_training_set(tmp_path / "set.parquet", spine, "pricing")
    assert [(one.feature, one.expression, one.request) for one in record.on_demand] == [
        ("users:against_usual", "amount / nullif(avg_order_value, 0)", {"amount": "DOUBLE"}),
        ("pricing:share", "price * qty / nullif(avg_order_value, 0)", {"qty": "BIGINT"}),
    ]
    assert pq.read_table(tmp_path / "set.parquet")["share"].to_pylist() == [1.9, None]
    assert store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet").same
    write_models(shop, declared_shop(service={"share": {**IN_SERVICE["share"], "expression": "price + qty"}}))
    with pytest.raises(
        FeatureStoreError,
        match=r"on-demand feature 'pricing:share' was `price .* and is now `price . qty` of qty bigint",
    ):
        store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet")


# Built by dbt: random expressions over random rows, four ways.


@pytest.fixture(scope="module")
def declared() -> dict[str, dict[str, Any]]:
    """Random expressions that are allowed, by the names of their features."""
    chance, found = random.Random(20_240_229), {}
    while len(found) < EXPRESSIONS:
        sql = expression(chance)
        try:
            type_said(sql)
        except DefinitionError:
            continue
        request = {name: kind for name, (kind, _) in REQUEST.items() if re.search(rf"\b{name}\b", sql)}
        found[f"x{len(found)}"] = {"expression": sql, "request": request}
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, declared: dict[str, Any]) -> DbtProject:
    folder, chance = tmp_path_factory.mktemp("on_demand") / "shop", random.Random(7)
    keys = list(range(ROWS))
    stored = {name: pa.array([value(chance, dtype) for _ in keys], dtype) for name, dtype in STORED.items()}
    moments = {"event_timestamp": pa.array([datetime(2024, 1, 1)] * ROWS, pa.timestamp("us"))}
    asked = [*keys, ROWS + 1, None]
    brought = {name: pa.array([value(chance, dtype) for _ in asked], dtype) for name, (_, dtype) in REQUEST.items()}
    at = {"event_timestamp": pa.array([MOMENT] * len(asked), pa.timestamp("us"))}
    folder.mkdir()
    pq.write_table(pa.table({"key": pa.array(keys, pa.int64()), **moments, **stored}), folder / "rows.parquet")
    pq.write_table(pa.table({"key": pa.array(asked, pa.int64()), **at, **brought}), folder / "labels.parquet")
    references = [f"typed:{name}" for name in declared]
    meta = {"feature_view": {"entities": ["key"], "on_demand": declared}}
    project = make_project(
        folder,
        {
            "models/typed.sql": f"{{{{ config(materialized='table') }}}} select * from '{folder}/rows.parquet'",
            "models/labels.sql": f"{{{{ config(materialized='table') }}}} select * from '{folder}/labels.parquet'",
            "models/training.sql": "{{ config(materialized='table') }}"
            f"{{{{ feature_store.point_in_time_join(ref('labels'), {references}) }}}}",
            "models/missing.sql": "{{ config(enabled=var('missing', false)) }}{{ feature_store.point_in_time_join("
            f"'select 1 as key, now() as event_timestamp', {references}) }}}}",
            "models/models.yml": {
                "models": [{"name": "typed", "config": {"meta": meta}, "data_tests": ["feature_store.feature_view"]}],
                "exposures": [
                    {
                        "name": "scoring",
                        "type": "ml",
                        "owner": {"name": "ML"},
                        "depends_on": ["ref('typed')"],
                        "config": {"meta": {"features": references}},
                    }
                ],
            },
        },
    )
    # What a profile may set: on-demand features mean the same.
    profile = folder / "profiles.yml"
    profile.write_text(
        profile.read_text().replace(
            "type: duckdb", "type: duckdb\n      settings: {TimeZone: Asia/Tokyo, default_collation: nocase}", 1
        )
    )
    project.dbt("build")
    return project


@pytest.fixture(scope="module")
def answers(built: DbtProject, declared: dict[str, Any], redis_url: str) -> Iterator[dict[str, pa.Table]]:
    """The same features of the same rows: built by dbt, by the SDK, online by the SDK, and by the server."""
    references = [f"typed:{name}" for name in declared]
    spine = pq.read_table(built.folder / "labels.parquet")
    rows = spine.drop_columns(["event_timestamp"]).to_pylist()
    store = FeatureStore(built.folder, redis_url=redis_url, namespace=NAMESPACE)
    store.materialize(feature_views=["typed"])
    with duckdb.connect(str(built.warehouse), read_only=True) as warehouse:
        by_dbt = warehouse.sql("select * from training").to_arrow_table()
    with serving(redis_url, namespace=NAMESPACE) as (client, _):
        yield {
            "dbt": by_dbt.select(list(declared)),
            "sdk": store.get_historical_features(spine, references).to_arrow().select(list(declared)),
            "online": FeatureStore(redis_url=redis_url, namespace=NAMESPACE).get_online_features(references, rows).to_arrow().select(list(declared)),
            "server": FeatureStore(url=str(client.base_url)).get_online_features(references, rows).to_arrow().select(list(declared)),
        }  # fmt: skip


def test_training_and_serving_agree_to_the_bit(answers: dict[str, pa.Table], declared: dict[str, Any]) -> None:
    def seen(table: pa.Table, name: str) -> list[str]:
        return [repr(one) for one in table[name].to_pylist()]

    present = 0
    for name, one in declared.items():
        truth = seen(answers["dbt"], name)
        present += sum(text != "None" for text in truth)
        for way, table in answers.items():
            assert table.schema.field(name).type == answers["dbt"].schema.field(name).type, (way, one)
            assert seen(table, name) == truth, (way, one)
    assert present > EXPRESSIONS * ROWS / 2


def test_dbt_stops_for_a_spine_without_a_request_field(built: DbtProject) -> None:
    with pytest.raises(
        DbtFailed, match=r"The spine has no column '\w+', a request field of feature 'typed:x\d+' \(\w+"
    ):
        built.dbt(
            "compile", "--vars", "{missing: true}", "--select", "missing", "--target-path", str(built.folder / "other")
        )


def test_the_expression_can_be_read_in_the_compiled_sql(built: DbtProject, declared: dict[str, Any]) -> None:
    compiled = built.compiled("training")
    assert all(f'as "{name}"' in compiled for name in declared) and 'as "dbl"' not in compiled


def test_the_registry_in_sql_has_the_expression(built: DbtProject, declared: dict[str, Any]) -> None:
    query = (
        "select feature, expression from feature_store_registry where feature_view = 'typed' and expression is not null"
    )
    with duckdb.connect(str(built.warehouse), read_only=True) as warehouse:
        assert dict(warehouse.sql(query).fetchall()) == {name: one["expression"] for name, one in declared.items()}


# Over HTTP.


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[httpx.Client]:
    shop = in_folder(tmp_path_factory.mktemp("served") / "shop")
    FeatureStore(shop, redis_url=redis_url, namespace="priced").materialize()
    with serving(redis_url, namespace="priced") as (client, _):
        yield client


def test_request_fields_come_beside_the_entities_or_among_them(client: httpx.Client) -> None:
    entities, brought = (
        [{"user_id": 1, "item_id": "a"}, {"user_id": 2, "item_id": "a"}],
        [{"amount": 10, "qty": 4}, {"amount": 5, "qty": None}],
    )
    apart = client.post(
        "/v1/features", json={"service": "pricing", "entities": entities, "request": brought, "statuses": True}
    )
    assert apart.json()["rows"] == [[20.0, 0.5, "9.50", 1.9], [0.0, None, "9.50", None]]
    assert apart.json()["statuses"][1] == ["PRESENT", "NULL_VALUE", "PRESENT", "NULL_VALUE"]
    among = [entity | one for entity, one in zip(entities, brought, strict=True)]
    assert (
        client.post("/v1/features", json={"service": "pricing", "entities": among}).json()["rows"]
        == apart.json()["rows"]
    )


def test_feasts_protocol_has_request_fields_among_the_entities_and_not_in_the_answer(client: httpx.Client) -> None:
    body = {"features": ["users:against_usual"], "entities": {"user_id": [1, 2], "amount": [10, 5]}}
    answer = client.post("/get-online-features", json=body).json()
    assert answer["metadata"]["feature_names"] == ["user_id", "against_usual"]
    assert answer["results"][1]["values"] == [0.5, None]
    assert answer["results"][1]["statuses"] == ["PRESENT", "NULL_VALUE"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"entities": [{"user_id": 1, "item_id": "a", "amount": 5}]}, 422, "has no 'qty', a request field"),
        ({"entities": [{"user_id": 1, "item_id": "a", "amount": "x", "qty": 1}]}, 422, "'amount' is of type double, but 'x' was given"),
        ({"entities": [{"user_id": 1, "item_id": "a"}], "request": []}, 400, "`request` has 0 rows and `entities` has 1"),
        ({"entities": [{"user_id": 1, "item_id": "a", "qty": 1}], "request": [{"qty": 1}]}, 400, "'qty' in both"),
        ({"entities": [{"user_id": 1, "item_id": "a"}], "request": [1]}, 400, "not of the form"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_one_sentence(client: httpx.Client, body: dict, status: int, sentence: str) -> None:
    answer = client.post("/v1/features", json={"service": "pricing", **body})
    assert answer.status_code == status and sentence in answer.json()["error"]["message"]


def test_a_service_describes_what_has_to_be_brought(client: httpx.Client) -> None:
    schema = client.get("/v1/services/pricing").json()
    assert schema["features"] == [*LISTED, "pricing:share"]
    row = schema["request"]["properties"]["request"]["items"]
    assert sorted(row["required"]) == ["amount", "qty"] and row["properties"]["qty"] == {"type": ["integer", "null"]}
    assert "request" in schema["request"]["required"]
    assert schema["answer"]["properties"]["rows"]["items"]["minItems"] == 4
    (computed, *_) = client.get("/v1/views/users").json()["on_demand"]
    assert computed["expression"] == "amount / nullif(avg_order_value, 0)" and computed["request"] == {
        "amount": "double"
    }


def test_the_sdk_brings_nan_to_a_server(client: httpx.Client) -> None:
    store = FeatureStore(url=str(client.base_url))
    rows = [{"user_id": 1, "amount": number} for number in (float("nan"), float("inf"), 1, None)] + [
        {"user_id": float("nan"), "amount": 1}
    ]
    assert list(map(repr, store.get_online_features(["users:against_usual"], rows).to_dict()["against_usual"])) == [
        "nan",
        "inf",
        "0.05",
        "None",
        "None",
    ]
