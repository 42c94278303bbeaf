"""Catalog documents made by hand, in the shape of `docs/catalog-document.md`: every state that the page knows."""

from __future__ import annotations

from typing import Any

BUILT_AT = "2026-11-27T06:44:37.000000Z"
NEWEST = "2026-11-27T05:44:37.000000Z"
SCRIPT = "Spent on <script>document.title='taken'</script> & <b>more</b>."
LONG = "customer_cross_channel_marketing_attribution_last_touch_weighted_by_recency_only"

Document = dict[str, Any]


def project(**changes: Any) -> Document:
    return {
        "name": "shop", "target": "dev", "namespace": "shop.dev", "warehouse": "duckdb", "dbt": "1.11.16", "tool": "x",
        "revision": "630bf48", "dirty": False, "built_at": BUILT_AT, "manifest_at": BUILT_AT, "light": False,
        "serve": "http://127.0.0.1:6566", **changes,
    }  # fmt: skip


def numbers(rows: int = 1000, nulls: int = 20) -> Document:
    counts = [5, 9, 20, 33, 50, 66, 80, 90, 92, 88, 80, 70, 60, 50, 44, 35, 28, 20, 15, 11, 8, 6, 5, 3]
    return {
        "kind": "float", "row_count": rows, "null_count": nulls, "null_fraction": nulls / rows, "nan_count": 0, "infinite_count": 0,
        "distinct_count": 430, "minimum": 1.5, "maximum": 1034.2, "mean": 44.9, "stddev": 30.9, "mean_norm": None,
        "p01": 7.7, "p05": 16.0, "p25": 30.9, "p50": 40.4, "p75": 50.2, "p95": 86.0, "p99": 161.2,
        "histogram": [[1.5, 500, 970], [500, 1034.2, 10]], "core": {"from": 7.7, "to": 161.2, "below": 6, "above": 6, "counts": counts},
        "top_values": [[38.72, 17], [4.99, 13]],
    }  # fmt: skip


def texts(rows: int = 1000) -> Document:
    return {
        "kind": "text", "row_count": rows, "null_count": 0, "null_fraction": 0.0, "nan_count": 0, "infinite_count": 0, "distinct_count": 8,
        "minimum": "", "maximum": "toys", "core": None, "histogram": None, "top_values": [["clothing", 500], ["", 300], ["toys", 150]],
    }  # fmt: skip


def vectors(rows: int = 1000) -> Document:
    return {"kind": "list", "row_count": rows, "null_count": 0, "null_fraction": 0.0, "distinct_count": None, "minimum": "128", "maximum": "128", "mean_norm": 1.0, "core": None, "top_values": None}  # fmt: skip


def drift(index: float | None, verdict: str) -> Document:
    return {
        "population_stability_index": index, "jensen_shannon_divergence": 0.01, "null_change": 0.0, "rows_before": 100, "rows_now": 110,
        "null_fraction_before": 0.0, "null_fraction_now": 0.01, "verdict": verdict,
    }  # fmt: skip


def history(days: int = 8) -> list[Document]:
    return [
        {"period": f"2026-11-{20 + day}", "rows": 100 + day, "null_fraction": 0.01 * day, "mean": 44.0 + day, "distinct": 40, "p05": 10.0, "p50": 40.0 + day, "p95": 90.0}
        for day in range(days)
    ]  # fmt: skip


def feature(name: str, dtype: str = "double", **more: Any) -> Document:
    return {
        "name": name, "type": dtype, "arrow_type": dtype, "description": f"What {name} means.", "on_demand": None,
        "statistics": numbers(), "history": [], "drift": drift(0.02, "stable"), **more,
    }  # fmt: skip


def view(name: str, features: list[Document], **more: Any) -> Document:
    entities = more.pop("entities", ["user_id"])
    return {
        "name": name, "model": name, "version": None, "latest": True, "versions": None, "description": f"All about {name}.",
        "owner": {"group": "growth", "name": "Growth team", "email": "growth@shop.example"}, "tags": ["core"], "entities": entities,
        "timestamp": "event_timestamp", "created_timestamp": None, "available_after_seconds": None, "ttl_seconds": 86400,
        "warn_after_seconds": None, "error_after_seconds": None, "relation": f"shop.main.{name}", "file": f"models/{name}.sql", "materialized": "table",
        "contract": True, "sql": f"select\n    user_id,\n    {features[0]['name'] if features else '1'}\nfrom stg", "compiled": "select 1 as compiled_here",
        "reads": ["stg_purchases"], "used_by": [], "problem": None, "status": "success", "built_at": BUILT_AT,
        "tests": [{"name": "feature_store.feature_view", "column": None, "kind": "data", "arguments": {}, "status": "pass", "failures": 0, "seconds": 0.1}],
        "freshness": {"status": "pass", "reason": "", "rows": 1000, "entities": 200, "expired_entities": 3, "newest_event": NEWEST, "newest_load": None},
        "online": {"wanted": True, "published": True, "status": "pass", "reason": "", "rows": 200, "newest_event": NEWEST, "last_run": NEWEST, "seconds": 1.5, "error": None, "key": f"shop.dev:{name}:"},
        "features": features, **more,
    }  # fmt: skip


