"""Every error a user can meet. A message is one sentence (or two): what was wrong, what exists, what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar


class FeatureStoreError(Exception):
    """The base of all of them; the command line prints it and exits with 1.

    `on_command_line` is the message in the command line's words, where these differ from Python's.
    """

    on_command_line: str | None = None


@dataclass(frozen=True)
class Words:
    """What an argument is called where a message appears."""

    spine: str
    spine_option: str
    timestamp: str
    full_feature_names: str
    allow_changes: str
    namespace: str
    from_executors: str

    @property
    def the_spine(self) -> str:
        """At the beginning of a sentence."""
        return "The spine" if self.spine == "the spine" else self.spine


PYTHON = Words(
    "entity_df", "entity_df", "timestamp=...", "full_feature_names=True", "allow_changes=True", "namespace=",
    "from_executors=True",
)  # fmt: skip
COMMAND_LINE = Words(
    "the spine", "--spine", "--timestamp", "--full-feature-names", "--allow-changes", "--namespace", "--from-executors"
)

_Error = TypeVar("_Error", bound=FeatureStoreError)


def worded(error: Callable[[str], _Error], text: Callable[[Words], str]) -> _Error:
    """An error whose message is in the words of the place where it appears."""
    made = error(text(PYTHON))
    made.on_command_line = text(COMMAND_LINE)
    return made


class DefinitionError(FeatureStoreError):
    """A feature view or service is not declared as it should be."""


class NotFoundError(FeatureStoreError):
    """A view, feature, service, column or namespace that does not exist was asked for."""


class InputError(FeatureStoreError):
    """The rows or arguments given to a call do not fit (a missing join key, text in an integer key)."""


class ProjectError(FeatureStoreError):
    """The dbt project, its profile or its manifest is missing, stale or made for another target."""


class WarehouseError(FeatureStoreError):
    """The warehouse is locked, absent or refused a query."""


class OnlineStoreError(FeatureStoreError):
    """Redis is down, refused the password or a command, or holds something else than expected."""


class LandingError(FeatureStoreError):
    """Events cannot land: a disk is full, a folder cannot be written, a server is away. Nothing has landed then."""


class StreamError(FeatureStoreError):
    """No Kafka broker answers, or none of the topics is there."""


class LeaseLostError(OnlineStoreError):
    """Another run materializes the view, or this one held it for too long; nothing more is written."""


class MaterializationError(FeatureStoreError):
    """Some views or services failed; the others landed.

    `results` has a `ViewResult` for every selected view, `services` a sentence for each feature service that was not
    published, by name.
    """

    def __init__(self, message: str, results: list[Any], services: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.results = results
        self.services = dict(services or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.results, self.services)
