"""``FROM_FEAST.md``: what became of each of Feast's objects, what to do, and where the meaning differs."""

from __future__ import annotations

from collections.abc import Iterable

from materializer.feast.definitions import Outcome, Repository
from materializer.feast.sql_types import WAREHOUSES
from materializer.feast.write import Written
from materializer.printable import printable

_KINDS = ("feature view", "entity", "feature service", "on-demand feature view")
_PLURALS = {"entity": "entities"}


def report(repository: Repository, written: Written) -> str:
    """The report as Markdown."""
    parts = [
        f"# From Feast: {_cell(repository.project) or 'a repository without a name'}",
        f"Written by `feature-store init --from-feast` from {_code(str(repository.folder))} ({repository.files} Python "
        f"files), read by Feast {_cell(repository.feast)}. Every object of Feast's is below, with what became of it.",
        "\n".join(["| Feast | written as it is | written, with notes | no equal |", "| --- | --- | --- | --- |"]
                  + [f"| {kind} | {a} | {b} | {c} |" for kind, a, b, c in counts(written.outcomes)]),
    ]  # fmt: skip
    todo = _todo(repository, written)
    if todo:
        parts += ["## To do", "\n".join(f"- {line}" for line in todo)]
    for kind in _KINDS:
        parts += _table(f"{_plural(kind).capitalize()}", [o for o in written.outcomes if o.kind == kind and o.became])
    parts += _table("Without equal", [o for o in written.outcomes if not o.became], kinds=True)
    parts += ["## Where the meaning differs", "\n".join(f"- {line}" for line in _differences(repository))]
    return "\n\n".join(parts) + "\n"


def counts(outcomes: Iterable[Outcome]) -> list[tuple[str, int, int, int]]:
    """How many objects of each kind were written as they are, written with notes, and have no equal."""
    found: dict[str, list[int]] = {kind: [0, 0, 0] for kind in _KINDS}
    for outcome in outcomes:
        place = 2 if not outcome.became else 1 if outcome.notes else 0
        found.setdefault(outcome.kind, [0, 0, 0])[place] += 1
    return [(_plural(kind), *numbers) for kind, numbers in found.items()]


def _plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind}s")


def _todo(repository: Repository, written: Written) -> list[str]:
    lines = []
    warehouses = sorted({WAREHOUSES[m.view.source.kind] for m in written.models
                         if not m.view.source.file and m.view.source.kind in WAREHOUSES})  # fmt: skip
    if warehouses:
        lines.append(
            f"`profiles.yml` names a DuckDB file, and there are tables in {' and '.join(warehouses)}: put that "
            "warehouse's connection there. Nothing of feature_store.yaml's connections was copied."
        )
    if repository.online_store != "redis":
        store = _cell(str(repository.online_store))
        lines.append(
            f"Feast's online store is {store}; here it is Redis: set `FEATURE_STORE_REDIS_URL`, then "
            "`materialize`. Values are read from the warehouse once more, not copied from Feast's store."
        )
    disabled = [f"`models/features/{model.name}.sql`" for model in written.models if not model.enabled]
    if disabled:
        lines.append(f"Finish and enable {', '.join(disabled)}.")
    lines.append(
        "In Python, change `from feast import FeatureStore` to `from materializer import FeatureStore` and `repo_path` "
        "to this folder."
    )
    return lines


def _table(title: str, outcomes: list[Outcome], kinds: bool = False) -> list[str]:
    if not outcomes:
        return []
    head = ["Feast", "where", "why, and what to do" if kinds else "became", "" if kinds else "notes"]
    rows = [" | ".join(head).strip(" |"), " | ".join(["---"] * (3 if kinds else 4))]
    for o in outcomes:
        notes = "<br>".join(_cell(note) for note in o.notes)
        name = f"{o.kind} {_code(o.name)}" if kinds else _code(o.name)
        became = f"[{o.became}]({o.became})" if o.became.startswith("models/") else _cell(o.became)
        became = notes if kinds else f"{became} | {notes}"
        rows.append(f"{name} | {_cell(o.where)} | {became}")
    return [f"## {title}", "\n".join(f"| {row} |" for row in rows)]


def _cell(text: str) -> str:
    """A text in a line of Markdown: no table, tag, link or picture begins in it."""
    return _plain(text).replace("](", "]\\(").replace("|", "\\|")


def _code(text: str) -> str:
    """A text between backticks, which holds none."""
    return "`" + _plain(text).replace("`", "'").replace("|", "\\|") + "`"


def _plain(text: str) -> str:
    return printable(" ".join(text.split())).replace("<", "&lt;")


def _differences(repository: Repository) -> list[str]:
    views, lines = repository.views, []
    if any(view.ttl for view in views):
        lines.append(
            "**ttl online.** Feast checks a ttl in training sets only: `get_online_features` there gives a row of "
            "whatever age. Here a row older than its ttl gives `None`: `OUTSIDE_MAX_AGE`, or `NOT_FOUND` once it "
            "has left Redis. The boundary is the same: a row of exactly the ttl's age counts."
        )
    if any(view.source.created for view in views):
        lines.append(
            "**Created timestamp.** Feast uses it to choose among rows of one event time, and lets a training set see "
            "rows that became known later unless `filter_by_created_timestamp=True`. Here a row counts from the moment "
            "when it became known, and never while that is NULL; `filter_by_created_timestamp=False` gives what Feast "
            "does, and is what a file needs whose rows were all written anew lately."
        )
    lines += [
        "**Ties.** Of several rows with one event time and one created time Feast takes any. Here the greatest by all "
        "features in column-name order counts, on every run.",
        "**Rows of a training set.** Rows out are rows in, in the same order. Feast keeps no order, and its offline "
        "store `file` (dask) drops rows that are there twice, and those of an entity whose rows are all older than the "
        "ttl or of later.",
        "**Types.** Feast casts features to their declared types on the way to the online store only. Here both sides "
        "have the declared type.",
        "**What is materialized.** Feast writes the rows between two dates, so that what lies before them, was taken "
        "back or fell out of the source stays online. `materialize` makes Redis equal to the latest visible rows of "
        "each view.",
        "**NaN.** Feast's online store turns NaN into NULL. Here NaN is a value. (Parquet files that pandas wrote hold "
        "NULL.)",
    ]
    if any(not view.entities for view in views):
        lines.append(
            "**Views without an entity.** Feast knows one row for everybody; here it has a join key, `all_rows`."
        )
    return lines
