"""Feast's part of the benchmarks; runs in Feast's own environment, started by `support.FeastSide`.

Reads one command a line from stdin, as JSON, and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

warnings.filterwarnings("ignore")

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType  # noqa: E402
from feast.repo_config import RepoConfig  # noqa: E402
from feast.types import Array, Float32, Float64, Int32, Int64, String  # noqa: E402

TYPES = {
    "bigint": Int64, "integer": Int32, "double": Float64, "varchar": String, "float[]": Array(Float32),
}  # fmt: skip


class Side:
    def __init__(self) -> None:
        self.store: FeatureStore | None = None

    def setup(self, redis_port: int, views: dict[str, dict], ttl_days: int) -> dict:
        """Register views over Parquet files: {name: {"path", "features": {name: type}}}."""
        folder = Path.cwd()
        self.store = FeatureStore(
            config=RepoConfig(
                project="bench",
                provider="local",
                registry=str(folder / "registry.db"),
                offline_store={"type": "duckdb"},
                online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis_port}"},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
        objects: list = [user]
        for name, view in views.items():
            objects.append(
                FeatureView(
                    name=name,
                    entities=[user],
                    ttl=timedelta(days=ttl_days),
                    schema=[Field(name="user_id", dtype=Int64)]
                    + [Field(name=feature, dtype=TYPES[kind]) for feature, kind in view["features"].items()],
                    source=FileSource(name=f"{name}_source", path=view["path"], timestamp_field="event_timestamp"),
                )
            )
        self.store.apply(objects)
        return {}

    def materialize(self, start: str, views: list[str] | None = None) -> dict:
        begin = time.perf_counter()
        self.store.materialize(
            start_date=datetime.fromisoformat(start), end_date=datetime.now(timezone.utc), feature_views=views
        )
        return {"seconds": time.perf_counter() - begin}

    def online(self, features: list[str], entities: int, known: int, rounds: int, seed: int = 0) -> dict:
        """Latencies of `rounds` requests for `entities` random users each, in seconds."""
        chance = random.Random(seed)
        times = []
        for _ in range(rounds):
            rows = [{"user_id": chance.randrange(known)} for _ in range(entities)]
            begin = time.perf_counter()
            answer = self.store.get_online_features(features=features, entity_rows=rows).to_dict()
            times.append(time.perf_counter() - begin)
            assert len(answer["user_id"]) == entities
        return {"seconds": times, "first": {name: values[0] for name, values in answer.items()}}

    def training(self, spine: str, features: list[str]) -> dict:
        """One training set for the labels in a Parquet file."""
        import pyarrow.parquet as pq

        frame = pq.read_table(spine).to_pandas()
        begin = time.perf_counter()
        table = self.store.get_historical_features(entity_df=frame, features=features).to_arrow()
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "rows": table.num_rows}


def main() -> None:
    side = Side()
    # What Feast prints must not stand between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(side, request.pop("command"))(**request)
        except MemoryError:
            answer = {"error": "out of the memory that it was given"}
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            answer = {"error": text.splitlines()[0][:300]}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    main()
