"""How long a training set takes: our SDK and the macro's SQL against the bare ASOF join and against Feast on DuckDB.

Run: python benchmarks/training.py [--quick] [--case "1M x 100k" ...]
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import support
from support import FEATURES, FeastFailed, Promises, median, note, seconds_of

REFERENCES = [f"users:{feature}" for feature in FEATURES]


@dataclass(frozen=True)
class Case:
    """`rows` of a view with `per_entity` events an entity, and `spine` labels; what is promised against Feast."""

    name: str
    rows: int
    spine: int
    per_entity: int
    faster: float
    memory_share: float | None = None

    @property
    def entities(self) -> int:
        return self.rows // self.per_entity


CASES = [
    Case("1M x 100k", 1_000_000, 100_000, 10, 5),
    Case("10M x 1M", 10_000_000, 1_000_000, 10, 2),
    Case("10M x 300k, dense", 10_000_000, 300_000, 1000, 50, 0.2),
]
QUICK = [Case("100k x 10k", 100_000, 10_000, 10, 5), Case("100k x 10k, dense", 100_000, 10_000, 1000, 5)]

MODEL = """
select
    (hash(i) % {entities})::bigint as user_id,
    timestamptz '2025-01-01 00:00:00+00' + to_seconds((hash(i * 7) % 31536000)::bigint) as event_timestamp,
    (hash(i) % 100000)::bigint as purchases,
    (hash(i * 3) % 100)::integer as sessions,
    ((hash(i * 5) % 10000000) / 1e2)::double as spend,
    ((hash(i * 11) % 1000000007) / 1000000007.0)::double as basket,
    ((hash(i * 13) % 1000000007) / 1000000007.0 - 0.5)::double as score,
    'segment-' || (hash(i * 17) % 1000) as segment
from range({rows}) as r(i)
-- one row a key and event time, so that both joins have one answer
qualify row_number() over (partition by user_id, event_timestamp order by i) = 1
"""
SPINE = """
select
    (hash(i * 19) % {entities})::bigint as user_id,
    timestamptz '2025-01-01 00:00:00+00' + to_seconds((hash(i * 23) % 31536000)::bigint) as event_timestamp,
    i as label
from range({spine}) as r(i)
"""
BARE = """
select spine.*, {features}
from {spine} as spine
asof left join {view} as v on v.user_id = spine.user_id and v.event_timestamp <= spine.event_timestamp
"""


def main() -> None:
    options = arguments()
    promises, rows = Promises(), []
    for case in options.cases:
        with tempfile.TemporaryDirectory(prefix="bench-training-", dir=options.folder) as name:
            rows += run_case(case, Path(name), options, promises)
    head = ["view rows x labels", "", "seconds", "x bare join", "this is faster", "peak MiB"]
    support.print_table(f"Training sets, {len(FEATURES)} features", head, rows)
    promises.print()


def run_case(case: Case, folder: Path, options: argparse.Namespace, promises: Promises) -> list[list[str]]:
    import duckdb
    import pyarrow.parquet as pq

    note(f"{case.name}: dbt builds {case.rows:,} rows, {case.per_entity:,} an entity")
    model = MODEL.format(rows=case.rows, entities=case.entities)
    warehouse = support.make_project(folder, {"users": model}, [support.view_properties("users", ttl=None)])
    view_file, spine_file = folder / "users.parquet", folder / "spine.parquet"
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"copy ({SPINE.format(**vars(case), entities=case.entities)}) to '{spine_file}'")
        connection.execute(f"copy users to '{view_file}'")
    spine = pq.read_table(spine_file)

    ours = [[], [], []]
    for turn in range(options.rounds + 1):
        for place, seconds in enumerate(one_round(folder, warehouse, spine)):
            if turn:
                ours[place].append(seconds)
    sdk, macro, bare = (median(times) for times in ours)
    peak = own_peak(folder, spine_file)
    lines = [
        [case.name, "get_historical_features().to_arrow()", f"{sdk:.2f}", f"{sdk / bare:.2f}", "", f"{peak:,.0f}"],
        [case.name, "the macro's SQL", f"{macro:.2f}", f"{macro / bare:.2f}", "", ""],
        [case.name, "bare ASOF left join", f"{bare:.2f}", "1.00", f"{bare / sdk:.1f}x", ""],
    ]
    promises.at_most(f"the SDK against the bare ASOF join, {case.name}", sdk / bare, 1.5)
    promises.at_most(f"the macro against the bare ASOF join, {case.name}", macro / bare, 1.5)
    feast = None
    if not options.no_feast:
        note(f"{case.name}: Feast")
        feast = feast_round(case, folder, view_file, spine_file, options)
        took = f"{feast['seconds']:.2f}" if "seconds" in feast else f"> {feast['after']:.0f}"
        faster = feast.get("seconds", feast.get("after", 0)) / sdk
        more = "" if "seconds" in feast else f" ({feast['why']})"
        lines.append(
            [case.name, "Feast" + more, took, f"{faster * sdk / bare:.1f}", f"{faster:.1f}x", f"{feast['peak']:,.0f}"]
        )
        promises.at_least(f"faster than Feast, {case.name}", faster if "seconds" in feast else None, case.faster)
        if case.memory_share:
            promises.at_most(f"memory against Feast, {case.name}", peak / feast["peak"], case.memory_share)
    return lines


def one_round(folder: Path, warehouse: Path, spine: Any) -> tuple[float, float, float]:
    """The SDK, the macro's SQL alone, and the bare join, all to Arrow."""
    import duckdb

    from materializer import FeatureStore

    store = FeatureStore(folder)
    gc.collect()
    answer = None

    def ask() -> None:
        nonlocal answer
        answer = store.get_historical_features(spine, REFERENCES)
        answer.to_arrow()

    sdk = seconds_of(ask)
    assert answer.to_arrow().num_rows == spine.num_rows
    features = ", ".join(f"v.{feature}" for feature in FEATURES)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("_fs_entity_df", spine)
        macro = seconds_of(lambda: connection.sql(answer.sql).to_arrow_table())
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("spine_rows", spine)
        sql = BARE.format(features=features, spine="spine_rows", view="users")
        bare = seconds_of(lambda: connection.sql(sql).to_arrow_table())
    return sdk, macro, bare


