"""Freshness: what is judged old, by the macro, by Python and by the command."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from materializer import FeatureStore, InputError, NotFoundError
from materializer.materialize.log import append_log
from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from materializer.warehouse.duckdb import DuckDBWarehouse
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtFailed, DbtProject, copy_of, make_project
from tests.support.shop import change_warehouse

NOW = datetime(2025, 3, 10, 12)
UTC = timezone.utc

# The macro, against a rule in plain Python.

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
LIMITS = ["10 minutes", "3 hours", "1 day", {"count": 90, "period": "minute"}, {"count": 2, "period": "hour"}]


def seconds(limit: Any) -> int:
    count, unit = (limit["count"], limit["period"]) if isinstance(limit, dict) else limit.split()
    return int(count) * UNITS[str(unit).rstrip("s")]


def node(name: str, meta: dict[str, Any]) -> dict[str, Any]:
    """What the macros read of a model in dbt's manifest."""
    return {
        "resource_type": "model", "name": name, "version": None, "description": "", "tags": [], "columns": {},
        "relation_name": f'"memory"."main"."{name}"', "config": {"meta": {"feature_view": meta}},
    }  # fmt: skip


def draw_meta(rng: random.Random) -> dict[str, Any]:
    meta: dict[str, Any] = {"entities": ["user_id", "item"] if rng.random() < 0.5 else ["user_id"]}
    if rng.random() < 0.5:
        meta["created_timestamp"] = "created_at"
    if rng.random() < 0.3:
        meta["available_after"] = "1 hour"
    if rng.random() < 0.5:
        meta["ttl"] = rng.choice(["1 hour", "2 hours", "1 day"])
    if rng.random() < 0.7:
        pair = sorted(rng.sample(LIMITS, 2), key=seconds)
        both = dict(zip(("warn_after", "error_after"), pair, strict=True))
        meta["freshness"] = dict(list(both.items())[rng.choice([slice(0, 2), slice(0, 1), slice(1, 2)])])
    return meta


