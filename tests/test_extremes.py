"""Types and the values at their edges, generated as a table: offline, online, statistics, comparison and record agree, or
the value is refused by name and everything else lands."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore, MaterializationError
from materializer.diff.values import compare_values
from materializer.materialize.plan import ViewResult
from materializer.project.manifest import load_manifest
from materializer.training.files import column_sha256
from materializer.warehouse import open_warehouse
from materializer.warehouse.moments import all_stated, to_objects
from tests.support.command import run
from tests.support.dbt import DbtProject
from tests.support.extremes import EXTREMES, nestings_of, table_of, views_of

TYPES = list(EXTREMES)
GROUPS = [TYPES[start : start + 10] for start in range(0, len(TYPES), 10)]
SPINE = "select user_id, timestamptz '2026-02-01 00:00:00+00' as event_timestamp from range({}) as t(user_id)"


@dataclass(frozen=True)
class View:
    """A view of some types: for each feature its type and nesting, for each row whether its value can be stated."""

    name: str
    types: list[str]
    features: list[str]
    stated: list[bool]
    rows_of: dict[str, range]

    @property
    def bare(self) -> dict[str, str]:
        """The features that are values as they are, with their types."""
        return {f"bare_{number}": type_ for number, type_ in enumerate(self.types)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, list[View]]:
    views, statements = [], {}
    for number, types in enumerate(GROUPS):
        name = f"extremes_{number}"
        statements[name], features, stated = table_of(name, types)
        sizes = [sum(map(len, EXTREMES[type_])) for type_ in types for _ in nestings_of(type_)]
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        rows = {one: range(end - size, end) for one, size, end in zip(features, sizes, ends, strict=True)}
        views.append(View(name, types, features, stated, rows))
    return views_of(tmp_path_factory.mktemp("extremes") / "shop", statements), views


@pytest.fixture(scope="module")
def offline(made: tuple[DbtProject, list[View]]) -> dict[str, Any]:
    """The training set of each view: all of its features for each of its keys."""
    project, views = made
    store = FeatureStore(project_dir=project.folder)
    return {
        view.name: store.get_historical_features(
            SPINE.format(len(view.stated)), [f"{view.name}:{feature}" for feature in view.features]
        )
        for view in views
    }


def materialized(store: FeatureStore, *views: str) -> dict[str, ViewResult]:
    try:
        results = store.materialize(feature_views=views)
    except MaterializationError as error:
        results = error.results
    return {result.view: result for result in results}


def test_a_value_is_online_as_it_is_offline_or_its_row_is_refused_by_name(
    made: tuple[DbtProject, list[View]], offline: dict[str, Any], redis_url: str, namespace: str
) -> None:
    project, views = made
    store = FeatureStore(project_dir=project.folder, redis_url=redis_url, namespace=namespace)
    results = materialized(store)
    cases = 0
    for view in views:
        result, refused = results[view.name], view.stated.count(False)
        assert (result.rows_read, result.rows_written) == (len(view.stated), view.stated.count(True)), view
        if refused:
            assert f"{refused} rows of '{view.name}' cannot be stated online" in (result.error or "")
        else:
            assert result.error is None
        for feature, rows in view.rows_of.items():
            bad = [view.stated[row] for row in rows].count(False)
            named = re.search(rf"(\d+) with [^;]* in '{feature}'", result.error or "")
            assert int(named[1] if named else 0) == bad, (feature, result.error)
        answer = store.get_online_features(
            [f"{view.name}:{feature}" for feature in view.features],
            [{"user_id": key} for key in range(len(view.stated))],
        )
        online, statuses, truth = (
            answer.to_arrow(),
            answer.to_dict(include_statuses=True),
            offline[view.name].to_arrow(),
        )
        for feature, rows in view.rows_of.items():
            for row, stated in enumerate(view.stated):
                expected = ("PRESENT" if row in rows else "NULL_VALUE") if stated else "NOT_FOUND"
                assert statuses[f"{feature}__status"][row] == expected, (view.types, feature, row)
            for row in rows:
                if view.stated[row]:
                    cases += 1
                    found, wanted = online.column(feature).slice(row, 1), truth.column(feature).slice(row, 1)
                    assert column_sha256(found) == column_sha256(wanted), (view.types, feature, row, found, wanted)
    assert cases > 600


def test_offline_values_are_those_of_the_warehouse(
    made: tuple[DbtProject, list[View]], offline: dict[str, Any]
) -> None:
    project, views = made
    with duckdb.connect(str(project.warehouse), read_only=True) as warehouse:
        warehouse.execute("set TimeZone = 'UTC'")
        for view in views:
            truth = offline[view.name].to_arrow()
            for feature, type_ in view.bare.items():
                texts = warehouse.execute(
                    f"select cast({feature} as varchar) from {view.name} order by user_id"
                ).fetchall()
                values = to_objects(truth.column(feature))
                for row in view.rows_of[feature]:
                    assert_same_value(values[row], texts[row][0], type_)


def assert_same_value(value: Any, text: str, type_: str) -> None:
    """Whether a value says what DuckDB's own text of it says."""
    if type_ in ("float", "double"):
        assert repr(float(text)).lstrip("-") == "nan" == repr(value) or repr(float(text)) == repr(
            value if type_ == "double" else float(text)
        )
    elif re.match(r"\w*int(eger)?$|decimal", type_):
        assert Decimal(value) == Decimal(text)
    elif type_ == "boolean":
        assert str(value).lower() == text
    elif type_ in ("varchar", "bit", "bignum", "uuid", "timetz", "interval", "json") or type_.startswith("enum"):
        assert value == text
    elif type_.startswith(("date", "timestamp")):
        if "(BC)" in text:  # which ISO 8601 counts from a year 0
            assert isinstance(value, str) and value.startswith(("-", "0000"))
        else:
            shown = value if isinstance(value, str) else str(value.replace(tzinfo=None) if type_ != "date" else value)
            assert _seconds(shown.removesuffix("Z")) == _seconds(text.removesuffix("+00"))


