"""One entity is one entity, whoever asks and however its key is typed: every key type by every way to give a key.

What a value means as a key of a type is said here once more, in plain Python (`meaning`), and compared with what each
way finds: frames, files, SQL, macros, windows, online rows and the command line.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from materializer import DefinitionError, FeatureStore, InputError
from materializer.online.keys import key_texts
from materializer.online.values import check_key_type
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.training.join import get_historical_features, to_table
from materializer.training.spine import read_spine
from materializer.warehouse import Warehouse, open_warehouse
from materializer.warehouse.join_keys import HUGEINT, UHUGEINT, UUID, cast_for_all
from tests.support.command import run
from tests.support.manifests import bare_project, manifest, write_models

U = uuid.UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")
LATER = datetime(2024, 1, 2, 12, 30, 0, 1)
REFUSED = "refused"

# The keys of a view by their type in the warehouse: its name, SQL literals, and what they are in Python.
TYPES: dict[str, tuple[str, list[str], list[Any]]] = {
    "tinyint": ("tinyint", ["7", "-5"], [7, -5]),
    "bigint": ("bigint", ["7", "-5", "9007199254740993"], [7, -5, 2**53 + 1]),
    "ubigint": ("ubigint", ["7", "18446744073709551615"], [7, 2**64 - 1]),
    "hugeint": ("hugeint", ["7", "1180591620717411303424", "170141183460469231731687303715884105727"],
                [7, 2**70, 2**127 - 1]),
    "uhugeint": ("uhugeint", ["7", "340282366920938463463374607431768211455"], [7, 2**128 - 1]),
    "decimal": ("decimal(10, 2)", ["7", "1.5", "-5"], [Decimal(7), Decimal("1.5"), Decimal(-5)]),
    "double": ("double", ["7", "1.5"], [7.0, 1.5]),
    "text": ("varchar", [f"'{text}'" for text in
             ("7", "007", "-5", "1.10", "1.5", "abc", "é:%{}", "true", "2024-01-02", str(U), str(2**127 - 1))],
             ["7", "007", "-5", "1.10", "1.5", "abc", "é:%{}", "true", "2024-01-02", str(U), str(2**127 - 1)]),
    "enum": ("enum('7', 'abc', '007')", ["'7'", "'abc'"], ["7", "abc"]),
    "boolean": ("boolean", ["true", "false"], [True, False]),
    "date": ("date", ["'2024-01-02'"], [date(2024, 1, 2)]),
    "timestamp": ("timestamp", ["'2024-01-02'", "'2024-01-02 12:30:00.000001'"], [datetime(2024, 1, 2), LATER]),
    "timestamptz": ("timestamptz", ["'2024-01-02 00:00:00+00'", "'2024-01-02 12:30:00.000001+00'"],
                    [datetime(2024, 1, 2), LATER]),
    "uuid": ("uuid", [f"'{U}'"], [U]),
}  # fmt: skip
OFFLINE_ONLY = ("double", "uhugeint")
ONLINE = [name for name in TYPES if name not in OFFLINE_ONLY]
RANGES = {"tinyint": (-128, 127), "bigint": (-(2**63), 2**63 - 1), "ubigint": (0, 2**64 - 1),
          "hugeint": (-(2**127), 2**127 - 1), "uhugeint": (0, 2**128 - 1)}  # fmt: skip
ARROW = {
    "tinyint": pa.int8(), "bigint": pa.int64(), "ubigint": pa.uint64(), "hugeint": HUGEINT, "uhugeint": UHUGEINT,
    "decimal": pa.decimal128(10, 2), "double": pa.float64(), "text": pa.string(), "enum": pa.string(),
    "boolean": pa.bool_(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "uuid": UUID,
}  # fmt: skip

# Values to ask with, by kind: a column holds one kind, and every value stands beside a NULL.
GIVEN: dict[str, list[Any]] = {
    "int": [7, -5, 300, 2**53 + 1],
    "large int": [2**64 - 1, 2**70, 2**127 - 1, 2**128 - 1, 7],
    "float": [7.0, 1.5, -5.0, float("nan"), float("inf"), 1e300],
    "decimal": [Decimal("7.00"), Decimal("1.50"), Decimal("1.10"), Decimal("-5.00")],
    "whole decimal": [Decimal(7), Decimal(2**53 + 1), Decimal(2**70)],
    "bool": [True, False],
    "text": [
        "7", "007", "-5", "+7", " 7", "7 ", "7.0", "7.00", "1.5", "1.10", "1.555", "1e1", "0x7", "1_0", "abc", "",
        "é:%{}", "true", "TRUE", "t", "2024-01-02", "2024-1-2", "2024-01-02 00:00:00", "2024-01-02T12:30:00.000001Z",
        "2024-01-02 14:30:00.000001+02:00", "2024-13-01", "now", str(2**70), str(2**127 - 1), str(2**128 - 1),
        str(2**130), str(U), str(U).upper(), U.hex, "{" + str(U).upper() + "}", "{" + str(U), "nan", "7\n",
    ],
    "date": [date(2024, 1, 2), date(2024, 1, 3)],
    "naive": [datetime(2024, 1, 2), LATER],
    "zoned": [datetime(2024, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))), LATER.replace(tzinfo=timezone.utc)],
    "uuid": [U, uuid.UUID(int=7)],
    "bytes": [b"7", b"abc", b"\xff"],
}  # fmt: skip


def meaning(name: str, value: Any) -> Any:
    """The key of the type that a value means: None for NULL and for an entity that no view can have, or REFUSED."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes) and name != "uuid":
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return REFUSED
    number = _number(value)
    if name in RANGES:
        spelled = isinstance(value, str) and not re.fullmatch("-?[0-9]+", value)
        if number is None or number.denominator != 1 or spelled:
            return REFUSED
        low, high = RANGES[name]
        return int(number) if low <= number <= high else None
    if name == "decimal":
        if number is None or (isinstance(value, str) and "e" in value.lower()):
            return REFUSED
        fits = (number * 100).denominator == 1 and abs(number) < 10**8
        return Decimal(number.numerator) / number.denominator if fits else REFUSED
    if name == "double":
        if isinstance(value, float):
            return value
        return (
            float(number)
            if number is not None and (isinstance(value, str) or Fraction(float(number)) == number)
            else REFUSED
        )
    if name in ("text", "enum"):
        if isinstance(value, float):
            return (
                str(int(value)) if number is not None and number.denominator == 1 and abs(number) < 2**53 else REFUSED
            )
        if isinstance(value, datetime):
            return REFUSED
        return str(value).lower() if isinstance(value, bool) else str(value)
    if name == "boolean":
        if isinstance(value, str):
            return {"true": True, "false": False}.get(value.lower(), REFUSED)
        return value if isinstance(value, bool) else REFUSED
    if name == "uuid":
        if isinstance(value, str):
            form = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}"
            bare = value[1:-1] if value.startswith("{") and value.endswith("}") else value
            return uuid.UUID(bare) if re.fullmatch(form, bare.lower()) else REFUSED
        return value if isinstance(value, uuid.UUID) else REFUSED
    return _moment(name, value)


