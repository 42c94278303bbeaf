"""No value rests on a profile's settings, on how an expression is written or on what things are called; and a batch sees its past.

All models stand in one project (`tests/support/edges.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from materializer import InputError
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from tests.support.dbt import PACKAGE, DbtProject
from tests.support.edges import AGGREGATES, HOSTILE, NAMED, SERVICE, WINDOWS, edge_project
from tests.support.rendered import Views

BATCHES = ("--event-time-start", "2026-01-02", "--event-time-end", "2026-01-04")
BATCHED = {"b_windows": "t_windows", "b_dense": "t_dense", "b_event": "w_event"}
SAME = [*WINDOWS, "w_text", "w_bare", "t_windows", "t_text", "t_dense", "t_range", "l_change"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = edge_project(tmp_path_factory.mktemp("edges"))
    with duckdb.connect(str(project.warehouse)) as connection:  # a unit test of an incremental run wants its table
        connection.execute("create table u_bought (user_id integer, event_timestamp timestamp, n_7d bigint)")
    project.dbt("build", *BATCHES)
    return project


@pytest.fixture(scope="module")
def tables(project: DbtProject) -> Iterator[duckdb.DuckDBPyConnection]:
    """What every model's SQL gives under plain settings (schema ``plain``) and, for those of SAME, under hostile ones (``hostile``)."""
    with duckdb.connect() as connection:
        connection.execute(
            f"attach '{project.warehouse}' as warehouse (read_only); create schema plain; create schema hostile"
        )
        for name in connection.execute(
            "select table_name from duckdb_tables() where database_name = 'warehouse' and schema_name = 'main' union all"
            " select view_name from duckdb_views() where database_name = 'warehouse' and not internal"
        ).fetchall():
            connection.execute(f'create table plain."{name[0]}" as select * from warehouse.main."{name[0]}"')
        for setting, value in HOSTILE.items():
            connection.execute(f"set {setting} = '{value}'")
        for name in SAME:
            connection.execute(f"create table hostile.{name} as {project.compiled(name)}")
        for setting in HOSTILE:
            connection.execute(f"reset {setting}")
        yield connection


def _differing(tables: duckdb.DuckDBPyConnection, one: str, other: str, where: str = "") -> int:
    # Texts as bytes, since a column made under a collation compares by it.
    rows = [f"select hash(t::varchar::blob) from {name} as t {where}" for name in (one, other)]
    union = f"({rows[0]} except all {rows[1]}) union all ({rows[1]} except all {rows[0]})"
    return tables.execute(f"select count(*) from ({union})").fetchone()[0]


@pytest.mark.parametrize("name", SAME)
def test_a_profile_that_turns_every_default_round_changes_no_value(tables: Any, name: str) -> None:
    assert tables.execute(f"select count(*) from plain.{name}").fetchone()[0] >= (3 if name == "l_change" else 30)
    assert _differing(tables, f"plain.{name}", f"hostile.{name}") == 0


@pytest.mark.parametrize("other", ["w_text", "w_bare", "w_range"])
def test_a_query_given_as_text_gives_what_its_relation_gives_also_the_time_zone(tables: Any, other: str) -> None:
    assert _differing(tables, "plain.w_change", f"plain.{other}") == 0
    described = [tables.execute(f"describe plain.{name}").fetchall() for name in ("w_change", other)]
    assert described[0] == described[1]
    assert ("event_timestamp", "TIMESTAMP WITH TIME ZONE") in [row[:2] for row in described[0]]


@pytest.mark.parametrize(("batched", "whole"), BATCHED.items())
def test_a_microbatch_sees_the_history_before_it(tables: Any, batched: str, whole: str) -> None:
    inside = "where event_timestamp >= timestamptz '2026-01-02 00:00+00' and event_timestamp < timestamptz '2026-01-04 00:00+00'"
    assert tables.execute(f"select count(*) from plain.{batched}").fetchone()[0] >= 30
    assert _differing(tables, f"plain.{batched}", f"(select * from plain.{whole} {inside})") == 0


