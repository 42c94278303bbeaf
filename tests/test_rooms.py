"""The rooms of the package: who may know whom, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "materializer"
# Each room with those that it may import; of `errors` everybody may.
ROOMS = {
    "project": set(),
    "warehouse": {"project"},
    "sql": {"project"},
    "training": {"project", "warehouse"},
    "online": {"project", "warehouse"},
    "serve": {"project", "warehouse", "online", "stream", "catalog"},
    "materialize": {"project", "warehouse", "online"},
    "stream": {"materialize", "project", "warehouse", "sql", "online"},
    "diff": {"project", "warehouse", "sql"},
    "catalog": {"project", "warehouse", "sql", "training", "online", "materialize", "stream"},
    "skew": {"project", "warehouse", "training", "online", "materialize"},
    "feast": {"project", "warehouse"},
    "store": {"project", "warehouse", "sql", "training", "online", "materialize", "stream", "diff", "catalog"},
}
EVERYWHERE = {"errors", "printable"}


def modules() -> dict[str, Path]:
    """Every module by its dotted name within the package."""
    named = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {
        name.removesuffix("/__init__").replace("/", "."): path
        for name, path in named.items()
        if not name.startswith("templates/") and name != "__init__"
    }


def imports(path: Path, at_start: bool = False) -> Iterator[str]:
    """The modules of the package that a module imports, by their dotted names; with `at_start` only those that are
    imported along with it, without what is imported within functions or for type checkers."""
    known = modules()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "materializer":
            base = node.module.removeprefix("materializer").lstrip(".")
            for alias in node.names:
                inside = f"{base}.{alias.name}".lstrip(".")
                yield inside if inside in known else base
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("materializer.") for a in node.names if a.name.startswith("materializer."))
        elif at_start and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_knows_only_those_below_it(name: str) -> None:
    inside = [path for module, path in modules().items() if room(module) == name]
    assert inside, "there is no such room"
    known = {room(module) for path in inside for module in imports(path)} - {name} - EVERYWHERE
    assert known <= ROOMS[name]


def test_the_server_knows_no_more_of_the_catalog_than_its_page() -> None:
    inside = [path for module, path in modules().items() if room(module) == "serve"]
    known = {module for path in inside for module in imports(path) if room(module) == "catalog"}
    assert known == {"catalog.page"}
    page = [path for module, path in modules().items() if module.startswith("catalog.page")]
    assert {room(module) for path in page for module in imports(path)} <= {"catalog"}


def test_every_module_is_in_a_room() -> None:
    assert {room(module) for module in modules()} == {*ROOMS, *EVERYWHERE, "cli"}


def test_nothing_below_knows_the_store_or_the_command_line() -> None:
    knowing = {module: {room(one) for one in imports(path)} for module, path in modules().items()}
    assert {module for module, known in knowing.items() if known & {"store", "cli"}} <= {
        module for module in modules() if room(module) == "cli"
    }


def test_no_module_is_imported_by_one_that_it_imports() -> None:
    below = {module: set(imports(path, at_start=True)) - {module} for module, path in modules().items()}
    assert sum(map(len, below.values())) > 100
    while below:
        free = {module for module, known in below.items() if not known & set(below)}
        assert free, f"these import each other: {sorted(below)}"
        below = {module: known for module, known in below.items() if module not in free}


def loaded(code: str) -> set[str]:
    """The names of the modules that are loaded after `code` ran in a new Python."""
    code += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {"dbt", "duckdb", "jinja2", "numpy", "pandas", "polars", "pyarrow", "redis", "rich", "sqlglot", "yaml"}


@pytest.mark.parametrize(
    "code",
    [
        "from materializer import FeatureStore; FeatureStore(redis_url='redis://127.0.0.1:1/0')",
        "from materializer import cli; cli.feature_store(['--help'], standalone_mode=False)",
        "from materializer import cli; cli.feature_store(['--version'], standalone_mode=False)",
    ],
)
def test_a_readers_import_and_help_load_nothing_heavy(code: str) -> None:
    found = loaded(code)
    assert "materializer" in found and not found & HEAVY


def test_reading_online_loads_no_warehouse_dbt_or_command_line(redis_url: str, namespace: str) -> None:
    code = f"""
from materializer import FeatureStore, NotFoundError
try:
    FeatureStore(redis_url={redis_url!r}, namespace={namespace!r}).get_online_features(["a:b"], [{{"a": 1}}])
except NotFoundError:
    import sys; print("asked", file=sys.stderr)
"""
    found = loaded(code)
    assert "asked" in found and "redis" in found
    assert not found & {"dbt", "duckdb", "jinja2", "pandas", "polars", "rich", "sqlglot", "click", "yaml"}