def _number(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        return None
    if isinstance(value, str):
        return Fraction(value) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[0-9]+)?", value) else None
    return None if isinstance(value, float) and value in (float("inf"), -float("inf")) else Fraction(value)


def _moment(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) and "-13-" not in value:
            value = date.fromisoformat(value)
        elif name != "date" and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T].*", value):
            value = datetime.fromisoformat(value)
        else:
            return REFUSED
    if not isinstance(value, date):
        return REFUSED
    if not isinstance(value, datetime):
        return value if name == "date" else datetime(value.year, value.month, value.day)
    if value.tzinfo:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    if name != "date":
        return value
    return value.date() if value == datetime(value.year, value.month, value.day) else REFUSED


def found(name: str, value: Any, keys: list[Any]) -> int | None:
    """The number of the row that the view of this type has for a value."""
    key = meaning(name, value)
    places = [place for place, own in enumerate(keys) if type(own) is type(key) and own == key]
    return places[0] if places else None


# The warehouse: a view for each type, with the number of each of its rows.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> FeatureStore:
    folder = bare_project(tmp_path_factory.mktemp("keys"))
    views = {}
    with duckdb.connect(str(folder / "shop.duckdb")) as warehouse:
        warehouse.execute("set TimeZone = 'UTC'")
        for name, (sql, literals, _) in TYPES.items():
            rows = " union all ".join(
                f"select cast({literal} as {sql}) as k_{name}, timestamp '2023-01-01' as event_timestamp, "
                f"{place} as n_{name}" for place, literal in enumerate(literals)
            )  # fmt: skip
            warehouse.execute(f"create table by_{name} as {rows}")
            views[f"by_{name}"] = {"entities": [f"k_{name}"], "online": name not in OFFLINE_ONLY}
        for kind, values in GIVEN.items():
            warehouse.register("given", arrow_column(kind, values))
            warehouse.execute(f"create table {table_name(kind)} as select * replace ({sql_type(kind)} as k) from given")
        # Views whose key of one name has several types.
        for place, name in enumerate(("tinyint", "bigint", "text")):
            warehouse.execute(
                f"create table mixed_{place} as select k_{name} as k, event_timestamp, n_{name} as m_{place} from by_{name}"
                f" union all select cast('44' as {TYPES[name][0]}), timestamp '2023-01-01', 44"
            )
            views[f"mixed_{place}"] = {"entities": ["k"]}
        warehouse.execute("insert into mixed_1 values (300, timestamp '2023-01-01', 300)")
    write_models(folder, manifest(dict.fromkeys(views, "select 1"), views))
    store = FeatureStore(folder, redis_url=redis_url, namespace="keys")
    store.materialize()
    return store