def test_an_expression_may_end_in_a_comment_and_hold_what_it_likes_in_quotes(tables: Any) -> None:
    expected = """
        select count(*), sum(case when n > 5 or kind = 'X' then v end), max("say ""hi"" ") from plain.events
        where user_key = 'A' and at > timestamptz '2026-01-02 10:00+00' - interval 1 day and at <= timestamptz '2026-01-02 10:00+00'
    """.replace(" at ", ' "at" ')
    got = """
        select rows_1d, spent_1d, odd_1d from plain.w_change
        where user_key = 'A' and event_timestamp <= timestamptz '2026-01-02 10:00+00' order by event_timestamp desc limit 1
    """
    (rows, spent, odd), (rows_1d, spent_1d, odd_1d) = (
        tables.execute(expected).fetchone(),
        tables.execute(got).fetchone(),
    )
    assert (rows, odd) == (rows_1d, odd_1d) and rows > 10
    assert spent == pytest.approx(spent_1d)


def test_views_of_any_name_and_version_are_found_and_the_columns_quoted(tables: Any) -> None:
    result = tables.execute("select * from plain.t_named where user_key = 'a' order by label limit 1")
    names = [column[0] for column in result.description]
    answer = dict(zip(names, result.fetchall()[0], strict=True))
    values = dict(list(answer.items())[-len(NAMED) :])
    assert list(values.values()) == [1, 3, 4, 5, 8, 2, 6, 7]
    assert list(values)[:6] == [
        "users_vgolden__x",
        "users__x",
        "clicks_v2__x",
        "dash-ed__x",
        'quoted__fea"ture',
        "users_v1.5__x".replace(".", "_"),
    ]
    result = tables.execute("select * from plain.l_quoted")
    assert [column[0] for column in result.description] == ['k"ey', 'a"t', 'made"', 'fea"ture']
    assert len(result.fetchall()) == 1


def test_a_service_by_its_name_is_the_list_of_its_features(project: DbtProject, tables: Any) -> None:
    with open_warehouse(load_project(project.folder)) as warehouse:
        renderer = MacroRenderer(project.manifest(), warehouse.columns)
        spine = Relation('"warehouse"."main"."odd_labels"')
        by_list, by_name = (
            renderer.render("point_in_time_join", spine, features, full_feature_names=True)
            for features in (SERVICE, "odd_names")
        )
    compiled = re.sub("(?m)^-- depends_on.*\n", "", project.compiled("t_service"))
    assert by_list == by_name == compiled.strip()
    assert (
        _differing(
            tables, "plain.t_service", '(select * exclude ("users_v1_5__x", my_view__x, clicks__x) from plain.t_named)'
        )
        == 0
    )


def test_a_projects_own_macros_of_the_same_names_stand_beside_the_packages(project: DbtProject) -> None:
    for name in ("l_change", "w_change", "t_windows", "t_dense"):
        assert "not the package" not in project.compiled(name)


def test_windows_say_in_meta_how_far_ahead_their_rows_may_lie(project: DbtProject) -> None:
    nodes = project.manifest()["nodes"]
    stated = {
        name: {
            key: value for key, value in nodes[f"model.shop.{name}"]["config"]["meta"].items() if key != "feature_view"
        }
        for name in ("w_change", "w_every", "w_event", "live_windows")
    }
    assert stated == {
        "w_change": {"feature_store_windows_1d": {"grain": "change", "ahead": "1 day"}},
        "w_every": {"feature_store_windows_1d": {"grain": "every", "ahead": "93600 seconds"}},
        "w_event": {},
        "live_windows": {"feature_store_windows_30d": {"grain": "change", "ahead": "30 days"}},
    }


def test_the_test_of_a_view_names_the_rules_it_breaks_and_what_services_ask_of_it_in_vain(project: DbtProject) -> None:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        rules = connection.execute("select broken_rule from main_dbt_test__audit.the_test_of_too_late").fetchall()
    expected = {
        "event timestamp 'event_timestamp' lies beyond the newest event and 30 days",
        "exposure 'broken' asks for 'too_late:bought_latly', which is no feature of the view",
        "exposure 'broken' asks for 'nobody:x', and there is no such feature view",
    }
    assert {rule for (rule,) in rules} == expected
    printed = (project.folder / "logs" / "dbt.log").read_text()
    assert all(f"Feature view 'too_late': {rule} (rows: 1)" in printed for rule in expected)


