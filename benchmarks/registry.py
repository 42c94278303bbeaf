"""How long a large project's catalog and lineage take: whole processes, over a manifest of 5,000 models.

    python benchmarks/registry.py                 # about a minute and a half
    python benchmarks/registry.py --models 500    # shows that it works
    python benchmarks/registry.py --keep FOLDER   # leaves the project there, to try commands on

The manifest is dbt's own of a project of two models, whose nodes are then multiplied: the same keys, macros and bytes a node.
The models stand in layers, each reading two or three of the layers before it through 40 to 80 lines of CTEs; the last
fifth are feature views. Every model has its file, and its table in the warehouse.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.support import Promises, machine, make_project, median, print_table, view_properties

LAYERS = 6
COLUMNS = 10
LIST_SECONDS, LINEAGE_SECONDS = 2.0, 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=5000, help="how many models there are (default 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each command runs (default 5)")
    parser.add_argument("--keep", type=Path, help="a folder for the project, which stays there")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        views, source = write_project(folder, options.models)
        manifest = folder / "target" / "manifest.json"
        megabytes = manifest.stat().st_size / 2**20
        deep = views[-1]
        commands = {
            "list": (["list"], LIST_SECONDS),
            "list features": (["list", "features"], LIST_SECONDS),
            f"lineage {deep}:c3": (["lineage", f"{deep}:c3"], LINEAGE_SECONDS),
            f"lineage {deep} (all features)": (["lineage", deep], None),
            f"lineage {source}:c1 --downstream": (["lineage", f"{source}:c1", "--downstream"], None),
        }
        rows, promises = [], Promises()
        for name, (arguments, limit) in commands.items():
            seconds, lines = zip(*(run(folder, arguments) for _ in range(options.rounds)), strict=True)
            rows.append([name, f"{median(seconds):.2f} s", f"{max(seconds):.2f} s", lines[0]])
            if limit:
                promises.at_most(f"feature-store {name}", median(seconds), limit, " s")
        loads = [seconds_of_json(manifest) for _ in range(3)]
        print_table(
            f"{options.models} models, {len(views)} of them feature views, a manifest of {megabytes:.0f} MiB "
            f"(json.loads alone: {median(loads):.2f} s)",
            ["command, a process of its own", "median", "slowest", "lines printed"],
            rows,
        )
        promises.print()
    return 0


def run(folder: Path, arguments: list[str]) -> tuple[float, int]:
    """The seconds that one command takes as a process, and the lines it prints."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "from materializer.cli import main; main()", *arguments, "--project-dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DBT_PROFILES_DIR": str(folder)},
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"feature-store {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, done.stdout.count("\n")


def seconds_of_json(path: Path) -> float:
    text = path.read_bytes()
    begin = time.perf_counter()
    json.loads(text)
    return time.perf_counter() - begin


# The project.


