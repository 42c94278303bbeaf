"""Online reads: one pre-packed pipeline a request, whatever the number of views and entities."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from materializer.errors import FeatureStoreError, NotFoundError
from materializer.online.keys import revision_key
from materializer.online.on_demand import Computed, GivenAs, as_they_are, split
from materializer.online.pipeline import AsyncLinks, exchange
from materializer.online.published import Reading, foreign_key, read_published
from materializer.online.request import ReaderOf, Request, Selection, clock_of, decoded, select
from materializer.online.response import OnlineResponse
from materializer.online.topology import OnlineStore, is_wrong_type
from materializer.project.definitions import Registry, pick_features

# Lists of features that are kept ready. A handler asks for a few of them, over and over.
_SELECTIONS = 256
# Problems that are not said again.
_SAID = 1_000
_log = logging.getLogger("materializer")


class OnlineReader:
    """Reads one namespace. Needs Redis alone: types, ttl and join keys come from the published registry.

    Every request also asks for the registry's revision, so that a change is seen by the very next read.
    """

    def __init__(
        self, store: OnlineStore, namespace: str, url: str = "", reader_of: ReaderOf = decoded,
        given_as: GivenAs = as_they_are,
    ) -> None:  # fmt: skip
        """`url` is where `store` leads to, for `read_async`; `reader_of` says as what a type's values are read, and
        `given_as` makes the same of values that were computed."""
        self._reader_of, self._given_as = reader_of, given_as
        self._store = store
        self._links = AsyncLinks(store, url)
        self.namespace = namespace
        # The revision and its registry, replaced as one: requests in other threads look at it too.
        self._known: Reading | None = None
        # Selections by features requested, with the registry that they were made from.
        self._selections: tuple[Registry | None, dict[Any, tuple[Selection, Computed | None]]] = (None, {})
        self._said: set[str] = set()

    @property
    def known(self) -> Registry:
        """What was published when something was read last."""
        return (self._known or self.published()).registry

    @property
    def facts(self) -> dict[str, tuple[int, datetime]]:
        """The rows of each view and when it was published, as of `known`."""
        return (self._known or self.published()).facts

    def registry(self) -> Registry:
        """What is published now."""
        return self.published().registry

    def published(self) -> Reading:
        """What is published now, and when that was.

        Raises:
            NotFoundError: where nothing is.
        """
        self._known = known = read_published(self._store, self.namespace)
        if not known.registry.views:
            raise NotFoundError(f"Nothing is published in namespace '{self.namespace}': run `materialize` first.")
        return known

    def read(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """See `materializer.FeatureStore.get_online_features`."""
        steps = self._steps(features, entity_rows, full_feature_names)
        try:
            request = next(steps)
            while True:
                request = steps.send(self._exchange(request) if request else self.published()[:2])
        except StopIteration as done:
            return done.value

    async def read_async(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool = False
    ) -> OnlineResponse:
        """As `read`, for asyncio. The registry, read anew when it changed, comes by way of a thread."""
        steps = self._steps(features, entity_rows, full_feature_names)
        try:
            request = next(steps)
            while True:
                if request:
                    answer = await self._links.exchange(request.keys, request.commands)
                else:
                    answer = (await asyncio.to_thread(self.published))[:2]
                request = steps.send(answer)
        except StopIteration as done:
            return done.value

    def _steps(
        self, features: Any, entity_rows: Sequence[Mapping[str, Any]], full_feature_names: bool
    ) -> Generator[Request | None, Any, OnlineResponse]:
        """A read without its waiting: yields a request and takes its replies, or None and takes what is published."""
        known = self._known
        expected, registry = known[:2] if known and known.revision is not None else (yield None)
        while True:
            try:
                selection, computed = self._select(registry, features, full_feature_names)
                request = Request(selection, entity_rows)
                brought = computed.brought(entity_rows) if computed else {}
            except FeatureStoreError as error:
                problem = error
            else:
                replies = yield request
                if is_wrong_type(replies[0]):
                    raise foreign_key(revision_key(self.namespace), self.namespace)
                if replies[0] == expected:
                    response = request.response(replies)
                    if selection.timed:
                        response.read_at = clock_of(replies[1])
                    if response.problems:
                        self._say(response.problems)
                    return (
                        computed.completed(response, brought, len(entity_rows), self._given_as)
                        if computed
                        else response
                    )
                expected, registry = yield None
                continue
            # Perhaps it was published since: look again before saying no.
            expected, fresh = yield None
            if fresh == registry:
                raise problem
            registry = fresh

    def _say(self, problems: Sequence[str]) -> None:
        """Log what is new of it: a handler that asks for a bad row over and over says so once."""
        for problem in problems:
            if problem not in self._said:
                if len(self._said) >= _SAID:
                    self._said.clear()
                self._said.add(problem)
                _log.warning("%s", problem)

    def _select(
        self, registry: Registry, features: Any, full_feature_names: bool
    ) -> tuple[Selection, Computed | None]:  # fmt: skip
        references = registry.references(features)
        asked = (*references, full_feature_names)
        source, ready = self._selections
        if source is not registry or len(ready) >= _SELECTIONS:
            ready = {}
            self._selections = (registry, ready)
        if asked not in ready:
            picks = pick_features(registry, references, full_feature_names)
            shared = self._reader_of is decoded
            stored, inputs, computed = split(registry, references, picks, shared)
            ready[asked] = select(self.namespace, stored, self._reader_of, inputs), computed
        return ready[asked]

    def _exchange(self, request: Request) -> list[Any]:
        return exchange(self._store, request.keys, request.commands, request.received)
