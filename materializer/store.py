"""`FeatureStore`: the one object that notebooks, jobs and request handlers use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from materializer.errors import InputError, NotFoundError, ProjectError, worded
from materializer.project.definitions import Entity, FeatureService, FeatureView, Registry, entities_of, has_tags
from materializer.project.locate import project_in_reach

# What a method needs, it imports: a reader of online features imports no warehouse, a command that prints no Arrow.
if TYPE_CHECKING:
    from materializer.catalog.freshness import Freshness
    from materializer.catalog.lint import Finding
    from materializer.catalog.neighbours import Neighbours
    from materializer.catalog.search import Match
    from materializer.catalog.statistics import Statistics
    from materializer.diff import Diff
    from materializer.materialize.plan import Progress, ViewResult
    from materializer.materialize.prune import Pruned
    from materializer.online.reader import OnlineReader
    from materializer.online.remote import RemoteReader
    from materializer.online.response import OnlineResponse
    from materializer.online.topology import OnlineStore
    from materializer.project.manifest import ProjectManifest
    from materializer.project.settings import Project
    from materializer.sql.lineage import Lineage
    from materializer.stream.push import Pushed
    from materializer.training.join import TrainingSet
    from materializer.training.record import TrainingRecord
    from materializer.training.repeat import Repeated
    from materializer.warehouse import Warehouse


class FeatureStore:
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
        url: a feature server (``feature-store serve``), through which features are read online where Redis is out of
            reach; `api_key` is the key that it asks for. Needs the extra ``server``.

    Raises:
        ProjectError: where a project was named that is none.
    """

    def __init__(
        self,
        project_dir: str | os.PathLike[str] | None = None,
        *,
        target: str | None = None,
        profiles_dir: str | os.PathLike[str] | None = None,
        redis_url: str | None = None,
        namespace: str | None = None,
        repo_path: str | os.PathLike[str] | None = None,
        vars: Mapping[str, Any] | None = None,
        url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        arguments = {
            "project_dir": project_dir, "target": target, "profiles_dir": profiles_dir, "redis_url": redis_url,
            "namespace": namespace, "repo_path": repo_path, "url": url, "api_key": api_key,
        }  # fmt: skip
        for name, value in arguments.items():
            if isinstance(value, str) and not value.strip():
                raise InputError(f"{name} is an empty text: leave it out, or give it a value.")
        folder = project_dir or repo_path
        if url and (redis_url or namespace):
            raise InputError("url names a feature server, which knows its Redis and namespace: leave these out.")
        self._server = (url, api_key)
        if named := redis_url or os.environ.get("FEATURE_STORE_REDIS_URL"):
            self._redis_url = named
        self._namespace = namespace
        self._project: Project | None = None
        if folder or not (redis_url or namespace or url) or (not redis_url and not url and project_in_reach()):
            from materializer.project.settings import load_project

            self._project = load_project(folder, profiles_dir, target, vars)
            self._namespace = namespace or self._project.namespace

    def __getstate__(self) -> dict[str, Any]:
        """For copies, also in another process: all but the connections, which the copy makes anew. It holds the Redis
        URL and the profile's connection, passwords included."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_client", "_reader", "_remote")}

    @property
    def namespace(self) -> str:
        """The namespace whose rows this store reads and writes."""
        if self._namespace is None:
            from materializer.online.published import only_namespace
            from materializer.online.urls import public_name

            with self._online():
                self._namespace = only_namespace(self._client, public_name(self._redis_url))
        return self._namespace

    @property
    def project(self) -> Project:
        """The dbt project.

        Raises:
            ProjectError: for a store that only reads online.
        """
        if self._project is None:
            raise ProjectError("This store only reads what is online: give it a project_dir for anything else.")
        return self._project

    @property
    def has_project(self) -> bool:
        """Whether there is a dbt project; without one only what is published is known."""
        return self._project is not None

    # Training sets.

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
        from materializer.training.join import get_historical_features
        from materializer.training.record import Options

        options = Options(timestamp, full_feature_names, allow_exact_matches, filter_by_created_timestamp)
        manifest, registry = self._declared()
        with self._warehouse() as warehouse:
            found = get_historical_features(warehouse, manifest, registry, entity_df, features, options)
        return found.written_with(self.project.connection)

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
            path: a ``.parquet`` or ``.csv`` file, or its URL (``s3://bucket/set.parquet``). The same rows always give
                the same bytes.
            entity_df: as in `get_historical_features`, or a Parquet, CSV or JSON-lines file (its path or URL).
            features, full_feature_names, timestamp, allow_exact_matches, filter_by_created_timestamp: as there.

        Raises:
            InputError, NotFoundError, WarehouseError: as there, and where a file cannot be read or written.
        """
        from materializer.training.record import Options
        from materializer.training.repeat import save

        options = Options(timestamp, full_feature_names, allow_exact_matches, filter_by_created_timestamp)
        return save(self.project, path, entity_df, features, options)

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

        return repeat(self.project, record, path, entity_df, allow_changes)

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
        from materializer.online.keys import rows_of

        rows = rows_of(entity_rows)
        if self._remote:
            return self._remote.read(features, rows, full_feature_names)
        with self._online():
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
        import asyncio

        from materializer.online.keys import rows_of

        rows = rows_of(entity_rows)
        if self._remote:
            return await self._remote.read_async(features, rows, full_feature_names)
        with self._online():
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
        ahead: str | int | None = None,
        from_executors: bool = False,
        progress: Progress | None = None,
    ) -> list[ViewResult]:
        """Make the online store equal to each view's latest rows, sending only what differs from the last run; with
        them go the rows that fall due soon, which readers see from their moment on.

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
            ahead: how long before their moment rows are sent at least, ``"30 minutes"``, 0 for never; default what
                each view declares, or an hour.
            from_executors: let Spark's executors write the rows, to the Redis that ``FEATURE_STORE_REDIS_URL`` of their
                own environment names; rows do not pass this process then. For a Spark target of dbt's method
                ``session``.
            progress: called with a view's name, its rows so far and their total.

        Returns:
            a result for each view.

        Raises:
            MaterializationError: where a view failed; the others landed, and its `results` tell of each.
        """
        from materializer.materialize.job import Job, materialize, parse_size
        from materializer.materialize.plan import Options
        from materializer.materialize.state import state_folder
        from materializer.online.topology import make_ready
        from materializer.project.checksums import Checksums
        from materializer.project.duration import parse_moment
        from materializer.project.meta import ahead_of
        from materializer.project.render import MacroRenderer
        from materializer.project.selection import Selection, chosen_views

        if start_date is not None and not isinstance(start_date, datetime):
            feature_views, start_date = start_date, None
        names = [feature_views] if isinstance(feature_views, str) else list(feature_views or ())
        selection = Selection.of(select, exclude, selector, state)
        moment = parse_moment(as_of) if as_of is not None else None
        memory_bytes = parse_size(memory_limit, "memory_limit")
        horizon = ahead_of(ahead, "ahead") if ahead is not None else None
        if moment and self.namespace == self.project.namespace:
            raise InputError(
                "A past moment needs a namespace of its own, so that today's readers do not see it: "
                "pass another with --namespace."
            )
        kind, method = (self.project.connection.get(name) for name in ("type", "method"))
        if from_executors and (kind, method) != ("spark", "session"):
            raise worded(
                InputError,
                lambda words: (
                    f"{words.from_executors} is for a Spark target of dbt's method session, and target "
                    f"'{self.project.target}' is {' '.join(filter(None, (kind, method)))}: leave it out."
                ),
            )
        manifest, registry = self._declared()
        views = chosen_views(self.project, manifest, registry, names, tags, selection)
        if not views and (select or selector):
            return []
        if not views:
            raise NotFoundError("The project declares no online feature view: add config.meta.feature_view to a model.")
        with self._online():
            make_ready(self._client)
        options = Options(
            full, allow_shrink, allow_retype, dry_run, moment, memory_bytes, horizon, from_executors
        )  # fmt: skip
        checksums = Checksums(manifest)
        macros = MacroRenderer(manifest, lambda relation: [])
        job = Job(
            self._client, self._redis_url, self.namespace, self._warehouse, macros, registry, options, progress,
            lambda view: checksums.of(view.unique_id), state_folder(self.project),
        )  # fmt: skip
        with self._warehouse():  # one that does not open is said once; the views' own connections share what it opened
            return materialize(job, views)

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
        from materializer.materialize.run import new_run_id
        from materializer.online.topology import server_time
        from materializer.project.duration import parse_duration

        keep = parse_duration(grace, "grace")
        _, registry = self._declared()
        with self._online():
            now = server_time(self._client, self.namespace)
            return prune(self._client, self.namespace, registry, keep, now, new_run_id(), dry_run)

    # Events.

    def push(self, source: str, rows: Any, idempotency_key: str | None = None) -> Pushed:
        """Land events of a dbt source that says ``meta.stream``: all of them, or none.

        They are rows of the source at once; models have them from the next ``dbt build`` on.

        Args:
            source: ``shop.purchases``, or the table's name or identifier alone where one source has it.
            rows: a list of dicts, or anything Arrow can read (pandas, polars, pyarrow).
            idempotency_key: a call that is repeated with it, within a week, lands nothing again.

        Raises:
            NotFoundError: where no such source is streamed.
            InputError: naming the first row that is no event of the source.
            LandingError: where the landing cannot be written.
            ProjectError: where the profile does not attach a landing.
        """
        from materializer.project.manifest import load_manifest
        from materializer.stream.place import landing_of
        from materializer.stream.push import push
        from materializer.stream.source import source_named, streamed_sources
        from materializer.training.join import to_table
        from materializer.warehouse.moments import to_rows

        sources = streamed_sources(load_manifest(self.project))
        named = source_named(sources, source)
        events = rows if isinstance(rows, (list, tuple)) else to_rows(to_table(rows))
        with closing(landing_of(self.project, sources, self.landing_clock())) as landing:
            pushed = push(landing, named, events, idempotency_key)
            landing.show()
        return pushed

    def online_store(self) -> OnlineStore:
        """The online store of this namespace, connected to when it is first asked. Raises OnlineStoreError."""
        with self._online():
            return self._client

    def landing_clock(self) -> Callable[[], datetime]:
        """Tells the moment at which events land: the online store's clock, or this machine's where that is away."""
        from materializer.online.topology import server_time
        from materializer.stream.clock import StoreClock

        return StoreClock(lambda: server_time(self._client, self.namespace))

    # What exists, and whether it can be trusted.

    def list_feature_views(self, tags: Mapping[str, str] | Sequence[str] | None = None) -> list[FeatureView]:
        """Every feature view, versions included, with its features and their types.

        One that is not built yet comes as it is declared, without types.

        Args:
            tags: only views that have all of these: a dict of tags and values, or a list of tags (``team`` whatever its
                value, ``team=growth`` with that one).
        """
        views = [view for view in self._registry().all_views() if has_tags(view.tags, tags)]
        return self._typed(views, unbuilt=True)

    def get_feature_view(self, name: str) -> FeatureView:
        """The view named ``name`` (its latest version) or ``name.v2``.

        Raises:
            NotFoundError: naming those there are.
        """
        (view,) = self._typed([self._registry().view(name)])
        return view

    def list_entities(self, tags: Mapping[str, str] | Sequence[str] | None = None) -> list[Entity]:
        """Every join key of any view, once."""
        return entities_of(self.list_feature_views(tags))

    def get_entity(self, name: str) -> Entity:
        """The join key called `name`.

        Raises:
            NotFoundError: naming those there are.
        """
        entities = {entity.name: entity for entity in self.list_entities()}
        if name not in entities:
            raise NotFoundError(f"There is no entity '{name}'; there are: {', '.join(sorted(entities)) or 'none'}.")
        return entities[name]

    def list_feature_services(
        self, tags: Mapping[str, str] | Sequence[str] | None = None
    ) -> list[FeatureService]:  # fmt: skip
        """Every feature service: dbt's exposures of type ``ml``."""
        services = self._registry().services
        return [service for _, service in sorted(services.items()) if has_tags(service.tags, tags)]

    def get_feature_service(self, name: str) -> FeatureService:
        """The feature service called `name`.

        Raises:
            NotFoundError: naming those there are.
        """
        return self._registry().service(name)

    def get_neighbours(self, name: str) -> Neighbours:
        """What the view ``name`` or ``name.v2`` is made from, who uses it, and what tests it.

        Raises:
            NotFoundError: naming the views there are.
        """
        from materializer.catalog.neighbours import neighbours

        manifest, registry = self._declared()
        return neighbours(manifest, registry.view(name))

    def search(
        self,
        text: str = "",
        *,
        tags: Mapping[str, str] | Sequence[str] | None = None,
        entity: str | None = None,
        owner: str | None = None,
        type: str | None = None,
        kind: str | None = None,
    ) -> list[Match]:
        """Features, views, entities and services by name, tag, owner, entity, type and description, the best first.

        Args:
            text: words that must all be found; none finds everything that the other arguments leave.
            tags: only what has all of these, as for `list_feature_views`.
            entity: only what is keyed by this join key.
            owner: only what this group owns.
            type: only features and entities of this type, in Arrow's words or SQL's: ``int64``, ``bigint``.
            kind: only one of ``feature``, ``view``, ``entity``, ``service``.
        """
        from materializer.catalog.search import search

        views, services = self.list_feature_views(tags), self.list_feature_services(tags)
        return search(views, services, text, entity=entity, owner=owner, type=type, kind=kind)

    def get_lineage(self, reference: str, downstream: bool = False) -> list[Lineage]:
        """From which source columns a feature is made, or what is made from a column.

        What dbt did not compile in its last run is taken from an earlier one, or compiled here. Where the SQL does not
        say which columns a star stands for, the warehouse is asked, if it is there.

        Args:
            reference: ``view:feature``, ``view.v2:feature``, ``model:column``, ``source.table:column``, or the name
                alone for each of its features or columns.
            downstream: what is made from it, in place of what it is made from.

        Returns:
            a lineage for each column; what could not be followed is in its `unresolved`, with the reason.

        Raises:
            InputError: for what is no reference.
            NotFoundError: for an unknown view, feature, model or column, naming those there are.
        """
        from materializer.catalog.lineage import lineage_in

        return lineage_in(self.project, self._manifest(), reference, downstream)

    def lint(self, feature_views: Sequence[str] = ()) -> list[Finding]:
        """What makes features depend on the moment of the run or on the future, in the compiled SQL; and services that
        name what there is not.

        What dbt did not compile in its last run is taken from an earlier one, or compiled here.

        Args:
            feature_views: names; default every view, and every service.
        """
        from materializer.catalog.lint import broken, lint
        from materializer.project.compiled import compile_missing, with_compiled
        from materializer.warehouse import open_warehouse
        from materializer.warehouse.typed import broken_services, built_views

        manifest, registry = self._declared()
        with_compiled(self.project, manifest)
        views = [registry.view(name) for name in feature_views] or registry.all_views()
        compile_missing(self.project, manifest, [view.unique_id for view in views], open_warehouse)
        built = [] if feature_views else built_views(self.project, registry)
        services = [] if feature_views else broken(manifest, broken_services(registry, built))
        return [*services, *lint(manifest, views, self.project.folder)]

    def diff(
        self,
        old: str | Path | FeatureView | None = None,
        new: str | Path | FeatureView | None = None,
        data: bool = False,
        *,
        sample: int | None = None,
    ) -> Diff:
        """What changed in the feature views, which models and services depend on it, and which services it breaks.

        Args:
            old, new: two views (``user_features.v1``), manifests (paths, also of their folders) or git revisions.
                `new` left out is the project as it is now, or the view's latest version; `old`, the last commit.
            data: compare the values too, of two views or of the relations that two manifests name.
            sample: how many entities' values; default all.

        Raises:
            InputError, NotFoundError: for a text that means none of these, or several.
            ProjectError: where a side cannot be read.
        """
        from materializer.diff import diff

        return diff(self.project, old, new, data=data, sample=sample)

    def get_freshness(self, views: Sequence[str] | str | None = None) -> list[Freshness]:
        """How old each view's newest event, load and materialization are, and whether that is within its limits.

        Redis need not answer: what it would have told is None then, and the runs from here count.

        Args:
            views: names; default every view.

        Raises:
            NotFoundError: for an unknown view.
            WarehouseError: where the warehouse is locked or absent.
        """
        from materializer.catalog.freshness import get_freshness
        from materializer.materialize.log import read_log
        from materializer.materialize.state import state_folder

        manifest, registry = self._declared()
        names = [views] if isinstance(views, str) else views or ()
        chosen = [registry.view(name) for name in names] or registry.all_views()
        log: list[dict[str, Any]] = []
        with suppress(OSError):  # as where there is none
            log = read_log(state_folder(self.project), self.namespace)
        with self._warehouse() as warehouse:
            return get_freshness(
                warehouse, manifest, chosen, log, self.namespace, lambda: self._client, self._redis_url
            )

    def get_statistics(
        self,
        view: str,
        features: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        compare: str | tuple[Any, Any] | None = None,
    ) -> Statistics:
        """What the values of a view's features look like, and how far they differ from an earlier period.

        Args:
            view: its name or reference: ``user_features``, ``user_features.v2``.
            features: names or references; default all of them.
            start, end: only rows with their event from `start` up to, not including, `end`; naive moments are UTC.
            compare: a duration such as ``"7 days"``: the newest period of that length, ended by the newest row, is
                taken and compared with the one before; or the start and end of a baseline, as a pair or as
                ``"2026-01-01..2026-01-08"``, with which `start` to `end` is compared.

        Raises:
            NotFoundError: for an unknown view or feature, naming those there are, and for a view that is not built.
            InputError, DefinitionError: for a moment or duration that is none, a period that ends before it begins.
            WarehouseError: where the warehouse is locked or absent.
        """
        from materializer.catalog.statistics import get_statistics

        manifest, registry = self._declared()
        with self._warehouse() as warehouse:
            return get_statistics(warehouse, manifest, registry.view(view), features, start, end, compare)

    def get_catalog(
        self,
        light: bool = False,
        statistics: bool = True,
        *,
        seconds: float = 60.0,
        built_at: datetime | str | None = None,
        workers: int | None = 1,
    ) -> dict[str, Any]:
        """Everything that is known of the project, as one value of dicts and lists (docs/catalog-document.md).

        What cannot be found out does not stop the rest: it is said where it is missing.

        Args:
            light: without SQL and history.
            statistics: whether values are looked at.
            seconds: how long the warehouse is asked about rows; columns, lineage and lint are not counted.
            built_at: the moment that ages are told against; default ``SOURCE_DATE_EPOCH``, else now.
            workers: how many processes read SQL; None for one a core where there is much of it. With more than one a
                script of yours needs ``if __name__ == "__main__":``, as everywhere where Python starts processes.

        Raises:
            ProjectError: where there is no manifest of this target.
        """
        from materializer.catalog.document import Options, build, moment_of_build

        options = Options(moment_of_build(built_at), light, statistics, seconds, workers)
        return build(self.project, self.namespace, lambda: self._client, self._redis_url, options)

    # Parts.

    @cached_property
    def _redis_url(self) -> str:
        """Where nobody named one: looked for when it is needed first, so that a server started meanwhile is found."""
        from materializer.online.urls import redis_url

        return redis_url(None, self._project.folder if self._project else None)

    def _online(self) -> AbstractContextManager[None]:
        """Within it what Redis refuses is a sentence."""
        from materializer.online.connect import plain_errors

        return plain_errors(self._redis_url)

    @cached_property
    def _client(self) -> OnlineStore:
        from materializer.online.connect import connect

        return connect(self._redis_url)

    @cached_property
    def _reader(self) -> OnlineReader:
        from materializer.online.reader import OnlineReader

        return OnlineReader(self._client, self.namespace, self._redis_url)

    @cached_property
    def _remote(self) -> RemoteReader | None:
        url, api_key = self._server
        if not url:
            return None
        from materializer.online.remote import RemoteReader

        return RemoteReader(url, api_key)

    def _manifest(self) -> ProjectManifest:
        from materializer.project.manifest import load_manifest

        return load_manifest(self.project)

    def _declared(self) -> tuple[ProjectManifest, Registry]:
        """The manifest, and what it declares."""
        from materializer.project.manifest import read_registry

        manifest = self._manifest()
        return manifest, read_registry(manifest)

    def _warehouse(self) -> AbstractContextManager[Warehouse]:
        from materializer.warehouse import open_warehouse

        return open_warehouse(self.project)

    def _registry(self) -> Registry:
        """What is declared, or, for a reader without a project, what is published."""
        if self._project is not None:
            return self._declared()[1]
        with self._online():
            return self._reader.registry()

    def _typed(self, views: Sequence[FeatureView], unbuilt: bool = False) -> list[FeatureView]:
        """The views with the warehouse's columns; with `unbuilt`, one that is not there stays as it is declared."""
        if self._project is None or not views:
            return list(views)
        from materializer.warehouse.typed import typed_views

        with self._warehouse() as warehouse:
            return typed_views(views, warehouse, unbuilt)