def _terms_without_order(sql: str) -> Iterator[str]:
    """The ORDER BY terms that leave their direction or the place of NULL to the settings."""
    sql = re.sub(r"--[^\n]*", "", sql).lower()
    sql = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "x", sql)
    for match in re.finditer(r"\border by\b", sql):
        depth, term, terms = 0, "", []
        for letter in sql[match.end() :] + ")":
            depth += (letter in "([{") - (letter in ")]}")
            if depth < 0 or (depth == 0 and re.search(r"\b(rows|range|groups|limit)$", term)):
                break
            if letter == "," and depth == 0:
                terms.append(term)
                term = ""
            else:
                term += letter
        for one in [*terms, re.sub(r"\b(rows|range|groups|limit)$", "", term)]:
            if not re.search(r"\b(asc|desc)\s+nulls\s+(first|last)\s*$", one):
                yield one.strip()


@pytest.mark.parametrize("adapter", ["duckdb", "postgres"])
def test_every_order_by_says_its_direction_and_where_null_stands(project: DbtProject, adapter: str) -> None:
    with open_warehouse(load_project(project.folder)) as warehouse:
        manifest = project.manifest()
        renderer = MacroRenderer(
            {**manifest, "metadata": {**manifest["metadata"], "adapter_type": adapter}}, warehouse.columns
        )
        events, labels = (Relation(f'"warehouse"."main"."{name}"') for name in ("events", "labels"))
        texts = [
            renderer.render("latest", "quoted"),
            renderer.render("point_in_time_join", labels, ["w_known:rows_1d", "w_change:closed_2h"]),
            renderer.render("feature_freshness", ["w_change"]),
            renderer.render("feature_difference", "w_change", "w_known", sample=10),
            renderer.render("feature_difference_examples", "w_change", "w_known"),
            renderer.render("feature_statistics", "w_change"),
            renderer.render("feature_drift_measures", "w_change"),
        ]
        for grain in ("change", "event", "every 1 hour"):
            for shape in ("dense", "range"):
                for loaded in (None, "loaded"):
                    arguments = (["user_key"], "at", AGGREGATES, ["2 hours", "1 day"])
                    texts.append(renderer.render("window_aggregates", events, *arguments, grain, loaded, shape))
                    texts.append(
                        renderer.render(
                            "aggregate_as_of", labels, events, *arguments, created_timestamp=loaded, shape=shape
                        )
                    )
    texts += [path.read_text() for path in (project.folder / "target" / "compiled" / "shop").rglob("[wtlb]_*.sql")]
    assert sum(text.lower().count("order by") for text in texts) > 100
    assert [term for text in texts for term in _terms_without_order(text)] == []


def test_names_are_quoted_in_one_place() -> None:
    """dbt's own `adapter.quote` leaves a quotation mark inside a name as it is."""
    files = [path for path in (PACKAGE / "macros").rglob("*.sql") if "adapter.quote(" in path.read_text()]
    assert [path.name for path in files] == ["_names.sql"]


def test_that_test_sees_a_term_without_its_order() -> None:
    sql = "select max(x) over (partition by k order by f(a, b) desc nulls last, c rows between 1 preceding and current row) order by d asc limit 3"
    assert list(_terms_without_order(sql)) == ["c", "d asc"]


class _Filtered(Relation):
    """A relation as dbt gives it to a microbatch: what it is called, the filter of the batch, and the limit of --empty."""

    limit: int | None = None

    @property
    def event_time_filter(self) -> Any:
        return type("Filter", (), {"field_name": "happened"})

    def render_limited(self) -> str:
        return self.sql if self.limit is None else f"(select * from {self.sql} where false limit 0)"


def test_history_in_a_batch_keeps_to_empty_and_to_sample(project: DbtProject) -> None:
    renderer = MacroRenderer(project.manifest(), lambda relation: [])
    history = renderer._macro("feature_store", "_history")
    assert str(history(_Filtered("events"))) == "events"
    renderer._context["model"] = {"batch": {"event_time_start": "2026-01-01", "event_time_end": "2026-01-02"}}
    renderer._context["invocation_args_dict"] = {}
    renderer._compiled.clear()
    history = renderer._macro("feature_store", "_history")
    assert history(_Filtered("events")) == "events"
    empty = type("Empty", (_Filtered,), {"limit": 0})("events")
    assert history(empty) == "(select * from events where false limit 0)"
    renderer._context["invocation_args_dict"] = {"sample": {"start": "2025-12-01", "end": "2026-02-01"}}
    renderer._compiled.clear()
    history = renderer._macro("feature_store", "_history")
    assert (
        history(_Filtered("events"))
        == "(select * from events where happened >= '2025-12-01' and happened < '2026-02-01')"
    )
    assert "where false limit 0) where happened" in history(empty)