def _seconds(text: str) -> str:
    """The text of a moment in whole microseconds, without zeros behind."""
    return re.sub(r"(\.\d*?)0*$", r"\1", text[:26] if "." in text and len(text) == 29 else text).rstrip(".")


def test_every_form_of_a_training_set_takes_them(
    made: tuple[DbtProject, list[View]], offline: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    for view in made[1]:
        result = offline[view.name]
        truth = result.to_arrow()
        frame = result.to_df()
        assert str(frame) and frame.to_string()
        for feature in view.features:
            column = truth.column(feature)
            if not all_stated(column):
                assert list(frame[feature]) == to_objects(column)
        result.to_parquet(tmp_path / "set.parquet")
        again = pq.read_table(tmp_path / "set.parquet")
        for feature in view.features:
            column = truth.column(feature)
            assert column_sha256(again.column(feature).cast(column.type)) == column_sha256(column)
        assert result.to_polars().height == len(view.stated)


def test_a_record_of_them_makes_the_same_set_again_and_csv_says_no_other_moment(
    made: tuple[DbtProject, list[View]], tmp_path: Path
) -> None:
    project, views = made
    store = FeatureStore(project_dir=project.folder)
    for view in views:
        references = [f"{view.name}:{feature}" for feature in view.features]
        store.save_training_set(tmp_path / "set.parquet", SPINE.format(len(view.stated)), references)
        assert store.repeat_training_set(tmp_path / "set.parquet.json", tmp_path / "again.parquet").same
        flat = [
            f"{view.name}:{name}"
            for name, type_ in view.bare.items()
            if type_ != "blob" and "[" not in type_ and "(v" not in type_
        ]
        if flat:
            store.save_training_set(tmp_path / "set.csv", SPINE.format(len(view.stated)), flat)
            text = (tmp_path / "set.csv").read_text()
            assert "out of range" not in text
            assert ("infinity" in text) == bool({"date", "timestamp", "timestamptz"} & set(view.types))
    done = run(
        "feature-store",
        "training",
        "--project-dir",
        project.folder,
        "--spine",
        SPINE.format(5),
        "-f",
        f"{views[0].name}:bare_0",
    )
    assert done.code == 0


def test_rows_print_with_moments_that_python_has_not(made: tuple[DbtProject, list[View]]) -> None:
    project, views = made
    (view,) = [view for view in views if "date" in view.types]
    number = view.types.index("date")
    spine = f"select {view.rows_of[f'bare_{number}'][3]} as user_id, timestamp '2026-02-01' as event_timestamp"
    for output in ("text", "json"):
        done = run("feature-store", "training", "--project-dir", project.folder, "--spine", spine, "-f", f"{view.name}:bare_{number}",
                   "--output", output)  # fmt: skip
        assert done.code == 0 and "infinity" in done.out


def test_statistics_count_them(made: tuple[DbtProject, list[View]], offline: dict[str, Any]) -> None:
    project, views = made
    store = FeatureStore(project_dir=project.folder)
    for view in views:
        statistics = store.get_statistics(view.name)
        truth = offline[view.name].to_arrow()
        for feature, type_ in view.bare.items():
            figures, values = statistics[feature], [v for v in to_objects(truth.column(feature)) if v is not None]
            assert figures.row_count == len(view.stated) and figures.null_count == len(view.stated) - len(values)
            if figures.kind != "list":
                # 0.0 and -0.0 are one value to DuckDB, and all NaN are.
                kinds = Counter(repr(v + 0.0 if isinstance(v, float) else v) for v in values)
                assert figures.distinct_count == len(kinds), (type_, figures, kinds)
            if figures.kind in ("integer", "decimal"):
                assert (figures.minimum, figures.maximum) == (min(values), max(values)), type_
            if figures.kind in ("date", "timestamp"):
                assert figures.infinite_count == 2


def test_a_comparison_of_values_finds_the_same_the_same_and_others_not(made: tuple[DbtProject, list[View]]) -> None:
    project, views = made
    store = FeatureStore(project_dir=project.folder)
    manifest = load_manifest(store.project)
    with duckdb.connect(str(project.warehouse)) as connection:
        for view in views:
            moved = [f"lag({one}) over (order by user_id) as {one}" for one in view.features[::2]]
            connection.execute(
                f"create table moved_{view.name} as select * replace ({', '.join(moved)}) from {view.name}"
            )
    with open_warehouse(store.project) as warehouse:
        for view in views:
            node = manifest["nodes"][f"model.shop.{view.name}"]
            new = node | {"relation_name": node["relation_name"].replace(view.name, f"moved_{view.name}")}
            for feature in compare_values(warehouse, manifest, node, new, None).features:
                if feature.feature in view.features[::2]:
                    assert feature.differing > 0 and feature.examples
                else:
                    assert feature.differing == 0 and feature.equal == len(view.stated)