def draw_rows(rng: random.Random, meta: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows whose moments lie exactly at the ends of the limits, and one microsecond to each side."""
    limits = [meta.get("ttl"), meta.get("available_after"), *meta.get("freshness", {}).values()]
    ages = [0, -3600, 30, *(seconds(limit) for limit in limits if limit)]

    def moment() -> datetime | None:
        near = timedelta(seconds=rng.choice(ages), microseconds=rng.choice([0, 1, -1]))
        return None if rng.random() < 0.1 else NOW - near

    return [
        (rng.choice([1, 2, None]), rng.choice(["a", "b", None]), moment(), moment()) for _ in range(rng.randrange(5))
    ]


def expected(meta: dict[str, Any], rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The rule: what a reader can see now, its newest moments, and the first limit that one of them is beyond."""
    wait = timedelta(seconds=seconds(meta["available_after"]) if "available_after" in meta else 0)
    loads = "created_timestamp" in meta
    seen = [
        (row[: len(meta["entities"])], row[2], row[3])
        for row in rows
        if None not in row[: len(meta["entities"])] and row[2] is not None and row[2] + wait <= NOW
        and (not loads or (row[3] is not None and row[3] <= NOW))
    ]  # fmt: skip
    event = max((row[1] for row in seen), default=None)
    load = max((row[2] for row in seen), default=None) if loads else None
    latest = {key: max(row[1] for row in seen if row[0] == key) for key, _, _ in seen}
    ttl = timedelta(seconds=seconds(meta["ttl"])) if "ttl" in meta else None
    limits = {name: timedelta(seconds=seconds(limit)) for name, limit in meta.get("freshness", {}).items()}
    status, part = "pass", ""
    for candidate, name, limit in (
        ("warn", "warn_after", limits.get("warn_after")), ("error", "error_after", limits.get("error_after")),
    ):  # fmt: skip
        for what, moment in (("newest load", load), ("newest event", event)):
            if limit and moment is not None and NOW - moment > limit:
                status, part = candidate, f"{what} is older than {name}"
    if ttl and event is not None and NOW - event > ttl:
        status, part = "error", "older than the ttl"
    if event is None:
        status, part = "error", "no row can be seen"
    if status == "pass" and not ttl and not limits:
        part = "no limit is declared"
    return {
        "status": status, "part": part, "rows_visible": len(seen), "entities": len(latest),
        "newest_event": event, "newest_load": load,
        "expired_entities": sum(NOW - moment > ttl for moment in latest.values()) if ttl else None,
        "event_age_seconds": (NOW - event) // timedelta(seconds=1) if event else None,
        "load_age_seconds": (NOW - load) // timedelta(seconds=1) if load else None,
    }  # fmt: skip


def test_the_macro_judges_random_rows_as_the_rule_does(tmp_path: Path) -> None:
    rng = random.Random(20250310)
    views = {f"view_{number}": draw_meta(rng) for number in range(300)}
    tables = {name: draw_rows(rng, meta) for name, meta in views.items()}
    met: dict[str, int] = {}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        warehouse = DuckDBWarehouse(connection, tmp_path / "x")
        for name, rows in tables.items():
            kind = rng.choice(["timestamp", "timestamptz", "timestamp_ns"])
            connection.execute(
                f"create table {name} (user_id bigint, item varchar, event_timestamp {kind}, created_at timestamp)"
            )
            if rows:
                connection.executemany(f"insert into {name} values (?, ?, ?, ?)", [list(row) for row in rows])
        names = list(views)
        for start in range(0, len(names), 10):
            asked = names[start : start + 10]
            nodes = {f"model.shop.{name}": node(name, views[name]) for name in asked}
            manifest = {"metadata": {"adapter_type": "duckdb"}, "macros": {}, "nodes": nodes}
            macros = MacroRenderer(manifest, warehouse.columns)
            answer = warehouse.query(macros.render("feature_freshness", asked, as_of=str(NOW))).to_pylist()
            assert [row["feature_view"] for row in answer] == asked
            for row in answer:
                meta = views[row["feature_view"]]
                rule = expected(meta, tables[row["feature_view"]])
                assert rule.pop("part") in row["reason"], (meta, tables[row["feature_view"]], row)
                assert {name: row[name] for name in rule} == rule, (meta, tables[row["feature_view"]])
                assert row["checked_at"] == NOW
                assert row["ttl_seconds"] == (seconds(meta["ttl"]) if "ttl" in meta else None)
                for name in ("warn_after", "error_after"):
                    limit = meta.get("freshness", {}).get(name)
                    assert row[f"{name}_seconds"] == (seconds(limit) if limit else None)
                met[row["status"]] = met.get(row["status"], 0) + 1
    assert min(met[status] for status in ("pass", "warn", "error")) > 15


# A project of one's own, built by dbt.

MODELS: dict[str, str] = {
    "models/fresh.sql": """
        select 1 as user_id, now() - interval 1 hour as event_timestamp, now() - interval 1 hour as created_at, 1 as a
    """,
    "models/old.sql": "select 1 as user_id, now() - interval 10 days as event_timestamp, now() as created_at, 1 as a",
    # One row lies in the future: it must not hide that the other is old.
    "models/hidden.sql": """
        select 1 as user_id, now() - interval 10 days as event_timestamp, 1 as a
        union all select 1, now() + interval 1 day, 2
    """,
    "models/empty.sql": "select 1 as user_id, now() as event_timestamp, 1 as a where false",
    "models/unlimited.sql": "select 1 as user_id, timestamp '2020-01-01' as event_timestamp, 1 as a",
    "models/prices_v1.sql": "select 1 as item_id, timestamp '2020-01-01' as event_timestamp, 2 as price",
    "models/prices_v2.sql": "select 1 as item_id, localtimestamp as event_timestamp, 2 as price",
    "models/unbuilt.sql": "select 1 as user_id, now() as event_timestamp, 1 as a",
    "models/freshness_history.sql": """
        {{ feature_store.feature_freshness(['fresh', 'old', 'hidden', 'empty', 'unlimited', 'prices.v1', 'prices']) }}
    """,
}


def view(name: str, online: bool = True, entity: str = "user_id", **meta: Any) -> dict[str, Any]:
    feature_view = {"entities": [entity], "online": online, **meta}
    return {"name": name, "config": {"materialized": "table", "meta": {"feature_view": feature_view}}}


PROPERTIES = {
    "models": [
        view("fresh", created_timestamp="created_at", ttl="2 days",
             freshness={"warn_after": {"count": 12, "period": "hour"}, "error_after": "1 day"}),
        view("old", created_timestamp="created_at", freshness={"warn_after": "1 day"}, online=False),
        view("hidden", ttl="2 days", online=False),
        view("empty", online=False),
        view("unlimited", online=False),
        view("unbuilt", online=False),
        {**view("prices", entity="item_id", online=False, freshness={"error_after": "1 week"}), "latest_version": 2,
         "versions": [{"v": 1}, {"v": 2}]},
    ]
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    files = {**MODELS, "models/views.yml": PROPERTIES}
    project = make_project(tmp_path_factory.mktemp("freshness"), files)
    project.dbt("build", "--exclude", "unbuilt")
    return project


@pytest.fixture
def shop(built: DbtProject, tmp_path: Path) -> DbtProject:
    return copy_of(built, tmp_path / "shop")


@pytest.fixture
def store(shop: DbtProject, redis_url: str, namespace: str) -> FeatureStore:
    return FeatureStore(shop.folder, redis_url=redis_url, namespace=namespace)


@pytest.fixture
def where(shop: DbtProject, redis_url: str, namespace: str) -> tuple[str, ...]:
    return ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)


def test_a_model_of_the_macro_reads_the_views_and_says_the_same_as_python(
    built: DbtProject, store: FeatureStore
) -> None:
    with duckdb.connect(str(built.warehouse), read_only=True) as connection:
        query = "select feature_view, status, reason, rows_visible, entities from freshness_history"
        rows = {row[0]: row[1:] for row in connection.execute(query).fetchall()}
    assert rows == {
        "fresh": ("pass", "", 1, 1),
        "old": ("warn", "the newest event is older than warn_after (1 day)", 1, 1),
        "hidden": ("error", "the newest event is older than the ttl (2 days), so every value reads as NULL", 1, 1),
        "empty": ("error", "no row can be seen now", 0, 0),
        "unlimited": ("pass", "no limit is declared", 1, 1),
        "prices.v1": ("error", "the newest event is older than error_after (1 week)", 1, 1),
        "prices": ("pass", "", 1, 1),
    }
    offline = {one.view: one for one in store.get_freshness() if not one.online}
    assert {name: (one.status, one.reason, one.rows, one.entities) for name, one in offline.items()} == {
        **{name: row for name, row in rows.items() if name not in ("fresh", "prices")},
        "prices.v2": rows["prices"],
        "unbuilt": ("error", offline["unbuilt"].reason, None, None),
    }
    assert "is not in the warehouse" in offline["unbuilt"].reason and "`dbt build`" in offline["unbuilt"].reason
    manifest = built.manifest()
    parents = manifest["nodes"]["model.shop.freshness_history"]["depends_on"]["nodes"]
    assert {f"model.shop.{name}" for name in ("fresh", "hidden", "prices.v1", "prices.v2")} <= set(parents)


def test_the_sql_of_python_is_that_of_dbt(built: DbtProject) -> None:
    with open_warehouse(load_project(built.folder)) as warehouse:
        names = ["fresh", "old", "hidden", "empty", "unlimited", "prices.v1", "prices"]
        sql = MacroRenderer(built.manifest(), warehouse.columns).render("feature_freshness", names)
    assert sql == built.compiled("freshness_history").strip()


def test_a_view_that_does_not_exist_stops_dbt(shop: DbtProject) -> None:
    shop.write({"models/wrong.sql": "{{ feature_store.feature_freshness('nobody') }}"})
    with pytest.raises(DbtFailed, match=r"(?s)model.shop.wrong.*nobody"):
        shop.dbt("parse")


@pytest.mark.parametrize("views", [[], "", None])
def test_a_call_without_a_view_is_a_sentence(built: DbtProject, views: Any) -> None:
    macros = MacroRenderer(built.manifest(), lambda relation: [])
    with pytest.raises(InputError, match="feature_freshness needs at least one feature view"):
        macros.render("feature_freshness", views)


def test_results_hold_moments_ages_and_limits(store: FeatureStore) -> None:
    (one,) = store.get_freshness(["fresh"])
    hour = timedelta(hours=1)
    assert hour <= one.event_age < 2 * hour and hour <= one.load_age < 2 * hour
    assert one.newest_event.tzinfo is UTC and one.newest_event == one.newest_load
    assert (one.ttl, one.warn_after, one.error_after) == (timedelta(days=2), timedelta(hours=12), timedelta(days=1))
    assert (one.rows, one.entities, one.expired_entities) == (1, 1, 0)
    assert store.get_freshness("prices")[0].view == "prices.v2"
    assert store.get_freshness("prices.v1")[0].expired_entities is None
    with pytest.raises(NotFoundError, match=r"There is no feature view 'nobody'; there are: "):
        store.get_freshness(["nobody"])


def test_the_load_time_counts_beside_the_event(shop: DbtProject, store: FeatureStore) -> None:
    change_warehouse(shop, "update fresh set created_at = now() - interval 13 hours")
    (one,) = store.get_freshness("fresh")
    assert one.status == "error"  # it was never materialized
    assert one.reasons[1] == "the newest load is older than warn_after (12 hours)"


# The last materialization.


def fresh(store: FeatureStore) -> Any:
    (one,) = store.get_freshness("fresh")
    return one


def log(shop: DbtProject, namespace: str, ago: timedelta, error: str | None = None) -> None:
    """A line of the materialization log as a run leaves it."""
    at = datetime.now(UTC) - ago
    entry = {"at": at.isoformat(timespec="seconds"), "view": "fresh", "rows_written": 1, "error": error}
    append_log(shop.warehouse.with_name(shop.warehouse.name + ".feature_store"), namespace, entry)


def published_ago(client: redis.Redis, namespace: str, ago: timedelta) -> None:
    """Put the publication of the view back in time."""
    key = f"{namespace}:registry"
    text = json.loads(client.hget(key, "fresh"))
    text["published_at"] = (datetime.now(UTC) - ago).isoformat(timespec="microseconds")
    client.hset(key, "fresh", json.dumps(text))


def test_an_online_view_that_was_never_materialized_is_in_error(store: FeatureStore) -> None:
    one = fresh(store)
    assert (one.status, one.published, one.last_materialized) == ("error", False, None)
    assert "it was never materialized" in one.reason and "run `materialize`" in one.reason


def test_a_materialized_view_passes(store: FeatureStore, redis_url: str) -> None:
    store.materialize()
    one = fresh(store)
    assert (one.status, one.reason, one.published, one.last_run_error) == ("pass", "", True, None)
    assert timedelta(0) <= one.materialization_age < timedelta(minutes=1)


def test_without_redis_the_log_suffices(shop: DbtProject, store: FeatureStore, namespace: str) -> None:
    store.materialize()
    alone = FeatureStore(shop.folder, redis_url="redis://:s3cret@127.0.0.1:1", namespace=namespace)
    one = fresh(alone)
    assert (one.status, one.published) == ("pass", None)
    assert one.materialization_age < timedelta(minutes=1)
    assert "only the runs from here are known" in one.reason and "127.0.0.1:1" in one.reason
    assert "s3cret" not in one.reason


def test_without_redis_and_without_a_log_nothing_is_known(shop: DbtProject, namespace: str) -> None:
    one = fresh(FeatureStore(shop.folder, redis_url="redis://127.0.0.1:1", namespace=namespace))
    assert (one.status, one.published) == ("warn", None)
    assert "not known whether it was ever materialized" in one.reason


def test_a_registry_that_somebody_else_wrote_is_as_if_redis_were_away(
    store: FeatureStore, client: redis.Redis, namespace: str
) -> None:
    store.materialize()
    client.hset(f"{namespace}:registry", "fresh", "no JSON")
    one = fresh(store)
    assert (one.status, one.published) == ("pass", None) and "did not write" in one.reason


@pytest.mark.parametrize(
    ("ago", "status", "part"),
    [
        (timedelta(hours=11), "pass", ""),
        (timedelta(hours=13), "warn", "the last materialization is older than warn_after (12 hours)"),
        (timedelta(days=1, hours=1), "error", "the last materialization is older than error_after (1 day)"),
        (timedelta(days=3), "error", "the last materialization is older than the ttl (2 days)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", ["log", "redis"])
def test_the_last_materialization_has_the_same_limits(
    by: str, ago: timedelta, status: str, part: str,
    store: FeatureStore, shop: DbtProject, client: redis.Redis, namespace: str,
) -> None:  # fmt: skip
    store.materialize()
    published_ago(client, namespace, ago if by == "redis" else timedelta(days=30))
    folder = shop.warehouse.with_name(shop.warehouse.name + ".feature_store") / namespace
    (folder / "log.jsonl").unlink()
    if by == "log":
        log(shop, namespace, ago)
    one = fresh(store)
    assert one.status == status and one.published is True
    assert part in one.reason
    assert abs(one.materialization_age - ago) < timedelta(minutes=1)


def test_a_last_run_that_failed_warns_until_one_succeeds(
    store: FeatureStore, shop: DbtProject, namespace: str, where: tuple[str, ...]
) -> None:
    store.materialize()
    change_warehouse(shop, "alter table fresh alter a type varchar")
    assert run("materialize", *where).code == 1
    one = fresh(store)
    assert one.status == "warn" and "the last run failed" in one.reason
    assert one.last_run_error and "breaks its readers" in one.last_run_error
    assert one.materialization_age < timedelta(minutes=1)
    change_warehouse(shop, "alter table fresh alter a type integer")
    assert run("materialize", *where).code == 0
    assert (fresh(store).status, fresh(store).last_run_error) == ("pass", None)


def test_a_failure_that_another_machine_put_right_is_over(
    store: FeatureStore, shop: DbtProject, client: redis.Redis, namespace: str
) -> None:
    log(shop, namespace, timedelta(hours=3), error="Redis was away.")
    assert fresh(store).last_run_error == "Redis was away."
    FeatureStore(shop.folder, redis_url=store._redis_url, namespace=namespace).materialize()
    folder = shop.warehouse.with_name(shop.warehouse.name + ".feature_store") / namespace
    (folder / "log.jsonl").unlink()
    log(shop, namespace, timedelta(hours=3), error="Redis was away.")
    assert (fresh(store).status, fresh(store).last_run_error) == ("pass", None)


def test_rows_that_redis_lost_are_an_error(store: FeatureStore, client: redis.Redis, namespace: str) -> None:
    store.materialize()
    client.delete(f"{namespace}:registry")
    one = fresh(store)
    assert (one.status, one.published) == ("error", False)
    assert "it was materialized, but Redis" in one.reason


def test_a_view_that_cannot_be_read_does_not_keep_others_from_being_judged(
    shop: DbtProject, store: FeatureStore
) -> None:
    change_warehouse(shop, "alter table hidden drop column event_timestamp")
    results = {one.view: one for one in store.get_freshness()}
    assert results["hidden"].status == "error" and "has no column 'event_timestamp'" in results["hidden"].reason
    assert results["old"].status == "warn" and results["prices.v2"].status == "pass"


# The command.


def test_the_command_prints_a_table_the_reasons_and_the_counts(where: tuple[str, ...]) -> None:
    assert run("materialize", *where).code == 0
    ran = run("feature-store", "freshness", "fresh", "old", "unlimited", *where)
    assert (ran.code, ran.err) == (0, "")
    header, *lines = ran.out.splitlines()
    assert header.split("  ")[0] == "view" and "materialized" in header
    assert [line.split()[:2] for line in lines[:3]] == [["fresh", "pass"], ["old", "warn"], ["unlimited", "pass"]]
    assert "old: the newest event is older than warn_after (1 day)." in lines
    assert "unlimited: no limit is declared." in lines
    assert lines[-1] == "3 feature views: 1 warn, 2 pass."


def test_the_json_report_has_every_fact(where: tuple[str, ...]) -> None:
    ran = run("feature-store", "freshness", "--output", "json", *where)
    assert ran.code == 1 and list(ran.json) == ["checked_at", "text", "views"]
    views = {view["view"]: view for view in ran.json["views"]}
    assert set(views) == {"empty", "fresh", "hidden", "old", "prices.v1", "prices.v2", "unbuilt", "unlimited"}
    one = views["hidden"]
    assert (one["status"], one["rows"], one["ttl_seconds"], one["published"]) == ("error", 1, 2 * 86400, None)
    assert 10 * 86400 <= one["event_age_seconds"] < 11 * 86400
    assert datetime.fromisoformat(one["newest_event"]) < datetime.fromisoformat(ran.json["checked_at"])
    assert ran.json["text"].startswith("8 feature views: 5 error, 1 warn, 2 pass; ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["unlimited"], 0),
        (["old"], 0),
        (["old", "--fail-on", "warn"], 1),
        (["unlimited", "--fail-on", "warn"], 0),
        (["hidden", "old"], 1),
        (["unbuilt"], 1),
        (["nobody"], 1),
        (["--fail-on", "pass"], 2),
        (["--webhook-always", "old"], 2),
        (["--webhook", "ftp://host/secret", "old"], 2),
    ],
    ids=str,
)
def test_the_exit_code_says_whether_a_view_is_in_error(
    where: tuple[str, ...], arguments: list[str], code: int
) -> None:  # fmt: skip
    ran = run("feature-store", "freshness", *arguments, *where)
    assert ran.code == code
    assert "secret" not in ran.err
    if arguments == ["nobody"]:
        assert_one_sentence(ran.err)


def test_a_project_without_views_says_so(tmp_path: Path, redis_url: str) -> None:
    project = make_project(tmp_path, {"models/no_view.sql": "select 1 as user_id"})
    project.dbt("parse")
    duckdb.connect(str(project.warehouse)).close()
    ran = run("feature-store", "freshness", "--project-dir", str(project.folder), "--redis-url", redis_url)
    assert (ran.code, ran.out, ran.err) == (0, "The project declares no feature view.\n", "")
