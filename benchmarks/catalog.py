"""How long the catalog of a large project takes to build, and how quick its page is in a browser.

    python benchmarks/catalog.py                 # a few minutes: 5,000 models, 50,000 features
    python benchmarks/catalog.py --models 500    # shows that it works
    python benchmarks/catalog.py --keep FOLDER   # leaves project and catalog there

The project is that of `benchmarks/registry.py`, every model of it a feature view of ten features, over empty tables: what
statistics cost is the warehouse's matter, and bounded by --seconds. Each build is a process of its own; its peak is that of
the process and of those it starts together. The second build finds what the first has kept of the models.
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
    (folder / "target" / "feature_store" / "lineage.msgpack").unlink(missing_ok=True)
    for name, more in (("the first", []), ("again", []), ("again, --light", ["--light"])):
        page = pages[name] = folder / f"{'light' if more else 'all'}.html"
        found = run(folder, page, more)
        counts = found["counts"]
        rows.append(
            [name, f"{found['wall']:.1f} s", f"{found['peak']:.0f} MiB", counts["views"], counts["features"],
             megabytes(page), megabytes(page.with_suffix(".json"))]
        )  # fmt: skip
        if name == "the first":
            promises.at_most("catalog build", found["wall"], BUILD_SECONDS, " s")
            promises.at_most("its memory", found["peak"], PEAK_MIB, " MiB")
    print_table(
        "feature-store catalog build, without statistics",
        ["form", "time", "peak", "views", "features", "page", "JSON"],
        rows,
    )
    print_table("What the page is made of", ["part", "blocks", "in the file", "unpacked"], sections(pages["the first"]))
    return pages["the first"]


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
    """What one build says, with its seconds and the peak of it and its processes together, looked at each second."""
    command = [
        sys.executable, "-c", _BUILD, "catalog", "build", "--project-dir", str(folder), "--out", str(page),
        "--no-statistics", "--seconds", ROW_SECONDS, "--redis-url", "redis://127.0.0.1:1/0", "--output", "json", *more,
    ]  # fmt: skip
    begin, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"DBT_PROFILES_DIR": str(folder)}
        )
        while process.poll() is None:
            peak = max(peak, sum(map(mebibytes, family(process.pid))))
            time.sleep(1)  # to add up memory takes a while of its own
        wall = time.perf_counter() - begin
        out.seek(0)
        text = out.read()
    if process.returncode:
        sys.exit(f"catalog build failed:\n{text[-4000:]}")
    return {**json.loads(text), "wall": wall, "peak": peak}


def family(pid: int) -> list[int]:
    """A process and those that it started, as Linux tells."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def mebibytes(pid: int) -> float:
    """The memory of a process that it shares with no other, and its part of what it shares."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024


_BUILD = """
from materializer.cli import main
if __name__ == "__main__":
    main()
"""


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
