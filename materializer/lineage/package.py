"""The SQL that the package's own window macros write, read by what it means.

`window_aggregates` and `aggregate_as_of` come in several shapes, whose CTEs (``_fs_changes``, ``_fs_timeline``, ...)
move counts and sums about until a window is their difference. What flows is the same in all of them: the values that
``_fs_events`` carries as ``_fs_1``, ``_fs_2``, ... and, deciding which of them count, its keys and times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.lineage.relations import ROWS, Ref, Relation, Step
from materializer.lineage.values import Kind

if TYPE_CHECKING:
    from materializer.lineage.select import Select

# The CTEs that give windows, and those of them that say how their columns are made.
_PARTS = (
    "_fs_by_frames",
    "_fs_by_balance",
    "_fs_by_totals",
    "_fs_by_distinct",
    "_fs_by_pieces",
    "_fs_by_range",
    "_fs_by_strays",
)
_WINDOWS = ("_fs_frames", *_PARTS[1:])
_VALUE = re.compile(r"_fs_(\d+)(?:_|$)")
# The place of an event for first and last: `_fs_3_first_fs_4` is over `_fs_3`, of the events that `_fs_4` takes.
_PLACE = re.compile(r"(_fs_\d+)_(first|last)(_fs_\d+)")
# Columns that only hold the parts of the SQL together: row numbers and marks.
PLUMBING = frozenset({"_fs_row", "_fs_asked", "_fs_border", "_fs_rank"})


@dataclass(frozen=True)
class WindowColumn:
    """A column of a window macro: `function` over the events' column `value`, of the window `slug` (``7d``).

    `taken` is the column that says which events take part, where it stands apart from the value (first and last).
    """

    function: str
    value: str
    slug: str
    taken: str | None = None

    def __str__(self) -> str:
        return f"{self.function}({self.value}) over {self.slug}"


def is_events(select: Select) -> bool:
    """Whether a SELECT is the CTE of the events, as every shape reads them."""
    return select.part.rpartition(".")[2] in ("_fs_events", "_fs_source")


def is_window(relation: Relation) -> bool:
    """Whether a relation is one of the CTEs that hold a window for each moment."""
    return relation.part.rpartition(".")[2] in _PARTS


def chooses_events(node: exp.Expression) -> bool:
    """Whether a CASE is an aggregate's `where`: ``case when <where> then <expression> end as _fs_1``."""
    return (
        isinstance(node, exp.Case)
        and node.args.get("default") is None
        and len(node.args["ifs"]) == 1
        and isinstance(node.parent, exp.Alias)
        and _VALUE.fullmatch(node.parent.alias) is not None
    )


def window_column(select: Select, item: exp.Expression) -> WindowColumn | None:
    """What a window macro computes in an expression of a SELECT; None where it is no column of one."""
    if select.part.rpartition(".")[2] not in _WINDOWS or not isinstance(item, exp.Alias):
        return None
    name, _, slug = item.alias.rpartition("_")
    if not name or item.alias.startswith("_fs_"):
        return None
    made = _before_side_by_side(select, item.this)
    literals = [node.this for node in made.find_all(exp.Literal) if node.is_string and _VALUE.fullmatch(node.this)]
    if literals:
        # one of the rows of distinct values or strays, told apart by the value's name
        called = made.find(exp.Column).name
        return WindowColumn("count_distinct" if called == "_fs_change" else called, literals[0], slug)
    for column in made.find_all(exp.Column):
        place = _PLACE.match(column.name) or _PLACE.match(column.table)
        if place:
            return WindowColumn(place[2], place[1], slug, place[3])
    taken = None
    values = []
    for column in made.find_all(exp.Column):
        match = _VALUE.match(column.name)
        if match is None:
            continue
        value = f"_fs_{match[1]}"
        if isinstance(column.parent, exp.EQ) and column.name == value:
            taken = value
        else:
            values.append(value)
    function = _function(made)
    if function is None or len(set(values)) != 1:
        return None
    return WindowColumn(function, values[0], slug, taken)


def _before_side_by_side(select: Select, node: exp.Expression) -> exp.Expression:
    """What a column of windows beside each other holds: the expression that makes the aggregate, a row a window."""
    rows = select.scope.cte(select.part.rpartition(".")[2].replace("_fs_by_", "_fs_") + "_values")
    picked = node.find(exp.AnyValue)
    if rows is None or picked is None or not isinstance(picked.this, exp.Column):
        return node
    made = [one.this for one in rows.find(exp.Select).expressions if one.alias == picked.this.name]
    return made[0] if made else node


