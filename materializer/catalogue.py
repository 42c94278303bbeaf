"""What there is: views, features, entities, services, where they come from and whether they can be trusted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from materializer.errors import FeatureStoreError, InputError, NotFoundError, ProjectError
from materializer.online import connect
from materializer.online.connect import plain_errors, public_name
from materializer.online.published import only_namespace
from materializer.online.reader import OnlineReader
from materializer.online.topology import OnlineStore
from materializer.project.definitions import Entity, FeatureService, FeatureView, Registry, entities_of
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.render import Relation
from materializer.project.settings import Project, load_project, project_in_reach
from materializer.warehouse import open_warehouse
from materializer.warehouse.typed import broken_services, with_columns

if TYPE_CHECKING:
    from materializer.catalog.freshness import Freshness
    from materializer.catalog.neighbours import Surroundings
    from materializer.catalog.search import Match
    from materializer.catalog.statistics import Statistics
    from materializer.diff import Diff
    from materializer.lineage import Lineage
    from materializer.catalog.lint import Finding


class Catalog:
    """The part of a `materializer.FeatureStore` that tells what exists. Its arguments are the store's."""

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
    ) -> None:
        given = {
            "project_dir": project_dir, "target": target, "profiles_dir": profiles_dir, "redis_url": redis_url,
            "namespace": namespace, "repo_path": repo_path,
        }  # fmt: skip
        for name, value in given.items():
            if isinstance(value, str) and not value.strip():
                raise InputError(f"{name} is an empty text: leave it out, or give it a value.")
        folder = project_dir or repo_path
        if named := connect.named_url(redis_url):
            self._redis_url = named
        self._namespace = namespace
        self._project: Project | None = None
        if folder or (not redis_url and (not namespace or project_in_reach())):
            self._project = load_project(folder, profiles_dir, target, vars)
            self._namespace = namespace or self._project.namespace

    def __getstate__(self) -> dict[str, Any]:
        """For copies, also in another process: all but the connections, which the copy makes anew. It holds the Redis
        URL and the profile's connection, passwords included."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_client", "_reader")}

    @property
    def namespace(self) -> str:
        """The namespace whose rows this store reads and writes."""
        if self._namespace is None:
            with plain_errors(self._redis_url):
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

    # What exists.

    def list_feature_views(self, tags: Mapping[str, str] | Sequence[str] | None = None) -> list[FeatureView]:
        """Every feature view, versions included, with its features and their types.

        One that is not built yet comes as it is declared, without types.

        Args:
            tags: only views that have all of these: a dict of tags and values, or a list of tags (``team`` whatever its
                value, ``team=growth`` with that one).
        """
        views = [view for view in self._registry().all_views() if _has_tags(view.tags, tags)]
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
        return [service for _, service in sorted(services.items()) if _has_tags(service.tags, tags)]

    def get_feature_service(self, name: str) -> FeatureService:
        """The feature service called `name`.

        Raises:
            NotFoundError: naming those there are.
        """
        return self._registry().service(name)

    def get_surroundings(self, name: str) -> Surroundings:
        """What the view ``name`` or ``name.v2`` is made from, who uses it, and what tests it.

        Raises:
            NotFoundError: naming the views there are.
        """
        from materializer.catalog.neighbours import surroundings

        manifest = load_manifest(self.project)
        return surroundings(manifest, read_registry(manifest).view(name))

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

        Where the SQL does not say which columns a star stands for, the warehouse is asked, if it is there.

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
        from materializer.lineage import lineage_of
        from materializer.lineage.built import built_columns
        from materializer.project.compiled import with_compiled
        from materializer.project.graph import Graph

        manifest = with_compiled(self.project, load_manifest(self.project))
        with built_columns(self.project) as built:
            return lineage_of(Graph(manifest, built), reference, downstream)

    def lint(self, feature_views: Sequence[str] = ()) -> list[Finding]:
        """What makes features depend on the moment of the run or on the future, in the compiled SQL; and services that
        name what there is not.

        What dbt did not compile in its last run is taken from an earlier one, or compiled here.

        Args:
            feature_views: names; default every view, and every service.
        """
        from materializer.catalog.lint import broken, lint
        from materializer.project.compiled import compile_missing, with_compiled

        manifest = with_compiled(self.project, load_manifest(self.project))
        registry = read_registry(manifest)
        views = [registry.view(name) for name in feature_views] or registry.all_views()
        compile_missing(self.project, manifest, [view.unique_id for view in views], open_warehouse)
        services = [] if feature_views else broken(manifest, broken_services(registry, self._built(registry)))
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

        manifest = load_manifest(self.project)
        registry = read_registry(manifest)
        names = [views] if isinstance(views, str) else views or ()
        chosen = [registry.view(name) for name in names] or registry.all_views()
        with open_warehouse(self.project) as warehouse:
            return get_freshness(warehouse, manifest, chosen, self.namespace, lambda: self._client, self._redis_url)

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

        manifest = load_manifest(self.project)
        chosen = read_registry(manifest).view(view)
        with open_warehouse(self.project) as warehouse:
            return get_statistics(warehouse, manifest, chosen, features, start, end, compare)

    # Parts.

    @cached_property
    def _redis_url(self) -> str:
        """Where nobody named one: looked for when it is needed first, so that a server started meanwhile is found."""
        return connect.redis_url(None, self._project.folder if self._project else None)

    @cached_property
    def _client(self) -> OnlineStore:
        return connect.connect(self._redis_url)

    @cached_property
    def _reader(self) -> OnlineReader:
        return OnlineReader(self._client, self.namespace, self._redis_url)

    def _registry(self) -> Registry:
        """What is declared, or, for a reader without a project, what is published."""
        if self._project is not None:
            return read_registry(load_manifest(self._project))
        with plain_errors(self._redis_url):
            return self._reader.registry()

    def _built(self, registry: Registry) -> list[FeatureView]:
        """The views that the warehouse has, with their columns; none where it cannot be asked."""
        views = []
        try:
            with open_warehouse(self.project) as warehouse:
                for view in registry.all_views():
                    with suppress(FeatureStoreError):
                        views.append(with_columns(view, warehouse))
        except FeatureStoreError:
            return []
        return views

    def _typed(self, views: Sequence[FeatureView], unbuilt: bool = False) -> list[FeatureView]:
        """The views with the warehouse's columns; with `unbuilt`, one that is not there stays as it is declared."""
        if self._project is None or not views:
            return list(views)
        typed = []
        with open_warehouse(self._project) as warehouse:
            schemas = warehouse.schemas([Relation(view.relation) for view in views])
            for view in views:
                try:
                    typed.append(with_columns(view, warehouse, schemas.get(Relation(view.relation))))
                except NotFoundError:
                    if not unbuilt:
                        raise
                    typed.append(view)
        return typed


def _has_tags(own: Mapping[str, str], wanted: Mapping[str, str] | Sequence[str] | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, Mapping):
        return all(own.get(tag) == str(value) for tag, value in wanted.items())
    return all(_has_tag(own, tag) for tag in ([wanted] if isinstance(wanted, str) else wanted))


def _has_tag(own: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return wanted in own or bool(equals and name in own and own[name] == value)
