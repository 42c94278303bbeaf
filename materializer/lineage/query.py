"""Queries: CTEs and what they are called, set operations, VALUES; the way from parsed SQL to relations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.lineage.pivots import Pivoted
from materializer.lineage.relations import ROWS, Asking, Output, Outside, Ref, Relation, Step, pick
from materializer.lineage.select import Select
from materializer.lineage.sources import Renamed

if TYPE_CHECKING:
    from materializer.lineage.nodes import Nodes


class Scope:
    """The CTEs that a query sees, each found under its name, the nearest first; below them the nodes of the graph."""

    def __init__(self, nodes: Nodes, node: str, dialect: str) -> None:
        self.nodes, self.node, self.dialect = nodes, node, dialect
        self.asking: Asking = nodes.asking
        self._taken: set[str] = set()
        self._outer: Scope | None = None
        self._cte: exp.CTE | None = None
        self._recursive = False
        self._part = ""
        self._select: Select | None = None
        self._built: Relation | None = None

    def table(self, parts: tuple[str, ...]) -> Relation:
        """The relation that a table's name means here."""
        scope: Scope | None = self if len(parts) == 1 else None
        while scope is not None:
            if scope._cte is not None and scope._cte.alias.casefold() == parts[0].casefold():
                return self.nodes.ephemeral(parts[0], self.node) or scope._relation()
            scope = scope._outer
        return self.nodes.at(parts, self.node) or Outside(self.asking, ".".join(parts))

    def cte(self, name: str) -> exp.Expression | None:
        """The query of the CTE of that name."""
        scope: Scope | None = self
        while scope is not None:
            if scope._cte is not None and scope._cte.alias == name:
                return scope._cte.this
            scope = scope._outer
        return None

    def build(
        self, query: exp.Expression, prefix: str, name: str, outer: Select | None, beside: bool = False
    ) -> Relation:
        """The relation of a query called `name` inside of the part `prefix`; `outer` and `beside` as in `Select`."""
        part = f"{prefix}.{name}" if prefix else name
        number = 1
        while part and part in self._taken:
            number += 1
            part = f"{prefix}.{name} {number}" if prefix else f"{name} {number}"
        self._taken.add(part)
        return self._build(query, part, outer, beside)

    def _build(self, query: exp.Expression, part: str, outer: Select | None, beside: bool = False) -> Relation:
        scope = self._with(query, part, outer)
        while isinstance(query, (exp.Subquery, exp.Paren)) and isinstance(query.this, (exp.Query, exp.Values)):
            query = query.this
            scope = scope._with(query, part, outer)
        if isinstance(query, exp.Select):
            return Select(query, scope, part, outer, beside)
        if isinstance(query, exp.SetOperation):
            branches = [(scope._build(branch, part, outer, beside), left) for branch, left in _branches(query)]
            return SetOperation(query, scope, part, branches)
        if isinstance(query, exp.Values):
            inside = Select(exp.select(), scope, part, outer)
            return Values(query, inside, part)
        if isinstance(query, exp.Pivot):
            inside = Select(exp.select("*").from_(query.this.copy()), scope, part, outer)
            return Pivoted(inside, query, scope, part)
        if isinstance(query, (exp.Table, exp.Subquery)):
            return Select(exp.select("*").from_(query.copy()), scope, part, outer)
        return Outside(self.asking, query.sql(dialect=self.dialect)[:60])

    def _with(self, query: exp.Expression, part: str, outer: Select | None) -> Scope:
        """The scope inside of a query that may have CTEs of its own."""
        scope = self
        clause = query.args.get("with_") or query.args.get("with")
        for cte in clause.expressions if clause is not None else ():
            inner = Scope(self.nodes, self.node, self.dialect)
            inner._taken = self._taken
            inner._outer, inner._cte, inner._recursive = scope, cte, bool(clause.args.get("recursive"))
            inner._part, inner._select = part, outer
            scope = inner
        return scope

    def _relation(self) -> Relation:
        """The CTE, built when it is first read. It sees itself only where it is recursive."""
        if self._built is None and self._cte is not None:
            scope = self if self._recursive else self._outer
            names = self._cte.args["alias"].columns if self._cte.args.get("alias") else []
            if self._recursive:
                self._built = Later(self.asking, self.node)
            built = scope.build(self._cte.this, self._part, self._cte.alias, self._select)
            if names:
                built = Renamed(built, [name.name for name in names], built.node, built.part)
            if isinstance(self._built, Later):
                self._built.become(built)
            self._built = built
        return self._built


class Later(Relation):
    """Stands for a recursive CTE while it is being built."""

    def become(self, relation: Relation) -> None:
        self.inner, self.part = relation, relation.part

    def _find(self, name: str) -> Output | None:
        found = self.inner.find(name)
        return found and Output(found.name, lambda path: self.inner.steps(found.name, path), found.certainty)

    def _outputs(self) -> list[Output] | None:
        return self.inner.outputs()

    def rows(self) -> list[Step]:
        return self.inner.rows()


