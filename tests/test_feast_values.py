"""Feast's answers against ours, of one repository: Feast's own templates, and one with every awkward value.

Where the two differ on purpose, the difference is computed and asserted here: what a row older than its ttl gives
online, a row that became known later, rows that Feast's default offline store drops.
"""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore
from tests.support.command import run
from tests.support.dbt import DbtProject, install
from tests.test_from_feast import DRIVERS, REPOSITORY, driver_rows, place_rows, value_at, write_repository

SCRIPT = Path(__file__).parent / "support" / "feast_values.py"
SQLITE = "registry: data/registry.db\nonline_store: {type: sqlite, path: data/online.db}\n"


@dataclass(frozen=True)
class Compared:
    """Both answers of one repository."""

    view: str
    key: str
    features: list[str]
    # Whether Feast's offline store keeps every row of the labels: DuckDB does, the default (dask) does not.
    keeps_rows: bool
    rows: list[dict[str, Any]]
    ttl: timedelta
    spine: pa.Table
    feast: dict[str, list[dict[str, Any]]]
    ours: dict[str, pa.Table]
    online_feast: dict[str, list[Any]]
    online_ours: dict[str, list[Any]]
    entities: list[Any]
    read_at: datetime

    @property
    def singles(self) -> set[str]:
        """The features of type Float32."""
        schema = self.ours["known"].schema
        return {name for name in self.features if pa.types.is_float32(schema.field(f"{self.view}__{name}").type)}


# Template, view, join key, created timestamp, ttl, features.
CASES: dict[str, tuple[str, str, str | None, timedelta, list[str]]] = {
    "local": (
        "driver_hourly_stats", "driver_id", "created", timedelta(days=1),
        ["conv_rate", "acc_rate", "avg_daily_trips", "driver_metadata", "driver_config", "driver_profile"],
    ),
    "pytorch_nlp": (
        "text_features", "text_id", "created", timedelta(days=7),
        ["text_content", "sentiment_label", "sentiment_score", "text_length", "caps_ratio", "emoji_count"],
    ),
    "rag": ("city_summary_embeddings", "city_id", None, timedelta(days=1), ["vector", "sentence_chunks"]),
    "city": ("driver_stats", "driver_id", "load", timedelta(days=2), ["acc_rate", "conv_rate", "trips"]),
}  # fmt: skip


def a_repository(name: str, folder: Path, python: str, redis_url: str) -> Path:
    """The repository of a case, as Feast 0.67 takes it."""
    if name != "city":
        subprocess.run([python, SCRIPT, "init", name, folder], check=True, capture_output=True)
        repository = folder / "feature_repo"
        # The templates' own scripts, and a store that needs a server of its own.
        (repository / ".feastignore").write_text("test_workflow.py\n")
        if name == "rag":
            (repository / "feature_store.yaml").write_text(f"project: rag\nprovider: local\n{SQLITE}")
        return repository
    files = dict(REPOSITORY)
    address = redis_url.removeprefix("redis://").rstrip("/").partition("/")[0]
    files["feature_store.yaml"] = f"""
        project: city_rides
        provider: local
        registry: data/registry.db
        offline_store: {{type: duckdb}}
        online_store: {{type: redis, connection_string: "{address},db=7"}}
    """
    # Feast cannot materialize a mapped created timestamp, and wants a DataFrame of an on-demand view.
    files["views/driver.py"] = (
        files["views/driver.py"].replace('"created", field', '"load", field').replace(', "load": "created"', "")
    )
    files["views/places.py"] = files["views/places.py"].replace(
        'inputs["conv_rate"] * 2', 'inputs[["conv_rate"]].set_axis(["twice"], axis=1) * 2'
    )
    repository, rng = write_repository(folder, files), random.Random(7)
    (repository / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(driver_rows(rng), DRIVERS), repository / "data" / "driver stats.parquet")
    pq.write_table(pa.Table.from_pylist(place_rows(rng)), repository / "data" / "places.parquet")
    return repository