def own_peak(folder: Path, spine_file: Path) -> float:
    """The peak memory of a process that makes this training set and no more, in MiB."""
    code = (
        support.PEAK_MIB + "import sys, pyarrow.parquet as pq\n"
        "from materializer import FeatureStore\n"
        f"FeatureStore(sys.argv[1]).get_historical_features(pq.read_table(sys.argv[2]), {REFERENCES!r}).to_arrow()\n"
        "print(peak_mib())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(spine_file)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def feast_round(
    case: Case, folder: Path, view_file: Path, spine_file: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Feast's time and peak memory, or why there are none."""
    begin = time.perf_counter()
    with support.FeastSide(options.feast_env, folder / "feast", options.feast_memory) as feast:
        try:
            views = {"users": {"path": str(view_file), "features": FEATURES}}
            feast.ask("setup", redis_port=1, views=views, ttl_days=3650)
            warm = case.rows <= 1_000_000
            if warm:
                feast.ask("training", spine=str(spine_file), features=REFERENCES)
            begin = time.perf_counter()
            answer = feast.ask("training", patience=options.feast_patience, spine=str(spine_file), features=REFERENCES)
            if answer["rows"] != case.spine:
                note(f"Feast gave {answer['rows']:,} rows for {case.spine:,} labels")
            return {"seconds": answer["seconds"], "peak": feast.peak_mib()}
        except FeastFailed as error:
            after = time.perf_counter() - begin
            note(f"Feast did not finish: {error}")
            return {"after": after, "why": str(error)[:80], "peak": feast.peak_mib()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--quick", action="store_true", help="100,000 rows and 10,000 labels")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the warm-up (default 3)")
    parser.add_argument("--folder", help="where to build the warehouses (default: the system's temporary folder)")
    parser.add_argument("--no-feast", action="store_true", help="leave Feast out")
    parser.add_argument("--feast-env", type=Path, help=f"environment with {support.FEAST}")
    parser.add_argument("--feast-memory", type=float, default=20, help="GiB of address space for Feast (default 20)")
    parser.add_argument("--feast-patience", type=float, default=600, help="seconds to wait for Feast (default 600)")
    options = parser.parse_args()
    options.cases = (
        QUICK if options.quick else [case for case in CASES if not options.case or case.name in options.case]
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
