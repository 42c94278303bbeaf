"""The SQL that the SDK renders is the SQL that `dbt compile` gives: both come from the same macro files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from materializer import InputError
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.project.settings import load_project
from materializer.warehouse import open_warehouse
from tests.support.dbt import DbtProject, make_project

SPINE = '"warehouse"."main"."spine"'
VIEWS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, "select 1 as user_id, now() as event_timestamp, 1 as a, 'x' as b"),
    "rich": (
        {"timestamp": "happened", "created_timestamp": "loaded", "ttl": "1 week", "available_after": "2 hours"},
        """select 1 as user_id, now() as happened, localtimestamp as loaded, 1.5::double as a, [1.0]::float[1] as "C d",
            {'x': [1, 2]::integer[2]} as s""",
    ),
    "pairs": (
        {"entities": ["user_id", "item"], "timestamp": "at", "created_timestamp": "made"},
        "select 1 as user_id, 'i' as item, now()::timestamp_ns as at, now() as made, true as flag",
    ),
    "typed": (
        {"entities": ["user_id", "item"]},
        "select '1' as user_id, 'i'::enum('i', 'j') as item, now() as event_timestamp, 1 as z",
    ),
    "exact": ({}, "select 1::decimal(10, 2) as user_id, now() as event_timestamp, 1 as w"),
}

# The arguments after the spine, by the name of the model.
TRAINING: dict[str, dict[str, Any]] = {
    "t_one_view": {"features": ["plain:a", "plain:b"]},
    "t_every_view": {"features": ["plain:b", "rich:a", "rich:C d", "rich:s", "pairs:flag"]},
    "t_full_names": {"features": ["plain:a", "rich:a"], "full_feature_names": True},
    "t_strictly_before": {"features": ["rich:a", "plain:b"], "allow_exact_matches": False},
    "t_unfiltered": {"features": ["rich:a", "pairs:flag"], "filter_by_created_timestamp": False},
    "t_other_time": {"features": ["plain:a"], "timestamp": "other_time"},
    "t_other_key_types": {"features": ["typed:z", "exact:w", "plain:a"]},
    "t_versions": {"features": ["prices.v1:p", "prices:p"], "full_feature_names": True},
}
AGGREGATES = [
    {"name": "n", "function": "count"},
    {"name": "spent", "function": "sum", "expression": "a", "where": "a > 1"},
    {"name": "first_a", "function": "first", "expression": "a"},
]
GIVEN = {"entities": "user_id", "timestamp": "happened", "aggregates": AGGREGATES, "windows": ["2 hours", "1 day"]}
# By the name of the model: the macro, the models it reads, its arguments after these.
WINDOWS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "w_change": ("window_aggregates", ["rich"], GIVEN),
    "w_known": ("window_aggregates", ["rich"], {**GIVEN, "created_timestamp": "loaded", "grain": "every: '1 hour'"}),
    "w_range": ("window_aggregates", ["rich"], {**GIVEN, "grain": "event", "shape": "range"}),
    "w_as_of": ("aggregate_as_of", ["spine", "rich"], {**GIVEN, "allow_exact_matches": False}),
}


def arguments_of(given: dict[str, Any]) -> str:
    return ", ".join(f"{argument}={value!r}" for argument, value in given.items())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    models: list[dict[str, Any]] = [
        {"name": name, "config": {"meta": {"feature_view": {"entities": ["user_id"], **meta}}}}
        for name, (meta, _) in VIEWS.items()
    ]
    models.append(
        {
            "name": "prices",
            "latest_version": 2,
            "config": {"meta": {"feature_view": {"entities": ["user_id"]}}},
            "versions": [{"v": 1}, {"v": 2}],
        }
    )
    models.append({"name": "reserved", "config": {"meta": {"feature_view": {"entities": ["user_id"]}}}})
    project = make_project(
        tmp_path_factory.mktemp("same_sql"),
        {
            "models/views.yml": {"models": models},
            "models/spine.sql": "select 1 as user_id, 'i' as item, now() as event_timestamp, now() as other_time",
            "models/reserved.sql": "select 1 as user_id, now() as event_timestamp, 1 as _fs_event",
            "models/prices_v1.sql": "select 1 as user_id, now() as event_timestamp, 1 as p",
            "models/prices_v2.sql": "select 1 as user_id, now() as event_timestamp, 2 as p",
            # The project's own macros come before the package's, a default before a dialect too.
            "macros/now.sql": "{% macro default___now() %}localtimestamp /* our clock */{% endmacro %}",
        }
        | {f"models/{name}.sql": sql for name, (_, sql) in VIEWS.items()}
        | {f"models/latest_{name}.sql": f"{{{{ feature_store.latest('{name}') }}}}" for name in [*VIEWS, "prices"]}
        | {
            f"models/{name}.sql": f"{{{{ feature_store.point_in_time_join(ref('spine'), {arguments_of(arguments)}) }}}}"
            for name, arguments in TRAINING.items()
        }
        | {
            f"models/{name}.sql": f"{{{{ feature_store.{macro}({', '.join(f'ref({one!r})' for one in read)}, {arguments_of(given)}) }}}}"
            for name, (macro, read, given) in WINDOWS.items()
        },
    )
    project.dbt("build")
    return project


@pytest.fixture
def renderer(project: DbtProject) -> Iterator[MacroRenderer]:
    with open_warehouse(load_project(project.folder)) as warehouse:
        yield MacroRenderer(project.manifest(), warehouse.columns)


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_set(project: DbtProject, renderer: MacroRenderer, name: str) -> None:
    assert renderer.render("point_in_time_join", Relation(SPINE), **TRAINING[name]) == project.compiled(name).strip()


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(project: DbtProject, renderer: MacroRenderer, name: str) -> None:
    macro, read, given = WINDOWS[name]
    relations = [Relation(f'"warehouse"."main"."{one}"') for one in read]
    assert renderer.render(macro, *relations, **given) == project.compiled(name).strip()


@pytest.mark.parametrize("name", [*VIEWS, "prices"])
def test_the_latest_rows(project: DbtProject, renderer: MacroRenderer, name: str) -> None:
    sql = renderer.render("latest", name)
    assert sql == project.compiled(f"latest_{name}").strip()
    assert "/* our clock */" in sql


def test_an_error_is_the_sentence_that_dbt_stops_with(renderer: MacroRenderer) -> None:
    with pytest.raises(InputError, match=r"Feature view 'plain' has no feature 'z'; it has: a, b\."):
        renderer.render("point_in_time_join", Relation(SPINE), ["plain:z"])


def test_names_that_the_store_keeps_for_itself_are_refused_by_the_macros_too(renderer: MacroRenderer) -> None:
    with pytest.raises(InputError, match=r"Feature view 'reserved' has a column '_fs_event'.*rename it\."):
        renderer.render("latest", "reserved")
    with pytest.raises(InputError, match=r"Feature view 'reserved' has a column '_fs_event'.*rename it\."):
        renderer.render("point_in_time_join", Relation(SPINE), ["reserved:_fs_event"])
    with pytest.raises(InputError, match=r"The spine has a column '_fs_row'.*rename it\."):
        spine = Relation("(select 1 as user_id, now() as event_timestamp, 2 as _fs_row)")
        renderer.render("point_in_time_join", spine, ["plain:a"])