def full(wide: int = 300) -> Document:
    """A catalog with something in every state, and a view of `wide` features."""
    spent = feature("spent_7d", history=history(), description=SCRIPT)
    moved = feature("orders_7d", "bigint", drift=drift(0.18, "moved"))
    gone = feature("segment", "varchar", statistics=texts(), drift=drift(0.4, "drifted"))
    ratio = feature(
        "ratio", statistics=None, drift=None,
        on_demand={"expression": "amount / nullif(spent_7d, 0)", "request": {"amount": "double"}, "reads": ["user_features:spent_7d"]},
    )  # fmt: skip
    embedding = feature("embedding", "float[128]", statistics=vectors(), drift=None, description="")
    never = {"wanted": True, "published": False, "status": "error", "reason": "it was never materialized", "rows": 0, "newest_event": None, "last_run": None, "seconds": None, "error": None, "key": "shop.dev:stale_features:"}  # fmt: skip
    unknown = {"status": "unknown", "reason": "", "rows": None, "entities": None, "expired_entities": None, "newest_event": None, "newest_load": None}  # fmt: skip
    views = [
        view("item_features", [feature("price", "decimal(10,2)")], entities=["item_id"], owner=None, description="", tests=[], tags=[], online={"wanted": False}),
        view(LONG, [feature(f"{LONG}_share")], entities=["user_id", "campaign_id"], tags=["pii", "team=growth"]),
        view("broken_features", [feature("lost", statistics=None, drift=None)], problem="The compiled SQL cannot be read: line 14, expected a table name", freshness=unknown, sql=None, compiled=None),
        view(
            "stale_features", [feature("old")], online=never,
            freshness={"status": "error", "reason": "the newest event is 6 d old; error_after is 2 d", "rows": 10, "entities": 5, "expired_entities": 5, "newest_event": "2026-11-21T05:44:37Z", "newest_load": None},
        ),
        view("user_features", [spent, moved, gone, embedding, ratio], used_by=[{"kind": "service", "name": "checkout"}, {"kind": "training set", "name": "training_set"}], tests=[
            {"name": "not_null", "column": "spent_7d", "kind": "data", "arguments": {}, "status": "fail", "failures": 12, "seconds": 0.1},
            {"name": "feature_store.feature_view", "column": None, "kind": "data", "arguments": {}, "status": "pass", "failures": 0, "seconds": 0.1},
        ]),
        view("user_features.v1", [feature("spent_7d")], model="user_features", version="1", latest=False, versions=[
            {"name": "user_features.v1", "version": "1", "latest": False, "file": "a.sql"}, {"name": "user_features", "version": "2", "latest": True, "file": "b.sql"},
        ]),
        view("wide_features", [feature(f"count_{n:03}_of_something", "bigint") for n in range(wide)]),
    ]  # fmt: skip
    columns = {
        "stg_purchases:amount": {"steps": [], "values": ["raw.purchases:amount"], "counts": [], "rows": None},
        "stg_purchases:user_id": {"steps": [], "values": ["raw.purchases:user_id"], "counts": [], "rows": None},
        "user_features:spent_7d": {"steps": [["spent_7d", "sum(amount) over 7 days", None]], "values": ["stg_purchases:amount"], "counts": [], "rows": 0},
        "user_features:orders_7d": {"steps": [["orders_7d", "COALESCE(counted.n, 0)", None], ["n", "count(*)", "counted"]], "values": [], "counts": ["stg_purchases"], "rows": 0},
        "user_features:segment": {"steps": [], "values": ["stg_purchases:amount"], "counts": [], "rows": 0},
        "user_features:ratio": {"steps": [["ratio", "amount / nullif(spent_7d, 0)", None]], "values": ["user_features:spent_7d"], "counts": [], "rows": None},
        "training_set:spent_7d": {"steps": [], "values": ["user_features:spent_7d"], "counts": [], "rows": None},
        "broken_features:lost": {"steps": [], "values": [], "counts": [], "rows": None, "problem": "the SQL cannot be read"},
    }  # fmt: skip
    return {
        "format": 1, "project": project(),
        "entities": [{"name": name, "type": "int64", "description": f"One {name}.", "views": [one["name"] for one in views if name in one["entities"]]} for name in ("campaign_id", "item_id", "user_id")],
        "views": views,
        "services": [
            {"name": "checkout", "label": "Checkout", "description": "What is read when an order is placed.", "owner": {"group": None, "name": "Growth team", "email": "g@shop.example"}, "maturity": "high", "tags": [], "features": ["user_features:spent_7d", "user_features:ratio", "stale_features:old"], "on_demand": [], "file": "models/exposures.yml", "url": None},
            {"name": "nothing_left", "label": "", "description": "", "owner": None, "maturity": None, "tags": [], "features": ["removed_features:x"], "on_demand": [], "file": "models/exposures.yml", "url": None},
        ],
        "sources": [{"name": "raw.purchases", "description": "One row a purchase.", "location": "raw/purchases.parquet", "columns": [{"name": name, "type": "bigint", "description": ""} for name in ("user_id", "amount", "unused")], "rows": 31491, "newest_load": "2026-11-24T06:44:37Z", "loaded_at": "loaded_at", "warn_after_seconds": 86400, "error_after_seconds": 604800, "file": "models/sources.yml", "used_by": [{"kind": "model", "name": "stg_purchases"}], "tags": []}],
        "models": [
            {"name": "stg_purchases", "description": "Purchases, typed.", "kind": "model", "file": "models/stg_purchases.sql", "materialized": "view", "relation": "shop.main.stg_purchases", "columns": [{"name": name, "type": "bigint", "description": "It is that."} for name in ("user_id", "amount")], "sql": "select * from raw", "compiled": None, "reads": ["raw.purchases"], "used_by": [{"kind": "view", "name": "user_features"}], "tests": [], "status": "success", "problem": None, "tags": [], "owner": None},
            {"name": "training_set", "description": "", "kind": "training set", "file": "models/training_set.sql", "materialized": "table", "relation": "shop.main.training_set", "columns": [{"name": "spent_7d", "type": "double", "description": ""}], "sql": "select 1", "compiled": None, "reads": ["user_features"], "used_by": [], "tests": [], "status": "error", "problem": "It failed", "tags": [], "owner": None},
        ],
        "training_sets": [
            {"name": "sets/early.csv", "made_at": "2026-10-01T10:00:00Z", "target": "dev", "rows": 1, "revision": None, "dirty": None, "features": ["user_features:spent_7d"]},
            {"name": "sets/late.parquet", "made_at": "2026-11-20T10:00:00Z", "target": "dev", "rows": 1200, "revision": "630bf48aaaaa", "dirty": True, "features": ["user_features:spent_7d", "item_features:gone"]},
        ],
        "columns": columns, "row_sets": [["stg_purchases:user_id"]],
        "findings": [
            {"severity": "error", "kind": "build", "ref": "broken_features", "what": "The compiled SQL cannot be read: line 14, expected a table name", "mend": "m", "owner": "growth", "file": "models/broken_features.sql"},
            {"severity": "error", "kind": "freshness", "ref": "stale_features", "what": "the newest event is 6 d old", "mend": "m", "owner": "growth", "file": "models/stale_features.sql"},
            {"severity": "warn", "kind": "duplicate", "ref": "user_features:segment", "what": "it computes the same as `user_features.v1:spent_7d`", "other": "user_features.v1:spent_7d", "mend": "m", "owner": None, "file": "models/user_features.sql"},
        ],
        "checks": [{"name": name, "what": f"what {name} looks at", "count": 7, "at": BUILT_AT, "problem": problem} for name, problem in (("freshness", None), ("lint", None), ("drift", None), ("build", None), ("online", "Redis could not be reached"))],
        "remedies": {"build": "Build it: `dbt build -s <name>`.", "freshness": "Look at the last dbt build.", "duplicate": "Keep one of them."},
    }  # fmt: skip


def nothing() -> Document:
    """A project without a feature view."""
    return {
        **full(),
        "entities": [],
        "views": [],
        "services": [],
        "models": [],
        "training_sets": [],
        "columns": {},
        "row_sets": [],
        "findings": [],
        "checks": [],
    }


def in_order() -> Document:
    """A catalog in which nothing was found: one view, fresh and online."""
    document = full()
    return {
        **document, "findings": [], "services": [], "row_sets": [["stg_purchases:user_id"]],
        "views": [one for one in document["views"] if one["name"] == "user_features"],
        "columns": {name: hop for name, hop in document["columns"].items() if not name.startswith("broken")},
        "entities": [{"name": "user_id", "type": "int64", "description": "", "views": ["user_features"]}],
    }  # fmt: skip
