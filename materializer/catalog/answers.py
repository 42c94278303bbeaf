"""Answers out of a catalog's document, for agents: plain dicts and lists, nothing is run or written."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from materializer.catalog.search import search_document
from materializer.errors import InputError, NotFoundError

Document = Mapping[str, Any]
# The parts with a name of their own; a feature is looked for in its view or service.
_PARTS = (
    ("view", "views"),
    ("service", "services"),
    ("entity", "entities"),
    ("model", "models"),
    ("source", "sources"),
)
_SQL = ("sql", "compiled")


def search(
    document: Document, text: str = "", kind: str | None = None, owner: str | None = None, entity: str | None = None,
    limit: int = 20,
) -> dict[str, Any]:  # fmt: skip
    """Features, views, entities and services by the words said of them, the best first."""
    found = search_document(document, text, kind=kind, owner=owner, entity=entity)
    return {"found": len(found), "matches": [asdict(match) for match in found[:limit]]}


def show(document: Document, name: str, sql: bool = False) -> dict[str, Any]:
    """Everything known of a view, ``view:feature``, service, entity, model or source."""
    kind, part = _named(document, name)
    wrong = [one for one in document["findings"] if one["ref"] == name or one["ref"].startswith(f"{name}:")]
    known = {key: value for key, value in part.items() if sql or key not in _SQL}
    if kind == "view":
        known["features"] = [
            {key: one[key] for key in ("name", "type", "description", "on_demand")} for one in part["features"]
        ]
    if kind == "feature":
        known["services"] = sorted(one["name"] for one in document["services"] if name in one["features"])
        known["training_sets"] = [one["name"] for one in document.get("training_sets") or () if name in one["features"]]
    return {"kind": kind, "as_of": document["project"]["built_at"], **known, "findings": wrong}


def lineage(document: Document, reference: str, downstream: bool = False) -> dict[str, Any]:
    """What a column or feature is made from, step by step up to the sources; or what is made from it."""
    columns, sets = document["columns"], document["row_sets"]
    relation, colon, _ = reference.rpartition(":")
    if not colon:
        raise InputError(f"'{reference}' is no column: write 'view:feature', 'model:column' or 'source.table:column'.")
    onward = _readers(document) if downstream else {}
    if reference not in columns and reference not in onward:
        kind, part = _named(document, relation)
        names = [one["name"] for one in (part.get("features") or part.get("columns") or ()) if isinstance(one, dict)]
        if reference.rpartition(":")[2] not in names:
            raise NotFoundError(f"{kind.capitalize()} '{relation}' has no column '{reference.rpartition(':')[2]}'; "
                                f"it has: {', '.join(names) or 'none that is known'}.")  # fmt: skip
    steps: list[dict[str, Any]] = []
    waiting, seen = deque([reference]), set()
    while waiting:
        one = waiting.popleft()
        if one in seen:
            continue
        seen.add(one)
        if downstream:
            made = onward.get(one, [])
            steps += [{"column": one, "used_by": made}] if made else []
            waiting += [reader["column"] for reader in made if reader["how"] == "value"]
        elif one in columns:
            hop = columns[one]
            steps.append(
                {
                    "column": one, "computed_by": [sql for _, sql, _ in hop["steps"]], "made_from": hop["values"],
                    "counts_rows_of": hop["counts"], "rows_decided_by": sets[hop["rows"]],
                    **({"problem": hop["problem"]} if "problem" in hop else {}),
                }
            )  # fmt: skip
            waiting += hop["values"]
    return {"reference": reference, "direction": "downstream" if downstream else "upstream", "steps": steps}


def statistics(document: Document, name: str) -> dict[str, Any]:
    """What the values of a feature, or of each of a view's features, look like; their history and drift."""
    kind, part = _named(document, name)
    if kind not in ("view", "feature"):
        raise InputError(f"'{name}' is {_a(kind)}: statistics are of a view or of a feature, 'view:feature'.")
    features = part["features"] if kind == "view" else [part]
    keys = ("name", "type", "statistics", "history", "drift")
    missing = {
        check["name"]: check["problem"]
        for check in document["checks"]
        if check["problem"] and check["name"] in ("statistics", "drift")
    }
    return {
        "reference": name, "as_of": document["project"]["built_at"],
        "features": [{key: one.get(key) for key in keys} for one in features], "missing": missing,
    }  # fmt: skip


