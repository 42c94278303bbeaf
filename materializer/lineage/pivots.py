"""PIVOT and UNPIVOT: columns that become rows, and rows that become columns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlglot import exp

from materializer.lineage.relations import ROWS, Output, Ref, Relation, Step

if TYPE_CHECKING:
    from materializer.lineage.query import Scope


class Pivoted(Relation):
    """A relation turned by PIVOT or UNPIVOT. What a PIVOT calls its columns is known only where it lists them."""

    def __init__(self, inner: Relation, pivot: exp.Pivot, scope: Scope, part: str) -> None:
        super().__init__(inner.asking, inner.node, part)
        self.inner, self.pivot, self.scope = inner, pivot, scope

    def _find(self, name: str) -> Output | None:
        folded = name.casefold()
        values, keys = self._columns()
        if self.pivot.args.get("unpivot"):
            made = [one.name.casefold() for one in self.pivot.expressions if one.name]
            if folded in made:
                return Output(name, partial(self._steps, keys, [], "unpivot"))
            if folded in [field.this.name.casefold() for field in self.pivot.args.get("fields") or ()]:
                return Output(name, lambda path: [Step("the name of an unpivoted column")])
            return None if folded in [key.casefold() for key in keys] else self._passed(name)
        listed = [one.name.casefold() for one in self.pivot.args.get("columns") or ()]
        group = self.pivot.args.get("group")
        grouped = [one.name.casefold() for one in group.expressions] if group is not None else []
        if folded in listed or (folded not in grouped and (grouped or self._passed(name) is None)):
            return Output(name, partial(self._steps, values, keys, "pivot"), "sure" if folded in listed else "maybe")
        return self._passed(name)

    def _outputs(self) -> None:
        return None

    def rows(self) -> list[Step]:
        return [Step("from", ((Ref(self.inner, ROWS), "rows"),))]

    def _columns(self) -> tuple[list[str], list[str]]:
        """The columns whose values are turned, and those that say where they go."""
        args = self.pivot.args
        values = [
            column.name for one in (args.get("using") or self.pivot.expressions) for column in one.find_all(exp.Column)
        ]
        fields = args.get("fields") or ()
        if args.get("unpivot"):
            return values, [one.name for field in fields for one in field.expressions]
        keys = [column.name for field in fields for column in [field.this] if isinstance(column, exp.Column)]
        if args.get("using"):
            keys += [one.this.name if isinstance(one, exp.In) else one.name for one in self.pivot.expressions]
        return values, keys

    def _passed(self, name: str) -> Output | None:
        found = self.inner.find(name)
        if found is None:
            return None
        step = Step("*", ((Ref(self.inner, found.name), "value"), (Ref(self, ROWS), "filter")))
        return Output(found.name, lambda path: [step], found.certainty)

    def _steps(self, values: list[str], keys: list[str], shown: str, path: tuple[str, ...]) -> list[Step]:
        inputs, problems = [(Ref(self, ROWS), "filter")], []
        for names, kind in ((values, "value"), (keys, "filter")):
            for name in names:
                found = self.inner.find(name.lower())
                if found is None:
                    problems.append(self.inner.lacks(name))
                else:
                    inputs.append((Ref(self.inner, found.name), kind))
        return [Step(self.pivot.sql(dialect=self.scope.dialect).strip() or shown, tuple(inputs), tuple(problems))]