def write_project(folder: Path, count: int, columns: int = COLUMNS, all_views: bool = False) -> tuple[list[str], str]:
    """Build two models with the real dbt, then write a manifest, files and tables of `count` of them, each of so many
    columns beside its time; with `all_views` every one is a feature view, not the last fifth alone.

    Returns:
        the names of the feature views, and a source that models read.
    """
    make_project(
        folder,
        {"stg": "select 1::bigint as c0, now() as event_timestamp, 2 as c1", "view": "select * from {{ ref('stg') }}"},
        [
            {"name": "stg", "description": "A model.", "columns": [{"name": "c0", "description": "Its key."}]},
            view_properties("view"),
        ],
    )
    path = folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    plain, view = (manifest["nodes"].pop(f"model.bench.{name}") for name in ("stg", "view"))
    for file in ("stg.sql", "view.sql", "models.yml"):
        (folder / "models" / file).unlink()
    sources = source_nodes(max(count // 25, 8), columns)
    manifest["sources"] = {node["unique_id"]: node for node in sources}
    chosen = random.Random(7)
    sizes = [count // LAYERS] * (LAYERS - 1)
    sizes[-1] = count // 5
    sizes.insert(0, count - sum(sizes))
    layers: list[list[dict[str, Any]]] = [sources]
    for depth, size in enumerate(sizes):
        layer = []
        for number in range(size):
            last = depth == len(sizes) - 1
            near = layers[-1]
            parents = [chosen.choice(near)]
            if depth:
                parents += [chosen.choice(chosen.choice(layers[1:])) for _ in range(chosen.randint(1, 2))]
            name = f"{'features' if last else 'layer'}_{depth}_{number:04d}"
            base = copy.deepcopy(view if last or all_views else plain)
            layer.append(model_node(base, name, parents, chosen, columns))
        layers.append(layer)
    nodes = [node for layer in layers[1:] for node in layer]
    manifest["nodes"] |= {node["unique_id"]: node for node in nodes}
    for node in nodes:
        (folder / node["original_file_path"]).write_text(node["raw_code"])
    write_properties(folder, nodes)
    with duckdb.connect(str(folder / "warehouse.duckdb")) as warehouse:
        warehouse.execute("create schema if not exists raw; begin")
        for node in (*sources, *nodes):
            listed = ", ".join(f"c{i} {'double' if i > 1 else 'bigint'}" for i in range(columns))
            warehouse.execute(f"create table {node['relation_name']} ({listed}, event_timestamp timestamptz)")
        warehouse.execute("commit")
    time.sleep(0.01)
    path.write_text(json.dumps(manifest))
    source = nodes[0]["depends_on"]["nodes"][0]
    return [node["name"] for node in layers[-1]], source.removeprefix("source.bench.")


def source_nodes(count: int, width: int) -> list[dict[str, Any]]:
    columns = {f"c{i}": {"name": f"c{i}", "description": f"The column c{i} of the shop."} for i in range(width)}
    columns["event_timestamp"] = {"name": "event_timestamp", "description": "When it happened."}
    return [
        {
            "database": "warehouse", "schema": "raw", "name": f"t{number}", "resource_type": "source",
            "package_name": "bench", "path": "models/sources.yml", "original_file_path": "models/sources.yml",
            "unique_id": f"source.bench.raw.t{number}", "fqn": ["bench", "raw", f"t{number}"], "source_name": "raw",
            "source_description": "", "loader": "", "identifier": f"t{number}", "columns": copy.deepcopy(columns),
            "description": "A table that another system fills.", "meta": {}, "config": {"enabled": True, "meta": {}},
            "relation_name": f'"warehouse"."raw"."t{number}"', "tags": [], "patch_path": None,
        }
        for number in range(count)
    ]  # fmt: skip


def model_node(
    node: dict[str, Any], name: str, parents: list[dict[str, Any]], chosen: random.Random, width: int
) -> dict[str, Any]:
    """A node of dbt's under another name, with other SQL."""
    sql = model_sql(parents, chosen, width)
    raw = sql
    for parent in parents:
        call = "source('raw', " if parent["resource_type"] == "source" else "ref("
        raw = raw.replace(parent["relation_name"], f"{{{{ {call}'{parent['name']}') }}}}")
    columns = {}
    for column in (*(f"c{i}" for i in range(width)), "event_timestamp"):
        columns[column] = {
            "name": column, "description": f"What {column} means in {name}, in a sentence.", "meta": {}, "tags": [],
            "data_type": None, "constraints": [], "quote": None, "config": {"meta": {}, "tags": []},
        }  # fmt: skip
    node |= {
        "name": name, "alias": name, "unique_id": f"model.bench.{name}", "fqn": ["bench", name], "path": f"{name}.sql",
        "original_file_path": f"models/{name}.sql", "relation_name": f'"warehouse"."main"."{name}"',
        "raw_code": raw, "compiled_code": sql, "compiled_path": f"target/compiled/bench/models/{name}.sql",
        "build_path": f"target/run/bench/models/{name}.sql", "columns": columns,
        "checksum": {"name": "sha256", "checksum": hashlib.sha256(raw.strip().encode()).hexdigest()},
        "refs": [{"name": p["name"], "package": None, "version": None} for p in parents],
        "depends_on": {"macros": [], "nodes": list(dict.fromkeys(parent["unique_id"] for parent in parents))},
        "patch_path": "bench://models/models.yml", "compiled": True,
    }  # fmt: skip
    if (node["config"].get("meta") or {}).get("feature_view"):
        node["config"]["meta"] = {"feature_view": {"entities": ["c0"], "ttl": "30 days"}}
    return node


def model_sql(parents: list[dict[str, Any]], chosen: random.Random, width: int) -> str:
    """What an analyst writes: imports, a step or three, and a last SELECT with every column named."""
    names = [f"c{i}" for i in range(width)]
    ctes = [
        f"p{place} as (\n\n    select * from {parent['relation_name']}\n\n)" for place, parent in enumerate(parents)
    ]
    mixed = ",\n        ".join(
        f"{chosen.choice(['coalesce(p0.{c}, 0)', 'p0.{c}', 'p0.{c} * 2', 'case when p0.{d} > 3 then p0.{c} end']).format(c=c, d=chosen.choice(names))} as {c}"
        for c in names[1:]
    )
    ctes.append(
        f"renamed as (\n\n    -- what comes in, made clean\n    select\n        p0.c0,\n        p0.event_timestamp,\n        {mixed}\n    from p0\n    where p0.c1 is not null\n\n)"
    )
    joins, items = "", [f"renamed.{c}" for c in ("c0", "event_timestamp")]
    for place in range(1, len(parents)):
        joins += f"\n    left join p{place}\n        on p{place}.c0 = renamed.c0\n        and p{place}.event_timestamp <= renamed.event_timestamp"
    for c in names[1:]:
        side = f"p{chosen.randrange(1, len(parents))}" if len(parents) > 1 and chosen.random() < 0.4 else "renamed"
        items.append(f"{side}.{chosen.choice(names)} as {c}")
    ctes.append("joined as (\n\n    select\n        " + ",\n        ".join(items) + f"\n    from renamed{joins}\n\n)")
    windows = ",\n        ".join(f"sum({c}) over (partition by c0 order by event_timestamp) as {c}" for c in names[6:])
    ctes.append(
        "final as (\n\n    select\n        c0,\n        event_timestamp,\n        "
        + ",\n        ".join(names[1:6])
        + f",\n        {windows}\n    from joined\n\n)"
    )
    return "with " + ",\n\n".join(ctes) + "\n\nselect * from final\n"


def write_properties(folder: Path, nodes: list[dict[str, Any]]) -> None:
    """Properties files of 100 models each, as a project that has grown has them."""
    for first in range(0, len(nodes), 100):
        models = []
        for node in nodes[first : first + 100]:
            entry: dict[str, Any] = {"name": node["name"], "description": node["description"]}
            if (node["config"].get("meta") or {}).get("feature_view"):
                entry["config"] = {"meta": node["config"]["meta"]}
            entry["columns"] = [{"name": c["name"], "description": c["description"]} for c in node["columns"].values()]
            models.append(entry)
        path = folder / "models" / f"models_{first // 100}.yml"
        path.write_text(yaml.safe_dump({"models": models}, sort_keys=False))


if __name__ == "__main__":
    sys.exit(main())
