"""Training sets, `latest` and online reads give what the rule in `tests/oracle.py` gives, for thousands of cases.

All cases stand in one table under a `case_id` join key. dbt builds a relation for each kind of view, and each training
set as a model of its own with the public macro; the SDK and a real Redis are asked for the same cases afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from materializer import FeatureStore
from materializer.online import request as online_request
from materializer.warehouse.arrow import to_plain
from tests import oracle
from tests.support.cases import (
    BIG_KEYS,
    EPOCH,
    FEATURES,
    NAMES_IN_ORDER,
    NASTY_PAIRS,
    STEP,
    STEPS_PASSED,
    UTC,
    Case,
    draw_cases,
    grid_start,
    microseconds,
    shown,
)
from tests.support.dbt import DbtProject, make_project

CASES = 700
MANY = pytest.param(2_000, marks=pytest.mark.soak)

# How an instant, given as microseconds and (for nanosecond types) a few nanoseconds more, is written in SQL and Arrow.
INSTANTS = {
    "timestamp": ("make_timestamp({us})", pa.timestamp("us")),
    "timestamptz": ("make_timestamptz({us})", pa.timestamp("us", "America/New_York")),
    "timestamp_ns": ("make_timestamp_ns({us} * 1000 + nanoseconds)", pa.timestamp("ns")),
    "timestamptz_ns": (
        "cast(cast(make_timestamp_ns({us} * 1000 + nanoseconds) as varchar) || '+00' as timestamptz_ns)",
        pa.timestamp("ns", "Asia/Kolkata"),
    ),
}


@dataclass(frozen=True)
class ViewKind:
    """A feature view over the cases: what it declares, and how its columns are typed."""

    name: str
    event: str
    created: str | None = None
    ttl_hours: int | None = None
    available_after_hours: int | None = None
    composite: bool = False

    @property
    def rule(self) -> oracle.View:
        hour = 3600 * 10**6
        return oracle.View(
            created=self.created is not None,
            available_after=(self.available_after_hours or 0) * hour,
            ttl=self.ttl_hours * hour if self.ttl_hours else None,
        )

    @property
    def join_keys(self) -> list[str]:
        return ["case_id", *(["left", "right part"] if self.composite else ["user_id"])]

    @property
    def meta(self) -> dict[str, Any]:
        return {
            "entities": self.join_keys,
            "timestamp": "happened",
            **({"created_timestamp": "loaded"} if self.created else {}),
            **({"ttl": f"{self.ttl_hours} hours"} if self.ttl_hours else {}),
            **({"available_after": f"{self.available_after_hours} hours"} if self.available_after_hours else {}),
        }

    def keys(self, case_id: int, key: int | None) -> tuple[Any, ...]:
        """The join keys that stand for the key 0, 1, 2 or None of a case."""
        if not self.composite:
            return (case_id, None if key is None else BIG_KEYS[key])
        pairs = NASTY_PAIRS[case_id % len(NASTY_PAIRS)]
        return (case_id, *((pairs[0][0], None) if key is None else pairs[key]))


# A ttl of two steps of the grid, and a delay of one.
VIEWS = [
    ViewKind("plain", "timestamp"),
    ViewKind("perishable", "timestamptz", ttl_hours=4),
    ViewKind("loaded_late", "timestamptz", created="timestamp"),
    ViewKind("delayed", "timestamp_ns", available_after_hours=2),
    ViewKind("everything", "timestamptz", created="timestamp_ns", ttl_hours=4, available_after_hours=2),
    ViewKind("zoned_nanoseconds", "timestamptz_ns", created="timestamptz_ns", ttl_hours=4),
    ViewKind("pairs", "timestamp", created="timestamptz", composite=True),
]
VIEW = {view.name: view for view in VIEWS}


@dataclass(frozen=True)
class Training:
    """A training set over one view: the type of the spine's moments, and the switches of the join."""

    name: str
    view: str
    spine: str
    options: dict[str, bool] = field(default_factory=dict)

    @property
    def spine_model(self) -> str:
        return f"spine_{self.spine}{'_pairs' if VIEW[self.view].composite else ''}"

    @property
    def features(self) -> list[str]:
        return [f"{self.view}:{name}" for name in FEATURES]


