"""SELECTs: their FROM, their names and stars, and what each of their columns is made from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from sqlglot import exp

from materializer.lineage import package
from materializer.lineage.expressions import Reading, identifier_name
from materializer.lineage.relations import ROWS, Output, Ref, Relation, Step, pick
from materializer.lineage.sources import Entry, compared_by_name, entries_of, joined_by_name
from materializer.lineage.stars import each_name_once, is_bare, is_star, spreads, star_options
from materializer.lineage.values import Kind

if TYPE_CHECKING:
    from materializer.lineage.query import Scope


class Found(NamedTuple):
    """What a name means: columns, and what is doubtful about that, or why there are none."""

    refs: tuple[Ref, ...]
    problem: str | None = None
    # Whether it surely means these; or is `unlikely` to, because the relation declares others.
    sure: bool = False
    unlikely: bool = False


class Select(Relation):
    """One SELECT. `outer` is the SELECT around it, whose columns a correlated or lateral subquery may read.

    `beside`: it stands in the FROM of `outer`, and so reads that only where it has no such column itself.
    """

    def __init__(self, select: exp.Select, scope: Scope, part: str, outer: Select | None, beside: bool = False) -> None:
        super().__init__(scope.asking, scope.node, part)
        self.select, self.scope, self.outer, self.beside = select, scope, outer, beside
        self._subqueries: dict[int, Relation] = {}

    @cached_property
    def entries(self) -> list[Entry]:
        """What stands in FROM, in order."""
        return entries_of(self)

    def read_relations(self) -> list[Relation]:
        """The relations whose rows it reads, each once."""
        return list(dict.fromkeys(entry.relation for entry in self.entries))

    def subquery(self, query: exp.Expression) -> Relation:
        """The relation of a query that stands inside of an expression."""
        if id(query) not in self._subqueries:
            self._subqueries[id(query)] = self.scope.build(query, self.part, "subquery", self)
        return self._subqueries[id(query)]

    def window(self, name: str) -> exp.Window | None:
        """The named window."""
        for window in self.select.args.get("windows") or ():
            if window.name.lower() == name.lower():
                return window
        return None

    def condition_kind(self, node: exp.Expression, kind: Kind) -> Kind:
        """What the condition of a CASE is: a value, but in the package's own SQL it says which events count."""
        return "filter" if package.is_events(self) and package.chooses_events(node) else kind

    # Names.

    def resolve(self, names: tuple[str, ...]) -> Found:
        """The columns that a name, with whatever stands in front of it, means."""
        first = best = self._resolve(names)
        outer = self.outer
        # An alias of the SELECT itself comes before the columns of the SELECT around it.
        while not best.sure and outer is not None and self.alias(names[0]) is None:
            if self.beside and best.refs:
                break  # only LATERAL, said or not, looks beside itself
            found = outer._resolve(names)
            outer = outer.outer
            if found.sure and first.refs and not first.unlikely:
                return Found(first.refs + found.refs, f"'{names[0]}' in {self.title} may be a column of the subquery "
                             "or of the query around it: not all columns are known.")  # fmt: skip
            best = found if found.sure or (found.refs and not best.refs) else best
        return best

    def alias(self, name: str) -> exp.Expression | None:
        """The expression that the SELECT itself calls `name`."""
        for item in self.select.expressions:
            if isinstance(item, exp.Alias) and item.alias.lower() == name.lower():
                return item.this
        return None

    def all_columns(self, qualifier: tuple[str, ...]) -> Found:
        """Every column of the FROM item of that name."""
        for entry in self.entries:
            if entry.rest((*qualifier, ROWS)) == (ROWS,):
                outputs = entry.relation.outputs()
                if outputs is None:
                    return Found((), f"The columns of {entry.relation.title} are not known.")
                return Found(tuple(Ref(entry.relation, output.name) for output in outputs), sure=True)
        return Found((), f"There is no '{'.'.join(qualifier)}' in the FROM of {self.title}.")

    def _resolve(self, names: tuple[str, ...]) -> Found:
        for entry in self.entries:
            rest = entry.rest(names)
            if rest:
                output = entry.relation.find(rest[0])
                if output is None:
                    return Found((), entry.relation.lacks(rest[0]), sure=True)
                return Found((Ref(entry.relation, output.name, rest[1:]),), sure=True)
        found = self._unqualified(names[0])
        is_alias = len(names) == 1 and any(entry.alias.lower() == names[0].lower() for entry in self.entries)
        if is_alias and not found.sure and (not found.refs or found.unlikely):
            return self.all_columns(names)  # the alias of a table by itself is its whole row
        refs = tuple(Ref(ref.relation, ref.name, names[1:]) for ref in found.refs)
        return found._replace(refs=refs)

    def _unqualified(self, name: str) -> Found:
        joined = joined_by_name(self.entries, name)
        if joined:
            return Found(tuple(joined), sure=True)
        by: dict[str, list[Ref]] = {"sure": [], "maybe": [], "unlikely": []}
        for entry in self.entries:
            output = None if entry.hidden else entry.relation.find(name)
            if output is not None and output.certainty in by:
                by[output.certainty].append(Ref(entry.relation, output.name))
        sure, maybe, unlikely = by.values()
        if sure:
            problem = f"'{name}' in {self.title} is ambiguous: {_titles(sure)} have it." if len(sure) > 1 else None
            return Found(tuple(sure), problem, sure=True)
        if self._is_alias_only(name) and (maybe or unlikely):
            problem = (
                f"'{name}' in {self.title} is taken for its alias, but may be a column of {_titles(maybe)}, whose "
            )
            return Found((), f"{problem}columns are not known." if maybe else None)
        if len(maybe or unlikely) > 1:
            return Found((), f"'{name}' in {self.title} is ambiguous: {_titles(maybe or unlikely)} may have it, and "
                         "not all of their columns are known.")  # fmt: skip
        if maybe and unlikely:
            return Found(tuple(maybe), f"'{name}' in {self.title} is taken for a column of {_titles(maybe)}, since "
                         f"{_titles(unlikely)} declare columns, but not this one.")  # fmt: skip
        if maybe or unlikely:
            return Found(tuple(maybe or unlikely), unlikely=bool(unlikely))
        places = " or ".join(entry.relation.title for entry in self.entries) or "nothing: it has no FROM"
        return Found((), f"There is no column '{name}' in what {self.title} reads ({places}).")

    def _is_alias_only(self, name: str) -> bool:
        """Whether the SELECT calls something `name` that is not made from a column of that name."""
        made = self.alias(name)
        return made is not None and all(column.name.lower() != name for column in made.find_all(exp.Column))

    # Columns.

    def _outputs(self) -> list[Output] | None:
        outputs: list[Output] = []
        for item in self.select.expressions:
            if not is_star(item):
                if spreads(item):
                    return None
                outputs.append(self._output(item))
                continue
            given = self._star(item)
            if given is None:
                return None
            outputs += given
        return each_name_once(outputs)

    def _find(self, name: str) -> Output | None:
        folded = name.casefold()
        near: list[Output] = []
        maybe: list[Output] = []
        for item in self.select.expressions:
            if is_star(item):
                found = self._in_star(item, name)
                (near if found and found.sure else maybe).extend([found] if found else [])
            elif spreads(item):
                maybe.append(Output(name, partial(self._made_by, item), "maybe"))
            elif folded in (item.alias_or_name.casefold(), self._text(item).casefold()):
                near.append(self._output(item))
        if near:
            return pick(name, near)
        if re.search(r"_\d+$", name):  # `id_1` may be the second `id` of a join
            numbered = pick(name, self.outputs() or [])
            if numbered is not None:
                return numbered
        if not maybe:
            return None
        if len(maybe) == 1:
            return maybe[0]
        problem = f"'{name}' may come from each of several stars over unknown columns in {self.title}."
        return Output(name, lambda path: [Step(name, problems=(problem,))], "maybe")

    def _text(self, item: exp.Expression) -> str:
        """The name of what has none: most warehouses call it as it is written."""
        if isinstance(item, (exp.Alias, exp.Column)):
            return item.alias_or_name
        return item.sql(dialect=self.scope.dialect, normalize_functions=False)

    def _output(self, item: exp.Expression) -> Output:
        return Output(item.alias_or_name or self._text(item), partial(self._made_by, item), made=item)

    def _made_by(self, item: exp.Expression, path: tuple[str, ...]) -> list[Step]:
        """The step of one expression. Its rows decide over it too."""
        window = package.window_step(self, item)
        if window is not None:
            return [window]
        expression = item.unalias()
        try:
            reading = Reading(self).read(expression, path=path)
        except RecursionError:
            return [Step("...", problems=(f"An expression in {self.title} is nested too deeply to be read.",))]
        return [Step(expression, (*reading.inputs, (Ref(self, ROWS), "filter")), tuple(reading.problems))]

    def _taken(self, ref: Ref, path: tuple[str, ...]) -> list[Step]:
        """The step of a star: the column as it is."""
        return [Step("*", ((Ref(ref.relation, ref.name, ref.path + path), "value"), (Ref(self, ROWS), "filter")))]

    # Stars.

    def _star(self, item: exp.Expression) -> list[Output] | None:
        """The columns that a star stands for."""
        outputs = []
        left_out, replaced, renamed = star_options(item)
        done: set[str] = set()
        for entry in self._starred(item):
            given = entry.relation.outputs()
            if given is None:
                return None
            for name in (output.name for output in given):
                folded = name.casefold()
                joined = joined_by_name(self.entries, name) if is_bare(item) else []
                if folded in left_out or (joined and folded in done):
                    continue
                done.add(folded)
                refs = joined or [Ref(entry.relation, name)]
                outputs.append(self._star_output(renamed.get(folded, name), replaced.get(folded), refs))
        return outputs

    def _in_star(self, item: exp.Expression, name: str) -> Output | None:
        """The column of that name among those that a star stands for, where they need not all be known."""
        left_out, replaced, renamed = star_options(item)
        folded = name.casefold()
        was = next((old for old, new in renamed.items() if new.casefold() == folded), None)
        if folded in left_out or (folded in renamed and was is None):
            return None
        inside = was or name
        joined = joined_by_name(self.entries, inside) if is_bare(item) else []
        by: dict[str, list[Ref]] = {"sure": [], "maybe": [], "unlikely": []}
        for entry in self._starred(item):
            output = entry.relation.find(inside)
            if output is not None and output.certainty in by:
                by[output.certainty].append(Ref(entry.relation, output.name))
        certainty = next((one for one, refs in by.items() if refs), "unlikely")
        refs = joined or (by["sure"][:1] or by["maybe"] or by["unlikely"])
        if not refs:
            return None
        if len(refs) > 1 and not joined:
            problem = (
                f"'{name}' in {self.title} is ambiguous: {_titles(refs)} may have it, and not all of their columns "
                "are known."
            )
            return Output(name, lambda path: [Step("*", problems=(problem,))], "maybe")
        output = self._star_output(name if was else refs[0].name, replaced.get(folded), refs)
        return replace(output, certainty=certainty)

    def _star_output(self, name: str, replaced: exp.Expression | None, refs: list[Ref]) -> Output:
        if replaced is not None:
            return Output(name, partial(self._made_by, replaced), made=replaced)
        return Output(name, lambda path: [step for ref in refs for step in self._taken(ref, path)], taken=tuple(refs))

    def _starred(self, item: exp.Expression) -> Iterator[Entry]:
        qualifier = tuple(identifier_name(part) for part in item.parts[:-1]) if isinstance(item, exp.Column) else ()
        for entry in self.entries:
            if (entry.rest((*qualifier, ROWS)) == (ROWS,)) if qualifier else not entry.hidden:
                yield entry

    # Rows.

    def rows(self) -> list[Step]:
        relations = self.read_relations()
        if len(relations) > 1:  # a window has one row for each moment that it is joined to
            relations = relations[:1] + [relation for relation in relations[1:] if not package.is_window(relation)]
        steps = [Step("from", ((Ref(relation, ROWS), "rows"),)) for relation in relations]
        args = self.select.args
        for entry in self.entries:
            if entry.join is None or package.is_window(entry.relation):
                continue
            if entry.join.args.get("on") is not None:
                steps.append(self._row_step(entry.join.args["on"]))
            for name, refs in compared_by_name(self.entries, entry):
                steps.append(Step(f"using ({name})", tuple((ref, "filter") for ref in refs)))
        for clause in ("where", "having", "qualify"):
            if args.get(clause) is not None:
                steps.append(self._row_step(args[clause].this))
        steps += [self._row_step(node) for node in self.grouped()]
        distinct = args.get("distinct")
        if distinct is not None:
            on = distinct.args.get("on")
            chosen = on.expressions or [on.this] if on is not None else self.select.expressions
            steps += [self._row_step(node) for node in chosen if not is_star(node)]
            if on is None:
                stars = [output for item in chosen if is_star(item) for output in self._star(item) or ()]
                steps += [
                    Step("distinct", tuple((ref, "filter") for ref, kind in step.inputs if kind == "value"))
                    for output in stars
                    for step in output.steps(())
                ]
        if args.get("order") is not None and any(args.get(limit) for limit in ("limit", "fetch", "offset")):
            steps += [self._row_step(self._ordered(node.this)) for node in args["order"].expressions]
        return steps

    def _row_step(self, node: exp.Expression) -> Step:
        try:
            reading = Reading(self).read(node.unalias(), "filter")
        except RecursionError:
            return Step("...", problems=(f"A condition in {self.title} is nested too deeply to be read.",))
        return Step(node, tuple(reading.inputs), tuple(reading.problems))

    def grouped(self) -> list[exp.Expression]:
        """The expressions of GROUP BY, numbers replaced by what they stand for."""
        group = self.select.args.get("group")
        if group is None:
            return []
        if group.args.get("all"):
            return [item for item in self.select.expressions if not is_star(item) and not item.find(exp.AggFunc)]
        return [self._numbered(node) for node in group.iter_expressions()]

    def _ordered(self, node: exp.Expression) -> exp.Expression:
        """In ORDER BY a bare name is one of the SELECT's own, if it has it."""
        if isinstance(node, exp.Column) and not node.table:
            own = [item for item in self.select.expressions if item.alias_or_name.lower() == node.name.lower()]
            return own[0].unalias() if own and not is_star(own[0]) else node
        return self._numbered(node)

    def _numbered(self, node: exp.Expression) -> exp.Expression:
        """``group by 1`` means the first expression of the SELECT."""
        items = self.select.expressions
        if isinstance(node, exp.Literal) and node.is_int and 0 < int(node.name) <= len(items):
            return items[int(node.name) - 1].unalias()
        return node


def _titles(refs: Iterable[Ref]) -> str:
    return " and ".join(ref.relation.title for ref in refs)