def rows_of(project: DbtProject, view: str, key: str, created: str | None) -> list[dict[str, Any]]:
    """What the written model shows, as `time`, `known` and values."""
    import duckdb

    with duckdb.connect(str(next(project.folder.glob("*.duckdb"))), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.sql(f"select * from {view}").to_arrow_table().to_pylist()
    for row in rows:
        row["time"], row["known"] = utc(row["event_timestamp"]), utc(row[created or "event_timestamp"])
        row["key"] = row[key]
    return rows


def utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.soak) if name == "pytorch_nlp" else name for name in CASES],
)
def compared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, feast_python: str, redis_url: str
) -> Compared:
    name = request.param
    view, key, created, ttl, features = CASES[name]
    folder = tmp_path_factory.mktemp(name)
    repository = a_repository(name, folder / f"the_{name}", feast_python, redis_url)
    ran = run(
        "feature-store", "init", str(folder / "new"), "--from-feast", str(repository), "--feast-python", feast_python
    )
    assert (ran.code, ran.err) == (0, "")
    project = DbtProject(folder / "new")
    install(project)
    project.dbt("build")
    rows, rng, step = rows_of(project, view, key, created), random.Random(5), timedelta(microseconds=1)
    labels = []
    for row in rng.sample(rows, min(len(rows), 30)):
        for shift in (timedelta(0), -step, ttl, ttl + step, timedelta(seconds=rng.randrange(10**6))):
            labels.append({key: row[key], "event_timestamp": row["time"] + shift})
    labels.append({key: 99 if isinstance(rows[0][key], int) else "nobody", "event_timestamp": rows[0]["time"]})
    labels = [label | {"label": number} for number, label in enumerate(labels)]
    spine = pa.Table.from_pylist(labels)
    pq.write_table(spine, folder / "spine.parquet")
    entities = [*dict.fromkeys(label[key] for label in labels)]
    references = [f"{view}:{feature}" for feature in features]
    job = {"repository": str(repository), "spine": str(folder / "spine.parquet"), "features": references}
    (folder / "job.json").write_text(json.dumps(job | {"rows": [{key: entity} for entity in entities]}))
    answered = subprocess.run([feast_python, SCRIPT, folder / "job.json"], capture_output=True, text=True)
    assert answered.returncode == 0, answered.stderr[-3000:]
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=f"feast_values_{name}")
    ours = {
        known: store.get_historical_features(
            spine, references, full_feature_names=True, filter_by_created_timestamp=known == "known"
        ).to_arrow()
        for known in ("training", "known")
    }
    assert all(result.error is None for result in store.materialize())
    read_at = datetime.now(timezone.utc)
    online = store.get_online_features(references, [{key: e} for e in entities], full_feature_names=True)
    feast = {known: pq.read_table(folder / f"{known}.parquet").to_pylist() for known in ours}
    return Compared(
        view, key, features, name == "city", rows, ttl, spine, feast, ours,
        json.loads((folder / "online.json").read_text()), online.to_dict(), entities, read_at,
    )  # fmt: skip


def plain(value: Any, single: bool = False) -> Any:
    """A value of either side: an instant in UTC, a map as a dict, JSON as what it says; no NaN, which is how Feast's
    pandas has NULL; and, for a feature of type Float32, as that: Feast's training sets leave it as the file has it."""
    if isinstance(value, float):
        return None if math.isnan(value) else struct.unpack("f", struct.pack("f", value))[0] if single else value
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    return value


@pytest.mark.parametrize("known", ["training", "known"])
def test_training_sets_hold_the_same_values(compared: Compared, known: str) -> None:
    """With `filter_by_created_timestamp=False`, which is Feast's default, and with True, which is ours."""
    names = {f"{compared.view}__{feature}": feature in compared.singles for feature in compared.features}
    labels = compared.spine.to_pylist()
    ours = compared.ours[known].to_pylist()
    assert [{name: row[name] for name in labels[0]} for row in ours] == labels  # rows out are rows in, in their order
    feast = {
        row["label"]: {name: plain(row[name], single) for name, single in names.items()}
        for row in compared.feast[known]
    }
    for row in ours:
        values = {name: plain(row[name]) for name in names}
        if row["label"] in feast:
            assert values == feast[row["label"]], row
        else:
            # Feast's default offline store drops a label whose entity has rows, but none that is in force then; here its
            # features are NULL, as both have it for an entity without any row.
            assert not compared.keeps_rows and set(values.values()) == {None}
            assert any(one["key"] == row[compared.key] for one in compared.rows)
            moment = row["event_timestamp"]
            assert not value_at(compared.rows, {"key": row[compared.key]}, moment, compared.ttl, known=False)
    assert len(feast) == len(labels) if compared.keeps_rows else 5 < len(feast) < len(labels)
    assert known == "known" or sum(None not in values.values() for values in feast.values()) > 5


def test_online_values_are_the_same_but_for_rows_too_old_and_rows_known_later(compared: Compared) -> None:
    agreed = 0
    for position, entity in enumerate(compared.entities):
        feast, ours = (
            {feature: plain(answer[f"{compared.view}__{feature}"][position]) for feature in compared.features}
            for answer in (compared.online_feast, compared.online_ours)
        )
        # Feast gives the latest row of whatever age, and one whose created time lies ahead.
        latest, visible = (
            value_at(compared.rows, {"key": entity}, compared.read_at, ttl, known)
            for ttl, known in ((None, False), (compared.ttl, True))
        )
        assert feast == {feature: plain(latest.get(feature)) for feature in compared.features}
        assert ours == {feature: plain(visible.get(feature)) for feature in compared.features}
        agreed += feast == ours and latest != {}
    assert agreed >= 2