def window_step(select: Select, item: exp.Expression) -> Step | None:
    """The step from a column of a window to the events that it is made from."""
    window = window_column(select, item)
    if window is None:
        return None
    events = select.scope.table(("_fs_events",))
    inputs: list[tuple[Ref, Kind]] = []
    if counts_only(events, window.value):
        inputs += [(Ref(events, ROWS), "rows"), (Ref(events, window.value), "filter")]
    else:
        inputs += [(Ref(events, window.value), "value"), (Ref(events, ROWS), "filter")]
    if window.taken:
        inputs.append((Ref(events, window.taken), "filter"))
    for relation in (events, select.scope.table(("_fs_moments",))):
        names = [output.name for output in relation.outputs() or ()]
        inputs += [(Ref(relation, name), "filter") for name in names if not _VALUE.match(name) and name not in PLUMBING]
    return Step(str(window), tuple(inputs))


def counts_only(events: Relation, value: str) -> bool:
    """Whether a value of the events is made from no column: then the aggregate counts rows."""
    waiting = [Ref(events, value)]
    while waiting:
        ref = waiting.pop()
        for step in ref.relation.steps(ref.name):
            read = [one for one, kind in step.inputs if kind == "value"]
            if read and step.expression != "*":
                return False
            waiting += read
    return True


def _function(node: exp.Expression) -> str | None:
    names = [column.name for column in node.find_all(exp.Column)]
    divisions = len(list(node.find_all(exp.Div)))
    if any(name.endswith("_cuts") for name in names):
        return "stddev" if node.find(exp.Sqrt) else "variance"
    if any(name.endswith("_units") for name in names):
        return "avg" if divisions > 1 else "sum"
    if any(re.search(r"_fs_\d+_(sum|upper)$", name) for name in names):
        return "avg" if divisions else "sum"
    for name in names:
        extreme = re.fullmatch(r"_fs_\d+_(count|min|max)", name)
        if extreme:
            return extreme[1]
    listed = node.find(exp.ArrayAgg)
    if listed is not None:
        (first, *_) = listed.find(exp.Order).expressions
        return "last" if first.args.get("desc") else "first"
    kinds = {
        exp.Avg: "avg", exp.StddevSamp: "stddev", exp.Stddev: "stddev", exp.Variance: "variance", exp.Min: "min",
        exp.Max: "max",
    }  # fmt: skip
    for kind, called in kinds.items():
        if node.find(kind):
            return called
    if node.find(exp.Sum):
        return "avg" if divisions else "sum"
    count = node.find(exp.Count)
    if count is None:
        return None
    return "count_distinct" if isinstance(count.this, exp.Distinct) else "count"


def is_value(name: str) -> bool:
    """Whether a column of the events is a value that aggregates are over, or made from one."""
    return _VALUE.match(name) is not None


def is_key(select: Select, name: str) -> bool:
    """Whether a column of the CTEs between the events and the view is one of the events' keys, carried along."""
    if select.part.rpartition(".")[2] not in ("_fs_moments", "_fs_by_frames", "_fs_frames", "_fs_timeline"):
        return False
    return not name.startswith("_fs_") and select.scope.table(("_fs_events",)).find(name) is not None


@dataclass(frozen=True)
class Grain:
    """The moments of a windowed view: `name` is change, event or every (with its `step`); or those of a `spine`."""

    name: str
    step: exp.Expression | None = None
    spine: Relation | None = None


def grain(select: Select) -> Grain:
    """At which moments the view has rows whose last SELECT this is."""
    scope = select.scope
    if any(entry.alias == "_fs_spine" for entry in select.entries):
        return Grain("as of", spine=scope.table(("_fs_spine",)))
    steps = scope.cte("_fs_steps")
    if steps is not None:
        interval = steps.find(exp.Interval)
        return Grain("every", interval)
    made = scope.cte("_fs_moments") or scope.cte("_fs_timeline")
    leaves = made is not None and made.find(exp.Interval) is not None and made.find(exp.SetOperation) is not None
    return Grain("change" if leaves else "event")