def training_set(
    document: Document, features: Sequence[str] = (), service: str | None = None, language: str = "sql"
) -> dict[str, Any]:
    """How a training set of these features is made: a dbt model, or Python; and which columns the labels need."""
    if language not in ("sql", "python"):
        raise InputError(f"language is 'sql' or 'python', not '{language}'.")
    if bool(features) == bool(service):
        raise InputError("Name features, as 'view:feature', or a service: one of both.")
    references = list(features) if features else list(_named(document, str(service), "service")[1]["features"])
    found = [_named(document, reference, "feature")[1] for reference in references]
    stored = [read for one in found for read in ((one["on_demand"] or {}).get("reads") or ())]
    views = [_named(document, ref.partition(":")[0])[1] for ref in (*references, *stored)]
    keys = dict.fromkeys(key for view in views for key in view.get("entities", ()))
    request = {name: kind for one in found for name, kind in ((one["on_demand"] or {}).get("request") or {}).items()}
    names = [reference.rpartition(":")[2] for reference in references]
    full = len(set(names)) < len(names)
    if language == "python":
        code = _in_python(document, references, service, full)
    elif service:
        code = _of_service(service, dict.fromkeys(view["name"] for view in views if "entities" in view), document)
    elif of_service := [one["service"] for one in found if "service" in one]:
        raise InputError(f"What is computed over several views a dbt model has by its service's name: name the service "
                         f"'{of_service[0]}'.")  # fmt: skip
    else:
        listed = "".join(f"\n        '{one}'," for one in references)
        more = "    full_feature_names=true,\n" if full else ""
        call = f"    spine=ref('labels'),\n    features=[{listed}\n    ],\n{more}"
        code = f"{{{{ feature_store.point_in_time_join(\n{call}) }}}}\n"
    return {
        "language": language,
        "code": code,
        "labels": "one row a label: the relation, frame or SELECT called `labels` here",
        "labels_need": {"join_keys": list(keys), "time": "event_timestamp", "request_fields": request},
    }


def _in_python(document: Document, references: Sequence[str], service: str | None, full: bool) -> str:
    asked = f'"{service}"' if service else "[" + "".join(f'\n        "{one}",' for one in references) + "\n    ]"
    more = "\n    full_feature_names=True," if full else ""
    return (
        "from materializer import FeatureStore\n\n"
        f'store = FeatureStore(project_dir=".", target="{document["project"]["target"]}")\n'
        f"training_set = store.get_historical_features(\n    labels,\n    features={asked},{more}\n).to_df()\n"
    )


def _of_service(service: str, names: Iterable[str], document: Document) -> str:
    """dbt knows no exposures while it parses: the views that the service needs are named in comments."""
    views = {view["name"]: view for view in document["views"]}
    calls = []
    for view in (views[name] for name in names):
        version = f", v={view['version']}" if view["version"] is not None else ""
        calls.append(f"-- depends_on: {{{{ ref('{view['model']}'{version}) }}}}\n")
    return (
        "".join(calls) + "{{ feature_store.point_in_time_join(\n    spine=ref('labels'),\n"
        f"    features='{service}',\n) }}}}\n"
    )


def _named(document: Document, name: str, wanted: str | None = None) -> tuple[str, Mapping[str, Any]]:
    """The part of a name, and its kind. Raises NotFoundError, with the nearest there are."""
    holder, colon, feature = name.partition(":")
    known: dict[str, Any] = {}
    for kind, parts in _PARTS:
        for part in document[parts]:
            names = {part["name"]} | ({part["model"]} if kind == "view" and part["latest"] else set())
            known |= dict.fromkeys(names, kind)
            if not colon and name in names and wanted in (None, kind):
                return kind, part
            if colon and holder in names and kind in ("view", "service"):
                features = part["features"] if kind == "view" else part["on_demand"]
                for one in features:
                    if one["name"] == feature:
                        owner = part["owner"]
                        return "feature", {**one, "reference": name, kind: part["name"], "owner": owner}
                there = ", ".join(one["name"] for one in features) or "none"
                raise NotFoundError(f"{kind.capitalize()} '{holder}' has no feature '{feature}'; it has: {there}.")
    close = difflib.get_close_matches(holder, known, 3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; `search` finds what there is."
    raise NotFoundError(f"There is no {wanted or 'view, service, entity, model or source'} '{name}'{hint}")


def _readers(document: Document) -> dict[str, list[dict[str, str]]]:
    """By column those that are made from it, and how it is in them."""
    onward: dict[str, list[dict[str, str]]] = {}
    for column, hop in document["columns"].items():
        for one in hop["values"]:
            onward.setdefault(one, []).append({"column": column, "how": "value"})
        for one in document["row_sets"][hop["rows"]]:
            if one not in hop["values"]:
                onward.setdefault(one, []).append({"column": column, "how": "decides over rows"})
    for service in document["services"]:
        for one in service["features"]:
            onward.setdefault(one, []).append({"column": service["name"], "how": "served"})
    return onward


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


TOOLS: tuple[Callable[..., dict[str, Any]], ...] = (search, show, lineage, statistics, training_set)