@pytest.fixture(scope="module")
def warehouse(store: FeatureStore) -> Iterator[Warehouse]:
    with open_warehouse(store.project) as warehouse:
        yield warehouse


def table_name(kind: str) -> str:
    return f"given_{kind.replace(' ', '_')}"


def arrow_column(kind: str, values: list[Any]) -> pa.Table:
    if kind in ("large int", "uuid"):
        values = [str(value) for value in values]
    count = len(values) + 1
    return pa.table({"i": range(count), "k": [*values, None], "event_timestamp": [datetime(2024, 6, 1)] * count})


def sql_type(kind: str) -> str:
    return {"large int": "cast(k as uhugeint)", "uuid": "cast(k as uuid)"}.get(kind, "k")


def asked(kind: str, names: Any = TYPES) -> dict[str, list[Any]]:
    """For each type that takes any value of the kind these values, and NULL in place of those that are refused."""
    columns = {}
    for name in names:
        kept = [value if not is_refused(name, value) else None for value in [*GIVEN[kind], None]]
        if any(value is not None for value in kept):
            columns[name] = kept
    return columns


def is_refused(name: str, value: Any) -> bool:
    """Also where a number is beyond the type of the only view that is asked."""
    means = meaning(name, value)
    return means is REFUSED or (means is None and value is not None and value == value)


def expected(columns: dict[str, list[Any]]) -> dict[str, list[int | None]]:
    """The numbers of the rows that are found, by column of the answer."""
    return {f"n_{name}": [found(name, value, TYPES[name][2]) for value in kept] for name, kept in columns.items()}


def features(columns: dict[str, Any]) -> list[str]:
    return [f"by_{name}:n_{name}" for name in columns]


