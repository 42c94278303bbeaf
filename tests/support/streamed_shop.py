"""A project whose views read a streamed source, without dbt and without a broker: events land, models are built and rows
are evaluated by the test, and real runs and a `Writer` bring them online."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from materializer import FeatureStore
from materializer.materialize.plan import ViewResult
from materializer.online.rows import encode_rows
from materializer.online.stream_record import StreamRecord, take
from materializer.online.topology import node_of
from materializer.online.writer import Writer
from materializer.project.checksums import Checksums
from materializer.project.definitions import Entity, Feature, FeatureView
from materializer.project.manifest import load_manifest
from materializer.project.settings import load_project
from tests.support import manifests
from tests.support.dbt import DbtProject

SOURCE = "source.shop.shop.purchases"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
EVENTS = "create table purchases (purchase_id bigint, user_id bigint, item_id bigint, amount bigint, moment timestamptz, undone boolean, _seq bigint)"
# What a model selects, of the events in `{source}`. `{tier}` is a static source.
BY_USER = """select user_id, max(moment) as event_timestamp, sum(amount)::bigint as amount, {tier} as tier
from {source} where purchase_id not in (select purchase_id from {source} where undone) group by user_id"""
MODELS = {
    "spent": BY_USER,
    "pairs": BY_USER.replace("user_id,", "user_id, item_id,", 1).replace("by user_id", "by user_id, item_id"),
    "lookup": BY_USER,
}
ENTITIES = {"spent": ["user_id"], "pairs": ["user_id", "item_id"], "lookup": ["user_id"]}


class Always:
    """A right to write that does not end."""

    def deadline(self) -> int:
        return 2**52

    def check(self) -> None:
        pass


@dataclass
class Streamed:
    """The project, its events so far, and the store that it is in. `tier` is what the static source says now."""

    project: DbtProject
    url: str
    namespace: str
    tier: int = 0
    seq: int = 0

    @classmethod
    def made(cls, folder: Path, url: str, namespace: str) -> Streamed:
        manifests.bare_project(folder, "warehouse.duckdb")
        profiles = folder / "profiles.yml"
        landing = "attach: [{path: landing.duckdb, alias: landing, read_only: true}]"
        profiles.write_text(profiles.read_text().replace("type: duckdb", f"type: duckdb, {landing}"))
        sql = {name: "select * from {{ ref('cleaned') }}" for name in MODELS}
        models: dict[str, Any] = {"cleaned": "select * from {{ source('shop', 'purchases') }}", **sql}
        models["lookup"] = {
            "sql": "select * from {{ source('shop', 'purchases') }}",
            "config": {"materialized": "view"},
        }
        views = {name: {"entities": entities} for name, entities in ENTITIES.items()}
        content = manifests.manifest(models, {}, database="warehouse")
        for name, view in views.items():
            content["nodes"][f"model.shop.{name}"]["config"]["meta"] = {"feature_view": view}
        content["sources"][SOURCE] |= {
            "database": "landing", "schema": "main", "relation_name": '"landing"."main"."purchases"',
            "config": {"meta": {"stream": {"topic": "purchases", "key": "user_id"}}},
        }  # fmt: skip
        manifests.write_models(folder, content)
        world = cls(DbtProject(folder), url, namespace)
        with duckdb.connect(str(folder / "landing.duckdb")) as connection:
            connection.execute(EVENTS)
            connection.execute("create table _fs_landing as select 0::bigint as seq, 0::bigint as begun")
        return world

    @property
    def landing(self) -> Path:
        return self.project.folder / "landing.duckdb"

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.project.folder, redis_url=self.url, namespace=self.namespace)

    def land(
        self, user: int, amount: int = 1, minutes: float | None = None, item: int = 1, undo: int | None = None
    ) -> int:
        """Let one event land, and give the number of its commit, which is its id. `undo` takes an earlier one back."""
        self.seq += 1
        at = START + timedelta(minutes=self.seq if minutes is None else minutes)
        row = [undo or self.seq, user, item, amount, at, undo is not None, self.seq]
        with duckdb.connect(str(self.landing)) as connection:
            connection.execute("insert into purchases values (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("update _fs_landing set seq = ?", [self.seq])
        return self.seq

    def build(self, *models: str, recorded: bool = True, tier: int | None = None) -> None:
        """As `dbt build` with the hook would."""
        with duckdb.connect(str(self.project.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"attach '{self.landing}' as landing (read_only)")
            connection.execute(
                'create table if not exists _fs_built (model varchar primary key, seq bigint, "at" timestamptz)'
            )
            for name in models or ("cleaned", *MODELS):
                sql = "from {source}" if name == "cleaned" else MODELS[name]
                kind = "view" if name == "lookup" else "table"
                sql = sql.format(source="landing.main.purchases", tier=self.tier if tier is None else tier)
                connection.execute(f"create or replace {kind} {name} as {sql}")
                if recorded and kind == "table":
                    record = [f"model.shop.{name}", self.seq]
                    connection.execute("insert or replace into _fs_built values (?, ?, now())", record)

    def run(self, view: str = "spent", **options: Any) -> ViewResult:
        (result,) = self.store.materialize([view], **options)
        return result

    def take(self, view: str = "spent", by: Sequence[str] = ("user_id",), definition: str | None = None) -> bool:
        """A stream announces itself."""
        record = StreamRecord(definition or self.definition(view), True, tuple(by), {SOURCE: (tuple(by),)})
        return take(self.store._client, self.namespace, view, record)

    def definition(self, view: str = "spent") -> str:
        return Checksums(load_manifest(load_project(self.project.folder))).of(f"model.shop.{view}")

    def evaluated(self, view: str = "spent", **where: int) -> tuple[int, pa.Table]:
        """What a stream makes of an entity's events now, and the number that it has seen."""
        with duckdb.connect(str(self.landing), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            rows = connection.sql(MODELS[view].format(source="purchases", tier=self.tier))
            for name, value in where.items():
                rows = rows.filter(f"{name} = {value}")
            return self.seq, rows.to_arrow_table()

    def write(self, seen: int, rows: pa.Table, view: str = "spent", **where: int) -> Writer:
        """A stream writes what it had evaluated: the row, or a tombstone where there is none."""
        keys = ENTITIES[view]
        declared = FeatureView(
            view, tuple(Entity(key, dtype=pa.int64()) for key in keys),
            (Feature("amount", dtype=pa.int64()), Feature("tier", dtype=pa.int32())),
        )  # fmt: skip
        with Writer(self.store._client, Always()) as writer:
            for batch in rows.to_batches():
                writer.send(encode_rows(batch, declared, self.namespace, "stream:one", seen=seen), rows.select(keys))
            if not rows.num_rows:
                name = ":".join(str(where[key]) for key in keys)
                writer.remove([f"{self.namespace}:{view}:{name}".encode()], seen, "stream:one")
            writer.finish()
        return writer

    def stream(self, view: str = "spent", **where: int) -> Writer:
        """A stream evaluates an entity and writes it."""
        return self.write(*self.evaluated(view, **where), view=view, **where)

    def fields(self, view: str, *keys: int) -> dict[str, str]:
        name = f"{self.namespace}:{view}:{':'.join(map(str, keys))}"
        return {k.decode(): v.decode() for k, v in node_of(self.store._client, name).hgetall(name).items()}

    def online(self, user: int, view: str = "spent") -> tuple[int, int] | None:
        """The amount and the tier that a reader finds."""
        answer = self.store.get_online_features([f"{view}:amount", f"{view}:tier"], [{"user_id": user}]).to_dict()
        amount, tier = answer["amount"][0], answer["tier"][0]
        return None if amount is None else (amount, tier)