class SetOperation(Relation):
    """UNION, INTERSECT, EXCEPT: columns go by position, or by name where it says so.

    `branches` are the queries, and whether their values get into the result (those right of EXCEPT do not).
    """

    def __init__(self, query: exp.SetOperation, scope: Scope, part: str, branches: list[tuple[Relation, bool]]) -> None:
        super().__init__(scope.asking, scope.node, part)
        self.query, self.branches = query, branches
        self.by_name = bool(query.args.get("by_name"))

    def _outputs(self) -> list[Output] | None:
        given = [(branch.outputs(), shown) for branch, shown in self.branches]
        unknown = [place for place, (outputs, _) in enumerate(given) if outputs is None]
        # The other branch of a recursive CTE is still being asked: the first one names its columns.
        if unknown and (0 in unknown or not isinstance(self.query.parent, exp.CTE)):
            return None
        if self.by_name:
            names = {output.name.casefold(): output.name for outputs, _ in given for output in outputs or ()}
            return [
                Output(name, lambda path, name=name: self._steps(self._named(name), path)) for name in names.values()
            ]
        first = given[0][0] or []
        return [
            Output(output.name, lambda path, place=place: self._steps(self._at(place), path))
            for place, output in enumerate(first)
        ]

    def _find(self, name: str) -> Output | None:
        if self.outputs() is not None:
            return super()._find(name)
        found = self.branches[0][0].find(name)
        if found is None:
            return None
        problem = "" if self.by_name else (
            f"'{name}' is followed by its name through the branches of {self.title}, which go by position: the columns "
            "of a star in there are not known."
        )  # fmt: skip

        def steps(path: tuple[str, ...]) -> list[Step]:
            made = self._steps(self._named(found.name), path)
            return [*made, Step(name, problems=(problem,))] if problem else made

        return Output(found.name, steps, found.certainty if found.certainty != "sure" else "maybe")

    def _at(self, place: int) -> Iterator[tuple[Output | str, bool]]:
        for branch, shown in self.branches:
            outputs = branch.outputs() or []
            first = len(self.branches[0][0].outputs() or ())
            if len(outputs) != first:
                yield (
                    f"The branches of the {self.query.key} in {self.title} have {first} and {len(outputs)} columns.",
                    shown,
                )
            if place < len(outputs):
                yield outputs[place], shown

    def _named(self, name: str) -> Iterator[tuple[Output | str, bool]]:
        for branch, shown in self.branches:
            outputs = branch.outputs()
            found = branch.find(name) if outputs is None else pick(name, outputs)
            if found is not None:
                yield found, shown

    def _steps(self, outputs: Iterator[tuple[Output | str, bool]], path: tuple[str, ...]) -> list[Step]:
        steps = []
        for output, shown in outputs:
            if isinstance(output, str):
                steps.append(Step("", problems=(output,)))
                continue
            for step in output.steps(path):
                inputs = step.inputs if shown else tuple((ref, "filter") for ref, _ in step.inputs)
                steps.append(Step(step.expression, inputs, step.problems))
        return steps

    def rows(self) -> list[Step]:
        steps = [Step("from", ((Ref(branch, ROWS), "rows" if shown else "filter"),)) for branch, shown in self.branches]
        compared = self.query.args.get("distinct") or not isinstance(self.query, exp.Union)
        names = [output.name for output in self.outputs() or ()]
        order = self.query.args.get("order")
        if not compared:
            asked = [node.this.name for node in order.expressions] if order and self.query.args.get("limit") else []
            names = [output.name for name in asked if (output := pick(name, self.outputs() or []))]
        return [*steps, Step(self.query.key, tuple((Ref(self, name), "filter") for name in names))]


class Values(Relation):
    """``values (1, 'a'), (2, 'b')``."""

    def __init__(self, query: exp.Values, inside: Select, part: str) -> None:
        super().__init__(inside.asking, inside.node, part)
        self.query, self.inside = query, inside

    def _outputs(self) -> list[Output]:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in self.query.expressions]
        return [
            Output(
                f"col{place}", lambda path, place=place: [self._step([row[place] for row in rows if place < len(row)])]
            )
            for place in range(len(rows[0]) if rows else 0)
        ]

    def _find(self, name: str) -> Output | None:
        # Others than DuckDB count from one: `column1`.
        number = name[6:] if name.lower().startswith("column") else ""
        return super()._find(f"col{int(number) - 1}" if number.isdigit() else name)

    def _step(self, values: list[exp.Expression]) -> Step:
        from materializer.lineage.expressions import Reading

        reading = Reading(self.inside)
        for value in values:
            reading.read(value)
        shown = values[0] if len(values) == 1 else f"one of {len(values)} values"
        return Step(shown, tuple(reading.inputs), tuple(reading.problems))


def _branches(query: exp.SetOperation) -> list[tuple[exp.Expression, bool]]:
    """The queries that a set operation joins, a chain of UNIONs as one list; and whether their values are kept."""
    kept = not isinstance(query, exp.Except)
    right = [(query.expression, kept)]
    left = query.this
    while (
        isinstance(query, exp.Union)
        and isinstance(left, exp.Union)
        and not (left.args.get("with_") or left.args.get("limit"))
        and left.args.get("by_name") == query.args.get("by_name")
        and left.args.get("distinct") == query.args.get("distinct")
    ):
        right.insert(0, (left.expression, True))
        left = left.this
    return [(left, True), *right]