ONE = [{"name": "n", "function": "count"}]
EVENTS = "(select 1 as user_id, timestamp '2026-01-01' as happened, 1 as v{})"
SENTENCES: dict[str, tuple[Any, str]] = {
    **{
        f"{macro}: {what}": (call, sentence)
        for macro in ("window_aggregates", "aggregate_as_of")
        for what, call, sentence in [
            ("a key of ours", {"entities": ["_fs_event"]}, "the relation of the events has a column '_fs_event'"),
            (
                "a value of ours",
                {"entities": ["user_id"], "also": "_fs_1"},
                "has a column '_fs_1', but names that begin with _fs_",
            ),
            (
                "the key event_timestamp",
                {"entities": ["event_timestamp"]},
                "the key 'event_timestamp' has the name of the column of moments: rename it",
            ),
            (
                "an aggregate of ours",
                {"aggregates": [{"name": "_fs_row", "function": "count"}]},
                "has a name that begins with _fs_",
            ),
            *(
                (
                    f"the expression {text!r}",
                    {"aggregates": [{"name": "s", "function": "sum", "expression": text}]},
                    f"aggregate 's': expression {sentence}",
                )
                for text, sentence in {
                    "-- nothing": "holds no SQL",
                    "v, v": "is more than one expression",
                    "v; drop table x": "is more than one expression",
                    "v)": "closes a parenthesis that was not opened",
                    "(v": "has a parenthesis that is not closed",
                    "v end, case when true then 1": "is more than one expression",
                    "v end + case when true then 1 end": "has a CASE without its END, or an END without its CASE",
                    "v /* net": "has a comment that is not closed",
                    "'v": "has a quotation mark that is not closed",
                    "v as w": "has 'as' outside parentheses",
                    "v from x where true": "has 'where' outside parentheses",
                }.items()
            ),
        ]
    },
}


@pytest.fixture(scope="module")
def views() -> Views:
    return Views()


def _render(
    views: Views, macro: str, entities: Any = ("user_id",), aggregates: Any = ONE, also: str | None = None
) -> str:
    names = [name for name in (*entities, also) if name and name != "user_id"]
    events = Relation(EVENTS.format("".join(f', 2 as "{name}"' for name in names)))
    spine = (
        [Relation("(select 1 as user_id, timestamp '2026-01-01' as event_timestamp)")]
        if macro == "aggregate_as_of"
        else []
    )
    return views.sql(macro, *spine, events, list(entities), "happened", aggregates, ["7 days"])


@pytest.mark.parametrize("case", SENTENCES)
def test_what_cannot_be_meant_is_refused_in_a_sentence(views: Views, case: str) -> None:
    call, sentence = SENTENCES[case]
    with pytest.raises(InputError) as refused:
        _render(views, case.split(":")[0], **call)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("macro", ["point_in_time_join", "aggregate_as_of"])
@pytest.mark.parametrize("name", ["_fs_row", "_fs_moment", "_FS_x"])
def test_a_spine_with_a_column_of_ours_is_refused(views: Views, macro: str, name: str) -> None:
    spine = Relation(f"(select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 3 as {name})")
    views.create("ages", "select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 40 as age")
    rest = (
        [["ages:age"]]
        if macro == "point_in_time_join"
        else [Relation(EVENTS.format("")), "user_id", "happened", ONE, "7 days"]
    )
    with pytest.raises(
        InputError, match=rf"The spine has a column '{name}', but names that begin with _fs_ .*rename it"
    ):
        views.sql(macro, spine, *rest)


@pytest.mark.parametrize(
    ("macro", "arguments"),
    [
        ("latest", []),
        ("feature_statistics", []),
        ("feature_freshness", []),
        ("feature_drift_measures", []),
        ("feature_difference", ["odd"]),
    ],
)
@pytest.mark.parametrize("column", ["_fs_event", "_fs_row", "_FS_created"])
def test_a_view_with_a_column_of_ours_is_refused(views: Views, macro: str, arguments: list[str], column: str) -> None:
    views.create("odd", f"select 1 as user_id, timestamp '2026-01-01' as event_timestamp, 3 as {column}")
    with pytest.raises(InputError, match=rf"Feature view 'odd' has a column '{column}'"):
        views.sql(macro, "odd", *arguments)


