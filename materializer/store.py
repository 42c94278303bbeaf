"""`FeatureStore`: the one object that notebooks, jobs and request handlers use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from materializer.catalogue import Catalog
from materializer.errors import InputError, NotFoundError
from materializer.materialize.job import Job, Progress, materialize, parse_moment, parse_size, select_views
from materializer.materialize.run import Options, ViewResult, new_run_id, server_time
from materializer.online.connect import plain_errors
from materializer.online.entity_rows import rows_of
from materializer.online.response import OnlineResponse
from materializer.online.topology import make_ready
from materializer.project.definitions import FeatureService, FeatureView, Registry
from materializer.project.duration import parse_duration
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.render import MacroRenderer
from materializer.training.join import TrainingSet, get_historical_features
from materializer.warehouse import open_warehouse

if TYPE_CHECKING:
    from materializer.materialize.prune import Pruned
    from materializer.training.record import TrainingRecord
    from materializer.training.repeat import Repeated


class FeatureStore(Catalog):
    """A dbt project's feature views, offline and online.

    Example:
        >>> store = FeatureStore(project_dir="dbt_project")
        >>> store.get_online_features(["user_features:age"], [{"user_id": 1}]).to_dict()
        {'user_id': [1], 'age': [34]}

    Args:
        project_dir: the dbt project; default ``DBT_PROJECT_DIR``, else the current folder or its nearest parent that
            is one. Without one (only `redis_url` or `namespace` given, no ``dbt_project.yml`` in reach) the store is a
            reader of what is online.
        target: of the dbt profile.
        profiles_dir: where ``profiles.yml`` lives.
        redis_url: default ``FEATURE_STORE_REDIS_URL``, else the project's private server where it runs
            (``feature-store redis start``), else ``redis://127.0.0.1:6379/0``.
        namespace: default ``<dbt project>.<target>``; a reader takes the only one there is.
        repo_path: Feast's name for `project_dir`.
        vars: what dbt is given with ``--vars``.

    Raises:
        ProjectError: where a project was named that is none.
    """

    # Offline.

    def get_historical_features(
        self,
        entity_df: Any,
        features: Sequence[str] | str | FeatureService,
        full_feature_names: bool = False,
        *,
        timestamp: str = "event_timestamp",
        allow_exact_matches: bool = True,
        filter_by_created_timestamp: bool = True,
    ) -> TrainingSet:
        """The features that each row's entities had at its moment: rows out = rows in, in the same order.

        Args:
            entity_df: join keys, a timestamp and any other columns: pandas, polars, pyarrow, DuckDB, a dict of
                lists, or SQL text that the warehouse runs. Naive timestamps are UTC.
            features: references ``view:feature`` or ``view.v2:feature``, or a feature service.
            full_feature_names: call columns ``view__feature``.
            timestamp: the entity_df's time column, where it is not called ``event_timestamp`` and not the only one.
            allow_exact_matches: False takes only rows strictly before the moment.
            filter_by_created_timestamp: False ignores when rows became known.

        Raises:
            InputError, NotFoundError: for a missing join key, an unknown feature, two columns of one name.
            WarehouseError: where the warehouse is locked or refuses.
        """
        manifest = load_manifest(self.project)
        with open_warehouse(self.project) as warehouse:
            return get_historical_features(
                warehouse,
                manifest,
                read_registry(manifest),
                entity_df,
                features,
                full_feature_names=full_feature_names,
                timestamp=timestamp,
                allow_exact_matches=allow_exact_matches,
                filter_by_created_timestamp=filter_by_created_timestamp,
            )

    def save_training_set(
        self,
        path: str | os.PathLike[str],
        entity_df: Any,
        features: Sequence[str] | str | FeatureService,
        full_feature_names: bool = False,
        *,
        timestamp: str = "event_timestamp",
        allow_exact_matches: bool = True,
        filter_by_created_timestamp: bool = True,
    ) -> TrainingRecord:
        """Write what `get_historical_features` gives to a file, and beside it ``<path>.json``: what made it.

        Args:
            path: a ``.parquet`` or ``.csv`` file. The same rows always give the same bytes.
            entity_df: as in `get_historical_features`, or a Parquet, CSV or JSON-lines file (its path).
            features, full_feature_names, timestamp, allow_exact_matches, filter_by_created_timestamp: as there.

        Raises:
            InputError, NotFoundError, WarehouseError: as there, and where a file cannot be read or written.
        """
        from materializer.training.record import Options
        from materializer.training.repeat import save

        options = Options(timestamp, full_feature_names, allow_exact_matches, filter_by_created_timestamp)
        return save(self.project, Path(path), entity_df, features, options)

    def repeat_training_set(
        self,
        record: str | os.PathLike[str],
        path: str | os.PathLike[str],
        entity_df: Any = None,
        *,
        allow_changes: bool = False,
    ) -> Repeated:
        """Make a training set again from the record beside it: the same bytes, or an error that says what changed.

        Args:
            record: the record, ``set.parquet.json``.
            path: the file to write, with a record of its own beside it.
            entity_df: the labels, where they were in memory or lie elsewhere now; default those the record names.
            allow_changes: write it although it is not the same any more.

        Raises:
            TrainingSetChangedError: where it is not the same; nothing was written, and its `changes` say why.
            InputError: where the record or the labels are missing or damaged.
        """
        from materializer.training.repeat import repeat

        return repeat(self.project, Path(record), Path(path), entity_df, allow_changes)

    # Online.

    def get_online_features(
        self,
        features: Sequence[str] | str | FeatureService,
        entity_rows: Any,
        full_feature_names: bool = False,
    ) -> OnlineResponse:
        """The features of these entities as of the last materialization. Needs Redis alone.

        Args:
            features: references ``view:feature``, or a feature service or its name.
            entity_rows: a dict of join keys for each entity, a dict of lists, or a frame (pandas, polars, Arrow ...).
            full_feature_names: call values ``view__feature``.

        Raises:
            InputError, NotFoundError: for a missing or mistyped join key, an unknown view, feature or service.
            OnlineStoreError: where Redis does not answer.
        """
        rows = rows_of(entity_rows)
        with plain_errors(self._redis_url):
            return self._reader.read(features, rows, full_feature_names)

    async def get_online_features_async(
        self,
        features: Sequence[str] | str | FeatureService,
        entity_rows: Any,
        full_feature_names: bool = False,
    ) -> OnlineResponse:
        """As `get_online_features`, with the same arguments, answers and errors, for asyncio.

        Any number of tasks, of any number of event loops, may share a store: each loop has connections of its own.

        Example:
            >>> answer = await store.get_online_features_async(["user_features:age"], [{"user_id": 1}])
            >>> answer.to_dict()
            {'user_id': [1], 'age': [34]}
        """
        rows = rows_of(entity_rows)
        with plain_errors(self._redis_url):
            reader = self.__dict__.get("_reader") or await asyncio.to_thread(lambda: self._reader)
            return await reader.read_async(features, rows, full_feature_names)

    def materialize(
        self,
        start_date: datetime | Sequence[str] | None = None,
        end_date: datetime | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        full: bool = False,
        tags: Sequence[str] = (),
        select: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str | None = None,
        selector: str | None = None,
        state: str | os.PathLike[str] | None = None,
        allow_shrink: bool = False,
        allow_retype: bool = False,
        as_of: datetime | str | None = None,
        dry_run: bool = False,
        memory_limit: str | None = None,
        progress: Progress | None = None,
    ) -> list[ViewResult]:
        """Make the online store equal to each view's latest rows, sending only what differs from the last run.

        Args:
            start_date, end_date: taken so that code written for Feast runs; what lands is always the latest rows.
            feature_views: names; default every online view.
            full: send every row and remove whatever else is there.
            tags: only views with one of these tags.
            select, exclude: only what dbt selects by these, ``"+user_features tag:nightly"``; names and tags are added.
            selector: only what this selector of ``selectors.yml`` selects.
            state: the folder of the manifest that ``state:`` in a selection compares with.
            allow_shrink: let a run empty a view, or remove more than half of one of over 1,000 entities.
            allow_retype: with `full`, let a feature change its type in place.
            as_of: a past moment to materialize, into a namespace of its own; its readers' clock stands there.
            dry_run: change nothing; the results say how many rows would move, and why.
            memory_limit: how much memory the warehouse may take for this, ``"2 GB"``; beyond it spills to disk. Default
                600 MB, and more by itself where single rows are too large for that.
            progress: called with a view's name, its rows so far and their total.

        Returns:
            a result for each view.

        Raises:
            MaterializationError: where a view failed; the others landed, and its `results` tell of each.
        """
        if start_date is not None and not isinstance(start_date, datetime):
            feature_views, start_date = start_date, None
        names = [feature_views] if isinstance(feature_views, str) else list(feature_views or ())
        moment = parse_moment(as_of) if as_of is not None else None
        memory_bytes = parse_size(memory_limit, "memory_limit")
        if moment and self.namespace == self.project.namespace:
            raise InputError(
                "A past moment needs a namespace of its own, so that today's readers do not see it: "
                "pass another with --namespace."
            )
        manifest = load_manifest(self.project)
        registry = read_registry(manifest)
        views = self._chosen(manifest, registry, names, tags, select, exclude, selector, state)
        if not views and (select or selector):
            return []
        if not views:
            raise NotFoundError("The project declares no online feature view: add config.meta.feature_view to a model.")
        with plain_errors(self._redis_url):
            make_ready(self._client)
        with open_warehouse(self.project):
            pass  # one that does not open is said once, not by every view
        options = Options(full, allow_shrink, allow_retype, dry_run, moment, memory_bytes)
        job = Job(
            self._client, self._redis_url, self.namespace, lambda: open_warehouse(self.project),
            MacroRenderer(manifest, lambda relation: []), registry,
            options, progress,
        )  # fmt: skip
        return materialize(job, views)

    def _chosen(
        self,
        manifest: Mapping[str, Any],
        registry: Registry,
        names: Sequence[str],
        tags: Sequence[str],
        select: Sequence[str] | str | None,
        exclude: Sequence[str] | str | None,
        selector: str | None,
        state: str | os.PathLike[str] | None,
    ) -> list[FeatureView]:
        """The views named, tagged or selected, each once; every online view where none is."""
        from materializer.project.selection import Selection, selected_views, words

        selection = Selection(
            words(select), words(exclude), " ".join(words(selector)), os.fspath(state) if state else None
        )
        if not selection:
            return select_views(registry, names, tags)
        if (names or tags) and not (selection.select or selector):
            raise InputError(
                "`exclude` takes away from what `select` or `selector` selects: put the views named there, too."
            )
        selected = selected_views(self.project, manifest, registry, selection)
        named = select_views(registry, names, tags) if names or tags else []
        return list({view.reference: view for view in [*named, *selected]}.values())

    def materialize_incremental(
        self, end_date: datetime | None = None, feature_views: Sequence[str] | None = None
    ) -> list[ViewResult]:
        """Feast's name for `materialize`."""
        return self.materialize(feature_views=feature_views)

    def prune(self, grace: str = "7 days", dry_run: bool = False) -> list[Pruned]:
        """Remove published views and versions that the project does not declare any more.

        Args:
            grace: what was materialized this lately is kept, for its readers to move on.
            dry_run: change nothing; the results say what would go.
        """
        from materializer.materialize.prune import prune

        keep = parse_duration(grace, "grace")
        registry = read_registry(load_manifest(self.project))
        with plain_errors(self._redis_url):
            return prune(
                self._client, self.namespace, registry, keep, server_time(self._client, self.namespace), new_run_id(),
                dry_run,
            )  # fmt: skip
