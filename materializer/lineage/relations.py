"""The parts of a query that have columns, and what a column of each is made from.

A relation answers two questions: which columns it has (`find`, `outputs`), and from what one of them is made (`steps`).
Nothing is worked out before it is asked for, so that one column of a long model costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlglot import exp

from materializer.lineage.values import Column, Kind

ROWS = "*"
# How many relations may ask each other in turn before the deepest of them is asked by itself first.
_DEEPEST = 40


@dataclass(frozen=True)
class Ref:
    """A column of a relation (its rows, where the name is ``*``), or the field `path` of a struct in it."""

    relation: Relation
    name: str
    path: tuple[str, ...] = ()

    @property
    def column(self) -> Column:
        return Column(self.relation.node, self.name, self.relation.part, ".".join(self.path))


@dataclass(frozen=True)
class Step:
    """One expression that makes a column, what it reads, and what could not be found out about it."""

    expression: exp.Expression | str
    inputs: tuple[tuple[Ref, Kind], ...] = ()
    problems: tuple[str, ...] = ()


# How far it is known that a relation has a column: nothing is known of its columns (`maybe`), others are declared, but
# not this one (`unlikely`), or it would be a field of a struct that the relation unpacks (`field`).
Certainty = Literal["sure", "maybe", "unlikely", "field"]


@dataclass(frozen=True)
class Output:
    """A column of a relation. `steps` takes the path of a field.

    Of a SELECT, `made` is the expression that makes the column, or `taken` what a star takes for it as it is.
    """

    name: str
    steps: Callable[[tuple[str, ...]], list[Step]] = field(repr=False)
    certainty: Certainty = "sure"
    made: exp.Expression | None = None
    taken: tuple[Ref, ...] = ()

    @property
    def sure(self) -> bool:
        return self.certainty == "sure"


class TooDeep(Exception):
    """Raised by a relation at the end of too long a chain of questions; never leaves this module."""


class Asking:
    """The questions that relations ask each other: answered once, and however long their chain is."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, Any] = {}
        self._busy: list[Hashable] = []

    def ask(self, key: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer, found once. A question that waits for itself (a recursive CTE, models in a circle) gets None."""
        if key in self._answers:
            return self._answers[key]
        if key in self._busy:
            return None
        if len(self._busy) >= _DEEPEST:
            raise TooDeep(key, answer)
        if self._busy:
            return self._answer(key, answer)
        waiting = [(key, answer)]
        while waiting:
            try:
                found = self._answer(*waiting[-1])
                waiting.pop()
            except TooDeep as deep:
                if deep.args[0] in {key for key, _ in waiting}:
                    self._answers[deep.args[0]] = None
                else:
                    waiting.append(deep.args)
        return found

    def _answer(self, key: Hashable, answer: Callable[[], Any]) -> Any:
        self._busy.append(key)
        try:
            self._answers[key] = answer()
        finally:
            self._busy.pop()
        return self._answers[key]


class Relation:
    """See the module. `node` is the unique id of the node in whose SQL it stands, `part` its name in there."""

    def __init__(self, asking: Asking, node: str, part: str = "") -> None:
        self.asking, self.node, self.part = asking, node, part

    def find(self, name: str) -> Output | None:
        """The column of that name; None where there is surely none."""
        return self.asking.ask((id(self), name), lambda: self._find(name))

    def outputs(self) -> list[Output] | None:
        """All columns in order; None where they are not known."""
        return self.asking.ask(id(self), self._outputs)

    def steps(self, name: str, path: tuple[str, ...] = ()) -> list[Step]:
        """What the column (``*``: which rows there are) is made from; several where a set operation has branches."""
        if name == ROWS:
            return self.rows()
        output = self.find(name)
        return [Step(name, problems=(self.lacks(name),))] if output is None else output.steps(path)

    def rows(self) -> list[Step]:
        """What decides which rows there are."""
        return []

    @property
    def title(self) -> str:
        """How a sentence names it."""
        return f"'{self.part}'" if self.part else "its outermost SELECT"

    def lacks(self, name: str) -> str:
        """The sentence that there is no such column."""
        names = ", ".join(output.name for output in self.outputs() or ())
        return f"{self.title} has no column '{name}'" + (f"; it has: {names}." if names else ".")

    def _find(self, name: str) -> Output | None:
        return pick(name, self.outputs() or [])

    def _outputs(self) -> list[Output] | None:
        raise NotImplementedError


def pick(name: str, outputs: list[Output]) -> Output | None:
    """The output of that name: spelled exactly so, else the first that differs in case only."""
    folded = name.casefold()
    near = [output for output in outputs if output.name.casefold() == folded]
    return next((output for output in near if output.name == name), near[0] if near else None)


class Outside(Relation):
    """A table that is no node of the graph, or a function that reads a file."""

    def _find(self, name: str) -> Output | None:
        problem = f"{self.node} is neither a model nor a source, seed or snapshot of the project."
        return Output(name, lambda path: [Step("", problems=(problem,))], "maybe")

    def _outputs(self) -> None:
        return None

    @property
    def title(self) -> str:
        return self.node
