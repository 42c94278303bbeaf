"""What a diff says, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Dependents:
    """What is made from something: feature services, and models (a version as ``name.v2``), by name."""

    services: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Where above a view something changed. `column` None stands for the model's rows; `old` and `new` are SQL, None
    where only the text of the whole model could be compared."""

    model: str
    column: str | None
    old: str | None = None
    new: str | None = None


@dataclass(frozen=True)
class FeatureChange:
    """One change of one feature: ``added``, ``removed``, ``retyped`` (`old` and `new` are types, None where unknown)
    or ``redefined`` (they are SQL; where `causes` are given, it is a model above the view that changed)."""

    feature: str
    change: Literal["added", "removed", "retyped", "redefined"]
    old: str | None = None
    new: str | None = None
    causes: tuple[Cause, ...] = ()
    dependents: Dependents = Dependents()


@dataclass(frozen=True)
class PropertyChange:
    """A changed meaning of a view: ``entities``, ``timestamp``, ``ttl`` ..., or the type of a join key."""

    property: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class RowsChange:
    """What decides a view's rows changed: parts of its own SQL (``where x > 1``), or the rows of models above it."""

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True)
class FeatureValues:
    """How the values of a feature differ between two relations, over the entities that both have."""

    feature: str
    entities: int
    equal: int
    differing: int
    null_before: int
    null_after: int
    # Of numbers, where both are finite; relative to the old value, where that is not 0.
    max_absolute: float | None
    max_relative: float | None
    examples: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Values:
    """The values of a sample of entities compared: how many there are, and in one only."""

    entities: int
    only_old: int
    only_new: int
    features: tuple[FeatureValues, ...] = ()

    @property
    def differ(self) -> bool:
        """Whether any value or entity does."""
        return bool(self.only_old or self.only_new or any(feature.differing for feature in self.features))


@dataclass(frozen=True)
class ViewChange:
    """What changed in one view. `old` and `new` are its references on both sides; None: it is not there.

    `text` says why only the text of its SQL was compared, where that changed.
    """

    view: str
    old: str | None
    new: str | None
    properties: tuple[PropertyChange, ...] = ()
    features: tuple[FeatureChange, ...] = ()
    rows: RowsChange | None = None
    text: str | None = None
    dependents: Dependents = Dependents()
    values: Values | None = None

    @property
    def change(self) -> Literal["added", "removed", "changed", "same"]:
        """What happened to it as a whole."""
        if self.old is None or self.new is None:
            return "added" if self.old is None else "removed"
        return "changed" if self.properties or self.features or self.rows or self.text else "same"


@dataclass(frozen=True)
class ServiceChange:
    """A service that came, went, or lists other features."""

    service: str
    change: Literal["added", "removed", "changed"]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Break:
    """A feature reference of a service that the change breaks, and why, in half a sentence."""

    service: str
    reference: str
    reason: str


@dataclass(frozen=True)
class Move:
    """A bare name that means another version than before."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Diff:
    """What changed between two versions of a view, two manifests or two git revisions."""

    old: str
    new: str
    views: tuple[ViewChange, ...] = ()
    services: tuple[ServiceChange, ...] = ()
    moves: tuple[Move, ...] = ()
    breaks: tuple[Break, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether a service breaks."""
        return bool(self.breaks)

    @property
    def redefined(self) -> bool:
        """Whether features or rows are made otherwise than before."""
        return any(
            view.rows or view.text or any(feature.change == "redefined" for feature in view.features)
            for view in self.views
        )

    @property
    def empty(self) -> bool:
        """Whether nothing changed that this diff looks at."""
        return not self.services and not self.moves and all(view.change == "same" for view in self.views)
