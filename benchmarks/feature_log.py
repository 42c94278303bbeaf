"""What the log of served features costs the server: the same requests without it, with a tenth of them and with all.

Run: python benchmarks/feature_log.py [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import serve
import support
from support import note

SAMPLES = {"no log": None, "a tenth": "0.1", "every request": "1"}


def main() -> None:
    options = arguments()
    with (
        support.private_redis() as redis,
        tempfile.TemporaryDirectory(prefix="bench-log-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        serve.prepare(folder, options.rows, redis.url)
        load = serve.Load(folder)
        sides = []
        for title, sample in SAMPLES.items():
            port = support.free_port()
            command = [str(Path(sys.executable).with_name("feature-store")), "serve", "--port", str(port)]
            command += ["--redis-url", redis.url, "--log-seconds", "2"]
            if sample:
                command += ["--log-features", str(folder / f"served-{sample}"), "--log-sample", sample]
            sides.append(
                serve.Side(
                    title, port, stack.enter_context(serve.server(command, folder, port, "/ready")), "/v1/features"
                )
            )
        rows = []
        for case in serve.CASES[:2]:
            closed: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
            opened: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
            rate = load.run(sides[0], case, options.rows, options.seconds, 4)["rate"] / 2
            for turn in range(options.turns):
                note(f"{case.name}: turn {turn + 1}")
                for side in sides:
                    closed[side.name].append(load.run(side, case, options.rows, options.seconds, 4))
                    opened[side.name].append(load.run(side, case, options.rows, options.seconds, 32, rate))
            for side in sides:
                rows.append(
                    [
                        case.name, side.name, f"{middle(closed[side.name], 'rate'):,.0f}",
                        f"{middle(closed[side.name], 'cpu') * 1e3:.2f}",
                        f"{middle(opened[side.name], 'p50') * 1e3:.1f}", f"{middle(opened[side.name], 'p99') * 1e3:.1f}",
                        f"{side.memory_mib():,.0f}",
                    ]
                )  # fmt: skip
        load.close()
    head = [
        "entities x features",
        "logged",
        "requests/s",
        "CPU ms a request",
        "p50 ms at half",
        "p99 ms at half",
        "MiB",
    ]
    support.print_table("The log of served features, one worker", head, rows)


def middle(found: list[dict[str, Any]], name: str) -> float:
    return support.median([one[name] for one in found])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="entities (default 20,000)")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement (default 4)")
    parser.add_argument("--turns", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--quick", action="store_true", help="2,000 entities, one turn of a second")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.seconds, options.turns = 2_000, 1, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
