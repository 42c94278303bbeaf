"""On-demand feature views of Feast as expressions: which become one, and that the values are those of real Feast."""

from __future__ import annotations

import json
import subprocess
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore
from materializer.feast.on_demand import NotPlainError, computed_features
from tests.support.command import run
from tests.support.dbt import DbtProject

REPOSITORY = """
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
stats = FeatureView(
    name="stats", entities=[driver], ttl=timedelta(days=36500),
    schema=[Field(name="driver_id", dtype=Int64), Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int64)],
    source=FileSource(path="stats.parquet", timestamp_field="event_timestamp"),
)
request = RequestSource(name="request", schema=[Field(name="count", dtype=Int64), Field(name="amount", dtype=Float64)])


@on_demand_feature_view(
    sources=[stats, request],
    schema=[Field(name="plus", dtype=Float64), Field(name="share", dtype=Float64), Field(name="more", dtype=Int64)],
)
def computed(inputs: pd.DataFrame) -> pd.DataFrame:
    \"\"\"What a request adds.\"\"\"
    df = pd.DataFrame()
    df["plus"] = inputs["rate"] + inputs["count"]
    df["share"] = -inputs["amount"] / (inputs["trips"] + 1.5) * 2
    df["more"] = inputs["trips"] * 2 - inputs["count"]
    return df


@on_demand_feature_view(sources=[stats, request], schema=[Field(name="one", dtype=Float64)], mode="python", singleton=True)
def single(inputs):
    return {"one": inputs["rate"] * inputs["amount"]}


@on_demand_feature_view(sources=[stats], schema=[Field(name="mean", dtype=Float64)])
def clever(inputs: pd.DataFrame) -> pd.DataFrame:
    df = pd.DataFrame()
    df["mean"] = inputs["rate"].rolling(3).mean()
    return df


scoring = FeatureService(name="scoring", features=[stats[["rate"]], computed, clever])
"""
ASK = """
import json, sys
import pandas as pd
from feast import FeatureStore
sys.path.insert(0, sys.argv[1])
import definitions as d
store = FeatureStore(sys.argv[1])
store.apply([d.driver, d.stats, d.request, d.computed, d.single])
store.write_to_online_store("stats", pd.read_parquet(sys.argv[1] + "/stats.parquet"))
rows, asked = json.loads(sys.argv[2]), ["computed:plus", "computed:share", "computed:more"]
answer = store.get_online_features(features=asked, entity_rows=rows).to_dict()
# A row at a time, and none that is NULL, is all that Feast's mode can do.
ones = [store.get_online_features(features=["single:one"], entity_rows=[row]).to_dict()["one"] for row in (rows[0], rows[2])]
print(json.dumps({**answer, "one": [ones[0][0], None, ones[1][0]]}))
"""
ROWS = [
    {"driver_id": 1, "count": 3, "amount": 0.1},
    {"driver_id": 2, "count": -7, "amount": 1e300},
    {"driver_id": 3, "count": 0, "amount": -2.5},
]


def spec(mode: str = "pandas", dtype: str = "DOUBLE", **more: Any) -> dict[str, Any]:
    fields = [{"name": "count", "value_type": "INT64"}, {"name": "word", "value_type": "STRING"}]
    projection = {"feature_view_name": "stats", "feature_columns": [{"name": "rate", "value_type": "DOUBLE"}]}
    return {
        "mode": mode, "features": [{"name": "x", "value_type": dtype}],
        "sources": {"stats": {"feature_view_projection": projection},
                    "request": {"request_data_source": {"request_data_options": {"schema": fields}}}},
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "sql"),
    [
        ('return pd.DataFrame({"x": inputs["rate"] * 2})', 'cast(("rate" * 2) as double)'),
        ('return {"x": 1 - inputs["rate"] / inputs["count"]}', 'cast((1 - (cast("rate" as double) / nullif("count", 0))) as double)'),
        ('return {"x": inputs["rate"] / 4}', 'cast((cast("rate" as double) / 4) as double)'),
        ('df = pd.DataFrame()\ndf["x"] = inputs["rate"] + 0.1\nreturn df', 'cast(("rate" + 0.1e0) as double)'),
    ],
)  # fmt: skip
def test_arithmetic_on_columns_is_an_expression(body: str, sql: str) -> None:
    view, (feature,) = computed_features(spec(), "def x(inputs):\n" + textwrap.indent(body, "    "))
    assert (view, feature.expression) == ("stats", sql)


