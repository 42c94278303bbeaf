"""Compares what models mean on two sides, and follows what changed above them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from materializer.diff.models import MODELS, Models, words
from materializer.diff.result import Cause, RowsChange
from materializer.sql.meaning import Column, Query


class Comparison:
    """Two sides' models. Every question is answered once.

    Args:
        old, new: the models of each side.
    """

    def __init__(self, old: Models, new: Models) -> None:
        self.old = old
        self.new = new
        self._notes: dict[str, list[str]] = {}
        self._known: dict[tuple[str, ...], tuple[Cause, ...]] = {}

    def queries(self, old: str, new: str) -> tuple[Query, Query] | None:
        """What two models (by key) mean; None where for one of them that cannot be told."""
        first, second = self.old.query(old), self.new.query(new)
        return (first, second) if first is not None and second is not None else None

    def alike(self, old: str, new: str) -> bool:
        """Whether two models and all that they are made from are the same word for word: none of it has to be read."""
        return self.old.fingerprint(old) == self.new.fingerprint(new) is not None

    def text_change(self, old: str, new: str) -> str | None:
        """Where two models could only be compared by their text, and it differs: why only by text."""
        why = self.old.why_not(old) or self.new.why_not(new) or "it cannot be followed"
        first, second = (models.get(key) or {} for models, key in ((self.old, old), (self.new, new)))
        # Jinja may write other SQL from the same text, so the SQL itself counts where both have it.
        kind = "compiled_code" if first.get("compiled_code") and second.get("compiled_code") else "raw_code"
        name = new if old == new else f"{old} and {new}"
        self.note(f"compared as text, since {why}", name)
        if words(first.get(kind) or "") == words(second.get(kind) or "") or self.same_source(old, new):
            return None
        return why

    def same_source(self, old: str, new: str) -> bool:
        """Whether two models say the same in text that is all their SQL depends on.

        Their compiled SQL may differ all the same: that of an incremental model by whether it was there before, that
        of a window macro by how many events there were.
        """
        first, second = self.old.get(old), self.new.get(new)
        if not first or not second or not (self.old.says_all(old) and self.new.says_all(new)):
            return False
        same = words(first.get("raw_code") or "") == words(second.get("raw_code") or "")
        return same and self.old.macro_texts(old) == self.new.macro_texts(new)

    def column(self, old: Column, new: Column, same_rows: bool) -> tuple[str, str] | None:
        """The SQL of two definitions of a column where they part ways; None where they are the same.

        With the same rows on both sides, the rows that a window or an aggregate looks at must be the same too.
        """
        if old.key == new.key and (not same_rows or old.exact == new.exact):
            return None
        first, second = where_they_differ(old, new)
        return str(first.text), str(second.text)

    def rows(self, old: Query, new: Query) -> RowsChange | None:
        """How what decides the rows of two queries differs, as far as their own SQL goes."""
        if old.rows == new.rows:
            return None
        before, after = ({part.key: part for part in query.parts} for query in (old, new))
        removed = [f"{part.kind} {part.sql}".strip() for key, part in before.items() if key not in after]
        added = [f"{part.kind} {part.sql}".strip() for key, part in after.items() if key not in before]
        shared = set(removed) & set(added)  # the same words, over columns that are made otherwise
        if shared != set(removed) or shared != set(added):
            removed, added = ([one for one in side if one not in shared] for side in (removed, added))
        return RowsChange(tuple(removed), tuple(added))

    def above(self, reads: Iterable[tuple[str, str]]) -> tuple[Cause, ...]:
        """What changed in the columns that something reads, through all models above."""
        return _once(cause for model, column in sorted(reads) for cause in self._causes("column", model, column))

    def rows_above(self, query: Query) -> tuple[Cause, ...]:
        """What changed in the rows that a query reads, through all models above."""
        own = [cause for relation in sorted(query.relations) for cause in self._causes("rows", relation)]
        return _once([*own, *self.above(query.row_reads)])

    def anything_above(self, key: str) -> tuple[Cause, ...]:
        """What changed in any model above one that cannot be followed by column."""
        return _once(cause for parent in self.new.parents(key) for cause in self._causes("whole", parent))

    def note(self, text: str, model: str) -> None:
        """Say something of a model, once."""
        self._notes.setdefault(text, [])
        if model not in self._notes[text]:
            self._notes[text].append(model)

    @property
    def notes(self) -> tuple[str, ...]:
        """How some models had to be compared."""
        return tuple(f"{', '.join(models)}: {text}." for text, models in self._notes.items())

    def _causes(self, of: str, *key: str) -> tuple[Cause, ...]:
        """Why a ``column``, the ``rows`` or the ``whole`` of a model above is not what it was."""
        if (of, *key) not in self._known:
            self._known[of, *key] = ()  # ends a circle in a broken manifest
            if self.alike(key[0], key[0]):
                return ()
            self._known[of, *key] = {"column": self._column, "rows": self._rows, "whole": self._whole}[of](*key)
        return self._known[of, *key]

    def _column(self, key: str, name: str) -> tuple[Cause, ...]:
        if not self._is_model(key):
            return ()
        pair = self.queries(key, key)
        if pair is None:
            return self._causes("whole", key)
        old, new = (query.column(name) for query in pair)
        if old is None:
            return ()  # whoever reads it now changed too
        if new is None:
            return (Cause(key, name, str(old.text), "(no such column)"),)
        if not self.same_source(key, key):
            differing = self.column(old, new, pair[0].rows == pair[1].rows)
            if differing:
                return (Cause(key, name, *differing),)
        return self.above(new.reads)

    def _rows(self, key: str) -> tuple[Cause, ...]:
        if not self._is_model(key):
            old, new = ((models.get(key) or {}).get("identifier") for models in (self.old, self.new))
            return (Cause(key, None, old, new),) if old and new and old != new else ()
        pair = self.queries(key, key)
        if pair is None:
            return self._causes("whole", key)
        if not self.same_source(key, key):
            change = self.rows(*pair)
            if change:
                return (Cause(key, None, "; ".join(change.removed), "; ".join(change.added)),)
        return self.rows_above(pair[1])

    def _whole(self, key: str) -> tuple[Cause, ...]:
        """What changed in a model or above it, where no column can be told from another."""
        if not self._is_model(key):
            return ()
        pair = self.queries(key, key)
        if pair is not None:
            return _once(
                [
                    *self._causes("rows", key),
                    *(c for name in pair[1].columns for c in self._causes("column", key, name)),
                ]
            )
        if self.text_change(key, key) is not None:
            return (Cause(key, None),)
        return self.anything_above(key)

    def _is_model(self, key: str) -> bool:
        """Whether both sides have the model; what only one has is seen where it is read."""
        nodes = (self.old.get(key), self.new.get(key))
        return all(node is not None and node["resource_type"] in MODELS for node in nodes)


def where_they_differ(old: Column, new: Column) -> tuple[Column, Column]:
    """The innermost definitions in which two columns part ways."""
    while len(old.children) == len(new.children) and _shape(old) == _shape(new):
        differing = [pair for pair in zip(old.children, new.children, strict=True) if pair[0].key != pair[1].key]
        if not differing:
            break
        old, new = differing[0]
    return old, new


def _shape(column: Column) -> str:
    """How a column is made, without the columns that it is made from."""
    if column.made is None:
        return "" if column.children else str(column.text)

    def without_column(node: exp.Expression) -> exp.Expression:
        apart = isinstance(node, (exp.Column, exp.Subquery, exp.Window)) and node.parent is not None
        return exp.Placeholder() if apart else node

    return column.made.transform(without_column).sql(comments=False)


def _once(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    return tuple(dict.fromkeys(causes))