def spine_of(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    count = len(next(iter(columns.values())))
    keys = {f"k_{name}": kept for name, kept in columns.items()}
    return keys | {"event_timestamp": [datetime(2024, 6, 1)] * count}


def test_the_table_is_wide_and_finds_rows_of_every_type() -> None:
    cases = [(kind, name, value) for kind in GIVEN for name in TYPES for value in GIVEN[kind]]
    hits = {name: {found(name, value, TYPES[name][2]) for kind in GIVEN for value in GIVEN[kind]} for name in TYPES}
    assert len(cases) > 1000
    assert all(set(range(len(TYPES[name][2]))) <= hits[name] for name in TYPES)
    assert sum(is_refused(name, value) for _, name, value in cases) > 400


def test_a_second_run_finds_the_keys_of_every_type_as_it_left_them(store: FeatureStore) -> None:
    results = store.materialize()
    assert {result.view for result in results} >= {f"by_{name}" for name in ONLINE}
    assert {(result.rows_written, result.rows_deleted, result.why) for result in results} == {
        (0, 0, "0 new, 0 changed, 0 gone")
    }


# Frames.


def as_dict(spine: dict[str, list[Any]], folder: Path) -> Any:
    return spine


def as_rows(spine: dict[str, list[Any]], folder: Path) -> Any:
    return [dict(zip(spine, values, strict=True)) for values in zip(*spine.values(), strict=True)]


def as_pandas(spine: dict[str, list[Any]], folder: Path) -> Any:
    """Nullable integers and objects: pandas' own integers would be doubles beside a NULL."""
    return pd.DataFrame({name: pd.Series(values, dtype=_pandas_type(values)) for name, values in spine.items()})


def _pandas_type(values: list[Any]) -> str | None:
    if {type(one) for one in values} != {int, type(None)}:
        return None
    return "Int64" if max(abs(one or 0) for one in values) < 2**63 else "object"


def as_objects(spine: dict[str, list[Any]], folder: Path) -> Any:
    return pd.DataFrame({name: pd.Series(values, dtype=None if name == "event_timestamp" else "object")
                         for name, values in spine.items()})  # fmt: skip


def as_polars(spine: dict[str, list[Any]], folder: Path) -> Any:
    return pl.DataFrame({name: pl.Series(values, dtype=_polars_type(values)) for name, values in spine.items()})


def _polars_type(values: list[Any]) -> Any:
    objects = any(isinstance(one, uuid.UUID) or (isinstance(one, int) and one >= 2**127) for one in values)
    wide = any(isinstance(one, int) and one >= 2**63 for one in values)
    return pl.Object if objects else pl.Int128 if wide else None


def as_arrow(spine: dict[str, list[Any]], folder: Path) -> Any:
    return to_table(spine)


def as_encoded(spine: dict[str, list[Any]], folder: Path) -> Any:
    """Dictionaries, and text in Arrow's other layouts."""
    table = to_table(spine)
    for place, column in enumerate(table.columns[:-1]):
        if pa.types.is_string(column.type):
            other = column.cast((pa.large_string(), pa.string_view())[place % 2])
            table = table.set_column(place, table.column_names[place], other)
        elif pa.types.is_integer(column.type) or pa.types.is_date(column.type):
            table = table.set_column(place, table.column_names[place], column.dictionary_encode())
    return table


def as_categories(spine: dict[str, list[Any]], folder: Path) -> Any:
    frame = pl.DataFrame(spine, strict=False)
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    if not texts:
        return as_arrow(spine, folder)
    enum = pl.Enum(sorted({text for name in texts[::2] for text in spine[name] if text is not None}))
    return frame.with_columns(
        *[pl.col(name).cast(enum) for name in texts[::2]], *[pl.col(name).cast(pl.Categorical) for name in texts[1::2]]
    )


def as_duckdb(spine: dict[str, list[Any]], folder: Path) -> Any:
    table, casts = to_table(spine), []
    for place, column in enumerate(table.columns):
        if pa.types.is_decimal256(column.type):
            texts = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
            table = table.set_column(place, table.column_names[place], texts)
            casts.append(f"cast({table.column_names[place]} as uhugeint) as {table.column_names[place]}")
    relation = duckdb.from_arrow(table)
    return relation.project(f"* replace ({', '.join(casts)})") if casts else relation


def as_parquet(spine: dict[str, list[Any]], folder: Path) -> Any:
    pq.write_table(to_table(spine), folder / "labels.parquet")
    return read_spine(folder / "labels.parquet").rows


def as_json_lines(spine: dict[str, list[Any]], folder: Path) -> Any:
    path = folder / "labels.jsonl"
    path.write_text("\n".join(json.dumps(row, default=str) for row in as_rows(spine, folder)), encoding="utf-8")
    return read_spine(path).rows


def as_csv(spine: dict[str, list[Any]], folder: Path) -> Any:
    path = folder / "labels.csv"
    quoted = [",".join(spine)]
    for row in as_rows(spine, folder):
        quoted.append(
            ",".join("" if one is None else '"' + written(one).replace('"', '""') + '"' for one in row.values())
        )
    path.write_text("\n".join(quoted) + "\n", encoding="utf-8", newline="")
    return read_spine(path).rows


def written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


FRAMES: list[Callable[..., Any]] = [
    as_dict, as_rows, as_pandas, as_objects, as_polars, as_arrow, as_encoded, as_categories, as_duckdb, as_parquet,
]  # fmt: skip
# What a file of text can hold: a number, a date or a UUID is what it is written as.
FILES = [(as_csv, kind) for kind in ("int", "large int", "bool", "text", "date", "uuid")] + [
    (as_json_lines, kind) for kind in ("int", "large int", "bool", "text")
]  # fmt: skip


def takes(way: Callable[..., Any], kind: str) -> bool:
    if way is as_categories:
        return kind == "text"
    return way is not as_encoded or kind in ("text", "int", "date")


# Every way joins text, and one way all kinds: from the cast on (below, for all) they go together.
WAYS = [
    (way, kind)
    for way in FRAMES
    for kind in GIVEN
    if takes(way, kind) and (way is as_arrow or kind == "text" or (way is as_objects and kind in ("large int", "uuid")))
] + FILES


@pytest.mark.parametrize("way", FRAMES, ids=lambda way: way.__name__)
def test_a_frames_keys_are_the_views_own(tmp_path: Path, way: Callable[..., Any]) -> None:
    compared = 0
    for kind in (kind for kind in GIVEN if takes(way, kind)):
        columns = asked(kind)
        table = to_table(way(spine_of(columns), tmp_path))
        for name, kept in columns.items():
            (keys,) = cast_for_all(table.column(f"k_{name}"), [ARROW[name]], name)
            wanted = [meaning(name, value) for value in kept]
            if name in ("hugeint", "uhugeint", "uuid"):  # these reach the warehouse as text
                wanted = [None if key is None else str(key) for key in wanted]
            elif name == "timestamptz":
                wanted = [key and key.replace(tzinfo=timezone.utc) for key in wanted]
            assert keys.to_pylist() == wanted, (kind, name)
            compared += len(kept)
    assert compared > 50


@pytest.mark.parametrize("way, kind", WAYS, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_training_set_finds_the_entity_that_each_value_means(
    store: FeatureStore, warehouse: Warehouse, tmp_path: Path, way: Callable[..., Any], kind: str
) -> None:
    columns = asked(kind)
    if way is as_csv:
        columns = {name: [None if value == "" else value for value in kept] for name, kept in columns.items()}
    spine = way(spine_of(columns), tmp_path)
    content = load_manifest(store.project)
    answer = get_historical_features(warehouse, content, read_registry(content), spine, features(columns)).to_arrow()
    assert {name: answer[name].to_pylist() for name in expected(columns)} == expected(columns)


@pytest.mark.parametrize(
    "way", [way for way in FRAMES if way not in (as_encoded, as_categories)], ids=lambda way: way.__name__
)
def test_a_frame_with_what_is_no_key_of_the_type_is_refused_by_value(tmp_path: Path, way: Callable[..., Any]) -> None:
    for values in GIVEN.values():
        for value in values:
            # What is wider than Arrow's integers comes from DuckDB as text, which a double may be rounded from.
            refusing = [name for name in TYPES if is_refused(name, value) and (way, name) != (as_duckdb, "double")]
            column = to_table(way({"k": [value, None], "event_timestamp": [LATER] * 2}, tmp_path)).column("k")
            for name in refusing:
                with pytest.raises(InputError, match=r"^Join key 'k' is of type .* was given for it"):
                    cast_for_all(column, [ARROW[name]], "k")


# SQL.


# Of a text dbt cannot know the types: numbers and moments of other types are told by their text alone.
TOLD_BY_TEXT = [kind for kind in GIVEN if kind not in ("float", "decimal", "naive", "zoned", "bytes")]


@pytest.mark.parametrize(
    ("kind", "known"),
    [*((kind, True) for kind in GIVEN), *((kind, False) for kind in TOLD_BY_TEXT)],
    ids=lambda part: {True: "a table", False: "a text"}.get(part, part),
)
def test_in_sql_what_does_not_fit_matches_nothing(
    store: FeatureStore, warehouse: Warehouse, kind: str, known: bool
) -> None:
    """As a dbt model has it: the same macro, with a relation or with a text."""
    names = ", ".join(f"k as k_{name}" for name in TYPES)
    text = f"(select i, {names}, event_timestamp from {table_name(kind)})"
    macros = MacroRenderer(load_manifest(store.project), warehouse.columns)
    spine = Relation(f"{text} as s") if known else text
    sql = macros.render("point_in_time_join", spine, features(TYPES))
    answer = warehouse.query(f"select * from ({sql}) order by i")
    wanted = expected({name: [*GIVEN[kind], None] for name in TYPES})
    assert {name: answer[name].to_pylist() for name in wanted} == wanted


@pytest.mark.parametrize("kind", ["int", "float", "text", "uuid"])
def test_windows_over_raw_events_count_those_of_the_entity(
    store: FeatureStore, warehouse: Warehouse, kind: str
) -> None:
    macros = MacroRenderer(load_manifest(store.project), warehouse.columns)
    for name in TYPES:
        spine = Relation(f"(select i, k as k_{name}, event_timestamp from {table_name(kind)}) as s")
        sql = macros.render(
            "aggregate_as_of", spine, Relation(f"by_{name}"), f"k_{name}", "event_timestamp",
            [{"name": "c", "function": "count"}], ["900 days"], shape="range",
        )  # fmt: skip
        counts = warehouse.query(f"select * from ({sql}) order by i")["c_900d"].to_pylist()
        hits = expected({name: [*GIVEN[kind], None]})[f"n_{name}"]
        assert counts == [0 if hit is None else 1 for hit in hits], name


@pytest.mark.parametrize("kind", GIVEN)
def test_sql_text_finds_what_frames_find(store: FeatureStore, warehouse: Warehouse, kind: str) -> None:
    columns = asked(kind)
    keys = ", ".join(
        f"case when i in ({', '.join(str(i) for i, one in enumerate(kept) if one is not None)}) then k end as k_{name}"
        for name, kept in columns.items()
    )
    content = load_manifest(store.project)
    answer = get_historical_features(
        warehouse, content, read_registry(content),
        f"select i, {keys}, event_timestamp from {table_name(kind)} order by i", features(columns),
    ).to_arrow()  # fmt: skip
    assert {name: answer[name].to_pylist() for name in expected(columns)} == expected(columns)


# Online.


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize(
    "way", [as_dict, as_rows, as_objects, as_polars, as_arrow, as_duckdb], ids=lambda way: way.__name__
)
def test_an_online_read_finds_the_entity_that_each_value_means(
    store: FeatureStore, tmp_path: Path, way: Callable[..., Any], kind: str
) -> None:
    columns = asked(kind, ONLINE)
    rows = way(spine_of(columns), tmp_path)
    answer = store.get_online_features(features(columns), rows).to_dict()
    assert {name: answer[name] for name in expected(columns)} == expected(columns)


def test_an_online_read_refuses_what_a_frame_refuses(store: FeatureStore) -> None:
    for name in ONLINE:
        values = [value for kind in GIVEN for value in GIVEN[kind]]
        refusing = [value for value in values if meaning(name, value) is REFUSED]
        beyond = [value for value in values if is_refused(name, value) and meaning(name, value) is not REFUSED]
        for value in refusing:
            with pytest.raises(InputError, match=r"^Join key 'k' is of type .* was given for it"):
                key_texts([value], ARROW[name], "k")
        with pytest.raises(InputError, match=rf"^Join key 'k_{name}' is of type .* was given for it"):
            store.get_online_features([f"by_{name}:n_{name}"], [{f"k_{name}": refusing[0]}])
        # A number beyond the type is of an entity that is not there.
        rows = [{f"k_{name}": value} for value in beyond]
        if rows:
            answer = store.get_online_features([f"by_{name}:n_{name}"], rows).to_dict(include_statuses=True)
            assert set(answer[f"n_{name}__status"]) == {"NOT_FOUND"}


@pytest.mark.parametrize("kind", ["int", "text", "uuid", "bool", "date", "large int"])
def test_the_command_line_finds_the_entity_that_each_value_means(
    store: FeatureStore, redis_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = asked(kind, ONLINE)
    rows = as_rows({f"k_{name}": kept for name, kept in columns.items()}, Path())
    entities = [text for row in rows for text in ("-e", json.dumps(row, default=str))]
    where = ("--redis-url", redis_url, "--namespace", "keys", "--output", "json")
    ran = run("feature-store", "online", *features(columns), *entities, *where)
    assert ran.code == 0, ran.err
    assert {name: ran.json[name] for name in expected(columns)} == expected(columns)


def test_an_unsigned_128_bit_key_is_refused_before_anything_is_online() -> None:
    with pytest.raises(DefinitionError, match=r"Join key 'k' is of type uhugeint, which cannot be a key online"):
        check_key_type(UHUGEINT, "Join key 'k'")


# Views that have a key of one name in several types.


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_each_view_is_asked_in_its_own_type_whatever_the_order(
    store: FeatureStore, warehouse: Warehouse, order: tuple[int, ...], tmp_path: Path
) -> None:
    """The keys 44, 7 and -5 are in all three views (tinyint, bigint, text), 300 in the second alone."""
    references = [f"mixed_{place}:m_{place}" for place in order]
    content = load_manifest(store.project)
    wanted = {"m_0": [44, 0, None, 1], "m_1": [44, 0, 300, 1], "m_2": [44, 0, None, 2]}
    texts = ["44", "7", "300", "-5"]
    for keys in (texts, [int(text) for text in texts]):
        spine = {"k": keys, "event_timestamp": [LATER] * 4}
        selects = " union all ".join(f"select {i} as i, {key!r} as k, timestamp '{LATER}' as event_timestamp"
                                     for i, key in enumerate(keys))  # fmt: skip
        for given in (spine, as_csv(spine, tmp_path), as_json_lines(spine, tmp_path), f"{selects} order by i"):
            answer = get_historical_features(warehouse, content, read_registry(content), given, references).to_arrow()
            assert {name: answer[name].to_pylist() for name in wanted} == wanted
    answer = store.get_online_features(references, [{"k": key} for key in texts]).to_dict()
    assert {name: answer[name] for name in wanted} == wanted
    with pytest.raises(InputError, match="Join key 'k' is of type int"):
        store.get_historical_features({"k": ["abc"], "event_timestamp": [LATER]}, references)


def test_text_keys_that_print_alike_stay_apart(store: FeatureStore, warehouse: Warehouse) -> None:
    macros = MacroRenderer(load_manifest(store.project), warehouse.columns)
    spine = Relation("(select 7::bigint as k_text, timestamp '2024-01-01' as event_timestamp) as s")
    (row,) = warehouse.query(macros.render("point_in_time_join", spine, ["by_text:n_text"])).to_pylist()
    assert row["n_text"] == 0, "7 is '7' and not '007'"


def test_nothing_is_cast_where_the_types_are_the_same(store: FeatureStore, warehouse: Warehouse) -> None:
    macros = MacroRenderer(load_manifest(store.project), warehouse.columns)
    spine = Relation("(select k_bigint, event_timestamp, k_text from by_bigint, (select k_text from by_text)) as s")
    sql = macros.render("point_in_time_join", spine, ["by_bigint:n_bigint", "by_text:n_text"])
    assert "cast" not in sql and "_fs_key" not in sql


# Threads.


def test_frames_from_many_threads_at_once(store: FeatureStore) -> None:
    spine = {"k_bigint": [7, None], "event_timestamp": [LATER] * 2}
    answers: list[Any] = []

    def ask() -> None:
        for _ in range(3):
            try:
                answer = store.get_historical_features(spine, ["by_bigint:n_bigint"]).to_arrow()
                answers.append(answer["n_bigint"].to_pylist())
            except Exception as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[0, None]] * 24


@pytest.mark.parametrize(
    ("own", "matches"),
    [
        ("time '10:00:00'", []),
        ("interval '1 day'", []),
        ("'101'::bit", []),
        ("'7'::json", ["7::bigint", "'7'"]),
        ("[7]", []),
    ],
)
def test_a_key_of_a_rare_type_is_found_by_its_own_and_stops_no_query_of_another(
    own: str, matches: list[str], tmp_path: Path
) -> None:
    moment = "timestamp '2024-01-01' as event_timestamp"
    with duckdb.connect(str(bare_project(tmp_path) / "shop.duckdb")) as connection:
        connection.execute(f"create table v as select {own} as k, {moment}, 5 as f")
    content = manifest({"v": "select 1"}, {"v": {"entities": ["k"]}})
    with open_warehouse(FeatureStore(write_models(tmp_path, content)).project) as warehouse:
        renderer = MacroRenderer(content, warehouse.columns)
        for given in (own, "7::bigint", "'7'", "'007'", "7.5::double", "date '2024-01-01'", "null"):
            spine = Relation(f"(select {given} as k, {moment}) as labels")
            found = warehouse.query(renderer.render("point_in_time_join", spine, ["v:f"]))["f"].to_pylist()
            assert found == [5 if given in (own, *matches) else None], given
