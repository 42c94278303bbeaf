"""What was looked at, as the catalog's document has it: also where nothing was found, and where it could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from materializer.catalog.rows import DRIFT_PERIOD

Part = Mapping[str, Any]


def checks_of(
    views: Sequence[Part],
    models: Sequence[Part],
    columns: Part,
    missing: Mapping[str, str],
    at: str | None,
    tested_at: str | None,
) -> list[dict[str, Any]]:
    """One entry a check: how many things were looked at, when, and in `problem` why not all.

    `missing` is that problem by the check's name; `at` is the moment of the build, `tested_at` of dbt's last command.
    """
    features = [feature for view in views for feature in view["features"]]
    every = (*views, *models)
    unread = sum("problem" in one for one in columns.values())
    said = {"lineage": f"{unread:,} columns could not be followed: each says why."} if unread else {}
    said |= missing
    counts = {
        "freshness": sum(view["freshness"]["status"] != "unknown" for view in views),
        "online": sum(view["online"]["wanted"] and view["online"]["published"] is not None for view in views),
        "lint": len(views),
        "tests": sum(test["status"] is not None for part in every for test in part["tests"]),
        "drift": sum(feature["drift"] is not None for feature in features),
        "statistics": sum(feature["statistics"] is not None for feature in features),
        "lineage": len(columns) - unread,
        "build": sum(not part["problem"] for part in every),
    }
    whats = {
        "freshness": "newest event and load against ttl and limits",
        "online": "what Redis has, and how the last run ended",
        "lint": "SQL that reads the clock or the future; features that compute the same; services",
        "tests": "data and unit tests of the last dbt command",
        "drift": f"the newest {DRIFT_PERIOD} against the {DRIFT_PERIOD} before",
        "statistics": "what the values of features look like",
        "lineage": "every column traced one step back",
        "build": "models in the manifest that are built and can be read",
    }
    moments = {"tests": tested_at, "build": tested_at}
    return [
        {"name": name, "what": what, "count": counts[name], "at": moments.get(name, at), "problem": said.get(name)}
        for name, what in whats.items()
    ]
