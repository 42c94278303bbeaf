"""Drift of features between two periods: the measures against Python's formulas, the generic test and the command."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from materializer import FeatureStore
from materializer.catalog.statistics import FeatureDrift
from tests.support.command import run
from tests.support.dbt import DbtFailed, DbtProject, make_project
from tests.support.receiver import receive
from tests.support.rendered import Views

BEFORE, NOW = datetime(2024, 1, 5), datetime(2024, 1, 12)
# (type in Arrow, values)
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy]] = {
    "small": (pa.int32(), st.integers(-3, 3)),
    "ratio": (pa.float64(), st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]), st.floats(-9, 9))),
    "price": (pa.decimal128(10, 2), st.decimals("-2", "2", places=2)),
    "flag": (pa.bool_(), st.booleans()),
    "label": (pa.string(), st.sampled_from(["", "a", "b", "NULL", "all other texts", "é"])),
    "words": (pa.list_(pa.string()), st.just(["a"])),
}  # fmt: skip
# Values of every type for a row, and whether it is of the later period.
ROWS = st.lists(st.tuples(st.booleans(), *(st.one_of(st.none(), values) for _, values in TYPES.values())), max_size=25)


@pytest.fixture(scope="module")
def views() -> Views:
    return Views()


def create(views: Views, now: list[bool], columns: dict[str, pa.Array]) -> None:
    """A view called ``drawn``, in which each row lies in the earlier or the later period."""
    moments = pa.array([NOW if later else BEFORE for later in now], pa.timestamp("us"))
    table = {"user_id": pa.array(range(len(now)), pa.int64()), "event_timestamp": moments, **columns}
    views.connection.register("drawn_rows", pa.table(table))
    views.create("drawn", "select * from drawn_rows")
    views.connection.unregister("drawn_rows")


def measured(views: Views, **arguments: Any) -> dict[str, dict[str, Any]]:
    periods = {"baseline_start": "2024-01-01", "baseline_end": "2024-01-08", "end": "2024-01-15"}
    rows = views.rows("feature_drift_measures", "drawn", **(arguments or periods))
    return {row["feature"]: row for row in rows}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROWS)
@example([])
@example([(False, *[None] * len(TYPES)), (True, *[None] * len(TYPES))])
@example([(True, 1, 1.0, None, True, "a", None)])
def test_the_measures_are_their_formulas_over_the_same_buckets(views: Views, rows: list[tuple]) -> None:
    now = [row[0] for row in rows]
    columns = {
        name: [row[place] for row in rows] for place, name in enumerate(TYPES, start=1)
    }  # fmt: skip
    create(views, now, {name: pa.array(values, TYPES[name][0]) for name, values in columns.items()})
    found = measured(views)
    assert list(found) == list(TYPES)
    for name, values in columns.items():
        before = [value for value, later in zip(values, now, strict=True) if not later]
        after = [value for value, later in zip(values, now, strict=True) if later]
        row = found[name]
        assert (row["rows_before"], row["rows_now"]) == (len(before), len(after))
        for part, fraction in ((before, row["null_fraction_before"]), (after, row["null_fraction_now"])):
            assert fraction == (pytest.approx(part.count(None) / len(part)) if part else None)
        if not before or not after or name == "words":
            assert row["population_stability_index"] is row["jensen_shannon_divergence"] is None
            continue
        place = buckets_of(before, text=name == "label")
        p, q = shares([place(value) for value in before]), shares([place(value) for value in after])
        assert row["population_stability_index"] == pytest.approx(psi(p, q), abs=1e-12), name
        assert row["jensen_shannon_divergence"] == pytest.approx(js(p, q), abs=1e-12), name


def buckets_of(before: list[Any], text: bool) -> Any:
    """The bucket of a value: one of ten equally filled ranges of what was there before, or the text itself."""
    numbers = sorted(float(value) for value in before if value is not None and not text and value == value)
    # as ntile(10) deals them out: the first tenths have one more where ten does not divide
    size, more = divmod(len(numbers), 10)
    ends = [tenth * size + min(tenth, more) for tenth in range(1, 11)]
    edges = [numbers[end - 1] for end in ends if end > 0]
    texts = {value for value, _ in sorted(Counter(filter(None.__ne__, before)).items(), key=lambda one: (-one[1], str(one[0])))[:100]} if text else set()  # fmt: skip

    def place(value: Any) -> Any:
        if value is None:
            return "NULL"
        if text:
            return ("=", value) if value in texts else "other"
        number = float(value)
        if math.isnan(number):
            return "NaN"
        if numbers and number < numbers[0]:
            return "below"
        return sum(edge < number for edge in edges)

    return place


def shares(buckets: list[Any]) -> dict[Any, float]:
    return {bucket: count / len(buckets) for bucket, count in Counter(buckets).items()}


def psi(p: dict[Any, float], q: dict[Any, float]) -> float:
    pairs = [(max(p.get(bucket, 0), 0.0001), max(q.get(bucket, 0), 0.0001)) for bucket in p | q]
    return sum((b - a) * math.log(b / a) for a, b in pairs)


def js(p: dict[Any, float], q: dict[Any, float]) -> float:
    def against_the_middle(one: dict[Any, float]) -> float:
        return sum(x * math.log2(2 * x / (p.get(bucket, 0) + q.get(bucket, 0))) for bucket, x in one.items())

    return (against_the_middle(p) + against_the_middle(q)) / 2


def of_texts(views: Views, before: list[str | None], after: list[str | None]) -> dict[str, Any]:
    now = [False] * len(before) + [True] * len(after)
    create(views, now, {"t": pa.array(before + after, pa.string())})
    return measured(views)["t"]


def test_the_measures_of_known_shares_are_the_known_values(views: Views) -> None:
    same = of_texts(views, ["a", "b"] * 50, ["b", "a"] * 30)
    assert same["population_stability_index"] == same["jensen_shannon_divergence"] == 0
    # (0.9 - 0.5) ln 1.8 + (0.1 - 0.5) ln 0.2, and with m = (0.7, 0.3) half of the two divergences from it
    moved = of_texts(views, ["a"] * 5 + ["b"] * 5, ["a"] * 9 + ["b"])
    assert moved["population_stability_index"] == pytest.approx(0.878890, abs=1e-6)
    assert moved["jensen_shannon_divergence"] == pytest.approx(0.146793, abs=1e-6)
    apart = of_texts(views, ["a"] * 10, ["b", None])
    assert apart["jensen_shannon_divergence"] == pytest.approx(1)
    assert apart["null_fraction_now"] == 0.5


def test_texts_beyond_the_hundred_most_frequent_are_one_bucket(views: Views) -> None:
    # every row has a text of its own: new ones of the same kind are no drift
    ids = of_texts(views, [f"a{number}" for number in range(5000)], [f"b{number}" for number in range(5000)])
    assert ids["jensen_shannon_divergence"] < 0.05 and ids["population_stability_index"] < 0.1
    frequent = of_texts(views, ["x"] * 900 + [f"a{n}" for n in range(100)], [f"b{n}" for n in range(1000)])
    assert frequent["jensen_shannon_divergence"] > 0.9


def test_the_newest_period_ends_with_the_newest_row_that_can_be_seen(views: Views) -> None:
    views.create(
        "timed",
        """select user_id, timestamp '2024-01-31' - hours * interval 1 hour as event_timestamp, x
        from (values (1, 0, 1), (2, 23, 2), (3, 24, 4), (4, 47, 8), (5, 48, 16), (6, -100 * 365 * 24, 32))
            as rows(user_id, hours, x)""",
    )
    (row,) = views.rows("feature_drift_measures", "timed", period="1 day")
    micro = timedelta(microseconds=1)
    assert row["period_end"] == datetime(2024, 1, 31) + micro and row["period_start"] == datetime(2024, 1, 30) + micro
    assert row["baseline_end"] == row["period_start"] and row["baseline_start"] == datetime(2024, 1, 29) + micro
    assert (row["rows_now"], row["rows_before"]) == (2, 2)
    (row,) = views.rows("feature_drift_measures", "timed", period="1 day", end="2024-01-30 12:00:00")
    assert row["period_end"] == datetime(2024, 1, 30, 1) + micro
    assert (row["rows_now"], row["rows_before"]) == (2, 2)


def test_a_view_without_rows_has_no_drift(views: Views) -> None:
    create(views, [], {"x": pa.array([], pa.int64())})
    for arguments in ({"period": "7 days"}, {"baseline_start": "2024-01-01", "baseline_end": "2024-01-02"}):
        row = measured(views, **arguments)["x"]
        assert (row["rows_before"], row["rows_now"]) == (0, 0)
        assert row["population_stability_index"] is row["null_fraction_now"] is None


# In a real dbt project: the generic test, Python and the command.


def weeks(before: str, now: str) -> str:
    return f"""
        select i as user_id, now() - interval 8 days as event_timestamp, {before} as feature from range(1000) as t(i)
        union all
        select i, now() - interval 1 day, {now} from range(1000) as t(i)
    """


MOVED = "the values of the last 7 days differ from those before by more than 0.2"
DIVERGED = "the values of the last 7 days diverge from those before by more than 0.1"
MORE_NULLS = "the share of NULL in the last 7 days differs from that before by more than 0.1"
# The rows, the arguments of the test, and the rule it breaks, or the sentence that stops it.
CASES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "psi_by_name": (weeks("i % 10", "i % 10 + 5"), {"measure": "psi"}, MOVED),
    "js_as_before": (weeks("i % 10", "(i + 3) % 10"), {"measure": "js"}, None),
    "js_that_moved": (weeks("i % 10", "i % 10 + 5"), {"measure": "js"}, DIVERGED),
    "js_within_its_limit": (weeks("i % 10", "i % 10 + 5"), {"measure": "js", "maximum": 1}, None),
    "nulls_as_before": (weeks("nullif(i % 10, 0)", "nullif(i % 10, 3)"), {"measure": "null_rate"}, None),
    "nulls_that_came": (weeks("i", "case when i % 5 > 0 then i end"), {"measure": "null_rate"}, MORE_NULLS),
    "nulls_that_went": (weeks("case when i % 5 > 0 then i end", "i"), {"measure": "null_rate"}, MORE_NULLS),
    "nulls_of_lists": (weeks("[i]", "case when i % 2 = 0 then [i] end"), {"measure": "null_rate"}, MORE_NULLS),
    "rows_that_where_leaves_out": (weeks("i % 10", "i % 10 + 50 * (i % 2)"), {"where": "user_id % 2 = 0"}, None),
    "nulls_of_few_rows": (weeks("i", "null"), {"measure": "null_rate", "minimum_rows": 1001}, None),
}  # fmt: skip
ERRORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an_unknown_measure": (weeks("1", "1"), {"measure": "kl"}, "measure is 'kl'; it is one of: psi, js, null_rate."),
    "a_divergence_above_one": (weeks("1", "1"), {"measure": "js", "maximum": 2}, "maximum is '2'; it is a number from 0 to 1"),
    "js_of_a_list": (weeks("[1]", "[1]"), {"measure": "js"}, "compares numbers, text and booleans; 'feature' of 'js_of_a_list' is INTEGER[]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, str]:
    """The project with all tests run, and everything dbt complained about."""
    models = [
        {
            "name": name,
            "config": {"materialized": "table", "meta": {"feature_view": {"entities": ["user_id"]}}},
            "columns": [{
                "name": "feature",
                "data_tests": [{"feature_store.feature_drift": {
                    "name": f"test_{name}",
                    "arguments": {key: value for key, value in arguments.items() if key != "where"},
                    "config": {key: value for key, value in arguments.items() if key == "where"},
                }}],
            }],
        }
        for name, (_, arguments, _) in {**CASES, **ERRORS}.items()
    ]  # fmt: skip
    sql = {f"models/{name}.sql": rows for name, (rows, _, _) in {**CASES, **ERRORS}.items()}
    project = make_project(tmp_path_factory.mktemp("drift"), {"models/views.yml": {"models": models}, **sql})
    project.dbt("run")
    with pytest.raises(DbtFailed) as failed:
        project.dbt("test", "--store-failures")
    return project, str(failed.value)


@pytest.mark.parametrize("case", CASES)
def test_the_generic_test_breaks_the_rule_of_its_measure(tested: tuple[DbtProject, str], case: str) -> None:
    with duckdb.connect(str(tested[0].warehouse), read_only=True) as connection:
        found = connection.execute(f"select broken_rule from main_dbt_test__audit.test_{case}").fetchall()
    assert found == ([(CASES[case][2],)] if CASES[case][2] else [])


@pytest.mark.parametrize("case", ERRORS)
def test_a_mistake_in_the_generic_test_is_said_in_one_sentence(tested: tuple[DbtProject, str], case: str) -> None:
    assert ERRORS[case][2] in tested[1]


def test_python_compares_the_newest_period_and_describes_it(tested: tuple[DbtProject, str]) -> None:
    stats = FeatureStore(tested[0].folder).get_statistics("nulls_that_came", compare="7 days")
    (drift,) = stats.drift
    assert (drift.rows_before, drift.rows_now) == (1000, 1000) and drift.null_change == pytest.approx(0.2)
    assert (stats["feature"].row_count, stats["feature"].null_count) == (1000, 200)
    assert stats.end - stats.start == timedelta(days=7) == stats.start - stats.baseline_start
    assert {"population_stability_index", "null_fraction_before"} < set(stats.to_df().columns)
    assert stats.exceeded(max_psi=0.01, max_null_change=0.3)[0].measure == "psi"
    assert stats.exceeded(max_psi=0.01, few_rows=1001) == []


def test_python_compares_with_a_baseline(tested: tuple[DbtProject, str]) -> None:
    today = datetime.now(timezone.utc)
    baseline = (today - timedelta(days=9), today - timedelta(days=7))
    store = FeatureStore(tested[0].folder)
    stats = store.get_statistics("js_that_moved", compare=baseline)
    assert stats.drift[0].jensen_shannon_divergence > 0.1 and stats.drift[0].rows_now == 1000
    assert (stats.baseline_start, stats.start) == (baseline[0], baseline[1])
    text = f"{baseline[0].isoformat()}..{baseline[1].isoformat()}"
    narrow = store.get_statistics("js_that_moved", compare=text, start=baseline[1], end=today - timedelta(days=2))
    assert (narrow.drift[0].rows_before, narrow.drift[0].rows_now) == (1000, 0)
    assert narrow.drift[0].verdict() == "few rows"


def test_the_command_says_what_drifts_and_fails_above_a_limit(tested: tuple[DbtProject, str]) -> None:
    where = ["--project-dir", str(tested[0].folder), "--compare", "7 days"]
    ran = run("feature-store", "stats", "js_that_moved", "js_as_before", "nulls_of_lists", *where)
    assert ran.code == 0 and ran.err == ""
    lines = [line.split() for line in ran.out.splitlines()]
    verdicts = [line[6:] for line in lines if line and line[0] == "feature" and line[1] != "type"]
    assert verdicts == [["drifted"], ["stable"], ["not", "compared"]]
    ran = run("feature-store", "stats", "js_that_moved", "js_as_before", *where, "--max-psi", "0.2", "--max-js", "0.9")
    assert ran.code == 1 and "above the limit" in ran.out and "js_that_moved:feature: psi" in ran.err
    ran = run("feature-store", "stats", "nulls_of_lists", *where, "--max-null-change", "0.4", "--output", "json")
    assert ran.code == 1
    assert [(over["feature"], over["measure"]) for over in ran.json["exceeded"]] == [("feature", "null_change")]
    assert ran.json["views"][0]["drift"][0]["null_change"] == 0.5
    ran = run("feature-store", "stats", "nulls_of_lists", *where, "--max-null-change", "0.4", "--min-rows", "1001")
    assert ran.code == 0 and "few rows" in ran.out


def test_drift_above_a_limit_is_posted_to_a_webhook(tested: tuple[DbtProject, str]) -> None:
    asked = ("stats", "js_that_moved", "--project-dir", str(tested[0].folder), "--compare", "7 days")
    with receive() as receiver:
        assert run("feature-store", *asked, "--max-psi", "0.2", "--webhook", receiver.url).code == 1
        (over,) = receiver.report["exceeded"]
        assert (over["view"], over["measure"], over["limit"]) == ("js_that_moved", "psi", 0.2) and over["value"] > 0.2
        assert receiver.report["text"].startswith("Drift: js_that_moved:feature: psi ")
    with receive() as receiver:
        assert run("feature-store", *asked, "--max-psi", "99", "--webhook", receiver.url).code == 0
        assert not receiver.requests


@pytest.mark.parametrize(
    ("index", "rows", "verdict"),
    [(0.05, 100, "stable"), (0.1, 100, "moved"), (0.25, 100, "moved"), (0.26, 100, "drifted"), (9.0, 99, "few rows"), (None, 100, "not compared")],
)  # fmt: skip
def test_a_verdict_is_one_word_for_the_index(index: float | None, rows: int, verdict: str) -> None:
    assert FeatureDrift("x", "BIGINT", "integer", 1000, rows, 0.0, 0.0, index, 0.0).verdict() == verdict


def test_json_is_one_document_of_plain_numbers(tested: tuple[DbtProject, str]) -> None:
    stats = FeatureStore(tested[0].folder).get_statistics("js_that_moved", compare="7 days")
    text = json.dumps(stats.to_dict(), default=str, allow_nan=False)
    assert json.loads(text)["drift"][0]["rows_now"] == 1000