STRICT = {"allow_exact_matches": False}
UNFILTERED = {"filter_by_created_timestamp": False}
TRAININGS = [
    Training("t_plain", "plain", "timestamptz"),
    Training("t_plain_strictly_before", "plain", "timestamp_ns", STRICT),
    Training("t_perishable", "perishable", "timestamp"),
    Training("t_perishable_strictly_before", "perishable", "timestamptz", STRICT),
    Training("t_loaded_late", "loaded_late", "timestamptz"),
    Training("t_loaded_late_unfiltered", "loaded_late", "timestamp", UNFILTERED),
    Training("t_loaded_late_strictly_before", "loaded_late", "timestamptz_ns", STRICT),
    Training("t_delayed", "delayed", "timestamptz"),
    Training("t_delayed_strictly_before", "delayed", "timestamp", STRICT),
    Training("t_everything", "everything", "timestamp_ns"),
    Training("t_everything_unfiltered", "everything", "timestamptz", UNFILTERED),
    Training("t_everything_strictly_before_unfiltered", "everything", "timestamp", STRICT | UNFILTERED),
    Training("t_zoned_nanoseconds", "zoned_nanoseconds", "timestamptz_ns"),
    Training("t_zoned_nanoseconds_unfiltered", "zoned_nanoseconds", "timestamptz", UNFILTERED),
    Training("t_pairs", "pairs", "timestamp"),
    Training("t_pairs_strictly_before", "pairs", "timestamptz", STRICT),
]
each_training = pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.name)
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)

# Warehouses without ASOF take the package's default: a model whose name says so goes that way here too. The root
# project wins in dispatch, so that this needs nothing from the package.
PORTABLE = """
{% macro duckdb___rows_in_force(view, knowledge, strictly_before) -%}
    {%- if model.name is defined and model.name.endswith('__portable') -%}
        {{ feature_store.default___rows_in_force(view, knowledge, strictly_before) }}
    {%- else -%}
        {{ feature_store.duckdb___rows_in_force(view, knowledge, strictly_before) }}
    {%- endif -%}
{%- endmacro %}
"""