@pytest.mark.parametrize(
    ("body", "changes", "why"),
    [
        ('return {"x": inputs["rate"].fillna(0)}', {}, "which is no arithmetic on columns"),
        ('return {"x": inputs["rate"] ** 2}', {}, "which is no arithmetic on columns"),
        ('return {"x": inputs["rate"] * FACTOR}', {}, "which is no arithmetic on columns"),
        ('y = inputs["rate"]\nreturn {"x": y}', {}, "has `y = inputs['rate']`"),
        ('return {"x": inputs["word"] * 2}', {}, "computes with `word`, which is no number"),
        ('return {"x": inputs["other"] * 2}', {}, "computes with `other`"),
        ('return {"y": inputs["rate"]}', {}, "does not say `x` in one expression"),
        ('return {"x": inputs["rate"] * 2}', {"dtype": "INT64"}, "gives `x` as INT64"),
        ('return {"x": inputs["rate"]}', {"mode": "python"}, "works on whole lists"),
        ('return {"x": inputs["rate"]}', {"write_to_online_store": True}, "is stored"),
        ('return {"x": inputs["rate"]}', {"sources": {}}, "reads no feature view"),
    ],
)
def test_what_is_more_than_arithmetic_says_what(body: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(NotPlainError) as error:
        computed_features(spec(**changes), "def x(inputs):\n" + textwrap.indent(body, "    "))
    assert why in str(error.value)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory, feast_python: str) -> tuple[Path, DbtProject]:
    """A Feast repository, and the project that `init` writes of it, built."""
    folder = tmp_path_factory.mktemp("on_demand_feast")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(
        "project: drivers\nregistry: registry.db\nprovider: local\nentity_key_serialization_version: 3\n"
        "online_store: {type: sqlite, path: online.db}\n"
    )
    (repository / "definitions.py").write_text(REPOSITORY)
    moment = datetime(2024, 1, 1, tzinfo=timezone.utc)
    rows = {
        "driver_id": [1, 2, 3], "event_timestamp": [moment] * 3, "rate": [0.5, None, -0.0], "trips": [3, 0, 2**40],
    }  # fmt: skip
    types = pa.schema(
        [
            ("driver_id", pa.int64()),
            ("event_timestamp", pa.timestamp("us", "UTC")),
            ("rate", pa.float64()),
            ("trips", pa.int64()),
        ]
    )
    pq.write_table(pa.table(rows, types), repository / "stats.parquet")
    ran = run(
        "feature-store",
        "init",
        str(folder / "project"),
        "--from-feast",
        str(repository),
        "--feast-python",
        feast_python,
    )
    assert ran.code == 0, ran.err
    project = DbtProject(folder / "project")
    project.dbt("deps")
    project.dbt("build")
    return repository, project


def test_the_values_are_those_of_feast(moved: tuple[Path, DbtProject], feast_python: str) -> None:
    repository, project = moved
    script = repository / "ask.py"
    script.write_text(ASK)
    command = [feast_python, str(script), str(repository), json.dumps(ROWS)]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert asked.returncode == 0, asked.stderr
    feast = json.loads(asked.stdout.splitlines()[-1])
    spine = [{**row, "event_timestamp": datetime(2024, 1, 2)} for row in ROWS]
    features = [f"stats:{name}" for name in ("plus", "share", "more", "one")]
    ours = FeatureStore(project.folder).get_historical_features(spine, features).to_arrow().to_pydict()
    for name in ("plus", "share", "more", "one"):
        theirs = [None if value is None or value != value else value for value in feast[name]]
        assert list(map(repr, ours[name])) == list(map(repr, theirs)), name
    assert sum(value is not None for name in ("plus", "share", "more", "one") for value in feast[name]) == 10


def test_the_service_lists_what_became_of_them_and_the_report_says_it(moved: tuple[Path, DbtProject]) -> None:
    _, project = moved
    service = FeatureStore(project.folder).get_feature_service("scoring")
    assert service.features == ("stats:rate", "stats:plus", "stats:share", "stats:more")
    report = (project.folder / "FROM_FEAST.md").read_text()
    assert "its features are called `stats:plus`, `stats:share`, `stats:more` here; by zero Feast divides" in report
    assert "on-demand feature view `clever`" in report and "rolling(3).mean()" in report
    assert "the features of the on-demand view 'clever' are left out" in report
