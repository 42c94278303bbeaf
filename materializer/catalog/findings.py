"""What is wrong, as the catalog's document has it, each with what mends it; the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from materializer.catalog.lint import Finding
from materializer.catalog.statistics import MUCH

_KINDS = ("build", "service", "online", "freshness", "test", "leak", "duplicate", "drift", "undocumented")
REMEDIES = {
    "build": "Build it: `dbt build -s <name>`; where its SQL or properties are wrong, mend what the sentence names.",
    "service": "Mend the exposure: it names a view or feature that there is not.",
    "online": "Run `materialize`; `feature-store doctor` looks at everything around it.",
    "freshness": "Look at the last `dbt build`, then at the sources (`dbt source freshness`).",
    "test": "Run `dbt test -s <name>` and read what it stores or prints.",
    "leak": "Make the feature depend on the row's own event time alone, as the sentence says.",
    "duplicate": "Keep one of them, and read it from there.",
    "drift": "Compare the two periods, and look at what changed upstream.",
    "undocumented": "Add it under `columns:` in the model's properties.",
}
_FAILED = {"fail": "error", "error": "error", "runtime error": "error", "warn": "warn"}


def findings_of(
    views: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], linted: Iterable[Finding]
) -> list[dict[str, Any]]:
    """Everything that is wrong with the document's views, and with its other models and sources."""
    found = [*_of_lint(linted, views)]
    for part in (*views, *others):
        owner = (part.get("owner") or {}).get("group")
        found += [{**one, "owner": owner, "file": one.get("file") or part["file"]} for one in _of(part)]
    order = {"error": 0, "warn": 1}
    found.sort(key=lambda one: (order[one["severity"]], _KINDS.index(one["kind"]), one["ref"], one["what"]))
    return found


def _of(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    name = part["name"]
    if part.get("problem"):
        yield _finding("error", "build", name, part["problem"])
    for test in part.get("tests", ()):
        if test["status"] in _FAILED:
            ref = f"{name}:{test['column']}" if test["column"] else name
            rows = f": {test['failures']:,} rows" if test["failures"] else ""
            yield _finding(_FAILED[test["status"]], "test", ref, f"{test['name']} failed{rows}")
    freshness, online = part.get("freshness"), part.get("online")
    if freshness and not part.get("problem") and freshness["status"] in ("warn", "error"):
        yield _finding(freshness["status"], "freshness", name, freshness["reason"])
    if online and online.get("status") in ("warn", "error"):
        yield _finding(online["status"], "online", name, online["reason"])
    for feature in part.get("features", ()):
        index = (feature.get("drift") or {}).get("population_stability_index")
        if index is not None and feature["drift"]["verdict"] == "drifted":
            what = f"its values moved: the index is {index:.2f}, above {MUCH:g}"
            yield _finding("warn", "drift", f"{name}:{feature['name']}", what)


def _of_lint(linted: Iterable[Finding], views: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    owners = {view["name"]: (view["owner"] or {}).get("group") for view in views}
    undocumented: dict[str, list[Finding]] = {}
    for one in linted:
        severity = "error" if one.severity == "error" else "warn"
        rest = {"owner": owners.get(one.view), "file": one.file, "line": one.line, "rule": one.rule}
        if one.rule == "undocumented":
            undocumented.setdefault(one.view, []).append(one)
        elif one.rule == "duplicate":
            yield _finding(severity, "duplicate", one.feature or one.view, one.message, other=one.other, **rest)
        else:
            kind = {"service": "service", "unparsable": "build"}.get(one.rule, "leak")
            yield _finding(severity, kind, one.view, one.message, **rest)
    for view, several in undocumented.items():
        first, more = several[0], len(several) - 1
        what = first.message if not more else f"{first.message} So it is with {more:,} more of its features."
        yield _finding("warn", "undocumented", view, what, owner=owners.get(view), file=first.file, line=first.line)


def _finding(severity: str, kind: str, ref: str, what: str, **rest: Any) -> dict[str, Any]:
    return {"severity": severity, "kind": kind, "ref": ref, "what": what.rstrip("."), "mend": REMEDIES[kind], **rest}