@dataclass
class World:
    """The cases, the project that dbt built over them, and a store whose online rows were written just now."""

    cases: list[Case]
    start: int
    now: int
    project: DbtProject
    store: FeatureStore

    @property
    def asked(self) -> list[tuple[int, int | None, int | None]]:
        """(case, key, moment) of each spine row."""
        return [
            (number, key, None if moment is None else self.start + moment)
            for number, case in enumerate(self.cases)
            for key, moment in case.asked
        ]

    def rows(self, view: ViewKind, case_id: int) -> list[oracle.Row]:
        return [
            oracle.Row(
                keys=view.keys(case_id, row.key),
                event=None if row.event is None else self.start + row.event,
                created=None if row.created is None else self.start + row.created,
                features=row.features,
            )
            for row in self.cases[case_id].rows
        ]

    def expected(self, training: Training) -> list[oracle.Row | None]:
        view = VIEW[training.view]
        tables = [self.rows(view, number) for number in range(len(self.cases))]
        return [
            oracle.point_in_time_value(view.rule, tables[case_id], view.keys(case_id, key), moment, **training.options)
            for case_id, key, moment in self.asked
        ]

    def query(self, sql: str) -> pa.Table:
        with duckdb.connect(str(self.project.warehouse), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.sql(sql).to_arrow_table()


def raw_tables(cases: list[Case], start: int) -> tuple[pa.Table, pa.Table]:
    """What the models read: every row of every case, mixed up, and every spine row."""

    def columns(case_id: int, key: int | None) -> dict[str, Any]:
        names = dict.fromkeys(name for view in VIEWS for name in view.join_keys)
        kinds = (VIEW["plain"], VIEW["pairs"])
        known = {
            name: value for kind in kinds for name, value in zip(kind.join_keys, kind.keys(case_id, key), strict=True)
        }
        return {name: known[name] for name in names}

    rows = [
        columns(number, row.key)
        | {
            "event_us": None if row.event is None else start + row.event,
            "created_us": None if row.created is None else start + row.created,
            "nanoseconds": (number * 37 + place * 501) % 1000,
        }
        | row.features
        for number, case in enumerate(cases)
        for place, row in enumerate(case.rows)
    ]
    rows.sort(key=lambda row: (row["nanoseconds"], row["case_id"]))
    asked = [
        columns(number, key)
        | {"asked_us": None if moment is None else start + moment, "nanoseconds": 999, "place": place}
        for place, (number, key, moment) in enumerate(
            (number, key, moment) for number, case in enumerate(cases) for key, moment in case.asked
        )
    ]
    features = pa.schema([(name, kind.arrow) for name, kind in FEATURES.items()])
    table = pa.Table.from_pylist([{name: row[name] for name in row if name not in FEATURES} for row in rows])
    for name, kind in FEATURES.items():
        table = table.append_column(features.field(name), pa.array([row[name] for row in rows], kind.arrow))
    return table, pa.Table.from_pylist(asked)


def models() -> dict[str, Any]:
    def quoted(names: list[str]) -> str:
        return ", ".join(f'"{name}"' for name in names)

    def instant(kind: str, column: str) -> str:
        return INSTANTS[kind][0].format(us=column)

    features = ", ".join(f'cast("{name}" as {kind.sql}) as "{name}"' for name, kind in FEATURES.items())
    files: dict[str, Any] = {
        "macros/portable.sql": PORTABLE,
        "models/views.yml": {
            "models": [
                {"name": view.name, "config": {"materialized": "table", "meta": {"feature_view": view.meta}}}
                for view in VIEWS
            ]
        },
    }
    for view in VIEWS:
        loaded = f"{instant(view.created, 'created_us')} as loaded," if view.created else ""
        files[f"models/{view.name}.sql"] = (
            f"select {quoted(view.join_keys)}, {instant(view.event, 'event_us')} as happened, {loaded} {features} "
            "from main.raw_rows"
        )
        files[f"models/latest_{view.name}.sql"] = f"{{{{ feature_store.latest('{view.name}') }}}}"
    for training in TRAININGS:
        files[f"models/{training.spine_model}.sql"] = (
            f"select place, {quoted(VIEW[training.view].join_keys)}, {instant(training.spine, 'asked_us')} as asked_at "
            "from main.raw_spine order by place"
        )
        arguments = [f"ref('{training.spine_model}')", repr(training.features), "timestamp='asked_at'"]
        arguments += [f"{name}={value}" for name, value in training.options.items()]
        call = f"{{{{ feature_store.point_in_time_join({', '.join(arguments)}) }}}}"
        files[f"models/{training.name}.sql"] = files[f"models/{training.name}__portable.sql"] = call
    return files


@pytest.fixture(scope="module", params=[CASES, MANY])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[World]:
    cases, start = draw_cases(request.param), grid_start()
    project = make_project(tmp_path_factory.mktemp("point_in_time"), models())
    rows, spine = raw_tables(cases, start)
    with duckdb.connect(str(project.warehouse)) as connection:
        for name, table in (("raw_rows", rows), ("raw_spine", spine)):
            connection.register("arrow", table)
            connection.execute(f"create table {name} as select * from arrow")
            connection.unregister("arrow")
    config = project.folder / "dbt_project.yml"
    config.write_text(config.read_text() + "models: {shop: {+materialized: table}}\n")
    project.dbt("run")
    store = FeatureStore(project.folder, redis_url=redis_url, namespace=f"oracle.{request.param}")
    store.materialize()
    yield World(cases, start, microseconds(datetime.now(UTC).replace(tzinfo=None)), project, store)


@pytest.fixture(scope="module")
def ahead(world: World) -> FeatureStore:
    """All that falls due in the cases is sent ahead, into a namespace of its own."""
    namespace = f"{world.store.namespace}.ahead"
    store = FeatureStore(world.project.folder, redis_url=world.store._redis_url, namespace=namespace)
    store.materialize(ahead="24 hours")
    return store


def features_of(rows: list[oracle.Row | None]) -> dict[str, list[str]]:
    """Each feature's values as texts, by way of its Arrow type."""
    return {
        name: shown(pa.array([None if row is None else row.features[name] for row in rows], kind.arrow))
        for name, kind in FEATURES.items()
    }


def assert_same(world: World, answer: pa.Table, expected: list[oracle.Row | None], training: Training) -> None:
    """Compare every cell; of all cases that differ, show the smallest."""
    assert answer.num_rows == len(expected)
    wrong: dict[int, list[str]] = {}
    for name, values in features_of(expected).items():
        for place, (given, right) in enumerate(zip(shown(to_plain(answer.column(name))), values, strict=True)):
            if given != right:
                wrong.setdefault(place, []).append(f"{name}: {given}, not {right}")
    if wrong:
        place = min(wrong, key=lambda place: len(world.cases[world.asked[place][0]].rows))
        case_id, key, moment = world.asked[place]
        table = "\n".join(
            f"  key {row.key} event {row.event} created {row.created} {row.features}"
            for row in world.cases[case_id].rows
        )
        pytest.fail(
            f"{len(wrong)} of {len(expected)} spine rows differ in {training}; the smallest is case {case_id}: "
            f"key {key} at {None if moment is None else moment - world.start}\n{table}\n  " + "\n  ".join(wrong[place])
        )


def report(what: str, count: int, least: int = 1000) -> None:
    print(f"{what}: {count} cases compared with the oracle")
    assert count > least


@each_training
@pytest.mark.parametrize("route", ["", "__portable"], ids=["asof", "portable"])
def test_a_training_set_that_dbt_built_is_what_the_rule_says(world: World, training: Training, route: str) -> None:
    answer = world.query(f"select * from {training.name}{route}")
    spine = world.query(f"select * from {training.spine_model}")
    assert answer.select(spine.column_names).equals(spine), "the spine comes back as it was, in order"
    expected = world.expected(training)
    assert_same(world, answer, expected, training)
    report(f"{training.name}{route}", len(expected))


def entity_df(world: World, training: Training) -> pa.Table:
    view = VIEW[training.view]
    keys = [view.keys(case_id, key) for case_id, key, _ in world.asked]
    columns = {name: [key[place] for key in keys] for place, name in enumerate(view.join_keys)}
    kind = INSTANTS[training.spine][1]
    scale, more = (1000, 999) if kind.unit == "ns" else (1, 0)
    moments = [None if moment is None else moment * scale + more for _, _, moment in world.asked]
    return pa.table({**columns, "asked_at": pa.array(moments, pa.int64()).cast(kind)})


@each_training
def test_get_historical_features_gives_what_the_rule_says(world: World, training: Training) -> None:
    spine = entity_df(world, training)
    answer = world.store.get_historical_features(spine, training.features, **training.options).to_arrow()
    assert answer.select(spine.column_names).equals(spine), "the entity_df comes back as it was, in order"
    expected = world.expected(training)
    assert_same(world, answer, expected, training)
    report(f"get_historical_features {training.name}", len(expected))


def test_sql_text_as_entity_df_gives_the_same(world: World) -> None:
    training = next(training for training in TRAININGS if training.name == "t_everything")
    sql = f"select * from {training.spine_model} order by place;"
    answer = world.store.get_historical_features(sql, training.features).to_arrow()
    assert_same(world, answer, world.expected(training), training)


@pytest.mark.parametrize("asked", [["words"], ["label", "Ratio"], ["vector"]], ids="+".join)
def test_which_features_are_asked_for_does_not_change_which_row_they_come_from(world: World, asked: list[str]) -> None:
    for name in ("t_plain", "t_everything"):
        training = next(training for training in TRAININGS if training.name == name)
        few = world.store.get_historical_features(
            entity_df(world, training), [f"{training.view}:{feature}" for feature in asked]
        ).to_arrow()
        right = features_of(world.expected(training))
        for feature in asked:
            assert shown(to_plain(few.column(feature))) == right[feature]


@each_view
def test_latest_gives_each_entity_the_row_that_is_in_force_now(world: World, view: ViewKind) -> None:
    answer = world.query(f"select * from latest_{view.name}")
    keys = list(zip(*(answer.column(name).to_pylist() for name in view.join_keys), strict=True))
    expected = {
        entity: row
        for number in range(len(world.cases))
        for entity, row in oracle.latest(view.rule, world.rows(view, number), world.now).items()
    }
    assert sorted(keys) == sorted(expected), "an entity comes once, or not at all"
    rows = [expected[key] for key in keys]
    for name, right in features_of(rows).items():
        assert shown(to_plain(answer.column(name))) == right
    assert to_plain(answer.column("happened")).cast(pa.int64()).to_pylist() == [row.event for row in rows]
    print(f"latest of {view.name}: {len(rows)} entities compared with the oracle")


@each_view
def test_online_values_and_statuses_are_what_the_rule_says_to_the_bit(world: World, view: ViewKind) -> None:
    entities = [(number, key) for number in range(len(world.cases)) for key in (0, 1, 2, None)]
    keys = [view.keys(*entity) for entity in entities]
    given = world.store.get_online_features(
        [f"{view.name}:{name}" for name in FEATURES], [dict(zip(view.join_keys, key, strict=True)) for key in keys]
    ).to_dict(include_statuses=True, include_event_timestamps=True)
    tables = [world.rows(view, number) for number in range(len(world.cases))]
    for name, kind in FEATURES.items():
        right = [
            oracle.online_value(view.rule, tables[number], key, world.now, name)
            for (number, _), key in zip(entities, keys, strict=True)
        ]
        assert given[f"{name}__status"] == [status for _, status, _ in right]
        assert given[f"{name}__event_timestamp"] == [
            None if event is None else (EPOCH + timedelta(microseconds=event)).replace(tzinfo=UTC)
            for _, _, event in right
        ]
        assert shown(given[name]) == shown(pa.array([value for value, _, _ in right], kind.arrow))
    report(f"online {view.name}", len(entities))


@each_view
def test_an_online_row_is_the_training_row_of_this_moment(world: World, view: ViewKind) -> None:
    """Offline and online agree to the bit: the same entities are asked for as of now, both ways."""
    keys = [view.keys(number, key) for number in range(len(world.cases)) for key in (0, 1)]
    spine = {name: [key[place] for key in keys] for place, name in enumerate(view.join_keys)}
    now = pa.array([world.now] * len(keys)).cast(pa.timestamp("us", "UTC"))
    features = [f"{view.name}:{name}" for name in FEATURES]
    offline = world.store.get_historical_features({**spine, "event_timestamp": now}, features).to_arrow()
    online = world.store.get_online_features(features, spine).to_arrow()
    for name in FEATURES:
        assert offline.column(name).type == online.column(name).type
        assert shown(offline.column(name)) == shown(online.column(name))


@each_view
def test_at_later_moments_an_online_row_is_what_the_rule_says_of_them_with_no_run_in_between(
    world: World, ahead: FeatureStore, view: ViewKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the reader's clock moves: to a microsecond before, at and after the steps of the grid that are ahead, by
    when rows have come into force, grown too old, or were taken over by others."""
    entities = [(number, key) for number in range(len(world.cases)) for key in (0, 1, 2)]
    keys = [view.keys(*entity) for entity in entities]
    asked = [dict(zip(view.join_keys, key, strict=True)) for key in keys]
    tables = [world.rows(view, number) for number in range(len(world.cases))]
    borders = [world.start + step * STEP + past for step in range(STEPS_PASSED, 8) for past in (-1, 0, 1)]
    borders = [border for border in borders if border > world.now]
    changed = 0
    for moment in random.Random(view.name).sample(borders, 2):
        clock = (EPOCH + timedelta(microseconds=moment)).replace(tzinfo=UTC)
        monkeypatch.setattr(online_request, "clock_of", lambda _, clock=clock: clock)
        response = ahead.get_online_features([f"{view.name}:{name}" for name in FEATURES], asked)
        assert response.problems == ()
        given = response.to_dict(include_statuses=True, include_event_timestamps=True)
        now, then = (
            [oracle.row_in_force(view.rule, tables[n], key, at) for (n, _), key in zip(entities, keys, strict=True)]
            for at in (world.now, moment)
        )
        changed += sum(one is not other for one, other in zip(now, then, strict=True))
        for name, kind in FEATURES.items():
            right = [oracle.read_online(view.rule, row, moment, name) for row in then]
            assert given[f"{name}__status"] == [status for _, status, _ in right]
            assert given[f"{name}__event_timestamp"] == [
                None if event is None else (EPOCH + timedelta(microseconds=event)).replace(tzinfo=UTC)
                for _, _, event in right
            ]
            assert shown(given[name]) == shown(pa.array([value for value, _, _ in right], kind.arrow))
    report(f"online later {view.name}", changed, least=500)


def test_the_cases_meet_every_border_and_ties_decided_by_every_feature(world: World) -> None:
    """A comparison is worth as much as its cases: ties, ttl to the microsecond, and load times must be among them."""
    deciding: dict[str, int] = dict.fromkeys(NAMES_IN_ORDER, 0)
    view = VIEW["everything"]
    met = dict.fromkeys(("hit", "exactly ttl", "a microsecond too old", "loaded just then", "tie", "not yet loaded"), 0)
    for case_id, key, moment in world.asked:
        keys, rows = view.keys(case_id, key), world.rows(view, case_id)
        row = oracle.row_in_force(view.rule, rows, keys, moment)
        if row is None:
            met["not yet loaded"] += (
                oracle.row_in_force(view.rule, rows, keys, moment, filter_by_created_timestamp=False) is not None
            )
            continue
        met["hit"] += not oracle.too_old(view.rule, row, moment)
        met["exactly ttl"] += row.event == moment - view.rule.ttl
        met["a microsecond too old"] += row.event == moment - view.rule.ttl - 1
        met["loaded just then"] += row.created == moment
        unknown = oracle.View()
        late = oracle.row_in_force(unknown, rows, keys, moment)
        met["tie"] += sum(one.keys == keys and one.event == late.event for one in rows) > 1
    for number in range(len(world.cases)):
        rows = world.rows(VIEW["plain"], number)
        for keys, row in oracle.latest(oracle.View(), rows, world.now).items():
            tied = [one.features for one in rows if one.keys == keys and one.event == row.event]
            apart = [name for name in NAMES_IN_ORDER if len({repr(features[name]) for features in tied}) > 1]
            deciding.update({name: deciding[name] + 1 for name in apart[:1]})
    print(met, "ties decided by", deciding)
    assert min(met.values()) >= 10
    assert min(deciding.values()) >= 5
