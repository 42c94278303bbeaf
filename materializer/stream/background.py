"""Keeps streamed views online in a thread, beside what lands: an error there stops no event, and none lost is lost for
good, as all that is not online is computed anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from materializer.errors import FeatureStoreError
from materializer.materialize.run import new_run_id
from materializer.online import scripts
from materializer.online.heartbeat import Heartbeat, beat
from materializer.online.keys import streamer_key
from materializer.online.topology import Cluster, OnlineStore, node_of, server_time
from materializer.project.checksums import Checksums
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.settings import Project
from materializer.sql.apart import Apart
from materializer.stream.evaluate import Evaluator, Streamed, opened
from materializer.stream.explain import Decided, decide
from materializer.stream.files import FileLanding
from materializer.stream.landing import Landing
from materializer.stream.online import Counts, Online
from materializer.warehouse import open_warehouse

if TYPE_CHECKING:
    from materializer.stream.spark import SparkLanding

# One process keeps the views of a namespace; when it is gone another takes over after so long, in ms.
_TERM = 6_000
# How long nothing new is waited for, and how long after what went wrong; in seconds.
_PATIENCE, _PAUSE, _LONG_PAUSE = 0.25, 2.0, 10.0


class Background:
    """A thread that keeps the views of a project online, until it is closed.

    Args:
        store: gives the online store.
        say: takes sentences for whoever looks on.
    """

    def __init__(
        self,
        project: Project,
        namespace: str,
        store: Callable[[], OnlineStore],
        landing: Landing | SparkLanding,
        say: Callable[[str], None],
    ) -> None:
        self._project, self._namespace, self._store = project, namespace, store
        self._landing, self._say = landing, say
        self._name = new_run_id()
        self._news, self._end = threading.Event(), threading.Event()
        self._settled = threading.Event()
        self._said = ""
        self._taken, self._asked, self._beaten = False, 0.0, 0.0
        # How many messages of each source were not read yet, as far as is known here.
        self.lag: dict[str, int] = {}
        self.counts = Counts()
        # The same as it was a moment ago, for other threads.
        self.shown = Counts()
        self._thread = threading.Thread(target=self._keep, name="online", daemon=True)
        self._thread.start()

    def landed(self) -> None:
        """Say that something has landed."""
        self._settled.clear()
        self._news.set()

    def settle(self, patience: float) -> bool:
        """Wait until all that has landed is online, where this process keeps views; at most so many seconds. Returns
        whether it is."""
        return self._settled.wait(patience)

    def close(self) -> None:
        """End after the entities that are being computed."""
        self._end.set()
        self._news.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._end.is_set():
            pause = _PAUSE
            try:
                self._client = self._store()
                with open_warehouse(self._project):
                    pass  # before dbt compiles, which takes a while
                pause, compiled = _LONG_PAUSE, _written(self._project)
                decided = decide(self._project, self._end.is_set)
                views = streamed_views(decided)
                if unknown := unknown_views(decided):
                    names = " and ".join(f"'{view}'" for view in unknown)
                    self._tell(f"Not kept online: {names}, as {next(iter(unknown.values()))}.")
                if not views and not unknown:
                    self._say("No view of this project streams: `feature-store stream --explain` says why.")
                    self._settled.set()
                    return
                if views:
                    self._keep_these(decided, views, compiled)
                    pause = 0.0
            except FeatureStoreError as error:
                if not self._end.is_set():
                    self._tell(f"Views are not kept online: {error}")
            except redis.RedisError as error:
                self._tell(f"Views are not kept online while Redis does not take them: {_text(error)}")
            except Exception as error:  # of this program: events land on, and it is tried again
                self._tell(f"Views are not kept online, by a fault of this program ({type(error).__name__}: {error})")
            self._end.wait(pause)

    def _keep_these(self, decided: Decided, views: list[Streamed], compiled: float) -> None:
        """Keep views until the end, or until dbt has others."""
        with evaluator_of(self._project, decided, self._landing, views, self._say) as evaluator:
            online = Online(self._client, self._namespace, self._name, evaluator, views, self._say)
            online.counts, looked = self.counts, compiled
            while not self._end.is_set():
                self._news.clear()
                written = _written(self._project)
                if online.outdated and written != compiled:
                    return
                if written != looked:
                    looked = written
                    if self._has_other_views(decided):
                        return
                if self._step(online) and not (self._news.is_set() or online.behind):
                    self._settled.set()
                    self._news.wait(_PATIENCE)

    def _has_other_views(self, decided: Decided) -> bool:
        """Whether the project has views by now that it had not, or not those that it had, or may compile more."""
        if unknown_views(decided):
            return True
        with suppress(FeatureStoreError):  # dbt writes it just now
            views = read_registry(load_manifest(self._project)).all_views()
            return {one.unique_id for one in views} != {one.unique_id for one, _ in decided.views}
        return False

    def _step(self, online: Online) -> bool:
        """Whether all that had landed is dealt with."""
        try:
            if self._in_charge():
                online.step()
                self._beat(online)
                self._said = ""
            else:
                online.look_on()
                self._tell("Another process keeps the views of this namespace online; this one lands events.")
        except (redis.RedisError, FeatureStoreError) as error:
            if isinstance(self._client, Cluster):
                with suppress(redis.RedisError, FeatureStoreError):
                    self._client.refresh()  # its masters may be others by now
            self._tell(f"What has landed is not online yet, and is tried again: {_text(error)}")
            self._end.wait(_PAUSE)
            return False
        return True

    def _beat(self, online: Online) -> None:
        """Say now and then how it is."""
        if time.monotonic() - self._beaten > _PAUSE:
            counts = self.counts
            views = {name: counts.waiting.get(name, "") for name in online.views}
            at = server_time(self._client, self._namespace).timestamp()
            beat(
                self._client, self._namespace,
                Heartbeat(at, self._name, counts.seq, counts.delay, views, self.lag, counts.broken),
            )  # fmt: skip
            self._beaten = time.monotonic()
            self.shown = deepcopy(counts)

    def _in_charge(self) -> bool:
        """Whether this process keeps the views, as one at a time does."""
        if time.monotonic() - self._asked < _TERM / 4000:
            return self._taken
        key = streamer_key(self._namespace)
        answer = node_of(self._client, key).eval(scripts.TAKE_LEASE, 1, key, self._name, _TERM)
        self._taken, self._asked = bool(answer[0]), time.monotonic()
        return self._taken

    def _tell(self, sentence: str) -> None:
        if sentence != self._said:
            self._say(sentence)
        self._said = sentence


@contextmanager
def evaluator_of(
    project: Project,
    decided: Decided,
    landing: Landing | SparkLanding,
    views: Sequence[Streamed],
    say: Callable[[str], None],
) -> Iterator[Evaluator]:
    """What computes some views of a project, for as long as this lasts. Raises WarehouseError where DuckDB does not
    take what the profile asks of it."""
    typed = [one.view for one in views]
    if isinstance(landing, FileLanding):
        from materializer.stream.evaluate_duckdb import DuckDBEvaluator
        from materializer.stream.replica import replica

        with replica(project, decided.manifest, landing, typed) as copy:
            yield DuckDBEvaluator(
                copy, decided.manifest, lambda: open_warehouse(project), project.database_file, say
            )  # fmt: skip
        return
    if project.connection.get("type") == "spark":
        from materializer.stream.evaluate_spark import SparkEvaluator as Within
    else:
        from materializer.stream.evaluate_postgres import PostgresEvaluator as Within
    with opened(Within, project, decided.manifest, landing.sources, typed) as evaluator:
        yield evaluator


def _text(error: Exception) -> str:
    """What went wrong, without the client's own objects, of which it says some."""
    return str(error).partition(" : <redis.")[0]


def streamed_views(decided: Decided) -> list[Streamed]:
    """Those views of a project that stream and are online."""
    checksums = Checksums(decided.manifest)
    return [
        Streamed(view, checksums.of(view.unique_id), found.keys, found.filters, decided.reaches.get(view.unique_id))
        for view, found in decided.views
        if isinstance(found, Apart) and view.online
    ]


def unknown_views(decided: Decided) -> dict[str, str]:
    """Those that are online and of which is not known whether they stream, with what dbt said of them."""
    online = {view.reference for view, _ in decided.views if view.online}
    return {name: why for name, why in decided.uncompiled().items() if name in online}


def _written(project: Project) -> float:
    """When dbt last wrote what the project is."""
    try:
        return (Path(project.target_folder) / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0
