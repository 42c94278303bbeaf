"""Every DuckDB type a view can hold with the values at its edges, and views made of them without a dbt run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.dbt import DbtProject
from tests.support.manifests import project_of
from tests.support.shop import change_warehouse

_DIGITS = "9" * 38

# By type: values that the online format can state, and values that it cannot. Each is SQL without its cast.
EXTREMES: dict[str, tuple[list[str], list[str]]] = {
    "boolean": (["true", "false"], []),
    **{
        f"{sign}{name}": ([str(-(2 ** (bits - 1))), "-1", "0", str(2 ** (bits - 1) - 1)] if not sign
                          else ["0", str(2**bits - 1)], [])
        for name, bits in (("tinyint", 8), ("smallint", 16), ("integer", 32), ("bigint", 64))
        for sign in ("", "u")
    },
    "hugeint": ([f"-{_DIGITS}", "-1", "0", "18446744073709551617", _DIGITS],
                [str(2**127 - 1), str(-(2**127)), f"1{'0' * 38}"]),
    "uhugeint": (["0", "1", str(2**127), f"1{'0' * 38}", str(2**128 - 1)], []),
    "bignum": (["0", "-1", "9" * 100, f"-{'9' * 100}"], []),
    **{
        f"decimal({width},{scale})": (["0", f"-{digits}", digits, "'-0.0'"], [])
        for width in (1, 4, 5, 9, 10, 18, 19, 38)
        for scale in sorted({0, width // 2, width})
        for digits in ["9" * (width - scale) + ("." + "9" * scale if scale else "")]
    },
    "float": (["'nan'", "-('nan'::float)", "'inf'", "'-inf'", "'-0.0'", "'0.0'", "'1e-45'", "'3.4028235e38'", "0.1"], []),
    "double": (["'nan'", "-('nan'::double)", "'inf'", "'-inf'", "'-0.0'", "'0.0'", "'5e-324'", "'-1.7976931348623157e308'",
                "0.1"], []),
    "varchar": (["''", "' '", "'null'", "'nan'", "'é 🦆'", "chr(0)", "'a' || chr(0) || 'b'", "chr(1114111)", "'\"{}:%'",
                 "chr(13) || chr(10)", "repeat('x', 70000)"], []),
    "blob": (["''", "'\\x00\\xFF'", "'\\x0D\\x0A'"], []),
    "bit": (["'0'", "'1'", "'0101010101'"], []),
    "uuid": (["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'"], []),
    "enum('', 'é', 'b')": (["''", "'é'", "'b'"], []),
    "json": (["'{}'", "'null'", "'[1,\"a\",{\"b\":null}]'", "'1e400'"], []),
    "date": (["'0001-01-01'", "'1970-01-01'", "'9999-12-31'"],
             ["'infinity'", "'-infinity'", "'10000-01-01'", "'12000-01-01'", "'0001-12-31 (BC)'", "'5881580-07-10'",
              "'5877642-06-25 (BC)'"]),
    "time": (["'00:00:00'", "'23:59:59.999999'"], ["'24:00:00'"]),
    "time_ns": (["'00:00:00'", "'23:59:59.999999999'"], ["'24:00:00'"]),
    "timetz": (["'00:00:00+15:59:59'", "'10:00:00+02'", "'23:59:59.999999-15:59:59'", "'24:00:00+00'"], []),
    **{
        name: ([f"'0001-01-01 00:00:00{zone}'", f"'1969-12-31 23:59:59{fraction}{zone}'",
                f"'9999-12-31 23:59:59{fraction}{zone}'"],
               ["'infinity'", "'-infinity'", f"'10000-01-01 00:00:00{zone}'", f"'12000-06-01 00:00:00{zone}'",
                f"'0044-03-15 (BC) 00:00:00{zone}'", f"'294246-01-10 00:00:00{zone}'", f"'290308-12-22 (BC) 00:00:00{zone}'"])
        for name, zone, fraction in (("timestamp", "", ".999999"), ("timestamp_s", "", ""), ("timestamp_ms", "", ".999"),
                                     ("timestamptz", "+00", ".999999"))
    },
    **{
        name: ([f"'1677-09-22 00:00:00.000000001{zone}'", f"'2024-10-27 00:30:00.123456789{zone}'",
                f"'2262-04-11 23:47:16.854775806{zone}'"], ["'infinity'", "'-infinity'"])
        for name, zone in (("timestamp_ns", ""), ("timestamptz_ns", "+00"))
    },
    "interval": (["'0 days'", "'1 month 2 days 3.5 seconds'", "'-178956970 years'", "'9223372036854775807 microseconds'"], []),
    "union(num integer, str varchar)": (["1", "'a'"], []),
    "variant": (["1", "'a'", "true"], []),
    "struct(a integer, b varchar[])": (["{'a': null, 'b': null}", "{'a': 1, 'b': []}", "{'a': 1, 'b': [null, '']}"], []),
    "integer[]": (["[]", "[null]", "[1, null, 2]"], []),
    "double[]": (["[]", "[null]", "['nan'::double, -('nan'::double), '-0.0', 'inf']", "[0.5, null]"], []),
    "float[2]": (["['nan'::float, -('nan'::float)]", "['-0.0', '0.0']"], []),
    "map(varchar, double)": (["map {}", "map {'': null}", "map {'é': 'nan'::double}"], []),
}  # fmt: skip
# How a value stands in a feature: `{}` is the value, `type` the type of what is made of it.
NESTINGS: dict[str, tuple[str, str]] = {
    "bare": ("{}", "{type}"),
    "listed": ("[null, {}]", "{type}[]"),
    "arrayed": ("[{}, {}]", "{type}[2]"),
    "deep": ("[{{'m': map {{1: {}}}, 'n': null}}]", "struct(m map(integer, {type}), n integer)[]"),
}
# Of these one width stands for all where they are inside of another type.
_ONLY_BARE = re.compile(r"decimal\((?!10,5|38,0)|u?(tiny|small)int|u?integer$")
EVENT = "timestamptz '2026-01-01 00:00:00+00'"


def nestings_of(type_: str) -> list[str]:
    """In which ways values of a type are tried."""
    return ["bare"] if _ONLY_BARE.match(type_) else list(NESTINGS)


def table_of(name: str, types: list[str]) -> tuple[list[str], list[str], list[bool]]:
    """A view with a row for each value of some types and each nesting, in a column of its own that is NULL in all other
    rows: the statements that make it, its features, and of each row whether its value can be stated. Keys count from 0.
    """
    columns, inserts, stated = [], [], []
    for number, type_ in enumerate(types):
        good, bad = EXTREMES[type_]
        for nesting in nestings_of(type_):
            shape, of = NESTINGS[nesting]
            column, whole = f"{nesting}_{number}", of.format(type=type_)
            columns.append((column, whole))
            rows = []
            for sql in [*good, *bad]:
                value = shape.format(*[f"cast({sql} as {type_})"] * 2)
                rows.append(f"({len(stated)}, {EVENT}, cast({value} as {whole}))")
                stated.append(sql in good)
            inserts.append(f"insert into {name} (user_id, event_timestamp, {column}) values {', '.join(rows)}")
    declared = ", ".join(f"{column} {type_}" for column, type_ in columns)
    create = f"create table {name} (user_id bigint, event_timestamp timestamptz, {declared})"
    return [create, *inserts], [column for column, _ in columns], stated


def views_of(folder: Path, tables: Mapping[str, list[str]], **meta: dict[str, Any]) -> DbtProject:
    """A project whose views are the tables that these statements make, as if dbt had; keys are `user_id`."""
    project = project_of(folder, {name: {"entities": ["user_id"], **meta.get(name, {})} for name in tables})
    change_warehouse(project, *(statement for statements in tables.values() for statement in statements))
    return project
