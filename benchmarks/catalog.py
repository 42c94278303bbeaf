"""How long the catalog of a large project takes to build, and how quick its page is in a browser.

    python benchmarks/catalog.py                 # a few minutes: 5,000 models, 50,000 features
    python benchmarks/catalog.py --models 500    # shows that it works
    python benchmarks/catalog.py --keep FOLDER   # leaves project and catalog there

The project is that of `benchmarks/registry.py`, every model of it a feature view of ten features, over empty tables: what
statistics cost is the warehouse's matter, and bounded by --seconds. Each build is a process of its own; its peak is that of
the process and of those it starts, added up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.registry import write_project
from benchmarks.support import Promises, machine, print_table

BUILD_SECONDS, PEAK_MIB = 60.0, 1024.0
# Within the build, for the freshness of as many views as that is enough for.
ROW_SECONDS = "15"
_BLOCK = re.compile(r'<script type="[^"]+" id="([^"]+)"(?: data-bytes="(\d+)")?>(.*?)</script>', re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=5000, help="how many models there are (default 5000)")
    parser.add_argument("--keep", type=Path, help="a folder for the project, which stays there")
    parser.add_argument("--no-browser", action="store_true", help="leave the page out")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "target" / "manifest.json").is_file():
            write_project(folder, options.models, columns=11, all_views=True)
        promises = Promises()
        page = build(folder, promises)
        if not options.no_browser:
            browse(page, promises)
        promises.print()
    return 0


def build(folder: Path, promises: Promises) -> Path:
    """The Python half: seconds, memory and sizes of both forms. Gives the page with everything."""
    rows, pages = [], {}
    for name, more in (("all of it", []), ("--light", ["--light"])):
        page = pages[name] = folder / f"{'light' if more else 'all'}.html"
        found = run(folder, page, more)
        counts = found["counts"]
        rows.append(
            [name, f"{found['wall']:.1f} s", f"{found['peak']:.0f} MiB", counts["views"], counts["features"],
             megabytes(page), megabytes(page.with_suffix(".json"))]
        )  # fmt: skip
        if not more:
            promises.at_most("catalog build", found["wall"], BUILD_SECONDS, " s")
            promises.at_most("its memory", found["peak"], PEAK_MIB, " MiB")
    print_table(
        "feature-store catalog build, without statistics",
        ["form", "time", "peak", "views", "features", "page", "JSON"],
        rows,
    )
    print_table("What the page is made of", ["part", "blocks", "in the file", "unpacked"], sections(pages["all of it"]))
    return pages["all of it"]


def sections(page: Path) -> list[list[str | int]]:
    """The parts of a page, the largest first."""
    text, sizes = page.read_text(), {}
    for name, packed, content in _BLOCK.findall(text):
        one = sizes.setdefault(re.sub(r"-\d+$", "", name), [0, 0, 0])
        one[:] = one[0] + 1, one[1] + len(content), one[2] + (int(packed) if packed else len(content))
    plain = len(text) - text.index("<noscript>")
    sizes["without JavaScript"] = [1, plain, plain]
    rest = len(text) - sum(one[1] for one in sizes.values())
    sizes["code, style and frame"] = [1, rest, rest]
    ordered = sorted(sizes.items(), key=lambda one: -one[1][1])
    return [[name, count, *(f"{size / 1e6:.2f} MB" for size in two)] for name, (count, *two) in ordered]


def browse(page: Path, promises: Promises) -> None:
    """The page's half: see `benchmarks/catalog_page.py`."""
    from benchmarks.catalog_page import measure

    found = measure(page)
    print_table("The page in Chromium", list(found), [list(found.values())])
    promises.at_most("first paint", found["first paint ms"], 500, " ms")
    promises.at_most("a keystroke of search", found["keystroke ms, median"], 50, " ms")
    promises.at_most("a click on a facet", found["facet click ms, median"], 100, " ms")


def run(folder: Path, page: Path, more: list[str]) -> dict[str, Any]:
    """What one build says, with its seconds and the peak of its processes."""
    command = [
        sys.executable, "-c", _MEASURED, "catalog", "build", "--project-dir", str(folder), "--out", str(page),
        "--no-statistics", "--seconds", ROW_SECONDS, "--redis-url", "redis://127.0.0.1:1/0", "--output", "json", *more,
    ]  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"DBT_PROFILES_DIR": str(folder)}
    )
    wall = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"catalog build failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    own, largest = map(float, done.stderr.splitlines()[-1].split())
    children = (os.cpu_count() or 1) * largest
    return {**json.loads(done.stdout), "wall": wall, "peak": own + children}


# At its end the command says its own peak and that of the largest process that it started, in MiB.
_MEASURED = """
import resource, sys
from materializer.cli import main
if __name__ == "__main__":
    try:
        main()
    finally:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        print(*(resource.getrusage(kind).ru_maxrss / 1024 for kind in kinds), file=sys.stderr)
"""


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