EXPRESSIONS = {
    "v": 6, "v -- net": 6, "v;": 6, " v ; -- net\n": 6, "/* a */ v /* b /* c */ d */": 6, "v\n-- x\n+ 1": 9, "case when v > 1 then v end": 5,
    "greatest(v, 2)": 7, "v - -1": 9, "length('--') * v": 12, "length('/*)') * v": 18, "v -- it's": 6, '"v"': 6, "length($$)--$$) + v": 15,
    "length($a$ ( $$ $a$) * v": 36, "[v, 1][1]": 6, "length('it''s;') * v": 30, "length(E'\\')--') * v": 24,
}  # fmt: skip


@pytest.mark.parametrize("shape", ["dense", "range"])
@pytest.mark.parametrize("text", EXPRESSIONS, ids=repr)
def test_an_expression_means_the_same_however_it_is_written(views: Views, text: str, shape: str) -> None:
    events = Relation("(select 1 as user_id, timestamp '2026-01-01' as happened, unnest([1, 2, 3]) as v)")
    spine = Relation("(select 1 as user_id, timestamp '2026-01-02' as event_timestamp)")
    sums = [{"name": "s", "function": "sum", "expression": text}]
    (row,) = views.rows("aggregate_as_of", spine, events, "user_id", "happened", sums, "7 days", shape=shape)
    assert row["s_7d"] == EXPRESSIONS[text]


@pytest.mark.parametrize("shape", ["dense", "range"])
@pytest.mark.parametrize(
    ("condition", "expected"), [("v = 1 or v = 3", 4), ("v > 1 -- paid", 5), ("v > 1; ", 5), ("(v, v) = (2, 2)", 2)]
)
def test_a_condition_keeps_to_itself(views: Views, condition: str, expected: int, shape: str) -> None:
    events = Relation("(select 1 as user_id, timestamp '2026-01-01' as happened, unnest([1, 2, 3]) as v)")
    spine = Relation("(select 1 as user_id, timestamp '2026-01-02' as event_timestamp)")
    sums = [{"name": "s", "function": "sum", "expression": "v", "where": condition}]
    (row,) = views.rows("aggregate_as_of", spine, events, "user_id", "happened", sums, "7 days", shape=shape)
    assert row["s_7d"] == expected


def test_a_service_that_is_not_there_or_broken_is_said_in_a_sentence() -> None:
    view = {
        "resource_type": "model", "name": "ages", "version": None, "latest_version": None, "description": "", "tags": [], "columns": {},
        "relation_name": "ages", "unique_id": "model.shop.ages", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
    }  # fmt: skip
    exposures = {
        name: {"name": name, "type": "ml", "config": {"meta": {"features": of}}}
        for name, of in {"broken": ["ags:age"], "empty": [], "good": ["ages:age"], "odd": "ages:age"}.items()
    }
    manifest = {
        "metadata": {"adapter_type": "duckdb", "project_name": "shop"}, "macros": {}, "nodes": {"model.shop.ages": view}, "exposures": exposures,
    }  # fmt: skip
    renderer = MacroRenderer(manifest, lambda relation: [])
    sentences = {
        "nobody": "there is no feature service 'nobody'; there are: broken, empty, good, odd.",
        "broken": "Exposure 'broken': 'ags:age' in meta.features names no feature view; there are: ages.",
        "empty": "Exposure 'empty': meta.features is a list of 'view:feature' references; it is: [].",
        "odd": "Exposure 'odd': meta.features is a list of 'view:feature' references; it is: ages:age.",
    }
    for name, expected in sentences.items():
        with pytest.raises(InputError) as refused:
            renderer.render("point_in_time_join", Relation("labels"), name)
        assert expected in str(refused.value)
    assert "ages" in renderer.render("point_in_time_join", Relation("labels"), "good")
    # A model that dbt does not know to need the view.
    renderer._context["model"] = {"depends_on": {"nodes": []}}
    renderer._compiled.clear()
    with pytest.raises(
        InputError, match=r"put these lines at the top of the model\.\n-- depends_on: \{\{ ref\('ages'\) \}\}$"
    ):
        renderer.render("point_in_time_join", Relation("labels"), "good")
